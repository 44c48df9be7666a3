/* ring.h - a lockless request/response ring in shared pages, as in Xen's io/ring.h.
 *
 * One core serves both ends and every slot size. The shared page is the peer's to write at any instant,
 * so everything that we rely on (indices, sizes, what we published) lives in the private struct pv_ring and
 * is never read back from the page. The life of a batch, the same at both ends:
 *
 *	n = pv_ring_ready(r)			how many slots the peer has published; -EPROTO: it lies (or pv_ring_ready_for: a batch of few)
 *	slot = pv_ring_take(r)	n times		copy each ONCE (the typed wrappers of net.h and blk.h do), then check the copy
 *	slot = pv_ring_fill(r)	per answer	write every byte of it in place
 *	if (pv_ring_publish(r)) notify		once a batch
 *	n = pv_ring_rearm(r, 1)			before sleeping; n > 0: something came meanwhile, do not sleep
 *
 * One ring belongs to one thread at each end. Nothing here sleeps, allocates or makes a system call.
 * Atomics on shared pages are here and, for the slow pages of the handshake, in noxs.c; nowhere else.
 */
#ifndef PV_RING_H
#define PV_RING_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <xen/io/ring.h>

/* The header of 64 bytes that every ring of Xen begins with: req_prod, req_event, rsp_prod, rsp_event. */
DEFINE_RING_TYPES(pv_any, uint8_t, uint8_t);

enum { PV_PAGE_SIZE = 4096, PV_CACHE_LINE = 64, PV_RING_AHEAD = 8 /* slots */ };

/* ---- one index in shared memory, and the event by which its reader asks to be woken; a ring, or a pipe (pipe.h), has several ---- */

/* Read the peer's index. Pairs with the store in the peer's pv_index_publish: what lies before the index is visible after it. */
static inline uint32_t pv_index_load(const uint32_t *index)
{
	return __atomic_load_n(index, __ATOMIC_ACQUIRE);
}

/* Move our index, where the peer is notified of every move or looks by itself: what lies before the index is visible before it, to the
 * peer's pv_index_load or the like. */
static inline void pv_index_store(uint32_t *index, uint32_t now)
{
	__atomic_store_n(index, now, __ATOMIC_RELEASE);
}

/* Move our index from old to now. Returns true if the peer must be notified: its event lies in (old, now]. */
static inline bool pv_index_publish(uint32_t *index, const uint32_t *event, uint32_t old, uint32_t now)
{
	uint32_t asked;

	/* Store index, then load event; the peer's pv_index_rearm stores event, then loads index. All four are seq_cst, so that
	 * one of the two sees the other's store and no wake-up is lost. The store also releases what lies before the index to
	 * pv_index_load. */
	__atomic_store_n(index, now, __ATOMIC_SEQ_CST);
	asked = __atomic_load_n(event, __ATOMIC_SEQ_CST);
	return now - asked < now - old;
}

/* Ask to be notified when the peer's index reaches `at`, and look at the index once more. */
static inline uint32_t pv_index_rearm(uint32_t *event, uint32_t at, const uint32_t *index)
{
	/* Pairs with pv_index_publish, which says why. */
	__atomic_store_n(event, at, __ATOMIC_SEQ_CST);
	return __atomic_load_n(index, __ATOMIC_SEQ_CST);
}

/* ---- the ring ---- */

/* Owner: the thread that works this end. Lifetime: from init until that thread stops using it; nothing to free. */
struct pv_ring {
	struct pv_any_sring *shared; /* the peer writes here too */
	uint8_t *slots;
	uint32_t nr; /* slots, a power of two */
	uint32_t slot_size;
	uint32_t prod; /* the next slot that we fill */
	uint32_t cons; /* the next slot that we take */
	uint32_t published; /* prod as the peer knows it */
	uint32_t seen; /* slots before it have been counted */
	uint32_t armed; /* what our event index says, if has_armed */
	bool has_armed;
	bool back;
};

/* How many slots of slot_size bytes a ring of `bytes` bytes has: the largest power of two that fits. */
static inline uint32_t pv_ring_slots(size_t bytes, uint32_t slot_size)
{
	size_t room = bytes - offsetof(struct pv_any_sring, ring);
	uint32_t nr = 1;

	while ((size_t)nr * 2 * slot_size <= room)
		nr *= 2;
	return nr;
}

