#!/bin/bash
# A vbd as an NBD device: the real nbdkit with the plugin, and the clients that people have: nbdinfo, nbdcopy, qemu-img. What is copied in
# is in the image and comes out the same; many requests at once; flush, trim, read-only; and what cannot be is said.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root uring jq nbdkit nbdcopy nbdinfo qemu-img
[ -e "$bin/nbdkit-pvio-plugin.so" ] || missing nbdkit-plugin-dev "the nbdkit plugin is not built: make plugin-deps all"
begin
pvio() { "$bin/pvio" "$@"; }
pvio sandbox up --guests 1 >"$work/up" || die "sandbox up: $(cat "$work/up")"
truncate -s 48M "$work"/xvd{a,b}
pvio attach g1 vbd xvda "path=$work/xvda" || die attach
pvio attach g1 vbd xvdb "path=$work/xvdb" mode=r || die attach
domid=$(pvio guest list --json | jq '.[0].domid')
cd "$work" || exit 1
head -c 40M /dev/urandom >new
truncate -s 48M new
sum=$(sha256sum <new)
plugin=$bin/nbdkit-pvio-plugin.so

timeout 60 nbdkit -f -U "$work/nbd.sock" --threads=32 "$plugin" xvda domid="$domid" 2>"$work/log" &
pids+=($!)
server=$!
until_true 10 test -S "$work/nbd.sock" || die "nbdkit: $(cat "$work/log")"
uri="nbd+unix:///?socket=$work/nbd.sock"
nbdinfo --json "$uri" >info || die "nbdinfo: $(cat "$work/log")"
jq -e '.exports[0] | ."export-size" == 50331648 and (."is_read_only" | not) and .can_flush and .can_trim and .can_multi_conn and .can_fua
	and .block_size_minimum == 512' info >/dev/null || die "nbdinfo says $(cat info)"

nbdcopy --flush new "$uri" || die "nbdcopy in: $(cat "$work/log")"
cmp new xvda || die "the image is another"
[ "$(nbdcopy --requests=64 --connections=4 "$uri" - | sha256sum)" = "$sum" ] || die "nbdcopy out: $(cat "$work/log")"
qemu-img compare -f raw -F raw new "$uri" || die "qemu-img compare: $(cat "$work/log")"
qemu-img convert -f raw -O qcow2 "$uri" out.qcow2 || die "qemu-img convert: $(cat "$work/log")"
qemu-img compare -f qcow2 -F raw out.qcow2 new || die "the copy is another"
qemu-io -f raw -c "write -P 7 512 1536" -c "write -f -P 9 1M 3M" -c flush -c "discard 8M 4M" -c "read -P 7 512 1536" -c "read -P 9 1M 3M" \
	-c "read -P 0 8M 4M" "$uri" >qio || die "qemu-io: $(cat qio)"
grep -q "failed\|error" qio && die "qemu-io: $(cat qio)"
[ "$(stat -c %b xvda)" -le $((44 * 2048 + 64)) ] || die "discard left the blocks"
"$bin/pvio-dd" --domid "$domid" --vbd xvda --wait 5 of=dd 2>/dev/null || die "the vbd is not free when no client is there"
cmp dd xvda || die "pvio-dd reads something else"
nbdinfo --size "$uri" >/dev/null || die "not opened again: $(cat "$work/log")"
kill "$server"
wait "$server" || die "nbdkit ended with $?"

nbdkit -U - "$plugin" vbd=xvdb domid="$domid" --run 'nbdinfo --json "$uri"' | jq -e '.exports[0].is_read_only' >/dev/null || die "a read-only vbd is not"
bad() { # WORDS ARGS...
	local words=$1
	shift
	timeout 20 nbdkit -f -U - "$plugin" "$@" --run true >out 2>&1 && die "nbdkit $* goes well"
	grep -q "$words" out || die "nbdkit $* says: $(cat out)"
}
bad "which vbd" domid="$domid"
bad "must be told its domid" xvda
bad "domid=0: must be" xvda domid=0
bad "no parameter" xvda domid="$domid" colour=red
bad "vbd xvdz of domain $domid" xvdz domid="$domid"
