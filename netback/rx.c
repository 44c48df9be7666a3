/* rx.c - to a guest: a backlog a queue, filled by the switch; copied into the pages that the guest posted, in one batch a turn.
 *
 * A guest may post none: the backlog is bounded by the memory that it pins, and what does not fit is dropped and counted. */
#include "netback.h"

/* Pages that the packet needs, and one for what is to be said about it. */
static unsigned slots_of(const struct rte_mbuf *m)
{
	return (m->pkt_len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE + !!(m->ol_flags & NB_GSO);
}

static uint32_t cost_of(const struct nb_worker *w, const struct rte_mbuf *m)
{
	return m->nb_segs * w->nb->seg_cost;
}

void rx_push(struct vif_queue *q, struct rte_mbuf *m)
{
	struct nb_worker *w = q->worker;
	uint32_t cost = cost_of(w, m);

	if (unlikely(q->broken || q->backlog_bytes + cost > w->share || q->tail - q->head == NB_BACKLOG_PACKETS)) {
		q->n.rx_full++;
		rte_pktmbuf_free(m);
		return;
	}
	if (q->head == q->tail)
		q->moved = w->tsc;
	q->backlog[q->tail++ % NB_BACKLOG_PACKETS] = m;
	q->backlog_bytes += cost;
	if (q->state != VIF_ACTIVE)
		queue_activate(q);
}

static void give(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m)
{
	unsigned i = vif->nr_queues > 1 ? csum_flow_hash(m) % vif->nr_queues : 0;
	struct vif_queue *q = &vif->queues[i];

	if (q->worker == w)
		rx_push(q, m);
	else
		post_send(w, q->worker, &(struct post){ m, vif->generation, (uint16_t)vif->port, (uint8_t)vif->bridge->index, (uint8_t)i });
}

static void count_drop(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); /* a counter orders nothing */
}

static void cut_and_give(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m)
{
	struct rte_mbuf *piece[GSO_PIECES_MAX];
	int n = gso_cut(w->nb->pool, m, piece);

	rte_pktmbuf_free(m);
	if (n < 0) {
		count_drop(&vif->rx_no_memory);
		turn_no_memory(w);
	}
	for (int i = 0; i < n; i++)
		give(w, vif, piece[i]);
}

void rx_send(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m)
{
	uint64_t flags = m->ol_flags & (NB_GSO | NB_BLANK | NB_GSO_V6);
	bool gso = flags & NB_GSO;
	uint32_t len = gso ? m->l2_len + m->l3_len + m->l4_len + (uint32_t)m->tso_segsz : m->pkt_len;

	if (unlikely(__atomic_load_n(&vif->steps, __ATOMIC_ACQUIRE)) && !step_to(w, vif, m))
		return;
	if (unlikely(len > __atomic_load_n(&vif->frame_max, __ATOMIC_RELAXED))) {
		count_drop(&vif->rx_too_big);
		rte_pktmbuf_free(m);
		return;
	}
	if (gso && (m->pkt_len > UINT16_MAX || !(vif->features & (flags & NB_GSO_V6 ? PV_VIF_GSO_TCPV6 : PV_VIF_GSO_TCPV4)))) {
		cut_and_give(w, vif, m);
		return;
	}
	if (flags == NB_BLANK) {
		enum nb_l4 l4 = csum_headers(m);
		bool v6 = l4 == NB_L4_TCP6 || l4 == NB_L4_UDP6;

		if (!(vif->features & (v6 ? PV_VIF_CSUM_IPV6 : PV_VIF_CSUM_IPV4))) {
			csum_l4(m, l4);
			m->ol_flags &= ~NB_BLANK;
		}
	}
	give(w, vif, m);
}

/* Take the requests that m needs and plan its copies. */
static void plan(struct vif_queue *q, struct rte_mbuf *m, unsigned need)
{
	struct nb_worker *w = q->worker;
	struct rx_packet *r = &w->rx[w->nr_rx++];
	struct chain_at at = { .seg = m };
	uint32_t left = m->pkt_len;

	r->queue = q;
	r->m = m;
	r->op = (uint16_t)w->nr_ops;
	r->first = q->rx.cons;
	r->slots = (uint16_t)need;
	for (unsigned i = 0; i < need; i++) {
		struct netif_rx_request req;
		uint16_t off = 0, room;

		pv_net_rx_take(&q->rx, &req);
		*rx_id(q, r->first + i) = req.id;
		if (i == 1 && m->ol_flags & NB_GSO)
			continue; /* this one carries the extra-info, not its page */
		room = (uint16_t)RTE_MIN(left, (uint32_t)PV_PAGE_SIZE);
		left -= room;
		while (off < room) {
			struct pv_gnt_copy *op = &w->ops[w->nr_ops++];

			op->to.local = NULL;
			op->to.gref = req.gref;
			op->to.domid = q->vif->id.guest;
			op->to.offset = off;
			op->len = (uint16_t)chain_piece(&at, room - off, &op->from.local);
			off += op->len;
		}
	}
	r->ops = (uint16_t)(w->nr_ops - r->op);
	pv_inflight_take(q->rx_log, q->rx.cons);
}

