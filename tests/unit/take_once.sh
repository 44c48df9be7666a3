#!/bin/bash
# take_once.sh - test_take_once under each compiler that is here and each level of optimization; and, so that it is known
# to prove something, with `volatile` struck out of a copy of the headers, where gcc's code reads the peer's memory twice.
set -u
cd "$(dirname "$0")/../.." || exit 1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

build_and_run() { # SOURCES COMPILER FLAGS... : with the ring's sources and headers in $dir/SOURCES/pvio
	local src=$dir/$1
	shift
	"$@" -std=gnu11 -D_GNU_SOURCE -w -fno-strict-aliasing -I"$src" tests/unit/test_take_once.c "$src"/pvio/{net,blk}.c -lcmocka \
		-o "$dir/test" >"$dir/log" 2>&1 || return 1
	"$dir/test" >"$dir/log" 2>&1
}

mkdir -p "$dir"/{as_is,mutated}/pvio
cp rings/*.h rings/{net,blk}.c "$dir/as_is/pvio/"
for f in "$dir"/as_is/pvio/*; do sed 's/\<volatile\>//g' "$f" >"$dir/mutated/pvio/${f##*/}"; done
cmp -s "$dir"/{as_is,mutated}/pvio/net.h && { echo "FAIL  no volatile to strike out of net.h"; failed=1; }

for cc in gcc clang; do
	command -v $cc >/dev/null || { echo "      no $cc here"; continue; }
	for level in -O0 -O1 -O2 -O3 -Os '-O3 -march=native'; do
		build_and_run as_is $cc $level
		case $? in
		0) echo "ok    $cc $level: each byte is read once" ;;
		77) cat "$dir/log"; exit 77 ;;
		*) echo "FAIL  $cc $level:"; tail -n 20 "$dir/log"; failed=1 ;;
		esac
	done
done
if build_and_run mutated gcc -O2; then
	echo "FAIL  gcc -O2 without volatile: no second read was seen"
	failed=1
elif ! grep -q 'is read 2 times' "$dir/log"; then
	echo "FAIL  gcc -O2 without volatile: it failed, but not by a second read:"
	tail -n 20 "$dir/log"
	failed=1
else
	echo "ok    gcc -O2 without volatile: caught, $(grep -o 'net.*is read.*\|blk.*is read.*' "$dir/log" | head -1)"
fi
exit $failed
