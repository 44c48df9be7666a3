/* netfront_int.h - what the files of netfront share. */
#ifndef PV_NETFRONT_INT_H
#define PV_NETFRONT_INT_H

#include <pvio/front.h>
#include <pvio/net.h>
#include <pvio/netfront.h>

enum {
	SLOTS = 256, /* of a tx or rx ring: pv_ring_slots of one page, asserted in setup */
	PAGES_MAX = 4 * SLOTS, /* of a queue and direction */
	SMALLS = 4, /* small packets have so many places in a page, ... */
	SMALL_PAGES = SLOTS / SMALLS, /* ... and these pages, the first of a queue's */
	SEEN = 64, /* rx answers copied at once; more than a chain has */
	CTRL_SLOTS = 128, /* of a control ring */
};

/* A tx id and its place are the caller's of fill until published, then the backend's until it answers. */
enum tx_state { TX_FREE, TX_INFLIGHT, TX_GROUP /* in flight too: no packet, a change of the multicast filter */ };

/* The pages of a queue that packets are sent in. Ids below SLOTS are places for small packets, the others are pages. */
struct net_out {
	uint8_t *page;
	const uint32_t *gref; /* of each page */
	uint32_t ids;
	uint32_t smalls; /* free places: as many as the ring has free slots, or more */
	uint32_t oldest, newest; /* of `free`, both free-running */
	struct net_out_ids { /* apart: the rest is copied into registers while packets are sent */
		uint16_t small[SLOTS]; /* free places: [0, smalls) */
		uint16_t free[PAGES_MAX]; /* free pages, in the order in which they came back: [oldest, newest) */
		uint8_t state[SLOTS + PAGES_MAX]; /* enum tx_state */
	} *id;
};

/* Owner: its netfront. Lifetime: from setup to teardown. */
struct net_queue {
	struct pv_ring tx, rx;
	uint32_t port[2]; /* of tx and of rx, the same for both if they are not split; 0: none */
	bool masked; /* its event was fetched; unmasked when there is nothing more to receive */
	bool full; /* the last send found no room */
	unsigned tx_extras; /* extra-info slots in flight: as many NULL answers may come */
	struct net_out out;
	struct net_out_ids out_ids; /* out's */
	uint8_t *rx_page; /* f->rx_pages of them */
	const uint32_t *rx_gref;
	union pv_net_rx_slot seen[SEEN]; /* answers taken and not yet parsed: [seen_from, seen_until) */
	unsigned seen_from, seen_until;
	unsigned lent; /* slots taken, whose pages the caller may still read: posted again by its next call */
};

struct net_share {
	void *addr;
	uint32_t *gref;
	unsigned pages; /* 0: not shared */
};

/* The control ring. Owner: its netfront. Lifetime: from setup to teardown. */
struct net_ctrl {
	struct pv_ring ring;
	uint32_t port; /* 0: there is none */
	struct net_share page, told; /* the ring; what requests name: the key, the mapping, a list a queue */
	unsigned pending; /* requests without an answer */
	int error; /* the first that was refused since the last set, -errno */
	uint16_t type[CTRL_SLOTS]; /* of the request in flight with that id; 0: none */
};

/* Owner: the caller of pv_netfront_open; one thread. */
struct pv_netfront {
	struct front front;
	struct pv_netfront_config config;
	struct pv_netfront_stats stats;
	struct net_share ring, tx, rx;
	struct net_queue *queue; /* NULL: not set up */
	struct net_ctrl ctrl;
	unsigned queues, tx_pages, rx_pages; /* pages: of a queue, a power of 2, SLOTS to PAGES_MAX */
	uint32_t features;
	bool up; /* the caller was told that it is connected */
};

/* ---- netfront.c ---- */
int net_share_make(struct pv_netfront *f, struct net_share *s, unsigned pages, bool writable);
void net_share_end(struct pv_netfront *f, struct net_share *s); /* of a half-made one too */
void net_publish(struct pv_netfront *f, struct net_queue *q, struct pv_ring *r); /* and notify, if the backend asked */
void net_unmask(struct pv_netfront *f, struct net_queue *q); /* late, after the work: a storm of events costs its sender (XSA-391) */

/* ---- netfront_tx.c ---- */
void net_tx_begin(struct net_queue *q, void *pages, const uint32_t *gref, unsigned n); /* n pages, SLOTS at least, all free */
int net_tx_reap(struct pv_netfront *f, struct net_queue *q); /* take the answers that came. 0 or -EPROTO */
unsigned net_tx_unanswered(const struct net_queue *q); /* pages and places that the backend has not given back */

/* ---- netfront_rx.c ---- */
void net_rx_post(const struct pv_netfront *f, struct net_queue *q, unsigned n); /* so many more requests, with the next pages; not yet published */
int net_rx_rest(struct pv_netfront *f, struct net_queue *q); /* nothing is left: its event wakes us. 1: something came meanwhile, 0, -EPROTO */

/* ---- netfront_ctrl.c ---- */
int net_ctrl_setup(struct pv_netfront *f, struct pv_noxs_choice *choice); /* the part of the choice that is not queues; 0 or -errno */
void net_ctrl_connected(struct pv_netfront *f); /* just now: leave our pages with the backend, if we are to */
int net_ctrl_work(struct pv_netfront *f); /* its port fired: take answers. 0 or -EPROTO */
void net_ctrl_teardown(struct pv_netfront *f);

#endif
