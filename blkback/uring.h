/* uring.h - the io_uring of one worker thread.
 *
 * Everything that a worker waits for arrives here: ends of I/O, and readiness of descriptors (multishot polls). Whoever wants
 * something done embeds a struct uring_op, asks for an sqe with it, and its `done` is called from uring_reap.
 * Submission is once a turn, or more often in a long one: nothing submits but uring_submit and uring_wait, so uring_room is looked at
 * before an sqe is taken.
 * Thread rule: all of it belongs to the thread that opened it.
 */
#ifndef BLKBACK_URING_H
#define BLKBACK_URING_H

#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One sqe in flight. Owner: the structure that embeds it, which outlives the completion. */
struct uring_op {
	/* The completion: res and flags of the cqe. May take at most one sqe. */
	void (*done)(struct uring_op *op, int res, uint32_t flags);
};

/* A descriptor watched for reading. `ready` says that it became so since it was last cleared. */
struct uring_poll {
	struct uring_op op;
	int fd;
	bool armed, ready;
};

/* A descriptor whose owner is told once that it is readable or writable, as long as it is armed. It may be another one each time. */
struct uring_watch {
	struct uring_op op; /* `done`: the owner's */
	bool armed; /* until uring_watch_done */
};

/* Owner: the worker. Lifetime: uring_open to uring_close. */
struct uring {
	struct io_uring ring;
	bool open;
	unsigned ios; /* operations on files, prepared or with the kernel: who prepares them counts */
	bool prompt; /* all that the last uring_submit handed over had ended when it returned: the file is in memory */
	uint64_t submits, waits; /* system calls */
};

/* Open with the best set-up flags that this kernel takes. Returns 0, or -errno with one line in why. */
int uring_open(struct uring *u, char *why, size_t len);
void uring_close(struct uring *u); /* also of a zeroed one */

/* An sqe for op, zeroed by the prep function that the caller uses next. Only while uring_room says so. */
struct io_uring_sqe *uring_sqe(struct uring *u, struct uring_op *op);
static inline unsigned uring_room(const struct uring *u)
{
	return io_uring_sq_space_left(&u->ring);
}

/* How many are prepared. */
static inline unsigned uring_ready(const struct uring *u)
{
	return io_uring_sq_ready(&u->ring);
}

/* Hand over what was prepared, if anything. */
void uring_submit(struct uring *u);

/* Hand over what was prepared, and sleep until a completion arrives or, if ns is not 0, that time has passed. */
void uring_wait(struct uring *u, uint64_t ns);

/* Call `done` of what completed. Returns how many there were. Makes a system call only when the kernel says that work waits. */
unsigned uring_reap(struct uring *u);

/* Keep a multishot poll armed on p->fd: sets p->ready at each edge. Again after the kernel ended it; no effect while armed. */
void uring_poll_arm(struct uring *u, struct uring_poll *p);

/* Have w->op.done called, once, as soon as fd is ready for events (POLLIN, POLLOUT), or failed. It is not armed yet, and `done` clears armed.
 * Needs one sqe of uring_room. */
void uring_watch(struct uring *u, struct uring_watch *w, int fd, unsigned events);
/* Until w is not armed: takes it back, and lets completions come meanwhile. Between two turns. */
void uring_unwatch(struct uring *u, struct uring_watch *w);

#endif
