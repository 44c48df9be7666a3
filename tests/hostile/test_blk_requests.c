/* A guest's requests are wrong in every way that a slot allows: each is answered for itself, and the ring goes on. */
#include "tests/hostile/blk_rig.h"
#include <pthread.h>

static const enum pv_vbd_abi abis[] = { PV_VBD_ABI_NATIVE, PV_VBD_ABI_X86_32, PV_VBD_ABI_X86_64 };

/* Put a bad request between good neighbours: it alone fails, with `status`. */
static void expect(struct guest *g, const struct pv_blk_req *bad, int status)
{
	struct pv_blk_req before = guest_rw(g, BLKIF_OP_READ, 80, 20, 1), after = guest_rw(g, BLKIF_OP_READ, 88, 21, 1);
	struct pv_blk_req r = *bad;
	unsigned seen = 0;

	before.id = 1;
	r.id = 2;
	after.id = 3;
	memset(g->data + 20 * PV_PAGE_SIZE, 0, 2 * PV_PAGE_SIZE);
	guest_put(g, 0, &before);
	guest_put(g, 0, &r);
	guest_put(g, 0, &after);
	guest_notify(g, 0);
	for (int i = 0; i < 3; i++) {
		struct blkif_response rsp = guest_wait(g, 0);

		assert_in_range(rsp.id, 1, 3);
		assert_false(seen & 1u << rsp.id);
		seen |= 1u << rsp.id;
		assert_int_equal(rsp.status, rsp.id == 2 ? status : BLKIF_RSP_OKAY);
		if (rsp.id == 2)
			assert_int_equal(rsp.operation, r.op);
	}
	image_equals(g, 80, g->data + 20 * PV_PAGE_SIZE, 2 * PV_PAGE_SIZE);
}

/* For each ABI: a guest of its own, and the checks at the end. */
static void with_guests(const char *config, void (*test)(struct guest *g))
{
	for (unsigned a = 0; a < 3; a++) {
		struct guest g;

		guest_open(&g);
		guest_up_with(&g, config, 1, 0, abis[a], a == 1 ? 0 : PV_VBD_PERSISTENT);
		test(&g);
		guest_io(&g);
		guest_down(&g);
		guest_close(&g);
		rig_check();
	}
}

static void bad_operations(struct guest *g)
{
	static const uint8_t known[] = { BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_WRITE_BARRIER, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_DISCARD,
					 BLKIF_OP_INDIRECT };

	for (unsigned op = 0; op < 256; op++) {
		struct pv_blk_req r = guest_rw(g, BLKIF_OP_READ, 8, 0, 1);

		if (op < 7 && memchr(known, op, sizeof(known)))
			continue;
		r.op = r.op_slot = op;
		expect(g, &r, BLKIF_RSP_EOPNOTSUPP);
	}
	assert_true(guest_stat(g, "unsupported") >= 250);
}

static void unknown_operations_are_not_supported_and_the_ring_goes_on(void **state)
{
	(void)state;
	with_guests(NULL, bad_operations);
}

static void bad_segments(struct guest *g)
{
	static const uint8_t counts[] = { 0, 12, 13, 255 };
	static const struct { uint8_t op, nr, first, last; } rows[] = {
		{ BLKIF_OP_READ, 1, 1, 0 }, { BLKIF_OP_READ, 1, 7, 3 }, { BLKIF_OP_READ, 1, 0, 8 }, { BLKIF_OP_READ, 1, 255, 255 },
		{ BLKIF_OP_WRITE, 1, 0, 255 }, { BLKIF_OP_WRITE, 11, 5, 4 }, { BLKIF_OP_FLUSH_DISKCACHE, 1, 0, 8 },
		{ BLKIF_OP_WRITE_BARRIER, 2, 9, 9 },
	};
	struct pv_blk_req r;

	for (unsigned i = 0; i < sizeof(counts); i++) {
		for (uint8_t op = BLKIF_OP_READ; op <= BLKIF_OP_WRITE; op++) {
			r = guest_rw(g, op, 8, 0, counts[i]);
			expect(g, &r, BLKIF_RSP_ERROR);
		}
		r = guest_rw(g, BLKIF_OP_FLUSH_DISKCACHE, 8, 0, counts[i] < 12 ? 12 : counts[i]);
		expect(g, &r, BLKIF_RSP_ERROR);
		r = guest_rw(g, BLKIF_OP_WRITE_BARRIER, 8, 0, counts[i] < 12 ? 12 : counts[i]);
		expect(g, &r, BLKIF_RSP_ERROR);
	}
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		r = guest_rw(g, rows[i].op, 8, 0, rows[i].nr);
		r.seg[rows[i].nr - 1].first = rows[i].first;
		r.seg[rows[i].nr - 1].last = rows[i].last;
		expect(g, &r, BLKIF_RSP_ERROR);
	}
}

