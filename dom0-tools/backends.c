/* backends.c - the registered backends, and the calls that devices make to them.
 *
 * A backend runs in domain 0, or in the driver domain whose pipe its connection is: that, not what it says, is its domain.
 * A backend is believed in its answers to our calls, and when it says that a device of its own broke. A call is remembered
 * with the number that the device waits for, so that an answer which comes after the device went another way, or away, finds
 * nobody. Calls to one backend are worked off by it in order; several may be under way, for different devices.
 */
#include "pviod.h"
#include <pvio/text.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct limit backend_calls = { .burst = 4096, .rate = 256 }; /* all of its devices may break at once */

/* Owner: its backend's list, until it is answered. */
struct call {
	struct backend *backend;
	uint64_t device, number; /* serials; number 0: nobody waits */
	const char *method;
	enum dev_event ok, failed;
	pv_rpc_done *query; /* not NULL: of backend_query, and the above does not count */
	void *arg;
	struct call *prev, *next;
};

static struct call *call_new(struct backend *b)
{
	struct call *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->backend = b;
	DL_APPEND(b->pending, c);
	return c;
}

static void call_free(struct call *c)
{
	DL_DELETE(c->backend->pending, c);
	free(c);
}

/* ---- asking ---- */

/* Whether a guest is to trust its backend is dom0's to say: the backend's own word would be worth nothing. */
static uint32_t is_untrusted(struct json_object *config)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(config, "trusted", &v);
	return v && strcmp(json_object_get_string(v), "0") == 0;
}

/* Which of a pair is to be used: dom0's to say as well. */
static uint32_t pair_of(struct json_object *config)
{
	struct json_object *v = NULL;

	if (!json_object_object_get_ex(config, "pair", NULL))
		return PV_VIF_ALONE;
	json_object_object_get_ex(config, "use", &v);
	return v && strcmp(json_object_get_string(v), "vif") == 0 ? PV_VIF_USE_VIF : PV_VIF_USE_VF;
}

int backend_offer(struct device *dev, struct json_object *config, struct json_object *result, char *why, size_t len)
{
	struct pv_noxs_offer offer = dev->offer;
	char fault[WHY_LEN];
	int rc = pv_offer_from_json(result, dev->id.type, &offer, fault, sizeof(fault));

	if (rc == 0 && dev->id.type == PV_NOXS_VIF) {
		offer.vif.untrusted = is_untrusted(config);
		offer.vif.pair = pair_of(config);
	}
	if (rc == 0)
		dev->offer = offer;
	else
		snprintf(why, len, "backend %s made an offer that makes no sense: %s", dev->backend_name, fault);
	return rc;
}

static int take_offer(struct device *dev, struct json_object *result)
{
	char why[WHY_LEN];
	int rc = backend_offer(dev, dev->config, result, why, sizeof(why));

	if (rc < 0)
		device_fail(dev, rc, "%s", why);
	return rc;
}

/* Backends begin with which device they speak of. */
const char *backend_words(const struct device *dev, const char *message)
{
	char prefix[64];
	int n = snprintf(prefix, sizeof(prefix), "%s %s of guest %u: ", pv_type_name(dev->id.type), dev->name, dev->id.guest);

	return strncmp(message, prefix, n) ? message : message + n;
}

/* A device that is to be adopted, and cannot be yet: `pvio list` says for what it waits, the log when that changes. */
static void waits_for(struct device *dev, const char *words)
{
	if (strncmp(dev->why, words, sizeof(dev->why) - 1) == 0)
		return;
	snprintf(dev->why, sizeof(dev->why), "%s", words);
	pv_log_about(&dev->guest->log, PV_LOG_INFO, "%s: %s", device_label(dev), dev->why);
}

static void answered_device(struct call *c, struct device *dev, int code, const char *message, struct json_object *result)
{
	enum dev_event ev = code ? c->failed : c->ok;

	dev->call = 0;
	if (code == -EAGAIN && c->ok == c->failed) {
		device_ask_again(dev, c->method, c->ok);
		return;
	}
	if (code == -EAGAIN && dev->state == DEV_ADOPTING) {
		ev = EV_REFUSED;
		waits_for(dev, backend_words(dev, message));
	} else if (code && c->ok == c->failed) {
		pv_log_about(c->backend->log, PV_LOG_WARN, "%s: backend %s: %s", device_label(dev), dev->backend_name, message);
	} else if (code) {
		device_fail(dev, code < -4095 ? -EINVAL : code, "%s", backend_words(dev, message));
	} else if (ev == EV_PREPARED && take_offer(dev, result) < 0) {
		ev = c->failed;
	}
	device_post(dev, ev);
}

