/* What a guest may ask beside its packets: the control ring (hashing, static grants), the multicast filter, headroom, a receiver that
 * does not notify. Honest guests first, then hostile ones; each time nothing is left behind, and the others go on. */
#include "net_ctrl.h"

static void hash_steers_and_is_told(void **state)
{
	struct pv_net_rx_packet p;
	struct net_guest g = { 0 };
	struct control c;
	uint32_t data;
	unsigned len;

	(void)state;
	control_up(&c, &g, 4, FEATURES);
	assert_int_equal(ASK(&c, GET_HASH_FLAGS, 0, 0, 0), STATUS(NOT_SUPPORTED)); /* no algorithm yet */
	hash_on(&c, XEN_NETIF_CTRL_HASH_TYPE_IPV4 | XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP);
	assert_int_equal(ask(&c, XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS, 0, 0, 0, &data), 0);
	assert_int_equal(data, 15);
	assert_int_equal(ask(&c, XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE, 0, 0, 0, &data), 0);
	assert_int_equal(data, 128);
	len = rss_frame(&g);
	for (unsigned queue = 0; queue < 4; queue++) {
		map_all_to(&c, queue, queue ? 128 : 1);
		p = arrives(&g, queue, len);
		assert_true(p.hash);
		assert_int_equal(p.hash_value, 0x51ccc178);
		assert_int_equal(p.hash_type, _XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP);
		assert_int_equal(p.hash_algorithm, XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ);
	}
	assert_int_equal(ASK(&c, SET_HASH_FLAGS, XEN_NETIF_CTRL_HASH_TYPE_IPV4, 0, 0), 0);
	p = arrives(&g, 3, len);
	assert_int_equal(p.hash_value, 0x323e8fc2);
	assert_int_equal(p.hash_type, _XEN_NETIF_CTRL_HASH_TYPE_IPV4);
	assert_int_equal(ASK(&c, SET_HASH_MAPPING_SIZE, 0, 0, 0), 0); /* by modular arithmetic */
	arrives(&g, 0x323e8fc2 % 4, len);
	assert_int_equal(ASK(&c, SET_HASH_MAPPING_SIZE, 100, 0, 0), 0); /* a new table is full of zeros */
	arrives(&g, 0, len);
	c.data[0] = 2; /* one entry of it, that of this packet */
	assert_int_equal(ASK(&c, SET_HASH_MAPPING, c.data_gref, 1, 0x323e8fc2 % 100), 0);
	arrives(&g, 2, len);
	frame(sent, g.mac, peers.a.mac, 60, 1); /* what cannot be hashed has no hash: entry 0 */
	p = arrives(&g, 0, 60);
	assert_false(p.hash);
	assert_int_equal(ASK(&c, SET_HASH_ALGORITHM, XEN_NETIF_CTRL_HASH_ALGORITHM_NONE, 0, 0), 0);
	rss_frame(&g);
	for (unsigned q = 0; q < 4; q++)
		rx_post(&g, q, 1);
	tx_packet(&peers.a, 0, 0, sent, len);
	tx_publish(&peers.a, 0);
	for (unsigned q = 0, n = 0; !n; q = (q + 1) % 4) {
		n = rx_packet(&g, q, got, &p, 1);
		assert_false(n && p.hash);
	}
	assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	guest_down(&g);
	rig_check();
}

/* A large packet with both kinds of extra-info. */
static void hash_and_gso_together(void **state)
{
	struct pv_net_rx_packet p;
	struct net_guest g = { 0 };
	struct control c;
	unsigned len;

	(void)state;
	control_up(&c, &g, 1, FEATURES);
	hash_on(&c, XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP);
	rx_post(&g, 0, 20);
	len = tcp_frame(sent, V4, g.mac, peers.a.mac, 65535 - 54, 2794);
	memcpy(sent + 26, (const uint8_t[]){ 66, 9, 149, 187, 161, 142, 100, 80 }, 8);
	sent[36] = TCP_PORT >> 8;
	sent[37] = TCP_PORT & 255;
	tx_tcp(&peers.a, sent, len, 1448);
	assert_int_equal(rx_packet(&g, 0, got, &p, PATIENCE), len);
	assert_memory_equal(got, sent, len);
	assert_int_equal(p.gso_size, 1448);
	assert_int_equal(p.extras, 2);
	assert_int_equal(p.hash_value, 0x51ccc178);
	guest_down(&g);
	rig_check();
}

