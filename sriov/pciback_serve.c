/* pciback_serve.c - the guests' pages: a thread that answers what they ask about their configuration space.
 *
 * Theory of operation. The control thread opens and closes devices, this thread serves them, and one lock keeps them apart: it is held
 * while a few operations are answered or a device comes or goes, never while something is waited for. An operation costs its guest a token
 * (pci.c); one that has none left is looked at later, its port masked until then.
 */
#include "pciback.h"
#include "pci.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pvio/inflight.h>
#include <pvio/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

enum { PORTS = 64, RECORD_MS = 1000, TICKS = 1000000000 /* ns */, WAIT_MS = 5, MEM_64 = 4 /* low bits of a BAR */ };

/* Owner: whoever opened it. Under the server's lock. */
struct vf_served {
	struct vf_server *server;
	struct pv_connect choice; /* without its configuration */
	struct vf_bdf vf;
	int conf; /* its configuration space */
	struct pv_inflight *log;
	uint32_t port;
	void *page;
	bool waits; /* for a token, its port masked */
	struct vf_function function;
	struct vf_pciif pci;
	struct vf_served *prev, *next;
};

struct vf_server {
	struct vf_sys *sys; /* of the thread */
	struct vf_xen *xen;
	struct pv_hyper *hyper;
	pthread_mutex_t lock;
	pthread_t thread;
	int stop; /* eventfd */
	struct vf_served *served;
};

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * (uint64_t)TICKS + t.tv_nsec;
}

/* ---- the function itself ---- */

static int conf_read(void *ctx, unsigned offset, unsigned size, uint32_t *value)
{
	struct vf_served *v = ctx;

	*value = 0;
	return pread(v->conf, value, size, offset) == (ssize_t)size ? 0 : -EIO;
}

static int conf_write(void *ctx, unsigned offset, unsigned size, uint32_t value)
{
	struct vf_served *v = ctx;

	return pwrite(v->conf, &value, size, offset) == (ssize_t)size ? 0 : -EIO;
}

static const struct vf_conf_ops conf_ops = { conf_read, conf_write };

/* Interrupts are in the VF's record, so that they are taken from the guest even if this process ends. */
static int with_record(struct vf_served *v, int (*work)(struct vf_served *v, struct vf_record *r, void *arg), void *arg)
{
	struct vf_record r;
	int rc = vf_record_open(v->server->sys, v->vf, RECORD_MS, &r, NULL);

	if (rc < 0)
		return rc;
	rc = work(v, &r, arg);
	vf_record_close(&r);
	return rc;
}

struct mapping {
	unsigned entry;
	uint64_t table;
};

static int map_irq(struct vf_served *v, struct vf_record *r, void *arg)
{
	const struct mapping *m = arg;

	return vf_xen_irq_map(v->server->sys, v->server->xen, r, m->entry, m->table);
}

static int unmap_irqs(struct vf_served *v, struct vf_record *r, void *arg)
{
	(void)arg;
	return vf_xen_irqs_unmap(v->server->sys, v->server->xen, r);
}

static int pirq_map(void *ctx, unsigned function, unsigned entry, uint64_t table, int *pirq)
{
	struct mapping m = { entry, table };
	int rc = with_record(ctx, map_irq, &m);

	(void)function;
	*pirq = rc;
	return rc < 0 ? rc : 0;
}

static int pirq_unmap(void *ctx, unsigned function)
{
	(void)function;
	return with_record(ctx, unmap_irqs, NULL);
}

static const struct vf_pirq_ops pirq_ops = { pirq_map, pirq_unmap };

/* What a VF's own configuration space does not say. */
static int read_device(struct vf_sys *s, struct vf_bdf vf, struct vf_conf_dev *dev)
{
	char text[4 * VF_ATTR_MAX], *at = text, *line;
	int64_t vendor = 0, device = 0;
	int rc = vf_pci_read(s, vf, "resource", text, sizeof(text));

	if (rc < 0 || (rc = vf_pci_number(s, vf, "vendor", &vendor)) < 0 || (rc = vf_pci_number(s, vf, "device", &device)) < 0)
		return rc;
	*dev = (struct vf_conf_dev){ .vendor = vendor, .device = device };
	for (int i = 0; i < VF_BARS && (line = strsep(&at, "\n")); i++) {
		unsigned long long start, end, flags;

		if (sscanf(line, "%llx %llx %llx", &start, &end, &flags) == 3 && end > start)
			dev->bar[i] = (struct vf_conf_bar){ start, end - start + 1, flags & 0xf };
	}
	return 0;
}

