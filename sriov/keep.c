/* keep.c - what was applied is made so again: after a boot, after somebody changed the number of VFs, after the PF was reset.
 *
 * It is planned and applied as a file is, but nothing is taken from anybody. Most changes are ours: a look that finds everything as it
 * shall be costs one reading. Some are not to be seen: a PF that was reset, or taken down and up, says what it was told, whatever the
 * hardware still knows of it; then everything is set again. */
#include "declare.h"
#include <errno.h>
#include <linux/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what is kept ---- */

int vf_kept_read(struct vf_sys *s, struct vf_bdf pf, struct vf_declared_pf *out)
{
	char name[VF_NAME_MAX];
	struct json_object *o;
	int rc;

	*out = (struct vf_declared_pf){ 0 };
	snprintf(name, sizeof(name), "pf-%s.json", vf_text(pf).s);
	rc = vf_file_read(s, name, &o);
	if (rc < 0)
		return rc;
	rc = vf_kept_parse(o, out);
	json_object_put(o);
	if (rc < 0) {
		free(out->vf);
		out->vf = NULL;
	}
	return rc;
}

static bool is_kept(const char *name, struct vf_bdf *out)
{
	char text[VF_BDF_TEXT];

	if (strncmp(name, "pf-", 3) || strlen(name) != 3 + VF_BDF_TEXT - 1 + 5 || strcmp(name + 3 + VF_BDF_TEXT - 1, ".json"))
		return false;
	snprintf(text, sizeof(text), "%s", name + 3);
	return vf_bdf_parse(text, out) == 0;
}

int vf_kept_list(struct vf_sys *s, struct vf_bdf **out)
{
	struct vf_names names;
	int n = vf_sys_names(s, &names, "%s", s->state + strlen(s->root)), found = 0;

	*out = NULL;
	if (n < 0)
		return n == -ENOENT ? 0 : n;
	*out = calloc(n ? n : 1, sizeof(**out));
	for (int i = 0; *out && i < n; i++)
		found += is_kept(names.name[i], &(*out)[found]);
	vf_names_free(&names);
	return *out ? found : -ENOMEM;
}

/* ---- one VF ---- */

int vf_keep_settings(struct vf_sys *s, const struct vf_pf *pf, unsigned index, struct vf_settings *out)
{
	struct vf_declared_pf kept;
	struct vf_record record;
	int rc = vf_kept_read(s, pf->dev.bdf, &kept);

	*out = (struct vf_settings){ 0 };
	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (index < kept.nvfs)
		*out = kept.vf[index].want;
	free(kept.vf);
	if (index < pf->nvfs && vf_record_read(s, pf->vf[index].dev.bdf, &record) == 0) {
		if (record.state != VF_FREE && record.state != VF_RELEASING)
			vf_settings_merge(out, &record.settings);
		vf_record_close(&record);
	}
	return 0;
}

/* ---- a PF ---- */

/* Some devices take rates only while the port has a link, which at boot it seldom has: it makes an event when it comes. */
static bool wants_link(const struct vf_plan *plan, const struct vf_applied *done)
{
	for (unsigned i = 0; i < done->nrefused; i++)
		if (done->refused[i].index < 0 || done->refused[i].keys & ~(1u << VF_MIN_RATE | 1 << VF_MAX_RATE))
			return false;
	return plan->npfs && !plan->pf[0].pf->carrier;
}

static int keep_locked(struct vf_sys *s, struct vf_declared_pf *kept, unsigned what, vf_told *told, void *arg, struct vf_why *why)
{
	unsigned flags = VF_PLAN_LENIENT | (what & VF_KEEP_NUMBER ? 0 : VF_PLAN_SETTINGS) | (what & VF_KEEP_FORCE ? VF_PLAN_FORCE : 0);
	struct vf_declared d = { 1, kept };
	struct vf_applied done = { 0 };
	struct vf_inventory inv;
	struct vf_plan plan;
	int rc = vf_plan_look(s, &d, flags, &inv, &plan, why);

	if (rc == 0)
		rc = vf_apply(s, &plan, 0, told, arg, &done, why);
	if (rc == -EREMOTEIO && wants_link(&plan, &done))
		rc = 0;
	vf_applied_free(&done);
	vf_plan_free(&plan);
	vf_inventory_free(&inv);
	return rc;
}