/* The table is replaced under traffic: each packet arrives, once, on some queue that was told. */
static void mapping_is_replaced_while_packets_flow(void **state)
{
	struct net_guest g = { 0 };
	struct control c;
	unsigned arrived = 0;

	(void)state;
	control_up(&c, &g, 4, FEATURES);
	hash_on(&c, XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP);
	rss_frame(&g);
	for (unsigned q = 0; q < 4; q++)
		rx_post(&g, q, 200); /* two slots a packet, for its hash is told */
	for (unsigned i = 0; i < 100; i++) {
		tx_packet(&peers.a, 0, i % 32, sent, 154);
		tx_publish(&peers.a, 0);
		map_all_to(&c, i % 4, 1 + i % 128);
		assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	}
	guest_stat_reaches(&g, NULL, "rx_packets", 100);
	for (unsigned q = 0; q < 4; q++)
		while (rx_packet(&g, q, got, NULL, 0)) {
			assert_memory_equal(got, sent, 154);
			arrived++;
		}
	assert_int_equal(arrived, 100);
	guest_down(&g);
	rig_check();
}

/* ---- requests that are no good: answered, and nothing changes ---- */

static void illegal_requests_are_answered(void **state)
{
	struct net_guest g = { 0 };
	struct control c;

	(void)state;
	control_up(&c, &g, 4, FEATURES);
	assert_int_equal(ASK(&c, INVALID, 1, 2, 3), STATUS(NOT_SUPPORTED));
	assert_int_equal(ask(&c, 11, 0, 0, 0, NULL), STATUS(NOT_SUPPORTED));
	assert_int_equal(ask(&c, 0xffff, ~0u, ~0u, ~0u, NULL), STATUS(NOT_SUPPORTED));
	assert_int_equal(ASK(&c, SET_HASH_FLAGS, 1, 0, 0), STATUS(INVALID_PARAMETER)); /* no algorithm */
	assert_int_equal(ASK(&c, SET_HASH_ALGORITHM, 2, 0, 0), STATUS(INVALID_PARAMETER));
	hash_on(&c, 3);
	assert_int_equal(ASK(&c, SET_HASH_FLAGS, 16, 0, 0), STATUS(INVALID_PARAMETER));
	assert_int_equal(ASK(&c, SET_HASH_KEY, c.data_gref, 41, 0), STATUS(BUFFER_OVERFLOW));
	assert_int_equal(ASK(&c, SET_HASH_KEY, c.data_gref, ~0u, 0), STATUS(BUFFER_OVERFLOW));
	assert_int_equal(ASK(&c, SET_HASH_KEY, 0x7fffffff, 40, 0), STATUS(INVALID_PARAMETER));
	assert_int_equal(ASK(&c, SET_HASH_MAPPING_SIZE, 129, 0, 0), STATUS(INVALID_PARAMETER));
	map_all_to(&c, 1, 64);
	assert_int_equal(ASK(&c, SET_HASH_MAPPING, c.data_gref, 65, 0), STATUS(INVALID_PARAMETER));
	assert_int_equal(ASK(&c, SET_HASH_MAPPING, c.data_gref, 1, 64), STATUS(INVALID_PARAMETER));
	assert_int_equal(ASK(&c, SET_HASH_MAPPING, c.data_gref, 2, ~0u), STATUS(BUFFER_OVERFLOW)); /* their sum wraps */
	assert_int_equal(ASK(&c, SET_HASH_MAPPING, c.data_gref, ~0u, 2), STATUS(BUFFER_OVERFLOW));
	assert_int_equal(ASK(&c, SET_HASH_MAPPING, c.data_gref, ~0u, ~0u), STATUS(BUFFER_OVERFLOW));
	c.data[63] = 4; /* there are queues 0 to 3 */
	assert_int_equal(ASK(&c, SET_HASH_MAPPING, c.data_gref, 64, 0), STATUS(INVALID_PARAMETER));
	assert_int_equal(ASK(&c, SET_HASH_MAPPING, 0x7fffffff, 64, 0), STATUS(INVALID_PARAMETER));
	assert_int_equal(ASK(&c, GET_GREF_MAPPING_SIZE, 4, 0, 0), STATUS(INVALID_PARAMETER));
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 4, c.data_gref, 1), STATUS(INVALID_PARAMETER));
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 513), STATUS(INVALID_PARAMETER));
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, ~0u), STATUS(INVALID_PARAMETER));
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, 0x7fffffff, 1), STATUS(INVALID_PARAMETER));
	assert_int_equal(ASK(&c, DEL_GREF_MAPPING, 0, c.data_gref, 513), STATUS(INVALID_PARAMETER));
	assert_int_equal(ASK(&c, DEL_GREF_MAPPING, ~0u, c.data_gref, 1), STATUS(INVALID_PARAMETER));
	assert_int_equal(arrives(&g, 1, rss_frame(&g)).hash_value, 0x51ccc178); /* all is as it was */
	assert_int_equal(ASK(&c, SET_HASH_KEY, 0x7fffffff, 0, 0), 0); /* an empty key needs no page: the hash is 0 */
	assert_int_equal(arrives(&g, 1, rss_frame(&g)).hash_value, 0);
	guest_down(&g);
	rig_check();
}

