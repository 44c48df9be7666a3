/* vbd.c - devices: prepare, connect, disconnect, remove. Control thread; queues are spread over the workers.
 *
 *	(unknown) --prepare--> PREPARED --connect--> CONNECTED --a queue broke--> BROKEN
 *	                          ^------------------disconnect----------------------'
 * Each call is legal in each state and idempotent; remove ends in (unknown).
 */
#include "blkback.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RING_ORDER_MAX = 4 };

/* Owner: main. */
struct vbds {
	struct vbd *all;
	struct blkworker **workers;
	unsigned nworkers;
	int64_t began_us; /* monotonic */
};

static uint64_t key_of(const struct pv_device_id *id)
{
	return (uint64_t)id->guest << 32 | id->devid;
}

struct vbd *vbd_find(struct vbds *v, const struct pv_device_id *id)
{
	uint64_t key = key_of(id);
	struct vbd *d;

	HASH_FIND(hh, v->all, &key, sizeof(key), d);
	return d;
}

/* ---- prepare ---- */

static void forget(struct vbds *v, struct vbd *d)
{
	HASH_DEL(v->all, d);
	image_close(d->image);
	free(d->limit);
	vbd_config_free(&d->config);
	free(d);
}

static void device_name(const struct pv_device_id *id, char *buf, size_t len)
{
	char dev[16];

	pv_devid_name(PV_NOXS_VBD, id->devid, dev, sizeof(dev));
	snprintf(buf, len, "vbd %s of guest %u", dev, id->guest);
}

static int make(struct vbds *v, const struct pv_device_id *id, struct vbd_config *c, const char *predecessor, struct vbd **out, char *why,
		size_t len)
{
	struct image_config ic = { .path = c->path, .read_only = c->read_only, .direct = c->direct, .discard = c->discard,
				   .wait = c->wait, .sector_size = c->sector, .predecessor = predecessor };
	struct vbd *d = calloc(1, sizeof(*d));
	int ret;

	if (!d)
		return pv_why(why, len, -ENOMEM, "out of memory");
	d->key = key_of(id);
	d->id = *id;
	device_name(id, d->name, sizeof(d->name));
	ret = image_open(&ic, &d->image, why, len);
	if (ret < 0) {
		free(d);
		return ret;
	}
	d->config = *c;
	d->config.limit = (struct limits_config){ 0 }; /* none is at work yet */
	c->path = NULL; /* it is the device's now */
	HASH_ADD(hh, v->all, key, sizeof(d->key), d);
	pv_log_about(&d->log, PV_LOG_INFO, "%s: %s, %llu sectors%s%s", d->name, d->config.path, (unsigned long long)d->image->facts.sectors,
	       d->config.read_only ? ", read-only" : "", d->image->facts.direct ? ", O_DIRECT" : "");
	*out = d;
	return 0;
}

/* What the device may do from now on. New limits begin with a full burst. */
static int change_limit(struct vbd *d, const struct limits_config *c, char *why, size_t len)
{
	struct limits *old = d->limit, *new;

	if (!memcmp(&d->config.limit, c, sizeof(*c)))
		return 0;
	if (limits_new(c, now_ns(), &new) < 0)
		return pv_why(why, len, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < d->queues; i++)
		if (d->queue[i].q)
			blkworker_limit(d->queue[i].w, d->queue[i].q, new);
	d->config.limit = *c;
	d->limit = new;
	free(old);
	return 0;
}

/* The device with this configuration and its image open; predecessor: see struct image_config. */
static int prepared(struct vbds *v, const struct pv_device_id *id, struct json_object *config, const char *predecessor, struct vbd **out,
		    char *why, size_t len)
{
	struct vbd *d = vbd_find(v, id);
	struct vbd_config c;
	char reason[200], name[48];
	int ret = vbd_config_parse(config, &c, reason, sizeof(reason));

	*out = d;
	if (ret == 0 && !(d && vbd_config_equal(&d->config, &c))) {
		if (d && d->state != VBD_PREPARED)
			ret = pv_why(reason, sizeof(reason), -EBUSY, "it is connected with another configuration; detach it first");
		else if (d)
			forget(v, d); /* what it was prepared for has changed */
		if (ret == 0)
			ret = make(v, id, &c, predecessor, out, reason, sizeof(reason));
	}
	if (ret == 0)
		ret = change_limit(*out, &c.limit, reason, sizeof(reason));
	vbd_config_free(&c);
	if (ret < 0) {
		device_name(id, name, sizeof(name));
		pv_why(why, len, ret, "%s: %s", name, reason);
	}
	return ret;
}

