# bars: an apply takes no more than 1.1 of what the kernel takes for the same writes; claim, configure and bind less than 1.2 of a reset.
# limit: 600
need nic || return
ROUNDS=${ROUNDS:-7}
declare_nic 7 >/run/lab/seven
median() { sort -n | sed -n "$(((ROUNDS + 1) / 2))p"; }
ms() { # COMMAND... : how long it took, its start included
	local from=${EPOCHREALTIME/./}
	"$@" >/run/lab/out 2>&1 || { cat /run/lab/out >&2; return 1; }
	echo $((${EPOCHREALTIME/./} - from)) | sed 's/...$/.&/'
}
at_most() { jq -ne "$1 <= $2 * $3"; } # A TIMES B
ratio() { jq -nr "$1 / $2 * 100 | round / 100"; }

fresh
echo 0 >"$PCI/$nic/sriov_drivers_autoprobe" # who binds them, and when, is another matter
for ((n = 0; n < ROUNDS; n++)); do
	echo 0 >"$PCI/$nic/sriov_numvfs"
	ms raw_apply "$nic" "$(netdev $nic)" 7 >>/run/lab/raw
	echo 0 >"$PCI/$nic/sriov_numvfs"
	ms pvio vf apply /run/lab/seven >>/run/lab/ours
done
raw=$(median </run/lab/raw) ours=$(median </run/lab/ours)
paste /run/lab/raw /run/lab/ours | show
info "seven functions with all settings: the kernel $raw ms, pvio vf apply $ours ms, ratio $(ratio "$ours" "$raw")"
expect "apply is within 1.1 of the kernel's time" at_most "$ours" 1.1 "$raw"

one=$(vf $nic 0)
reset() { echo 1 >"$PCI/$one/reset"; }
for ((n = 0; n < ROUNDS; n++)); do
	ms reset >>/run/lab/reset
	ms pvio vf claim "$one" --for web --driver vfio-pci mac=02:00:00:00:0a:0a vlan=42 >>/run/lab/claim
	pvio vf release "$one" || fail "release" "exit $?"
done
reset=$(median </run/lab/reset) claim=$(median </run/lab/claim)
paste /run/lab/reset /run/lab/claim | show
info "a reset $reset ms; claim, configure and bind $claim ms, ratio $(ratio "$claim" "$reset")"
expect "claim, configure and bind are within 1.2 of a reset" at_most "$claim" 1.2 "$reset"
