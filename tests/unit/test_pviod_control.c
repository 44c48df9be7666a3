/* test_pviod_control.c - the methods that pvio and toolstacks call: parameters, names, limits, idempotency, waiting. */
#include "tests/unit/pviod_rig.h"

static void methods_refuse_wrong_parameters(void **state)
{
	static const struct { const char *method, *params; int code; const char *why; } bad[] = {
		{ "guest.create", "{}", PV_RPC_BAD_PARAMS, "name" },
		{ "guest.create", "{\"name\":7}", PV_RPC_BAD_PARAMS, "string" },
		{ "guest.create", "{\"name\":\"17\"}", PV_RPC_BAD_PARAMS, "not a number" },
		{ "guest.create", "{\"name\":\"\"}", PV_RPC_BAD_PARAMS, "name" },
		{ "guest.create", "{\"name\":\"a b\"}", PV_RPC_BAD_PARAMS, "letters" },
		{ "guest.create", "{\"name\":\"../x\"}", PV_RPC_BAD_PARAMS, "letters" },
		{ "guest.create", "{\"name\":\"db\",\"domid\":-1}", PV_RPC_BAD_PARAMS, "domid" },
		{ "guest.create", "{\"name\":\"db\",\"domid\":70000}", PV_RPC_BAD_PARAMS, "domid" },
		{ "guest.create", "{\"name\":\"web\"}", -EEXIST, "exists" },
		{ "guest.create", "{\"name\":\"db\",\"type\":\"pv\",\"kernel\":\"/boot/vmlinuz\"}", -ENOTSUP, "runs no kernels" },
		{ "guest.start", "{\"guest\":\"web\"}", -ENOTSUP, "has no CPUs" },
		{ "guest.pause", "{\"guest\":\"nobody\"}", -ENOENT, "nobody" },
		{ "guest.shutdown", "{\"guest\":\"web\",\"reboot\":1}", PV_RPC_BAD_PARAMS, "reboot" },
		{ "guest.shutdown", "{\"guest\":\"web\"}", -ENOTSUP, "has no CPUs" },
		{ "guest.destroy", "{\"guest\":\"4711\",\"force\":true}", -ENOENT, "4711" },
		{ "guest.destroy", "{}", PV_RPC_BAD_PARAMS, "guest" },
		{ "guest.destroy", "{\"guest\":\"nobody\"}", -ENOENT, "nobody" },
		{ "guest.destroy", "{\"guest\":\"web\",\"force\":1}", PV_RPC_BAD_PARAMS, "force" },
		{ "attach", "{}", PV_RPC_BAD_PARAMS, "guest" },
		{ "attach", "{\"guest\":\"nobody\",\"type\":\"vif\"}", -ENOENT, "nobody" },
		{ "attach", "{\"guest\":\"web\"}", PV_RPC_BAD_PARAMS, "type" },
		{ "attach", "{\"guest\":\"web\",\"type\":\"floppy\"}", PV_RPC_BAD_PARAMS, "floppy" },
		{ "attach", "{\"guest\":\"web\",\"type\":\"vf\"}", -ENODEV, "start pvio-pciback" },
		{ "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"eth0\"}", PV_RPC_BAD_PARAMS, "eth0" },
		{ "attach", "{\"guest\":\"web\",\"type\":\"vbd\",\"name\":\"xvd\"}", PV_RPC_BAD_PARAMS, "xvd" },
		{ "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"config\":[]}", PV_RPC_BAD_PARAMS, "config" },
		{ "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"config\":{\"mac\":1}}", PV_RPC_BAD_PARAMS, "mac" },
		{ "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"wait_ms\":1e9}", PV_RPC_BAD_PARAMS, "wait_ms" },
		{ "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"backend\":\"other\"}", -ENODEV, "other" },
		{ "attach", "{\"guest\":\"web\",\"type\":\"vbd\"}", -ENODEV, "pvio-blkback" },
		{ "detach", "{\"guest\":\"web\"}", PV_RPC_BAD_PARAMS, "device" },
		{ "detach", "{\"guest\":\"web\",\"device\":\"vif0\"}", -ENOENT, "vif0" },
		{ "list", "{\"guest\":\"nobody\"}", -ENOENT, "nobody" },
		{ "list", "{\"device\":\"vif0\"}", PV_RPC_BAD_PARAMS, "guest" },
		{ "stats", "{\"guest\":\"web\",\"device\":\"vif9\"}", -ENOENT, "vif9" },
		{ "ask", "{\"guest\":\"web\"}", PV_RPC_BAD_PARAMS, "device" },
		{ "ask", "{\"guest\":\"web\",\"device\":\"vif9\",\"what\":\"x\"}", -ENOENT, "vif9" },
		{ "reboot", "{}", PV_RPC_NO_METHOD, "reboot" },
		{ "list", "[]", PV_RPC_BAD_PARAMS, "object" },
	};

	(void)state;
	rig_mark();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int code = refused(bad[i].method, "%s", bad[i].params);

		if (code != bad[i].code || !strstr(refused_why, bad[i].why))
			fail_msg("%s %s: %d, '%s'", bad[i].method, bad[i].params, code, refused_why);
	}
	rig_check(0);
}