static int open_function(struct vf_served *v, struct vf_why *why)
{
	struct vf_sys *s = v->server->sys;
	struct vf_conf_dev dev;
	int rc = read_device(s, v->vf, &dev);

	if (rc == 0) {
		v->conf = vf_sys_open_file(s, O_RDWR, "/sys/bus/pci/devices/%s/config", vf_text(v->vf).s);
		rc = v->conf < 0 ? v->conf : vf_conf_init(&v->function.conf, &dev, &conf_ops, v);
	}
	return rc < 0 ? vf_fail(why, rc, "VF %s: its configuration space cannot be read: %s", vf_text(v->vf).s, strerror(-rc)) : 0;
}

/* ---- serving ---- */

static void serve(struct vf_served *v)
{
	uint64_t until;
	int rc;

	while ((rc = vf_pciif_work(&v->pci, now(), &until)) == 1)
		pv_evt_notify(v->server->hyper, v->port);
	v->waits = rc == -EAGAIN;
	if (!v->waits)
		pv_evt_unmask(v->server->hyper, &v->port, 1);
}

/* Returns how long to wait for the next event: ms, -1: as long as it takes. -ESHUTDOWN: the hypervisor is gone. */
static int turn(struct vf_server *s)
{
	uint32_t ports[PORTS];
	int n = pv_evt_pending(s->hyper, ports, PORTS), wait = -1;
	struct vf_served *v;

	if (n == -ESHUTDOWN)
		return n;
	DL_FOREACH(s->served, v) {
		bool due = v->waits;

		for (int i = 0; i < n; i++)
			due |= ports[i] == v->port;
		if (due)
			serve(v);
		if (v->waits)
			wait = WAIT_MS;
	}
	return wait;
}

static void *run(void *arg)
{
	struct vf_server *s = arg;
	struct pollfd p[2] = { { .fd = s->stop, .events = POLLIN }, { .fd = pv_evt_fd(s->hyper), .events = POLLIN } };
	int wait = -1;

	while (!p[0].revents && wait != -ESHUTDOWN) {
		if (poll(p, 2, wait) < 0 && errno != EINTR)
			break;
		pthread_mutex_lock(&s->lock);
		wait = turn(s);
		pthread_mutex_unlock(&s->lock);
	}
	return NULL;
}

int vf_server_start(const char *hypervisor, int domid, struct vf_sys *sys, struct vf_xen *xen, struct vf_server **out, struct vf_why *why)
{
	struct vf_server *s = calloc(1, sizeof(*s));
	int rc = s ? 0 : -ENOMEM;

	*out = NULL;
	if (!s)
		return vf_fail(why, rc, "out of memory");
	*s = (struct vf_server){ .sys = sys, .xen = xen, .lock = PTHREAD_MUTEX_INITIALIZER, .stop = eventfd(0, EFD_CLOEXEC) };
	rc = s->stop < 0 ? vf_fail(why, -errno, "cannot make an eventfd: %s", strerror(errno)) :
			   pv_hyper_open(hypervisor, domid, &s->hyper, why->text, sizeof(why->text));
	if (rc == 0) {
		rc = -pthread_create(&s->thread, NULL, run, s);
		if (rc < 0)
			vf_fail(why, rc, "cannot start a thread: %s", strerror(-rc));
	}
	if (rc == 0) {
		*out = s;
		return 0;
	}
	pv_hyper_close(s->hyper);
	if (s->stop >= 0)
		close(s->stop);
	free(s);
	return rc;
}

void vf_server_stop(struct vf_server *s)
{
	if (!s)
		return;
	eventfd_write(s->stop, 1);
	pthread_join(s->thread, NULL);
	pv_hyper_close(s->hyper);
	close(s->stop);
	free(s);
}

/* ---- devices ---- */

