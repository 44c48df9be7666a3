/* A guest that does what it must not without pause, while two neighbours exchange a counted stream of packets through the same backend:
 * they get at least 0.96 of what they are sent, whatever the guest does meanwhile. With one worker, which all share, and with two.
 * PVIO_TEST_LONG=1: the storms are longer, and 10,000 connections. */
#include "net_rig.h"
#include <pthread.h>

enum { WINDOW = 32, PAYLOAD = 100, AT_LEAST = 2000 /* packets of the neighbours during a storm */, PERCENT = 96 };

static struct net_guest c, d; /* the hostile one, and its accomplice */
static uint8_t sent[65536];

static unsigned times(unsigned n)
{
	const char *s = getenv("PVIO_TEST_LONG");

	return s && *s ? n * 30 : n;
}

/* ---- the neighbours ---- */

/* Owner: its thread, which is the only one to touch the neighbours' handles until it is joined. It never asserts: `failed` says. */
struct stream {
	pthread_t thread;
	bool stop; /* atomic */
	unsigned long offered, delivered; /* atomic */
	const char *failed;
	uint32_t round;
	bool marked; /* the last packet of this round has arrived */
};

static struct stream stream;

static void stream_packet(unsigned page, uint32_t n)
{
	struct net_guest *a = &peers.a;
	uint8_t *p = a->q[0].tx_data + page * PV_PAGE_SIZE;

	frame(p, peers.b.mac, a->mac, PAYLOAD, n);
	memcpy(p + 14, &stream.round, 4);
	memcpy(p + 18, &n, 4);
	tx_slot(a, 0, page, 0, PAYLOAD, 0);
}

static void stream_received(const uint8_t *p, unsigned len)
{
	uint32_t round, n;

	if (len != PAYLOAD || memcmp(p + 6, peers.a.mac, 6))
		return; /* a stray of somebody else's */
	memcpy(&round, p + 14, 4);
	memcpy(&n, p + 18, 4);
	for (unsigned i = 22; i < len; i++)
		if (p[i] != (uint8_t)(n + i * 31))
			stream.failed = "a packet was changed on its way";
	if (memcmp(p, peers.b.mac, 6))
		stream.failed = "a packet went to another address";
	if (round != stream.round)
		return; /* a marker that was sent once more */
	if (n < WINDOW)
		__atomic_fetch_add(&stream.delivered, 1, __ATOMIC_RELAXED); /* a counter orders nothing */
	else
		stream.marked = true;
}

/* Take all that is there for b and post as much again. */
static void stream_take(void)
{
	struct net_queue *q = &peers.b.q[0];
	union pv_net_rx_slot slots[24];
	struct pv_net_rx_packet p;
	int ready = pv_ring_ready(&q->rx);
	unsigned n = 0, taken = 0;

	for (; ready > 0 && n < 24; ready--, taken++) {
		int used;

		pv_net_rx_take_rsp(&q->rx, &slots[n++]);
		used = pv_net_rx_parse(slots, n, &p);
		if (used < 0 || (used && p.error))
			stream.failed = "a bad packet was received";
		if (used > 0 && p.nr == 1)
			stream_received(q->rx_data + p.frag[0].id * PV_PAGE_SIZE + p.frag[0].offset, p.len);
		if (used)
			n = 0;
	}
	if (ready < 0 || n == 24)
		stream.failed = "the backend broke the protocol";
	rx_post(&peers.b, 0, taken);
}

/* Take a's answers; true: n are still to come. */
static bool stream_answered(unsigned *n)
{
	struct net_queue *q = &peers.a.q[0];
	int ready = pv_ring_ready(&q->tx);
	struct netif_tx_response r;

	for (; ready > 0; ready--, --*n) {
		pv_net_tx_take_rsp(&q->tx, &r);
		if (r.status != NETIF_RSP_OKAY)
			stream.failed = "a neighbour's good packet was refused";
	}
	return *n;
}

