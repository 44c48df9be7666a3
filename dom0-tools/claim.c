/* claim.c - guests and devices of another toolstack: xl, or whatever else keeps them in a xenstored beside us.
 *
 * Theory of operation. Such a toolstack makes two directories for a device, and waits until the backend's state is InitWait;
 * then, for a backend in domain 0, it runs the hotplug script that the backend's directory names. Ours are block-pvio and
 * vif-pvio, and a device that names one of them is ours to serve:
 *	- Linux has taken it by then if its own driver is loaded in domain 0, and shows InitWait. The script unbinds it, which leaves
 *	  the nodes as they are, and asks us to claim the device.
 *	- Without that driver, and for a driver domain, where no script of ours runs, nobody else touches it: we claim it as soon
 *	  as its nodes appear, and the offer is the InitWait that is waited for. A script then finds it claimed.
 * To remove a device the toolstack writes online 0 and state 5 into the backend's directory, waits for state 6, and removes the
 * nodes; those of a driver domain it wants removed by the backend's side.
 * What Linux showed before may have been read already by a frontend in a running guest: its choice has to be legal for our offer too.
 * The directories of a driver domain are that domain's to write: it gets no device but those whose frontends were pointed to it, which
 * it cannot write, and all it can choose is what its own backend serves them from. Each look makes us ask xenstored several times for
 * one write of its, so its looks have a budget; what that leaves out is found by a scan of all its devices, which has one too.
 */
#include "pviod.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_LEN = 128, VALUE_LEN = 1024, TRIES = 8 };

static const enum pv_noxs_type kinds[] = { PV_NOXS_VIF, PV_NOXS_VBD };

/* ---- names and keys: pure ---- */

static const char *parse_word(const char *s, const char *word)
{
	return s && strncmp(s, word, strlen(word)) == 0 ? s + strlen(word) : NULL;
}

int claim_parse(const char *path, struct claim_id *id, const char **key)
{
	const char *p = parse_word(path, "/local/domain/"), *kind;
	uint32_t backend = 0, guest = 0;

	p = p ? store_number(p, UINT16_MAX, &backend) : parse_word(path, "backend/"); /* as scripts are told it, in domain 0 */
	if (p && *path == '/')
		p = parse_word(p, "/backend/");
	kind = p;
	id->type = parse_word(kind, "vif/") ? PV_NOXS_VIF : PV_NOXS_VBD;
	p = parse_word(kind, id->type == PV_NOXS_VIF ? "vif/" : "vbd/");
	p = p ? store_number(p, UINT16_MAX, &guest) : NULL;
	p = p && *p == '/' ? store_number(p + 1, UINT32_MAX, &id->devid) : NULL;
	if (!p || (*p && *p != '/'))
		return -EINVAL;
	id->backend_domid = backend;
	id->guest = guest;
	*key = *p ? p + 1 : p;
	return 0;
}

bool claim_script(enum pv_noxs_type type, const char *script)
{
	const char *base = strrchr(script, '/');

	return strcmp(base ? base + 1 : script, type == PV_NOXS_VIF ? "vif-pvio" : "block-pvio") == 0;
}

/* What a toolstack's keys are called among ours. */
static const struct {
	enum pv_noxs_type type;
	const char *theirs, *ours;
	const char *means; /* NULL: the value is passed on; else ours is 1 if it is this, and not given if not */
} keys[] = {
	{ PV_NOXS_VBD, "params", "path" },
	{ PV_NOXS_VBD, "mode", "mode" },
	{ PV_NOXS_VBD, "discard-enable", "discard" },
	{ PV_NOXS_VBD, "removable", "removable" },
	{ PV_NOXS_VBD, "device-type", "cdrom", "cdrom" },
	{ PV_NOXS_VIF, "mac", "mac" },
	{ PV_NOXS_VIF, "bridge", "bridge" },
	{ PV_NOXS_VIF, "mtu", "mtu" },
	{ PV_NOXS_VIF, "rate", "rate" },
};

