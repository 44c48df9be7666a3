/* image_nbd.c - nbd:URI, a disk that an NBD server keeps: with qemu-nbd or nbdkit behind it qcow2, VHD, compressed or remote images.
 *
 * There is one connection, which one worker works on: all queues of the vbd are on that one. Its socket is polled by the worker's io_uring.
 * An I/O is one command at a time: of memory in one piece without a copy, else through one buffer, for a copy costs less than a command for
 * each piece of it. libnbd calls completed() with its lock held, so ends are collected and given out behind its back, by finish().
 *
 *	job:	BUSY --completed--> ENDED --finish--> (more of it is left: BUSY) or its I/O ends
 *		 |  the connection is lost           ^ patience is over
 *		 '--------------> WAITING -----------'
 *		       ^------------'  a new one stands
 *
 * A server that goes away is dialled again (nbd_dial.h) for as long as the image is open; I/O waits for it, up to `wait` seconds, and fails
 * from then on until it is back. What it acknowledged and was not asked to flush may be lost with it: the next flush tells.
 */
#include "image.h"
#include "nbd_dial.h"
#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <pvio/blk.h>
#include <pvio/hyper.h>
#include <pvio/log.h>
#include <pvio/noxs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	OPEN_MS = 3000, /* who attaches waits so long */
	LOOK_MAX = 64, /* answers of the server in one look: then it is the others' turn */
	COMMAND_MAX = 1 << 20, /* bytes, also where the server takes more */
	TRIM_MAX = 1 << 30,
	TRIES_MAX = 8,
	SECTOR_MAX = 4096, /* the largest that a vbd can have */
	STEADY_MS = 250, /* a server that goes sooner than this after it came is given a rest as long */
};

/* An I/O that is not ended. Owner: the image, in the list that its state says. */
struct job {
	TAILQ_ENTRY(job) link;
	struct image_nbd *n;
	struct image_io *io;
	enum image_kind now; /* the command: of a WRITE_DSYNC perhaps WRITE, then FLUSH */
	uint64_t part; /* bytes of the command in flight */
	uint64_t covers; /* of a flush: the writes acknowledged before */
	int error;
	unsigned tries; /* of this command: a server may die of it each time */
	uint8_t *memory; /* what of the io is not done: its only piece, or the buffer */
	uint8_t buffer[];
};
TAILQ_HEAD(jobs, job);

/* What a connection can. */
struct abilities {
	uint64_t bytes;
	uint32_t block_min, command_max, preferred;
	bool read_only, flush, fua, trim;
};

/* Owner: its vbd. While queues are attached everything is their worker's, else the control thread's. */
struct image_nbd {
	struct image head; /* first */
	struct uring_watch in, out; /* the socket, or the dial's descriptor; the socket's being writable, where that was not asked for in `in` */
	char *uri;
	int claim; /* a socket whose name says that this host's backend writes there; -1 */
	unsigned wait_ms;
	uint32_t sector; /* bytes: what the guest reads and writes at least */
	struct abilities can;
	struct uring *uring; /* NULL: no queue is attached */
	unsigned queues;
	struct nbd_handle *h; /* NULL: the server is gone, and dialled */
	int fd; /* a duplicate of its socket, for shutdown and polls */
	struct nbd_dial *dial;
	int64_t up_at, gone_at, leaving_at; /* ms; 0: it is not */
	struct jobs busy, waiting, ended;
	bool finishing;
	uint64_t written, flushed; /* writes acknowledged; so many of them were flushed */
	bool lost; /* others may be lost: not told yet */
	struct pv_log_peer log;
};

static void issue(struct job *j);

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* ---- ends of commands ---- */

static int completed(void *arg, int *error)
{
	struct job *j = arg;

	j->error = *error;
	TAILQ_REMOVE(&j->n->busy, j, link);
	TAILQ_INSERT_TAIL(&j->n->ended, j, link);
	return 1;
}

