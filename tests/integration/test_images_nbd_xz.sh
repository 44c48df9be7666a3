#!/bin/bash
# A file compressed with xz, behind nbdkit: what a guest reads of it.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/images_nbd.sh
images_begin nbdkit xz
xz -0 --block-size=1MiB -k "$work/old" || die xz
serve nbdkit -f -U "$work/nbd" --filter=xz file "$work/old.xz"
guest reads
