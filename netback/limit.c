/* limit.c - how much a vif may send and receive: bits and packets a second, of the whole device, however many queues it has (pvio/limit.h).
 * Queues look before they take, and charge afterwards, once a turn each.
 *
 * From a guest: its requests wait in the ring. To a guest: packets wait in the backlog, and what that does not hold is dropped. A queue
 * that has to wait rests, and a timer wakes it. */
#include "netback.h"
#include <ctype.h>

enum { SLOT_BYTES = 2048 /* as which a slot counts until its length is known */ };

/* ---- words of the configuration ---- */

int limit_parse_bits(const char *s, void *field)
{
	return pv_limit_parse(s, 8000, field);
}

int limit_parse_packets(const char *s, void *field)
{
	return pv_limit_parse(s, 10, field);
}

int limit_parse_burst(const char *s, void *field)
{
	return pv_limit_parse(s, 1, field);
}

/* xl's way: so many bytes in a window of so many microseconds. */
int limit_parse_window(const char *s, void *field)
{
	struct limit_config *c = field;
	char *end;
	unsigned long long bytes, us;

	if (!isdigit((unsigned char)*s) || strlen(s) > 32)
		return -EINVAL;
	bytes = strtoull(s, &end, 10);
	if (*end != ',' || !isdigit((unsigned char)end[1]))
		return -EINVAL;
	us = strtoull(end + 1, &end, 10);
	if (*end || !us || us > UINT32_MAX || bytes > UINT32_MAX)
		return -EINVAL;
	c->tx_bits = (uint64_t)(bytes * 8.0 * 1e6 / us);
	c->burst = bytes;
	return c->tx_bits >= 8000 && c->tx_bits <= PV_LIMIT_MAX ? 0 : -EINVAL;
}

/* ---- accounts ---- */

int limit_new(const struct limit_config *c, uint64_t tsc_second, uint64_t tsc, struct limit **out)
{
	struct limit *l;

	*out = NULL;
	if (!c->tx_bits && !c->rx_bits && !c->tx_packets && !c->rx_packets)
		return 0;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	pv_limit_init(&l->tx, c->tx_bits / 8.0, c->tx_packets, c->burst, tsc_second, tsc);
	pv_limit_init(&l->rx, c->rx_bits / 8.0, c->rx_packets, c->burst, tsc_second, tsc);
	*out = l;
	return 0;
}

void limit_change(struct vif *vif, struct limit *new)
{
	struct limit *old = __atomic_exchange_n(&vif->limit, new, __ATOMIC_ACQ_REL); /* pairs with tx_work and rx_plan */

	if (old)
		netback_barrier(vif->nb);
	free(old);
}

unsigned limit_slots(struct pv_limit *side, uint64_t tsc, unsigned most, uint64_t *until)
{
	return pv_limit_credit(side, SLOT_BYTES, tsc, most, until);
}
