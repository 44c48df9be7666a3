#!/bin/bash
# The README's advice for images of NBD: a server that serves one client at a time (nbdkit's limit filter) keeps a killed pvio-blkback's last writes,
# which it is still carrying out (its delay filter), apart from what comes after. fio verifies; the next process waits for the server as long as it takes.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root uring jq fio nbdkit
. tests/integration/verified_vbds.sh
image_of() { echo "nbd+unix:///?socket=$work/$1.sock"; }
begin
servers=()
trap 'kill -9 "${servers[@]}" 2>/dev/null; clean_up' EXIT # SIGTERM waits for their clients
for g in g1 g2; do
	truncate -s 16M "$work/$g"
	nbdkit -f -t 1 -U "$work/$g.sock" --filter=limit --filter=delay file "$work/$g" limit=1 wdelay=2ms 2>"$work/$g.nbdkit.log" &
	servers+=($!)
	until_true 10 test -S "$work/$g.sock" || die "nbdkit: $(cat "$work/$g.nbdkit.log")"
done
pvio sandbox up --guests 2 >"$work/up" || die "sandbox up: $(cat "$work/up")"
verified_begin
for i in 1 2 3; do
	sleep 0.$((RANDOM % 5))
	pvio backend restart blkback >"$work/restart" 2>&1 || die "restart: $(cat "$work/restart"; pvio list; tail -n 30 "$PVIO_RUNDIR"/pvi*.log "$work"/*.nbdkit.log)"
	verified_going_on
done
replayed=$(pvio stats g1 --json | jq '[.. | .replayed? // empty] | add')
verified_end 3 "3 kills (after the last one $replayed requests were begun again)"
