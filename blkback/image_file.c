/* image_file.c - an image that is a raw file or a block device.
 *
 * The file is locked on the very open file description that io_uring uses (image_lock.c). It is not
 * registered with io_uring: a kernel of 6.1 keeps such a file, its lock and a block device open for a second after it was given up.
 * It is opened O_NONBLOCK: some file systems (tmpfs) are then read and written in the submitting thread instead of a helper's.
 */
#include "image.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pvio/blk.h>
#include <pvio/log.h>
#include <pvio/noxs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct image_file {
	struct image head; /* first */
	int fd;
	int claim; /* of a block device that is written: keeps the kernel from mounting it meanwhile; -1 */
	uint64_t bytes;
	bool block; /* a block device */
	struct eraser *eraser; /* NULL: it cannot discard securely */
};

static struct image_part file_part(const struct image *im, uint64_t offset)
{
	const struct image_file *f = (const struct image_file *)im;

	return (struct image_part){ f->fd, offset, UINT64_MAX }; /* all of it: what is asked for was checked */
}

static int file_fd(const struct image *im, unsigned n)
{
	return n ? -1 : ((const struct image_file *)im)->fd;
}

static void file_submit(struct image_io *io)
{
	if (io->kind == IMAGE_DISCARD_SECURE)
		eraser_submit(((struct image_file *)io->image)->eraser, io);
	else
		image_io_submit(io);
}

/* ---- its size ---- */

static int fd_size(int fd, bool block, uint64_t *bytes)
{
	struct stat st;

	if (block)
		return ioctl(fd, BLKGETSIZE64, bytes) < 0 ? -errno : 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	*bytes = st.st_size;
	return 0;
}

static int file_size(const struct image *im, uint64_t *bytes)
{
	const struct image_file *f = (const struct image_file *)im;

	return fd_size(f->fd, f->block, bytes);
}

static int file_truncate(struct image *im, uint64_t bytes, char *why, size_t len)
{
	struct image_file *f = (struct image_file *)im;

	if (f->block)
		return pv_why(why, len, -EOPNOTSUPP, "a block device is resized by who made it (lvextend); then ask again without a size");
	if (f->head.facts.read_only)
		return pv_why(why, len, -EROFS, "it is open for reading only; change the file, then ask again without a size");
	return ftruncate(f->fd, bytes) < 0 ? pv_why(why, len, -errno, "%s", strerror(errno)) : 0;
}

/* ---- opening ---- */

/* What alignment O_DIRECT asks for, in bytes: 0 where it cannot be had. It is set on fd when this is called. */
static unsigned direct_align(int fd)
{
	struct statx sx;
	void *page;
	unsigned align = 0;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 && (sx.stx_mask & STATX_DIOALIGN))
		return sx.stx_dio_offset_align > sx.stx_dio_mem_align ? sx.stx_dio_offset_align : sx.stx_dio_mem_align;
	if (posix_memalign(&page, PV_PAGE_SIZE, PV_PAGE_SIZE)) /* a kernel before 6.1, or tmpfs: try */
		return 0;
	if (pread(fd, (char *)page + PV_BLK_SECTOR, PV_BLK_SECTOR, PV_BLK_SECTOR) >= 0)
		align = PV_BLK_SECTOR;
	else if (pread(fd, page, PV_PAGE_SIZE, 0) >= 0)
		align = PV_PAGE_SIZE;
	free(page);
	return align;
}

/* Set O_DIRECT as asked: `auto` where single sectors, as the guest has them, may be read and written that way. */
static int set_direct(struct image_file *f, const struct image_config *c, char *why, size_t len)
{
	int fd = f->fd, flags = fcntl(fd, F_GETFL);
	unsigned align = 0, sector = c->sector_size ? c->sector_size : PV_BLK_SECTOR;

	if (c->direct == IMAGE_DIRECT_OFF)
		return 0;
	if (fcntl(fd, F_SETFL, flags | O_DIRECT) == 0)
		align = direct_align(fd);
	f->head.facts.direct = align && align <= sector;
	if (f->head.facts.direct)
		return 0;
	fcntl(fd, F_SETFL, flags);
	if (c->direct == IMAGE_DIRECT_AUTO)
		return 0;
	if (!align)
		return pv_why(why, len, -EOPNOTSUPP, "%s: its file system has no O_DIRECT; use direct=auto", c->path);
	return pv_why(why, len, -EOPNOTSUPP, "%s: O_DIRECT needs sectors of %u bytes here, the guest has %u; use sector=4096, or direct=auto",
		      c->path, align, sector);
}

static unsigned long queue_limit(dev_t dev, const char *name)
{
	static const char *const dirs[] = { "queue", "../queue" }; /* of a disk; of a partition */
	unsigned long value = 0;
	char path[128];

	for (unsigned i = 0; i < 2; i++) {
		FILE *in;
		int n;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(dev), minor(dev), dirs[i], name);
		in = fopen(path, "re");
		if (!in)
			continue;
		n = fscanf(in, "%lu", &value);
		fclose(in);
		return n == 1 ? value : 0;
	}
	return 0;
}

