#!/bin/bash
# Several pvio-netback start at the same time, and there are huge pages for two of them; and one while another program takes and drops all: each
# starts, whoever has them. With huge pages its memory is one file all the same: the back end of a virtio_user takes it.
# alone: it reserves huge pages
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root python3 dpdk-testpmd
begin
"$bin/pvio" sandbox up --guests 1 >"$work/up" || die "sandbox up: $(cat "$work/up")"
huge_pages 40 # beside those that the sandbox' own netback may have taken
for round in 1 2 3; do
	rm -f "$work"/log? # "ready" is to be of this round
	free=$(cat $huge/free_hugepages) memory=$((free * 4 / 5)) # MiB: two and a half times so much is there
	for i in 1 2 3 4 5; do
		"$bin/pvio-netback" --name "n$i" --memory $memory --uplink none 2>"$work/log$i" &
		pids+=($!)
	done
	for i in 1 2 3 4 5; do
		until_true 30 grep -q ready "$work/log$i" || die "round $round: $(cat "$work/log$i")"
	done
	[ "$(cat $huge/free_hugepages)" -lt $((free / 2)) ] || die "round $round: nobody took the huge pages"
	[ "$(cat "$work"/log? | grep -c "without hugepages")" -ge 1 ] || die "round $round: there were enough for all"
	kill "${pids[@]}"
	wait "${pids[@]}" 2>/dev/null
	pids=()
	[ "$(cat $huge/free_hugepages)" = "$free" ] || die "round $round: huge pages are left over"
done

cat >"$work/racer" <<'PY'
import mmap, sys, time
while True:
    try:
        pages = mmap.mmap(-1, int(sys.argv[1]) << 21, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)  # MAP_HUGETLB
        time.sleep(0.01)
        pages.close()
    except OSError:
        pass
    time.sleep(0.01)
PY
background python3 "$work/racer" $(($(cat $huge/free_hugepages) - 8))
for round in 1 2 3 4 5 6 7 8; do
	rm -f "$work/log"
	"$bin/pvio-netback" --name n1 --memory $((free * 4 / 5)) --uplink none 2>"$work/log" &
	pids+=($!)
	until_true 30 grep -q ready "$work/log" || die "beside a racer: $(cat "$work/log")"
	kill $!
	wait $! 2>/dev/null
done
kill "${pids[0]}" # the racer
wait "${pids[0]}" 2>/dev/null
pids=()
RUNTIME_DIRECTORY=$work background dpdk-testpmd --no-huge -m 192 --no-pci --no-telemetry --no-shconf --lcores='(0,1)@(0-1)' --file-prefix "pv$$" \
	--vdev="net_vhost0,iface=$work/vhost" -- --no-mlockall --total-num-mbufs=4096 --stats-period 60 >"$work/testpmd" 2>&1
until_true 20 test -S "$work/vhost" || die "no testpmd: $(tail -5 "$work/testpmd")"
rm -f "$work/log"
background "$bin/pvio-netback" --name n1 --memory $((free * 4 / 5)) --uplink "net_virtio_user0,path=$work/vhost,queues=1" 2>"$work/log"
until_true 30 grep -q ready "$work/log" || die "virtio_user: $(cat "$work/log")"
grep -q "without hugepages" "$work/log" && die "virtio_user: it has no huge pages"
until_true 20 grep -q "read message VHOST_USER_SET_MEM_TABLE" "$work/testpmd" || die "virtio_user: $(tail -5 "$work/testpmd")"
