#!/bin/bash
# The main job as a user runs it, then again interrupted in the middle of its network part: nothing may stay behind.
# alone: it compares what the machine has before and after
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/integration/lib.sh
need root tun uring
out=$(mktemp)
trap 'rm -f "$out"' EXIT

tests/integration/main_job.sh >"$out" 2>&1
rc=$?
cat "$out"
[ $rc = 0 ] || exit $rc
for want in "SHA-256 .* equal" "e2fsck -fn clean" "20 received" "are as before" "attach of g2 vbd xvda" "attach of g2 vif 0" "Mpps" "Gbit/s" "IOPS"; do
	grep -q -- "$want" "$out" || die "the report lacks '$want'"
done

before=$(snapshot)
setsid env --default-signal=INT tests/integration/main_job.sh >"$out" 2>&1 & job=$! # a background job begins with SIGINT ignored
until_true 60 grep -q "iperf3 TCP g1" "$out" || die "the second run did not reach its network part: $(tail -5 "$out")"
kill -INT -- -$job # as a terminal does: the whole process group
wait $job
rc=$?
[ $rc = 130 ] || die "interrupted, the job ended with $rc instead of 130"
diff <(echo "$before") <(snapshot) || die "the interrupted run left this behind"
echo "interrupted: nothing left behind"
