/* xen_assign.c - a virtual function is given to a guest of Xen, step by step, and taken back. See xen.h.
 *
 * Theory of operation. A step is in the record before it is taken, and its undoing may be done when it was not: so whoever has the
 * record, be it the process that took the step or the one after it, undoes from there down. Domids are used again, so what is undone with a
 * domain is undone only while it is the same one; when a domain ends, Xen takes all of it back by itself.
 */
#include "xen.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xen/xen.h>

enum { PAGE_BITS = 12, BARS = 6, IO_PORTS = 0x100 /* of a resource's flags */, UUID_TEXT = 33 };

struct job {
	struct vf_sys *s;
	struct vf_xen *x;
	struct vf_record *r;
};

typedef int step_do(const struct job *j);

static step_do quarantine, unquarantine, assign, deassign, allow_bars, deny_bars, no_irqs, unmap_irqs;

/* In this order. What the record has is the last one that may have begun. */
enum step { NOTHING, QUARANTINE, ASSIGN, MEMORY, IRQS, XL /* instead of all others */, STEPS };

static const struct {
	const char *name, *cannot; /* "it cannot be ..." */
	step_do *act, *undo;
} steps[STEPS] = {
	[NOTHING] = { "nothing", "nothing", NULL, NULL },
	[QUARANTINE] = { "quarantine", "put into quarantine", quarantine, unquarantine },
	[ASSIGN] = { "assign", "assigned", assign, deassign },
	[MEMORY] = { "bars", "given with its registers", allow_bars, deny_bars },
	[IRQS] = { "irqs", "given with its interrupts", no_irqs, unmap_irqs }, /* the guest asks for them when it wants them */
	[XL] = { "xl", "given by xl", NULL, NULL },
};

static uint32_t sbdf_of(struct vf_bdf b)
{
	return (uint32_t)b.domain << 16 | b.bus << 8 | b.slot << 3 | b.fn;
}

/* ---- what the record keeps for us: {"step": "bars", "uuid": "...", "pirqs": [16, 17]} ---- */

static struct json_object *kept(const struct vf_record *r, const char *key)
{
	struct json_object *xen = NULL, *v = NULL;

	if (r->more && json_object_object_get_ex(r->more, "xen", &xen))
		json_object_object_get_ex(xen, key, &v);
	return v;
}

static void keep(struct vf_record *r, const char *key, struct json_object *v)
{
	struct json_object *xen = NULL;

	if (!r->more)
		r->more = json_object_new_object();
	if (!json_object_object_get_ex(r->more, "xen", &xen)) {
		xen = json_object_new_object();
		json_object_object_add(r->more, "xen", xen);
	}
	json_object_object_add(xen, key, v);
}

static enum step step_of(const struct vf_record *r)
{
	const char *name = json_object_get_string(kept(r, "step"));

	for (enum step i = QUARANTINE; name && i < STEPS; i++)
		if (strcmp(name, steps[i].name) == 0)
			return i;
	return NOTHING;
}

static void set_step(struct vf_record *r, enum step step)
{
	if (step != NOTHING)
		keep(r, "step", json_object_new_string(steps[step].name));
	else if (r->more)
		json_object_object_del(r->more, "xen");
}

static int note(const struct job *j, enum vf_state state, enum step step)
{
	set_step(j->r, step);
	return vf_record_step(j->s, j->r, state, vf_state_under_way(state) ? steps[step].name : "");
}

