/* share.c - a fair share of a worker for each device, however many queues it has and however large its requests are.
 *
 * While several devices use a worker, each may take SHARE_TURN a turn, and have SHARE_FLIGHT in flight: so a turn is short, and what one
 * device asks of slow storage is not in the way of the others. A device that is alone has neither bound. A request larger than what is left passes, and
 * the next turns pay for it. "Use" is what was done within the last second or two, so that a device that pauses finds its place free. */
#include "blkback.h"
#include <errno.h>
#include <stdlib.h>

enum { RECENT = 2 }; /* periods, of which the first has begun already */
static const uint64_t period_ns = 1000000000;
static const int64_t alone = 1 << 20; /* bytes a queue and turn */

int share_join(struct blkq *q)
{
	struct blkworker *w = q->w;
	struct share *s;

	TAILQ_FOREACH(s, &w->shares, link)
		if (s->owner == q->c.owner)
			break;
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return -ENOMEM;
		s->owner = q->c.owner;
		TAILQ_INIT(&s->queues);
		TAILQ_INSERT_TAIL(&w->shares, s, link);
	}
	TAILQ_INSERT_TAIL(&s->queues, q, sharing);
	q->share = s;
	return 0;
}

void share_leave(struct blkq *q)
{
	struct share *s = q->share;

	if (!s)
		return;
	q->share = NULL;
	TAILQ_REMOVE(&s->queues, q, sharing);
	if (!TAILQ_EMPTY(&s->queues))
		return;
	q->w->users -= s->recent != 0;
	TAILQ_REMOVE(&q->w->shares, s, link);
	free(s);
}

/* What is left to pay of it after so many turns. */
static int64_t paid(int64_t taken, uint64_t turns)
{
	return turns > (uint64_t)taken / SHARE_TURN ? 0 : taken - (int64_t)turns * SHARE_TURN;
}

bool share_alone(const struct blkq *q)
{
	return q->w->users < 2;
}

int64_t share_room(struct blkq *q)
{
	struct share *s = q->share;
	int64_t turn, flight;

	q->starved = false;
	if (share_alone(q))
		return alone;
	s->taken = paid(s->taken, q->w->turns - s->turn);
	s->turn = q->w->turns;
	turn = SHARE_TURN - s->taken;
	flight = SHARE_FLIGHT - s->inflight;
	q->starved = flight <= 0;
	s->starved |= q->starved;
	flight /= SHARE_FLIGHT / SHARE_TURN; /* of small requests as many fit */
	return turn < flight ? turn : flight;
}

/* Nothing for who is alone: he keeps nobody waiting. */
int64_t share_maps(const struct blkq *q, uint64_t calls)
{
	return share_alone(q) ? 0 : (int64_t)calls * SHARE_MAP;
}

void share_took(struct blkq *q, int64_t cost)
{
	struct share *s = q->share;

	q->w->users += !s->recent;
	s->recent = RECENT;
	if (s->turn == q->w->turns)
		s->taken += cost;
}

/* Room for its queues that found none; another is first the next time. */
void share_feed(struct share *s)
{
	struct blkq *first = TAILQ_FIRST(&s->queues), *q;

	s->starved = false;
	TAILQ_FOREACH(q, &s->queues, sharing) {
		if (!q->starved)
			continue;
		q->starved = false; /* at once: the worker may ask whether it can sleep before it looks again */
		blkworker_wake(q);
	}
	TAILQ_REMOVE(&s->queues, first, sharing);
	TAILQ_INSERT_TAIL(&s->queues, first, sharing);
}

/* Who has done nothing for a while does not use the worker; who waits for I/O does. */
void share_age(struct blkworker *w, uint64_t now)
{
	struct share *s;

	if (now - w->aged_at < period_ns)
		return;
	w->aged_at = now;
	TAILQ_FOREACH(s, &w->shares, link)
		if (s->recent && !s->inflight && !--s->recent)
			w->users--;
}
