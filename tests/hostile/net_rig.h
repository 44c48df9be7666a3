/* net_rig.h - for the test_net_* programs: a hub, the real pvio-netback as a process, a pviod that is this test, and guests that do
 * whatever a test wants with their rings.
 *
 * Two well-behaved guests are on the same backend all the time: rig_check has them exchange packets both ways, and compares what
 * the backend holds (descriptors, mappings, mbufs, and by the hub's count ports, grants and handles) with what it held before.
 */
#ifndef NET_RIG_H
#define NET_RIG_H

#include "rig.h"
#include "tests/unit/tcp.h"
#include <pvio/net.h>

enum {
	TX_PAGES = 64,
	RX_PAGES = 256,
	ALL_FEATURES = PV_VIF_SG | PV_VIF_CSUM_IPV4 | PV_VIF_CSUM_IPV6 | PV_VIF_GSO_TCPV4 | PV_VIF_GSO_TCPV6,
};

#define LARGE_MTU "{\"mtu\":\"65521\"}"

struct net_queue {
	struct pv_ring tx, rx;
	void *tx_page, *rx_page;
	uint32_t tx_gref, rx_gref, tx_port, rx_port;
	uint8_t *tx_data, *rx_data;
	uint32_t tx_grefs[TX_PAGES], rx_grefs[RX_PAGES];
};

struct net_guest {
	struct pv_hyper *h;
	uint16_t domid;
	uint32_t devid, features;
	uint8_t mac[6];
	unsigned nq;
	uint32_t headroom;
	uint32_t ctrl_gref, ctrl_port; /* of a control ring; 0: none */
	bool one_port;
	struct net_queue q[4];
};

/* The well-behaved, and the mbufs in use when only they were there. */
static struct {
	struct net_guest a, b;
	int64_t mbufs;
	struct pv_hub_domain dom0; /* of which the backend is: ports and handles of it and of this test */
} peers;

static inline struct pv_device_id guest_device(const struct net_guest *g)
{
	return (struct pv_device_id){ .guest = g->domid, .type = PV_NOXS_VIF, .devid = g->devid };
}

static inline int guest_call(const struct net_guest *g, const char *method)
{
	return rig_device_call(guest_device(g), method);
}

/* A number of the guest's statistics; path such as "backend" may be NULL. */
static inline int64_t guest_stat(const struct net_guest *g, const char *path, const char *key)
{
	struct json_object *o, *v = NULL;

	if (guest_call(g, "stats"))
		fail_msg("stats: %s", rig_last.message);
	o = rig_last.result;
	if (path)
		assert_true(json_object_object_get_ex(o, path, &o));
	if (!json_object_object_get_ex(o, key, &v))
		fail_msg("no statistic %s", key);
	return json_object_get_int64(v);
}

static inline void guest_stat_reaches(const struct net_guest *g, const char *path, const char *key, int64_t n)
{
	int64_t end = rig_ms() + PATIENCE, got;

	while ((got = guest_stat(g, path, key)) < n) {
		if (rig_ms() > end)
			fail_msg("%s is %lld, not %lld", key, (long long)got, (long long)n);
		usleep(1000);
	}
}

/* ---- the guest's side ---- */

static inline void rx_post(struct net_guest *g, unsigned queue, unsigned n)
{
	struct net_queue *q = &g->q[queue];

	while (n--) {
		uint16_t id = (uint16_t)(q->rx.prod % RX_PAGES);

		pv_net_rx_fill(&q->rx, id, q->rx_grefs[id]);
	}
	if (pv_ring_publish(&q->rx))
		pv_evt_notify(g->h, q->rx_port);
}

static inline void guest_queue_new(struct net_guest *g, unsigned i)
{
	struct net_queue *q = &g->q[i];

	assert_int_equal(pv_gnt_share(g->h, 0, 1, true, NULL, &q->tx_gref, &q->tx_page), 0);
	assert_int_equal(pv_gnt_share(g->h, 0, 1, true, NULL, &q->rx_gref, &q->rx_page), 0);
	assert_int_equal(pv_gnt_share(g->h, 0, TX_PAGES, true, NULL, q->tx_grefs, (void **)&q->tx_data), 0);
	assert_int_equal(pv_gnt_share(g->h, 0, RX_PAGES, true, NULL, q->rx_grefs, (void **)&q->rx_data), 0);
	q->tx_port = (uint32_t)pv_evt_alloc(g->h, 0);
	q->rx_port = g->one_port ? q->tx_port : (uint32_t)pv_evt_alloc(g->h, 0);
	assert_true((int)q->tx_port > 0 && (int)q->rx_port > 0);
	pv_ring_init_front(&q->tx, q->tx_page, PV_PAGE_SIZE, PV_NET_TX_SLOT);
	pv_ring_init_front(&q->rx, q->rx_page, PV_PAGE_SIZE, PV_NET_RX_SLOT);
}