static void scatter(const struct image_io *io, const uint8_t *from)
{
	for (unsigned i = 0; i < io->niov; i++) {
		memcpy(io->iov[i].iov_base, from, io->iov[i].iov_len);
		from += io->iov[i].iov_len;
	}
}

static void gather(const struct image_io *io, uint8_t *to)
{
	for (unsigned i = 0; i < io->niov; i++) {
		memcpy(to, io->iov[i].iov_base, io->iov[i].iov_len);
		to += io->iov[i].iov_len;
	}
}

/* A command went well. Returns whether the job needs another one. */
static bool advance(struct job *j)
{
	struct image_nbd *n = j->n;
	struct image_io *io = j->io;

	if (j->now == IMAGE_FLUSH) {
		if (j->covers > n->flushed)
			n->flushed = j->covers;
		return false;
	}
	j->tries = 0;
	n->written += j->now == IMAGE_WRITE;
	io->done += j->part;
	j->memory += j->part;
	if (io->done < io->len)
		return true;
	if (io->kind == IMAGE_WRITE_DSYNC && j->now == IMAGE_WRITE && n->can.flush) {
		j->now = IMAGE_FLUSH;
		return true;
	}
	if (io->kind == IMAGE_READ && io->niov > 1)
		scatter(io, j->buffer);
	return false;
}

/* Parts of a read are certain only once they are where they belong. */
static void end(struct job *j)
{
	struct image_io *io = j->io;

	if (j->error && io->kind == IMAGE_READ && io->niov > 1)
		io->done = 0;
	io->end(io, -j->error);
	free(j);
}

static void finish(struct image_nbd *n)
{
	struct job *j;

	n->finishing = true; /* an end may begin another I/O */
	while ((j = TAILQ_FIRST(&n->ended))) {
		TAILQ_REMOVE(&n->ended, j, link);
		if (j->error == ENOTCONN || j->error == ESHUTDOWN) /* not the command's fault */
			TAILQ_INSERT_TAIL(&n->waiting, j, link);
		else if (!j->error && advance(j))
			issue(j);
		else
			end(j);
	}
	n->finishing = false;
}

static void fail(struct job *j, int error)
{
	j->error = error;
	TAILQ_INSERT_TAIL(&j->n->ended, j, link);
}

/* ---- the connection ---- */

static bool is_lost(const struct image_nbd *n)
{
	return nbd_aio_is_dead(n->h) || nbd_aio_is_closed(n->h);
}

static bool patience_over(const struct image_nbd *n)
{
	return n->gone_at && now_ms() - n->gone_at >= n->wait_ms;
}

/* Nobody calls the server: nobody needs to wait for it. The next I/O calls again. */
static void impatient(struct image_nbd *n)
{
	n->gone_at = now_ms() - n->wait_ms;
}

static void dial(struct image_nbd *n)
{
	unsigned rest = now_ms() - n->up_at < STEADY_MS ? STEADY_MS : 0;

	if (!n->h && !n->dial && nbd_dial_start(n->uri, false, rest, n->wait_ms, &n->dial) < 0)
		impatient(n);
}

static void hang_up(struct image_nbd *n)
{
	shutdown(n->fd, SHUT_RDWR); /* a poll in io_uring keeps it open otherwise, and is woken by this */
	close(n->fd);
	nbd_close(n->h);
	n->h = NULL;
	n->fd = -1;
}

/* The server is gone, or shall be. What was asked of it will be asked again. */
static void drop(struct image_nbd *n)
{
	hang_up(n);
	TAILQ_CONCAT(&n->waiting, &n->busy, link);
	n->gone_at = now_ms();
	n->lost |= n->written != n->flushed;
	n->flushed = n->written;
	pv_log_about(&n->log, PV_LOG_WARN, "%s: the server is gone; I/O waits for it up to %u s%s", n->uri, n->wait_ms / 1000,
		     n->lost ? ". What it did not flush may be lost: the next flush will fail" : "");
	dial(n);
}

