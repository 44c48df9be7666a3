#!/bin/bash
# A backend killed with SIGKILL is reported by `pvio list` soon (how soon is printed), as lost; the other backend's devices go on; and
# when it is started again, the guest's device can be used again.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root uring jq mke2fs
begin
pvio() { "$bin/pvio" "$@"; }
pvio sandbox up --guests 1 || die "sandbox up"
domid=$(pvio guest list --json | jq '.[0].domid')
truncate -s 64M "$work/disk"
pvio attach g1 vbd xvda "path=$work/disk" || die attach
"$bin/pvio-dd" --domid "$domid" --vbd xvda --wait 5 --bench randread --seconds 30 >/dev/null 2>&1 &
pids+=($!)
state() { pvio list --json | jq -r --arg t "$1" '.[] | select(.type == $t) | .state'; }
is() { [ "$(state "$1")" = "$2" ]; }
until_true 10 is vbd Connected || die "the vbd is not connected: $(pvio list)"
others=$(state vif)

pid=$(pgrep -f "^$bin/pvio-blkback" | while read -r p; do grep -qz "PVIO_RUNDIR=$PVIO_RUNDIR" "/proc/$p/environ" && echo "$p"; done)
t=$(date +%s%N)
kill -KILL "$pid"
until_true 30 is vbd lost || die "SIGKILL went unnoticed: $(pvio list)"
t=$((($(date +%s%N) - t) / 1000000))
echo "noticed after $t ms"
[ "$(state vif)" = "$others" ] || die "the vif suffered from the death of blkback"

"$bin/pvio-blkback" 2>"$work/log" &
pids+=($!)
kill "${pids[0]}"
wait "${pids[0]}" 2>/dev/null
"$bin/pvio-dd" --domid "$domid" --vbd xvda --wait 10 of=- | cmp - "$work/disk" || die "no I/O after the backend came back: $(pvio list)"
