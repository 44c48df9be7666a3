/* What dom0 changes of a connected vif, limits among it; and what polite guests get beside a greedy one. With one worker and with two. */
#include "net_rig.h"

enum { LEN = 1514, SENDERS = 8, GREEDY = 7, POLITE_PACKETS = 200 };

static uint8_t sent[65536], got[65536];

static int guest_set(const struct net_guest *g, const char *config)
{
	struct pv_device_id id = guest_device(g);
	struct json_object *params = pv_device_id_to_json(&id);

	json_object_object_add(params, "config", json_tokener_parse(config));
	return rig_call("set", params);
}

static void must_set(const struct net_guest *g, const char *config)
{
	if (guest_set(g, config))
		fail_msg("set %s: %s", config, rig_last.message);
}

/* Let n packets of LEN bytes wait in a queue's ring (n <= TX_PAGES). */
static void send_many(struct net_guest *from, unsigned queue, const struct net_guest *to, unsigned n)
{
	frame(sent, to->mac, from->mac, LEN, queue);
	for (unsigned i = 0; i < n; i++)
		tx_packet(from, queue, i, sent, LEN);
	tx_publish(from, queue);
}

/* ---- limits ---- */

/* However fast the machine, never more than was allowed in the time that has passed. */
static void rate_holds_over_two_queues(void **state)
{
	enum { ROUNDS = 12, EACH = 50, RATE = 5000000 /* bytes a second */ };
	int64_t begin, bytes = 2ll * ROUNDS * EACH * LEN;
	struct net_guest g = { .nq = 0 };
	double most;

	(void)state;
	guest_up(&g, 2, ALL_FEATURES, "{\"rate-tx\":\"40M\"}");
	begin = rig_ms();
	for (unsigned i = 0; i < ROUNDS; i++) {
		for (unsigned q = 0; q < 2; q++)
			send_many(&g, q, &g, EACH); /* to itself: nobody gets it */
		for (unsigned q = 0; q < 2; q++)
			assert_true(tx_answers(&g, q, EACH, NULL, PATIENCE));
	}
	most = (double)(rig_ms() + 1 - begin) / 1000 * RATE * 1.02 + RATE / 100 /* the burst */ + 2 * 64 * LEN;
	if ((double)bytes > most)
		fail_msg("%lld bytes passed, not %.0f at most", (long long)bytes, most);
	assert_int_equal(guest_stat(&g, NULL, "tx_bytes"), bytes);
	assert_true(guest_stat(&g, NULL, "tx_limited") > 0);
	guest_down(&g);
	rig_check();
}

/* A packet in 0.15 s: who is beyond its limit waits without polling, and goes on as soon as it may. */
static void limit_goes_while_packets_wait(void **state)
{
	struct net_guest g = { .nq = 0 };
	int64_t turns;

	(void)state;
	guest_up(&g, 1, ALL_FEATURES, "{\"rate-tx\":\"80k\"}");
	send_many(&g, 0, &g, 40);
	guest_stat_reaches(&g, NULL, "tx_limited", 1);
	turns = guest_stat(&g, "backend", "turns");
	usleep(200000);
	assert_true(guest_stat(&g, "backend", "turns") - turns < 2000); /* a polling worker makes as many in a millisecond or two */
	must_set(&g, "{}");
	assert_true(tx_answers(&g, 0, 40, NULL, PATIENCE)); /* with the limit: in 6 s */
	must_set(&g, "{\"rate-tx\":\"10G\",\"pps-tx\":\"1M\",\"burst\":\"1M\"}");
	send_many(&g, 0, &g, 40);
	assert_true(tx_answers(&g, 0, 40, NULL, PATIENCE));
	guest_down(&g);
	rig_check();
}

static void limit_to_a_guest_lets_packets_wait(void **state)
{
	struct net_guest g = { .nq = 0 };

	(void)state;
	guest_up(&g, 1, ALL_FEATURES, "{\"rate-rx\":\"80k\"}");
	rx_post(&g, 0, 64);
	send_many(&peers.a, 0, &g, 40);
	assert_true(tx_answers(&peers.a, 0, 40, NULL, PATIENCE)); /* the sender does not feel it */
	guest_stat_reaches(&g, NULL, "rx_limited", 1);
	must_set(&g, "{\"pps-rx\":\"1M\"}");
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(rx_packet(&g, 0, got, NULL, PATIENCE), LEN);
	assert_int_equal(guest_stat(&g, NULL, "rx_full"), 0);
	guest_down(&g);
	rig_check();
}