/* A domain, unconnected. */
static inline void guest_open(struct net_guest *g, unsigned nq, uint32_t features)
{
	bool one_port = g->one_port;

	*g = (struct net_guest){ .nq = nq, .features = features, .one_port = one_port };
	g->domid = rig_domain(&g->h);
	g->devid = rig.devids;
	for (unsigned i = 0; i < nq; i++)
		guest_queue_new(g, i);
}

static inline int guest_prepare(struct net_guest *g, const char *config)
{
	struct pv_noxs_offer offer;
	int ret = rig_prepare(guest_device(g), json_tokener_parse(config ? config : "{}"), &offer);

	if (ret == 0)
		memcpy(g->mac, offer.vif.mac, 6);
	return ret;
}

static inline struct pv_noxs_choice guest_choice(const struct net_guest *g)
{
	struct pv_noxs_choice c = { .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .state = XenbusStateInitialised, .alive = 1,
				    .queues = (uint16_t)g->nq, .features = g->features, .headroom = g->headroom,
				    .ctrl_gref = g->ctrl_gref, .ctrl_port = g->ctrl_port };

	for (unsigned i = 0; i < g->nq; i++)
		c.vif[i] = (struct pv_noxs_vif_queue){ g->q[i].tx_gref, g->q[i].rx_gref, g->q[i].tx_port, g->q[i].rx_port };
	return c;
}

static inline int guest_connect(struct net_guest *g, const char *config)
{
	struct pv_noxs_choice choice = guest_choice(g);

	return rig_connect(guest_device(g), json_tokener_parse(config ? config : "{}"), &choice);
}

static inline void guest_up(struct net_guest *g, unsigned nq, uint32_t features, const char *config)
{
	guest_open(g, nq, features);
	if (guest_prepare(g, config))
		fail_msg("prepare: %s", rig_last.message);
	if (guest_connect(g, config))
		fail_msg("connect: %s", rig_last.message);
}

/* The rings anew, as a frontend does that connects again. */
static inline void guest_rings_reset(struct net_guest *g)
{
	for (unsigned i = 0; i < g->nq; i++) {
		pv_ring_init_front(&g->q[i].tx, g->q[i].tx_page, PV_PAGE_SIZE, PV_NET_TX_SLOT);
		pv_ring_init_front(&g->q[i].rx, g->q[i].rx_page, PV_PAGE_SIZE, PV_NET_RX_SLOT);
	}
}

/* Disconnect and connect: whatever waited for it is gone. */
static inline void guest_again(struct net_guest *g, const char *config)
{
	assert_int_equal(guest_call(g, "disconnect"), 0);
	guest_rings_reset(g);
	assert_int_equal(guest_connect(g, config), 0);
}

/* The domain ends, with all that it shared. */
static inline void guest_down(struct net_guest *g)
{
	bool one_port = g->one_port;

	if (guest_call(g, "disconnect") || guest_call(g, "remove"))
		fail_msg("%s", rig_last.message);
	rig_domain_end(g->h, g->domid);
	*g = (struct net_guest){ .one_port = one_port };
}

static inline void tx_slot(struct net_guest *g, unsigned queue, unsigned page, unsigned offset, unsigned size, unsigned flags)
{
	struct net_queue *q = &g->q[queue];

	pv_net_tx_fill(&q->tx, q->tx_grefs[page], (uint16_t)offset, (uint16_t)flags, (uint16_t)page, (uint16_t)size);
}

static inline void tx_extra(struct net_guest *g, unsigned queue, const struct netif_extra_info *e)
{
	union pv_net_tx_slot *slot = pv_ring_fill(&g->q[queue].tx);

	memset(slot, 0, PV_NET_TX_SLOT);
	slot->extra = *e;
}

static inline void tx_publish(struct net_guest *g, unsigned queue)
{
	if (pv_ring_publish(&g->q[queue].tx))
		pv_evt_notify(g->h, g->q[queue].tx_port);
}

/* Wait for n answers; their status goes to status[], if that is not NULL. False: the backend gave none for a while (ms). */
static inline bool tx_answers(struct net_guest *g, unsigned queue, unsigned n, int16_t *status, int ms)
{
	int64_t end = rig_ms() + ms;

	for (unsigned i = 0; i < n; i++) {
		struct netif_tx_response r;
		int ready;

		while ((ready = pv_ring_ready(&g->q[queue].tx)) == 0) {
			if (rig_ms() > end)
				return false;
			usleep(20);
		}
		assert_true(ready > 0);
		pv_net_tx_take_rsp(&g->q[queue].tx, &r);
		if (status)
			status[i] = r.status;
	}
	return true;
}

