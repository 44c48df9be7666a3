/* A guest that sends what it must not: rows of netif.h's rules and of the advisories. After each, two honest guests still exchange
 * packets through the same backend, and it holds nothing more than before. */
#include "net_rig.h"

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

static void kick(struct net_guest *g)
{
	pv_ring_publish(&g->q[0].tx);
	pv_evt_notify(g->h, g->q[0].tx_port);
}

/* The vif broke, is named, and comes back when its guest connects anew. */
static void broke(const char *why)
{
	char stat[32];

	wait_broken(&c);
	if (!strstr(rig.broken_why, why))
		fail_msg("'%s' does not say '%s'", rig.broken_why, why);
	assert_int_equal(guest_call(&c, "stats"), 0);
	snprintf(stat, sizeof(stat), "%s", json_object_get_string(json_object_object_get(rig_last.result, "state")));
	assert_string_equal(stat, "broken");
	guest_rings_reset(&c);
	assert_int_equal(guest_connect(&c, LARGE_MTU), 0);
	exchange(&c, &peers.a, 100, 9);
}

static void one_status(int16_t want)
{
	int16_t status;

	kick(&c);
	assert_true(tx_answers(&c, 0, 1, &status, PATIENCE));
	assert_int_equal(status, want);
}

static void xsa39_producer_impossible(void **state)
{
	static const uint32_t wrong[] = { 257, 1000, 0x80000000u, 0xffffffffu };
	struct pv_ring *r = &c.q[0].tx;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		__atomic_store_n(&r->shared->req_prod, r->prod + wrong[i], __ATOMIC_RELEASE);
		pv_evt_notify(c.h, c.q[0].tx_port);
		broke("index is impossible");
	}
}

/* A chain of n slots of `size` bytes each, to b. */
static void chain(unsigned n, unsigned size)
{
	frame(c.q[0].tx_data, peers.b.mac, c.mac, n * size, 7);
	for (unsigned i = 0; i < n; i++)
		tx_slot(&c, 0, (i * size) / PV_PAGE_SIZE, (i * size) % PV_PAGE_SIZE, i ? size : n * size, i + 1 < n ? NETTXF_more_data : 0);
	kick(&c);
}

static void slots_19_are_accepted(void **state)
{
	int16_t status[19];

	(void)state;
	rx_post(&peers.b, 0, 1);
	chain(19, 64);
	assert_int_equal(rx_packet(&peers.b, 0, got, NULL, PATIENCE), 19 * 64);
	assert_memory_equal(got, c.q[0].tx_data, 19 * 64);
	assert_true(tx_answers(&c, 0, 19, status, PATIENCE));
	for (unsigned i = 0; i < 19; i++)
		assert_int_equal(status[i], NETIF_RSP_OKAY);
}

static void slots_20_and_21_are_dropped(void **state)
{
	int16_t status[21];

	(void)state;
	for (unsigned n = 20; n <= 21; n++) {
		chain(n, 64);
		assert_true(tx_answers(&c, 0, n, status, PATIENCE));
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(status[i], NETIF_RSP_ERROR);
		exchange(&c, &peers.b, 100, n); /* and it goes on */
	}
}

static void slots_22_disable_the_vif(void **state)
{
	(void)state;
	chain(22, 64);
	broke("illegal tx chain");
}

/* Head and 18 slots of 0..128 bytes in all: what fits is delivered byte for byte, what is less than a header is dropped. */
static void xsa432_tiny_slots(void **state)
{
	unsigned seed = 1, good = 0, bad = 0;

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		unsigned total = round % 129, left = total, size[19] = { 0 }, off = 0;
		int16_t status[19];

		while (left) {
			seed = seed * 1103515245 + 12345;
			size[(seed >> 16) % 19]++;
			left--;
		}
		frame(sent, peers.b.mac, c.mac, total < 14 ? 14 : total, round);
		memcpy(c.q[0].tx_data, sent, 128);
		for (unsigned i = 0; i < 19; off += size[i++])
			tx_slot(&c, 0, 0, off, i ? size[i] : total, i < 18 ? NETTXF_more_data : 0);
		if (total >= 14)
			rx_post(&peers.b, 0, 1);
		kick(&c);
		assert_true(tx_answers(&c, 0, 19, status, PATIENCE));
		assert_int_equal(status[0], total < 14 ? NETIF_RSP_ERROR : NETIF_RSP_OKAY);
		if (total < 14) {
			bad++;
			continue;
		}
		assert_int_equal(rx_packet(&peers.b, 0, got, NULL, PATIENCE), total);
		assert_memory_equal(got, sent, total);
		good++;
	}
	assert_true(good > 200 && bad > 20);
}