static void attach_is_idempotent_for_the_same_configuration(void **state)
{
	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\",\"config\":{\"mac\":\"00:16:3e:00:00:07\"}}");
	rig_mark();
	good("attach", "{\"guest\":\"%u\",\"type\":\"vif\",\"name\":\"0\",\"config\":{\"mac\":\"00:16:3e:00:00:07\"}}", rig->domid);
	assert_int_equal(rig->be[0].calls[BE_PREPARE], 1);
	assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}"), -EEXIST);
	rig_check(0);
}

static void attach_twice_at_once_makes_one_device(void **state)
{
	struct answer a, b;

	(void)state;
	rig->be[0].silent = 1 << BE_PREPARE;
	ask(&a, "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
	WAIT(rig->be[0].held[BE_PREPARE]);
	ask(&b, "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
	be_answer(&rig->be[0], BE_PREPARE, 0, be_offer(&rig->be[0], PV_NOXS_VIF));
	WAIT(a.done && b.done);
	assert_int_equal(a.code, 0);
	assert_int_equal(b.code, 0);
	assert_int_equal(rig->be[0].calls[BE_PREPARE], 1);
	json_object_put(a.result);
	json_object_put(b.result);
}

static void attach_takes_the_first_free_name(void **state)
{
	static const char *const want[] = { "0", "1", "3", "4" };
	struct json_object *dev;

	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"2\"}");
	for (int i = 0; i < 4; i++) {
		dev = get("attach", "{\"guest\":\"web\",\"type\":\"vif\"}");
		assert_string_equal(text_in(dev, "name"), want[i]);
		json_object_put(dev);
	}
	be_start(&rig->be[1], "vbd", "blkback");
	for (int i = 0; i < 18; i++) {
		char name[8];

		dev = get("attach", "{\"guest\":\"web\",\"type\":\"vbd\",\"config\":{\"path\":\"/x\"}}");
		snprintf(name, sizeof(name), "xvd%c", 'a' + i);
		assert_string_equal(text_in(dev, "name"), name);
		json_object_put(dev);
	}
	good("detach", "{\"guest\":\"web\",\"device\":\"xvdc\"}");
	dev = get("attach", "{\"guest\":\"web\",\"type\":\"vbd\"}");
	assert_string_equal(text_in(dev, "name"), "xvdc");
	json_object_put(dev);
}

static void device_is_named_in_several_ways(void **state)
{
	static const char *const names[] = { "0", "vif0", "vif/0" };

	(void)state;
	for (int i = 0; i < 3; i++) {
		good("attach", "{\"guest\":\"web\",\"type\":\"vif\"}");
		good("detach", "{\"guest\":\"web\",\"device\":\"%s\"}", names[i]);
		assert_string_equal(state_of(0), "");
	}
}

static void mac_is_given_once_and_stays(void **state)
{
	char mac[32];
	struct json_object *dev, *config = NULL;

	(void)state;
	for (int i = 0; i < 2; i++) {
		dev = get("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
		json_object_object_get_ex(dev, "config", &config);
		assert_int_equal(strncmp(text_in(config, "mac"), "00:16:3e:", 9), 0);
		if (i == 0)
			snprintf(mac, sizeof(mac), "%s", text_in(config, "mac"));
		assert_string_equal(text_in(config, "mac"), mac);
		json_object_put(dev);
		good("detach", "{\"guest\":\"web\",\"device\":\"0\"}");
	}
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"1\"}");
	dev = listed(0);
	json_object_object_get_ex(dev, "config", &config);
	assert_string_not_equal(text_in(config, "mac"), mac);
	json_object_put(dev);
}

static void devices_of_a_guest_are_limited(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		good("attach", "{\"guest\":\"web\",\"type\":\"vif\"}");
	assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vif\"}"), -ENOSPC);
	assert_non_null(strstr(refused_why, "limit"));
	good("detach", "{\"guest\":\"web\",\"device\":\"vif1\"}");
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\"}");
}