static void lying_index_breaks_the_vif(void **state)
{
	struct net_guest g = { 0 };
	struct control c;

	(void)state;
	control_up(&c, &g, 1, FEATURES);
	assert_int_equal(ASK(&c, GET_HASH_MAPPING_SIZE, 0, 0, 0), 0);
	c.ring.shared->req_prod = c.ring.prod + 129;
	pv_evt_notify(g.h, g.ctrl_port);
	wait_broken(&g);
	assert_non_null(strstr(rig.broken_why, "control ring"));
	guest_down(&g);
	rig_check();
}

static void ring_that_cannot_be_had_refuses_the_vif(void **state)
{
	struct net_guest g = { 0 };
	struct control c;
	uint32_t port;

	(void)state;
	guest_open(&g, 2, FEATURES);
	control_new(&c, &g);
	assert_int_equal(guest_prepare(&g, NULL), 0);
	port = g.ctrl_port;
	g.ctrl_port = 60000;
	assert_int_not_equal(guest_connect(&g, NULL), 0);
	assert_non_null(strstr(rig_last.message, "control port"));
	g.ctrl_port = port;
	c.data_gref = g.ctrl_gref;
	g.ctrl_gref = 0x7fffffff;
	assert_int_not_equal(guest_connect(&g, NULL), 0);
	assert_non_null(strstr(rig_last.message, "control ring"));
	g.ctrl_gref = c.data_gref;
	assert_int_equal(guest_connect(&g, NULL), 0); /* nothing of that was left bound */
	assert_int_equal(ASK(&c, GET_HASH_MAPPING_SIZE, 0, 0, 0), 0);
	guest_down(&g);
	rig_check();
}

