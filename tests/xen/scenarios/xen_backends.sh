# xen_backends: the tests of the backends as processes, the hostile ones, on the real hypervisor: domain 0 is its own guest.
# types: none
# limit: 2400
echo 65536 >/sys/module/xen_gntalloc/parameters/limit
modprobe brd rd_nr=1 rd_size=131072
modprobe ext4
mke2fs -q -F /dev/ram0 && mount /dev/ram0 /tmp # their images: a file system with O_DIRECT
export PVIO_HYPERVISOR=xen
for t in /bin/tests/hostile/test_*; do
	expect "${t##*/}" timeout 400 "$t" || cat /tmp/pvio-rig.*/log | show
	rm -rf /tmp/pvio-rig.*
done
