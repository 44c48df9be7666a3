/* blk.h - block rings: the three ABIs of xen/io/blkif.h, and the pure parser and checker of what a guest asks.
 *
 * native is the ABI of the machine that this is compiled for; x86_64 and x86_32 differ in padding only: id at byte 8 or 4,
 * slots of 112 or 108 bytes. blkif.h shows the x86_32 layout to i386 compilers alone, so its packed structures are written
 * out here (the one exception to using Xen's headers).
 */
#ifndef PV_BLK_H
#define PV_BLK_H

#include "noxs.h"
#include "ring.h"
#include <xen/io/blkif.h>

enum {
	PV_BLK_SECTOR = 512, /* sector numbers and counts are always in these, whatever sector_size is */
	PV_BLK_SEGS_DIRECT = BLKIF_MAX_SEGMENTS_PER_REQUEST, /* 11 */
	PV_BLK_SEGS_PAGE = PV_PAGE_SIZE / sizeof(struct blkif_request_segment), /* 512 a page of indirect segments */
	PV_BLK_INDIRECT_MAX = BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST * PV_BLK_SEGS_PAGE, /* 4096 */
	PV_BLK_SLOT_MAX = 112,
};

struct pv_blk_x86_32_request {
	uint8_t operation, nr_segments;
	blkif_vdev_t handle;
	uint64_t id;
	blkif_sector_t sector_number;
	struct blkif_request_segment seg[BLKIF_MAX_SEGMENTS_PER_REQUEST];
} __attribute__((packed));

struct pv_blk_x86_32_discard {
	uint8_t operation, flag;
	blkif_vdev_t handle;
	uint64_t id;
	blkif_sector_t sector_number;
	uint64_t nr_sectors;
} __attribute__((packed));

struct pv_blk_x86_32_indirect {
	uint8_t operation, indirect_op;
	uint16_t nr_segments;
	uint64_t id;
	blkif_sector_t sector_number;
	blkif_vdev_t handle;
	uint16_t pad0;
	grant_ref_t indirect_grefs[BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST];
	uint64_t pad;
} __attribute__((packed));

struct pv_blk_x86_32_response {
	uint64_t id;
	uint8_t operation;
	uint8_t pad;
	int16_t status;
} __attribute__((packed));

_Static_assert(sizeof(struct pv_blk_x86_32_request) == 108 && offsetof(struct pv_blk_x86_32_request, id) == 4 &&
	       offsetof(struct pv_blk_x86_32_request, sector_number) == 12 && offsetof(struct pv_blk_x86_32_request, seg) == 20, "i386 ABI");
_Static_assert(offsetof(struct pv_blk_x86_32_discard, nr_sectors) == 20, "i386 ABI");
_Static_assert(offsetof(struct pv_blk_x86_32_indirect, handle) == 20 && offsetof(struct pv_blk_x86_32_indirect, indirect_grefs) == 24 &&
	       sizeof(struct pv_blk_x86_32_indirect) == 64, "i386 ABI");
_Static_assert(sizeof(struct pv_blk_x86_32_response) == 12 && offsetof(struct pv_blk_x86_32_response, status) == 10, "i386 ABI");

/* Bytes of a slot in an ABI. */
static inline uint32_t pv_blk_slot_size(enum pv_vbd_abi abi)
{
	return abi == PV_VBD_ABI_X86_32 ? sizeof(struct pv_blk_x86_32_request) :
	       abi == PV_VBD_ABI_X86_64 ? PV_BLK_SLOT_MAX : sizeof(struct blkif_request);
}

struct pv_blk_seg {
	uint32_t gref;
	uint8_t first, last; /* sectors of 512 bytes in the page, both inclusive */
};

/* A decoded request: plain values, private. */
struct pv_blk_req {
	uint64_t id;
	uint64_t sector;
	uint64_t nr_sectors; /* discard */
	uint8_t op; /* BLKIF_OP_*; of an indirect request the inner operation */
	uint8_t op_slot; /* the operation as in the slot, maybe INDIRECT; the answer carries op: Linux accepts nothing else */
	bool indirect;
	uint8_t discard_flag;
	uint16_t nr_segs; /* direct: as written in the slot, unchecked; indirect: all of them */
	union {
		struct pv_blk_seg seg[PV_BLK_SEGS_DIRECT];
		uint32_t indirect_gref[BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST];
	};
};

/* A slot of the largest ABI as private bytes. Slots are copied as words and not as a struct blkif_request, whose assignment
 * may leave out padding: discards and indirect requests have fields there. */
union pv_blk_raw {
	struct pv_blk_words {
		uint64_t word[PV_BLK_SLOT_MAX / 8];
	} words;
	struct pv_blk_words_x86_32 {
		uint32_t word[sizeof(struct pv_blk_x86_32_request) / 4];
	} words_x86_32;
	struct blkif_request native;
	struct blkif_request_discard native_discard;
	struct blkif_request_indirect native_indirect;
	struct pv_blk_x86_32_request x86_32;
	struct pv_blk_x86_32_discard x86_32_discard;
	struct pv_blk_x86_32_indirect x86_32_indirect;
};

