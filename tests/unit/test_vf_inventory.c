/* test_vf_inventory.c - what there is, who has it, and how people name it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "vf_tree.h"

static const struct vf_bdf eth1 = { 0, 1, 0, 0 }, nvme = { 0, 2, 0, 0 }, vf0 = { 0, 1, 0x10, 0 }, vf2 = { 0, 1, 0x10, 4 };
static struct vf_tree t;
static struct vf_inventory inv;
static struct vf_why why;

/* A NIC with 3 of 7 VFs, a port without any, and an NVMe controller with 2 of 4; of devices without SR-IOV one in the port's group. */
static int up(void **state)
{
	(void)state;
	vf_tree_up(&t);
	vf_tree_pf(&t, (struct vf_tree_pf){ .bdf = "0000:02:00.0", .total = 4, .group = 40, .numa = -1 });
	vf_tree_pf(&t, (struct vf_tree_pf){ .bdf = "0000:01:00.0", .netdev = "eth1", .total = 7, .group = 20, .numa = 1 });
	vf_tree_pf(&t, (struct vf_tree_pf){ .bdf = "0000:01:00.1", .netdev = "eth2", .total = 7, .group = 19 });
	vf_tree_dev(&t, "0000:00:1f.0", "8086", "2918", "060100", 19, -1);
	vf_tree_put(&t, "p1\n", "/sys/class/net/eth2/phys_port_name");
	assert_int_equal(vf_pci_write(&t.sys, eth1, "sriov_numvfs", "3"), 0);
	assert_int_equal(vf_pci_write(&t.sys, nvme, "sriov_numvfs", "2"), 0);
	return 0;
}

static int down(void **state)
{
	(void)state;
	vf_inventory_free(&inv);
	vf_tree_down(&t);
	return 0;
}

static void look(unsigned flags)
{
	vf_inventory_free(&inv);
	assert_int_equal(vf_inventory(&t.sys, flags, &inv, &why), 0);
}

static void inventory_of_a_machine_without(void **state)
{
	(void)state;
	vf_tree_remove(&t, "/sys/bus/pci");
	look(0);
	assert_int_equal(inv.npfs, 0);
	assert_int_equal(vf_match_pf(&inv, "eth1", &(struct vf_pf *){ 0 }, &why), -ENOENT);
}

static void inventory_of_pfs_by_address(void **state)
{
	const struct vf_pf *pf;

	(void)state;
	look(0);
	assert_int_equal(inv.npfs, 3);
	pf = &inv.pf[0];
	assert_true(vf_bdf_equal(pf->dev.bdf, eth1));
	assert_int_equal(pf->kind, VF_KIND_NET);
	assert_string_equal(pf->dev.driver, "igb");
	assert_string_equal(pf->dev.netdev, "eth1");
	assert_int_equal(pf->dev.numa, 1);
	assert_int_equal(pf->dev.vendor, 0x8086);
	assert_int_equal(pf->mac[5], 0x10);
	assert_true(pf->up && pf->carrier && pf->autoprobe);
	assert_int_equal(pf->speed, 1000);
	assert_int_equal(pf->total, 7);
	assert_int_equal(pf->num, 3);
	assert_int_equal(pf->nvfs, 3);
	assert_int_equal(inv.pf[1].nvfs, 0);
	assert_string_equal(inv.pf[1].port, "p1");
	assert_int_equal(inv.pf[2].kind, VF_KIND_NVME);
	assert_string_equal(inv.pf[2].dev.nvme, "nvme0");
	assert_int_equal(inv.pf[2].dev.numa, -1);
	assert_int_equal(inv.pf[2].nvfs, 2);
}

static void inventory_of_vfs(void **state)
{
	const struct vf *v;

	(void)state;
	t.k->is[1][2].vlan = 100;
	look(0);
	v = &inv.pf[0].vf[2];
	assert_true(vf_bdf_equal(v->dev.bdf, vf2));
	assert_int_equal(v->index, 2);
	assert_string_equal(v->dev.driver, "igbvf");
	assert_string_equal(v->dev.override, "");
	assert_string_equal(v->dev.reset, "flr");
	assert_int_equal(v->dev.group, 23);
	assert_int_equal(v->is.vlan, 100);
	assert_int_equal(v->record.state, VF_FREE);
	assert_false(v->in_use);
	assert_string_equal(v->used_by, "");
	assert_int_equal(inv.pf[2].vf[0].is.set, 0);
}

