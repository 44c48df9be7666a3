/* backend.c - the backend's connection to pviod. See backend.h.
 *
 * Theory of operation. Without pviod a backend goes on serving, and tries again after 50 ms, 100 ms .. 1 s. In a driver domain a
 * thread of its own looks for a pipe (pipe_link.h), and tells when there is a connection.
 * Once connected it registers; pviod may call only then, and calls with everything that is needed (all calls are idempotent).
 * What broke is kept in a list until the device is connected, disconnected or removed, so that it is told once a pviod: not
 * twice to the same, but again to one that was restarted.
 */
#include "backend.h"
#include "log.h"
#include "pipe_link.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	RETRY_MIN = 50, RETRY_MAX = 1000, /* ms */
	REGISTER_TIMEOUT = 5000, /* ms */
	RETIRE_TIMEOUT = 15000, /* ms: pviod's own comes before */
	WHY_MAX = 256,
};

struct broken { /* owned by the backend's list */
	struct broken *next;
	struct pv_device_id id;
	int error;
	bool told; /* to this pviod */
	char why[WHY_MAX];
};

/* Owner: whoever called pv_backend_new; its control thread; until pv_backend_free. */
struct pv_backend {
	char path[108];
	char name[64];
	uint16_t domid;
	struct pv_pipe_link *link; /* NULL: pviod is reached by its socket */
	struct {
		const char *hypervisor;
		int domid;
		struct pv_hyper *hyper; /* opened when it is first wanted; NULL: not yet */
	} logs; /* where pages of pviod's are mapped */
	const struct pv_backend_ops *ops;
	void *ctx;
	struct pv_rpc *rpc; /* NULL: pviod is away */
	bool registered;
	bool retired;
	bool drop; /* give this connection up at the end of pv_backend_work */
	int delay; /* ms, before the next try */
	int64_t retry_at; /* ms, monotonic */
	struct broken *broken;
};

static bool same_device(const struct pv_device_id *a, const struct pv_device_id *b)
{
	return a->guest == b->guest && a->type == b->type && a->devid == b->devid;
}

/* A device is whole again, or gone. */
static void broken_forget(struct pv_backend *b, const struct pv_device_id *id)
{
	for (struct broken **at = &b->broken; *at; at = &(*at)->next) {
		struct broken *gone = *at;

		if (!same_device(&gone->id, id))
			continue;
		*at = gone->next;
		free(gone);
		return;
	}
}

static void told_broken(void *arg, int code, const char *message, struct json_object *result)
{
	(void)arg, (void)code, (void)message, (void)result; /* pviod acts by its own calls; without pviod it is told again */
}

static void broken_tell(struct pv_backend *b)
{
	for (struct broken *d = b->broken; d && b->registered; d = d->next) {
		struct json_object *params;

		if (d->told)
			continue;
		params = pv_device_id_to_json(&d->id);
		json_object_object_add(params, "error", json_object_new_int(d->error));
		json_object_object_add(params, "why", json_object_new_string(d->why));
		d->told = pv_rpc_call(b->rpc, "broken", params, REGISTER_TIMEOUT, told_broken, NULL) == 0;
	}
}

void pv_backend_broken(struct pv_backend *b, const struct pv_device_id *id, int error, const char *why)
{
	struct broken *d;

	for (d = b->broken; d; d = d->next)
		if (same_device(&d->id, id))
			return;
	d = calloc(1, sizeof(*d));
	if (!d) /* the device stays broken; pviod sees it by its state when it asks for stats */
		return;
	d->id = *id;
	d->error = error;
	snprintf(d->why, sizeof(d->why), "%s", why);
	d->next = b->broken;
	b->broken = d;
	broken_tell(b);
}

/* ---- pviod's calls ---- */

struct request { /* on the stack of backend_call */
	struct pv_rpc *rpc;
	uint64_t id;
	struct pv_device_id device; /* of our kind */
	struct json_object *params; /* borrowed */
};

