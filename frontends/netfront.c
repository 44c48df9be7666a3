/* netfront.c - a vif from the guest's side.
 *
 * Theory of operation. Three shares carry a device: the rings, the tx pages (the backend may only read them) and the rx pages,
 * each one call, made when the device is offered and kept as long as it is connected, so that a backend may keep them mapped.
 * Request number n of the rx ring, counted without end, has slot n modulo slots and page n modulo pages: an answer comes in its request's
 * slot, and requests are posted again in the order in which they were taken, so they never part. Tx page i has id i. The backend writes
 * to rings and rx pages whenever it likes: answers are copied once and checked (XSA-376), packets are copied out. Nothing but
 * what was sent is ever in a page that the backend sees: shares begin zeroed, and packets are copied in. So a backend that is not to
 * be trusted (offer.vif.untrusted) is served as any other.
 */
#include "netfront_int.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	COLOURS = PV_PAGE_SIZE / 2 / 64,
	SMALL = 700, /* bytes of a packet: of a queue's pages together less than a core's cache holds */
	AHEAD = 2, AHEAD_SMALL = 16, /* packets: so long before the lines of its page are fetched */
	PORTS = 32, /* events fetched at once */
	LEN_MAX = 65535, /* the size field of a first slot */
	/* What this frontend understands of what backends offer. */
	FEATURES = PV_VIF_SG | PV_VIF_CSUM_IPV4 | PV_VIF_CSUM_IPV6 | PV_VIF_GSO_TCPV4 | PV_VIF_GSO_TCPV6,
};

/* ---- shares, ports, choice ---- */

int net_share_make(struct pv_netfront *f, struct net_share *s, unsigned pages, bool writable)
{
	int rc;

	s->gref = calloc(pages, sizeof(*s->gref));
	if (!s->gref)
		return -ENOMEM;
	rc = pv_gnt_share(f->front.h, f->front.entry.backend_domid, pages, writable, NULL, s->gref, &s->addr);
	if (rc == 0)
		s->pages = pages;
	return rc;
}

/* End a share. Whether or not the backend still has it mapped: the pages never come back to us (XSA-396). */
void net_share_end(struct pv_netfront *f, struct net_share *s)
{
	if (s->pages)
		pv_gnt_unshare(f->front.h, s->addr, s->pages);
	free(s->gref);
	*s = (struct net_share){ 0 };
}

static void teardown(struct pv_netfront *f)
{
	for (unsigned i = 0; f->queue && i < f->queues; i++) {
		const uint32_t *port = f->queue[i].port;

		if (port[0])
			pv_evt_unbind(f->front.h, port[0]);
		if (port[1] && port[1] != port[0])
			pv_evt_unbind(f->front.h, port[1]);
	}
	free(f->queue);
	f->queue = NULL;
	net_ctrl_teardown(f);
	net_share_end(f, &f->ring);
	net_share_end(f, &f->tx);
	net_share_end(f, &f->rx);
}

static int setup_ports(struct pv_netfront *f, struct net_queue *q)
{
	for (int i = 0; i < 2; i++) {
		int port = i && !f->config.split_ports ? (int)q->port[0] : pv_evt_alloc(f->front.h, f->front.entry.backend_domid);

		if (port < 0)
			return port;
		q->port[i] = (uint32_t)port;
	}
	return 0;
}

static int setup_queue(struct pv_netfront *f, unsigned i, struct pv_noxs_vif_queue *choice)
{
	struct net_queue *q = &f->queue[i];
	uint8_t *ring = f->ring.addr;
	int rc = setup_ports(f, q);

	if (rc < 0)
		return rc;
	pv_ring_init_front(&q->tx, ring + (size_t)2 * i * PV_PAGE_SIZE, PV_PAGE_SIZE, PV_NET_TX_SLOT);
	pv_ring_init_front(&q->rx, ring + (size_t)(2 * i + 1) * PV_PAGE_SIZE, PV_PAGE_SIZE, PV_NET_RX_SLOT);
	q->tx_page = (uint8_t *)f->tx.addr + (size_t)i * f->tx_pages * PV_PAGE_SIZE;
	q->rx_page = (uint8_t *)f->rx.addr + (size_t)i * f->rx_pages * PV_PAGE_SIZE;
	q->tx_gref = f->tx.gref + (size_t)i * f->tx_pages;
	q->rx_gref = f->rx.gref + (size_t)i * f->rx_pages;
	for (uint16_t id = 0; id < f->tx_pages; id++)
		q->tx_free[q->tx_newest++] = id;
	for (unsigned slot = 0; slot < SLOTS; slot++)
		net_rx_post(f, q);
	pv_ring_publish(&q->rx); /* nobody to notify yet */
	*choice = (struct pv_noxs_vif_queue){ f->ring.gref[2 * i], f->ring.gref[2 * i + 1], q->port[0], q->port[1] };
	return 0;
}

