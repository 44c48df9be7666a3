/* netfront_ctrl.c - what a guest asks of its backend beside moving packets: the control ring (receive hashing, static grants), and what may
 * be chosen anew while connected (headroom, the multicast filter). An answer is copied once and checked as any other (XSA-376). */
#include "netfront_int.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_KEY, PAGE_MAPPING, PAGE_LISTS /* one a queue, from here on */ };

_Static_assert(CTRL_SLOTS * sizeof(struct xen_netif_ctrl_request) < PV_PAGE_SIZE, "the ring's page");
_Static_assert(2 * SLOTS * sizeof(struct xen_netif_gref) == PV_PAGE_SIZE, "a list has room for all pages of a queue");

/* ---- requests ---- */

static void put(struct pv_netfront *f, uint16_t type, uint32_t a, uint32_t b, uint32_t c)
{
	struct net_ctrl *t = &f->ctrl;
	uint16_t id = (uint16_t)(t->ring.prod % CTRL_SLOTS); /* free: its answer was taken, or the slot would not be */

	*(struct xen_netif_ctrl_request *)pv_ring_fill(&t->ring) =
		(struct xen_netif_ctrl_request){ .id = id, .type = type, .data = { a, b, c } };
	t->type[id] = type;
	t->pending++;
}

static void publish(struct pv_netfront *f)
{
	if (pv_ring_publish(&f->ctrl.ring)) {
		pv_evt_notify(f->front.h, f->ctrl.port);
		f->stats.notifies++;
	}
}

static uint8_t *told(struct pv_netfront *f, unsigned page)
{
	return (uint8_t *)f->ctrl.told.addr + (size_t)page * PV_PAGE_SIZE;
}

static int error_of(uint32_t status)
{
	switch (status) {
	case XEN_NETIF_CTRL_STATUS_SUCCESS:
		return 0;
	case XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED:
		return -EOPNOTSUPP;
	case XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW:
		return -EOVERFLOW;
	default:
		return -EINVAL;
	}
}

static int take(struct pv_netfront *f)
{
	struct net_ctrl *t = &f->ctrl;
	struct xen_netif_ctrl_response r = *(const volatile struct xen_netif_ctrl_response *)pv_ring_take(&t->ring);

	if (r.id >= CTRL_SLOTS || !t->type[r.id] || t->type[r.id] != r.type)
		return front_broken(&f->front, "an answer to a control request that is not in flight");
	t->type[r.id] = 0;
	t->pending--;
	if (!t->error)
		t->error = error_of(r.status);
	return 0;
}

int net_ctrl_work(struct pv_netfront *f)
{
	struct net_ctrl *t = &f->ctrl;
	int n;

	do {
		n = pv_ring_ready(&t->ring);
		for (int i = 0; i < n; i++) {
			int rc = take(f);

			if (rc < 0)
				return rc;
		}
		if (n == 0)
			n = pv_ring_rearm(&t->ring, 1);
		if (n < 0)
			return front_broken(&f->front, "more control answers than requests");
	} while (n);
	pv_evt_unmask(f->front.h, &t->port, 1);
	return 0;
}

/* ---- coming and going ---- */

static int ring_setup(struct pv_netfront *f, struct pv_noxs_choice *choice)
{
	struct net_ctrl *t = &f->ctrl;
	int rc = net_share_make(f, &t->page, 1, true), port;

	if (rc == 0)
		rc = net_share_make(f, &t->told, PAGE_LISTS + f->queues, true);
	if (rc < 0)
		return rc;
	port = pv_evt_alloc(f->front.h, f->front.entry.backend_domid);
	if (port < 0)
		return port;
	t->port = (uint32_t)port;
	pv_ring_init_front(&t->ring, t->page.addr, PV_PAGE_SIZE, sizeof(struct xen_netif_ctrl_request));
	choice->features |= PV_VIF_CTRL_RING;
	choice->ctrl_gref = t->page.gref[0];
	choice->ctrl_port = t->port;
	return 0;
}

