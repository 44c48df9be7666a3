/* test_blk.c - block slots in their three ABIs, byte by byte, and the checks of requests, each on both sides of its bound. */
#include <pvio/blk.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { ERROR = BLKIF_RSP_ERROR, NOTSUPP = BLKIF_RSP_EOPNOTSUPP, ALL = PV_VBD_FLUSH | PV_VBD_BARRIER | PV_VBD_DISCARD };

static const enum pv_vbd_abi abis[] = { PV_VBD_ABI_NATIVE, PV_VBD_ABI_X86_64, PV_VBD_ABI_X86_32 };

#define EACH_ABI(abi) for (unsigned abi##_i = 0, abi; abi##_i < 3 && (abi = abis[abi##_i], true); abi##_i++)

/* ---- slots as bytes, by the offsets of the ABI: id, sector, what follows ---- */

static uint8_t raw_bytes[PV_BLK_SLOT_MAX];

static void put(unsigned offset, uint64_t value, unsigned size)
{
	memcpy(raw_bytes + offset, &value, size);
}

static unsigned id_at(enum pv_vbd_abi abi)
{
	return abi == PV_VBD_ABI_X86_32 ? 4 : 8;
}

static void begin(enum pv_vbd_abi abi, uint8_t op, uint8_t second)
{
	memset(raw_bytes, 0xa5, sizeof(raw_bytes));
	raw_bytes[0] = op;
	raw_bytes[1] = second;
	put(id_at(abi), 0x1122334455667788, 8);
	put(id_at(abi) + 8, 0x99aabbccddeeff00, 8);
}

/* Decode from an allocation of exactly the slot, so that a sanitizer sees a read beyond. */
static struct pv_blk_req decode(enum pv_vbd_abi abi)
{
	union pv_blk_raw *raw = malloc(sizeof(*raw));
	struct pv_blk_req req;

	assert_non_null(raw);
	memcpy(raw, raw_bytes, sizeof(*raw));
	memset(&req, 0xa5, sizeof(req));
	pv_blk_decode(raw, abi, &req);
	free(raw);
	assert_true(req.id == 0x1122334455667788);
	assert_true(req.sector == 0x99aabbccddeeff00);
	assert_int_equal(req.op_slot, raw_bytes[0]);
	return req;
}

static void slot_size_of_each_abi(void **state)
{
	(void)state;
	assert_int_equal(pv_blk_slot_size(PV_VBD_ABI_NATIVE), 112);
	assert_int_equal(pv_blk_slot_size(PV_VBD_ABI_X86_64), 112);
	assert_int_equal(pv_blk_slot_size(PV_VBD_ABI_X86_32), 108);
}

static void decode_direct(void **state)
{
	(void)state;
	EACH_ABI(abi)
		for (unsigned op = 0; op < 256; op++) {
			struct pv_blk_req req;

			if (op == BLKIF_OP_DISCARD || op == BLKIF_OP_INDIRECT)
				continue;
			begin(abi, (uint8_t)op, 11);
			for (unsigned i = 0; i < 11; i++) {
				put(id_at(abi) + 16 + 8 * i, 0x01020300 + i, 4);
				raw_bytes[id_at(abi) + 16 + 8 * i + 4] = (uint8_t)i;
				raw_bytes[id_at(abi) + 16 + 8 * i + 5] = (uint8_t)(i + 100);
			}
			req = decode(abi);
			assert_int_equal(req.op, op);
			assert_false(req.indirect);
			assert_int_equal(req.nr_segs, 11);
			for (unsigned i = 0; i < 11; i++) {
				assert_int_equal(req.seg[i].gref, 0x01020300 + i);
				assert_int_equal(req.seg[i].first, i);
				assert_int_equal(req.seg[i].last, i + 100);
			}
		}
}

