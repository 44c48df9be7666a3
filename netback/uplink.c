/* uplink.c - a bridge's port out of the machine: a TAP interface (uplink_tap.c) or any DPDK device (uplink_dpdk.c).
 *
 * With several workers each has its own pair of queues where the port has so many; otherwise worker 0 moves all, and the others
 * hand it their packets. What leaves is complete, checksums filled in, large TCP packets cut, unless the port does that. */
#include "netback.h"

enum { LOOK_US = 20 }; /* at an uplink that says when packets come: no more often than that while none do */

int uplink_open(struct netback *nb, struct uplink *up, const char *device, char *why, size_t len)
{
	int ret;

	up->ops = strncmp(device, "tap:", 4) ? &uplink_dpdk : &uplink_tap;
	ret = up->ops->open(nb, up, device, why, len);
	if (ret == 0)
		up->frame_max = up->mtu + NB_L2_ROOM;
	return ret;
}

void uplink_close(struct uplink *up)
{
	if (!up->queues)
		return;
	up->queues = 0;
	up->ops->close(up);
}

void uplink_poll(struct nb_worker *w, struct uplink_queue *q)
{
	struct rte_mbuf *in[NB_BURST];
	unsigned n;

	if (!q->ours || (q->intr_fd >= 0 && !q->more && w->tsc - q->looked < w->nb->tsc_second / 1000000 * LOOK_US))
		return;
	n = q->bridge->uplink.ops->receive(w, q, in, NB_BURST);
	q->looked = w->tsc;
	q->more = n;
	if (n) {
		q->last = w->tsc;
		w->spent = NB_SPENT_BUSY;
	}
	for (unsigned i = 0; i < n; i++) {
		struct rte_mbuf *m = in[i];

		q->rx_packets++;
		q->rx_bytes += m->pkt_len;
		if (unlikely(m->data_len < PV_NET_LEN_MIN || m->nb_segs > NB_SEGS_MAX)) {
			q->rx_bad++;
			rte_pktmbuf_free(m);
			continue;
		}
		forward(w, q->bridge, NULL, m);
	}
}

bool uplink_idle(const struct nb_worker *w, const struct uplink_queue *q)
{
	return !q->ours || !q->last || w->tsc - q->last >= w->nb->poll_tsc;
}

void uplink_put(struct nb_worker *w, struct uplink_queue *q, struct rte_mbuf *m)
{
	q->out[q->n++] = m;
	if (q->n == NB_BURST)
		uplink_flush(w, q);
}

void uplink_flush(struct nb_worker *w, struct uplink_queue *q)
{
	uint64_t bytes = 0;
	unsigned sent;

	if (!q->n)
		return;
	w->spent = NB_SPENT_BUSY;
	for (unsigned i = 0; i < q->n; i++)
		bytes += q->out[i]->pkt_len;
	sent = q->bridge->uplink.ops->send(w, q, q->out, q->n);
	for (unsigned i = sent; i < q->n; i++)
		bytes -= q->out[i]->pkt_len;
	rte_pktmbuf_free_bulk(q->out + sent, q->n - sent);
	q->tx_packets += sent;
	q->tx_bytes += bytes;
	q->tx_dropped += q->n - sent;
	q->n = 0;
}

/* A finished packet, by whoever moves the uplink's packets. */
static void hand_over(struct nb_worker *w, struct bridge *b, struct rte_mbuf *m)
{
	struct uplink_queue *q = &w->up[b->index];

	if (likely(q->ours))
		uplink_put(w, q, m);
	else
		post_send(w, w->nb->workers[0], &(struct post){ m, b->generation, SWITCH_UPLINK, (uint8_t)b->index, 0 });
}

static void cut_and_send(struct nb_worker *w, struct bridge *b, struct rte_mbuf *m)
{
	struct rte_mbuf *piece[GSO_PIECES_MAX];
	int n = gso_cut(w->nb->pool, m, piece);

	rte_pktmbuf_free(m);
	if (n < 0)
		turn_no_memory(w);
	for (int i = 0; i < n; i++)
		hand_over(w, b, piece[i]);
}

void uplink_send(struct nb_worker *w, struct bridge *b, struct rte_mbuf *m)
{
	const struct uplink *up = &b->uplink;
	uint64_t flags = m->ol_flags;
	uint32_t len = flags & NB_GSO ? m->l2_len + m->l3_len + m->l4_len + (uint32_t)m->tso_segsz : m->pkt_len;

	if (unlikely(!up->queues || len > up->frame_max)) {
		w->up[b->index].tx_too_big += up->queues != 0;
		rte_pktmbuf_free(m);
		return;
	}
	if (up->offloads) {
		if (flags & NB_BLANK)
			csum_pseudo(m);
		hand_over(w, b, m);
		return;
	}
	if (flags & NB_GSO) {
		cut_and_send(w, b, m);
		return;
	}
	if (flags & NB_BLANK)
		csum_complete(m); /* it can: forward() looked */
	m->ol_flags &= ~NB_FLAGS;
	hand_over(w, b, m);
}
