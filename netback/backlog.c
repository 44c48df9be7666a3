/* backlog.c - what waits for a guest: what is to be done to a packet before it may have it, which of its queues it waits in, and how much may wait.
 *
 * A guest may post no pages: the backlog is bounded by the memory that it pins, shared by its senders (fair.c), and what does not fit is dropped and
 * counted. rx.c takes from its head. */
#include "netback.h"
#include <netinet/in.h>

uint8_t backlog_hash(const struct hash *h, const struct rte_mbuf *m, uint32_t *value)
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

void backlog_push(struct vif_queue *q, struct rte_mbuf **m, unsigned n)
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
	backlog_hash(h, m, &value);
	return hash_queue(h, value, vif->nr_queues);
}

static void give(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m)
{
	unsigned i = unlikely(vif->nr_queues > 1) ? steer(vif, m) : 0;
	struct vif_queue *q = &vif->queues[i];

	if (likely(q->worker == w))
		backlog_push(q, &m, 1);
	else
		post_send(w, q->worker, &(struct post){ m, vif->generation, (uint16_t)vif->port, (uint8_t)vif->bridge->index, (uint8_t)i });
}

/* Takes m. Returns how many pieces; below 0: no memory, and that is counted. */
static int cut(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m, struct rte_mbuf *piece[GSO_PIECES_MAX])
{
	int n = gso_cut_up(w, NULL, m, piece);

	if (n < 0)
		nb_count(&vif->rx_no_memory);
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
		csum_complete(m); /* it can: forward looked */
	for (int i = 0; i < n; i++) {
		struct rte_mbuf *tagged = vlan_insert(w, piece[i]);

		if (!tagged) {
			nb_count(&vif->rx_no_memory);
		} else if (tagged->pkt_len > __atomic_load_n(&vif->frame_max, __ATOMIC_RELAXED)) {
			nb_count(&vif->rx_too_big);
			rte_pktmbuf_free(tagged);
		} else {
			give(w, vif, tagged);
		}
	}
}

/* Does what is to be done to m before this guest gets it, and gives it to the guest. */
void backlog_give(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m)
{
	uint64_t flags = m->ol_flags & (NB_GSO | NB_BLANK | NB_GSO_V6);

	if (unlikely(__atomic_load_n(&vif->steps, __ATOMIC_ACQUIRE)) && !step_to(w, vif, m))
		return;
	if (unlikely(m->vlan_tci) && vlan_wants_tag(vif, m)) {
		tag_and_give(w, vif, m);
		return;
	}
	if (unlikely(gso_wire_len(m) > __atomic_load_n(&vif->frame_max, __ATOMIC_RELAXED))) {
		nb_count(&vif->rx_too_big);
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

struct rte_mbuf *backlog_pop(struct vif_queue *q)
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

void backlog_drop(struct vif_queue *q)
{
	q->n.rx_full += q->tail - q->head;
	while (q->head != q->tail)
		rte_pktmbuf_free(backlog_pop(q));
}

void backlog_reclaim(struct nb_worker *w)
{
	for (uint32_t port = 0; port < w->nr_ports; port++) {
		struct vif_queue *q = w->by_port[port];

		if (q && q->head != q->tail && w->tsc - q->moved >= w->nb->tsc_second)
			backlog_drop(q);
	}
}