static void decode_absurd_counts(void **state)
{
	(void)state;
	EACH_ABI(abi)
		for (unsigned n = 0; n < 256; n++) {
			struct pv_blk_req req;

			begin(abi, BLKIF_OP_WRITE, (uint8_t)n);
			req = decode(abi);
			assert_int_equal(req.nr_segs, n); /* as written: pv_blk_check judges it */
			for (unsigned i = 0; i < 11; i++)
				assert_int_equal(req.seg[i].gref, i < n ? 0xa5a5a5a5 : 0);
		}
}

static void decode_discard(void **state)
{
	(void)state;
	EACH_ABI(abi) {
		struct pv_blk_req req;

		begin(abi, BLKIF_OP_DISCARD, BLKIF_DISCARD_SECURE);
		put(id_at(abi) + 16, 0xfedcba9876543210, 8); /* two of its bytes are padding in a request with segments */
		req = decode(abi);
		assert_int_equal(req.op, BLKIF_OP_DISCARD);
		assert_int_equal(req.discard_flag, BLKIF_DISCARD_SECURE);
		assert_true(req.nr_sectors == 0xfedcba9876543210);
		assert_int_equal(req.nr_segs, 0);
		assert_false(req.indirect);
	}
}

static void decode_indirect(void **state)
{
	(void)state;
	EACH_ABI(abi)
		for (unsigned inner = 0; inner < 256; inner++) {
			struct pv_blk_req req;

			begin(abi, BLKIF_OP_INDIRECT, (uint8_t)inner);
			put(2, 0xabcd, 2);
			for (unsigned i = 0; i < 8; i++)
				put(id_at(abi) + 20 + 4 * i, 0x05060700 + i, 4);
			req = decode(abi);
			assert_int_equal(req.op, inner);
			assert_true(req.indirect);
			assert_int_equal(req.nr_segs, 0xabcd);
			for (unsigned i = 0; i < 8; i++)
				assert_int_equal(req.indirect_gref[i], 0x05060700 + i);
		}
}

/* ---- through a ring ---- */

static uint8_t page[PV_PAGE_SIZE] __attribute__((aligned(PV_PAGE_SIZE)));
static struct pv_ring front, back;

static void rings(uint32_t slot_size, uint8_t garbage)
{
	memset(page, garbage, sizeof(page));
	pv_ring_init_front(&front, page, sizeof(page), slot_size);
	pv_ring_init_back(&back, page, sizeof(page), slot_size);
}

/* Bytes of a slot that its first two say are used. */
static unsigned used(enum pv_vbd_abi abi, uint8_t op, uint8_t second)
{
	if (abi == PV_VBD_ABI_X86_32)
		return 108;
	return op == BLKIF_OP_DISCARD ? 32 : op == BLKIF_OP_INDIRECT ? 64 : 24 + 8 * (second < 11 ? second : 11);
}

static void take_copies_what_is_used(void **state)
{
	(void)state;
	EACH_ABI(abi)
		for (unsigned slots = 0; slots < 40; slots++) { /* around the ring */
			union pv_blk_raw raw;
			unsigned len;
			uint8_t *slot;

			if (!slots)
				rings(pv_blk_slot_size(abi), 0x5a);
			slot = pv_ring_fill(&front);
			for (unsigned i = 0; i < front.slot_size; i++)
				slot[i] = (uint8_t)(i * 7 + slots);
			slot[1] = (uint8_t)(slots * 3 % 14);
			len = used(abi, slot[0], slot[1]);
			pv_ring_publish(&front);
			assert_int_equal(pv_ring_ready(&back), 1);
			memset(&raw, 0xee, sizeof(raw));
			pv_blk_take(&back, &raw);
			for (unsigned i = 0; i < sizeof(raw); i++)
				assert_int_equal(((uint8_t *)&raw)[i], i < len ? slot[i] : 0xee);
			pv_blk_fill_rsp(&back, abi, 1, 0, 0);
			pv_ring_publish(&back);
			assert_int_equal(pv_ring_ready(&front), 1);
			pv_ring_take(&front);
		}
}