/* As many requests and events as it can make: its own answers come late, and nobody else is hurt. */
static void storms_cost_their_sender(void **state)
{
	struct net_guest g = { 0 };
	struct control c;
	unsigned answered = 0;
	int64_t end;

	(void)state;
	control_up(&c, &g, 2, FEATURES);
	hash_on(&c, 15);
	for (unsigned i = 0; i < 128; i++)
		c.data[i] = i % 2;
	assert_int_equal(ASK(&c, SET_HASH_MAPPING_SIZE, 128, 0, 0), 0);
	for (end = rig_ms() + 300; rig_ms() < end;) {
		for (unsigned room = pv_ring_room(&c.ring); room; room--)
			control_put(&c, XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, c.data_gref, 128, 0);
		control_publish(&c);
		pv_evt_notify(g.h, g.ctrl_port);
		for (int n = pv_ring_ready(&c.ring); n > 0; n--, answered++)
			assert_int_equal((*(const volatile struct xen_netif_ctrl_response *)pv_ring_take(&c.ring)).status, 0);
	}
	rig_check_exchange();
	assert_true(answered);
	end = rig_ms() + PATIENCE;
	while (c.ring.cons != c.ring.prod) {
		assert_true(rig_ms() < end);
		for (int n = pv_ring_ready(&c.ring); n > 0; n--)
			pv_ring_take(&c.ring);
	}
	for (end = rig_ms() + 300; rig_ms() < end;)
		pv_evt_notify(g.h, g.ctrl_port);
	assert_int_equal(ASK(&c, GET_HASH_MAPPING_SIZE, 0, 0, 0), 0);
	guest_down(&g);
	rig_check();
}

/* ---- static grants ---- */

/* Two guests with all their pages static: not a single copy operation between them, large packets and small. */
static void static_pages_are_copied_without_the_hypervisor(void **state)
{
	struct net_guest g = { 0 }, h = { 0 };
	struct net_guest *const both[] = { &g, &h };
	struct control c[2];
	uint32_t size;
	int64_t before;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		control_up(&c[i], both[i], 1, FEATURES);
		assert_int_equal(ask(&c[i], XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE, 0, 0, 0, &size), 0);
		assert_int_equal(size, 512);
		list_of(&c[i], both[i]->q[0].tx_grefs, TX_PAGES, XEN_NETIF_CTRLF_GREF_readonly);
		assert_int_equal(ASK(&c[i], ADD_GREF_MAPPING, 0, c[i].data_gref, TX_PAGES), 0);
		list_of(&c[i], both[i]->q[0].rx_grefs, RX_PAGES, 0);
		assert_int_equal(ASK(&c[i], ADD_GREF_MAPPING, 0, c[i].data_gref, RX_PAGES), 0);
		assert_int_equal(static_grants(both[i]), TX_PAGES + RX_PAGES);
	}
	before = copies(&g);
	for (unsigned i = 0; i < 50; i++) {
		exchange(&g, &h, 60 + i, i);
		exchange(&h, &g, 65535 - i, i);
	}
	assert_int_equal(copies(&g), before);
	exchange(&g, &peers.a, 3000, 1); /* and with others */
	exchange(&peers.a, &g, 30000, 1);
	assert_true(copies(&g) > before);
	guest_down(&h);
	guest_down(&g);
	rig_check();
}

