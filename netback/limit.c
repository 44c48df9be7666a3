/* limit.c - how much a vif may send and receive: bits and packets a second, of the whole device, however many queues it has.
 *
 * Theory of operation. A direction has one account for bytes and one for packets, and an account is one word: the time until which what
 * was used is paid for. It lies in the past while there is credit, at most the burst; each use moves it on by what that costs. Queues look at it
 * before they take, and charge it afterwards, once a turn each: those of several workers may overdraw it by a turn, which all of
 * them then wait for. So nothing is reserved, nothing is given back, and over time the rate is exact.
 *
 * From a guest: its requests wait in the ring. To a guest: packets wait in the backlog, and what that does not hold is dropped. A queue
 * that has to wait rests, and a timer wakes it: WAIT_US late, so that it does not wake for every single packet. */
#include "netback.h"
#include <ctype.h>

enum {
	SHIFT = 4, /* accounts are kept in 1/16 of a TSC tick */
	BURST_MS = 10, /* if none is given */
	WAIT_US = 500,
	SLOT_BYTES = 2048, /* as which a slot counts until its length is known */
};

/* ---- words of the configuration ---- */

/* A number with k, M or G behind it. */
static int parse_amount(const char *s, uint64_t min, uint64_t *out)
{
	static const char units[] = "kMG";
	unsigned long long n, scale = 1;
	const char *unit;
	char *end;

	if (!isdigit((unsigned char)*s) || strlen(s) > 16)
		return -EINVAL;
	n = strtoull(s, &end, 10);
	unit = *end ? strchr(units, *end) : NULL;
	for (const char *u = units; unit && u <= unit; u++)
		scale *= 1000;
	if (*end && (!unit || end[1]))
		return -EINVAL;
	if (n > LIMIT_MAX / scale || n * scale < min)
		return -EINVAL;
	*out = n * scale;
	return 0;
}

int limit_parse_bits(const char *s, void *field)
{
	return parse_amount(s, 8000, field);
}

int limit_parse_packets(const char *s, void *field)
{
	return parse_amount(s, 10, field);
}

int limit_parse_burst(const char *s, void *field)
{
	return parse_amount(s, 1, field);
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
	return c->tx_bits >= 8000 && c->tx_bits <= LIMIT_MAX ? 0 : -EINVAL;
}

/* ---- accounts ---- */

static void side_new(struct limit_side *s, uint64_t bits, uint64_t packets, uint64_t burst, uint64_t tsc_second)
{
	double ticks = (double)tsc_second * (1 << SHIFT);

	s->byte = bits ? ticks * 8 / bits : 0;
	s->packet = packets ? ticks / packets : 0;
	s->burst = (uint64_t)(burst && bits ? burst * s->byte : ticks / 1000 * BURST_MS);
	s->wait = RTE_MIN(s->burst / 2, (uint64_t)(ticks / 1e6 * WAIT_US));
}

int limit_new(const struct limit_config *c, uint64_t tsc_second, uint64_t tsc, struct limit **out)
{
	struct limit *l;

	*out = NULL;
	if (!c->tx_bits && !c->rx_bits && !c->tx_packets && !c->rx_packets)
		return 0;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	side_new(&l->tx, c->tx_bits, c->tx_packets, c->burst, tsc_second);
	side_new(&l->rx, c->rx_bits, c->rx_packets, c->burst, tsc_second);
	l->tx.paid[0] = l->tx.paid[1] = (tsc << SHIFT) - l->tx.burst;
	l->rx.paid[0] = l->rx.paid[1] = (tsc << SHIFT) - l->rx.burst;
	*out = l;
	return 0;
}

void limit_change(struct vif *vif, struct limit *new)
{
	struct limit *old = __atomic_exchange_n(&vif->limit, new, __ATOMIC_ACQ_REL); /* pairs with tx_collect and rx_plan */

	if (old)
		netback_barrier(vif->nb);
	free(old);
}

/* The credit of an account, in its units, at most `most`; 0: none, and `until` is when it is worth another look. */
static unsigned credit(struct limit_side *s, unsigned account, double cost, uint64_t now, unsigned most, uint64_t *until)
{
	uint64_t paid = __atomic_load_n(&s->paid[account], __ATOMIC_RELAXED); /* a number, which orders nothing */
	int64_t have = (int64_t)(now - paid);
	double units;

	if (have > (int64_t)s->burst) { /* what was not used for longer is lost */
		__atomic_compare_exchange_n(&s->paid[account], &paid, now - s->burst, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
		have = (int64_t)s->burst;
	}
	if (have < 0) {
		uint64_t then = (paid + s->wait) >> SHIFT;

		*until = *until && (int64_t)(*until - then) > 0 ? *until : then;
		return 0;
	}
	units = 1 + have / cost;
	return units < most ? (unsigned)units : most; /* of 0 as well: it is the other account that has none */
}

unsigned limit_slots(struct limit_side *s, uint64_t tsc, unsigned most, uint64_t *until)
{
	*until = 0;
	if (s->byte)
		most = credit(s, 0, s->byte * SLOT_BYTES, tsc << SHIFT, most, until);
	if (s->packet) {
		unsigned packets = credit(s, 1, s->packet, tsc << SHIFT, most, until);

		most = RTE_MIN(most, packets);
	}
	return most;
}

void limit_charge(struct limit_side *s, uint64_t bytes, uint64_t packets)
{
	if (s->byte)
		__atomic_fetch_add(&s->paid[0], (uint64_t)(bytes * s->byte + 0.5), __ATOMIC_RELAXED);
	if (s->packet)
		__atomic_fetch_add(&s->paid[1], (uint64_t)(packets * s->packet + 0.5), __ATOMIC_RELAXED);
}
