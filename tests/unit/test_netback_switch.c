/* The switch: learning, moving, ageing, bounds. */
#include "netback/netback.h"
#include <setjmp.h>
#include <cmocka.h>

static struct l2switch *sw;
static struct switch_cache cache;

static uint64_t mac(unsigned n)
{
	return 0x020000000000ull | n; /* the order of its bytes does not matter here */
}

static int setup(void **state)
{
	(void)state;
	memset(&cache, 0, sizeof(cache));
	return switch_new("switch", &sw);
}

static int teardown(void **state)
{
	(void)state;
	switch_free(sw);
	return 0;
}

static void lookup_unknown(void **state)
{
	(void)state;
	assert_int_equal(switch_lookup(sw, &cache, mac(1)), SWITCH_UNKNOWN);
}

static void learn_then_lookup(void **state)
{
	struct switch_cache other = { 0 };
	int a = switch_port_add(sw), b = switch_port_add(sw);

	(void)state;
	assert_true(a > 0 && b > 0 && a != b);
	assert_true(switch_learn(sw, &cache, a, mac(1), 1));
	assert_true(switch_learn(sw, &cache, b, mac(2), 1));
	assert_int_equal(switch_lookup(sw, &cache, mac(1)), a);
	assert_int_equal(switch_lookup(sw, &cache, mac(2)), b);
	assert_int_equal(switch_lookup(sw, &other, mac(2)), b); /* and from the table itself */
	assert_int_equal(switch_count(sw, a), 1);
}

static void learn_again_counts_once(void **state)
{
	int a = switch_port_add(sw);

	(void)state;
	for (unsigned now = 1; now < 100; now++)
		assert_true(switch_learn(sw, &cache, a, mac(1), now));
	assert_int_equal(switch_count(sw, a), 1);
}

static void learn_move(void **state)
{
	struct switch_cache other = { 0 };
	int a = switch_port_add(sw), b = switch_port_add(sw);

	(void)state;
	switch_learn(sw, &cache, a, mac(1), 1);
	assert_int_equal(switch_lookup(sw, &other, mac(1)), a); /* now the other worker has it in its cache */
	assert_true(switch_learn(sw, &cache, b, mac(1), 2));
	assert_int_equal(switch_lookup(sw, &cache, mac(1)), b);
	assert_int_equal(switch_lookup(sw, &other, mac(1)), b);
	assert_int_equal(switch_count(sw, a), 0);
	assert_int_equal(switch_count(sw, b), 1);
}

static void learn_bound(void **state)
{
	int a = switch_port_add(sw), b = switch_port_add(sw);

	(void)state;
	for (unsigned i = 0; i < SWITCH_LEARN_VIF; i++)
		assert_true(switch_learn(sw, &cache, a, mac(i), 1));
	for (unsigned i = 0; i < 100; i++)
		assert_false(switch_learn(sw, &cache, a, mac(1000 + i), 1));
	assert_int_equal(switch_count(sw, a), SWITCH_LEARN_VIF);
	assert_int_equal(switch_lookup(sw, &cache, mac(1000)), SWITCH_UNKNOWN);
	assert_true(switch_learn(sw, &cache, b, mac(1000), 1)); /* another port is not harmed */
	assert_false(switch_learn(sw, &cache, a, mac(1000), 1)); /* and a full port cannot take over */
	assert_int_equal(switch_lookup(sw, &cache, mac(1000)), b);
}

static void bound_every_port_has_its_share(void **state)
{
	uint8_t own[6] = { 2, 1, 0, 0, 0, 0 };

	(void)state;
	for (unsigned i = 0; i < SWITCH_LEARN_UPLINK + 10; i++)
		switch_learn(sw, &cache, SWITCH_UPLINK, mac(1 << 24 | i), 1);
	assert_int_equal(switch_count(sw, SWITCH_UPLINK), SWITCH_LEARN_UPLINK);
	for (int p = 1; p < SWITCH_PORTS; p++) {
		int port = switch_port_add(sw);

		assert_true(port > 0);
		for (unsigned i = 0; i < SWITCH_LEARN_VIF; i++)
			assert_true(switch_learn(sw, &cache, port, mac((unsigned)port << 8 | i), 1));
		own[4] = (uint8_t)(p >> 8);
		own[5] = (uint8_t)p;
		assert_int_equal(switch_pin(sw, port, switch_mac(own)), 0);
	}
	assert_int_equal(switch_port_add(sw), -ENOSPC);
}

