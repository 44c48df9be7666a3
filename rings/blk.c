/* blk.c - the pure decoder and checker of block requests. They look at private copies of slots and at nothing else, and link
 * against nothing, so that unit tests and fuzzers share them with the programs. */
#include "blk.h"

/* native and x86_64 are one layout here, which pv_blk_take and the answers in blk.h rely on too. */
_Static_assert(sizeof(struct blkif_request) == PV_BLK_SLOT_MAX && offsetof(struct blkif_request, id) == 8 &&
	       offsetof(struct blkif_request, sector_number) == 16 && offsetof(struct blkif_request, seg) == 24, "64-bit ABI");
_Static_assert(offsetof(struct blkif_request_discard, nr_sectors) == 24, "64-bit ABI");
_Static_assert(offsetof(struct blkif_request_indirect, nr_segments) == 2 && offsetof(struct blkif_request_indirect, id) == 8 &&
	       offsetof(struct blkif_request_indirect, handle) == 24 &&
	       offsetof(struct blkif_request_indirect, indirect_grefs) == 28, "64-bit ABI"); /* to byte 60: pv_blk_slot_words */
_Static_assert(sizeof(struct blkif_response) == 16, "64-bit ABI");
_Static_assert(sizeof(union pv_blk_raw) == PV_BLK_SLOT_MAX, "a slot");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "slots are read and written as words");
_Static_assert(sizeof(struct blkif_request_segment) == 8 && offsetof(struct blkif_request_segment, first_sect) == 4 &&
	       offsetof(struct blkif_request_segment, last_sect) == 5, "a segment");

static struct pv_blk_seg seg_of(struct blkif_request_segment s)
{
	return (struct pv_blk_seg){ .gref = s.gref, .first = s.first_sect, .last = s.last_sect };
}

/* The two layouts differ in where a field is, so one function decodes each, by the fields' names. */
static void decode_64(const union pv_blk_raw *raw, unsigned segs, struct pv_blk_req *out)
{
	out->id = raw->native.id;
	out->sector = raw->native.sector_number;
	if (out->op_slot == BLKIF_OP_DISCARD)
		out->nr_sectors = raw->native_discard.nr_sectors;
	else if (out->indirect)
		memcpy(out->indirect_gref, raw->native_indirect.indirect_grefs, sizeof(out->indirect_gref));
	else
		for (unsigned i = 0; i < segs; i++)
			out->seg[i] = seg_of(raw->native.seg[i]);
}

static void decode_32(const union pv_blk_raw *raw, unsigned segs, struct pv_blk_req *out)
{
	out->id = raw->x86_32.id;
	out->sector = raw->x86_32.sector_number;
	if (out->op_slot == BLKIF_OP_DISCARD)
		out->nr_sectors = raw->x86_32_discard.nr_sectors;
	else if (out->indirect)
		memcpy(out->indirect_gref, raw->x86_32_indirect.indirect_grefs, sizeof(out->indirect_gref));
	else
		for (unsigned i = 0; i < segs; i++)
			out->seg[i] = seg_of(raw->x86_32.seg[i]);
}

void pv_blk_decode(const union pv_blk_raw *raw, enum pv_vbd_abi abi, struct pv_blk_req *out)
{
	unsigned segs;

	*out = (struct pv_blk_req){ .op = raw->native.operation, .op_slot = raw->native.operation };
	if (out->op_slot == BLKIF_OP_DISCARD) {
		out->discard_flag = raw->native_discard.flag;
	} else if (out->op_slot == BLKIF_OP_INDIRECT) {
		out->indirect = true;
		out->op = raw->native_indirect.indirect_op;
		out->nr_segs = raw->native_indirect.nr_segments;
	} else {
		out->nr_segs = raw->native.nr_segments;
	}
	segs = out->nr_segs < PV_BLK_SEGS_DIRECT ? out->nr_segs : PV_BLK_SEGS_DIRECT; /* what the slot holds, whatever it says */
	if (abi == PV_VBD_ABI_X86_32)
		decode_32(raw, segs, out);
	else
		decode_64(raw, segs, out);
}

static bool aligned(uint64_t sectors, const struct pv_blk_disk *disk)
{
	return (sectors & (disk->sector_size / PV_BLK_SECTOR - 1)) == 0; /* a power of two: no division */
}

static int check_range(uint64_t sector, uint64_t n, const struct pv_blk_disk *disk)
{
	if (n > disk->sectors || sector > disk->sectors - n) /* no sum, so nothing wraps */
		return BLKIF_RSP_ERROR;
	return aligned(sector, disk) && aligned(n, disk) ? 0 : BLKIF_RSP_ERROR;
}

