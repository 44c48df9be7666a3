/* control_config.c - the configuration of a device: what a client may give, and how it is changed while the device exists.
 *
 * The backend decides whether a change is possible, and makes it; only then is it ours. While it is asked nothing of the guest's
 * half is looked at, so that no connection begins with a configuration that is about to be replaced. Without a backend a change
 * is kept for the next one. */
#include "control.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	RULES_BYTES_MAX = 512 << 10, /* the value of "rules", a whole file */
	RULES_CODED_MAX = 768 << 10, /* the same as JSON: it has to fit into one message */
};

/* ---- bounds ---- */

static bool rules_fit(struct request *r, struct json_object *value)
{
	size_t coded = 0;

	json_object_to_json_string_length(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &coded);
	if (json_object_get_string_len(value) > RULES_BYTES_MAX)
		refuse(r, PV_RPC_BAD_PARAMS, "config: rules is longer than %d bytes", RULES_BYTES_MAX);
	else if (coded > RULES_CODED_MAX)
		refuse(r, PV_RPC_BAD_PARAMS, "config: rules is no text: it has too many control characters");
	return !r->answered;
}

/* One pair, of which *bytes adds up all but the rules. Returns false if it was refused. */
static bool pair_fits(struct request *r, const char *key, struct json_object *value, size_t *bytes)
{
	if (json_object_get_type(value) != json_type_string) {
		refuse(r, PV_RPC_BAD_PARAMS, "config: %s must be a string", key);
		return false;
	}
	if (strcmp(key, "rules") == 0)
		return rules_fit(r, value);
	*bytes += strlen(key) + json_object_get_string_len(value);
	if (*bytes > CONFIG_BYTES_MAX)
		refuse(r, PV_RPC_BAD_PARAMS, "config is longer than %d bytes", CONFIG_BYTES_MAX);
	return !r->answered;
}

static bool config_fits(struct request *r, struct json_object *config)
{
	size_t bytes = 0;

	if (json_object_object_length(config) > CONFIG_KEYS_MAX) {
		refuse(r, PV_RPC_BAD_PARAMS, "config has more than %d keys", CONFIG_KEYS_MAX);
		return false;
	}
	json_object_object_foreach(config, key, value)
		if (!pair_fits(r, key, value, &bytes))
			return false;
	return true;
}

/* Put the pairs of `from` (NULL: none) into `to`; null: take the key out. */
static void merge(struct json_object *to, struct json_object *from)
{
	if (!from)
		return;
	json_object_object_foreach(from, key, value) {
		if (value)
			json_object_object_add(to, key, json_object_get(value));
		else
			json_object_object_del(to, key);
	}
}

struct json_object *param_config(struct request *r, struct json_object *to)
{
	struct json_object *v = NULL, *all;

	json_object_object_get_ex(r->params, "config", &v);
	if (v && json_object_get_type(v) != json_type_object)
		refuse(r, PV_RPC_BAD_PARAMS, "config must be an object");
	if (r->answered)
		return NULL;
	all = json_object_new_object();
	merge(all, to);
	merge(all, v);
	if (config_fits(r, all))
		return all;
	json_object_put(all);
	return NULL;
}

