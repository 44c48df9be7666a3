/* report.c - what pviod knows, as JSON. */
#include "console.h"
#include "guest_store.h"
#include "pviod.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LIST_PAGE = 128, GATHER_PAGE = 64, /* devices an answer */
	PART_DEPTH = 8, PART_BYTES = 16 << 10, /* of what a backend says of one device: 64 of them fit in a line */
	VALUE_SHOWN_MAX = 512, /* bytes of a value of the configuration */
};

static const struct feature {
	uint16_t type;
	uint32_t bit;
	const char *name;
} features[] = {
	{ PV_NOXS_VIF, PV_VIF_SG, "sg" },
	{ PV_NOXS_VIF, PV_VIF_CSUM_IPV4, "csum-ipv4" },
	{ PV_NOXS_VIF, PV_VIF_CSUM_IPV6, "csum-ipv6" },
	{ PV_NOXS_VIF, PV_VIF_GSO_TCPV4, "gso-tcpv4" },
	{ PV_NOXS_VIF, PV_VIF_GSO_TCPV6, "gso-tcpv6" },
	{ PV_NOXS_VIF, PV_VIF_MCAST_CONTROL, "mcast-control" },
	{ PV_NOXS_VBD, PV_VBD_FLUSH, "flush" },
	{ PV_NOXS_VBD, PV_VBD_BARRIER, "barrier" },
	{ PV_NOXS_VBD, PV_VBD_DISCARD, "discard" },
	{ PV_NOXS_VBD, PV_VBD_SECURE_DISCARD, "secure-discard" },
	{ PV_NOXS_VBD, PV_VBD_PERSISTENT, "persistent" },
};

static void add_text(struct json_object *o, const char *key, const char *s)
{
	json_object_object_add(o, key, s ? json_object_new_string(s) : NULL);
}

static void add_number(struct json_object *o, const char *key, int64_t n)
{
	json_object_object_add(o, key, json_object_new_int64(n));
}

static struct json_object *feature_names(uint16_t type, uint32_t bits)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		if (features[i].type == type && bits & features[i].bit)
			json_object_array_add(a, json_object_new_string(features[i].name));
	return a;
}

/* Which device is meant. */
static struct json_object *identity(const struct device *dev)
{
	struct json_object *o = json_object_new_object();

	add_text(o, "guest", dev->guest->name);
	add_number(o, "domid", dev->guest->domid);
	add_text(o, "type", pv_type_name(dev->id.type));
	add_text(o, "name", dev->name);
	add_number(o, "devid", dev->id.devid);
	return o;
}

static struct json_object *microseconds(double us)
{
	return us < 0 ? NULL : json_object_new_int64((int64_t)(us + 0.5));
}

/* A long value, a file of rules for instance, by its length: many devices have to fit into one message. */
static struct json_object *config_shown(struct json_object *config)
{
	struct json_object *o = json_object_new_object();
	char text[48];

	json_object_object_foreach(config, key, value) {
		int n = json_object_get_string_len(value);

		snprintf(text, sizeof(text), "(%d bytes)", n);
		json_object_object_add(o, key, n > VALUE_SHOWN_MAX ? json_object_new_string(text) : json_object_get(value));
	}
	return o;
}

struct json_object *report_device(const struct device *dev)
{
	static const char *const pair_words[] = { [PV_VIF_USE_VIF] = "vif", [PV_VIF_USE_VF] = "vf" };
	struct json_object *o = identity(dev);
	bool connected = dev->state == DEV_CONNECTED;

	add_text(o, "state", device_state_name(dev));
	add_number(o, "state_number", dev->announced ? dev->offer.state : XenbusStateInitialising);
	add_text(o, "backend", dev->backend_name);
	add_text(o, "toolstack", dev->store.foreign ? "other" : "pvio");
	json_object_object_add(o, "config", config_shown(dev->config));
	add_number(o, "queues", connected ? dev->choice.queues : 0);
	json_object_object_add(o, "features", feature_names(dev->id.type, connected ? dev->choice.features : 0));
	json_object_object_add(o, "offer", dev->announced ? pv_offer_to_json(&dev->offer, dev->id.type) : NULL);
	add_text(o, "pair_used", pair_words[connected ? dev->pair : PV_VIF_ALONE]);
	add_text(o, "error", dev->why[0] ? dev->why : NULL);
	json_object_object_add(o, "offer_us", microseconds(dev->offer_us));
	json_object_object_add(o, "connect_us", microseconds(dev->connect_us));
	return o;
}

