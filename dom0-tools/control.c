/* control.c - what pvio and toolstacks ask: one table of methods. Parameters are checked here, before anything is done. */
#include "control.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void refuse(struct request *r, int code, const char *fmt, ...)
{
	char why[WHY_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	pv_rpc_fail(r->conn->rpc, r->id, code, "%s", why);
	r->answered = true;
}

void reply(struct request *r, struct json_object *result)
{
	pv_rpc_reply(r->conn->rpc, r->id, result);
	r->answered = true;
}

/* ---- parameters ---- */

static struct json_object *param(struct request *r, const char *key, enum json_type type, const char *what)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(r->params, key, &v);
	if (!v || json_object_get_type(v) == type)
		return v;
	refuse(r, PV_RPC_BAD_PARAMS, "%s must be %s", key, what);
	return NULL;
}

const char *param_text(struct request *r, const char *key)
{
	struct json_object *v = param(r, key, json_type_string, "a string");

	return v ? json_object_get_string(v) : NULL;
}

int64_t param_number(struct request *r, const char *key, int64_t none, int64_t max)
{
	struct json_object *v = param(r, key, json_type_int, "a number");
	int64_t n = v ? json_object_get_int64(v) : none;

	if (v && !r->answered && (n < 0 || n > max))
		refuse(r, PV_RPC_BAD_PARAMS, "%s must be in 0..%lld", key, (long long)max);
	return n;
}

bool param_flag(struct request *r, const char *key)
{
	struct json_object *v = param(r, key, json_type_boolean, "true or false");

	return v && json_object_get_boolean(v);
}

struct guest *param_guest(struct request *r, bool needed)
{
	const char *name = param_text(r, "guest");
	struct guest *g = name ? guest_find(r->d, name) : NULL;

	if (r->answered || g)
		return g;
	if (name)
		refuse(r, -ENOENT, "there is no guest %s; `pvio guest list` shows those that there are", name);
	else if (needed)
		refuse(r, PV_RPC_BAD_PARAMS, "guest is missing");
	return NULL;
}

struct device *param_device(struct request *r, struct guest *g, bool needed)
{
	const char *name = param_text(r, "device");
	struct device *dev = name && g ? device_find(g, name) : NULL;

	if (r->answered || dev)
		return dev;
	if (name && g)
		refuse(r, -ENOENT, "guest %s has no device %s; `pvio list %s` shows those that it has", g->name, name, g->name);
	else if (name || needed)
		refuse(r, PV_RPC_BAD_PARAMS, name ? "guest is missing" : "device is missing");
	return NULL;
}

/* ---- what a backend has to answer first ---- */

struct asker asker_of(const struct request *r, const struct device *dev)
{
	return (struct asker){ .d = r->d, .conn = r->conn->serial, .id = r->id, .device = dev->serial };
}

struct device *asker_device(const struct asker *a)
{
	struct device *dev;

	HASH_FIND(hh_serial, a->d->by_serial, &a->device, sizeof(a->device), dev);
	return dev;
}

void asker_answer(const struct asker *a, int code, const char *why, struct json_object *result)
{
	struct conn *c = conn_find(a->d, a->conn);

	if (c && code == -ECONNRESET) /* a client would take that for pviod's end */
		pv_rpc_fail(c->rpc, a->id, -EOWNERDEAD, "the backend ended before it answered; start it again");
	else if (c && code)
		pv_rpc_fail(c->rpc, a->id, code, "%s", why);
	else if (c)
		pv_rpc_reply(c->rpc, a->id, json_object_get(result));
}

/* ---- waiting ---- */

static void waiter_free(struct pviod *d, struct waiter *w)
{
	struct device *dev;

	HASH_FIND(hh_serial, d->by_serial, &w->device, sizeof(w->device), dev);
	if (dev)
		dev->nwaiters--;
	DL_DELETE(d->waiters, w);
	d->nwaiters--;
	free(w);
}

