/* sriov.h - the inside of libpvsriov: virtual functions, from the physical function that makes them to the guest that has them.
 *
 *	the machine	sys.c record.c nl.c		sysfs, files of state, netlink: all access goes through struct vf_sys
 *	what there is	settings.c inventory.c match.c show.c	physical and virtual functions, what they can, who has them
 *	what shall be	declare.c plan.c apply.c keep.c	a file of declared state -> steps -> done, and kept
 *	who gets one	pool.c bind.c group.c reset.c release.c
 *	into a guest	xen_assign.c pci_conf.c pci.c
 *
 * Results are >= 0 or -errno; nothing here prints. Where there is a `why`, it is filled when the result is < 0 (may be NULL).
 * A VF with a record of a state "under way" belongs to the process that holds its lock; if nobody does, that process was killed,
 * and vf_recover finishes or undoes what it left. Thread rule: one struct vf_sys, one thread. Internal; not installed.
 */
#ifndef SRIOV_H
#define SRIOV_H

#include <json-c/json.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { VF_NAME_MAX = 64, VF_WHY_MAX = 512, VF_ROOT_MAX = 256, VF_PATH_MAX = 512, VF_ATTR_MAX = 256, VF_BDF_TEXT = 13 };

/* ---- sys.c: messages and addresses ---- */

struct vf_why {
	char text[VF_WHY_MAX]; /* names the device, the resource and what to do; no newline */
};

