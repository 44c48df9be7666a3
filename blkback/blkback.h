/* blkback.h - the structures of pvio-blkback and what its files offer each other.
 *
 *	control thread	main.c, config.c, vbd.c, report.c	options, pviod's calls, devices
 *	workers		blkworker.c, blkq.c, plan.c	one thread each: its queues, from the ring to the image and back
 *			adopt.c				what a queue leaves to the next process, and how that goes on
 *			uring.c (uring.h)		where a worker submits and sleeps
 *			image_*.c (image.h)		what the sectors are kept in
 * The control thread touches a worker's things only by pv_worker_call.
 */
#ifndef BLKBACK_H
#define BLKBACK_H

#include "image.h"
#include <json-c/json.h>
#include <pvio/backend.h>
#include <pvio/blk.h>
#include <pvio/gnt_cache.h>
#include <pvio/hyper.h>
#include <pvio/inflight.h>
#include <pvio/limit.h>
#include <pvio/log.h>
#include <pvio/worker.h>
#include <sys/queue.h>
#include <time.h>
#include <uthash.h>

struct blkq;

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- limit.c: how much a device may do ---- */

enum limit_kind { LIMIT_READ, LIMIT_WRITE, LIMIT_BOTH, LIMIT_KINDS };

/* As it is given; 0: no limit, or for the burst: as much as is normal. */
struct limits_config {
	uint64_t iops[LIMIT_KINDS], rate[LIMIT_KINDS] /* bytes */, burst /* bytes */;
};

struct limits;

/* *out: NULL if nothing is limited; else free() it. Returns 0 or -ENOMEM. */
int limits_new(const struct limits_config *c, uint64_t now, struct limits **out);
/* May this one pass? Else not before *until. Any worker. */
bool limits_pass(struct limits *l, const struct pv_blk_req *r, uint64_t now, uint64_t *until);
void limits_charge(struct limits *l, const struct pv_blk_req *r, uint64_t bytes); /* it has */

/* ---- config.c: the keys of a vbd ---- */

/* Owner: the vbd. path is its own copy. */
struct vbd_config {
	char *path;
	unsigned read_only, persistent, discard; /* 0 or 1 */
	unsigned direct; /* enum image_direct */
	unsigned sector; /* bytes: 512 or 4096 */
	unsigned cdrom, removable; /* 0 or 1: what the guest is told; a CD-ROM is read-only */
	unsigned queues; /* most that are offered */
	unsigned indirect; /* segments offered, 0: none */
	unsigned cache; /* mapped pages a queue, at most */
	unsigned wait; /* s for a server */
	struct limits_config limit;
};

/* Fill from key=value strings. Returns 0, or -EINVAL with what is wrong and what would be right in why; free it in both cases. */
int vbd_config_parse(struct json_object *pairs, struct vbd_config *out, char *why, size_t len);
void vbd_config_free(struct vbd_config *c);
/* Of what is fixed while the image is open, that is all but limits: are they the same? How many keys differ, and which? */
bool vbd_config_equal(const struct vbd_config *a, const struct vbd_config *b);
unsigned vbd_config_differ(const struct vbd_config *a, const struct vbd_config *b, char *names, size_t len);
struct json_object *vbd_config_to_json(const struct vbd_config *c); /* new: every key as it would be written */
void vbd_config_help(void); /* one line a key, to stdout */

/* ---- plan.c: pure ---- */

/* The iovec of a request of n segments, whose pages are mapped at pages[]; adjacent memory becomes one piece. iov holds n entries.
 * Returns how many it has; *bytes: in all. */
unsigned blkplan_iov(struct iovec *iov, const struct pv_blk_seg *segs, void *const *pages, unsigned n, uint64_t *bytes);

/* Append `next` to `head` if it goes the same way and begins where head ends, and head's iovec (of `room` entries) and a bound on
 * one I/O allow it. Returns whether it did; else both are as before. */
bool blkplan_join(struct image_io *head, const struct image_io *next, unsigned room);

