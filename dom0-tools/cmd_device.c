/* cmd_device.c - pvio attach, set, resize and detach. */
#include "pvio.h"
#include <pvio/options.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEY_LEN = 64, ANSWER_MS = 90000 /* pviod's patience with a backend of virtual functions is less */ };

/* The two sides of key=value. Returns 0, or EXIT_USAGE after a message. */
static int split(struct pvio *p, const char *arg, char key[KEY_LEN], const char **value)
{
	const char *eq = strchr(arg, '=');

	if (!eq || eq == arg || eq - arg >= KEY_LEN)
		return say_usage(p, "%s is not key=value", arg);
	snprintf(key, KEY_LEN, "%.*s", (int)(eq - arg), arg);
	*value = eq + 1;
	return 0;
}

/* Does it name a kind of image, KIND:REST, or a URI? The backend knows which there are, and what REST means. A file called so is ./KIND:REST. */
static bool names_a_kind(const char *path)
{
	size_t n = strspn(path, "abcdefghijklmnopqrstuvwxyz0123456789+");

	return n > 0 && path[n] == ':';
}

/* key=value into config. path= is made absolute here: pviod and the backend know nothing of our working directory. backend=
 * and dialect= are no keys of the device: they say who serves it and how it is shown, as --backend and --dialect. */
static int add_config(struct pvio *p, struct json_object *params, struct json_object *config, const char *arg)
{
	char key[KEY_LEN], cwd[PATH_MAX], path[2 * PATH_MAX];
	const char *value;
	int rc = split(p, arg, key, &value);

	if (rc)
		return rc;
	if (strcmp(key, "backend") == 0 || strcmp(key, "dialect") == 0) {
		json_object_object_add(params, key, json_object_new_string(value));
		return 0;
	}
	if (strcmp(key, "path") == 0 && *value && *value != '/' && !names_a_kind(value) && getcwd(cwd, sizeof(cwd))) {
		snprintf(path, sizeof(path), "%s/%s", cwd, value);
		value = path;
	}
	json_object_object_add(config, key, json_object_new_string(value));
	return 0;
}

int device_params(struct pvio *p, struct json_object *params, const char *guest, const char *type, const char *const *words, int n)
{
	struct json_object *config = json_object_new_object();
	int rc = 0;

	json_object_object_add(params, "guest", json_object_new_string(guest));
	json_object_object_add(params, "type", json_object_new_string(type));
	json_object_object_add(params, "config", config);
	for (int i = 0; i < n && rc == 0; i++) {
		if (strcmp(type, "vf") == 0 && strchr(words[i], ':') && !strchr(words[i], '=')) /* a function's address */
			json_object_object_add(config, "bdf", json_object_new_string(words[i]));
		else if (strchr(words[i], '='))
			rc = add_config(p, params, config, words[i]);
		else if (i == 0)
			json_object_object_add(params, "name", json_object_new_string(words[i]));
		else
			rc = say_usage(p, "%s is not key=value", words[i]);
	}
	return rc;
}

static int attach_params(struct pvio *p, struct json_object *params)
{
	int rc = device_params(p, params, p->args[0], p->args[1], p->args + 2, p->nargs - 2);

	if (opt_value(p, "--backend"))
		json_object_object_add(params, "backend", json_object_new_string(opt_value(p, "--backend")));
	if (opt_value(p, "--dialect"))
		json_object_object_add(params, "dialect", json_object_new_string(opt_value(p, "--dialect")));
	return rc;
}

static void print_attached(struct json_object *d)
{
	printf("%s %s %s: ", text_of(d, "guest"), text_of(d, "type"), text_of(d, "name"));
	if (*text_of(d, "connect_us"))
		printf("%s; announced in %s us, connected in %s us\n", text_of(d, "state"), text_of(d, "offer_us"), text_of(d, "connect_us"));
	else
		printf("%s; announced in %s us\n", text_of(d, "state"), text_of(d, "offer_us"));
}

int cmd_attach(struct pvio *p)
{
	struct json_object *params = json_object_new_object(), *d = NULL;
	double wait = opt_value(p, "--wait") ? opt_seconds(p, "--wait", 10) : 0;
	int rc = wait < 0 ? EXIT_USAGE : attach_params(p, params);

	if (rc) {
		json_object_put(params);
		return rc;
	}
	if (wait > 0)
		json_object_object_add(params, "wait_ms", json_object_new_int64(wait * 1000));
	d = ask(p, "attach", params, wait * 1000 + ANSWER_MS, &rc);
	if (!d)
		return rc;
	pair_vf_comes(p, d);
	if (p->json)
		return print_json(d);
	print_attached(d);
	json_object_put(d);
	return EXIT_DONE;
}

int cmd_set(struct pvio *p)
{
	struct json_object *params = json_object_new_object(), *config = json_object_new_object(), *o;
	char key[KEY_LEN];
	const char *value;
	int rc = 0;

	json_object_object_add(params, "guest", json_object_new_string(p->args[0]));
	json_object_object_add(params, "device", json_object_new_string(p->args[1]));
	json_object_object_add(params, "config", config);
	for (int i = 2; i < p->nargs && rc == 0; i++) {
		rc = split(p, p->args[i], key, &value);
		if (rc == 0) /* null: as if it had never been given */
			json_object_object_add(config, key, *value ? json_object_new_string(value) : NULL);
	}
	if (rc) {
		json_object_put(params);
		return rc;
	}
	o = ask(p, "set", params, 30000, &rc);
	json_object_put(o);
	return o ? EXIT_DONE : rc;
}

int cmd_resize(struct pvio *p)
{
	struct json_object *params, *o;
	uint64_t bytes = 0;
	int rc = EXIT_DONE;

	if (p->nargs > 2 && (pv_option_size(NULL, p->args[2], &bytes) < 0 || !bytes || bytes > INT64_MAX))
		return say_usage(p, "%s is no size in bytes, such as 20G", p->args[2]);
	params = json_object_new_object();
	json_object_object_add(params, "guest", json_object_new_string(p->args[0]));
	json_object_object_add(params, "device", json_object_new_string(p->args[1]));
	json_object_object_add(params, "size", json_object_new_int64((int64_t)bytes));
	json_object_object_add(params, "force", json_object_new_boolean(opt_value(p, "--force") != NULL));
	o = ask(p, "resize", params, 30000, &rc);
	if (!o)
		return rc;
	if (p->json)
		return print_json(o);
	printf("%s %s: %s sectors\n", p->args[0], p->args[1], text_of(o, "sectors"));
	json_object_put(o);
	return EXIT_DONE;
}

int cmd_detach(struct pvio *p)
{
	struct json_object *params = json_object_new_object(), *o;
	double seconds = opt_seconds(p, "--timeout", 5);
	char device[PATH_MAX];
	int rc = EXIT_USAGE;

	if (seconds < 0) {
		json_object_put(params);
		return rc;
	}
	snprintf(device, sizeof(device), "%s%s%s", p->args[1], p->nargs > 2 ? "/" : "", p->nargs > 2 ? p->args[2] : "");
	json_object_object_add(params, "guest", json_object_new_string(p->args[0]));
	json_object_object_add(params, "device", json_object_new_string(device));
	json_object_object_add(params, "force", json_object_new_boolean(opt_value(p, "--force") != NULL));
	json_object_object_add(params, "timeout_ms", json_object_new_int64(seconds * 1000));
	pair_vf_leaves(p, p->args[0], device, opt_value(p, "--force") ? 0 : seconds);
	o = ask(p, "detach", params, seconds * 1000 + ANSWER_MS, &rc);
	json_object_put(o);
	return o ? EXIT_DONE : rc;
}
