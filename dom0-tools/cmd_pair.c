/* cmd_pair.c - pvio pair: which of a vif and a VF that are one NIC the guest uses. */
#include "pvio.h"
#include <stdio.h>
#include <string.h>

static struct json_object *config_of(struct json_object *device)
{
	struct json_object *config = NULL;

	json_object_object_get_ex(device, "config", &config);
	return config;
}

/* The guest's vif that forms a pair and is called so ("vif0", "0"), or whose VF is. NULL: there is none. */
static struct json_object *find(struct json_object *devices, const char *name)
{
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		struct json_object *d = json_object_array_get_idx(devices, i);
		const char *vf = text_of(config_of(d), "pair"), *vif = text_of(d, "name");

		if (!*vf || strcmp(text_of(d, "type"), "vif"))
			continue;
		if (strcmp(name, vf) == 0 || strcmp(name, vif) == 0 || (strncmp(name, "vif", 3) == 0 && strcmp(name + 3, vif) == 0))
			return d;
	}
	return NULL;
}

static struct json_object *which(const char *guest, struct json_object *vif)
{
	struct json_object *params = json_object_new_object();
	char device[64];

	snprintf(device, sizeof(device), "vif%s", text_of(vif, "name"));
	json_object_object_add(params, "guest", json_object_new_string(guest));
	json_object_object_add(params, "device", json_object_new_string(device));
	return params;
}

/* Tell the guest, then wait for it; seconds 0: do not. */
static int move(struct pvio *p, const char *guest, struct json_object *vif, const char *use, double seconds)
{
	struct json_object *params = which(guest, vif), *config = json_object_new_object(), *o;
	int rc;

	json_object_object_add(config, "use", json_object_new_string(use));
	json_object_object_add(params, "config", config);
	o = ask(p, "set", params, 30000, &rc);
	json_object_put(o);
	if (!o || seconds == 0)
		return o ? EXIT_DONE : rc;
	params = which(guest, vif);
	json_object_object_add(params, "timeout_ms", json_object_new_int64((int64_t)(seconds * 1000)));
	o = ask(p, "pair.wait", params, (unsigned)(seconds * 1000) + 30000, &rc);
	json_object_put(o);
	return o ? EXIT_DONE : rc;
}

/* Returns -1: there is no such vif. */
static int find_and_move(struct pvio *p, const char *guest, const char *name, const char *use, double seconds)
{
	struct json_object *devices, *vif;
	int rc;

	devices = ask_devices(p, "list", guest, NULL, &rc);
	if (!devices)
		return rc;
	vif = find(devices, name);
	rc = vif ? move(p, guest, vif, use, seconds) : -1;
	json_object_put(devices);
	return rc;
}

/* The address of a guest's device, if that is a VF ("vf0", "vf/0"). NULL: it is none. */
static const char *address_of(struct json_object *devices, const char *device)
{
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		struct json_object *d = json_object_array_get_idx(devices, i);

		if (strcmp(text_of(d, "type"), "vf") == 0 && strcmp(device + 2 + (device[2] == '/'), text_of(d, "name")) == 0)
			return text_of(config_of(d), "bdf");
	}
	return NULL;
}

void pair_vf_leaves(struct pvio *p, const char *guest, const char *device, double seconds)
{
	struct json_object *devices, *vif;
	const char *address;
	int rc;

	if (strncmp(device, "vf", 2))
		return;
	devices = ask_devices(p, "list", guest, NULL, &rc);
	address = devices ? address_of(devices, device) : NULL;
	vif = address ? find(devices, address) : NULL;
	if (vif)
		move(p, guest, vif, "vif", seconds);
	json_object_put(devices);
}

void pair_vf_comes(struct pvio *p, struct json_object *device)
{
	const char *address = text_of(config_of(device), "bdf");

	if (strcmp(text_of(device, "type"), "vf") == 0 && *address)
		find_and_move(p, text_of(device, "guest"), address, "vf", 0);
}

int cmd_pair(struct pvio *p)
{
	double seconds = opt_seconds(p, "--timeout", 5);
	const char *use = p->args[2];
	int rc;

	if (seconds < 0)
		return EXIT_USAGE;
	if (strcmp(use, "vf") && strcmp(use, "vif"))
		return say_usage(p, "%s is neither vf nor vif", use);
	rc = find_and_move(p, p->args[0], p->args[1], use, seconds);
	if (rc < 0)
		return say_failed(p, "no vif of %s that forms a pair with a VF is called %s, nor is its VF; pvio set %s vif0 pair=NAME of the VF",
				  p->args[0], p->args[1], p->args[0]);
	return rc;
}
