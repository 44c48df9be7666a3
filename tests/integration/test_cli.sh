#!/bin/bash
# What scripts rely on: exit codes, --help, --version, --json, and errors that name device, resource and remedy.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need jq
begin
rc_is() { # RC COMMAND...
	local want=$1 rc
	shift
	"$@" >"$work/out" 2>"$work/err" </dev/null
	rc=$?
	[ $rc = "$want" ] || die "'$*' ended with $rc instead of $want: $(head -3 "$work/out" "$work/err")"
}
err_has() { grep -qE -- "$1" "$work/err" || die "the error does not say '$1': $(cat "$work/err")"; }

for p in pvio-hub pviod pvio pvio-blkback pvio-netback pvio-tap pvio-dd; do
	rc_is 0 "$bin/$p" --help
	[ -s "$work/out" ] || die "$p --help prints nothing"
	rc_is 0 "$bin/$p" --version
	rc_is 2 "$bin/$p" --no-such-option
done
pvio=$bin/pvio
rc_is 2 "$pvio"
rc_is 2 "$pvio" no-such-command
rc_is 1 "$pvio" list
err_has "pviod"

# help: of pvio, of a group, of a command, in each way to ask for it
out_has() { grep -qE -- "$1" "$work/out" || die "the output does not say '$1': $(cat "$work/out")"; }
for c in help "help sandbox" "sandbox --help" "sandbox help" "--json sandbox -h"; do
	# shellcheck disable=SC2086
	rc_is 0 "$pvio" $c
	out_has "sandbox up" && out_has "sandbox down"
done
rc_is 0 "$pvio" guest --help
out_has "guest destroy"
rc_is 0 "$pvio" backend --help
out_has "backend list"
for c in "help attach" "attach --help" "--help attach" "help sandbox up" "sandbox --help up"; do
	# shellcheck disable=SC2086
	rc_is 0 "$pvio" $c
	out_has "^Usage: pvio (attach .*--wait|sandbox up .*--guests N)"
done
rc_is 2 "$pvio" help nothing
rc_is 2 "$pvio" sandbox
err_has "sandbox --help"
rc_is 2 "$pvio" sandbox sideways

# wrong usage names the options and the limits
rc_is 2 "$pvio" sandbox up --guests 65
err_has "0\.\.64"
err_has "usage: pvio sandbox up \[--guests N\] \[--disk FILE\]\.\.\. \[--uplink DEVICE\]"
rc_is 2 "$pvio" guest create g7 --domid 0
err_has "1\.\.32751"
rc_is 2 "$pvio" sandbox up --cpus "0,$(getconf _NPROCESSORS_CONF)"
err_has "this machine has"
rc_is 2 "$bin/pvio-blkback" --cpus "$(getconf _NPROCESSORS_CONF)"
err_has "this machine has"

# an image that cannot be attached: before anything is started
: >"$work/empty"
for c in /nonexist "$work/empty" /dev; do
	rc_is 1 "$pvio" sandbox up --disk "$c"
	err_has "$c"
	[ -s "$work/out" ] && die "sandbox up --disk $c started something: $(cat "$work/out")"
done
[ -e "$PVIO_RUNDIR/sandbox" ] && die "sandbox up with a wrong --disk left something"

rc_is 2 "$bin/pvio-dd" --domid 1 --vbd xvda bs=0 of=-
err_has "bs: '0'"
rc_is 2 "$bin/pvio-dd" --domid 1 --vbd xvda --bench read --bs 0
rc_is 2 "$bin/pvio-dd" --vbd xvda of=-
err_has "domid"
rc_is 2 "$bin/pvio-tap"
err_has "domid"

