/* A guest lies about its ring: indices, references, ports, sizes, events. */
#define RIG_POLL_US "20"
#include "tests/hostile/blk_rig.h"

/* The guest claims to have published `ahead` requests more than it took part in. */
static void break_ring(uint32_t ahead, unsigned order)
{
	unsigned before = rig.broken, logged = rig_log_count("broke the ring protocol");
	struct guest g;

	guest_open(&g);
	guest_up_with(&g, NULL, 1, order, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT);
	guest_io(&g); /* it was served before */
	g.q[0].ring.prod += ahead;
	guest_notify(&g, 0);
	wait_broken(&g, before + 1);
	assert_non_null(strstr(rig.broken_why, "index"));
	for (int i = 0; i < 100; i++) { /* nobody listens to it any more, and it is told and logged once */
		g.q[0].ring.prod += i;
		guest_notify(&g, 0);
	}
	guest_io(&bystander);
	assert_int_equal(rig.broken, before + 1);
	assert_int_equal(rig_log_count("broke the ring protocol"), logged + 1);
	assert_int_equal(guest_call(&g, "inspect"), 0);
	assert_non_null(strstr(json_object_to_json_string(rig_last.result), "broken"));
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

static void xsa39_garbage_producer_index_stops_that_device_alone(void **state)
{
	static const uint32_t ahead[] = { 33, 0x80000000, 0xffffffff /* backwards */, 0xfffffff0, 4096 };

	(void)state;
	for (unsigned i = 0; i < sizeof(ahead) / sizeof(ahead[0]); i++)
		break_ring(ahead[i], 0);
	break_ring(513, 4);
}

static void xsa39_broken_device_connects_again(void **state)
{
	unsigned before = rig.broken;
	struct guest g;

	(void)state;
	guest_open(&g);
	for (unsigned i = 1; i <= 3; i++) {
		guest_up(&g, NULL);
		guest_io(&g);
		g.q[0].ring.prod += 100;
		guest_notify(&g, 0);
		wait_broken(&g, before + i);
		guest_down(&g);
	}
	guest_up(&g, NULL);
	guest_io(&g);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

static void xsa39_one_broken_queue_of_many_breaks_the_device_once(void **state)
{
	unsigned before = rig.broken, logged = rig_log_count("broke the ring protocol");
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_up_with(&g, NULL, 4, 0, PV_VBD_ABI_NATIVE, 0);
	guest_io(&g);
	for (unsigned i = 0; i < 4; i++) {
		g.q[i].ring.prod += 50;
		guest_notify(&g, i);
	}
	wait_broken(&g, before + 1);
	guest_io(&bystander);
	assert_int_equal(rig.broken, before + 1);
	guest_down(&g);
	assert_int_equal(rig_log_count("broke the ring protocol"), logged + 1);
	guest_close(&g);
	rig_check();
}

static void ring_every_order_and_abi_serves(void **state)
{
	static const enum pv_vbd_abi abis[] = { PV_VBD_ABI_NATIVE, PV_VBD_ABI_X86_32, PV_VBD_ABI_X86_64 };
	struct guest g;

	(void)state;
	guest_open(&g);
	for (unsigned order = 0; order <= 4; order++) {
		for (unsigned a = 0; a < 3; a++) {
			guest_up_with(&g, NULL, 1 + order % 2, order, abis[a], a % 2 ? PV_VBD_PERSISTENT : 0);
			for (uint32_t i = 0; i < 40; i++) /* past the end of the smallest ring */
				guest_io(&g);
			guest_down(&g);
		}
	}
	guest_close(&g);
	rig_check();
}

static void ring_full_at_once_is_answered_whole(void **state)
{
	static const enum pv_vbd_abi abis[] = { PV_VBD_ABI_NATIVE, PV_VBD_ABI_X86_32 };
	uint8_t seen[512];
	struct guest g;

	(void)state;
	guest_open(&g);
	for (unsigned a = 0; a < 2; a++) {
		guest_up_with(&g, NULL, 1, 4, abis[a], PV_VBD_PERSISTENT);
		for (unsigned round = 0; round < 5; round++) {
			unsigned nr = g.q[0].ring.nr;

			memset(seen, 0, sizeof(seen));
			for (unsigned i = 0; i < nr; i++) {
				struct pv_blk_req r = guest_rw(&g, BLKIF_OP_READ, (i * 37 % nr) * 8, i, 1);

				r.id = i;
				guest_put(&g, 0, &r);
			}
			assert_int_equal(pv_ring_room(&g.q[0].ring), 0);
			guest_notify(&g, 0);
			for (unsigned i = 0; i < nr; i++) {
				struct blkif_response rsp = guest_wait(&g, 0);

				assert_true(rsp.id < nr);
				assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
				assert_int_equal(seen[rsp.id]++, 0);
			}
			for (unsigned i = 0; i < nr; i++)
				image_equals(&g, (i * 37 % nr) * 8, g.data + i * PV_PAGE_SIZE, PV_PAGE_SIZE);
		}
		guest_down(&g);
	}
	guest_close(&g);
	rig_check();
}

static void connect_choices_beyond_the_offer_are_refused(void **state)
{
	struct pv_noxs_choice c;
	struct guest g;

	(void)state;
	guest_open(&g);
	assert_int_equal(guest_prepare(&g, "{\"queues\":\"2\"}"), 0);
	assert_int_equal(g.offer.queues_max, 2);
	guest_rings(&g, 3, 0, PV_VBD_ABI_NATIVE);
	c = guest_choice(&g, 0);
	assert_int_not_equal(guest_connect_choice(&g, "{\"queues\":\"2\"}", &c), 0);
	c.queues = 1;
	c.ring_order = 5;
	assert_int_not_equal(guest_connect_choice(&g, "{\"queues\":\"2\"}", &c), 0);
	c.ring_order = 0;
	c.abi = 3;
	assert_int_not_equal(guest_connect_choice(&g, "{\"queues\":\"2\"}", &c), 0);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

static void xsa361_connect_that_fails_half_way_is_undone(void **state)
{
	struct pv_noxs_choice good, c;
	struct guest g;

	(void)state;
	guest_open(&g);
	assert_int_equal(guest_prepare(&g, NULL), 0);
	guest_rings(&g, 3, 1, PV_VBD_ABI_NATIVE);
	good = c = guest_choice(&g, PV_VBD_PERSISTENT);
	c.vbd[2].ring_gref[1] = 0xfffffff0; /* the last page of the last ring */
	assert_int_not_equal(guest_connect_choice(&g, NULL, &c), 0);
	assert_non_null(strstr(rig_last.message, "queue 2"));
	assert_non_null(strstr(rig_last.message, " of guest"));
	assert_int_equal(guest_call(&g, "remove"), 0); /* it had stayed prepared */
	rig_check();
	c = good;
	c.vbd[1].port = 4000; /* never allocated */
	assert_int_not_equal(guest_connect_choice(&g, NULL, &c), 0);
	assert_non_null(strstr(rig_last.message, "event channel 4000"));
	assert_int_equal(guest_call(&g, "remove"), 0);
	rig_check();
	c = good;
	memcpy(c.vbd[1].ring_gref, bystander.q[0].gref, sizeof(c.vbd[1].ring_gref)); /* another guest's: a number of its own here */
	c.vbd[1].port = c.vbd[0].port; /* twice the same */
	assert_int_not_equal(guest_connect_choice(&g, NULL, &c), 0);
	assert_int_equal(guest_call(&g, "remove"), 0);
	rig_check();
	assert_int_equal(guest_connect_choice(&g, NULL, &good), 0);
	guest_io(&g);
	assert_int_equal(guest_connect_choice(&g, NULL, &good), 0); /* again: nothing changes */
	guest_io(&g);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

/* A process that does nothing but notify. */
static pid_t storm(struct guest *g)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		for (unsigned i = 0; i < g->nq; i++)
			pv_evt_notify(g->h, g->q[i].port);
}

static void xsa331_event_storm_leaves_others_served(void **state)
{
	struct guest g;
	int64_t began;
	pid_t pid;

	(void)state;
	guest_open(&g);
	guest_up_with(&g, NULL, 2, 0, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT);
	began = rig_ms();
	pid = storm(&g);
	for (int i = 0; i < 300; i++)
		guest_io(&bystander);
	storm_was_bounded(&g, 0, began);
	guest_io(&g); /* itself too, if late */
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	guest_io(&g);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

static void xsa350_disconnect_and_remove_are_idempotent(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (int i = 0; i < 2; i++) { /* before anything was there */
		assert_int_equal(guest_call(&g, "disconnect"), 0);
		assert_int_equal(guest_call(&g, "remove"), 0);
		assert_int_not_equal(guest_call(&g, "stats"), 0);
	}
	assert_int_equal(guest_prepare(&g, NULL), 0);
	assert_int_equal(guest_call(&g, "disconnect"), 0); /* prepared only */
	guest_up(&g, NULL);
	for (int i = 0; i < 3; i++)
		assert_int_equal(guest_call(&g, "disconnect"), 0);
	guest_rings_end(&g);
	for (int i = 0; i < 3; i++)
		assert_int_equal(guest_call(&g, "remove"), 0);
	guest_up(&g, NULL);
	assert_int_equal(guest_call(&g, "remove"), 0); /* while connected */
	guest_rings_end(&g);
	guest_close(&g);
	rig_check();
}

static void connect_with_new_rings_replaces_the_old(void **state)
{
	struct guest_queue old;
	struct pv_noxs_choice c;
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_up(&g, NULL);
	guest_io(&g);
	old = g.q[0];
	guest_rings(&g, 1, 2, PV_VBD_ABI_NATIVE); /* as after a resume of the guest: every reference is new */
	c = guest_choice(&g, PV_VBD_PERSISTENT);
	assert_int_equal(guest_connect_choice(&g, NULL, &c), 0);
	guest_io(&g);
	assert_int_equal(pv_gnt_unshare(g.h, old.pages, 1), 0);
	pv_evt_unbind(g.h, old.port);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(xsa39_garbage_producer_index_stops_that_device_alone),
		cmocka_unit_test(xsa39_broken_device_connects_again),
		cmocka_unit_test(xsa39_one_broken_queue_of_many_breaks_the_device_once),
		cmocka_unit_test(ring_every_order_and_abi_serves),
		cmocka_unit_test(ring_full_at_once_is_answered_whole),
		cmocka_unit_test(connect_choices_beyond_the_offer_are_refused),
		cmocka_unit_test(xsa361_connect_that_fails_half_way_is_undone),
		cmocka_unit_test(xsa331_event_storm_leaves_others_served),
		cmocka_unit_test(xsa350_disconnect_and_remove_are_idempotent),
		cmocka_unit_test(connect_with_new_rings_replaces_the_old),
	};

	return cmocka_run_group_tests(tests, rig_up, rig_down);
}
