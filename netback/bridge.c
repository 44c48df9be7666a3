/* bridge.c - a switch and its uplink. Vifs of different bridges meet nowhere.
 *
 * A bridge that the command line gives an uplink is there all the time. Any other comes with the first vif that asks for it, plugged into
 * the Linux bridge of its name, and goes with the last. Control thread. */
#include "netback.h"

static struct bridge *find(struct netback *nb, const char *name)
{
	for (unsigned i = 0; i < NB_BRIDGES_MAX; i++)
		if (nb->bridge[i].generation && !strcmp(nb->bridge[i].name, name))
			return &nb->bridge[i];
	return NULL;
}

const char *bridge_name(const struct netback *nb, const char *name)
{
	return *name ? name : nb->opt.bridge ? nb->opt.bridge : "xenbr0";
}

/* ---- what workers have of it ---- */

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
	rte_pktmbuf_free_bulk(q->out, q->n); /* what it does not take is lost */
	w->left += w->leaving ? q->n : 0;
	if (q->ours && b->uplink.ops->end)
		b->uplink.ops->end(q);
	memset(q, 0, sizeof(*q));
	q->intr_fd = -1;
}

/* Runs on a worker. */
struct job {
	struct nb_worker *worker;
	struct bridge *bridge;
};

static int begin(void *arg)
{
	struct job *j = arg;

	return bridge_worker_begin(j->worker, j->bridge);
}

static int end(void *arg)
{
	struct job *j = arg;

	bridge_worker_end(j->worker, j->bridge);
	return 0;
}

static int on_workers(struct netback *nb, struct bridge *b, int (*fn)(void *arg))
{
	int ret = 0;

	for (unsigned i = 0; i < nb->nr_workers; i++) {
		int one = pv_worker_call(nb->workers[i]->pw, fn, &(struct job){ nb->workers[i], b });

		ret = ret ? ret : one;
	}
	return ret;
}

/* ---- open, close ---- */

/* Half-built is fine. */
static void bridge_close(struct netback *nb, struct bridge *b)
{
	__atomic_store_n(&b->out, false, __ATOMIC_RELEASE);
	__atomic_store_n(&b->generation, 0, __ATOMIC_RELEASE); /* what is still on its way between workers ends there */
	on_workers(nb, b, end);
	uplink_close(&b->uplink);
	switch_free(b->sw);
	free(b->device);
	*b = (struct bridge){ 0 };
}

/* The uplink, and only when all workers have their part of it, packets for it. */
static int open_uplink(struct netback *nb, struct bridge *b, const char *device, char *why, size_t len)
{
	int ret;

	b->device = strdup(device);
	if (!b->device)
		return pv_why(why, len, -ENOMEM, "bridge %s: out of memory", b->name);
	ret = uplink_open(nb, &b->uplink, device, why, len);
	if (ret < 0)
		return ret;
	ret = on_workers(nb, b, begin);
	if (ret < 0)
		return pv_why(why, len, ret, "uplink '%s': epoll: %s", device, strerror(-ret));
	__atomic_store_n(&b->out, true, __ATOMIC_RELEASE); /* pairs with uplink_send */
	return 0;
}

static int bridge_open(struct netback *nb, const char *name, struct bridge **out, char *why, size_t len)
{
	struct bridge *b = nb->bridge;
	char table[32];
	int ret;

	while (b < nb->bridge + NB_BRIDGES_MAX && b->generation)
		b++;
	if (b == nb->bridge + NB_BRIDGES_MAX)
		return pv_why(why, len, -ENOSPC, "bridge %s: there are %d already: start another pvio-netback", name, NB_BRIDGES_MAX);
	*b = (struct bridge){ .index = (unsigned)(b - nb->bridge) };
	snprintf(b->name, sizeof(b->name), "%s", name);
	snprintf(table, sizeof(table), "switch%u", b->index);
	ret = switch_new(table, &b->sw);
	if (ret < 0)
		return pv_why(why, len, ret, "bridge %s: no memory for its table of addresses: give more --memory", name);
	__atomic_store_n(&b->generation, ++nb->generation, __ATOMIC_RELEASE);
	on_workers(nb, b, begin); /* without an uplink nothing can fail */
	*out = b;
	return 0;
}

int bridge_open_fixed(struct netback *nb, const char *name, const char *device, char *why, size_t len)
{
	struct bridge *b;
	int ret;

	name = bridge_name(nb, name);
	if (find(nb, name))
		return pv_why(why, len, -EEXIST, "uplink '%s': bridge %s has one already: name another, as --uplink NAME=DEVICE", device, name);
	ret = bridge_open(nb, name, &b, why, len);
	if (ret < 0)
		return ret;
	b->fixed = true;
	return strcmp(device, "none") ? open_uplink(nb, b, device, why, len) : 0;
}

void bridge_close_all(struct netback *nb)
{
	for (unsigned i = 0; i < NB_BRIDGES_MAX; i++)
		if (nb->bridge[i].generation)
			bridge_close(nb, &nb->bridge[i]);
}

/* ---- vifs ---- */

/* Into the Linux bridge of the same name. If nobody asked for that by name, there need not be one. */
static int plug(struct netback *nb, struct bridge *b, bool must, char *why, size_t len)
{
	char device[8 + NB_BRIDGE_NAME], detail[500];
	size_t n = 0;
	int ret;

	snprintf(device, sizeof(device), "linux:%s", b->name);
	ret = open_uplink(nb, b, device, detail, sizeof(detail));
	if (ret == 0)
		return 0;
	free(b->device);
	b->device = NULL;
	if (ret == -ENODEV && !must)
		return 0;
	pv_why(why, len, ret, "bridge=%s: %s", b->name, detail);
	for (unsigned i = 0; ret == -ENODEV && i < NB_BRIDGES_MAX; i++) {
		n = strlen(why);
		if (nb->bridge[i].fixed)
			snprintf(why + n, len - n, "; --uplink gave %s", nb->bridge[i].name);
	}
	return ret;
}

int bridge_take(struct netback *nb, const char *name, struct bridge **out, char *why, size_t len)
{
	bool must = *name || nb->opt.bridge;
	struct bridge *b = find(nb, bridge_name(nb, name));
	int ret = b ? 0 : bridge_open(nb, bridge_name(nb, name), &b, why, len);

	if (ret < 0)
		return ret;
	if (!b->fixed && !b->device)
		ret = plug(nb, b, must, why, len);
	b->vifs++;
	if (ret < 0)
		bridge_put(nb, b);
	else
		*out = b;
	return ret;
}

void bridge_put(struct netback *nb, struct bridge *b)
{
	if (!--b->vifs && !b->fixed)
		bridge_close(nb, b);
}

void bridge_tick(struct netback *nb, uint32_t now)
{
	for (unsigned i = 0; i < NB_BRIDGES_MAX; i++) {
		struct bridge *b = &nb->bridge[i];

		if (!b->generation)
			continue;
		uplink_tick(&b->uplink);
		if (now % SWITCH_AGE_EVERY == 0 && switch_age(b->sw, now)) {
			netback_barrier(nb);
			switch_reclaim(b->sw);
		}
	}
}
