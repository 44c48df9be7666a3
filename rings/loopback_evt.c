/* loopback_evt.c - event channels of a loopback handle: an eventfd to wait on and one to write for each port.
 *
 * All ports' eventfds are in one epoll set, with EPOLLONESHOT: a port that was fetched stays silent until it is armed again,
 * which is Xen's mask after read and unmask. What comes meanwhile stays in the eventfd, and arming finds it.
 * The connection to the hub is in the set too, so that a handle which only waits learns of its end.
 */
#include "hyper_loopback.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define HUB_ENDED UINT64_MAX /* what epoll gives for the connection; a port has 32 bits */

int lb_evt_open(struct loopback *lb)
{
	/* The end alone, not the hub's answers; and once: who fetched it knows, and shall not spin. */
	struct epoll_event ev = { .events = EPOLLRDHUP | EPOLLET, .data.u64 = HUB_ENDED };

	lb->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return lb->epoll_fd < 0 || epoll_ctl(lb->epoll_fd, EPOLL_CTL_ADD, lb->fd, &ev) ? hyper_fail(&lb->h, -errno, "cannot make an epoll set: %s", strerror(errno)) : 0;
}

static struct evt *evt_get(struct loopback *lb, uint32_t port)
{
	return port < lb->nr_evts && lb->evts[port].fd >= 0 ? &lb->evts[port] : NULL;
}

static int no_port(struct loopback *lb, uint32_t port)
{
	return hyper_fail(&lb->h, -EINVAL, "port %u is not bound by this handle", port);
}

static int evt_room(struct loopback *lb, uint32_t port)
{
	uint32_t n = lb->nr_evts ? lb->nr_evts : 32;
	struct evt *evts;

	while (n <= port)
		n *= 2;
	if (n == lb->nr_evts)
		return 0;
	evts = realloc(lb->evts, n * sizeof(*evts));
	if (!evts)
		return -ENOMEM;
	lb->evts = evts;
	while (lb->nr_evts < n)
		lb->evts[lb->nr_evts++] = (struct evt){ -1, -1 };
	return 0;
}

/* The hub gave a port: watch it. Returns the port. */
static int evt_add(struct loopback *lb, const struct hub_req *req)
{
	int err = lb_call(lb, req, NULL, 0, 2);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = lb->rsp.port };
	uint32_t port = lb->rsp.port;
	char error[sizeof(lb->h.error)];

	if (!err) {
		err = evt_room(lb, port);
		if (!err && epoll_ctl(lb->epoll_fd, EPOLL_CTL_ADD, lb->fds[0], &ev))
			err = -errno;
		if (!err) {
			lb->evts[port] = (struct evt){ lb->fds[0], lb->fds[1] };
			lb->nfds = 0;
			return port;
		}
		close(lb->fds[0]);
		close(lb->fds[1]);
		lb->nfds = 0;
		hyper_fail(&lb->h, err, "cannot watch port %u: %s (fs.epoll.max_user_watches?)", port, strerror(-err));
	}
	if (port) {
		memcpy(error, lb->h.error, sizeof(error));
		lb_call(lb, &(struct hub_req){ .op = HUB_UNBIND, .port = port }, NULL, 0, 0);
		memcpy(lb->h.error, error, sizeof(error));
	}
	return err;
}

int lb_evt_alloc(struct pv_hyper *h, uint16_t domid)
{
	return evt_add((struct loopback *)h, &(struct hub_req){ .op = HUB_ALLOC, .domid = domid });
}

int lb_evt_bind(struct pv_hyper *h, uint16_t domid, uint32_t port)
{
	return evt_add((struct loopback *)h, &(struct hub_req){ .op = HUB_BIND, .domid = domid, .port = port });
}

/* The domain has it, not this handle: it stays when the handle ends. */
int lb_evt_store(struct loopback *lb)
{
	return evt_add(lb, &(struct hub_req){ .op = HUB_STORE_PORT });
}

