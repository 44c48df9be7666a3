# side_by_side: our backends beside Linux', in one boot: two guests of the same kernel and memory, one served by xen-blkback and xen-netback (xl),
# one by pvio-blkback and pvio-netback, each with a RAM disk (brd) and an interface to dom0. They are measured in turns, the median of
# three counts, and once more with kprobes, which count what either asks of Xen.
# types: pv
# limit: 900
seconds=1 rounds=3
start_xenstored
start_linux_backends
modprobe brd rd_nr=2 rd_size=65536
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
ip addr flush dev pvio0
ip addr add 10.0.1.1/24 dev pvio0
ip link set xenbr0 up
declare -A address=([linux]=10.0.0.2 [ours]=10.0.1.2)
xl_config linux serve ${address[linux]} "disk = ['phy:/dev/ram0,xvda,w']" "vif = ['bridge=xenbr0']"
expect "xl create" xl_create linux || return
expect "pvio guest create" pvio_guest ours serve ${address[ours]} --vbd "xvda path=/dev/ram1" --vif "" || return
in_guest() { echo "$2 2>&1" | nc -w 60 "${address[$1]}" 7000; } # WHO COMMAND
serves() { [ "$(in_guest "$1" "echo yes")" = yes ]; }
for who in linux ours; do expect "the guest of $who serves" wait_for 120 serves $who || { logs blkback netback pviod; xl_console linux; pvio_console ours; return; }; done

# ---- counters

trace=/sys/kernel/tracing
mount -t tracefs tracefs $trace
for f in gnttab_map_refs gnttab_unmap_refs gnttab_batch_copy notify_remote_via_irq; do echo "p:$f $f" >>$trace/kprobe_events; done
probes() { echo "$1" >$trace/events/kprobes/enable; }
# NAME VALUE lines: hypercalls of whoever makes them, and what our backend asked for
counters() { # xvda|vif0
	awk '{print $1, $2}' $trace/kprobe_profile
	pvio stats ours "$1" --json | jq -r '[.. | .backend? | objects][0] | (.hyper | to_entries[] | "\(.key) \(.value)"), "sleeps \(.sleeps)", "submits \(.submits // 0)"'
}
per() { # BEFORE AFTER UNITS NAME... : what grew by how much a unit
	local b=$1 a=$2 n=$3
	shift 3
	awk -v n="$n" -v names="$*" 'NR == FNR {b[$1] = $2; next} {d[$1] = $2 - b[$1]}
		END {k = split(names, w, " "); for (i = 1; i <= k; i++) if (d[w[i]]) printf "%s %.3g, ", w[i], d[w[i]] / n}' "$b" "$a"
}
linux_counts="gnttab_map_refs gnttab_unmap_refs gnttab_batch_copy notify_remote_via_irq"
our_counts="gnttab_map_refs gnttab_unmap_refs gnttab_batch_copy notifies maps unmaps copies copied_pieces copied_bytes polls events unmasks submits sleeps"

# ---- the loads: each prints how many units were done a second

disk() { in_guest "$1" "diskio /dev/xvda $2 $3 $4 $seconds" | sed -n 's/.*ops=\([0-9]*\) seconds=\([0-9.]*\).*/\1 \2/p' | awk '{printf "%.0f\n", $1 / $2}'; }
tcp() { iperf3 -J -c "${address[$1]}" -t $seconds $2 | jq '.end.sum_received.bits_per_second / 8e3 | floor'; } # KB
udp() { iperf3 -J -u -b 0 -l 64 -c "${address[$1]}" -t $seconds $2 | jq '.end.sum | (.packets - .lost_packets) / .seconds | floor'; }

median() { printf '%s\n' "$@" | sort -n | sed -n $((($# + 1) / 2))p; }
pair() { # NAME UNIT xvda|vif0 LOAD ARG...
	local name=$1 unit=$2 device=$3 load=$4 i who units
	local -A runs
	shift 4
	for ((i = 0; i < rounds; i++)); do
		for who in linux ours; do runs[$who]+=" $($load $who "$@")"; done
	done
	local l o
	l=$(median ${runs[linux]}) o=$(median ${runs[ours]})
	if [ "${l:-0}" -gt 0 ] && [ "${o:-0}" -gt 0 ]; then
		info "$name: linux $l, ours $o $unit, ratio $((100 * o / l))%"
	else
		fail "$name" "linux ${runs[linux]}, ours ${runs[ours]}"
	fi
	probes 1
	for who in linux ours; do
		counters $device >/run/lab/before
		units=$($load $who "$@")
		counters $device >/run/lab/after
		[ $who = linux ] && names=$linux_counts || names=$our_counts
		[ "${units:-0}" -gt 0 ] && echo "  | $name $who, each of $units: $(per /run/lab/before /run/lab/after $((units * seconds)) $names)"
	done
	probes 0
}
for bytes in 4096 131072; do
	for op in read write; do
		for depth in 1 32; do pair "disk $op $bytes bytes depth $depth" requests/s xvda disk $op $bytes $depth; done
	done
done
pair "tcp to the guest" KB/s vif0 tcp ""
pair "tcp from the guest" KB/s vif0 tcp -R
pair "udp 64 bytes to the guest" packets/s vif0 udp ""
pair "udp 64 bytes from the guest" packets/s vif0 udp -R
resident() { for pid in $(pidof "$1"); do cat "/proc/$pid/status"; done | awk '/VmRSS/ {kib += $2} END {print int(kib / 1024)}'; } # MiB
for p in pviod pvio-blkback pvio-netback; do info "$p: $(resident $p) MiB resident"; done
pvio guest destroy ours
xl destroy linux
logs blkback netback