int claim_config(enum pv_noxs_type type, const struct store_reader *r, struct json_object *config, char *why, size_t len)
{
	char value[VALUE_LEN];
	int rc;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (keys[i].type != type)
			continue;
		rc = r->read(r->arg, keys[i].theirs, value, sizeof(value));
		if (rc == -ENOENT || rc == 0)
			continue;
		if (rc < 0)
			return pv_why(why, len, rc, "%s cannot be read: %s", keys[i].theirs, strerror(-rc));
		if (!keys[i].means)
			json_object_object_add(config, keys[i].ours, json_object_new_string(value));
		else if (strcmp(value, keys[i].means) == 0)
			json_object_object_add(config, keys[i].ours, json_object_new_string("1"));
	}
	return 0;
}

/* ---- nodes of one device ---- */

static void path_of(const struct claim_id *id, const char *key, char path[PATH_LEN])
{
	snprintf(path, PATH_LEN, "/local/domain/%u/backend/%s/%u/%u%s%s", id->backend_domid, pv_type_name(id->type), id->guest, id->devid,
		 *key ? "/" : "", key);
}

/* One device's directory. */
struct place {
	struct nodes *n;
	struct claim_id id;
};

static int read_key(void *arg, const char *key, char *buf, size_t len)
{
	struct place *at = arg;
	char path[PATH_LEN];

	path_of(&at->id, key, path);
	return at->n->ops->read(at->n, path, buf, len);
}

static int write_key(struct place *at, const char *key, const char *value)
{
	char path[PATH_LEN];

	path_of(&at->id, key, path);
	return at->n->ops->write(at->n, path, value, at->id.backend_domid, at->id.guest);
}

/* A key whose value is one digit, or -errno. */
static int read_digit(struct place *at, const char *key)
{
	char value[4];
	int rc = read_key(at, key, value, sizeof(value));

	return rc < 0 ? rc : rc == 1 && *value >= '0' && *value <= '9' ? *value - '0' : -EINVAL;
}

static bool is_ours(struct place *at)
{
	char script[VALUE_LEN];

	return read_key(at, "script", script, sizeof(script)) > 0 && claim_script(at->id.type, script);
}

/* What Linux' driver offered is not what we offer. */
static void remove_offer(struct place *at)
{
	static const char *const offers[] = { "feature-", "multi-queue-", "max-ring-", "hotplug-" };
	char dir[PATH_LEN], path[2 * PATH_LEN];
	unsigned count;
	char **names;

	path_of(&at->id, "", dir);
	names = xenstored_list(at->n, dir, &count);
	for (unsigned i = 0; i < count; i++)
		for (size_t o = 0; o < sizeof(offers) / sizeof(offers[0]); o++)
			if (parse_word(names[i], offers[o]) && snprintf(path, sizeof(path), "%s/%s", dir, names[i]) < (int)sizeof(path))
				at->n->ops->remove(at->n, path);
	free(names);
}

/* ---- Linux' own backends, in domain 0 ---- */

static bool linux_has(const struct pviod *d, const char *what)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/bus/xen-backend/%s", d->opt.sysfs ? d->opt.sysfs : "/sys", what);
	return access(path, F_OK) == 0;
}

/* Is its driver there, which then takes each device that appears? */
static bool linux_serves(const struct pviod *d, const struct claim_id *id)
{
	char what[64];

	snprintf(what, sizeof(what), "drivers/%s", pv_type_name(id->type));
	return id->backend_domid == 0 && linux_has(d, what);
}

static bool linux_holds(const struct pviod *d, const struct claim_id *id)
{
	char what[64];

	snprintf(what, sizeof(what), "devices/%s-%u-%u/driver", pv_type_name(id->type), id->guest, id->devid);
	return id->backend_domid == 0 && linux_has(d, what);
}

/* ---- guests ---- */

static void home_of(uint16_t domid, const char *key, char path[PATH_LEN])
{
	snprintf(path, PATH_LEN, "/local/domain/%u/%s", domid, key);
}

/* Where its user space finds what is announced (NOXS.md): it cannot see its store page. */
static int write_pointer(struct guest *g)
{
	struct pv_noxs_pointer p;
	char path[PATH_LEN], text[PV_NOXS_POINTER_TEXT];

	guest_pointer(g, &p);
	pv_noxs_pointer_format(&p, text, sizeof(text));
	home_of(g->domid, PV_NOXS_POINTER_NODE, path);
	return g->nodes->ops->write(g->nodes, path, text, 0, g->domid);
}

