/* vif_io.h - what a vif can do beside moving ordinary packets, from frontend to frontend through the whole product. The program that
 * includes it says by DIALECT how its frontends find their devices. */
#ifndef VIF_IO_H
#define VIF_IO_H

#include "tests/unit/sandbox_rig.h"

static struct pv_netfront *a, *b; /* of guests 1 and 2 */

static void pair_up(const char *keys, struct pv_netfront_config of_a, struct pv_netfront_config of_b)
{
	assert_int_equal(pvio("attach g1 vif 1 %s --dialect " DIALECT, keys), 0);
	assert_int_equal(pvio("attach g2 vif 1 %s --dialect " DIALECT, keys), 0);
	a = sandbox_vif(G1, &of_a);
	b = sandbox_vif(G2, &of_b);
	sandbox_connected(a);
	sandbox_connected(b);
}

static void pair_down(void)
{
	pv_netfront_close(a, 5000);
	pv_netfront_close(b, 5000);
	assert_int_equal(pvio("detach g1 vif 1"), 0);
	assert_int_equal(pvio("detach g2 vif 1"), 0);
}

/* Wait until all that was asked through the control ring is answered. Returns what came of it. */
static int control_result(struct pv_netfront *f)
{
	uint64_t end = front_now_ms() + SANDBOX_MS;
	int rc;

	while ((rc = pv_netfront_control_result(f)) == -EINPROGRESS) {
		assert_true(pv_netfront_work(f) >= 0);
		assert_true(front_now_ms() < end);
	}
	return rc;
}

/* Each direction has an event channel of its own; the other end has one for both. */
static void split_ports_carry_packets(void **state)
{
	struct pv_netfront_stats stats;

	(void)state;
	pair_up("mtu=65521 queues=2", (struct pv_netfront_config){ .queues = 2, .split_ports = true }, (struct pv_netfront_config){ .queues = 2 });
	for (unsigned i = 0; i < 300; i++) { /* more than a ring's slots: each ring's answers are seen */
		send_and_receive(a, b, i / 2 & 1, SMALL + i, false, i);
		send_and_receive(b, a, i / 2 & 1, 65535 - i, i & 1, i);
	}
	pv_netfront_stats(a, &stats);
	assert_int_equal(stats.tx_errors + stats.rx_errors, 0);
	pair_down();
}

/* 65,521 bytes of MTU, in one packet; and a TCP segment of as much as 64 KiB, which nobody cuts. */
static void largest_packets_arrive_whole(void **state)
{
	(void)state;
	pair_up("mtu=65521", (struct pv_netfront_config){ .queues = 1 }, (struct pv_netfront_config){ .queues = 2 });
	assert_int_equal(pv_netfront_offer(a)->mtu, 65521);
	for (unsigned i = 0; i < 10; i++) {
		send_and_receive(a, b, i & 1, 65535, false, i);
		send_and_receive(b, a, i & 1, 65535, false, i);
		send_and_receive(a, b, i & 1, 65535, true, i);
		assert_int_equal(received.gso_size, MSS);
		send_and_receive(b, a, i & 1, 65535, true, i);
	}
	pair_down();
}

static void large_segments_pass_a_small_mtu_whole(void **state)
{
	(void)state;
	pair_up("mtu=1500", (struct pv_netfront_config){ .queues = 1 }, (struct pv_netfront_config){ .queues = 1 });
	for (int v6 = V4; v6 <= V6; v6++) {
		send_and_receive(a, b, v6, 65535, true, 1);
		send_and_receive(b, a, v6, 65535, true, 2);
	}
	pair_down();
}

/* A receiver that lacks one of the four: that alone is done for it, cut or completed, and in the other family nothing. */
static void what_a_receiver_lacks_is_done_for_it(void **state)
{
	static const uint32_t each[] = { PV_VIF_CSUM_IPV4, PV_VIF_CSUM_IPV6, PV_VIF_GSO_TCPV4, PV_VIF_GSO_TCPV6 };
	const uint32_t all = PV_VIF_SG | each[0] | each[1] | each[2] | each[3];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		pair_up("", (struct pv_netfront_config){ .queues = 1 }, (struct pv_netfront_config){ .queues = 1, .features = all & ~each[i] });
		assert_int_equal(pv_netfront_features(a) & all, all);
		assert_int_equal(pv_netfront_features(b) & all, all & ~each[i]);
		for (int v6 = V4; v6 <= V6; v6++) {
			send_and_receive(a, b, v6, SMALL, false, i);
			send_and_receive(a, b, v6, SMALL + 1, false, i);
			if (!(each[i] & (PV_VIF_CSUM_IPV4 | PV_VIF_CSUM_IPV6))) /* a large one's is blank as well */
				send_and_receive(a, b, v6, LARGE, true, i);
		}
		pair_down();
	}
}

