#!/bin/bash
# pvio-bond: what it does with a guest's devices, on a tree that stands for /sys and with commands that write down how they were called; and, where
# the kernel has bonds, that ip takes those commands.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
net=$work/sys/class/net mac=00:16:3e:00:00:42
mkdir -p "$net" "$work/bin" "$work/sys/bus/xen" "$work/sys/bus/pci" "$work/store"
export PVIO_BOND_SYS=$work/sys PATH=$work/bin:$PATH WORK=$work

device() { # NAME BUS ADDRESS
	mkdir -p "$work/sys/devices/$1/vif-0" "$net/$1"
	ln -s "$work/sys/bus/$2" "$work/sys/devices/$1/vif-0/subsystem"
	ln -s "$work/sys/devices/$1/vif-0" "$net/$1/device"
	echo "$3" >"$net/$1/address"
}
cat >"$work/bin/ip" <<'FAKE'
#!/bin/bash
echo "ip $*" >>"$WORK/said"
[[ $* != *nobond* ]] || exit 1
FAKE
for c in read write; do printf '#!/bin/bash\nf=$WORK/store/${1//\\//.}\n[ $# = 1 ] && exec cat "$f"\necho "$2" >"$f"\n' >"$work/bin/xenstore-$c"; done
printf '#!/bin/bash\nprintf "device/vif/0/state\\ndevice/vif/0/pair\\n"\n' >"$work/bin/xenstore-watch"
chmod +x "$work"/bin/*

bond() { # ARGUMENT... : and what was done is in $work/said
	: >"$work/said"
	frontends/scripts/pvio-bond "$@"
}
said() { # LINE... : all that was done
	printf '%s\n' "$@" | diff - "$work/said" || die "that is not what was to be done"
}
used() { [ "$(cat "$work/store/device.vif.0.pair-used")" = "$1" ] || die "dom0 is told $(cat "$work/store/device.vif.0.pair-used")"; }
make="ip link add name bond-eth0 address $mac type bond mode active-backup miimon 100 fail_over_mac active primary_reselect always num_grat_arp 3"

device eth0 xen $mac
device eth1 xen 00:16:3e:00:00:43
mkdir -p "$net/lo" && echo 00:00:00:00:00:00 >"$net/lo/address"
bond up || die "nothing to do is no failure"
[ ! -s "$work/said" ] || die "dom0 calls no vif one of a pair: $(cat "$work/said")"

# ---- the vif alone
echo vf >"$work/store/device.vif.0.pair"
rm -r "$net/eth1" # (of the same number here)
bond up || die "up"
said "$make" "ip link set dev eth0 down" "ip link set dev eth0 master bond-eth0" "ip link set dev eth0 up" "ip link set dev bond-eth0 up" \
	"ip link set dev bond-eth0 type bond primary eth0 active_slave eth0"
used vif
mkdir "$net/bond-eth0"
echo $mac >"$net/bond-eth0/address"
ln -s ../bond-eth0 "$net/eth0/master"

# ---- a VF comes; another device is none of its
device ens5 pci $mac
device ens6 pci 00:16:3e:00:00:99
bond add ens6 || die "add"
[ ! -s "$work/said" ] || die "another device was touched"
bond add ens5 || die "add"
said "ip link set dev ens5 down" "ip link set dev ens5 master bond-eth0" "ip link set dev ens5 up" "ip link set dev bond-eth0 type bond primary ens5"
used vf
ln -s ../bond-eth0 "$net/ens5/master"

# ---- dom0 wants it back: it is left, and stays there until it is taken
echo vif >"$work/store/device.vif.0.pair"
bond follow || die "follow"
said "ip link set dev bond-eth0 up" "ip link set dev bond-eth0 type bond primary eth0 active_slave eth0"
used vif
bond down eth0 || die "down"
said "ip link del dev bond-eth0"
bond up eth9 2>"$work/err" && die "there is no eth9"
grep -q "no network device eth9" "$work/err" || die "$(cat "$work/err")"
bond sideways 2>/dev/null && die "no such command"

# ---- the same words, for the kernel
[ "$(id -u)" = 0 ] || { echo "no root: the commands were not tried"; exit 0; }
rm "$work/bin/ip"
hash -r
netns_new guest
trap 'for p in "${holders[@]}"; do kill $p; done; rm -rf "$work"' EXIT
in_netns guest ip link add name trial type bond 2>/dev/null || { echo "this kernel has no bonds (modprobe bonding): the commands were not tried"; exit 0; }
in_netns guest ip link del trial
in_netns guest sh -c "ip link add eth0 address $mac type veth peer name p0 && ip link add ens5 address $mac type veth peer name p1 && ip link set p0 up && ip link set p1 up"
rm -r "$net/bond-eth0" "$net/eth0/master" "$net/ens5/master"
slave() { in_netns guest ip -d -j link show bond-eth0 | jq -r '.[0].linkinfo.info_data.active_slave'; }
is_slave() { [ "$(slave)" = "$1" ]; }
echo vf >"$work/store/device.vif.0.pair"
in_netns guest frontends/scripts/pvio-bond up || die "up, with the kernel's bonds"
mkdir "$net/bond-eth0"
until_true 20 is_slave ens5 || die "the VF is there, and the bond uses $(slave)"
in_netns guest ip link set p1 down
until_true 20 is_slave eth0 || die "the VF has no carrier, and the bond uses $(slave)"
in_netns guest ip link set p1 up
until_true 20 is_slave ens5 || die "the VF is back, and the bond uses $(slave)"
ln -s ../bond-eth0 "$net/eth0/master"
ln -s ../bond-eth0 "$net/ens5/master"
echo vif >"$work/store/device.vif.0.pair"
in_netns guest frontends/scripts/pvio-bond follow || die "follow, with the kernel's bonds"
is_slave eth0 || die "dom0 wants the VF back, and the bond uses $(slave)"
echo ok
