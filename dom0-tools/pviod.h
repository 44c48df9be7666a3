/* pviod.h - the inside of pviod, the one negotiator, by file.
 *
 *	guests' pages and ports --- guest.c --- dialect_*.c --- device.c (one table: state x event) --- backends.c --- backends
 *	                            slot.c choice.c                 |
 *	pvio, toolstacks ---------------- conn.c --- control.c, report.c
 *	backends in driver domains ------ pipes.c --- conn.c
 *
 * Thread rule: everything here runs on the thread that runs the loop. Nothing waits: calls to backends are answered later by
 * an event, and what must wait for a time sits on a list that one timer looks at.
 */
#ifndef PVIOD_H
#define PVIOD_H

#include "domain.h"
#include "nodes.h"
#include <json-c/json.h>
#include <pvio/backend.h>
#include <pvio/hyper.h>
#include <pvio/inflight.h>
#include <pvio/log.h>
#include <pvio/noxs.h>
#include <pvio/rpc.h>
#include <uthash.h>
#include <utlist.h>
#include <uv.h>

enum {
	NAME_LEN = 64, /* of guests and backends, with the 0 */
	DEVICE_NAME_LEN = 16,
	WHY_LEN = 240, /* one line for a person */
	DEVICE_PAGES_MAX = 8,
	LOOKS_BURST = 128, /* how often a device's choice is looked at: at once, ... */
	LOOKS_RATE = 200, /* ... and a second; a connection and its end take about 10 */
	STORE_BURST = 8000, /* what a guest may ask of XenStore at once: requests, and what they cost besides, ... */
	STORE_RATE = 4000, /* ... and a second */
	DEVICES_MAX = DEVICE_PAGES_MAX * PV_NOXS_ENTRIES, /* a guest */
	CONFIG_KEYS_MAX = 32,
	CONFIG_BYTES_MAX = 4096, /* keys and values of one device */
	CONNS_MAX = 256,
	WAITERS_MAX = 4096, /* answers that clients wait for, over all */
	TICK_MS = 10,
	BACKEND_MS = 5000, /* a backend's answer */
	VF_PATIENCE = 13, /* times that, for virtual functions: one that is reset is waited for, and so is xl */
	DETACH_MS = 5000, /* a guest's part in an orderly detach */
	SUPERVISED_WORDS_MAX = 64, /* of a command */
};

/* ---- limit.c: how often something may happen. Pure. ---- */

struct limit {
	uint32_t burst, rate; /* at once; a second */
};

struct bucket {
	int64_t tokens; /* thousandths; below 0: owed */
	uint64_t last; /* ms; 0: never used, full */
};

bool bucket_take(struct bucket *b, const struct limit *l, uint64_t now); /* now: ms, > 0 */
void bucket_owe(struct bucket *b, unsigned tokens); /* it cost that much more, as is known now: the next one waits for it */
unsigned bucket_wait(const struct bucket *b, const struct limit *l); /* ms until bucket_take succeeds, seen from the last one */

/* ---- ports.c: who in here hears of which port ---- */

/* Owner: whoever embeds it; one for each port that is listened to. */
struct port_user {
	uint32_t port; /* 0: none */
	void (*fired)(struct port_user *u); /* the port is pending, and masked until the user unmasks it after the work */
	UT_hash_handle hh;
};

/* What a port_user is a member of. */
#define port_owner(u, type, member) ((type *)((char *)(u) - offsetof(type, member)))

struct pviod;

void port_listen(struct pviod *d, struct port_user *u, uint32_t port, void (*fired)(struct port_user *u));
void port_unmask(struct pviod *d, const struct port_user *u);
void port_close(struct pviod *d, struct port_user *u); /* forget and unbind; none: nothing */

/* ---- the daemon: pviod.c ---- */

struct pviod_options {
	const char *hypervisor; /* for pv_hyper_open; NULL: what the host is */
	const char *socket; /* where to listen */
	unsigned devices_max; /* a guest, 0: DEVICES_MAX */
	unsigned backend_ms; /* 0: BACKEND_MS */
	struct limit looks, store; /* rate 0: LOOKS_BURST and LOOKS_RATE, STORE_BURST and STORE_RATE */
	const char *console_log; /* a folder for what guests say on their consoles; NULL: it is not logged */
	const char *sysfs; /* NULL: /sys */
	const char *const *backends; /* commands, as for a shell, of backends to be started and kept running */
	unsigned nbackends;
	bool embedded; /* in a test: no signal handlers, no line when ready */
};

