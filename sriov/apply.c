/* apply.c - a plan is done, step by step; what the device refuses is reported, and the rest kept or undone.
 *
 * What is declared is kept before anything is changed, so a process killed at any step leaves a machine that the next one compares
 * with it. While VFs go and come, their records are locked: nobody can be given one. */
#include "declare.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINK_WAIT_MS = 10000, LINK_STEP_MS = 5 };

struct job {
	struct vf_sys *s;
	struct vf_applied *out;
	vf_told *told;
	void *arg;
	unsigned flags; /* of vf_apply */
};

static void tell(const struct job *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void tell(const struct job *j, const char *fmt, ...)
{
	char text[VF_WHY_MAX];
	va_list ap;

	if (!j->told)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	j->told(j->arg, text);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- look ---- */

static void kept_name(char name[VF_NAME_MAX], struct vf_bdf pf)
{
	snprintf(name, VF_NAME_MAX, "pf-%s.json", vf_text(pf).s);
}

static int read_kept(struct vf_sys *s, struct vf_plan *plan, struct vf_why *why)
{
	char name[VF_NAME_MAX];

	for (unsigned i = 0; i < plan->npfs; i++) {
		int rc;

		kept_name(name, plan->pf[i].pf->dev.bdf);
		rc = vf_file_read(s, name, &plan->pf[i].kept);
		if (rc < 0 && rc != -ENOENT && rc != -EBADMSG) /* a damaged one is written anew */
			return vf_fail(why, rc, "cannot read %s/%s: %s", s->state, name, strerror(-rc));
	}
	return 0;
}

/* Would VFs have to go first? Only then it matters who uses them. */
static bool takes_away(const struct vf_inventory *inv, const struct vf_declared *d)
{
	for (unsigned i = 0; i < inv->npfs; i++)
		for (unsigned n = 0; inv->pf[i].num && n < d->npfs; n++)
			if (vf_pf_is_meant(&inv->pf[i], &d->pf[n]) && d->pf[n].nvfs != inv->pf[i].num)
				return true;
	return false;
}

int vf_plan_look(struct vf_sys *s, const struct vf_declared *d, unsigned flags, struct vf_inventory *inv, struct vf_plan *plan, struct vf_why *why)
{
	char seed[VF_ATTR_MAX] = "";
	unsigned ask = flags & VF_PLAN_PROBE ? VF_INV_PROBE : 0;
	int rc = vf_inventory(s, ask, inv, why);

	*plan = (struct vf_plan){ 0 };
	if (rc == 0 && !(flags & (VF_PLAN_LENIENT | VF_PLAN_SETTINGS)) && takes_away(inv, d)) {
		vf_inventory_free(inv);
		rc = vf_inventory(s, ask | VF_INV_USERS, inv, why);
	}
	if (rc < 0)
		return rc;
	vf_sys_read(s, seed, sizeof(seed), "/etc/machine-id"); /* without one, addresses are the same on machines that are alike */
	rc = vf_plan_make(inv, d, seed, flags, plan, why);
	return rc < 0 ? rc : read_kept(s, plan, why);
}

int vf_apply_lock(struct vf_sys *s, unsigned wait_ms, struct vf_why *why)
{
	int fd = vf_lock(s, "apply", wait_ms);

	if (fd == -EBUSY)
		return vf_fail(why, fd, "another process applies declared state of VFs; try again when it is done");
	return fd < 0 ? vf_fail(why, fd, "cannot take the lock in %s: %s", s->state, strerror(-fd)) : fd;
}

/* ---- refusals ---- */

static void refused(struct job *j, const struct vf_plan_pf *pp, int index, unsigned keys, const struct vf_why *why)
{
	struct vf_applied *out = j->out;
	struct vf_refusal *r = realloc(out->refused, (out->nrefused + 1) * sizeof(*r));

	if (r) {
		r[out->nrefused++] = (struct vf_refusal){ pp->pf->dev.bdf, index, keys, *why };
		out->refused = r;
	}
	tell(j, "%s", why->text);
}

/* ---- the number of VFs ---- */

static const char *hint(int rc)
{
	switch (rc) {
	case -ENOMEM: case -ENOSPC: case -EIO: return "; there may be no room on the PCI bus: try the kernel's pci=realloc or pci=assign-busses, or fewer VFs";
	case -ENOSYS: case -ENOENT: return "; its driver makes no VFs: load one that does";
	case -EBUSY: return "; somebody else changes it";
	case -EACCES: case -EPERM: return "; be root";
	default: return "";
	}
}

static int write_number(struct job *j, const struct vf_plan_pf *pp, unsigned n, struct vf_why *why)
{
	uint64_t from = now_ns();
	char text[16];
	int rc;

	snprintf(text, sizeof(text), "%u", n);
	rc = vf_pci_write(j->s, pp->pf->dev.bdf, "sriov_numvfs", text);
	j->out->kernel_ns += now_ns() - from;
	return rc < 0 ? vf_fail(why, rc, "%s (%s): the device refused %u VFs: %s%s", vf_text(pp->pf->dev.bdf).s, pp->pf->dev.driver, n, strerror(-rc),
				hint(rc)) : 0;
}

/* Whether new VFs get this machine's driver: before they are made. */
static int write_autoprobe(struct job *j, const struct vf_plan_pf *pp, bool on, struct vf_why *why)
{
	int rc = vf_pci_write(j->s, pp->pf->dev.bdf, "sriov_drivers_autoprobe", on ? "1" : "0");

	return rc < 0 ? vf_fail(why, rc, "%s: autoprobe cannot be set: %s%s", vf_text(pp->pf->dev.bdf).s, strerror(-rc), hint(rc)) : 0;
}

/* Lock the records of all VFs that are to go, none of which may be somebody's. Returns how many are to be closed. */
static unsigned lock_all(struct job *j, struct vf_bdf pf, struct vf_record *r, unsigned nr, int *rc, struct vf_why *why)
{
	char attr[24], text[VF_NAME_MAX];
	unsigned n = 0;

	for (*rc = 0; *rc == 0 && n < nr; n++) {
		r[n].lock = -1;
		snprintf(attr, sizeof(attr), "virtfn%u", n);
		if (vf_pci_link(j->s, pf, attr, text, sizeof(text)) < 0 || vf_bdf_parse(text, &r[n].vf) < 0)
			continue;
		*rc = vf_record_open(j->s, r[n].vf, 0, &r[n], why);
		if (*rc == 0 && r[n].state != VF_FREE && r[n].state != VF_QUARANTINED)
			*rc = vf_fail(why, -EBUSY, "%s: VF %u (%s) was taken by %s meanwhile; try again when it is free", vf_text(pf).s, n, text,
				      r[n].owner);
	}
	return n;
}

/* To 0, from nr. What was quarantined is gone with it: the VF of that number that comes next is another. */
static int remove_all(struct job *j, const struct vf_plan_pf *pp, unsigned nr, struct vf_why *why)
{
	struct vf_record *r = calloc(nr ? nr : 1, sizeof(*r));
	unsigned locked;
	int rc = 0;

	if (!r)
		return vf_fail(why, -ENOMEM, "out of memory");
	locked = lock_all(j, pp->pf->dev.bdf, r, nr, &rc, why);
	if (rc == 0)
		rc = write_number(j, pp, 0, why);
	for (unsigned i = 0; i < locked; i++) {
		if (rc == 0 && r[i].state == VF_QUARANTINED) {
			r[i].state = VF_FREE;
			vf_record_save(j->s, &r[i]);
		}
		vf_record_close(&r[i]);
	}
	free(r);
	return rc;
}

/* Through 0. Returns an error if nothing was changed; a device that refuses to make them is remembered. */
static int set_number(struct job *j, const struct vf_plan_pf *pp, bool *made, struct vf_why *why)
{
	int rc = pp->from ? remove_all(j, pp, pp->from, why) : 0;

	*made = false;
	if (rc < 0)
		return rc;
	rc = pp->to ? write_number(j, pp, pp->to, why) : 0;
	if (rc < 0) {
		refused(j, pp, -1, 0, why);
		return 0;
	}
	*made = true;
	j->out->numbers++;
	tell(j, "%s (%s): %u VFs, %u before", vf_text(pp->pf->dev.bdf).s, pp->pf->dev.netdev, pp->to, pp->from);
	return 0;
}

/* ---- settings ---- */

static void tell_vf(const struct job *j, const struct vf_pf *pf, unsigned index, const struct vf_settings *v, unsigned keys)
{
	char line[VF_WHY_MAX / 2];

	vf_settings_line(v, keys, line, sizeof(line));
	tell(j, "%s (%s): VF %u: %s", vf_text(pf->dev.bdf).s, pf->dev.netdev, index, line);
}

/* One by one, to see which the device refuses. */
static int set_each(struct job *j, const struct vf_plan_pf *pp, unsigned index, struct vf_why *why)
{
	const struct vf_plan_vf *v = &pp->vf[index];
	unsigned left = v->keys, all_done = 0;
	int rc = -1;

	while (left && rc < 0) {
		unsigned done = 0, no = 0;

		rc = vf_nl_set(j->s, pp->pf, index, &v->want, left, v->is.set ? &v->is : NULL, &done, &no, why);
		all_done |= done;
		left &= ~(done | no);
		if (rc < 0 && !no)
			return rc; /* it is not the device that says no */
		if (rc < 0)
			refused(j, pp, (int)index, no, why);
	}
	j->out->vfs += all_done != 0;
	if (all_done)
		tell_vf(j, pp->pf, index, &v->want, all_done);
	return 0;
}

/* Until the port has its link again. The kernel's event of that comes up to a second late, when it has told of another one just before
 * (link_watch.c), and so it has: hence the looks. */
static bool link_comes(struct vf_sys *s, const struct vf_pf *pf)
{
	const struct timespec step = { .tv_nsec = LINK_STEP_MS * 1000000 };
	int64_t carrier = 0;

	for (int waited = 0; waited < LINK_WAIT_MS; waited += LINK_STEP_MS) {
		if (vf_sys_number(s, &carrier, "/sys/class/net/%s/carrier", pf->dev.netdev) == 0 && carrier)
			return true;
		nanosleep(&step, NULL);
	}
	return false;
}

/* Some devices take a rate only while there is a link, and lose that for a moment when the number changes. */
static bool waits_for_link(const struct job *j, const struct vf_plan_pf *pp)
{
	unsigned keys = 0;

	for (unsigned i = 0; i < pp->to; i++)
		keys |= pp->vf[i].keys;
	return (pp->from != pp->to || j->flags & VF_APPLY_WAIT) && pp->pf->up && keys & (1 << VF_MIN_RATE | 1 << VF_MAX_RATE);
}

/* All VFs of a PF: in one message, and only if something in it is refused one by one. */
static int set_settings(struct job *j, const struct vf_plan_pf *pp, struct vf_why *why)
{
	uint64_t from = now_ns();
	int all = vf_nl_set_all(j->s, pp->pf, pp->vf, pp->to), rc = 0;

	if (all < 0 && waits_for_link(j, pp) && link_comes(j->s, pp->pf))
		all = vf_nl_set_all(j->s, pp->pf, pp->vf, pp->to);
	j->out->kernel_ns += now_ns() - from;
	for (unsigned i = 0; rc == 0 && i < pp->to; i++) {
		if (!pp->vf[i].keys)
			continue;
		if (all < 0) {
			rc = set_each(j, pp, i, why);
			continue;
		}
		j->out->vfs++;
		tell_vf(j, pp->pf, i, &pp->vf[i].want, pp->vf[i].keys);
	}
	return rc;
}

/* ---- keep it in mind ---- */

static int keep(struct job *j, const struct vf_plan_pf *pp, struct json_object *o, struct vf_why *why)
{
	char name[VF_NAME_MAX];
	int rc;

	kept_name(name, pp->pf->dev.bdf);
	rc = o ? vf_file_write(j->s, name, o) : vf_file_remove(j->s, name);
	return rc < 0 ? vf_fail(why, rc, "cannot write %s/%s: %s", j->s->state, name, strerror(-rc)) : 0;
}

/* ---- a PF, and back ---- */

static int apply_pf(struct job *j, const struct vf_plan_pf *pp, struct vf_why *why)
{
	bool made = true;
	int rc = vf_plan_pf_known(pp) ? 0 : keep(j, pp, pp->declared->nvfs ? pp->keep : NULL, why);

	if (rc == 0 && pp->probe)
		rc = write_autoprobe(j, pp, pp->declared->autoprobe, why);
	if (rc == 0 && pp->from != pp->to)
		rc = set_number(j, pp, &made, why);
	if (rc < 0)
		keep(j, pp, pp->kept, NULL);
	return rc == 0 && made ? set_settings(j, pp, why) : rc;
}

/* The settings that were, of as many VFs as there were, where they are others now. */
static int undo_settings(struct job *j, const struct vf_plan_pf *pp, struct vf_why *why)
{
	struct vf_plan_pf back = { .pf = pp->pf, .to = pp->from, .vf = calloc(pp->from ? pp->from : 1, sizeof(*back.vf)) };
	struct vf_settings *now = calloc(pp->from ? pp->from : 1, sizeof(*now));
	int rc = back.vf && now ? 0 : vf_fail(why, -ENOMEM, "out of memory");

	if (rc == 0 && pp->from && pp->pf->ifindex)
		rc = vf_nl_get(j->s, pp->pf, now, NULL, pp->from, why);
	for (unsigned i = 0; rc >= 0 && i < pp->from && i < pp->pf->nvfs; i++) {
		const struct vf_settings *was = &pp->pf->vf[i].is;

		back.vf[i] = (struct vf_plan_vf){ .want = *was, .is = now[i], .keys = vf_settings_differ(was, &now[i]) };
	}
	if (rc >= 0)
		rc = set_settings(j, &back, why);
	free(back.vf);
	free(now);
	return rc;
}

static int undo_pf(struct job *j, const struct vf_plan_pf *pp, struct vf_why *why)
{
	int rc = pp->probe ? write_autoprobe(j, pp, pp->pf->autoprobe, why) : 0;

	if (rc == 0 && pp->from != pp->to)
		rc = remove_all(j, pp, pp->to, why);
	if (rc == 0 && pp->from != pp->to && pp->from)
		rc = write_number(j, pp, pp->from, why);
	if (rc == 0)
		rc = undo_settings(j, pp, why);
	if (rc == 0 && !vf_plan_pf_known(pp))
		rc = keep(j, pp, pp->kept, why);
	return rc;
}

static int undo(struct job *j, const struct vf_plan *plan, unsigned npfs, struct vf_why *why)
{
	struct job quiet = { .s = j->s, .out = &(struct vf_applied){ 0 } };
	struct vf_why detail;
	int rc = 0, one;

	while (npfs--) {
		one = undo_pf(&quiet, &plan->pf[npfs], &detail);
		if (one == 0 && quiet.out->nrefused)
			one = vf_fail(&detail, -EREMOTEIO, "%s", quiet.out->refused[0].why.text);
		if (one < 0 && rc == 0)
			rc = vf_fail(why, one, "%s: not everything could be undone: %.300s", vf_text(plan->pf[npfs].pf->dev.bdf).s, detail.text);
	}
	vf_applied_free(quiet.out);
	j->out->undone = rc == 0;
	return rc;
}

int vf_apply(struct vf_sys *s, struct vf_plan *plan, unsigned flags, vf_told *told, void *arg, struct vf_applied *out, struct vf_why *why)
{
	struct job j = { s, out, told, arg, flags };
	unsigned n = 0;
	int rc = 0;

	*out = (struct vf_applied){ 0 };
	for (; rc == 0 && n < plan->npfs && !(flags & VF_APPLY_UNDO && out->nrefused); n++)
		rc = apply_pf(&j, &plan->pf[n], why);
	if (rc < 0 || !out->nrefused)
		return rc;
	if (flags & VF_APPLY_UNDO) {
		rc = undo(&j, plan, n, why);
		if (rc < 0)
			return rc;
	}
	return vf_fail(why, -EREMOTEIO, "%u settings were refused; %s", out->nrefused, out->undone ? "everything is as it was before" : "the rest is done");
}

void vf_applied_free(struct vf_applied *a)
{
	free(a->refused);
	*a = (struct vf_applied){ 0 };
}

struct json_object *vf_applied_json(const struct vf_applied *a)
{
	struct json_object *o = json_object_new_object(), *all = json_object_new_array();

	json_object_object_add(o, "numbers", json_object_new_int((int)a->numbers));
	json_object_object_add(o, "vfs", json_object_new_int((int)a->vfs));
	for (unsigned i = 0; i < a->nrefused; i++) {
		const struct vf_refusal *r = &a->refused[i];
		struct json_object *one = json_object_new_object(), *keys = json_object_new_array();

		json_object_object_add(one, "pf", json_object_new_string(vf_text(r->pf).s));
		if (r->index >= 0)
			json_object_object_add(one, "vf", json_object_new_int(r->index));
		for (int k = 0; k < VF_KEYS; k++)
			if (r->keys & 1u << k)
				json_object_array_add(keys, json_object_new_string(vf_key_name(k)));
		json_object_object_add(one, "settings", keys);
		json_object_object_add(one, "why", json_object_new_string(r->why.text));
		json_object_array_add(all, one);
	}
	json_object_object_add(o, "refused", all);
	json_object_object_add(o, "undone", json_object_new_boolean(a->undone));
	json_object_object_add(o, "kernel_us", json_object_new_int64((int64_t)(a->kernel_ns / 1000)));
	return o;
}