/* Encode over garbage twice: no byte that is used keeps it, no byte beyond is touched; and it decodes to what went in. */
static void round_trip(const struct pv_blk_req *req)
{
	union pv_blk_raw raw[2];
	struct pv_blk_req out;

	for (unsigned turn = 0; turn < 2; turn++) {
		uint8_t garbage = turn ? 0x5a : 0xa5;

		rings(PV_BLK_SLOT_MAX, garbage);
		pv_blk_fill_req(&front, req);
		pv_ring_publish(&front);
		for (unsigned i = 64 + used(PV_VBD_ABI_NATIVE, page[64], page[65]); i < sizeof(page); i++)
			assert_int_equal(page[i], garbage);
		memset(&raw[turn], 0, sizeof(raw[turn]));
		pv_blk_take(&back, &raw[turn]);
	}
	assert_memory_equal(&raw[0], &raw[1], sizeof(raw[0]));
	pv_blk_decode(&raw[0], PV_VBD_ABI_NATIVE, &out);
	assert_true(out.id == req->id && out.sector == req->sector && out.nr_sectors == req->nr_sectors);
	assert_true(out.op == req->op && out.op_slot == req->op_slot && out.indirect == req->indirect);
	assert_true(out.discard_flag == req->discard_flag && out.nr_segs == req->nr_segs);
	if (req->indirect)
		assert_memory_equal(out.indirect_gref, req->indirect_gref, sizeof(req->indirect_gref));
	else
		for (unsigned i = 0; i < req->nr_segs; i++)
			assert_true(out.seg[i].gref == req->seg[i].gref && out.seg[i].first == req->seg[i].first &&
				    out.seg[i].last == req->seg[i].last);
}

static void fill_req_writes_what_is_used_and_decodes(void **state)
{
	struct pv_blk_req req = { .id = 0x8877665544332211, .sector = 0x0102030405060708 };

	(void)state;
	for (unsigned n = 0; n <= 11; n++) {
		req.op = req.op_slot = n & 1 ? BLKIF_OP_WRITE : BLKIF_OP_FLUSH_DISKCACHE;
		req.nr_segs = (uint16_t)n;
		for (unsigned i = 0; i < n; i++)
			req.seg[i] = (struct pv_blk_seg){ .gref = 0xf0e0d0c0 + i, .first = (uint8_t)(i % 8), .last = (uint8_t)(0xf0 + i) };
		round_trip(&req);
	}
	req = (struct pv_blk_req){ .id = 1, .sector = 2, .op = BLKIF_OP_DISCARD, .op_slot = BLKIF_OP_DISCARD, .discard_flag = 1,
				   .nr_sectors = 0xfedcba9876543210 };
	round_trip(&req);
	req = (struct pv_blk_req){ .id = 3, .sector = 4, .op = BLKIF_OP_READ, .op_slot = BLKIF_OP_INDIRECT, .indirect = true,
				   .nr_segs = 4096 };
	for (unsigned i = 0; i < 8; i++)
		req.indirect_gref[i] = 0xc0b0a000 + i;
	round_trip(&req);
}

static void fill_rsp_writes_every_byte(void **state)
{
	static const uint8_t want_64[16] = { 8, 7, 6, 5, 4, 3, 2, 1, 0xfe, 0, 0xfe, 0xff };
	static const uint8_t want_32[12] = { 8, 7, 6, 5, 4, 3, 2, 1, 0xfe, 0, 0xfe, 0xff };

	(void)state;
	EACH_ABI(abi)
		for (unsigned turn = 0; turn < 2; turn++) {
			unsigned len = abi == PV_VBD_ABI_X86_32 ? 12 : 16;
			uint8_t garbage = turn ? 0x5a : 0xa5;

			rings(pv_blk_slot_size(abi), garbage);
			pv_blk_fill_rsp(&back, abi, 0x0102030405060708, 0xfe, BLKIF_RSP_EOPNOTSUPP);
			assert_memory_equal(page + 64, len == 12 ? want_32 : want_64, len);
			for (unsigned i = 64 + len; i < sizeof(page); i++) /* the rest of the slot is the guest's own request */
				assert_int_equal(page[i], garbage);
		}
}

