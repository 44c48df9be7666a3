/* statics.c - the control thread's side of static grants: lists are mapped by one call each (two, if some of their pages are
 * read-only), and a call is unmapped when the last of its pages was taken out. Bounded in pages, and in calls, each of which is a mapping. */
#include "statics.h"
#include "keep.h"
#include <errno.h>
#include <pvio/gnt_cache.h>
#include <stdlib.h>

enum { CALLS_MAX = 32 };

/* Owner: control thread. */
struct static_set {
	struct pv_gnt_cache *cache;
	unsigned nr, nr_out;
	struct static_page page[STATIC_MAX], out[STATIC_MAX];
};

struct static_set *statics_new(struct pv_hyper *h, uint16_t guest)
{
	struct static_set *set = calloc(1, sizeof(*set));

	if (set && pv_gnt_cache_new(h, guest, 2 * STATIC_MAX, false, &set->cache) == 0)
		return set;
	free(set);
	return NULL;
}

void statics_free(struct static_set *set)
{
	if (!set)
		return;
	pv_gnt_cache_free(set->cache);
	free(set);
}

unsigned statics_count(const struct static_set *set)
{
	return set->nr;
}

void statics_list(const struct static_set *set, struct keep_list *out)
{
	out->nr = set->nr;
	for (unsigned i = 0; i < set->nr; i++)
		out->page[i] = (struct xen_netif_gref){ .ref = set->page[i].gref,
							.flags = set->page[i].writable ? 0 : XEN_NETIF_CTRLF_GREF_readonly };
}

static int find(const struct static_set *set, uint32_t gref)
{
	for (unsigned i = 0; i < set->nr; i++)
		if (set->page[i].gref == gref)
			return (int)i;
	return -1;
}

/* Pages of a list of one kind, behind those that are in the set. Returns how many, or -EEXIST: one is there already. */
static int collect(struct static_set *set, const struct xen_netif_gref *list, unsigned n, bool writable, unsigned at, uint32_t *grefs)
{
	unsigned taken = 0;

	for (unsigned i = 0; i < n; i++) {
		if (!(list[i].flags & XEN_NETIF_CTRLF_GREF_readonly) != writable)
			continue;
		for (unsigned k = 0; k < at + taken; k++)
			if (set->page[k].gref == list[i].ref)
				return -EEXIST;
		set->page[at + taken] = (struct static_page){ .gref = list[i].ref, .writable = writable };
		grefs[taken++] = list[i].ref;
	}
	return (int)taken;
}

static int map(struct static_set *set, const uint32_t *grefs, unsigned n, unsigned at, bool writable)
{
	void *addr[STATIC_MAX];
	int ret = n ? pv_gnt_cache_get(set->cache, grefs, n, writable, addr) : 0;

	for (unsigned i = 0; ret == 0 && i < n; i++)
		set->page[at + i].addr = addr[i];
	return ret;
}

int statics_add(struct static_set *set, const struct xen_netif_gref *list, unsigned n)
{
	uint32_t read_only[STATIC_MAX], writable[STATIC_MAX];
	struct pv_gnt_cache_stats stats;
	int nr_ro, nr_rw, ret;

	pv_gnt_cache_stats(set->cache, &stats);
	if (n > STATIC_MAX - set->nr || stats.calls + 2 > CALLS_MAX)
		return -ENOSPC;
	nr_ro = collect(set, list, n, false, set->nr, read_only);
	if (nr_ro < 0)
		return nr_ro;
	nr_rw = collect(set, list, n, true, set->nr + (unsigned)nr_ro, writable);
	if (nr_rw < 0)
		return nr_rw;
	ret = map(set, read_only, (unsigned)nr_ro, set->nr, false);
	if (ret < 0)
		return ret;
	ret = map(set, writable, (unsigned)nr_rw, set->nr + (unsigned)nr_ro, true);
	if (ret < 0) {
		pv_gnt_cache_put(set->cache, read_only, (unsigned)nr_ro, false);
		return ret;
	}
	set->nr += n;
	return 0;
}

unsigned statics_del(struct static_set *set, struct xen_netif_gref *list, unsigned n)
{
	unsigned done = 0;

	for (unsigned i = 0; i < n; i++) {
		int at = find(set, list[i].ref);

		list[i].status = at < 0 ? XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER : XEN_NETIF_CTRL_STATUS_SUCCESS;
		if (at < 0)
			continue;
		set->out[set->nr_out++] = set->page[at];
		set->page[at] = set->page[--set->nr];
		done++;
	}
	return done;
}

void statics_unmap(struct static_set *set)
{
	while (set->nr_out) {
		const struct static_page *p = &set->out[--set->nr_out];

		pv_gnt_cache_put(set->cache, &p->gref, 1, p->writable);
	}
}

void statics_shrink(struct static_set *set, unsigned n)
{
	while (set->nr > n)
		set->out[set->nr_out++] = set->page[--set->nr];
	statics_unmap(set);
}

int statics_table(const struct static_set *set, struct statics **out)
{
	uint32_t places = 16;

	*out = NULL;
	if (!set->nr)
		return 0;
	while (places < 2 * set->nr)
		places *= 2;
	*out = calloc(1, sizeof(**out) + places * sizeof((*out)->slot[0]));
	if (!*out)
		return -ENOMEM;
	(*out)->mask = places - 1;
	for (unsigned i = 0; i < set->nr; i++) {
		uint32_t at = statics_home(set->page[i].gref, places - 1);

		while ((*out)->slot[at].addr)
			at = (at + 1) & (places - 1);
		(*out)->slot[at] = set->page[i];
	}
	return 0;
}
