/* pvio-dd.c - copy between a vbd and a file or pipe, through blkfront; and a quick measure of a vbd.
 *
 * Theory of operation. A fixed number of chunks, each with a buffer in blkfront's pool, forms a ring in the order of the data:
 * read (from the device, or the input) as they become free, written (to the output, or the device), and freed from the oldest
 * on. So a pipe sees its bytes in order while iodepth requests are in flight. One thread; it sleeps on the device and, if the
 * input is a pipe, on that.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pvio/blkfront.h>
#include <pvio/message.h>
#include <pvio/options.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	POOL_BYTES = 16 << 20, /* of blkfront's pool, at most */
	DONE_BATCH = 64, /* completions reaped at once */
	CONNECT_MS = 5000, /* at least, for the handshake */
	CLOSE_MS = 5000,
	AWAY_MS = 100, /* how often to look while the device is not connected */
	TICK_MS = 1000, /* progress */
};

enum bench { BENCH_NONE, BENCH_READ, BENCH_WRITE, BENCH_RANDREAD, BENCH_RANDWRITE };

struct options {
	const char *hypervisor, *in, *out;
	const char *vbd;
	uint32_t devid;
	int domid, wait_ms, seconds_ms;
	uint64_t bs, count, skip, seek;
	unsigned iodepth, queues;
	bool flush, json;
	unsigned status; /* 1: progress */
	struct {
		uint64_t offset, len;
	} discard; /* len 0: none */
	unsigned bench; /* enum bench */
};

/* A piece of the copy. Its buffer is the device's from queue to completion. */
enum chunk_state { CHUNK_FREE, CHUNK_FILLING /* from the input */, CHUNK_ASKED, CHUNK_DONE };

struct chunk {
	enum chunk_state state;
	int result;
	uint8_t *buf;
	uint64_t offset, len; /* on the device, whole sectors */
	uint64_t want; /* bytes of them that are data */
	uint64_t asked_ns;
};

/* Owner: main. */
struct dd {
	const struct options *o;
	struct pv_blkfront *f;
	struct chunk *chunk; /* depth of them; `single` is one more, for what is done alone */
	struct chunk single;
	unsigned depth, chunk_len;
	uint64_t head, tail; /* chunks [head, tail) are in use, modulo depth */
	uint64_t pos, end; /* on the device: next byte to ask for, and where to stop */
	uint64_t bytes, written; /* copied: in all; of the oldest chunk to the output */
	uint64_t start_ns, told_ms;
	unsigned away; /* looks at the device in vain */
	unsigned next_queue;
	int file; /* input or output, -1: none */
	bool pipe, eof, starved /* the input has nothing now */, full /* the device, and more came */;
	uint64_t ios, latency_ns, seed; /* bench */
	char why[320];
};

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int __attribute__((format(printf, 3, 4))) fail(struct dd *d, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(d->why, sizeof(d->why), fmt, ap);
	va_end(ap);
	return err;
}

/* ---- options ---- */

static int parse_vbd(const struct pv_option *row, const char *text, void *field)
{
	struct options *o = (struct options *)((char *)field - row->field);

	o->vbd = text;
	return pv_devid_of(PV_NOXS_VBD, text, &o->devid);
}

/* OFFSET,LEN */
static int parse_discard(const struct pv_option *row, const char *text, void *field)
{
	struct options *o = (struct options *)((char *)field - row->field);
	const char *comma = strchr(text, ',');
	char first[32];

	if (!comma || (size_t)(comma - text) >= sizeof(first))
		return -EINVAL;
	memcpy(first, text, (size_t)(comma - text));
	first[comma - text] = 0;
	if (pv_option_size(row, first, &o->discard.offset) || pv_option_size(row, comma + 1, &o->discard.len))
		return -EINVAL;
	return o->discard.len ? 0 : -EINVAL;
}

#define AT(member) offsetof(struct options, member)

static const char *const kinds[] = { [BENCH_NONE] = "none", "read", "write", "randread", "randwrite", NULL };
static const char *const statuses[] = { "none", "progress", NULL };