static void take_rsp_gives_what_was_filled(void **state)
{
	struct blkif_response rsp;

	(void)state;
	rings(PV_BLK_SLOT_MAX, 0);
	pv_blk_fill_rsp(&back, PV_VBD_ABI_NATIVE, 0xfedcba9876543210, BLKIF_OP_WRITE, BLKIF_RSP_ERROR);
	pv_blk_take_rsp(&front, &rsp);
	assert_true(rsp.id == 0xfedcba9876543210 && rsp.operation == BLKIF_OP_WRITE && rsp.status == BLKIF_RSP_ERROR);
}

/* ---- checks ---- */

static const struct pv_blk_disk disk = { .sectors = 1000, .sector_size = 512, .features = ALL, .indirect_max = 256 };

static struct pv_blk_req request(uint8_t op, uint16_t segs)
{
	struct pv_blk_req req = { .op = op, .op_slot = op, .nr_segs = segs };

	for (unsigned i = 0; i < PV_BLK_SEGS_DIRECT; i++)
		req.seg[i].last = 7;
	return req;
}

static int check_op(uint8_t op, uint16_t segs, const struct pv_blk_disk *d)
{
	struct pv_blk_req req = request(op, segs);

	return pv_blk_check(&req, d);
}

static void check_segments_direct(void **state)
{
	static const uint8_t at_least_one[] = { BLKIF_OP_READ, BLKIF_OP_WRITE };
	static const uint8_t may_be_bare[] = { BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER };

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		for (unsigned n = 0; n < 256; n++) {
			assert_int_equal(check_op(at_least_one[i], (uint16_t)n, &disk), n >= 1 && n <= 11 ? 0 : ERROR);
			assert_int_equal(check_op(may_be_bare[i], (uint16_t)n, &disk), n <= 11 ? 0 : ERROR);
		}
}

static void check_unknown_operations(void **state)
{
	(void)state;
	for (unsigned op = 0; op < 256; op++) {
		bool known = op <= BLKIF_OP_FLUSH_DISKCACHE || op == BLKIF_OP_DISCARD;

		assert_int_equal(check_op((uint8_t)op, 1, &disk), known ? 0 : NOTSUPP);
	}
}

static void check_operations_not_offered(void **state)
{
	static const struct { uint8_t op; uint32_t feature; } ops[] = {
		{ BLKIF_OP_READ, 0 }, { BLKIF_OP_WRITE, 0 }, { BLKIF_OP_FLUSH_DISKCACHE, PV_VBD_FLUSH },
		{ BLKIF_OP_WRITE_BARRIER, PV_VBD_BARRIER }, { BLKIF_OP_DISCARD, PV_VBD_DISCARD },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(ops) / sizeof(*ops); i++)
		for (uint32_t features = 0; features <= (ALL | PV_VBD_SECURE_DISCARD); features++) {
			struct pv_blk_disk d = disk;

			d.features = features;
			assert_int_equal(check_op(ops[i].op, 1, &d), (features & ops[i].feature) == ops[i].feature ? 0 : NOTSUPP);
		}
}

