/* console.c - guests' consoles: from the shared page to a backlog, a log file and those who are connected; and back. */
#include "console.h"
#include "pviod.h"
#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	BACKLOG = 64 << 10, /* bytes kept of each guest */
	CLIENTS_MAX = 8, /* of a console */
	LOG_MAX = 1 << 20, /* bytes of a log file; one older one is kept */
	LINGER_MS = 2000, /* for those who read, after the guest's end */
	LAST_TURNS = 4,
};

/* A turn takes what the ring holds, 2 KiB at most: 1 MiB a second, after a burst of 256 KiB. */
static const struct limit turns = { .burst = 128, .rate = 512 };

/* Somebody at the socket. Owner: its console's list; freed when its handle is closed. */
struct client {
	struct console *console;
	int fd;
	uv_poll_t poll;
	int events;
	uint64_t sent; /* how far it has read: counts as console.total does */
	struct client *prev, *next;
};

/* Owner: its guest until console_close, then pviod's list until the last client has read or LINGER_MS are over. */
struct console {
	struct pviod *d;
	char name[NAME_LEN], path[108];
	struct console_ring ring; /* page NULL: the guest has ended, or it lies */
	void *page;
	struct port_user port;
	struct bucket turns;
	uv_timer_t later; /* the next turn, when the budget allows it; then the end of the lingering */
	uv_poll_t listen;
	int listen_fd, log_fd;
	unsigned handles; /* of libuv, not yet closed */
	off_t logged;
	struct client *clients;
	unsigned nclients;
	uint64_t total; /* bytes of output, ever */
	char backlog[BACKLOG]; /* the last of them, at total modulo BACKLOG */
	struct console *prev, *next; /* of d->consoles, once closed */
};

const char *console_path(const struct console *c)
{
	return c->path;
}

/* ---- handles: the console's memory goes with the last one ---- */

static void handle_closed(struct console *c)
{
	if (--c->handles == 0)
		free(c);
}

static void own_closed(uv_handle_t *h)
{
	handle_closed(h->data);
}

static void client_closed(uv_handle_t *h)
{
	struct client *cl = h->data;
	struct console *c = cl->console;

	close(cl->fd);
	free(cl);
	handle_closed(c);
}

static void client_drop(struct client *cl)
{
	struct console *c = cl->console;

	DL_DELETE(c->clients, cl);
	c->nclients--;
	uv_close((uv_handle_t *)&cl->poll, client_closed);
}

/* ---- those who are connected ---- */

static void on_client(uv_poll_t *p, int status, int events);

/* Listen for what can be done: writing if there is something to send, reading if the guest's ring has room. */
static void client_poll(struct client *cl)
{
	struct console *c = cl->console;
	int events = UV_DISCONNECT;

	if (cl->sent < c->total)
		events |= UV_WRITABLE;
	if (c->ring.page && console_ring_room(&c->ring) > 0)
		events |= UV_READABLE;
	if (events == cl->events)
		return;
	cl->events = events;
	uv_poll_start(&cl->poll, events, on_client);
}

/* Send what it has not seen and the backlog still has, as far as the socket takes it. Returns false if it is gone. */
static bool client_send(struct client *cl)
{
	struct console *c = cl->console;

	if (c->total > BACKLOG && cl->sent < c->total - BACKLOG)
		cl->sent = c->total - BACKLOG; /* it was too slow */
	while (cl->sent < c->total) {
		size_t at = cl->sent % BACKLOG, n = c->total - cl->sent < BACKLOG - at ? c->total - cl->sent : BACKLOG - at;
		ssize_t sent = send(cl->fd, c->backlog + at, n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0)
			return errno == EAGAIN || errno == EINTR;
		cl->sent += sent;
	}
	return true;
}

static void clients_send(struct console *c)
{
	struct client *cl, *next;

	DL_FOREACH_SAFE(c->clients, cl, next) {
		if (client_send(cl))
			client_poll(cl);
		else
			client_drop(cl);
	}
}

static void console_broken(struct console *c);

/* What was typed goes straight into the ring: no more is read than there is room. Returns false if the client is gone. */
static bool client_type(struct client *cl)
{
	struct console *c = cl->console;
	char buf[sizeof(c->ring.page->in)];
	int room = console_ring_room(&c->ring);
	ssize_t n;

	if (room < 0) {
		console_broken(c);
		return true;
	}
	n = room > 0 ? recv(cl->fd, buf, room, MSG_DONTWAIT) : -1;
	if (n <= 0)
		return n < 0 && (room == 0 || errno == EAGAIN || errno == EINTR);
	console_ring_put(&c->ring, buf, n);
	pv_evt_notify(c->d->hyper, c->port.port);
	return true;
}

static void linger(struct console *c);

