/* report.c - what pvio stats and pvio inspect show. Counters and indices belong to the workers: each is asked for a copy. */
#include "capture.h"
#include "netback.h"
#include <rte_mempool.h>

struct queue_view {
	unsigned worker;
	struct vif_counts n;
	struct pv_ring tx, rx;
	uint32_t backlog_packets, backlog_bytes, need, state;
};

struct worker_view {
	uint64_t turns, sleeps, post_full, no_memory, cycles[NB_SPENT];
	unsigned spare;
	struct uplink_queue up;
	struct pv_hyper_counts hyper;
};

struct view {
	struct vif *vif;
	struct nb_worker *worker; /* whose turn it is to fill in */
	struct queue_view *queue;
	struct worker_view w[NB_WORKERS_MAX];
};

static int fill_view(void *arg)
{
	struct view *v = arg;
	struct nb_worker *w = v->worker;
	struct worker_view *out = &v->w[w->index];

	out->turns = w->turns;
	out->sleeps = w->sleeps;
	out->post_full = w->post_full;
	out->no_memory = w->no_memory;
	memcpy(out->cycles, w->cycles, sizeof(out->cycles));
	out->spare = w->spare.n;
	out->up = w->up[v->vif->bridge->index];
	pv_hyper_counts(w->h, &out->hyper);
	for (unsigned i = 0; i < v->vif->nr_queues; i++) {
		const struct vif_queue *q = &v->vif->queues[i];

		if (q->worker != w)
			continue;
		v->queue[i] = (struct queue_view){ w->index, q->n, q->tx, q->rx, q->tail - q->head,
						   q->backlog_bytes, q->need, q->state };
	}
	return 0;
}

static int take_view(struct vif *vif, struct view *v)
{
	struct netback *nb = vif->nb;

	*v = (struct view){ .vif = vif };
	v->queue = calloc(vif->nr_queues + 1, sizeof(*v->queue));
	if (!v->queue)
		return -ENOMEM;
	for (unsigned i = 0; i < nb->nr_workers; i++) {
		v->worker = nb->workers[i];
		pv_worker_call(v->worker->pw, fill_view, v);
	}
	return 0;
}

static void put(struct json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_int64((int64_t)n));
}

/* One table of counters serves a queue and the sum over all queues. */
static const struct {
	const char *key;
	size_t offset;
} counters[] = {
#define COUNTER(name) { #name, offsetof(struct vif_counts, name) }
	COUNTER(tx_packets), COUNTER(tx_bytes), COUNTER(tx_bad), COUNTER(tx_vlan), COUNTER(tx_copy_failed), COUNTER(tx_no_memory),
	COUNTER(tx_not_learned),
	COUNTER(rx_packets), COUNTER(rx_bytes), COUNTER(rx_full), COUNTER(rx_copy_failed), COUNTER(rx_stalls),
	COUNTER(notifies), COUNTER(events), COUNTER(spurious), COUNTER(tx_limited), COUNTER(rx_limited), COUNTER(tx_lost), COUNTER(rx_lost),
};

static uint64_t counter(const struct vif_counts *n, size_t i)
{
	return *(const uint64_t *)((const char *)n + counters[i].offset);
}

static void put_counts(struct json_object *o, const struct vif_counts *n)
{
	for (size_t i = 0; i < RTE_DIM(counters); i++)
		put(o, counters[i].key, counter(n, i));
}

static void put_sum(struct json_object *o, const struct view *v)
{
	for (size_t i = 0; i < RTE_DIM(counters); i++) {
		uint64_t sum = 0;

		for (unsigned q = 0; q < v->vif->nr_queues; q++)
			sum += counter(&v->queue[q].n, i);
		put(o, counters[i].key, sum);
	}
	put(o, "rx_too_big", __atomic_load_n(&v->vif->rx_too_big, __ATOMIC_RELAXED));
	put(o, "rx_no_memory", __atomic_load_n(&v->vif->rx_no_memory, __ATOMIC_RELAXED));
	put(o, "rx_filtered", __atomic_load_n(&v->vif->rx_filtered, __ATOMIC_RELAXED));
}