static void check_read_only(void **state)
{
	struct pv_blk_disk ro = disk;
	struct pv_blk_req req = request(BLKIF_OP_WRITE, 1);

	(void)state;
	ro.read_only = true;
	assert_int_equal(check_op(BLKIF_OP_READ, 1, &ro), 0);
	assert_int_equal(check_op(BLKIF_OP_WRITE, 1, &ro), ERROR);
	assert_int_equal(check_op(BLKIF_OP_WRITE_BARRIER, 1, &ro), ERROR);
	assert_int_equal(check_op(BLKIF_OP_FLUSH_DISKCACHE, 1, &ro), ERROR); /* with segments it writes */
	assert_int_equal(check_op(BLKIF_OP_FLUSH_DISKCACHE, 0, &ro), 0);
	assert_int_equal(check_op(BLKIF_OP_WRITE_BARRIER, 0, &ro), 0);
	assert_int_equal(check_op(BLKIF_OP_DISCARD, 0, &ro), ERROR);
	req.indirect = true;
	assert_int_equal(pv_blk_check(&req, &ro), ERROR);
	req.op = BLKIF_OP_READ;
	assert_int_equal(pv_blk_check(&req, &ro), 0);
}

/* Linux leaves ~0 in the sector of a flush. */
static void check_bare_flush_has_no_sector(void **state)
{
	struct pv_blk_req req = request(BLKIF_OP_FLUSH_DISKCACHE, 0);

	(void)state;
	req.sector = UINT64_MAX;
	assert_int_equal(pv_blk_check(&req, &disk), 0);
	req.nr_segs = 1;
	assert_int_equal(pv_blk_check(&req, &disk), ERROR);
}

static void check_first_and_last_sector(void **state)
{
	struct pv_blk_disk d = disk;

	(void)state;
	for (d.sector_size = 512; d.sector_size <= 4096; d.sector_size *= 2)
		for (unsigned at = 0; at < 11; at += 5)
			for (unsigned first = 0; first < 256; first++)
				for (unsigned last = 0; last < 256; last++) {
					struct pv_blk_req req = request(BLKIF_OP_READ, 11);
					unsigned unit = d.sector_size / 512;
					bool good = first <= last && last < 8 && first % unit == 0 && (last + 1) % unit == 0;

					req.seg[at].first = (uint8_t)first;
					req.seg[at].last = (uint8_t)last;
					assert_int_equal(pv_blk_check(&req, &d), good ? 0 : ERROR);
				}
}

static void check_range_of_the_disk(void **state)
{
	static const struct { uint64_t sector; bool good; } cases[] = { /* 1000 sectors, a request of 16 */
		{ 0, true }, { 983, true }, { 984, true }, { 985, false }, { 999, false }, { 1000, false }, { 1001, false },
		{ UINT64_MAX, false }, { UINT64_MAX - 15, false }, { UINT64_MAX - 16, false }, { 1ull << 63, false },
		{ 1ull << 55, false }, { 1ull << 32, false },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct pv_blk_req req = request(BLKIF_OP_WRITE, 2);
		struct pv_blk_disk huge = disk;

		req.sector = cases[i].sector;
		assert_int_equal(pv_blk_check(&req, &disk), cases[i].good ? 0 : ERROR);
		huge.sectors = UINT64_MAX;
		assert_int_equal(pv_blk_check(&req, &huge), cases[i].sector <= UINT64_MAX - 16 ? 0 : ERROR);
		huge.sectors = 15;
		assert_int_equal(pv_blk_check(&req, &huge), ERROR);
	}
}

static void check_alignment_to_the_sector_size(void **state)
{
	struct pv_blk_disk d = disk;

	(void)state;
	d.sector_size = 4096;
	for (uint64_t sector = 0; sector < 32; sector++) {
		struct pv_blk_req req = request(BLKIF_OP_READ, 2), inner = req, discard = request(BLKIF_OP_DISCARD, 0);

		req.sector = inner.sector = discard.sector = sector;
		inner.indirect = true;
		assert_int_equal(pv_blk_check(&req, &d), sector % 8 ? ERROR : 0);
		assert_int_equal(pv_blk_check(&inner, &d), sector % 8 ? ERROR : 0);
		discard.nr_sectors = 8;
		assert_int_equal(pv_blk_check(&discard, &d), sector % 8 ? ERROR : 0);
		discard.sector = 8;
		discard.nr_sectors = sector;
		assert_int_equal(pv_blk_check(&discard, &d), sector % 8 ? ERROR : 0);
	}
}

