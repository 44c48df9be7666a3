/* mcast.c - a guest's multicast filter: which groups it wants, at most MCAST_MAX. The workers of all its queues change it, one at a time;
 * all workers read it, without a lock: a word is an address or 0. */
#include "netback.h"
#include <rte_ether.h>

int16_t mcast_change(struct mcast *f, uint8_t type, const uint8_t addr[6])
{
	uint64_t mac = switch_mac(addr);
	int free = -1, at = -1;

	if (!(addr[0] & 1))
		return NETIF_RSP_ERROR;
	rte_spinlock_lock(&f->lock);
	for (int i = 0; i < MCAST_MAX; i++) {
		uint64_t have = __atomic_load_n(&f->addr[i], __ATOMIC_RELAXED);

		at = have == mac ? i : at;
		free = !have && free < 0 ? i : free;
	}
	if (type == XEN_NETIF_EXTRA_TYPE_MCAST_DEL && at >= 0)
		__atomic_store_n(&f->addr[at], 0, __ATOMIC_RELAXED);
	if (type == XEN_NETIF_EXTRA_TYPE_MCAST_ADD && at < 0 && free >= 0)
		__atomic_store_n(&f->addr[free], mac, __ATOMIC_RELAXED);
	rte_spinlock_unlock(&f->lock);
	return type == XEN_NETIF_EXTRA_TYPE_MCAST_ADD && at < 0 && free < 0 ? NETIF_RSP_ERROR : NETIF_RSP_OKAY;
}

bool mcast_wants(const struct mcast *f, const struct rte_mbuf *m)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	uint64_t mac = switch_mac_in_frame(&eth->dst_addr);
	bool found = false;

	if (!rte_is_multicast_ether_addr(&eth->dst_addr) || rte_is_broadcast_ether_addr(&eth->dst_addr))
		return true;
	for (int i = 0; i < MCAST_MAX; i++)
		found |= __atomic_load_n(&f->addr[i], __ATOMIC_RELAXED) == mac;
	return found;
}

unsigned mcast_count(const struct mcast *f)
{
	unsigned n = 0;

	for (int i = 0; f->addr && i < MCAST_MAX; i++)
		n += __atomic_load_n(&f->addr[i], __ATOMIC_RELAXED) != 0;
	return n;
}
