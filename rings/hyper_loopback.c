/* hyper_loopback.c - the port onto memory files and eventfds, through the hub: the handle, share and map.
 *
 * Every call here but the data path's is one question to the hub. It checks and counts, and hands out memory files, which we
 * map. loopback_copy.c is grant copy, loopback_evt.c event channels, loopback_ctl.c what a toolstack asks.
 */
#include "hyper_loopback.h"
#include "noxs.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- talking with the hub ---- */

static void drop_fds(struct loopback *lb)
{
	while (lb->nfds)
		close(lb->fds[--lb->nfds]);
}

/* The descriptor stays, shut: so the epoll set tells whoever sleeps on it, also when a call found it first. */
int lb_gone(struct loopback *lb)
{
	if (!lb->gone)
		shutdown(lb->fd, SHUT_RDWR);
	lb->gone = true;
	lb->rsp = (struct hub_rsp){ .result = -ESHUTDOWN };
	return hyper_fail(&lb->h, -ESHUTDOWN, "the hub ended this handle of domain %u: the domain was destroyed, or pvio-hub at %s ended",
			  lb->h.domid, lb->path);
}

static void take_fds(struct loopback *lb, struct msghdr *m)
{
	struct cmsghdr *c;

	lb->nfds = 0;
	for (c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			lb->nfds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(lb->fds, CMSG_DATA(c), lb->nfds * sizeof(int));
		}
}

int lb_next(struct loopback *lb, int fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(lb->fds))];
	} control;
	struct iovec iov[2] = { { &lb->rsp, sizeof(lb->rsp) }, { lb->payload, sizeof(lb->payload) } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct rlimit rl = { 0 };
	ssize_t len;

	do
		len = lb->gone ? 0 : recvmsg(lb->fd, &m, MSG_CMSG_CLOEXEC);
	while (len < 0 && errno == EINTR);
	if (len < (ssize_t)sizeof(lb->rsp))
		return lb_gone(lb);
	take_fds(lb, &m);
	lb->payload_bytes = len - sizeof(lb->rsp);
	if (lb->rsp.result < 0) {
		drop_fds(lb);
		return hyper_fail(&lb->h, lb->rsp.result, "%.*s", (int)lb->payload_bytes, (char *)lb->payload);
	}
	if ((m.msg_flags & MSG_CTRUNC) || (fds >= 0 && lb->nfds != (unsigned)fds)) {
		drop_fds(lb);
		getrlimit(RLIMIT_NOFILE, &rl);
		return hyper_fail(&lb->h, -ENOSPC, "out of descriptors: raise RLIMIT_NOFILE (ulimit -n), now %llu",
				  (unsigned long long)rl.rlim_cur);
	}
	return 0;
}

int lb_call(struct loopback *lb, const struct hub_req *req, const void *more, size_t len, int fds)
{
	struct iovec iov[2] = { { (void *)req, sizeof(*req) }, { (void *)more, len } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = len ? 2 : 1 };
	ssize_t n;

	do
		n = lb->gone ? -1 : sendmsg(lb->fd, &m, MSG_NOSIGNAL);
	while (n < 0 && !lb->gone && errno == EINTR);
	return n < 0 ? lb_gone(lb) : lb_next(lb, fds);
}

/* ---- memory ---- */

/* A file that its owner could cut short or change the rules of is not mapped. */
int lb_check_seals(struct loopback *lb, int fd, bool *writable)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & HUB_SEALS) != HUB_SEALS)
		return hyper_fail(&lb->h, -EACCES, "the hub gave a memory file that is not sealed: refused");
	if (writable)
		*writable = !(seals & (F_SEAL_FUTURE_WRITE | F_SEAL_WRITE));
	return 0;
}

static int region_add(struct loopback *lb, void *addr, uint32_t n, uint64_t id, bool share)
{
	struct region *r = idmap_reserve(&lb->regions, 1) ? NULL : malloc(sizeof(*r));

	if (!r)
		return hyper_fail(&lb->h, -ENOMEM, "out of memory for %u pages", n);
	*r = (struct region){ .id = id, .addr = addr, .n = n, .share = share };
	idmap_put(&lb->regions, (uintptr_t)addr, r);
	return 0;
}