static bool turn_has_room(const struct nb_worker *w)
{
	return w->nr_ops + NB_PACKET_OPS <= NB_TURN_OPS && w->nr_rx < NB_TURN_PACKETS;
}

void rx_plan(struct vif_queue *q)
{
	struct nb_worker *w = q->worker;
	unsigned used = 0;
	int ready;

	if (q->head == q->tail)
		return;
	ready = pv_ring_ready(&q->rx);
	if (ready < 0) {
		queue_broken(q, "its rx ring's producer index is impossible");
		return;
	}
	while (q->head != q->tail && used < NB_QUEUE_SLOTS && turn_has_room(w)) {
		struct rte_mbuf *m = q->backlog[q->head % NB_BACKLOG_PACKETS];
		unsigned need = slots_of(m);

		if (need > (unsigned)ready - used) {
			if (!q->need)
				q->n.rx_stalls++;
			q->need = (uint16_t)need;
			return;
		}
		q->need = 0;
		q->worked = true;
		plan(q, m, need);
		used += need;
		q->head++;
		q->backlog_bytes -= cost_of(w, m);
		q->moved = w->tsc;
	}
}

void rx_reclaim(struct nb_worker *w)
{
	for (uint32_t port = 0; port < w->nr_ports; port++) {
		struct vif_queue *q = w->by_port[port];

		if (!q || q->head == q->tail || w->tsc - q->moved < w->nb->tsc_second)
			continue;
		q->n.rx_full += q->tail - q->head;
		while (q->head != q->tail)
			rte_pktmbuf_free(q->backlog[q->head++ % NB_BACKLOG_PACKETS]);
		q->backlog_bytes = 0;
		q->need = 0;
	}
}

/* The responses of one packet, each in the slot of its request. A failed packet keeps its shape: the frontend must know where it ends. */
static void answer(const struct rx_packet *r, bool ok)
{
	struct pv_ring *ring = &r->queue->rx;
	bool gso = r->m->ol_flags & NB_GSO;
	uint32_t left = r->m->pkt_len;

	for (unsigned i = 0; i < r->slots; i++) {
		uint16_t len = (uint16_t)RTE_MIN(left, (uint32_t)PV_PAGE_SIZE), flags = 0;

		if (i == 1 && gso) {
			*(struct netif_extra_info *)pv_ring_fill(ring) = (struct netif_extra_info){
				.type = XEN_NETIF_EXTRA_TYPE_GSO,
				.u.gso = { .size = r->m->tso_segsz,
					   .type = r->m->ol_flags & NB_GSO_V6 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4 },
			};
			continue;
		}
		left -= len;
		if (left)
			flags |= NETRXF_more_data;
		if (!i) {
			flags |= gso ? NETRXF_extra_info : 0;
			flags |= r->m->ol_flags & NB_BLANK ? NETRXF_csum_blank : 0;
			flags |= r->m->ol_flags & NB_VALID ? NETRXF_data_validated : 0;
		}
		pv_net_rx_fill_rsp(ring, *rx_id(r->queue, r->first + i), 0, flags, ok ? (int16_t)len : NETIF_RSP_ERROR);
	}
}

void rx_finish(struct nb_worker *w)
{
	if (!w->nr_rx)
		return;
	pv_gnt_copy(w->h, w->ops, w->nr_ops); /* if the batch did not run, every status says so */
	for (unsigned i = 0; i < w->nr_rx; i++) {
		struct rx_packet *r = &w->rx[i];
		bool ok = true;

		for (unsigned j = 0; j < r->ops; j++)
			ok &= w->ops[r->op + j].status == GNTST_okay;
		answer(r, ok);
		if (likely(ok)) {
			r->queue->n.rx_packets++;
			r->queue->n.rx_bytes += r->m->pkt_len;
		} else {
			r->queue->n.rx_copy_failed++;
		}
		w->done[i] = r->m;
	}
	rte_pktmbuf_free_bulk(w->done, w->nr_rx);
	w->nr_rx = w->nr_ops = 0;
}