need root uring
truncate -s 16M "$work/e.img"
rc_is 0 "$pvio" sandbox up --guests 1 --disk "$work/e.img"
rc_is 0 "$bin/pvio-dd" --domid 1 --vbd xvda count=0 of=-
[ -s "$work/out" ] && die "count=0 copied something"
rc_is 1 "$bin/pvio-dd" --domid 1 --vbd xvdq of=-
err_has "vbd xvdq"
"$bin/pvio-dd" --domid 1 --vbd xvda --bench read --seconds 60 2>"$work/dd" &
dd=$!
pids+=("$dd")
until_true 10 sh -c "'$pvio' list | grep -q 'xvda.*Connected'" || die "pvio-dd does not connect: $(cat "$work/dd")"
if [ -c /dev/net/tun ]; then
	"$bin/pvio-tap" --domid 1 --tap pvtest0 2>"$work/tap" &
	tap=$!
	pids+=("$tap")
	until_true 10 grep -q ready "$work/tap" || die "pvio-tap does not connect: $(cat "$work/tap")"
fi
rc_is 0 "$pvio" guest destroy g1 --force
if [ -n "${tap-}" ]; then
	until_true 20 sh -c "! kill -0 $tap" || die "pvio-tap outlives its guest: $(cat "$work/tap")"
	wait "$tap" && die "pvio-tap did not fail although its guest is gone"
	grep -q "vif 0 of domain 1:" "$work/tap" || die "pvio-tap does not say what happened: $(cat "$work/tap")"
fi
until_true 20 sh -c "! kill -0 $dd" || die "pvio-dd outlives its guest: $(cat "$work/dd")"
wait $dd && die "pvio-dd did not fail although its guest is gone"
grep -q "xvda" "$work/dd" || die "pvio-dd does not say what happened: $(cat "$work/dd")"
rc_is 0 "$pvio" sandbox down
rc_is 0 "$pvio" sandbox up --guests 0
rc_is 1 "$pvio" sandbox up
err_has "run"
rc_is 0 "$pvio" guest create web
rc_is 1 "$pvio" guest create web
rc_is 2 "$pvio" guest create 17
rc_is 1 "$pvio" attach nobody vif
err_has "nobody"
rc_is 1 "$pvio" attach web vbd xvda path=/nowhere/disk.img
err_has "/nowhere/disk.img"
rc_is 0 "$pvio" attach web vbd xvdz path=null:1M # a kind of image and no file of this directory
rc_is 0 "$pvio" detach web xvdz
rc_is 1 "$pvio" attach web vbd xvda path=/etc/passwd colour=red
err_has "colour"
truncate -s 1M "$work/limited"
for dialect in noxs xenstore; do # a vbd's limits change while it is there, nothing else does
	rc_is 0 "$pvio" attach web vbd xvdb "path=$work/limited" iops=100 --dialect $dialect
	rc_is 0 "$pvio" set web xvdb iops= rate-r=1M
	rc_is 1 "$pvio" set web xvdb queues=2
	err_has queues
	rc_is 0 "$pvio" inspect web xvdb --json
	jq -e '.. | objects | select(.["rate-r"] == "1000000" and (has("iops") | not))' "$work/out" >/dev/null || die "$dialect: set: $(cat "$work/out")"
	rc_is 0 "$pvio" detach web xvdb --force
done
rc_is 0 "$pvio" attach web vif
rc_is 0 "$pvio" list --json
jq -e 'length == 1 and .[0].guest == "web" and .[0].type == "vif" and .[0].state == "InitWait"' "$work/out" >/dev/null ||
	die "list --json: $(cat "$work/out")"
for c in "guest list" list stats inspect "backend list"; do
	# shellcheck disable=SC2086
	rc_is 0 "$pvio" $c --json
	jq -e . "$work/out" >/dev/null || die "$c --json is not JSON: $(cat "$work/out")"
	# shellcheck disable=SC2086
	rc_is 0 "$pvio" $c
done

