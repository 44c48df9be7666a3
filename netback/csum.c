/* csum.c - what a packet's headers are, and the completion of checksums that a guest left blank.
 *
 * A guest's packet is never believed: headers must lie whole in the first segment (which is always so in an honest packet,
 * since we copied it there) and their lengths must agree with the packet's. */
#include "netback.h"
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_jhash.h>
#include <rte_tcp.h>
#include <rte_udp.h>

enum { IP6_EXTENSIONS_MAX = 8 };

/* The EtherType behind up to two VLAN tags; *off: where the network header begins. */
static uint16_t ether_type(const struct rte_mbuf *m, uint32_t *off)
{
	const uint8_t *p = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t at = 12;
	uint16_t type = 0;

	for (int tags = 0; tags < 3 && at + 2 <= m->data_len; tags++, at += 4) {
		type = (uint16_t)(p[at] << 8 | p[at + 1]);
		if (type != RTE_ETHER_TYPE_VLAN && type != RTE_ETHER_TYPE_QINQ)
			break;
	}
	*off = at + 2;
	return type;
}

/* Walk IPv6 extension headers from `off` (within the packet). Returns the protocol behind them, -1: fragment or nonsense. */
static int ip6_skip(const struct rte_mbuf *m, uint8_t proto, uint32_t *off)
{
	const uint8_t *p = rte_pktmbuf_mtod(m, const uint8_t *);

	for (int i = 0; i < IP6_EXTENSIONS_MAX; i++) {
		if (proto != IPPROTO_HOPOPTS && proto != IPPROTO_ROUTING && proto != IPPROTO_DSTOPTS)
			return proto == IPPROTO_FRAGMENT ? -1 : proto;
		if (*off + 8 > m->data_len)
			return -1;
		proto = p[*off];
		*off += (p[*off + 1] + 1u) * 8;
	}
	return -1;
}

/* The L4 header at `off`, `len` bytes of it and its data in the packet. Returns its length, 0: none that we know. */
static uint32_t l4_length(const struct rte_mbuf *m, int proto, uint32_t off, uint32_t len)
{
	uint32_t need = proto == IPPROTO_TCP ? sizeof(struct rte_tcp_hdr) : proto == IPPROTO_UDP ? sizeof(struct rte_udp_hdr) : 0;

	if (!need || need > len || off + need > m->data_len)
		return 0;
	if (proto == IPPROTO_TCP) {
		uint32_t real = (rte_pktmbuf_mtod_offset(m, struct rte_tcp_hdr *, off)->data_off >> 4) * 4u;

		if (real < need || real > len || off + real > m->data_len)
			return 0;
		need = real;
	}
	return need;
}

static enum nb_l4 ip4_headers(struct rte_mbuf *m, uint32_t off)
{
	const struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(m, const struct rte_ipv4_hdr *, off);
	uint32_t hdr, total, l4;

	if (off + sizeof(*ip) > m->data_len || ip->version_ihl >> 4 != 4)
		return NB_L4_OTHER;
	hdr = (ip->version_ihl & 15) * 4;
	total = rte_be_to_cpu_16(ip->total_length);
	if (hdr < sizeof(*ip) || total < hdr || off + total > m->pkt_len)
		return NB_L4_OTHER;
	if (ip->fragment_offset & rte_cpu_to_be_16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK))
		return NB_L4_OTHER;
	l4 = l4_length(m, ip->next_proto_id, off + hdr, total - hdr);
	if (!l4)
		return NB_L4_OTHER;
	m->l2_len = off;
	m->l3_len = hdr;
	m->l4_len = l4;
	return ip->next_proto_id == IPPROTO_TCP ? NB_L4_TCP4 : NB_L4_UDP4;
}

static enum nb_l4 ip6_headers(struct rte_mbuf *m, uint32_t off)
{
	const struct rte_ipv6_hdr *ip = rte_pktmbuf_mtod_offset(m, const struct rte_ipv6_hdr *, off);
	uint32_t at = off + sizeof(*ip), end, l4;
	int proto;

	if (at > m->data_len || *(const uint8_t *)ip >> 4 != 6)
		return NB_L4_OTHER;
	end = at + rte_be_to_cpu_16(ip->payload_len);
	if (end > m->pkt_len)
		return NB_L4_OTHER;
	proto = ip6_skip(m, ip->proto, &at);
	l4 = proto < 0 || at > end ? 0 : l4_length(m, proto, at, end - at);
	if (!l4 || at - off > 511) /* l3_len has nine bits */
		return NB_L4_OTHER;
	m->l2_len = off;
	m->l3_len = at - off;
	m->l4_len = l4;
	return proto == IPPROTO_TCP ? NB_L4_TCP6 : NB_L4_UDP6;
}

enum nb_l4 csum_headers(struct rte_mbuf *m)
{
	uint32_t off;

	switch (ether_type(m, &off)) {
	case RTE_ETHER_TYPE_IPV4:
		return ip4_headers(m, off);
	case RTE_ETHER_TYPE_IPV6:
		return ip6_headers(m, off);
	default:
		return NB_L4_OTHER;
	}
}

/* The pseudo header's sum; behind extension headers its length and protocol are not those of the IPv6 header. */
static uint32_t pseudo_sum(const void *ip, bool v4, uint32_t l4_len, uint8_t proto)
{
	uint32_t tail[2] = { rte_cpu_to_be_32(l4_len), rte_cpu_to_be_32(proto) };
	uint32_t addresses = v4 ? rte_raw_cksum((const uint8_t *)ip + offsetof(struct rte_ipv4_hdr, src_addr), 8)
				: rte_raw_cksum((const uint8_t *)ip + offsetof(struct rte_ipv6_hdr, src_addr), 32);

	return addresses + rte_raw_cksum(tail, sizeof(tail));
}

