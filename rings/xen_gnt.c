/* xen_gnt.c - grants of a Xen handle: share through /dev/xen/gntalloc, map and copy through gntdev.
 *
 * libxengnttab undoes what a failed call did, and unmaps whole calls only; every call that worked is a region, found by its address.
 * gntalloc keeps a page and its reference out of use until the peer has unmapped it (XSA-396).
 */
#include "hyper_xen.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GNTALLOC_LIMIT "/sys/module/xen_gntalloc/parameters/limit"
#define GNTDEV_LIMIT "/sys/module/xen_gntdev/parameters/limit"

int xen_gnt_open(struct xen *x)
{
	x->gnt = xengnttab_open(&xen_discard, 0);
	return x->gnt ? 0 : xen_no_device(x, "gntdev", "xen-gntdev");
}

/* Unmapping is what ends shares and maps, and sends their notices; the libraries' handles would leave all mapped. */
void xen_gnt_close(struct xen *x)
{
	uint32_t i;

	for (i = 0; x->regions.slots && i <= x->regions.mask; i++) {
		struct xen_region *r = x->regions.slots[i].val;

		if (r) {
			munmap(r->addr, (size_t)r->n * HYPER_PAGE);
			free(r);
		}
	}
	idmap_free(&x->regions);
	if (x->shr)
		xengntshr_close(x->shr);
	if (x->gnt)
		xengnttab_close(x->gnt);
}

/* ---- regions ---- */

static struct xen_region *region_new(struct xen *x, uint32_t n, bool share)
{
	struct xen_region *r = idmap_reserve(&x->regions, 1) ? NULL : malloc(sizeof(*r));

	if (!r)
		hyper_fail(&x->h, -ENOMEM, "out of memory for %u pages", n);
	else
		*r = (struct xen_region){ .n = n, .share = share };
	return r;
}

static void region_put(struct xen *x, struct xen_region *r, void *addr)
{
	r->addr = addr;
	idmap_put(&x->regions, (uintptr_t)addr, r);
}

static int region_end(struct xen *x, void *addr, unsigned n, bool share)
{
	struct xen_region *r = addr ? idmap_get(&x->regions, (uintptr_t)addr) : NULL;

	if (!r || r->n != n || r->share != share)
		return hyper_fail(&x->h, -EINVAL, "%p with %u pages is not what one %s of this handle made", addr, n, share ? "share" : "map");
	if (share ? xengntshr_unshare(x->shr, addr, n) : xengnttab_unmap(x->gnt, addr, n))
		return hyper_fail(&x->h, -errno, "cannot unmap %u pages at %p: %s", n, addr, strerror(errno));
	idmap_del(&x->regions, (uintptr_t)addr);
	free(r);
	return 0;
}

static int no_notice_port(struct xen *x, const struct pv_gnt_notice *notice)
{
	return hyper_fail(&x->h, -EINVAL, "port %u for an unmap notice is not bound by this handle", notice->port);
}

/* ---- share ---- */

static int share_failed(struct xen *x, unsigned n)
{
	int err = -errno;

	if (err == -ENOMEM)
		return hyper_no_memory(&x->h, "a share");
	if (err == -ENOSPC)
		return hyper_fail(&x->h, err, "no grants left to share %u pages: this domain may share %ld; raise " GNTALLOC_LIMIT " or gnttab_max_frames",
				  n, hyper_number(GNTALLOC_LIMIT));
	return hyper_fail(&x->h, err, "cannot share %u pages: %s", n, strerror(-err));
}

int xen_share(struct pv_hyper *h, uint16_t domid, unsigned n, bool writable, const struct pv_gnt_notice *notice, uint32_t *grefs, void **addr)
{
	struct xen *x = (struct xen *)h;
	struct xen_region *r;
	void *p;

	if (!x->shr)
		x->shr = xengntshr_open(&xen_discard, 0);
	if (!x->shr)
		return xen_no_device(x, "gntalloc", "xen-gntalloc");
	if (notice && !xen_evt_ours(x, notice->port))
		return no_notice_port(x, notice);
	if (n > INT32_MAX / HYPER_PAGE)
		return hyper_fail(h, -EINVAL, "cannot share %u pages in one call", n);
	r = region_new(x, n, true);
	if (!r)
		return -ENOMEM;
	p = notice ? xengntshr_share_page_notify(x->shr, domid, grefs, writable, notice->offset, notice->port) :
		     xengntshr_share_pages(x->shr, domid, n, grefs, writable);
	if (!p) {
		free(r);
		return share_failed(x, n);
	}
	region_put(x, r, p);
	*addr = p;
	return 0;
}

int xen_unshare(struct pv_hyper *h, void *addr, unsigned n)
{
	return region_end((struct xen *)h, addr, n, true);
}

/* ---- map ---- */

static const char *status_text(int16_t status)
{
	static const char *const text[] = GNTTABOP_error_msgs;

	return status <= 0 && -status < (int)(sizeof(text) / sizeof(text[0])) ? text[-status] : "unknown status";
}

/* The kernel says no more than EINVAL of a map that Xen refused. Reading a byte of each page tells whether a reference is bad,
 * and mapping it read-only whether it may be written; if neither, it was Xen that had no room. */
