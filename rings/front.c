/* front.c - finding a device and following its handshake, from the guest's side.
 *
 * Theory of operation. pviod (domain 0) owns the pages and writes the backend's states; we write the choice half. Whoever has
 * entry.port bound is the frontend of that device: the hypervisor gives a port to one binder, so that two processes of a
 * guest never write one choice half. The port is therefore bound before the control page is mapped with its unmap notice
 * (else a process that only looked would, by leaving, declare the true frontend dead). Nothing here believes a shared word
 * twice: pages are read by snapshots (noxs.h), and what is used is the private copy.
 */
#include "front.h"
#include <errno.h>
#include <poll.h>
#include <pvio/message.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <xen/xen.h>

enum {
	DOM0 = 0, /* pviod's domain: it grants the pages and has the other end of our ports */
	EVENTS_MAX = 32, /* ports fetched at once while waiting */
	ANNOUNCED_POLL_MS = 100, /* with the announcement port bound: a pointer that moved is still found */
	NOTICE_OFFSET = PV_NOXS_CHOICE_OFFSET + offsetof(struct pv_noxs_choice, alive),
};

uint64_t front_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

const char *front_name(const struct front *f, char *buf, size_t len)
{
	char name[20] = "";

	if (f->devid != FRONT_ANY)
		pv_devid_name(f->type, f->devid, name, sizeof(name));
	snprintf(buf, len, "%s%s%s", pv_type_name(f->type), *name ? " " : "", name);
	return buf;
}

/* Remember one line for a person: "vif 0 of domain 3: ...". Returns err. */
static int __attribute__((format(printf, 3, 4))) fail(struct front *f, int err, const char *fmt, ...)
{
	char name[24];
	va_list ap;
	int n = snprintf(f->why, sizeof(f->why), "%s of domain %u: ", front_name(f, name, sizeof(name)), f->h ? f->h->domid : 0u);

	va_start(ap, fmt);
	vsnprintf(f->why + n, sizeof(f->why) - (size_t)n, fmt, ap);
	va_end(ap);
	return err;
}

int front_broken(struct front *f, const char *what)
{
	f->state = FRONT_BROKEN;
	return fail(f, -EPROTO, "its backend broke the protocol: %s", what);
}

/* The handle was ended under us. Returns -ESHUTDOWN. */
static int ended(struct front *f)
{
	f->state = FRONT_ENDED;
	return fail(f, -ESHUTDOWN, "the domain or its hypervisor is gone");
}

/* ---- the device page ---- */

/* Is this the entry of our device? Of any of our type: of one with a number from `min` on. */
static bool is_ours(const struct front *f, const struct pv_noxs_entry *e, uint32_t min)
{
	if (e->type != f->type || e->devid == FRONT_ANY)
		return false;
	return f->devid == FRONT_ANY ? e->devid >= min : e->devid == f->devid;
}

/* One device page: its entry of ours with the lowest number, if that is lower than what is in *best (type 0: nothing yet).
 * Returns 0, *next is the following page's gref; or -errno. */
static int look_page(struct front *f, uint32_t gref, uint32_t min, struct pv_noxs_entry *best, uint32_t *next)
{
	struct pv_noxs_device_page copy;
	void *page;
	int rc = pv_gnt_map(f->h, DOM0, &gref, 1, false, NULL, &page);

	if (rc < 0)
		return fail(f, rc, "the device page cannot be mapped: %s", pv_hyper_error(f->h));
	rc = pv_noxs_device_read(page, &copy);
	pv_gnt_unmap(f->h, page, 1);
	if (rc < 0)
		return fail(f, rc, rc == -EPROTO ? "what domain 0 announces is not a device page that this version knows" :
						   "the device page keeps changing; try again");
	for (const struct pv_noxs_entry *e = copy.entries; e < copy.entries + PV_NOXS_ENTRIES; e++)
		if (is_ours(f, e, min) && (best->type == PV_NOXS_NONE || e->devid < best->devid))
			*best = *e;
	*next = copy.next_gref;
	return 0;
}

/* What to type in domain 0. */
static const char *attach_args(enum pv_noxs_type type)
{
	return type == PV_NOXS_VBD ? "vbd path=FILE" : pv_type_name(type);
}

