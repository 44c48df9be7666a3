/* limit.c - token buckets: how often something may happen. Pure. */
#include "pviod.h"

bool bucket_take(struct bucket *b, const struct limit *l, uint64_t now)
{
	int64_t full = (int64_t)l->burst * 1000;

	/* tokens are thousandths, so a rate a second is one of them a millisecond */
	if (b->last == 0 || now - b->last > (uint64_t)(full - b->tokens) / l->rate)
		b->tokens = full;
	else
		b->tokens += (int64_t)((now - b->last) * l->rate);
	b->last = now;
	if (b->tokens < 1000)
		return false;
	b->tokens -= 1000;
	return true;
}

void bucket_owe(struct bucket *b, unsigned tokens)
{
	b->tokens -= (int64_t)tokens * 1000;
}

unsigned bucket_wait(const struct bucket *b, const struct limit *l)
{
	return b->tokens >= 1000 ? 0 : (unsigned)((1000 - b->tokens + l->rate - 1) / l->rate);
}
