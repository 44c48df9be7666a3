#!/bin/bash
# fio writes and verifies through two vbds, one found by noxs and one through XenStore as Linux does, while pvio-blkback is killed with SIGKILL and
# handed over at random times: no job has an error, each verified what it wrote, and no frontend has connected anew. PVIO_TEST_LONG=1: 100 kills, 20 handovers.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root uring jq fio
[ -e "$bin/pvio-fio.so" ] || missing fio-headers "the fio engine is not built: make fio-headers all says why"
kills=5 handovers=2
[ -z "${PVIO_TEST_LONG:-}" ] || kills=100 handovers=20
begin
pvio() { "$bin/pvio" "$@"; }
pvio sandbox up --guests 2 >"$work/up" || die "sandbox up: $(cat "$work/up")"
declare -A engine=([g1]=pvio-fio.so [g2]=tests/fake/pvio-fio-xenbus.so) dialect=([g1]=noxs [g2]=xenstore) fio
cd "$work" || exit 1

# What a loop wrote is verified soon after, and all of it at the loop's end; headers say which write it was. The limit has each process die with a
# request that it took and did not begin.
for g in g1 g2; do
	truncate -s 16M "$work/$g"
	pvio attach $g vbd xvda "path=$work/$g" iops=5000 --dialect ${dialect[$g]} || die "attach $g"
	domid=$(pvio guest list --json | jq --arg g $g '.[] | select(.name == $g) | .domid')
	fio --thread --ioengine=external:"$bin/${engine[$g]}" --domid="$domid" --vbd=xvda --name=$g --output-format=json --output="$work/$g.json" \
		--rw=randwrite --bssplit=4k/70:12k/20:200k/10 --iodepth=24 --size=16M --loops=1000000 --fsync=64 --randrepeat=0 \
		--verify=crc32c --verify_backlog=256 --verify_fatal=1 >"$work/$g.out" 2>&1 &
	fio[$g]=$!
	pids+=($!)
done
replace() { # VERB
	pvio backend $1 blkback >"$work/replaced" 2>&1 || die "$1: $(cat "$work/replaced"; pvio list; tail -n 30 "$PVIO_RUNDIR"/pvi*.log)"
}
told() { cat "$work/$1.out"; sed -n '/^{/,$p' "$work/$1.json" | jq -c '.jobs[] | {error, read: .read.total_ios, write: .write.total_ios}'; }
going_on() { [ "$(pvio stats $1 xvda --json | jq '[.. | (.writes?, .reads?) // empty] | add')" -gt "$2" ]; }
alive() { kill -0 "${fio[$1]}" 2>/dev/null || die "fio in $1 ended: $(told $1)"; }
pviod_of() { pvio inspect $1 --json | jq -c --arg k "$2" '.[] | select(.type == "vbd") | .pviod[$k]'; }
for g in g1 g2; do until_true 20 going_on $g 500 || die "no I/O in $g: $(told $g)"; done
before="$(pviod_of g1 connects) $(pviod_of g2 connects)"

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
	for g in g1 g2; do
		alive $g
		until_true 20 going_on $g 100 || die "$g does not go on: $(told $g); $(pvio list)"
	done
done
for g in g1 g2; do
	[ "$(pviod_of $g adoptions)" = $((k + h)) ] || die "$g: $(pviod_of $g adoptions) adoptions"
	kill -INT "${fio[$g]}" # ends its loops
	wait "${fio[$g]}"
	result=$(sed -n '/^{/,$p' "$work/$g.json" | jq -c '.jobs[] | [.error, .read.total_ios, .write.total_ios]')
	[[ $result =~ ^\[0,([0-9]+),([0-9]+)\]$ ]] && [ "${BASH_REMATCH[1]}" -gt 200 ] || die "$g: $(told $g)"
	echo "$g, ${dialect[$g]}: $k kills, $h handovers, ${BASH_REMATCH[2]} writes, ${BASH_REMATCH[1]} verified, no error"
done
