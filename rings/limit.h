/* limit.h - how many bytes and operations a second may pass, and numbers as people write them. Pure: the caller has the clock.
 *
 * Theory of operation. There is one account for bytes and one for operations, and an account is one word: the time until which what
 * was used is paid for. It lies in the past while there is credit, at most the burst; each use moves it on by what that costs. Who uses something looks
 * first, and charges what it was afterwards: whatever its size, it passes if nothing is owed, and what is owed then all wait for. So nothing is
 * reserved, nothing is given back, the largest request is never starved, and over time the rate is exact.
 *
 * Thread rule: any number of threads may look and charge; together they overdraw it by what each charges at once. Internal to pvio's programs.
 */
#ifndef PV_LIMIT_H
#define PV_LIMIT_H

#include <stdint.h>

#define PV_LIMIT_MAX 1000000000000ull /* of anything a second */

/* Owner: whoever embeds it. In 1/16 of the caller's ticks. */
struct pv_limit {
	double byte, op; /* what one costs; 0: not limited */
	uint64_t burst, wait;
	uint64_t paid[2]; /* atomic: until when bytes and operations are paid for */
};

/* So many bytes and operations a second, 0: any number; after a pause burst bytes at once, 0: what passes in 10 ms, as it is where bytes are not limited. */
void pv_limit_init(struct pv_limit *l, double bytes, double ops, uint64_t burst, uint64_t ticks_second, uint64_t now);

/* How many operations, of which each counts as `len` bytes until that is known, may pass now: at most `most`. 0: none before *until, a time
 * at which it is worth another look (*until is 0 in all other cases). */
unsigned pv_limit_credit(struct pv_limit *l, unsigned len, uint64_t now, unsigned most, uint64_t *until);

/* So much has passed. */
void pv_limit_charge(struct pv_limit *l, uint64_t bytes, uint64_t ops);

/* A number with k, M or G (thousands) behind it, from min to PV_LIMIT_MAX. Returns 0 or -EINVAL. */
int pv_limit_parse(const char *s, uint64_t min, uint64_t *out);

#endif
