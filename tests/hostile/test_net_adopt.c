/* A process of pvio-netback is killed, and the next one goes on with the same rings: from whatever instant the first one had come to, each
 * request is answered exactly once, and what the guest does to its rings meanwhile is its own affair.
 *
 * The instants are made, not hoped for: while no process runs, this test writes into a guest's rings and in-flight log what a process
 * would have written until then. */
#include "net_adopt.h"

static struct net_guest c;
static uint8_t sent[65536], got[65536];

/* What the dead process knew of a ring of c: 0 tx, 1 rx. */
static void log_set(unsigned ring, uint32_t answered, uint32_t taken)
{
	struct pv_inflight *f = log_open(&c);

	pv_inflight_ring(f, ring)->answered = answered;
	pv_inflight_ring(f, ring)->taken = taken;
	pv_inflight_close(f);
}

/* ---- tx ---- */

enum { REQUEST, EXTRA };

/* Publish, with nobody there to take it: two pages, then a large packet with extra-info and four more, then `n` of one page to a. Returns
 * the slots of the first two. */
static unsigned send_to_nobody(unsigned n, uint8_t kind[SLOTS])
{
	const struct netif_extra_info gso = { .type = XEN_NETIF_EXTRA_TYPE_GSO, .u.gso = { .size = 1400, .type = XEN_NETIF_GSO_TYPE_TCPV4 } };
	unsigned len = tcp_frame(sent, V4, peers.a.mac, c.mac, 16000, 7), slots = 0;

	memset(kind, REQUEST, SLOTS);
	frame(got, peers.a.mac, c.mac, 5000, 1);
	slots += tx_packet(&c, 0, 0, got, 5000);
	memcpy(c.q[0].tx_data + 2 * PV_PAGE_SIZE, sent, len);
	tx_slot(&c, 0, 2, 0, len, NETTXF_extra_info | NETTXF_more_data | NETTXF_csum_blank);
	kind[slots + 1] = EXTRA;
	tx_extra(&c, 0, &gso);
	for (unsigned i = 1; i < 4; i++)
		tx_slot(&c, 0, 2 + i, 0, i < 3 ? PV_PAGE_SIZE : len - 3 * PV_PAGE_SIZE, i < 3 ? NETTXF_more_data : 0);
	slots += 5;
	for (unsigned i = 0; i < n; i++) {
		frame(got, peers.a.mac, c.mac, 100 + i, i);
		tx_packet(&c, 0, 6 + i, got, 100 + i);
	}
	tx_publish(&c, 0);
	return slots;
}

/* The first `m` of them were answered, as netback does it, when the process died. */
static void answer_unpublished(uint32_t from, unsigned m, const uint8_t *kind)
{
	struct pv_ring r;

	pv_ring_init_back(&r, c.q[0].tx_page, PV_PAGE_SIZE, PV_NET_TX_SLOT);
	r.prod = from;
	for (unsigned i = 0; i < m; i++) {
		union pv_net_tx_slot s = *(union pv_net_tx_slot *)pv_ring_slot(&r, from + i);

		if (kind[i] == EXTRA)
			pv_net_tx_fill_rsp_null(&r, &s);
		else
			pv_net_tx_fill_rsp(&r, s.req.id, NETIF_RSP_OKAY);
	}
}

static void next_answer(struct netif_tx_response *r)
{
	int64_t end = rig_ms() + PATIENCE;

	while (pv_ring_ready(&c.q[0].tx) <= 0) {
		assert_true(rig_ms() < end);
		usleep(20);
	}
	pv_net_tx_take_rsp(&c.q[0].tx, r);
}

