/* backend.h - what pviod and a backend say to each other, typed; and the backend's side of that conversation.
 *
 *	backend -> pviod	register {kind, name, pid, version, domid}	once a connection, first
 *	pviod -> backend	prepare, connect, disconnect, remove, stats, inspect
 * A device is named by {guest, kind, devid}. All calls are idempotent. connect carries everything (the configuration too), so
 * that a fresh backend process needs nothing else. Internal to pvio's programs; not installed.
 */
#ifndef PV_BACKEND_H
#define PV_BACKEND_H

#include "noxs.h"
#include "rpc.h"

/* A device as pviod names it. */
struct pv_device_id {
	uint16_t guest; /* domid */
	uint16_t type; /* PV_NOXS_VIF or PV_NOXS_VBD */
	uint32_t devid;
};

/* What `connect` carries beside the configuration: the checked choice of the guest. */
struct pv_connect {
	struct pv_device_id id;
	struct json_object *config; /* borrowed: the key=value pairs of `pvio attach`, strings; e.g. {"path":"disk.img"} */
	struct pv_noxs_choice choice; /* queues, ring grefs, ports, features, ring order, ABI */
};

/* A backend program fills this in; all run on its control thread. Each returns 0 or -errno and, on failure, a line in `why`
 * that names the device, the resource and what to do. */
struct pv_backend_ops {
	const char *kind; /* "vif" or "vbd" */
	/* Open what the device needs and say what it offers (offer->vif or ->vbd is filled; the rest is pviod's).
	 * Again with the same configuration: the same answer. */
	int (*prepare)(void *ctx, const struct pv_device_id *id, struct json_object *config, struct pv_noxs_offer *offer, char *why, size_t len);
	/* Map, bind, serve; prepares first if needed. Again for a connected device with the same choice: 0, nothing changes. */
	int (*connect)(void *ctx, const struct pv_connect *c, char *why, size_t len);
	/* Stop serving: let what is in flight end, unmap, unbind. The device stays prepared. Not connected: 0. */
	int (*disconnect)(void *ctx, const struct pv_device_id *id, char *why, size_t len);
	/* Disconnect if needed, and close what prepare opened. Unknown: 0. */
	int (*remove)(void *ctx, const struct pv_device_id *id, char *why, size_t len);
	/* Counters since connect (stats), and the inner state: indices, in-flight, cache (inspect). New object or NULL: unknown. */
	struct json_object *(*stats)(void *ctx, const struct pv_device_id *id);
	struct json_object *(*inspect)(void *ctx, const struct pv_device_id *id);
};

struct pv_backend; /* the backend's side: a connection to pviod that comes back by itself */

/* name: of this backend, such as "blkback". path: pviod's socket. Returns 0 or -errno (no pviod yet is no error: it retries).
 * Connects at the first pv_backend_work. Driven like an rpc: poll fd for events, or after at most timeout ms (-1: none), then
 * work. fd changes: ask each time; -1: wait only. */
int pv_backend_new(const char *path, const char *name, const struct pv_backend_ops *ops, void *ctx, struct pv_backend **out);

/* The domain that this backend runs in, to which frontends grant their pages (0 until said). Before the first pv_backend_work. */
void pv_backend_domid(struct pv_backend *b, uint16_t domid);

int pv_backend_fd(const struct pv_backend *b);
short pv_backend_events(const struct pv_backend *b);
int pv_backend_timeout(const struct pv_backend *b);
void pv_backend_work(struct pv_backend *b);
void pv_backend_free(struct pv_backend *b);

/* Tell pviod that a device broke: the guest misbehaved (-EPROTO) or its resource failed. Once a device and connection;
 * pviod tears down that device alone. */
void pv_backend_broken(struct pv_backend *b, const struct pv_device_id *id, int error, const char *why);

/* ---- encoders and decoders, used by both sides. to_json: new object. from_json: 0, or -EINVAL with `why`. ---- */
struct json_object *pv_device_id_to_json(const struct pv_device_id *id);
int pv_device_id_from_json(struct json_object *o, struct pv_device_id *id, char *why, size_t len);
struct json_object *pv_connect_to_json(const struct pv_connect *c);
int pv_connect_from_json(struct json_object *o, struct pv_connect *c, char *why, size_t len);
struct json_object *pv_offer_to_json(const struct pv_noxs_offer *offer, enum pv_noxs_type type); /* the vif or vbd part */
int pv_offer_from_json(struct json_object *o, enum pv_noxs_type type, struct pv_noxs_offer *offer, char *why, size_t len);

/* "vif" <-> PV_NOXS_VIF and so on; unknown: NULL, PV_NOXS_NONE. */
const char *pv_type_name(enum pv_noxs_type type);
enum pv_noxs_type pv_type_of(const char *name);

/* "xvda" <-> 51712, "sda", "hda" as in Xen's vbd-interface; a number is itself. -EINVAL. vif: a number. */
int pv_devid_of(enum pv_noxs_type type, const char *name, uint32_t *devid);
void pv_devid_name(enum pv_noxs_type type, uint32_t devid, char *buf, size_t len);

#endif
