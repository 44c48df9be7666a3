/* Plans: made from an inventory and what is declared, without a machine. */
#include "sriov/declare.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VFS = 8 };

static struct vf vfs[3][VFS];
static struct vf_pf pfs[3];
static struct vf_inventory inv = { .npfs = 3, .pf = pfs };
static struct vf_declared d;
static struct vf_plan plan;
static struct vf_why why;

static int forget(void **state)
{
	(void)state;
	vf_plan_free(&plan);
	vf_declared_free(&d);
	return 0;
}

/* Two NICs of a kind and an NVMe controller, without VFs. */
static int machine(void **state)
{
	static const struct {
		const char *netdev, *port;
		uint16_t vendor, device;
	} is[] = { { "eth1", "p0", 0x8086, 0x10c9 }, { "eth2", "p1", 0x8086, 0x10c9 }, { "", "", 0x1b36, 0x0010 } };

	(void)state;
	memset(vfs, 0, sizeof(vfs));
	memset(pfs, 0, sizeof(pfs));
	for (int i = 0; i < 3; i++) {
		struct vf_pf *pf = &pfs[i];

		pf->dev = (struct vf_dev){ .bdf = { 0, (uint8_t)(i + 1), 0, 0 }, .vendor = is[i].vendor, .device = is[i].device };
		snprintf(pf->dev.netdev, sizeof(pf->dev.netdev), "%s", is[i].netdev);
		snprintf(pf->port, sizeof(pf->port), "%s", is[i].port);
		snprintf(pf->dev.driver, sizeof(pf->dev.driver), "%s", *is[i].netdev ? "igb" : "nvme");
		pf->kind = *is[i].netdev ? VF_KIND_NET : VF_KIND_NVME;
		memcpy(pf->mac, "\x52\x54\x00\x00\x00", 5);
		pf->mac[5] = *is[i].netdev ? (uint8_t)(0x10 + i) : 0;
		pf->total = 7;
		pf->vf = vfs[i];
	}
	return 0;
}

/* A PF that has n VFs, as its driver makes them. */
static void has(int pf, unsigned n)
{
	pfs[pf].num = pfs[pf].nvfs = n;
	for (unsigned i = 0; i < n; i++) {
		vfs[pf][i] = (struct vf){ .dev.bdf = { 0, (uint8_t)(pf + 1), 0x10, (uint8_t)i }, .index = i };
		vf_settings_default(&vfs[pf][i].is, VF_ALL_KEYS);
	}
}

static int make(const char *text, unsigned flags)
{
	forget(NULL);
	if (vf_declare_parse(text, strlen(text), &d, &why) < 0)
		fail_msg("%s", why.text);
	return vf_plan_make(&inv, &d, "seed", flags, &plan, &why);
}

static void good(const char *text, unsigned flags)
{
	if (make(text, flags) < 0)
		fail_msg("%s: %s", text, why.text);
}

static void refused(const char *text, int rc, const char *begins)
{
	assert_int_equal(make(text, 0), rc);
	if (strncmp(why.text, begins, strlen(begins)))
		fail_msg("%s:\n  is        %s\n  should be %s", text, why.text, begins);
}

/* As if it were kept already. */
static void keep_it(void)
{
	for (unsigned i = 0; i < plan.npfs; i++) {
		json_object_put(plan.pf[i].kept);
		plan.pf[i].kept = json_object_get(plan.pf[i].keep);
	}
}

static void make_finds_the_pf(void **state)
{
	static const char *const names[] = { "0000:01:00.0", "01:00.0", "eth1", "p0", "8086:10c9 p0", "8086:10C9 eth1" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char text[100];

		snprintf(text, sizeof(text), "pf %s vfs 4", names[i]);
		good(text, 0);
		assert_int_equal(plan.npfs, 1);
		assert_ptr_equal(plan.pf[0].pf, &pfs[0]);
		assert_int_equal(plan.pf[0].from, 0);
		assert_int_equal(plan.pf[0].to, 4);
	}
	good("pf every 8086:10c9 vfs 4", 0);
	assert_int_equal(plan.npfs, 2);
	refused("pf 8086:10c9 vfs 4", -EEXIST, "1:1: several PFs are called 8086:10c9: 0000:01:00.0 (eth1, 8086:10c9, p0), 0000:02:00.0 (eth2, 8086:10c9, p1); "
					       "name one more exactly, or say pf every");
	refused("\npf eth9 vfs 4", -ENODEV, "2:1: no PF is called eth9; there is 0000:01:00.0 (eth1, 8086:10c9, p0), ");
	refused("pf eth1 p1 vfs 4", -ENODEV, "1:1: no PF is called eth1 and p1; there is ");
	refused("pf eth1 vfs 4\npf p0 vfs 4", -EEXIST, "2:1: 0000:01:00.0 is the pf of line 1 as well");
}