/* A waiter in the list, to be filled. NULL: refused. */
static struct waiter *waiter_new(struct request *r, enum wait_for what, unsigned ms)
{
	struct waiter *w = r->d->nwaiters < WAITERS_MAX ? calloc(1, sizeof(*w)) : NULL;

	if (!w) {
		refuse(r, -EBUSY, "too many clients wait for something (%d); try again", WAITERS_MAX);
		return NULL;
	}
	*w = (struct waiter){ .conn = r->conn->serial, .id = r->id, .what = what, .ms = ms, .due = pviod_now(r->d) + ms };
	DL_APPEND(r->d->waiters, w);
	r->d->nwaiters++;
	r->answered = true;
	return w;
}

bool wait_for(struct request *r, enum wait_for what, struct device *dev, struct guest *g, unsigned ms)
{
	struct waiter *w = waiter_new(r, what, ms);

	if (!w)
		return false;
	w->domid = g->domid;
	if (dev) {
		w->device = dev->serial;
		dev->nwaiters++;
		device_look(dev); /* it may be what is waited for already */
	}
	return true;
}

void wait_for_backend(struct request *r, const struct backend *b, unsigned ms)
{
	struct waiter *w = waiter_new(r, WAIT_BACKEND_GONE, ms);

	if (w)
		w->device = b->conn->serial;
}

static void answer_error(struct pviod *d, const struct waiter *w, int code, const char *why)
{
	struct conn *c = conn_find(d, w->conn);

	if (c)
		pv_rpc_fail(c->rpc, w->id, code < 0 ? code : -EIO, "%s", why);
}

static void answer_done(struct pviod *d, const struct waiter *w, struct json_object *result)
{
	struct conn *c = conn_find(d, w->conn);

	if (c)
		pv_rpc_reply(c->rpc, w->id, result);
	else
		json_object_put(result);
}

/* Is a device what w waits for, or can it no longer become that? Then w is answered. */
static bool settle(struct device *dev, const struct waiter *w)
{
	bool gone = dev->state == DEV_GONE;
	bool failed = dev->state == DEV_BROKEN || (dev->state == DEV_CLOSED && dev->error);

	if (w->what == WAIT_PAIR && (dev->state != DEV_CONNECTED || dev->pair == dev->offer.vif.pair)) { /* without a connection nobody uses it */
		answer_done(dev->d, w, NULL);
		return true;
	}
	if (w->what == WAIT_PAIR)
		return false;
	if (w->what == WAIT_GONE) {
		if (gone)
			answer_done(dev->d, w, NULL);
		return gone;
	}
	if ((w->what == WAIT_ANNOUNCED && dev->announced && !gone) || dev->state == DEV_CONNECTED) {
		answer_done(dev->d, w, report_device(dev));
		return true;
	}
	if (gone || failed)
		answer_error(dev->d, w, dev->error, dev->why[0] ? dev->why : "it was detached meanwhile");
	return gone || failed;
}

void waiters_device(struct device *dev)
{
	struct waiter *w, *next;

	if (dev->nwaiters == 0)
		return;
	DL_FOREACH_SAFE(dev->d->waiters, w, next)
		if (w->device == dev->serial && settle(dev, w))
			waiter_free(dev->d, w);
}

void waiters_guest(struct pviod *d, unsigned domid)
{
	struct waiter *w, *next;

	DL_FOREACH_SAFE(d->waiters, w, next) {
		if ((w->what != WAIT_GUEST_GONE && w->what != WAIT_SHUTDOWN) || w->domid != domid)
			continue;
		answer_done(d, w, NULL);
		waiter_free(d, w);
	}
}

void waiters_backend(struct pviod *d, const struct backend *b, int code, const char *why)
{
	struct waiter *w, *next;

	DL_FOREACH_SAFE(d->waiters, w, next) {
		if (w->what != WAIT_BACKEND_GONE || w->device != b->conn->serial)
			continue;
		if (code)
			answer_error(d, w, code, why);
		else
			answer_done(d, w, NULL);
		waiter_free(d, w);
	}
}