static int up_limited(void **state)
{
	rig_options.devices_max = 3;
	rig_up(state);
	rig_options.devices_max = 0;
	return 0;
}

/* More devices than a page has slots: the second page is linked, and a frontend finds its device there. */
static void second_device_page_is_linked(void **state)
{
	struct json_object *o, *devices, *next;
	int n;

	(void)state;
	for (int i = 0; i < PV_NOXS_ENTRIES + 4; i++)
		good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"%d\"}", i);
	fe1_open(PV_NOXS_ENTRIES + 3);
	WAIT(fe1.state == FE_CONNECTED);
	fe1_close();
	o = get("list", "{}"); /* longer than one answer may be */
	json_object_object_get_ex(o, "devices", &devices);
	n = json_object_array_length(devices);
	assert_true(n < PV_NOXS_ENTRIES + 4);
	json_object_object_get_ex(o, "next", &next);
	json_object_put(get("stats", "{\"guest\":\"web\"}"));
	{
		struct json_object *rest = get("list", "{\"after\":%lld}", (long long)json_object_get_int64(next));

		json_object_object_get_ex(rest, "devices", &devices);
		assert_int_equal(n + json_object_array_length(devices), PV_NOXS_ENTRIES + 4);
		assert_true(json_object_object_get_ex(rest, "next", &next) && next == NULL);
		json_object_put(rest);
	}
	json_object_put(o);
	good("guest.destroy", "{\"guest\":\"web\"}");
}

static void guest_destroy_waits_for_the_guest_or_does_not(void **state)
{
	struct answer a;

	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\"}");
	fe1_open(0);
	WAIT(is(0, "Connected"));
	rig->also = NULL;
	assert_int_equal(refused("guest.destroy", "{\"guest\":\"web\",\"timeout_ms\":30}"), -ETIMEDOUT);
	ask(&a, "guest.destroy", "{\"guest\":\"web\",\"timeout_ms\":%d}", RIG_MS);
	for (int i = 0; i < 5; i++)
		rig_turn();
	assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vif\"}"), -EBUSY);
	good("guest.destroy", "{\"guest\":\"web\",\"force\":true}");
	WAIT(a.done);
	assert_int_equal(a.code, 0);
	json_object_put(a.result);
	fe1_close();
	assert_int_equal(pv_hub_domain_list(rig->dom0, NULL, 0), 1);
}