static void make_lenient_leaves_out_what_is_not_there(void **state)
{
	(void)state;
	good("pf eth9 vfs 4\npf eth1 vfs 2", VF_PLAN_LENIENT);
	assert_int_equal(plan.npfs, 1);
}

static void make_new_vfs_get_all_settings(void **state)
{
	(void)state;
	good("pf eth1 vfs 3\nvf 0-1 vlan 100 spoofchk on", 0);
	assert_int_equal(plan.pf[0].vf[0].keys, 1 << VF_VLAN | 1 << VF_SPOOFCHK);
	assert_int_equal(plan.pf[0].vf[1].keys, 1 << VF_VLAN | 1 << VF_SPOOFCHK);
	assert_int_equal(plan.pf[0].vf[2].keys, 0);
	assert_false(vf_plan_pf_idle(&plan.pf[0]));
}

static void make_sets_only_what_differs(void **state)
{
	(void)state;
	has(0, 3);
	vfs[0][1].is.vlan = 100;
	good("pf eth1 vfs 3\nvf all vlan 100 spoofchk on", 0);
	assert_int_equal(plan.pf[0].vf[0].keys, 1 << VF_VLAN);
	assert_int_equal(plan.pf[0].vf[1].keys, 0);
	good("pf eth1 vfs 3\nvf all vlan 100 spoofchk on", VF_PLAN_FORCE);
	assert_int_equal(plan.pf[0].vf[1].keys, 1 << VF_VLAN | 1 << VF_SPOOFCHK);
	vfs[0][0].is.vlan = vfs[0][2].is.vlan = 100;
	good("pf eth1 vfs 3\nvf all vlan 100 spoofchk on", 0);
	assert_false(vf_plan_pf_idle(&plan.pf[0])); /* it is still to be kept */
	keep_it();
	assert_true(vf_plan_pf_idle(&plan.pf[0]));
}

static void make_no_vfs_is_idle_when_nothing_is_kept(void **state)
{
	(void)state;
	good("pf eth1 vfs 0", 0);
	assert_true(vf_plan_pf_idle(&plan.pf[0]));
	keep_it();
	assert_false(vf_plan_pf_idle(&plan.pf[0]));
}

static void make_names_who_uses_vfs_that_would_go(void **state)
{
	(void)state;
	has(0, 4);
	vfs[0][1].in_use = vfs[0][3].in_use = true;
	strcpy(vfs[0][1].used_by, "guest web");
	strcpy(vfs[0][3].used_by, "qemu (pid 7) through vfio-pci");
	refused("pf eth1 vfs 5", -EBUSY, "1:1: 0000:01:00.0 has 4 VFs: all of them go before there can be 5, and some are in use: "
					 "VF 1 (0000:01:10.1): guest web; VF 3 (0000:01:10.3): qemu (pid 7) through vfio-pci; take them away first");
	refused("pf eth1 vfs 0", -EBUSY, "1:1: 0000:01:00.0 has 4 VFs");
	good("pf eth1 vfs 4\nvf 1 vlan 5", 0); /* of the same number, it may be set */
	assert_int_equal(plan.pf[0].vf[1].keys, 1 << VF_VLAN);
	vfs[0][1].in_use = vfs[0][3].in_use = false;
	good("pf eth1 vfs 5", 0);
}

static void make_lenient_takes_nothing_away(void **state)
{
	(void)state;
	has(0, 4);
	good("pf eth1 vfs 7\nvf all vlan 5", VF_PLAN_LENIENT);
	assert_int_equal(plan.pf[0].to, 4);
	vfs[0][1].in_use = true; /* libvirt's */
	vfs[0][2].in_use = true; /* ours */
	vfs[0][2].record.state = VF_CLAIMED;
	good("pf eth1 vfs 2\nvf all vlan 5", VF_PLAN_LENIENT);
	assert_int_equal(plan.pf[0].to, 4);
	assert_int_equal(plan.pf[0].vf[0].keys, 1 << VF_VLAN);
	assert_int_equal(plan.pf[0].vf[1].keys, 0);
	assert_int_equal(plan.pf[0].vf[2].keys, 0); /* not declared */
	good("pf eth1 vfs 4\nvf all vlan 5", VF_PLAN_LENIENT);
	assert_int_equal(plan.pf[0].vf[2].keys, 1 << VF_VLAN);
	has(0, 0);
	good("pf eth1 vfs 7", VF_PLAN_LENIENT);
	assert_int_equal(plan.pf[0].to, 7);
	good("pf eth1 vfs 7", VF_PLAN_LENIENT | VF_PLAN_SETTINGS);
	assert_int_equal(plan.pf[0].to, 0);
}