struct build;
struct console;
struct guest;
struct guest_store;
struct device;
struct flight;
struct conn;
struct backend;
struct supervised;

/* Owner: main, or a test. One thread. */
struct pviod {
	struct pviod_options opt;
	struct pv_hyper *hyper; /* as domain 0 */
	uv_loop_t loop;
	uv_poll_t evt, listen;
	uv_prepare_t prepare;
	uv_timer_t tick, watch;
	uv_async_t stop;
	uv_signal_t term, intr;
	int listen_fd, fatal;
	bool ticking, ending;
	uint64_t serial; /* the last number given to a device, a connection or a call */
	struct guest *by_domid, *by_name;
	struct device *by_serial;
	struct port_user *ports;
	struct device *ready; /* have posted events */
	struct device *waiting; /* for a time: out of budget, or to ask a backend again */
	struct domctl *domctl; /* to control Xen's domains; NULL: not opened yet */
	struct build *builds; /* of domains, under way */
	unsigned njobs; /* builds and destructions under way */
	uint64_t watched; /* counts the looks at all domains */
	struct guest_store *stores_ready; /* XenStores of guests that have something to do; ... */
	struct guest_store *stores_waiting; /* ... for a time: out of budget */
	struct console *consoles; /* of guests that ended, still being read: console.c */
	struct conn *conns;
	unsigned nconns;
	struct backend *backends;
	struct supervised *supervised; /* those that we start */
	struct backend *self; /* not in that list; NULL: no pipe was attached yet */
	struct nodes *xenstored; /* beside us; NULL: none was found yet */
	struct claim_domain *claims; /* whose backends' directories are watched in it */
	struct pv_log_peer claims_log;
	struct waiter *waiters;
	unsigned nwaiters;
	uint64_t end_by; /* ms: when the present step of an orderly end stops to be patient */
	bool guests_ended; /* one step of it: then those that we started end */
	unsigned end_step; /* how hard they were asked to: supervise.c */
};

/* Returns 0 or -errno with a line in why. */
int pviod_open(struct pviod *d, const struct pviod_options *opt, char *why, size_t len);
int pviod_run(struct pviod *d); /* until pviod_stop, SIGTERM or SIGINT. Returns 0 or -errno. */
void pviod_stop(struct pviod *d); /* from any thread */
void pviod_close(struct pviod *d);
uint64_t pviod_now(const struct pviod *d); /* ms */

/* ---- slot.c: the control pages and device page entries of a guest ---- */

/* An entry of the device page and the control page that goes with it. The page is shared once, when the slot is first used,
 * and stays until the guest ends: a guest that keeps it mapped pins one page a slot and no more. generation never falls, so
 * that what an earlier device or frontend left in the choice half is known to be stale.
 * Owner: the guest. `device` borrows it from announcement to removal. */
struct slot {
	struct pv_noxs_control_page *page; /* NULL: never used */
	uint32_t gref, generation;
	struct device *device;
};

struct device_page {
	struct pv_noxs_device_page *page;
	uint32_t gref;
};

/* Share one more device page, for PV_NOXS_ENTRIES more slots. Returns 0 or -errno with `why`. */
int slots_grow(struct guest *g, char *why, size_t len);

/* Find a free slot for dev, with its page and the device page that holds its entry. Returns its number, or -errno with `why`. */
int slot_take(struct guest *g, struct device *dev, char *why, size_t len);
void slot_put(struct guest *g, unsigned slot); /* makes the hole and tells the guest */
void slot_entry_write(struct guest *g, unsigned slot, const struct pv_noxs_entry *e); /* ... and tells the guest */
void slots_free(struct guest *g);

/* ---- guest.c ---- */

/* What is known of a guest's domain. */
struct guest_domain {
	struct domain_made made; /* on loopback: domid and store_port alone */
	bool owned; /* it ends with the guest */
	const char *type; /* "pv", "pvh" (static); NULL: of loopback */
	unsigned memory; /* MiB, as it was built */
	unsigned vcpus;
};

