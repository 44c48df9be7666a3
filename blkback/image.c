/* image.c - the kinds of images, and which one a path means. */
#include "image.h"
#include <errno.h>
#include <pvio/blk.h>
#include <pvio/log.h>
#include <pvio/options.h>
#include <string.h>

static const struct image_ops *const kinds[] = { &image_file_ops, &image_extents_ops, &image_ram_ops, &image_null_ops, &image_nbd_ops,
					       &image_rbd_ops };

/* nbd://, nbds://, nbd+unix:// and the like: people know these, so they need no nbd: before them. */
static bool is_nbd_uri(const char *path)
{
	return !strncmp(path, "nbd", 3) && !strncmp(path + strcspn(path, ":"), "://", 3);
}

/* The kind that a path names, and what it says to that. */
static const struct image_ops *kind_of(const char *path, const char **rest)
{
	*rest = path;
	if (is_nbd_uri(path))
		return &image_nbd_ops;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t n = strlen(kinds[i]->name);

		if (strncmp(path, kinds[i]->name, n) || path[n] != ':')
			continue;
		*rest = path + n + 1;
		return kinds[i];
	}
	return &image_file_ops;
}

int image_open(const struct image_config *c, struct image **out, char *why, size_t len)
{
	struct image_config of_kind = *c;
	const struct image_ops *ops = kind_of(c->path, &of_kind.path);
	int ret = ops->slow ? image_slow_open(ops, &of_kind, out, why, len) : ops->open(&of_kind, out, why, len);
	struct image_facts *f;

	if (ret < 0 || c->sector_size <= PV_BLK_SECTOR)
		return ret;
	f = &(*out)->facts; /* the disk is whole sectors */
	f->sectors -= f->sectors % (c->sector_size / PV_BLK_SECTOR);
	if (f->physical_sector_size < c->sector_size)
		f->physical_sector_size = c->sector_size;
	if (f->discard_granularity < c->sector_size)
		f->discard_granularity = c->sector_size;
	if (f->sectors)
		return 0;
	image_close(*out);
	*out = NULL;
	return pv_why(why, len, -EINVAL, "%s is smaller than a sector of %u bytes; use sector=512", c->path, c->sector_size);
}

int image_size(const char *text, uint64_t *bytes, char *why, size_t len)
{
	if (pv_option_size(NULL, text, bytes) < 0 || !*bytes || *bytes % PV_BLK_SECTOR || *bytes > INT64_MAX)
		return pv_why(why, len, -EINVAL, "\"%s\" is no size of whole sectors, such as 512M or 10G", text);
	return 0;
}
