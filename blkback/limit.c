/* limit.c - how much a vbd may do: requests and bytes a second, of the whole device, whichever workers its queues are on (pvio/limit.h).
 *
 * A request is looked at when its turn comes, and charged when its memory is mapped and its size is known. What has to wait holds its queue's
 * later requests back, and a timer wakes it. A discard or a flush is one write without bytes. */
#include "blkback.h"
#include <errno.h>
#include <stdlib.h>

/* Owner: the vbd; queues use it until each has been told of another. In ns. */
struct limits {
	struct pv_limit of[LIMIT_KINDS];
};

int limits_new(const struct limits_config *c, uint64_t now, struct limits **out)
{
	uint64_t any = 0;
	struct limits *l;

	*out = NULL;
	for (unsigned k = 0; k < LIMIT_KINDS; k++)
		any |= c->iops[k] | c->rate[k];
	if (!any)
		return 0;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	for (unsigned k = 0; k < LIMIT_KINDS; k++)
		pv_limit_init(&l->of[k], (double)c->rate[k], (double)c->iops[k], c->burst, 1000000000, now);
	*out = l;
	return 0;
}

static enum limit_kind kind_of(const struct pv_blk_req *r)
{
	return r->op == BLKIF_OP_READ ? LIMIT_READ : LIMIT_WRITE;
}

bool limits_pass(struct limits *l, const struct pv_blk_req *r, uint64_t now, uint64_t *until)
{
	return pv_limit_credit(&l->of[kind_of(r)], 1, now, 1, until) && pv_limit_credit(&l->of[LIMIT_BOTH], 1, now, 1, until);
}

void limits_charge(struct limits *l, const struct pv_blk_req *r, uint64_t bytes)
{
	pv_limit_charge(&l->of[kind_of(r)], bytes, 1);
	pv_limit_charge(&l->of[LIMIT_BOTH], bytes, 1);
}
