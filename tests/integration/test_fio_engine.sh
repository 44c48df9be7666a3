#!/bin/bash
# The real fio drives a vbd through its engine: what it writes it verifies, in many requests at once, whole and in odd sizes, with flushes and
# trims; what it wrote is in the image; buffers that do not fit into granted pages are copied; and what cannot be is said.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root uring jq fio
[ -e "$bin/pvio-fio.so" ] || missing fio-headers "the fio engine is not built: make fio-headers all says why"
begin
pvio() { "$bin/pvio" "$@"; }
pvio sandbox up --guests 1 >"$work/up" || die "sandbox up: $(cat "$work/up")"
truncate -s 64M "$work"/xvd{a,b,c}
pvio attach g1 vbd xvda "path=$work/xvda" || die attach
pvio attach g1 vbd xvdb "path=$work/xvdb" || die attach
pvio attach g1 vbd xvdc "path=$work/xvdc" mode=r || die attach
domid=$(pvio guest list --json | jq '.[0].domid')
cd "$work" || exit 1
run() { # ARGS... : one fio, its JSON in $work/json
	timeout 100 fio --ioengine=external:"$bin/pvio-fio.so" --output-format=json --output="$work/json" "$@" >"$work/out" 2>&1
}
good() { # ARGS... : all of it without an error
	run --domid="$domid" --name=t "$@" || die "fio $*: $(cat "$work/out" "$work/json")"
	[ "$(jq '[.jobs[].error] | add' <(sed -n '/^{/,$p' "$work/json"))" = 0 ] || die "fio $*: $(cat "$work/json")"
}
value() { jq "$1" <(sed -n '/^{/,$p' "$work/json"); }
bad() { # WORDS ARGS... : fails, and says WORDS
	local words=$1
	shift
	run --name=t "$@" && die "fio $* goes well"
	grep -q "$words" "$work/out" "$work/json" || die "fio $* says: $(cat "$work/out")"
}

# what was written is there, and in the image, byte for byte as another process reads it
good --vbd=xvda --rw=randwrite --bs=4k --iodepth=32 --size=4M --verify=crc32c
[ "$(value '.jobs[0].write.total_ios')" = 1024 ] || die "not every write: $(value '.jobs[0].write')"
"$bin/pvio-dd" --domid "$domid" --vbd xvda --wait 5 of=- 2>/dev/null | cmp - xvda || die "the image is another"
good --vbd=xvda --rw=randrw --bssplit=512/20:4k/20:6k/20:60k/20:200k/20 --iodepth=32 --size=8M --verify=crc32c --verify_backlog=16 --queues=2
# more than granted pages hold (64 MiB), and than one request carries
good --vbd=xvda --rw=write --bs=4M --iodepth=16 --size=64M --verify=crc32c
# flushes: fsync=, sync=, at the end; trims
good --vbd=xvdb --rw=randwrite --bs=4k --iodepth=8 --size=512k --fsync=4 --end_fsync=1
[ "$(value '.jobs[0].sync.total_ios')" -ge 30 ] || die "no fsync: $(value '.jobs[0].sync')"
good --vbd=xvdb --rw=write --bs=4k --iodepth=8 --size=256k --sync=1 --exec_postrun="$bin/pvio stats g1 xvdb --json"
[ "$(jq '[.. | .flushes? // empty] | add' t.postrun.txt)" -ge 64 ] || die "sync=1 does not flush each write: $(cat t.postrun.txt)"
good --vbd=xvdb --rw=randtrim --bs=1M --iodepth=8 --size=64M
[ "$(stat -c %b xvdb)" -lt 64 ] || die "trim left $(stat -c %b xvdb) blocks of the image"
# jobs side by side, each with its vbd: as processes, and as threads
for thread in "" --thread; do
	good $thread --rw=randread --bs=4k --iodepth=16 --size=1M --vbd=xvda --name=u --ioengine=external:"$bin/pvio-fio.so" --domid="$domid" \
		--rw=randwrite --bs=4k --iodepth=16 --size=1M --vbd=xvdb --verify=crc32c
	[ "$(value '.jobs | length')" = 2 ] || die "not two jobs"
done
good --vbd=xvdc --rw=read --bs=64k --size=4M

bad "which vbd" --domid="$domid" --rw=read
bad "must be told its domid" --vbd=xvda --rw=read
bad "vbd xvdz of domain $domid" --domid="$domid" --vbd=xvdz --rw=read
bad "it is read-only" --domid="$domid" --vbd=xvdc --rw=write
bad "a job has one vbd" --domid="$domid" --vbd=xvda --rw=read --filename=a:b
bad "bs must be whole ones" --domid="$domid" --vbd=xvda --rw=read --bs=100
"$bin/pvio-dd" --domid "$domid" --vbd xvda --wait 5 --bench randread --seconds 60 >/dev/null 2>&1 &
pids+=($!)
taken() { pvio list --json | jq -e '.[] | select(.name == "xvda") | .state == "Connected"'; }
until_true 20 taken || die "not connected: $(pvio list)"
bad "another process" --domid="$domid" --vbd=xvda --rw=read
bad "nowhere" --domid="$domid" --vbd=xvda --rw=read --hypervisor=loopback:/nowhere/hub.sock
