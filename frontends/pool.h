/* pool.h - which pages of a run of pages are free: a buddy allocator of page numbers. Pure; takes and gives in O(log n).
 *
 * Runs of any length are kept to the page: what a power of two leaves over goes back at once, and a run is freed by its first
 * page and its length. Internal to libpvfront.
 */
#ifndef PV_FRONT_POOL_H
#define PV_FRONT_POOL_H

#include <stdint.h>

enum { POOL_ORDERS = 13, POOL_PAGES_MAX = 1 << (POOL_ORDERS - 1) };

/* Owner: a blkfront; its thread. Lifetime: front_pool_new to front_pool_free. A page is free (the first of a free block of its
 * order, or inside one) or taken. */
struct pool {
	struct pool_page {
		int16_t next, prev; /* in the list of its order, -1: none; valid in the first page of a free block */
		int8_t order; /* of the free block that begins here, -1: none begins here */
	} *page;
	int16_t head[POOL_ORDERS]; /* free blocks of 1 << order pages, aligned to their size; -1: none */
	unsigned pages, free;
};

int front_pool_new(struct pool *p, unsigned pages); /* 1..POOL_PAGES_MAX; 0, -EINVAL or -ENOMEM */
void front_pool_free(struct pool *p);

int front_pool_take(struct pool *p, unsigned n); /* n contiguous pages: the first one's number, or -ENOSPC */
void front_pool_give(struct pool *p, unsigned first, unsigned n);

#endif
