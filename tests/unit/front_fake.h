/* front_fake.h - a domain 0 of a test's own: a hub in a child process, one guest, its pages, and a backend that does what the
 * test says. It uses rings/ alone, so that the frontends are tested without pviod and the backends, and so that it can lie.
 * Thread rule: one thread at a time.
 */
#ifndef FRONT_FAKE_H
#define FRONT_FAKE_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <pvio/blk.h>
#include <pvio/net.h>
#include <pvio/noxs.h>
#include <xen/xen.h>
#include <xen/grant_table.h>
#include "tests/unit/loopback.h"

/* One end of a queue, as the backend has it. */
struct fake_queue {
	struct pv_ring tx, rx; /* tx: also the block ring */
	void *tx_page, *rx_page;
	uint32_t port;
};

struct fake {
	struct pv_hyper *h; /* domain 0: pviod and the backend */
	int domid;
	void *store;
	struct pv_noxs_device_page *page;
	uint32_t page_gref;
	int announce;
	/* one device */
	struct pv_noxs_control_page *control;
	uint32_t control_gref;
	int port;
	unsigned slot;
	struct pv_noxs_entry entry;
	struct pv_noxs_offer offer;
	struct pv_noxs_choice choice; /* the snapshot of the last connect */
	unsigned queues, ring_pages;
	struct fake_queue queue[PV_NOXS_QUEUES_MAX];
	/* a thread that plays pviod while the test is inside of a close */
	pthread_t follower;
	bool following;
	int stop;
};

/* ---- domain 0 ---- */

static inline void fake_share(struct fake *k, bool writable, uint32_t *gref, void *out)
{
	assert_int_equal(pv_gnt_share(k->h, (uint16_t)k->domid, 1, writable, NULL, gref, out), 0);
}

static inline void fake_point(struct fake *k, uint32_t generation)
{
	struct pv_noxs_pointer p = {
		.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = generation, .gref = k->page_gref, .port = (uint32_t)k->announce,
	};

	pv_noxs_pointer_write(k->store, &p);
}

static inline void fake_start(struct fake *k)
{
	uint32_t gref = GNTTAB_RESERVED_XENSTORE;

	memset(k, 0, sizeof(*k));
	lb_up(NULL, NULL);
	k->h = lb_open(0);
	k->domid = lb_guest(k->h, 0);
	assert_int_equal(pv_gnt_map(k->h, (uint16_t)k->domid, &gref, 1, true, NULL, &k->store), 0);
	fake_share(k, false, &k->page_gref, &k->page);
	pv_noxs_device_init(k->page, (uint16_t)k->domid);
	k->announce = pv_evt_alloc(k->h, (uint16_t)k->domid);
	assert_true(k->announce > 0);
	fake_point(k, 1);
}

static inline void fake_unfollow(struct fake *k)
{
	if (!k->following)
		return;
	__atomic_store_n(&k->stop, 1, __ATOMIC_RELEASE); /* pairs with fake_follower */
	pthread_join(k->follower, NULL);
	k->following = false;
}

static inline void fake_stop(struct fake *k)
{
	fake_unfollow(k);
	pv_hyper_close(k->h);
	lb_down();
}

/* ---- a device ---- */

static inline struct pv_noxs_offer fake_vif_offer(void)
{
	return (struct pv_noxs_offer){
		.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .type = PV_NOXS_VIF,
		.vif = {
			.mac = { 0, 0x16, 0x3e, 1, 2, 3 }, .queues_max = 2, .mtu = 1500, .carrier = 1,
			.features = PV_VIF_SG | PV_VIF_CSUM_IPV4 | PV_VIF_GSO_TCPV4,
		},
	};
}

static inline struct pv_noxs_offer fake_vbd_offer(void)
{
	return (struct pv_noxs_offer){
		.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .type = PV_NOXS_VBD,
		.vbd = {
			.sectors = 8192, .sector_size = 512, .physical_sector_size = 512, .queues_max = 2, .ring_order_max = 2, .indirect_max = 256,
			.features = PV_VBD_FLUSH | PV_VBD_DISCARD | PV_VBD_PERSISTENT,
		},
	};
}

static inline void fake_entry(struct fake *k, enum xenbus_state state)
{
	k->entry.state = state;
	pv_noxs_device_write(k->page, k->slot, &k->entry);
	pv_evt_notify(k->h, (uint32_t)k->announce);
}

/* Offer (anew): InitWait, and the entry. */
static inline void fake_offer(struct fake *k)
{
	k->offer.generation++;
	k->offer.state = XenbusStateInitWait;
	k->offer.error = 0;
	pv_noxs_offer_write(k->control, &k->offer);
	k->entry.generation = k->offer.generation;
	fake_entry(k, XenbusStateInitWait);
	pv_evt_notify(k->h, (uint32_t)k->port);
}

/* Announce a device in an entry of the device page. */
static inline void fake_announce(struct fake *k, struct pv_noxs_offer offer, uint32_t devid, unsigned slot)
{
	k->offer = offer;
	if (!k->control)
		fake_share(k, true, &k->control_gref, &k->control);
	k->port = pv_evt_alloc(k->h, (uint16_t)k->domid);
	assert_true(k->port > 0);
	k->slot = slot;
	k->entry = (struct pv_noxs_entry){ .type = offer.type, .devid = devid, .control_gref = k->control_gref, .port = (uint32_t)k->port };
	fake_offer(k);
}

/* The entry becomes a hole. */
static inline void fake_remove(struct fake *k)
{
	k->entry.type = PV_NOXS_NONE;
	fake_entry(k, XenbusStateUnknown);
}

static inline void fake_state(struct fake *k, enum xenbus_state state, int error)
{
	pv_noxs_backend_state(k->control, state, error);
	k->entry.state = state;
	pv_noxs_device_write(k->page, k->slot, &k->entry);
	pv_evt_notify(k->h, (uint32_t)k->port);
}

