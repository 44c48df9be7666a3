#!/bin/bash
# A TCP connection between two guests, each a TAP in a network namespace, goes on while pvio-netback is killed with SIGKILL and handed
# over: what arrives has the SHA-256 of what was sent, the frontends have seen nothing, and pvio-tap has not connected anew.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root tun uring jq python3
begin
pvio() { "$bin/pvio" "$@"; }
pvio sandbox up --guests 2 >/dev/null || die "sandbox up"
for i in 1 2; do
	netns_new g$i
	"$bin/pvio-tap" --domid "$(pvio guest list --json | jq --arg g g$i '.[] | select(.name == $g) | .domid')" --vif 0 --tap eth0 \
		--netns "$(netns g$i)" --wait 5 2>"$work/tap$i" &
	pids+=($!)
done
for i in 1 2; do
	until_true 10 in_netns g$i ip link show eth0 || die "the TAP of g$i did not come up: $(cat "$work/tap$i")"
	in_netns g$i ip addr add 10.78.0.$i/24 dev eth0
	in_netns g$i ip link set eth0 up
done
until_true 10 in_netns g1 ping -c1 -W1 10.78.0.2 >/dev/null || die "no ping from g1 to g2"
handshake() { pvio inspect --json | jq -c '[.[] | select(.type == "vif") | .pviod | {connects, generation}]'; }
adoptions() { pvio inspect --json | jq '[.[] | select(.type == "vif") | .pviod.adoptions] | add'; }
before=$(handshake)

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
cat >"$work/receive.py" <<'P'
import hashlib, socket
l, h, got = socket.create_server(("10.78.0.2", 7000)), hashlib.sha256(), 0
print("listening", flush=True)
s, _ = l.accept()
while (piece := s.recv(1 << 20)):
    h.update(piece)
    got += len(piece)
print(got, h.hexdigest())
P
in_netns g2 python3 "$work/receive.py" >"$work/received" &
receiver=$!
until_true 10 grep -q listening "$work/received" || die "the receiver does not listen"
in_netns g1 python3 "$work/send.py" "$work/stop" >"$work/sent" &
sender=$!
pids+=("$receiver" "$sender")
for i in 1 2 3; do
	pvio backend restart netback || die "restart: $(pvio list)"
	sleep 0.3
	pvio backend handover netback || die "handover: $(pvio list)"
	sleep 0.3
done
kill -0 $sender 2>/dev/null || die "the connection ended: $(cat "$work/sent")"
touch "$work/stop"
wait $sender || die "the sender failed"
wait $receiver || die "the receiver failed"
cmp "$work/sent" <(tail -1 "$work/received") || die "sent: $(cat "$work/sent"); received: $(tail -1 "$work/received")"
[ "$(handshake)" = "$before" ] || die "a frontend has connected anew: $before, now $(handshake)"
[ "$(adoptions)" = 12 ] || die "$(adoptions) adoptions, not 12"
for i in 1 2; do
	[ -s "$work/tap$i" ] && grep -v ready "$work/tap$i" && die "pvio-tap noticed something"
done
echo "one TCP connection, $(cut -d' ' -f1 "$work/sent") bytes, 3 kills and 3 handovers: equal"
