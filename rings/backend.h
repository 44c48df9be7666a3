/* backend.h - what pviod and a backend say to each other, typed; and the backend's side of that conversation.
 *
 *	backend -> pviod	register {kind, name, pid, version, domid}	once a connection, first
 *	pviod -> backend	prepare, set, connect, disconnect, remove, stats, inspect, ask; resume {}, retire {}
 * A device is named by {guest, kind, devid}. All calls are idempotent. connect carries everything (the configuration too), so
 * that a fresh backend process needs nothing else. Internal to pvio's programs; not installed.
 */
#ifndef PV_BACKEND_H
#define PV_BACKEND_H

#include "hyper.h"
#include "message.h"
#include "rpc.h"

/* From a whole configuration to what is offered: offer->vif, ->vbd or ->vf is filled, the rest is pviod's. */
typedef int pv_backend_configure(void *ctx, const struct pv_device_id *id, struct json_object *config, struct pv_noxs_offer *offer,
				 char *why, size_t len);

/* A backend program fills this in; all run on its control thread. Each returns 0 or -errno and, on failure, a line in `why`
 * that names the device, the resource and what to do. */
struct pv_backend_ops {
	const char *kind; /* "vif", "vbd" or "vf" */
	/* Open what the device needs and say what it offers. Again with the same configuration: the same answer. */
	pv_backend_configure *prepare;
	/* Change a prepared or connected device, which goes on, to this configuration. What cannot change while it is connected: -EBUSY; or
	 * at all: -EOPNOTSUPP; both name the keys, and nothing has changed. Unknown: -ENOENT. NULL: nothing can be changed. */
	pv_backend_configure *set;
	/* Map, bind, serve; prepares first if needed. Again for a connected device with the same choice: 0, nothing changes. */
	int (*connect)(void *ctx, const struct pv_connect *c, char *why, size_t len);
	/* All devices that are there to be adopted (connect says so) have been asked for: what one of them sends finds the others. May be NULL. */
	void (*resume)(void *ctx);
	/* Stop serving: let what is in flight end, unmap, unbind. The device stays prepared. Not connected: 0. */
	int (*disconnect)(void *ctx, const struct pv_device_id *id, char *why, size_t len);
	/* Disconnect if needed, and close what prepare opened. Unknown: 0. */
	int (*remove)(void *ctx, const struct pv_device_id *id, char *why, size_t len);
	/* Counters since connect (stats), and the inner state: indices, in-flight, cache (inspect). New object or NULL: unknown. */
	struct json_object *(*stats)(void *ctx, const struct pv_device_id *id);
	struct json_object *(*inspect)(void *ctx, const struct pv_device_id *id);
	/* May it end, for another process that takes over its devices? Returns 0, or -errno with `why` if a guest would lose one. NULL: it may. */
	int (*retire)(void *ctx, char *why, size_t len);
	/* Whatever else one kind of backend understands, by its name (what); params is borrowed, may be NULL. New object, or NULL with
	 * *error (-ENOENT: no such device; that is what it is before the call) and `why`. NULL: this backend understands nothing. */
	struct json_object *(*ask)(void *ctx, const struct pv_device_id *id, const char *what, struct json_object *params, int *error,
				   char *why, size_t len);
};

struct pv_backend; /* the backend's side: a connection to pviod that comes back by itself */

/* name: of this backend, such as "blkback". path: pviod's socket. Returns 0 or -errno (no pviod yet is no error: it retries).
 * Connects at the first pv_backend_work. Driven like an rpc: poll fd for events, or after at most timeout ms (-1: none), then
 * work. fd changes: ask each time; -1: wait only. */
int pv_backend_new(const char *path, const char *name, const struct pv_backend_ops *ops, void *ctx, struct pv_backend **out);

/* The domain that this backend runs in, to which frontends grant their pages (0 until said). Before the first pv_backend_work. */
void pv_backend_domid(struct pv_backend *b, uint16_t domid);

/* How pviod is reached: by its socket, in domain 0; or from a driver domain, through the first of its pipes that is free (pipe_link.h). */
enum pv_backend_way { PV_BACKEND_SOCKET, PV_BACKEND_PIPE };
extern const char *const pv_backend_ways[]; /* "socket", "pipe", NULL: for pv_option_name */

/* Choose. hypervisor (borrowed), domid: as for pv_hyper_open. Before the first pv_backend_work; without it: by the socket. Returns 0
 * or -errno. */
int pv_backend_reach(struct pv_backend *b, enum pv_backend_way way, const char *hypervisor, int domid);

int pv_backend_fd(const struct pv_backend *b);
short pv_backend_events(const struct pv_backend *b);
int pv_backend_timeout(const struct pv_backend *b);
void pv_backend_work(struct pv_backend *b);
void pv_backend_free(struct pv_backend *b);

/* Was it asked to end, for another process that waits to take over its devices? The program then ends as by SIGTERM: it lets go of them
 * first, and of this last. */
bool pv_backend_retired(const struct pv_backend *b);

/* Before a backend of that kind and name begins: have pviod (its socket at path) end the one that serves, and wait until that has let go of
 * all it had. Its devices wait for the next one to register. No such backend: 0. Returns 0 or -errno with `why`. */
int pv_backend_take_over(const char *path, const char *kind, const char *name, char *why, size_t len);

/* Tell pviod that a device broke: the guest misbehaved (-EPROTO) or its resource failed. Once a device and connection;
 * pviod tears down that device alone. */
void pv_backend_broken(struct pv_backend *b, const struct pv_device_id *id, int error, const char *why);

/* As pv_evt_bind, of a device's port, on whatever thread h is. With adopt -EAGAIN while it does not wait for us: the process that died has not
 * closed its end yet, though the kernel gave away its other things. */
int pv_backend_bind(struct pv_hyper *h, uint16_t guest, uint32_t port, bool adopt);

#endif