/* Owner: pviod's two hashes, from guest.create to guest.destroy. */
struct guest {
	struct pviod *d;
	char name[NAME_LEN];
	uint16_t domid;
	bool dying; /* devices are going, then the guest goes */
	bool ended; /* they are gone, and so is what it had; its domain is going */
	struct guest_domain domain;
	struct console *console; /* NULL: it has none */
	uint64_t watched; /* when its domain was last seen: domains.c */
	void *store; /* its store page, mapped */
	struct nodes *nodes; /* where its XenStore nodes live; NULL: it has none, and is served by noxs alone */
	struct guest_store *xenstore; /* when that is a tree of ours; else NULL */
	const struct dialect *dialect; /* of devices that are attached without saying which */
	uint32_t port; /* announcements */
	struct device_page pages[DEVICE_PAGES_MAX];
	unsigned npages, ndevices;
	struct slot *slots; /* npages * PV_NOXS_ENTRIES */
	struct bucket looks, offers; /* at all of its devices; of those, after a connection */
	struct pv_log_peer log;
	struct device *devices;
	UT_hash_handle hh_domid, hh_name;
};

/* Make a guest of a domain that exists. A failure leaves the domain as it was. */
int guest_adopt(struct pviod *d, const char *name, const struct guest_domain *domain, struct guest **out, char *why, size_t len);
/* The same with a new domain of the loopback hypervisor. */
int guest_create(struct pviod *d, const char *name, unsigned domid, struct guest **out, char *why, size_t len);
void guest_destroy(struct guest *g); /* its devices must be gone. Then its domain goes, then it is freed: on Xen, later */
void guest_free(struct guest *g); /* the last step of guest_destroy */
void guest_end(struct guest *g, bool force); /* detach all, then destroy */
struct guest *guest_find(struct pviod *d, const char *name); /* name or domid */
bool guest_name_ok(const char *name);
void guest_pointer(const struct guest *g, struct pv_noxs_pointer *p); /* where its devices are announced */

/* ---- domains.c: domains of Xen, built and destroyed off the loop, and noticed when they end ---- */

bool domains_are_here(const struct pviod *d); /* not on loopback */
/* The handle to control them, which is opened when it is first wanted. Returns 0, or -errno with `why`. */
int domains_control(struct pviod *d, struct domctl **out, char *why, size_t len);

/* What became of domains_build: a guest whose domain is paused, or NULL, and rc and why. conn and id as they were given. */
typedef void domains_built(struct pviod *d, uint64_t conn, uint64_t id, struct guest *g, int rc, const char *why);
/* Returns 0, and `built` comes later, or -ENOMEM. */
int domains_build(struct pviod *d, const char *name, const struct domain_spec *spec, domains_built *built, uint64_t conn, uint64_t id);
bool domains_building(struct pviod *d, const char *name);
void domains_destroy(struct guest *g); /* then guest_free */
typedef void domains_destroyed(struct pviod *d, uint64_t conn, uint64_t id, int rc, const char *why);
/* One that is no guest; destroyed: may be NULL. 0 as well if there is none. */
int domains_destroy_other(struct pviod *d, uint16_t domid, domains_destroyed *destroyed, uint64_t conn, uint64_t id);
void domains_watch(struct pviod *d); /* from now on, as long as there are guests: a guest whose domain ends, ends */

/* ---- nodes_xenstored.c: a xenstored beside us, of another toolstack ---- */

/* -ENOENT: none answers here. On the loopback hypervisor there is one only if $XENSTORED_PATH names its socket. */
int xenstored_open(struct pviod *d, struct nodes **out);
void xenstored_close(struct nodes *n); /* NULL is fine; the loop must run once more */
/* As the watch of struct nodes, but it tells each path that was changed, by our hand too. unwatch is the same. */
int xenstored_watch(struct nodes *n, const char *path, void (*changed_at)(void *ctx, const char *path), void *ctx);
char **xenstored_list(struct nodes *n, const char *path, unsigned *count); /* names below path, freed by one free(); NULL: there is none */
int xenstored_has_domain(struct nodes *n, uint16_t domid); /* 1: it lives and xenstored serves it; 0: not; -errno: xenstored is gone */

