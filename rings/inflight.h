/* inflight.h - what a backend has taken from a device's rings and not yet answered: kept in a file of memory that outlives its process,
 * so that the next one can go on where it was killed.
 *
 * Theory of operation. A SIGKILL ends a process between any two of its instructions, and everything that it stored before is stored: so
 * the order of the program is all that counts, and each line here costs a store or two a turn.
 *
 *	pv_inflight_take(log, cons)		requests were taken: before the first of them has an effect or is answered in the ring
 *	pv_inflight_answer(log, prod)		responses were written, every byte of them: before they are published
 *
 * So for whoever reads the log later, with unsigned differences as ever:
 *	before `answered`		done. Perhaps not yet published: publishing it again changes nothing
 *	answered .. taken		taken; carried out or not, and in the ring lies the request or its response. A backend that must know
 *					more about them keeps a record for each: filled, then marked by one store (pv_inflight_mark)
 *	from `taken` on			the guest's requests, untouched
 * Nothing of this is read from the guest's pages.
 *
 * The file is locked by the process that serves the device, and by its end at the latest unlocked: two never serve the same rings.
 *
 * A driver domain's files end with it. There the log is in pages that pviod has granted to it (pv_log_pages), and the file is a lock alone: a
 * domain that takes the place of another, under the same domid, finds the pages as they were.
 * Internal to pvio's programs; not installed.
 */
#ifndef PV_INFLIGHT_H
#define PV_INFLIGHT_H

#include "message.h"
#include <stdbool.h>
#include <stdint.h>

/* One ring's part, in shared memory. Owner: the thread that works the ring. */
struct pv_inflight_ring {
	uint32_t answered, taken; /* indices of the ring, free-running */
	uint32_t waiting; /* besides, for the count of what is lost: packets on their way to the guest */
	uint32_t reserved[13];
	uint8_t records[]; /* `slots` of `record` bytes, by index modulo `slots`: what the backend wants to know of each that was taken */
};

struct pv_inflight_shape {
	uint32_t rings;
	uint32_t slots; /* of a ring, at most: a power of two */
	uint32_t record; /* bytes a slot */
	uint32_t area; /* bytes of the device, beside its rings: the backend's to lay out, and to keep whole at every instant */
};

/* So many pages hold what vifs (64 + 512 bytes a ring, two rings a queue, and their area) and vbds (128 bytes a slot, and a short area) keep of a connection. */
static inline unsigned pv_inflight_pages(const struct pv_noxs_choice *c)
{
	return 3 + ((unsigned)c->queues << c->ring_order);
}

_Static_assert(3 + (PV_NOXS_QUEUES_MAX << 4) <= PV_LOG_PAGES_MAX, "of any choice");

/* Owner: the device. Lifetime: a connection. */
struct pv_inflight;

/* Begin the log of a connection, in c->log if that is large enough, or, with adopt, go on with the one of a predecessor that served the same choice in the
 * same shape. Returns
 * 0 or -errno with `why`: -ENOENT there is none to go on with, -EAGAIN its process still runs (or is being reaped; try again). Where no
 * file can be made the log is private memory: all works, but nobody can adopt. */
int pv_inflight_open(const struct pv_connect *c, const struct pv_inflight_shape *shape, struct pv_inflight **out, char *why, size_t len);
struct pv_inflight_ring *pv_inflight_ring(struct pv_inflight *f, unsigned ring);
void *pv_inflight_area(struct pv_inflight *f); /* zeroed at first */
void pv_inflight_close(struct pv_inflight *f); /* the file stays, for a successor; NULL is fine */
void pv_inflight_remove(const struct pv_device_id *id); /* the device is gone: so is the file */

/* The same of a backend's process, `name`: an area of so many bytes for what is not a device's, as the process of that name before left it, or zeroed. Where it
 * cannot be a file it is private memory. Returns 0 or -errno with `why`: -EAGAIN that process still runs. */
int pv_inflight_open_process(const char *name, uint32_t bytes, struct pv_inflight **out, char *why, size_t len);
void pv_inflight_remove_process(const char *name); /* nobody is to know */

/* The compiler keeps to the order of the program; more is not needed, for a process is interrupted between instructions. */
static inline void pv_inflight_take(struct pv_inflight_ring *log, uint32_t cons)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* after what is noted of these requests */
	__atomic_store_n(&log->taken, cons, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* before what follows */
}

/* A record says from now on something else. */
static inline void pv_inflight_mark(uint64_t *mark, uint64_t value)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* after the record was filled */
	__atomic_store_n(mark, value, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* before what follows */
}

static inline void pv_inflight_answer(struct pv_inflight_ring *log, uint32_t prod)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* after what came before */
	__atomic_store_n(&log->answered, prod, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

#endif
