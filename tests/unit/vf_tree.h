/* vf_tree.h - a machine for the tests of sriov/: a tree of files below a temporary directory, and behind its attributes a small kernel
 * that does what Linux 6.1 does when they are written: virtual functions come and go, drivers bind, settings are kept per function.
 *
 *	struct vf_tree t;
 *	vf_tree_up(&t);
 *	vf_tree_pf(&t, (struct vf_tree_pf){ .bdf = "0000:01:00.0", .netdev = "eth1", .total = 7 });
 *	... vf_pci_write(&t.sys, pf, "sriov_numvfs", "7") ...
 *	vf_tree_down(&t);
 *
 * What is not files (settings, faults, counters) is in t.k, which forked processes share: to kill one after its n-th change, fork, set
 * t.sys.kill_at = n, and wait.
 */
#ifndef VF_TREE_H
#define VF_TREE_H

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/pci_regs.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "sriov/sriov.h"

enum { VF_TREE_PFS = 4, VF_TREE_VFS = 64, VF_TREE_OFFSET = 128, VF_TREE_STRIDE = 2 };
#define VF_TREE_UNUSED __attribute__((unused))

struct vf_tree_fault {
	int err; /* 0: none; else -errno of the next `times` writes */
	int times;
	char path[VF_PATH_MAX]; /* ends like this, such as "0000:01:10.0/reset" */
};

/* The kernel: shared by all processes of a test. Settings by PF (its ifindex - 10) and VF. */
struct vf_tree_kernel {
	struct vf_settings is[VF_TREE_PFS][VF_TREE_VFS];
	unsigned num[VF_TREE_PFS];
	unsigned npfs;
	int refuse[VF_KEYS]; /* 0: that setting is taken; else -errno */
	char refuse_text[80]; /* the kernel's words with it; "": none */
	unsigned sets, resets, numvfs_writes; /* how many there were */
	struct vf_tree_fault fault;
};

struct vf_tree {
	char root[64];
	struct vf_sys sys;
	struct vf_tree_kernel *k;
	char answer[1 << 16]; /* of netlink */
	size_t answer_len;
};

struct vf_tree_pf {
	const char *bdf;
	const char *netdev; /* NULL: none, an NVMe controller */
	unsigned total;
	int group; /* its IOMMU group; its VFs have the numbers after it, unless one_group */
	int numa;
	bool one_group; /* no isolation: the VFs are in the PF's group */
};

/* In place of libc's: what is tested is what a killed process leaves, not what a power cut does, and a busy disk takes its time. */
int fsync(int fd)
{
	(void)fd;
	return 0;
}

/* ---- files ---- */