/* Killed with two packets taken, of whose slots m were answered: they are lost, and what was not taken arrives. */
static void taken_tx_is_answered_once(void **state)
{
	(void)state;
	for (unsigned m = 0; m <= 7; m++) {
		static const uint16_t ids[] = { 0, 1, 2, 0 /* extra */, 3, 4, 5 };
		uint8_t kind[SLOTS];
		uint32_t at = c.q[0].tx.prod;
		struct netif_tx_response r;
		unsigned n;

		die();
		n = send_to_nobody(3, kind);
		assert_int_equal(n, 7);
		answer_unpublished(at, m, kind);
		log_set(0, at, at + n);
		next();
		rx_post(&peers.a, 0, 10);
		assert_int_equal(adopt(&c), 0);
		for (unsigned i = 0; i < n; i++) {
			next_answer(&r);
			assert_int_equal(r.status, kind[i] == EXTRA ? NETIF_RSP_NULL : NETIF_RSP_DROPPED);
			if (kind[i] == REQUEST)
				assert_int_equal(r.id, ids[i]);
		}
		for (unsigned i = 0; i < 3; i++) {
			next_answer(&r);
			assert_int_equal(r.status, NETIF_RSP_OKAY);
			assert_int_equal(r.id, 6 + i);
			frame(sent, peers.a.mac, c.mac, 100 + i, i);
			assert_int_equal(rx_packet(&peers.a, 0, got, NULL, PATIENCE), 100 + i);
			assert_memory_equal(got, sent, 100 + i);
		}
		assert_int_equal(pv_ring_ready(&c.q[0].tx), 0);
		assert_int_equal(guest_stat(&c, NULL, "tx_lost"), 2);
		assert_int_equal(rx_packet(&peers.a, 0, got, NULL, 0), 0);
		guest_again(&peers.a, LARGE_MTU); /* its other pages are taken back */
	}
}

/* Killed between the log and the publishing: what was answered is published as it is. */
static void answered_tx_is_published(void **state)
{
	uint32_t at = c.q[0].tx.prod;
	uint8_t kind[SLOTS];
	int16_t status[7];

	(void)state;
	die();
	send_to_nobody(0, kind);
	answer_unpublished(at, 7, kind);
	log_set(0, at + 7, at + 7);
	next();
	assert_int_equal(adopt(&c), 0);
	assert_true(tx_answers(&c, 0, 7, status, PATIENCE));
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(status[i], kind[i] == EXTRA ? NETIF_RSP_NULL : NETIF_RSP_OKAY);
	assert_int_equal(guest_stat(&c, NULL, "tx_lost"), 0);
	exchange(&c, &peers.a, 3000, 1);
}

/* ---- rx ---- */

/* Killed with posted pages taken, of which some were answered, or turned into extra-info: each is given back with an error. */
static void taken_rx_is_given_back(void **state)
{
	(void)state;
	for (unsigned m = 0; m <= 4; m++) {
		uint32_t at = c.q[0].rx.cons;
		struct pv_inflight *f;
		struct pv_ring r;

		rx_post(&c, 0, 6);
		die();
		f = log_open(&c);
		assert_int_equal(pv_inflight_ring(f, 1)->taken, at);
		pv_inflight_ring(f, 1)->taken = at + 4;
		pv_inflight_ring(f, 1)->waiting = 5;
		for (unsigned i = 0; i < 4; i++)
			((uint16_t *)pv_inflight_ring(f, 1)->records)[(at + i) % SLOTS] = (uint16_t)((at + i) % RX_PAGES);
		pv_inflight_close(f);
		pv_ring_init_back(&r, c.q[0].rx_page, PV_PAGE_SIZE, PV_NET_RX_SLOT);
		r.prod = at;
		for (unsigned i = 0; i < m; i++) {
			if (i == 1)
				memset(pv_ring_fill(&r), 0xaa, PV_NET_RX_SLOT);
			else
				pv_net_rx_fill_rsp(&r, (uint16_t)((at + i) % RX_PAGES), 0, NETRXF_more_data | NETRXF_extra_info, 4096);
		}
		next();
		assert_int_equal(adopt(&c), 0);
		assert_int_equal(guest_stat(&c, NULL, "rx_lost"), 4 + 5);
		for (unsigned i = 0; i < 4; i++) {
			union pv_net_rx_slot s;

			assert_int_not_equal(pv_ring_ready(&c.q[0].rx), 0);
			pv_net_rx_take_rsp(&c.q[0].rx, &s);
			assert_int_equal(s.rsp.id, (at + i) % RX_PAGES);
			assert_int_equal(s.rsp.status, NETIF_RSP_ERROR);
			assert_int_equal(s.rsp.flags, 0);
		}
		assert_int_equal(pv_ring_ready(&c.q[0].rx), 0);
		frame(sent, c.mac, peers.a.mac, 5000, m); /* into the two that were not taken */
		tx_packet(&peers.a, 0, 0, sent, 5000);
		tx_publish(&peers.a, 0);
		assert_int_equal(rx_packet(&c, 0, got, NULL, PATIENCE), 5000);
		assert_memory_equal(got, sent, 5000);
		assert_true(tx_answers(&peers.a, 0, 2, NULL, PATIENCE));
	}
}

