/* blkio.c - see blkio.h. */
#include "blkio.h"
#include <errno.h>
#include <poll.h>
#include <pvio/front.h>
#include <pvio/message.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PAGE = 4096,
	RESERVE = 64 * PAGE, /* of the pool: blkio_memory leaves so much for pieces that are copied */
	DONE_BATCH = 64,
	CONNECT_MS = 5000, /* at least, for the handshake */
	CLOSE_MS = 5000,
	ORDER_MAX = 4, /* pages of a ring, as a power of two */
	SLOTS = 32, /* of one page of ring */
};

/* What is in flight as one request of blkfront; free: req is NULL. */
struct piece {
	struct blkio_req *req;
	uint8_t *buf; /* READ, WRITE: the caller's bytes */
	void *bounce; /* granted pages that stand for them; NULL: they are granted themselves */
	size_t len;
	struct piece *next; /* free */
};

struct list {
	struct blkio_req *head, **tail;
};

/* Owner: the caller of blkio_open; one thread. A request is in `waiting` until all of it was made pieces, and then in pieces alone,
 * and then in `done` until blkio_done. */
struct blkio {
	struct pv_blkfront *f;
	uint8_t *memory;
	size_t memory_len;
	struct piece *piece, *free;
	unsigned pieces, next_queue;
	struct list waiting, done;
	int err; /* what ended the device; 0: nothing */
	char why[256];
};

static void put(struct list *l, struct blkio_req *r)
{
	r->next = NULL;
	*l->tail = r;
	l->tail = &r->next;
}

static struct blkio_req *take(struct list *l)
{
	struct blkio_req *r = l->head;

	if (r && !(l->head = r->next))
		l->tail = &l->head;
	return r;
}

/* ---- open and close ---- */

static int connect_device(struct blkio *b, const struct blkio_config *c)
{
	uint64_t until = front_now_ms() + (uint64_t)(c->wait_ms > CONNECT_MS ? c->wait_ms : CONNECT_MS);

	while (pv_blkfront_state(b->f) != XenbusStateConnected) {
		struct pollfd fd = { .fd = pv_blkfront_fd(b->f), .events = POLLIN };

		poll(&fd, 1, BLKIO_AWAY_MS);
		if (blkio_follow(b) < 0)
			return b->err;
		if (front_now_ms() > until) {
			snprintf(b->why, sizeof(b->why), "vbd %s did not connect in time; pvio list in dom0 shows its state", c->vbd);
			return -ETIMEDOUT;
		}
	}
	return 0;
}

static int open_device(struct blkio *b, const struct blkio_config *c)
{
	struct pv_blkfront_config front = { .wait_ms = c->wait_ms, .queues = (uint16_t)c->queues };
	int rc;

	if (!c->vbd || pv_devid_of(PV_NOXS_VBD, c->vbd, &front.devid)) {
		snprintf(b->why, sizeof(b->why), "which vbd? \"%s\" is none: xvda, xvdb and so on, or a number", c->vbd ? c->vbd : "");
		return -EINVAL;
	}
	if (c->domid < 0 && pv_hyper_needs_domid(c->hypervisor)) {
		snprintf(b->why, sizeof(b->why), "which guest has vbd %s? the loopback hypervisor must be told its domid", c->vbd);
		return -EINVAL;
	}
	while (front.ring_order < ORDER_MAX && (SLOTS << front.ring_order) * c->queues < c->depth)
		front.ring_order++;
	rc = pv_blkfront_open(c->hypervisor, c->domid, &front, &b->f, b->why, sizeof(b->why));
	if (rc < 0)
		return rc;
	b->pieces = (SLOTS << front.ring_order) * pv_blkfront_queues(b->f);
	b->piece = calloc(b->pieces, sizeof(*b->piece));
	if (!b->piece)
		return -ENOMEM;
	for (unsigned i = 0; i < b->pieces; i++) {
		b->piece[i].next = b->free;
		b->free = &b->piece[i];
	}
	return connect_device(b, c);
}

int blkio_open(struct blkio **out, const struct blkio_config *c, char *why, size_t len)
{
	struct blkio *b = calloc(1, sizeof(*b));
	int rc;

	*out = NULL;
	if (!b)
		return -ENOMEM;
	b->waiting.tail = &b->waiting.head;
	b->done.tail = &b->done.head;
	rc = open_device(b, c);
	if (rc == 0) {
		*out = b;
		return 0;
	}
	snprintf(why, len, "%s", *b->why ? b->why : strerror(-rc));
	blkio_close(b);
	return rc;
}

void blkio_close(struct blkio *b)
{
	if (!b)
		return;
	pv_blkfront_close(b->f, CLOSE_MS);
	free(b->piece);
	free(b);
}

const struct pv_blkfront *blkio_front(const struct blkio *b)
{
	return b->f;
}

int blkio_fd(const struct blkio *b)
{
	return pv_blkfront_fd(b->f);
}

bool blkio_away(const struct blkio *b)
{
	return !b->err && pv_blkfront_state(b->f) != XenbusStateConnected;
}

const char *blkio_error(const struct blkio *b)
{
	return b->err ? b->why : NULL;
}

void *blkio_memory(struct blkio *b, size_t len)
{
	void *memory = pv_blkfront_buf(b->f, len), *reserve = pv_blkfront_buf(b->f, RESERVE);

	pv_blkfront_buf_free(b->f, reserve, RESERVE);
	if (!memory || !reserve) {
		pv_blkfront_buf_free(b->f, memory, len);
		return NULL;
	}
	b->memory = memory;
	b->memory_len = len;
	return memory;
}

