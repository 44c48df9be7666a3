/* guest_store.c - XenStore for a guest that pviod itself serves.
 *
 * A guest's store is given a turn when its event has come, and when the tree has events for it. A request costs a token, a long one
 * more, and so do a turn without one and some watch events, so that a guest that storms buys a bounded share of our time; its port stays masked
 * until its turn left nothing behind (XSA-331).
 */
#include "guest_store.h"
#include "nodes_tree.h"
#include "pviod.h"
#include "store_page.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	REQUESTS_TURN = 64, /* as many as a full ring can hold, and some */
	EVENTS_TOKEN = 16,
	BYTES_TOKEN = 128, /* of a request: a long path is looked for name by name */
};

/* A request that is waited for takes two turns: Linux says that it has read the answer. It boots with two devices in some 300. */

/* Owner: its guest, from guest_store_open to guest_store_close. */
struct guest_store {
	struct guest *g;
	struct store *tree;
	struct store_page *page;
	struct nodes *nodes;
	struct port_user port;
	struct bucket tokens;
	bool ready, waits; /* on which of pviod's lists */
	bool masked; /* the port */
	bool working; /* inside of a turn, which sees what it makes itself */
	bool paid; /* the turn's token, for its first request */
	uint64_t due, nthrottled;
	struct guest_store *ready_prev, *ready_next, *wait_prev, *wait_next;
};

/* ---- turns ---- */

static void ready(struct guest_store *gs)
{
	if (gs->ready || gs->waits || gs->working)
		return;
	DL_APPEND2(gs->g->d->stores_ready, gs, ready_prev, ready_next);
	gs->ready = true;
}

static void wait_until(struct guest_store *gs, uint64_t due)
{
	gs->due = due;
	if (gs->waits)
		return;
	DL_APPEND2(gs->g->d->stores_waiting, gs, wait_prev, wait_next);
	gs->waits = true;
}

static void unlist(struct guest_store *gs)
{
	if (gs->ready)
		DL_DELETE2(gs->g->d->stores_ready, gs, ready_prev, ready_next);
	if (gs->waits)
		DL_DELETE2(gs->g->d->stores_waiting, gs, wait_prev, wait_next);
	gs->ready = gs->waits = false;
}

static void fired(struct port_user *u)
{
	struct guest_store *gs = port_owner(u, struct guest_store, port);

	gs->masked = true;
	ready(gs);
}

static bool pay(struct guest_store *gs)
{
	bool paid = bucket_take(&gs->tokens, &gs->g->d->opt.store, pviod_now(gs->g->d));

	gs->nthrottled += !paid;
	return paid;
}

static bool admit(void *ctx, uint32_t bytes)
{
	struct guest_store *gs = ctx;
	bool paid = gs->paid || pay(gs);

	gs->paid = false;
	if (paid)
		bucket_owe(&gs->tokens, bytes / BYTES_TOKEN);
	return paid;
}

static void notify(void *ctx)
{
	struct guest_store *gs = ctx;

	pv_evt_notify(gs->g->d->hyper, gs->port.port);
}

static int work(struct guest_store *gs)
{
	uint64_t events = store_page_stats(gs->page)->events;
	int rc;

	gs->paid = pay(gs);
	if (!gs->paid)
		return 1;
	gs->working = true;
	rc = store_page_work(gs->page, REQUESTS_TURN);
	gs->working = false;
	bucket_owe(&gs->tokens, (store_page_stats(gs->page)->events - events) / EVENTS_TOKEN);
	return rc;
}

static void turn(struct guest_store *gs)
{
	struct guest *g = gs->g;
	int rc = work(gs);

	if (rc == -EPROTO)
		pv_log_about(&g->log, PV_LOG_WARN, "%s: its XenStore connection is broken off, until it connects anew: %s", g->name,
			     store_page_why(gs->page));
	if (rc > 0) {
		wait_until(gs, pviod_now(g->d) + bucket_wait(&gs->tokens, &g->d->opt.store));
	} else if (gs->masked) {
		gs->masked = false;
		port_unmask(g->d, &gs->port);
	}
	nodes_tree_tell(gs->nodes);
}

void guest_stores_drain(struct pviod *d)
{
	struct guest_store *gs;

	while ((gs = d->stores_ready)) {
		DL_DELETE2(d->stores_ready, gs, ready_prev, ready_next);
		gs->ready = false;
		turn(gs);
	}
}

void guest_stores_tick(struct pviod *d)
{
	uint64_t now = pviod_now(d);
	struct guest_store *gs, *next;

	DL_FOREACH_SAFE2(d->stores_waiting, gs, next, wait_next) {
		if (gs->due > now)
			continue;
		DL_DELETE2(d->stores_waiting, gs, wait_prev, wait_next);
		gs->waits = false;
		ready(gs);
	}
}

/* ---- the tree that every guest has ---- */

/* The nodes below a guest's home; the first failure counts. */
struct home {
	struct guest_store *gs;
	int rc;
};

static void __attribute__((format(printf, 4, 5))) put(struct home *h, bool guests, const char *key, const char *fmt, ...)
{
	uint16_t domid = h->gs->g->domid;
	const struct store_perms perms = { .n = guests ? 1 : 2, .p = { { .domid = guests ? domid : 0 }, { .domid = domid, .mode = STORE_READ } } };
	char value[WHY_LEN];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	if (h->rc == 0)
		h->rc = store_put(h->gs->tree, (struct store_as){ 0 }, key, value, n, &perms);
}