/* A guest that sleeps and whose event was lost is woken. */
static void guest_is_woken(void **state)
{
	uint32_t port[4];
	int64_t end = rig_ms() + PATIENCE;
	bool tx = false, rx = false;

	(void)state;
	die();
	next();
	while (pv_evt_pending(c.h, port, 4) > 0)
		;
	pv_evt_unmask(c.h, (uint32_t[]){ c.q[0].tx_port, c.q[0].rx_port }, 2);
	assert_int_equal(adopt(&c), 0);
	while (!tx || !rx) {
		int n = pv_evt_pending(c.h, port, 4);

		for (int i = 0; i < n; i++) {
			tx |= port[i] == c.q[0].tx_port;
			rx |= port[i] == c.q[0].rx_port;
		}
		assert_true(rig_ms() < end);
	}
	exchange(&c, &peers.b, 100, 1);
}

/* ---- handed over ---- */

/* What waits for a guest is given to it before the process ends, as far as it has pages; what others send then waits in their rings. */
static void what_waits_is_delivered_first(void **state)
{
	enum { PACKETS = 200 };

	(void)state;
	for (unsigned i = 0; i < PACKETS; i++) {
		frame(sent, c.mac, peers.a.mac, 100 + i, i);
		tx_packet(&peers.a, 0, i % TX_PAGES, sent, 100 + i);
		tx_publish(&peers.a, 0);
		assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	}
	kill(rig.backend, SIGSTOP);
	rx_post(&c, 0, PACKETS);
	retire();
	kill(rig.backend, SIGCONT);
	waitpid(rig.backend, NULL, 0);
	for (unsigned i = 0; i < PACKETS; i++) {
		frame(sent, c.mac, peers.a.mac, 100 + i, i);
		assert_int_equal(rx_packet(&c, 0, got, NULL, 0), 100 + i);
		assert_memory_equal(got, sent, 100 + i);
	}
	next();
	assert_int_equal(adopt(&c), 0);
	assert_int_equal(guest_stat(&c, NULL, "rx_lost"), 0);
	exchange(&peers.a, &c, 100, 1);
}

/* ---- what a guest does meanwhile ---- */

static struct pv_any_sring *shared(void *page)
{
	return page;
}

static void broken_alone(void)
{
	next();
	assert_int_equal(adopt(&c), 0);
	wait_broken(&c);
	rig_check_exchange();
	guest_rings_reset(&c);
	assert_int_equal(guest_connect(&c, LARGE_MTU), 0); /* and it may begin anew */
	exchange(&c, &peers.a, 1000, 1);
}

static void requests_impossible_break_it_alone(void **state)
{
	static const uint32_t wrong[] = { SLOTS + 1, 0x80000000, (uint32_t)-1 };

	(void)state;
	for (unsigned i = 0; i < 2 * 3; i++) {
		struct net_queue *q = &c.q[0];

		die();
		shared(i & 1 ? q->tx_page : q->rx_page)->req_prod = (i & 1 ? q->tx.published : q->rx.published) + wrong[i / 2];
		if (!(i & 1)) { /* its pages matter when there is something to receive */
			next();
			assert_int_equal(adopt(&c), 0);
			frame(sent, c.mac, peers.a.mac, 100, 1);
			tx_packet(&peers.a, 0, 0, sent, 100);
			tx_publish(&peers.a, 0);
			assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
			wait_broken(&c);
			guest_rings_reset(&c);
			assert_int_equal(guest_connect(&c, LARGE_MTU), 0);
			continue;
		}
		broken_alone();
	}
}

/* What it says of our own index is not even looked at. */
static void responses_rewritten_are_put_right(void **state)
{
	(void)state;
	for (uint32_t wrong = 1; wrong; wrong *= 16) {
		die();
		shared(c.q[0].tx_page)->rsp_prod += wrong;
		shared(c.q[0].rx_page)->rsp_prod -= wrong;
		next();
		assert_int_equal(adopt(&c), 0);
		exchange(&c, &peers.a, 5000, wrong);
		exchange(&peers.a, &c, 5000, wrong);
	}
}

