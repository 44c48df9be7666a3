/* Senders at an uplink, or at another worker, that takes less than they give it: each has its share, whoever comes first or last. */
#include "netback/netback.h"
#include <rte_mempool.h>
#include <rte_ring_elem.h>
#include <setjmp.h>
#include <cmocka.h>

enum { SENDERS = 8, GREEDY = SENDERS - 1, TURNS = 1000, MS = 1000 /* TSC ticks */ };

static struct rte_mempool *pool;
static struct netback nb = { .tsc_second = 1000 * MS };
static struct nb_worker w = { .nb = &nb, .tsc = 1 };
static unsigned capacity, taken[SENDERS + 1]; /* what the uplink takes at once, and took of each */

static unsigned take(struct nb_worker *worker, struct uplink_queue *q, struct rte_mbuf **out, unsigned n)
{
	unsigned sent = n < capacity ? n : capacity;

	(void)worker, (void)q;
	capacity -= sent;
	for (unsigned i = 0; i < sent; i++)
		taken[out[i]->port]++;
	rte_pktmbuf_free_bulk(out, sent);
	return sent;
}

static const struct uplink_ops ops = { .send = take };
static struct bridge bridge = { .uplink.ops = &ops };
static struct uplink_queue q;

static int setup(void **state)
{
	(void)state;
	memset(&q, 0, sizeof(q));
	memset(taken, 0, sizeof(taken));
	q.bridge = &bridge;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	return 0;
}

static void give(unsigned sender, unsigned n)
{
	while (n--) {
		struct rte_mbuf *m = pool_chain(pool, 100);

		assert_non_null(m);
		m->port = (uint16_t)sender;
		uplink_put(&w, &q, &m, 1);
	}
}

static void turn(unsigned room)
{
	capacity = room;
	uplink_flush(&w, &q);
	w.tsc += MS / 100;
}

/* All that waits leaves, and then nothing is held. */
static void runs_dry(void)
{
	for (unsigned i = 0; q.n; i++) {
		assert_true(i < 100);
		turn(20);
	}
	assert_int_equal(q.fair.senders, 0);
	for (unsigned i = 0; i < UPLINK_WAITING; i++)
		assert_int_equal(q.account[i], 0);
}

/* One offers without bound, before the others and after them; each of these has all that it sends. */
static void uplink_serves_the_polite(void **state)
{
	(void)state;
	for (unsigned t = 0; t < TURNS; t++) {
		give(GREEDY, 50);
		for (unsigned i = 0; i < GREEDY; i++)
			give(i, 1);
		give(GREEDY, 50);
		turn(16);
	}
	runs_dry();
	for (unsigned i = 0; i < GREEDY; i++)
		assert_in_range(taken[i], TURNS * 96 / 100, TURNS);
	assert_true(taken[GREEDY] >= TURNS * 8); /* and the greedy one what they leave */
	assert_int_equal(q.tx_packets + q.tx_dropped, TURNS * (100 + GREEDY));
}

/* All offer too much: none has more than another. */
static void uplink_is_shared_by_the_greedy(void **state)
{
	(void)state;
	for (unsigned t = 0; t < TURNS; t++) {
		for (unsigned i = 0; i < SENDERS; i++)
			give(i, 10 + 10 * i);
		turn(40);
	}
	runs_dry();
	for (unsigned i = 0; i < SENDERS; i++)
		assert_in_range(taken[i], TURNS * 40 / SENDERS * 7 / 10, TURNS * 40 / SENDERS * 13 / 10);
}

/* With room for all nothing waits and nothing is counted. */
static void uplink_with_room_takes_all(void **state)
{
	(void)state;
	for (unsigned t = 0; t < TURNS; t++) {
		capacity = 1000;
		give(t % SENDERS, 1 + t % 100);
		turn(1000);
		assert_int_equal(q.n, 0);
	}
	assert_int_equal(q.tx_dropped, 0);
}

/* Nobody is at its other end: nothing is kept for it for long, until it takes some. */
static void uplink_that_is_stuck_keeps_nothing(void **state)
{
	(void)state;
	give(1, 10);
	turn(0);
	assert_int_equal(q.n, 10);
	w.tsc += 11 * MS;
	turn(0);
	assert_int_equal(q.n, 0);
	assert_int_equal(q.tx_dropped, 10);
	give(1, 10);
	turn(0);
	assert_int_equal(q.n, 0); /* still */
	give(1, 10);
	turn(5);
	assert_int_equal(q.n, 5);
	runs_dry();
	assert_int_equal(taken[1], 10);
}

