# stock: a stock guest on our backends, built by pviod: no xenstored, no libxl. In short what stock_guest does at length.
# types: pv pvh
# short: yes
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
truncate -s 64M /run/lab/disk.img
expect "pvio guest create" pvio_guest stock stock 10.0.0.2,10.0.0.1 --vbd "xvda path=/run/lab/disk.img" --vif "" || return
expect "the guest powers off" pvio_gone stock 150
pvio_console stock | guest_verdicts stock
expect "the image is a clean file system" e2fsck -fn /run/lab/disk.img
expect "no xenstored was needed" test ! -e /run/xen/xenstored.pid
logs pviod blkback netback
