/* netfront_tx.c - what a vif sends: packets are copied into granted pages, or small ones into parts of them, each gets a slot, and answers give them back.
 *
 * A core holds few stores at once (64, on Zen 4), and those to the ring and the pages wait for lines that the other core has: any other store takes
 * their room. So most packets go through tx_burst, and answers through net_tx_reap, which keep what changes with each in registers until the end. */
#include "netfront_int.h"
#include <errno.h>
#include <string.h>

enum {
	LEN_MAX = 65535, /* the size field of a first slot */
	PLACE = PV_PAGE_SIZE / SMALLS,
	SMALL = 700, /* bytes of a packet, at most: of a queue's places together less than a core's cache holds */
	COLOURS = PV_PAGE_SIZE / 2 / PV_CACHE_LINE, PLACE_COLOURS = 4, /* twice as many of half a place */
	SPREAD = 8, /* so many packets in a row are in different pages: of one page a core fetches more than it is to have */
	AHEAD = 2, AHEAD_SMALL = 16, /* packets: so long before the lines that it is written to are fetched */
};
_Static_assert(SMALL + (PLACE_COLOURS - 1) * PV_CACHE_LINE <= PLACE && PLACE / 2 + (2 * PLACE_COLOURS - 1) * PV_CACHE_LINE <= PLACE,
	       "a small packet stays in its place");

void net_tx_begin(struct net_queue *q, void *pages, const uint32_t *gref, unsigned n)
{
	struct net_out *out = &q->out;

	*out = (struct net_out){ .page = pages, .gref = gref, .ids = SLOTS + n - SMALL_PAGES, .id = &q->out_ids };
	memset(out->id->state, TX_FREE, sizeof(out->id->state));
	for (unsigned i = 0, set = SPREAD * SMALLS; i < SLOTS; i++)
		out->id->small[out->smalls++] = (uint16_t)(i / set * set + i % SPREAD * SMALLS + i % set / SPREAD);
	for (unsigned id = SLOTS; id < out->ids; id++)
		out->id->free[out->newest++] = (uint16_t)id;
}

/* ---- answers ---- */

/* Check one answer and take its id back. Returns 0 or -EPROTO. */
static int tx_answer(struct pv_netfront *f, struct net_queue *q, struct net_out *out, const struct netif_tx_response *rsp)
{
	struct net_out_ids *id = out->id;

	if (rsp->status == NETIF_RSP_NULL) { /* of an extra-info slot; its id means nothing */
		if (q->tx_extras == 0)
			return front_broken(&f->front, "an answer to an extra-info slot that was not sent");
		q->tx_extras--;
		return 0;
	}
	if (rsp->id >= out->ids || id->state[rsp->id] == TX_FREE)
		return front_broken(&f->front, "a tx answer to an id that is not in flight");
	if (rsp->status != NETIF_RSP_OKAY)
		++*(id->state[rsp->id] == TX_GROUP ? &f->stats.groups_refused : &f->stats.tx_errors);
	id->state[rsp->id] = TX_FREE;
	if (rsp->id < SLOTS)
		id->small[out->smalls++] = rsp->id;
	else
		id->free[out->newest++ % PAGES_MAX] = rsp->id;
	return 0;
}

int net_tx_reap(struct pv_netfront *f, struct net_queue *q)
{
	struct netif_tx_response rsp;
	struct net_out out = q->out;
	struct pv_ring ring = q->tx;
	int n = pv_ring_ready(&ring), rc = 0;

	if (n < 0)
		return front_broken(&f->front, "more tx answers than requests");
	for (int i = 0; i < n && rc == 0; i++) {
		pv_net_tx_take_rsp(&ring, &rsp);
		rc = tx_answer(f, q, &out, &rsp);
	}
	q->tx = ring;
	q->out = out;
	return rc;
}

static uint32_t pages_free(const struct net_out *out)
{
	return out->newest - out->oldest;
}

unsigned net_tx_unanswered(const struct net_queue *q)
{
	return q->out.ids - q->out.smalls - pages_free(&q->out);
}

/* ---- a packet's place and slot ---- */

/* May this packet be sent on this device? */
static bool sendable(const struct pv_netfront *f, const struct pv_netfront_packet *p)
{
	const uint8_t *eth = p->data;
	bool v6;

	if (p->len < PV_NET_LEN_MIN || p->len > LEN_MAX || (p->len > PV_PAGE_SIZE && !(f->features & PV_VIF_SG)))
		return false;
	v6 = eth[12] == 0x86 && eth[13] == 0xdd;
	if (p->csum_blank && !(f->features & (v6 ? PV_VIF_CSUM_IPV6 : PV_VIF_CSUM_IPV4)))
		return false;
	switch (p->gso_type) {
	case XEN_NETIF_GSO_TYPE_NONE:
		return true;
	case XEN_NETIF_GSO_TYPE_TCPV4:
		return p->gso_size && (f->features & PV_VIF_GSO_TCPV4);
	case XEN_NETIF_GSO_TYPE_TCPV6:
		return p->gso_size && (f->features & PV_VIF_GSO_TCPV6);
	default:
		return false;
	}
}

