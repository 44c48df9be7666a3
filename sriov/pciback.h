/* pciback.h - pvio-pciback: virtual functions as devices that pviod attaches. Internal to sriov/.
 *
 *	pviod --- pciback.c (claims, assigns, takes back) --- vf_claim, vf_xen_assign, vf_release
 *	guest's page and port --- pciback_serve.c (a thread) --- pci.h
 *
 * Thread rule: all calls from one thread, the control thread; the guests' pages are served by a thread of their own, since claims
 * and resets take their time, and a guest waits for its configuration space 2 s at most.
 */
#ifndef VF_PCIBACK_H
#define VF_PCIBACK_H

#include "xen.h"
#include <pvio/backend.h>

/* ---- pciback_serve.c ---- */

struct vf_server; /* the thread, with a handle of the hypervisor's */
struct vf_served; /* a device that its guest has connected. Owner: whoever opened it */

/* sys, xen: of the thread alone from now on; borrowed. Returns 0 or -errno. */
int vf_server_start(const char *hypervisor, int domid, struct vf_sys *sys, struct vf_xen *xen, struct vf_server **out, struct vf_why *why);
void vf_server_stop(struct vf_server *s); /* no device is open any more; NULL is fine */

/* Serve the configuration space of vf to the guest that chose so; c->adopt: go on where a process before was. */
int vf_served_open(struct vf_server *s, const struct pv_connect *c, struct vf_bdf vf, struct vf_served **out, struct vf_why *why);
/* The guest has no interrupts of it and it does no DMA any more. keep: it goes on with the next process, which adopts it. NULL is fine. */
void vf_served_close(struct vf_server *s, struct vf_served *v, bool keep);
bool vf_served_same(const struct vf_served *v, const struct pv_connect *c);
struct json_object *vf_served_report(struct vf_server *s, struct vf_served *v);

/* ---- pciback.c ---- */

struct pciback;
extern const struct pv_backend_ops pciback_ops; /* ctx: struct pciback */

int pciback_new(struct vf_sys *sys, struct vf_xen *xen, struct vf_server *server, struct pciback **out); /* all borrowed. 0 or -ENOMEM */
void pciback_free(struct pciback *p); /* what guests have, they keep, for the next process */
/* Take back what no living guest has: what killed processes left half done, and what guests had that ended. Returns how many VFs
 * guests have still, or cannot be taken back yet: as long as there are any, call it each second. */
int pciback_sweep(struct pciback *p);
void pciback_help(void); /* what a device's configuration may say, on stdout */

#endif
