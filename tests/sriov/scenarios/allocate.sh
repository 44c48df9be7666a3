# allocate: fifty at once get seven functions, each one of its own; so are they released.
# short: yes
need nic || return
declare_nic 7 >/run/lab/seven
echo "pool web 0-6" >>/run/lab/seven
expect "seven" pvio vf apply /run/lab/seven
jobs=()
for n in {1..50}; do
	pvio vf claim --for "guest$n" --pool web --driver vfio-pci >"/run/lab/claim.$n" 2>&1 &
	jobs+=($!)
done
got=0
for n in {1..50}; do wait "${jobs[n - 1]}" && { got=$((got + 1)); echo "$(cat "/run/lab/claim.$n") guest$n"; }; done >/run/lab/got
show /run/lab/got
expect "seven of fifty got one" is "$(wc -l </run/lab/got)" 7
expect "each another" is "$(cut -d' ' -f1 /run/lab/got | sort -u | wc -l)" 7
expect "the others were told that none is free" is "$(grep -l 'no VF is free' /run/lab/claim.* | wc -l)" 43
who() { pvio vf list --json | jq -r '.pfs[].vfs[]? | select(.owner) | "\(.vf) \(.owner)"' | sort; }
expect "the list says who has which" is "$(who)" "$(sort /run/lab/got)"
jobs=()
while read -r one _; do
	pvio vf release "$one" &
	jobs+=($!)
done </run/lab/got
ended=0
for j in "${jobs[@]}"; do wait "$j" || ended=$?; done
expect "all are released" is "$ended" 0
expect "nobody has one" is "$(who)" ""
expect "all are without what they had" is "$(ls /var/lib/pvio/vf/vf-*.json 2>/dev/null)" ""