static void on_client(uv_poll_t *p, int status, int events)
{
	struct client *cl = p->data;
	struct console *c = cl->console;
	bool there = status == 0;

	if (there && events & UV_READABLE && c->ring.page)
		there = client_type(cl);
	if (there && events & UV_DISCONNECT && !(events & UV_READABLE))
		there = false; /* what it typed before is in the ring */
	if (there)
		there = client_send(cl);
	if (there)
		client_poll(cl);
	else
		client_drop(cl);
	if (!c->page)
		linger(c);
}

static void on_connect(uv_poll_t *p, int status, int events)
{
	struct console *c = p->data;
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct client *cl = fd >= 0 && c->nclients < CLIENTS_MAX ? calloc(1, sizeof(*cl)) : NULL;

	(void)status, (void)events;
	if (!cl) {
		if (fd >= 0)
			close(fd);
		return;
	}
	cl->console = c;
	cl->fd = fd;
	uv_poll_init(&c->d->loop, &cl->poll, fd);
	cl->poll.data = cl;
	c->handles++;
	DL_APPEND(c->clients, cl);
	c->nclients++;
	if (client_send(cl))
		client_poll(cl);
	else
		client_drop(cl);
}

/* ---- the log file ---- */

static int log_open(struct console *c, const char *dir, char *why, size_t len)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s.log", dir, c->name);
	c->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (c->log_fd < 0 || fstat(c->log_fd, &st) < 0)
		return pv_why(why, len, -errno, "cannot write the console log %s: %s", path, strerror(errno));
	c->logged = st.st_size;
	return 0;
}

/* The file is full: it becomes NAME.log.1, and a new one begins. */
static void log_turn(struct console *c)
{
	char path[PATH_MAX], old[PATH_MAX + 4], why[WHY_LEN];

	snprintf(path, sizeof(path), "%s/%s.log", c->d->opt.console_log, c->name);
	snprintf(old, sizeof(old), "%s.1", path);
	rename(path, old);
	close(c->log_fd);
	if (log_open(c, c->d->opt.console_log, why, sizeof(why)) < 0)
		pv_log(PV_LOG_WARN, "guest %s: %s; it is logged no more", c->name, why);
}

static void log_write(struct console *c, const char *buf, size_t n)
{
	if (c->log_fd >= 0 && c->logged + (off_t)n > LOG_MAX)
		log_turn(c);
	if (c->log_fd < 0)
		return;
	if (write(c->log_fd, buf, n) == (ssize_t)n) {
		c->logged += n;
		return;
	}
	pv_log(PV_LOG_WARN, "guest %s: cannot write its console log: %s; it is logged no more", c->name, strerror(errno));
	close(c->log_fd);
	c->log_fd = -1;
}

/* ---- the guest's output ---- */

static void page_drop(struct console *c)
{
	port_close(c->d, &c->port);
	if (c->page)
		pv_gnt_unmap(c->d->hyper, c->page, 1);
	c->ring.page = NULL;
	c->page = NULL;
}

/* The port stays masked and the page is looked at no more; what was said stays to be read. */
static void console_broken(struct console *c)
{
	pv_log(PV_LOG_WARN, "guest %s: its console's indices cannot be; the console is not served any more", c->name);
	c->ring.page = NULL;
	uv_timer_stop(&c->later);
}

/* Returns how many bytes were taken, or -EPROTO. */
static int take_output(struct console *c)
{
	char buf[sizeof(c->ring.page->out)];
	int n = console_ring_take(&c->ring, buf);
	size_t at = c->total % BACKLOG, first;

	if (n <= 0)
		return n;
	first = (size_t)n < BACKLOG - at ? (size_t)n : BACKLOG - at;
	memcpy(c->backlog + at, buf, first);
	memcpy(c->backlog, buf + first, n - first);
	c->total += n;
	log_write(c, buf, n);
	pv_evt_notify(c->d->hyper, c->port.port);
	return n;
}

static void turn(struct console *c);

static void on_later(uv_timer_t *t)
{
	turn(t->data);
}

/* The guest has put output, or taken input. */
static void turn(struct console *c)
{
	if (!c->ring.page)
		return;
	if (!bucket_take(&c->turns, &turns, pviod_now(c->d))) {
		uv_timer_start(&c->later, on_later, bucket_wait(&c->turns, &turns) + 1, 0);
		return;
	}
	if (take_output(c) < 0 || console_ring_room(&c->ring) < 0) {
		console_broken(c);
		return;
	}
	clients_send(c);
	port_unmask(c->d, &c->port);
}

static void on_port(struct port_user *u)
{
	turn(port_owner(u, struct console, port));
}

/* ---- open and close ---- */

