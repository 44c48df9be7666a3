/* pciback.c - what pviod asks of the backend of virtual functions: prepare is claim and assign, remove is the way back.
 *
 * Theory of operation. The truth about a VF is its record, which outlives this process; a device here is no more than which record a
 * guest's device is, and the serving of its page while it is connected. Before a VF is claimed it is written down for whom: one that was
 * claimed when this process was killed, and not yet assigned, is so found by the next.
 */
#include "pciback.h"
#include <errno.h>
#include <pvio/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define DEVICE "device" /* in a record's `more`: the number that the guest's device has */
#define INTENT "pciback.json" /* for whom one is being claimed */
#define DRIVER "pciback"

enum { RECORD_MS = 15000, RESET_MS = 10000 };

/* Owner: its pciback, from prepare to remove. */
struct vfdev {
	struct pv_device_id id;
	struct vf_bdf vf;
	struct vf_served *served; /* NULL: not connected, or of a guest of xl's */
	struct vfdev *prev, *next;
};

struct pciback {
	struct vf_sys *sys;
	struct vf_xen *xen;
	struct vf_server *server;
	struct vfdev *devices;
};

int pciback_new(struct vf_sys *sys, struct vf_xen *xen, struct vf_server *server, struct pciback **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	**out = (struct pciback){ .sys = sys, .xen = xen, .server = server };
	return 0;
}

static struct vfdev *find(struct pciback *p, const struct pv_device_id *id)
{
	struct vfdev *d;

	DL_FOREACH(p->devices, d)
		if (d->id.guest == id->guest && d->id.devid == id->devid)
			return d;
	return NULL;
}

static struct vfdev *add(struct pciback *p, const struct pv_device_id *id, struct vf_bdf vf)
{
	struct vfdev *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->id = *id;
	d->vf = vf;
	DL_APPEND(p->devices, d);
	return d;
}

static void forget(struct pciback *p, struct vfdev *d, bool keep)
{
	vf_served_close(p->server, d->served, keep);
	DL_DELETE(p->devices, d);
	free(d);
}

void pciback_free(struct pciback *p)
{
	while (p && p->devices)
		forget(p, p->devices, true);
	free(p);
}

/* ---- configuration ---- */

static const char *const keys[] = { "bdf", "pool", "numa", "guest", "toolstack" };

static const char *text(struct json_object *config, const char *key)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(config, key, &v);
	return v ? json_object_get_string(v) : NULL;
}

/* xl's guests get theirs by xl, and need nothing served. */
static bool is_xl(struct json_object *config)
{
	const char *toolstack = text(config, "toolstack");

	return toolstack && strcmp(toolstack, "xl") == 0;
}

static int parse_setting(struct vf_settings *s, const char *name, const char *value, struct vf_why *why)
{
	int key = vf_key_find(name);

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strcmp(keys[i], name) == 0)
			return 0;
	return key < 0 ? vf_fail(why, -EINVAL, "%s is no key of a vf; there are bdf, pool, numa, " VF_KEY_NAMES, name)
		       : vf_settings_parse(s, key, value, why);
}

static int parse_want(struct json_object *config, struct vf_want *w, struct vf_why *why)
{
	const char *bdf = text(config, "bdf"), *pool = text(config, "pool"), *numa = text(config, "numa"), *guest = text(config, "guest");
	char *end = NULL;

	*w = (struct vf_want){ .numa = numa ? (int)strtol(numa, &end, 10) : -1, .driver = DRIVER };
	if (numa && (*end || end == numa || w->numa < 0))
		return vf_fail(why, -EINVAL, "numa=%s is no node", numa);
	if (bdf && vf_bdf_parse(bdf, &w->vf) < 0)
		return vf_fail(why, -EINVAL, "bdf=%s is no address of a function, such as 0000:01:10.0", bdf);
	snprintf(w->pool, sizeof(w->pool), "%s", pool ? pool : "");
	snprintf(w->owner, sizeof(w->owner), "%s", guest ? guest : "?");
	json_object_object_foreach(config, key, value) {
		int rc = parse_setting(&w->settings, key, json_object_get_string(value), why);

		if (rc < 0)
			return rc;
	}
	return 0;
}

void pciback_help(void)
{
	puts("\nA device's keys (pvio attach GUEST vf KEY=VALUE...):\n"
	     "  bdf=ADDRESS     this one, such as 0000:01:10.0 (any that is free)\n"
	     "  pool=NAME       of this pool\n"
	     "  numa=NODE       on this node\n"
	     "  mac= vlan= qos= vlan_proto= spoofchk= trust= min_rate= max_rate= link= rss_query=\n"
	     "                  its settings, as in the file of `pvio vf apply`");
}

/* ---- back ---- */

