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

need root uring
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
rc_is 1 "$pvio" attach web vbd xvda path=/etc/passwd colour=red
err_has "colour"
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
rc_is 0 "$pvio" detach web 0
rc_is 1 "$pvio" detach web 0
rc_is 0 "$pvio" guest destroy web
rc_is 0 "$pvio" sandbox down
rc_is 0 "$pvio" sandbox down
