/* What well-behaved guests get: flags carried or worked off, large packets whole or cut, floods, and the switch's choices. Each
 * with one worker and with two, whose queues hand packets to each other. */
#include "net_rig.h"

static uint8_t sent[65536], got[65536];

static unsigned send_tcp(struct net_guest *from, bool v6, const struct net_guest *to, unsigned payload, unsigned mss)
{
	unsigned len = tcp_frame(sent, v6, to->mac, from->mac, payload, 80);

	tx_tcp(from, sent, len, mss);
	return len;
}

/* It arrives as it was sent: its checksum is blank, and nobody has cut it. */
static void arrives_as_sent(struct net_guest *to, unsigned len, unsigned mss)
{
	struct pv_net_rx_packet p;

	assert_int_equal(rx_packet(to, 0, got, &p, PATIENCE), len);
	assert_int_equal(p.flags, NETRXF_csum_blank | NETRXF_data_validated);
	assert_int_equal(p.gso_size, mss);
	assert_int_equal(p.gso_type, !mss ? 0 : tcp_at(sent) == 54 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4);
	assert_memory_equal(got, sent, len);
}

/* It arrives in pieces of mss bytes, or in one, that are complete. */
static void arrives_complete(struct net_guest *to, unsigned len, unsigned mss)
{
	unsigned all = len - tcp_payload(sent), done = 0, n;
	static uint8_t piece[65536];
	struct pv_net_rx_packet p;

	for (; done < all; done += n - tcp_payload(sent)) {
		n = tcp_piece(piece, sent, len, done, mss ? mss : all);
		assert_int_equal(rx_packet(to, 0, got, &p, PATIENCE), n);
		assert_int_equal(p.flags, NETRXF_data_validated);
		assert_int_equal(p.gso_type, 0);
		assert_memory_equal(got, piece, n);
	}
}

static void csum_blank_is_carried(void **state)
{
	(void)state;
	for (int v6 = V4; v6 <= V6; v6++) {
		rx_post(&peers.b, 0, 1);
		arrives_as_sent(&peers.b, send_tcp(&peers.a, v6, &peers.b, 100, 0), 0);
	}
	rig_no_leaks();
}

/* ... and carried in the other family, which it can. */
static void csum_blank_is_completed_for_who_cannot(void **state)
{
	struct net_guest c = { 0 };

	(void)state;
	for (int v6 = V4; v6 <= V6; v6++) {
		guest_up(&c, 1, PV_VIF_SG | (v6 ? PV_VIF_CSUM_IPV4 : PV_VIF_CSUM_IPV6), NULL);
		rx_post(&c, 0, 3);
		arrives_complete(&c, send_tcp(&peers.a, v6, &c, 100, 0), 0);
		arrives_complete(&c, send_tcp(&peers.a, v6, &c, 101, 0), 0);
		arrives_as_sent(&c, send_tcp(&peers.a, !v6, &c, 100, 0), 0);
		guest_down(&c);
	}
	rig_no_leaks();
}

static void gso_is_carried_whole(void **state)
{
	(void)state;
	for (int v6 = V4; v6 <= V6; v6++) {
		rx_post(&peers.b, 0, 17);
		arrives_as_sent(&peers.b, send_tcp(&peers.a, v6, &peers.b, 60000, 1448), 1448);
		rx_post(&peers.b, 0, 1); /* one was left of 17: 15 pages and the extra-info; now two */
		exchange(&peers.a, &peers.b, 100, 5);
	}
	rig_no_leaks();
}

/* ... and carried whole in the other family, which it can. */
static void gso_is_cut_for_who_cannot(void **state)
{
	struct net_guest c = { 0 };

	(void)state;
	for (int v6 = V4; v6 <= V6; v6++) {
		guest_up(&c, 1, ALL_FEATURES & ~(v6 ? PV_VIF_GSO_TCPV6 : PV_VIF_GSO_TCPV4), NULL);
		rx_post(&c, 0, 80);
		arrives_complete(&c, send_tcp(&peers.a, v6, &c, 60000, 1448), 1448);
		arrives_as_sent(&c, send_tcp(&peers.a, !v6, &c, 60000, 1448), 1448);
		guest_down(&c);
	}
	rig_no_leaks();
}

