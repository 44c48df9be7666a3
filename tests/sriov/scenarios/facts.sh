# facts: what the machine is taken to do, by plain writes to /sys: what the other scenarios rest on.
# limit: 120
set_number() { echo "$2" >"$PCI/$1/sriov_numvfs"; } # PF NUMBER
to_vfio() { # ADDRESS
	echo vfio-pci >"$PCI/$1/driver_override"
	echo "$1" >/sys/bus/pci/drivers_probe
}

expect "the disk offers 4 virtual functions" is "$(cat $PCI/$disk/sriov_totalvfs)" 4
echo 0 >"$PCI/$disk/sriov_drivers_autoprobe"
expect "the disk: 0 to 4" set_number "$disk" 4
one=$(vf $disk 0)
to_vfio "$one"
expect "the disk's is bound to vfio-pci and used, its reset included" vf_open "$one"

need nic crowd || return
expect "the NIC offers 7" is "$(cat $PCI/$nic/sriov_totalvfs)" 7
echo 0 >"$PCI/$nic/sriov_drivers_autoprobe"
expect "0 to 7" set_number "$nic" 7
expect "7 to 3 is refused" refused set_number "$nic" 3
groups=$(for n in 0 1 2 3 4 5 6; do group "$(vf $nic $n)"; done | sort -u | wc -l)
expect "each in an IOMMU group of its own" is "$groups" 7
port=$(netdev $nic)
mac() { ip link show "$port" | sed -n 's/.*vf 1 .*link\/ether \([0-9a-f:]*\) .*/\1/p'; }
expect "a MAC is set" ip link set "$port" vf 1 mac 02:00:00:00:00:11
expect "and told" is "$(mac)" 02:00:00:00:00:11
expect "802.1ad is refused" refused ip link set "$port" vf 1 vlan 5 proto 802.1ad
expect "a lower rate is refused" refused ip link set "$port" vf 1 min_tx_rate 10
expect "a link state is refused" refused ip link set "$port" vf 1 state disable
set_number "$nic" 0
set_number "$nic" 7
expect "the MAC is lost through 0" refused is "$(mac)" 02:00:00:00:00:11

one=$(vf $nic 1)
to_vfio "$one"
expect "one is bound to vfio-pci by driver_override" is "$(driver $one)" vfio-pci
expect "and used, its reset included" vf_open "$one"
show "$PCI/$one/reset_method"

echo 0 >"$PCI/$crowd/sriov_drivers_autoprobe"
expect "0 to 2, in one group with the NIC" set_number "$crowd" 2
expect "one group" is "$(group $(vf $crowd 0))" "$(group $crowd)"
one=$(vf $crowd 0)
to_vfio "$one"
expect "which is not viable" refused vf_open "$one"
show /run/lab/out