/* Receive one packet into buf. Returns its length, 0: none came within ms; flags and GSO go to *out, if not NULL. */
static inline unsigned rx_packet(struct net_guest *g, unsigned queue, uint8_t *buf, struct pv_net_rx_packet *out, int ms)
{
	struct net_queue *q = &g->q[queue];
	union pv_net_rx_slot slots[24];
	int64_t end = rig_ms() + ms;
	struct pv_net_rx_packet p;
	unsigned n = 0, len = 0;
	int used = 0, ready;

	while (!used) {
		while ((ready = pv_ring_ready(&q->rx)) == 0) {
			if (rig_ms() > end)
				return 0;
			usleep(20);
		}
		assert_true(ready > 0 && n < 24);
		pv_net_rx_take_rsp(&q->rx, &slots[n++]);
		used = pv_net_rx_parse(slots, n, &p);
	}
	assert_int_equal(used, n);
	for (unsigned i = 0; i < p.nr && !p.error; i++) {
		memcpy(buf + len, q->rx_data + p.frag[i].id * PV_PAGE_SIZE + p.frag[i].offset, p.frag[i].len);
		len += p.frag[i].len;
	}
	if (out)
		*out = p;
	return p.len ? p.len : 1;
}

/* An Ethernet frame of len bytes in buf: from, to, pattern. */
static inline void frame(uint8_t *buf, const uint8_t to[6], const uint8_t from[6], unsigned len, unsigned seed)
{
	for (unsigned i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed + i * 31 + (i >> 8));
	memcpy(buf, to, 6);
	memcpy(buf + 6, from, 6);
	if (len >= 14)
		buf[12] = buf[13] = 0x88; /* no protocol that anyone looks into */
}

/* A TCP packet with `payload` bytes of a pattern, its checksum blank. Returns its length. */
static inline unsigned tcp_frame(uint8_t *p, bool v6, const uint8_t to[6], const uint8_t from[6], unsigned payload, unsigned port)
{
	unsigned len = (v6 ? 74 : 54) + payload;

	frame(p, to, from, len, port);
	tcp_headers(p, v6, len, to, from);
	put16(p + tcp_at(p), port);
	return len;
}