static void answered(void *arg, int code, const char *message, struct json_object *result)
{
	struct call *c = arg;
	struct backend *b = c->backend;
	struct device *dev = NULL;
	char late[WHY_LEN];

	if (code == -ETIMEDOUT) {
		b->late++;
		snprintf(late, sizeof(late), "backend %s does not answer (waited %u ms); see its log", b->name,
			 backend_patience(b->d, b->type));
		message = late;
	}
	if (c->query) {
		c->query(c->arg, code, message, result);
	} else if (c->number && code != -ECONNRESET) { /* then it is lost, and its devices are told so */
		HASH_FIND(hh_serial, b->d->by_serial, &c->device, sizeof(c->device), dev);
		if (dev && dev->call == c->number)
			answered_device(c, dev, code, message, result);
	}
	call_free(c);
}

static struct json_object *params_of(struct device *dev, const char *method)
{
	struct json_object *o;

	if (strcmp(method, "connect") == 0) {
		struct pv_connect c = { .id = dev->id, .config = dev->config, .choice = dev->choice, .adopt = dev->state == DEV_ADOPTING };

		flight_tell(dev, &c);
		return pv_connect_to_json(&c);
	}
	o = pv_device_id_to_json(&dev->id);
	if (strcmp(method, "prepare") == 0)
		json_object_object_add(o, "config", json_object_get(dev->config));
	return o;
}

const char *backend_not_asked(const char *name, int error)
{
	static char words[NAME_LEN + 64];

	snprintf(words, sizeof(words), "backend %s %s", name, error == -EBUSY ? "has too many calls to answer; try again" :
		 "cannot be asked; is it running?");
	return words;
}

unsigned backend_patience(const struct pviod *d, enum pv_noxs_type type)
{
	return d->opt.backend_ms * (type == PV_NOXS_VF ? VF_PATIENCE : 1);
}

/* Takes over params. */
static int ask(struct device *dev, const char *method, struct json_object *params, struct call *c)
{
	int rc;

	if (!c) {
		json_object_put(params);
		return -ENOMEM;
	}
	dev->backend->asked++;
	rc = pv_rpc_call(dev->backend->conn->rpc, method, params, (int)backend_patience(dev->d, dev->id.type), answered, c);
	if (rc < 0)
		call_free(c);
	return rc;
}

void backend_ask(struct device *dev, const char *method, enum dev_event ok, enum dev_event failed)
{
	struct call *c;
	int rc;

	dev->call = 0;
	if (dev->id.type == PV_NOXS_PIPE) {
		pipe_ask(dev, method, ok, failed);
		return;
	}
	c = dev->backend ? call_new(dev->backend) : NULL;
	if (c) {
		c->device = dev->serial;
		c->method = method;
		c->ok = ok;
		c->failed = failed;
		c->number = failed == EV_NONE ? 0 : ++dev->d->serial;
		dev->call = c->number;
	}
	rc = dev->backend ? ask(dev, method, params_of(dev, method), c) : -EOWNERDEAD;
	if (rc == 0 || failed == EV_NONE)
		return;
	dev->call = 0;
	if (ok != failed)
		device_fail(dev, rc, "%s", backend_not_asked(dev->backend_name, rc));
	device_post(dev, failed);
}

int backend_query(struct device *dev, const char *method, struct json_object *params, pv_rpc_done *done, void *arg)
{
	struct json_object *all;
	struct call *c;

	if (dev->id.type == PV_NOXS_PIPE) {
		all = pipe_report(dev);
		done(arg, 0, "", all);
		json_object_put(all);
		json_object_put(params);
		return 0;
	}
	all = pv_device_id_to_json(&dev->id);
	if (params) {
		json_object_object_foreach(params, key, v)
			json_object_object_add(all, key, json_object_get(v));
		json_object_put(params);
	}
	c = dev->backend ? call_new(dev->backend) : NULL;
	if (c) {
		c->query = done;
		c->arg = arg;
	}
	if (dev->backend)
		return ask(dev, method, all, c);
	json_object_put(all);
	return -EOWNERDEAD;
}

/* ---- coming and going ---- */

/* Is it called that, or does it run in a domain that is? */
static bool is_named(const struct backend *b, const char *name)
{
	size_t n = strlen(name);

	return strncmp(b->name, name, n) == 0 && (b->name[n] == '\0' || b->name[n] == '/');
}

struct backend *backend_find(struct pviod *d, enum pv_noxs_type type, const char *name)
{
	struct backend *b, *found = NULL;

