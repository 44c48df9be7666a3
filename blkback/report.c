/* report.c - what devices have counted, and what they look like inside. Control thread; of a queue a copy is taken on its worker. */
#include "blkback.h"
#include <stddef.h>

static void add_u64(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_int64(value));
}

/* A copy of what a queue holds, taken on its worker. */
struct snapshot {
	struct blkq *q; /* in */
	struct blkworker *w;
	struct blkq_stats stats;
	struct pv_gnt_cache_stats cache;
	struct pv_hyper_counts hyper;
	uint64_t turns, sleeps, submits;
	uint32_t nr, req_prod, cons, prod, published, port;
	unsigned inflight;
	enum blkq_state state;
	enum blkq_list list;
	bool held, barrier;
};

static int snapshot_here(void *arg)
{
	struct snapshot *s = arg;
	struct blkq *q = s->q;
	int ready = pv_ring_ready(&q->ring);

	s->w = q->w;
	s->stats = q->stats;
	pv_hyper_counts(q->w->hyper, &s->hyper);
	pv_gnt_cache_stats(q->cache, &s->cache);
	s->turns = q->w->turns;
	s->sleeps = q->w->sleeps;
	s->submits = q->w->uring.submits + q->w->uring.waits;
	s->nr = q->ring.nr;
	s->cons = q->ring.cons;
	s->prod = q->ring.prod;
	s->published = q->ring.published;
	s->req_prod = ready < 0 ? q->ring.cons : q->ring.cons + ready;
	s->port = q->c.port;
	s->inflight = q->inflight;
	s->state = q->state;
	s->list = q->list;
	s->held = q->held;
	s->barrier = q->barrier;
	return 0;
}

static bool snapshot(struct vbd *d, unsigned i, struct snapshot *s)
{
	*s = (struct snapshot){ .q = d->queue[i].q };
	return s->q && pv_worker_call(d->queue[i].w->thread, snapshot_here, s) == 0;
}

/* Every counter of blkq_stats by its name. */
static const struct {
	const char *name;
	size_t field;
} counters[] = {
#define COUNTER(c) { #c, offsetof(struct blkq_stats, c) }
	COUNTER(reads), COUNTER(writes), COUNTER(flushes), COUNTER(barriers), COUNTER(discards), COUNTER(bytes_read),
	COUNTER(bytes_written), COUNTER(errors), COUNTER(unsupported), COUNTER(bad_grefs), COUNTER(merged), COUNTER(limited), COUNTER(cache_full),
	COUNTER(ios), COUNTER(retried), COUNTER(replayed), COUNTER(notifies), COUNTER(events), COUNTER(spurious),
};

/* Of the workers that serve a device, each once. They may serve others too. */
static struct json_object *workers_object(const struct snapshot *s, unsigned n)
{
	struct json_object *o = json_object_new_object();
	uint64_t workers = 0, turns = 0, sleeps = 0, submits = 0;
	struct pv_hyper_counts hyper = { 0 };

	for (unsigned i = 0; i < n; i++) {
		bool seen = !s[i].w;

		for (unsigned j = 0; j < i; j++)
			seen |= s[j].w == s[i].w;
		if (seen)
			continue;
		workers++;
		turns += s[i].turns;
		sleeps += s[i].sleeps;
		submits += s[i].submits;
		pv_hyper_counts_add(&hyper, &s[i].hyper);
	}
	add_u64(o, "workers", workers);
	add_u64(o, "turns", turns);
	add_u64(o, "sleeps", sleeps);
	add_u64(o, "submits", submits);
	json_object_object_add(o, "hyper", pv_hyper_counts_to_json(&hyper));
	return o;
}

struct json_object *vbd_stats(void *ctx, const struct pv_device_id *id)
{
	struct vbd *d = vbd_find(ctx, id);
	uint64_t mapped = 0, hits = 0, misses = 0, evictions = 0;
	struct json_object *o;
	struct snapshot s[PV_NOXS_QUEUES_MAX];

	if (!d)
		return NULL;
	o = json_object_new_object();
	for (unsigned i = 0; i < d->queues; i++) {
		snapshot(d, i, &s[i]);
		mapped += s[i].cache.mapped;
		hits += s[i].cache.hits;
		misses += s[i].cache.misses;
		evictions += s[i].cache.evictions;
	}
	for (unsigned k = 0; k < sizeof(counters) / sizeof(counters[0]); k++) {
		uint64_t sum = 0;

		for (unsigned i = 0; i < d->queues; i++)
			sum += *(const uint64_t *)((const char *)&s[i].stats + counters[k].field);
		add_u64(o, counters[k].name, sum);
	}
	add_u64(o, "mapped_pages", mapped);
	add_u64(o, "cache_hits", hits);
	add_u64(o, "cache_misses", misses);
	add_u64(o, "cache_evictions", evictions);
	add_u64(o, "pause_us", d->pause_us);
	json_object_object_add(o, "backend", workers_object(s, d->queues));
	return o;
}

static struct json_object *inspect_queue(const struct snapshot *s)
{
	static const char *const states[] = { "run", "stop", "broken" }, *const lists[] = { "idle", "active", "resting" };
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "state", json_object_new_string(states[s->state]));
	json_object_object_add(o, "list", json_object_new_string(lists[s->list]));
	add_u64(o, "slots", s->nr);
	add_u64(o, "req_prod", s->req_prod);
	add_u64(o, "req_cons", s->cons);
	add_u64(o, "rsp_prod", s->prod);
	add_u64(o, "rsp_published", s->published);
	add_u64(o, "in_flight", s->inflight);
	add_u64(o, "held", s->held);
	add_u64(o, "barrier", s->barrier);
	add_u64(o, "port", s->port);
	add_u64(o, "cache_mapped", s->cache.mapped);
	add_u64(o, "cache_pinned", s->cache.pinned);
	add_u64(o, "cache_limit", s->cache.limit);
	add_u64(o, "events", s->stats.events);
	add_u64(o, "notifies", s->stats.notifies);
	add_u64(o, "worker_turns", s->turns);
	add_u64(o, "worker_sleeps", s->sleeps);
	add_u64(o, "worker_submits", s->submits);
	return o;
}

struct json_object *vbd_inspect(void *ctx, const struct pv_device_id *id)
{
	static const char *const states[] = { [VBD_PREPARED] = "prepared", [VBD_CONNECTED] = "connected", [VBD_BROKEN] = "broken" };
	struct vbd *d = vbd_find(ctx, id);
	struct json_object *o, *queues;
	struct snapshot s;

	if (!d)
		return NULL;
	o = json_object_new_object();
	queues = json_object_new_array();
	json_object_object_add(o, "state", json_object_new_string(states[d->state]));
	json_object_object_add(o, "config", vbd_config_to_json(&d->config));
	json_object_object_add(o, "image", json_object_new_string(d->image->ops->name));
	json_object_object_add(o, "o_direct", json_object_new_boolean(d->image->facts.direct));
	add_u64(o, "sectors", d->image->facts.sectors);
	for (unsigned i = 0; i < d->queues; i++)
		if (snapshot(d, i, &s))
			json_object_array_add(queues, inspect_queue(&s));
	json_object_object_add(o, "queues", queues);
	return o;
}
