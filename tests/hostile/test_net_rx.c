/* A guest that receives as it must not: posts nothing, posts nonsense, revokes, vanishes. Honest guests are not harmed. */
#include "net_rig.h"
#include <pthread.h>

static struct net_guest c; /* the hostile one */
static uint8_t sent[65536], got[65536];

static int up(void **state)
{
	(void)state;
	guest_up(&c, 1, ALL_FEATURES, LARGE_MTU);
	return 0;
}

static int down(void **state)
{
	(void)state;
	guest_down(&c);
	rig_check();
	assert_int_equal(rig.broken, 0);
	return 0;
}

/* a sends n packets of len bytes to c; every one is answered. */
static void flood_c(unsigned n, unsigned len)
{
	unsigned pages = (len + 4095) / 4096;

	for (unsigned i = 0; i < n; i++) {
		frame(sent, c.mac, peers.a.mac, len, i);
		tx_packet(&peers.a, 0, 0, sent, len);
		tx_publish(&peers.a, 0);
		assert_true(tx_answers(&peers.a, 0, pages, NULL, PATIENCE));
	}
}

static int64_t backlog_bytes(void)
{
	struct json_object *q;

	assert_int_equal(guest_call(&c, "inspect"), 0);
	q = json_object_array_get_idx(json_object_object_get(rig_last.result, "queues"), 0);
	return json_object_get_int64(json_object_object_get(q, "rx_backlog_bytes"));
}

/* XSA-392: what is queued for a guest that takes nothing is bounded in bytes; the rest is dropped and counted. */
static void xsa392_guest_posts_nothing(void **state)
{
	int64_t full;

	(void)state;
	flood_c(3000, 60);
	assert_true(backlog_bytes() > 0);
	assert_in_range(backlog_bytes(), 1, 2 << 20);
	full = guest_stat(&c, NULL, "rx_full");
	assert_in_range(full, 1000, 2999);
	rig_check_exchange();
	flood_c(100, 60000);
	assert_in_range(backlog_bytes(), 1, 2 << 20);
	assert_true(guest_stat(&c, NULL, "rx_full") > full + 90);
	rx_post(&c, 0, 200); /* now it wakes up: what was kept arrives, in order */
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(rx_packet(&c, 0, got, NULL, PATIENCE), 60);
		assert_int_equal(got[14], (uint8_t)(i + 14 * 31));
	}
}

/* Many vifs that post nothing hold all packet memory that their bounds allow; what they hold is dropped once it is scarce and old. */
static void xsa392_hoarders_give_way(void **state)
{
	enum { HOARDERS = 12, QUEUES = 4 };
	static struct net_guest hoarder[HOARDERS];
	int64_t dropped, end;

	(void)state;
	for (unsigned i = 0; i < HOARDERS; i++)
		guest_up(&hoarder[i], QUEUES, ALL_FEATURES, LARGE_MTU);
	for (unsigned i = 0; i < HOARDERS * 200; i++) {
		unsigned len = tcp_frame(sent, V4, hoarder[i % HOARDERS].mac, peers.a.mac, 40000, i * 7);
		unsigned pages = tx_packet(&peers.a, 0, 0, sent, len);

		tx_publish(&peers.a, 0);
		assert_true(tx_answers(&peers.a, 0, pages, NULL, PATIENCE));
	}
	sleep(1);
	for (end = rig_ms() + PATIENCE;;) { /* traffic, as there always is: the memory comes back */
		exchange(&peers.a, &peers.b, 60, 1);
		if (guest_stat(&peers.a, "backend", "mbufs_in_use") < guest_stat(&peers.a, "backend", "mbufs") / 8)
			break;
		assert_true(rig_ms() < end);
	}
	dropped = guest_stat(&peers.a, NULL, "tx_no_memory");
	for (unsigned i = 0; i < 100; i++)
		exchange(&peers.a, &peers.b, 64000, i);
	assert_int_equal(guest_stat(&peers.a, NULL, "tx_no_memory"), dropped);
	for (unsigned i = 0; i < HOARDERS; i++)
		guest_down(&hoarder[i]);
}

