/* store_tree.c - the XenStore dialect's tree: nodes, permissions, quotas. */
#include "store_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* One request on its way: lives on the stack. */
struct op {
	struct store *s;
	struct store_as as;
	struct txn *txn; /* NULL: none */
	struct view *view;
	struct found f;
	size_t len;
	char path[STORE_PATH_BYTES];
};

/* ---- paths ---- */

static unsigned depth_of(const char *path)
{
	unsigned n = 0;

	for (; (path = strchr(path, '/')); path++)
		n++;
	return n;
}

/* The absolute path that `path` means. special: @names are legal as well. Returns its length or -EINVAL. */
int store_path(const struct store *s, const char *path, char out[STORE_PATH_BYTES], bool special)
{
	static const char legal[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_@";
	bool relative = path[0] != '/' && path[0] != '@';
	size_t n = strnlen(path, STORE_PATH_BYTES), at = relative ? s->homelen : 0;

	if (n == 0 || n > (relative ? XENSTORE_REL_PATH_MAX : XENSTORE_ABS_PATH_MAX) || strspn(path, legal) < n)
		return -EINVAL;
	if ((path[0] == '@' && !special) || strstr(path, "//") || (path[n - 1] == '/' && n > 1))
		return -EINVAL;
	memcpy(out, s->home, at);
	memcpy(out + at, path, n + 1);
	return depth_of(out) > STORE_DEPTH_MAX ? -EINVAL : (int)(at + n);
}

/* ---- nodes ---- */

static bool is_guests(const struct store *s, const struct node *n)
{
	return n->perms.p[0].domid == s->domid;
}

void store_charge(struct store *s, bool guest, ptrdiff_t bytes)
{
	s->total += bytes;
	if (guest)
		s->memory += bytes;
}

bool store_room(const struct store *s, struct store_as as, size_t bytes)
{
	return as.domid == 0 || (bytes <= s->limits.memory && s->memory <= s->limits.memory - bytes);
}

/* Its owner is charged: take it off before a change, and on again after it. */
static void charge(struct store *s, const struct node *n, int sign)
{
	ptrdiff_t bytes = sizeof(*n) + n->namelen + 1 + (n->value ? n->len + 1 : 0) + n->room * sizeof(*n->child);

	store_charge(s, is_guests(s, n), sign * bytes);
}

struct node *node_ref(struct node *n)
{
	n->refs++;
	return n;
}

/* It goes as deep as the tree: STORE_DEPTH_MAX. */
void node_put(struct store *s, struct node *n)
{
	if (!n || --n->refs > 0)
		return;
	for (uint32_t i = 0; i < n->nchildren; i++)
		node_put(s, n->child[i]);
	charge(s, n, -1);
	free(n->child);
	free(n->value);
	free(n);
}

static struct node *node_new(struct store *s, const char *name, size_t len, const struct store_perms *perms)
{
	struct node *n = calloc(1, sizeof(*n) + len + 1);

	if (!n)
		return NULL;
	n->refs = 1;
	n->perms = *perms;
	n->namelen = len;
	memcpy(n->name, name, len);
	n->generation = n->listing = ++s->generation;
	charge(s, n, 1);
	return n;
}

int node_set(struct store *s, struct node *n, const void *value, size_t len, const struct store_perms *perms)
{
	char *copy = NULL;

	if (value) {
		copy = malloc(len + 1);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, value, len);
		copy[len] = '\0';
	}
	charge(s, n, -1);
	if (value) {
		free(n->value);
		n->value = copy;
		n->len = len;
	}
	if (perms)
		n->perms = *perms;
	charge(s, n, 1);
	n->generation = ++s->generation;
	return 0;
}

/* The same node again, for one who will change it. Its children are shared. */
static struct node *node_copy(struct store *s, const struct node *from)
{
	struct node *n = node_new(s, from->name, from->namelen, &from->perms);
	struct node **child = from->room ? malloc(from->room * sizeof(*child)) : NULL;