/* How many words of a slot of the 64-bit layout are used, by what its first word says: a request of one segment is 32 of 112 bytes,
 * and the cache lines of the others need not cross between the cores. */
static inline unsigned pv_blk_slot_words(uint64_t first)
{
	unsigned second = (uint8_t)(first >> 8);

	switch ((uint8_t)first) {
	case BLKIF_OP_DISCARD:
		return 4;
	case BLKIF_OP_INDIRECT:
		return 8;
	default:
		return 3 + (second < PV_BLK_SEGS_DIRECT ? second : PV_BLK_SEGS_DIRECT);
	}
}

/* Take one slot: the one volatile copy (XSA-155), each word at most once. What pv_blk_decode does not look at, by the copied first word, is
 * neither copied nor set. */
static inline void pv_blk_take(struct pv_ring *r, union pv_blk_raw *out)
{
	const volatile void *slot = pv_ring_take(r);
	const volatile uint64_t *word = (const volatile uint64_t *)slot;
	unsigned n;

	if (r->slot_size != sizeof(struct blkif_request)) {
		out->words_x86_32 = *(const volatile struct pv_blk_words_x86_32 *)slot;
		return;
	}
	out->words.word[0] = word[0];
	n = pv_blk_slot_words(out->words.word[0]);
	for (unsigned i = 1; i < n; i++)
		out->words.word[i] = word[i];
}

/* Decode a private slot. Pure; cannot fail: unknown operations and absurd counts are left to pv_blk_check. Segment arrays are
 * never read beyond what the slot holds. */
void pv_blk_decode(const union pv_blk_raw *raw, enum pv_vbd_abi abi, struct pv_blk_req *out);

/* What a request is checked against. */
struct pv_blk_disk {
	uint64_t sectors; /* of 512 bytes */
	uint32_t sector_size; /* 512 or 4096 */
	uint32_t features; /* PV_VBD_*: operations offered */
	uint32_t indirect_max; /* segments */
	bool read_only;
};

/* Check all of a decoded request but the segments of an indirect one. Pure. Returns 0, or the status to answer with:
 * BLKIF_RSP_EOPNOTSUPP (unknown or not offered operation) or BLKIF_RSP_ERROR; the ring goes on in both cases.
 * Rules: READ, WRITE 1..11 segments; FLUSH_DISKCACHE, WRITE_BARRIER 0..11; indirect: inner READ or WRITE, 1..indirect_max;
 * first <= last < 8; sector + length neither overflows nor passes the end; aligned to sector_size; no write to a read-only
 * disk; a discard range does not wrap. */
int pv_blk_check(const struct pv_blk_req *req, const struct pv_blk_disk *disk);

/* Pages of indirect segments that a checked request has. */
static inline unsigned pv_blk_indirect_pages(const struct pv_blk_req *req)
{
	return (req->nr_segs + PV_BLK_SEGS_PAGE - 1) / PV_BLK_SEGS_PAGE;
}

/* Decode n segments from one indirect page (mapped, peer-writable): each is read once into out. */
void pv_blk_decode_segs(const volatile void *page, unsigned n, struct pv_blk_seg *out);

/* Check the segments of an indirect request, after pv_blk_check. Returns 0 or BLKIF_RSP_ERROR. */
int pv_blk_check_segs(const struct pv_blk_req *req, const struct pv_blk_seg *segs, const struct pv_blk_disk *disk);

static inline unsigned pv_blk_seg_bytes(const struct pv_blk_seg *s)
{
	return (s->last - s->first + 1u) * PV_BLK_SECTOR;
}

/* Fill one answer in place, every byte. */
static inline void pv_blk_fill_rsp(struct pv_ring *r, enum pv_vbd_abi abi, uint64_t id, uint8_t op, int16_t status)
{
	void *slot = pv_ring_fill(r);

	if (abi == PV_VBD_ABI_X86_32) {
		*(struct pv_blk_x86_32_response *)slot = (struct pv_blk_x86_32_response){ .id = id, .operation = op, .status = status };
		return;
	}
	/* as words, so that the padding of struct blkif_response is written too */
	((uint64_t *)slot)[0] = id;
	((uint64_t *)slot)[1] = op | (uint64_t)(uint16_t)status << 16;
}

/* Frontend: encode one request in the native ABI: every byte that it uses. What lies behind is an earlier request of ours, which the
 * backend has seen, or zero. */
void pv_blk_fill_req(struct pv_ring *r, const struct pv_blk_req *req);

/* Frontend: take one native answer (one volatile copy). */
static inline void pv_blk_take_rsp(struct pv_ring *r, struct blkif_response *out)
{
	*out = *(const volatile struct blkif_response *)pv_ring_take(r);
}

_Static_assert(offsetof(struct blkif_response, operation) == 8 && offsetof(struct blkif_response, status) == 10, "answers as words");

#endif