static void sg_less_guest_gets_no_large_packet(void **state)
{
	struct net_guest c = { 0 };

	(void)state;
	guest_up(&c, 1, 0, "{\"mtu\":\"9000\"}");
	rx_post(&c, 0, 10);
	frame(sent, c.mac, peers.a.mac, 5000, 1);
	tx_packet(&peers.a, 0, 0, sent, 5000);
	frame(sent, c.mac, peers.a.mac, 4096, 1);
	tx_packet(&peers.a, 0, 2, sent, 4096);
	tx_publish(&peers.a, 0);
	assert_int_equal(rx_packet(&c, 0, got, NULL, PATIENCE), 4096);
	assert_true(tx_answers(&peers.a, 0, 3, NULL, PATIENCE));
	assert_int_equal(guest_stat(&c, NULL, "rx_too_big"), 1);
	guest_down(&c);
	rig_no_leaks();
}

static void larger_than_mtu_is_dropped(void **state)
{
	struct net_guest c = { 0 };

	(void)state;
	guest_up(&c, 1, ALL_FEATURES, "{\"mtu\":\"1500\"}");
	rx_post(&c, 0, 10);
	frame(sent, c.mac, peers.a.mac, 1523, 1);
	tx_packet(&peers.a, 0, 0, sent, 1523);
	frame(sent, c.mac, peers.a.mac, 1514, 2);
	tx_packet(&peers.a, 0, 1, sent, 1514);
	tx_publish(&peers.a, 0);
	assert_int_equal(rx_packet(&c, 0, got, NULL, PATIENCE), 1514);
	assert_true(tx_answers(&peers.a, 0, 2, NULL, PATIENCE));
	guest_down(&c);
	rig_no_leaks();
}

static void broadcast_reaches_all_but_the_sender(void **state)
{
	static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 };
	struct net_guest c = { 0 }, d = { 0 };

	(void)state;
	guest_up(&c, 1, 0, NULL);
	guest_up(&d, 1, ALL_FEATURES, "{\"carrier\":\"0\"}"); /* its link is down */
	rx_post(&peers.a, 0, 1);
	rx_post(&peers.b, 0, 1);
	rx_post(&c, 0, 1);
	rx_post(&d, 0, 1);
	frame(sent, all, peers.a.mac, 100, 3);
	tx_packet(&peers.a, 0, 0, sent, 100);
	tx_publish(&peers.a, 0);
	assert_int_equal(rx_packet(&peers.b, 0, got, NULL, PATIENCE), 100);
	assert_memory_equal(got, sent, 100);
	assert_int_equal(rx_packet(&c, 0, got, NULL, PATIENCE), 100);
	assert_memory_equal(got, sent, 100);
	assert_int_equal(rx_packet(&peers.a, 0, got, NULL, 20), 0);
	assert_int_equal(rx_packet(&d, 0, got, NULL, 20), 0);
	assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	frame(sent, peers.a.mac, d.mac, 100, 4); /* and it cannot send */
	tx_packet(&d, 0, 0, sent, 100);
	tx_publish(&d, 0);
	assert_true(tx_answers(&d, 0, 1, NULL, PATIENCE));
	assert_int_equal(rx_packet(&peers.a, 0, got, NULL, 20), 0);
	/* with a blank checksum: each gets what it agreed to */
	rx_post(&peers.a, 0, 1);
	rx_post(&c, 0, 2);
	for (int v6 = V4; v6 <= V6; v6++) {
		unsigned len = tcp_frame(sent, v6, all, peers.b.mac, 200, 80);

		tx_tcp(&peers.b, sent, len, 0);
		arrives_as_sent(&peers.a, len, 0);
		arrives_complete(&c, len, 0);
	}
	guest_down(&c);
	guest_down(&d);
	rig_check();
}

