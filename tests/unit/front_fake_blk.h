/* front_fake_blk.h - the backend's half of a vbd, for tests: a disk in memory. */
#ifndef FRONT_FAKE_BLK_H
#define FRONT_FAKE_BLK_H

#include "tests/unit/front_fake.h"
#include <pvio/blkfront.h>

enum { FAKE_DISK_BYTES = 8192 * 512 };

static uint8_t fake_disk[FAKE_DISK_BYTES];

/* A request as a backend has it, with all of its segments. */
struct fake_req {
	struct pv_blk_req r;
	struct pv_blk_seg segs[PV_BLK_SEGS_PAGE];
};

/* Take one request, checked as a backend does. Returns false if none waits. */
static inline bool fake_req_take(struct fake *k, struct fake_queue *q, struct fake_req *out)
{
	struct pv_blk_disk disk = {
		.sectors = k->offer.vbd.sectors, .sector_size = k->offer.vbd.sector_size, .features = k->offer.vbd.features,
		.indirect_max = k->offer.vbd.indirect_max, .read_only = k->offer.vbd.info & VDISK_READONLY,
	};
	union pv_blk_raw raw;
	int n = pv_ring_ready(&q->tx);

	assert_true(n >= 0);
	if (n == 0)
		return false;
	pv_blk_take(&q->tx, &raw);
	pv_blk_decode(&raw, PV_VBD_ABI_NATIVE, &out->r);
	assert_int_equal(pv_blk_check(&out->r, &disk), 0);
	if (out->r.indirect) {
		static uint8_t page[PV_PAGE_SIZE];

		fake_copy(k, false, out->r.indirect_gref[0], 0, page, sizeof(page));
		pv_blk_decode_segs(page, out->r.nr_segs, out->segs);
		assert_int_equal(pv_blk_check_segs(&out->r, out->segs, &disk), 0);
	} else {
		memcpy(out->segs, out->r.seg, sizeof(out->r.seg));
	}
	return true;
}

/* Do what it asks on the disk in memory. */
static inline void fake_req_do(struct fake *k, const struct fake_req *q)
{
	uint64_t at = q->r.sector * PV_BLK_SECTOR;

	if (q->r.op == BLKIF_OP_DISCARD)
		memset(fake_disk + at, 0, q->r.nr_sectors * PV_BLK_SECTOR);
	for (unsigned i = 0; i < q->r.nr_segs; i++) {
		unsigned len = pv_blk_seg_bytes(&q->segs[i]);

		fake_copy(k, q->r.op == BLKIF_OP_READ, q->segs[i].gref, q->segs[i].first * PV_BLK_SECTOR, fake_disk + at, len);
		at += len;
	}
}

static inline void fake_rsp(struct fake_queue *q, uint64_t id, uint8_t op, int16_t status)
{
	pv_blk_fill_rsp(&q->tx, PV_VBD_ABI_NATIVE, id, op, status);
}

/* Serve all that waits on all queues. Returns how many. */
static inline unsigned fake_work(struct fake *k)
{
	static struct fake_req req;
	unsigned n = 0;

	for (unsigned i = 0; i < k->queues; i++) {
		for (; fake_req_take(k, &k->queue[i], &req); n++) {
			fake_req_do(k, &req);
			fake_rsp(&k->queue[i], req.r.id, req.r.op, BLKIF_RSP_OKAY);
		}
		if (pv_ring_publish(&k->queue[i].tx))
			pv_evt_notify(k->h, k->queue[i].port);
	}
	return n;
}

static inline struct pv_blkfront *fake_open_vbd(struct fake *k, const struct pv_blkfront_config *config)
{
	struct pv_blkfront *f;
	char why[200] = "";

	if (pv_blkfront_open(lb_spec, k->domid, config, &f, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return f;
}

static inline struct pv_blkfront *fake_connected_vbd(struct fake *k, struct pv_noxs_offer offer, struct pv_blkfront_config config)
{
	struct pv_blkfront *f;

	config.devid = 51712;
	fake_announce(k, offer, 51712, 0);
	f = fake_open_vbd(k, &config);
	fake_connect(k);
	assert_int_equal(pv_blkfront_work(f), 1);
	assert_int_equal(pv_blkfront_state(f), XenbusStateConnected);
	return f;
}

#endif
