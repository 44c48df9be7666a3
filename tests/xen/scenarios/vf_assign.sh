# vf_assign: a virtual function of a NIC with SR-IOV, given to a PV guest without libxl and XenStore: its own driver finds it, and pings through it.
# types: pv
# limit: 900
# machine: vf
modprobe -a igb xen-pciback
PCI=/sys/bus/pci/devices
pf=$(for d in $PCI/*; do [ -e "$d/sriov_totalvfs" ] && echo "${d##*/}"; done | head -1)
[ -n "$pf" ] || { fail "the NIC" "there is no function with virtual ones"; return; }
port=$(ls "$PCI/$pf/net")
ip link set "$port" up
echo 0 >"$PCI/$pf/sriov_drivers_autoprobe"
expect "two functions are made" eval "echo 2 >$PCI/$pf/sriov_numvfs" || return
vf=$(basename "$(readlink "$PCI/$pf/virtfn0")")
other=$(basename "$(readlink "$PCI/$pf/virtfn1")")
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
start_pciback() { background pciback pvio-pciback && wait_for 60 backends 3; }
expect "pvio-pciback" start_pciback || { logs pciback pviod; return; }
ip addr flush dev pvio0
ip addr add 10.0.0.1/24 dev "$port"

is_free() { pvio vf list | grep -q "$1 .* free " && [ ! -e "$PCI/$1/driver" ]; } # ADDRESS
said() { pvio_console web | grep -aq "$1"; }
refused() { # WORDS COMMAND...
	! "${@:2}" >/run/lab/said 2>&1 && grep -q "$1" /run/lab/said || { cat /run/lab/said; return 1; }
}

expect "a guest that was made without an IOMMU" pvio_guest plain stay "" --paused
expect "gets none, and is told why" refused "passthrough" pvio attach plain vf "$vf"
expect "the function is free" is_free "$vf" || show <(pvio vf list)
pvio guest destroy plain
expect "PVH is refused" refused "vPCI" pvio guest create pvh --type pvh --kernel /boot/vmlinux --passthrough

expect "a guest that may have functions" pvio_guest web vf 10.0.0.2,10.0.0.1 --passthrough || { logs pviod; return; }
wait_for 300 said "ready for a function"
expect "attach" pvio attach web vf "$vf" mac=02:00:00:00:00:01 --wait 120 || { logs pciback pviod; pvio_console web | show; }
show <(pvio list; pvio vf list; pvio inspect web vf0)
expect "it is listed" eval '[ "$(pvio list --json | jq -r ".[] | select(.type == \"vf\").state")" = Connected ]'
expect "one a guest" refused "can have one" pvio attach web vf 1 "$other"
expect "nobody else gets it" refused "guest web" pvio vf claim "$vf" --for me
expect "nor is it released under the guest" refused "guest web" pvio vf release "$vf"
wait_for 300 said "ready to lose it"
expect "detach" pvio detach web vf0 --timeout 60
expect "it is free again, reset and without a driver" is_free "$vf" || show <(pvio vf list)
wait_for 200 said "ready for the next"
expect "attach another" pvio attach web vf "$other" --wait 120
wait_for 300 said "ready to end"
kill -9 "${pids[-1]}"
expect "pvio-pciback is killed, and the next one goes on" start_pciback
expect "the guest still has it" wait_for 60 eval '[ "$(pvio list --json | jq -r ".[] | select(.type == \"vf\").state")" = Connected ]'
expect "the guest is destroyed" pvio guest destroy web
expect "and its function is free" wait_for 60 is_free "$other" || show <(pvio vf list)
pvio_console web | sed 's/guest: ready to end/guest: done 0 /' | guest_verdicts web
show <(pvio vf list; xl dmesg | tail -8)
logs pviod pciback
