/* test_pviod_backend.c - backends that speak for others' devices, never answer, answer nonsense, too late or twice, and flood. */
#include "tests/unit/pviod_rig.h"

static struct answer told;

static void attach(void)
{
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
}

static void tell_broken(struct be *b, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	told = (struct answer){ 0 };
	assert_int_equal(pv_rpc_call(b->rpc, "broken", json_tokener_parse(text), RIG_MS, answered_client, &told), 0);
	WAIT(told.done);
	json_object_put(told.result);
}

static void backend_may_not_speak_for_devices_of_others(void **state)
{
	(void)state;
	attach();
	fe1_open(0);
	WAIT(is(0, "Connected"));
	be_start(&rig->be[1], "vif", "other");
	tell_broken(&rig->be[1], "{\"guest\":%u,\"kind\":\"vif\",\"devid\":0,\"error\":-71,\"why\":\"I say so\"}", rig->domid);
	assert_int_equal(told.code, -EPERM);
	tell_broken(&rig->be[1], "{\"guest\":0,\"kind\":\"vif\",\"devid\":0,\"error\":-71,\"why\":\"no such guest\"}");
	assert_int_equal(told.code, -EPERM);
	tell_broken(&rig->be[1], "{\"guest\":\"web\"}");
	assert_int_equal(told.code, PV_RPC_BAD_PARAMS);
	assert_string_equal(state_of(0), "Connected");
	tell_broken(&rig->be[0], "{\"guest\":%u,\"kind\":\"vif\",\"devid\":0,\"error\":-71,\"why\":\"tx ring index\"}", rig->domid);
	assert_int_equal(told.code, 0);
	WAIT(is(0, "broken"));
	assert_int_equal(rig->be[0].calls[BE_DISCONNECT], 1);
	WAIT(fe1.error == -EPROTO);
	fe1_close();
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
}

static void backend_may_not_take_anothers_name_or_lack_one(void **state)
{
	static const char *const bad[] = {
		"{}", "{\"kind\":\"vif\"}", "{\"kind\":\"vif\",\"name\":\"\"}", "{\"kind\":\"sysctl\",\"name\":\"x\"}",
		"{\"kind\":\"vif\",\"name\":\"a\\nb\"}", "{\"kind\":7,\"name\":7}", "{\"kind\":\"vif\",\"name\":\"x\",\"domid\":40000}",
		"{\"kind\":\"vif\",\"name\":\"x\",\"domid\":-3}", "[]",
	};

	(void)state;
	be_start(&rig->be[1], "vif", "netback");
	assert_int_equal(rig->be[1].refused, -EEXIST);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(refused("register", "%s", bad[i]), PV_RPC_BAD_PARAMS);
	assert_true(rig->be[0].rpc != NULL);
	attach();
}

/* A registered backend is no client: it cannot attach or list. */
static void backend_may_not_do_what_clients_do(void **state)
{
	static const char *const methods[] = { "list", "attach", "guest.destroy", "register", "connect" };

	(void)state;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		told = (struct answer){ 0 };
		pv_rpc_call(rig->be[0].rpc, methods[i], json_tokener_parse("{\"guest\":\"web\",\"kind\":\"vif\",\"name\":\"b\"}"), RIG_MS, answered_client, &told);
		WAIT(told.done);
		assert_int_not_equal(told.code, 0);
	}
	attach();
}

static void backend_that_never_answers_fails_that_request_alone(void **state)
{
	struct be *b = &rig->be[0];

	(void)state;
	rig_mark();
	b->silent = 1 << BE_PREPARE;
	assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}"), -ETIMEDOUT);
	assert_non_null(strstr(refused_why, "netback"));
	rig_check(0);
	be_answer(b, BE_PREPARE, 0, be_offer(b, PV_NOXS_VIF)); /* too late */
	for (int i = 0; i < 10; i++)
		rig_turn();
	assert_string_equal(state_of(0), "");
	rig_check(0);

	b->silent = 1 << BE_CONNECT; /* other devices are served meanwhile */
	attach();
	fe1_open(0);
	WAIT(b->held[BE_CONNECT]);
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"1\"}");
	WAIT(fe1.error == -ETIMEDOUT);
	be_answer(b, BE_CONNECT, 0, NULL);
	b->silent = 0;
	fe1_close();
	WAIT(is(0, "InitWait"));

	b->silent = 1 << BE_DISCONNECT | 1 << BE_REMOVE;
	fe1_open(0);
	WAIT(is(0, "Connected"));
	fe_leave(&fe1);
	WAIT(fe1.state == FE_LEFT); /* the guest is not held up for longer than the limit */
	fe1_close();
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
	good("detach", "{\"guest\":\"web\",\"device\":\"vif1\"}");
	b->silent = 0;
}

