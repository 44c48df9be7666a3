/* blkfront against a backend that follows the protocol. */
#include "tests/unit/front_fake_blk.h"

static struct fake k;
static struct pv_blkfront *f;
static struct pv_blkfront_done done[512];

static int start(void **state)
{
	(void)state;
	fake_start(&k);
	for (unsigned i = 0; i < FAKE_DISK_BYTES; i++)
		fake_disk[i] = (uint8_t)(i / 512 * 3 + i);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	if (f)
		fake_follow(&k);
	pv_blkfront_close(f, 20000);
	f = NULL;
	fake_unfollow(&k);
	k.queues = 0;
	fake_stop(&k);
	return 0;
}

static void connected(struct pv_blkfront_config c)
{
	f = fake_connected_vbd(&k, fake_vbd_offer(), c);
}

static int ask(unsigned queue, enum pv_blkfront_op op, uint64_t offset, uint64_t len, void *buf)
{
	struct pv_blkfront_io io = { .op = op, .offset = offset, .len = len, .buf = buf, .user = buf };

	return pv_blkfront_queue(f, queue, &io);
}

/* One I/O, served at once. Returns its result. */
static int io(enum pv_blkfront_op op, uint64_t offset, uint64_t len, void *buf)
{
	int rc = ask(0, op, offset, len, buf);

	if (rc < 0)
		return rc;
	assert_int_equal(pv_blkfront_submit(f), 0);
	assert_int_equal(fake_work(&k), 1);
	assert_int_equal(pv_blkfront_reap(f, 0, done, 512), 1);
	assert_ptr_equal(done[0].user, buf);
	return done[0].result;
}

static void blkfront_open_choice(void **state)
{
	(void)state;
	connected((struct pv_blkfront_config){ .queues = 7, .ring_order = 4 });
	assert_int_equal(pv_blkfront_queues(f), 2);
	assert_int_equal(k.choice.ring_order, 2);
	assert_int_equal(k.choice.abi, PV_VBD_ABI_NATIVE);
	assert_int_equal(pv_blkfront_features(f), fake_vbd_offer().vbd.features);
	assert_int_equal(pv_blkfront_io_max(f), 256 * 4096);
	assert_int_equal(pv_blkfront_offer(f)->sectors, 8192);
}

static void blkfront_open_no_grants_left(void **state)
{
	struct pv_blkfront_config c = { .devid = 51712, .pool_pages = 100 };
	char why[200];

	(void)state;
	fake_announce(&k, fake_vbd_offer(), 51712, 0);
	for (unsigned skip = 0; skip < 3; skip++) { /* segment pages, pool, rings */
		assert_int_equal(pv_hub_inject(k.h, (unsigned)k.domid, "share", skip, 1, GNTST_no_space), 0);
		assert_true(pv_blkfront_open(lb_spec, k.domid, &c, &f, why, sizeof(why)) < 0);
		assert_null(f);
		assert_non_null(strstr(why, "vbd xvda"));
		assert_int_equal(fake_guest(&k).handles, 0);
		pv_hub_inject(k.h, (unsigned)k.domid, "share", 0, 0, 0);
		fake_offer(&k);
	}
}

/* Nobody asked for a size, and grants are short: a smaller pool will do. */
static void blkfront_open_smaller_pool_when_grants_are_short(void **state)
{
	(void)state;
	fake_announce(&k, fake_vbd_offer(), 51712, 0);
	assert_int_equal(pv_hub_inject(k.h, (unsigned)k.domid, "share", 1, 3, GNTST_no_space), 0);
	f = fake_open_vbd(&k, &(struct pv_blkfront_config){ .devid = 51712 });
	assert_null(pv_blkfront_buf(f, 2 << 20 | 4096));
	assert_non_null(pv_blkfront_buf(f, 2 << 20)); /* 4096 pages, halved three times */
}

static void blkfront_queue_before_connected(void **state)
{
	(void)state;
	fake_announce(&k, fake_vbd_offer(), 51712, 0);
	f = fake_open_vbd(&k, &(struct pv_blkfront_config){ .devid = 51712 });
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, pv_blkfront_buf(f, 512)), -EAGAIN);
	assert_int_equal(pv_blkfront_reap(f, 0, done, 1), 0);
}