/* Where the sockets are. Returns its length, or more than len. */
static int folder(const struct pviod *d, char *to, size_t len)
{
	char socket[sizeof(((struct console *)0)->path)];

	snprintf(socket, sizeof(socket), "%s", d->opt.socket);
	return snprintf(to, len, "%s/console", dirname(socket));
}

void consoles_sweep(struct pviod *d)
{
	char dir[sizeof(((struct console *)0)->path)];
	struct dirent *e;
	DIR *all;

	folder(d, dir, sizeof(dir));
	all = opendir(dir);
	while (all && (e = readdir(all)))
		if (e->d_type == DT_SOCK)
			unlinkat(dirfd(all), e->d_name, 0);
	if (all)
		closedir(all);
}

static int serve(struct console *c, char *why, size_t len)
{
	char dir[sizeof(c->path)];
	int n = folder(c->d, dir, sizeof(dir));

	if (n < (int)sizeof(dir))
		n = snprintf(c->path, sizeof(c->path), "%s/%s.sock", dir, c->name);
	if (n >= (int)sizeof(c->path))
		return pv_why(why, len, -ENAMETOOLONG, "the path of its console's socket is too long; use a shorter PVIO_RUNDIR");
	mkdir(dir, 0700);
	c->listen_fd = pv_rpc_listen(c->path);
	if (c->listen_fd < 0)
		return pv_why(why, len, c->listen_fd, "cannot listen on %s: %s", c->path, strerror(-c->listen_fd));
	uv_poll_init(&c->d->loop, &c->listen, c->listen_fd);
	c->listen.data = c;
	c->handles++;
	uv_poll_start(&c->listen, UV_READABLE, on_connect);
	return 0;
}

static int join(struct console *c, uint16_t domid, uint32_t gref, uint32_t port, char *why, size_t len)
{
	struct pv_hyper *h = c->d->hyper;
	int rc = pv_gnt_map(h, domid, &gref, 1, true, NULL, &c->page);

	if (rc < 0)
		return pv_why(why, len, rc, "cannot map its console page: %s", pv_hyper_error(h));
	console_ring_init(&c->ring, c->page);
	rc = pv_evt_bind(h, domid, port);
	if (rc < 0)
		return pv_why(why, len, rc, "cannot bind its console's port: %s", pv_hyper_error(h));
	port_listen(c->d, &c->port, rc, on_port);
	return 0;
}

int console_open(struct pviod *d, const char *name, uint16_t domid, uint32_t gref, uint32_t port, struct console **out, char *why,
		 size_t len)
{
	struct console *c = calloc(1, sizeof(*c));
	int rc;

	*out = NULL;
	if (!c)
		return pv_why(why, len, -ENOMEM, "out of memory");
	c->d = d;
	c->listen_fd = c->log_fd = -1;
	snprintf(c->name, sizeof(c->name), "%s", name);
	uv_timer_init(&d->loop, &c->later);
	c->later.data = c;
	c->handles++;
	rc = serve(c, why, len);
	if (rc == 0 && d->opt.console_log)
		rc = log_open(c, d->opt.console_log, why, len);
	if (rc == 0)
		rc = join(c, domid, gref, port, why, len);
	if (rc < 0)
		console_close(c);
	else
		*out = c;
	return rc;
}

static void cut(struct console *c)
{
	struct client *cl, *next;

	DL_FOREACH_SAFE(c->clients, cl, next)
		client_drop(cl);
	DL_DELETE(c->d->consoles, c);
	uv_close((uv_handle_t *)&c->later, own_closed);
}

static void on_lingered(uv_timer_t *t)
{
	cut(t->data);
}

/* Those who have read all see the end now; the console goes with the last. */
static void linger(struct console *c)
{
	struct client *cl, *next;

	DL_FOREACH_SAFE(c->clients, cl, next)
		if (cl->sent == c->total)
			client_drop(cl);
	if (!c->clients && !uv_is_closing((uv_handle_t *)&c->later))
		cut(c);
}

void console_close(struct console *c)
{
	if (!c)
		return;
	for (int i = 0; i < LAST_TURNS && c->ring.page && take_output(c) > 0; i++)
		; /* its last words: no more than the ring holds, unless it is still running and means ill */
	page_drop(c);
	if (c->log_fd >= 0)
		close(c->log_fd);
	if (c->listen_fd >= 0) {
		unlink(c->path);
		uv_close((uv_handle_t *)&c->listen, own_closed);
		close(c->listen_fd);
	}
	DL_APPEND(c->d->consoles, c);
	uv_timer_start(&c->later, on_lingered, LINGER_MS, 0);
	clients_send(c);
	linger(c);
}

void consoles_free(struct pviod *d)
{
	struct console *c, *next;

	DL_FOREACH_SAFE(d->consoles, c, next)
		cut(c);
}
