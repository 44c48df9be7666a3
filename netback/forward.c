/* forward.c - where a packet goes. It belongs to us alone when it comes here; what is given to several is shared only if nobody
 * has to change it any more. */
#include "netback.h"
#include <rte_ether.h>

/* Are the guest's words about its packet true? */
static int check_flags(struct rte_mbuf *m)
{
	if (m->ol_flags & NB_GSO)
		return gso_check(m);
	if (m->ol_flags & NB_BLANK)
		return csum_headers(m) == NB_L4_OTHER ? -EINVAL : 0;
	return 0;
}

static void send_to(struct nb_worker *w, struct bridge *b, int port, struct rte_mbuf *m)
{
	struct vif *vif;

	if (port == SWITCH_UPLINK) {
		uplink_send(w, b, m);
		return;
	}
	vif = switch_dest(b->sw, port);
	if (likely(vif != NULL))
		backlog_give(w, vif, m);
	else
		rte_pktmbuf_free(m); /* it left a moment ago */
}

static bool is_open(const struct bridge *b, int port)
{
	return port == SWITCH_UPLINK ? __atomic_load_n(&b->out, __ATOMIC_ACQUIRE) : switch_dest(b->sw, port) != NULL;
}

/* One more reference to m, or a copy where its flags would have to be worked off by one receiver and not another. */
static struct rte_mbuf *share(struct nb_worker *w, struct rte_mbuf *m)
{
	struct rte_mbuf *copy;

	if (!(m->ol_flags & (NB_BLANK | NB_GSO))) {
		rte_pktmbuf_refcnt_update(m, 1);
		return m;
	}
	copy = pool_copy(w->nb->pool, m);
	if (!copy)
		turn_no_memory(w);
	return copy;
}

static void flood(struct nb_worker *w, struct bridge *b, int in, struct rte_mbuf *m)
{
	unsigned vlan = m->vlan_tci & VLAN_ID;
	int ports = switch_ports(b->sw), last = -1;

	for (int i = 0; i < ports; i++) {
		struct rte_mbuf *copy;

		if (i == in || !is_open(b, i) || !switch_member(b->sw, i, vlan))
			continue;
		copy = last >= 0 ? share(w, m) : NULL;
		if (copy)
			send_to(w, b, last, copy);
		last = i;
	}
	if (last >= 0)
		send_to(w, b, last, m);
	else
		rte_pktmbuf_free(m);
}

/* Where a packet goes, and who sent it is learned. *learned: he may be there. */
static int route(struct nb_worker *w, struct bridge *b, struct vif_queue *from, const struct rte_mbuf *m, uint64_t src, bool *learned)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	struct switch_cache *cache = &w->up[b->index].cache;
	unsigned vlan = m->vlan_tci & VLAN_ID;

	*learned = (from && src == __atomic_load_n(&from->vif->mac, __ATOMIC_RELAXED)) ||
		   switch_learn(b->sw, cache, m->port, switch_key(vlan, src), w->now);
	if (!*learned && from)
		from->n.tx_not_learned++;
	if (unlikely(rte_is_multicast_ether_addr(&eth->dst_addr)))
		return SWITCH_UNKNOWN;
	return switch_lookup(b->sw, cache, switch_key(vlan, switch_mac_in_frame(&eth->dst_addr)));
}

/* May those behind a packet that goes to `port` follow it without a look? */
static bool train_begins(struct nb_worker *w, struct bridge *b, int port, struct train *t)
{
	struct vif *vif;

	t->work = NB_BLANK | NB_GSO;
	if (port == SWITCH_UPLINK) {
		t->to = NULL;
		t->work |= b->uplink.offloads ? 0 : NB_FLAGS;
		t->len_max = __atomic_load_n(&b->uplink.frame_max, __ATOMIC_RELAXED);
		return w->up[b->index].ours && __atomic_load_n(&b->out, __ATOMIC_ACQUIRE);
	}
	vif = switch_dest(b->sw, port);
	if (!vif || vif->nr_queues > 1 || vif->queues[0].worker != w || __atomic_load_n(&vif->steps, __ATOMIC_RELAXED))
		return false;
	t->to = &vif->queues[0];
	t->len_max = __atomic_load_n(&vif->frame_max, __ATOMIC_RELAXED);
	return true;
}

