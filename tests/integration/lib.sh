# lib.sh - for the scripts that bring up a whole pvio on the loopback hypervisor. Source it with the repository's root as cwd.
# Each script has a run directory of its own and leaves the machine as it found it.

bin=${PVIO_BIN:-$PWD/build}

# What to do without something that this machine must have: a test is skipped.
missing() { # NEED REASON
	echo "SKIP need=$1: $2"
	exit 77
}

# need THING... : the first that is missing, in one line.
need() {
	local n
	for n; do
		case $n in
		root) [ "$(id -u)" = 0 ] || missing root "only root can make network namespaces and TAPs; run this as root" ;;
		tun) [ -c /dev/net/tun ] || missing tun "there is no /dev/net/tun; load the tun module (modprobe tun)" ;;
		uring) [ "$(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null || echo 0)" = 0 ] ||
			missing uring "io_uring is disabled; set sysctl kernel.io_uring_disabled=0" ;;
		*) command -v "$n" >/dev/null || missing "$n" "the command $n is not installed" ;;
		esac
	done
}

die() {
	echo "FAILED: $*" >&2
	exit 1
}

# A snapshot of what a run could leave behind: network namespaces and links, mounts, shared memory, run directories, huge pages. Of
# processes only those whose environment names this run: others may come and go on the machine. So may their run directories.
snapshot() {
	local p
	echo "# processes"
	for p in /proc/[0-9]*; do
		grep -qzx "PVIO_RUN_MARK=$PVIO_RUN_MARK" "$p/environ" 2>/dev/null && tr '\0' ' ' <"$p/cmdline" && echo
	done 2>/dev/null | grep -E '^[^ ]*(pvio|pviod|iperf3|ping|nsenter|netns-holder)' | sort
	echo "# network namespaces"; lsns -t net -n -o NS 2>/dev/null | sort; ls /run/netns 2>/dev/null
	echo "# links"; ip -o link | cut -d: -f2 | sort
	echo "# mounts"; cut -d' ' -f2,3 /proc/self/mounts | sort
	echo "# /dev/shm"; ls -A /dev/shm
	echo "# /run"; ls -A /run | grep -v '^pvio\.'; ls -Ad "${PVIO_RUNDIR:-/nonexistent}" 2>/dev/null
	echo "# huge pages"; grep HugePages_Total /proc/meminfo
}
export PVIO_RUN_MARK=${PVIO_RUN_MARK:-$$.$RANDOM} # inherited by all that a run starts

# A network namespace without a mount: a process that holds it. netns_new NAME; its path is $(netns NAME).
declare -A holders
netns_new() {
	unshare --net bash -c 'exec -a netns-holder sleep 3600' </dev/null >/dev/null 2>&1 &
	holders[$1]=$!
	until [ "$(readlink "/proc/${holders[$1]}/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
	in_netns "$1" ip link set lo up
}
netns() { echo "/proc/${holders[$1]}/ns/net"; }
in_netns() { # NAME COMMAND...
	local name=$1
	shift
	nsenter --net="$(netns "$name")" -- "$@"
}

# until_true SECONDS COMMAND... : poll until it succeeds
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# So many huge pages of 2 MiB are free, or the test is skipped; those that this run reserves are given back by clean_up. Call after begin.
huge=/sys/kernel/mm/hugepages/hugepages-2048kB huge_ours=0
huge_pages() { # N
	local free before
	free=$(cat $huge/free_hugepages 2>/dev/null || echo 0)
	[ "$free" -lt "$1" ] || return 0
	before=$(cat $huge/nr_hugepages 2>/dev/null) && echo $((before + $1 - free)) 2>/dev/null >$huge/nr_hugepages
	huge_ours=$(($(cat $huge/nr_hugepages 2>/dev/null || echo 0) - ${before:-0}))
	free=$(cat $huge/free_hugepages 2>/dev/null || echo 0)
	[ "$free" -ge "$1" ] || missing hugepages "$1 huge pages of 2 MiB are wanted, and only $free can be had: sysctl vm.nr_hugepages=$1"
}

pids=()
background() { # COMMAND... : remembered and ended by clean_up
	"$@" &
	pids+=($!)
}

clean_up() {
	trap '' INT TERM
	local p
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
	for p in "${pids[@]}"; do wait "$p" 2>/dev/null; done
	[ -S "$PVIO_RUNDIR/pviod.sock" ] || [ -e "$PVIO_RUNDIR/hub.sock" ] && "$bin/pvio" sandbox down >/dev/null 2>&1
	for p in "${holders[@]}"; do kill "$p" 2>/dev/null; wait "$p" 2>/dev/null; done
	[ "$huge_ours" = 0 ] || echo $(($(cat $huge/nr_hugepages) - huge_ours)) >$huge/nr_hugepages # others may have reserved some meanwhile
	rm -rf "$work" "$PVIO_RUNDIR"
}

begin() {
	export PVIO_HYPERVISOR=loopback
	work=$(mktemp -d /tmp/pvio.XXXXXX)
	PVIO_RUNDIR=$(mktemp -d /run/pvio.XXXXXX) || PVIO_RUNDIR=$(mktemp -d)
	export PVIO_RUNDIR
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}
