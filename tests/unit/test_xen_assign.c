/* test_xen_assign.c - VFs given to guests of Xen: every step failing, the process killed after every change, domains that end.
 *
 * Xen is a table in shared memory, so that it outlives the process that is killed; it refuses what the real one does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/wait.h>
#include <xen/xen.h>
#include "sriov/xen.h"
#include "vf_tree.h"

enum { GUEST = 7, SBDF = 1 << 8 | 0x10 << 3, PIRQS = 8 };

static const struct vf_bdf vf = { 0, 1, 0x10, 0 };

struct fake {
	struct vf_xen xen;
	struct vf_xen_domain guest;
	bool there; /* the guest */
	bool no_iommu; /* it was made without */
	uint16_t holder;
	bool quarantined; /* what is taken from a guest goes there, not to domain 0 */
	unsigned ranges; /* of memory that the guest may map */
	bool pirq[PIRQS];
	unsigned calls, fail_at;
	int error;
};

static struct fake *xen;
static struct vf_tree tree;
static struct vf_sys *sys;
static struct vf_why why;

/* The n-th call fails, and has done nothing. */
static bool fails(void)
{
	return ++xen->calls == xen->fail_at;
}

static int fake_look(struct vf_xen *x, uint16_t domid, struct vf_xen_domain *out)
{
	(void)x;
	*out = xen->guest;
	return domid == GUEST && xen->there ? 0 : -ESRCH;
}

static int fake_assign(struct vf_xen *x, uint16_t domid, uint32_t sbdf)
{
	(void)x;
	assert_int_equal(sbdf, SBDF);
	if (fails())
		return xen->error;
	if (domid == GUEST && xen->no_iommu)
		return -EOPNOTSUPP;
	if (xen->holder == GUEST)
		return -EBUSY;
	xen->holder = domid;
	xen->quarantined |= domid == DOMID_IO;
	return 0;
}

static int fake_deassign(struct vf_xen *x, uint16_t domid, uint32_t sbdf)
{
	(void)x;
	assert_int_equal(sbdf, SBDF);
	if (fails())
		return xen->error;
	if (xen->holder != domid)
		return -ENODEV;
	xen->quarantined &= domid != DOMID_IO;
	xen->holder = xen->quarantined ? DOMID_IO : 0;
	return 0;
}

static int fake_is_free(struct vf_xen *x, uint32_t sbdf)
{
	(void)x, (void)sbdf;
	return xen->holder == GUEST ? -EBUSY : 0;
}

static int fake_memory(struct vf_xen *x, uint16_t domid, uint64_t mfn, uint64_t count, bool allow)
{
	unsigned bit = mfn == 0xfe000 ? 1 : 2;

	(void)x;
	assert_int_equal(domid, GUEST);
	assert_true((mfn == 0xfe000 && count == 4) || (mfn == 0xfe020 && count == 1));
	if (fails())
		return xen->error;
	xen->ranges = allow ? xen->ranges | bit : xen->ranges & ~bit;
	return 0;
}

static int fake_irq_map(struct vf_xen *x, uint16_t domid, uint32_t sbdf, unsigned entry, uint64_t table, int *pirq)
{
	(void)x, (void)entry, (void)table;
	assert_int_equal(domid, GUEST);
	assert_int_equal(sbdf, SBDF);
	if (fails())
		return xen->error;
	for (*pirq = 0; xen->pirq[*pirq]; (*pirq)++)
		assert_true(*pirq < PIRQS);
	xen->pirq[*pirq] = true;
	return 0;
}

static int fake_irq_unmap(struct vf_xen *x, uint16_t domid, int pirq)
{
	(void)x;
	assert_int_equal(domid, GUEST);
	if (fails())
		return xen->error;
	if (!xen->pirq[pirq])
		return -EINVAL;
	xen->pirq[pirq] = false;
	return 0;
}

/* libxl leaves a device in quarantine, as Xen does by default. */
static int fake_xl(struct vf_xen *x, bool attach, uint16_t domid, const char *bdf, struct vf_why *w)
{
	(void)x;
	assert_int_equal(domid, GUEST);
	assert_string_equal(bdf, "0000:01:10.0");
	if (fails() || (xen->holder == GUEST) == attach)
		return vf_fail(w, -EIO, "xl says no");
	xen->holder = attach ? GUEST : DOMID_IO;
	return 0;
}