void waiters_conn(struct pviod *d, uint64_t serial)
{
	struct waiter *w, *next;

	DL_FOREACH_SAFE(d->waiters, w, next)
		if (w->conn == serial)
			waiter_free(d, w);
}

static void timed_out(struct pviod *d, const struct waiter *w)
{
	static const char *const whys[] = {
		[WAIT_ANNOUNCED] = "it is not announced after %u.%u s; see the backend's log",
		[WAIT_CONNECTED] = "it is announced, but not connected after %u.%u s; does a frontend run in the guest?",
		[WAIT_GONE] = "the guest does not let go of it (waited %u.%u s); detach --force does not wait for the guest",
		[WAIT_GUEST_GONE] = "the guest does not let go of its devices (waited %u.%u s); --force does not wait for the guest",
		[WAIT_BACKEND_GONE] = "the backend has not ended after %u.%u s; kill it (SIGKILL): its devices go on with the next one as well",
		[WAIT_PAIR] = "the guest has not turned to the other of the pair after %u.%u s, or knows nothing of pairs; what it sends by "
			      "a VF that is taken away is lost until it notices",
		[WAIT_SHUTDOWN] = "the guest has not shut down after %u.%u s; see its console, or `pvio guest destroy` it",
	};
	struct guest *g;
	char why[WHY_LEN];

	snprintf(why, sizeof(why), whys[w->what], w->ms / 1000, w->ms % 1000 / 100);
	answer_error(d, w, -ETIMEDOUT, why);
	HASH_FIND(hh_domid, d->by_domid, &w->domid, sizeof(w->domid), g);
	if (g && w->what == WAIT_GUEST_GONE && !g->ended)
		g->dying = d->ending;
}

void waiters_tick(struct pviod *d)
{
	uint64_t now = pviod_now(d);
	struct waiter *w, *next;

	DL_FOREACH_SAFE(d->waiters, w, next) {
		if (now < w->due)
			continue;
		timed_out(d, w);
		waiter_free(d, w);
	}
}

void waiters_free(struct pviod *d)
{
	while (d->waiters)
		waiter_free(d, d->waiters);
}

/* ---- attach ---- */

static struct device *device_at(struct guest *g, enum pv_noxs_type type, uint32_t devid)
{
	struct device *dev;

	DL_FOREACH(g->devices, dev)
		if (dev->id.type == type && dev->id.devid == devid)
			return dev;
	return NULL;
}

/* xvda, xvdb .. xvdz, xvdaa ..: as pv_devid_of knows them. vif, vf, pipe: the number. */
static uint32_t nth_devid(enum pv_noxs_type type, unsigned n)
{
	if (type != PV_NOXS_VBD)
		return n;
	return n < 16 ? 202u << 8 | n << 4 : 1u << 28 | n << 8;
}

static uint32_t first_free_devid(const struct guest *g, enum pv_noxs_type type)
{
	bool used[DEVICES_MAX] = { false };
	struct device *dev;
	unsigned n;

	DL_FOREACH(g->devices, dev) {
		n = type != PV_NOXS_VBD ? dev->id.devid : dev->id.devid < 1u << 28 ? dev->id.devid >> 4 & 15 : dev->id.devid >> 8 & 0xfffff;
		if (dev->id.type == type && n < DEVICES_MAX && nth_devid(type, n) == dev->id.devid)
			used[n] = true;
	}
	for (n = 0; n < DEVICES_MAX && used[n]; n++)
		; /* all used: then the limit of devices is reached too, and device_create says so */
	return nth_devid(type, n);
}

