/* A hostile block backend (XSA-376, 391, 396): each lie breaks that device with -EPROTO or is survived, and it still closes. */
#include "tests/unit/front_fake_blk.h"

static struct fake k;
static struct pv_blkfront *f;
static struct pv_blkfront_done done[512];
static struct fake_req req;
static uint8_t *buf;

static int start(void **state)
{
	(void)state;
	fake_start(&k);
	f = fake_connected_vbd(&k, fake_vbd_offer(), (struct pv_blkfront_config){ .queues = 2 });
	buf = pv_blkfront_buf(f, 1 << 20);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	pv_blkfront_close(f, 20);
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

static void ask(unsigned queue, enum pv_blkfront_op op, uint64_t len)
{
	struct pv_blkfront_io io = { .op = op, .offset = 0, .len = len, .buf = buf };

	assert_int_equal(pv_blkfront_queue(f, queue, &io), 0);
	assert_int_equal(pv_blkfront_submit(f), 0);
}

static int reap(void)
{
	return pv_blkfront_reap(f, 0, done, 512);
}

static void assert_broken(void)
{
	struct pv_blkfront_io io = { .op = PV_BLKFRONT_READ, .len = 512, .buf = buf };

	assert_int_equal(pv_blkfront_work(f), -EPROTO);
	assert_int_equal(pv_blkfront_queue(f, 0, &io), -EPROTO);
	assert_int_equal(pv_blkfront_submit(f), -EPROTO);
	assert_int_equal(reap(), -EPROTO);
	assert_non_null(strstr(pv_blkfront_error(f), "vbd xvda"));
}

static void answered_twice(void **state)
{
	(void)state;
	ask(0, PV_BLKFRONT_READ, 512);
	ask(0, PV_BLKFRONT_READ, 512);
	assert_true(fake_req_take(&k, q(), &req));
	fake_rsp(q(), req.r.id, req.r.op, BLKIF_RSP_OKAY);
	fake_rsp(q(), req.r.id, req.r.op, BLKIF_RSP_OKAY);
	pv_ring_publish(&q()->tx);
	assert_int_equal(reap(), -EPROTO);
	assert_broken();
}

static void ids_never_issued(void **state)
{
	static const uint64_t ids[] = { 1, 31, 32, 65536, 1ull << 32, UINT64_MAX };

	(void)state;
	for (unsigned i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		ask(0, PV_BLKFRONT_READ, 512);
		fake_rsp(q(), ids[i], BLKIF_OP_READ, BLKIF_RSP_OKAY);
		pv_ring_publish(&q()->tx);
		assert_int_equal(reap(), -EPROTO);
		assert_broken();
		stop(state);
		start(state);
	}
}

/* The id is in flight, but on the other queue. */
static void id_of_another_queue(void **state)
{
	(void)state;
	ask(0, PV_BLKFRONT_READ, 512);
	ask(0, PV_BLKFRONT_READ, 512);
	ask(1, PV_BLKFRONT_READ, 512);
	fake_rsp(&k.queue[1], 1, BLKIF_OP_READ, BLKIF_RSP_OKAY);
	k.queue[1].tx.cons++;
	pv_ring_publish(&k.queue[1].tx);
	assert_int_equal(pv_blkfront_reap(f, 1, done, 8), -EPROTO);
	assert_broken();
}

static void answer_before_it_was_submitted(void **state)
{
	struct pv_blkfront_io io = { .op = PV_BLKFRONT_READ, .len = 512, .buf = buf };

	(void)state;
	assert_int_equal(pv_blkfront_queue(f, 0, &io), 0);
	fake_rsp(q(), 0, BLKIF_OP_READ, BLKIF_RSP_OKAY);
	pv_ring_publish(&q()->tx);
	assert_int_equal(reap(), -EPROTO);
}

static void wrong_operations(void **state)
{
	static const uint8_t ops[] = { BLKIF_OP_WRITE, BLKIF_OP_INDIRECT, BLKIF_OP_DISCARD, 77, 255 };

	(void)state;
	for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		ask(0, PV_BLKFRONT_READ, i % 2 ? 512 : 100 * 4096); /* also of an indirect request */
		assert_true(fake_req_take(&k, q(), &req));
		fake_rsp(q(), req.r.id, ops[i], BLKIF_RSP_OKAY);
		pv_ring_publish(&q()->tx);
		assert_int_equal(reap(), -EPROTO);
		assert_broken();
		stop(state);
		start(state);
	}
}

static void answer_indices_all_wrong(void **state)
{
	static const uint32_t prods[] = { 2, 32, 33, 0x7fffffff, 0x80000000, UINT32_MAX };

	(void)state;
	for (unsigned i = 0; i < sizeof(prods) / sizeof(prods[0]); i++) {
		ask(0, PV_BLKFRONT_READ, 512);
		((struct pv_any_sring *)q()->tx_page)->rsp_prod = prods[i];
		assert_int_equal(reap(), -EPROTO);
		assert_broken();
		stop(state);
		start(state);
	}
}

/* Good answers before the lie in one batch are not handed out twice, and the lie ends it. */
static void lie_behind_good_answers(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++)
		ask(0, PV_BLKFRONT_READ, 512);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(fake_req_take(&k, q(), &req));
		fake_rsp(q(), req.r.id, req.r.op, BLKIF_RSP_OKAY);
	}
	fake_rsp(q(), 9, BLKIF_OP_READ, BLKIF_RSP_OKAY);
	q()->tx.cons++;
	pv_ring_publish(&q()->tx);
	assert_int_equal(pv_blkfront_reap(f, 0, done, 3), 3);
	assert_int_equal(reap(), -EPROTO);
}