void config_mac(struct json_object *config, const struct guest *g, uint32_t devid)
{
	char host[64] = "", text[160];
	uint64_t hash = 14695981039346656037u;

	if (json_object_object_get_ex(config, "mac", NULL))
		return;
	gethostname(host, sizeof(host) - 1);
	snprintf(text, sizeof(text), "%s %s %u", host, g->name, devid);
	for (const char *c = text; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 1099511628211u; /* FNV-1a */
	snprintf(text, sizeof(text), "00:16:3e:%02x:%02x:%02x", (unsigned)(hash >> 40 & 0x7f), (unsigned)(hash >> 24 & 0xff),
		 (unsigned)(hash >> 8 & 0xff));
	json_object_object_add(config, "mac", json_object_new_string(text));
}

void config_vf(struct json_object *config, const struct guest *g)
{
	json_object_object_add(config, "guest", json_object_new_string(g->name));
	if (claim_is_foreign(g))
		json_object_object_add(config, "toolstack", json_object_new_string("xl"));
}

/* ---- set ---- */

/* Owner: the call that is under way. */
struct setter {
	struct asker asker;
	struct json_object *config; /* NULL: it stays, and the answer is passed on */
};

static void keep(struct device *dev, struct json_object *config)
{
	json_object_put(dev->config);
	dev->config = json_object_get(config);
}

/* What became of it, in words; 0: it is done. */
static int outcome(struct setter *s, struct device *dev, int code, const char *message, struct json_object *result, char *why, size_t len)
{
	if (!dev) {
		snprintf(why, len, "it was detached meanwhile");
		return -ENODEV;
	}
	dev->setting = false;
	device_look(dev);
	if (code) {
		snprintf(why, len, "%s", backend_words(dev, message));
		return code;
	}
	code = backend_offer(dev, s->config ? s->config : dev->config, result, why, len);
	if (code)
		return code;
	if (s->config)
		keep(dev, s->config);
	device_changed(dev);
	return 0;
}

static void set_done(void *arg, int code, const char *message, struct json_object *result)
{
	struct setter *s = arg;
	char why[WHY_LEN] = "";

	code = outcome(s, asker_device(&s->asker), code, message, result, why, sizeof(why));
	asker_answer(&s->asker, code, why, s->config ? NULL : result);
	if (code && !s->asker.conn)
		pv_log(PV_LOG_WARN, "what was set meanwhile is not shown to a guest: %s", why);
	json_object_put(s->config);
	free(s);
}

/* params is taken over; config: to be, as in struct setter. Returns 0 or -errno. */
static int ask_backend(struct asker asker, struct device *dev, const char *method, struct json_object *params, struct json_object *config)
{
	struct setter *s = malloc(sizeof(*s));
	int rc;

	if (!s) {
		json_object_put(params);
		return -ENOMEM;
	}
	*s = (struct setter){ asker, json_object_get(config) };
	dev->setting = true;
	rc = backend_query(dev, method, params, set_done, s);
	if (rc == 0)
		return 0;
	dev->setting = false;
	json_object_put(config);
	free(s);
	return rc;
}

static void change(struct request *r, struct device *dev, const char *method, struct json_object *params, struct json_object *config)
{
	int rc = ask_backend(asker_of(r, dev), dev, method, params, config);

	r->answered = rc == 0;
	if (rc)
		refuse(r, rc, "%s", backend_not_asked(dev->backend_name, rc));
}

static struct json_object *set_params(struct json_object *config)
{
	struct json_object *params = json_object_new_object();

	json_object_object_add(params, "config", json_object_get(config));
	return params;
}

static void set_config(struct request *r, struct device *dev, struct json_object *config)
{
	if (!dev->backend || dev->state == DEV_LOST) { /* the next prepare brings it */
		keep(dev, config);
		dev->unshown = true;
		if (dev->backend)
			device_post(dev, EV_BACK);
		reply(r, NULL);
		return;
	}
	change(r, dev, "set", set_params(config), config);
}

void config_show(struct device *dev)
{
	dev->unshown = false; /* if it cannot be asked it is about to be lost again */
	ask_backend((struct asker){ .d = dev->d, .device = dev->serial }, dev, "set", set_params(dev->config), dev->config);
}

/* The device of a call that changes it; NULL: it was refused. */
static struct device *changeable(struct request *r, struct guest *g)
{
	struct device *dev = g ? param_device(r, g, true) : NULL;

	if (r->answered)
		return NULL;
	if (dev->state >= DEV_DETACHING)
		refuse(r, -EBUSY, "%s is being detached", device_label(dev));
	else if (dev->setting)
		refuse(r, -EBUSY, "%s is being changed by somebody else; try again", device_label(dev));
	return r->answered ? NULL : dev;
}

void do_set(struct request *r)
{
	struct guest *g = param_guest(r, true);
	struct device *dev = changeable(r, g);
	struct json_object *config;

	if (!dev)
		return;
	if (dev->id.type == PV_NOXS_PIPE) {
		refuse(r, PV_RPC_BAD_PARAMS, "a pipe has no keys");
		return;
	}
	config = param_config(r, dev->config);
	if (config && dev->id.type == PV_NOXS_VIF)
		config_mac(config, g, dev->id.devid);
	if (config)
		set_config(r, dev, config);
	json_object_put(config);
}

/* ---- resize ---- */

void do_resize(struct request *r)
{
	struct guest *g = param_guest(r, true);
	struct device *dev = changeable(r, g);
	int64_t size = dev ? param_number(r, "size", 0, INT64_MAX) : 0;
	bool force = dev && !r->answered && param_flag(r, "force");
	struct json_object *params, *how;

	if (r->answered)
		return;
	if (dev->id.type != PV_NOXS_VBD) {
		refuse(r, PV_RPC_BAD_PARAMS, "%s has no size", device_label(dev));
		return;
	}
	how = json_object_new_object();
	json_object_object_add(how, "size", json_object_new_int64(size));
	json_object_object_add(how, "force", json_object_new_boolean(force));
	params = json_object_new_object();
	json_object_object_add(params, "what", json_object_new_string("resize"));
	json_object_object_add(params, "params", how);
	change(r, dev, "ask", params, NULL);
}