static void blkfront_queue_read_every_length(void **state)
{
	uint8_t *buf;

	(void)state;
	connected((struct pv_blkfront_config){ 0 });
	buf = pv_blkfront_buf(f, 1 << 20);
	for (unsigned len = 512; len <= 1 << 20; len += len < 65536 ? 512 : 58880) {
		memset(buf, 0xee, len);
		assert_int_equal(io(PV_BLKFRONT_READ, 1024, len, buf), 0);
		assert_memory_equal(buf, fake_disk + 1024, len);
	}
}

static void blkfront_queue_unaligned_buffer(void **state)
{
	uint8_t *buf;

	(void)state;
	connected((struct pv_blkfront_config){ 0 });
	buf = pv_blkfront_buf(f, 80 << 10);
	for (unsigned shift = 512; shift < 4096; shift += 512)
		for (unsigned len = 512; len <= 64 << 10; len += 3584) {
			assert_int_equal(io(PV_BLKFRONT_READ, shift, len, buf + shift), 0);
			assert_memory_equal(buf + shift, fake_disk + shift, len);
		}
}

static void blkfront_queue_write_flush_discard(void **state)
{
	struct pv_blkfront_stats s;
	uint8_t *buf;

	(void)state;
	connected((struct pv_blkfront_config){ 0 });
	buf = pv_blkfront_buf(f, 100000);
	memset(buf, 0x5a, 100000);
	assert_int_equal(io(PV_BLKFRONT_WRITE, 4096, 99840, buf), 0);
	assert_memory_equal(fake_disk + 4096, buf, 99840);
	assert_int_not_equal(fake_disk[4096 + 99840], 0x5a);
	assert_int_equal(io(PV_BLKFRONT_FLUSH, 0, 0, NULL), 0);
	assert_int_equal(io(PV_BLKFRONT_DISCARD, 4096, 1024, NULL), 0);
	assert_int_equal(fake_disk[4096], 0);
	assert_int_equal(fake_disk[4096 + 1024], 0x5a);
	pv_blkfront_stats(f, &s);
	assert_int_equal(s.writes, 1);
	assert_int_equal(s.bytes_written, 99840);
	assert_int_equal(s.flushes, 1);
	assert_int_equal(s.discards, 1);
	assert_int_equal(s.errors, 0);
}

static void blkfront_queue_bad_arguments(void **state)
{
	static uint8_t foreign[8192];
	uint64_t size = FAKE_DISK_BYTES;
	uint8_t *buf;

	(void)state;
	connected((struct pv_blkfront_config){ .pool_pages = 512 });
	buf = pv_blkfront_buf(f, 2 << 20);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 0, buf), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 100, 512, buf), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 100, buf), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, buf + 1), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, NULL), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, foreign), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 4096, buf + (2 << 20) - 512), -EINVAL); /* runs out of the pool */
	assert_int_equal(ask(0, PV_BLKFRONT_READ, size, 512, buf), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, size - 512, 1024, buf), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, UINT64_MAX - 511, 512, buf), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, (1 << 20) + 512, buf), -EINVAL); /* beyond io_max */
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 1 << 20, buf + 512), -EINVAL); /* a segment too many */
	assert_int_equal(ask(2, PV_BLKFRONT_READ, 0, 512, buf), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_FLUSH, 0, 512, NULL), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_DISCARD, 0, 512, buf), -EINVAL);
	assert_int_equal(ask(0, (enum pv_blkfront_op)9, 0, 512, buf), -EINVAL);
	assert_int_equal(pv_ring_ready(&k.queue[0].tx), 0);
	assert_int_equal(io(PV_BLKFRONT_READ, size - 512, 512, buf), 0);
}