/* A window of packets and a marker behind them, which is sent again until it arrives: what was before it has then arrived, or never will. */
static void stream_round(void)
{
	int64_t end = rig_ms() + PATIENCE, again = 0;
	unsigned answers = WINDOW;

	stream.round++;
	stream.marked = false;
	for (uint32_t n = 0; n < WINDOW; n++)
		stream_packet(n, n);
	tx_publish(&peers.a, 0);
	while ((stream_answered(&answers) || !stream.marked) && !stream.failed) {
		if (!answers && rig_ms() >= again) {
			stream_packet(WINDOW, WINDOW);
			tx_publish(&peers.a, 0);
			answers++;
			again = rig_ms() + 100;
		}
		stream_take();
		if (rig_ms() > end)
			stream.failed = "the neighbours' packets do not move";
		usleep(20);
	}
	__atomic_fetch_add(&stream.offered, WINDOW, __ATOMIC_RELAXED);
}

static void *stream_main(void *arg)
{
	(void)arg;
	rx_post(&peers.b, 0, RX_PAGES);
	while (!__atomic_load_n(&stream.stop, __ATOMIC_RELAXED) && !stream.failed)
		stream_round();
	return NULL;
}

/* Do it `rounds` times, and on until the neighbours have been sent enough. */
static void storm(void (*attack)(unsigned round), unsigned rounds)
{
	int64_t end = rig_ms() + 10 * PATIENCE;
	unsigned long offered, delivered;

	stream = (struct stream){ .round = 0 };
	assert_int_equal(pthread_create(&stream.thread, NULL, stream_main, NULL), 0);
	for (unsigned i = 0; i < rounds || (__atomic_load_n(&stream.offered, __ATOMIC_RELAXED) < AT_LEAST && rig_ms() < end); i++)
		attack(i);
	__atomic_store_n(&stream.stop, true, __ATOMIC_RELAXED);
	pthread_join(stream.thread, NULL);
	offered = stream.offered, delivered = stream.delivered;
	if (stream.failed)
		fail_msg("%s", stream.failed);
	assert_true(offered >= AT_LEAST);
	if (delivered * 100 < offered * PERCENT)
		fail_msg("of the neighbours' %lu packets %lu arrived", offered, delivered);
	guest_again(&peers.a, LARGE_MTU);
	guest_again(&peers.b, LARGE_MTU);
}

/* ---- storms ---- */

static int up(void **state)
{
	(void)state;
	guest_up(&c, 2, ALL_FEATURES, LARGE_MTU);
	guest_up(&d, 1, ALL_FEATURES, LARGE_MTU);
	return 0;
}

static int down(void **state)
{
	(void)state;
	guest_down(&c);
	guest_down(&d);
	rig_check();
	assert_int_equal(rig.broken, 0);
	return 0;
}