/* Which device is to be attached: by name, or the first free one. Returns 0 or it was refused. */
static int param_devid(struct request *r, struct guest *g, enum pv_noxs_type type, uint32_t *devid)
{
	const char *name = param_text(r, "name");

	if (r->answered)
		return -EINVAL;
	if (!name) {
		*devid = first_free_devid(g, type);
		return 0;
	}
	if (pv_devid_of(type, name, devid) == 0 && *devid != UINT32_MAX)
		return 0;
	refuse(r, PV_RPC_BAD_PARAMS, "%s is no name of a %s: those are %s", name, pv_type_name(type),
	       type == PV_NOXS_VBD ? "xvda, xvdb ..., sda ..., hda ..." : "0, 1, 2 ...");
	return -EINVAL;
}

static enum pv_noxs_type param_type(struct request *r)
{
	const char *name = param_text(r, "type");
	enum pv_noxs_type type = name ? pv_type_of(name) : PV_NOXS_NONE;

	if (r->answered || type == PV_NOXS_VIF || type == PV_NOXS_VBD || type == PV_NOXS_VF || type == PV_NOXS_PIPE)
		return type;
	refuse(r, PV_RPC_BAD_PARAMS, "type is %s%s", name ? "vif, vbd, vf or pipe, not " : "missing: vif, vbd, vf or pipe", name ? name : "");
	return PV_NOXS_NONE;
}

/* By whom the device is to be found: the guest's kernel (XenStore) or what speaks noxs, as all do that use a pipe. */
static const struct dialect *param_dialect(struct request *r, struct guest *g, enum pv_noxs_type type)
{
	static const struct dialect *const dialects[] = { &dialect_noxs, &dialect_store };
	const char *name = param_text(r, "dialect");

	if (type == PV_NOXS_PIPE)
		return &dialect_noxs;
	if (type == PV_NOXS_VF && claim_is_foreign(g)) {
		if (name)
			refuse(r, -ENOTSUP, "guest %s is xl's, and gets virtual functions by xl; attach without a dialect", g->name);
		return &dialect_other;
	}
	if (!name)
		return g->dialect;
	for (size_t i = 0; i < sizeof(dialects) / sizeof(dialects[0]); i++) {
		if (strcmp(dialects[i]->name, name))
			continue;
		if (dialects[i] == &dialect_store && !g->nodes)
			refuse(r, -ENOTSUP, "guest %s has no XenStore; attach with the dialect noxs", g->name);
		return dialects[i];
	}
	refuse(r, PV_RPC_BAD_PARAMS, "dialect is noxs or xenstore, not %s", name);
	return g->dialect;
}

static struct backend *param_backend(struct request *r, enum pv_noxs_type type)
{
	static const char *const programs[] = {
		[PV_NOXS_VIF] = "pvio-netback", [PV_NOXS_VBD] = "pvio-blkback", [PV_NOXS_VF] = "pvio-pciback",
	};
	const char *name = param_text(r, "backend");
	struct backend *b = type == PV_NOXS_PIPE ? backend_self(r->d) : backend_find(r->d, type, name);

	if (b || r->answered)
		return b;
	if (type == PV_NOXS_PIPE)
		refuse(r, -ENOMEM, "out of memory");
	else if (name)
		refuse(r, -ENODEV, "no %s backend %s is running; `pvio backend list` shows those that are", pv_type_name(type), name);
	else
		refuse(r, -ENODEV, "no %s backend is running; start %s", pv_type_name(type), programs[type]);
	return NULL;
}

/* Attach again: the same answer for the same wish, else it is taken. */
static void attach_again(struct request *r, struct guest *g, struct device *dev, struct json_object *config, unsigned wait_ms)
{
	bool leaving = dev->state >= DEV_DETACHING;

	if (leaving || !json_object_equal(dev->config, config))
		refuse(r, leaving ? -EBUSY : -EEXIST, leaving ? "%s is being detached; try again when it is gone" :
		       "%s exists already, with another configuration; detach it first", device_label(dev));
	else
		wait_for(r, wait_ms ? WAIT_CONNECTED : WAIT_ANNOUNCED, dev, g, wait_ms ? wait_ms : backend_patience(r->d, dev->id.type) + GRACE_MS);
}

