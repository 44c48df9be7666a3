/* hyper.h - the port: the one seam between pvio and the machine.
 *
 * A handle gives a thread the hypervisor of its host as seen from its domain: who am I, grants (share, map, copy) and
 * event channels. Nothing above this header knows whether Xen or the loopback hypervisor is below it.
 *
 * Thread rule: a handle, and all that was made through it, belongs to one thread; each thread opens its own.
 * Errors: int results are >= 0 or -errno. Nothing here prints. A peer's misdeed is never an assertion.
 * Every call but a release may return -ESHUTDOWN: the hypervisor ended the handle (the domain was destroyed, the hub is gone).
 * pv_hyper_error() tells in words what ran out or was refused in the last failed call of this handle.
 */
#ifndef PV_HYPER_H
#define PV_HYPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pv_hyper;
struct pv_noxs_pointer;

/* A byte of a shared page that turns 0, and a port that is notified, when this side unmaps the page or its process dies
 * (gntdev's and gntalloc's unmap notice). Single pages only. */
struct pv_gnt_notice {
	uint32_t offset; /* bytes into the page */
	uint32_t port; /* local port of the same handle */
};

/* One end of a grant copy: local memory, or a granted page of another domain. */
struct pv_gnt_end {
	void *local; /* not NULL: this memory, and the rest is ignored */
	uint32_t gref;
	uint16_t domid;
	uint16_t offset; /* bytes into the granted page */
};

struct pv_gnt_copy {
	struct pv_gnt_end from, to;
	uint16_t len; /* bytes; offset + len <= 4096 at a granted end; on Xen a local end that crosses a page costs one operation more */
	int16_t status; /* out: a GNTST_ value; only GNTST_okay is success (XSA-313, 316) */
};

/* What a hypervisor provides. pv_* below call through this table and document each entry. */
struct pv_hyper_ops {
	const char *name; /* "loopback", "xen" */
	void (*close)(struct pv_hyper *h);
	int (*pointer)(struct pv_hyper *h, struct pv_noxs_pointer *out);
	int (*share)(struct pv_hyper *h, uint16_t domid, unsigned n, bool writable, const struct pv_gnt_notice *notice,
		     uint32_t *grefs, void **addr);
	int (*unshare)(struct pv_hyper *h, void *addr, unsigned n);
	int (*map)(struct pv_hyper *h, uint16_t domid, const uint32_t *grefs, unsigned n, bool writable,
		   const struct pv_gnt_notice *notice, void **addr);
	int (*unmap)(struct pv_hyper *h, void *addr, unsigned n);
	int (*copy)(struct pv_hyper *h, struct pv_gnt_copy *ops, unsigned n);
	int (*evt_alloc)(struct pv_hyper *h, uint16_t domid);
	int (*evt_bind)(struct pv_hyper *h, uint16_t domid, uint32_t port);
	int (*evt_unbind)(struct pv_hyper *h, uint32_t port);
	int (*evt_notify)(struct pv_hyper *h, uint32_t port);
	int (*evt_fd)(struct pv_hyper *h);
	int (*evt_pending)(struct pv_hyper *h, uint32_t *ports, unsigned max);
	int (*evt_unmask)(struct pv_hyper *h, const uint32_t *ports, unsigned n);
};

/* What a handle was asked for since it was opened: where the time goes. Calls are counted whatever came of them. On Xen each
 * call is one system call, and one hypercall or (for maps and copies of many) a few. */
struct pv_hyper_counts {
	uint64_t shares, shared_pages; /* pages: that were given */
	uint64_t maps, mapped_pages; /* pages: that were given */
	uint64_t unmaps;
	uint64_t copies, copied_pieces, copied_bytes; /* pv_gnt_copy, its operations and their bytes */
	uint64_t notifies;
	uint64_t polls, events; /* pv_evt_pending, and the ports that it gave */
	uint64_t unmasks;
};

/* The head of every port's own handle. */
struct pv_hyper {
	const struct pv_hyper_ops *ops;
	uint16_t domid; /* ours; DOMID_INVALID: this guest has no store that tells it. Messages show it; no frontend depends on it */
	char error[160]; /* words for the last failure, "" if none */
	struct pv_hyper_counts counts;
};

/* The run directory, where pvio's sockets are: $PVIO_RUNDIR, else /run/pvio. */
const char *pv_rundir(void);

/* Open a handle. spec: "xen", "loopback" (hub at $PVIO_RUNDIR/hub.sock, PVIO_RUNDIR defaulting to /run/pvio), "loopback:PATH"
 * (that hub socket), or NULL: $PVIO_HYPERVISOR if set, else the hypervisor that the host runs on (/sys/hypervisor/type).
 * domid: which domain to be; must exist on loopback; on Xen it must be ours, or -1 for whichever we are.
 * Returns 0; -ENODEV: no such hypervisor here (loopback is never chosen unasked), or a module of its kernel is missing; -ENOENT:
 * no such domain; -EINVAL: not ours to be; other -errno.
 * On failure *out is NULL and `why` (of `len` bytes, may be NULL) holds one line for a person. */
