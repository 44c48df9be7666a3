/* front.h - the guest's side of noxs, for any type of device: finding it, its handshake, its events. Netfront, blkfront and the
 * backend's end of a pipe are made of it; so are tests, as frontends that do as they please: everything is open here, and nothing
 * is forced. Internal to pvio; not installed.
 *
 *	front_open	handle, pointer, device page, entry, our port (one process a device), control page, offer
 *	...		the user shares rings with f->entry.backend_domid and allocates ports for it
 *	front_choose	the choice, with state Initialised
 *	front_events	follows the states from then on, and hands out the other ports' events
 *	front_leave	Closing, and wait for the backend
 *	...		the user ends its shares and ports
 *	front_retire	Closed: pviod may offer the device again (front_find sees that), or
 *	front_close	Closed, and everything goes
 */
#ifndef PV_FRONT_H
#define PV_FRONT_H

#include <pvio/hyper.h>
#include <pvio/noxs.h>

/* Each state, and what it permits. */
enum front_state {
	FRONT_NONE, /* nothing is ours but the handle: front_find */
	FRONT_OFFERED, /* the offer is read, the port is ours: share, allocate, front_choose */
	FRONT_CONNECTING, /* chosen: wait. The backend may look at what we shared from now on */
	FRONT_CONNECTED, /* I/O */
	FRONT_CLOSING, /* dom0 detaches: answers may be taken, nothing may be asked; then front_leave */
	FRONT_LOST, /* the backend stopped, and looks at nothing of ours: end shares and ports, front_retire, front_find */
	FRONT_REFUSED, /* we were not, or are no longer, wanted; f->why tells: close */
	FRONT_GONE, /* the device was removed: close */
	FRONT_ENDED, /* our domain or its hypervisor is gone: close */
	FRONT_BROKEN, /* the other side lied (-EPROTO): nothing that it says is believed any more: close */
};

/* Owner: a netfront or blkfront, or a test; one thread. Lifetime: front_open (also when it fails) to front_close. */
struct front {
	struct pv_hyper *h;
	enum pv_noxs_type type;
	uint32_t devid; /* FRONT_ANY: not found yet */
	enum front_state state;
	struct pv_noxs_entry entry; /* private copy; while bound: what we are bound to */
	struct pv_noxs_offer offer; /* private, checked copy */
	struct pv_noxs_control_page *control; /* NULL: not mapped */
	uint32_t features; /* as last chosen */
	enum pv_vif_pair pair; /* as last said */
	int port; /* ours, bound to entry.port; 0: none */
	int announce; /* ours, bound to pointer.port while we wait for the device; 0: none */
	uint64_t looked; /* ms: when front_find last looked */
	uint32_t retired; /* generation that we left: not to be taken again */
	bool has_retired;
	char why[192]; /* a line for a person about the last failure */
};

/* Begin: *f is zeroed and filled. devid FRONT_ANY: the first of its type that is free. Waits up to wait_ms for the device to be
 * offered (0: look once; then front_find looks again). f->state is FRONT_OFFERED after 0. -ENOENT: not announced; -EBUSY: another process has it, or its last user is still being cleaned up;
 * -ECONNREFUSED: its backend is stopped; -EPROTO: the pages are nonsense; other -errno. f->why has words. */
int front_open(struct front *f, const char *spec, int domid, enum pv_noxs_type type, uint32_t devid, int wait_ms);

/* After front_retire, or a front_open in vain: look for the device as it is offered anew. One look each FRONT_POLL_MS, -EAGAIN in between. Returns as
 * front_open; f->state tells: FRONT_OFFERED, FRONT_GONE (removed), FRONT_ENDED, FRONT_BROKEN, or still FRONT_NONE: try again. */
int front_find(struct front *f);

/* Write the choice (queues, features and what follows them are the caller's, the rest is filled in) and ask to be connected. */
int front_choose(struct front *f, struct pv_noxs_choice *choice);

/* Connected, a vif: choose anew what may be; features: of PV_VIF_CHANGEABLE. Returns 0 or -errno. */
int front_choose_anew(struct front *f, uint32_t features, uint32_t headroom);

/* Say which of a pair is used, now and with each choice that follows. */
void front_say_pair(struct front *f, enum pv_vif_pair pair);

/* Fetch pending ports and follow the states: f->state tells. Returns how many ports that are not ours are in ports[], each
 * masked until the caller is done with its work (XSA-391), or -errno; -ESHUTDOWN: f->state is FRONT_ENDED. */
int front_events(struct front *f, uint32_t *ports, unsigned max);

/* Follow the states without an event. `changed`: the offer may have changed too (carrier, MTU, size): read it again. */
void front_follow(struct front *f, bool changed);

/* The other side lied: `what`, in words. Returns -EPROTO. */
int front_broken(struct front *f, const char *what);

/* Closing; wait until the backend stopped, at most timeout_ms. Returns 0, or -ETIMEDOUT: its mappings may linger, as those
 * of a peer who died: whatever is unshared now is kept out of use by the hypervisor port until they are gone (XSA-396).
 * -ESHUTDOWN: our domain or its hypervisor is gone, there is nobody to wait for. */
int front_leave(struct front *f, int timeout_ms);

/* Closed: from now on nothing is shared. The control page and the port are kept for the next offer. */
void front_retire(struct front *f);

/* Unmap, unbind, close the handle. Shares and ports of the caller go with it. Any state, also a zeroed f. */
void front_close(struct front *f);

/* As errors of the public calls: 0 while it works or may work again, -ESHUTDOWN, -ECONNREFUSED, -EPROTO. */
int front_error(const struct front *f);

/* Our state as XenBus has it. */
enum xenbus_state front_xenbus_state(const struct front *f);

/* "vif 0", "vbd xvda", "pipe 1": for messages. buf of at least 24 bytes. */
const char *front_name(const struct front *f, char *buf, size_t len);

uint64_t front_now_ms(void); /* monotonic */

#define FRONT_ANY UINT32_MAX /* in place of a devid: none has this number */

enum { FRONT_POLL_MS = 10, FRONT_PAGES_MAX = 64 /* linked device pages that are followed: 8064 devices */ };

#endif