	if (!n || (from->room && !child) || (from->value && node_set(s, n, from->value, from->len, NULL) < 0)) {
		free(child);
		node_put(s, n);
		return NULL;
	}
	charge(s, n, -1);
	n->child = child;
	n->room = from->room;
	n->names = from->names;
	n->nchildren = from->nchildren;
	for (uint32_t i = 0; i < n->nchildren; i++)
		child[i] = node_ref(from->child[i]);
	charge(s, n, 1);
	n->generation = from->generation;
	n->listing = from->listing;
	return n;
}

/* Where a child of this name is, or would be. */
static uint32_t child_at(const struct node *n, const char *name, size_t len, bool *there)
{
	uint32_t low = 0, high = n->nchildren;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		const struct node *c = n->child[middle];
		int order = c->namelen != len ? (c->namelen < len ? -1 : 1) : memcmp(c->name, name, len);

		if (order == 0) {
			*there = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*there = false;
	return low;
}

static const char *next_name(const char *p, size_t len)
{
	return p + len + (p[len] == '/');
}

struct found node_find(struct node *root, const char *path)
{
	struct found f = { .node = root };
	const char *p;
	size_t len;

	for (p = path + 1; *p; p = next_name(p, len)) {
		bool there;
		uint32_t at;

		len = strcspn(p, "/");
		f.above = f.node;
		at = child_at(f.node, p, len, &there);
		f.node = there ? f.node->child[at] : NULL;
		if (!there)
			break;
	}
	f.rest = p;
	return f;
}

struct node *node_own(struct store *s, struct view *v, const char *path, const char *end)
{
	struct node **slot = &v->root;
	const char *p = path + 1;

	for (;;) {
		struct node *n = *slot;
		size_t len;
		bool there;

		if (n->refs > 1) {
			n = node_copy(s, *slot);
			if (!n)
				return NULL;
			(*slot)->refs--;
			*slot = n;
		}
		if (p >= end)
			return n;
		len = strcspn(p, "/");
		slot = &n->child[child_at(n, p, len, &there)];
		p = next_name(p, len);
	}
}

/* Put a child, whose reference passes on success, into a node. */
static int adopt(struct store *s, struct node *n, struct node *child)
{
	bool there;
	uint32_t at = child_at(n, child->name, child->namelen, &there);

	if (n->nchildren == n->room) {
		uint32_t room = n->room ? n->room * 2 : 4;
		struct node **more = realloc(n->child, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		charge(s, n, -1);
		n->child = more;
		n->room = room;
		charge(s, n, 1);
	}
	memmove(n->child + at + 1, n->child + at, (n->nchildren - at) * sizeof(*n->child));
	n->child[at] = child;
	n->nchildren++;
	n->names += child->namelen + 1;
	n->listing = ++s->generation;
	return 0;
}

static unsigned count_owned(const struct store *s, const struct node *n)
{
	unsigned owned = is_guests(s, n);

	for (uint32_t i = 0; i < n->nchildren; i++)
		owned += count_owned(s, n->child[i]);
	return owned;
}

static const char *parent_end(const char *path)
{
	return strrchr(path, '/');
}

struct node *view_take(struct store *s, struct view *v, const char *path)
{
	const char *slash = parent_end(path);
	struct node *parent = node_own(s, v, path, slash), *n;
	uint32_t at;
	bool there;

	if (!parent)
		return NULL;
	at = child_at(parent, slash + 1, strlen(slash + 1), &there);
	n = parent->child[at];
	memmove(parent->child + at, parent->child + at + 1, (parent->nchildren - at - 1) * sizeof(*parent->child));
	parent->nchildren--;
	parent->names -= n->namelen + 1;
	parent->listing = ++s->generation;
	v->owned -= count_owned(s, n);
	return n;
}

int view_put(struct store *s, struct view *v, const char *path, struct node *n)
{
	struct node *parent = node_own(s, v, path, parent_end(path));
	int err = parent ? adopt(s, parent, n) : -ENOMEM;

	if (!err)
		v->owned += count_owned(s, n);
	return err;
}

/* ---- permissions ---- */

static unsigned rights(struct store_as as, const struct store_perms *perms)
{
	if (as.domid == 0 || perms->p[0].domid == as.domid)
		return STORE_READ | STORE_WRITE | STORE_OWNER;
	for (unsigned i = 1; i < perms->n; i++)
		if (perms->p[i].domid == as.domid)
			return perms->p[i].mode;
	return perms->p[0].mode;
}

bool node_readable(const struct store *s, const struct node *n)
{
	return n && rights((struct store_as){ .domid = s->domid }, &n->perms) & STORE_READ;
}

/* ---- operations ---- */

enum { ABSENT = 1 };

/* Find what is asked for, and see whether the asker may. Who may not even use the closest node above is not told whether
 * there is one. Returns 0; ABSENT: no such node, and it may be told; -errno. */
static int begin(struct op *op, struct store *s, struct store_as as, const char *path, unsigned need)
{
	int len = store_path(s, path, op->path, false);

	op->s = s;
	op->as = as;
	op->len = len;
	op->txn = txn_find(s, as);
	if (len < 0 || (as.tx && !op->txn))
		return len < 0 ? len : -ENOENT;
	txn_age(s);
	op->view = op->txn ? &op->txn->view : &s->main;
	op->f = node_find(op->view->root, op->path);
	if (op->f.node)
		return (rights(as, &op->f.node->perms) & need) == need ? 0 : -EACCES;
	return rights(as, &op->f.above->perms) & need ? ABSENT : -EACCES;
}

static int note(struct op *op, unsigned how)
{
	return op->txn ? txn_note(op->s, op->txn, op->path, op->len, how) : 0;
}

/* What is read by a transaction counts as such even if it was not there. */
static int begin_read(struct op *op, struct store *s, struct store_as as, const char *path, unsigned how)
{
	int err = begin(op, s, as, path, STORE_READ);
	int noted = err >= 0 ? note(op, how) : 0;

	return noted ? noted : err;
}

static int answer(int err)
{
	return err == ABSENT ? -ENOENT : err;
}

/* A change is complete. */
static void end(struct op *op, const struct store_perms *before)
{
	struct store *s = op->s;
	struct found f;

	if (op->txn)
		return;
	f = node_find(s->main.root, op->path);
	watch_fire(s, &(struct change){ op->path, f.node, f.above, before });
	if (op->as.domid)
		s->ops.changed(s->ctx, op->path, false);
}

int store_read(struct store *s, struct store_as as, const char *path, const char **value, size_t *len)
{
	struct op op;
	int err = begin_read(&op, s, as, path, TOUCHED);

	if (err)
		return answer(err);
	*value = op.f.node->value ? op.f.node->value : "";
	*len = op.f.node->len;
	return 0;
}

int store_list(struct store *s, struct store_as as, const char *path, char **list, size_t *len, uint64_t *generation)
{
	struct op op;
	int err = begin_read(&op, s, as, path, TOUCHED | LISTED);
	struct node *n = op.f.node;
	char *p;

	if (err)
		return answer(err);
	p = malloc(n->names + 1);
	if (!p)
		return -ENOMEM;
	*list = p;
	*len = n->names;
	*generation = n->generation > n->listing ? n->generation : n->listing;
	for (uint32_t i = 0; i < n->nchildren; i++)
		p = mempcpy(p, n->child[i]->name, n->child[i]->namelen + 1);
	return 0;
}

int store_get_perms(struct store *s, struct store_as as, const char *path, struct store_perms *perms)
{
	struct op op;
	int err;

	if (path[0] == '@')
		return -EACCES; /* as of a node of domain 0's that nobody else may read */
	err = begin_read(&op, s, as, path, TOUCHED);
	if (!err)
		*perms = op.f.node->perms;
	return answer(err);
}

/* Has the asker memory left for a node that is there to have a value of this length? With transactions the old one may stay as well. */
static bool room_to_change(const struct op *op, size_t len)
{
	const struct node *n = op->f.node;

	if (op->s->txns)
		return store_room(op->s, op->as, sizeof(*n) + n->namelen + n->room * sizeof(*n->child) + len + 2);
	return len <= n->len || store_room(op->s, op->as, len - n->len + 1);
}

int store_set_perms(struct store *s, struct store_as as, const char *path, const struct store_perms *perms)
{
	struct store_perms before;
	struct node *n;
	struct op op;
	int err;

	if (path[0] == '@')
		return -EACCES;
	if (perms->n == 0 || perms->n > STORE_PERMS_MAX)
		return perms->n ? -ENOSPC : -EINVAL;
	err = begin(&op, s, as, path, STORE_WRITE | STORE_OWNER);
	if (err)
		return answer(err);
	before = op.f.node->perms;
	if (as.domid && perms->p[0].domid != before.p[0].domid)
		return -EPERM;
	if (!room_to_change(&op, op.f.node->len))
		return -ENOMEM;
	err = note(&op, TOUCHED | WROTE | FIRES);
	if (err)
		return err;
	n = node_own(s, op.view, op.path, op.path + op.len);
	if (!n)
		return -ENOMEM;
	op.view->owned -= is_guests(s, n);
	node_set(s, n, NULL, 0, perms);
	op.view->owned += is_guests(s, n);
	end(&op, &before);
	return 0;
}

/* ---- making nodes ---- */

/* A transaction that makes nodes relies on the one above, and writes each of them. */
static int note_new(struct op *op)
{
	size_t above = op->f.rest - op->path > 1 ? op->f.rest - op->path - 1 : 1;
	int err;

	if (!op->txn)
		return 0;
	err = txn_note(op->s, op->txn, op->path, above, TOUCHED);
	for (const char *p = op->f.rest; *p && !err;) {
		size_t len = strcspn(p, "/");
		bool last = p[len] == '\0';

		err = txn_note(op->s, op->txn, op->path, p + len - op->path, TOUCHED | WROTE | (last ? FIRES : 0));
		p = next_name(p, len);
	}
	return err;
}

/* May the guest make these? Domain 0 may. */
static int may_make(const struct op *op, size_t len)
{
	const struct store_limits *l = &op->s->limits;
	size_t names = 0, first = strcspn(op->f.rest, "/") + 1, depth = 0;

	if (op->as.domid == 0)
		return 0;
	for (const char *p = op->f.rest; *p; p = next_name(p, strcspn(p, "/"))) {
		depth++;
		names += strcspn(p, "/") + 1;
	}
	if (op->view->owned + depth > l->nodes || op->f.above->len + op->f.above->names + first > l->node_bytes || len > l->node_bytes)
		return -ENOSPC;
	return store_room(op->s, op->as, names + len + 1 + depth * (sizeof(struct node) + 4 * sizeof(struct node *))) ? 0 : -ENOMEM;
}

/* The nodes that are missing, one below the other, the last with the value. */
static struct node *chain(struct op *op, const void *value, size_t len, const struct store_perms *perms)
{
	struct store_perms inherited = op->f.above->perms;
	struct node *top = NULL, *bottom = NULL;
	const char *p = op->f.rest;

	if (op->as.domid)
		inherited.p[0].domid = op->as.domid;
	while (*p) {
		size_t n = strcspn(p, "/");
		struct node *made = node_new(op->s, p, n, perms && p[n] == '\0' ? perms : &inherited);

		if (!made || (bottom && adopt(op->s, bottom, made) < 0)) {
			node_put(op->s, made);
			node_put(op->s, top);
			return NULL;
		}
		bottom = made;
		top = top ? top : made;
		p = next_name(p, n);
	}
	if (len > 0 && node_set(op->s, bottom, value, len, NULL) < 0) {
		node_put(op->s, top);
		return NULL;
	}
	return top;
}

static int make(struct op *op, const void *value, size_t len, const struct store_perms *perms)
{
	int err = may_make(op, len);
	struct node *above, *top;

	if (!err)
		err = note_new(op);
	if (err)
		return err;
	above = node_own(op->s, op->view, op->path, op->f.rest);
	if (!above)
		return -ENOMEM;
	op->f.above = above;
	top = chain(op, value, len, perms);
	if (!top || adopt(op->s, above, top) < 0) {
		node_put(op->s, top);
		return -ENOMEM;
	}
	op->view->owned += count_owned(op->s, top);
	end(op, NULL);
	return 0;
}

static int overwrite(struct op *op, const void *value, size_t len)
{
	struct node *n = op->f.node;
	int err;

	if (op->as.domid && len + n->names > op->s->limits.node_bytes)
		return -ENOSPC;
	if (!room_to_change(op, len))
		return -ENOMEM;
	err = note(op, TOUCHED | WROTE | FIRES);
	if (err)
		return err;
	n = node_own(op->s, op->view, op->path, op->path + op->len);
	err = n ? node_set(op->s, n, value, len, NULL) : -ENOMEM;
	if (!err)
		end(op, NULL);
	return err;
}

int store_put(struct store *s, struct store_as as, const char *path, const void *value, size_t len, const struct store_perms *perms)
{
	struct op op;
	int err = begin(&op, s, as, path, STORE_WRITE);

	if (err == 0)
		return overwrite(&op, value, len);
	return err == ABSENT ? make(&op, value, len, perms) : err;
}

int store_write(struct store *s, struct store_as as, const char *path, const void *value, size_t len)
{
	return store_put(s, as, path, value, len, NULL);
}

int store_mkdir(struct store *s, struct store_as as, const char *path)
{
	struct op op;
	int err = begin(&op, s, as, path, STORE_WRITE);

	if (err == 0)
		return note(&op, TOUCHED);
	return err == ABSENT ? make(&op, NULL, 0, NULL) : err;
}

/* ---- removing ---- */

/* It was not there: fine if its parent is. */
static int rm_nothing(struct op *op)
{
	int err = note(op, TOUCHED);

	if (err)
		return err;
	return strchr(op->f.rest, '/') ? -ENOENT : 0;
}

int store_rm(struct store *s, struct store_as as, const char *path)
{
	struct op op;
	int err = begin(&op, s, as, path, STORE_WRITE);
	struct node *gone, *above;

	if (err == ABSENT)
		return rm_nothing(&op);
	if (!err && op.len == 1)
		err = -EINVAL;
	if (!err)
		err = note(&op, TOUCHED | WROTE | REMOVED | FIRES);
	if (err)
		return err;
	gone = view_take(s, op.view, op.path);
	if (!gone)
		return -ENOMEM;
	if (!op.txn) {
		above = node_find(s->main.root, op.path).above;
		watch_fire_below(s, op.path, gone);
		watch_fire(s, &(struct change){ op.path, NULL, above, &gone->perms });
		if (as.domid)
			s->ops.changed(s->ctx, op.path, true);
	}
	node_put(s, gone);
	return 0;
}

/* ---- the whole ---- */

static void set_limits(struct store_limits *l)
{
	l->nodes = l->nodes ? l->nodes : 1000;
	l->node_bytes = l->node_bytes ? l->node_bytes : 2048;
	l->watches = l->watches ? l->watches : 128;
	l->transactions = l->transactions ? l->transactions : 10;
	l->transaction_nodes = l->transaction_nodes ? l->transaction_nodes : 1024;
	l->transaction_age = l->transaction_age ? l->transaction_age : 10000;
	l->memory = l->memory ? l->memory : 5 << 19;
	l->events = l->events ? l->events : 1 << 20;
}

int store_new(uint16_t domid, const struct store_limits *limits, const struct store_ops *ops, void *ctx, struct store **out)
{
	static const struct store_perms root = { .n = 1 };
	struct store *s = calloc(1, sizeof(*s));

	*out = NULL;
	if (!s)
		return -ENOMEM;
	s->domid = domid;
	if (limits)
		s->limits = *limits;
	set_limits(&s->limits);
	s->ops = *ops;
	s->ctx = ctx;
	s->homelen = snprintf(s->home, sizeof(s->home), "/local/domain/%u/", domid);
	s->total = sizeof(*s);
	if (getrandom(&s->seed, sizeof(s->seed), GRND_NONBLOCK) < 0)
		s->seed = (uintptr_t)s;
	s->main.root = node_new(s, "", 0, &root);
	if (!s->main.root) {
		free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void store_free(struct store *s)
{
	if (!s)
		return;
	store_reset(s);
	txn_reset(s, 0);
	node_put(s, s->main.root);
	free(s);
}

uint16_t store_domid(const struct store *s)
{
	return s->domid;
}

bool store_is_below(const char *path, const char *above)
{
	size_t n = strlen(above);

	return n == 1 || (strncmp(path, above, n) == 0 && (path[n] == '/' || path[n] == '\0'));
}

void store_usage(const struct store *s, struct store_usage *out)
{
	*out = (struct store_usage){ s->main.owned, s->nwatches, s->ntxns, s->memory, s->total };
}