/* Requests, segment pages and the ring's header are overwritten: what we know is private. */
static void ring_overwritten(void **state)
{
	struct pv_any_sring *s = q()->tx_page;

	(void)state;
	ask(0, PV_BLKFRONT_READ, 4096);
	memset(s->ring, 0xff, 4096 - 64);
	s->req_prod = 0xdeadbeef;
	s->rsp_event = 0xdeadbeef;
	ask(0, PV_BLKFRONT_READ, 4096);
	assert_int_equal(((volatile struct pv_any_sring *)s)->req_prod, 2);
	fake_rsp(q(), 0, BLKIF_OP_READ, BLKIF_RSP_OKAY);
	q()->tx.cons++;
	pv_ring_publish(&q()->tx);
	assert_int_equal(reap(), 1);
}

static void segment_pages_are_read_only(void **state)
{
	uint32_t gref;
	void *addr;

	(void)state;
	ask(0, PV_BLKFRONT_WRITE, 100 * 4096);
	assert_true(fake_req_take(&k, q(), &req));
	assert_true(req.r.indirect);
	gref = req.r.indirect_gref[0];
	assert_int_equal(pv_gnt_map(k.h, (uint16_t)k.domid, &gref, 1, true, NULL, &addr), -EACCES);
}

/* An answer changes while it is read: only the copy counts. */
static int stop_scribble;

static void *scribble(void *arg)
{
	volatile struct blkif_response *r = arg;

	while (!__atomic_load_n(&stop_scribble, __ATOMIC_RELAXED)) {
		r->id = 1000;
		r->operation = 77;
		r->id = 0;
		r->operation = BLKIF_OP_READ;
	}
	return NULL;
}

static void answer_scribbled_while_it_is_read(void **state)
{
	pthread_t t;
	int rc;

	(void)state;
	ask(0, PV_BLKFRONT_READ, 512);
	fake_rsp(q(), 0, BLKIF_OP_READ, BLKIF_RSP_OKAY);
	stop_scribble = 0;
	pthread_create(&t, NULL, scribble, pv_ring_slot(&q()->tx, 0));
	pv_ring_publish(&q()->tx);
	while ((rc = reap()) == 0)
		;
	__atomic_store_n(&stop_scribble, 1, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	assert_true(rc == 1 || rc == -EPROTO);
}

static void event_storm_on_a_ring_port(void **state)
{
	struct pv_blkfront_stats s;

	(void)state;
	for (unsigned i = 0; i < 5000; i++) {
		for (unsigned n = 0; n < 10; n++)
			pv_evt_notify(k.h, q()->port);
		assert_true(pv_blkfront_work(f) >= 0);
		assert_int_equal(reap(), 0);
	}
	pv_blkfront_stats(f, &s);
	assert_true(s.events <= 5000);
	ask(0, PV_BLKFRONT_READ, 512);
	assert_int_equal(fake_work(&k), 1);
	assert_int_equal(reap(), 1);
}

/* A port that is never looked at again stays masked: a storm on it does not even wake us. */
static void event_storm_while_masked(void **state)
{
	struct pollfd fd = { .fd = pv_blkfront_fd(f), .events = POLLIN };

	(void)state;
	pv_evt_notify(k.h, q()->port);
	fake_until(pv_blkfront_work(f) == 1);
	for (unsigned i = 0; i < 1000; i++)
		pv_evt_notify(k.h, q()->port);
	assert_int_equal(poll(&fd, 1, 0), 0);
}

static void pages_kept_mapped_are_quarantined(void **state)
{
	(void)state;
	ask(0, PV_BLKFRONT_READ, 512);
	pv_blkfront_close(f, 20);
	f = NULL;
	assert_true(fake_guest(&k).pinned >= 2); /* both rings */
	fake_disconnect(&k);
	assert_int_equal(fake_guest(&k).pinned, 0);
}

/* The backend goes away and comes back, again and again, with requests in flight and without answering any. */
static void backend_flaps(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 30; i++)
		ask(0, PV_BLKFRONT_READ, 100 * 4096);
	for (unsigned i = 0; i < 20; i++) {
		fake_disconnect(&k);
		fake_offer(&k);
		fake_until(pv_blkfront_work(f) == 0 && pv_blkfront_state(f) == XenbusStateInitialised);
		fake_connect(&k);
		fake_until(pv_blkfront_work(f) == 1);
	}
	assert_int_equal(fake_work(&k), 30);
	assert_int_equal(reap(), 30);
	assert_int_equal(fake_guest(&k).pinned, 0);
}

/* While it is away its next offer is nonsense. */
static void comes_back_with_nonsense(void **state)
{
	(void)state;
	ask(0, PV_BLKFRONT_READ, 512);
	fake_disconnect(&k);
	k.offer.vbd.sector_size = 7;
	fake_offer(&k);
	fake_until(pv_blkfront_work(f) == -EPROTO);
	assert_int_equal(pv_blkfront_state(f), XenbusStateClosed);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(answered_twice),
		T(ids_never_issued),
		T(id_of_another_queue),
		T(answer_before_it_was_submitted),
		T(wrong_operations),
		T(answer_indices_all_wrong),
		T(lie_behind_good_answers),
		T(ring_overwritten),
		T(segment_pages_are_read_only),
		T(answer_scribbled_while_it_is_read),
		T(event_storm_on_a_ring_port),
		T(event_storm_while_masked),
		T(pages_kept_mapped_are_quarantined),
		T(backend_flaps),
		T(comes_back_with_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