static void unknown_is_flooded_then_learned(void **state)
{
	static const uint8_t inner[6] = { 0x02, 0xaa, 0, 0, 0, 1 }; /* something behind b */
	struct net_guest c = { 0 };

	(void)state;
	guest_up(&c, 1, ALL_FEATURES, NULL);
	rx_post(&peers.b, 0, 2);
	rx_post(&c, 0, 1);
	frame(sent, inner, peers.a.mac, 100, 3);
	tx_packet(&peers.a, 0, 0, sent, 100);
	tx_publish(&peers.a, 0);
	assert_int_equal(rx_packet(&peers.b, 0, got, NULL, PATIENCE), 100);
	assert_int_equal(rx_packet(&c, 0, got, NULL, PATIENCE), 100);
	rx_post(&peers.a, 0, 1);
	rx_post(&c, 0, 1);
	frame(sent, peers.a.mac, inner, 100, 4);
	tx_packet(&peers.b, 0, 0, sent, 100);
	tx_publish(&peers.b, 0);
	assert_int_equal(rx_packet(&peers.a, 0, got, NULL, PATIENCE), 100);
	frame(sent, inner, peers.a.mac, 100, 5);
	tx_packet(&peers.a, 0, 0, sent, 100);
	tx_publish(&peers.a, 0);
	assert_int_equal(rx_packet(&peers.b, 0, got, NULL, PATIENCE), 100);
	assert_int_equal(rx_packet(&c, 0, got, NULL, 20), 0);
	assert_true(tx_answers(&peers.a, 0, 2, NULL, PATIENCE));
	assert_true(tx_answers(&peers.b, 0, 1, NULL, PATIENCE));
	guest_down(&c);
	rig_check();
}

static void to_oneself_is_dropped(void **state)
{
	(void)state;
	rx_post(&peers.a, 0, 1);
	frame(sent, peers.a.mac, peers.a.mac, 100, 3);
	tx_packet(&peers.a, 0, 0, sent, 100);
	tx_publish(&peers.a, 0);
	assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	assert_int_equal(rx_packet(&peers.a, 0, got, NULL, 20), 0);
	exchange(&peers.b, &peers.a, 60, 1); /* uses the slot that was posted */
	rig_no_leaks();
}

static void several_queues(void **state)
{
	struct net_guest c = { .one_port = true };
	unsigned seen = 0, total = 0;

	(void)state;
	guest_up(&c, 4, ALL_FEATURES, NULL);
	for (unsigned q = 0; q < 4; q++) {
		rx_post(&c, q, 64);
		frame(sent, peers.a.mac, c.mac, 200 + q, q);
		tx_packet(&c, q, 0, sent, 200 + q);
		rx_post(&peers.a, 0, 1);
		tx_publish(&c, q);
		assert_int_equal(rx_packet(&peers.a, 0, got, NULL, PATIENCE), 200 + q);
		assert_memory_equal(got, sent, 200 + q);
		assert_true(tx_answers(&c, q, 1, NULL, PATIENCE));
	}
	for (unsigned i = 0; i < 32; i++) { /* flows are spread, and a flow stays in its queue */
		tx_packet(&peers.a, 0, i, sent, tcp_frame(sent, V4, c.mac, peers.a.mac, 10, 1000 + i % 8));
		tx_publish(&peers.a, 0);
		assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	}
	guest_stat_reaches(&c, NULL, "rx_packets", 32);
	for (unsigned q = 0; q < 4; q++) {
		unsigned n = 0, flows = 0;

		while (rx_packet(&c, q, got, NULL, 0)) {
			flows |= 1u << ((got[34] << 8 | got[35]) - 1000);
			n++;
		}
		assert_int_equal(n, (unsigned)__builtin_popcount(flows) * 4);
		seen += n != 0;
		total += n;
	}
	assert_int_equal(total, 32);
	assert_true(seen > 1);
	guest_down(&c);
	rig_check();
}

