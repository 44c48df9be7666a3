/* declare.h - the declared state of virtual functions: a file -> a plan -> done -> kept. Internal to libpvsriov and pvio.
 *
 *	text --declare.c--> struct vf_declared --plan.c (and the inventory, and what is kept)--> struct vf_plan --apply.c--> the machine
 *	                                                                                          keep.c: again, after a change or a reboot
 *
 * declare.c and plan.c are pure. What is declared of a PF is kept as pf-BDF.json, written before anything is changed: whatever ends a
 * process half-way, the next apply or keep compares the machine with it and goes on. */
#ifndef SRIOV_DECLARE_H
#define SRIOV_DECLARE_H

#include "sriov.h"
#include <time.h>

enum { VF_TEXT_MAX = 256 << 10, VF_PFS_MAX = 128, VF_VFS_MAX = 1024, VF_CALLED_MAX = 4 };

/* ---- declare.c: pvio-vf(5) says what may be in a file ---- */

struct vf_declared_vf {
	struct vf_settings want; /* nothing set: it is left as its driver made it */
	bool mac_auto; /* want.mac is for the planner to make up */
	unsigned mac_line, mac_column; /* where the MAC was said */
	char pool[VF_NAME_MAX]; /* "": none */
};

struct vf_declared_pf {
	char called[VF_CALLED_MAX][VF_NAME_MAX]; /* address, netdev, vendor:device or port: it is called all of these */
	unsigned ncalled;
	bool every; /* all PFs that are called so, not the only one */
	bool says_autoprobe, autoprobe; /* does this machine's own driver get new VFs? Not said: as it is */
	unsigned line, column;
	unsigned nvfs;
	struct vf_declared_vf *vf; /* [nvfs] */
};

struct vf_declared {
	unsigned npfs;
	struct vf_declared_pf *pf;
};

/* Returns 0, -ENOMEM, or -EINVAL with why: "LINE:COLUMN: what is wrong, and what may be there". To be freed also after an error. */
int vf_declare_parse(const char *text, size_t len, struct vf_declared *out, struct vf_why *why);
void vf_declared_free(struct vf_declared *d);

/* ---- plan.c: what is to be done. Pure. ---- */

struct vf_plan_vf {
	struct vf_settings want; /* as declared, and its owner's over that */
	struct vf_settings is; /* what its driver says now; nothing set: it is not there yet, or says nothing */
	unsigned keys; /* those of want to be set */
};

/* Borrows from the inventory and from what is declared. */
struct vf_plan_pf {
	const struct vf_pf *pf;
	const struct vf_declared_pf *declared;
	unsigned from, to; /* how many VFs; another number goes through 0 */
	bool probe; /* sriov_drivers_autoprobe is to be as declared */
	struct vf_plan_vf *vf; /* [to] */
	struct json_object *keep; /* what is to be kept of it */
	struct json_object *kept; /* what is: vf_plan_look; NULL: nothing */
};

struct vf_plan {
	unsigned npfs;
	struct vf_plan_pf *pf; /* by address */
};

enum {
	VF_PLAN_LENIENT = 1, /* for vf keep: PFs that are not there, VFs of strangers, and numbers but 0 stay as they are */
	VF_PLAN_FORCE = 2, /* set also what the driver says is so: after a reset of the PF it may have forgotten */
	VF_PLAN_SETTINGS = 4, /* leave the number of VFs alone */
	VF_PLAN_PROBE = 8, /* of vf_plan_look: ask the devices which settings they have */
};

/* seed: what made-up MACs depend on besides the VF (the machine-id). 0, or -errno with why, which begins with the place in the file:
 * -ENODEV, -EEXIST (a PF that is not there, or several), -ERANGE (more VFs than it has), -EOPNOTSUPP, -EADDRINUSE (a MAC twice),
 * -EBUSY (the number would change while a VF is in use; names by whom). To be freed also after an error. */
int vf_plan_make(const struct vf_inventory *inv, const struct vf_declared *d, const char *seed, unsigned flags, struct vf_plan *out,
		 struct vf_why *why);
void vf_plan_free(struct vf_plan *plan);
bool vf_pf_is_meant(const struct vf_pf *pf, const struct vf_declared_pf *d); /* is it called all of d's names? */
bool vf_plan_pf_known(const struct vf_plan_pf *p); /* what is to be kept of it is kept */
bool vf_plan_pf_idle(const struct vf_plan_pf *p); /* nothing to do */
struct json_object *vf_plan_json(const struct vf_plan *plan);
typedef void vf_told(void *arg, const char *text); /* a line for people */
void vf_plan_tell(const struct vf_plan *plan, vf_told *told, void *arg);
void vf_settings_line(const struct vf_settings *v, unsigned keys, char *buf, size_t len); /* "mac 02:... vlan 100" */
void vf_mac_make(const char *seed, struct vf_bdf pf, unsigned index, uint8_t mac[6]); /* always the same, locally administered */

