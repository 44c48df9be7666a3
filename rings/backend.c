/* backend.c - see backend.h. Three parts: names of devices, encoders and decoders, and the backend's connection to pviod.
 *
 * Theory of operation of the connection. Without pviod a backend goes on serving, and tries again after 50 ms, 100 ms .. 1 s.
 * Once connected it registers; pviod may call only then, and calls with everything that is needed (all calls are idempotent).
 * What broke is kept in a list until the device is connected, disconnected or removed, so that it is told once a pviod: not
 * twice to the same, but again to one that was restarted.
 */
#include "backend.h"
#include "blk.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	DOMID_MAX = 0x7fef, /* below Xen's reserved ones */
	RETRY_MIN = 50, RETRY_MAX = 1000, /* ms */
	REGISTER_TIMEOUT = 5000, /* ms */
	CONFIG_KEYS_MAX = 64,
	WHY_MAX = 256,
};

/* ---- names ---- */

static const char *const type_names[] = {
	[PV_NOXS_VIF] = "vif", [PV_NOXS_VBD] = "vbd", [PV_NOXS_VF] = "vf", [PV_NOXS_SYSCTL] = "sysctl", [PV_NOXS_PIPE] = "pipe",
};

enum { NR_TYPES = sizeof(type_names) / sizeof(type_names[0]) };

const char *pv_type_name(enum pv_noxs_type type)
{
	return (unsigned)type < NR_TYPES ? type_names[type] : NULL;
}

enum pv_noxs_type pv_type_of(const char *name)
{
	for (unsigned type = PV_NOXS_VIF; type < NR_TYPES; type++)
		if (name && strcmp(name, type_names[type]) == 0)
			return type;
	return PV_NOXS_NONE;
}

/* A decimal number without sign, blanks or leading zeros, up to max. Returns how many characters it has, 0: none such. */
static size_t parse_number(const char *s, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; isdigit((unsigned char)s[i]); i++) {
		n = n * 10 + (s[i] - '0');
		if (n > max || (i == 1 && s[0] == '0'))
			return 0;
	}
	*out = n;
	return i;
}

/* Xen's vbd-interface(7): prefix, and where disks of that name go. Disks beyond count or partitions beyond parts do not exist
 * there; xvd has a second, larger range for them. */
static const struct disk_range {
	const char *prefix;
	uint32_t base;
	uint32_t first, count; /* disks: sda is 0 */
	uint8_t shift; /* of the disk */
	uint16_t parts; /* partition numbers: 0 .. parts - 1, 0: the whole disk */
} disk_ranges[] = {
	{ "xvd", 202 << 8, 0, 16, 4, 16 },
	{ "xvd", 1 << 28, 0, 1 << 20, 8, 256 },
	{ "sd", 8 << 8, 0, 16, 4, 16 },
	{ "hd", 3 << 8, 0, 2, 6, 64 },
	{ "hd", 22 << 8, 2, 2, 6, 64 },
};

enum { NR_RANGES = sizeof(disk_ranges) / sizeof(disk_ranges[0]) };

/* Letters to a disk's number: a .. z, aa, ab ... Returns how many letters there are, 0: none or too many. */
static size_t parse_letters(const char *s, uint32_t *disk)
{
	uint32_t n = 0;
	size_t i;

	for (i = 0; s[i] >= 'a' && s[i] <= 'z'; i++) {
		if (n > 1 << 20)
			return 0;
		n = n * 26 + (s[i] - 'a') + 1;
	}
	*disk = n - 1;
	return i;
}

static int disk_of(const char *name, uint32_t *devid)
{
	for (unsigned r = 0; r < NR_RANGES; r++) {
		const struct disk_range *d = &disk_ranges[r];
		const char *s = name + strlen(d->prefix);
		uint64_t part = 0;
		uint32_t disk;
		size_t n;

		if (strncmp(name, d->prefix, strlen(d->prefix)) || !(n = parse_letters(s, &disk)))
			continue;
		s += n;
		if (*s && (!(n = parse_number(s, d->parts - 1, &part)) || s[n] || part == 0))
			continue;
		if (disk < d->first || disk - d->first >= d->count)
			continue;
		*devid = d->base | (disk - d->first) << d->shift | (uint32_t)part;
		return 0;
	}
	return -EINVAL;
}

