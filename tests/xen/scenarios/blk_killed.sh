# blk_killed: blkback is killed 20 times, and handed over, under a stock guest that writes its disk past its cache and compares: it notices nothing.
# types: pv pvh
# limit: 700
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
kill_blkback() { killall -9 pvio-blkback && wait_for 30 eval '! pidof pvio-blkback'; }
said() { pvio_console writer | grep -aq "guest: $1"; }
connected() { [ "$(pvio list writer --json | jq -r '.[].state')" = Connected ]; }
generation() { pvio inspect --json | jq -c '[.. | .generation? // empty]'; }
adoptions() { pvio inspect --json | jq '[.[] | select(.type == "vbd") | .pviod.adoptions] | add'; }
truncate -s 64M /run/lab/disk.img
expect "a guest that writes" pvio_guest writer long_disk 200 --vbd "xvda path=/run/lab/disk.img" || return
expect "it writes" wait_for 200 said writes || logs pviod blkback
sleep 2
before=$(generation)
pauses=()
for i in {1..20}; do
	began=$EPOCHREALTIME
	kill_blkback || { fail "killed ($i)" "it lives"; break; }
	background "blkback$i" pvio-blkback
	wait_for 60 connected || { fail "connected again ($i)" "$(pvio list)"; logs pviod "blkback$i"; break; }
	pauses+=("$(jq -n "(($EPOCHREALTIME - $began) * 100 | round) / 100")")
	sleep 0.$((RANDOM % 10))
done
expect "killed 20 times, and adopted" [ "$(adoptions)" = 20 ]
info "from the kill to the vbd served again, s: ${pauses[*]}"
for i in 1 2 3; do
	expect "handed over ($i)" pvio backend handover blkback || logs pviod blkback20
	sleep 1
done
expect "connected" wait_for 60 connected
expect "the frontend was not told anything" [ "$(generation)" = "$before" ]
show <(pvio stats)
expect "the guest ends" pvio_gone writer 300
pvio_console writer | guest_verdicts writer
logs pviod blkback1 blkback20
killall pvio-blkback
