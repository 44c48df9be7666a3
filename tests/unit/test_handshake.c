/* test_handshake.c - the handshake between frontend, pviod and backend: in every order of arrival, and with either side dying or
 * the device being detached at every step. After each: the state is right, it can be connected again, nothing is lost. */
#include "tests/unit/pviod_rig.h"

static void attach(void)
{
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
}

static void detach(bool force)
{
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\",\"force\":%s,\"timeout_ms\":%d}", force ? "true" : "false", RIG_MS);
	assert_string_equal(state_of(0), "");
}

/* Connect with a fresh frontend, leave in order, and detach: the device works, and nothing of it stays. */
static void connect_leave_detach(void)
{
	fe1_open(0);
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	fe_leave(&fe1);
	WAIT(fe1.state == FE_LEFT && is(0, "InitWait"));
	fe1_close();
	detach(false);
	rig_check(0);
}

/* The guest's first device leaves one control page for reuse: all counts are compared with it there. */
static int up_with_page(void **state)
{
	rig_up(state);
	attach();
	detach(false);
	rig_mark();
	return 0;
}

/* ---- the order of arrival ---- */

static void attach_before_any_backend_is_refused_and_leaves_nothing(void **state)
{
	struct json_object *g;

	(void)state;
	g = get("guest.create", "{\"name\":\"web\"}");
	rig->domid = number_in(g, "domid");
	json_object_put(g);
	rig_mark();
	assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vif\"}"), -ENODEV);
	assert_non_null(strstr(refused_why, "pvio-netback"));
	rig_check(0);
	be_start(&rig->be[0], "vif", "netback");
	attach();
	detach(false);
	rig_mark();
	attach();
	connect_leave_detach();
}

static void frontend_waits_before_its_device_is_attached(void **state)
{
	(void)state;
	fe1_open(0);
	for (int i = 0; i < 20; i++)
		rig_turn();
	assert_int_equal(fe1.state, FE_NONE);
	attach();
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	fe1_close();
	WAIT(is(0, "InitWait"));
	connect_leave_detach();
}

static void frontend_comes_while_the_backend_still_prepares(void **state)
{
	struct answer a;

	(void)state;
	rig->be[0].silent = 1 << BE_PREPARE;
	ask(&a, "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
	WAIT(rig->be[0].held[BE_PREPARE]);
	fe1_open(0);
	for (int i = 0; i < 20; i++)
		rig_turn();
	assert_false(a.done);
	rig->be[0].silent = 0;
	be_answer(&rig->be[0], BE_PREPARE, 0, be_offer(&rig->be[0], PV_NOXS_VIF));
	WAIT(a.done && fe1.state == FE_CONNECTED);
	assert_int_equal(a.code, 0);
	json_object_put(a.result);
	fe1_close();
	connect_leave_detach();
}

static void two_devices_of_a_guest_connect_at_once(void **state)
{
	struct fe_child c[2];

	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"1\"}");
	good("detach", "{\"guest\":\"web\",\"device\":\"vif1\"}");
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
	c[0] = fe_spawn(0, FE_STEPS);
	c[1] = fe_spawn(1, FE_STEPS);
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"1\"}");
	WAIT(fe_ended(&c[0]) && fe_ended(&c[1]));
	WAIT(is(0, "InitWait") && is(1, "InitWait"));
	good("detach", "{\"guest\":\"web\",\"device\":\"vif1\"}");
	detach(false);
	rig_mark();
	attach();
	connect_leave_detach();
}

static void frontend_leaves_while_the_backend_still_connects(void **state)
{
	(void)state;
	attach();
	rig->be[0].silent = 1 << BE_CONNECT;
	fe1_open(0);
	WAIT(rig->be[0].held[BE_CONNECT] && fe1.state == FE_CONNECTING);
	fe_leave(&fe1);
	WAIT(fe1.state == FE_LEFT);
	be_answer(&rig->be[0], BE_CONNECT, 0, NULL); /* too late: nobody may believe it */
	rig->be[0].silent = 0;
	WAIT(is(0, "InitWait"));
	fe1_close();
	connect_leave_detach();
}