static void pin_is_not_learned_elsewhere(void **state)
{
	int a = switch_port_add(sw), b = switch_port_add(sw);

	(void)state;
	switch_learn(sw, &cache, b, mac(7), 1); /* before it had an owner */
	assert_int_equal(switch_pin(sw, a, mac(7)), 0);
	assert_int_equal(switch_count(sw, b), 0);
	assert_false(switch_learn(sw, &cache, b, mac(7), 2));
	assert_false(switch_learn(sw, &cache, SWITCH_UPLINK, mac(7), 2));
	assert_int_equal(switch_lookup(sw, &cache, mac(7)), a);
	assert_int_equal(switch_pin(sw, b, mac(7)), -EEXIST);
	assert_true(switch_learn(sw, &cache, a, mac(7), 2)); /* its own use is fine, and not counted */
	assert_int_equal(switch_count(sw, a), 0);
}

static void age_forgets_the_unseen(void **state)
{
	int a = switch_port_add(sw);

	(void)state;
	switch_pin(sw, a, mac(9));
	switch_learn(sw, &cache, a, mac(1), 10);
	switch_learn(sw, &cache, a, mac(2), 10);
	switch_learn(sw, &cache, a, mac(2), 200);
	assert_int_equal(switch_age(sw, 10 + SWITCH_AGE), 0);
	assert_int_equal(switch_age(sw, 11 + SWITCH_AGE), 1);
	switch_reclaim(sw);
	assert_int_equal(switch_lookup(sw, &cache, mac(1)), SWITCH_UNKNOWN);
	assert_int_equal(switch_lookup(sw, &cache, mac(2)), a);
	assert_int_equal(switch_lookup(sw, &cache, mac(9)), a);
	assert_int_equal(switch_age(sw, 1000000), 1);
	assert_int_equal(switch_lookup(sw, &cache, mac(9)), a); /* pinned ones do not age */
	assert_int_equal(switch_count(sw, a), 0);
}

static void flush_forgets_one_port(void **state)
{
	int a = switch_port_add(sw), b = switch_port_add(sw);
	uint64_t list[8];

	(void)state;
	switch_pin(sw, a, mac(9));
	switch_pin(sw, b, mac(10));
	switch_learn(sw, &cache, a, mac(1), 1);
	switch_learn(sw, &cache, b, mac(2), 1);
	assert_int_equal(switch_list(sw, a, list, 8), 2);
	switch_flush(sw, a);
	switch_reclaim(sw);
	assert_int_equal(switch_lookup(sw, &cache, mac(1)), SWITCH_UNKNOWN);
	assert_int_equal(switch_lookup(sw, &cache, mac(9)), SWITCH_UNKNOWN);
	assert_int_equal(switch_lookup(sw, &cache, mac(2)), b);
	assert_int_equal(switch_lookup(sw, &cache, mac(10)), b);
	assert_int_equal(switch_list(sw, a, list, 8), 0);
	assert_int_equal(switch_pin(sw, b, mac(9)), 0); /* free for another */
}

static void reclaim_positions_are_used_again(void **state)
{
	int a = switch_port_add(sw);

	(void)state;
	for (unsigned round = 0; round < 3 * SWITCH_ENTRIES / SWITCH_LEARN_VIF; round++) {
		for (unsigned i = 0; i < SWITCH_LEARN_VIF; i++)
			assert_true(switch_learn(sw, &cache, a, mac(round << 8 | i), 1));
		switch_flush(sw, a);
		switch_reclaim(sw);
	}
}

static void port_numbers_are_used_again(void **state)
{
	int a = switch_port_add(sw), x;

	(void)state;
	assert_null(switch_dest(sw, a));
	switch_port_open(sw, a, &x);
	assert_ptr_equal(switch_dest(sw, a), &x);
	assert_true(switch_ports(sw) > a);
	switch_port_close(sw, a);
	assert_null(switch_dest(sw, a));
	switch_port_del(sw, a);
	assert_int_equal(switch_port_add(sw), a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lookup_unknown, setup, teardown),
		cmocka_unit_test_setup_teardown(learn_then_lookup, setup, teardown),
		cmocka_unit_test_setup_teardown(learn_again_counts_once, setup, teardown),
		cmocka_unit_test_setup_teardown(learn_move, setup, teardown),
		cmocka_unit_test_setup_teardown(learn_bound, setup, teardown),
		cmocka_unit_test_setup_teardown(bound_every_port_has_its_share, setup, teardown),
		cmocka_unit_test_setup_teardown(pin_is_not_learned_elsewhere, setup, teardown),
		cmocka_unit_test_setup_teardown(age_forgets_the_unseen, setup, teardown),
		cmocka_unit_test_setup_teardown(flush_forgets_one_port, setup, teardown),
		cmocka_unit_test_setup_teardown(reclaim_positions_are_used_again, setup, teardown),
		cmocka_unit_test_setup_teardown(port_numbers_are_used_again, setup, teardown),
	};
	char why[300];
	int ret;

	pv_log_open("test", PV_LOG_WARN);
	if (eal_start(64, why, sizeof(why)) < 0) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	eal_stop();
	return ret;
}