/* As its toolstack calls it, if it is a name here and free. */
static void name_guest(struct pviod *d, struct nodes *n, uint16_t domid, char name[NAME_LEN])
{
	char path[PATH_LEN];

	home_of(domid, "name", path);
	if (n->ops->read(n, path, name, NAME_LEN) < 0 || !guest_name_ok(name) || guest_find(d, name))
		snprintf(name, NAME_LEN, "dom%u", domid);
}

/* What Xen knows of a domain that somebody else built. */
static int ask_xen(struct pviod *d, struct guest_domain *domain, char *why, size_t len)
{
	struct domain_info info;
	struct domctl *ctl;
	int rc;

	if (!domains_are_here(d))
		return 0;
	rc = domains_control(d, &ctl, why, len);
	if (rc < 0)
		return rc;
	rc = domain_look(ctl, domain->made.domid, &info);
	if (rc < 0)
		return pv_why(why, len, rc == -ESRCH ? -ENOENT : rc, "there is no domain %u", domain->made.domid);
	memcpy(domain->made.uuid, info.uuid, sizeof(info.uuid));
	domain->type = info.hvm ? "hvm" : "pv";
	domain->memory = info.memory >> 10;
	domain->vcpus = info.vcpus;
	return 0;
}

static int adopt(struct pviod *d, struct nodes *n, uint16_t domid, struct guest **out, char *why, size_t len)
{
	struct guest_domain domain = { .made.domid = domid };
	char name[NAME_LEN];
	int rc = xenstored_has_domain(n, domid);

	*out = NULL;
	if (rc < 1 || domid == 0)
		return pv_why(why, len, rc < 0 ? rc : -ENOENT, "xenstored knows no guest of domid %u", domid);
	rc = ask_xen(d, &domain, why, len);
	if (rc < 0)
		return rc;
	name_guest(d, n, domid, name);
	rc = guest_adopt(d, name, &domain, out, why, len);
	if (rc < 0)
		return rc;
	(*out)->nodes = n;
	(*out)->dialect = &dialect_store;
	rc = write_pointer(*out);
	if (rc < 0)
		pv_log(PV_LOG_WARN, "guest %s: its node %s cannot be written (%s): programs in it do not find their devices", (*out)->name,
		       PV_NOXS_POINTER_NODE, strerror(-rc));
	return 0;
}

/* The domid of the guest that is called so by its toolstack, or -ENOENT. */
static int domid_of(struct nodes *n, const char *name)
{
	char path[PATH_LEN], theirs[VALUE_LEN];
	unsigned count;
	char **domids = xenstored_list(n, "/local/domain", &count);
	int found = -ENOENT;

	for (unsigned i = 0; i < count && found < 0; i++) {
		home_of(atoi(domids[i]), "name", path);
		if (n->ops->read(n, path, theirs, sizeof(theirs)) > 0 && strcmp(theirs, name) == 0)
			found = atoi(domids[i]);
	}
	free(domids);
	return found;
}

struct guest *claim_guest(struct pviod *d, const char *name, char *why, size_t len)
{
	struct nodes *n = claim_store(d);
	struct guest *g = NULL;
	uint32_t number;
	const char *end = store_number(name, UINT16_MAX, &number);
	int domid = end && !*end ? (int)number : n ? domid_of(n, name) : -ENOENT;

	snprintf(why, len, "there is no guest %s; `pvio guest list` shows those that there are%s", name, n ? ", and so does `xl list`" : "");
	if (n && domid > 0)
		adopt(d, n, domid, &g, why, len);
	return g;
}

bool claim_is_foreign(const struct guest *g)
{
	return g->nodes && g->nodes == g->d->xenstored;
}

void claim_guest_end(struct guest *g)
{
	char path[PATH_LEN];

	home_of(g->domid, PV_NOXS_POINTER_NODE, path);
	g->nodes->ops->remove(g->nodes, path);
}