/* Some of the pages, in any order, taken out while they are posted: each slot is copied one way or the other. */
static void static_pages_come_and_go(void **state)
{
	struct xen_netif_gref *list;
	struct net_guest g = { 0 };
	struct control c;
	uint32_t n;

	(void)state;
	control_up(&c, &g, 1, FEATURES);
	list = (struct xen_netif_gref *)c.data;
	list_of(&c, g.q[0].rx_grefs, 32, 0);
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 32), 0);
	list_of(&c, g.q[0].tx_grefs, 8, 0);
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 8), 0);
	exchange(&peers.a, &g, 20000, 1);
	exchange(&g, &peers.a, 20000, 2);
	rx_post(&g, 0, 20); /* in use */
	list_of(&c, g.q[0].rx_grefs + 3, 17, 0);
	list[5].ref = 0x7fffffff;
	list[6].ref = list[7].ref; /* twice */
	assert_int_equal(ask(&c, XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING, 0, c.data_gref, 17, &n), 0);
	assert_int_equal(n, 15);
	for (unsigned i = 0; i < 17; i++)
		assert_int_equal(list[i].status, i == 5 || i == 7 ? STATUS(INVALID_PARAMETER) : STATUS(SUCCESS));
	assert_int_equal(static_grants(&g), 25);
	exchange(&peers.a, &g, 20000, 3);
	exchange(&g, &peers.a, 40000, 4);
	list_of(&c, g.q[0].rx_grefs, 32, 0);
	assert_int_equal(ask(&c, XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING, 0, c.data_gref, 32, &n), 0);
	assert_int_equal(n, 17);
	exchange(&peers.a, &g, 20000, 5);
	for (unsigned i = 0; i < 50; i++) { /* as often as it likes: what is taken out is unmapped */
		list_of(&c, g.q[0].rx_grefs, 32, 0);
		assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 32), 0);
		assert_int_equal(ASK(&c, DEL_GREF_MAPPING, 0, c.data_gref, 32), 0);
	}
	list_of(&c, g.q[0].rx_grefs, 32, 0);
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 32), 0);
	exchange(&peers.a, &g, 20000, 6);
	guest_down(&g);
	rig_check();
}