int vf_keep_pf(struct vf_sys *s, struct vf_bdf pf, unsigned what, vf_told *told, void *arg, struct vf_why *why)
{
	struct vf_declared_pf kept;
	int lock = vf_apply_lock(s, 0, why), rc;

	if (lock < 0)
		return lock;
	rc = vf_kept_read(s, pf, &kept);
	if (rc < 0)
		rc = rc == -ENOENT ? 0 : vf_fail(why, rc, "%s: what is kept of it in %s cannot be read; apply its file again", vf_text(pf).s, s->state);
	else
		rc = keep_locked(s, &kept, what, told, arg, why);
	free(kept.vf);
	close(lock);
	return rc;
}

int vf_keep_all(struct vf_sys *s, unsigned what, vf_told *told, void *arg, struct vf_why *why)
{
	struct vf_bdf *pf;
	int n = vf_kept_list(s, &pf), failed = 0;

	if (n < 0)
		return vf_fail(why, n, "cannot read %s: %s", s->state, strerror(-n));
	for (int i = 0; i < n; i++) {
		struct vf_why detail;

		if (vf_keep_pf(s, pf[i], what, told, arg, &detail) < 0) {
			failed++;
			told(arg, detail.text);
		}
	}
	free(pf);
	return failed;
}

/* ---- events ---- */

/* Its netdev may come and go with the PF's driver. */
static void look_at_netdev(struct vf_keeper *k, struct vf_watched *w)
{
	struct vf_names names;
	int64_t n;

	w->ifindex = 0;
	if (vf_sys_names(k->s, &names, "/sys/bus/pci/devices/%s/net", vf_text(w->pf).s) > 0) {
		if (vf_sys_number(k->s, &n, "/sys/class/net/%s/ifindex", names.name[0]) == 0)
			w->ifindex = (unsigned)n;
		w->up = vf_sys_number(k->s, &n, "/sys/class/net/%s/flags", names.name[0]) == 0 && n & IFF_UP;
		w->carrier = vf_sys_number(k->s, &n, "/sys/class/net/%s/carrier", names.name[0]) == 0 && n;
	}
	vf_names_free(&names);
}

static struct vf_watched *watched(struct vf_keeper *k, struct vf_bdf pf)
{
	for (unsigned i = 0; i < k->npfs; i++)
		if (vf_bdf_equal(k->pf[i].pf, pf))
			return &k->pf[i];
	return NULL;
}

/* Which PFs are kept, if that has changed since; what is due of those that stay, stays so. */
static void refresh(struct vf_keeper *k)
{
	struct vf_keeper now = *k;
	struct vf_bdf *bdf;
	struct stat st = { 0 };
	int n;

	stat(k->s->state, &st);
	if (st.st_mtim.tv_sec == k->changed.tv_sec && st.st_mtim.tv_nsec == k->changed.tv_nsec)
		return;
	n = vf_kept_list(k->s, &bdf);
	now.pf = n < 0 ? NULL : calloc(n ? n : 1, sizeof(*now.pf));
	now.changed = st.st_mtim;
	now.npfs = now.pf ? (unsigned)n : 0;
	for (unsigned i = 0; i < now.npfs; i++) {
		struct vf_watched *was = watched(k, bdf[i]);

		now.pf[i] = was ? *was : (struct vf_watched){ .pf = bdf[i] };
		if (!now.pf[i].ifindex) /* else its events say how it is, one after the other */
			look_at_netdev(&now, &now.pf[i]);
	}
	free(bdf);
	if (!now.pf)
		return;
	free(k->pf);
	*k = now;
}

