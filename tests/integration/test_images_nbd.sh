#!/bin/bash
# Images behind NBD servers: in each case a guest reads its disk, whose SHA-256 is that of what was put in; where the format lets it write, it
# writes something else, and qemu-img finds that in an intact image.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need uring jq qemu-nbd qemu-img nbdkit xz
begin

pvio() { "$bin/pvio" "$@"; }
guest_dd() { "$bin/pvio-dd" --domid "$domid" --vbd xvda --wait 20 "$@" 2>"$work/dd.err" || die "$case_: $(cat "$work/dd.err")"; }
sha() { sha256sum | cut -d' ' -f1; }

serve() { # COMMAND... : an NBD server that ends when its client has gone; it listens when $work/nbd is there, or $uri answers
	rm -f "$work/nbd"
	"$@" &
	server=$!
	pids+=("$server")
	[[ $uri != *"$work/nbd" ]] || until_true 20 test -S "$work/nbd" || die "$case_: $1 does not listen"
}

# What the guest reads from its disk is $old; writes: then it writes $new.
guest() { # reads|writes [KEY=VALUE...]
	local got mode=r device
	[ "$1" = writes ] && mode=w
	device=(vbd xvda "path=$uri" mode=$mode "${@:2}")
	until_true 20 pvio attach g1 "${device[@]}" || die "$case_: $(pvio attach g1 "${device[@]}" 2>&1)"
	got=$(guest_dd of=- | sha)
	[ "$got" = "$old_sha" ] || die "$case_: the guest read $got, not $old_sha"
	if [ "$1" = writes ]; then
		guest_dd if="$work/new" --flush
		got=$(guest_dd of=- | sha)
		[ "$got" = "$new_sha" ] || die "$case_: the guest wrote $new_sha, and then read $got"
	fi
	pvio detach g1 xvda || die "$case_: detach"
	kill "$server" 2>/dev/null
	wait "$server" 2>/dev/null
	echo "$case_: SHA-256 in the guest equal, $1"
}

intact() { # FORMAT FILE : holds what the guest wrote
	[ "$1" = raw ] || [ "$1" = vpc ] || qemu-img check -q -f "$1" "$2" || die "$case_: qemu-img check"
	qemu-img compare -q -f raw -F "$1" "$work/new" "$2" || die "$case_: the image does not hold what the guest wrote"
}

through_qemu() { # NAME FORMAT [OPTION]
	case_=$1 uri="nbd+unix:///?socket=$work/nbd"
	qemu-img convert -f raw -O "$2" ${3:+-o "$3"} "$work/old" "$work/$1" || die "qemu-img convert to $2"
	serve qemu-nbd --format="$2" --discard=unmap --socket="$work/nbd" --persistent "$work/$1"
	guest writes
	intact "$2" "$work/$1"
	rm -f "$work/$1"
}

pvio sandbox up --guests 1 >"$work/up" 2>&1 || die "sandbox up: $(cat "$work/up")"
domid=$(pvio guest list --json | jq -r '.[0].domid')
# 8 MiB of which half is random and half compresses; VHD rounds other sizes up
{ head -c 4M /dev/urandom; yes pvio | head -c 4M; } >"$work/old"
{ yes oivp | head -c 2M; head -c 6M /dev/urandom; } >"$work/new"
old_sha=$(sha <"$work/old") new_sha=$(sha <"$work/new")

through_qemu raw raw
through_qemu qcow2 qcow2
through_qemu vhd vpc force_size=on
through_qemu vmdk vmdk

case_=compressed-qcow2 uri="nbd+unix:///?socket=$work/nbd"
qemu-img convert -c -f raw -O qcow2 "$work/old" "$work/c.qcow2" || die "qemu-img convert -c"
serve qemu-nbd --read-only --format=qcow2 --socket="$work/nbd" --persistent "$work/c.qcow2"
guest reads

case_=xz uri="nbd+unix:///?socket=$work/nbd"
xz -0 --block-size=1MiB -k "$work/old" || die xz
serve nbdkit -f -U "$work/nbd" --filter=xz file "$work/old.xz"
guest reads

case_=remote-tcp
port=$((20000 + RANDOM % 10000)) uri="nbd://localhost:$port/disk"
cp "$work/old" "$work/remote"
serve nbdkit -f --ipaddr localhost --port "$port" --exportname disk --filter=exportname file "$work/remote" exportname-strict=true exportname=disk
guest writes
intact raw "$work/remote"

# a server that reads and writes no less than 4096 bytes has guests with sectors of that size
case_=blocks-of-4096 uri="nbd+unix:///?socket=$work/nbd"
cp "$work/old" "$work/blocks"
serve nbdkit -f -U "$work/nbd" --filter=blocksize-policy file "$work/blocks" blocksize-minimum=4096 blocksize-preferred=4096 blocksize-maximum=32M \
	blocksize-error-policy=error
pvio attach g1 vbd xvda "path=$uri" 2>"$work/why" && die "$case_: a guest with sectors of 512 bytes is served"
grep -q "use sector=4096" "$work/why" || die "$case_: $(cat "$work/why")"
guest writes sector=4096
intact raw "$work/blocks"
