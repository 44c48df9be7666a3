# All that a stock guest does with a disk and an interface: I/O, offloads, drivers that go and come, a disk that comes, grows and goes. ARG: own
# address, peer's address, where iperf3 listens.
set -- $ARG
. /lab/lib.sh
offloads() { # on|off FEATURE... : as ethtool shows them
	local want=$1 f
	shift
	ethtool -k eth0 >/tmp/offloads
	for f; do grep -q "^[[:space:]]*$f: $want" /tmp/offloads || { grep "$f" /tmp/offloads; return 1; }; done
}
tcp() { iperf3 -c "$peer" -t 2 "$@"; } # all bytes are checked by TCP
counted() { cat "/sys/class/net/eth0/statistics/$1"; } # COUNTER
large() { # tx|rx TCP_OPTION... : packets larger than the MTU, over the whole run
	local way=$1 packets bytes
	shift
	packets=$(counted "${way}_packets") bytes=$(counted "${way}_bytes")
	tcp "$@" || return
	packets=$(($(counted "${way}_packets") - packets)) bytes=$(($(counted "${way}_bytes") - bytes))
	echo "$((bytes / (packets + 1))) bytes a packet"
	[ $((bytes / (packets + 1))) -gt 2000 ]
}
traffic() { # WHAT
	check "TCP to dom0, $1" tcp
	check "TCP from dom0, $1" tcp -R
}

own=$1 peer=$2
wait_for 20 test -b /dev/xvda || say "bad vbd: no /dev/xvda"
wait_for 20 test -d /sys/class/net/eth0 || say "bad vif: no eth0"
disk
net "$own" "$peer"
check "sg, checksums and TSO are negotiated" offloads on scatter-gather tx-checksumming tcp-segmentation-offload generic-segmentation-offload
traffic "all offloads"
check "TCP leaves in packets larger than the MTU" large tx
check "TCP arrives in packets larger than the MTU" large rx -R
check "UDP, small" iperf3 -c "$peer" -u -l 64 -b 2M -t 2
check "UDP, larger than a packet" iperf3 -c "$peer" -u -l 8000 -b 2M -t 2
ethtool -K eth0 tso off gso off
traffic "no TSO"
ethtool -K eth0 tx off sg off # netfront's IPv4 checksums cannot be turned off
check "the offloads are off" offloads off scatter-gather tx-checksum-ipv6 tcp-segmentation-offload
traffic "no offload"

check "the driver lets the vif go" eval "echo vif-0 >/sys/bus/xen/drivers/vif/unbind && [ ! -e /sys/class/net/eth0 ]"
check "and takes it again" eval "echo vif-0 >/sys/bus/xen/drivers/vif/bind && wait_for 20 test -d /sys/class/net/eth0"
net "$own" "$peer"
traffic "after unbind and bind"

say "wants xvdb"
check "a disk is found while running" wait_for 60 test -b /dev/xvdb
disk /dev/xvdb
was=$(cat /sys/block/xvdb/size)
larger() { [ "$(cat /sys/block/xvdb/size)" -gt "$was" ]; }
at_its_end() { # what is written there is there, and not in memory alone
	local at=$(($(cat /sys/block/xvdb/size) / 8 - 256))
	dd if=/bin/busybox of=/dev/xvdb bs=4k count=256 seek=$at conv=fsync && echo 3 >/proc/sys/vm/drop_caches &&
		dd if=/dev/xvdb bs=4k count=256 skip=$at >/tmp/end && dd if=/bin/busybox bs=4k count=256 >/tmp/begin && cmp /tmp/begin /tmp/end
}
room() { df -k /mnt | awk 'END { print $2 }'; } # KiB of the file system
check "mount the disk that is to grow" mount -t ext4 /dev/xvdb /mnt
before=$(room)
say "wants xvdb larger"
check "it grows while it is mounted" wait_for 60 larger
check "its new end is written and read" at_its_end
check "its file system grows with it" resize2fs /dev/xvdb
check "and has more room" [ "$(room)" -gt "$before" ]
check "the tree is equal in the larger one" same_files /bin /mnt/bin
check "unmount the larger one" umount /mnt
check "fsck of the larger one" e2fsck -fn /dev/xvdb
say "is done with xvdb"
check "it goes again" wait_for 60 test ! -b /dev/xvdb
check "the other disk is not disturbed" e2fsck -fn /dev/xvda
sync
dmesg -n 8 # what the kernel says while it powers off