static void make_owners_settings_are_over_the_declared(void **state)
{
	(void)state;
	has(0, 3);
	vfs[0][0].in_use = true;
	vfs[0][0].record.state = VF_ASSIGNED;
	vfs[0][0].record.settings = (struct vf_settings){ .set = 1 << VF_VLAN, .vlan = 7 };
	vfs[0][1].record.state = VF_RELEASING; /* being wiped */
	vfs[0][2].record.state = VF_QUARANTINED;
	good("pf eth1 vfs 3\nvf all vlan 5 trust on", 0);
	assert_int_equal(plan.pf[0].vf[0].want.vlan, 7);
	assert_int_equal(plan.pf[0].vf[0].keys, 1 << VF_VLAN | 1 << VF_TRUST);
	assert_int_equal(plan.pf[0].vf[1].keys, 0);
	assert_int_equal(plan.pf[0].vf[2].keys, 0);
	assert_non_null(strstr(json_object_to_json_string(plan.pf[0].keep), "\"vlan\": 5"));
	assert_null(strstr(json_object_to_json_string(plan.pf[0].keep), "\"vlan\": 7"));
}

static void make_refuses_what_the_pf_cannot(void **state)
{
	(void)state;
	refused("pf eth1 vfs 8", -ERANGE, "1:1: 0000:01:00.0 can have 7 VFs at most, not 8");
	good("pf 0000:03:00.0 vfs 2\npool disks all", 0);
	refused("pf 0000:03:00.0 vfs 2\nvf 0 trust on", -EOPNOTSUPP, "1:1: 0000:03:00.0 has no network interface with its driver nvme");
}

static void make_finds_duplicate_macs(void **state)
{
	(void)state;
	refused("pf eth1 vfs 2\nvf 1 mac 52:54:00:00:00:11", -EADDRINUSE,
		"2:10: 52:54:00:00:00:11 for VF 1 of 0000:01:00.0 is the address of PF 0000:02:00.0 (eth2): two would answer to it");
	has(1, 2);
	memcpy(vfs[1][1].is.mac, "\x02\x00\x00\x00\x00\x01", 6);
	refused("pf eth1 vfs 2\nvf 1 mac 02:00:00:00:00:01", -EADDRINUSE, "2:10: 02:00:00:00:00:01 for VF 1 of 0000:01:00.0 is the address of VF 1 of 0000:02:00.0");
	good("pf eth1 vfs 2\nvf 1 mac 02:00:00:00:00:01\npf eth2 vfs 2\nvf 1 mac auto", 0); /* it gets another */
	good("pf eth1 vfs 2\nvf 1 mac 02:00:00:00:00:01\npf eth2 vfs 0", 0);
	good("pf eth1 vfs 2\nvf all mac none", 0);
	good("pf eth2 vfs 2\nvf 1 mac 02:00:00:00:00:01", 0); /* its own */
	refused("pf every 8086:10c9 vfs 1\nvf 0 mac 02:00:00:00:00:05", -EADDRINUSE, "2:10: ");
}

static void mac_make_is_stable_and_local(void **state)
{
	uint8_t a[6], b[6], was[7][6];

	(void)state;
	for (unsigned i = 0; i < 7; i++) {
		vf_mac_make("seed", pfs[0].dev.bdf, i, was[i]);
		vf_mac_make("seed", pfs[0].dev.bdf, i, a);
		assert_memory_equal(a, was[i], 6);
		assert_int_equal(a[0] & 3, 2);
		for (unsigned n = 0; n < i; n++)
			assert_memory_not_equal(was[n], a, 6);
	}
	vf_mac_make("seed", pfs[1].dev.bdf, 0, b);
	assert_memory_not_equal(was[0], b, 6);
	vf_mac_make("another", pfs[0].dev.bdf, 0, b);
	assert_memory_not_equal(was[0], b, 6);
}

