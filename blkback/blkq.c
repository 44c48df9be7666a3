/* blkq.c - one queue: take -> parse -> plan -> execute -> respond.
 *
 * blkq_take copies requests out of the ring, checks them, maps their pages and starts them; neighbours become one I/O. Ends of
 * I/O come back through io_end, which fills the answers in; blkq_publish shows them. A request is answered exactly once, in any
 * order, and an error answers only the request that caused it. See enum blkr_state for where a request can be.
 *
 * A queue takes nothing while a request is HELD or a barrier is being executed. A held request either waits for its device's limit, until
 * a timer wakes the queue, or has others in flight before it, whose ends do.
 */
#include "blkback.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	BUDGET = 64, /* requests a turn: then it is the next queue's */
	ROOM = 2, /* sqes that taking a request may need: the planned I/O's and its own */
	OUT_OF_REACH = 1 << 30, /* requests ahead: more than any ring has */
	IOV_MIN = 64, /* entries for merging, also where no indirect segments are offered */
	CACHE_LINE = 64, /* slices are so much longer than a power of two, or all of them would fall on the same cache sets */
};

/* ---- respond ---- */

static bool writes_pages(const struct blkq *q, const struct blkr *r)
{
	/* a page that stays mapped will serve both ways, so blkif.h has the guest grant it for both */
	return q->c.persistent || r->req.op == BLKIF_OP_READ;
}

static void count(struct blkq *q, const struct blkr *r, int16_t status)
{
	struct blkq_stats *s = &q->stats;
	bool done = status == BLKIF_RSP_OKAY;

	s->errors += status == BLKIF_RSP_ERROR;
	s->unsupported += status == BLKIF_RSP_EOPNOTSUPP;
	switch (r->req.op) {
	case BLKIF_OP_READ:
		s->reads++;
		s->bytes_read += done ? r->bytes : 0;
		break;
	case BLKIF_OP_WRITE:
		s->writes++;
		break;
	case BLKIF_OP_FLUSH_DISKCACHE:
		s->flushes++;
		break;
	case BLKIF_OP_WRITE_BARRIER:
		s->barriers++;
		break;
	case BLKIF_OP_DISCARD:
		s->discards++;
		break;
	}
	if (done && r->req.op != BLKIF_OP_READ)
		s->bytes_written += r->bytes;
}

static void answer(struct blkq *q, struct blkr *r, int16_t status)
{
	if (r->pinned)
		pv_gnt_cache_put(q->cache, r->grefs, r->req.nr_segs, writes_pages(q, r));
	r->pinned = false;
	count(q, r, status);
	if (q->state != BLKQ_BROKEN)
		adopt_log_answer(q, r, status);
	if (q->barrier == r)
		q->barrier = NULL;
	share_end(r);
	r->state = BLKR_FREE;
	r->next = q->free;
	q->free = r;
	q->inflight--;
	q->worked = true;
	blkworker_wake(q);
}

void blkq_publish(struct blkq *q)
{
	if (q->state == BLKQ_BROKEN || !pv_ring_publish(&q->ring))
		return;
	q->stats.notifies++;
	pv_evt_notify(q->w->hyper, q->port); /* a guest that closed its end gets nothing, and that is its affair */
}

/* ---- execute ---- */

static void submit(struct blkq *q, struct blkr *r, enum image_kind kind, enum blkr_state state)
{
	r->state = state;
	r->io.kind = kind;
	q->stats.ios++;
	image_submit(&r->io);
}

static enum image_kind kind_of(const struct blkr *r)
{
	return r->req.op == BLKIF_OP_READ ? IMAGE_READ : IMAGE_WRITE;
}

/* A READ or WRITE, perhaps of several requests, has ended: `done` bytes of it are certain. */
static void chain_end(struct blkq *q, struct blkr *head, uint64_t done)
{
	bool alone = !head->next;
	struct blkr *r, *next;
	uint64_t end = 0;

	for (r = head; r; r = next) {
		next = r->next;
		end += r->bytes;
		if (end <= done) {
			answer(q, r, BLKIF_RSP_OKAY);
		} else if (alone) {
			answer(q, r, BLKIF_RSP_ERROR);
		} else {
			r->state = BLKR_AGAIN;
			r->next = q->again;
			q->again = r;
			blkworker_wake(q);
		}
	}
}

