/* release.c - a VF on its way back: detached, wiped, reset, proven clean, and what it was before.
 *
 * Each step may be taken again, so a release that was cut short is taken again from its beginning. Until the proof no driver can bind
 * the VF (bind.c gives it an override that no driver is called by), which stays so if there is none: then it is in quarantine.
 */
#include "declare.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAS "was" /* in a record's `more`: the settings with which it came back */

enum { RESET_MS = 10000 };

static const struct vf_release_how as_usual = { .reset = "", .reset_ms = RESET_MS };

/* ---- its settings ---- */

/* What it had before anything was wiped, whoever began to. */
static void note_settings(struct vf_record *r, const struct vf_settings *is)
{
	if (!r->more)
		r->more = json_object_new_object();
	if (!json_object_object_get_ex(r->more, WAS, NULL))
		json_object_object_add(r->more, WAS, vf_settings_json(is));
}

/* The settings of a VF that comes back. */
struct coming_back {
	struct vf_settings was, is, declared;
	unsigned left; /* what is still its owner's */
};

static int read_declared(struct vf_sys *s, const struct vf_record *r, struct vf_settings *out, struct vf_why *why)
{
	struct vf_declared_pf kept;
	int rc = vf_kept_read(s, r->pf, &kept);

	*out = r->index < kept.nvfs ? kept.vf[r->index].want : (struct vf_settings){ 0 };
	free(kept.vf);
	return rc < 0 && rc != -ENOENT ? vf_fail(why, rc, "VF %s: what is declared for it in %s cannot be read; apply its file again",
						 vf_text(r->vf).s, s->state) : 0;
}

static int look_at_settings(struct vf_sys *s, const struct vf_pf *pf, const struct vf_record *r, struct coming_back *c, struct vf_why *why)
{
	struct json_object *o;
	int rc = read_declared(s, r, &c->declared, why);

	rc = rc < 0 ? rc : vf_settings_now(s, pf, r->index, &c->is, why);
	c->was = (struct vf_settings){ 0 };
	if (r->more && json_object_object_get_ex(r->more, WAS, &o))
		vf_settings_from_json(&c->was, o, NULL);
	c->left = rc < 0 ? 0 : vf_settings_left(&c->is, &c->declared, &c->was);
	return rc;
}

/* All that can be wiped is; the first refusal is told: it counts if what was refused is there to be seen afterwards. */
static void wipe_settings(struct vf_sys *s, const struct vf_pf *pf, const struct vf_record *r, struct vf_why *refusal)
{
	struct vf_settings clean;
	unsigned left, done, no;
	struct coming_back c;

	if (!*pf->dev.netdev || look_at_settings(s, pf, r, &c, refusal) < 0)
		return;
	vf_settings_default(&clean, c.left);
	vf_settings_merge(&clean, &c.declared);
	for (left = c.left; left; left &= ~(done | no)) {
		done = no = 0;
		vf_nl_set(s, pf, r->index, &clean, left, &c.is, &done, &no, *refusal->text ? NULL : refusal);
		if (!(done | no))
			break;
	}
}

static int check_settings(struct vf_sys *s, const struct vf_pf *pf, const struct vf_record *r, const struct vf_why *refusal, struct vf_why *why)
{
	struct coming_back c;
	char text[32];
	enum vf_key key;
	int rc;

	if (!*pf->dev.netdev)
		return 0;
	rc = look_at_settings(s, pf, r, &c, why);
	if (rc < 0 || !c.left)
		return rc;
	key = __builtin_ctz(c.left);
	vf_settings_text(&c.is, key, text, sizeof(text));
	return vf_fail(why, -EBUSY, "VF %s is not clean: its %s is still %s%s%s", vf_text(r->vf).s, vf_key_name(key), text, *refusal->text ? ": " : "",
		       refusal->text);
}

/* ---- the way back ---- */

int vf_make_clean(struct vf_sys *s, const struct vf_pf *pf, struct vf_record *r, const struct vf_release_how *how, struct vf_why *why)
{
	struct vf_why refusal = { "" };
	int rc = vf_conf_silence(s, r->vf);

	how = how ? how : &as_usual;
	if (rc < 0)
		return vf_fail(why, rc, "VF %s: it cannot be silenced: its configuration space cannot be written: %s", vf_text(r->vf).s, strerror(-rc));
	wipe_settings(s, pf, r, &refusal); /* before the reset: what that brings back is seen */
	rc = vf_reset(s, r, how->reset, how->reset_ms, why);
	rc = rc < 0 ? rc : vf_conf_check(s, r->vf, why);
	return rc < 0 ? rc : check_settings(s, pf, r, &refusal, why);
}