int pv_devid_of(enum pv_noxs_type type, const char *name, uint32_t *devid)
{
	uint64_t number;
	size_t n = parse_number(name, UINT32_MAX, &number);

	if (n && !name[n]) {
		*devid = (uint32_t)number;
		return 0;
	}
	return type == PV_NOXS_VBD ? disk_of(name, devid) : -EINVAL;
}

/* A disk's number as letters, into buf from its end. Returns where they begin. */
static const char *letters_of(uint32_t disk, char *end)
{
	*--end = 0;
	for (uint32_t n = disk + 1; n; n = (n - 1) / 26)
		*--end = 'a' + (n - 1) % 26;
	return end;
}

void pv_devid_name(enum pv_noxs_type type, uint32_t devid, char *buf, size_t len)
{
	char letters[16];

	for (unsigned r = 0; type == PV_NOXS_VBD && r < NR_RANGES; r++) {
		const struct disk_range *d = &disk_ranges[r];
		uint32_t disk = (devid - d->base) >> d->shift, part = devid & (d->parts - 1);
		const char *name = letters_of(d->first + disk, letters + sizeof(letters));
		uint32_t again;

		if (devid < d->base || disk >= d->count)
			continue;
		snprintf(buf, len, part ? "%s%s%u" : "%s%s", d->prefix, name, part);
		if (disk_of(buf, &again) == 0 && again == devid) /* not a number in a range's second clothes */
			return;
	}
	snprintf(buf, len, "%u", devid);
}

/* ---- encoders and decoders ---- */

/* A number of a message as a field of a struct. */
struct field {
	const char *key;
	uint16_t offset;
	uint8_t size; /* bytes: 1, 2, 4 or 8 */
	uint64_t min, max;
};

#define FIELD(type, member, key, min, max) { key, offsetof(type, member), sizeof(((type *)0)->member), min, max }

static const struct field id_fields[] = {
	FIELD(struct pv_device_id, guest, "guest", 0, DOMID_MAX),
	FIELD(struct pv_device_id, devid, "devid", 0, UINT32_MAX),
	{ 0 },
};

static const struct field vif_offer_fields[] = {
	FIELD(struct pv_noxs_vif_offer, queues_max, "queues_max", 1, PV_NOXS_QUEUES_MAX),
	FIELD(struct pv_noxs_vif_offer, mtu, "mtu", 68, 65535),
	FIELD(struct pv_noxs_vif_offer, features, "features", 0, PV_VIF_MCAST_CONTROL * 2 - 1),
	FIELD(struct pv_noxs_vif_offer, carrier, "carrier", 0, 1),
	{ 0 },
};

static const struct field vbd_offer_fields[] = {
	FIELD(struct pv_noxs_vbd_offer, sectors, "sectors", 0, INT64_MAX / PV_BLK_SECTOR),
	FIELD(struct pv_noxs_vbd_offer, sector_size, "sector_size", 512, 4096),
	FIELD(struct pv_noxs_vbd_offer, physical_sector_size, "physical_sector_size", 512, 1 << 30),
	FIELD(struct pv_noxs_vbd_offer, info, "info", 0, VDISK_CDROM | VDISK_REMOVABLE | VDISK_READONLY),
	FIELD(struct pv_noxs_vbd_offer, features, "features", 0, PV_VBD_PERSISTENT * 2 - 1),
	FIELD(struct pv_noxs_vbd_offer, queues_max, "queues_max", 1, PV_NOXS_QUEUES_MAX),
	FIELD(struct pv_noxs_vbd_offer, ring_order_max, "ring_order_max", 0, 4),
	FIELD(struct pv_noxs_vbd_offer, indirect_max, "indirect_max", 0, PV_BLK_INDIRECT_MAX),
	FIELD(struct pv_noxs_vbd_offer, discard_granularity, "discard_granularity", 0, UINT32_MAX),
	FIELD(struct pv_noxs_vbd_offer, discard_alignment, "discard_alignment", 0, UINT32_MAX),
	{ 0 },
};