/* Where the L4 checksum is; *len: the bytes that it is over, with the L4 header. */
static uint8_t *l4_field(struct rte_mbuf *m, enum nb_l4 l4, uint32_t *len)
{
	bool v4 = l4 == NB_L4_TCP4 || l4 == NB_L4_UDP4, tcp = l4 == NB_L4_TCP4 || l4 == NB_L4_TCP6;
	const void *ip = rte_pktmbuf_mtod_offset(m, const void *, m->l2_len);

	*len = v4 ? rte_be_to_cpu_16(((const struct rte_ipv4_hdr *)ip)->total_length)
		  : (uint32_t)(rte_be_to_cpu_16(((const struct rte_ipv6_hdr *)ip)->payload_len) + sizeof(struct rte_ipv6_hdr));
	*len -= m->l3_len;
	return rte_pktmbuf_mtod_offset(m, uint8_t *, m->l2_len + m->l3_len) +
	       (tcp ? offsetof(struct rte_tcp_hdr, cksum) : offsetof(struct rte_udp_hdr, dgram_cksum));
}

/* The sum over the pseudo header, and over more that `raw` is the sum of; not yet complemented. */
static uint16_t sum_with_pseudo(const struct rte_mbuf *m, enum nb_l4 l4, uint32_t len, uint16_t raw)
{
	bool v4 = l4 == NB_L4_TCP4 || l4 == NB_L4_UDP4, tcp = l4 == NB_L4_TCP4 || l4 == NB_L4_TCP6;
	uint32_t sum = raw + pseudo_sum(rte_pktmbuf_mtod_offset(m, const void *, m->l2_len), v4, len, tcp ? IPPROTO_TCP : IPPROTO_UDP);

	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

uint16_t csum_raw(const struct rte_mbuf *m, uint32_t off, uint32_t len)
{
	uint32_t sum = 0;

	for (; off >= m->data_len; m = m->next)
		off -= m->data_len;
	for (uint32_t done = 0, n; done < len; done += n, m = m->next, off = 0) {
		uint16_t part;

		n = RTE_MIN(len - done, m->data_len - off);
		part = rte_raw_cksum(rte_pktmbuf_mtod_offset(m, const void *, off), n);
		sum += done & 1 ? rte_bswap16(part) : part;
	}
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

void csum_l4(struct rte_mbuf *m, enum nb_l4 l4)
{
	uint32_t len;
	uint8_t *field = l4_field(m, l4, &len);
	uint16_t raw;

	memset(field, 0, 2);
	raw = (uint16_t)~sum_with_pseudo(m, l4, len, csum_raw(m, m->l2_len + m->l3_len, len));
	if (!raw && (l4 == NB_L4_UDP4 || l4 == NB_L4_UDP6))
		raw = 0xffff; /* RFC 768: 0 would mean that there is none */
	memcpy(field, &raw, 2);
}

void csum_pseudo(struct rte_mbuf *m)
{
	enum nb_l4 l4 = csum_headers(m);
	uint32_t len;
	uint8_t *field;
	uint16_t sum;

	if (l4 == NB_L4_OTHER)
		return;
	field = l4_field(m, l4, &len);
	sum = sum_with_pseudo(m, l4, len, 0);
	memcpy(field, &sum, 2);
}

int csum_complete(struct rte_mbuf *m)
{
	enum nb_l4 l4 = csum_headers(m);

	if (l4 == NB_L4_OTHER)
		return -EINVAL;
	csum_l4(m, l4);
	m->ol_flags &= ~NB_BLANK;
	return 0;
}

void csum_flow(const struct rte_mbuf *m, struct nb_flow *f)
{
	const uint8_t *p = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t off, at = 0;
	uint16_t type = ether_type(m, &off);
	int proto = -1;

	memset(f, 0, sizeof(*f));
	if (type == RTE_ETHER_TYPE_IPV4 && off + sizeof(struct rte_ipv4_hdr) <= m->data_len) {
		const struct rte_ipv4_hdr *ip = (const void *)(p + off);

		f->words = 2;
		memcpy(f->word, &ip->src_addr, 8);
		if (!(ip->fragment_offset & rte_cpu_to_be_16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)))
			proto = ip->next_proto_id;
		at = off + rte_ipv4_hdr_len(ip);
	} else if (type == RTE_ETHER_TYPE_IPV6 && off + sizeof(struct rte_ipv6_hdr) <= m->data_len) {
		const struct rte_ipv6_hdr *ip = (const void *)(p + off);

		f->words = 8;
		memcpy(f->word, ip->src_addr, 32);
		at = off + sizeof(*ip);
		proto = ip6_skip(m, ip->proto, &at);
	}
	if ((proto == IPPROTO_TCP || proto == IPPROTO_UDP) && at + 4 <= m->data_len) {
		f->l4 = (uint8_t)proto;
		memcpy(&f->word[8], p + at, 4);
	}
}

uint32_t csum_flow_hash(const struct rte_mbuf *m)
{
	struct nb_flow f;

	csum_flow(m, &f);
	if (!f.words)
		memcpy(f.word, rte_pktmbuf_mtod(m, const void *), 12); /* Ethernet's */
	return rte_jhash_32b(f.word, RTE_DIM(f.word), 0);
}
