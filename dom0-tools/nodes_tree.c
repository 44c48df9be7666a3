/* nodes_tree.c - struct nodes onto the tree of a guest that pviod itself serves. */
#include "nodes_tree.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* Owner: its nodes' list, from watch to unwatch. */
struct watcher {
	void (*changed)(void *ctx);
	void *ctx;
	bool told; /* is to be called */
	struct watcher *prev, *next;
	char path[];
};

struct nodes_tree {
	struct nodes nodes;
	struct store *tree;
	struct store_as as; /* with the transaction that was begun */
	void (*wake)(void *ctx);
	void *ctx;
	struct watcher *watchers;
};

static struct nodes_tree *tree_of(struct nodes *n)
{
	return (struct nodes_tree *)n; /* its head */
}

static int tree_read(struct nodes *n, const char *path, char *buf, size_t len)
{
	const char *value;
	size_t size;
	int err = store_read(tree_of(n)->tree, tree_of(n)->as, path, &value, &size);

	if (err)
		return err;
	if (size >= len || memchr(value, '\0', size))
		return -EINVAL;
	memcpy(buf, value, size + 1);
	return size;
}

static int tree_write(struct nodes *n, const char *path, const char *value, uint16_t owner, uint16_t reader)
{
	const struct store_perms perms = { .n = 2, .p = { { .domid = owner }, { .domid = reader, .mode = STORE_READ } } };

	return store_put(tree_of(n)->tree, tree_of(n)->as, path, value, strlen(value), &perms);
}

static int tree_remove(struct nodes *n, const char *path)
{
	int err = store_rm(tree_of(n)->tree, tree_of(n)->as, path);

	return err == -ENOENT ? 0 : err;
}

static int tree_begin(struct nodes *n)
{
	return store_tx_start(tree_of(n)->tree, tree_of(n)->as, &tree_of(n)->as.tx);
}

static int end(struct nodes_tree *t, bool commit)
{
	int err = store_tx_end(t->tree, t->as, commit);

	t->as.tx = 0;
	return err;
}

static int tree_commit(struct nodes *n)
{
	return end(tree_of(n), true);
}

static void tree_abort(struct nodes *n)
{
	end(tree_of(n), false);
}

/* ---- watches ---- */

static void note(struct nodes_tree *t, struct watcher *w)
{
	w->told = true;
	t->wake(t->ctx);
}

static int tree_watch(struct nodes *n, const char *path, void (*changed)(void *ctx), void *ctx)
{
	struct watcher *w = malloc(sizeof(*w) + strlen(path) + 1);

	if (!w)
		return -ENOMEM;
	w->changed = changed;
	w->ctx = ctx;
	strcpy(w->path, path);
	DL_APPEND(tree_of(n)->watchers, w);
	note(tree_of(n), w);
	return 0;
}

static void tree_unwatch(struct nodes *n, const char *path, void *ctx)
{
	struct watcher *w;

	DL_FOREACH(tree_of(n)->watchers, w)
		if (w->ctx == ctx && strcmp(w->path, path) == 0)
			break;
	if (!w)
		return;
	DL_DELETE(tree_of(n)->watchers, w);
	free(w);
}

static bool tree_watched(struct nodes *n, const char *path)
{
	return store_watched(tree_of(n)->tree, path);
}

void nodes_tree_changed(struct nodes *n, const char *path, bool all)
{
	struct watcher *w;

	DL_FOREACH(tree_of(n)->watchers, w)
		if (!w->told && (store_is_below(path, w->path) || (all && store_is_below(w->path, path))))
			note(tree_of(n), w);
}

/* A callback may watch and unwatch: after each, look from the beginning. */
void nodes_tree_tell(struct nodes *n)
{
	struct watcher *w;

	for (;;) {
		DL_SEARCH_SCALAR(tree_of(n)->watchers, w, told, true);
		if (!w)
			return;
		w->told = false;
		w->changed(w->ctx);
	}
}

/* ---- the whole ---- */

static const struct nodes_ops ops = {
	.read = tree_read,
	.write = tree_write,
	.remove = tree_remove,
	.begin = tree_begin,
	.commit = tree_commit,
	.abort = tree_abort,
	.watch = tree_watch,
	.unwatch = tree_unwatch,
	.watched = tree_watched,
};

int nodes_tree_new(struct store *tree, void (*wake)(void *ctx), void *ctx, struct nodes **out)
{
	struct nodes_tree *t = calloc(1, sizeof(*t));

	*out = t ? &t->nodes : NULL;
	if (!t)
		return -ENOMEM;
	t->nodes.ops = &ops;
	t->tree = tree;
	t->wake = wake;
	t->ctx = ctx;
	return 0;
}

void nodes_tree_free(struct nodes *n)
{
	struct watcher *w, *next;

	if (!n)
		return;
	if (tree_of(n)->as.tx)
		tree_abort(n);
	DL_FOREACH_SAFE(tree_of(n)->watchers, w, next)
		free(w);
	free(n);
}