static void blkfront_queue_not_offered(void **state)
{
	struct pv_noxs_offer o = fake_vbd_offer();
	uint8_t *buf;

	(void)state;
	o.vbd.features = 0;
	o.vbd.indirect_max = 0;
	o.vbd.info = VDISK_READONLY;
	f = fake_connected_vbd(&k, o, (struct pv_blkfront_config){ 0 });
	buf = pv_blkfront_buf(f, 65536);
	assert_int_equal(pv_blkfront_io_max(f), 11 * 4096);
	assert_int_equal(ask(0, PV_BLKFRONT_WRITE, 0, 512, buf), -EROFS);
	assert_int_equal(ask(0, PV_BLKFRONT_DISCARD, 0, 512, NULL), -EROFS);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 12 * 4096, buf), -EINVAL);
	assert_int_equal(io(PV_BLKFRONT_READ, 0, 11 * 4096, buf), 0);
	assert_memory_equal(buf, fake_disk, 11 * 4096);
}

static void blkfront_queue_unwanted_features(void **state)
{
	(void)state;
	connected((struct pv_blkfront_config){ .features = PV_VBD_PERSISTENT });
	assert_int_equal(k.choice.features, PV_VBD_PERSISTENT);
	assert_int_equal(ask(0, PV_BLKFRONT_FLUSH, 0, 0, NULL), -EOPNOTSUPP);
	assert_int_equal(ask(0, PV_BLKFRONT_DISCARD, 0, 512, NULL), -EOPNOTSUPP);
	assert_int_equal(ask(0, PV_BLKFRONT_DISCARD_SECURE, 0, 512, NULL), -EOPNOTSUPP);
}

static void blkfront_queue_discard_secure(void **state)
{
	struct pv_noxs_offer o = fake_vbd_offer();
	union pv_blk_raw raw;
	struct pv_blk_req req;

	(void)state;
	o.vbd.features |= PV_VBD_SECURE_DISCARD;
	f = fake_connected_vbd(&k, o, (struct pv_blkfront_config){ 0 });
	for (unsigned secure = 0; secure < 2; secure++) {
		assert_int_equal(ask(0, secure ? PV_BLKFRONT_DISCARD_SECURE : PV_BLKFRONT_DISCARD, 4096, 1024, NULL), 0);
		assert_int_equal(pv_blkfront_submit(f), 0);
		assert_int_equal(pv_ring_ready(&k.queue[0].tx), 1);
		pv_blk_take(&k.queue[0].tx, &raw);
		pv_blk_decode(&raw, PV_VBD_ABI_NATIVE, &req);
		assert_int_equal(req.op, BLKIF_OP_DISCARD);
		assert_int_equal(req.discard_flag, secure ? BLKIF_DISCARD_SECURE : 0);
		assert_int_equal(req.sector, 8);
		assert_int_equal(req.nr_sectors, 2);
	}
}

static void blkfront_queue_sector_size_4096(void **state)
{
	struct pv_noxs_offer o = fake_vbd_offer();
	uint8_t *buf;

	(void)state;
	o.vbd.sector_size = o.vbd.physical_sector_size = 4096;
	f = fake_connected_vbd(&k, o, (struct pv_blkfront_config){ 0 });
	buf = pv_blkfront_buf(f, 8192);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 512, 4096, buf), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, buf), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 4096, buf + 512), -EINVAL);
	assert_int_equal(io(PV_BLKFRONT_READ, 4096, 4096, buf + 4096), 0);
	assert_memory_equal(buf + 4096, fake_disk + 4096, 4096);
}

static void blkfront_queue_full_then_reaped(void **state)
{
	uint8_t *buf;
	unsigned n = 0;

	(void)state;
	connected((struct pv_blkfront_config){ .queues = 2, .ring_order = 1 });
	buf = pv_blkfront_buf(f, 64 * 4096);
	for (unsigned round = 0; round < 5; round++) {
		for (n = 0; ask(1, PV_BLKFRONT_READ, n * 4096, 4096, buf + n * 4096) == 0; n++)
			;
		assert_int_equal(n, 64);
		assert_int_equal(ask(1, PV_BLKFRONT_READ, 0, 512, buf), -EAGAIN);
		assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, buf), 0); /* the other queue has room */
		assert_int_equal(pv_blkfront_reap(f, 1, done, 512), 0);
		pv_blkfront_submit(f);
		assert_int_equal(fake_work(&k), 65);
		assert_int_equal(pv_blkfront_reap(f, 1, done, 10), 10);
		assert_int_equal(pv_blkfront_reap(f, 1, done, 512), 54);
		assert_int_equal(pv_blkfront_reap(f, 1, done, 512), 0);
		assert_int_equal(pv_blkfront_reap(f, 0, done, 512), 1);
		assert_memory_equal(buf, fake_disk, 64 * 4096);
	}
}

