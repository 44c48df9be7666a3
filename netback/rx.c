/* rx.c - to a guest: packets that wait for it (backlog.c) are copied into the pages that it posted, in one batch a turn.
 *
 * take requests, plan the copies	rx_plan, for each active queue
 * one pv_gnt_copy, answer		rx_finish, for all of them together */
#include "netback.h"

/* How a guest wants its packets, read once a turn: it may change meanwhile. */
struct shape {
	uint32_t headroom; /* bytes of each page that stay free */
	const struct hash *hash; /* NULL: no hashing */
};

/* Bytes of m from `at` on into a page of the guest: now, if the page is a static grant, else in the batch. */
static void plan_page(struct vif_queue *q, struct chain_at *at, uint32_t gref, uint16_t off, uint16_t end)
{
	struct nb_worker *w = q->worker;
	uint8_t *page = NULL;

	if (unlikely(q->statics != NULL))
		page = statics_find(q->statics, gref, true);
	while (off < end) {
		struct pv_gnt_copy *op = &w->ops[w->nr_ops];
		uint16_t n;

		if (page) {
			void *from;

			n = (uint16_t)chain_piece(at, end - off, &from);
			memcpy(page + off, from, n);
			off += n;
			continue;
		}
		w->nr_ops++;
		op->to.local = NULL;
		op->to.gref = gref;
		op->to.domid = q->vif->id.guest;
		op->to.offset = off;
		op->len = (uint16_t)chain_piece(at, end - off, &op->from.local);
		off += op->len;
	}
}

/* Where in their pages the bytes begin of a packet whose first page is that of request `first`: behind the headroom that the guest asked for, and else
 * as pool_begin says. */
static uint16_t begin(const struct shape *s, const struct rte_mbuf *m, uint32_t first)
{
	return (uint16_t)(s->headroom ? s->headroom : pool_colour(first, m->pkt_len));
}

/* What a packet will be like: its slots are pages, and some for what is to be said about it. */
static void describe(const struct shape *s, const struct rte_mbuf *m, uint32_t first, struct rx_run *r)
{
	uint32_t room = PV_PAGE_SIZE - s->headroom;

	r->plain = 0;
	r->headroom = begin(s, m, first);
	r->extras = !!(m->ol_flags & NB_GSO);
	r->hash_type = 0;
	if (unlikely(s->hash != NULL)) {
		r->hash_type = backlog_hash(s->hash, m, &r->hash);
		r->extras += r->hash_type != 0;
	}
	r->slots = (uint16_t)(r->extras + (likely(m->pkt_len <= room) ? 1 : (m->pkt_len + room - 1) / room));
}

/* Take the requests that a described packet needs, and plan its copies. */
static void plan(struct vif_queue *q, struct rx_run *r, struct rte_mbuf *m)
{
	struct nb_worker *w = q->worker;
	struct chain_at at = { .seg = m };
	uint32_t left = m->pkt_len, most = PV_PAGE_SIZE - r->headroom;

	w->rx[w->nr_rx++] = m;
	w->nr_rx_runs++;
	r->queue = q;
	r->op = (uint16_t)w->nr_ops;
	r->first = q->rx.cons;
	for (unsigned i = 0; i < r->slots; i++) {
		struct netif_rx_request req;
		uint16_t n;

		pv_net_rx_take(&q->rx, &req);
		*rx_id(q, r->first + i) = req.id;
		if (i && i <= r->extras)
			continue; /* this one carries extra-info, not its page */
		n = (uint16_t)RTE_MIN(left, most);
		left -= n;
		plan_page(q, &at, req.gref, r->headroom, (uint16_t)(r->headroom + n));
	}
	r->ops = (uint16_t)(w->nr_ops - r->op);
	pv_inflight_take(q->rx_log, q->rx.cons);
}

static bool turn_has_room(const struct nb_worker *w)
{
	return w->nr_ops + NB_PACKET_OPS <= NB_TURN_OPS && w->nr_rx < NB_TURN_PACKETS;
}

/* Of a packet's first response. */
static inline uint16_t flags_of(const struct rte_mbuf *m, bool extras)
{
	return (uint16_t)((extras ? NETRXF_extra_info : 0) | (m->ol_flags & NB_BLANK ? NETRXF_csum_blank : 0) |
			  (m->ol_flags & NB_VALID ? NETRXF_data_validated : 0));
}

/* Most packets: in one piece, for one page of the guest's, and nothing is to be said beside the bytes. */
static bool plain(const struct rte_mbuf *m, uint32_t room)
{
	return m->nb_segs == 1 && !(m->ol_flags & NB_GSO) && m->pkt_len <= room &&
	       (rte_pktmbuf_mtod(m, uintptr_t) & (PV_PAGE_SIZE - 1)) + m->pkt_len <= PV_PAGE_SIZE;
}

