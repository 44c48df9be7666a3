/* image_file: opening, locking, facts; and I/O that the kernel does in parts, or not at all. */
#include "blkback/image.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pvio/noxs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAGE = 4096, PAGES = 64 };

static struct uring ring;
static char path[] = "/tmp/test_blkback_image.XXXXXX";
static uint8_t *buf, *content;
static int ended, error;

static void on_end(struct image_io *io, int err)
{
	(void)io;
	ended++;
	error = err;
}

static void watched(struct uring_op *op, int res, uint32_t flags)
{
	(void)res, (void)flags;
	((struct uring_watch *)op)->armed = false;
	ended++;
}

static int setup(void **state)
{
	char why[200];
	int fd = mkstemp(path);

	(void)state;
	if (fd < 0 || posix_memalign((void **)&buf, PAGE, PAGES * PAGE) || posix_memalign((void **)&content, PAGE, PAGES * PAGE))
		return -1;
	for (int i = 0; i < PAGES * PAGE; i++)
		content[i] = i / 512 * 7 + i;
	if (write(fd, content, PAGES * PAGE) != PAGES * PAGE)
		return -1;
	close(fd);
	signal(SIGXFSZ, SIG_IGN);
	if (uring_open(&ring, why, sizeof(why)) < 0) {
		printf("SKIP need=uring: %s\n", why);
		exit(77);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	uring_close(&ring);
	free(buf);
	free(content);
	return unlink(path);
}

/* Each test starts from the same file. */
static int restore(void **state)
{
	int fd = open(path, O_RDWR | O_TRUNC);

	(void)state;
	ended = error = 0;
	memset(buf, 0, PAGES * PAGE);
	return fd < 0 || write(fd, content, PAGES * PAGE) != PAGES * PAGE || close(fd) ? -1 : 0;
}

static struct image *image(const char *name, bool read_only, enum image_direct direct)
{
	struct image_config c = { .path = name, .read_only = read_only, .direct = direct, .discard = true };
	struct image *im;
	char why[200] = "";

	if (image_file_ops.open(&c, &im, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return im;
}

static int refused(const char *name, bool read_only, enum image_direct direct, const char *word)
{
	struct image_config c = { .path = name, .read_only = read_only, .direct = direct };
	struct image *im;
	char why[200] = "";
	int ret = image_file_ops.open(&c, &im, why, sizeof(why));

	assert_true(ret < 0);
	assert_null(im);
	if (!strstr(why, word) || !strstr(why, name))
		fail_msg("'%s' does not say '%s' and the path", why, word);
	return ret;
}

static void wait_end(void)
{
	uring_submit(&ring);
	while (!ended)
		if (!uring_reap(&ring))
			uring_wait(&ring, 0);
	assert_int_equal(ended, 1);
	assert_int_equal(ring.ios, 0);
}

static void run(struct image_io *io)
{
	io->uring = &ring;
	io->end = on_end;
	ended = 0;
	image_submit(io);
	wait_end();
}

/* The last sqe that was prepared and not yet submitted. */
static const struct io_uring_sqe *last_sqe(void)
{
	return &ring.ring.sq.sqes[(ring.ring.sq.sqe_tail - 1) & ring.ring.sq.ring_mask];
}

static void open_facts_are_those_of_the_file(void **state)
{
	struct image *im = image(path, false, IMAGE_DIRECT_AUTO);
	FILE *log = tmpfile();
	char line[300];
	int out;

	(void)state;
	assert_non_null(log);
	assert_int_equal(im->facts.sectors, PAGES * PAGE / 512);
	assert_int_equal(im->facts.physical_sector_size, PAGE);
	assert_false(im->facts.read_only);
	assert_true(im->facts.features & PV_VBD_FLUSH);
	assert_true(im->facts.features & PV_VBD_BARRIER);
	assert_true(fcntl(im->ops->file(im, 0), F_GETFL) & O_NOATIME); /* the file is ours */
	image_close(im);
	assert_int_equal(truncate(path, 3 * 512 + 100), 0); /* what is no whole sector is not served, and the log says so */
	fflush(stderr);
	out = dup(2);
	dup2(fileno(log), 2);
	im = image(path, true, IMAGE_DIRECT_OFF);
	dup2(out, 2);
	close(out);
	rewind(log);
	assert_non_null(fgets(line, sizeof(line), log));
	assert_non_null(strstr(line, "last 100 bytes"));
	fclose(log);
	assert_int_equal(im->facts.sectors, 3);
	assert_int_equal(im->facts.physical_sector_size, 512);
	assert_true(im->facts.read_only);
	assert_false(im->facts.features & (PV_VBD_DISCARD | PV_VBD_BARRIER));
	image_close(im);
}

static void open_what_cannot_be_served_is_refused(void **state)
{
	(void)state;
	assert_int_equal(refused("/nonexistent/disk.img", false, IMAGE_DIRECT_AUTO, "No such file"), -ENOENT);
	assert_int_equal(refused("/dev/null", false, IMAGE_DIRECT_AUTO, "neither"), -EINVAL);
	assert_int_equal(refused("/tmp", true, IMAGE_DIRECT_AUTO, "neither"), -EINVAL);
	assert_int_equal(truncate(path, 511), 0);
	assert_int_equal(refused(path, false, IMAGE_DIRECT_AUTO, "empty"), -EINVAL);
}

static void open_a_locked_image_is_refused(void **state)
{
	struct image *im = image(path, false, IMAGE_DIRECT_AUTO), *other;
	int fd;

	(void)state;
	assert_int_equal(refused(path, false, IMAGE_DIRECT_AUTO, "in use"), -EBUSY);
	assert_int_equal(refused(path, true, IMAGE_DIRECT_AUTO, "in use"), -EBUSY);
	image_close(im);
	im = image(path, true, IMAGE_DIRECT_AUTO); /* readers share */
	other = image(path, true, IMAGE_DIRECT_AUTO);
	assert_int_equal(refused(path, false, IMAGE_DIRECT_AUTO, "in use"), -EBUSY);
	image_close(other);
	image_close(im);
	fd = open(path, O_RDONLY);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0); /* closing left no lock */
	close(fd);
}

/* QEMU locks single bytes of its images, and looks at such locks alone. */
static void open_an_image_of_qemu_s_is_refused(void **state)
{
	struct flock byte = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 }, other = byte;
	int fd = open(path, O_RDWR);
	struct image *im;

	(void)state;
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &byte), 0);
	assert_int_equal(refused(path, false, IMAGE_DIRECT_AUTO, "in use"), -EBUSY);
	byte.l_type = F_UNLCK;
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &byte), 0);
	im = image(path, false, IMAGE_DIRECT_AUTO);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &other), -1); /* and ours is none for QEMU */
	image_close(im);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &other), 0);
	close(fd);
}