static void connect_again_is_the_same(void **state)
{
	struct net_guest c = { 0 };

	(void)state;
	guest_up(&c, 2, ALL_FEATURES, NULL);
	exchange(&peers.a, &c, 100, 1);
	assert_int_equal(guest_connect(&c, NULL), 0); /* nothing changes */
	exchange(&peers.a, &c, 100, 2);
	assert_int_equal(guest_call(&c, "disconnect"), 0);
	assert_int_equal(guest_call(&c, "disconnect"), 0);
	guest_rings_reset(&c);
	assert_int_equal(guest_connect(&c, NULL), 0);
	exchange(&peers.a, &c, 100, 3);
	guest_rings_reset(&c);
	c.features = 0; /* another choice, without a disconnect before */
	assert_int_equal(guest_connect(&c, NULL), 0);
	exchange(&c, &peers.a, 100, 4);
	guest_down(&c);
	rig_check();
}

static void mac_of_another_is_refused(void **state)
{
	struct net_guest c = { 0 };
	char config[64];

	(void)state;
	guest_open(&c, 1, 0);
	snprintf(config, sizeof(config), "{\"mac\":\"%02x:%02x:%02x:%02x:%02x:%02x\"}", peers.a.mac[0], peers.a.mac[1], peers.a.mac[2],
		 peers.a.mac[3], peers.a.mac[4], peers.a.mac[5]);
	assert_int_equal(guest_prepare(&c, config), -EEXIST);
	assert_non_null(strstr(rig_last.message, "give another mac="));
	assert_int_equal(guest_prepare(&c, "{\"nonsense\":\"1\"}"), -EINVAL);
	guest_down(&c);
	rig_no_leaks();
}

static void address_is_free_when_its_vif_is_gone(void **state)
{
	static const char mac[] = "{\"mac\":\"02:00:00:00:00:77\"}";
	struct net_guest c = { 0 }, d = { 0 };

	(void)state;
	guest_up(&c, 1, ALL_FEATURES, mac);
	exchange(&peers.a, &c, 100, 1);
	guest_down(&c);
	guest_up(&d, 1, ALL_FEATURES, NULL); /* this one gets its port of the switch */
	guest_up(&c, 1, ALL_FEATURES, mac);
	exchange(&peers.a, &c, 100, 2);
	exchange(&c, &d, 100, 3);
	guest_down(&c);
	guest_down(&d);
	rig_check();
}

/* Each counter as a vif has it is the sum of its queues'; and each worker knows what it did with its time. */
static void counters_add_up(void **state)
{
	struct json_object *o, *queues, *cpu, *v;
	int64_t packets = 0;

	(void)state;
	exchange(&peers.a, &peers.b, 100, 1);
	assert_int_equal(guest_call(&peers.a, "stats"), 0);
	o = rig_last.result;
	assert_true(json_object_object_get_ex(o, "queues", &queues));
	for (size_t i = 0; i < json_object_array_length(queues); i++)
		packets += json_object_get_int64(json_object_object_get(json_object_array_get_idx(queues, i), "tx_packets"));
	assert_true(packets > 0);
	assert_int_equal(json_object_get_int64(json_object_object_get(o, "tx_packets")), packets);
	cpu = json_object_object_get(json_object_object_get(o, "backend"), "cpu");
	assert_int_equal(json_object_array_length(cpu), atoi(rig_workers));
	v = json_object_array_get_idx(cpu, 0);
	assert_true(json_object_get_int64(json_object_object_get(v, "busy")) > 0);
	assert_true(json_object_get_int64(json_object_object_get(v, "asleep")) > 0);
}

/* ---- guests that rest ---- */

enum { RESTING = 64 };
static struct net_guest resting[RESTING];

static void wait_resting(const struct net_guest *g)
{
	int64_t end = rig_ms() + PATIENCE;
	struct json_object *q;

	for (;;) {
		assert_int_equal(guest_call(g, "inspect"), 0);
		q = json_object_array_get_idx(json_object_object_get(rig_last.result, "queues"), 0);
		if (!strcmp(json_object_get_string(json_object_object_get(q, "state")), "resting"))
			return;
		assert_true(rig_ms() < end);
		usleep(1000);
	}
}

