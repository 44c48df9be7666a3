#!/bin/bash
# mutation_ring.sh - the tests of the ring catch what they are there for: each mutation of rings/ring.h below, made in a
# temporary copy, must be reported in its way. `race`: TSan reports a data race in test_ring_threads. `stuck`: a sleeper of
# test_ring_threads is never woken. `unit`: test_ring fails. The header as it is must pass all of them.
# 0: so it is. 1: a mutation survived. 77: no TSan here.
set -u
cd "$(dirname "$0")/../.." || exit 1
cc=${CC:-gcc}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

build() { # PROGRAM FLAGS... : of the headers in $dir/include
	local out=$1
	shift
	"$cc" -std=gnu11 -D_GNU_SOURCE -O2 -g -w -fno-strict-aliasing -I"$dir/include" "$@" "tests/unit/$out.c" -lcmocka -pthread -o "$dir/$out"
}

headers() {
	rm -rf "$dir/include"
	mkdir -p "$dir/include/pvio" && cp rings/*.h "$dir/include/pvio/"
}

try() { # KIND : 0 if that kind of test is content with the headers in $dir/include
	case $1 in
	race) build test_ring_threads -fsanitize=thread && TSAN_OPTIONS=halt_on_error=1:exitcode=66 "$dir/test_ring_threads" ;;
	stuck) build test_ring_threads && "$dir/test_ring_threads" ;;
	unit) build test_ring && "$dir/test_ring" ;;
	esac >"$dir/log" 2>&1
}

mutation() { # KIND WHAT SED
	local says
	headers
	sed -i "$3" "$dir/include/pvio/ring.h"
	if cmp -s rings/ring.h "$dir/include/pvio/ring.h"; then
		echo "FAIL  $2: the mutation changed nothing, ring.h no longer looks as it expects"
		failed=1
		return
	fi
	case $1 in
	race) says='WARNING: ThreadSanitizer: data race' ;;
	stuck) says='^stuck: ' ;;
	unit) says='FAILED' ;;
	esac
	if PVIO_TEST_STUCK_MS=3000 try "$1"; then
		echo "FAIL  $2: nothing was reported ($1)"
		failed=1
	elif ! grep -q "$says" "$dir/log"; then
		echo "FAIL  $2: it failed, but not as expected ($1):"
		tail -n 20 "$dir/log"
		failed=1
	else
		echo "ok    $2: caught ($1)"
	fi
}

asides=()
aside() { # as mutation, in a folder of its own, beside what follows: most of its time is waiting
	(
		dir=$(mktemp -d -p "$dir") failed=0
		mutation "$@"
		exit $failed
	) &
	asides+=($!)
}

echo 'int main(void) { return 0; }' >"$dir/probe.c"
if ! "$cc" -fsanitize=thread "$dir/probe.c" -o "$dir/probe" 2>/dev/null || ! "$dir/probe" 2>/dev/null; then
	echo "SKIP need=tsan: $cc -fsanitize=thread gives no program that runs here"
	exit 77
fi

headers
for kind in race stuck unit; do
	if try $kind; then
		echo "ok    ring.h as it is passes ($kind)"
	else
		echo "FAIL  ring.h as it is does not pass ($kind):"
		tail -n 40 "$dir/log"
		exit 1
	fi
done

in_load='/^static inline uint32_t pv_index_load/,/^}/'
in_publish='/^static inline bool pv_index_publish/,/^}/'
in_rearm='/^static inline uint32_t pv_index_rearm/,/^}/'
in_ask='/^static inline int pv_ring_rearm/,/^}/'
in_check='/^static inline int pv_ring_count(/,/^}/'

aside stuck 'rearm: does not look again' "${in_rearm}s/return .*/return at - 1;/"
aside stuck 'rearm: asks for one slot too late' "${in_ask}s/r->cons + after/r->cons + after + 1/"
aside stuck 'publish: notifies for the last slot of a batch only' "${in_publish}s/return now - asked < .*/return now == asked;/"
mutation race 'ready: no acquire' "${in_load}s/__ATOMIC_ACQUIRE/__ATOMIC_RELAXED/"
mutation race 'publish: no release' "${in_publish}{/store_n/s/__ATOMIC_SEQ_CST/__ATOMIC_RELAXED/}"
mutation race 'rearm: no acquire' "${in_rearm}{/load_n/s/__ATOMIC_SEQ_CST/__ATOMIC_RELAXED/}"
mutation unit 'publish: notifies for the slot before the batch' "${in_publish}s/ < now - old/ <= now - old/"
mutation unit 'publish: compares indices, not differences' "${in_publish}s/return now - asked < .*/return asked > old \&\& asked <= now;/"
mutation unit 'check: a signed difference' "${in_check}s/n > pv_ring_window(r)/(int)n > (int)pv_ring_window(r)/"
mutation unit 'check: the whole ring, whatever is in flight' "${in_check}s/n > pv_ring_window(r)/n > r->nr/"
mutation unit 'check: one slot less than the window' "${in_check}s/n > pv_ring_window(r)/n >= pv_ring_window(r)/"
mutation unit 'ready_for: does not look for one more' '/^static inline int pv_ring_ready_for/,/^}/s/counted >= want/counted + 1 >= want/'
mutation unit 'check: no bound' "${in_check}s/n > pv_ring_window(r)/n > 0x7fffffff/"
for p in "${asides[@]}"; do wait "$p" || failed=1; done
exit $failed
