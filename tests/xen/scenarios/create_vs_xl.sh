# create_vs_xl: what it takes to create the same guest with a vif and a vbd: pvio guest create beside xl create, in one boot, with uuid= given.
# types: pv pvh
# limit: 400
start_xenstored -T /run/lab/trace
start_linux_backends
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
ip link set xenbr0 up # of Linux' vif
truncate -s 64M /run/lab/disk.img
xl_config twin stock 10.0.0.2,10.0.0.1 "disk = ['/run/lab/disk.img,raw,xvda,w']" "vif = ['bridge=xenbr0']"

operations() { grep -ac 'IN ' /run/lab/trace; }
forks() { sed -n 's/^processes //p' /proc/stat; } # and threads
by_xl() { xl create /run/lab/twin.cfg; }
by_pvio() { pvio_guest twin stock 10.0.0.2,10.0.0.1 --uuid "$(cat /proc/sys/kernel/random/uuid)" --vbd "xvda path=/run/lab/disk.img" --vif ""; }
declare -A ms ops procs
once() { # WHO
	local t o p
	o=$(operations) p=$(forks) t=${EPOCHREALTIME/./}
	by_$1 >/run/lab/out 2>&1 || { show /run/lab/out; return 1; }
	t=$(((${EPOCHREALTIME/./} - t) / 1000))
	procs[$1]=$(($(forks) - p - 1)) # less this count itself
	ops[$1]=$(($(operations) - o))
	ms[$1]+=" $t"
}
median() { printf '%s\n' $1 | sort -n | sed -n 2p; }
for round in 1 2 3; do
	expect "xl create $round" once xl || return
	xl destroy twin
	expect "pvio guest create $round" once pvio || { logs pviod blkback netback; return; }
	pvio guest destroy twin
done
for who in xl pvio; do
	ms[$who]=$(median "${ms[$who]}")
	info "$who: ${ms[$who]} ms (median of 3), ${ops[$who]} XenStore operations, ${procs[$who]} processes and threads"
done
ratio() { echo "$(($1 * 10 / ($2 > 0 ? $2 : 1)))" | sed 's/.$/.&/'; }
info "xl takes $(ratio ${ms[xl]} ${ms[pvio]}) times the time, $(ratio ${procs[xl]} ${procs[pvio]}) times the processes"
expect "a fraction of the time" [ ${ms[xl]} -ge $((5 * ms[pvio])) ] # on an idle machine a tenth
expect "a tenth of the XenStore operations" [ ${ops[xl]} -ge $((10 * ops[pvio])) ]
expect "a tenth of the processes" [ ${procs[xl]} -ge $((10 * procs[pvio])) ]
