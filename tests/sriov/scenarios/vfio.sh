# vfio: a claimed function is used through vfio; another claim does not get it; it comes back as it was, without what its owner had set.
# short: yes
need nic || return
declare_nic 2 >/run/lab/two
expect "two" pvio vf apply /run/lab/two
modprobe igbvf
had=$(driver "$(vf $nic 0)")
one=$(pvio vf claim "$nic/0" --for web --driver vfio-pci mac=02:00:00:00:0a:0a vlan=42)
expect "it is claimed and bound" is "$(driver "$one")" vfio-pci
expect "with its owner's settings" is "$(told $nic 0 | cut -d' ' -f1-2)" "02:00:00:00:0a:0a 42"
expect "and used" vf_open "$one"
expect "nobody else gets it" refuses web pvio vf claim "$one" --for other
show /run/lab/said
expect "it is bound to another driver" pvio vf bind "$one" igbvf
expect "and is so" is "$(driver "$one")" igbvf
expect "and back" pvio vf bind "$one" vfio-pci
expect "it is released" pvio vf release "$one"
expect "it has the driver that it had" is "$(driver "$one")" "$had"
expect "nothing overrides" is "$(cat "$PCI/$one/driver_override")" "(null)"
expect "its owner's MAC and VLAN are gone" refused is "$(told $nic 0 | cut -d' ' -f1-2)" "02:00:00:00:0a:0a 42"
told $nic 0 | show
