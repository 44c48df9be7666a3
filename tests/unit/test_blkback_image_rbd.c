/* image_rbd.c and image_slow.c over fake_rbd.c, a librbd in memory. What Ceph itself does: tests/integration/test_blk_rbd_ceph.sh. */
#include "blkback/image.h"
#include "fake_rbd.h"
#include <dlfcn.h>
#include <errno.h>
#include <pvio/noxs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SECTOR = 512 };

static struct uring ring;
static struct fake_rbd *fake;
static struct image *im;
static unsigned ended;
static int error;

static void on_end(struct image_io *io, int err)
{
	(void)io;
	ended++;
	error = err;
}

static int open_path(const char *path, bool read_only, char *why, size_t len)
{
	const struct image_config c = { .path = path, .read_only = read_only, .discard = true, .wait = 1 };

	return image_open(&c, &im, why, len);
}

/* As a backend does that goes on where another one was. */
static int adopt(const char *path, const char *predecessor, struct image **out)
{
	const struct image_config c = { .path = path, .wait = 1, .predecessor = predecessor };
	char why[300];
	int ret = image_open(&c, out, why, sizeof(why));

	if (ret == -EAGAIN)
		assert_non_null(strstr(why, "ask again"));
	return ret;
}

static struct image *adopted(const char *path, const char *predecessor)
{
	struct image *got;
	int ret;

	while ((ret = adopt(path, predecessor, &got)) == -EAGAIN)
		usleep(1000);
	assert_int_equal(ret, 0);
	return got;
}

/* The fake, which this build has beside the tests, is found by its soname from then on. */
static int group_up(void **state)
{
	char path[600], why[200];
	ssize_t n = readlink("/proc/self/exe", path, 500);
	void *library;

	(void)state;
	if (n <= 0)
		return -1;
	path[n] = '\0';
	strcpy(strrchr(path, '/'), "/../fake/librbd.so.1");
	library = dlopen(path, RTLD_NOW);
	fake = library ? dlsym(library, "fake_rbd") : NULL;
	if (!fake) {
		printf("SKIP need=librbd-dev: the headers of librbd were not there when this was built\n");
		exit(77);
	}
	if (uring_open(&ring, why, sizeof(why)) < 0) {
		printf("SKIP need=uring: %s\n", why);
		exit(77);
	}
	return 0;
}

static int group_down(void **state)
{
	(void)state;
	uring_close(&ring);
	return 0;
}

static int up(void **state)
{
	(void)state;
	*fake = (struct fake_rbd){ .bytes = FAKE_BYTES };
	return 0;
}

static int down(void **state)
{
	(void)state;
	if (im) {
		im->ops->detach(im);
		image_close(im);
	}
	im = NULL;
	return fake->opened ? -1 : 0;
}