void vbd_offer(const struct vbd *d, struct pv_noxs_vbd_offer *offer)
{
	const struct image_facts *f = &d->image->facts;

	*offer = (struct pv_noxs_vbd_offer){
		.sectors = f->sectors,
		.sector_size = d->config.sector,
		.physical_sector_size = f->physical_sector_size,
		.info = (f->read_only ? VDISK_READONLY : 0) | (d->config.cdrom ? VDISK_CDROM : 0) | (d->config.removable ? VDISK_REMOVABLE : 0),
		.features = f->features | (d->config.persistent ? PV_VBD_PERSISTENT : 0),
		.queues_max = d->config.queues,
		.ring_order_max = RING_ORDER_MAX,
		.indirect_max = d->config.indirect,
		.discard_granularity = f->features & PV_VBD_DISCARD ? f->discard_granularity : 0,
		.discard_alignment = f->features & PV_VBD_DISCARD ? f->discard_alignment : 0,
	};
}

static int vbd_prepare(void *ctx, const struct pv_device_id *id, struct json_object *config, struct pv_noxs_offer *offer, char *why,
		       size_t len)
{
	struct vbd *d;
	int ret = prepared(ctx, id, config, NULL, &d, why, len);

	if (ret < 0)
		return ret;
	if (d->state == VBD_PREPARED)
		vbd_look_size(d); /* nobody was told another yet */
	vbd_offer(d, &offer->vbd);
	return 0;
}

/* Of an image that is open nothing can be changed but its limits. */
static int unchanged(const struct vbd *d, const struct vbd_config *c, char *why, size_t len)
{
	char keys[120];

	if (vbd_config_differ(&d->config, c, keys, sizeof(keys)) == 0)
		return 0;
	return pv_why(why, len, -EOPNOTSUPP, "%s: %s cannot be changed: detach it, and attach it anew", d->name, keys);
}

static int vbd_set(void *ctx, const struct pv_device_id *id, struct json_object *config, struct pv_noxs_offer *offer, char *why, size_t len)
{
	struct vbd *d = vbd_find(ctx, id);
	struct vbd_config c;
	char reason[200], name[48];
	int ret;

	if (!d) {
		device_name(id, name, sizeof(name));
		return pv_why(why, len, -ENOENT, "%s: is not attached", name);
	}
	ret = vbd_config_parse(config, &c, reason, sizeof(reason));
	if (ret < 0)
		pv_why(why, len, ret, "%s: %s", d->name, reason);
	else
		ret = unchanged(d, &c, why, len);
	if (ret == 0 && change_limit(d, &c.limit, reason, sizeof(reason)) < 0)
		ret = pv_why(why, len, -ENOMEM, "%s: %s", d->name, reason);
	vbd_config_free(&c);
	if (ret == 0)
		vbd_offer(d, &offer->vbd);
	return ret;
}

/* ---- connect and disconnect ---- */

static struct blkworker *least_loaded(struct vbds *v)
{
	struct blkworker *best = v->workers[0];

	for (unsigned i = 1; i < v->nworkers; i++)
		if (v->workers[i]->load < best->load)
			best = v->workers[i];
	return best;
}

static int disconnect_until(struct vbd *d, uint64_t until, char *why, size_t len)
{
	for (unsigned i = 0; i < d->queues; i++) {
		int ret = d->queue[i].q ? blkworker_disconnect(d->queue[i].w, d->queue[i].q, until) : 0;

		if (ret < 0)
			return pv_why(why, len, ret, "%s: I/O on %s is still in flight; its storage has not answered yet. Ask again",
				      d->name, d->config.path);
		d->queue[i].q = NULL;
	}
	d->queues = 0;
	pv_inflight_close(d->inflight); /* now another may serve these rings */
	d->inflight = NULL;
	d->state = VBD_PREPARED;
	return 0;
}

static int disconnect(struct vbd *d, char *why, size_t len)
{
	return disconnect_until(d, blkworker_patience(), why, len);
}

