# The contract of the hypervisor port in a guest.
. /lab/lib.sh
test_hyper_pair agent xen 0
say "waits"
check "the guest with dom0" test_hyper_pair with xen 0
check "the guest with itself" env PVIO_TEST_WORLD="xen -1 -1" test_hyper
grep '^SKIP' /tmp/check | sort | uniq -c