static void blkfront_submit_one_notify_a_batch(void **state)
{
	struct pv_blkfront_stats s;
	uint8_t *buf;

	(void)state;
	connected((struct pv_blkfront_config){ 0 });
	buf = pv_blkfront_buf(f, 32 * 512);
	assert_int_equal(pv_ring_rearm(&k.queue[0].tx, 1), 0);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(ask(0, PV_BLKFRONT_READ, i * 512, 512, buf + i * 512), 0);
	pv_blkfront_submit(f);
	pv_blkfront_submit(f);
	pv_blkfront_stats(f, &s);
	assert_int_equal(s.notifies, 1);
}

static void blkfront_reap_statuses(void **state)
{
	static const int16_t status[] = { BLKIF_RSP_OKAY, BLKIF_RSP_ERROR, BLKIF_RSP_EOPNOTSUPP, 77 };
	static const int result[] = { 0, -EIO, -EOPNOTSUPP, -EIO };
	static struct fake_req req;
	struct pv_blkfront_stats s;
	uint8_t *buf;

	(void)state;
	connected((struct pv_blkfront_config){ 0 });
	buf = pv_blkfront_buf(f, 4 * 512);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, buf + i * 512), 0);
	pv_blkfront_submit(f);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(fake_req_take(&k, &k.queue[0], &req));
		fake_rsp(&k.queue[0], req.r.id, req.r.op, status[i]);
	}
	pv_ring_publish(&k.queue[0].tx);
	assert_int_equal(pv_blkfront_reap(f, 0, done, 512), 4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(done[i].result, result[i]);
		assert_ptr_equal(done[i].user, buf + i * 512);
	}
	pv_blkfront_stats(f, &s);
	assert_int_equal(s.errors, 3);
}

static void blkfront_fd_wakes_again_after_rest(void **state)
{
	struct pollfd fd;
	uint8_t *buf;

	(void)state;
	connected((struct pv_blkfront_config){ 0 });
	buf = pv_blkfront_buf(f, 512);
	assert_int_equal(pv_blkfront_reap(f, 0, done, 1), 0);
	fd = (struct pollfd){ .fd = pv_blkfront_fd(f), .events = POLLIN };
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, buf), 0);
		pv_blkfront_submit(f);
		assert_int_equal(fake_work(&k), 1);
		assert_int_equal(poll(&fd, 1, 20000), 1);
		assert_int_equal(pv_blkfront_work(f), 1);
		assert_int_equal(poll(&fd, 1, 0), 0);
		assert_int_equal(pv_blkfront_reap(f, 0, done, 1), 1);
		assert_int_equal(pv_blkfront_reap(f, 0, done, 1), 0);
	}
}

/* The ring begins armed, as every ring of Xen does: the first answer is an event, and no other. */
static void blkfront_reap_polling_asks_for_no_event(void **state)
{
	struct pv_blkfront_stats s;
	uint8_t *buf;

	(void)state;
	connected((struct pv_blkfront_config){ .poll = true });
	buf = pv_blkfront_buf(f, 512);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(io(PV_BLKFRONT_READ, 0, 512, buf), 0);
		assert_int_equal(pv_blkfront_reap(f, 0, done, 1), 0);
		pv_blkfront_work(f);
	}
	pv_blkfront_stats(f, &s);
	assert_int_equal(s.events, 1);
}

static void blkfront_work_follows_a_resize(void **state)
{
	uint8_t *buf;

	(void)state;
	connected((struct pv_blkfront_config){ 0 });
	buf = pv_blkfront_buf(f, 512);
	k.offer.state = XenbusStateConnected;
	k.offer.vbd.sectors = 16;
	pv_noxs_offer_write(k.control, &k.offer);
	pv_evt_notify(k.h, (uint32_t)k.port);
	fake_until(pv_blkfront_work(f) == 0 && pv_blkfront_offer(f)->sectors == 16);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 16 * 512, 512, buf), -EINVAL);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 15 * 512, 512, buf), 0);
}