/* ---- the backend's ends ---- */

static inline void *fake_map(struct fake *k, const uint32_t *grefs, unsigned n, bool writable)
{
	void *addr;

	assert_int_equal(pv_gnt_map(k->h, (uint16_t)k->domid, grefs, n, writable, NULL, &addr), 0);
	return addr;
}

static inline void fake_bind(struct fake *k, struct fake_queue *q, uint32_t port)
{
	int local = pv_evt_bind(k->h, (uint16_t)k->domid, port);

	assert_true(local > 0);
	q->port = (uint32_t)local;
}

static inline void fake_bind_vif(struct fake *k, unsigned i)
{
	const struct pv_noxs_vif_queue *c = &k->choice.vif[i];
	struct fake_queue *q = &k->queue[i];

	q->tx_page = fake_map(k, &c->tx_gref, 1, true);
	q->rx_page = fake_map(k, &c->rx_gref, 1, true);
	pv_ring_init_back(&q->tx, q->tx_page, PV_PAGE_SIZE, PV_NET_TX_SLOT);
	pv_ring_init_back(&q->rx, q->rx_page, PV_PAGE_SIZE, PV_NET_RX_SLOT);
	assert_int_equal(c->tx_port, c->rx_port);
	fake_bind(k, q, c->tx_port);
}

static inline void fake_bind_vbd(struct fake *k, unsigned i)
{
	const struct pv_noxs_vbd_queue *c = &k->choice.vbd[i];
	struct fake_queue *q = &k->queue[i];

	q->tx_page = fake_map(k, c->ring_gref, k->ring_pages, true);
	pv_ring_init_back(&q->tx, q->tx_page, (size_t)k->ring_pages * PV_PAGE_SIZE, sizeof(struct blkif_request));
	fake_bind(k, q, c->port);
}

/* Take the choice, check it as pviod does, map and bind as a backend does. The state stays. */
static inline void fake_serve(struct fake *k)
{
	const char *why = NULL;

	pv_noxs_choice_read(k->control, &k->choice);
	if (pv_noxs_choice_check(&k->choice, &k->offer, &why) < 0)
		fail_msg("the choice is illegal: %s", why);
	assert_int_equal(k->choice.alive, 1);
	k->queues = k->choice.queues;
	k->ring_pages = 1u << k->choice.ring_order;
	for (unsigned i = 0; i < k->queues; i++)
		k->offer.type == PV_NOXS_VIF ? fake_bind_vif(k, i) : fake_bind_vbd(k, i);
}

static inline void fake_connect(struct fake *k)
{
	fake_serve(k);
	fake_state(k, XenbusStateConnected, 0);
}

/* Let go of everything that was mapped and bound. */
static inline void fake_disconnect(struct fake *k)
{
	for (unsigned i = 0; i < k->queues; i++) {
		struct fake_queue *q = &k->queue[i];

		pv_gnt_unmap(k->h, q->tx_page, k->offer.type == PV_NOXS_VIF ? 1 : k->ring_pages);
		if (q->rx_page)
			pv_gnt_unmap(k->h, q->rx_page, 1);
		pv_evt_unbind(k->h, q->port);
		*q = (struct fake_queue){ 0 };
	}
	k->queues = 0;
}

/* Publish what was filled, and notify whether or not it was asked for. */
static inline void fake_publish(struct fake *k, struct fake_queue *q, struct pv_ring *r)
{
	pv_ring_publish(r);
	pv_evt_notify(k->h, q->port);
}

/* Copy between local memory and a granted page of the guest. */
static inline void fake_copy(struct fake *k, bool to_guest, uint32_t gref, unsigned offset, void *local, unsigned len)
{
	struct pv_gnt_end guest = { .gref = gref, .domid = (uint16_t)k->domid, .offset = (uint16_t)offset }, here = { .local = local };
	struct pv_gnt_copy c = { .from = to_guest ? here : guest, .to = to_guest ? guest : here, .len = (uint16_t)len };

	if (!len)
		return;
	assert_int_equal(pv_gnt_copy(k->h, &c, 1), 0);
	assert_int_equal(c.status, GNTST_okay);
}

/* ---- pviod, while the test is inside of a close ---- */

static void *fake_follower(void *arg)
{
	struct fake *k = arg;

	while (!__atomic_load_n(&k->stop, __ATOMIC_ACQUIRE)) { /* pairs with fake_unfollow */
		struct pv_noxs_choice c;

		pv_noxs_choice_read(k->control, &c);
		if (c.state == XenbusStateClosing)
			pv_noxs_backend_state(k->control, XenbusStateClosed, 0);
		usleep(500);
	}
	return NULL;
}

/* From now on, answer Closing with Closed. */
static inline void fake_follow(struct fake *k)
{
	k->stop = 0;
	k->following = true;
	assert_int_equal(pthread_create(&k->follower, NULL, fake_follower, k), 0);
}

/* Pages and ports of the guest that the hub still counts. */
static inline struct pv_hub_domain fake_guest(struct fake *k)
{
	struct pv_hub_domain d[8];
	int n = pv_hub_domain_list(k->h, d, 8);

	for (int i = 0; i < n && i < 8; i++)
		if (d[i].domid == k->domid)
			return d[i];
	fail_msg("the guest is gone");
	return d[0];
}

/* Poll a condition that another thread or process brings about. */
#define fake_until(cond)                                                         \
	do {                                                                     \
		bool true_ = false;                                              \
		for (int tries_ = 0; tries_ < 20000 && !(true_ = (cond)); tries_++) \
			usleep(1000);                                            \
		assert_true(true_);                                              \
	} while (0)

#endif