/* XSA-392: a stall is told by the slots that the next packet needs, not by one. */
static void xsa392_stall_counts_slots(void **state)
{
	(void)state;
	flood_c(1, 10000);
	for (unsigned i = 0; i < 2; i++) {
		rx_post(&c, 0, 1);
		assert_int_equal(rx_packet(&c, 0, got, NULL, 20), 0);
	}
	assert_int_equal(guest_stat(&c, NULL, "rx_stalls"), 1);
	rx_post(&c, 0, 1); /* the third: the backend had asked to be told of this one */
	assert_int_equal(rx_packet(&c, 0, got, NULL, PATIENCE), 10000);
	assert_memory_equal(got, sent, 10000);
}

static void stalled_guest_costs_no_turns(void **state)
{
	int64_t before, sleeps;

	(void)state;
	flood_c(1, 10000);
	rx_post(&c, 0, 2);
	usleep(20000);
	before = guest_stat(&c, "backend", "turns");
	usleep(20000);
	sleeps = guest_stat(&c, "backend", "sleeps");
	assert_in_range(guest_stat(&c, "backend", "turns") - before, 0, 100); /* our own questions wake it */
	assert_true(sleeps > 0);
}

static void xsa39_rx_producer_impossible(void **state)
{
	static const uint32_t wrong[] = { 257, 0x80000000u, 0xffffffffu };
	struct pv_ring *r = &c.q[0].rx;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		__atomic_store_n(&r->shared->req_prod, r->prod + wrong[i], __ATOMIC_RELEASE);
		flood_c(1, 60);
		wait_broken(&c);
		assert_non_null(strstr(rig.broken_why, "rx ring's producer index"));
		guest_rings_reset(&c);
		assert_int_equal(guest_connect(&c, LARGE_MTU), 0);
	}
	exchange(&peers.a, &c, 100, 1);
}

/* An index that was right goes wrong while requests that it counted are left: these are used, and then it is noticed. */
static void xsa39_rx_producer_goes_wrong(void **state)
{
	struct pv_ring *r = &c.q[0].rx;

	(void)state;
	rx_post(&c, 0, 100);
	flood_c(1, 60);
	assert_int_equal(rx_packet(&c, 0, got, NULL, PATIENCE), 60);
	__atomic_store_n(&r->shared->req_prod, r->prod + 257, __ATOMIC_RELEASE);
	flood_c(99 + 1, 60);
	wait_broken(&c);
	assert_non_null(strstr(rig.broken_why, "rx ring's producer index"));
	for (unsigned i = 0; i < 99; i++)
		assert_int_equal(rx_packet(&c, 0, got, NULL, PATIENCE), 60);
	assert_int_equal(rx_packet(&c, 0, got, NULL, 20), 0);
	guest_rings_reset(&c);
	assert_int_equal(guest_connect(&c, LARGE_MTU), 0);
	exchange(&peers.a, &c, 100, 1);
}

static void guest_posts_and_never_consumes(void **state)
{
	(void)state;
	rx_post(&c, 0, 256);
	flood_c(256 + 500, 60);
	guest_stat_reaches(&c, NULL, "rx_packets", 256);
	assert_int_equal(guest_stat(&c, NULL, "rx_packets"), 256);
	for (unsigned i = 0; i < 60; i++) { /* and on the other ring: it never looks at an answer */
		tx_slot(&c, 0, 0, 0, 0, 0);
		tx_publish(&c, 0);
	}
	guest_stat_reaches(&c, NULL, "tx_bad", 60);
}

static void gref_bad_fails_its_packet_alone(void **state)
{
	struct net_queue *q = &c.q[0];
	struct pv_net_rx_packet p;

	(void)state;
	pv_net_rx_fill(&q->rx, 0, q->rx_grefs[0]);
	pv_net_rx_fill(&q->rx, 1, 0xfffffff0u);
	pv_net_rx_fill(&q->rx, 2, q->rx_grefs[2]);
	pv_net_rx_fill(&q->rx, 3, q->rx_grefs[3]); /* 3 and 4: one packet, of which the second page is bad */
	pv_net_rx_fill(&q->rx, 4, peers.a.q[0].rx_grefs[0] + 100000);
	pv_net_rx_fill(&q->rx, 5, q->rx_grefs[5]);
	assert_true(pv_ring_publish(&q->rx) || true);
	flood_c(3, 60);
	flood_c(1, 5000);
	flood_c(1, 61);
	for (unsigned i = 0; i < 5; i++) {
		unsigned len = rx_packet(&c, 0, got, &p, PATIENCE);

		assert_int_equal(p.error, i == 1 || i == 3);
		assert_int_equal(p.nr, i == 3 ? 2 : 1);
		assert_int_equal(p.frag[0].id, i > 3 ? 5 : i); /* each answer in the slot of its request */
		if (!p.error)
			assert_int_equal(len, i == 4 ? 61 : 60);
	}
	assert_int_equal(guest_stat(&c, NULL, "rx_copy_failed"), 2);
	q->rx_grefs[4] = q->rx_grefs[5];
	exchange(&peers.a, &c, 100, 1);
}