/* Holes are punched: fallocate must be able to, without writing zeroes instead. Asked beyond the end of a file it changes nothing. */
static void find_discard(struct image_file *f, const struct stat *st)
{
	struct image_facts *facts = &f->head.facts;
	uint64_t beyond = (f->bytes + st->st_blksize) / st->st_blksize * st->st_blksize;

	if (f->block) {
		facts->discard_granularity = queue_limit(st->st_rdev, "discard_granularity");
		if (!queue_limit(st->st_rdev, "discard_max_bytes") || !queue_limit(st->st_rdev, "write_zeroes_max_bytes"))
			return;
	} else {
		facts->discard_granularity = st->st_blksize;
		if (fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, beyond, st->st_blksize) < 0)
			return;
	}
	facts->features |= PV_VBD_DISCARD;
	if (f->block && eraser_can(f->fd, eraser_ioctl) && eraser_new(f->fd, eraser_ioctl, &f->eraser) == 0)
		facts->features |= PV_VBD_SECURE_DISCARD;
}

static int find_facts(struct image_file *f, const struct image_config *c, char *why, size_t len)
{
	struct image_facts *facts = &f->head.facts;
	unsigned physical = 0;
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return pv_why(why, len, -errno, "%s: %s", c->path, strerror(errno));
	f->block = S_ISBLK(st.st_mode);
	if (!f->block && !S_ISREG(st.st_mode))
		return pv_why(why, len, -EINVAL, "%s is neither a file nor a block device", c->path);
	if (fd_size(f->fd, f->block, &f->bytes) < 0)
		return pv_why(why, len, -errno, "%s: cannot tell its size: %s", c->path, strerror(errno));
	facts->sectors = f->bytes / PV_BLK_SECTOR;
	if (facts->sectors && f->bytes % PV_BLK_SECTOR)
		pv_log(PV_LOG_WARN, "%s: its last %u bytes are not served: its size is no multiple of %u", c->path,
		       (unsigned)(f->bytes % PV_BLK_SECTOR), PV_BLK_SECTOR);
	if (!facts->sectors)
		return pv_why(why, len, -EINVAL, "%s is empty; give it a size first (truncate -s 1G %s)", c->path, c->path);
	if (!f->block || ioctl(f->fd, BLKPBSZGET, &physical) < 0)
		physical = st.st_blksize < PV_PAGE_SIZE ? st.st_blksize : PV_PAGE_SIZE;
	if (physical < PV_BLK_SECTOR || (physical & (physical - 1)) || f->bytes % physical) /* blkif.h: the disk is whole ones */
		physical = PV_BLK_SECTOR;
	facts->physical_sector_size = physical;
	facts->read_only = c->read_only;
	facts->features = PV_VBD_FLUSH;
	if (!c->read_only)
		facts->features |= PV_VBD_BARRIER;
	if (!c->read_only && c->discard)
		find_discard(f, &st);
	return 0;
}

/* A block device that the kernel itself uses (mounted, swap, part of an array or of device mapper's, a partition of it is) is not the guest's to write. Opened
 * exclusively it is claimed against that for as long as the image is open; one of which others have parts is only looked at. */
static int claim(struct image_file *f, const struct image_config *c, char *why, size_t len)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	f->claim = open(path, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);
	if (f->claim < 0 && errno == EBUSY && c->predecessor)
		return pv_why(why, len, -EAGAIN, "%s: the process before has not let go of it yet", c->path);
	if (f->claim < 0)
		return pv_why(why, len, -errno, "%s is in use: %s (lsblk shows by what: a mount, swap, or a device on it)", c->path, strerror(errno));
	if (c->parts) {
		close(f->claim);
		f->claim = -1;
	}
	return 0;
}

static void file_close(struct image *im)
{
	struct image_file *f = (struct image_file *)im;

	eraser_free(f->eraser);
	if (f->claim >= 0)
		close(f->claim);
	close(f->fd);
	free(f);
}

static int file_open(const struct image_config *c, struct image **out, char *why, size_t len)
{
	struct image_file *f = calloc(1, sizeof(*f));
	int ret;

	*out = NULL;
	if (!f)
		return pv_why(why, len, -ENOMEM, "%s: out of memory", c->path);
	f->head.ops = &image_file_ops;
	f->claim = -1;
	f->fd = open(c->path, (c->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0) {
		ret = pv_why(why, len, -errno, "cannot open %s: %s%s", c->path, strerror(errno),
			     errno == EROFS || errno == EACCES || errno == EPERM ? "; mode=r asks for reading alone" : "");
		free(f);
		return ret;
	}
	fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) | O_NOATIME); /* a read need not look at the clock; the owner and root may */
	ret = image_lock(f->fd, c->parts ? IMAGE_LOCK_PARTS : c->read_only ? IMAGE_LOCK_READ : IMAGE_LOCK_ALONE, c->path, why, len);
	if (ret == 0)
		ret = find_facts(f, c, why, len);
	if (ret == 0 && f->block && !c->read_only)
		ret = claim(f, c, why, len);
	if (ret == 0)
		ret = set_direct(f, c, why, len);
	if (ret < 0) {
		file_close(&f->head);
		return ret;
	}
	*out = &f->head;
	return 0;
}

const struct image_ops image_file_ops = { .name = "file", .open = file_open, .close = file_close, .submit = file_submit,
					  .part = file_part, .file = file_fd, .size = file_size, .truncate = file_truncate };
