/* hostile.h - a guest that does what it must not, without end, beside those that are measured and in their thread: no step of it waits. A thread is
 * dom0, which attaches its device, and once it is broken another a little later.
 */
#ifndef PERF_HOSTILE_H
#define PERF_HOSTILE_H

#include "../dom0-tools/libpvtool.h"
#include "raw.h"
#include <pthread.h>
#include <pvio/message.h>
#include <semaphore.h>

enum { HOSTILE_EVENTS = 8 /* of a step */, HOSTILE_BEYOND = 1000 /* slots: more than a ring has */, HOSTILE_WAIT_MS = 10000, HOSTILE_AGAIN_US = 100000 /* dom0's pause */, HOSTILE_LOOK_US = 20 };

struct hostile;

/* What it does. A program has a table of them, which ends with a name of NULL. */
struct hostile_kind {
	const char *name;
	void (*step)(struct hostile *g);
	const char *config; /* a key of its device, NULL: none */
};

/* Owner: the program. Lifetime: hostile_open until it ends. `broken` alone is shared with dom0. */
struct hostile {
	struct raw raw;
	const struct hostile_kind *kind; /* NULL: there is none, and nothing below means anything */
	uint64_t deeds; /* events sent, answers got, connections ended: what its step counts */
	unsigned n; /* the step's own */
	bool storm; /* it is at it */
	bool ending; /* it has done what ends this connection */
	double due; /* when it looks again how that goes */
	const char *type, *config[3]; /* of its device */
	char guest[12], name[20], device[32];
	sem_t broken;
};

/* ---- dom0 ---- */

static inline void hostile_attach(const struct hostile *g, struct pv_tool *t)
{
	if (pv_tool_attach(t, g->guest, g->type, g->name, g->config, 0, NULL) < 0)
		perf_die("attach %s: %s", g->device, pv_tool_error(t));
}

static inline void *hostile_dom0(void *arg)
{
	struct hostile *g = arg;
	struct pv_tool *t;
	char why[256];

	if (pv_tool_open(NULL, &t, why, sizeof(why)) < 0)
		perf_die("%s", why);
	for (hostile_attach(g, t);; hostile_attach(g, t)) {
		while (sem_wait(&g->broken) < 0)
			;
		if (pv_tool_detach(t, g->guest, g->device, true, HOSTILE_WAIT_MS) < 0)
			perf_die("detach %s: %s", g->device, pv_tool_error(t));
		usleep(HOSTILE_AGAIN_US);
	}
	return NULL;
}

/* Returns when it is connected. config: a key of the device, or NULL. */
static inline void hostile_open(struct hostile *g, const char *hypervisor, int domid, enum pv_noxs_type type, uint32_t devid, const char *config)
{
	pthread_t dom0;
	unsigned n = 0;

	g->type = pv_type_name(type);
	pv_devid_name(type, devid, g->name, sizeof(g->name));
	snprintf(g->guest, sizeof(g->guest), "%d", domid);
	snprintf(g->device, sizeof(g->device), "%s/%s", g->type, g->name);
	if (config)
		g->config[n++] = config;
	if (g->kind->config)
		g->config[n++] = g->kind->config;
	if (sem_init(&g->broken, 0, 0) < 0 || pthread_create(&dom0, NULL, hostile_dom0, g) != 0)
		perf_die("no thread for dom0");
	raw_open(&g->raw, hypervisor, domid, type, devid, type == PV_NOXS_VIF, HOSTILE_WAIT_MS);
}

/* ---- what any device can do ---- */

static inline const struct hostile_kind *hostile_find(const struct hostile_kind *kinds, const char *name)
{
	while (kinds->name && strcmp(kinds->name, name))
		kinds++;
	return kinds->name ? kinds : NULL;
}

/* Between what the others do. */
static inline void hostile_step(struct hostile *g)
{
	if (g->storm)
		g->kind->step(g);
}

/* What `measure` says of the others while it is at it; there may be none. */
static inline double hostile_storm(struct hostile *g, double (*measure)(void *arg, double secs), void *arg, double secs)
{
	double least;

	g->storm = g->kind;
	if (g->storm)
		measure(arg, secs); /* what it has saved up is gone then */
	g->deeds = 0;
	least = measure(arg, secs);
	g->storm = false;
	if (g->kind && !g->deeds)
		perf_die("the hostile guest did nothing");
	return least;
}

static inline void hostile_notify(struct hostile *g, uint32_t port)
{
	pv_evt_notify(g->raw.front.h, port);
}

/* Events, and nothing to be told of. */
static inline void hostile_events(struct hostile *g)
{
	for (unsigned i = 0; i < HOSTILE_EVENTS; i++)
		hostile_notify(g, g->raw.port);
	g->deeds += HOSTILE_EVENTS;
}

/* Connect, `end` that, and again. */
static inline void hostile_again(struct hostile *g, void (*end)(struct hostile *g))
{
	struct front *f = &g->raw.front;

	if (perf_now() < g->due) /* a look is a system call in the thread of those who are measured */
		return;
	g->due = perf_now() + HOSTILE_LOOK_US / 1e6;
	raw_follow(&g->raw);
	switch (f->state) {
	case FRONT_CONNECTING:
		break;
	case FRONT_CONNECTED:
		if (!g->ending)
			end(g);
		g->ending = true;
		break;
	case FRONT_REFUSED: /* broken, and this device will stay so */
		sem_post(&g->broken);
		/* fall through */
	case FRONT_LOST:
		g->deeds++;
		front_retire(f);
		break;
	case FRONT_GONE: /* dom0 is about to attach another */
		f->state = FRONT_NONE;
		break;
	case FRONT_NONE:
		if (front_find(f) < 0)
			break;
		raw_choose(&g->raw);
		g->ending = false;
		break;
	default:
		perf_die("%s", f->why);
	}
}

static inline void hostile_leave(struct hostile *g)
{
	front_leave(&g->raw.front, 0);
}

static inline void hostile_reconnects(struct hostile *g)
{
	hostile_again(g, hostile_leave);
}

static inline void hostile_lie(struct hostile *g)
{
	struct pv_ring *r = &g->raw.ring[0];

	pv_index_store(&r->shared->req_prod, r->prod + HOSTILE_BEYOND);
	hostile_notify(g, g->raw.port);
}

static inline void hostile_lies(struct hostile *g)
{
	hostile_again(g, hostile_lie);
}

#endif
