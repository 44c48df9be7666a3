/* group.c - may a VF be given to somebody by itself? Devices of one IOMMU group reach each other's memory: such a group goes to one
 * owner as a whole, and none of it may be this machine's at the same time. */
#include "sriov.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { CLASS_BRIDGE = 0x06 };

bool vf_driver_isolates(const char *driver)
{
	return strstr(driver, "vfio"); /* vfio-pci, mlx5_vfio_pci ... */
}

bool vf_driver_passes(const char *driver)
{
	return vf_driver_isolates(driver) || strcmp(driver, "pciback") == 0;
}

/* Leaves a device's DMA to whoever has the group: the kernel lets it be beside vfio. */
static bool is_harmless(const struct vf_member *m)
{
	return !*m->driver || m->class >> 16 == CLASS_BRIDGE || vf_driver_passes(m->driver) || strcmp(m->driver, "pci-stub") == 0;
}

/* Another member that an owner other than this one has, as its record says now. */
static bool has_other_owner(struct vf_sys *s, const struct vf_member *m, const char *owner, struct vf_record *out)
{
	bool held = vf_record_read(s, m->bdf, out) == 0 && strcmp(out->owner, owner);

	vf_record_close(out);
	return held;
}

int vf_group_viable(struct vf_sys *s, const struct vf_inventory *inv, const struct vf *vf, const char *owner, struct vf_why *why)
{
	const struct vf_group *g = vf_find_group(inv, vf->dev.group);
	struct vf_bdf_str me = vf_text(vf->dev.bdf);

	if (!g)
		return vf_fail(why, -ENODEV, "VF %s is in no IOMMU group: its DMA could not be confined; enable the IOMMU (VT-d, AMD-Vi) in the "
			       "firmware and boot with intel_iommu=on, or iommu=on for AMD", me.s);
	for (unsigned i = 0; i < g->nmembers; i++) {
		const struct vf_member *m = &g->member[i];
		struct vf_record other;

		if (vf_bdf_equal(m->bdf, vf->dev.bdf))
			continue;
		if (!is_harmless(m))
			return vf_fail(why, -EBUSY, "VF %s cannot be given away: %s, which this machine's driver %s uses, is in the same IOMMU group (%d); "
				       "unbind it (echo %s > /sys/bus/pci/drivers/%s/unbind), or put the PF behind a port with ACS",
				       me.s, vf_text(m->bdf).s, m->driver, g->nr, vf_text(m->bdf).s, m->driver);
		if (has_other_owner(s, m, owner, &other))
			return vf_fail(why, -EBUSY, "VF %s cannot be given to %s: %s has %s, which is in the same IOMMU group (%d): each could reach "
				       "the other's memory", me.s, owner, other.owner, vf_text(m->bdf).s, g->nr);
	}
	return 0;
}
