#!/bin/bash
# fio writes and verifies through two vbds of a driver domain, one found by noxs and one through XenStore as Linux does, while that domain is destroyed, with
# all that it knew, and made again: by its name it gets its domid back, its backend finds what was in flight in pviod's pages, no job has an
# error, and no frontend has connected anew.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root uring jq fio
[ -e "$bin/pvio-fio.so" ] || missing fio-headers "the fio engine is not built: make fio-headers all says why"
times=2
[ -z "${PVIO_TEST_LONG:-}" ] || times=50
begin
pvio() { "$bin/pvio" "$@"; }
domid_of() { pvio guest list --json | jq --arg g "$1" '.[] | select(.name == $g) | .domid'; }
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

declare -A engine=([g1]=pvio-fio.so [g2]=tests/fake/pvio-fio-xenbus.so) dialect=([g1]=noxs [g2]=xenstore) fio
cd "$work" || exit 1
for g in g1 g2; do
	truncate -s 16M "$work/$g"
	pvio attach $g vbd xvda "path=$work/$g" iops=5000 --dialect ${dialect[$g]} --backend storage || die "attach $g"
	fio --thread --ioengine=external:"$bin/${engine[$g]}" --domid="$(domid_of $g)" --vbd=xvda --name=$g --output-format=json --output="$work/$g.json" \
		--rw=randwrite --bssplit=4k/70:12k/20:200k/10 --iodepth=24 --size=16M --loops=1000000 --fsync=64 --randrepeat=0 \
		--verify=crc32c --verify_backlog=256 --verify_fatal=1 >"$work/$g.out" 2>&1 &
	fio[$g]=$!
	pids+=($!)
done
told() { cat "$work/$1.out" "$work/blkback.log"; sed -n '/^{/,$p' "$work/$1.json" | jq -c '.jobs[] | {error, read: .read.total_ios, write: .write.total_ios}'; }
going_on() { [ "$(pvio stats $1 xvda --json | jq '[.. | (.writes?, .reads?) // empty] | add')" -gt "$2" ]; }
alive() { kill -0 "${fio[$1]}" 2>/dev/null || die "fio in $1 ended: $(told $1)"; }
pviod_of() { pvio inspect $1 --json | jq -c --arg k "$2" '.[] | select(.type == "vbd") | .pviod[$k]'; }
for g in g1 g2; do until_true 20 going_on $g 500 || die "no I/O in $g: $(told $g)"; done
before="$(pviod_of g1 connects) $(pviod_of g2 connects)"

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
	for g in g1 g2; do
		alive $g
		until_true 20 going_on $g 100 || die "$g does not go on: $(told $g); $(pvio list)"
	done
done
[ "$(pviod_of g1 connects) $(pviod_of g2 connects)" = "$before" ] || die "a frontend has connected anew"
for g in g1 g2; do
	[ "$(pviod_of $g adoptions)" = $n ] || die "$g: $(pviod_of $g adoptions) adoptions"
	kill -INT "${fio[$g]}" # ends its loops
	wait "${fio[$g]}"
	result=$(sed -n '/^{/,$p' "$work/$g.json" | jq -c '.jobs[] | [.error, .read.total_ios, .write.total_ios]')
	[[ $result =~ ^\[0,([0-9]+),([0-9]+)\]$ ]] && [ "${BASH_REMATCH[1]}" -gt 200 ] || die "$g: $(told $g)"
	echo "$g, ${dialect[$g]}: its driver domain was made $n times again, ${BASH_REMATCH[2]} writes, ${BASH_REMATCH[1]} verified, no error"
done
pvio detach g1 xvda && pvio detach g2 xvda --force || die "they cannot be detached"
