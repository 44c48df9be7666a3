/* hub.h - the loopback hypervisor: domains, who may map what, who may signal whom.
 *
 * The hub is one process (pvio-hub) with one Unix socket. hyper_loopback.c talks to it for every hypercall but the data
 * path's: grant copy and notify go through memory files and eventfds that the hub handed out. For trying out, testing and
 * measuring only: it is no isolation boundary.
 */
#ifndef PV_HUB_H
#define PV_HUB_H

#include "hyper.h"

struct pv_hub;

struct pv_hub_limits { /* each 0: the default */
	unsigned domains; /* at once: 1024 */
	unsigned grants; /* pages a domain: 65536 */
	unsigned ports; /* a domain: 4096 */
	unsigned maps; /* mapped pages a domain: 1 << 20 */
};

/* Open the hub's socket at path (removed on close). Domain 0 exists from the start. Returns 0 or -errno. */
int pv_hub_open(const char *path, const struct pv_hub_limits *limits, struct pv_hub **out);

/* Serve until pv_hub_stop (async-signal-safe) or a fatal error. Returns 0 or -errno. */
int pv_hub_run(struct pv_hub *hub);
void pv_hub_stop(struct pv_hub *hub);
void pv_hub_close(struct pv_hub *hub);

/* What a toolstack asks, on a handle of domain 0; -EPERM on another domain's, -ENOTSUP on a handle that is not loopback. */

/* Make a domain with its store page (grant GNTTAB_RESERVED_XENSTORE, granted to domain 0) and store port (unbound, for
 * domain 0), as every domain builder does. domid 0: the lowest free one. Returns the domid, and the store port in *port;
 * -EEXIST, -ENOSPC (named in pv_hyper_error). */
int pv_hub_domain_create(struct pv_hyper *h, unsigned domid, uint32_t *port);

/* End a domain: its processes lose their handles, its grants and ports end. Returns 0 or -ENOENT. */
int pv_hub_domain_destroy(struct pv_hyper *h, unsigned domid);

/* As a guest's kernel, on a handle of the guest: its store page, writable, in *page until the handle closes, and its store port in
 * *port, with the events of this handle. Both stay with the domain; one process of a guest at a time drives them.
 * Returns 0 or -errno. */
int pv_hub_store(struct pv_hyper *h, void **page, uint32_t *port);

struct pv_hub_domain {
	uint16_t domid;
	uint32_t handles, grants, pinned /* ended, still mapped by a peer */, ports, maps;
};
/* List up to max domains. Returns how many exist. */
int pv_hub_domain_list(struct pv_hyper *h, struct pv_hub_domain *out, unsigned max);

/* Fault injection: from now on, of the operations `what` on what belongs to domain domid, let `skip` pass and then fail `count`.
 *	"map", "copy"		of pages that domid granted, with the GNTST_ value `status`; each page is an operation. A failed map
 *				call returns -EACCES, for GNTST_eagain -EAGAIN, for GNTST_no_device_space -ENOSPC
 *	"share", "alloc"	by domid; "bind": of ports of domid; each call is an operation; any status means that they ran out
 * status may be anything but GNTST_okay. count 0 clears. Returns 0, -EINVAL, -ENOENT. */
int pv_hub_inject(struct pv_hyper *h, unsigned domid, const char *what, unsigned skip, unsigned count, int status);

#endif
