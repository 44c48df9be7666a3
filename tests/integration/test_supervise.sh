#!/bin/bash
# Backends that pviod starts: killed five times, each time another one goes on and a connected vif notices nothing; handed over, restarted
# and replaced by hand without two that fight; a command that does not work is tried less and less often; and pviod's end leaves none.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root tun uring jq
begin
pvio() { "$bin/pvio" "$@"; }
export PATH=$bin:$PATH
row() { pvio backend list --json | jq -r --arg n "$1" --arg k "$2" '.[] | select(.name == $n) | .[$k]'; } # NAME KEY
serves() { [ "$(row "$1" registered)" = true ]; }
pviod_up() { # OPTION... : its log in $work/log
	rm -f "$work/log" # "ready" is to be of this one
	pviod "$@" 2>"$work/log" &
	pviod=$!
	pids+=($!)
	until_true 20 grep -q "pviod: ready" "$work/log" || die "pviod does not start: $(cat "$work/log")"
}
none_left() { ! grep -lzx "PVIO_RUN_MARK=$PVIO_RUN_MARK" /proc/[0-9]*/environ 2>/dev/null | while read -r e; do tr '\0' ' ' <"${e%environ}cmdline"; echo; done |
	grep -E 'pvio-(blk|net)back|stubborn'; }
pviod_down() {
	kill "$pviod"
	wait "$pviod" || die "pviod ended with $?: $(cat "$work/log")"
	until_true 10 none_left || die "pviod's end left processes"
}

background pvio-hub 2>"$work/hub"
until_true 10 [ -S "$PVIO_RUNDIR/hub.sock" ] || die "no hub: $(cat "$work/hub")"
pviod_up --backend "pvio-netback --uplink 'none'" --backend 'pvio-blkback --workers 1'
until_true 30 serves netback || die "no netback: $(cat "$work/log")"
until_true 30 serves blkback || die "no blkback: $(cat "$work/log")"
[ "$(row netback supervised)" = true ] || die "not supervised: $(pvio backend list)"
pvio guest create g1 >/dev/null && pvio attach g1 vif >/dev/null || die "no guest"
netns_new g1
background "$bin/pvio-tap" --domid "$(pvio guest list --json | jq '.[0].domid')" --vif 0 --tap eth0 --netns "$(netns g1)" --wait 10 2>"$work/tap"
connected() { [ "$(pvio list g1 --json | jq -r '.[0].state')" = Connected ]; }
until_true 20 connected || die "the vif is not connected: $(pvio list)"

# ---- killed
for i in 1 2 3 4 5; do
	pid=$(row netback pid)
	kill -KILL "$pid"
	another() { serves netback && [ "$(row netback pid)" != "$pid" ] && connected; }
	until_true 30 another || die "kill $i: $(pvio backend list; pvio list; cat "$work/log")"
	[ "$(row netback restarts)" = $i ] || die "kill $i was counted as $(row netback restarts)"
done
[ "$(grep -c 'backend netback.* ended: SIGKILL (Killed); restart [1-5] in' "$work/log")" = 5 ] || die "not said: $(cat "$work/log")"
[ "$(row blkback restarts)" = 0 ] || die "blkback was started again too"

# ---- by pviod, by hand, and by hand's end by pviod again
pvio backend handover netback || die "handover: $(cat "$work/log")"
pvio backend restart netback >/dev/null || die "restart: $(cat "$work/log")"
pvio backend handover netback -- no-such-program 2>/dev/null && die "a program that is not there took over"
pvio backend handover netback -- false 2>/dev/null && die "a program that ends took over"
until_true 20 connected || die "lost by a handover in vain: $(pvio list; cat "$work/log")"
pvio-netback --uplink none --takeover 2>"$work/stranger" &
stranger=$!
pids+=($!)
by_stranger() { [ "$(row netback pid)" = $stranger ] && connected; }
until_true 30 by_stranger || die "the one that was started by hand does not serve: $(pvio backend list; cat "$work/stranger" "$work/log")"
[ "$(row netback supervised)" = false ] || die "pviod says that it started it"
kill -KILL $stranger
pid=$stranger
until_true 30 another || die "pviod did not start its own again: $(pvio backend list; cat "$work/log")"
[ "$(row netback supervised)" = true ] || die "whose is it?"
pvio inspect g1 --json | jq -e '.[0].pviod | .connects == 1 and .adoptions >= 8' >/dev/null || die "the frontend noticed: $(pvio inspect g1)"
[ -s "$work/tap" ] && grep -v ready "$work/tap" && die "pvio-tap noticed something"
pviod_down

# ---- what does not work; and what does not end
pviod_up --backend-timeout 300 --backend "false --name broken" --backend no-such-program \
	--backend "bash -c 'trap \"\" TERM; while :; do sleep 0.1; done' stubborn"
tried() { [ "$(grep -c "backend $1.* in [0-9]* ms" "$work/log")" -ge 4 ]; }
until_true 30 tried broken || die "a command that ends is not tried again: $(cat "$work/log")"
until_true 30 tried no-such-program || die "a program that is not there is not tried again: $(cat "$work/log")"
[ "$(grep 'backend broken' "$work/log" | grep -o 'exit status 1.* in [0-9]* ms' | grep -o '[0-9]* ms' | head -4 | xargs)" = "0 ms 100 ms 200 ms 400 ms" ] ||
	die "no back-off: $(cat "$work/log")"
grep -q "no-such-program: cannot run no-such-program: No such file" "$work/log" || die "not said: $(cat "$work/log")"
pvio backend list | grep -q '^broken .*restarts' || die "not shown: $(pvio backend list)"
pviod_down
grep -q "bash.*does not end: killed" "$work/log" || die "nobody was killed: $(cat "$work/log")"
pviod --backend "pvio-blkback 'x" 2>"$work/wrong" && die "half a quote was taken"
grep -q "a quote is not closed" "$work/wrong" || die "$(cat "$work/wrong")"
