#!/bin/bash
# pvio-netback --telemetry: DPDK's telemetry has what pvio stats has, of each queue, also after a netback was killed; nothing is left at the end.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root tun python3 jq
begin
pvio() { "$bin/pvio" "$@"; }
ask() { # QUESTION : the answer, a line
	python3 - "$PVIO_RUNDIR/dpdk/nb/dpdk_telemetry.v2" "$1" <<'EOF'
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
s.recv(16384)
s.send(sys.argv[2].encode())
print(s.recv(16384).decode())
EOF
}
answers() { [ "$(ask "$1" | jq -c "$2")" = "$3" ]; }
netback() {
	"$bin/pvio-netback" --memory 32 --name nb --telemetry --workers 2 2>>"$work/netback" &
	netback=$!
	pids+=($netback)
	until_true 20 answers /pvio/vifs 'has("/pvio/vifs")' true || die "no telemetry: $(cat "$work/netback")"
}

background "$bin/pvio-hub" 2>/dev/null
until_true 20 test -S "$PVIO_RUNDIR/hub.sock" || die "no hub"
background "$bin/pviod" 2>/dev/null
until_true 20 pvio guest list || die "no pviod"
netback
pvio guest create g1 --domid 7 >/dev/null || die "guest create"
answers /pvio/vifs '."/pvio/vifs"' '[]' || die "vifs: $(ask /pvio/vifs)"
until_true 20 pvio attach g1 vif 3 mtu=1234 || die "attach"
answers /pvio/vifs '."/pvio/vifs"' '["7,3"]' || die "vifs: $(ask /pvio/vifs)"
answers /pvio/vif,7,3 '."/pvio/vif"|[.state, .mtu, .tx_packets, .backend.workers]' '["prepared",1234,0,2]' || die "vif: $(ask /pvio/vif,7,3)"
pvio guest create g2 --domid 8 >/dev/null && until_true 20 pvio attach g2 vif 0 || die "a second guest"
tap() { # GUEST DOMID VIF ADDRESS OPTION...
	netns_new "$1"
	background "$bin/pvio-tap" --domid "$2" --vif "$3" --tap eth0 --netns "$(netns "$1")" --address "$4/24" --wait 20 "${@:5}" 2>/dev/null
}
tap g1 7 3 10.78.0.1 --queues 2
tap g2 8 0 10.78.0.2
until_true 20 answers /pvio/vif,7,3 '."/pvio/vif"|[.state, .queues0.worker, .queues1.worker]|sort' '[0,1,"connected"]' || die "vif: $(ask /pvio/vif,7,3)"
# So many flows there and back that both queues have some of each way; then the two say the same of every counter of each queue.
until_true 20 in_netns g1 ping -c1 -W1 10.78.0.2 || die "no ping from g1 to g2"
background nsenter --net="$(netns g2)" python3 tests/integration/flow.py echo 10.78.0.2 7 >/dev/null
in_netns g1 python3 - <<'EOF' || die "no echo"
import socket
for port in range(5000, 5064):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('10.78.0.1', port))
    s.settimeout(0.2)
    for n in range(100):
        s.sendto(b'%010d' % n, ('10.78.0.2', 7))
        try:
            s.recv(100)
            break
        except TimeoutError:  # the echo is not there yet
            pass
    else:
        raise SystemExit(f'port {port}: nothing came back')
EOF
queues() {
	ask /pvio/vif,7,3 | jq -cS '."/pvio/vif" | [.queues0, .queues1]' >"$work/telemetry"
	pvio stats g1 vif3 --json | jq -cS '.[0].stats.queues' >"$work/stats"
}
alike() { queues && cmp "$work/telemetry" "$work/stats"; }
until_true 20 alike || die "queues: $(cat "$work/telemetry" "$work/stats")"
jq -e 'length == 2 and all(.[]; .tx_packets > 0 and .rx_packets > 0 and .tx_bytes > .tx_packets and .rx_bytes > .rx_packets and .notifies > 0)
	and ([.[].tx_packets] | add) >= 64 and ([.[].rx_packets] | add) >= 64' "$work/telemetry" >/dev/null || die "queues: $(cat "$work/telemetry")"
for wrong in "" ,7 ,7,4 ,7,3,1 ,x,y; do
	answers "/pvio/vif$wrong" . '{"/pvio/vif":null}' || die "/pvio/vif$wrong: $(ask "/pvio/vif$wrong")"
done
for i in {1..4}; do # all at once
	{ for j in {1..3}; do ask /pvio/vif,7,3; done >"$work/many.$i"; } &
	many[i]=$!
done
wait "${many[@]}"
[ "$(jq -c '."/pvio/vif".state' "$work"/many.* | sort | uniq -c | tr -s ' ')" = ' 12 "connected"' ] || die "many at once: $(cat "$work"/many.*)"
kill -KILL $netback
wait $netback 2>/dev/null
netback
until_true 20 answers /pvio/vifs '."/pvio/vifs"|sort' '["7,3","8,0"]' || die "after a kill: $(ask /pvio/vifs)"
kill $netback
wait $netback || die "netback failed: $(cat "$work/netback")"
[ ! -e "$PVIO_RUNDIR/dpdk" ] || die "left behind: $(find "$PVIO_RUNDIR/dpdk")"