static void late_answer_is_not_taken_for_that_of_the_present_call(void **state)
{
	uint64_t first;

	(void)state;
	attach();
	rig->be[0].silent = 1 << BE_CONNECT;
	fe1_open(0);
	fe1.again = true;
	WAIT(rig->be[0].held[BE_CONNECT] && fe1.state == FE_CONNECTING);
	first = rig->be[0].held[BE_CONNECT];
	fe_leave(&fe1);
	WAIT(rig->be[0].held[BE_CONNECT] != first && fe1.state == FE_CONNECTING);
	pv_rpc_reply(rig->be[0].rpc, first, NULL);
	for (int i = 0; i < 20; i++)
		rig_turn();
	assert_string_equal(inner_state(0), "connecting");
	be_answer(&rig->be[0], BE_CONNECT, 0, NULL);
	WAIT(is(0, "Connected"));
	rig->be[0].silent = 0;
	fe1_close();
	connect_leave_detach();
}

static void frontend_reconnects_many_times_without_a_loss(void **state)
{
	(void)state;
	attach();
	fe1_open(0);
	fe1.again = true;
	for (unsigned i = 1; i <= 30; i++) {
		WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
		assert_int_equal(rig->be[0].calls[BE_CONNECT], i);
		fe_leave(&fe1);
		WAIT(fe1.state != FE_LEAVING);
	}
	fe1_close();
	detach(true);
	rig_check(0);
}

static void connect_that_fails_is_shown_and_can_be_tried_again(void **state)
{
	struct json_object *dev;

	(void)state;
	attach();
	rig->be[0].fail[BE_CONNECT] = -ENOSPC;
	fe1_open(0);
	WAIT(fe1.state == FE_LEFT);
	assert_int_equal(fe1.error, -ENOSPC);
	WAIT(is(0, "InitWait"));
	dev = listed(0);
	assert_non_null(strstr(text_in(dev, "error"), "refuses to connect"));
	json_object_put(dev);
	fe1_close();
	rig->be[0].fail[BE_CONNECT] = 0;
	connect_leave_detach();
}

static void attach_wait_ends_when_connected_or_failed(void **state)
{
	struct answer a;

	(void)state;
	ask(&a, "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\",\"wait_ms\":%d}", RIG_MS);
	WAIT(is(0, "InitWait"));
	assert_false(a.done);
	fe1_open(0);
	WAIT(a.done);
	assert_int_equal(a.code, 0);
	assert_string_equal(text_in(a.result, "state"), "Connected");
	assert_int_equal(number_in(a.result, "queues"), 1);
	assert_true(number_in(a.result, "connect_us") >= 0 && number_in(a.result, "offer_us") >= 0);
	json_object_put(a.result);
	fe1_close();
	detach(false);
	rig->be[0].fail[BE_CONNECT] = -EMLINK;
	ask(&a, "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\",\"wait_ms\":%d}", RIG_MS);
	fe1_open(0);
	WAIT(a.done);
	assert_int_equal(a.code, -EMLINK);
	fe1_close();
	rig->be[0].fail[BE_CONNECT] = 0;
	WAIT(is(0, "InitWait"));
	assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\",\"wait_ms\":30}"), -ETIMEDOUT);
	connect_leave_detach();
}

/* ---- either side dies, at each step ---- */

static void frontend_killed_at_each_step(void **state)
{
	(void)state;
	for (enum fe_step step = FE_OPENED; step < FE_STEPS; step++) {
		struct fe_child c;

		attach();
		c = fe_spawn(0, step);
		WAIT(fe_stopped(&c));
		fe_kill(&c);
		fe1_open(0);
		WAIT(fe1.state == FE_CONNECTED || fe1.state == FE_LEFT);
		if (step != FE_CHOSEN && step != FE_TOLD)
			assert_int_equal(fe1.state, FE_CONNECTED);
		else if (fe1.state == FE_LEFT) /* it had chosen of the offer that the dead one's connection failed with, and was told that error */
			assert_int_not_equal(fe1.error, 0);
		fe1_close();
		connect_leave_detach(); /* a program that is started once more connects in any case */
	}
}

