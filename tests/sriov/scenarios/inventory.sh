# inventory: what `pvio vf list` says is what /sys and the drivers say.
# short: yes
need disk || return
echo 0 >"$PCI/$disk/sriov_drivers_autoprobe"
echo 2 >"$PCI/$disk/sriov_numvfs"
pvio vf list | show
expect "the list is JSON" pvio vf list --json
cp /run/lab/out /run/lab/list
of() { jq -r --arg a "$1" "[.pfs[], .pfs[].vfs[]] | .[] | select((.vf // .pf) == \$a) | $2" /run/lab/list; } # ADDRESS WHAT : of a PF or VF
expect "the disk: 2 of 4" is "$(of $disk '"\(.numvfs) of \(.totalvfs) \(.kind)"')" "2 of 4 nvme"
one=$(vf $disk 1)
expect "its second: whose, which, reset, group, state" is "$(of "$one" '"\(.pf) \(.index) \(.reset) \(.iommu_group) \(.state)"')" "$disk 1 flr $(group "$one") free"

need nic crowd || return
echo 7 >"$PCI/$nic/sriov_numvfs"
echo 0 >"$PCI/$crowd/sriov_drivers_autoprobe"
echo 2 >"$PCI/$crowd/sriov_numvfs"
ip link set "$(netdev $nic)" vf 3 mac 02:00:00:00:00:33
ip link set "$(netdev $nic)" vf 3 vlan 33 qos 3
pvio vf list --json >/run/lab/list
expect "the NIC: 7 of 7, its interface and address" is "$(of $nic '"\(.numvfs) \(.totalvfs) \(.netdev) \(.mac)"')" "7 7 $(netdev $nic) 52:54:00:00:00:10"
expect "all its functions, in order" is "$(of $nic '[.vfs[].vf] | join(" ")')" "$(for n in 0 1 2 3 4 5 6; do vf $nic $n; done | paste -sd' ')"
one=$(vf $nic 3)
expect "what the driver says of one" is "$(of "$one" '.settings | "\(.mac) \(.vlan) \(.qos) \(.spoofchk) \(.trust)"')" "02:00:00:00:00:33 33 3 true false"
expect "its driver and interface" is "$(of "$one" '"\(.driver) \(.netdev)"')" "$(driver "$one") $(netdev "$one")"
together() { jq -r --arg a "$1" '.groups[] | select(any(.members[]; .address == $a)) | [.members[] | .address] | sort | join(" ")' /run/lab/list; }
expect "one of the NIC's is alone in its group" is "$(together "$one")" "$one"
expect "those of the crowd are not" is "$(together "$(vf $crowd 0)")" "$(cd $PCI/$crowd/iommu_group/devices && ls | paste -sd' ')"
expect "what the NIC can set is found out" says '"trust": "yes"' pvio vf show "$nic" --probe --json
expect "and what not" says '"link": "no"' pvio vf show "$nic" --probe --json
sed -n '/supports/,/}/p' /run/lab/said | show
expect "and nothing is changed by it" is "$(told $nic 3 | cut -d' ' -f1-3)" "02:00:00:00:00:33 33 3"
