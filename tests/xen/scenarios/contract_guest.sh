# contract_guest: the hypervisor port in an unprivileged guest: with itself, and between the guest and dom0, both ways round.
# types: pv pvh
# limit: 600
console_says() { xl_console contract 2>/dev/null | grep -aq "$1"; }
agent_of() { sed -n 's/\r$//; s/^agent: \([0-9]*\) \([0-9]*\)$/\1 \2/p' "$1"; }

[ -x /bin/test_hyper_pair ] || { fail "contract" "test_hyper_pair is not in the image; build it first (make tests)"; return; }
start_xenstored
xl_config contract contract "" "ramdisk = \"$(ramdisk unit)\""
expect "xl create" xl_create contract || return
guest=$(xl domid contract)

# The guest shares, dom0 maps.
expect "the guest's agent is there" wait_for 240 console_says "^agent: " || { xl_console contract | show; return; }
read -r gref port < <(agent_of /var/log/xen/console/guest-contract.log)
expect "dom0 with the guest" test_hyper_pair with xen "$guest" "$gref" "$port"

# dom0 shares, the guest maps; it learns where from its pointer, the node of its store, which it watches already.
test_hyper_pair agent xen "$guest" >/run/lab/agent &
wait_for 20 grep -q agent /run/lab/agent
read -r gref port < <(agent_of /run/lab/agent)
expect "the guest waits for its pointer" wait_for 60 console_says "^guest: waits"
expect "the pointer" xenstore-write "/local/domain/$guest/device/pvio" "1 1 $gref $port"

expect "the guest powers off" xl_gone contract 300
xl_console contract | guest_verdicts guest