/* The peer and the hub hold the eventfd too, so closing it does not take it out of the set. */
static void evt_drop(struct loopback *lb, struct evt *e)
{
	epoll_ctl(lb->epoll_fd, EPOLL_CTL_DEL, e->fd, NULL);
	close(e->fd);
	close(e->peer_fd);
	*e = (struct evt){ -1, -1 };
}

int lb_evt_unbind(struct pv_hyper *h, uint32_t port)
{
	struct loopback *lb = (struct loopback *)h;
	struct evt *e = evt_get(lb, port);

	if (!e)
		return no_port(lb, port);
	evt_drop(lb, e);
	lb_call(lb, &(struct hub_req){ .op = HUB_UNBIND, .port = port }, NULL, 0, 0); /* without a hub it is closed too */
	return 0;
}

int lb_evt_notify(struct pv_hyper *h, uint32_t port)
{
	struct loopback *lb = (struct loopback *)h;
	struct evt *e = evt_get(lb, port);

	if (!e)
		return no_port(lb, port);
	/* EAGAIN: the counter is full, so the other end is told already */
	if (write(e->peer_fd, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0 && errno != EAGAIN)
		return hyper_fail(h, -errno, "cannot notify port %u: %s", port, strerror(errno));
	return 0;
}

int lb_evt_fd(struct pv_hyper *h)
{
	return ((struct loopback *)h)->epoll_fd;
}

/* No more events: nothing makes the descriptor readable from now on, so that nobody spins on what he cannot take. */
static int pending_gone(struct loopback *lb)
{
	uint32_t i;

	if (!lb->deaf)
		epoll_ctl(lb->epoll_fd, EPOLL_CTL_DEL, lb->fd, NULL);
	for (i = 0; i < lb->nr_evts && !lb->deaf; i++)
		if (lb->evts[i].fd >= 0)
			epoll_ctl(lb->epoll_fd, EPOLL_CTL_DEL, lb->evts[i].fd, NULL);
	lb->deaf = true;
	return lb_gone(lb);
}

int lb_evt_pending(struct pv_hyper *h, uint32_t *ports, unsigned max)
{
	struct loopback *lb = (struct loopback *)h;
	struct epoll_event ev[64];
	unsigned n = 0;
	uint64_t count;
	int i, got, want;

	if (lb->gone)
		return pending_gone(lb);
	do {
		want = max - n < 64 ? max - n : 64;
		got = want ? epoll_wait(lb->epoll_fd, ev, want, 0) : 0;
		for (i = 0; i < got; i++) {
			if (ev[i].data.u64 == HUB_ENDED)
				return pending_gone(lb);
			ports[n++] = ev[i].data.u32;
			/* Nothing to read means that somebody else read it: an event too many does no harm, one too few would. */
			if (read(lb->evts[ev[i].data.u32].fd, &count, sizeof(count)) < 0)
				continue;
		}
	} while (got == want && want);
	return n;
}

int lb_evt_unmask(struct pv_hyper *h, const uint32_t *ports, unsigned n)
{
	struct loopback *lb = (struct loopback *)h;
	int err = 0;
	unsigned i;

	if (lb->deaf)
		return lb_gone(lb);
	for (i = 0; i < n; i++) {
		struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = ports[i] };
		struct evt *e = evt_get(lb, ports[i]);

		if (!e)
			err = no_port(lb, ports[i]);
		else if (epoll_ctl(lb->epoll_fd, EPOLL_CTL_MOD, e->fd, &ev))
			err = hyper_fail(h, -errno, "cannot unmask port %u: %s", ports[i], strerror(errno));
	}
	return err;
}

void lb_evt_close(struct loopback *lb)
{
	uint32_t i;

	for (i = 0; i < lb->nr_evts; i++)
		if (lb->evts[i].fd >= 0)
			evt_drop(lb, &lb->evts[i]);
	free(lb->evts);
	if (lb->epoll_fd >= 0)
		close(lb->epoll_fd);
}
