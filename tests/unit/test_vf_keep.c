/* What was applied is kept: after a boot, after what others did, and by which events. */
#include "sriov/declare.h"
#include <linux/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vf_tree.h"
#include <cmocka.h>

#define PF "0000:01:00.0"
#define DEVPATH "/devices/pci0000:00/" PF

static struct vf_tree t;
static struct vf_why why;
static struct vf_keeper k;
static char told[8192];
static const struct vf_bdf pf1 = { 0, 1, 0, 0 }, pf2 = { 0, 2, 0, 0 };

static void put(void *arg, const char *text)
{
	(void)arg;
	strcat(strcat(told, text), "\n");
}

static void apply(const char *text)
{
	struct vf_inventory inv;
	struct vf_applied done;
	struct vf_declared d;
	struct vf_plan plan;

	assert_int_equal(vf_declare_parse(text, strlen(text), &d, &why), 0);
	assert_int_equal(vf_plan_look(&t.sys, &d, 0, &inv, &plan, &why), 0);
	assert_int_equal(vf_apply(&t.sys, &plan, 0, NULL, NULL, &done, &why), 0);
	vf_applied_free(&done);
	vf_plan_free(&plan);
	vf_inventory_free(&inv);
	vf_declared_free(&d);
}

static int up(void **state)
{
	(void)state;
	*told = 0;
	vf_tree_up(&t);
	vf_tree_pf(&t, (struct vf_tree_pf){ .bdf = PF, .netdev = "eth1", .total = 7, .group = 10 });
	vf_tree_pf(&t, (struct vf_tree_pf){ .bdf = "0000:02:00.0", .netdev = "eth2", .total = 7, .group = 30 });
	apply("pf eth1 vfs 4\nvf all vlan 5 trust on\npool a 2-3\n");
	vf_keeper_open(&k, &t.sys, put, NULL);
	return 0;
}

static int down(void **state)
{
	(void)state;
	vf_keeper_close(&k);
	vf_tree_down(&t);
	return 0;
}

static void is_kept(void)
{
	assert_int_equal(t.k->num[0], 4);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(t.k->is[0][i].vlan, 5);
		assert_true(t.k->is[0][i].trust);
	}
}

/* As after a boot, or an unbind: no VFs. */
static void reboot(void)
{
	assert_int_equal(vf_pci_write(&t.sys, pf1, "sriov_numvfs", "0"), 0);
	t.k->sets = t.k->numvfs_writes = 0;
}

static void change(unsigned vf, uint16_t vlan)
{
	t.k->is[0][vf].vlan = vlan;
	t.k->sets = 0;
}

static int claim(unsigned vf, enum vf_state state, const struct vf_settings *v)
{
	struct vf_record r;
	int rc = vf_record_open(&t.sys, vf_tree_vf(pf1, vf), 0, &r, &why);

	if (rc < 0)
		return rc;
	r.state = state;
	strcpy(r.owner, "web");
	if (v)
		r.settings = *v;
	rc = vf_record_save(&t.sys, &r);
	vf_record_close(&r);
	return rc;
}

/* ---- at boot ---- */

static void all_makes_vfs_again(void **state)
{
	(void)state;
	reboot();
	assert_int_equal(vf_keep_all(&t.sys, VF_KEEP_NUMBER, put, NULL, &why), 0);
	is_kept();
	t.k->sets = t.k->numvfs_writes = 0;
	assert_int_equal(vf_keep_all(&t.sys, VF_KEEP_NUMBER, put, NULL, &why), 0);
	assert_int_equal(t.k->sets + t.k->numvfs_writes, 0);
}

static void all_without_number_makes_none(void **state)
{
	(void)state;
	reboot();
	assert_int_equal(vf_keep_all(&t.sys, 0, put, NULL, &why), 0);
	assert_int_equal(t.k->num[0], 0);
}