/* I/O that outlasts a disconnect: the guest is not told that its pages are free, nor is the device let go of, before it ended. */
static void backend_with_io_in_flight_is_asked_again(void **state)
{
	struct be *b = &rig->be[0];
	struct answer a = { 0 };

	(void)state;
	attach();
	fe1_open(0);
	WAIT(is(0, "Connected"));
	b->fail[BE_DISCONNECT] = -EAGAIN;
	fe_leave(&fe1);
	WAIT(b->calls[BE_DISCONNECT] >= 3);
	assert_true(fe1.state != FE_LEFT);
	b->fail[BE_DISCONNECT] = 0;
	WAIT(fe1.state == FE_LEFT);
	fe1_close();
	WAIT(is(0, "InitWait"));

	b->fail[BE_REMOVE] = -EAGAIN;
	ask_on(&rig->client[0], &a, "detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
	WAIT(b->calls[BE_REMOVE] >= 2);
	assert_false(a.done);
	b->fail[BE_REMOVE] = 0;
	WAIT(a.done);
	assert_int_equal(a.code, 0);
	assert_string_equal(state_of(0), "");
	json_object_put(a.result);
}

/* What one backend says of its devices cannot make the answer about all of them unreadable. */
static void backend_that_answers_too_deep_or_long_is_left_out(void **state)
{
	char *parts[2] = { NULL, NULL };
	static char deep[200], longest[1 << 17];
	struct answer a;

	(void)state;
	for (int i = 0; i < 13; i++)
		strcat(deep, "{\"a\":");
	strcat(deep, "1");
	for (int i = 0; i < 13; i++)
		strcat(deep, "}");
	memset(longest, 'x', sizeof(longest) - 1);
	memcpy(longest, "{\"a\":\"", 6);
	strcpy(longest + sizeof(longest) - 3, "\"}");
	parts[0] = deep;
	parts[1] = longest;
	attach();
	for (int i = 0; i < 2; i++) {
		rig->be[0].stats = parts[i];
		a = (struct answer){ 0 };
		ask_on(&rig->client[0], &a, "stats", "{}");
		WAIT(a.done);
		assert_int_equal(a.code, 0);
		assert_non_null(strstr(json_object_to_json_string(a.result), "\"stats\": null"));
		json_object_put(a.result);
	}
	rig->be[0].stats = NULL;
}

static int up_impatient(void **state)
{
	rig_options.backend_ms = 150;
	rig_up(state);
	rig_options.backend_ms = 0;
	return 0;
}

static void answers_that_make_no_sense_are_refused(void **state)
{
	static const char *const offers[] = {
		"{}", "[]", "7", "\"x\"",
		"{\"queues_max\":0,\"mtu\":1500,\"features\":0,\"carrier\":1,\"mac\":\"00:16:3e:00:00:01\"}",
		"{\"queues_max\":17,\"mtu\":1500,\"features\":0,\"carrier\":1,\"mac\":\"00:16:3e:00:00:01\"}",
		"{\"queues_max\":1,\"mtu\":9,\"features\":0,\"carrier\":1,\"mac\":\"00:16:3e:00:00:01\"}",
		"{\"queues_max\":1,\"mtu\":1500,\"features\":0,\"carrier\":1,\"mac\":\"01:16:3e:00:00:01\"}",
		"{\"queues_max\":1,\"mtu\":1500,\"features\":-1,\"carrier\":1,\"mac\":\"00:16:3e:00:00:01\"}",
	};

	(void)state;
	rig_mark();
	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
		rig->be[0].offer = json_tokener_parse(offers[i]);
		assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}"), -EINVAL);
		assert_non_null(strstr(refused_why, "makes no sense"));
		json_object_put(rig->be[0].offer);
		rig->be[0].offer = NULL;
		rig_check(0);
	}
	attach();
}

/* An answer to a call that was answered, or never made. */
static void answers_to_nothing_are_ignored(void **state)
{
	static const char *const junk[] = { "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n", "{\"jsonrpc\":\"2.0\",\"id\":999999,\"error\":{\"code\":-5,\"message\":\"x\"}}\n" };

	(void)state;
	attach();
	for (int i = 0; i < 50; i++)
		assert_true(write(pv_rpc_fd(rig->be[0].rpc), junk[i & 1], strlen(junk[i & 1])) > 0);
	fe1_open(0);
	WAIT(is(0, "Connected"));
	fe1_close();
}

/* Its calls have a budget; a backend that exceeds it is cut off, and its devices are lost, not pviod. */
static void flood_of_calls_cuts_the_backend_off(void **state)
{
	struct be *b = &rig->be[0];
	char line[200];
	unsigned sent = 0;
	int n;

	(void)state;
	attach();
	n = snprintf(line, sizeof(line), "{\"jsonrpc\":\"2.0\",\"method\":\"broken\",\"params\":{\"guest\":9,\"kind\":\"vif\",\"devid\":1,\"error\":-5,\"why\":\"x\"}}\n");
	while (b->rpc && sent < 200000) {
		if (send(pv_rpc_fd(b->rpc), line, n, MSG_NOSIGNAL | MSG_DONTWAIT) == n)
			sent++;
		else
			rig_turn();
	}
	WAIT(is(0, "lost"));
	assert_true(sent >= 4096);
	if (b->rpc)
		be_kill(b);
	be_restart(b, "vif", "netback");
	WAIT(is(0, "InitWait"));
}

