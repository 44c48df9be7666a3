# Interfaces of different backends beside each other. ARG: DEV:OWN:PEER each; hot:DEV:OWN:PEER comes while the guest runs, and goes again.
. /lab/lib.sh
gone() { ! test -d "/sys/class/net/$1"; }
for word in $ARG; do
	hot=
	case $word in hot:*) hot=1 word=${word#hot:} ;; esac
	dev=${word%%:*} own=${word#*:} peer=${word##*:}
	own=${own%:*}
	[ -z "$hot" ] || say "ready for $dev"
	wait_for 60 test -d "/sys/class/net/$dev" || say "bad $dev: it is not there"
	net "$own" "$peer" "$dev"
	check "$dev: TCP to dom0" iperf3 -c "$peer" -t 2
	check "$dev: TCP from dom0" iperf3 -c "$peer" -t 2 -R
	[ -z "$hot" ] && continue
	say "done with $dev"
	wait_for 60 gone "$dev" || say "bad $dev: it does not go"
	say "ok $dev comes and goes"
done