/* Find our entry in the chain of device pages, which is bounded: a link may lead back. */
static int look_entry(struct front *f, const struct pv_noxs_pointer *p, uint32_t min, struct pv_noxs_entry *out)
{
	uint32_t gref = p->gref;

	*out = (struct pv_noxs_entry){ .type = PV_NOXS_NONE };
	for (int i = 0; i < FRONT_PAGES_MAX && gref && (out->type == PV_NOXS_NONE || f->devid == FRONT_ANY); i++) {
		int rc = look_page(f, gref, min, out, &gref);

		if (rc < 0)
			return rc;
	}
	if (out->type == PV_NOXS_NONE)
		return -ENOENT;
	return out->backend_domid < DOMID_FIRST_RESERVED ? 0 : fail(f, -EPROTO, "its entry names no domain");
}

/* ---- the control page and our port ---- */

static void drop_device(struct front *f)
{
	if (f->control)
		pv_gnt_unmap(f->h, f->control, 1); /* the notice tells pviod, while the port still exists */
	if (f->port)
		pv_evt_unbind(f->h, (uint32_t)f->port);
	f->control = NULL;
	f->port = 0;
}

/* Do we have its port and control page from the last time? By their numbers. */
static bool has_device(const struct front *f, const struct pv_noxs_entry *e)
{
	return f->control && f->entry.port == e->port && f->entry.control_gref == e->control_gref;
}

/* Bind the device's port and map its control page. */
static int take_device(struct front *f, const struct pv_noxs_entry *e)
{
	struct pv_gnt_notice notice = { .offset = NOTICE_OFFSET };
	void *page;
	int rc;

	drop_device(f);
	rc = pv_evt_bind(f->h, DOM0, e->port);
	if (rc == -EACCES || rc == -EINVAL)
		return fail(f, -EBUSY, "another process of this domain is its frontend; end that first");
	if (rc < 0)
		return fail(f, rc, "no port: %s", pv_hyper_error(f->h));
	f->port = rc;
	notice.port = (uint32_t)rc;
	rc = pv_gnt_map(f->h, DOM0, &e->control_gref, 1, true, &notice, &page);
	if (rc < 0) {
		fail(f, rc, "its control page cannot be mapped: %s", pv_hyper_error(f->h));
		drop_device(f);
		return rc;
	}
	f->control = page;
	return 0;
}

/* Say that we are here (or have left): a choice of nothing, of the offer's generation. */
static void announce(struct front *f, enum xenbus_state state)
{
	struct pv_noxs_choice c = {
		.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = f->offer.generation, .state = state, .alive = 1,
	};

	pv_noxs_choice_write(f->control, &c);
}

/* Why a device that is announced cannot be taken now. */
static int not_offered(struct front *f, const struct pv_noxs_offer *o)
{
	switch (o->state) {
	case XenbusStateClosing:
		return fail(f, -EBUSY, "dom0 is detaching it");
	case XenbusStateClosed:
		if (o->error)
			return fail(f, -ECONNREFUSED, "its backend is stopped: %s; see pvio list in dom0", strerror(-o->error));
		return fail(f, -EBUSY, "its last connection is still being ended");
	default:
		if (o->error)
			return fail(f, -ECONNREFUSED, "no backend serves it now: %s; see pvio backend list in dom0", strerror(-o->error));
		return fail(f, -EBUSY, "its last frontend is still being cleaned up");
	}
}

/* Take the device of an entry, and read its offer. */
static int look_at(struct front *f, const struct pv_noxs_entry *entry)
{
	bool kept = has_device(f, entry);
	struct pv_noxs_offer offer;
	int rc = kept ? 0 : take_device(f, entry);

	if (rc < 0)
		return rc;
	f->entry = *entry;
	rc = pv_noxs_offer_read(f->control, f->type, &offer);
	if (rc == -EAGAIN || (rc == 0 && offer.generation != entry->generation))
		return fail(f, -EAGAIN, "its offer keeps changing; try again");
	if (rc < 0)
		return fail(f, rc, "its offer is nonsense");
	if (f->has_retired && f->retired == offer.generation)
		return fail(f, -EAGAIN, "waiting until it is offered anew");
	if (offer.state != XenbusStateInitWait)
		return not_offered(f, &offer);
	if (kept) { /* it may be the next device, with a port of the same number: ours is bound to the one that was removed */
		drop_device(f);
		return look_at(f, entry);
	}
	f->offer = offer;
	announce(f, XenbusStateInitialising);
	f->state = FRONT_OFFERED;
	return 0;
}

