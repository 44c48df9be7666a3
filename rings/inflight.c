/* inflight.c - the file, or the pages, behind a device's log: where it lies, whose it is, and whether it fits. See inflight.h. */
#include "inflight.h"
#include "log.h"
#include "ring.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAGIC = 0x50564946 /* "PVIF" */, VERSION = 2, ALIGN = 64 };

/* The head of the file, then the rings, then the area. What belongs to another connection, or another version of us, does not match. */
struct head {
	uint32_t magic, version;
	struct pv_inflight_shape shape;
	struct pv_noxs_choice choice; /* whose grefs and ports these indices belong to */
};

struct pv_inflight {
	int fd; /* locked; -1: private memory */
	struct pv_hyper *hyper; /* NULL: the log is in the file */
	unsigned pages; /* of pviod's, if it is not */
	struct head *head;
	size_t bytes, stride, area;
};

static size_t round_up(size_t n)
{
	return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static void path_of(const struct pv_device_id *id, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s-%u-%u.inflight", pv_rundir(), pv_type_name(id->type), id->guest, id->devid);
}

static void path_of_process(const char *name, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s.inflight", pv_rundir(), name);
}

static int lock(int fd)
{
	while (flock(fd, LOCK_EX | LOCK_NB) < 0)
		if (errno != EINTR)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	return 0;
}

/* A new file in place of one that an earlier connection may have left. Returns its descriptor or -errno. */
static int file_new(const char *path, size_t bytes)
{
	int fd, ret;

	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	mkdir(pv_rundir(), 0755); /* in a driver domain nobody else makes it; below /run it goes with each boot */
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ret = ftruncate(fd, (off_t)bytes) < 0 ? -errno : lock(fd);
	if (ret == 0)
		return fd;
	unlink(path);
	close(fd);
	return ret;
}

static int file_open(const char *path, size_t bytes)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW), ret;
	struct stat st;

	if (fd < 0)
		return -errno;
	ret = lock(fd);
	if (ret == 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (size_t)st.st_size != bytes))
		ret = -ENOENT; /* of another shape */
	if (ret == 0)
		return fd;
	close(fd);
	return ret;
}