static const struct vf_xen_ops ops = {
	.look = fake_look, .assign = fake_assign, .deassign = fake_deassign, .is_free = fake_is_free, .memory = fake_memory,
	.irq_map = fake_irq_map, .irq_unmap = fake_irq_unmap, .xl = fake_xl,
};

/* ---- the machine ---- */

static int setup(void **state)
{
	(void)state;
	xen = mmap(NULL, sizeof(*xen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(xen != MAP_FAILED);
	vf_tree_up(&tree);
	sys = &tree.sys;
	vf_tree_put(&tree, "0x00000000fe000000 0x00000000fe003fff 0x0000000000140204\n0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
		    "0x000000000000c000 0x000000000000c01f 0x0000000000040101\n0x00000000fe020000 0x00000000fe0207ff 0x0000000000140204\n",
		    "/sys/bus/pci/devices/0000:01:10.0/resource");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vf_tree_down(&tree);
	return munmap(xen, sizeof(*xen));
}

static int fresh(void **state)
{
	(void)state;
	*xen = (struct fake){ .xen.ops = &ops, .there = true, .guest = { .type = VF_XEN_PV, .uuid = "0123456789abcde" } };
	sys->changes = sys->kill_at = 0;
	return vf_file_remove(sys, "vf-0000:01:10.0.json");
}

/* As vf_claim leaves it. */
static void claimed(struct vf_record *r)
{
	assert_int_equal(vf_record_open(sys, vf, 0, r, &why), 0);
	r->pf = (struct vf_bdf){ 0, 1, 0, 0 };
	snprintf(r->owner, sizeof(r->owner), "web");
	assert_int_equal(vf_record_step(sys, r, VF_CLAIMED, ""), 0);
}

static void assert_nothing_given(const struct vf_record *r)
{
	assert_int_equal(xen->holder, 0);
	assert_false(xen->quarantined);
	assert_int_equal(xen->ranges, 0);
	for (int i = 0; i < PIRQS; i++)
		assert_false(xen->pirq[i]);
	assert_int_equal(r->state, VF_CLAIMED);
	assert_int_equal(r->domid, -1);
	assert_false(vf_xen_begun(r));
	assert_string_equal(r->owner, "web");
}

/* What the record says is what the file says. */
static void assert_recorded(const struct vf_record *r)
{
	struct vf_record again;

	assert_int_equal(vf_record_read(sys, vf, &again), 0);
	assert_int_equal(again.state, r->state);
	assert_int_equal(again.domid, r->domid);
	assert_int_equal(vf_xen_begun(&again), vf_xen_begun(r));
	vf_record_close(&again);
}

static int take_back(struct vf_record *r)
{
	int rc = vf_xen_deassign(sys, &xen->xen, r, &why);

	return rc < 0 ? rc : vf_xen_unquarantine(sys, &xen->xen, r, &why);
}

/* ---- there and back ---- */

static void vf_xen_assign_gives_all_and_deassign_takes_all(void **state)
{
	struct vf_record r;

	(void)state;
	claimed(&r);
	assert_int_equal(vf_xen_assign(sys, &xen->xen, &r, GUEST, &why), 0);
	assert_int_equal(xen->holder, GUEST);
	assert_int_equal(xen->ranges, 3); /* both BARs, and not the ports */
	assert_int_equal(r.state, VF_ASSIGNED);
	assert_int_equal(r.domid, GUEST);
	assert_recorded(&r);
	assert_int_equal(vf_xen_alive(&xen->xen, &r), 1);
	assert_int_equal(vf_xen_irq_map(sys, &xen->xen, &r, 0, 0xfe020000), 0);
	assert_int_equal(vf_xen_irq_map(sys, &xen->xen, &r, 1, 0xfe020000), 1);
	assert_int_equal(vf_xen_irqs_unmap(sys, &xen->xen, &r), 0);
	assert_false(xen->pirq[0] || xen->pirq[1]);
	assert_int_equal(vf_xen_irqs_unmap(sys, &xen->xen, &r), 0);
	assert_int_equal(vf_xen_irq_map(sys, &xen->xen, &r, 2, 0xfe020000), 0);
	assert_int_equal(vf_xen_deassign(sys, &xen->xen, &r, &why), 0);
	assert_int_equal(xen->holder, DOMID_IO); /* to be reset there */
	assert_recorded(&r);
	assert_int_equal(vf_xen_unquarantine(sys, &xen->xen, &r, &why), 0);
	assert_nothing_given(&r);
	assert_recorded(&r);
	vf_record_close(&r);
}

static void vf_xen_assign_undoes_all_when_any_step_fails(void **state)
{
	struct vf_record r;
	unsigned n;

	for (n = 1; n < 100; n++) {
		fresh(state);
		claimed(&r);
		xen->fail_at = n;
		xen->error = -EIO;
		if (vf_xen_assign(sys, &xen->xen, &r, GUEST, &why) == 0)
			break;
		assert_non_null(strstr(why.text, "VF 0000:01:10.0"));
		assert_nothing_given(&r);
		assert_recorded(&r);
		vf_record_close(&r);
	}
	assert_int_equal(n, 5); /* quarantine, assign, two BARs */
	vf_record_close(&r);
}

static void vf_xen_deassign_can_be_tried_again_after_any_failure(void **state)
{
	struct vf_record r;
	unsigned n, before;

	for (n = 1; n < 100; n++) {
		fresh(state);
		claimed(&r);
		assert_int_equal(vf_xen_assign(sys, &xen->xen, &r, GUEST, &why), 0);
		assert_int_equal(vf_xen_irq_map(sys, &xen->xen, &r, 0, 0xfe020000), 0);
		before = xen->calls;
		xen->fail_at = before + n;
		xen->error = -EIO;
		if (take_back(&r) == 0)
			break;
		assert_true(vf_xen_begun(&r));
		assert_recorded(&r);
		assert_int_equal(take_back(&r), 0);
		assert_nothing_given(&r);
		vf_record_close(&r);
	}
	assert_int_equal(n, 6); /* the interrupt, two BARs, the guest, the quarantine */
	vf_record_close(&r);
}

static void vf_xen_assign_says_why_not(void **state)
{
	struct vf_record r;

	(void)state;
	claimed(&r);
	xen->guest.type = VF_XEN_PVH;
	assert_int_equal(vf_xen_assign(sys, &xen->xen, &r, GUEST, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why.text, "vPCI"));
	xen->guest.type = VF_XEN_HVM;
	assert_int_equal(vf_xen_assign(sys, &xen->xen, &r, GUEST, &why), -EOPNOTSUPP);
	xen->guest.type = VF_XEN_PV;
	xen->guest.dying = true;
	assert_int_equal(vf_xen_assign(sys, &xen->xen, &r, GUEST, &why), -ESRCH);
	xen->guest.dying = false;
	assert_int_equal(vf_xen_assign(sys, &xen->xen, &r, GUEST + 1, &why), -ESRCH);
	xen->holder = GUEST;
	assert_int_equal(vf_xen_assign(sys, &xen->xen, &r, GUEST, &why), -EBUSY);
	assert_non_null(strstr(why.text, "another guest"));
	xen->holder = 0;
	xen->no_iommu = true;
	assert_int_equal(vf_xen_assign(sys, &xen->xen, &r, GUEST, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why.text, "--passthrough"));
	assert_nothing_given(&r);
	vf_record_close(&r);
}

static void vf_xen_assign_xl_is_taken_back_as_well(void **state)
{
	struct vf_record r;

	(void)state;
	claimed(&r);
	xen->guest.type = VF_XEN_HVM;
	xen->fail_at = 1;
	assert_int_equal(vf_xen_assign_xl(sys, &xen->xen, &r, GUEST, &why), -EIO);
	assert_string_equal(why.text, "xl says no");
	assert_nothing_given(&r);
	assert_recorded(&r);
	assert_int_equal(vf_xen_assign_xl(sys, &xen->xen, &r, GUEST, &why), 0);
	assert_int_equal(xen->holder, GUEST);
	assert_int_equal(r.state, VF_ASSIGNED);
	assert_int_equal(take_back(&r), 0);
	assert_nothing_given(&r);
	vf_record_close(&r);
}

/* ---- domains that end ---- */

static void vf_xen_deassign_leaves_another_domain_of_that_number_alone(void **state)
{
	struct vf_record r;
	unsigned calls;

	(void)state;
	claimed(&r);
	assert_int_equal(vf_xen_assign(sys, &xen->xen, &r, GUEST, &why), 0);
	assert_int_equal(vf_xen_irq_map(sys, &xen->xen, &r, 0, 0xfe020000), 0);
	memset(xen->guest.uuid, 'x', sizeof(xen->guest.uuid)); /* it ended, with all it had, and this is the next */
	xen->holder = DOMID_IO;
	calls = xen->calls;
	assert_int_equal(vf_xen_alive(&xen->xen, &r), 0);
	assert_int_equal(vf_xen_deassign(sys, &xen->xen, &r, &why), 0);
	assert_int_equal(xen->calls, calls);
	assert_int_equal(vf_xen_unquarantine(sys, &xen->xen, &r, &why), 0);
	assert_int_equal(xen->holder, 0);
	assert_int_equal(r.state, VF_CLAIMED);
	vf_record_close(&r);
}

static void vf_xen_deassign_waits_until_an_ending_domain_has_lost_it(void **state)
{
	struct vf_record r;

	(void)state;
	claimed(&r);
	assert_int_equal(vf_xen_assign(sys, &xen->xen, &r, GUEST, &why), 0);
	xen->guest.dying = true;
	assert_int_equal(vf_xen_deassign(sys, &xen->xen, &r, &why), -EBUSY);
	assert_true(vf_xen_begun(&r));
	xen->holder = DOMID_IO;
	xen->ranges = 0;
	xen->there = false;
	assert_int_equal(take_back(&r), 0);
	assert_nothing_given(&r);
	vf_record_close(&r);
}

/* ---- kill -9 ---- */

static void live(void)
{
	struct vf_record r;

	claimed(&r);
	if (vf_xen_assign(sys, &xen->xen, &r, GUEST, &why) < 0 || vf_xen_irq_map(sys, &xen->xen, &r, 0, 0xfe020000) < 0 ||
	    vf_xen_irq_map(sys, &xen->xen, &r, 1, 0xfe020000) < 0 || vf_xen_irqs_unmap(sys, &xen->xen, &r) < 0 ||
	    vf_xen_irq_map(sys, &xen->xen, &r, 1, 0xfe020000) < 0 || take_back(&r) < 0)
		_exit(1);
	if (vf_xen_assign_xl(sys, &xen->xen, &r, GUEST, &why) < 0 || take_back(&r) < 0)
		_exit(1);
	_exit(0);
}

/* One interrupt may have been mapped and not recorded yet: that goes with the guest. */
static void assert_recovered(struct vf_record *r)
{
	unsigned mapped = 0;

	for (int i = 0; i < PIRQS; i++) {
		mapped += xen->pirq[i];
		xen->pirq[i] = false;
	}
	assert_true(mapped <= 1);
	assert_nothing_given(r);
	assert_recorded(r);
}

static void vf_xen_deassign_undoes_what_a_killed_process_left(void **state)
{
	unsigned kill_at = 0, begun = 0;
	int status = -1;

	while (status != 0) {
		struct vf_record r;
		pid_t pid;

		fresh(state);
		sys->changes = 0;
		sys->kill_at = ++kill_at;
		pid = fork();
		if (pid == 0)
			live();
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
		sys->kill_at = 0;
		assert_int_equal(vf_record_open(sys, vf, 0, &r, &why), 0); /* its lock is free */
		begun += vf_xen_begun(&r);
		assert_int_equal(take_back(&r), 0);
		assert_recovered(&r);
		vf_record_close(&r);
	}
	assert_true(begun > 15);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(vf_xen_assign_gives_all_and_deassign_takes_all, fresh),
		cmocka_unit_test_setup(vf_xen_assign_undoes_all_when_any_step_fails, fresh),
		cmocka_unit_test_setup(vf_xen_deassign_can_be_tried_again_after_any_failure, fresh),
		cmocka_unit_test_setup(vf_xen_assign_says_why_not, fresh),
		cmocka_unit_test_setup(vf_xen_assign_xl_is_taken_back_as_well, fresh),
		cmocka_unit_test_setup(vf_xen_deassign_leaves_another_domain_of_that_number_alone, fresh),
		cmocka_unit_test_setup(vf_xen_deassign_waits_until_an_ending_domain_has_lost_it, fresh),
		cmocka_unit_test_setup(vf_xen_deassign_undoes_what_a_killed_process_left, fresh),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
