#!/bin/bash
# pvio rules: the examples, errors with their place, load and show, and what outlives a restart of the backend.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need jq
begin
pvio=$bin/pvio
export PVIO_HYPERVISOR=loopback

for f in netback/examples/*.rules; do
	"$pvio" rules check "$f" >"$work/out" || die "$f is refused"
	grep -q ' rules, default ' "$work/out" || die "$f: $(cat "$work/out")"
done
printf 'antispoof\n\ndrop to-guest dport 22\n' >"$work/bad.rules"
"$pvio" rules check "$work/bad.rules" 2>"$work/err" && die "a bad file was accepted"
grep -qx "$work/bad.rules:3:15: ports are TCP's and UDP's: give proto tcp or proto udp" "$work/err" || die "$(cat "$work/err")"
echo 'pass proto 300' | "$pvio" rules check - 2>"$work/err" && die "a bad file was accepted"
grep -q '^standard input:1:12: ' "$work/err" || die "$(cat "$work/err")"
"$pvio" rules check "$work/none" 2>"$work/err"
[ $? = 1 ] && grep -q 'cannot read .*none: No such file' "$work/err" || die "$(cat "$work/err")"

"$pvio" sandbox up --guests 1 >"$work/out" 2>&1 || die "$(cat "$work/out")"
"$pvio" rules show g1 vif0 2>"$work/err" && die "rules where there are none"
grep -q 'has no rules: pvio rules load' "$work/err" || die "$(cat "$work/err")"
"$pvio" rules load g1 vif0 "$work/bad.rules" 2>"$work/err" && die "bad rules were loaded"
grep -q ':3:15: ' "$work/err" || die "$(cat "$work/err")"
"$pvio" set g1 vif0 ip=192.0.2.10 || die "ip= was refused"
for f in netback/examples/*.rules; do
	sed 's/mirror vif1/mirror vif9/' "$f" >"$work/rules" && "$pvio" rules load g1 vif0 "$work/rules" || die "$f does not load"
	"$pvio" rules show g1 vif0 --json >"$work/out" || die "rules show"
	[ "$(jq '.rules | length' "$work/out")" = "$(grep -cE '^(pass|drop|reject)' "$f")" ] || die "$f: $(cat "$work/out")"
done
"$pvio" rules load g1 vif0 netback/examples/web-server.rules || die "load"
"$pvio" rules show g1 vif0 >"$work/out" || die "show"
grep -q '^ *14  *0  *0  *0  reject to-guest proto tcp syn$' "$work/out" || die "$(cat "$work/out")"
grep -q '^default: drop, 0 packets' "$work/out" && grep -q '^antispoof: mac and ip' "$work/out" || die "$(cat "$work/out")"

# a thousand rules and more, and what a file may have at most
for i in $(seq 1500); do echo "drop to-guest src 10.$((i % 250)).$((i / 250)).0/24 proto udp dport $i"; done >"$work/many"
"$pvio" rules load g1 vif0 "$work/many" || die "1500 rules"
[ "$("$pvio" rules show g1 vif0 --json | jq '.rules[1499].line')" = 1500 ] || die "not all of 1500 rules are shown"
"$pvio" set g1 vif0 carrier=1 || die "set"
[ "$("$pvio" rules show g1 vif0 --json | jq '.rules | length')" = 1500 ] || die "set of another key took the rules away"
: >"$work/none"
"$pvio" rules load g1 vif0 "$work/none" || die "no rules"
"$pvio" rules show g1 vif0 2>"$work/err" && die "rules are left"
"$pvio" sandbox down >/dev/null || die "sandbox down"
