/* test_pviod_claim.c - the pure parts of claim.c: paths, scripts, and a toolstack's keys as ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "dom0-tools/pviod.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- paths ---- */

static void parse_finds_a_device(void **state)
{
	struct claim_id id;
	const char *key;

	(void)state;
	assert_int_equal(claim_parse("/local/domain/0/backend/vbd/3/51712/state", &id, &key), 0);
	assert_int_equal(id.backend_domid, 0);
	assert_int_equal(id.type, PV_NOXS_VBD);
	assert_int_equal(id.guest, 3);
	assert_int_equal(id.devid, 51712);
	assert_string_equal(key, "state");
	assert_int_equal(claim_parse("/local/domain/7/backend/vif/65535/0", &id, &key), 0);
	assert_int_equal(id.backend_domid, 7);
	assert_int_equal(id.type, PV_NOXS_VIF);
	assert_int_equal(id.guest, 65535);
	assert_int_equal(id.devid, 0);
	assert_string_equal(key, "");
	assert_int_equal(claim_parse("/local/domain/7/backend/vif/1/0/queue-0/rate", &id, &key), 0);
	assert_string_equal(key, "queue-0/rate");
}

static void parse_takes_what_scripts_are_told(void **state)
{
	struct claim_id id;
	const char *key;

	(void)state;
	assert_int_equal(claim_parse("backend/vif/4/1", &id, &key), 0);
	assert_int_equal(id.backend_domid, 0);
	assert_int_equal(id.type, PV_NOXS_VIF);
	assert_int_equal(id.guest, 4);
	assert_int_equal(id.devid, 1);
}

static void parse_refuses_all_else(void **state)
{
	static const char *const wrong[] = {
		"", "/", "backend", "backend/", "backend/vbd", "backend/vbd/", "backend/vbd/3", "backend/vbd/3/", "backend/vbd//1",
		"backend/vbd/3/x", "backend/vbd/3/1x", "backend/vbd/-3/1", "backend/vbd/3/ 1", "backend/vbd/65536/1", "backend/vbd/3/4294967296",
		"backend/vbd/99999999999999999999/1", "backend/console/3/0", "backend/vbdx/3/0", "/backend/vbd/3/0", "local/domain/0/backend/vbd/3/0",
		"/local/domain/backend/vbd/3/0", "/local/domain/0/device/vbd/3", "/local/domain/65536/backend/vbd/3/0", "/local/domain/0backend/vbd/3/0",
		"/local/domain/0/backend/vbd", "@releaseDomain",
	};
	struct claim_id id;
	const char *key;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (claim_parse(wrong[i], &id, &key) != -EINVAL)
			fail_msg("%s is taken for a device", wrong[i]);
}

/* ---- scripts ---- */

static void script_is_ours_by_its_name(void **state)
{
	(void)state;
	assert_true(claim_script(PV_NOXS_VBD, "/etc/xen/scripts/block-pvio"));
	assert_true(claim_script(PV_NOXS_VBD, "block-pvio"));
	assert_true(claim_script(PV_NOXS_VIF, "/etc/xen/scripts/vif-pvio"));
	assert_false(claim_script(PV_NOXS_VBD, "/etc/xen/scripts/vif-pvio"));
	assert_false(claim_script(PV_NOXS_VIF, "/etc/xen/scripts/block-pvio"));
	assert_false(claim_script(PV_NOXS_VBD, "/etc/xen/scripts/block"));
	assert_false(claim_script(PV_NOXS_VBD, "/etc/xen/scripts/block-pvio/"));
	assert_false(claim_script(PV_NOXS_VBD, "/etc/xen/scripts/my-block-pvio"));
	assert_false(claim_script(PV_NOXS_VBD, ""));
}

/* ---- keys ---- */

struct pair {
	const char *key, *value;
};

static int read_pair(void *arg, const char *key, char *buf, size_t len)
{
	for (const struct pair *p = arg; p->key; p++) {
		if (strcmp(p->key, key))
			continue;
		if (!p->value)
			return -EINVAL;
		return snprintf(buf, len, "%s", p->value);
	}
	return -ENOENT;
}

