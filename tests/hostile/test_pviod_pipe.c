/* test_pviod_pipe.c - a hostile driver domain: its pipe's indices, bytes and states, and what it says of itself and of others. */
#include "tests/unit/pviod_rig.h"
#include <pvio/front.h>
#include <pvio/pipe.h>

/* The driver domain `storage`: a frontend of its pipe that does as it pleases. */
static struct {
	uint16_t domid;
	struct front f;
	struct pv_pipe_page *page;
	struct pv_pipe pipe;
	uint32_t gref, port;
	char heard[1 << 16];
	size_t len;
} dd;

/* What device.c calls the pipe's state. Static. */
static const char *pipe_state(void)
{
	static char state[32];
	struct json_object *o = get("list", "{\"guest\":\"storage\"}"), *devices = NULL;

	json_object_object_get_ex(o, "devices", &devices);
	snprintf(state, sizeof(state), "%s", json_object_array_length(devices) ? text_in(json_object_array_get_idx(devices, 0), "state") : "");
	json_object_put(o);
	return state;
}

static bool pipe_is(const char *state)
{
	return strcmp(pipe_state(), state) == 0;
}

static void dd_tell(void)
{
	pv_evt_notify(dd.f.h, dd.port);
}

/* Hear what pviod said, and let it say more. */
static void dd_hear(void)
{
	const uint8_t *at;
	int n;

	while ((n = pv_pipe_peek(&dd.pipe, &at)) > 0 && dd.len + (size_t)n < sizeof(dd.heard)) {
		memcpy(dd.heard + dd.len, at, (size_t)n);
		dd.len += (size_t)n;
		pv_pipe_took(&dd.pipe, (unsigned)n);
	}
	dd.heard[dd.len] = '\0';
	if (pv_pipe_publish(&dd.pipe))
		dd_tell();
}

static void dd_turn(void)
{
	uint32_t ports[8];
	int n = dd.f.h ? front_events(&dd.f, ports, 8) : 0;

	if (n > 0)
		pv_evt_unmask(dd.f.h, ports, (unsigned)n);
}

/* Find the pipe, and choose: page and port as they are in dd. */
static void dd_choose(void)
{
	struct pv_noxs_choice c = { .queues = 1, .pipe = { { .gref = dd.gref, .port = dd.port } } };

	assert_int_equal(front_choose(&dd.f, &c), 0);
	rig->also = dd_turn;
}

static void dd_open(void)
{
	void *page;

	if (front_open(&dd.f, lb_spec, dd.domid, PV_NOXS_PIPE, FRONT_ANY, RIG_MS) < 0)
		fail_msg("%s", dd.f.why);
	assert_int_equal(pv_gnt_share(dd.f.h, 0, 1, true, NULL, &dd.gref, &page), 0);
	dd.page = page;
	dd.port = (uint32_t)pv_evt_alloc(dd.f.h, 0);
	pv_pipe_format(dd.page);
	pv_pipe_init(&dd.pipe, dd.page, false);
	dd.len = 0;
}

static void dd_connect(void)
{
	dd_open();
	dd_choose();
	WAIT(dd.f.state == FRONT_CONNECTED);
}

static void dd_close(void)
{
	rig->also = NULL;
	front_close(&dd.f);
}

static void dd_say_bytes(const char *text, size_t len)
{
	for (size_t done = 0; done < len;) {
		uint8_t *at;
		int room = pv_pipe_space(&dd.pipe, &at);

		if (room < 0)
			fail_msg("pviod's index is out of bounds");
		if ((size_t)room > len - done)
			room = (int)(len - done);
		memcpy(at, text + done, (size_t)room);
		pv_pipe_gave(&dd.pipe, (unsigned)room);
		done += (size_t)room;
		if (pv_pipe_publish(&dd.pipe))
			dd_tell();
		if (!room) {
			if (dd.f.state != FRONT_CONNECTED)
				return; /* cut off */
			pv_pipe_rearm(&dd.pipe, false, true);
			rig_turn();
		}
	}
}

static void __attribute__((format(printf, 1, 2))) dd_say(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dd_say_bytes(text, strlen(text));
}

