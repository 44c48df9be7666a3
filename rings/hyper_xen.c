/* hyper_xen.c - the port onto Xen, through libxengnttab and libxenevtchn: the handle.
 *
 * Xen's libraries speak to the kernel's devices: /dev/xen/gntdev maps and copies, gntalloc shares, evtchn gives event channels;
 * each handle opens its own. xen_gnt.c is grants, xen_evt.c event channels, xen_domid.c says which domain this is, xen_pointer.c
 * finds the noxs pointer in this domain's own XenStore, which xen_bus.c speaks to.
 */
#include "hyper_xen.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/xen.h>
#include <xentoollog.h>

static void discard(struct xentoollog_logger *logger, xentoollog_level level, int err, const char *context, const char *format, va_list al)
{
	(void)logger, (void)level, (void)err, (void)context, (void)format, (void)al;
}

struct xentoollog_logger xen_discard = { .vmessage = discard };

int xen_no_device(struct xen *x, const char *device, const char *module)
{
	int err = -errno;

	if (err == -ENOENT || err == -ENXIO || err == -ENODEV)
		return hyper_fail(&x->h, -ENODEV, "/dev/xen/%s is missing: modprobe %s", device, module);
	return hyper_fail(&x->h, err, "cannot open /dev/xen/%s: %s%s", device, strerror(-err), err == -EACCES || err == -EPERM ? " (run as root)" : "");
}

static void xen_close(struct pv_hyper *h)
{
	struct xen *x = (struct xen *)h;

	xen_pointer_close(x);
	xen_gnt_close(x); /* before the ports, for its notices go through them */
	xen_evt_close(x);
	free(x);
}

static const struct pv_hyper_ops xen_ops = {
	.name = "xen",
	.close = xen_close,
	.pointer = xen_pointer,
	.share = xen_share,
	.unshare = xen_unshare,
	.map = xen_map,
	.unmap = xen_unmap,
	.copy = xen_copy,
	.evt_alloc = xen_evt_alloc,
	.evt_bind = xen_evt_bind,
	.evt_unbind = xen_evt_unbind,
	.evt_notify = xen_evt_notify,
	.evt_fd = xen_evt_fd,
	.evt_pending = xen_evt_pending,
	.evt_unmask = xen_evt_unmask,
};

static bool is_pv(void)
{
	char type[8];

	hyper_text("/sys/hypervisor/guest_type", type, sizeof(type));
	return !strcmp(type, "PV\n");
}

/* Be `wanted`, which can only be who we are. Where nothing tells who that is, whoever says so is believed. */
static int be_domain(struct xen *x, int wanted)
{
	int own = xen_own_domid();

	if (own < 0)
		own = wanted < 0 ? (int)DOMID_INVALID : wanted;
	if (wanted >= 0 && wanted != own)
		return hyper_fail(&x->h, -EINVAL, "on Xen a process can only be the domain it runs in: this is domain %d, not %d", own, wanted);
	x->h.domid = own;
	x->pv = is_pv();
	return 0;
}

int xen_open(int domid, struct pv_hyper **out, char *why, size_t len)
{
	struct xen *x = calloc(1, sizeof(*x));
	int err;

	if (!x)
		return -ENOMEM;
	x->h.ops = &xen_ops;
	x->pointer.bus.fd = x->ready_fd = x->again_fd = -1;
	err = xen_gnt_open(x);
	if (!err)
		err = xen_evt_open(x);
	if (!err)
		err = be_domain(x, domid);
	if (err) {
		if (why && len)
			snprintf(why, len, "%s", x->h.error);
		xen_close(&x->h);
		return err;
	}
	*out = &x->h;
	return 0;
}
