/* libpvtool.c - see libpvtool.h. */
#include "libpvtool.h"
#include <errno.h>
#include <poll.h>
#include <pvio/hyper.h>
#include <pvio/rpc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANSWER_MS = 30000, BUILD_MS = 600 * 1000 /* the memory of a large guest takes its time */ };

/* Owner: whoever opened it; one thread. */
struct pv_tool {
	char path[108];
	struct pv_rpc *rpc; /* NULL: not connected */
	bool done; /* the call was answered ... */
	int code; /* ... so ... */
	struct json_object *result; /* ... or so; ours */
	char why[512];
};

static int __attribute__((format(printf, 3, 4))) fail(struct pv_tool *t, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t->why, sizeof(t->why), fmt, ap);
	va_end(ap);
	return code;
}

const char *pv_tool_error(const struct pv_tool *t)
{
	return t->why;
}

/* ---- the connection ---- */

static void called(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	(void)ctx, (void)params;
	pv_rpc_fail(rpc, id, PV_RPC_NO_METHOD, "%s: a client takes no calls", method);
}

static void closed(void *ctx, struct pv_rpc *rpc, int err)
{
	struct pv_tool *t = ctx;

	(void)err;
	pv_rpc_free(rpc);
	t->rpc = NULL;
}

static const struct pv_rpc_ops ops = { .call = called, .closed = closed };

static int ensure(struct pv_tool *t)
{
	int fd, rc;

	if (t->rpc && pv_rpc_fd(t->rpc) >= 0) { /* did it end since the last call? */
		struct pollfd p = { .fd = pv_rpc_fd(t->rpc), .events = POLLIN };

		if (poll(&p, 1, 0) > 0)
			pv_rpc_work(t->rpc);
	}
	if (t->rpc)
		return 0;
	fd = pv_rpc_connect(t->path);
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return fail(t, fd, "pviod does not run (nobody serves %s); start it, or set PVIO_RUNDIR", t->path);
	if (fd < 0)
		return fail(t, fd, "cannot connect to pviod at %s: %s", t->path, strerror(-fd));
	rc = pv_rpc_new(fd, &ops, t, &t->rpc);
	if (rc < 0) {
		close(fd);
		return fail(t, rc, "cannot talk to pviod: %s", strerror(-rc));
	}
	return 0;
}

int pv_tool_open(const char *socket, struct pv_tool **out, char *why, size_t len)
{
	struct pv_tool *t = calloc(1, sizeof(*t));
	int rc = t ? 0 : -ENOMEM, n;

	*out = NULL;
	if (t) {
		n = socket ? snprintf(t->path, sizeof(t->path), "%s", socket) :
			     snprintf(t->path, sizeof(t->path), "%s/pviod.sock", pv_rundir());
		rc = n < (int)sizeof(t->path) ? ensure(t) :
						fail(t, -ENAMETOOLONG, "the path of pviod's socket is too long; use a shorter PVIO_RUNDIR");
	}
	if (rc < 0) {
		if (why && len)
			snprintf(why, len, "%s", t ? t->why : "out of memory");
		pv_tool_close(t);
		return rc;
	}
	*out = t;
	return 0;
}

void pv_tool_close(struct pv_tool *t)
{
	if (!t)
		return;
	pv_rpc_free(t->rpc);
	free(t);
}

/* ---- one call ---- */

static void answered(void *arg, int code, const char *message, struct json_object *result)
{
	struct pv_tool *t = arg;

	t->done = true;
	t->code = code;
	t->result = json_object_get(result);
	if (code == -ECONNRESET)
		fail(t, code, "pviod ended before it answered; is it running?");
	else if (code)
		fail(t, code, "%s", message);
}

