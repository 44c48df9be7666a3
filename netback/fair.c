/* fair.c - who may wait in a receiver's backlog, when there is not room for all.
 *
 * Up to w->uncontended bytes a backlog takes whatever comes, and nothing is counted. Beyond, each sender, the uplink being one of them, may hold
 * an equal part of the rest, and one part is always left for who comes next: what one sends too much drops its own packets, those
 * of others go on. A packet says in mbuf.port by which port of the switch it came in; 63 accounts serve all of them, so that two may share one. */
#include "netback.h"

static unsigned account_of(const struct rte_mbuf *m)
{
	return m->port % (FAIR_ACCOUNTS - 1) + 1u;
}

bool fair_push(struct vif_queue *q, const struct rte_mbuf *m, uint32_t cost)
{
	struct nb_worker *w = q->worker;
	unsigned a = account_of(m), senders = q->fair.senders + !q->fair.held[a];

	if (q->broken || q->backlog_bytes + cost > w->share || q->tail - q->head == NB_BACKLOG_PACKETS)
		return false;
	if (q->fair.held[a] && q->fair.held[a] + cost > (w->share - w->uncontended) / (senders + 1))
		return false;
	q->fair.senders = (uint8_t)senders;
	q->fair.held[a] += cost;
	q->fair.account[q->tail % NB_BACKLOG_PACKETS] = (uint8_t)a;
	return true;
}

void fair_pop(struct vif_queue *q, uint32_t slot, uint32_t cost)
{
	unsigned a = q->fair.account[slot];

	q->fair.account[slot] = 0;
	q->fair.held[a] -= cost;
	q->fair.senders -= !q->fair.held[a];
}
