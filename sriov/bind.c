/* bind.c - which driver a VF has: always by its driver_override, which no other device sees, and which works where
 * sriov_drivers_autoprobe is 0 as well, where the kernel refuses a VF to every driver that is not named so. */
#include "sriov.h"
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

/* The override of what no driver shall have: none is called so. */
#define NOBODY "pvio-quarantine"
#define DRIVERS "/sys/bus/pci/drivers/%s"

enum { WRITE_MS = 10000 };

/* ---- which driver is meant ---- */

/* The kernel module for a device, as modprobe finds it: "alias pci:v00008086d000010CAsv*sd*bc*sc*i* igbvf". */
static int module_for(FILE *aliases, const char *modalias, char module[VF_NAME_MAX])
{
	char line[512], pattern[256];

	while (fgets(line, sizeof(line), aliases))
		if (sscanf(line, "alias pci:%255s %63s", pattern, module) == 2 && fnmatch(pattern, modalias, 0) == 0)
			return 0;
	return -ENOENT;
}

static int module_of(struct vf_sys *s, struct vf_bdf vf, char module[VF_NAME_MAX])
{
	char modalias[VF_ATTR_MAX];
	struct utsname u;
	FILE *aliases;
	int fd, rc;

	if (uname(&u) < 0 || vf_pci_read(s, vf, "modalias", modalias, sizeof(modalias)) < 4)
		return -ENOENT;
	fd = vf_sys_open_file(s, O_RDONLY, "/lib/modules/%s/modules.alias", u.release);
	if (fd < 0)
		return fd;
	aliases = fdopen(fd, "r");
	rc = module_for(aliases, modalias + 4, module); /* after "pci:" */
	fclose(aliases);
	return rc;
}

/* What the module's PCI driver is called, which need not be the module's name. */
static int driver_of(struct vf_sys *s, const char *module, char driver[VF_NAME_MAX])
{
	struct vf_names names;
	int n = vf_sys_names(s, &names, "/sys/module/%s/drivers", module), rc = -ENOENT;

	for (int i = 0; i < n && rc < 0; i++)
		if (strncmp(names.name[i], "pci:", 4) == 0)
			rc = snprintf(driver, VF_NAME_MAX, "%s", names.name[i] + 4);
	if (n >= 0)
		vf_names_free(&names);
	return rc < 0 ? rc : 0;
}

int vf_driver_find(struct vf_sys *s, struct vf_bdf vf, const char *word, char driver[VF_NAME_MAX], struct vf_why *why)
{
	char module[VF_NAME_MAX];

	snprintf(driver, VF_NAME_MAX, "%s", word);
	if (strcmp(word, "netdev") == 0) {
		if (module_of(s, vf, module) < 0)
			return vf_fail(why, -ENOENT, "VF %s: this kernel has no driver for it; name one that is loaded", vf_text(vf).s);
		if (driver_of(s, module, driver) < 0)
			return vf_fail(why, -ENOENT, "VF %s: its driver is not loaded: modprobe %s", vf_text(vf).s, module);
	}
	if (strchr(driver, '/') || !*driver || !vf_sys_has(s, DRIVERS, driver))
		return vf_fail(why, -ENOENT, "VF %s: no driver %s is loaded: modprobe %s", vf_text(vf).s, driver,
			       strcmp(driver, "pciback") ? driver : "xen-pciback");
	return 0;
}

/* ---- driver and override ---- */

static int set_override(struct vf_sys *s, const struct vf_record *r, const char *to, struct vf_why *why)
{
	char is[VF_NAME_MAX];
	int rc;

	if (vf_override(s, r->vf, is) == 0 && strcmp(is, to) == 0)
		return 0;
	rc = vf_sys_write_within(s, r->lock, WRITE_MS, *to ? to : "\n", "/sys/bus/pci/devices/%s/driver_override", vf_text(r->vf).s);
	return rc < 0 ? vf_fail(why, rc, "VF %s: its driver_override cannot be set: %s", vf_text(r->vf).s, strerror(-rc)) : 0;
}

