#!/bin/bash
# A server that reads and writes no less than 4096 bytes has guests with sectors of that size, and no others.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/images_nbd.sh
images_begin nbdkit qemu-img
cp "$work/old" "$work/image"
serve nbdkit -f -U "$work/nbd" --filter=blocksize-policy file "$work/image" blocksize-minimum=4096 blocksize-preferred=4096 blocksize-maximum=32M \
	blocksize-error-policy=error
pvio attach g1 vbd xvda "path=$uri" 2>"$work/why" && die "a guest with sectors of 512 bytes is served"
grep -q "use sector=4096" "$work/why" || die "$(cat "$work/why")"
guest writes sector=4096
intact raw "$work/image"