/* The plain packets at the head of the backlog, at most n of them, and what a turn has room for: what describe and plan do, in a row, and
 * what is said of each when it was copied. Returns how many. */
static unsigned fill_plain(struct vif_queue *q, const struct shape *s, unsigned n)
{
	struct nb_worker *w = q->worker;
	struct pv_ring ring = q->rx; /* a copy, which the compiler keeps in registers */
	struct rte_mbuf **out = &w->rx[w->nr_rx];
	uint64_t *answer = &w->rx_answer[w->nr_rx];
	struct pv_gnt_copy *op = &w->ops[w->nr_ops];
	uint32_t head = q->head, room = PV_PAGE_SIZE - s->headroom;
	uint16_t guest = q->vif->id.guest;
	unsigned done = 0;

	n = RTE_MIN(n, q->tail - q->head);
	n = RTE_MIN(n, NB_TURN_PACKETS - w->nr_rx);
	n = RTE_MIN(n, NB_TURN_OPS - w->nr_ops);
	for (; done < n; done++, op++, head++) {
		struct rte_mbuf *m = q->backlog[head % NB_BACKLOG_PACKETS];
		struct netif_rx_request req;
		uint16_t offset, *id;

		if (unlikely(!plain(m, room)))
			break;
		if (unlikely(q->fair.account[head % NB_BACKLOG_PACKETS]))
			fair_pop(q, head % NB_BACKLOG_PACKETS, w->nb->seg_cost);
		offset = begin(s, m, ring.cons);
		id = rx_id(q, ring.cons);
		pv_net_rx_take(&ring, &req);
		*id = req.id;
		op->from.local = rte_pktmbuf_mtod(m, void *);
		op->to = (struct pv_gnt_end){ .gref = req.gref, .domid = guest, .offset = offset };
		op->len = (uint16_t)m->pkt_len;
		answer[done] = pv_net_rx_rsp(req.id, offset, flags_of(m, false), (int16_t)m->pkt_len);
		out[done] = m;
	}
	if (!done)
		return 0;
	w->rx_run[w->nr_rx_runs++] = (struct rx_run){ .queue = q, .plain = (uint16_t)done, .op = (uint16_t)w->nr_ops };
	pv_inflight_take(q->rx_log, ring.cons);
	q->rx = ring;
	q->head = head;
	q->moved = w->tsc;
	q->need = 0;
	q->backlog_bytes -= done * w->nb->seg_cost;
	w->nr_rx += done;
	w->nr_ops += done;
	return done;
}

/* The packet at the head of the backlog, of any kind. looked: at the guest's index, just now. Returns 1: it has left it; 0: it needs more slots
 * than the guest has posted; -EPROTO. */
static int fill_one(struct vif_queue *q, const struct shape *s, bool looked)
{
	struct rx_run *r = &q->worker->rx_run[q->worker->nr_rx_runs];
	int ready;

	describe(s, q->backlog[q->head % NB_BACKLOG_PACKETS], q->rx.cons, r);
	if (unlikely(r->slots - r->extras > XEN_NETIF_NR_SLOTS_MIN)) { /* it waited while the headroom grew */
		nb_count(&q->vif->rx_too_big);
		rte_pktmbuf_free(backlog_pop(q));
		return 1;
	}
	ready = looked ? (int)pv_ring_counted(&q->rx) : pv_ring_ready_for(&q->rx, r->slots);
	if (ready < 0)
		return ready;
	if (ready < r->slots) {
		q->n.rx_stalls += !q->need;
		q->need = r->slots;
		return 0;
	}
	plan(q, r, backlog_pop(q));
	return 1;
}

/* From the backlog into the slots that the guest has posted, at most `most` of them and a packet. Returns below 0: -EPROTO. */
static int fill(struct vif_queue *q, unsigned most)
{
	uint32_t before = q->rx.cons, used, want = RTE_MIN(q->tail - q->head, most); /* a packet takes one slot, or more: then fill_one looks */
	bool looks = pv_ring_counted(&q->rx) < want;
	int ret = pv_ring_ready_for(&q->rx, want);
	struct shape shape;

	shape.headroom = __atomic_load_n(&q->vif->headroom, __ATOMIC_RELAXED);
	shape.hash = __atomic_load_n(&q->vif->hash, __ATOMIC_ACQUIRE); /* as in backlog.c's steer */
	while (ret >= 0 && q->head != q->tail && (used = q->rx.cons - before) < most && turn_has_room(q->worker)) {
		if (likely(!shape.hash && !q->statics) && fill_plain(q, &shape, RTE_MIN(pv_ring_counted(&q->rx), most - used)))
			continue;
		ret = fill_one(q, &shape, looks);
		if (!ret)
			break;
	}
	q->worked |= q->rx.cons != before;
	return ret;
}

