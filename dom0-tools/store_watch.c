/* store_watch.c - the guest's watches on the XenStore dialect's tree, and the events that wait for it to fetch them.
 *
 * An event is told for a node that the guest may read, or might before the change, or whose parent it may read, as
 * xenstored does since XSA-115; otherwise paths alone would tell about others. A waiting event is found by a hash over its path
 * and a seed that the guest cannot know, so that a change costs about the same however many wait (XSA-326).
 */
#include "store_int.h"
#include <stdlib.h>
#include <string.h>

/* The key of an event: the id of its watch, and the path. */
struct key {
	uint64_t id;
	char path[STORE_PATH_BYTES];
};

static void drop(struct store *s, struct event *e)
{
	HASH_DEL(s->events, e);
	s->events_bytes -= e->bytes;
	store_charge(s, true, -(ptrdiff_t)e->bytes);
	free(e);
}

/* What a path hashes to, for any watch, once for all of them. */
static unsigned begin_key(const struct store *s, struct key *k, const char *path, size_t *len)
{
	unsigned hash;

	*len = sizeof(k->id) + strlen(path);
	k->id = s->seed;
	strcpy(k->path, path);
	HASH_VALUE(k, *len, hash);
	return hash;
}

/* In a message, and in what may wait. (The watch's own path fits: it came in a message with its token.) */
static bool fits(const struct store *s, const struct watch *w, const struct key *k, size_t bytes)
{
	if (strlen(k->path) - w->skip + strlen(w->token) + 2 > XENSTORE_PAYLOAD_MAX)
		return false;
	return bytes <= s->limits.events && s->events_bytes <= s->limits.events - bytes;
}

static void add(struct store *s, struct watch *w, struct key *k, size_t len, unsigned path_hash)
{
	unsigned hash = path_hash ^ (unsigned)w->id * 0x9e3779b1u;
	size_t bytes = offsetof(struct event, watch_id) + len + 1;
	struct event *e;

	k->id = w->id;
	HASH_FIND_BYHASHVALUE(hh, s->events, k, len, hash, e);
	if (e)
		return;
	e = fits(s, w, k, bytes) ? calloc(1, bytes) : NULL;
	if (e) {
		e->watch = w;
		e->bytes = bytes;
		memcpy(&e->watch_id, k, len);
		HASH_ADD_KEYPTR_BYHASHVALUE(hh, s->events, &e->watch_id, len, hash, e);
	}
	if (e && e->hh.tbl) {
		s->events_bytes += bytes;
		store_charge(s, true, bytes);
	} else {
		free(e);
		w->lost = s->lost = true;
	}
	s->ops.events(s->ctx);
}

void watch_fire(struct store *s, const struct change *c)
{
	struct node before = { .perms = c->before ? *c->before : (struct store_perms){ 0 } };
	struct watch *w;
	struct key k;
	size_t len;
	unsigned hash;

	if (!s->watches)
		return;
	if (!node_readable(s, c->now) && !node_readable(s, c->above) && !node_readable(s, c->before ? &before : NULL))
		return;
	hash = begin_key(s, &k, c->path, &len);
	DL_FOREACH(s->watches, w)
		if (store_is_below(c->path, w->path))
			add(s, w, &k, len, hash);
}

bool store_watched(const struct store *s, const char *path)
{
	const struct watch *w;

	DL_FOREACH(s->watches, w)
		if (store_is_below(w->path, path))
			return true;
	return false;
}

/* A watch below what has gone is told its own path, if there was such a node. */
void watch_fire_below(struct store *s, const char *path, struct node *gone)
{
	size_t n = strlen(path);
	struct watch *w;

	DL_FOREACH(s->watches, w) {
		struct found f;
		struct key k;
		size_t len;
		unsigned hash;

		if (strncmp(w->path, path, n) != 0 || w->path[n] != '/')
			continue;
		f = node_find(gone, w->path + n);
		if (!f.node || (!node_readable(s, f.node) && !node_readable(s, f.above)))
			continue;
		hash = begin_key(s, &k, w->path, &len);
		add(s, w, &k, len, hash);
	}
}

/* ---- what the guest asks ---- */

static struct watch *find(struct store *s, const char *path, const char *token)
{
	struct watch *w;

	DL_FOREACH(s->watches, w)
		if (strcmp(w->path, path) == 0 && strcmp(w->token, token) == 0)
			return w;
	return NULL;
}

int store_watch(struct store *s, const char *path, const char *token)
{
	struct store_as guest = { .domid = s->domid };
	char full[STORE_PATH_BYTES];
	int n = store_path(s, path, full, true);
	size_t bytes = sizeof(struct watch) + n + strlen(token) + 2, len;
	struct watch *w;
	struct key k;
	unsigned hash;

	if (n < 0)
		return n;
	if (find(s, full, token))
		return -EEXIST;
	if (s->nwatches >= s->limits.watches)
		return -E2BIG;
	w = store_room(s, guest, bytes) ? calloc(1, bytes) : NULL;
	if (!w)
		return -ENOMEM;
	w->id = ++s->generation;
	w->skip = path[0] == '/' || path[0] == '@' ? 0 : s->homelen;
	w->bytes = bytes;
	w->token = strcpy(stpcpy(w->path, full) + 1, token);
	store_charge(s, true, bytes);
	DL_APPEND(s->watches, w);
	s->nwatches++;
	hash = begin_key(s, &k, w->path, &len);
	add(s, w, &k, len, hash);
	return 0;
}

static void unwatch(struct store *s, struct watch *w)
{
	struct event *e, *next;

	HASH_ITER(hh, s->events, e, next)
		if (e->watch == w)
			drop(s, e);
	store_charge(s, true, -(ptrdiff_t)w->bytes);
	DL_DELETE(s->watches, w);
	s->nwatches--;
	free(w);
}

int store_unwatch(struct store *s, const char *path, const char *token)
{
	char full[STORE_PATH_BYTES];
	int n = store_path(s, path, full, true);
	struct watch *w = n < 0 ? NULL : find(s, full, token);

	if (!w)
		return n < 0 ? n : -ENOENT;
	unwatch(s, w);
	return 0;
}

void store_reset(struct store *s)
{
	struct event *e, *next;

	HASH_ITER(hh, s->events, e, next)
		drop(s, e);
	while (s->watches)
		unwatch(s, s->watches);
	txn_reset(s, s->domid);
}

/* ---- events ---- */

static size_t tell(const struct watch *w, const char *path, char *buf)
{
	char *p = stpcpy(buf, path + w->skip) + 1;

	return stpcpy(p, w->token) + 1 - buf;
}

size_t store_event_take(struct store *s, char *buf)
{
	struct event *e = s->events;
	struct watch *w;
	size_t n;

	if (e) {
		n = tell(e->watch, e->path, buf);
		drop(s, e);
		return n;
	}
	if (!s->lost)
		return 0;
	DL_FOREACH(s->watches, w) {
		if (!w->lost)
			continue;
		w->lost = false;
		return tell(w, w->path, buf);
	}
	s->lost = false;
	return 0;
}
