# Frontends of ours as programs of a guest: they find their devices by the pointer. ARG: own address, peer's address.
. /lab/lib.sh
set -- $ARG
modprobe tun
gone() { ! pvio-dd --vbd xvdb of=/dev/null bs=64k count=1; }
nodisk() { ! test -b "$1"; }
written() { # VBD
	check "$1 is found and written" pvio-dd --vbd "$1" --wait 120 bs=64k if=/tmp/data --flush || return
	check "$1 is read" pvio-dd --vbd "$1" of=/tmp/back bs=64k count=32 || return
	check "$1 keeps what is written" cmp /tmp/data /tmp/back
}
dd if=/dev/urandom of=/tmp/data bs=64k count=32 2>/dev/null
say "ready for the pointer"
written xvda
pvio-tap --vif 0 --wait 60 --tap tap9 --address "$1/24" >/tmp/tap.log 2>&1 &
tap=$!
wait_for 60 test -d /sys/class/net/tap9 || { say "bad vif 0: no interface"; cat /tmp/tap.log; }
wait_for 20 ping -c1 -W1 "$2"
check "ping by vif 0" ping -c 5 -i 0.1 -q "$2"
say "ready for xvdb"
written xvdb
say "done with xvdb"
wait_for 60 gone || say "bad xvdb: it does not go"
say "ok xvdb comes and goes"
wait_for 90 test -b /dev/xvdc || say "bad xvdc: the kernel does not see it"
disk /dev/xvdc
say "done with xvdc"
wait_for 60 nodisk /dev/xvdc || say "bad xvdc: it does not go"
say "ok xvdc comes and goes"
check "ping by vif 0 still" ping -c 3 -i 0.1 -q "$2"
kill $tap
wait $tap
