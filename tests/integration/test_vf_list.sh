#!/bin/bash
# pvio vf list, show: as people and programs see it, on a tree in place of the machine.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need jq
begin
pvio=$bin/pvio
export PVIO_VF_ROOT=$work/machine
pci=$PVIO_VF_ROOT/sys/bus/pci

attr() { mkdir -p "$(dirname "$pci/devices/$1")" && echo "$2" >"$pci/devices/$1"; }
dev() { # BDF CLASS DRIVER GROUP
	attr "$1/vendor" 0x8086; attr "$1/device" 0x10c9; attr "$1/class" "$2"; attr "$1/numa_node" 0; attr "$1/driver_override" '(null)'
	mkdir -p "$pci/drivers/$3" "$PVIO_VF_ROOT/sys/kernel/iommu_groups/$4/devices"
	ln -s "../../drivers/$3" "$pci/devices/$1/driver"
	ln -s "../../../../kernel/iommu_groups/$4" "$pci/devices/$1/iommu_group"
	ln -s "../../../../bus/pci/devices/$1" "$PVIO_VF_ROOT/sys/kernel/iommu_groups/$4/devices/$1"
}

"$pvio" vf list 2>"$work/err" && die "a list of nowhere"
grep -q "PVIO_VF_ROOT: $PVIO_VF_ROOT/sys: No such" "$work/err" || die "$(cat "$work/err")"
mkdir -p "$pci/devices"
"$pvio" vf list >"$work/out" && grep -qx 'no PCI function here can have virtual functions (SR-IOV)' "$work/out" || die "$(cat "$work/out")"
[ "$("$pvio" vf list --json | jq -c .)" = '{"pfs":[],"groups":[],"gone":[]}' ] || die "JSON of nothing"

dev 0000:01:00.0 0x020000 igb 6
dev 0000:01:10.0 0x020000 vfio-pci 7
dev 0000:01:10.2 0x020000 igbvf 7
attr 0000:01:00.0/sriov_totalvfs 7; attr 0000:01:00.0/sriov_numvfs 2
attr 0000:01:00.0/net/eth1/ifindex 99; attr 0000:01:00.0/net/eth1/flags 0x1003; attr 0000:01:00.0/net/eth1/address 52:54:00:00:00:10
mkdir -p "$PVIO_VF_ROOT/sys/class/net" && ln -s "../../bus/pci/devices/0000:01:00.0/net/eth1" "$PVIO_VF_ROOT/sys/class/net/eth1"
ln -s ../0000:01:10.0 "$pci/devices/0000:01:00.0/virtfn0"; ln -s ../0000:01:10.2 "$pci/devices/0000:01:00.0/virtfn1"
mkdir -p "$PVIO_VF_ROOT/var/lib/pvio/vf" "$PVIO_VF_ROOT/proc/sys/kernel/random" && echo boot >"$PVIO_VF_ROOT/proc/sys/kernel/random/boot_id"
echo '{"vf":"0000:01:10.0","pf":"0000:01:00.0","index":0,"state":"claimed","owner":"vm\u001b7","boot":"boot","settings":{"vlan":100}}' \
	>"$PVIO_VF_ROOT/var/lib/pvio/vf/vf-0000:01:10.0.json"

"$pvio" vf list >"$work/out" || die "vf list"
grep -qE '^0000:01:00.0 +PF, 2 of 7 VFs +igb +eth1 +0 +6 +- +no carrier +- +-$' "$work/out" || die "$(cat "$work/out")"
grep -qE '^  0000:01:10.0 +VF 0 +vfio-pci +- +0 +7 +- +should be vlan=100 +claimed +vm\?7$' "$work/out" || die "$(cat "$work/out")" # no escape of an owner's
grep -qE '^  0000:01:10.2 +VF 1 +igbvf +- +0 +7 +- +- +free +-$' "$work/out" || die "$(cat "$work/out")"
[ "$("$pvio" vf list --json | jq -c '[.pfs[].vfs[] | .in_use], [.groups[].members | length]')" = $'[true,false]\n[1,2]' ] || die "$("$pvio" vf list --json)"
"$pvio" doctor >"$work/out"; grep -qx 'ok *SR-IOV: 1 PFs with 2 of 7 virtual functions' "$work/out" || die "$(cat "$work/out")"
for name in 0000:01:00.0 01:00.0 eth1 8086:10c9; do
	[ "$("$pvio" vf show $name --json | jq -r .pf)" = 0000:01:00.0 ] || die "vf show $name"
done
for name in 0000:01:10.2 eth1/1 8086:10c9/1; do
	[ "$("$pvio" vf show $name --json | jq -r '.vf, .group.members[0].driver')" = $'0000:01:10.2\nvfio-pci' ] || die "vf show $name"
done
"$pvio" vf show eth1/1 >"$work/out" && grep -qE '^state +free$' "$work/out" || die "$(cat "$work/out")"
for name in eth7 eth1/2 eth1/ 0000:01:10.7; do
	"$pvio" vf show $name >"$work/out" 2>&1
	[ $? = 1 ] && grep -q 'pvio vf list' "$work/out" || grep -q 'such as eth1/0' "$work/out" || die "vf show $name: $(cat "$work/out")"
done
rm "$pci/devices/0000:01:00.0/virtfn"?; echo 0 >"$pci/devices/0000:01:00.0/sriov_numvfs"
"$pvio" vf list >"$work/out" && grep -qE '^  0000:01:10.0 +VF 0 +- .* claimed +vm\?7, but it is not there now$' "$work/out" || die "$(cat "$work/out")"
echo "vf list and vf show say what is there"