/* What else a frontend chose may change while it is connected. */
static bool same_rings(const struct pv_noxs_choice *a, const struct pv_noxs_choice *b)
{
	return a->generation == b->generation && a->queues == b->queues && a->ring_order == b->ring_order &&
	       memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static struct head *map(int fd, size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* The pages that pviod gave. The lock is the file's: that of a process of this domain before us, if it still runs. Returns 0 or -errno, and holds
 * nothing. */
static int map_pages(struct pv_inflight *f, const struct pv_connect *c, const char *path)
{
	void *p;
	int rc;

	if (!c->log.hyper || f->bytes > (size_t)c->log.n * PV_PAGE_SIZE)
		return -ENOENT;
	mkdir(pv_rundir(), 0755);
	f->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	rc = f->fd < 0 ? -errno : lock(f->fd);
	if (rc == 0)
		rc = pv_gnt_map(c->log.hyper, 0, c->log.grefs, c->log.n, true, NULL, &p);
	if (rc == 0) {
		f->hyper = c->log.hyper;
		f->pages = c->log.n;
		f->head = p;
		return 0;
	}
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	return rc;
}

static void unmap(struct pv_inflight *f)
{
	if (f->hyper)
		pv_gnt_unmap(f->hyper, f->head, f->pages);
	else if (f->head)
		munmap(f->head, f->bytes);
	if (f->fd >= 0)
		close(f->fd); /* and the lock goes with it */
	f->hyper = NULL;
	f->head = NULL;
	f->fd = -1;
}

static int begin_file(struct pv_inflight *f, const char *path)
{
	static bool told;

	f->fd = file_new(path, f->bytes);
	f->head = map(f->fd, f->bytes);
	if (f->fd < 0 && !told)
		pv_log(PV_LOG_WARN, "%s cannot be made (%s): guests will notice if this process ends", path, strerror(-f->fd));
	told |= f->fd < 0;
	return f->head ? 0 : -ENOMEM;
}

static int begin(struct pv_inflight *f, const struct pv_connect *c, const char *path)
{
	int rc = 0;

	if (map_pages(f, c, path) == 0)
		memset(f->head, 0, f->bytes); /* an earlier connection's */
	else
		rc = begin_file(f, path);
	if (rc < 0)
		return rc;
	f->head->choice = c->choice;
	f->head->version = VERSION;
	f->head->magic = MAGIC;
	return 0;
}

static bool fits(const struct head *h, const struct pv_connect *c, const struct pv_inflight_shape *shape)
{
	return h->magic == MAGIC && h->version == VERSION && memcmp(&h->shape, shape, sizeof(*shape)) == 0 && same_rings(&h->choice, &c->choice);
}

static int go_on(struct pv_inflight *f, const struct pv_connect *c, const char *path, const struct pv_inflight_shape *shape)
{
	int rc = map_pages(f, c, path);

	if (rc == -EAGAIN || (rc == 0 && fits(f->head, c, shape)))
		return rc;
	unmap(f);
	f->fd = file_open(path, f->bytes); /* the pages could not be had when it began */
	if (f->fd < 0)
		return f->fd;
	f->head = map(f->fd, f->bytes);
	if (!f->head)
		return -ENOMEM;
	return fits(f->head, c, shape) ? 0 : -ENOENT;
}

static int open_at(const char *path, const struct pv_connect *c, const struct pv_inflight_shape *shape, struct pv_inflight **out, char *why,
		   size_t len)
{
	struct pv_inflight *f = calloc(1, sizeof(*f));
	int ret;

	*out = NULL;
	if (!f)
		return -ENOMEM;
	f->fd = -1;
	f->stride = round_up(sizeof(struct pv_inflight_ring) + (size_t)shape->slots * shape->record);
	f->area = round_up(sizeof(struct head)) + shape->rings * f->stride;
	f->bytes = f->area + shape->area;
	ret = c->adopt ? go_on(f, c, path, shape) : begin(f, c, path);
	if (ret == 0) {
		f->head->shape = *shape;
		*out = f;
		return 0;
	}
	snprintf(why, len, "%s: %s", path, ret == -EAGAIN ? "another process still serves the device" :
		 ret == -ENOENT ? "it says nothing of this connection" : strerror(-ret));
	pv_inflight_close(f);
	return ret;
}

int pv_inflight_open(const struct pv_connect *c, const struct pv_inflight_shape *shape, struct pv_inflight **out, char *why, size_t len)
{
	char path[PATH_MAX];

	path_of(&c->id, path);
	return open_at(path, c, shape, out, why, len);
}

int pv_inflight_open_process(const char *name, uint32_t bytes, struct pv_inflight **out, char *why, size_t len)
{
	const struct pv_inflight_shape shape = { .area = bytes };
	struct pv_connect c = { .adopt = true }; /* of no device: whatever was left here is ours */
	char path[PATH_MAX];
	int ret;

	path_of_process(name, path);
	ret = open_at(path, &c, &shape, out, why, len);
	c.adopt = false;
	return ret == -ENOENT ? open_at(path, &c, &shape, out, why, len) : ret;
}

struct pv_inflight_ring *pv_inflight_ring(struct pv_inflight *f, unsigned ring)
{
	return (struct pv_inflight_ring *)((uint8_t *)f->head + round_up(sizeof(struct head)) + ring * f->stride);
}

void *pv_inflight_area(struct pv_inflight *f)
{
	return (uint8_t *)f->head + f->area;
}

void pv_inflight_close(struct pv_inflight *f)
{
	if (!f)
		return;
	unmap(f);
	free(f);
}

void pv_inflight_remove(const struct pv_device_id *id)
{
	char path[PATH_MAX];

	path_of(id, path);
	unlink(path);
}

void pv_inflight_remove_process(const char *name)
{
	char path[PATH_MAX];

	path_of_process(name, path);
	unlink(path);
}