/* One dies while it is connected, and another has chosen of the same offer before anybody looked. It is not taken for the first one; and the end of that
 * one's connection, which it sees, is not its own. */
static void frontend_follows_one_that_died_unseen(void **state)
{
	struct be *b = &rig->be[0];
	uint32_t generation;
	struct fe first;

	(void)state;
	attach();
	b->silent = 1 << BE_CONNECT;
	fe1_open(0);
	WAIT(b->held[BE_CONNECT] && fe1.state == FE_CONNECTING);
	generation = fe1.generation;
	first = fe1;
	fe_share(&fe1);
	fe_unshare(&first);
	fe_fill_choice(&fe1);
	pv_noxs_choice_write(fe1.page, &fe1.choice);
	b->silent = 0;
	fe_tell(&fe1);
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	assert_int_equal(fe1.generation, generation + 1);
	assert_int_equal(b->calls[BE_CONNECT], 2);
	fe1_close();
	connect_leave_detach();
}

static void frontend_killed_while_the_backend_is_asked(void **state)
{
	static const struct { enum fe_step step; enum be_method method; } at[] = {
		{ FE_TOLD, BE_CONNECT }, { FE_TOLD_CLOSING, BE_DISCONNECT },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		struct fe_child c;

		attach();
		rig->be[0].silent = 1 << at[i].method;
		c = fe_spawn(0, at[i].step);
		WAIT(fe_stopped(&c) && rig->be[0].held[at[i].method]);
		fe_kill(&c);
		rig->be[0].silent = 0;
		for (int t = 0; t < 20; t++)
			rig_turn();
		if (at[i].method == BE_DISCONNECT) {
			struct pv_device_id id = { .guest = rig->domid, .type = PV_NOXS_VIF };

			be_let_go(&rig->be[0], &id);
		}
		be_answer(&rig->be[0], at[i].method, 0, NULL);
		WAIT(is(0, "InitWait"));
		connect_leave_detach();
	}
}