/* Was `text` heard? Then forget everything up to it. */
static bool heard(const char *text)
{
	const char *at, *rest;

	dd_hear();
	at = strstr(dd.heard, text);
	if (!at)
		return false;
	rest = at + strlen(text);
	dd.len -= (size_t)(rest - dd.heard);
	memmove(dd.heard, rest, dd.len + 1);
	return true;
}

static void dd_register(const char *name)
{
	dd_say("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"register\",\"params\":{\"kind\":\"vif\",\"name\":\"%s\",\"pid\":1,\"version\":\"x\"}}\n", name);
	WAIT(heard("\"result\""));
}

static bool backend_listed(const char *name)
{
	struct json_object *o = get("backend.list", "{}");
	bool is = strstr(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE), name) != NULL;

	json_object_put(o);
	return is;
}

static int up(void **state)
{
	struct json_object *g;

	rig_up(state);
	memset(&dd, 0, sizeof(dd));
	g = get("guest.create", "{\"name\":\"storage\"}");
	dd.domid = (uint16_t)number_in(g, "domid");
	json_object_put(g);
	good("attach", "{\"guest\":\"storage\",\"type\":\"pipe\"}");
	return 0;
}

static int up_impatient(void **state)
{
	rig_options.backend_ms = 200;
	up(state);
	rig_options.backend_ms = 0;
	return 0;
}

static int down(void **state)
{
	dd_close();
	return rig_down(state);
}

/* Nobody but the pipe's owner suffers. */
static void others_are_served(void)
{
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"9\",\"backend\":\"netback\"}");
	good("detach", "{\"guest\":\"web\",\"device\":\"vif9\"}");
}

/* ---- the page ---- */

static void indices_out_of_bounds_break_the_pipe(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		dd_connect();
		dd_register("evil");
		assert_true(backend_listed("\"storage/evil\""));
		switch (i) {
		case 0: dd.page->guest.put += PV_PIPE_UP + 1; break;
		case 1: dd.page->guest.put -= 1; break;
		case 2: dd.page->guest.taken += 1; break;
		case 3: dd.page->guest.taken += 0x80000000; break;
		}
		dd_tell();
		WAIT(pipe_is("broken"));
		assert_false(backend_listed("evil"));
		others_are_served();
		dd_close();
		good("detach", "{\"guest\":\"storage\",\"device\":\"pipe0\"}");
		good("attach", "{\"guest\":\"storage\",\"type\":\"pipe\"}");
	}
}

static void page_and_port_that_are_not_there_connect_nothing(void **state)
{
	(void)state;
	dd_open();
	dd.gref += 1000;
	dd_choose();
	WAIT(dd.f.state == FRONT_REFUSED);
	dd_close();
	WAIT(pipe_is("InitWait"));
	dd_open();
	dd.port += 100;
	dd_choose();
	WAIT(dd.f.state == FRONT_REFUSED);
	dd_close();
	WAIT(pipe_is("InitWait"));
	others_are_served();
	dd_connect();
	dd_register("netback");
}

static void scribbling_all_over_the_page_breaks_the_pipe_at_most(void **state)
{
	unsigned seed = 3;

	(void)state;
	dd_connect();
	dd_register("evil");
	for (int i = 0; i < 3000 && dd.f.state == FRONT_CONNECTED; i++) {
		uint32_t *words = (uint32_t *)dd.page;

		for (int k = 0; k < 50; k++)
			words[rand_r(&seed) % 1024] = i < 500 ? (uint32_t)rand_r(&seed) % 3000 : (uint32_t)rand_r(&seed);
		dd_tell();
		if (i % 100 == 0)
			rig_turn();
	}
	WAIT(pipe_is("broken"));
	others_are_served();
}

/* ---- the states ---- */

