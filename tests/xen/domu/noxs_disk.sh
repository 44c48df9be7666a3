# A guest without Linux' frontends: its disk vbd xvdn through pvio-dd, written and read back; then it stays, and answers on its console.
. /lab/lib.sh
dd if=/dev/urandom of=/tmp/data bs=1M count=4 2>/dev/null
check "write the disk" pvio-dd --vbd xvdn if=/tmp/data --flush --wait 30
check "read it" pvio-dd --vbd xvdn of=/tmp/back bs=1M count=4 --wait 30
check "it is equal" cmp /tmp/data /tmp/back
say "ready"
while read -r what; do
	case $what in
	again) check "read it again" sh -c 'pvio-dd --vbd xvdn of=/tmp/back bs=1M count=4 --wait 60 && cmp /tmp/data /tmp/back' && say "read again" ;;
	hello) say "alive" ;;
	off) break ;;
	esac
done