static void gref_read_only_is_not_written(void **state)
{
	struct net_queue *q = &c.q[0];
	struct pv_net_rx_packet p;
	uint32_t gref;
	void *page;

	(void)state;
	assert_int_equal(pv_gnt_share(c.h, 0, 1, false, NULL, &gref, &page), 0);
	pv_net_rx_fill(&q->rx, 7, gref);
	pv_ring_publish(&q->rx);
	flood_c(1, 60);
	assert_true(rx_packet(&c, 0, got, &p, PATIENCE));
	assert_true(p.error);
	assert_int_equal(*(uint8_t *)page, 0);
}

static void grants_revoked_under_use(void **state)
{
	struct net_queue *q = &c.q[0];
	int16_t status;

	(void)state;
	rx_post(&c, 0, 200);
	flood_c(50, 60);
	frame(q->tx_data, c.mac, c.mac, 60, 1);
	assert_int_equal(pv_gnt_unshare(c.h, q->rx_data, RX_PAGES), 0);
	flood_c(50, 60);
	guest_stat_reaches(&c, NULL, "rx_copy_failed", 50);
	assert_int_equal(pv_gnt_unshare(c.h, q->tx_data, TX_PAGES), 0);
	tx_slot(&c, 0, 0, 0, 60, 0);
	tx_publish(&c, 0);
	assert_true(tx_answers(&c, 0, 1, &status, PATIENCE));
	assert_int_equal(status, NETIF_RSP_ERROR);
	assert_int_equal(pv_gnt_unshare(c.h, q->tx_page, 1), 0); /* the rings too: mapped, so they stay */
	assert_int_equal(pv_gnt_unshare(c.h, q->rx_page, 1), 0);
	flood_c(300, 60);
}

static void copies_failing_at_random(void **state)
{
	unsigned errors = 0;

	(void)state;
	rig_needs_hub();
	for (unsigned round = 0; round < 40; round++) {
		struct pv_net_rx_packet p;

		rx_post(&c, 0, 8);
		pv_hub_inject(rig.dom0, c.domid, "copy", round % 5, 1, round % 2 ? GNTST_eagain : 7 /* positive: XSA-313 */);
		flood_c(4, 5000);
		for (unsigned i = 0; i < 4; i++) {
			assert_true(rx_packet(&c, 0, got, &p, PATIENCE));
			assert_int_equal(p.nr, 2);
			errors += p.error;
		}
	}
	pv_hub_inject(rig.dom0, c.domid, "copy", 0, 0, 0);
	assert_in_range(errors, 40, 41);
	assert_int_equal(guest_stat(&c, NULL, "rx_copy_failed"), errors);
}

static void disconnect_under_traffic(void **state)
{
	(void)state;
	frame(peers.a.q[0].tx_data, c.mac, peers.a.mac, 60, 1);
	frame(c.q[0].tx_data, c.mac, c.mac, 60, 2);
	for (unsigned round = 0; round < 100; round++) {
		rx_post(&c, 0, round % 3 ? 30 : 0);
		for (unsigned i = 0; i < 40; i++) {
			tx_slot(&peers.a, 0, 0, 0, 60, 0);
			tx_slot(&c, 0, 0, 0, 60, 0);
			if (i == round % 40) {
				tx_publish(&peers.a, 0);
				tx_publish(&c, 0);
			}
		}
		tx_publish(&peers.a, 0);
		tx_publish(&c, 0);
		assert_int_equal(guest_call(&c, round & 1 ? "disconnect" : "remove"), 0);
		assert_true(tx_answers(&peers.a, 0, 40, NULL, PATIENCE));
		/* packets for nobody are flooded, to b among others */
		guest_rings_reset(&c);
		assert_int_equal(guest_connect(&c, LARGE_MTU), 0);
	}
	/* and there they wait */
	guest_again(&peers.b, LARGE_MTU);
}

