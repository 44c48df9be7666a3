/* dd_device.c - the device: open it, ask it, wait for it. See dd.h. */
#include "dd.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t dd_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

int __attribute__((format(printf, 3, 4))) dd_fail(struct dd *d, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(d->why, sizeof(d->why), fmt, ap);
	va_end(ap);
	return err;
}

int dd_device_error(struct dd *d, int rc)
{
	if (rc == -ESHUTDOWN && pv_blkfront_state(d->f) == XenbusStateClosing)
		return dd_fail(d, rc, "dom0 detached %s", d->o->vbd);
	return dd_fail(d, rc, "%s", *pv_blkfront_error(d->f) ? pv_blkfront_error(d->f) : strerror(-rc));
}

/* Reap all queues. Returns how many completed or -errno. */
int dd_reap(struct dd *d)
{
	struct pv_blkfront_done done[DONE_BATCH];
	int n, total = 0;

	for (unsigned q = 0; q < pv_blkfront_queues(d->f); q++)
		while ((n = pv_blkfront_reap(d->f, q, done, DONE_BATCH)) != 0) {
			if (n < 0)
				return dd_device_error(d, n);
			for (int i = 0; i < n; i++) {
				struct chunk *c = done[i].user;

				c->result = done[i].result;
				c->state = CHUNK_DONE;
			}
			total += n;
		}
	return total;
}

void dd_tell_progress(struct dd *d)
{
	uint64_t ms = dd_now_ns() / 1000000;
	double s = (double)(dd_now_ns() - d->start_ns) / 1e9;

	if (!d->o->status || ms - d->told_ms < TICK_MS)
		return;
	d->told_ms = ms;
	fprintf(stderr, "\r%llu bytes (%.0f MB), %.0f s, %.1f MB/s  ", (unsigned long long)d->bytes, (double)d->bytes / 1e6, s,
		(double)d->bytes / 1e6 / s);
	fflush(stderr);
}

/* Sleep until the device (or, if starved, the input) has something; follow the device. */
int dd_wait(struct dd *d)
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
	if (dd_interrupted)
		return dd_fail(d, -EINTR, "interrupted");
	rc = pv_blkfront_work(d->f);
	dd_tell_progress(d);
	return rc < 0 ? dd_device_error(d, rc) : 0;
}

/* Queue one chunk. Returns 0, -EAGAIN: no room now, or another -errno. */
int dd_ask(struct dd *d, struct chunk *c, enum pv_blkfront_op op)
{
	struct pv_blkfront_io io = { .op = op, .offset = c->offset, .len = c->len, .user = c };
	int rc;

	if (op == PV_BLKFRONT_READ || op == PV_BLKFRONT_WRITE)
		io.buf = c->buf;
	rc = pv_blkfront_queue(d->f, d->next_queue, &io);
	if (rc == -EAGAIN)
		return rc;
	if (rc < 0)
		return rc == -ESHUTDOWN || rc == -EPROTO || rc == -ECONNREFUSED ? dd_device_error(d, rc) :
		       dd_fail(d, rc, "%s: %s", d->o->vbd, rc == -EROFS ? "the device is read-only" : strerror(-rc));
	c->state = CHUNK_ASKED;
	d->next_queue = (d->next_queue + 1) % pv_blkfront_queues(d->f);
	return 0;
}

/* One operation alone, to its end; what else is in flight completes meanwhile. */
int dd_single(struct dd *d, enum pv_blkfront_op op, uint64_t offset, uint64_t len)
{
	struct chunk *c = &d->single;
	int rc;

	c->offset = offset;
	c->len = len;
	c->state = CHUNK_FREE;
	while ((rc = dd_ask(d, c, op)) == -EAGAIN)
		if ((rc = dd_reap(d)) < 0 || (rc = dd_wait(d)) < 0)
			return rc;
	if (rc == 0)
		rc = pv_blkfront_submit(d->f);
	while (rc >= 0 && c->state == CHUNK_ASKED)
		if ((rc = dd_reap(d)) == 0)
			rc = dd_wait(d);
	return rc < 0 ? rc : c->result;
}

/* Open the device and wait until it is connected. */
int dd_open_device(struct dd *d)
{
	const struct dd_options *o = d->o;
	struct pv_blkfront_config c = { .devid = o->devid, .wait_ms = o->wait_ms, .queues = (uint16_t)o->queues };
	uint64_t until = dd_now_ns() / 1000000 + (uint64_t)(o->wait_ms > CONNECT_MS ? o->wait_ms : CONNECT_MS);
	int rc;

	while (c.ring_order < 4 && (32u << c.ring_order) * o->queues < o->iodepth)
		c.ring_order++;
	rc = pv_blkfront_open(o->hypervisor, o->domid, &c, &d->f, d->why, sizeof(d->why));
	while (rc >= 0 && pv_blkfront_state(d->f) != XenbusStateConnected) {
		struct pollfd fd = { .fd = pv_blkfront_fd(d->f), .events = POLLIN };

		poll(&fd, 1, AWAY_MS);
		rc = pv_blkfront_work(d->f);
		if (rc < 0)
			return dd_device_error(d, rc);
		if (dd_interrupted)
			return dd_fail(d, -EINTR, "interrupted");
		if (dd_now_ns() / 1000000 > until)
			return dd_fail(d, -ETIMEDOUT, "%s did not connect in time; pvio list in dom0 shows its state", o->vbd);
	}
	return rc;
}

/* Chunks: of the block size, or what a request can carry; as many as were asked for, or the pool holds. */
int dd_make_chunks(struct dd *d)
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
		return dd_fail(d, -ENOMEM, "no memory for %u requests", d->depth);
	for (unsigned i = 0; i < d->depth; i++) {
		d->chunk[i].buf = pv_blkfront_buf(d->f, d->chunk_len);
		if (!d->chunk[i].buf && i == 0)
			return dd_fail(d, -ENOSPC, "%s: no granted pages for a request of %u bytes; use a smaller bs", d->o->vbd, d->chunk_len);
		if (!d->chunk[i].buf)
			d->depth = i;
	}
	return 0;
}