static const struct field choice_fields[] = {
	FIELD(struct pv_noxs_choice, generation, "generation", 0, UINT32_MAX),
	FIELD(struct pv_noxs_choice, features, "features", 0, UINT32_MAX),
	FIELD(struct pv_noxs_choice, ring_order, "ring_order", 0, 4),
	FIELD(struct pv_noxs_choice, abi, "abi", 0, PV_VBD_ABI_X86_64),
	{ 0 },
};

static const struct field vif_queue_fields[] = {
	FIELD(struct pv_noxs_vif_queue, tx_gref, "tx_gref", 0, UINT32_MAX),
	FIELD(struct pv_noxs_vif_queue, rx_gref, "rx_gref", 0, UINT32_MAX),
	FIELD(struct pv_noxs_vif_queue, tx_port, "tx_port", 1, UINT32_MAX),
	FIELD(struct pv_noxs_vif_queue, rx_port, "rx_port", 1, UINT32_MAX),
	{ 0 },
};

static const struct field vbd_queue_fields[] = {
	FIELD(struct pv_noxs_vbd_queue, port, "port", 1, UINT32_MAX),
	{ 0 },
};

static uint64_t field_get(const struct field *f, const void *base)
{
	uint64_t value = 0;

	memcpy(&value, (const char *)base + f->offset, f->size); /* little-endian, as noxs.c asserts */
	return value;
}

static void fields_encode(struct json_object *o, const struct field *fields, const void *base)
{
	for (const struct field *f = fields; f->key; f++)
		json_object_object_add(o, f->key, json_object_new_int64(field_get(f, base)));
}

/* An integer of JSON in min..max; one too large for 64 bits reads as INT64_MAX, and every max is below that. */
static int number_from(struct json_object *v, const char *key, uint64_t min, uint64_t max, uint64_t *out, char *why, size_t len)
{
	int64_t n = json_object_get_type(v) == json_type_int ? json_object_get_int64(v) : -1;

	if (n < 0 || (uint64_t)n < min || (uint64_t)n > max) {
		snprintf(why, len, "%s must be a number in %llu..%llu", key, (unsigned long long)min, (unsigned long long)max);
		return -EINVAL;
	}
	*out = n;
	return 0;
}

static int fields_decode(struct json_object *o, const struct field *fields, void *base, char *why, size_t len)
{
	if (json_object_get_type(o) != json_type_object) {
		snprintf(why, len, "an object with \"%s\" is missing", fields->key);
		return -EINVAL;
	}
	for (const struct field *f = fields; f->key; f++) {
		struct json_object *v = NULL;
		uint64_t value;

		json_object_object_get_ex(o, f->key, &v);
		if (number_from(v, f->key, f->min, f->max, &value, why, len) < 0)
			return -EINVAL;
		memcpy((char *)base + f->offset, &value, f->size);
	}
	return 0;
}

struct json_object *pv_device_id_to_json(const struct pv_device_id *id)
{
	struct json_object *o = json_object_new_object();
	const char *kind = pv_type_name(id->type);

	json_object_object_add(o, "kind", json_object_new_string(kind ? kind : ""));
	fields_encode(o, id_fields, id);
	return o;
}