static void domain_gone_under_traffic(void **state)
{
	(void)state;
	rig_needs_hub();
	rx_post(&c, 0, 200);
	flood_c(100, 60);
	for (unsigned i = 0; i < 60; i++)
		tx_slot(&c, 0, 0, 0, 0, 0);
	tx_publish(&c, 0);
	pv_hyper_close(c.h); /* its process dies: pages, ports and all */
	flood_c(200, 60);
	assert_int_equal(guest_call(&c, "disconnect"), 0);
	assert_int_equal(guest_call(&c, "remove"), 0);
	assert_int_equal(pv_hub_domain_destroy(rig.dom0, c.domid), 0);
	guest_up(&c, 1, ALL_FEATURES, LARGE_MTU); /* for teardown */
}

/* ---- connecting with nonsense ---- */

static void connect_with_bad_references(void **state)
{
	struct net_guest d = { 0 };

	(void)state;
	guest_open(&d, 3, ALL_FEATURES);
	assert_int_equal(guest_prepare(&d, NULL), 0);
	for (unsigned i = 0; i < 6; i++) {
		struct net_queue save = d.q[i % 3];

		switch (i) {
		case 0: d.q[0].tx_gref = 0xfffffff0; break;
		case 1: d.q[1].rx_gref = peers.a.q[0].rx_grefs[0] + 100000; break;
		case 2: d.q[2].tx_port = 4000; break;
		case 3: d.q[0].rx_port = 0x7fffffff; break;
		case 4: d.q[1].rx_port = d.q[0].tx_port; break; /* bound already by queue 0 */
		case 5: d.q[2].rx_gref = d.q[2].tx_grefs[0] + 50000; break;
		}
		assert_true(guest_connect(&d, NULL) < 0);
		assert_non_null(strstr(rig_last.message, " of guest"));
		assert_non_null(strstr(rig_last.message, "queue"));
		d.q[i % 3] = save;
	}
	assert_int_equal(guest_connect(&d, NULL), 0); /* after all that it can */
	exchange(&d, &peers.a, 100, 1);
	guest_down(&d);
}

/* A queue may break while the next one cannot be attached: the connect has failed, and nothing more is told. */
static void connect_that_fails_is_told_once(void **state)
{
	struct net_guest g = { 0 };
	uint32_t good;

	(void)state;
	guest_open(&g, 2, ALL_FEATURES);
	assert_int_equal(guest_prepare(&g, NULL), 0);
	good = g.q[1].rx_gref;
	for (unsigned i = 0; i < 100; i++) {
		guest_rings_reset(&g);
		tx_slot(&g, 0, 0, 4000, 100, 0); /* beyond its page */
		pv_ring_publish(&g.q[0].tx);
		g.q[1].rx_gref = 0xfffffff0u;
		assert_true(guest_connect(&g, NULL) < 0);
		assert_int_equal(guest_call(&g, "stats"), 0);
		assert_int_equal(rig.broken, 0);
	}
	guest_rings_reset(&g);
	g.q[1].rx_gref = good;
	assert_int_equal(guest_connect(&g, NULL), 0);
	exchange(&g, &peers.a, 100, 1);
	guest_down(&g);
}

/* XSA-300: what a guest can have mapped is bounded by its configuration, whatever it chooses. */
static void xsa300_choice_beyond_the_offer_is_refused(void **state)
{
	struct net_guest g = { 0 };
	struct pv_noxs_choice choice;

	(void)state;
	guest_open(&g, 3, ALL_FEATURES);
	assert_int_equal(guest_prepare(&g, "{\"queues\":\"2\"}"), 0);
	for (unsigned i = 0; i < 4; i++) {
		choice = guest_choice(&g);
		choice.queues = (uint16_t[]){ 0, 3, 16, 65535 }[i];
		assert_true(rig_connect(guest_device(&g), json_tokener_parse("{\"queues\":\"2\"}"), &choice) < 0);
	}
	choice = guest_choice(&g);
	choice.queues = 2;
	choice.features = 1u << 31;
	assert_true(rig_connect(guest_device(&g), json_tokener_parse("{\"queues\":\"2\"}"), &choice) < 0);
	choice.features = ALL_FEATURES;
	assert_int_equal(rig_connect(guest_device(&g), json_tokener_parse("{\"queues\":\"2\"}"), &choice), 0);
	guest_down(&g);
}