static void io_end(struct image_io *io, int error)
{
	struct blkr *r = (struct blkr *)io;
	struct blkq *q = r->q;

	if (r->state == BLKR_SYNC && !error)
		submit(q, r, r == q->barrier ? IMAGE_WRITE_DSYNC : IMAGE_WRITE, BLKR_IO);
	else if (r->req.op == BLKIF_OP_READ || r->req.op == BLKIF_OP_WRITE)
		chain_end(q, r, io->done);
	else
		answer(q, r, !error ? BLKIF_RSP_OKAY :
		       error == -EOPNOTSUPP && r->req.op == BLKIF_OP_DISCARD ? BLKIF_RSP_EOPNOTSUPP : BLKIF_RSP_ERROR);
}

/* ---- plan ---- */

static void plan_submit(struct blkq *q)
{
	struct blkr *head = q->head;

	q->head = NULL;
	if (!head)
		return;
	for (struct blkr *r = head; r; r = r->next)
		r->state = BLKR_IO;
	submit(q, head, head->io.kind, BLKR_IO);
}

/* Add a READ or WRITE to the I/O that is being put together, or begin another. */
static void plan(struct blkq *q, struct blkr *r)
{
	r->state = BLKR_PLANNED;
	r->next = NULL;
	r->io.kind = kind_of(r);
	if (q->head && blkplan_join(&q->head->io, &r->io, q->iov_room)) {
		q->stats.merged++;
		q->tail->next = r;
		q->tail = r;
		return;
	}
	if (q->head)
		q->head->io.next = &r->io;
	plan_submit(q);
	q->head = q->tail = r;
}

/* blkif.h: where it is not offered the flag means nothing. */
static enum image_kind discard_kind(const struct blkq *q, const struct blkr *r)
{
	bool secure = r->req.discard_flag & BLKIF_DISCARD_SECURE && q->c.disk.features & PV_VBD_SECURE_DISCARD;

	return secure ? IMAGE_DISCARD_SECURE : IMAGE_DISCARD;
}

static void execute(struct blkq *q, struct blkr *r)
{
	share_begin(r);
	r->io.offset = r->bytes || r->req.op == BLKIF_OP_DISCARD ? r->req.sector * PV_BLK_SECTOR : 0; /* nobody checks the sector of a flush without data */
	r->io.len = r->bytes;
	switch (r->req.op) {
	case BLKIF_OP_READ:
	case BLKIF_OP_WRITE:
		plan(q, r);
		break;
	case BLKIF_OP_DISCARD:
		r->io.len = r->req.nr_sectors * PV_BLK_SECTOR;
		submit(q, r, discard_kind(q, r), BLKR_IO);
		break;
	case BLKIF_OP_WRITE_BARRIER: /* alone in flight: start() waited for that */
		q->barrier = r;
		/* fall through */
	default: /* FLUSH_DISKCACHE; both may carry data, written after the sync */
		submit(q, r, IMAGE_FLUSH, r->bytes ? BLKR_SYNC : BLKR_IO);
	}
}

/* ---- parse and map ---- */

/* Copy the segments of an indirect request into r->segs, each once, and check them. */
static int fetch_segs(struct blkq *q, struct blkr *r)
{
	unsigned pages = pv_blk_indirect_pages(&r->req), left = r->req.nr_segs;
	int ret = pv_gnt_cache_get(q->cache, r->req.indirect_gref, pages, false, q->pages); /* a frontend may grant them read-only */

	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < pages; i++) {
		unsigned n = left < PV_BLK_SEGS_PAGE ? left : PV_BLK_SEGS_PAGE;

		pv_blk_decode_segs(q->pages[i], n, r->segs + i * PV_BLK_SEGS_PAGE);
		left -= n;
	}
	pv_gnt_cache_put(q->cache, r->req.indirect_gref, pages, false);
	return pv_blk_check_segs(&r->req, r->segs, &q->c.disk) ? -EINVAL : 0;
}