/* ---- the other keys ---- */

static void mtu_carrier_and_mac_change_while_connected(void **state)
{
	struct net_guest g = { .nq = 0 };
	static const uint8_t other[6] = { 2, 0, 0, 0, 0, 0x77 };
	uint8_t old[6];

	(void)state;
	guest_up(&g, 1, ALL_FEATURES, LARGE_MTU);
	exchange(&peers.a, &g, 9000, 1);
	must_set(&g, "{\"mtu\":\"1000\"}");
	send_many(&peers.a, 0, &g, 1);
	assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	guest_stat_reaches(&g, NULL, "rx_too_big", 1);
	must_set(&g, "{\"mtu\":\"9000\",\"carrier\":\"0\"}");
	send_many(&g, 0, &peers.a, 3);
	assert_true(tx_answers(&g, 0, 3, NULL, PATIENCE));
	guest_stat_reaches(&g, NULL, "tx_bad", 3);
	must_set(&g, LARGE_MTU);
	exchange(&peers.a, &g, 9000, 2);
	exchange(&g, &peers.a, 9000, 3);
	memcpy(old, g.mac, 6);
	must_set(&g, "{\"mtu\":\"65521\",\"mac\":\"02:00:00:00:00:77\"}");
	memcpy(g.mac, other, 6);
	exchange(&peers.a, &g, 1000, 4);
	exchange(&g, &peers.a, 1000, 5);
	memcpy(g.mac, old, 6); /* a driver that has not heard of it is known by both */
	exchange(&g, &peers.a, 1000, 6);
	exchange(&peers.a, &g, 1000, 7);
	guest_down(&g);
	rig_check();
}

static void what_cannot_change_changes_nothing(void **state)
{
	struct net_guest g = { .nq = 0 };

	(void)state;
	guest_up(&g, 1, ALL_FEATURES, LARGE_MTU);
	assert_int_equal(guest_set(&g, "{\"mtu\":\"100\",\"queues\":\"1\"}"), -EBUSY);
	assert_non_null(strstr(rig_last.message, "queues"));
	assert_int_equal(guest_set(&g, "{\"mtu\":\"100\",\"rate-tx\":\"fast\"}"), -EINVAL);
	assert_int_equal(guest_set(&g, "{\"mtu\":\"100\",\"color\":\"red\"}"), -EINVAL);
	exchange(&peers.a, &g, 9000, 1);
	guest_down(&g);
	assert_int_equal(guest_set(&peers.a, LARGE_MTU), 0); /* as it is */
	rig_check();
}

/* ---- a fair share ---- */

struct crowd {
	struct net_guest sender[SENDERS], sink;
	unsigned offered[SENDERS], delivered[SENDERS], waiting[SENDERS];
};

static void crowd_up(struct crowd *c, unsigned greedy_queues)
{
	for (unsigned i = 0; i < SENDERS; i++)
		guest_up(&c->sender[i], i == GREEDY ? greedy_queues : 1, ALL_FEATURES, NULL);
	guest_up(&c->sink, 1, ALL_FEATURES, NULL);
}

static void crowd_down(struct crowd *c)
{
	for (unsigned i = 0; i < SENDERS; i++)
		guest_down(&c->sender[i]);
	guest_down(&c->sink);
}

/* Let the receiver have up to n slots free, and count what came by who sent it. */
static void drain(struct crowd *c, unsigned n, int ms)
{
	struct pv_ring *rx = &c->sink.q[0].rx;
	unsigned posted = rx->nr - pv_ring_room(rx);

	rx_post(&c->sink, 0, posted < n ? n - posted : 0);
	while (rx_packet(&c->sink, 0, got, NULL, ms))
		for (unsigned i = 0; i < SENDERS; i++)
			c->delivered[i] += !memcmp(got + 6, c->sender[i].mac, 6);
}

static int64_t sink_backlog(const struct crowd *c)
{
	struct json_object *q;

	assert_int_equal(guest_call(&c->sink, "inspect"), 0);
	q = json_object_array_get_idx(json_object_object_get(rig_last.result, "queues"), 0);
	return json_object_get_int64(json_object_object_get(q, "rx_backlog_packets"));
}