	DL_FOREACH(d->backends, b)
		if (b->type == type && (!name || is_named(b, name)) && (!found || (found->domid && !b->domid)))
			found = b;
	return found;
}

unsigned backend_left_domid(struct pviod *d, const char *guest)
{
	size_t n = strlen(guest);
	struct device *dev, *next;

	HASH_ITER(hh_serial, d->by_serial, dev, next)
		if (!dev->backend && dev->announced && strncmp(dev->backend_name, guest, n) == 0 && dev->backend_name[n] == '/')
			return dev->backend_domid;
	return 0;
}

static struct backend *registered_as(struct pviod *d, enum pv_noxs_type type, const char *name)
{
	struct backend *b;

	DL_FOREACH(d->backends, b)
		if (b->type == type && strcmp(b->name, name) == 0)
			return b;
	return NULL;
}

struct backend *backend_self(struct pviod *d)
{
	if (!d->self && (d->self = calloc(1, sizeof(*d->self))))
		*d->self = (struct backend){ .d = d, .name = "pviod", .type = PV_NOXS_PIPE };
	return d->self;
}

/* Whose device was it? Names in domain 0 are anybody's, and go with the domid that is claimed; a driver domain's name is its own, and if it was
 * destroyed and is there again, it has another domid. */
static bool left_by(const struct backend *b, const struct device *dev)
{
	return dev->id.type == b->type && strcmp(dev->backend_name, b->name) == 0 && (dev->backend_domid == b->domid || b->conn->pipe);
}

/* Take over the devices that a backend of this kind and name left. */
static void adopt(struct backend *b)
{
	struct device *dev, *next;

	HASH_ITER(hh_serial, b->d->by_serial, dev, next) {
		if (dev->backend || !left_by(b, dev))
			continue;
		dev->backend = b;
		b->ndevices++;
		device_post(dev, EV_BACK);
	}
	if (b->ndevices)
		pv_log_about(b->log, PV_LOG_INFO, "backend %s (pid %d) is back for %u devices", b->name, b->pid,
			     (unsigned)b->ndevices);
}

static const char *text(struct json_object *params, const char *key)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(params, key, &v);
	return json_object_get_type(v) == json_type_string ? json_object_get_string(v) : "";
}

static int number(struct json_object *params, const char *key, int none)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(params, key, &v);
	return json_object_get_type(v) == json_type_int ? json_object_get_int(v) : none;
}

/* Who wants to be a backend. */
struct applicant {
	enum pv_noxs_type type;
	char name[NAME_LEN];
	int domid;
};

/* Is what it says of itself right? If not, the call is answered. */
static bool applicant_ok(struct conn *c, uint64_t id, struct json_object *params, struct applicant *a)
{
	const char *name = text(params, "name");
	struct guest *in = c->pipe ? pipe_guest(c->pipe) : NULL; /* it runs there, whatever it says */
	struct backend *other;

	a->type = pv_type_of(text(params, "kind"));
	a->domid = number(params, "domid", in ? in->domid : 0);
	if (a->type != PV_NOXS_VIF && a->type != PV_NOXS_VBD && a->type != PV_NOXS_VF)
		pv_rpc_fail(c->rpc, id, PV_RPC_BAD_PARAMS, "register: kind must be vif, vbd or vf");
	else if (!guest_name_ok(name))
		pv_rpc_fail(c->rpc, id, PV_RPC_BAD_PARAMS, "register: name must be letters, digits, '.', '_' and '-', and no number");
	else if (a->domid < 0 || a->domid >= 0x7ff0)
		pv_rpc_fail(c->rpc, id, PV_RPC_BAD_PARAMS, "register: domid is not one");
	else if (in && a->domid != in->domid)
		pv_rpc_fail(c->rpc, id, PV_RPC_BAD_PARAMS, "register: this pipe belongs to domain %u, not to domain %d", in->domid, a->domid);
	else if (snprintf(a->name, sizeof(a->name), "%s%s%s", in ? in->name : "", in ? "/" : "", name) >= (int)sizeof(a->name))
		pv_rpc_fail(c->rpc, id, PV_RPC_BAD_PARAMS, "register: the names of guest and backend are longer than %d together", NAME_LEN - 2);
	else if (c->backend)
		pv_rpc_fail(c->rpc, id, -EEXIST, "this connection is registered as %s", c->backend->name);
	else if ((other = registered_as(c->d, a->type, a->name)))
		pv_rpc_fail(c->rpc, id, -EEXIST, "a backend %s serves already (pid %d); end it first, or give this one another name", a->name,
			    other->pid);
	else
		return true;
	return false;
}