/* Pages of a queue and direction. More than slots: see tx_free_page. */
static unsigned pages_wanted(const struct pv_netfront *f)
{
	unsigned pages = PAGES_MAX;

	if (f->config.static_grants)
		return SLOTS; /* what a list of them has room for */
	while (pages > SLOTS && (pages * f->queues > PAGES_MAX || (f->config.pages && pages > f->config.pages)))
		pages /= 2;
	return pages;
}

/* The pages of all queues for one direction; fewer than are wanted where the domain may not share so many. */
static int share_pages(struct pv_netfront *f, struct net_share *s, bool writable, unsigned *pages)
{
	int rc;

	for (*pages = pages_wanted(f); (rc = net_share_make(f, s, f->queues * *pages, writable)) < 0 && *pages > SLOTS; *pages = SLOTS)
		net_share_end(f, s);
	return rc;
}

static int setup_shares(struct pv_netfront *f)
{
	int rc = net_share_make(f, &f->ring, 2 * f->queues, true);

	if (rc == 0)
		rc = share_pages(f, &f->tx, false, &f->tx_pages);
	if (rc == 0)
		rc = share_pages(f, &f->rx, true, &f->rx_pages);
	f->queue = calloc(f->queues, sizeof(*f->queue));
	return rc ? rc : f->queue ? 0 : -ENOMEM;
}

static int no_resources(struct pv_netfront *f, int rc)
{
	const char *words = pv_hyper_error(f->front.h);
	char name[24];

	snprintf(f->front.why, sizeof(f->front.why), "%s of domain %u: no resources for %u queues: %s",
		 front_name(&f->front, name, sizeof(name)), f->front.h->domid, f->queues, *words ? words : strerror(-rc));
	teardown(f);
	f->front.state = FRONT_REFUSED;
	return rc;
}

/* From an offer to a choice. */
static int setup(struct pv_netfront *f)
{
	const struct pv_noxs_vif_offer *offer = &f->front.offer.vif;
	struct pv_noxs_choice choice = { 0 };
	unsigned want = f->config.queues ? f->config.queues : 1;
	int rc;

	f->queues = want < offer->queues_max ? want : offer->queues_max;
	f->features = offer->features & FEATURES & (f->config.features ? f->config.features : FEATURES);
	if (!(f->features & PV_VIF_SG))
		f->features &= ~(uint32_t)(PV_VIF_GSO_TCPV4 | PV_VIF_GSO_TCPV6); /* their packets need many slots */
	rc = setup_shares(f);
	for (unsigned i = 0; rc == 0 && i < f->queues; i++)
		rc = setup_queue(f, i, &choice.vif[i]);
	choice.queues = (uint16_t)f->queues;
	choice.features = f->features;
	if (rc == 0)
		rc = net_ctrl_setup(f, &choice);
	if (rc < 0)
		return no_resources(f, rc);
	return front_choose(&f->front, &choice);
}

int pv_netfront_open(const char *spec, int domid, const struct pv_netfront_config *c, struct pv_netfront **out,
		     char *why, size_t len)
{
	struct pv_netfront *f = calloc(1, sizeof(*f));
	int rc = f ? 0 : -ENOMEM;

	*out = NULL;
	if (why && len)
		*why = 0;
	if (rc)
		return rc;
	f->config = *c;
	rc = front_open(&f->front, spec, domid, PV_NOXS_VIF, c->devid, c->wait_ms);
	if (rc == 0)
		rc = setup(f);
	if (rc == 0) {
		*out = f;
		return 0;
	}
	if (why && len)
		snprintf(why, len, "%s", f->front.why);
	pv_netfront_close(f, 0);
	return rc;
}

