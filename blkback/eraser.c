/* eraser.c - secure discard of a block device: an ioctl that may take seconds, which io_uring cannot do. A thread of its own does one after the
 * other; that one is done arrives at the worker as a read of an eventfd. */
#include "image.h"
#include <errno.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <unistd.h>

/* Owner: the worker that submitted it, but from put to the write of its eventfd the eraser. */
struct erasure {
	struct uring_op op; /* first */
	struct image_io *io;
	int event, error;
	uint64_t count; /* what is read from the eventfd */
	STAILQ_ENTRY(erasure) link;
};

/* Owner: its image. */
struct eraser {
	int fd;
	image_erase *erase;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t more;
	STAILQ_HEAD(, erasure) todo;
	bool stop;
};

int eraser_ioctl(int fd, uint64_t offset, uint64_t len)
{
	uint64_t range[2] = { offset, len };

	return ioctl(fd, BLKSECDISCARD, range) < 0 ? -errno : 0;
}

/* A range that is no whole sectors is refused as such only by a device that could. */
bool eraser_can(int fd, image_erase *erase)
{
	return erase(fd, 1, 1) == -EINVAL;
}

static void *eraser_main(void *arg)
{
	struct eraser *e = arg;
	struct erasure *x;
	uint64_t one = 1;

	pthread_mutex_lock(&e->lock);
	for (;;) {
		while (!(x = STAILQ_FIRST(&e->todo)) && !e->stop)
			pthread_cond_wait(&e->more, &e->lock);
		if (!x)
			break;
		STAILQ_REMOVE_HEAD(&e->todo, link);
		pthread_mutex_unlock(&e->lock);
		x->error = e->erase(e->fd, x->io->offset, x->io->len);
		while (write(x->event, &one, sizeof(one)) < 0 && errno == EINTR)
			; /* from here on it is the worker's again */
		pthread_mutex_lock(&e->lock);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

int eraser_new(int fd, image_erase *erase, struct eraser **out)
{
	struct eraser *e = calloc(1, sizeof(*e));
	int ret;

	*out = NULL;
	if (!e)
		return -ENOMEM;
	e->fd = fd;
	e->erase = erase;
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->more, NULL);
	STAILQ_INIT(&e->todo);
	ret = pthread_create(&e->thread, NULL, eraser_main, e);
	if (ret) {
		free(e);
		return -ret;
	}
	*out = e;
	return 0;
}

void eraser_free(struct eraser *e)
{
	if (!e)
		return;
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	pthread_cond_signal(&e->more);
	pthread_mutex_unlock(&e->lock);
	pthread_join(e->thread, NULL);
	pthread_cond_destroy(&e->more);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static void erased(struct uring_op *op, int res, uint32_t flags)
{
	struct erasure *x = (struct erasure *)op;
	struct image_io *io = x->io;
	int error = x->error;

	(void)flags;
	if (res == -EINTR || res == -EAGAIN) { /* it is not done yet */
		io_uring_prep_read(uring_sqe(io->uring, op), x->event, &x->count, sizeof(x->count), 0);
		return;
	}
	close(x->event);
	free(x);
	if (!error)
		io->done = io->len;
	io->end(io, error);
}

void eraser_submit(struct eraser *e, struct image_io *io)
{
	struct erasure *x = calloc(1, sizeof(*x));

	if (x)
		x->event = eventfd(0, EFD_CLOEXEC);
	if (!x || x->event < 0) {
		free(x);
		io->end(io, -ENOMEM);
		return;
	}
	x->op.done = erased;
	x->io = io;
	io_uring_prep_read(uring_sqe(io->uring, &x->op), x->event, &x->count, sizeof(x->count), 0);
	pthread_mutex_lock(&e->lock);
	STAILQ_INSERT_TAIL(&e->todo, x, link);
	pthread_cond_signal(&e->more);
	pthread_mutex_unlock(&e->lock);
}
