/* guest.c - guests: a domain with a store page, device pages and an announcement port. */
#include "pviod.h"
#include <ctype.h>
#include <pvio/hub.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/grant_table.h>

bool guest_name_ok(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n >= NAME_LEN || strspn(name, "0123456789") == n || !isalnum((unsigned char)*name))
		return false;
	return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

struct guest *guest_find(struct pviod *d, const char *name)
{
	struct guest *g;
	char *end;
	unsigned long n = strtoul(name, &end, 10);
	uint16_t domid = n;

	if (isdigit((unsigned char)*name) && *end == '\0' && n == domid)
		HASH_FIND(hh_domid, d->by_domid, &domid, sizeof(domid), g);
	else
		HASH_FIND(hh_name, d->by_name, name, strlen(name), g);
	return g;
}

/* The pages and ports of a guest whose domain exists. */
static int furnish(struct guest *g, char *why, size_t len)
{
	struct pv_hyper *h = g->d->hyper;
	uint32_t store_gref = GNTTAB_RESERVED_XENSTORE;
	int rc = pv_gnt_map(h, g->domid, &store_gref, 1, true, NULL, &g->store);

	if (rc < 0) {
		snprintf(why, len, "cannot map the store page of domain %u: %s", g->domid, pv_hyper_error(h));
		return rc;
	}
	rc = pv_evt_alloc(h, g->domid);
	if (rc < 0) {
		snprintf(why, len, "cannot allocate an announcement port: %s", pv_hyper_error(h));
		return rc;
	}
	g->port = rc;
	return 0;
}

/* The first device page exists from the start, for the pointer names it. */
static int announce(struct guest *g, char *why, size_t len)
{
	struct pv_noxs_pointer p = { .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 1, .port = g->port };
	int rc = slots_grow(g, why, len);

	if (rc < 0)
		return rc;
	p.gref = g->pages[0].gref;
	pv_noxs_pointer_write(g->store, &p);
	return 0;
}

int guest_create(struct pviod *d, const char *name, unsigned domid, struct guest **out, char *why, size_t len)
{
	struct guest *g = calloc(1, sizeof(*g));
	uint32_t store_port;
	int rc;

	*out = NULL;
	if (!g) {
		snprintf(why, len, "out of memory");
		return -ENOMEM;
	}
	g->d = d;
	g->dialect = &dialect_noxs;
	snprintf(g->name, sizeof(g->name), "%s", name);
	rc = pv_hub_domain_create(d->hyper, domid, &store_port);
	if (rc < 0) {
		snprintf(why, len, rc == -ENOTSUP ? "guests are made by this version on the loopback hypervisor only%s" : "%s",
			 rc == -ENOTSUP ? "" : pv_hyper_error(d->hyper));
		free(g);
		return rc;
	}
	g->domid = rc;
	g->domain = true;
	HASH_ADD(hh_domid, d->by_domid, domid, sizeof(g->domid), g);
	HASH_ADD(hh_name, d->by_name, name, strlen(g->name), g);
	rc = furnish(g, why, len);
	if (rc == 0)
		rc = announce(g, why, len);
	if (rc < 0) {
		guest_destroy(g);
		return rc;
	}
	*out = g;
	return 0;
}

void guest_destroy(struct guest *g)
{
	struct pviod *d = g->d;
	unsigned domid = g->domid;

	if (g->port)
		pv_evt_unbind(d->hyper, g->port);
	if (g->store)
		pv_gnt_unmap(d->hyper, g->store, 1);
	if (g->domain)
		pv_hub_domain_destroy(d->hyper, g->domid); /* its maps of our pages end with it, so none stays pinned */
	slots_free(g);
	HASH_DELETE(hh_domid, d->by_domid, g);
	HASH_DELETE(hh_name, d->by_name, g);
	free(g);
	waiters_guest(d, domid);
}

void guest_end(struct guest *g, bool force)
{
	struct device *dev;

	g->dying = true;
	for (dev = g->devices; dev; dev = dev->next)
		device_detach(dev, force);
	if (!g->devices)
		guest_destroy(g);
}
