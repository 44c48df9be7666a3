/* pool.c - the packet memory: one pool of segments, for what guests send and for what the uplink receives. */
#include "netback.h"
#include <rte_errno.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>

/* The library's own helper would place one segment a page when there are no hugepages, for the sake of devices that do DMA. Ours
 * do none, so segments may lie across pages, and the memory holds nearly twice as many. */
static struct rte_mempool *pool_make(unsigned n, unsigned elt)
{
	struct rte_mempool *pool = rte_mempool_create_empty("pvio", n, elt, NB_POOL_CACHE, sizeof(struct rte_pktmbuf_pool_private),
							    SOCKET_ID_ANY, RTE_MEMPOOL_F_NO_IOVA_CONTIG);

	if (!pool)
		return NULL;
	if (rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL) == 0) {
		rte_pktmbuf_pool_init(pool, NULL);
		if (rte_mempool_populate_default(pool) >= 0) {
			rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
			return pool;
		}
	}
	rte_mempool_free(pool);
	return NULL;
}

struct rte_mempool *pool_new(unsigned memory, char *why, size_t len)
{
	/* What DPDK's heap takes for itself, for the switch's table and for the uplink is left over. */
	uint64_t bytes = ((uint64_t)memory << 20) * 3 / 4 - (memory > 32 ? 16u << 20 : 0);
	unsigned elt = sizeof(struct rte_mbuf) + RTE_PKTMBUF_HEADROOM + NB_SEG_ROOM;
	struct rte_mempool *pool = pool_make((unsigned)(bytes / rte_mempool_calc_obj_size(elt, 0, NULL)), elt);

	if (!pool)
		pv_why(why, len, 0, "no packet memory of %u MiB: %s; give another --memory", memory, rte_strerror(rte_errno));
	return pool;
}

unsigned pool_seg_cost(const struct rte_mempool *pool)
{
	return pool->header_size + pool->elt_size + pool->trailer_size;
}

/* Append what does not fit in the first segment, which keeps its headroom for drivers; the others are used whole. */
static struct rte_mbuf *grow(struct rte_mempool *pool, struct rte_mbuf *m)
{
	struct rte_mbuf *last = m;

	for (uint32_t left = m->pkt_len - m->data_len; left; left -= last->data_len) {
		struct rte_mbuf *seg = rte_pktmbuf_alloc(pool);

		if (!seg) {
			rte_pktmbuf_free(m);
			return NULL;
		}
		seg->data_off = 0;
		seg->data_len = RTE_MIN(left, (uint32_t)seg->buf_len);
		last->next = seg;
		last = seg;
		m->nb_segs++;
	}
	return m;
}

static struct rte_mbuf *begin(struct rte_mempool *pool, struct rte_mbuf *m, uint32_t len)
{
	m->data_len = RTE_MIN(len, (uint32_t)NB_SEG_ROOM);
	m->pkt_len = len;
	return likely(m->data_len == len) ? m : grow(pool, m);
}

struct rte_mbuf *pool_chain(struct rte_mempool *pool, uint32_t len)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	return m ? begin(pool, m, len) : NULL;
}

struct rte_mbuf *pool_packet(struct rte_mempool *pool, struct pool_spare *spare, uint32_t len)
{
	if (unlikely(!spare->n)) {
		if (rte_pktmbuf_alloc_bulk(pool, spare->m, POOL_SPARE) < 0)
			return pool_chain(pool, len); /* the last ones */
		spare->n = POOL_SPARE;
	}
	return begin(pool, spare->m[--spare->n], len);
}

void pool_spare_free(struct pool_spare *spare)
{
	rte_pktmbuf_free_bulk(spare->m, spare->n);
	spare->n = 0;
}
