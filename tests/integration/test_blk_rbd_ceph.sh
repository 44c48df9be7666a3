#!/bin/bash
# A guest's disk in a Ceph cluster, a real one of one monitor and one OSD on 127.0.0.1: what it writes is what `rbd export` finds, discards free
# objects, `rbd resize` reaches it, a second writer is refused, a killed pvio-blkback is followed by one that shuts it out at once, and a cluster
# that does not answer holds up this device alone. Part of make check-long where Ceph's daemons are installed: apt-get install --no-install-recommends
# ceph-mon ceph-osd ceph-common librbd-dev, and build.
# alone: a monitor that gets no CPU for a while takes its OSD for dead
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need uring jq ceph-osd ceph-mon rbd setpriv
[ -n "${PVIO_TEST_LONG:-}" ] || missing long "it takes a minute: tests/check --long rbd_ceph"
begin

pvio() { "$bin/pvio" "$@"; }
guest_dd() { local domid=$1; shift; "$bin/pvio-dd" --domid "$domid" --vbd xvda --wait 20 "$@" 2>"$work/dd.err" || die "pvio-dd $*: $(cat "$work/dd.err")"; }
sha() { sha256sum | cut -d' ' -f1; }
quiet_rbd() { timeout 60 rbd --no-progress "$@" 2>"$work/rbd.err" || die "rbd $*: $(cat "$work/rbd.err")"; }

# ---- the cluster: $CEPH_CONF; it ends with this script, however that ends. A client that died is not noticed: who follows has to shut it out

daemon() { # PROGRAM ARG...
	background setpriv --pdeathsig KILL "$@" -c "$CEPH_CONF" -f >"$work/$1.out" 2>&1
	daemon=$!
}

osd_up() { daemon ceph-osd -i 0; osd=$daemon; }
osd_is() { timeout 10 ceph osd dump -f json | jq -e ".osds[0].up == $1"; }

cluster_up() {
	local port=$((20000 + RANDOM % 10000)) fsid uuid
	fsid=$(cat /proc/sys/kernel/random/uuid) uuid=$(cat /proc/sys/kernel/random/uuid)
	export CEPH_CONF=$work/ceph.conf
	cat >"$CEPH_CONF" <<-END
		[global]
		fsid = $fsid
		mon_host = 127.0.0.1:$port
		public_network = 127.0.0.0/8
		auth_cluster_required = none
		auth_service_required = none
		auth_client_required = none
		run_dir = $work
		log_file = $work/\$name.log
		mon_data = $work/mon
		osd_data = $work/osd
		osd_objectstore = bluestore
		bluestore_block_size = 1073741824
		osd_client_watch_timeout = 3600
		osd_pool_default_size = 1
		osd_pool_default_min_size = 1
		mon_allow_pool_size_one = true
		osd_crush_chooseleaf_type = 0
		[client]
		log_file =
		admin_socket =
	END
	mkdir "$work/mon" "$work/osd"
	monmaptool --create --addv a "[v2:127.0.0.1:$port]" --fsid "$fsid" "$work/monmap" >/dev/null 2>&1 || die monmaptool
	ceph-mon -i a -c "$CEPH_CONF" --mkfs --monmap "$work/monmap" >"$work/mkfs" 2>&1 || die "ceph-mon --mkfs: $(cat "$work/mkfs")"
	daemon ceph-mon -i a
	mon=$daemon
	timeout 30 ceph osd new "$uuid" >"$work/mkfs" 2>&1 || die "the monitor: $(cat "$work/mkfs" "$work/ceph-mon.out")"
	ceph-osd -i 0 -c "$CEPH_CONF" --mkfs --osd-uuid "$uuid" >"$work/mkfs" 2>&1 || die "ceph-osd --mkfs: $(cat "$work/mkfs")"
	osd_up
	until_true 60 osd_is 1 || die "the OSD does not come up: $(tail -n 20 "$work/ceph-osd.out")"
	timeout 60 ceph osd pool create disks 8 8 >"$work/mkfs" 2>&1 || die "pool create: $(cat "$work/mkfs")"
	timeout 60 rbd pool init disks || die "pool init"
}


