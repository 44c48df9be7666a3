#!/bin/bash
# Open vSwitch on DPDK between vifs: its user-space datapath, in a network namespace with a database of its own. Two bridges of netback, each with an
# uplink to a port of it by vhost-user, of which netback is the back end. TCP from a vif through it to another.
# alone: it needs huge pages, which a pvio-netback that starts meanwhile would take
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
vswitchd=/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk
need root tun jq iperf3 ping ovs-vsctl ovsdb-server
[ -x $vswitchd ] || missing openvswitch-switch-dpdk "Open vSwitch is not built with DPDK here: apt-get install openvswitch-switch-dpdk"
[ "$(cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages 2>/dev/null || echo 0)" -ge 64 ] ||
	missing hugepages "Open vSwitch wants 128 MiB of huge pages for vhost-user: sysctl vm.nr_hugepages=64"
begin
pvio() { "$bin/pvio" "$@"; }
domid_of() { pvio guest list --json | jq -r --arg g "$1" '.[] | select(.name == $g) | .domid'; }
vsctl() { timeout 20 ovs-vsctl --db="unix:$o/db.sock" --timeout=15 "$@" 2>>"$work/vsctl" || die "ovs-vsctl $*: $(tail -3 "$work/vsctl"; tail -5 "$o/log")"; }

o=$work/ovs
mkdir "$o"
export OVS_RUNDIR=$o OVS_LOGDIR=$o OVS_DBDIR=$o OVS_SYSCONFDIR=$o
netns_new ovs
ovsdb-tool create "$o/conf.db" /usr/share/openvswitch/vswitch.ovsschema || die "no database"
nsenter --net="$(netns ovs)" -- ovsdb-server "$o/conf.db" --remote="punix:$o/db.sock" --unixctl="$o/db.ctl" >/dev/null 2>&1 &
pids+=($!)
until_true 10 test -S "$o/db.sock" || die "ovsdb-server does not start"
vsctl --no-wait init
vsctl --no-wait set Open_vSwitch . other_config:dpdk-init=true other_config:dpdk-socket-mem=96 other_config:dpdk-lcore-mask=1 \
	other_config:pmd-cpu-mask=3 other_config:dpdk-extra="--no-pci --no-telemetry --in-memory --single-file-segments"
nsenter --net="$(netns ovs)" -- $vswitchd "unix:$o/db.sock" --unixctl="$o/vs.ctl" --log-file="$o/log" -vconsole:off >/dev/null 2>&1 &
pids+=($!)
dpdk_is_up() { [ "$(timeout 5 ovs-vsctl --db="unix:$o/db.sock" --timeout=4 get Open_vSwitch . dpdk_initialized)" = true ]; }
until_true 20 dpdk_is_up || missing hugepages "Open vSwitch cannot start DPDK here: $(grep -m1 -i 'EAL.*\(error\|cannot\|no free\)' "$o/log")"

vsctl add-br br0 -- set bridge br0 datapath_type=netdev
pvio sandbox up --guests 2 --uplink "left=net_vhost0,iface=$o/left" >"$work/up" || die "sandbox up: $(cat "$work/up")"
"$bin/pvio-netback" --name right --uplink "right=net_vhost0,iface=$o/right" 2>"$work/right.log" &
pids+=($!)
until_true 20 grep -q ready "$work/right.log" || die "no second netback: $(cat "$work/right.log")"
for i in 1 2; do # Open vSwitch takes the place of the guest's driver
	port=$([ $i = 1 ] && echo left || echo right)
	vsctl add-port br0 $port -- set interface $port type=dpdk "options:dpdk-devargs=net_virtio_user$i,path=$o/$port"
done
pvio attach g1 vif 1 bridge=left || die attach
pvio attach g2 vif 1 bridge=right --backend right || die attach
for i in 1 2; do
	netns_new g$i
	"$bin/pvio-tap" --domid "$(domid_of g$i)" --vif 1 --tap eth0 --netns "$(netns g$i)" --wait 20 --address 10.79.0.$i/24 2>>"$work/tap.log" &
	pids+=($!)
	until_true 20 in_netns g$i ip addr show dev eth0 to 10.79.0.$i/24 up || die "no TAP: $(cat "$work/tap.log")"
done
until_true 20 in_netns g1 ping -q -c 1 -W 1 10.79.0.2 || { for port in left right; do vsctl get interface $port link_state statistics; done; die "no way through Open vSwitch: $(grep -i "vhost\|WARN\|ERR" "$o/log" | tail -12)"; }
nsenter --net="$(netns g2)" -- iperf3 -s >/dev/null 2>&1 &
pids+=($!)
until_true 20 in_netns g1 iperf3 -c 10.79.0.2 -n 10M || die "no TCP through Open vSwitch"
until_true 20 in_netns g1 iperf3 -c 10.79.0.2 -n 10M -R || die "no TCP back through Open vSwitch"
