#!/bin/bash
# Other programs on DPDK attach to netback: dpdk-testpmd at the other end of a memif and of vhost-user (either end the server), which sends
# back what comes with its addresses exchanged. A guest sees each of its packets again, also after netback was killed and handed over: a testpmd that waits for
# others stays as it is; one that connects does so once, and is begun anew.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root tun jq python3 dpdk-testpmd
begin
pvio() { "$bin/pvio" "$@"; }
domid_of() { pvio guest list --json | jq -r --arg g "$1" '.[] | select(.name == $g) | .domid'; }

cat >"$work/swapped" <<'PY'
import os, socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
s.bind(("eth0", 0x88b5))
mac, other = s.getsockname()[4], bytes.fromhex("02aa00000001")
mtu = int(sys.argv[1])
want = {i: os.urandom(mtu - 1 - i * (mtu // 51)) for i in range(50)}
deadline = time.time() + 30
while want and time.time() < deadline:  # the link may only just come up: what was lost on it is sent again
    for i, data in want.items():
        s.send(other + mac + b"\x88\xb5" + bytes([i]) + data)
    s.settimeout(0.2)
    try:
        while want:
            f = s.recv(65536)
            if f[:12] == mac + other and f[15:] == want.get(f[14]):
                del want[f[14]]
    except socket.timeout:
        pass
sys.exit("%d packets did not come back" % len(want) if want else 0)
PY

# memory of its own kind, so that the test takes no huge pages; both threads share the CPUs with everybody else
testpmd() { # VDEV MTU
	RUNTIME_DIRECTORY=$work exec dpdk-testpmd --no-huge -m 192 --no-pci --no-telemetry --no-shconf --lcores='(0,1)@(0-1)' --file-prefix "pv$$" --vdev="$1" -- \
		--forward-mode=macswap --auto-start --no-mlockall --total-num-mbufs=4096 --mbuf-size=10240 --max-pkt-len=$(($2 + 18)) --stats-period 60 >"$work/testpmd" 2>&1
}

way() { # TITLE UPLINK VDEV [SOCKET] : that testpmd makes, so that it comes first
	local pmd tap verb waits= mtu=1500
	[[ $3 != *role=client* && $3 != net_virtio_user* || $3 == *server=1* ]] && waits=1
	[[ $2 == *,mtu=* ]] && mtu=${2##*,mtu=}
	[ -n "${4:-}" ] && { testpmd "$3" "$mtu" & pmd=$!; pids+=($!); until_true 20 test -S "$4" || die "$1: $(tail -5 "$work/testpmd")"; }
	pvio sandbox up --guests 1 --uplink "xenbr0=$2" >"$work/up" || die "$1: sandbox up: $(cat "$work/up")"
	[ -n "${4:-}" ] || { testpmd "$3" "$mtu" & pmd=$!; }
	netns_new g1
	"$bin/pvio-tap" --domid "$(domid_of g1)" --vif 0 --tap eth0 --netns "$(netns g1)" --wait 20 2>"$work/tap.log" &
	tap=$!
	pids+=("$pmd" "$tap")
	until_true 20 in_netns g1 ip link show dev eth0 up || die "$1: no TAP: $(cat "$work/tap.log")"
	for verb in begin restart handover; do
		[ $verb = begin ] || pvio backend $verb netback >"$work/replaced" 2>&1 || die "$1: $verb: $(cat "$work/replaced"; tail -n 5 "$PVIO_RUNDIR/pvio-netback.log")"
		if [ $verb != begin ] && [ -z "$waits" ]; then
			kill "$pmd"
			wait "$pmd" 2>/dev/null
			testpmd "$3" "$mtu" &
			pmd=$!
			pids+=("$pmd")
		fi
		in_netns g1 python3 "$work/swapped" "$mtu" || die "$1: $verb: $(tail -5 "$work/testpmd"; pvio stats g1 0 --json)"
	done
	pvio stats g1 0 --json | jq -e '[.. | objects | .uplink? | select(. != null)][0].carrier == 1' >/dev/null || die "$1: the uplink has no carrier"
	kill $tap $pmd
	wait $tap $pmd 2>/dev/null
	pvio sandbox down >/dev/null
	kill "${holders[g1]}"
	wait "${holders[g1]}" 2>/dev/null
	unset 'holders[g1]'
	pids=()
	echo "$1: 50 packets out and back, up to $mtu bytes, after a kill and a handover as well"
}

way "memif" "net_memif0,role=server,socket=$work/memif,socket-abstract=no" "net_memif0,role=client,socket=$work/memif,socket-abstract=no"
way "vhost-user" "net_vhost0,iface=$work/vhost,mtu=9000" "net_virtio_user0,path=$work/vhost,queues=1"
way "vhost-user, as client" "net_vhost0,iface=$work/vhostc,client=1" "net_virtio_user0,path=$work/vhostc,queues=1,server=1"
way "virtio_user" "net_virtio_user0,path=$work/virtio,queues=1,mtu=9000" "net_vhost0,iface=$work/virtio" "$work/virtio"
