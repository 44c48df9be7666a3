/* fake_rbd.c - what image_rbd.c calls of librados and librbd, over memory, for what a cluster does rarely. Built as librbd.so.1. */
#include "fake_rbd.h"
#if __has_include(<rbd/librbd.h>)
#include <errno.h>
#include <pthread.h>
#include <rbd/librbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

extern struct fake_rbd fake_rbd;
struct fake_rbd fake_rbd = { .bytes = FAKE_BYTES };

struct completion {
	STAILQ_ENTRY(completion) link;
	void *arg;
	ssize_t ret;
};
static STAILQ_HEAD(, completion) done = STAILQ_HEAD_INITIALIZER(done);
static int events = -1;

static void keep(char *to, size_t len, const char *text)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* images are opened on threads */

	pthread_mutex_lock(&lock);
	snprintf(to, len, "%s", text ? text : "");
	pthread_mutex_unlock(&lock);
}

int rados_create(rados_t *cluster, const char *const id)
{
	keep(fake_rbd.id, sizeof(fake_rbd.id), id);
	fake_rbd.cached = true;
	*cluster = &fake_rbd;
	return 0;
}

int rados_conf_read_file(rados_t cluster, const char *path)
{
	(void)cluster;
	keep(fake_rbd.conf, sizeof(fake_rbd.conf), path);
	return 0;
}

int rados_conf_set(rados_t cluster, const char *option, const char *value)
{
	(void)cluster;
	if (!strcmp(option, "rbd_cache"))
		fake_rbd.cached = strcmp(value, "false");
	return 0;
}

int rados_getaddrs(rados_t cluster, char **addrs)
{
	(void)cluster;
	*addrs = strdup(FAKE_ADDRESS);
	return *addrs ? 0 : -ENOMEM;
}

int rados_connect(rados_t cluster)
{
	(void)cluster;
	return fake_rbd.connect;
}

void rados_shutdown(rados_t cluster)
{
	(void)cluster;
}

int rados_ioctx_create(rados_t cluster, const char *pool, rados_ioctx_t *ioctx)
{
	keep(fake_rbd.pool, sizeof(fake_rbd.pool), pool);
	*ioctx = cluster;
	return 0;
}

void rados_ioctx_destroy(rados_ioctx_t io)
{
	(void)io;
}

int rbd_open_read_only(rados_ioctx_t io, const char *name, rbd_image_t *image, const char *snap_name)
{
	keep(fake_rbd.image, sizeof(fake_rbd.image), name);
	keep(fake_rbd.snapshot, sizeof(fake_rbd.snapshot), snap_name);
	while (!strcmp(name, "away") && fake_rbd.open_held)
		usleep(1000);
	fake_rbd.opened++;
	*image = io;
	return 0;
}

int rbd_open(rados_ioctx_t io, const char *name, rbd_image_t *image, const char *snap_name)
{
	return rbd_open_read_only(io, name, image, snap_name);
}

int rbd_close(rbd_image_t image)
{
	(void)image;
	while (fake_rbd.close_held)
		usleep(1000);
	fake_rbd.opened--;
	return 0;
}

int rbd_get_size(rbd_image_t image, uint64_t *size)
{
	(void)image;
	*size = fake_rbd.bytes;
	return 0;
}

int rbd_lock_acquire(rbd_image_t image, rbd_lock_mode_t lock_mode)
{
	(void)image, (void)lock_mode;
	fake_rbd.locked++;
	return fake_rbd.lock;
}

int rbd_lock_break(rbd_image_t image, rbd_lock_mode_t lock_mode, const char *lock_owner)
{
	(void)image, (void)lock_mode;
	keep(fake_rbd.broken, sizeof(fake_rbd.broken), lock_owner);
	return -ENOENT;
}

int rbd_set_image_notification(rbd_image_t image, int fd, int type)
{
	(void)image, (void)type;
	events = fd;
	return 0;
}

int rbd_poll_io_events(rbd_image_t image, rbd_completion_t *comps, int numcomp)
{
	int n = 0;

	(void)image;
	for (struct completion *c; n < numcomp && (c = STAILQ_FIRST(&done)); n++) {
		STAILQ_REMOVE_HEAD(&done, link);
		comps[n] = c;
	}
	return n;
}

int rbd_aio_create_completion(void *cb_arg, rbd_callback_t complete_cb, rbd_completion_t *c)
{
	struct completion *new = calloc(1, sizeof(*new));

	(void)complete_cb;
	if (new)
		new->arg = cb_arg;
	*c = new;
	return new ? 0 : -ENOMEM;
}

ssize_t rbd_aio_get_return_value(rbd_completion_t c)
{
	return ((struct completion *)c)->ret;
}

void *rbd_aio_get_arg(rbd_completion_t c)
{
	return ((struct completion *)c)->arg;
}

void rbd_aio_release(rbd_completion_t c)
{
	free(c);
}

static int complete(struct completion *c, ssize_t ret)
{
	uint64_t one = 1;

	c->ret = fake_rbd.io ? fake_rbd.io : ret;
	STAILQ_INSERT_TAIL(&done, c, link);
	return fake_rbd.hold || write(events, &one, sizeof(one)) > 0 ? 0 : -EIO;
}

static ssize_t move(const struct iovec *iov, int iovcnt, uint64_t off, bool in)
{
	ssize_t n = 0;

	for (int i = 0; i < iovcnt && !fake_rbd.io; n += iov[i++].iov_len) {
		if (in)
			memcpy(fake_rbd.disk + off + n, iov[i].iov_base, iov[i].iov_len);
		else
			memcpy(iov[i].iov_base, fake_rbd.disk + off + n, iov[i].iov_len);
	}
	return n;
}

int rbd_aio_readv(rbd_image_t image, const struct iovec *iov, int iovcnt, uint64_t off, rbd_completion_t c)
{
	(void)image;
	return complete(c, move(iov, iovcnt, off, false));
}

int rbd_aio_writev(rbd_image_t image, const struct iovec *iov, int iovcnt, uint64_t off, rbd_completion_t c)
{
	(void)image;
	move(iov, iovcnt, off, true);
	return complete(c, 0);
}

int rbd_aio_flush(rbd_image_t image, rbd_completion_t c)
{
	(void)image;
	fake_rbd.flushes++;
	return complete(c, 0);
}

int rbd_aio_discard(rbd_image_t image, uint64_t off, uint64_t len, rbd_completion_t c)
{
	(void)image;
	fake_rbd.discards++;
	memset(fake_rbd.disk + off, 0, len);
	return complete(c, 0);
}
#endif