static void all_tells_what_fails_and_goes_on(void **state)
{
	(void)state;
	apply("pf eth2 vfs 2\nvf all vlan 8\n");
	reboot();
	assert_int_equal(vf_pci_write(&t.sys, pf2, "sriov_numvfs", "0"), 0);
	t.k->fault = (struct vf_tree_fault){ -EIO, 1, PF "/sriov_numvfs" };
	assert_int_equal(vf_keep_all(&t.sys, VF_KEEP_NUMBER, put, NULL, &why), 1);
	assert_non_null(strstr(told, "the device refused 4 VFs"));
	assert_int_equal(t.k->num[0], 0);
	assert_int_equal(t.k->num[1], 2);
	assert_int_equal(t.k->is[1][1].vlan, 8);
}

static void all_leaves_another_card_alone(void **state)
{
	(void)state;
	reboot();
	vf_tree_put(&t, "0x1521\n", "/sys/bus/pci/devices/" PF "/device");
	assert_int_equal(vf_keep_all(&t.sys, VF_KEEP_NUMBER, put, NULL, &why), 0);
	assert_int_equal(t.k->num[0], 0);
}

static void all_leaves_another_number_alone(void **state)
{
	(void)state;
	reboot();
	assert_int_equal(vf_pci_write(&t.sys, pf1, "sriov_numvfs", "2"), 0);
	assert_int_equal(vf_keep_all(&t.sys, VF_KEEP_NUMBER, put, NULL, &why), 0);
	assert_int_equal(t.k->num[0], 2);
	assert_int_equal(t.k->is[0][1].vlan, 5);
}

/* ---- who has a VF ---- */

static void pf_keeps_what_owners_asked_for(void **state)
{
	struct vf_settings v = { .set = 1 << VF_VLAN, .vlan = 9 };

	(void)state;
	assert_int_equal(claim(1, VF_CLAIMED, &v), 0);
	change(1, 7);
	assert_int_equal(vf_keep_pf(&t.sys, pf1, 0, put, NULL, &why), 0);
	assert_int_equal(t.k->is[0][1].vlan, 9);
	assert_int_equal(t.k->sets, 1);
}

static void pf_leaves_strangers_vfs_alone(void **state)
{
	(void)state;
	vf_tree_netdev(&t, "0000:01:10.2", "eth1v1", 99); /* VF 1, up in this machine */
	change(1, 7);
	assert_int_equal(vf_keep_pf(&t.sys, pf1, VF_KEEP_FORCE, put, NULL, &why), 0);
	assert_int_equal(t.k->is[0][1].vlan, 7);
}

static void pf_of_which_nothing_is_kept(void **state)
{
	(void)state;
	assert_int_equal(vf_keep_pf(&t.sys, pf2, VF_KEEP_NUMBER | VF_KEEP_FORCE, put, NULL, &why), 0);
	assert_int_equal(t.k->num[1], 0);
}

static void pf_with_a_damaged_file(void **state)
{
	(void)state;
	vf_tree_put(&t, "[]", "/var/lib/pvio/vf/pf-" PF ".json");
	assert_int_equal(vf_keep_pf(&t.sys, pf1, 0, put, NULL, &why), -EBADMSG);
	assert_non_null(strstr(why.text, "apply its file again"));
}

static void settings_of_a_vf(void **state)
{
	struct vf_settings v = { .set = 1 << VF_VLAN, .vlan = 9 };
	struct vf_inventory inv;

	(void)state;
	assert_int_equal(claim(3, VF_CLAIMED, &v), 0);
	assert_int_equal(vf_inventory(&t.sys, 0, &inv, &why), 0);
	assert_int_equal(vf_keep_settings(&t.sys, vf_find_pf(&inv, pf1), 3, &v), 0);
	assert_int_equal(v.vlan, 9);
	assert_true(v.trust);
	assert_int_equal(claim(3, VF_RELEASING, NULL), 0);
	assert_int_equal(vf_keep_settings(&t.sys, vf_find_pf(&inv, pf1), 3, &v), 0);
	assert_int_equal(v.vlan, 5);
	assert_int_equal(vf_keep_settings(&t.sys, vf_find_pf(&inv, pf2), 0, &v), 0);
	assert_int_equal(v.set, 0);
	vf_inventory_free(&inv);
}

/* ---- events ---- */