/* The accomplice sends n packets to the hostile one; what it is answered is its own affair. */
static void d_sends(unsigned n, unsigned len)
{
	unsigned pages = (len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE;

	frame(sent, c.mac, d.mac, len, n);
	while (n--) {
		tx_packet(&d, 0, 0, sent, len);
		tx_publish(&d, 0);
		assert_true(tx_answers(&d, 0, pages, NULL, PATIENCE));
	}
}

static void events(unsigned round)
{
	(void)round;
	for (unsigned i = 0; i < 256; i++)
		pv_evt_notify(c.h, i & 1 ? c.q[i / 2 % 2].tx_port : c.q[i / 2 % 2].rx_port);
}

static void xsa331_events(void **state)
{
	(void)state;
	storm(events, times(1000));
	assert_true(guest_stat(&c, NULL, "spurious") > 0);
	exchange(&d, &c, 100, 1); /* it is heard again */
}

/* A packet without a notification, a notification without a packet; always asking to be told, of the next and of the last; pages one
 * by one: the backend arms and rests each time. */
static void toggle(unsigned round)
{
	struct net_queue *q = &c.q[round % 2];

	__atomic_store_n(&q->tx.shared->rsp_event, q->tx.shared->rsp_prod + (round & 1), __ATOMIC_RELAXED);
	__atomic_store_n(&q->rx.shared->rsp_event, q->rx.shared->rsp_prod + 1, __ATOMIC_RELAXED);
	if (round % 3 == 0) {
		frame(q->tx_data, d.mac, c.mac, 60, 1);
		tx_slot(&c, round % 2, 0, 0, 60, 0);
		pv_ring_publish(&q->tx);
	} else {
		pv_evt_notify(c.h, q->tx_port);
	}
	if (round % 5 == 0 && q->rx.prod - q->rx.cons < 256)
		rx_post(&c, round % 2, 1);
	if (q->tx.prod - q->tx.cons > 200)
		assert_true(tx_answers(&c, round % 2, 200, NULL, PATIENCE));
}

static void ring_toggled(void **state)
{
	(void)state;
	storm(toggle, times(10000));
}

static void hoard(unsigned round)
{
	d_sends(8, round % 4 ? 60 : 60000);
}

/* XSA-392: packets for a guest that posts nothing are bounded in bytes, dropped and counted. */
static void xsa392_posts_nothing(void **state)
{
	struct json_object *q;

	(void)state;
	storm(hoard, times(200));
	assert_true(guest_stat(&c, NULL, "rx_full") > 0);
	assert_int_equal(guest_call(&c, "inspect"), 0);
	for (unsigned i = 0; i < 2; i++) {
		q = json_object_array_get_idx(json_object_object_get(rig_last.result, "queues"), i);
		assert_in_range(json_object_get_int64(json_object_object_get(q, "rx_backlog_bytes")), 0, 2 << 20);
	}
}

static void consume_nothing(unsigned round)
{
	for (unsigned i = 0; round == 0 && i < 256; i++)
		tx_slot(&c, 0, 0, 0, 60, 0);
	pv_ring_publish(&c.q[0].tx);
	pv_evt_notify(c.h, c.q[0].tx_port);
	pv_evt_notify(c.h, c.q[0].rx_port);
	d_sends(8, 60);
}

static void posts_and_never_consumes(void **state)
{
	(void)state;
	frame(c.q[0].tx_data, d.mac, c.mac, 60, 1);
	rx_post(&c, 0, 256);
	rx_post(&c, 1, 256);
	storm(consume_nothing, times(200));
	guest_stat_reaches(&c, NULL, "tx_packets", 256);
	assert_int_equal(guest_stat(&c, NULL, "tx_packets"), 256);
}

/* Pages that are granted, used and taken back under the backend's hands; some slots name those that were taken back long ago. */
static void use_and_revoke(unsigned round)
{
	struct net_queue *q = &c.q[round % 2];
	uint32_t old = q->tx_grefs[1], grefs[8];
	uint8_t *page;

	assert_int_equal(pv_gnt_share(c.h, 0, 8, true, NULL, grefs, (void **)&page), 0);
	frame(page, d.mac, c.mac, 60, round);
	for (unsigned i = 0; i < 4 && q->rx.prod - q->rx.cons < 256; i++)
		pv_net_rx_fill(&q->rx, (uint16_t)(q->rx.prod % 256), grefs[4 + i]);
	pv_ring_publish(&q->rx);
	for (unsigned i = 0; i < 4; i++)
		pv_net_tx_fill(&q->tx, i == 3 ? old : grefs[0], 0, 0, (uint16_t)i, 60);
	tx_publish(&c, round % 2);
	if (round % 3 == 0)
		d_sends(4, 60);
	assert_int_equal(pv_gnt_unshare(c.h, page, 8), 0);
	q->tx_grefs[1] = grefs[1];
	assert_true(tx_answers(&c, round % 2, 4, NULL, PATIENCE));
}

static void grants_revoked(void **state)
{
	(void)state;
	storm(use_and_revoke, times(300));
	assert_true(guest_stat(&c, NULL, "tx_copy_failed") + guest_stat(&c, NULL, "rx_copy_failed") > 0);
}

/* Broken in another way each time; told to pviod once each time, and connected anew. */
static void offend(unsigned round)
{
	struct net_queue *q = &c.q[round % 2];

	switch (round % 4) {
	case 0:
		tx_slot(&c, round % 2, 0, 4000, 100, 0);
		break;
	case 1:
		for (unsigned i = 0; i < 22; i++)
			tx_slot(&c, round % 2, 0, 0, 64, NETTXF_more_data);
		break;
	case 2:
		tx_slot(&c, round % 2, 0, 0, 64, NETTXF_extra_info);
		break;
	default:
		__atomic_store_n(&q->tx.shared->req_prod, q->tx.prod + 1000 + round, __ATOMIC_RELEASE);
	}
	if (round % 4 != 3)
		pv_ring_publish(&q->tx);
	pv_evt_notify(c.h, q->tx_port);
	wait_broken(&c); /* once: a second report would be left over in down() */
	guest_rings_reset(&c);
	assert_int_equal(guest_connect(&c, LARGE_MTU), 0);
}

static void offends_again_and_again(void **state)
{
	unsigned rounds = times(100), lines = rig_log_count(" of guest");
	int64_t began = rig_ms();

	(void)state;
	storm(offend, rounds);
	lines = rig_log_count(" of guest") - lines;
	assert_in_range(lines, 1, 10 + 1 + (rig_ms() - began) / 1000); /* XSA-157: a burst of ten, then one a second */
}

/* ---- connect and disconnect at random points ---- */

static unsigned seed;

static unsigned rnd(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

static void some_traffic(void)
{
	unsigned i = rnd(2);

	if (rnd(2))
		rx_post(&c, i, rnd(100));
	frame(c.q[i].tx_data, d.mac, c.mac, 60, 1);
	for (unsigned n = rnd(40); n--;)
		tx_slot(&c, i, 0, 0, 60, 0);
	if (rnd(4))
		tx_publish(&c, i);
	if (rnd(2)) {
		frame(d.q[0].tx_data, c.mac, d.mac, 60, 1);
		tx_slot(&d, 0, 0, 0, 60, 0);
		tx_publish(&d, 0);
		assert_true(tx_answers(&d, 0, 1, NULL, PATIENCE));
	}
	if (rnd(4) == 0)
		usleep(rnd(300));
}

static void reconnect(unsigned round)
{
	static const char *const calls[] = { "disconnect", "disconnect", "remove", "prepare" };
	struct pv_noxs_choice choice;

	(void)round;
	some_traffic();
	if (rnd(5)) /* else: another choice while it is connected */
		guest_call(&c, calls[rnd(4)]);
	if (rnd(8) == 0)
		guest_call(&c, "disconnect"); /* once more */
	guest_rings_reset(&c);
	if (rnd(4) == 0)
		some_traffic(); /* published before anybody looks */
	if (rnd(6) == 0) { /* one that fails half way */
		choice = guest_choice(&c);
		*(&choice.vif[rnd(2)].tx_gref + rnd(4)) = 0xfffffff0u;
		assert_true(rig_connect(guest_device(&c), json_tokener_parse(LARGE_MTU), &choice) < 0);
	}
	c.features = rnd(2) ? ALL_FEATURES : 0;
	assert_int_equal(guest_connect(&c, LARGE_MTU), 0);
}

static void connects_at_random_points(void **state)
{
	(void)state;
	seed = (unsigned)time(NULL);
	printf("seed %u\n", seed);
	storm(reconnect, times(334)); /* 10,000 at length */
	guest_again(&c, LARGE_MTU);
	guest_again(&d, LARGE_MTU); /* it got strays */
	guest_stat(&c, NULL, "mtu"); /* what pviod was told before this answer was of rings that were reset under the backend */
	rig.broken = 0;
	exchange(&c, &d, 100, 1);
}

static void die(unsigned round)
{
	some_traffic();
	if (round & 1)
		pv_hyper_close(c.h); /* its process dies first */
	assert_int_equal(guest_call(&c, "disconnect"), 0);
	assert_int_equal(guest_call(&c, "remove"), 0);
	if (!(round & 1))
		pv_hyper_close(c.h);
	assert_int_equal(pv_hub_domain_destroy(rig.dom0, c.domid), 0);
	guest_up(&c, 2, ALL_FEATURES, LARGE_MTU);
}

static void domain_dies_again_and_again(void **state)
{
	(void)state;
	rig_needs_hub();
	seed = (unsigned)time(NULL);
	storm(die, times(30));
}

/* ---- headers rewritten while the backend looks ---- */

struct rewriter {
	bool stop; /* atomic */
};

/* The destination turns from one address to the other, byte by byte and without pause; so does the packet's kind. */
static void *rewrite(void *arg)
{
	struct rewriter *r = arg;
	uint8_t *p = c.q[0].tx_data;

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED))
		for (unsigned i = 0; i < 2; i++) {
			for (unsigned j = 0; j < 6; j++)
				((volatile uint8_t *)p)[j] = (i ? d.mac : c.mac)[j];
			((volatile uint8_t *)p)[14] = i ? 0x45 : 0x4f; /* length of the IP header */
			((volatile uint8_t *)p)[23] = i ? 6 : 17; /* TCP, UDP */
		}
	return NULL;
}

