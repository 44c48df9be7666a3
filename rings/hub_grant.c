/* hub_grant.c - grants of the hub: pages as memory files, who may map them, who does.
 *
 * A page of a share:	usable --unshare--> pinned --last unmap--> free		(usable --unshare--> free if nobody maps it)
 * Only a free page's reference is given out again. A read-only share is not usable before its owner has mapped it and the
 * file is sealed against everyone else's writes.
 */
#include "hub_int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- references ---- */

static uint32_t gref_alloc(struct hub_dom *d)
{
	uint32_t gref = d->free_head;

	if (!gref)
		return d->fresh++;
	d->free_head = d->gref[gref].next_free;
	if (!d->free_head)
		d->free_tail = 0;
	return gref;
}

static void gref_free(struct hub_dom *d, uint32_t gref)
{
	d->gref[gref].file = NULL;
	d->gref[gref].next_free = 0;
	if (gref < HUB_GREF_FIRST)
		return;
	if (d->free_tail)
		d->gref[d->free_tail].next_free = gref;
	else
		d->free_head = gref;
	d->free_tail = gref;
}

void hub_gref_set(struct hub_dom *d, uint32_t gref, struct hub_file *f, uint32_t page)
{
	d->gref[gref].file = f;
	d->gref[gref].page = page;
	d->gref[gref].generation++;
	f->page[page].gref = gref;
	d->count.grants++;
}

/* ---- files ---- */

int hub_file_new(struct pv_hub *hub, struct hub_dom *d, uint32_t n, struct hub_file **out)
{
	struct hub_file *f = calloc(1, sizeof(*f) + n * sizeof(f->page[0]));

	if (!f)
		return -ENOMEM;
	f->fd = hub_memfd("pvio-share", (size_t)n * HUB_PAGE, F_SEAL_SHRINK | F_SEAL_GROW);
	if (f->fd < 0) {
		int err = f->fd;

		free(f);
		return err;
	}
	f->id = ++hub->next_file;
	f->dom = d;
	f->n = n;
	LIST_INSERT_HEAD(&d->files, f, link);
	*out = f;
	return 0;
}

static void file_free(struct hub_file *f)
{
	if (f->dom)
		LIST_REMOVE(f, link);
	if (f->notice.page)
		munmap(f->notice.page, HUB_PAGE);
	/* A copier may keep its mapping for a while: give the memory back at once. A read-only file's seal forbids that. */
	if (f->writable)
		fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)f->n * HUB_PAGE);
	close(f->fd);
	free(f);
}

/* Let everyone see it in the grant table. */
void hub_file_publish(struct hub_file *f)
{
	struct hub_dom *d = f->dom;
	uint32_t i;

	fcntl(f->fd, F_ADD_SEALS, F_SEAL_SEAL | (f->writable ? 0 : HUB_SEAL_READ_ONLY));
	f->usable = true;
	for (i = 0; i < f->n; i++) {
		struct hub_entry *e = &d->table->entries[f->page[i].gref];

		__atomic_store_n(&e->where, f->id << 16 | i, __ATOMIC_RELAXED);
		/* pairs with the load in translate_miss of loopback_copy.c: who sees the word sees where */
		__atomic_store_n(&e->word, hub_word(d->gref[f->page[i].gref].generation, f->to, f->writable), __ATOMIC_RELEASE);
	}
}

static void revoke_pages(struct hub_file *f)
{
	struct hub_dom *d = f->dom;
	uint32_t i;

	f->revoked = true;
	for (i = 0; i < f->n; i++) {
		/* Relaxed: a copy that runs at this moment may come before or after it. */
		__atomic_store_n(&d->table->entries[f->page[i].gref].word, 0, __ATOMIC_RELAXED);
		d->count.grants--;
		if (f->page[i].maps)
			d->count.pinned++;
		else
			gref_free(d, f->page[i].gref);
	}
}

void hub_file_revoke(struct hub_file *f)
{
	revoke_pages(f);
	f->owner = NULL;
	if (!f->maps)
		file_free(f);
}

void hub_file_orphan(struct hub_file *f)
{
	if (!f->revoked)
		revoke_pages(f);
	LIST_REMOVE(f, link);
	f->dom = NULL;
	if (!f->maps)
		file_free(f);
}

