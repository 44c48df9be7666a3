# killed: whatever step apply, claim and release are killed at, the next command finishes or undoes it.
# limit: 900
need nic || return
# A command is killed as it makes the Nth of each of these system calls, for every N that it comes to.
CALLS="write sendto rename renameat renameat2 unlink unlinkat"
killed_at() { # CALL N COMMAND... : was it killed?
	local call=$1 n=$2
	shift 2
	strace -f -qq -o /run/lab/strace -e trace="$call" -e inject="$call:signal=KILL:when=$n" "$@" >/run/lab/out 2>&1
	grep -q 'killed by SIGKILL' /run/lab/strace
} 2>/dev/null # the shell's own word about it
everywhere() { # BEFORE AFTER COMMAND... : BEFORE makes what the command begins with, AFTER judges what is made of it when it was killed
	local before=$1 after=$2 call n places=0 bad=0
	shift 2
	for call in $CALLS; do
		for ((n = 1; n < 50; n++)); do
			$before >/run/lab/out 2>&1 || { fail "$3: before it is killed at $call number $n" "$(tail -n1 /run/lab/out)"; return; }
			killed_at "$call" $n "$@" || break
			places=$((places + 1))
			$after >/run/lab/out 2>&1 && continue
			bad=$((bad + 1))
			fail "$3, killed at $call number $n" "$(tail -n1 /run/lab/out)"
			show /run/lab/out
			tail -n2 /run/lab/strace | show
		done
	done
	expect "$3, killed at $places places, is finished or undone each time" [ $places -gt 5 -a $bad = 0 ]
}

declare_nic 2 >/run/lab/two
applied() { pvio vf apply /run/lab/two && is "$(number $nic)" 2 && as_declared 2; }
everywhere fresh applied pvio vf apply /run/lab/two

fresh
applied >/dev/null
one=$(vf $nic 0)
record=/var/lib/pvio/vf/vf-$one.json
free() { [ ! -e "$record" ] || pvio vf release "$one"; }
taken() { [ -e "$record" ] || pvio vf claim "$one" --for web --driver vfio-pci vlan=42; }
sane() { # either web has it, or the next one gets it; it comes back as it was
	pvio vf claim "$one" --for next --driver vfio-pci || says web pvio vf claim "$one" --for next || return
	pvio vf release "$one" && is "$(told $nic 0 | cut -d' ' -f2)" 100 && [ ! -e "$record" ]
}
everywhere free sane pvio vf claim "$one" --for web --driver vfio-pci vlan=42
everywhere taken sane pvio vf release "$one"