static const struct pv_option options[] = {
	{ "domid", "N", "the guest to be (on Xen: who we are)", pv_option_domid, AT(domid) },
	{ "vbd", "NAME", "the device: xvda, xvdb .. or its number", parse_vbd, AT(vbd) },
	{ "hypervisor", "SPEC", "loopback, loopback:SOCKET; default: $PVIO_HYPERVISOR, else the host's", pv_option_text, AT(hypervisor) },
	{ "wait", "SECONDS", "wait for the device to be announced (0)", pv_option_seconds, AT(wait_ms) },
	{ "if", "FILE", "write this file into the device; -: standard input", pv_option_text, AT(in), .operand = true },
	{ "of", "FILE", "read the device into this file; -: standard output", pv_option_text, AT(out), .operand = true },
	{ "bs", "BYTES", "size of a block, and of a request if the device allows (1M; bench: 4k)", pv_option_size, AT(bs), .operand = true },
	{ "count", "N", "blocks to copy (all)", pv_option_size, AT(count), .operand = true },
	{ "skip", "N", "blocks to skip in what is read", pv_option_size, AT(skip), .operand = true },
	{ "seek", "N", "blocks to skip in what is written", pv_option_size, AT(seek), .operand = true },
	{ "iodepth", "N", "requests in flight (32)", pv_option_number, AT(iodepth), 1, 4096, .operand = true },
	{ "status", "KIND", "progress: a line each second; none", pv_option_name, AT(status), .names = statuses, .operand = true },
	{ "bs", "BYTES", "as bs=", pv_option_size, AT(bs) },
	{ "iodepth", "N", "as iodepth=", pv_option_number, AT(iodepth), 1, 4096 },
	{ "status", "KIND", "as status=", pv_option_name, AT(status), .names = statuses },
	{ "queues", "N", "queues to use, at most (1)", pv_option_number, AT(queues), 1, PV_NOXS_QUEUES_MAX },
	{ "flush", NULL, "at the end, have the backend flush to stable storage", NULL, AT(flush) },
	{ "discard", "OFFSET,LEN", "discard these bytes of the device, before anything else", parse_discard, AT(discard) },
	{ "bench", "KIND", "measure: randread, read; randwrite, write destroy the contents", pv_option_name, AT(bench), .names = kinds },
	{ "seconds", "SECONDS", "how long to measure (2)", pv_option_seconds, AT(seconds_ms) },
	{ "json", NULL, "print the result as JSON on standard output (with of=-: standard error)", NULL, AT(json) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "pvio-dd",
	.usage = "--domid N --vbd xvda if=FILE|of=FILE [bs=1M] [count=N] [skip=N] [seek=N] [OPTION...]\n"
		 "       pvio-dd --domid N --vbd xvda --bench randread|randwrite|read|write [--bs 4k] [--iodepth 32] [--seconds 2]",
	.about = "Copy between a guest's paravirtual disk and a file or pipe, asynchronously; or measure the disk.",
	.options = options,
};

/* ---- the device ---- */

static int device_error(struct dd *d, int rc)
{
	if (rc == -ESHUTDOWN)
		return fail(d, rc, "dom0 detached %s", d->o->vbd);
	return fail(d, rc, "%s", *pv_blkfront_error(d->f) ? pv_blkfront_error(d->f) : strerror(-rc));
}

/* Reap all queues. Returns how many completed or -errno. */
static int reap(struct dd *d)
{
	struct pv_blkfront_done done[DONE_BATCH];
	int n, total = 0;

	for (unsigned q = 0; q < pv_blkfront_queues(d->f); q++)
		while ((n = pv_blkfront_reap(d->f, q, done, DONE_BATCH)) != 0) {
			if (n < 0)
				return device_error(d, n);
			for (int i = 0; i < n; i++) {
				struct chunk *c = done[i].user;

				c->result = done[i].result;
				c->state = CHUNK_DONE;
			}
			total += n;
		}
	return total;
}

static void tell_progress(struct dd *d)
{
	uint64_t ms = now_ns() / 1000000;
	double s = (double)(now_ns() - d->start_ns) / 1e9;

	if (!d->o->status || ms - d->told_ms < TICK_MS)
		return;
	d->told_ms = ms;
	fprintf(stderr, "\r%llu bytes (%.0f MB), %.0f s, %.1f MB/s  ", (unsigned long long)d->bytes, (double)d->bytes / 1e6, s,
		(double)d->bytes / 1e6 / s);
	fflush(stderr);
}

/* Sleep until the device (or, if starved, the input) has something; follow the device. */
static int wait_device(struct dd *d)
{
	struct pollfd fds[2] = { { .fd = pv_blkfront_fd(d->f), .events = POLLIN }, { .fd = d->file, .events = POLLIN } };
	bool away = pv_blkfront_state(d->f) != XenbusStateConnected;
	int rc;

	if (away && d->away++ == TICK_MS / AWAY_MS)
		fprintf(stderr, "pvio-dd: waiting for the backend of %s to come back\n", d->o->vbd);
	if (!away)
		d->away = 0;
	if (poll(fds, d->starved ? 2 : 1, away ? AWAY_MS : TICK_MS) > 0 && d->starved && fds[1].revents)
		d->starved = false;
	if (interrupted)
		return fail(d, -EINTR, "interrupted");
	rc = pv_blkfront_work(d->f);
	tell_progress(d);
	return rc < 0 ? device_error(d, rc) : 0;
}

/* Queue one chunk. Returns 0, -EAGAIN: no room now, or another -errno. */
static int ask(struct dd *d, struct chunk *c, enum pv_blkfront_op op)
{
	struct pv_blkfront_io io = { .op = op, .offset = c->offset, .len = c->len, .user = c };
	int rc;

	if (op == PV_BLKFRONT_READ || op == PV_BLKFRONT_WRITE)
		io.buf = c->buf;
	rc = pv_blkfront_queue(d->f, d->next_queue, &io);
	if (rc == -EAGAIN)
		return rc;
	if (rc < 0)
		return rc == -ESHUTDOWN || rc == -EPROTO || rc == -ECONNREFUSED ? device_error(d, rc) :
		       fail(d, rc, "%s: %s", d->o->vbd, rc == -EROFS ? "the device is read-only" : strerror(-rc));
	c->state = CHUNK_ASKED;
	d->next_queue = (d->next_queue + 1) % pv_blkfront_queues(d->f);
	return 0;
}

/* One operation alone, to its end; what else is in flight completes meanwhile. */
static int do_single(struct dd *d, enum pv_blkfront_op op, uint64_t offset, uint64_t len)
{
	struct chunk *c = &d->single;
	int rc;

	c->offset = offset;
	c->len = len;
	c->state = CHUNK_FREE;
	while ((rc = ask(d, c, op)) == -EAGAIN)
		if ((rc = reap(d)) < 0 || (rc = wait_device(d)) < 0)
			return rc;
	if (rc == 0)
		rc = pv_blkfront_submit(d->f);
	while (rc >= 0 && c->state == CHUNK_ASKED)
		if ((rc = reap(d)) == 0)
			rc = wait_device(d);
	return rc < 0 ? rc : c->result;
}

/* Open the device and wait until it is connected. */
static int open_device(struct dd *d)
{
	const struct options *o = d->o;
	struct pv_blkfront_config c = { .devid = o->devid, .wait_ms = o->wait_ms, .queues = (uint16_t)o->queues };
	uint64_t until = now_ns() / 1000000 + (uint64_t)(o->wait_ms > CONNECT_MS ? o->wait_ms : CONNECT_MS);
	int rc;

	while (c.ring_order < 4 && (32u << c.ring_order) * o->queues < o->iodepth)
		c.ring_order++;
	rc = pv_blkfront_open(o->hypervisor, o->domid, &c, &d->f, d->why, sizeof(d->why));
	while (rc >= 0 && pv_blkfront_state(d->f) != XenbusStateConnected) {
		struct pollfd fd = { .fd = pv_blkfront_fd(d->f), .events = POLLIN };

		poll(&fd, 1, AWAY_MS);
		rc = pv_blkfront_work(d->f);
		if (rc < 0)
			return device_error(d, rc);
		if (interrupted)
			return fail(d, -EINTR, "interrupted");
		if (now_ns() / 1000000 > until)
			return fail(d, -ETIMEDOUT, "%s did not connect in time; pvio list in dom0 shows its state", o->vbd);
	}
	return rc;
}

/* Chunks: of the block size, or what a request can carry; as many as were asked for, or the pool holds. */
static int make_chunks(struct dd *d)
{
	uint32_t sector = pv_blkfront_offer(d->f)->sector_size, most = pv_blkfront_io_max(d->f), pages;

	d->chunk_len = d->o->bs < most ? (uint32_t)d->o->bs : most;
	d->chunk_len = (d->chunk_len + sector - 1) / sector * sector;
	pages = (d->chunk_len + PAGE - 1) / PAGE;
	d->depth = d->o->iodepth;
	if (d->depth > (POOL_BYTES / PAGE - 1) / pages)
		d->depth = (POOL_BYTES / PAGE - 1) / pages;
	d->chunk = calloc(d->depth, sizeof(*d->chunk));
	d->single.buf = pv_blkfront_buf(d->f, PAGE);
	if (!d->chunk || !d->single.buf)
		return fail(d, -ENOMEM, "no memory for %u requests", d->depth);
	for (unsigned i = 0; i < d->depth; i++) {
		d->chunk[i].buf = pv_blkfront_buf(d->f, d->chunk_len);
		if (!d->chunk[i].buf && i == 0)
			return fail(d, -ENOSPC, "%s: no granted pages for a request of %u bytes; use a smaller bs", d->o->vbd, d->chunk_len);
		if (!d->chunk[i].buf)
			d->depth = i;
	}
	return 0;
}

/* ---- copying ---- */

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
	rc = ask(d, c, PV_BLKFRONT_READ);
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
	rc = do_single(d, PV_BLKFRONT_READ, c->offset + c->len - sector, sector);
	if (rc < 0)
		return *d->why ? rc : fail(d, rc, "%s: cannot read the sector of the last bytes: %s", d->o->vbd, strerror(-rc));
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
		if (n < 0 && errno == EINTR && !interrupted)
			continue;
		if (n < 0)
			return fail(d, -errno, "%s: %s", d->o->in, strerror(errno));
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
	uint64_t limit = d->o->count ? d->o->count * d->o->bs - (d->pos - d->o->seek * d->o->bs) : UINT64_MAX;
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
		rc = ask(d, c, PV_BLKFRONT_WRITE);
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

		if (n < 0 && errno == EINTR && !interrupted)
			continue;
		if (n < 0)
			return fail(d, -errno, "%s: %s", d->o->out, strerror(errno));
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
			return fail(d, c->result, "%s: cannot %s %llu bytes at %llu: %s", d->o->vbd, d->o->out ? "read" : "write",
				    (unsigned long long)c->len, (unsigned long long)c->offset, strerror(-c->result));
		if (d->o->out && (rc = write_output(d, c)) < 0)
			return rc;
		d->bytes += c->want;
		c->state = CHUNK_FREE;
		tell_progress(d);
	}
	return 0;
}