static void states_that_toggle_keep_nobody_from_service(void **state)
{
	(void)state;
	dd_connect();
	dd_register("evil");
	for (int i = 0; i < 20000; i++) {
		pv_noxs_frontend_state(dd.f.control, i & 1 ? XenbusStateInitialised : XenbusStateClosing);
		pv_evt_notify(dd.f.h, (uint32_t)dd.f.port);
		dd_tell();
		if (i % 5000 == 0)
			others_are_served();
	}
	dd_close();
	WAIT(pipe_is("InitWait") || pipe_is("broken"));
	assert_false(backend_listed("evil"));
	good("detach", "{\"guest\":\"storage\",\"device\":\"pipe0\"}");
}

/* ---- the bytes ---- */

static void what_is_no_json_breaks_the_pipe(void **state)
{
	static const char *const bad[] = { "hello\n", "\n", "[]\n", "{}\n", "{\"jsonrpc\":\"1.0\"}\n", "{\"jsonrpc\":\"2.0\",\"id\":-1,\"method\":\"x\"}\n",
		"{\"jsonrpc\":\"2.0\",\"method\":\"list\"}\n", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		dd_connect();
		dd_say("%s", bad[i]);
		WAIT(pipe_is("broken"));
		dd_close();
		good("detach", "{\"guest\":\"storage\",\"device\":\"pipe0\"}");
		good("attach", "{\"guest\":\"storage\",\"type\":\"pipe\"}");
	}
	others_are_served();
}

static void endless_line_breaks_the_pipe(void **state)
{
	static char line[PV_RPC_LINE_MAX + 4096];

	(void)state;
	dd_connect();
	memset(line, ' ', sizeof(line));
	dd_say_bytes(line, sizeof(line));
	WAIT(pipe_is("broken"));
	others_are_served();
}

static void half_a_line_waits_and_goes_with_its_pipe(void **state)
{
	(void)state;
	dd_connect();
	dd_say("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"regi");
	others_are_served();
	dd_close();
	WAIT(pipe_is("InitWait"));
	dd_connect(); /* a new conversation: not the rest of that line */
	dd_register("netback");
	assert_true(backend_listed("\"storage/netback\""));
}

/* Registered or not: a flood costs the flooder. */
static void flood_ends_with_the_pipe(void **state)
{
	static const char refused_again[] = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"register\",\"params\":{\"kind\":\"x\"}}\n";

	(void)state;
	dd_connect();
	for (int i = 0; i < 3000; i++) {
		dd_say_bytes(refused_again, strlen(refused_again));
		dd_hear();
		dd.len = 0;
		if (i % 1000 == 0)
			others_are_served();
	}
	dd_register("evil");
	for (int i = 0; i < 20000 && dd.f.state == FRONT_CONNECTED; i++) {
		dd_say_bytes(refused_again, strlen(refused_again));
		dd_hear();
		dd.len = 0;
	}
	WAIT(pipe_is("broken"));
	others_are_served();
}

/* How often the pipe's budget was used up. */
static int throttled(void)
{
	struct json_object *o = get("inspect", "{\"guest\":\"storage\"}"), *devices = NULL, *inside = NULL;
	int n;

	json_object_object_get_ex(o, "devices", &devices);
	json_object_object_get_ex(json_object_array_get_idx(devices, 0), "inspect", &inside);
	n = number_in(inside, "throttled");
	json_object_put(o);
	return n;
}

static void storm_of_events_and_crumbs_buys_a_bounded_share(void **state)
{
	(void)state;
	dd_connect();
	dd_register("evil");
	while (throttled() == 0)
		for (int i = 0; i < 5000; i++) {
			dd_say(" ");
			dd_tell();
		}
	others_are_served();
	assert_true(backend_listed("evil"));
}

/* It asks, and does not take its answers. */
static void answers_that_are_not_read_break_the_pipe(void **state)
{
	static const char *const ask_much = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"register\",\"params\":{\"kind\":\"x\"}}\n";

	(void)state;
	dd_connect();
	for (int i = 0; i < 200000 && dd.f.state == FRONT_CONNECTED; i++)
		dd_say_bytes(ask_much, strlen(ask_much));
	WAIT(pipe_is("broken"));
	others_are_served();
}

static void backend_that_never_reads_fails_its_own_calls(void **state)
{
	(void)state;
	dd_connect();
	dd_register("deaf");
	assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"backend\":\"storage/deaf\"}"), -ETIMEDOUT);
	others_are_served();
}

