/* adopt.c - a queue goes on where a process that was killed, or handed over, left it. Its frontend, Linux' own for instance, notices nothing.
 *
 * Theory of operation. Answers come in any order, and each covers the slot of some request, so what is in flight cannot be read from the
 * ring: the in-flight log (inflight.h) has a record for each of the queue's requests, the k-th for q->reqs[k]. Each step is a store or
 * two, and a SIGKILL may come between any of them:
 *
 *	take	1 the slot is copied into the record, which is where it is decoded from
 *		2 the record is marked TAKEN, with the request's index
 *		3 the log says that it is taken: only now may it have an effect
 *	answer	4 the record is marked ANSWERED, with the status and the response's index, the log's `answered`
 *		5 the response is written into the ring
 *		6 the log says that it is answered
 *
 * So the next process finds, beside what is done and what was not touched:
 *	killed after 2	a record TAKEN whose index is not before `taken`. It does not count: the request is in the ring, and will be taken
 *	after 3		a record TAKEN. The request is begun again: it may have been carried out, in part or in whole, and is again. That
 *			is no harm, for until it is answered a guest can rely on nothing of it, and what it says is the same
 *	after 4, 5	a record ANSWERED that names `answered`: there is one at most. The response is written again, the same
 * A request is thus answered exactly once, and none is lost. Old records say ANSWERED too; that one of them names `answered` by chance is
 * told by the count of those TAKEN: they and it are what was taken and not answered.
 *
 * All that is LEFT is begun in the order in which it was taken, so that a barrier waits for what came before it, and checked again: the
 * segments of indirect requests are read anew from the guest's page, and a guest that rewrote them gets what it deserves, an error at
 * most. Late writes of the dead process cannot come any more: see image.h. */
#include "blkback.h"
#include <errno.h>
#include <stdio.h>

_Static_assert(sizeof(struct blkr_record) == 128, "whole cache lines");

int adopt_log_open(const struct pv_connect *c, struct pv_inflight **out, char *why, size_t len)
{
	const struct pv_inflight_shape shape = {
		.rings = c->choice.queues,
		.slots = pv_ring_slots((size_t)PV_PAGE_SIZE << c->choice.ring_order, pv_blk_slot_size(c->choice.abi)),
		.record = sizeof(struct blkr_record),
		.area = IMAGE_NOTE,
	};

	return pv_inflight_open(c, &shape, out, why, len);
}

static unsigned what(const struct blkr *r)
{
	return r->record->mark & 0xffff;
}

static uint32_t index_of(const struct blkr *r)
{
	return r->record->mark >> 32;
}

/* Into q->left, the oldest first. */
static void leave(struct blkq *q, struct blkr *r)
{
	uint32_t taken = q->ring.cons, age = taken - index_of(r);
	struct blkr **at = &q->left;

	while (*at && taken - index_of(*at) > age)
		at = &(*at)->next;
	r->next = *at;
	*at = r;
	r->state = BLKR_LEFT;
}

/* Its answer was begun, and may not be in the ring. */
static void answer_again(struct blkq *q, struct blkr *r)
{
	pv_blk_decode(&r->record->raw, q->c.abi, &r->req);
	adopt_log_answer(q, r, (int16_t)(r->record->mark >> 16));
}

int adopt_queue(struct blkq *q)
{
	uint32_t answered = q->c.log->answered, taken = q->c.log->taken;
	struct blkr *unsure = NULL;

	if (taken - answered > q->ring.nr)
		return -ENOENT;
	pv_ring_init_adopted(&q->ring, q->ring_pages, (size_t)PV_PAGE_SIZE << q->c.ring_order, q->ring.slot_size, answered, taken);
	q->free = NULL;
	for (unsigned i = q->ring.nr; i-- > 0;) {
		struct blkr *r = &q->reqs[i];

		if (what(r) == BLKR_TAKEN && index_of(r) != taken) {
			leave(q, r);
			q->stats.replayed++;
			continue;
		}
		if (what(r) == BLKR_TAKEN)
			pv_inflight_mark(&r->record->mark, 0);
		if (what(r) == BLKR_ANSWERED && index_of(r) == answered)
			unsure = r;
		r->next = q->free;
		q->free = r;
	}
	if (unsure && q->stats.replayed + 1 == taken - answered)
		answer_again(q, unsure);
	return q->stats.replayed == pv_ring_room(&q->ring) ? 0 : -ENOENT;
}

void adopt_arrive(struct blkq *q)
{
	pv_ring_publish(&q->ring);
	q->stats.notifies++;
	pv_evt_notify(q->w->hyper, q->port);
}
