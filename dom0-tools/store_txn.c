/* store_txn.c - transactions on the XenStore dialect's tree.
 *
 * Theory of operation. A transaction is a snapshot (`base`) and a view that begins as the same nodes; its operations change
 * the view alone. Beside that it keeps a list of the paths that it used, and how. At its end each of them must be in the tree
 * as it was in the snapshot: a node that was read or written by its generation, a listed one by that of its list as well, a removed
 * one with all that was below it. Changes elsewhere do not matter. Then what it wrote is carried over, path by path,
 * parents first; if nothing at all has changed meanwhile, its view simply becomes the tree.
 */
#include "store_int.h"
#include <stdlib.h>
#include <string.h>

static bool of_guest(const struct store *s, const struct txn *t)
{
	return t->domid == s->domid;
}

static void forget_accesses(struct store *s, struct txn *t)
{
	struct access *a, *next;

	HASH_ITER(hh, t->accesses, a, next) {
		HASH_DEL(t->accesses, a);
		store_charge(s, of_guest(s, t), -(ptrdiff_t)(sizeof(*a) + strlen(a->path) + 1));
		free(a);
	}
	t->naccesses = 0;
}

static void forget_tree(struct store *s, struct txn *t)
{
	node_put(s, t->view.root);
	node_put(s, t->base);
	t->base = t->view.root = NULL;
}

static void txn_free(struct store *s, struct txn *t)
{
	forget_accesses(s, t);
	forget_tree(s, t);
	DL_DELETE(s->txns, t);
	if (of_guest(s, t))
		s->ntxns--;
	store_charge(s, of_guest(s, t), -(ptrdiff_t)sizeof(*t));
	free(t);
}

struct txn *txn_find(struct store *s, struct store_as as)
{
	struct txn *t;

	DL_FOREACH(s->txns, t)
		if (t->id == as.tx && t->domid == as.domid)
			return t;
	return NULL;
}

void txn_reset(struct store *s, uint16_t domid)
{
	struct txn *t, *next;

	DL_FOREACH_SAFE(s->txns, t, next)
		if (t->domid == domid)
			txn_free(s, t);
}

/* A doomed one goes on with the tree as it is now, for its owner may not see errors before the end. */
void txn_age(struct store *s)
{
	struct txn *t;

	DL_FOREACH(s->txns, t) {
		if (s->generation - t->since <= s->limits.transaction_age || !of_guest(s, t))
			continue;
		forget_accesses(s, t);
		forget_tree(s, t);
		t->doomed = true;
		t->since = s->generation;
		t->view = (struct view){ node_ref(s->main.root), s->main.owned };
	}
}

int txn_note(struct store *s, struct txn *t, const char *path, size_t len, unsigned how)
{
	struct access *a;
	size_t bytes = sizeof(*a) + len + 1;

	if (t->doomed)
		return 0;
	HASH_FIND(hh, t->accesses, path, len, a);
	if (a) {
		a->how |= how;
		return 0;
	}
	if (of_guest(s, t) && t->naccesses >= s->limits.transaction_nodes)
		return -ENOSPC;
	a = store_room(s, (struct store_as){ .domid = t->domid }, bytes) ? calloc(1, bytes) : NULL;
	if (!a)
		return -ENOMEM;
	a->how = how;
	memcpy(a->path, path, len);
	HASH_ADD_KEYPTR(hh, t->accesses, a->path, len, a);
	if (!a->hh.tbl) {
		free(a);
		return -ENOMEM;
	}
	t->naccesses++;
	store_charge(s, of_guest(s, t), bytes);
	return 0;
}

int store_tx_start(struct store *s, struct store_as as, uint32_t *tx)
{
	bool guests = as.domid == s->domid;
	struct txn *t;

	if (as.tx)
		return txn_find(s, as) ? -EBUSY : -ENOENT;
	if (guests && s->ntxns >= s->limits.transactions)
		return -ENOSPC;
	t = store_room(s, as, sizeof(*t)) ? calloc(1, sizeof(*t)) : NULL;
	if (!t)
		return -ENOMEM;
	do
		t->id = ++s->last_tx;
	while (t->id == 0 || txn_find(s, (struct store_as){ as.domid, t->id }));
	t->domid = as.domid;
	t->since = s->generation;
	t->base = node_ref(s->main.root);
	t->view = (struct view){ node_ref(s->main.root), s->main.owned };
	DL_APPEND(s->txns, t);
	if (guests)
		s->ntxns++;
	store_charge(s, guests, sizeof(*t));
	*tx = t->id;
	return 0;
}