/* Everything that waits for a server fails. */
static void give_up(struct image_nbd *n)
{
	struct job *j;

	while ((j = TAILQ_FIRST(&n->waiting))) {
		TAILQ_REMOVE(&n->waiting, j, link);
		fail(j, EIO);
	}
}

static int64_t block_size(struct nbd_handle *h, int type)
{
	int64_t size = nbd_get_block_size(h, type);

	return size > 0 ? size : 0;
}

static struct abilities abilities_of(struct nbd_handle *h)
{
	int64_t bytes = nbd_get_size(h), max = block_size(h, LIBNBD_SIZE_MAXIMUM), preferred = block_size(h, LIBNBD_SIZE_PREFERRED);

	return (struct abilities){
		.bytes = bytes > 0 ? bytes : 0,
		.block_min = block_size(h, LIBNBD_SIZE_MINIMUM),
		.command_max = max && max < COMMAND_MAX ? max : COMMAND_MAX,
		.preferred = preferred < PV_BLK_SECTOR || preferred > TRIM_MAX || (preferred & (preferred - 1)) ? PV_BLK_SECTOR : preferred,
		.read_only = nbd_is_read_only(h) > 0,
		.flush = nbd_can_flush(h) > 0,
		.fua = nbd_can_fua(h) > 0,
		.trim = nbd_can_trim(h) > 0,
	};
}

/* Can this disk go on as the one that the guest knows? */
static const char *differs(const struct image_nbd *n, const struct abilities *now)
{
	if (now->bytes != n->can.bytes)
		return "its disk has another size";
	if (now->read_only && !n->head.facts.read_only)
		return "its disk is read-only";
	if (now->block_min > n->sector || now->command_max < n->can.command_max || now->flush < n->can.flush || now->fua < n->can.fua || now->trim < n->can.trim)
		return "its disk can do less";
	return NULL;
}

static int adopt(struct image_nbd *n, struct nbd_handle *h)
{
	n->fd = dup(nbd_aio_get_fd(h));
	if (n->fd < 0) {
		nbd_close(h);
		return -errno;
	}
	n->h = h;
	n->up_at = now_ms();
	return 0;
}

/* It stands again: ask everything that waits. */
static void resume(struct image_nbd *n)
{
	struct jobs again = TAILQ_HEAD_INITIALIZER(again);
	struct job *j;

	pv_log_about(&n->log, PV_LOG_INFO, "%s: the server is back", n->uri);
	n->gone_at = 0;
	TAILQ_CONCAT(&again, &n->waiting, link);
	while ((j = TAILQ_FIRST(&again))) {
		TAILQ_REMOVE(&again, j, link);
		issue(j);
	}
}

/* The dial has something to say. */
static void answered(struct image_nbd *n)
{
	struct abilities now;
	const char *other;
	char why[200];
	int err;
	struct nbd_handle *h = nbd_dial_take(n->dial, &err, why, sizeof(why));

	if (h) {
		nbd_dial_end(n->dial);
		n->dial = NULL;
		now = abilities_of(h);
		other = differs(n, &now);
		if (other)
			nbd_close(h);
		if (!other && adopt(n, h) == 0) {
			resume(n);
			return;
		}
		impatient(n);
		snprintf(why, sizeof(why), "the server is back, but %s", other ? other : "there are too few descriptors");
	}
	if (!patience_over(n))
		return;
	if (!TAILQ_EMPTY(&n->waiting))
		pv_log_about(&n->log, PV_LOG_ERR, "%s: %s; I/O fails until that changes", n->uri, why);
	give_up(n);
}

/* ---- commands ---- */

