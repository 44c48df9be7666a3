# xl_alone: dom0 has none of Linux' backends: both devices of a stock guest of xl are ours, and nothing unbinds anybody.
# types: pv pvh
# limit: 300
start_xenstored
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
expect "Linux' backends are not loaded" eval '! grep -qE "^xen_(blk|net)back " /proc/modules'
rm -f /run/lab/alone.img
truncate -s 64M /run/lab/alone.img
nodes() { xenstore-ls -f /local/domain/0/backend | grep -E 'backend/(vbd|vif)/'; }
xl_config alone stock 10.0.0.2,10.0.0.1 "disk = ['/run/lab/alone.img,raw,xvda,w,script=block-pvio']" "vif = ['bridge=xenbr0,script=vif-pvio']"
expect "xl create" xl_create alone || { logs pviod blkback netback; return; }
expect "the guest powers off" xl_gone alone 120
xl_console alone | guest_verdicts alone
expect "the image is a clean file system" e2fsck -fn /run/lab/alone.img
expect "no nodes are left" eval '! nodes' || show <(nodes)
expect "a disk that cannot be served is an error that says why" eval '! xl create /run/lab/alone.cfg "disk = [ \"/none,raw,xvda,w,script=block-pvio\" ]" >/run/lab/refused 2>&1 &&
	grep -q "script: .*/none" /run/lab/refused' || show /run/lab/refused
expect "... and leaves nothing" eval '! nodes && ! xl domid alone'
logs pviod blkback netback
