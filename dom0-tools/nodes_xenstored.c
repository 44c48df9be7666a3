/* nodes_xenstored.c - the XenStore nodes of guests whose toolstack runs a xenstored beside us.
 *
 * libxenstore waits for each answer: a local daemon's, as trusted as we are, that every toolstack of this host waits for as
 * well. Its watches need a thread of its own, which only carries messages from the socket to xs_check_watch. A xenstored that
 * goes away takes its nodes with it: every call fails from then on, each watcher is told so once, and pviod goes on.
 */
#include "pviod.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <xenstore.h>

enum { PATH_LEN = 256, TOKEN_LEN = 16, HOME_DEPTH = 4 /* /local/domain/N/device */, EVENTS_TURN = 64 };

/* Owner: its store's hash, from watch to unwatch. */
struct watch {
	uint32_t number; /* its token, so that an event which comes after unwatch finds nobody */
	char path[PATH_LEN];
	void (*changed)(void *ctx); /* one of the two */
	void (*changed_at)(void *ctx, const char *path);
	void *ctx;
	bool told; /* is in `told`, to be called */
	UT_hash_handle hh;
	struct watch *prev, *next;
};

/* Owner: pviod, from xenstored_open to its end. */
struct xenstored {
	struct nodes nodes;
	struct xs_handle *xs; /* NULL: it is gone */
	xs_transaction_t t; /* XBT_NULL: each call stands alone */
	uv_poll_t events, life;
	int life_fd; /* a connection of its own, on which nothing is ever said: libxenstore keeps its end to itself */
	unsigned closing; /* poll handles */
	struct watch *watches, *told;
	uint32_t number; /* the last that a watch had */
};

static struct xenstored *store_of(struct nodes *n)
{
	return (struct xenstored *)n; /* its head */
}

/* Why a call of libxenstore failed. EINVAL, which xenstored says of paths that we do not make, is what the library says when
 * xenstored is gone; to our callers it is something else. */
static int failure(void)
{
	return errno && errno != EINVAL ? -errno : -EIO;
}

/* ---- nodes ---- */

static int store_read(struct nodes *n, const char *path, char *buf, size_t len)
{
	struct xenstored *s = store_of(n);
	unsigned got = 0;
	char *value = s->xs ? xs_read(s->xs, s->t, path, &got) : NULL;
	int rc = got;

	if (!value)
		return s->xs ? failure() : -ENOTCONN;
	if (got >= len || memchr(value, 0, got))
		rc = -EINVAL;
	else
		memcpy(buf, value, got + 1); /* xs_read adds the 0 */
	free(value);
	return rc;
}

static int store_write(struct nodes *n, const char *path, const char *value, uint16_t owner, uint16_t reader)
{
	struct xenstored *s = store_of(n);
	struct xs_permissions perms[] = { { .id = owner, .perms = XS_PERM_NONE }, { .id = reader, .perms = XS_PERM_READ } };
	unsigned count;
	void *there;
	bool made;

	if (!s->xs)
		return -ENOTCONN;
	there = xs_get_permissions(s->xs, s->t, path, &count);
	made = !there && errno == ENOENT;
	free(there);
	if (!xs_write(s->xs, s->t, path, value, strlen(value)) || (made && !xs_set_permissions(s->xs, s->t, path, perms, 2)))
		return failure();
	return 0;
}

/* The directories above path that are empty now, up to a domain's "backend" or "device". */
static void prune(struct xenstored *s, const char *path)
{
	char up[PATH_LEN];
	char **names;
	unsigned depth = 0, count;

	if (snprintf(up, sizeof(up), "%s", path) >= (int)sizeof(up))
		return;
	for (const char *c = up; *c; c++)
		depth += *c == '/';
	while (--depth > HOME_DEPTH) {
		*strrchr(up, '/') = '\0';
		names = xs_directory(s->xs, s->t, up, &count);
		free(names);
		if (!names || count > 0 || !xs_rm(s->xs, s->t, up))
			return;
	}
}