void pv_netfront_close(struct pv_netfront *f, int timeout_ms)
{
	if (!f)
		return;
	front_leave(&f->front, timeout_ms);
	teardown(f);
	front_close(&f->front);
	free(f);
}

void net_publish(struct pv_netfront *f, struct net_queue *q, struct pv_ring *r)
{
	if (pv_ring_publish(r)) {
		pv_evt_notify(f->front.h, q->port[r == &q->rx]);
		f->stats.notifies++;
	}
}

/* Late, after the work: a storm of events costs its sender (XSA-391). */
void net_unmask(struct pv_netfront *f, struct net_queue *q)
{
	if (q->masked)
		pv_evt_unmask(f->front.h, q->port, q->port[0] == q->port[1] ? 1 : 2);
	q->masked = false;
}

/* ---- tx ---- */

/* Check one answer and take its id back. Returns 0 or -EPROTO. */
static int tx_answer(struct pv_netfront *f, struct net_queue *q, const struct netif_tx_response *rsp)
{
	if (rsp->status == NETIF_RSP_NULL) { /* of an extra-info slot; its id means nothing */
		if (q->tx_extras == 0)
			return front_broken(&f->front, "an answer to an extra-info slot that was not sent");
		q->tx_extras--;
		return 0;
	}
	if (rsp->id >= f->tx_pages || q->tx_state[rsp->id] == TX_FREE)
		return front_broken(&f->front, "a tx answer to an id that is not in flight");
	if (rsp->status != NETIF_RSP_OKAY)
		++*(q->tx_state[rsp->id] == TX_GROUP ? &f->stats.groups_refused : &f->stats.tx_errors);
	q->tx_state[rsp->id] = TX_FREE;
	q->tx_free[q->tx_newest++ & (f->tx_pages - 1)] = rsp->id;
	return 0;
}

static int tx_reap(struct pv_netfront *f, struct net_queue *q)
{
	struct netif_tx_response rsp;
	int n = pv_ring_ready(&q->tx), rc = 0;

	if (n < 0)
		return front_broken(&f->front, "more tx answers than requests");
	for (int i = 0; i < n && rc == 0; i++) {
		pv_net_tx_take_rsp(&q->tx, &rsp);
		rc = tx_answer(f, q, &rsp);
	}
	return rc;
}

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

static void tx_fill_extra(struct net_queue *q, const struct netif_extra_info *e)
{
	uint8_t *slot = pv_ring_fill(&q->tx);

	memcpy(slot, e, sizeof(*e));
	memset(slot + sizeof(*e), 0, PV_NET_TX_SLOT - sizeof(*e));
	q->tx_extras++;
}

static void tx_fill_gso(struct net_queue *q, const struct pv_netfront_packet *p)
{
	tx_fill_extra(q, &(struct netif_extra_info){ .type = XEN_NETIF_EXTRA_TYPE_GSO,
						     .u.gso = { .size = p->gso_size, .type = p->gso_type } });
}

/* Pages that the backend has not given back. */
static unsigned tx_unanswered(const struct pv_netfront *f, const struct net_queue *q)
{
	return f->tx_pages - (q->tx_newest - q->tx_oldest);
}

/* Where all packets begin at the head of a page they meet in the same few sets of the CPU's caches. */
static uint16_t tx_offset(uint16_t id, uint32_t part)
{
	return part <= PV_PAGE_SIZE / 2 ? id % COLOURS * 64 : 0;
}

/* Which of the free pages a packet is written to. A large one: that which came back first, for until the CPU's caches have thrown out what the
 * backend's core read of it, each line must be taken from that core, at several times the cost of one from the cache that they share. A
 * small one: that which came back last, so that few pages are in use. `ahead`: of the packets after it. */