static int64_t send_command(struct job *j)
{
	const struct image_io *io = j->io;
	struct image_nbd *n = j->n;
	nbd_completion_callback cb = { .callback = completed, .user_data = j };
	uint64_t left = io->len - io->done, at = io->offset + io->done, max = io->kind == IMAGE_DISCARD ? TRIM_MAX : n->can.command_max;

	j->part = left < max ? left : max;
	switch (j->now) {
	case IMAGE_READ:
		return nbd_aio_pread(n->h, j->memory, j->part, at, cb, 0);
	case IMAGE_DISCARD:
		return nbd_aio_trim(n->h, j->part, at, cb, 0);
	case IMAGE_FLUSH:
		j->covers = n->written;
		return nbd_aio_flush(n->h, cb, 0);
	default:
		return nbd_aio_pwrite(n->h, j->memory, j->part, at, cb, j->now == IMAGE_WRITE_DSYNC ? LIBNBD_CMD_FLAG_FUA : 0);
	}
}

/* Begin the next command of a job, which is in no list. Its end is on `ended`, if it has one already. */
static void issue(struct job *j)
{
	struct image_nbd *n = j->n;

	j->error = 0;
	if (j->now == IMAGE_FLUSH && n->lost) {
		n->lost = false;
		fail(j, EIO);
	} else if (n->h ? j->tries++ >= TRIES_MAX : patience_over(n)) {
		fail(j, EIO);
	} else if (!n->h) {
		TAILQ_INSERT_TAIL(&n->waiting, j, link);
	} else {
		TAILQ_INSERT_TAIL(&n->busy, j, link);
		if (send_command(j) >= 0)
			return;
		TAILQ_REMOVE(&n->busy, j, link);
		if (is_lost(n))
			TAILQ_INSERT_TAIL(&n->waiting, j, link);
		else
			fail(j, nbd_get_errno() ? nbd_get_errno() : EIO);
	}
}

/* ---- on the worker ---- */

/* Be told when there is something to do. Takes one sqe at most. */
static void arm(struct image_nbd *n)
{
	unsigned out = n->h && (nbd_aio_get_direction(n->h) & LIBNBD_AIO_DIRECTION_WRITE) ? POLLOUT : 0;

	if (!n->uring)
		return;
	if (!n->in.armed && (n->h || n->dial))
		uring_watch(n->uring, &n->in, n->h ? n->fd : nbd_dial_fd(n->dial), POLLIN | out);
	else if (out && !n->out.armed)
		uring_watch(n->uring, &n->out, n->fd, POLLOUT);
}

