/* rules_set.h - the inside of a compiled rule set: rules.c makes and matches, rules_step.c acts, rules_show.c shows. */
#ifndef NETBACK_RULES_SET_H
#define NETBACK_RULES_SET_H

#include "antispoof.h"
#include "netback.h"
#include "rules.h"
#include <rte_spinlock.h>

struct rte_acl_ctx;

enum {
	RULES_REJECTS = 100, /* answers a second and vif */
	TABLE_RULES = 1024, /* of a table */
};

/* All workers share it. */
struct rules_bucket {
	rte_spinlock_t lock;
	uint64_t bits, packets, hz, burst; /* burst: in TSC */
	uint64_t bits_at, packets_at; /* TSC */
};

struct rule_counts {
	uint64_t packets, bytes, over; /* over: of these dropped, for the rate was used up */
};

/* Owner: one worker. */
struct rules_counts {
	uint64_t spoofed, bad, tiny; /* dropped before the rules */
	uint64_t dropped; /* by a rule, or over its rate */
	uint64_t rejected, unanswered; /* with an answer; without, for there had been many */
	struct rule_counts rule[]; /* the last is of what no rule matched */
};

/* Owner: the control thread; workers read it from rules_replace to the next. */
struct rules {
	struct rules_file *file;
	struct rte_acl_ctx *table[HEADERS_KINDS][RULES_MAX / TABLE_RULES]; /* NULL: no rule of these is about such packets */
	bool asked; /* by the key antispoof= */
	bool antispoof, mirrors;
	struct antispoof own;
	struct vif **mirror; /* of each rule; atomic, NULL: not connected */
	struct rules_bucket rate[RULES_RATES_MAX], rejects;
	unsigned workers;
	struct rules_counts *counts[NB_WORKERS_MAX];
};

/* Compile a rules file. asked: as if it said antispoof; own: the guest's addresses (copied). Returns 0, or -errno and in `why` what is
 * wrong, with its place. */
int rules_new(const char *text, bool asked, const struct antispoof *own, unsigned workers, struct rules **out, char *why, size_t len);
void rules_free(struct rules *r); /* NULL is fine */
void rules_bucket_init(struct rules_bucket *b, const struct rules_rate *rate);
bool rules_bucket_take(struct rules_bucket *b, uint64_t now, uint32_t bytes); /* false: over the rate */
unsigned rules_match(const struct rules *r, const struct headers *h); /* index of the first that matches; file->nr: none */

#endif
