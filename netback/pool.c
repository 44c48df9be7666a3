/* pool.c - the packet memory: one pool of segments, each of which is a page.
 *
 * The hypervisor copies between pages: from a page of a guest into a page of ours it is one operation, and two where the data lies
 * across two. */
#define ALLOW_EXPERIMENTAL_API /* rte_pktmbuf_pool_create_extbuf: there since 20.05, and stable from 23.11 on as it was */
#include "netback.h"
#include <rte_errno.h>
#include <rte_malloc.h>
#include <rte_mempool.h>

enum { REFILL = POOL_SPARE / 2 };

static unsigned seg_cost(void)
{
	return PV_PAGE_SIZE + rte_mempool_calc_obj_size(sizeof(struct rte_mbuf) + sizeof(struct rte_mbuf_ext_shared_info), 0, NULL) +
	       rte_mempool_calc_obj_size(sizeof(struct rte_mbuf), 0, NULL); /* one of pool_refs_new's */
}

struct rte_mempool *pool_new(unsigned memory, void **pages, char *why, size_t len)
{
	/* What DPDK's heap takes for itself, for the switch's table and for the uplink is left over. */
	uint64_t bytes = ((uint64_t)memory << 20) * 3 / 4 - (memory > 32 ? 16u << 20 : 0);
	struct rte_pktmbuf_extmem mem = { .elt_size = PV_PAGE_SIZE };
	unsigned n = (unsigned)(bytes / seg_cost());
	struct rte_mempool *pool = NULL;

	mem.buf_len = (size_t)n * PV_PAGE_SIZE;
	mem.buf_ptr = *pages = rte_malloc("packets", mem.buf_len, PV_PAGE_SIZE);
	mem.buf_iova = (rte_iova_t)(uintptr_t)mem.buf_ptr; /* ports that do DMA are none of ours */
	if (mem.buf_ptr)
		pool = rte_pktmbuf_pool_create_extbuf("pvio", n, NB_POOL_CACHE, 0, PV_PAGE_SIZE, SOCKET_ID_ANY, &mem, 1);
	if (!pool)
		pv_why(why, len, 0, "no packet memory of %u MiB: %s; give another --memory", memory,
		       mem.buf_ptr ? rte_strerror(rte_errno) : "out of memory");
	return pool;
}

void pool_free(struct rte_mempool *pool, void *pages)
{
	if (pool)
		rte_mempool_free(pool);
	rte_free(pages);
}

struct rte_mempool *pool_refs_new(const struct rte_mempool *pool)
{
	return rte_pktmbuf_pool_create("pvio-refs", pool->size, NB_POOL_CACHE, 0, 0, SOCKET_ID_ANY);
}

unsigned pool_seg_cost(void)
{
	return seg_cost();
}

bool pool_refill(struct pool_spare *spare)
{
	if (rte_pktmbuf_alloc_bulk(spare->pool, spare->m, REFILL) == 0)
		spare->n = REFILL;
	else if ((spare->m[0] = rte_pktmbuf_alloc(spare->pool))) /* the last ones */
		spare->n = 1;
	return spare->n;
}

static void put_segment(struct pool_spare *spare, struct rte_mbuf *seg)
{
	if (likely(spare->n < POOL_SPARE && seg->pool == spare->pool))
		spare->m[spare->n++] = seg;
	else
		rte_pktmbuf_free_seg(seg);
}

static void put_chain(struct pool_spare *spare, struct rte_mbuf *m)
{
	struct rte_mbuf *next;

	for (; m; m = next) {
		next = m->next;
		m->next = NULL;
		m->nb_segs = 1;
		put_segment(spare, m);
	}
}

/* Nobody else refers to it, and it is one segment: the two counts are looked at as one word. */
static inline bool alone(const struct rte_mbuf *m)
{
	const union {
		uint16_t n[2];
		uint32_t word;
	} one = { { 1, 1 } };
	uint32_t word;

	_Static_assert(offsetof(struct rte_mbuf, nb_segs) == offsetof(struct rte_mbuf, refcnt) + sizeof(m->refcnt), "side by side");
	memcpy(&word, &m->refcnt, sizeof(word));
	return word == one.word;
}

void pool_put(struct pool_spare *spare, struct rte_mbuf **m, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		bool indirect = m[i]->ol_flags & RTE_MBUF_F_INDIRECT;

		if (likely(alone(m[i]) && !indirect))
			put_segment(spare, m[i]);
		else if (rte_mbuf_refcnt_read(m[i]) > 1 || indirect)
			rte_pktmbuf_free(m[i]);
		else
			put_chain(spare, m[i]);
	}
}

struct rte_mbuf *pool_copy(struct rte_mempool *pool, const struct rte_mbuf *m)
{
	struct rte_mbuf *copy = rte_pktmbuf_copy(m, pool, 0, UINT32_MAX);

	for (struct rte_mbuf *seg = copy; seg; seg = seg->next)
		seg->ol_flags |= RTE_MBUF_F_EXTERNAL;
	return copy;
}

struct rte_mbuf *pool_chain(struct rte_mempool *pool, uint32_t len)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool), *last = m;

	if (!m)
		return NULL;
	m->data_off = pool_begin(m, len);
	m->data_len = (uint16_t)RTE_MIN(len, (uint32_t)PV_PAGE_SIZE);
	m->pkt_len = len;
	for (uint32_t left = len - m->data_len; left; left -= last->data_len) {
		struct rte_mbuf *seg = rte_pktmbuf_alloc(pool);

		if (!seg) {
			rte_pktmbuf_free(m);
			return NULL;
		}
		seg->data_off = 0;
		seg->data_len = (uint16_t)RTE_MIN(left, (uint32_t)PV_PAGE_SIZE);
		last->next = seg;
		last = seg;
		m->nb_segs++;
	}
	return m;
}

void pool_spare_free(struct pool_spare *spare)
{
	rte_pktmbuf_free_bulk(spare->m, spare->n);
	spare->n = 0;
}
