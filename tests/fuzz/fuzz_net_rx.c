/* fuzz_net_rx.c - what a backend gives, as slots of 8 bytes, into pv_net_rx_parse: the frontend's side of the same. */
#include "fuzz.h"
#include <pvio/net.h>

static void check_packet(const struct pv_net_rx_packet *p)
{
	uint32_t sum = 0;

	MUST(!(p->flags & ~(NETRXF_csum_blank | NETRXF_data_validated)));
	MUST(p->nr >= 1 && p->nr <= PV_NET_FRAGS_MAX);
	if (p->gso_type)
		MUST(p->gso_size && p->gso_type <= XEN_NETIF_GSO_TYPE_TCPV6);
	for (unsigned i = 0; i < p->nr; i++) {
		MUST(p->frag[i].offset + p->frag[i].len <= PV_PAGE_SIZE);
		sum += p->frag[i].len;
	}
	MUST(sum == p->len && (p->error || p->len >= PV_NET_LEN_MIN));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned n = (unsigned)(size / PV_NET_RX_SLOT), at = 0;
	union pv_net_rx_slot *slots;

	if (n > 256)
		return 0;
	slots = exact(data, n * sizeof(*slots));
	while (at < n) {
		struct pv_net_rx_packet p, again;
		int used = pv_net_rx_parse(slots + at, n - at, &p);

		if (used <= 0) {
			MUST(used == -EPROTO || n - at < PV_NET_CHAIN_MAX);
			break;
		}
		MUST((unsigned)used == (unsigned)p.nr + p.extras && (unsigned)used <= n - at);
		check_packet(&p);
		for (unsigned part = 0; part < (unsigned)used; part++)
			MUST(pv_net_rx_parse(slots + at, part, &again) == 0);
		at += (unsigned)used;
	}
	free(slots);
	return 0;
}
