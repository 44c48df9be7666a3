/* inventory.c - which physical and virtual functions there are, and who has them.
 *
 * Everything comes from sysfs at the moment of asking, but what the PF's driver says of its VFs (nl.c) and who was given one (record.c).
 * Functions come and go meanwhile: an attribute that is not there any more is an empty one.
 */
#include "declare.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CLASS_NET = 0x02, CLASS_NVME = 0x010802 };

/* ---- one function ---- */

static int64_t number(struct vf_sys *s, struct vf_bdf bdf, const char *attr, int64_t none)
{
	int64_t n;

	return vf_pci_number(s, bdf, attr, &n) < 0 ? none : n;
}

/* The only name in a directory of a function, such as net/ (the first, if a function has several netdevs). "" if there is none. */
static void only_name(struct vf_sys *s, struct vf_bdf bdf, const char *dir, char *buf, size_t len)
{
	struct vf_names names;

	*buf = '\0';
	if (vf_sys_names(s, &names, "/sys/bus/pci/devices/%s/%s", vf_text(bdf).s, dir) > 0)
		snprintf(buf, len, "%s", names.name[0]);
	vf_names_free(&names);
}

static void read_dev(struct vf_sys *s, struct vf_bdf bdf, struct vf_dev *d)
{
	char group[16];

	d->bdf = bdf;
	d->vendor = number(s, bdf, "vendor", 0);
	d->device = number(s, bdf, "device", 0);
	d->class = number(s, bdf, "class", 0);
	d->numa = number(s, bdf, "numa_node", -1);
	d->group = vf_pci_link(s, bdf, "iommu_group", group, sizeof(group)) > 0 ? atoi(group) : -1;
	vf_pci_link(s, bdf, "driver", d->driver, sizeof(d->driver));
	vf_pci_read(s, bdf, "driver_override", d->override, sizeof(d->override));
	if (strcmp(d->override, "(null)") == 0)
		d->override[0] = '\0';
	vf_pci_read(s, bdf, "reset_method", d->reset, sizeof(d->reset));
	only_name(s, bdf, "net", d->netdev, sizeof(d->netdev));
	if (d->class == CLASS_NVME)
		only_name(s, bdf, "nvme", d->nvme, sizeof(d->nvme));
}

/* ---- who has a VF ---- */

/* One that a process has open: /proc/PID/fd/N leads to it. */
struct opener {
	int group;
	int pid;
};

struct openers {
	unsigned nr;
	struct opener *of;
};

static void add_opener(struct openers *o, int group, int pid)
{
	struct opener *more = reallocarray(o->of, o->nr + 1, sizeof(*more));

	if (!more)
		return; /* in_use still knows the driver */
	o->of = more;
	o->of[o->nr++] = (struct opener){ group, pid };
}

static void look_at_process(struct vf_sys *s, const char *pid, struct openers *o)
{
	char vfio[VF_ROOT_MAX + 16], path[VF_PATH_MAX], to[VF_PATH_MAX];
	size_t prefix = snprintf(vfio, sizeof(vfio), "%s/dev/vfio/", s->root);
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/proc/%.16s/fd", s->root, pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, to, sizeof(to) - 1);

		to[n > 0 ? n : 0] = '\0';
		if (strncmp(to, vfio, prefix) == 0 && to[prefix] >= '0' && to[prefix] <= '9')
			add_opener(o, atoi(to + prefix), atoi(pid));
	}
	if (d)
		closedir(d);
}

/* Who has which VFIO group open. Only root sees all of them. */
static void find_openers(struct vf_sys *s, struct openers *o)
{
	struct vf_names pids;

	if (vf_sys_names(s, &pids, "/proc") < 0)
		return;
	for (unsigned i = 0; i < pids.nr; i++)
		if (pids.name[i][0] >= '1' && pids.name[i][0] <= '9')
			look_at_process(s, pids.name[i], o);
	vf_names_free(&pids);
}

