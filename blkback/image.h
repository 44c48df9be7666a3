/* image.h - what the sectors of a vbd are kept in.
 *
 * One kind of image, one struct image_ops in a file of its own, image_NAME.c. An I/O is a contiguous range of the image; the image
 * executes it with as many sqes as it takes, one after the other, and calls `end` once. An image without sqes may call `end`
 * before submit returns.
 */
#ifndef BLKBACK_IMAGE_H
#define BLKBACK_IMAGE_H

#include "uring.h"
#include <sys/uio.h>

struct image;

enum { IMAGE_NOTE = 128 /* bytes of a note, its end included */ };

enum image_direct { IMAGE_DIRECT_AUTO, IMAGE_DIRECT_ON, IMAGE_DIRECT_OFF };

struct image_config {
	const char *path; /* what follows the kind's name and colon; of a file, all */
	bool read_only;
	enum image_direct direct;
	bool discard; /* offer it where the image can */
	unsigned wait; /* seconds that I/O waits for a server that is gone or hangs */
	unsigned sector_size; /* bytes: what requests are aligned to; 0: 512 */
	bool parts; /* of a file: who opens it uses parts of it, and locks those */
	const char *predecessor; /* in an adoption: what the image noted (image_ops.note) in the process before, which is gone; "": nothing. Else NULL */
};

/* What an image is. Constant while it is open, but for its size. */
struct image_facts {
	uint64_t sectors; /* of 512 bytes; the control thread's */
	uint32_t physical_sector_size; /* bytes */
	uint32_t features; /* PV_VBD_* */
	uint32_t discard_granularity, discard_alignment; /* bytes */
	bool read_only;
	bool direct; /* past the page cache */
};

enum image_kind { IMAGE_READ, IMAGE_WRITE, IMAGE_WRITE_DSYNC, IMAGE_FLUSH, IMAGE_DISCARD, IMAGE_DISCARD_SECURE /* if it says that it can */ };

/* One I/O. Owner: who submits it, until `end`; meanwhile the image moves iov, done and left. Thread: the worker of `uring`. */
struct image_io {
	struct uring_op op; /* first; the sqe in flight, the image's */
	struct image *image;
	struct uring *uring;
	const struct image_io *next; /* will be submitted next, as far as is known; NULL: it is not. Valid during submit alone */
	enum image_kind kind;
	uint64_t offset, len; /* bytes; FLUSH: 0 */
	struct iovec *iov; /* READ, WRITE: len bytes of memory in all; changed as the I/O goes on */
	unsigned niov;
	uint64_t done; /* bytes, from the start, that are certain: also when it ends with an error; FLUSH: files that are synced */
	uint64_t part; /* DISCARD: bytes of the part in flight */
	unsigned again; /* times that the kernel asked to try again without progress */
	void (*end)(struct image_io *io, int error); /* error: 0 or -errno. May submit one other I/O */
};

struct image_ops {
	const char *name;
	/* Why no other process can go on with a device whose own was killed or hands over, in words. NULL: one can, for then `open` is the
	 * barrier against what the dead process wrote and is still on its way: it refuses (-EAGAIN: ask again soon) for as long as such a
	 * write may come. Files: the lock. An image that keeps nothing needs none. */
	const char *unadoptable;
	/* Opening and closing wait for others: that is done on a thread, see image_slow.c. Then open may be called again while it answers -EAGAIN. */
	bool slow;
	/* Open and lock. Returns 0, or -errno with a line in why that names the path, what is wrong and what to do. */
	int (*open)(const struct image_config *c, struct image **out, char *why, size_t len);
	void (*close)(struct image *im); /* no I/O is in flight */
	/* What the process that adopts the device from this one has to know of the image; NULL: nothing. */
	void (*note)(const struct image *im, char note[IMAGE_NOTE]);
	void (*submit)(struct image_io *io); /* needs one sqe of uring_room */
	/* Of images that lie in files: where the byte at offset (below their size) is; and the n-th file to be synced, -1: no more. */
	struct image_part (*part)(const struct image *im, uint64_t offset);
	int (*file)(const struct image *im, unsigned n);
	/* Of images that wait for descriptors of their own: a queue begins and ends to use it, on its worker, between two turns. Then all queues of
	 * the vbd are on one worker. Nothing of that queue is in flight at its end. */
	void (*attach)(struct image *im, struct uring *u);
	void (*detach)(struct image *im);
	/* Its queues are to be disconnected, and I/O is in flight: called again and again. After a while all of it shall end, well or not. */
	void (*hurry)(struct image *im);
	/* Of images whose size can change while they are open: what it is now, in bytes. NULL: it stays. And to change it: NULL, or -EOPNOTSUPP
	 * with a line in why: that is done elsewhere. Control thread; I/O goes on meanwhile. Return 0 or -errno. */
	int (*size)(const struct image *im, uint64_t *bytes);
	int (*truncate)(struct image *im, uint64_t bytes, char *why, size_t len);
};

