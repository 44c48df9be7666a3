/* cmd_guest.c - pvio guest create, list, destroy. */
#include "pvio.h"
#include <stdio.h>

int cmd_guest_create(struct pvio *p) /* domain 0 is the toolstack's */
{
	struct json_object *params = json_object_new_object(), *g;
	long domid = opt_number(p, "--domid", 0, 1, 0x7fef);
	int rc = EXIT_USAGE;

	json_object_object_add(params, "name", json_object_new_string(p->args[0]));
	if (domid > 0)
		json_object_object_add(params, "domid", json_object_new_int(domid));
	if (domid < 0) {
		json_object_put(params);
		return rc;
	}
	g = ask(p, "guest.create", params, 0, &rc);
	if (!g)
		return rc;
	if (p->json)
		return print_json(g);
	printf("guest %s: domain %s\n", text_of(g, "name"), text_of(g, "domid"));
	json_object_put(g);
	return EXIT_DONE;
}

int cmd_guest_list(struct pvio *p)
{
	static const struct column columns[] = {
		{ "GUEST", "name", false, NULL }, { "DOMID", "domid", true, NULL }, { "DEVICES", "devices", true, NULL },
	};
	struct json_object *o, *guests = NULL;
	int rc;

	o = ask(p, "guest.list", json_object_new_object(), 0, &rc);
	if (!o)
		return rc;
	json_object_object_get_ex(o, "guests", &guests);
	if (p->json)
		print_json(json_object_get(guests));
	else
		print_table(guests, columns, 3, "no guests; pvio guest create NAME makes one");
	json_object_put(o);
	return EXIT_DONE;
}

int cmd_guest_destroy(struct pvio *p)
{
	struct json_object *params = json_object_new_object(), *o;
	double seconds = opt_seconds(p, "--timeout", 5);
	int rc = EXIT_USAGE;

	if (seconds < 0) {
		json_object_put(params);
		return rc;
	}
	json_object_object_add(params, "guest", json_object_new_string(p->args[0]));
	json_object_object_add(params, "force", json_object_new_boolean(opt_value(p, "--force") != NULL));
	json_object_object_add(params, "timeout_ms", json_object_new_int64(seconds * 1000));
	o = ask(p, "guest.destroy", params, seconds * 1000 + 30000, &rc);
	json_object_put(o);
	return o ? EXIT_DONE : rc;
}
