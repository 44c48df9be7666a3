# noxs_guest: programs in a guest that pviod built find devices by the pointer, with no xenstored; hot attach and detach in both dialects.
# types: pv pvh
# short: pv
# limit: 400
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
images=/run/lab/images
mkdir -p $images
for i in a b c; do rm -f $images/$i; truncate -s 64M $images/$i; done
says() { console noxs | grep -q "$1"; }
console() { cat "/run/lab/console/$1.log"; }
dialect() { pvio inspect noxs "$1" --json | jq -r '.. | .dialect? // empty'; } # DEVICE

rm -f /run/lab/console/noxs.log
expect "pvio guest create" pvio guest create noxs --type "$TYPE" --kernel /boot/vmlinux --ramdisk "$(ramdisk front)" --memory 192 \
	--cmdline "console=hvc0 quiet loglevel=4 panic=5 labu=noxs labarg=10.0.0.2,10.0.0.1" || { logs pviod; return; }
wait_for 120 says "ready for the pointer"
expect "pvio attach" pvio attach noxs vbd xvda path=$images/a --dialect noxs || { logs pviod blkback; return; }
expect "... and a vif" pvio attach noxs vif 0 --dialect noxs
expect "the disk is in shared pages" eval '[ "$(dialect xvda)" = noxs ]'
wait_for 120 says "ready for xvdb"
expect "hot attach" pvio attach noxs vbd xvdb path=$images/b --dialect noxs
wait_for 120 says "done with xvdb"
expect "hot detach" pvio detach noxs xvdb
expect "hot attach for the guest's kernel" pvio attach noxs vbd xvdc path=$images/c --wait 60
expect "that is the dialect unless another is asked for" eval '[ "$(dialect xvdc)" = xenstore ]'
wait_for 120 says "done with xvdc"
expect "hot detach from the guest's kernel" pvio detach noxs xvdc --timeout 30
expect "the guest powers off" pvio_gone noxs 120
console noxs | guest_verdicts noxs
expect "the kernel's image is a clean file system" e2fsck -fn $images/c
expect "no xenstored was needed" eval '! pidof xenstored'
logs pviod blkback netback
