#!/bin/bash
# What `make install` gives is enough to build and run a program against libpvio, and exports nothing but pv_ names.
set -eu
cd "$(dirname "$0")/../.."
. tests/integration/lib.sh
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
make --no-print-directory install DESTDIR="$root" PREFIX=/usr >/dev/null

for h in "$root"/usr/include/pvio/*.h; do
	gcc -std=c11 -Wall -Wextra -Werror -fsyntax-only -x c -I"$root/usr/include" "$h" || die "$h does not stand alone"
	grep -lE 'json_object|uv_|io_uring|rte_|UT_hash' "$h" && die "$h shows another library's types"
done
stray=$(nm -D --defined-only "$root/usr/lib/libpvio.so" | awk '$2 ~ /[TDB]/ && $3 !~ /^pv_/ {print $3}')
[ -z "$stray" ] || die "libpvio.so exports $stray"
readelf -d "$root/usr/lib/libpvio.so" | grep -q 'SONAME.*libpvio\.so\.0' || die "no soname"
readelf -d "$root/usr/lib/libpvio.so" | grep NEEDED | grep -v -e 'libc\.so' -e libxen -e ld-linux && die "libpvio needs more than libc"

cat >"$root/t.c" <<'C'
#include <pvio/blk.h>
#include <pvio/hub.h>
#include <pvio/net.h>
#include <stdio.h>
int main(void)
{
	char why[160];
	struct pv_hyper *h;
	int rc = pv_hyper_open("loopback:/nowhere/hub.sock", 0, &h, why, sizeof(why));

	puts(why);
	return !(rc < 0 && !h && why[0]);
}
C
export PKG_CONFIG_PATH=$root/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
# shellcheck disable=SC2046
gcc -Wall -Werror "$root/t.c" $(pkg-config --cflags --libs libpvio) -o "$root/t"
LD_LIBRARY_PATH=$root/usr/lib "$root/t"

cat >"$root/u.c" <<'C'
#include <pvio/blkfront.h>
#include <pvio/libpvtool.h>
#include <pvio/netfront.h>
#include <stdio.h>
int main(void)
{
	struct pv_blkfront_config c = { .devid = 51712 };
	struct pv_blkfront *f;
	struct pv_tool *t;
	char why[240];
	int rc = pv_blkfront_open("loopback:/nowhere/hub.sock", 1, &c, &f, why, sizeof(why));

	puts(why);
	pv_netfront_close(NULL, 0);
	return !(rc < 0 && pv_tool_open("/nowhere/pviod.sock", &t, why, sizeof(why)) < 0 && puts(why) >= 0);
}
C
# shellcheck disable=SC2046
gcc -Wall -Werror "$root/u.c" $(pkg-config --cflags --libs libpvfront libpvtool) -o "$root/u"
LD_LIBRARY_PATH=$root/usr/lib "$root/u"
for a in "$root"/usr/lib/libpv{front,tool}.a; do
	stray=$(nm -g --defined-only "$a" | awk 'NF == 3 && $3 !~ /^pv_(netfront|netpair|blkfront|tool)_/ {print $3}')
	[ -z "$stray" ] || die "$a shows $stray"
done
for m in pvio.1 pviod.8 pvio-blkback.8 pvio-netback.8 pvio-hub.8 pvio-tap.1 pvio-dd.1 pvio-bench.1 pvio-fio.1 nbdkit-pvio-plugin.1; do
	[ -s "$root/usr/share/man/man${m##*.}/$m" ] || die "no man page $m"
done