static void used(struct vf *v, bool in_use, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void used(struct vf *v, bool in_use, const char *fmt, ...)
{
	size_t n = strlen(v->used_by);
	va_list ap;

	v->in_use |= in_use;
	if (n && n < sizeof(v->used_by) - 2)
		n += snprintf(v->used_by + n, sizeof(v->used_by) - n, "; ");
	va_start(ap, fmt);
	vsnprintf(v->used_by + n, sizeof(v->used_by) - n, fmt, ap);
	va_end(ap);
}

static void used_by_record(struct vf_sys *s, struct vf *v)
{
	const struct vf_record *r = &v->record;

	if (r->state == VF_QUARANTINED)
		used(v, false, "in quarantine: %s", r->why);
	else if (vf_record_stale(s, r))
		used(v, false, "%s, before this machine was started", r->owner);
	else if (r->domid >= 0)
		used(v, true, "guest %s (domain %d)", r->owner, r->domid);
	else
		used(v, true, vf_state_under_way(r->state) ? "%s, under way (%s)" : "%s", r->owner, vf_state_name(r->state));
}

static void used_by_netdev(struct vf_sys *s, struct vf *v)
{
	char master[16];
	int64_t flags = 0;

	if (vf_sys_link(s, master, sizeof(master), "/sys/class/net/%s/master", v->dev.netdev) > 0)
		used(v, true, "netdev %s, in %s", v->dev.netdev, master);
	else if (vf_sys_number(s, &flags, "/sys/class/net/%s/flags", v->dev.netdev) == 0 && (flags & IFF_UP))
		used(v, true, "netdev %s, which is up", v->dev.netdev);
}

static bool is_mounted(struct vf_sys *s, const char *disk)
{
	char line[VF_PATH_MAX], prefix[VF_NAME_MAX];
	int fd = vf_sys_open_file(s, O_RDONLY, "/proc/self/mounts"), n = snprintf(prefix, sizeof(prefix), "/dev/%s", disk);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = strncmp(line, prefix, n) == 0 && (line[n] == ' ' || line[n] == 'p'); /* it, or a partition */
	if (f)
		fclose(f);
	return found;
}

/* Is something built on this disk, or on a partition of it? Then by what. */
static bool is_held(struct vf_sys *s, const char *disk, const char *part, char by[VF_NAME_MAX])
{
	struct vf_names names;

	*by = '\0';
	if (vf_sys_names(s, &names, "/sys/class/block/%s/%s/holders", disk, part) > 0)
		snprintf(by, VF_NAME_MAX, "%s", names.name[0]);
	vf_names_free(&names);
	if (*by || *part)
		return *by;
	vf_sys_names(s, &names, "/sys/class/block/%s", disk);
	for (unsigned i = 0; i < names.nr && !*by; i++)
		if (strncmp(names.name[i], disk, strlen(disk)) == 0)
			is_held(s, disk, names.name[i], by);
	vf_names_free(&names);
	return *by;
}

/* The disks of an NVMe controller, "nvme1n1", that are this machine's by more than being there. */
static void used_by_disks(struct vf_sys *s, struct vf *v)
{
	struct vf_names names;
	char by[VF_NAME_MAX];

	vf_sys_names(s, &names, "/sys/class/nvme/%s", v->dev.nvme);
	for (unsigned i = 0; i < names.nr; i++) {
		const char *disk = names.name[i];

		if (strncmp(disk, "nvme", 4))
			continue;
		if (is_held(s, disk, "", by))
			used(v, true, "disk %s, held by %s", disk, by);
		else if (is_mounted(s, disk))
			used(v, true, "disk %s, which is mounted", disk);
	}
	vf_names_free(&names);
}

static void used_by_process(struct vf_sys *s, struct vf *v, const struct openers *o)
{
	char name[32];

	for (unsigned i = 0; i < o->nr; i++) {
		size_t n = strlen(v->open_by);

		if (o->of[i].group != v->dev.group)
			continue;
		vf_sys_read(s, name, sizeof(name), "/proc/%d/comm", o->of[i].pid);
		snprintf(v->open_by + n, sizeof(v->open_by) - n, "%s%s (pid %d)", n ? ", " : "", *name ? name : "a process", o->of[i].pid);
	}
	if (*v->open_by)
		used(v, true, "%s through vfio", v->open_by);
}

static void find_users(struct vf_sys *s, struct vf *v, const struct openers *o)
{
	if (v->record.state != VF_FREE)
		used_by_record(s, v);
	if (v->dev.netdev[0])
		used_by_netdev(s, v);
	if (v->dev.nvme[0])
		used_by_disks(s, v);
	if (strcmp(v->dev.driver, "vfio-pci") == 0)
		used_by_process(s, v, o);
	/* pciback does not tell whether a guest of xl has it: then it may be so */
	if (strcmp(v->dev.driver, "pciback") == 0 && v->record.state == VF_FREE)
		used(v, true, "pciback: perhaps a guest of xl; not if `xl pci-assignable-list` has it");
}

/* ---- a PF and its VFs ---- */

static void read_netdev(struct vf_sys *s, struct vf_pf *pf)
{
	const char *name = pf->dev.netdev;
	struct vf_settings address = { 0 };
	int64_t n;
	char text[32];

#define NETDEV(attr) "/sys/class/net/%s/" attr, name
	vf_sys_read(s, pf->port, sizeof(pf->port), NETDEV("phys_port_name"));
	vf_sys_read(s, pf->switch_id, sizeof(pf->switch_id), NETDEV("phys_switch_id"));
	vf_sys_read(s, text, sizeof(text), NETDEV("address"));
	if (vf_settings_parse(&address, VF_MAC, text, NULL) == 0)
		memcpy(pf->mac, address.mac, sizeof(pf->mac));
	pf->ifindex = vf_sys_number(s, &n, NETDEV("ifindex")) < 0 ? 0 : n;
	pf->mtu = vf_sys_number(s, &n, NETDEV("mtu")) < 0 ? 0 : n;
	pf->up = vf_sys_number(s, &n, NETDEV("flags")) == 0 && (n & IFF_UP);
	pf->carrier = pf->up && vf_sys_number(s, &n, NETDEV("carrier")) == 0 && n;
	pf->speed = pf->up && vf_sys_number(s, &n, NETDEV("speed")) == 0 && n > 0 ? n : -1;
#undef NETDEV
}

/* What can be known without asking: what it tells of, it has. */
static void find_support(struct vf_sys *s, struct vf_pf *pf, unsigned flags)
{
	if (!pf->ifindex) {
		for (int k = 0; k < VF_KEYS; k++)
			pf->supports[k] = VF_NO;
		return;
	}
	for (unsigned i = 0; i < pf->nvfs; i++) {
		static const enum vf_key told[] = { VF_SPOOFCHK, VF_TRUST, VF_RSS_QUERY }; /* of the others the kernel makes up a value */

		for (int k = 0; k < 3; k++)
			if (pf->vf[i].is.set & 1u << told[k])
				pf->supports[told[k]] = VF_YES;
	}
	if (flags & VF_INV_PROBE)
		vf_nl_probe(s, pf, pf->supports); /* without the privilege: as far as it is known */
}

/* Settings and counters, as far as the PF's driver tells of them: a PF that does not is no error. */
static void read_settings(struct vf_sys *s, struct vf_pf *pf)
{
	struct vf_settings *is = calloc(pf->nvfs, sizeof(*is));
	struct vf_stats *stats = calloc(pf->nvfs, sizeof(*stats));

	if (is && stats && vf_nl_get(s, pf, is, stats, pf->nvfs, NULL) > 0) {
		for (unsigned i = 0; i < pf->nvfs; i++) {
			pf->vf[i].is = is[i];
			pf->vf[i].stats = stats[i];
		}
	}
	free(is);
	free(stats);
}

/* A record that cannot be read may be anybody's: nobody gets this VF until somebody has looked. */
static void read_record(struct vf_sys *s, struct vf *v)
{
	int rc = vf_record_read(s, v->dev.bdf, &v->record);

	if (rc == 0 || rc == -ENOENT)
		return;
	v->record.state = VF_QUARANTINED;
	snprintf(v->record.why, sizeof(v->record.why), "cannot read its record in %s: %s", s->state, rc == -EBADMSG ? "damaged" : strerror(-rc));
}

/* What is kept of this PF; if that cannot be read, whoever needs it says so. */
static void read_declared(struct vf_sys *s, struct vf_pf *pf)
{
	struct vf_declared_pf kept;

	if (vf_kept_read(s, pf->dev.bdf, &kept) < 0)
		return;
	for (unsigned i = 0; i < pf->nvfs && i < kept.nvfs; i++) {
		pf->vf[i].declared = kept.vf[i].want;
		snprintf(pf->vf[i].pool, sizeof(pf->vf[i].pool), "%s", kept.vf[i].pool);
	}
	free(kept.vf);
}

static int read_vfs(struct vf_sys *s, struct vf_pf *pf)
{
	pf->vf = calloc(pf->num ? pf->num : 1, sizeof(*pf->vf));
	if (!pf->vf)
		return -ENOMEM;
	for (unsigned i = 0; i < pf->num; i++) {
		struct vf *v = &pf->vf[pf->nvfs];
		char attr[24], text[VF_NAME_MAX];
		struct vf_bdf bdf;

		snprintf(attr, sizeof(attr), "virtfn%u", i);
		if (vf_pci_link(s, pf->dev.bdf, attr, text, sizeof(text)) < 0 || vf_bdf_parse(text, &bdf) < 0)
			break;
		read_dev(s, bdf, &v->dev);
		v->index = i;
		read_record(s, v);
		pf->nvfs++;
	}
	if (pf->nvfs && pf->ifindex)
		read_settings(s, pf);
	if (pf->nvfs)
		read_declared(s, pf);
	return 0;
}

static int read_pf(struct vf_sys *s, struct vf_bdf bdf, unsigned flags, struct vf_pf *pf)
{
	int rc;

	read_dev(s, bdf, &pf->dev);
	pf->kind = pf->dev.class >> 16 == CLASS_NET ? VF_KIND_NET : pf->dev.class == CLASS_NVME ? VF_KIND_NVME : VF_KIND_OTHER;
	pf->total = number(s, bdf, "sriov_totalvfs", 0);
	pf->num = number(s, bdf, "sriov_numvfs", 0);
	pf->num = pf->num > UINT16_MAX ? 0 : pf->num;
	pf->autoprobe = number(s, bdf, "sriov_drivers_autoprobe", 1);
	pf->speed = -1;
	if (pf->dev.netdev[0])
		read_netdev(s, pf);
	rc = read_vfs(s, pf);
	find_support(s, pf, flags);
	return rc;
}

/* ---- IOMMU groups ---- */

static bool has_group(const struct vf_inventory *inv, int nr)
{
	return nr < 0 || vf_find_group(inv, nr);
}

static int add_group(struct vf_sys *s, struct vf_inventory *inv, int nr)
{
	struct vf_group *more, *g;
	struct vf_names names;

	if (has_group(inv, nr))
		return 0;
	more = reallocarray(inv->group, inv->ngroups + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	inv->group = more;
	g = &more[inv->ngroups++];
	*g = (struct vf_group){ .nr = nr };
	vf_sys_names(s, &names, "/sys/kernel/iommu_groups/%d/devices", nr);
	g->member = calloc(names.nr ? names.nr : 1, sizeof(*g->member));
	for (unsigned i = 0; g->member && i < names.nr; i++) {
		struct vf_member *m = &g->member[g->nmembers];

		if (vf_bdf_parse(names.name[i], &m->bdf) < 0)
			continue;
		m->class = number(s, m->bdf, "class", 0);
		vf_pci_link(s, m->bdf, "driver", m->driver, sizeof(m->driver));
		g->nmembers++;
	}
	vf_names_free(&names);
	return g->member ? 0 : -ENOMEM;
}

static int by_nr(const void *a, const void *b)
{
	return ((const struct vf_group *)a)->nr - ((const struct vf_group *)b)->nr;
}

static int read_groups(struct vf_sys *s, struct vf_inventory *inv)
{
	int rc = 0;

	for (unsigned i = 0; i < inv->npfs && rc == 0; i++) {
		rc = add_group(s, inv, inv->pf[i].dev.group);
		for (unsigned k = 0; k < inv->pf[i].nvfs && rc == 0; k++)
			rc = add_group(s, inv, inv->pf[i].vf[k].dev.group);
	}
	if (inv->ngroups)
		qsort(inv->group, inv->ngroups, sizeof(*inv->group), by_nr);
	return rc;
}

/* ---- VFs that somebody had ---- */

static int read_gone(struct vf_sys *s, struct vf_inventory *inv)
{
	struct vf_bdf *vf;
	int n = vf_record_list(s, &vf);

	if (n <= 0) {
		free(vf);
		return n == -ENOMEM ? n : 0; /* what cannot be read is told by whoever needs it */
	}
	inv->gone = calloc(n, sizeof(*inv->gone));
	for (int i = 0; inv->gone && i < n; i++)
		if (!vf_find_vf(inv, vf[i], NULL) && vf_record_read(s, vf[i], &inv->gone[inv->ngone]) == 0)
			inv->ngone++;
	free(vf);
	return inv->gone ? 0 : -ENOMEM;
}

/* ---- all of it ---- */

static uint32_t order_of(struct vf_bdf b)
{
	return (uint32_t)b.domain << 16 | b.bus << 8 | b.slot << 3 | b.fn;
}

static int by_bdf(const void *a, const void *b)
{
	uint32_t x = order_of(((const struct vf_pf *)a)->dev.bdf), y = order_of(((const struct vf_pf *)b)->dev.bdf);

	return x < y ? -1 : x > y;
}

static int read_pfs(struct vf_sys *s, unsigned flags, struct vf_inventory *inv)
{
	struct vf_names names;
	int rc = vf_sys_names(s, &names, "/sys/bus/pci/devices");

	if (rc <= 0)
		return rc == -ENOENT ? 0 : rc; /* a PV guest without a bus has none */
	inv->pf = calloc(names.nr, sizeof(*inv->pf));
	rc = inv->pf ? 0 : -ENOMEM;
	for (unsigned i = 0; i < names.nr && rc == 0; i++) {
		struct vf_bdf bdf;

		if (vf_bdf_parse(names.name[i], &bdf) == 0 && number(s, bdf, "sriov_totalvfs", 0) > 0)
			rc = read_pf(s, bdf, flags, &inv->pf[inv->npfs++]);
	}
	vf_names_free(&names);
	if (inv->npfs)
		qsort(inv->pf, inv->npfs, sizeof(*inv->pf), by_bdf);
	return rc;
}

static bool any_in_vfio(const struct vf_inventory *inv)
{
	for (unsigned i = 0; i < inv->npfs; i++)
		for (unsigned k = 0; k < inv->pf[i].nvfs; k++)
			if (strcmp(inv->pf[i].vf[k].dev.driver, "vfio-pci") == 0)
				return true;
	return false;
}

int vf_inventory(struct vf_sys *s, unsigned flags, struct vf_inventory *out, struct vf_why *why)
{
	struct openers openers = { 0 };
	int rc;

	*out = (struct vf_inventory){ 0 };
	rc = read_pfs(s, flags, out);
	if (rc == 0)
		rc = read_groups(s, out);
	if (rc == 0)
		rc = read_gone(s, out);
	if (rc < 0)
		return vf_fail(why, rc, "cannot look at the PCI functions below %s/sys/bus/pci: %s", s->root, strerror(-rc));
	if ((flags & VF_INV_USERS) && any_in_vfio(out))
		find_openers(s, &openers);
	for (unsigned i = 0; i < out->npfs; i++)
		for (unsigned k = 0; k < out->pf[i].nvfs; k++)
			find_users(s, &out->pf[i].vf[k], &openers);
	free(openers.of);
	return 0;
}

void vf_inventory_free(struct vf_inventory *inv)
{
	for (unsigned i = 0; i < inv->npfs; i++) {
		for (unsigned k = 0; k < inv->pf[i].nvfs; k++)
			vf_record_close(&inv->pf[i].vf[k].record);
		free(inv->pf[i].vf);
	}
	for (unsigned i = 0; i < inv->ngroups; i++)
		free(inv->group[i].member);
	for (unsigned i = 0; i < inv->ngone; i++)
		vf_record_close(&inv->gone[i]);
	free(inv->pf);
	free(inv->group);
	free(inv->gone);
	*inv = (struct vf_inventory){ 0 };
}
