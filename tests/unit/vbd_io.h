/* vbd_io.h - what a vbd can do, from a frontend through the whole product to a file. The program that includes it says by DIALECT how its
 * frontend finds the device.
 */
#ifndef VBD_IO_H
#define VBD_IO_H

#include <poll.h>
#include <pvio/blk.h>
#include <pvio/blkfront.h>
#include <pvio/front.h>
#include <sys/stat.h>
#include "tests/unit/blk_slots.h"
#include "tests/unit/sandbox.h"

enum { XVDA = 51712, VBD_MS = 20000 };

static struct pv_blkfront *f; /* guest 1's */
static uint8_t *buf; /* of its pool */
static size_t buf_len;
static int image; /* the file, as dom0 sees it */

/* ---- up and down ---- */

static void connected(void)
{
	uint64_t end = front_now_ms() + VBD_MS;

	while (pv_blkfront_state(f) != XenbusStateConnected) {
		if (pv_blkfront_work(f) < 0)
			fail_msg("%s", pv_blkfront_error(f));
		assert_true(front_now_ms() < end);
	}
}

static void vbd_attach(const char *keys)
{
	char path[100];

	snprintf(path, sizeof(path), "%s/disk", dir);
	image = open(path, O_RDWR | O_CLOEXEC);
	assert_true(image >= 0);
	assert_int_equal(ftruncate(image, DISK), 0);
	assert_int_equal(pvio("attach g1 vbd xvda path=%s %s --dialect " DIALECT, path, keys), 0);
}

static void vbd_detach(void)
{
	assert_int_equal(pvio("detach g1 xvda"), 0);
	close(image);
}

