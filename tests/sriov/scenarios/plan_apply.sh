# plan_apply: a plan changes nothing; an apply does what was planned; a second one does nothing; a refusal is the device's, and the rest is kept
# or undone as asked.
# short: yes
need nic || return
declare_nic 7 >/run/lab/seven
expect "a plan tells the number" says "7 VFs" pvio vf plan /run/lab/seven
expect "and the settings" says "02:00:00:00:00:16" pvio vf plan /run/lab/seven
show /run/lab/said
expect "and changes nothing" is "$(number $nic)" 0
expect "it is applied" pvio vf apply /run/lab/seven
expect "seven are there" is "$(number $nic)" 7
expect "as declared, says the kernel" as_declared 7

indexes() { ip -j link | jq -c '[.[].ifindex]'; }
before=$(indexes)
expect "applied again, there is nothing to do" says "nothing to do" pvio vf apply /run/lab/seven
expect "and the same functions are there" is "$(indexes)" "$before"
expect "nor is there by a plan" says "nothing to do" pvio vf plan /run/lab/seven
show /run/lab/said

ip link set "$(netdev $nic)" vf 3 vlan 7
expect "a setting that somebody changed is planned" says "VF 3" pvio vf plan /run/lab/seven
show /run/lab/said
expect "and set again" pvio vf apply /run/lab/seven
expect "it alone" as_declared 7
expect "with the same functions" is "$(indexes)" "$before"

echo "pf $nic vfs 8" >/run/lab/eight
expect "more than it has are refused, with the place" refuses "eight:1:" pvio vf plan /run/lab/eight
show /run/lab/said
expect "a mistake is told with its place" refuses ":2:" pvio vf plan - < <(printf 'pf %s vfs 2\nvf 5 trust on\n' $nic)
show /run/lab/said

{ declare_nic 7 | sed 's/vlan 100 /vlan 77 /'; echo "vf 2 link down"; } >/run/lab/down
expect "what the device refuses is told as its refusal" refuses "refused" pvio vf apply /run/lab/down --undo
show /run/lab/said
expect "with --undo all is as before" as_declared 7
expect "without it that is refused as well" refuses "refused" pvio vf apply /run/lab/down
expect "and the rest is kept" is "$(told $nic 0 | cut -d' ' -f2)" 77

echo "pf $nic vfs 0" >/run/lab/none
expect "none are declared" pvio vf apply /run/lab/none
expect "and none are there" is "$(number $nic)" 0
