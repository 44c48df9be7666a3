/* blkio.h - requests of any length, from any memory, to a vbd: what the fio engine and the nbdkit plugin share.
 *
 * A request is cut into pieces that blkfront can carry. What lies in memory of blkio_memory is granted as it is; for the rest each
 * piece has granted pages of its own for as long as it is in flight, and is copied once. Requests are begun in the order in which they
 * were asked, and end in any. Inside these programs; not installed. Thread rule: one blkio, one thread.
 */
#ifndef BLKIO_H
#define BLKIO_H

#include <pvio/blkfront.h>
#include <stdbool.h>
#include <stdint.h>

struct blkio;

struct blkio_config {
	const char *hypervisor; /* as pv_hyper_open has it; NULL: the default */
	const char *vbd; /* xvda, or its number */
	int domid; /* -1: not given */
	unsigned queues, depth; /* at most; requests in flight */
	int wait_ms; /* for the device to be announced */
};

/* Owner: the caller, until blkio_ask; then blkio, until it comes out of blkio_done. */
struct blkio_req {
	enum pv_blkfront_op op;
	uint64_t offset, len; /* as of struct pv_blkfront_io, but of any length */
	void *buf; /* READ, WRITE */
	int result; /* done: 0 or -errno */
	uint64_t asked; /* from here on it is blkio's: bytes that pieces were made of */
	unsigned pieces; /* in flight */
	struct blkio_req *next;
};

/* Open the device and wait until it is connected. Returns 0 or -errno, with a line in `why`. */
int blkio_open(struct blkio **out, const struct blkio_config *c, char *why, size_t len);
void blkio_close(struct blkio *b); /* what is still asked is forgotten; NULL is fine */

const struct pv_blkfront *blkio_front(const struct blkio *b); /* its size and features, to look at */
int blkio_fd(const struct blkio *b);
bool blkio_away(const struct blkio *b); /* its backend is gone: blkio_follow must be called every BLKIO_AWAY_MS */
enum { BLKIO_AWAY_MS = 100 };

void *blkio_memory(struct blkio *b, size_t len); /* once: granted memory, page-aligned; NULL: not that much */

void blkio_ask(struct blkio *b, struct blkio_req *r); /* begun by the next blkio_push */
void blkio_push(struct blkio *b); /* as much as there is room for; call it again after blkio_done has returned something */
struct blkio_req *blkio_done(struct blkio *b); /* the next one that ended; after NULL, fd tells when to come back */

/* Events and state changes. A device that ends ends all that is asked with the error. Returns 0, or that -errno. */
int blkio_follow(struct blkio *b);

/* Give the device up: all that is asked ends with err, and what comes later too. */
void blkio_end(struct blkio *b, int err, const char *why);
const char *blkio_error(const struct blkio *b); /* why the device ended, a line for a person; NULL: it did not */

#endif
