/* uplink.c - a bridge's port out of the machine: a TAP interface (uplink_tap.c) or any DPDK device (uplink_dpdk.c).
 *
 * With several workers each has its own pair of queues where the port has so many; otherwise worker 0 moves all, and the others
 * hand it their packets. What leaves is complete, checksums filled in, large TCP packets cut, unless the port does that. */
#include "netback.h"
#include <rte_pci.h>

enum { UPLINK_MTU_MAX = 65535 - 14 };
enum { STUCK_MS = 10 /* that packets wait for an uplink which takes none */ };
enum { LOOK_US = 20 }; /* at an uplink that says when packets come: no more often than that while none do */

/* An MTU that is asked for, at the end of any device: ",mtu=N". Cuts it off. */
static int take_mtu(char *device, uint32_t *mtu)
{
	char *at = strrchr(device, ','), *end;
	unsigned long n;

	if (!at || strncmp(at, ",mtu=", 5))
		return 0;
	n = strtoul(at + 5, &end, 10);
	if (!n || *end || n > UPLINK_MTU_MAX)
		return -EINVAL;
	*mtu = (uint32_t)n;
	*at = 0;
	return 0;
}

bool uplink_pci(const char *device, char name[NB_DEVICE_NAME])
{
	struct rte_pci_addr a;
	char address[16];
	uint32_t mtu;

	snprintf(name, NB_DEVICE_NAME, "%s", device);
	take_mtu(name, &mtu); /* wrong ones are refused by uplink_open */
	snprintf(address, sizeof(address), "%.*s", (int)strcspn(name, ","), name);
	return rte_pci_addr_parse(address, &a) == 0;
}

static void set_mtu(struct uplink *up, uint32_t mtu)
{
	up->mtu = mtu;
	__atomic_store_n(&up->frame_max, mtu + NB_L2_ROOM, __ATOMIC_RELAXED); /* a word by itself */
}

static const struct uplink_ops *ops_of(const char *device)
{
	if (!strncmp(device, "tap:", 4))
		return &uplink_tap;
	if (!strncmp(device, "linux:", 6))
		return &uplink_linux;
	return strncmp(device, "load:", 5) ? &uplink_dpdk : &uplink_load;
}

int uplink_open(struct netback *nb, struct uplink *up, const char *device, char *why, size_t len)
{
	char name[NB_DEVICE_NAME];
	int ret;

	*up = (struct uplink){ .ops = ops_of(device) };
	if ((size_t)snprintf(name, sizeof(name), "%s", device) >= sizeof(name) || take_mtu(name, &up->mtu) < 0)
		return pv_why(why, len, -EINVAL, "uplink '%s': give mtu=N, at most %d, or a shorter name", device, UPLINK_MTU_MAX);
	ret = up->ops->open(nb, up, name, why, len);
	if (ret == 0)
		set_mtu(up, up->ops->mtu(up));
	return ret;
}

void uplink_tick(struct uplink *up)
{
	uint32_t mtu = up->queues ? up->ops->mtu(up) : 0;

	if (mtu != up->mtu)
		set_mtu(up, mtu);
}

void uplink_close(struct uplink *up)
{
	if (!up->queues)
		return;
	up->queues = 0;
	up->ops->close(up);
}

/* What came: counted, and in its VLAN. Returns how many are left of them. */
static unsigned look_at(struct uplink_queue *q, struct rte_mbuf **in, unsigned n)
{
	bool vlans = __atomic_load_n(&q->bridge->vlans, __ATOMIC_RELAXED);
	unsigned good = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		struct rte_mbuf *m = in[i];

		bytes += m->pkt_len;
		if (unlikely(m->data_len < PV_NET_LEN_MIN || m->nb_segs > NB_SEGS_MAX)) {
			q->rx_bad++;
			rte_pktmbuf_free(m);
			continue;
		}
		if (unlikely(vlans))
			vlan_from_uplink(m);
		in[good++] = m;
	}
	q->rx_packets += n;
	q->rx_bytes += bytes;
	return good;
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
		w->log->held += n;
		q->last = w->tsc;
		w->spent = NB_SPENT_BUSY;
	}
	forward(w, q->bridge, NULL, in, look_at(q, in, n));
}

