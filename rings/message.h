/* message.h - what pviod and backends say to each other, as structs and as JSON, and the names of devices.
 *
 * Internal to pvio's programs (its types are json-c's); not installed. Pure functions; any thread.
 */
#ifndef PV_MESSAGE_H
#define PV_MESSAGE_H

#include "hyper.h"
#include "noxs.h"
#include <json-c/json.h>
#include <stddef.h>

/* A device as pviod names it. */
struct pv_device_id {
	uint16_t guest; /* domid */
	uint16_t type; /* PV_NOXS_VIF, PV_NOXS_VBD or PV_NOXS_VF */
	uint32_t devid;
};

/* Pages of pviod's, granted to the backend's domain, for the log of a connection (inflight.h): what is in them outlives that domain. */
enum { PV_LOG_PAGES_MAX = 260 };
struct pv_log_pages {
	struct pv_hyper *hyper; /* where the backend maps them, on its control thread; NULL: nowhere */
	unsigned n; /* 0: there are none, and a file has to do */
	uint32_t grefs[PV_LOG_PAGES_MAX];
};

/* What `connect` carries beside the configuration: the checked choice of the guest. */
struct pv_connect {
	struct pv_device_id id;
	struct json_object *config; /* borrowed: the key=value pairs of `pvio attach`, strings; e.g. {"path":"disk.img"} */
	struct pv_noxs_choice choice; /* queues, ring grefs, ports, features, ring order, ABI */
	bool adopt; /* the same choice was served by a process that died or handed over: go on where it was, unnoticed (inflight.h) */
	struct pv_log_pages log;
};

/* to_json: a new object. from_json: 0, or -EINVAL with `why`. */
struct json_object *pv_device_id_to_json(const struct pv_device_id *id);
int pv_device_id_from_json(struct json_object *o, struct pv_device_id *id, char *why, size_t len);
struct json_object *pv_connect_to_json(const struct pv_connect *c);
int pv_connect_from_json(struct json_object *o, struct pv_connect *c, char *why, size_t len);
struct json_object *pv_offer_to_json(const struct pv_noxs_offer *offer, enum pv_noxs_type type); /* the part of its type */
/* The member "config" of o: strings by key, bounded. *config is borrowed, NULL if there is none. */
int pv_config_from_json(struct json_object *o, struct json_object **config, char *why, size_t len);
int pv_offer_from_json(struct json_object *o, enum pv_noxs_type type, struct pv_noxs_offer *offer, char *why, size_t len);

/* A MAC address as people write it. */
enum { PV_MAC_TEXT = 18 };
void pv_mac_text(const uint8_t mac[6], char out[PV_MAC_TEXT]);

/* What handles were asked for, in all: the sum of two, and as JSON. */
void pv_hyper_counts_add(struct pv_hyper_counts *sum, const struct pv_hyper_counts *c);
struct json_object *pv_hyper_counts_to_json(const struct pv_hyper_counts *c);

/* "vif" <-> PV_NOXS_VIF and so on; unknown: NULL, PV_NOXS_NONE. */
const char *pv_type_name(enum pv_noxs_type type);
enum pv_noxs_type pv_type_of(const char *name);

/* "xvda" <-> 51712, "sda", "hda" as in Xen's vbd-interface; a number is itself. -EINVAL. vif: a number. */
int pv_devid_of(enum pv_noxs_type type, const char *name, uint32_t *devid);
void pv_devid_name(enum pv_noxs_type type, uint32_t devid, char *buf, size_t len);

#endif