/* Fill why (may be NULL) and return rc. */
int vf_fail(struct vf_why *why, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* A PCI address, "0000:01:10.0". */
struct vf_bdf {
	uint16_t domain;
	uint8_t bus, slot, fn;
};

int vf_bdf_parse(const char *text, struct vf_bdf *out); /* the whole text, "0000:01:10.0" or "01:10.0"; 0 or -EINVAL */
const char *vf_bdf_text(struct vf_bdf bdf, char buf[VF_BDF_TEXT]); /* returns buf */
static inline bool vf_bdf_equal(struct vf_bdf a, struct vf_bdf b)
{
	return a.domain == b.domain && a.bus == b.bus && a.slot == b.slot && a.fn == b.fn;
}
/* For one expression's arguments: vf_text(bdf).s lives to the end of the full expression. */
struct vf_bdf_str { char s[VF_BDF_TEXT]; };
struct vf_bdf_str vf_text(struct vf_bdf bdf);

/* ---- sys.c: the machine ---- */

struct vf_sys;

/* How the machine is reached; tests bring their own (tests/unit/vf_tree.h). Results are >= 0 or -errno. */
struct vf_sys_ops {
	int (*write)(struct vf_sys *s, const char *path, const char *text); /* an attribute; path begins with "/", below the root */
	int (*nl_send)(struct vf_sys *s, const void *msg, size_t len); /* one rtnetlink request */
	ssize_t (*nl_recv)(struct vf_sys *s, void *buf, size_t len); /* a datagram of the answer */
};

/* The machine: owner is who opened it, who may copy nothing out of it. */
struct vf_sys {
	char root[VF_ROOT_MAX]; /* "": this machine; else the directory below which /sys, /proc, /dev and /var are looked at */
	char state[VF_ROOT_MAX + 32]; /* where records are: ROOT/var/lib/pvio/vf */
	const struct vf_sys_ops *ops; /* never NULL after vf_sys_open */
	void *ctx; /* of ops */
	struct mnl_socket *nl; /* NULL: not needed yet */
	uint32_t nl_seq;
	unsigned changes; /* so many things have been changed: attributes, settings, records */
	unsigned kill_at; /* tests: the process is killed right after that many changes; 0: never */
};

/* root: NULL or "" for this machine. Makes nothing yet. 0 or -errno. */
int vf_sys_open(struct vf_sys *s, const char *root);
void vf_sys_close(struct vf_sys *s);
void vf_sys_changed(struct vf_sys *s); /* to be called after each change, however it was made: counts, and kills if told to */

/* ---- sys.c: attributes. fmt makes the path, "/sys/bus/pci/...", below the root. ---- */

/* The text of a file without its last newline, cut at len - 1: its length, or -errno. */
int vf_sys_read(struct vf_sys *s, char *buf, size_t len, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Its number, decimal or 0x...: 0 or -errno (-EINVAL: no number). */
int vf_sys_number(struct vf_sys *s, int64_t *out, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The last word of what a symbolic link points at (the driver, the group): its length, or -errno (-ENOENT: no link). */
int vf_sys_link(struct vf_sys *s, char *buf, size_t len, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* "" is written as a newline, which empties an attribute such as driver_override. 0 or the kernel's -errno. */
int vf_sys_write(struct vf_sys *s, const char *text, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool vf_sys_has(struct vf_sys *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int vf_sys_open_file(struct vf_sys *s, int flags, const char *fmt, ...) __attribute__((format(printf, 3, 4))); /* descriptor or -errno */

/* The names in a directory, sorted as versions are (eth2 before eth10), without those that begin with a dot. */
struct vf_names {
	unsigned nr;
	char **name;
};
int vf_sys_names(struct vf_sys *s, struct vf_names *out, const char *fmt, ...) __attribute__((format(printf, 3, 4))); /* how many, or -errno */
void vf_names_free(struct vf_names *n);

/* The same for a PCI device: /sys/bus/pci/devices/BDF/ATTR. */
int vf_pci_read(struct vf_sys *s, struct vf_bdf bdf, const char *attr, char *buf, size_t len);
int vf_pci_number(struct vf_sys *s, struct vf_bdf bdf, const char *attr, int64_t *out);
int vf_pci_link(struct vf_sys *s, struct vf_bdf bdf, const char *attr, char *buf, size_t len);
int vf_pci_write(struct vf_sys *s, struct vf_bdf bdf, const char *attr, const char *text);
bool vf_pci_has(struct vf_sys *s, struct vf_bdf bdf, const char *attr); /* "": the device itself */

/* ---- settings.c: what a PF can be told about one of its VFs ---- */

enum vf_key { VF_MAC, VF_VLAN, VF_QOS, VF_VLAN_PROTO, VF_SPOOFCHK, VF_TRUST, VF_MIN_RATE, VF_MAX_RATE, VF_LINK, VF_RSS_QUERY, VF_KEYS };
enum { VF_ALL_KEYS = (1 << VF_KEYS) - 1 };
enum vf_link { VF_LINK_AUTO, VF_LINK_UP, VF_LINK_DOWN }; /* the kernel's numbers */

struct vf_settings {
	unsigned set; /* 1 << enum vf_key: these are said; all others are unset, whatever their field has */
	uint8_t mac[6]; /* all 0: none, the VF's driver makes one up */
	uint16_t vlan; /* 0: none, the VF's own tags pass; else 1..4094 */
	uint8_t qos; /* 0..7 */
	uint16_t vlan_proto; /* 0x8100 (802.1Q), 0x88a8 (802.1ad) */
	bool spoofchk, trust, rss_query;
	uint32_t min_rate, max_rate; /* Mbit/s; 0: none */
	enum vf_link link;
};

#define VF_KEY_NAMES "mac, vlan, qos, vlan_proto, spoofchk, trust, min_rate, max_rate, link and rss_query" /* for messages */
const char *vf_key_name(enum vf_key key);
int vf_key_find(const char *name); /* enum vf_key, or -ENOENT */
/* Set one from text as people write it: on|off, 100, 02:00:00:00:00:01, 802.1ad, auto|up|down. 0, or -EINVAL with why (what it may be). */
int vf_settings_parse(struct vf_settings *v, enum vf_key key, const char *text, struct vf_why *why);
void vf_settings_text(const struct vf_settings *v, enum vf_key key, char *buf, size_t len); /* the inverse; "" if unset */
bool vf_settings_equal(const struct vf_settings *a, const struct vf_settings *b, enum vf_key key); /* both said, and the same */
/* The keys of want that are not so in is: what has to be set. */
unsigned vf_settings_differ(const struct vf_settings *want, const struct vf_settings *is);
void vf_settings_merge(struct vf_settings *v, const struct vf_settings *over); /* what over says wins */
void vf_settings_default(struct vf_settings *v, unsigned keys); /* what a VF nobody has should have: no MAC, no VLAN, spoofchk on, untrusted ... */
struct json_object *vf_settings_json(const struct vf_settings *v); /* {"mac": "...", "vlan": 100, "trust": false}: those that are said */
/* An object of them, as vf_settings_json makes it; numbers, booleans or their text. Unknown keys: -EINVAL with why. */
int vf_settings_from_json(struct vf_settings *v, struct json_object *o, struct vf_why *why);

/* ---- record.c: files of state, and locks that end with their process ---- */

/* A JSON file of the state directory, such as "pf-0000:01:00.0.json". -ENOENT: none; -EBADMSG: it is no JSON object. */
int vf_file_read(struct vf_sys *s, const char *name, struct json_object **out);
/* Replace it: whole or not at all, and on the disk before this returns. Counts as a change. Does not take o over. */
int vf_file_write(struct vf_sys *s, const char *name, struct json_object *o);
int vf_file_remove(struct vf_sys *s, const char *name); /* 0 also if there was none */
/* Take the lock of that name ("pf-0000:01:00.0"; a VF's is vf_record_open's): a descriptor to close(), -EBUSY: another process has had it
 * for wait_ms (0: now). */
int vf_lock(struct vf_sys *s, const char *name, unsigned wait_ms);

/* In what state a VF is. Each that is "under way" says in vf_record.step how far, and is recorded before it is begun. */
enum vf_state {
	VF_FREE, /* nobody has it, it is clean; there is no record */
	VF_CLAIMING, /* under way to somebody: configured, bound */
	VF_CLAIMED, /* owner has it */
	VF_ASSIGNING, /* under way into a guest */
	VF_ASSIGNED, /* domid has it */
	VF_DETACHING, /* under way out of a guest, back to claimed */
	VF_RELEASING, /* under way to free */
	VF_QUARANTINED, /* out of use for `why`: till it is proven clean */
};

const char *vf_state_name(enum vf_state state); /* "free" "claiming" ... */
static inline bool vf_state_under_way(enum vf_state s)
{
	return s == VF_CLAIMING || s == VF_ASSIGNING || s == VF_DETACHING || s == VF_RELEASING;
}

/* Who has a VF. Owner: who opened it; lock >= 0 while this process alone may change it. File: vf-BDF.json. */
struct vf_record {
	struct vf_bdf vf, pf;
	unsigned index; /* the n of its virtfnN, and netlink's number */
	enum vf_state state;
	char step[VF_NAME_MAX]; /* while under way: the last step begun, as its code calls it */
	char owner[VF_NAME_MAX]; /* a guest, or what `pvio vf claim` was told */
	char pool[VF_NAME_MAX]; /* "": none */
	int domid; /* -1: in no guest */
	char driver[VF_NAME_MAX]; /* that it is to have: vfio-pci, pciback ...; "": as it was */
	char driver_before[VF_NAME_MAX], override_before[VF_NAME_MAX]; /* what release puts back; "": none */
	struct vf_settings settings; /* what its owner asked for */
	char why[VF_WHY_MAX]; /* quarantined: the reason */
	char boot[40]; /* the boot_id in which this was written: after another boot there is no guest and no driver any more */
	int64_t since; /* CLOCK_REALTIME, seconds: when its state began */
	struct json_object *more; /* what a part keeps besides, under a key of its own (xen_assign: its pirqs); NULL: nothing */
	int lock; /* -1: only read */
};

/* Lock and read the record of a VF; without a file: a VF_FREE one. -EBUSY: another process works on this VF (why names its pid). */
int vf_record_open(struct vf_sys *s, struct vf_bdf vf, unsigned wait_ms, struct vf_record *out, struct vf_why *why);
int vf_record_read(struct vf_sys *s, struct vf_bdf vf, struct vf_record *out); /* without the lock; -ENOENT: nobody has it */
/* Write it down; VF_FREE: remove its file. Sets boot, and since if the state is another one. -EPERM without the lock. */
int vf_record_save(struct vf_sys *s, struct vf_record *r);
/* state and step, saved: what is to be called before a step is begun. */
int vf_record_step(struct vf_sys *s, struct vf_record *r, enum vf_state state, const char *step);
void vf_record_close(struct vf_record *r); /* gives the lock back; twice is fine */
struct json_object *vf_json_record(const struct vf_record *r); /* as it is in the file */
bool vf_record_stale(struct vf_sys *s, const struct vf_record *r); /* from before a reboot */
/* All VFs with a record: array of addresses to free(). How many, or -errno. */
int vf_record_list(struct vf_sys *s, struct vf_bdf **out);

/* Finish or undo what killed processes left: each record under way whose lock is free is locked and given to `undo`, which saves what
 * becomes of it. Returns how many there were, or the first -errno of undo (the others were tried all the same). */
typedef int vf_undo(struct vf_sys *s, struct vf_record *r, void *arg, struct vf_why *why);
int vf_recover(struct vf_sys *s, vf_undo *undo, void *arg, struct vf_why *why);

/* ---- inventory.c: what there is ---- */

enum vf_support { VF_ASK, VF_NO, VF_YES }; /* ASK: not known before it is tried */
enum vf_kind { VF_KIND_NET, VF_KIND_NVME, VF_KIND_OTHER };

struct vf_stats {
	uint64_t rx_packets, tx_packets, rx_bytes, tx_bytes, broadcast, multicast, rx_dropped, tx_dropped;
};

struct vf_member { /* of an IOMMU group */
	struct vf_bdf bdf;
	uint32_t class;
	char driver[VF_NAME_MAX]; /* "": none */
};

/* An IOMMU group with a PF or a VF in it: what can only be handed out as a whole. */
struct vf_group {
	int nr;
	unsigned nmembers;
	struct vf_member *member;
};

struct vf_dev { /* what every PCI function has */
	struct vf_bdf bdf;
	uint16_t vendor, device;
	uint32_t class; /* 0x020000 */
	int numa; /* -1: the machine has one node */
	int group; /* of the IOMMU; -1: none */
	char driver[VF_NAME_MAX], override[VF_NAME_MAX]; /* "": none */
	char netdev[16]; /* "": none, as with a driver that makes none */
	char nvme[16]; /* "nvme0"; "": none */
	char reset[VF_NAME_MAX]; /* reset_method: "flr bus"; "": it has none */
};

struct vf {
	struct vf_dev dev;
	unsigned index;
	struct vf_settings is; /* what the PF's driver says of it now; all unset: it says nothing (no netdev) */
	struct vf_stats stats; /* 0 where the driver counts nothing */
	struct vf_settings declared; /* what `pvio vf apply` was told for it; nothing set: nothing */
	char pool[VF_NAME_MAX]; /* in which it is declared to be; "": none */
	struct vf_record record; /* .state VF_FREE: none; never locked */
	bool in_use; /* somebody has it: a record says so, a process has it open, a guest has it, its netdev is up */
	char open_by[VF_ATTR_MAX]; /* programs that have its vfio group open, "qemu-system-x86 (pid 812)"; "": none, or not looked for */
	char used_by[VF_ATTR_MAX]; /* "guest web", "qemu-system-x86 (pid 812) through vfio-pci", "netdev eth1v0, which is up"; "" */
};

struct vf_pf {
	struct vf_dev dev;
	enum vf_kind kind;
	char port[32]; /* phys_port_name, "p0"; "": none */
	char switch_id[72]; /* phys_switch_id; "" */
	uint8_t mac[6];
	unsigned ifindex, mtu;
	bool up, carrier;
	int speed; /* Mbit/s; -1: unknown */
	unsigned total, num; /* sriov_totalvfs, sriov_numvfs */
	bool autoprobe;
	enum vf_support supports[VF_KEYS];
	unsigned nvfs; /* as many as there are virtfnN: num, but while they change */
	struct vf *vf; /* by index */
};

struct vf_inventory {
	unsigned npfs, ngroups;
	struct vf_pf *pf; /* by address */
	struct vf_group *group; /* by number */
	unsigned ngone;
	struct vf_record *gone; /* of VFs that are not there: the machine was started again, or their PF makes fewer now; never locked */
};

enum { VF_INV_USERS = 1 /* look through /proc for who has a vfio group open */, VF_INV_PROBE = 2 /* ask drivers which settings they have */ };
/* Look at the machine. 0 or -errno (a machine without any: 0, with npfs == 0). To be freed also after an error. */
int vf_inventory(struct vf_sys *s, unsigned flags, struct vf_inventory *out, struct vf_why *why);
void vf_inventory_free(struct vf_inventory *inv);

/* ---- match.c: which one is meant ---- */

struct vf_pf *vf_find_pf(const struct vf_inventory *inv, struct vf_bdf bdf); /* NULL: none */
struct vf *vf_find_vf(const struct vf_inventory *inv, struct vf_bdf bdf, struct vf_pf **pf); /* pf may be NULL */
struct vf_group *vf_find_group(const struct vf_inventory *inv, int nr);
/* A PF as people name it: address, netdev, "vendor:device" or port ("p0"). -ENOENT; -EEXIST: several are called so (why lists them). */
int vf_match_pf(const struct vf_inventory *inv, const char *name, struct vf_pf **out, struct vf_why *why);
/* A VF as people name it: address, "PF/N" (a PF as above), or its netdev. */
int vf_match_vf(const struct vf_inventory *inv, const char *name, struct vf **out, struct vf_pf **pf, struct vf_why *why);

/* ---- show.c: the inventory as JSON ---- */

struct json_object *vf_json_inventory(const struct vf_inventory *inv); /* {"pfs": [...], "groups": [...]} */
struct json_object *vf_json_pf(const struct vf_pf *pf); /* with its VFs */
struct json_object *vf_json_vf(const struct vf_pf *pf, const struct vf *vf);
struct json_object *vf_json_group(const struct vf_group *g);

/* ---- nl.c: netlink. The PF must have a netdev (-EOPNOTSUPP). ---- */

/* What its driver says about each VF: arrays of max entries (stats may be NULL). How many VFs it told of, or -errno. */
int vf_nl_get(struct vf_sys *s, const struct vf_pf *pf, struct vf_settings *is, struct vf_stats *stats, unsigned max, struct vf_why *why);
/* Set `keys` of want for a VF, in an order that works, one request each (vlan, qos and vlan_proto in one; min_rate and max_rate in one:
 * an unset half is taken from `is`, what vf_nl_get says now; NULL: 0). Stops at the first refusal: -errno of the device, why with the
 * kernel's words, *refused (may be NULL) the keys of that request. *done (may be NULL): the keys that are set now, also after a refusal:
 * to go on, call again with keys & ~done & ~refused. */
int vf_nl_set(struct vf_sys *s, const struct vf_pf *pf, unsigned index, const struct vf_settings *want, unsigned keys,
	      const struct vf_settings *is, unsigned *done, unsigned *refused, struct vf_why *why);
/* Which settings this driver has, found out without changing any: VF_YES, VF_NO, or VF_ASK where it does not say. */
int vf_nl_probe(struct vf_sys *s, const struct vf_pf *pf, enum vf_support supports[VF_KEYS]);

/* ==== planned: each part's owner fills these in, and may change what only its part uses ==== */

/* ---- within.c ---- */

/* vf_sys_write of what the kernel may not come back from: another process does it, which has the lock (a record's) till then.
 * -ETIMEDOUT: not done after ms; it may yet be. */
int vf_sys_write_within(struct vf_sys *s, int lock, unsigned ms, const char *text, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* ---- group.c ---- */

bool vf_driver_isolates(const char *driver); /* a vfio driver: it gives away an IOMMU group, as a whole */
bool vf_driver_passes(const char *driver); /* that, or pciback: what it has is not used by this machine itself */
/* May this VF be given to this owner? All others of its group must have no driver, or one that passes them on, or be bridges, and nobody
 * else may have one of them. -EBUSY with why (who is in the way, what to do); -ENODEV: it is in no group. */
int vf_group_viable(struct vf_sys *s, const struct vf_inventory *inv, const struct vf *vf, const char *owner, struct vf_why *why);

/* ---- bind.c: always by driver_override. r says what was before: driver_before, override_before. ---- */

int vf_driver(struct vf_sys *s, struct vf_bdf vf, char driver[VF_NAME_MAX]); /* "": none; -ENODEV: no such device */
int vf_override(struct vf_sys *s, struct vf_bdf vf, char override[VF_NAME_MAX]); /* "": none */
/* The driver that is meant: its name, or "netdev", the one that the kernel has for it. -ENOENT with why: it is not loaded. */
int vf_driver_find(struct vf_sys *s, struct vf_bdf vf, const char *word, char driver[VF_NAME_MAX], struct vf_why *why);
int vf_bind(struct vf_sys *s, struct vf_record *r, const char *driver, struct vf_why *why);
int vf_detach(struct vf_sys *s, struct vf_record *r, struct vf_why *why); /* no driver, and none can have it till it is bound or put back */
int vf_unbind(struct vf_sys *s, struct vf_record *r, struct vf_why *why); /* driver and override as they were before */

/* ---- reset.c ---- */

/* Of the methods in `has` (the text of reset_method) those of one function alone; if there are none, `also` ("": nothing), if it
 * has that. 0, or -ENOTTY: none. Pure. */
int vf_reset_methods(const char *has, const char *also, char out[VF_NAME_MAX]);
/* Reset it by one of these and no other; "bus" only if nothing else is on its bus. -ENOTTY: it has none; -ETIMEDOUT. */
int vf_reset(struct vf_sys *s, struct vf_record *r, const char *also, unsigned timeout_ms, struct vf_why *why);
int vf_reset_put_back(struct vf_sys *s, struct vf_record *r); /* reset_method as it was */

/* ---- clean.c ---- */

enum { VF_CONF_LEN = 256 };
int vf_conf_clean(const uint8_t conf[VF_CONF_LEN], struct vf_why *why); /* as one that was just made? 0, or -EBUSY, -EIO. Pure. */
int vf_conf_check(struct vf_sys *s, struct vf_bdf vf, struct vf_why *why); /* the same of the device */
int vf_conf_silence(struct vf_sys *s, struct vf_bdf vf); /* it may write to memory no more; 0 or -errno */
/* What its PF's driver says of it now. */
int vf_settings_now(struct vf_sys *s, const struct vf_pf *pf, unsigned index, struct vf_settings *is, struct vf_why *why);
/* The keys of `is` that are neither as declared nor as in a VF nobody has; was: what it had when it came back. Pure. */
unsigned vf_settings_left(const struct vf_settings *is, const struct vf_settings *declared, const struct vf_settings *was);

/* ---- pool.c ---- */

#define VF_STEP_CLAIM "claim" /* of VF_CLAIMING: undone by a release */
#define VF_STEP_BIND "bind" /* its owner changes its driver: finished */

struct vf_want { /* "" and -1: no matter */
	char owner[VF_NAME_MAX], driver[VF_NAME_MAX];
	char pool[VF_NAME_MAX]; /* "": none; a VF that is declared to be in one is only given from there, or by its address */
	struct vf_bdf vf, pf; /* all 0: any */
	int numa;
	unsigned must_support; /* 1 << enum vf_key */
	struct vf_settings settings;
};
/* A free VF, configured, and bound to the driver; out comes locked. -ENOSPC: none is free; -ENOENT: none is so. What fails half-way is undone. */
int vf_claim(struct vf_sys *s, const struct vf_want *want, struct vf_record *out, struct vf_why *why);
int vf_rebind(struct vf_sys *s, struct vf_record *r, const char *driver, struct vf_why *why); /* VF_CLAIMED, locked; it stays so */

/* ---- release.c ---- */

struct vf_release_how {
	const char *reset; /* a method that is allowed besides a function-level reset: "bus", "pm"; "": none */
	unsigned reset_ms; /* how long it may take */
};
/* VF_CLAIMED or VF_QUARANTINED, locked. how may be NULL. After it VF_FREE, or VF_QUARANTINED with why; -EBUSY: it is in use, and as it was. */
int vf_release(struct vf_sys *s, struct vf_record *r, const struct vf_release_how *how, struct vf_why *why);
vf_undo vf_release_undo; /* for vf_recover: claims, releases and binds that were cut short */
int vf_unused(const struct vf_record *r, const struct vf *vf, struct vf_why *why); /* 0, or -EBUSY: no driver may be taken from it */
/* Without a driver: silenced, wiped, reset (how may be NULL), and shown to be clean. */
int vf_make_clean(struct vf_sys *s, const struct vf_pf *pf, struct vf_record *r, const struct vf_release_how *how, struct vf_why *why);

/* ---- keep.c ---- */
/* The settings that hold for a VF: those declared, and over them its owner's, but of one that is being released. 0 or -errno. */
int vf_keep_settings(struct vf_sys *s, const struct vf_pf *pf, unsigned index, struct vf_settings *out);

/* ---- xen_assign.c, xen_ctl.c, xen_xl.c: xen.h ---- */

#endif
