# ovs.sh - Open vSwitch on DPDK for the scripts that source this behind lib.sh: its user-space datapath, each in a network namespace with a
# database of its own, and vifs attached to it by vhost-user, of which netback is the back end. They need huge pages: OVS_PAGES for each.

OVS_PAGES=52
vswitchd=/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk

ovs_need() {
	need root tun jq iperf3 ping ovs-vsctl ovsdb-server
	[ -x $vswitchd ] || missing openvswitch-switch-dpdk "Open vSwitch is not built with DPDK here: apt-get install openvswitch-switch-dpdk"
}

vsctl() { # NAME ARGS...
	local o=$work/$1
	shift
	timeout 20 ovs-vsctl --db="unix:$o/db.sock" --timeout=15 "$@" 2>>"$work/vsctl" || die "ovs-vsctl $*: $(tail -3 "$work/vsctl"; tail -5 "$o/log")"
}

dpdk_is_up() { [ "$(timeout 5 ovs-vsctl --db="unix:$work/$1/db.sock" --timeout=4 get Open_vSwitch . dpdk_initialized)" = true ]; }

ovs_new() { # NAME CPU-MASK : one, with a bridge br0; it is in the network namespace NAME
	local o=$work/$1 mask=$2
	mkdir "$o"
	local -x OVS_RUNDIR=$o OVS_LOGDIR=$o OVS_DBDIR=$o OVS_SYSCONFDIR=$o
	netns_new "$1"
	ovsdb-tool create "$o/conf.db" /usr/share/openvswitch/vswitch.ovsschema || die "no database"
	nsenter --net="$(netns "$1")" -- ovsdb-server "$o/conf.db" --remote="punix:$o/db.sock" --unixctl="$o/db.ctl" >/dev/null 2>&1 &
	pids+=($!)
	until_true 10 test -S "$o/db.sock" || die "ovsdb-server does not start"
	vsctl "$1" --no-wait init
	vsctl "$1" --no-wait set Open_vSwitch . other_config:dpdk-init=true other_config:dpdk-socket-mem=96 other_config:dpdk-lcore-mask=1 \
		"other_config:pmd-cpu-mask=$mask" other_config:dpdk-extra="--no-pci --no-telemetry --in-memory --single-file-segments"
	nsenter --net="$(netns "$1")" -- $vswitchd "unix:$o/db.sock" --unixctl="$o/vs.ctl" --log-file="$o/log" -vconsole:off >/dev/null 2>&1 &
	pids+=($!)
	until_true 20 dpdk_is_up "$1" || missing hugepages "Open vSwitch cannot start DPDK here: $(grep -m1 -i 'EAL.*\(error\|cannot\|no free\)' "$o/log")"
	vsctl "$1" add-br br0 -- set bridge br0 datapath_type=netdev
}

# Two bridges of netback, left and right, each of a process of its own: their uplinks wait for an Open vSwitch at $work/left and $work/right.
netbacks_new() {
	"$bin/pvio" sandbox up --guests 2 --uplink "left=net_vhost0,iface=$work/left" >"$work/up" || die "sandbox up: $(cat "$work/up")"
	background "$bin/pvio-netback" --name right --uplink "right=net_vhost0,iface=$work/right" 2>"$work/right.log"
	until_true 20 grep -q ready "$work/right.log" || die "no second netback: $(cat "$work/right.log")"
}

plug() { # NAME PORT : Open vSwitch takes the place of a guest's driver
	vsctl "$1" add-port br0 "$2" -- set interface "$2" type=dpdk "options:dpdk-devargs=net_virtio_user_$2,path=$work/$2"
}

# A vif for guest N, in the network namespace gN as 10.79.0.N: vif_new N BRIDGE ATTACH-ARGS...
vif_new() {
	local n=$1 bridge=$2
	shift 2
	"$bin/pvio" attach "g$n" vif 1 "bridge=$bridge" "$@" || die "attach"
	netns_new "g$n"
	background "$bin/pvio-tap" --domid "$("$bin/pvio" guest list --json | jq -r --arg g "g$n" '.[] | select(.name == $g) | .domid')" --vif 1 --tap eth0 \
		--netns "$(netns "g$n")" --wait 20 --address "10.79.0.$n/24" 2>>"$work/tap.log"
	until_true 20 in_netns "g$n" ip addr show dev eth0 to "10.79.0.$n/24" up || die "no TAP: $(cat "$work/tap.log")"
}

tcp_both_ways() { # from g1 to g2 and back
	until_true 20 in_netns g1 ping -q -c 1 -W 1 10.79.0.2 || die "no way through Open vSwitch: $(grep -ih "vhost\|WARN\|ERR" "$work"/*/log | tail -12)"
	nsenter --net="$(netns g2)" -- iperf3 -s >/dev/null 2>&1 &
	pids+=($!)
	until_true 20 in_netns g1 timeout 60 iperf3 -c 10.79.0.2 -n 4M || die "no TCP through Open vSwitch"
	until_true 20 in_netns g1 timeout 60 iperf3 -c 10.79.0.2 -n 4M -R || die "no TCP back through Open vSwitch"
}
