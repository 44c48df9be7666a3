#!/bin/bash
# Two Open vSwitches on DPDK as on two hosts, joined by a cable (a veth pair) and a VXLAN tunnel through it; a vif of ours at each, attached by
# vhost-user. TCP from vif to vif through the tunnel.
# alone: it reserves huge pages, which a pvio-netback that starts meanwhile would take
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
. tests/integration/ovs.sh
ovs_need
begin
huge_pages $((2 * OVS_PAGES))
ovs_new west 1
ovs_new east 2
in_netns west ip link add cable mtu 2000 type veth peer name cable mtu 2000 netns "${holders[east]}" || die "no cable"

end() { # NAME OWN-ADDRESS OTHER-ADDRESS : the tunnel's end, behind a bridge with the cable and an address of the host
	in_netns "$1" ip link set cable up
	vsctl "$1" add-br host -- set bridge host datapath_type=netdev -- add-port host cable
	in_netns "$1" ip addr add "$2/24" dev host
	in_netns "$1" ip link set host up
	vsctl "$1" add-port br0 tunnel -- set interface tunnel type=vxlan "options:remote_ip=$3" options:key=79
}
end west 172.31.79.1 172.31.79.2
end east 172.31.79.2 172.31.79.1

netbacks_new
plug west left
plug east right
vif_new 1 left
vif_new 2 right --backend right
tcp_both_ways
came_out_of() { [ "$(timeout 5 ovs-vsctl --db="unix:$work/$1/db.sock" get interface tunnel statistics:rx_packets)" -gt 500 ]; } # told every five seconds
for name in west east; do
	until_true 20 came_out_of $name || die "$name: the packets did not come out of the tunnel: $(vsctl $name get interface tunnel statistics)"
done