/* From wherever it is: out of its guest, reset while Xen keeps its DMA from everything, then as `pvio vf release` does. */
static int give_back(struct pciback *p, struct vf_record *r, struct vf_why *why)
{
	int rc = vf_xen_begun(r) ? vf_xen_deassign(p->sys, p->xen, r, why) : 0;

	if (rc < 0)
		return rc;
	if (vf_xen_begun(r) && vf_reset(p->sys, r, "", RESET_MS, NULL) == 0) { /* else it stays where it is, and vf_release says why */
		rc = vf_xen_unquarantine(p->sys, p->xen, r, why);
		if (rc < 0)
			return rc;
	}
	return vf_release(p->sys, r, NULL, why);
}

static int give_back_vf(struct pciback *p, struct vf_bdf vf, struct vf_why *why)
{
	struct vf_record r;
	int rc = vf_record_open(p->sys, vf, RECORD_MS, &r, why);

	if (rc < 0)
		return rc;
	if (r.state != VF_FREE && r.state != VF_QUARANTINED)
		rc = give_back(p, &r, why);
	vf_record_close(&r);
	return rc;
}

/* ---- there ---- */

static bool is_device(const struct vf_record *r, const struct pv_device_id *id)
{
	struct json_object *v = NULL;

	return r->state == VF_ASSIGNED && r->domid == id->guest && r->more && json_object_object_get_ex(r->more, DEVICE, &v) &&
	       json_object_get_int64(v) == id->devid;
}

/* What a process before this one gave to the guest for that device. Returns 0, -ENOENT or -errno. */
static int find_given(struct pciback *p, const struct pv_device_id *id, struct vf_bdf *out)
{
	struct vf_bdf *vf;
	int n = vf_record_list(p->sys, &vf), rc = n < 0 ? n : -ENOENT;

	for (int i = 0; i < n && rc == -ENOENT; i++) {
		struct vf_record r;

		if (vf_record_read(p->sys, vf[i], &r) < 0)
			continue;
		if (is_device(&r, id) && vf_xen_alive(p->xen, &r) == 1) {
			*out = vf[i];
			rc = 0;
		}
		vf_record_close(&r);
	}
	free(vf);
	return rc;
}

static int write_intent(struct pciback *p, const struct vf_want *w, struct vf_why *why)
{
	struct json_object *o = json_object_new_object();
	int rc;

	json_object_object_add(o, "owner", json_object_new_string(w->owner));
	rc = vf_file_write(p->sys, INTENT, o);
	json_object_put(o);
	return rc < 0 ? vf_fail(why, rc, "cannot write %s/" INTENT ": %s", p->sys->state, strerror(-rc)) : 0;
}

/* Linux' pcifront makes one bus of each device, and all of ours are bus 0: the second would not be found. */
static int one_each(struct pciback *p, const struct pv_device_id *id, struct vf_why *why)
{
	struct vfdev *d;

	DL_FOREACH(p->devices, d)
		if (d->id.guest == id->guest)
			return vf_fail(why, -EOPNOTSUPP, "the guest has VF %s already (vf %u), and a PV guest can have one; detach that first",
				       vf_text(d->vf).s, d->id.devid);
	return 0;
}

/* A VF that nobody has becomes the guest's. */
static int give(struct pciback *p, const struct pv_device_id *id, struct json_object *config, struct vf_bdf *out, struct vf_why *why)
{
	struct vf_why also;
	struct vf_want w;
	struct vf_record r;
	int rc = is_xl(config) ? 0 : one_each(p, id, why);

	rc = rc < 0 ? rc : parse_want(config, &w, why);
	rc = rc < 0 ? rc : write_intent(p, &w, why);
	rc = rc < 0 ? rc : vf_claim(p->sys, &w, &r, why);
	if (rc < 0)
		return rc;
	if (!r.more)
		r.more = json_object_new_object();
	json_object_object_add(r.more, DEVICE, json_object_new_int64(id->devid));
	rc = (is_xl(config) ? vf_xen_assign_xl : vf_xen_assign)(p->sys, p->xen, &r, id->guest, why);
	if (rc < 0 && give_back(p, &r, &also) < 0)
		pv_log(PV_LOG_ERR, "%s", also.text);
	*out = r.vf;
	vf_record_close(&r);
	vf_file_remove(p->sys, INTENT);
	return rc;
}

/* ---- pviod's calls ---- */

static int told(int rc, const struct vf_why *why, char *out, size_t len)
{
	if (rc < 0)
		snprintf(out, len, "%s", why->text);
	return rc;
}

