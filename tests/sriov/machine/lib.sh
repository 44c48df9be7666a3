# lib.sh - for scenarios: bash in the machine.
. /lab/verdicts.sh

PCI=/sys/bus/pci/devices
physical() { # CLASS NTH : address of a physical function with virtual ones
	local d
	for d in "$PCI"/*; do
		[ -e "$d/sriov_totalvfs" ] && [ "$(<"$d/class")" = "$1" ] && echo "${d##*/}"
	done | sed -n "$2p"
}
nic=$(physical 0x020000 1)   # igb, 7 virtual functions, each in an IOMMU group of its own; empty where there is no QEMU 10
crowd=$(physical 0x020000 2) # igb, all its virtual functions in one IOMMU group with itself
disk=$(physical 0x010802 1)  # NVMe, 4 virtual functions

need() { # VARIABLE... : false, and a skip, if the machine has no such device
	local v
	for v; do
		[ -n "${!v}" ] || { skip "$v" "this machine's QEMU has none, QEMU 10 would"; return 1; }
	done
}

vf() { basename "$(readlink -f "$PCI/$1/virtfn$2")"; }                     # PF INDEX : its address
driver() { [ -e "$PCI/$1/driver" ] && basename "$(readlink -f "$PCI/$1/driver")"; } # ADDRESS
group() { basename "$(readlink -f "$PCI/$1/iommu_group")"; }              # ADDRESS
netdev() { ls "$PCI/$1/net" 2>/dev/null; }                                # ADDRESS
number() { cat "$PCI/$1/sriov_numvfs"; }                                  # PF
is() { [ "$1" = "$2" ] || { echo "'$1', not '$2'"; return 1; }; }          # FOUND WANTED
refused() { ! "$@"; }                                                     # COMMAND...

# The machine as it booted, but for what a driver keeps in its hardware.
fresh() {
	local p
	for p in $nic $crowd $disk; do
		[ "$(number "$p")" = 0 ] || echo 0 >"$PCI/$p/sriov_numvfs"
		echo 1 >"$PCI/$p/sriov_drivers_autoprobe"
	done
	rm -rf /var/lib/pvio
}
fresh
