/* rx.c - to a guest: a backlog a queue, filled by the switch; copied into the pages that the guest posted, in one batch a turn.
 *
 * A guest may post none: the backlog is bounded by the memory that it pins, shared by its senders (fair.c), and what does not fit is dropped and
 * counted. */
#include "netback.h"
#include <netinet/in.h>

/* How a guest wants its packets, read once a turn: it may change meanwhile. */
struct shape {
	uint32_t headroom; /* bytes of each page that stay free */
	const struct hash *hash; /* NULL: no hashing */
};

/* The hash of a packet by the most specific of the types that the guest asked for. Returns the type + 1, or 0: by none. */
static uint8_t hash_of(const struct hash *h, const struct rte_mbuf *m, uint32_t *value)
{
	struct nb_flow f;
	uint32_t ip, tcp;

	*value = 0;
	csum_flow(m, &f);
	if (!f.words)
		return 0;
	ip = f.words == 2 ? _XEN_NETIF_CTRL_HASH_TYPE_IPV4 : _XEN_NETIF_CTRL_HASH_TYPE_IPV6;
	tcp = f.words == 2 ? _XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP : _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP;
	for (unsigned i = 0; i < RTE_DIM(f.word); i++)
		f.word[i] = rte_be_to_cpu_32(f.word[i]);
	if (f.l4 == IPPROTO_TCP && h->flags & 1u << tcp) {
		f.word[f.words] = f.word[8];
		*value = hash_words(h, f.word, f.words + 1u);
		return (uint8_t)(tcp + 1);
	}
	if (!(h->flags & 1u << ip))
		return 0;
	*value = hash_words(h, f.word, f.words);
	return (uint8_t)(ip + 1);
}

static uint32_t cost_of(const struct nb_worker *w, const struct rte_mbuf *m)
{
	return m->nb_segs * w->nb->seg_cost;
}

void rx_push(struct vif_queue *q, struct rte_mbuf **m, unsigned n)
{
	struct nb_worker *w = q->worker;
	uint32_t tail = q->tail;

	for (unsigned i = 0; i < n; i++) {
		uint32_t cost = cost_of(w, m[i]);

		if (unlikely(q->broken || q->backlog_bytes + cost > w->uncontended) && !fair_push(q, m[i], cost)) {
			q->n.rx_full++;
			rte_pktmbuf_free(m[i]);
			continue;
		}
		q->backlog[q->tail++ % NB_BACKLOG_PACKETS] = m[i];
		q->backlog_bytes += cost;
	}
	if (q->tail == tail)
		return;
	if (q->head == tail)
		q->moved = w->tsc;
	if (unlikely(q->state != VIF_ACTIVE))
		queue_activate(q);
}

/* The queue of several that a packet goes to: as the guest wishes, else by its flow. */
static unsigned steer(const struct vif *vif, const struct rte_mbuf *m)
{
	const struct hash *h = __atomic_load_n(&vif->hash, __ATOMIC_ACQUIRE); /* pairs with publish_hash; lives until this turn has ended */
	uint32_t value;

	if (likely(!h))
		return csum_flow_hash(m) % vif->nr_queues;
	hash_of(h, m, &value);
	return hash_queue(h, value, vif->nr_queues);
}

static void give(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m)
{
	unsigned i = unlikely(vif->nr_queues > 1) ? steer(vif, m) : 0;
	struct vif_queue *q = &vif->queues[i];

	if (likely(q->worker == w))
		rx_push(q, &m, 1);
	else
		post_send(w, q->worker, &(struct post){ m, vif->generation, (uint16_t)vif->port, (uint8_t)vif->bridge->index, (uint8_t)i });
}

static void count_drop(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); /* a counter orders nothing */
}

/* Takes m. Returns how many pieces; below 0: no memory, and that is counted. */
static int cut(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m, struct rte_mbuf *piece[GSO_PIECES_MAX])
{
	int n = gso_cut_up(w, NULL, m, piece);

	if (n < 0)
		count_drop(&vif->rx_no_memory);
	return n;
}

static void cut_and_give(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m)
{
	struct rte_mbuf *piece[GSO_PIECES_MAX];
	int n = cut(w, vif, m, piece);

	for (int i = 0; i < n; i++)
		give(w, vif, piece[i]);
}