# guest create with devices: all of it or nothing
truncate -s 4M "$work/made.img"
(cd "$work" && rc_is 0 "$pvio" guest create made --vbd "xvdb path=made.img" --vif "5 mac=00:16:3e:00:00:09" --vif "") || exit 1
rc_is 0 "$pvio" --json list made
[ "$(jq -r 'map(.type + .name) | join(" ")' "$work/out")" = "vbdxvdb vif0 vif5" ] || die "its devices: $(cat "$work/out")"
rc_is 0 "$pvio" guest destroy made
rc_is 1 "$pvio" guest create half --vif "" --vbd "xvda path=/nowhere"
err_has "/nowhere"
rc_is 2 "$pvio" guest create half --vbd "xvda path=/nowhere mode"
rc_is 1 "$pvio" guest destroy half
err_has "no guest half"
rc_is 1 "$pvio" guest create half --type pvh --kernel /boot/vmlinuz
err_has "no kernels"
for c in start pause shutdown console; do rc_is 1 "$pvio" guest $c web; done

# options anywhere
for c in "--json list" "list web --json" "--dir $PVIO_RUNDIR --json list" "--dir=$PVIO_RUNDIR list --json" "guest --json list" "--json guest list"; do
	# shellcheck disable=SC2086
	(cd / && PVIO_RUNDIR=$([ "${c#*--dir}" = "$c" ] && echo "$PVIO_RUNDIR" || echo /nonexist) rc_is 0 "$pvio" $c) || exit 1
	jq -e 'length == 1' "$work/out" >/dev/null || die "pvio $c: $(cat "$work/out")"
done
rc_is 2 "$pvio" --guests 3 sandbox up

# the list is in order, numbers as numbers
for g in w10 w2; do
	rc_is 0 "$pvio" guest create $g
	rc_is 0 "$pvio" attach $g vif 1
	rc_is 0 "$pvio" attach $g vif 0
done
rc_is 0 "$pvio" --json list
[ "$(jq -r 'map(.guest + "/" + .name) | join(" ")' "$work/out")" = "w2/0 w2/1 w10/0 w10/1 web/0" ] || die "list is not in order: $(cat "$work/out")"

# another user may not, and is told so
if command -v setpriv >/dev/null; then
	chmod 755 "$PVIO_RUNDIR" "$work"
	nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	if "${nobody[@]}" test -x "$pvio"; then
		rc_is 1 "${nobody[@]}" "$pvio" sandbox down
		err_has "not permitted"
		rc_is 1 "${nobody[@]}" "$pvio" list
		err_has "root"
		grep -q "sandbox up" "$work/err" && die "list without permission advises: $(cat "$work/err")"
	fi
fi
rc_is 0 "$pvio" detach web 0
rc_is 1 "$pvio" detach web 0
rc_is 0 "$pvio" guest destroy web
rc_is 0 "$pvio" sandbox down
rc_is 0 "$pvio" sandbox down

# Without the hub nobody can be served: the daemons say so and end.
daemons=()
"$bin/pvio-hub" 2>/dev/null &
hub=$!
pids+=("$hub")
until_true 10 test -S "$PVIO_RUNDIR/hub.sock" || die "pvio-hub does not begin"
for p in pviod pvio-blkback "pvio-netback --memory 32"; do
	# shellcheck disable=SC2086
	"$bin"/$p 2>"$work/${p%% *}" &
	daemons+=("${p%% *}:$!")
	pids+=("$!")
	until_true 20 grep -q "ready" "$work/${p%% *}" || die "$p does not begin: $(cat "$work/${p%% *}")"
done
kill "$hub"
for p in "${daemons[@]}"; do
	until_true 20 sh -c "! kill -0 ${p#*:}" || die "${p%:*} outlives the hub"
	wait "${p#*:}"
	[ $? = 1 ] || die "${p%:*} does not fail although the hub is gone"
	grep -q "the hypervisor is gone" "$work/${p%:*}" || die "${p%:*} does not say why it ended: $(cat "$work/${p%:*}")"
done