static int map_refused(struct xen *x, uint16_t domid, const uint32_t *grefs, unsigned n, bool writable)
{
	long limit = hyper_number(GNTDEV_LIMIT);
	unsigned i;
	void *p;

	if (limit >= 0 && n > (unsigned long)limit)
		return hyper_fail(&x->h, -ENOSPC, "cannot map %u pages in one call: raise " GNTDEV_LIMIT ", now %ld", n, limit);
	for (i = 0; i < n; i++) {
		uint8_t byte;
		struct pv_gnt_copy op = { .from = { .gref = grefs[i], .domid = domid }, .to.local = &byte, .len = 1, .status = GNTST_general_error };
		int err = xen_copy(&x->h, &op, 1);

		if (err || op.status != GNTST_okay)
			return hyper_fail(&x->h, -EACCES, "grant reference %u of domain %u was refused: %s", grefs[i], domid,
					  err ? strerror(-err) : status_text(op.status));
	}
	for (i = 0; writable && i < n; i++) {
		p = xengnttab_map_grant_ref(x->gnt, domid, grefs[i], PROT_READ | PROT_WRITE);
		if (!p) {
			p = xengnttab_map_grant_ref(x->gnt, domid, grefs[i], PROT_READ);
			if (p) {
				xengnttab_unmap(x->gnt, p, 1);
				return hyper_fail(&x->h, -EACCES, "grant reference %u of domain %u is read-only", grefs[i], domid);
			}
			break;
		}
		xengnttab_unmap(x->gnt, p, 1);
	}
	return hyper_fail(&x->h, -ENOSPC, "out of mappings for %u pages of domain %u: Xen's limit for this domain (gnttab_max_maptrack_frames)", n, domid);
}

static int map_failed(struct xen *x, uint16_t domid, const uint32_t *grefs, unsigned n, bool writable)
{
	int err = -errno;

	switch (err) {
	case -ENOMEM:
		return hyper_no_memory(&x->h, "granted pages");
	case -EINVAL:
		return map_refused(x, domid, grefs, n, writable);
	default:
		return hyper_fail(&x->h, err, "cannot map %u pages of domain %u: %s", n, domid, strerror(-err));
	}
}

int xen_map(struct pv_hyper *h, uint16_t domid, const uint32_t *grefs, unsigned n, bool writable, const struct pv_gnt_notice *notice,
	    void **addr)
{
	struct xen *x = (struct xen *)h;
	int prot = PROT_READ | (writable ? PROT_WRITE : 0);
	struct xen_region *r;
	void *p;

	/* In an HVM or PVH domain Xen gives a frame one place at a time: the page would be taken from where it is now. */
	if (domid == h->domid && !x->pv)
		return hyper_fail(h, -EINVAL, "domain %u is not PV: Xen lets it copy, but not map, what it granted to itself", domid);
	if (notice && !xen_evt_ours(x, notice->port))
		return no_notice_port(x, notice);
	r = region_new(x, n, false);
	if (!r)
		return -ENOMEM;
	p = notice ? xengnttab_map_grant_ref_notify(x->gnt, domid, grefs[0], prot, notice->offset, notice->port) :
		     xengnttab_map_domain_grant_refs(x->gnt, n, domid, (uint32_t *)grefs, prot);
	if (!p) {
		free(r);
		return map_failed(x, domid, grefs, n, writable);
	}
	region_put(x, r, p);
	*addr = p;
	return 0;
}

int xen_unmap(struct pv_hyper *h, void *addr, unsigned n)
{
	return region_end((struct xen *)h, addr, n, false);
}

/* ---- copy ---- */

static bool fits(const struct pv_gnt_end *end, uint16_t len)
{
	return end->local || end->offset + len <= HYPER_PAGE;
}

static union xengnttab_copy_ptr copy_ptr(const struct pv_gnt_end *end)
{
	union xengnttab_copy_ptr p = { .virt = end->local };

	if (!end->local) {
		p.foreign.ref = end->gref;
		p.foreign.offset = end->offset;
		p.foreign.domid = end->domid;
	}
	return p;
}

/* Prepare one operation for the kernel. False: it is done with already. The kernel would refuse a whole batch for one operation
 * that leaves its page or that needs no grant. */
static bool copy_prepare(struct pv_gnt_copy *op, xengnttab_grant_copy_segment_t *seg)
{
	if (!fits(&op->from, op->len) || !fits(&op->to, op->len)) {
		op->status = GNTST_bad_copy_arg;
		return false;
	}
	if (op->from.local && op->to.local) {
		memcpy(op->to.local, op->from.local, op->len);
		op->status = GNTST_okay;
		return false;
	}
	*seg = (xengnttab_grant_copy_segment_t){
		.source = copy_ptr(&op->from),
		.dest = copy_ptr(&op->to),
		.len = op->len,
		.flags = (op->from.local ? 0 : GNTCOPY_source_gref) | (op->to.local ? 0 : GNTCOPY_dest_gref),
		.status = GNTST_general_error,
	};
	return true;
}

/* The kernel writes "okay" into a status before Xen is asked: after an error none of a call's statuses counts. */
int xen_copy(struct pv_hyper *h, struct pv_gnt_copy *ops, unsigned n)
{
	struct xen *x = (struct xen *)h;
	struct pv_gnt_copy *op[XEN_COPY_BATCH], *end = ops + n;
	unsigned k, i;

	while (ops < end) {
		for (k = 0; ops < end && k < XEN_COPY_BATCH; ops++)
			if (copy_prepare(ops, &x->segs[k]))
				op[k++] = ops;
		if (k && xengnttab_grant_copy(x->gnt, k, x->segs))
			return hyper_fail(h, -errno, "cannot copy %u pieces: %s", k, strerror(errno));
		for (i = 0; i < k; i++)
			op[i]->status = x->segs[i].status;
	}
	return 0;
}
