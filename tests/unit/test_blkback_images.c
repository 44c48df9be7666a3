/* image.c, image_extents.c, image_ram.c, image_null.c: which image a path means, tables of extents, and random I/O against a model. */
#include "blkback/image.h"
#include <errno.h>
#include <fcntl.h>
#include <pvio/noxs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { SECTOR = 512, DISK = 96 /* sectors */, FILES = 3, ROUNDS = 4000 };

static struct uring ring;
static char dir[] = "/tmp/test_blkback_images.XXXXXX", table[100], file[FILES][100];
static int ended, error;

static void on_end(struct image_io *io, int err)
{
	(void)io;
	ended++;
	error = err;
}

static int setup(void **state)
{
	char why[200];

	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(table, sizeof(table), "%s/table", dir);
	for (int i = 0; i < FILES; i++)
		snprintf(file[i], sizeof(file[i]), "%s/%d", dir, i);
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
	unlink(table);
	for (int i = 0; i < FILES; i++)
		unlink(file[i]);
	return rmdir(dir);
}

static void make_files(void)
{
	for (int i = 0; i < FILES; i++) {
		int fd = open(file[i], O_RDWR | O_CREAT | O_TRUNC, 0600);

		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, 64 * SECTOR), 0);
		close(fd);
	}
}

