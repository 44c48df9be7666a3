# stock_guest: all that a stock guest does with a disk and an interface of ours, found in the XenStore that pviod serves: I/O, offloads, drivers
# that go and come, a disk that comes, grows under its file system and goes, and a poweroff without a delay.
# types: pv pvh
# limit: 600
name=busy
said() { pvio_console $name | grep -aq "guest: $1"; }
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
background iperf3 iperf3 -s -B 10.0.0.1
truncate -s 64M /run/lab/disk.img
truncate -s 48M /run/lab/second.img
expect "pvio guest create" pvio_guest $name stock_guest 10.0.0.2,10.0.0.1 --vbd "xvda path=/run/lab/disk.img" --vif "" || return
expect "the guest asks for a disk" wait_for 400 said "wants xvdb"
show <(pvio list)
show <(pvio stats)
expect "attach while it runs" pvio attach $name vbd xvdb path=/run/lab/second.img --wait 60
expect "the guest wants it larger" wait_for 100 said "wants xvdb larger"
expect "resize while it is mounted" pvio resize $name xvdb 80M
expect "it is done with the disk" wait_for 100 said "is done with xvdb"
expect "detach while it runs" pvio detach $name xvdb --timeout 60
expect "the guest powers off" pvio_gone $name 200
pvio_console $name | guest_verdicts $name
# What each device costs that is not closed as Linux expects is 5 s, and the kernel says so.
off=$(pvio_console $name | sed -n 's/^\[ *\([0-9.]*\)\] reboot: .*/\1/p' | tail -1)
done=$(pvio_console $name | sed -n 's/^guest: done .* after \([0-9.]*\) s.*/\1/p' | tail -1)
info "poweroff of a $TYPE guest: $(jq -n "(($off - $done) * 100 | round) / 100" 2>&1) s of its time"
expect "no device held up the poweroff" eval "! pvio_console $name | grep -a 'timeout closing device'"
expect "the images are clean file systems" e2fsck -fn /run/lab/disk.img && e2fsck -fn /run/lab/second.img >/dev/null
expect "nothing is left" test "$(pvio list --json | jq length)" = 0
logs pviod blkback netback
