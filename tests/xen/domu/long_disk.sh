# A stock guest writes its disk past its cache, reads it back and compares, in four processes, for ARG seconds: long enough for much to happen to
# the disk's backend.
. /lab/lib.sh
now() { local up; read -r up _ </proc/uptime; echo "${up%.*}"; }
wait_for 60 test -b /dev/xvda || say "bad vbd: no xvda"
end=$(($(now) + ARG))
[ -n "$goes_on" ] || goes_on='[ "$(now)" -lt $end ]' # or what who sources this says
writer() { # N : the N-th 8 MiB are its own
	local n=0 at
	while eval "$goes_on"; do
		at=$(($1 * 128 + n % 7 * 16))
		head -c 1048576 /dev/urandom >"/tmp/w$1"
		dd if="/tmp/w$1" of=/dev/xvda bs=64k seek=$at oflag=direct conv=notrunc,fsync 2>&1 &&
			dd if=/dev/xvda of="/tmp/r$1" bs=64k skip=$at count=16 iflag=direct 2>&1 && cmp "/tmp/w$1" "/tmp/r$1" || return 1
		n=$((n + 1))
	done >"/tmp/log$1"
	say "writer $1 wrote and compared $n MiB"
	[ $n -gt 0 ]
}
say "writes"
for i in 0 1 2 3; do writer $i & eval "w$i=$!"; done
check "writer 0: all equal" wait $w0
check "writer 1: all equal" wait $w1
check "writer 2: all equal" wait $w2
check "writer 3: all equal" wait $w3
check "no I/O error" eval '! dmesg | grep -iE "I/O error|blkfront.*error|xvda.*error"'
check "its disk was never closed" eval '! dmesg | grep -iE "vbd.*clos"'
check "its disk is connected" grep -qx Connected /sys/bus/xen/devices/vbd-51712/state
