/* image_rbd.c - rbd:POOL/IMAGE[@SNAPSHOT][:conf=FILE][:id=USER], a disk in a Ceph cluster.
 *
 * librbd does I/O with threads of its own and tells an eventfd of its ends, which the worker's io_uring polls. The library is loaded when the
 * first such disk is opened: it is large, and few need it. A writer holds the image's exclusive lock, so that nobody else writes, and Ceph shuts
 * a client that died out before another one gets it: after half a minute, or at once if somebody says that it died, as one does who adopts its
 * device. What waits for the cluster fails after `wait` seconds, as do its closing and its opening. */
#include "image.h"
#include <errno.h>
#include <pvio/log.h>

#if __has_include(<rbd/librbd.h>)
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <pvio/blk.h>
#include <pvio/noxs.h>
#include <rbd/librbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	EVENTS = 64, /* ends fetched at once */
	PART_MAX = 1 << 30, /* bytes of one discard */
	GRANULARITY = 64 << 10, /* librbd ignores smaller discards */
	CONNECT_S = 3, /* who attaches waits so long */
};

/* What is called of librados and librbd. */
#define CALLS(C) C(rados_create) C(rados_conf_read_file) C(rados_conf_set) C(rados_connect) C(rados_ioctx_create) C(rados_ioctx_destroy) \
	C(rados_getaddrs) C(rados_shutdown) C(rbd_open) C(rbd_open_read_only) C(rbd_close) C(rbd_get_size) C(rbd_lock_acquire) \
	C(rbd_lock_break) C(rbd_set_image_notification) C(rbd_poll_io_events) C(rbd_aio_create_completion) C(rbd_aio_get_return_value) C(rbd_aio_get_arg) C(rbd_aio_release) \
	C(rbd_aio_readv) C(rbd_aio_writev) C(rbd_aio_flush) C(rbd_aio_discard)
static struct {
	void *library;
#define CALL(f) typeof(f) *f;
	CALLS(CALL)
#undef CALL
} ceph;

/* An I/O in librbd's hands. */
struct job {
	struct image_io *io;
	enum image_kind now; /* of a WRITE_DSYNC: WRITE, then FLUSH */
	uint64_t part;
};

/* Owner: its vbd. While queues are attached `in` and uring are their worker's. */
struct image_rbd {
	struct image head; /* first */
	struct uring_watch in;
	struct uring *uring; /* NULL: no queue is attached */
	unsigned queues;
	int events; /* the eventfd */
	rados_t cluster;
	rados_ioctx_t pool;
	rbd_image_t rbd;
};

/* ---- on the worker ---- */

static int start(struct image_rbd *r, struct job *j, rbd_completion_t c)
{
	struct image_io *io = j->io;
	uint64_t at = io->offset + io->done, left = io->len - io->done;

	j->part = left < PART_MAX ? left : PART_MAX;
	switch (j->now) {
	case IMAGE_READ:
		return ceph.rbd_aio_readv(r->rbd, io->iov, (int)io->niov, at, c);
	case IMAGE_DISCARD:
		return ceph.rbd_aio_discard(r->rbd, at, j->part, c);
	case IMAGE_FLUSH:
		return ceph.rbd_aio_flush(r->rbd, c);
	default:
		return ceph.rbd_aio_writev(r->rbd, io->iov, (int)io->niov, at, c);
	}
}

static void end(struct job *j, int error)
{
	struct image_io *io = j->io;

	free(j);
	io->end(io, error);
}

static void issue(struct image_rbd *r, struct job *j)
{
	rbd_completion_t c;
	int ret = ceph.rbd_aio_create_completion(j, NULL, &c);

	if (ret == 0) {
		ret = start(r, j, c);
		if (ret < 0)
			ceph.rbd_aio_release(c);
	}
	if (ret < 0)
		end(j, ret);
}