static struct json_object *uplink_object(const struct netback *nb, const struct view *v)
{
	const struct bridge *b = v->vif->bridge;
	struct json_object *o = json_object_new_object();
	struct uplink_queue s = { 0 };

	for (unsigned i = 0; i < nb->nr_workers; i++) {
		s.rx_packets += v->w[i].up.rx_packets;
		s.rx_bytes += v->w[i].up.rx_bytes;
		s.rx_bad += v->w[i].up.rx_bad;
		s.tx_packets += v->w[i].up.tx_packets;
		s.tx_bytes += v->w[i].up.tx_bytes;
		s.tx_dropped += v->w[i].up.tx_dropped;
		s.tx_too_big += v->w[i].up.tx_too_big;
	}
	json_object_object_add(o, "device", b->device ? json_object_new_string(b->device) : NULL);
	if (b->uplink.interface[0])
		json_object_object_add(o, "interface", json_object_new_string(b->uplink.interface));
	put(o, "carrier", b->uplink.queues && b->uplink.ops->carrier(&b->uplink));
	put(o, "mtu", b->uplink.mtu);
	put(o, "queues", b->uplink.queues);
	put(o, "rx_packets", s.rx_packets);
	put(o, "rx_bytes", s.rx_bytes);
	put(o, "rx_bad", s.rx_bad);
	put(o, "tx_packets", s.tx_packets);
	put(o, "tx_bytes", s.tx_bytes);
	put(o, "tx_dropped", s.tx_dropped);
	put(o, "tx_too_big", s.tx_too_big);
	return o;
}

/* What each worker did with its time, in cycles of the TSC. */
static struct json_object *cpu_object(const struct netback *nb, const struct view *v)
{
	static const char *const keys[NB_SPENT] = { "idle", "busy", "asleep" };
	struct json_object *all = json_object_new_array();

	for (unsigned i = 0; i < nb->nr_workers; i++) {
		struct json_object *o = json_object_new_object();

		put(o, "turns", v->w[i].turns);
		put(o, "sleeps", v->w[i].sleeps);
		for (unsigned k = 0; k < NB_SPENT; k++)
			put(o, keys[k], v->w[i].cycles[k]);
		json_object_array_add(all, o);
	}
	return all;
}

/* What is not this vif's alone, but explains its figures. */
static struct json_object *backend_object(const struct netback *nb, const struct view *v)
{
	struct json_object *o = json_object_new_object();
	uint64_t turns = 0, sleeps = 0, full = 0, none = 0, spare = 0;
	struct pv_hyper_counts hyper = { 0 };
	bool timeout = false;

	for (unsigned i = 0; i < nb->nr_workers; i++) {
		turns += v->w[i].turns;
		sleeps += v->w[i].sleeps;
		full += v->w[i].post_full;
		none += v->w[i].no_memory;
		spare += v->w[i].spare;
		pv_hyper_counts_add(&hyper, &v->w[i].hyper);
		timeout |= v->w[i].up.ours && v->w[i].up.intr_fd < 0;
	}
	put(o, "workers", nb->nr_workers);
	put(o, "turns", turns);
	put(o, "sleeps", sleeps);
	put(o, "post_full", full);
	put(o, "no_memory", none);
	put(o, "lost", nb->lost);
	put(o, "mbufs", nb->pool->size);
	put(o, "mbufs_in_use", rte_mempool_in_use_count(nb->pool) + rte_mempool_in_use_count(nb->refs) - spare);
	json_object_object_add(o, "idle", json_object_new_string(timeout ? "timeout" : "interrupt"));
	json_object_object_add(o, "hyper", pv_hyper_counts_to_json(&hyper));
	put(o, "cycles_per_second", nb->tsc_second);
	json_object_object_add(o, "cpu", cpu_object(nb, v));
	return o;
}

static struct json_object *vif_object(const struct vif *vif)
{
	struct json_object *o = json_object_new_object();
	const char *broken = __atomic_load_n(&vif->broken, __ATOMIC_ACQUIRE); /* pairs with queue_broken */
	char mac[PV_MAC_TEXT];

