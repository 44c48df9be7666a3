# lib.sh - for scenarios: bash in dom0. TYPE is the guest type of this run (pv, pvh, hvm or none).
. /lab/verdicts.sh

# ---- Xen's own tools

start_xenstored() { # [ARGUMENT...] : with xenconsoled, once a boot
	[ -e /run/xen/xenstored.pid ] && return
	xenstored --pid-file /run/xen/xenstored.pid "$@"
	wait_for 10 xenstore-read / || return 1
	xen-init-dom0 >/dev/null
	xenconsoled --pid-file=/run/xen/xenconsoled.pid --log=guest --log-dir=/var/log/xen/console
}

start_linux_backends() { # once a boot: xen-blkback, xen-netback and the bridge xenbr0 with address 10.0.0.1
	[ -d /sys/class/net/xenbr0 ] && return
	modprobe -a xen-blkback xen-netback loop bridge
	ip link add xenbr0 type bridge
	ip addr add 10.0.0.1/24 dev xenbr0
	ip link set xenbr0 up
}

ramdisk() { # LAYER... : path of a guest's initramfs: the stock guest, and `front` (pvio-tap, pvio-dd) and `back` (the backends) if named
	local path=/run/lab/guest${*/#/-}.cpio
	path=${path// /}
	[ -e "$path" ] || (cd /boot && cat guest.cpio script.cpio "${@/%/.cpio}" >"$path")
	echo "$path"
}

xl_config() { # NAME SCRIPT ARG [LINE...] : a stock guest of type $TYPE that runs /lab/SCRIPT.sh with ARG (blanks as commas)
	local name=$1 script=$2 arg=$3
	shift 3
	rm -f "/var/log/xen/console/guest-$name.log"
	cat >"/run/lab/$name.cfg" <<X
name = "$name"
type = "$TYPE"
uuid = "$(cat /proc/sys/kernel/random/uuid)"
memory = 192
vcpus = 1
kernel = "/boot/vmlinux"
ramdisk = "$(ramdisk)"
extra = "console=hvc0 quiet loglevel=4 panic=5 labu=$script labarg=$arg"
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
X
	[ "$TYPE" != hvm ] || printf '%s\n' 'kernel = "/boot/vmlinuz"' 'vga = "none"' 'vnc = 0' 'nographic = 1' 'usb = 0' >>"/run/lab/$name.cfg" # by its BIOS
	printf '%s\n' "$@" >>"/run/lab/$name.cfg" # uuid: else libuuid waits for entropy
}
xl_create() { xl create "/run/lab/$1.cfg"; } # NAME
xl_gone() { # NAME SECONDS : wait for its end; destroyed if it does not come
	gone() { ! xl domid "$1"; }
	wait_for "$2" gone "$1" && return
	xl destroy "$1"
	return 1
}
xl_console() { cat "/var/log/xen/console/guest-$1.log"; } # NAME

# ---- pvio

# pviod and both backends, with their words in /run/lab/*.log; the uplink is the TAP pvio0, 10.0.0.1. They end with the scenario.
start_pvio() { # [ARGUMENT...] : of pviod
	modprobe -a tun loop
	mkdir -p /run/lab/console
	background pviod pviod --console-log /run/lab/console "$@"
	wait_for 30 pvio version || return 1
	background blkback pvio-blkback
	background netback pvio-netback --uplink tap:pvio0 --memory 32
	wait_for 60 backends 2 || return 1
	ip link set xenbr0 down 2>/dev/null # the other network 10.0.0.0/24, if it is there
	ip addr add 10.0.0.1/24 dev pvio0
	ip link set pvio0 up
}
backends() { [ "$(pvio backend list --json | jq length)" = "$1" ]; } # NUMBER that pviod knows

pvio_guest() { # NAME SCRIPT ARG [OPTION...] : a stock guest of type $TYPE that runs /lab/SCRIPT.sh with ARG (blanks as commas)
	local name=$1 script=$2 arg=$3
	shift 3
	rm -f "/run/lab/console/$name.log"
	pvio guest create "$name" --type "$TYPE" --kernel /boot/vmlinux --ramdisk "$(ramdisk)" --memory 192 \
		--cmdline "console=hvc0 quiet loglevel=4 panic=5 labu=$script labarg=$arg" "$@"
}
pvio_gone() { # NAME SECONDS : wait for its end; destroyed if it does not come
	ended() { ! pvio guest list --json | jq -e --arg n "$1" 'any(.[]; .name == $n)'; }
	wait_for "$2" ended "$1" && return
	pvio guest destroy "$1"
	return 1
}
pvio_console() { cat "/run/lab/console/$1.log"; } # NAME

# What a guest's script found, read from its console (stdin): each `guest: ok` and `guest: bad` is a verdict, and it must have ended with 0.
guest_verdicts() { # PREFIX
	local line ended=
	while IFS= read -r line; do
		echo "  | $line"
		line=${line%$'\r'}
		case $line in
		"guest: ok "*) pass "$1: ${line#guest: ok }" ;;
		"guest: bad "*) line=${line#guest: bad }; fail "$1: ${line%%:*}" "${line#*: }" ;;
		"guest: done 0 "*) ended=1 ;;
		esac
	done
	[ -n "$ended" ] || fail "$1: the guest's script" "it did not end well"
}