/* n segments, and the range of the disk that they make. */
static int check_segs(uint64_t sector, const struct pv_blk_seg *segs, unsigned n, const struct pv_blk_disk *disk)
{
	uint64_t sectors = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct pv_blk_seg *s = &segs[i];

		if (s->first > s->last || s->last >= PV_PAGE_SIZE / PV_BLK_SECTOR)
			return BLKIF_RSP_ERROR;
		if (!aligned(s->first, disk) || !aligned(s->last + 1u, disk))
			return BLKIF_RSP_ERROR;
		sectors += s->last - s->first + 1u;
	}
	return check_range(sector, sectors, disk);
}

static int check_indirect(const struct pv_blk_req *req, const struct pv_blk_disk *disk)
{
	if (!disk->indirect_max)
		return BLKIF_RSP_EOPNOTSUPP;
	if (req->op != BLKIF_OP_READ && req->op != BLKIF_OP_WRITE)
		return BLKIF_RSP_ERROR;
	if (req->op == BLKIF_OP_WRITE && disk->read_only)
		return BLKIF_RSP_ERROR;
	if (!req->nr_segs || req->nr_segs > disk->indirect_max || req->nr_segs > PV_BLK_INDIRECT_MAX)
		return BLKIF_RSP_ERROR;
	return check_range(req->sector, 0, disk); /* the length follows with the segments */
}

static int check_direct(const struct pv_blk_req *req, unsigned segs_min, const struct pv_blk_disk *disk)
{
	if (req->nr_segs < segs_min || req->nr_segs > PV_BLK_SEGS_DIRECT)
		return BLKIF_RSP_ERROR;
	if (!req->nr_segs)
		return 0; /* a bare flush: Linux leaves ~0 in its sector, and it goes to a read-only disk too */
	if (disk->read_only && req->op != BLKIF_OP_READ)
		return BLKIF_RSP_ERROR;
	return check_segs(req->sector, req->seg, req->nr_segs, disk);
}

int pv_blk_check(const struct pv_blk_req *req, const struct pv_blk_disk *disk)
{
	if (req->indirect)
		return check_indirect(req, disk);
	switch (req->op) {
	case BLKIF_OP_READ:
	case BLKIF_OP_WRITE:
		return check_direct(req, 1, disk);
	case BLKIF_OP_FLUSH_DISKCACHE:
		return disk->features & PV_VBD_FLUSH ? check_direct(req, 0, disk) : BLKIF_RSP_EOPNOTSUPP;
	case BLKIF_OP_WRITE_BARRIER:
		return disk->features & PV_VBD_BARRIER ? check_direct(req, 0, disk) : BLKIF_RSP_EOPNOTSUPP;
	case BLKIF_OP_DISCARD:
		if (!(disk->features & PV_VBD_DISCARD))
			return BLKIF_RSP_EOPNOTSUPP;
		return disk->read_only ? BLKIF_RSP_ERROR : check_range(req->sector, req->nr_sectors, disk);
	default:
		return BLKIF_RSP_EOPNOTSUPP;
	}
}

void pv_blk_decode_segs(const volatile void *page, unsigned n, struct pv_blk_seg *out)
{
	const volatile uint64_t *word = page;

	for (unsigned i = 0; i < n; i++) {
		uint64_t w = word[i]; /* the one read: gref, first, last, two bytes of padding */

		out[i] = (struct pv_blk_seg){ .gref = (uint32_t)w, .first = (uint8_t)(w >> 32), .last = (uint8_t)(w >> 40) };
	}
}

int pv_blk_check_segs(const struct pv_blk_req *req, const struct pv_blk_seg *segs, const struct pv_blk_disk *disk)
{
	return check_segs(req->sector, segs, req->nr_segs, disk);
}

static uint64_t seg_word(const struct pv_blk_seg *s)
{
	return s->gref | (uint64_t)s->first << 32 | (uint64_t)s->last << 40;
}

/* In place and word by word (a slot built on the stack and copied costs half as much again): of what is used no byte, padding
 * included, is left to chance. The words are those of the layouts asserted above. */
void pv_blk_fill_req(struct pv_ring *r, const struct pv_blk_req *req)
{
	uint64_t *word = pv_ring_fill(r);

	word[1] = req->id;
	word[2] = req->sector;
	switch (req->op_slot) {
	case BLKIF_OP_DISCARD:
		word[0] = BLKIF_OP_DISCARD | (uint64_t)req->discard_flag << 8;
		word[3] = req->nr_sectors;
		break;
	case BLKIF_OP_INDIRECT:
		word[0] = BLKIF_OP_INDIRECT | (uint64_t)req->op << 8 | (uint64_t)req->nr_segs << 16;
		word[3] = word[7] = 0;
		memcpy((uint32_t *)&word[3] + 1, req->indirect_gref, sizeof(req->indirect_gref));
		break;
	default:
		word[0] = req->op_slot | (uint64_t)(uint8_t)req->nr_segs << 8;
		for (unsigned i = 0; i < req->nr_segs && i < PV_BLK_SEGS_DIRECT; i++)
			word[3 + i] = seg_word(&req->seg[i]);
	}
}
