/* net_ctrl.h - a guest of net_rig.h that has a control ring: it sets up hashing, leaves static grants, chooses multicast groups. */
#ifndef NET_CTRL_H
#define NET_CTRL_H

#include "net_rig.h"

enum { TCP_PORT = 1766, FEATURES = ALL_FEATURES | PV_VIF_CTRL_RING };

static uint8_t sent[65536], got[65536];

/* The guest's side of a control ring, and a page for what it tells. */
struct control {
	struct net_guest *g;
	struct pv_ring ring;
	void *page;
	uint32_t *data;
	uint32_t data_gref;
	uint16_t id;
};

static inline void control_new(struct control *c, struct net_guest *g)
{
	uint32_t grefs[2];

	*c = (struct control){ .g = g };
	assert_int_equal(pv_gnt_share(g->h, 0, 1, true, NULL, &g->ctrl_gref, &c->page), 0);
	/* two pages: the loopback port's window on a single one would look like a ring that is left (net_rig.h) */
	assert_int_equal(pv_gnt_share(g->h, 0, 2, true, NULL, grefs, (void **)&c->data), 0);
	c->data_gref = grefs[0];
	g->ctrl_port = (uint32_t)pv_evt_alloc(g->h, 0);
	pv_ring_init_front(&c->ring, c->page, PV_PAGE_SIZE, sizeof(struct xen_netif_ctrl_request));
}

/* A vif with a control ring. */
static inline void control_up(struct control *c, struct net_guest *g, unsigned queues, uint32_t features)
{
	guest_open(g, queues, features);
	control_new(c, g);
	if (guest_prepare(g, LARGE_MTU) || guest_connect(g, LARGE_MTU))
		fail_msg("%s", rig_last.message);
}

static inline void control_put(struct control *c, uint16_t type, uint32_t a, uint32_t b, uint32_t d)
{
	*(struct xen_netif_ctrl_request *)pv_ring_fill(&c->ring) = (struct xen_netif_ctrl_request){ c->id++, type, { a, b, d } };
}

static inline void control_publish(struct control *c)
{
	if (pv_ring_publish(&c->ring))
		pv_evt_notify(c->g->h, c->g->ctrl_port);
}

static inline struct xen_netif_ctrl_response control_answer(struct control *c)
{
	int64_t end = rig_ms() + PATIENCE;
	struct xen_netif_ctrl_response r;

	while (pv_ring_ready(&c->ring) == 0) {
		if (rig_ms() > end)
			fail_msg("no answer on the control ring");
		usleep(20);
	}
	assert_true(pv_ring_ready(&c->ring) > 0);
	r = *(const volatile struct xen_netif_ctrl_response *)pv_ring_take(&c->ring);
	return r;
}

/* One request. Returns its status; data goes to *out, if not NULL. */
static inline uint32_t ask(struct control *c, uint16_t type, uint32_t a, uint32_t b, uint32_t d, uint32_t *out)
{
	struct xen_netif_ctrl_response r;

	control_put(c, type, a, b, d);
	control_publish(c);
	r = control_answer(c);
	assert_int_equal(r.id, (uint16_t)(c->id - 1));
	assert_int_equal(r.type, type);
	if (out)
		*out = r.data;
	return r.status;
}

#define ASK(c, type, a, b, d) ask(c, XEN_NETIF_CTRL_TYPE_##type, a, b, d, NULL)
#define STATUS(s) XEN_NETIF_CTRL_STATUS_##s

/* ---- hashing: the vectors of Microsoft's specification of RSS ---- */

static const uint8_t rss_key[40] = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
	0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

/* 66.9.149.187:2794 -> 161.142.100.80:1766 */
static inline unsigned rss_frame(const struct net_guest *to)
{
	unsigned len = tcp_frame(sent, V4, to->mac, peers.a.mac, 100, 2794);

	memcpy(sent + 26, (const uint8_t[]){ 66, 9, 149, 187, 161, 142, 100, 80 }, 8);
	sent[36] = TCP_PORT >> 8;
	sent[37] = TCP_PORT & 255;
	return len;
}

static inline void hash_on(struct control *c, uint32_t flags)
{
	assert_int_equal(ASK(c, SET_HASH_ALGORITHM, XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ, 0, 0), 0);
	memcpy(c->data, rss_key, sizeof(rss_key));
	assert_int_equal(ASK(c, SET_HASH_KEY, c->data_gref, sizeof(rss_key), 0), 0);
	assert_int_equal(ASK(c, SET_HASH_FLAGS, flags, 0, 0), 0);
}

static inline void map_all_to(struct control *c, unsigned queue, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		c->data[i] = queue;
	assert_int_equal(ASK(c, SET_HASH_MAPPING_SIZE, size, 0, 0), 0);
	assert_int_equal(ASK(c, SET_HASH_MAPPING, c->data_gref, size, 0), 0);
}

/* Send the frame in sent[] and expect it on that queue. */
static inline struct pv_net_rx_packet arrives(struct net_guest *g, unsigned queue, unsigned len)
{
	struct pv_net_rx_packet p;

	rx_post(g, queue, 2);
	tx_packet(&peers.a, 0, 0, sent, len);
	tx_publish(&peers.a, 0);
	assert_int_equal(rx_packet(g, queue, got, &p, PATIENCE), len);
	assert_memory_equal(got, sent, len);
	assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	return p;
}

/* ---- static grants ---- */

static inline void list_of(struct control *c, const uint32_t *grefs, unsigned n, uint16_t flags)
{
	struct xen_netif_gref *list = (struct xen_netif_gref *)c->data;

	for (unsigned i = 0; i < n; i++)
		list[i] = (struct xen_netif_gref){ .ref = grefs[i], .flags = flags, .status = 0x5555 };
}

static inline int64_t copies(const struct net_guest *g)
{
	struct json_object *o, *v = NULL;

	assert_int_equal(guest_call(g, "stats"), 0);
	json_object_object_get_ex(rig_last.result, "backend", &o);
	json_object_object_get_ex(o, "hyper", &o);
	json_object_object_get_ex(o, "copied_pieces", &v);
	return json_object_get_int64(v);
}

static inline int64_t static_grants(const struct net_guest *g)
{
	struct json_object *v = NULL;

	assert_int_equal(guest_call(g, "inspect"), 0);
	json_object_object_get_ex(rig_last.result, "static_grants", &v);
	return json_object_get_int64(v);
}

/* ---- multicast ---- */

static inline int16_t mcast(struct net_guest *g, unsigned queue, uint8_t type, const uint8_t addr[6])
{
	struct netif_extra_info e = { .type = type };
	int16_t status[2];

	memcpy(e.u.mcast.addr, addr, 6);
	tx_slot(g, queue, 0, 0, 0, NETTXF_extra_info);
	tx_extra(g, queue, &e);
	tx_publish(g, queue);
	assert_true(tx_answers(g, queue, 2, status, PATIENCE));
	assert_int_equal(status[1], NETIF_RSP_NULL);
	return status[0];
}

static inline void send_group(const uint8_t to[6], struct net_guest *witness, unsigned seed)
{
	frame(sent, to, peers.a.mac, 80, seed);
	rx_post(witness, 0, 1);
	tx_packet(&peers.a, 0, 0, sent, 80);
	tx_publish(&peers.a, 0);
	assert_int_equal(rx_packet(witness, 0, got, NULL, PATIENCE), 80); /* who did not ask for a filter gets all */
	assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
}

#endif
