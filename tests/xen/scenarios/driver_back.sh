# driver_back: a driver domain is destroyed, and dies, under a stock guest that writes its disk and compares, and is made again each time: the guest notices nothing. Made again under another domid, the interface of a stock guest is plugged in anew.
# types: pv
# limit: 900
# memory: 3584
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
truncate -s 64M /run/lab/images.img
serves() { pvio backend list --json | jq -e --arg n "storage/$1" '.[] | select(.name == $n)'; }
storage() { # [OPTION...] : a driver domain with a disk of its own, where the images are, and its backends
	pvio guest create storage --type pv --kernel /boot/vmlinux --ramdisk "$(ramdisk back)" --memory 384 --paused \
		--cmdline "console=hvc0 quiet loglevel=4 panic=5 labu=driver labarg=10.0.0.1" "$@" &&
		pvio attach storage pipe && pvio attach storage pipe && pvio attach storage vbd xvda path=/run/lab/images.img &&
		pvio guest start storage && wait_for 240 eval "serves blkback && serves netback"
}
domid() { pvio guest list --json | jq --arg n "$1" '.[] | select(.name == $n) | .domid'; }
said() { pvio_console "${2:-web}" | grep -aq "guest: $1"; }
states() { pvio list "${1:-web}" --json | jq -r '[.[].state] | unique | join(" ")'; }
type_in() { (echo "$2"; sleep 2) | timeout 5 pvio guest console "$1" >/dev/null; true; } # NAME LINE
facts() { pvio inspect web --json | jq -c "[.[].pviod.$1]"; }

expect "a driver domain" storage || { pvio_console storage | show; logs pviod; return; }
first=$(domid storage)
expect "a stock guest" pvio_guest web driven 10.0.0.2,10.0.0.1 --paused || return
expect "its disk" pvio attach web vbd xvda path=/dev/xvda backend=storage
expect "its interface" pvio attach web vif 0 backend=storage
expect "it starts" pvio guest start web
expect "it writes" wait_for 300 said writes || { show <(pvio list; pvio_console storage); logs pviod; }
before=$(facts connects)
for how in destroyed dies destroyed; do
	sleep 2
	case $how in
	destroyed) pvio guest destroy storage --force ;;
	dies) type_in storage die ;;
	esac
	expect "the driver domain ($how): both are lost" wait_for 30 eval '[ "$(states)" = lost ] && [ -z "$(domid storage)" ]' || show <(pvio list; pvio guest list)
	began=$EPOCHREALTIME
	expect "it is made again" storage || { pvio_console storage | show; logs pviod; }
	expect "under its domid" [ "$(domid storage)" = "$first" ] || show <(pvio guest list)
	expect "both go on" wait_for 60 eval '[ "$(states)" = Connected ]' || show <(pvio list)
	info "from its creation to both served again: $(jq -n "(($EPOCHREALTIME - $began) * 10 | round) / 10") s"
done
expect "nothing was connected anew" [ "$(facts connects)" = "$before" ]
show <(pvio inspect web; pvio_console storage | tail -n 20)
type_in web stop
expect "the guest ends" pvio_gone web 400
pvio_console web | guest_verdicts web

expect "a stock guest with an interface" pvio_guest plug replug 10.0.0.3,10.0.0.1 --paused || return
expect "that" pvio attach plug vif 0 backend=storage
expect "it starts" pvio guest start plug
expect "it pings" wait_for 300 said pings plug || show <(pvio list)
expect "the driver domain is destroyed" pvio guest destroy storage --force
expect "its interface is lost" wait_for 30 eval '[ "$(states plug)" = lost ]'
expect "and it is made again as another domain" storage --domid 99 || { pvio_console storage | show; logs pviod; }
expect "the guest has its interface again" wait_for 120 said "has it again" plug || show <(pvio list)
expect "which is connected" [ "$(states plug)" = Connected ] || show <(pvio list)
type_in plug off
expect "the guest ends" pvio_gone plug 400
pvio_console plug | guest_verdicts plug
expect "the driver domain ends" pvio guest destroy storage --force
logs pviod blkback netback