static void train_begin(struct nb_worker *w, struct bridge *b, int port, const struct rte_mbuf *m)
{
	struct train *t = &w->up[b->index].train;
	const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *);

	t->turn = 0;
	if (m->vlan_tci || !train_begins(w, b, port, t))
		return;
	memcpy(&t->addresses, frame, sizeof(t->addresses));
	memcpy(&t->more, frame + sizeof(t->addresses), sizeof(t->more));
	t->in = m->port;
	t->turn = w->turns;
}

/* Is m like the first of the train, and is nothing to be done to it? */
static inline bool follows(const struct train *t, const struct rte_mbuf *m)
{
	const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *);
	uint64_t addresses;
	uint32_t more;

	memcpy(&addresses, frame, sizeof(addresses));
	memcpy(&more, frame + sizeof(addresses), sizeof(more));
	return addresses == t->addresses && more == t->more && m->pkt_len <= t->len_max && !m->vlan_tci && !(m->ol_flags & t->work);
}

/* Those at the beginning of m[] that follow the train go where it goes. Returns how many. */
static unsigned follow(struct nb_worker *w, struct uplink_queue *up, uint16_t in, struct rte_mbuf **m, unsigned n)
{
	const struct train *t = &up->train;
	unsigned i = 0;

	if (w->turns != t->turn || in != t->in)
		return 0;
	while (i < n && follows(t, m[i]))
		m[i++]->port = in;
	if (!i)
		return 0;
	if (t->to)
		backlog_push(t->to, m, i);
	else
		uplink_put(w, up, m, i);
	return i;
}

/* The first of a train, or one that belongs to none. */
static __rte_noinline void forward_first(struct nb_worker *w, struct bridge *b, struct vif_queue *from, struct rte_mbuf *m)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	uint64_t src = switch_mac_in_frame(&eth->src_addr);
	bool steps = from && __atomic_load_n(&from->vif->steps, __ATOMIC_ACQUIRE), learned;
	int port;

	if (unlikely(!src || rte_is_multicast_ether_addr(&eth->src_addr) || (from && !__atomic_load_n(&from->vif->carrier, __ATOMIC_RELAXED)) ||
		     (m->ol_flags & (NB_BLANK | NB_GSO) && check_flags(m) < 0))) {
		if (from)
			from->n.tx_bad++;
		rte_pktmbuf_free(m);
		return;
	}
	if (unlikely(steps) && !step_from(w, from, m))
		return;
	port = route(w, b, from, m, src, &learned); /* a tag may be gone: it is read once more */
	if (likely(port != SWITCH_UNKNOWN && port != m->port)) {
		if (learned && !steps)
			train_begin(w, b, port, m);
		send_to(w, b, port, m);
	} else if (port == m->port) {
		rte_pktmbuf_free(m); /* no hairpin */
	} else {
		flood(w, b, m->port, m);
	}
}

void forward(struct nb_worker *w, struct bridge *b, struct vif_queue *from, struct rte_mbuf **m, unsigned n)
{
	uint16_t in = (uint16_t)(from ? from->vif->port : SWITCH_UPLINK); /* who sent it, for fair_push as well */

	for (unsigned i = 0; i < n;) {
		i += follow(w, &w->up[b->index], in, m + i, n - i);
		if (i == n)
			return;
		m[i]->port = in;
		forward_first(w, b, from, m[i++]);
	}
}

void forward_answer(struct nb_worker *w, struct bridge *b, struct rte_mbuf *m)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	uint64_t to = switch_key(m->vlan_tci & VLAN_ID, switch_mac_in_frame(&eth->dst_addr));
	int port = switch_lookup(b->sw, &w->up[b->index].cache, to);

	if (port == SWITCH_UNKNOWN)
		rte_pktmbuf_free(m);
	else
		send_to(w, b, port, m);
}
