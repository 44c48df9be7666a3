/* fair.c - who may wait where there is not room for all: in a receiver's backlog, at an uplink that takes no more, at another worker's ring that is full.
 *
 * Up to a bound (w->uncontended; what the uplink takes at once, or the ring) whatever comes may wait, and nothing is counted. Beyond, each sender, the uplink being
 * one of them, may hold an equal part of the rest, and one part is always left for who comes next: what one sends too much drops its own packets, those
 * of others go on. A packet says in mbuf.port by which port of the switch it came in; 63 accounts serve all of them, so that two may share one. */
#include "netback.h"

uint8_t fair_take(struct fair *f, const struct rte_mbuf *m, uint32_t cost, uint32_t room)
{
	unsigned a = m->port % (FAIR_ACCOUNTS - 1) + 1u, senders = f->senders + !f->held[a];

	if (f->held[a] && f->held[a] + cost > room / (senders + 1))
		return 0;
	f->senders = (uint8_t)senders;
	f->held[a] += cost;
	return (uint8_t)a;
}

void fair_leave(struct fair *f, uint8_t account, uint32_t cost)
{
	f->held[account] -= cost;
	f->senders -= !f->held[account];
}

bool fair_push(struct vif_queue *q, const struct rte_mbuf *m, uint32_t cost)
{
	struct nb_worker *w = q->worker;
	uint8_t account;

	if (q->broken || q->backlog_bytes + cost > w->share || q->tail - q->head == NB_BACKLOG_PACKETS)
		return false;
	account = fair_take(&q->fair.who, m, cost, w->share - w->uncontended);
	if (account)
		q->fair.account[q->tail % NB_BACKLOG_PACKETS] = account;
	return account;
}

void fair_pop(struct vif_queue *q, uint32_t slot, uint32_t cost)
{
	fair_leave(&q->fair.who, q->fair.account[slot], cost);
	q->fair.account[slot] = 0;
}
