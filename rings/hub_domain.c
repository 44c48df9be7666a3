/* hub_domain.c - domains of the hub: create, destroy, list, and fault injection. */
#include "hub_int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct hub_dom *hub_dom_get(struct pv_hub *hub, uint32_t domid)
{
	return domid < HUB_DOMIDS ? hub->dom[domid] : NULL;
}

/* The grant table: a file that we write through one mapping and everyone else can only read. */
static int table_new(struct hub_dom *d, uint32_t n)
{
	size_t bytes = hub_table_bytes(n);
	int fd = hub_memfd("pvio-grants", bytes, 0);
	void *p;

	if (fd < 0)
		return fd;
	d->table_fd = fd;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	d->table = p;
	if (fcntl(fd, F_ADD_SEALS, HUB_SEALS | HUB_SEAL_READ_ONLY))
		return -errno;
	d->grefs = n;
	d->gref = calloc(n, sizeof(*d->gref));
	return d->gref ? 0 : -ENOMEM;
}

int hub_dom_new(struct pv_hub *hub, uint16_t domid, struct hub_dom **out)
{
	struct hub_dom *d = calloc(1, sizeof(*d));
	int err;

	if (!d)
		return -ENOMEM;
	d->domid = d->count.domid = domid;
	d->table_fd = -1;
	d->fresh = HUB_GREF_FIRST;
	d->port_hint = 1;
	d->port = calloc(hub->limits.ports + 1, sizeof(*d->port));
	err = d->port ? table_new(d, HUB_GREF_FIRST + hub->limits.grants) : -ENOMEM;
	if (err) {
		hub_dom_free(hub, d);
		return err;
	}
	hub->domains++;
	*out = d;
	hub->dom[domid] = d;
	return 0;
}

/* Everything of it goes; also called for one half built. */
void hub_dom_free(struct pv_hub *hub, struct hub_dom *d)
{
	struct hub_conn *c, *next;
	struct hub_file *f;
	uint32_t i;

	for (c = LIST_FIRST(&hub->conns); c; c = next) {
		next = LIST_NEXT(c, link);
		if (c->dom == d)
			hub_cut(hub, c);
	}
	for (i = 1; d->port && i <= hub->limits.ports && d->count.ports; i++)
		if (d->port[i].chan)
			hub_port_close(hub, d, i);
	while ((f = LIST_FIRST(&d->files)))
		hub_file_orphan(f);
	if (d->table) {
		__atomic_store_n(&d->table->dead, 1, __ATOMIC_RELEASE); /* pairs with peer_get in loopback_copy.c */
		munmap(d->table, hub_table_bytes(HUB_GREF_FIRST + hub->limits.grants));
	}
	if (d->table_fd >= 0)
		close(d->table_fd);
	if (hub->dom[d->domid] == d) {
		hub->dom[d->domid] = NULL;
		hub->domains--;
	}
	free(d->gref);
	free(d->port);
	free(d);
}

int32_t hub_injected(struct hub_dom *d, enum hub_inject what)
{
	struct hub_injection *j = &d->inject[what];

	if (!j->count)
		return 0;
	if (j->skip) {
		j->skip--;
		return 0;
	}
	j->count--;
	return j->status;
}

static void publish_injection(struct hub_dom *d)
{
	/* Relaxed: a copy that runs at this moment may come before or after it. */
	__atomic_store_n(&d->table->inject, d->inject[HUB_INJECT_COPY].count != 0, __ATOMIC_RELAXED);
}

int hub_do_inject(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct hub_dom *d = hub_dom_get(hub, req->domid);

	if (c->dom->domid)
		return hub_refuse(c, -EPERM, "only domain 0 may inject faults");
	if (!d)
		return hub_refuse(c, -ENOENT, "no domain %u on this hub", req->domid);
	if (req->inject >= HUB_INJECTS || (req->count && !req->status))
		return hub_refuse(c, -EINVAL, "a fault to inject needs a kind and a status other than GNTST_okay");
	d->inject[req->inject] = (struct hub_injection){ req->skip, req->count, req->status };
	publish_injection(d);
	return hub_answer(c, &(struct hub_rsp){ 0 }, NULL, 0, NULL, 0);
}

/* A copier asks while copies from or to a domain are to fail. */
int hub_copy(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct hub_dom *d = hub_dom_get(hub, req->domid);
	struct hub_rsp rsp = { .n = d ? hub_injected(d, HUB_INJECT_COPY) : 0 };

	if (d)
		publish_injection(d);
	return hub_answer(c, &rsp, NULL, 0, NULL, 0);
}

/* What each domain builder makes: the store page, granted to domain 0 as GNTTAB_RESERVED_XENSTORE, and the store port. */
static int store_new(struct pv_hub *hub, struct hub_dom *d)
{
	int err = hub_file_new(hub, d, 1, &d->store);

	if (err)
		return err;
	d->store->writable = true;
	hub_gref_set(d, GNTTAB_RESERVED_XENSTORE, d->store, 0);
	hub_file_publish(d->store);
	err = hub_port_new(hub, d, NULL, 0);
	if (err > 0)
		d->store_port = err;
	return err;
}

int hub_create(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	uint32_t domid = req->domid;
	struct hub_dom *d;
	int port;

	if (c->dom->domid)
		return hub_refuse(c, -EPERM, "only domain 0 may create domains");
	if (domid >= HUB_DOMIDS)
		return hub_refuse(c, -EINVAL, "no domain can be numbered %u", domid);
	if (domid && hub->dom[domid])
		return hub_refuse(c, -EEXIST, "domain %u exists already", domid);
	while (!domid || (domid < HUB_DOMIDS && hub->dom[domid]))
		domid++;
	if (hub->domains >= hub->limits.domains || domid == HUB_DOMIDS)
		return hub_refuse(c, -ENOSPC, "no domains left: the hub has its limit of %u (pvio-hub --domains)", hub->limits.domains);
	port = hub_dom_new(hub, domid, &d);
	if (!port) {
		port = store_new(hub, d);
		if (port < 0)
			hub_dom_free(hub, d);
	}
	if (port < 0)
		return hub_refuse_files(c, port, "a domain");
	return hub_answer(c, &(struct hub_rsp){ .n = domid, .port = port }, NULL, 0, NULL, 0);
}

int hub_destroy(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct hub_dom *d = hub_dom_get(hub, req->domid);

	if (c->dom->domid)
		return hub_refuse(c, -EPERM, "only domain 0 may destroy domains");
	if (!d)
		return hub_refuse(c, -ENOENT, "no domain %u on this hub", req->domid);
	if (!req->domid)
		return hub_refuse(c, -EINVAL, "domain 0 stays as long as the hub");
	hub_dom_free(hub, d);
	return hub_answer(c, &(struct hub_rsp){ 0 }, NULL, 0, NULL, 0);
}

int hub_list(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct pv_hub_domain *list = (void *)hub->payload;
	uint32_t domid, n = 0;

	_Static_assert(HUB_LIST_MAX * sizeof(*list) <= sizeof(hub->payload), "a packet of the list fits");
	if (c->dom->domid)
		return hub_refuse(c, -EPERM, "only domain 0 may list domains");
	for (domid = req->domid; domid < HUB_DOMIDS && n < HUB_LIST_MAX; domid++)
		if (hub->dom[domid])
			list[n++] = hub->dom[domid]->count;
	return hub_answer(c, &(struct hub_rsp){ .n = hub->domains }, list, n * sizeof(*list), NULL, 0);
}
