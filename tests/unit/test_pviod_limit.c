/* test_pviod_limit.c - token buckets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "dom0-tools/pviod.h"

static const struct limit ten = { .burst = 10, .rate = 4 };

static unsigned take_all(struct bucket *b, const struct limit *l, uint64_t now)
{
	unsigned n = 0;

	while (bucket_take(b, l, now))
		n++;
	return n;
}

static void bucket_take_gives_the_burst_first(void **state)
{
	struct bucket b = { 0 };

	(void)state;
	assert_int_equal(take_all(&b, &ten, 1), 10);
	assert_int_equal(take_all(&b, &ten, 1), 0);
}

static void bucket_take_refills_at_the_rate_and_no_more_than_the_burst(void **state)
{
	struct bucket b = { 0 };

	(void)state;
	take_all(&b, &ten, 1);
	assert_int_equal(take_all(&b, &ten, 1001), 4);
	assert_int_equal(take_all(&b, &ten, 1250), 0); /* 249 ms: not yet one */
	assert_int_equal(take_all(&b, &ten, 1251), 1);
	assert_int_equal(take_all(&b, &ten, UINT64_MAX / 2), 10);
}

static void bucket_wait_says_when_to_come_back(void **state)
{
	struct bucket b = { 0 };
	uint64_t now = 1;

	(void)state;
	take_all(&b, &ten, now);
	for (int i = 0; i < 100; i++) {
		assert_in_range(bucket_wait(&b, &ten), 1, 250);
		now += bucket_wait(&b, &ten);
		assert_true(bucket_take(&b, &ten, now));
		assert_false(bucket_take(&b, &ten, now));
	}
	assert_in_range(now, 100 * 250 - 250, 100 * 251);
}

static void bucket_wait_is_nothing_while_there_are_tokens(void **state)
{
	struct bucket b = { 0 };

	(void)state;
	assert_true(bucket_take(&b, &ten, 5));
	assert_int_equal(bucket_wait(&b, &ten), 0);
}

static void bucket_owe_makes_the_next_one_wait(void **state)
{
	struct bucket b = { 0 };

	(void)state;
	assert_true(bucket_take(&b, &ten, 1));
	bucket_owe(&b, 12); /* 3 too many */
	assert_int_equal(bucket_wait(&b, &ten), 1000);
	assert_false(bucket_take(&b, &ten, 1000));
	assert_true(bucket_take(&b, &ten, 1001));
	assert_false(bucket_take(&b, &ten, 1001));
	bucket_owe(&b, 1000);
	assert_int_equal(take_all(&b, &ten, 1001 + 252 * 1000), 8);
	assert_int_equal(take_all(&b, &ten, UINT64_MAX / 2), 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bucket_take_gives_the_burst_first),
		cmocka_unit_test(bucket_take_refills_at_the_rate_and_no_more_than_the_burst),
		cmocka_unit_test(bucket_wait_says_when_to_come_back),
		cmocka_unit_test(bucket_wait_is_nothing_while_there_are_tokens),
		cmocka_unit_test(bucket_owe_makes_the_next_one_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
