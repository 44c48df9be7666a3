#!/bin/bash
# Storage that does not answer (a frozen file system) does not hold up a handover: the old pvio-blkback ends with the guest's I/O in flight, the new
# one serves other disks at once, waits for this one's last write, says so, and goes on when the storage does. The guest has no error.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root uring jq mke2fs
begin
pvio() { "$bin/pvio" "$@"; }
truncate -s 64M "$work/fs"
mke2fs -q -t ext4 "$work/fs" || die mke2fs
mkdir "$work/slow"
mount -o loop "$work/fs" "$work/slow" 2>/dev/null || { echo "SKIP need=loop: no loop device can be mounted here"; exit 77; }
thaw() { fsfreeze -u "$work/slow" 2>/dev/null; }
trap 'thaw; umount -l "$work/slow"; clean_up' EXIT
truncate -s 16M "$work/slow/disk" "$work/quick"
pvio sandbox up --guests 2 >/dev/null || die "sandbox up"
pvio attach g1 vbd xvda "path=$work/slow/disk" >/dev/null || die attach
pvio attach g2 vbd xvda "path=$work/quick" >/dev/null || die attach
of() { pvio list "$1" --json | jq -r '.[] | select(.type == "vbd") | .state, .why // .error // ""' | paste -sd' '; }
is() { [[ "$(of "$1")" == *$2* ]]; }
"$bin/pvio-dd" --domid 1 --vbd xvda --wait 10 --bench randwrite --seconds 8 >"$work/io1" 2>&1 & io1=$!
"$bin/pvio-dd" --domid 2 --vbd xvda --wait 10 --bench randwrite --seconds 8 >"$work/io2" 2>&1 & io2=$!
pids+=($io1 $io2)
until_true 10 is g1 Connected || die "g1: $(pvio list)"
until_true 10 is g2 Connected || die "g2: $(pvio list)"
sleep 0.5
fsfreeze -f "$work/slow" || die fsfreeze
sleep 0.2
pvio backend handover blkback >"$work/handover" 2>&1 & handover=$!
until_true 20 is g1 lost || die "g1 is not waited for: $(pvio list)"
until_true 20 is g2 Connected || die "g2 is held up: $(pvio list)"
is g1 lost || die "g1 is served before its storage answers: $(pvio list)"
thaw
wait $handover || die "handover: $(cat "$work/handover"); $(pvio list)"
is g1 Connected || die "g1 does not go on: $(pvio list)"
replayed=$(pvio stats g1 --json | jq '[.. | .replayed? // empty] | add')
[ "$replayed" -gt 0 ] || die "nothing was begun again"
wait $io1 || die "g1 noticed: $(cat "$work/io1")"
wait $io2 || die "g2 noticed: $(cat "$work/io2")"
echo "handed over with $replayed requests in flight"
