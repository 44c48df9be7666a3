#!/bin/bash
# pvio capture: what tshark reads is what went through the vif: how many, which way, whose; the ends of a capture, and what is refused.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root tun uring jq tshark capinfos
begin
pvio() { "$bin/pvio" "$@"; }
domid_of() { pvio guest list --json | jq -r --arg g "$1" '.[] | select(.name == $g) | .domid'; }
ping_g2() { in_netns g1 ping -q -i0.02 -W5 "$@" 10.77.0.2 >/dev/null || die "ping $*"; }
# capture NAME OPTION... : in the background, once it has begun; ended NAME: its exit code and words
capture() {
	local name=$1
	shift
	background "$bin/pvio" capture "$@" 2>"$work/$name.log"
	captures[$name]=$!
	until_true 10 grep -q capturing "$work/$name.log" || die "capture $*: $(cat "$work/$name.log")"
}
declare -A captures
ended() {
	wait "${captures[$1]}" || die "$1 failed: $(cat "$work/$1.log")"
	unset "captures[$1]"
}
fields() { # FILE FILTER FIELD... : one packet a line
	local file=$1 filter=$2 f
	shift 2
	for f; do set -- "$@" -e "$f"; shift; done
	tshark -n -r "$file" -Y "$filter" -T fields "$@" 2>/dev/null
}

pvio sandbox up --guests 2 >/dev/null || die "sandbox up"
for i in 1 2; do
	netns_new g$i
	background "$bin/pvio-tap" --domid "$(domid_of g$i)" --vif 0 --tap eth0 --netns "$(netns g$i)" --wait 10 --address 10.77.0.$i/24 2>/dev/null
done
until_true 20 in_netns g1 ping -c1 -W1 10.77.0.2 || die "no ping from g1 to g2"

# both vifs at once, ended by Ctrl-C and by SIGTERM
capture g1 g1 vif0 -w "$work/g1.pcapng"
capture g2 2 0 -w "$work/g2.pcapng" --direction to
[ "$(pvio stats g1 vif0 --json | jq '.[0].stats.capture.dropped')" = 0 ] || die "stats show no capture"
ping_g2 -c20
ping_g2 -c3 -s 1400 -p ab
kill -INT "${captures[g1]}"
kill -TERM "${captures[g2]}"
ended g1
ended g2
[ "$(pvio stats g1 vif0 --json | jq '.[0].stats.capture')" = null ] || die "still captured: $(pvio stats g1 vif0)"
for want in "1 g1/vif0 0x00000002 23 icmp.type==8" "1 g1/vif0 0x00000001 23 icmp.type==0" "2 g2/vif0 0x00000001 23 icmp.type==8" "2 g2/vif0 0 0 icmp.type==0"; do
	read -r g name flags n filter <<<"$want"
	fields "$work/g$g.pcapng" "$filter" frame.interface_name frame.packet_flags | sort | uniq -c >"$work/got"
	[ "$n" = 0 ] && [ -s "$work/got" ] && die "g$g, $filter: $(cat "$work/got")"
	[ "$n" = 0 ] || [ "$(tr -s ' ' <"$work/got")" = " $n $(printf '%s\t%s' "$name" "$flags")" ] || die "g$g, $filter: not $want but $(cat "$work/got")"
done
[ "$(fields "$work/g1.pcapng" 'icmp.type==8 and frame.len==1442 and data contains ab:ab:ab:ab' frame.cap_len | uniq -c | tr -s ' ')" = " 3 1442" ] || die "large packets"
capinfos "$work/g1.pcapng" >"$work/infos" || die "capinfos: $(cat "$work/infos")"
grep -q 'File timestamp precision:  *nanoseconds' "$work/infos" || die "no nanoseconds: $(cat "$work/infos")"
grep -q 'Number of interfaces in file: 1' "$work/infos" && grep -q 'Number of stat entries = 1' "$work/infos" || die "$(cat "$work/infos")"
# as long as it took, and now: not as old as the machine is up
awk -v t="$(fields "$work/g1.pcapng" icmp frame.time_epoch | tail -1)" -v now="$(date +%s)" 'BEGIN { exit !(t <= now + 1 && t > now - 3600) }' || die "times"
[ "$(stat -c %a "$work/g1.pcapng")" = 600 ] || die "others may read the file"

# a count, a snaplen, a pipe
capture count g1 vif0 -w "$work/count.pcapng" --count 7 --snaplen 40
ping_g2 -c10
ended count
[ "$(fields "$work/count.pcapng" frame frame.cap_len | sort | uniq -c | tr -s ' ')" = " 7 40" ] || die "--count, --snaplen: $(capinfos "$work/count.pcapng")"
"$bin/pvio" capture g1 vif0 -w - --count 8 --direction from 2>"$work/pipe.log" | tshark -n -r - -T fields -e frame.packet_flags >"$work/pipe" 2>/dev/null &
pipe=$!
until_true 10 grep -q capturing "$work/pipe.log" || die "capture -w -: $(cat "$work/pipe.log")"
ping_g2 -c10
wait $pipe
[ "$(sort "$work/pipe" | uniq -c | tr -s ' ')" = " 8 0x00000002" ] || die "-w -: $(cat "$work/pipe")"

# one at a time, vifs only; the detach of its vif and the end of the backend end it
capture first g1 vif0 -w "$work/first.pcapng"
pvio capture g1 vif0 -w "$work/count.pcapng" 2>"$work/second" && die "captured twice"
[ -s "$work/count.pcapng" ] || die "a refused capture emptied the file"
grep -q "captured already" "$work/second" || die "$(cat "$work/second")"
pvio capture g1 vif7 -w "$work/none" 2>/dev/null && die "captured vif7"
pvio capture g1 vif0 2>/dev/null && die "captured to nowhere"
pvio capture g1 vif0 -w "$work/none" --direction up 2>/dev/null && die "captured upwards"
capture killed g2 vif0 -w "$work/killed.pcapng"
pvio detach g1 vif0 --force || die "detach"
ended first
tshark -n -r "$work/first.pcapng" >/dev/null 2>&1 || die "the file of a detached vif"
kill -KILL "$(cut -d' ' -f1 "$PVIO_RUNDIR/pvio-netback.pid")"
wait "${captures[killed]}" && die "the backend was killed, and its capture did not fail"
grep -q "the backend ended" "$work/killed.log" || die "$(cat "$work/killed.log")"
tshark -n -r "$work/killed.pcapng" >/dev/null 2>&1 || die "the file of a killed backend"
[ -z "$(ls "$PVIO_RUNDIR" | grep capture)" ] || die "left behind: $(ls "$PVIO_RUNDIR")"
