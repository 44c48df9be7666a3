/* store_tree.h - the XenStore dialect's tree: all that one guest sees of XenStore, and what it may do to it.
 *
 * Two parties work on it. Domain 0 (pviod, domid 0) is trusted: nothing is refused it. The guest is not: what it reads, writes and
 * owns is checked as xenstored checks an unprivileged domain, and what it can cost is bounded by struct store_limits.
 *
 * Paths are absolute, or relative to /local/domain/DOMID of the guest. Results are 0 or -errno, with the errno that xenstored
 * sends. Pure: no hypervisor, no loop, no clock. Thread rule: a store belongs to one thread.
 */
#ifndef STORE_TREE_H
#define STORE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

enum {
	STORE_PERMS_MAX = 5, /* entries a node */
	STORE_DEPTH_MAX = 64, /* names in an absolute path: what is done for one is bounded by it (XSA-418); more is -EINVAL */
};
enum { STORE_READ = 1, STORE_WRITE = 2 };

/* Entry 0 names the owner, who may do everything; its mode is everybody else's. The others: what that domain may do. */
struct store_perm {
	uint16_t domid;
	uint8_t mode; /* STORE_READ | STORE_WRITE */
};

struct store_perms {
	unsigned n;
	struct store_perm p[STORE_PERMS_MAX];
};

/* What a guest may use; each 0: the default, which is xenstored's where xenstored has one. */
struct store_limits {
	unsigned nodes; /* that it owns: 1000 (ENOSPC) */
	unsigned node_bytes; /* of a value, with the names of the node's children: 2048 (ENOSPC) */
	unsigned watches; /* 128 (E2BIG) */
	unsigned transactions; /* open at once: 10 (ENOSPC) */
	unsigned transaction_nodes; /* touched in one: 1024 (ENOSPC) */
	unsigned transaction_age; /* changes of the tree that one may outlive: 10000; then it lets go of what it pins, and conflicts */
	size_t memory; /* bytes in all: 2.5 MiB (ENOMEM) */
	size_t events; /* bytes of these, in events that the guest did not fetch: 1 MiB; beyond, see store_event_take */
};

/* Both may be called from within any call but store_free, when the change is complete; they only take note. */
struct store_ops {
	void (*events)(void *ctx); /* there is something for store_event_take */
	void (*changed)(void *ctx, const char *path, bool all); /* by the guest; `all`: all that was below has gone */
};

/* Who asks, and in which transaction (0: none). */
struct store_as {
	uint16_t domid; /* 0, or the guest's */
	uint32_t tx;
};

/* Make the tree of guest domid (not 0): its root belongs to domain 0, and nobody else may read it. limits NULL: all defaults.
 * Returns 0 or -ENOMEM. */
int store_new(uint16_t domid, const struct store_limits *limits, const struct store_ops *ops, void *ctx, struct store **out);
void store_free(struct store *s); /* NULL is fine */
uint16_t store_domid(const struct store *s);

/* Of each: -EINVAL: no such path can be; -EACCES; -ENOENT: no such node, or no such transaction; -ENOSPC, -ENOMEM: a quota. */

/* A node's value: *value is valid until the next call, and has a 0 behind it. */
int store_read(struct store *s, struct store_as as, const char *path, const char **value, size_t *len);
/* Missing parents are made. New nodes have the permissions of the one above; those that a guest makes it owns. */
int store_write(struct store *s, struct store_as as, const char *path, const void *value, size_t len);
/* The same, and if the node was not there, it has these permissions. */
int store_put(struct store *s, struct store_as as, const char *path, const void *value, size_t len, const struct store_perms *perms);
int store_mkdir(struct store *s, struct store_as as, const char *path); /* 0 as well if it is there */
int store_rm(struct store *s, struct store_as as, const char *path); /* with all below; 0 as well if only its parent is there */
/* The names of its children, each with its 0, shorter names first and then by their bytes, so that 2 comes before 10. *list is
 * the caller's to free; *generation changes with the node. */
int store_list(struct store *s, struct store_as as, const char *path, char **list, size_t *len, uint64_t *generation);
int store_get_perms(struct store *s, struct store_as as, const char *path, struct store_perms *perms);
int store_set_perms(struct store *s, struct store_as as, const char *path, const struct store_perms *perms);

/* ---- transactions: store_txn.c ---- */

/* A transaction sees the tree as it was at its start, with its own changes, which appear all at once at its end. The end is
 * refused with -EAGAIN, and nothing was changed, if a path that it read, listed, wrote or removed was changed by others. */
int store_tx_start(struct store *s, struct store_as as, uint32_t *tx);
int store_tx_end(struct store *s, struct store_as as, bool commit);

/* ---- watches of the guest: store_watch.c ---- */

/* -EEXIST: the pair is there; -E2BIG: too many. Each watch fires once at first. */
int store_watch(struct store *s, const char *path, const char *token);
int store_unwatch(struct store *s, const char *path, const char *token); /* its events go with it */
bool store_watched(const struct store *s, const char *path); /* is there one at path or below? */
void store_reset(struct store *s); /* the guest's watches and transactions */

/* The next event for the guest, as "path\0token\0", into buf of XENSTORE_PAYLOAD_MAX bytes. Returns its length, 0: none.
 * An event that waits already is not queued twice. When there is no room for one more, the watch is told its own path instead,
 * once, after all others: so nothing is lost that the guest could not find by reading anew. */
size_t store_event_take(struct store *s, char *buf);

/* Is path `above`, or below it? Both are absolute. */
bool store_is_below(const char *path, const char *above);

/* ---- how much there is: for limits, reports and tests ---- */

struct store_usage {
	unsigned nodes; /* that the guest owns, without what transactions hold */
	unsigned watches, transactions;
	size_t memory; /* bytes that the guest is charged */
	size_t total; /* bytes in all */
};

void store_usage(const struct store *s, struct store_usage *out);

#endif
