/* uplink_load.c - an uplink that is a load, for measuring: load:N looks at each packet that it is given, at a word of every cache line, and
 * says N packets for it, copies of the first one with its addresses exchanged. load:0 only takes, after one answer to the first one.
 *
 * As each answers to a packet, there is no load when nobody asks for it. Large TCP packets are taken and given whole. */
#include "netback.h"
#include <rte_ether.h>

enum { DUE_MAX = 8192, SAYS = 32 /* packets at once, as DPDK's programs do */ };

/* Owner: worker 0, once the uplink is open. Lifetime: the uplink's. */
struct load {
	unsigned times; /* for a packet */
	unsigned due;
	uint32_t seen; /* so that looking is not for nothing */
	uint32_t len; /* of what is said; 0: nothing was taken yet */
	uint64_t flags;
	uint16_t gso_size;
	uint8_t data[UINT16_MAX];
};

static int load_open(struct netback *nb, struct uplink *up, const char *device, char *why, size_t len)
{
	const char *times = strchr(device, ':') + 1;
	char *end;
	unsigned long n = strtoul(times, &end, 10);

	(void)nb;
	if (*times < '0' || *times > '9' || *end || n > DUE_MAX)
		return pv_why(why, len, -EINVAL, "uplink '%s': give load:N, so many packets for each that it takes, 0 to %d", device, DUE_MAX);
	up->load = calloc(1, sizeof(*up->load));
	if (!up->load)
		return pv_why(why, len, -ENOMEM, "out of memory");
	up->load->times = (unsigned)n;
	up->queues = 1;
	up->offloads = true;
	return 0;
}

static void load_close(struct uplink *up)
{
	free(up->load);
	up->load = NULL;
}

static uint32_t load_mtu(const struct uplink *up)
{
	(void)up;
	return UINT16_MAX - RTE_ETHER_HDR_LEN;
}

static bool load_carrier(const struct uplink *up)
{
	(void)up;
	return true;
}

static int load_intr_fd(const struct uplink *up, unsigned queue)
{
	(void)up, (void)queue;
	return -1;
}

/* The segments of m, and of others behind it. False: no memory. */
static bool fill(struct nb_worker *w, const struct load *l, struct rte_mbuf *m)
{
	struct rte_mbuf *seg = m;

	for (uint32_t at = 0, n;; at += n, m->nb_segs++) {
		n = RTE_MIN(l->len - at, (uint32_t)PV_PAGE_SIZE - seg->data_off);
		memcpy(rte_pktmbuf_mtod(seg, void *), l->data + at, n);
		seg->data_len = (uint16_t)n;
		if (at + n == l->len)
			return true;
		seg = seg->next = pool_page(&w->spare);
		if (!seg)
			return false;
	}
}

static struct rte_mbuf *say(struct nb_worker *w, const struct load *l)
{
	struct rte_mbuf *m = pool_first(&w->spare, l->len);

	if (unlikely(!m))
		return NULL;
	if (likely(l->len <= PV_PAGE_SIZE / 2)) {
		memcpy(rte_pktmbuf_mtod(m, void *), l->data, l->len);
		m->data_len = (uint16_t)l->len;
	} else if (!fill(w, l, m)) {
		rte_pktmbuf_free(m);
		return NULL;
	}
	m->pkt_len = l->len;
	m->ol_flags |= l->flags;
	if (l->gso_size)
		m->tso_segsz = l->gso_size;
	return m;
}

static unsigned load_receive(struct nb_worker *w, struct uplink_queue *q, struct rte_mbuf **in, unsigned max)
{
	struct load *l = q->bridge->uplink.load;
	unsigned n = SAYS / (l->len / PV_PAGE_SIZE + 1), i = 0;

	n = RTE_MAX(n, 1u);
	n = RTE_MIN(n, max);
	n = RTE_MIN(n, l->due);
	while (i < n && (in[i] = say(w, l)))
		i++;
	l->due -= i;
	return i;
}

/* What is said from now on. */
static void learn(struct load *l, const struct rte_mbuf *m)
{
	struct rte_ether_hdr *eth = (void *)l->data;
	struct rte_ether_addr dst;

	if (m->pkt_len > sizeof(l->data))
		return;
	l->len = m->pkt_len;
	l->flags = m->ol_flags & NB_FLAGS;
	l->gso_size = m->tso_segsz;
	for (uint32_t at = 0; m; at += m->data_len, m = m->next)
		memcpy(l->data + at, rte_pktmbuf_mtod(m, const void *), m->data_len);
	dst = eth->dst_addr;
	eth->dst_addr = eth->src_addr;
	eth->src_addr = dst;
	l->due = 1; /* said once in any case: a switch that does not know where an address is floods what is for it */
}

static unsigned load_send(struct nb_worker *w, struct uplink_queue *q, struct rte_mbuf **out, unsigned n)
{
	struct load *l = q->bridge->uplink.load;
	uint32_t seen = 0;

	if (unlikely(!l->len))
		learn(l, out[0]);
	for (unsigned i = 0; i < n; i++)
		for (const struct rte_mbuf *seg = out[i]; seg; seg = seg->next)
			for (uint32_t at = 0; at + sizeof(uint32_t) <= seg->data_len; at += RTE_CACHE_LINE_SIZE)
				seen += *rte_pktmbuf_mtod_offset(seg, const volatile uint32_t *, at);
	l->seen += seen;
	l->due = RTE_MIN(l->due + n * l->times, (unsigned)DUE_MAX);
	pool_put(&w->spare, out, n);
	return n;
}

const struct uplink_ops uplink_load = {
	.open = load_open, .close = load_close, .mtu = load_mtu, .carrier = load_carrier, .intr_fd = load_intr_fd, .receive = load_receive, .send = load_send,
};