static void page_put(struct hub_file *f, uint32_t page)
{
	f->maps--;
	if (!--f->page[page].maps && f->revoked && f->dom) {
		f->dom->count.pinned--;
		gref_free(f->dom, f->page[page].gref);
	}
	if (f->revoked && !f->maps)
		file_free(f);
}

/* ---- notices ---- */

static bool notice_ok(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	return !(req->flags & HUB_NOTICE) ||
	       (req->n == 1 && req->notice.offset < HUB_PAGE && hub_port_owned(hub, c, req->notice.port));
}

static void notice_fire(struct hub_conn *c, const struct hub_notice *notice, struct hub_file *f, uint32_t page)
{
	if (!notice->set)
		return;
	if (notice->page)
		__atomic_store_n(&notice->page[notice->at.offset], 0, __ATOMIC_RELEASE);
	else if (pwrite(f->fd, "", 1, (off_t)page * HUB_PAGE + notice->at.offset) < 0)
		return; /* out of memory: the peer is not told of what did not happen */
	hub_port_signal(c->dom, c, notice->at.port);
}

static void share_end(struct hub_conn *c, struct hub_file *f)
{
	hub_ids_del(&c->files, f->handle);
	notice_fire(c, &f->notice, f, 0);
	hub_file_revoke(f);
}

static void map_end(struct hub_conn *c, struct hub_map *m)
{
	uint32_t i;

	notice_fire(c, &m->notice, m->page[0].file, m->page[0].page);
	for (i = 0; i < m->n; i++)
		page_put(m->page[i].file, m->page[i].page);
	c->dom->count.maps -= m->n;
	free(m);
}

void hub_conn_drop_grants(struct hub_conn *c)
{
	uint32_t i;

	for (i = 0; i < c->maps.nr; i++)
		if (c->maps.item[i])
			map_end(c, c->maps.item[i]);
	for (i = 0; i < c->files.nr; i++)
		if (c->files.item[i])
			share_end(c, c->files.item[i]);
}

/* ---- share ---- */

static int share_checked(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct hub_dom *d = c->dom;
	uint32_t used = d->count.grants + d->count.pinned;

	if (!req->n || req->n > HUB_SHARE_MAX || req->domid >= HUB_DOMIDS)
		return hub_refuse(c, -EINVAL, "cannot share %u pages with domain %u: 1 to %d pages a call", req->n, req->domid, HUB_SHARE_MAX);
	if (!notice_ok(hub, c, req))
		return hub_refuse(c, -EINVAL, "a notice needs a single page, an offset in it and a port of this handle");
	if (used + req->n > hub->limits.grants || hub_injected(d, HUB_INJECT_SHARE))
		return hub_refuse(c, -ENOSPC,
				  "no grants left for %u pages: domain %u has %u and %u more that peers still map, its limit is %u (pvio-hub --grants)",
				  req->n, d->domid, d->count.grants, d->count.pinned, hub->limits.grants);
	return 1;
}

