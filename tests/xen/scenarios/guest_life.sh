# guest_life: guests built, watched and ended by pviod, with no xenstored, no xenconsoled and no libxl.
# types: pv pvh
# limit: 900
mkdir -p /run/lab/console
start_pviod() {
	pviod --console-log /run/lab/console 2>>/run/lab/pviod.log &
	daemon=$!
	wait_for 20 pvio guest list
}
end_pviod() { # SIGNAL
	kill "-$1" $daemon
	wait $daemon
}
create() { # NAME [OPTION...]
	pvio guest create "$1" --type "$TYPE" --kernel /boot/vmlinux --ramdisk "$(ramdisk)" --memory 160 --cmdline "console=hvc0 quiet loglevel=4 labu=life" "${@:2}"
}
state() { pvio guest list --json | jq -r ".[] | select(.name == \"$1\") | .$2"; } # NAME KEY
is() { [ "$(state "$1" "$2")" = "$3" ]; } # NAME KEY VALUE
gone() { ! pvio guest list --json | jq -e ".[] | select(.name == \"$1\")"; } # NAME
said() { grep -aq "$2" "/run/lab/console/$1.log"; } # NAME WORDS
logged() { grep -q "$1" /run/lab/pviod.log; }
typed() { echo "$2" | timeout 120 pvio guest console "$1" >"/run/lab/$1.out"; } # NAME LINE : ends with the guest
free_mib() { # as the refusal of a guest that is too large says
	pvio guest create large --type "$TYPE" --kernel /boot/vmlinux --memory 8000000 2>&1 | sed -n 's/.*Xen had \([0-9]*\) MiB.*/\1/p'
}
refused() { # WORDS OPTION... : the creation fails with them, and leaves nothing
	local words=$1
	shift
	! pvio guest create bad --type "$TYPE" "$@" >/run/lab/refused 2>&1 && grep -q "$words" /run/lab/refused && gone bad && [ "$(free_mib)" = "$before" ]
}

: >/run/lab/pviod.log
expect "pviod runs" start_pviod || return
before=$(free_mib)
expect "a guest that is too large is refused" test -n "$before" || return
expect "no kernel at all" refused "cannot read the kernel" --kernel /nowhere
expect "no kernel that can start" refused "is no kernel that" --kernel /bin/busybox
expect "no ramdisk" refused "cannot read the ramdisk" --kernel /boot/vmlinux --ramdisk /nowhere
expect "too little memory for its kernel" refused "give it more memory" --kernel /boot/vmlinux --memory 16
expect "no backend for its disk" refused "no vbd backend" --kernel /boot/vmlinux --memory 160 --vbd "xvda path=/etc/passwd"

expect "create, paused" create $TYPE-a --vcpus 2 --paused
expect "it is paused" is $TYPE-a state paused
expect "the name is taken" test -n "$(create $TYPE-a 2>&1 | grep exists)"
info "build of a $TYPE guest: $(state $TYPE-a build_ms | tr -d '\n')"
expect "start" pvio guest start $TYPE-a
expect "it runs" wait_for 300 said $TYPE-a "guest: ready"
expect "it has both vcpus" said $TYPE-a "guest: cpus 2"
expect "pause" pvio guest pause $TYPE-a
expect "pause again is no more" pvio guest pause $TYPE-a
at=$(state $TYPE-a cpu_ms)
sleep 0.5
expect "it runs no more" is $TYPE-a cpu_ms "$at"
expect "shutdown of a paused guest is refused" test -n "$(pvio guest shutdown $TYPE-a 2>&1 | grep paused)"
expect "start again" pvio guest start $TYPE-a
pvio guest console $TYPE-a --read </dev/null >/run/lab/a.read &
reader=$!
(echo "say hello"; sleep 300) | pvio guest console $TYPE-a >/dev/null &
typist=$!
expect "it hears what is typed" wait_for 20 said $TYPE-a "guest: says hello"
show <(pvio guest list)
began=$EPOCHREALTIME
expect "shutdown" pvio guest shutdown $TYPE-a --timeout 60
info "shutdown of a $TYPE guest: $(jq -n "$EPOCHREALTIME - $began") s"
expect "it is gone" gone $TYPE-a
expect "its reader saw all to the end" wait_for 5 eval "! kill -0 $reader" && expect "and has it all" cmp /run/lab/a.read /run/lab/console/$TYPE-a.log
kill $typist 2>/dev/null
expect "pviod says why" logged "guest $TYPE-a has ended: poweroff"

expect "create b" create $TYPE-b
expect "b runs" wait_for 300 said $TYPE-b "guest: ready"
expect "the console of a guest that crashes ends" typed $TYPE-b crash
expect "its last words were heard" grep -aq "sysrq: Trigger a crash" /run/lab/$TYPE-b.out
expect "the crash is noticed" wait_for 10 gone $TYPE-b
expect "and said" logged "guest $TYPE-b has ended: crash"

expect "create, and destroy" create $TYPE-d && expect "at once" pvio guest destroy $TYPE-d

expect "create e" create $TYPE-e --paused
end_pviod KILL
expect "pviod is killed, and runs again" start_pviod
left=$(pvio guest list --json | jq '.[].domid')
expect "the domain is left, and is no guest" test "$(pvio guest list --json | jq -r '.[].name')" = null
expect "it is not ended by mistake" test -n "$(pvio guest destroy "$left" 2>&1 | grep "no guest")"
expect "but by force" pvio guest destroy "$left" --force
expect "create f" create $TYPE-f --paused
expect "pviod ends in order" end_pviod TERM
expect "and runs again" start_pviod
expect "no domain is left" test "$(pvio guest list --json | jq length)" = 0
expect "no console is left" test -z "$(ls /run/pvio/console)"
expect "no memory is left" wait_for 5 eval "[ \$(free_mib) = $before ]"
end_pviod TERM
show /run/lab/pviod.log
