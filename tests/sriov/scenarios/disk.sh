# disk: NVMe functions, which have no settings, live the same life.
# short: yes
need disk || return
echo "pf $disk vfs 4" >/run/lab/disk
expect "four" pvio vf apply /run/lab/disk
expect "are there" is "$(number $disk)" 4
expect "applied again, there is nothing to do" says "nothing to do" pvio vf apply /run/lab/disk
one=$(pvio vf claim --for web --pf "$disk" --driver vfio-pci)
expect "one is claimed" is "$(driver "$one")" vfio-pci
expect "and used" vf_open "$one"
expect "its number stays while it is in use" refuses web pvio vf apply - < <(echo "pf $disk vfs 2")
show /run/lab/said
expect "it is released" pvio vf release "$one"
expect "and they are none" pvio vf apply - < <(echo "pf $disk vfs 0")
