/* test_vf_settings.c - the settings of a VF as text and as JSON, and addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>
#include "sriov/sriov.h"

static void bdf_parse_of_addresses(void **state)
{
	static const char *const bad[] = { "", "0000:01:00", "0000:01:00.8", "0000:01:20.0", "00000:01:00.0", "0000:01:00.0 ", " 0000:01:00.0",
					   "0000:1:+0.0", "0000:01:00.0x", "g000:01:00.0", "01:00" };
	struct vf_bdf b;

	(void)state;
	assert_int_equal(vf_bdf_parse("0001:02:1f.7", &b), 0);
	assert_string_equal(vf_text(b).s, "0001:02:1f.7");
	assert_int_equal(vf_bdf_parse("81:10.2", &b), 0);
	assert_string_equal(vf_text(b).s, "0000:81:10.2");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(vf_bdf_parse(bad[i], &b), -EINVAL);
}

static void key_names_are_all_told(void **state)
{
	(void)state;
	for (enum vf_key key = 0; key < VF_KEYS; key++) {
		assert_non_null(strstr(VF_KEY_NAMES, vf_key_name(key)));
		assert_int_equal(vf_key_find(vf_key_name(key)), key);
	}
}

static void settings_parse_takes_and_gives_back(void **state)
{
	static const char *const good[][2] = {
		{ "mac", "02:00:00:ab:cd:ef" }, { "vlan", "4094" }, { "qos", "7" }, { "vlan_proto", "802.1ad" }, { "spoofchk", "off" },
		{ "trust", "on" }, { "min_rate", "0" }, { "max_rate", "4294967295" }, { "link", "down" }, { "rss_query", "on" },
	};
	struct vf_settings v = { 0 };
	char text[32];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		int key = vf_key_find(good[i][0]);

		vf_settings_text(&v, key, text, sizeof(text));
		assert_string_equal(text, "");
		assert_int_equal(vf_settings_parse(&v, key, good[i][1], NULL), 0);
		vf_settings_text(&v, key, text, sizeof(text));
		assert_string_equal(text, good[i][1]);
	}
	assert_int_equal(v.set, VF_ALL_KEYS);
	assert_int_equal(vf_key_find("color"), -ENOENT);
}

static void settings_parse_refuses(void **state)
{
	static const char *const bad[][2] = {
		{ "mac", "02:00:00:00:00" }, { "mac", "01:00:00:00:00:01" }, { "mac", "02:00:00:00:00:0g" }, { "mac", "02:00:00:00:00:001" },
		{ "mac", "2:00:00:00:00:001" }, { "vlan", "4095" }, { "vlan", "-1" }, { "vlan", "" }, { "vlan", "1x" }, { "qos", "8" },
		{ "vlan_proto", "802.3" }, { "trust", "yes" }, { "max_rate", "4294967296" }, { "max_rate", "99999999999999999999" }, { "link", "enable" },
	};
	struct vf_why why;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vf_settings v = { 0 };

		assert_int_equal(vf_settings_parse(&v, vf_key_find(bad[i][0]), bad[i][1], &why), -EINVAL);
		assert_non_null(strstr(why.text, bad[i][0]));
		assert_int_equal(v.set, 0);
	}
}

static void settings_differ_sees_what_is_said_only(void **state)
{
	struct vf_settings want = { .set = 1 << VF_VLAN | 1 << VF_TRUST, .vlan = 100, .trust = true }, is = { .set = 1 << VF_VLAN, .vlan = 100, .trust = true };

	(void)state;
	assert_int_equal(vf_settings_differ(&want, &is), 1 << VF_TRUST);
	is.set |= 1 << VF_TRUST;
	assert_int_equal(vf_settings_differ(&want, &is), 0);
	is.vlan = 0;
	assert_int_equal(vf_settings_differ(&want, &is), 1 << VF_VLAN);
	vf_settings_merge(&is, &want);
	assert_int_equal(vf_settings_differ(&want, &is), 0);
}

static void settings_json_is_read_again(void **state)
{
	struct vf_settings v = { 0 }, again = { 0 };
	struct json_object *o;

	(void)state;
	vf_settings_default(&v, VF_ALL_KEYS & ~(1 << VF_LINK));
	o = vf_settings_json(&v);
	assert_int_equal(vf_settings_from_json(&again, o, NULL), 0);
	json_object_put(o);
	assert_int_equal(again.set, v.set);
	assert_int_equal(vf_settings_differ(&v, &again), 0);
}

static void settings_from_json_refuses(void **state)
{
	static const char *const bad[] = { "[]", "{\"vlan\": null}", "{\"vlan\": [1]}", "{\"colour\": 1}", "{\"trust\": 1}", "{\"vlan\": 1.5}", "{\"mac\": {}}" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct json_object *o = json_tokener_parse(bad[i]);
		struct vf_settings v = { 0 };

		assert_int_equal(vf_settings_from_json(&v, o, NULL), -EINVAL);
		json_object_put(o);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bdf_parse_of_addresses),
		cmocka_unit_test(key_names_are_all_told),
		cmocka_unit_test(settings_parse_takes_and_gives_back),
		cmocka_unit_test(settings_parse_refuses),
		cmocka_unit_test(settings_differ_sees_what_is_said_only),
		cmocka_unit_test(settings_json_is_read_again),
		cmocka_unit_test(settings_from_json_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