/* ---- the ring of packets to another worker */

static struct worker_log logs[2];
static struct nb_worker from = { .nb = &nb, .log = &logs[0] }, to = { .nb = &nb, .log = &logs[1], .index = 1 };

static int workers_up(void **state)
{
	nb.opt.workers = nb.nr_workers = 2;
	nb.workers[0] = &from;
	nb.workers[1] = &to;
	from.post_full = 0;
	assert_int_equal(post_new(&from), 0);
	assert_int_equal(post_new(&to), 0);
	return setup(state);
}

static int workers_down(void **state)
{
	post_free(&from);
	post_free(&to);
	return teardown(state);
}

static void post(unsigned sender, unsigned n)
{
	while (n--) {
		struct rte_mbuf *m = pool_chain(pool, 100);

		assert_non_null(m);
		m->port = (uint16_t)sender;
		post_send(&from, &to, &(struct post){ .m = m });
	}
}

/* The other worker takes so many, and the next turn of this one begins. */
static unsigned worker_takes(unsigned n)
{
	struct post p;
	unsigned got = 0;

	for (; got < n && rte_ring_sc_dequeue_elem(to.posts, &p, sizeof(p)) == 0; got++) {
		taken[p.m->port]++;
		rte_pktmbuf_free(p.m);
	}
	if (from.posts_wait)
		post_again(&from);
	return got;
}

static void worker_serves_the_polite(void **state)
{
	unsigned offered = 0;

	(void)state;
	post(GREEDY, NB_POST_RING); /* full before they come */
	for (unsigned t = 0; t < TURNS; t++, offered += 100 + GREEDY) {
		post(GREEDY, 50);
		for (unsigned i = 0; i < GREEDY; i++)
			post(i, 1);
		post(GREEDY, 50);
		worker_takes(16);
	}
	while (worker_takes(1000))
		;
	assert_false(from.posts_wait);
	assert_int_equal(from.post_wait[1].n, 0);
	assert_int_equal(from.post_wait[1].fair.senders, 0);
	for (unsigned i = 0; i < GREEDY; i++)
		assert_in_range(taken[i], TURNS * 96 / 100, TURNS);
	for (unsigned i = 0; i < GREEDY; i++)
		taken[GREEDY] += taken[i];
	assert_int_equal(taken[GREEDY] + from.post_full, NB_POST_RING + offered);
}

/* What waits keeps its order, and what comes meanwhile is behind it. */
static void worker_gets_them_in_order(void **state)
{
	unsigned sent = 0, got = 0;
	struct post p;

	(void)state;
	while (got < 3 * NB_POST_RING) {
		for (unsigned i = 0; i < 40 && from.post_wait[1].n < POST_WAITING / 4; i++) {
			struct rte_mbuf *m = pool_chain(pool, 100);

			assert_non_null(m);
			m->port = 1;
			post_send(&from, &to, &(struct post){ .m = m, .generation = sent++ });
		}
		for (unsigned i = 0; i < 20 && rte_ring_sc_dequeue_elem(to.posts, &p, sizeof(p)) == 0; i++) {
			assert_int_equal(p.generation, got++);
			rte_pktmbuf_free(p.m);
		}
		if (from.posts_wait)
			post_again(&from);
	}
	assert_true(sent - got > NB_POST_RING - 100); /* it was full */
	assert_int_equal(from.post_full, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(uplink_serves_the_polite, setup, teardown),
		cmocka_unit_test_setup_teardown(uplink_is_shared_by_the_greedy, setup, teardown),
		cmocka_unit_test_setup_teardown(uplink_with_room_takes_all, setup, teardown),
		cmocka_unit_test_setup_teardown(uplink_that_is_stuck_keeps_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(worker_serves_the_polite, workers_up, workers_down),
		cmocka_unit_test_setup_teardown(worker_gets_them_in_order, workers_up, workers_down),
	};
	char why[300];
	void *pages;
	int ret;

	pv_log_open("test", PV_LOG_WARN);
	if (eal_start(64, why, sizeof(why)) < 0 || !(pool = nb.pool = pool_new(32, &pages, why, sizeof(why)))) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	pool_free(pool, pages);
	eal_stop();
	return ret;
}
