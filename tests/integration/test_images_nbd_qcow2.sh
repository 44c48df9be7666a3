#!/bin/bash
# A qcow2 image: what a guest reads and writes of it.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/images_nbd.sh
through_qemu qcow2
