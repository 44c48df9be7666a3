/* What a vif may send and receive, with a clock of our own. */
#include "netback/netback.h"
#include <setjmp.h>
#include <cmocka.h>

#define SECOND 3000000000ull /* TSC */

static struct limit *make(const struct limit_config *c, uint64_t tsc)
{
	struct limit *l;

	assert_int_equal(limit_new(c, SECOND, tsc, &l), 0);
	return l;
}

/* Send packets of `len` bytes as fast as the limit lets, from `tsc` to `end`, with a queue that looks every `step`. Returns how many. */
static uint64_t flood(struct pv_limit *s, uint64_t tsc, uint64_t end, uint64_t step, unsigned len)
{
	uint64_t n = 0, until;

	while (tsc < end) {
		unsigned slots = limit_slots(s, tsc, 64, &until);

		if (slots) {
			assert_true(slots <= 64);
			pv_limit_charge(s, (uint64_t)slots * len, slots);
			n += slots;
			tsc += step;
		} else {
			assert_true(until > tsc);
			tsc = until;
		}
	}
	return n;
}

static void in_range(uint64_t n, uint64_t min, uint64_t max)
{
	if (n < min || n > max)
		fail_msg("%lu is not in %lu..%lu", n, min, max);
}

static void nothing_is_made_for_no_limit(void **state)
{
	(void)state;
	assert_null(make(&(struct limit_config){ .burst = 5000 }, 1));
}

static void bits_a_second_are_kept(void **state)
{
	static const unsigned lens[] = { 60, 1514, 65535 };

	(void)state;
	for (unsigned i = 0; i < RTE_DIM(lens); i++) {
		struct limit *l = make(&(struct limit_config){ .tx_bits = 100000000 }, 0);
		uint64_t n = flood(&l->tx, 0, 10 * SECOND, 1000, lens[i]); /* 125 MB, and 10 ms at once */

		in_range(n * lens[i], 124000000, 125200000 + 64ull * lens[i]);
		free(l);
	}
}

static void packets_a_second_are_kept(void **state)
{
	struct limit *l = make(&(struct limit_config){ .rx_packets = 20000 }, 0);

	(void)state;
	in_range(flood(&l->rx, 0, 10 * SECOND, 1000, 60), 199000, 200400);
	assert_true(l->tx.op == 0); /* the other direction is free */
	assert_int_equal(limit_slots(&l->tx, 0, 64, &(uint64_t){ 0 }), 64);
	free(l);
}

static void stricter_of_both_counts(void **state)
{
	struct limit *l = make(&(struct limit_config){ .tx_bits = 8000000, .tx_packets = 10000 }, 0);

	(void)state;
	in_range(flood(&l->tx, 0, 10 * SECOND, 1000, 1000), 9900, 10200); /* 1 MB/s */
	in_range(flood(&l->tx, 20 * SECOND, 30 * SECOND, 1000, 60), 99000, 100400);
	free(l);
}

/* What is not used is credit, but not for longer than the burst lasts. */
static void pause_gives_the_burst_and_no_more(void **state)
{
	struct limit *l = make(&(struct limit_config){ .tx_bits = 80000000, .burst = 1000000 }, 0);
	uint64_t until, at = 1000 * SECOND, n = 0;
	unsigned slots;

	(void)state;
	flood(&l->tx, 0, 10 * SECOND, 1000, 1500);
	while ((slots = limit_slots(&l->tx, at, 64, &until))) {
		pv_limit_charge(&l->tx, slots * 1500ull, slots);
		n += slots * 1500ull;
	}
	in_range(n, 1000000, 1000000 + 64 * 1500);
	assert_true(until > at && until < at + SECOND / 100 + 64 * 1500 * SECOND / 10000000);
	free(l);
}

/* Queues of one device share: two that look at the same moments get together what one gets. */
static void queues_share_one_limit(void **state)
{
	struct limit *l = make(&(struct limit_config){ .tx_bits = 1000000000 }, 0);
	uint64_t tsc = 0, bytes = 0, until;

	(void)state;
	while (tsc < SECOND) {
		unsigned slots[2];

		for (int q = 0; q < 2; q++)
			slots[q] = limit_slots(&l->tx, tsc, 64, &until);
		for (int q = 0; q < 2; q++) {
			pv_limit_charge(&l->tx, slots[q] * 1514ull, slots[q]);
			bytes += slots[q] * 1514ull;
		}
		tsc += 10000;
	}
	in_range(bytes, 124000000, 126250000 + 2 * 64 * 1514);
	free(l);
}

/* A clock near its end, and one that has gone on for years. */
static void clock_may_wrap_and_leap(void **state)
{
	uint64_t tsc = UINT64_MAX - SECOND, until;
	struct limit *l = make(&(struct limit_config){ .tx_bits = 8000000 }, tsc);

	(void)state;
	assert_int_equal(limit_slots(&l->tx, tsc, 64, &until) > 0, 1);
	pv_limit_charge(&l->tx, 1000000, 1);
	assert_int_equal(limit_slots(&l->tx, tsc, 64, &until), 0);
	tsc = 3 * 365 * 86400 * SECOND;
	free(l);
	l = make(&(struct limit_config){ .tx_bits = 8000000 }, 5);
	assert_true(limit_slots(&l->tx, tsc, 64, &until) > 0);
	free(l);
}

static void words_are_checked(void **state)
{
	static const char *const good[] = { "8000", "8k", "100M", "1000G", "10G" };
	static const char *const bad[] = { "", "7999", "0", "-8k", "8K", "8kk", "8kB", "1001G", " 8k", "99999999999999999999", "8.5M", "k", "0x9999" };
	struct limit_config c;
	uint64_t n;

	(void)state;
	for (unsigned i = 0; i < RTE_DIM(good); i++)
		assert_int_equal(limit_parse_bits(good[i], &n), 0);
	assert_int_equal(n, 10000000000);
	for (unsigned i = 0; i < RTE_DIM(bad); i++)
		if (limit_parse_bits(bad[i], &n) != -EINVAL)
			fail_msg("%s is taken", bad[i]);
	assert_int_equal(limit_parse_packets("10", &n), 0);
	assert_int_equal(limit_parse_packets("9", &n), -EINVAL);
	assert_int_equal(limit_parse_window("62500,50000", &c), 0); /* 10 Mb/s, in windows of 50 ms */
	assert_int_equal(c.tx_bits, 10000000);
	assert_int_equal(c.burst, 62500);
	assert_int_equal(limit_parse_window("62500", &c), -EINVAL);
	assert_int_equal(limit_parse_window("62500,0", &c), -EINVAL);
	assert_int_equal(limit_parse_window("62500,50000x", &c), -EINVAL);
	assert_int_equal(limit_parse_window("1,4000000000", &c), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_made_for_no_limit), cmocka_unit_test(bits_a_second_are_kept),
		cmocka_unit_test(packets_a_second_are_kept), cmocka_unit_test(stricter_of_both_counts),
		cmocka_unit_test(pause_gives_the_burst_and_no_more), cmocka_unit_test(queues_share_one_limit),
		cmocka_unit_test(clock_may_wrap_and_leap), cmocka_unit_test(words_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
