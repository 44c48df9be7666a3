/* What dom0 lets a vbd do: requests and bytes a second, over queues on two workers, changed under load. However slow the machine, never more than was
 * allowed in the time that has passed. */
#include "tests/hostile/blk_rig.h"

enum { PAGES = 10, BYTES = PAGES * PV_PAGE_SIZE };

static int guest_set(const struct guest *g, const char *config)
{
	struct pv_device_id id = guest_device(g);
	struct json_object *params = pv_device_id_to_json(&id);

	json_object_object_add(params, "config", config_json(g, config));
	return rig_call("set", params);
}

static void must_set(const struct guest *g, const char *config)
{
	if (guest_set(g, config))
		fail_msg("set %s: %s", config, rig_last.message);
}

/* Publish n requests of so many pages. */
static void ask(struct guest *g, unsigned queue, uint8_t op, unsigned n, unsigned pages)
{
	for (unsigned i = 0; i < n; i++) {
		struct pv_blk_req r = guest_rw(g, op, (i * 131 + queue * 17) % 1000 * 8 % (DISK_SECTORS - 88), i % 16, pages);

		guest_put(g, queue, &r);
	}
	guest_notify(g, queue);
}

static void answered(struct guest *g, unsigned queue, unsigned n)
{
	while (n--)
		assert_int_equal(guest_wait(g, queue).status, BLKIF_RSP_OKAY);
}

static void stat_reaches(const struct guest *g, const char *name, int64_t n)
{
	int64_t end = rig_ms() + PATIENCE;

	while (guest_stat(g, name) < n)
		if (rig_ms() > end)
			fail_msg("%s does not become %lld", name, (long long)n);
}

/* A number of the workers that serve it. */
static int64_t backend_stat(const struct guest *g, const char *name)
{
	struct json_object *v = NULL;

	assert_int_equal(guest_call(g, "stats"), 0);
	if (!json_object_object_get_ex(rig_last.result, "backend", &v) || !json_object_object_get_ex(v, name, &v))
		fail_msg("no counter %s", name);
	return json_object_get_int64(v);
}

/* So many were answered since `begin` (ms), at so many a second, of which two workers may overdraw by `over`. */
static void within(int64_t begin, uint64_t n, uint64_t a_second, uint64_t over)
{
	double most = (double)(rig_ms() + 1 - begin) / 1000 * (double)a_second * 1.02 + (double)a_second / 100 /* the burst */ + (double)over;

	if ((double)n > most)
		fail_msg("%llu passed, not %.0f at most", (unsigned long long)n, most);
}

