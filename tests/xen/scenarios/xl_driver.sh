# xl_driver: a driver domain of xl's runs our backends, and serves the disk and the interface of a stock guest of xl's.
# types: pv
# limit: 600
# memory: 3584
start_xenstored
modprobe -a xen-blkback xen-netback # in dom0, where they must not matter
background pviod pviod
expect "pviod" wait_for 30 pvio version || return
says() { xl_console storage | grep -q "$1"; }
devices() { pvio list web --json | jq -r '.[] | "\(.name) \(.state) \(.backend) \(.toolstack)"' | xargs; }
nodes() { xenstore-ls -f | grep -E '/backend/(vbd|vif)/'; }

xl_config storage driver 10.0.0.1 "memory = 384" "ramdisk = '$(ramdisk back)'"
expect "xl create of the driver domain" xl_create storage || return
for p in 0 1; do expect "pipe $p" pvio attach storage pipe || { logs pviod; return; }; done
expect "its backends come through the pipes" wait_for 240 backends 2 || { xl_console storage | show; logs pviod; return; }
wait_for 90 says "ready"

xl_config web stock 10.0.0.2,10.0.0.1 "disk = ['/run/disk.img,raw,xvda,w,backend=storage,script=block-pvio']" \
	"vif = ['bridge=xenbr0,mac=00:16:3e:00:00:02,backend=storage,script=vif-pvio']"
expect "xl create with backend=storage" xl_create web || { show <(pvio list; nodes); logs pviod; return; }
expect "the driver domain serves both" wait_for 90 eval '[ "$(devices)" = "0 Connected storage/netback other xvda Connected storage/blkback other" ] ||
	[ "$(devices)" = "xvda Connected storage/blkback other 0 Connected storage/netback other" ]' || show <(pvio list)
expect "the guest powers off" xl_gone web 150
xl_console web | guest_verdicts web
expect "no nodes are left" wait_for 10 eval '! nodes' || show <(nodes)
expect "xl destroy of the driver domain" xl destroy storage
expect "pviod has forgotten both" wait_for 20 eval '[ -z "$(pvio guest list --json | jq -r ".[].name // empty")" ]' || show <(pvio guest list)
expect "xl list is clean" wait_for 20 eval '[ "$(xl list | wc -l)" = 2 ]' || show <(xl list)
xl_console storage | tail -n 20 | show
logs pviod