static int prepare(void *ctx, const struct pv_device_id *id, struct json_object *config, struct pv_noxs_offer *offer, char *words, size_t len)
{
	struct pciback *p = ctx;
	struct vf_why why = { "" };
	struct vf_bdf vf;
	int rc = 0;

	offer->vf.functions = 1;
	if (find(p, id))
		return 0;
	if (find_given(p, id, &vf) < 0)
		rc = give(p, id, config, &vf, &why);
	if (rc == 0 && !add(p, id, vf))
		rc = -ENOMEM;
	return told(rc, &why, words, len);
}

static int connect(void *ctx, const struct pv_connect *c, char *words, size_t len)
{
	struct pciback *p = ctx;
	struct pv_noxs_offer offer;
	struct vf_why why = { "" };
	struct vfdev *d;
	int rc = prepare(ctx, &c->id, c->config, &offer, words, len);

	if (rc < 0 || is_xl(c->config))
		return rc;
	d = find(p, &c->id);
	if (d->served && vf_served_same(d->served, c))
		return 0;
	vf_served_close(p->server, d->served, false);
	d->served = NULL;
	return told(vf_served_open(p->server, c, d->vf, &d->served, &why), &why, words, len);
}

static int disconnect(void *ctx, const struct pv_device_id *id, char *words, size_t len)
{
	struct pciback *p = ctx;
	struct vfdev *d = find(p, id);

	(void)words, (void)len;
	if (d)
		vf_served_close(p->server, d->served, false);
	if (d)
		d->served = NULL;
	return 0;
}

static int take_away(void *ctx, const struct pv_device_id *id, char *words, size_t len)
{
	struct pciback *p = ctx;
	struct vfdev *d = find(p, id);
	struct vf_why why = { "" };
	struct vf_bdf vf;

	if (d) {
		vf = d->vf;
		forget(p, d, false);
	} else if (find_given(p, id, &vf) < 0) {
		return 0;
	}
	return told(give_back_vf(p, vf, &why), &why, words, len); /* what is not done now, pciback_sweep does */
}

static struct json_object *report(void *ctx, const struct pv_device_id *id)
{
	struct pciback *p = ctx;
	struct vfdev *d = find(p, id);
	struct json_object *o = d ? d->served ? vf_served_report(p->server, d->served) : json_object_new_object() : NULL;

	if (o)
		json_object_object_add(o, "vf", json_object_new_string(vf_text(d->vf).s));
	return o;
}

const struct pv_backend_ops pciback_ops = {
	.kind = "vf", .prepare = prepare, .connect = connect, .disconnect = disconnect, .remove = take_away, .stats = report, .inspect = report,
};

/* ---- what is left over ---- */

/* Was it claimed by one of us? */
static bool is_ours(struct pciback *p, const struct vf_record *r)
{
	struct json_object *o;
	const char *owner;
	bool yes;

	if (vf_xen_begun(r) || (r->more && json_object_object_get_ex(r->more, DEVICE, NULL)))
		return true;
	if (r->state != VF_CLAIMED || strcmp(r->driver, DRIVER) || vf_file_read(p->sys, INTENT, &o) < 0)
		return false;
	owner = text(o, "owner");
	yes = owner && strcmp(owner, r->owner) == 0;
	json_object_put(o);
	return yes;
}

static struct vfdev *device_of(struct pciback *p, struct vf_bdf vf)
{
	struct vfdev *d;

	DL_FOREACH(p->devices, d)
		if (vf_bdf_equal(d->vf, vf))
			return d;
	return NULL;
}

/* Returns 1: a guest has it, or it cannot be taken back yet. */
static int sweep_one(struct pciback *p, struct vf_record *r)
{
	struct vfdev *d = device_of(p, r->vf);
	struct vf_why why;
	int alive = r->state == VF_ASSIGNED ? vf_xen_alive(p->xen, r) : 0;

	if (alive)
		return 1;
	if (d)
		forget(p, d, false);
	if (give_back(p, r, &why) == 0) {
		pv_log(PV_LOG_INFO, "VF %s: guest %s, which had it, is gone; it is free", vf_text(r->vf).s, r->owner);
		return 0;
	}
	if (r->state == VF_QUARANTINED)
		pv_log(PV_LOG_ERR, "%s", why.text);
	return r->state != VF_QUARANTINED;
}

int pciback_sweep(struct pciback *p)
{
	struct vf_bdf *vf;
	int left = 0, n;

	vf_recover(p->sys, vf_release_undo, NULL, NULL);
	n = vf_record_list(p->sys, &vf);
	for (int i = 0; i < n; i++) {
		struct vf_record r;

		if (vf_record_open(p->sys, vf[i], 0, &r, NULL) < 0)
			continue; /* somebody works on it */
		if (r.state != VF_QUARANTINED && is_ours(p, &r))
			left += sweep_one(p, &r);
		vf_record_close(&r);
	}
	free(vf);
	vf_file_remove(p->sys, INTENT);
	return n < 0 ? n : left;
}
