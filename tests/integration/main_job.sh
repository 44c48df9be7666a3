#!/bin/bash
# main_job.sh - pvio's main job on the loopback hypervisor, with real input: what `make run` shows.
#
# Two guests, each with a disk and a network interface: announced in shared pages, connected without XenStore; an ext4 image
# read and another one written through blkback, ping and TCP through netback's switch; then one table of figures, and a check
# that nothing was left behind.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
missing() { # a person asked for this: say what to do
	echo "make run: $2" >&2
	exit 1
}
need root tun uring jq mke2fs e2fsck iperf3 ping
[ "$(stat -f -c %T /run)" = tmpfs ] && export TMPDIR=/run

step() { printf '\n[%3d s] %s\n' $SECONDS "$*"; }
say() { printf '        %s\n' "$*"; }
pvio() { "$bin/pvio" "$@"; }

disk() { # GUEST IMAGE NEW : the guest reads IMAGE whole, then writes NEW over it and detaches
	local guest=$1 image=$2 new=$3 domid want got
	domid=$(domid_of "$guest")
	pvio attach "$guest" vbd xvda "path=$image" >/dev/null || die "attach $guest vbd"
	want=$(sha256sum <"$image")
	got=$("$bin/pvio-dd" --domid "$domid" --vbd xvda --wait 5 of=- 2>/dev/null | sha256sum)
	[ "$want" = "$got" ] || die "$guest read something else than its image: $got, not $want"
	say "$guest read $(($(stat -c %s "$image") >> 20)) MiB through its vbd, SHA-256 ${got%% *} equal"
	attach_time "$guest" vbd xvda
	bench_disk "$guest" "$domid"
	"$bin/pvio-dd" --domid "$domid" --vbd xvda --wait 5 "if=$new" --flush 2>/dev/null || die "$guest cannot write its vbd"
	pvio detach "$guest" xvda || die "detach $guest xvda"
	cmp "$new" "$image" || die "the backing file of $guest is not what the guest wrote"
	e2fsck -fn "$image" >/dev/null 2>&1 || die "e2fsck finds errors in what $guest wrote"
	say "$guest wrote $(($(stat -c %s "$new") >> 20)) MiB, flushed, detached: backing file equal, e2fsck -fn clean"
}

bench_disk() { # GUEST DOMID : attach time and figures, once connected
	local r
	"$bin/pvio-dd" --domid "$2" --vbd xvda --wait 5 --bench randread --bs 4k --iodepth 32 --seconds 1 --json >"$work/rand" || die "bench"
	"$bin/pvio-dd" --domid "$2" --vbd xvda --wait 5 --bench read --bs 128k --iodepth 32 --seconds 1 --json >"$work/seq" || die "bench"
	r=$(jq -r '.iops|round' "$work/rand")
	row "disk of $1: 4 KiB random read, depth 32" "$r" IOPS
	row "disk of $1: 128 KiB sequential read, depth 32" "$(jq -r '.mb_s|round' "$work/seq")" MB/s
}

domid_of() { pvio guest list --json | jq -r --arg g "$1" '.[] | select(.name == $g) | .domid'; }
rows=()
row() { rows+=("$(printf '%-52s %12s %s' "$1" "$2" "$3")"); }

attach_time() { # GUEST TYPE NAME : from the request to Connected, less the time until a frontend looked
	local us
	us=$(pvio list --json | jq -r --arg g "$1" --arg t "$2" --arg n "$3" '.[] | select(.guest == $g and .type == $t and .name == $n) | .offer_us + .connect_us')
	row "attach of $1 $2 $3, announced and connected" "$us" us
}

