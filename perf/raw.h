/* raw.h - a vif or vbd of a guest that has neither netfront nor blkfront: its rings are the program's, which puts into them what it likes.
 * Made of front.h, where the states are. */
#ifndef PERF_RAW_H
#define PERF_RAW_H

#include "perf.h"
#include <pvio/blk.h>
#include <pvio/front.h>
#include <pvio/net.h>

enum { RAW_TX, RAW_RX, RAW_CTRL, RAW_DATA /* for what is sent */, RAW_PAGES, RAW_BLK = 0 };

/* Owner: the program; one thread. Lifetime: raw_open to front_close, which ends the pages and ports as well. */
struct raw {
	struct front front;
	struct pv_ring ring[RAW_DATA]; /* of a vif; a vbd has RAW_BLK alone */
	uint8_t *pages;
	uint32_t gref[RAW_PAGES], port, ctrl_port; /* ctrl_port: of a vif's control ring; 0: it has none */
};

static inline void raw_ring_begin(struct raw *r, unsigned ring, uint32_t slot_size)
{
	pv_ring_init_front(&r->ring[ring], r->pages + ring * PV_PAGE_SIZE, PV_PAGE_SIZE, slot_size);
}

/* Ask for a connection, of what was offered; the rings begin anew. */
static inline void raw_choose(struct raw *r)
{
	struct pv_noxs_choice c = { .queues = 1 };

	if (r->front.type == PV_NOXS_VBD) {
		raw_ring_begin(r, RAW_BLK, pv_blk_slot_size(PV_VBD_ABI_NATIVE));
		c.vbd[0] = (struct pv_noxs_vbd_queue){ .ring_gref = { r->gref[RAW_BLK] }, .port = r->port };
	} else {
		raw_ring_begin(r, RAW_TX, PV_NET_TX_SLOT);
		raw_ring_begin(r, RAW_RX, PV_NET_RX_SLOT);
		raw_ring_begin(r, RAW_CTRL, sizeof(struct xen_netif_ctrl_request));
		c.vif[0] = (struct pv_noxs_vif_queue){ r->gref[RAW_TX], r->gref[RAW_RX], r->port, r->port };
		c.features = r->ctrl_port ? PV_VIF_CTRL_RING : 0;
		c.ctrl_gref = r->ctrl_port ? r->gref[RAW_CTRL] : 0;
		c.ctrl_port = r->ctrl_port;
	}
	if (front_choose(&r->front, &c) < 0)
		perf_die("%s", r->front.why);
}

/* Follow the states, without waiting. The rings' events are not looked at. */
static inline void raw_follow(struct raw *r)
{
	uint32_t ports[4];

	front_events(&r->front, ports, 4);
}

static inline uint32_t raw_port(struct raw *r)
{
	int port = pv_evt_alloc(r->front.h, r->front.entry.backend_domid);

	if (port < 0)
		perf_die("domain %u: %s", r->front.h->domid, pv_hyper_error(r->front.h));
	return (uint32_t)port;
}

/* Returns when it is connected. */
static inline void raw_open(struct raw *r, const char *hypervisor, int domid, enum pv_noxs_type type, uint32_t devid, bool ctrl, int wait_ms)
{
	if (front_open(&r->front, hypervisor, domid, type, devid, wait_ms) < 0)
		perf_die("%s", r->front.why);
	if (pv_gnt_share(r->front.h, r->front.entry.backend_domid, RAW_PAGES, true, NULL, r->gref, (void **)&r->pages) < 0)
		perf_die("domain %d: %s", domid, pv_hyper_error(r->front.h));
	r->port = raw_port(r);
	r->ctrl_port = ctrl ? raw_port(r) : 0;
	raw_choose(r);
	while (r->front.state == FRONT_CONNECTING) {
		struct pollfd p = { .fd = pv_evt_fd(r->front.h), .events = POLLIN };

		if (poll(&p, 1, wait_ms) == 0)
			perf_die("a device of domain %d does not connect", domid);
		raw_follow(r);
	}
	if (r->front.state != FRONT_CONNECTED)
		perf_die("domain %d: %s", domid, r->front.why);
}

/* Take the answers of a ring. Returns how many. */
static inline unsigned raw_answers(struct raw *r, unsigned ring)
{
	int n = pv_ring_ready(&r->ring[ring]);

	if (n < 0)
		perf_die("domain %u: more answers than requests", r->front.h->domid);
	r->ring[ring].cons += (unsigned)n; /* nobody looks at them */
	return (unsigned)n;
}

#endif
