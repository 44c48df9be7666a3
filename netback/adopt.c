/* adopt.c - a queue goes on where a process that was killed, or handed over, left it. Its frontend, Linux' own for instance, notices nothing.
 *
 * Theory of operation. What is known is in the in-flight log (inflight.h): all before `answered` is answered, and is published once more;
 * all from `taken` on is as the guest wrote it, to be served as ever. What lies between was taken by one turn, 64 slots and the end of a
 * chain at most, and each of these requests is answered here, exactly once: a frontend gives a buffer back by its id, and both an id that
 * comes twice and one that never comes break it (Linux' netfront stops the interface at the former and leaks a grant with the latter).
 *	tx	The packet may be on its way already, so it is not sent again: NETIF_RSP_DROPPED. Whether a slot still holds the request, or
 *		the response to it that was not published, makes no difference, for a response leaves alone what is needed of a request: all
 *		but its gref (pv_net_tx_fill_rsp). Where a chain has extra-info says its first slot, where that ends its flags.
 *	rx	A response covers the whole request, and extra-info its id too, so the ids are kept in the log. Each slot is answered with an
 *		error, as a packet of its own: a frontend posts the page again.
 * What the guest told beside its packets is in the log's area (keep.h).
 * Packets that waited for the guest died with the process. All of these are counted, `tx_lost` and `rx_lost`. A guest that rewrites its
 * ring meanwhile gets answers with ids of its own making, or, for an impossible index, its device is broken in the first turn. */
#include "netback.h"
#include <unistd.h>

enum { RINGS = 2 /* a queue: tx, rx */, RING_SLOTS = 256, LEAVE_MS = 50 };

int adopt_log_open(const struct pv_connect *c, struct vif *vif, char *why, size_t len)
{
	const struct pv_inflight_shape shape = { .rings = vif->nr_queues * RINGS, .slots = RING_SLOTS, .record = sizeof(uint16_t),
						 .area = (uint32_t)keep_bytes(vif->nr_queues) };
	char fault[200];
	int ret;

	ret = pv_inflight_open(c, &shape, &vif->inflight, fault, sizeof(fault));
	if (ret < 0)
		return pv_why(why, len, ret, "%s: cannot be taken over: %s", vif->name, fault);
	for (unsigned i = 0; i < vif->nr_queues; i++) {
		vif->queues[i].tx_log = pv_inflight_ring(vif->inflight, i * RINGS);
		vif->queues[i].rx_log = pv_inflight_ring(vif->inflight, i * RINGS + 1);
	}
	vif->keep = pv_inflight_area(vif->inflight);
	if (!keep_sound(vif->keep, vif->nr_queues))
		return pv_why(why, len, -ENOENT, "%s: cannot be taken over: its in-flight log makes no sense", vif->name);
	vif->mcast = (struct mcast){ .addr = vif->keep->group };
	return 0;
}

static void answer_tx(struct vif_queue *q)
{
	bool more = false, extra = false;

	while (pv_ring_room(&q->tx)) {
		union pv_net_tx_slot s;

		s.req = *(const volatile struct netif_tx_request *)pv_ring_slot(&q->tx, q->tx.prod);
		if (extra) {
			extra = s.extra.flags & XEN_NETIF_EXTRA_FLAG_MORE;
			pv_net_tx_fill_rsp_null(&q->tx, &s);
			continue;
		}
		if (!more) {
			extra = s.req.flags & NETTXF_extra_info;
			q->n.tx_lost++;
		}
		more = s.req.flags & NETTXF_more_data;
		pv_net_tx_fill_rsp(&q->tx, s.req.id, NETIF_RSP_DROPPED);
	}
}

static void answer_rx(struct vif_queue *q)
{
	q->n.rx_lost += q->rx_log->waiting + pv_ring_room(&q->rx);
	while (pv_ring_room(&q->rx))
		pv_net_rx_fill_rsp(&q->rx, *rx_id(q, q->rx.prod), 0, 0, NETIF_RSP_ERROR);
}

/* ---- what no queue has: packets on their way between workers, and at uplinks ---- */

/* What the process of these logs had, or more: a packet is posted before it is in another worker's ring, and taken, or not held any more, only when
 * the log of whatever has it now says so. Killed in between, it is counted twice. */
static uint64_t sum(const struct worker_log *log)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < NB_WORKERS_MAX; i++)
		n += log[i].held + log[i].posted - log[i].taken;
	return n;
}

/* In the file, if no other process has that. */
static int open_logs(struct netback *nb, char *why, size_t len)
{
	const uint32_t bytes = NB_WORKERS_MAX * sizeof(struct worker_log);
	int ret = pv_inflight_open_process(nb->opt.name, bytes, &nb->inflight, why, len);

	if (ret < 0)
		return ret;
	nb->worker_log = pv_inflight_area(nb->inflight);
	nb->lost = sum(nb->worker_log);
	memset(nb->worker_log, 0, bytes);
	return 0;
}