network() {
	local i
	for i in 1 2; do
		netns_new g$i
		background "$bin/pvio-tap" --domid "$(domid_of g$i)" --vif 0 --tap eth0 --netns "$(netns g$i)" --wait 5
	done
	for i in 1 2; do
		until_true 10 in_netns g$i ip link show eth0 || die "the TAP of g$i did not come up"
		in_netns g$i ip addr add 10.77.0.$i/24 dev eth0
		in_netns g$i ip link set eth0 up
	done
	until_true 10 in_netns g1 ping -c1 -W1 10.77.0.2 || die "no ping from g1 to g2"
	in_netns g1 ping -q -c20 -i0.02 10.77.0.2 >"$work/ping" || die "ping g1 -> g2: $(tail -2 "$work/ping")"
	in_netns g2 ping -q -c20 -i0.02 10.77.0.1 >"$work/ping2" || die "ping g2 -> g1: $(tail -2 "$work/ping2")"
	say "ping both ways: $(grep -h received "$work/ping" "$work/ping2" | cut -d, -f1,2,3 | paste -sd';')"
	background in_netns g2 iperf3 -s -1 >/dev/null
	tcp "g1 -> g2"
	background in_netns g2 iperf3 -s -1 >/dev/null
	tcp "g2 -> g1" -R
}

tcp() { # TITLE IPERF3-OPTION...
	local title=$1
	shift
	until_true 5 in_netns g2 sh -c 'ss -ltn | grep -q :5201' || die "iperf3 does not listen"
	in_netns g1 iperf3 -c 10.77.0.2 -t 3 -J "$@" >"$work/tcp" || die "iperf3 $title: $(jq -r '.error // empty' "$work/tcp")"
	row "TCP $title through the switch, TAP to TAP" "$(jq -r '.end.sum_received.bits_per_second / 1e7 | round / 100' "$work/tcp")" Gbit/s
	say "iperf3 TCP $title: $(jq -r '.end.sum_received | "\(.bytes / 1048576 | round) MiB in \(.seconds * 100 | round / 100) s"' "$work/tcp")"
}

small_packets() { # the TAPs have left their vifs; a generator and a sink take their place
	local m
	m=$("$bin/perf/net" --quick "$(domid_of g1)" "$(domid_of g2)") || die "64-byte packets: $m"
	row "64-byte packets g1 -> g2 through the switch" "$(jq -r '.mpps * 100 | round / 100' <<<"$m")" Mpps
}

before=$(snapshot)
begin
SECONDS=0
step "starting the hub, pviod, pvio-netback and pvio-blkback, and two guests"
pvio sandbox up --guests 2 >"$work/up" || die "pvio sandbox up: $(cat "$work/up")"
say "$(pgrep -c -f "^$bin/pvio") processes; vifs announced: $(grep -c announced "$work/up")"

step "disk: real ext4 images, made from /usr/include and from pvio itself"
for i in 1 2; do
	mke2fs -q -t ext4 -d /usr/include "$PVIO_RUNDIR/disk$i.img" 256M >/dev/null || die "mke2fs"
	mke2fs -q -t ext4 -d "$PWD/rings" "$work/new$i.img" 256M >/dev/null || die "mke2fs"
	disk g$i "$PVIO_RUNDIR/disk$i.img" "$work/new$i.img"
done

step "network: TAPs in two network namespaces, through netback's switch"
network
attach_time g1 vif 0
attach_time g2 vif 0
for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
wait "${pids[@]}" 2>/dev/null
pids=()
small_packets

step "taking everything down"
clean_up
trap - EXIT
left=$(diff <(echo "$before") <(snapshot)) && say "processes, namespaces, links, mounts, /dev/shm, $PVIO_RUNDIR and huge pages are as before"

printf '\nThese are results on the loopback hypervisor, where a grant costs no hypercall.\n'
printf '%s\n' "${rows[@]}"
[ "$(grep -c . <<<"$(grep -E 'HugePages_Free: +0$' /proc/meminfo)")" = 1 ] &&
	printf '\nNo huge pages are free: netback ran on ordinary ones. With 64 of 2 MiB (sysctl vm.nr_hugepages=64) its packet\nbuffers need fewer TLB entries.\n'
cat <<'T'

Next:  build/pvio sandbox up              the same bring-up, to stay (build/pvio sandbox down ends it)
       build/pvio attach g1 vbd path=F    a disk of your own;  build/pvio list, stats, inspect show what happens
       make check                         every test;  make bench   beside fio, vhost-user and xenstored
T
[ -z "$left" ] || die "this was left behind (or somebody else on this machine changed it meanwhile):
$left"
