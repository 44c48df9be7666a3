#!/bin/bash
# The systemd units that `make install` gives: systemd understands all of them, and the programs take the options in them.
set -eu
cd "$(dirname "$0")/../.."
. tests/integration/lib.sh
need systemd-analyze
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
make --no-print-directory install DESTDIR="$root" PREFIX="$root/usr" >/dev/null
units=$root$root/usr/lib/systemd/system
mkdir -p "$root/usr" && ln -s "$root$root/usr/bin" "$root/usr/bin" # so that the units' ExecStart is there

for u in pviod pvio-blkback pvio-netback pvio-pciback pvio-vf pvio-vf-keep; do
	[ -s "$units/$u.service" ] || die "no $u.service"
	grep "@[A-Z]*@" "$units/$u.service" && die "$u.service: something was not filled in"
done
systemd-analyze verify --man=no "$units"/*.service >"$root/said" 2>&1 || true
if grep -v -e 'modprobe@' -e '^$' "$root/said"; then die "systemd has something against the units"; fi

# Arguments as systemd splits them: those of Environment= where the unit has some, those of ExecStart.
for u in "$units"/*.service; do
	read -ra words < <(sed -n 's/^ExecStart=//p' "$u")
	command=()
	for w in "${words[@]}"; do
		case $w in
		\$*) read -ra more < <(sed -n "s/^Environment=\"${w#\$}=\(.*\)\"$/\1/p" "$u") || true; command+=("${more[@]}") ;;
		*) command+=("$w") ;;
		esac
	done
	"${command[@]}" --help >"$root/help" || die "${command[*]}: wrong usage"
	case $u in
	*/pvio-blkback.service | */pvio-netback.service) "${command[0]}" --pviod pipe --help >"$root/help" || die "$u: wrong usage in a driver domain" ;;
	esac
done
