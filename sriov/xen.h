/* xen.h - virtual functions for guests of Xen, without libxl and XenStore. Internal to sriov/.
 *
 *	pvio attach GUEST vf -> pviod -> pvio-pciback	prepare: vf_claim with pciback as its driver, vf_xen_assign; the offer
 *	                                                connect: vf_pciif (pci.h); the guest's pcifront does the rest
 *	                                                remove: vf_xen_deassign, vf_reset, vf_xen_unquarantine, vf_release
 *
 * pvio-pciback (pciback.c, pciback_xen.c) is a backend of kind "vf", as pvio-netback is one of kind "vif": pviod itself has neither
 * the right to write to /sys nor time to wait for a reset. Here is what Xen has to be told, one step after the other, each in the VF's
 * record before it is taken: whoever finds the record undoes it. Thread rule: as struct vf_sys.
 */
#ifndef VF_XEN_H
#define VF_XEN_H

#include "sriov.h"

struct vf_xen;

enum vf_xen_type { VF_XEN_PV, VF_XEN_PVH, VF_XEN_HVM };

struct vf_xen_domain {
	enum vf_xen_type type;
	bool dying;
	uint8_t uuid[16]; /* domids are used again, this is not */
};

/* What is asked of Xen. Each returns 0 or -errno. sbdf: the address as Xen packs it. */
struct vf_xen_ops {
	int (*look)(struct vf_xen *x, uint16_t domid, struct vf_xen_domain *out); /* -ESRCH: there is none */
	int (*assign)(struct vf_xen *x, uint16_t domid, uint32_t sbdf);
	int (*deassign)(struct vf_xen *x, uint16_t domid, uint32_t sbdf); /* -ENODEV: that domain does not have it */
	int (*is_free)(struct vf_xen *x, uint32_t sbdf); /* domain 0 or the quarantine has it; -EBUSY: a guest; -ENODEV: unknown */
	int (*memory)(struct vf_xen *x, uint16_t domid, uint64_t mfn, uint64_t count, bool allow);
	int (*irq_map)(struct vf_xen *x, uint16_t domid, uint32_t sbdf, unsigned entry, uint64_t table, int *pirq); /* table 0: MSI */
	int (*irq_unmap)(struct vf_xen *x, uint16_t domid, int pirq);
	int (*xl)(struct vf_xen *x, bool attach, uint16_t domid, const char *bdf, struct vf_why *why); /* what xl says, if it fails */
};

/* Embedded in what the ops need. */
struct vf_xen {
	const struct vf_xen_ops *ops;
};

/* ---- xen_assign.c ---- */

/* Give it to domain domid, which must be PV and have been made with an IOMMU: quarantine (its DMA goes nowhere), its DMA, its registers.
 * r is VF_CLAIMED, locked and bound to pciback; after it VF_ASSIGNED. A step that fails is undone with all before it, and r is as before. -ESRCH:
 * no such domain; -EOPNOTSUPP: one that can have no VF; -EBUSY: another guest has it. */
int vf_xen_assign(struct vf_sys *s, struct vf_xen *x, struct vf_record *r, uint16_t domid, struct vf_why *why);

/* The same for a guest of xl: by `xl pci-attach`, for libxl keeps books about what its guests have, and shows it to PV and HVM guests itself. */
int vf_xen_assign_xl(struct vf_sys *s, struct vf_xen *x, struct vf_record *r, uint16_t domid, struct vf_why *why);

/* Take back what was begun, in reverse, from whatever step the record tells; its domain may be gone. After it VF_CLAIMED, and in Xen's
 * quarantine still: reset it, then vf_xen_unquarantine. An error: Xen does not let go of it; r stays VF_DETACHING, and it can be tried again. */
int vf_xen_deassign(struct vf_sys *s, struct vf_xen *x, struct vf_record *r, struct vf_why *why);
int vf_xen_unquarantine(struct vf_sys *s, struct vf_xen *x, struct vf_record *r, struct vf_why *why);

/* Was it begun to be given to a guest and not yet wholly taken back? A record that says so and is locked by nobody was left by a killed
 * process, or belongs to a guest that runs. */
bool vf_xen_begun(const struct vf_record *r);
/* The domain that has it: 1 it lives, 0 it is gone or going (and Xen has taken back what it had), -errno. */
int vf_xen_alive(struct vf_xen *x, const struct vf_record *r);

/* An interrupt of its, for the guest: an entry of its MSI-X table, which is at the physical address `table` (0: its MSI). Returns the pirq that
 * the guest is told, or -errno. It is in the record, and goes with vf_xen_deassign if not before. */
int vf_xen_irq_map(struct vf_sys *s, struct vf_xen *x, struct vf_record *r, unsigned entry, uint64_t table);
int vf_xen_irqs_unmap(struct vf_sys *s, struct vf_xen *x, struct vf_record *r); /* all of them */

/* ---- xen_ctl.c: the real Xen, by libxenctrl ---- */

int vf_xen_open(struct vf_xen **out, struct vf_why *why); /* -ENOENT, -EACCES: no /dev/xen/privcmd for us */
void vf_xen_close(struct vf_xen *x); /* NULL is fine */

/* ---- xen_xl.c: of its ops, the one that runs xl ---- */

int vf_xl(struct vf_xen *x, bool attach, uint16_t domid, const char *bdf, struct vf_why *why);

#endif