static void xsa448_zero_size_fragments(void **state)
{
	int16_t status[19];

	(void)state;
	frame(c.q[0].tx_data, peers.b.mac, c.mac, 60, 3);
	rx_post(&peers.b, 0, 1);
	tx_slot(&c, 0, 0, 0, 60, NETTXF_more_data);
	for (unsigned i = 0; i < 18; i++)
		tx_slot(&c, 0, 1, 4096, 0, i < 17 ? NETTXF_more_data : 0); /* at the very end of a page */
	kick(&c);
	assert_int_equal(rx_packet(&peers.b, 0, got, NULL, PATIENCE), 60);
	assert_true(tx_answers(&c, 0, 19, status, PATIENCE));
	assert_int_equal(status[18], NETIF_RSP_OKAY);
	for (unsigned i = 0; i < 19; i++)
		tx_slot(&c, 0, 0, 0, 0, i < 18 ? NETTXF_more_data : 0); /* nothing at all */
	kick(&c);
	assert_true(tx_answers(&c, 0, 19, status, PATIENCE));
	assert_int_equal(status[0], NETIF_RSP_ERROR);
}

/* XSA-423: headers in slots of a byte or two are in one piece when they leave; who gets the packet gets its checksum complete. */
static void xsa423_headers_in_many_slots(void **state)
{
	static const unsigned size[19] = { 1, 2, 3, 1, 5, 2, 1, 7, 2, 1, 3, 4, 2, 6, 1, 9, 2, 1, 1000 };
	struct net_guest plain = { 0 }; /* can complete no checksum itself */
	unsigned len = 0, off = 0;
	struct pv_net_rx_packet p;
	uint8_t want[2000];

	(void)state;
	guest_up(&plain, 1, PV_VIF_SG, NULL);
	for (unsigned i = 0; i < 19; i++)
		len += size[i];
	assert_int_equal(tcp_frame(c.q[0].tx_data, V4, plain.mac, c.mac, len - 54, 80), len);
	rx_post(&plain, 0, 1);
	for (unsigned i = 0; i < 19; off += size[i++])
		tx_slot(&c, 0, 0, off, i ? size[i] : len, (i < 18 ? NETTXF_more_data : 0) | (i ? 0 : NETTXF_csum_blank));
	kick(&c);
	assert_int_equal(rx_packet(&plain, 0, got, &p, PATIENCE), len);
	assert_false(p.flags & NETRXF_csum_blank);
	tcp_piece(want, c.q[0].tx_data, len, 0, len);
	assert_memory_equal(got, want, len);
	assert_true(tx_answers(&c, 0, 19, NULL, PATIENCE));
	guest_down(&plain);
}

/* XSA-216: behind an answer its slot holds what the guest itself wrote there, and nothing of ours. */
static void xsa216_answers_have_no_other_bytes(void **state)
{
	struct pv_ring *r = &c.q[0].tx;
	uint8_t mine[PV_NET_TX_SLOT];

	(void)state;
	for (unsigned size = 0; size <= 100; size += 50) { /* refused, sent, sent */
		const uint8_t *slot = pv_ring_slot(r, r->prod);

		frame(c.q[0].tx_data, c.mac, c.mac, 100, 1);
		tx_slot(&c, 0, 0, 0, size, 0);
		memcpy(mine, slot, sizeof(mine));
		kick(&c);
		assert_true(tx_answers(&c, 0, 1, NULL, PATIENCE));
		for (unsigned i = sizeof(struct netif_tx_response); i < sizeof(mine); i++)
			assert_true(slot[i] == mine[i] || slot[i] == 0);
	}
}

static void size_below_a_header_is_dropped(void **state)
{
	(void)state;
	for (unsigned size = 0; size < 14; size++) {
		tx_slot(&c, 0, 0, 0, size, 0);
		one_status(NETIF_RSP_ERROR);
	}
	exchange(&c, &peers.b, 14, 1);
}

static void page_overrun_disables_the_vif(void **state)
{
	(void)state;
	tx_slot(&c, 0, 0, 4000, 100, 0);
	kick(&c);
	broke("illegal tx chain");
	tx_slot(&c, 0, 0, 0, 200, NETTXF_more_data);
	tx_slot(&c, 0, 0, 65535, 100, 0);
	kick(&c);
	broke("illegal tx chain");
}

