/* offload.c - see offload.h. */
#include "offload.h"
#include <netinet/in.h>
#include <string.h>
#include <xen/io/netif.h>

struct l4 {
	unsigned start, offset; /* of the segment, and of its checksum in that */
	unsigned pseudo; /* sum of the pseudo header, not folded */
	unsigned head; /* bytes up to the payload (TCP) */
};

static uint32_t sum(const uint8_t *p, size_t len, uint32_t s)
{
	for (; len > 1; p += 2, len -= 2)
		s += (uint32_t)p[0] << 8 | p[1];
	return len ? s + ((uint32_t)*p << 8) : s;
}

static uint16_t fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

static unsigned be16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

/* The protocol and place of what is behind an IPv6 header, past the extensions that a checksum may hide behind. 0: none. */
static unsigned ipv6_upper(const uint8_t *frame, unsigned len, unsigned at, unsigned *proto)
{
	*proto = frame[at + 6];
	at += 40;
	for (unsigned n = 0; n < 8 && at + 8 <= len; n++) {
		if (*proto != IPPROTO_HOPOPTS && *proto != IPPROTO_DSTOPTS) /* a routing header hides the address that is summed */
			return at;
		*proto = frame[at];
		at += 8 + frame[at + 1] * 8u;
	}
	return 0;
}

/* Find TCP or UDP in a frame. */
static bool find_l4(const uint8_t *frame, unsigned len, struct l4 *out)
{
	unsigned at = 12, proto, addresses, size, end;

	while (at + 2 <= len && (be16(frame + at) == 0x8100 || be16(frame + at) == 0x88a8) && at < 20)
		at += 4;
	if (at + 2 + 20 > len)
		return false;
	if (be16(frame + at) == 0x0800) {
		unsigned ip = at + 2, ihl = (frame[ip] & 15) * 4u;

		if (frame[ip] >> 4 != 4 || ihl < 20 || be16(frame + ip + 6) & 0x3fff)
			return false;
		proto = frame[ip + 9];
		addresses = ip + 12;
		size = 8;
		end = ip + be16(frame + ip + 2);
		at = ip + ihl;
	} else if (be16(frame + at) == 0x86dd && at + 2 + 40 <= len) {
		addresses = at + 2 + 8;
		size = 32;
		end = at + 2 + 40 + be16(frame + at + 2 + 4);
		at = ipv6_upper(frame, len, at + 2, &proto);
	} else {
		return false;
	}
	if (end > len || end < at || at == 0)
		end = len; /* a large packet may carry no length */
	if (!at || (proto != IPPROTO_TCP && proto != IPPROTO_UDP) || at + (proto == IPPROTO_TCP ? 20 : 8) > len)
		return false;
	*out = proto == IPPROTO_TCP ? (struct l4){ .start = at, .offset = 16, .head = at + (frame[at + 12] >> 4) * 4u } :
				      (struct l4){ .start = at, .offset = 6, .head = at + 8 };
	out->pseudo = sum(frame + addresses, size, proto + (end - at));
	return true;
}

/* Complete a checksum of which the kernel left only the pseudo header's sum. */
static bool complete_checksum(uint8_t *frame, unsigned len, const struct virtio_net_hdr *h)
{
	unsigned at = h->csum_start + h->csum_offset;
	uint16_t c;

	if (h->csum_start > len || at + 2 > len)
		return false;
	c = (uint16_t)~fold(sum(frame + h->csum_start, len - h->csum_start, 0));
	if (c == 0)
		c = 0xffff; /* for UDP 0 means none */
	frame[at] = (uint8_t)(c >> 8);
	frame[at + 1] = (uint8_t)c;
	return true;
}

bool offload_to_packet(uint8_t *frame, unsigned len, const struct virtio_net_hdr *h, uint32_t agreed, struct pv_netfront_packet *p)
{
	bool v6 = len >= 14 && be16(frame + 12) == 0x86dd;

	*p = (struct pv_netfront_packet){ .data = frame, .len = len };
	switch (h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		break;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		p->gso_type = XEN_NETIF_GSO_TYPE_TCPV4;
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		p->gso_type = XEN_NETIF_GSO_TYPE_TCPV6;
		break;
	default:
		return false;
	}
	p->gso_size = p->gso_type ? h->gso_size : 0;
	p->data_validated = h->flags & VIRTIO_NET_HDR_F_DATA_VALID;
	if (!(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return true;
	if (!(agreed & (v6 ? PV_VIF_CSUM_IPV6 : PV_VIF_CSUM_IPV4)))
		return complete_checksum(frame, len, h);
	p->csum_blank = true;
	return true;
}

struct virtio_net_hdr offload_to_header(uint8_t *frame, const struct pv_netfront_packet *p)
{
	struct virtio_net_hdr h = { .flags = p->data_validated ? VIRTIO_NET_HDR_F_DATA_VALID : 0 };
	struct l4 l4;

	if ((!p->csum_blank && !p->gso_type) || !find_l4(frame, p->len, &l4))
		return h;
	h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h.csum_start = (uint16_t)l4.start;
	h.csum_offset = (uint16_t)l4.offset;
	frame[l4.start + l4.offset] = (uint8_t)(fold(l4.pseudo) >> 8);
	frame[l4.start + l4.offset + 1] = (uint8_t)fold(l4.pseudo);
	if (p->gso_type) {
		h.gso_type = p->gso_type == XEN_NETIF_GSO_TYPE_TCPV4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
		h.gso_size = p->gso_size;
		h.hdr_len = (uint16_t)l4.head;
	}
	return h;
}