static void inventory_of_groups(void **state)
{
	const struct vf_group *g;

	(void)state;
	look(0);
	assert_int_equal(inv.ngroups, 3 + 3 + 2);
	assert_int_equal(inv.group[0].nr, 19);
	g = vf_find_group(&inv, 19);
	assert_int_equal(g->nmembers, 2);
	assert_int_equal(g->member[0].class, 0x060100);
	assert_string_equal(g->member[0].driver, "");
	assert_string_equal(g->member[1].driver, "igb");
	assert_null(vf_find_group(&inv, 1));
}

static void inventory_of_what_each_pf_can(void **state)
{
	(void)state;
	t.k->refuse[VF_LINK] = -EOPNOTSUPP;
	look(0);
	assert_int_equal(inv.pf[0].supports[VF_TRUST], VF_YES); /* its driver tells of it */
	assert_int_equal(inv.pf[0].supports[VF_LINK], VF_ASK);
	assert_int_equal(inv.pf[2].supports[VF_TRUST], VF_NO);
	look(VF_INV_PROBE);
	assert_int_equal(inv.pf[0].supports[VF_LINK], VF_NO);
	assert_int_equal(inv.pf[0].supports[VF_VLAN], VF_YES);
}

static void give(struct vf_bdf vf, const char *owner, int domid, enum vf_state to, const char *reason)
{
	struct vf_record r;

	assert_int_equal(vf_record_open(&t.sys, vf, 0, &r, NULL), 0);
	snprintf(r.owner, sizeof(r.owner), "%s", owner);
	snprintf(r.why, sizeof(r.why), "%s", reason);
	r.domid = domid;
	assert_int_equal(vf_record_step(&t.sys, &r, to, ""), 0);
	vf_record_close(&r);
}

static void inventory_of_owners(void **state)
{
	const struct vf *v;

	(void)state;
	give(vf0, "web", 5, VF_ASSIGNED, "");
	give(vf2, "db", -1, VF_QUARANTINED, "its reset failed");
	look(0);
	v = inv.pf[0].vf;
	assert_true(v[0].in_use);
	assert_string_equal(v[0].used_by, "guest web (domain 5)");
	assert_false(v[1].in_use);
	assert_false(v[2].in_use);
	assert_string_equal(v[2].used_by, "in quarantine: its reset failed");
	vf_tree_put(&t, "another\n", "/proc/sys/kernel/random/boot_id");
	look(0);
	assert_false(inv.pf[0].vf[0].in_use);
	assert_string_equal(inv.pf[0].vf[0].used_by, "web, before this machine was started");
}

static void inventory_of_owners_without_their_functions(void **state)
{
	struct json_object *o;

	(void)state;
	give(vf2, "web", -1, VF_CLAIMED, "");
	look(0);
	assert_int_equal(inv.ngone, 0);
	assert_int_equal(vf_pci_write(&t.sys, eth1, "sriov_numvfs", "0"), 0);
	look(0);
	assert_int_equal(inv.ngone, 1);
	assert_true(vf_bdf_equal(inv.gone[0].vf, vf2));
	o = vf_json_inventory(&inv);
	assert_non_null(strstr(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN),
			       "\"gone\":[{\"vf\":\"0000:01:10.4\",\"pf\":\"0000:01:00.0\",\"index\":2,\"state\":\"claimed\",\"owner\":\"web\""));
	json_object_put(o);
}

static void inventory_of_what_is_declared(void **state)
{
	struct json_object *o;
	const char *text;

	(void)state;
	vf_tree_put(&t, "{\"called\": [\"eth1\"], \"vf\": [{\"settings\": {\"vlan\": 100, \"trust\": false}, \"pool\": \"fast\"}, "
		    "{\"settings\": {}}, {\"settings\": {}}]}",
		    "/var/lib/pvio/vf/pf-0000:01:00.0.json");
	look(0);
	assert_string_equal(inv.pf[0].vf[0].pool, "fast");
	assert_string_equal(inv.pf[0].vf[1].pool, "");
	o = vf_json_vf(&inv.pf[0], &inv.pf[0].vf[0]);
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	assert_non_null(strstr(text, "\"wanted\":{\"vlan\":100,\"trust\":false},\"differs\":[\"vlan\"],\"pool\":\"fast\""));
	json_object_put(o);
}

