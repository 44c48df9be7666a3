/* pool.c - who gets which VF: one that is free and fits, under its lock, so that no two ever get the same.
 *
 * Theory of operation. The inventory, which may be out of date, only says in which order to ask. What counts is the record, read under the
 * VF's lock, which the kernel takes back from a killed process. VFs whose lock somebody has are passed over at first, and waited for
 * when no other is left: who has the lock may be giving the VF back. Before a VF is touched it is recorded as being claimed, with what it
 * was before: vf_recover gives it back if this process does not get further.
 */
#include "declare.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WAIT_MS = 15000 }; /* for somebody's reset */

/* ---- which ---- */

enum fit { FITS, NOT_MEANT, TAKEN, QUARANTINED, FOREIGN, FITS_END };

static bool is_any(struct vf_bdf bdf)
{
	return vf_bdf_equal(bdf, (struct vf_bdf){ 0 });
}

static bool is_meant(const struct vf_want *w, const struct vf_pf *pf, const struct vf *vf, const char *pool)
{
	for (int i = 0; i < VF_KEYS; i++)
		if ((w->must_support & 1u << i) && pf->supports[i] == VF_NO)
			return false;
	if ((!is_any(w->pf) && !vf_bdf_equal(w->pf, pf->dev.bdf)) || (w->numa >= 0 && w->numa != pf->dev.numa))
		return false;
	return is_any(w->vf) ? strcmp(w->pool, pool) == 0 : vf_bdf_equal(w->vf, vf->dev.bdf) && (!*w->pool || strcmp(w->pool, pool) == 0);
}

static bool has_namespaces(struct vf_sys *s, struct vf_bdf vf)
{
	struct vf_names controllers, names;
	bool found = false;

	vf_sys_names(s, &controllers, "/sys/bus/pci/devices/%s/nvme", vf_text(vf).s);
	for (unsigned c = 0; c < controllers.nr; c++) {
		vf_sys_names(s, &names, "/sys/bus/pci/devices/%s/nvme/%s", vf_text(vf).s, controllers.name[c]);
		for (unsigned i = 0; i < names.nr; i++)
			found |= strncmp(names.name[i], "nvme", 4) == 0; /* nvme1n1, nvme1c1n1 */
		vf_names_free(&names);
	}
	vf_names_free(&controllers);
	return found;
}

/* May its driver be taken from it? This machine's own, that it does nothing with: a network interface (that it is down the inventory knows), an
 * NVMe controller without a disk. What others do with it nobody here knows. */
static bool is_idle(struct vf_sys *s, enum vf_kind kind, struct vf_bdf vf, const char *driver)
{
	if (!*driver)
		return true;
	return !vf_driver_passes(driver) && (kind == VF_KIND_NET || (kind == VF_KIND_NVME && !has_namespaces(s, vf)));
}

/* What its owner had before the machine was started anew is given to him again, and made again. */
static bool is_his_again(struct vf_sys *s, const struct vf_want *w, const struct vf_record *r)
{
	return r->state == VF_CLAIMED && strcmp(r->owner, w->owner) == 0 && vf_record_stale(s, r);
}

static enum fit fit_of(struct vf_sys *s, const struct vf_want *w, const struct vf_pf *pf, const struct vf *vf, const char *pool)
{
	if (!is_meant(w, pf, vf, pool))
		return NOT_MEANT;
	if (vf->record.state == VF_QUARANTINED)
		return QUARANTINED;
	if (vf->record.state == VF_RELEASING || is_his_again(s, w, &vf->record))
		return FITS; /* soon, or still */
	if (vf->record.state != VF_FREE || vf->in_use)
		return TAKEN;
	return is_idle(s, pf->kind, vf->dev.bdf, vf->dev.driver) ? FITS : FOREIGN;
}

/* Lower is better: his already, not on its way back, without a driver, on a PF with few VFs in use. */
static unsigned rank(const struct vf_pf *pf, const struct vf *vf)
{
	unsigned used = 0;

	if (vf->record.state == VF_CLAIMED)
		return 0;

	for (unsigned i = 0; i < pf->nvfs; i++)
		used += pf->vf[i].record.state != VF_FREE;
	return (vf->record.state == VF_RELEASING ? 1 << 17 : 0) + (*vf->dev.driver ? 1 << 16 : 0) + used;
}