int pv_device_id_from_json(struct json_object *o, struct pv_device_id *id, char *why, size_t len)
{
	struct json_object *kind = NULL;

	*id = (struct pv_device_id){ 0 };
	if (fields_decode(o, id_fields, id, why, len) < 0)
		return -EINVAL;
	json_object_object_get_ex(o, "kind", &kind);
	if (json_object_get_type(kind) == json_type_string)
		id->type = pv_type_of(json_object_get_string(kind));
	if (id->type == PV_NOXS_NONE) {
		snprintf(why, len, "kind must be one of vif, vbd, vf, sysctl, pipe");
		return -EINVAL;
	}
	return 0;
}

struct json_object *pv_offer_to_json(const struct pv_noxs_offer *offer, enum pv_noxs_type type)
{
	struct json_object *o = json_object_new_object();
	const uint8_t *m = offer->vif.mac;
	char mac[18];

	if (type == PV_NOXS_VBD)
		fields_encode(o, vbd_offer_fields, &offer->vbd);
	if (type == PV_NOXS_VIF) {
		fields_encode(o, vif_offer_fields, &offer->vif);
		snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
		json_object_object_add(o, "mac", json_object_new_string(mac));
	}
	return o;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Exactly six pairs of hexadecimal digits with colons, the address of one station. */
static int mac_from(struct json_object *v, uint8_t mac[6], char *why, size_t len)
{
	const char *s = json_object_get_type(v) == json_type_string ? json_object_get_string(v) : "";
	bool ok = strlen(s) == 17;

	for (int i = 0; ok && i < 6; i++) {
		int high = hex_digit(s[3 * i]), low = hex_digit(s[3 * i + 1]);

		ok = high >= 0 && low >= 0 && s[3 * i + 2] == (i < 5 ? ':' : 0);
		mac[i] = (uint8_t)(high * 16 + low);
	}
	if (ok && !(mac[0] & 1))
		return 0;
	snprintf(why, len, "mac must be a unicast address such as 00:16:3e:00:00:01");
	return -EINVAL;
}

static int vbd_offer_fault(const struct pv_noxs_vbd_offer *v, char *why, size_t len)
{
	if (v->sector_size != 512 && v->sector_size != 4096)
		snprintf(why, len, "sector_size must be 512 or 4096");
	else if (v->physical_sector_size < v->sector_size || v->physical_sector_size & (v->physical_sector_size - 1))
		snprintf(why, len, "physical_sector_size must be a power of two of at least sector_size");
	else if (v->sectors % (v->sector_size / PV_BLK_SECTOR))
		snprintf(why, len, "sectors must be whole sectors of sector_size");
	else if (v->discard_granularity % PV_BLK_SECTOR || v->discard_alignment % PV_BLK_SECTOR)
		snprintf(why, len, "discard_granularity and discard_alignment must be multiples of 512");
	else
		return 0;
	return -EINVAL;
}

int pv_offer_from_json(struct json_object *o, enum pv_noxs_type type, struct pv_noxs_offer *offer, char *why, size_t len)
{
	struct json_object *mac = NULL;

	memset(offer->bytes, 0, sizeof(offer->bytes));
	if (type == PV_NOXS_VBD)
		return fields_decode(o, vbd_offer_fields, &offer->vbd, why, len) < 0 ? -EINVAL :
										       vbd_offer_fault(&offer->vbd, why, len);
	if (type == PV_NOXS_VIF) {
		if (fields_decode(o, vif_offer_fields, &offer->vif, why, len) < 0)
			return -EINVAL;
		json_object_object_get_ex(o, "mac", &mac);
		return mac_from(mac, offer->vif.mac, why, len);
	}
	snprintf(why, len, "a device of this kind has no offer");
	return -EINVAL;
}

static struct json_object *vbd_queue_to_json(const struct pv_noxs_vbd_queue *q, unsigned order)
{
	struct json_object *o = json_object_new_object(), *ring = json_object_new_array();

