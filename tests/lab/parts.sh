# parts.sh - for the scripts `image` of the labs (tests/xen, tests/sriov): bash, sourced; parts of an initramfs, and the packages it is made from.
#
# A lab's image has a layer that comes from Debian's packages alone, and is made again when what it was made from changes; `base` sees to that.
# The script has set
#   lab            its directory
#   cache          a directory: the layer is $cache/base
#   debs           packages that are downloaded, not installed; the kernel's is added to them
#   host_programs  copied from this machine; host_packages are the packages that they are of
# and has a function make_base that makes the layer in $new, from $unpacked (the packages' files) and with $kernel (the kernel's release).

base=$cache/base
debs_dir=${XEN_CACHE:-build/xen/cache}/debs # one for all labs: a kernel is 70 MB

skip() {
	echo "SKIP need=qemu: $*"
	exit 77
}
die() {
	echo "$lab/image: $*" >&2
	exit 1
}

# ---- parts of an archive

skeleton() { # ROOT : directories and busybox
	local a
	mkdir -p "$1"/{bin,proc,sys,dev,etc,tmp,run,root,lab,var/{lib,log},usr}
	ln -s bin "$1/sbin"
	ln -s ../bin "$1/usr/bin"
	ln -s ../bin "$1/usr/sbin"
	ln -s ../run "$1/var/run"
	cp /bin/busybox "$1/bin/"
	for a in $(busybox --list); do [ -e "$1/bin/$a" ] || ln -s busybox "$1/bin/$a"; done
}

libraries() { # ROOT BELOW FILE... : the shared libraries of FILEs, less those that the layer BELOW has
	local root=$1 below=$2 l
	shift 2
	{ ldd "$@" 2>/dev/null || true; } | awk '/=> \//{print $3} /^\t\/lib/{print $1}' | sort -u | while read -r l; do
		[ -e "$root$l" ] || [ -e "$below$l" ] || install -D "$l" "$root$l"
	done
}

programs() { # ROOT BELOW FILE... : into /bin
	local root=$1 below=$2
	shift 2
	mkdir -p "$root/bin"
	cp -L --remove-destination "$@" "$root/bin/"
	libraries "$root" "$below" "$@"
}

drivers() { # ROOT BELOW NAME... : DPDK's, by the names that it looks for, and by those by which they load each other: the same files
	local root=$1 below=$2 pmds=/usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0 d
	mkdir -p "$root/lib/x86_64-linux-gnu"
	shift 2
	for d in "${@/#/librte_}"; do
		install -D "$pmds/$d.so.23.0" -t "$root$pmds/"
		ln -sf "$pmds/$d.so.23.0" "$root/lib/x86_64-linux-gnu/$d.so.23"
	done
	libraries "$root" "$below" "$root$pmds"/*
}

modules() { # ROOT NAME... : with what they depend on
	local root=$1 from=$unpacked/lib/modules/$kernel to=$1/lib/modules/$kernel m f
	shift
	mkdir -p "$to"
	for m; do
		f=$(grep -E "/${m//[-_]/[-_]}\.ko:" "$from/modules.dep") || die "$kernel has no module $m"
		for f in ${f/:/}; do [ -e "$to/$f" ] || install -D "$from/$f" "$to/$f"; done
	done
	find "$to" -name '*.ko' -exec strip --strip-debug {} +
	cp "$from"/modules.{builtin{,.modinfo},order} "$to/"
	depmod -b "$root" "$kernel"
	rm -f "$to"/modules.{*.bin,builtin*,order}
}

pack() { # ROOT : an archive on stdout
	(cd "$1" && find . -mindepth 1 | cpio -o -H newc -R 0:0 --quiet)
}

# ---- the packages

# What apt and dpkg know now: the kernel's name, the wanted packages as file patterns, and what the base layer depends on.
resolve() {
	local known
	known=$(apt-cache show --no-all-versions linux-image-amd64 "${debs[@]}" 2>/dev/null | grep -E '^(Package|Version|Depends):') || return 1
	kernel=$(sed -n 's/^Depends:.* linux-image-\([^ ]*-amd64\).*/\1/p' <<<"$known" | head -1)
	[ -n "$kernel" ] || return 1
	mapfile -t files < <(awk -v k="linux-image-$kernel" '/^P/{p = $2 == "linux-image-amd64" ? k : $2} /^V/{gsub(":", "%3a", $2); print p "_" $2 "_*.deb"}' <<<"$known")
	stamp=$(echo "${files[@]}" "$(dpkg-query -W "${host_packages[@]}" 2>&1)" "$(cat "$lab/image" tests/lab/parts.sh)" | sha256sum)
}

fetch() { # all that is missing in $debs_dir
	local f
	mkdir -p "$debs_dir"
	for f in "${files[@]}"; do
		compgen -G "$debs_dir/$f" >/dev/null || (cd "$debs_dir" && apt-get download -qq "${f%%_*}" 2>/dev/null) || return 1
		compgen -G "$debs_dir/$f" >/dev/null || return 1
	done
}

unpack_and_make() {
	local d
	new=$cache/new unpacked=$new/unpacked
	rm -rf "$new"
	mkdir -p "$unpacked"
	# shellcheck disable=SC2086 # a pattern
	for d in "${files[@]}"; do dpkg -x "$debs_dir"/$d "$unpacked"; done
	depmod -b "$unpacked" "$kernel"
	make_base
	rm -rf "$unpacked"
	echo "$stamp" >"$new/stamp"
	rm -rf "$base"
	mv "$new" "$base"
}

base() { # make the layer if it is not there as it should be; several trees, and several labs, may share the packages
	mkdir -p "$cache" "$debs_dir"
	exec 9>"$debs_dir.lock"
	flock 9
	resolve && [ "$stamp" = "$(cat "$base/stamp" 2>/dev/null)" ] && return
	if { resolve && fetch; } || { apt-get update -qq >/dev/null 2>&1; resolve && fetch; }; then
		local p
		p=$(type -P "${host_programs[@]}" busybox cpio xz depmod objcopy ldd | wc -l)
		[ "$p" = $((${#host_programs[@]} + 6)) ] || skip "programs are missing; install the packages of XEN_DEPS in the Makefile"
		unpack_and_make
	elif [ -e "$base/stamp" ]; then
		echo "the packages of the lab cannot be fetched; using those of $base"
	else
		skip "apt cannot fetch the packages linux-image-amd64 ${debs[*]}"
	fi
}

