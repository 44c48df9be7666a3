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

# igb takes no rate before its port has a link.
up() { # PF
	local port
	port=$(netdev "$1")
	ip link set "$port" up && wait_for 30 grep -q 1 "/sys/class/net/$port/carrier"
}

# The machine as it booted, but for what a driver keeps in its hardware.
fresh() {
	local p
	for p in $nic $crowd $disk; do
		[ "$(number "$p")" = 0 ] || echo 0 >"$PCI/$p/sriov_numvfs"
		echo 1 >"$PCI/$p/sriov_drivers_autoprobe"
	done
	rm -rf /var/lib/pvio
	[ -z "$nic" ] || up "$nic"
}
fresh

# ---- pvio

declare_nic() { # N [PF] : to stdout: N virtual functions with all settings that igb has
	local n
	echo "pf ${2:-$nic} vfs $1"
	for ((n = 0; n < $1; n++)); do
		printf 'vf %d mac 02:00:00:00:00:%02x vlan %d qos 3 spoofchk on trust on max_rate %d\n' $n $((16 + n)) $((100 + n)) $((100 + n))
	done
}
told() { # PF INDEX|"" : what the kernel says of it, or of all: MAC VLAN QOS SPOOFCHK TRUST RATE
	ip -j -d link show "$(netdev "$1")" | jq -r --arg n "$2" '.[0].vfinfo_list[] | select($n == "" or .vf == ($n | tonumber)) |
		"\(.address) \(.vlan_list[0].vlan // 0) \(.vlan_list[0].qos // 0) \(.spoofchk) \(.trust) \(.rate.max_tx)"'
}
as_declared() { # N [PF] : are they as declare_nic says?
	local n
	diff <(told "${2:-$nic}" "") <(for ((n = 0; n < $1; n++)); do printf '02:00:00:00:00:%02x %d 3 true true %d\n' $((16 + n)) $((100 + n)) $((100 + n)); done)
}
says() { # TEXT COMMAND... : it prints that, whatever it ends with
	local text=$1
	shift
	"$@" 2>&1 | tee /run/lab/said | grep -qF -- "$text" || { tail -n20 /run/lab/said; return 1; }
}
refuses() { # TEXT COMMAND... : it fails, and says that
	local text=$1
	shift
	! "$@" >/run/lab/said 2>&1 && grep -qF -- "$text" /run/lab/said || { tail -n20 /run/lab/said; return 1; }
}
