# not_viable: a function that shares its IOMMU group with the NIC is not given to vfio, and it is said who is in the way.
need nic crowd || return
up $crowd
declare_nic 2 "$crowd" >/run/lab/crowd
expect "two" pvio vf apply /run/lab/crowd
one=$(vf $crowd 0)
had=$(driver "$one")
expect "not to vfio: its NIC is named" refuses "$crowd" pvio vf claim "$one" --for web --driver vfio-pci
show /run/lab/said
expect "nothing was touched" is "$(driver "$one")" "$had"
expect "nobody has it" refused ls "/var/lib/pvio/vf/vf-$one.json"
expect "the NIC has its driver" is "$(driver $crowd)" igb
