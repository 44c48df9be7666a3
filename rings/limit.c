/* limit.c - see limit.h. */
#include "limit.h"
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	SHIFT = 4, /* accounts are kept in 1/16 of a tick */
	BURST_MS = 10, /* if none is given */
	WAIT_US = 500, /* later than it might, who waits looks again: not for every single packet */
	BYTES = 0, OPS = 1, /* accounts */
};

void pv_limit_init(struct pv_limit *l, double bytes, double ops, uint64_t burst, uint64_t ticks_second, uint64_t now)
{
	double ticks = (double)ticks_second * (1 << SHIFT);
	uint64_t wait = (uint64_t)(ticks / 1e6 * WAIT_US);

	l->byte = bytes > 0 ? ticks / bytes : 0;
	l->op = ops > 0 ? ticks / ops : 0;
	l->burst = (uint64_t)(burst && bytes > 0 ? (double)burst * l->byte : ticks / 1000 * BURST_MS);
	l->wait = l->burst / 2 < wait ? l->burst / 2 : wait;
	l->paid[BYTES] = l->paid[OPS] = (now << SHIFT) - l->burst;
}

/* The credit of an account, in its units, at most `most`; 0: none, and `until` is when it is worth another look. */
static unsigned credit(struct pv_limit *l, unsigned account, double cost, uint64_t now, unsigned most, uint64_t *until)
{
	uint64_t paid = __atomic_load_n(&l->paid[account], __ATOMIC_RELAXED); /* a number, which orders nothing */
	int64_t have = (int64_t)(now - paid);
	double units;

	if (have > (int64_t)l->burst) { /* what was not used for longer is lost */
		__atomic_compare_exchange_n(&l->paid[account], &paid, now - l->burst, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
		have = (int64_t)l->burst;
	}
	if (have < 0) {
		uint64_t then = (paid + l->wait) >> SHIFT;

		*until = *until && (int64_t)(*until - then) > 0 ? *until : then;
		return 0;
	}
	units = 1 + have / cost;
	return units < most ? (unsigned)units : most; /* of 0 as well: it is the other account that has none */
}

unsigned pv_limit_credit(struct pv_limit *l, unsigned len, uint64_t now, unsigned most, uint64_t *until)
{
	*until = 0;
	if (l->byte > 0)
		most = credit(l, BYTES, l->byte * len, now << SHIFT, most, until);
	if (l->op > 0) {
		unsigned ops = credit(l, OPS, l->op, now << SHIFT, most, until);

		most = ops < most ? ops : most;
	}
	return most;
}

void pv_limit_charge(struct pv_limit *l, uint64_t bytes, uint64_t ops)
{
	if (l->byte > 0)
		__atomic_fetch_add(&l->paid[BYTES], (uint64_t)((double)bytes * l->byte + 0.5), __ATOMIC_RELAXED);
	if (l->op > 0)
		__atomic_fetch_add(&l->paid[OPS], (uint64_t)((double)ops * l->op + 0.5), __ATOMIC_RELAXED);
}

int pv_limit_parse(const char *s, uint64_t min, uint64_t *out)
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
	if (n > PV_LIMIT_MAX / scale || n * scale < min)
		return -EINVAL;
	*out = n * scale;
	return 0;
}