static void connect_when_resources_run_out(void **state)
{
	struct net_guest d = { 0 };

	(void)state;
	rig_needs_hub();
	guest_open(&d, 2, ALL_FEATURES);
	assert_int_equal(guest_prepare(&d, NULL), 0);
	for (unsigned skip = 0; skip < 2; skip++) {
		pv_hub_inject(rig.dom0, d.domid, "map", skip, 1, GNTST_no_space);
		assert_true(guest_connect(&d, NULL) < 0);
		pv_hub_inject(rig.dom0, d.domid, "map", 0, 0, 0);
	}
	for (unsigned skip = 0; skip < 4; skip++) {
		pv_hub_inject(rig.dom0, d.domid, "bind", skip, 1, GNTST_no_space);
		assert_true(guest_connect(&d, NULL) < 0);
		pv_hub_inject(rig.dom0, d.domid, "bind", 0, 0, 0);
	}
	assert_int_equal(guest_connect(&d, NULL), 0);
	exchange(&d, &peers.a, 100, 1);
	guest_down(&d);
}

/* ---- event storm ---- */

struct storm {
	struct net_guest *g;
	uint64_t sent;
	bool stop; /* atomic */
};

static void *storm(void *arg)
{
	struct storm *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		for (unsigned i = 0; i < 64; i++)
			pv_evt_notify(s->g->h, s->g->q[0].tx_port);
		s->sent += 64;
	}
	return NULL;
}

/* XSA-331: the storm of one guest is heard seldom, and the others are served meanwhile. */
static void xsa331_event_storm(void **state)
{
	struct storm s = { .g = &c };
	int64_t events, end = rig_ms() + PATIENCE;
	bool penance = false;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, storm, &s), 0); /* the handle is this thread's until it is joined */
	for (unsigned i = 0; i < 200; i++) {
		exchange(&peers.a, &peers.b, 100, i);
		exchange(&peers.b, &peers.a, 1000, i);
	}
	guest_stat_reaches(&c, NULL, "spurious", 20);
	while (!penance && rig_ms() < end) {
		struct json_object *q;

		assert_int_equal(guest_call(&c, "inspect"), 0);
		q = json_object_array_get_idx(json_object_object_get(rig_last.result, "queues"), 0);
		penance = !strcmp(json_object_get_string(json_object_object_get(q, "state")), "penance");
	}
	assert_true(penance);
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	events = guest_stat(&c, NULL, "events");
	if ((uint64_t)events * 10 > s.sent)
		fail_msg("%llu notifications were heard %lld times", (unsigned long long)s.sent, (long long)events);
	exchange(&c, &peers.b, 100, 1); /* and it is heard again */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(xsa392_guest_posts_nothing, up, down),
		cmocka_unit_test_setup_teardown(xsa392_hoarders_give_way, up, down),
		cmocka_unit_test_setup_teardown(xsa392_stall_counts_slots, up, down),
		cmocka_unit_test_setup_teardown(stalled_guest_costs_no_turns, up, down),
		cmocka_unit_test_setup_teardown(xsa39_rx_producer_impossible, up, down),
		cmocka_unit_test_setup_teardown(xsa39_rx_producer_goes_wrong, up, down),
		cmocka_unit_test_setup_teardown(guest_posts_and_never_consumes, up, down),
		cmocka_unit_test_setup_teardown(gref_bad_fails_its_packet_alone, up, down),
		cmocka_unit_test_setup_teardown(gref_read_only_is_not_written, up, down),
		cmocka_unit_test_setup_teardown(grants_revoked_under_use, up, down),
		cmocka_unit_test_setup_teardown(copies_failing_at_random, up, down),
		cmocka_unit_test_setup_teardown(disconnect_under_traffic, up, down),
		cmocka_unit_test_setup_teardown(domain_gone_under_traffic, up, down),
		cmocka_unit_test_setup_teardown(connect_with_bad_references, up, down),
		cmocka_unit_test_setup_teardown(connect_that_fails_is_told_once, up, down),
		cmocka_unit_test_setup_teardown(xsa300_choice_beyond_the_offer_is_refused, up, down),
		cmocka_unit_test_setup_teardown(connect_when_resources_run_out, up, down),
		cmocka_unit_test_setup_teardown(xsa331_event_storm, up, down),
	};

	rig_poll_us = "5";
	return rig_run_group(tests);
}