/* The backend dies on a call or after its answer; a frontend is there all the time and follows the protocol. */
static void backend_dies(enum be_method method, bool answers)
{
	struct be *b = &rig->be[0];
	struct answer a;

	*(answers ? &b->die_after : &b->die) = 1 << method;
	ask(&a, "attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
	fe1_open(0);
	fe1.again = true;
	WAIT(a.done);
	json_object_put(a.result);
	if (method == BE_PREPARE && !answers) {
		assert_int_not_equal(a.code, 0);
		WAIT(is(0, ""));
	} else {
		assert_int_equal(a.code, 0);
	}
	if (method == BE_DISCONNECT || method == BE_REMOVE) {
		WAIT(fe1.state == FE_CONNECTED);
		if (method == BE_DISCONNECT)
			fe_leave(&fe1);
	}
	if (method == BE_REMOVE) {
		ask(&a, "detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
		WAIT(a.done);
		assert_int_equal(a.code, 0);
		json_object_put(a.result);
	}
	WAIT(!b->rpc);
	b->die = b->die_after = 0;
	if (method == BE_CONNECT || (method == BE_PREPARE && answers)) /* it is noticed, and shown */
		WAIT(is(0, "lost"));
	be_restart(b, "vif", "netback");
	if (method == BE_REMOVE || (method == BE_PREPARE && !answers)) {
		assert_string_equal(state_of(0), "");
		attach();
	}
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	fe1.again = false;
	fe_leave(&fe1);
	WAIT(fe1.state == FE_LEFT);
	fe1_close();
	connect_leave_detach();
}

static void backend_dies_at_each_step(void **state)
{
	(void)state;
	for (enum be_method m = BE_PREPARE; m <= BE_REMOVE; m++) {
		backend_dies(m, false);
		backend_dies(m, true);
	}
}

/* Stopped at each step, the frontend finds its backend gone and another one in its place. */
static void backend_replaced_while_the_frontend_is_at_each_step(void **state)
{
	struct be *b = &rig->be[0];

	(void)state;
	for (enum fe_step step = FE_OPENED; step < FE_STEPS; step++) {
		struct fe_child c;

		attach();
		c = fe_spawn(0, step);
		WAIT(fe_stopped(&c));
		be_kill(b);
		WAIT(!is(0, "Connected"));
		be_restart(b, "vif", "netback");
		fe_continue(&c);
		WAIT(fe_ended(&c) && is(0, "InitWait"));
		connect_leave_detach();
	}
}

static void backend_is_lost_and_its_devices_wait_for_it_by_name(void **state)
{
	struct pv_noxs_entry e;
	struct json_object *dev;

	(void)state;
	attach();
	fe1_open(0);
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	be_kill(&rig->be[0]);
	WAIT(is(0, "lost"));
	dev = listed(0);
	assert_int_equal(number_in(dev, "state_number"), XenbusStateConnected); /* the guest need not do anything */
	assert_non_null(strstr(text_in(dev, "error"), "netback"));
	json_object_put(dev);
	assert_int_equal(fe_entry(&fe1, &e), 0);
	assert_int_equal(e.generation, fe1.generation);
	assert_int_equal(fe1.page->offer.error, 0);
	assert_int_equal(fe1.state, FE_CONNECTED);
	be_start(&rig->be[1], "vif", "another");
	for (int i = 0; i < 20; i++)
		rig_turn();
	assert_string_equal(state_of(0), "lost");
	be_restart(&rig->be[0], "vif", "netback");
	WAIT(is(0, "Connected"));
	assert_int_equal(rig->be[0].adopts, 1);
	assert_int_equal(fe1.state, FE_CONNECTED);
	assert_int_equal(fe1.generation, e.generation); /* it has seen nothing of it */
	be_kill(&rig->be[1]);
	fe1_close();
	connect_leave_detach();
}

/* The process before is still being reaped: the next one is asked until it may. */
static void backend_that_cannot_adopt_yet_is_asked_again(void **state)
{
	uint32_t generation;

	(void)state;
	attach();
	fe1_open(0);
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	generation = fe1.generation;
	be_kill(&rig->be[0]);
	WAIT(is(0, "lost"));
	rig->be[0].fail_adopt = -EAGAIN;
	be_restart(&rig->be[0], "vif", "netback");
	WAIT(rig->be[0].adopts >= 3);
	assert_string_equal(state_of(0), "lost");
	rig->be[0].fail_adopt = 0;
	WAIT(is(0, "Connected"));
	assert_int_equal(fe1.state, FE_CONNECTED);
	assert_int_equal(fe1.generation, generation);
	fe1_close();
	connect_leave_detach();
}

/* It cannot at all: the frontend is offered the device anew. */
static void backend_that_cannot_adopt_offers_anew(void **state)
{
	uint32_t generation;

	(void)state;
	attach();
	fe1_open(0);
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	generation = fe1.generation;
	be_kill(&rig->be[0]);
	WAIT(is(0, "lost"));
	rig->be[0].fail_adopt = -EOPNOTSUPP;
	be_restart(&rig->be[0], "vif", "netback");
	WAIT(fe1.generation == generation + 1 && fe1.state == FE_CONNECTED && is(0, "Connected"));
	assert_int_equal(rig->be[0].adopts, 1);
	fe1_close();
	connect_leave_detach();
}

/* The next backend ends too, in the middle of it. */
static void backend_that_adopts_dies_as_well(void **state)
{
	uint32_t generation;

	(void)state;
	attach();
	fe1_open(0);
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	generation = fe1.generation;
	be_kill(&rig->be[0]);
	for (int answers = 0; answers < 2; answers++) {
		rig->be[0].silent = answers ? 0 : 1 << BE_CONNECT;
		be_restart(&rig->be[0], "vif", "netback");
		WAIT(rig->be[0].calls[BE_CONNECT] == 1);
		be_kill(&rig->be[0]);
		WAIT(is(0, "lost"));
	}
	be_restart(&rig->be[0], "vif", "netback");
	WAIT(is(0, "Connected"));
	assert_int_equal(fe1.state, FE_CONNECTED);
	assert_int_equal(fe1.generation, generation);
	fe1_close();
	connect_leave_detach();
}

/* A frontend that leaves while its backend is lost need not wait for another one. */
static void frontend_leaves_a_lost_device(void **state)
{
	(void)state;
	attach();
	fe1_open(0);
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	be_kill(&rig->be[0]);
	WAIT(is(0, "lost"));
	fe_leave(&fe1);
	WAIT(fe1.state == FE_LEFT);
	fe1_close();
	be_restart(&rig->be[0], "vif", "netback");
	WAIT(is(0, "InitWait"));
	connect_leave_detach();
}

/* A backend that is back may not get at its resource at once: it is asked again. */
static void backend_that_cannot_prepare_yet_is_asked_again(void **state)
{
	(void)state;
	attach();
	fe1_open(0);
	WAIT(fe1.state == FE_CONNECTED);
	be_kill(&rig->be[0]);
	WAIT(is(0, "lost"));
	rig->be[0].fail[BE_PREPARE] = -EBUSY;
	rig->be[0].fail_adopt = -ENOENT;
	be_restart(&rig->be[0], "vif", "netback");
	WAIT(rig->be[0].calls[BE_PREPARE] >= 1 && is_inner(0, "lost"));
	rig->be[0].fail[BE_PREPARE] = 0;
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	fe1_close();
	connect_leave_detach();
}

/* ---- dom0 takes the device, at each step ---- */

static void detach_in_order_at_each_step(void **state)
{
	(void)state;
	for (enum fe_step step = FE_OPENED; step < FE_STEPS; step++) {
		struct fe_child c;
		struct answer a;

		attach();
		c = fe_spawn(0, step);
		WAIT(fe_stopped(&c));
		ask(&a, "detach", "{\"guest\":\"web\",\"device\":\"vif0\",\"timeout_ms\":%d}", RIG_MS);
		for (int i = 0; i < 10; i++)
			rig_turn();
		fe_continue(&c);
		WAIT(a.done);
		assert_int_equal(a.code, 0);
		json_object_put(a.result);
		assert_string_equal(state_of(0), "");
		if (!fe_ended(&c))
			fe_kill(&c); /* it waits for a device that will not come */
		rig_check(0);
	}
}

static void detach_by_force_at_each_step(void **state)
{
	(void)state;
	for (enum fe_step step = FE_OPENED; step < FE_STEPS; step++) {
		struct fe_child c;

		attach();
		c = fe_spawn(0, step);
		WAIT(fe_stopped(&c));
		detach(true); /* the guest is stopped: nobody waits for it */
		attach(); /* and the slot can be used again, while the old frontend still has its page */
		fe_kill(&c);
		connect_leave_detach();
	}
}

static void detach_times_out_and_can_be_forced(void **state)
{
	(void)state;
	attach();
	fe1_open(0);
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	rig->also = NULL; /* the guest hangs */
	assert_int_equal(refused("detach", "{\"guest\":\"web\",\"device\":\"vif0\",\"timeout_ms\":50}"), -ETIMEDOUT);
	assert_non_null(strstr(refused_why, "--force"));
	assert_string_equal(state_of(0), "Closing");
	assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}"), -EBUSY);
	detach(true);
	fe1_close();
	rig_check(0);
	attach();
	connect_leave_detach();
}

static void guest_destroyed_at_each_step(void **state)
{
	(void)state;
	for (enum fe_step step = FE_OPENED; step < FE_STEPS; step++) {
		struct json_object *g;
		struct fe_child c;

		attach();
		c = fe_spawn(0, step);
		WAIT(fe_stopped(&c));
		good("guest.destroy", "{\"guest\":\"web\",\"force\":true}");
		fe_kill(&c);
		assert_int_equal(pv_hub_domain_list(rig->dom0, NULL, 0), 1);
		assert_int_equal(count(0).grants, 0);
		g = get("guest.create", "{\"name\":\"web\"}");
		rig->domid = number_in(g, "domid");
		json_object_put(g);
	}
}

/* ---- what runs out ---- */

static void attach_that_fails_leaves_nothing(void **state)
{
	static const char *const what[] = { "share", "alloc" };

	(void)state;
	rig_mark();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pv_hub_inject(rig->dom0, 0, what[i], 0, 1, -1), 0);
		assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}"), -ENOSPC);
		assert_string_equal(state_of(0), "");
		WAIT(rig->be[0].calls[BE_REMOVE] == (unsigned)i + 1);
		rig_check(i); /* without a port, the control page stays for the next one */
	}
	rig->be[0].fail[BE_PREPARE] = -EACCES;
	assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}"), -EACCES);
	rig_check(1);
	rig->be[0].fail[BE_PREPARE] = 0;
	attach();
	detach(false);
	rig_check(1); /* of the same slot */
	rig_mark();
	attach();
	connect_leave_detach();
}

