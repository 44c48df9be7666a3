#!/bin/bash
# pvio vf claim, release, bind and quarantine, on a machine made of files: 50 processes at once, and what is said to people.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need jq
begin
pvio=$bin/pvio
export PVIO_VF_ROOT=$work/root
dev=$PVIO_VF_ROOT/sys/bus/pci/devices

function_of() { # BDF : any NVMe function
	mkdir -p "$dev/$1"
	echo 0x1b36 >"$dev/$1/vendor"; echo 0x0010 >"$dev/$1/device"; echo 0x010802 >"$dev/$1/class"; echo 0 >"$dev/$1/numa_node"
	echo '(null)' >"$dev/$1/driver_override"; echo flr >"$dev/$1/reset_method"; : >"$dev/$1/reset"
	# configuration space at rest: capabilities begin at 0xa0, with Express alone
	{ printf '\377\377\377\377\0\0\020\0'; head -c 44 /dev/zero; printf '\240'; head -c 107 /dev/zero; printf '\020'; head -c 95 /dev/zero; } >"$dev/$1/config"
}
pf=0000:01:00.0
function_of $pf
echo 7 | tee "$dev/$pf/sriov_totalvfs" >"$dev/$pf/sriov_numvfs"
for i in 0 1 2 3 4 5 6; do
	function_of 0000:01:10.$i
	ln -s ../0000:01:10.$i "$dev/$pf/virtfn$i"
	ln -s ../$pf "$dev/0000:01:10.$i/physfn"
done
mkdir -p "$PVIO_VF_ROOT"/proc/sys/kernel/random "$PVIO_VF_ROOT"/sys/bus/pci/drivers/igbvf
echo 11111111-2222-3333-4444-555555555555 >"$PVIO_VF_ROOT/proc/sys/kernel/random/boot_id"

# 50 at once: 7 get one each, no two the same
for i in $(seq 50); do "$pvio" vf claim --for "guest$i" >"$work/out.$i" 2>"$work/err.$i" & done
wait
cat "$work"/out.* | sort >"$work/got"
[ "$(wc -l <"$work/got")" = 7 ] && [ -z "$(uniq -d "$work/got")" ] || die "claimed: $(cat "$work/got" "$work"/err.*)"
[ "$(grep -l 'no VF is free for guest.*7 in use' "$work"/err.* | wc -l)" = 43 ] || die "$(cat "$work"/err.*)"

# what is in use stays so; only its owner's release counts when it is asked for
"$pvio" vf claim --for late 0000:01:10.3 2>"$work/err" && die "claimed twice"
grep -q '0000:01:10.3 is in use: guest' "$work/err" || die "$(cat "$work/err")"
"$pvio" vf release 0000:01:10.3 --for late 2>"$work/err" && die "released for another"
grep -q "is not late's" "$work/err" || die "$(cat "$work/err")"
for i in 0 1 2 3 4 5 6; do "$pvio" vf release 0000:01:10.$i || die "release $i"; done
[ "$(cat "$dev"/0000:01:10.*/reset)" = 1111111 ] || die "not each was reset: $(cat "$dev"/0000:01:10.*/reset)"
"$pvio" vf release 0000:01:10.3 2>"$work/err" && die "released twice"
grep -q 'nobody has it' "$work/err" || die "$(cat "$work/err")"

# one that is killed in the middle is finished by the next command, when what it began is over
"$pvio" vf claim 0000:01:10.2 --for web --json >"$work/out" || die "claim"
[ "$(jq -r '.vf + .owner + .state' "$work/out")" = 0000:01:10.2webclaimed ] || die "$(cat "$work/out")"
mkfifo "$work/fifo" && ln -sf "$work/fifo" "$dev/0000:01:10.2/reset"
"$pvio" vf release 0000:01:10.2 & # its reset does not come back
released=$!
begun() { [ "$(cat "/proc/$released/task/$released/children")" ] && grep -q pvio-quarantine "$dev/0000:01:10.2/driver_override"; }
until_true 10 begun || die "no release"
kill -9 $released && wait $released 2>/dev/null
while cat "$work/fifo"; do :; done >/dev/null 2>&1 & # from now on resets come back
until_true 10 "$pvio" vf claim 0000:01:10.2 --for next || die "not recovered: $("$pvio" vf list)"
"$pvio" vf release 0000:01:10.2 || die "release"
rm "$dev/0000:01:10.2/reset"; : >"$dev/0000:01:10.2/reset"
exec 9<>"$work/fifo" && rm "$work/fifo" && exec 9>&- # the end of its reader
wait

# one that fails its reset stays out, with its reason
"$pvio" vf claim --for web 0000:01:10.5 >/dev/null || die "claim"
echo bus >"$dev/0000:01:10.5/reset_method"
"$pvio" vf release 0000:01:10.5 2>"$work/err" && die "released without a reset"
grep -q 'no function-level reset (it has: bus).*quarantine' "$work/err" || die "$(cat "$work/err")"
"$pvio" vf list | grep '0000:01:10.5.*no function-level reset' >/dev/null || die "vf list: $("$pvio" vf list)"
"$pvio" vf quarantine clear 0000:01:10.5 --reset bus 2>"$work/err" && die "a bus was reset"
grep -q 'its bus is not reset: 0000:01:00.0 is on it as well' "$work/err" || die "$(cat "$work/err")"
[ "$("$pvio" vf quarantine list --json | jq -r '.[].vf')" = 0000:01:10.5 ] || die "quarantine list"
echo flr >"$dev/0000:01:10.5/reset_method"
"$pvio" vf quarantine clear 0000:01:10.5 || die "clear"

# what cannot be is said, and leaves nothing
"$pvio" vf claim --for web --driver vfio-pci 2>"$work/err" && die "a driver that is not loaded"
grep -q 'no driver vfio-pci is loaded: modprobe vfio-pci' "$work/err" || die "$(cat "$work/err")"
"$pvio" vf claim --for web --driver igbvf 2>"$work/err" && die "bound by nobody" # files bind nothing
grep -q 'driver igbvf does not take it' "$work/err" || die "$(cat "$work/err")"
"$pvio" vf claim --for web --numa 1 2>"$work/err" && die "node 1"
grep -q 'no VF is as web wants it' "$work/err" || die "$(cat "$work/err")"
for words in "claim" "claim --for web vlan=9999" "claim --for web colour=red" "claim --for web --need colour" "quarantine" "quarantine clear"; do
	"$pvio" vf $words >/dev/null 2>"$work/err"
	[ $? = 2 ] || die "vf $words: $(cat "$work/err")"
done
ls "$PVIO_VF_ROOT"/var/lib/pvio/vf/*.json 2>/dev/null && die "records are left"
for f in "$dev"/0000:01:10.*/driver_override; do # what was longer before is still behind the newline
	case $(head -1 "$f") in '' | '(null)') ;; *) die "an override is left: $(cat "$f")" ;; esac
done
echo "claim, release, quarantine: as they should"