static void static_lists_that_are_no_good(void **state)
{
	struct xen_netif_gref *list;
	struct net_guest g = { 0 };
	uint32_t ro_grefs[2], ro_gref;
	struct control c;
	unsigned added;
	uint32_t n;
	void *ro;

	(void)state;
	control_up(&c, &g, 2, FEATURES);
	list = (struct xen_netif_gref *)c.data;
	list_of(&c, g.q[0].rx_grefs, 10, 0);
	list[9].ref = list[0].ref;
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 10), STATUS(INVALID_PARAMETER)); /* twice in a list */
	list[9].flags = XEN_NETIF_CTRLF_GREF_readonly;
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 10), STATUS(INVALID_PARAMETER)); /* in two ways */
	list[9].ref = 0x7fffffff;
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 10), STATUS(INVALID_PARAMETER)); /* none of it */
	assert_int_equal(static_grants(&g), 0);
	list_of(&c, g.q[0].rx_grefs, 10, 0);
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 10), 0);
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 10), STATUS(INVALID_PARAMETER)); /* once more */
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 1, c.data_gref, 10), 0); /* another queue may have them too */
	assert_int_equal(pv_gnt_share(g.h, 0, 2, false, NULL, ro_grefs, &ro), 0);
	ro_gref = ro_grefs[0];
	list_of(&c, &ro_gref, 1, 0);
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 1), STATUS(INVALID_PARAMETER)); /* not to be written */
	list_of(&c, &ro_gref, 1, XEN_NETIF_CTRLF_GREF_readonly);
	assert_int_equal(ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 1), 0);
	assert_int_equal(ASK(&c, DEL_GREF_MAPPING, 0, ro_gref, 1), STATUS(INVALID_PARAMETER)); /* a list that cannot be answered */
	assert_int_equal(static_grants(&g), 21);
	list_of(&c, g.q[1].rx_grefs, 1, 0);
	assert_int_equal(ask(&c, XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING, 1, c.data_gref, 1, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(list[0].status, STATUS(INVALID_PARAMETER));
	for (added = 10; added < RX_PAGES; added++) { /* one by one: as many mappings as a queue may have, and no more */
		list_of(&c, g.q[0].rx_grefs + added, 1, 0);
		if (ASK(&c, ADD_GREF_MAPPING, 0, c.data_gref, 1))
			break;
	}
	assert_in_range(added, 20, 50);
	exchange(&peers.a, &g, 100, 1);
	guest_down(&g);
	rig_check();
}

/* Pages are revoked under a list that names them, and while they are static. */
static void static_pages_are_revoked(void **state)
{
	uint32_t grefs[16];
	struct net_guest g = { 0 };
	struct control c;
	void *pages;

	(void)state;
	for (int round = 0; round < 20; round++) {
		control_up(&c, &g, 1, FEATURES);
		assert_int_equal(pv_gnt_share(g.h, 0, 16, true, NULL, grefs, &pages), 0);
		list_of(&c, grefs, 16, 0);
		control_put(&c, XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, 0, c.data_gref, 16);
		control_publish(&c);
		if (round & 1)
			control_answer(&c);
		pv_gnt_unshare(g.h, pages, 16);
		if (!(round & 1))
			control_answer(&c); /* either way */
		pv_net_tx_fill(&g.q[0].tx, grefs[0], 0, 0, 7, 100);
		tx_publish(&g, 0);
		assert_true(tx_answers(&g, 0, 1, NULL, PATIENCE));
		if (round % 3)
			ASK(&c, DEL_GREF_MAPPING, 0, c.data_gref, 16);
		guest_down(&g);
	}
	rig_check();
}

/* Connected and disconnected with requests under way. */
static void comes_and_goes_with_requests_under_way(void **state)
{
	struct net_guest g = { 0 };
	struct control c;

	(void)state;
	for (unsigned round = 0; round < 100; round++) {
		control_up(&c, &g, 1 + round % 4, FEATURES);
		list_of(&c, g.q[0].rx_grefs, 200, 0);
		control_put(&c, XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, 0, c.data_gref, 200);
		control_put(&c, XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, 1, 0, 0);
		control_put(&c, XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS, 15, 0, 0);
		control_put(&c, XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING, 0, c.data_gref, 100);
		control_publish(&c);
		if (round % 3)
			usleep(round * 10);
		if (round % 7 == 6) {
			rig_domain_end(g.h, g.domid); /* the guest goes first */
			assert_int_equal(guest_call(&g, "disconnect"), 0);
			assert_int_equal(guest_call(&g, "remove"), 0);
			memset(&g, 0, sizeof(g));
		} else {
			guest_down(&g);
		}
	}
	rig_check();
}

/* ---- multicast ---- */

static void multicast_is_filtered_for_who_asked(void **state)
{
	static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 }, group[6] = { 0x33, 0x33, 0, 0, 0, 1 }, other[6] = { 0x33, 0x33, 0, 0, 0, 2 };
	struct net_guest g = { 0 };

	(void)state;
	guest_up(&g, 2, ALL_FEATURES | PV_VIF_MCAST_CONTROL, NULL);
	for (unsigned q = 0; q < 2; q++)
		rx_post(&g, q, 20);
	assert_int_equal(mcast(&g, 1, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, group), NETIF_RSP_OKAY);
	assert_int_equal(mcast(&g, 0, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, group), NETIF_RSP_OKAY); /* it is there already */
	send_group(other, &peers.b, 1);
	send_group(group, &peers.b, 2);
	send_group(all, &peers.b, 3);
	guest_stat_reaches(&g, NULL, "rx_packets", 2);
	assert_int_equal(guest_stat(&g, NULL, "rx_filtered"), 1);
	assert_int_equal(mcast(&g, 0, XEN_NETIF_EXTRA_TYPE_MCAST_DEL, group), NETIF_RSP_OKAY);
	assert_int_equal(mcast(&g, 0, XEN_NETIF_EXTRA_TYPE_MCAST_DEL, group), NETIF_RSP_OKAY);
	send_group(group, &peers.b, 4);
	assert_int_equal(guest_stat(&g, NULL, "rx_filtered"), 2);
	assert_int_equal(mcast(&g, 0, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, g.mac), NETIF_RSP_ERROR); /* no group */
	g.features &= ~(uint32_t)PV_VIF_MCAST_CONTROL; /* while it is connected: everything again */
	assert_int_equal(guest_connect(&g, NULL), 0);
	send_group(group, &peers.b, 5);
	guest_stat_reaches(&g, NULL, "rx_packets", 3);
	assert_int_equal(mcast(&g, 0, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, group), NETIF_RSP_OKAY); /* it may be changed at any time */
	g.features |= PV_VIF_MCAST_CONTROL;
	assert_int_equal(guest_connect(&g, NULL), 0);
	send_group(other, &peers.b, 6);
	send_group(group, &peers.b, 7);
	guest_stat_reaches(&g, NULL, "rx_packets", 4);
	assert_int_equal(guest_stat(&g, NULL, "rx_filtered"), 3);
	guest_down(&g);
	rig_check();
}