static void guests_have_the_domid_that_was_asked_for(void **state)
{
	struct json_object *g = get("guest.create", "{\"name\":\"db\",\"domid\":77}");

	(void)state;
	assert_int_equal(number_in(g, "domid"), 77);
	json_object_put(g);
	assert_int_equal(refused("guest.create", "{\"name\":\"dc\",\"domid\":77}"), -EEXIST);
	good("attach", "{\"guest\":\"77\",\"type\":\"vif\"}");
	good("guest.destroy", "{\"guest\":\"77\"}");
}

static void stats_and_inspect_show_what_the_backend_says(void **state)
{
	struct json_object *o, *devices, *dev, *part;

	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\"}");
	o = get("stats", "{\"guest\":\"web\",\"device\":\"vif0\"}");
	json_object_object_get_ex(o, "devices", &devices);
	dev = json_object_array_get_idx(devices, 0);
	assert_true(json_object_object_get_ex(dev, "stats", &part));
	assert_int_equal(number_in(part, "packets"), 7);
	json_object_put(o);
	o = get("inspect", "{}");
	json_object_object_get_ex(o, "devices", &devices);
	assert_true(json_object_object_get_ex(json_object_array_get_idx(devices, 0), "pviod", &part));
	assert_string_equal(text_in(part, "state"), "offered");
	json_object_put(o);
}

static void stats_without_a_backend_are_null(void **state)
{
	struct json_object *o, *devices, *part = NULL;

	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\"}");
	be_kill(&rig->be[0]);
	WAIT(is(0, "lost"));
	o = get("stats", "{}");
	json_object_object_get_ex(o, "devices", &devices);
	assert_true(json_object_object_get_ex(json_object_array_get_idx(devices, 0), "stats", &part) && part == NULL);
	json_object_put(o);
}

static void ask_is_passed_to_the_backend_and_back(void **state)
{
	struct json_object *o, *asked;
	struct answer a;

	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"3\"}");
	o = get("ask", "{\"guest\":\"web\",\"device\":\"vif3\",\"what\":\"rules.show\",\"params\":{\"all\":true},\"devid\":9}");
	assert_true(json_object_object_get_ex(o, "asked", &asked));
	assert_string_equal(text_in(asked, "what"), "rules.show");
	assert_int_equal(number_in(asked, "devid"), 3); /* whatever the client adds */
	assert_int_equal(number_in(asked, "guest"), rig->domid);
	assert_string_equal(json_object_to_json_string_ext(json_object_object_get(asked, "params"), JSON_C_TO_STRING_PLAIN), "{\"all\":true}");
	json_object_put(o);
	assert_int_equal(refused("ask", "{\"guest\":\"web\",\"device\":\"vif3\"}"), PV_RPC_BAD_PARAMS);
	assert_int_equal(refused("ask", "{\"guest\":\"web\",\"device\":\"vif3\",\"what\":\"%065d\"}", 0), PV_RPC_BAD_PARAMS);
	rig->be[0].fail[BE_ASK] = -ENOTSUP;
	assert_int_equal(refused("ask", "{\"guest\":\"web\",\"device\":\"vif3\",\"what\":\"dance\"}"), -ENOTSUP);
	assert_string_equal(refused_why, "the fake backend refuses to ask");
	rig->be[0].fail[BE_ASK] = 0;
	rig->be[0].die = 1 << BE_ASK;
	assert_int_equal(refused("ask", "{\"guest\":\"web\",\"device\":\"vif3\",\"what\":\"dance\"}"), -EOWNERDEAD);
	rig->be[0].die = 0;
	WAIT(is(0, "lost"));
	assert_int_equal(refused("ask", "{\"guest\":\"web\",\"device\":\"vif3\",\"what\":\"dance\"}"), -EOWNERDEAD);
	be_restart(&rig->be[0], "vif", "netback");
	WAIT(is(0, "InitWait"));
	rig->be[0].silent = 1 << BE_ASK;
	client_open(&rig->client[1]);
	ask_on(&rig->client[1], &a, "ask", "{\"guest\":\"web\",\"device\":\"vif3\",\"what\":\"dance\"}");
	WAIT(rig->be[0].held[BE_ASK]);
	pv_rpc_free(rig->client[1].rpc); /* who asked is gone ... */
	rig->client[1].rpc = NULL;
	good("detach", "{\"guest\":\"web\",\"device\":\"vif3\"}"); /* ... and the device as well */
	be_answer(&rig->be[0], BE_ASK, 0, NULL);
	rig->be[0].silent = 0;
	good("list", "{}");
}

