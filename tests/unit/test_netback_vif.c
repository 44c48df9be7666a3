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
	ret = vif_config_parse(&id, o, 4, c, why, sizeof(why));
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
	assert_int_equal(c.mtu, 0); /* the uplink's */
	assert_string_equal(c.bridge, "");
	assert_false(c.vlans.given);
	assert_int_equal(c.queues, 4);
	assert_int_equal(c.carrier, 1);
	assert_int_equal(vif_config_parse(&id, NULL, 4, &c, why, sizeof(why)), 0);
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
	assert_string_equal(c.bridge, "xenbr0");
}

static void config_vlans(void **state)
{
	struct vif_config c;

	(void)state;
	assert_int_equal(parse("{\"vlan\":\"10\"}", &c), 0);
	assert_true(c.vlans.given && vlan_member(&c.vlans, 10) && !vlan_member(&c.vlans, 0) && !vlan_member(&c.vlans, 11));
	assert_int_equal(parse("{\"vlan\":\"0\"}", &c), 0);
	assert_true(c.vlans.given && vlan_member(&c.vlans, 0) && !vlan_member(&c.vlans, 1));
	assert_int_equal(parse("{\"trunk\":\"10,20-30,4094\"}", &c), 0);
	assert_true(vlan_member(&c.vlans, 10) && vlan_member(&c.vlans, 20) && vlan_member(&c.vlans, 30) && vlan_member(&c.vlans, 4094));
	assert_true(!vlan_member(&c.vlans, 0) && !vlan_member(&c.vlans, 19) && !vlan_member(&c.vlans, 31) && !vlan_member(&c.vlans, 4095));
	assert_int_equal(parse("{\"trunk\":\"1-4094\",\"vlan\":\"0\"}", &c), 0);
	assert_true(vlan_member(&c.vlans, 0) && vlan_member(&c.vlans, 1));
	assert_int_equal(parse("{\"trunk\":\"10\",\"vlan\":\"20\"}", &c), 0);
	assert_true(vlan_member(&c.vlans, 10) && vlan_member(&c.vlans, 20) && !vlan_member(&c.vlans, 0));
}

static void config_refused(void **state)
{
	static const char *const bad[] = {
		"{\"mac\":\"01:16:3e:00:00:00\"}", "{\"mac\":\"00:00:00:00:00:00\"}", "{\"mac\":\"02:00:00:00:00:0\"}", "{\"mac\":\"02:00:00:00:00:0g\"}",
		"{\"mac\":\"02-00-00-00-00-00\"}", "{\"mac\":\"02:00:00:00:00:000\"}", "{\"mac\":\"\"}", "{\"mac\":\" 2:00:00:00:00:00\"}",
		"{\"mtu\":\"67\"}", "{\"mtu\":\"65522\"}", "{\"mtu\":\"-1\"}", "{\"mtu\":\"\"}", "{\"mtu\":\"1500x\"}", "{\"mtu\":\" 1500\"}",
		"{\"mtu\":\"99999999999999999999\"}", "{\"queues\":\"0\"}", "{\"queues\":\"17\"}", "{\"carrier\":\"2\"}",
		"{\"bridge\":\"\"}", "{\"bridge\":\"sixteen_bytes_xx\"}", "{\"color\":\"red\"}",
		"{\"vlan\":\"4095\"}", "{\"vlan\":\"\"}", "{\"vlan\":\"-1\"}", "{\"vlan\":\"10,11\"}", "{\"vlan\":\"1x\"}",
		"{\"trunk\":\"\"}", "{\"trunk\":\"0\"}", "{\"trunk\":\"10,\"}", "{\"trunk\":\"10-\"}", "{\"trunk\":\"20-10\"}", "{\"trunk\":\"10,,11\"}", "{\"trunk\":\"1-4095\"}",
		"{\"trunk\":\"10-12\",\"vlan\":\"11\"}",
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
		cmocka_unit_test(config_vlans),
		cmocka_unit_test(config_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
