/* cmd_guest.c - pvio guest create, list, start, pause, shutdown, destroy. */
#include "pvio.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUILD_MS = 600 * 1000 /* the memory of a large guest takes its time */, WORDS_MAX = 40 };

/* ---- create ---- */

static void add_option(struct pvio *p, struct json_object *params, const char *option, const char *key)
{
	if (opt_value(p, option))
		json_object_object_add(params, key, json_object_new_string(opt_value(p, option)));
}

/* pviod knows nothing of our working directory. */
static void add_file(struct pvio *p, struct json_object *params, const char *option, const char *key)
{
	const char *v = opt_value(p, option);
	char cwd[PATH_MAX], path[2 * PATH_MAX];

	if (!v)
		return;
	if (*v != '/' && getcwd(cwd, sizeof(cwd))) {
		snprintf(path, sizeof(path), "%s/%s", cwd, v);
		v = path;
	}
	json_object_object_add(params, key, json_object_new_string(v));
}

/* Returns 0, or EXIT_USAGE after a message. */
static int add_number(struct pvio *p, struct json_object *params, const char *option, const char *key, long max)
{
	long n = opt_number(p, option, 0, 1, max);

	if (n > 0)
		json_object_object_add(params, key, json_object_new_int64(n));
	return n < 0 ? EXIT_USAGE : 0;
}

static int create_params(struct pvio *p, struct json_object *params)
{
	const char *const *vfs;
	int rc = add_number(p, params, "--domid", "domid", 0x7fef); /* domain 0 is the toolstack's */

	if (rc == 0)
		rc = add_number(p, params, "--memory", "memory", 1 << 23);
	if (rc == 0)
		rc = add_number(p, params, "--vcpus", "vcpus", 128);
	json_object_object_add(params, "name", json_object_new_string(p->args[0]));
	if (opt_value(p, "--passthrough") || opt_count(p, "--vf", &vfs))
		json_object_object_add(params, "passthrough", json_object_new_boolean(true));
	add_option(p, params, "--type", "type");
	add_option(p, params, "--cmdline", "cmdline");
	add_option(p, params, "--uuid", "uuid");
	add_file(p, params, "--kernel", "kernel");
	add_file(p, params, "--ramdisk", "ramdisk");
	return rc;
}

/* "xvda path=disk.img": what `pvio attach GUEST vbd` takes, in one word. Returns an exit code. */
static int attach_one(struct pvio *p, const char *type, const char *text)
{
	struct json_object *params = json_object_new_object(), *o;
	char *copy = strdup(text), *at = copy, *word;
	const char *words[WORDS_MAX];
	int n = 0, rc;

	while (n < WORDS_MAX && (word = strsep(&at, " ")))
		if (*word)
			words[n++] = word;
	rc = device_params(p, params, p->args[0], type, words, n);
	free(copy);
	if (rc) {
		json_object_put(params);
		return rc;
	}
	o = ask(p, "attach", params, 0, &rc);
	json_object_put(o);
	return o ? EXIT_DONE : rc;
}

static int attach_all(struct pvio *p)
{
	static const struct {
		const char *option, *type;
	} kinds[] = { { "--vbd", "vbd" }, { "--vif", "vif" }, { "--vf", "vf" } };
	int rc = EXIT_DONE;

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		const char *const *values;
		int n = opt_count(p, kinds[k].option, &values);

		for (int i = 0; i < n && rc == EXIT_DONE; i++)
			rc = attach_one(p, kinds[k].type, values[i]);
	}
	return rc;
}

/* Methods that take a guest and nothing more. Returns the answer, or NULL with *rc set. */
static struct json_object *ask_about(struct pvio *p, const char *method, int *rc)
{
	struct json_object *params = json_object_new_object();

	json_object_object_add(params, "guest", json_object_new_string(p->args[0]));
	return ask(p, method, params, 0, rc);
}

static void undo(struct pvio *p)
{
	struct json_object *params = json_object_new_object();
	int rc;

	json_object_object_add(params, "guest", json_object_new_string(p->args[0]));
	json_object_object_add(params, "force", json_object_new_boolean(true));
	json_object_put(ask(p, "guest.destroy", params, BUILD_MS, &rc));
}