static const char *vif3_config(void)
{
	static char text[500];
	struct json_object *o = get("list", "{\"guest\":\"web\",\"device\":\"vif3\"}"), *v;

	v = json_object_array_get_idx(json_object_object_get(o, "devices"), 0);
	snprintf(text, sizeof(text), "%s", json_object_to_json_string_ext(json_object_object_get(v, "config"), JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
	return text;
}

/* All keys or none: what the backend takes is kept, and what it refuses is not. */
static void set_changes_what_the_backend_takes(void **state)
{
	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"3\",\"config\":{\"mac\":\"00:16:3e:00:00:01\",\"mtu\":\"1400\"}}");
	good("set", "{\"guest\":\"web\",\"device\":\"vif3\",\"config\":{\"mtu\":null,\"carrier\":\"0\"}}");
	assert_string_equal(rig->be[0].config, "{\"mac\":\"00:16:3e:00:00:01\",\"carrier\":\"0\"}"); /* all that there is */
	assert_string_equal(vif3_config(), rig->be[0].config);
	rig->be[0].fail[BE_SET] = -EBUSY;
	assert_int_equal(refused("set", "{\"guest\":\"web\",\"device\":\"vif3\",\"config\":{\"queues\":\"1\"}}"), -EBUSY);
	assert_string_equal(refused_why, "the fake backend refuses to set");
	assert_string_equal(vif3_config(), "{\"mac\":\"00:16:3e:00:00:01\",\"carrier\":\"0\"}");
	rig->be[0].fail[BE_SET] = 0;
	rig->be[0].offer = json_object_new_object(); /* one that makes no sense */
	assert_int_equal(refused("set", "{\"guest\":\"web\",\"device\":\"vif3\",\"config\":{\"queues\":\"1\"}}"), -EINVAL);
	json_object_put(rig->be[0].offer);
	rig->be[0].offer = NULL;
	assert_string_equal(vif3_config(), "{\"mac\":\"00:16:3e:00:00:01\",\"carrier\":\"0\"}");
	assert_int_equal(refused("set", "{\"guest\":\"web\",\"device\":\"vif3\",\"config\":{\"mtu\":7}}"), PV_RPC_BAD_PARAMS);
	assert_int_equal(refused("set", "{\"guest\":\"web\",\"device\":\"vif3\",\"config\":\"mtu\"}"), PV_RPC_BAD_PARAMS);
	assert_int_equal(refused("set", "{\"guest\":\"web\",\"device\":\"vif9\",\"config\":{}}"), -ENOENT);
}

/* The guest is told which of the two to use, and pviod waits until it says that it does. */
static void pair_is_told_and_waited_for(void **state)
{
	struct pv_noxs_offer offer;
	struct answer a;

	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"3\",\"config\":{}}");
	assert_int_equal(refused("pair.wait", "{\"guest\":\"web\",\"device\":\"vif3\"}"), -EINVAL);
	good("set", "{\"guest\":\"web\",\"device\":\"vif3\",\"config\":{\"pair\":\"0000:01:10.0\"}}");
	good("pair.wait", "{\"guest\":\"web\",\"device\":\"vif3\"}"); /* nobody uses either */
	fe1_open(3);
	WAIT(is(0, "Connected"));
	assert_int_equal(pv_noxs_offer_read(fe1.page, PV_NOXS_VIF, &offer), 0);
	assert_int_equal(offer.vif.pair, PV_VIF_USE_VF);
	assert_int_equal(refused("pair.wait", "{\"guest\":\"web\",\"device\":\"vif3\",\"timeout_ms\":1}"), -ETIMEDOUT);
	good("set", "{\"guest\":\"web\",\"device\":\"vif3\",\"config\":{\"use\":\"vif\"}}");
	assert_int_equal(pv_noxs_offer_read(fe1.page, PV_NOXS_VIF, &offer), 0);
	assert_int_equal(offer.vif.pair, PV_VIF_USE_VIF);
	ask(&a, "pair.wait", "{\"guest\":\"web\",\"device\":\"vif3\",\"timeout_ms\":%d}", RIG_MS);
	for (uint32_t says = 3; says != PV_VIF_ALONE; says--) { /* nonsense, the VF, the vif */
		assert_false(a.done);
		pv_noxs_choice_pair(fe1.page, says);
		fe_tell(&fe1);
		for (int i = 0; i < 20 && says != PV_VIF_USE_VIF; i++)
			rig_turn();
	}
	WAIT(a.done);
	assert_int_equal(a.code, 0);
	json_object_put(a.result);
	good("set", "{\"guest\":\"web\",\"device\":\"vif3\",\"config\":{\"pair\":null}}");
	assert_int_equal(pv_noxs_offer_read(fe1.page, PV_NOXS_VIF, &offer), 0);
	assert_int_equal(offer.vif.pair, PV_VIF_ALONE);
	fe1_close();
}

