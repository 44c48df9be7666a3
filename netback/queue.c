/* queue.c - a queue's life on its worker.
 *
 *	RESTING  rings armed, ports unmasked: an event, or a packet from the switch, makes it
 *	ACTIVE   in worker->active, looked at each turn, its events masked; when it had nothing to do for a while, RESTING again
 *	WAITING  its vif is beyond its limit: heard, but what waits in its rings is looked at again by a timer
 *	PENANCE  its guest sent several events in a row for nothing (XSA-331): unmasked, and so heard, only after a pause
 *	HELD	 adopted, and those that it sends to may not be back yet: looked at when pviod says that all are; or about to be handed over
 * A broken queue is never looked at again; the control thread takes it away. */
#include "netback.h"
#include <rte_cycles.h>
#include <rte_mempool.h>

enum { SPURIOUS_FREE = 4, PENANCE_US = 50, PENANCE_DOUBLINGS = 5, SILENT_MS = 30 /* as Linux */ };

static void leave_list(struct vif_queue *q)
{
	if (q->state == VIF_ACTIVE)
		TAILQ_REMOVE(&q->worker->active, q, link);
	else if (q->state != VIF_RESTING && q->state != VIF_HELD)
		TAILQ_REMOVE(&q->worker->later, q, link);
	q->state = VIF_RESTING;
}

void queue_activate(struct vif_queue *q)
{
	if (q->state == VIF_HELD)
		q->rx_log->waiting = q->tail - q->head; /* it has no turns that would say so */
	if (q->state == VIF_ACTIVE || q->state == VIF_HELD || q->broken)
		return;
	leave_list(q);
	TAILQ_INSERT_TAIL(&q->worker->active, q, link);
	q->state = VIF_ACTIVE;
	q->last = q->worker->tsc;
}

void queue_hold(struct vif_queue *q)
{
	leave_list(q);
	q->state = VIF_HELD;
}

