/* The keys of a vbd: values, bounds, and what is said about wrong ones. */
#include "blkback/blkback.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Parse "{...}". Returns what vbd_config_parse did; c is to be freed. */
static int parse(const char *json, struct vbd_config *c, char why[200])
{
	struct json_object *o = json_tokener_parse(json);
	int ret;

	assert_non_null(o);
	why[0] = 0;
	ret = vbd_config_parse(o, c, why, 200);
	json_object_put(o);
	return ret;
}

static void refused(const char *json, const char *word)
{
	struct vbd_config c;
	char why[200];

	assert_int_equal(parse(json, &c, why), -EINVAL);
	if (!strstr(why, word))
		fail_msg("'%s' does not say '%s'", why, word);
	vbd_config_free(&c);
}

static void vbd_config_parse_path_alone_gives_the_presets(void **state)
{
	struct vbd_config c;
	char why[200];

	(void)state;
	assert_int_equal(parse("{\"path\":\"/x\"}", &c, why), 0);
	assert_string_equal(c.path, "/x");
	assert_false(c.read_only);
	assert_true(c.persistent && c.discard);
	assert_int_equal(c.direct, IMAGE_DIRECT_AUTO);
	assert_int_equal(c.queues, 4);
	assert_int_equal(c.indirect, 256);
	assert_int_equal(c.cache, 1056);
	assert_int_equal(c.sector, 512);
	assert_false(c.cdrom || c.removable);
	vbd_config_free(&c);
}

static void vbd_config_parse_every_key_is_taken(void **state)
{
	struct vbd_config c;
	char why[200];

	(void)state;
	assert_int_equal(parse("{\"path\":\"/y\",\"mode\":\"r\",\"direct\":\"off\",\"queues\":\"16\",\"indirect\":\"512\",\"persistent\":\"0\","
			       "\"cache\":\"4096\",\"discard\":\"0\",\"sector\":\"4096\",\"removable\":\"1\"}", &c, why), 0);
	assert_true(c.read_only);
	assert_false(c.persistent || c.discard);
	assert_int_equal(c.direct, IMAGE_DIRECT_OFF);
	assert_int_equal(c.queues, 16);
	assert_int_equal(c.indirect, 512);
	assert_int_equal(c.cache, 4096);
	assert_int_equal(c.sector, 4096);
	assert_true(c.removable && !c.cdrom);
	vbd_config_free(&c);
}

static void vbd_config_parse_unknown_key_is_refused_with_the_known_ones(void **state)
{
	static const char *const known[] = { "bogus=", "path=", "mode=", "direct=", "queues=", "indirect=", "persistent=", "cache=", "discard=", "sector=",
						"cdrom=", "removable=", "wait=" };

	(void)state;
	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		refused("{\"path\":\"/x\",\"bogus\":\"1\"}", known[i]);
}

