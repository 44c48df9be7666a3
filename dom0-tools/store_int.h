/* store_int.h - private: the inside of the XenStore dialect's tree, by file.
 *
 * A tree is made of nodes that count their references. A snapshot is one reference to a root. Who changes a view of the tree
 * first makes the nodes from the root to the one in question its own: those that a snapshot shares are copied, the others
 * are changed in place. So a transaction costs what it and others change while it lasts, and outside of transactions
 * nothing is copied at all.
 */
#ifndef STORE_INT_H
#define STORE_INT_H

#define HASH_NONFATAL_OOM 1
#include "store_tree.h"
#include <errno.h>
#include <uthash.h>
#include <utlist.h>
#include <xen/io/xs_wire.h>

enum { STORE_PATH_BYTES = XENSTORE_ABS_PATH_MAX + 1, STORE_OWNER = 4 /* beside STORE_READ and STORE_WRITE */ };

/* ---- store_tree.c ---- */

/* Owner: those that count in refs: parents, of views that share it, or a view whose root it is. */
struct node {
	uint32_t refs;
	uint32_t len; /* of value */
	uint64_t generation; /* unique; another one after each change of value or permissions */
	uint64_t listing; /* likewise, of the list of children */
	uint32_t nchildren, room;
	uint32_t names; /* bytes of the names of the children, with their 0s */
	struct store_perms perms;
	struct node **child; /* ordered as store_list says */
	char *value; /* with a 0 behind it */
	uint32_t namelen;
	char name[];
};

/* The tree as somebody sees it. */
struct view {
	struct node *root;
	unsigned owned; /* nodes that the guest owns */
};

struct found {
	struct node *node; /* NULL: not there */
	struct node *above; /* its parent, or if it is not there, the closest ancestor that is; NULL: of the root */
	const char *rest; /* what is missing below that, as the end of the path that was searched */
};

int store_path(const struct store *s, const char *path, char out[STORE_PATH_BYTES], bool special);
struct found node_find(struct node *root, const char *path);
struct node *node_ref(struct node *n);
void node_put(struct store *s, struct node *n);
/* The node that `path` up to `end` names, which is there, no longer shared with any snapshot. NULL: no memory, nothing has changed. */
struct node *node_own(struct store *s, struct view *v, const char *path, const char *end);
int node_set(struct store *s, struct node *n, const void *value, size_t len, const struct store_perms *perms); /* NULLs: stays */
/* Take the node at path, which is there, out of a view; its reference is the caller's. NULL: no memory. */
struct node *view_take(struct store *s, struct view *v, const char *path);
/* Put a node, whose reference passes on success, into a view at path, whose parent is there. */
int view_put(struct store *s, struct view *v, const char *path, struct node *n);
bool node_readable(const struct store *s, const struct node *n); /* by the guest; NULL: no */
void store_charge(struct store *s, bool guest, ptrdiff_t bytes);
bool store_room(const struct store *s, struct store_as as, size_t bytes); /* has the asker memory left? */

/* ---- store_txn.c ---- */

enum { TOUCHED = 1, LISTED = 2, WROTE = 4, REMOVED = 8, FIRES = 16 };

/* A path that a transaction used, and how. */
struct access {
	UT_hash_handle hh;
	uint8_t how;
	char path[];
};

/* Owner: the store's list. */
struct txn {
	uint32_t id;
	uint16_t domid;
	bool doomed; /* it grew too old: its end is refused, and it pins nothing */
	uint64_t since; /* the store's generation at the start */
	struct node *base; /* the tree as it was then; NULL: doomed */
	struct view view; /* ... with its own changes */
	struct access *accesses;
	unsigned naccesses;
	struct txn *prev, *next;
};

struct txn *txn_find(struct store *s, struct store_as as);
int txn_note(struct store *s, struct txn *t, const char *path, size_t len, unsigned how);
void txn_age(struct store *s); /* let those go that are too old */
void txn_reset(struct store *s, uint16_t domid);

/* ---- store_watch.c ---- */

/* Owner: the store's list. */
struct watch {
	uint64_t id;
	unsigned skip; /* bytes of a path that are not told: it was set relative */
	bool lost; /* an event had no room */
	size_t bytes;
	struct watch *prev, *next;
	const char *token; /* behind path */
	char path[];
};

/* One that waits. Owner: the store's hash, which keeps them in order. */
struct event {
	UT_hash_handle hh;
	struct watch *watch;
	size_t bytes;
	uint64_t watch_id; /* the key begins here */
	char path[];
};

struct change {
	const char *path;
	const struct node *now, *above; /* NULL: is not */
	const struct store_perms *before; /* NULL: was not */
};

void watch_fire(struct store *s, const struct change *c);
void watch_fire_below(struct store *s, const char *path, struct node *gone); /* all below path has gone */

/* ---- all ---- */

struct store {
	uint16_t domid;
	struct store_limits limits;
	struct store_ops ops;
	void *ctx;
	struct view main;
	uint64_t generation; /* the last number given */
	struct txn *txns; /* oldest first */
	unsigned ntxns; /* the guest's */
	uint32_t last_tx;
	struct watch *watches;
	unsigned nwatches;
	uint64_t seed; /* a guest that cannot know it cannot choose what its events hash to */
	struct event *events; /* oldest first */
	size_t events_bytes;
	bool lost; /* some watch has */
	size_t memory, total;
	size_t homelen;
	char home[24]; /* /local/domain/DOMID/ */
};

#endif