/* ---- the end ---- */

static bool same(const struct node *a, const struct node *b, bool list)
{
	if (a == b || !a || !b)
		return a == b;
	return a->generation == b->generation && (!list || a->listing == b->listing);
}

static bool same_tree(const struct node *a, const struct node *b)
{
	if (a == b)
		return true;
	if (!same(a, b, true))
		return false;
	for (uint32_t i = 0; i < a->nchildren; i++)
		if (!same_tree(a->child[i], b->child[i]))
			return false;
	return true;
}

static bool conflicts(const struct store *s, const struct txn *t)
{
	if (t->base == s->main.root)
		return false;
	for (const struct access *a = t->accesses; a; a = a->hh.next) {
		const struct node *then = node_find(t->base, a->path).node, *now = node_find(s->main.root, a->path).node;

		if (!(a->how & REMOVED ? same_tree(then, now) : same(then, now, a->how & LISTED)))
			return true;
	}
	return false;
}

/* Carry one path over. What was made or removed goes as a whole, with all below: nobody else has touched that. */
static int carry(struct store *s, const struct txn *t, const struct access *a)
{
	struct node *ours = node_find(t->view.root, a->path).node, *n = node_find(s->main.root, a->path).node;

	if (ours == n)
		return 0;
	if (n && (!ours || a->how & REMOVED)) {
		n = view_take(s, &s->main, a->path);
		if (!n)
			return -ENOMEM;
		node_put(s, n);
		n = NULL;
	}
	if (ours && !n) {
		int err = view_put(s, &s->main, a->path, ours);

		if (!err)
			node_ref(ours);
		return err;
	}
	if (!ours)
		return 0;
	n = node_own(s, &s->main, a->path, a->path + strlen(a->path));
	if (!n)
		return -ENOMEM;
	s->main.owned -= n->perms.p[0].domid == s->domid;
	s->main.owned += ours->perms.p[0].domid == s->domid;
	return node_set(s, n, ours->value, ours->len, &ours->perms);
}

/* All or nothing: the tree as it was is kept until all is carried over. */
static int merge(struct store *s, const struct txn *t)
{
	struct view saved = { node_ref(s->main.root), s->main.owned };
	int err = 0;

	for (const struct access *a = t->accesses; a && !err; a = a->hh.next)
		if (a->how & WROTE)
			err = carry(s, t, a);
	if (!err && of_guest(s, t) && s->main.owned > saved.owned && s->main.owned > s->limits.nodes)
		err = -ENOSPC;
	if (err) {
		node_put(s, s->main.root);
		s->main = saved;
	} else {
		node_put(s, saved.root);
	}
	return err;
}

static void fire(struct store *s, const struct txn *t, const struct access *a)
{
	struct found now = node_find(s->main.root, a->path);
	struct node *then = node_find(t->base, a->path).node;

	if (then == now.node)
		return;
	if (a->how & REMOVED && then)
		watch_fire_below(s, a->path, then);
	watch_fire(s, &(struct change){ a->path, now.node, now.above, then ? &then->perms : NULL });
}

static int by_path(const struct access *a, const struct access *b)
{
	return strcmp(a->path, b->path);
}

static int commit(struct store *s, struct txn *t)
{
	int err = 0;

	if (t->doomed || conflicts(s, t))
		return -EAGAIN;
	HASH_SORT(t->accesses, by_path);
	if (t->base == s->main.root) {
		node_put(s, s->main.root);
		s->main = (struct view){ node_ref(t->view.root), t->view.owned };
	} else {
		err = merge(s, t);
	}
	for (const struct access *a = t->accesses; a && !err; a = a->hh.next)
		if (a->how & FIRES)
			fire(s, t, a);
	for (const struct access *a = t->accesses; a && !err && of_guest(s, t); a = a->hh.next)
		if (a->how & FIRES)
			s->ops.changed(s->ctx, a->path, a->how & REMOVED);
	return err;
}

int store_tx_end(struct store *s, struct store_as as, bool keep)
{
	struct txn *t = txn_find(s, as);
	int err;

	if (!t)
		return -ENOENT;
	err = keep ? commit(s, t) : 0;
	txn_free(s, t);
	return err;
}
