/* control_ask.c - what one kind of backend understands and pviod need not: passed on to the device's backend, and its answer back. */
#include "control.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WHAT_LEN = 64 };

/* Owner: the call that is under way. */
struct asker {
	struct pviod *d;
	uint64_t conn, id; /* whom to answer */
	uint64_t device; /* serial */
};

static void passed_back(void *arg, int code, const char *message, struct json_object *result)
{
	struct asker *a = arg;
	struct conn *c = conn_find(a->d, a->conn);
	struct device *dev;

	HASH_FIND(hh_serial, a->d->by_serial, &a->device, sizeof(a->device), dev);
	if (c && code == -ECONNRESET) /* a client would take that for pviod's end */
		pv_rpc_fail(c->rpc, a->id, -EOWNERDEAD, "the backend ended before it answered; start it again");
	else if (c && code)
		pv_rpc_fail(c->rpc, a->id, code, "%s", dev ? backend_words(dev, message) : message);
	else if (c)
		pv_rpc_reply(c->rpc, a->id, json_object_get(result));
	free(a);
}

static void pass_on(struct request *r, struct device *dev, const char *what)
{
	struct json_object *all = json_object_new_object(), *params = NULL;
	struct asker *a = malloc(sizeof(*a));
	int rc = -ENOMEM;

	json_object_object_get_ex(r->params, "params", &params);
	json_object_object_add(all, "what", json_object_new_string(what));
	if (params)
		json_object_object_add(all, "params", json_object_get(params));
	if (a) {
		*a = (struct asker){ .d = r->d, .conn = r->conn->serial, .id = r->id, .device = dev->serial };
		rc = backend_query(dev, "ask", all, passed_back, a);
	} else {
		json_object_put(all);
	}
	r->answered = rc == 0;
	if (rc == 0)
		return;
	free(a);
	if (rc == -EBUSY)
		refuse(r, rc, "backend %s has too many calls to answer; try again", dev->backend_name);
	else
		refuse(r, rc, "backend %s cannot be asked; is it running?", dev->backend_name);
}

void do_ask(struct request *r)
{
	struct guest *g = param_guest(r, true);
	struct device *dev = g ? param_device(r, g, true) : NULL;
	const char *what = r->answered ? NULL : param_text(r, "what");

	if (r->answered)
		return;
	if (!what || !*what || strlen(what) > WHAT_LEN)
		refuse(r, PV_RPC_BAD_PARAMS, "what is a word of 1..%d bytes", WHAT_LEN);
	else if (dev->id.type == PV_NOXS_PIPE)
		refuse(r, -ENOTSUP, "%s is a pipe, which cannot be asked for anything", device_label(dev));
	else
		pass_on(r, dev, what);
}