static void image_up(const char *path, bool read_only)
{
	char why[300];

	if (open_path(path, read_only, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	im->ops->attach(im, &ring);
}

static void refused(const char *path, bool read_only, int ret, const char *words)
{
	char why[300];

	assert_int_equal(open_path(path, read_only, why, sizeof(why)), ret);
	assert_null(im);
	if (!strstr(why, words))
		fail_msg("'%s' does not say '%s'", why, words);
}

static int run(enum image_kind kind, uint64_t offset, uint64_t len, struct iovec *iov, unsigned niov)
{
	struct image_io io = { .image = im, .uring = &ring, .kind = kind, .offset = offset, .len = len, .iov = iov, .niov = niov, .end = on_end };

	ended = 0;
	image_submit(&io);
	while (!ended) {
		uring_wait(&ring, 1000000);
		uring_reap(&ring);
	}
	assert_int_equal(ended, 1);
	return error;
}

static void path_says_pool_image_snapshot_and_configuration(void **state)
{
	(void)state;
	image_up("rbd:disks/web@monday:conf=/etc/ceph/two.conf:id=pvio", true);
	assert_string_equal(fake->pool, "disks");
	assert_string_equal(fake->image, "web");
	assert_string_equal(fake->snapshot, "monday");
	assert_string_equal(fake->conf, "/etc/ceph/two.conf");
	assert_string_equal(fake->id, "pvio");
	assert_int_equal(fake->locked, 0);
	assert_int_equal(im->facts.sectors, FAKE_BYTES / SECTOR);
	assert_int_equal(im->facts.features, PV_VBD_FLUSH);
}

static void open_what_cannot_be_served_is_refused(void **state)
{
	(void)state;
	refused("rbd:web", false, -EINVAL, "POOL/IMAGE");
	refused("rbd:/web", false, -EINVAL, "POOL/IMAGE");
	refused("rbd:disks/web:colour=red", false, -EINVAL, "colour=red");
	refused("rbd:disks/web@monday", false, -EROFS, "mode=r");
	fake->connect = -ETIMEDOUT;
	refused("rbd:disks/web", false, -EAGAIN, "cannot be reached");
	fake->connect = 0;
	fake->lock = -EROFS;
	refused("rbd:disks/web", false, -EBUSY, "in use");
	fake->lock = -EINVAL;
	refused("rbd:disks/web", false, -EOPNOTSUPP, "exclusive-lock");
	fake->lock = 0;
	fake->bytes = 0;
	refused("rbd:disks/web", false, -EINVAL, "empty");
	assert_int_equal(fake->opened, 0);
}

static void io_of_each_kind_reaches_the_image(void **state)
{
	uint8_t a[SECTOR], b[3 * SECTOR];
	struct iovec iov[2] = { { a, sizeof(a) }, { b, sizeof(b) } };

	(void)state;
	image_up("rbd:disks/web", false);
	assert_int_equal(fake->locked, 1);
	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	assert_int_equal(run(IMAGE_WRITE, 8 * SECTOR, 4 * SECTOR, iov, 2), 0);
	assert_memory_equal(fake->disk + 8 * SECTOR, a, sizeof(a));
	assert_memory_equal(fake->disk + 9 * SECTOR, b, sizeof(b));
	assert_int_equal(run(IMAGE_WRITE_DSYNC, 0, SECTOR, iov, 1), 0);
	assert_int_equal(fake->flushes, 1);
	assert_int_equal(run(IMAGE_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(fake->flushes, 2);
	assert_int_equal(run(IMAGE_DISCARD, 9 * SECTOR, SECTOR, NULL, 0), 0);
	assert_int_equal(fake->discards, 1);
	assert_int_equal(run(IMAGE_READ, 8 * SECTOR, 4 * SECTOR, iov, 2), 0);
	assert_int_equal(a[0], 'a');
	assert_int_equal(b[0], 0);
	assert_int_equal(b[SECTOR], 'b');
}

static void error_of_the_cluster_is_the_io_s(void **state)
{
	uint8_t a[SECTOR];
	struct iovec iov = { a, sizeof(a) };

	(void)state;
	image_up("rbd:disks/web", false);
	fake->io = -ENOSPC;
	assert_int_equal(run(IMAGE_WRITE_DSYNC, 0, SECTOR, &iov, 1), -ENOSPC);
	assert_int_equal(fake->flushes, 0);
	fake->io = -ETIMEDOUT;
	assert_int_equal(run(IMAGE_READ, 0, SECTOR, &iov, 1), -ETIMEDOUT);
	fake->io = 0;
	assert_int_equal(run(IMAGE_READ, 0, SECTOR, &iov, 1), 0);
}

static void many_ends_at_once_are_all_fetched(void **state)
{
	static uint8_t data[200][SECTOR];
	static struct image_io io[200];
	static struct iovec iov[200];

	(void)state;
	image_up("rbd:disks/web", false);
	ended = 0;
	fake->hold = true;
	for (unsigned i = 0; i < 200; i++) {
		fake->hold = i < 199;
		memset(data[i], i, SECTOR);
		iov[i] = (struct iovec){ data[i], SECTOR };
		io[i] = (struct image_io){ .image = im, .uring = &ring, .kind = IMAGE_WRITE, .offset = i * SECTOR, .len = SECTOR, .iov = &iov[i],
					   .niov = 1, .end = on_end };
		image_submit(&io[i]);
	}
	while (ended < 200) {
		uring_wait(&ring, 1000000);
		uring_reap(&ring);
	}
	assert_memory_equal(fake->disk, data, sizeof(data));
}

static void dead_predecessor_is_shut_out(void **state)
{
	char note[IMAGE_NOTE] = "";

	(void)state;
	image_up("rbd:disks/web", false);
	assert_string_equal(fake->broken, "");
	im->ops->note(im, note);
	assert_string_equal(note, FAKE_ADDRESS);
	image_close(adopted("rbd:disks/web", ""));
	assert_string_equal(fake->broken, "");
	image_close(adopted("rbd:disks/web", note));
	assert_string_equal(fake->broken, FAKE_ADDRESS);
}

/* A killed process cannot write later what it answered. */
static void nothing_is_answered_that_is_not_written(void **state)
{
	(void)state;
	image_up("rbd:disks/web", false);
	assert_false(fake->cached);
}

static void size_is_what_it_is_now(void **state)
{
	uint64_t bytes;

	(void)state;
	image_up("rbd:disks/web", false);
	fake->bytes = FAKE_BYTES / 2;
	assert_int_equal(im->ops->size(im, &bytes), 0);
	assert_int_equal(bytes, FAKE_BYTES / 2);
}

static void image_that_is_away_keeps_nobody_else_waiting(void **state)
{
	struct image *away;

	(void)state;
	fake->open_held = true;
	assert_int_equal(adopt("rbd:disks/away", "", &away), -EAGAIN);
	assert_null(away);
	image_close(adopted("rbd:disks/web", ""));
	assert_int_equal(adopt("rbd:disks/away", "", &away), -EAGAIN);
	assert_true(image_slow_busy());
	fake->open_held = false;
	away = adopted("rbd:disks/away", "");
	assert_false(image_slow_busy());
	image_close(away);
}

static void image_that_nobody_comes_for_is_closed(void **state)
{
	struct image *away;

	(void)state;
	fake->open_held = true;
	assert_int_equal(adopt("rbd:disks/away", "", &away), -EAGAIN);
	fake->open_held = false;
	while (!fake->opened)
		usleep(1000);
	while (image_slow_busy())
		usleep(1000);
	assert_int_equal(fake->opened, 0);
}

static void close_that_lasts_is_not_waited_for(void **state)
{
	struct image *again;

	(void)state;
	image_up("rbd:disks/web", false);
	fake->close_held = true;
	im->ops->detach(im);
	image_close(im);
	im = NULL;
	assert_true(image_slow_busy());
	assert_int_equal(adopt("rbd:disks/web", "", &again), -EAGAIN); /* it is not opened beside the old one */
	assert_int_equal(fake->opened, 1);
	fake->close_held = false;
	image_close(adopted("rbd:disks/web", ""));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, up, down)
	const struct CMUnitTest tests[] = {
		T(path_says_pool_image_snapshot_and_configuration),
		T(open_what_cannot_be_served_is_refused),
		T(io_of_each_kind_reaches_the_image),
		T(error_of_the_cluster_is_the_io_s),
		T(many_ends_at_once_are_all_fetched),
		T(dead_predecessor_is_shut_out),
		T(nothing_is_answered_that_is_not_written),
		T(size_is_what_it_is_now),
		T(image_that_is_away_keeps_nobody_else_waiting),
		T(image_that_nobody_comes_for_is_closed),
		T(close_that_lasts_is_not_waited_for),
	};

	return cmocka_run_group_tests(tests, group_up, group_down);
}
