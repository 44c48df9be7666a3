# vf_xl: a virtual function for a guest of xl: through xl, whose books stay right.
# types: pv
# limit: 600
# machine: vf
modprobe -a igb xen-pciback
PCI=/sys/bus/pci/devices
pf=$(for d in $PCI/*; do [ -e "$d/sriov_totalvfs" ] && echo "${d##*/}"; done | head -1)
[ -n "$pf" ] || { fail "the NIC" "there is no function with virtual ones"; return; }
port=$(ls "$PCI/$pf/net")
ip link set "$port" up
ip addr add 10.0.0.1/24 dev "$port"
echo 0 >"$PCI/$pf/sriov_drivers_autoprobe"
expect "two functions are made" eval "echo 2 >$PCI/$pf/sriov_numvfs" || return
vf=$(basename "$(readlink "$PCI/$pf/virtfn0")")
other=$(basename "$(readlink "$PCI/$pf/virtfn1")")
start_xenstored
background pviod pviod
wait_for 30 pvio version
background pciback pvio-pciback
wait_for 60 backends 1
is_free() { pvio vf list | grep -q "$1 .* free " && [ ! -e "$PCI/$1/driver" ]; } # ADDRESS
said() { xl_console web | grep -aq "$1"; }

xl_config web vf 10.0.0.2,10.0.0.1 'passthrough = "enabled"'
expect "xl create" xl_create web || return
wait_for 300 said "ready for a function"
expect "pvio attach" pvio attach web vf "$vf" mac=02:00:00:00:00:01 || logs pviod pciback
expect "xl knows it" eval 'xl pci-list web | grep -q "${vf#0000:}"' || show <(xl pci-list web)
expect "pvio knows it" eval 'pvio vf list | grep -q "$vf .* assigned .*guest web"' || show <(pvio vf list)
wait_for 300 said "ready to lose it"
expect "pvio detach" pvio detach web vf0
expect "xl has it no more" eval '! xl pci-list web | grep -q "${vf#0000:}"'
expect "it is free, reset and without a driver" is_free "$vf" || show <(pvio vf list)
wait_for 300 said "ready for the next"
expect "pvio attach of another" pvio attach web vf "$other" || logs pviod pciback
wait_for 300 said "ready to end"
xl destroy web
expect "it comes back from a guest that xl destroyed" wait_for 60 is_free "$other" || show <(pvio vf list)
xl_console web | sed 's/guest: ready to end/guest: done 0 /' | guest_verdicts web
logs pviod pciback
