/* blkfront.c - a vbd from the guest's side.
 *
 * Theory of operation. Three shares: the rings, the segment pages (one a slot, read-only to the backend, only if indirect
 * requests are offered) and the pool, in which the caller's data lies. The pool and the segment pages outlive a connection, so
 * that a backend that comes back finds the same references; the rings are new each time. One that comes back in another domain (a driver
 * domain that was started again) is granted new pages: the caller's buffers stay where they are, as memory of ours, and data is copied.
 * Each slot of a queue has a shadow: what was asked, in private memory. Its number is the request's id. An answer is believed
 * only if it names a shadow in flight, and the operation that was asked (XSA-376); what is in flight when a backend goes away
 * is asked again of the next one, out of the shadows.
 */
#include "pool.h"
#include <errno.h>
#include <pvio/blk.h>
#include <pvio/blkfront.h>
#include <pvio/front.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	PORTS = 32, /* events fetched at once */
	SLOTS_MAX = 512, /* of a ring of 16 pages */
	POOL_PAGES_MIN = 64, /* what we are content with when nobody asked for a size and grants are short */
};

_Static_assert(sizeof(struct blkif_request_segment) == 8 && offsetof(struct blkif_request_segment, first_sect) == 4 &&
	       offsetof(struct blkif_request_segment, last_sect) == 5, "segments as words");

/* A shadow is the caller's of pv_blkfront_queue while free, the backend's once asked. */
enum shadow_state { SHADOW_FREE, SHADOW_ASKED };

struct shadow {
	uint8_t state; /* enum shadow_state */
	uint8_t op; /* BLKIF_OP_*, that of the answer */
	uint8_t discard_flag;
	uint16_t next; /* free: the next free one */
	uint64_t offset, len; /* bytes */
	void *buf;
	void *user;
	uint32_t asked; /* where in the ring: in which order they were */
};

/* Owner: its blkfront. Lifetime: from open to close; the ring and the port: as long as a connection. */
struct blk_queue {
	struct pv_ring ring;
	uint32_t port; /* 0: none */
	bool masked; /* its event was fetched; unmasked when there is nothing more to reap */
	uint16_t free; /* the first free shadow, valid while the ring has room: as many are free as it has */
	struct shadow *shadow; /* ring.nr */
	uint64_t *segs; /* struct blkif_request_segment as words, a page a slot; NULL: no indirect requests */
	const uint32_t *segs_gref;
};

struct blk_share {
	void *addr;
	uint32_t *gref;
	unsigned pages; /* 0: not shared */
};

/* Owner: the caller of pv_blkfront_open; one thread. */
struct pv_blkfront {
	struct front front;
	struct pv_blkfront_config config;
	struct pv_blkfront_stats stats;
	struct blk_share ring, segs, data;
	struct pool pool; /* of data's pages */
	uint8_t *mem; /* the caller's buffers: in data's pages, or ... */
	bool copies; /* ... in memory of ours, and data's pages have the copies that the backend sees */
	struct blk_queue *queue;
	unsigned queues, order, slots; /* slots of one queue */
	unsigned segs_max; /* of one request */
	uint32_t features, sector_size;
	uint16_t backend; /* domid that the shares are for */
	bool up; /* the caller was told that it is connected */
};

/* ---- shares ---- */

static int share(struct pv_blkfront *f, struct blk_share *s, unsigned pages, bool writable)
{
	int rc;

	s->gref = calloc(pages, sizeof(*s->gref));
	if (!s->gref)
		return -ENOMEM;
	rc = pv_gnt_share(f->front.h, f->front.entry.backend_domid, pages, writable, NULL, s->gref, &s->addr);
	if (rc == 0) {
		s->pages = pages;
		return 0;
	}
	free(s->gref);
	s->gref = NULL;
	return rc;
}

/* End a share. Whether or not the backend still has it mapped: the pages never come back to us (XSA-396). */
static void unshare(struct pv_blkfront *f, struct blk_share *s)
{
	if (s->pages)
		pv_gnt_unshare(f->front.h, s->addr, s->pages);
	free(s->gref);
	*s = (struct blk_share){ 0 };
}

