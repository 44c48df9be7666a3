# verdicts.sh - for scenarios of all labs: bash in the emulated machine, sourced by its lib.sh.
#
# Verdicts: expect WHAT COMMAND..., or pass WHAT, fail WHAT WHY, skip WHAT WHY, info TEXT. The rest of what is printed is for people.

verdict() {
	echo "$1"
	echo "$1" >>/run/lab/verdicts
}
pass() { verdict "PASS $1"; }
fail() { verdict "FAIL $1: $2"; }
skip() { verdict "SKIP $1: $2"; }
info() { verdict "INFO $1"; } # a figure, say: kept with the verdicts, judged by nobody
show() { sed 's/^/  | /' "$@"; } # output that must not be taken for a verdict

expect() { # WHAT COMMAND... : pass if it succeeds, else its output is shown
	local what=$1
	shift
	"$@" >/run/lab/out 2>&1 && { pass "$what"; return; }
	fail "$what" "$* ended with $?: $(tail -n1 /run/lab/out)"
	show /run/lab/out
	return 1
}

wait_for() { # SECONDS COMMAND... : until it succeeds
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

pids=()
background() { # NAME COMMAND... : ends with the scenario
	local name=$1
	shift
	"$@" >"/run/lab/$name.log" 2>&1 </dev/null &
	pids+=($!)
}
logs() { # NAME... : what these said
	local n
	for n; do echo "  | -- $n"; show "/run/lab/$n.log"; done
}
end_background() {
	[ ${#pids[@]} = 0 ] && return
	kill "${pids[@]}" 2>/dev/null
	wait "${pids[@]}" 2>/dev/null
}
trap end_background EXIT