static void attach_with(struct request *r, struct guest *g, enum pv_noxs_type type, struct json_object *config)
{
	unsigned wait_ms = param_number(r, "wait_ms", 0, WAIT_MS_MAX);
	const struct dialect *dialect = param_dialect(r, g, type);
	struct backend *b;
	struct device *dev;
	uint32_t devid;
	char why[WHY_LEN];
	int rc;

	if (r->answered || param_devid(r, g, type, &devid) < 0)
		return;
	if (type == PV_NOXS_VIF)
		config_mac(config, g, devid);
	if (type == PV_NOXS_VF)
		config_vf(config, g);
	if (type == PV_NOXS_PIPE && json_object_object_length(config) > 0) {
		refuse(r, PV_RPC_BAD_PARAMS, "a pipe has no keys");
		return;
	}
	dev = device_at(g, type, devid);
	if (dev) {
		attach_again(r, g, dev, config, wait_ms);
		return;
	}
	b = param_backend(r, type);
	if (!b)
		return;
	rc = device_create(g, dialect, type, devid, b, config, &dev, why, sizeof(why));
	if (rc < 0)
		refuse(r, rc, "%s", why);
	else if (!wait_for(r, wait_ms ? WAIT_CONNECTED : WAIT_ANNOUNCED, dev, g, wait_ms ? wait_ms : backend_patience(r->d, dev->id.type) + GRACE_MS))
		device_detach(dev, true);
}

/* The guest that is named, if need be one of another toolstack, which becomes ours too. */
static struct guest *param_any_guest(struct request *r)
{
	const char *name = param_text(r, "guest");
	struct guest *g = name ? guest_find(r->d, name) : NULL;
	char why[WHY_LEN];

	if (g || !name)
		return param_guest(r, true);
	g = claim_guest(r->d, name, why, sizeof(why));
	if (!g)
		refuse(r, -ENOENT, "%s", why);
	return g;
}

static void do_attach(struct request *r)
{
	struct guest *g = param_any_guest(r);
	enum pv_noxs_type type = g ? param_type(r) : PV_NOXS_NONE;
	struct json_object *config;

	if (r->answered)
		return;
	if (g->dying) {
		refuse(r, -EBUSY, "guest %s is being destroyed", g->name);
		return;
	}
	config = param_config(r, NULL);
	if (config)
		attach_with(r, g, type, config);
	json_object_put(config);
}

static void do_detach(struct request *r)
{
	struct guest *g = param_guest(r, true);
	struct device *dev = g ? param_device(r, g, true) : NULL;
	bool force = param_flag(r, "force");
	unsigned ms = param_number(r, "timeout_ms", DETACH_MS, WAIT_MS_MAX);

	if (r->answered)
		return;
	if (dev->id.type == PV_NOXS_VF && ms < backend_patience(r->d, PV_NOXS_VF))
		ms = backend_patience(r->d, PV_NOXS_VF); /* the guest's time and the reset's */
	if (dev->store.foreign && !force)
		refuse(r, -EPERM, "%s was attached by another toolstack; `xl %s-detach` takes it away", device_label(dev),
		       dev->id.type == PV_NOXS_VIF ? "network" : "block");
	else if (wait_for(r, WAIT_GONE, dev, g, force ? backend_patience(r->d, dev->id.type) + GRACE_MS : ms))
		device_detach(dev, force);
}

/* Wait until the guest uses what it was told to use of a vif and a VF (`set` of use=). */
static void do_pair_wait(struct request *r)
{
	struct guest *g = param_guest(r, true);
	struct device *dev = g ? param_device(r, g, true) : NULL;
	unsigned ms = param_number(r, "timeout_ms", DETACH_MS, WAIT_MS_MAX);

	if (r->answered)
		return;
	if (dev->id.type != PV_NOXS_VIF || dev->offer.vif.pair == PV_VIF_ALONE)
		refuse(r, -EINVAL, "%s forms no pair with a VF; pvio set %s %s%s pair=NAME of the VF", device_label(dev), g->name,
		       pv_type_name(dev->id.type), dev->name);
	else
		wait_for(r, WAIT_PAIR, dev, g, ms);
}