/* What every call carries: a device of our kind. On failure the call is answered. */
static int request_device(struct pv_backend *b, struct request *r)
{
	enum pv_noxs_type type;
	char why[WHY_MAX];

	if (pv_device_id_from_json(r->params, &r->device, why, sizeof(why)) < 0) {
		pv_rpc_fail(r->rpc, r->id, PV_RPC_BAD_PARAMS, "%s", why);
		return -EINVAL;
	}
	type = r->device.type;
	if (type != pv_type_of(b->ops->kind)) {
		pv_rpc_fail(r->rpc, r->id, PV_RPC_BAD_PARAMS, "this backend serves %s, not %s", b->ops->kind, pv_type_name(type));
		return -EINVAL;
	}
	return 0;
}

static void answer(const struct request *r, int ret, const char *why)
{
	if (ret < 0)
		pv_rpc_fail(r->rpc, r->id, ret, "%s", why[0] ? why : strerror(-ret));
	else
		pv_rpc_reply(r->rpc, r->id, NULL);
}

/* prepare or set: a configuration is answered by an offer. */
static void configure(struct pv_backend *b, const struct request *r, pv_backend_configure *method)
{
	struct pv_noxs_offer offer = { .type = r->device.type };
	struct json_object *config;
	char why[WHY_MAX] = "";
	int ret;

	if (pv_config_from_json(r->params, &config, why, sizeof(why)) < 0) {
		pv_rpc_fail(r->rpc, r->id, PV_RPC_BAD_PARAMS, "%s", why);
		return;
	}
	ret = method(b->ctx, &r->device, config, &offer, why, sizeof(why));
	if (ret < 0)
		answer(r, ret, why);
	else
		pv_rpc_reply(r->rpc, r->id, pv_offer_to_json(&offer, r->device.type));
}

static void call_prepare(struct pv_backend *b, const struct request *r)
{
	configure(b, r, b->ops->prepare);
}

static void call_set(struct pv_backend *b, const struct request *r)
{
	if (b->ops->set)
		configure(b, r, b->ops->set);
	else
		pv_rpc_fail(r->rpc, r->id, -EOPNOTSUPP, "%s cannot change a device", b->name);
}

/* Devices' logs in pages of pviod's: where they are mapped. */
static struct pv_hyper *logs_hyper(struct pv_backend *b)
{
	char why[WHY_MAX];

	if (!b->logs.hyper && pv_hyper_open(b->logs.hypervisor, b->logs.domid, &b->logs.hyper, why, sizeof(why)) < 0)
		pv_log(PV_LOG_WARN, "no pages of pviod's can be mapped (%s): guests will notice if this domain ends", why);
	return b->logs.hyper;
}

static void call_connect(struct pv_backend *b, const struct request *r)
{
	struct pv_connect c;
	char why[WHY_MAX] = "";
	int ret;

	if (pv_connect_from_json(r->params, &c, why, sizeof(why)) < 0) {
		pv_rpc_fail(r->rpc, r->id, PV_RPC_BAD_PARAMS, "%s", why);
		return;
	}
	if (c.log.n && b->link)
		c.log.hyper = logs_hyper(b);
	broken_forget(b, &r->device); /* before: it may break again while connecting */
	ret = b->ops->connect(b->ctx, &c, why, sizeof(why));
	answer(r, ret, why);
}

static void call_disconnect(struct pv_backend *b, const struct request *r)
{
	char why[WHY_MAX] = "";
	int ret = b->ops->disconnect(b->ctx, &r->device, why, sizeof(why));

	if (ret >= 0)
		broken_forget(b, &r->device);
	answer(r, ret, why);
}

static void call_remove(struct pv_backend *b, const struct request *r)
{
	char why[WHY_MAX] = "";
	int ret = b->ops->remove(b->ctx, &r->device, why, sizeof(why));

	if (ret >= 0)
		broken_forget(b, &r->device);
	answer(r, ret, why);
}

static void answer_object(struct pv_backend *b, const struct request *r, struct json_object *o)
{
	char name[32];

	if (o) {
		pv_rpc_reply(r->rpc, r->id, o);
		return;
	}
	pv_devid_name(r->device.type, r->device.devid, name, sizeof(name));
	pv_rpc_fail(r->rpc, r->id, -ENOENT, "%s has no %s %s of guest %u", b->name, b->ops->kind, name, r->device.guest);
}