static inline void pv_ring_init(struct pv_ring *r, void *pages, size_t bytes, uint32_t slot_size, bool back)
{
	*r = (struct pv_ring){
		.shared = pages,
		.slots = (uint8_t *)pages + offsetof(struct pv_any_sring, ring),
		.nr = pv_ring_slots(bytes, slot_size),
		.slot_size = slot_size,
		.back = back,
	};
}

/* Begin a ring as its frontend. The header is reset, so the backend must not be attached yet.
 * pages: page-aligned shared memory of `bytes` bytes (a multiple of PV_PAGE_SIZE). */
static inline void pv_ring_init_front(struct pv_ring *r, void *pages, size_t bytes, uint32_t slot_size)
{
	struct pv_any_sring *s = pages;

	memset(s, 0, offsetof(struct pv_any_sring, ring));
	s->req_event = s->rsp_event = 1; /* as SHARED_RING_INIT of io/ring.h */
	pv_ring_init(r, pages, bytes, slot_size, false);
}

/* Begin a ring as its backend, at index 0: the frontend may have published requests already. Arguments as above. */
static inline void pv_ring_init_back(struct pv_ring *r, void *pages, size_t bytes, uint32_t slot_size)
{
	pv_ring_init(r, pages, bytes, slot_size, true);
}

/* Go on as the backend of a ring whose last one has died: it had answered all before `answered`, and taken all before `taken`, by a
 * log that it kept (inflight.h); nothing is read from the page. What it answered and did not yet publish is published now; the frontend is
 * to be notified in any case. Arguments as above. */
static inline void pv_ring_init_adopted(struct pv_ring *r, void *pages, size_t bytes, uint32_t slot_size, uint32_t answered, uint32_t taken)
{
	pv_ring_init(r, pages, bytes, slot_size, true);
	r->prod = r->published = answered;
	r->cons = r->seen = taken;
	pv_index_publish(&r->shared->rsp_prod, &r->shared->rsp_event, answered, answered);
}

/* Most that the peer may honestly have published and we not taken.
 * Backend: a request needs a slot whose last answer the frontend could have seen. Frontend: no answer without a request. */
static inline uint32_t pv_ring_window(const struct pv_ring *r)
{
	return (r->back ? r->prod + r->nr : r->published) - r->cons;
}

/* What the peer's index says is counted, if it can be true. */
static inline int pv_ring_count(struct pv_ring *r, uint32_t peer_prod)
{
	uint32_t n = peer_prod - r->cons;

	if (n > pv_ring_window(r)) /* XSA-39: a difference, never a comparison of indices */
		return -EPROTO;
	r->seen = peer_prod;
	return (int)n;
}

/* How many slots may be taken now, >= 0, or -EPROTO when the peer's index is impossible.
 * One call a batch: the acquire covers every slot that it counts. */
static inline int pv_ring_ready(struct pv_ring *r)
{
	return pv_ring_count(r, pv_index_load(r->back ? &r->shared->req_prod : &r->shared->rsp_prod));
}

/* Slots that were counted and not yet taken. */
static inline uint32_t pv_ring_counted(const struct pv_ring *r)
{
	uint32_t n = r->seen - r->cons;

	return n <= r->nr ? n : 0;
}

/* As pv_ring_ready, for who takes `want` at most for now: where so many are counted already it need not fetch the line of the indices, which
 * both ends write. What was counted may be taken whatever the peer says since; that its index became impossible is noticed when they are
 * used up. */
static inline int pv_ring_ready_for(struct pv_ring *r, uint32_t want)
{
	uint32_t counted = pv_ring_counted(r);

	return counted >= want ? (int)counted : pv_ring_ready(r);
}

static inline void *pv_ring_slot(const struct pv_ring *r, uint32_t index)
{
	return r->slots + (size_t)(index & (r->nr - 1)) * r->slot_size;
}

/* Whoever knows the size of a slot says so, and it is multiplied by a constant. */
static inline void pv_ring_of(const struct pv_ring *r, uint32_t slot_size)
{
	if (r->slot_size != slot_size)
		__builtin_unreachable();
}

/* Fetch a cache line to be written. gcc emits this instruction for __builtin_prefetch with -mprfchw alone, and a
 * plain prefetch, which saves nothing, without. Every x86-64 processor of this century executes it or takes it for a nop. */
static inline void pv_prefetch_write(const volatile void *p)
{
#ifdef __x86_64__
	__asm__ volatile("prefetchw (%0)" : : "r"(p));
#else
	__builtin_prefetch((const void *)p, 1);
#endif
}

