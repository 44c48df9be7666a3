/* The planner of blkback: segments to memory, neighbours to one I/O. Pure. */
#include "blkback/blkback.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char memory[8][PV_PAGE_SIZE];

static void blkplan_iov_whole_adjacent_pages_become_one_piece(void **state)
{
	struct pv_blk_seg segs[3] = { { .first = 0, .last = 7 }, { .first = 0, .last = 7 }, { .first = 0, .last = 7 } };
	void *pages[3] = { memory[2], memory[3], memory[4] };
	struct iovec iov[3];
	uint64_t bytes;

	(void)state;
	assert_int_equal(blkplan_iov(iov, segs, pages, 3, &bytes), 1);
	assert_ptr_equal(iov[0].iov_base, memory[2]);
	assert_int_equal(iov[0].iov_len, 3 * PV_PAGE_SIZE);
	assert_int_equal(bytes, 3 * PV_PAGE_SIZE);
}

static void blkplan_iov_a_gap_begins_another_piece(void **state)
{
	struct pv_blk_seg segs[4] = { { .first = 0, .last = 7 }, { .first = 1, .last = 7 }, { .first = 0, .last = 3 },
				       { .first = 4, .last = 7 } };
	void *pages[4] = { memory[0], memory[1], memory[2], memory[2] };
	struct iovec iov[4];
	uint64_t bytes;

	(void)state;
	assert_int_equal(blkplan_iov(iov, segs, pages, 4, &bytes), 2); /* page 0; 1.5 pages from sector 1 of page 1 to the end of page 2 */
	assert_int_equal(iov[0].iov_len, PV_PAGE_SIZE);
	assert_ptr_equal(iov[1].iov_base, memory[1] + 512);
	assert_int_equal(iov[1].iov_len, 7 * 512 + PV_PAGE_SIZE);
	assert_int_equal(bytes, 2 * PV_PAGE_SIZE + 7 * 512);
}

static void blkplan_iov_order_is_kept(void **state)
{
	struct pv_blk_seg segs[2] = { { .first = 0, .last = 7 }, { .first = 0, .last = 7 } };
	void *pages[2] = { memory[1], memory[0] };
	struct iovec iov[2];
	uint64_t bytes;

	(void)state;
	assert_int_equal(blkplan_iov(iov, segs, pages, 2, &bytes), 2);
	assert_ptr_equal(iov[0].iov_base, memory[1]);
	assert_ptr_equal(iov[1].iov_base, memory[0]);
}

/* An I/O of one page, at a sector, whose iovec has room for more. */
static struct image_io io(enum image_kind kind, uint64_t sector, struct iovec *iov, void *page)
{
	*iov = (struct iovec){ .iov_base = page, .iov_len = PV_PAGE_SIZE };
	return (struct image_io){ .kind = kind, .offset = sector * 512, .len = PV_PAGE_SIZE, .iov = iov, .niov = 1 };
}

static void blkplan_join_neighbours_become_one(void **state)
{
	struct iovec v[8], w[1];
	struct image_io a = io(IMAGE_READ, 8, v, memory[0]), b = io(IMAGE_READ, 16, w, memory[5]), c = io(IMAGE_READ, 24, w, memory[6]);

	(void)state;
	w[0].iov_base = memory[5];
	assert_true(blkplan_join(&a, &b, 8));
	assert_int_equal(a.len, 2 * PV_PAGE_SIZE);
	assert_int_equal(a.niov, 2);
	w[0].iov_base = memory[6]; /* follows memory[5]: no piece of its own */
	assert_true(blkplan_join(&a, &c, 8));
	assert_int_equal(a.niov, 2);
	assert_int_equal(v[1].iov_len, 2 * PV_PAGE_SIZE);
	assert_int_equal(a.offset, 8 * 512);
	assert_int_equal(a.len, 3 * PV_PAGE_SIZE);
}