/* Part of a job has ended: go on with it, or end it. */
static void advance(struct image_rbd *r, struct job *j, ssize_t ret)
{
	struct image_io *io = j->io;

	if (ret >= 0 && j->now == IMAGE_READ && (uint64_t)ret != io->len)
		ret = -EIO; /* the image has become shorter than the disk that it is */
	if (ret >= 0 && j->now != IMAGE_FLUSH)
		io->done += j->part;
	if (ret >= 0 && io->done < io->len) {
		issue(r, j);
	} else if (ret >= 0 && io->kind == IMAGE_WRITE_DSYNC && j->now == IMAGE_WRITE) {
		j->now = IMAGE_FLUSH;
		issue(r, j);
	} else {
		end(j, ret < 0 ? (int)ret : 0);
	}
}

static void arm(struct image_rbd *r)
{
	if (r->uring && !r->in.armed)
		uring_watch(r->uring, &r->in, r->events, POLLIN);
}

static void look(struct image_rbd *r)
{
	rbd_completion_t c[EVENTS];
	uint64_t count;
	ssize_t ignored = read(r->events, &count, sizeof(count)); /* first: what ends from now on makes it readable again */
	int n;

	(void)ignored;
	do {
		n = ceph.rbd_poll_io_events(r->rbd, c, EVENTS);
		for (int i = 0; i < n; i++) {
			struct job *j = ceph.rbd_aio_get_arg(c[i]);
			ssize_t ret = ceph.rbd_aio_get_return_value(c[i]);

			ceph.rbd_aio_release(c[i]);
			advance(r, j, ret);
		}
	} while (n == EVENTS);
	arm(r);
}

static void in_done(struct uring_op *op, int res, uint32_t flags)
{
	struct image_rbd *r = (struct image_rbd *)((char *)op - offsetof(struct image_rbd, in));

	(void)res, (void)flags;
	r->in.armed = false;
	if (r->uring)
		look(r);
}

static void rbd_image_submit(struct image_io *io)
{
	struct job *j = malloc(sizeof(*j));

	if (!j) {
		io->end(io, -ENOMEM);
		return;
	}
	*j = (struct job){ .io = io, .now = io->kind == IMAGE_WRITE_DSYNC ? IMAGE_WRITE : io->kind };
	issue((struct image_rbd *)io->image, j);
}

static void rbd_attach(struct image *im, struct uring *u)
{
	struct image_rbd *r = (struct image_rbd *)im;

	if (r->queues++)
		return;
	r->uring = u;
	if (!uring_room(u))
		uring_submit(u);
	arm(r);
}

static void rbd_detach(struct image *im)
{
	struct image_rbd *r = (struct image_rbd *)im;
	struct uring *u = r->uring;

	if (--r->queues)
		return;
	r->uring = NULL;
	uring_unwatch(u, &r->in);
}

/* ---- opening ---- */

static int load_once(char *why, size_t len)
{
	bool all = true;

	if (ceph.library)
		return 0;
	ceph.library = dlopen("librbd.so.1", RTLD_NOW);
	if (!ceph.library)
		return pv_why(why, len, -EOPNOTSUPP, "librbd.so.1 cannot be loaded; install librbd1: %s", dlerror());
#define CALL(f) all &= (ceph.f = dlsym(ceph.library, #f)) != NULL;
	CALLS(CALL)
#undef CALL
	if (all)
		return 0;
	dlclose(ceph.library);
	ceph.library = NULL;
	return pv_why(why, len, -EOPNOTSUPP, "librbd.so.1 is too old; install Debian 12's librbd1");
}

/* Images are opened on threads. */
static int load(char *why, size_t len)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int ret;

	pthread_mutex_lock(&lock);
	ret = load_once(why, len);
	pthread_mutex_unlock(&lock);
	return ret;
}

/* What a path says. The pieces are in `copy`. */
struct place {
	char copy[512];
	const char *pool, *image, *snapshot, *conf, *id; /* the last three may be NULL */
};