static uint16_t tx_free_page(const struct pv_netfront *f, const struct net_queue *q, uint32_t len, unsigned ahead)
{
	return q->tx_free[(len > SMALL ? q->tx_oldest + ahead : q->tx_newest - 1 - ahead) & (f->tx_pages - 1)];
}

static uint8_t *tx_data(const struct net_queue *q, uint16_t id, uint32_t part)
{
	return q->tx_page + (size_t)id * PV_PAGE_SIZE + tx_offset(id, part);
}

/* A core waits for each line that it writes to and does not have: have those of a page fetched that is soon to be written, if what follows is
 * like this. */
static void tx_fetch(const struct pv_netfront *f, const struct net_queue *q, uint32_t len, uint32_t part)
{
	unsigned ahead = len > SMALL ? AHEAD : AHEAD_SMALL;
	const uint8_t *page = tx_data(q, tx_free_page(f, q, len, ahead), part);

	if (q->tx_newest - q->tx_oldest <= ahead)
		return;
	for (uint32_t at = 0; at < part; at += 64)
		pv_prefetch_write(page + at);
}

/* A page for a packet of len bytes. The room was checked. */
static uint16_t tx_take(const struct pv_netfront *f, struct net_queue *q, uint32_t len)
{
	uint16_t id = tx_free_page(f, q, len, 0);

	if (len > SMALL)
		q->tx_oldest++;
	else
		q->tx_newest--;
	return id;
}

/* One packet into its slots and pages. The room was checked. */
static void tx_packet(const struct pv_netfront *f, struct net_queue *q, const struct pv_netfront_packet *p)
{
	uint16_t flags = (p->csum_blank ? NETTXF_csum_blank : 0) | (p->gso_type ? NETTXF_extra_info : 0) |
			 (p->csum_blank || p->data_validated ? NETTXF_data_validated : 0);

	for (uint32_t at = 0; at < p->len;) {
		uint32_t part = p->len - at < PV_PAGE_SIZE ? p->len - at : PV_PAGE_SIZE;
		uint16_t id;
		bool more = at + part < p->len;

		tx_fetch(f, q, p->len, part);
		id = tx_take(f, q, p->len);
		q->tx_state[id] = TX_INFLIGHT;
		memcpy(tx_data(q, id, part), (const uint8_t *)p->data + at, part);
		pv_net_tx_fill(&q->tx, q->tx_gref[id], tx_offset(id, part), flags | (more ? NETTXF_more_data : 0), id, (uint16_t)(at ? part : p->len));
		if (at == 0 && p->gso_type)
			tx_fill_gso(q, p);
		flags = 0;
		at += part;
	}
}