static void open_leaves_no_descriptor_behind(void **state)
{
	int before = open("/dev/null", O_RDONLY), after;

	(void)state;
	close(before);
	image_close(image(path, false, IMAGE_DIRECT_AUTO));
	refused("/dev/null", false, IMAGE_DIRECT_AUTO, "neither");
	after = open("/dev/null", O_RDONLY);
	close(after);
	assert_int_equal(before, after);
}

static void read_write_in_each_mode_are_right(void **state)
{
	static const enum image_direct modes[] = { IMAGE_DIRECT_AUTO, IMAGE_DIRECT_OFF };

	(void)state;
	for (unsigned m = 0; m < 2; m++) {
		struct image *im = image(path, false, modes[m]);
		struct iovec iov[2] = { { buf, PAGE }, { buf + 2 * PAGE, 512 } }, out = { content + 8 * PAGE, PAGE };
		struct image_io io = { .image = im, .kind = IMAGE_READ, .offset = 5 * PAGE, .len = PAGE + 512, .iov = iov, .niov = 2 };

		memset(buf, 0, 3 * PAGE);
		run(&io);
		assert_int_equal(error, 0);
		assert_int_equal(io.done, PAGE + 512);
		assert_memory_equal(buf, content + 5 * PAGE, PAGE);
		assert_memory_equal(buf + 2 * PAGE, content + 6 * PAGE, 512);

		io = (struct image_io){ .image = im, .kind = IMAGE_WRITE, .offset = 0, .len = PAGE, .iov = &out, .niov = 1 };
		run(&io);
		assert_int_equal(error, 0);
		iov[0] = (struct iovec){ buf, PAGE };
		io = (struct image_io){ .image = im, .kind = IMAGE_READ, .offset = 0, .len = PAGE, .iov = iov, .niov = 1 };
		run(&io);
		assert_memory_equal(buf, content + 8 * PAGE, PAGE);
		image_close(im);
	}
}