static void segments_0_12_255_and_absurd_sectors_are_errors(void **state)
{
	(void)state;
	with_guests(NULL, bad_segments);
}

static void bad_ranges(struct guest *g)
{
	static const uint64_t sectors[] = {
		DISK_SECTORS, DISK_SECTORS - 7, DISK_SECTORS + 1, 1ull << 32, 1ull << 55, (1ull << 55) - 8, 1ull << 63, UINT64_MAX, UINT64_MAX - 7,
		UINT64_MAX - 8,
	};
	static const struct { uint64_t sector, n; } discards[] = {
		{ 0, DISK_SECTORS + 1 }, { DISK_SECTORS, 1 }, { 1, DISK_SECTORS }, { UINT64_MAX, 2 }, { UINT64_MAX - 1, UINT64_MAX },
		{ 8, UINT64_MAX }, { 8, UINT64_MAX - 7 }, { 1ull << 63, 1ull << 63 },
	};

	for (unsigned i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
		static const uint8_t ops[] = { BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER };

		for (unsigned k = 0; k < sizeof(ops); k++) {
			struct pv_blk_req r = guest_rw(g, ops[k], sectors[i], 0, 1);

			expect(g, &r, BLKIF_RSP_ERROR);
		}
	}
	for (unsigned i = 0; i < sizeof(discards) / sizeof(discards[0]); i++) {
		struct pv_blk_req r = { .op = BLKIF_OP_DISCARD, .op_slot = BLKIF_OP_DISCARD, .sector = discards[i].sector,
					.nr_sectors = discards[i].n };

		if (g->offer.features & PV_VBD_DISCARD)
			expect(g, &r, BLKIF_RSP_ERROR);
	}
	{
		struct pv_blk_req last = guest_rw(g, BLKIF_OP_READ, DISK_SECTORS - 8, 0, 1); /* the last page of the disk is there */

		expect(g, &last, BLKIF_RSP_OKAY);
	}
}

static void ranges_beyond_the_end_or_that_wrap_are_errors(void **state)
{
	(void)state;
	with_guests(NULL, bad_ranges);
}

static void writes_to_read_only(struct guest *g)
{
	struct pv_blk_req r = guest_rw(g, BLKIF_OP_WRITE, 8, 0, 1), rd = guest_rw(g, BLKIF_OP_READ, 8, 0, 1);
	uint8_t was[PV_PAGE_SIZE];

	assert_int_equal(guest_do(g, 0, &rd), BLKIF_RSP_OKAY);
	memcpy(was, g->data, sizeof(was));
	memset(g->data, 0xaa, PV_PAGE_SIZE);
	expect(g, &r, BLKIF_RSP_ERROR);
	r.op = r.op_slot = BLKIF_OP_WRITE_BARRIER;
	assert_int_not_equal(guest_do(g, 0, &r), BLKIF_RSP_OKAY);
	r.op = r.op_slot = BLKIF_OP_FLUSH_DISKCACHE;
	expect(g, &r, BLKIF_RSP_ERROR);
	r = (struct pv_blk_req){ .op = BLKIF_OP_DISCARD, .op_slot = BLKIF_OP_DISCARD, .sector = 8, .nr_sectors = 8 };
	assert_int_not_equal(guest_do(g, 0, &r), BLKIF_RSP_OKAY);
	r = (struct pv_blk_req){ .op = BLKIF_OP_WRITE, .op_slot = BLKIF_OP_INDIRECT, .indirect = true, .sector = 8, .nr_segs = 1,
				 .indirect_gref = { g->gref[30] } };
	expect(g, &r, BLKIF_RSP_ERROR);
	image_equals(g, 8, was, sizeof(was));
}