/* Packets until one has that headroom: those under way may have the old one. */
static void headroom_becomes(unsigned bytes)
{
	uint64_t end = front_now_ms() + SANDBOX_MS;

	do {
		send_and_receive(b, a, V4, SMALL, false, bytes);
		assert_true(front_now_ms() < end);
	} while (received.headroom != bytes);
}

static void headroom_is_chosen_and_chosen_anew(void **state)
{
	(void)state;
	pair_up("mtu=65521", (struct pv_netfront_config){ .headroom = 100 }, (struct pv_netfront_config){ .queues = 1 });
	send_and_receive(b, a, V4, SMALL, false, 1);
	assert_int_equal(received.headroom, 100);
	assert_int_equal(pv_netfront_set_headroom(a, 256), 0);
	headroom_becomes(256);
	send_and_receive(b, a, V4, 65535, true, 2);
	assert_int_equal(pv_netfront_set_headroom(a, 0), 0);
	headroom_becomes(0);
	assert_int_equal(pv_netfront_set_headroom(a, 2048), 0); /* a second time */
	headroom_becomes(2048);
	send_and_receive(b, a, V4, 30000, true, 3);
	assert_int_equal(pv_netfront_set_headroom(a, 2049), -EINVAL);
	send_and_receive(a, b, V4, SMALL, false, 4);
	assert_int_equal(received.headroom, 0); /* the other did not ask */
	pair_down();
}

/* A frame to a group, then one to the station itself: was the group's there when that arrived? */
static bool group_arrives(const uint8_t group[6])
{
	static uint8_t out[200], in[2048];
	struct pv_netfront_packet tx = { .data = out, .len = 100 };
	uint64_t end = front_now_ms() + SANDBOX_MS;
	bool seen = false;

	memset(out, 0x55, sizeof(out));
	memcpy(out, group, 6);
	memcpy(out + 6, pv_netfront_offer(b)->mac, 6);
	assert_int_equal(pv_netfront_send(b, 0, &tx, 1), 1);
	memcpy(out, pv_netfront_offer(a)->mac, 6);
	assert_int_equal(pv_netfront_send(b, 0, &tx, 1), 1);
	for (;;) {
		struct pv_netfront_packet rx = { .data = in, .len = sizeof(in) };

		assert_true(front_now_ms() < end);
		assert_true(pv_netfront_work(a) >= 0 && pv_netfront_work(b) >= 0);
		if (pv_netfront_recv(a, 0, &rx, 1) != 1 || rx.len != 100 || in[99] != 0x55)
			continue;
		if (memcmp(in, group, 6) == 0)
			seen = true;
		else if (!(in[0] & 1))
			return seen;
	}
}

static void group_becomes(const uint8_t group[6], bool wanted)
{
	uint64_t end = front_now_ms() + SANDBOX_MS;

	while (group_arrives(group) != wanted)
		assert_true(front_now_ms() < end);
}

static void groups_are_filtered_while_it_is_wished(void **state)
{
	static const uint8_t one[6] = { 0x33, 0x33, 0, 0, 0, 1 }, two[6] = { 0x33, 0x33, 0, 0, 0, 2 };
	uint64_t end = front_now_ms() + 2 * SANDBOX_MS;
	struct pv_netfront_stats stats;

	(void)state;
	pair_up("", (struct pv_netfront_config){ .multicast_filter = true }, (struct pv_netfront_config){ .queues = 1 });
	send_and_receive(b, a, V4, SMALL, false, 1); /* it receives */
	assert_false(group_arrives(one));
	assert_int_equal(pv_netfront_group(a, one, true), 0);
	group_becomes(one, true);
	assert_false(group_arrives(two));
	assert_int_equal(pv_netfront_set_filter(a, false), 0);
	group_becomes(two, true);
	assert_int_equal(pv_netfront_set_filter(a, true), 0);
	group_becomes(two, false);
	assert_true(group_arrives(one));
	assert_int_equal(pv_netfront_group(a, one, false), 0);
	group_becomes(one, false);
	for (unsigned i = 0; i < 65; i++) {
		const uint8_t group[6] = { 1, 0, 0x5e, 0, 0, (uint8_t)i };

		assert_int_equal(pv_netfront_group(a, group, true), 0);
	}
	group_becomes((const uint8_t[]){ 1, 0, 0x5e, 0, 0, 63 }, true);
	do {
		assert_true(pv_netfront_work(a) >= 0);
		pv_netfront_stats(a, &stats);
		assert_true(front_now_ms() < end);
	} while (!stats.groups_refused);
	assert_int_equal(stats.groups_refused, 1);
	assert_int_equal(stats.tx_errors, 0);
	pair_down();
}

