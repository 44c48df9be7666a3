/* pipe_link.c - see pipe_link.h. One conversation after the other: find, connect, converse, drop. */
#include "pipe_link.h"
#include "front.h"
#include "log.h"
#include "pipe.h"
#include "worker.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	LOOK_MS = 100, /* between two looks for a pipe */
	REFUSED_MS = 1000, /* after pviod would not have us */
	CONNECT_MS = 5000,
	LEAVE_MS = 1000,
	PORTS = 4, /* events fetched at once: a pipe has two */
};

/* Owner: who started it. What follows `self` is the thread's own. */
struct pv_pipe_link {
	struct pv_worker *thread;
	int given[2]; /* a pipe(2) of descriptors: from the thread to pv_pipe_link_accept */
	const char *hypervisor;
	int domid;

	struct pv_worker *self; /* the same as `thread` */
	struct front front;
	struct pv_pipe_page *page; /* NULL: none shared */
	struct pv_pipe pipe;
	uint32_t port; /* 0: none */
	int socket; /* our end, -1: none */
	uint64_t choosing_until; /* ms */
	char told[192]; /* the last reason that was logged */
};

/* Log why there is no conversation, once a reason. */
static void tell(struct pv_pipe_link *l, const char *why)
{
	if (strcmp(l->told, why) == 0)
		return;
	snprintf(l->told, sizeof(l->told), "%s", why);
	pv_log(PV_LOG_WARN, "no connection to pviod: %s", why);
}

/* ---- one conversation ---- */

/* Make the page and the port, and ask to be connected. */
static int choose(struct pv_pipe_link *l)
{
	struct front *f = &l->front;
	struct pv_noxs_choice choice = { .queues = 1 };
	uint32_t gref;
	void *page;
	int rc = pv_gnt_share(f->h, f->entry.backend_domid, 1, true, NULL, &gref, &page);

	if (rc == 0) {
		l->page = page;
		rc = pv_evt_alloc(f->h, f->entry.backend_domid);
	}
	if (rc < 0) {
		tell(l, pv_hyper_error(f->h));
		return rc;
	}
	l->port = (uint32_t)rc;
	pv_pipe_format(l->page);
	pv_pipe_init(&l->pipe, l->page, false);
	choice.pipe[0].gref = gref;
	choice.pipe[0].port = l->port;
	l->choosing_until = front_now_ms() + CONNECT_MS;
	return front_choose(f, &choice);
}

/* Connected: make the socket, and give its other end away. */
static int give(struct pv_pipe_link *l)
{
	char name[24];
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s) < 0)
		return -errno;
	if (write(l->given[1], &s[1], sizeof(s[1])) != sizeof(s[1])) { /* far below PIPE_BUF: whole or not at all */
		close(s[0]);
		close(s[1]);
		return -ENFILE;
	}
	l->socket = s[0];
	l->told[0] = '\0';
	pv_log(PV_LOG_INFO, "connected to pviod by %s of domain %u", front_name(&l->front, name, sizeof(name)), l->front.h->domid);
	return 0;
}

/* Follow the handshake. Returns 0: it goes on; -errno: there is no conversation any more. */
static int follow(struct pv_pipe_link *l, uint32_t *ports, int *n)
{
	struct front *f = &l->front;

	*n = front_events(f, ports, PORTS);
	if (*n < 0)
		return *n;
	if (f->state == FRONT_CONNECTING)
		return front_now_ms() < l->choosing_until ? 0 : -ETIMEDOUT;
	if (f->state != FRONT_CONNECTED || f->offer.error || !pv_pipe_alive(&l->pipe))
		return -ECONNRESET;
	return l->socket < 0 ? give(l) : 0;
}

/* Returns why it ended, -errno; -ECANCELED: we are to stop. */
static int converse(struct pv_pipe_link *l)
{
	struct front *f = &l->front;
	struct pv_pipe_turn turn = { 0 };
	uint32_t ports[PORTS];
	int n, rc;

	for (;;) {
		struct pollfd p[] = {
			{ .fd = pv_evt_fd(f->h), .events = POLLIN },
			{ .fd = pv_worker_fd(l->self), .events = POLLIN },
			{ .fd = l->socket, .events = turn.events },
		};

		poll(p, 3, turn.again ? 0 : f->state == FRONT_CONNECTING ? LOOK_MS : -1);
		if (pv_worker_poll(l->self))
			return -ECANCELED;
		rc = follow(l, ports, &n);
		if (rc == 0 && l->socket >= 0)
			rc = pv_pipe_pump(&l->pipe, l->socket, &turn);
		if (turn.notify)
			pv_evt_notify(f->h, l->port);
		if (rc < 0)
			return rc;
		pv_evt_unmask(f->h, ports, (unsigned)n); /* after the work */
		if (p[2].revents & (POLLHUP | POLLERR))
			return -EPIPE;
	}
}

