/* fuzz_blk.c - a block request: byte 0 the ABI, byte 1 the disk, then a slot, then segments of an indirect page. Whatever the
 * checks accept lies on the disk and in its pages. */
#include "fuzz.h"
#include <pvio/blk.h>

static const struct pv_blk_disk disks[] = {
	{ .sectors = 1 << 20, .sector_size = 512, .features = ~0u, .indirect_max = PV_BLK_INDIRECT_MAX },
	{ .sectors = 1 << 20, .sector_size = 4096, .features = ~0u, .indirect_max = 256 },
	{ .sectors = 1ull << 62, .sector_size = 512, .features = ~0u, .indirect_max = 32, .read_only = true },
	{ .sectors = 8, .sector_size = 4096 },
};

static bool writes(const struct pv_blk_req *req)
{
	return req->op == BLKIF_OP_WRITE || req->op == BLKIF_OP_DISCARD || (req->op == BLKIF_OP_WRITE_BARRIER && req->nr_segs);
}

/* The range that accepted segments cover is on the disk. */
static void check_range(const struct pv_blk_req *req, const struct pv_blk_seg *segs, unsigned n, const struct pv_blk_disk *disk)
{
	uint64_t sectors = 0;

	for (unsigned i = 0; i < n; i++) {
		MUST(segs[i].first <= segs[i].last && segs[i].last < PV_PAGE_SIZE / PV_BLK_SECTOR);
		MUST(pv_blk_seg_bytes(&segs[i]) % disk->sector_size == 0);
		sectors += pv_blk_seg_bytes(&segs[i]) / PV_BLK_SECTOR;
	}
	if (n)
		MUST(req->sector <= disk->sectors && sectors <= disk->sectors - req->sector);
}

static void check_indirect(struct input *in, const struct pv_blk_req *req, const struct pv_blk_disk *disk)
{
	static uint8_t page[PV_PAGE_SIZE];
	struct pv_blk_seg *segs = malloc(req->nr_segs * sizeof(*segs));
	unsigned done = 0;

	MUST(segs && req->nr_segs >= 1 && req->nr_segs <= disk->indirect_max);
	MUST(pv_blk_indirect_pages(req) <= BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST);
	for (unsigned i = 0; i < pv_blk_indirect_pages(req); i++) {
		unsigned n = req->nr_segs - done < PV_BLK_SEGS_PAGE ? req->nr_segs - done : (unsigned)PV_BLK_SEGS_PAGE;

		take_bytes(in, page, sizeof(page));
		pv_blk_decode_segs(page, n, segs + done);
		done += n;
	}
	if (!pv_blk_check_segs(req, segs, disk))
		check_range(req, segs, req->nr_segs, disk);
	free(segs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	enum pv_vbd_abi abi = (enum pv_vbd_abi)(take8(&in) % 3);
	const struct pv_blk_disk *disk = &disks[take8(&in) % 4];
	uint32_t slot = pv_blk_slot_size(abi);
	union pv_blk_raw raw;
	struct pv_blk_req req;

	memset(&raw, 0xa5, sizeof(raw));
	take_bytes(&in, &raw, slot);
	pv_blk_decode(&raw, abi, &req);
	if (pv_blk_check(&req, disk))
		return 0;
	MUST(!disk->read_only || !writes(&req));
	if (req.indirect)
		check_indirect(&in, &req, disk);
	else if (req.op == BLKIF_OP_DISCARD)
		MUST(req.sector <= disk->sectors && req.nr_sectors <= disk->sectors - req.sector);
	else
		check_range(&req, req.seg, req.nr_segs, disk);
	return 0;
}
