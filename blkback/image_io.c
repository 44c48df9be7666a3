/* image_io.c - I/O on images that lie in files: part by part, each with one sqe, and what comes short is gone on with. */
#include "image.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>

enum { AGAIN_MAX = 1000 }; /* then an I/O that makes no progress has failed */

static bool moves(const struct image_io *io)
{
	return io->kind == IMAGE_READ || io->kind == IMAGE_WRITE || io->kind == IMAGE_WRITE_DSYNC;
}

/* As much of the memory that is left as lies in one part: all of it, or a piece of its first. */
static void prep_move(struct image_io *io, struct io_uring_sqe *sqe, const struct image_part *p)
{
	bool all = io->len - io->done <= p->len;
	size_t n = all || io->iov->iov_len < p->len ? io->iov->iov_len : p->len;

	if (all && io->niov > 1) {
		if (io->kind == IMAGE_READ)
			io_uring_prep_readv(sqe, p->fd, io->iov, io->niov, p->offset);
		else
			io_uring_prep_writev(sqe, p->fd, io->iov, io->niov, p->offset);
	} else if (io->kind == IMAGE_READ) {
		io_uring_prep_read(sqe, p->fd, io->iov->iov_base, n, p->offset);
	} else {
		io_uring_prep_write(sqe, p->fd, io->iov->iov_base, n, p->offset);
	}
	if (io->kind == IMAGE_WRITE_DSYNC)
		sqe->rw_flags = RWF_DSYNC;
}

static void prep(struct image_io *io, struct io_uring_sqe *sqe)
{
	const struct image_ops *ops = io->image->ops;
	struct image_part p;

	if (io->kind == IMAGE_FLUSH) {
		io_uring_prep_fsync(sqe, ops->file(io->image, io->done), IORING_FSYNC_DATASYNC);
	} else {
		p = ops->part(io->image, io->offset + io->done);
		if (moves(io)) {
			prep_move(io, sqe, &p);
		} else {
			io->part = io->len - io->done < p.len ? io->len - io->done : p.len;
			io_uring_prep_fallocate(sqe, p.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, p.offset, io->part);
		}
	}
	if (io->again)
		sqe->flags |= IOSQE_ASYNC; /* where it may block instead of asking again */
}

/* A part went well. True: another one is left. */
static bool advance(struct image_io *io, int res)
{
	io->again = 0;
	if (moves(io)) {
		if (io->done + res < io->len) {
			image_io_advance(io, res);
			return true;
		}
		io->done += res;
		return false;
	}
	if (io->kind == IMAGE_FLUSH)
		return io->image->ops->file(io->image, ++io->done) >= 0;
	io->done += io->part;
	return io->done < io->len;
}

static void part_done(struct uring_op *op, int res, uint32_t flags)
{
	struct image_io *io = (struct image_io *)op;

	(void)flags;
	io->uring->ios--;
	if ((res == -EINTR || res == -EAGAIN) && io->again++ < AGAIN_MAX)
		image_io_submit(io);
	else if (res < 0)
		io->end(io, res);
	else if (moves(io) && res == 0) /* the file has become shorter than the disk that it is */
		io->end(io, -EIO);
	else if (advance(io, res))
		image_io_submit(io);
	else
		io->end(io, 0);
}

void image_io_submit(struct image_io *io)
{
	io->op.done = part_done;
	io->uring->ios++;
	prep(io, uring_sqe(io->uring, &io->op));
}