void rx_plan(struct vif_queue *q)
{
	struct nb_worker *w = q->worker;
	struct limit *limit = __atomic_load_n(&q->vif->limit, __ATOMIC_ACQUIRE); /* pairs with limit_change */
	/* Twice of what comes from one sender in a turn: if no more went than comes, a backlog that once arose would stay. */
	unsigned most = 2 * (w->contended ? q->share : NB_QUEUE_SLOTS), first = w->nr_rx;
	bool waited = q->rx_until;
	uint64_t bytes = 0;

	q->rx_until = 0;
	if (q->head == q->tail)
		return;
	if (unlikely(limit != NULL)) {
		most = limit_slots(&limit->rx, w->tsc, most, &q->rx_until);
		q->n.rx_limited += !most && !waited;
	}
	if (fill(q, most) < 0)
		queue_broken(q, "its rx ring's producer index is impossible");
	if (likely(!limit))
		return;
	for (unsigned i = first; i < w->nr_rx; i++)
		bytes += w->rx[i]->pkt_len;
	pv_limit_charge(&limit->rx, bytes, w->nr_rx - first);
}

/* Extra-info slot `i`, from 1 on: what a large packet is to be cut into, then its hash. */
static void answer_extra(const struct rx_run *r, const struct rte_mbuf *m, unsigned i)
{
	struct netif_extra_info e = { .flags = i < r->extras ? XEN_NETIF_EXTRA_FLAG_MORE : 0 };

	if (i == 1 && m->ol_flags & NB_GSO) {
		e.type = XEN_NETIF_EXTRA_TYPE_GSO;
		e.u.gso.size = m->tso_segsz;
		e.u.gso.type = m->ol_flags & NB_GSO_V6 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4;
	} else {
		uint32_t value = rte_cpu_to_le_32(r->hash);

		e.type = XEN_NETIF_EXTRA_TYPE_HASH;
		e.u.hash.type = (uint8_t)(r->hash_type - 1);
		e.u.hash.algorithm = XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ;
		memcpy(e.u.hash.value, &value, sizeof(value));
	}
	*(struct netif_extra_info *)pv_ring_fill(&r->queue->rx) = e;
}

/* The responses of one packet, each in the slot of its request. A failed packet keeps its shape: the frontend must know where it ends. */
static void answer(const struct rx_run *r, const struct rte_mbuf *m, bool ok)
{
	uint32_t left = m->pkt_len, most = PV_PAGE_SIZE - r->headroom;

	for (unsigned i = 0; i < r->slots; i++) {
		uint16_t len = (uint16_t)RTE_MIN(left, most), flags = i ? 0 : flags_of(m, r->extras);

		if (i && i <= r->extras) {
			answer_extra(r, m, i);
			continue;
		}
		left -= len;
		if (left)
			flags |= NETRXF_more_data;
		pv_net_rx_fill_rsp(&r->queue->rx, *rx_id(r->queue, r->first + i), r->headroom, flags, ok ? (int16_t)len : NETIF_RSP_ERROR);
	}
}

static void finish_one(const struct nb_worker *w, const struct rx_run *r, const struct rte_mbuf *m)
{
	struct vif_queue *q = r->queue;
	bool ok = copied(w->ops + r->op, r->ops);

	answer(r, m, ok);
	if (likely(ok)) {
		q->n.rx_packets++;
		q->n.rx_bytes += m->pkt_len;
	} else {
		q->n.rx_copy_failed++;
	}
}

static void finish_plain(const struct nb_worker *w, const struct rx_run *r, const uint64_t *answer)
{
	const struct pv_gnt_copy *op = &w->ops[r->op];
	struct vif_queue *q = r->queue;
	struct pv_ring ring = q->rx; /* a copy, which the compiler keeps in registers */
	unsigned failed = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < r->plain; i++, op++, answer++) {
		if (unlikely(op->status != GNTST_okay)) {
			pv_net_rx_put_rsp(&ring, pv_net_rx_rsp_failed(*answer));
			failed++;
			continue;
		}
		pv_net_rx_put_rsp(&ring, *answer);
		bytes += (unsigned)pv_net_rx_rsp_status(*answer);
	}
	q->rx = ring;
	q->n.rx_packets += r->plain - failed;
	q->n.rx_bytes += bytes;
	q->n.rx_copy_failed += failed;
}

void rx_finish(struct nb_worker *w)
{
	unsigned at = 0;

	if (!w->nr_rx)
		return;
	if (w->nr_ops)
		pv_gnt_copy(w->h, w->ops, w->nr_ops); /* if the batch did not run, every status says so */
	for (const struct rx_run *r = w->rx_run; r < &w->rx_run[w->nr_rx_runs]; r++) {
		if (likely(r->plain)) {
			finish_plain(w, r, &w->rx_answer[at]);
			at += r->plain;
		} else {
			finish_one(w, r, w->rx[at++]);
		}
	}
	pool_put(&w->spare, w->rx, w->nr_rx);
	w->nr_rx = w->nr_rx_runs = w->nr_ops = 0;
}