struct candidate {
	const struct vf_pf *pf;
	const struct vf *vf;
	unsigned rank;
	char pool[VF_NAME_MAX];
	bool busy; /* somebody had its lock */
};

static int by_rank(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return x->rank != y->rank ? (x->rank < y->rank ? -1 : 1) : (x->vf > y->vf) - (x->vf < y->vf);
}

/* One call of vf_claim. */
struct claim {
	struct vf_sys *s;
	const struct vf_want *want;
	struct vf_inventory inv;
	struct candidate *list; /* those that fit, best first */
	unsigned count[FITS_END]; /* by enum fit; of the list: FITS */
	struct vf_record *out;
	int rc; /* of what could not be: 0, or the first -errno, and its reason */
	struct vf_why why;
};

static int add_candidates(struct claim *c, const struct vf_pf *pf)
{
	struct vf_declared_pf kept;
	int rc = vf_kept_read(c->s, pf->dev.bdf, &kept);

	if (rc < 0 && rc != -ENOENT)
		return vf_fail(&c->why, rc, "PF %s: what is declared for it in %s cannot be read; apply its file again", vf_text(pf->dev.bdf).s, c->s->state);
	for (unsigned i = 0; i < pf->nvfs; i++) {
		const char *pool = i < kept.nvfs ? kept.vf[i].pool : "";
		enum fit fit = fit_of(c->s, c->want, pf, &pf->vf[i], pool);
		struct candidate *at = &c->list[c->count[FITS]];

		c->count[fit]++;
		if (fit != FITS)
			continue;
		*at = (struct candidate){ pf, &pf->vf[i], rank(pf, &pf->vf[i]) };
		snprintf(at->pool, sizeof(at->pool), "%s", pool);
	}
	free(kept.vf);
	return 0;
}

static int find_candidates(struct claim *c)
{
	unsigned all = 1;

	for (unsigned p = 0; p < c->inv.npfs; p++)
		all += c->inv.pf[p].nvfs;
	c->list = calloc(all, sizeof(*c->list));
	if (!c->list)
		return vf_fail(&c->why, -ENOMEM, "no memory for %u VFs", all);
	for (unsigned p = 0; p < c->inv.npfs && c->rc == 0; p++)
		c->rc = add_candidates(c, &c->inv.pf[p]);
	qsort(c->list, c->count[FITS], sizeof(*c->list), by_rank);
	return c->rc;
}

/* ---- one VF ---- */

static int configure(struct vf_sys *s, const struct vf_pf *pf, const struct vf_record *r, struct vf_why *why)
{
	struct vf_settings want, is;
	int rc;

	rc = vf_keep_settings(s, pf, r->index, &want); /* as declared, and as its owner wants it */
	if (rc < 0)
		return vf_fail(why, rc, "VF %s: what is declared for it in %s cannot be read; apply its file again", vf_text(r->vf).s, s->state);
	if (!want.set)
		return 0;
	if (!*pf->dev.netdev)
		return vf_fail(why, -EOPNOTSUPP, "VF %s: PF %s has no network interface, so the VF has no settings", vf_text(r->vf).s, vf_text(r->pf).s);
	rc = vf_settings_now(s, pf, r->index, &is, why);
	return rc < 0 ? rc : vf_nl_set(s, pf, r->index, &want, vf_settings_differ(&want, &is), &is, NULL, NULL, why);
}

/* A VF that had a driver, or does not look untouched, is made clean as one that comes back. */
static int prepare(struct vf_sys *s, const struct vf_pf *pf, struct vf_record *r, struct vf_why *why)
{
	int rc;

	if (*r->driver_before ? !*r->driver || strcmp(r->driver, r->driver_before) == 0 : vf_conf_check(s, r->vf, NULL) == 0)
		return 0;
	rc = vf_detach(s, r, why);
	rc = rc < 0 ? rc : vf_make_clean(s, pf, r, NULL, why);
	return rc < 0 || *r->driver ? rc : vf_unbind(s, r, why);
}

