# images_nbd.sh: for tests that source it with the repository's root as cwd. A guest's disk is an image behind an NBD server: the guest reads it, and its
# SHA-256 is that of what was put in; where the format lets it write, it writes something else, and qemu-img finds that in an intact image.
#
# The SHA-256 is taken of what the guest's end of the ring gives out (pvio-dd, the guest's frontend), never of the image: so it vouches for server, backend,
# ring and frontend together.
#
#	images_begin THING...		needs these; guest g1, and $work/old, which is put into images, and $work/new, of the same size, which the guest writes
#	serve COMMAND...		an NBD server of $uri, at first $work/nbd
#	guest reads|writes [KEY=VALUE...]	what the guest reads from its disk is $work/old; writes: then it writes $work/new
#	intact FORMAT FILE		the image holds $work/new
#	through_qemu FORMAT [OPTION]	all of it, of a format that qemu-nbd writes
. tests/integration/lib.sh
pvio() { "$bin/pvio" "$@"; }
guest_dd() { "$bin/pvio-dd" --domid "$domid" --vbd xvda --wait 20 "$@" 2>"$work/dd.err" || die "$(cat "$work/dd.err")"; }
sha() { sha256sum | cut -d' ' -f1; }

images_begin() {
	need uring jq "$@"
	begin
	pvio sandbox up --guests 1 >"$work/up" 2>&1 || die "sandbox up: $(cat "$work/up")"
	domid=$(pvio guest list --json | jq -r '.[0].domid')
	uri="nbd+unix:///?socket=$work/nbd"
	# 8 MiB of which half is random and half compresses; VHD rounds other sizes up
	{ head -c 4M /dev/urandom; yes pvio | head -c 4M; } >"$work/old"
	{ yes oivp | head -c 2M; head -c 6M /dev/urandom; } >"$work/new"
	old_sha=$(sha <"$work/old") new_sha=$(sha <"$work/new")
}

# It ends when its client has gone; it listens when $work/nbd is there, or $uri answers.
serve() {
	"$@" &
	server=$!
	pids+=("$server")
	[[ $uri != *"$work/nbd" ]] || until_true 20 test -S "$work/nbd" || die "$1 does not listen"
}

guest() {
	local got mode=r device
	[ "$1" = writes ] && mode=w
	device=(vbd xvda "path=$uri" mode=$mode "${@:2}")
	until_true 20 pvio attach g1 "${device[@]}" || die "$(pvio attach g1 "${device[@]}" 2>&1)"
	got=$(guest_dd of=- | sha)
	[ "$got" = "$old_sha" ] || die "the guest read $got, not $old_sha"
	if [ "$1" = writes ]; then
		guest_dd if="$work/new" --flush
		got=$(guest_dd of=- | sha)
		[ "$got" = "$new_sha" ] || die "the guest wrote $new_sha, and then read $got"
	fi
	pvio detach g1 xvda || die detach
	kill "$server" 2>/dev/null
	wait "$server" 2>/dev/null
	echo "SHA-256 in the guest equal, $1"
}

intact() {
	[ "$1" = raw ] || [ "$1" = vpc ] || qemu-img check -q -f "$1" "$2" || die "qemu-img check"
	qemu-img compare -q -f raw -F "$1" "$work/new" "$2" || die "the image does not hold what the guest wrote"
}

through_qemu() {
	images_begin qemu-nbd qemu-img
	qemu-img convert -f raw -O "$1" ${2:+-o "$2"} "$work/old" "$work/image" || die "qemu-img convert to $1"
	serve qemu-nbd --format="$1" --discard=unmap --socket="$work/nbd" --persistent "$work/image"
	guest writes
	intact "$1" "$work/image"
}
