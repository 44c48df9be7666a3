/* xen_ctl.c - what xen_assign.c asks of Xen, by libxenctrl. */
#include "xen.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenctrl.h>
#include <xentoollog.h>

/* Owner: vf_xen_open. */
struct ctl {
	struct vf_xen xen; /* must be first */
	xentoollog_logger quiet;
	xc_interface *xc;
};

static void __attribute__((format(printf, 5, 0))) say_nothing(xentoollog_logger *l, xentoollog_level level, int errnoval, const char *context,
							       const char *format, va_list ap)
{
	(void)l, (void)level, (void)errnoval, (void)context, (void)format, (void)ap; /* what fails is told by its errno */
}

static void leave(xentoollog_logger *l)
{
	(void)l; /* a part of struct ctl */
}

static const struct vf_xen_ops ctl_ops;

int vf_xen_open(struct vf_xen **out, struct vf_why *why)
{
	struct ctl *c = calloc(1, sizeof(*c));
	int rc = ENOMEM;

	*out = NULL;
	if (c) {
		c->xen.ops = &ctl_ops;
		c->quiet.vmessage = say_nothing;
		c->quiet.destroy = leave;
		c->xc = xc_interface_open(&c->quiet, &c->quiet, 0);
		rc = errno ? errno : EIO;
	}
	if (c && c->xc) {
		*out = &c->xen;
		return 0;
	}
	free(c);
	return vf_fail(why, -rc, "cannot open /dev/xen/privcmd: %s; VFs are assigned by root in domain 0, and the module is xen-privcmd",
		       strerror(rc));
}

void vf_xen_close(struct vf_xen *x)
{
	struct ctl *c = (struct ctl *)x;

	if (!c)
		return;
	xc_interface_close(c->xc);
	free(c);
}

static int result(int rc)
{
	return rc >= 0 ? 0 : errno > 0 ? -errno : -EIO;
}

/* libxenctrl does not say which HVM guests are PVH: those without any emulated device but the LAPIC. */
static int ctl_look(struct vf_xen *x, uint16_t domid, struct vf_xen_domain *out)
{
	struct ctl *c = (struct ctl *)x;
	xc_domaininfo_t info;
	int n = xc_domain_getinfolist(c->xc, domid, 1, &info);

	if (n < 0)
		return result(n);
	if (n == 0 || info.domain != domid)
		return -ESRCH;
	out->dying = info.flags & XEN_DOMINF_dying;
	out->type = !(info.flags & XEN_DOMINF_hvm_guest) ? VF_XEN_PV :
		    info.arch_config.emulation_flags & ~XEN_X86_EMU_LAPIC ? VF_XEN_HVM : VF_XEN_PVH;
	memcpy(out->uuid, info.handle, sizeof(out->uuid));
	return 0;
}

static int ctl_assign(struct vf_xen *x, uint16_t domid, uint32_t sbdf)
{
	struct ctl *c = (struct ctl *)x;

	return result(xc_assign_device(c->xc, domid, sbdf, XEN_DOMCTL_DEV_RDM_RELAXED));
}

static int ctl_deassign(struct vf_xen *x, uint16_t domid, uint32_t sbdf)
{
	struct ctl *c = (struct ctl *)x;

	return result(xc_deassign_device(c->xc, domid, sbdf));
}

static int ctl_is_free(struct vf_xen *x, uint32_t sbdf)
{
	struct ctl *c = (struct ctl *)x;

	return result(xc_test_assign_device(c->xc, DOMID_INVALID, sbdf));
}

static int ctl_memory(struct vf_xen *x, uint16_t domid, uint64_t mfn, uint64_t count, bool allow)
{
	struct ctl *c = (struct ctl *)x;

	return result(xc_domain_iomem_permission(c->xc, domid, mfn, count, allow));
}

static int ctl_irq_map(struct vf_xen *x, uint16_t domid, uint32_t sbdf, unsigned entry, uint64_t table, int *pirq)
{
	struct ctl *c = (struct ctl *)x;

	*pirq = -1; /* whichever is free */
	return result(xc_physdev_map_pirq_msi(c->xc, domid, -1, pirq, sbdf & 0xff, sbdf >> 8 & 0xff, entry, table));
}

static int ctl_irq_unmap(struct vf_xen *x, uint16_t domid, int pirq)
{
	struct ctl *c = (struct ctl *)x;

	return result(xc_physdev_unmap_pirq(c->xc, domid, pirq));
}

static const struct vf_xen_ops ctl_ops = {
	.look = ctl_look, .assign = ctl_assign, .deassign = ctl_deassign, .is_free = ctl_is_free, .memory = ctl_memory,
	.irq_map = ctl_irq_map, .irq_unmap = ctl_irq_unmap, .xl = vf_xl,
};