static int copy(struct dd *d)
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
			return device_error(d, rc);
		n = reap(d);
		if (n < 0)
			return n;
		rc = retire(d);
		if (rc < 0)
			return rc;
		if (n == 0 && (d->head < d->tail || !d->eof) && (rc = wait_device(d)) < 0)
			return rc;
		if (interrupted)
			return fail(d, -EINTR, "interrupted");
	}
	return d->full ? fail(d, -ENOSPC, "%s is full: it has %llu bytes", d->o->vbd, (unsigned long long)d->end) : 0;
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
			return fail(d, n ? -errno : -EINVAL, "%s: cannot skip %llu blocks: %s", d->o->in, (unsigned long long)d->o->skip,
				    n ? strerror(errno) : "it is shorter");
		left -= (uint64_t)n;
	}
	return 0;
}

static int open_file(struct dd *d)
{
	const struct options *o = d->o;
	const char *name = o->in ? o->in : o->out;
	uint64_t begin = o->seek * o->bs;
	struct stat st;

	if (!strcmp(name, "-"))
		d->file = o->in ? STDIN_FILENO : STDOUT_FILENO;
	else
		d->file = o->in ? open(name, O_RDONLY | O_CLOEXEC) : open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (d->file < 0 || fstat(d->file, &st) < 0)
		return fail(d, -errno, "%s: %s", name, strerror(errno));
	d->pipe = !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode);
	if (o->in)
		return o->skip ? skip_input(d) : 0;
	if (S_ISREG(st.st_mode) && d->file != STDOUT_FILENO && ftruncate(d->file, (off_t)begin) < 0)
		return fail(d, -errno, "%s: %s", name, strerror(errno));
	if (begin && lseek(d->file, (off_t)begin, SEEK_SET) < 0)
		return fail(d, -errno, "%s: cannot seek: %s", name, strerror(errno));
	return 0;
}