/* Call and wait. Takes over params. *result: owned by the caller, NULL on failure. */
static int call(struct pv_tool *t, const char *method, struct json_object *params, unsigned timeout_ms, struct json_object **result)
{
	int rc = ensure(t);

	*result = NULL;
	if (rc < 0) {
		json_object_put(params);
		return rc;
	}
	t->done = false;
	t->result = NULL;
	rc = pv_rpc_call(t->rpc, method, params, timeout_ms ? (int)timeout_ms : ANSWER_MS, answered, t);
	if (rc < 0)
		return fail(t, rc, "cannot ask pviod: %s", strerror(-rc));
	while (!t->done) {
		struct pollfd p = { .fd = pv_rpc_fd(t->rpc), .events = pv_rpc_events(t->rpc) };

		poll(&p, 1, pv_rpc_deadline(t->rpc));
		pv_rpc_work(t->rpc);
		if (t->rpc)
			pv_rpc_expire(t->rpc);
	}
	*result = t->result;
	return t->code;
}

int pv_tool_call(struct pv_tool *t, const char *method, const char *params, unsigned timeout_ms, char **result)
{
	struct json_object *o = params ? json_tokener_parse(params) : NULL, *answer;
	int rc;

	*result = NULL;
	if (params && !o)
		return fail(t, -EINVAL, "%s: params are no JSON", method);
	rc = call(t, method, o, timeout_ms, &answer);
	if (rc == 0)
		*result = strdup(json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(answer);
	return rc == 0 && !*result ? fail(t, -ENOMEM, "out of memory") : rc;
}

/* ---- typed calls ---- */

/* pviod's code as -errno. */
static int error_of(int code)
{
	return code < -4095 ? -EINVAL : code;
}

static struct json_object *params_new(const char *guest)
{
	struct json_object *o = json_object_new_object();

	if (guest)
		json_object_object_add(o, "guest", json_object_new_string(guest));
	return o;
}

static int64_t number(struct json_object *o, const char *key, int64_t none)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(o, key, &v);
	return json_object_get_type(v) == json_type_int ? json_object_get_int64(v) : none;
}

static void text(struct json_object *o, const char *key, char *to, size_t len)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(o, key, &v);
	snprintf(to, len, "%s", json_object_get_type(v) == json_type_string ? json_object_get_string(v) : "");
}

static void device_from(struct json_object *o, struct pv_tool_device *d)
{
	text(o, "guest", d->guest, sizeof(d->guest));
	text(o, "type", d->type, sizeof(d->type));
	text(o, "name", d->name, sizeof(d->name));
	text(o, "state", d->state, sizeof(d->state));
	text(o, "backend", d->backend, sizeof(d->backend));
	text(o, "error", d->error, sizeof(d->error));
	d->domid = number(o, "domid", 0);
	d->state_number = number(o, "state_number", 0);
	d->devid = number(o, "devid", 0);
	d->queues = number(o, "queues", 0);
	d->offer_us = number(o, "offer_us", -1);
	d->connect_us = number(o, "connect_us", -1);
}

int pv_tool_guest_create(struct pv_tool *t, const char *name, uint16_t domid, uint16_t *out)
{
	struct json_object *params = params_new(NULL), *result;
	int rc;

	json_object_object_add(params, "name", json_object_new_string(name));
	if (domid)
		json_object_object_add(params, "domid", json_object_new_int(domid));
	rc = call(t, "guest.create", params, 0, &result);
	if (rc == 0 && out)
		*out = number(result, "domid", 0);
	json_object_put(result);
	return error_of(rc);
}

static void add_text(struct json_object *o, const char *key, const char *text)
{
	if (text)
		json_object_object_add(o, key, json_object_new_string(text));
}

static void add_number(struct json_object *o, const char *key, unsigned n)
{
	if (n)
		json_object_object_add(o, key, json_object_new_int64(n));
}

int pv_tool_guest_build(struct pv_tool *t, const char *name, const struct pv_tool_domain *domain, uint16_t *domid)
{
	struct json_object *params = params_new(NULL), *result;
	int rc;

	add_text(params, "name", name);
	add_text(params, "type", domain->type);
	add_text(params, "kernel", domain->kernel);
	add_text(params, "ramdisk", domain->ramdisk);
	add_text(params, "cmdline", domain->cmdline);
	add_text(params, "uuid", domain->uuid);
	add_number(params, "memory", domain->memory);
	add_number(params, "vcpus", domain->vcpus);
	add_number(params, "domid", domain->domid);
	rc = call(t, "guest.create", params, BUILD_MS, &result);
	if (rc == 0 && domid)
		*domid = number(result, "domid", 0);
	json_object_put(result);
	return error_of(rc);
}

