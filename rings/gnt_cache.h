/* gnt_cache.h - mapped pages of one guest, kept between requests: gref -> address, bounded.
 *
 * A page is mapped by a map call of one or more references; the call is the unit that is unmapped (hyper.h), so it is the
 * unit of caching: a call is pinned while any of its pages is in use, and evicted whole, least recently used first.
 * Thread rule: the thread of its pv_hyper.
 */
#ifndef PV_GNT_CACHE_H
#define PV_GNT_CACHE_H

#include "hyper.h"

struct pv_gnt_cache;

struct pv_gnt_cache_stats {
	uint64_t hits, misses, evictions; /* pages */
	uint32_t mapped, pinned, limit; /* pages now */
	uint32_t calls; /* that mapped them: each is a mapping of the process (vm.max_map_count) */
};

/* A cache for domid's pages, of at most `limit` mapped pages. keep: pages stay mapped after use (persistent grants);
 * otherwise a call is unmapped when its last page is put. h must outlive it. Returns 0 or -ENOMEM. */
int pv_gnt_cache_new(struct pv_hyper *h, uint16_t domid, unsigned limit, bool keep, struct pv_gnt_cache **out);

/* Unmap everything and free, also what is still pinned. NULL is fine. */
void pv_gnt_cache_free(struct pv_gnt_cache *c);

/* Pin n references (n <= limit) and give their addresses. References not yet mapped are mapped by one call; pages that
 * are mapped read-only are mapped anew when writable is asked. All or nothing. Returns 0; -EACCES: at least one reference
 * is bad; -ENOSPC: the limit is reached and everything is pinned (XSA-300); -ENOMEM, -EAGAIN. A reference may appear twice. */
int pv_gnt_cache_get(struct pv_gnt_cache *c, const uint32_t *grefs, unsigned n, bool writable, void **addrs);

/* Unpin what one pv_gnt_cache_get pinned: the same references with the same `writable`. */
void pv_gnt_cache_put(struct pv_gnt_cache *c, const uint32_t *grefs, unsigned n, bool writable);

/* Unmap kept pages not used since the call before this one; call it now and then (Linux: 60 s). Returns pages unmapped. */
unsigned pv_gnt_cache_trim(struct pv_gnt_cache *c);

void pv_gnt_cache_stats(const struct pv_gnt_cache *c, struct pv_gnt_cache_stats *out);

#endif