/* Which bytes of the device. */
static int plan(struct dd *d)
{
	const struct options *o = d->o;
	const struct pv_noxs_vbd_offer *offer = pv_blkfront_offer(d->f);
	uint64_t size = offer->sectors * 512, blocks = o->out ? o->skip : o->seek, count;

	if (__builtin_mul_overflow(blocks, o->bs, &d->pos) || d->pos > size)
		return fail(d, -EINVAL, "%s ends at byte %llu, before block %llu", o->vbd, (unsigned long long)size, (unsigned long long)blocks);
	if (d->pos % offer->sector_size)
		return fail(d, -EINVAL, "%s begins at byte %llu of %s, which is not a multiple of its sector size %u; use another bs",
			    o->out ? "skip" : "seek", (unsigned long long)d->pos, o->vbd, offer->sector_size);
	d->end = size;
	if (o->out && o->count && !__builtin_mul_overflow(o->count, o->bs, &count) && count < size - d->pos)
		d->end = d->pos + count;
	return 0;
}

/* ---- measuring ---- */

static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Take the completion of one chunk. */
static int bench_done(struct dd *d, struct chunk *c, uint64_t now)
{
	if (c->result < 0)
		return fail(d, c->result, "%s: I/O at byte %llu: %s", d->o->vbd, (unsigned long long)c->offset, strerror(-c->result));
	d->latency_ns += now - c->asked_ns;
	d->ios++;
	c->state = CHUNK_FREE;
	return 0;
}