static void check_discard_range(void **state)
{
	static const struct { uint64_t sector, nr; bool good; } cases[] = {
		{ 0, 0, true }, { 0, 1000, true }, { 0, 1001, false }, { 1, 999, true }, { 1, 1000, false }, { 999, 1, true },
		{ 1000, 0, true }, { 1000, 1, false }, { 1001, 0, false }, { 500, UINT64_MAX, false }, { UINT64_MAX, 1, false },
		{ UINT64_MAX, 501, false }, { 500, UINT64_MAX - 499, false }, { 1ull << 63, 1ull << 63, false },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct pv_blk_req req = request(BLKIF_OP_DISCARD, 0);

		req.sector = cases[i].sector;
		req.nr_sectors = cases[i].nr;
		assert_int_equal(pv_blk_check(&req, &disk), cases[i].good ? 0 : ERROR);
		req.discard_flag = BLKIF_DISCARD_SECURE; /* "ignored if discard-secure=0" */
		assert_int_equal(pv_blk_check(&req, &disk), cases[i].good ? 0 : ERROR);
	}
}

static void check_indirect_inner_operation(void **state)
{
	(void)state;
	for (unsigned op = 0; op < 256; op++) {
		struct pv_blk_req req = request((uint8_t)op, 1);
		struct pv_blk_disk none = disk;

		req.indirect = true;
		assert_int_equal(pv_blk_check(&req, &disk), op == BLKIF_OP_READ || op == BLKIF_OP_WRITE ? 0 : ERROR);
		none.indirect_max = 0;
		assert_int_equal(pv_blk_check(&req, &none), NOTSUPP);
	}
}

static void check_indirect_segments(void **state)
{
	static const uint32_t limits[] = { 1, 11, 256, 512, 4096, 5000 };

	(void)state;
	for (unsigned i = 0; i < sizeof(limits) / sizeof(*limits); i++)
		for (unsigned n = 0; n <= 65535; n++) {
			struct pv_blk_req req = request(BLKIF_OP_WRITE, (uint16_t)n);
			struct pv_blk_disk d = disk;

			req.indirect = true;
			d.indirect_max = limits[i];
			assert_int_equal(pv_blk_check(&req, &d), n >= 1 && n <= limits[i] && n <= 4096 ? 0 : ERROR);
		}
}

static void indirect_pages_of_segments(void **state)
{
	static const struct { uint16_t segs; unsigned pages; } cases[] = { { 1, 1 }, { 511, 1 }, { 512, 1 }, { 513, 2 }, { 4096, 8 } };

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct pv_blk_req req = { .nr_segs = cases[i].segs };

		assert_int_equal(pv_blk_indirect_pages(&req), cases[i].pages);
	}
}

static void decode_segs_of_a_page(void **state)
{
	static struct pv_blk_seg segs[PV_BLK_SEGS_PAGE + 1];

	(void)state;
	for (unsigned i = 0; i < sizeof(page); i++)
		page[i] = (uint8_t)(i * 31 + i / 256);
	memset(segs, 0x77, sizeof(segs));
	pv_blk_decode_segs(page, PV_BLK_SEGS_PAGE, segs);
	for (unsigned i = 0; i < PV_BLK_SEGS_PAGE; i++) {
		assert_memory_equal(&segs[i].gref, page + 8 * i, 4);
		assert_int_equal(segs[i].first, page[8 * i + 4]);
		assert_int_equal(segs[i].last, page[8 * i + 5]);
	}
	assert_int_equal(segs[PV_BLK_SEGS_PAGE].gref, 0x77777777);
	pv_blk_decode_segs(page + 8, 0, segs + PV_BLK_SEGS_PAGE);
	assert_int_equal(segs[PV_BLK_SEGS_PAGE].gref, 0x77777777);
}