static int take_steps(struct vf_sys *s, const struct vf_pf *pf, struct vf_record *r, struct vf_why *why)
{
	int rc = prepare(s, pf, r, why);

	rc = rc < 0 ? rc : configure(s, pf, r, why); /* first: a network driver asks for its MAC when it is bound */
	rc = rc < 0 || !*r->driver ? rc : vf_bind(s, r, r->driver, why);
	if (rc < 0)
		return rc;
	rc = vf_record_step(s, r, VF_CLAIMED, "");
	return rc < 0 ? vf_fail(why, rc, "VF %s: cannot write down that %s has it: %s", vf_text(r->vf).s, r->owner, strerror(-rc)) : 0;
}

static void keep_first(struct claim *c, int rc, const struct vf_why *why)
{
	if (c->rc == 0) {
		c->rc = rc;
		c->why = *why;
	}
}

/* What it is now, under its lock: is it still as the inventory had it? */
static bool look_again(struct claim *c, const struct candidate *at)
{
	struct vf_record *r = c->out;

	if ((r->state != VF_FREE && !is_his_again(c->s, c->want, r)) || !vf_pci_has(c->s, r->vf, "physfn") || vf_driver(c->s, r->vf, r->driver_before) < 0 ||
	    vf_override(c->s, r->vf, r->override_before) < 0 || !is_idle(c->s, at->pf->kind, r->vf, r->driver_before))
		return false;
	json_object_put(r->more);
	r->more = NULL;
	r->pf = at->pf->dev.bdf;
	r->index = at->vf->index;
	r->settings = c->want->settings;
	snprintf(r->owner, sizeof(r->owner), "%s", c->want->owner);
	snprintf(r->pool, sizeof(r->pool), "%s", at->pool);
	return true;
}

/* May it be so? Then it is written down: for vfio under a lock of its group, whose others somebody may be claiming. */
static int begin(struct claim *c, const struct candidate *at, struct vf_why *why)
{
	struct vf_record *r = c->out;
	char group[VF_NAME_MAX];
	int lock = -1, rc = *c->want->driver ? vf_driver_find(c->s, r->vf, c->want->driver, r->driver, why) : 0;

	if (rc == 0 && vf_driver_isolates(r->driver)) {
		snprintf(group, sizeof(group), "group-%d", at->vf->dev.group);
		lock = at->vf->dev.group < 0 ? -1 : vf_lock(c->s, group, WAIT_MS);
		rc = vf_group_viable(c->s, &c->inv, at->vf, r->owner, why);
	}
	if (rc == 0) {
		rc = vf_record_step(c->s, r, VF_CLAIMING, VF_STEP_CLAIM);
		if (rc < 0)
			vf_fail(why, rc, "VF %s: cannot write down who has it: %s", vf_text(r->vf).s, strerror(-rc));
	}
	if (lock >= 0)
		close(lock);
	return rc;
}

enum taken { TOOK, GONE, LOCKED, UNFIT, FAILED };

/* Claim this one. GONE: it is not free any more; LOCKED: somebody works on it; UNFIT: another may do; FAILED: on the way, and undone. */
static enum taken take(struct claim *c, const struct candidate *at, unsigned wait_ms)
{
	struct vf_why why = { "" };
	enum taken took = TOOK;
	int rc = vf_record_open(c->s, at->vf->dev.bdf, wait_ms, c->out, &why);

	if (rc < 0) {
		took = rc == -EBUSY ? LOCKED : UNFIT;
	} else if (!look_again(c, at)) {
		took = GONE;
	} else if ((rc = begin(c, at, &why)) < 0) {
		took = UNFIT;
	} else if ((rc = take_steps(c->s, at->pf, c->out, &why)) < 0) {
		vf_release(c->s, c->out, NULL, NULL);
		took = FAILED;
	}
	if (took != TOOK)
		vf_record_close(c->out);
	if (took >= UNFIT)
		keep_first(c, rc, &why);
	return took;
}

