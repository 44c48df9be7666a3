/* hub.c - the hub's socket: connections, one request a turn for each, answers that never block.
 *
 * A client that breaks the protocol or does not read its answers is cut off, and all that was its goes, as when its process
 * dies. See hub_int.h for the state, hub_domain.c, hub_grant.c and hub_port.c for the operations.
 */
#include "hub_int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int (*const handlers[HUB_OPS])(struct pv_hub *, struct hub_conn *, const struct hub_req *) = {
	[HUB_STORE] = hub_store,
	[HUB_SHARE] = hub_share,
	[HUB_SEAL] = hub_seal,
	[HUB_UNSHARE] = hub_unshare,
	[HUB_MAP] = hub_map,
	[HUB_UNMAP] = hub_unmap,
	[HUB_FORGET] = hub_forget,
	[HUB_TABLE] = hub_do_table,
	[HUB_FILE] = hub_do_file,
	[HUB_COPY] = hub_copy,
	[HUB_ALLOC] = hub_alloc,
	[HUB_BIND] = hub_bind,
	[HUB_UNBIND] = hub_unbind,
	[HUB_CREATE] = hub_create,
	[HUB_DESTROY] = hub_destroy,
	[HUB_STORE_PORT] = hub_store_port,
	[HUB_LIST] = hub_list,
	[HUB_INJECT] = hub_do_inject,
};

uint64_t hub_ids_add(struct hub_ids *t, void *item)
{
	uint32_t i;

	if (!t->nfree && t->nr == t->cap) {
		uint32_t cap = t->cap ? t->cap * 2 : 16;
		void **items = realloc(t->item, cap * sizeof(*items));
		uint32_t *list;

		if (!items)
			return 0;
		t->item = items;
		list = realloc(t->free, cap * sizeof(*list));
		if (!list)
			return 0;
		t->free = list;
		t->cap = cap;
	}
	i = t->nfree ? t->free[--t->nfree] : t->nr++;
	t->item[i] = item;
	return (uint64_t)i + 1;
}

void *hub_ids_get(const struct hub_ids *t, uint64_t id)
{
	return id && id <= t->nr ? t->item[id - 1] : NULL;
}

void hub_ids_del(struct hub_ids *t, uint64_t id)
{
	t->item[id - 1] = NULL;
	t->free[t->nfree++] = id - 1;
}

int hub_memfd(const char *name, size_t bytes, unsigned seals)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, bytes) || fcntl(fd, F_ADD_SEALS, seals)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* Cut a client off: everything that was its goes now; the structure itself at the end of the turn. */
void hub_cut(struct pv_hub *hub, struct hub_conn *c)
{
	struct hub_port *p;
	int fd = c->fd;

	if (fd < 0)
		return;
	c->fd = -1;
	if (c->dom) {
		hub_conn_drop_grants(c); /* first: its notices use its ports */
		while ((p = LIST_FIRST(&c->ports)))
			hub_port_close(hub, c->dom, p - c->dom->port);
		c->dom->count.handles--;
	}
	close(fd); /* last: a client that closes its handle waits for this */
	LIST_REMOVE(c, link);
	LIST_INSERT_HEAD(&hub->dead, c, link);
}

static void bury(struct pv_hub *hub)
{
	struct hub_conn *c;

	while ((c = LIST_FIRST(&hub->dead))) {
		LIST_REMOVE(c, link);
		free(c->files.item);
		free(c->files.free);
		free(c->maps.item);
		free(c->maps.free);
		free(c);
	}
}

