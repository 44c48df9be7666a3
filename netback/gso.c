/* gso.c - cut a large TCP packet for an uplink or a guest that cannot.
 *
 * DPDK's library makes chains: a segment with the headers, and segments that refer to the payload where it lies. So no byte is copied, and whoever takes chains
 * (uplinks) is given these. It knows no IPv6, and leaves checksums, a flag of TCP's and the VLAN to us. For the rest each piece is a packet of its own, a copy. Guests are
 * given those: of a chain each segment would be a grant copy of its own, and a page that its backlog may not hold more of. */
#include "netback.h"
#include <rte_ethdev.h>
#include <rte_gso.h>
#include <rte_ip.h>
#include <rte_tcp.h>

static uint32_t header_len(const struct rte_mbuf *m)
{
	return m->l2_len + m->l3_len + m->l4_len;
}

int gso_check(struct rte_mbuf *m)
{
	bool v6 = m->ol_flags & NB_GSO_V6;
	const void *ip;
	uint32_t l3;

	if (m->tso_segsz < GSO_SIZE_MIN)
		return -EINVAL;
	if (csum_headers(m) != (v6 ? NB_L4_TCP6 : NB_L4_TCP4))
		return -EINVAL;
	ip = rte_pktmbuf_mtod_offset(m, const void *, m->l2_len);
	l3 = v6 ? (uint32_t)(rte_be_to_cpu_16(((const struct rte_ipv6_hdr *)ip)->payload_len) + sizeof(struct rte_ipv6_hdr))
		: rte_be_to_cpu_16(((const struct rte_ipv4_hdr *)ip)->total_length);
	if (m->l2_len + l3 != m->pkt_len) /* padding would become payload */
		return -EINVAL;
	return m->pkt_len - header_len(m) <= (uint32_t)m->tso_segsz * GSO_PIECES_MAX ? 0 : -EINVAL;
}

/* Copy `len` bytes of `from` at `off` behind the headers that `piece` begins with. */
static void copy_payload(const struct rte_mbuf *from, uint32_t off, uint32_t len, struct rte_mbuf *piece, uint32_t skip)
{
	for (struct rte_mbuf *seg = piece; len; seg = seg->next, skip = 0) {
		uint32_t n = RTE_MIN(len, (uint32_t)seg->data_len - skip);
		uint8_t *to = rte_pktmbuf_mtod_offset(seg, uint8_t *, skip);
		const void *p = rte_pktmbuf_read(from, off, n, to);

		if (p != to)
			memcpy(to, p, n);
		off += n;
		len -= n;
	}
}

/* What differs from piece to piece. rte_gso does the same. */
static void fix_headers(struct rte_mbuf *m, bool v6, uint32_t done, unsigned index, bool last)
{
	struct rte_tcp_hdr *tcp = rte_pktmbuf_mtod_offset(m, struct rte_tcp_hdr *, m->l2_len + m->l3_len);
	uint32_t l3 = m->pkt_len - m->l2_len;

	if (v6) {
		struct rte_ipv6_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv6_hdr *, m->l2_len);

		ip->payload_len = rte_cpu_to_be_16((uint16_t)(l3 - sizeof(*ip)));
	} else {
		struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, m->l2_len);

		ip->total_length = rte_cpu_to_be_16((uint16_t)l3);
		ip->packet_id = rte_cpu_to_be_16((uint16_t)(rte_be_to_cpu_16(ip->packet_id) + index));
	}
	tcp->sent_seq = rte_cpu_to_be_32(rte_be_to_cpu_32(tcp->sent_seq) + done);
	if (!last)
		tcp->tcp_flags &= (uint8_t)~(RTE_TCP_FIN_FLAG | RTE_TCP_PSH_FLAG);
}

/* What rte_gso leaves. */
static void complete(struct rte_mbuf *piece, const struct rte_mbuf *m, unsigned index)
{
	bool v6 = m->ol_flags & NB_GSO_V6;

	piece->ol_flags = RTE_MBUF_F_EXTERNAL | (m->ol_flags & NB_VALID);
	piece->vlan_tci = m->vlan_tci;
	if (index)
		rte_pktmbuf_mtod_offset(piece, struct rte_tcp_hdr *, m->l2_len + m->l3_len)->tcp_flags &= (uint8_t)~RTE_TCP_CWR_FLAG;
	if (!v6) {
		struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(piece, struct rte_ipv4_hdr *, m->l2_len);

		ip->hdr_checksum = 0;
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	}
	csum_l4(piece, v6 ? NB_L4_TCP6 : NB_L4_TCP4);
}

static int cut_by_reference(struct rte_mempool *pool, struct rte_mempool *refs, struct rte_mbuf *m, struct rte_mbuf *out[GSO_PIECES_MAX])
{
	struct rte_gso_ctx ctx = { .direct_pool = pool, .indirect_pool = refs, .gso_types = RTE_ETH_TX_OFFLOAD_TCP_TSO };

	ctx.gso_size = (uint16_t)(header_len(m) + m->tso_segsz); /* less than the packet's length */
	m->ol_flags |= RTE_MBUF_F_TX_IPV4;
	return rte_gso_segment(m, &ctx, out, GSO_PIECES_MAX);
}

static int cut_by_copying(struct rte_mempool *pool, struct rte_mbuf *m, struct rte_mbuf *out[GSO_PIECES_MAX])
{
	uint32_t hdr = header_len(m), payload = m->pkt_len - hdr, done = 0;
	unsigned n = 0;

	do {
		uint32_t len = RTE_MIN(payload - done, (uint32_t)m->tso_segsz);
		struct rte_mbuf *piece = pool_chain(pool, hdr + len);

		if (!piece) {
			rte_pktmbuf_free_bulk(out, n);
			return -ENOMEM;
		}
		memcpy(rte_pktmbuf_mtod(piece, void *), rte_pktmbuf_mtod(m, void *), hdr);
		piece->tx_offload = m->tx_offload;
		piece->port = m->port;
		copy_payload(m, hdr + done, len, piece, hdr);
		fix_headers(piece, m->ol_flags & NB_GSO_V6, done, n, done + len == payload);
		done += len;
		out[n++] = piece;
	} while (done < payload && n < GSO_PIECES_MAX);
	return (int)n;
}

int gso_cut(struct rte_mempool *pool, struct rte_mempool *refs, struct rte_mbuf *m, struct rte_mbuf *out[GSO_PIECES_MAX])
{
	bool refer = refs && !(m->ol_flags & NB_GSO_V6) && m->pkt_len > header_len(m) + m->tso_segsz;
	int n = refer ? cut_by_reference(pool, refs, m, out) : cut_by_copying(pool, m, out);

	for (int i = 0; i < n; i++)
		complete(out[i], m, (unsigned)i);
	return n;
}

int gso_cut_up(struct nb_worker *w, struct rte_mempool *refs, struct rte_mbuf *m, struct rte_mbuf *out[GSO_PIECES_MAX])
{
	int n = gso_cut(w->nb->pool, refs, m, out);

	rte_pktmbuf_free(m);
	if (n < 0)
		turn_no_memory(w);
	return n;
}
