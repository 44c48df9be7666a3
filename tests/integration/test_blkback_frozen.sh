#!/bin/bash
# Storage that does not answer (a frozen file system), and a pvio-blkback that is replaced meanwhile. Handed over, the old one ends with the guest's I/O in
# flight, and the new one serves other disks at once. Killed, it is a process until its I/O has ended, with all that it held. Either way the new one begins
# nothing of this disk before the last write of the old one, and goes on when the storage does: the guest has no error, and what it wrote
# later stays.
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
head -c 16M /dev/urandom >"$work/first"
head -c 16M /dev/urandom >"$work/second"
mkfifo "$work/pipe"
truncate -s 16M "$work/slow/disk" "$work/quick"
pvio sandbox up --guests 2 >/dev/null || die "sandbox up"
pvio attach g1 vbd xvda "path=$work/slow/disk" >/dev/null || die attach
pvio attach g2 vbd xvda "path=$work/quick" >/dev/null || die attach
of() { pvio list "$1" --json | jq -r '.[] | select(.type == "vbd") | .state, .why // .error // ""' | paste -sd' '; }
is() { [[ "$(of "$1")" == *$2* ]]; }
in_flight() { [ "$(pvio inspect g1 --json | jq '[.. | .in_flight? // empty] | add')" -gt 0 ]; }
guest_dd() { "$bin/pvio-dd" --domid "$1" --vbd xvda --wait 10 "${@:2}" 2>>"$work/dd"; }

blkback() { pvio backend list --json | jq '.[] | select(.name == "blkback") | .pid'; }
another() { pgrep -f "^$bin/pvio-blkback" | while read -r p; do [ "$p" != "$old" ] && grep -qz "PVIO_RUNDIR=$PVIO_RUNDIR" "/proc/$p/environ" && echo "$p"; done | grep -q .; }
going_on() { [ "$(blkback)" != "$old" ] && is "$1" Connected; }

# What g1 has in flight while the file system is frozen are parts of $work/first, which reaches it by a pipe: until that is closed it stays connected.
freeze() {
	old=$(blkback)
	fsfreeze -f "$work/slow" || die fsfreeze
	guest_dd 1 if="$work/pipe" bs=64k & io1=$!
	pids+=($io1)
	exec 9>"$work/pipe"
	cat "$work/first" >&9 & fed=$!
	until_true 10 in_flight || die "g1 writes nothing: $(pvio list)"
}
goes_on() { # VERB
	thaw
	wait $replaced || die "$1: $(cat "$work/replaced"); $(pvio list)"
	going_on g1 || die "$1: g1 does not go on: $(pvio list)"
	replayed=$(pvio stats g1 --json | jq '[.. | .replayed? // empty] | add')
	[ "$replayed" -gt 0 ] || die "$1: nothing was begun again"
	wait $fed
	exec 9>&-
	wait $io1 || die "$1: g1 noticed: $(cat "$work/dd")"
	guest_dd 1 of=- | cmp - "$work/first" || die "$1: what g1 had in flight is not what it has now"
	guest_dd 1 if="$work/second" || die "$1: g1 cannot write"
	guest_dd 1 of=- | cmp - "$work/second" || die "$1: what g1 wrote last is not what it has now"
	echo "$1 with $replayed requests in flight"
}

guest_dd 2 --bench randwrite --seconds 8 >"$work/bench" & io2=$!
pids+=($io2)
until_true 10 is g2 Connected || die "g2: $(pvio list)"

freeze
pvio backend handover blkback >"$work/replaced" 2>&1 & replaced=$!
until_true 20 is g1 lost || die "g1 is not waited for: $(pvio list)"
until_true 20 going_on g2 || die "g2 is held up: $(pvio list)"
is g1 lost || die "g1 is served before its storage answers: $(pvio list)"
goes_on handover

freeze
pvio backend restart blkback >"$work/replaced" 2>&1 & replaced=$!
until_true 20 another || die "no other is started: $(cat "$work/replaced"; pvio list)"
sleep 1.5 # for it to try
going_on g1 && die "g1 is served before the last write of the dead one: $(pvio list)"
goes_on restart

wait $io2 || die "g2 noticed: $(cat "$work/dd")"
pvio detach g1 xvda || die detach
cmp "$work/slow/disk" "$work/second" || die "a late write is on the disk"