/* ---- asking ---- */

static bool has_data(const struct blkio_req *r)
{
	return r->op == PV_BLKFRONT_READ || r->op == PV_BLKFRONT_WRITE;
}

/* Granted pages for up to p->len bytes, or as many as there are. Returns 0 or -EAGAIN. */
static int take_bounce(struct blkio *b, struct piece *p)
{
	while (!(p->bounce = pv_blkfront_buf(b->f, p->len))) {
		if (p->len <= PAGE)
			return -EAGAIN;
		p->len = (p->len / 2 + PAGE - 1) / PAGE * PAGE;
	}
	return 0;
}

/* How much of a request a piece can have, and the pages for it. */
static int shape(struct blkio *b, const struct blkio_req *r, struct piece *p)
{
	size_t at, most = pv_blkfront_io_max(b->f);

	p->len = r->len - r->asked;
	p->bounce = NULL;
	p->buf = NULL;
	if (!has_data(r))
		return 0;
	if (!r->len)
		return -EINVAL;
	p->buf = (uint8_t *)r->buf + r->asked;
	at = (uintptr_t)p->buf - (uintptr_t)b->memory;
	if (at < b->memory_len && p->len <= b->memory_len - at && at % pv_blkfront_offer(b->f)->sector_size == 0) {
		most -= at % PAGE;
		p->len = p->len < most ? p->len : most;
		return 0;
	}
	p->len = p->len < most ? p->len : most;
	return take_bounce(b, p);
}

/* Make one piece of a request. Returns 0, -EAGAIN: no room now, or -errno. */
static int ask_piece(struct blkio *b, struct blkio_req *r)
{
	struct piece *p = b->free;
	struct pv_blkfront_io io = { .op = r->op, .offset = r->offset + r->asked, .user = p };
	int rc = p ? shape(b, r, p) : -EAGAIN;

	if (rc < 0)
		return rc;
	io.len = p->len;
	io.buf = p->bounce ? p->bounce : p->buf;
	rc = pv_blkfront_queue(b->f, b->next_queue, &io);
	b->next_queue = (b->next_queue + 1) % pv_blkfront_queues(b->f);
	if (rc < 0) {
		pv_blkfront_buf_free(b->f, p->bounce, p->len);
		return rc;
	}
	if (p->bounce && r->op == PV_BLKFRONT_WRITE)
		memcpy(p->bounce, p->buf, p->len); /* before blkfront_submit nobody looks at it */
	b->free = p->next;
	p->req = r;
	r->asked += p->len;
	r->pieces++;
	return 0;
}

void blkio_ask(struct blkio *b, struct blkio_req *r)
{
	r->result = b->err;
	r->asked = 0;
	r->pieces = 0;
	put(b->err ? &b->done : &b->waiting, r);
}

void blkio_push(struct blkio *b)
{
	struct blkio_req *r;

	if (blkio_away(b) || b->err)
		return;
	while ((r = b->waiting.head)) {
		int rc = r->result ? r->result : ask_piece(b, r);

		if (rc == -EAGAIN)
			break;
		if (rc < 0)
			r->result = rc;
		else if (r->asked < r->len)
			continue;
		take(&b->waiting);
		if (!r->pieces)
			put(&b->done, r);
	}
	pv_blkfront_submit(b->f); /* an error is a state: blkio_follow tells */
}

/* ---- answers ---- */

static void finish(struct blkio *b, struct piece *p, int result)
{
	struct blkio_req *r = p->req;

	if (p->bounce && r->op == PV_BLKFRONT_READ && result == 0)
		memcpy(p->buf, p->bounce, p->len);
	pv_blkfront_buf_free(b->f, p->bounce, p->len);
	if (result < 0 && !r->result)
		r->result = result;
	p->req = NULL;
	p->next = b->free;
	b->free = p;
	if (!--r->pieces && r != b->waiting.head)
		put(&b->done, r);
}

static void reap(struct blkio *b)
{
	struct pv_blkfront_done done[DONE_BATCH];
	int n;

	for (unsigned q = 0; q < pv_blkfront_queues(b->f); q++)
		while ((n = pv_blkfront_reap(b->f, q, done, DONE_BATCH)) > 0)
			for (int i = 0; i < n; i++)
				finish(b, done[i].user, done[i].result);
}

struct blkio_req *blkio_done(struct blkio *b)
{
	if (!b->done.head && !b->err)
		reap(b); /* -EPROTO is a state: blkio_follow tells */
	return take(&b->done);
}

int blkio_follow(struct blkio *b)
{
	int rc = b->err ? b->err : pv_blkfront_work(b->f);

	if (rc >= 0 || b->err)
		return b->err;
	reap(b); /* a device that is detached has answered what it could */
	if (rc == -ESHUTDOWN && pv_blkfront_state(b->f) == XenbusStateClosing)
		blkio_end(b, rc, "dom0 detached it");
	else
		blkio_end(b, rc, *pv_blkfront_error(b->f) ? pv_blkfront_error(b->f) : strerror(-rc));
	return rc;
}

void blkio_end(struct blkio *b, int err, const char *why)
{
	struct blkio_req *r;

	snprintf(b->why, sizeof(b->why), "%s", why);
	b->err = err;
	while ((r = take(&b->waiting))) {
		r->result = err;
		if (!r->pieces)
			put(&b->done, r);
	}
	for (unsigned i = 0; i < b->pieces; i++)
		if (b->piece[i].req)
			finish(b, &b->piece[i], err);
}
