#!/bin/bash
# A remote image, by TCP and with the name of an export: what a guest reads and writes of it.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/images_nbd.sh
images_begin nbdkit qemu-img
port=$((20000 + RANDOM % 10000)) uri="nbd://localhost:$port/disk"
cp "$work/old" "$work/image"
serve nbdkit -f --ipaddr localhost --port "$port" --exportname disk --filter=exportname file "$work/image" exportname-strict=true exportname=disk
guest writes
intact raw "$work/image"