/* Let libnbd read or write, if the socket is ready for what it waits for: it takes one answer a call. */
static bool step(struct image_nbd *n)
{
	unsigned way = nbd_aio_get_direction(n->h);
	struct pollfd p = { .fd = n->fd, .events = (way & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
						   (way & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0) };

	if (poll(&p, 1, 0) <= 0)
		return false;
	if ((way & LIBNBD_AIO_DIRECTION_READ) && (p.revents & ~POLLOUT))
		nbd_aio_notify_read(n->h);
	else
		nbd_aio_notify_write(n->h);
	return true;
}

/* After libnbd has worked. */
static void settle(struct image_nbd *n)
{
	if (n->finishing)
		return;
	finish(n);
	if (n->h && is_lost(n))
		drop(n);
	finish(n);
	arm(n);
}

static void look(struct image_nbd *n)
{
	if (n->dial)
		answered(n);
	for (unsigned i = 0; i < LOOK_MAX && n->h && !is_lost(n) && step(n); i++)
		;
	settle(n);
}

static void in_done(struct uring_op *op, int res, uint32_t flags)
{
	struct image_nbd *n = (struct image_nbd *)((char *)op - offsetof(struct image_nbd, in));

	(void)res, (void)flags; /* an error too is a reason to look */
	n->in.armed = false;
	if (n->uring)
		look(n);
}

static void out_done(struct uring_op *op, int res, uint32_t flags)
{
	struct image_nbd *n = (struct image_nbd *)((char *)op - offsetof(struct image_nbd, out));

	(void)res, (void)flags;
	n->out.armed = false;
	if (n->uring)
		look(n);
}

static void nbd_submit(struct image_io *io)
{
	struct image_nbd *n = (struct image_nbd *)io->image;
	bool moves = io->kind != IMAGE_FLUSH && io->kind != IMAGE_DISCARD, copied = moves && io->niov > 1;
	struct job *j = malloc(sizeof(*j) + (copied ? io->len : 0));

	if (!j) {
		io->end(io, -ENOMEM);
		return;
	}
	*j = (struct job){ .n = n, .io = io, .now = io->kind };
	if (moves)
		j->memory = copied ? j->buffer : io->iov->iov_base;
	if (copied && io->kind != IMAGE_READ)
		gather(io, j->buffer);
	if (io->kind == IMAGE_WRITE_DSYNC && !n->can.fua)
		j->now = IMAGE_WRITE;
	dial(n);
	issue(j);
	settle(n);
}

static void nbd_attach(struct image *im, struct uring *u)
{
	struct image_nbd *n = (struct image_nbd *)im;

	if (n->queues++)
		return;
	n->uring = u;
	if (!uring_room(u))
		uring_submit(u);
	look(n);
}

static void nbd_detach(struct image *im)
{
	struct image_nbd *n = (struct image_nbd *)im;
	struct uring *u = n->uring;

	if (--n->queues)
		return;
	n->uring = NULL;
	n->leaving_at = 0;
	uring_unwatch(u, &n->in);
	uring_unwatch(u, &n->out);
}

/* Its device is to be disconnected. */
static void nbd_hurry(struct image *im)
{
	struct image_nbd *n = (struct image_nbd *)im;

	if (!n->leaving_at)
		n->leaving_at = now_ms();
	if (now_ms() - n->leaving_at < n->wait_ms)
		return;
	if (n->h)
		drop(n);
	give_up(n);
	settle(n);
}

/* ---- opening ---- */

/* Two writers on one host are told apart by a name that only one of them can have; on others, it is the server's affair. */
static int claim(struct image_nbd *n, char *why, size_t len)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	uint64_t hash = 14695981039346656037u; /* FNV-1a: the name of a socket is short */
	int used;

	for (const char *c = n->uri; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 1099511628211u;
	used = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "pvio-image-%016llx", (unsigned long long)hash);
	n->claim = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (n->claim >= 0 && bind(n->claim, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + 1 + used) == 0)
		return 0;
	if (errno == EADDRINUSE)
		return pv_why(why, len, -EBUSY, "%s is in use: another vbd of this host writes there; detach it first", n->uri);
	return pv_why(why, len, -errno, "%s: %s", n->uri, strerror(errno));
}

/* A server that reads and writes no less than so many bytes at a time serves guests whose sectors are as large. */
static int check_blocks(const struct image_nbd *n, char *why, size_t len)
{
	uint32_t min = n->can.block_min;

	if (min <= n->sector)
		return 0;
	if (min <= SECTOR_MAX)
		return pv_why(why, len, -EOPNOTSUPP, "%s: the server reads and writes %u bytes at least, and the device has sectors of %u: use sector=%u",
			      n->uri, min, n->sector, SECTOR_MAX);
	return pv_why(why, len, -EOPNOTSUPP, "%s: the server reads and writes %u bytes at least, and sectors have %u at most: nbdkit's blocksize "
		      "filter helps (--filter=blocksize)", n->uri, min, SECTOR_MAX);
}