static int store_remove(struct nodes *n, const char *path)
{
	struct xenstored *s = store_of(n);

	if (!s->xs)
		return -ENOTCONN;
	if (!xs_rm(s->xs, s->t, path))
		return errno == ENOENT ? 0 : failure();
	prune(s, path);
	return 0;
}

static int store_begin(struct nodes *n)
{
	struct xenstored *s = store_of(n);

	s->t = s->xs ? xs_transaction_start(s->xs) : XBT_NULL;
	if (s->t != XBT_NULL)
		return 0;
	return s->xs ? failure() : -ENOTCONN;
}

static int end(struct xenstored *s, bool abort)
{
	xs_transaction_t t = s->t;

	s->t = XBT_NULL;
	if (!s->xs || t == XBT_NULL)
		return -ENOTCONN;
	return xs_transaction_end(s->xs, t, abort) ? 0 : failure();
}

static int store_commit(struct nodes *n)
{
	return end(store_of(n), false);
}

static void store_abort(struct nodes *n)
{
	end(store_of(n), true);
}

/* ---- watches ---- */

static int watch_add(struct xenstored *s, const char *path, const struct watch *like)
{
	struct watch *w = s->xs ? malloc(sizeof(*w)) : NULL;
	char token[TOKEN_LEN];

	if (!w)
		return s->xs ? -ENOMEM : -ENOTCONN;
	*w = *like;
	w->number = ++s->number;
	if (snprintf(w->path, sizeof(w->path), "%s", path) >= (int)sizeof(w->path)) {
		free(w);
		return -ENAMETOOLONG;
	}
	snprintf(token, sizeof(token), "%u", w->number);
	if (!xs_watch(s->xs, path, token)) {
		free(w);
		return failure();
	}
	HASH_ADD(hh, s->watches, number, sizeof(w->number), w);
	return 0;
}

static int store_watch(struct nodes *n, const char *path, void (*changed)(void *ctx), void *ctx)
{
	return watch_add(store_of(n), path, &(struct watch){ .changed = changed, .ctx = ctx });
}

static void watch_free(struct xenstored *s, struct watch *w)
{
	if (w->told)
		DL_DELETE(s->told, w);
	HASH_DELETE(hh, s->watches, w);
	free(w);
}

static void store_unwatch(struct nodes *n, const char *path, void *ctx)
{
	struct xenstored *s = store_of(n);
	struct watch *w, *next;
	char token[TOKEN_LEN];

	HASH_ITER(hh, s->watches, w, next) {
		if (w->ctx != ctx || strcmp(w->path, path))
			continue;
		snprintf(token, sizeof(token), "%u", w->number);
		if (s->xs)
			xs_unwatch(s->xs, path, token);
		watch_free(s, w);
	}
}

static void tell(struct xenstored *s, struct watch *w)
{
	if (w->told)
		return;
	DL_APPEND(s->told, w);
	w->told = true;
}

/* Called one by one from the list's head, since who is called may unwatch others. */
static void call_told(struct xenstored *s)
{
	struct watch *w;

	while ((w = s->told)) {
		DL_DELETE(s->told, w);
		w->told = false;
		if (w->changed)
			w->changed(w->ctx);
		else
			w->changed_at(w->ctx, w->path); /* something, anywhere */
	}
}

static void take_event(struct xenstored *s, const char *path, const char *token)
{
	uint32_t number = strtoul(token, NULL, 10);
	struct watch *w;

	HASH_FIND(hh, s->watches, &number, sizeof(number), w);
	if (w && w->changed_at)
		w->changed_at(w->ctx, path);
	else if (w)
		tell(s, w);
}

/* Everyone is told, and finds that nothing can be read any more. */
static void lost(struct xenstored *s)
{
	struct watch *w, *next;

	pv_log(PV_LOG_ERR, "xenstored is gone: devices that its guests see in XenStore go on as they are, but can be neither attached nor detached");
	uv_poll_stop(&s->events);
	uv_poll_stop(&s->life);
	xs_close(s->xs);
	s->xs = NULL;
	HASH_ITER(hh, s->watches, w, next)
		tell(s, w);
	call_told(s);
}

static void on_life(uv_poll_t *p, int status, int events)
{
	(void)status, (void)events;
	lost(p->data);
}

