/* libpvtool.h - for toolstacks in C: create guests and devices by calls to pviod, without a process for each.
 *
 *	pv_tool_open(NULL, &t, why, sizeof(why));
 *	pv_tool_guest_create(t, "web", 0, &domid);
 *	pv_tool_attach(t, "web", "vbd", "xvda", (const char *[]){ "path=/srv/web.img", NULL }, 0, &device);
 *	pv_tool_close(t);
 *
 * The connection stays open between calls; when pviod was restarted, the next call connects anew. Each call waits for its
 * answer. Results are >= 0 or -errno as pviod gave it; pv_tool_error then has one line for a person. -EINVAL also stands for
 * a wrong parameter. Guests are named by name or domid ("web", "3").
 * Thread rule: a handle belongs to one thread; each thread opens its own.
 */
#ifndef PV_LIBPVTOOL_H
#define PV_LIBPVTOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pv_tool;

struct pv_tool_device {
	char guest[64], type[8], name[16]; /* "web", "vbd", "xvda" */
	char state[16]; /* XenBus' name of the backend's state, or "lost", "broken" */
	char backend[64];
	char error[240]; /* "": none */
	uint16_t domid;
	uint16_t state_number; /* XenbusState */
	uint32_t devid;
	uint32_t queues; /* chosen by the frontend; 0 before it is connected */
	int64_t offer_us, connect_us; /* attach -> announced, frontend's choice -> Connected; -1: not yet */
};

/* A domain of Xen to be built. Files by absolute path: pviod reads them. */
struct pv_tool_domain {
	const char *type; /* "pv" or "pvh" */
	const char *kernel; /* bzImage or ELF */
	const char *ramdisk, *cmdline; /* NULL: none */
	const char *uuid; /* NULL: a random one */
	unsigned memory, vcpus; /* MiB; each 0: 512 MiB, 1 vcpu */
	uint16_t domid; /* 0: one that is free */
};

/* Connect to pviod. socket: its path; NULL: pviod.sock in $PVIO_RUNDIR, else in /run/pvio.
 * Returns 0, or -errno with *out NULL and a line in why (may be NULL). */
int pv_tool_open(const char *socket, struct pv_tool **out, char *why, size_t len);
void pv_tool_close(struct pv_tool *t); /* NULL is fine */

/* Words for the last failure of this handle. Never NULL. */
const char *pv_tool_error(const struct pv_tool *t);

/* Make a guest (loopback hypervisor). domid 0: the lowest free one. *out (may be NULL): which it got. -EEXIST: name is taken. */
int pv_tool_guest_create(struct pv_tool *t, const char *name, uint16_t domid, uint16_t *out);

/* Build a guest (Xen) and leave it paused: attach its devices, then start it. *domid: may be NULL. A failure leaves nothing
 * behind: -EEXIST: name or domid is taken; -ENOMEM: Xen has not that much memory; -ENOEXEC: no kernel; others. */
int pv_tool_guest_build(struct pv_tool *t, const char *name, const struct pv_tool_domain *domain, uint16_t *domid);
int pv_tool_guest_start(struct pv_tool *t, const char *guest); /* 0 as well if it runs already */
int pv_tool_guest_pause(struct pv_tool *t, const char *guest);

/* Ask a guest to power off (or to reboot: then its domain ends all the same) and wait until it has and is gone.
 * timeout_ms 0: 30 s. -ETIMEDOUT: it was asked and has not; -ENOTSUP: it cannot be asked; -EBUSY: it is paused. */
int pv_tool_guest_shutdown(struct pv_tool *t, const char *guest, bool reboot, unsigned timeout_ms);

/* Detach all devices of a guest and end it. force: without waiting for the guest. timeout_ms: for the guest's part, 0: 5 s.
 * On Xen it is ended at once, as if its power were cut. */
int pv_tool_guest_destroy(struct pv_tool *t, const char *guest, bool force, unsigned timeout_ms);

/* Attach a device: returns when it is announced to the guest, or, with wait_ms > 0, when it is connected.
 * type: "vif", "vbd" or "pipe". name: "0", "xvda" ..., NULL: the first free one. config: "key=value" strings, NULL-terminated, may be
 * NULL; of these backend= says who serves it, dialect= (noxs, xenstore) how the guest finds it. out: may be NULL. Again with the
 * same configuration: 0. -ENODEV: no backend of that type; -EEXIST: attached with another configuration; -ETIMEDOUT: announced,
 * but not connected in wait_ms; others: what the backend said. */
int pv_tool_attach(struct pv_tool *t, const char *guest, const char *type, const char *name, const char *const *config,
		   unsigned wait_ms, struct pv_tool_device *out);

/* Detach: returns when the device is gone. device: "xvda", "vif0", "vbd/xvda". force, timeout_ms: as above.
 * -ETIMEDOUT: the guest does not let go of it; the detach goes on, and may be repeated with force. */
int pv_tool_detach(struct pv_tool *t, const char *guest, const char *device, bool force, unsigned timeout_ms);

/* Call each(arg, device) for the devices of a guest, or of all (guest NULL). Returns how many. */
int pv_tool_list(struct pv_tool *t, const char *guest, void (*each)(void *arg, const struct pv_tool_device *device), void *arg);

/* Any method of pviod (pviod(8) lists them). params: a JSON object as text, NULL: none. *result: JSON as text, free() it.
 * Returns 0, -errno, or a JSON-RPC error code (< -4095). timeout_ms: for the answer, 0: 30 s. */
int pv_tool_call(struct pv_tool *t, const char *method, const char *params, unsigned timeout_ms, char **result);

#endif