/* Some domain is gone: which? */
static void on_release(void *ctx)
{
	struct pviod *d = ctx;
	struct guest *g, *next;

	HASH_ITER(hh_domid, d->by_domid, g, next) {
		if (!claim_is_foreign(g) || g->dying || xenstored_has_domain(d->xenstored, g->domid) != 0)
			continue;
		pv_log(PV_LOG_INFO, "guest %s: its toolstack ended it", g->name);
		guest_end(g, true);
	}
}

/* ---- devices ---- */

static struct device *device_of(struct pviod *d, const struct claim_id *id)
{
	struct device *dev;
	struct guest *g;

	HASH_FIND(hh_domid, d->by_domid, &id->guest, sizeof(id->guest), g);
	if (!g)
		return NULL;
	DL_FOREACH(g->devices, dev)
		if (dev->store.foreign && dev->backend_domid == id->backend_domid && dev->id.type == id->type && dev->id.devid == id->devid)
			return dev;
	return NULL;
}

static struct backend *backend_of(struct pviod *d, const struct claim_id *id)
{
	struct backend *b;

	DL_FOREACH(d->backends, b)
		if (b->type == id->type && b->domid == id->backend_domid)
			return b;
	return NULL;
}

/* Is that backend's directory the one that the guest's frontend was told by its toolstack? */
static bool is_meant(struct place *at)
{
	char key[64], path[PATH_LEN], ours[PATH_LEN], theirs[PATH_LEN];

	snprintf(key, sizeof(key), "device/%s/%u/backend", pv_type_name(at->id.type), at->id.devid);
	home_of(at->id.guest, key, path);
	path_of(&at->id, "", ours);
	return at->n->ops->read(at->n, path, theirs, sizeof(theirs)) > 0 && strcmp(ours, theirs) == 0;
}

static int create(struct pviod *d, struct place *at, struct device **out, char *why, size_t len)
{
	const struct store_reader r = { .read = read_key, .arg = at };
	struct backend *b = backend_of(d, &at->id);
	struct json_object *config;
	struct guest *g;
	int rc;

	if (!is_meant(at))
		return pv_why(why, len, -EPERM, "the guest has no such device of domain %u", at->id.backend_domid);
	if (!b)
		return pv_why(why, len, -ENODEV, "no %s backend is running in domain %u; start %s there", pv_type_name(at->id.type),
			      at->id.backend_domid, at->id.type == PV_NOXS_VIF ? "pvio-netback" : "pvio-blkback");
	HASH_FIND(hh_domid, d->by_domid, &at->id.guest, sizeof(at->id.guest), g);
	rc = g ? 0 : adopt(d, at->n, at->id.guest, &g, why, len);
	if (rc < 0)
		return rc;
	if (g->nodes != at->n || g->dying)
		return pv_why(why, len, -EBUSY, "guest %s is %s", g->name, g->dying ? "ending" : "pvio's own: pvio attach gives it devices");
	DL_FOREACH(g->devices, *out)
		if ((*out)->dialect == &dialect_store && (*out)->id.type == at->id.type && (*out)->id.devid == at->id.devid)
			return pv_why(why, len, -EEXIST, "pvio attach gave %s to it before; pvio detach takes it away", device_label(*out));
	config = json_object_new_object();
	rc = claim_config(at->id.type, &r, config, why, len);
	if (rc == 0) {
		remove_offer(at);
		rc = device_create(g, &dialect_store, at->id.type, at->id.devid, b, config, out, why, len);
	}
	json_object_put(config);
	if (rc == 0)
		(*out)->store.foreign = true;
	return rc;
}

