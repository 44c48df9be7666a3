#!/bin/bash
# bridge=xenbr0: guests in a Linux bridge of the machine (here: of a network namespace), through one TAP of netback's, with ping and TCP between
# them and the machine; VLANs of it; and that the TAP is gone with the last vif, and with netback however that ends.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root tun jq iperf3 ping
begin
pvio() { "$bin/pvio" "$@"; }
host() { in_netns host "$@"; }
domid_of() { pvio guest list --json | jq -r --arg g "$1" '.[] | select(.name == $g) | .domid'; }
taps() { host ip -o link show master "$1" | grep -c pvup; }
no_taps() { [ "$(host ip -o link | grep -c pvup)" = 0 ]; }

netns_new host
host ip link add xenbr0 type bridge 2>/dev/null || missing bridge "this kernel has no bridges (modprobe bridge)"
host ip link set xenbr0 mtu 3000 up
host ip addr add 10.78.0.254/24 dev xenbr0
host ip link add xenbr1 type bridge
host ip link set xenbr1 up
netns_new g1
netns_new g2
host "$bin/pvio" sandbox up --guests 2 --uplink inner=none >"$work/up" || die "sandbox up: $(cat "$work/up")"

tap() { # GUEST VIF ADDRESS
	background "$bin/pvio-tap" --domid "$(domid_of "$1")" --vif "$2" --tap "eth$2" --netns "$(netns "$1")" --wait 20 --address "$3" 2>>"$work/tap.log"
	until_true 20 in_netns "$1" ip addr show dev "eth$2" to "$3" up || die "no TAP for vif $2 of $1: $(cat "$work/tap.log")"
}
reaches() { # NETNS ADDRESS
	until_true 20 in_netns "$1" ping -q -c 1 -W 1 "$2" || die "$1 does not reach $2: $(pvio list)"
	in_netns "$1" ping -q -i 0.02 -c 10 -s 1400 "$2" >"$work/ping" || die "packets between $1 and $2 are lost: $(cat "$work/ping")"
}
tcp() { # NETNS OF-SERVER ADDRESS : 20 MiB each way
	local n=$1 s=$2 server way
	nsenter --net="$(netns "$s")" -- iperf3 -s -B "$3" >/dev/null 2>"$work/server" &
	server=$!
	until_true 10 in_netns "$s" sh -c 'ss -ltn | grep -q :5201' || die "iperf3 does not listen: $(cat "$work/server")"
	for way in "" -R; do
		until_true 20 in_netns "$n" iperf3 -c "$3" -n 20M $way || die "TCP $n - $3 $way"
	done
	kill $server
	wait $server 2>/dev/null
}

# ---- two vifs and the machine in one bridge
pvio attach g1 vif 1 bridge=xenbr0 || die "attach"
pvio attach g2 vif 1 bridge=xenbr0 || die "attach"
tap g1 1 10.78.0.1/24
tap g2 1 10.78.0.2/24
[ "$(taps xenbr0)" = 1 ] || die "one TAP for all: $(host ip link)"
[ "$(in_netns g1 ip -j link show eth1 | jq '.[0].mtu')" = 3000 ] || die "the MTU of the bridge is not the vif's"
reaches g1 10.78.0.2
reaches g1 10.78.0.254
reaches host 10.78.0.2
in_netns g1 ping -q -c 1 -M do -s 2900 -W 5 10.78.0.254 >/dev/null || die "the bridge's MTU is not reached"
tcp g1 host 10.78.0.254
tcp g1 g2 10.78.0.2
pvio stats g1 1 --json | jq -e '.. | objects | select(has("uplink")) | .uplink | .device == "linux:xenbr0" and .mtu == 3000 and .carrier == 1' >/dev/null ||
	die "stats: $(pvio stats g1 1 --json)"

# ---- killed and handed over, netback plugs a TAP in again
for verb in restart handover; do
	host "$bin/pvio" backend $verb netback >"$work/replaced" 2>&1 || die "$verb: $(cat "$work/replaced"; pvio list)"
	reaches g1 10.78.0.254
	reaches host 10.78.0.2
	reaches g1 10.78.0.2
	[ "$(taps xenbr0)" = 1 ] || die "$verb: one TAP for all: $(host ip link)"