/* Point r->iov into the pages of its segments. They are pinned by this call; it is balanced by `pinned` or a put. */
static int map(struct blkq *q, struct blkr *r)
{
	const struct pv_blk_seg *segs = r->req.indirect ? r->segs : r->req.seg;
	int ret;

	for (unsigned i = 0; i < r->req.nr_segs; i++)
		r->grefs[i] = segs[i].gref;
	ret = pv_gnt_cache_get(q->cache, r->grefs, r->req.nr_segs, writes_pages(q, r), q->pages);
	if (ret < 0)
		return ret;
	r->io.iov = r->iov;
	r->io.niov = blkplan_iov(r->iov, segs, q->pages, r->req.nr_segs, &r->bytes);
	return 0;
}

static int map_all(struct blkq *q, struct blkr *r)
{
	int ret = 0;

	if (r->req.op == BLKIF_OP_DISCARD || !r->req.nr_segs)
		return 0;
	if (r->req.indirect)
		ret = fetch_segs(q, r);
	if (ret == 0)
		ret = map(q, r);
	r->pinned = ret == 0;
	return ret;
}

/* With nothing else in flight: pages of an earlier map call are kept and pinned with all its others, so that a request which shares
 * some of them may not fit. Without what is kept it does. */
static int map_alone(struct blkq *q, struct blkr *r)
{
	for (int i = 0; i < 2; i++)
		pv_gnt_cache_trim(q->cache); /* the second unmaps what was used since the first: everything */
	return map_all(q, r);
}

static void hold(struct blkq *q, struct blkr *r)
{
	r->state = BLKR_HELD;
	q->held = r;
}

/* Has r to wait for its device's limit? A queue that stops ends what it took. */
static bool limited(struct blkq *q, const struct blkr *r)
{
	uint64_t until;

	if (q->state != BLKQ_RUN || limits_pass(q->c.limit, &r->req, now_ns(), &until))
		until = 0;
	q->stats.limited += until && !q->until;
	q->until = until;
	return until;
}

/* Begin a request whose slot was checked, or hold it, or answer it. */
static void start(struct blkq *q, struct blkr *r)
{
	bool others = q->inflight > 1;
	int ret;

	if ((r->req.op == BLKIF_OP_WRITE_BARRIER && others) || (q->c.limit && limited(q, r))) {
		hold(q, r);
		return;
	}
	ret = map_all(q, r);
	q->stats.cache_full += ret == -ENOSPC;
	if (ret == -ENOSPC && others) {
		hold(q, r);
		return;
	}
	if (ret == -ENOSPC)
		ret = map_alone(q, r);
	if (q->c.limit)
		limits_charge(q->c.limit, &r->req, r->bytes);
	if (ret < 0) {
		q->stats.bad_grefs += ret != -EINVAL;
		answer(q, r, BLKIF_RSP_ERROR);
	} else {
		execute(q, r);
	}
}

/* ---- take ---- */

/* A request of which the record holds a copy. */
static void begin(struct blkq *q, struct blkr *r)
{
	int status;

	q->inflight++;
	r->next = NULL;
	r->io.next = NULL;
	r->bytes = 0;
	pv_blk_decode(&r->record->raw, q->c.abi, &r->req);
	status = pv_blk_check(&r->req, &q->c.disk);
	if (status)
		answer(q, r, status);
	else
		start(q, r);
}

/* Returns what it costs of the device's share. */
static int64_t take_one(struct blkq *q)
{
	struct blkr *r = q->free; /* there is one: the ring's window counts what is not answered */
	uint64_t maps = q->w->hyper->counts.maps;

	q->free = r->next;
	pv_blk_take(&q->ring, &r->record->raw);
	adopt_log_take(q, r);
	begin(q, r);
	return share_cost(r, SHARE_TURN) + share_maps(q, q->w->hyper->counts.maps - maps);
}

/* Try alone what failed together with others. Its pages are still pinned, so mapping them again only finds them. */
static void retry(struct blkq *q, struct blkr *r)
{
	r->next = NULL;
	r->io.next = NULL;
	if (map(q, r) < 0) {
		answer(q, r, BLKIF_RSP_ERROR);
		return;
	}
	pv_gnt_cache_put(q->cache, r->grefs, r->req.nr_segs, writes_pages(q, r));
	r->io.offset = r->req.sector * PV_BLK_SECTOR;
	r->io.len = r->bytes;
	q->stats.retried++;
	submit(q, r, kind_of(r), BLKR_IO);
}