/* A backend that only lost its connection still serves the old rings: when it cannot adopt them, it is told to let go before it is asked again. */
static void backend_that_reconnects_lets_go_of_the_old_rings(void **state)
{
	struct be *b = &rig->be[0];

	(void)state;
	attach();
	fe1_open(0);
	WAIT(is(0, "Connected"));
	pv_rpc_free(b->rpc);
	b->rpc = NULL; /* its maps and ports stay */
	WAIT(is(0, "lost"));
	b->registered = false;
	b->fail_adopt = -ENOENT;
	be_start(b, "vif", "netback");
	WAIT(b->calls[BE_DISCONNECT] >= 1 && fe1.state == FE_CONNECTED && is(0, "Connected"));
	fe1_close();
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
	assert_int_equal(count(0).maps, 1); /* the store page */
}

/* ... and if it can, it just goes on. */
static void backend_that_reconnects_goes_on(void **state)
{
	struct be *b = &rig->be[0];
	uint32_t generation;

	(void)state;
	attach();
	fe1_open(0);
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	generation = fe1.generation;
	pv_rpc_free(b->rpc);
	b->rpc = NULL;
	WAIT(is(0, "lost"));
	b->registered = false;
	be_start(b, "vif", "netback");
	WAIT(is(0, "Connected"));
	assert_int_equal(b->adopts, 1);
	assert_int_equal(b->calls[BE_DISCONNECT], 0);
	assert_int_equal(fe1.generation, generation);
	fe1_close();
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
	assert_int_equal(count(0).maps, 1);
}

static uint32_t mtu_shown(void)
{
	struct pv_noxs_offer o;

	return pv_noxs_offer_read(fe1.page, PV_NOXS_VIF, &o) < 0 ? 0 : o.vif.mtu;
}

/* A guest that stayed connected sees what was set while no backend was there. */
static void what_was_set_meanwhile_is_shown(void **state)
{
	const struct pv_noxs_offer offer = { .type = PV_NOXS_VIF, .vif = { .mac = { 0, 0x16, 0x3e, 1, 2, 3 }, .queues_max = 4, .mtu = 1300,
					     .features = PV_VIF_SG | PV_VIF_CSUM_IPV4, .carrier = 1 } };
	struct be *b = &rig->be[0];
	uint32_t generation;

	(void)state;
	attach();
	fe1_open(0);
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	generation = fe1.generation;
	pv_rpc_free(b->rpc);
	b->rpc = NULL;
	WAIT(is(0, "lost"));
	good("set", "{\"guest\":\"web\",\"device\":\"vif0\",\"config\":{\"mtu\":\"1300\"}}");
	assert_int_equal(mtu_shown(), 1500);
	b->registered = false;
	b->offer = pv_offer_to_json(&offer, PV_NOXS_VIF);
	be_start(b, "vif", "netback");
	WAIT(mtu_shown() == 1300);
	assert_int_equal(b->adopts, 1);
	assert_int_equal(b->calls[BE_SET], 1);
	assert_int_equal(fe1.generation, generation);
	assert_true(is(0, "Connected"));
	json_object_put(b->offer);
	b->offer = NULL;
	fe1_close();
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
}

static void detach_and_destroy_work_while_no_backend_answers(void **state)
{
	struct be *b = &rig->be[0];

	(void)state;
	for (int i = 0; i < 8; i++)
		good("attach", "{\"guest\":\"web\",\"type\":\"vif\"}");
	b->silent = ~0u >> 1 & ~(1u << BE_METHODS);
	good("guest.destroy", "{\"guest\":\"web\",\"force\":true}");
	assert_int_equal(pv_hub_domain_list(rig->dom0, NULL, 0), 1);
	b->silent = 0;
}

#define with(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)
#define impatient(f) cmocka_unit_test_setup_teardown(f, up_impatient, rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with(backend_may_not_speak_for_devices_of_others),
		with(backend_may_not_take_anothers_name_or_lack_one),
		with(backend_may_not_do_what_clients_do),
		impatient(backend_that_never_answers_fails_that_request_alone),
		with(answers_that_make_no_sense_are_refused),
		with(backend_with_io_in_flight_is_asked_again),
		with(backend_that_answers_too_deep_or_long_is_left_out),
		with(answers_to_nothing_are_ignored),
		with(flood_of_calls_cuts_the_backend_off),
		with(backend_that_reconnects_lets_go_of_the_old_rings),
		with(backend_that_reconnects_goes_on),
		with(what_was_set_meanwhile_is_shown),
		impatient(detach_and_destroy_work_while_no_backend_answers),
	};

	return cmocka_run_group_tests(tests, rig_hub_up, rig_hub_down);
}
