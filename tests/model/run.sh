#!/bin/bash
# run.sh - the model of the ring's notify and re-arm, exhaustively, and the bugs seeded in it, each of which spin must find.
# 0: all as expected. 1: not. 77: no spin here. Under a minute and 1.2 GB of memory; PVIO_TEST_LONG=1 adds larger ranges of indices.
set -u
cd "$(dirname "$0")" || exit 1
model=$PWD/ring.pml
command -v spin >/dev/null || { echo "SKIP need=spin: the model checker is not installed (Debian package spin)"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failed=0

check() { # DEFINES DEPTH COMPILER-FLAGS... : the verifier's report goes to $dir/log
	local defines=$1 depth=$2
	shift 2
	rm -f pan* ./*.trail
	# shellcheck disable=SC2086 # several defines
	spin -a $defines "$model" >log 2>&1 && gcc -w -DSAFETY "$@" -o pan pan.c >>log 2>&1 && ./pan -m"$depth" -w24 >>log 2>&1
}

states() { awk '/states, stored/ { print $1 }' log; }

holds() { # WHAT DEFINES : no error in all of the states
	check "$2" 6000000 -O2 -DMEMLIM=6000
	if grep -q 'errors: 0$' log && ! grep -q 'max search depth too small\|not completed\|out of memory' log; then
		echo "ok    $1: $(states) states, no error"
	else
		echo "FAIL  $1:"
		tail -n 25 log
		failed=1
	fi
}

caught() { # WHAT DEFINES ASSERTION : a counterexample that violates that assertion
	check "$2" 100000 -O0
	if grep -q "^pan:1: assertion violated $3" log; then
		echo "ok    $1: found after $(states) states"
	else
		echo "FAIL  $1: not found, or something else was:"
		tail -n 25 log
		failed=1
	fi
}

waits='((prod_mem\[0\]==cons\[1\])' # somebody sleeps, and something is published for it
holds 'ring of 4, indices modulo 8' ''
holds 'ring of 2, indices modulo 8' '-DNR=2'
[ -n "${PVIO_TEST_LONG:-}" ] && holds 'ring of 2, indices modulo 16' '-DNR=2 -DMOD=16'
caught 'seeded: re-arm does not look again' -DLOST_WAKEUP "$waits"
caught 'seeded: no fence, neither in publish nor in re-arm' -DNO_FENCE "$waits"
caught 'seeded: no fence in publish' -DNO_FENCE_PUBLISH "$waits"
caught 'seeded: no fence in re-arm' -DNO_FENCE_REARM "$waits"
caught 'seeded: notify for the last slot of a batch only' -DLAST_ONLY "$waits"
caught 'seeded: room for one request too many' -DNO_ROOM '.*<=4'
caught 'and the indices do wrap' -DNO_WRAP '(cons\[me\]!=0)\|(cons\[.*\]!=0)'
exit $failed
