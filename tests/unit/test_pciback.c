/* test_pciback.c - the backend of virtual functions, with a machine of files and a Xen of a table: devices come and go, guests die, the process is killed after
 * every change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "fake_xen.h"
#include "sriov/pciback.h"
#include "vf_alloc.h"

static struct vf_tree tree;
static const struct pv_device_id web = { .guest = GUEST, .type = PV_NOXS_VF, .devid = 0 };
static char words[VF_WHY_MAX];

static int setup(void **state)
{
	(void)state;
	fake_xen_up();
	alloc_up(&tree, false, false);
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
	tree.sys.changes = tree.sys.kill_at = 0;
	words[0] = '\0';
	return 0;
}

static struct pciback *start(void)
{
	struct pciback *p;

	assert_int_equal(pciback_new(&tree.sys, &xen->xen, NULL, &p), 0);
	return p;
}

static int prepare(struct pciback *p, const char *config)
{
	struct json_object *o = json_tokener_parse(config);
	struct pv_noxs_offer offer = { 0 };
	int rc = pciback_ops.prepare(p, &web, o, &offer, words, sizeof(words));

	json_object_put(o);
	assert_true(rc < 0 || offer.vf.functions == 1);
	return rc;
}

static int take_away(struct pciback *p)
{
	return pciback_ops.remove(p, &web, words, sizeof(words));
}

#define CONFIG "{\"bdf\":\"0000:01:10.0\",\"guest\":\"web\",\"mac\":\"02:00:00:00:00:07\"}"

static void prepare_gives_what_remove_takes_back(void **state)
{
	const struct pv_device_id second = { .guest = GUEST, .type = PV_NOXS_VF, .devid = 1 };
	struct picture before = picture_of(&tree, 0), given, after;
	struct pciback *p = start();
	struct pv_noxs_offer offer;

	(void)state;
	assert_int_equal(prepare(p, CONFIG), 0);
	given = picture_of(&tree, 0);
	assert_non_null(strstr(given.text, "driver 'pciback'"));
	assert_non_null(strstr(given.text, "assigned web"));
	assert_non_null(strstr(given.text, "02:00:00:00:00:07"));
	assert_int_equal(xen->holder, GUEST);
	assert_int_equal(xen->ranges, 3);
	assert_int_equal(prepare(p, CONFIG), 0); /* again */
	assert_int_equal(pciback_ops.prepare(p, &second, NULL, &offer, words, sizeof(words)), -EOPNOTSUPP);
	assert_non_null(strstr(words, "0000:01:10.0"));
	assert_int_equal(pciback_sweep(p), 1);
	assert_int_equal(take_away(p), 0);
	after = picture_of(&tree, 0);
	assert_string_equal(after.text, before.text);
	assert_int_equal(xen->holder, 0);
	assert_int_equal(take_away(p), 0);
	assert_int_equal(pciback_sweep(p), 0);
	pciback_free(p);
}

static void prepare_that_is_refused_leaves_nothing(void **state)
{
	struct picture before = picture_of(&tree, 0), after;
	struct pciback *p = start();

	(void)state;
	assert_int_equal(prepare(p, "{\"colour\":\"blue\"}"), -EINVAL);
	assert_non_null(strstr(words, "colour"));
	assert_int_equal(prepare(p, "{\"bdf\":\"here\"}"), -EINVAL);
	xen->guest.type = VF_XEN_PVH;
	assert_int_equal(prepare(p, CONFIG), -EOPNOTSUPP);
	assert_non_null(strstr(words, "vPCI"));
	xen->guest.type = VF_XEN_PV;
	xen->no_iommu = true;
	assert_int_equal(prepare(p, CONFIG), -EOPNOTSUPP);
	assert_non_null(strstr(words, "--passthrough"));
	xen->no_iommu = false;
	xen->there = false;
	assert_int_equal(prepare(p, CONFIG), -ESRCH);
	after = picture_of(&tree, 0);
	assert_string_equal(after.text, before.text);
	assert_int_equal(xen->holder, 0);
	assert_int_equal(pciback_sweep(p), 0);
	pciback_free(p);
}

static void sweep_takes_back_from_a_guest_that_is_gone(void **state)
{
	struct picture before = picture_of(&tree, 0), after;
	struct pciback *p = start();

	(void)state;
	assert_int_equal(prepare(p, CONFIG), 0);
	xen->guest.dying = true;
	assert_int_equal(pciback_sweep(p), 1); /* not yet */
	xen->there = false;
	xen->holder = DOMID_IO;
	assert_int_equal(pciback_sweep(p), 0);
	after = picture_of(&tree, 0);
	assert_string_equal(after.text, before.text);
	assert_int_equal(xen->holder, 0);
	pciback_free(p);
}

