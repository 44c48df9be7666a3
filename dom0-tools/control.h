/* control.h - one call of a client, for control*.c. */
#ifndef CONTROL_H
#define CONTROL_H

#include "pviod.h"

enum { WAIT_MS_MAX = 3600 * 1000, GRACE_MS = 1000 };

/* Lives on the stack of control_called; an answer that comes later remembers conn->serial and id. */
struct request {
	struct pviod *d;
	struct conn *conn;
	uint64_t id;
	struct json_object *params;
	bool answered;
};

/* Each of these answers at most once; what it returns counts only while r->answered is false. */
void refuse(struct request *r, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void reply(struct request *r, struct json_object *result); /* takes over result */
const char *param_text(struct request *r, const char *key); /* NULL: not given */
int64_t param_number(struct request *r, const char *key, int64_t none, int64_t max);
bool param_flag(struct request *r, const char *key);
struct guest *param_guest(struct request *r, bool needed); /* NULL: refused, or none is named and that is allowed */
struct device *param_device(struct request *r, struct guest *g, bool needed); /* of g; as above */

/* Whom to answer when a device's backend has. Owner: the call that is under way. */
struct asker {
	struct pviod *d;
	uint64_t conn, id; /* whom */
	uint64_t device; /* serial */
};

struct asker asker_of(const struct request *r, const struct device *dev);
struct device *asker_device(const struct asker *a); /* NULL: it is gone */
void asker_answer(const struct asker *a, int code, const char *why, struct json_object *result); /* borrows result; code 0: done */

/* Answer when `dev` or guest g is what the client waits for, or after ms. Returns false if it was refused. */
bool wait_for(struct request *r, enum wait_for what, struct device *dev, struct guest *g, unsigned ms);

/* Answer when backend b has gone, or after ms. */
void wait_for_backend(struct request *r, const struct backend *b, unsigned ms);

/* ---- control_backend.c ---- */

void do_backend_retire(struct request *r);
void do_backend_replace(struct request *r);

/* ---- control_ask.c ---- */

void do_ask(struct request *r);

/* ---- control_config.c: keys and values of devices ---- */

/* The pairs of a call, put into a copy of `to` (NULL: none); bounded. A null takes a key out. A new object, or NULL: refused. */
struct json_object *param_config(struct request *r, struct json_object *to);
/* A vif without an address gets one of Xen's, the same each time: of this host, guest and device. */
void config_mac(struct json_object *config, const struct guest *g, uint32_t devid);
/* A vf's backend records whose it is, and gives it to guests of another toolstack by that. */
void config_vf(struct json_object *config, const struct guest *g);
void do_set(struct request *r);
void do_resize(struct request *r);

/* ---- control_guest.c: the methods about guests ---- */

void do_guest_create(struct request *r);
void do_guest_start(struct request *r);
void do_guest_pause(struct request *r);
void do_guest_shutdown(struct request *r);
void do_guest_destroy(struct request *r);
void do_guest_list(struct request *r);

#endif
