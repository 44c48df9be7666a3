#!/bin/bash
# perf/bench keeps what scripts rely on: its line, its exit codes, a skipped peer with its reason; and it leaves nothing behind,
# also when it is interrupted. No figure is judged here.
# alone: it reserves huge pages, which a pvio-netback that starts meanwhile would take
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
[ "$(nproc)" -ge 2 ] || skip cpus "each end of a data path needs a CPU of its own"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PVIO_BIN=$bin
python=$(python3 -c 'import sys; print(sys.executable)') # not a wrapper: PATH is going to be empty
bench() { "$python" perf/bench "$@" 2>"$work/err"; }

pairs=$(bench --list)
for pair in ring.batch32.spsc blk.{rand{read,write}4k.qd{1,32,128},{read,write}128k.qd32}-{{tmpfs,ext4}.{fio,fio-fixed,nbdkit,qsd},{null,ram}.{nbdkit,qsd}} \
	blk.latency.{poll,sleep}-{tmpfs,ext4,null}.qsd blk.randread4k.qd32-null.ring blk.scale.{8,64,256}{,-null} net.tx.64.vhost-user \
	{net,blk}.fair.8{,-{events,errors,reconnects,lies}}.offered net.fair.8-{rejects,control}.offered \
	attach.pair.n1000.xenstored; do
	grep -qx "$pair" <<<"$pairs" || die "--list does not name $pair"
done
bench no.such.pair
[ $? = 2 ] || die "an unknown pair is not wrong usage"
bench --runs 0 ring >/dev/null
[ $? = 2 ] || die "--runs 0 is not wrong usage"

line=$(bench --runs 1 --seconds 0.1 ring.batch8.) || die "ring: $line $(cat "$work/err")"
[[ $line =~ ^name=ring\.batch8\.spsc\ ours=[0-9.]+\ peer=[0-9.]+\ ratio=[0-9.]+\ unit=Mreq/s$ ]] || die "not a line as promised: $line"
bench --json --runs 2 --seconds 0.1 ring.batch8. | jq -e '.ours.min <= .ours.max and (.ours.runs | length) == 2 and
	(.ratios.runs[0] == .ours.runs[0].value / .peer.runs[0].value) and .ratio == (.ratios.runs | add / 2) and .ratios.min <= .ratio and
	(.ours.runs, .peer.runs | all(.cpus_ns > 0))' >/dev/null || die "--json: $(cat "$work/err")"

# A turn in which the CPUs moved is measured again, at most so often; a peer that is skipped is not.
"$python" - <<'PY' || die "turns in which the CPUs move"
import importlib.machinery, importlib.util
loader = importlib.machinery.SourceFileLoader('bench', 'perf/bench')
bench = importlib.util.module_from_spec(importlib.util.spec_from_loader('bench', loader))
loader.exec_module(bench)

class Told(bench.Distance):
    def __init__(self, *ns):
        self.ns = list(ns)
    def ask(self):
        return self.ns.pop(0) if len(self.ns) > 1 else self.ns[0]

def turns(distance):
    n = [0]
    def ours():
        n[0] += 1
        return n[0], {}
    return bench.turn(ours, lambda: (n[0], {}), distance)

assert turns(Told(100, 110, 190, 500)) == ((1, {}), (1, {}), None, 110)
assert turns(Told(100, 110, 500, 500, 510, 520, 90)) == ((2, {}), (2, {}), None, 510)  # it moved in the peer's measurement
assert turns(Told(100, 300, 310, 100, None, 110, 90, 95, 100)) == ((3, {}), (3, {}), None, 95)  # and somebody was not there
assert turns(Told(*[100, 900] * 50))[0] == (bench.MOVES, {})
assert turns(Told(None))[0] == (1, {})  # it is not asked of this pair
def skipped():
    raise bench.Skip('no peer')
assert bench.turn(lambda: (1, {}), skipped, Told(100, 900)) == ((1, {}), None, 'no peer', 100)
PY

mkdir "$work/empty"
line=$(PATH=$work/empty bench --runs 1 --seconds 0.1 blk.randread4k.qd1-tmpfs.fio) || die "a peer that is not installed is no failure: $line $(cat "$work/err")"
[[ $line =~ \ ours=[0-9.]+\ peer=-\ ratio=skipped\ .*why=\".*fio.*\" ]] || die "without fio: $line"

# What the peer is given to serve is what it serves: vhost_blk proves it before it measures.
if command -v qemu-storage-daemon >/dev/null; then
	bench --json --runs 1 --seconds 0.1 blk.randwrite4k.qd32-tmpfs.qsd | jq -e '.ratio > 0 and (.ours, .peer | .runs[0].cpu_us_io > 0)' >/dev/null ||
		die "beside qemu-storage-daemon: $(cat "$work/err")"
fi

left() { # processes, files and huge pages of a bench
	grep -lsz '^PVIO_RUNDIR=/dev/shm/pvio-bench\.' /proc/[0-9]*/environ
	ls -d /dev/shm/pvio-bench.* 2>/dev/null
	[ "$(cat /proc/sys/vm/nr_hugepages)" = "$huge" ] || echo "huge pages"
}
huge=$(cat /proc/sys/vm/nr_hugepages)
for signal in INT TERM; do
	for seconds in 0.3 2; do
		"$python" perf/bench net.tx.64 attach.pair.n100. >/dev/null 2>&1 &
		pid=$!
		sleep $seconds
		kill -$signal $pid
		wait $pid
		[ $? = 130 ] || die "an interrupt does not end it with 130"
		[ -z "$(left)" ] || die "left behind after $signal: $(left)"
	done
done
echo "ok"