int claim_device(struct pviod *d, const struct claim_id *id, struct device **out, char *why, size_t len)
{
	struct place at = { .n = claim_store(d), .id = *id };

	*out = at.n ? device_of(d, id) : NULL;
	if (*out && (*out)->state >= DEV_DETACHING)
		return pv_why(why, len, -EBUSY, "%s is being removed", device_label(*out));
	if (*out && (*out)->state == DEV_OFFERED)
		dialect_store.offer(*out); /* a driver that was loaded meanwhile may have written its own over ours, before it was unbound */
	if (*out)
		return 0;
	if (!at.n)
		return pv_why(why, len, -ENOENT, "no xenstored runs here");
	if (!is_ours(&at))
		return pv_why(why, len, -ENOENT, "there is no such device whose script is %s", id->type == PV_NOXS_VIF ? "vif-pvio" : "block-pvio");
	if (linux_holds(d, id))
		return pv_why(why, len, -EBUSY, "the kernel's driver holds it; unbind %s-%u-%u from /sys/bus/xen-backend/drivers/%s",
			      pv_type_name(id->type), id->guest, id->devid, pv_type_name(id->type));
	return create(d, &at, out, why, len);
}

/* Nobody claimed the device, or nobody could: let its toolstack go on. In domain 0 it runs the script, which is told the same. */
static void claim_failed(struct pviod *d, struct place *at, const char *why)
{
	pv_log_about(&d->claims_log, PV_LOG_WARN, "%s %u of domain %u, which its toolstack gave to us: %s", pv_type_name(at->id.type), at->id.devid, at->id.guest, why);
	write_key(at, "hotplug-error", why);
	if (at->id.backend_domid == 0 && read_digit(at, "state") == XenbusStateInitialising)
		write_key(at, "state", "2");
}

/* Nobody holds the device. Its toolstack waits for Closed, and removes the nodes as soon as it sees that, so that this is one with looking
 * whether they are there; those of a driver domain it waits to see removed. */
static void let_go(struct place *at)
{
	char path[PATH_LEN];
	int rc = -EAGAIN, state;

	path_of(&at->id, "", path);
	for (int i = 0; i < TRIES && rc == -EAGAIN; i++) {
		if (at->n->ops->begin(at->n) < 0)
			return;
		state = read_digit(at, "state");
		if (at->id.backend_domid != 0 && read_digit(at, "online") == 0)
			at->n->ops->remove(at->n, path);
		else if (state >= 0 && state != XenbusStateClosed)
			write_key(at, "state", "6");
		rc = at->n->ops->commit(at->n);
	}
}

void claim_gone(struct device *dev)
{
	struct place at = { .n = dev->guest->nodes, .id = { .backend_domid = dev->backend_domid, .type = dev->id.type,
							    .guest = dev->id.guest, .devid = dev->id.devid } };

	if (dev->offer_us < 0 && read_digit(&at, "online") == 1)
		claim_failed(dev->d, &at, dev->why);
	else
		let_go(&at);
}

/* Something happened to a device of one of the directories that we watch. */
static void look_at(struct pviod *d, const struct claim_id *id)
{
	struct place at = { .n = d->xenstored, .id = *id };
	struct device *dev = device_of(d, id);
	int online = read_digit(&at, "online"), state;
	char why[WHY_LEN];

	if (dev && (online == -ENOENT || online == 0) && dev->state < DEV_DETACHING)
		device_detach(dev, online != 0);
	if (dev || online < 0 || !is_ours(&at) || linux_holds(d, id))
		return;
	state = read_digit(&at, "state");
	if (online == 0 && state == XenbusStateClosing)
		let_go(&at);
	if (online == 0 || linux_serves(d, id) || (state != XenbusStateInitialising && state != XenbusStateInitWait))
		return;
	if (backend_of(d, id) && create(d, &at, &dev, why, sizeof(why)) < 0)
		claim_failed(d, &at, why);
}

/* ---- watching ---- */

/* All devices below a directory of one kind. */
static void look_at_all(struct pviod *d, const char *dir)
{
	char path[PATH_LEN], device[PATH_LEN];
	struct claim_id id;
	const char *key;
	unsigned guests, devices;
	char **guest = xenstored_list(d->xenstored, dir, &guests), **devid;

	for (unsigned g = 0; g < guests; g++) {
		if (snprintf(path, sizeof(path), "%s/%s", dir, guest[g]) >= (int)sizeof(path))
			continue;
		devid = xenstored_list(d->xenstored, path, &devices);
		for (unsigned i = 0; i < devices; i++)
			if (snprintf(device, sizeof(device), "%s/%s", path, devid[i]) < (int)sizeof(device) && claim_parse(device, &id, &key) == 0)
				look_at(d, &id);
		free(devid);
	}
	free(guest);
}