/* ---- the words ---- */

static void pipe_is_no_way_for_clients(void **state)
{
	static const char *const methods[] = { "list", "attach", "detach", "guest.create", "guest.destroy", "backend.list", "broken", "version" };

	(void)state;
	dd_connect();
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		dd_say("{\"jsonrpc\":\"2.0\",\"id\":%zu,\"method\":\"%s\",\"params\":{\"guest\":\"web\",\"force\":true}}\n", i + 1, methods[i]);
		WAIT(heard("\"code\":-1,")); /* EPERM */
	}
	others_are_served();
}

static void claim_to_be_another_domain_is_refused(void **state)
{
	(void)state;
	dd_connect();
	dd_say("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"register\",\"params\":{\"kind\":\"vif\",\"name\":\"netback\",\"domid\":0}}\n");
	WAIT(heard("this pipe belongs to domain"));
	dd_say("{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"register\",\"params\":{\"kind\":\"vif\",\"name\":\"netback\",\"domid\":%u}}\n", rig->domid);
	WAIT(heard("this pipe belongs to domain"));
	dd_say("{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"register\",\"params\":{\"kind\":\"vif\",\"name\":\"web/netback\"}}\n");
	WAIT(heard("register: name"));
	dd_say("{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"register\",\"params\":{\"kind\":\"vif\",\"name\":\"netback\",\"domid\":%u}}\n", dd.domid);
	WAIT(heard("\"result\""));
	assert_true(backend_listed("\"storage/netback\""));
}

/* Domain 0's netback is down: its namesake in a driver domain gets neither its devices nor those that are attached without saying to whom. */
static void namesake_gets_nothing_of_domain_0s_backend(void **state)
{
	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
	dd_connect();
	dd_register("netback");
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"1\"}"); /* domain 0's comes first */
	be_kill(&rig->be[0]);
	WAIT(is(1, "lost"));
	dd_close();
	WAIT(pipe_is("InitWait"));
	dd_connect();
	dd_register("netback");
	for (int i = 0; i < 50; i++)
		rig_turn();
	assert_true(is(1, "lost"));
	assert_false(heard("prepare"));
	dd_say("{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"broken\",\"params\":{\"guest\":%u,\"kind\":\"vif\",\"devid\":0,\"error\":-5,\"why\":\"\"}}\n", rig->domid);
	WAIT(heard("\"code\":-1,"));
	assert_true(is(1, "lost"));
	be_restart(&rig->be[0], "vif", "netback");
	WAIT(is(1, "InitWait"));
}

static void offer_that_makes_no_sense_is_refused(void **state)
{
	struct answer a;

	(void)state;
	dd_connect();
	dd_register("evil");
	ask(&a, "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"backend\":\"storage\"}");
	WAIT(heard("\"prepare\""));
	dd_say("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"queues_max\":70000,\"mtu\":0}}\n");
	WAIT(a.done);
	assert_true(a.code < 0);
	json_object_put(a.result);
	others_are_served();
}

/* ---- the log ---- */

/* A backend that comes and goes, each time a new one to us. */
static void coming_and_going_does_not_fill_the_log(void **state)
{
	FILE *log = tmpfile();
	int saved = dup(2), lines = 0, c;

	(void)state;
	assert_non_null(log);
	dup2(fileno(log), 2);
	pv_log_open("pviod", PV_LOG_INFO);
	for (int i = 0; i < 60; i++) {
		dd_connect();
		dd_register("netback");
		dd_close();
		WAIT(pipe_is("InitWait"));
	}
	pv_log_open("pviod", PV_LOG_ERR);
	dup2(saved, 2);
	close(saved);
	rewind(log);
	while ((c = fgetc(log)) != EOF)
		lines += c == '\n';
	fclose(log);
	assert_in_range(lines, 1, 50);
}

/* ---- its death ---- */