static void bad_alignment(struct guest *g)
{
	static const uint8_t ops[] = { BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER };
	struct pv_blk_req r = { .op = BLKIF_OP_DISCARD, .op_slot = BLKIF_OP_DISCARD, .sector = 8, .nr_sectors = 12 };

	expect(g, &r, BLKIF_RSP_ERROR);
	r.sector = 12, r.nr_sectors = 8;
	expect(g, &r, BLKIF_RSP_ERROR);
	for (unsigned i = 0; i < sizeof(ops); i++) {
		r = guest_rw(g, ops[i], 8, 0, 2);
		expect(g, &r, BLKIF_RSP_OKAY);
		r.sector = 12; /* numbers are in 512 bytes, but whole sectors */
		expect(g, &r, BLKIF_RSP_ERROR);
		r.sector = 8;
		r.seg[0].first = 4; /* two halves are a whole, but neither is */
		r.seg[1].last = 3;
		expect(g, &r, BLKIF_RSP_ERROR);
	}
}

static void parts_of_a_4096_byte_sector_are_errors(void **state)
{
	(void)state;
	with_guests("{\"sector\":\"4096\"}", bad_alignment);
}

static void write_to_a_read_only_disk_is_an_error(void **state)
{
	(void)state;
	for (unsigned a = 0; a < 3; a++) {
		struct guest g;

		guest_open(&g);
		guest_up_with(&g, "{\"mode\":\"r\"}", 1, 0, abis[a], 0);
		assert_true(g.offer.info & VDISK_READONLY);
		writes_to_read_only(&g);
		guest_down(&g);
		guest_close(&g);
		rig_check();
	}
}

/* ---- indirect ---- */

/* An indirect request of n segments; the array goes into data pages from `at`, the pages of data begin at 0. */
static struct pv_blk_req indirect(struct guest *g, uint8_t op, uint64_t sector, unsigned n, unsigned at)
{
	return slot_indirect(g->gref, op, sector, n, g->data + at * PV_PAGE_SIZE, g->gref[at]);
}

static void good_and_bad_indirect(struct guest *g)
{
	static const uint16_t counts[] = { 0, 257, 512, 513, 4096, 4097, 65535 };
	static const uint8_t inner[] = { BLKIF_OP_WRITE_BARRIER, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_DISCARD, BLKIF_OP_INDIRECT, 7, 255 };
	struct blkif_request_segment *seg = (void *)(g->data + 300 * PV_PAGE_SIZE);
	struct pv_blk_req r = indirect(g, BLKIF_OP_READ, 64, 256, 300);

	assert_int_equal(guest_do(g, 0, &r), BLKIF_RSP_OKAY);
	image_equals(g, 64, g->data, 256 * PV_PAGE_SIZE);
	memset(g->data, 0x5a, 100 * PV_PAGE_SIZE);
	r = indirect(g, BLKIF_OP_WRITE, 128, 100, 300);
	assert_int_equal(guest_do(g, 0, &r), BLKIF_RSP_OKAY);
	image_equals(g, 128, g->data, 100 * PV_PAGE_SIZE);

	for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		r = indirect(g, BLKIF_OP_READ, 64, counts[i], 300);
		expect(g, &r, BLKIF_RSP_ERROR);
	}
	for (unsigned i = 0; i < sizeof(inner); i++) {
		r = indirect(g, BLKIF_OP_READ, 64, 4, 300);
		r.op = inner[i];
		expect(g, &r, BLKIF_RSP_ERROR);
	}
	r = indirect(g, BLKIF_OP_READ, 64, 4, 300); /* no such page of segments */
	r.indirect_gref[0] = 0xfffffff0;
	expect(g, &r, BLKIF_RSP_ERROR);
	r = indirect(g, BLKIF_OP_READ, 64, 20, 300);
	seg[19].gref = 0x00ffff00;
	expect(g, &r, BLKIF_RSP_ERROR);
	r = indirect(g, BLKIF_OP_READ, 64, 20, 300);
	seg[7].last_sect = 8;
	expect(g, &r, BLKIF_RSP_ERROR);
	r = indirect(g, BLKIF_OP_READ, 64, 20, 300);
	seg[0].first_sect = 3;
	seg[0].last_sect = 2;
	expect(g, &r, BLKIF_RSP_ERROR);
	r = indirect(g, BLKIF_OP_READ, DISK_SECTORS - 8 * 19, 20, 300); /* the last page is one too many */
	expect(g, &r, BLKIF_RSP_ERROR);
	r = indirect(g, BLKIF_OP_READ, UINT64_MAX - 7, 1, 300);
	expect(g, &r, BLKIF_RSP_ERROR);
}