static void length_wrapped_is_dropped(void **state)
{
	int16_t status[17];

	(void)state;
	for (unsigned i = 0; i < 17; i++) /* 17 full pages: 69,632 bytes say 4,096 in 16 bits */
		tx_slot(&c, 0, i, 0, 4096, i < 16 ? NETTXF_more_data : 0);
	kick(&c);
	assert_true(tx_answers(&c, 0, 17, status, PATIENCE));
	assert_int_equal(status[0], NETIF_RSP_ERROR);
	exchange(&c, &peers.b, 100, 1);
}

static void chain_incomplete_disables_the_vif(void **state)
{
	(void)state;
	tx_slot(&c, 0, 0, 0, 200, NETTXF_more_data);
	kick(&c);
	broke("part of a tx chain");
	tx_slot(&c, 0, 0, 0, 200, NETTXF_extra_info);
	kick(&c);
	broke("part of a tx chain");
}

static void extra(unsigned type, unsigned flags, unsigned gso_size, unsigned gso_type)
{
	struct netif_extra_info e = { .type = (uint8_t)type, .flags = (uint8_t)flags, .u.gso = { .size = (uint16_t)gso_size, .type = (uint8_t)gso_type } };

	tx_extra(&c, 0, &e);
}

static void extra_chain_illegal_disables_the_vif(void **state)
{
	static const unsigned bad[][3] = { { 0, 0, 0 }, { 99, 0, 0 }, { XEN_NETIF_EXTRA_TYPE_GSO, 0, 1 }, { XEN_NETIF_EXTRA_TYPE_GSO, 100, 9 } };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		tx_slot(&c, 0, 0, 0, 200, NETTXF_extra_info);
		extra(bad[i][0], 0, bad[i][1], bad[i][2]);
		kick(&c);
		broke("illegal tx chain");
	}
	tx_slot(&c, 0, 0, 0, 200, NETTXF_extra_info);
	for (unsigned i = 0; i < 100; i++)
		extra(XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_FLAG_MORE, 1000, XEN_NETIF_GSO_TYPE_TCPV4);
	kick(&c);
	broke("illegal tx chain");
}

static void mcast_of_no_group_is_answered_with_an_error(void **state)
{
	int16_t status[2];

	(void)state;
	tx_slot(&c, 0, 0, 0, 0, NETTXF_extra_info);
	extra(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 0, 0, 0);
	kick(&c);
	assert_true(tx_answers(&c, 0, 2, status, PATIENCE));
	assert_int_equal(status[0], NETIF_RSP_ERROR);
	assert_int_equal(status[1], NETIF_RSP_NULL);
	exchange(&c, &peers.b, 100, 1);
}

static void gso_of_something_else_is_dropped(void **state)
{
	int64_t before = guest_stat(&c, NULL, "tx_bad");

	(void)state;
	frame(c.q[0].tx_data, peers.b.mac, c.mac, 3000, 1); /* no TCP at all */
	for (unsigned type = XEN_NETIF_GSO_TYPE_TCPV4; type <= XEN_NETIF_GSO_TYPE_TCPV6; type++) {
		tx_slot(&c, 0, 0, 0, 3000, NETTXF_extra_info | NETTXF_csum_blank);
		extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, 1000, type);
	}
	tx_slot(&c, 0, 0, 0, 3000, NETTXF_csum_blank);
	kick(&c);
	assert_true(tx_answers(&c, 0, 5, NULL, PATIENCE));
	assert_int_equal(guest_stat(&c, NULL, "tx_bad"), before + 3);
}

/* Pieces of a byte each would multiply a packet by 256, at the expense of whoever shares the worker. */
static void gso_size_absurd_is_dropped(void **state)
{
	static const unsigned sizes[] = { 1, 47 };
	unsigned len = tcp_frame(c.q[0].tx_data, V4, peers.b.mac, c.mac, 256, 1);
	int64_t before = guest_stat(&c, NULL, "tx_bad");

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		tx_slot(&c, 0, 0, 0, len, NETTXF_extra_info | NETTXF_csum_blank | NETTXF_data_validated);
		extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, sizes[i], XEN_NETIF_GSO_TYPE_TCPV4);
	}
	kick(&c);
	assert_true(tx_answers(&c, 0, 4, NULL, PATIENCE));
	assert_int_equal(guest_stat(&c, NULL, "tx_bad"), before + 2);
}

