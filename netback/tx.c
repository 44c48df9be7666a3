/* tx.c - from a guest: take its slots, plan the copies, and when the batch was copied, answer and forward.
 *
 * take -> parse -> plan		tx_work, for each active queue
 * one pv_gnt_copy			tx_finish, for a batch of them together
 * answer, forward
 * A batch is so small that it is in the CPU's first cache from its copy until it has left, and its segments, which are at hand again then,
 * are taken for the next one while they are still there.
 * A packet is private from the copy on: parser, switch and wire see only the copy. A slot is answered only after the copy. */
#include "netback.h"

enum { BATCH_BYTES = 24 << 10 };
_Static_assert((2 * NB_QUEUE_SLOTS + (int)PV_NET_CHAIN_MAX) * NB_SLOT_OPS <= NB_TURN_OPS &&
	       2 * NB_QUEUE_SLOTS + (int)PV_NET_CHAIN_MAX <= (int)NB_TURN_PACKETS, "a batch fits into the worker's arrays");

/* What the guest says about its packet beside the bytes; forward() believes it only after a look at the headers. */
static uint64_t flags_of(uint16_t flags)
{
	if (flags & NETTXF_csum_blank)
		return NB_BLANK | NB_VALID; /* it never left the machine */
	return flags & NETTXF_data_validated ? NB_VALID : 0;
}

static void set_flags(struct rte_mbuf *m, const struct pv_net_packet *p)
{
	m->ol_flags |= flags_of(p->flags);
	if (!p->gso_type)
		return;
	m->ol_flags |= NB_GSO | NB_BLANK | NB_VALID | (p->gso_type == XEN_NETIF_GSO_TYPE_TCPV6 ? NB_GSO_V6 : 0);
	m->tso_segsz = p->gso_size;
}

/* One copy of a slot's bytes to the end of a segment: now, if the page is a static grant, else in the batch. */
static inline void plan_copy(struct vif_queue *q, uint32_t gref, uint16_t off, uint16_t n, struct rte_mbuf *seg)
{
	struct nb_worker *w = q->worker;
	struct pv_gnt_copy *op;
	const uint8_t *page = NULL;

	if (unlikely(q->statics != NULL))
		page = statics_find(q->statics, gref, false);
	if (page) {
		memcpy(rte_pktmbuf_mtod_offset(seg, void *, seg->data_len), page + off, n);
		seg->data_len += n;
		return;
	}
	op = &w->ops[w->nr_ops++];
	op->from.local = NULL;
	op->from.gref = gref;
	op->from.domid = q->vif->id.guest;
	op->from.offset = off;
	op->to.local = rte_pktmbuf_mtod_offset(seg, void *, seg->data_len);
	op->len = n;
	seg->data_len += n;
}

static struct rte_mbuf *add_segment(struct nb_worker *w, struct rte_mbuf *m, struct rte_mbuf *last)
{
	struct rte_mbuf *seg = pool_page(&w->spare);

	if (seg) {
		last->next = seg;
		m->nb_segs++;
	}
	return seg;
}

/* A slot goes behind what is there, if it fits, and else into a segment of its own: one copy each. But headers are in the first
 * segment whatever slots they came in (XSA-423). Returns 0 or -ENOMEM. */
static int plan_copies(struct vif_queue *q, const struct pv_net_packet *p, struct rte_mbuf *m)
{
	struct rte_mbuf *seg = m;

	for (unsigned i = 0; i < p->nr; i++) {
		uint16_t off = p->frag[i].offset, left = p->frag[i].size, room = PV_PAGE_SIZE - seg->data_off - seg->data_len;

		if (left > room && seg == m && m->data_len < NB_HEADERS) {
			uint16_t n = RTE_MIN(left, (uint16_t)(NB_HEADERS - m->data_len));

			plan_copy(q, p->frag[i].gref, off, n, m);
			off += n;
			left -= n;
			room -= n;
		}
		if (left > room)
			seg = add_segment(q->worker, m, seg);
		if (unlikely(!seg))
			return -ENOMEM;
		if (left) /* 0 is legal: nothing to copy (XSA-448) */
			plan_copy(q, p->frag[i].gref, off, left, seg);
	}
	return 0;
}

/* A packet of the chain, its copies planned. NULL: there is none, and *status says why. */
static struct rte_mbuf *plan_packet(struct vif_queue *q, const struct pv_net_packet *p, int8_t *status)
{
	struct nb_worker *w = q->worker;
	unsigned op = w->nr_ops;
	struct rte_mbuf *m;

	*status = NETIF_RSP_ERROR;
	if (unlikely(p->mcast)) {
		*status = (int8_t)mcast_change(&q->vif->mcast, p->mcast, p->mcast_addr);
		return NULL;
	}
	if (unlikely(p->drop)) {
		q->n.tx_bad++;
		return NULL;
	}
	m = pool_first(&w->spare, p->len);
	if (unlikely(!m || plan_copies(q, p, m) < 0)) {
		*status = NETIF_RSP_DROPPED;
		q->n.tx_no_memory++;
		turn_no_memory(w);
		rte_pktmbuf_free(m);
		w->nr_ops = op;
		return NULL;
	}
	m->pkt_len = p->len;
	set_flags(m, p);
	w->tx_bytes += p->len;
	return m;
}