static void vbd_up(const char *keys, struct pv_blkfront_config c)
{
	char why[200];

	vbd_attach(keys);
	c.devid = XVDA;
	c.wait_ms = 10000;
	if (pv_blkfront_open(NULL, G1, &c, &f, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	connected();
	buf_len = pv_blkfront_io_max(f);
	buf = pv_blkfront_buf(f, buf_len);
	assert_non_null(buf);
}

static void vbd_down(void)
{
	pv_blkfront_buf_free(f, buf, buf_len);
	pv_blkfront_close(f, 5000);
	vbd_detach();
}

/* ---- I/O ---- */

/* One I/O from its beginning to its end. Returns its result, or that of queueing it. */
static int io(unsigned queue, enum pv_blkfront_op op, uint64_t offset, uint64_t len)
{
	bool data = op == PV_BLKFRONT_READ || op == PV_BLKFRONT_WRITE;
	struct pv_blkfront_io ask = { .op = op, .offset = offset, .len = len, .buf = data ? buf : NULL, .user = buf };
	uint64_t end = front_now_ms() + VBD_MS;
	struct pv_blkfront_done done;
	int rc = pv_blkfront_queue(f, queue, &ask);

	if (rc < 0)
		return rc;
	assert_int_equal(pv_blkfront_submit(f), 0);
	while ((rc = pv_blkfront_reap(f, queue, &done, 1)) == 0) {
		assert_true(pv_blkfront_work(f) >= 0);
		assert_true(front_now_ms() < end);
	}
	assert_int_equal(rc, 1);
	assert_ptr_equal(done.user, buf);
	return done.result;
}

static void fill(size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed * 31 + i * 7 + i / 512);
}

/* Write, look at the file, read again. */
static void write_and_read(unsigned queue, uint64_t offset, size_t len, unsigned seed)
{
	uint8_t *file = malloc(len);

	assert_non_null(file);
	fill(len, seed);
	assert_int_equal(io(queue, PV_BLKFRONT_WRITE, offset, len), 0);
	assert_int_equal(pread(image, file, len, (off_t)offset), len);
	assert_memory_equal(file, buf, len);
	memset(buf, 0, len);
	assert_int_equal(io(queue, PV_BLKFRONT_READ, offset, len), 0);
	assert_memory_equal(file, buf, len);
	free(file);
}

/* ---- features ---- */

static void every_queue_and_ring_order_serves(void **state)
{
	(void)state;
	for (uint16_t order = 0; order <= 4; order++) {
		vbd_up("queues=3", (struct pv_blkfront_config){ .queues = 3, .ring_order = order, .pool_pages = 512 });
		assert_int_equal(pv_blkfront_queues(f), 3);
		assert_int_equal(pv_blkfront_offer(f)->ring_order_max, 4);
		for (unsigned q = 0; q < 3; q++) {
			write_and_read(q, 512 * (1 + q), 512, order + q);
			write_and_read(q, 40960 * q, 40960, order + q);
		}
		vbd_down();
	}
}

static void indirect_requests_are_as_large_as_configured(void **state)
{
	static const unsigned segs[][2] = { { 512, 512 }, { 256, 256 }, { 100, 100 }, { 0, 11 } };
	char keys[40];

	(void)state;
	for (unsigned i = 0; i < sizeof(segs) / sizeof(segs[0]); i++) {
		snprintf(keys, sizeof(keys), "indirect=%u", segs[i][0]);
		vbd_up(keys, (struct pv_blkfront_config){ .pool_pages = 1024 });
		assert_int_equal(pv_blkfront_offer(f)->indirect_max, segs[i][0]);
		assert_int_equal(pv_blkfront_io_max(f), segs[i][1] * 4096);
		write_and_read(0, 1 << 20, segs[i][1] * 4096, i);
		assert_int_equal(io(0, PV_BLKFRONT_READ, 0, segs[i][1] * 4096 + 4096), -EINVAL);
		vbd_down();
	}
}

static void pages_are_kept_or_not_as_both_agree(void **state)
{
	static const struct {
		const char *keys;
		uint32_t wanted, agreed;
	} rows[] = {
		{ "persistent=1 cache=256", 0, PV_VBD_PERSISTENT }, { "persistent=0", 0, 0 }, { "persistent=1", PV_VBD_FLUSH, 0 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		vbd_up(rows[i].keys, (struct pv_blkfront_config){ .features = rows[i].wanted, .pool_pages = 1024 });
		assert_int_equal(pv_blkfront_features(f) & PV_VBD_PERSISTENT, rows[i].agreed);
		for (unsigned n = 0; n < 4; n++) /* more pages than cache= in all, so that some are unmapped again */
			write_and_read(0, n << 21, 1 << 20, n);
		vbd_down();
	}
}

static void flush_and_discard_do_what_they_say(void **state)
{
	uint32_t features = PV_VBD_FLUSH | PV_VBD_BARRIER | PV_VBD_DISCARD;
	struct stat st;

	(void)state;
	vbd_up("", (struct pv_blkfront_config){ .queues = 1 });
	assert_int_equal(pv_blkfront_offer(f)->features & features, features);
	assert_int_equal(pv_blkfront_offer(f)->discard_granularity % 512, 0);
	write_and_read(0, 1 << 20, 1 << 20, 1);
	assert_int_equal(io(0, PV_BLKFRONT_FLUSH, 0, 0), 0);
	assert_int_equal(io(0, PV_BLKFRONT_DISCARD, 1 << 20, 1 << 19), 0);
	assert_int_equal(fstat(image, &st), 0);
	assert_int_equal(st.st_size, DISK);
	assert_int_equal(lseek(image, 1 << 20, SEEK_HOLE), 1 << 20);
	assert_int_equal(lseek(image, 1 << 20, SEEK_DATA), (1 << 20) + (1 << 19));
	assert_int_equal(io(0, PV_BLKFRONT_READ, (1 << 20) + (1 << 19) - 512, 1024), 0);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(buf[i], 0);
	assert_int_not_equal(buf[513], 0); /* what lies behind it stays */
	assert_int_equal(io(0, PV_BLKFRONT_DISCARD_SECURE, 0, 4096), -EOPNOTSUPP); /* a file cannot */
	vbd_down();
	vbd_up("discard=0", (struct pv_blkfront_config){ .queues = 1 });
	assert_int_equal(io(0, PV_BLKFRONT_DISCARD, 0, 4096), -EOPNOTSUPP);
	vbd_down();
}

static void sectors_are_512_or_4096_bytes(void **state)
{
	(void)state;
	vbd_up("sector=4096", (struct pv_blkfront_config){ .queues = 1 });
	assert_int_equal(pv_blkfront_offer(f)->sector_size, 4096);
	assert_true(pv_blkfront_offer(f)->physical_sector_size >= 4096);
	assert_int_equal(pv_blkfront_offer(f)->sectors, DISK / 512); /* in 512 bytes, whatever a sector is */
	write_and_read(0, 8192, 4096, 1);
	write_and_read(0, DISK - (1 << 20), 1 << 20, 2);
	assert_int_equal(io(0, PV_BLKFRONT_READ, 512, 4096), -EINVAL);
	assert_int_equal(io(0, PV_BLKFRONT_WRITE, 4096, 512), -EINVAL);
	assert_int_equal(io(0, PV_BLKFRONT_DISCARD, 4096, 4096), 0);
	vbd_down();
	vbd_up("sector=512", (struct pv_blkfront_config){ .queues = 1 });
	assert_int_equal(pv_blkfront_offer(f)->sector_size, 512);
	write_and_read(0, 512, 512, 3);
	vbd_down();
}

static void what_it_is_is_told(void **state)
{
	static const struct {
		const char *keys;
		uint32_t info;
	} rows[] = {
		{ "mode=w", 0 }, { "mode=r", VDISK_READONLY }, { "cdrom=1", VDISK_CDROM | VDISK_READONLY }, { "removable=1", VDISK_REMOVABLE },
		{ "cdrom=1 removable=1", VDISK_CDROM | VDISK_REMOVABLE | VDISK_READONLY },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool reads = rows[i].info & VDISK_READONLY;

		vbd_up(rows[i].keys, (struct pv_blkfront_config){ .queues = 1 });
		assert_int_equal(pv_blkfront_offer(f)->info, rows[i].info);
		assert_int_equal(io(0, PV_BLKFRONT_READ, 0, 4096), 0);
		assert_int_equal(io(0, PV_BLKFRONT_WRITE, 0, 4096), reads ? -EROFS : 0);
		vbd_down();
	}
}

/* ---- resize ---- */

static void becomes(uint64_t bytes)
{
	uint64_t end = front_now_ms() + VBD_MS;

	while (pv_blkfront_offer(f)->sectors != bytes / 512) {
		assert_true(pv_blkfront_work(f) >= 0);
		assert_true(front_now_ms() < end);
	}
	assert_int_equal(pv_blkfront_state(f), XenbusStateConnected);
}

static void size_changes_under_the_guest(void **state)
{
	struct stat st;

	(void)state;
	vbd_up("", (struct pv_blkfront_config){ .queues = 2 });
	write_and_read(1, DISK - 4096, 4096, 1);
	assert_int_equal(io(0, PV_BLKFRONT_READ, DISK, 512), -EINVAL);
	assert_int_equal(ftruncate(image, DISK + (1 << 20)), 0); /* the file has grown */
	assert_int_equal(pvio("resize g1 xvda"), 0);
	becomes(DISK + (1 << 20));
	for (unsigned q = 0; q < 2; q++)
		write_and_read(q, DISK + (1 << 20) - 8192, 8192, 2 + q);
	assert_int_equal(pvio("resize g1 xvda 80M"), 0); /* and is made to grow */
	becomes(80 << 20);
	assert_int_equal(fstat(image, &st), 0);
	assert_int_equal(st.st_size, 80 << 20);
	write_and_read(1, (80 << 20) - 512, 512, 4);
	assert_int_equal(pvio("resize g1 xvda 32M"), 1); /* not under a guest */
	assert_int_equal(pvio("resize g1 xvda 32000001"), 1);
	assert_int_equal(pvio("resize g1 xvda 0"), 1);
	write_and_read(0, (80 << 20) - 512, 512, 5);
	assert_int_equal(pvio("resize g1 xvda 32M --force"), 0);
	becomes(32 << 20);
	assert_int_equal(io(0, PV_BLKFRONT_READ, 32 << 20, 512), -EINVAL);
	write_and_read(0, (32 << 20) - 4096, 4096, 6);
	assert_int_equal(pvio("resize g1 xvda"), 0); /* nothing to do */
	pv_blkfront_buf_free(f, buf, buf_len);
	pv_blkfront_close(f, 5000);
	assert_int_equal(pvio("resize g1 xvda 16M"), 0); /* with nobody there it may shrink */
	vbd_detach();
}

static void size_that_cannot_change_is_refused(void **state)
{
	(void)state;
	vbd_up("path=ram:1M", (struct pv_blkfront_config){ .queues = 1 });
	assert_int_equal(pvio("resize g1 xvda 2M"), 1);
	assert_int_equal(pvio("resize g1 xvdb"), 1);
	assert_int_equal(pvio("resize g1 vif0"), 1);
	assert_int_equal(pv_blkfront_offer(f)->sectors, 2048);
	vbd_down();
}

/* ---- a frontend that writes its slots itself: ABIs, and what ours does not ask for ---- */

enum { RAW_PAGES = 96, RAW_SEGS = RAW_PAGES - 1 /* the last page has segments */ };

static struct raw {
	struct front front;
	enum pv_vbd_abi abi;
	uint32_t gref[RAW_PAGES], port;
	uint8_t *data;
	void *slots;
	struct pv_ring ring;
} raw;

/* Wait for an event, follow the states, and have the next come. */
static void raw_turn(void)
{
	struct pollfd p = { .fd = pv_evt_fd(raw.front.h), .events = POLLIN };
	uint32_t ports[8];
	int n;

	poll(&p, 1, 1);
	n = front_events(&raw.front, ports, 8);
	assert_true(n >= 0);
	pv_evt_unmask(raw.front.h, ports, (unsigned)n);
}

static void raw_up(const char *keys, enum pv_vbd_abi abi)
{
	struct pv_noxs_choice c = { .abi = abi, .queues = 1 };
	uint64_t end = front_now_ms() + VBD_MS;
	uint16_t backend;
	int port;

	vbd_attach(keys);
	if (front_open(&raw.front, NULL, G1, PV_NOXS_VBD, XVDA, 10000) < 0)
		fail_msg("%s", raw.front.why);
	backend = raw.front.entry.backend_domid;
	raw.abi = abi;
	assert_int_equal(pv_gnt_share(raw.front.h, backend, RAW_PAGES, true, NULL, raw.gref, (void **)&raw.data), 0);
	assert_int_equal(pv_gnt_share(raw.front.h, backend, 1, true, NULL, c.vbd[0].ring_gref, &raw.slots), 0);
	pv_ring_init_front(&raw.ring, raw.slots, PV_PAGE_SIZE, pv_blk_slot_size(abi));
	port = pv_evt_alloc(raw.front.h, backend);
	assert_true(port > 0);
	c.vbd[0].port = raw.port = (uint32_t)port;
	assert_int_equal(front_choose(&raw.front, &c), 0);
	while (raw.front.state != FRONT_CONNECTED) {
		raw_turn();
		assert_true(raw.front.state == FRONT_CONNECTING || raw.front.state == FRONT_CONNECTED);
		assert_true(front_now_ms() < end);
	}
}

static void raw_down(void)
{
	assert_int_equal(front_leave(&raw.front, 5000), 0);
	assert_int_equal(pv_evt_unbind(raw.front.h, raw.port), 0);
	assert_int_equal(pv_gnt_unshare(raw.front.h, raw.slots, 1), 0);
	assert_int_equal(pv_gnt_unshare(raw.front.h, raw.data, RAW_PAGES), 0);
	front_close(&raw.front);
	vbd_detach();
}

static void raw_notify(void)
{
	pv_ring_publish(&raw.ring);
	pv_evt_notify(raw.front.h, raw.port);
}

static struct blkif_response raw_wait(void)
{
	uint64_t end = front_now_ms() + VBD_MS;
	struct blkif_response rsp;

	while (!slot_poll(&raw.ring, raw.abi, &rsp)) {
		if (pv_ring_rearm(&raw.ring, 1) == 0)
			raw_turn();
		assert_true(front_now_ms() < end);
	}
	return rsp;
}

/* Returns its status. */
static int raw_do(const struct pv_blk_req *r)
{
	struct blkif_response rsp;

	slot_put(&raw.ring, raw.abi, r);
	raw_notify();
	rsp = raw_wait();
	assert_int_equal(rsp.id, r->id);
	assert_int_equal(rsp.operation, r->op);
	return rsp.status;
}

/* The first n pages. */
static void raw_rw(uint8_t op, unsigned n, uint64_t sector)
{
	struct pv_blk_req r = n <= PV_BLK_SEGS_DIRECT ? slot_rw(raw.gref, op, sector, n) :
			      slot_indirect(raw.gref, op, sector, n, raw.data + RAW_SEGS * PV_PAGE_SIZE, raw.gref[RAW_SEGS]);

	assert_int_equal(raw_do(&r), BLKIF_RSP_OKAY);
}

/* Write, look at the file, read again. */
static void raw_write_and_read(unsigned n, uint64_t sector, unsigned seed)
{
	static uint8_t file[RAW_SEGS * PV_PAGE_SIZE];
	size_t len = n * PV_PAGE_SIZE;

	for (size_t i = 0; i < len; i++)
		raw.data[i] = (uint8_t)(seed + i / 512 * 7 + i);
	raw_rw(BLKIF_OP_WRITE, n, sector);
	assert_int_equal(pread(image, file, len, (off_t)sector * 512), len);
	assert_memory_equal(file, raw.data, len);
	memset(raw.data, 0, len);
	raw_rw(BLKIF_OP_READ, n, sector);
	assert_memory_equal(file, raw.data, len);
}

static void every_abi_serves(void **state)
{
	static const enum pv_vbd_abi abis[] = { PV_VBD_ABI_NATIVE, PV_VBD_ABI_X86_32, PV_VBD_ABI_X86_64 };

	(void)state;
	for (unsigned a = 0; a < 3; a++) {
		raw_up("", abis[a]);
		assert_true(raw.front.offer.vbd.indirect_max >= RAW_SEGS);
		for (unsigned i = 0; i < 40; i++) { /* past the end of the ring */
			raw_write_and_read(1 + i % PV_BLK_SEGS_DIRECT, i * 16, a * 40 + i);
			raw_write_and_read(PV_BLK_SEGS_DIRECT + 1 + i, 8192 + i * 16, a * 40 + i);
		}
		raw_write_and_read(RAW_SEGS, DISK / 512 - RAW_SEGS * 8, a);
		raw_down();
	}
}

static void unknown_operations_are_not_supported(void **state)
{
	static const enum pv_vbd_abi abis[] = { PV_VBD_ABI_NATIVE, PV_VBD_ABI_X86_32 };
	static const uint8_t ops[] = { 4 /* reserved */, 7, 99, 255 };

	(void)state;
	for (unsigned a = 0; a < 2; a++) {
		raw_up("", abis[a]);
		for (unsigned i = 0; i < sizeof(ops); i++) {
			struct pv_blk_req r = slot_rw(raw.gref, ops[i], 8, 1);

			assert_int_equal(raw_do(&r), BLKIF_RSP_EOPNOTSUPP);
			raw_write_and_read(2, 64, i); /* the ring goes on */
		}
		raw_down();
	}
}

/* Where it is offered everything before it is answered before it, and nothing after it is begun: writes of one place are as if asked for one by one. */
static void barriers_are_ordered_or_not_offered(void **state)
{
	struct pv_blk_req r;
	uint8_t file[PV_PAGE_SIZE];

	(void)state;
	raw_up("", PV_VBD_ABI_X86_64);
	assert_true(raw.front.offer.vbd.features & PV_VBD_BARRIER);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < raw.ring.nr; i++) {
			memset(raw.data + i * PV_PAGE_SIZE, (int)(round * raw.ring.nr + i), PV_PAGE_SIZE);
			r = i % 2 ? slot_rw(raw.gref + i, BLKIF_OP_WRITE_BARRIER, 160, 1) : /* what is before it lasts for longer */
				    slot_indirect(raw.gref, BLKIF_OP_WRITE, 160, RAW_SEGS, raw.data + RAW_SEGS * PV_PAGE_SIZE, raw.gref[RAW_SEGS]);
			r.id = i;
			slot_put(&raw.ring, raw.abi, &r);
		}
		raw_notify();
		for (unsigned i = 0; i < raw.ring.nr; i++) {
			struct blkif_response rsp = raw_wait();

			assert_int_equal(rsp.id, i);
			assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
		}
		assert_int_equal(pread(image, file, sizeof(file), 160 * 512), sizeof(file));
		assert_memory_equal(file, raw.data + (raw.ring.nr - 1) * PV_PAGE_SIZE, sizeof(file));
	}
	r = (struct pv_blk_req){ .id = 1, .op = BLKIF_OP_WRITE_BARRIER, .op_slot = BLKIF_OP_WRITE_BARRIER };
	assert_int_equal(raw_do(&r), BLKIF_RSP_OKAY); /* of nothing */
	raw_down();
	raw_up("mode=r", PV_VBD_ABI_X86_64);
	assert_false(raw.front.offer.vbd.features & PV_VBD_BARRIER);
	r = slot_rw(raw.gref, BLKIF_OP_WRITE_BARRIER, 160, 1);
	assert_int_equal(raw_do(&r), BLKIF_RSP_EOPNOTSUPP);
	r = slot_rw(raw.gref, BLKIF_OP_READ, 160, 1);
	assert_int_equal(raw_do(&r), BLKIF_RSP_OKAY);
	raw_down();
}

static const struct CMUnitTest vbd_tests[] = {
	cmocka_unit_test(every_queue_and_ring_order_serves),
	cmocka_unit_test(indirect_requests_are_as_large_as_configured),
	cmocka_unit_test(pages_are_kept_or_not_as_both_agree),
	cmocka_unit_test(flush_and_discard_do_what_they_say),
	cmocka_unit_test(sectors_are_512_or_4096_bytes),
	cmocka_unit_test(what_it_is_is_told),
	cmocka_unit_test(size_changes_under_the_guest),
	cmocka_unit_test(size_that_cannot_change_is_refused),
	cmocka_unit_test(every_abi_serves),
	cmocka_unit_test(unknown_operations_are_not_supported),
	cmocka_unit_test(barriers_are_ordered_or_not_offered),
};

static int vbd_io(void)
{
	if (sandbox_has_no_uring()) {
		printf("SKIP need=uring: io_uring is disabled; set sysctl kernel.io_uring_disabled=0\n");
		return 77;
	}
	return cmocka_run_group_tests(vbd_tests, sandbox_up, sandbox_down);
}

#endif