void vf_keeper_open(struct vf_keeper *k, struct vf_sys *s, vf_told *told, void *arg)
{
	*k = (struct vf_keeper){ .s = s, .told = told, .arg = arg };
	refresh(k);
}

void vf_keeper_close(struct vf_keeper *k)
{
	free(k->pf);
	*k = (struct vf_keeper){ 0 };
}

static void make_due(struct vf_watched *w, unsigned what)
{
	w->due = true;
	w->what |= what;
}

/* The value of NAME= in a uevent, "" if it is not there. The last string may lack its end. */
static const char *value(const char *buf, size_t len, const char *name)
{
	size_t n = strlen(name);

	for (const char *s = buf, *end; s < buf + len; s = end + 1) {
		end = memchr(s, 0, (size_t)(buf + len - s));
		if (!end)
			return "";
		if ((size_t)(end - s) > n && !memcmp(s, name, n) && s[n] == '=')
			return s + n + 1;
	}
	return "";
}

void vf_keeper_uevent(struct vf_keeper *k, const char *buf, size_t len)
{
	const char *action = value(buf, len, "ACTION");
	char text[VF_NAME_MAX];
	struct vf_watched *w;
	struct vf_bdf bdf;

	if (strcmp(value(buf, len, "SUBSYSTEM"), "pci") || vf_bdf_parse(value(buf, len, "PCI_SLOT_NAME"), &bdf) < 0)
		return;
	refresh(k);
	w = watched(k, bdf);
	if (w && !strcmp(action, "bind")) { /* the PF's driver: it begins without VFs */
		look_at_netdev(k, w);
		make_due(w, VF_KEEP_NUMBER | VF_KEEP_FORCE);
	} else if (w && !strcmp(value(buf, len, "ERROR_EVENT"), "SUCCESSFUL_RECOVERY")) {
		make_due(w, VF_KEEP_NUMBER | VF_KEEP_FORCE);
	} else if (w && !strcmp(action, "change")) { /* its number of VFs */
		make_due(w, 0);
	} else if (!w && !strcmp(action, "add") && vf_pci_link(k->s, bdf, "physfn", text, sizeof(text)) > 0 && vf_bdf_parse(text, &bdf) == 0) {
		w = watched(k, bdf); /* of a VF */
		if (w)
			make_due(w, 0);
	}
}

void vf_keeper_link(struct vf_keeper *k, unsigned ifindex, unsigned flags, bool ours)
{
	bool up = flags & IFF_UP, carrier = flags & IFF_LOWER_UP;

	refresh(k);
	for (unsigned i = 0; i < k->npfs; i++) {
		struct vf_watched *w = &k->pf[i];

		if (w->ifindex != ifindex)
			continue;
		if (!ours || up != w->up || carrier != w->carrier)
			make_due(w, up && !w->up ? VF_KEEP_FORCE : 0);
		w->up = up;
		w->carrier = carrier;
	}
}

void vf_keeper_missed(struct vf_keeper *k)
{
	refresh(k);
	for (unsigned i = 0; i < k->npfs; i++) {
		look_at_netdev(k, &k->pf[i]);
		make_due(&k->pf[i], VF_KEEP_FORCE);
	}
}

bool vf_keeper_due(const struct vf_keeper *k)
{
	for (unsigned i = 0; i < k->npfs; i++)
		if (k->pf[i].due)
			return true;
	return false;
}

int vf_keeper_work(struct vf_keeper *k)
{
	for (unsigned i = 0; i < k->npfs; i++) {
		struct vf_watched *w = &k->pf[i];
		struct vf_why why;
		int rc;

		if (!w->due)
			continue;
		rc = vf_keep_pf(k->s, w->pf, w->what, k->told, k->arg, &why);
		if (rc == -EBUSY)
			return rc;
		if (rc < 0)
			k->told(k->arg, why.text);
		w->due = false;
		w->what = 0;
	}
	return 0;
}