static void indirect_counts_operations_and_segments_are_checked(void **state)
{
	(void)state;
	with_guests(NULL, good_and_bad_indirect);
}

static void no_indirect(struct guest *g)
{
	struct pv_blk_req r = indirect(g, BLKIF_OP_READ, 64, 4, 300);

	assert_int_equal(g->offer.indirect_max, 0);
	expect(g, &r, BLKIF_RSP_EOPNOTSUPP);
}

static void indirect_that_was_not_offered_is_not_supported(void **state)
{
	(void)state;
	with_guests("{\"indirect\":\"0\"}", no_indirect);
}

/* A thread of the guest that rewrites segments while the backend reads them. */
enum { FLIPS = 8, FLIP_SEGS = 256, FLIP_NONE = 0xa7 /* where nothing was read to */ };

struct flipper {
	volatile uint64_t *seg;
	uint64_t word[FLIPS]; /* what it is, one after the other */
	volatile bool stop;
};

static void *flip(void *arg)
{
	struct flipper *f = arg;

	while (!f->stop) {
		for (unsigned i = 0; i < FLIPS; i++) {
			*f->seg = f->word[i];
			for (volatile int spin = 0; spin < 20; spin++)
				;
		}
	}
	return NULL;
}

/* What the guest's pages hold after a request whose segment `at` was as f->word[way] has it, or that failed: READ_NOTHING. */
enum { READ_TO, READ_ELSEWHERE, READ_NOTHING, READ_WAYS };

static void flipped_pages(uint8_t *want, const uint8_t *disk, unsigned at, unsigned way)
{
	enum { HALF = PV_PAGE_SIZE / 2 };
	uint8_t *page = want + at * PV_PAGE_SIZE, *other = want + FLIP_SEGS * PV_PAGE_SIZE;

	memset(want, FLIP_NONE, (FLIP_SEGS + 1) * PV_PAGE_SIZE);
	if (way == READ_NOTHING)
		return;
	memcpy(want, disk, FLIP_SEGS * PV_PAGE_SIZE);
	if (way == READ_TO)
		return;
	memset(page, FLIP_NONE, PV_PAGE_SIZE); /* half a page goes elsewhere, and what follows moves up */
	memcpy(other + HALF, disk + at * PV_PAGE_SIZE, HALF);
	memcpy(page + PV_PAGE_SIZE, disk + at * PV_PAGE_SIZE + HALF, (FLIP_SEGS - at - 1) * PV_PAGE_SIZE);
}

/* The segment is a whole page, half of another page, or something that no request may have. The answer, and every byte of the guest's, is that of one of
 * these: no page and no sectors of two of them, and nothing at all was done if it is an error. */