/* To a trunk: complete, for Linux' own driver believes no tagged packet of which anything is left to do. */
static void tag_and_give(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m)
{
	struct rte_mbuf *piece[GSO_PIECES_MAX] = { m };
	int n = 1;

	if (m->ol_flags & NB_GSO)
		n = cut(w, vif, m, piece);
	else if (m->ol_flags & NB_BLANK)
		csum_complete(m); /* it can: forward() looked */
	for (int i = 0; i < n; i++) {
		struct rte_mbuf *tagged = vlan_insert(w, piece[i]);

		if (!tagged) {
			count_drop(&vif->rx_no_memory);
		} else if (tagged->pkt_len > __atomic_load_n(&vif->frame_max, __ATOMIC_RELAXED)) {
			count_drop(&vif->rx_too_big);
			rte_pktmbuf_free(tagged);
		} else {
			give(w, vif, tagged);
		}
	}
}

/* Does what is to be done to m before this guest gets it, and gives it to the guest. */
void rx_send(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m)
{
	uint64_t flags = m->ol_flags & (NB_GSO | NB_BLANK | NB_GSO_V6);

	if (unlikely(__atomic_load_n(&vif->steps, __ATOMIC_ACQUIRE)) && !step_to(w, vif, m))
		return;
	if (unlikely(m->vlan_tci) && vlan_wants_tag(vif, m)) {
		tag_and_give(w, vif, m);
		return;
	}
	if (unlikely(gso_wire_len(m) > __atomic_load_n(&vif->frame_max, __ATOMIC_RELAXED))) {
		count_drop(&vif->rx_too_big);
		rte_pktmbuf_free(m);
		return;
	}
	if (flags & NB_GSO && (m->pkt_len > rx_most(__atomic_load_n(&vif->headroom, __ATOMIC_RELAXED)) ||
			       !(vif->features & (flags & NB_GSO_V6 ? PV_VIF_GSO_TCPV6 : PV_VIF_GSO_TCPV4)))) {
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
		r->hash_type = hash_of(s->hash, m, &r->hash);
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

/* The head of the backlog leaves it. */
static struct rte_mbuf *pop(struct vif_queue *q)
{
	uint32_t slot = q->head++ % NB_BACKLOG_PACKETS;
	struct rte_mbuf *m = q->backlog[slot];
	uint32_t cost = cost_of(q->worker, m);

	if (unlikely(q->fair.account[slot]))
		fair_pop(q, slot, cost);
	q->backlog_bytes -= cost;
	q->moved = q->worker->tsc;
	q->need = 0;
	return m;
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
	struct netif_rx_response *answer = &w->rx_answer[w->nr_rx];
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
		answer[done] = (struct netif_rx_response){ .id = req.id, .offset = offset, .flags = flags_of(m, false), .status = (int16_t)m->pkt_len };
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
		count_drop(&q->vif->rx_too_big);
		rte_pktmbuf_free(pop(q));
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
	plan(q, r, pop(q));
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
	shape.hash = __atomic_load_n(&q->vif->hash, __ATOMIC_ACQUIRE); /* as in steer */
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

void rx_drop_all(struct vif_queue *q)
{
	q->n.rx_full += q->tail - q->head;
	while (q->head != q->tail)
		rte_pktmbuf_free(pop(q));
}

void rx_reclaim(struct nb_worker *w)
{
	for (uint32_t port = 0; port < w->nr_ports; port++) {
		struct vif_queue *q = w->by_port[port];

		if (q && q->head != q->tail && w->tsc - q->moved >= w->nb->tsc_second)
			rx_drop_all(q);
	}
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

static void finish_plain(const struct nb_worker *w, const struct rx_run *r, const struct netif_rx_response *answer)
{
	const struct pv_gnt_copy *op = &w->ops[r->op];
	struct vif_queue *q = r->queue;
	struct pv_ring ring = q->rx; /* a copy, which the compiler keeps in registers */
	unsigned failed = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < r->plain; i++, op++, answer++) {
		bool ok = op->status == GNTST_okay;

		pv_net_rx_fill_rsp(&ring, answer->id, answer->offset, answer->flags, likely(ok) ? answer->status : NETIF_RSP_ERROR);
		bytes += likely(ok) ? (unsigned)answer->status : 0;
		failed += !ok;
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
