# kept: settings are there again after the number of functions went through 0, after the PF lost its driver, after its reset, and after a reboot.
need nic || return
declare_nic 7 >/run/lab/seven
expect "seven" pvio vf apply /run/lab/seven
background keep pvio vf keep
back() { [ "$(number $nic)" = 7 ] && as_declared 7; }
reset_pf() { echo 1 >"$PCI/$nic/reset"; }
rebind_pf() { echo "$nic" >/sys/bus/pci/drivers/igb/unbind && echo "$nic" >/sys/bus/pci/drivers/igb/bind; }
sleep 1

echo 0 >"$PCI/$nic/sriov_numvfs"
echo 7 >"$PCI/$nic/sriov_numvfs"
expect "through 0, by somebody's hand" wait_for 60 back
rebind_pf
up $nic
expect "its driver is bound anew" wait_for 60 back
times() { grep -c 'VF 0: ' /run/lab/keep.log; } # that the settings were set
before=$(times)
again() { [ "$(times)" -gt "$before" ] && back; }
expect "a reset of the PF" reset_pf
ip link set "$(netdev $nic)" down # the driver did not hear of it
up $nic
expect "all is set anew when its port is up again" wait_for 60 again
logs keep
end_background
pids=()

rebind_pf # as a boot finds it
expect "what a boot begins with" is "$(number $nic)" 0
up $nic
expect "is kept at once" pvio vf keep --once
expect "after a reboot" back