static void flipped(struct guest *g)
{
	enum { AT = 100, LEN = (FLIP_SEGS + 1) * PV_PAGE_SIZE };
	struct pv_blk_req r = indirect(g, BLKIF_OP_READ, 64, FLIP_SEGS, 300);
	struct flipper f = { .seg = (volatile uint64_t *)(g->data + 300 * PV_PAGE_SIZE) + AT };
	unsigned seen[READ_WAYS] = { 0 }, way;
	uint8_t *want[READ_WAYS], *disk = image_read(g, 64, LEN);
	int64_t end = rig_ms() + PATIENCE;
	pthread_t t;

	for (way = 0; way < READ_WAYS; way++) {
		want[way] = malloc(LEN);
		flipped_pages(want[way], disk, AT, way);
	}
	f.word[0] = f.word[2] = *f.seg;
	f.word[1] = g->gref[FLIP_SEGS] | 4ull << 32 | 7ull << 40;
	f.word[3] = f.word[0] | 0xffull << 40; /* last 255 */
	f.word[4] = f.word[1];
	f.word[5] = f.word[0] | 0xffull << 32; /* first 255 */
	f.word[6] = f.word[0] ^ 0x00f00000; /* a reference that is none */
	f.word[7] = UINT64_MAX;
	assert_int_equal(pthread_create(&t, NULL, flip, &f), 0);
	for (unsigned i = 0; i < 400 || (rig_ms() < end && !(seen[0] && seen[1] && seen[2])); i++) {
		int status;

		memset(g->data, FLIP_NONE, LEN);
		status = guest_do(g, 0, &r);
		assert_true(status == BLKIF_RSP_OKAY || status == BLKIF_RSP_ERROR);
		way = status == BLKIF_RSP_ERROR ? READ_NOTHING : memcmp(g->data, want[READ_TO], LEN) ? READ_ELSEWHERE : READ_TO;
		assert_memory_equal(g->data, want[way], LEN);
		seen[way]++;
	}
	f.stop = true;
	pthread_join(t, NULL);
	for (way = 0; way < READ_WAYS; way++) {
		assert_true(seen[way] > 0);
		free(want[way]);
	}
	free(disk);
}

static void xsa155_segments_rewritten_while_read_are_all_or_nothing(void **state)
{
	(void)state;
	with_guests(NULL, flipped);
}

/* The same with whole slots: the ring page is the guest's too. */
static void *flip_slots(void *arg)
{
	struct flipper *f = arg;
	volatile uint8_t *slot = (volatile uint8_t *)f->seg;

	while (!f->stop)
		for (unsigned op = 0; op < 16 && !f->stop; op++) {
			slot[0] = op; /* operation */
			slot[1] = op * 37; /* number of segments */
			slot[0] = BLKIF_OP_READ;
			slot[1] = 1;
		}
	return NULL;
}

