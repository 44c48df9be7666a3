# A guest that does what dom0 says: whatever is sent to port 7000 is run by a shell. ARG: own address.
. /lab/lib.sh
wait_for 20 test -b /dev/xvda || say "no /dev/xvda"
wait_for 20 test -d /sys/class/net/eth0 || say "no eth0"
ip addr add "$ARG/24" dev eth0
ip link set eth0 up
iperf3 -s -D
say "serving"
nc -ll -p 7000 -e sh
