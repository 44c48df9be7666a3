# scenario.sh - for the /init of each lab's machine: run scenarios, and say at the end what came of them.

scenario() { # LABEL NAME SECONDS : /lab/NAME.sh; its verdicts, each with LABEL before it, go to /run/lab/all. Returns what it ended with
	local rc
	: >/run/lab/verdicts
	timeout -k 5 "$3" bash -c '. /lab/lib.sh; . "/lab/$0.sh"; true' "$2" </dev/null
	rc=$?
	case $rc in
	0) [ -s /run/lab/verdicts ] || echo "FAIL $2: it judged nothing" >>/run/lab/verdicts ;;
	124 | 137 | 143) echo "FAIL $2: not at its end after $3 s" >>/run/lab/verdicts ;;
	*) echo "FAIL $2: it ended with $rc" >>/run/lab/verdicts ;;
	esac
	sed "s/^/$1 /" /run/lab/verdicts >>/run/lab/all
	return $rc
}

tainted() { echo $(($(cat /proc/sys/kernel/tainted) & (1 << 7 | 1 << 9))); } # an oops, a warning

say_all() { # LABEL : that of what the kernel did
	if [ "$(tainted)" != 0 ]; then
		dmesg | tail -60
		echo "$1 FAIL kernel: it oopsed or warned" >>/run/lab/all
	fi
	dmesg -n 1
	echo "=== verdicts"
	cat /run/lab/all
	echo "=== done"
}