	fields_encode(o, vbd_queue_fields, q);
	for (unsigned i = 0; i < 1u << order && i < PV_NOXS_RING_PAGES_MAX; i++)
		json_object_array_add(ring, json_object_new_int64(q->ring_gref[i]));
	json_object_object_add(o, "ring_gref", ring);
	return o;
}

static int vbd_queue_from_json(struct json_object *o, unsigned order, struct pv_noxs_vbd_queue *q, char *why, size_t len)
{
	struct json_object *ring = NULL;
	uint64_t gref;

	if (fields_decode(o, vbd_queue_fields, q, why, len) < 0)
		return -EINVAL;
	json_object_object_get_ex(o, "ring_gref", &ring);
	if (json_object_get_type(ring) != json_type_array || json_object_array_length(ring) != 1u << order) {
		snprintf(why, len, "ring_gref must be an array of %u numbers", 1u << order);
		return -EINVAL;
	}
	for (unsigned i = 0; i < 1u << order; i++) {
		if (number_from(json_object_array_get_idx(ring, i), "ring_gref", 0, UINT32_MAX, &gref, why, len) < 0)
			return -EINVAL;
		q->ring_gref[i] = (uint32_t)gref;
	}
	return 0;
}

static struct json_object *choice_to_json(const struct pv_noxs_choice *c, enum pv_noxs_type type)
{
	struct json_object *o = json_object_new_object(), *queues = json_object_new_array();

	fields_encode(o, choice_fields, c);
	for (unsigned i = 0; i < c->queues && i < PV_NOXS_QUEUES_MAX; i++) {
		struct json_object *q;

		if (type == PV_NOXS_VBD) {
			q = vbd_queue_to_json(&c->vbd[i], c->ring_order);
		} else {
			q = json_object_new_object();
			fields_encode(q, vif_queue_fields, &c->vif[i]);
		}
		json_object_array_add(queues, q);
	}
	json_object_object_add(o, "queues", queues);
	return o;
}

static int choice_from_json(struct json_object *o, enum pv_noxs_type type, struct pv_noxs_choice *c, char *why, size_t len)
{
	struct json_object *queues = NULL;
	size_t nr;

	*c = (struct pv_noxs_choice){
		.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .state = XenbusStateInitialised, .alive = 1,
	};
	if (fields_decode(o, choice_fields, c, why, len) < 0)
		return -EINVAL;
	json_object_object_get_ex(o, "queues", &queues);
	nr = json_object_get_type(queues) == json_type_array ? json_object_array_length(queues) : 0;
	if (nr < 1 || nr > PV_NOXS_QUEUES_MAX) {
		snprintf(why, len, "queues must be an array of 1..%u objects", PV_NOXS_QUEUES_MAX);
		return -EINVAL;
	}
	c->queues = (uint16_t)nr;
	for (unsigned i = 0; i < nr; i++) {
		struct json_object *q = json_object_array_get_idx(queues, i);
		int ret = type == PV_NOXS_VBD ? vbd_queue_from_json(q, c->ring_order, &c->vbd[i], why, len) :
						fields_decode(q, vif_queue_fields, &c->vif[i], why, len);

		if (ret < 0)
			return ret;
	}
	return 0;
}

/* The configuration: an object of strings. */
static int config_from_json(struct json_object *o, struct json_object **config, char *why, size_t len)
{
	struct json_object *c = NULL;

	json_object_object_get_ex(o, "config", &c);
	if (json_object_get_type(c) != json_type_object || json_object_object_length(c) > CONFIG_KEYS_MAX) {
		snprintf(why, len, "config must be an object of up to %d strings", CONFIG_KEYS_MAX);
		return -EINVAL;
	}
	json_object_object_foreach(c, key, value) {
		if (json_object_get_type(value) != json_type_string) {
			snprintf(why, len, "config: %s must be a string", key);
			return -EINVAL;
		}
	}
	*config = c;
	return 0;
}

struct json_object *pv_connect_to_json(const struct pv_connect *c)
{
	struct json_object *o = pv_device_id_to_json(&c->id);