/* The backend dies with requests in flight: unseen, taken, answered but not seen. All are asked again of the next. */
static void blkfront_work_asks_again_after_a_new_offer(void **state)
{
	static struct fake_req req;
	uint32_t grants;
	uint8_t *buf;
	int n, total = 0;

	(void)state;
	connected((struct pv_blkfront_config){ .queues = 2 });
	grants = fake_guest(&k).grants;
	buf = pv_blkfront_buf(f, 24 * 65536);
	for (unsigned i = 0; i < 24; i++)
		assert_int_equal(ask(i % 2, i < 20 ? PV_BLKFRONT_READ : PV_BLKFRONT_WRITE, i * 65536, i % 3 ? 65536 : 512, buf + i * 65536), 0);
	pv_blkfront_submit(f);
	for (unsigned i = 0; i < 5; i++)
		assert_true(fake_req_take(&k, &k.queue[0], &req));
	fake_rsp(&k.queue[0], req.r.id, req.r.op, BLKIF_RSP_OKAY);
	fake_publish(&k, &k.queue[0], &k.queue[0].tx);
	fake_disconnect(&k);
	fake_offer(&k);
	fake_until(pv_blkfront_work(f) == 0 && pv_blkfront_state(f) == XenbusStateInitialised);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, buf), -EAGAIN);
	fake_connect(&k);
	assert_int_equal(fake_guest(&k).grants, grants);
	assert_int_equal(fake_work(&k), 24);
	fake_until(pv_blkfront_work(f) == 1);
	for (unsigned q = 0; q < 2; q++)
		while ((n = pv_blkfront_reap(f, q, done, 7)) > 0)
			total += n;
	assert_int_equal(total, 24);
	for (unsigned i = 0; i < 20; i++)
		assert_memory_equal(buf + i * 65536, fake_disk + i * 65536, i % 3 ? 65536 : 512);
	for (unsigned i = 0; i < 32; i++) /* all slots are usable again */
		assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, buf), 0);
}

static struct pv_hyper *dom0, *driver; /* whose half the fake backend is */

/* Its driver domain is gone; another one has the device. */
static void another_domain(void)
{
	uint16_t domid = (uint16_t)lb_guest(dom0, 0);

	if (k.queues)
		fake_disconnect(&k);
	if (driver)
		pv_hyper_close(driver);
	driver = lb_open(domid);
	k.h = dom0;
	k.entry.backend_domid = domid;
	fake_offer(&k);
	fake_until(pv_blkfront_work(f) == 0 && pv_blkfront_state(f) == XenbusStateInitialised);
	k.h = driver;
	fake_serve(&k);
	k.h = dom0;
	fake_state(&k, XenbusStateConnected, 0);
	k.h = driver;
}

/* Requests in flight when a driver domain dies are asked again of the next one, in their order, and answered once; twice in a row. */
static void blkfront_work_asks_again_in_another_domain(void **state)
{
	static const uint64_t sectors[] = { 700, 9, 512, 300, 11, 300 };
	enum { N = sizeof(sectors) / sizeof(sectors[0]) };
	static struct fake_req req;
	uint8_t *buf;

	(void)state;
	connected((struct pv_blkfront_config){ 0 });
	dom0 = k.h;
	buf = pv_blkfront_buf(f, N * 65536);
	for (unsigned i = 0; i < 5; i++) /* so that shadows are used in another order than they were asked in */
		assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, buf), 0);
	pv_blkfront_submit(f);
	assert_int_equal(fake_work(&k), 5);
	assert_int_equal(pv_blkfront_reap(f, 0, done, 512), 5);
	memset(buf, 0x77, N * 65536);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(ask(0, i % 2 ? PV_BLKFRONT_WRITE : PV_BLKFRONT_READ, sectors[i] * 512, i == 2 ? 65536 : 1024, buf + i * 65536), 0);
	pv_blkfront_submit(f);
	assert_true(fake_req_take(&k, &k.queue[0], &req));
	for (unsigned round = 0; round < 2; round++) {
		another_domain();
		for (unsigned i = 0; round == 0 && i < N; i++) {
			assert_true(fake_req_take(&k, &k.queue[0], &req));
			assert_int_equal(req.r.sector, sectors[i]);
		}
	}
	assert_int_equal(fake_work(&k), N);
	fake_until(pv_blkfront_work(f) == 1);
	assert_int_equal(pv_blkfront_reap(f, 0, done, 512), N);
	for (unsigned i = 0; i < N; i++) {
		assert_ptr_equal(done[i].user, buf + i * 65536);
		assert_int_equal(done[i].result, 0);
		assert_memory_equal(buf + i * 65536, fake_disk + sectors[i] * 512, i == 2 ? 65536 : 1024);
	}
	assert_int_equal(pv_blkfront_reap(f, 0, done, 512), 0);
	assert_int_equal(fake_disk[9 * 512], 0x77);
	memset(buf, 0x78, 65536);
	assert_int_equal(io(PV_BLKFRONT_WRITE, 65536, 65536, buf), 0);
	assert_int_equal(fake_disk[65536 + 65535], 0x78);
	fake_disconnect(&k);
	pv_hyper_close(driver);
	driver = NULL;
	k.h = dom0;
}