static void hash_steers_to_the_queue_it_maps_to(void **state)
{
	static const uint8_t key[40] = { 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d };
	uint32_t mapping[128];
	struct pv_netfront_hash hash = { .types = 15, .key = key, .key_len = sizeof(key), .mapping = mapping, .mapping_len = 128 };

	(void)state;
	pair_up("queues=4", (struct pv_netfront_config){ .queues = 4, .control = true }, (struct pv_netfront_config){ .queues = 1 });
	send_and_receive(b, a, V4, SMALL, false, 1);
	assert_false(received.hashed);
	for (unsigned q = 0; q < 4; q++) {
		for (unsigned i = 0; i < 128; i++)
			mapping[i] = q;
		assert_int_equal(pv_netfront_set_hash(a, &hash), 0);
		assert_int_equal(control_result(a), 0);
		send_and_receive(b, a, V4, LARGE, true, q);
		assert_int_equal(received_on, q);
		assert_true(received.hashed);
		assert_int_equal(received.hash_type, _XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP);
	}
	mapping[7] = 4;
	assert_int_equal(pv_netfront_set_hash(a, &hash), 0);
	assert_int_equal(control_result(a), -EINVAL);
	assert_int_equal(pv_netfront_set_hash(b, &hash), -EOPNOTSUPP);
	assert_int_equal(pv_netfront_set_hash(a, NULL), 0);
	assert_int_equal(control_result(a), 0);
	send_and_receive(b, a, V4, LARGE, true, 9);
	assert_false(received.hashed);
	pair_down();
}

static void static_grants_carry_packets(void **state)
{
	(void)state;
	pair_up("mtu=65521 queues=2", (struct pv_netfront_config){ .queues = 2, .static_grants = true },
		(struct pv_netfront_config){ .queues = 1, .static_grants = true });
	assert_true(pv_netfront_work(a) >= 0 && pv_netfront_work(b) >= 0);
	assert_int_equal(control_result(a), 0);
	assert_int_equal(control_result(b), 0);
	for (unsigned i = 0; i < 300; i++) {
		send_and_receive(a, b, i / 2 & 1, SMALL + i, false, i);
		send_and_receive(b, a, i / 2 & 1, 65535 - i, i & 1, i);
	}
	pv_netfront_close(a, 5000);
	a = sandbox_vif(G1, &(struct pv_netfront_config){ .queues = 1 }); /* again, without */
	sandbox_connected(a);
	send_and_receive(a, b, V4, LARGE, true, 1);
	send_and_receive(b, a, V4, LARGE, true, 1);
	pair_down();
}

static void guest_is_told_whom_not_to_trust(void **state)
{
	(void)state;
	pair_up("trusted=0", (struct pv_netfront_config){ .queues = 1 }, (struct pv_netfront_config){ .queues = 1 });
	assert_true(pv_netfront_offer(a)->untrusted);
	send_and_receive(a, b, V4, SMALL, false, 1);
	pair_down();
	pair_up("", (struct pv_netfront_config){ .queues = 1 }, (struct pv_netfront_config){ .queues = 1 });
	assert_false(pv_netfront_offer(a)->untrusted);
	pair_down();
}

static const struct CMUnitTest vif_tests[] = {
	cmocka_unit_test(guest_is_told_whom_not_to_trust),
	cmocka_unit_test(largest_packets_arrive_whole),
	cmocka_unit_test(split_ports_carry_packets),
	cmocka_unit_test(large_segments_pass_a_small_mtu_whole),
	cmocka_unit_test(what_a_receiver_lacks_is_done_for_it),
	cmocka_unit_test(headroom_is_chosen_and_chosen_anew),
	cmocka_unit_test(groups_are_filtered_while_it_is_wished),
	cmocka_unit_test(hash_steers_to_the_queue_it_maps_to),
	cmocka_unit_test(static_grants_carry_packets),
};

static int vif_io(void)
{
	if (sandbox_has_no_uring()) {
		printf("SKIP need=uring: io_uring is disabled; set sysctl kernel.io_uring_disabled=0\n");
		return 77;
	}
	return cmocka_run_group_tests(vif_tests, sandbox_up, sandbox_down);
}

#endif
