/* inflight.c - the file behind a device's log: where it lies, whose it is, and whether it fits. See inflight.h. */
#include "inflight.h"
#include "log.h"
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

static int begin(struct pv_inflight *f, const struct pv_connect *c, const char *path)
{
	static bool told;

	f->fd = file_new(path, f->bytes);
	f->head = map(f->fd, f->bytes);
	if (f->fd < 0 && !told)
		pv_log(PV_LOG_WARN, "%s cannot be made (%s): guests will notice if this process ends", path, strerror(-f->fd));
	told |= f->fd < 0;
	if (!f->head)
		return -ENOMEM;
	f->head->choice = c->choice;
	f->head->version = VERSION;
	f->head->magic = MAGIC;
	return 0;
}

static int go_on(struct pv_inflight *f, const struct pv_connect *c, const char *path, const struct pv_inflight_shape *shape)
{
	f->fd = file_open(path, f->bytes);
	if (f->fd < 0)
		return f->fd;
	f->head = map(f->fd, f->bytes);
	if (!f->head)
		return -ENOMEM;
	if (f->head->magic != MAGIC || f->head->version != VERSION || memcmp(&f->head->shape, shape, sizeof(*shape)) ||
	    !same_rings(&f->head->choice, &c->choice))
		return -ENOENT;
	return 0;
}

int pv_inflight_open(const struct pv_connect *c, const struct pv_inflight_shape *shape, struct pv_inflight **out, char *why, size_t len)
{
	struct pv_inflight *f = calloc(1, sizeof(*f));
	char path[PATH_MAX];
	int ret;

	*out = NULL;
	if (!f)
		return -ENOMEM;
	path_of(&c->id, path);
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
	if (f->head)
		munmap(f->head, f->bytes);
	if (f->fd >= 0)
		close(f->fd); /* and the lock goes with it */
	free(f);
}

void pv_inflight_remove(const struct pv_device_id *id)
{
	char path[PATH_MAX];

	path_of(id, path);
	unlink(path);
}
