# net_killed: netback is killed, and handed over, under a TCP connection between two stock guests, which goes on.
# types: pv pvh
# limit: 500
start_pvio || { fail "pviod and its backends" "they do not come up"; logs pviod blkback netback; return; }
kill_netback() { killall -9 pvio-netback && wait_for 30 eval '! pidof pvio-netback'; }
said() { pvio_console "$1" | grep -aq "guest: $2"; }
state() { pvio list "$1" --json | jq -r '.[].state'; }
connected() { [ "$(state listener) $(state caller)" = "Connected Connected" ]; }
generation() { pvio inspect --json | jq -c '[.. | .generation? // empty]'; }
expect "a guest that listens" pvio_guest listener long_tcp 10.0.0.3 --vif "" || return
expect "it listens" wait_for 200 said listener listens
expect "a guest that calls" pvio_guest caller long_tcp 10.0.0.2,10.0.0.3 --vif "" || return
expect "the connection runs" wait_for 200 said caller runs
sleep 5
before=$(generation)
for i in 1 2 3; do
	began=$EPOCHREALTIME
	expect "killed ($i)" kill_netback
	background "netback$i" pvio-netback --uplink tap:pvio0 --memory 32
	expect "connected again ($i)" wait_for 60 connected || logs pviod "netback$i"
	info "from the kill to both vifs served again, $i: $(jq -n "(($EPOCHREALTIME - $began) * 100 | round) / 100") s, of which starting DPDK is most"
	sleep 3
done
expect "handed over" pvio backend handover netback -- pvio-netback --uplink tap:pvio1 --memory 32 || logs pviod netback3
expect "both vifs are served" wait_for 60 connected
expect "the frontends were not told anything" [ "$(generation)" = "$before" ]
show <(pvio stats)
expect "the caller ends" pvio_gone caller 200
expect "the listener ends" pvio_gone listener 60
pvio_console caller | guest_verdicts caller
pvio_console listener | guest_verdicts listener
logs pviod netback1 netback2 netback3
killall pvio-netback