static void blkfront_work_comes_back_as_another_device(void **state)
{
	(void)state;
	connected((struct pv_blkfront_config){ .queues = 2 });
	fake_disconnect(&k);
	k.offer.vbd.queues_max = 1;
	fake_offer(&k);
	fake_until(pv_blkfront_work(f) == -ESHUTDOWN);
	assert_non_null(strstr(pv_blkfront_error(f), "open it again"));
}

static void blkfront_work_dom0_detaches(void **state)
{
	uint8_t *buf;

	(void)state;
	connected((struct pv_blkfront_config){ 0 });
	buf = pv_blkfront_buf(f, 512);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, buf), 0);
	pv_blkfront_submit(f);
	fake_state(&k, XenbusStateClosing, 0);
	fake_until(pv_blkfront_work(f) == -ESHUTDOWN);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, buf), -ESHUTDOWN);
	assert_int_equal(fake_work(&k), 1);
	assert_int_equal(pv_blkfront_reap(f, 0, done, 8), 1); /* what was in flight may end */
	assert_memory_equal(buf, fake_disk, 512);
}

static void blkfront_close_frees_everything(void **state)
{
	uint32_t grants = fake_guest(&k).grants, ports = fake_guest(&k).ports;
	uint8_t *buf;

	(void)state;
	connected((struct pv_blkfront_config){ .queues = 2, .ring_order = 2 });
	buf = pv_blkfront_buf(f, 512);
	assert_int_equal(ask(0, PV_BLKFRONT_READ, 0, 512, buf), 0);
	pv_blkfront_submit(f);
	fake_disconnect(&k);
	fake_follow(&k);
	pv_blkfront_close(f, 20000); /* with a request in flight */
	f = NULL;
	assert_int_equal(fake_guest(&k).grants, grants);
	assert_int_equal(fake_guest(&k).ports, ports);
	assert_int_equal(fake_guest(&k).handles, 0);
	pv_blkfront_close(NULL, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(blkfront_open_choice),
		T(blkfront_open_no_grants_left),
		T(blkfront_open_smaller_pool_when_grants_are_short),
		T(blkfront_queue_before_connected),
		T(blkfront_queue_read_every_length),
		T(blkfront_queue_unaligned_buffer),
		T(blkfront_queue_write_flush_discard),
		T(blkfront_queue_bad_arguments),
		T(blkfront_queue_not_offered),
		T(blkfront_queue_unwanted_features),
		T(blkfront_queue_discard_secure),
		T(blkfront_queue_sector_size_4096),
		T(blkfront_queue_full_then_reaped),
		T(blkfront_submit_one_notify_a_batch),
		T(blkfront_reap_statuses),
		T(blkfront_fd_wakes_again_after_rest),
		T(blkfront_reap_polling_asks_for_no_event),
		T(blkfront_work_follows_a_resize),
		T(blkfront_work_asks_again_after_a_new_offer),
		T(blkfront_work_asks_again_in_another_domain),
		T(blkfront_work_comes_back_as_another_device),
		T(blkfront_work_dom0_detaches),
		T(blkfront_close_frees_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
