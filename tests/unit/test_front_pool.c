/* Which pages of blkfront's pool are free. */
#include "frontends/pool.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void pool_new_bad_size(void **state)
{
	struct pool p;

	(void)state;
	assert_int_equal(front_pool_new(&p, 0), -EINVAL);
	front_pool_free(&p);
	assert_int_equal(front_pool_new(&p, POOL_PAGES_MAX + 1), -EINVAL);
	front_pool_free(&p);
}

static void pool_take_everything(void **state)
{
	static const unsigned sizes[] = { 1, 7, 64, 1000, POOL_PAGES_MAX };
	struct pool p;

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(front_pool_new(&p, sizes[i]), 0);
		for (unsigned n = 0; n < sizes[i]; n++)
			assert_true(front_pool_take(&p, 1) >= 0);
		assert_int_equal(front_pool_take(&p, 1), -ENOSPC);
		assert_int_equal(p.free, 0);
		front_pool_give(&p, 0, sizes[i]);
		assert_int_equal(p.free, sizes[i]);
		front_pool_free(&p);
	}
}

static void pool_take_odd_run_leaves_the_rest(void **state)
{
	struct pool p;
	int first, second;

	(void)state;
	assert_int_equal(front_pool_new(&p, 16), 0);
	first = front_pool_take(&p, 11); /* of a block of 16: 5 pages stay */
	second = front_pool_take(&p, 4);
	assert_true(first >= 0 && second >= 0);
	assert_int_equal(p.free, 1);
	assert_true(front_pool_take(&p, 1) >= 0);
	front_pool_free(&p);
}

static void pool_take_zero_or_too_much(void **state)
{
	struct pool p;

	(void)state;
	assert_int_equal(front_pool_new(&p, 32), 0);
	assert_int_equal(front_pool_take(&p, 0), -ENOSPC);
	assert_int_equal(front_pool_take(&p, 33), -ENOSPC);
	assert_int_equal(p.free, 32);
	front_pool_free(&p);
}

/* Random takes and gives against a map of who has which page: nothing is given twice, and at the end all of it is one block. */
static void pool_random_runs_never_overlap(void **state)
{
	enum { PAGES = 777, RUNS = 100 };
	static uint8_t taken[PAGES];
	int first[RUNS];
	unsigned len[RUNS] = { 0 };
	struct pool p;

	(void)state;
	srandom(1);
	assert_int_equal(front_pool_new(&p, PAGES), 0);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned r = (unsigned)random() % RUNS;

		if (len[r]) {
			memset(taken + first[r], 0, len[r]);
			front_pool_give(&p, (unsigned)first[r], len[r]);
			len[r] = 0;
			continue;
		}
		len[r] = 1 + (unsigned)random() % 40;
		first[r] = front_pool_take(&p, len[r]);
		if (first[r] < 0) {
			len[r] = 0;
			continue;
		}
		assert_true(first[r] + len[r] <= PAGES);
		for (unsigned i = 0; i < len[r]; i++)
			assert_int_equal(taken[(unsigned)first[r] + i]++, 0);
	}
	for (unsigned r = 0; r < RUNS; r++)
		if (len[r])
			front_pool_give(&p, (unsigned)first[r], len[r]);
	assert_int_equal(p.free, PAGES);
	assert_int_equal(front_pool_take(&p, 512), 0);
	front_pool_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pool_new_bad_size),
		cmocka_unit_test(pool_take_everything),
		cmocka_unit_test(pool_take_odd_run_leaves_the_rest),
		cmocka_unit_test(pool_take_zero_or_too_much),
		cmocka_unit_test(pool_random_runs_never_overlap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
