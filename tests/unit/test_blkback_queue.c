/* One queue on a real worker and a loopback guest, over an image that fails, waits and remembers as a test wants. */
#include "loopback.h"
#include "blkback/blkback.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

enum { PAGES = 256, SECTORS = 8 * 1024, LOG = 256, DOMID = 9, PATIENCE_MS = 20000 };

/* The image. The worker's, but for what a test sets before it publishes; looked at by calls on the worker. */
static struct fake {
	struct image head;
	uint64_t bad; /* an I/O that has this sector fails, */
	uint64_t good_bytes; /* after so much of it is done */
	int error[IMAGE_DISCARD_SECURE + 1]; /* of every I/O of a kind */
	bool hold; /* I/O does not end */
	struct image_io *held[LOG];
	unsigned nheld;
	struct { enum image_kind kind; uint64_t sector, sectors, next /* sector that will come */; uint32_t shown /* answers, before it */; } log[LOG];
	unsigned ios;
} fake;

static struct pv_hyper *dom0, *guest;
static struct blkworker *worker;
static struct blkq *queue;
static uint32_t features = PV_VBD_FLUSH | PV_VBD_BARRIER | PV_VBD_DISCARD; /* offered */
static int broken_fd;
static struct pv_ring ring;
static uint32_t port, gref[PAGES];
static uint8_t *pages;
static void *ring_page;
static union {
	struct pv_inflight_ring ring;
	uint8_t bytes[sizeof(struct pv_inflight_ring) + 32 * sizeof(struct blkr_record)];
} left; /* whom it would serve: test_blkback_adopt.c */

static void fake_end(struct image_io *io)
{
	uint64_t first = io->offset / 512, n = io->len / 512;

	if (fake.error[io->kind]) {
		io->end(io, fake.error[io->kind]);
	} else if (n && fake.bad >= first && fake.bad < first + n) {
		io->done = fake.good_bytes < io->len ? fake.good_bytes : 0;
		io->end(io, -EIO);
	} else {
		io->done = io->len;
		io->end(io, 0);
	}
}

static void fake_submit(struct image_io *io)
{
	unsigned i = fake.ios++;

	assert_true(i < LOG);
	fake.log[i].kind = io->kind;
	fake.log[i].sector = io->offset / 512;
	fake.log[i].sectors = io->len / 512;
	fake.log[i].next = io->next ? io->next->offset / 512 : UINT64_MAX;
	fake.log[i].shown = ((struct pv_any_sring *)ring_page)->rsp_prod;
	if (fake.hold)
		fake.held[fake.nheld++] = io;
	else
		fake_end(io); /* before submit returns, as an image without sqes may */
}

static void fake_close(struct image *im)
{
	(void)im;
}

static const struct image_ops fake_ops = { .name = "fake", .close = fake_close, .submit = fake_submit };

static int release_here(void *arg)
{
	unsigned n = fake.nheld;

	fake.nheld = 0;
	fake.hold = *(bool *)arg;
	for (unsigned i = 0; i < n; i++)
		fake_end(fake.held[i]);
	return 0;
}

/* End what is held; hold: later I/O again. */
static void release(bool hold)
{
	assert_int_equal(pv_worker_call(worker->thread, release_here, &hold), 0);
}

static int copy_here(void *arg)
{
	*(struct blkq *)arg = *queue;
	return 0;
}

static struct blkq look(void)
{
	struct blkq q;

	assert_int_equal(pv_worker_call(worker->thread, copy_here, &q), 0);
	return q;
}