/* Slots that were taken turn into something else: it gets so many answers, whatever is in them. */
static void taken_slots_rewritten_harm_nobody(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 8; seed++) {
		uint32_t at = c.q[0].tx.prod;
		uint8_t kind[SLOTS];

		die();
		send_to_nobody(0, kind);
		srand(seed);
		for (unsigned i = 0; i < 7 * PV_NET_TX_SLOT; i++)
			((uint8_t *)pv_ring_slot(&c.q[0].tx, at))[i < (SLOTS - at % SLOTS) * PV_NET_TX_SLOT ? i : 0] = (uint8_t)rand();
		log_set(0, at, at + 7);
		next();
		assert_int_equal(adopt(&c), 0);
		assert_true(tx_answers(&c, 0, 7, NULL, PATIENCE));
		rig_check_exchange();
		exchange(&c, &peers.a, 100, seed);
	}
}

/* ---- what cannot be adopted ---- */

static void only_the_same_connection_is_adopted(void **state)
{
	char path[100];

	(void)state;
	die();
	log_set(0, 0, SLOTS + 1); /* no process writes that */
	next();
	assert_int_equal(adopt(&c), -ENOENT);
	assert_int_equal(guest_call(&c, "disconnect"), 0);
	guest_rings_reset(&c);
	assert_int_equal(guest_connect(&c, LARGE_MTU), 0);
	die();
	next();
	c.q[0].tx_gref ^= 1; /* another choice than was served */
	assert_int_equal(adopt(&c), -ENOENT);
	c.q[0].tx_gref ^= 1;
	snprintf(path, sizeof(path), "%s/vif-%u-%u.inflight", rig.dir, c.domid, c.devid);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(adopt(&c), -ENOENT);
	guest_rings_reset(&c);
	assert_int_equal(guest_connect(&c, LARGE_MTU), 0);
	exchange(&c, &peers.a, 100, 1);
}

/* The process before lives still, without our knowing: it keeps its devices until it has ended. */
static void two_never_serve_the_same_rings(void **state)
{
	pid_t old = rig.backend;

	(void)state;
	kill(old, SIGSTOP);
	assert_int_equal(rig_start_backend("pvio-netback", heir_args), 0);
	assert_int_equal(adopt(&c), -EAGAIN);
	kill(old, SIGKILL);
	waitpid(old, NULL, 0);
	assert_int_equal(adopt(&c), 0);
	assert_int_equal(adopt(&peers.a), 0);
	assert_int_equal(adopt(&peers.b), 0);
	rig_check_exchange();
}

/* The kernel closes what a dead process had in an order of its own: the log is free, and a port is not yet. Here its other end is this test's. */
static void port_that_is_not_free_is_waited_for(void **state)
{
	int port;

	(void)state;
	die();
	port = pv_evt_bind(rig.dom0, c.domid, c.q[0].rx_port);
	assert_true(port > 0);
	next();
	for (int i = 0; i < 5; i++)
		assert_int_equal(adopt(&c), -EAGAIN);
	assert_non_null(strstr(rig_last.message, "rx port"));
	assert_int_equal(pv_evt_unbind(rig.dom0, (uint32_t)port), 0);
	assert_int_equal(adopt(&c), 0);
	exchange(&c, &peers.a, 5000, 1);
	exchange(&peers.a, &c, 5000, 1);
}

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(taken_tx_is_answered_once, up, down),
		cmocka_unit_test_setup_teardown(answered_tx_is_published, up, down),
		cmocka_unit_test_setup_teardown(taken_rx_is_given_back, up, down),
		cmocka_unit_test_setup_teardown(guest_is_woken, up, down),
		cmocka_unit_test_setup_teardown(what_waits_is_delivered_first, up, down),
		cmocka_unit_test_setup_teardown(requests_impossible_break_it_alone, up, down),
		cmocka_unit_test_setup_teardown(responses_rewritten_are_put_right, up, down),
		cmocka_unit_test_setup_teardown(taken_slots_rewritten_harm_nobody, up, down),
		cmocka_unit_test_setup_teardown(only_the_same_connection_is_adopted, up, down),
		cmocka_unit_test_setup_teardown(two_never_serve_the_same_rings, up, down),
		cmocka_unit_test_setup_teardown(port_that_is_not_free_is_waited_for, up, down),
	};

	return rig_run_group(tests);
}