static void read_beyond_a_file_that_shrank_is_an_error(void **state)
{
	struct image *im = image(path, false, IMAGE_DIRECT_AUTO);
	struct iovec iov[2] = { { buf, PAGE }, { buf + 8 * PAGE, PAGE } };
	struct image_io io = { .image = im, .kind = IMAGE_READ, .offset = 3 * PAGE, .len = 2 * PAGE, .iov = iov, .niov = 2 };

	(void)state;
	assert_int_equal(truncate(path, 4 * PAGE), 0);
	run(&io);
	assert_int_equal(error, -EIO);
	assert_int_equal(io.done, PAGE); /* the first page was there */
	assert_memory_equal(buf, content + 3 * PAGE, PAGE);
	image_close(im);
}

static void write_stopped_by_a_limit_says_what_is_done(void **state)
{
	struct image *im = image(path, false, IMAGE_DIRECT_OFF);
	struct iovec iov = { content, 4 * PAGE };
	struct image_io io = { .image = im, .kind = IMAGE_WRITE, .offset = PAGES * PAGE - 2 * PAGE, .len = 4 * PAGE, .iov = &iov, .niov = 1 };
	struct rlimit old, limit;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = (struct rlimit){ .rlim_cur = PAGES * PAGE, .rlim_max = old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	run(&io);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(error, -EFBIG);
	assert_int_equal(io.done, 2 * PAGE);
	image_close(im);
}

static void short_io_is_continued_where_it_stopped(void **state)
{
	struct image *im = image(path, false, IMAGE_DIRECT_OFF);
	struct iovec iov[3] = { { buf, PAGE }, { buf + 2 * PAGE, PAGE }, { buf + 4 * PAGE, PAGE } };
	struct image_io io = { .image = im, .uring = &ring, .kind = IMAGE_READ, .offset = PAGE, .len = 3 * PAGE,
			       .iov = iov, .niov = 3, .end = on_end };
	const struct io_uring_sqe *sqe;

	(void)state;
	/* what the kernel would have read: one page and a sector; then it asks to come again; then it reads the rest */
	memcpy(buf, content + PAGE, PAGE);
	memcpy(buf + 2 * PAGE, content + 2 * PAGE, 512);
	image_submit(&io);
	ring.ring.sq.sqe_tail--; /* never seen by the kernel */
	io.op.done(&io.op, PAGE + 512, 0);
	assert_int_equal(ended, 0);
	sqe = last_sqe();
	assert_int_equal(sqe->off, 2 * PAGE + 512);
	assert_int_equal(sqe->opcode, IORING_OP_READV);
	assert_int_equal(sqe->len, 2);
	assert_ptr_equal(io.iov->iov_base, buf + 2 * PAGE + 512);
	assert_int_equal(io.iov->iov_len, PAGE - 512);
	ring.ring.sq.sqe_tail--;
	io.op.done(&io.op, -EINTR, 0);
	assert_int_equal(last_sqe()->off, 2 * PAGE + 512);
	ring.ring.sq.sqe_tail--;
	io.op.done(&io.op, -EAGAIN, 0);
	assert_true(last_sqe()->flags & IOSQE_ASYNC); /* the second time it may block */
	wait_end();
	assert_int_equal(error, 0);
	assert_int_equal(io.done, 3 * PAGE);
	for (int i = 0; i < 3; i++)
		assert_memory_equal(buf + 2 * i * PAGE, content + (1 + i) * PAGE, PAGE);
	image_close(im);
}

static void io_that_makes_no_progress_ends(void **state)
{
	struct image *im = image(path, false, IMAGE_DIRECT_OFF);
	struct iovec iov = { buf, PAGE };
	struct image_io io = { .image = im, .uring = &ring, .kind = IMAGE_READ, .len = PAGE,
			       .iov = &iov, .niov = 1, .end = on_end };

	(void)state;
	image_submit(&io);
	for (int i = 0; i < 10000 && !ended; i++) {
		ring.ring.sq.sqe_tail--;
		io.op.done(&io.op, -EAGAIN, 0);
	}
	assert_int_equal(ended, 1);
	assert_int_equal(error, -EAGAIN);
	image_close(im);
}

static void error_is_passed_on(void **state)
{
	struct image *im = image(path, true, IMAGE_DIRECT_OFF);
	struct iovec iov = { content, PAGE };
	struct image_io io = { .image = im, .kind = IMAGE_WRITE, .len = PAGE, .iov = &iov, .niov = 1 };

	(void)state;
	run(&io); /* the descriptor is for reading */
	assert_int_equal(error, -EBADF);
	assert_int_equal(io.done, 0);
	image_close(im);
}

static void flush_and_dsync_succeed(void **state)
{
	struct image *im = image(path, false, IMAGE_DIRECT_AUTO);
	struct iovec iov = { content + PAGE, PAGE };
	struct image_io io = { .image = im, .kind = IMAGE_FLUSH };

	(void)state;
	run(&io);
	assert_int_equal(error, 0);
	io = (struct image_io){ .image = im, .kind = IMAGE_WRITE_DSYNC, .len = PAGE, .iov = &iov, .niov = 1 };
	run(&io);
	assert_int_equal(error, 0);
	assert_int_equal(io.done, PAGE);
	image_close(im);
}

static void discard_punches_a_hole_and_keeps_the_size(void **state)
{
	struct image *im = image(path, false, IMAGE_DIRECT_OFF);
	struct image_io io = { .image = im, .kind = IMAGE_DISCARD, .offset = 4 * PAGE, .len = 2 * PAGE };
	struct iovec iov = { buf, 4 * PAGE };

	(void)state;
	if (!(im->facts.features & PV_VBD_DISCARD)) { /* then the probe must be right about it */
		assert_int_not_equal(fallocate(im->ops->file(im, 0), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE), 0);
		image_close(im);
		return;
	}
	run(&io);
	assert_int_equal(error, 0);
	io = (struct image_io){ .image = im, .kind = IMAGE_READ, .offset = 3 * PAGE, .len = 4 * PAGE, .iov = &iov, .niov = 1 };
	run(&io);
	assert_int_equal(error, 0);
	assert_memory_equal(buf, content + 3 * PAGE, PAGE);
	for (int i = PAGE; i < 3 * PAGE; i++)
		assert_int_equal(buf[i], 0);
	assert_memory_equal(buf + 3 * PAGE, content + 6 * PAGE, PAGE);
	assert_int_equal(lseek(im->ops->file(im, 0), 0, SEEK_END), PAGES * PAGE);
	image_close(im);
}

static void size_is_what_the_file_has_now(void **state)
{
	struct image *im = image(path, false, IMAGE_DIRECT_OFF);
	char why[200] = "";
	uint64_t bytes = 0;

	(void)state;
	assert_int_equal(im->ops->size(im, &bytes), 0);
	assert_int_equal(bytes, PAGES * PAGE);
	assert_int_equal(truncate(path, 3 * PAGE), 0);
	assert_int_equal(im->ops->size(im, &bytes), 0);
	assert_int_equal(bytes, 3 * PAGE);
	assert_int_equal(im->ops->truncate(im, 7 * PAGE, why, sizeof(why)), 0);
	assert_int_equal(lseek(im->ops->file(im, 0), 0, SEEK_END), 7 * PAGE);
	image_close(im);
	im = image(path, true, IMAGE_DIRECT_OFF);
	assert_int_equal(im->ops->truncate(im, 9 * PAGE, why, sizeof(why)), -EROFS);
	assert_non_null(strstr(why, "reading only"));
	image_close(im);
}

/* The image as a block device. Returns its path, or NULL: there is none to be had. */
static const char *loop_begin(unsigned sector)
{
	static char name[64];
	char command[200];
	FILE *in;

	snprintf(command, sizeof(command), "losetup --find --show --sector-size %u %s 2>/dev/null", sector, path);
	in = popen(command, "r");
	if (!in || !fgets(name, sizeof(name), in))
		name[0] = '\0';
	if (in)
		pclose(in);
	name[strcspn(name, "\n")] = '\0';
	return name[0] ? name : NULL;
}

static const char *loop_or_skip(unsigned sector)
{
	const char *loop = loop_begin(sector);

	if (!loop) {
		print_message("no loop device with sectors of %u bytes here\n", sector);
		skip();
	}
	return loop;
}

static void loop_end(const char *loop)
{
	char command[100];

	snprintf(command, sizeof(command), "losetup --detach %s", loop);
	assert_int_equal(system(command), 0);
}

static void sectors_of_4096_are_served_past_the_page_cache(void **state)
{
	const char *loop = loop_or_skip(4096);
	struct image_config c = { .path = loop, .sector_size = 4096, .direct = IMAGE_DIRECT_ON, .discard = true };
	struct iovec iov = { buf, 2 * PAGE };
	struct image_io io = { .kind = IMAGE_READ, .offset = 3 * PAGE, .len = 2 * PAGE, .iov = &iov, .niov = 1 };
	char why[300] = "";
	struct image *im;

	(void)state;
	assert_int_equal(refused(loop, false, IMAGE_DIRECT_ON, "sector=4096"), -EOPNOTSUPP);
	if (image_open(&c, &im, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	assert_true(im->facts.direct);
	assert_int_equal(im->facts.physical_sector_size, 4096);
	io.image = im;
	run(&io);
	assert_int_equal(error, 0);
	assert_memory_equal(buf, content + 3 * PAGE, 2 * PAGE);
	assert_int_equal(im->ops->truncate(im, PAGE, why, sizeof(why)), -EOPNOTSUPP);
	assert_non_null(strstr(why, "lvextend"));
	image_close(im);
	im = image(loop, false, IMAGE_DIRECT_AUTO); /* sectors of 512: through the cache */
	assert_false(im->facts.direct);
	image_close(im);
	loop_end(loop);
}

/* As the kernel opens a device that it mounts: exclusively. */
static void open_a_block_device_that_is_mounted_is_refused(void **state)
{
	const char *loop = loop_or_skip(512);
	struct image_config c = { .path = loop, .predecessor = "" }, part = { .path = loop, .parts = true };
	struct image *im, *other;
	char why[300] = "";
	int fd = open(loop, O_RDONLY | O_EXCL);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(refused(loop, false, IMAGE_DIRECT_AUTO, "is in use"), -EBUSY);
	assert_int_equal(image_open(&c, &im, why, sizeof(why)), -EAGAIN); /* may be a process' that ends just now */
	image_close(image(loop, true, IMAGE_DIRECT_AUTO)); /* who reads alone harms nobody */
	close(fd);
	im = image(loop, false, IMAGE_DIRECT_AUTO);
	assert_int_equal(open(loop, O_RDONLY | O_EXCL), -1);
	image_close(im);
	assert_int_equal(image_open(&part, &im, why, sizeof(why)), 0);
	assert_int_equal(image_open(&part, &other, why, sizeof(why)), 0); /* another part of it */
	image_close(other);
	image_close(im);
	fd = open(loop, O_RDONLY | O_EXCL);
	assert_true(fd >= 0);
	close(fd);
	loop_end(loop);
}

static void close_lets_the_lock_go_at_once(void **state)
{
	struct image *im = image(path, false, IMAGE_DIRECT_AUTO);
	struct iovec iov = { buf, PAGE };
	struct image_io io = { .image = im, .uring = &ring, .kind = IMAGE_READ, .offset = PAGE, .len = PAGE,
			       .iov = &iov, .niov = 1, .end = on_end };
	int fd = open(path, O_RDWR);

	(void)state;
	image_submit(&io);
	wait_end();
	assert_int_equal(error, 0);
	assert_memory_equal(buf, content + PAGE, PAGE);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	image_close(im);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	close(fd);
}

/* Only then is it in vain to hand over a part of a turn early. */
static void submit_tells_whether_all_ended_within_the_call(void **state)
{
	struct image *im = image(path, true, IMAGE_DIRECT_OFF);
	struct iovec iov = { buf, PAGE };
	struct image_io io = { .image = im, .uring = &ring, .kind = IMAGE_READ, .len = PAGE, .iov = &iov, .niov = 1, .end = on_end };
	struct uring_watch empty = { .op.done = watched };
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	image_submit(&io); /* of a file that was just written: in memory */
	assert_int_equal(ring.ios, 1);
	wait_end();
	assert_true(ring.prompt);
	uring_watch(&ring, &empty, fds[0], POLLIN);
	uring_submit(&ring);
	assert_false(ring.prompt);
	assert_int_equal(write(fds[1], "", 1), 1);
	while (ended < 2)
		if (!uring_reap(&ring))
			uring_wait(&ring, 0);
	close(fds[0]);
	close(fds[1]);
	image_close(im);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(open_facts_are_those_of_the_file, restore),
		cmocka_unit_test_setup(open_what_cannot_be_served_is_refused, restore),
		cmocka_unit_test_setup(open_a_locked_image_is_refused, restore),
		cmocka_unit_test_setup(open_an_image_of_qemu_s_is_refused, restore),
		cmocka_unit_test_setup(open_a_block_device_that_is_mounted_is_refused, restore),
		cmocka_unit_test_setup(open_leaves_no_descriptor_behind, restore),
		cmocka_unit_test_setup(read_write_in_each_mode_are_right, restore),
		cmocka_unit_test_setup(read_beyond_a_file_that_shrank_is_an_error, restore),
		cmocka_unit_test_setup(write_stopped_by_a_limit_says_what_is_done, restore),
		cmocka_unit_test_setup(short_io_is_continued_where_it_stopped, restore),
		cmocka_unit_test_setup(io_that_makes_no_progress_ends, restore),
		cmocka_unit_test_setup(error_is_passed_on, restore),
		cmocka_unit_test_setup(flush_and_dsync_succeed, restore),
		cmocka_unit_test_setup(discard_punches_a_hole_and_keeps_the_size, restore),
		cmocka_unit_test_setup(size_is_what_the_file_has_now, restore),
		cmocka_unit_test_setup(sectors_of_4096_are_served_past_the_page_cache, restore),
		cmocka_unit_test_setup(close_lets_the_lock_go_at_once, restore),
		cmocka_unit_test_setup(submit_tells_whether_all_ended_within_the_call, restore),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