static uint32_t page_of(uint16_t id)
{
	return id < SLOTS ? id / SMALLS : id - SLOTS + SMALL_PAGES;
}

/* Where all packets begin at the same places of their pages they meet in the same few sets of the CPU's caches. */
static uint16_t offset_of(uint16_t id, uint32_t part)
{
	if (id < SLOTS)
		return (uint16_t)(id % SMALLS * PLACE + id / SMALLS % (part > PLACE / 2 ? PLACE_COLOURS : 2 * PLACE_COLOURS) * PV_CACHE_LINE);
	return part <= PV_PAGE_SIZE / 2 ? (uint16_t)(id % COLOURS * PV_CACHE_LINE) : 0;
}

static uint8_t *tx_data(const struct net_out *out, uint16_t id, uint32_t part)
{
	return out->page + (size_t)page_of(id) * PV_PAGE_SIZE + offset_of(id, part);
}

/* What a packet is written to. A large one: the page that came back first, for until the CPU's caches have thrown out what the
 * backend's core read of it, each line must be taken from that core, at several times the cost of one from the cache that they share. A
 * small one: the place that came back last, so that few pages, and few entries of the cores' tables of pages, are in use. `ahead`: of the packets after it. */
static uint16_t tx_id(const struct net_out *out, uint32_t len, unsigned ahead)
{
	return len > SMALL ? out->id->free[(out->oldest + ahead) % PAGES_MAX] : out->id->small[(out->smalls - 1 - ahead) % SLOTS];
}

/* A core waits for each line that it writes to and does not have: have those fetched that are soon to be written, if what follows is
 * like this. */
static void tx_fetch(const struct net_out *out, uint32_t len, uint32_t part)
{
	unsigned ahead = len > SMALL ? AHEAD : AHEAD_SMALL;
	const uint8_t *to = tx_data(out, tx_id(out, len, ahead), part);

	if ((len > SMALL ? pages_free(out) : out->smalls) <= ahead)
		return;
	for (uint32_t at = 0; at < part; at += PV_CACHE_LINE)
		pv_prefetch_write(to + at);
}

/* A place or page for a packet of len bytes. The room was checked. */
static uint16_t tx_take(struct net_out *out, uint32_t len, enum tx_state state)
{
	uint16_t id = tx_id(out, len, 0);

	if (len > SMALL)
		out->oldest++;
	else
		out->smalls--;
	out->id->state[id] = (uint8_t)state;
	return id;
}

/* The part of a packet that begins `at` bytes into it: its place and its slot. */
static void tx_part(struct net_out *out, struct pv_ring *ring, const struct pv_netfront_packet *p, uint32_t at, uint32_t part)
{
	uint16_t id, flags = at + part < p->len ? NETTXF_more_data : 0;

	if (at == 0)
		flags |= (p->csum_blank ? NETTXF_csum_blank : 0) | (p->gso_type ? NETTXF_extra_info : 0) |
			 (p->csum_blank || p->data_validated ? NETTXF_data_validated : 0);
	tx_fetch(out, p->len, part);
	id = tx_take(out, p->len, TX_INFLIGHT);
	pv_copy(tx_data(out, id, part), (const uint8_t *)p->data + at, part);
	pv_net_tx_fill(ring, out->gref[page_of(id)], offset_of(id, part), flags, id, (uint16_t)(at ? part : p->len));
}

static void tx_fill_extra(struct net_queue *q, const struct netif_extra_info *e)
{
	uint8_t *slot = pv_ring_fill(&q->tx);

	memcpy(slot, e, sizeof(*e));
	memset(slot + sizeof(*e), 0, PV_NET_TX_SLOT - sizeof(*e));
	q->tx_extras++;
}

/* ---- packets ---- */

/* One packet into its slots and pages. The room was checked. */
static void tx_packet(struct net_queue *q, const struct pv_netfront_packet *p)
{
	for (uint32_t at = 0, part; at < p->len; at += part) {
		part = p->len - at < PV_PAGE_SIZE ? p->len - at : PV_PAGE_SIZE;
		tx_part(&q->out, &q->tx, p, at, part);
		if (at == 0 && p->gso_type)
			tx_fill_extra(q, &(struct netif_extra_info){ .type = XEN_NETIF_EXTRA_TYPE_GSO,
								     .u.gso = { .size = p->gso_size, .type = p->gso_type } });
	}
}

/* Is it to be sent in one slot, as nearly all are? */
static bool is_short(const struct pv_netfront *f, const struct pv_netfront_packet *p)
{
	return p->len >= PV_NET_LEN_MIN && p->len <= PV_PAGE_SIZE && !p->gso_type && (!p->csum_blank || sendable(f, p));
}

