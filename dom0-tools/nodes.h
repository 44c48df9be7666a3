/* nodes.h - where the XenStore nodes of a guest live: in the guest's own tree (store_tree.h), or in a xenstored beside us.
 *
 * dialect_store.c shows devices through it, and knows not which it is. Paths are absolute. Calls may be made between begin and
 * commit, which makes them appear as one; without begin each stands alone. Thread rule: pviod's thread.
 */
#ifndef NODES_H
#define NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nodes {
	const struct nodes_ops *ops; /* the head of every kind's own struct */
	bool others; /* other toolstacks have nodes there too: `remove` takes the directories above away by itself when they are empty */
};

struct nodes_ops {
	/* A node's value, with a 0 behind it. Returns its length; -ENOENT: no such node; -EINVAL: longer than len - 1, or with a
	 * 0 byte in it: nothing that a frontend should have written. Other -errno: the store is gone. */
	int (*read)(struct nodes *n, const char *path, char *buf, size_t len);
	/* Write a node. If it is made, domid `owner` owns it and domid `reader` may read it; if it is there, it keeps its
	 * permissions. Parents that are missing are made, with the permissions of the node above them. Returns 0 or -errno. */
	int (*write)(struct nodes *n, const char *path, const char *value, uint16_t owner, uint16_t reader);
	/* Remove a node and all below it. 0: it is gone, also if it was not there. */
	int (*remove)(struct nodes *n, const char *path);
	int (*begin)(struct nodes *n);
	int (*commit)(struct nodes *n); /* 0; -EAGAIN: others changed the same, nothing was done: begin anew */
	void (*abort)(struct nodes *n);
	/* From now on nodes_changed(ctx) is called, soon and once for several, when something at or below path has changed by
	 * another hand than ours; once at first. unwatch: no longer. The pair of path and ctx names the watch. */
	int (*watch)(struct nodes *n, const char *path, void (*changed)(void *ctx), void *ctx);
	void (*unwatch)(struct nodes *n, const char *path, void *ctx);
	/* Does the guest itself watch path, or something below it? NULL: nobody can tell. */
	bool (*watched)(struct nodes *n, const char *path);
};

#endif