static void check_segs_of_an_indirect_request(void **state)
{
	static struct pv_blk_seg segs[PV_BLK_INDIRECT_MAX];
	struct pv_blk_req req = { .op = BLKIF_OP_READ, .op_slot = BLKIF_OP_INDIRECT, .indirect = true, .nr_segs = PV_BLK_INDIRECT_MAX };
	struct pv_blk_disk d = { .sectors = PV_BLK_INDIRECT_MAX * 8 + 8, .sector_size = 4096, .indirect_max = PV_BLK_INDIRECT_MAX };

	(void)state;
	for (unsigned i = 0; i < PV_BLK_INDIRECT_MAX; i++)
		segs[i].last = 7;
	req.sector = 8;
	assert_int_equal(pv_blk_check_segs(&req, segs, &d), 0);
	req.sector = 16; /* one page too far */
	assert_int_equal(pv_blk_check_segs(&req, segs, &d), ERROR);
	req.sector = UINT64_MAX - 7;
	assert_int_equal(pv_blk_check_segs(&req, segs, &d), ERROR);
	req.sector = 0;
	segs[PV_BLK_INDIRECT_MAX - 1].last = 6; /* the very last: not aligned */
	assert_int_equal(pv_blk_check_segs(&req, segs, &d), ERROR);
	d.sector_size = 512;
	assert_int_equal(pv_blk_check_segs(&req, segs, &d), 0);
	segs[PV_BLK_INDIRECT_MAX - 1].last = 8; /* out of its page */
	assert_int_equal(pv_blk_check_segs(&req, segs, &d), ERROR);
	segs[PV_BLK_INDIRECT_MAX - 1] = (struct pv_blk_seg){ .first = 5, .last = 4 };
	assert_int_equal(pv_blk_check_segs(&req, segs, &d), ERROR);
	req.nr_segs = PV_BLK_INDIRECT_MAX - 1; /* and what is beyond the count is not looked at */
	assert_int_equal(pv_blk_check_segs(&req, segs, &d), 0);
}

static void bytes_of_a_segment(void **state)
{
	(void)state;
	for (unsigned first = 0; first < 8; first++)
		for (unsigned last = first; last < 8; last++) {
			struct pv_blk_seg seg = { .first = (uint8_t)first, .last = (uint8_t)last };

			assert_int_equal(pv_blk_seg_bytes(&seg), (last - first + 1) * 512);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slot_size_of_each_abi),
		cmocka_unit_test(decode_direct),
		cmocka_unit_test(decode_absurd_counts),
		cmocka_unit_test(decode_discard),
		cmocka_unit_test(decode_indirect),
		cmocka_unit_test(take_copies_what_is_used),
		cmocka_unit_test(fill_req_writes_what_is_used_and_decodes),
		cmocka_unit_test(fill_rsp_writes_every_byte),
		cmocka_unit_test(take_rsp_gives_what_was_filled),
		cmocka_unit_test(check_segments_direct),
		cmocka_unit_test(check_unknown_operations),
		cmocka_unit_test(check_operations_not_offered),
		cmocka_unit_test(check_read_only),
		cmocka_unit_test(check_bare_flush_has_no_sector),
		cmocka_unit_test(check_first_and_last_sector),
		cmocka_unit_test(check_range_of_the_disk),
		cmocka_unit_test(check_alignment_to_the_sector_size),
		cmocka_unit_test(check_discard_range),
		cmocka_unit_test(check_indirect_inner_operation),
		cmocka_unit_test(check_indirect_segments),
		cmocka_unit_test(indirect_pages_of_segments),
		cmocka_unit_test(decode_segs_of_a_page),
		cmocka_unit_test(check_segs_of_an_indirect_request),
		cmocka_unit_test(bytes_of_a_segment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
