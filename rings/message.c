/* message.c - encoders and decoders of what pviod and backends say: tables of fields, each number range-checked. See message.h. */
#include "message.h"
#include "blk.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
	DOMID_MAX = 0x7fef, /* below Xen's reserved ones */
	CONFIG_KEYS_MAX = 64,
};

/* A number of a message as a field of a struct. */
struct field {
	const char *key;
	uint16_t offset;
	uint8_t size; /* bytes: 1, 2, 4 or 8 */
	uint64_t min, max;
	bool optional; /* 0 is not said */
};

#define FIELD(type, member, key, min, max) { key, offsetof(type, member), sizeof(((type *)0)->member), min, max, false }
#define OPTIONAL(type, member, key, max) { key, offsetof(type, member), sizeof(((type *)0)->member), 0, max, true }

static const struct field id_fields[] = {
	FIELD(struct pv_device_id, guest, "guest", 0, DOMID_MAX),
	FIELD(struct pv_device_id, devid, "devid", 0, UINT32_MAX),
	{ 0 },
};

static const struct field vif_offer_fields[] = {
	FIELD(struct pv_noxs_vif_offer, queues_max, "queues_max", 1, PV_NOXS_QUEUES_MAX),
	FIELD(struct pv_noxs_vif_offer, mtu, "mtu", 68, 65535),
	FIELD(struct pv_noxs_vif_offer, features, "features", 0, PV_VIF_FEATURES),
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

static const struct field vf_offer_fields[] = {
	FIELD(struct pv_noxs_vf_offer, functions, "functions", 1, PV_NOXS_VFS_MAX),
	{ 0 },
};

static const struct field choice_fields[] = {
	FIELD(struct pv_noxs_choice, generation, "generation", 0, UINT32_MAX),
	FIELD(struct pv_noxs_choice, features, "features", 0, UINT32_MAX),
	FIELD(struct pv_noxs_choice, ring_order, "ring_order", 0, 4),
	FIELD(struct pv_noxs_choice, abi, "abi", 0, PV_VBD_ABI_X86_64),
	OPTIONAL(struct pv_noxs_choice, ctrl_gref, "ctrl_gref", UINT32_MAX),
	OPTIONAL(struct pv_noxs_choice, ctrl_port, "ctrl_port", UINT32_MAX),
	OPTIONAL(struct pv_noxs_choice, headroom, "headroom", PV_NOXS_HEADROOM_MAX),
	{ 0 },
};

static const struct field vif_queue_fields[] = {
	FIELD(struct pv_noxs_vif_queue, tx_gref, "tx_gref", 0, UINT32_MAX),
	FIELD(struct pv_noxs_vif_queue, rx_gref, "rx_gref", 0, UINT32_MAX),
	FIELD(struct pv_noxs_vif_queue, tx_port, "tx_port", 1, UINT32_MAX),
	FIELD(struct pv_noxs_vif_queue, rx_port, "rx_port", 1, UINT32_MAX),
	{ 0 },
};

static const struct field vf_queue_fields[] = {
	FIELD(struct pv_noxs_vf_queue, gref, "gref", 0, UINT32_MAX),
	FIELD(struct pv_noxs_vf_queue, port, "port", 1, UINT32_MAX),
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
		if (!f->optional || field_get(f, base))
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

		if (!json_object_object_get_ex(o, f->key, &v) && f->optional)
			continue;
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

void pv_mac_text(const uint8_t mac[6], char out[PV_MAC_TEXT])
{
	snprintf(out, PV_MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

struct json_object *pv_offer_to_json(const struct pv_noxs_offer *offer, enum pv_noxs_type type)
{
	struct json_object *o = json_object_new_object();
	char mac[PV_MAC_TEXT];

	if (type == PV_NOXS_VBD)
		fields_encode(o, vbd_offer_fields, &offer->vbd);
	if (type == PV_NOXS_VF)
		fields_encode(o, vf_offer_fields, &offer->vf);
	if (type == PV_NOXS_VIF) {
		fields_encode(o, vif_offer_fields, &offer->vif);
		pv_mac_text(offer->vif.mac, mac);
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
	if (type == PV_NOXS_VF)
		return fields_decode(o, vf_offer_fields, &offer->vf, why, len);
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

static struct json_object *queue_to_json(const struct pv_noxs_choice *c, enum pv_noxs_type type, unsigned i)
{
	struct json_object *o;

	if (type == PV_NOXS_VBD)
		return vbd_queue_to_json(&c->vbd[i], c->ring_order);
	o = json_object_new_object();
	if (type == PV_NOXS_VF)
		fields_encode(o, vf_queue_fields, &c->vf[0]);
	else
		fields_encode(o, vif_queue_fields, &c->vif[i]);
	return o;
}

static int queue_from_json(struct json_object *o, enum pv_noxs_type type, unsigned i, struct pv_noxs_choice *c, char *why, size_t len)
{
	if (type == PV_NOXS_VBD)
		return vbd_queue_from_json(o, c->ring_order, &c->vbd[i], why, len);
	if (type == PV_NOXS_VF)
		return fields_decode(o, vf_queue_fields, &c->vf[i], why, len);
	return fields_decode(o, vif_queue_fields, &c->vif[i], why, len);
}

static struct json_object *choice_to_json(const struct pv_noxs_choice *c, enum pv_noxs_type type)
{
	struct json_object *o = json_object_new_object(), *queues = json_object_new_array();

	fields_encode(o, choice_fields, c);
	for (unsigned i = 0; i < c->queues && i < PV_NOXS_QUEUES_MAX; i++)
		json_object_array_add(queues, queue_to_json(c, type, i));
	json_object_object_add(o, "queues", queues);
	return o;
}

static int choice_from_json(struct json_object *o, enum pv_noxs_type type, struct pv_noxs_choice *c, char *why, size_t len)
{
	struct json_object *queues = NULL;
	size_t nr, max = type == PV_NOXS_VF ? 1 : PV_NOXS_QUEUES_MAX;
	int ret = 0;

	*c = (struct pv_noxs_choice){
		.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .state = XenbusStateInitialised, .alive = 1,
	};
	if (fields_decode(o, choice_fields, c, why, len) < 0)
		return -EINVAL;
	json_object_object_get_ex(o, "queues", &queues);
	nr = json_object_get_type(queues) == json_type_array ? json_object_array_length(queues) : 0;
	if (nr < 1 || nr > max) {
		snprintf(why, len, "queues must be an array of 1..%zu objects", max);
		return -EINVAL;
	}
	c->queues = (uint16_t)nr;
	for (unsigned i = 0; ret == 0 && i < nr; i++)
		ret = queue_from_json(json_object_array_get_idx(queues, i), type, i, c, why, len);
	return ret;
}

/* The configuration: an object of strings. */
int pv_config_from_json(struct json_object *o, struct json_object **config, char *why, size_t len)
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

static struct json_object *log_to_json(const struct pv_log_pages *log)
{
	struct json_object *a = json_object_new_array();

	for (unsigned i = 0; i < log->n; i++)
		json_object_array_add(a, json_object_new_int64(log->grefs[i]));
	return a;
}

static int log_from_json(struct json_object *a, struct pv_log_pages *log, char *why, size_t len)
{
	size_t n = a && json_object_get_type(a) == json_type_array ? json_object_array_length(a) : 0;

	if (a && (!n || n > PV_LOG_PAGES_MAX)) {
		snprintf(why, len, "log must be a list of 1 to %d grefs", PV_LOG_PAGES_MAX);
		return -EINVAL;
	}
	for (; log->n < n; log->n++) {
		struct json_object *v = json_object_array_get_idx(a, log->n);
		int64_t gref = json_object_get_type(v) == json_type_int ? json_object_get_int64(v) : -1;

		if (gref < 0 || gref > UINT32_MAX) {
			snprintf(why, len, "log: number %u is no gref", log->n);
			return -EINVAL;
		}
		log->grefs[log->n] = (uint32_t)gref;
	}
	return 0;
}

struct json_object *pv_connect_to_json(const struct pv_connect *c)
{
	struct json_object *o = pv_device_id_to_json(&c->id);

	json_object_object_add(o, "config", c->config ? json_object_get(c->config) : json_object_new_object());
	json_object_object_add(o, "choice", choice_to_json(&c->choice, c->id.type));
	if (c->adopt)
		json_object_object_add(o, "adopt", json_object_new_boolean(true));
	if (c->log.n)
		json_object_object_add(o, "log", log_to_json(&c->log));
	return o;
}

int pv_connect_from_json(struct json_object *o, struct pv_connect *c, char *why, size_t len)
{
	struct json_object *choice = NULL, *adopt = NULL, *log = NULL;

	*c = (struct pv_connect){ 0 };
	if (pv_device_id_from_json(o, &c->id, why, len) < 0)
		return -EINVAL;
	if (c->id.type != PV_NOXS_VIF && c->id.type != PV_NOXS_VBD && c->id.type != PV_NOXS_VF) {
		snprintf(why, len, "a %s has no rings to connect", pv_type_name(c->id.type));
		return -EINVAL;
	}
	if (pv_config_from_json(o, &c->config, why, len) < 0)
		return -EINVAL;
	json_object_object_get_ex(o, "adopt", &adopt);
	if (adopt && json_object_get_type(adopt) != json_type_boolean) {
		snprintf(why, len, "adopt must be true or false");
		return -EINVAL;
	}
	c->adopt = json_object_get_boolean(adopt);
	json_object_object_get_ex(o, "log", &log);
	if (log_from_json(log, &c->log, why, len) < 0)
		return -EINVAL;
	json_object_object_get_ex(o, "choice", &choice);
	return choice_from_json(choice, c->id.type, &c->choice, why, len);
}

/* ---- counts ---- */

static const struct {
	const char *name;
	size_t field;
} counts[] = {
#define COUNT(c) { #c, offsetof(struct pv_hyper_counts, c) }
	COUNT(shares), COUNT(shared_pages), COUNT(maps), COUNT(mapped_pages), COUNT(unmaps), COUNT(copies), COUNT(copied_pieces),
	COUNT(copied_bytes), COUNT(notifies), COUNT(polls), COUNT(events), COUNT(unmasks),
};
_Static_assert(sizeof(counts) / sizeof(counts[0]) == sizeof(struct pv_hyper_counts) / sizeof(uint64_t), "all of them");

void pv_hyper_counts_add(struct pv_hyper_counts *sum, const struct pv_hyper_counts *c)
{
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		*(uint64_t *)((char *)sum + counts[i].field) += *(const uint64_t *)((const char *)c + counts[i].field);
}

struct json_object *pv_hyper_counts_to_json(const struct pv_hyper_counts *c)
{
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		json_object_object_add(o, counts[i].name,
				       json_object_new_int64((int64_t)*(const uint64_t *)((const char *)c + counts[i].field)));
	return o;
}