static void plan(struct vif_queue *q, const struct pv_net_packet *p, unsigned slot, unsigned slots)
{
	struct nb_worker *w = q->worker;
	struct tx_run *r = &w->tx_run[w->nr_tx_runs++];

	*r = (struct tx_run){ .queue = q, .op = (uint16_t)w->nr_ops, .slot = (uint16_t)slot, .slots = (uint16_t)slots, .extras = p->extras };
	w->tx[w->nr_tx++] = plan_packet(q, p, &r->status);
	r->ops = (uint16_t)(w->nr_ops - r->op);
}

/* The packets of one slot that the slots from `at` on begin with, in a row, as plan does. Returns how many: up to the first that is not one, that
 * lies in a static grant, or that there is no memory for. */
static unsigned plan_plain(struct vif_queue *q, unsigned at, unsigned n)
{
	struct nb_worker *w = q->worker;
	const union pv_net_tx_slot *s = &w->slots[at];
	struct rte_mbuf **out = &w->tx[w->nr_tx];
	struct pv_gnt_copy *op = &w->ops[w->nr_ops];
	uint16_t guest = q->vif->id.guest;
	uint32_t bytes = 0;
	unsigned done = 0;

	for (; done < n && likely(pv_net_tx_plain(s)); done++, s++, op++) {
		struct rte_mbuf *m;

		if (unlikely(q->statics != NULL) && statics_find(q->statics, s->req.gref, false))
			break; /* nothing of it goes into the batch */
		m = pool_first(&w->spare, s->req.size);
		if (unlikely(!m))
			break;
		op->from = (struct pv_gnt_end){ .gref = s->req.gref, .domid = guest, .offset = s->req.offset };
		op->to.local = rte_pktmbuf_mtod(m, void *);
		op->len = s->req.size;
		m->pkt_len = m->data_len = s->req.size;
		m->ol_flags |= flags_of(s->req.flags);
		bytes += s->req.size;
		out[done] = m;
	}
	if (!done)
		return 0;
	w->tx_run[w->nr_tx_runs++] = (struct tx_run){ .queue = q, .op = (uint16_t)w->nr_ops, .slot = (uint16_t)at, .plain = (uint16_t)done };
	w->nr_tx += done;
	w->nr_ops += done;
	w->tx_bytes += bytes;
	return done;
}

/* A chain of which so many slots were taken goes on: take its next one. Linux publishes whole chains only, and so must a guest:
 * -EPROTO if there is no next one. */
static int take_more(struct vif_queue *q, unsigned taken, int *ready)
{
	if (!*ready) {
		*ready = pv_ring_ready(&q->tx);
		if (*ready <= 0)
			return -EPROTO;
	}
	--*ready;
	pv_net_tx_take(&q->tx, &q->worker->slots[q->worker->nr_slots + taken]);
	return 0;
}

/* Take slots: at most `most`, and of large packets no more than a batch's worth. Returns how many. */
static unsigned take(struct vif_queue *q, unsigned most)
{
	union pv_net_tx_slot *slots = &q->worker->slots[q->worker->nr_slots];
	struct pv_ring ring = q->tx; /* a copy, which the compiler keeps in registers: no slot that is written may be a part of it */
	unsigned size, batch, n = 1;

	pv_net_tx_take(&ring, slots);
	size = slots->req.size; /* a packet's, if it is honest */
	if (size > BATCH_BYTES / NB_QUEUE_SLOTS) {
		batch = RTE_MAX(BATCH_BYTES / size, size / PV_PAGE_SIZE + 2);
		most = RTE_MIN(most, batch);
	}
	for (; n < most; n++)
		pv_net_tx_take(&ring, slots + n);
	q->tx = ring;
	return n;
}

/* What was taken since `first` is paid for, whatever becomes of it. */
static void charge(struct nb_worker *w, struct limit *limit, unsigned first)
{
	uint64_t bytes = 0;

	for (unsigned i = first; i < w->nr_tx; i++)
		bytes += w->tx[i] ? w->tx[i]->pkt_len : 0;
	pv_limit_charge(&limit->tx, bytes, w->nr_tx - first);
}

