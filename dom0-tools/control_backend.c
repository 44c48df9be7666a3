/* control_backend.c - a backend hands over: the one that serves is asked to end, and its devices wait for the next. */
#include "control.h"
#include <string.h>

/* That it was asked is all that the answer says; that it has ended, the end of its connection. */
static void asked(void *arg, int code, const char *message, struct json_object *result)
{
	(void)arg, (void)code, (void)message, (void)result;
}

/* The backend of exactly that name, and kind if one is given. */
static struct backend *param_backend_named(struct request *r)
{
	const char *name = param_text(r, "name"), *kind = param_text(r, "kind");
	struct backend *b;

	if (r->answered)
		return NULL;
	if (!name) {
		refuse(r, PV_RPC_BAD_PARAMS, "name is missing");
		return NULL;
	}
	DL_FOREACH(r->d->backends, b)
		if (strcmp(b->name, name) == 0 && (!kind || b->type == pv_type_of(kind)))
			return b;
	reply(r, NULL); /* nobody has to go */
	return NULL;
}

void do_backend_retire(struct request *r)
{
	struct backend *b = param_backend_named(r);
	int rc;

	if (!b)
		return;
	rc = pv_rpc_call(b->conn->rpc, "retire", NULL, (int)r->d->opt.backend_ms, asked, NULL);
	if (rc < 0)
		refuse(r, rc, "%s", backend_not_asked(b->name, rc));
	else
		wait_for_backend(r, b, 2 * r->d->opt.backend_ms);
}