/* The head of every image. Owner: its vbd (control thread); workers only submit to it. */
struct image {
	const struct image_ops *ops;
	struct image_facts facts;
};

extern const struct image_ops image_file_ops, image_extents_ops, image_ram_ops, image_null_ops, image_nbd_ops, image_rbd_ops;

/* Open what a path means: NAME:REST of a kind's name, or a URI of NBD's as it is, else a file (file:REST, should its path look like that).
 * Errors as those of the kind. Control thread. */
int image_open(const struct image_config *c, struct image **out, char *why, size_t len);
/* What comes after "null:" or "ram:": a size of whole sectors, in bytes. Returns 0, or -EINVAL with `why`. */
int image_size(const char *text, uint64_t *bytes, char *why, size_t len);

/* ---- image_slow.c: images that are slow to open and close ---- */

/* As ops->open, with c as that takes it; and -EAGAIN while it goes on: ask again. Control thread, as all of these. */
int image_slow_open(const struct image_ops *ops, const struct image_config *c, struct image **out, char *why, size_t len);
void image_slow_close(struct image *im); /* may go on for a while after it has returned */
bool image_slow_busy(void); /* is one being opened or closed? */

/* ---- image_lock.c: nobody else writes ---- */

enum image_lock { IMAGE_LOCK_ALONE, IMAGE_LOCK_READ, IMAGE_LOCK_PARTS };

/* Lock the file behind fd, for as long as the open file description lives: for one alone; for reading, as others may; or for parts of it, as others
 * may for other parts: those are then locked each. Returns 0, or -errno with `why`: -EBUSY another has it, -EAGAIN a process that has ended, whose I/O
 * is still in flight: ask again soon. */
int image_lock(int fd, enum image_lock how, const char *path, char *why, size_t len);
/* So many bytes from offset on (0: all). Errors as above. */
int image_lock_range(int fd, bool shared, uint64_t offset, uint64_t bytes, const char *path, char *why, size_t len);

/* ---- image_io.c: images that lie in files ---- */

/* A part of an image that lies in one file, one after the other. */
struct image_part {
	int fd;
	uint64_t offset; /* in the file, bytes */
	uint64_t len; /* from there to the part's end */
};

/* The submit of such images: an I/O is done part by part. */
void image_io_submit(struct image_io *io);

/* ---- eraser.c: secure discard of block devices ---- */

struct eraser;
typedef int image_erase(int fd, uint64_t offset, uint64_t len); /* blocks. Returns 0 or -errno */

int eraser_ioctl(int fd, uint64_t offset, uint64_t len); /* the one of block devices */
bool eraser_can(int fd, image_erase *erase); /* may it be asked for? Changes nothing */
/* One for an image whose descriptor is fd. Returns 0 or -errno. */
int eraser_new(int fd, image_erase *erase, struct eraser **out);
void eraser_free(struct eraser *e); /* nothing is in flight. NULL is fine */
void eraser_submit(struct eraser *e, struct image_io *io); /* as image_ops.submit */

static inline void image_close(struct image *im)
{
	if (im && im->ops->slow)
		image_slow_close(im);
	else if (im)
		im->ops->close(im);
}

/* Begin an I/O; its memory, range and end are set. */
static inline void image_submit(struct image_io *io)
{
	io->done = 0;
	io->again = 0;
	io->image->ops->submit(io);
}

/* n more bytes are done: move iov past them. */
static inline void image_io_advance(struct image_io *io, size_t n)
{
	io->done += n;
	while (n && n >= io->iov->iov_len) {
		n -= io->iov->iov_len;
		io->iov++;
		io->niov--;
	}
	if (n) {
		io->iov->iov_base = (char *)io->iov->iov_base + n;
		io->iov->iov_len -= n;
	}
}

#endif