/* ---- choice.c: what a guest's half of a control page asks for. Pure. ---- */

/* What can happen to a device. */
enum dev_event {
	EV_NONE,
	/* the backend's answers */
	EV_PREPARED, EV_REFUSED, /* prepare */
	EV_SERVED, EV_FAILED, /* connect; EV_REFUSED when it is for adoption: not yet */
	EV_UPDATED, /* connect, of what is connected and has chosen something anew */
	EV_DISCONNECTED, /* disconnect: done, failed or timed out, there is nothing more to ask */
	EV_REMOVED, /* remove: likewise */
	/* the guest's half */
	EV_ANEW, /* Initialising: a frontend begins */
	EV_CHOICE, /* Initialised, and the choice is a legal answer to the offer */
	EV_CHANGED, /* Connected, and a part of the choice that may change is another */
	EV_CLOSING, EV_CLOSED, /* its states 5 and 6 */
	EV_DIED, /* its process ended without a word */
	EV_MISDEED, /* -EPROTO */
	/* the backend's life */
	EV_LOST, EV_BACK, EV_BROKEN, /* broken: it reports that this device failed */
	/* dom0's wish */
	EV_DETACH, EV_FORCE,
	EV_COUNT
};

enum dev_event choice_event(const struct pv_noxs_choice *c, const struct pv_noxs_offer *offer, const char **why);
/* Of a snapshot that means nothing else: does a connected frontend choose anew (EV_CHANGED), and what? *c becomes `now` with that. */
enum dev_event choice_change(struct pv_noxs_choice *c, const struct pv_noxs_choice *now, const struct pv_noxs_offer *offer,
			     const char **why);
/* Has another frontend chosen, of the same offer, since `held` was taken (all 0: none was)? */
bool choice_of_another(const struct pv_noxs_choice *c, const struct pv_noxs_choice *held);
bool choice_differs(const struct pv_noxs_choice *a, const struct pv_noxs_choice *b); /* in what may be chosen anew */
bool choice_present(const struct pv_noxs_choice *c, uint32_t generation); /* is there a live frontend to be asked politely? */
enum pv_vif_pair choice_pair(const struct pv_noxs_choice *c, uint32_t generation); /* which of a pair does it say that it uses? */

/* ---- store_choice.c: offers and choices as XenStore's keys. Pure. ---- */

/* Who writes the backend's keys, relative to its directory. */
struct store_writer {
	void (*put)(void *arg, const char *key, const char *value);
	void *arg;
};

/* Who reads the frontend's keys, relative to its directory; returns as `read` in nodes.h. */
struct store_reader {
	int (*read)(void *arg, const char *key, char *buf, size_t len);
	void *arg;
};

const char *store_number(const char *s, uint32_t max, uint32_t *out); /* digits: what follows them, or NULL: none, or more than max */
void store_offer(const struct store_writer *w, const struct pv_noxs_offer *offer); /* a vif's, vbd's or vf's */
/* What a frontend's keys choose of an offer, as it would have been written into a control page. Returns 0; -EPROTO: they are no
 * legal choice, *why (static) says what is wrong; other -errno: as the reader said. */
int store_choice(const struct store_reader *r, const struct pv_noxs_offer *offer, struct pv_noxs_choice *c, const char **why);
/* What a connected vif's keys choose now: `now` with the parts that may change. Returns as store_choice. */
int store_rechoice(const struct store_reader *r, const struct pv_noxs_offer *offer, const struct pv_noxs_choice *now,
		   struct pv_noxs_choice *c, const char **why);

/* ---- claim.c: guests and devices of another toolstack, xl for instance, beside which a xenstored runs ---- */

/* A device as its backend's directory names it. */
struct claim_id {
	uint16_t backend_domid, guest;
	enum pv_noxs_type type;
	uint32_t devid;
};

/* Pure: /local/domain/N/backend/TYPE/GUEST/DEVID[/KEY], or backend/TYPE/GUEST/DEVID of domain 0, as hotplug scripts are told it. *key: "" or
 * what follows. Returns 0 or -EINVAL. */