	pv_mac_text(vif->config.mac, mac);
	json_object_object_add(o, "state", json_object_new_string(vif->connected ? "connected" : broken ? "broken" : "prepared"));
	json_object_object_add(o, "broken", broken ? json_object_new_string(broken) : NULL);
	json_object_object_add(o, "mac", json_object_new_string(mac));
	put(o, "mtu", vif_mtu(vif, &vif->config));
	put(o, "carrier", vif->config.carrier);
	json_object_object_add(o, "bridge", json_object_new_string(vif->bridge->name));
	return o;
}

struct json_object *report_stats(void *ctx, const struct pv_device_id *id)
{
	struct netback *nb = ctx;
	struct vif *vif = vif_find(nb, id);
	struct json_object *o, *queues = json_object_new_array();
	struct view v;

	if (!vif || take_view(vif, &v) < 0) {
		json_object_put(queues);
		return NULL;
	}
	o = vif_object(vif);
	json_object_object_add(o, "capture", capture_report(vif));
	put_sum(o, &v);
	rules_stats(vif, o);
	for (unsigned i = 0; i < vif->nr_queues; i++) {
		struct json_object *q = json_object_new_object();

		put(q, "worker", v.queue[i].worker);
		put_counts(q, &v.queue[i].n);
		json_object_array_add(queues, q);
	}
	json_object_object_add(o, "queues", queues);
	json_object_object_add(o, "uplink", uplink_object(nb, &v));
	json_object_object_add(o, "backend", backend_object(nb, &v));
	free(v.queue);
	return o;
}

static struct json_object *ring_object(const struct pv_ring *r)
{
	struct json_object *o = json_object_new_object();

	put(o, "slots", r->nr);
	put(o, "taken", r->cons);
	put(o, "answered", r->prod);
	put(o, "published", r->published);
	return o;
}

static struct json_object *macs_object(struct bridge *b, int port)
{
	struct json_object *o = json_object_new_array();
	uint64_t macs[SWITCH_LEARN_VIF + 1];
	unsigned n = switch_list(b->sw, port, macs, RTE_DIM(macs));
	char text[PV_MAC_TEXT];

	for (unsigned i = 0; i < n; i++) {
		pv_mac_text((const uint8_t *)&macs[i], text);
		json_object_array_add(o, json_object_new_string(text));
	}
	return o;
}

struct json_object *report_inspect(void *ctx, const struct pv_device_id *id)
{
	static const char *const states[] = { "resting", "active", "penance", "waiting", "held" };
	struct netback *nb = ctx;
	struct vif *vif = vif_find(nb, id);
	struct json_object *o, *queues;
	struct view v;

	if (!vif || take_view(vif, &v) < 0)
		return NULL;
	o = vif_object(vif);
	queues = json_object_new_array();
	put(o, "switch_port", (uint64_t)vif->port);
	put(o, "features", vif->features);
	put(o, "rx_headroom", vif->headroom);
	put(o, "multicast_groups", mcast_count(&vif->mcast));
	put(o, "static_grants", ctrl_statics(vif));
	json_object_object_add(o, "hashing", json_object_new_boolean(vif->hash != NULL));
	json_object_object_add(o, "addresses", macs_object(vif->bridge, vif->port));
	put(o, "uplink_addresses", switch_count(vif->bridge->sw, SWITCH_UPLINK));
	for (unsigned i = 0; i < vif->nr_queues; i++) {
		struct json_object *q = json_object_new_object();

		put(q, "worker", v.queue[i].worker);
		json_object_object_add(q, "state", json_object_new_string(states[v.queue[i].state]));
		json_object_object_add(q, "tx", ring_object(&v.queue[i].tx));
		json_object_object_add(q, "rx", ring_object(&v.queue[i].rx));
		put(q, "rx_backlog_packets", v.queue[i].backlog_packets);
		put(q, "rx_backlog_bytes", v.queue[i].backlog_bytes);
		put(q, "rx_slots_awaited", v.queue[i].need);
		json_object_array_add(queues, q);
	}
	json_object_object_add(o, "queues", queues);
	free(v.queue);
	return o;
}
