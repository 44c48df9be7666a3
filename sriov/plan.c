/* plan.c - what there is, and what is declared: what has to be done. Pure: nothing is read or changed here. */
#include "declare.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct planner {
	const struct vf_inventory *inv;
	const char *seed;
	unsigned flags;
	struct vf_plan *plan;
	struct vf_why *why;
};

static int fail(struct planner *p, int rc, unsigned line, unsigned column, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* What is kept was in no file: then the place is left out. */
static int fail(struct planner *p, int rc, unsigned line, unsigned column, const char *fmt, ...)
{
	size_t n = 0;
	va_list ap;

	if (!p->why)
		return rc;
	if (line)
		n = (size_t)snprintf(p->why->text, sizeof(p->why->text), "%u:%u: ", line, column);
	va_start(ap, fmt);
	vsnprintf(p->why->text + n, sizeof(p->why->text) - n, fmt, ap);
	va_end(ap);
	return rc;
}

/* More text behind what why has; what does not fit is cut off. */
static void more(char *buf, size_t len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void more(char *buf, size_t len, const char *fmt, ...)
{
	size_t n = strlen(buf);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf + n, len - n, fmt, ap);
	va_end(ap);
}

/* ---- which PFs ---- */

static bool is_called(const struct vf_pf *pf, const char *name)
{
	char id[10];
	struct vf_bdf bdf;

	snprintf(id, sizeof(id), "%04x:%04x", pf->dev.vendor, pf->dev.device);
	return !strcmp(name, pf->dev.netdev) || !strcmp(name, pf->port) || !strcasecmp(name, id) ||
	       (vf_bdf_parse(name, &bdf) == 0 && vf_bdf_equal(bdf, pf->dev.bdf));
}

bool vf_pf_is_meant(const struct vf_pf *pf, const struct vf_declared_pf *d)
{
	for (unsigned i = 0; i < d->ncalled; i++)
		if (!is_called(pf, d->called[i]))
			return false;
	return true;
}

/* The PFs that d means, or that there are, for people. */
static void list(struct planner *p, const struct vf_declared_pf *d, char *buf, size_t len)
{
	*buf = 0;
	for (unsigned i = 0; i < p->inv->npfs; i++) {
		const struct vf_pf *pf = &p->inv->pf[i];

		if (!d || vf_pf_is_meant(pf, d))
			more(buf, len, "%s%s (%s%s%04x:%04x%s%s)", *buf ? ", " : "", vf_text(pf->dev.bdf).s, pf->dev.netdev, *pf->dev.netdev ? ", " : "",
			     pf->dev.vendor, pf->dev.device, *pf->port ? ", " : "", pf->port);
	}
}

static int not_one(struct planner *p, const struct vf_declared_pf *d, unsigned found)
{
	char all[VF_WHY_MAX / 2], name[VF_CALLED_MAX * VF_NAME_MAX + 8] = "";

	for (unsigned i = 0; i < d->ncalled; i++)
		more(name, sizeof(name), "%s%s", i ? " and " : "", d->called[i]);
	list(p, found ? d : NULL, all, sizeof(all));
	if (found)
		return fail(p, -EEXIST, d->line, d->column, "several PFs are called %s: %s; name one more exactly, or say pf every ...", name, all);
	return fail(p, -ENODEV, d->line, d->column, "no PF is called %s; %s%s", name, *all ? "there is " : "there is none with SR-IOV: look at pvio vf list",
		    all);
}

/* ---- one PF ---- */

static struct vf_plan_pf *planned(struct vf_plan *plan, const struct vf_pf *pf)
{
	for (unsigned i = 0; i < plan->npfs; i++)
		if (plan->pf[i].pf == pf)
			return &plan->pf[i];
	return NULL;
}

/* VFs must be gone before there can be another number of them: is any used? */
static int check_users(struct planner *p, const struct vf_plan_pf *pp)
{
	const struct vf_declared_pf *d = pp->declared;
	char users[VF_WHY_MAX * 3 / 5] = "";
	unsigned nr = 0;

	for (unsigned i = 0; i < pp->pf->nvfs; i++) {
		const struct vf *vf = &pp->pf->vf[i];

		if (vf->in_use)
			more(users, sizeof(users), "%sVF %u (%s): %s", nr++ ? "; " : "", vf->index, vf_text(vf->dev.bdf).s, vf->used_by);
	}
	if (!nr)
		return 0;
	return fail(p, -EBUSY, d->line, d->column, "%s has %u VFs: all of them go before there can be %u, and %s in use: %s; take %s away first",
		    vf_text(pp->pf->dev.bdf).s, pp->from, pp->to, nr > 1 ? "some are" : "one is", users, nr > 1 ? "them" : "it");
}

static int check_pf(struct planner *p, const struct vf_plan_pf *pp)
{
	const struct vf_declared_pf *d = pp->declared;
	const struct vf_dev *dev = &pp->pf->dev;
	unsigned said = 0;

	if (pp->to > pp->pf->total)
		return fail(p, -ERANGE, d->line, d->column, "%s can have %u VFs at most, not %u", vf_text(dev->bdf).s, pp->pf->total, pp->to);
	for (unsigned i = 0; i < pp->to; i++)
		said |= pp->vf[i].want.set;
	if (said && !*dev->netdev)
		return fail(p, -EOPNOTSUPP, d->line, d->column, "%s has no network interface%s%s, so its VFs have no settings: %s", vf_text(dev->bdf).s,
			    *dev->driver ? " with its driver " : ", nor a driver", dev->driver,
			    pp->pf->kind == VF_KIND_NET ? "load the driver of this NIC" : "leave the vf lines out");
	return pp->from && pp->from != pp->to ? check_users(p, pp) : 0;
}

static void plan_number(struct planner *p, struct vf_plan_pf *pp)
{
	pp->from = pp->pf->num;
	pp->to = pp->declared->nvfs;
	if (p->flags & VF_PLAN_SETTINGS || (p->flags & VF_PLAN_LENIENT && pp->from))
		pp->to = pp->from;
	pp->probe = !(p->flags & VF_PLAN_SETTINGS) && pp->declared->says_autoprobe && pp->declared->autoprobe != pp->pf->autoprobe;
}

/* May its settings be touched? Not while it is being wiped, or is out of use. A stranger's VF has what the stranger gave it. */
static bool may_set(const struct planner *p, const struct vf *vf)
{
	enum vf_state state = vf->record.state;

	if (state == VF_RELEASING || state == VF_QUARANTINED)
		return false;
	return state != VF_FREE || !vf->in_use || !(p->flags & VF_PLAN_LENIENT);
}

static struct vf_settings declared_settings(const struct vf_pf *pf, const struct vf_declared_pf *d, unsigned index, const char *seed)
{
	struct vf_settings v = d->vf[index].want;

	if (d->vf[index].mac_auto) {
		vf_mac_make(seed, pf->dev.bdf, index, v.mac);
		v.set |= 1 << VF_MAC;
	}
	return v;
}

static void plan_vf(struct planner *p, struct vf_plan_pf *pp, unsigned index)
{
	const struct vf *vf = pp->from == pp->to && index < pp->pf->nvfs ? &pp->pf->vf[index] : NULL;
	struct vf_plan_vf *v = &pp->vf[index];

	v->want = declared_settings(pp->pf, pp->declared, index, p->seed);
	v->keys = v->want.set;
	if (!vf)
		return;
	v->is = vf->is;
	if (vf->record.state != VF_FREE)
		vf_settings_merge(&v->want, &vf->record.settings);
	if (!may_set(p, vf))
		v->keys = 0;
	else
		v->keys = p->flags & VF_PLAN_FORCE ? v->want.set : vf_settings_differ(&v->want, &v->is);
}

static int plan_pf(struct planner *p, const struct vf_pf *pf, const struct vf_declared_pf *d)
{
	struct vf_plan_pf *pp = planned(p->plan, pf);

	if (pp)
		return fail(p, -EEXIST, d->line, d->column, "%s is the pf of line %u as well: declare it once", vf_text(pf->dev.bdf).s,
			    pp->declared->line);
	pp = &p->plan->pf[p->plan->npfs++];
	*pp = (struct vf_plan_pf){ .pf = pf, .declared = d };
	plan_number(p, pp);
	pp->vf = calloc(pp->to ? pp->to : 1, sizeof(*pp->vf));
	if (!pp->vf)
		return -ENOMEM;
	for (unsigned i = 0; i < pp->to && i < d->nvfs; i++)
		plan_vf(p, pp, i);
	pp->keep = vf_kept_json(pf, d, p->seed);
	return check_pf(p, pp);
}

static int plan_declared(struct planner *p, const struct vf_declared_pf *d)
{
	unsigned found = 0;
	int rc = 0;

	for (unsigned i = 0; i < p->inv->npfs; i++)
		found += vf_pf_is_meant(&p->inv->pf[i], d);
	if (!found && p->flags & VF_PLAN_LENIENT)
		return 0;
	if (!found || (found > 1 && !d->every))
		return not_one(p, d, found);
	for (unsigned i = 0; rc == 0 && i < p->inv->npfs; i++)
		if (vf_pf_is_meant(&p->inv->pf[i], d))
			rc = plan_pf(p, &p->inv->pf[i], d);
	return rc;
}

/* ---- MACs ---- */

void vf_mac_make(const char *seed, struct vf_bdf pf, unsigned index, uint8_t mac[6])
{
	char text[256];
	uint64_t h = 0xcbf29ce484222325; /* FNV-1a */

	snprintf(text, sizeof(text), "%u %s %s", index, vf_text(pf).s, seed);
	for (const char *s = text; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3;
	h ^= h >> 32;
	for (int i = 0; i < 6; i++, h >>= 8)
		mac[i] = (uint8_t)h;
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 2);
}

/* Whose address is it, of all but VF `index` of `but`? Text for people, or NULL. What is planned counts, then what is there. */
static const char *owner_of(struct planner *p, const uint8_t mac[6], const struct vf_plan_pf *but, unsigned index, char *buf, size_t len)
{
	for (unsigned i = 0; i < p->inv->npfs; i++) {
		const struct vf_pf *pf = &p->inv->pf[i];
		const struct vf_plan_pf *pp = planned(p->plan, pf);
		unsigned nr = pp ? pp->to : pf->nvfs;

		if (!memcmp(pf->mac, mac, 6)) {
			snprintf(buf, len, "PF %s (%s)", vf_text(pf->dev.bdf).s, pf->dev.netdev);
			return buf;
		}
		for (unsigned n = 0; n < nr; n++) {
			const struct vf_settings *v = pp && pp->vf[n].want.set & 1 << VF_MAC ? &pp->vf[n].want : pp ? &pp->vf[n].is : &pf->vf[n].is;

			if (!(pp == but && n == index) && v->set & 1 << VF_MAC && !memcmp(v->mac, mac, 6)) {
				snprintf(buf, len, "VF %u of %s", n, vf_text(pf->dev.bdf).s);
				return buf;
			}
		}
	}
	return NULL;
}

static int check_macs(struct planner *p, const struct vf_plan_pf *pp)
{
	static const uint8_t none[6];
	char whose[80], text[32];

	for (unsigned i = 0; i < pp->to && i < pp->declared->nvfs; i++) {
		const struct vf_settings *want = &pp->vf[i].want;
		const struct vf_declared_vf *d = &pp->declared->vf[i];

		if (!(want->set & 1 << VF_MAC) || !memcmp(want->mac, none, 6) || !owner_of(p, want->mac, pp, i, whose, sizeof(whose)))
			continue;
		vf_settings_text(want, VF_MAC, text, sizeof(text));
		return fail(p, -EADDRINUSE, d->mac_line, d->mac_column, "%s for VF %u of %s is the address of %s: two would answer to it; give another",
			    text, i, vf_text(pp->pf->dev.bdf).s, whose);
	}
	return 0;
}

/* ---- the plan ---- */

int vf_plan_make(const struct vf_inventory *inv, const struct vf_declared *d, const char *seed, unsigned flags, struct vf_plan *out,
		 struct vf_why *why)
{
	struct planner p = { inv, seed, flags, out, why };
	int rc = 0;

	*out = (struct vf_plan){ .pf = calloc(inv->npfs ? inv->npfs : 1, sizeof(*out->pf)) };
	if (!out->pf)
		return -ENOMEM;
	for (unsigned i = 0; rc == 0 && i < d->npfs; i++)
		rc = plan_declared(&p, &d->pf[i]);
	for (unsigned i = 0; rc == 0 && !(flags & VF_PLAN_LENIENT) && i < out->npfs; i++)
		rc = check_macs(&p, &out->pf[i]);
	return rc;
}

void vf_plan_free(struct vf_plan *plan)
{
	for (unsigned i = 0; i < plan->npfs; i++) {
		free(plan->pf[i].vf);
		json_object_put(plan->pf[i].keep);
		json_object_put(plan->pf[i].kept);
	}
	free(plan->pf);
	*plan = (struct vf_plan){ 0 };
}

/* A PF without VFs needs nothing kept. */
bool vf_plan_pf_known(const struct vf_plan_pf *p)
{
	return p->declared->nvfs ? json_object_equal(p->keep, p->kept) : !p->kept;
}

bool vf_plan_pf_idle(const struct vf_plan_pf *p)
{
	for (unsigned i = 0; i < p->to; i++)
		if (p->vf[i].keys)
			return false;
	return p->from == p->to && !p->probe && vf_plan_pf_known(p);
}

/* ---- for people ---- */

void vf_settings_line(const struct vf_settings *v, unsigned keys, char *buf, size_t len)
{
	char value[32];

	*buf = 0;
	for (int k = 0; k < VF_KEYS; k++) {
		if (!(keys & v->set & 1u << k))
			continue;
		vf_settings_text(v, k, value, sizeof(value));
		more(buf, len, "%s%s %s", *buf ? " " : "", vf_key_name(k), value);
	}
}

static unsigned keys_lacked(const struct vf_pf *pf, unsigned keys)
{
	unsigned lacked = 0;

	for (int k = 0; k < VF_KEYS; k++)
		lacked |= pf->supports[k] == VF_NO ? keys & 1u << k : 0;
	return lacked;
}

static void tell_pf(const struct vf_plan_pf *p, vf_told *told, void *arg)
{
	char text[VF_WHY_MAX], line[VF_WHY_MAX / 2], lacked[VF_WHY_MAX / 4];
	const struct vf_dev *dev = &p->pf->dev;

	if (p->from != p->to)
		snprintf(text, sizeof(text), "%s (%s): %u VFs, %u now", vf_text(dev->bdf).s, dev->netdev, p->to, p->from);
	else
		snprintf(text, sizeof(text), "%s (%s): %u VFs%s%s", vf_text(dev->bdf).s, dev->netdev, p->to,
			 vf_plan_pf_known(p) ? "" : ", to be kept so", vf_plan_pf_idle(p) ? ", nothing to do" : "");
	told(arg, text);
	if (p->probe)
		told(arg, p->declared->autoprobe ? "  autoprobe on: VFs made from now on get this machine's driver" : "  autoprobe off: VFs made from now on get no driver");
	for (unsigned i = 0; i < p->to; i++) {
		unsigned keys = p->vf[i].keys;

		if (!keys)
			continue;
		vf_settings_line(&p->vf[i].want, keys, line, sizeof(line));
		vf_settings_line(&p->vf[i].want, keys_lacked(p->pf, keys), lacked, sizeof(lacked));
		snprintf(text, sizeof(text), "  VF %u: %s%s%s%s", i, line, *lacked ? " (the device will refuse " : "", lacked, *lacked ? ")" : "");
		told(arg, text);
	}
}

void vf_plan_tell(const struct vf_plan *plan, vf_told *told, void *arg)
{
	for (unsigned i = 0; i < plan->npfs; i++)
		tell_pf(&plan->pf[i], told, arg);
}

/* Those of v that are in keys. */
static struct json_object *only(const struct vf_settings *v, unsigned keys)
{
	struct vf_settings some = *v;

	some.set &= keys;
	return vf_settings_json(&some);
}

static struct json_object *json_pf(const struct vf_plan_pf *p)
{
	struct json_object *o = json_object_new_object(), *vfs = json_object_new_array(), *vf;

	json_object_object_add(o, "pf", json_object_new_string(vf_text(p->pf->dev.bdf).s));
	json_object_object_add(o, "netdev", json_object_new_string(p->pf->dev.netdev));
	json_object_object_add(o, "from", json_object_new_int((int)p->from));
	json_object_object_add(o, "to", json_object_new_int((int)p->to));
	if (p->probe)
		json_object_object_add(o, "autoprobe", json_object_new_boolean(p->declared->autoprobe));
	json_object_object_add(o, "keep", json_object_new_boolean(!vf_plan_pf_known(p)));
	for (unsigned i = 0; i < p->to; i++) {
		if (!p->vf[i].keys)
			continue;
		vf = json_object_new_object();
		json_object_object_add(vf, "vf", json_object_new_int((int)i));
		json_object_object_add(vf, "set", only(&p->vf[i].want, p->vf[i].keys));
		json_object_object_add(vf, "lacked", only(&p->vf[i].want, keys_lacked(p->pf, p->vf[i].keys)));
		json_object_array_add(vfs, vf);
	}
	json_object_object_add(o, "vfs", vfs);
	return o;
}

struct json_object *vf_plan_json(const struct vf_plan *plan)
{
	struct json_object *o = json_object_new_object(), *pfs = json_object_new_array();
	bool idle = true;

	for (unsigned i = 0; i < plan->npfs; i++) {
		idle = idle && vf_plan_pf_idle(&plan->pf[i]);
		json_object_array_add(pfs, json_pf(&plan->pf[i]));
	}
	json_object_object_add(o, "idle", json_object_new_boolean(idle));
	json_object_object_add(o, "pfs", pfs);
	return o;
}

/* ---- what is kept ---- */

/* By its address, and by what it is: another card in the same slot is another PF. MACs as they were made up, without owners' settings. */
struct json_object *vf_kept_json(const struct vf_pf *pf, const struct vf_declared_pf *d, const char *seed)
{
	struct json_object *o = json_object_new_object(), *called = json_object_new_array(), *vfs = json_object_new_array();
	char id[10];

	snprintf(id, sizeof(id), "%04x:%04x", pf->dev.vendor, pf->dev.device);
	json_object_array_add(called, json_object_new_string(vf_text(pf->dev.bdf).s));
	json_object_array_add(called, json_object_new_string(id));
	json_object_object_add(o, "called", called);
	if (d->says_autoprobe)
		json_object_object_add(o, "autoprobe", json_object_new_boolean(d->autoprobe));
	for (unsigned i = 0; i < d->nvfs; i++) {
		struct json_object *vf = json_object_new_object();
		struct vf_settings v = declared_settings(pf, d, i, seed);

		json_object_object_add(vf, "settings", vf_settings_json(&v));
		if (*d->vf[i].pool)
			json_object_object_add(vf, "pool", json_object_new_string(d->vf[i].pool));
		json_object_array_add(vfs, vf);
	}
	json_object_object_add(o, "vf", vfs);
	return o;
}

static int parse_vf(struct json_object *o, struct vf_declared_vf *out)
{
	struct json_object *v = NULL;

	if (!json_object_object_get_ex(o, "settings", &v) || vf_settings_from_json(&out->want, v, NULL) < 0)
		return -EBADMSG;
	if (json_object_object_get_ex(o, "pool", &v))
		snprintf(out->pool, sizeof(out->pool), "%s", json_object_get_string(v));
	return 0;
}

int vf_kept_parse(struct json_object *o, struct vf_declared_pf *out)
{
	struct json_object *called = NULL, *vfs = NULL, *autoprobe = NULL;
	int rc = 0;

	*out = (struct vf_declared_pf){ 0 };
	if (!json_object_object_get_ex(o, "called", &called) || !json_object_is_type(called, json_type_array) ||
	    !json_object_object_get_ex(o, "vf", &vfs) || !json_object_is_type(vfs, json_type_array) ||
	    json_object_array_length(called) > VF_CALLED_MAX || json_object_array_length(vfs) > VF_VFS_MAX)
		return -EBADMSG;
	for (; out->ncalled < json_object_array_length(called); out->ncalled++)
		snprintf(out->called[out->ncalled], VF_NAME_MAX, "%s", json_object_get_string(json_object_array_get_idx(called, out->ncalled)));
	out->says_autoprobe = json_object_object_get_ex(o, "autoprobe", &autoprobe);
	out->autoprobe = json_object_get_boolean(autoprobe);
	out->nvfs = (unsigned)json_object_array_length(vfs);
	out->vf = calloc(out->nvfs ? out->nvfs : 1, sizeof(*out->vf));
	if (!out->vf)
		return -ENOMEM;
	for (unsigned i = 0; rc == 0 && i < out->nvfs; i++)
		rc = parse_vf(json_object_array_get_idx(vfs, i), &out->vf[i]);
	return rc;
}