/* Until nothing waits for it any more. */
static void drain_all(struct crowd *c)
{
	do
		drain(c, RX_PAGES / 2, 20);
	while (sink_backlog(c) > 0);
	drain(c, 0, 20);
}

/* Take the answers of a queue, and offer n packets more, as far as they have room. */
static void offer(struct crowd *c, unsigned i, unsigned queue, unsigned n, unsigned *inflight)
{
	struct net_guest *g = &c->sender[i];
	int ready = pv_ring_ready(&g->q[queue].tx);

	assert_true(ready >= 0);
	assert_true(tx_answers(g, queue, (unsigned)ready, NULL, PATIENCE));
	*inflight -= (unsigned)ready;
	frame(sent, c->sink.mac, g->mac, 100, i);
	for (; n && *inflight < TX_PAGES; n--, ++*inflight, c->offered[i]++)
		tx_packet(g, queue, g->q[queue].tx.prod % TX_PAGES, sent, 100);
	tx_publish(g, queue);
}

static void settle(struct crowd *c, unsigned i, unsigned queue, unsigned inflight)
{
	assert_true(tx_answers(&c->sender[i], queue, inflight, NULL, PATIENCE));
}

/* A receiver posts nothing, and one sender fills what may wait for it: those who come later find their room. */
static void late_senders_find_room_in_a_backlog(void **state)
{
	static struct crowd c;

	(void)state;
	memset(&c, 0, sizeof(c));
	crowd_up(&c, 1);
	for (unsigned round = 0; round < 40; round++) {
		send_many(&c.sender[GREEDY], 0, &c.sink, TX_PAGES);
		assert_true(tx_answers(&c.sender[GREEDY], 0, TX_PAGES, NULL, PATIENCE));
	}
	assert_true(guest_stat(&c.sink, NULL, "rx_full") > 0);
	for (unsigned i = 0; i < GREEDY; i++) {
		send_many(&c.sender[i], 0, &c.sink, 10);
		settle(&c, i, 0, 10);
	}
	drain_all(&c);
	for (unsigned i = 0; i < GREEDY; i++)
		assert_int_equal(c.delivered[i], 10);
	assert_true(c.delivered[GREEDY] < 40 * TX_PAGES);
	crowd_down(&c);
	rig_check();
}

/* A receiver takes 32 packets each time that seven offer one each, and one on three queues as much as it can. */
static void polite_guests_get_theirs_beside_a_greedy_one(void **state)
{
	unsigned inflight[SENDERS] = { 0 }, greedy[3] = { 0 };
	static struct crowd c;

	(void)state;
	memset(&c, 0, sizeof(c));
	crowd_up(&c, 3);
	while (c.offered[0] < POLITE_PACKETS) {
		for (unsigned q = 0; q < 3; q++)
			offer(&c, GREEDY, q, TX_PAGES, &greedy[q]);
		for (unsigned i = 0; i < GREEDY; i++)
			offer(&c, i, 0, 1, &inflight[i]);
		drain(&c, 32, 2);
	}
	for (unsigned q = 0; q < 3; q++)
		settle(&c, GREEDY, q, greedy[q]);
	for (unsigned i = 0; i < GREEDY; i++)
		settle(&c, i, 0, inflight[i]);
	drain_all(&c);
	assert_true(c.delivered[GREEDY] < c.offered[GREEDY]); /* it was too much */
	for (unsigned i = 0; i < GREEDY; i++)
		if (c.delivered[i] < c.offered[i] * 0.96)
			fail_msg("sender %u: %u of %u", i, c.delivered[i], c.offered[i]);
	crowd_down(&c);
	rig_check();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rate_holds_over_two_queues),
		cmocka_unit_test(limit_goes_while_packets_wait),
		cmocka_unit_test(limit_to_a_guest_lets_packets_wait),
		cmocka_unit_test(mtu_carrier_and_mac_change_while_connected),
		cmocka_unit_test(what_cannot_change_changes_nothing),
		cmocka_unit_test(late_senders_find_room_in_a_backlog),
		cmocka_unit_test(polite_guests_get_theirs_beside_a_greedy_one),
	};

	return rig_run_group_twice(tests);
}