# ---- what a guest sees of it

path=rbd:disks/web:conf=$work/ceph.conf
attach() { pvio attach g1 vbd xvda "path=$path" "$@" >/dev/null 2>"$work/why"; }
used() { timeout 20 rbd du disks/web --format json 2>/dev/null | jq '.images[0].used_size'; }
exported() { timeout 60 rbd --no-progress export disks/web - 2>/dev/null | sha; }
writes() { pvio stats "$1" xvda --json | jq '[.. | .writes? // empty] | add // 0'; }
more_writes() { [ "$(writes "$1")" -gt "$2" ]; }
goes_on() { until_true 30 more_writes "$1" "$(($(writes "$1") + 20))" || die "$1 does not go on, $2: $(pvio list)"; }
is() { pvio list "$1" --json | jq -e --arg s "$2" '.[] | select(.type == "vbd").state == $s' >/dev/null; }

writes_through() {
	guest_dd 1 if="$work/a" --flush
	[ "$(guest_dd 1 of=- | sha)" = "$sha_a" ] || die "the guest does not read what it wrote"
	[ "$(exported)" = "$sha_a" ] || die "rbd export is not what the guest wrote"
	echo "64 MiB written by the guest, read by it and by rbd export: SHA-256 equal"
}

second_writer_refused() {
	pvio attach g2 vbd xvda "path=$path" 2>"$work/why" >/dev/null && die "a second writer is served"
	grep -q "is in use" "$work/why" || die "a second writer: $(cat "$work/why")"
	timeout 30 rbd bench --io-type write --io-total 4096 disks/web >/dev/null 2>&1 && die "rbd bench writes to a guest's disk"
	[ "$(exported)" = "$sha_a" ] || die "a second writer wrote"
	echo "second writers refused: a vbd, rbd bench"
}

discards() {
	local before
	before=$(used)
	guest_dd 1 --discard 0,33554432 --flush
	[ "$before" = 67108864 ] && [ "$(used)" = 33554432 ] || die "discarding half of $before bytes leaves $(used)"
	[ "$(guest_dd 1 of=- bs=1M count=32 | sha)" = "$(head -c 32M /dev/zero | sha)" ] || die "what was discarded is not zero"
	echo "32 MiB discarded: zero, and given back"
}

resizes() {
	load 1
	quiet_rbd resize disks/web --size 96M
	pvio resize g1 xvda >/dev/null || die "pvio resize"
	goes_on g1 "resized"
	unload 1
	guest_dd 1 if="$work/a" bs=1M count=1 seek=95
	[ "$(guest_dd 1 of=- | wc -c)" = 100663296 ] || die "the guest's disk is not 96 MiB"
	echo "rbd resize to 96 MiB under load"
}

declare -A loads
load() { # GUEST-NUMBER : it writes until unload
	"$bin/pvio-dd" --domid "$1" --vbd xvda --wait 20 --bench randwrite --iodepth 8 --seconds 600 >"$work/load$1" 2>&1 &
	loads[$1]=$!
	pids+=($!)
	until_true 20 more_writes "g$1" 0 || die "g$1 does not write: $(cat "$work/load$1")"
}
unload() {
	kill -0 "${loads[$1]}" 2>/dev/null || die "the load of g$1 ended: $(cat "$work/load$1")"
	kill "${loads[$1]}"
	wait "${loads[$1]}" 2>/dev/null || true # it was told to end
}

# A guest writes a file through its disk while backends come and go: 64 MiB at 16 MiB/s.
survives() {
	local copy verb
	"$bin/pvio-dd" --domid 1 --vbd xvda --wait 20 if="$work/b" bs=64k --flush >"$work/copy" 2>&1 &
	copy=$!
	pids+=($!)
	goes_on g1 "before the first kill"
	for verb in restart restart handover; do
		pvio backend $verb blkback >"$work/replaced" 2>&1 || die "$verb: $(cat "$work/replaced"; pvio list)"
		goes_on g1 "after $verb"
		goes_on g2 "after $verb"
	done
	wait $copy || die "the copy: $(cat "$work/copy")"
	[ "$(exported)" = "$sha_b" ] || die "what was written through two kills and a handover is not what rbd export finds"
	echo "64 MiB written through two kills and a handover: SHA-256 equal"
}