void vif_broken(struct vif *vif, const char *why)
{
	const char *none = NULL;

	/* Pairs with the acquire in vif_reap_broken. */
	__atomic_compare_exchange_n(&vif->broken, &none, why, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	netback_wake(vif->nb);
}

void queue_broken(struct vif_queue *q, const char *why)
{
	q->broken = true; /* leaves the active list at the end of the turn: somebody may be walking it */
	vif_broken(q->vif, why);
}

void queue_unmask(struct vif_queue *q)
{
	if (q->masked & 1)
		turn_unmask(q->worker, q->tx_port);
	if (q->masked & 2)
		turn_unmask(q->worker, q->rx_port);
	q->masked = 0;
}

/* Would the guest tell us of everything from now on? Asks it to, and looks again. */
static bool armed(struct vif_queue *q)
{
	int n = q->tx_until ? 0 : pv_ring_rearm(&q->tx, 1); /* beyond its limit a timer looks, and events would only disturb */

	if (!n && q->head != q->tail && !q->rx_until) { /* its rx requests matter only while a packet waits for them */
		unsigned need = RTE_MAX(q->need, 1);

		n = pv_ring_rearm(&q->rx, need);
		if (n >= 0 && (unsigned)n < need)
			n = 0;
	}
	if (n < 0)
		queue_broken(q, "its ring's producer index is impossible");
	return !n;
}

/* Look at it again at that time. */
static void later(struct vif_queue *q, uint8_t state, uint64_t at)
{
	q->later_at = at;
	q->state = state;
	TAILQ_INSERT_TAIL(&q->worker->later, q, link);
}

/* The earlier of the times at which a limited queue may go on; 0: it is not limited. */
static uint64_t limited_until(const struct vif_queue *q)
{
	if (!q->tx_until || !q->rx_until)
		return q->tx_until | q->rx_until;
	return (int64_t)(q->tx_until - q->rx_until) < 0 ? q->tx_until : q->rx_until;
}

void queue_rest(struct vif_queue *q)
{
	struct nb_worker *w = q->worker;
	uint64_t until = limited_until(q);
	uint32_t doublings;

	if (!q->broken && q->head != q->tail && !q->rx_until && q->vif->features & PV_VIF_NO_RX_NOTIFY) {
		if (w->tsc - q->moved < w->nb->tsc_second / 1000 * SILENT_MS)
			return; /* it will not tell when it posts pages: look */
		backlog_drop(q);
	}
	if (!q->broken && !armed(q) && !q->broken)
		return;
	leave_list(q);
	if (q->broken)
		return;
	q->spurious = q->woken ? q->spurious + 1 : 0;
	q->n.spurious += q->woken;
	q->woken = false;
	if (q->spurious <= SPURIOUS_FREE) {
		queue_unmask(q);
		if (until)
			later(q, VIF_WAITING, until);
		return;
	}
	doublings = RTE_MIN(q->spurious - SPURIOUS_FREE, (uint32_t)PENANCE_DOUBLINGS);
	later(q, VIF_PENANCE, w->tsc + w->nb->tsc_second / 1000000 * (PENANCE_US << doublings));
}

void queue_later(struct vif_queue *q)
{
	bool look = q->state == VIF_WAITING || q->woken /* by its other port */ || limited_until(q);

	leave_list(q);
	if (look)
		queue_activate(q);
	else
		queue_unmask(q);
}

static int know_port(struct nb_worker *w, uint32_t port, struct vif_queue *q)
{
	if (port >= w->nr_ports) {
		uint32_t nr = rte_align32pow2(port + 1);
		struct vif_queue **p = realloc(w->by_port, nr * sizeof(*p));

		if (!p)
			return -ENOMEM;
		memset(p + w->nr_ports, 0, (nr - w->nr_ports) * sizeof(*p));
		w->by_port = p;
		w->nr_ports = nr;
	}
	w->by_port[port] = q;
	return 0;
}

static int bind_port(struct vif_queue *q, const char *what, uint32_t remote, bool adopt, uint32_t *local, char *why, size_t len)
{
	struct nb_worker *w = q->worker;
	int port = pv_backend_bind(w->h, q->vif->id.guest, remote, adopt), ret;

	if (port < 0)
		return pv_why(why, len, port, "%s: queue %u: cannot bind the guest's %s port %u: %s", q->vif->name, q->index, what,
			      remote, pv_hyper_error(w->h));
	*local = (uint32_t)port;
	ret = know_port(w, *local, q);
	return ret < 0 ? pv_why(why, len, ret, "%s: queue %u: out of memory", q->vif->name, q->index) : 0;
}

static int bind_ports(struct vif_queue *q, const struct pv_noxs_vif_queue *c, bool adopt, char *why, size_t len)
{
	int ret = bind_port(q, "tx", c->tx_port, adopt, &q->tx_port, why, len);

	if (ret < 0)
		return ret;
	if (c->rx_port != c->tx_port)
		return bind_port(q, "rx", c->rx_port, adopt, &q->rx_port, why, len);
	q->rx_port = q->tx_port;
	return 0;
}

static int begin_rings(struct vif_queue *q, bool adopt, char *why, size_t len)
{
	uint8_t *tx = q->pages, *rx = tx + PV_PAGE_SIZE;
	int ret = 0;

	if (adopt)
		ret = adopt_rings(q, tx, rx);
	if (ret < 0)
		return pv_why(why, len, ret, "%s: queue %u: its in-flight log makes no sense", q->vif->name, q->index);
	if (adopt) {
		adopt_arrive(q);
	} else {
		pv_ring_init_back(&q->tx, tx, PV_PAGE_SIZE, PV_NET_TX_SLOT);
		pv_ring_init_back(&q->rx, rx, PV_PAGE_SIZE, PV_NET_RX_SLOT);
	}
	return 0;
}

int queue_attach(struct vif_queue *q, const struct pv_noxs_vif_queue *c, bool adopt, char *why, size_t len)
{
	struct nb_worker *w = q->worker;
	const uint32_t grefs[2] = { c->tx_gref, c->rx_gref };
	int ret = pv_gnt_map(w->h, q->vif->id.guest, grefs, 2, true, NULL, &q->pages);

	w->nr_queues++;
	if (ret < 0) {
		q->pages = NULL;
		pv_why(why, len, ret, "%s: queue %u: cannot map its rings, grefs %u and %u: %s", q->vif->name, q->index, grefs[0],
		       grefs[1], pv_hyper_error(w->h));
	} else {
		ret = bind_ports(q, c, adopt, why, len);
		if (ret == 0)
			ret = begin_rings(q, adopt, why, len);
	}
	if (ret < 0)
		queue_detach(q);
	else if (adopt)
		queue_hold(q);
	else
		queue_activate(q); /* the guest may have published before we came */
	return ret;
}

static void forget_port(struct nb_worker *w, uint32_t port)
{
	if (!port)
		return;
	if (port < w->nr_ports)
		w->by_port[port] = NULL;
	pv_evt_unbind(w->h, port);
}

void queue_detach(struct vif_queue *q)
{
	struct nb_worker *w = q->worker;

	leave_list(q);
	q->broken = true; /* nothing is pushed any more */
	while (q->head != q->tail)
		rte_pktmbuf_free(q->backlog[q->head++ % NB_BACKLOG_PACKETS]);
	q->backlog_bytes = 0;
	if (q->rx_port != q->tx_port)
		forget_port(w, q->rx_port);
	forget_port(w, q->tx_port);
	q->tx_port = q->rx_port = 0;
	if (q->pages)
		pv_gnt_unmap(w->h, q->pages, 2);
	q->pages = NULL;
	w->nr_queues--;
}
