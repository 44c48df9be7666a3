#!/bin/bash
# Open vSwitch on DPDK between vifs: two bridges of netback, each with an uplink to a port of it by vhost-user. TCP from a vif through it to another.
# alone: it reserves huge pages, which a pvio-netback that starts meanwhile would take
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
. tests/integration/ovs.sh
ovs_need
begin
huge_pages $OVS_PAGES
ovs_new ovs 3
netbacks_new
plug ovs left
plug ovs right
vif_new 1 left
vif_new 2 right --backend right
tcp_both_ways
