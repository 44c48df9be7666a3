/* config.c - the keys of a vbd: one table drives parsing, help and the dump. */
#include "blkback.h"
#include <errno.h>
#include <inttypes.h>
#include <pvio/log.h>
#include <pvio/options.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The field is the configuration's own copy. */
static int parse_path(const struct pv_option *o, const char *text, void *field)
{
	char **path = field;

	(void)o;
	free(*path);
	*path = *text ? strdup(text) : NULL;
	return *path ? 0 : -EINVAL;
}

/* The field is a number of 64 bits. */
static int parse_limit(const struct pv_option *o, const char *text, void *field)
{
	return pv_limit_parse(text, o->min, field);
}

/* A size that is written out. */
static int parse_sector(const struct pv_option *o, const char *text, void *field)
{
	(void)o;
	if (strcmp(text, "512") && strcmp(text, "4096"))
		return -EINVAL;
	*(unsigned *)field = *text == '5' ? 512 : 4096;
	return 0;
}

static const char *const modes[] = { "w", "r", NULL };
static const char *const directs[] = { [IMAGE_DIRECT_AUTO] = "auto", [IMAGE_DIRECT_ON] = "on", [IMAGE_DIRECT_OFF] = "off", NULL };
static const char *const bools[] = { "0", "1", NULL };

static const struct vbd_config presets = { .persistent = 1, .discard = 1, .sector = PV_BLK_SECTOR, .queues = 4, .indirect = 256, .cache = 1056,
					   .wait = 30 };

/* Every field but path and limits is an unsigned: a number, or an index in names. */
#define FIELD(f) .field = offsetof(struct vbd_config, f)
static const struct pv_option keys[] = {
	{ "path", "IMAGE", "what holds the disk (required): a raw file or block device, extents:TABLE, nbd:URI, rbd:POOL/IMAGE, ram:SIZE, null:SIZE", parse_path,
	  FIELD(path) },
	{ "mode", "r|w", "r: the guest may only read, and others may read too (w)", pv_option_name, FIELD(read_only), .names = modes },
	{ "direct", "auto|on|off", "O_DIRECT, past the page cache; auto: where single sectors may be read so (auto)", pv_option_name,
	  FIELD(direct), .names = directs },
	{ "sector", "512|4096", "bytes of a sector; with 4096 an image with sectors of that size can be had past the page cache (512)", parse_sector,
	  FIELD(sector) },
	{ "cdrom", "0|1", "tell the guest that it is a CD-ROM, which it may only read (0)", pv_option_name, FIELD(cdrom), .names = bools },
	{ "removable", "0|1", "tell the guest that it is a removable medium (0)", pv_option_name, FIELD(removable), .names = bools },
	{ "queues", "1..16", "rings that the guest may have (4)", pv_option_number, FIELD(queues), .min = 1, .max = PV_NOXS_QUEUES_MAX },
	{ "indirect", "0..512", "pages that one request may have; 0: 11, no indirect requests (256)", pv_option_number,
	  FIELD(indirect), .max = 512 },
	{ "persistent", "1|0", "keep the guest's pages mapped between requests, if it agrees (1)", pv_option_name,
	  FIELD(persistent), .names = bools },
	{ "cache", "11..65536", "pages of the guest mapped at once for each ring; at least indirect= (1056)", pv_option_number, FIELD(cache),
	  .min = PV_BLK_SEGS_DIRECT, .max = 65536 },
	{ "discard", "1|0", "offer discard where the image can punch holes (1)", pv_option_name, FIELD(discard), .names = bools },
	{ "wait", "0..3600", "seconds that I/O waits for a server that is gone (nbd:, rbd:), and a detach for one that hangs (30)", pv_option_number,
	  FIELD(wait), .max = 3600 },
	{ "iops", "1..1000G", "requests a second, over all rings; a discard or flush is one; changed at any time, as are those below", parse_limit,
	  FIELD(limit.iops[LIMIT_BOTH]), .min = 1 },
	{ "iops-r", "1..1000G", "of these, reads", parse_limit, FIELD(limit.iops[LIMIT_READ]), .min = 1 },
	{ "iops-w", "1..1000G", "and all others", parse_limit, FIELD(limit.iops[LIMIT_WRITE]), .min = 1 },
	{ "rate", "1k..1000G", "bytes a second, over all rings, such as 100M", parse_limit, FIELD(limit.rate[LIMIT_BOTH]), .min = 1000 },
	{ "rate-r", "1k..1000G", "of these, read", parse_limit, FIELD(limit.rate[LIMIT_READ]), .min = 1000 },
	{ "rate-w", "1k..1000G", "and written", parse_limit, FIELD(limit.rate[LIMIT_WRITE]), .min = 1000 },
	{ "burst", "1..1000G", "bytes that may pass at once after a pause, where a rate is given; else what passes in 10 ms", parse_limit,
	  FIELD(limit.burst), .min = 1 },
	{ NULL },
};

