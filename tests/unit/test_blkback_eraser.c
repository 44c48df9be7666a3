/* eraser: secure discard by a thread, on a device that this test is. */
#include "blkback/image.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { FD = 77, MANY = 100 };

static struct uring ring;
static struct eraser *eraser;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* held: the device does not answer */
static unsigned calls;
static uint64_t offsets[MANY], lens[MANY];
static int results[MANY];
static unsigned ended;
static int expected; /* how they end */

static int device(int fd, uint64_t offset, uint64_t len)
{
	int ret;

	pthread_mutex_lock(&gate);
	assert_int_equal(fd, FD);
	offsets[calls] = offset;
	lens[calls] = len;
	ret = results[calls++];
	pthread_mutex_unlock(&gate);
	return ret;
}

static int knows_it(int fd, uint64_t offset, uint64_t len)
{
	(void)fd;
	return offset % 512 || len % 512 ? -EINVAL : 0;
}

static int knows_it_not(int fd, uint64_t offset, uint64_t len)
{
	(void)fd, (void)offset, (void)len;
	return -EOPNOTSUPP;
}

static void on_end(struct image_io *io, int error)
{
	ended++;
	assert_int_equal(error, expected);
	assert_int_equal(io->done, error ? 0 : io->len);
}

static int up(void **state)
{
	char why[200];

	(void)state;
	if (uring_open(&ring, why, sizeof(why)) < 0) {
		printf("SKIP need=uring: %s\n", why);
		exit(77);
	}
	calls = ended = 0;
	memset(results, 0, sizeof(results));
	return eraser_new(FD, device, &eraser);
}

static int down(void **state)
{
	(void)state;
	eraser_free(eraser);
	uring_close(&ring);
	return 0;
}

static void wait_ended(unsigned n)
{
	uring_submit(&ring);
	while (ended < n)
		if (!uring_reap(&ring))
			uring_wait(&ring, 0);
}

static void can_asks_without_erasing(void **state)
{
	(void)state;
	assert_true(eraser_can(FD, knows_it));
	assert_false(eraser_can(FD, knows_it_not));
	assert_false(eraser_can(-1, eraser_ioctl));
}

static void ranges_are_erased_in_their_order(void **state)
{
	static struct image_io io[MANY];

	(void)state;
	pthread_mutex_lock(&gate);
	for (unsigned i = 0; i < MANY; i++) {
		io[i] = (struct image_io){ .uring = &ring, .kind = IMAGE_DISCARD_SECURE, .offset = i * 4096ull, .len = 512 * (1 + i), .end = on_end };
		eraser_submit(eraser, &io[i]);
	}
	uring_submit(&ring);
	uring_reap(&ring);
	assert_int_equal(ended, 0); /* nobody waits for a device that is slow */
	pthread_mutex_unlock(&gate);
	wait_ended(MANY);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(offsets[i], i * 4096ull);
		assert_int_equal(lens[i], 512 * (1 + i));
	}
}

static void error_of_the_device_is_passed_on(void **state)
{
	struct image_io io = { .uring = &ring, .kind = IMAGE_DISCARD_SECURE, .len = 4096, .end = on_end };

	(void)state;
	results[0] = expected = -EIO;
	eraser_submit(eraser, &io);
	wait_ended(1);
	expected = 0;
	eraser_submit(eraser, &io);
	wait_ended(2);
}

static void free_ends_one_that_did_nothing(void **state)
{
	struct eraser *idle;

	(void)state;
	assert_int_equal(eraser_new(FD, device, &idle), 0);
	eraser_free(idle);
	eraser_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(can_asks_without_erasing, up, down),
		cmocka_unit_test_setup_teardown(ranges_are_erased_in_their_order, up, down),
		cmocka_unit_test_setup_teardown(error_of_the_device_is_passed_on, up, down),
		cmocka_unit_test_setup_teardown(free_ends_one_that_did_nothing, up, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