/* Whatever there is of a conversation goes. */
static void drop(struct pv_pipe_link *l)
{
	struct front *f = &l->front;

	if (l->socket >= 0)
		close(l->socket);
	l->socket = -1;
	if (l->page && pv_pipe_alive(&l->pipe))
		front_leave(f, LEAVE_MS);
	if (l->port)
		pv_evt_unbind(f->h, l->port);
	if (l->page)
		pv_gnt_unshare(f->h, l->page, 1);
	l->port = 0;
	l->page = NULL;
	front_close(f);
}

/* ---- the thread ---- */

/* Sleep; told to stop, wake up. */
static void rest(struct pv_pipe_link *l, int ms)
{
	poll(&(struct pollfd){ .fd = pv_worker_fd(l->self), .events = POLLIN }, 1, ms);
}

/* Look for a free pipe until there is one. Returns 0; -ECANCELED: we are to stop; other -errno: begin with a new handle. */
static int find(struct pv_pipe_link *l)
{
	struct front *f = &l->front;
	int rc = front_open(f, l->hypervisor, l->domid, PV_NOXS_PIPE, FRONT_ANY, 0);

	while (rc < 0) {
		tell(l, f->why);
		if (!f->h || f->state != FRONT_NONE)
			return rc;
		rest(l, LOOK_MS);
		if (pv_worker_poll(l->self))
			return -ECANCELED;
		rc = front_find(f);
	}
	return 0;
}

/* One conversation. Returns how long to wait before the next, in ms. */
static int once(struct pv_pipe_link *l)
{
	struct front *f = &l->front;
	int rc = find(l);

	if (rc < 0)
		return REFUSED_MS;
	rc = choose(l);
	if (rc == 0)
		rc = converse(l);
	if (f->state == FRONT_REFUSED)
		tell(l, f->why);
	else if (rc == -EPROTO)
		tell(l, "domain 0 broke the protocol of the pipe");
	else if (rc == -ECONNRESET || rc == -ESHUTDOWN)
		tell(l, "pviod let go of the pipe");
	return f->state == FRONT_REFUSED || rc == -EPROTO ? REFUSED_MS : LOOK_MS;
}

static void body(void *arg, struct pv_worker *w)
{
	struct pv_pipe_link *l = arg;

	l->self = w;
	while (!pv_worker_poll(w)) {
		int ms = once(l);

		drop(l);
		rest(l, ms);
	}
}

int pv_pipe_link_start(const char *hypervisor, int domid, struct pv_pipe_link **out)
{
	struct pv_pipe_link *l = calloc(1, sizeof(*l));
	int rc;

	*out = NULL;
	if (!l)
		return -ENOMEM;
	l->hypervisor = hypervisor;
	l->domid = domid;
	l->socket = -1;
	if (pipe2(l->given, O_CLOEXEC | O_NONBLOCK) < 0) {
		rc = -errno;
		free(l);
		return rc;
	}
	rc = pv_worker_start(&l->thread, "pipe", -1, body, l);
	if (rc < 0) {
		pv_pipe_link_stop(l);
		return rc;
	}
	*out = l;
	return 0;
}

int pv_pipe_link_fd(const struct pv_pipe_link *l)
{
	return l->given[0];
}

int pv_pipe_link_accept(struct pv_pipe_link *l)
{
	int fd = -EAGAIN, next;

	while (read(l->given[0], &next, sizeof(next)) == sizeof(next)) {
		if (fd >= 0)
			close(fd); /* its pipe was lost since */
		fd = next;
	}
	return fd;
}

void pv_pipe_link_stop(struct pv_pipe_link *l)
{
	int fd;

	if (!l)
		return;
	pv_worker_stop(l->thread);
	while ((fd = pv_pipe_link_accept(l)) >= 0)
		close(fd);
	close(l->given[0]);
	close(l->given[1]);
	free(l);
}