/* Connect a queue whose cache has so many pages. */
static void connect_cached(unsigned cache, bool persistent)
{
	struct blkq_config c = { .owner = &fake, .guest = DOMID, .port = port, .persistent = persistent, .cache = cache,
				 .image = &fake.head, .log = &left.ring };
	uint32_t ring_gref;
	char why[200] = "";

	assert_int_equal(pv_gnt_share(guest, 0, 1, true, NULL, &ring_gref, &ring_page), 0);
	pv_ring_init_front(&ring, ring_page, PV_PAGE_SIZE, sizeof(struct blkif_request));
	c.ring_gref = &ring_gref;
	c.disk = (struct pv_blk_disk){ .sectors = SECTORS, .sector_size = 512, .features = features };
	if (blkworker_connect(worker, &c, &queue, why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

static int up(void **state)
{
	struct blkworker_options o = { .hypervisor = lb_spec, .cpu = -1, .poll_us = 20, .broken_fd = broken_fd };
	char why[200] = "";
	void *addr;

	(void)state;
	fake = (struct fake){ .head = { .ops = &fake_ops }, .bad = UINT64_MAX };
	dom0 = lb_open(0);
	guest = lb_open(lb_guest(dom0, DOMID));
	port = pv_evt_alloc(guest, 0);
	assert_int_equal(pv_gnt_share(guest, 0, PAGES, true, NULL, gref, &addr), 0);
	pages = addr;
	if (blkworker_start(0, &o, &worker, why, sizeof(why)) < 0) {
		if (strstr(why, "io_uring")) {
			printf("SKIP need=uring: %s\n", why);
			exit(77);
		}
		fail_msg("%s", why);
	}
	connect_cached(64, true);
	return 0;
}

static void disconnect(void)
{
	if (queue)
		assert_int_equal(blkworker_disconnect(worker, queue, blkworker_patience()), 0);
	queue = NULL;
}

static int down(void **state)
{
	struct pv_hub_domain d[2];

	(void)state;
	disconnect();
	assert_int_equal(pv_hub_domain_list(dom0, d, 2), 2);
	assert_int_equal(d[0].domid, 0);
	assert_int_equal(d[0].maps, 0); /* nothing of the guest stays mapped */
	blkworker_stop(worker);
	pv_hyper_close(guest);
	assert_int_equal(pv_hub_domain_destroy(dom0, DOMID), 0);
	pv_hyper_close(dom0);
	return 0;
}

/* ---- the guest ---- */

static void put(uint64_t id, uint8_t op, uint64_t sector, unsigned page, unsigned n)
{
	struct pv_blk_req r = { .id = id, .op = op, .op_slot = op, .sector = sector, .nr_segs = n };

	if (op == BLKIF_OP_DISCARD)
		r.nr_sectors = 8;
	for (unsigned i = 0; i < n; i++)
		r.seg[i] = (struct pv_blk_seg){ .gref = gref[page + i], .last = 7 };
	pv_blk_fill_req(&ring, &r);
}

static void publish(void)
{
	pv_ring_publish(&ring);
	pv_evt_notify(guest, port);
}

static struct blkif_response take(void)
{
	struct blkif_response r;
	int n;

	for (int ms = 0; (n = pv_ring_ready(&ring)) == 0; ms++) {
		if (ms > PATIENCE_MS)
			fail_msg("no answer");
		usleep(1000);
	}
	assert_true(n > 0);
	pv_blk_take_rsp(&ring, &r);
	return r;
}

/* Wait until the image saw so many I/Os. */
static void wait_ios(unsigned n)
{
	for (int ms = 0; look().stats.ios < n; ms++) {
		if (ms > PATIENCE_MS)
			fail_msg("%u I/Os did not come", n);
		usleep(1000);
	}
}

/* ---- tests ---- */

/* Eight neighbours in one batch. Returns a bit for each that failed. */
static unsigned failures_of_eight(uint8_t op)
{
	unsigned failed = 0, seen = 0;

	for (unsigned i = 0; i < 8; i++)
		put(i, op, 8 * i, i, 1);
	publish();
	for (unsigned i = 0; i < 8; i++) {
		struct blkif_response r = take();

		assert_in_range(r.id, 0, 7);
		seen |= 1u << r.id;
		failed |= (r.status != BLKIF_RSP_OKAY) << r.id;
	}
	assert_int_equal(seen, 0xff);
	return failed;
}

static void merged_io_that_fails_in_the_middle_fails_the_guilty_alone(void **state)
{
	(void)state;
	fake.bad = 8 * 3 + 1;
	assert_int_equal(failures_of_eight(BLKIF_OP_READ), 1 << 3);
	assert_int_equal(look().stats.retried, 8);
	assert_int_equal(look().stats.merged, 7);
	assert_int_equal(fake.log[0].sectors, 64);
	for (unsigned i = 1; i <= 8; i++)
		assert_int_equal(fake.log[i].sectors, 8);
	assert_int_equal(look().stats.bytes_read, 7 * PV_PAGE_SIZE);
	assert_int_equal(failures_of_eight(BLKIF_OP_WRITE), 1 << 3);
	assert_int_equal(look().stats.bytes_written, 7 * PV_PAGE_SIZE);
	assert_int_equal(look().stats.errors, 2);
}

static void merged_io_that_is_done_in_part_answers_that_part(void **state)
{
	(void)state;
	fake.bad = 8 * 5;
	fake.good_bytes = 2 * PV_PAGE_SIZE + 512; /* two and a bit */
	assert_int_equal(failures_of_eight(BLKIF_OP_READ), 1 << 5);
	assert_int_equal(look().stats.retried, 6);
}

static void answers_are_shown_while_the_rest_is_worked_on(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 32; i++)
		put(i, BLKIF_OP_READ, 16 * i, i, 1);
	publish();
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(take().id, i);
	assert_in_range(fake.log[31].shown, 8, 31);
}

static void image_is_told_what_comes_next(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++)
		put(i, BLKIF_OP_READ, 16 * i, i, 1);
	publish();
	for (unsigned i = 0; i < 4; i++)
		take();
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(fake.log[i].next, i < 3 ? 16 * (i + 1) : UINT64_MAX);
}

static void single_io_that_fails_is_not_tried_again(void **state)
{
	(void)state;
	fake.bad = 0;
	put(1, BLKIF_OP_READ, 0, 0, 1);
	publish();
	assert_int_equal(take().status, BLKIF_RSP_ERROR);
	assert_int_equal(look().stats.retried, 0);
	assert_int_equal(look().stats.ios, 1);
}

static void flush_with_data_syncs_then_writes(void **state)
{
	(void)state;
	put(1, BLKIF_OP_FLUSH_DISKCACHE, 40, 0, 2);
	publish();
	assert_int_equal(take().status, BLKIF_RSP_OKAY);
	assert_int_equal(look().stats.ios, 2);
	assert_int_equal(fake.log[0].kind, IMAGE_FLUSH);
	assert_int_equal(fake.log[1].kind, IMAGE_WRITE);
	assert_int_equal(fake.log[1].sector, 40);
	assert_int_equal(fake.log[1].sectors, 16);
}

static void sync_that_fails_writes_nothing(void **state)
{
	(void)state;
	fake.error[IMAGE_FLUSH] = -EIO;
	put(1, BLKIF_OP_FLUSH_DISKCACHE, 40, 0, 2);
	put(2, BLKIF_OP_WRITE_BARRIER, 80, 0, 1);
	put(3, BLKIF_OP_READ, 0, 5, 1); /* and the queue goes on */
	publish();
	for (int i = 0; i < 3; i++) {
		struct blkif_response r = take();

		assert_int_equal(r.status, r.id == 3 ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR);
	}
	assert_int_equal(look().stats.ios, 3);
}

static void barrier_waits_and_lets_nothing_pass(void **state)
{
	static const enum image_kind order[] = { IMAGE_WRITE, IMAGE_FLUSH, IMAGE_WRITE_DSYNC, IMAGE_WRITE };

	(void)state;
	fake.hold = true;
	put(1, BLKIF_OP_WRITE, 0, 0, 1);
	put(2, BLKIF_OP_WRITE_BARRIER, 100, 1, 1);
	put(3, BLKIF_OP_WRITE, 200, 2, 1);
	publish();
	for (unsigned i = 0; i < 4; i++) {
		wait_ios(i + 1);
		for (int turns = 0; turns < 3; turns++) { /* whatever could come would have */
			struct blkq q = look();

			assert_int_equal(q.inflight, i ? 1 : 2); /* the held barrier beside the first write; then one after the other */
		}
		assert_int_equal(fake.log[i].kind, order[i]);
		release(true);
	}
	for (unsigned i = 1; i <= 3; i++) {
		struct blkif_response r = take();

		assert_int_equal(r.id, i);
		assert_int_equal(r.status, BLKIF_RSP_OKAY);
	}
	fake.hold = false;
}

static void discard_that_the_image_cannot_do_is_not_supported(void **state)
{
	(void)state;
	fake.error[IMAGE_DISCARD] = -EOPNOTSUPP;
	put(1, BLKIF_OP_DISCARD, 0, 0, 0);
	publish();
	assert_int_equal(take().status, BLKIF_RSP_EOPNOTSUPP);
	fake.error[IMAGE_DISCARD] = -EIO;
	put(2, BLKIF_OP_DISCARD, 0, 0, 0);
	publish();
	assert_int_equal(take().status, BLKIF_RSP_ERROR);
}

/* blkif.h: the flag is ignored where discard-secure is not offered. */
static void discard_is_secure_where_that_was_offered(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned flag = 0; flag < 2; flag++) {
			struct pv_blk_req r = { .id = flag, .op = BLKIF_OP_DISCARD, .op_slot = BLKIF_OP_DISCARD, .sector = 8, .nr_sectors = 16,
						.discard_flag = flag };

			fake.ios = 0;
			pv_blk_fill_req(&ring, &r);
			publish();
			assert_int_equal(take().status, BLKIF_RSP_OKAY);
			look(); /* what the worker has written is ours to see */
			assert_int_equal(fake.ios, 1);
			assert_int_equal(fake.log[0].kind, i && flag ? IMAGE_DISCARD_SECURE : IMAGE_DISCARD);
			assert_int_equal(fake.log[0].sector, 8);
			assert_int_equal(fake.log[0].sectors, 16);
		}
		disconnect();
		features |= PV_VBD_SECURE_DISCARD;
		connect_cached(64, true);
	}
	features &= ~(uint32_t)PV_VBD_SECURE_DISCARD;
}