static void iops_hold_over_two_workers(void **state)
{
	enum { ROUNDS = 2, EACH = 32, IOPS = 200 };
	struct guest g;
	int64_t begin;

	(void)state;
	guest_open(&g);
	guest_up_with(&g, "{\"iops\":\"200\"}", 2, 0, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT);
	begin = rig_ms();
	for (unsigned i = 0; i < ROUNDS; i++) {
		for (unsigned q = 0; q < 2; q++)
			ask(&g, q, i % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE, EACH, 1);
		for (unsigned q = 0; q < 2; q++)
			answered(&g, q, EACH);
		within(begin, 2ull * EACH * (i + 1), IOPS, 2);
	}
	assert_true(guest_stat(&g, "limited") > 0);
	assert_int_equal(guest_stat(&g, "reads") + guest_stat(&g, "writes"), 2 * EACH * ROUNDS);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

static void bytes_a_second_hold_for_one_direction(void **state)
{
	enum { ROUNDS = 4, EACH = 8, RATE = 4000000 };
	struct guest g;
	int64_t begin;

	(void)state;
	guest_open(&g);
	guest_up_with(&g, "{\"rate-r\":\"4M\"}", 2, 0, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT);
	for (unsigned q = 0; q < 2; q++) { /* the other one is free */
		ask(&g, q, BLKIF_OP_WRITE, 32, PAGES);
		answered(&g, q, 32);
	}
	assert_int_equal(guest_stat(&g, "limited"), 0);
	begin = rig_ms();
	for (unsigned i = 0; i < ROUNDS; i++) {
		for (unsigned q = 0; q < 2; q++)
			ask(&g, q, BLKIF_OP_READ, EACH, PAGES);
		for (unsigned q = 0; q < 2; q++)
			answered(&g, q, EACH);
	}
	within(begin, 2ull * ROUNDS * EACH * BYTES, RATE, 2 * BYTES);
	assert_true(guest_stat(&g, "limited") > 0);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

/* A request in 41 s: what is larger than the burst passes, what comes then waits without polling, and goes on as soon as it may. */
static void limit_goes_while_requests_wait(void **state)
{
	struct guest g;
	int64_t turns;

	(void)state;
	guest_open(&g);
	guest_up(&g, "{\"rate-w\":\"1k\",\"burst\":\"1\"}");
	ask(&g, 0, BLKIF_OP_WRITE, 1, PAGES);
	answered(&g, 0, 1);
	ask(&g, 0, BLKIF_OP_READ, 8, PAGES); /* reads are not limited, */
	answered(&g, 0, 8);
	ask(&g, 0, BLKIF_OP_WRITE, 4, PAGES);
	ask(&g, 0, BLKIF_OP_READ, 4, PAGES); /* but wait behind writes */
	stat_reaches(&g, "limited", 1);
	turns = backend_stat(&g, "turns");
	usleep(200000);
	assert_true(backend_stat(&g, "turns") - turns < 2000); /* a polling worker makes as many in a millisecond or two */
	assert_int_equal(guest_stat(&g, "limited"), 1); /* it waits once */
	assert_int_equal(guest_stat(&g, "writes"), 1);
	assert_int_equal(guest_stat(&g, "reads"), 8);
	must_set(&g, "{}");
	answered(&g, 0, 8);
	must_set(&g, "{\"iops\":\"1G\",\"rate\":\"1000G\",\"burst\":\"1G\"}");
	ask(&g, 0, BLKIF_OP_WRITE, 32, PAGES);
	answered(&g, 0, 32);
	assert_int_equal(guest_stat(&g, "limited"), 1);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

/* Its I/O ends, however long its limit would have it wait; and it is as limited when it connects again. */
static void request_that_waits_does_not_hold_up_a_disconnect(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (unsigned round = 0; round < 2; round++) {
		guest_up(&g, "{\"rate\":\"1k\"}");
		ask(&g, 0, BLKIF_OP_WRITE, 3, PAGES);
		answered(&g, 0, 1);
		stat_reaches(&g, "limited", 1);
		guest_down(&g);
	}
	guest_close(&g);
	rig_check();
}

static void flush_is_one_request_without_bytes(void **state)
{
	enum { ROUNDS = 3, EACH = 30 };
	struct guest g;
	int64_t begin;

	(void)state;
	guest_open(&g);
	guest_up(&g, "{\"rate-w\":\"1k\"}");
	for (unsigned i = 0; i < ROUNDS; i++) {
		ask(&g, 0, BLKIF_OP_FLUSH_DISKCACHE, EACH, 0);
		answered(&g, 0, EACH);
	}
	assert_int_equal(guest_stat(&g, "limited"), 0);
	must_set(&g, "{\"iops-w\":\"100\",\"iops-r\":\"1G\"}");
	begin = rig_ms();
	ask(&g, 0, BLKIF_OP_FLUSH_DISKCACHE, EACH, 0);
	answered(&g, 0, EACH);
	within(begin, EACH, 100, 1);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

static void all_other_keys_are_refused_and_change_nothing(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_up(&g, NULL);
	assert_int_equal(guest_set(&g, "{\"rate\":\"1k\",\"queues\":\"2\"}"), -EOPNOTSUPP);
	assert_non_null(strstr(rig_last.message, "queues"));
	assert_null(strstr(rig_last.message, "rate"));
	assert_int_equal(guest_set(&g, "{\"rate\":\"999\"}"), -EINVAL);
	assert_non_null(strstr(rig_last.message, "1k..1000G"));
	assert_int_equal(guest_set(&g, "{\"iops\":\"0\"}"), -EINVAL);
	assert_int_equal(guest_set(&g, "{\"burst\":\"1KiB\"}"), -EINVAL);
	ask(&g, 0, BLKIF_OP_WRITE, 32, PAGES);
	answered(&g, 0, 32);
	assert_int_equal(guest_stat(&g, "limited"), 0);
	assert_int_equal(guest_prepare(&g, "{\"rate\":\"1k\"}"), 0); /* as pviod's prepare after a restart of its own */
	ask(&g, 0, BLKIF_OP_WRITE, 2, PAGES);
	stat_reaches(&g, "limited", 1);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(iops_hold_over_two_workers),
		cmocka_unit_test(bytes_a_second_hold_for_one_direction),
		cmocka_unit_test(limit_goes_while_requests_wait),
		cmocka_unit_test(request_that_waits_does_not_hold_up_a_disconnect),
		cmocka_unit_test(flush_is_one_request_without_bytes),
		cmocka_unit_test(all_other_keys_are_refused_and_change_nothing),
	};

	return cmocka_run_group_tests(tests, rig_up, rig_down);
}
