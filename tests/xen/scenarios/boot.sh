# boot: dom0 on real Xen has what pvio needs.
# types: none
# short: yes
show <(cat /sys/hypervisor/version/{major,minor,extra} /proc/version; grep -m1 flags /proc/cpuinfo)
expect "the hypervisor is Xen" grep -qx xen /sys/hypervisor/type
for d in evtchn gntdev gntalloc privcmd hypercall; do expect "/dev/xen/$d" test -c /dev/xen/$d; done
expect "we are dom0" grep -q control_d /proc/xen/capabilities
expect "DPDK's flags" grep -qw sse4_2 /proc/cpuinfo
for p in pviod pvio pvio-blkback pvio-netback pvio-dd pvio-tap; do expect "$p runs" $p --version; done
