#!/bin/bash
# A raw image behind qemu-nbd: what a guest reads and writes of it.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/images_nbd.sh
through_qemu raw
