# xl_stock: a stock guest of xl on Linux' own backends: the lab itself is sound.
# types: pv pvh
start_xenstored
start_linux_backends
truncate -s 64M /run/lab/disk.img
xl_config stock stock 10.0.0.2,10.0.0.1 "disk = ['format=raw,vdev=xvda,access=rw,target=/run/lab/disk.img']" "vif = ['bridge=xenbr0']"
expect "xl create" xl_create stock || return
expect "the guest powers off" xl_gone stock 120
xl_console stock | guest_verdicts stock
expect "the image is a clean file system" e2fsck -fn /run/lab/disk.img
