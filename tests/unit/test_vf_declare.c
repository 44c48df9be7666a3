/* Files of declared VFs: what they mean, each error with its place, and any bytes at all. */
#include "sriov/declare.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct vf_why why;
static struct vf_declared d;

static int parse(const char *text)
{
	vf_declared_free(&d);
	return vf_declare_parse(text, strlen(text), &d, &why);
}

static void good(const char *text)
{
	if (parse(text) < 0)
		fail_msg("%s: %s", text, why.text);
}

static void parse_nothing(void **state)
{
	static const char *const empty[] = { "", "\n", "# a comment", " \t\r\n\n#x\n", "   # \x01 in a comment, anything\n" };

	(void)state;
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
		good(empty[i]);
		assert_int_equal(d.npfs, 0);
	}
}

static void parse_pf_by_any_name(void **state)
{
	(void)state;
	good("pf 0000:01:00.0 vfs 7\n\n  pf every 8086:10c9 p0 vfs 0 # two names\npf eth1 vfs 1 autoprobe off");
	assert_int_equal(d.npfs, 3);
	assert_string_equal(d.pf[0].called[0], "0000:01:00.0");
	assert_int_equal(d.pf[0].nvfs, 7);
	assert_false(d.pf[0].every);
	assert_int_equal(d.pf[0].line, 1);
	assert_true(d.pf[1].every);
	assert_int_equal(d.pf[1].ncalled, 2);
	assert_string_equal(d.pf[1].called[1], "p0");
	assert_int_equal(d.pf[1].line, 3);
	assert_int_equal(d.pf[1].column, 3);
	assert_int_equal(d.pf[2].nvfs, 1);
	assert_true(d.pf[2].says_autoprobe);
	assert_false(d.pf[2].autoprobe);
	assert_false(d.pf[1].says_autoprobe);
	assert_int_equal(d.pf[2].vf[0].want.set, 0);
}

static void parse_settings_of_ranges(void **state)
{
	const struct vf_declared_vf *v;

	(void)state;
	good("pf eth1 vfs 7\n"
	     "vf all spoofchk on trust off vlan 100\n"
	     "vf 0,2-3,6 vlan 200 qos 3 vlan_proto 802.1ad min_rate 10 max_rate 100 link up rss_query on\n"
	     "vf 2 trust on mac 02:00:00:00:00:02\n");
	v = d.pf[0].vf;
	assert_int_equal(v[1].want.set, 1 << VF_SPOOFCHK | 1 << VF_TRUST | 1 << VF_VLAN);
	assert_int_equal(v[1].want.vlan, 100);
	assert_int_equal(v[0].want.set, VF_ALL_KEYS & ~(1 << VF_MAC));
	for (int i = 0; i < 7; i++)
		assert_int_equal(v[i].want.vlan, i == 0 || i == 2 || i == 3 || i == 6 ? 200 : 100);
	assert_int_equal(v[3].want.vlan_proto, 0x88a8);
	assert_int_equal(v[3].want.min_rate, 10);
	assert_int_equal(v[3].want.link, VF_LINK_UP);
	assert_true(v[3].want.rss_query);
	assert_false(v[3].want.trust);
	assert_true(v[2].want.trust);
	assert_true(v[2].want.spoofchk);
	assert_int_equal(v[2].want.mac[5], 2);
}

static void parse_mac_auto_none_or_given(void **state)
{
	const struct vf_declared_vf *v;

	(void)state;
	good("pf eth1 vfs 4\nvf all mac auto\nvf 1 mac 02:00:00:00:00:01\nvf 2 mac none\n vf 3 mac 02:00:00:00:00:03\nvf 3 mac auto");
	v = d.pf[0].vf;
	assert_true(v[0].mac_auto);
	assert_int_equal(v[0].want.set, 0);
	assert_false(v[1].mac_auto);
	assert_int_equal(v[1].want.set, 1 << VF_MAC);
	assert_int_equal(v[1].mac_line, 3);
	assert_int_equal(v[1].mac_column, 10);
	assert_false(v[2].mac_auto);
	assert_int_equal(v[2].want.set, 1 << VF_MAC);
	assert_int_equal(v[2].want.mac[0], 0);
	assert_true(v[3].mac_auto);
	assert_int_equal(v[3].want.set, 0);
}

