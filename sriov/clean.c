/* clean.c - is a VF as one that was just made? Told from its configuration space and from what its PF's driver says of it.
 *
 * A device that was taken from a guest may go on with what the guest had told it to do, into memory that is somebody else's by then
 * (XSA-302): so nobody gets one, not even this machine's own driver, before it has shown that it may do nothing.
 */
#include "sriov.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CAPS_MAX = 48 };

/* ---- configuration space: pure ---- */

static unsigned get16(const uint8_t *conf, unsigned at)
{
	return conf[at] | conf[at + 1] << 8;
}

static uint32_t get32(const uint8_t *conf, unsigned at)
{
	return get16(conf, at) | (uint32_t)get16(conf, at + 2) << 16;
}

/* What of a capability's registers has to be zero in a VF at rest. */
static const struct {
	uint8_t cap, at;
	uint16_t mask;
	const char *what;
} at_rest[] = {
	{ PCI_CAP_ID_MSI, PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE, "MSI is enabled" },
	{ PCI_CAP_ID_MSIX, PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, "MSI-X is enabled" },
	{ PCI_CAP_ID_PM, PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK, "it sleeps (power state other than D0)" },
	{ PCI_CAP_ID_EXP, PCI_EXP_DEVSTA, PCI_EXP_DEVSTA_TRPND, "requests of its are still pending" },
};

static int check_capabilities(const uint8_t *conf, struct vf_why *why)
{
	unsigned at = conf[PCI_CAPABILITY_LIST] & ~3u;
	bool express = false;

	for (int n = 0; at >= PCI_STD_HEADER_SIZEOF && n < CAPS_MAX; n++, at = conf[at + PCI_CAP_LIST_NEXT] & ~3u) {
		express |= conf[at] == PCI_CAP_ID_EXP;
		for (size_t i = 0; i < sizeof(at_rest) / sizeof(at_rest[0]); i++)
			if (conf[at] == at_rest[i].cap && at + at_rest[i].at + 2 <= VF_CONF_LEN && (get16(conf, at + at_rest[i].at) & at_rest[i].mask))
				return vf_fail(why, -EBUSY, "%s", at_rest[i].what);
	}
	return express ? 0 : vf_fail(why, -EIO, "it shows no PCI Express capability, which every VF has");
}

int vf_conf_clean(const uint8_t conf[VF_CONF_LEN], struct vf_why *why)
{
	unsigned command = get16(conf, PCI_COMMAND) & ~PCI_COMMAND_INTX_DISABLE; /* which the kernel sets in what has no driver */

	if (get32(conf, PCI_COMMAND) == UINT32_MAX)
		return vf_fail(why, -EIO, "it does not answer: its configuration space reads as all ones");
	if (command & PCI_COMMAND_MASTER)
		return vf_fail(why, -EBUSY, "it may write to memory (command register %#06x)", command);
	if (command)
		return vf_fail(why, -EBUSY, "its command register is %#06x, not 0", command);
	/* a VF's are wired to 0: its memory is said by the PF's SR-IOV capability, to the kernel alone */
	for (unsigned at = PCI_BASE_ADDRESS_0; at <= PCI_BASE_ADDRESS_5; at += 4)
		if (get32(conf, at))
			return vf_fail(why, -EBUSY, "its BAR %u is %#x, where a VF's is 0", (at - PCI_BASE_ADDRESS_0) / 4, get32(conf, at));
	if (get32(conf, PCI_ROM_ADDRESS))
		return vf_fail(why, -EBUSY, "its ROM BAR is %#x, where a VF's is 0", get32(conf, PCI_ROM_ADDRESS));
	return check_capabilities(conf, why);
}

/* ---- the device ---- */

static int open_conf(struct vf_sys *s, struct vf_bdf vf, int flags)
{
	return vf_sys_open_file(s, flags, "/sys/bus/pci/devices/%s/config", vf_text(vf).s);
}

int vf_conf_check(struct vf_sys *s, struct vf_bdf vf, struct vf_why *why)
{
	uint8_t conf[VF_CONF_LEN];
	struct vf_why what;
	int fd = open_conf(s, vf, O_RDONLY), rc = fd;
	ssize_t n;

	if (fd >= 0) {
		n = pread(fd, conf, sizeof(conf), 0);
		rc = n == sizeof(conf) ? 0 : n < 0 ? -errno : -EIO;
		close(fd);
	}
	if (rc < 0)
		return vf_fail(why, rc, "VF %s: its configuration space cannot be read: %s", vf_text(vf).s, strerror(-rc));
	rc = vf_conf_clean(conf, &what);
	return rc < 0 ? vf_fail(why, rc, "VF %s is not clean: %s", vf_text(vf).s, what.text) : 0;
}

int vf_conf_silence(struct vf_sys *s, struct vf_bdf vf)
{
	uint8_t command[2] = { 0 };
	int fd = open_conf(s, vf, O_RDWR), rc = fd;

	if (fd < 0)
		return fd;
	if (pread(fd, command, sizeof(command), PCI_COMMAND) < 0)
		rc = -errno;
	else if (command[0] | command[1])
		rc = pwrite(fd, "\0", sizeof(command), PCI_COMMAND) < 0 ? -errno : 1;
	else
		rc = 0;
	close(fd);
	if (rc > 0)
		vf_sys_changed(s);
	return rc < 0 ? rc : 0;
}

/* ---- its settings ---- */

unsigned vf_settings_left(const struct vf_settings *is, const struct vf_settings *declared, const struct vf_settings *was)
{
	static const uint8_t none[sizeof(is->mac)];
	struct vf_settings clean;
	unsigned left;

	vf_settings_default(&clean, is->set);
	vf_settings_merge(&clean, declared);
	left = vf_settings_differ(&clean, is) & is->set;
	/* told to have none, some drivers make one up: what counts is that the former owner's is gone */
	if (memcmp(clean.mac, none, sizeof(none)) == 0 && !vf_settings_equal(is, was, VF_MAC))
		left &= ~(1u << VF_MAC);
	return left;
}

int vf_settings_now(struct vf_sys *s, const struct vf_pf *pf, unsigned index, struct vf_settings *is, struct vf_why *why)
{
	struct vf_settings *all = calloc(pf->num + 1, sizeof(*all));
	int n = all ? vf_nl_get(s, pf, all, NULL, pf->num + 1, why) : -ENOMEM;

	if (n > (int)index)
		*is = all[index];
	free(all);
	if (n < 0)
		return n;
	return n > (int)index ? 0 : vf_fail(why, -ENODEV, "PF %s: its driver knows no VF %u", pf->dev.netdev, index);
}
