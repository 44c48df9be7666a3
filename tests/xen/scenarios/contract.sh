# contract: the hypervisor port keeps every sentence of hyper.h on Xen, too; dom0 is both ends.
# types: none
# short: yes
[ -x /bin/test_hyper ] || { fail "contract" "test_hyper is not in the image; build it first (make tests)"; return; }
PVIO_TEST_WORLD="xen 0 0" test_hyper >/run/lab/contract 2>&1
rc=$?
show /run/lab/contract
while read -r _ _ _ name; do pass "$name"; done < <(grep -F '[       OK ]' /run/lab/contract)
grep -E '^\[  FAILED  \] [a-z]' /run/lab/contract | sort -u | while read -r _ _ _ name; do fail "$name" "see the log"; done
[ $rc = 0 ] || fail "test_hyper" "it ended with $rc"
