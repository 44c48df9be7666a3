#!/bin/bash
# pvio sandbox: down leaves no process, socket or file, also after any of the daemons was killed, after Ctrl-C in the middle of up,
# and after up itself was killed; what was in the run directory before stays.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root uring jq
begin
pvio() { "$bin/pvio" "$@"; }
ours() { pgrep -f "^$bin/pvio" | while read -r p; do grep -qz "PVIO_RUNDIR=$PVIO_RUNDIR" "/proc/$p/environ" 2>/dev/null && ps -o pid=,stat=,args= -p "$p"; done; }
clean() {
	[ -z "$(ours)" ] || die "$1: still there: $(ours)"
	[ "$(ls -A "$PVIO_RUNDIR")" = keep ] || die "$1: left behind: $(ls -A "$PVIO_RUNDIR")"
}
touch "$PVIO_RUNDIR/keep"

truncate -s 16M "$work/disk"
pvio sandbox up --guests 2 --disk "$work/disk" --cpus 0 >"$work/up" || die "up"
[ "$(pvio list --json | jq -r '[.[] | .guest + .type] | join(" ")')" = "g1vbd g1vif g2vif" ] || die "devices: $(pvio list)"
taskset -pc "$(cut -d' ' -f1 "$PVIO_RUNDIR/pvio-blkback.pid")" | grep -q ': 0$' || die "--cpus"
pvio sandbox up && die "up twice"
pvio sandbox down || die "down"
clean "up, down"
pvio sandbox down || die "down twice"

for victim in pvio-hub pviod pvio-netback pvio-blkback; do
	pvio sandbox up --guests 1 >"$work/up" || die "up"
	kill -KILL "$(cut -d' ' -f1 "$PVIO_RUNDIR/$victim.pid")"
	pvio sandbox down || die "down without $victim"
	clean "down without $victim"
done

# a stopped daemon does not follow SIGTERM by itself
pvio sandbox up --guests 1 >"$work/up" || die "up"
kill -STOP "$(cut -d' ' -f1 "$PVIO_RUNDIR/pviod.pid")"
pvio sandbox down || die "down with a stopped pviod"
clean "down with a stopped pviod"

# up over the remains of one that crashed as a whole
pvio sandbox up --guests 1 >"$work/up" || die "up"
ended() { ! grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; } # or a zombie
for d in pvio-hub pviod pvio-netback pvio-blkback; do
	pid=$(cut -d' ' -f1 "$PVIO_RUNDIR/$d.pid")
	kill -KILL "$pid"
	until_true 10 ended "$pid" || die "$d survives SIGKILL"
done
pvio sandbox up --guests 1 >"$work/up" || die "up after a crash: $(cat "$work/up")"
pvio sandbox down || die "down"
clean "after a crash"

# Ctrl-C, and SIGKILL, at many moments of up
for ms in 0 1 2 5 10 20 40 80 120 200 400; do
	for sig in INT KILL; do
		(trap - INT; exec "$bin/pvio" sandbox up --guests 1) >"$work/up" 2>&1 &
		up=$!
		sleep "$(printf '0.%03d' $ms)"
		kill -$sig $up 2>/dev/null
		wait $up
		rc=$?
		[ $sig = INT ] && [ $rc = 130 ] && clean "Ctrl-C after $ms ms"
		pvio sandbox down >/dev/null || die "down after SIG$sig at $ms ms"
		clean "SIG$sig after $ms ms"
	done
done

# a pvio that somebody else runs there is left alone
"$bin/pvio-hub" 2>/dev/null & hub=$!
pids+=($hub)
until_true 5 test -S "$PVIO_RUNDIR/hub.sock" || die "hub"
pvio sandbox up 2>"$work/err" && die "up beside a foreign hub"
grep -q "in use" "$work/err" || die "up beside a foreign hub says: $(cat "$work/err")"
pvio sandbox down || die "down beside a foreign hub"
kill -0 $hub || die "sandbox down ended a foreign hub"
kill $hub; wait $hub
clean "foreign hub"

# a run directory of its own making goes
PVIO_RUNDIR=$PVIO_RUNDIR/sub pvio sandbox up --guests 0 >/dev/null || die "up in a new directory"
PVIO_RUNDIR=$PVIO_RUNDIR/sub pvio sandbox down || die down
clean "a new directory"
# a daemon that cannot start is named, with its last lines, and everything is taken down
pvio sandbox up --uplink no-such-device >"$work/up" 2>&1 && die "up with a bad uplink"
grep -q "pvio-netback" "$work/up" || die "a bad uplink says: $(cat "$work/up")"
clean "bad uplink"