/* How a domain of Xen does. */
static void add_info(struct json_object *o, const struct domain_info *i)
{
	char uuid[DOMAIN_UUID_TEXT];

	domain_uuid_text(i->uuid, uuid);
	add_text(o, "state", domain_state_name(i->state));
	add_number(o, "memory", i->memory >> 10);
	add_number(o, "vcpus", i->vcpus);
	add_number(o, "cpu_ms", i->cpu_ns / 1000000);
	add_text(o, "uuid", uuid);
}

static void add_domain(struct json_object *o, const struct guest *g)
{
	struct json_object *ms = json_object_new_object();
	struct domain_info info;
	struct domctl *ctl;

	add_text(o, "type", g->domain.type);
	add_text(o, "console", g->console ? console_path(g->console) : NULL);
	if (domains_control(g->d, &ctl, NULL, 0) == 0 && domain_look(ctl, g->domid, &info) == 0)
		add_info(o, &info);
	for (int i = 0; i < DOMAIN_STEPS; i++)
		json_object_object_add(ms, domain_step_name(i), json_object_new_double(g->domain.made.ms[i]));
	json_object_object_add(o, "build_ms", ms);
}

struct json_object *report_guest(const struct guest *g)
{
	struct json_object *o = json_object_new_object();

	add_text(o, "name", g->name);
	add_number(o, "domid", g->domid);
	add_number(o, "devices", g->ndevices);
	add_text(o, "toolstack", g->domain.owned ? "pvio" : "other");
	if (domains_are_here(g->d))
		add_domain(o, g);
	if (g->xenstore)
		json_object_object_add(o, "xenstore", guest_store_report(g->xenstore));
	return o;
}

struct json_object *report_domain(const struct domain_info *i)
{
	struct json_object *o = json_object_new_object();

	add_text(o, "name", NULL);
	add_number(o, "domid", i->domid);
	add_text(o, "type", i->hvm ? "hvm" : "pv");
	add_info(o, i);
	return o;
}

struct json_object *report_backends(struct pviod *d)
{
	struct json_object *a = json_object_new_array();
	struct backend *b;

	DL_FOREACH(d->backends, b) {
		struct json_object *o = json_object_new_object();

		add_text(o, "name", b->name);
		add_text(o, "type", pv_type_name(b->type));
		add_number(o, "pid", b->pid);
		add_number(o, "domid", b->domid);
		add_text(o, "version", b->version);
		add_number(o, "devices", b->ndevices);
		add_number(o, "calls", b->asked);
		add_number(o, "timeouts", b->late);
		json_object_object_add(o, "registered", json_object_new_boolean(true));
		supervise_report(b, o);
		json_object_array_add(a, o);
	}
	supervise_report_absent(d, a);
	return a;
}

/* What pviod adds to a backend's `inspect`. */
static struct json_object *negotiation(const struct device *dev)
{
	struct json_object *o = json_object_new_object();

	add_text(o, "state", device_state_inner(dev->state));
	add_number(o, "generation", dev->announced ? dev->offer.generation : 0);
	add_text(o, "dialect", dev->dialect->name);
	if (dev->dialect == &dialect_noxs) {
		add_number(o, "slot", dev->announced ? (int)dev->noxs.slot : -1);
		add_number(o, "control_gref", dev->announced ? dev->guest->slots[dev->noxs.slot].gref : 0);
		add_number(o, "port", dev->noxs.port.port);
	}
	add_number(o, "frontend_ring_order", dev->choice.ring_order);
	add_number(o, "frontend_abi", dev->choice.abi);
	add_number(o, "connects", dev->nconnects);
	add_number(o, "adoptions", dev->nadopted);
	add_number(o, "looks", dev->nlooks);
	add_number(o, "throttled", dev->nthrottled);
	return o;
}

/* ---- pages of devices: an answer must fit into one message ---- */

/* The devices that a call is about, in the order of their serials, from the one behind `after` on; at most max of them, into
 * out. *next: the serial to go on behind, 0: these were the last. */