static int connect_queue(struct vbds *v, struct vbd *d, const struct pv_connect *pc, unsigned i, char *why, size_t len)
{
	const struct pv_noxs_choice *choice = &pc->choice;
	const struct image_facts *f = &d->image->facts;
	struct blkq_config c = {
		.owner = d,
		.guest = d->id.guest,
		.port = choice->vbd[i].port,
		.ring_gref = choice->vbd[i].ring_gref,
		.ring_order = choice->ring_order,
		.abi = choice->abi,
		.persistent = d->config.persistent && (choice->features & PV_VBD_PERSISTENT),
		.cache = d->config.cache,
		.image = d->image,
		.limit = d->limit,
		.disk = {
			.sectors = f->sectors,
			.sector_size = d->config.sector,
			.features = f->features,
			.indirect_max = d->config.indirect,
			.read_only = f->read_only,
		},
		.log = pv_inflight_ring(d->inflight, i),
		.adopt = pc->adopt,
	};
	char reason[200];
	int ret;

	d->queue[i].w = i && d->image->ops->attach ? d->queue[0].w : least_loaded(v);
	ret = blkworker_connect(d->queue[i].w, &c, &d->queue[i].q, reason, sizeof(reason));
	if (ret < 0)
		pv_why(why, len, ret, "%s, queue %u: %s", d->name, i, reason);
	else
		d->queues = i + 1;
	return ret;
}