static void write_table(const char *text)
{
	FILE *out = fopen(table, "w");

	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

static int open_path(const char *path, bool read_only, struct image **im, char *why, size_t len)
{
	const struct image_config c = { .path = path, .read_only = read_only, .direct = IMAGE_DIRECT_OFF, .discard = true };

	return image_open(&c, im, why, len);
}

static struct image *image(const char *path)
{
	struct image *im;
	char why[300];

	if (open_path(path, false, &im, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return im;
}

static void refused(const char *path, int ret, const char *words)
{
	struct image *im = NULL;
	char why[300];

	assert_int_equal(open_path(path, false, &im, why, sizeof(why)), ret);
	assert_null(im);
	if (!strstr(why, words))
		fail_msg("'%s' does not say '%s'", why, words);
}

static void run(struct image_io *io)
{
	io->uring = &ring;
	io->end = on_end;
	ended = 0;
	image_submit(io);
	uring_submit(&ring);
	while (!ended)
		if (!uring_reap(&ring))
			uring_wait(&ring, 0);
	assert_int_equal(ended, 1);
	assert_int_equal(error, 0);
}

/* ---- what a path means ---- */

static void path_of_a_kind_opens_that_kind(void **state)
{
	struct image *im = image("ram:64k");
	char path[200];

	(void)state;
	assert_string_equal(im->ops->name, "ram");
	assert_int_equal(im->facts.sectors, 128);
	image_close(im);
	im = image("null:1M");
	assert_string_equal(im->ops->name, "null");
	assert_int_equal(im->facts.sectors, 2048);
	image_close(im);
	make_files();
	im = image(file[0]);
	assert_string_equal(im->ops->name, "file");
	image_close(im);
	snprintf(path, sizeof(path), "file:%s", file[0]);
	im = image(path);
	assert_string_equal(im->ops->name, "file");
	image_close(im);
}

static void disk_is_whole_sectors(void **state)
{
	struct image_config c = { .path = "null:13k", .sector_size = 4096 };
	char text[300], why[300];
	struct image *im;

	(void)state;
	assert_int_equal(image_open(&c, &im, why, sizeof(why)), 0);
	assert_int_equal(im->facts.sectors, 24);
	assert_int_equal(im->facts.physical_sector_size, 4096);
	image_close(im);
	c.path = "null:3584";
	assert_int_equal(image_open(&c, &im, why, sizeof(why)), -EINVAL);
	assert_null(im);
	assert_non_null(strstr(why, "sector=512"));
	make_files();
	snprintf(text, sizeof(text), "%s 8 16\n%s 33 8\n", file[0], file[0]);
	write_table(text);
	snprintf(text, sizeof(text), "extents:%s", table);
	c.path = text;
	assert_int_equal(image_open(&c, &im, why, sizeof(why)), -EINVAL);
	assert_null(im);
	assert_non_null(strstr(why, ":2: "));
}

static void size_that_is_none_is_refused(void **state)
{
	static const char *const bad[] = { "ram:", "ram:0", "ram:100", "ram:-512", "ram:1x", "null:512 ", "null:99999999999999999999" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		refused(bad[i], -EINVAL, "whole sectors");
	refused("ram:8000000000G", -ENOMEM, "memory");
}

/* ---- tables ---- */

static void table_that_is_wrong_is_refused(void **state)
{
	static const struct {
		const char *text; /* %s: a file of 64 sectors */
		int ret;
		const char *words;
	} bad[] = {
		{ "# nothing\n\n", -EINVAL, "no extents" },
		{ "%s 0\n", -EINVAL, ":1: give DEVICE" },
		{ "%s 0 8 8\n", -EINVAL, ":1: give DEVICE" },
		{ "%s 0 0\n", -EINVAL, ":1: give DEVICE" },
		{ "%s -1 8\n", -EINVAL, ":1: give DEVICE" },
		{ "%s 0 18446744073709551617\n", -EINVAL, ":1: give DEVICE" },
		{ "%s 36028797018963968 1\n", -EINVAL, ":1: give DEVICE" },
		{ "%s 64 1\n", -ERANGE, ":1: " },
		{ "%s 60 5\n", -ERANGE, "has 64 sectors" },
		{ "%s 0 8 # fine\n/nonexistent 0 1\n", -ENOENT, ":2: /nonexistent" },
		{ "%s 0 8\n%1$s 7 1\n", -EINVAL, ":1 and 2: both have sector 7" },
		{ "%s 10 8\n%1$s 0 11\n", -EINVAL, ":2 and 1: both have sector 10" },
		{ "%s 0 8\n%1$s 0 8\n", -EINVAL, "both have sector 0" },
	};
	char text[400], path[120];

	(void)state;
	make_files();
	snprintf(path, sizeof(path), "extents:%s", table);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(text, sizeof(text), bad[i].text, file[0]);
		write_table(text);
		refused(path, bad[i].ret, bad[i].words);
	}
	refused("extents:/nonexistent", -ENOENT, "/nonexistent");
}

static void table_whose_device_is_in_use_is_refused(void **state)
{
	struct image *other;
	char text[300], path[120];

	(void)state;
	make_files();
	snprintf(path, sizeof(path), "extents:%s", table);
	snprintf(text, sizeof(text), "%s 0 8\n%s 0 8\n", file[0], file[1]);
	write_table(text);
	other = image(file[1]);
	refused(path, -EBUSY, "is in use");
	image_close(other);
	other = image(path); /* what was opened before the refusal was closed */
	refused(file[0], -EBUSY, "is in use");
	image_close(other);
	image_close(image(file[0]));
}

/* The table's one line. */
static struct image *piece(const char *device, unsigned first, unsigned sectors)
{
	char text[200], path[120];

	snprintf(text, sizeof(text), "%s %u %u\n", device, first, sectors);
	write_table(text);
	snprintf(path, sizeof(path), "extents:%s", table);
	return image(path);
}

static void tables_that_share_a_device_have_other_sectors(void **state)
{
	struct image *a, *b;
	char text[300], path[120];

	(void)state;
	make_files();
	snprintf(path, sizeof(path), "extents:%s", table);
	a = piece(file[0], 0, 8);
	b = piece(file[0], 8, 8);
	snprintf(text, sizeof(text), "%s 40 8\n%s 15 2\n", file[0], file[0]);
	write_table(text);
	refused(path, -EBUSY, ":2: ");
	refused(path, -EBUSY, "is in use");
	refused(file[0], -EBUSY, "is in use"); /* nor is all of it to be had */
	image_close(b);
	image_close(image(path)); /* what was locked before the refusal was let go */
	image_close(a);
	image_close(image(file[0]));
}

/* Two names of one file are one device: its extents are compared. */
static void table_with_two_names_of_a_file_is_seen_through(void **state)
{
	char text[300], path[120];

	(void)state;
	make_files();
	unlink(file[1]);
	assert_int_equal(link(file[0], file[1]), 0);
	snprintf(path, sizeof(path), "extents:%s", table);
	snprintf(text, sizeof(text), "%s 0 8\n%s 4 8\n", file[0], file[1]);
	write_table(text);
	refused(path, -EINVAL, "both have sector 4");
	unlink(file[1]);
}

/* ---- I/O ---- */

static uint32_t seed = 7;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % n;
}

/* Cut len bytes into pieces of sectors. */
static unsigned cut(struct iovec *iov, uint8_t *buf, size_t len)
{
	unsigned n = 0;

	while (len) {
		size_t piece = (1 + rnd(8)) * SECTOR;

		piece = piece < len ? piece : len;
		iov[n++] = (struct iovec){ buf, piece };
		buf += piece;
		len -= piece;
	}
	return n;
}

static void random_io(struct image *im, uint8_t *model)
{
	uint8_t buf[DISK * SECTOR];
	struct iovec iov[DISK];

	assert_int_equal(im->facts.sectors, DISK);
	for (int i = 0; i < ROUNDS; i++) {
		static const enum image_kind kinds[] = { IMAGE_READ, IMAGE_READ, IMAGE_WRITE, IMAGE_WRITE_DSYNC, IMAGE_FLUSH, IMAGE_DISCARD };
		enum image_kind kind = kinds[rnd(6)];
		size_t from = rnd(DISK), n = 1 + rnd(DISK - from);
		const struct image_io next = { .offset = rnd(DISK) * SECTOR, .len = SECTOR };
		struct image_io io = { .image = im, .kind = kind, .offset = from * SECTOR, .len = n * SECTOR, .iov = iov, .next = i % 2 ? &next : NULL };

		if (kind == IMAGE_FLUSH || (kind == IMAGE_DISCARD && !(im->facts.features & PV_VBD_DISCARD)))
			io = (struct image_io){ .image = im, .kind = IMAGE_FLUSH };
		else if (kind != IMAGE_DISCARD)
			io.niov = cut(iov, buf, n * SECTOR);
		if (kind == IMAGE_WRITE || kind == IMAGE_WRITE_DSYNC) {
			for (size_t k = 0; k < n * SECTOR; k++)
				buf[k] = model[from * SECTOR + k] = rnd(256);
		} else if (io.kind == IMAGE_DISCARD) {
			memset(model + from * SECTOR, 0, n * SECTOR);
		} else {
			memset(buf, 0xee, sizeof(buf));
		}
		run(&io);
		if (io.kind != IMAGE_FLUSH)
			assert_int_equal(io.done, n * SECTOR);
		if (kind == IMAGE_READ)
			assert_memory_equal(buf, model + from * SECTOR, n * SECTOR);
	}
}

static void io_over_many_extents_is_right(void **state)
{
	static const struct { int file, first, n; } e[] = { { 1, 8, 1 }, { 0, 0, 16 }, { 2, 3, 7 }, { 1, 9, 40 }, { 0, 16, 2 }, { 0, 40, 23 }, { 2, 0, 3 }, { 2, 60, 4 } };
	uint8_t model[DISK * SECTOR] = { 0 }, all[64 * SECTOR];
	char text[1000] = "# a disk in pieces\n", path[120];
	unsigned at = 0;
	struct image *im;

	(void)state;
	make_files();
	for (size_t i = 0; i < sizeof(e) / sizeof(*e); i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), " %s\t%d %d\n", file[e[i].file], e[i].first, e[i].n);
	write_table(text);
	snprintf(path, sizeof(path), "extents:%s", table);
	im = image(path);
	random_io(im, model);
	image_close(im);
	for (size_t i = 0; i < sizeof(e) / sizeof(*e); at += e[i++].n) { /* each piece is where the table says */
		int fd = open(file[e[i].file], O_RDONLY);

		assert_int_equal(pread(fd, all, e[i].n * SECTOR, e[i].first * SECTOR), e[i].n * SECTOR);
		assert_memory_equal(all, model + at * SECTOR, e[i].n * SECTOR);
		close(fd);
	}
	for (int i = 0; i < FILES; i++) { /* and nothing was written anywhere else: sectors that no extent has are still zero */
		bool used[64] = { false };
		int fd = open(file[i], O_RDONLY);

		for (size_t k = 0; k < sizeof(e) / sizeof(*e); k++)
			for (int s = 0; e[k].file == i && s < e[k].n; s++)
				used[e[k].first + s] = true;
		assert_int_equal(read(fd, all, sizeof(all)), sizeof(all));
		close(fd);
		for (size_t s = 0; s < 64; s++)
			for (int k = 0; !used[s] && k < SECTOR; k++)
				assert_int_equal(all[s * SECTOR + k], 0);
	}
}

static void io_in_memory_is_right(void **state)
{
	uint8_t model[DISK * SECTOR] = { 0 };
	struct image *im = image("ram:48k");

	(void)state;
	random_io(im, model);
	image_close(im);
}

static void io_to_nowhere_ends_well(void **state)
{
	struct image *im = image("null:48k");
	uint8_t buf[SECTOR] = { 5 };
	struct iovec iov = { buf, SECTOR };
	struct image_io io = { .image = im, .kind = IMAGE_READ, .len = SECTOR, .iov = &iov, .niov = 1 };

	(void)state;
	run(&io);
	assert_int_equal(io.done, SECTOR);
	assert_int_equal(buf[0], 5);
	image_close(im);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(path_of_a_kind_opens_that_kind),
		cmocka_unit_test(disk_is_whole_sectors),
		cmocka_unit_test(size_that_is_none_is_refused),
		cmocka_unit_test(table_that_is_wrong_is_refused),
		cmocka_unit_test(table_whose_device_is_in_use_is_refused),
		cmocka_unit_test(tables_that_share_a_device_have_other_sectors),
		cmocka_unit_test(table_with_two_names_of_a_file_is_seen_through),
		cmocka_unit_test(io_over_many_extents_is_right),
		cmocka_unit_test(io_in_memory_is_right),
		cmocka_unit_test(io_to_nowhere_ends_well),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