static void xsa155_slots_rewritten_while_taken_break_nothing_else(void **state)
{
	struct guest g;
	unsigned broken = rig.broken;
	struct flipper f;
	pthread_t t;

	(void)state;
	guest_open(&g);
	guest_up(&g, NULL);
	f = (struct flipper){ .seg = pv_ring_slot(&g.q[0].ring, 5) };
	assert_int_equal(pthread_create(&t, NULL, flip_slots, &f), 0);
	for (int i = 0; i < 2000; i++) {
		struct pv_blk_req r = guest_rw(&g, BLKIF_OP_READ, 8, 0, 1);
		bool flips = pv_ring_slot(&g.q[0].ring, g.q[0].ring.prod) == (void *)f.seg;
		struct blkif_response rsp;

		r.id = i;
		memset(g.data, 0, PV_PAGE_SIZE);
		guest_put(&g, 0, &r);
		guest_notify(&g, 0);
		while (pv_ring_ready(&g.q[0].ring) == 0)
			pv_evt_notify(g.h, g.q[0].port);
		pv_blk_take_rsp(&g.q[0].ring, &rsp);
		if (flips) { /* which request it was depends on who won, and its answer is rewritten as well; it is one of that slot */
			assert_true(rsp.status == BLKIF_RSP_OKAY || rsp.status == BLKIF_RSP_ERROR || rsp.status == BLKIF_RSP_EOPNOTSUPP);
			continue;
		}
		assert_int_equal(rsp.id, i);
		assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
		image_equals(&g, 8, g.data, PV_PAGE_SIZE);
	}
	assert_int_equal(rig.broken, broken);
	f.stop = true;
	pthread_join(t, NULL);
	guest_io(&g);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

/* ---- references ---- */

static void bad_references(struct guest *g)
{
	static const uint32_t grefs[] = { 0, 2, 7, 0x00ffffff, 0x7fffffff, 0xffffffff };
	struct pv_blk_req r;

	for (unsigned i = 0; i < sizeof(grefs) / sizeof(grefs[0]); i++) {
		r = guest_rw(g, BLKIF_OP_READ, 64, 0, 11);
		r.seg[i].gref = grefs[i];
		expect(g, &r, BLKIF_RSP_ERROR);
		r = guest_rw(g, BLKIF_OP_WRITE, 64, 0, 1);
		r.seg[0].gref = grefs[i];
		expect(g, &r, BLKIF_RSP_ERROR);
		r = guest_rw(g, BLKIF_OP_FLUSH_DISKCACHE, 64, 0, 1);
		r.seg[0].gref = grefs[i];
		expect(g, &r, BLKIF_RSP_ERROR);
	}
	assert_true(guest_stat(g, "bad_grefs") >= 18);
}

static void bad_references_fail_their_request_alone(void **state)
{
	(void)state;
	with_guests(NULL, bad_references);
}

static void same_page_everywhere(struct guest *g)
{
	struct pv_blk_req r = guest_rw(g, BLKIF_OP_WRITE, 160, 0, 11);

	memset(g->data, 0x77, PV_PAGE_SIZE);
	for (unsigned i = 0; i < 11; i++)
		r.seg[i].gref = g->gref[0];
	assert_int_equal(guest_do(g, 0, &r), BLKIF_RSP_OKAY);
	for (unsigned i = 0; i < 11; i++)
		image_equals(g, 160 + 8 * i, g->data, PV_PAGE_SIZE);
	r.op = r.op_slot = BLKIF_OP_READ;
	assert_int_equal(guest_do(g, 0, &r), BLKIF_RSP_OKAY);
}

static void one_page_in_every_segment_is_legal(void **state)
{
	(void)state;
	with_guests(NULL, same_page_everywhere);
}

static void duplicates(struct guest *g)
{
	for (unsigned i = 0; i < g->q[0].ring.nr; i++) {
		struct pv_blk_req r = guest_rw(g, BLKIF_OP_READ, 8 * i, 0, 1); /* one id, one page */

		r.id = 99;
		guest_put(g, 0, &r);
	}
	guest_notify(g, 0);
	for (unsigned i = 0; i < g->q[0].ring.nr; i++) {
		struct blkif_response rsp = guest_wait(g, 0);

		assert_int_equal(rsp.id, 99);
		assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
	}
}

static void duplicate_ids_are_each_answered(void **state)
{
	(void)state;
	with_guests(NULL, duplicates);
}

/* ---- merging ---- */

static void neighbours(struct guest *g)
{
	unsigned nr = g->q[0].ring.nr, seen = 0;
	struct pv_blk_req r;

	for (unsigned i = 0; i < nr; i++) {
		r = guest_rw(g, BLKIF_OP_WRITE, 1000 + i, nr - i, 1); /* one sector each, of pages that run backwards */
		r.id = i;
		r.seg[0].first = r.seg[0].last = i % 8;
		memset(g->data + (nr - i) * PV_PAGE_SIZE + i % 8 * 512, 'A' + i, 512);
		guest_put(g, 0, &r);
	}
	guest_notify(g, 0);
	for (unsigned i = 0; i < nr; i++) {
		struct blkif_response rsp = guest_wait(g, 0);

		assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
		seen += rsp.id;
	}
	assert_int_equal(seen, nr * (nr - 1) / 2);
	for (unsigned i = 0; i < nr; i++)
		image_equals(g, 1000 + i, g->data + (nr - i) * PV_PAGE_SIZE + i % 8 * 512, 512);
	assert_true(guest_stat(g, "merged") > 0);
}

static void adjacent_requests_are_merged_and_right(void **state)
{
	(void)state;
	with_guests(NULL, neighbours);
}

static void merged_io_that_fails_fails_only_the_guilty(void **state)
{
	unsigned oks = 0, errors = 0;
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_up(&g, NULL);
	assert_int_equal(truncate(g.image, 16 * PV_PAGE_SIZE), 0); /* under the backend */
	for (unsigned i = 0; i < 32; i++) {
		struct pv_blk_req r = guest_rw(&g, BLKIF_OP_READ, 8 * i, i, 1);

		r.id = i;
		guest_put(&g, 0, &r);
	}
	guest_notify(&g, 0);
	for (unsigned i = 0; i < 32; i++) {
		struct blkif_response rsp = guest_wait(&g, 0);

		assert_int_equal(rsp.status, rsp.id < 16 ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR);
		oks += rsp.status == BLKIF_RSP_OKAY;
		errors += rsp.status == BLKIF_RSP_ERROR;
	}
	assert_int_equal(oks, 16);
	assert_int_equal(errors, 16);
	for (unsigned i = 0; i < 16; i++)
		image_equals(&g, 8 * i, g.data + i * PV_PAGE_SIZE, PV_PAGE_SIZE);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

/* ---- order ---- */

static void barrier_between(struct guest *g)
{
	for (unsigned round = 0; round < 50; round++) {
		unsigned nr = g->q[0].ring.nr;

		for (unsigned i = 0; i < nr; i++) { /* every write goes to the same place, a barrier after each pair */
			struct pv_blk_req r = guest_rw(g, i % 3 == 2 ? BLKIF_OP_WRITE_BARRIER : BLKIF_OP_WRITE, 2000 + i % 3 / 2 * 8, i, 1);

			r.id = i;
			memset(g->data + i * PV_PAGE_SIZE, round * nr + i, PV_PAGE_SIZE);
			guest_put(g, 0, &r);
		}
		guest_notify(g, 0);
		for (unsigned i = 0, done = 0; i < nr; i++) {
			struct blkif_response rsp = guest_wait(g, 0);

			assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
			if (rsp.id % 3 == 2) /* all before it were answered before */
				assert_true(done >= rsp.id);
			else
				assert_true(rsp.id < 3 || done >= rsp.id / 3 * 3);
			done++;
		}
		image_equals(g, 2008, g->data + (nr - 1 - (nr - 1 - 2) % 3) * PV_PAGE_SIZE, PV_PAGE_SIZE); /* the last barrier's */
	}
	assert_true(guest_stat(g, "barriers") > 0);
}

static void barriers_order_what_is_around_them(void **state)
{
	(void)state;
	with_guests(NULL, barrier_between);
}

static void flushes(struct guest *g)
{
	struct pv_blk_req empty = { .id = 5, .op = BLKIF_OP_FLUSH_DISKCACHE, .op_slot = BLKIF_OP_FLUSH_DISKCACHE };
	struct pv_blk_req data = guest_rw(g, BLKIF_OP_FLUSH_DISKCACHE, 320, 3, 2);
	struct pv_blk_req barrier = { .id = 6, .op = BLKIF_OP_WRITE_BARRIER, .op_slot = BLKIF_OP_WRITE_BARRIER, .sector = UINT64_MAX };

	memset(g->data + 3 * PV_PAGE_SIZE, 0x3c, 2 * PV_PAGE_SIZE);
	assert_int_equal(guest_do(g, 0, &empty), BLKIF_RSP_OKAY);
	empty.sector = UINT64_MAX; /* as Linux leaves it */
	assert_int_equal(guest_do(g, 0, &empty), BLKIF_RSP_OKAY);
	assert_int_equal(guest_do(g, 0, &data), BLKIF_RSP_OKAY);
	image_equals(g, 320, g->data + 3 * PV_PAGE_SIZE, 2 * PV_PAGE_SIZE);
	assert_int_equal(guest_do(g, 0, &barrier), BLKIF_RSP_OKAY);
	assert_int_equal(guest_stat(g, "flushes"), 3);
	assert_int_equal(guest_stat(g, "barriers"), 1);
}

static void flush_and_barrier_with_and_without_data_succeed(void **state)
{
	(void)state;
	with_guests(NULL, flushes);
}

static void discards(struct guest *g)
{
	struct pv_blk_req r = { .id = 7, .op = BLKIF_OP_DISCARD, .op_slot = BLKIF_OP_DISCARD, .sector = 800, .nr_sectors = 80 };
	struct pv_blk_req rd = guest_rw(g, BLKIF_OP_READ, 800 - 8, 0, 11);
	static const uint8_t zero[9 * PV_PAGE_SIZE];

	if (!(g->offer.features & PV_VBD_DISCARD)) {
		expect(g, &r, BLKIF_RSP_EOPNOTSUPP);
		return;
	}
	r.nr_sectors = 72;
	assert_int_equal(guest_do(g, 0, &r), BLKIF_RSP_OKAY);
	assert_int_equal(guest_do(g, 0, &rd), BLKIF_RSP_OKAY);
	assert_memory_equal(g->data + PV_PAGE_SIZE, zero, sizeof(zero));
	image_equals(g, 800 - 8, g->data, 11 * PV_PAGE_SIZE);
	r.discard_flag = BLKIF_DISCARD_SECURE; /* ignored, as it was not offered */
	assert_int_equal(guest_do(g, 0, &r), BLKIF_RSP_OKAY);
}

static void discard_makes_a_hole_of_that_range(void **state)
{
	(void)state;
	with_guests(NULL, discards);
}

static void not_discarded(struct guest *g)
{
	struct pv_blk_req r = { .id = 7, .op = BLKIF_OP_DISCARD, .op_slot = BLKIF_OP_DISCARD, .sector = 800, .nr_sectors = 80 };

	assert_false(g->offer.features & PV_VBD_DISCARD);
	expect(g, &r, BLKIF_RSP_EOPNOTSUPP);
}

static void discard_that_was_not_offered_is_not_supported(void **state)
{
	(void)state;
	with_guests("{\"discard\":\"0\"}", not_discarded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_operations_are_not_supported_and_the_ring_goes_on),
		cmocka_unit_test(segments_0_12_255_and_absurd_sectors_are_errors),
		cmocka_unit_test(ranges_beyond_the_end_or_that_wrap_are_errors),
		cmocka_unit_test(parts_of_a_4096_byte_sector_are_errors),
		cmocka_unit_test(write_to_a_read_only_disk_is_an_error),
		cmocka_unit_test(indirect_counts_operations_and_segments_are_checked),
		cmocka_unit_test(indirect_that_was_not_offered_is_not_supported),
		cmocka_unit_test(xsa155_segments_rewritten_while_read_are_all_or_nothing),
		cmocka_unit_test(xsa155_slots_rewritten_while_taken_break_nothing_else),
		cmocka_unit_test(bad_references_fail_their_request_alone),
		cmocka_unit_test(one_page_in_every_segment_is_legal),
		cmocka_unit_test(duplicate_ids_are_each_answered),
		cmocka_unit_test(adjacent_requests_are_merged_and_right),
		cmocka_unit_test(merged_io_that_fails_fails_only_the_guilty),
		cmocka_unit_test(barriers_order_what_is_around_them),
		cmocka_unit_test(flush_and_barrier_with_and_without_data_succeed),
		cmocka_unit_test(discard_makes_a_hole_of_that_range),
		cmocka_unit_test(discard_that_was_not_offered_is_not_supported),
	};

	return cmocka_run_group_tests(tests, rig_up, rig_down);
}
