# verified_vbds.sh: for tests that source lib.sh. fio writes and verifies through a vbd of guest g1, found by noxs, and one of g2, found through XenStore as Linux
# does, while the test takes away who serves them.
#
#	verified_begin [WORD...]		attach (with these words) and start both jobs; returns when both do I/O. Their images: image_of, which a test may define anew
#	verified_going_on			both do I/O now
#	verified_end N WHAT			each was adopted N times and has not connected anew; no job had an error and each verified; WHAT came over them
[ -e "$bin/pvio-fio.so" ] || missing fio-headers "the fio engine is not built: make fio-headers all says why"
declare -A engine=([g1]=pvio-fio.so [g2]=tests/fake/pvio-fio-xenbus.so) dialect=([g1]=noxs [g2]=xenstore) fio
pvio() { "$bin/pvio" "$@"; }
image_of() { echo "$work/$1"; }
domid_of() { pvio guest list --json | jq --arg g "$1" '.[] | select(.name == $g) | .domid'; }
told() { cat "$work/$1.out" "$PVIO_RUNDIR"/pvi*.log "$work"/*.log 2>/dev/null | tail -n 60; sed -n '/^{/,$p' "$work/$1.json" | jq -c '.jobs[] | {error, read: .read.total_ios, write: .write.total_ios}'; }
going_on() { [ "$(pvio stats $1 xvda --json | jq '[.. | (.writes?, .reads?) // empty] | add')" -gt "$2" ]; }
pviod_of() { pvio inspect $1 --json | jq -c --arg k "$2" '.[] | select(.type == "vbd") | .pviod[$k]'; }
connects() { echo "$(pviod_of g1 connects) $(pviod_of g2 connects)"; }

# What a loop wrote is verified soon after, and all of it at the loop's end; headers say which write it was. The limit has each process die with a
# request that it took and did not begin.
verified_begin() {
	local g
	cd "$work" || exit 1
	for g in g1 g2; do
		truncate -s 16M "$work/$g"
		pvio attach $g vbd xvda "path=$(image_of $g)" iops=5000 --dialect ${dialect[$g]} "$@" || die "attach $g"
		fio --thread --ioengine=external:"$bin/${engine[$g]}" --domid="$(domid_of $g)" --vbd=xvda --name=$g --output-format=json --output="$work/$g.json" \
			--rw=randwrite --bssplit=4k/70:12k/20:200k/10 --iodepth=24 --size=16M --loops=1000000 --fsync=64 --randrepeat=0 \
			--verify=crc32c --verify_backlog=256 --verify_fatal=1 >"$work/$g.out" 2>&1 &
		fio[$g]=$!
		pids+=($!)
	done
	for g in g1 g2; do until_true 20 going_on $g 500 || die "no I/O in $g: $(told $g)"; done
	connected=$(connects)
}

verified_going_on() {
	local g
	for g in g1 g2; do
		kill -0 "${fio[$g]}" 2>/dev/null || die "fio in $g ended: $(told $g)"
		until_true 20 going_on $g 100 || die "$g does not go on: $(told $g); $(pvio list)"
	done
}

verified_end() {
	local g result
	[ "$(connects)" = "$connected" ] || die "a frontend has connected anew: $connected, $(connects); $(told g1)"
	for g in g1 g2; do
		[ "$(pviod_of $g adoptions)" = "$1" ] || die "$g: $(pviod_of $g adoptions) adoptions"
		kill -INT "${fio[$g]}" # ends its loops
		wait "${fio[$g]}"
		result=$(sed -n '/^{/,$p' "$work/$g.json" | jq -c '.jobs[] | [.error, .read.total_ios, .write.total_ios]')
		[[ $result =~ ^\[0,([0-9]+),([0-9]+)\]$ ]] && [ "${BASH_REMATCH[1]}" -gt 200 ] || die "$g: $(told $g)"
		echo "$g, ${dialect[$g]}: $2, ${BASH_REMATCH[2]} writes, ${BASH_REMATCH[1]} verified, no error"
	done
}