static int config_of(enum pv_noxs_type type, struct pair *pairs, struct json_object **config, char *why, size_t len)
{
	const struct store_reader r = { .read = read_pair, .arg = pairs };

	*config = json_object_new_object();
	return claim_config(type, &r, *config, why, len);
}

static const char *text(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(o, key, &v);
	return v ? json_object_get_string(v) : "(none)";
}

static void config_of_a_disk(void **state)
{
	struct pair xl[] = { { "params", "/srv/web.img" }, { "mode", "r" }, { "discard-enable", "0" }, { "device-type", "disk" },
			     { "bootable", "1" }, { "dev", "xvdb" }, { "type", "phy" }, { NULL, NULL } };
	struct json_object *config;
	char why[100];

	(void)state;
	assert_int_equal(config_of(PV_NOXS_VBD, xl, &config, why, sizeof(why)), 0);
	assert_string_equal(text(config, "path"), "/srv/web.img");
	assert_string_equal(text(config, "mode"), "r");
	assert_string_equal(text(config, "discard"), "0");
	assert_int_equal(json_object_object_length(config), 3);
	json_object_put(config);
}

static void config_of_a_cdrom(void **state)
{
	struct pair xl[] = { { "params", "/srv/web.iso" }, { "mode", "r" }, { "device-type", "cdrom" }, { "removable", "1" }, { NULL, NULL } };
	struct json_object *config;
	char why[100];

	(void)state;
	assert_int_equal(config_of(PV_NOXS_VBD, xl, &config, why, sizeof(why)), 0);
	assert_string_equal(text(config, "cdrom"), "1");
	assert_string_equal(text(config, "removable"), "1");
	assert_int_equal(json_object_object_length(config), 4);
	json_object_put(config);
}

static void config_of_a_vif(void **state)
{
	struct pair xl[] = { { "mac", "00:16:3e:00:00:02" }, { "bridge", "xenbr0" }, { "mtu", "9000" }, { "handle", "0" }, { "ip", "" }, { NULL, NULL } };
	struct json_object *config;
	char why[100];

	(void)state;
	assert_int_equal(config_of(PV_NOXS_VIF, xl, &config, why, sizeof(why)), 0);
	assert_string_equal(text(config, "mac"), "00:16:3e:00:00:02");
	assert_string_equal(text(config, "bridge"), "xenbr0");
	assert_string_equal(text(config, "mtu"), "9000");
	assert_int_equal(json_object_object_length(config), 3);
	json_object_put(config);
}

static void config_takes_a_rate(void **state)
{
	struct pair xl[] = { { "mac", "00:16:3e:00:00:02" }, { "rate", "62500,50000" }, { NULL, NULL } };
	struct json_object *config;
	char why[100];

	(void)state;
	assert_int_equal(config_of(PV_NOXS_VIF, xl, &config, why, sizeof(why)), 0);
	assert_string_equal(text(config, "rate"), "62500,50000");
	json_object_put(config);
}

static void config_that_cannot_be_read_is_an_error(void **state)
{
	struct pair xl[] = { { "params", NULL }, { NULL, NULL } };
	struct json_object *config;
	char why[100];

	(void)state;
	assert_int_equal(config_of(PV_NOXS_VBD, xl, &config, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "params"));
	json_object_put(config);
}

/* What is not said is the backend's default: an empty value as well as none. */
static void config_without_keys_is_empty(void **state)
{
	struct pair xl[] = { { "bridge", "" }, { NULL, NULL } };
	struct json_object *config;
	char why[100];

	(void)state;
	assert_int_equal(config_of(PV_NOXS_VIF, xl, &config, why, sizeof(why)), 0);
	assert_int_equal(json_object_object_length(config), 0);
	json_object_put(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse_finds_a_device),
		cmocka_unit_test(parse_takes_what_scripts_are_told),
		cmocka_unit_test(parse_refuses_all_else),
		cmocka_unit_test(script_is_ours_by_its_name),
		cmocka_unit_test(config_of_a_disk),
		cmocka_unit_test(config_of_a_cdrom),
		cmocka_unit_test(config_of_a_vif),
		cmocka_unit_test(config_takes_a_rate),
		cmocka_unit_test(config_that_cannot_be_read_is_an_error),
		cmocka_unit_test(config_without_keys_is_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
