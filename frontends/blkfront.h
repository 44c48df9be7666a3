/* blkfront.h - a vbd from the guest's side: asynchronous, batched, no hidden threads.
 *
 * Data moves through a pool of granted pages that the library owns: pv_blkfront_buf hands out page-aligned buffers of it, so
 * that nothing is copied on the way. The backend is not trusted (XSA-376): each answer must name a request in flight, once.
 * Thread rule: one blkfront, one thread. Errors: >= 0 or -errno.
 */
#ifndef PV_BLKFRONT_H
#define PV_BLKFRONT_H

#include <pvio/hyper.h>
#include <pvio/noxs.h>

struct pv_blkfront;

struct pv_blkfront_config {
	uint32_t devid; /* xvda = 51712 */
	int wait_ms; /* how long to wait for the device to be announced; 0: it must be there */
	uint16_t queues; /* wanted, at most; 0: one */
	uint16_t ring_order; /* wanted, at most; each queue has 1 << order pages */
	uint32_t pool_pages; /* granted data pages, 0: as many as all slots of all queues can use, at most 4096 */
	uint32_t features; /* PV_VBD_* wanted, at most; 0: all that are offered */
	bool poll; /* the caller looks all the time: never ask the backend for an event; fd then tells of changes of state alone */
};

enum pv_blkfront_op { PV_BLKFRONT_READ, PV_BLKFRONT_WRITE, PV_BLKFRONT_FLUSH, PV_BLKFRONT_DISCARD, PV_BLKFRONT_DISCARD_SECURE };

struct pv_blkfront_io {
	enum pv_blkfront_op op;
	uint64_t offset; /* bytes, aligned to the sector size */
	uint64_t len; /* bytes; READ, WRITE: at most pv_blkfront_io_max; FLUSH: 0 */
	void *buf; /* from pv_blkfront_buf (anywhere inside, aligned to the sector size); NULL for FLUSH and discards */
	void *user; /* comes back in the completion */
};

struct pv_blkfront_done {
	void *user;
	int result; /* 0, or -errno: -EIO, -EOPNOTSUPP */
};

struct pv_blkfront_stats {
	uint64_t reads, writes, flushes, discards, bytes_read, bytes_written, errors, notifies, events;
};

/* As pv_netfront_open. */
int pv_blkfront_open(const char *spec, int domid, const struct pv_blkfront_config *c, struct pv_blkfront **out, char *why, size_t len);
void pv_blkfront_close(struct pv_blkfront *f, int timeout_ms);
int pv_blkfront_fd(const struct pv_blkfront *f);

/* Events and state changes. Returns 0; 1: completions may wait; -EPROTO: the backend lied; -ESHUTDOWN: dom0 detaches (reap what
 * is in flight, close), or with the state Unknown: our domain or its hypervisor is gone (close); -ECONNREFUSED: the backend would not connect, or stopped for an error. A device that is offered anew
 * (its backend was restarted, or a driver domain under a new domid) is connected anew by itself and what was in flight is asked again: the caller only sees that the
 * state is Initialising for a while and that queue says -EAGAIN. While it is not Connected, call this at least every 100 ms. */
int pv_blkfront_work(struct pv_blkfront *f);

/* One line for a person about the last failure. Never NULL. */
const char *pv_blkfront_error(const struct pv_blkfront *f);

enum xenbus_state pv_blkfront_state(const struct pv_blkfront *f);
const struct pv_noxs_vbd_offer *pv_blkfront_offer(const struct pv_blkfront *f);
unsigned pv_blkfront_queues(const struct pv_blkfront *f);
uint32_t pv_blkfront_features(const struct pv_blkfront *f); /* agreed */
uint32_t pv_blkfront_io_max(const struct pv_blkfront *f); /* bytes one READ or WRITE from a page-aligned buffer may have */

/* A buffer of granted pages, len bytes (rounded up to pages), contiguous here; NULL: the pool is used up. The
 * backend can reach every page of the pool at any time: what is in a buffer must be read once, then checked. */
void *pv_blkfront_buf(struct pv_blkfront *f, size_t len);
void pv_blkfront_buf_free(struct pv_blkfront *f, void *buf, size_t len);

/* Queue one I/O on a queue; not visible to the backend before pv_blkfront_submit.
 * Returns 0; -EAGAIN: ring full, or not connected now; -EINVAL; -EROFS; -EOPNOTSUPP: not offered. */
int pv_blkfront_queue(struct pv_blkfront *f, unsigned queue, const struct pv_blkfront_io *io);

/* Publish what was queued; one notify at most a queue. Returns 0 or -errno. */
int pv_blkfront_submit(struct pv_blkfront *f);

/* Up to n completions of a queue, in the order of arrival. Returns how many or -EPROTO. When 0 is returned the queue is
 * re-armed: fd tells when to come back (unless config.poll). */
int pv_blkfront_reap(struct pv_blkfront *f, unsigned queue, struct pv_blkfront_done *out, unsigned n);

void pv_blkfront_stats(const struct pv_blkfront *f, struct pv_blkfront_stats *out);

#endif
