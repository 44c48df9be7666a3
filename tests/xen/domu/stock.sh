# A stock guest with a disk and an interface, whoever serves them. ARG: own address, peer's address.
set -- $ARG
. /lab/lib.sh
wait_for 60 test -b /dev/xvda || say "no /dev/xvda"
wait_for 60 test -d /sys/class/net/eth0 || say "no eth0"
disk
net "$1" "$2"
