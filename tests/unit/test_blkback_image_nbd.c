/* image_nbd.c and nbd_dial.c: I/O through an NBD server of the test's own, which fails, hangs, goes and comes back. */
#include "blkback/image.h"
#include "nbd_server.h"
#include <pvio/noxs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SECTOR = 512, ROUNDS = 600 };

static struct uring ring;
static char dir[] = "/tmp/test_blkback_image_nbd.XXXXXX", path[100], uri[150];
static struct image *im;
static uint32_t sector_size; /* of the device; 0: as ever */
static unsigned ended;
static int error;

static void on_end(struct image_io *io, int err)
{
	(void)io;
	ended++;
	error = err;
}

static int open_with(bool read_only, unsigned wait, struct image **out, char *why, size_t len)
{
	const struct image_config c = { .path = uri, .read_only = read_only, .discard = true, .wait = wait, .sector_size = sector_size };

	return image_open(&c, out, why, len);
}

static int group_up(void **state)
{
	char why[200];

	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", path);
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
	return rmdir(dir);
}

static int up(void **state)
{
	(void)state;
	server.flags = NBD_FLUSH | NBD_FUA | NBD_TRIM;
	server.bytes = SERVER_BYTES;
	server.block_min = server.block_max = server.half = server.fua = server.clients = 0;
	server.hung = server.garbage = false;
	sector_size = 0;
	memset(server.error, 0, sizeof(server.error));
	memset(server.count, 0, sizeof(server.count));
	return server_start(path);
}