static int about(struct pv_tool *t, const char *method, const char *guest)
{
	struct json_object *result;
	int rc = call(t, method, params_new(guest), 0, &result);

	json_object_put(result);
	return error_of(rc);
}

int pv_tool_guest_start(struct pv_tool *t, const char *guest)
{
	return about(t, "guest.start", guest);
}

int pv_tool_guest_pause(struct pv_tool *t, const char *guest)
{
	return about(t, "guest.pause", guest);
}

int pv_tool_guest_shutdown(struct pv_tool *t, const char *guest, bool reboot, unsigned timeout_ms)
{
	struct json_object *params = params_new(guest), *result;
	int rc;

	json_object_object_add(params, "reboot", json_object_new_boolean(reboot));
	add_number(params, "timeout_ms", timeout_ms);
	rc = call(t, "guest.shutdown", params, timeout_ms + BUILD_MS, &result);
	json_object_put(result);
	return error_of(rc);
}

/* detach and guest.destroy. */
static int end(struct pv_tool *t, const char *method, struct json_object *params, bool force, unsigned timeout_ms)
{
	struct json_object *result;
	int rc;

	json_object_object_add(params, "force", json_object_new_boolean(force));
	if (timeout_ms)
		json_object_object_add(params, "timeout_ms", json_object_new_int64(timeout_ms));
	rc = call(t, method, params, timeout_ms + BUILD_MS, &result);
	json_object_put(result);
	return error_of(rc);
}

int pv_tool_guest_destroy(struct pv_tool *t, const char *guest, bool force, unsigned timeout_ms)
{
	return end(t, "guest.destroy", params_new(guest), force, timeout_ms);
}

int pv_tool_detach(struct pv_tool *t, const char *guest, const char *device, bool force, unsigned timeout_ms)
{
	struct json_object *params = params_new(guest);

	json_object_object_add(params, "device", json_object_new_string(device));
	return end(t, "detach", params, force, timeout_ms);
}

int pv_tool_attach(struct pv_tool *t, const char *guest, const char *type, const char *name, const char *const *config,
		   unsigned wait_ms, struct pv_tool_device *out)
{
	struct json_object *params = params_new(guest), *keys = json_object_new_object(), *result;
	int rc;

	json_object_object_add(params, "type", json_object_new_string(type));
	if (name)
		json_object_object_add(params, "name", json_object_new_string(name));
	if (wait_ms)
		json_object_object_add(params, "wait_ms", json_object_new_int64(wait_ms));
	json_object_object_add(params, "config", keys);
	for (; config && *config; config++) {
		const char *eq = strchr(*config, '=');
		char key[64];
		bool ours; /* pviod's, and no key of the device */

		if (!eq || eq == *config || (size_t)(eq - *config) >= sizeof(key)) {
			json_object_put(params);
			return fail(t, -EINVAL, "%s is not key=value", *config);
		}
		snprintf(key, sizeof(key), "%.*s", (int)(eq - *config), *config);
		ours = strcmp(key, "backend") == 0 || strcmp(key, "dialect") == 0;
		json_object_object_add(ours ? params : keys, key, json_object_new_string(eq + 1));
	}
	rc = call(t, "attach", params, wait_ms + ANSWER_MS, &result);
	if (rc == 0 && out)
		device_from(result, out);
	json_object_put(result);
	return error_of(rc);
}

int pv_tool_list(struct pv_tool *t, const char *guest, void (*each)(void *arg, const struct pv_tool_device *device), void *arg)
{
	int64_t after = 0;
	int n = 0;

	do {
		struct json_object *params = params_new(guest), *result, *devices = NULL;
		int rc;

		json_object_object_add(params, "after", json_object_new_int64(after));
		rc = call(t, "list", params, 0, &result);
		if (rc < 0)
			return error_of(rc);
		json_object_object_get_ex(result, "devices", &devices);
		for (size_t i = 0; devices && i < json_object_array_length(devices); i++, n++) {
			struct pv_tool_device d;

			device_from(json_object_array_get_idx(devices, i), &d);
			each(arg, &d);
		}
		after = number(result, "next", 0);
		json_object_put(result);
	} while (after);
	return n;
}
