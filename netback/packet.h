/* packet.h - what is known of a packet beside its bytes, its checksums, and how a large one is cut. */
#ifndef NETBACK_PACKET_H
#define NETBACK_PACKET_H

#include <rte_mbuf.h>

struct nb_worker;

/* What the switch must know of a packet beside its bytes, in mbuf.ol_flags. They mean DPDK's own flags, but no driver ever sees
 * them: a packet for the uplink is completed before. GSO: mbuf.tso_segsz holds the size; blank is set as well. */
#define NB_BLANK RTE_MBUF_F_TX_TCP_CKSUM /* the L4 checksum is blank (TCP or UDP) */
#define NB_VALID RTE_MBUF_F_RX_L4_CKSUM_GOOD /* the data is known to be good */
#define NB_GSO RTE_MBUF_F_TX_TCP_SEG
#define NB_GSO_V6 RTE_MBUF_F_TX_IPV6
#define NB_FLAGS (NB_BLANK | NB_VALID | NB_GSO | NB_GSO_V6)

/* ---- csum.c ---- */
enum nb_l4 { NB_L4_OTHER, NB_L4_TCP4, NB_L4_UDP4, NB_L4_TCP6, NB_L4_UDP6 };
/* What a packet is; fills l2_len, l3_len, l4_len of m when it is TCP or UDP whose headers lie whole in the first segment and
 * whose lengths agree with the packet. Fragments are OTHER. */
enum nb_l4 csum_headers(struct rte_mbuf *m);
/* The sum, not complemented, over len bytes of m from off on; it has so many. As rte_raw_cksum_mbuf, which in DPDK 22.11 loses the carries of each segment that
 * begins at an odd place. */
uint16_t csum_raw(const struct rte_mbuf *m, uint32_t off, uint32_t len);
/* Fill in the blank checksum; NB_BLANK goes. Returns 0 or -EINVAL: not TCP or UDP. */
int csum_complete(struct rte_mbuf *m);
/* Fill in the sum over the pseudo header, from which whoever completes the checksum goes on. */
void csum_pseudo(struct rte_mbuf *m);
/* ... of a packet whose headers are known: for the pieces of a cut one. */
void csum_l4(struct rte_mbuf *m, enum nb_l4 l4);
/* What tells a flow, in network order: addresses from word 0 on, both ports in word 8. */
struct nb_flow {
	uint32_t word[9];
	uint8_t words; /* of addresses: 2, 8, or 0: not IP */
	uint8_t l4; /* IPPROTO_TCP or IPPROTO_UDP, and the ports are there; 0 */
};
void csum_flow(const struct rte_mbuf *m, struct nb_flow *f);
/* A hash over addresses and ports, the same for all packets of a flow. */
uint32_t csum_flow_hash(const struct rte_mbuf *m);

/* ---- gso.c ---- */
enum { GSO_PIECES_MAX = 256, GSO_SIZE_MIN = 48 /* Linux' smallest MSS: less only multiplies packets */ };
/* Is m what its NB_GSO claims: TCP of that family, and not in more than GSO_PIECES_MAX pieces? Returns 0 or -EINVAL. */
int gso_check(struct rte_mbuf *m);
/* Cut m, which gso_check accepted, into packets of at most tso_segsz bytes of payload, checksums complete. refs: of pool_refs_new, then pieces of IPv4 are
 * chains that refer to m's payload; NULL: each has a copy of its own. m stays the caller's, to be freed and not to be used.
 * Returns their number or -ENOMEM. */
int gso_cut(struct rte_mempool *pool, struct rte_mempool *refs, struct rte_mbuf *m, struct rte_mbuf *out[GSO_PIECES_MAX]);
/* The same for a worker: takes m, and lack of memory is told. */
int gso_cut_up(struct nb_worker *w, struct rte_mempool *refs, struct rte_mbuf *m, struct rte_mbuf *out[GSO_PIECES_MAX]);
/* The longest packet that m is on a wire. */
static inline uint32_t gso_wire_len(const struct rte_mbuf *m)
{
	return m->ol_flags & NB_GSO ? m->l2_len + m->l3_len + m->l4_len + (uint32_t)m->tso_segsz : m->pkt_len;
}

#endif