int adopt_workers_open(struct netback *nb, char *why, size_t len)
{
	if (open_logs(nb, why, len) < 0) /* the process before us is not gone yet: adopt_resume looks again */
		nb->worker_log = calloc(NB_WORKERS_MAX, sizeof(struct worker_log));
	return nb->worker_log ? 0 : pv_why(why, len, -ENOMEM, "out of memory");
}

static int move_log(void *arg)
{
	struct nb_worker *w = arg;
	struct worker_log *to = &w->nb->worker_log[w->index];

	*to = *w->log;
	w->log = to;
	return 0;
}

static void move_logs(struct netback *nb)
{
	struct worker_log *ours = nb->worker_log;
	char why[300];

	if (open_logs(nb, why, sizeof(why)) < 0)
		return;
	for (unsigned i = 0; i < nb->nr_workers; i++)
		pv_worker_call(nb->workers[i]->pw, move_log, nb->workers[i]);
	free(ours);
}

void adopt_workers_close(struct netback *nb)
{
	if (!nb->worker_log)
		return;
	if (!nb->inflight)
		free(nb->worker_log);
	else if (!sum(nb->worker_log))
		pv_inflight_remove_process(nb->opt.name);
	pv_inflight_close(nb->inflight);
	nb->inflight = NULL;
	nb->worker_log = NULL;
}

void adopt_log_worker(struct nb_worker *w)
{
	uint64_t held = w->left;

	for (unsigned i = 0; i < w->nr_up; i++)
		held += w->up[i].n;
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* after what queues have: the order of the program is all that counts, as in inflight.h */
	__atomic_store_n(&w->log->held, held, __ATOMIC_RELAXED);
	__atomic_store_n(&w->log->taken, w->taken, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* before what is answered */
}

/* ---- a queue's ---- */

static bool sound(const struct pv_inflight_ring *log)
{
	return log->taken - log->answered <= RING_SLOTS;
}

int adopt_rings(struct vif_queue *q, void *tx, void *rx)
{
	const struct pv_inflight_ring *t = q->tx_log, *r = q->rx_log;

	if (!sound(t) || !sound(r))
		return -ENOENT;
	pv_ring_init_adopted(&q->tx, tx, PV_PAGE_SIZE, PV_NET_TX_SLOT, t->answered, t->taken);
	pv_ring_init_adopted(&q->rx, rx, PV_PAGE_SIZE, PV_NET_RX_SLOT, r->answered, r->taken);
	answer_tx(q);
	answer_rx(q);
	q->rx_log->waiting = 0;
	adopt_log_turn(q);
	pv_ring_publish(&q->tx);
	pv_ring_publish(&q->rx);
	return 0;
}

static int leave(void *arg)
{
	((struct nb_worker *)arg)->leaving = true;
	return 0;
}

static int waiting(void *arg)
{
	const struct nb_worker *w = arg;
	bool any = w->posts_wait || !rte_ring_empty(w->posts);

	for (unsigned i = 0; i < w->nr_up; i++)
		any |= w->up[i].n > 0;
	for (uint32_t port = 0; port < w->nr_ports; port++)
		any |= w->by_port[port] && w->by_port[port]->head != w->by_port[port]->tail;
	return any;
}

void adopt_leave(struct netback *nb)
{
	bool more = true;

	for (unsigned i = 0; i < nb->nr_workers; i++)
		pv_worker_call(nb->workers[i]->pw, leave, nb->workers[i]);
	for (unsigned tries = 0; more && tries < LEAVE_MS; tries++) {
		more = false;
		for (unsigned i = 0; i < nb->nr_workers; i++)
			more |= pv_worker_call(nb->workers[i]->pw, waiting, nb->workers[i]) > 0;
		if (more)
			usleep(1000);
	}
}

static int hold(void *arg)
{
	struct nb_worker *w = arg;

	for (uint32_t port = 0; port < w->nr_ports; port++)
		if (w->by_port[port])
			queue_hold(w->by_port[port]);
	return 0;
}

void adopt_hold(struct netback *nb)
{
	for (unsigned i = 0; i < nb->nr_workers; i++)
		pv_worker_call(nb->workers[i]->pw, hold, nb->workers[i]);
}

static int resume(void *arg)
{
	struct nb_worker *w = arg;

	for (uint32_t port = 0; port < w->nr_ports; port++) {
		struct vif_queue *q = w->by_port[port];

		if (!q || q->state != VIF_HELD)
			continue;
		q->state = VIF_RESTING;
		queue_activate(q);
	}
	return 0;
}

void adopt_resume(void *ctx)
{
	struct netback *nb = ctx;

	if (!nb->inflight) /* whoever had our devices' logs is gone now */
		move_logs(nb);
	for (unsigned i = 0; i < nb->nr_workers; i++)
		pv_worker_call(nb->workers[i]->pw, resume, nb->workers[i]);
}

void adopt_arrive(struct vif_queue *q)
{
	pv_evt_notify(q->worker->h, q->tx_port);
	if (q->rx_port != q->tx_port)
		pv_evt_notify(q->worker->h, q->rx_port);
	q->n.notifies += 1 + (q->rx_port != q->tx_port);
}