	json_object_object_add(o, "config", c->config ? json_object_get(c->config) : json_object_new_object());
	json_object_object_add(o, "choice", choice_to_json(&c->choice, c->id.type));
	return o;
}

int pv_connect_from_json(struct json_object *o, struct pv_connect *c, char *why, size_t len)
{
	struct json_object *choice = NULL;

	*c = (struct pv_connect){ 0 };
	if (pv_device_id_from_json(o, &c->id, why, len) < 0)
		return -EINVAL;
	if (c->id.type != PV_NOXS_VIF && c->id.type != PV_NOXS_VBD) {
		snprintf(why, len, "a %s has no rings to connect", pv_type_name(c->id.type));
		return -EINVAL;
	}
	if (config_from_json(o, &c->config, why, len) < 0)
		return -EINVAL;
	json_object_object_get_ex(o, "choice", &choice);
	return choice_from_json(choice, c->id.type, &c->choice, why, len);
}

/* ---- the backend's connection ---- */

struct broken { /* owned by the backend's list */
	struct broken *next;
	struct pv_device_id id;
	int error;
	bool told; /* to this pviod */
	char why[WHY_MAX];
};

/* Owner: whoever called pv_backend_new; its control thread; until pv_backend_free. */
struct pv_backend {
	char path[108];
	char name[64];
	uint16_t domid;
	const struct pv_backend_ops *ops;
	void *ctx;
	struct pv_rpc *rpc; /* NULL: pviod is away */
	bool registered;
	bool drop; /* give this connection up at the end of pv_backend_work */
	int delay; /* ms, before the next try */
	int64_t retry_at; /* ms, monotonic */
	struct broken *broken;
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static bool same_device(const struct pv_device_id *a, const struct pv_device_id *b)
{
	return a->guest == b->guest && a->type == b->type && a->devid == b->devid;
}

/* A device is whole again, or gone. */
static void broken_forget(struct pv_backend *b, const struct pv_device_id *id)
{
	for (struct broken **at = &b->broken; *at; at = &(*at)->next) {
		struct broken *gone = *at;

		if (!same_device(&gone->id, id))
			continue;
		*at = gone->next;
		free(gone);
		return;
	}
}

static void told_broken(void *arg, int code, const char *message, struct json_object *result)
{
	(void)arg, (void)code, (void)message, (void)result; /* pviod acts by its own calls; without pviod it is told again */
}

static void broken_tell(struct pv_backend *b)
{
	for (struct broken *d = b->broken; d && b->registered; d = d->next) {
		struct json_object *params;

		if (d->told)
			continue;
		params = pv_device_id_to_json(&d->id);
		json_object_object_add(params, "error", json_object_new_int(d->error));
		json_object_object_add(params, "why", json_object_new_string(d->why));
		d->told = pv_rpc_call(b->rpc, "broken", params, REGISTER_TIMEOUT, told_broken, NULL) == 0;
	}
}

void pv_backend_broken(struct pv_backend *b, const struct pv_device_id *id, int error, const char *why)
{
	struct broken *d;

	for (d = b->broken; d; d = d->next)
		if (same_device(&d->id, id))
			return;
	d = calloc(1, sizeof(*d));
	if (!d) /* the device stays broken; pviod sees it by its state when it asks for stats */
		return;
	d->id = *id;
	d->error = error;
	snprintf(d->why, sizeof(d->why), "%s", why);
	d->next = b->broken;
	b->broken = d;
	broken_tell(b);
}

/* ---- pviod's calls ---- */

struct request { /* on the stack of backend_call */
	struct pv_rpc *rpc;
	uint64_t id;
	struct pv_device_id device; /* of our kind */
	struct json_object *params; /* borrowed */
};

/* What every call carries: a device of our kind. On failure the call is answered. */
static int request_device(struct pv_backend *b, struct request *r)
{
	enum pv_noxs_type type;
	char why[WHY_MAX];

	if (pv_device_id_from_json(r->params, &r->device, why, sizeof(why)) < 0) {
		pv_rpc_fail(r->rpc, r->id, PV_RPC_BAD_PARAMS, "%s", why);
		return -EINVAL;
	}
	type = r->device.type;
	if (type != pv_type_of(b->ops->kind)) {
		pv_rpc_fail(r->rpc, r->id, PV_RPC_BAD_PARAMS, "this backend serves %s, not %s", b->ops->kind, pv_type_name(type));
		return -EINVAL;
	}
	return 0;
}

static void answer(const struct request *r, int ret, const char *why)
{
	if (ret < 0)
		pv_rpc_fail(r->rpc, r->id, ret, "%s", why[0] ? why : strerror(-ret));
	else
		pv_rpc_reply(r->rpc, r->id, NULL);
}

static void call_prepare(struct pv_backend *b, const struct request *r)
{
	struct pv_noxs_offer offer = { .type = r->device.type };
	struct json_object *config;
	char why[WHY_MAX] = "";
	int ret;

	if (config_from_json(r->params, &config, why, sizeof(why)) < 0) {
		pv_rpc_fail(r->rpc, r->id, PV_RPC_BAD_PARAMS, "%s", why);
		return;
	}
	ret = b->ops->prepare(b->ctx, &r->device, config, &offer, why, sizeof(why));
	if (ret < 0)
		answer(r, ret, why);
	else
		pv_rpc_reply(r->rpc, r->id, pv_offer_to_json(&offer, r->device.type));
}

static void call_connect(struct pv_backend *b, const struct request *r)
{
	struct pv_connect c;
	char why[WHY_MAX] = "";
	int ret;

	if (pv_connect_from_json(r->params, &c, why, sizeof(why)) < 0) {
		pv_rpc_fail(r->rpc, r->id, PV_RPC_BAD_PARAMS, "%s", why);
		return;
	}
	broken_forget(b, &r->device); /* before: it may break again while connecting */
	ret = b->ops->connect(b->ctx, &c, why, sizeof(why));
	answer(r, ret, why);
}

static void call_disconnect(struct pv_backend *b, const struct request *r)
{
	char why[WHY_MAX] = "";
	int ret = b->ops->disconnect(b->ctx, &r->device, why, sizeof(why));

	if (ret >= 0)
		broken_forget(b, &r->device);
	answer(r, ret, why);
}

static void call_remove(struct pv_backend *b, const struct request *r)
{
	char why[WHY_MAX] = "";
	int ret = b->ops->remove(b->ctx, &r->device, why, sizeof(why));

	if (ret >= 0)
		broken_forget(b, &r->device);
	answer(r, ret, why);
}

static void answer_object(struct pv_backend *b, const struct request *r, struct json_object *o)
{
	char name[32];

	if (o) {
		pv_rpc_reply(r->rpc, r->id, o);
		return;
	}
	pv_devid_name(r->device.type, r->device.devid, name, sizeof(name));
	pv_rpc_fail(r->rpc, r->id, -ENOENT, "%s has no %s %s of guest %u", b->name, b->ops->kind, name, r->device.guest);
}

static void call_stats(struct pv_backend *b, const struct request *r)
{
	answer_object(b, r, b->ops->stats(b->ctx, &r->device));
}

static void call_inspect(struct pv_backend *b, const struct request *r)
{
	answer_object(b, r, b->ops->inspect(b->ctx, &r->device));
}

static const struct {
	const char *name;
	void (*run)(struct pv_backend *b, const struct request *r);
} methods[] = {
	{ "prepare", call_prepare },
	{ "connect", call_connect },
	{ "disconnect", call_disconnect },
	{ "remove", call_remove },
	{ "stats", call_stats },
	{ "inspect", call_inspect },
};

static void backend_call(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	struct request r = { .rpc = rpc, .id = id, .params = params };
	struct pv_backend *b = ctx;

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (strcmp(methods[i].name, method))
			continue;
		if (request_device(b, &r) == 0)
			methods[i].run(b, &r);
		return;
	}
	pv_rpc_fail(rpc, id, PV_RPC_NO_METHOD, "%s knows no \"%s\"", b->name, method);
}

/* ---- coming and going ---- */

/* Give up this connection and try again later, later each time. */
static void lost(struct pv_backend *b)
{
	pv_rpc_free(b->rpc);
	b->rpc = NULL;
	b->registered = b->drop = false;
	b->retry_at = now_ms() + b->delay;
	b->delay = b->delay * 2 < RETRY_MAX ? b->delay * 2 : RETRY_MAX;
	for (struct broken *d = b->broken; d; d = d->next)
		d->told = false;
}

static void backend_closed(void *ctx, struct pv_rpc *rpc, int err)
{
	(void)rpc, (void)err;
	lost(ctx);
}

static const struct pv_rpc_ops rpc_ops = { .call = backend_call, .closed = backend_closed };

static void registered(void *arg, int code, const char *message, struct json_object *result)
{
	struct pv_backend *b = arg;

	(void)message, (void)result;
	if (code) { /* refused or too slow */
		b->drop = true;
		return;
	}
	b->registered = true;
	b->delay = RETRY_MIN;
	broken_tell(b);
}

static void try_connect(struct pv_backend *b)
{
	int fd = pv_rpc_connect(b->path), ret = fd;
	struct json_object *params;

	if (fd >= 0) {
		ret = pv_rpc_new(fd, &rpc_ops, b, &b->rpc);
		if (ret < 0)
			close(fd);
	}
	if (ret < 0) {
		lost(b);
		return;
	}
	params = json_object_new_object();
	json_object_object_add(params, "kind", json_object_new_string(b->ops->kind));
	json_object_object_add(params, "name", json_object_new_string(b->name));
	json_object_object_add(params, "pid", json_object_new_int(getpid()));
	json_object_object_add(params, "version", json_object_new_string(PVIO_VERSION));
	json_object_object_add(params, "domid", json_object_new_int(b->domid));
	if (pv_rpc_call(b->rpc, "register", params, REGISTER_TIMEOUT, registered, b) < 0)
		lost(b);
}

int pv_backend_new(const char *path, const char *name, const struct pv_backend_ops *ops, void *ctx, struct pv_backend **out)
{
	struct pv_backend *b;

	*out = NULL;
	if (strlen(path) >= sizeof(b->path) || strlen(name) >= sizeof(b->name))
		return -ENAMETOOLONG;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	strcpy(b->path, path);
	strcpy(b->name, name);
	b->ops = ops;
	b->ctx = ctx;
	b->delay = RETRY_MIN;
	*out = b;
	return 0;
}

void pv_backend_domid(struct pv_backend *b, uint16_t domid)
{
	b->domid = domid;
}

int pv_backend_fd(const struct pv_backend *b)
{
	return b->rpc ? pv_rpc_fd(b->rpc) : -1;
}

short pv_backend_events(const struct pv_backend *b)
{
	return b->rpc ? pv_rpc_events(b->rpc) : 0;
}

int pv_backend_timeout(const struct pv_backend *b)
{
	int64_t left = b->retry_at - now_ms();

	return b->rpc ? pv_rpc_deadline(b->rpc) : left > 0 ? (int)left : 0;
}

void pv_backend_work(struct pv_backend *b)
{
	if (!b->rpc && now_ms() >= b->retry_at)
		try_connect(b);
	if (b->rpc)
		pv_rpc_work(b->rpc);
	if (b->rpc)
		pv_rpc_expire(b->rpc);
	if (b->drop)
		lost(b);
}

void pv_backend_free(struct pv_backend *b)
{
	if (!b)
		return;
	pv_rpc_free(b->rpc);
	while (b->broken) {
		struct broken *d = b->broken;

		b->broken = d->next;
		free(d);
	}
	free(b);
}
