/* test_inflight.c - the file behind an in-flight log: whose it is, what fits, and who may have it. */
#include <pvio/inflight.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[] = "/tmp/pvio-inflight.XXXXXX";
static const struct pv_inflight_shape shape = { .rings = 3, .slots = 64, .record = 10, .area = 5000 };

static struct pv_connect connection(bool adopt)
{
	struct pv_connect c = { .id = { .guest = 7, .type = PV_NOXS_VIF, .devid = 2 }, .adopt = adopt };

	c.choice = (struct pv_noxs_choice){ .generation = 5, .queues = 1 };
	c.choice.vif[0] = (struct pv_noxs_vif_queue){ .tx_gref = 8, .rx_gref = 9, .tx_port = 3, .rx_port = 4 };
	return c;
}

static int open_with(const struct pv_connect *c, const struct pv_inflight_shape *s, struct pv_inflight **f)
{
	char why[300];

	return pv_inflight_open(c, s, f, why, sizeof(why));
}

static void open_adopts_what_was_logged(void **state)
{
	struct pv_connect begin = connection(false), adopt = connection(true);
	struct pv_inflight *f;
	uint8_t *area;

	(void)state;
	assert_int_equal(open_with(&adopt, &shape, &f), -ENOENT);
	assert_int_equal(open_with(&begin, &shape, &f), 0);
	for (unsigned i = 0; i < shape.rings; i++) {
		struct pv_inflight_ring *r = pv_inflight_ring(f, i);

		assert_int_equal(r->answered | r->taken | r->waiting, 0);
		pv_inflight_take(r, 20 + i);
		pv_inflight_answer(r, 10 + i);
		memset(r->records, (int)i + 1, shape.slots * shape.record); /* up to its end, and not into the next ring */
	}
	area = pv_inflight_area(f);
	assert_int_equal(area[0] | area[shape.area - 1], 0);
	memset(area, 0xa5, shape.area);
	pv_inflight_close(f);
	adopt.choice.features = PV_VIF_SG; /* may have changed meanwhile */
	assert_int_equal(open_with(&adopt, &shape, &f), 0);
	for (unsigned i = 0; i < shape.rings; i++) {
		struct pv_inflight_ring *r = pv_inflight_ring(f, i);

		assert_int_equal(r->answered, 10 + i);
		assert_int_equal(r->taken, 20 + i);
		assert_int_equal(r->records[0], i + 1);
		assert_int_equal(r->records[shape.slots * shape.record - 1], i + 1);
	}
	area = pv_inflight_area(f);
	assert_int_equal(area[0] & area[shape.area - 1], 0xa5);
	pv_inflight_close(f);
	assert_int_equal(open_with(&begin, &shape, &f), 0); /* anew: nothing of before */
	assert_int_equal(pv_inflight_ring(f, 0)->taken, 0);
	pv_inflight_close(f);
	pv_inflight_remove(&begin.id);
	assert_int_equal(open_with(&adopt, &shape, &f), -ENOENT);
}

static void open_adopts_nothing_else(void **state)
{
	struct pv_inflight_shape other = shape;
	struct pv_connect begin = connection(false), adopt = connection(true);
	struct pv_inflight *f;

	(void)state;
	assert_int_equal(open_with(&begin, &shape, &f), 0);
	pv_inflight_close(f);
	other.rings--;
	assert_int_equal(open_with(&adopt, &other, &f), -ENOENT);
	adopt.choice.vif[0].rx_port = 5;
	assert_int_equal(open_with(&adopt, &shape, &f), -ENOENT);
	adopt = connection(true);
	adopt.choice.generation++;
	assert_int_equal(open_with(&adopt, &shape, &f), -ENOENT);
	adopt = connection(true);
	adopt.id.guest++;
	assert_int_equal(open_with(&adopt, &shape, &f), -ENOENT);
	pv_inflight_remove(&begin.id);
}

static void open_refuses_while_another_has_it(void **state)
{
	struct pv_connect begin = connection(false), adopt = connection(true);
	struct pv_inflight *f, *g;

	(void)state;
	assert_int_equal(open_with(&begin, &shape, &f), 0);
	assert_int_equal(open_with(&adopt, &shape, &g), -EAGAIN);
	assert_null(g);
	pv_inflight_close(f);
	assert_int_equal(open_with(&adopt, &shape, &g), 0);
	pv_inflight_close(g);
	pv_inflight_remove(&begin.id);
}

/* Where no file can be, all works, but nobody can adopt. */
static void open_without_a_file_is_private_memory(void **state)
{
	struct pv_connect begin = connection(false), adopt = connection(true);
	struct pv_inflight *f;

	(void)state;
	setenv("PVIO_RUNDIR", "/proc/none", 1);
	assert_int_equal(open_with(&begin, &shape, &f), 0);
	pv_inflight_take(pv_inflight_ring(f, 2), 1);
	pv_inflight_close(f);
	assert_int_equal(open_with(&adopt, &shape, &f), -ENOENT);
	setenv("PVIO_RUNDIR", dir, 1);
}

/* A process' own: as the one of its name left it, of the same size; not while that runs. */
static void open_process_goes_on_where_the_last_one_was(void **state)
{
	struct pv_inflight *f, *g;
	char why[300];

	(void)state;
	assert_int_equal(pv_inflight_open_process("some", 1000, &f, why, sizeof(why)), 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(((uint8_t *)pv_inflight_area(f))[i], 0);
	memset(pv_inflight_area(f), 7, 1000);
	assert_int_equal(pv_inflight_open_process("some", 1000, &g, why, sizeof(why)), -EAGAIN);
	pv_inflight_close(f);
	assert_int_equal(pv_inflight_open_process("other", 1000, &f, why, sizeof(why)), 0);
	assert_int_equal(*(uint8_t *)pv_inflight_area(f), 0);
	pv_inflight_close(f);
	assert_int_equal(pv_inflight_open_process("some", 1000, &f, why, sizeof(why)), 0);
	assert_int_equal(((uint8_t *)pv_inflight_area(f))[999], 7);
	pv_inflight_close(f);
	assert_int_equal(pv_inflight_open_process("some", 1001, &f, why, sizeof(why)), 0);
	assert_int_equal(*(uint8_t *)pv_inflight_area(f), 0);
	pv_inflight_close(f);
	pv_inflight_remove_process("some");
	pv_inflight_remove_process("other");
}

static int up(void **state)
{
	(void)state;
	setenv("PVIO_RUNDIR", mkdtemp(dir), 1);
	return 0;
}

static int down(void **state)
{
	(void)state;
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(open_adopts_what_was_logged),
		cmocka_unit_test(open_adopts_nothing_else),
		cmocka_unit_test(open_refuses_while_another_has_it),
		cmocka_unit_test(open_process_goes_on_where_the_last_one_was),
		cmocka_unit_test(open_without_a_file_is_private_memory),
	};

	return cmocka_run_group_tests(tests, up, down);
}