static int find_facts(struct image_nbd *n, const struct image_config *c, char *why, size_t len)
{
	struct abilities *can = &n->can;
	struct image_facts *f = &n->head.facts;
	int ret;

	*can = abilities_of(n->h);
	ret = check_blocks(n, why, len);
	if (ret < 0)
		return ret;
	if (can->bytes < PV_BLK_SECTOR)
		return pv_why(why, len, -EINVAL, "%s: its disk is empty", n->uri);
	if (can->read_only && !c->read_only)
		return pv_why(why, len, -EROFS, "%s: the server lets nobody write; mode=r asks for reading alone", n->uri);
	f->sectors = can->bytes / PV_BLK_SECTOR;
	f->physical_sector_size = can->preferred <= PV_PAGE_SIZE && can->bytes % can->preferred == 0 ? can->preferred : PV_BLK_SECTOR;
	f->read_only = c->read_only;
	f->features = can->flush ? PV_VBD_FLUSH : 0;
	if (!c->read_only && can->flush)
		f->features |= PV_VBD_BARRIER;
	if (!c->read_only && c->discard && can->trim)
		f->features |= PV_VBD_DISCARD;
	f->discard_granularity = can->preferred;
	return 0;
}

static void nbd_image_close(struct image *im)
{
	struct image_nbd *n = (struct image_nbd *)im;

	nbd_dial_end(n->dial);
	if (n->h) {
		nbd_aio_disconnect(n->h, 0); /* a word of farewell, if it fits into the socket */
		hang_up(n);
	}
	if (n->claim >= 0)
		close(n->claim);
	free(n->uri);
	free(n);
}

/* The first connection. While somebody else may have it, or its server is about to start: -EAGAIN; in an adoption whatever is wrong, for the server may
 * turn us away until it is done with the process before. */
static int connect_first(struct image_nbd *n, bool adoption, char *why, size_t len)
{
	struct nbd_handle *h = NULL;
	char reason[200] = "";
	int err = -ENOMEM, ret = nbd_dial_start(n->uri, true, 0, OPEN_MS, &n->dial);
	struct pollfd p;

	if (ret < 0)
		return pv_why(why, len, ret, "%s: %s", n->uri, strerror(-ret));
	p = (struct pollfd){ .fd = nbd_dial_fd(n->dial), .events = POLLIN };
	poll(&p, 1, -1); /* its patience ends it */
	h = nbd_dial_take(n->dial, &err, reason, sizeof(reason));
	nbd_dial_end(n->dial);
	n->dial = NULL;
	if (h)
		return adopt(n, h);
	if (!err)
		return pv_why(why, len, -EAGAIN, "%s: the server does not answer. Does it run, and does it serve another client already?", n->uri);
	return pv_why(why, len, adoption || err == -ECONNREFUSED || err == -ENOENT ? -EAGAIN : err, "cannot open %s: %s", n->uri, reason);
}

static int nbd_open(const struct image_config *c, struct image **out, char *why, size_t len)
{
	struct image_nbd *n = calloc(1, sizeof(*n));
	int ret = 0;

	*out = NULL;
	if (!n || asprintf(&n->uri, "%s%s", strncmp(c->path, "//", 2) ? "" : "nbd:", c->path) < 0) {
		free(n);
		return pv_why(why, len, -ENOMEM, "%s: out of memory", c->path);
	}
	n->head.ops = &image_nbd_ops;
	n->wait_ms = c->wait * 1000;
	n->sector = c->sector_size ? c->sector_size : PV_BLK_SECTOR;
	n->fd = n->claim = -1;
	n->in.op.done = in_done;
	n->out.op.done = out_done;
	TAILQ_INIT(&n->busy);
	TAILQ_INIT(&n->waiting);
	TAILQ_INIT(&n->ended);
	if (!c->read_only)
		ret = claim(n, why, len);
	if (ret == 0)
		ret = connect_first(n, c->predecessor, why, len);
	if (ret == 0)
		ret = find_facts(n, c, why, len);
	if (ret < 0)
		nbd_image_close(&n->head);
	else
		*out = &n->head;
	return ret;
}

const struct image_ops image_nbd_ops = { .name = "nbd", .slow = true, .open = nbd_open, .close = nbd_image_close, .submit = nbd_submit,
					 .attach = nbd_attach, .detach = nbd_detach, .hurry = nbd_hurry };
