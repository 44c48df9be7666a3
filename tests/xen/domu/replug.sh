# A stock guest whose interface goes and comes again, as that of a driver domain that is there again under another domid. ARG: own address, peer's.
set -- $ARG
. /lab/lib.sh
wait_for 60 test -d /sys/class/net/eth0 || say "no eth0"
net "$1" "$2"
index() { cat /sys/class/net/eth0/ifindex; }
mac=$(cat /sys/class/net/eth0/address)
first=$(index)
say "pings"
changed() { # looked at once: it may go meanwhile
	local now
	now=$(index)
	[ -n "$now" ] && [ "$now" != "$first" ]
}
check "its interface went, and came again" wait_for 600 changed
check "with the same address" [ "$(cat /sys/class/net/eth0/address)" = "$mac" ]
net "$1" "$2"
check "its kernel found nothing wrong" eval '! dmesg | grep -E "xenbus.*([Ff]ail|[Ee]rror|timeout)|BUG:|blocked for more"'
say "has it again"
read -r line # until its console says so
