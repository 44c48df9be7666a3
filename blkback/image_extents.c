/* image_extents.c - extents:TABLE, a disk put together from pieces of files and block devices.
 *
 * Each line of the table is a device, the first sector and the number of sectors (of 512 bytes); the disk is the pieces in their
 * order. Every piece is proven to lie in its device, no two of them overlap, and each is locked: the guest reaches those sectors and no others,
 * and nobody else writes them. Other pieces of the same device may be another disk's. `#` begins a comment. */
#include "image.h"
#include <errno.h>
#include <inttypes.h>
#include <pvio/blk.h>
#include <pvio/log.h>
#include <pvio/noxs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { EXTENTS_MAX = 65536, DEVICES_MAX = 256, LINE_LEN = 4600 };

struct extent {
	uint64_t begin; /* of the disk, bytes */
	uint64_t offset, len; /* in its device, bytes */
	unsigned device;
	unsigned line;
};

struct device {
	dev_t dev; /* as stat names what lies behind any of its paths */
	ino_t ino;
	char *path;
	struct image *image;
};

struct image_extents {
	struct image head; /* first */
	uint64_t bytes;
	struct extent *extent;
	unsigned nr, nr_devices;
	struct device device[DEVICES_MAX];
};

/* ---- the data path ---- */

static struct image_part extents_part(const struct image *im, uint64_t offset)
{
	const struct image_extents *x = (const struct image_extents *)im;
	const struct extent *e;
	struct image_part p;
	unsigned low = 0, high = x->nr; /* the extent is in [low, high) */
	const struct image *on;

	while (high - low > 1) {
		unsigned mid = low + (high - low) / 2;

		if (x->extent[mid].begin <= offset)
			low = mid;
		else
			high = mid;
	}
	e = &x->extent[low];
	on = x->device[e->device].image;
	p = on->ops->part(on, e->offset + (offset - e->begin));
	p.len = e->len - (offset - e->begin);
	return p;
}

static int extents_file(const struct image *im, unsigned n)
{
	const struct image_extents *x = (const struct image_extents *)im;

	return n < x->nr_devices ? x->device[n].image->ops->file(x->device[n].image, 0) : -1;
}

/* ---- the table ---- */

/* The device behind a path, opened when it first comes. Returns its index or -errno. */
static int device_of(struct image_extents *x, const struct image_config *c, const char *path, char *why, size_t len)
{
	struct image_config of_device = *c;
	struct device *d = &x->device[x->nr_devices];
	struct stat st;
	int ret;

	if (stat(path, &st) < 0)
		return pv_why(why, len, -errno, "%s: %s", path, strerror(errno));
	for (unsigned i = 0; i < x->nr_devices; i++) {
		bool block = S_ISBLK(st.st_mode) && x->device[i].ino == 0;

		if (block ? x->device[i].dev == st.st_rdev : x->device[i].dev == st.st_dev && x->device[i].ino == st.st_ino)
			return (int)i;
	}
	if (x->nr_devices == DEVICES_MAX)
		return pv_why(why, len, -E2BIG, "more than %d devices", DEVICES_MAX);
	of_device.path = path;
	of_device.parts = true;
	ret = image_file_ops.open(&of_device, &d->image, why, len);
	if (ret < 0)
		return ret;
	d->path = strdup(path);
	if (!d->path) {
		image_close(d->image);
		return pv_why(why, len, -ENOMEM, "out of memory");
	}
	d->dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	d->ino = S_ISBLK(st.st_mode) ? 0 : st.st_ino;
	return (int)x->nr_devices++;
}

