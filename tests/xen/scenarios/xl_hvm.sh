# xl_hvm: a stock HVM guest of xl, its device model in dom0: on Linux' own backends, then with a disk of ours.
# types: hvm
# layers: hvm
# limit: 400
# Under QEMU's emulation of SVM it has not come up so far: emulated devices are slow, and after some minutes Xen reports a triple fault with its
# own registers as the guest's. So it is tried, for two minutes, and skipped if the guest's script has not begun by then.
start_xenstored
start_linux_backends
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
truncate -s 64M /run/lab/disk.img
xl_config hvm stock 10.0.0.2,10.0.0.1 "disk = ['/run/lab/disk.img,raw,xvda,w,script=block-pvio']" "vif = ['type=vif,bridge=xenbr0']" \
	'serial = "file:/run/lab/serial"' 'extra = "console=ttyS0,115200 labu=stock labarg=10.0.0.2,10.0.0.1"'
: >/run/lab/serial
expect "xl create" xl_create hvm || return
if ! wait_for 120 grep -q "^guest: " /run/lab/serial; then
	show <(tail -n 20 /run/lab/serial)
	skip "a guest of type hvm" "under QEMU's emulation of SVM its script has not begun after 120 s"
	xl destroy hvm
	return
fi
expect "the guest powers off" xl_gone hvm 200
guest_verdicts hvm </run/lab/serial
expect "the image is a clean file system" e2fsck -fn /run/lab/disk.img
