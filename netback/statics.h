/* statics.h - static grants of one queue (netif.h, control messages 8-10): pages that the guest left with us, found by their reference.
 *
 * A table never changes: the control thread builds another one, and the queue's worker takes that between two turns. */
#ifndef NETBACK_STATICS_H
#define NETBACK_STATICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct statics {
	uint32_t mask;
	struct static_page {
		uint8_t *addr; /* NULL: an empty place */
		uint32_t gref;
		bool writable;
	} slot[];
};

static inline uint32_t statics_home(uint32_t gref, uint32_t mask)
{
	return (gref * 0x9e3779b1u >> 12) & mask;
}

/* Where a page is mapped, NULL: it is not, or not so. */
static inline uint8_t *statics_find(const struct statics *s, uint32_t gref, bool write)
{
	for (uint32_t i = statics_home(gref, s->mask); s->slot[i].addr; i = (i + 1) & s->mask)
		if (s->slot[i].gref == gref)
			return write && !s->slot[i].writable ? NULL : s->slot[i].addr;
	return NULL;
}

struct static_set;
struct pv_hyper;
struct xen_netif_gref;
struct keep_list;

/* The control thread's side: what is mapped for a queue. */
struct static_set *statics_new(struct pv_hyper *h, uint16_t guest); /* NULL: no memory */
void statics_free(struct static_set *set); /* unmaps all; nobody may use a table of it any more. NULL is fine */
/* Map a list, a private copy: all of it or nothing. Returns 0, or -errno: the guest's list is bad or a limit is reached. */
int statics_add(struct static_set *set, const struct xen_netif_gref *list, unsigned n);
/* Take what is in the list out of the set; the status of each entry is filled in. Returns how many. They stay mapped until statics_unmap. */
unsigned statics_del(struct static_set *set, struct xen_netif_gref *list, unsigned n);
void statics_shrink(struct static_set *set, unsigned n); /* take back what was added behind the first n */
void statics_unmap(struct static_set *set); /* what was taken out since the last call, once no table has it any more */
int statics_table(const struct static_set *set, struct statics **out); /* a table of what is in the set, NULL for nothing; the caller's to free */
unsigned statics_count(const struct static_set *set);
void statics_list(const struct static_set *set, struct keep_list *out); /* what is in the set, as statics_add takes it */

#endif