/* Returns 1 when the share is made, else as hub_refuse. */
static int share_make(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req, struct hub_file **out)
{
	struct hub_file *f;
	uint32_t i;
	int err = hub_file_new(hub, c->dom, req->n, &f);

	if (err)
		return hub_refuse_files(c, err, "a memory file");
	f->to = req->domid;
	f->writable = req->flags & HUB_WRITABLE;
	for (i = 0; i < f->n; i++)
		hub_gref_set(c->dom, gref_alloc(c->dom), f, i);
	if (req->flags & HUB_NOTICE) {
		f->notice = (struct hub_notice){ .set = true, .at = req->notice };
		if (!f->writable) {
			f->notice.page = mmap(NULL, HUB_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
			if (f->notice.page == MAP_FAILED)
				f->notice.page = NULL;
		}
	}
	if (!f->writable && f->notice.set && !f->notice.page)
		err = -ENOMEM;
	f->handle = err ? 0 : hub_ids_add(&c->files, f);
	if (!f->handle) {
		hub_file_revoke(f);
		return hub_refuse(c, -ENOMEM, "the hub is out of memory");
	}
	f->owner = c;
	*out = f;
	return 1;
}

int hub_share(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	uint32_t *grefs = (void *)hub->payload, i;
	struct hub_file *f = NULL;
	int r = share_checked(hub, c, req);

	if (r == 1)
		r = share_make(hub, c, req, &f);
	if (r != 1)
		return r;
	if (f->writable)
		hub_file_publish(f);
	for (i = 0; i < f->n; i++)
		grefs[i] = f->page[i].gref;
	return hub_answer(c, &(struct hub_rsp){ .id = f->handle, .n = f->n }, grefs, f->n * sizeof(*grefs), &f->fd, 1);
}

int hub_seal(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct hub_file *f = hub_ids_get(&c->files, req->id);

	(void)hub;
	if (!f)
		return hub_refuse(c, -EINVAL, "not a share of this handle");
	if (!f->usable)
		hub_file_publish(f);
	return hub_answer(c, &(struct hub_rsp){ 0 }, NULL, 0, NULL, 0);
}

int hub_unshare(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct hub_file *f = hub_ids_get(&c->files, req->id);

	(void)hub;
	if (!f)
		return hub_refuse(c, -EINVAL, "not a share of this handle");
	share_end(c, f);
	return hub_answer(c, &(struct hub_rsp){ 0 }, NULL, 0, NULL, 0);
}

int hub_store(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	(void)hub;
	(void)req;
	if (!c->dom->store)
		return hub_refuse(c, -ENOENT, "domain %u has no store page", c->dom->domid);
	return hub_answer(c, &(struct hub_rsp){ 0 }, NULL, 0, &c->dom->store->fd, 1);
}

/* ---- map ---- */

/* The file behind a reference if `to` may use it so, else NULL and why. */
static struct hub_file *granted(struct hub_dom *d, uint32_t gref, uint16_t to, bool writable, const char **why)
{
	struct hub_file *f = gref < d->grefs ? d->gref[gref].file : NULL;

	if (!f || !f->usable || f->revoked)
		*why = "is not granted";
	else if (f->to != to)
		*why = "is granted to another domain";
	else if (writable && !f->writable)
		*why = "is granted read-only";
	else
		return f;
	return NULL;
}

static int map_error(int32_t status)
{
	return status == GNTST_eagain ? -EAGAIN : status == GNTST_no_device_space ? -ENOSPC : -EACCES;
}

/* Look every reference up. Returns 1, or as hub_refuse. All pages count as operations for the injection, as in Xen's batch. */
static int map_lookup(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req, struct hub_dom *d, struct hub_map_page *page)
{
	const uint32_t *grefs = (const void *)(hub->in.bytes + sizeof(*req));
	const char *why = NULL, *w;
	int err = 0;
	uint32_t i, bad = 0;

	for (i = 0; i < req->n; i++) {
		int32_t status = hub_injected(d, HUB_INJECT_MAP);

		page[i].file = granted(d, grefs[i], c->dom->domid, req->flags & HUB_WRITABLE, &w);
		if (page[i].file)
			page[i].page = d->gref[grefs[i]].page;
		if ((page[i].file && !status) || err)
			continue;
		why = page[i].file ? "was refused by an injected fault" : w;
		err = page[i].file ? map_error(status) : -EACCES;
		bad = grefs[i];
	}
	if (err)
		return hub_refuse(c, err, "reference %u of domain %u %s", bad, d->domid, why);
	return 1;
}

/* Send the pages as runs, with the descriptors that the handle does not have. */
static int map_answer(struct pv_hub *hub, struct hub_conn *c, const struct hub_map *m, uint64_t id)
{
	struct hub_run *runs = (void *)hub->payload;
	int fds[HUB_RUNS_MAX], err = 0;
	uint32_t i, n = 0, at, nfds, nr;

	_Static_assert(HUB_MAP_MAX * sizeof(*runs) <= sizeof(hub->payload), "runs fit");
	_Static_assert(offsetof(struct pv_hub, payload) % 8 == 0, "runs are aligned");
	for (i = 0; i < m->n; i++) {
		const struct hub_map_page *p = &m->page[i];

		if (n && runs[n - 1].file == p->file->id && runs[n - 1].page + runs[n - 1].n == p->page)
			runs[n - 1].n++;
		else
			runs[n++] = (struct hub_run){ p->file->id, p->page, 1 };
	}
	for (at = i = 0; at < n && !err; at += nr) {
		uint32_t k, packets = (n - at - 1) / HUB_RUNS_MAX;

		nr = n - at < HUB_RUNS_MAX ? n - at : HUB_RUNS_MAX;
		for (nfds = k = 0; k < nr; i += runs[at + k].n, k++) {
			uint64_t *slot = &c->sent[runs[at + k].file % HUB_FILE_SLOTS];

			if (*slot != runs[at + k].file)
				fds[nfds++] = m->page[i].file->fd;
			*slot = runs[at + k].file;
		}
		err = hub_answer(c, &(struct hub_rsp){ .id = id, .n = nr, .more = packets }, runs + at, nr * sizeof(*runs), fds, nfds);
	}
	return err;
}

int hub_map(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct hub_dom *d = hub_dom_get(hub, req->domid);
	struct hub_map *m;
	uint64_t id;
	uint32_t i;
	int r;

	if (!d)
		return hub_refuse(c, -EACCES, "no domain %u on this hub", req->domid);
	if (!req->n || !notice_ok(hub, c, req) || (req->flags & (HUB_NOTICE | HUB_WRITABLE)) == HUB_NOTICE)
		return hub_refuse(c, -EINVAL, "a notice needs a single writable page, an offset in it and a port of this handle");
	if (c->dom->count.maps + req->n > hub->limits.maps)
		return hub_refuse(c, -ENOSPC, "no mappings left for %u pages: domain %u has %u, its limit is %u (pvio-hub --maps)", req->n,
				  c->dom->domid, c->dom->count.maps, hub->limits.maps);
	m = calloc(1, sizeof(*m) + req->n * sizeof(m->page[0]));
	if (!m)
		return hub_refuse(c, -ENOMEM, "the hub is out of memory");
	r = map_lookup(hub, c, req, d, m->page);
	id = r == 1 ? hub_ids_add(&c->maps, m) : 0;
	if (!id) {
		free(m);
		return r == 1 ? hub_refuse(c, -ENOMEM, "the hub is out of memory") : r;
	}
	m->n = req->n;
	if (req->flags & HUB_NOTICE)
		m->notice = (struct hub_notice){ .set = true, .at = req->notice };
	for (i = 0; i < m->n; i++) {
		m->page[i].file->maps++;
		m->page[i].file->page[m->page[i].page].maps++;
	}
	c->dom->count.maps += m->n;
	return map_answer(hub, c, m, id);
}

int hub_unmap(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct hub_map *m = hub_ids_get(&c->maps, req->id);

	(void)hub;
	if (!m)
		return hub_refuse(c, -EINVAL, "not a mapping of this handle");
	hub_ids_del(&c->maps, req->id);
	map_end(c, m);
	return hub_answer(c, &(struct hub_rsp){ 0 }, NULL, 0, NULL, 0);
}

int hub_forget(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	(void)hub;
	(void)req;
	memset(c->sent, 0, sizeof(c->sent));
	return hub_answer(c, &(struct hub_rsp){ 0 }, NULL, 0, NULL, 0);
}

/* ---- what a copier needs ---- */

int hub_do_table(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct hub_dom *d = hub_dom_get(hub, req->domid);

	if (!d)
		return hub_refuse(c, -ENOENT, "no domain %u on this hub", req->domid);
	return hub_answer(c, &(struct hub_rsp){ .n = d->grefs }, NULL, 0, &d->table_fd, 1);
}

int hub_do_file(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct hub_dom *d = hub_dom_get(hub, req->domid);
	const char *why = "is not granted";
	struct hub_file *f = d ? granted(d, req->gref, c->dom->domid, false, &why) : NULL;

	if (!f)
		return hub_refuse(c, -EACCES, "reference %u of domain %u %s", req->gref, req->domid, why);
	return hub_answer(c, &(struct hub_rsp){ .id = f->id, .n = f->n }, NULL, 0, &f->fd, 1);
}
