#!/bin/bash
# fio writes and verifies through two vbds, one found by noxs and one through XenStore as Linux does, while pvio-blkback is killed with SIGKILL and
# handed over at random times: no job has an error, each verified what it wrote, and no frontend has connected anew. PVIO_TEST_LONG=1: 100 kills, 20 handovers.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root uring jq fio
. tests/integration/verified_vbds.sh
kills=5 handovers=2
[ -z "${PVIO_TEST_LONG:-}" ] || kills=100 handovers=20
begin
pvio sandbox up --guests 2 >"$work/up" || die "sandbox up: $(cat "$work/up")"
verified_begin
replace() { # VERB
	pvio backend $1 blkback >"$work/replaced" 2>&1 || die "$1: $(cat "$work/replaced"; pvio list; tail -n 30 "$PVIO_RUNDIR"/pvi*.log)"
}

k=0 h=0
while [ $k -lt $kills ] || [ $h -lt $handovers ]; do
	sleep 0.$((RANDOM % 3))$((RANDOM % 10))
	if [ $((h * kills)) -lt $((k * handovers)) ]; then
		replace handover
		h=$((h + 1))
	else
		replace restart
		k=$((k + 1))
	fi
	verified_going_on
done
verified_end $((k + h)) "$k kills, $h handovers"
