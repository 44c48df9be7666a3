/* bridge.c - a switch and its uplink. Vifs of different bridges meet nowhere. */
#include "netback.h"

struct bridge *bridge_find(struct netback *nb, const char *name)
{
	for (unsigned i = 0; i < NB_BRIDGES_MAX; i++)
		if (nb->bridge[i].generation && !strcmp(nb->bridge[i].name, name))
			return &nb->bridge[i];
	return NULL;
}

static struct bridge *free_bridge(struct netback *nb)
{
	for (unsigned i = 0; i < NB_BRIDGES_MAX; i++)
		if (!nb->bridge[i].generation)
			return &nb->bridge[i];
	return NULL;
}

static void bridge_close(struct bridge *b)
{
	uplink_close(&b->uplink);
	switch_free(b->sw);
	b->sw = NULL;
	__atomic_store_n(&b->generation, 0, __ATOMIC_RELEASE);
}

int bridge_open(struct netback *nb, const char *name, const char *device, char *why, size_t len)
{
	struct bridge *b = free_bridge(nb);
	char table[32];
	int ret;

	if (!b)
		return pv_why(why, len, -ENOSPC, "bridge %s: there are %d already: start another pvio-netback", name, NB_BRIDGES_MAX);
	*b = (struct bridge){ .index = (unsigned)(b - nb->bridge), .device = device };
	snprintf(b->name, sizeof(b->name), "%s", name);
	snprintf(table, sizeof(table), "switch%u", b->index);
	ret = switch_new(table, &b->sw);
	if (ret < 0)
		return pv_why(why, len, ret, "bridge %s: no memory for its table of addresses: give more --memory", name);
	if (device) {
		ret = uplink_open(nb, &b->uplink, device, why, len);
		if (ret < 0) {
			bridge_close(b);
			return ret;
		}
	}
	__atomic_store_n(&b->generation, ++nb->generation, __ATOMIC_RELEASE);
	return 0;
}

void bridge_close_all(struct netback *nb)
{
	for (unsigned i = 0; i < NB_BRIDGES_MAX; i++)
		if (nb->bridge[i].generation)
			bridge_close(&nb->bridge[i]);
}

void bridge_age(struct netback *nb, uint32_t now)
{
	for (unsigned i = 0; i < NB_BRIDGES_MAX; i++)
		if (nb->bridge[i].generation && switch_age(nb->bridge[i].sw, now)) {
			netback_barrier(nb);
			switch_reclaim(nb->bridge[i].sw);
		}
}

int bridge_worker_begin(struct nb_worker *w, struct bridge *b)
{
	struct uplink_queue *q = &w->up[b->index];

	memset(q, 0, sizeof(*q));
	q->bridge = b;
	q->ours = w->index < b->uplink.queues;
	q->intr_fd = q->ours ? b->uplink.ops->intr_fd(&b->uplink, w->index) : -1;
	w->nr_up = RTE_MAX(w->nr_up, b->index + 1);
	return q->intr_fd >= 0 ? turn_watch_uplink(w, b->index, q->intr_fd) : 0;
}

void bridge_worker_end(struct nb_worker *w, struct bridge *b)
{
	struct uplink_queue *q = &w->up[b->index];

	uplink_flush(w, q);
	if (q->ours && b->uplink.ops->end)
		b->uplink.ops->end(q);
	memset(q, 0, sizeof(*q));
	q->intr_fd = -1;
}
