/* dd_copy.c - between a vbd and a file or pipe. See dd.h.
 *
 * Theory of operation. A fixed number of chunks, each with a buffer in blkfront's pool, forms a ring in the order of the data:
 * read (from the device, or the input) as they become free, written (to the output, or the device), and freed from the oldest
 * on. So a pipe sees its bytes in order while iodepth requests are in flight. One thread; it sleeps on the device and, if the
 * input is a pipe, on that.
 */
#include "dd.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct chunk *chunk_at(struct dd *d, uint64_t i)
{
	return &d->chunk[i % d->depth];
}

/* Ask the device for the next chunk. Returns 1: asked, 0: not now, -errno. */
static int fill_from_device(struct dd *d)
{
	uint32_t sector = pv_blkfront_offer(d->f)->sector_size;
	struct chunk *c = chunk_at(d, d->tail);
	int rc;

	if (d->pos >= d->end) {
		d->eof = true;
		return 0;
	}
	c->want = d->end - d->pos < d->chunk_len ? d->end - d->pos : d->chunk_len;
	c->offset = d->pos;
	c->len = (c->want + sector - 1) / sector * sector; /* the last bytes of count=: read the sector, write what was asked */
	rc = dd_ask(d, c, PV_BLKFRONT_READ);
	if (rc < 0)
		return rc == -EAGAIN ? 0 : rc;
	d->pos += c->want;
	d->tail++;
	return 1;
}

/* The bytes behind the input's end in its last sector are the device's own. */
static int complete_tail(struct dd *d, struct chunk *c)
{
	uint32_t sector = pv_blkfront_offer(d->f)->sector_size;
	uint64_t data = c->want % sector;
	int rc;

	c->len = (c->want + sector - 1) / sector * sector;
	if (data == 0)
		return 0;
	rc = dd_single(d, PV_BLKFRONT_READ, c->offset + c->len - sector, sector);
	if (rc < 0)
		return *d->why ? rc : dd_fail(d, rc, "%s: cannot read the sector of the last bytes: %s", d->o->vbd, strerror(-rc));
	memcpy(c->buf + c->want, d->single.buf + data, sector - data);
	return 0;
}

/* Read more of the input into c. Returns 1: full or at the end, 0: the input has nothing now, -errno. */
static int read_input(struct dd *d, struct chunk *c, uint64_t most)
{
	while (c->want < most) {
		struct pollfd fd = { .fd = d->file, .events = POLLIN };
		ssize_t n;

		if (d->pipe && poll(&fd, 1, 0) == 0) {
			d->starved = true;
			return 0;
		}
		n = read(d->file, c->buf + c->want, most - c->want);
		if (n < 0 && errno == EINTR && !dd_interrupted)
			continue;
		if (n < 0)
			return dd_fail(d, -errno, "%s: %s", d->o->in, strerror(errno));
		if (n == 0) {
			d->eof = true;
			return 1;
		}
		c->want += (uint64_t)n;
	}
	return 1;
}

/* Read the next chunk of the input and ask the device to write it. Returns 1: asked, 0: not now, -errno. */
static int fill_from_input(struct dd *d)
{
	struct chunk *c = chunk_at(d, d->tail);
	uint64_t limit = d->o->count != DD_ALL ? d->o->count * d->o->bs - (d->pos - d->o->seek * d->o->bs) : UINT64_MAX;
	uint64_t room = d->end - d->pos, most = limit < d->chunk_len ? limit : d->chunk_len;
	int rc;

	if (c->state == CHUNK_FREE) {
		c->want = 0;
		c->state = CHUNK_FILLING;
	}
	rc = read_input(d, c, most);
	if (rc <= 0)
		return rc;
	if (c->want > room) { /* what fits is written, as with dd */
		c->want = room;
		d->full = d->eof = true;
	}
	if (c->want == 0) {
		d->eof = true;
		c->state = CHUNK_FREE;
		return 0;
	}
	c->offset = d->pos;
	rc = complete_tail(d, c);
	if (rc == 0)
		rc = dd_ask(d, c, PV_BLKFRONT_WRITE);
	if (rc < 0)
		return rc == -EAGAIN ? 0 : rc;
	d->pos += c->want;
	d->tail++;
	return 1;
}

static int write_output(struct dd *d, const struct chunk *c)
{
	while (d->written < c->want) {
		ssize_t n = write(d->file, c->buf + d->written, c->want - d->written);

		if (n < 0 && errno == EINTR && !dd_interrupted)
			continue;
		if (n < 0)
			return dd_fail(d, -errno, "%s: %s", d->o->out, strerror(errno));
		d->written += (uint64_t)n;
	}
	d->written = 0;
	return 0;
}