static void source_impossible_is_dropped(void **state)
{
	static const uint8_t group[6] = { 1, 0, 0, 0, 0, 1 }, none[6] = { 0 };
	int64_t before = guest_stat(&c, NULL, "tx_bad");

	(void)state;
	frame(c.q[0].tx_data, peers.b.mac, group, 100, 1);
	frame(c.q[0].tx_data + 4096, peers.b.mac, none, 100, 1);
	tx_slot(&c, 0, 0, 0, 100, 0);
	tx_slot(&c, 0, 1, 0, 100, 0);
	kick(&c);
	assert_true(tx_answers(&c, 0, 2, NULL, PATIENCE));
	assert_int_equal(guest_stat(&c, NULL, "tx_bad"), before + 2);
}

/* XSA-318, 361: one bad reference in a batch with good ones, of the same guest and of others. */
static void gref_bad_fails_its_packet_alone(void **state)
{
	struct net_queue *q = &c.q[0];
	int16_t status[4];
	uint32_t foreign = peers.a.q[0].tx_grefs[0];

	(void)state;
	rx_post(&peers.b, 0, 3);
	for (unsigned i = 0; i < 4; i++)
		frame(q->tx_data + i * 4096, peers.b.mac, c.mac, 100 + i, i);
	tx_slot(&c, 0, 0, 0, 100, 0);
	pv_net_tx_fill(&q->tx, 0xfffffff0u, 0, 0, 1, 101);
	tx_slot(&c, 0, 2, 0, 102, NETTXF_more_data);
	pv_net_tx_fill(&q->tx, foreign + 100000, 0, 0, 2, 50); /* the second half of a packet */
	frame(peers.a.q[0].tx_data, peers.b.mac, peers.a.mac, 77, 5);
	tx_slot(&peers.a, 0, 0, 0, 77, 0);
	tx_publish(&peers.a, 0);
	kick(&c);
	assert_true(tx_answers(&c, 0, 4, status, PATIENCE));
	assert_int_equal(status[0], NETIF_RSP_OKAY);
	assert_int_equal(status[1], NETIF_RSP_ERROR);
	assert_int_equal(status[2], NETIF_RSP_ERROR);
	assert_int_equal(status[3], NETIF_RSP_ERROR);
	assert_true(tx_answers(&peers.a, 0, 1, status, PATIENCE));
	assert_int_equal(status[0], NETIF_RSP_OKAY);
	for (unsigned i = 0; i < 2; i++) {
		unsigned len = rx_packet(&peers.b, 0, got, NULL, PATIENCE);

		assert_true(len == 77 || len == 100);
	}
	assert_int_equal(guest_stat(&c, NULL, "tx_copy_failed"), 2);
	exchange(&peers.a, &peers.b, 14, 0); /* uses up the third request */
}

static void gref_failing_at_random(void **state)
{
	int16_t status[8];
	unsigned ok = 0, failed = 0;

	(void)state;
	rig_needs_hub();
	for (unsigned round = 0; round < 50; round++) {
		pv_hub_inject(rig.dom0, c.domid, "copy", round % 8, 1 + round % 3, round % 2 ? GNTST_eagain : 7 /* positive: XSA-313 */);
		for (unsigned i = 0; i < 8; i++) {
			frame(c.q[0].tx_data + i * 4096, c.mac, c.mac, 100, i); /* to itself: nobody has to take it */
			tx_slot(&c, 0, i, 0, 100, 0);
		}
		kick(&c);
		assert_true(tx_answers(&c, 0, 8, status, PATIENCE));
		for (unsigned i = 0; i < 8; i++)
			status[i] == NETIF_RSP_OKAY ? ok++ : failed++;
	}
	pv_hub_inject(rig.dom0, c.domid, "copy", 0, 0, 0);
	assert_true(failed >= 50 && ok > 200);
	assert_int_equal(guest_stat(&c, NULL, "tx_copy_failed"), failed);
}

/* A guest that invents addresses fills its own share of the table and nobody else's. */
static void addresses_without_number(void **state)
{
	uint8_t from[6] = { 2, 0xee, 0, 0, 0, 0 };
	struct json_object *list;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		from[4] = (uint8_t)(i >> 8);
		from[5] = (uint8_t)i;
		frame(c.q[0].tx_data, c.mac, from, 60, i);
		tx_slot(&c, 0, 0, 0, 60, 0);
		kick(&c);
		assert_true(tx_answers(&c, 0, 1, NULL, PATIENCE));
	}
	assert_int_equal(guest_call(&c, "inspect"), 0);
	list = json_object_object_get(rig_last.result, "addresses");
	assert_int_equal(json_object_array_length(list), 33); /* its own and its share */
	assert_true(guest_stat(&c, NULL, "tx_not_learned") >= 900);
}