/* Fetch len bytes that come soon, into the second cache, which waits for more lines at once than the first does. */
static inline void pv_fetch(const void *p, size_t len)
{
	for (size_t at = 0; at < len; at += PV_CACHE_LINE)
		__builtin_prefetch((const uint8_t *)p + at, 0, 2);
}

/* As memcpy, but without its call for what is short: a call stores too, and a core holds few stores that wait for lines of another one's. Both halves may
 * overlap. */
static inline void pv_copy(void *to, const void *from, size_t len)
{
	size_t half = len <= PV_CACHE_LINE ? PV_CACHE_LINE / 2 : PV_CACHE_LINE;

	if (len < half || len > 2 * half) {
		memcpy(to, from, len);
	} else if (half == PV_CACHE_LINE) {
		memcpy(to, from, PV_CACHE_LINE);
		memcpy((uint8_t *)to + len - PV_CACHE_LINE, (const uint8_t *)from + len - PV_CACHE_LINE, PV_CACHE_LINE);
	} else {
		memcpy(to, from, PV_CACHE_LINE / 2);
		memcpy((uint8_t *)to + len - PV_CACHE_LINE / 2, (const uint8_t *)from + len - PV_CACHE_LINE / 2, PV_CACHE_LINE / 2);
	}
}

/* As memcpy, and meanwhile as pv_fetch of next_len bytes at `next`, line by line. next_len 0: next is not looked at. */
static inline void pv_copy_fetching(void *to, const void *from, size_t len, const void *next, size_t next_len)
{
	size_t at = 0;

	for (; at < next_len && at + PV_CACHE_LINE <= len; at += PV_CACHE_LINE) {
		__builtin_prefetch((const uint8_t *)next + at, 0, 2);
		memcpy((uint8_t *)to + at, (const uint8_t *)from + at, PV_CACHE_LINE);
	}
	memcpy((uint8_t *)to + at, (const uint8_t *)from + at, len - at);
	if (at < next_len)
		pv_fetch((const uint8_t *)next + at, next_len - at);
}

/* The next slot to read, only after it was counted. The peer can rewrite it at any time (XSA-155):
 * copy it once through this volatile pointer into private memory, then check and use only the copy. */
static inline const volatile void *pv_ring_take(struct pv_ring *r)
{
	/* A backend reads a slot and then answers in it: fetched for writing at once, a line crosses between the cores once
	 * and not twice (a third of the time of a batch of 32). Never a slot that was not counted: the peer is filling it. */
	if (r->back && pv_ring_counted(r) > PV_RING_AHEAD)
		pv_prefetch_write(pv_ring_slot(r, r->cons + PV_RING_AHEAD));
	return pv_ring_slot(r, r->cons++);
}

/* Slots that may be filled now. Frontend: free request slots. Backend: answers that it still owes. */
static inline uint32_t pv_ring_room(const struct pv_ring *r)
{
	return r->back ? r->cons - r->prod : r->nr - (r->prod - r->cons);
}

/* The next slot to write, only while pv_ring_room says so. Write every byte of it (XSA-216); the peer sees it after publish. */
static inline void *pv_ring_fill(struct pv_ring *r)
{
	return pv_ring_slot(r, r->prod++);
}

/* Show the peer all that was filled. Returns true if it must be notified: it asked, with its event index, to be woken
 * by one of the slots that became visible just now. */
static inline bool pv_ring_publish(struct pv_ring *r)
{
	uint32_t old = r->published;

	if (r->prod == old)
		return false;
	r->published = r->prod;
	return pv_index_publish(r->back ? &r->shared->rsp_prod : &r->shared->req_prod,
				r->back ? &r->shared->rsp_event : &r->shared->req_event, old, r->prod);
}

/* Ask to be notified when the peer publishes its `after`-th slot from now (1: the very next), then look once more.
 * Returns as pv_ring_ready; only after 0 may the caller sleep. */
static inline int pv_ring_rearm(struct pv_ring *r, uint32_t after)
{
	uint32_t at = r->cons + after;

	/* Who looks again and again asks once: another store would take the indices' cache line from the peer for nothing. */
	if (r->has_armed && r->armed == at)
		return pv_ring_count(r, pv_index_load(r->back ? &r->shared->req_prod : &r->shared->rsp_prod));
	r->armed = at;
	r->has_armed = true;
	return pv_ring_count(r, pv_index_rearm(r->back ? &r->shared->req_event : &r->shared->rsp_event, at,
					       r->back ? &r->shared->req_prod : &r->shared->rsp_prod));
}

#endif
