/* xen_evt.c - event channels of a Xen handle: /dev/xen/evtchn.
 *
 * The kernel masks a port when its event arrives and keeps it in a queue of this handle. One read(2) fetches many, one write(2)
 * unmasks many; libxenevtchn does both for a single port only, and its read may sleep, so that these two are done here.
 *
 * The kernel wakes a sleeper only with the first event of an empty queue, and looks whether it is empty before it adds the event. If a
 * read empties the queue in between, that event lies there unheard, and so do all after it. So a timer makes the handle's descriptor
 * ready a few times more after events were read, and whoever waits on it reads again.
 */
#include "hyper_xen.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { AGAIN_MS = 10, AGAIN_MS_MAX = 1000 }; /* an interrupt handler is held up while its vcpu does not run */
enum { PORTS_A_CALL = HYPER_PAGE / sizeof(evtchn_port_t) }; /* the kernel takes and gives at most a page */

static int watch(struct xen *x, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	return epoll_ctl(x->ready_fd, EPOLL_CTL_ADD, fd, &ev);
}

int xen_evt_open(struct xen *x)
{
	int fd, flags;

	x->evt = xenevtchn_open(&xen_discard, 0);
	if (!x->evt)
		return xen_no_device(x, "evtchn", "xen-evtchn");
	fd = xenevtchn_fd(x->evt);
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return hyper_fail(&x->h, -errno, "cannot set up /dev/xen/evtchn: %s", strerror(errno));
	x->ready_fd = epoll_create1(EPOLL_CLOEXEC);
	x->again_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (x->ready_fd < 0 || x->again_fd < 0 || watch(x, fd) || watch(x, x->again_fd))
		return hyper_fail(&x->h, -errno, "cannot watch /dev/xen/evtchn: %s%s", strerror(errno), errno == EMFILE ? "; raise ulimit -n" : "");
	return 0;
}

void xen_evt_close(struct xen *x)
{
	if (x->again_fd >= 0)
		close(x->again_fd);
	if (x->ready_fd >= 0)
		close(x->ready_fd);
	if (x->evt)
		xenevtchn_close(x->evt);
	free(x->ports);
}

bool xen_evt_ours(const struct xen *x, uint32_t port)
{
	return port < x->nr_ports && x->ports[port];
}

static int no_port(struct xen *x, uint32_t port)
{
	return hyper_fail(&x->h, -EINVAL, "port %u is not bound by this handle", port);
}

static int note_port(struct xen *x, uint32_t port)
{
	uint32_t n = x->nr_ports ? x->nr_ports : 256;
	uint8_t *ports;

	while (n <= port)
		n *= 2;
	if (n > x->nr_ports) {
		ports = realloc(x->ports, n);
		if (!ports)
			return hyper_fail(&x->h, -ENOMEM, "out of memory for port %u", port);
		memset(ports + x->nr_ports, 0, n - x->nr_ports);
		x->ports = ports;
		x->nr_ports = n;
	}
	x->ports[port] = 1;
	return port;
}

/* A port that the kernel gave, or why it did not. */
static int new_port(struct xen *x, xenevtchn_port_or_error_t port, const char *what)
{
	int err = -errno;

	if (port >= 0) {
		err = note_port(x, port);
		if (err < 0)
			xenevtchn_unbind(x->evt, port);
		return err;
	}
	switch (err) {
	case -ENOSPC:
		return hyper_fail(&x->h, err, "no ports left for %s: this domain has as many as Xen (xl: max_event_channels) or its kernel gives it", what);
	case -ENOMEM:
		return hyper_fail(&x->h, err, "the kernel has no memory or no interrupt left for %s", what);
	default:
		return hyper_fail(&x->h, err, "cannot make %s: %s", what, strerror(-err));
	}
}

int xen_evt_alloc(struct pv_hyper *h, uint16_t domid)
{
	struct xen *x = (struct xen *)h;

	return new_port(x, xenevtchn_bind_unbound_port(x->evt, domid), "a port");
}

