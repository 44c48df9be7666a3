/* config.c - the keys of a vbd: one table drives parsing, help and the dump. */
#include "blkback.h"
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct key {
	const char *name;
	/* Into the field at p. Returns false if the value is none of its kind. */
	bool (*parse)(const struct key *k, const char *value, void *p);
	struct json_object *(*dump)(const struct key *k, const void *p);
	size_t field; /* offset in struct vbd_config */
	unsigned min, max; /* of a number */
	const char *values; /* what may be written */
	const char *preset; /* NULL: it must be given */
	const char *help;
};

static bool parse_path(const struct key *k, const char *value, void *p)
{
	(void)k;
	free(*(char **)p);
	*(char **)p = *value ? strdup(value) : NULL;
	return *(char **)p != NULL;
}

static struct json_object *dump_path(const struct key *k, const void *p)
{
	(void)k;
	return json_object_new_string(*(char *const *)p);
}

static bool parse_mode(const struct key *k, const char *value, void *p)
{
	(void)k;
	*(bool *)p = !strcmp(value, "r");
	return !strcmp(value, "r") || !strcmp(value, "w");
}

static struct json_object *dump_mode(const struct key *k, const void *p)
{
	(void)k;
	return json_object_new_string(*(const bool *)p ? "r" : "w");
}

static bool parse_bool(const struct key *k, const char *value, void *p)
{
	(void)k;
	*(bool *)p = !strcmp(value, "1");
	return !strcmp(value, "1") || !strcmp(value, "0");
}

static struct json_object *dump_bool(const struct key *k, const void *p)
{
	(void)k;
	return json_object_new_string(*(const bool *)p ? "1" : "0");
}

static bool parse_number(const struct key *k, const char *value, void *p)
{
	unsigned long n;
	char *end;

	if (*value < '0' || *value > '9')
		return false;
	errno = 0;
	n = strtoul(value, &end, 10);
	if (errno || *end || n < k->min || n > k->max)
		return false;
	*(unsigned *)p = n;
	return true;
}

static struct json_object *dump_number(const struct key *k, const void *p)
{
	char text[16];

	(void)k;
	snprintf(text, sizeof(text), "%u", *(const unsigned *)p);
	return json_object_new_string(text);
}

static const char *const directs[] = { [IMAGE_DIRECT_AUTO] = "auto", [IMAGE_DIRECT_ON] = "on", [IMAGE_DIRECT_OFF] = "off" };

static bool parse_direct(const struct key *k, const char *value, void *p)
{
	(void)k;
	for (unsigned i = 0; i < 3; i++) {
		if (strcmp(value, directs[i]))
			continue;
		*(enum image_direct *)p = i;
		return true;
	}
	return false;
}

static struct json_object *dump_direct(const struct key *k, const void *p)
{
	(void)k;
	return json_object_new_string(directs[*(const enum image_direct *)p]);
}

#define FIELD(f) offsetof(struct vbd_config, f)
static const struct key keys[] = {
	{ "path", parse_path, dump_path, FIELD(path), 0, 0, "FILE", NULL, "raw file or block device that holds the disk" },
	{ "mode", parse_mode, dump_mode, FIELD(read_only), 0, 0, "r|w", "w", "r: the guest may only read, and others may read too" },
	{ "direct", parse_direct, dump_direct, FIELD(direct), 0, 0, "auto|on|off", "auto",
	  "O_DIRECT, past the page cache; auto: where the file system can, in single sectors" },
	{ "queues", parse_number, dump_number, FIELD(queues), 1, PV_NOXS_QUEUES_MAX, "1..16", "4", "rings that the guest may have" },
	{ "indirect", parse_number, dump_number, FIELD(indirect), 0, 512, "0..512", "256", "pages of one request; 0: 11, without indirect requests" },
	{ "persistent", parse_bool, dump_bool, FIELD(persistent), 0, 0, "1|0", "1", "keep the guest's pages mapped between requests, if it agrees" },
	{ "cache", parse_number, dump_number, FIELD(cache), PV_BLK_SEGS_DIRECT, 65536, "11..65536", "1056",
	  "pages of the guest mapped at once for each ring; at least indirect=" },
	{ "discard", parse_bool, dump_bool, FIELD(discard), 0, 0, "1|0", "1", "offer discard where the image can punch holes" },
};
enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

static const struct key *find(const char *name)
{
	for (unsigned i = 0; i < KEYS; i++)
		if (!strcmp(keys[i].name, name))
			return &keys[i];
	return NULL;
}

static int unknown(const char *name, char *why, size_t len)
{
	size_t n = snprintf(why, len, "unknown key %s=; a vbd has", name);

	for (unsigned i = 0; i < KEYS && n < len; i++)
		n += snprintf(why + n, len - n, " %s=", keys[i].name);
	return -EINVAL;
}

static int set(struct vbd_config *c, const struct key *k, const char *value, char *why, size_t len)
{
	if (value && k->parse(k, value, (char *)c + k->field))
		return 0;
	snprintf(why, len, "%s=%s is not one of %s", k->name, value ? value : "", k->values);
	return -EINVAL;
}

int vbd_config_parse(struct json_object *pairs, struct vbd_config *out, char *why, size_t len)
{
	int ret = 0;

	*out = (struct vbd_config){ .path = NULL };
	for (unsigned i = 0; i < KEYS && ret == 0; i++)
		if (keys[i].preset)
			ret = set(out, &keys[i], keys[i].preset, why, len);
	if (pairs && !json_object_is_type(pairs, json_type_object)) {
		snprintf(why, len, "the configuration is not a set of key=value");
		return -EINVAL;
	}
	if (pairs) {
		json_object_object_foreach(pairs, name, value) {
			const struct key *k = find(name);

			if (ret == 0)
				ret = k ? set(out, k, json_object_get_string(value), why, len) : unknown(name, why, len);
		}
	}
	if (ret == 0 && !out->path) {
		snprintf(why, len, "path= is missing: the file or block device that holds the disk");
		ret = -EINVAL;
	}
	if (ret == 0 && out->cache < out->indirect) {
		snprintf(why, len, "cache=%u is too small for indirect=%u: a request needs that many pages at once", out->cache, out->indirect);
		ret = -EINVAL;
	}
	return ret;
}

void vbd_config_free(struct vbd_config *c)
{
	free(c->path);
	c->path = NULL;
}

bool vbd_config_equal(const struct vbd_config *a, const struct vbd_config *b)
{
	struct json_object *x = vbd_config_to_json(a), *y = vbd_config_to_json(b);
	bool equal = json_object_equal(x, y);

	json_object_put(x);
	json_object_put(y);
	return equal;
}

void vbd_config_help(FILE *out)
{
	char left[40];

	for (unsigned i = 0; i < KEYS; i++) {
		snprintf(left, sizeof(left), "%s=%s", keys[i].name, keys[i].values);
		fprintf(out, "  %-24s %s", left, keys[i].help);
		if (keys[i].preset)
			fprintf(out, " (%s)\n", keys[i].preset);
		else
			fprintf(out, " (required)\n");
	}
}

struct json_object *vbd_config_to_json(const struct vbd_config *c)
{
	struct json_object *o = json_object_new_object();

	for (unsigned i = 0; i < KEYS; i++)
		json_object_object_add(o, keys[i].name, keys[i].dump(&keys[i], (const char *)c + keys[i].field));
	return o;
}