/* A batch's worth of what is ready. Returns the slots that it took. */
static unsigned collect(struct vif_queue *q, int *ready, unsigned most)
{
	struct nb_worker *w = q->worker;
	struct pv_net_packet p;
	unsigned at = 0, taken = take(q, RTE_MIN(most, (unsigned)*ready));
	int used;

	*ready -= (int)taken;
	while ((at += plan_plain(q, w->nr_slots + at, taken - at)) < taken) {
		used = pv_net_tx_parse(&w->slots[w->nr_slots + at], taken - at, &p);
		if (!used && !take_more(q, taken, ready)) {
			taken++;
			continue;
		}
		if (used <= 0) {
			queue_broken(q, used ? "it sent an illegal tx chain" : "it published a part of a tx chain");
			break;
		}
		plan(q, &p, w->nr_slots + at, (unsigned)used);
		at += (unsigned)used;
	}
	w->nr_slots += taken;
	pv_inflight_take(q->tx_log, q->tx.cons);
	return taken;
}

void tx_work(struct vif_queue *q)
{
	struct nb_worker *w = q->worker;
	struct limit *limit = __atomic_load_n(&q->vif->limit, __ATOMIC_ACQUIRE); /* pairs with limit_change */
	unsigned left = w->contended ? q->share : NB_QUEUE_SLOTS, taken;
	int ready = pv_ring_ready_for(&q->tx, left);
	bool waited = q->tx_until;

	q->tx_until = 0;
	if (ready <= 0) {
		if (ready)
			queue_broken(q, "its tx ring's producer index is impossible");
		return;
	}
	if (unlikely(limit != NULL)) {
		left = limit_slots(&limit->tx, w->tsc, left, &q->tx_until);
		q->n.tx_limited += !left && !waited; /* a timer makes us look again */
	}
	for (; left && ready > 0 && !q->broken; left -= RTE_MIN(left, taken)) {
		unsigned first = w->nr_tx;

		q->worked = true;
		taken = collect(q, &ready, left);
		if (unlikely(limit != NULL))
			charge(w, limit, first);
		if (w->nr_slots >= NB_QUEUE_SLOTS || w->tx_bytes >= BATCH_BYTES)
			tx_finish(w);
	}
}

/* One answer a slot, in the order of the chain: the first, its extra-info, the others. */
static void answer(struct nb_worker *w, const struct tx_run *r, int16_t status)
{
	const union pv_net_tx_slot *slot = &w->slots[r->slot];

	pv_net_tx_fill_rsp(&r->queue->tx, slot->req.id, status);
	for (unsigned i = 1; i < r->slots; i++) {
		if (i <= r->extras)
			pv_net_tx_fill_rsp_null(&r->queue->tx, &slot[i]);
		else
			pv_net_tx_fill_rsp(&r->queue->tx, slot[i].req.id, status);
	}
}

/* Answers a chain. Returns whether its packet goes on. */
static unsigned finish_one(struct nb_worker *w, const struct tx_run *r, struct rte_mbuf *m)
{
	struct vif_queue *q = r->queue;

	if (unlikely(!m)) {
		answer(w, r, r->status);
		return 0;
	}
	if (unlikely(!copied(w->ops + r->op, r->ops))) {
		q->n.tx_copy_failed++;
		answer(w, r, NETIF_RSP_ERROR);
		rte_pktmbuf_free(m);
		return 0;
	}
	answer(w, r, NETIF_RSP_OKAY);
	q->n.tx_bytes += m->pkt_len;
	return 1;
}

/* Answers plain packets. Returns how many go on, the first ones of m[] then. */
static unsigned finish_plain(struct nb_worker *w, const struct tx_run *r, struct rte_mbuf **m)
{
	const union pv_net_tx_slot *slot = &w->slots[r->slot];
	const struct pv_gnt_copy *op = &w->ops[r->op];
	struct vif_queue *q = r->queue;
	struct pv_ring ring = q->tx; /* a copy, which the compiler keeps in registers */
	unsigned good = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < r->plain; i++) {
		bool ok = op[i].status == GNTST_okay;

		pv_net_tx_fill_rsp(&ring, slot[i].req.id, ok ? NETIF_RSP_OKAY : NETIF_RSP_ERROR);
		if (unlikely(!ok)) {
			rte_pktmbuf_free(m[i]);
			continue;
		}
		bytes += op[i].len;
		m[good++] = m[i];
	}
	q->tx = ring;
	q->n.tx_copy_failed += r->plain - good;
	q->n.tx_bytes += bytes;
	return good;
}

void tx_finish(struct nb_worker *w)
{
	struct rte_mbuf **m = w->tx;

	if (w->nr_ops)
		pv_gnt_copy(w->h, w->ops, w->nr_ops); /* if the batch did not run, every status says so */
	for (const struct tx_run *r = w->tx_run; r < &w->tx_run[w->nr_tx_runs]; r++) {
		unsigned n = likely(r->plain) ? r->plain : 1, good = likely(r->plain) ? finish_plain(w, r, m) : finish_one(w, r, *m);
		struct vif_queue *q = r->queue;

		q->n.tx_packets += good;
		forward(w, q->vif->bridge, q, m, good);
		m += n;
	}
	w->nr_tx = w->nr_tx_runs = w->nr_ops = w->nr_slots = w->tx_bytes = 0;
	for (unsigned i = 0; i < w->nr_up; i++)
		uplink_flush(w, &w->up[i]);
}
