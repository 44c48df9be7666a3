/* xen.h - virtual functions for guests of Xen, without libxl and XenStore. Internal to sriov/.
 *
 *	pvio attach GUEST vf -> pviod -> pvio-pciback	prepare: claim, bind to pciback, vf_xen_assign, offer
 *	                                                connect: vf_pci_open, the guest's pcifront does the rest
 *	                                                remove: vf_pci_close, vf_xen_unassign, release
 *
 * pvio-pciback (pciback.c) is a backend of kind "vf", as pvio-netback is one of kind "vif": pviod itself has neither the
 * right to write to /sys nor time to wait for a reset. Claiming, binding and releasing are those of `pvio vf`; what is here is what
 * Xen has to be told, one step after the other, each noted before it is taken, so that whoever finds the note undoes it.
 * Thread rule: one thread a struct vf_xen_device.
 */
#ifndef VF_XEN_H
#define VF_XEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In this order. Noted is the last one that may have begun. */
enum vf_xen_step {
	VF_XEN_NOTHING,
	VF_XEN_QUARANTINE, /* its DMA goes nowhere: DOMID_IO has it */
	VF_XEN_ASSIGN, /* its DMA is the guest's */
	VF_XEN_BARS, /* the guest may map its registers */
	VF_XEN_IRQS, /* the guest may have interrupts of its: vf_xen_irq_map */
	VF_XEN_STEPS
};

const char *vf_xen_step_name(enum vf_xen_step step);

enum { VF_XEN_BARS_MAX = 6, VF_XEN_IRQS_MAX = 128 /* of pciif.h: SH_INFO_MAX_VEC */ };

/* Memory that one of its BARs decodes; len 0: none. */
struct vf_xen_bar {
	uint64_t start, len; /* bytes */
};

enum vf_xen_type { VF_XEN_PV, VF_XEN_PVH, VF_XEN_HVM };

struct vf_xen_domain {
	enum vf_xen_type type;
	bool dying;
	uint8_t uuid[16]; /* domids are used again, this is not */
};

/* What is asked of Xen. Each returns 0 or -errno. sbdf: segment, bus, device and function as Xen packs them. */
struct vf_xen_ops {
	int (*look)(void *xen, uint16_t domid, struct vf_xen_domain *out); /* -ESRCH: there is none */
	int (*assign)(void *xen, uint16_t domid, uint32_t sbdf);
	int (*deassign)(void *xen, uint16_t domid, uint32_t sbdf);
	int (*is_free)(void *xen, uint32_t sbdf); /* domain 0 or the quarantine has it; -EBUSY: a guest */
	int (*memory)(void *xen, uint16_t domid, uint64_t mfn, uint64_t count, bool allow);
	int (*irq_map)(void *xen, uint16_t domid, uint32_t sbdf, unsigned entry, uint64_t table, int *pirq); /* table 0: MSI */
	int (*irq_unmap)(void *xen, uint16_t domid, int pirq);
};

/* One VF on its way to a guest and back. Owner: whoever fills in the first part. What is below is what the note holds: to go on after a
 * process was killed, it is filled in from there. */
struct vf_xen_device {
	const struct vf_xen_ops *ops;
	void *xen;
	uint32_t sbdf;
	struct vf_xen_bar bars[VF_XEN_BARS_MAX];
	/* Keep what is below before anything is done. Returns 0, or -errno: then it is not done. */
	int (*note)(const struct vf_xen_device *v, void *arg);
	void *arg;
	/* the note */
	enum vf_xen_step step;
	uint16_t domid;
	uint8_t uuid[16]; /* of that domain */
	int pirqs[VF_XEN_IRQS_MAX];
	unsigned npirqs;
};

/* All steps up to VF_XEN_BARS, for domain domid, which must be PV and have been made with an IOMMU (passthrough=1). A step that
 * fails is undone with all before it. Returns 0 or -errno with `why`: -ESRCH no such domain, -EOPNOTSUPP one that can have
 * no VF, -EBUSY another guest has it. */
int vf_xen_assign(struct vf_xen_device *v, uint16_t domid, char *why, size_t len);

/* Undo whatever was begun, in reverse, but leave it in quarantine: reset it, then vf_xen_unquarantine. Nothing was begun, or its domain
 * is gone: 0. Returns -errno with `why` if Xen does not let go of it: it is not to be handed out. */
int vf_xen_unassign(struct vf_xen_device *v, char *why, size_t len);
int vf_xen_unquarantine(struct vf_xen_device *v, char *why, size_t len);

/* An interrupt for the guest: entry of its MSI-X table, which is at the physical address `table` (0: its MSI). *pirq is what
 * the guest is told. Returns 0 or -errno. vf_xen_irqs_unmap: all that were mapped. */
int vf_xen_irq_map(struct vf_xen_device *v, unsigned entry, uint64_t table, int *pirq);
int vf_xen_irqs_unmap(struct vf_xen_device *v);

/* ---- xen_ctl.c: the real Xen, by libxenctrl ---- */

extern const struct vf_xen_ops vf_xen_ctl_ops;
int vf_xen_open(void **xen, char *why, size_t len); /* -ENOENT, -EACCES: no /dev/xen/privcmd for us */
void vf_xen_close(void *xen); /* NULL is fine */

/* ---- xen_xl.c: guests of xl, by xl: libxl keeps books about what it assigned ---- */

int vf_xl_attach(uint16_t domid, const char *bdf, char *why, size_t len);
int vf_xl_detach(uint16_t domid, const char *bdf, char *why, size_t len); /* the guest or the device is gone: 0 */

#endif