/* Those whose lock was free first, then those that somebody worked on. */
static enum taken take_any(struct claim *c)
{
	enum taken took = GONE;

	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < c->count[FITS]; i++) {
			if (round && !c->list[i].busy)
				continue;
			took = take(c, &c->list[i], round ? WAIT_MS : 0);
			if (took == TOOK || took == FAILED)
				return took;
			c->list[i].busy = took == LOCKED;
		}
	return GONE;
}

/* Why there is none: in numbers, or in words if one VF was asked for. */
static int none_left(struct claim *c, struct vf_why *why)
{
	const struct vf_want *w = c->want;
	struct vf *vf = is_any(w->vf) ? NULL : vf_find_vf(&c->inv, w->vf, NULL);

	if (c->rc < 0)
		return vf_fail(why, c->rc, "%s", c->why.text);
	if (!is_any(w->vf) && !vf)
		return vf_fail(why, -ENODEV, "there is no VF %s", vf_text(w->vf).s);
	if (vf && c->count[QUARANTINED])
		return vf_fail(why, -EBUSY, "VF %s is in quarantine: %s", vf_text(w->vf).s, vf->record.why);
	if (vf && c->count[FOREIGN])
		return vf_fail(why, -EBUSY, "VF %s was bound to %s, but not by pvio: unbind it there first", vf_text(w->vf).s, vf->dev.driver);
	if (vf && c->count[TAKEN])
		return vf_fail(why, -EBUSY, "VF %s is in use: %s", vf_text(w->vf).s, vf->used_by);
	if (c->count[FITS] + c->count[TAKEN] + c->count[QUARANTINED] + c->count[FOREIGN] == 0)
		return vf_fail(why, -ENOENT, "no VF is as %s wants it%s; pvio vf list shows what there is", w->owner,
			       *w->pool ? "" : " (those that are declared to be in a pool are given with --pool)");
	return vf_fail(why, -ENOSPC, "no VF is free for %s: %u in use, %u in quarantine, %u bound by others than pvio; pvio vf list shows them",
		       w->owner, c->count[TAKEN] + c->count[FITS], c->count[QUARANTINED], c->count[FOREIGN]);
}

int vf_claim(struct vf_sys *s, const struct vf_want *want, struct vf_record *out, struct vf_why *why)
{
	struct claim c = { .s = s, .want = want, .out = out };
	int rc = vf_inventory(s, want->must_support ? VF_INV_PROBE : 0, &c.inv, why);

	if (rc == 0) {
		rc = find_candidates(&c);
		rc = rc < 0 ? vf_fail(why, rc, "%s", c.why.text) : take_any(&c) == TOOK ? 0 : none_left(&c, why);
	}
	free(c.list);
	vf_inventory_free(&c.inv);
	return rc;
}

/* ---- another driver ---- */

int vf_rebind(struct vf_sys *s, struct vf_record *r, const char *driver, struct vf_why *why)
{
	char before[VF_NAME_MAX];
	struct vf_inventory inv;
	struct vf *vf;
	int rc = vf_inventory(s, VF_INV_USERS, &inv, why);

	vf = rc < 0 ? NULL : vf_find_vf(&inv, r->vf, NULL);
	if (rc == 0 && !vf)
		rc = vf_fail(why, -ENODEV, "there is no VF %s", vf_text(r->vf).s);
	rc = rc < 0 ? rc : vf_unused(r, vf, why);
	snprintf(before, sizeof(before), "%s", r->driver);
	rc = rc < 0 ? rc : vf_driver_find(s, r->vf, driver, r->driver, why);
	if (rc == 0 && vf_driver_isolates(r->driver))
		rc = vf_group_viable(s, &inv, vf, r->owner, why);
	vf_inventory_free(&inv);
	rc = rc < 0 ? rc : vf_record_step(s, r, VF_CLAIMING, VF_STEP_BIND);
	if (rc < 0)
		return rc;
	rc = vf_bind(s, r, r->driver, why);
	if (rc < 0) { /* as it was */
		snprintf(r->driver, sizeof(r->driver), "%s", before);
		if (*before)
			vf_bind(s, r, before, NULL);
		else
			vf_unbind(s, r, NULL);
	}
	vf_record_step(s, r, VF_CLAIMED, "");
	return rc;
}