/* Unmap first, then tell the hub, which then clears notice bytes: who sees the byte cleared knows that we are gone. */
static int region_end(struct loopback *lb, void *addr, unsigned n, bool share)
{
	struct region *r = addr ? idmap_get(&lb->regions, (uintptr_t)addr) : NULL;
	struct hub_req req = { .op = share ? HUB_UNSHARE : HUB_UNMAP };

	if (!r || r->n != n || r->share != share)
		return hyper_fail(&lb->h, -EINVAL, "%p with %u pages is not what one %s of this handle made", addr, n, share ? "share" : "map");
	req.id = r->id;
	munmap(addr, (size_t)n * HUB_PAGE);
	idmap_del(&lb->regions, (uintptr_t)addr);
	free(r);
	lb_call(lb, &req, NULL, 0, 0); /* without a hub it is ended too */
	return 0;
}

static struct hub_req page_req(enum hub_op op, uint16_t domid, unsigned n, bool writable, const struct pv_gnt_notice *notice)
{
	struct hub_req req = { .op = op, .domid = domid, .n = n, .flags = writable ? HUB_WRITABLE : 0 };

	if (notice) {
		req.flags |= HUB_NOTICE;
		req.notice = *notice;
	}
	return req;
}

/* Take back what the hub did for a call that failed on our side; the error stays the one of that failure. */
static void undo(struct loopback *lb, enum hub_op op, uint64_t id)
{
	char error[sizeof(lb->h.error)];

	memcpy(error, lb->h.error, sizeof(error));
	lb_call(lb, &(struct hub_req){ .op = op, .id = id }, NULL, 0, 0);
	memcpy(lb->h.error, error, sizeof(error));
}

/* ---- share ---- */

static int share_map(struct loopback *lb, unsigned n, bool writable, uint64_t id, int fd, void **addr)
{
	size_t bytes = (size_t)n * HUB_PAGE;
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int err = 0;

	if (p == MAP_FAILED)
		return hyper_no_memory(&lb->h, "a share");
	if (!writable)
		err = lb_call(lb, &(struct hub_req){ .op = HUB_SEAL, .id = id }, NULL, 0, 0);
	if (!err)
		err = region_add(lb, p, n, id, true);
	if (err) {
		munmap(p, bytes);
		return err;
	}
	*addr = p;
	return 0;
}

static int lb_share(struct pv_hyper *h, uint16_t domid, unsigned n, bool writable, const struct pv_gnt_notice *notice,
		    uint32_t *grefs, void **addr)
{
	struct loopback *lb = (struct loopback *)h;
	struct hub_req req = page_req(HUB_SHARE, domid, n, writable, notice);
	int err = lb_call(lb, &req, NULL, 0, 1), fd;
	uint64_t id = lb->rsp.id;

	if (!err) {
		fd = lb->fds[0];
		memcpy(grefs, lb->payload, n * sizeof(*grefs));
		err = share_map(lb, n, writable, id, fd, addr);
		close(fd);
	}
	if (err && id)
		undo(lb, HUB_UNSHARE, id);
	return err;
}

static int lb_unshare(struct pv_hyper *h, void *addr, unsigned n)
{
	return region_end((struct loopback *)h, addr, n, true);
}

/* ---- map ---- */

static void forget_files(struct loopback *lb)
{
	unsigned i;

	for (i = 0; i < HUB_FILE_SLOTS; i++)
		if (lb->slots[i].id)
			close(lb->slots[i].fd);
	memset(lb->slots, 0, sizeof(lb->slots));
}

/* The descriptor of a run's file: the one we have, or the next that came with this packet. -1: one is missing. */
static int run_fd(struct loopback *lb, const struct hub_run *run, unsigned *taken)
{
	struct file_slot *s = &lb->slots[run->file % HUB_FILE_SLOTS];

	if (s->id == run->file)
		return s->fd;
	if (*taken == lb->nfds)
		return -1;
	if (s->id)
		close(s->fd);
	*s = (struct file_slot){ run->file, lb->fds[(*taken)++] };
	return s->fd;
}