static void call_stats(struct pv_backend *b, const struct request *r)
{
	answer_object(b, r, b->ops->stats(b->ctx, &r->device));
}

static void call_inspect(struct pv_backend *b, const struct request *r)
{
	answer_object(b, r, b->ops->inspect(b->ctx, &r->device));
}

static void call_ask(struct pv_backend *b, const struct request *r)
{
	struct json_object *v = NULL, *params = NULL, *o;
	const char *what;
	char why[WHY_MAX] = "";
	int error = -ENOENT;

	json_object_object_get_ex(r->params, "what", &v);
	json_object_object_get_ex(r->params, "params", &params);
	if (json_object_get_type(v) != json_type_string) {
		pv_rpc_fail(r->rpc, r->id, PV_RPC_BAD_PARAMS, "ask: what must be a string");
		return;
	}
	what = json_object_get_string(v);
	if (!b->ops->ask) {
		pv_rpc_fail(r->rpc, r->id, -ENOTSUP, "%s cannot be asked for %s", b->name, what);
		return;
	}
	o = b->ops->ask(b->ctx, &r->device, what, params, &error, why, sizeof(why));
	if (o || !why[0])
		answer_object(b, r, o);
	else
		answer(r, error, why);
}

static void call_retire(struct pv_backend *b, const struct request *r)
{
	char why[WHY_MAX] = "";
	int ret = b->ops->retire ? b->ops->retire(b->ctx, why, sizeof(why)) : 0;

	b->retired |= ret == 0;
	answer(r, ret, why);
}

static const struct {
	const char *name;
	void (*run)(struct pv_backend *b, const struct request *r);
} methods[] = {
	{ "prepare", call_prepare },
	{ "set", call_set },
	{ "connect", call_connect },
	{ "disconnect", call_disconnect },
	{ "remove", call_remove },
	{ "stats", call_stats },
	{ "inspect", call_inspect },
	{ "ask", call_ask },
};

static void backend_call(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	struct request r = { .rpc = rpc, .id = id, .params = params };
	struct pv_backend *b = ctx;

	if (strcmp(method, "retire") == 0) {
		call_retire(b, &r);
		return;
	}
	if (strcmp(method, "resume") == 0) {
		if (b->ops->resume)
			b->ops->resume(b->ctx);
		pv_rpc_reply(rpc, id, NULL);
		return;
	}
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (strcmp(methods[i].name, method))
			continue;
		if (request_device(b, &r) == 0)
			methods[i].run(b, &r);
		return;
	}
	pv_rpc_fail(rpc, id, PV_RPC_NO_METHOD, "%s knows no \"%s\"", b->name, method);
}

/* ---- coming and going ---- */

/* Give up this connection and try again later, later each time. */
static void lost(struct pv_backend *b)
{
	pv_rpc_free(b->rpc);
	b->rpc = NULL;
	b->registered = b->drop = false;
	b->retry_at = pv_rpc_now_ms() + b->delay;
	b->delay = b->delay * 2 < RETRY_MAX ? b->delay * 2 : RETRY_MAX;
	for (struct broken *d = b->broken; d; d = d->next)
		d->told = false;
}

static void backend_closed(void *ctx, struct pv_rpc *rpc, int err)
{
	(void)rpc, (void)err;
	lost(ctx);
}

static const struct pv_rpc_ops rpc_ops = { .call = backend_call, .closed = backend_closed };

static void registered(void *arg, int code, const char *message, struct json_object *result)
{
	struct pv_backend *b = arg;

	(void)message, (void)result;
	if (code) { /* refused or too slow */
		b->drop = true;
		return;
	}
	b->registered = true;
	b->delay = RETRY_MIN;
	broken_tell(b);
}

