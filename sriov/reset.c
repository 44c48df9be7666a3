/* reset.c - a function-level reset, through the kernel, which then waits until the device answers again.
 *
 * Where that fails the kernel goes on to the next method that it knows for the device, down to a reset of the whole bus, so all
 * others are taken from its list first (reset_method). What the list was is put back by vf_reset_put_back.
 */
#include "sriov.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define KEY "reset_method" /* in a record's `more`: what the list was */

/* Those that reset one function and nothing else; the first: a quirk in place of a broken one of the others. */
static const char *const function_level[] = { "device_specific", "flr", "af_flr" };

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = strstr(list, word); p; p = strstr(p + n, word))
		if ((p == list || p[-1] == ' ') && (p[n] == ' ' || !p[n]))
			return true;
	return false;
}

int vf_reset_methods(const char *has, const char *also, char out[VF_NAME_MAX])
{
	size_t n = 0;

	*out = '\0';
	for (size_t i = 0; i < sizeof(function_level) / sizeof(function_level[0]); i++)
		if (has_word(has, function_level[i]))
			n += snprintf(out + n, VF_NAME_MAX - n, "%s%s", n ? " " : "", function_level[i]);
	if (!n && *also && has_word(has, also))
		n = snprintf(out, VF_NAME_MAX, "%s", also);
	return n ? 0 : -ENOTTY;
}

/* A bus is reset only if nothing else is on it. */
static int check_bus(struct vf_sys *s, struct vf_bdf vf, struct vf_why *why)
{
	struct vf_bdf_str me = vf_text(vf);
	struct vf_names names;
	int n = vf_sys_names(s, &names, "/sys/bus/pci/devices"), rc = n < 0 ? n : 0;

	for (int i = 0; i < n && rc == 0; i++)
		if (strncmp(names.name[i], me.s, 8) == 0 && strcmp(names.name[i], me.s)) /* "0000:01:" */
			rc = vf_fail(why, -EBUSY, "VF %s: its bus is not reset: %s is on it as well", me.s, names.name[i]);
	if (n >= 0)
		vf_names_free(&names);
	return rc;
}

static int remember(struct vf_sys *s, struct vf_record *r, const char *methods)
{
	if (r->more && json_object_object_get_ex(r->more, KEY, NULL))
		return 0;
	if (!r->more)
		r->more = json_object_new_object();
	json_object_object_add(r->more, KEY, json_object_new_string(methods));
	return vf_record_save(s, r);
}

/* Leave only what may be done. */
static int restrict_methods(struct vf_sys *s, struct vf_record *r, const char *also, struct vf_why *why)
{
	struct vf_bdf_str me = vf_text(r->vf);
	char has[VF_ATTR_MAX], may[VF_NAME_MAX];
	int rc = vf_pci_read(s, r->vf, "reset_method", has, sizeof(has));

	if (rc < 0)
		return vf_fail(why, -ENOTTY, "VF %s: this kernel knows no way to reset it", me.s);
	rc = vf_reset_methods(has, also, may);
	if (rc < 0)
		return vf_fail(why, rc, "VF %s: it has no function-level reset (it has: %s)%s", me.s, *has ? has : "none",
			       *has ? "; --reset METHOD allows another" : "");
	rc = strcmp(may, "bus") ? 0 : check_bus(s, r->vf, why);
	if (rc < 0 || strcmp(may, has) == 0)
		return rc;
	rc = remember(s, r, has);
	rc = rc < 0 ? rc : vf_pci_write(s, r->vf, "reset_method", may);
	return rc < 0 ? vf_fail(why, rc, "VF %s: its reset_method cannot be set to %s: %s", me.s, may, strerror(-rc)) : 0;
}

int vf_reset(struct vf_sys *s, struct vf_record *r, const char *also, unsigned timeout_ms, struct vf_why *why)
{
	struct vf_bdf_str me = vf_text(r->vf);
	int rc = restrict_methods(s, r, also, why);

	if (rc < 0)
		return rc;
	rc = vf_sys_write_within(s, r->lock, timeout_ms, "1", "/sys/bus/pci/devices/%s/reset", me.s);
	if (rc == -ETIMEDOUT)
		return vf_fail(why, rc, "VF %s: its reset has not come back after %u.%u s", me.s, timeout_ms / 1000, timeout_ms % 1000 / 100);
	return rc < 0 ? vf_fail(why, rc, "VF %s: its reset failed: %s", me.s, strerror(-rc)) : 0;
}

int vf_reset_put_back(struct vf_sys *s, struct vf_record *r)
{
	struct json_object *was;

	if (!r->more || !json_object_object_get_ex(r->more, KEY, &was))
		return 0;
	return vf_pci_write(s, r->vf, "reset_method", json_object_get_string(was));
}