int hub_answer(struct hub_conn *c, const struct hub_rsp *rsp, const void *payload, size_t len, const int *fds, unsigned nfds)
{
	struct iovec iov[2] = { { (void *)rsp, sizeof(*rsp) }, { (void *)payload, len } };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(HUB_RUNS_MAX * sizeof(int))];
	} control;
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = len ? 2 : 1 };

	if (nfds) {
		control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(nfds * sizeof(int)) };
		memcpy(CMSG_DATA(&control.align), fds, nfds * sizeof(int));
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
	}
	/* A client that lets its answers pile up until the socket is full is cut off by the caller: we never wait for one. */
	return sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int hub_refuse(struct hub_conn *c, int err, const char *fmt, ...)
{
	struct hub_rsp rsp = { .result = err };
	char text[HUB_TEXT_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return hub_answer(c, &rsp, text, strlen(text), NULL, 0);
}

/* Refuse because we could not make or get a descriptor or memory for `what`. */
int hub_refuse_files(struct hub_conn *c, int err, const char *what)
{
	struct rlimit rl = { 0 };

	if (err != -EMFILE && err != -ENFILE)
		return hub_refuse(c, err, "the hub cannot make %s: %s", what, strerror(-err));
	getrlimit(RLIMIT_NOFILE, &rl);
	return hub_refuse(c, -ENOSPC, "the hub is out of descriptors for %s: raise its RLIMIT_NOFILE (ulimit -n), now %llu", what,
			  (unsigned long long)rl.rlim_cur);
}

static int hello(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct hub_dom *d = hub_dom_get(hub, req->domid);

	if (req->n != HUB_VERSION)
		return hub_refuse(c, -EPROTONOSUPPORT, "the hub speaks version %d, this program version %u: use those of one build",
				  HUB_VERSION, req->n);
	if (!d)
		return hub_refuse(c, -ENOENT, "no domain %u on this hub", req->domid);
	c->dom = d;
	d->count.handles++;
	return hub_answer(c, &(struct hub_rsp){ 0 }, NULL, 0, NULL, 0);
}

/* Returns < 0 to cut the client off. */
static int dispatch(struct pv_hub *hub, struct hub_conn *c, size_t len)
{
	const struct hub_req *req = &hub->in.req;
	size_t more;

	if (len < sizeof(*req) || req->op >= HUB_OPS || (req->op == HUB_HELLO) != !c->dom)
		return -EPROTO;
	if (req->op == HUB_MAP && req->n > HUB_MAP_MAX)
		return -EPROTO;
	more = req->op == HUB_MAP ? req->n * sizeof(uint32_t) : 0;
	if (len != sizeof(*req) + more)
		return -EPROTO;
	return req->op == HUB_HELLO ? hello(hub, c, req) : handlers[req->op](hub, c, req);
}

static void serve(struct pv_hub *hub, struct hub_conn *c)
{
	struct iovec iov = { hub->in.bytes, sizeof(hub->in.bytes) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t len;

	if (c->fd < 0)
		return;
	len = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* MSG_CTRUNC: it sent descriptors, which the kernel dropped as there is no room for them here */
	if (len <= 0 || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || dispatch(hub, c, len) < 0)
		hub_cut(hub, c);
}

static void greet(struct pv_hub *hub)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct hub_conn *c;
	int fd = accept4(hub->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		/* Out of descriptors: take it on the spare one and hang up, or it would stay at the head of the queue. */
		if ((errno == EMFILE || errno == ENFILE) && hub->spare_fd >= 0) {
			close(hub->spare_fd);
			fd = accept4(hub->listen_fd, NULL, NULL, SOCK_CLOEXEC);
			if (fd >= 0)
				close(fd);
			hub->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		}
		return;
	}
	c = calloc(1, sizeof(*c));
	if (c) {
		c->fd = fd;
		ev.data.ptr = c;
		if (!epoll_ctl(hub->epoll_fd, EPOLL_CTL_ADD, fd, &ev)) {
			LIST_INSERT_HEAD(&hub->conns, c, link);
			return;
		}
		free(c);
	}
	close(fd);
}

int pv_hub_run(struct pv_hub *hub)
{
	struct epoll_event ev[64];
	int i, n;

	for (;;) {
		n = epoll_wait(hub->epoll_fd, ev, 64, -1);
		if (n < 0 && errno != EINTR)
			return -errno;
		for (i = 0; i < n; i++) {
			if (ev[i].data.ptr == &hub->stop_fd)
				return 0;
			if (ev[i].data.ptr == &hub->listen_fd)
				greet(hub);
			else
				serve(hub, ev[i].data.ptr);
		}
		bury(hub);
	}
}

void pv_hub_stop(struct pv_hub *hub)
{
	int saved = errno;

	if (write(hub->stop_fd, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0)
		errno = saved; /* EAGAIN: told already. A signal handler leaves errno alone. */
}

/* A socket that nobody serves: left behind by a hub that was killed. */
static bool stale(const char *path, const struct sockaddr_un *sa)
{
	struct stat st;
	bool dead;
	int fd;

	if (lstat(path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	dead = connect(fd, (const void *)sa, sizeof(*sa)) && errno == ECONNREFUSED;
	close(fd);
	return dead;
}

/* Bind and listen; a stale socket is replaced. */
static int listen_at(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd, err = 0;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	fchmod(fd, 0600); /* of a socket not bound yet: the mode that its file gets, whatever the umask */
	if (bind(fd, (void *)&sa, sizeof(sa))) {
		err = -errno;
		if (err == -EADDRINUSE && stale(path, &sa) && !unlink(path))
			err = bind(fd, (void *)&sa, sizeof(sa)) ? -errno : 0;
	}
	if (!err && listen(fd, 128)) {
		err = -errno;
		unlink(path);
	}
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int watch(struct pv_hub *hub, int *fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = fd };

	return epoll_ctl(hub->epoll_fd, EPOLL_CTL_ADD, *fd, &ev) ? -errno : 0;
}

static int open_files(struct pv_hub *hub, const char *path)
{
	struct rlimit rl;
	int err;

	/* Each share is a file and each channel two eventfds. */
	if (!getrlimit(RLIMIT_NOFILE, &rl)) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	hub->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	hub->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	hub->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (hub->epoll_fd < 0 || hub->stop_fd < 0)
		return -errno;
	hub->listen_fd = listen_at(path);
	if (hub->listen_fd < 0)
		return hub->listen_fd;
	hub->path = strdup(path);
	if (!hub->path) {
		unlink(path);
		return -ENOMEM;
	}
	err = watch(hub, &hub->stop_fd);
	return err ? err : watch(hub, &hub->listen_fd);
}

int pv_hub_open(const char *path, const struct pv_hub_limits *limits, struct pv_hub **out)
{
	struct pv_hub *hub = calloc(1, sizeof(*hub));
	int err;

	*out = NULL;
	if (!hub)
		return -ENOMEM;
	hub->listen_fd = hub->epoll_fd = hub->stop_fd = hub->spare_fd = -1;
	if (limits)
		hub->limits = *limits;
	hub->limits.domains = hub->limits.domains ? hub->limits.domains : 1024;
	hub->limits.grants = hub->limits.grants ? hub->limits.grants : 65536;
	hub->limits.ports = hub->limits.ports ? hub->limits.ports : 4096;
	hub->limits.maps = hub->limits.maps ? hub->limits.maps : 1 << 20;
	err = hub->limits.grants > 1 << 24 || hub->limits.ports > 1 << 20 ? -EINVAL : open_files(hub, path);
	if (!err)
		err = hub_dom_new(hub, 0, &hub->dom[0]);
	if (err) {
		pv_hub_close(hub);
		return err;
	}
	*out = hub;
	return 0;
}

void pv_hub_close(struct pv_hub *hub)
{
	unsigned i;

	if (!hub)
		return;
	while (!LIST_EMPTY(&hub->conns))
		hub_cut(hub, LIST_FIRST(&hub->conns));
	bury(hub);
	for (i = 0; i < HUB_DOMIDS; i++)
		if (hub->dom[i])
			hub_dom_free(hub, hub->dom[i]);
	if (hub->path)
		unlink(hub->path);
	free(hub->path);
	for (i = 0; i < 4; i++) {
		int fd = (int[]){ hub->listen_fd, hub->epoll_fd, hub->stop_fd, hub->spare_fd }[i];

		if (fd >= 0)
			close(fd);
	}
	free(hub);
}