#define UP (IFF_UP | IFF_LOWER_UP)

static void link_is(unsigned ifindex, unsigned flags)
{
	vf_keeper_link(&k, ifindex, flags, false);
}

#define EVENT(text) vf_keeper_uevent(&k, text, sizeof(text))

static void work(void)
{
	assert_int_equal(vf_keeper_work(&k), 0);
	assert_false(vf_keeper_due(&k));
}

static void uevent_of_a_new_number(void **state)
{
	(void)state;
	assert_false(vf_keeper_due(&k));
	reboot();
	assert_int_equal(vf_pci_write(&t.sys, pf1, "sriov_numvfs", "4"), 0);
	EVENT("change@" DEVPATH "\0ACTION=change\0DEVPATH=" DEVPATH "\0SUBSYSTEM=pci\0DRIVER=igb\0PCI_SLOT_NAME=" PF);
	assert_true(vf_keeper_due(&k));
	work();
	is_kept();
}

static void uevent_of_none_is_no_reason_to_make_them(void **state)
{
	(void)state;
	reboot();
	EVENT("change@" DEVPATH "\0ACTION=change\0SUBSYSTEM=pci\0PCI_SLOT_NAME=" PF);
	work();
	assert_int_equal(t.k->num[0], 0);
}

static void uevent_of_a_vf(void **state)
{
	(void)state;
	change(2, 7);
	EVENT("add@x\0ACTION=add\0SUBSYSTEM=pci\0PCI_SLOT_NAME=0000:01:10.4");
	assert_true(vf_keeper_due(&k));
	work();
	is_kept();
}

static void uevent_of_the_driver(void **state)
{
	(void)state;
	reboot();
	EVENT("bind@" DEVPATH "\0ACTION=bind\0SUBSYSTEM=pci\0PCI_SLOT_NAME=" PF);
	work();
	is_kept();
}

static void uevent_of_recovery(void **state)
{
	(void)state;
	t.k->sets = 0;
	EVENT("change@" DEVPATH "\0ACTION=change\0SUBSYSTEM=pci\0ERROR_EVENT=SUCCESSFUL_RECOVERY\0PCI_SLOT_NAME=" PF);
	work();
	assert_int_equal(t.k->sets, 8); /* though the driver says that all is so */
	is_kept();
}

static void uevents_of_others_are_nothing(void **state)
{
	(void)state;
	EVENT("");
	EVENT("change@x\0ACTION=change\0SUBSYSTEM=net\0PCI_SLOT_NAME=" PF);
	EVENT("change@x\0ACTION=change\0SUBSYSTEM=pci\0PCI_SLOT_NAME=0000:02:00.0");
	EVENT("change@x\0ACTION=change\0SUBSYSTEM=pci\0PCI_SLOT_NAME=0000:09:00.0");
	EVENT("change@x\0ACTION=change\0SUBSYSTEM=pci\0PCI_SLOT_NAME=nonsense");
	EVENT("remove@x\0ACTION=remove\0SUBSYSTEM=pci\0PCI_SLOT_NAME=0000:01:10.4");
	vf_keeper_uevent(&k, "ACTION=change\0SUBSYSTEM=pci\0PCI_SLOT_NAME=" PF, 40); /* cut off */
	link_is(11, UP);
	link_is(0, UP);
	assert_false(vf_keeper_due(&k));
}

static void link_changed_by_others(void **state)
{
	(void)state;
	change(2, 7);
	link_is(10, UP); /* it was up before */
	work();
	assert_int_equal(t.k->sets, 1);
	is_kept();
}

static void link_set_up_sets_everything(void **state)
{
	(void)state;
	t.k->sets = 0;
	link_is(10, 0);
	work();
	assert_int_equal(t.k->sets, 0);
	link_is(10, UP);
	work();
	assert_int_equal(t.k->sets, 8);
}

static void link_says_what_is_our_own(void **state)
{
	(void)state;
	vf_keeper_link(&k, 10, UP, true);
	assert_false(vf_keeper_due(&k));
	change(2, 7);
	vf_keeper_link(&k, 10, IFF_UP, true); /* but not that */
	assert_true(vf_keeper_due(&k));
	work();
	is_kept();
	vf_keeper_link(&k, 10, UP, true);
	assert_true(vf_keeper_due(&k));
}