struct mapping { /* in the making */
	uint8_t *base;
	uint32_t n, at; /* pages in all, and mapped so far */
	int prot;
	int err; /* the first error; the rest of the answer is read all the same */
};

static int map_run(struct loopback *lb, struct mapping *m, const struct hub_run *run, int fd)
{
	void *p;
	int err = lb_check_seals(lb, fd, NULL);

	if (err)
		return err;
	if (run->n > m->n - m->at)
		return hyper_fail(&lb->h, -EIO, "the hub mapped more pages than asked");
	if (!m->base && run->n < m->n) {
		p = mmap(NULL, (size_t)m->n * HUB_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED)
			return hyper_no_memory(&lb->h, "granted pages");
		m->base = p;
	}
	p = mmap(m->base ? m->base + (size_t)m->at * HUB_PAGE : NULL, (size_t)run->n * HUB_PAGE, m->prot,
		 MAP_SHARED | (m->base ? MAP_FIXED : 0), fd, (off_t)run->page * HUB_PAGE);
	if (p == MAP_FAILED)
		return hyper_no_memory(&lb->h, "granted pages");
	if (!m->base)
		m->base = p;
	m->at += run->n;
	return 0;
}

/* One packet of runs. */
static void map_packet(struct loopback *lb, struct mapping *m)
{
	const struct hub_run *runs = (const void *)lb->payload;
	unsigned i, taken = 0, nr = lb->payload_bytes / sizeof(*runs);

	for (i = 0; i < nr; i++) {
		int fd = run_fd(lb, &runs[i], &taken);

		if (fd < 0 && !m->err)
			m->err = hyper_fail(&lb->h, -EIO, "the hub passed too few descriptors");
		if (!m->err)
			m->err = map_run(lb, m, &runs[i], fd);
	}
}

/* Read the whole answer, whatever fails on the way, so that both ends still agree on the slots. */
static uint64_t map_answer(struct loopback *lb, struct mapping *m, int err)
{
	uint64_t id = lb->rsp.id;
	bool lost = false;

	for (;;) {
		if (err) {
			m->err = m->err ? m->err : err;
			lost = true;
		} else {
			map_packet(lb, m);
		}
		if (!lb->rsp.more)
			break;
		err = lb_next(lb, -1);
	}
	if (!m->err && m->at != m->n)
		m->err = hyper_fail(&lb->h, -EIO, "the hub mapped fewer pages than asked");
	if (lost && id) {
		forget_files(lb);
		undo(lb, HUB_FORGET, 0);
	}
	return id;
}

static int lb_map(struct pv_hyper *h, uint16_t domid, const uint32_t *grefs, unsigned n, bool writable,
		  const struct pv_gnt_notice *notice, void **addr)
{
	struct loopback *lb = (struct loopback *)h;
	struct hub_req req = page_req(HUB_MAP, domid, n, writable, notice);
	struct mapping m = { .n = n, .prot = PROT_READ | (writable ? PROT_WRITE : 0) };
	uint64_t id;

	if (n > HUB_MAP_MAX)
		return hyper_fail(h, -EINVAL, "cannot map %u pages in one call: at most %d", n, HUB_MAP_MAX);
	id = map_answer(lb, &m, lb_call(lb, &req, grefs, n * sizeof(*grefs), -1));
	if (!m.err)
		m.err = region_add(lb, m.base, n, id, false);
	if (!m.err) {
		*addr = m.base;
		return 0;
	}
	if (m.base)
		munmap(m.base, (size_t)n * HUB_PAGE);
	if (id)
		undo(lb, HUB_UNMAP, id);
	return m.err;
}

static int lb_unmap(struct pv_hyper *h, void *addr, unsigned n)
{
	return region_end((struct loopback *)h, addr, n, false);
}

/* ---- the handle ---- */

