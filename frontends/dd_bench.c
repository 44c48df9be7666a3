/* dd_bench.c - a quick measure of a vbd. See dd.h. */
#include "dd.h"
#include <errno.h>
#include <string.h>

static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Take the completion of one chunk. */
static int bench_done(struct dd *d, struct chunk *c, uint64_t now)
{
	if (c->result < 0)
		return dd_fail(d, c->result, "%s: I/O at byte %llu: %s", d->o->vbd, (unsigned long long)c->offset, strerror(-c->result));
	d->latency_ns += now - c->asked_ns;
	d->ios++;
	c->state = CHUNK_FREE;
	return 0;
}

/* Ask for whatever is free, until the time is over. Returns how many are in flight, or -errno. */
static int bench_fill(struct dd *d, uint64_t until)
{
	bool random = d->o->bench == BENCH_RANDREAD || d->o->bench == BENCH_RANDWRITE;
	enum pv_blkfront_op op = d->o->bench == BENCH_READ || d->o->bench == BENCH_RANDREAD ? PV_BLKFRONT_READ : PV_BLKFRONT_WRITE;
	uint64_t blocks = d->end / d->chunk_len, now = dd_now_ns();
	int inflight = 0, rc = 0;

	for (unsigned i = 0; i < d->depth && (rc == 0 || rc == -EAGAIN); i++) {
		struct chunk *c = &d->chunk[i];

		rc = c->state == CHUNK_DONE ? bench_done(d, c, now) : 0;
		if (rc == 0 && c->state == CHUNK_FREE && now < until && !dd_interrupted) {
			c->offset = (random ? random_next(&d->seed) : d->pos++) % blocks * d->chunk_len;
			c->len = d->chunk_len;
			c->asked_ns = now;
			rc = dd_ask(d, c, op);
		}
		inflight += c->state == CHUNK_ASKED;
	}
	return rc < 0 && rc != -EAGAIN ? rc : inflight;
}

int dd_bench(struct dd *d)
{
	uint64_t until = d->start_ns + (uint64_t)d->o->seconds_ms * 1000000;
	int rc, n;

	d->pos = 0;
	d->seed = d->start_ns | 1;
	d->end = pv_blkfront_offer(d->f)->sectors * 512;
	if (d->end < d->chunk_len)
		return dd_fail(d, -EINVAL, "%s is smaller than bs", d->o->vbd);
	while ((rc = bench_fill(d, until)) > 0 || (rc == 0 && dd_now_ns() < until && !dd_interrupted)) {
		rc = pv_blkfront_submit(d->f);
		if (rc < 0)
			return dd_device_error(d, rc);
		n = dd_reap(d);
		if (n < 0 || (n == 0 && (n = dd_wait(d)) < 0))
			return n;
	}
	d->bytes = d->ios * d->chunk_len;
	return rc;
}