static void the_65th_group_is_refused(void **state)
{
	uint8_t group[6] = { 0x33, 0x33, 0, 0, 0, 0 };
	struct net_guest g = { 0 };

	(void)state;
	guest_up(&g, 2, ALL_FEATURES | PV_VIF_MCAST_CONTROL, NULL);
	for (unsigned i = 0; i < 64; i++) {
		group[5] = (uint8_t)i;
		assert_int_equal(mcast(&g, i % 2, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, group), NETIF_RSP_OKAY);
	}
	group[5] = 64;
	assert_int_equal(mcast(&g, 0, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, group), NETIF_RSP_ERROR);
	exchange(&peers.a, &g, 100, 1); /* the vif goes on */
	group[5] = 3;
	assert_int_equal(mcast(&g, 1, XEN_NETIF_EXTRA_TYPE_MCAST_DEL, group), NETIF_RSP_OKAY);
	group[5] = 64;
	assert_int_equal(mcast(&g, 0, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, group), NETIF_RSP_OKAY);
	guest_down(&g);
	rig_check();
}

/* ---- headroom, and silence ---- */

static void headroom_is_left_free(void **state)
{
	static const uint32_t rooms[] = { 0, 1, 256, 2048 };
	struct pv_net_rx_packet p;
	struct net_guest g = { 0 };

	(void)state;
	guest_open(&g, 1, ALL_FEATURES | PV_VIF_HEADROOM);
	assert_int_equal(guest_prepare(&g, LARGE_MTU), 0);
	for (unsigned i = 0; i < 4; i++) { /* the first connects, the others change it */
		uint32_t room = g.headroom = rooms[i];
		unsigned len = i < 3 ? 65535 : 18 * 2048;

		assert_int_equal(guest_connect(&g, LARGE_MTU), 0);
		memset(g.q[0].rx_data, 0xee, RX_PAGES * PV_PAGE_SIZE);
		frame(sent, g.mac, peers.a.mac, len, i);
		rx_post(&g, 0, 20);
		tx_packet(&peers.a, 0, 0, sent, len);
		tx_publish(&peers.a, 0);
		assert_int_equal(rx_packet(&g, 0, got, &p, PATIENCE), len);
		assert_memory_equal(got, sent, len);
		for (unsigned k = 0; k < p.nr; k++) {
			assert_int_equal(p.frag[k].offset, room);
			for (unsigned b = 0; b < room; b++)
				assert_int_equal(g.q[0].rx_data[p.frag[k].id * PV_PAGE_SIZE + b], 0xee);
		}
		assert_true(tx_answers(&peers.a, 0, (len + 4095) / 4096, NULL, PATIENCE));
	}
	frame(sent, g.mac, peers.a.mac, 18 * 2048 + 1, 9); /* more than 18 pages is more than Linux takes */
	tx_packet(&peers.a, 0, 0, sent, 18 * 2048 + 1);
	tx_publish(&peers.a, 0);
	assert_true(tx_answers(&peers.a, 0, 10, NULL, PATIENCE));
	assert_int_equal(guest_stat(&g, NULL, "rx_too_big"), 1);
	g.headroom = 2049;
	assert_int_not_equal(guest_connect(&g, LARGE_MTU), 0);
	guest_down(&g);
	rig_check();
}

