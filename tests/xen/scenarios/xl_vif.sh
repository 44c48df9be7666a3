# xl_vif: of the two interfaces of a stock guest of xl one is ours and the other Linux'; a third comes and goes.
# types: pv pvh
# limit: 400
start_xenstored
start_linux_backends
ip link set xenbr0 up
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
ip addr flush dev pvio0 # start_pvio has the same network on both
ip addr add 10.0.1.1/24 dev pvio0
ip link set xenbr0 up
background iperf3 iperf3 -s
says() { xl_console two | grep -q "$1"; }
devices() { pvio list --json | jq -r '.[] | "\(.guest) \(.name) \(.state) \(.toolstack)"'; }
nodes() { xenstore-ls -f /local/domain/0/backend | grep -E 'backend/(vbd|vif)/'; }

xl_config two xl_vif eth0:10.0.0.2:10.0.0.1,eth1:10.0.1.2:10.0.1.1,hot:eth2:10.0.1.3:10.0.1.1 \
	"vif = ['bridge=xenbr0', 'bridge=xenbr0,mac=00:16:3e:00:00:02,script=vif-pvio']"
expect "xl create with an interface of ours and one of Linux'" xl_create two || { logs pviod netback; return; }
expect "ours is served" wait_for 90 eval '[ "$(devices)" = "two 1 Connected other" ]' || show <(devices)
expect "it has xl's address" eval '[ "$(pvio list --json | jq -r ".[].offer.mac")" = 00:16:3e:00:00:02 ]'
wait_for 120 says "ready for eth2"
expect "xl network-attach" xl network-attach two bridge=xenbr0 script=vif-pvio
expect "the guest works on it" wait_for 90 says "done with eth2"
expect "xl network-detach" xl network-detach two 2
expect "the guest powers off" xl_gone two 90
xl_console two | guest_verdicts two
expect "no nodes are left" eval '! nodes' || show <(nodes)
expect "xl create with a rate" xl create /run/lab/two.cfg 'vif = ["bridge=xenbr0,script=vif-pvio,rate=10Mb/s"]'
expect "netback keeps it" wait_for 30 eval '[ "$(pvio list --json | jq -r ".[].config.rate")" = 62500,50000 ]' || show <(pvio list --json)
expect "xl destroy" xl destroy two
logs pviod netback
