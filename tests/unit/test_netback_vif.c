/* The configuration of a vif. */
#include "netback/netback.h"
#include <setjmp.h>
#include <cmocka.h>

static const struct pv_device_id id = { .guest = 0x1234, .type = PV_NOXS_VIF, .devid = 5 };
static char why[200];

static int parse(const char *json, struct vif_config *c)
{
	struct json_object *o = json_tokener_parse(json);
	int ret;

	why[0] = 0;
	ret = vif_config_parse(&id, o, 4, "xenbr0", c, why, sizeof(why));
	json_object_put(o);
	return ret;
}

static void config_default(void **state)
{
	static const uint8_t mac[6] = { 0x02, 0x70, 0x12, 0x34, 0, 5 };
	struct vif_config c;

	(void)state;
	assert_int_equal(parse("{}", &c), 0);
	assert_memory_equal(c.mac, mac, 6); /* locally administered, stable, of guest and number */
	assert_int_equal(c.mtu, 1500);
	assert_int_equal(c.queues, 4);
	assert_int_equal(c.carrier, 1);
	assert_int_equal(vif_config_parse(&id, NULL, 4, "xenbr0", &c, why, sizeof(why)), 0);
}

static void config_all_keys(void **state)
{
	static const uint8_t mac[6] = { 0, 0x16, 0x3e, 0xaB, 0xcd, 0xef };
	struct vif_config c;

	(void)state;
	assert_int_equal(parse("{\"mac\":\"00:16:3e:aB:cd:ef\",\"mtu\":\"65521\",\"queues\":\"16\",\"carrier\":\"0\",\"bridge\":\"xenbr0\"}", &c), 0);
	assert_memory_equal(c.mac, mac, 6);
	assert_int_equal(c.mtu, 65521);
	assert_int_equal(c.queues, 16);
	assert_int_equal(c.carrier, 0);
}

static void config_refused(void **state)
{
	static const char *const bad[] = {
		"{\"mac\":\"01:16:3e:00:00:00\"}", "{\"mac\":\"00:00:00:00:00:00\"}", "{\"mac\":\"02:00:00:00:00:0\"}", "{\"mac\":\"02:00:00:00:00:0g\"}",
		"{\"mac\":\"02-00-00-00-00-00\"}", "{\"mac\":\"02:00:00:00:00:000\"}", "{\"mac\":\"\"}", "{\"mac\":\" 2:00:00:00:00:00\"}",
		"{\"mtu\":\"67\"}", "{\"mtu\":\"65522\"}", "{\"mtu\":\"-1\"}", "{\"mtu\":\"\"}", "{\"mtu\":\"1500x\"}", "{\"mtu\":\" 1500\"}",
		"{\"mtu\":\"99999999999999999999\"}", "{\"queues\":\"0\"}", "{\"queues\":\"17\"}", "{\"carrier\":\"2\"}", "{\"bridge\":\"other\"}", "{\"color\":\"red\"}",
	};
	struct vif_config c;

	(void)state;
	for (size_t i = 0; i < RTE_DIM(bad); i++) {
		assert_int_equal(parse(bad[i], &c), -EINVAL);
		assert_non_null(strstr(why, "vif 5 of guest 4660")); /* names the device */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(config_default),
		cmocka_unit_test(config_all_keys),
		cmocka_unit_test(config_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