static int open_log(struct vf_served *v, struct vf_why *why)
{
	const struct pv_inflight_shape shape = { .rings = 0, .slots = 1, .area = sizeof(struct vf_kept) };
	char words[VF_WHY_MAX] = "";
	int rc = pv_inflight_open(&v->choice, &shape, &v->log, words, sizeof(words));

	if (rc < 0)
		return vf_fail(why, rc, "VF %s: %s", vf_text(v->vf).s, *words ? words : strerror(-rc));
	v->function.kept = pv_inflight_area(v->log);
	return 0;
}

static int open_ring(struct vf_served *v, struct vf_why *why)
{
	const struct pv_noxs_vf_queue *q = &v->choice.choice.vf[0];
	struct pv_hyper *h = v->server->hyper;
	uint32_t gref = q->gref;
	int rc = pv_gnt_map(h, v->choice.id.guest, &gref, 1, true, NULL, &v->page);

	if (rc == 0) {
		rc = pv_backend_bind(h, v->choice.id.guest, q->port, v->choice.adopt);
		v->port = rc < 0 ? 0 : (uint32_t)rc;
	}
	return rc < 0 ? vf_fail(why, rc, "VF %s: its guest's page or port cannot be had: %s", vf_text(v->vf).s, pv_hyper_error(h)) : 0;
}

static void end(struct vf_served *v, bool keep)
{
	struct pv_hyper *h = v->server->hyper;

	if (v->pci.page && !keep && vf_pciif_close(&v->pci) < 0)
		pv_log(PV_LOG_WARN, "VF %s: not all of its interrupts could be taken from its guest", vf_text(v->vf).s);
	if (v->port)
		pv_evt_unbind(h, v->port);
	if (v->page)
		pv_gnt_unmap(h, v->page, 1);
	pv_inflight_close(v->log);
	if (!keep)
		pv_inflight_remove(&v->choice.id);
	if (v->conf >= 0)
		close(v->conf);
	free(v);
}

int vf_served_open(struct vf_server *s, const struct pv_connect *c, struct vf_bdf vf, struct vf_served **out, struct vf_why *why)
{
	struct vf_served *v = calloc(1, sizeof(*v));
	int rc;

	*out = NULL;
	if (!v)
		return vf_fail(why, -ENOMEM, "out of memory");
	*v = (struct vf_served){ .server = s, .choice = *c, .vf = vf, .conf = -1 };
	v->choice.config = NULL;
	pthread_mutex_lock(&s->lock);
	rc = open_log(v, why);
	rc = rc < 0 ? rc : open_function(v, why);
	rc = rc < 0 ? rc : open_ring(v, why);
	if (rc < 0) {
		end(v, rc == -EAGAIN); /* a process before still has the log */
	} else {
		v->pci.function = &v->function;
		v->pci.nr = 1;
		v->pci.pirq = &pirq_ops;
		v->pci.ctx = v;
		vf_pciif_open(&v->pci, v->page, TICKS, now());
		DL_APPEND(s->served, v);
		serve(v); /* what the guest may have asked before */
		*out = v;
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void vf_served_close(struct vf_server *s, struct vf_served *v, bool keep)
{
	if (!v)
		return;
	pthread_mutex_lock(&s->lock);
	DL_DELETE(s->served, v);
	end(v, keep);
	pthread_mutex_unlock(&s->lock);
}

bool vf_served_same(const struct vf_served *v, const struct pv_connect *c)
{
	return v->choice.choice.generation == c->choice.generation && memcmp(v->choice.choice.vf, c->choice.vf, sizeof(c->choice.vf)) == 0;
}

struct json_object *vf_served_report(struct vf_server *s, struct vf_served *v)
{
	struct json_object *o = json_object_new_object();
	struct vf_pciif_counts n;

	pthread_mutex_lock(&s->lock);
	n = v->pci.counts;
	pthread_mutex_unlock(&s->lock);
	json_object_object_add(o, "ops", json_object_new_int64(n.ops));
	json_object_object_add(o, "reads", json_object_new_int64(n.reads));
	json_object_object_add(o, "writes", json_object_new_int64(n.writes));
	json_object_object_add(o, "enables", json_object_new_int64(n.enables));
	json_object_object_add(o, "refused", json_object_new_int64(n.refused));
	json_object_object_add(o, "throttled", json_object_new_int64(n.throttled));
	return o;
}