/* What waits while the headroom grows, and then needs too many pages, is dropped; the vif goes on. */
static void headroom_grows_under_what_waits(void **state)
{
	struct net_guest g = { 0 };

	(void)state;
	guest_open(&g, 1, ALL_FEATURES | PV_VIF_HEADROOM);
	assert_int_equal(guest_prepare(&g, LARGE_MTU), 0);
	assert_int_equal(guest_connect(&g, LARGE_MTU), 0);
	frame(sent, g.mac, peers.a.mac, 65535, 1);
	tx_packet(&peers.a, 0, 0, sent, 65535);
	tx_publish(&peers.a, 0);
	assert_true(tx_answers(&peers.a, 0, 16, NULL, PATIENCE));
	g.headroom = 2048;
	assert_int_equal(guest_connect(&g, LARGE_MTU), 0);
	rx_post(&g, 0, 64);
	guest_stat_reaches(&g, NULL, "rx_too_big", 1);
	guest_again(&g, LARGE_MTU);
	exchange(&peers.a, &g, 1000, 2);
	guest_down(&g);
	rig_check();
}

/* It posts pages and tells nobody: it is looked at for a while, and what waits longer than that is dropped. */
static void silent_receiver_is_looked_at(void **state)
{
	struct net_guest g = { 0 };
	struct net_queue *q = &g.q[0];
	unsigned late = 0;
	uint64_t dropped;

	(void)state;
	guest_up(&g, 1, ALL_FEATURES | PV_VIF_NO_RX_NOTIFY, NULL);
	frame(sent, g.mac, peers.a.mac, 100, 1);
	tx_packet(&peers.a, 0, 0, sent, 100);
	tx_publish(&peers.a, 0);
	assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	guest_stat_reaches(&g, NULL, "rx_full", 1); /* it posted nothing, in time */
	dropped = (uint64_t)guest_stat(&g, NULL, "rx_full");
	for (unsigned i = 0; i < 25; i++) {
		uint16_t id = (uint16_t)(q->rx.prod % RX_PAGES);

		tx_packet(&peers.a, 0, 0, sent, 100);
		tx_publish(&peers.a, 0);
		assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
		usleep(2000); /* long after it would have gone to sleep */
		pv_net_rx_fill(&q->rx, id, q->rx_grefs[id]);
		pv_ring_publish(&q->rx); /* without a word */
		if (!rx_packet(&g, 0, got, NULL, 200)) { /* too late, on a machine that is slow beyond measure */
			assert_true((uint64_t)guest_stat(&g, NULL, "rx_full") > dropped);
			guest_again(&g, NULL);
			dropped = 0;
			continue;
		}
		assert_memory_equal(got, sent, 100);
		late++;
	}
	assert_true(late); /* one of 25 at the very least was in time */
	guest_down(&g);
	rig_check();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hash_steers_and_is_told),
		cmocka_unit_test(hash_and_gso_together),
		cmocka_unit_test(mapping_is_replaced_while_packets_flow),
		cmocka_unit_test(illegal_requests_are_answered),
		cmocka_unit_test(lying_index_breaks_the_vif),
		cmocka_unit_test(ring_that_cannot_be_had_refuses_the_vif),
		cmocka_unit_test(storms_cost_their_sender),
		cmocka_unit_test(static_pages_are_copied_without_the_hypervisor),
		cmocka_unit_test(static_pages_come_and_go),
		cmocka_unit_test(static_lists_that_are_no_good),
		cmocka_unit_test(static_pages_are_revoked),
		cmocka_unit_test(comes_and_goes_with_requests_under_way),
		cmocka_unit_test(multicast_is_filtered_for_who_asked),
		cmocka_unit_test(the_65th_group_is_refused),
		cmocka_unit_test(headroom_is_left_free),
		cmocka_unit_test(headroom_grows_under_what_waits),
		cmocka_unit_test(silent_receiver_is_looked_at),
	};

	return rig_run_group_twice(tests);
}