/* May the next of those that a process left be begun? */
static bool may_begin_left(const struct blkq *q)
{
	return q->left && !q->held && !q->barrier;
}

static bool resume(struct blkq *q)
{
	struct blkr *r;
	bool did = false;

	while (q->again && uring_room(&q->w->uring) >= ROOM) {
		r = q->again;
		q->again = r->next;
		retry(q, r);
		did = true;
	}
	if (q->held && uring_room(&q->w->uring) >= ROOM) {
		r = q->held;
		q->held = NULL;
		start(q, r);
		did |= !q->held;
	}
	while (may_begin_left(q) && uring_room(&q->w->uring) >= ROOM) {
		r = q->left;
		q->left = r->next;
		begin(q, r);
		did = true;
	}
	return did;
}

/* What is LEFT was begun before, or waits for what stops this as well. */
static bool may_take(const struct blkq *q)
{
	return q->state == BLKQ_RUN && !q->held && !q->barrier;
}

/* How many requests wait. While the queue is awake its guest need not notify: the event index is moved out of reach. */
static int ready(struct blkq *q)
{
	bool armed = q->armed;

	q->armed = false;
	return armed ? pv_ring_rearm(&q->ring, OUT_OF_REACH) : pv_ring_ready(&q->ring);
}

/* One more was taken. A part of a turn is not kept back until its end: storage works on that, and the guest's end on its answers, while we do on the rest. */
static void pass_on(struct blkq *q)
{
	struct uring *u = &q->w->uring;

	if (blkplan_is_part(uring_ready(u), u->ios, u->prompt))
		uring_submit(u);
	if (q->ring.prod - q->ring.published >= PLAN_PART)
		blkq_publish(q);
}

/* How many requests may be taken now, of `most`. */
static int takeable(struct blkq *q, int most)
{
	int n = may_take(q) ? ready(q) : 0;

	if (n < 0)
		blkworker_break(q, "its request index is impossible");
	return n < most ? n : most;
}

bool blkq_take(struct blkq *q)
{
	bool did = resume(q), alone = share_alone(q);
	int most = BUDGET, n = takeable(q, most);
	int64_t room = n > 0 ? share_room(q) : 0, cost = 0;

	while (n > 0 && cost < room && may_take(q) && uring_room(&q->w->uring) >= ROOM) {
		cost += take_one(q);
		pass_on(q);
		most--;
		if (--n == 0 && alone) /* what came meanwhile, on the answers to the first: no other device waits for the end of this turn */
			n = takeable(q, most);
	}
	plan_submit(q);
	if (!cost)
		return did;
	share_took(q, cost);
	q->worked = q->took = true;
	return true;
}

bool blkq_rearm(struct blkq *q)
{
	bool can_resume = q->again || (q->held && q->inflight == 1) || may_begin_left(q);
	int n;

	if (!may_take(q) || q->starved || can_resume)
		return can_resume; /* otherwise the end of what it waits for wakes it */
	q->armed = true;
	n = pv_ring_rearm(&q->ring, 1);
	if (n < 0)
		blkworker_break(q, "its request index is impossible");
	return n > 0;
}

/* ---- open and close ---- */