static void parse_pools(void **state)
{
	(void)state;
	good("pf eth1 vfs 4\npool fast 0-1\npool slow 3\npf eth2 vfs 2\npool fast all");
	assert_string_equal(d.pf[0].vf[0].pool, "fast");
	assert_string_equal(d.pf[0].vf[1].pool, "fast");
	assert_string_equal(d.pf[0].vf[2].pool, "");
	assert_string_equal(d.pf[0].vf[3].pool, "slow");
	assert_string_equal(d.pf[1].vf[1].pool, "fast");
}

static void parse_errors_have_their_place(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "device x", "1:1: no such statement: device; there are pf, vf and pool" },
		{ "vf 0 trust on", "1:1: vf: no pf is above this line" },
		{ "pool a 0", "1:1: pool: no pf is above this line" },
		{ "pf", "1:3: which PF?" },
		{ "pf every vfs 4", "1:10: which PF?" },
		{ "pf eth1", "1:8: how many VFs?" },
		{ "pf eth1 vfs", "1:12: the line ends after vfs: give a number" },
		{ "pf eth1 vfs many", "1:13: many: give a number of VFs, 0 to 1024" },
		{ "pf eth1 vfs 1025", "1:13: 1025: give a number" },
		{ "pf a b c d e vfs 1", "1:12: more than 4 names" },
		{ "pf eth1 vfs 4 x", "1:15: x: nothing but autoprobe on or off may follow the number of VFs" },
		{ "pf eth1 vfs 4 autoprobe", "1:24: the line ends after autoprobe: give on or off" },
		{ "pf eth1 vfs 4 autoprobe no", "1:25: autoprobe no: it is on or off" },
		{ "pf eth1 vfs 4 autoprobe on x", "1:28: x: nothing more is to be said in this line" },
		{ "pf eth1 vfs 4\nvf", "2:3: the line ends after vf: give VFs" },
		{ "pf eth1 vfs 4\nvf 0", "2:5: the line ends after the VFs: give settings" },
		{ "pf eth1 vfs 4\nvf 4 trust on", "2:4: VF 4: the pf of line 1 has 4 VFs, from 0 on" },
		{ "pf eth1 vfs 4\nvf 0,1-4 trust on", "2:8: VF 4: the pf of line 1 has 4 VFs" },
		{ "pf eth1 vfs 4\nvf 2-1 trust on", "2:4: 2-1: the first is behind the last" },
		{ "pf eth1 vfs 4\nvf 0;1 trust on", "2:5: 0;1: give VFs such as" },
		{ "pf eth1 vfs 4\nvf 0, trust on", "2:6: 0,: give VFs such as" },
		{ "pf eth1 vfs 4\nvf x trust on", "2:4: x: give VFs such as" },
		{ "pf eth1 vfs 4\nvf 0 speed 4", "2:6: no setting of a VF is called speed; there are mac, vlan, qos," },
		{ "pf eth1 vfs 4\nvf 0 trust", "2:11: the line ends after trust: give its value" },
		{ "pf eth1 vfs 4\nvf 0 trust yes", "2:12: trust yes: it is on or off" },
		{ "pf eth1 vfs 4\nvf 0 trust on trust off", "2:15: trust was said before in this line" },
		{ "pf eth1 vfs 4\nvf 0 vlan 4095", "2:11: vlan 4095: it is 0 (none) .. 4094" },
		{ "pf eth1 vfs 4\nvf 0 mac 02:00", "2:10: mac 02:00: it is an address such as 02:00:00:00:00:01, no group's, or auto, or none" },
		{ "pf eth1 vfs 4\nvf 0 mac 01:00:00:00:00:01", "2:10: mac 01:" },
		{ "pf eth1 vfs 4\nvf 0-1 mac 02:00:00:00:00:01", "2:12: 02:00:00:00:00:01 for 2 VFs: two would answer to it" },
		{ "pf eth1 vfs 4\nvf 0 mac 02:00:00:00:00:01\nvf 1 trust on mac 02:00:00:00:00:01",
		  "3:19: 02:00:00:00:00:01: VF 0 of the pf of line 1 has this address (line 2)" },
		{ "pf a vfs 1\nvf 0 mac 02:00:00:00:00:01\npf b vfs 1\nvf 0 mac 02:00:00:00:00:01", "4:10: 02:00:00:00:00:01: VF 0 of the pf of line 1" },
		{ "pf eth1 vfs 4\nvf 0 min_rate 10 max_rate 5", "2:15: VF 0: min_rate 10 is above max_rate 5" },
		{ "pf eth1 vfs 4\nvf 0-2 max_rate 5\nvf 2-3 min_rate 10", "3:17: VF 2: min_rate 10 is above max_rate 5" },
		{ "pf eth1 vfs 4\nvf 0 qos 3", "2:10: VF 0: qos is a part of a VLAN's tag: give vlan as well" },
		{ "pf eth1 vfs 4\nvf 0 vlan_proto 802.1ad", "2:17: VF 0: vlan_proto is of a VLAN's tag" },
		{ "pf eth1 vfs 4\npool", "2:5: the line ends after pool: give its name" },
		{ "pf eth1 vfs 4\npool a", "2:7: the line ends after a pool's name: give VFs" },
		{ "pf eth1 vfs 4\npool a/b 0", "2:7: a pool's name is of letters, digits and - _ ." },
		{ "pf eth1 vfs 4\npool a 0-1\npool b 1-2", "3:8: VF 1 is in the pool a already" },
		{ "pf eth1 vfs 4\npool a 0 1", "2:10: 1: nothing more is to be said in this line" },
		{ "pf eth1 vfs \x01", "1:13: a character that is neither" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse(cases[i].text), -EINVAL);
		if (strncmp(why.text, cases[i].why, strlen(cases[i].why)))
			fail_msg("%s:\n  is        %s\n  should be %s", cases[i].text, why.text, cases[i].why);
	}
}

