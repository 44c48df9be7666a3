/* hyper_xen.h - private: the handle of Xen, grouped by file. One thread owns a handle. */
#ifndef PV_HYPER_XEN_H
#define PV_HYPER_XEN_H

#include "hyper_int.h"
#include "idmap.h"
#include "noxs.h"
#include <xen/io/xs_wire.h>
#include <xenevtchn.h>
#include <xengnttab.h>

enum { XEN_COPY_BATCH = 128 }; /* operations a call into the kernel, which splits them up again */

/* What one share or map call made, found by its address. */
struct xen_region {
	void *addr;
	uint32_t n;
	bool share;
};

/* A connection to this domain's own XenStore, and what has come of the next message. */
struct xen_bus {
	int fd; /* -1: none */
	uint32_t have; /* bytes of msg and body so far */
	struct xsd_sockmsg msg;
	char body[XENSTORE_PAYLOAD_MAX];
};

/* What we know of our noxs pointer (xen_pointer.c). */
struct xen_pointer {
	struct xen_bus bus;
	bool opened, watched;
	bool asked; /* an XS_READ is under way */
	bool look; /* the node has changed since, or was never read */
	int node_rc; /* of the last answer: 0, -ENOENT, -EPROTO; -EAGAIN: there was none yet; -ENODEV: no store */
	bool seen; /* there was a node once: the hint is of no use any more */
	struct pv_noxs_pointer node;
	int hint_rc;
	struct pv_noxs_pointer hint;
};

struct xen {
	struct pv_hyper h;
	/* grants */
	xengnttab_handle *gnt;
	xengntshr_handle *shr; /* NULL: nothing was shared yet */
	bool pv; /* the domain makes its own page tables, and so may map what it granted to itself */
	struct idmap regions; /* by address */
	xengnttab_grant_copy_segment_t segs[XEN_COPY_BATCH];
	/* event channels */
	xenevtchn_handle *evt;
	int ready_fd, again_fd; /* an epoll set of evtchn and of the timer again_fd; see xen_evt.c */
	int again; /* ms for which the timer was started, 0: it does not run */
	int64_t again_at;
	uint8_t *ports; /* [port]: is it ours? */
	uint32_t nr_ports;
	struct xen_pointer pointer;
};

/* hyper_xen.c: open a device of the kernel's through one of Xen's libraries; of its failure: words that name the module. */
int xen_no_device(struct xen *x, const char *device, const char *module);
extern struct xentoollog_logger xen_discard; /* what libraries say goes nowhere: a guest must not fill our log */

/* xen_gnt.c */
int xen_gnt_open(struct xen *x);
void xen_gnt_close(struct xen *x);
int xen_share(struct pv_hyper *h, uint16_t domid, unsigned n, bool writable, const struct pv_gnt_notice *notice, uint32_t *grefs, void **addr);
int xen_unshare(struct pv_hyper *h, void *addr, unsigned n);
int xen_map(struct pv_hyper *h, uint16_t domid, const uint32_t *grefs, unsigned n, bool writable, const struct pv_gnt_notice *notice,
	    void **addr);
int xen_unmap(struct pv_hyper *h, void *addr, unsigned n);
int xen_copy(struct pv_hyper *h, struct pv_gnt_copy *ops, unsigned n);

/* xen_evt.c */
int xen_evt_open(struct xen *x);
void xen_evt_close(struct xen *x);
bool xen_evt_ours(const struct xen *x, uint32_t port);
int xen_evt_alloc(struct pv_hyper *h, uint16_t domid);
int xen_evt_bind(struct pv_hyper *h, uint16_t domid, uint32_t port);
int xen_evt_unbind(struct pv_hyper *h, uint32_t port);
int xen_evt_notify(struct pv_hyper *h, uint32_t port);
int xen_evt_fd(struct pv_hyper *h);
int xen_evt_pending(struct pv_hyper *h, uint32_t *ports, unsigned max);
int xen_evt_unmask(struct pv_hyper *h, const uint32_t *ports, unsigned n);

/* xen_domid.c: which domain this is. Returns its number, or -ENODATA: nothing here tells. */
int xen_own_domid(void);

/* xen_bus.c: the wire protocol of /dev/xen/xenbus. All results are >= 0 or -errno. */
int xen_bus_open(struct xen_bus *b); /* -ENOENT: this domain has no store */
void xen_bus_close(struct xen_bus *b); /* legal for one that was never opened, with fd -1 */
int xen_bus_send(struct xen_bus *b, uint32_t type, const char *path, const char *token); /* token: may be NULL */
int xen_bus_next(struct xen_bus *b, int ms); /* 1: a whole message is in msg and body; 0: none came within ms; or the connection failed */
int xen_bus_errno(const struct xen_bus *b); /* of an XS_ERROR */
int64_t xen_now_ms(void); /* monotonic, as of the kernel's last tick */
int xen_bus_read(struct xen_bus *b, const char *path, int ms); /* ask, and wait for the answer: its length, in body; -ETIMEDOUT */

/* xen_pointer.c */
void xen_pointer_close(struct xen *x);
int xen_pointer(struct pv_hyper *h, struct pv_noxs_pointer *out);

#endif
