#!/bin/bash
# pvio-netback --telemetry: DPDK's telemetry has what pvio stats has, also after a netback was killed; nothing is left at the end.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root python3 jq
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
background "$bin/pvio-tap" --domid 7 --vif 3 --tap pvtel0 --queues 2 --wait 20 2>/dev/null
until_true 20 answers /pvio/vif,7,3 '."/pvio/vif"|[.state, .queues0.worker, .queues1.worker]|sort' '[0,1,"connected"]' || die "vif: $(ask /pvio/vif,7,3)"
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
until_true 20 answers /pvio/vifs '."/pvio/vifs"' '["7,3"]' || die "after a kill: $(ask /pvio/vifs)"
kill $netback
wait $netback || die "netback failed: $(cat "$work/netback")"
[ ! -e "$PVIO_RUNDIR/dpdk" ] || die "left behind: $(find "$PVIO_RUNDIR/dpdk")"