/* What a kernel wants to know of its domain: for its balloon, its CPUs, its uuid. */
static void put_domain(struct home *h, const struct guest_domain *domain)
{
	char uuid[DOMAIN_UUID_TEXT], path[64];

	if (!domain->type)
		return;
	put(h, false, "memory/target", "%llu", domain->memory * 1024ull);
	put(h, false, "memory/static-max", "%llu", domain->memory * 1024ull);
	for (unsigned i = 0; i < domain->vcpus; i++) {
		snprintf(path, sizeof(path), "cpu/%u/availability", i);
		put(h, false, path, "online");
	}
	domain_uuid_text(domain->made.uuid, uuid);
	put(h, false, "vm", "/vm/%s", uuid);
	snprintf(path, sizeof(path), "/vm/%s", uuid);
	put(h, false, path, "%s", "");
	snprintf(path, sizeof(path), "/vm/%s/uuid", uuid);
	put(h, false, path, "%s", uuid);
	snprintf(path, sizeof(path), "/vm/%s/name", uuid);
	put(h, false, path, "%s", h->gs->g->name);
}

/* What libxl makes: the guest may read its home, and write where it has something to say. */
static int furnish(struct guest_store *gs, const struct pv_noxs_pointer *pointer)
{
	static const char *const own[] = { "control/shutdown", "control/feature-poweroff", "control/feature-reboot", "control/feature-suspend",
					   "control/sysrq", "device/suspend/event-channel", "data", "drivers", "feature", "attr", "error" };
	struct home h = { .gs = gs };
	const struct guest *g = gs->g;
	char home[32], text[PV_NOXS_POINTER_TEXT];

	pv_noxs_pointer_format(pointer, text, sizeof(text));
	snprintf(home, sizeof(home), "/local/domain/%u", g->domid);
	put(&h, false, home, "%s", "");
	put(&h, false, "name", "%s", g->name);
	put(&h, false, "domid", "%u", g->domid);
	put(&h, false, "device", "%s", "");
	put(&h, false, PV_NOXS_POINTER_NODE, "%s", text);
	put(&h, false, "control", "%s", "");
	put(&h, false, "control/platform-feature-multiprocessor-suspend", "1");
	put(&h, false, "control/platform-feature-xs_reset_watches", "1");
	for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
		put(&h, true, own[i], "%s", "");
	put_domain(&h, &g->domain);
	return h.rc;
}

/* ---- the whole ---- */

static void on_wake(void *ctx)
{
	ready(ctx);
}

static void on_changed(void *ctx, const char *path, bool all)
{
	struct guest_store *gs = ctx;

	nodes_tree_changed(gs->nodes, path, all);
}

static int make(struct guest_store *gs, const struct pv_noxs_pointer *pointer)
{
	static const struct store_ops tree_ops = { .events = on_wake, .changed = on_changed };
	static const struct store_page_ops page_ops = { .notify = notify, .admit = admit };
	int rc = store_new(gs->g->domid, NULL, &tree_ops, gs, &gs->tree);

	if (rc == 0)
		rc = nodes_tree_new(gs->tree, on_wake, gs, &gs->nodes);
	if (rc == 0)
		rc = furnish(gs, pointer);
	return rc < 0 ? rc : store_page_new(gs->g->store, gs->tree, &page_ops, gs, &gs->page);
}

int guest_store_open(struct guest *g, const struct pv_noxs_pointer *pointer, char *why, size_t len)
{
	struct guest_store *gs = calloc(1, sizeof(*gs));
	int rc = -ENOMEM, port;

	if (gs) {
		gs->g = g;
		g->xenstore = gs;
		rc = make(gs, pointer);
	}
	if (rc < 0) {
		guest_store_close(g);
		return pv_why(why, len, rc, "cannot make the XenStore tree of domain %u: %s", g->domid, strerror(-rc));
	}
	port = pv_evt_bind(g->d->hyper, g->domid, g->domain.made.store_port);
	if (port < 0) {
		guest_store_close(g);
		return pv_why(why, len, port, "cannot bind the store port of domain %u: %s", g->domid, pv_hyper_error(g->d->hyper));
	}
	port_listen(g->d, &gs->port, port, fired);
	g->nodes = gs->nodes;
	return 0;
}

void guest_store_close(struct guest *g)
{
	struct guest_store *gs = g->xenstore;

	if (!gs)
		return;
	unlist(gs);
	port_close(g->d, &gs->port);
	store_page_free(gs->page);
	gs->working = true; /* (nobody is told any more) */
	nodes_tree_free(gs->nodes);
	store_free(gs->tree);
	free(gs);
	g->nodes = NULL;
	g->xenstore = NULL;
}

struct json_object *guest_store_report(const struct guest_store *gs)
{
	const struct store_page_stats *stats = store_page_stats(gs->page);
	struct json_object *o = json_object_new_object();
	struct store_usage u;

	store_usage(gs->tree, &u);
	json_object_object_add(o, "nodes", json_object_new_int(u.nodes));
	json_object_object_add(o, "watches", json_object_new_int(u.watches));
	json_object_object_add(o, "transactions", json_object_new_int(u.transactions));
	json_object_object_add(o, "memory", json_object_new_int64(u.memory));
	json_object_object_add(o, "requests", json_object_new_int64(stats->requests));
	json_object_object_add(o, "errors", json_object_new_int64(stats->errors));
	json_object_object_add(o, "events", json_object_new_int64(stats->events));
	json_object_object_add(o, "violations", json_object_new_int64(stats->violations));
	json_object_object_add(o, "reconnections", json_object_new_int64(stats->reconnections));
	json_object_object_add(o, "throttled", json_object_new_int64(gs->nthrottled));
	return o;
}
