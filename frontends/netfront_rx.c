/* netfront_rx.c - what a vif receives: answers are taken, put together to packets, and given to the caller, copied or in their pages. */
#include "netfront_int.h"
#include <errno.h>
#include <string.h>

enum {
	AHEAD = 256, /* bytes */
	DROPS_MAX = 4 * SLOTS, /* answers that one call may use up without giving a packet */
};

_Static_assert(SEEN > PV_NET_FRAGS_MAX + XEN_NETIF_EXTRA_TYPE_MAX, "a whole chain fits");

static uint8_t *rx_page(const struct pv_netfront *f, const struct net_queue *q, uint32_t request)
{
	return q->rx_page + (size_t)(request & (f->rx_pages - 1)) * PV_PAGE_SIZE;
}

void net_rx_post(const struct pv_netfront *f, struct net_queue *q, unsigned n)
{
	struct pv_ring ring = q->rx; /* as in netfront_tx.c: in registers */

	while (n--)
		pv_net_rx_fill(&ring, (uint16_t)(ring.prod & (SLOTS - 1)), q->rx_gref[ring.prod & (f->rx_pages - 1)]);
	q->rx = ring;
}

/* Copy more answers in, behind those that wait for the rest of their chain. Returns how many wait now, or -EPROTO. */
static int rx_take(struct pv_netfront *f, struct net_queue *q)
{
	unsigned left = q->seen_until - q->seen_from, until = left;
	struct pv_ring ring = q->rx;
	int n = pv_ring_ready(&ring);

	if (n < 0)
		return front_broken(&f->front, "more rx answers than requests");
	if (left)
		memmove(q->seen, q->seen + q->seen_from, left * sizeof(*q->seen));
	for (; until < SEEN && n > 0; n--) {
		const uint8_t *page = rx_page(f, q, ring.cons);
		union pv_net_rx_slot *s = &q->seen[until++];

		pv_net_rx_take_rsp(&ring, s);
		/* The first lines of all of them come from the other core at once, the others while they are copied. A lie fetches nothing of use. */
		for (int at = 0; at < s->rsp.status && at < AHEAD; at += 64)
			__builtin_prefetch(page + (s->rsp.offset + at) % PV_PAGE_SIZE);
	}
	q->rx = ring;
	q->seen_from = 0;
	q->seen_until = until;
	return (int)(until - left);
}

/* Of fragment i of a chain that begins with request `first`: behind the first one are the slots of extra-info. */
static uint32_t rx_request(const struct pv_net_rx_packet *rx, uint32_t first, unsigned i)
{
	return first + i + (i ? rx->extras : 0);
}

/* The fragments of a chain that begins with request `first` must be in the slots of their requests; then they are in these's pages. */
static bool rx_ids_right(const struct pv_net_rx_packet *rx, uint32_t first)
{
	for (unsigned i = 0; i < rx->nr; i++)
		if (rx->frag[i].id != (rx_request(rx, first, i) & (SLOTS - 1)))
			return false;
	return true;
}

/* All that is said of a packet beside its bytes. */
static void rx_describe(const struct pv_net_rx_packet *rx, struct pv_netfront_packet *p)
{
	p->len = rx->len;
	p->csum_blank = rx->flags & NETRXF_csum_blank;
	p->data_validated = rx->flags & NETRXF_data_validated;
	p->gso_type = rx->gso_type;
	p->gso_size = rx->gso_size;
	p->headroom = rx->frag[0].offset;
	p->hashed = rx->hash;
	p->hash = rx->hash_value;
	p->hash_type = rx->hash_type;
}

/* A packet in the pages that it came in. */
static void rx_find(const struct pv_netfront *f, const struct net_queue *q, const struct pv_net_rx_packet *rx, uint32_t first, struct iovec *iov)
{
	for (unsigned i = 0; i < rx->nr; i++)
		iov[i] = (struct iovec){ rx_page(f, q, rx_request(rx, first, i)) + rx->frag[i].offset, rx->frag[i].len };
}

/* Where received packets go, one of these: copied into the caller's buffers, or lent to it in their pages. */
struct rx_into {
	struct pv_netfront_packet *copies;
	struct pv_netfront_loan *loans;
};

/* Packet number `at` of a call. Returns whether it found room. */
static bool rx_give(const struct pv_netfront *f, const struct net_queue *q, const struct pv_net_rx_packet *rx, uint32_t first,
		    const struct rx_into *into, unsigned at)
{
	struct pv_netfront_packet *p = into->loans ? &into->loans[at].packet : &into->copies[at];
	struct iovec pieces[PV_NET_FRAGS_MAX], *iov = into->loans ? into->loans[at].iov : pieces;
	uint8_t *to = p->data;

	if (!into->loans && rx->len > p->len)
		return false;
	rx_find(f, q, rx, first, iov);
	if (into->loans) {
		p->data = iov[0].iov_base;
		into->loans[at].niov = rx->nr;
	} else {
		for (unsigned i = 0; i < rx->nr; to += iov[i++].iov_len)
			memcpy(to, iov[i].iov_base, iov[i].iov_len);
	}
	rx_describe(rx, p);
	return true;
}

/* Post again what was taken, in its order. */
static void rx_give_back(const struct pv_netfront *f, struct net_queue *q)
{
	net_rx_post(f, q, q->lent);
	q->lent = 0;
}