static void image_up(unsigned wait)
{
	char why[300];

	if (open_with(false, wait, &im, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	im->ops->attach(im, &ring);
}

static int down(void **state)
{
	(void)state;
	if (im) {
		im->ops->detach(im);
		image_close(im);
	}
	im = NULL;
	server_stop();
	return 0;
}

static void begin(struct image_io *io, enum image_kind kind, uint64_t offset, uint64_t len, struct iovec *iov, unsigned niov)
{
	*io = (struct image_io){ .image = im, .uring = &ring, .kind = kind, .offset = offset, .len = len, .iov = iov, .niov = niov, .end = on_end };
	image_submit(io);
}

static void wait_for(unsigned n)
{
	while (ended < n) {
		uring_wait(&ring, 1000000);
		uring_reap(&ring);
	}
	assert_int_equal(ended, n);
}

static int run(enum image_kind kind, uint64_t offset, uint64_t len, void *data)
{
	struct iovec iov = { data, len };
	struct image_io io;

	ended = 0;
	begin(&io, kind, offset, len, &iov, data != NULL);
	wait_for(1);
	return error;
}

static void refused(int ret, const char *words)
{
	struct image *none;
	char why[300];

	assert_int_equal(open_with(false, 1, &none, why, sizeof(why)), ret);
	assert_null(none);
	if (!strstr(why, words) || !strstr(why, uri))
		fail_msg("'%s' does not say '%s' and '%s'", why, words, uri);
}

/* ---- opening ---- */

static void open_tells_what_the_server_can(void **state)
{
	(void)state;
	image_up(1);
	assert_string_equal(im->ops->name, "nbd");
	assert_int_equal(im->facts.sectors, SERVER_BYTES / SECTOR);
	assert_int_equal(im->facts.features, PV_VBD_FLUSH | PV_VBD_BARRIER | PV_VBD_DISCARD);
	down(NULL);
	server_start(path);
	server.flags = 0;
	image_up(1);
	assert_int_equal(im->facts.features, 0);
}

static void open_what_cannot_be_served_is_refused(void **state)
{
	(void)state;
	server.flags |= NBD_READ_ONLY;
	refused(-EROFS, "mode=r");
	server.flags &= ~NBD_READ_ONLY;
	server.block_min = server.block_max = 4096;
	refused(-EOPNOTSUPP, "use sector=4096");
	sector_size = 4096;
	server.block_min = server.block_max = 8192;
	refused(-EOPNOTSUPP, "--filter=blocksize");
	sector_size = server.block_min = 0;
	server.bytes = 100;
	refused(-EINVAL, "empty");
	server_stop();
	refused(-EAGAIN, "cannot open");
	assert_int_equal(server_start(path), 0);
}

static void open_of_a_second_writer_is_refused(void **state)
{
	(void)state;
	image_up(1);
	refused(-EBUSY, "in use");
}

static void open_of_a_server_that_serves_another_says_so(void **state)
{
	struct image *none;
	char why[300];

	(void)state;
	image_up(1);
	assert_int_equal(open_with(true, 1, &none, why, sizeof(why)), -EAGAIN);
	assert_non_null(strstr(why, "another client"));
}

/* ---- I/O ---- */

/* Random I/O in pieces, some at the same time, against a model. */
static void io_in_pieces_equals_the_model(void **state)
{
	static uint8_t model[SERVER_BYTES], data[256 << 10];
	struct iovec iov[16];
	struct image_io io;

	(void)state;
	server.block_min = 1;
	server.block_max = 32 << 10; /* an I/O takes several commands */
	image_up(1);
	memcpy(model, server.disk, sizeof(model));
	srandom(1);
	for (unsigned round = 0; round < ROUNDS; round++) {
		enum image_kind kind = (enum image_kind[]){ IMAGE_READ, IMAGE_WRITE, IMAGE_WRITE_DSYNC, IMAGE_DISCARD }[random() % 4];
		unsigned niov = 1 + random() % 16;
		uint64_t len = 0, offset;

		for (unsigned i = 0; i < niov; i++) {
			iov[i] = (struct iovec){ data + i * 16384, SECTOR * (1 + random() % 32) };
			for (size_t b = 0; b < iov[i].iov_len; b++)
				data[i * 16384 + b] = random();
			len += iov[i].iov_len;
		}
		offset = random() % ((SERVER_BYTES - len) / SECTOR) * SECTOR;
		for (unsigned i = 0, at = 0; i < niov && kind != IMAGE_READ; at += iov[i++].iov_len)
			if (kind == IMAGE_DISCARD)
				memset(model + offset + at, 0, iov[i].iov_len);
			else
				memcpy(model + offset + at, iov[i].iov_base, iov[i].iov_len);
		ended = 0;
		begin(&io, kind, offset, len, iov, kind == IMAGE_DISCARD ? 0 : niov);
		wait_for(1);
		assert_int_equal(error, 0);
		for (unsigned i = 0, at = 0; i < niov && kind == IMAGE_READ; at += iov[i++].iov_len)
			assert_memory_equal(model + offset + at, data + i * 16384, iov[i].iov_len);
	}
	assert_memory_equal(model, server.disk, sizeof(model));
}

/* What has larger sectors is served by them, in commands of whole ones; and not by a server that came back with larger ones yet. */
static void blocks_of_the_server_are_sectors_of_the_guest(void **state)
{
	static uint8_t data[3 * 4096], back[sizeof(data)];

	(void)state;
	sector_size = server.block_min = server.block_max = 4096;
	server.bytes = SERVER_BYTES - SECTOR;
	image_up(60);
	assert_int_equal(im->facts.sectors, SERVER_BYTES / SECTOR - 8);
	assert_int_equal(im->facts.physical_sector_size, 4096);
	memset(data, 'y', sizeof(data));
	assert_int_equal(run(IMAGE_WRITE, 8192, sizeof(data), data), 0);
	assert_int_equal(run(IMAGE_READ, 8192, sizeof(back), back), 0);
	assert_memory_equal(data, back, sizeof(data));
	assert_int_equal(server.count[NBD_WRITE], 3);
	server_stop();
	server.block_min = server.block_max = 8192;
	assert_int_equal(server_start(path), 0);
	assert_int_equal(run(IMAGE_READ, 0, 4096, back), -EIO);
}

static void dsync_is_fua_or_a_flush(void **state)
{
	uint8_t data[SECTOR] = "x";

	(void)state;
	image_up(1);
	assert_int_equal(run(IMAGE_WRITE_DSYNC, 0, SECTOR, data), 0);
	assert_int_equal(server.fua, 1);
	assert_int_equal(server.count[NBD_FLUSH_CMD], 0);
	down(NULL);
	server_start(path);
	server.flags = NBD_FLUSH;
	image_up(1);
	assert_int_equal(run(IMAGE_WRITE_DSYNC, 0, SECTOR, data), 0);
	assert_int_equal(server.fua, 1);
	assert_int_equal(server.count[NBD_FLUSH_CMD], 1);
}

static void error_of_the_server_is_the_io_s(void **state)
{
	uint8_t data[2 * SECTOR];

	(void)state;
	image_up(1);
	server.error[NBD_WRITE] = 28;
	server.error[NBD_READ] = server.error[NBD_FLUSH_CMD] = 5;
	assert_int_equal(run(IMAGE_WRITE, 0, SECTOR, data), -ENOSPC);
	assert_int_equal(run(IMAGE_READ, 0, SECTOR, data), -EIO);
	assert_int_equal(run(IMAGE_FLUSH, 0, 0, NULL), -EIO);
	server.error[NBD_READ] = 0;
	assert_int_equal(run(IMAGE_READ, 0, SECTOR, data), 0);
	assert_int_equal(server.clients, 1);
}

/* ---- a server that goes ---- */

static void restarted_server_is_asked_again(void **state)
{
	static uint8_t data[8][SECTOR];
	struct image_io io[8];
	struct iovec iov[8];

	(void)state;
	image_up(60);
	server.hung = true;
	ended = 0;
	for (unsigned i = 0; i < 8; i++) {
		memset(data[i], 'a' + i, SECTOR);
		iov[i] = (struct iovec){ data[i], SECTOR };
		begin(&io[i], IMAGE_WRITE, i * SECTOR, SECTOR, &iov[i], 1);
	}
	while (!__atomic_load_n(&server.count[NBD_WRITE], __ATOMIC_RELAXED)) {
		uring_wait(&ring, 1000000);
		uring_reap(&ring);
	}
	server_stop();
	for (unsigned i = 0; i < 20; i++) {
		uring_wait(&ring, 1000000);
		uring_reap(&ring);
	}
	assert_int_equal(ended, 0);
	assert_int_equal(server_start(path), 0);
	wait_for(8);
	assert_int_equal(error, 0);
	assert_memory_equal(server.disk, data, sizeof(data));
}

static void server_that_stays_away_fails_io_until_it_is_back(void **state)
{
	uint8_t data[SECTOR];

	(void)state;
	image_up(0);
	server_stop();
	assert_int_equal(run(IMAGE_READ, 0, SECTOR, data), -EIO);
	assert_int_equal(run(IMAGE_READ, 0, SECTOR, data), -EIO);
	assert_int_equal(server_start(path), 0);
	while (run(IMAGE_READ, 0, SECTOR, data)) {
		uring_wait(&ring, 1000000);
		uring_reap(&ring);
	}
	assert_int_equal(server.clients, 2);
}

static void reply_that_is_cut_or_garbage_is_asked_again(void **state)
{
	uint8_t data[SECTOR];
	struct image_io io;

	(void)state;
	image_up(60);
	server.half = 3;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(run(IMAGE_READ, i * SECTOR, SECTOR, data), 0);
	assert_int_equal(server.clients, 2);
	server.garbage = true;
	ended = 0;
	begin(&io, IMAGE_FLUSH, 0, 0, NULL, 0);
	while (__atomic_load_n(&server.clients, __ATOMIC_RELAXED) < 3) {
		uring_wait(&ring, 1000000);
		uring_reap(&ring);
	}
	server.garbage = false;
	wait_for(1);
}

static void flush_after_a_loss_fails_once(void **state)
{
	uint8_t data[SECTOR] = "x";

	(void)state;
	image_up(60);
	assert_int_equal(run(IMAGE_WRITE, 0, SECTOR, data), 0);
	assert_int_equal(run(IMAGE_FLUSH, 0, 0, NULL), 0);
	server_stop();
	assert_int_equal(server_start(path), 0);
	assert_int_equal(run(IMAGE_FLUSH, 0, 0, NULL), 0); /* everything had been flushed */
	assert_int_equal(run(IMAGE_WRITE, 0, SECTOR, data), 0);
	server_stop();
	assert_int_equal(server_start(path), 0);
	assert_int_equal(run(IMAGE_READ, 0, SECTOR, data), 0);
	assert_int_equal(run(IMAGE_FLUSH, 0, 0, NULL), -EIO);
	assert_int_equal(run(IMAGE_FLUSH, 0, 0, NULL), 0);
}

static void other_disk_behind_the_same_name_is_refused(void **state)
{
	uint8_t data[SECTOR];

	(void)state;
	image_up(60);
	server_stop();
	server.bytes = SERVER_BYTES / 2;
	assert_int_equal(server_start(path), 0);
	assert_int_equal(run(IMAGE_READ, 0, SECTOR, data), -EIO);
}

static void hung_server_is_dropped_after_a_while(void **state)
{
	uint8_t data[SECTOR];
	struct iovec iov = { data, SECTOR };
	struct image_io io;

	(void)state;
	image_up(1);
	server.hung = true;
	ended = 0;
	begin(&io, IMAGE_READ, 0, SECTOR, &iov, 1);
	while (!ended) {
		im->ops->hurry(im);
		uring_wait(&ring, 10000000);
		uring_reap(&ring);
	}
	assert_int_equal(error, -EIO);
	server.hung = false;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, up, down)
	const struct CMUnitTest tests[] = {
		T(open_tells_what_the_server_can),
		T(open_what_cannot_be_served_is_refused),
		T(open_of_a_second_writer_is_refused),
		T(open_of_a_server_that_serves_another_says_so),
		T(io_in_pieces_equals_the_model),
		T(blocks_of_the_server_are_sectors_of_the_guest),
		T(dsync_is_fua_or_a_flush),
		T(error_of_the_server_is_the_io_s),
		T(restarted_server_is_asked_again),
		T(server_that_stays_away_fails_io_until_it_is_back),
		T(reply_that_is_cut_or_garbage_is_asked_again),
		T(flush_after_a_loss_fails_once),
		T(other_disk_behind_the_same_name_is_refused),
		T(hung_server_is_dropped_after_a_while),
	};

	return cmocka_run_group_tests(tests, group_up, group_down);
}