static void enlist(struct conn *c, uint64_t id, struct json_object *params)
{
	struct applicant a;
	struct backend *b;

	if (!applicant_ok(c, id, params, &a))
		return;
	b = calloc(1, sizeof(*b));
	if (!b) {
		pv_rpc_fail(c->rpc, id, -ENOMEM, "out of memory");
		return;
	}
	b->d = c->d;
	b->conn = c;
	b->log = c->pipe ? &pipe_guest(c->pipe)->log : &b->own_log;
	b->type = a.type;
	b->domid = (uint16_t)a.domid;
	b->pid = number(params, "pid", 0);
	memcpy(b->name, a.name, sizeof(b->name));
	snprintf(b->version, sizeof(b->version), "%s", text(params, "version"));
	pv_text_clean(b->version);
	c->backend = b;
	DL_APPEND(c->d->backends, b);
	pv_rpc_reply(c->rpc, id, NULL);
	supervise_registered(b);
	adopt(b);
	claim_backend(b->d, b->domid);
}

static void resumed(void *arg, int code, const char *message, struct json_object *result)
{
	(void)arg, (void)code, (void)message, (void)result; /* calls are worked off in order, and this one asks for nothing */
}

void backends_resume(struct pviod *d)
{
	struct backend *b;

	DL_FOREACH(d->backends, b) {
		if (b->resume)
			pv_rpc_call(b->conn->rpc, "resume", NULL, (int)d->opt.backend_ms, resumed, NULL);
		b->resume = false;
	}
}

void backend_lost(struct backend *b)
{
	struct pviod *d = b->d;
	struct device *dev, *next;
	struct call *c, *after;

	HASH_ITER(hh_serial, d->by_serial, dev, next) {
		if (dev->backend != b)
			continue;
		dev->backend = NULL;
		device_post(dev, EV_LOST);
	}
	if (!d->ending)
		pv_log_about(b->log, PV_LOG_WARN, "backend %s (pid %d) is gone; %u devices have none until it is started again", b->name,
			     b->pid, (unsigned)b->ndevices);
	DL_FOREACH_SAFE(b->pending, c, after) {
		if (c->query)
			c->query(c->arg, -ECONNRESET, "the backend is gone", NULL);
		call_free(c);
	}
	DL_DELETE(d->backends, b);
	supervise_lost(b);
	waiters_backend(d, b, 0, NULL);
	free(b);
}

/* ---- what a backend tells ---- */

static void broken(struct backend *b, uint64_t id, struct json_object *params)
{
	struct pv_device_id dev_id;
	struct device *dev, *next;
	enum dev_state then;
	char why[WHY_LEN];
	int error;

	if (pv_device_id_from_json(params, &dev_id, why, sizeof(why)) < 0) {
		pv_rpc_fail(b->conn->rpc, id, PV_RPC_BAD_PARAMS, "broken: %s", why);
		return;
	}
	HASH_ITER(hh_serial, b->d->by_serial, dev, next)
		if (dev->backend == b && dev->id.guest == dev_id.guest && dev->id.type == dev_id.type && dev->id.devid == dev_id.devid)
			break;
	if (!dev) {
		pv_log_about(b->log, PV_LOG_WARN, "backend %s speaks for a device that it does not serve (%s %u of domain %u): ignored",
			  b->name, pv_type_name(dev_id.type), dev_id.devid, dev_id.guest);
		pv_rpc_fail(b->conn->rpc, id, -EPERM, "not a device of backend %s", b->name);
		return;
	}
	error = number(params, "error", 0);
	if (device_rule(dev->state, EV_BROKEN, &then)) {
		device_fail(dev, error < 0 && error >= -4095 ? error : -EIO, "%s%s; detach and attach it to serve it again",
			    error == -EPROTO ? "the guest misbehaved: " : "", backend_words(dev, text(params, "why")));
		device_post(dev, EV_BROKEN);
	}
	pv_rpc_reply(b->conn->rpc, id, NULL);
}

bool backend_called(struct conn *c, uint64_t id, const char *method, struct json_object *params)
{
	struct backend *b = c->backend;

	if (b && !bucket_take(&b->calls, &backend_calls, pviod_now(c->d))) {
		pv_log_about(b->log, PV_LOG_WARN, "backend %s is cut off: it floods us with calls", b->name);
		conn_cut(c);
		return true;
	}
	if (strcmp(method, "register") == 0)
		enlist(c, id, params);
	else if (!b)
		return false;
	else if (strcmp(method, "broken") == 0)
		broken(b, id, params);
	else
		pv_rpc_fail(c->rpc, id, PV_RPC_NO_METHOD, "%s: a backend may call register and broken", method);
	return true;
}