static int add(struct image_extents *x, const struct image_config *c, char *line, unsigned nr, char *why, size_t len)
{
	char path[4097], from[20], count[20], rest[2], reason[200];
	uint64_t first, sectors, has;
	struct extent *e;
	int n;

	line[strcspn(line, "#\n")] = '\0';
	if (line[strspn(line, " \t")] == '\0')
		return 0;
	n = sscanf(line, "%4096s %19[0-9] %19[0-9] %1s", path, from, count, rest); /* 19 digits fit in 64 bits */
	first = n == 3 ? strtoull(from, NULL, 10) : 0;
	sectors = n == 3 ? strtoull(count, NULL, 10) : 0;
	if (!sectors || sectors > INT64_MAX / PV_BLK_SECTOR || first > INT64_MAX / PV_BLK_SECTOR)
		return pv_why(why, len, -EINVAL, "%s:%u: give DEVICE FIRST-SECTOR SECTORS", c->path, nr);
	n = device_of(x, c, path, reason, sizeof(reason));
	if (n < 0)
		return pv_why(why, len, n, "%s:%u: %s", c->path, nr, reason);
	has = x->device[n].image->facts.sectors;
	if (first >= has || sectors > has - first)
		return pv_why(why, len, -ERANGE, "%s:%u: %s has %" PRIu64 " sectors", c->path, nr, path, has);
	if (c->sector_size && (first | sectors) % (c->sector_size / PV_BLK_SECTOR))
		return pv_why(why, len, -EINVAL, "%s:%u: is no whole sectors of %u bytes", c->path, nr, c->sector_size);
	if (x->nr == EXTENTS_MAX)
		return pv_why(why, len, -E2BIG, "%s:%u: more than %d extents", c->path, nr, EXTENTS_MAX);
	e = &x->extent[x->nr++];
	*e = (struct extent){ x->bytes, first * PV_BLK_SECTOR, sectors * PV_BLK_SECTOR, (unsigned)n, nr };
	x->bytes += e->len;
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct extent *x = a, *y = b;

	if (x->device != y->device)
		return x->device < y->device ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* No sector may be in two extents: a write here would change the disk there. */
static int check_overlap(const struct image_extents *x, const struct image_config *c, char *why, size_t len)
{
	struct extent *sorted = malloc(x->nr * sizeof(*sorted));
	int ret = 0;

	if (!sorted)
		return pv_why(why, len, -ENOMEM, "%s: out of memory", c->path);
	memcpy(sorted, x->extent, x->nr * sizeof(*sorted));
	qsort(sorted, x->nr, sizeof(*sorted), by_place);
	for (unsigned i = 1; i < x->nr && ret == 0; i++) {
		const struct extent *a = &sorted[i - 1], *b = &sorted[i];

		if (a->device == b->device && b->offset - a->offset < a->len)
			ret = pv_why(why, len, -EINVAL, "%s:%u and %u: both have sector %" PRIu64 " of %s", c->path, a->line, b->line,
				     b->offset / PV_BLK_SECTOR, x->device[a->device].path);
	}
	free(sorted);
	return ret;
}

static int lock_pieces(const struct image_extents *x, const struct image_config *c, char *why, size_t len)
{
	char reason[200];
	int ret = 0;

	for (const struct extent *e = x->extent; e < x->extent + x->nr && ret == 0; e++) {
		const struct device *d = &x->device[e->device];

		ret = image_lock_range(d->image->ops->file(d->image, 0), c->read_only, e->offset, e->len, d->path, reason, sizeof(reason));
		if (ret < 0)
			pv_why(why, len, ret, "%s:%u: %s", c->path, e->line, reason);
	}
	return ret;
}

static int read_table(struct image_extents *x, const struct image_config *c, char *why, size_t len)
{
	FILE *in = fopen(c->path, "re");
	char line[LINE_LEN];
	int ret = 0;

	if (!in)
		return pv_why(why, len, -errno, "cannot open %s: %s", c->path, strerror(errno));
	for (unsigned nr = 1; ret == 0 && fgets(line, sizeof(line), in); nr++)
		ret = add(x, c, line, nr, why, len);
	if (ret == 0 && ferror(in))
		ret = pv_why(why, len, -EIO, "cannot read %s", c->path);
	fclose(in);
	if (ret == 0 && !x->nr)
		ret = pv_why(why, len, -EINVAL, "%s has no extents: give DEVICE FIRST-SECTOR SECTORS, a line each", c->path);
	ret = ret < 0 ? ret : check_overlap(x, c, why, len);
	return ret < 0 ? ret : lock_pieces(x, c, why, len);
}

/* What all devices can. */
static void find_facts(struct image_extents *x, const struct image_config *c)
{
	struct image_facts *f = &x->head.facts;

	*f = x->device[0].image->facts;
	for (unsigned i = 1; i < x->nr_devices; i++) {
		const struct image_facts *d = &x->device[i].image->facts;

		f->features &= d->features;
		f->direct &= d->direct;
		if (d->physical_sector_size > f->physical_sector_size)
			f->physical_sector_size = d->physical_sector_size;
		if (d->discard_granularity > f->discard_granularity)
			f->discard_granularity = d->discard_granularity;
	}
	for (unsigned i = 0; i < x->nr; i++) /* the disk is whole physical sectors, and so is each of its pieces */
		if ((x->extent[i].offset | x->extent[i].len) % f->physical_sector_size)
			f->physical_sector_size = PV_BLK_SECTOR;
	f->features &= ~(uint32_t)PV_VBD_SECURE_DISCARD; /* of one device, not of many */
	f->sectors = x->bytes / PV_BLK_SECTOR;
	f->read_only = c->read_only;
}

static void extents_close(struct image *im)
{
	struct image_extents *x = (struct image_extents *)im;

	for (unsigned i = 0; i < x->nr_devices; i++) {
		image_close(x->device[i].image);
		free(x->device[i].path);
	}
	free(x->extent);
	free(x);
}

static int extents_open(const struct image_config *c, struct image **out, char *why, size_t len)
{
	struct image_extents *x = calloc(1, sizeof(*x));
	int ret;

	*out = NULL;
	if (x)
		x->extent = calloc(EXTENTS_MAX, sizeof(*x->extent));
	if (!x || !x->extent) {
		free(x);
		return pv_why(why, len, -ENOMEM, "%s: out of memory", c->path);
	}
	x->head.ops = &image_extents_ops;
	ret = read_table(x, c, why, len);
	if (ret < 0) {
		extents_close(&x->head);
		return ret;
	}
	find_facts(x, c);
	*out = &x->head;
	return 0;
}

const struct image_ops image_extents_ops = { .name = "extents", .open = extents_open, .close = extents_close, .submit = image_io_submit,
					     .part = extents_part, .file = extents_file };
