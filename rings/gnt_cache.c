/* gnt_cache.c - mapped pages of one guest, kept between requests.
 *
 *	table	gref -> where it is mapped, read-only and writable; open addressing, at most half full
 *	call	what one map call mapped: pinned (pins > 0), or idle and then on the list, least recently used first
 *
 * A reference is in at most two calls, one of each kind. A read-only use takes the read-only page if there is one, else the
 * writable one. As a read-only page is mapped only where there is neither, the page that a use has pinned is found again by
 * the same rule when it is put.
 */
#include "gnt_cache.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

enum { PAGE = 4096 };

/* Owner: its cache. Lives from the get that maps it until evicted. */
struct call {
	TAILQ_ENTRY(call) idle; /* while pins == 0 */
	LIST_ENTRY(call) all;
	uint8_t *addr;
	uint32_t pins;
	uint32_t pages; /* mapped: n, or 0 before */
	uint64_t used; /* epoch of the last put */
	bool writable;
	uint32_t n;
	uint32_t grefs[];
};

struct slot {
	uint32_t gref;
	bool taken;
	struct side { struct call *call; uint32_t page; } side[2]; /* [writable]; call NULL: not mapped so */
};

struct pv_gnt_cache {
	struct pv_hyper *h;
	struct slot *slots;
	uint32_t mask, taken; /* slots - 1 */
	uint16_t domid;
	bool keep;
	uint64_t epoch;
	TAILQ_HEAD(, call) idle;
	LIST_HEAD(, call) all;
	struct pv_gnt_cache_stats stats;
};

/* ---- table ---- */

static inline uint32_t home(const struct pv_gnt_cache *c, uint32_t gref)
{
	return (gref * 0x9e3779b1u >> 8) & c->mask;
}

/* The slot of gref, or the empty one where it belongs. */
static inline struct slot *slot_of(const struct pv_gnt_cache *c, uint32_t gref)
{
	uint32_t i = home(c, gref);

	while (c->slots[i].taken && c->slots[i].gref != gref)
		i = (i + 1) & c->mask;
	return &c->slots[i];
}

static inline struct side *side_of(struct slot *s, bool writable)
{
	struct side *side = &s->side[writable || !s->side[0].call];

	return s->taken && side->call ? side : NULL;
}

/* The page's address; before its call is mapped, just some number. */
static inline void *side_addr(const struct side *side)
{
	return (void *)((uintptr_t)side->call->addr + (uintptr_t)side->page * PAGE);
}

static int table_grow(struct pv_gnt_cache *c, uint32_t nr)
{
	struct slot *old = c->slots, *new = calloc(nr, sizeof(*new));
	uint32_t i, old_nr = c->mask + 1;

	if (!new)
		return -ENOMEM;
	c->slots = new;
	c->mask = nr - 1;
	for (i = 0; old && i < old_nr; i++)
		if (old[i].taken)
			*slot_of(c, old[i].gref) = old[i];
	free(old);
	return 0;
}

static void table_del(struct pv_gnt_cache *c, struct slot *s)
{
	uint32_t i = s - c->slots, j;

	/* Move what follows into the hole, unless its home lies behind the hole. */
	for (j = (i + 1) & c->mask; c->slots[j].taken; j = (j + 1) & c->mask)
		if (((j - home(c, c->slots[j].gref)) & c->mask) >= ((j - i) & c->mask)) {
			c->slots[i] = c->slots[j];
			i = j;
		}
	c->slots[i] = (struct slot){ 0 };
	c->taken--;
}

/* ---- calls ---- */

static struct call *call_new(struct pv_gnt_cache *c, unsigned n, bool writable)
{
	struct call *call = calloc(1, sizeof(*call) + n * sizeof(call->grefs[0]));

	if (!call)
		return NULL;
	call->writable = writable;
	LIST_INSERT_HEAD(&c->all, call, all);
	TAILQ_INSERT_TAIL(&c->idle, call, idle);
	return call;
}

/* Unmap an idle call and forget its references. */
static void call_drop(struct pv_gnt_cache *c, struct call *call)
{
	uint32_t i;

	for (i = 0; i < call->n; i++) {
		struct slot *s = slot_of(c, call->grefs[i]);

		s->side[call->writable].call = NULL;
		if (!s->side[!call->writable].call)
			table_del(c, s);
	}
	if (call->pages)
		pv_gnt_unmap(c->h, call->addr, call->pages);
	c->stats.mapped -= call->pages;
	c->stats.calls -= call->pages != 0;
	TAILQ_REMOVE(&c->idle, call, idle);
	LIST_REMOVE(call, all);
	free(call);
}

static bool evict_one(struct pv_gnt_cache *c)
{
	struct call *call = TAILQ_FIRST(&c->idle);

	if (!call)
		return false;
	c->stats.evictions += call->pages;
	call_drop(c, call);
	return true;
}

static inline void call_pin(struct pv_gnt_cache *c, struct call *call)
{
	if (call->pins++)
		return;
	TAILQ_REMOVE(&c->idle, call, idle);
	c->stats.pinned += call->pages;
}

static inline void call_unpin(struct pv_gnt_cache *c, struct call *call)
{
	if (--call->pins)
		return;
	c->stats.pinned -= call->pages;
	call->used = c->epoch;
	TAILQ_INSERT_TAIL(&c->idle, call, idle);
	if (!c->keep || !call->pages)
		call_drop(c, call);
}

