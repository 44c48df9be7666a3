# A stock guest of a driver domain that comes and goes: long_disk until its console says stop, with an interface that must be the same afterwards.
# ARG: own address, peer's.
set -- $ARG
ARG=0 own=$1 peer=$2
. /lab/lib.sh
wait_for 60 test -d /sys/class/net/eth0 || say "no eth0"
net "$own" "$peer"
index=$(cat /sys/class/net/eth0/ifindex)
(read -r line && touch /tmp/stop) </dev/hvc0 &
goes_on='[ ! -e /tmp/stop ]'
. /lab/long_disk.sh
wait_for 60 ping -c1 -W1 "$peer"
check "ping again" ping -c 5 -i 0.1 -q "$peer"
check "its interface is the same" [ "$(cat /sys/class/net/eth0/ifindex)" = "$index" ]
check "its interface was never closed" eval '! dmesg | grep -iE "vif.*clos"'
