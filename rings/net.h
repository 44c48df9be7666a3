/* net.h - network rings: typed slots of xen/io/netif.h, and the pure parser of what a guest sends.
 *
 * A tx packet is a chain of slots: the first request (its size is the whole packet's), extra-info slots if it says so, then
 * requests for the further fragments while more_data is set. Parsing links against nothing but this folder's net.c.
 */
#ifndef PV_NET_H
#define PV_NET_H

#include "ring.h"
#include <xen/io/netif.h>

enum {
	PV_NET_TX_SLOT = sizeof(struct netif_tx_request), /* 12 */
	PV_NET_RX_SLOT = sizeof(struct netif_rx_request), /* 8 */
	PV_NET_FRAGS_MAX = 19, /* the first and 18: accepted. As Linux counts them: 20 and 21 drop the packet ... */
	PV_NET_FRAGS_FATAL = 22, /* ... and 22 disable the vif */
	PV_NET_CHAIN_MAX = PV_NET_FRAGS_FATAL + XEN_NETIF_EXTRA_TYPE_MAX - 1, /* slots after which a chain is surely illegal or ended */
	PV_NET_LEN_MIN = 14, /* an Ethernet header */
};

union pv_net_tx_slot {
	struct netif_tx_request req;
	struct netif_extra_info extra;
};

union pv_net_rx_slot {
	struct netif_rx_response rsp;
	struct netif_extra_info extra;
};

/* Take one slot: the one volatile copy (XSA-155). */
static inline void pv_net_tx_take(struct pv_ring *r, union pv_net_tx_slot *out)
{
	pv_ring_of(r, PV_NET_TX_SLOT);
	out->req = *(const volatile struct netif_tx_request *)pv_ring_take(r);
}

/* Most packets: one slot, nothing said beside it, within its page. Of a private copy. pv_net_tx_parse takes all others. */
static inline bool pv_net_tx_plain(const union pv_net_tx_slot *s)
{
	return !(s->req.flags & (NETTXF_more_data | NETTXF_extra_info)) && s->req.size >= PV_NET_LEN_MIN &&
	       (uint32_t)s->req.offset + s->req.size <= PV_PAGE_SIZE;
}

static inline void pv_net_tx_take_rsp(struct pv_ring *r, struct netif_tx_response *out)
{
	pv_ring_of(r, PV_NET_TX_SLOT);
	*out = *(const volatile struct netif_tx_response *)pv_ring_take(r);
}

static inline void pv_net_rx_take(struct pv_ring *r, struct netif_rx_request *out)
{
	pv_ring_of(r, PV_NET_RX_SLOT);
	*out = *(const volatile struct netif_rx_request *)pv_ring_take(r);
}

static inline void pv_net_rx_take_rsp(struct pv_ring *r, union pv_net_rx_slot *out)
{
	pv_ring_of(r, PV_NET_RX_SLOT);
	out->rsp = *(const volatile struct netif_rx_response *)pv_ring_take(r);
}

/* Fill one slot, every byte of it (XSA-216). */
static inline void pv_net_tx_fill(struct pv_ring *r, uint32_t gref, uint16_t offset, uint16_t flags, uint16_t id, uint16_t size)
{
	pv_ring_of(r, PV_NET_TX_SLOT);
	*(struct netif_tx_request *)pv_ring_fill(r) =
		(struct netif_tx_request){ .gref = gref, .offset = offset, .flags = flags, .id = id, .size = size };
}

/* Id and status are one store, and the rest of the slot stays what it is, the peer's own request: so a chain that was taken can be read
 * once more by whoever has to answer it in our place. */
static inline void pv_net_tx_fill_rsp(struct pv_ring *r, uint16_t id, int16_t status)
{
	pv_ring_of(r, PV_NET_TX_SLOT);
	*(uint32_t *)pv_ring_fill(r) = id | (uint32_t)(uint16_t)status << 16;
}

/* The answer to extra-info: its first two bytes, type and flags, stand where nobody looks for an id. */
static inline void pv_net_tx_fill_rsp_null(struct pv_ring *r, const union pv_net_tx_slot *extra)
{
	pv_net_tx_fill_rsp(r, (uint16_t)(extra->extra.type | extra->extra.flags << 8), NETIF_RSP_NULL);
}

static inline void pv_net_rx_fill(struct pv_ring *r, uint16_t id, uint32_t gref)
{
	pv_ring_of(r, PV_NET_RX_SLOT);
	*(struct netif_rx_request *)pv_ring_fill(r) = (struct netif_rx_request){ .id = id, .pad = 0, .gref = gref };
}

