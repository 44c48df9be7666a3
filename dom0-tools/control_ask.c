/* control_ask.c - what one kind of backend understands and pviod need not: passed on to the device's backend, and its answer back. */
#include "control.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WHAT_LEN = 64 };

static void passed_back(void *arg, int code, const char *message, struct json_object *result)
{
	struct asker *a = arg;
	struct device *dev = asker_device(a);

	asker_answer(a, code, dev ? backend_words(dev, message) : message, result);
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
		*a = asker_of(r, dev);
		rc = backend_query(dev, "ask", all, passed_back, a);
	} else {
		json_object_put(all);
	}
	r->answered = rc == 0;
	if (rc == 0)
		return;
	free(a);
	refuse(r, rc, "%s", backend_not_asked(dev->backend_name, rc));
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