int net_ctrl_setup(struct pv_netfront *f, struct pv_noxs_choice *choice)
{
	uint32_t offered = f->front.offer.vif.features;

	if (f->config.headroom && offered & PV_VIF_HEADROOM) {
		choice->features |= PV_VIF_HEADROOM;
		choice->headroom = f->config.headroom;
	}
	if (f->config.multicast_filter)
		choice->features |= offered & PV_VIF_MCAST_CONTROL;
	if ((f->config.control || f->config.static_grants) && offered & PV_VIF_CTRL_RING)
		return ring_setup(f, choice);
	return 0;
}

void net_ctrl_teardown(struct pv_netfront *f)
{
	if (f->ctrl.port)
		pv_evt_unbind(f->front.h, f->ctrl.port);
	net_share_end(f, &f->ctrl.page);
	net_share_end(f, &f->ctrl.told);
	f->ctrl = (struct net_ctrl){ 0 };
}

/* All pages of all queues. A backend that does not want them copies each packet as ever. */
void net_ctrl_connected(struct pv_netfront *f)
{
	if (!f->config.static_grants || !f->ctrl.port)
		return;
	for (unsigned q = 0; q < f->queues; q++) {
		struct xen_netif_gref *list = (struct xen_netif_gref *)told(f, PAGE_LISTS + q);

		for (unsigned i = 0; i < SLOTS; i++) {
			list[i] = (struct xen_netif_gref){ .ref = f->queue[q].out.gref[i], .flags = XEN_NETIF_CTRLF_GREF_readonly };
			list[SLOTS + i] = (struct xen_netif_gref){ .ref = f->queue[q].rx_gref[i] };
		}
		put(f, XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, q, f->ctrl.told.gref[PAGE_LISTS + q], 2 * SLOTS);
	}
	publish(f);
}

/* ---- what the caller asks ---- */

int pv_netfront_set_hash(struct pv_netfront *f, const struct pv_netfront_hash *h)
{
	struct net_ctrl *t = &f->ctrl;

	if (f->front.state != FRONT_CONNECTED)
		return front_error(&f->front) ? front_error(&f->front) : -EAGAIN;
	if (!t->port)
		return -EOPNOTSUPP;
	if (t->pending)
		return -EBUSY;
	if (h && (h->key_len > PV_PAGE_SIZE || h->mapping_len > PV_PAGE_SIZE / sizeof(h->mapping[0])))
		return -EINVAL;
	t->error = 0;
	if (!h) {
		put(f, XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, XEN_NETIF_CTRL_HASH_ALGORITHM_NONE, 0, 0);
		publish(f);
		return 0;
	}
	memcpy(told(f, PAGE_KEY), h->key, h->key_len);
	memcpy(told(f, PAGE_MAPPING), h->mapping, h->mapping_len * sizeof(h->mapping[0]));
	put(f, XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ, 0, 0);
	put(f, XEN_NETIF_CTRL_TYPE_SET_HASH_KEY, t->told.gref[PAGE_KEY], h->key_len, 0);
	put(f, XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE, h->mapping_len, 0, 0);
	if (h->mapping_len)
		put(f, XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, t->told.gref[PAGE_MAPPING], h->mapping_len, 0);
	put(f, XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS, h->types, 0, 0);
	publish(f);
	return 0;
}

int pv_netfront_control_result(const struct pv_netfront *f)
{
	return f->ctrl.pending ? -EINPROGRESS : f->ctrl.error;
}

/* Choose one of the things anew that may change. */
static int change(struct pv_netfront *f, uint32_t feature, bool on)
{
	uint32_t features = (f->config.headroom ? PV_VIF_HEADROOM : 0) | (f->config.multicast_filter ? PV_VIF_MCAST_CONTROL : 0);

	if (on && !(f->front.offer.vif.features & feature))
		return -EOPNOTSUPP;
	if (f->front.state != FRONT_CONNECTED)
		return front_error(&f->front); /* the next choice has it */
	return front_choose_anew(&f->front, features & f->front.offer.vif.features, f->config.headroom);
}

int pv_netfront_set_headroom(struct pv_netfront *f, unsigned bytes)
{
	if (bytes > PV_NOXS_HEADROOM_MAX)
		return -EINVAL;
	f->config.headroom = (uint16_t)bytes;
	return change(f, PV_VIF_HEADROOM, bytes);
}

int pv_netfront_set_filter(struct pv_netfront *f, bool on)
{
	f->config.multicast_filter = on;
	return change(f, PV_VIF_MCAST_CONTROL, on);
}