static void prepare_finds_what_a_process_before_gave(void **state)
{
	struct pciback *p = start();
	unsigned calls;

	(void)state;
	assert_int_equal(prepare(p, CONFIG), 0);
	calls = xen->calls;
	pciback_free(p);
	p = start();
	assert_int_equal(pciback_sweep(p), 1);
	assert_int_equal(prepare(p, CONFIG), 0);
	assert_int_equal(xen->calls, calls);
	pciback_free(p);
	p = start();
	assert_int_equal(take_away(p), 0); /* without prepare as well */
	assert_int_equal(xen->holder, 0);
	pciback_free(p);
}

static void remove_keeps_what_cannot_be_reset_in_quarantine(void **state)
{
	struct pciback *p = start();
	struct picture after;

	(void)state;
	assert_int_equal(prepare(p, CONFIG), 0);
	tree.k->fault = (struct vf_tree_fault){ .err = -EIO, .times = 100, .path = "0000:01:10.0/reset" };
	assert_true(take_away(p) < 0);
	after = picture_of(&tree, 0);
	assert_non_null(strstr(after.text, "quarantined"));
	assert_int_equal(xen->holder, DOMID_IO); /* and its DMA goes nowhere */
	assert_int_equal(pciback_sweep(p), 0);
	pciback_free(p);
	tree.k->fault.times = 0;
	assert_int_equal(vf_file_remove(&tree.sys, "vf-0000:01:10.0.json"), 0);
	vf_pci_write(&tree.sys, the_pf, "sriov_numvfs", "0");
	vf_pci_write(&tree.sys, the_pf, "sriov_numvfs", "7");
	vf_tree_put(&tree, FAKE_RESOURCE, "/sys/bus/pci/devices/0000:01:10.0/resource");
}

static void a_guest_of_xl_gets_it_by_xl(void **state)
{
	struct pciback *p = start();
	struct pv_connect c = { .id = web };

	(void)state;
	xen->guest.type = VF_XEN_HVM;
	c.config = json_tokener_parse("{\"bdf\":\"0000:01:10.0\",\"guest\":\"web\",\"toolstack\":\"xl\"}");
	assert_int_equal(pciback_ops.connect(p, &c, words, sizeof(words)), 0); /* prepares, and serves nothing */
	assert_int_equal(xen->holder, GUEST);
	assert_int_equal(xen->ranges, 0);
	assert_int_equal(take_away(p), 0);
	assert_int_equal(xen->holder, 0);
	json_object_put(c.config);
	pciback_free(p);
}

static int come_and_go(struct vf_tree *t)
{
	struct pciback *p = start();

	(void)t;
	return prepare(p, CONFIG) < 0 ? -1 : take_away(p);
}

static void killed_anywhere_the_next_one_goes_on(void **state)
{
	struct picture before = picture_of(&tree, 0), after;
	unsigned n = 1, adopted = 0;
	bool killed;

	do {
		struct pciback *p;

		fresh(state);
		killed = killed_at(&tree, n++, come_and_go);
		p = start();
		adopted += pciback_sweep(p);
		assert_int_equal(prepare(p, CONFIG), 0);
		assert_int_equal(xen->holder, GUEST);
		assert_int_equal(take_away(p), 0);
		assert_int_equal(pciback_sweep(p), 0);
		pciback_free(p);
		after = picture_of(&tree, 0);
		assert_string_equal(after.text, before.text);
		assert_int_equal(xen->holder, 0);
		assert_int_equal(xen->ranges, 0);
	} while (killed);
	assert_true(n > 15 && adopted > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(prepare_gives_what_remove_takes_back, fresh),
		cmocka_unit_test_setup(prepare_that_is_refused_leaves_nothing, fresh),
		cmocka_unit_test_setup(sweep_takes_back_from_a_guest_that_is_gone, fresh),
		cmocka_unit_test_setup(prepare_finds_what_a_process_before_gave, fresh),
		cmocka_unit_test_setup(remove_keeps_what_cannot_be_reset_in_quarantine, fresh),
		cmocka_unit_test_setup(a_guest_of_xl_gets_it_by_xl, fresh),
		cmocka_unit_test_setup(killed_anywhere_the_next_one_goes_on, fresh),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