/* ---- get and put ---- */

/* A reference that is not mapped as wanted becomes a page of the call that will map it. */
static struct side *miss(struct pv_gnt_cache *c, uint32_t gref, unsigned n, bool writable, struct call **fresh)
{
	struct slot *s;

	if (!*fresh)
		*fresh = call_new(c, n, writable);
	if (!*fresh || (2 * c->taken > c->mask && table_grow(c, 2 * (c->mask + 1))))
		return NULL;
	s = slot_of(c, gref);
	if (!s->taken)
		c->taken++;
	s->taken = true;
	s->gref = gref;
	s->side[writable] = (struct side){ *fresh, (*fresh)->n };
	(*fresh)->grefs[(*fresh)->n++] = gref;
	return &s->side[writable];
}

static int map_fresh(struct pv_gnt_cache *c, struct call *fresh)
{
	void *addr;
	int err;

	while (c->stats.mapped + fresh->n > c->stats.limit)
		if (!evict_one(c))
			return -ENOSPC;
	/* Other caches share the domain's mappings: make room while we can. */
	do
		err = pv_gnt_map(c->h, c->domid, fresh->grefs, fresh->n, fresh->writable, NULL, &addr);
	while (err == -ENOSPC && evict_one(c));
	if (err)
		return err;
	fresh->addr = addr;
	fresh->pages = fresh->n;
	c->stats.mapped += fresh->n;
	c->stats.calls++;
	c->stats.pinned += fresh->n;
	c->stats.misses += fresh->n;
	return 0;
}

/* Unpin what was pinned so far; the call that could not be mapped goes with its last pin, or never had one. */
static void get_undo(struct pv_gnt_cache *c, const uint32_t *grefs, unsigned pinned, bool writable, struct call *fresh)
{
	bool unused = fresh && !fresh->pins;

	pv_gnt_cache_put(c, grefs, pinned, writable);
	if (unused)
		call_drop(c, fresh);
}

/* Addresses of a call that was mapped just now. */
static void get_addrs(struct pv_gnt_cache *c, const uint32_t *grefs, unsigned n, bool writable, void **addrs)
{
	unsigned i;

	for (i = 0; i < n; i++)
		addrs[i] = side_addr(side_of(slot_of(c, grefs[i]), writable));
}

int pv_gnt_cache_get(struct pv_gnt_cache *c, const uint32_t *grefs, unsigned n, bool writable, void **addrs)
{
	struct call *fresh = NULL;
	unsigned pinned = 0;
	int err = n > c->stats.limit ? -ENOSPC : 0;

	for (; pinned < n && !err; pinned++) {
		struct side *side = side_of(slot_of(c, grefs[pinned]), writable);

		if (__builtin_expect(!side, 0))
			side = miss(c, grefs[pinned], n, writable, &fresh);
		if (__builtin_expect(!side, 0)) {
			err = -ENOMEM;
			break;
		}
		call_pin(c, side->call);
		addrs[pinned] = side_addr(side);
	}
	if (__builtin_expect(fresh && !err, 0)) {
		err = map_fresh(c, fresh);
		if (!err)
			get_addrs(c, grefs, n, writable, addrs);
	}
	if (__builtin_expect(err, 0)) {
		get_undo(c, grefs, pinned, writable, fresh);
		return err;
	}
	c->stats.hits += n - (fresh ? fresh->n : 0);
	return 0;
}

void pv_gnt_cache_put(struct pv_gnt_cache *c, const uint32_t *grefs, unsigned n, bool writable)
{
	struct side *side;
	unsigned i;

	for (i = 0; i < n; i++) {
		side = side_of(slot_of(c, grefs[i]), writable);
		if (side && side->call->pins)
			call_unpin(c, side->call);
	}
}

unsigned pv_gnt_cache_trim(struct pv_gnt_cache *c)
{
	uint32_t before = c->stats.mapped;
	struct call *call;

	while ((call = TAILQ_FIRST(&c->idle)) && call->used < c->epoch)
		call_drop(c, call);
	c->epoch++;
	return before - c->stats.mapped;
}

void pv_gnt_cache_stats(const struct pv_gnt_cache *c, struct pv_gnt_cache_stats *out)
{
	*out = c->stats;
}

int pv_gnt_cache_new(struct pv_hyper *h, uint16_t domid, unsigned limit, bool keep, struct pv_gnt_cache **out)
{
	struct pv_gnt_cache *c = calloc(1, sizeof(*c));

	*out = NULL;
	if (!c)
		return -ENOMEM;
	if (table_grow(c, 64)) {
		free(c);
		return -ENOMEM;
	}
	c->h = h;
	c->domid = domid;
	c->keep = keep;
	c->epoch = 1;
	c->stats.limit = limit;
	TAILQ_INIT(&c->idle);
	*out = c;
	return 0;
}

void pv_gnt_cache_free(struct pv_gnt_cache *c)
{
	struct call *call;

	if (!c)
		return;
	while ((call = LIST_FIRST(&c->all))) {
		LIST_REMOVE(call, all);
		pv_gnt_unmap(c->h, call->addr, call->pages);
		free(call);
	}
	free(c->slots);
	free(c);
}
