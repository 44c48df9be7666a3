#!/bin/bash
# A compressed qcow2 image, which is only read: what a guest reads of it.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/images_nbd.sh
images_begin qemu-nbd qemu-img
qemu-img convert -c -f raw -O qcow2 "$work/old" "$work/image" || die "qemu-img convert -c"
serve qemu-nbd --read-only --format=qcow2 --socket="$work/nbd" --persistent "$work/image"
guest reads