/* Free the oldest chunks that are done. */
static int retire(struct dd *d)
{
	for (; d->head < d->tail; d->head++) {
		struct chunk *c = chunk_at(d, d->head);
		int rc;

		if (c->state != CHUNK_DONE)
			return 0;
		if (c->result < 0)
			return dd_fail(d, c->result, "%s: cannot %s %llu bytes at %llu: %s", d->o->vbd, d->o->out ? "read" : "write",
				    (unsigned long long)c->len, (unsigned long long)c->offset, strerror(-c->result));
		if (d->o->out && (rc = write_output(d, c)) < 0)
			return rc;
		d->bytes += c->want;
		c->state = CHUNK_FREE;
		dd_tell_progress(d);
	}
	return 0;
}

int dd_copy(struct dd *d)
{
	int rc, n;

	while (!d->eof || d->head < d->tail) {
		while (!d->eof && !d->starved && d->tail - d->head < d->depth) {
			rc = d->o->out ? fill_from_device(d) : fill_from_input(d);
			if (rc < 0)
				return rc;
			if (rc == 0)
				break;
		}
		rc = pv_blkfront_submit(d->f);
		if (rc < 0)
			return dd_device_error(d, rc);
		n = dd_reap(d);
		if (n < 0)
			return n;
		rc = retire(d);
		if (rc < 0)
			return rc;
		if (n == 0 && (d->head < d->tail || !d->eof) && (rc = dd_wait(d)) < 0)
			return rc;
		if (dd_interrupted)
			return dd_fail(d, -EINTR, "interrupted");
	}
	return d->full ? dd_fail(d, -ENOSPC, "%s is full: it has %llu bytes", d->o->vbd, (unsigned long long)d->end) : 0;
}

/* What the input cannot seek over is read and forgotten. */
static int skip_input(struct dd *d)
{
	uint64_t left = d->o->skip * d->o->bs;

	if (lseek(d->file, (off_t)left, SEEK_CUR) >= 0)
		return 0;
	while (left) {
		char sink[PAGE];
		ssize_t n = read(d->file, sink, left < sizeof(sink) ? left : sizeof(sink));

		if (n <= 0)
			return dd_fail(d, n ? -errno : -EINVAL, "%s: cannot skip %llu blocks: %s", d->o->in, (unsigned long long)d->o->skip,
				    n ? strerror(errno) : "it is shorter");
		left -= (uint64_t)n;
	}
	return 0;
}

int dd_open_file(struct dd *d)
{
	const struct dd_options *o = d->o;
	const char *name = o->in ? o->in : o->out;
	uint64_t begin = o->seek * o->bs;
	struct stat st;

	if (!strcmp(name, "-"))
		d->file = o->in ? STDIN_FILENO : STDOUT_FILENO;
	else
		d->file = o->in ? open(name, O_RDONLY | O_CLOEXEC) : open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (d->file < 0 || fstat(d->file, &st) < 0)
		return dd_fail(d, -errno, "%s: %s", name, strerror(errno));
	d->pipe = !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode);
	if (o->in)
		return o->skip ? skip_input(d) : 0;
	if (S_ISREG(st.st_mode) && d->file != STDOUT_FILENO && ftruncate(d->file, (off_t)begin) < 0)
		return dd_fail(d, -errno, "%s: %s", name, strerror(errno));
	if (begin && lseek(d->file, (off_t)begin, SEEK_SET) < 0)
		return dd_fail(d, -errno, "%s: cannot seek: %s", name, strerror(errno));
	return 0;
}

/* Which bytes of the device. */
int dd_plan(struct dd *d)
{
	const struct dd_options *o = d->o;
	const struct pv_noxs_vbd_offer *offer = pv_blkfront_offer(d->f);
	uint64_t size = offer->sectors * 512, blocks = o->out ? o->skip : o->seek, count;

	if (__builtin_mul_overflow(blocks, o->bs, &d->pos) || d->pos > size)
		return dd_fail(d, -EINVAL, "%s ends at byte %llu, before block %llu", o->vbd, (unsigned long long)size, (unsigned long long)blocks);
	if (d->pos % offer->sector_size)
		return dd_fail(d, -EINVAL, "%s begins at byte %llu of %s, which is not a multiple of its sector size %u; use another bs",
			    o->out ? "skip" : "seek", (unsigned long long)d->pos, o->vbd, offer->sector_size);
	d->end = size;
	if (o->out && o->count != DD_ALL && !__builtin_mul_overflow(o->count, o->bs, &count) && count < size - d->pos)
		d->end = d->pos + count;
	return 0;
}