/* Two at once; one that is not answered; one that outlives its device; one without a backend, which gets it when it is back. */
static void set_and_the_life_of_a_device(void **state)
{
	struct answer a;

	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"3\",\"config\":{\"mac\":\"00:16:3e:00:00:01\"}}");
	rig->be[0].silent = 1 << BE_SET;
	ask(&a, "set", "{\"guest\":\"web\",\"device\":\"vif3\",\"config\":{\"mtu\":\"1400\"}}");
	WAIT(rig->be[0].held[BE_SET]);
	assert_int_equal(refused("set", "{\"guest\":\"web\",\"device\":\"vif3\",\"config\":{}}"), -EBUSY);
	good("detach", "{\"guest\":\"web\",\"device\":\"vif3\"}");
	be_answer(&rig->be[0], BE_SET, -EBUSY, NULL);
	WAIT(a.done);
	assert_int_equal(a.code, -ENODEV);
	rig->be[0].silent = 0;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"3\",\"config\":{\"mac\":\"00:16:3e:00:00:01\"}}");
	be_kill(&rig->be[0]);
	WAIT(is(0, "lost"));
	good("set", "{\"guest\":\"web\",\"device\":\"vif3\",\"config\":{\"mtu\":\"1300\"}}");
	be_restart(&rig->be[0], "vif", "netback");
	WAIT(is(0, "InitWait"));
	assert_string_equal(rig->be[0].config, "{\"mac\":\"00:16:3e:00:00:01\",\"mtu\":\"1300\"}");
}

/* A file of rules is large, and has a bound of its own; lists do not repeat it. */
static void set_takes_a_file_of_rules(void **state)
{
	enum { MOST = 512 << 10 };
	struct json_object *params = json_tokener_parse("{\"guest\":\"web\",\"device\":\"vif3\",\"config\":{}}"), *config;
	char *text = malloc(MOST + 2);
	struct answer a;

	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"3\",\"config\":{\"mac\":\"00:16:3e:00:00:01\"}}");
	memset(text, '#', MOST + 2);
	config = json_object_object_get(params, "config");
	for (int more = 0; more < 2; more++) {
		json_object_object_add(config, "rules", json_object_new_string_len(text, MOST + more));
		a = (struct answer){ 0 };
		assert_int_equal(pv_rpc_call(rig->client[0].rpc, "set", json_object_get(params), RIG_MS, answered_client, &a), 0);
		WAIT(a.done);
		assert_int_equal(a.code, more ? PV_RPC_BAD_PARAMS : 0);
		json_object_put(a.result);
	}
	assert_non_null(strstr(vif3_config(), "\"rules\":\"(524288 bytes)\""));
	json_object_object_del(config, "rules");
	json_object_object_add(config, "other", json_object_new_string_len(text, 4097));
	a = (struct answer){ 0 };
	assert_int_equal(pv_rpc_call(rig->client[0].rpc, "set", params, RIG_MS, answered_client, &a), 0);
	WAIT(a.done);
	assert_int_equal(a.code, PV_RPC_BAD_PARAMS);
	free(text);
}

