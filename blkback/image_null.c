/* image_null.c - null:SIZE, for measuring what is not the image: writes go nowhere, reads leave the guest's memory as it is. */
#include "image.h"
#include <errno.h>
#include <pvio/blk.h>
#include <pvio/log.h>
#include <pvio/noxs.h>
#include <stdlib.h>

static void null_submit(struct image_io *io)
{
	io->done = io->len;
	io->end(io, 0);
}

static void null_close(struct image *im)
{
	free(im);
}

static int null_open(const struct image_config *c, struct image **out, char *why, size_t len)
{
	uint64_t bytes;
	int ret = image_size(c->path, &bytes, why, len);

	*out = NULL;
	if (ret < 0)
		return ret;
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return pv_why(why, len, -ENOMEM, "null:%s: out of memory", c->path);
	(*out)->ops = &image_null_ops;
	(*out)->facts = (struct image_facts){
		.sectors = bytes / PV_BLK_SECTOR,
		.physical_sector_size = PV_BLK_SECTOR,
		.features = PV_VBD_FLUSH | PV_VBD_BARRIER | (c->discard ? PV_VBD_DISCARD : 0),
		.discard_granularity = PV_BLK_SECTOR,
		.read_only = c->read_only,
	};
	if (c->read_only)
		(*out)->facts.features = PV_VBD_FLUSH;
	return 0;
}

const struct image_ops image_null_ops = { .name = "null", .open = null_open, .close = null_close, .submit = null_submit };