/* Ask for whatever is free, until the time is over. Returns how many are in flight, or -errno. */
static int bench_fill(struct dd *d, uint64_t until)
{
	bool random = d->o->bench == BENCH_RANDREAD || d->o->bench == BENCH_RANDWRITE;
	enum pv_blkfront_op op = d->o->bench == BENCH_READ || d->o->bench == BENCH_RANDREAD ? PV_BLKFRONT_READ : PV_BLKFRONT_WRITE;
	uint64_t blocks = d->end / d->chunk_len, now = now_ns();
	int inflight = 0, rc = 0;

	for (unsigned i = 0; i < d->depth && (rc == 0 || rc == -EAGAIN); i++) {
		struct chunk *c = &d->chunk[i];

		rc = c->state == CHUNK_DONE ? bench_done(d, c, now) : 0;
		if (rc == 0 && c->state == CHUNK_FREE && now < until && !interrupted) {
			c->offset = (random ? random_next(&d->seed) : d->pos++) % blocks * d->chunk_len;
			c->len = d->chunk_len;
			c->asked_ns = now;
			rc = ask(d, c, op);
		}
		inflight += c->state == CHUNK_ASKED;
	}
	return rc < 0 && rc != -EAGAIN ? rc : inflight;
}

static int bench(struct dd *d)
{
	uint64_t until = d->start_ns + (uint64_t)d->o->seconds_ms * 1000000;
	int rc, n;

	d->pos = 0;
	d->seed = d->start_ns | 1;
	d->end = pv_blkfront_offer(d->f)->sectors * 512;
	if (d->end < d->chunk_len)
		return fail(d, -EINVAL, "%s is smaller than bs", d->o->vbd);
	while ((rc = bench_fill(d, until)) > 0 || (rc == 0 && now_ns() < until && !interrupted)) {
		rc = pv_blkfront_submit(d->f);
		if (rc < 0)
			return device_error(d, rc);
		n = reap(d);
		if (n < 0 || (n == 0 && (n = wait_device(d)) < 0))
			return n;
	}
	d->bytes = d->ios * d->chunk_len;
	return rc;
}

/* ---- results ---- */

static void report(struct dd *d)
{
	const struct options *o = d->o;
	double s = (double)(now_ns() - d->start_ns) / 1e9, mb_s = s > 0 ? (double)d->bytes / 1e6 / s : 0;
	double latency = d->ios ? (double)d->latency_ns / 1e3 / (double)d->ios : 0;
	FILE *to = o->out && !strcmp(o->out, "-") ? stderr : stdout;

	if (o->status)
		fputc('\n', stderr);
	if (o->json && o->bench)
		fprintf(to, "{\"domid\":%d,\"vbd\":\"%s\",\"bench\":\"%s\",\"bs\":%u,\"iodepth\":%u,\"queues\":%u,\"seconds\":%.3f,\"ios\":%llu,"
			"\"iops\":%.1f,\"mb_s\":%.2f,\"latency_us\":%.2f}\n", o->domid, o->vbd, kinds[o->bench], d->chunk_len, d->depth,
			pv_blkfront_queues(d->f), s, (unsigned long long)d->ios, s > 0 ? (double)d->ios / s : 0, mb_s, latency);
	else if (o->json)
		fprintf(to, "{\"domid\":%d,\"vbd\":\"%s\",\"op\":\"%s\",\"bytes\":%llu,\"seconds\":%.6f,\"mb_s\":%.2f}\n", o->domid, o->vbd,
			o->out ? "read" : o->in ? "write" : o->flush ? "flush" : "discard", (unsigned long long)d->bytes, s, mb_s);
	else if (o->bench)
		fprintf(stderr, "%s of %u bytes, %u in flight, %u queues: %.0f IOPS, %.1f MB/s, mean latency %.1f us\n", kinds[o->bench], d->chunk_len,
			d->depth, pv_blkfront_queues(d->f), s > 0 ? (double)d->ios / s : 0, mb_s, latency);
	else if (o->in || o->out)
		fprintf(stderr, "%llu bytes (%.1f MB) copied, %.3f s, %.1f MB/s\n", (unsigned long long)d->bytes, (double)d->bytes / 1e6, s, mb_s);
}