static void inventory_of_a_damaged_record(void **state)
{
	(void)state;
	vf_tree_put(&t, "{", "/var/lib/pvio/vf/vf-0000:01:10.0.json");
	look(0);
	assert_int_equal(inv.pf[0].vf[0].record.state, VF_QUARANTINED);
	assert_non_null(strstr(inv.pf[0].vf[0].used_by, "damaged"));
}

static void inventory_of_who_has_it_open(void **state)
{
	const struct vf *v;

	(void)state;
	vf_tree_unbind(&t, "0000:01:10.0");
	vf_tree_bind(&t, "0000:01:10.0", "vfio-pci");
	vf_tree_put(&t, "qemu-system-x86\n", "/proc/812/comm");
	vf_tree_put(&t, NULL, "/proc/812/fd");
	vf_tree_link(&t, "/dev/vfio/vfio", "/proc/812/fd/10");
	vf_tree_link(&t, "/dev/vfio/21", "/proc/812/fd/11");
	vf_tree_unbind(&t, "0000:01:10.2");
	vf_tree_bind(&t, "0000:01:10.2", "pciback");
	vf_tree_netdev(&t, "0000:01:10.4", "eth1v2", 30);
	look(VF_INV_USERS);
	v = inv.pf[0].vf;
	assert_true(v[0].in_use);
	assert_string_equal(v[0].used_by, "qemu-system-x86 (pid 812) through vfio");
	assert_string_equal(v[0].open_by, "qemu-system-x86 (pid 812)");
	assert_true(v[1].in_use);
	assert_non_null(strstr(v[1].used_by, "guest of xl"));
	assert_true(v[2].in_use);
	assert_string_equal(v[2].used_by, "netdev eth1v2, which is up");
	vf_tree_put(&t, "0x1002\n", "/sys/class/net/eth1v2/flags");
	look(0);
	assert_false(inv.pf[0].vf[0].in_use); /* nobody looked */
	assert_false(inv.pf[0].vf[2].in_use);
}

static void inventory_of_disks_in_use(void **state)
{
	const struct vf *v;

	(void)state;
	vf_tree_put(&t, NULL, "/sys/bus/pci/devices/%s/nvme/nvme1", vf_text(vf_tree_vf(nvme, 0)).s);
	vf_tree_put(&t, NULL, "/sys/bus/pci/devices/%s/nvme/nvme2", vf_text(vf_tree_vf(nvme, 1)).s);
	vf_tree_put(&t, "", "/sys/class/nvme/nvme1/nvme1n1/size");
	vf_tree_put(&t, "", "/sys/class/nvme/nvme2/nvme2n1/size");
	vf_tree_put(&t, "/dev/sda1 / ext4 rw 0 0\n/dev/nvme1n11 /x ext4 rw 0 0\n", "/proc/self/mounts");
	look(0);
	v = inv.pf[2].vf;
	assert_string_equal(v[0].dev.nvme, "nvme1");
	assert_false(v[0].in_use);
	vf_tree_put(&t, "/dev/nvme1n1p2 /srv ext4 rw 0 0\n", "/proc/self/mounts");
	vf_tree_put(&t, "", "/sys/class/block/nvme2n1/holders/dm-3");
	look(0);
	v = inv.pf[2].vf;
	assert_true(v[0].in_use);
	assert_string_equal(v[0].used_by, "disk nvme1n1, which is mounted");
	assert_true(v[1].in_use);
	assert_string_equal(v[1].used_by, "disk nvme2n1, held by dm-3");
	vf_tree_remove(&t, "/sys/class/block/nvme2n1");
	vf_tree_put(&t, "", "/sys/class/block/nvme2n1/nvme2n1p1/holders/md0");
	look(0);
	assert_string_equal(inv.pf[2].vf[1].used_by, "disk nvme2n1, held by md0");
}