static void xsa300_request_waits_for_pages_of_another(void **state)
{
	(void)state;
	disconnect();
	pv_gnt_unshare(guest, ring_page, 1);
	for (unsigned persistent = 0; persistent < 2; persistent++) {
		connect_cached(11, persistent);
		fake.hold = true;
		put(1, BLKIF_OP_READ, 0, 0, 8);
		put(2, BLKIF_OP_READ, 1000, 20, 8); /* 16 pages do not fit */
		publish();
		while (!look().held)
			usleep(1000);
		assert_int_equal(look().stats.ios, 1);
		assert_true(look().stats.cache_full > 0);
		release(false);
		assert_int_equal(take().id, 1);
		assert_int_equal(take().id, 2);
		put(3, BLKIF_OP_READ, 0, 4, 8); /* shares pages with two kept calls, which do not fit together */
		publish();
		assert_int_equal(take().status, BLKIF_RSP_OKAY);
		disconnect();
		pv_gnt_unshare(guest, ring_page, 1);
	}
}

static void disconnect_of_io_that_does_not_end_gives_up_and_can_be_repeated(void **state)
{
	(void)state;
	fake.hold = true;
	put(1, BLKIF_OP_WRITE, 0, 0, 1);
	publish();
	wait_ios(1);
	assert_int_equal(blkworker_disconnect(worker, queue, blkworker_patience()), -EAGAIN);
	put(2, BLKIF_OP_WRITE, 0, 0, 1); /* nothing new is taken meanwhile */
	publish();
	assert_int_equal(look().inflight, 1);
	release(false);
	assert_int_equal(take().id, 1);
	disconnect();
	assert_int_equal(fake.ios, 1);
}