/* igb takes rates only with a link. */
static void rates_wait_for_a_link(void **state)
{
	(void)state;
	apply("pf eth1 vfs 4\nvf all vlan 5 trust on max_rate 100\n");
	reboot();
	vf_tree_put(&t, "0\n", "/sys/bus/pci/devices/" PF "/net/eth1/carrier");
	vf_tree_put(&t, "0x1002\n", "/sys/bus/pci/devices/" PF "/net/eth1/flags"); /* as it boots */
	t.k->refuse[VF_MAX_RATE] = -EINVAL;
	assert_int_equal(vf_keep_all(&t.sys, VF_KEEP_NUMBER, put, NULL, &why), 0);
	is_kept();
	assert_non_null(strstr(told, "refuses max_rate=100 for VF 3"));
	vf_tree_put(&t, "1\n", "/sys/bus/pci/devices/" PF "/net/eth1/carrier");
	vf_tree_put(&t, "0x1003\n", "/sys/bus/pci/devices/" PF "/net/eth1/flags");
	assert_int_equal(vf_keep_all(&t.sys, VF_KEEP_NUMBER, put, NULL, &why), 1); /* then it is a refusal */
	t.k->refuse[VF_MAX_RATE] = 0;
	link_is(10, IFF_UP);
	link_is(10, UP);
	work();
	assert_int_equal(t.k->is[0][3].max_rate, 100);
}

static void keeper_hears_of_what_is_applied_later(void **state)
{
	(void)state;
	apply("pf eth2 vfs 2\nvf all vlan 8\n");
	t.k->is[1][0].vlan = 1;
	link_is(11, UP);
	assert_true(vf_keeper_due(&k));
	work();
	assert_int_equal(t.k->is[1][0].vlan, 8);
	apply("pf eth2 vfs 0\n");
	link_is(11, UP);
	assert_false(vf_keeper_due(&k));
}

static void keeper_waits_for_who_applies(void **state)
{
	int lock = vf_apply_lock(&t.sys, 0, &why);

	(void)state;
	change(2, 7);
	vf_keeper_missed(&k);
	assert_int_equal(vf_keeper_work(&k), -EBUSY);
	assert_true(vf_keeper_due(&k));
	assert_int_equal(t.k->is[0][2].vlan, 7);
	close(lock);
	work();
	is_kept();
}

static void keeper_tells_of_refusals_and_is_done(void **state)
{
	(void)state;
	t.k->refuse[VF_TRUST] = -EPERM;
	t.k->is[0][2].trust = false;
	change(3, 7);
	link_is(10, UP);
	work();
	assert_non_null(strstr(told, "refuses trust=on for VF 2"));
	assert_int_equal(t.k->is[0][3].vlan, 5);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_makes_vfs_again),
		TEST(all_without_number_makes_none),
		TEST(all_tells_what_fails_and_goes_on),
		TEST(all_leaves_another_card_alone),
		TEST(all_leaves_another_number_alone),
		TEST(pf_keeps_what_owners_asked_for),
		TEST(pf_leaves_strangers_vfs_alone),
		TEST(pf_of_which_nothing_is_kept),
		TEST(pf_with_a_damaged_file),
		TEST(settings_of_a_vf),
		TEST(uevent_of_a_new_number),
		TEST(uevent_of_none_is_no_reason_to_make_them),
		TEST(uevent_of_a_vf),
		TEST(uevent_of_the_driver),
		TEST(uevent_of_recovery),
		TEST(uevents_of_others_are_nothing),
		TEST(link_changed_by_others),
		TEST(link_set_up_sets_everything),
		TEST(link_says_what_is_our_own),
		TEST(rates_wait_for_a_link),
		TEST(keeper_hears_of_what_is_applied_later),
		TEST(keeper_waits_for_who_applies),
		TEST(keeper_tells_of_refusals_and_is_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