static void match_by_every_name(void **state)
{
	static const char *const names[] = { "0000:01:00.0", "01:00.0", "eth1" };
	static const char *const vfs[] = { "0000:01:10.4", "01:10.4", "eth1/2", "0000:01:00.0/2", "eth1v2" };
	struct vf_pf *pf;
	struct vf *vf;

	(void)state;
	vf_tree_netdev(&t, "0000:01:10.4", "eth1v2", 30);
	look(0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(vf_match_pf(&inv, names[i], &pf, &why), 0);
		assert_ptr_equal(pf, &inv.pf[0]);
	}
	assert_int_equal(vf_match_pf(&inv, "p1", &pf, &why), 0);
	assert_ptr_equal(pf, &inv.pf[1]);
	assert_int_equal(vf_match_pf(&inv, "1b36:0010", &pf, &why), 0);
	assert_ptr_equal(pf, &inv.pf[2]);
	assert_int_equal(vf_match_pf(&inv, "8086:10C9", &pf, &why), -EEXIST);
	assert_non_null(strstr(why.text, "0000:01:00.0, 0000:01:00.1"));
	for (size_t i = 0; i < sizeof(vfs) / sizeof(vfs[0]); i++) {
		assert_int_equal(vf_match_vf(&inv, vfs[i], &vf, &pf, &why), 0);
		assert_ptr_equal(vf, &inv.pf[0].vf[2]);
		assert_ptr_equal(pf, &inv.pf[0]);
	}
}

static void match_of_what_is_not_there(void **state)
{
	static const char *const vfs[] = { "", "eth1", "eth1/3", "eth1/", "eth1/x", "/0", "eth9/0", "0000:01:00.0", "0000:01:10.6", "8086:10c9/0" };
	struct vf_pf *pf;
	struct vf *vf;

	(void)state;
	look(0);
	assert_int_equal(vf_match_pf(&inv, "", &pf, &why), -ENOENT);
	assert_int_equal(vf_match_pf(&inv, "0000:01:10.0", &pf, &why), -ENOENT);
	for (size_t i = 0; i < sizeof(vfs) / sizeof(vfs[0]); i++)
		assert_true(vf_match_vf(&inv, vfs[i], &vf, NULL, &why) < 0);
}

static void json_says_it_all(void **state)
{
	struct json_object *o;
	const char *text;

	(void)state;
	give(vf0, "web", 5, VF_ASSIGNED, "");
	look(0);
	o = vf_json_inventory(&inv);
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	assert_non_null(strstr(text, "{\"pf\":\"0000:01:00.0\",\"id\":\"8086:10c9\",\"class\":\"020000\",\"driver\":\"igb\",\"netdev\":\"eth1\",\"numa\":1,"
				     "\"iommu_group\":20,\"reset\":\"flr\",\"kind\":\"net\",\"mac\":\"52:54:00:00:00:10\",\"mtu\":1500,\"link\":\"up\","
				     "\"speed\":1000,\"totalvfs\":7,\"numvfs\":3,\"autoprobe\":true,\"supports\":{\"mac\":\"unknown\""));
	assert_non_null(strstr(text, "\"state\":\"assigned\",\"owner\":\"web\",\"domid\":5,\"in_use\":true,\"used_by\":\"guest web (domain 5)\""));
	assert_non_null(strstr(text, "{\"iommu_group\":21,\"members\":[{\"address\":\"0000:01:10.0\",\"class\":\"020000\",\"driver\":\"igbvf\"}]}"));
	json_object_put(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(inventory_of_a_machine_without, up, down),
		cmocka_unit_test_setup_teardown(inventory_of_pfs_by_address, up, down),
		cmocka_unit_test_setup_teardown(inventory_of_vfs, up, down),
		cmocka_unit_test_setup_teardown(inventory_of_groups, up, down),
		cmocka_unit_test_setup_teardown(inventory_of_what_each_pf_can, up, down),
		cmocka_unit_test_setup_teardown(inventory_of_owners, up, down),
		cmocka_unit_test_setup_teardown(inventory_of_owners_without_their_functions, up, down),
		cmocka_unit_test_setup_teardown(inventory_of_what_is_declared, up, down),
		cmocka_unit_test_setup_teardown(inventory_of_a_damaged_record, up, down),
		cmocka_unit_test_setup_teardown(inventory_of_who_has_it_open, up, down),
		cmocka_unit_test_setup_teardown(inventory_of_disks_in_use, up, down),
		cmocka_unit_test_setup_teardown(match_by_every_name, up, down),
		cmocka_unit_test_setup_teardown(match_of_what_is_not_there, up, down),
		cmocka_unit_test_setup_teardown(json_says_it_all, up, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