static void xsa350_queue_that_broke_unheard_is_forgotten_on_disconnect(void **state)
{
	const char *why;
	void *owner;

	(void)state;
	ring.prod += 100;
	publish();
	while (look().state != BLKQ_BROKEN)
		usleep(1000);
	disconnect();
	assert_false(blkworker_broken(worker, &owner, &why));
}

static void broken_queue_is_reported_once(void **state)
{
	const char *why = NULL;
	void *owner = NULL;

	(void)state;
	ring.prod += 100;
	publish();
	while (!blkworker_broken(worker, &owner, &why))
		usleep(1000);
	assert_ptr_equal(owner, &fake);
	assert_non_null(strstr(why, "index"));
	assert_false(blkworker_broken(worker, &owner, &why));
}

static void xsa332_guest_that_notifies_for_nothing_has_to_rest(void **state)
{
	bool rests = false;

	(void)state;
	for (int i = 0; i < 100000 && !rests; i++) {
		pv_evt_notify(guest, port);
		rests = look().list == BLKQ_RESTING;
	}
	assert_true(rests);
	put(1, BLKIF_OP_READ, 0, 0, 1); /* it is served all the same */
	publish();
	assert_int_equal(take().status, BLKIF_RSP_OKAY);
}

static int group_up(void **state)
{
	(void)state;
	broken_fd = open("/dev/null", O_WRONLY); /* who is woken is main.c's affair */
	lb_up(NULL, NULL);
	return broken_fd < 0;
}

static int group_down(void **state)
{
	(void)state;
	lb_down();
	return close(broken_fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(merged_io_that_fails_in_the_middle_fails_the_guilty_alone),
		TEST(merged_io_that_is_done_in_part_answers_that_part),
		TEST(answers_are_shown_while_the_rest_is_worked_on),
		TEST(image_is_told_what_comes_next),
		TEST(single_io_that_fails_is_not_tried_again),
		TEST(flush_with_data_syncs_then_writes),
		TEST(sync_that_fails_writes_nothing),
		TEST(barrier_waits_and_lets_nothing_pass),
		TEST(discard_that_the_image_cannot_do_is_not_supported),
		TEST(discard_is_secure_where_that_was_offered),
		TEST(xsa300_request_waits_for_pages_of_another),
		TEST(disconnect_of_io_that_does_not_end_gives_up_and_can_be_repeated),
		TEST(xsa350_queue_that_broke_unheard_is_forgotten_on_disconnect),
		TEST(broken_queue_is_reported_once),
		TEST(xsa332_guest_that_notifies_for_nothing_has_to_rest),
	};

	return cmocka_run_group_tests(tests, group_up, group_down);
}