static VF_TREE_UNUSED void vf_tree_put(struct vf_tree *t, const char *text, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static VF_TREE_UNUSED void vf_tree_put(struct vf_tree *t, const char *text, const char *fmt, ...)
{
	char path[VF_PATH_MAX], *slash;
	size_t n = snprintf(path, sizeof(path), "%s", t->root);
	va_list ap;
	FILE *f;

	va_start(ap, fmt);
	vsnprintf(path + n, sizeof(path) - n, fmt, ap);
	va_end(ap);
	for (slash = strchr(path + n + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	if (!text) { /* a directory */
		mkdir(path, 0755);
		return;
	}
	f = fopen(path, "we");
	if (!f || fputs(text, f) < 0 || fclose(f))
		abort();
}

/* A symbolic link PATH to `to`, which is a path below the root. */
static VF_TREE_UNUSED void vf_tree_link(struct vf_tree *t, const char *to, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static VF_TREE_UNUSED void vf_tree_link(struct vf_tree *t, const char *to, const char *fmt, ...)
{
	char path[VF_PATH_MAX], target[VF_PATH_MAX];
	size_t n = snprintf(path, sizeof(path), "%s", t->root);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path + n, sizeof(path) - n, fmt, ap);
	va_end(ap);
	snprintf(target, sizeof(target), "%s%s", t->root, to);
	unlink(path);
	if (symlink(target, path) < 0)
		abort();
}

static int vf_tree_rm(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static VF_TREE_UNUSED void vf_tree_remove(struct vf_tree *t, const char *below)
{
	char path[sizeof(t->root) + VF_PATH_MAX];

	snprintf(path, sizeof(path), "%s%s", t->root, below);
	nftw(path, vf_tree_rm, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- devices ---- */

#define VF_TREE_DEV "/sys/bus/pci/devices/%s"

static VF_TREE_UNUSED void vf_tree_bind(struct vf_tree *t, const char *bdf, const char *driver)
{
	char to[VF_PATH_MAX];

	snprintf(to, sizeof(to), "/sys/bus/pci/drivers/%s", driver);
	vf_tree_put(t, NULL, "/sys/bus/pci/drivers/%s", driver);
	vf_tree_link(t, to, VF_TREE_DEV "/driver", bdf);
	snprintf(to, sizeof(to), VF_TREE_DEV, bdf);
	vf_tree_link(t, to, "/sys/bus/pci/drivers/%s/%s", driver, bdf);
}

static VF_TREE_UNUSED void vf_tree_unbind(struct vf_tree *t, const char *bdf)
{
	char driver[64], path[VF_PATH_MAX];

	if (vf_sys_link(&t->sys, driver, sizeof(driver), VF_TREE_DEV "/driver", bdf) < 0)
		return;
	snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers/%s/%s", t->root, driver, bdf);
	unlink(path);
	snprintf(path, sizeof(path), "%s" VF_TREE_DEV "/driver", t->root, bdf);
	unlink(path);
}

static VF_TREE_UNUSED void vf_tree_group(struct vf_tree *t, const char *bdf, int group)
{
	char to[VF_PATH_MAX];

	snprintf(to, sizeof(to), VF_TREE_DEV, bdf);
	vf_tree_put(t, NULL, "/sys/kernel/iommu_groups/%d/devices", group);
	vf_tree_link(t, to, "/sys/kernel/iommu_groups/%d/devices/%s", group, bdf);
	snprintf(to, sizeof(to), "/sys/kernel/iommu_groups/%d", group);
	vf_tree_link(t, to, VF_TREE_DEV "/iommu_group", bdf);
	vf_tree_put(t, "", "/dev/vfio/%d", group);
}

/* The configuration space of a VF at rest but for its command register; its one capability is Express. */
static VF_TREE_UNUSED void vf_tree_conf(struct vf_tree *t, const char *bdf, uint16_t command)
{
	uint8_t conf[256] = { 0xff, 0xff, 0xff, 0xff, command & 0xff, command >> 8, PCI_STATUS_CAP_LIST };
	char path[VF_PATH_MAX];
	FILE *f;

	conf[PCI_CAPABILITY_LIST] = 0xa0;
	conf[0xa0] = PCI_CAP_ID_EXP;
	snprintf(path, sizeof(path), "%s" VF_TREE_DEV "/config", t->root, bdf);
	f = fopen(path, "we");
	if (!f || fwrite(conf, sizeof(conf), 1, f) != 1 || fclose(f))
		abort();
}

/* Any PCI function; group < 0: none. */
static VF_TREE_UNUSED void vf_tree_dev(struct vf_tree *t, const char *bdf, const char *vendor, const char *device, const char *class, int group, int numa)
{
	char text[VF_ATTR_MAX + 4];

	snprintf(text, sizeof(text), "%d\n", numa);
	vf_tree_put(t, text, VF_TREE_DEV "/numa_node", bdf);
	snprintf(text, sizeof(text), "0x%s\n", vendor);
	vf_tree_put(t, text, VF_TREE_DEV "/vendor", bdf);
	snprintf(text, sizeof(text), "0x%s\n", device);
	vf_tree_put(t, text, VF_TREE_DEV "/device", bdf);
	snprintf(text, sizeof(text), "0x%s\n", class);
	vf_tree_put(t, text, VF_TREE_DEV "/class", bdf);
	vf_tree_put(t, "(null)\n", VF_TREE_DEV "/driver_override", bdf);
	vf_tree_put(t, "flr\n", VF_TREE_DEV "/reset_method", bdf);
	vf_tree_put(t, "", VF_TREE_DEV "/reset", bdf);
	vf_tree_conf(t, bdf, 0);
	vf_tree_put(t, "", VF_TREE_DEV "/resource", bdf);
	if (group >= 0)
		vf_tree_group(t, bdf, group);
}

static VF_TREE_UNUSED void vf_tree_netdev(struct vf_tree *t, const char *bdf, const char *name, unsigned ifindex)
{
	static const char *const attrs[][2] = { { "address", "52:54:00:00:00:10\n" }, { "mtu", "1500\n" }, { "speed", "1000\n" },
						{ "carrier", "1\n" }, { "flags", "0x1003\n" }, { "operstate", "up\n" } };
	char text[VF_PATH_MAX];

	for (size_t i = 0; i < sizeof(attrs) / sizeof(attrs[0]); i++)
		vf_tree_put(t, attrs[i][1], VF_TREE_DEV "/net/%s/%s", bdf, name, attrs[i][0]);
	snprintf(text, sizeof(text), "%u\n", ifindex);
	vf_tree_put(t, text, VF_TREE_DEV "/net/%s/ifindex", bdf, name);
	vf_tree_put(t, NULL, "/sys/class/net");
	snprintf(text, sizeof(text), VF_TREE_DEV "/net/%s", bdf, name);
	vf_tree_link(t, text, "/sys/class/net/%s", name);
}

/* A PF with no VFs yet. The first one is igb's 10th interface, and so on: ifindex 10 + its number. */
static VF_TREE_UNUSED void vf_tree_pf(struct vf_tree *t, struct vf_tree_pf pf)
{
	unsigned n = t->k->npfs++;
	char text[32];

	vf_tree_dev(t, pf.bdf, pf.netdev ? "8086" : "1b36", pf.netdev ? "10c9" : "0010", pf.netdev ? "020000" : "010802", pf.group, pf.numa);
	vf_tree_bind(t, pf.bdf, pf.netdev ? "igb" : "nvme");
	snprintf(text, sizeof(text), "%u\n", pf.total);
	vf_tree_put(t, text, VF_TREE_DEV "/sriov_totalvfs", pf.bdf);
	vf_tree_put(t, "0\n", VF_TREE_DEV "/sriov_numvfs", pf.bdf);
	vf_tree_put(t, "1\n", VF_TREE_DEV "/sriov_drivers_autoprobe", pf.bdf);
	snprintf(text, sizeof(text), "%u %d %d\n", n, pf.group, pf.one_group);
	vf_tree_put(t, text, VF_TREE_DEV "/fake_pf", pf.bdf); /* for ourselves */
	if (pf.netdev)
		vf_tree_netdev(t, pf.bdf, pf.netdev, 10 + n);
	else
		vf_tree_put(t, NULL, VF_TREE_DEV "/nvme/nvme%u", pf.bdf, n);
}

/* The address of a PF's i-th VF, as igb's are: 0000:01:10.0, 0000:01:10.2 ... */
static VF_TREE_UNUSED struct vf_bdf vf_tree_vf(struct vf_bdf pf, unsigned i)
{
	unsigned id = (pf.bus << 8 | pf.slot << 3 | pf.fn) + VF_TREE_OFFSET + i * VF_TREE_STRIDE;

	return (struct vf_bdf){ pf.domain, id >> 8, id >> 3 & 31, id & 7 };
}

/* ---- the kernel behind the attributes ---- */

static void vf_tree_add_vf(struct vf_tree *t, struct vf_bdf pf, unsigned i, unsigned pfnum, int group, bool one_group)
{
	char vf[VF_BDF_TEXT], to[VF_PATH_MAX], class[VF_ATTR_MAX];
	int64_t numa = -1, autoprobe = 1;
	bool nvme;

	vf_bdf_text(vf_tree_vf(pf, i), vf);
	vf_pci_number(&t->sys, pf, "numa_node", &numa);
	vf_pci_number(&t->sys, pf, "sriov_drivers_autoprobe", &autoprobe);
	vf_pci_read(&t->sys, pf, "class", class, sizeof(class));
	nvme = strcmp(class, "0x010802") == 0;
	vf_tree_dev(t, vf, nvme ? "1b36" : "8086", nvme ? "0010" : "10ca", class + 2, group < 0 ? -1 : group + (one_group ? 0 : 1 + (int)i), numa);
	snprintf(to, sizeof(to), VF_TREE_DEV, vf_text(pf).s);
	vf_tree_link(t, to, VF_TREE_DEV "/physfn", vf);
	snprintf(to, sizeof(to), VF_TREE_DEV, vf);
	vf_tree_link(t, to, VF_TREE_DEV "/virtfn%u", vf_text(pf).s, i);
	if (autoprobe)
		vf_tree_bind(t, vf, nvme ? "nvme" : "igbvf");
	t->k->is[pfnum][i] = (struct vf_settings){ 0 };
	vf_settings_default(&t->k->is[pfnum][i], VF_ALL_KEYS & ~(1 << VF_RSS_QUERY));
}

static void vf_tree_del_vf(struct vf_tree *t, struct vf_bdf pf, unsigned i)
{
	char vf[VF_BDF_TEXT], path[VF_PATH_MAX], group[16];

	vf_bdf_text(vf_tree_vf(pf, i), vf);
	vf_tree_unbind(t, vf);
	if (vf_sys_link(&t->sys, group, sizeof(group), VF_TREE_DEV "/iommu_group", vf) > 0) {
		snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%s/devices/%s", group, vf);
		vf_tree_remove(t, path);
	}
	snprintf(path, sizeof(path), VF_TREE_DEV, vf);
	vf_tree_remove(t, path);
	snprintf(path, sizeof(path), VF_TREE_DEV "/virtfn%u", vf_text(pf).s, i);
	vf_tree_remove(t, path);
}

static int vf_tree_numvfs(struct vf_tree *t, struct vf_bdf pf, const char *text)
{
	unsigned want = strtoul(text, NULL, 0), n = 0;
	int group = -1, one_group = 0;
	int64_t total = 0, num = 0;
	char fake[64], count[16];

	t->k->numvfs_writes++;
	vf_pci_number(&t->sys, pf, "sriov_totalvfs", &total);
	vf_pci_number(&t->sys, pf, "sriov_numvfs", &num);
	vf_pci_read(&t->sys, pf, "fake_pf", fake, sizeof(fake));
	sscanf(fake, "%u %d %d", &n, &group, &one_group);
	if (want > total)
		return -ERANGE;
	if (want == num)
		return 0;
	if (want && num)
		return -EBUSY;
	for (unsigned i = 0; i < want; i++)
		vf_tree_add_vf(t, pf, i, n, group, one_group);
	for (unsigned i = 0; i < num; i++)
		vf_tree_del_vf(t, pf, i);
	t->k->num[n] = want;
	snprintf(count, sizeof(count), "%u\n", want);
	vf_tree_put(t, count, VF_TREE_DEV "/sriov_numvfs", vf_text(pf).s);
	return 0;
}

/* The driver that a device without an override gets when it is probed. */
static const char *vf_tree_own_driver(struct vf_tree *t, const char *bdf)
{
	char class[VF_ATTR_MAX];
	bool is_vf = vf_sys_has(&t->sys, VF_TREE_DEV "/physfn", bdf);

	vf_sys_read(&t->sys, class, sizeof(class), VF_TREE_DEV "/class", bdf);
	return !strcmp(class, "0x010802") ? "nvme" : strcmp(class, "0x020000") ? "" : is_vf ? "igbvf" : "igb";
}

/* drivers_probe (driver NULL) and drivers/X/bind: an override rules; without one, a VF is bound by its own driver if its PF says so. */
static int vf_tree_probe(struct vf_tree *t, const char *bdf, const char *driver)
{
	char override[64], bound[64];
	int64_t autoprobe = 1;

	if (vf_sys_read(&t->sys, override, sizeof(override), VF_TREE_DEV "/driver_override", bdf) < 0)
		return -ENODEV;
	if (vf_sys_link(&t->sys, bound, sizeof(bound), VF_TREE_DEV "/driver", bdf) > 0)
		return driver ? -ENODEV : 0;
	vf_sys_number(&t->sys, &autoprobe, VF_TREE_DEV "/physfn/sriov_drivers_autoprobe", bdf);
	if (*override == '\0' || strcmp(override, "(null)") == 0)
		snprintf(override, sizeof(override), "%s", autoprobe ? vf_tree_own_driver(t, bdf) : "");
	if (driver && strcmp(driver, override))
		return -ENODEV;
	if (*override && vf_sys_has(&t->sys, "/sys/bus/pci/drivers/%s", override))
		vf_tree_bind(t, bdf, override);
	return 0;
}

static int vf_tree_fails(struct vf_tree *t, const char *path)
{
	struct vf_tree_fault *f = &t->k->fault;
	size_t n = strlen(path), m = strlen(f->path);

	if (!f->err || f->times <= 0 || n < m || strcmp(path + n - m, f->path))
		return 0;
	f->times--;
	return f->err;
}

static int vf_tree_driver_attr(struct vf_tree *t, const char *path, const char *text)
{
	char driver[64], attr[64], bound[64];

	if (sscanf(path, "/sys/bus/pci/drivers/%63[^/]/%63s", driver, attr) != 2)
		return -ENOENT;
	if (strcmp(attr, "bind") == 0)
		return vf_tree_probe(t, text, driver);
	if (strcmp(attr, "unbind") == 0) {
		if (vf_sys_link(&t->sys, bound, sizeof(bound), VF_TREE_DEV "/driver", text) < 0 || strcmp(bound, driver))
			return -ENODEV;
		vf_tree_unbind(t, text);
	}
	return 0; /* new_slot, remove_slot, new_id ...: taken */
}

static int vf_tree_write(struct vf_sys *s, const char *path, const char *text)
{
	struct vf_tree *t = s->ctx;
	char bdf[VF_BDF_TEXT] = "", attr[VF_ATTR_MAX] = "";
	struct vf_bdf dev;
	int rc = vf_tree_fails(t, path);

	if (rc < 0)
		return rc;
	if (strcmp(path, "/sys/bus/pci/drivers_probe") == 0)
		return vf_tree_probe(t, text, NULL);
	if (strncmp(path, "/sys/bus/pci/drivers/", 21) == 0)
		return vf_tree_driver_attr(t, path, text);
	sscanf(path, "/sys/bus/pci/devices/%12[^/]/%255s", bdf, attr);
	if (vf_bdf_parse(bdf, &dev) == 0 && !vf_pci_has(s, dev, ""))
		return -ENOENT;
	if (strcmp(attr, "sriov_numvfs") == 0)
		return vf_tree_numvfs(t, dev, text);
	if (strcmp(attr, "driver/unbind") == 0) {
		if (strcmp(text, bdf) || !vf_pci_has(s, dev, "driver"))
			return -ENODEV;
		vf_tree_unbind(t, bdf);
		return 0;
	}
	if (strcmp(attr, "reset") == 0)
		t->k->resets++;
	if (strcmp(attr, "driver_override") == 0 && (!*text || *text == '\n'))
		text = "(null)";
	vf_tree_put(t, text, "%s", path);
	return 0;
}

/* ---- the kernel behind netlink ---- */

static void vf_tree_put_vf(struct nlmsghdr *m, unsigned i, const struct vf_settings *v)
{
	struct nlattr *one = mnl_attr_nest_start(m, IFLA_VF_INFO);
	struct ifla_vf_mac mac = { .vf = i };
	struct ifla_vf_vlan_info vlan = { i, v->vlan, v->qos, htons(v->vlan_proto) };
	struct nlattr *list;

	memcpy(mac.mac, v->mac, 6);
	mnl_attr_put(m, IFLA_VF_MAC, sizeof(mac), &mac);
	mnl_attr_put(m, IFLA_VF_VLAN, sizeof(struct ifla_vf_vlan), &(struct ifla_vf_vlan){ i, v->vlan, v->qos });
	mnl_attr_put(m, IFLA_VF_RATE, sizeof(struct ifla_vf_rate), &(struct ifla_vf_rate){ i, v->min_rate, v->max_rate });
	mnl_attr_put(m, IFLA_VF_SPOOFCHK, sizeof(struct ifla_vf_spoofchk), &(struct ifla_vf_spoofchk){ i, v->spoofchk });
	mnl_attr_put(m, IFLA_VF_LINK_STATE, sizeof(struct ifla_vf_link_state), &(struct ifla_vf_link_state){ i, v->link });
	mnl_attr_put(m, IFLA_VF_RSS_QUERY_EN, sizeof(struct ifla_vf_rss_query_en),
		     &(struct ifla_vf_rss_query_en){ i, v->set & 1 << VF_RSS_QUERY ? v->rss_query : -1u });
	mnl_attr_put(m, IFLA_VF_TRUST, sizeof(struct ifla_vf_trust), &(struct ifla_vf_trust){ i, v->trust });
	list = mnl_attr_nest_start(m, IFLA_VF_VLAN_LIST);
	mnl_attr_put(m, IFLA_VF_VLAN_INFO, sizeof(vlan), &vlan);
	mnl_attr_nest_end(m, list);
	mnl_attr_nest_end(m, one);
}

static void vf_tree_getlink(struct vf_tree *t, const struct nlmsghdr *req, unsigned pf)
{
	struct nlmsghdr *m = mnl_nlmsg_put_header(t->answer);
	struct ifinfomsg *ifi;
	struct nlattr *list;

	m->nlmsg_type = RTM_NEWLINK;
	m->nlmsg_seq = req->nlmsg_seq;
	ifi = mnl_nlmsg_put_extra_header(m, sizeof(*ifi));
	ifi->ifi_index = 10 + (int)pf;
	mnl_attr_put_u32(m, IFLA_NUM_VF, t->k->num[pf]);
	list = mnl_attr_nest_start(m, IFLA_VFINFO_LIST);
	for (unsigned i = 0; i < t->k->num[pf]; i++)
		vf_tree_put_vf(m, i, &t->k->is[pf][i]);
	mnl_attr_nest_end(m, list);
	t->answer_len = m->nlmsg_len;
}

/* One attribute of IFLA_VF_INFO; a VF that is not there: -EINVAL, as drivers say it. */
static int vf_tree_set(struct vf_tree *t, unsigned pf, const struct nlattr *a)
{
	const uint32_t *w = mnl_attr_get_payload(a); /* vf, value ... in each of them */
	struct vf_settings *v = &t->k->is[pf][w[0] % VF_TREE_VFS];
	static const int keys[] = { [IFLA_VF_MAC] = VF_MAC, [IFLA_VF_RATE] = VF_MAX_RATE, [IFLA_VF_SPOOFCHK] = VF_SPOOFCHK,
				    [IFLA_VF_LINK_STATE] = VF_LINK, [IFLA_VF_RSS_QUERY_EN] = VF_RSS_QUERY, [IFLA_VF_TRUST] = VF_TRUST };
	unsigned type = mnl_attr_get_type(a);
	const struct ifla_vf_vlan_info *vlan = NULL;

	if (type == IFLA_VF_VLAN_LIST) {
		vlan = mnl_attr_get_payload(mnl_attr_get_payload(a));
		w = (const uint32_t *)vlan;
		v = &t->k->is[pf][w[0] % VF_TREE_VFS];
	}
	if (type == IFLA_VF_VLAN_LIST ? t->k->refuse[VF_VLAN] : t->k->refuse[keys[type]])
		return type == IFLA_VF_VLAN_LIST ? t->k->refuse[VF_VLAN] : t->k->refuse[keys[type]];
	if (vlan && vlan->vlan_proto == htons(0x88a8) && t->k->refuse[VF_VLAN_PROTO])
		return t->k->refuse[VF_VLAN_PROTO];
	if (type == IFLA_VF_RATE && w[1] && t->k->refuse[VF_MIN_RATE])
		return t->k->refuse[VF_MIN_RATE];
	if (w[0] >= t->k->num[pf])
		return -EINVAL;
	t->k->sets++;
	switch (type) {
	case IFLA_VF_MAC: memcpy(v->mac, &w[1], 6); break;
	case IFLA_VF_VLAN_LIST: v->vlan = vlan->vlan, v->qos = vlan->qos, v->vlan_proto = ntohs(vlan->vlan_proto); break;
	case IFLA_VF_RATE: v->min_rate = w[1], v->max_rate = w[2]; break;
	case IFLA_VF_SPOOFCHK: v->spoofchk = w[1]; break;
	case IFLA_VF_LINK_STATE: v->link = w[1]; break;
	case IFLA_VF_RSS_QUERY_EN: v->rss_query = w[1], v->set |= 1 << VF_RSS_QUERY; break;
	case IFLA_VF_TRUST: v->trust = w[1]; break;
	default: return -EOPNOTSUPP;
	}
	return 0;
}

static void vf_tree_ack(struct vf_tree *t, const struct nlmsghdr *req, int err)
{
	struct nlmsghdr *m = mnl_nlmsg_put_header(t->answer);
	struct nlmsgerr *e;

	m->nlmsg_type = NLMSG_ERROR;
	m->nlmsg_seq = req->nlmsg_seq;
	m->nlmsg_flags = NLM_F_CAPPED;
	e = mnl_nlmsg_put_extra_header(m, sizeof(*e));
	e->error = err;
	e->msg = *req;
	if (err && *t->k->refuse_text) {
		m->nlmsg_flags |= NLM_F_ACK_TLVS;
		mnl_attr_put_strz(m, NLMSGERR_ATTR_MSG, t->k->refuse_text);
	}
	t->answer_len = m->nlmsg_len;
}

static int vf_tree_nl_send(struct vf_sys *s, const void *msg, size_t len)
{
	const struct nlmsghdr *req = msg;
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(req);
	struct vf_tree *t = s->ctx;
	unsigned pf = (unsigned)ifi->ifi_index - 10;
	struct nlattr *list, *info, *a;
	int rc = 0;

	(void)len;
	if (pf >= t->k->npfs)
		return vf_tree_ack(t, req, -ENODEV), 0;
	if (req->nlmsg_type == RTM_GETLINK)
		return vf_tree_getlink(t, req, pf), 0;
	mnl_attr_for_each(list, req, sizeof(*ifi))
		if (mnl_attr_get_type(list) == IFLA_VFINFO_LIST)
			mnl_attr_for_each_nested(info, list)
				mnl_attr_for_each_nested(a, info)
					rc = rc < 0 ? rc : vf_tree_set(t, pf, a);
	vf_tree_ack(t, req, rc);
	return 0;
}

static ssize_t vf_tree_nl_recv(struct vf_sys *s, void *buf, size_t len)
{
	struct vf_tree *t = s->ctx;
	size_t n = t->answer_len < len ? t->answer_len : len;

	memcpy(buf, t->answer, n);
	t->answer_len = 0;
	return n ? (ssize_t)n : -EAGAIN;
}

/* ---- up and down ---- */

static const struct vf_sys_ops vf_tree_ops = { vf_tree_write, vf_tree_nl_send, vf_tree_nl_recv };

static VF_TREE_UNUSED void vf_tree_up(struct vf_tree *t)
{
	static const char *const drivers[] = { "igb", "igbvf", "nvme", "vfio-pci", "pciback" };

	memset(t, 0, sizeof(*t));
	snprintf(t->root, sizeof(t->root), "/tmp/pvio-vf.XXXXXX");
	t->k = mmap(NULL, sizeof(*t->k), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!mkdtemp(t->root) || t->k == MAP_FAILED || vf_sys_open(&t->sys, t->root) < 0)
		abort();
	t->sys.ops = &vf_tree_ops;
	t->sys.ctx = t;
	vf_tree_put(t, NULL, "/sys/bus/pci/devices");
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
		vf_tree_put(t, NULL, "/sys/bus/pci/drivers/%s", drivers[i]);
	vf_tree_put(t, "11111111-2222-3333-4444-555555555555\n", "/proc/sys/kernel/random/boot_id");
	vf_tree_put(t, "", "/dev/vfio/vfio");
	vf_tree_put(t, NULL, "/var/lib");
}

static VF_TREE_UNUSED void vf_tree_down(struct vf_tree *t)
{
	vf_sys_close(&t->sys);
	vf_tree_remove(t, "");
	munmap(t->k, sizeof(*t->k));
}

#endif
