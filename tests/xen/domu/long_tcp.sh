# One TCP connection between two stock guests, long enough for much to happen to their backend. ARG: own address, then the peer's, or
# nothing to be the peer.
set -- $ARG
. /lab/lib.sh
wait_for 60 test -d /sys/class/net/eth0 || say "bad vif: no eth0"
if [ -z "$2" ]; then
	ip addr add "$1/24" dev eth0
	ip link set eth0 up
	say "listens"
	check "the connection is served to its end" iperf3 -s -1
else
	net "$1" "$2"
	say "runs"
	check "TCP, 60 s" iperf3 -c "$2" -t 60 --logfile /tmp/long
	sed 's/^/  | /' /tmp/long
	check "bytes flow in its last 5 s" awk '/sec.*Bytes/ { n++; rate[n] = $5 } END { exit !(rate[n - 2] > 0 || rate[n - 3] > 0 || rate[n - 4] > 0) }' /tmp/long
fi
check "its interface was never closed" eval '! dmesg | grep -iE "vif.*(clos|error)|netfront.*error"'
check "its interface is connected" grep -qx Connected /sys/bus/xen/devices/vif-0/state
