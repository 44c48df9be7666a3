/* A hostile network backend (XSA-376, 391, 396): each lie breaks that device with -EPROTO or is survived, and it still closes. */
#include "tests/unit/front_fake_net.h"
#include <time.h>

static struct fake k;
static struct pv_netfront *f;
static struct fake_packet got;
static uint8_t frame[65536], room[65536 * 2];

static int start(void **state)
{
	(void)state;
	fake_start(&k);
	f = fake_connected_vif(&k, fake_vif_offer(), 1);
	fake_frame(frame, sizeof(frame), 0);
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Close without an answer from pviod: it takes its time and no more, and leaves nothing in the guest. */
static int stop(void **state)
{
	uint64_t before = now_ms();

	(void)state;
	pv_netfront_close(f, 20);
	assert_true(now_ms() - before < 20000); /* that it ends; how fast is the machine's */
	f = NULL;
	assert_int_equal(fake_guest(&k).handles, 0);
	k.queues = 0;
	fake_stop(&k);
	return 0;
}

static struct fake_queue *q(void)
{
	return &k.queue[0];
}

static int send_one(unsigned len)
{
	struct pv_netfront_packet p = { .data = frame, .len = len };

	return pv_netfront_send(f, 0, &p, 1);
}

static int recv_one(void)
{
	struct pv_netfront_packet p = { .data = room, .len = sizeof(room) };

	return pv_netfront_recv(f, 0, &p, 1);
}

/* The device is broken: every call says so, and why. */
static void assert_broken(void)
{
	assert_int_equal(pv_netfront_work(f), -EPROTO);
	assert_int_equal(send_one(60), -EPROTO);
	assert_int_equal(recv_one(), -EPROTO);
	assert_int_equal(pv_netfront_state(f), XenbusStateClosed);
	assert_non_null(strstr(pv_netfront_error(f), "vif 0"));
}

/* Let the frontend look at its tx answers. */
static int look_at_tx(void)
{
	int rc;

	fake_publish(&k, q(), &q()->tx);
	for (int i = 0; i < 1000 && (rc = pv_netfront_work(f)) == 0; i++)
		usleep(100);
	return rc;
}

static void tx_answered_twice(void **state)
{
	(void)state;
	assert_int_equal(send_one(60), 1);
	assert_int_equal(send_one(60), 1);
	assert_true(fake_take(&k, q(), &got));
	fake_answer(q(), &got, NETIF_RSP_OKAY);
	fake_answer(q(), &got, NETIF_RSP_OKAY);
	assert_int_equal(look_at_tx(), -EPROTO);
	assert_broken();
}

static void tx_answer_to_an_id_never_used(void **state)
{
	static const uint16_t ids[] = { 100, 256, 1215, 1216, 65535 }; /* a place, the first page and the last one, and none */
	enum { IDS = sizeof(ids) / sizeof(*ids) };

	for (unsigned i = 0; i < IDS; i++) {
		assert_int_equal(send_one(60), 1);
		pv_net_tx_fill_rsp(&q()->tx, ids[i], NETIF_RSP_OKAY);
		q()->tx.cons++;
		assert_int_equal(look_at_tx(), -EPROTO);
		assert_broken();
		if (i < IDS - 1) {
			stop(state);
			start(state);
		}
	}
}

static void tx_null_answers_without_extras(void **state)
{
	(void)state;
	assert_int_equal(send_one(60), 1);
	pv_net_tx_fill_rsp(&q()->tx, 0, NETIF_RSP_NULL);
	assert_int_equal(look_at_tx(), -EPROTO);
	assert_broken();
}

/* Half of a batch is answered well, then comes the lie: the good ones are no longer counted as in flight. */
static void tx_more_answers_than_requests(void **state)
{
	(void)state;
	assert_int_equal(send_one(60), 1);
	assert_true(fake_take(&k, q(), &got));
	fake_answer(q(), &got, NETIF_RSP_OKAY);
	((struct pv_any_sring *)q()->tx_page)->rsp_prod = 2;
	pv_evt_notify(k.h, q()->port);
	fake_until(pv_netfront_work(f) == -EPROTO);
	assert_broken();
}

static void tx_answer_indices_all_wrong(void **state)
{
	static const uint32_t prods[] = { 1, 256, 257, 0x7fffffff, 0x80000000, UINT32_MAX };

	(void)state;
	for (unsigned i = 0; i < sizeof(prods) / sizeof(prods[0]); i++) {
		((struct pv_any_sring *)q()->tx_page)->rsp_prod = prods[i];
		pv_evt_notify(k.h, q()->port);
		fake_until(pv_netfront_work(f) == -EPROTO);
		assert_broken();
		stop(state);
		start(state);
	}
}

static void tx_statuses_unknown(void **state)
{
	struct pv_netfront_stats s;

	(void)state;
	for (int status = -5; status < 0; status++) {
		assert_int_equal(send_one(60), 1);
		assert_true(fake_take(&k, q(), &got));
		fake_answer(q(), &got, (int16_t)status);
		fake_publish(&k, q(), &q()->tx);
	}
	for (unsigned i = 0; i < 300; i++) /* room is found, the ids came back */
		if (send_one(60) == 0)
			break;
	pv_netfront_stats(f, &s);
	assert_int_equal(s.tx_errors, 5);
	assert_int_equal(s.tx_packets, 256 + 5);
}

/* The backend rewrites the requests, and what the frontend reads back of the ring: nothing is read back. */
static void tx_ring_overwritten(void **state)
{
	(void)state;
	assert_int_equal(send_one(60), 1);
	for (unsigned i = 0; i < 8; i++)
		((uint64_t *)q()->tx_page)[8 + i] = 0xffffffffffffffffull;
	((struct pv_any_sring *)q()->tx_page)->req_prod = 0xdeadbeef;
	((struct pv_any_sring *)q()->tx_page)->rsp_event = 0xdeadbeef;
	assert_int_equal(send_one(60), 1);
	assert_int_equal(((volatile struct pv_any_sring *)q()->tx_page)->req_prod, 2); /* ours, from private memory */
	assert_int_equal(pv_netfront_state(f), XenbusStateConnected);
}

/* tx pages are the backend's to read only. */
static void tx_pages_are_read_only(void **state)
{
	void *addr;
	uint32_t gref;

	(void)state;
	assert_int_equal(send_one(60), 1);
	assert_true(fake_take(&k, q(), &got));
	gref = got.p.frag[0].gref;
	assert_int_equal(pv_gnt_map(k.h, (uint16_t)k.domid, &gref, 1, true, NULL, &addr), -EACCES);
}

static struct netif_rx_request posted(void)
{
	struct netif_rx_request req;

	assert_true(pv_ring_ready(&q()->rx) > 0);
	pv_net_rx_take(&q()->rx, &req);
	return req;
}

static void rx_answer_with_another_id(void **state)
{
	(void)state;
	posted();
	pv_net_rx_fill_rsp(&q()->rx, 1, 0, 0, 60);
	pv_ring_publish(&q()->rx);
	assert_int_equal(recv_one(), -EPROTO);
	assert_broken();
}

static void rx_id_of_a_later_fragment_wrong(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		posted();
	pv_net_rx_fill_rsp(&q()->rx, 0, 0, NETRXF_more_data, 60);
	pv_net_rx_fill_rsp(&q()->rx, 1, 0, NETRXF_more_data, 60);
	pv_net_rx_fill_rsp(&q()->rx, 1, 0, 0, 60);
	pv_ring_publish(&q()->rx);
	assert_int_equal(recv_one(), -EPROTO);
	assert_broken();
}

/* Lengths and offsets outside of the page: dropped and counted, nothing is read there. */
static void rx_lengths_beyond_the_page(void **state)
{
	static const struct {
		uint16_t offset;
		int16_t status;
	} bad[] = { { 0, 4097 }, { 0, 32767 }, { 4090, 60 }, { 65535, 60 }, { 4096, 1 }, { 1, 4096 }, { 0, -1 }, { 0, -32768 }, { 0, 13 }, { 0, 0 } };
	struct pv_netfront_stats s;

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct netif_rx_request req = posted();

		pv_net_rx_fill_rsp(&q()->rx, req.id, bad[i].offset, 0, bad[i].status);
		pv_ring_publish(&q()->rx);
		assert_int_equal(recv_one(), 0);
	}
	pv_netfront_stats(f, &s);
	assert_int_equal(s.rx_errors, sizeof(bad) / sizeof(bad[0]));
	assert_int_equal(s.rx_packets, 0);
	fake_deliver(&k, q(), frame, 100, 0, 0); /* and it goes on */
	pv_ring_publish(&q()->rx);
	assert_int_equal(recv_one(), 1);
}