static int parse(const char *path, struct place *p, char *why, size_t len)
{
	char *rest, *word, *slash;

	*p = (struct place){ .copy = "" };
	if (snprintf(p->copy, sizeof(p->copy), "%s", path) >= (int)sizeof(p->copy))
		return pv_why(why, len, -ENAMETOOLONG, "rbd:%s: too long", path);
	rest = p->copy;
	word = strsep(&rest, ":");
	slash = strchr(word, '/');
	if (!slash || slash == word || !slash[1])
		return pv_why(why, len, -EINVAL, "rbd:%s: give rbd:POOL/IMAGE[@SNAPSHOT][:conf=FILE][:id=USER]", path);
	*slash = '\0';
	p->pool = word;
	word = slash + 1;
	p->image = strsep(&word, "@");
	p->snapshot = word;
	while ((word = strsep(&rest, ":"))) {
		if (!strncmp(word, "conf=", 5))
			p->conf = word + 5;
		else if (!strncmp(word, "id=", 3))
			p->id = word + 3;
		else
			return pv_why(why, len, -EINVAL, "rbd:%s: \"%s\" is neither conf=FILE nor id=USER", path, word);
	}
	return 0;
}

/* A cluster that does not answer is to be asked again. */
static int again(int ret)
{
	return ret == -ETIMEDOUT ? -EAGAIN : ret;
}

static int connect_cluster(struct image_rbd *r, const struct place *p, const struct image_config *c, char *why, size_t len)
{
	char connect_s[12], io_s[12];
	int ret = ceph.rados_create(&r->cluster, p->id);

	if (ret < 0) {
		r->cluster = NULL;
		return pv_why(why, len, ret, "rbd:%s: %s", c->path, strerror(-ret));
	}
	ret = ceph.rados_conf_read_file(r->cluster, p->conf);
	if (ret < 0)
		return pv_why(why, len, ret, "rbd:%s: cannot read %s: %s", c->path, p->conf ? p->conf : "Ceph's configuration (/etc/ceph/ceph.conf)", strerror(-ret));
	snprintf(connect_s, sizeof(connect_s), "%d", CONNECT_S);
	snprintf(io_s, sizeof(io_s), "%u", c->wait ? c->wait : 1); /* 0 would be for ever */
	ceph.rados_conf_set(r->cluster, "client_mount_timeout", connect_s);
	ceph.rados_conf_set(r->cluster, "rados_mon_op_timeout", connect_s);
	ceph.rados_conf_set(r->cluster, "rados_osd_op_timeout", io_s);
	ceph.rados_conf_set(r->cluster, "rbd_cache", "false"); /* what was answered would die with this process, and the guest would not know */
	ret = ceph.rados_connect(r->cluster);
	if (ret < 0)
		return pv_why(why, len, again(ret), "rbd:%s: the cluster cannot be reached: %s", c->path, strerror(-ret));
	ret = ceph.rados_ioctx_create(r->cluster, p->pool, &r->pool);
	if (ret < 0) {
		r->pool = NULL;
		return pv_why(why, len, again(ret), "rbd:%s: cannot open the pool %s: %s", c->path, p->pool, strerror(-ret));
	}
	return 0;
}

static int open_rbd(struct image_rbd *r, const struct place *p, const struct image_config *c, char *why, size_t len)
{
	int ret;

	if (p->snapshot && !c->read_only)
		return pv_why(why, len, -EROFS, "rbd:%s: nobody writes to a snapshot; mode=r asks for reading alone", c->path);
	ret = c->read_only ? ceph.rbd_open_read_only(r->pool, p->image, &r->rbd, p->snapshot) : ceph.rbd_open(r->pool, p->image, &r->rbd, NULL);
	if (ret < 0) {
		r->rbd = NULL;
		return pv_why(why, len, again(ret), "rbd:%s: cannot open %s: %s", c->path, p->image, strerror(-ret));
	}
	if (!c->read_only && c->predecessor && *c->predecessor)
		ceph.rbd_lock_break(r->rbd, RBD_LOCK_MODE_EXCLUSIVE, c->predecessor); /* of another, or nobody's: nothing happens */
	ret = c->read_only ? 0 : ceph.rbd_lock_acquire(r->rbd, RBD_LOCK_MODE_EXCLUSIVE);
	if (ret == -EINVAL || ret == -EOPNOTSUPP)
		return pv_why(why, len, -EOPNOTSUPP, "rbd:%s cannot be locked, and so not be written safely: rbd feature enable %s/%s exclusive-lock", c->path,
			      p->pool, p->image);
	if (ret == -ETIMEDOUT)
		return pv_why(why, len, -EAGAIN, "rbd:%s: the cluster does not answer: its lock cannot be had", c->path);
	if (ret < 0)
		return pv_why(why, len, -EBUSY, "rbd:%s is in use: another client holds its lock (rbd lock ls %s/%s shows who): %s", c->path, p->pool,
			      p->image, strerror(-ret));
	return 0;
}