/* What the hotplug scripts of another toolstack ask. */
static void do_claim(struct request *r)
{
	const char *path = param_text(r, "path"), *key;
	struct claim_id id;
	struct device *dev;
	char why[WHY_LEN];
	int rc;

	if (r->answered)
		return;
	if (!path || claim_parse(path, &id, &key) < 0 || *key) {
		refuse(r, PV_RPC_BAD_PARAMS, "%s is no backend's directory in XenStore, such as backend/vbd/3/51712", path ? path : "nothing");
		return;
	}
	rc = claim_device(r->d, &id, &dev, why, sizeof(why));
	if (rc < 0)
		refuse(r, rc, "%s", why);
	else
		wait_for(r, WAIT_ANNOUNCED, dev, dev->guest, r->d->opt.backend_ms + GRACE_MS);
}

/* ---- reports ---- */

static bool param_selection(struct request *r, struct selection *s)
{
	s->guest = param_guest(r, false);
	s->device = r->answered ? NULL : param_device(r, s->guest, false);
	s->after = r->answered ? 0 : param_number(r, "after", 0, INT64_MAX);
	return !r->answered;
}

static void do_list(struct request *r)
{
	struct selection s;

	if (param_selection(r, &s))
		reply(r, report_list(r->d, &s));
}

static void gather(struct request *r, const char *method)
{
	struct selection s;

	if (!param_selection(r, &s))
		return;
	r->answered = true;
	report_gather(r->conn, r->id, method, &s);
}

static void do_stats(struct request *r)
{
	gather(r, "stats");
}

static void do_inspect(struct request *r)
{
	gather(r, "inspect");
}

static void do_backend_list(struct request *r)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "backends", report_backends(r->d));
	reply(r, o);
}

static void do_version(struct request *r)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "version", json_object_new_string(PVIO_VERSION));
	json_object_object_add(o, "hypervisor", json_object_new_string(r->d->hyper->ops->name));
	json_object_object_add(o, "pid", json_object_new_int(getpid()));
	reply(r, o);
}

static const struct {
	const char *name;
	void (*run)(struct request *r);
} methods[] = {
	{ "attach", do_attach },
	{ "detach", do_detach },
	{ "set", do_set },
	{ "pair.wait", do_pair_wait },
	{ "resize", do_resize },
	{ "claim", do_claim },
	{ "guest.create", do_guest_create },
	{ "guest.start", do_guest_start },
	{ "guest.pause", do_guest_pause },
	{ "guest.shutdown", do_guest_shutdown },
	{ "guest.destroy", do_guest_destroy },
	{ "guest.list", do_guest_list },
	{ "list", do_list },
	{ "stats", do_stats },
	{ "inspect", do_inspect },
	{ "ask", do_ask },
	{ "backend.list", do_backend_list },
	{ "backend.retire", do_backend_retire },
	{ "backend.replace", do_backend_replace },
	{ "version", do_version },
};

void control_called(struct conn *c, uint64_t id, const char *method, struct json_object *params)
{
	struct request r = { .d = c->d, .conn = c, .id = id, .params = params };

	if (params && json_object_get_type(params) != json_type_object) {
		refuse(&r, PV_RPC_BAD_PARAMS, "params must be an object");
		return;
	}
	if (c->d->ending) {
		refuse(&r, -ESHUTDOWN, "pviod is ending");
		return;
	}
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (strcmp(methods[i].name, method))
			continue;
		methods[i].run(&r);
		return;
	}
	refuse(&r, PV_RPC_NO_METHOD, "pviod knows no method %s", method);
}
