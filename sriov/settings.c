/* settings.c - what a PF can be told about one of its VFs: one table of keys for text, JSON and comparing. */
#include "sriov.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROTO_Q = 0x8100, PROTO_AD = 0x88a8 };

struct key {
	const char *name, *may_be;
	int (*parse)(const struct key *k, const char *text, void *field); /* 0 or -EINVAL */
	void (*format)(const void *field, char *buf, size_t len);
	struct json_object *(*json)(const void *field); /* NULL: as text */
	size_t at, size;
	unsigned long max; /* of a number */
};

/* ---- each kind of value ---- */

static int parse_mac(const struct key *k, const char *text, void *field)
{
	unsigned m[6];
	int end = 0;

	(void)k;
	if (strspn(text, "0123456789abcdefABCDEF:") != 17 || sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5], &end) != 6 ||
	    end != 17 || text[end] || (m[0] & 1))
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		((uint8_t *)field)[i] = m[i];
	return 0;
}

static void format_mac(const void *field, char *buf, size_t len)
{
	const uint8_t *m = field;

	snprintf(buf, len, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

static unsigned long number_at(const void *field, size_t size)
{
	return size == 1 ? *(const uint8_t *)field : size == 2 ? *(const uint16_t *)field : *(const uint32_t *)field;
}

static int parse_number(const struct key *k, const char *text, void *field)
{
	unsigned long n;
	char *end;

	n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || n > k->max)
		return -EINVAL;
	if (k->size == 1)
		*(uint8_t *)field = n;
	else if (k->size == 2)
		*(uint16_t *)field = n;
	else
		*(uint32_t *)field = n;
	return 0;
}

static void format_u8(const void *field, char *buf, size_t len) { snprintf(buf, len, "%lu", number_at(field, 1)); }
static void format_u16(const void *field, char *buf, size_t len) { snprintf(buf, len, "%lu", number_at(field, 2)); }
static void format_u32(const void *field, char *buf, size_t len) { snprintf(buf, len, "%lu", number_at(field, 4)); }
static struct json_object *json_u8(const void *field) { return json_object_new_int64(number_at(field, 1)); }
static struct json_object *json_u16(const void *field) { return json_object_new_int64(number_at(field, 2)); }
static struct json_object *json_u32(const void *field) { return json_object_new_int64(number_at(field, 4)); }

static int parse_flag(const struct key *k, const char *text, void *field)
{
	bool on = !strcmp(text, "on") || !strcmp(text, "true");

	(void)k;
	if (!on && strcmp(text, "off") && strcmp(text, "false"))
		return -EINVAL;
	*(bool *)field = on;
	return 0;
}

static void format_flag(const void *field, char *buf, size_t len) { snprintf(buf, len, "%s", *(const bool *)field ? "on" : "off"); }
static struct json_object *json_flag(const void *field) { return json_object_new_boolean(*(const bool *)field); }

static int parse_proto(const struct key *k, const char *text, void *field)
{
	bool ad = !strcasecmp(text, "802.1ad");

	(void)k;
	if (!ad && strcasecmp(text, "802.1Q"))
		return -EINVAL;
	*(uint16_t *)field = ad ? PROTO_AD : PROTO_Q;
	return 0;
}

static void format_proto(const void *field, char *buf, size_t len)
{
	snprintf(buf, len, "%s", *(const uint16_t *)field == PROTO_AD ? "802.1ad" : "802.1Q");
}

static const char *const links[] = { [VF_LINK_AUTO] = "auto", [VF_LINK_UP] = "up", [VF_LINK_DOWN] = "down" };

static int parse_link(const struct key *k, const char *text, void *field)
{
	(void)k;
	for (int i = 0; i <= VF_LINK_DOWN; i++) {
		if (strcmp(text, links[i]) == 0) {
			*(enum vf_link *)field = i;
			return 0;
		}
	}
	return -EINVAL;
}

static void format_link(const void *field, char *buf, size_t len)
{
	snprintf(buf, len, "%s", links[*(const enum vf_link *)field]);
}

/* ---- the keys ---- */

#define FIELD(f) .at = offsetof(struct vf_settings, f), .size = sizeof(((struct vf_settings *)0)->f)
static const struct key keys[VF_KEYS] = {
	[VF_MAC] = { "mac", "an address such as 02:00:00:00:00:01, no group's", parse_mac, format_mac, NULL, FIELD(mac) },
	[VF_VLAN] = { "vlan", "0 (none) .. 4094", parse_number, format_u16, json_u16, FIELD(vlan), .max = 4094 },
	[VF_QOS] = { "qos", "0..7", parse_number, format_u8, json_u8, FIELD(qos), .max = 7 },
	[VF_VLAN_PROTO] = { "vlan_proto", "802.1Q or 802.1ad", parse_proto, format_proto, NULL, FIELD(vlan_proto) },
	[VF_SPOOFCHK] = { "spoofchk", "on or off", parse_flag, format_flag, json_flag, FIELD(spoofchk) },
	[VF_TRUST] = { "trust", "on or off", parse_flag, format_flag, json_flag, FIELD(trust) },
	[VF_MIN_RATE] = { "min_rate", "0 (none) .. 4294967295 Mbit/s", parse_number, format_u32, json_u32, FIELD(min_rate), .max = UINT32_MAX },
	[VF_MAX_RATE] = { "max_rate", "0 (none) .. 4294967295 Mbit/s", parse_number, format_u32, json_u32, FIELD(max_rate), .max = UINT32_MAX },
	[VF_LINK] = { "link", "auto, up or down", parse_link, format_link, NULL, FIELD(link) },
	[VF_RSS_QUERY] = { "rss_query", "on or off", parse_flag, format_flag, json_flag, FIELD(rss_query) },
};
#undef FIELD

static const void *field_of(const struct vf_settings *v, enum vf_key key)
{
	return (const char *)v + keys[key].at;
}

const char *vf_key_name(enum vf_key key)
{
	return keys[key].name;
}

int vf_key_find(const char *name)
{
	for (int i = 0; i < VF_KEYS; i++)
		if (strcmp(keys[i].name, name) == 0)
			return i;
	return -ENOENT;
}

int vf_settings_parse(struct vf_settings *v, enum vf_key key, const char *text, struct vf_why *why)
{
	const struct key *k = &keys[key];

	if (k->parse(k, text, (char *)v + k->at) < 0)
		return vf_fail(why, -EINVAL, "%s %s: it is %s", k->name, text, k->may_be);
	v->set |= 1u << key;
	return 0;
}

void vf_settings_text(const struct vf_settings *v, enum vf_key key, char *buf, size_t len)
{
	*buf = '\0';
	if (v->set & 1u << key)
		keys[key].format(field_of(v, key), buf, len);
}

bool vf_settings_equal(const struct vf_settings *a, const struct vf_settings *b, enum vf_key key)
{
	return (a->set & b->set & 1u << key) && memcmp(field_of(a, key), field_of(b, key), keys[key].size) == 0;
}

unsigned vf_settings_differ(const struct vf_settings *want, const struct vf_settings *is)
{
	unsigned differ = 0;

	for (int i = 0; i < VF_KEYS; i++)
		if ((want->set & 1u << i) && !vf_settings_equal(want, is, i))
			differ |= 1u << i;
	return differ;
}

void vf_settings_merge(struct vf_settings *v, const struct vf_settings *over)
{
	for (int i = 0; i < VF_KEYS; i++)
		if (over->set & 1u << i)
			memcpy((char *)v + keys[i].at, field_of(over, i), keys[i].size);
	v->set |= over->set;
}

void vf_settings_default(struct vf_settings *v, unsigned which)
{
	*v = (struct vf_settings){ .set = which, .vlan_proto = PROTO_Q, .spoofchk = true, .link = VF_LINK_AUTO };
}

/* ---- JSON ---- */

struct json_object *vf_settings_json(const struct vf_settings *v)
{
	struct json_object *o = json_object_new_object();
	char text[32];

	for (int i = 0; i < VF_KEYS; i++) {
		if (!(v->set & 1u << i))
			continue;
		vf_settings_text(v, i, text, sizeof(text));
		json_object_object_add(o, keys[i].name, keys[i].json ? keys[i].json(field_of(v, i)) : json_object_new_string(text));
	}
	return o;
}

int vf_settings_from_json(struct vf_settings *v, struct json_object *o, struct vf_why *why)
{
	if (!json_object_is_type(o, json_type_object))
		return vf_fail(why, -EINVAL, "the settings of a VF are an object, such as {\"vlan\": 100}");
	json_object_object_foreach(o, name, value) {
		int key = vf_key_find(name);

		if (key < 0)
			return vf_fail(why, -EINVAL, "%s: no setting of a VF is called so", name);
		if (vf_settings_parse(v, key, value ? json_object_get_string(value) : "null", why) < 0)
			return -EINVAL;
	}
	return 0;
}