static int discard(struct dd *d)
{
	int rc = do_single(d, PV_BLKFRONT_DISCARD, d->o->discard.offset, d->o->discard.len);

	if (rc < 0 && (!*d->why || rc == -EOPNOTSUPP || rc == -EINVAL))
		fail(d, rc, "%s: discard: %s", d->o->vbd, rc == -EOPNOTSUPP ? "its backend offers none" :
		     rc == -EINVAL ? "the range is outside of the device or not in whole sectors" : strerror(-rc));
	return rc;
}

static int flush(struct dd *d)
{
	int rc;

	if (!(pv_blkfront_features(d->f) & PV_VBD_FLUSH)) {
		fprintf(stderr, "pvio-dd: %s has no flush: its backend writes through\n", d->o->vbd);
		return 0;
	}
	rc = do_single(d, PV_BLKFRONT_FLUSH, 0, 0);
	if (rc < 0 && !*d->why)
		fail(d, rc, "%s: flush: %s", d->o->vbd, strerror(-rc));
	return rc;
}

static int run(struct dd *d)
{
	const struct options *o = d->o;
	int rc = open_device(d);

	if (rc >= 0)
		rc = make_chunks(d);
	if (rc == 0 && (o->in || o->out))
		rc = open_file(d);
	if (rc == 0 && (o->in || o->out))
		rc = plan(d);
	if (rc == 0 && o->discard.len)
		rc = discard(d);
	d->start_ns = now_ns();
	d->told_ms = d->start_ns / 1000000;
	if (rc == 0 && o->bench)
		rc = bench(d);
	if (rc == 0 && (o->in || o->out))
		rc = copy(d);
	if (rc == 0 && o->flush)
		rc = flush(d);
	if (d->f && (rc == 0 || d->bytes))
		report(d);
	return rc;
}

static const char *wrong(const struct options *o)
{
	if (!o->vbd)
		return "--vbd is missing: which device?";
	if (o->in && o->out)
		return "give if= or of=, not both";
	if (!o->in && !o->out && !o->bench && !o->flush && !o->discard.len)
		return "nothing to do: give if=, of=, --bench, --flush or --discard";
	if (o->bench && (o->in || o->out))
		return "--bench copies nothing: leave out if= and of=";
	if (o->bs > UINT32_MAX)
		return "bs is at most 4G";
	return NULL;
}

int main(int argc, char **argv)
{
	struct options o = { .domid = -1, .iodepth = 32, .queues = 1, .seconds_ms = 2000 };
	struct dd d = { .o = &o, .file = -1 };
	struct sigaction sa = { .sa_handler = on_signal };
	int rc;

	rc = pv_options_parse(&program, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.bs)
		o.bs = o.bench ? 4096 : 1 << 20;
	if (wrong(&o))
		return pv_options_wrong(&program, "%s", wrong(&o));
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	rc = run(&d);
	if (rc < 0)
		fprintf(stderr, "pvio-dd: %s\n", *d.why ? d.why : strerror(-rc));
	pv_blkfront_close(d.f, CLOSE_MS);
	free(d.chunk);
	if (d.file > STDERR_FILENO && close(d.file) < 0 && rc == 0) {
		fprintf(stderr, "pvio-dd: %s: %s\n", o.in ? o.in : o.out, strerror(errno));
		rc = -errno;
	}
	return rc < 0 ? 1 : 0;
}
