#!/bin/bash
# fio writes and verifies through two vbds of a driver domain, one found by noxs and one through XenStore as Linux does, while that domain is destroyed, with
# all that it knew, and made again: by its name it gets its domid back, its backend finds what was in flight in pviod's pages, no job has an
# error, and no frontend has connected anew.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root uring jq fio
. tests/integration/verified_vbds.sh
times=2
[ -z "${PVIO_TEST_LONG:-}" ] || times=50
begin
serves() { pvio backend list --json | jq -e --argjson d "$storage" '.[] | select(.name == "storage/blkback" and .domid == $d)'; }
storage_new() { # a domain, what it has by itself, and its backend
	pvio guest create storage >"$work/created" && pvio attach storage pipe >>"$work/created" || die "no driver domain: $(cat "$work/created")"
	storage=$(domid_of storage)
	mkdir "$work/storage"
	PVIO_RUNDIR=$work/storage "$bin/pvio-blkback" --hypervisor "loopback:$PVIO_RUNDIR/hub.sock" --domid "$storage" --pviod pipe --log warn 2>>"$work/blkback.log" &
	blkback=$!
	pids+=($!)
	until_true 20 serves || die "no backend in it: $(cat "$work/blkback.log")"
}
pvio sandbox up --guests 2 >"$work/up" || die "sandbox up: $(cat "$work/up")"
storage_new
first=$storage

verified_begin --backend storage

for ((n = 0; n < times; n++)); do
	sleep 0.$((RANDOM % 3))$((RANDOM % 10))
	kill -KILL $blkback
	pvio guest destroy storage --force || die "the driver domain cannot be ended"
	rm -r "$work/storage"
	for g in g1 g2; do
		until_true 20 eval '[ "$(pvio list $g --json | jq -r ".[] | select(.type == \"vbd\") | .state")" = lost ]' || die "$g: not lost: $(pvio list)"
	done
	storage_new
	[ "$storage" = "$first" ] || die "it is domain $storage, and was domain $first"
	verified_going_on
done
verified_end $n "its driver domain was made $n times again"
pvio detach g1 xvda && pvio detach g2 xvda --force || die "they cannot be detached"