static const struct pv_option *find(const char *name)
{
	for (const struct pv_option *k = keys; k->name; k++)
		if (!strcmp(k->name, name))
			return k;
	return NULL;
}

static int unknown(const char *name, char *why, size_t len)
{
	size_t n = snprintf(why, len, "unknown key %s=; a vbd has", name);

	for (const struct pv_option *k = keys; k->name && n < len; k++)
		n += snprintf(why + n, len - n, " %s=", k->name);
	return -EINVAL;
}

static int set(struct vbd_config *c, const char *name, const char *text, char *why, size_t len)
{
	const struct pv_option *k = find(name);

	if (!k)
		return unknown(name, why, len);
	if (text && k->parse(k, text, (char *)c + k->field) == 0)
		return 0;
	return pv_why(why, len, -EINVAL, "%s=%s is not one of %s", name, text ? text : "", k->value);
}

int vbd_config_parse(struct json_object *pairs, struct vbd_config *out, char *why, size_t len)
{
	int ret = 0;

	*out = presets;
	if (!json_object_is_type(pairs, json_type_object))
		return pv_why(why, len, -EINVAL, "the configuration is not a set of key=value");
	json_object_object_foreach(pairs, name, value) {
		ret = set(out, name, json_object_get_string(value), why, len);
		if (ret < 0)
			return ret;
	}
	if (!out->path)
		return pv_why(why, len, -EINVAL, "path= is missing: the file or block device that holds the disk");
	if (out->cdrom)
		out->read_only = 1;
	if (out->cache < out->indirect)
		return pv_why(why, len, -EINVAL, "cache=%u is too small for indirect=%u: a request needs that many pages at once",
			      out->cache, out->indirect);
	return 0;
}

void vbd_config_free(struct vbd_config *c)
{
	free(c->path);
	c->path = NULL;
}

static struct json_object *text_of(const struct vbd_config *c, const struct pv_option *k)
{
	const void *field = (const char *)c + k->field;
	unsigned n;
	char text[24];

	if (k->parse == parse_path)
		return json_object_new_string(c->path);
	if (k->parse == parse_limit) {
		snprintf(text, sizeof(text), "%" PRIu64, *(const uint64_t *)field);
		return json_object_new_string(text);
	}
	n = *(const unsigned *)field;
	snprintf(text, sizeof(text), "%u", n);
	return json_object_new_string(k->names ? k->names[n] : text);
}

/* A limit that is not given has no value that one could write. */
static bool limits_nothing(const struct vbd_config *c, const struct pv_option *k)
{
	return k->parse == parse_limit && !*(const uint64_t *)((const char *)c + k->field);
}

struct json_object *vbd_config_to_json(const struct vbd_config *c)
{
	struct json_object *o = json_object_new_object();

	for (const struct pv_option *k = keys; k->name; k++)
		if (!limits_nothing(c, k))
			json_object_object_add(o, k->name, text_of(c, k));
	return o;
}

unsigned vbd_config_differ(const struct vbd_config *a, const struct vbd_config *b, char *names, size_t len)
{
	struct json_object *x = vbd_config_to_json(a), *y = vbd_config_to_json(b);
	unsigned nr = 0;
	size_t n = 0;

	if (len)
		names[0] = '\0';
	for (const struct pv_option *k = keys; k->name; k++) {
		if (k->parse == parse_limit || json_object_equal(json_object_object_get(x, k->name), json_object_object_get(y, k->name)))
			continue;
		if (n < len)
			n += (size_t)snprintf(names + n, len - n, "%s%s", nr ? ", " : "", k->name);
		nr++;
	}
	json_object_put(x);
	json_object_put(y);
	return nr;
}

bool vbd_config_equal(const struct vbd_config *a, const struct vbd_config *b)
{
	return vbd_config_differ(a, b, NULL, 0) == 0;
}

void vbd_config_help(void)
{
	char left[40];

	printf("\nKeys of a vbd (pvio attach GUEST vbd NAME key=value...):\n");
	for (const struct pv_option *k = keys; k->name; k++) {
		snprintf(left, sizeof(left), "%s=%s", k->name, k->value);
		printf("  %-24s %s\n", left, k->help);
	}
}