int claim_parse(const char *path, struct claim_id *id, const char **key);
bool claim_script(enum pv_noxs_type type, const char *script); /* does it say that the device is ours? Pure */
/* Pure: what the toolstack wrote for a backend, as the configuration of ours. Returns 0, or -errno with `why`. */
int claim_config(enum pv_noxs_type type, const struct store_reader *r, struct json_object *config, char *why, size_t len);

bool claim_is_foreign(const struct guest *g); /* another toolstack's, which its XenStore is as well */
struct nodes *claim_store(struct pviod *d); /* the xenstored beside us, looked for until there is one; NULL: none */
void claim_backend(struct pviod *d, uint16_t domid); /* a backend in that domain has registered: what waits for it is looked for soon */
bool claims_wait(const struct pviod *d); /* something is to be looked for at the next tick, or at a later one */
void claims_tick(struct pviod *d);
/* Serve a device that its toolstack made. It is announced later, or gone with its error. Returns 0 with *out, or -errno with `why`. */
int claim_device(struct pviod *d, const struct claim_id *id, struct device **out, char *why, size_t len);
void claim_gone(struct device *dev); /* the last word to the toolstack about a device that is not served any more */
struct guest *claim_guest(struct pviod *d, const char *name, char *why, size_t len); /* one of its guests by name or domid becomes ours too */
void claim_guest_end(struct guest *g); /* what that left in its XenStore */
void claim_close(struct pviod *d);

/* ---- dialect_*.c: how a device is shown to its guest, and how the guest answers ---- */

/* What a guest's half says, as pviod takes it, is the same in each dialect: a state, and a choice (struct pv_noxs_choice).
 * All calls but announce are for announced devices only. */
struct dialect {
	const char *name; /* "noxs", "xenstore" */
	/* Take what the device holds from its first offer (dev->offer, which `offer` follows with) to its end. Returns 0, or -errno
	 * with `why`, and holds nothing. */
	int (*announce)(struct device *dev, char *why, size_t len);
	void (*offer)(struct device *dev); /* show dev->offer, in InitWait; what was chosen before is stale */
	void (*show)(struct device *dev); /* dev->offer.state and .error have changed */
	void (*changed)(struct device *dev); /* dev->offer has, but its state: what was chosen stays */
	/* One snapshot of the guest's half, and what it asks for; *c only for EV_CHOICE and EV_CHANGED, *why (static) for EV_MISDEED. */
	enum dev_event (*look)(struct device *dev, struct pv_noxs_choice *c, const char **why);
	void (*looked)(struct device *dev); /* the work after an event is done: the next may come */
	bool (*present)(struct device *dev); /* is there a live frontend to be asked politely? */
	/* Its backend was lost, and one is back: may it be offered anew? 0; -EAGAIN: soon, ask again; other -errno: the frontend cannot connect anew,
	 * `why` says what to do. */
	int (*renew)(struct device *dev, char *why, size_t len);
	void (*retire)(struct device *dev); /* give back what announce took */
};

extern const struct dialect dialect_noxs; /* shared pages: slot.c, choice.c */
extern const struct dialect dialect_store; /* XenStore nodes: nodes.h, store_choice.c */
extern const struct dialect dialect_other; /* another toolstack shows it: dialect_other.c */

/* ---- device.c: one device's state machine ---- */

enum dev_state {
	DEV_NONE, /* (so that an empty field of the table means: nothing happens) */
	DEV_NEW, /* prepare is asked; nothing is announced, nothing is held */
	DEV_OFFERED, /* InitWait is shown: a frontend may choose */
	DEV_CONNECTING, /* a checked choice is held, connect is asked */
	DEV_CONNECTED, /* Connected is shown: data flows between backend and guest */
	DEV_CLOSING, /* the frontend leaves, died, or could not be served: disconnect is asked */
	DEV_CLOSED, /* Closed is shown: the backend holds nothing; the frontend ends its grants, then is offered anew */
	DEV_LOST, /* no backend serves it; the guest still sees its last state, error -EOWNERDEAD, and need not do anything */
	DEV_PREPARING, /* as DEV_LOST, and prepare is asked of a backend: an offer of a new generation follows */
	DEV_ORPHANED, /* its backend ended while it was connected: the guest sees no difference, and is to see none */
	DEV_ADOPTING, /* as DEV_ORPHANED, and a backend is asked to go on with the same rings */
	DEV_BREAKING, /* the guest misbehaved or the device failed: disconnect is asked */
	DEV_BROKEN, /* Closed and the error are shown, for good: only detach leads on */
	/* from here on it is on its way out, whatever happens */
	DEV_DETACHING, /* Closing is shown: the frontend drains its I/O and answers Closing */
	DEV_STOPPING, /* it did: disconnect is asked */
	DEV_STOPPED, /* Closed is shown: the frontend ends its grants and answers Closed */
	DEV_REMOVING, /* remove is asked; then the entry becomes a hole */
	DEV_GONE, /* freed before the loop sleeps */
	DEV_STATES
};

