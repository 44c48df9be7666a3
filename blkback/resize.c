/* resize.c - a disk becomes larger or smaller while its guest uses it. Control thread.
 *
 * Larger: the image first, then what its queues allow; pviod tells the guest afterwards, so whatever it is told is true. Smaller: the
 * queues first, and the guest may ask for what is gone for a moment, which is an error of its own. */
#include "blkback.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* What a size in bytes is as a disk: whole sectors of both kinds. */
static uint64_t sectors_of(const struct vbd *d, uint64_t bytes)
{
	uint32_t unit = d->image->facts.physical_sector_size;

	if (unit < d->config.sector)
		unit = d->config.sector;
	return bytes / unit * (unit / PV_BLK_SECTOR);
}

struct bound_call {
	struct blkq *q;
	uint64_t sectors;
};

static int bound_here(void *arg)
{
	struct bound_call *c = arg;

	c->q->c.disk.sectors = c->sectors;
	return 0;
}

static void bound(struct vbd *d, uint64_t sectors)
{
	for (unsigned i = 0; i < d->queues; i++) {
		struct bound_call c = { .q = d->queue[i].q, .sectors = sectors };

		if (c.q)
			pv_worker_call(d->queue[i].w->thread, bound_here, &c);
	}
	d->image->facts.sectors = sectors;
}

void vbd_look_size(struct vbd *d)
{
	uint64_t bytes, sectors;

	if (!d->image->ops->size || d->image->ops->size(d->image, &bytes) < 0)
		return;
	sectors = sectors_of(d, bytes);
	if (sectors)
		bound(d, sectors);
}

static int shrink_refused(const struct vbd *d, uint64_t sectors, char *why, size_t len)
{
	return pv_why(why, len, -EBUSY, "%s: it would shrink from %" PRIu64 " to %" PRIu64 " sectors under its guest; detach it first, or --force",
		      d->name, d->image->facts.sectors, sectors);
}

/* bytes: to be, 0: as the image is now. */
static int resize(struct vbd *d, uint64_t bytes, bool force, char *why, size_t len)
{
	const struct image_ops *ops = d->image->ops;
	uint64_t before = d->image->facts.sectors, size = bytes, sectors;
	char reason[200];
	int ret = 0;

	if (!ops->size)
		return pv_why(why, len, -EOPNOTSUPP, "%s: %s cannot change its size; detach it, and attach it anew", d->name, d->config.path);
	if (!bytes)
		ret = ops->size(d->image, &size);
	if (ret < 0)
		return pv_why(why, len, ret, "%s: the size of %s is not known: %s", d->name, d->config.path, strerror(-ret));
	sectors = sectors_of(d, size);
	if (!sectors || (bytes && sectors != bytes / PV_BLK_SECTOR) || size > INT64_MAX)
		return pv_why(why, len, -EINVAL, "%s: %" PRIu64 " bytes are no whole sectors of %u bytes", d->name, size,
			      d->image->facts.physical_sector_size);
	if (sectors < before && d->state != VBD_PREPARED && !force)
		return shrink_refused(d, sectors, why, len);
	if (sectors < before)
		bound(d, sectors);
	if (bytes)
		ret = ops->truncate ? ops->truncate(d->image, bytes, reason, sizeof(reason)) :
		      pv_why(reason, sizeof(reason), -EOPNOTSUPP, "its size is changed elsewhere; then ask again without a size");
	bound(d, ret < 0 ? before : sectors);
	if (ret < 0)
		return pv_why(why, len, ret, "%s: %s: %s", d->name, d->config.path, reason);
	pv_log_about(&d->log, PV_LOG_INFO, "%s: %" PRIu64 " sectors, before %" PRIu64, d->name, sectors, before);
	return 0;
}

struct json_object *vbd_ask(void *ctx, const struct pv_device_id *id, const char *what, struct json_object *params, int *error, char *why,
			    size_t len)
{
	struct vbd *d = vbd_find(ctx, id);
	struct pv_noxs_offer offer = { .type = PV_NOXS_VBD };
	struct json_object *size = NULL, *force = NULL;

	if (!d)
		return NULL;
	if (strcmp(what, "resize")) {
		*error = pv_why(why, len, -ENOTSUP, "%s: a vbd knows nothing of %s", d->name, what);
		return NULL;
	}
	json_object_object_get_ex(params, "size", &size);
	json_object_object_get_ex(params, "force", &force);
	*error = resize(d, (uint64_t)json_object_get_int64(size), json_object_get_boolean(force), why, len);
	if (*error < 0)
		return NULL;
	vbd_offer(d, &offer.vbd);
	return pv_offer_to_json(&offer, PV_NOXS_VBD);
}
