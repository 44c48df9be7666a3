# refuse: the number of functions does not change while one is in use, whoever uses it; who does is named.
# short: yes
need nic || return
declare_nic 3 >/run/lab/three
declare_nic 2 >/run/lab/two
expect "three" pvio vf apply /run/lab/three
one=$(pvio vf claim --for web --driver vfio-pci)
expect "web has one" is "$(driver "$one")" vfio-pci
expect "two are refused, web is named" refuses web pvio vf apply /run/lab/two
show /run/lab/said
expect "so are they by a plan" refuses web pvio vf plan /run/lab/two
expect "three are there" is "$(number $nic)" 3
expect "and as declared" as_declared 3

background user vf_open "$one" 60
wait_for 20 grep -q : /run/lab/user.log
expect "what a process has open is not released, the process is named" refuses vf_open pvio vf release "$one"
show /run/lab/said
expect "nor do two do" refuses web pvio vf apply /run/lab/two
end_background
pids=()
expect "it is released" pvio vf release "$one"
expect "now they are two" pvio vf apply /run/lab/two
expect "and are so" is "$(number $nic)" 2

stranger=$(vf $nic 1)
echo vfio-pci >"$PCI/$stranger/driver_override"
echo "$stranger" >"$PCI/$stranger/driver/unbind" 2>/dev/null
echo "$stranger" >/sys/bus/pci/drivers_probe
background user vf_open "$stranger" 60
wait_for 20 grep -q : /run/lab/user.log
expect "one that a stranger has open is in use too" refuses vf_open pvio vf apply /run/lab/three
show /run/lab/said
