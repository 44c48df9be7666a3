/* net.c - the pure parsers of network chains. They look at private copies of slots and at nothing else, and link against
 * nothing, so that unit tests and fuzzers share them with the programs. */
#include "net.h"

_Static_assert(PV_NET_TX_SLOT == 12 && PV_NET_RX_SLOT == 8 && sizeof(struct netif_extra_info) == 8, "slots of netif.h");
_Static_assert(PV_NET_CHAIN_MAX > PV_NET_FRAGS_FATAL - 1 + XEN_NETIF_EXTRA_TYPE_MAX - 1, "longer than the longest legal chain");

#define TYPE(t) (1u << XEN_NETIF_EXTRA_TYPE_##t)
#define MCAST_TYPES (TYPE(MCAST_ADD) | TYPE(MCAST_DEL))
#define TX_TYPES (TYPE(GSO) | TYPE(HASH) | MCAST_TYPES)
#define RX_TYPES (TYPE(GSO) | TYPE(HASH)) /* nobody changes our filter */

/* One extra-info slot: its type is one of `allowed` and new in this chain (which bounds their number), a GSO size is not 0
 * and a GSO type is known. */
static int check_extra(const struct netif_extra_info *e, unsigned allowed, unsigned *seen)
{
	unsigned bit = e->type < XEN_NETIF_EXTRA_TYPE_MAX ? 1u << e->type : 0;

	if (!(bit & allowed) || (bit & *seen))
		return -EPROTO;
	*seen |= bit;
	if (e->type == XEN_NETIF_EXTRA_TYPE_GSO &&
	    (!e->u.gso.size || (e->u.gso.type != XEN_NETIF_GSO_TYPE_TCPV4 && e->u.gso.type != XEN_NETIF_GSO_TYPE_TCPV6)))
		return -EPROTO;
	return 0;
}

static void note_tx_extra(const struct netif_extra_info *e, struct pv_net_packet *out)
{
	switch (e->type) {
	case XEN_NETIF_EXTRA_TYPE_GSO:
		out->gso_type = e->u.gso.type;
		out->gso_size = e->u.gso.size;
		break;
	case XEN_NETIF_EXTRA_TYPE_HASH:
		out->hash = true;
		out->hash_type = e->u.hash.type;
		out->hash_algorithm = e->u.hash.algorithm;
		memcpy(out->hash_value, e->u.hash.value, sizeof(out->hash_value));
		break;
	default:
		out->mcast = e->type;
		memcpy(out->mcast_addr, e->u.mcast.addr, sizeof(out->mcast_addr));
	}
}

/* The extra-info slots behind the first slot. Returns the next slot's index, 0: they do not end within n, or -EPROTO. */
static int parse_tx_extras(const union pv_net_tx_slot *slots, unsigned n, struct pv_net_packet *out)
{
	unsigned i = 1, seen = 0;

	do {
		if (i == n)
			return 0;
		if (check_extra(&slots[i].extra, TX_TYPES, &seen))
			return -EPROTO;
		note_tx_extra(&slots[i].extra, out);
		out->extras++;
	} while (slots[i++].extra.flags & XEN_NETIF_EXTRA_FLAG_MORE);
	if (out->mcast && ((seen & MCAST_TYPES) == MCAST_TYPES || (slots[0].req.flags & NETTXF_more_data)))
		return -EPROTO; /* one change of the filter a request, and no packet with it */
	return (int)i;
}

static bool crosses_page(unsigned offset, unsigned size)
{
	return offset + size > PV_PAGE_SIZE;
}

/* The further fragments, from slot i on. `left` ends as the size of the first fragment. Returns as pv_net_tx_parse. */
static int parse_tx_frags(const union pv_net_tx_slot *slots, unsigned n, unsigned i, struct pv_net_packet *out, uint32_t *left)
{
	unsigned flags = slots[0].req.flags;

	for (; flags & NETTXF_more_data; i++) {
		const struct netif_tx_request *req = &slots[i].req;

		if (out->nr == PV_NET_FRAGS_FATAL - 1)
			return -EPROTO; /* it asks for one more than any honest frontend ever used */
		if (i == n)
			return 0;
		if (crosses_page(req->offset, req->size))
			return -EPROTO;
		/* A packet of 64 KiB or more wraps its 16-bit total, and old frontends do that: dropped, not fatal. */
		if (req->size > *left || out->nr >= PV_NET_FRAGS_MAX)
			out->drop = true;
		else
			*left -= req->size;
		out->frag[out->nr++] = (struct pv_net_frag){ req->gref, req->offset, req->size, req->id };
		flags = req->flags;
	}
	return (int)i;
}