/* Is it time, within a turn, to hand the kernel what waits? Of `begun` operations, `waiting` of them among these, it has the others. At PLAN_PART it always is: storage
 * works on these while we do on the rest. A disk at rest begins with the first, then has as many again each time. prompt: what is handed over has ended when the call returns, so
 * nothing works meanwhile and early calls are lost. */
enum { PLAN_PART = 8 };
static inline bool blkplan_is_part(unsigned waiting, unsigned begun, bool prompt)
{
	return waiting >= PLAN_PART || (waiting && !prompt && 2 * waiting >= begun);
}

/* ---- blkq.c: one queue of a connected vbd; everything on its worker's thread ---- */

/* Where a request is. In all states but FREE it is taken and not yet answered. */
enum blkr_state {
	BLKR_FREE, /* on the free list */
	BLKR_HELD, /* waits: for mapped pages to come free, for its device's limit, or as a barrier for all before it to end. The queue takes nothing meanwhile */
	BLKR_PLANNED, /* in the I/O that is being put together in this turn */
	BLKR_SYNC, /* the sync before its write is in flight */
	BLKR_IO, /* its I/O, or the one that it was merged into, is in flight */
	BLKR_AGAIN, /* that I/O failed: it will be tried alone, so that only the guilty one is answered with an error */
	BLKR_LEFT, /* taken by a process that has ended: will be begun again, in its order, before anything is taken */
};

/* What the in-flight log keeps of a request. */
struct blkr_record {
	union pv_blk_raw raw; /* as it was taken; its only private copy */
	uint64_t mark; /* adopt.c */
	uint64_t unused;
};

/* A request in flight. Owner: its queue, from blkq_open to blkq_close. The arrays are slices of the queue's. */
struct blkr {
	struct image_io io; /* first */
	struct blkq *q;
	struct blkr *next; /* on the free list and `again`; in an I/O: the request merged after this one */
	enum blkr_state state;
	bool pinned; /* its pages are */
	struct blkr_record *record; /* of the log; always the same */
	uint64_t bytes;
	int64_t cost; /* of its device's share, while it is in flight */
	struct pv_blk_req req;
	struct pv_blk_seg *segs; /* of an indirect request */
	uint32_t *grefs;
	struct iovec *iov;
};

struct blkq_stats {
	uint64_t reads, writes, flushes, barriers, discards; /* answered, well or not */
	uint64_t bytes_read, bytes_written; /* done */
	uint64_t errors, unsupported; /* answers of that kind */
	uint64_t bad_grefs; /* requests whose pages could not be mapped */
	uint64_t merged; /* requests that went along in another's I/O */
	uint64_t limited; /* times that a request waited because of its device's limits */
	uint64_t cache_full; /* times that a request waited because all pages of cache= were in use */
	uint64_t ios, retried; /* I/Os submitted; requests tried again alone */
	uint64_t replayed; /* requests that a process which ended had taken, and this one began again */
	uint64_t notifies, events, spurious; /* sent; received; received with no request behind it */
};

/* RUN: serves. STOP: takes nothing new, ends what it took. BROKEN: as STOP, and answers nothing. */
enum blkq_state { BLKQ_RUN, BLKQ_STOP, BLKQ_BROKEN };

/* On which of its worker's lists a queue is. IDLE: an event or a completion wakes it. ACTIVE: looked at each turn.
 * RESTING: its guest sent many events for nothing; looked at again a little later, and deaf until then (XSA-332);
 * or its device is beyond its limit. */
enum blkq_list { BLKQ_IDLE, BLKQ_ACTIVE, BLKQ_RESTING };

/* How often work came while a queue was being looked at in vain, rather than after. */
struct blkq_guess {
	uint8_t score; /* 0: only every now and then a pause is tried */
	uint8_t skipped; /* pauses since the last try */
};