static unsigned devices_page(struct pviod *d, const struct selection *s, struct device **out, unsigned max, uint64_t *next)
{
	struct device *dev, *tmp;
	unsigned n = 0;

	*next = 0;
	HASH_ITER(hh_serial, d->by_serial, dev, tmp) {
		if (dev->serial <= s->after || (s->guest && dev->guest != s->guest) || (s->device && dev != s->device))
			continue;
		if (n == max) {
			*next = out[n - 1]->serial;
			break;
		}
		out[n++] = dev;
	}
	return n;
}

static struct json_object *page_new(struct json_object *devices, uint64_t next)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "devices", devices);
	json_object_object_add(o, "next", next ? json_object_new_int64(next) : NULL);
	return o;
}

struct json_object *report_list(struct pviod *d, const struct selection *s)
{
	struct device *page[LIST_PAGE];
	struct json_object *a = json_object_new_array();
	uint64_t next;
	unsigned n = devices_page(d, s, page, LIST_PAGE, &next);

	for (unsigned i = 0; i < n; i++)
		json_object_array_add(a, report_device(page[i]));
	return page_new(a, next);
}

/* ---- asking the backends of several devices, and answering once ---- */

/* Owner: the calls that are under way; freed with the last of them. */
struct gather {
	struct pviod *d;
	uint64_t conn, id, next;
	const char *method;
	struct json_object *out;
	unsigned asked; /* under way, and one for who starts them */
};

struct part {
	struct gather *g;
	struct json_object *device; /* borrowed from g->out */
};

static void gather_put(struct gather *g)
{
	struct conn *c;

	if (--g->asked > 0)
		return;
	c = conn_find(g->d, g->conn);
	if (c)
		pv_rpc_reply(c->rpc, g->id, page_new(g->out, g->next));
	else
		json_object_put(g->out);
	free(g);
}

static bool deeper_than(struct json_object *o, unsigned levels)
{
	bool is_array = json_object_get_type(o) == json_type_array;

	if (!is_array && json_object_get_type(o) != json_type_object)
		return false;
	if (levels == 0)
		return true;
	if (is_array) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			if (deeper_than(json_object_array_get_idx(o, i), levels - 1))
				return true;
		return false;
	}
	json_object_object_foreach(o, key, v) {
		(void)key;
		if (deeper_than(v, levels - 1))
			return true;
	}
	return false;
}

/* One backend's words shall not spoil the answer about all: what is too deep or too long is left out (null). */
static bool part_fits(struct json_object *result)
{
	return !deeper_than(result, PART_DEPTH) && strlen(json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN)) <= PART_BYTES;
}

static void part_done(void *arg, int code, const char *message, struct json_object *result)
{
	struct part *p = arg;
	struct gather *g = p->g;

	(void)code, (void)message; /* no answer is one */
	json_object_object_add(p->device, g->method, result && part_fits(result) ? json_object_get(result) : NULL);
	free(p);
	gather_put(g);
}

static void ask_part(struct gather *g, struct device *dev)
{
	struct part *p = malloc(sizeof(*p));
	struct json_object *o = identity(dev);

	add_text(o, "state", device_state_name(dev));
	if (strcmp(g->method, "inspect") == 0)
		json_object_object_add(o, "pviod", negotiation(dev));
	json_object_object_add(o, g->method, NULL);
	json_object_array_add(g->out, o);
	if (!p)
		return;
	*p = (struct part){ .g = g, .device = o };
	g->asked++;
	if (backend_query(dev, g->method, NULL, part_done, p) < 0) {
		g->asked--;
		free(p);
	}
}

void report_gather(struct conn *c, uint64_t id, const char *method, const struct selection *s)
{
	struct device *page[GATHER_PAGE];
	struct gather *g = calloc(1, sizeof(*g));
	unsigned n;

	if (!g) {
		pv_rpc_fail(c->rpc, id, -ENOMEM, "out of memory");
		return;
	}
	*g = (struct gather){ .d = c->d, .conn = c->serial, .id = id, .method = method, .out = json_object_new_array(), .asked = 1 };
	n = devices_page(c->d, s, page, GATHER_PAGE, &g->next);
	for (unsigned i = 0; i < n; i++)
		ask_part(g, page[i]);
	gather_put(g);
}
