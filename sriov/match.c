/* match.c - which function of the inventory is meant. */
#include "sriov.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vf_pf *vf_find_pf(const struct vf_inventory *inv, struct vf_bdf bdf)
{
	for (unsigned i = 0; i < inv->npfs; i++)
		if (vf_bdf_equal(inv->pf[i].dev.bdf, bdf))
			return &inv->pf[i];
	return NULL;
}

struct vf *vf_find_vf(const struct vf_inventory *inv, struct vf_bdf bdf, struct vf_pf **pf)
{
	for (unsigned i = 0; i < inv->npfs; i++) {
		for (unsigned k = 0; k < inv->pf[i].nvfs; k++) {
			if (!vf_bdf_equal(inv->pf[i].vf[k].dev.bdf, bdf))
				continue;
			if (pf)
				*pf = &inv->pf[i];
			return &inv->pf[i].vf[k];
		}
	}
	return NULL;
}

struct vf_group *vf_find_group(const struct vf_inventory *inv, int nr)
{
	for (unsigned i = 0; i < inv->ngroups; i++)
		if (inv->group[i].nr == nr)
			return &inv->group[i];
	return NULL;
}

static bool pf_is_called(const struct vf_pf *pf, const char *name)
{
	char id[16];
	struct vf_bdf bdf;

	snprintf(id, sizeof(id), "%04x:%04x", pf->dev.vendor, pf->dev.device);
	return (vf_bdf_parse(name, &bdf) == 0 && vf_bdf_equal(bdf, pf->dev.bdf)) || strcasecmp(name, id) == 0 ||
	       (*name && (!strcmp(name, pf->dev.netdev) || !strcmp(name, pf->dev.nvme) || !strcmp(name, pf->port)));
}

int vf_match_pf(const struct vf_inventory *inv, const char *name, struct vf_pf **out, struct vf_why *why)
{
	char list[128] = "";
	unsigned n = 0;

	for (unsigned i = 0; i < inv->npfs; i++) {
		size_t len = strlen(list);

		if (!pf_is_called(&inv->pf[i], name))
			continue;
		*out = &inv->pf[i];
		snprintf(list + len, sizeof(list) - len, "%s%s", n++ ? ", " : "", vf_text(inv->pf[i].dev.bdf).s);
	}
	if (n == 0)
		return vf_fail(why, -ENOENT, "no PF is called %s by its address, netdev, VENDOR:DEVICE or port; `pvio vf list` has them all", name);
	return n > 1 ? vf_fail(why, -EEXIST, "%u PFs are called %s: say which of %s", n, name, list) : 0;
}

/* "PF/N". */
static int match_nth(const struct vf_inventory *inv, const char *name, const char *slash, struct vf **out, struct vf_pf **pf, struct vf_why *why)
{
	char first[VF_NAME_MAX], *end;
	unsigned long n = strtoul(slash + 1, &end, 10);
	int rc;

	snprintf(first, sizeof(first), "%.*s", (int)(slash - name), name);
	if (slash[1] < '0' || slash[1] > '9' || *end)
		return vf_fail(why, -ENOENT, "VF %s: PF/N is a PF and the number of one of its VFs, such as eth1/0", name);
	rc = vf_match_pf(inv, first, pf, why);
	if (rc < 0)
		return rc;
	if (n >= (*pf)->nvfs)
		return vf_fail(why, -ENOENT, "PF %s has %u VFs, none is number %lu; `pvio vf list` has them all", first, (*pf)->nvfs, n);
	*out = &(*pf)->vf[n];
	return 0;
}

int vf_match_vf(const struct vf_inventory *inv, const char *name, struct vf **out, struct vf_pf **pf, struct vf_why *why)
{
	const char *slash = strrchr(name, '/');
	struct vf_pf *mine;
	struct vf_bdf bdf;

	pf = pf ? pf : &mine;
	if (slash)
		return match_nth(inv, name, slash, out, pf, why);
	if (vf_bdf_parse(name, &bdf) == 0 && (*out = vf_find_vf(inv, bdf, pf)))
		return 0;
	for (unsigned i = 0; i < inv->npfs; i++) {
		for (unsigned k = 0; k < inv->pf[i].nvfs; k++) {
			struct vf *v = &inv->pf[i].vf[k];

			if (!*name || (strcmp(name, v->dev.netdev) && strcmp(name, v->dev.nvme)))
				continue;
			*out = v;
			*pf = &inv->pf[i];
			return 0;
		}
	}
	return vf_fail(why, -ENOENT, "no VF is called %s by its address, netdev or PF/N; `pvio vf list` has them all", name);
}
