# lib.sh - for the scripts that run in a guest (busybox sh). A check says `guest: ok WHAT (UPTIME s)` or `guest: bad WHAT: WHY (UPTIME s)`.
say() {
	local up
	read -r up _ </proc/uptime
	echo "guest: $* ($up s)"
}
wait_for() { # SECONDS COMMAND...
	local n=$(($1 * 10))
	shift
	until "$@" >/dev/null 2>&1; do
		n=$((n - 1))
		[ $n -gt 0 ] || return 1
		usleep 100000
	done
}
check() { # WHAT COMMAND... : its output is shown if it fails
	local what=$1
	shift
	if "$@" >/tmp/check 2>&1; then
		say "ok $what"
	else
		say "bad $what: $(tail -1 /tmp/check)"
		sed 's/^/  | /' /tmp/check
		return 1
	fi
}

same_files() { # DIRECTORY DIRECTORY
	(cd "$1" && find . -type f -exec md5sum {} + >/tmp/sums)
	(cd "$2" && md5sum -c -s /tmp/sums)
}
disk() { # [DEVICE] : a file system of its own on it, a tree copied into it and read back
	local dev=${1:-/dev/xvda}
	check "mkfs" /bin/mke2fs -q -F -t ext4 "$dev" || return # not busybox' own
	modprobe ext4
	mkdir -p /mnt
	check "mount" mount -t ext4 "$dev" /mnt || return
	check "copy a tree" cp -r /bin /mnt/
	check "unmount" umount /mnt || return
	check "mount again" mount -t ext4 "$dev" /mnt || return
	check "the tree is equal" same_files /bin /mnt/bin
	check "unmount again" umount /mnt || return
	check "fsck" e2fsck -fn "$dev"
}

net() { # OWN PEER [DEVICE]
	local dev=${3:-eth0}
	ip addr add "$1/24" dev "$dev"
	ip link set "$dev" up
	wait_for 60 ping -c1 -W1 "$2"
	check "ping" ping -c 5 -i 0.1 -q "$2"
}