static struct rewriter rewriter;

static void send_rewritten(unsigned round)
{
	unsigned len = 14 + 20 + 20 + 1000;

	for (unsigned i = 0; i < 8; i++)
		tx_slot(&c, 0, 0, 0, len, round & 1 ? NETTXF_csum_blank : 0);
	tx_publish(&c, 0);
	assert_true(tx_answers(&c, 0, 8, NULL, PATIENCE));
}

/* What leaves is what was looked at: a guest gets only what is for its address, however the sender changes its page. */
static void headers_rewritten(void **state)
{
	struct net_queue *q = &d.q[0];
	pthread_t thread;
	int ready;

	(void)state;
	tcp_frame(c.q[0].tx_data, V4, d.mac, c.mac, 1000, 1);
	rx_post(&d, 0, RX_PAGES);
	rewriter.stop = false;
	assert_int_equal(pthread_create(&thread, NULL, rewrite, &rewriter), 0);
	storm(send_rewritten, times(300));
	__atomic_store_n(&rewriter.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_int_equal(guest_call(&d, "disconnect"), 0); /* it is given nothing more */
	ready = pv_ring_ready(&q->rx);
	assert_true(ready > 0);
	while (ready--) {
		union pv_net_rx_slot slot;
		const uint8_t *to;

		pv_net_rx_take_rsp(&q->rx, &slot);
		assert_true(slot.rsp.status > 0);
		to = q->rx_data + slot.rsp.id * PV_PAGE_SIZE + slot.rsp.offset;
		for (unsigned i = 0; i < 6; i++) /* it may be torn, but then it is neither address, and was flooded */
			assert_true(to[i] == d.mac[i] || to[i] == c.mac[i]);
		assert_memory_not_equal(to, c.mac, 6);
	}
	guest_rings_reset(&d);
	assert_int_equal(guest_connect(&d, LARGE_MTU), 0);
}

/* ---- slots rewritten while the backend takes them ---- */

enum { SLOTS = 256, SLOTS_ROUND = 8 };

/* Words of both rings' slots turn from one value to another, all the time: most are right alone, and few together. */
static void *rewrite_slots(void *arg)
{
	struct rewriter *r = arg;
	const struct net_queue *q = &c.q[0];
	const struct pv_ring tx_ring = q->tx, rx_ring = q->rx;
	const uint32_t grefs[] = { q->tx_grefs[0], q->tx_grefs[1], q->rx_grefs[0], UINT32_MAX };
	const uint32_t sizes[] = { 60, 1000, 1000, 4000, 60, 65535, 13, 0 };
	const uint32_t flags[64] = { NETTXF_csum_blank, NETTXF_more_data, NETTXF_extra_info, NETTXF_more_data | NETTXF_extra_info };
	unsigned n = 0;

	for (; !__atomic_load_n(&r->stop, __ATOMIC_RELAXED); n = n * 1103515245 + 12345) {
		volatile uint32_t *tx = pv_ring_slot(&tx_ring, n >> 16), *rx = pv_ring_slot(&rx_ring, n >> 16);

		tx[0] = grefs[n >> 8 & 3];
		tx[1] = flags[n >> 10 & 63] << 16 | (n >> 16 & 31 ? 0 : 4000); /* and the offset */
		tx[2] = sizes[n >> 20 & 7] << 16; /* and the id */
		rx[0] = n >> 24 & 15; /* the id, rarely right */
		rx[1] = grefs[n >> 28 & 3];
	}
	return NULL;
}

static unsigned slots_broken, slots_answered;

/* Whatever its slots say, it is answered or broken. */
static void send_slots(unsigned round)
{
	struct net_queue *q = &c.q[0];
	int64_t end = rig_ms() + PATIENCE;
	int ready;

	(void)round;
	for (unsigned i = 0; i < SLOTS_ROUND; i++)
		pv_ring_fill(&q->tx); /* the other thread does */
	for (unsigned i = 0; i < SLOTS_ROUND && q->rx.prod - q->rx.cons < SLOTS; i++)
		pv_ring_fill(&q->rx);
	pv_ring_publish(&q->rx);
	tx_publish(&c, 0);
	d_sends(1, 60);
	do { /* a packet that has not ended waits for the next slots */
		rig_pump(0);
		ready = pv_ring_ready(&q->tx);
		assert_true(ready >= 0);
		q->tx.cons += (uint32_t)ready;
		slots_answered += (unsigned)ready;
		ready = pv_ring_ready(&q->rx);
		assert_true(ready >= 0);
		q->rx.cons += (uint32_t)ready;
		assert_true(rig_ms() < end);
	} while (!rig.broken && q->tx.prod - q->tx.cons > SLOTS - SLOTS_ROUND);
	if (rig.broken) {
		wait_broken(&c);
		slots_broken++;
		guest_rings_reset(&c);
		assert_int_equal(guest_connect(&c, LARGE_MTU), 0);
	}
}

static void slots_rewritten(void **state)
{
	pthread_t thread;

	(void)state;
	frame(c.q[0].tx_data, d.mac, c.mac, 60, 1);
	slots_broken = slots_answered = 0;
	rewriter.stop = false;
	assert_int_equal(pthread_create(&thread, NULL, rewrite_slots, &rewriter), 0);
	storm(send_slots, times(300));
	__atomic_store_n(&rewriter.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	print_message("%u slots answered, broken %u times\n", slots_answered, slots_broken);
	assert_true(slots_answered > 0 && slots_broken > 0);
	guest_again(&c, LARGE_MTU); /* of what it has not taken yet it takes nothing more */
	guest_stat(&c, NULL, "mtu"); /* what pviod is told of that has come before this answer */
	if (rig.broken)
		wait_broken(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(xsa331_events, up, down),
		cmocka_unit_test_setup_teardown(ring_toggled, up, down),
		cmocka_unit_test_setup_teardown(xsa392_posts_nothing, up, down),
		cmocka_unit_test_setup_teardown(posts_and_never_consumes, up, down),
		cmocka_unit_test_setup_teardown(grants_revoked, up, down),
		cmocka_unit_test_setup_teardown(offends_again_and_again, up, down),
		cmocka_unit_test_setup_teardown(connects_at_random_points, up, down),
		cmocka_unit_test_setup_teardown(domain_dies_again_and_again, up, down),
		cmocka_unit_test_setup_teardown(headers_rewritten, up, down),
		cmocka_unit_test_setup_teardown(slots_rewritten, up, down),
	};

	rig_poll_us = "5";
	return rig_run_group_twice(tests);
}