static void make_mac_auto_is_kept_as_it_was_made(void **state)
{
	char text[20], want[40];
	uint8_t mac[6];

	(void)state;
	vf_mac_make("seed", pfs[0].dev.bdf, 1, mac);
	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	snprintf(want, sizeof(want), "\"mac\": \"%s\"", text);
	good("pf eth1 vfs 2\nvf 1 mac auto", 0);
	assert_memory_equal(plan.pf[0].vf[1].want.mac, mac, 6);
	assert_non_null(strstr(json_object_to_json_string(plan.pf[0].keep), want));
}

static void kept_parse_is_the_inverse(void **state)
{
	struct vf_declared_pf kept;
	struct json_object *again;

	(void)state;
	good("pf eth1 vfs 3 autoprobe off\nvf all mac auto vlan 5 qos 2 vlan_proto 802.1ad link down min_rate 1 max_rate 2 rss_query off\npool a 1", 0);
	assert_int_equal(vf_kept_parse(plan.pf[0].keep, &kept), 0);
	assert_true(vf_pf_is_meant(&pfs[0], &kept));
	assert_false(vf_pf_is_meant(&pfs[1], &kept));
	again = vf_kept_json(&pfs[0], &kept, "another seed");
	assert_true(json_object_equal(again, plan.pf[0].keep));
	json_object_put(again);
	free(kept.vf);
}

static void kept_parse_refuses_others(void **state)
{
	static const char *const bad[] = { "{}", "{\"called\": 1, \"vf\": []}", "{\"called\": [\"x\"], \"vf\": [1]}", "{\"called\": [], \"vf\": [{\"settings\": {\"x\": 1}}]}",
					   "{\"called\": [1,2,3,4,5], \"vf\": []}", "{\"called\": [], \"vf\": [null]}", "{\"called\": [], \"vf\": {}}" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct json_object *o = json_tokener_parse(bad[i]);
		struct vf_declared_pf kept;

		assert_int_equal(vf_kept_parse(o, &kept), -EBADMSG);
		free(kept.vf);
		json_object_put(o);
	}
}

static void put(void *arg, const char *text)
{
	strcat(strcat(arg, text), "\n");
}

static void tell_says_what_would_be_done(void **state)
{
	char text[1000] = "";

	(void)state;
	has(1, 2);
	pfs[0].supports[VF_MIN_RATE] = VF_NO;
	good("pf eth1 vfs 2\nvf 0 vlan 5 min_rate 7\npf eth2 vfs 2", 0);
	json_object_put(plan.pf[1].kept);
	plan.pf[1].kept = json_object_get(plan.pf[1].keep);
	vf_plan_tell(&plan, put, text);
	assert_string_equal(text, "0000:01:00.0 (eth1): 2 VFs, 0 now\n"
				  "  VF 0: vlan 5 min_rate 7 (the device will refuse min_rate 7)\n"
				  "0000:02:00.0 (eth2): 2 VFs, nothing to do\n");
}

static void json_says_what_would_be_done(void **state)
{
	struct json_object *o, *want;

	(void)state;
	good("pf eth1 vfs 1\nvf 0 vlan 5", 0);
	o = vf_plan_json(&plan);
	want = json_tokener_parse("{\"idle\": false, \"pfs\": [{\"pf\": \"0000:01:00.0\", \"netdev\": \"eth1\", \"from\": 0, \"to\": 1, \"keep\": true, "
				  "\"vfs\": [{\"vf\": 0, \"set\": {\"vlan\": 5}, \"lacked\": {}}]}]}");
	if (!json_object_equal(o, want))
		fail_msg("%s", json_object_to_json_string(o));
	json_object_put(o);
	json_object_put(want);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, machine, forget)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(make_finds_the_pf),
		TEST(make_lenient_leaves_out_what_is_not_there),
		TEST(make_new_vfs_get_all_settings),
		TEST(make_sets_only_what_differs),
		TEST(make_no_vfs_is_idle_when_nothing_is_kept),
		TEST(make_names_who_uses_vfs_that_would_go),
		TEST(make_lenient_takes_nothing_away),
		TEST(make_owners_settings_are_over_the_declared),
		TEST(make_refuses_what_the_pf_cannot),
		TEST(make_finds_duplicate_macs),
		TEST(mac_make_is_stable_and_local),
		TEST(make_mac_auto_is_kept_as_it_was_made),
		TEST(kept_parse_is_the_inverse),
		TEST(kept_parse_refuses_others),
		TEST(tell_says_what_would_be_done),
		TEST(json_says_what_would_be_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