/* Before anything is put back, so that nobody has it who should not. */
static int way_back(struct vf_sys *s, const struct vf_pf *pf, struct vf_record *r, const struct vf_release_how *how, struct vf_why *why)
{
	int rc = vf_detach(s, r, why);

	rc = rc < 0 ? rc : vf_make_clean(s, pf, r, how, why);
	rc = rc < 0 ? rc : vf_reset_put_back(s, r);
	return rc < 0 ? rc : vf_unbind(s, r, why);
}

static int quarantine(struct vf_sys *s, struct vf_record *r, const struct vf_why *why)
{
	r->state = VF_QUARANTINED;
	r->domid = -1;
	snprintf(r->why, sizeof(r->why), "%s", why->text);
	return vf_record_save(s, r);
}

static int go_back(struct vf_sys *s, const struct vf_pf *pf, struct vf_record *r, const struct vf_release_how *how, struct vf_why *why)
{
	struct vf_why what = { "" };
	int rc = way_back(s, pf, r, how, &what);

	if (rc == 0) {
		rc = vf_record_step(s, r, VF_FREE, "");
		return rc < 0 ? vf_fail(why, rc, "VF %s is clean, but its record cannot be removed: %s", vf_text(r->vf).s, strerror(-rc)) : 0;
	}
	quarantine(s, r, &what);
	return vf_fail(why, rc, "%s; it is kept in quarantine", what.text);
}

int vf_unused(const struct vf_record *r, const struct vf *vf, struct vf_why *why)
{
	if (r->state == VF_ASSIGNED || r->state == VF_ASSIGNING || r->state == VF_DETACHING)
		return vf_fail(why, -EBUSY, "VF %s is in guest %s; detach it there first", vf_text(r->vf).s, r->owner);
	if (r->state == VF_CLAIMED && *vf->open_by) /* its driver would wait for them without end */
		return vf_fail(why, -EBUSY, "VF %s is in use by %s; end that first", vf_text(r->vf).s, vf->open_by);
	return 0;
}

static int release_found(struct vf_sys *s, const struct vf_inventory *inv, struct vf_record *r, const struct vf_release_how *how, struct vf_why *why)
{
	struct vf_pf *pf;
	struct vf *vf = vf_find_vf(inv, r->vf, &pf);
	int rc;

	if (!vf) /* its PF has made others since, or none */
		return vf_record_step(s, r, VF_FREE, "");
	rc = vf_unused(r, vf, why);
	if (rc < 0)
		return rc;
	note_settings(r, &vf->is);
	rc = vf_record_step(s, r, VF_RELEASING, "release");
	if (rc < 0)
		return vf_fail(why, rc, "VF %s: cannot write down that it is released: %s", vf_text(r->vf).s, strerror(-rc));
	return go_back(s, pf, r, how, why);
}

int vf_release(struct vf_sys *s, struct vf_record *r, const struct vf_release_how *how, struct vf_why *why)
{
	struct vf_inventory inv;
	int rc = vf_inventory(s, VF_INV_USERS, &inv, why);

	rc = rc < 0 ? rc : release_found(s, &inv, r, how, why);
	vf_inventory_free(&inv);
	return rc;
}

/* ---- what killed processes left ---- */

/* Its driver was being changed: that is finished, or it has none. */
static int finish_bind(struct vf_sys *s, struct vf_record *r, struct vf_why *why)
{
	int rc = vf_bind(s, r, r->driver, why);

	if (rc < 0) {
		*r->driver = '\0';
		vf_detach(s, r, NULL);
	}
	return vf_record_step(s, r, VF_CLAIMED, "");
}

int vf_release_undo(struct vf_sys *s, struct vf_record *r, void *arg, struct vf_why *why)
{
	int rc;

	(void)arg;
	if (r->state == VF_CLAIMING && strcmp(r->step, VF_STEP_BIND) == 0)
		return finish_bind(s, r, why);
	if (r->state != VF_CLAIMING && r->state != VF_RELEASING)
		return 0;
	rc = vf_release(s, r, NULL, why);
	return r->state == VF_QUARANTINED ? 0 : rc; /* that is an end as well */
}
