# driver_domain: an unprivileged domU runs our backends and serves a stock guest and a noxs guest; dom0 talks to it through pipes. Its backend dies, then it dies.
# types: pv
# limit: 900
# memory: 3584
mkdir -p /run/lab/console /run/pvio
if [ ! -e /run/pvio/pviod.sock ]; then
	pviod --console-log /run/lab/console 2>/run/lab/pviod.log &
	expect "pviod runs" wait_for 10 test -S /run/pvio/pviod.sock || return
fi
create() { # NAME RAMDISK MIB SCRIPT ARG [OPTION...]
	pvio guest create "$1" --type "$TYPE" --kernel /boot/vmlinux --ramdisk "$2" --memory "$3" --cmdline "console=hvc0 quiet loglevel=4 panic=5 labu=$4 labarg=$5" "${@:6}"
}
console() { cat "/run/lab/console/$1.log"; } # NAME
said() { grep -aq "$2" "/run/lab/console/$1.log"; } # NAME WORDS
type_in() { (echo "$2"; sleep 2) | timeout 5 pvio guest console "$1" >/dev/null; true; } # NAME LINE
serves() { pvio backend list --json | jq -e --arg n "$1" '.[] | select(.name == $n and .domid != 0)'; }
state() { pvio list "$1" --json | jq -r --arg n "$2" '.[] | select(.type + .name == $n) | .state'; } # GUEST DEVICE
is() { [ "$(state "$1" "$2")" = "$3" ]; }
lives() { pvio guest list --json | jq -e --arg n "$1" '.[] | select(.name == $n)'; }
gone() { ! lives "$1"; }

expect "a driver domain, with two pipes" create storage "$(ramdisk back)" 384 driver 10.0.0.1 --paused || return
for p in 0 1; do expect "pipe $p" pvio attach storage pipe || return; done
expect "it starts" pvio guest start storage
expect "its backends come through the pipes" wait_for 240 eval "serves storage/blkback && serves storage/netback" || { console storage | show; show /run/lab/pviod.log; return; }
show <(pvio backend list; pvio list)

disk=path=/run/disk.img
expect "a stock guest" create web "$(ramdisk)" 192 stock 10.0.0.2,10.0.0.1 --paused || return
expect "its disk" pvio attach web vbd xvda $disk backend=storage dialect=xenstore
expect "its interface" pvio attach web vif 0 backend=storage dialect=xenstore
expect "it starts" pvio guest start web
expect "it does its work and powers off" wait_for 400 gone web || show <(pvio list; console storage)
console web | guest_verdicts web

expect "a noxs guest" create uni "$(ramdisk front)" 192 noxs_disk - --paused || return
expect "its disk" pvio attach uni vbd xvdn $disk backend=storage dialect=noxs
expect "it starts" pvio guest start uni
expect "it has written and read" wait_for 240 said uni "guest: ready" || show <(pvio list)

type_in uni again
expect "it reads again" wait_for 120 said uni "guest: read again"
type_in storage "kill blkback"
expect "its backend is killed: noticed" wait_for 10 eval "! serves storage/blkback"
type_in storage "start blkback"
expect "and comes back by itself" wait_for 120 serves storage/blkback
expect "the disk is offered again" wait_for 20 eval "! is uni vbdxvdn lost"
expect "the other pipe did not notice" serves storage/netback

began=$EPOCHREALTIME
type_in storage die & # as it is, at once
expect "the driver domain dies: its disk is lost" wait_for 60 is uni vbdxvdn lost
info "from the key that kills it to its device shown as lost: $(jq -n "$EPOCHREALTIME - $began") s"
wait $!
expect "no backend of it is left" eval "! serves storage/blkback && ! serves storage/netback"
expect "the guest lives on" lives uni
type_in uni hello
expect "and answers" wait_for 60 said uni "guest: alive"
expect "what is lost can be taken away" pvio detach uni xvdn --force
type_in uni off
expect "and it powers off" wait_for 60 gone uni
console uni | guest_verdicts uni
console storage | tail -n 20 | show
show /run/lab/pviod.log