static uint32_t parts_of(const struct pv_netfront_packet *p)
{
	return (p->len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE;
}

static bool has_place(const struct net_out *out, const struct pv_netfront_packet *p)
{
	return p->len <= SMALL || pages_free(out) >= parts_of(p);
}

/* Such packets in a row, as far as there is room. Returns how many. */
static __attribute__((flatten)) unsigned tx_burst(struct pv_netfront *f, struct net_queue *q, const struct pv_netfront_packet *p, unsigned n)
{
	struct net_out out = q->out;
	struct pv_ring ring = q->tx;
	uint64_t bytes = 0;
	unsigned i;

	n = n < pv_ring_room(&ring) ? n : pv_ring_room(&ring);
	for (i = 0; i < n && is_short(f, &p[i]) && has_place(&out, &p[i]); i++) {
		tx_part(&out, &ring, &p[i], 0, p[i].len);
		bytes += p[i].len;
	}
	q->out = out;
	q->tx = ring;
	f->stats.tx_packets += i;
	f->stats.tx_bytes += bytes;
	return i;
}

static bool tx_room(const struct net_queue *q, const struct pv_netfront_packet *p)
{
	return pv_ring_room(&q->tx) >= parts_of(p) + !!p->gso_type && has_place(&q->out, p);
}

/* Make room for p, from answers that came; else ask to be told when a quarter of what is in flight was answered. Returns 1: there
 * is room, 0: none, or -EPROTO. */
static int tx_make_room(struct pv_netfront *f, struct net_queue *q, const struct pv_netfront_packet *p)
{
	for (;;) {
		uint32_t inflight = q->tx.nr - pv_ring_room(&q->tx);
		int rc = net_tx_reap(f, q);

		if (rc < 0)
			return rc;
		if (tx_room(q, p))
			return 1;
		net_publish(f, q, &q->tx); /* else there may be nothing in flight to wait for */
		if (f->config.poll)
			return 0;
		q->full = true;
		rc = pv_ring_rearm(&q->tx, 1 + inflight / 4);
		if (rc < 0)
			return front_broken(&f->front, "more tx answers than requests");
		if (rc == 0) {
			net_unmask(f, q); /* also for those who send and do not receive */
			return 0;
		}
	}
}

int pv_netfront_send(struct pv_netfront *f, unsigned queue, const struct pv_netfront_packet *p, unsigned n)
{
	struct net_queue *q;
	unsigned i;
	int rc = 0;

	if (f->front.state != FRONT_CONNECTED)
		return front_error(&f->front);
	if (queue >= f->queues)
		return -EINVAL;
	q = &f->queue[queue];
	for (i = tx_burst(f, q, p, n); i < n; i += tx_burst(f, q, p + i, n - i)) {
		if (!sendable(f, &p[i])) {
			rc = -EINVAL;
			break;
		}
		if (!tx_room(q, &p[i]) && (rc = tx_make_room(f, q, &p[i])) <= 0)
			break;
		tx_packet(q, &p[i]);
		f->stats.tx_packets++;
		f->stats.tx_bytes += p[i].len;
		i++;
	}
	net_publish(f, q, &q->tx);
	return i && rc != -EPROTO ? (int)i : rc;
}

/* Through the first queue: the filter is one for all. */
int pv_netfront_group(struct pv_netfront *f, const uint8_t addr[6], bool join)
{
	const struct pv_netfront_packet like = { .len = 1, .gso_type = 1 }; /* one slot and one of extra-info */
	struct netif_extra_info e = { .type = join ? XEN_NETIF_EXTRA_TYPE_MCAST_ADD : XEN_NETIF_EXTRA_TYPE_MCAST_DEL };
	struct net_queue *q = f->queue;
	uint16_t id;
	int rc;

	if (f->front.state != FRONT_CONNECTED)
		return front_error(&f->front) ? front_error(&f->front) : -EAGAIN;
	if (!(f->front.offer.vif.features & PV_VIF_MCAST_CONTROL))
		return -EOPNOTSUPP;
	rc = tx_room(q, &like) ? 1 : tx_make_room(f, q, &like);
	if (rc <= 0)
		return rc ? rc : -EAGAIN;
	id = tx_take(&q->out, like.len, TX_GROUP);
	memcpy(e.u.mcast.addr, addr, 6);
	pv_net_tx_fill(&q->tx, q->out.gref[page_of(id)], 0, NETTXF_extra_info, id, 0);
	tx_fill_extra(q, &e);
	net_publish(f, q, &q->tx);
	rc = pv_ring_rearm(&q->tx, q->tx.prod - q->tx.cons); /* somebody may wait for its answer alone */
	return rc > 0 ? net_tx_reap(f, q) : rc < 0 ? front_broken(&f->front, "more tx answers than requests") : 0;
}
