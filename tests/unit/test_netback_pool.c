/* The segments that a worker keeps at hand. */
#include "netback/netback.h"
#include <rte_mempool.h>
#include <setjmp.h>
#include <cmocka.h>

static struct rte_mempool *pool;
static void *pages;
static struct pool_spare spare;

static struct rte_mbuf *packet(unsigned segs)
{
	struct rte_mbuf *m = pool_first(&spare, 100), *last = m;

	assert_non_null(m);
	m->data_len = 100;
	for (unsigned i = 1; i < segs; i++) {
		last = last->next = pool_page(&spare);
		assert_non_null(last);
		assert_int_equal(last->data_off, 0);
		m->nb_segs++;
	}
	return m;
}

static void assert_fresh(const struct rte_mbuf *m)
{
	assert_int_equal(m->ol_flags, RTE_MBUF_F_EXTERNAL);
	assert_int_equal(m->data_len, 0);
	assert_int_equal(m->vlan_tci, 0);
	assert_int_equal(m->nb_segs, 1);
	assert_null(m->next);
	assert_int_equal(rte_mbuf_refcnt_read(m), 1);
}

static void nothing_is_lost(void)
{
	pool_spare_free(&spare);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static void pool_put_what_comes_again_is_fresh(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 1000; round++) {
		struct rte_mbuf *m = packet(1 + round % 3), *again;

		m->ol_flags |= NB_FLAGS;
		m->vlan_tci = 5;
		pool_put(&spare, &m, 1);
		again = pool_first(&spare, 4096);
		assert_fresh(again);
		pool_put(&spare, &again, 1);
	}
	nothing_is_lost();
}

/* More than there is room for at hand: the rest is the pool's, and none is lost. */
static void pool_put_many(void **state)
{
	struct rte_mbuf *m[4 * POOL_SPARE];

	(void)state;
	for (unsigned i = 0; i < RTE_DIM(m); i++)
		m[i] = packet(1 + i % 2);
	pool_put(&spare, m, RTE_DIM(m));
	assert_int_equal(spare.n, POOL_SPARE);
	nothing_is_lost();
}

/* A packet that was flooded belongs to several: the last one gives it back. */
static void pool_put_what_is_shared(void **state)
{
	struct rte_mbuf *m = packet(3);
	unsigned before;

	(void)state;
	rte_pktmbuf_refcnt_update(m, 1);
	before = spare.n;
	pool_put(&spare, &m, 1);
	assert_int_equal(spare.n, before);
	assert_int_equal(m->nb_segs, 3);
	assert_non_null(m->next);
	pool_put(&spare, &m, 1);
	assert_int_equal(spare.n, before + 3);
	nothing_is_lost();
}

/* The last segments come one by one, and then there is none: no packet is half made. */
static void pool_first_until_there_is_none(void **state)
{
	static struct rte_mbuf *all[20000];
	unsigned n = 0;

	(void)state;
	while (n < RTE_DIM(all) && (all[n] = pool_first(&spare, 100)))
		n++;
	assert_in_range(n, 1, RTE_DIM(all) - 1);
	assert_null(pool_page(&spare));
	pool_put(&spare, all, n);
	nothing_is_lost();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pool_put_what_comes_again_is_fresh),
		cmocka_unit_test(pool_put_many),
		cmocka_unit_test(pool_put_what_is_shared),
		cmocka_unit_test(pool_first_until_there_is_none),
	};
	char why[300];
	int ret;

	pv_log_open("test", PV_LOG_WARN);
	if (eal_start(64, why, sizeof(why)) < 0 || !(pool = pool_new(64, &pages, why, sizeof(why)))) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	spare.pool = pool;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	pool_free(pool, pages);
	eal_stop();
	return ret;
}
