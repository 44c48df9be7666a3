/* fuzz_net_tx.c - what a guest sends, as slots of 12 bytes, into pv_net_tx_parse: whatever it accepts keeps every rule of net.h. */
#include "fuzz.h"
#include <pvio/net.h>

static void check_packet(const struct pv_net_packet *p)
{
	uint32_t sum = 0;

	MUST(!(p->flags & ~(NETTXF_csum_blank | NETTXF_data_validated)));
	MUST(p->nr >= 1 && p->nr < PV_NET_FRAGS_FATAL);
	if (p->gso_type)
		MUST(p->gso_size && p->gso_type <= XEN_NETIF_GSO_TYPE_TCPV6);
	if (p->drop)
		return;
	MUST(p->nr <= PV_NET_FRAGS_MAX && p->len >= PV_NET_LEN_MIN);
	for (unsigned i = 0; i < p->nr; i++) {
		MUST(p->frag[i].offset + p->frag[i].size <= PV_PAGE_SIZE);
		sum += p->frag[i].size;
	}
	MUST(sum == p->len);
}

/* The same chain, with other slots behind it or none, is the same packet; a part of it is none. */
static void check_extent(const union pv_net_tx_slot *slots, unsigned used, const struct pv_net_packet *whole)
{
	union pv_net_tx_slot *part = exact(slots, used * sizeof(*slots));
	struct pv_net_packet p;

	memset(&p, 0xa5, sizeof(p)); /* nothing that was there before counts */
	MUST(pv_net_tx_parse(part, used, &p) == (int)used);
	MUST(p.len == whole->len && p.nr == whole->nr && p.drop == whole->drop && p.extras == whole->extras && p.mcast == whole->mcast);
	for (unsigned i = 0; i < p.nr; i++)
		MUST(p.frag[i].gref == whole->frag[i].gref && p.frag[i].offset == whole->frag[i].offset &&
		     p.frag[i].size == whole->frag[i].size && p.frag[i].id == whole->frag[i].id);
	for (unsigned n = 0; n < used; n++)
		MUST(pv_net_tx_parse(part, n, &p) == 0);
	free(part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned n = (unsigned)(size / PV_NET_TX_SLOT), at = 0;
	union pv_net_tx_slot *slots;

	if (n > 256)
		return 0;
	slots = exact(data, n * sizeof(*slots));
	while (at < n) {
		struct pv_net_packet p;
		int used = pv_net_tx_parse(slots + at, n - at, &p);

		if (used <= 0) {
			MUST(used == -EPROTO || n - at < PV_NET_CHAIN_MAX);
			break;
		}
		MUST((unsigned)used == p.nr + p.extras && (unsigned)used <= n - at);
		if (p.mcast)
			MUST(p.nr == 1);
		else
			check_packet(&p);
		check_extent(slots + at, (unsigned)used, &p);
		at += (unsigned)used;
	}
	free(slots);
	return 0;
}
