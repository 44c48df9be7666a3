# xl_noxs: programs in a guest that xl built find devices by the pointer, under a running xenstored; hot attach and detach in both dialects.
# types: pv pvh
# limit: 400
start_xenstored
start_linux_backends # they must leave alone what is not theirs
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
images=/run/lab/images
mkdir -p $images
for i in a b c; do rm -f $images/$i; truncate -s 64M $images/$i; done
says() { xl_console noxs | grep -q "$1"; }
nodes() { xenstore-ls -f /local/domain/0 | grep -E 'backend/(vbd|vif)/'; }

xl_config noxs noxs 10.0.0.2,10.0.0.1 "ramdisk = '$(ramdisk front)'"
expect "xl create" xl_create noxs || return
wait_for 120 says "ready for the pointer"
expect "pvio attach by the name that xl knows" pvio attach noxs vbd xvda path=$images/a --dialect noxs || { logs pviod blkback; return; }
expect "... and by the domid" pvio attach "$(xl domid noxs)" vif 0 --dialect noxs
expect "pvio knows the guest as another toolstack's" eval '[ "$(pvio guest list --json | jq -r ".[] | select(.name == \"noxs\").toolstack")" = other ]'
wait_for 120 says "ready for xvdb"
expect "hot attach" pvio attach noxs vbd xvdb path=$images/b --dialect noxs
wait_for 120 says "done with xvdb"
expect "hot detach" pvio detach noxs xvdb
expect "hot attach for the guest's kernel" pvio attach noxs vbd xvdc path=$images/c --dialect xenstore --wait 60
expect "Linux' driver in dom0 has not taken it" eval '! ls /sys/bus/xen-backend/drivers/vbd | grep ^vbd-'
wait_for 120 says "done with xvdc"
expect "hot detach from the guest's kernel" pvio detach noxs xvdc --timeout 30
expect "the guest powers off" xl_gone noxs 120
xl_console noxs | guest_verdicts noxs
expect "the kernel's image is a clean file system" e2fsck -fn $images/c
expect "no nodes are left" eval '! nodes' || show <(nodes)
expect "pviod has forgotten the guest" wait_for 10 eval '[ -z "$(pvio guest list --json | jq -r ".[] | select(.name == \"noxs\")")" ]'
expect "xl list is clean" eval '[ "$(xl list | wc -l)" = 2 ]' || show <(xl list)
logs pviod blkback netback