static void try_connect(struct pv_backend *b)
{
	int fd = b->link ? pv_pipe_link_accept(b->link) : pv_rpc_connect(b->path), ret = fd;
	struct json_object *params;

	if (b->link && fd == -EAGAIN)
		return; /* its descriptor tells when there is one */
	if (fd >= 0) {
		ret = pv_rpc_new(fd, &rpc_ops, b, &b->rpc);
		if (ret < 0)
			close(fd);
	}
	if (ret < 0) {
		lost(b);
		return;
	}
	params = json_object_new_object();
	json_object_object_add(params, "kind", json_object_new_string(b->ops->kind));
	json_object_object_add(params, "name", json_object_new_string(b->name));
	json_object_object_add(params, "pid", json_object_new_int(getpid()));
	json_object_object_add(params, "version", json_object_new_string(PVIO_VERSION));
	if (!b->link) /* a pipe says by itself whose it is */
		json_object_object_add(params, "domid", json_object_new_int(b->domid));
	if (pv_rpc_call(b->rpc, "register", params, REGISTER_TIMEOUT, registered, b) < 0)
		lost(b);
}

int pv_backend_new(const char *path, const char *name, const struct pv_backend_ops *ops, void *ctx, struct pv_backend **out)
{
	struct pv_backend *b;

	*out = NULL;
	if (strlen(path) >= sizeof(b->path) || strlen(name) >= sizeof(b->name))
		return -ENAMETOOLONG;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	strcpy(b->path, path);
	strcpy(b->name, name);
	b->ops = ops;
	b->ctx = ctx;
	b->delay = RETRY_MIN;
	*out = b;
	return 0;
}

void pv_backend_domid(struct pv_backend *b, uint16_t domid)
{
	b->domid = domid;
}

const char *const pv_backend_ways[] = { [PV_BACKEND_SOCKET] = "socket", [PV_BACKEND_PIPE] = "pipe", NULL };

int pv_backend_reach(struct pv_backend *b, enum pv_backend_way way, const char *hypervisor, int domid)
{
	b->logs.hypervisor = hypervisor;
	b->logs.domid = domid;
	if (way == PV_BACKEND_PIPE)
		return pv_pipe_link_start(hypervisor, domid, &b->link);
	if (domid > 0)
		pv_backend_domid(b, (uint16_t)domid);
	if (access(b->path, F_OK) < 0)
		pv_log(PV_LOG_INFO, "pviod is not at %s yet; in a driver domain it is reached with --pviod pipe", b->path);
	return 0;
}

/* ms until a connection may be tried again. */
static int pause_left(const struct pv_backend *b)
{
	int64_t left = b->retry_at - pv_rpc_now_ms();

	return left > 0 ? (int)left : 0;
}

int pv_backend_fd(const struct pv_backend *b)
{
	if (b->rpc)
		return pv_rpc_fd(b->rpc);
	return b->link && pause_left(b) == 0 ? pv_pipe_link_fd(b->link) : -1;
}

short pv_backend_events(const struct pv_backend *b)
{
	return b->rpc ? pv_rpc_events(b->rpc) : b->link ? POLLIN : 0;
}

int pv_backend_timeout(const struct pv_backend *b)
{
	int left = pause_left(b);

	if (b->rpc)
		return pv_rpc_deadline(b->rpc);
	return b->link && left == 0 ? -1 : left;
}

void pv_backend_work(struct pv_backend *b)
{
	if (!b->rpc && pv_rpc_now_ms() >= b->retry_at)
		try_connect(b);
	if (b->rpc)
		pv_rpc_work(b->rpc);
	if (b->rpc)
		pv_rpc_expire(b->rpc);
	if (b->drop)
		lost(b);
}

bool pv_backend_retired(const struct pv_backend *b)
{
	return b->retired;
}

int pv_backend_take_over(const char *path, const char *kind, const char *name, char *why, size_t len)
{
	struct json_object *params = json_object_new_object(), *result;
	int ret;

	json_object_object_add(params, "kind", json_object_new_string(kind));
	json_object_object_add(params, "name", json_object_new_string(name));
	ret = pv_rpc_ask(path, "backend.retire", params, RETIRE_TIMEOUT, &result, why, len);
	json_object_put(result);
	return ret;
}

void pv_backend_free(struct pv_backend *b)
{
	if (!b)
		return;
	pv_rpc_free(b->rpc);
	pv_pipe_link_stop(b->link);
	pv_hyper_close(b->logs.hyper);
	while (b->broken) {
		struct broken *d = b->broken;

		b->broken = d->next;
		free(d);
	}
	free(b);
}