/* Owner: its guest's list and pviod's hashes, from attach to DEV_GONE; freed in device_drain alone. */
struct device {
	struct pviod *d;
	struct guest *guest;
	struct pv_device_id id;
	char name[DEVICE_NAME_LEN];
	enum dev_state state;
	struct backend *backend; /* NULL: lost */
	char backend_name[NAME_LEN];
	uint16_t backend_domid; /* as announced */
	struct json_object *config;
	bool setting; /* the backend is asked to change that: no looks until it answers */
	bool unshown; /* it changed while no backend served it */
	/* announced: from the first offer on */
	const struct dialect *dialect;
	bool announced;
	struct {
		unsigned slot;
		bool masked; /* its port, until the look was done */
		struct port_user port;
	} noxs; /* of dialect_noxs */
	struct {
		bool foreign; /* another toolstack made the directories, and removes them */
		enum xenbus_state front, shown; /* the frontend's state as last seen, the backend's as written */
		bool left; /* it was seen Closed since the last offer: Initialised is another frontend's, which looks at us later */
		enum store_away {
			STORE_HERE,
			STORE_CLOSING, /* Closed is shown, so that the frontend is that too, and then its directory is taken away; ... */
			STORE_AWAY, /* ... it was, to appear again with another backend-id */
		} away;
		uint16_t before; /* the domain whose backend's directory is still to be removed; 0: none is */
	} store; /* of dialect_store */
	struct pv_noxs_offer offer; /* as shown; the truth about state and generation */
	struct pv_noxs_choice choice; /* the checked snapshot that the backend was told */
	enum pv_vif_pair pair; /* of a vif: which of a pair its frontend says it uses; as seen in the last look */
	/* what is going on */
	uint64_t serial;
	uint64_t call; /* the call to the backend whose answer counts, 0: none */
	uint32_t posted; /* events, bits */
	bool look; /* look at the guest's half */
	bool queued, waits; /* on which of pviod's lists */
	uint64_t look_due, retry_due, again_due; /* ms, 0: not waiting for it */
	const char *again; /* the call that the backend wants to be asked again, if the state is still ... */
	enum dev_state again_state;
	enum dev_event again_answer;
	struct bucket looks;
	uint64_t nlooks, nthrottled, nconnects, nadopted;
	unsigned nretries; /* times that a backend could not yet go on with it */
	int error; /* the last failure ... */
	char why[WHY_LEN]; /* ... in words; "": none */
	uint64_t attach_ns, choice_ns;
	double offer_us, connect_us; /* < 0: not yet */
	unsigned nwaiters; /* clients that wait for it */
	struct pipe *pipe; /* of a pipe that is connected */
	struct flight *flight; /* NULL: none */
	UT_hash_handle hh_serial;
	struct device *ready_prev, *ready_next, *wait_prev, *wait_next, *prev, *next;
};

int device_create(struct guest *g, const struct dialect *dialect, enum pv_noxs_type type, uint32_t devid, struct backend *b,
		  struct json_object *config, struct device **out, char *why, size_t len); /* takes a reference of config */
void device_post(struct device *dev, enum dev_event ev);
void device_look(struct device *dev); /* soon */
/* The backend could not yet do what `answer` stands for (-EAGAIN: I/O is in flight): ask again after a while, and until then stay
 * in this state, so that the guest is not told that its pages are free. */