static void on_events(uv_poll_t *p, int status, int events)
{
	struct xenstored *s = p->data;
	char **event;

	(void)status, (void)events;
	/* what is left stays readable: everybody else has a turn before it */
	for (int i = 0; i < EVENTS_TURN && (event = xs_check_watch(s->xs)); i++) {
		take_event(s, event[XS_WATCH_PATH], event[XS_WATCH_TOKEN]);
		free(event);
	}
	call_told(s);
}

/* ---- what only a toolstack's store has ---- */

int xenstored_watch(struct nodes *n, const char *path, void (*changed_at)(void *ctx, const char *path), void *ctx)
{
	return watch_add(store_of(n), path, &(struct watch){ .changed_at = changed_at, .ctx = ctx });
}

char **xenstored_list(struct nodes *n, const char *path, unsigned *count)
{
	struct xenstored *s = store_of(n);

	*count = 0;
	return s->xs ? xs_directory(s->xs, s->t, path, count) : NULL;
}

int xenstored_has_domain(struct nodes *n, uint16_t domid)
{
	struct xenstored *s = store_of(n);

	errno = s->xs ? 0 : ENOTCONN;
	if (s->xs && xs_is_domain_introduced(s->xs, domid))
		return 1;
	return -errno;
}

/* ---- its life ---- */

static const struct nodes_ops ops = {
	.read = store_read,
	.write = store_write,
	.remove = store_remove,
	.begin = store_begin,
	.commit = store_commit,
	.abort = store_abort,
	.watch = store_watch,
	.unwatch = store_unwatch,
};

/* A connection to xenstored's socket, or -errno. If nobody answers there, xs_open would take the kernel's device, whose calls
 * wait for ever where there is no xenstored. */
static int connect_socket(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const char *path = getenv("XENSTORED_PATH"), *dir = getenv("XENSTORED_RUNDIR");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (path)
		snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	else
		snprintf(a.sun_path, sizeof(a.sun_path), "%s/socket", dir ? dir : "/run/xenstored");
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	close(fd);
	return -ENOENT;
}

static void listen_to(struct xenstored *s, uv_loop_t *loop)
{
	uv_poll_init(loop, &s->events, xs_fileno(s->xs));
	uv_poll_init(loop, &s->life, s->life_fd);
	s->events.data = s->life.data = s;
	uv_poll_start(&s->events, UV_READABLE, on_events);
	uv_poll_start(&s->life, UV_READABLE | UV_DISCONNECT, on_life);
}

int xenstored_open(struct pviod *d, struct nodes **out)
{
	struct xenstored *s;
	int fd;

	*out = NULL;
	/* on the loopback hypervisor, this host's xenstored has nothing to do with our guests unless somebody says so */
	if (strcmp(d->hyper->ops->name, "xen") && !getenv("XENSTORED_PATH"))
		return -ENOENT;
	fd = connect_socket();
	if (fd < 0)
		return fd;
	s = calloc(1, sizeof(*s));
	if (s)
		s->xs = xs_open(0);
	if (!s || !s->xs) {
		close(fd);
		free(s);
		return -ENOMEM; /* it answered just now */
	}
	s->nodes = (struct nodes){ .ops = &ops, .others = true };
	s->life_fd = fd;
	listen_to(s, &d->loop);
	*out = &s->nodes;
	return 0;
}

static void poll_closed(uv_handle_t *h)
{
	struct xenstored *s = h->data;

	if (--s->closing > 0)
		return;
	close(s->life_fd);
	free(s);
}

void xenstored_close(struct nodes *n)
{
	struct xenstored *s = store_of(n);
	struct watch *w, *next;

	if (!n)
		return;
	HASH_ITER(hh, s->watches, w, next)
		watch_free(s, w);
	uv_poll_stop(&s->events);
	uv_poll_stop(&s->life);
	if (s->xs)
		xs_close(s->xs);
	s->xs = NULL;
	s->closing = 2;
	uv_close((uv_handle_t *)&s->events, poll_closed);
	uv_close((uv_handle_t *)&s->life, poll_closed);
}