/* What is kept of a PF, and back: {"called": [...], "vf": [{"settings": {}, "pool": ""}]}. -EBADMSG: it is no such object. */
struct json_object *vf_kept_json(const struct vf_pf *pf, const struct vf_declared_pf *d, const char *seed);
int vf_kept_parse(struct json_object *o, struct vf_declared_pf *out);

/* ---- apply.c: and done ---- */

/* Look at the machine, and plan: inv and plan are to be freed also after an error. Errors as of vf_plan_make, vf_inventory. */
int vf_plan_look(struct vf_sys *s, const struct vf_declared *d, unsigned flags, struct vf_inventory *inv, struct vf_plan *plan, struct vf_why *why);

/* One at a time applies: from before vf_plan_look until after vf_apply. A descriptor to close(), or -errno with why. */
int vf_apply_lock(struct vf_sys *s, unsigned wait_ms, struct vf_why *why);

/* Set vf[i].keys of vf[i].want for each of nr VFs, in one message (or a few: they have a length). 0, or -errno: then some of them may be set;
 * vf_nl_set says which are refused, and why. */
int vf_nl_set_all(struct vf_sys *s, const struct vf_pf *pf, const struct vf_plan_vf *vf, unsigned nr);

/* What the device said no to. */
struct vf_refusal {
	struct vf_bdf pf;
	int index; /* of the VF; -1: it refused the number of VFs */
	unsigned keys; /* 1 << enum vf_key: set in one request */
	struct vf_why why;
};

struct vf_applied {
	unsigned numbers, vfs; /* PFs with another number of VFs; VFs that were set something */
	unsigned nrefused;
	struct vf_refusal *refused;
	bool undone; /* for the refusals: everything is as it was */
	uint64_t kernel_ns; /* of all the time that it took: in the kernel's writes and requests */
};

enum {
	VF_APPLY_UNDO = 1, /* after a refusal, put everything back; else: keep the rest */
	VF_APPLY_WAIT = 2, /* a port that is up has its link soon, whoever took it away; else: wait for it only if that was this apply */
};

/* Do it. 0 if it was done, or -errno with why: -EREMOTEIO for refusals (out->refused), -EBUSY: a VF was taken since the plan was made; what is missing is
 * done by the next one. told may be NULL. out is to be freed. */
int vf_apply(struct vf_sys *s, struct vf_plan *plan, unsigned flags, vf_told *told, void *arg, struct vf_applied *out, struct vf_why *why);
void vf_applied_free(struct vf_applied *a);
struct json_object *vf_applied_json(const struct vf_applied *a);

/* ---- keep.c: what was applied, again ---- */

enum { VF_KEEP_NUMBER = 1 /* make the VFs, where there are none */, VF_KEEP_FORCE = 2 /* set also what seems to be set */ };

/* What is kept of this PF. 0, -ENOENT: nothing. To be freed with free(out->vf). */
int vf_kept_read(struct vf_sys *s, struct vf_bdf pf, struct vf_declared_pf *out);
/* All PFs of which something is kept: how many, or -errno; array to free(). */
int vf_kept_list(struct vf_sys *s, struct vf_bdf **out);

/* Make a PF as it is kept: 0 also if nothing but rates was refused while its port has no link; they are set when it has. Nothing is taken from anybody: VFs are made if there are none, strangers' VFs stay as they are. Errors as of vf_apply. */
int vf_keep_pf(struct vf_sys *s, struct vf_bdf pf, unsigned what, vf_told *told, void *arg, struct vf_why *why);
/* ... all of them; each failure is told. How many failed, or -errno with why. */
int vf_keep_all(struct vf_sys *s, unsigned what, vf_told *told, void *arg, struct vf_why *why);

/* A PF that is kept, and what is due. */
struct vf_watched {
	struct vf_bdf pf;
	unsigned ifindex; /* 0: no netdev now */
	bool up, carrier, due;
	unsigned what; /* VF_KEEP_ */
};

/* What happened since, by events; what is due by them. Owner: one thread. */
struct vf_keeper {
	struct vf_sys *s;
	unsigned npfs;
	struct vf_watched *pf;
	struct timespec changed; /* the state directory, when pf was read from it */
	vf_told *told;
	void *arg;
};

void vf_keeper_open(struct vf_keeper *k, struct vf_sys *s, vf_told *told, void *arg);
void vf_keeper_close(struct vf_keeper *k);
void vf_keeper_uevent(struct vf_keeper *k, const char *buf, size_t len); /* the kernel's, as it comes: "add@/devices/...\0ACTION=add\0..." */
/* A netdev changed, flags: IFF_. ours: what our own settings cause may be among them, and counts only if it went up or down. */
void vf_keeper_link(struct vf_keeper *k, unsigned ifindex, unsigned flags, bool ours);
void vf_keeper_missed(struct vf_keeper *k); /* events were lost */
bool vf_keeper_due(const struct vf_keeper *k);
int vf_keeper_work(struct vf_keeper *k); /* do what is due. 0, or -EBUSY: somebody applies, try again later */

/* ---- watch.c ---- */

/* Listen to the kernel, and keep, for ever. -errno with why: it cannot listen. */
int vf_watch(struct vf_keeper *k, struct vf_why *why);

#endif
