# A driver domain: our backends, the disk that they serve, and a way out with address ARG. It does what its console says: kill NAME, start NAME, die.
. /lab/lib.sh
truncate -s 48M /run/disk.img
start() {
	case $1 in
	blkback) pvio-blkback --pviod pipe --workers 1 & blkback=$! ;;
	netback) pvio-netback --pviod pipe --memory 32 --uplink net_tap0,iface=up0 & netback=$! ;;
	esac
}
modprobe tun
[ ! -e /sys/bus/xen/devices/vbd-51712 ] || wait_for 60 test -b /dev/xvda || say "no xvda"
start netback
start blkback
wait_for 60 test -d /sys/class/net/up0 || say "no uplink"
ip addr add "$ARG/24" dev up0
ip link set up0 up
say "ready"
while read -r what name; do
	case $what in
	kill) [ "$name" = blkback ] && kill -9 $blkback || kill -9 $netback ;;
	start) start "$name" ;;
	die) echo b >/proc/sysrq-trigger ;; # at once, with nothing said
	off) break ;;
	esac
done