done
tcp g1 host 10.78.0.254

# ---- what there is not
pvio attach g1 vif 9 bridge=nonesuch 2>"$work/err" && die "there is no such bridge"
grep -q "no Linux bridge nonesuch.*xenbr0.*inner" "$work/err" || die "the error does not name what exists: $(cat "$work/err")"

# ---- another bridge is another network
pvio attach g2 vif 3 bridge=xenbr1 || die "attach"
tap g2 3 10.78.0.3/32
in_netns g2 ip route add 10.78.0.1/32 dev eth3 # g1 is in the other
in_netns g2 ping -q -c 2 -i 0.2 -W 1 10.78.0.1 >/dev/null && die "from bridge to bridge"
in_netns g2 ip route del 10.78.0.1/32
[ "$(taps xenbr1)" = 1 ] || die "no TAP in xenbr1"

# ---- VLANs: two guests in one, a third vif in another
pvio attach g1 vif 2 bridge=xenbr0 vlan=10 || die "attach vlan"
pvio attach g2 vif 2 bridge=xenbr0 vlan=10 || die "attach vlan"
pvio attach g2 vif 4 bridge=xenbr0 vlan=20 || die "attach vlan"
tap g1 2 10.78.10.1/24
tap g2 2 10.78.10.2/24
reaches g1 10.78.10.2
tcp g1 g2 10.78.10.2
tap g2 4 10.78.10.4/32
in_netns g2 ip route add 10.78.10.1/32 dev eth4 metric 1
in_netns g2 ping -q -c 2 -i 0.2 -W 1 -I eth4 10.78.10.1 >/dev/null && die "from VLAN to VLAN"
in_netns g2 ip route del 10.78.10.1/32 dev eth4
reaches g1 10.78.0.254 # those without VLANs go on

# ---- ... and where this kernel knows tags: the machine's own interface in one, a trunk, and a guest that puts a tag on without leave
if host ip link add link xenbr0 name v10 type vlan id 10 2>/dev/null; then
	host ip addr add 10.78.10.254/24 dev v10
	host ip link set v10 up
	pvio attach g2 vif 5 bridge=xenbr0 trunk=10,20-30 || die "attach trunk"
	tap g2 5 10.79.0.2/24
	in_netns g2 ip link add link eth5 name eth5.10 type vlan id 10
	in_netns g2 ip addr add 10.78.10.5/32 dev eth5.10
	in_netns g2 ip link set eth5.10 up
	reaches g1 10.78.10.254
	reaches g1 10.78.10.5
	tcp g1 host 10.78.10.254
	in_netns g2 ip link add link eth1 name eth1.10 type vlan id 10
	in_netns g2 ip addr add 10.78.10.66/32 dev eth1.10
	in_netns g2 ip link set eth1.10 up
	in_netns g2 ping -q -c 2 -i 0.2 -W 1 -I eth1.10 10.78.10.254 >/dev/null && die "a vif hops into a VLAN by a tag"
	[ "$(pvio stats g2 1 --json | jq '[.. | objects | .tx_vlan? // empty] | max')" -gt 0 ] || die "its tags are not counted"
else
	echo "this kernel knows no VLANs: tags on the wire only as tests/hostile/test_net_vlan has them"
fi

# ---- the TAP goes with its last vif, and with netback
for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
wait "${pids[@]}" 2>/dev/null
pids=()
pvio detach g2 3 || die detach
[ "$(taps xenbr1)" = 0 ] || die "the TAP outlives its last vif"
[ "$(taps xenbr0)" = 1 ] || die "the other is gone as well"
pid=$(pgrep -f "^$bin/pvio-netback" | while read -r p; do grep -qz "PVIO_RUNDIR=$PVIO_RUNDIR" "/proc/$p/environ" && echo "$p"; done)
caps=$(for p in $pid; do grep CapEff "/proc/$p/status" | cut -f2; done | sort | paste -sd' ')
[ "$caps" = "0000000000000000 0000000000001000" ] || die "who plugs keeps CAP_NET_ADMIN, netback nothing: $caps"
kill -KILL "$(head -1 <<<"$pid")" # the older
until_true 10 no_taps || die "the TAP outlives netback: $(host ip link)"