/* Build it, attach its devices, and only then let it run. */
int cmd_guest_create(struct pvio *p)
{
	struct json_object *params = json_object_new_object(), *g = NULL, *started;
	int rc = create_params(p, params);

	if (rc) {
		json_object_put(params);
		return rc;
	}
	g = ask(p, "guest.create", params, BUILD_MS, &rc);
	if (!g)
		return rc;
	rc = attach_all(p);
	if (rc == EXIT_DONE && *text_of(g, "type") && !opt_value(p, "--paused")) {
		started = ask_about(p, "guest.start", &rc);
		json_object_put(g);
		g = started;
		rc = g ? EXIT_DONE : rc;
	}
	if (rc != EXIT_DONE) {
		undo(p);
		json_object_put(g);
		return rc;
	}
	if (p->json)
		return print_json(g);
	printf("guest %s: domain %s%s%s\n", text_of(g, "name"), text_of(g, "domid"), *text_of(g, "type") ? ", " : "", text_of(g, "type"));
	json_object_put(g);
	return EXIT_DONE;
}

/* ---- list ---- */

static void name_or_not(struct json_object *row, char *buf, size_t len)
{
	const char *name = text_of(row, "name");

	snprintf(buf, len, "%s", *name ? name : "(not pvio's)");
}

static void cpu_seconds(struct json_object *row, char *buf, size_t len)
{
	struct json_object *ms = NULL;

	json_object_object_get_ex(row, "cpu_ms", &ms);
	snprintf(buf, len, "%.1f", json_object_get_int64(ms) / 1000.0);
}

int cmd_guest_list(struct pvio *p)
{
	static const struct column columns[] = {
		{ "GUEST", "name", false, name_or_not }, { "DOMID", "domid", true, NULL }, { "DEVICES", "devices", true, NULL },
		{ "TYPE", "type", false, NULL }, { "STATE", "state", false, NULL }, { "MIB", "memory", true, NULL }, { "VCPUS", "vcpus", true, NULL },
		{ "CPU(S)", NULL, true, cpu_seconds },
	};
	struct json_object *o, *guests = NULL, *first;
	int rc;

	o = ask(p, "guest.list", json_object_new_object(), 0, &rc);
	if (!o)
		return rc;
	json_object_object_get_ex(o, "guests", &guests);
	first = json_object_array_length(guests) ? json_object_array_get_idx(guests, 0) : NULL;
	if (p->json)
		print_json(json_object_get(guests));
	else /* loopback: they have no CPUs and no memory of their own */
		print_table(guests, columns, first && !*text_of(first, "type") ? 3 : 8, "no guests; pvio guest create NAME makes one");
	json_object_put(o);
	return EXIT_DONE;
}

/* ---- start, pause, shutdown, destroy ---- */

static int tell(struct pvio *p, const char *method)
{
	struct json_object *o;
	int rc;

	o = ask_about(p, method, &rc);
	json_object_put(o);
	return o ? EXIT_DONE : rc;
}

int cmd_guest_start(struct pvio *p)
{
	return tell(p, "guest.start");
}

int cmd_guest_pause(struct pvio *p)
{
	return tell(p, "guest.pause");
}

/* With a --timeout, and a flag that is named as the method's parameter. */
static int end(struct pvio *p, const char *method, double seconds, const char *flag, const char *key)
{
	struct json_object *params, *o;
	int rc = EXIT_USAGE;

	seconds = opt_seconds(p, "--timeout", seconds);
	if (seconds < 0)
		return rc;
	params = json_object_new_object();
	json_object_object_add(params, "guest", json_object_new_string(p->args[0]));
	json_object_object_add(params, key, json_object_new_boolean(opt_value(p, flag) != NULL));
	json_object_object_add(params, "timeout_ms", json_object_new_int64(seconds * 1000));
	o = ask(p, method, params, seconds * 1000 + BUILD_MS, &rc);
	json_object_put(o);
	return o ? EXIT_DONE : rc;
}

int cmd_guest_shutdown(struct pvio *p)
{
	return end(p, "guest.shutdown", 30, "--reboot", "reboot");
}

int cmd_guest_destroy(struct pvio *p)
{
	return end(p, "guest.destroy", 5, "--force", "force");
}