static int find_facts(struct image_rbd *r, const struct image_config *c, char *why, size_t len)
{
	struct image_facts *f = &r->head.facts;
	uint64_t bytes = 0;
	int ret = ceph.rbd_get_size(r->rbd, &bytes);

	if (ret == 0)
		ret = ceph.rbd_set_image_notification(r->rbd, r->events, EVENT_TYPE_EVENTFD);
	if (ret < 0)
		return pv_why(why, len, again(ret), "rbd:%s: %s", c->path, strerror(-ret));
	if (bytes < PV_BLK_SECTOR)
		return pv_why(why, len, -EINVAL, "rbd:%s is empty; give it a size first (rbd resize)", c->path);
	f->sectors = bytes / PV_BLK_SECTOR;
	f->physical_sector_size = PV_BLK_SECTOR;
	f->read_only = c->read_only;
	f->features = PV_VBD_FLUSH;
	if (!c->read_only)
		f->features |= PV_VBD_BARRIER | (c->discard ? PV_VBD_DISCARD : 0);
	f->discard_granularity = GRANULARITY;
	return 0;
}

/* Whose lock may be broken when this process is gone: its address in the cluster. */
static void rbd_note(const struct image *im, char note[IMAGE_NOTE])
{
	const struct image_rbd *r = (const struct image_rbd *)im;
	char *address = NULL;

	if (ceph.rados_getaddrs(r->cluster, &address) == 0)
		snprintf(note, IMAGE_NOTE, "%s", address);
	free(address);
}

static int rbd_size(const struct image *im, uint64_t *bytes)
{
	return ceph.rbd_get_size(((const struct image_rbd *)im)->rbd, bytes);
}

static void rbd_image_close(struct image *im)
{
	struct image_rbd *r = (struct image_rbd *)im;

	if (r->rbd)
		ceph.rbd_close(r->rbd);
	if (r->pool)
		ceph.rados_ioctx_destroy(r->pool);
	if (r->cluster)
		ceph.rados_shutdown(r->cluster);
	if (r->events >= 0)
		close(r->events);
	free(r);
}

static int rbd_image_open(const struct image_config *c, struct image **out, char *why, size_t len)
{
	struct image_rbd *r;
	struct place p;
	int ret = parse(c->path, &p, why, len);

	*out = NULL;
	if (ret == 0)
		ret = load(why, len);
	if (ret < 0)
		return ret;
	r = calloc(1, sizeof(*r));
	if (!r)
		return pv_why(why, len, -ENOMEM, "rbd:%s: out of memory", c->path);
	r->head.ops = &image_rbd_ops;
	r->in.op.done = in_done;
	r->events = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (r->events < 0)
		ret = pv_why(why, len, -errno, "rbd:%s: %s", c->path, strerror(errno));
	if (ret == 0)
		ret = connect_cluster(r, &p, c, why, len);
	if (ret == 0)
		ret = open_rbd(r, &p, c, why, len);
	if (ret == 0)
		ret = find_facts(r, c, why, len);
	if (ret < 0)
		rbd_image_close(&r->head);
	else
		*out = &r->head;
	return ret;
}

const struct image_ops image_rbd_ops = { .name = "rbd", .slow = true, .open = rbd_image_open, .close = rbd_image_close, .note = rbd_note,
					 .submit = rbd_image_submit, .attach = rbd_attach, .detach = rbd_detach, .size = rbd_size };

#else

static int rbd_image_open(const struct image_config *c, struct image **out, char *why, size_t len)
{
	*out = NULL;
	return pv_why(why, len, -EOPNOTSUPP, "rbd:%s: this pvio-blkback was built without Ceph: install librbd-dev and build again", c->path);
}

const struct image_ops image_rbd_ops = { .name = "rbd", .open = rbd_image_open };

#endif