/* What a queue is made of. Everything is checked. */
struct blkq_config {
	void *owner; /* the vbd, for blkworker_broken */
	uint16_t guest;
	uint32_t port; /* of the guest */
	const uint32_t *ring_gref;
	unsigned ring_order;
	enum pv_vbd_abi abi;
	bool persistent;
	unsigned cache; /* pages */
	struct image *image;
	struct limits *limit; /* NULL: none */
	struct pv_blk_disk disk;
	struct pv_inflight_ring *log; /* with struct blkr_record for each slot */
	bool adopt; /* go on where the log says */
};

/* Owner: its worker. Lifetime: blkq_open to blkq_close. */
struct blkq {
	struct blkworker *w;
	struct pv_ring ring;
	struct blkq_config c;
	enum blkq_state state;
	uint32_t port; /* local */
	bool masked; /* its port, since the last event */
	bool armed; /* the guest will notify */
	bool worked; /* something was taken or answered since the last look at the clock */
	bool took; /* something was taken since the last event */
	bool rested; /* since the last event */
	unsigned spurious; /* events in a row with nothing behind them */

	struct pv_gnt_cache *cache;
	unsigned inflight; /* requests that are neither FREE nor LEFT */
	struct blkr *free, *again, *left;
	struct blkr *held; /* at most one */
	struct blkr *barrier; /* being executed: nothing is taken */
	struct blkr *head, *tail; /* planned: the I/O that may still grow */
	unsigned iov_room; /* entries of each request's iovec */

	uint64_t until; /* ns: its device is beyond its limit until then; 0: it is not */
	struct share *share; /* of its device */
	bool starved; /* waits for what its device has in flight */
	TAILQ_ENTRY(blkq) sharing;

	enum blkq_list list;
	TAILQ_ENTRY(blkq) link; /* of ACTIVE or RESTING */
	TAILQ_ENTRY(blkq) all;
	TAILQ_ENTRY(blkq) broken;
	uint64_t due; /* ns: ACTIVE: when it may sleep; RESTING: when it is looked at again */
	struct blkq_guess guess[2]; /* is looking worth it: [1] with I/O in flight, [0] without */
	bool waits_for_io; /* which of them this pause is */
	bool looks; /* in this pause, before it sleeps */
	bool slept; /* in this pause */
	const char *why; /* it broke; NULL: it did not, or that was reported */
	struct blkq_stats stats;

	void *ring_pages;
	struct blkr *reqs;
	void **pages; /* scratch: addresses of one request's pages */
	uint32_t *all_grefs;
	struct iovec *all_iov;
	struct pv_blk_seg *all_segs;
};

/* Map the ring, bind the port, serve. Returns 0, or -errno with a line in why. */
int blkq_open(struct blkworker *w, const struct blkq_config *c, struct blkq **out, char *why, size_t len);
/* Give everything back. Nothing may be in flight. NULL is fine. */
void blkq_close(struct blkq *q);

/* Take what the guest published, within a budget, and start it. Returns whether there was anything to do. */
bool blkq_take(struct blkq *q);
/* Show the guest the answers since the last time, and notify it if it asked. */
void blkq_publish(struct blkq *q);
/* Ask for an event. Returns true if there is something to take already. */
bool blkq_rearm(struct blkq *q);

/* ---- adopt.c: what a queue leaves to the next process, and how that goes on ---- */

/* The log of a connection, or its predecessor's. Returns 0 or -errno with `why`: -EAGAIN that is not gone yet. */
int adopt_log_open(const struct pv_connect *c, struct pv_inflight **out, char *why, size_t len);
/* Begin the ring where the log says: what is owed is LEFT. Before anything is taken. Returns 0, or -ENOENT: the log makes no sense. */
int adopt_queue(struct blkq *q);
void adopt_arrive(struct blkq *q); /* its port is bound: show what was answered, and wake the guest, whom the old process may owe it */

enum { BLKR_TAKEN = 1, BLKR_ANSWERED };

/* One word, so that one store changes it: index is the request's of what is TAKEN, the response's of what is ANSWERED. */
static inline uint64_t adopt_mark(unsigned what, int16_t status, uint32_t index)
{
	return what | (uint64_t)(uint16_t)status << 16 | (uint64_t)index << 32;
}