static void uuid_text(const uint8_t uuid[16], char text[UUID_TEXT])
{
	for (int i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", uuid[i]);
}

bool vf_xen_begun(const struct vf_record *r)
{
	return step_of(r) != NOTHING;
}

/* ---- the steps, and their undoing ---- */

static int quarantine(const struct job *j)
{
	return j->x->ops->assign(j->x, DOMID_IO, sbdf_of(j->r->vf));
}

static int unquarantine(const struct job *j)
{
	int rc = j->x->ops->deassign(j->x, DOMID_IO, sbdf_of(j->r->vf));

	return rc == -ENODEV ? 0 : rc; /* it was not in it */
}

static int assign(const struct job *j)
{
	return j->x->ops->assign(j->x, j->r->domid, sbdf_of(j->r->vf));
}

/* From a domain that does not have it nothing can be taken: that is fine. */
static int deassign(const struct job *j)
{
	int rc = j->x->ops->deassign(j->x, j->r->domid, sbdf_of(j->r->vf));

	return rc < 0 && j->x->ops->is_free(j->x, sbdf_of(j->r->vf)) == 0 ? 0 : rc;
}

/* A BAR is a line of `resource`: first and last address, and what it is. All of them are tried: the first error counts. */
static int each_bar(const struct job *j, bool allow)
{
	char text[VF_ATTR_MAX * 4], *at = text, *line;
	unsigned long long start, end, flags;
	int rc = vf_pci_read(j->s, j->r->vf, "resource", text, sizeof(text)), first = 0;

	if (rc < 0)
		return rc;
	for (int i = 0; i < BARS && (line = strsep(&at, "\n")); i++) {
		if (sscanf(line, "%llx %llx %llx", &start, &end, &flags) != 3 || end <= start || flags & IO_PORTS)
			continue;
		rc = j->x->ops->memory(j->x, j->r->domid, start >> PAGE_BITS, (end >> PAGE_BITS) - (start >> PAGE_BITS) + 1, allow);
		first = first ? first : rc;
		vf_sys_changed(j->s);
	}
	return first;
}

static int allow_bars(const struct job *j)
{
	return each_bar(j, true);
}

static int deny_bars(const struct job *j)
{
	return each_bar(j, false);
}

static int no_irqs(const struct job *j)
{
	(void)j;
	return 0;
}

static int unmap_irqs(const struct job *j)
{
	struct json_object *a = kept(j->r, "pirqs");
	int first = 0;

	for (size_t i = 0; a && i < json_object_array_length(a); i++) {
		int rc = j->x->ops->irq_unmap(j->x, j->r->domid, json_object_get_int(json_object_array_get_idx(a, i)));

		if (rc < 0 && rc != -EINVAL && rc != -ENOENT) /* those: it was not mapped */
			first = first ? first : rc;
	}
	if (first == 0)
		keep(j->r, "pirqs", NULL);
	return first;
}

/* ---- there ---- */

static const char *no_iommu(int rc)
{
	return rc == -ENODEV || rc == -EOPNOTSUPP || rc == -ENOSYS ? "; has this host an IOMMU that is turned on (VT-d, AMD-Vi)?" : "";
}

/* For which domain: into the record, if it is there. */
static int begin(const struct job *j, uint16_t domid, struct vf_xen_domain *d, struct vf_why *why)
{
	int rc = j->x->ops->look(j->x, domid, d);
	char uuid[UUID_TEXT];

	if (rc == -ESRCH || (rc == 0 && d->dying))
		return vf_fail(why, -ESRCH, "VF %s: domain %u is %s", vf_text(j->r->vf).s, domid, rc ? "not there" : "ending");
	if (rc < 0)
		return vf_fail(why, rc, "VF %s: cannot ask Xen about domain %u: %s", vf_text(j->r->vf).s, domid, strerror(-rc));
	uuid_text(d->uuid, uuid);
	keep(j->r, "uuid", json_object_new_string(uuid));
	j->r->domid = domid;
	return 0;
}

/* Nothing was begun after all. */
static int forget(const struct job *j, int rc)
{
	set_step(j->r, NOTHING);
	j->r->domid = -1;
	return rc;
}

/* What can have no VF, and why, is of Xen 4.17. */
static int check_type(const struct job *j, const struct vf_xen_domain *d, struct vf_why *why)
{
	char vf[VF_BDF_TEXT];
	int domid = j->r->domid;

	vf_bdf_text(j->r->vf, vf);
	if (d->type == VF_XEN_PVH)
		return vf_fail(why, -EOPNOTSUPP, "VF %s: domain %d is PVH, and Xen 4.17 gives PVH guests no PCI: its virtual PCI (vPCI) is for "
			       "domain 0 alone; a PV guest can have the VF, and this one a vif", vf, domid);
	if (d->type == VF_XEN_HVM)
		return vf_fail(why, -EOPNOTSUPP, "VF %s: domain %d is HVM, where its device model has to show the VF: a guest of xl can have it",
			       vf, domid);
	return 0;
}

static int check_device(const struct job *j, struct vf_why *why)
{
	struct vf_bdf b = j->r->vf;
	int rc;

	if (b.domain)
		return vf_fail(why, -EOPNOTSUPP, "VF %s: it is in PCI segment %u, and libxenctrl maps interrupts of segment 0 alone",
			       vf_text(b).s, b.domain);
	rc = j->x->ops->is_free(j->x, sbdf_of(b));
	if (rc == -EBUSY)
		return vf_fail(why, rc, "VF %s: Xen says that another guest has it", vf_text(b).s);
	return rc < 0 ? vf_fail(why, rc, "VF %s: Xen does not know it: %s%s", vf_text(b).s, strerror(-rc), no_iommu(rc)) : 0;
}

static int explain(const struct job *j, enum step step, int rc, struct vf_why *why)
{
	if (step == ASSIGN && (rc == -EOPNOTSUPP || rc == -EINVAL || rc == -ENOSYS))
		return vf_fail(why, rc, "VF %s: domain %d was made without an IOMMU (%s); make the guest with `pvio guest create ... --passthrough`",
			       vf_text(j->r->vf).s, j->r->domid, strerror(-rc));
	return vf_fail(why, rc, "VF %s: it cannot be %s for domain %d: %s%s", vf_text(j->r->vf).s, steps[step].cannot, j->r->domid, strerror(-rc),
		       step == QUARANTINE ? no_iommu(rc) : "");
}

static int take(const struct job *j, enum step step, struct vf_why *why)
{
	int rc = note(j, VF_ASSIGNING, step);

	if (rc < 0)
		return vf_fail(why, rc, "VF %s: cannot record that it is given to domain %d: %s", vf_text(j->r->vf).s, j->r->domid, strerror(-rc));
	rc = steps[step].act(j);
	vf_sys_changed(j->s);
	return rc < 0 ? explain(j, step, rc, why) : 0;
}

static int give_up(const struct job *j, int error, struct vf_why *why)
{
	struct vf_why also;
	int rc = vf_xen_deassign(j->s, j->x, j->r, &also);

	if (rc == 0)
		rc = vf_xen_unquarantine(j->s, j->x, j->r, &also);
	if (rc < 0 && why)
		snprintf(why->text + strlen(why->text), sizeof(why->text) - strlen(why->text), "; and then: %s", also.text);
	return error;
}

int vf_xen_assign(struct vf_sys *s, struct vf_xen *x, struct vf_record *r, uint16_t domid, struct vf_why *why)
{
	const struct job j = { .s = s, .x = x, .r = r };
	struct vf_xen_domain d;
	int rc = begin(&j, domid, &d, why);

	if (rc == 0)
		rc = check_type(&j, &d, why);
	if (rc == 0)
		rc = check_device(&j, why);
	if (rc < 0)
		return forget(&j, rc);
	for (enum step step = QUARANTINE; step <= MEMORY; step++) {
		rc = take(&j, step, why);
		if (rc < 0)
			return give_up(&j, rc, why);
	}
	rc = note(&j, VF_ASSIGNED, MEMORY);
	return rc < 0 ? give_up(&j, vf_fail(why, rc, "VF %s: cannot record that domain %u has it: %s", vf_text(r->vf).s, domid, strerror(-rc)), why) : 0;
}

int vf_xen_assign_xl(struct vf_sys *s, struct vf_xen *x, struct vf_record *r, uint16_t domid, struct vf_why *why)
{
	const struct job j = { .s = s, .x = x, .r = r };
	struct vf_xen_domain d;
	int rc = begin(&j, domid, &d, why);

	if (rc == 0) {
		rc = note(&j, VF_ASSIGNING, XL);
		if (rc < 0)
			vf_fail(why, rc, "VF %s: cannot record that it is given to domain %u: %s", vf_text(r->vf).s, domid, strerror(-rc));
	}
	if (rc < 0)
		return rc;
	rc = x->ops->xl(x, true, domid, vf_text(r->vf).s, why);
	vf_sys_changed(s);
	if (rc == 0 && note(&j, VF_ASSIGNED, XL) < 0)
		rc = vf_fail(why, -EIO, "VF %s: cannot record that domain %u has it", vf_text(r->vf).s, domid);
	return rc < 0 ? give_up(&j, rc, why) : 0;
}

/* ---- interrupts ---- */

/* Xen chooses the number, so it is in the record after: one that is lost in between ends with the guest. */
int vf_xen_irq_map(struct vf_sys *s, struct vf_xen *x, struct vf_record *r, unsigned entry, uint64_t table)
{
	const struct job j = { .s = s, .x = x, .r = r };
	struct json_object *a = kept(r, "pirqs");
	int pirq, rc;

	if (r->state != VF_ASSIGNED)
		return -ENODEV;
	rc = x->ops->irq_map(x, r->domid, sbdf_of(r->vf), entry, table, &pirq);
	vf_sys_changed(s);
	if (rc < 0)
		return rc;
	if (!a)
		keep(r, "pirqs", a = json_object_new_array());
	json_object_array_add(a, json_object_new_int(pirq));
	rc = note(&j, VF_ASSIGNED, IRQS);
	if (rc == 0)
		return pirq;
	json_object_array_del_idx(a, json_object_array_length(a) - 1, 1);
	x->ops->irq_unmap(x, r->domid, pirq);
	return rc;
}

int vf_xen_irqs_unmap(struct vf_sys *s, struct vf_xen *x, struct vf_record *r)
{
	const struct job j = { .s = s, .x = x, .r = r };
	int rc;

	if (step_of(r) != IRQS)
		return 0;
	rc = unmap_irqs(&j);
	vf_sys_changed(s);
	return rc < 0 ? rc : note(&j, r->state, MEMORY);
}

/* ---- and back ---- */

int vf_xen_alive(struct vf_xen *x, const struct vf_record *r)
{
	const char *uuid = json_object_get_string(kept(r, "uuid"));
	char now[UUID_TEXT];
	struct vf_xen_domain d;
	int rc = r->domid < 0 ? -ESRCH : x->ops->look(x, r->domid, &d);

	if (rc < 0)
		return rc == -ESRCH ? 0 : rc;
	uuid_text(d.uuid, now);
	return !d.dying && uuid && strcmp(uuid, now) == 0;
}

/* Undo one step, which the record has. */
static int undo(const struct job *j, struct vf_why *why)
{
	enum step step = step_of(j->r);
	int rc = note(j, VF_DETACHING, step);

	if (rc == 0) {
		rc = steps[step].undo(j);
		vf_sys_changed(j->s);
		if (rc < 0)
			return vf_fail(why, rc, "VF %s: Xen does not take back from domain %d what it has of it (%s): %s; it stays out of use until that "
				       "domain ends", vf_text(j->r->vf).s, j->r->domid, steps[step].name, strerror(-rc));
		set_step(j->r, step - 1); /* recorded with the next one; until then it would be undone twice, which is fine */
	}
	return rc < 0 ? vf_fail(why, rc, "VF %s: cannot record that it is taken from domain %d: %s", vf_text(j->r->vf).s, j->r->domid, strerror(-rc)) : 0;
}

/* Its domain is gone, and Xen took it back: early on the way, if it is still on it. */
static int is_left(const struct job *j, struct vf_why *why)
{
	int rc = j->x->ops->is_free(j->x, sbdf_of(j->r->vf));

	return rc < 0 ? vf_fail(why, rc, "VF %s: domain %d, which had it, is gone or ending, and Xen has not taken it back yet (%s); try again",
				vf_text(j->r->vf).s, j->r->domid, strerror(-rc)) : 0;
}

/* libxl leaves it in Xen's quarantine, or not, as Xen was started. */
static int undo_xl(const struct job *j, struct vf_why *why)
{
	int rc = note(j, VF_DETACHING, XL);

	rc = rc < 0 ? vf_fail(why, rc, "VF %s: cannot record that it is taken from domain %d: %s", vf_text(j->r->vf).s, j->r->domid, strerror(-rc)) :
		      j->x->ops->xl(j->x, false, j->r->domid, vf_text(j->r->vf).s, why);
	vf_sys_changed(j->s);
	if (rc < 0 && j->x->ops->is_free(j->x, sbdf_of(j->r->vf)) == 0)
		rc = 0; /* it did not have it */
	return rc;
}

int vf_xen_deassign(struct vf_sys *s, struct vf_xen *x, struct vf_record *r, struct vf_why *why)
{
	const struct job j = { .s = s, .x = x, .r = r };
	int rc = step_of(r) > QUARANTINE ? vf_xen_alive(x, r) : 1;

	if (rc < 0)
		return vf_fail(why, rc, "VF %s: cannot ask Xen about domain %d: %s", vf_text(r->vf).s, r->domid, strerror(-rc));
	if (rc == 0) {
		rc = is_left(&j, why);
	} else if (step_of(r) == XL) {
		rc = undo_xl(&j, why);
	} else {
		for (rc = 0; rc == 0 && step_of(r) > QUARANTINE; )
			rc = undo(&j, why);
	}
	if (rc < 0)
		return rc;
	r->domid = -1;
	rc = note(&j, VF_CLAIMED, step_of(r) == NOTHING ? NOTHING : QUARANTINE);
	return rc < 0 ? vf_fail(why, rc, "VF %s: cannot record that no domain has it: %s", vf_text(r->vf).s, strerror(-rc)) : 0;
}

int vf_xen_unquarantine(struct vf_sys *s, struct vf_xen *x, struct vf_record *r, struct vf_why *why)
{
	const struct job j = { .s = s, .x = x, .r = r };
	int rc;

	if (step_of(r) == NOTHING)
		return 0;
	rc = step_of(r) == QUARANTINE ? unquarantine(&j) : -EBUSY;
	if (rc < 0)
		return vf_fail(why, rc, "VF %s: it cannot be taken out of Xen's quarantine: %s", vf_text(r->vf).s, strerror(-rc));
	vf_sys_changed(s);
	rc = note(&j, r->state, NOTHING);
	return rc < 0 ? vf_fail(why, rc, "VF %s: cannot record that it is out of Xen's quarantine: %s", vf_text(r->vf).s, strerror(-rc)) : 0;
}