static void blkplan_join_others_stay_apart(void **state)
{
	struct iovec v[8], w[1];
	struct image_io a = io(IMAGE_READ, 8, v, memory[0]);
	struct image_io others[] = {
		io(IMAGE_WRITE, 16, w, memory[5]), io(IMAGE_READ, 24, w, memory[5]), io(IMAGE_READ, 0, w, memory[5]),
		io(IMAGE_READ, 8, w, memory[5]), io(IMAGE_READ, 15, w, memory[5]),
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_false(blkplan_join(&a, &others[i], 8));
	assert_int_equal(a.len, PV_PAGE_SIZE);
	assert_int_equal(a.niov, 1);
}

static void blkplan_join_never_passes_the_room_of_the_iovec(void **state)
{
	struct iovec v[4], w[1];
	struct image_io a = io(IMAGE_READ, 0, v, memory[0]);

	(void)state;
	for (unsigned i = 1; i < 4; i++) {
		struct image_io b = io(IMAGE_READ, 8 * i, w, memory[i % 2 ? 6 : 1]);

		assert_true(blkplan_join(&a, &b, 4));
	}
	{
		struct image_io b = io(IMAGE_READ, 32, w, memory[1]);

		assert_int_equal(a.niov, 4);
		assert_false(blkplan_join(&a, &b, 4));
		assert_int_equal(a.len, 4 * PV_PAGE_SIZE);
	}
}

static void blkplan_join_is_bounded_in_bytes(void **state)
{
	struct iovec v[2], w[1];
	struct image_io a = io(IMAGE_WRITE, 0, v, memory[0]), b = io(IMAGE_WRITE, 2048, w, memory[5]);

	(void)state;
	v[0].iov_len = a.len = b.offset = 128 << 10;
	assert_false(blkplan_join(&a, &b, 2));
	v[0].iov_len = a.len = b.offset = (128 << 10) - PV_PAGE_SIZE;
	assert_true(blkplan_join(&a, &b, 2));
}

/* Take n requests, handing over what is a part. Returns in how many calls, the last one for what is left; *first: how many the first one had. */
static unsigned calls(unsigned n, unsigned with_kernel, bool prompt, unsigned *first)
{
	unsigned waiting = 0, calls = 0;

	*first = 0;
	for (unsigned i = 1; i <= n; i++) {
		waiting++;
		if (!blkplan_is_part(waiting, with_kernel + i, prompt) && i < n)
			continue;
		if (!calls++)
			*first = waiting;
		waiting = 0;
	}
	return calls;
}

static void blkplan_a_disk_at_rest_begins_with_the_first(void **state)
{
	unsigned first;

	(void)state;
	assert_int_equal(calls(32, 0, false, &first), 4 + 3); /* 1, 1, 2, 4, 8, 8, 8 */
	assert_int_equal(first, 1);
	assert_int_equal(calls(32, 32, false, &first), 4);
	assert_int_equal(first, 8);
	assert_int_equal(calls(7, 8, false, &first), 1);
	assert_int_equal(first, 7);
}

static void blkplan_what_ends_within_the_call_is_handed_over_in_eights(void **state)
{
	unsigned first;

	(void)state;
	assert_int_equal(calls(32, 0, true, &first), 4);
	assert_int_equal(first, 8);
	assert_false(blkplan_is_part(0, 0, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blkplan_iov_whole_adjacent_pages_become_one_piece),
		cmocka_unit_test(blkplan_iov_a_gap_begins_another_piece),
		cmocka_unit_test(blkplan_iov_order_is_kept),
		cmocka_unit_test(blkplan_join_neighbours_become_one),
		cmocka_unit_test(blkplan_join_others_stay_apart),
		cmocka_unit_test(blkplan_join_never_passes_the_room_of_the_iovec),
		cmocka_unit_test(blkplan_join_is_bounded_in_bytes),
		cmocka_unit_test(blkplan_a_disk_at_rest_begins_with_the_first),
		cmocka_unit_test(blkplan_what_ends_within_the_call_is_handed_over_in_eights),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
