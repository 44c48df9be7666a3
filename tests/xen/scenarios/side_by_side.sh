# side_by_side: our backends beside Linux', with the same guest, kernel and disk, in one boot.
# types: pv
# limit: 300
disk=/dev/ram0
start_xenstored
start_linux_backends
modprobe brd rd_nr=1 rd_size=65536
mount -t tracefs t /sys/kernel/tracing 2>/dev/null
in_guest() { echo "$2 2>&1" | nc -w 30 $1 7000; }
ls /sys/kernel/tracing | head -50
for f in gnttab_map_refs gnttab_unmap_refs gnttab_unmap_refs_async gnttab_unmap_refs_sync gnttab_batch_copy notify_remote_via_irq evtchn_interrupt; do
	echo "p:k_$f $f" >>/sys/kernel/tracing/kprobe_events || echo no $f
done
echo 1 >/sys/kernel/tracing/events/kprobes/enable
xl_config linux serve 10.0.0.2 "disk = ['phy:$disk,xvda,w']" "vif = ['bridge=xenbr0']"
expect "xl create" xl_create linux
wait_for 30 ping -c1 -W1 10.0.0.2
sleep 1
in_guest 10.0.0.2 "cat /proc/cpuinfo | grep flags; ethtool -k eth0 | grep -v fixed"
for op in read write; do for b in 4096 131072; do for d in 1 32; do
	cat /sys/kernel/tracing/kprobe_profile >/run/k0
	in_guest 10.0.0.2 "diskio /dev/xvda $op $b $d 2"
	cat /sys/kernel/tracing/kprobe_profile; 
done; done; done
iperf3 -c 10.0.0.2 -t 3
iperf3 -c 10.0.0.2 -t 3 -R
iperf3 -u -b 0 -l 64 -c 10.0.0.2 -t 3
iperf3 -u -b 0 -l 64 -c 10.0.0.2 -t 3 -R
xl_console linux | tail
pass x