/* ... and cannot take another guest's address. */
static void address_of_another_is_not_taken(void **state)
{
	(void)state;
	frame(c.q[0].tx_data, c.mac, peers.b.mac, 60, 1);
	for (unsigned i = 0; i < 10; i++) {
		tx_slot(&c, 0, 0, 0, 60, 0);
		kick(&c);
		assert_true(tx_answers(&c, 0, 1, NULL, PATIENCE));
		exchange(&peers.a, &peers.b, 100, i);
	}
}

/* Random slots, for a while: whatever happens, it happens to this vif alone. */
static void slots_of_garbage(void **state)
{
	unsigned seed = (unsigned)time(NULL), broken = 0;

	(void)state;
	printf("seed %u\n", seed);
	for (unsigned round = 0; round < 300; round++) {
		for (unsigned i = 0; i < 32; i++) {
			uint8_t *slot = pv_ring_fill(&c.q[0].tx);

			for (unsigned j = 0; j < PV_NET_TX_SLOT; j++) {
				seed = seed * 1103515245 + 12345;
				slot[j] = (uint8_t)(seed >> 16);
			}
			slot[6] &= 0x0f; /* flags that exist, and more slots that parse */
			slot[7] = 0;
			if (seed & 1 << 20)
				slot[5] &= 7;
			if (seed & 1 << 21)
				slot[11] &= 3;
		}
		kick(&c);
		while (!rig.broken && tx_answers(&c, 0, 1, NULL, 5))
			rig_pump(0);
		if (guest_stat(&c, NULL, "mtu"), rig.broken) {
			rig.broken = 0;
			broken++;
		}
		guest_again(&c, LARGE_MTU);
		if (round % 50 == 0 || round == 299) { /* they got strays */
			guest_again(&peers.a, LARGE_MTU);
			guest_again(&peers.b, LARGE_MTU);
			rig_check_exchange();
		}
	}
	assert_true(broken > 0);
	rig_pump(50);
	rig.broken = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(xsa39_producer_impossible, up, down),
		cmocka_unit_test_setup_teardown(slots_19_are_accepted, up, down),
		cmocka_unit_test_setup_teardown(slots_20_and_21_are_dropped, up, down),
		cmocka_unit_test_setup_teardown(slots_22_disable_the_vif, up, down),
		cmocka_unit_test_setup_teardown(xsa432_tiny_slots, up, down),
		cmocka_unit_test_setup_teardown(xsa448_zero_size_fragments, up, down),
		cmocka_unit_test_setup_teardown(xsa423_headers_in_many_slots, up, down),
		cmocka_unit_test_setup_teardown(xsa216_answers_have_no_other_bytes, up, down),
		cmocka_unit_test_setup_teardown(size_below_a_header_is_dropped, up, down),
		cmocka_unit_test_setup_teardown(page_overrun_disables_the_vif, up, down),
		cmocka_unit_test_setup_teardown(length_wrapped_is_dropped, up, down),
		cmocka_unit_test_setup_teardown(chain_incomplete_disables_the_vif, up, down),
		cmocka_unit_test_setup_teardown(extra_chain_illegal_disables_the_vif, up, down),
		cmocka_unit_test_setup_teardown(mcast_of_no_group_is_answered_with_an_error, up, down),
		cmocka_unit_test_setup_teardown(gso_of_something_else_is_dropped, up, down),
		cmocka_unit_test_setup_teardown(gso_size_absurd_is_dropped, up, down),
		cmocka_unit_test_setup_teardown(source_impossible_is_dropped, up, down),
		cmocka_unit_test_setup_teardown(gref_bad_fails_its_packet_alone, up, down),
		cmocka_unit_test_setup_teardown(gref_failing_at_random, up, down),
		cmocka_unit_test_setup_teardown(addresses_without_number, up, down),
		cmocka_unit_test_setup_teardown(address_of_another_is_not_taken, up, down),
		cmocka_unit_test_setup_teardown(slots_of_garbage, up, down),
	};

	return rig_run_group(tests);
}
