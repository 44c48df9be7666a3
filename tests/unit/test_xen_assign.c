/* test_xen_assign.c - VFs given to guests of Xen: every step failing, the process killed after every change, domains that end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/wait.h>
#include "fake_xen.h"
#include "vf_tree.h"

static struct vf_tree tree;
static struct vf_sys *sys;
static struct vf_why why;
static const struct vf_bdf the_vf = { 0, 1, 0x10, 0 };

/* ---- the machine ---- */

static int setup(void **state)
{
	(void)state;
	fake_xen_up();
	vf_tree_up(&tree);
	sys = &tree.sys;
	vf_tree_put(&tree, FAKE_RESOURCE, "/sys/bus/pci/devices/0000:01:10.0/resource");
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
	fake_xen_fresh();
	sys->changes = sys->kill_at = 0;
	return vf_file_remove(sys, "vf-0000:01:10.0.json");
}

/* As vf_claim leaves it. */
static void claimed(struct vf_record *r)
{
	assert_int_equal(vf_record_open(sys, the_vf, 0, r, &why), 0);
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

	assert_int_equal(vf_record_read(sys, the_vf, &again), 0);
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
		assert_int_equal(vf_record_open(sys, the_vf, 0, &r, &why), 0); /* its lock is free */
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
