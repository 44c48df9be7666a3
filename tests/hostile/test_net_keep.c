/* What a guest told its backend beside its packets - hashing, static grants, multicast groups - is there after the process was killed, and its
 * control ring goes on: each request is carried out once and answered once, whatever instant the process had come to.
 *
 * Some of the instants are made: while no process runs, this test puts ring and log back to what they were then. */
#include "net_ctrl.h"
#include "net_adopt.h"

enum { PAGES = 32, QUEUES = 4 };

static struct net_guest c;
static struct control t;

static const uint8_t group[6] = { 0x33, 0x33, 0, 0, 0, 1 }, other[6] = { 0x33, 0x33, 0, 0, 0, 2 };

static int up(void **state)
{
	(void)state;
	control_up(&t, &c, QUEUES, FEATURES | PV_VIF_MCAST_CONTROL);
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

static void killed_and_adopted(void)
{
	die();
	next();
	assert_int_equal(adopt(&c), 0);
}

static uint32_t change_pages(uint16_t type, unsigned queue, uint32_t *done)
{
	list_of(&t, c.q[queue].rx_grefs, PAGES, 0);
	return ask(&t, type, queue, t.data_gref, PAGES, done);
}

/* A packet for it, on whichever queue. */
static void it_receives(unsigned len, unsigned seed)
{
	int64_t end = rig_ms() + PATIENCE;
	unsigned q = 0, n = 0;

	for (unsigned i = 0; i < QUEUES; i++)
		rx_post(&c, i, (len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE);
	frame(sent, c.mac, peers.a.mac, len, seed);
	tx_packet(&peers.a, 0, 0, sent, len);
	tx_publish(&peers.a, 0);
	for (; !n && rig_ms() < end; q = (q + 1) % QUEUES)
		n = rx_packet(&c, q, got, NULL, 0);
	assert_int_equal(n, len);
	assert_memory_equal(got, sent, len);
	assert_true(tx_answers(&peers.a, 0, (len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE, NULL, PATIENCE));
}

/* ---- nothing happens meanwhile ---- */

static void hashing_goes_on(void **state)
{
	unsigned len;

	(void)state;
	hash_on(&t, XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP);
	for (unsigned q = 1; q < QUEUES; q += 2) {
		map_all_to(&t, q, 128);
		killed_and_adopted();
		len = rss_frame(&c);
		assert_int_equal(arrives(&c, q, len).hash_value, 0x51ccc178);
	}
	assert_int_equal(ASK(&t, SET_HASH_ALGORITHM, XEN_NETIF_CTRL_HASH_ALGORITHM_NONE, 0, 0), 0); /* and it was switched off */
	killed_and_adopted();
	assert_int_equal(ASK(&t, GET_HASH_FLAGS, 0, 0, 0), STATUS(NOT_SUPPORTED));
}

/* Read-only pages and writable ones, and those of another queue: they serve, and are known when they are taken out. */
static void static_grants_serve_on(void **state)
{
	int64_t before;
	uint32_t n;

	(void)state;
	list_of(&t, c.q[0].tx_grefs, TX_PAGES, XEN_NETIF_CTRLF_GREF_readonly);
	assert_int_equal(ASK(&t, ADD_GREF_MAPPING, 0, t.data_gref, TX_PAGES), 0);
	for (unsigned q = 0; q < 2; q++)
		assert_int_equal(change_pages(XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, q, NULL), 0);
	killed_and_adopted();
	assert_int_equal(static_grants(&c), TX_PAGES + 2 * PAGES);
	before = copies(&c);
	for (unsigned i = 0; i < 10; i++) { /* to nobody: the pages are read without the hypervisor */
		frame(sent, c.mac, c.mac, 100, i);
		tx_packet(&c, 0, i, sent, 100);
		tx_publish(&c, 0);
		assert_true(tx_answers(&c, 0, 1, NULL, PATIENCE));
	}
	assert_int_equal(copies(&c), before);
	exchange(&c, &peers.a, 30000, 1);
	it_receives(30000, 2);
	assert_int_equal(change_pages(XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, 0, NULL), STATUS(INVALID_PARAMETER)); /* they are there */
	for (unsigned q = 0; q < 2; q++) {
		assert_int_equal(change_pages(XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING, q, &n), 0);
		assert_int_equal(n, PAGES);
	}
	killed_and_adopted();
	assert_int_equal(static_grants(&c), TX_PAGES);
	it_receives(30000, 3);
}

static void filter_goes_on(void **state)
{
	(void)state;
	assert_int_equal(mcast(&c, 1, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, group), NETIF_RSP_OKAY);
	assert_int_equal(mcast(&c, 0, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, other), NETIF_RSP_OKAY);
	assert_int_equal(mcast(&c, 0, XEN_NETIF_EXTRA_TYPE_MCAST_DEL, other), NETIF_RSP_OKAY);
	killed_and_adopted();
	for (unsigned q = 0; q < QUEUES; q++)
		rx_post(&c, q, 20);
	send_group(other, &peers.b, 1);
	send_group(group, &peers.b, 2);
	guest_stat_reaches(&c, NULL, "rx_packets", 1);
	assert_int_equal(guest_stat(&c, NULL, "rx_filtered"), 1);
	assert_int_equal(mcast(&c, 0, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, other), NETIF_RSP_OKAY); /* and can be changed */
	send_group(other, &peers.b, 3);
	guest_stat_reaches(&c, NULL, "rx_packets", 2);
}

/* ---- requests under way ---- */

/* The instants of a request's life behind its being taken. */
enum { COMMITTED, WRITTEN, LOGGED, INSTANTS };

/* A request was answered, and its answer not looked at: the process died when it had only come so far. */
static void die_at(int instant, const struct xen_netif_ctrl_request *req)
{
	struct pv_inflight *f;
	struct keep *k;

	while (pv_ring_ready(&t.ring) == 0)
		usleep(20);
	die();
	f = log_open(&c);
	k = pv_inflight_area(f);
	assert_int_equal(k->answered, t.ring.prod);
	assert_int_equal(keep_state(k)->done, t.ring.prod);
	k->answered -= instant < LOGGED;
	pv_inflight_close(f);
	if (instant == COMMITTED)
		*(struct xen_netif_ctrl_request *)pv_ring_slot(&t.ring, t.ring.prod - 1) = *req;
	t.ring.shared->rsp_prod--;
}

static void carried_out_and_answered_once(void **state)
{
	(void)state;
	for (int round = 0; round < 2 * INSTANTS; round++) {
		uint16_t type = round & 1 ? XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING : XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING;
		struct xen_netif_ctrl_request req = { t.id, type, { 2, t.data_gref, PAGES } };
		struct xen_netif_ctrl_response r;

		list_of(&t, c.q[2].rx_grefs, PAGES, 0);
		control_put(&t, type, 2, t.data_gref, PAGES);
		control_publish(&t);
		die_at(round / 2, &req);
		next();
		assert_int_equal(adopt(&c), 0);
		r = control_answer(&t);
		assert_int_equal(r.id, req.id);
		assert_int_equal(r.type, type);
		assert_int_equal(r.status, 0);
		assert_int_equal(r.data, round & 1 ? PAGES : 0);
		assert_int_equal(ASK(&t, GET_HASH_MAPPING_SIZE, 0, 0, 0), 0); /* the next answer is the next request's */
		assert_int_equal(static_grants(&c), round & 1 ? 0 : PAGES);
	}
}

/* Published with nobody there, as many as the ring has slots. */
static void what_waited_is_carried_out(void **state)
{
	unsigned n = 0;

	(void)state;
	assert_int_equal(ASK(&t, GET_HASH_MAPPING_SIZE, 0, 0, 0), 0); /* the ring's end is not its beginning */
	die();
	list_of(&t, c.q[0].rx_grefs, PAGES, 0);
	for (unsigned room = pv_ring_room(&t.ring); n < room; n++)
		control_put(&t, n & 1 ? XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING : XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, 0, t.data_gref, PAGES);
	control_publish(&t);
	next();
	assert_int_equal(adopt(&c), 0);
	for (uint16_t id = (uint16_t)(t.id - n); n--; id++) {
		struct xen_netif_ctrl_response r = control_answer(&t);

		assert_int_equal(r.id, id);
		assert_int_equal(r.status, 0);
	}
	assert_int_equal(static_grants(&c), 0);
}

/* Killed wherever it is: a page that was added twice, or not at all, would be told by the next answer. */
static void killed_at_any_instant(void **state)
{
	(void)state;
	srand((unsigned)rig_ms());
	for (unsigned round = 0; round < 4; round++) {
		uint16_t id = t.id;

		list_of(&t, c.q[0].rx_grefs, 1, 0);
		for (unsigned i = 0; i < 60; i++)
			control_put(&t, i & 1 ? XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING : XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, 0, t.data_gref, 1);
		control_publish(&t);
		usleep((unsigned)rand() % 2000);
		killed_and_adopted();
		for (; id != t.id; id++) {
			struct xen_netif_ctrl_response r = control_answer(&t);

			assert_int_equal(r.id, id);
			assert_int_equal(r.status, 0);
		}
		assert_int_equal(static_grants(&c), 0);
	}
}

/* ---- what a guest does meanwhile ---- */

/* It took back pages that it had left: they are of no use, and it has its packets all the same. */
static void revoked_pages_are_done_without(void **state)
{
	uint32_t grefs[4];
	void *pages;

	(void)state;
	assert_int_equal(pv_gnt_share(c.h, 0, 4, true, NULL, grefs, &pages), 0);
	list_of(&t, grefs, 4, 0);
	assert_int_equal(ASK(&t, ADD_GREF_MAPPING, 0, t.data_gref, 4), 0);
	assert_int_equal(change_pages(XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, 0, NULL), 0);
	die();
	pv_gnt_unshare(c.h, pages, 4);
	next();
	assert_int_equal(adopt(&c), 0);
	it_receives(30000, 1);
	assert_int_equal(static_grants(&c), 0);
	assert_int_equal(change_pages(XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, 0, NULL), 0);
	it_receives(30000, 2);
}

static void impossible_requests_break_it_alone(void **state)
{
	(void)state;
	die();
	t.ring.shared->req_prod = t.ring.prod + 1000;
	next();
	assert_int_equal(adopt(&c), 0);
	wait_broken(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(hashing_goes_on, up, down),
		cmocka_unit_test_setup_teardown(static_grants_serve_on, up, down),
		cmocka_unit_test_setup_teardown(filter_goes_on, up, down),
		cmocka_unit_test_setup_teardown(carried_out_and_answered_once, up, down),
		cmocka_unit_test_setup_teardown(what_waited_is_carried_out, up, down),
		cmocka_unit_test_setup_teardown(killed_at_any_instant, up, down),
		cmocka_unit_test_setup_teardown(revoked_pages_are_done_without, up, down),
		cmocka_unit_test_setup_teardown(impossible_requests_break_it_alone, up, down),
	};

	return rig_run_group(tests);
}