/* The last request was copied into r's record: it is taken. */
static inline void adopt_log_take(struct blkq *q, struct blkr *r)
{
	pv_inflight_mark(&r->record->mark, adopt_mark(BLKR_TAKEN, 0, q->ring.cons - 1));
	pv_inflight_take(q->c.log, q->ring.cons);
}

/* Answer r: in its record, in the ring, in the log. */
static inline void adopt_log_answer(struct blkq *q, struct blkr *r, int16_t status)
{
	pv_inflight_mark(&r->record->mark, adopt_mark(BLKR_ANSWERED, status, q->ring.prod));
	pv_blk_fill_rsp(&q->ring, q->c.abi, r->req.id, r->req.op, status);
	pv_inflight_answer(q->c.log, q->ring.prod);
}

TAILQ_HEAD(blkq_head, blkq);

/* ---- share.c: a fair share of a worker for each device ---- */

/* What a device may take a turn, and have in flight, in bytes. A request costs a 64th at least. A map call, whether or not it succeeds, costs two turns: it
 * takes about as long as what others do in these. */
enum { SHARE_TURN = 1 << 18, SHARE_FLIGHT = 1 << 20, SHARE_MAP = 2 * SHARE_TURN };

/* A device on a worker. Owner: the worker, while it has queues of it. */
struct share {
	const void *owner; /* as blkq_config's */
	uint64_t turn; /* of the worker, in which the device was looked at, and */
	int64_t taken; /* so much was taken, or is owed for larger requests before */
	int64_t inflight;
	unsigned recent; /* 0: does not use the worker now */
	bool starved; /* one of its queues is */
	struct blkq_head queues;
	TAILQ_ENTRY(share) link;
};

int share_join(struct blkq *q); /* 0 or -ENOMEM */
void share_leave(struct blkq *q); /* who has not joined may too */
bool share_alone(const struct blkq *q); /* no other device uses its worker */
int64_t share_room(struct blkq *q); /* how much the queue may take now; 0 or less: nothing */
int64_t share_maps(const struct blkq *q, uint64_t calls); /* what so many map calls cost */
void share_took(struct blkq *q, int64_t cost); /* it has */
void share_feed(struct share *s);
void share_age(struct blkworker *w, uint64_t now);

static inline int64_t share_cost(const struct blkr *r, int64_t share)
{
	return (int64_t)r->bytes > share / 64 ? (int64_t)r->bytes : share / 64;
}

/* Its I/O begins, or it has ended. */
static inline void share_begin(struct blkr *r)
{
	r->cost = share_cost(r, SHARE_FLIGHT);
	r->q->share->inflight += r->cost;
}

static inline void share_end(struct blkr *r)
{
	struct share *s = r->q->share;

	s->inflight -= r->cost;
	r->cost = 0;
	if (s->starved && s->inflight < SHARE_FLIGHT)
		share_feed(s);
}

/* ---- blkworker.c: a thread and its turns ---- */

struct blkworker_options {
	const char *hypervisor; /* NULL: as the host */
	int domid; /* to be */
	int cpu; /* to run on, -1: any */
	unsigned poll_us; /* look for the end of I/O for so long, at most, before asking for an event; for requests THINKS_PART of it */
	int broken_fd; /* an eventfd: told when a queue breaks, or the hypervisor ended the worker's handle */
};

/* Owner: the control thread, which made it; all below `thread` is the thread's own. */
struct blkworker {
	struct pv_worker *thread;
	unsigned load; /* queues; the control thread's count */
	struct blkworker_options o;

	struct pv_hyper *hyper;
	struct uring uring;
	struct uring_poll events, mailbox;
	struct blkq_head active, resting, all, broken;
	TAILQ_HEAD(, share) shares;
	unsigned users; /* devices that use it now */
	struct blkq **by_port; /* local port -> queue */
	unsigned ports;
	uint64_t turns, sleeps, trimmed_at, aged_at;
	bool ended; /* atomic: the hypervisor ended our handle */
	int error; /* why it did not start */
	char why[256];
};

