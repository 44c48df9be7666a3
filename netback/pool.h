/* pool.h - the packet memory: segments, each a page. */
#ifndef NETBACK_POOL_H
#define NETBACK_POOL_H

#include <pvio/ring.h>
#include <rte_mbuf.h>

struct rte_mempool *pool_new(unsigned memory, void **pages, char *why, size_t len);
void pool_free(struct rte_mempool *pool, void *pages); /* NULL is fine */
/* Segments that refer to parts of others' pages and have none of their own. They do not run out before the pages do: each ends where a page does that it
 * refers to, or where its packet does, whose headers have a page. NULL: no memory. */
struct rte_mempool *pool_refs_new(const struct rte_mempool *pool);
unsigned pool_seg_cost(void); /* bytes of memory a segment */
/* As rte_pktmbuf_copy of all of m, which forgets that a copy's first page is not a part of its mbuf, as who refers to it must know. NULL: no memory. */
struct rte_mbuf *pool_copy(struct rte_mempool *pool, const struct rte_mbuf *m);
/* A chain of segments with room for exactly len bytes, its lengths set. NULL: no memory. */
struct rte_mbuf *pool_chain(struct rte_mempool *pool, uint32_t len);
/* Segments at hand: taken out of the pool many at once, and put back here by those who are done with a packet. By DPDK's own way each
 * passes the count of its external buffer and the pool's cache, two more lines of memory. Owner: one worker. */
enum { POOL_SPARE = 128 };
struct pool_spare {
	struct rte_mempool *pool;
	unsigned n;
	struct rte_mbuf *m[POOL_SPARE];
};
bool pool_refill(struct pool_spare *spare); /* when there is none at hand; false: nor in the pool */

/* A packet that leaves half of its page free begins somewhere in the first half: if all began where their page does, they would
 * meet in the same few sets of the CPU's caches. The page is one of many, numbered in the order in which they are used. */
enum { POOL_COLOURS = PV_PAGE_SIZE / 2 / RTE_CACHE_LINE_SIZE };
static inline uint16_t pool_colour(uintptr_t page, uint32_t len)
{
	return len <= PV_PAGE_SIZE / 2 ? page % POOL_COLOURS * RTE_CACHE_LINE_SIZE : 0;
}

static inline uint16_t pool_begin(const struct rte_mbuf *m, uint32_t len)
{
	return pool_colour((uintptr_t)m->buf_addr / PV_PAGE_SIZE, len);
}

/* The first segment, empty, of a packet that will have len bytes; and an empty one that begins with its page. NULL: no memory. */
static inline struct rte_mbuf *pool_first(struct pool_spare *spare, uint32_t len)
{
	struct rte_mbuf *m;

	if (unlikely(!spare->n) && !pool_refill(spare))
		return NULL;
	m = spare->m[--spare->n];
	m->ol_flags = RTE_MBUF_F_EXTERNAL; /* it may come from pool_put, as its packet left it; lengths of headers count only where flags say so */
	m->data_off = pool_begin(m, len);
	m->data_len = 0;
	m->vlan_tci = 0;
	return m;
}

static inline struct rte_mbuf *pool_page(struct pool_spare *spare)
{
	return pool_first(spare, PV_PAGE_SIZE);
}

/* As rte_pktmbuf_free_bulk. No other segment refers to these: to whom some do (gso.c) is not given back here. */
void pool_put(struct pool_spare *spare, struct rte_mbuf **m, unsigned n);
void pool_spare_free(struct pool_spare *spare);

#endif
