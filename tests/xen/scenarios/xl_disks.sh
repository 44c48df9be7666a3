# xl_disks: of the two disks of a stock guest of xl one is ours and the other Linux'; a third comes and goes; without script= both are Linux'.
# types: pv pvh
# limit: 400
start_xenstored
start_linux_backends
background pviod pviod
wait_for 30 pvio version
background blkback pvio-blkback
expect "pviod and pvio-blkback" wait_for 60 backends 1 || { logs pviod blkback; return; }
images=/run/lab/images
mkdir -p $images
for i in linux ours hot; do rm -f $images/$i; truncate -s 64M $images/$i; done
says() { xl_console two | grep -q "$1"; }
devices() { pvio list --json | jq -r '.[] | "\(.guest) \(.name) \(.state) \(.toolstack)"'; }
nodes() { xenstore-ls -f /local/domain/0/backend | grep -E 'backend/(vbd|vif)/'; }
linux_has() { ls /sys/bus/xen-backend/drivers/vbd | sed -n 's/^vbd-[0-9]*-//p' | xargs; }

xl_config two xl_disks raw:xvda,new:xvdb,hot:xvdc "disk = ['$images/linux,raw,xvda,w', '$images/ours,raw,xvdb,w,script=block-pvio']"
expect "xl create with a disk of ours and one of Linux'" xl_create two || { logs pviod blkback; return; }
expect "ours is served" wait_for 90 eval '[ "$(devices)" = "two xvdb Connected other" ]' || show <(devices)
expect "Linux has its own alone" [ "$(linux_has)" = 51712 ]
wait_for 120 says "ready for /dev/xvdc"
expect "xl block-attach" xl block-attach two "$images/hot,raw,xvdc,w,script=block-pvio"
expect "the guest works on it" wait_for 90 says "done with /dev/xvdc"
expect "pvio leaves it to xl" eval '! pvio detach two xvdc'
expect "xl block-detach" xl block-detach two xvdc
expect "the guest powers off" xl_gone two 90
xl_console two | guest_verdicts two
expect "our image is a clean file system" e2fsck -fn $images/ours
expect "no nodes are left" eval '! nodes' || show <(nodes)
expect "pviod has forgotten the guest" wait_for 10 eval '[ -z "$(pvio guest list --json | jq -r ".[] | select(.name == \"two\")")" ]'

expect "a disk that cannot be served is an error of xl create" eval '! xl create /run/lab/two.cfg "disk = [ \"/none,raw,xvda,w,script=block-pvio\" ]" >/run/lab/refused 2>&1'
show /run/lab/refused
expect "... that says why" grep -q "script: .*/none" /run/lab/refused
expect "... and leaves nothing" eval '! nodes && ! xl domid two'

xl_config two xl_disks old:xvdb "disk = ['$images/linux,raw,xvda,w', '$images/ours,raw,xvdb,w']"
expect "going back: xl create of the same guest without script=" xl_create two || return
expect "Linux serves both" [ "$(linux_has)" = "51712 51728" ]
expect "the guest powers off again" xl_gone two 90
xl_console two | guest_verdicts "going back"
logs pviod blkback
