#!/bin/bash
# A TCP connection between two guests, each a TAP in a network namespace, goes on while pvio-netback is killed with SIGKILL and handed
# over: what arrives has the SHA-256 of what was sent, the frontends have seen nothing, none has connected anew, and the packets that are missing are
# told to be lost. Once with vifs that are found by noxs, and once as Linux finds and connects them, through XenStore.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root tun uring jq python3
begin
rounds=3 # of a kill and a handover
pvio() { "$bin/pvio" "$@"; }
domid_of() { pvio guest list --json | jq --arg g "$1" '.[] | select(.name == $g) | .domid'; }

# 64 MiB, a piece at a time, so that it lasts for as long as netback is being replaced.
cat >"$work/send.py" <<'P'
import hashlib, os, socket, sys, time
s, h, stop = socket.create_connection(("10.78.0.2", 7000)), hashlib.sha256(), sys.argv[1]
sent = 0
while sent < 64 << 20 or not os.path.exists(stop):
    piece = os.urandom(65536)
    h.update(piece)
    s.sendall(piece)
    sent += len(piece)
    time.sleep(0.001)
s.shutdown(socket.SHUT_WR)
s.recv(1)
print(sent, h.hexdigest())
P
# ... and how long nothing came: as often as netback is replaced it is that which silenced it.
cat >"$work/receive.py" <<'P'
import hashlib, socket, sys, time
l, h, got, silent, last = socket.create_server(("10.78.0.2", 7000)), hashlib.sha256(), 0, [], None
print("listening", flush=True)
s, _ = l.accept()
while (piece := s.recv(1 << 20)):
    now = time.monotonic()
    silent.append(now - (last or now))
    last = now
    h.update(piece)
    got += len(piece)
silent = sorted(silent)[-int(sys.argv[1]):]
print("TCP was silent for %.0f ms (median), %.0f ms (worst)" % (silent[len(silent) // 2] * 1000, silent[-1] * 1000))
print(got, h.hexdigest())
P

# tap DIALECT GUEST PROGRAM : the guest's vif 1 as eth0 of its namespace
tap() {
	netns_new "$2"
	in_netns "$2" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6' 2>/dev/null # what the kernel says by itself goes to nobody
	pvio attach "$2" vif 1 --dialect "$1" || die "attach $2"
	"$bin/$3" --domid "$(domid_of "$2")" --vif 1 --tap eth0 --netns "$(netns "$2")" --wait 5 --address "10.78.0.${2#g}/24" 2>"$work/$2" &
	taps+=($!)
	pids+=($!)
	until_true 10 in_netns "$2" ip addr show dev eth0 to 10.78.0.0/24 up || die "$1: the TAP of $2 did not come up: $(cat "$work/$2")"
}

pviod_of() { pvio inspect --json | jq -c "[.[] | select(.type == \"vif\" and .id.devid? // .devid == 1) | .pviod | $1]"; }
# Packets that a guest's kernel gave, less those that came to the other's, both ways.
missing() {
	local g
	for g in g1 g2; do in_netns $g ip -j -s link show dev eth0; done | jq -s '[.[][0].stats64 | .tx.packets - .rx.packets] | add'
}
# What this process of netback says of packets that were lost with the one before it, or that it dropped.
told() {
	pvio stats --json | jq '[.[] | select(.type == "vif") | .. | objects | select(has("tx_lost") and has("uplink"))] |
		(map(.tx_lost + .rx_lost + .rx_full + .tx_no_memory + .tx_copy_failed + .rx_copy_failed) | add) + .[0].backend.lost + .[0].backend.post_full'
}

survives() { # DIALECT PROGRAM
	local before adoptions lost=0 gone sender receiver g verb
	taps=()
	tap "$1" g1 "$2"
	tap "$1" g2 "$2"
	until_true 10 in_netns g1 ping -c1 -W1 10.78.0.2 >/dev/null || die "$1: no ping from g1 to g2"
	before=$(pviod_of '{connects, generation}')
	adoptions=$(pviod_of .adoptions | jq add)
	gone=$(missing)
	in_netns g2 python3 "$work/receive.py" $((2 * rounds)) >"$work/received" &
	receiver=$!
	until_true 10 grep -q listening "$work/received" || die "$1: the receiver does not listen"
	rm -f "$work/stop"
	in_netns g1 python3 "$work/send.py" "$work/stop" >"$work/sent" &
	sender=$!
	pids+=("$receiver" "$sender")
	for ((i = 0; i < rounds; i++)); do
		for verb in restart handover; do
			lost=$((lost + $(told)))
			pvio backend $verb netback || die "$1: $verb: $(pvio list)"
			sleep 0.3
		done
	done
	kill -0 $sender 2>/dev/null || die "$1: the connection ended: $(cat "$work/sent")"
	touch "$work/stop"
	wait $sender || die "$1: the sender failed"
	wait $receiver || die "$1: the receiver failed"
	cmp "$work/sent" <(tail -1 "$work/received") || die "$1: sent: $(cat "$work/sent"); received: $(tail -1 "$work/received")"
	[ "$(pviod_of '{connects, generation}')" = "$before" ] || die "$1: a frontend has connected anew: $before, now $(pviod_of '{connects, generation}')"
	[ $(($(pviod_of .adoptions | jq add) - adoptions)) = $((4 * rounds)) ] || die "$1: $(pviod_of .adoptions) adoptions, not $((4 * rounds)) more"
	for g in g1 g2; do
		[ -s "$work/$g" ] && grep -v ready "$work/$g" && die "$1: pvio-tap noticed something"
	done
	lost=$((lost + $(told)))
	gone=$(($(missing) - gone))
	[ $gone -le $lost ] || die "$1: $gone packets are missing, and of $lost it is told: $(pvio stats --json)"
	echo "$1: one TCP connection, $(cut -d' ' -f1 "$work/sent") bytes, $rounds kills and $rounds handovers: equal; of $lost packets it was told that they may be lost, $gone were"
	echo "$1: $(grep silent "$work/received")"
	kill "${taps[@]}"
	wait "${taps[@]}" 2>/dev/null
	for g in g1 g2; do
		pvio detach $g vif 1 || die "$1: detach $g"
		kill "${holders[$g]}"
		wait "${holders[$g]}" 2>/dev/null
	done
	return 0
}

pvio sandbox up --guests 2 >"$work/up" || die "sandbox up: $(cat "$work/up")"
survives noxs pvio-tap
survives xenstore tests/fake/pvio-tap-xenbus
