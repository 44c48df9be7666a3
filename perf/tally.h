/* tally.h - what guests that are measured together offered to do, and how much of it was done for them. */
#ifndef PERF_TALLY_H
#define PERF_TALLY_H

#include <stdint.h>

/* Owner: who drives the guest. */
struct tally {
	uint64_t offered, delivered;
};

/* The smallest part that one of n got of what it offered. */
static inline double tally_least(const struct tally *t, unsigned n)
{
	double least = 1;

	for (unsigned i = 0; i < n; i++) {
		double part = (double)t[i].delivered / (double)t[i].offered;

		least = part < least ? part : least;
	}
	return least;
}

/* What n offered together. */
static inline uint64_t tally_offered(const struct tally *t, unsigned n)
{
	uint64_t sum = 0;

	while (n--)
		sum += t[n].offered;
	return sum;
}

#endif