static bool same_rings(const struct pv_noxs_choice *a, const struct pv_noxs_choice *b)
{
	if (a->queues != b->queues || a->ring_order != b->ring_order || a->abi != b->abi || a->features != b->features)
		return false;
	return !memcmp(a->vbd, b->vbd, a->queues * sizeof(a->vbd[0]));
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int choice_check(const struct pv_connect *c, unsigned queues_max, char *why, size_t len)
{
	const struct pv_noxs_choice *ch = &c->choice;
	char name[48];

	if (ch->queues && ch->queues <= queues_max && ch->ring_order <= RING_ORDER_MAX && ch->abi <= PV_VBD_ABI_X86_64)
		return 0;
	device_name(&c->id, name, sizeof(name));
	return pv_why(why, len, -EINVAL, "%s: its choice is not within the offer (%u queues, ring order %u, ABI %u)", name, ch->queues,
		      ch->ring_order, ch->abi);
}

/* The log of the connection; with adopt, while another process has it that serves the device still. */
static int open_log(const struct pv_connect *c, struct pv_inflight **log, char *why, size_t len)
{
	char reason[200], name[48];
	int ret = adopt_log_open(c, log, reason, sizeof(reason));

	device_name(&c->id, name, sizeof(name));
	return ret < 0 ? pv_why(why, len, ret, "%s: %s%s", name, c->adopt ? "cannot be taken over: " : "", reason) : 0;
}

/* The device, ready to go on where another process was. Its log comes first: for as long as that is not free, neither is the image. */
static int adoptable(struct vbds *v, const struct pv_connect *c, struct pv_inflight **log, struct vbd **out, char *why, size_t len)
{
	char predecessor[IMAGE_NOTE] = "";
	int ret = open_log(c, log, why, len);

	if (ret < 0)
		return ret;
	memcpy(predecessor, pv_inflight_area(*log), sizeof(predecessor) - 1);
	ret = prepared(v, &c->id, c->config, predecessor, out, why, len);
	if (ret == -EBUSY || ret == -ENOENT || ret == -ENXIO)
		ret = -EAGAIN; /* whoever has the image, or a disk that is not there yet: its guest waits, and knows of nothing */
	if (ret == 0 && (*out)->image->ops->unadoptable)
		ret = pv_why(why, len, -EOPNOTSUPP, "%s: cannot be taken over: %s", (*out)->name, (*out)->image->ops->unadoptable);
	return ret;
}

static int connect_queues(struct vbds *v, struct vbd *d, const struct pv_connect *c, char *why, size_t len)
{
	char ignored[200];
	int ret = d->inflight ? 0 : open_log(c, &d->inflight, why, len);

	if (ret == 0 && d->image->ops->note)
		d->image->ops->note(d->image, pv_inflight_area(d->inflight));
	for (unsigned i = 0; i < c->choice.queues && ret == 0; i++)
		ret = connect_queue(v, d, c, i, why, len);
	if (ret < 0) {
		disconnect(d, ignored, sizeof(ignored));
		return ret;
	}
	d->choice = c->choice;
	d->state = VBD_CONNECTED;
	d->pause_us = c->adopt ? now_us() - v->began_us : 0;
	return 0;
}

static int vbd_connect(void *ctx, const struct pv_connect *c, char *why, size_t len)
{
	struct pv_inflight *log = NULL;
	struct vbd *d = vbd_find(ctx, &c->id);
	bool adopt = c->adopt && (!d || d->state == VBD_PREPARED);
	int ret = choice_check(c, PV_NOXS_QUEUES_MAX, why, len);

	if (ret == 0 && adopt && d)
		ret = disconnect(d, why, len); /* the queues of a try before that went half way, with the log */
	if (ret == 0)
		ret = adopt ? adoptable(ctx, c, &log, &d, why, len) : prepared(ctx, &c->id, c->config, NULL, &d, why, len);
	if (ret == 0)
		ret = choice_check(c, d->config.queues, why, len);
	if (ret == 0 && d->state == VBD_CONNECTED && same_rings(&d->choice, &c->choice))
		return 0;
	if (ret == 0)
		ret = disconnect(d, why, len); /* other rings: those before are gone */
	if (ret < 0) {
		pv_inflight_close(log);
		return ret;
	}
	d->inflight = log;
	ret = connect_queues(ctx, d, c, why, len);
	if (ret < 0)
		return ret;
	pv_log_about(&d->log, PV_LOG_INFO, "%s: %s, %u queues of %u pages%s", d->name, adopt ? "goes on" : "connected", d->queues,
		     1u << c->choice.ring_order, c->choice.features & PV_VBD_PERSISTENT && d->config.persistent ? ", persistent" : "");
	return 0;
}

static int vbd_disconnect(void *ctx, const struct pv_device_id *id, char *why, size_t len)
{
	struct vbd *d = vbd_find(ctx, id);

	return d ? disconnect(d, why, len) : 0;
}

static int vbd_remove(void *ctx, const struct pv_device_id *id, char *why, size_t len)
{
	struct vbd *d = vbd_find(ctx, id);
	int ret = d ? disconnect(d, why, len) : 0;

	if (d && ret == 0)
		forget(ctx, d);
	if (ret == 0)
		pv_inflight_remove(id);
	return ret;
}

/* ---- what broke ---- */

void vbds_report_broken(struct vbds *v, struct pv_backend *b)
{
	const char *reason;
	void *owner;
	char why[200];

	for (unsigned i = 0; i < v->nworkers; i++) {
		while (blkworker_broken(v->workers[i], &owner, &reason)) {
			struct vbd *d = owner;

			if (d->state != VBD_CONNECTED)
				continue; /* another queue of it was first */
			d->state = VBD_BROKEN;
			snprintf(why, sizeof(why), "%s broke the ring protocol: %s. It is stopped; reset the guest's device", d->name, reason);
			pv_log_about(&d->log, PV_LOG_WARN, "%s", why);
			pv_backend_broken(b, &d->id, -EPROTO, why);
		}
	}
}

/* Before anything ends: would a guest lose its disk? */
static int vbds_retire(void *ctx, char *why, size_t len)
{
	struct vbds *v = ctx;

	for (struct vbd *d = v->all; d; d = d->hh.next)
		if (d->state == VBD_CONNECTED && d->image->ops->unadoptable)
			return pv_why(why, len, -EOPNOTSUPP, "%s cannot be handed over: %s; detach it first", d->name, d->image->ops->unadoptable);
	return 0;
}

const struct pv_backend_ops vbd_ops = {
	.kind = "vbd",
	.prepare = vbd_prepare,
	.set = vbd_set,
	.connect = vbd_connect,
	.disconnect = vbd_disconnect,
	.remove = vbd_remove,
	.stats = vbd_stats,
	.inspect = vbd_inspect,
	.ask = vbd_ask,
	.retire = vbds_retire,
};

/* ---- all of them ---- */

int vbds_new(struct blkworker **workers, unsigned n, struct vbds **out)
{
	struct vbds *v = calloc(1, sizeof(*v));

	*out = v;
	if (!v)
		return -ENOMEM;
	v->workers = workers;
	v->nworkers = n;
	v->began_us = now_us();
	return 0;
}

/* All stop at once, and end together. */
unsigned vbds_free(struct vbds *v)
{
	uint64_t until = blkworker_patience();
	struct vbd *d, *next;
	unsigned busy = 0;
	char why[200];

	if (!v)
		return 0;
	for (d = v->all; d; d = d->hh.next)
		for (unsigned i = 0; i < d->queues; i++)
			if (d->queue[i].q)
				blkworker_quiesce(d->queue[i].w, d->queue[i].q);
	HASH_ITER(hh, v->all, d, next) {
		if (disconnect_until(d, until, why, sizeof(why)) == 0) {
			forget(v, d);
			continue;
		}
		busy++;
		pv_log(PV_LOG_WARN, "%s: I/O on %s is in flight at the end: its storage has not answered. Who serves it next waits for that",
		       d->name, d->config.path);
	}
	if (!busy)
		free(v);
	return busy;
}