static void parse_moving_a_mac_within_a_file(void **state)
{
	(void)state;
	good("pf eth1 vfs 2\nvf 0 mac 02:00:00:00:00:01\nvf 0 mac auto\nvf 1 mac 02:00:00:00:00:01");
	good("pf eth1 vfs 2\nvf 0 mac 02:00:00:00:00:01\nvf 0 mac 02:00:00:00:00:01"); /* its own */
}

static void parse_too_much(void **state)
{
	size_t len = VF_TEXT_MAX + 1;
	char *text = malloc(len);
	unsigned n = 0;

	(void)state;
	memset(text, '\n', len);
	vf_declared_free(&d);
	assert_int_equal(vf_declare_parse(text, len, &d, &why), -EINVAL);
	assert_string_equal(why.text, "1:1: longer than 262144 bytes");
	for (unsigned i = 0; i <= VF_PFS_MAX; i++)
		n += (unsigned)sprintf(text + n, "pf eth%u vfs 1024\n", i);
	assert_int_equal(parse(text), -EINVAL);
	assert_string_equal(why.text, "129:1: more than 128 PFs");
	free(text);
}

static void parse_any_bytes(void **state)
{
	static const char *const words[] = { "pf", "vf", "pool", "vfs", "every", "eth1", "4", "all", "0-2", "mac", "auto", "02:00:00:00:00:01", "vlan",
					     "7", "qos", "\n", "\n", "\n", "#", "trust", "on", "0", "\xff", ",", "min_rate", "max_rate" };
	char text[400];

	(void)state;
	srand(1);
	for (int i = 0; i < 20000; i++) {
		*text = 0;
		for (int n = rand() % 40; n > 0; n--)
			strcat(strcat(text, words[rand() % (sizeof(words) / sizeof(words[0]))]), " ");
		if (parse(text) < 0)
			assert_in_range(why.text[0], '1', '9');
	}
}

static int forget(void **state)
{
	(void)state;
	vf_declared_free(&d);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse_nothing),
		cmocka_unit_test(parse_pf_by_any_name),
		cmocka_unit_test(parse_settings_of_ranges),
		cmocka_unit_test(parse_mac_auto_none_or_given),
		cmocka_unit_test(parse_pools),
		cmocka_unit_test(parse_errors_have_their_place),
		cmocka_unit_test(parse_moving_a_mac_within_a_file),
		cmocka_unit_test(parse_too_much),
		cmocka_unit_test(parse_any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, forget);
}
