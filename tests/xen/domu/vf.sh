# vf.sh OWN PEER : a virtual function that dom0 gives this guest while it runs: Debian's xen-pcifront and igbvf find it, and traffic passes. Then it is
# taken away, and another comes.
. /lab/lib.sh
modprobe -a xen-pcifront igbvf
set -- $ARG
vf_netdev() { ls -d /sys/bus/pci/drivers/igbvf/*/net/* 2>/dev/null | sed 's,.*/,,'; }
has_vf() { [ -n "$(vf_netdev)" ]; }
no_vf() { ! ls -d /sys/bus/pci/devices/*; }
up() { # the function's interface, and the peer answers
	dev=$(vf_netdev)
	ip addr add "$1/24" dev "$dev"
	ip link set "$dev" up
	wait_for 60 ping -c1 -W1 "$2"
}
say "ready for a function"
check "the function is there" wait_for 120 has_vf || { dmesg | tail -30; exit 1; }
up "$@"
check "ping through the function" ping -c 10 -i 0.2 -q "$2"
check "it has interrupts of its own" grep -q "xen-pirq.*$dev" /proc/interrupts
grep "$dev" /proc/interrupts | sed 's/^/  | /'
check "the MAC is that which was asked for" grep -q 02:00:00:00:00:01 "/sys/class/net/$dev/address"
say "ready to lose it"
check "it goes when it is taken away" wait_for 200 no_vf
say "ready for the next"
check "and comes again" wait_for 120 has_vf
up "$@"
check "ping through the next" ping -c 5 -i 0.2 -q "$2"
say "ready to end"
sleep 1000