static bool tx_room(const struct net_queue *q, const struct pv_netfront_packet *p)
{
	unsigned pages = (p->len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE;

	return pv_ring_room(&q->tx) >= pages + !!p->gso_type && q->tx_newest - q->tx_oldest >= pages;
}

/* Make room for p, from answers that came; else ask to be told when a quarter of what is in flight was answered. Returns 1: there
 * is room, 0: none, or -EPROTO. */
static int tx_make_room(struct pv_netfront *f, struct net_queue *q, const struct pv_netfront_packet *p)
{
	for (;;) {
		uint32_t inflight = q->tx.nr - pv_ring_room(&q->tx);
		int rc = tx_reap(f, q);

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
	for (i = 0; i < n; i++) {
		if (!sendable(f, &p[i])) {
			rc = -EINVAL;
			break;
		}
		if (!tx_room(q, &p[i]) && (rc = tx_make_room(f, q, &p[i])) <= 0)
			break;
		tx_packet(f, q, &p[i]);
		f->stats.tx_packets++;
		f->stats.tx_bytes += p[i].len;
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
	id = tx_take(f, q, like.len);
	q->tx_state[id] = TX_GROUP;
	memcpy(e.u.mcast.addr, addr, 6);
	pv_net_tx_fill(&q->tx, q->tx_gref[id], 0, NETTXF_extra_info, id, 0);
	tx_fill_extra(q, &e);
	net_publish(f, q, &q->tx);
	rc = pv_ring_rearm(&q->tx, q->tx.prod - q->tx.cons); /* somebody may wait for its answer alone */
	return rc > 0 ? tx_reap(f, q) : rc < 0 ? front_broken(&f->front, "more tx answers than requests") : 0;
}

/* ---- events ---- */

/* A port fired, or something of ours should be looked at: tx answers, and is there something to receive? */
static int queue_work(struct pv_netfront *f, struct net_queue *q)
{
	int rx, room, rc = tx_reap(f, q);

	if (rc < 0)
		return rc;
	rx = pv_ring_ready(&q->rx);
	if (rx < 0)
		return front_broken(&f->front, "more rx answers than requests");
	if (f->front.state != FRONT_CONNECTED || rx > 0 || q->seen_from < q->seen_until)
		return 1; /* the port stays masked until there is nothing more to receive */
	room = q->full;
	q->full = false;
	rc = net_rx_rest(f, q);
	return rc < 0 ? rc : rc | room;
}

static int ports_work(struct pv_netfront *f, const uint32_t *ports, int n)
{
	int ret = 0;

	for (int i = 0; i < n; i++) {
		if (f->ctrl.port && ports[i] == f->ctrl.port) {
			int rc = net_ctrl_work(f);

			if (rc < 0)
				return rc;
			continue;
		}
		for (unsigned k = 0; k < f->queues; k++) {
			int rc;

			if (f->queue[k].port[0] != ports[i] && f->queue[k].port[1] != ports[i])
				continue;
			f->queue[k].masked = true;
			f->stats.events++;
			rc = queue_work(f, &f->queue[k]);
			if (rc < 0)
				return rc;
			ret |= rc;
		}
	}
	return ret;
}

/* The backend went away and left us the device: wait for a new offer, and take it. What was in flight is lost. */
static int come_back(struct pv_netfront *f)
{
	if (f->front.state == FRONT_LOST) {
		for (unsigned i = 0; i < f->queues; i++)
			f->stats.tx_errors += tx_unanswered(f, &f->queue[i]);
		teardown(f);
		f->up = false;
		front_retire(&f->front);
	}
	if (front_find(&f->front) < 0)
		return front_error(&f->front);
	return setup(f);
}

int pv_netfront_work(struct pv_netfront *f)
{
	uint32_t ports[PORTS];
	int n = front_events(&f->front, ports, PORTS), rc;

	if (n < 0)
		return n;
	if (f->front.state == FRONT_LOST || f->front.state == FRONT_NONE)
		return come_back(f);
	rc = front_error(&f->front);
	if (rc < 0)
		return rc;
	rc = ports_work(f, ports, n);
	if (rc < 0 || f->up || f->front.state != FRONT_CONNECTED)
		return rc;
	f->up = true;
	net_ctrl_connected(f);
	return 1; /* connected just now: something may wait already */
}

/* ---- what it is ---- */

int pv_netfront_fd(const struct pv_netfront *f)
{
	return pv_evt_fd(f->front.h);
}

enum xenbus_state pv_netfront_state(const struct pv_netfront *f)
{
	return front_xenbus_state(&f->front);
}

const struct pv_noxs_vif_offer *pv_netfront_offer(const struct pv_netfront *f)
{
	return &f->front.offer.vif;
}

unsigned pv_netfront_queues(const struct pv_netfront *f)
{
	return f->queues;
}

uint32_t pv_netfront_features(const struct pv_netfront *f)
{
	return f->features;
}

void pv_netfront_say_pair(struct pv_netfront *f, enum pv_vif_pair pair)
{
	front_say_pair(&f->front, pair);
}

unsigned pv_netfront_unsent(struct pv_netfront *f)
{
	unsigned n = 0;

	for (unsigned i = 0; f->queue && i < f->queues; i++) {
		struct net_queue *q = &f->queue[i];

		if (f->front.state == FRONT_CONNECTED)
			tx_reap(f, q); /* a lie is told by pv_netfront_work */
		n += tx_unanswered(f, q);
	}
	return n;
}

const char *pv_netfront_error(const struct pv_netfront *f)
{
	return f->front.why;
}

void pv_netfront_stats(const struct pv_netfront *f, struct pv_netfront_stats *out)
{
	*out = f->stats;
}
