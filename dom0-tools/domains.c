/* domains.c - domains of Xen: built and destroyed off the loop, and noticed when they end.
 *
 * Building copies a kernel and destroying gives back memory page by page: seconds, for large guests. Both run on libuv's threads,
 * with a handle of their own, and all else happens when they are done, on the loop.
 */
#include "pviod.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/sched.h>

enum { WATCH_MS = 200 };

bool domains_are_here(const struct pviod *d)
{
	return strcmp(d->hyper->ops->name, "xen") == 0;
}

int domains_control(struct pviod *d, struct domctl **out, char *why, size_t len)
{
	int rc = 0;

	*out = NULL;
	if (!domains_are_here(d))
		return pv_why(why, len, -ENOTSUP, "the loopback hypervisor has no CPUs: there is nothing to start, pause or shut down");
	if (!d->domctl)
		rc = domctl_open(&d->domctl, why, len);
	*out = d->domctl;
	return rc;
}

/* ---- destroying ---- */

/* Owner: libuv, from begin to done. */
struct destroy {
	uv_work_t work;
	struct pviod *d;
	struct guest *g; /* NULL: it is none, or has become none */
	uint16_t domid;
	int rc;
	char why[WHY_LEN];
	domains_destroyed *destroyed; /* NULL: nobody waits for it */
	uint64_t conn, id;
};

static void destroy_run(uv_work_t *w)
{
	struct destroy *job = w->data;
	struct domctl *ctl;

	job->rc = domctl_open(&ctl, job->why, sizeof(job->why));
	if (job->rc < 0)
		return;
	job->rc = domain_destroy(ctl, job->domid);
	if (job->rc < 0)
		snprintf(job->why, sizeof(job->why), "%s", strerror(-job->rc));
	domctl_close(ctl);
}

static void destroy_done(uv_work_t *w, int status)
{
	struct destroy *job = w->data;

	(void)status;
	if (job->rc < 0)
		pv_log(PV_LOG_ERR, "domain %u cannot be destroyed: %s; xl destroy %u may", job->domid, job->why, job->domid);
	job->d->njobs--;
	if (job->g)
		guest_free(job->g);
	if (job->destroyed)
		job->destroyed(job->d, job->conn, job->id, job->rc, job->why);
	free(job);
}

static int destroy_begin(struct pviod *d, const struct destroy *what)
{
	struct destroy *job = malloc(sizeof(*job));

	if (!job) {
		pv_log(PV_LOG_ERR, "domain %u is left as it is: out of memory", what->domid);
		return -ENOMEM;
	}
	*job = *what;
	job->d = d;
	job->work.data = job;
	d->njobs++;
	uv_queue_work(&d->loop, &job->work, destroy_run, destroy_done);
	return 0;
}

void domains_destroy(struct guest *g)
{
	struct destroy job = { .g = g, .domid = g->domid };

	if (destroy_begin(g->d, &job) < 0)
		guest_free(g);
}

int domains_destroy_other(struct pviod *d, uint16_t domid, domains_destroyed *destroyed, uint64_t conn, uint64_t id)
{
	struct destroy job = { .domid = domid, .destroyed = destroyed, .conn = conn, .id = id };

	return destroy_begin(d, &job);
}

/* ---- building ---- */

/* Owner: d->builds and libuv, from begin to done. */
struct build {
	uv_work_t work;
	struct pviod *d;
	char name[NAME_LEN];
	struct domain_spec spec; /* its strings are ours */
	struct domain_made made;
	int rc;
	char why[WHY_LEN];
	domains_built *built;
	uint64_t conn, id;
	struct build *prev, *next;
};

static void build_free(struct build *b)
{
	free((char *)b->spec.kernel);
	free((char *)b->spec.ramdisk);
	free((char *)b->spec.cmdline);
	free(b);
}

bool domains_building(struct pviod *d, const char *name)
{
	struct build *b;

	DL_FOREACH(d->builds, b)
		if (strcmp(b->name, name) == 0)
			return true;
	return false;
}

static void build_run(uv_work_t *w)
{
	struct build *b = w->data;

	b->rc = domain_build(&b->spec, &b->made, b->why, sizeof(b->why));
}

