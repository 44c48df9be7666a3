/* What well-behaved guests get: flags carried or worked off, large packets whole or cut, floods, and the switch's choices. Each
 * with one worker and with two, whose queues hand packets to each other. */
#include "net_rig.h"

static uint8_t sent[65536], got[65536];

static void put16(uint8_t *p, unsigned n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

static uint16_t sum16(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	if (n & 1)
		sum += (uint32_t)p[n - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* TCP over IPv4 in sent[], checksum blank. */
static unsigned tcp4(const struct net_guest *from, const struct net_guest *to, unsigned payload)
{
	unsigned len = 54 + payload;

	frame(sent, to->mac, from->mac, len, 1);
	put16(sent + 12, 0x0800);
	memset(sent + 14, 0, 12);
	sent[14] = 0x45;
	put16(sent + 16, len - 14);
	sent[23] = 6;
	put16(sent + 24, (uint16_t)~sum16(sent + 14, 20, 0));
	sent[46] = 0x50;
	sent[47] = 0x10;
	put16(sent + 50, 0);
	return len;
}

static bool tcp4_good(const uint8_t *p, unsigned len)
{
	return sum16(p + 34, len - 34, sum16(p + 26, 8, 0) + 6u + (len - 34)) == 0xffff && sum16(p + 14, 20, 0) == 0xffff;
}

static void send_tcp4(struct net_guest *from, const struct net_guest *to, unsigned payload, unsigned mss)
{
	struct netif_extra_info gso = { .type = XEN_NETIF_EXTRA_TYPE_GSO, .u.gso = { .size = (uint16_t)mss, .type = XEN_NETIF_GSO_TYPE_TCPV4 } };
	unsigned len = tcp4(from, to, payload), pages = (len + 4095) / 4096;

	memcpy(from->q[0].tx_data, sent, len);
	for (unsigned i = 0; i < pages; i++) {
		unsigned part = len - i * 4096 < 4096 ? len - i * 4096 : 4096, flags = i + 1 < pages ? NETTXF_more_data : 0;

		if (!i)
			flags |= NETTXF_csum_blank | (mss ? NETTXF_extra_info : 0);
		tx_slot(from, 0, i, 0, i ? part : len, flags);
		if (!i && mss)
			tx_extra(from, 0, &gso);
	}
	tx_publish(from, 0);
	assert_true(tx_answers(from, 0, pages + !!mss, NULL, PATIENCE));
}

static void csum_blank_is_carried(void **state)
{
	struct pv_net_rx_packet p;

	(void)state;
	rx_post(&peers.b, 0, 1);
	send_tcp4(&peers.a, &peers.b, 100, 0);
	assert_int_equal(rx_packet(&peers.b, 0, got, &p, PATIENCE), 154);
	assert_int_equal(p.flags, NETRXF_csum_blank | NETRXF_data_validated);
	assert_memory_equal(got, sent, 154);
	rig_no_leaks();
}

static void csum_blank_is_completed_for_who_cannot(void **state)
{
	struct net_guest c = { 0 };
	struct pv_net_rx_packet p;

	(void)state;
	guest_up(&c, 1, PV_VIF_SG, NULL);
	rx_post(&c, 0, 1);
	send_tcp4(&peers.a, &c, 100, 0);
	assert_int_equal(rx_packet(&c, 0, got, &p, PATIENCE), 154);
	assert_int_equal(p.flags, NETRXF_data_validated);
	assert_true(tcp4_good(got, 154));
	assert_memory_equal(got + 54, sent + 54, 100);
	guest_down(&c);
	rig_no_leaks();
}

static void gso_is_carried_whole(void **state)
{
	struct pv_net_rx_packet p;

	(void)state;
	rx_post(&peers.b, 0, 17);
	send_tcp4(&peers.a, &peers.b, 60000, 1448);
	assert_int_equal(rx_packet(&peers.b, 0, got, &p, PATIENCE), 60054);
	assert_int_equal(p.gso_type, XEN_NETIF_GSO_TYPE_TCPV4);
	assert_int_equal(p.gso_size, 1448);
	assert_true(p.flags & NETRXF_csum_blank);
	assert_memory_equal(got, sent, 60054);
	rx_post(&peers.b, 0, 1); /* one was left of 17: 15 pages and the extra-info; now two */
	exchange(&peers.a, &peers.b, 100, 5);
	rig_no_leaks();
}

static void gso_is_cut_for_who_cannot(void **state)
{
	struct net_guest c = { 0 };
	struct pv_net_rx_packet p;
	unsigned done = 0, len;

	(void)state;
	guest_up(&c, 1, PV_VIF_SG | PV_VIF_CSUM_IPV4, NULL);
	rx_post(&c, 0, 60);
	send_tcp4(&peers.a, &c, 60000, 1448);
	while (done < 60000) {
		len = rx_packet(&c, 0, got, &p, PATIENCE);
		assert_true(len > 54);
		assert_int_equal(p.gso_type, 0);
		assert_true(tcp4_good(got, len));
		assert_memory_equal(got + 54, sent + 54 + done, len - 54);
		done += len - 54;
	}
	assert_int_equal(done, 60000);
	guest_down(&c);
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
	tcp4(&peers.b, &peers.a, 200);
	memset(sent, 255, 6);
	memcpy(peers.b.q[0].tx_data, sent, 254);
	tx_slot(&peers.b, 0, 0, 0, 254, NETTXF_csum_blank);
	rx_post(&c, 0, 1);
	tx_publish(&peers.b, 0);
	assert_int_equal(rx_packet(&peers.a, 0, got, NULL, PATIENCE), 254);
	assert_memory_equal(got, sent, 254);
	assert_int_equal(rx_packet(&c, 0, got, NULL, PATIENCE), 254);
	assert_true(tcp4_good(got, 254));
	assert_true(tx_answers(&peers.b, 0, 1, NULL, PATIENCE));
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
		tcp4(&peers.a, &c, 10);
		put16(sent + 34, 1000 + i % 8);
		tx_packet(&peers.a, 0, i, sent, 64);
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
	};

	return rig_run_group_twice(tests);
}