int vf_override(struct vf_sys *s, struct vf_bdf vf, char override[VF_NAME_MAX])
{
	int rc = vf_pci_read(s, vf, "driver_override", override, VF_NAME_MAX);

	if (rc >= 0 && strcmp(override, "(null)") == 0) /* so the kernel prints none */
		*override = '\0';
	return rc < 0 ? rc : 0;
}

int vf_driver(struct vf_sys *s, struct vf_bdf vf, char driver[VF_NAME_MAX])
{
	int rc = vf_pci_link(s, vf, "driver", driver, VF_NAME_MAX);

	return rc >= 0 || (rc == -ENOENT && vf_pci_has(s, vf, "")) ? 0 : -ENODEV;
}

static int unbind(struct vf_sys *s, const struct vf_record *r, const char *driver, struct vf_why *why)
{
	struct vf_bdf_str me = vf_text(r->vf);
	int rc;

	if (!*driver)
		return 0;
	rc = vf_sys_write_within(s, r->lock, WRITE_MS, me.s, DRIVERS "/unbind", driver);
	if (rc == -ETIMEDOUT)
		return vf_fail(why, rc, "VF %s: its driver %s does not let go of it: end the program that has it open", me.s, driver);
	if (rc < 0 && rc != -ENODEV) /* ENODEV: it has let go by itself */
		return vf_fail(why, rc, "VF %s: it cannot be unbound from %s: %s", me.s, driver, strerror(-rc));
	if (strcmp(driver, "pciback") == 0 && vf_sys_has(s, DRIVERS "/remove_slot", driver))
		vf_sys_write(s, me.s, DRIVERS "/remove_slot", driver); /* what its probe noted down; refused: it did not */
	return 0;
}

static int bind(struct vf_sys *s, const struct vf_record *r, const char *driver, struct vf_why *why)
{
	struct vf_bdf_str me = vf_text(r->vf);
	char now[VF_NAME_MAX] = "";
	int rc = vf_sys_write_within(s, r->lock, WRITE_MS, me.s, DRIVERS "/bind", driver);

	if (rc == 0 && vf_driver(s, r->vf, now) == 0 && strcmp(now, driver))
		rc = -ENODEV;
	return rc < 0 ? vf_fail(why, rc, "VF %s: driver %s does not take it: %s; the kernel's log may say why", me.s, driver, strerror(-rc)) : 0;
}

/* ---- for the others ---- */

int vf_bind(struct vf_sys *s, struct vf_record *r, const char *driver, struct vf_why *why)
{
	char now[VF_NAME_MAX];
	int rc = vf_driver(s, r->vf, now);

	if (rc < 0)
		return vf_fail(why, rc, "VF %s: there is no such device any more", vf_text(r->vf).s);
	rc = set_override(s, r, driver, why); /* first: once unbound it is nobody else's */
	if (rc < 0 || strcmp(now, driver) == 0)
		return rc;
	rc = unbind(s, r, now, why);
	return rc < 0 ? rc : bind(s, r, driver, why);
}

int vf_detach(struct vf_sys *s, struct vf_record *r, struct vf_why *why)
{
	char now[VF_NAME_MAX];
	int rc = vf_driver(s, r->vf, now);

	if (rc < 0)
		return vf_fail(why, rc, "VF %s: there is no such device any more", vf_text(r->vf).s);
	rc = set_override(s, r, NOBODY, why);
	return rc < 0 ? rc : unbind(s, r, now, why);
}

int vf_unbind(struct vf_sys *s, struct vf_record *r, struct vf_why *why)
{
	char now[VF_NAME_MAX];
	int rc = vf_driver(s, r->vf, now);

	if (rc == 0 && strcmp(now, r->driver_before)) {
		rc = vf_detach(s, r, why);
		/* by its name, as a VF's driver has to be where sriov_drivers_autoprobe is 0 */
		if (rc == 0 && *r->driver_before)
			rc = vf_bind(s, r, r->driver_before, why);
	}
	return rc < 0 ? rc : set_override(s, r, r->override_before, why);
}