int xen_evt_bind(struct pv_hyper *h, uint16_t domid, uint32_t port)
{
	struct xen *x = (struct xen *)h;
	int local = xenevtchn_bind_interdomain(x->evt, domid, port);

	if (local >= 0 || errno == ENOSPC || errno == ENOMEM)
		return new_port(x, local, "the other end of a port");
	if (errno == ESRCH)
		return hyper_fail(h, -EINVAL, "port %u of domain %u: there is no such domain", port, domid);
	return hyper_fail(h, errno == EINVAL ? -EINVAL : -EACCES, "port %u of domain %u does not wait for this domain", port, domid);
}

int xen_evt_unbind(struct pv_hyper *h, uint32_t port)
{
	struct xen *x = (struct xen *)h;

	if (!xen_evt_ours(x, port))
		return no_port(x, port);
	x->ports[port] = 0;
	return xenevtchn_unbind(x->evt, port) ? hyper_fail(h, -errno, "cannot close port %u: %s", port, strerror(errno)) : 0;
}

int xen_evt_notify(struct pv_hyper *h, uint32_t port)
{
	struct xen *x = (struct xen *)h;

	if (!xenevtchn_notify(x->evt, port))
		return 0;
	return errno == ENOTCONN ? no_port(x, port) : hyper_fail(h, -errno, "cannot notify port %u: %s", port, strerror(errno));
}

int xen_evt_fd(struct pv_hyper *h)
{
	return ((struct xen *)h)->ready_fd;
}

/* To the kernel's tick, and without a system call whatever the clock is. */
static void read_again_in(struct xen *x, int ms)
{
	struct itimerspec t = { .it_value = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 } };

	x->again = timerfd_settime(x->again_fd, 0, &t, NULL) ? 0 : ms;
	x->again_at = xen_now_ms() + ms / 2; /* before that it has not run out, and there is no need to start it anew */
}

static void read_again_later(struct xen *x)
{
	if (x->again != AGAIN_MS || xen_now_ms() >= x->again_at)
		read_again_in(x, AGAIN_MS);
}

/* There were no events: was it the timer that woke us? */
static void read_again_done(struct xen *x)
{
	uint64_t count;

	if (!x->again || xen_now_ms() < x->again_at || read(x->again_fd, &count, sizeof(count)) < 0)
		return;
	if (x->again < AGAIN_MS_MAX)
		read_again_in(x, x->again * 10);
	else
		x->again = 0;
}

/* The kernel's queue keeps what came for a port before it was closed: that is passed over. */
int xen_evt_pending(struct pv_hyper *h, uint32_t *ports, unsigned max)
{
	struct xen *x = (struct xen *)h;
	unsigned n = 0, i, got;
	ssize_t len;

	do
		len = read(xenevtchn_fd(x->evt), ports, max * sizeof(*ports));
	while (len < 0 && errno == EINTR);
	if (len < 0 && errno != EAGAIN)
		return hyper_fail(h, -errno, "cannot read events: %s", strerror(errno));
	if (len <= 0) {
		read_again_done(x);
		return 0;
	}
	read_again_later(x);
	got = len / sizeof(*ports);
	for (i = 0; i < got; i++)
		if (xen_evt_ours(x, ports[i]))
			ports[n++] = ports[i];
	return n;
}

int xen_evt_unmask(struct pv_hyper *h, const uint32_t *ports, unsigned n)
{
	struct xen *x = (struct xen *)h;
	unsigned i, some;
	int err = 0;

	for (i = 0; i < n; i++)
		if (!xen_evt_ours(x, ports[i]))
			err = no_port(x, ports[i]); /* the kernel passes over it */
	for (; n; n -= some, ports += some) {
		some = n < PORTS_A_CALL ? n : PORTS_A_CALL;
		if (write(xenevtchn_fd(x->evt), ports, some * sizeof(*ports)) < 0)
			err = hyper_fail(h, -errno, "cannot unmask %u ports: %s", some, strerror(errno));
	}
	return err;
}