/* The pool: as asked; unasked, what all slots can use, or less when grants are short. */
static int share_pool(struct pv_blkfront *f)
{
	unsigned pages = f->config.pool_pages, all = f->queues * f->slots * f->segs_max;
	int rc;

	if (pages > POOL_PAGES_MAX)
		return -EINVAL;
	if (!pages)
		pages = all < POOL_PAGES_MAX ? all : POOL_PAGES_MAX;
	while ((rc = share(f, &f->data, pages, true)) == -ENOSPC && !f->config.pool_pages && pages / 2 >= POOL_PAGES_MIN)
		pages /= 2;
	f->mem = f->data.addr;
	return rc ? rc : front_pool_new(&f->pool, pages);
}

/* ---- a connection: rings and ports ---- */

static void disconnect(struct pv_blkfront *f)
{
	for (unsigned i = 0; f->queue && i < f->queues; i++) {
		if (f->queue[i].port)
			pv_evt_unbind(f->front.h, f->queue[i].port);
		f->queue[i].port = 0;
		f->queue[i].masked = false;
	}
	unshare(f, &f->ring);
	f->up = false;
}

static void fill(struct pv_blkfront *f, struct blk_queue *q, uint16_t id);

/* The one that was asked first comes first. */
static int by_age(const void *a, const void *b, void *arg)
{
	const struct blk_queue *q = arg;
	uint32_t x = q->ring.prod - q->shadow[*(const uint16_t *)a].asked, y = q->ring.prod - q->shadow[*(const uint16_t *)b].asked;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* A new ring for a queue. What its shadows say was asked and not answered is asked again, in the same order. */
static void start_queue(struct pv_blkfront *f, unsigned i)
{
	struct blk_queue *q = &f->queue[i];
	size_t bytes = (size_t)PV_PAGE_SIZE << f->order;
	uint16_t ids[SLOTS_MAX];
	unsigned n = 0;

	for (unsigned id = 0; id < f->slots; id++)
		if (q->shadow[id].state == SHADOW_ASKED)
			ids[n++] = (uint16_t)id;
	qsort_r(ids, n, sizeof(*ids), by_age, q);
	pv_ring_init_front(&q->ring, (uint8_t *)f->ring.addr + i * bytes, bytes, sizeof(struct blkif_request));
	for (unsigned k = 0; k < n; k++)
		fill(f, q, ids[k]);
	pv_ring_publish(&q->ring); /* nobody to notify yet */
}

static int no_resources(struct pv_blkfront *f, int rc)
{
	const char *words = pv_hyper_error(f->front.h);
	char name[24];

	snprintf(f->front.why, sizeof(f->front.why), "%s of domain %u: no resources for %u queues of %u requests: %s",
		 front_name(&f->front, name, sizeof(name)), f->front.h->domid, f->queues, f->slots, *words ? words : strerror(-rc));
	f->front.state = FRONT_REFUSED;
	return rc;
}

/* Rings, ports and the choice. */
static int connect_device(struct pv_blkfront *f)
{
	struct pv_noxs_choice choice = { .ring_order = (uint8_t)f->order, .abi = PV_VBD_ABI_NATIVE, .queues = (uint16_t)f->queues };
	int rc = share(f, &f->ring, f->queues << f->order, true);

	for (unsigned i = 0; rc >= 0 && i < f->queues; i++) {
		rc = pv_evt_alloc(f->front.h, f->backend);
		if (rc < 0)
			break;
		f->queue[i].port = choice.vbd[i].port = (uint32_t)rc;
		for (unsigned k = 0; k < 1u << f->order; k++)
			choice.vbd[i].ring_gref[k] = f->ring.gref[(i << f->order) + k];
	}
	if (rc < 0)
		return no_resources(f, rc);
	for (unsigned i = 0; i < f->queues; i++)
		start_queue(f, i);
	choice.features = f->features;
	return front_choose(&f->front, &choice);
}

/* ---- open and close ---- */

/* What we choose of an offer. */
static void choose(struct pv_blkfront *f)
{
	const struct pv_noxs_vbd_offer *offer = &f->front.offer.vbd;
	unsigned queues = f->config.queues ? f->config.queues : 1;

	f->queues = queues < offer->queues_max ? queues : offer->queues_max;
	f->order = f->config.ring_order < offer->ring_order_max ? f->config.ring_order : offer->ring_order_max;
	f->slots = pv_ring_slots((size_t)PV_PAGE_SIZE << f->order, sizeof(struct blkif_request));
	f->features = offer->features & (f->config.features ? f->config.features : UINT32_MAX);
	f->segs_max = offer->indirect_max < PV_BLK_SEGS_PAGE ? offer->indirect_max : PV_BLK_SEGS_PAGE; /* one page of them a slot */
	if (f->segs_max < PV_BLK_SEGS_DIRECT)
		f->segs_max = PV_BLK_SEGS_DIRECT;
	f->sector_size = offer->sector_size;
	f->backend = f->front.entry.backend_domid;
}

static void point_segs(struct pv_blkfront *f)
{
	for (unsigned i = 0; f->segs.pages && i < f->queues; i++) {
		f->queue[i].segs = (uint64_t *)f->segs.addr + (size_t)i * f->slots * PV_BLK_SEGS_PAGE;
		f->queue[i].segs_gref = f->segs.gref + (size_t)i * f->slots;
	}
}

static int make_queues(struct pv_blkfront *f)
{
	f->queue = calloc(f->queues, sizeof(*f->queue));
	if (!f->queue)
		return -ENOMEM;
	for (unsigned i = 0; i < f->queues; i++) {
		struct blk_queue *q = &f->queue[i];

		q->shadow = calloc(f->slots, sizeof(*q->shadow));
		if (!q->shadow)
			return -ENOMEM;
		for (unsigned id = 0; id < f->slots; id++)
			q->shadow[id].next = (uint16_t)(id + 1);
	}
	point_segs(f);
	return 0;
}

static int setup(struct pv_blkfront *f)
{
	int rc = 0;

	choose(f);
	if (f->segs_max > PV_BLK_SEGS_DIRECT)
		rc = share(f, &f->segs, f->queues * f->slots, false);
	if (rc == 0)
		rc = share_pool(f);
	if (rc == 0)
		rc = make_queues(f);
	return rc ? no_resources(f, rc) : connect_device(f);
}

int pv_blkfront_open(const char *spec, int domid, const struct pv_blkfront_config *c, struct pv_blkfront **out,
		     char *why, size_t len)
{
	struct pv_blkfront *f = calloc(1, sizeof(*f));
	int rc = f ? 0 : -ENOMEM;

	*out = NULL;
	if (why && len)
		*why = 0;
	if (rc)
		return rc;
	f->config = *c;
	rc = front_open(&f->front, spec, domid, PV_NOXS_VBD, c->devid, c->wait_ms);
	if (rc == 0)
		rc = setup(f);
	if (rc == 0) {
		*out = f;
		return 0;
	}
	if (why && len)
		snprintf(why, len, "%s", f->front.why);
	pv_blkfront_close(f, 0);
	return rc;
}

void pv_blkfront_close(struct pv_blkfront *f, int timeout_ms)
{
	if (!f)
		return;
	front_leave(&f->front, timeout_ms);
	disconnect(f);
	unshare(f, &f->segs);
	unshare(f, &f->data);
	if (f->copies)
		munmap(f->mem, (size_t)f->pool.pages * PV_PAGE_SIZE);
	front_pool_free(&f->pool);
	for (unsigned i = 0; f->queue && i < f->queues; i++)
		free(f->queue[i].shadow);
	free(f->queue);
	front_close(&f->front);
	free(f);
}

/* ---- buffers ---- */

static unsigned pages_of(size_t len)
{
	return (unsigned)((len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE);
}

void *pv_blkfront_buf(struct pv_blkfront *f, size_t len)
{
	int page;

	if (len > (size_t)POOL_PAGES_MAX * PV_PAGE_SIZE)
		return NULL;
	page = front_pool_take(&f->pool, pages_of(len));
	return page < 0 ? NULL : f->mem + (size_t)page * PV_PAGE_SIZE;
}

void pv_blkfront_buf_free(struct pv_blkfront *f, void *buf, size_t len)
{
	if (buf)
		front_pool_give(&f->pool, (unsigned)(((uint8_t *)buf - f->mem) / PV_PAGE_SIZE), pages_of(len));
}

/* ---- asking ---- */

static const uint8_t op_of[] = {
	[PV_BLKFRONT_READ] = BLKIF_OP_READ,
	[PV_BLKFRONT_WRITE] = BLKIF_OP_WRITE,
	[PV_BLKFRONT_FLUSH] = BLKIF_OP_FLUSH_DISKCACHE,
	[PV_BLKFRONT_DISCARD] = BLKIF_OP_DISCARD,
	[PV_BLKFRONT_DISCARD_SECURE] = BLKIF_OP_DISCARD,
};

static unsigned segs_of(const void *buf, uint64_t len)
{
	return (unsigned)(((uintptr_t)buf % PV_PAGE_SIZE + len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE);
}

/* Segment i of a buffer: its page, and which sectors of that. */
static struct pv_blk_seg seg_at(const struct pv_blkfront *f, const struct shadow *s, unsigned i)
{
	size_t from = (size_t)((uint8_t *)s->buf - f->mem), until = from + s->len;
	size_t page = from / PV_PAGE_SIZE + i, begin = page * PV_PAGE_SIZE, end = begin + PV_PAGE_SIZE;

	return (struct pv_blk_seg){
		.gref = f->data.gref[page],
		.first = (uint8_t)((from > begin ? from - begin : 0) / PV_BLK_SECTOR),
		.last = (uint8_t)(((until < end ? until : end) - begin) / PV_BLK_SECTOR - 1),
	};
}

static void fill_segs(const struct pv_blkfront *f, struct blk_queue *q, uint16_t id, struct pv_blk_req *req)
{
	const struct shadow *s = &q->shadow[id];
	uint64_t *to;

	req->nr_segs = (uint16_t)segs_of(s->buf, s->len);
	if (req->nr_segs <= PV_BLK_SEGS_DIRECT) {
		for (unsigned i = 0; i < req->nr_segs; i++)
			req->seg[i] = seg_at(f, s, i);
		return;
	}
	req->op_slot = BLKIF_OP_INDIRECT;
	req->indirect = true;
	memset(req->indirect_gref, 0, sizeof(req->indirect_gref));
	req->indirect_gref[0] = q->segs_gref[id];
	to = q->segs + (size_t)id * PV_BLK_SEGS_PAGE;
	for (unsigned i = 0; i < req->nr_segs; i++) {
		struct pv_blk_seg seg = seg_at(f, s, i);

		to[i] = seg.gref | (uint64_t)seg.first << 32 | (uint64_t)seg.last << 40; /* its padding too */
	}
}

/* Where the backend sees a buffer, if that is elsewhere. */
static void *copy_of(const struct pv_blkfront *f, const struct shadow *s)
{
	return (uint8_t *)f->data.addr + ((uint8_t *)s->buf - f->mem);
}

/* Put what shadow id says into the ring. */
static void fill(struct pv_blkfront *f, struct blk_queue *q, uint16_t id)
{
	struct shadow *s = &q->shadow[id];
	struct pv_blk_req req;

	s->asked = q->ring.prod;
	if (f->copies && s->op == BLKIF_OP_WRITE)
		memcpy(copy_of(f, s), s->buf, s->len);
	req.id = id;
	req.op = req.op_slot = s->op;
	req.indirect = false;
	req.sector = s->offset / PV_BLK_SECTOR;
	req.nr_sectors = s->op == BLKIF_OP_DISCARD ? s->len / PV_BLK_SECTOR : 0;
	req.discard_flag = s->discard_flag;
	req.nr_segs = 0;
	if (s->buf)
		fill_segs(f, q, id, &req);
	pv_blk_fill_req(&q->ring, &req);
}

static bool is_data(enum pv_blkfront_op op)
{
	return op == PV_BLKFRONT_READ || op == PV_BLKFRONT_WRITE;
}

/* Buffer of a READ or WRITE: inside the pool, aligned, and no more segments than a request may have. */
static int check_buf(const struct pv_blkfront *f, const struct pv_blkfront_io *io)
{
	size_t from = (uintptr_t)io->buf - (uintptr_t)f->mem, size = (size_t)f->pool.pages * PV_PAGE_SIZE;

	if (!io->buf || from >= size || io->len > size - from || from % f->sector_size)
		return -EINVAL;
	return segs_of(io->buf, io->len) <= f->segs_max ? 0 : -EINVAL;
}

static int check_io(const struct pv_blkfront *f, const struct pv_blkfront_io *io)
{
	const struct pv_noxs_vbd_offer *offer = &f->front.offer.vbd;
	uint64_t size = offer->sectors * PV_BLK_SECTOR;

	if ((unsigned)io->op >= sizeof(op_of))
		return -EINVAL;
	if (io->op != PV_BLKFRONT_READ && (offer->info & VDISK_READONLY))
		return -EROFS;
	if (io->op == PV_BLKFRONT_FLUSH)
		return !(f->features & PV_VBD_FLUSH) ? -EOPNOTSUPP : io->len || io->buf ? -EINVAL : 0;
	if (io->op == PV_BLKFRONT_DISCARD_SECURE && !(f->features & PV_VBD_SECURE_DISCARD))
		return -EOPNOTSUPP;
	if (op_of[io->op] == BLKIF_OP_DISCARD && !(f->features & PV_VBD_DISCARD))
		return -EOPNOTSUPP;
	if (io->len == 0 || io->len > size || io->offset > size - io->len || (io->offset | io->len) % f->sector_size)
		return -EINVAL;
	return is_data(io->op) ? check_buf(f, io) : io->buf ? -EINVAL : 0;
}

int pv_blkfront_queue(struct pv_blkfront *f, unsigned queue, const struct pv_blkfront_io *io)
{
	struct blk_queue *q;
	struct shadow *s;
	uint16_t id;
	int rc;

	if (f->front.state != FRONT_CONNECTED) {
		rc = front_error(&f->front);
		return rc ? rc : -EAGAIN;
	}
	if (queue >= f->queues)
		return -EINVAL;
	q = &f->queue[queue];
	if (!pv_ring_room(&q->ring))
		return -EAGAIN;
	rc = check_io(f, io);
	if (rc < 0)
		return rc;
	id = q->free;
	s = &q->shadow[id];
	q->free = s->next;
	s->state = SHADOW_ASKED;
	s->op = op_of[io->op];
	s->discard_flag = io->op == PV_BLKFRONT_DISCARD_SECURE ? BLKIF_DISCARD_SECURE : 0;
	s->offset = io->op == PV_BLKFRONT_FLUSH ? 0 : io->offset;
	s->len = io->len;
	s->buf = io->buf;
	s->user = io->user;
	fill(f, q, id);
	return 0;
}

int pv_blkfront_submit(struct pv_blkfront *f)
{
	int ret = 0, rc;

	if (f->front.state != FRONT_CONNECTED)
		return front_error(&f->front);
	for (unsigned i = 0; i < f->queues; i++) {
		if (!pv_ring_publish(&f->queue[i].ring))
			continue;
		f->stats.notifies++;
		rc = pv_evt_notify(f->front.h, f->queue[i].port);
		if (rc < 0)
			ret = rc;
	}
	return ret;
}

/* ---- answers ---- */

static void count(struct pv_blkfront *f, const struct shadow *s, int result)
{
	if (result < 0) {
		f->stats.errors++;
		return;
	}
	switch (s->op) {
	case BLKIF_OP_READ:
		f->stats.reads++;
		f->stats.bytes_read += s->len;
		break;
	case BLKIF_OP_WRITE:
		f->stats.writes++;
		f->stats.bytes_written += s->len;
		break;
	case BLKIF_OP_FLUSH_DISKCACHE:
		f->stats.flushes++;
		break;
	default:
		f->stats.discards++;
	}
}

/* Check one answer and end its request. Returns 0 or -EPROTO. */
static int finish(struct pv_blkfront *f, struct blk_queue *q, const struct blkif_response *rsp, struct pv_blkfront_done *done)
{
	struct shadow *s;

	if (rsp->id >= f->slots || q->shadow[rsp->id].state != SHADOW_ASKED)
		return front_broken(&f->front, "an answer to a request that is not in flight");
	s = &q->shadow[rsp->id];
	if (rsp->operation != s->op) /* of an indirect request the inner one, as with Linux */
		return front_broken(&f->front, "an answer to another operation than was asked");
	done->user = s->user;
	done->result = rsp->status == BLKIF_RSP_OKAY ? 0 : rsp->status == BLKIF_RSP_EOPNOTSUPP ? -EOPNOTSUPP : -EIO;
	if (f->copies && s->op == BLKIF_OP_READ)
		memcpy(s->buf, copy_of(f, s), s->len);
	count(f, s, done->result);
	s->state = SHADOW_FREE;
	s->next = q->free;
	q->free = (uint16_t)rsp->id;
	return 0;
}

/* Nothing is left: from now on the event wakes us. Returns 1: something came meanwhile, 0, -EPROTO. */
static int rest(struct pv_blkfront *f, struct blk_queue *q)
{
	int n = f->config.poll ? 0 : pv_ring_rearm(&q->ring, 1);

	if (n < 0)
		return front_broken(&f->front, "more answers than requests");
	if (n == 0 && q->masked) {
		q->masked = false;
		pv_evt_unmask(f->front.h, &q->port, 1); /* late: a storm of events costs its sender (XSA-391) */
	}
	return n > 0;
}

int pv_blkfront_reap(struct pv_blkfront *f, unsigned queue, struct pv_blkfront_done *out, unsigned n)
{
	struct blk_queue *q;
	unsigned got = 0;
	int ready;

	if (f->front.state != FRONT_CONNECTED && f->front.state != FRONT_CLOSING)
		return f->front.state == FRONT_BROKEN ? -EPROTO : 0;
	if (queue >= f->queues)
		return -EINVAL;
	q = &f->queue[queue];
	do {
		ready = pv_ring_ready(&q->ring);
		if (ready < 0)
			return front_broken(&f->front, "more answers than requests");
		for (; ready > 0 && got < n; ready--, got++) {
			struct blkif_response rsp;
			int rc;

			pv_blk_take_rsp(&q->ring, &rsp);
			rc = finish(f, q, &rsp, &out[got]);
			if (rc < 0)
				return rc;
		}
		if (got > 0 || n == 0)
			return (int)got;
		ready = rest(f, q);
	} while (ready > 0);
	return ready;
}

/* ---- events ---- */

/* The caller's buffers become memory of ours, where they are. The pages go first, so that these are never the backend's at the same time. */
static int keep_buffers(struct pv_blkfront *f)
{
	const int rw = PROT_READ | PROT_WRITE, own = MAP_PRIVATE | MAP_ANONYMOUS;
	size_t bytes = (size_t)f->pool.pages * PV_PAGE_SIZE;
	void *copy = mmap(NULL, bytes, rw, own, -1, 0), *at;

	if (copy == MAP_FAILED)
		return -ENOMEM;
	memcpy(copy, f->mem, bytes);
	unshare(f, &f->data);
	at = mmap(f->mem, bytes, rw, own | MAP_FIXED_NOREPLACE, -1, 0); /* what another thread may have mapped there meanwhile stays */
	f->copies = at == f->mem;
	if (f->copies)
		memcpy(f->mem, copy, bytes);
	else if (at != MAP_FAILED)
		munmap(at, bytes);
	munmap(copy, bytes);
	return f->copies ? 0 : -ENOMEM;
}

/* Its backend is in another domain now, to which segment pages and data are granted anew. */
static int move(struct pv_blkfront *f)
{
	unsigned segs = f->segs.pages;
	int rc = f->copies ? 0 : keep_buffers(f);

	unshare(f, &f->data); /* copies of the last time */
	unshare(f, &f->segs);
	f->backend = f->front.entry.backend_domid;
	if (rc == 0 && segs)
		rc = share(f, &f->segs, segs, false);
	if (rc == 0)
		rc = share(f, &f->data, f->pool.pages, true);
	if (rc < 0)
		return no_resources(f, rc);
	point_segs(f);
	return 0;
}

/* The backend went away and left us the device: connect to the next one, with the same shape, and ask again what it owes. */
static int come_back(struct pv_blkfront *f)
{
	const struct pv_noxs_vbd_offer *offer = &f->front.offer.vbd;
	char name[24];
	int rc;

	if (f->front.state == FRONT_LOST) {
		disconnect(f);
		front_retire(&f->front);
	}
	if (front_find(&f->front) < 0)
		return front_error(&f->front);
	if (offer->queues_max < f->queues || offer->ring_order_max < f->order ||
	    (offer->features & f->features) != f->features || offer->sector_size != f->sector_size ||
	    (f->segs.pages && offer->indirect_max < f->segs_max)) {
		snprintf(f->front.why, sizeof(f->front.why), "%s of domain %u came back as another device; open it again",
			 front_name(&f->front, name, sizeof(name)), f->front.h->domid);
		f->front.state = FRONT_GONE;
		return front_error(&f->front);
	}
	rc = f->front.entry.backend_domid != f->backend ? move(f) : 0;
	return rc ? rc : connect_device(f);
}

int pv_blkfront_work(struct pv_blkfront *f)
{
	uint32_t ports[PORTS];
	int n = front_events(&f->front, ports, PORTS), ret = 0;

	if (n < 0)
		return n;
	if (f->front.state == FRONT_LOST || f->front.state == FRONT_NONE)
		return come_back(f);
	for (int i = 0; i < n; i++)
		for (unsigned k = 0; k < f->queues; k++)
			if (f->queue[k].port == ports[i]) {
				f->queue[k].masked = true;
				f->stats.events++;
				ret = 1;
			}
	if (front_error(&f->front))
		return front_error(&f->front);
	if (f->up || f->front.state != FRONT_CONNECTED)
		return ret;
	f->up = true;
	return 1; /* connected just now: answers may wait already */
}

/* ---- what it is ---- */

int pv_blkfront_fd(const struct pv_blkfront *f)
{
	return pv_evt_fd(f->front.h);
}

enum xenbus_state pv_blkfront_state(const struct pv_blkfront *f)
{
	return front_xenbus_state(&f->front);
}

const struct pv_noxs_vbd_offer *pv_blkfront_offer(const struct pv_blkfront *f)
{
	return &f->front.offer.vbd;
}

unsigned pv_blkfront_queues(const struct pv_blkfront *f)
{
	return f->queues;
}

uint32_t pv_blkfront_features(const struct pv_blkfront *f)
{
	return f->features;
}

uint32_t pv_blkfront_io_max(const struct pv_blkfront *f)
{
	return f->segs_max * PV_PAGE_SIZE;
}

const char *pv_blkfront_error(const struct pv_blkfront *f)
{
	return f->front.why;
}

void pv_blkfront_stats(const struct pv_blkfront *f, struct pv_blkfront_stats *out)
{
	*out = f->stats;
}