static const struct limit looks = { .burst = 128, .rate = 50 }, scans = { .burst = 4, .rate = 1 }; /* of a driver domain */

/* Owner: pviod. A domain whose backends' directories are watched. */
struct claim_domain {
	struct pviod *d;
	uint16_t domid;
	bool missed; /* something changed and was not looked at: a scan will find it */
	struct bucket looks, scans;
	struct claim_domain *prev, *next;
};

/* A toolstack writes `online` once when it makes a device and once when it takes it away. */
static void on_change(void *ctx, const char *path)
{
	struct claim_domain *c = ctx;
	struct claim_id id;
	const char *key;
	bool one = claim_parse(path, &id, &key) == 0;

	if (one && *key && strcmp(key, "online") != 0)
		return;
	if (c->domid != 0 && (!one || c->missed || !bucket_take(&c->looks, &looks, pviod_now(c->d))))
		c->missed = true;
	else if (one)
		look_at(c->d, &id);
	else
		look_at_all(c->d, path);
}

static void dir_of(uint16_t domid, enum pv_noxs_type type, char path[PATH_LEN])
{
	snprintf(path, PATH_LEN, "/local/domain/%u/backend/%s", domid, pv_type_name(type));
}

static void watch_domain(struct pviod *d, uint16_t domid)
{
	struct claim_domain *c;
	char path[PATH_LEN];
	int rc = 0;

	DL_FOREACH(d->claims, c)
		if (c->domid == domid)
			return;
	c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->d = d;
	c->domid = domid;
	DL_APPEND(d->claims, c);
	for (int i = 0; i < 2 && rc == 0; i++) {
		dir_of(domid, kinds[i], path);
		rc = xenstored_watch(d->xenstored, path, on_change, c);
	}
	if (rc < 0)
		pv_log(PV_LOG_WARN, "cannot watch %s for devices of xl: %s", path, strerror(-rc));
}

struct nodes *claim_store(struct pviod *d)
{
	int rc;

	if (d->xenstored)
		return d->xenstored;
	rc = xenstored_open(d, &d->xenstored);
	if (rc < 0)
		return NULL;
	rc = d->xenstored->ops->watch(d->xenstored, "@releaseDomain", on_release, d);
	if (rc < 0)
		pv_log(PV_LOG_WARN, "cannot watch the ends of domains: %s", strerror(-rc));
	watch_domain(d, 0);
	return d->xenstored;
}

/* All devices in a domain's directories, and those that we serve and that are not there any more. */
static void scan(struct claim_domain *c)
{
	struct device *dev, *next;
	char path[PATH_LEN];

	c->missed = false;
	for (int i = 0; i < 2; i++) {
		dir_of(c->domid, kinds[i], path);
		look_at_all(c->d, path);
	}
	HASH_ITER(hh_serial, c->d->by_serial, dev, next)
		if (dev->store.foreign && dev->backend_domid == c->domid)
			look_at(c->d, &(struct claim_id){ .backend_domid = c->domid, .type = dev->id.type, .guest = dev->id.guest,
							  .devid = dev->id.devid });
}

bool claims_wait(const struct pviod *d)
{
	const struct claim_domain *c;

	DL_SEARCH_SCALAR(d->claims, c, missed, true);
	return c;
}

void claims_tick(struct pviod *d)
{
	struct claim_domain *c;

	DL_FOREACH(d->claims, c)
		if (c->missed && bucket_take(&c->scans, &scans, pviod_now(d)))
			scan(c);
}

void claim_backend(struct pviod *d, uint16_t domid)
{
	struct claim_domain *c;

	if (!claim_store(d))
		return;
	watch_domain(d, domid);
	DL_SEARCH_SCALAR(d->claims, c, domid, domid);
	if (c)
		c->missed = true;
}

void claim_close(struct pviod *d)
{
	struct claim_domain *c, *next;

	DL_FOREACH_SAFE(d->claims, c, next)
		free(c);
	d->claims = NULL;
	xenstored_close(d->xenstored);
	d->xenstored = NULL;
}