/* May a failed look end differently a moment later? */
static bool passing(int rc)
{
	return rc == -ENOENT || rc == -EBUSY || rc == -EAGAIN || rc == -EACCES || rc == -ECONNREFUSED;
}

/* The first device of our type that can be taken now. */
static int look_any(struct front *f, const struct pv_noxs_pointer *p)
{
	struct pv_noxs_entry entry;
	int rc = look_entry(f, p, 0, &entry), busy = -ENOENT;

	for (int tries = 0; rc == 0 && tries < PV_NOXS_ENTRIES; tries++) {
		f->devid = entry.devid;
		rc = look_at(f, &entry);
		if (rc == 0 || !passing(rc))
			return rc;
		busy = rc;
		drop_device(f);
		f->devid = FRONT_ANY;
		rc = look_entry(f, p, entry.devid + 1, &entry);
	}
	return rc == -ENOENT || rc == 0 ? busy : rc;
}

/* One look, from the pointer to the offer. */
static int look(struct front *f)
{
	struct pv_noxs_pointer pointer;
	struct pv_noxs_entry entry;
	int rc = pv_hyper_pointer(f->h, &pointer);

	if (rc == -ENOENT)
		return fail(f, f->has_retired ? -EAGAIN : rc, "domain 0 announces no devices to us; is pviod running there?");
	if (rc < 0)
		return fail(f, rc, "no noxs pointer that this version knows");
	if (f->devid == FRONT_ANY) {
		rc = look_any(f, &pointer);
	} else {
		rc = look_entry(f, &pointer, 0, &entry);
		if (rc == 0)
			return look_at(f, &entry);
	}
	if (rc == -ENOENT)
		fail(f, rc, "not announced; attach it in dom0, e.g. pvio attach %u %s", f->h->domid, attach_args(f->type));
	return rc;
}

int front_find(struct front *f)
{
	uint64_t now = front_now_ms();
	int rc;

	if (f->looked && now - f->looked < FRONT_POLL_MS)
		return -EAGAIN;
	f->looked = now;
	rc = look(f);
	if (rc == -ENOENT && f->devid != FRONT_ANY) {
		f->state = FRONT_GONE;
		fail(f, rc, "dom0 removed it by force, or with the domain");
	} else if (rc == -EPROTO) {
		f->state = FRONT_BROKEN;
	} else if (rc == -ESHUTDOWN) {
		ended(f);
	}
	return rc;
}

/* Fetch and forget whatever is pending. Returns 0, or -ESHUTDOWN. */
static int drain_events(struct front *f)
{
	uint32_t ports[EVENTS_MAX];
	int n;

	while ((n = pv_evt_pending(f->h, ports, EVENTS_MAX)) > 0) {
		pv_evt_unmask(f->h, ports, (unsigned)n);
		if (n < EVENTS_MAX)
			break; /* a storm does not hold us here */
	}
	return n < 0 ? ended(f) : 0;
}

/* Sleep until something was announced, at most ms. Returns 0, or -ESHUTDOWN. */
static int wait_announced(struct front *f, uint64_t ms)
{
	struct pv_noxs_pointer p;
	struct pollfd fd = { .fd = pv_evt_fd(f->h), .events = POLLIN };
	uint64_t most = FRONT_POLL_MS;

	if (!f->announce && pv_hyper_pointer(f->h, &p) == 0) {
		int port = pv_evt_bind(f->h, DOM0, p.port); /* refused when a process of this guest waits already: then we poll */

		f->announce = port > 0 ? port : 0;
	}
	if (f->announce)
		most = ANNOUNCED_POLL_MS;
	poll(&fd, 1, (int)(ms < most ? ms : most));
	return drain_events(f);
}