int blkworker_start(unsigned index, const struct blkworker_options *o, struct blkworker **out, char *why, size_t len);
void blkworker_stop(struct blkworker *w); /* its queues are closed. NULL is fine */

/* From the control thread. */
int blkworker_connect(struct blkworker *w, const struct blkq_config *c, struct blkq **out, char *why, size_t len);
void blkworker_quiesce(struct blkworker *w, struct blkq *q); /* it takes nothing any more; what is in flight goes on */
uint64_t blkworker_patience(void); /* until when a disconnect that begins now waits */
/* Stop a queue, wait for its I/O until then, and close it. -EAGAIN: I/O is still in flight; the queue stays, stopped. */
int blkworker_disconnect(struct blkworker *w, struct blkq *q, uint64_t until);
/* The device's limit is this one now; when the call has returned the worker knows the old one no more. */
void blkworker_limit(struct blkworker *w, struct blkq *q, struct limits *limit);
/* Is its hypervisor gone? Then nobody can be served. */
bool blkworker_ended(const struct blkworker *w);
/* The next queue that broke since the last time: its owner and reason. Returns false when there is none. */
bool blkworker_broken(struct blkworker *w, void **owner, const char **why);

/* From the worker's own files. */
int blkworker_port_add(struct blkworker *w, uint32_t port, struct blkq *q);
void blkworker_port_del(struct blkworker *w, uint32_t port);
void blkworker_wake(struct blkq *q); /* have it looked at in the next turn */
void blkworker_break(struct blkq *q, const char *why); /* why: a static string */

/* ---- vbd.c: devices, as pviod asks for them; the control thread ---- */

struct vbds;

enum vbd_state {
	VBD_PREPARED, /* its image is open and locked */
	VBD_CONNECTED, /* its queues serve */
	VBD_BROKEN, /* its guest broke the ring protocol: no queue serves; waits for disconnect */
};

/* Owner: vbds, control thread. Queues are their workers'. */
struct vbd {
	uint64_t key;
	struct pv_device_id id;
	enum vbd_state state;
	struct vbd_config config;
	struct image *image;
	struct limits *limit; /* NULL: none */
	struct pv_noxs_choice choice; /* CONNECTED */
	struct {
		struct blkworker *w;
		struct blkq *q;
	} queue[PV_NOXS_QUEUES_MAX];
	unsigned queues;
	struct pv_inflight *inflight; /* of the connection */
	uint64_t pause_us; /* it was adopted, so long after this process could serve; 0: it was not */
	char name[48]; /* "vbd xvda of guest 3" */
	struct pv_log_peer log;
	UT_hash_handle hh;
};

int vbds_new(struct blkworker **workers, unsigned n, struct vbds **out);
/* Lets go of every device; another process may then go on with it. Returns how many have I/O in flight that did not end in time: then
 * the process ends without freeing what that uses, and the kernel keeps its images locked until it has. */
unsigned vbds_free(struct vbds *v);
extern const struct pv_backend_ops vbd_ops; /* ctx: struct vbds */
void vbd_offer(const struct vbd *d, struct pv_noxs_vbd_offer *offer);
struct vbd *vbd_find(struct vbds *v, const struct pv_device_id *id); /* or NULL */

/* Log the devices that broke and tell pviod. Call when broken_fd is readable. */
void vbds_report_broken(struct vbds *v, struct pv_backend *b);

/* ---- resize.c ---- */

void vbd_look_size(struct vbd *d); /* the image's present size is the disk's, if it says one */
/* "resize" {size, force}: answered by an offer, as set is. size in bytes, 0: as the image is now. */
struct json_object *vbd_ask(void *ctx, const struct pv_device_id *id, const char *what, struct json_object *params, int *error, char *why,
			    size_t len);

/* ---- report.c ---- */

struct json_object *vbd_stats(void *ctx, const struct pv_device_id *id);
struct json_object *vbd_inspect(void *ctx, const struct pv_device_id *id);

#endif