void device_ask_again(struct device *dev, const char *method, enum dev_event answer);
void device_fail(struct device *dev, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void device_drain(struct pviod *d); /* work off what was posted; frees what is gone */
void device_tick(struct pviod *d); /* those whose time has come */
void device_detach(struct device *dev, bool force);
void device_changed(struct device *dev); /* its offer is another: show it */
void config_show(struct device *dev); /* of control_config.c: its backend is asked what the guest is to see of its configuration */
struct device *device_find(struct guest *g, const char *name);
const char *device_state_name(const struct device *dev); /* XenBus' name of what is shown, or lost, broken */
const char *device_state_inner(enum dev_state state);
const char *device_label(const struct device *dev); /* "web vbd xvda"; static buffer */
bool device_rule(enum dev_state state, enum dev_event ev, enum dev_state *next); /* the table, for tests and documents */

/* ---- backends.c ---- */

/* Owner: its connection; lives as long as that. Those of driver domains bear the domain's name too ("storage/blkback"), so that none
 * can take the name of another's. */
struct backend {
	struct pviod *d;
	struct conn *conn;
	char name[NAME_LEN], version[32];
	enum pv_noxs_type type;
	uint16_t domid;
	int pid;
	struct bucket calls; /* that it may make */
	struct pv_log_peer *log, own_log; /* log: its driver domain's, which can come and go as often as it likes; else its own */
	struct call *pending; /* asked, not answered */
	uint64_t asked, late, ndevices;
	bool resume; /* it was asked to adopt devices: tell it when these were all for now */
	struct backend *prev, *next;
};

/* A call from a backend or one that wants to become one; answers it. Returns false if the method is not a backend's. */
bool backend_called(struct conn *c, uint64_t id, const char *method, struct json_object *params);
void backends_resume(struct pviod *d); /* what devices had to ask of backends was asked */
void backend_lost(struct backend *b); /* its connection ended: free */
/* name: of a backend, or of the driver domain that it runs in; NULL: any. Those of domain 0 come first. */
struct backend *backend_find(struct pviod *d, enum pv_noxs_type type, const char *name);
struct backend *backend_self(struct pviod *d); /* pviod, which serves the pipes. NULL: out of memory */

/* Ask dev's backend; the answer is posted as event ok or failed (with error and why set). */
void backend_ask(struct device *dev, const char *method, enum dev_event ok, enum dev_event failed);
/* Ask something about dev beside its states: params (taken over, may be NULL) and which device it is. done as for pv_rpc_call.
 * Returns 0 or -errno: then done does not come. */
int backend_query(struct device *dev, const char *method, struct json_object *params, pv_rpc_done *done, void *arg);
unsigned backend_patience(const struct pviod *d, enum pv_noxs_type type); /* ms until a call counts as unanswered */
const char *backend_not_asked(const char *name, int error); /* why it could not be asked, in words; static buffer */
/* Take over what a backend answered to prepare or set, for this configuration, as the device's offer. Returns 0 or -errno with `why`, and nothing
 * has changed. */
int backend_offer(struct device *dev, struct json_object *config, struct json_object *result, char *why, size_t len);
/* A backend's error message about dev, for who knows of which device it speaks. */
const char *backend_words(const struct device *dev, const char *message);

/* Where devices that dom0 gave a guest of that name to serve, and that nobody serves now, wait for it: the domid that it had. 0: none do. */
unsigned backend_left_domid(struct pviod *d, const char *guest);

/* ---- flight.c: where a backend in a driver domain keeps the log of what is in flight ---- */

void flight_take(struct device *dev); /* before it is connected: pages for the log of that, if its backend is in a driver domain */
void flight_put(struct device *dev);
void flight_tell(const struct device *dev, struct pv_connect *c);

/* ---- supervise.c: backends that pviod starts, and starts again when they end ---- */

int supervise_open(struct pviod *d, char *why, size_t len); /* those of the options: started when the loop runs. 0, or -errno with `why` */
bool supervise_end(struct pviod *d); /* a step of an orderly end; false: some still run */
void supervise_close(struct pviod *d); /* what still runs is killed; then the loop closes the handles */
void supervise_free(struct pviod *d);
void supervise_registered(const struct backend *b);
void supervise_retired(const struct backend *b, bool yields); /* it was asked to end, for one that registers soon; or will not */
void supervise_lost(const struct backend *b); /* it is no longer in the list of backends */
struct supervised *supervise_find(struct pviod *d, const char *name);
/* Another process in the place of the present one, which is told to take over, or for which the present one is killed; words: of its
 * command from now on if it comes to serve (taken over), NULL: as before. Returns its pid, or -errno with `why`. */
int supervise_replace(struct supervised *s, char **words, bool takeover, char *why, size_t len);
/* Words from a line as a shell would split and expand it, which no shell does. Returns 0 or -EINVAL with `why`. */
int supervise_split(const char *line, char ***words, char *why, size_t len);
char **supervise_words(const char *const *words, unsigned n); /* a copy, ended by NULL; NULL: out of memory */
void supervise_words_free(char **words);
unsigned supervise_delay(unsigned failures); /* ms until it is started again, when so many starts before it came to nothing. Pure */
void supervise_report(const struct backend *b, struct json_object *row);
void supervise_report_absent(struct pviod *d, struct json_object *rows); /* a row for each that is not registered */

/* ---- pipes.c: pviod is the backend of pipes, through which backends in driver domains talk to it ---- */

struct pipe;

/* As backend_ask and backend_query, for pipes. */
void pipe_ask(struct device *dev, const char *method, enum dev_event ok, enum dev_event failed);
struct json_object *pipe_report(const struct device *dev);
struct guest *pipe_guest(const struct pipe *p); /* the driver domain */
void pipe_cut(struct pipe *p); /* its connection was cut off */

/* ---- conn.c: sockets ---- */

/* Owner: pviod's list; freed after its poll handle is closed. */
struct conn {
	struct pviod *d;
	struct pv_rpc *rpc; /* NULL: ended */
	uv_poll_t poll;
	int events;
	uint64_t serial;
	struct backend *backend; /* NULL: a client */
	struct pipe *pipe; /* it comes from a driver domain; NULL: by our socket */
	struct conn *prev, *next;
};

int conn_listen(struct pviod *d, char *why, size_t len);
struct conn *conn_new(struct pviod *d, int fd); /* a connected, non-blocking stream socket, taken over in any case. NULL: no more, or no memory */
void conn_cut(struct conn *c); /* end it from our side */
void conn_flush(struct pviod *d); /* poll for what each has to send */
struct conn *conn_find(struct pviod *d, uint64_t serial);
bool conn_calls_pending(struct pviod *d);
void conn_expire(struct pviod *d);

/* ---- control.c: what pvio and toolstacks ask ---- */

void control_called(struct conn *c, uint64_t id, const char *method, struct json_object *params);

enum wait_for { WAIT_ANNOUNCED, WAIT_CONNECTED, WAIT_GONE, WAIT_GUEST_GONE, WAIT_SHUTDOWN, WAIT_BACKEND_GONE, WAIT_PAIR };

/* A client that waits for a device, guest or backend. Owner: pviod's list. */
struct waiter {
	uint64_t conn, id; /* whom to answer */
	uint64_t device; /* serial, or that of the backend's connection, or ... */
	uint16_t domid; /* ... the guest's */
	enum wait_for what;
	unsigned ms; /* how long it wanted to wait ... */
	uint64_t due; /* ... until then */
	struct waiter *prev, *next;
};

void waiters_device(struct device *dev); /* something changed */
void waiters_guest(struct pviod *d, unsigned domid); /* it is gone */
void waiters_backend(struct pviod *d, const struct backend *b, int code, const char *why); /* it is going now, or (code) it stays */
void waiters_conn(struct pviod *d, uint64_t serial); /* it ended */
void waiters_tick(struct pviod *d);
void waiters_free(struct pviod *d);

/* ---- report.c ---- */

struct selection {
	struct guest *guest; /* NULL: all */
	struct device *device; /* NULL: all */
	uint64_t after; /* serial: those behind it; 0: from the beginning */
};

struct json_object *report_device(const struct device *dev);
struct json_object *report_guest(const struct guest *g);
struct json_object *report_domain(const struct domain_info *i); /* one that is no guest of ours */
struct json_object *report_backends(struct pviod *d);
/* {"devices": [...], "next": serial to go on behind, or null}: an answer must fit into one message. */
struct json_object *report_list(struct pviod *d, const struct selection *s);
/* The same with what each device's backend answers to `method` ("stats" or "inspect", a static string). */
void report_gather(struct conn *c, uint64_t id, const char *method, const struct selection *s);

#endif