int pv_hyper_open(const char *spec, int domid, struct pv_hyper **out, char *why, size_t len);

/* Would pv_hyper_open(spec) refuse domid -1? On loopback a process can be any domain, so it must say which. */
bool pv_hyper_needs_domid(const char *spec);

/* Close: everything shared, mapped and bound through the handle goes, as when the process dies. NULL is fine. */
void pv_hyper_close(struct pv_hyper *h);

/* Words for the last failure on this handle: names what ran out, its limit and what to do. Never NULL. */
const char *pv_hyper_error(const struct pv_hyper *h);

/* What the handle has done so far. */
void pv_hyper_counts(const struct pv_hyper *h, struct pv_hyper_counts *out);

/* The guest's own noxs pointer (noxs.h). Returns 0, -ENOENT (not announced yet), -EPROTO (not a pointer). May be called often: on
 * Xen the first call waits for the guest's XenStore (2 s at most), later ones only look whether the watched node has changed. */
int pv_hyper_pointer(struct pv_hyper *h, struct pv_noxs_pointer *out);

/* Grant n zeroed pages, contiguous in our memory at *addr, to domid; grefs[n] receives the references.
 * notice: may be NULL; only with n == 1. Returns 0; -ENOSPC: no grants left (named in pv_hyper_error); -ENOMEM; -EINVAL. */
int pv_gnt_share(struct pv_hyper *h, uint16_t domid, unsigned n, bool writable, const struct pv_gnt_notice *notice,
		 uint32_t *grefs, void **addr);

/* End what one pv_gnt_share made (its addr and n). Nobody can map or copy it anew; the page and its reference stay out of
 * use, on loopback counted, until the peer has unmapped (XSA-396). On Xen a peer that has it mapped can map and copy it again
 * until a moment (a second or two) after it has unmapped. Returns 0, or -EINVAL if it is not such a share. */
int pv_gnt_unshare(struct pv_hyper *h, void *addr, unsigned n);

/* Map n pages granted to us by domid, contiguous at *addr. Succeeds or fails as a whole: nothing stays mapped on failure.
 * Returns 0; -EACCES: a reference is stale, foreign, revoked, or read-only and writable was asked; -ENOSPC: out of
 * mappings (named in pv_hyper_error); -EAGAIN, -ENOMEM; -EINVAL: a domain of Xen that is not PV cannot map its own pages.
 * A caller that must know which reference is bad retries one by one. */
int pv_gnt_map(struct pv_hyper *h, uint16_t domid, const uint32_t *grefs, unsigned n, bool writable,
	       const struct pv_gnt_notice *notice, void **addr);

/* Undo one pv_gnt_map (its addr and n). Returns 0 or -EINVAL. */
int pv_gnt_unmap(struct pv_hyper *h, void *addr, unsigned n);

/* Run a batch of copies. Every status is preset to GNTST_general_error (XSA-318) and then set for each operation alone;
 * one bad operation leaves the others alone. Returns 0 if the batch ran (look at each status), else -errno. */
int pv_gnt_copy(struct pv_hyper *h, struct pv_gnt_copy *ops, unsigned n);

/* Allocate a port that domid may bind. Returns the local port (> 0) or -ENOSPC: no ports left. */
int pv_evt_alloc(struct pv_hyper *h, uint16_t domid);

/* Bind domid's unbound port that waits for us. Returns the local port (> 0), which is pending at once, as on Xen;
 * -EACCES, -EINVAL: it does not wait for us; -ENOSPC. When a bound peer closes, its port waits for the same domain again. */
int pv_evt_bind(struct pv_hyper *h, uint16_t domid, uint32_t port);

/* Close a local port. The peer gets no event. Returns 0 or -EINVAL. */
int pv_evt_unbind(struct pv_hyper *h, uint32_t port);

/* Notify the other end; lost silently if there is none. Never blocks. Returns 0 or -errno. */
int pv_evt_notify(struct pv_hyper *h, uint32_t port);

/* A descriptor that is readable while pv_evt_pending has something to give, and when the hypervisor ended the handle, until
 * pv_evt_pending has said so. It may be so now and then with nothing to give: after an unbind,
 * and on Xen a few times after the last event. */
int pv_evt_fd(struct pv_hyper *h);

/* Fetch up to max pending ports, without blocking; each is masked until pv_evt_unmask, on Xen since its event arrived: what
 * comes between arrival and pv_evt_unmask is one more event then. Returns how many, 0: none;
 * -ESHUTDOWN, from then on: the hypervisor ended the handle, and the descriptor tells nothing more. */
int pv_evt_pending(struct pv_hyper *h, uint32_t *ports, unsigned max);

/* Unmask n ports after their work is done (XSA-331: a storm then costs its sender, not us). Returns 0 or -errno. */
int pv_evt_unmask(struct pv_hyper *h, const uint32_t *ports, unsigned n);

#endif
