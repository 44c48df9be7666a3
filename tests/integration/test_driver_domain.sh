#!/bin/bash
# A driver domain: pvio-blkback and pvio-netback run in the guest `storage`, each reaches pviod through a pipe, and they serve other
# guests, beside the backends of domain 0. What goes through is compared. Either backend's death, and the domain's, is seen soon
# (how soon is printed), concerns nobody else, and the guests live on.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root tun uring jq ping
begin
pvio() { "$bin/pvio" "$@"; }
state() { pvio list "$1" --json | jq -r --arg n "$2" '.[] | select(.type + .name == $n) | .state'; } # GUEST DEVICE
is() { [ "$(state "$1" "$2")" = "$3" ]; }
domid_of() { pvio guest list --json | jq -r --arg g "$1" '.[] | select(.name == $g) | .domid'; }

pvio sandbox up --guests 2 >/dev/null || die "sandbox up"
pvio guest create storage >/dev/null && pvio attach storage pipe >/dev/null && pvio attach storage pipe 5 >/dev/null || die "no pipes"
storage=$(domid_of storage)
start() { # PROGRAM : in the driver domain; its pid in $backend
	"$bin/$1" --domid "$storage" --pviod pipe --log warn 2>>"$work/$1.log" 7>&- &
	backend=$!
	pids+=($!)
}
serves() { pvio backend list --json | jq -e --arg n "$1" --argjson d "$storage" '.[] | select(.name == $n and .domid == $d)'; }
start pvio-blkback
blkback=$backend
start pvio-netback
until_true 10 serves storage/blkback || die "no blkback in the driver domain: $(cat "$work/pvio-blkback.log")"
until_true 20 serves storage/netback || die "no netback in the driver domain: $(cat "$work/pvio-netback.log")"

# ---- a disk, from there and back; another from domain 0, which goes by default
head -c 16M /dev/urandom >"$work/disk"
cp "$work/disk" "$work/other"
pvio attach g1 vbd xvda "path=$work/disk" backend=storage >/dev/null || die "attach from the driver domain"
pvio attach g1 vbd xvdb "path=$work/other" >/dev/null || die "attach from domain 0"
[ "$(pvio list g1 --json | jq -r '[.[] | select(.type == "vbd") | .backend] | sort | join(" ")')" = "blkback storage/blkback" ] ||
	die "served by the wrong backends: $(pvio list)"
dd_of() { "$bin/pvio-dd" --domid "$(domid_of g1)" --vbd "$@" 2>>"$work/dd.log"; }
dd_of xvda --wait 5 of=- | cmp - "$work/disk" || die "the disk reads otherwise: $(cat "$work/dd.log")"
head -c 16M /dev/urandom >"$work/new"
dd_of xvda --wait 5 "if=$work/new" --flush || die "the disk cannot be written: $(cat "$work/dd.log")"
cmp "$work/new" "$work/disk" || die "other bytes were written"

# ---- a network, of the driver domain's switch
for i in 1 2; do
	pvio attach g$i vif 1 backend=storage/netback >/dev/null || die "attach a vif"
	netns_new g$i
	background "$bin/pvio-tap" --domid "$(domid_of g$i)" --vif 1 --tap eth0 --netns "$(netns g$i)" --wait 5 2>>"$work/tap.log"
	until_true 10 in_netns g$i ip link show eth0 || die "no TAP: $(cat "$work/tap.log")"
	in_netns g$i ip addr add 10.9.8.$i/24 dev eth0
	in_netns g$i ip link set eth0 up
done
until_true 10 in_netns g1 ping -c 1 -W 1 10.9.8.2 || die "no way from g1 to g2: $(pvio list)"
in_netns g1 ping -c 20 -i 0.01 -s 1400 -q 10.9.8.2 | grep -q ' 0% packet loss' || die "packets were lost"

# ---- its backend dies, and comes back
are_lost() { # DEVICE...
	local t d
	t=$(date +%s%N)
	for d; do until_true 30 is g1 "$d" lost || die "$d is not lost: $(pvio list)"; done
	t=$((($(date +%s%N) - t) / 1000000))
	echo "$* lost after $t ms"
}
kill -KILL "$blkback"
are_lost vbdxvda
is g1 vif1 Connected || die "the vif suffered from blkback's death: $(pvio list)"
start pvio-blkback
until_true 10 is g1 vbdxvda InitWait || die "not offered anew: $(pvio list; cat "$work/pvio-blkback.log")"
dd_of xvda --wait 5 of=- | cmp - "$work/new" || die "the disk reads otherwise after its backend came back"

# ---- the domain dies, while somebody writes
cp "$work/new" "$work/newer"
head -c 8M /dev/urandom | dd of="$work/newer" conv=notrunc bs=1M seek=4 status=none
mkfifo "$work/feed"
"$bin/pvio-dd" --domid "$(domid_of g1)" --vbd xvda --wait 5 "if=$work/feed" --flush 2>>"$work/dd.log" &
writer=$!
pids+=($!)
exec 7>"$work/feed"
head -c 6M "$work/newer" >&7
until_true 10 is g1 vbdxvda Connected || die "the disk is not connected: $(pvio list)"
pvio guest destroy storage --force || die "the driver domain cannot be ended"
are_lost vbdxvda vif1
[ "$(pvio guest list --json | jq -r '[.[].name] | sort | join(" ")')" = "g1 g2" ] || die "other guests suffered: $(pvio guest list)"
[ -z "$(pvio backend list --json | jq -r '.[] | select(.domid != 0) | .name')" ] || die "it still has backends: $(pvio backend list)"
dd_of xvdb --wait 5 of=- | cmp - "$work/other" || die "the disk from domain 0 suffered"

# ---- and comes back, under another domid: what it served goes on
storage=$((storage + 20))
pvio guest create storage --domid $storage >/dev/null && pvio attach storage pipe >/dev/null && pvio attach storage pipe 5 >/dev/null || die "no pipes"
start pvio-blkback
start pvio-netback
until_true 20 is g1 vbdxvda Connected || die "the disk is not connected anew: $(pvio list; cat "$work/pvio-blkback.log" "$work/dd.log")"
tail -c +6291457 "$work/newer" >&7
exec 7>&-
wait $writer || die "the writer has noticed: $(cat "$work/dd.log")"
cmp "$work/newer" "$work/disk" || die "what was written is not on the disk"
until_true 20 in_netns g1 ping -c 1 -W 1 10.9.8.2 || die "no way from g1 to g2 any more: $(pvio list)"
pvio detach g1 xvda && pvio detach g1 vif1 --force || die "they cannot be detached"
