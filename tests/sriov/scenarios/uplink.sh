# uplink: netback drives a virtual function as its uplink, by DPDK and vfio: a guest's packets go to the NIC's own port and back; what DPDK was not told of is left alone.
# limit: 240
need nic || return
export PVIO_HYPERVISOR=loopback PVIO_RUNDIR=/run/lab/pvio
mac=02:00:00:00:00:43
port=$(netdev $nic)
modprobe -a igbvf tun
printf 'pf %s vfs 2\n' "$nic" >/run/lab/two
expect "two functions" pvio vf apply /run/lab/two
one=$(pvio vf claim "$nic/0" --for netback --driver vfio-pci mac=$mac)
other=$(pvio vf claim "$nic/1" --for web --driver vfio-pci)
ip addr add 10.78.0.254/24 dev "$port"
ip netns add guest
leave() {
	end_background
	pids=()
	pvio sandbox down
	ip netns del guest
	ip addr del 10.78.0.254/24 dev "$port"
}
trap 'leave >/dev/null 2>&1' EXIT

expect "netback takes it" pvio sandbox up --guests 1 --uplink "xenbr0=$one" || { tail -n 20 $PVIO_RUNDIR/*.log | show; return; }
expect "and not the other one, which somebody else opens" vf_open "$other"
expect "a vif behind it" pvio attach g1 vif 1 bridge=xenbr0 mac=$mac
background tap pvio-tap --domid 1 --vif 1 --tap eth0 --netns guest --wait 60 --address 10.78.0.1/24
pings() { ip netns exec guest ping -q -c 3 -i 0.3 -W 3 "$@" 10.78.0.254; }
expect "the guest reaches the NIC's own port" wait_for 60 pings || { logs tap; pvio stats | show; tail -n 20 $PVIO_RUNDIR/*.log | show; return; }
expect "also with packets of the MTU's size" pings -s 1472
expect "netback is replaced" pvio backend restart netback || tail -n 20 $PVIO_RUNDIR/*.log | show
expect "and drives it again" wait_for 60 pings || { tail -n 20 $PVIO_RUNDIR/*.log | show; return; }