static int alloc_requests(struct blkq *q)
{
	unsigned segs = q->c.disk.indirect_max > PV_BLK_SEGS_DIRECT ? q->c.disk.indirect_max : PV_BLK_SEGS_DIRECT;
	unsigned nr = q->ring.nr, greft, segt, iovt; /* strides */

	q->iov_room = segs > IOV_MIN ? segs : IOV_MIN;
	greft = segs + CACHE_LINE / sizeof(uint32_t);
	segt = segs + CACHE_LINE / sizeof(struct pv_blk_seg);
	iovt = q->iov_room + CACHE_LINE / sizeof(struct iovec);
	q->reqs = calloc(nr, sizeof(*q->reqs));
	q->pages = calloc(segs, sizeof(*q->pages));
	q->all_grefs = calloc((size_t)nr * greft, sizeof(*q->all_grefs));
	q->all_iov = calloc((size_t)nr * iovt, sizeof(*q->all_iov));
	q->all_segs = calloc((size_t)nr * segt, sizeof(*q->all_segs));
	if (!q->reqs || !q->pages || !q->all_grefs || !q->all_iov || !q->all_segs)
		return -ENOMEM;
	for (unsigned i = nr; i-- > 0;) {
		struct blkr *r = &q->reqs[i];

		*r = (struct blkr){
			.q = q,
			.next = q->free,
			.grefs = q->all_grefs + (size_t)i * greft,
			.iov = q->all_iov + (size_t)i * iovt,
			.segs = q->all_segs + (size_t)i * segt,
			.record = (struct blkr_record *)q->c.log->records + i,
			.io = { .image = q->c.image, .uring = &q->w->uring, .end = io_end },
		};
		q->free = r;
	}
	return 0;
}

int blkq_open(struct blkworker *w, const struct blkq_config *c, struct blkq **out, char *why, size_t len)
{
	struct blkq *q = calloc(1, sizeof(*q));
	unsigned pages = 1u << c->ring_order;
	int ret;

	*out = NULL;
	if (!q)
		return -ENOMEM;
	*q = (struct blkq){ .w = w, .c = *c };
	TAILQ_INSERT_TAIL(&w->all, q, all);
	if (c->image->ops->attach)
		c->image->ops->attach(c->image, &w->uring);
	ret = pv_gnt_map(w->hyper, c->guest, c->ring_gref, pages, true, NULL, &q->ring_pages);
	q->c.ring_gref = NULL; /* the caller's */
	if (ret < 0) {
		snprintf(why, len, "its ring cannot be mapped: %s", pv_hyper_error(w->hyper));
		goto fail;
	}
	pv_ring_init_back(&q->ring, q->ring_pages, (size_t)pages * PV_PAGE_SIZE, pv_blk_slot_size(c->abi));
	snprintf(why, len, "out of memory");
	ret = pv_gnt_cache_new(w->hyper, c->guest, c->cache, c->persistent, &q->cache);
	if (ret == 0)
		ret = alloc_requests(q);
	if (ret == 0)
		ret = share_join(q);
	if (ret < 0)
		goto fail;
	snprintf(why, len, "its in-flight log makes no sense");
	ret = c->adopt ? adopt_queue(q) : 0;
	if (ret < 0)
		goto fail;
	ret = pv_backend_bind(w->hyper, c->guest, c->port, c->adopt);
	if (ret < 0) {
		snprintf(why, len, "its event channel %u cannot be bound: %s", c->port, pv_hyper_error(w->hyper));
		goto fail;
	}
	q->port = ret;
	ret = blkworker_port_add(w, q->port, q);
	if (ret < 0)
		goto fail;
	if (c->adopt)
		adopt_arrive(q);
	blkworker_wake(q); /* requests may wait already */
	*out = q;
	return 0;
fail:
	blkq_close(q);
	return ret;
}

void blkq_close(struct blkq *q)
{
	struct blkworker *w;

	if (!q)
		return;
	w = q->w;
	if (q->list != BLKQ_IDLE)
		TAILQ_REMOVE(q->list == BLKQ_ACTIVE ? &w->active : &w->resting, q, link);
	if (q->why)
		TAILQ_REMOVE(&w->broken, q, broken);
	TAILQ_REMOVE(&w->all, q, all);
	if (q->c.image->ops->detach)
		q->c.image->ops->detach(q->c.image);
	share_leave(q);
	if (q->port) {
		blkworker_port_del(w, q->port);
		pv_evt_unbind(w->hyper, q->port);
	}
	pv_gnt_cache_free(q->cache);
	if (q->ring_pages)
		pv_gnt_unmap(w->hyper, q->ring_pages, 1u << q->c.ring_order);
	free(q->reqs);
	free(q->pages);
	free(q->all_grefs);
	free(q->all_iov);
	free(q->all_segs);
	free(q);
}