/* A struct netif_rx_response as one word, so that it is one store, into a line that the other core reads. */
static inline uint64_t pv_net_rx_rsp(uint16_t id, uint16_t offset, uint16_t flags, int16_t status)
{
	return id | (uint64_t)offset << 16 | (uint64_t)flags << 32 | (uint64_t)(uint16_t)status << 48;
}

static inline int16_t pv_net_rx_rsp_status(uint64_t rsp)
{
	return (int16_t)(rsp >> 48);
}

/* The same answer, but the packet failed. */
static inline uint64_t pv_net_rx_rsp_failed(uint64_t rsp)
{
	return rsp << 16 >> 16 | (uint64_t)(uint16_t)NETIF_RSP_ERROR << 48;
}

static inline void pv_net_rx_put_rsp(struct pv_ring *r, uint64_t rsp)
{
	pv_ring_of(r, PV_NET_RX_SLOT);
	*(uint64_t *)pv_ring_fill(r) = rsp;
}

static inline void pv_net_rx_fill_rsp(struct pv_ring *r, uint16_t id, uint16_t offset, uint16_t flags, int16_t status)
{
	pv_net_rx_put_rsp(r, pv_net_rx_rsp(id, offset, flags, status));
}

struct pv_net_frag {
	uint32_t gref;
	uint16_t offset;
	uint16_t size; /* of this fragment: the first's is the packet's less the others' */
	uint16_t id;
};

/* Which slot of the chain is answered how: slots in ring order; extra-info slots get NETIF_RSP_NULL. */
struct pv_net_packet {
	uint32_t len; /* bytes in all */
	uint16_t flags; /* of the first slot: NETTXF_csum_blank, NETTXF_data_validated, no other bit */
	uint8_t gso_type; /* XEN_NETIF_GSO_TYPE_*, NONE without a GSO extra */
	uint8_t mcast; /* XEN_NETIF_EXTRA_TYPE_MCAST_ADD or _DEL: no packet, a request to change the filter; 0: a packet */
	uint16_t gso_size;
	uint8_t mcast_addr[6];
	uint8_t hash_type, hash_algorithm; /* valid if hash */
	uint8_t hash_value[4];
	bool hash;
	bool drop; /* legal chain, bad packet: answer each fragment NETIF_RSP_ERROR, go on */
	uint8_t extras; /* extra-info slots, after the first slot */
	uint8_t nr; /* fragments in frag[] (up to PV_NET_FRAGS_FATAL - 1 when dropped, so that all can be answered) */
	struct pv_net_frag frag[PV_NET_FRAGS_FATAL - 1];
};

/* Parse one chain from n private slots. Pure: looks at nothing else.
 * Returns how many slots the chain has (> 0); 0: it does not end within n (n < PV_NET_CHAIN_MAX: wait for or take more; a
 * backend that has taken all the peer published treats that as -EPROTO, as Linux does); -EPROTO: the guest broke the
 * protocol, disable the vif. Rules (netif.h, Linux netback, XSA-39, 155, 423, 432, 448; each has a test):
 * fragments counted as above; offset + size <= 4096 for each; total >= 14; the sum of the further fragments <= the total;
 * zero-size fragments are legal; extra types known and each at most once; GSO size not 0 and its type known; a change of the
 * multicast filter (mcast) is one slot and its extras, of any size, and carries no fragments. */
int pv_net_tx_parse(const union pv_net_tx_slot *slots, unsigned n, struct pv_net_packet *out);

/* What a frontend gets: a chain of responses, the first with extra-info behind it if it says so. */
struct pv_net_rx_packet {
	uint32_t len;
	uint16_t flags; /* of the first: NETRXF_csum_blank, NETRXF_data_validated, no other bit */
	uint8_t gso_type;
	bool error; /* a fragment's status < 0 or out of its page, or no Ethernet header: drop it, all slots are used up */
	bool hash; /* the backend tells the hash that it was asked for: the rest says which */
	uint16_t gso_size;
	uint8_t hash_type, hash_algorithm; /* _XEN_NETIF_CTRL_HASH_TYPE_*, XEN_NETIF_CTRL_HASH_ALGORITHM_* */
	uint32_t hash_value;
	uint8_t extras, nr;
	struct {
		uint16_t id, offset, len;
	} frag[PV_NET_FRAGS_MAX];
};

/* Parse one received chain (XSA-376). Returns slots used, 0: incomplete, -EPROTO. Lengths: offset + status <= 4096; at most
 * PV_NET_FRAGS_MAX fragments; extras are GSO or hash, checked as in pv_net_tx_parse, each at most once. */
int pv_net_rx_parse(const union pv_net_rx_slot *slots, unsigned n, struct pv_net_rx_packet *out);

#endif