/* Put a packet into the tx pages from `page` on, full pages but the last, and fill its slots. Returns the pages used. */
static inline unsigned tx_packet(struct net_guest *g, unsigned queue, unsigned page, const uint8_t *buf, unsigned len)
{
	unsigned n = (len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE;

	memcpy(g->q[queue].tx_data + page * PV_PAGE_SIZE, buf, len);
	for (unsigned i = 0; i < n; i++) {
		unsigned part = len - i * PV_PAGE_SIZE < PV_PAGE_SIZE ? len - i * PV_PAGE_SIZE : PV_PAGE_SIZE;

		tx_slot(g, queue, page + i, 0, i ? part : len, i + 1 < n ? NETTXF_more_data : 0);
	}
	return n;
}

/* Send a TCP packet whose checksum is blank; mss: to be cut into such pieces, 0: as it is. */
static inline void tx_tcp(struct net_guest *g, const uint8_t *buf, unsigned len, unsigned mss)
{
	unsigned type = tcp_at(buf) == 54 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4, pages = (len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE;
	struct netif_extra_info gso = { .type = XEN_NETIF_EXTRA_TYPE_GSO, .u.gso = { .size = (uint16_t)mss, .type = (uint8_t)type } };

	memcpy(g->q[0].tx_data, buf, len);
	for (unsigned i = 0; i < pages; i++) {
		unsigned part = len - i * PV_PAGE_SIZE < PV_PAGE_SIZE ? len - i * PV_PAGE_SIZE : PV_PAGE_SIZE, flags = i + 1 < pages ? NETTXF_more_data : 0;

		if (!i)
			flags |= NETTXF_csum_blank | (mss ? NETTXF_extra_info : 0);
		tx_slot(g, 0, i, 0, i ? part : len, flags);
		if (!i && mss)
			tx_extra(g, 0, &gso);
	}
	tx_publish(g, 0);
	assert_true(tx_answers(g, 0, pages + !!mss, NULL, PATIENCE));
}

/* One packet from -> to, compared. */
static inline void exchange(struct net_guest *from, struct net_guest *to, unsigned len, unsigned seed)
{
	static uint8_t sent[65536], got[65536];
	unsigned slots = (len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE, n;

	frame(sent, to->mac, from->mac, len, seed);
	rx_post(to, 0, slots);
	tx_packet(from, 0, 0, sent, len);
	tx_publish(from, 0);
	n = rx_packet(to, 0, got, NULL, PATIENCE);
	if (!n) {
		guest_call(to, "inspect");
		print_message("%s\n", json_object_to_json_string(rig_last.result));
		guest_call(from, "stats");
		print_message("%s\n", json_object_to_json_string(rig_last.result));
		fail_msg("a packet of %u bytes did not arrive", len);
	}
	assert_int_equal(n, len);
	assert_memory_equal(got, sent, len);
	assert_true(tx_answers(from, 0, slots, NULL, PATIENCE));
}

/* ---- the rig ---- */

/* Mappings of one page are rings; larger ones are windows that the loopback port copies through, and drops when it meets a new domain.
 * Wait until the backend, which now serves the two well-behaved guests alone, holds nothing more than it did at first. */
static inline void rig_no_leaks(void)
{
	int64_t end = rig_ms() + PATIENCE;
	struct pv_hub_domain dom0 = { 0 };

	if (!rig.xen)
		assert_true(pv_hub_domain_list(rig.dom0, &dom0, 1) > 0 && dom0.domid == 0);

	if (!rig.fds) {
		rig.fds = rig_fds();
		rig.maps = rig_maps(1);
		peers.mbufs = guest_stat(&peers.a, "backend", "mbufs_in_use"); /* an uplink's ring of receive buffers */
		peers.dom0 = dom0;
	}
	while (guest_stat(&peers.a, "backend", "mbufs_in_use") > peers.mbufs) {
		if (rig_ms() > end)
			fail_msg("mbufs leaked: %lld, once %lld", (long long)guest_stat(&peers.a, "backend", "mbufs_in_use"), (long long)peers.mbufs);
		usleep(1000);
	}
	assert_int_equal(rig_fds(), rig.fds);
	assert_int_equal(rig_maps(1), rig.maps);
	assert_int_equal(dom0.ports, peers.dom0.ports);
	assert_int_equal(dom0.grants, peers.dom0.grants);
	assert_int_equal(dom0.maps, peers.dom0.maps); /* pages of guests */
	assert_int_equal(dom0.handles, peers.dom0.handles);
}

/* The two still exchange packets both ways ... */
static inline void rig_check_exchange(void)
{
	for (unsigned i = 0; i < 20; i++) {
		exchange(&peers.a, &peers.b, 14 + i * 77, i);
		exchange(&peers.b, &peers.a, 14 + i * 3000, i);
	}
}

/* ... and nothing is left of anybody else. */
static inline void rig_check(void)
{
	rig_check_exchange();
	rig_no_leaks();
}

/* Wait until the backend has told that the device of g broke. */
static inline void wait_broken(const struct net_guest *g)
{
	rig_wait_broken(guest_device(g), 1);
	rig.broken = 0;
}

/* args: of pvio-netback; ends with NULL. */
static inline void rig_open(const char *const *args)
{
	const char *all[20] = { "--memory", "64", "--log", "warn" };
	bool uplink = false;
	int n = 4;

	for (; args && *args; n++) {
		uplink |= !strcmp(*args, "--uplink");
		all[n] = *args++;
	}
	if (!uplink) { /* whatever bridges this machine has */
		all[n++] = "--uplink";
		all[n++] = "none";
	}
	memset(&peers, 0, sizeof(peers));
	assert_int_equal(rig_start("pvio-netback", all), 0);
	guest_up(&peers.a, 1, ALL_FEATURES, LARGE_MTU);
	guest_up(&peers.b, 1, ALL_FEATURES, LARGE_MTU);
	rig_check();
}

static inline void rig_close(void)
{
	guest_down(&peers.a);
	guest_down(&peers.b);
	assert_int_equal(rig_stop(), 0); /* also: its sanitizer found no leak */
}

/* ---- groups of tests that have one pvio-netback ---- */

static const char *rig_workers = "1", *rig_poll_us = "20";

static inline int rig_group_up(void **state)
{
	(void)state;
	rig_open((const char *const[]){ "--workers", rig_workers, "--poll-us", rig_poll_us, NULL });
	return 0;
}

static inline int rig_group_down(void **state)
{
	(void)state;
	rig_close();
	return 0;
}

#define rig_run_group(tests) cmocka_run_group_tests(tests, rig_group_up, rig_group_down)
/* With one worker, and with two. */
#define rig_run_group_twice(tests)                                                                                      \
	({                                                                                                              \
		int one, two;                                                                                           \
		rig_workers = "1";                                                                                      \
		one = cmocka_run_group_tests_name("one worker", tests, rig_group_up, rig_group_down);                   \
		rig_workers = "2";                                                                                      \
		two = cmocka_run_group_tests_name("two workers", tests, rig_group_up, rig_group_down);                  \
		one || two;                                                                                             \
	})

#endif