static void build_done(uv_work_t *w, int status)
{
	struct build *b = w->data;
	struct pviod *d = b->d;
	struct guest_domain domain = { .made = b->made, .owned = true, .type = b->spec.pvh ? "pvh" : "pv", .memory = b->spec.memory,
				       .vcpus = b->spec.vcpus };
	struct guest *g = NULL;
	bool there = b->rc == 0;

	(void)status;
	DL_DELETE(d->builds, b);
	d->njobs--;
	if (b->rc == 0 && d->ending)
		b->rc = pv_why(b->why, sizeof(b->why), -ESHUTDOWN, "pviod is ending");
	if (b->rc == 0)
		b->rc = guest_adopt(d, b->name, &domain, &g, b->why, sizeof(b->why));
	if (there && !g)
		domains_destroy_other(d, b->made.domid, NULL, 0, 0);
	b->built(d, b->conn, b->id, g, b->rc, b->why);
	build_free(b);
}

static char *copied(const char *s)
{
	return s ? strdup(s) : NULL;
}

int domains_build(struct pviod *d, const char *name, const struct domain_spec *spec, domains_built *built, uint64_t conn, uint64_t id)
{
	struct build *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->d = d;
	snprintf(b->name, sizeof(b->name), "%s", name);
	b->spec = *spec;
	b->spec.kernel = copied(spec->kernel);
	b->spec.ramdisk = copied(spec->ramdisk);
	b->spec.cmdline = copied(spec->cmdline);
	b->built = built;
	b->conn = conn;
	b->id = id;
	b->work.data = b;
	if (!b->spec.kernel || !b->spec.ramdisk != !spec->ramdisk || !b->spec.cmdline != !spec->cmdline) {
		build_free(b);
		return -ENOMEM;
	}
	DL_APPEND(d->builds, b);
	d->njobs++;
	uv_queue_work(&d->loop, &b->work, build_run, build_done);
	return 0;
}

/* ---- watching ---- */

/* Its domain is gone, by another's hand, or another domain has its number by now: there is nothing more to destroy. */
static void gone(struct guest *g)
{
	if (g->dying)
		return;
	pv_log(PV_LOG_INFO, "guest %s: its domain %u is gone", g->name, g->domid);
	g->domain.owned = false;
	guest_end(g, true);
}

static void look(struct guest *g, const struct domain_info *i)
{
	bool ill = i->reason != SHUTDOWN_poweroff && i->reason != SHUTDOWN_reboot;

	if (i->state == DOMAIN_DYING || (g->domain.owned && memcmp(i->uuid, g->domain.made.uuid, sizeof(i->uuid)))) {
		gone(g);
		return;
	}
	if (i->state != DOMAIN_SHUTDOWN || g->dying || !g->domain.owned) /* another's: its toolstack sees to it */
		return;
	pv_log(ill ? PV_LOG_WARN : PV_LOG_INFO, "guest %s has ended: %s; its domain %u goes", g->name, domain_reason_name(i->reason), g->domid);
	guest_end(g, true);
}

static void look_if_guest(void *arg, const struct domain_info *i)
{
	struct pviod *d = arg;
	struct guest *g;

	HASH_FIND(hh_domid, d->by_domid, &i->domid, sizeof(i->domid), g);
	if (!g)
		return;
	g->watched = d->watched;
	look(g, i);
}

/* All domains; each guest that is not among them is gone. */
static int look_at_all(struct pviod *d)
{
	struct guest *g, *next;
	int rc;

	d->watched++;
	rc = domain_each(d->domctl, look_if_guest, d);
	if (rc < 0)
		return rc;
	HASH_ITER(hh_domid, d->by_domid, g, next)
		if (g->watched != d->watched)
			gone(g);
	return 0;
}

static void on_watch(uv_timer_t *t)
{
	struct pviod *d = t->data;
	char why[WHY_LEN];
	struct domctl *ctl;
	int rc = domains_control(d, &ctl, why, sizeof(why));

	if (rc == 0) {
		rc = look_at_all(d);
		snprintf(why, sizeof(why), "%s", strerror(-rc));
	}
	if (rc < 0)
		pv_log(PV_LOG_ERR, "cannot ask Xen how the guests do: %s; their ends are not noticed", why);
	if (rc < 0 || !d->by_domid)
		uv_timer_stop(t);
}

/* VIRQ_DOM_EXC would tell at once, but has one owner a host, and a xenstored that does not get it does not start: so we ask, as long
 * as there are guests. */
void domains_watch(struct pviod *d)
{
	if (!uv_is_active((uv_handle_t *)&d->watch))
		uv_timer_start(&d->watch, on_watch, WATCH_MS, WATCH_MS);
}