static void rx_chain_longer_than_any(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 40; i++)
		pv_net_rx_fill_rsp(&q()->rx, posted().id, 0, NETRXF_more_data, 60);
	pv_ring_publish(&q()->rx);
	assert_int_equal(recv_one(), -EPROTO);
	assert_broken();
}

static void rx_chain_never_ends_but_slowly(void **state)
{
	int rc = 0;

	(void)state;
	for (unsigned i = 0; i < 40 && rc == 0; i++) {
		pv_net_rx_fill_rsp(&q()->rx, posted().id, 0, NETRXF_more_data, 60);
		fake_publish(&k, q(), &q()->rx);
		rc = recv_one();
	}
	assert_int_equal(rc, -EPROTO);
}

static void rx_extra_info_bad(void **state)
{
	static const struct netif_extra_info bad[] = {
		{ .type = 0 }, { .type = 200 }, { .type = XEN_NETIF_EXTRA_TYPE_GSO, .u.gso = { .size = 0, .type = 1 } },
		{ .type = XEN_NETIF_EXTRA_TYPE_GSO, .u.gso = { .size = 1000, .type = 99 } }, { .type = XEN_NETIF_EXTRA_TYPE_MCAST_ADD },
		{ .type = XEN_NETIF_EXTRA_TYPE_GSO, .flags = XEN_NETIF_EXTRA_FLAG_MORE, .u.gso = { .size = 1000, .type = 1 } },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		for (unsigned n = 0; n < 3; n++)
			posted();
		pv_net_rx_fill_rsp(&q()->rx, 0, 0, NETRXF_extra_info, 60);
		memcpy(pv_ring_fill(&q()->rx), &bad[i], sizeof(bad[i]));
		memcpy(pv_ring_fill(&q()->rx), &bad[i], sizeof(bad[i]));
		pv_ring_publish(&q()->rx);
		assert_int_equal(recv_one(), -EPROTO);
		assert_broken();
		stop(state);
		start(state);
	}
}

