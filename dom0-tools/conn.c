/* conn.c - connections to pviod's socket: backends and clients alike, until one registers as a backend. And those that come through
 * the pipes of driver domains: backends only. */
#include "pviod.h"
#include <libgen.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct conn *conn_find(struct pviod *d, uint64_t serial)
{
	struct conn *c;

	DL_FOREACH(d->conns, c)
		if (c->serial == serial && c->rpc)
			return c;
	return NULL;
}

static void free_conn(uv_handle_t *h)
{
	free(h->data);
}

void conn_cut(struct conn *c)
{
	struct pviod *d = c->d;

	if (!c->rpc)
		return;
	uv_poll_stop(&c->poll);
	pv_rpc_free(c->rpc);
	c->rpc = NULL;
	DL_DELETE(d->conns, c);
	d->nconns--;
	waiters_conn(d, c->serial);
	if (c->backend)
		backend_lost(c->backend);
	c->backend = NULL;
	if (c->pipe)
		pipe_cut(c->pipe);
	c->pipe = NULL;
	uv_close((uv_handle_t *)&c->poll, free_conn);
}

static void called(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	struct conn *c = ctx;

	if (!c->rpc)
		return; /* cut off by an earlier call of the same batch */
	if (id == 0 && !c->backend) {
		conn_cut(c); /* clients ask; only a backend has something to tell */
		return;
	}
	if (backend_called(c, id, method, params))
		return;
	if (c->pipe)
		pv_rpc_fail(rpc, id, -EPERM, "%s: through a pipe come backends, which register first", method);
	else
		control_called(c, id, method, params);
}

static void closed(void *ctx, struct pv_rpc *rpc, int err)
{
	struct conn *c = ctx;

	(void)rpc;
	if (err == -EPROTO && c->backend)
		pv_log_about(c->backend->log, PV_LOG_WARN, "backend %s is cut off: it does not keep to the protocol", c->backend->name);
	conn_cut(c);
}

static const struct pv_rpc_ops ops = { .call = called, .closed = closed };

static void on_ready(uv_poll_t *p, int status, int events)
{
	struct conn *c = p->data;

	(void)status;
	(void)events;
	if (c->rpc)
		pv_rpc_work(c->rpc);
}

struct conn *conn_new(struct pviod *d, int fd)
{
	struct conn *c = d->nconns < CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c || pv_rpc_new(fd, &ops, c, &c->rpc) < 0) {
		close(fd);
		free(c);
		return NULL;
	}
	c->d = d;
	c->serial = ++d->serial;
	uv_poll_init(&d->loop, &c->poll, fd);
	c->poll.data = c;
	DL_APPEND(d->conns, c);
	d->nconns++;
	return c;
}

static void on_connect(uv_poll_t *p, int status, int events)
{
	struct pviod *d = p->data;
	int fd = accept4(d->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)status;
	(void)events;
	if (fd >= 0)
		conn_new(d, fd);
}

void conn_flush(struct pviod *d)
{
	struct conn *c;

	DL_FOREACH(d->conns, c) {
		short want = pv_rpc_events(c->rpc);
		int events = (want & POLLIN ? UV_READABLE : 0) | (want & POLLOUT ? UV_WRITABLE : 0);

		if (events == c->events)
			continue;
		c->events = events;
		uv_poll_start(&c->poll, events, on_ready);
	}
}

bool conn_calls_pending(struct pviod *d)
{
	struct backend *b;

	DL_FOREACH(d->backends, b)
		if (b->pending)
			return true;
	return false;
}

void conn_expire(struct pviod *d)
{
	struct conn *c, *next;

	DL_FOREACH_SAFE(d->conns, c, next)
		if (pv_rpc_deadline(c->rpc) == 0)
			pv_rpc_expire(c->rpc);
}

int conn_listen(struct pviod *d, char *why, size_t len)
{
	char dir[108];
	int fd = pv_rpc_listen(d->opt.socket);

	if (fd == -ENOENT) { /* the run directory: below /run it goes with each boot */
		snprintf(dir, sizeof(dir), "%s", d->opt.socket);
		mkdir(dirname(dir), 0755);
		fd = pv_rpc_listen(d->opt.socket);
	}
	if (fd < 0) {
		snprintf(why, len, fd == -EADDRINUSE ? "%s: another pviod serves it; end that first (%s)" :
		       "cannot listen on %s: %s", d->opt.socket, strerror(-fd));
		return fd;
	}
	d->listen_fd = fd;
	uv_poll_init(&d->loop, &d->listen, fd);
	d->listen.data = d;
	uv_poll_start(&d->listen, UV_READABLE, on_connect);
	return 0;
}