int front_open(struct front *f, const char *spec, int domid, enum pv_noxs_type type, uint32_t devid, int wait_ms)
{
	uint64_t until = front_now_ms() + (uint64_t)(wait_ms > 0 ? wait_ms : 0), now;
	int rc;

	memset(f, 0, sizeof(*f));
	f->type = type;
	f->devid = devid;
	rc = pv_hyper_open(spec, domid, &f->h, f->why, sizeof(f->why));
	if (rc < 0)
		return rc;
	while ((rc = look(f)) < 0 && passing(rc) && (now = front_now_ms()) < until)
		if (wait_announced(f, until - now) < 0)
			return -ESHUTDOWN;
	if (rc == -ESHUTDOWN)
		ended(f);
	if (f->announce)
		pv_evt_unbind(f->h, (uint32_t)f->announce); /* others of this guest may wait for theirs */
	f->announce = 0;
	return rc;
}

/* ---- the handshake ---- */

static int tell(struct front *f)
{
	return pv_evt_notify(f->h, (uint32_t)f->port);
}

int front_choose(struct front *f, struct pv_noxs_choice *c)
{
	c->magic = PV_NOXS_MAGIC;
	c->version = PV_NOXS_VERSION;
	c->generation = f->offer.generation;
	c->state = XenbusStateInitialised;
	c->alive = 1;
	c->pair = f->pair;
	f->features = c->features;
	pv_noxs_choice_write(f->control, c);
	f->state = FRONT_CONNECTING;
	return tell(f);
}

int front_choose_anew(struct front *f, uint32_t features, uint32_t headroom)
{
	f->features = (f->features & ~(uint32_t)PV_VIF_CHANGEABLE) | features;
	pv_noxs_choice_change(f->control, f->features, headroom);
	return tell(f);
}

void front_say_pair(struct front *f, enum pv_vif_pair pair)
{
	f->pair = pair;
	if (!f->control || f->state == FRONT_NONE)
		return;
	pv_noxs_choice_pair(f->control, pair);
	tell(f);
}

/* The offer may change while connected (size, address, MTU, carrier, pair), and an error without a change of state says that the backend
 * is away. Features and limits were agreed: the private copy keeps what we agreed to. */
static void follow_offer(struct front *f)
{
	struct pv_noxs_offer now;
	int rc = pv_noxs_offer_read(f->control, f->type, &now);

	if (rc == -EPROTO) {
		front_broken(f, "its offer became nonsense");
		return;
	}
	if (rc < 0 || now.generation != f->offer.generation || now.state != XenbusStateConnected)
		return; /* being written: its event follows */
	f->offer.error = now.error;
	if (f->type == PV_NOXS_VIF) {
		memcpy(f->offer.vif.mac, now.vif.mac, sizeof(now.vif.mac));
		f->offer.vif.mtu = now.vif.mtu;
		f->offer.vif.carrier = now.vif.carrier && !now.error;
		f->offer.vif.pair = now.vif.pair;
	} else if (f->type == PV_NOXS_VBD) {
		f->offer.vbd.sectors = now.vbd.sectors;
	}
}

/* The backend is Closed without our asking: it would not connect us, or stopped for an error; else it is a forced detach, or comes back. Also
 * while we connect: a frontend before us may have died in the middle of it, and it is that one's connection that ends. */
static void follow_closed(struct front *f)
{
	struct pv_noxs_offer now;
	int error = pv_noxs_offer_read(f->control, f->type, &now) == 0 ? now.error : 0;

	f->state = error ? FRONT_REFUSED : FRONT_LOST;
	if (error)
		fail(f, 0, "its backend stopped: %s; pvio list in dom0 has the details", strerror(-error));
}

void front_follow(struct front *f, bool changed)
{
	enum xenbus_state backend;

	if (f->state != FRONT_CONNECTING && f->state != FRONT_CONNECTED)
		return; /* Closing too: whatever follows, the caller has to close */
	backend = pv_noxs_backend_state_read(f->control); /* acquire: a new generation is seen with its state */
	if (__atomic_load_n(&f->control->offer.generation, __ATOMIC_RELAXED) != f->offer.generation) {
		f->state = FRONT_LOST; /* offered anew: the old connection is over */
		return;
	}
	switch (backend) {
	case XenbusStateConnected:
		if (f->state == FRONT_CONNECTING) {
			f->state = FRONT_CONNECTED;
			pv_noxs_frontend_state(f->control, XenbusStateConnected);
			tell(f);
			changed = true;
		}
		if (changed)
			follow_offer(f);
		break;
	case XenbusStateClosing:
		f->state = FRONT_CLOSING;
		break;
	case XenbusStateClosed:
		follow_closed(f);
		break;
	case XenbusStateInitWait:
	case XenbusStateInitialised:
		if (f->state != FRONT_CONNECTING)
			front_broken(f, "its state went back");
		break;
	default: /* Initialising: an offer is being written, and its event follows; the others mean nothing to us */
		break;
	}
}

