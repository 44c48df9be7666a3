/* blk_slots.h - for tests: requests and answers of a frontend that writes and reads its ring's slots itself, in each ABI. */
#ifndef BLK_SLOTS_H
#define BLK_SLOTS_H

#include <pvio/blk.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* Write a request as it is. op_slot says what kind of slot; a segment count beyond 11 is written, not followed. */
static inline void slot_put(struct pv_ring *ring, enum pv_vbd_abi abi, const struct pv_blk_req *r)
{
	unsigned n = r->nr_segs < PV_BLK_SEGS_DIRECT ? r->nr_segs : PV_BLK_SEGS_DIRECT;
	struct pv_blk_x86_32_request *s;

	if (abi != PV_VBD_ABI_X86_32) {
		pv_blk_fill_req(ring, r);
		return;
	}
	s = pv_ring_fill(ring);
	memset(s, 0xee, sizeof(*s));
	s->operation = r->op_slot;
	s->nr_segments = r->nr_segs;
	s->id = r->id;
	s->sector_number = r->sector;
	if (r->op_slot == BLKIF_OP_DISCARD) {
		((struct pv_blk_x86_32_discard *)s)->nr_sectors = r->nr_sectors;
		((struct pv_blk_x86_32_discard *)s)->flag = r->discard_flag;
	} else if (r->op_slot == BLKIF_OP_INDIRECT) {
		struct pv_blk_x86_32_indirect *ind = (void *)s;

		ind->indirect_op = r->op;
		ind->nr_segments = r->nr_segs;
		memcpy(ind->indirect_grefs, r->indirect_gref, sizeof(r->indirect_gref));
	} else {
		for (unsigned i = 0; i < n; i++)
			s->seg[i] = (struct blkif_request_segment){ .gref = r->seg[i].gref, .first_sect = r->seg[i].first,
								    .last_sect = r->seg[i].last };
	}
}

/* The next answer: its id, operation and status, and that it left nothing else in its slot (XSA-216). */
static inline bool slot_poll(struct pv_ring *ring, enum pv_vbd_abi abi, struct blkif_response *out)
{
	const uint8_t *slot;
	int n = pv_ring_ready(ring);

	assert_true(n >= 0);
	if (!n)
		return false;
	slot = pv_ring_slot(ring, ring->cons);
	if (abi == PV_VBD_ABI_X86_32) {
		struct pv_blk_x86_32_response r = *(const volatile struct pv_blk_x86_32_response *)pv_ring_take(ring);

		*out = (struct blkif_response){ .id = r.id, .operation = r.operation, .status = r.status };
		assert_int_equal(r.pad, 0);
	} else {
		pv_blk_take_rsp(ring, out);
		assert_int_equal(slot[9], 0);
		assert_int_equal(*(const uint32_t *)(slot + 12), 0);
	}
	return true;
}

/* READ, WRITE or another with data: n whole pages of those references. */
static inline struct pv_blk_req slot_rw(const uint32_t *gref, uint8_t op, uint64_t sector, unsigned n)
{
	struct pv_blk_req r = { .id = sector, .op = op, .op_slot = op, .sector = sector, .nr_segs = n };

	for (unsigned i = 0; i < n && i < PV_BLK_SEGS_DIRECT; i++)
		r.seg[i] = (struct pv_blk_seg){ .gref = gref[i], .first = 0, .last = 7 };
	return r;
}

/* The same indirectly, with its segments in a page of that reference. */
static inline struct pv_blk_req slot_indirect(const uint32_t *gref, uint8_t op, uint64_t sector, unsigned n, void *page, uint32_t page_gref)
{
	struct pv_blk_req r = { .id = sector, .op = op, .op_slot = BLKIF_OP_INDIRECT, .indirect = true, .sector = sector, .nr_segs = n };
	struct blkif_request_segment *seg = page;

	for (unsigned i = 0; i < n && i < PV_BLK_SEGS_PAGE; i++)
		seg[i] = (struct blkif_request_segment){ .gref = gref[i], .first_sect = 0, .last_sect = 7 };
	for (unsigned i = 0; i < BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST; i++)
		r.indirect_gref[i] = page_gref;
	return r;
}

#endif