static void guest_create_that_fails_leaves_nothing(void **state)
{
	static const struct { const char *what; unsigned skip; } at[] = { { "share", 0 }, { "alloc", 0 } };
	unsigned grants = count(0).grants, ports = count(0).ports;

	(void)state;
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		assert_int_equal(pv_hub_inject(rig->dom0, 0, at[i].what, at[i].skip, 1, -1), 0);
		assert_int_equal(refused("guest.create", "{\"name\":\"db\"}"), -ENOSPC);
		assert_int_equal(pv_hub_domain_list(rig->dom0, NULL, 0), 2);
		assert_int_equal(count(0).grants, grants);
		assert_int_equal(count(0).ports, ports);
	}
	good("guest.create", "{\"name\":\"db\"}");
	good("guest.destroy", "{\"guest\":\"db\"}");
}

#define bare(f) cmocka_unit_test_setup_teardown(f, rig_up_bare, rig_down)
#define plain(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)
#define paged(f) cmocka_unit_test_setup_teardown(f, up_with_page, rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		bare(attach_before_any_backend_is_refused_and_leaves_nothing),
		paged(frontend_waits_before_its_device_is_attached),
		paged(frontend_comes_while_the_backend_still_prepares),
		paged(two_devices_of_a_guest_connect_at_once),
		paged(frontend_leaves_while_the_backend_still_connects),
		paged(late_answer_is_not_taken_for_that_of_the_present_call),
		paged(frontend_reconnects_many_times_without_a_loss),
		paged(connect_that_fails_is_shown_and_can_be_tried_again),
		paged(attach_wait_ends_when_connected_or_failed),
		paged(frontend_killed_at_each_step),
		paged(frontend_follows_one_that_died_unseen),
		paged(frontend_killed_while_the_backend_is_asked),
		paged(backend_dies_at_each_step),
		paged(backend_replaced_while_the_frontend_is_at_each_step),
		paged(backend_is_lost_and_its_devices_wait_for_it_by_name),
		paged(backend_that_cannot_adopt_yet_is_asked_again),
		paged(backend_that_cannot_adopt_offers_anew),
		paged(backend_that_adopts_dies_as_well),
		paged(frontend_leaves_a_lost_device),
		paged(backend_that_cannot_prepare_yet_is_asked_again),
		paged(detach_in_order_at_each_step),
		paged(detach_by_force_at_each_step),
		paged(detach_times_out_and_can_be_forced),
		plain(guest_destroyed_at_each_step),
		plain(attach_that_fails_leaves_nothing),
		plain(guest_create_that_fails_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, rig_hub_up, rig_hub_down);
}
