/* uplink.c - the one port out of the machine: a TAP interface (uplink_tap.c) or any DPDK device (uplink_dpdk.c).
 *
 * With several workers each has its own pair of queues where the port has so many; otherwise worker 0 moves all, and the others
 * hand it their packets. What leaves is complete, checksums filled in, large TCP packets cut, unless the port does that. */
#include "netback.h"

enum { LOOK_US = 20 }; /* at an uplink that says when packets come: no more often than that while none do */

int uplink_open(struct netback *nb, const char *device, char *why, size_t len)
{
	struct uplink *up = &nb->uplink;
	int ret;

	up->ops = strncmp(device, "tap:", 4) ? &uplink_dpdk : &uplink_tap;
	ret = up->ops->open(nb, device, why, len);
	if (ret == 0)
		up->frame_max = up->mtu + NB_L2_ROOM;
	return ret;
}

void uplink_close(struct netback *nb)
{
	if (!nb->uplink.queues)
		return;
	nb->uplink.queues = 0;
	nb->uplink.ops->close(nb);
}

void uplink_worker_init(struct nb_worker *w)
{
	w->up.ours = w->index < w->nb->uplink.queues;
	w->up.intr_fd = w->up.ours ? w->nb->uplink.ops->intr_fd(w->nb, w->index) : -1;
}

void uplink_worker_end(struct nb_worker *w)
{
	if (w->up.ours && w->nb->uplink.ops->end)
		w->nb->uplink.ops->end(w);
}

void uplink_poll(struct nb_worker *w)
{
	struct rte_mbuf *in[NB_BURST];
	unsigned n;

	if (!w->up.ours || (w->up.intr_fd >= 0 && !w->up.more && w->tsc - w->up.looked < w->nb->tsc_second / 1000000 * LOOK_US))
		return;
	n = w->nb->uplink.ops->receive(w, in, NB_BURST);
	w->up.looked = w->tsc;
	w->up.more = n;
	if (n)
		w->up.last = w->tsc;
	for (unsigned i = 0; i < n; i++) {
		struct rte_mbuf *m = in[i];

		w->up.rx_packets++;
		w->up.rx_bytes += m->pkt_len;
		if (unlikely(m->data_len < PV_NET_LEN_MIN || m->nb_segs > NB_SEGS_MAX)) {
			w->up.rx_bad++;
			rte_pktmbuf_free(m);
			continue;
		}
		forward(w, NULL, m);
	}
}

bool uplink_idle(const struct nb_worker *w)
{
	return !w->up.ours || !w->up.last || w->tsc - w->up.last >= w->nb->poll_tsc;
}

void uplink_put(struct nb_worker *w, struct rte_mbuf *m)
{
	w->up.out[w->up.n++] = m;
	if (w->up.n == NB_BURST)
		uplink_flush(w);
}

void uplink_flush(struct nb_worker *w)
{
	uint64_t bytes = 0;
	unsigned sent;

	if (!w->up.n)
		return;
	for (unsigned i = 0; i < w->up.n; i++)
		bytes += w->up.out[i]->pkt_len;
	sent = w->nb->uplink.ops->send(w, w->up.out, w->up.n);
	for (unsigned i = sent; i < w->up.n; i++)
		bytes -= w->up.out[i]->pkt_len;
	rte_pktmbuf_free_bulk(w->up.out + sent, w->up.n - sent);
	w->up.tx_packets += sent;
	w->up.tx_bytes += bytes;
	w->up.tx_dropped += w->up.n - sent;
	w->up.n = 0;
}

/* A finished packet, by whoever moves the uplink's packets. */
static void hand_over(struct nb_worker *w, struct rte_mbuf *m)
{
	if (likely(w->up.ours))
		uplink_put(w, m);
	else
		post_send(w, w->nb->workers[0], &(struct post){ .m = m, .port = SWITCH_UPLINK });
}

static void cut_and_send(struct nb_worker *w, struct rte_mbuf *m)
{
	struct rte_mbuf *piece[GSO_PIECES_MAX];
	int n = gso_cut(w->nb->pool, m, piece);

	rte_pktmbuf_free(m);
	if (n < 0)
		turn_no_memory(w);
	for (int i = 0; i < n; i++)
		hand_over(w, piece[i]);
}

void uplink_send(struct nb_worker *w, struct rte_mbuf *m)
{
	const struct uplink *up = &w->nb->uplink;
	uint64_t flags = m->ol_flags;
	uint32_t len = flags & NB_GSO ? m->l2_len + m->l3_len + m->l4_len + (uint32_t)m->tso_segsz : m->pkt_len;

	if (unlikely(!up->queues || len > up->frame_max)) {
		w->up.tx_too_big += up->queues != 0;
		rte_pktmbuf_free(m);
		return;
	}
	if (up->offloads) {
		if (flags & NB_BLANK)
			csum_pseudo(m);
		hand_over(w, m);
		return;
	}
	if (flags & NB_GSO) {
		cut_and_send(w, m);
		return;
	}
	if (flags & NB_BLANK)
		csum_complete(m); /* it can: forward() looked */
	m->ol_flags &= ~NB_FLAGS;
	hand_over(w, m);
}