/* Whoever asked and went away is not missed. */
static void client_that_leaves_while_it_waits_is_forgotten(void **state)
{
	struct answer a;

	(void)state;
	client_open(&rig->client[1]);
	rig->be[0].silent = 1 << BE_PREPARE | 1 << BE_STATS;
	ask_on(&rig->client[1], &a, "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
	WAIT(rig->be[0].held[BE_PREPARE]);
	pv_rpc_free(rig->client[1].rpc);
	rig->client[1].rpc = NULL;
	for (int i = 0; i < 5; i++)
		rig_turn();
	be_answer(&rig->be[0], BE_PREPARE, 0, be_offer(&rig->be[0], PV_NOXS_VIF));
	WAIT(is(0, "InitWait"));
	client_open(&rig->client[1]);
	ask_on(&rig->client[1], &a, "stats", "{}");
	WAIT(rig->be[0].held[BE_STATS]);
	pv_rpc_free(rig->client[1].rpc);
	rig->client[1].rpc = NULL;
	for (int i = 0; i < 5; i++)
		rig_turn();
	be_answer(&rig->be[0], BE_STATS, 0, NULL);
	rig->be[0].silent = 0;
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
}

static void list_reports_all_that_scripts_rely_on(void **state)
{
	static const char *const keys[] = { "guest", "domid", "type", "name", "devid", "state", "state_number", "backend", "config",
					    "queues", "features", "offer", "error", "offer_us", "connect_us" };
	struct json_object *dev, *v;

	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\"}");
	fe1_open(0);
	WAIT(is(0, "Connected"));
	dev = listed(0);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!json_object_object_get_ex(dev, keys[i], &v))
			fail_msg("list does not show %s", keys[i]);
	json_object_object_get_ex(dev, "features", &v);
	assert_int_equal(json_object_array_length(v), 1);
	assert_string_equal(json_object_get_string(json_object_array_get_idx(v, 0)), "sg");
	assert_int_equal(number_in(dev, "state_number"), XenbusStateConnected);
	json_object_put(dev);
	fe1_close();
}

#define with(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with(methods_refuse_wrong_parameters),
		with(attach_is_idempotent_for_the_same_configuration),
		with(attach_twice_at_once_makes_one_device),
		with(attach_takes_the_first_free_name),
		with(device_is_named_in_several_ways),
		with(mac_is_given_once_and_stays),
		cmocka_unit_test_setup_teardown(devices_of_a_guest_are_limited, up_limited, rig_down),
		with(second_device_page_is_linked),
		with(guest_destroy_waits_for_the_guest_or_does_not),
		with(guests_have_the_domid_that_was_asked_for),
		with(stats_and_inspect_show_what_the_backend_says),
		with(stats_without_a_backend_are_null),
		with(ask_is_passed_to_the_backend_and_back),
		with(set_changes_what_the_backend_takes),
		with(pair_is_told_and_waited_for),
		with(set_and_the_life_of_a_device),
		with(set_takes_a_file_of_rules),
		with(client_that_leaves_while_it_waits_is_forgotten),
		with(list_reports_all_that_scripts_rely_on),
	};

	return cmocka_run_group_tests(tests, rig_hub_up, rig_hub_down);
}
