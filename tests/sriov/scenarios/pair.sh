# pair: a guest's vif and its virtual function as one interface: the function is pulled and returned while numbered packets pass, and the vif takes over.
# limit: 600
need nic || return
export PVIO_HYPERVISOR=loopback PVIO_RUNDIR=/run/lab/pvio
pulls=5 # of each kind
window=16 # packets on the way (flow.c): so many may overtake each other in a turn, or be lost when the function returns (README: right after its carrier came)
bound=$((3 * window)) # lost in a pull that nobody announced, and the return: what is on the way, and as many probes, ten a second, until it is noticed
mac=02:00:00:00:00:42
port=$(netdev $nic)
home=dev # where the guest has its devices; its stack is in `guest`
modprobe -a igbvf tun bridge bonding

# ---- domain 0's bridge with the NIC in it, and a guest
ip link add xenbr0 address "$(cat "/sys/class/net/$port/address")" type bridge
ip link set "$port" master xenbr0
ip link set xenbr0 up
ip addr add 10.79.0.254/24 dev xenbr0
ip netns add dev
ip netns add guest
leave() {
	end_background
	pids=()
	pvio sandbox down
	ip netns del guest
	ip netns del dev
	ip link del xenbr0
}
trap 'leave >/dev/null 2>&1' EXIT

comes() { # the function, into the guest, when there is a way through the NIC
	wait_for 60 grep -q 1 "/sys/class/net/$port/carrier" && ip link set "$(netdev "$one")" netns $home name vf0
}
makes() { # the only one, with the vif's address
	echo 1 >"$PCI/$nic/sriov_numvfs"
	one=$(vf $nic 0)
	echo "$one" >"$PCI/$one/driver/unbind"
	ip link set "$port" vf 0 mac $mac && returns
}
pulled() { echo "$one" >/sys/bus/pci/drivers/igbvf/unbind; }
returns() { echo "$one" >/sys/bus/pci/drivers/igbvf/bind && comes; }
removed() { echo 0 >"$PCI/$nic/sriov_numvfs"; }
uses() { [ "$(pvio list g1 --json | jq -r '.[] | select(.name == "1") | .pair_used')" = "$1" ]; }
moves() { # packets go on coming
	local n
	n=$(wc -l </run/lab/progress)
	wait_for 60 eval "[ \$(wc -l </run/lab/progress) -gt $((n + 1)) ]"
}
flow_begin() {
	: >/run/lab/progress
	flow echo 10.79.0.254 7000 >/run/lab/echo &
	echoes=$!
	ip netns exec guest flow send 10.79.0.254 7000 /run/lab/progress >/run/lab/sent &
	sends=$!
	moves
}
flow_end() { # LOST LATE : as many may be lost, or come after a later one; none comes twice
	kill $sends && wait $sends
	kill $echoes && wait $echoes
	cat /run/lab/sent /run/lab/echo
	jq -se --argjson lost "$1" --argjson late "$2" '.[0].lost <= $lost and .[0].came >= 50 and all(.[]; .twice == 0 and .late <= $late)' \
		/run/lab/sent /run/lab/echo
}
saw() { info "$1: $(jq -c '{sent, lost, late}' /run/lab/sent)"; }
through() { ip netns exec dev cat /sys/class/net/vf0/statistics/tx_packets; }

expect "a function, with the vif's address" makes || return
one_guest() { pvio sandbox up --guests 1 --uplink inner=none && pvio attach g1 vif 1 bridge=xenbr0 mac=$mac pair="$one"; }
expect "a guest with a vif that is one of a pair" one_guest || return
background tap ip netns exec dev pvio-tap --domid 1 --vif 1 --tap eth0 --netns guest --vf vf0 --wait 60 --address 10.79.0.1/24
expect "the guest has an interface" wait_for 60 ip netns exec guest ping -q -c 1 -W 2 10.79.0.254 || { logs tap; return; }
expect "and uses the function" wait_for 60 uses vf || { logs tap; pvio list g1 | show; return; }

# ---- announced
expect "packets pass" flow_begin
before=$(through)
expect "they pass through the function" moves
expect "and it counts them" [ "$(through)" -gt "$before" ]
expect "none is lost or late while nothing happens" flow_end 0 0
away() { flow_begin && pvio pair g1 "$one" vif && uses vif && pulled && moves && flow_end 0 $window; }
back() { flow_begin && returns && pvio pair g1 "$one" vf --timeout 60 && uses vf && moves && flow_end $window $window; }
for ((i = 1; i <= pulls; i++)); do
	expect "announced, $i: the vif takes over, none is lost" away
	saw "pulled"
	expect "announced, $i: the function returns" back
	saw "returned"
done

# ---- not announced
unannounced() { # PULL RETURN
	$1 && moves && wait_for 60 uses vif && $2 && wait_for 60 uses vf && moves
}
several() { # WHAT TIMES PULL RETURN
	local i
	expect "packets pass" flow_begin
	for ((i = 1; i <= $2; i++)); do expect "$1, $i: the vif takes over, and gives back" unannounced "$3" "$4" || break; done
	expect "$1: losses are bounded, none comes twice" flow_end $(($2 * bound)) $((2 * $2 * window))
	saw "$1, $2 times"
}
several "driver gone" $pulls pulled returns
several "function gone" 2 removed makes

kill "${pids[-1]}" && wait "${pids[-1]}"
logs tap

# ---- the same with the kernel's bond: without a fence packets may overtake each other in a turn
in_guest() { ip netns exec guest "$@"; }
bond() { in_guest bash /bin/pvio-bond "$@"; } # (busybox, as sh, would take its own ip)
active() { in_guest ip -d -j link show bond-eth0 | jq -r '.[0].linkinfo.info_data.active_slave'; }
bond_uses() { is "$(active)" "$1"; }
bonded() {
	pulled && moves && wait_for 60 bond_uses eth0 && returns && bond add vf0 && wait_for 60 bond_uses vf0 && moves
}
pulled
home=guest
background vif ip netns exec dev pvio-tap --domid 1 --vif 1 --tap eth0 --netns guest --wait 60
expect "the vif alone" wait_for 60 in_guest ip link show eth0 || { logs vif; return; }
expect "a function beside it" returns
expect "a bond of both" bond up eth0 || { in_guest ip link | show; return; }
in_guest ip addr add 10.79.0.1/24 dev bond-eth0
expect "it uses the function" wait_for 60 bond_uses vf0 || in_guest ip -d link | show
expect "packets pass" flow_begin
for ((i = 1; i <= pulls; i++)); do expect "driver gone, $i: the bond turns to the vif, and back" bonded || break; done
expect "the bond's losses are bounded" flow_end $((pulls * bound)) $((2 * pulls * window))
saw "bond, $pulls times"
expect "it is taken apart" bond down eth0
