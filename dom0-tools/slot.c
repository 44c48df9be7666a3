/* slot.c - the control pages and device page entries of a guest. */
#include "pviod.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct pv_noxs_device_page *page_of(struct guest *g, unsigned slot)
{
	return g->pages[slot / PV_NOXS_ENTRIES].page;
}

void slot_entry_write(struct guest *g, unsigned slot, const struct pv_noxs_entry *e)
{
	pv_noxs_device_write(page_of(g, slot), slot % PV_NOXS_ENTRIES, e);
	pv_evt_notify(g->d->hyper, g->port);
}

/* One more device page, linked from the last one only when it is complete. */
int slots_grow(struct guest *g, char *why, size_t len)
{
	struct device_page *p = &g->pages[g->npages];
	struct slot *slots = realloc(g->slots, (g->npages + 1) * PV_NOXS_ENTRIES * sizeof(*slots));
	void *addr;
	int rc;

	if (!slots) {
		snprintf(why, len, "out of memory");
		return -ENOMEM;
	}
	g->slots = slots;
	rc = pv_gnt_share(g->d->hyper, g->domid, 1, false, NULL, &p->gref, &addr);
	if (rc < 0) {
		snprintf(why, len, "cannot share a device page: %s", pv_hyper_error(g->d->hyper));
		return rc;
	}
	p->page = addr;
	memset(slots + g->npages * PV_NOXS_ENTRIES, 0, PV_NOXS_ENTRIES * sizeof(*slots));
	pv_noxs_device_init(p->page, g->domid);
	if (g->npages > 0)
		pv_noxs_device_link(g->pages[g->npages - 1].page, p->gref);
	g->npages++;
	return 0;
}

int slot_take(struct guest *g, struct device *dev, char *why, size_t len)
{
	unsigned n = g->npages * PV_NOXS_ENTRIES, slot;
	void *addr;
	int rc;

	for (slot = 0; slot < n && g->slots[slot].device; slot++)
		;
	if (slot == n) {
		rc = g->npages < DEVICE_PAGES_MAX ? slots_grow(g, why, len) : -ENOSPC;
		if (rc < 0)
			return rc;
	}
	if (!g->slots[slot].page) {
		rc = pv_gnt_share(g->d->hyper, g->domid, 1, true, NULL, &g->slots[slot].gref, &addr);
		if (rc < 0) {
			snprintf(why, len, "cannot share a control page: %s", pv_hyper_error(g->d->hyper));
			return rc;
		}
		g->slots[slot].page = addr;
	}
	g->slots[slot].device = dev;
	return slot;
}

void slot_put(struct guest *g, unsigned slot)
{
	const struct pv_noxs_entry hole = { .type = PV_NOXS_NONE };

	slot_entry_write(g, slot, &hole);
	g->slots[slot].device = NULL;
}

void slots_free(struct guest *g)
{
	for (unsigned i = 0; i < g->npages * PV_NOXS_ENTRIES; i++)
		if (g->slots[i].page)
			pv_gnt_unshare(g->d->hyper, g->slots[i].page, 1);
	for (unsigned i = 0; i < g->npages; i++)
		pv_gnt_unshare(g->d->hyper, g->pages[i].page, 1);
	free(g->slots);
	g->slots = NULL;
	g->npages = 0;
}
