/* front_fake_net.h - the backend's half of a vif, for tests: take packets, answer, deliver. */
#ifndef FRONT_FAKE_NET_H
#define FRONT_FAKE_NET_H

#include "tests/unit/front_fake.h"
#include <pvio/netfront.h>

/* A packet as a backend got it. */
struct fake_packet {
	struct pv_net_packet p;
	uint8_t data[65536];
	unsigned slots;
};

/* Take one packet from the tx ring. Returns false if none waits. Nothing is answered. */
static inline bool fake_take(struct fake *k, struct fake_queue *q, struct fake_packet *out)
{
	union pv_net_tx_slot slots[PV_NET_CHAIN_MAX];
	uint32_t at = 0;
	int n = pv_ring_ready(&q->tx), used;

	assert_true(n >= 0);
	if (n == 0)
		return false;
	for (int i = 0; i < n && i < PV_NET_CHAIN_MAX; i++)
		pv_net_tx_take(&q->tx, &slots[i]);
	used = pv_net_tx_parse(slots, (unsigned)(n < PV_NET_CHAIN_MAX ? n : PV_NET_CHAIN_MAX), &out->p);
	assert_true(used > 0);
	assert_false(out->p.drop);
	q->tx.cons -= (uint32_t)((n < PV_NET_CHAIN_MAX ? n : PV_NET_CHAIN_MAX) - used); /* only a test may look again */
	for (unsigned i = 0; i < out->p.nr; i++) {
		fake_copy(k, false, out->p.frag[i].gref, out->p.frag[i].offset, out->data + at, out->p.frag[i].size);
		at += out->p.frag[i].size;
	}
	assert_int_equal(at, out->p.len);
	out->slots = (unsigned)used;
	return true;
}

/* Fill the answers to a packet. */
static inline void fake_answer(struct fake_queue *q, const struct fake_packet *p, int16_t status)
{
	for (unsigned i = 0; i < p->p.nr; i++) {
		pv_net_tx_fill_rsp(&q->tx, p->p.frag[i].id, status);
		for (unsigned e = 0; i == 0 && e < p->p.extras; e++)
			pv_net_tx_fill_rsp(&q->tx, 0xffff, NETIF_RSP_NULL);
	}
}

/* Fill answers to posted rx slots that carry len bytes of data. */
static inline void fake_deliver(struct fake *k, struct fake_queue *q, const void *data, unsigned len, uint16_t flags, uint16_t gso)
{
	assert_true(pv_ring_ready(&q->rx) > (int)(len / PV_PAGE_SIZE) + !!gso);
	for (unsigned at = 0; at < len || at == 0;) {
		unsigned part = len - at < PV_PAGE_SIZE ? len - at : PV_PAGE_SIZE;
		bool more = at + part < len;
		struct netif_rx_request req;

		pv_net_rx_take(&q->rx, &req);
		fake_copy(k, true, req.gref, 0, (uint8_t *)(uintptr_t)data + at, part);
		pv_net_rx_fill_rsp(&q->rx, req.id, 0, flags | (more ? NETRXF_more_data : 0) | (at == 0 && gso ? NETRXF_extra_info : 0), (int16_t)part);
		if (at == 0 && gso) {
			struct netif_extra_info e = { .type = XEN_NETIF_EXTRA_TYPE_GSO, .u.gso = { .size = gso, .type = XEN_NETIF_GSO_TYPE_TCPV4 } };

			pv_net_rx_take(&q->rx, &req);
			memcpy(pv_ring_fill(&q->rx), &e, sizeof(e));
		}
		flags = 0;
		at += part;
	}
}

static inline struct pv_netfront *fake_open_vif(struct fake *k, unsigned queues)
{
	struct pv_netfront_config c = { .queues = (uint16_t)queues };
	struct pv_netfront *f;
	char why[200] = "";

	if (pv_netfront_open(lb_spec, k->domid, &c, &f, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return f;
}

static inline struct pv_netfront *fake_connected_vif(struct fake *k, struct pv_noxs_offer offer, unsigned queues)
{
	struct pv_netfront *f;

	fake_announce(k, offer, 0, 0);
	f = fake_open_vif(k, queues);
	fake_connect(k);
	assert_int_equal(pv_netfront_work(f), 1);
	assert_int_equal(pv_netfront_state(f), XenbusStateConnected);
	return f;
}

/* A frame of len bytes with a pattern that begins with `seed`. */
static inline void fake_frame(uint8_t *to, unsigned len, unsigned seed)
{
	for (unsigned i = 0; i < len; i++)
		to[i] = (uint8_t)(seed + i * 7 + (i >> 8));
	if (len >= 14) {
		to[12] = 8; /* IPv4 */
		to[13] = 0;
	}
}

#endif
