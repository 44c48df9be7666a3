# no_reset: a function that cannot be reset does not come back: it stays in quarantine with its reason until it can be.
need nic || return
declare_nic 1 >/run/lab/one
expect "one" pvio vf apply /run/lab/one
one=$(pvio vf claim --for web --driver vfio-pci)
expect "web has it" is "$(driver "$one")" vfio-pci
echo >"$PCI/$one/reset_method" # the kernel knows no way to reset it any more
expect "it is not released" refuses reset pvio vf release "$one"
show /run/lab/said
expect "it is in quarantine, with the reason" says "$one" pvio vf quarantine list
show /run/lab/said
expect "nobody gets it" refuses quarantine pvio vf claim --for other
show /run/lab/said
expect "nor by its name" refuses quarantine pvio vf claim "$one" --for other
expect "it cannot be cleared" refuses reset pvio vf quarantine clear "$one"
echo flr >"$PCI/$one/reset_method"
expect "until it can be reset" pvio vf quarantine clear "$one"
expect "then others get it" pvio vf claim "$one" --for other --driver vfio-pci
expect "and use it" vf_open "$one"