static void serve_web(void)
{
	struct answer a;

	dd_connect();
	dd_register("netback");
	ask(&a, "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"3\",\"backend\":\"storage\"}");
	WAIT(heard("\"prepare\""));
	dd_say("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"queues_max\":1,\"mtu\":1500,\"features\":0,\"carrier\":1,\"mac\":\"00:16:3e:00:00:01\"}}\n");
	WAIT(a.done);
	assert_int_equal(a.code, 0);
	assert_string_equal(text_in(a.result, "backend"), "storage/netback");
	json_object_put(a.result);
}

static bool web_is(const char *what)
{
	struct json_object *o = get("list", "{\"guest\":\"web\"}"), *devices = NULL;
	bool so;

	json_object_object_get_ex(o, "devices", &devices);
	so = json_object_array_length(devices) == 1 && strcmp(text_in(json_object_array_get_idx(devices, 0), "state"), what) == 0;
	json_object_put(o);
	return so;
}

static void backends_death_leaves_its_devices_lost_until_it_is_back(void **state)
{
	(void)state;
	serve_web();
	assert_true(web_is("InitWait"));
	dd_close(); /* as when the process is killed */
	WAIT(web_is("lost"));
	WAIT(pipe_is("InitWait"));
	dd_connect();
	dd_register("netback");
	WAIT(heard("\"prepare\""));
}

static void domains_death_leaves_its_devices_lost_and_their_guests_alive(void **state)
{
	(void)state;
	serve_web();
	rig->also = NULL; /* it does not get around to anything */
	good("guest.destroy", "{\"guest\":\"storage\",\"force\":true}");
	WAIT(web_is("lost"));
	assert_false(backend_listed("storage"));
	others_are_served();
	/* names of guests are dom0's to give: the domain that has this one now goes on, and everything is offered anew */
	dd_close();
	good("guest.create", "{\"name\":\"storage\",\"domid\":%u}", dd.domid + 50u);
	good("attach", "{\"guest\":\"storage\",\"type\":\"pipe\"}");
	dd.domid += 50;
	dd_connect();
	dd_register("blkback");
	for (int i = 0; i < 50; i++)
		rig_turn();
	assert_true(web_is("lost")); /* another backend of it has nothing to do with them */
	assert_false(heard("prepare"));
	dd_close();
	WAIT(pipe_is("InitWait"));
	dd_connect();
	dd_register("netback");
	WAIT(heard("\"prepare\""));
}

static void orderly_detach_of_a_pipe_ends_its_conversation(void **state)
{
	struct answer a;

	(void)state;
	serve_web();
	ask(&a, "detach", "{\"guest\":\"storage\",\"device\":\"pipe0\"}");
	WAIT(dd.f.state == FRONT_CLOSING);
	assert_true(backend_listed("storage/netback"));
	assert_int_equal(front_leave(&dd.f, RIG_MS), 0);
	front_close(&dd.f);
	WAIT(a.done);
	assert_int_equal(a.code, 0);
	json_object_put(a.result);
	WAIT(web_is("lost"));
}

#define with(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with(indices_out_of_bounds_break_the_pipe),
		with(page_and_port_that_are_not_there_connect_nothing),
		with(scribbling_all_over_the_page_breaks_the_pipe_at_most),
		with(states_that_toggle_keep_nobody_from_service),
		with(what_is_no_json_breaks_the_pipe),
		with(endless_line_breaks_the_pipe),
		with(half_a_line_waits_and_goes_with_its_pipe),
		with(flood_ends_with_the_pipe),
		with(storm_of_events_and_crumbs_buys_a_bounded_share),
		with(answers_that_are_not_read_break_the_pipe),
		cmocka_unit_test_setup_teardown(backend_that_never_reads_fails_its_own_calls, up_impatient, down),
		with(pipe_is_no_way_for_clients),
		with(claim_to_be_another_domain_is_refused),
		with(namesake_gets_nothing_of_domain_0s_backend),
		with(offer_that_makes_no_sense_is_refused),
		with(coming_and_going_does_not_fill_the_log),
		with(backends_death_leaves_its_devices_lost_until_it_is_back),
		with(domains_death_leaves_its_devices_lost_and_their_guests_alive),
		with(orderly_detach_of_a_pipe_ends_its_conversation),
	};

	return cmocka_run_group_tests(tests, rig_hub_up, rig_hub_down);
}