static void rx_answer_indices_all_wrong(void **state)
{
	static const uint32_t prods[] = { 257, 0x7fffffff, 0x80000000, UINT32_MAX };

	(void)state;
	for (unsigned i = 0; i < sizeof(prods) / sizeof(prods[0]); i++) {
		((struct pv_any_sring *)q()->rx_page)->rsp_prod = prods[i];
		assert_int_equal(recv_one(), -EPROTO);
		assert_broken();
		stop(state);
		start(state);
	}
}

/* Slots that answer nothing that was posted: what waits there are our own requests, and as answers they are bad. */
static void rx_requests_published_as_answers(void **state)
{
	struct pv_netfront_stats s;
	int rc;

	(void)state;
	((struct pv_any_sring *)q()->rx_page)->rsp_prod = 256;
	while ((rc = recv_one()) > 0)
		;
	assert_true(rc == 0 || rc == -EPROTO || rc == -EAGAIN);
	pv_netfront_stats(f, &s);
	assert_int_equal(s.rx_errors + s.rx_packets > 0 || rc == -EPROTO, 1);
}

static int stop_flood;

/* In a thread: bad answers as fast as they are posted again. */
static void *flood(void *arg)
{
	struct fake_queue *queue = arg;
	struct netif_rx_request req;

	while (!__atomic_load_n(&stop_flood, __ATOMIC_RELAXED)) {
		if (pv_ring_ready(&queue->rx) <= 0)
			continue;
		pv_net_rx_take(&queue->rx, &req);
		pv_net_rx_fill_rsp(&queue->rx, req.id, 0, 0, NETIF_RSP_ERROR);
		pv_ring_publish(&queue->rx);
	}
	return NULL;
}