static int lb_pointer(struct pv_hyper *h, struct pv_noxs_pointer *out)
{
	struct loopback *lb = (struct loopback *)h;
	void *p;
	int err;

	if (!lb->store) {
		err = lb_call(lb, &(struct hub_req){ .op = HUB_STORE }, NULL, 0, 1);
		if (err)
			return err;
		p = mmap(NULL, HUB_PAGE, PROT_READ, MAP_SHARED, lb->fds[0], 0);
		drop_fds(lb);
		if (p == MAP_FAILED)
			return hyper_no_memory(&lb->h, "the store page");
		lb->store = p;
	}
	err = pv_noxs_pointer_read(lb->store, out);
	if (err == -ENOENT)
		hyper_fail(h, err, "no device page was announced to domain %u: does pviod run?", h->domid);
	else if (err)
		hyper_fail(h, err, "the pointer in the store page of domain %u is of a version that this build does not know", h->domid);
	return err;
}

static void lb_close(struct pv_hyper *h)
{
	struct loopback *lb = (struct loopback *)h;
	uint32_t i;

	for (i = 0; lb->regions.slots && i <= lb->regions.mask; i++) {
		struct region *r = lb->regions.slots[i].val;

		if (r) {
			munmap(r->addr, (size_t)r->n * HUB_PAGE);
			free(r);
		}
	}
	idmap_free(&lb->regions);
	forget_files(lb);
	lb_copy_close(lb);
	lb_evt_close(lb);
	if (lb->store)
		munmap((void *)lb->store, HUB_PAGE);
	if (lb->own_store)
		munmap(lb->own_store, HUB_PAGE);
	if (lb->fd >= 0) {
		/* Wait until the hub has ended all that was ours: whoever looks after this sees it gone. */
		shutdown(lb->fd, SHUT_WR);
		while (recv(lb->fd, lb->payload, sizeof(lb->payload), 0) > 0 || errno == EINTR)
			errno = 0;
		close(lb->fd);
	}
	free(lb);
}

const struct pv_hyper_ops loopback_ops = {
	.name = "loopback",
	.close = lb_close,
	.pointer = lb_pointer,
	.share = lb_share,
	.unshare = lb_unshare,
	.map = lb_map,
	.unmap = lb_unmap,
	.copy = lb_copy,
	.evt_alloc = lb_evt_alloc,
	.evt_bind = lb_evt_bind,
	.evt_unbind = lb_evt_unbind,
	.evt_notify = lb_evt_notify,
	.evt_fd = lb_evt_fd,
	.evt_pending = lb_evt_pending,
	.evt_unmask = lb_evt_unmask,
};

static int connect_hub(struct loopback *lb)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int err;

	lb->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (lb->fd < 0)
		return hyper_fail(&lb->h, -errno, "cannot make a socket: %s", strerror(errno));
	strcpy(sa.sun_path, lb->path);
	while (connect(lb->fd, (void *)&sa, sizeof(sa))) {
		err = -errno;
		if (err == -EINTR)
			continue;
		if (err == -ENOENT || err == -ECONNREFUSED)
			return hyper_fail(&lb->h, -ENODEV, "no hub serves %s: start pvio-hub", lb->path);
		return hyper_fail(&lb->h, err, "cannot connect to the hub at %s: %s", lb->path, strerror(-err));
	}
	return 0;
}

int loopback_open(const char *path, int domid, struct pv_hyper **out, char *why, size_t len)
{
	struct loopback *lb = calloc(1, sizeof(*lb));
	struct rlimit rl;
	int err;

	if (!lb)
		return -ENOMEM;
	/* Each port has two descriptors. */
	if (!getrlimit(RLIMIT_NOFILE, &rl) && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	lb->h.ops = &loopback_ops;
	lb->fd = lb->epoll_fd = -1;
	snprintf(lb->path, sizeof(lb->path), "%s", path);
	TAILQ_INIT(&lb->copy_files);
	err = domid < 0 ? hyper_fail(&lb->h, -EINVAL, "the loopback hypervisor must be told which domain to be (--domid)") : connect_hub(lb);
	if (!err) {
		lb->h.domid = domid;
		err = lb_call(lb, &(struct hub_req){ .op = HUB_HELLO, .domid = domid, .n = HUB_VERSION }, NULL, 0, 0);
	}
	if (!err)
		err = lb_evt_open(lb);
	if (!err)
		err = lb_copy_open(lb);
	if (err) {
		if (why && len)
			snprintf(why, len, "%s", lb->h.error);
		lb_close(&lb->h);
		return err;
	}
	*out = &lb->h;
	return 0;
}