osd_goes() {
	local copy n
	"$bin/pvio-dd" --domid 1 --vbd xvda --wait 20 if="$work/a" bs=64k --flush >"$work/copy" 2>&1 &
	copy=$!
	pids+=($!)
	goes_on g1 "before the OSD ends"
	kill -KILL $osd
	wait $osd 2>/dev/null
	n=$(writes g1)
	goes_on g2 "without the OSD"
	pvio backend restart blkback >"$work/replaced" 2>&1 &
	until_true 30 is g2 Connected || die "g2 waits for another's cluster: $(pvio list)"
	goes_on g2 "killed without the OSD"
	is g1 Connected && die "g1 is served without the OSD"
	osd_up
	until_true 60 is g1 Connected || die "g1 is not served again: $(pvio list)"
	wait $copy || die "the copy: $(cat "$work/copy")"
	[ "$(exported)" = "$sha_a" ] || die "what was written over the end of the OSD is not what rbd export finds"
	echo "the OSD killed, pvio-blkback killed, the OSD started: one guest waited, the other did not; SHA-256 equal"
}

fails_in_the_end() {
	attach wait=2 || die "attach wait=2: $(cat "$work/why")"
	guest_dd 1 if="$work/a" bs=1M count=1
	kill -STOP $osd
	"$bin/pvio-dd" --domid 1 --vbd xvda if="$work/a" bs=64k count=1 >"$work/copy" 2>&1 && die "a write without the OSD succeeds"
	grep -q "Input/output error" "$work/copy" || die "a write without the OSD: $(cat "$work/copy")"
	kill -CONT $osd
	until_true 60 "$bin/pvio-dd" --domid 1 --vbd xvda if="$work/b" bs=64k count=1 || die "g1 is not served when the OSD is back: $(pvio list)"
	kill -STOP $osd
	pvio detach g1 xvda --force || die "detach without the OSD"
	goes_on g2 "when another's disk was detached without its OSD"
	kill -CONT $osd
	until_true 60 attach || die "attach after the OSD was away: $(cat "$work/why")"
	guest_dd 1 if="$work/a" --flush
	pvio detach g1 xvda || die detach
	[ "$(exported)" = "$sha_a" ] || die "at the end rbd export is not what the guest wrote"
	echo "after wait= seconds without the OSD I/O fails; with it it goes on; a detach without it ends"
}

monitor_away() {
	kill -STOP $mon
	attach && die "an image is attached without the monitor"
	grep -q "the cluster cannot be reached" "$work/why" || die "attach without the monitor: $(cat "$work/why")"
	goes_on g2 "while another's monitor is away"
	kill -CONT $mon
	until_true 60 attach || die "attach when the monitor is back: $(cat "$work/why")"
	echo "without the monitor an attach says so; with it it succeeds"
}

cluster_up
echo "a monitor and an OSD: after $SECONDS s"
quiet_rbd create disks/web --size 64M --image-feature layering,exclusive-lock,object-map,fast-diff
pvio sandbox up --guests 2 >"$work/up" 2>&1 || die "sandbox up: $(cat "$work/up")"
head -c 64M /dev/urandom >"$work/a"
head -c 64M /dev/urandom >"$work/b"
sha_a=$(sha <"$work/a") sha_b=$(sha <"$work/b")
if ! attach; then
	grep -q "built without Ceph" "$work/why" && missing librbd-dev "pvio-blkback is built without Ceph: make ceph-deps all"
	die "attach: $(cat "$work/why")"
fi
writes_through
second_writer_refused
discards
resizes
pvio detach g1 xvda || die detach
quiet_rbd resize disks/web --size 64M --allow-shrink
attach rate=16M || die "attach after detach: $(cat "$work/why")"
truncate -s 16M "$work/plain"
pvio attach g2 vbd xvda "path=$work/plain" >/dev/null || die "attach g2"
load 2
survives
osd_goes
pvio detach g1 xvda || die detach
fails_in_the_end
monitor_away
unload 2