/* Everybody rests, and so do the workers: but for our own questions they make no turn. */
static void wait_all_resting(void)
{
	int64_t turns, sleeps;

	wait_resting(&peers.a);
	wait_resting(&peers.b);
	for (unsigned i = 0; i < RESTING; i++)
		wait_resting(&resting[i]);
	turns = guest_stat(&peers.a, "backend", "turns");
	sleeps = guest_stat(&peers.a, "backend", "sleeps");
	usleep(50000);
	assert_in_range(guest_stat(&peers.a, "backend", "turns") - turns, 0, 20);
	assert_in_range(guest_stat(&peers.a, "backend", "sleeps") - sleeps, 0, 20);
}

/* The events that it got since it was asked last. */
static int events_of(struct net_guest *g)
{
	uint32_t ports[4];
	int n = pv_evt_pending(g->h, ports, 4);

	assert_true(n >= 0);
	pv_evt_unmask(g->h, ports, (unsigned)n);
	return n;
}

/* A packet from a is the first that it gets after its rest: one event for it, and none for anybody else. */
static void woken_once_and_no_other(struct net_guest *g)
{
	int64_t notifies[RESTING], end = rig_ms() + PATIENCE;

	wait_all_resting();
	for (unsigned i = 0; i < RESTING; i++) {
		notifies[i] = guest_stat(&resting[i], NULL, "notifies");
		events_of(&resting[i]);
	}
	exchange(&peers.a, g, 100, g->domid);
	while (!events_of(g))
		assert_true(rig_ms() < end);
	for (unsigned i = 0; i < RESTING; i++) {
		assert_int_equal(guest_stat(&resting[i], NULL, "notifies") - notifies[i], &resting[i] == g);
		assert_int_equal(events_of(&resting[i]), 0);
	}
	assert_int_equal(pv_ring_rearm(&g->q[0].rx, 1), 0); /* it rests as well */
}

static void vifs_rest_until_a_packet_comes(void **state)
{
	static const unsigned whom[] = { 0, RESTING / 2, RESTING - 1, RESTING - 1 };

	(void)state;
	for (unsigned i = 0; i < RESTING; i++)
		guest_up(&resting[i], 1, ALL_FEATURES, NULL);
	for (unsigned i = 0; i < 4; i++) {
		struct net_guest *g = &resting[whom[i]];

		woken_once_and_no_other(g);
		wait_all_resting();
		rx_post(&peers.a, 0, 1);
		frame(sent, peers.a.mac, g->mac, 60, i);
		tx_packet(g, 0, 0, sent, 60);
		assert_true(pv_ring_publish(&g->q[0].tx)); /* they are armed: who sends is asked to tell */
		pv_evt_notify(g->h, g->q[0].tx_port);
		assert_int_equal(rx_packet(&peers.a, 0, got, NULL, PATIENCE), 60);
		assert_true(tx_answers(g, 0, 1, NULL, PATIENCE));
	}
	for (unsigned i = 0; i < RESTING; i++)
		guest_down(&resting[i]);
	rig_check();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(csum_blank_is_carried),
		cmocka_unit_test(csum_blank_is_completed_for_who_cannot),
		cmocka_unit_test(gso_is_carried_whole),
		cmocka_unit_test(gso_is_cut_for_who_cannot),
		cmocka_unit_test(sg_less_guest_gets_no_large_packet),
		cmocka_unit_test(larger_than_mtu_is_dropped),
		cmocka_unit_test(broadcast_reaches_all_but_the_sender),
		cmocka_unit_test(unknown_is_flooded_then_learned),
		cmocka_unit_test(to_oneself_is_dropped),
		cmocka_unit_test(several_queues),
		cmocka_unit_test(connect_again_is_the_same),
		cmocka_unit_test(counters_add_up),
		cmocka_unit_test(mac_of_another_is_refused),
		cmocka_unit_test(address_is_free_when_its_vif_is_gone),
		cmocka_unit_test(vifs_rest_until_a_packet_comes),
	};

	return rig_run_group_twice(tests);
}