int front_events(struct front *f, uint32_t *ports, unsigned max)
{
	bool ours = false;
	int n = pv_evt_pending(f->h, ports, max), others = 0;

	if (n < 0)
		return ended(f);
	for (int i = 0; i < n; i++) {
		if (ports[i] == (uint32_t)f->port)
			ours = true;
		else
			ports[others++] = ports[i];
	}
	front_follow(f, ours);
	if (ours) {
		uint32_t port = (uint32_t)f->port;

		pv_evt_unmask(f->h, &port, 1); /* after the work, and the state is read at each call: nothing is missed */
	}
	return others;
}

/* Did the backend stop? */
static bool stopped(struct front *f)
{
	enum xenbus_state s = pv_noxs_backend_state_read(f->control);

	if (s == XenbusStateConnected && f->offer.error)
		return true; /* there is none */
	return s == XenbusStateClosed || __atomic_load_n(&f->control->offer.generation, __ATOMIC_RELAXED) != f->offer.generation;
}

int front_leave(struct front *f, int timeout_ms)
{
	uint64_t until = front_now_ms() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0), now;
	struct pollfd fd;

	if (f->state == FRONT_ENDED)
		return -ESHUTDOWN;
	if (!f->control || f->state == FRONT_NONE || f->state == FRONT_OFFERED || stopped(f))
		return 0; /* nobody looks at anything of ours */
	pv_noxs_frontend_state(f->control, XenbusStateClosing);
	tell(f);
	fd = (struct pollfd){ .fd = pv_evt_fd(f->h), .events = POLLIN };
	while (!stopped(f)) {
		uint32_t ports[EVENTS_MAX], port = (uint32_t)f->port;

		now = front_now_ms();
		if (now >= until)
			return fail(f, -ETIMEDOUT, "its backend did not stop in time");
		poll(&fd, 1, (int)(until - now < FRONT_POLL_MS ? until - now : FRONT_POLL_MS));
		if (pv_evt_pending(f->h, ports, EVENTS_MAX) < 0) /* the rings' ports stay masked: nothing of them matters now */
			return ended(f);
		pv_evt_unmask(f->h, &port, 1);
	}
	return 0;
}

void front_retire(struct front *f)
{
	if (f->control) {
		pv_noxs_frontend_state(f->control, XenbusStateClosed);
		tell(f);
		f->retired = f->offer.generation;
		f->has_retired = true;
	}
	f->state = FRONT_NONE;
	f->looked = 0;
}

void front_close(struct front *f)
{
	if (!f->h)
		return;
	if (f->control) {
		pv_noxs_frontend_state(f->control, XenbusStateClosed);
		tell(f);
	}
	drop_device(f);
	pv_hyper_close(f->h);
	f->h = NULL;
	f->state = FRONT_NONE;
}

int front_error(const struct front *f)
{
	switch (f->state) {
	case FRONT_CLOSING:
	case FRONT_GONE:
	case FRONT_ENDED:
		return -ESHUTDOWN;
	case FRONT_REFUSED:
		return -ECONNREFUSED;
	case FRONT_BROKEN:
		return -EPROTO;
	default:
		return 0;
	}
}

enum xenbus_state front_xenbus_state(const struct front *f)
{
	switch (f->state) {
	case FRONT_CONNECTING:
		return XenbusStateInitialised;
	case FRONT_CONNECTED:
		return f->offer.error ? XenbusStateInitialising : XenbusStateConnected; /* an error: its backend is away for now */
	case FRONT_CLOSING:
		return XenbusStateClosing;
	case FRONT_REFUSED:
	case FRONT_GONE:
	case FRONT_BROKEN:
		return XenbusStateClosed;
	case FRONT_ENDED:
		return XenbusStateUnknown;
	default:
		return XenbusStateInitialising;
	}
}