/* A call ends although there is always one more packet to drop. */
static void rx_flood_of_bad_packets(void **state)
{
	struct pv_netfront_stats s;
	pthread_t t;

	(void)state;
	stop_flood = 0;
	pthread_create(&t, NULL, flood, q());
	for (unsigned i = 0; i < 200; i++) {
		int rc = recv_one();

		assert_true(rc == 0 || rc == -EAGAIN);
	}
	__atomic_store_n(&stop_flood, 1, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	pv_netfront_stats(f, &s);
	assert_int_equal(s.rx_packets, 0);
}

/* A packet is rewritten while it is copied: only bytes change, never lengths or places. */
static void *scribble(void *arg)
{
	volatile uint8_t *page = arg;

	while (!__atomic_load_n(&stop_flood, __ATOMIC_RELAXED))
		for (unsigned i = 64; i < PV_PAGE_SIZE; i++)
			page[i]++;
	return NULL;
}

static void rx_ring_scribbled_while_it_is_read(void **state)
{
	pthread_t t;
	int rc = 0;

	(void)state;
	stop_flood = 0;
	pthread_create(&t, NULL, scribble, q()->rx_page);
	for (unsigned i = 0; i < 2000 && rc >= 0; i++) {
		if (pv_ring_ready(&q()->rx) > 0)
			pv_net_rx_fill_rsp(&q()->rx, posted().id, 0, 0, 60);
		pv_ring_publish(&q()->rx);
		rc = recv_one();
	}
	__atomic_store_n(&stop_flood, 1, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	assert_true(rc >= 0 || rc == -EPROTO || rc == -EAGAIN);
}

/* Events without work (XSA-391): each costs one look, and packets still flow. */
static void event_storm_on_a_ring_port(void **state)
{
	struct pv_netfront_stats s;

	(void)state;
	for (unsigned i = 0; i < 5000; i++) {
		for (unsigned n = 0; n < 10; n++)
			pv_evt_notify(k.h, q()->port);
		assert_true(pv_netfront_work(f) >= 0);
	}
	pv_netfront_stats(f, &s);
	assert_true(s.events <= 5000); /* merged while masked */
	fake_deliver(&k, q(), frame, 100, 0, 0);
	pv_ring_publish(&q()->rx);
	assert_int_equal(recv_one(), 1);
}

/* The backend keeps everything mapped and goes away without a word: the pages stay out of use (XSA-396). */
static void pages_kept_mapped_are_quarantined(void **state)
{
	struct pv_hub_domain d;

	(void)state;
	pv_netfront_close(f, 20);
	f = NULL;
	d = fake_guest(&k);
	assert_true(d.pinned >= 2); /* both ring pages */
	fake_disconnect(&k);
	assert_int_equal(fake_guest(&k).pinned, 0);
	fake_offer(&k);
	f = fake_open_vif(&k, 1);
	fake_connect(&k);
	fake_until(pv_netfront_work(f) == 1);
	assert_int_equal(send_one(60), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(tx_answered_twice),
		T(tx_answer_to_an_id_never_used),
		T(tx_null_answers_without_extras),
		T(tx_more_answers_than_requests),
		T(tx_answer_indices_all_wrong),
		T(tx_statuses_unknown),
		T(tx_ring_overwritten),
		T(tx_pages_are_read_only),
		T(rx_answer_with_another_id),
		T(rx_id_of_a_later_fragment_wrong),
		T(rx_lengths_beyond_the_page),
		T(rx_chain_longer_than_any),
		T(rx_chain_never_ends_but_slowly),
		T(rx_extra_info_bad),
		T(rx_answer_indices_all_wrong),
		T(rx_requests_published_as_answers),
		T(rx_flood_of_bad_packets),
		T(rx_ring_scribbled_while_it_is_read),
		T(event_storm_on_a_ring_port),
		T(pages_kept_mapped_are_quarantined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