int pv_net_tx_parse(const union pv_net_tx_slot *slots, unsigned n, struct pv_net_packet *out)
{
	const struct netif_tx_request *first = &slots[0].req;
	uint32_t left;
	int i = 1;

	if (!n)
		return 0;
	memset(out, 0, offsetof(struct pv_net_packet, frag)); /* and not the 200 bytes of fragments, for each small packet */
	out->nr = 1;
	out->len = left = first->size;
	out->flags = first->flags & (NETTXF_csum_blank | NETTXF_data_validated);
	out->frag[0] = (struct pv_net_frag){ first->gref, first->offset, first->size, first->id };
	if (first->flags & NETTXF_extra_info) {
		i = parse_tx_extras(slots, n, out);
		if (i <= 0 || out->mcast)
			return i;
	}
	i = parse_tx_frags(slots, n, (unsigned)i, out, &left);
	if (i <= 0)
		return i;
	if (out->len < PV_NET_LEN_MIN)
		out->drop = true;
	if (out->drop)
		return i; /* the first fragment's size means nothing */
	out->frag[0].size = (uint16_t)left;
	return crosses_page(first->offset, left) ? -EPROTO : i;
}

static int parse_rx_extras(const union pv_net_rx_slot *slots, unsigned n, struct pv_net_rx_packet *out)
{
	unsigned i = 1, seen = 0;

	do {
		const struct netif_extra_info *e;

		if (i == n)
			return 0;
		e = &slots[i].extra;
		if (check_extra(e, RX_TYPES, &seen))
			return -EPROTO;
		if (e->type == XEN_NETIF_EXTRA_TYPE_GSO) {
			out->gso_type = e->u.gso.type;
			out->gso_size = e->u.gso.size;
		} else {
			const uint8_t *v = e->u.hash.value; /* least significant first */

			out->hash = true;
			out->hash_type = e->u.hash.type;
			out->hash_algorithm = e->u.hash.algorithm;
			out->hash_value = v[0] | (uint32_t)v[1] << 8 | (uint32_t)v[2] << 16 | (uint32_t)v[3] << 24;
		}
		out->extras++;
	} while (slots[i++].extra.flags & XEN_NETIF_EXTRA_FLAG_MORE);
	return (int)i;
}

static void add_rx_frag(struct pv_net_rx_packet *out, const struct netif_rx_response *rsp)
{
	uint16_t len = 0;

	if (rsp->status < 0 || crosses_page(rsp->offset, (unsigned)rsp->status))
		out->error = true;
	else
		len = (uint16_t)rsp->status;
	out->len += len;
	out->frag[out->nr].id = rsp->id;
	out->frag[out->nr].offset = len ? rsp->offset : 0;
	out->frag[out->nr++].len = len;
}

int pv_net_rx_parse(const union pv_net_rx_slot *slots, unsigned n, struct pv_net_rx_packet *out)
{
	unsigned flags;
	int i = 1;

	if (!n)
		return 0;
	memset(out, 0, offsetof(struct pv_net_rx_packet, frag));
	flags = slots[0].rsp.flags;
	out->flags = flags & (NETRXF_csum_blank | NETRXF_data_validated);
	add_rx_frag(out, &slots[0].rsp);
	if (flags & NETRXF_extra_info) {
		i = parse_rx_extras(slots, n, out);
		if (i <= 0)
			return i;
	}
	for (; flags & NETRXF_more_data; i++) {
		if (out->nr == PV_NET_FRAGS_MAX)
			return -EPROTO;
		if ((unsigned)i == n)
			return 0;
		flags = slots[i].rsp.flags;
		add_rx_frag(out, &slots[i].rsp);
	}
	if (out->len < PV_NET_LEN_MIN)
		out->error = true;
	return i;
}
