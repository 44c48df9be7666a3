/* xen_bus.c - the wire protocol of XenStore on /dev/xen/xenbus, as much of it as one who reads and watches a node needs.
 *
 * The kernel passes whole messages on and answers in order of asking; events of watches come between. A request but XS_WATCH is
 * only queued by write(2), so nobody waits for a store that is not served; XS_WATCH sleeps in the kernel until it is answered.
 */
#include "hyper_xen.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

int xen_bus_open(struct xen_bus *b)
{
	b->fd = open("/dev/xen/xenbus", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	b->have = 0;
	return b->fd < 0 ? -errno : 0;
}

void xen_bus_close(struct xen_bus *b)
{
	if (b->fd >= 0)
		close(b->fd);
	b->fd = -1;
}

int xen_bus_send(struct xen_bus *b, uint32_t type, const char *path, const char *token)
{
	struct xsd_sockmsg msg = { .type = type, .len = strlen(path) + 1 + (token ? strlen(token) + 1 : 0) };
	char all[sizeof(msg) + 128];
	size_t len = sizeof(msg) + msg.len;
	ssize_t n;

	if (len > sizeof(all))
		return -ENAMETOOLONG;
	memcpy(all, &msg, sizeof(msg));
	strcpy(all + sizeof(msg), path);
	if (token)
		strcpy(all + sizeof(msg) + strlen(path) + 1, token);
	do
		n = write(b->fd, all, len);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EIO;
}

/* Read what is there, until a message is whole: 1; 0: nothing more is there. */
static int take(struct xen_bus *b)
{
	struct iovec iov[2];
	uint32_t head = sizeof(b->msg), want;
	ssize_t n;

	for (;;) {
		want = head + (b->have < head ? 0 : b->msg.len);
		if (b->have >= head && b->msg.len > sizeof(b->body))
			return -EIO;
		if (b->have >= head && b->have == want)
			return 1;
		iov[0] = (struct iovec){ (char *)&b->msg + b->have, b->have < head ? head - b->have : 0 };
		iov[1] = (struct iovec){ b->body + (b->have < head ? 0 : b->have - head), b->have < head ? 0 : want - b->have };
		n = readv(b->fd, b->have < head ? &iov[0] : &iov[1], 1);
		if (n == 0 || (n < 0 && errno == EAGAIN))
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			b->have += n;
	}
}

int64_t xen_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

int xen_bus_next(struct xen_bus *b, int ms)
{
	struct pollfd p = { .fd = b->fd, .events = POLLIN };
	int64_t until = ms ? xen_now_ms() + ms : 0;
	int rc;

	if (b->have >= sizeof(b->msg) && b->have == sizeof(b->msg) + b->msg.len)
		b->have = 0; /* the last one was used */
	while (!(rc = take(b)) && ms > 0) {
		if (poll(&p, 1, ms) < 0 && errno != EINTR)
			return -errno;
		ms = until - xen_now_ms();
	}
	return rc;
}

int xen_bus_errno(const struct xen_bus *b)
{
	for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++) {
		const char *name = xsd_errors[i].errstring;

		if (b->msg.len == strlen(name) + 1 && !memcmp(b->body, name, b->msg.len))
			return -xsd_errors[i].errnum;
	}
	return -EIO;
}

int xen_bus_read(struct xen_bus *b, const char *path, int ms)
{
	int rc = xen_bus_send(b, XS_READ, path, NULL);

	if (!rc)
		rc = xen_bus_next(b, ms);
	if (rc <= 0)
		return rc ? rc : -ETIMEDOUT;
	return b->msg.type == XS_READ ? (int)b->msg.len : b->msg.type == XS_ERROR ? xen_bus_errno(b) : -EIO;
}
