/* cmd_claim.c - pvio claim. */
#include "pvio.h"
#include <stdio.h>

int cmd_claim(struct pvio *p)
{
	struct json_object *params = json_object_new_object(), *o;
	int rc;

	json_object_object_add(params, "path", json_object_new_string(p->args[0]));
	o = ask(p, "claim", params, 0, &rc);
	json_object_put(o);
	return o ? EXIT_DONE : rc;
}
