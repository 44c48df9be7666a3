/* guest.c - guests: a domain with a store page, device pages, an announcement port and, on Xen, a console. */
#include "console.h"
#include "guest_store.h"
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

	if (rc < 0)
		return pv_why(why, len, rc, "cannot map the store page of domain %u: %s", g->domid, pv_hyper_error(h));
	rc = pv_evt_alloc(h, g->domid);
	if (rc < 0)
		return pv_why(why, len, rc, "cannot allocate an announcement port: %s", pv_hyper_error(h));
	g->port = rc;
	if (!g->domain.made.console_port)
		return 0;
	/* not served, a console stops its guest: Linux waits until there is room for what it says */
	return console_open(g->d, g->name, g->domid, GNTTAB_RESERVED_CONSOLE, g->domain.made.console_port, &g->console, why, len);
}

static void unfurnish(struct guest *g)
{
	guest_store_close(g);
	if (g->port)
		pv_evt_unbind(g->d->hyper, g->port);
	if (g->store)
		pv_gnt_unmap(g->d->hyper, g->store, 1);
	console_close(g->console);
	g->port = 0;
	g->store = NULL;
	g->console = NULL;
}

void guest_pointer(const struct guest *g, struct pv_noxs_pointer *p)
{
	*p = (struct pv_noxs_pointer){ .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 1, .gref = g->pages[0].gref,
				       .port = g->port };
}

/* The first device page exists from the start, for the pointer names it. */
static int announce(struct guest *g, char *why, size_t len)
{
	struct pv_noxs_pointer p;
	int rc = slots_grow(g, why, len);

	if (rc < 0)
		return rc;
	guest_pointer(g, &p);
	pv_noxs_pointer_write(g->store, &p);
	/* where another toolstack's xenstored has the port, it serves the ring */
	return g->domain.made.store_port ? guest_store_open(g, &p, why, len) : 0;
}

int guest_adopt(struct pviod *d, const char *name, const struct guest_domain *domain, struct guest **out, char *why, size_t len)
{
	struct guest *g = calloc(1, sizeof(*g));
	int rc;

	*out = NULL;
	if (!g)
		return pv_why(why, len, -ENOMEM, "out of memory");
	g->d = d;
	g->dialect = &dialect_noxs;
	g->domain = *domain;
	g->domid = domain->made.domid;
	snprintf(g->name, sizeof(g->name), "%s", name);
	HASH_ADD(hh_domid, d->by_domid, domid, sizeof(g->domid), g);
	HASH_ADD(hh_name, d->by_name, name, strlen(g->name), g);
	rc = furnish(g, why, len);
	if (rc == 0)
		rc = announce(g, why, len);
	if (rc < 0) {
		unfurnish(g);
		guest_free(g);
		return rc;
	}
	if (domains_are_here(d))
		domains_watch(d);
	if (domains_are_here(d) && g->nodes)
		g->dialect = &dialect_store; /* a kernel finds those by itself; on loopback it is our own frontends that look */
	*out = g;
	return 0;
}

int guest_create(struct pviod *d, const char *name, unsigned domid, struct guest **out, char *why, size_t len)
{
	struct guest_domain domain = { .owned = true };
	int rc = pv_hub_domain_create(d->hyper, domid, &domain.made.store_port);

	*out = NULL;
	if (rc < 0)
		return pv_why(why, len, rc, "%s", rc == -ENOTSUP ? "a domain of Xen is built from a kernel" : pv_hyper_error(d->hyper));
	domain.made.domid = rc;
	rc = guest_adopt(d, name, &domain, out, why, len);
	if (rc < 0)
		pv_hub_domain_destroy(d->hyper, domain.made.domid);
	return rc;
}

void guest_free(struct guest *g)
{
	struct pviod *d = g->d;
	unsigned domid = g->domid;

	slots_free(g);
	HASH_DELETE(hh_domid, d->by_domid, g);
	HASH_DELETE(hh_name, d->by_name, g);
	free(g);
	waiters_guest(d, domid);
}

/* The domain goes before our pages: its maps of them end with it, so none stays pinned. */
void guest_destroy(struct guest *g)
{
	if (g->ended)
		return;
	g->ended = g->dying = true;
	if (claim_is_foreign(g))
		claim_guest_end(g);
	unfurnish(g);
	if (g->domain.owned && domains_are_here(g->d)) {
		domains_destroy(g);
		return;
	}
	if (g->domain.owned)
		pv_hub_domain_destroy(g->d->hyper, g->domid);
	guest_free(g);
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
