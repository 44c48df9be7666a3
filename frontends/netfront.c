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
	PORTS = 32, /* events fetched at once */
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
	net_tx_begin(q, (uint8_t *)f->tx.addr + (size_t)i * f->tx_pages * PV_PAGE_SIZE, f->tx.gref + (size_t)i * f->tx_pages, f->tx_pages);
	q->rx_page = (uint8_t *)f->rx.addr + (size_t)i * f->rx_pages * PV_PAGE_SIZE;
	q->rx_gref = f->rx.gref + (size_t)i * f->rx_pages;
	net_rx_post(f, q, SLOTS);
	pv_ring_publish(&q->rx); /* nobody to notify yet */
	*choice = (struct pv_noxs_vif_queue){ f->ring.gref[2 * i], f->ring.gref[2 * i + 1], q->port[0], q->port[1] };
	return 0;
}

/* Pages of a queue and direction. More than slots: see netfront_tx.c. */
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

/* ---- events ---- */

/* A port fired, or something of ours should be looked at: tx answers, and is there something to receive? */
static int queue_work(struct pv_netfront *f, struct net_queue *q)
{
	int rx, room, rc = net_tx_reap(f, q);

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
			f->stats.tx_errors += net_tx_unanswered(&f->queue[i]);
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
			net_tx_reap(f, q); /* a lie is told by pv_netfront_work */
		n += net_tx_unanswered(q);
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