bool uplink_idle(const struct nb_worker *w, const struct uplink_queue *q)
{
	return q->n == 0 && (!q->ours || !q->last || w->tsc - q->last >= w->nb->poll_tsc);
}

/* It did not take the last ones: m may wait if its sender has not had its share. */
static void wait_for_room(struct uplink_queue *q, struct rte_mbuf *m)
{
	uint8_t account = q->n < UPLINK_WAITING ? fair_take(&q->fair, m, 1, UPLINK_WAITING - NB_BURST) : 0;

	if (!account) {
		q->tx_dropped++;
		rte_pktmbuf_free(m);
		return;
	}
	q->account[q->n] = account;
	q->out[q->n++] = m;
}

void uplink_put(struct nb_worker *w, struct uplink_queue *q, struct rte_mbuf **m, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (unlikely(q->n >= NB_BURST)) {
			wait_for_room(q, m[i]);
			continue;
		}
		q->out[q->n++] = m[i];
		if (q->n == NB_BURST)
			uplink_flush(w, q);
	}
}

/* The uplink did not take the packets from `sent` on. They wait, but not for one whose other end is gone. */
static void keep_waiting(struct nb_worker *w, struct uplink_queue *q, unsigned sent)
{
	unsigned left = q->n - sent;

	for (unsigned i = 0; i < sent; i++)
		if (q->account[i])
			fair_leave(&q->fair, q->account[i], 1);
	if (sent)
		q->stuck = 0;
	else if (!q->stuck)
		q->stuck = w->tsc;
	if (!sent && !w->leaving && w->tsc - q->stuck >= w->nb->tsc_second / 1000 * STUCK_MS) {
		rte_pktmbuf_free_bulk(q->out, left);
		q->tx_dropped += left;
		q->fair = (struct fair){ 0 };
		left = 0;
	}
	memmove(q->out, q->out + sent, left * sizeof(q->out[0]));
	memmove(q->account, q->account + sent, left);
	memset(q->account + left, 0, q->n - left);
	q->n = left;
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
	q->tx_packets += sent;
	q->tx_bytes += bytes;
	if (unlikely(sent < q->n || q->fair.senders || q->stuck))
		keep_waiting(w, q, sent);
	else
		q->n = 0;
}

/* A finished packet, by whoever moves the uplink's packets. */
static inline void hand_over(struct nb_worker *w, struct bridge *b, struct rte_mbuf *m)
{
	struct uplink_queue *q = &w->up[b->index];

	if (unlikely(m->vlan_tci)) {
		m = vlan_insert(w, m);
		if (!m)
			return;
	}
	if (likely(q->ours))
		uplink_put(w, q, &m, 1);
	else
		post_send(w, w->nb->workers[0], &(struct post){ m, b->generation, SWITCH_UPLINK, (uint8_t)b->index, 0 });
}

static void cut_and_send(struct nb_worker *w, struct bridge *b, struct rte_mbuf *m)
{
	struct rte_mbuf *piece[GSO_PIECES_MAX];
	int n = gso_cut_up(w, b->uplink.chains ? w->nb->refs : NULL, m, piece);

	for (int i = 0; i < n; i++)
		hand_over(w, b, piece[i]);
}

void uplink_send(struct nb_worker *w, struct bridge *b, struct rte_mbuf *m)
{
	const struct uplink *up = &b->uplink;
	uint64_t flags = m->ol_flags;

	if (unlikely(!__atomic_load_n(&b->out, __ATOMIC_ACQUIRE) || gso_wire_len(m) > __atomic_load_n(&up->frame_max, __ATOMIC_RELAXED))) {
		w->up[b->index].tx_too_big += b->out;
		rte_pktmbuf_free(m);
		return;
	}
	if (!up->offloads && flags & NB_GSO) {
		cut_and_send(w, b, m);
		return;
	}
	if (flags & NB_BLANK) {
		if (up->offloads)
			csum_pseudo(m);
		else
			csum_complete(m); /* it can: forward looked */
	}
	if (!up->offloads)
		m->ol_flags &= ~NB_FLAGS;
	hand_over(w, b, m);
}
