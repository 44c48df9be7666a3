/* cmd_list.c - pvio list, stats, inspect, backend list, version. */
#include "pvio.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "broken: why" in full; other states with the last error behind them, if there is one. */
static void state_text(struct json_object *d, char *buf, size_t len)
{
	const char *error = text_of(d, "error");

	snprintf(buf, len, "%s%s%s", text_of(d, "state"), *error ? ": " : "", error);
}

/* What one knows a device by: path of a disk, address of an interface, which function or of which pool. */
static void detail_text(struct json_object *d, char *buf, size_t len)
{
	const char *type = text_of(d, "type"), *key = "path";
	struct json_object *config = NULL;

	json_object_object_get_ex(d, "config", &config);
	if (strcmp(type, "vif") == 0)
		key = "mac";
	if (strcmp(type, "vf") == 0)
		key = *text_of(config, "bdf") ? "bdf" : "pool";
	snprintf(buf, len, "%s", text_of(config, key));
}

/* By guest, then type and name, with numbers as numbers: g2 before g10. */
static int by_name(const void *a, const void *b)
{
	static const char *const keys[] = { "guest", "type", "name" };
	struct json_object *const *x = a, *const *y = b;
	int order = 0;

	for (int i = 0; i < 3 && !order; i++)
		order = strverscmp(text_of(*x, keys[i]), text_of(*y, keys[i]));
	return order;
}

int cmd_list(struct pvio *p)
{
	static const struct column columns[] = {
		{ "GUEST", "guest", false, NULL }, { "TYPE", "type", false, NULL }, { "NAME", "name", false, NULL },
		{ "BACKEND", "backend", false, NULL }, { "QUEUES", "queues", true, NULL }, { "OFFER us", "offer_us", true, NULL },
		{ "CONNECT us", "connect_us", true, NULL }, { "PATH or MAC", NULL, false, detail_text }, { "STATE", NULL, false, state_text },
	};
	struct json_object *devices;
	int rc;

	devices = ask_devices(p, "list", p->nargs ? p->args[0] : NULL, NULL, &rc);
	if (!devices)
		return rc;
	json_object_array_sort(devices, by_name);
	if (p->json)
		return print_json(devices);
	print_table(devices, columns, sizeof(columns) / sizeof(columns[0]), "no devices; pvio attach GUEST vif|vbd gives a guest one");
	json_object_put(devices);
	return EXIT_DONE;
}

static bool show_part(struct json_object *d, const char *key, const char *heading)
{
	struct json_object *part = NULL;

	if (!json_object_object_get_ex(d, key, &part) || !part)
		return false;
	printf("  %s:\n", heading);
	print_tree(part, 4);
	return true;
}

/* What of a device's statistics is shown unless asked for: the sums over its queues. */
static void leave_out_queues(struct json_object *d)
{
	struct json_object *stats = NULL;

	json_object_object_get_ex(d, "stats", &stats);
	if (json_object_get_type(stats) == json_type_object)
		json_object_object_del(stats, "queues");
}

/* stats, inspect: a heading a device, then what is known. */
static int show_each(struct pvio *p, const char *method, bool queues)
{
	struct json_object *devices;
	int rc;

	devices = ask_devices(p, method, p->nargs > 0 ? p->args[0] : NULL, p->nargs > 1 ? p->args[1] : NULL, &rc);
	if (!devices)
		return rc;
	if (p->json)
		return print_json(devices);
	if (json_object_array_length(devices) == 0)
		puts("no devices");
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		struct json_object *d = json_object_array_get_idx(devices, i);

		if (!queues)
			leave_out_queues(d);
		printf("%s %s %s (%s)\n", text_of(d, "guest"), text_of(d, "type"), text_of(d, "name"), text_of(d, "state"));
		show_part(d, "pviod", "negotiation");
		if (!show_part(d, method, "backend"))
			puts("  its backend says nothing about it");
	}
	json_object_put(devices);
	return EXIT_DONE;
}

int cmd_stats(struct pvio *p)
{
	return show_each(p, "stats", opt_value(p, "--queues") != NULL);
}

int cmd_inspect(struct pvio *p)
{
	return show_each(p, "inspect", true);
}

/* Of one that pviod starts: how often it had to again, and what of it is not there. */
static void supervised_text(struct json_object *b, char *buf, size_t len)
{
	const char *ms = text_of(b, "next_start_ms");
	bool yes = strcmp(text_of(b, "supervised"), "true") == 0, there = strcmp(text_of(b, "registered"), "true") == 0;

	snprintf(buf, len, yes ? "%s restarts" : "", text_of(b, "restarts"));
	if (yes && *ms)
		snprintf(buf + strlen(buf), len - strlen(buf), ", next in %.1f s", atof(ms) / 1000);
	else if (yes && !there)
		snprintf(buf + strlen(buf), len - strlen(buf), ", starting");
}

int cmd_backend_list(struct pvio *p)
{
	static const struct column columns[] = {
		{ "BACKEND", "name", false, NULL }, { "TYPE", "type", false, NULL }, { "PID", "pid", true, NULL },
		{ "DOMID", "domid", true, NULL }, { "DEVICES", "devices", true, NULL }, { "TIMEOUTS", "timeouts", true, NULL },
		{ "VERSION", "version", false, NULL }, { "BY PVIOD", NULL, false, supervised_text },
	};
	struct json_object *o, *backends = NULL;
	int rc;

	o = ask(p, "backend.list", json_object_new_object(), 0, &rc);
	if (!o)
		return rc;
	json_object_object_get_ex(o, "backends", &backends);
	if (p->json)
		print_json(json_object_get(backends));
	else
		print_table(backends, columns, sizeof(columns) / sizeof(columns[0]), "no backends; start pvio-netback or pvio-blkback");
	json_object_put(o);
	return EXIT_DONE;
}

/* Of this command; and of pviod, if it runs. */
int cmd_version(struct pvio *p)
{
	struct json_object *o = json_object_new_object(), *pviod = NULL;
	char path[PATH_MAX + 16], why[512], *text = NULL;

	snprintf(path, sizeof(path), "%s/pviod.sock", p->dir);
	if (pv_tool_open(path, &p->tool, why, sizeof(why)) == 0 && pv_tool_call(p->tool, "version", NULL, 0, &text) == 0)
		pviod = json_tokener_parse(text);
	free(text);
	json_object_object_add(o, "pvio", json_object_new_string(PVIO_VERSION));
	json_object_object_add(o, "pviod", pviod);
	if (p->json)
		return print_json(o);
	printf("pvio %s\n", PVIO_VERSION);
	if (pviod)
		printf("pviod %s, pid %s, %s hypervisor\n", text_of(pviod, "version"), text_of(pviod, "pid"), text_of(pviod, "hypervisor"));
	else
		printf("pviod does not run (%s)\n", p->dir);
	json_object_put(o);
	return EXIT_DONE;
}
