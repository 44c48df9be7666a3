#!/bin/bash
# A guest with a vif and a VF that are one interface (pvio-tap --vf; a veth pair stands for the VF, plugged into the same Linux bridge as the vif):
# numbered packets go there and back without a pause while the VF is taken away and returned 20 times, ten times announced by dom0 and ten not.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root tun jq python3 ping
begin
pulls=10 # of each kind
bound=32 # packets lost in a pull that nobody announced: the 16 that are on the way (flow.py), and as many probes, ten a second, until it is noticed
pvio() { "$bin/pvio" "$@"; }
host() { in_netns host "$@"; }
mac=00:16:3e:00:00:42 vf=0000:01:10.0

netns_new host # dom0, with the bridge
netns_new dev # where the guest has its devices
netns_new guest # ... and its stack
host ip link add xenbr0 address 00:16:3e:00:00:01 type bridge 2>/dev/null || missing bridge "this kernel has no bridges (modprobe bridge)"
host ip link set xenbr0 up
host ip addr add 10.79.0.254/24 dev xenbr0
host "$bin/pvio" sandbox up --guests 1 --uplink inner=none >"$work/up" || die "sandbox up: $(cat "$work/up")"
pvio attach g1 vif 1 bridge=xenbr0 mac=$mac pair=$vf >/dev/null || die "attach"

vf_comes() {
	host ip link add vfp type veth peer name vf0 address $mac netns "$(netns dev)" && host ip link set vfp master xenbr0 up
}
uses() { [ "$(pvio list g1 --json | jq -r '.[] | select(.name == "1") | .pair_used')" = "$1" ]; }
moves() { # packets go on coming
	local n
	n=$(wc -l <"$work/progress")
	until_true 20 eval "[ \$(wc -l <$work/progress) -gt $((n + 1)) ]" || die "no packets pass: $(pvio list; cat "$work/tap.log")"
}
flow_begin() {
	: >"$work/progress"
	nsenter --net="$(netns host)" -- python3 tests/integration/flow.py echo 10.79.0.254 7000 >"$work/echo" &
	echo_pid=$!
	until_true 20 host sh -c 'ss -lun | grep -q :7000' || die "no echo"
	nsenter --net="$(netns guest)" -- python3 tests/integration/flow.py send 10.79.0.254 7000 "$work/progress" >"$work/sent" &
	send_pid=$!
	pids+=($echo_pid $send_pid)
	moves
}
flow_end() { # MOST : as many may be lost
	kill $send_pid && wait $send_pid
	kill $echo_pid && wait $echo_pid
	jq -se --argjson most "$1" '.[0].lost <= $most and .[0].came > 100 and all(.[]; .twice == 0 and .late == 0)' "$work/sent" "$work/echo" >/dev/null ||
		die "sent: $(cat "$work/sent"); echoed: $(cat "$work/echo"); at most $1 may be lost, none come twice or late"
	echo "$2: $(jq -c '{sent, lost}' "$work/sent")"
}

vf_comes || die "no veth"
background nsenter --net="$(netns dev)" -- "$bin/pvio-tap" --domid 1 --vif 1 --tap eth0 --netns "$(netns guest)" --vf vf0 --wait 20 --address 10.79.0.1/24 2>"$work/tap.log"
tap=${pids[-1]}
until_true 20 in_netns guest ping -q -c 1 -W 1 10.79.0.254 || die "no path: $(cat "$work/tap.log")"
until_true 20 uses vf || die "the VF is not used: $(pvio list g1 --json; cat "$work/tap.log")"
in_netns dev ip -6 addr show dev vf0 | grep -q fe80 && die "the kernel speaks on the VF"

# ---- announced: nothing is lost
flow_begin
for ((i = 0; i < pulls; i++)); do
	pvio pair g1 $vf vif || die "the guest does not leave the VF: $(cat "$work/tap.log")"
	uses vif || die "pvio pair did not wait"
	host ip link set vfp down
	moves
	host ip link set vfp up
	pvio pair g1 vif1 vf || die "the guest does not return to the VF: $(cat "$work/tap.log")"
done
flow_end 0 "announced"

# ---- not announced: what was on the way
flow_begin
for ((i = 0; i < pulls; i++)); do
	if ((i % 2)); then host ip link set vfp down; else host ip link del vfp; fi
	moves
	uses vif || until_true 20 uses vif || die "the VF is gone, and used: $(pvio list g1 --json)"
	if ((i % 2)); then host ip link set vfp up; else vf_comes; fi
	until_true 20 uses vf || die "the VF is back, and not used: $(cat "$work/tap.log")"
done
moves
flow_end $((pulls * bound)) "not announced"

# ---- a VF that is attached and detached (by a backend that does nothing): the guest is told before
cat >"$work/pciback.py" <<'END'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
f = s.makefile("rw")
say = lambda **o: (f.write(json.dumps({"jsonrpc": "2.0", **o}) + "\n"), f.flush())
say(id=1, method="register", params={"kind": "vf", "name": "pciback", "pid": 1, "version": "test", "domid": 0})
for line in f:
    call = json.loads(line)
    if "method" in call and "id" in call:
        say(id=call["id"], result={"functions": 1} if call["method"] == "prepare" else None)
END
background python3 "$work/pciback.py" "$PVIO_RUNDIR/pviod.sock"
has_pciback() { pvio backend list | grep -q pciback; }
until_true 20 has_pciback || die "no backend for the VF"
pvio attach g1 vf 0 $vf >/dev/null || die "attach vf"
pvio detach g1 vf 0 || die "detach vf"
uses vif || die "the VF was taken away before the guest had left it"
pvio attach g1 vf 0 $vf >/dev/null || die "attach vf, again"
until_true 20 uses vf || die "the VF is there again, and not used"
pvio detach g1 vf0 || die "detach vf, again"
uses vif || die "the VF was taken away before the guest had left it, again"
pvio pair g1 $vf vf || die "pair"

# ---- without a guest that knows of pairs
kill "$tap" && wait "$tap"
grep -q "turned to the VF $((2 * pulls + 3)) times, to the vif $((2 * pulls + 2))" "$work/tap.log" || die "$(cat "$work/tap.log")"
pvio pair g1 $vf vif || die "with nobody there, there is nobody to wait for"
pvio pair g1 $vf both 2>/dev/null && die "neither vf nor vif"
pvio pair g1 0000:01:10.1 vif 2>"$work/err" && die "there is no such VF"
grep -q "pair=" "$work/err" || die "the error does not tell what to do: $(cat "$work/err")"
echo ok