static void vbd_config_parse_wrong_values_are_refused(void **state)
{
	static const char *const wrong[][2] = {
		{ "{}", "path=" },
		{ "{\"path\":\"\"}", "path" },
		{ "{\"path\":\"/x\",\"mode\":\"rw\"}", "r|w" },
		{ "{\"path\":\"/x\",\"direct\":\"1\"}", "auto|on|off" },
		{ "{\"path\":\"/x\",\"queues\":\"0\"}", "1..16" },
		{ "{\"path\":\"/x\",\"queues\":\"17\"}", "1..16" },
		{ "{\"path\":\"/x\",\"queues\":\"-1\"}", "1..16" },
		{ "{\"path\":\"/x\",\"queues\":\"4x\"}", "1..16" },
		{ "{\"path\":\"/x\",\"queues\":\"\"}", "1..16" },
		{ "{\"path\":\"/x\",\"queues\":\"4294967297\"}", "1..16" },
		{ "{\"path\":\"/x\",\"queues\":\"99999999999999999999\"}", "1..16" },
		{ "{\"path\":\"/x\",\"indirect\":\"513\"}", "0..512" },
		{ "{\"path\":\"/x\",\"persistent\":\"yes\"}", "1|0" },
		{ "{\"path\":\"/x\",\"cache\":\"10\"}", "11..65536" },
		{ "{\"path\":\"/x\",\"wait\":\"-1\"}", "0..3600" },
		{ "{\"path\":\"/x\",\"cache\":\"100\"}", "too small for indirect=256" },
		{ "{\"path\":\"/x\",\"discard\":null}", "1|0" },
		{ "{\"path\":\"/x\",\"sector\":\"1024\"}", "512|4096" },
		{ "{\"path\":\"/x\",\"sector\":\"\"}", "512|4096" },
		{ "{\"path\":\"/x\",\"cdrom\":\"yes\"}", "0|1" },
		{ "[]", "key=value" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		refused(wrong[i][0], wrong[i][1]);
}

static void vbd_config_parse_cdrom_is_read_only(void **state)
{
	struct vbd_config c;
	char why[200];

	(void)state;
	assert_int_equal(parse("{\"path\":\"/x\",\"mode\":\"w\",\"cdrom\":\"1\"}", &c, why), 0);
	assert_true(c.cdrom && c.read_only);
	vbd_config_free(&c);
}

static void vbd_config_equal_sees_each_key(void **state)
{
	static const char *const others[] = {
		"{\"path\":\"/z\"}", "{\"path\":\"/x\",\"mode\":\"r\"}", "{\"path\":\"/x\",\"direct\":\"on\"}", "{\"path\":\"/x\",\"queues\":\"1\"}",
		"{\"path\":\"/x\",\"indirect\":\"0\"}", "{\"path\":\"/x\",\"persistent\":\"0\"}", "{\"path\":\"/x\",\"cache\":\"300\"}",
		"{\"path\":\"/x\",\"discard\":\"0\"}", "{\"path\":\"/x\",\"sector\":\"4096\"}", "{\"path\":\"/x\",\"cdrom\":\"1\"}",
		"{\"path\":\"/x\",\"removable\":\"1\"}",
	};
	struct vbd_config a, b;
	char why[200];

	(void)state;
	assert_int_equal(parse("{\"path\":\"/x\"}", &a, why), 0);
	assert_int_equal(parse("{\"path\":\"/x\",\"queues\":\"4\"}", &b, why), 0);
	assert_true(vbd_config_equal(&a, &b));
	vbd_config_free(&b);
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_int_equal(parse(others[i], &b, why), 0);
		assert_false(vbd_config_equal(&a, &b));
		vbd_config_free(&b);
	}
	vbd_config_free(&a);
}

static void vbd_config_to_json_is_what_parse_takes(void **state)
{
	struct vbd_config a, b;
	struct json_object *o;
	char why[200];

	(void)state;
	assert_int_equal(parse("{\"path\":\"/x\",\"mode\":\"r\",\"direct\":\"on\",\"indirect\":\"0\",\"cache\":\"11\"}", &a, why), 0);
	o = vbd_config_to_json(&a);
	assert_int_equal(vbd_config_parse(o, &b, why, sizeof(why)), 0);
	assert_true(vbd_config_equal(&a, &b));
	json_object_put(o);
	vbd_config_free(&a);
	vbd_config_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vbd_config_parse_path_alone_gives_the_presets),
		cmocka_unit_test(vbd_config_parse_every_key_is_taken),
		cmocka_unit_test(vbd_config_parse_unknown_key_is_refused_with_the_known_ones),
		cmocka_unit_test(vbd_config_parse_wrong_values_are_refused),
		cmocka_unit_test(vbd_config_parse_cdrom_is_read_only),
		cmocka_unit_test(vbd_config_equal_sees_each_key),
		cmocka_unit_test(vbd_config_to_json_is_what_parse_takes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