/* The next packet. Returns slots used (*got tells whether it was given), 0: no whole packet here, or -EPROTO. */
static int rx_packet(struct pv_netfront *f, struct net_queue *q, const struct rx_into *into, unsigned *got)
{
	uint32_t first = q->rx.cons - (q->seen_until - q->seen_from);
	struct pv_net_rx_packet rx;
	int used = pv_net_rx_parse(q->seen + q->seen_from, q->seen_until - q->seen_from, &rx);

	if (used == 0)
		return 0;
	if (used < 0 || !rx_ids_right(&rx, first))
		return front_broken(&f->front, used < 0 ? "an impossible chain of rx answers" : "an rx answer in another request's slot");
	if (rx.error || !rx_give(f, q, &rx, first, into, *got)) {
		f->stats.rx_errors++;
	} else {
		++*got;
		f->stats.rx_packets++;
		f->stats.rx_bytes += rx.len;
	}
	q->seen_from += (unsigned)used;
	q->lent += (unsigned)used;
	if (!into->loans)
		rx_give_back(f, q);
	return used;
}

/* Is it a packet by itself, the answer to that request, and right? All others go through rx_packet, which knows why not. */
static bool is_short(const struct netif_rx_response *r, uint32_t request)
{
	return r->status >= PV_NET_LEN_MIN && r->offset + r->status <= PV_PAGE_SIZE && r->id == (request & (SLOTS - 1)) &&
	       !(r->flags & (NETRXF_more_data | NETRXF_extra_info));
}

/* Such packets in a row, of those that are here, as numbers `got` to n of a call. Returns how many. */
static unsigned rx_short(struct pv_netfront *f, struct net_queue *q, const struct rx_into *into, unsigned got, unsigned n)
{
	unsigned here = q->seen_until - q->seen_from, i;
	const union pv_net_rx_slot *seen = q->seen + q->seen_from;
	uint32_t first = q->rx.cons - here;
	uint64_t bytes = 0;

	n = n - got < here ? n - got : here;
	for (i = 0; i < n && is_short(&seen[i].rsp, first + i); i++) {
		const struct netif_rx_response *r = &seen[i].rsp;
		struct pv_netfront_packet *p = into->loans ? &into->loans[got + i].packet : &into->copies[got + i];
		uint8_t *data = rx_page(f, q, first + i) + r->offset, *to = into->loans ? data : p->data;
		uint32_t len = (uint32_t)r->status;

		if (into->loans) {
			into->loans[got + i].niov = 1;
			into->loans[got + i].iov[0] = (struct iovec){ data, len };
		} else if (len <= p->len) {
			memcpy(to, data, len);
		} else {
			break;
		}
		*p = (struct pv_netfront_packet){ .data = to, .len = len, .csum_blank = r->flags & NETRXF_csum_blank,
						  .data_validated = r->flags & NETRXF_data_validated, .headroom = r->offset };
		bytes += len;
	}
	q->seen_from += i;
	q->lent += i;
	f->stats.rx_packets += i;
	f->stats.rx_bytes += bytes;
	if (!into->loans)
		rx_give_back(f, q);
	return i;
}

/* The queue is empty: from now on its event wakes us. Returns 1: something came meanwhile, 0, -EPROTO. */
int net_rx_rest(struct pv_netfront *f, struct net_queue *q)
{
	int n;

	net_publish(f, q, &q->rx);
	n = f->config.poll ? 0 : pv_ring_rearm(&q->rx, 1);
	if (n < 0)
		return front_broken(&f->front, "more rx answers than requests");
	if (n > 0)
		return 1;
	net_unmask(f, q);
	return 0;
}

/* Receive up to n packets; used counts slots. Returns packets, or -EPROTO; fewer than n: nothing more is there. */
static int rx_burst(struct pv_netfront *f, struct net_queue *q, const struct rx_into *into, unsigned n, unsigned *used)
{
	unsigned got = 0;

	while (got < n && *used < DROPS_MAX) {
		unsigned many = rx_short(f, q, into, got, n);
		int rc;

		got += many;
		*used += many;
		if (got == n)
			break;
		rc = rx_packet(f, q, into, &got);
		if (rc < 0)
			return rc;
		if (rc == 0) {
			rc = rx_take(f, q);
			if (rc < 0)
				return rc;
			if (rc == 0)
				break;
			continue;
		}
		*used += (unsigned)rc;
	}
	return (int)got;
}

static int receive(struct pv_netfront *f, unsigned queue, const struct rx_into *into, unsigned n)
{
	struct net_queue *q;
	unsigned used = 0;
	int got, more;

	if (f->front.state != FRONT_CONNECTED && f->front.state != FRONT_CLOSING)
		return front_error(&f->front);
	if (queue >= f->queues)
		return -EINVAL;
	q = &f->queue[queue];
	rx_give_back(f, q);
	do {
		got = rx_burst(f, q, into, n, &used);
		if (got < 0)
			return got;
		if (got > 0 || n == 0) {
			net_publish(f, q, &q->rx);
			return got;
		}
		rx_give_back(f, q); /* what was no packet */
		more = net_rx_rest(f, q);
		if (more < 0)
			return more;
	} while (more && used < DROPS_MAX);
	return more ? -EAGAIN : 0;
}

int pv_netfront_recv(struct pv_netfront *f, unsigned queue, struct pv_netfront_packet *p, unsigned n)
{
	return receive(f, queue, &(struct rx_into){ .copies = p }, n);
}

int pv_netfront_borrow(struct pv_netfront *f, unsigned queue, struct pv_netfront_loan *l, unsigned n)
{
	return receive(f, queue, &(struct rx_into){ .loans = l }, n);
}
