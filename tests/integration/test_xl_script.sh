#!/bin/bash
# The hotplug scripts for xl: the kernel's driver lets go of the device, pviod is asked; a failure is told to xl, and undone. Here with a pvio, a
# xenstore-write and a /sys of our own.
set -eu
cd "$(dirname "$0")/../.."
. tests/integration/lib.sh
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
mkdir -p "$t/bin" "$t/sys/bus/xen-backend/drivers/vbd"
driver=$t/sys/bus/xen-backend/drivers/vbd
sed "s,@PREFIX@,$t,; s,=/sys/bus,=$t/sys/bus," dom0-tools/scripts/pvio-hotplug.in >"$t/block-pvio"
for p in pvio xenstore-write; do
	printf '#!/bin/sh\necho "%s $*" >>"%s"\n' $p "$t/said" >"$t/bin/$p"
	chmod +x "$t/bin/$p"
done
export XENBUS_PATH=backend/vbd/3/51712 XENBUS_TYPE=vbd
script() { # EXPECTED-RC ARGUMENT...
	local rc=0
	: >"$t/said"
	sh "$t/block-pvio" "${@:2}" || rc=$?
	[ $rc = "$1" ] || die "$*: it ended with $rc"
}
said() { # LINES
	[ "$(cat "$t/said")" = "$1" ] || die "it ran: $(cat "$t/said")"
}
bound() { # yes: the kernel's driver has the device; the files take what is written to them
	rm -f "$driver"/*
	[ "$1" = yes ] && : >"$driver/vbd-3-51712"
	: >"$driver/bind"
	: >"$driver/unbind"
}

bound yes
script 0 add
said "pvio claim backend/vbd/3/51712"
[ "$(cat "$driver/unbind")" = vbd-3-51712 ] || die "the driver was not unbound"
[ ! -s "$driver/bind" ] || die "it was bound again"

bound no
script 0 online type_if=vif
said "pvio claim backend/vbd/3/51712"
[ ! -s "$driver/unbind" ] || die "what is not bound was unbound"

for words in remove "offline type_if=vif" "add type_if=tap" ""; do
	bound yes
	script 0 $words
	said ""
	[ ! -s "$driver/unbind" ] || die "$words: the driver was unbound"
done

printf '#!/bin/sh\necho "no such image" >&2; exit 1\n' >"$t/bin/pvio"
bound yes
script 1 add
said "xenstore-write backend/vbd/3/51712/hotplug-error no such image backend/vbd/3/51712/hotplug-status error"
[ "$(cat "$driver/bind")" = vbd-3-51712 ] || die "the driver does not have it again"

rm "$t/bin/pvio"
bound no
script 1 add
grep -q "hotplug-error .*pvio" "$t/said" || die "without pvio it says: $(cat "$t/said")"
echo "the scripts do what they should"
