# Disks of different backends beside each other. ARG: new:DEV gets a file system and a tree, old:DEV has them, raw:DEV is written and read back,
# hot:DEV as well, but it comes while the guest runs, and goes again.
. /lab/lib.sh
gone() { ! test -b "$1"; }
raw() { # DEVICE
	dd if=/dev/urandom of=/tmp/written bs=64k count=32 2>/dev/null
	dd if=/tmp/written of="$1" bs=64k conv=fsync 2>/dev/null
	echo 3 >/proc/sys/vm/drop_caches
	dd if="$1" of=/tmp/read bs=64k count=32 2>/dev/null
	check "$1 keeps what is written" cmp /tmp/written /tmp/read
}
old() { # DEVICE
	modprobe ext4
	mkdir -p /mnt
	check "$1 has its file system" mount -t ext4 "$1" /mnt || return
	check "$1 has its tree" same_files /bin /mnt/bin
	umount /mnt
}
for word in $ARG; do
	what=${word%:*} dev=/dev/${word#*:}
	[ $what = hot ] && say "ready for $dev"
	wait_for 60 test -b $dev || say "bad $dev: it is not there"
	case $what in
	new) disk $dev ;;
	old) old $dev ;;
	*) raw $dev ;;
	esac
	[ $what = hot ] || continue
	say "done with $dev"
	wait_for 60 gone $dev || say "bad $dev: it does not go"
	say "ok $dev comes and goes"
done
