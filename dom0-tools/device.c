/* device.c - one device's state machine.
 *
 * Theory of operation. Everything that happens to a device is an event; `rules` says for each state which events matter, what
 * is done and which state follows; what it does not name changes nothing, so each event may come late or twice. Events are
 * posted and worked off in device_drain, outside of any callback, so that no action runs inside another one and a device is
 * freed in one place. The guest's half is read by level, not by edge: after each transition and each event of the port it is
 * looked at anew, and a look costs a token, so that a guest who toggles its state, with or without events, buys a bounded
 * number of looks a second with our time; its port stays masked until the look was done (XSA-331, 342..349). So does an offer that follows
 * another connection, of which a guest has few: what that costs backend and hypervisor is a thousand times as much. How a device is
 * shown to its guest and how the guest answers is its dialect's affair.
 */
#include "pviod.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_MS = 1000, AGAIN_MS = 200, REAP_MS = 20, REAPS = 50 /* so often; then what is waited for is slow */ };

static const struct limit guest_looks = { .burst = 4096, .rate = 1000 };
static const struct limit guest_offers = { .burst = 64, .rate = 4 }; /* a connection and its end take about 1 ms of a CPU */

typedef int action(struct device *dev); /* -errno: refused, the state stays; only `announce`, `ask_again` and `ask_adopt` may */

static action announce, offer_anew, back_to_offer, ask_again, ask_connect, ask_update, ask_adopt, ask_disconnect, ask_remove;
static action wait_heir, retry_soon, adopted, disown;
static action show_connected, show_updated, show_closing, show_closed, show_broken, show_lost, retry_later, give_up, vanish;

struct rule {
	action *act; /* NULL: none */
	enum dev_state next; /* DEV_NONE: the event means nothing here */
};

static const struct rule rules[DEV_STATES][EV_COUNT] = {
	[DEV_NEW] = {
		[EV_PREPARED] = { announce, DEV_OFFERED },
		[EV_REFUSED] = { give_up, DEV_GONE },
		[EV_LOST] = { give_up, DEV_GONE },
		[EV_DETACH] = { give_up, DEV_GONE },
		[EV_FORCE] = { give_up, DEV_GONE },
	},
	[DEV_OFFERED] = {
		[EV_CHOICE] = { ask_connect, DEV_CONNECTING },
		[EV_CLOSING] = { show_closed, DEV_CLOSED },
		[EV_DIED] = { offer_anew, DEV_OFFERED },
		[EV_MISDEED] = { show_broken, DEV_BROKEN },
		[EV_BROKEN] = { show_broken, DEV_BROKEN },
		[EV_LOST] = { show_lost, DEV_LOST },
		[EV_DETACH] = { show_closing, DEV_DETACHING },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_CONNECTING] = {
		[EV_SERVED] = { show_connected, DEV_CONNECTED },
		[EV_FAILED] = { ask_disconnect, DEV_CLOSING },
		[EV_ANEW] = { ask_disconnect, DEV_CLOSING },
		[EV_CLOSING] = { ask_disconnect, DEV_CLOSING },
		[EV_CLOSED] = { ask_disconnect, DEV_CLOSING },
		[EV_DIED] = { ask_disconnect, DEV_CLOSING },
		[EV_MISDEED] = { ask_disconnect, DEV_BREAKING },
		[EV_BROKEN] = { ask_disconnect, DEV_BREAKING },
		[EV_LOST] = { show_lost, DEV_LOST },
		[EV_DETACH] = { show_closing, DEV_DETACHING },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_CONNECTED] = {
		[EV_CHANGED] = { ask_update, DEV_CONNECTED },
		[EV_UPDATED] = { show_updated, DEV_CONNECTED },
		[EV_FAILED] = { ask_disconnect, DEV_CLOSING },
		[EV_ANEW] = { ask_disconnect, DEV_CLOSING },
		[EV_CLOSING] = { ask_disconnect, DEV_CLOSING },
		[EV_CLOSED] = { ask_disconnect, DEV_CLOSING },
		[EV_DIED] = { ask_disconnect, DEV_CLOSING },
		[EV_MISDEED] = { ask_disconnect, DEV_BREAKING },
		[EV_BROKEN] = { ask_disconnect, DEV_BREAKING },
		[EV_LOST] = { wait_heir, DEV_ORPHANED },
		[EV_DETACH] = { show_closing, DEV_DETACHING },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_CLOSING] = {
		[EV_DISCONNECTED] = { show_closed, DEV_CLOSED },
		[EV_MISDEED] = { NULL, DEV_BREAKING },
		[EV_BROKEN] = { NULL, DEV_BREAKING },
		[EV_LOST] = { show_closed, DEV_CLOSED },
		[EV_DETACH] = { NULL, DEV_STOPPING },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_CLOSED] = {
		[EV_ANEW] = { back_to_offer, DEV_LOST },
		[EV_CLOSED] = { back_to_offer, DEV_LOST },
		[EV_DIED] = { back_to_offer, DEV_LOST },
		[EV_MISDEED] = { show_broken, DEV_BROKEN },
		[EV_DETACH] = { NULL, DEV_STOPPED },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_LOST] = {
		[EV_BACK] = { ask_again, DEV_PREPARING },
		[EV_CLOSING] = { show_closed, DEV_CLOSED },
		[EV_MISDEED] = { show_broken, DEV_BROKEN },
		[EV_DETACH] = { show_closing, DEV_DETACHING },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_PREPARING] = {
		[EV_PREPARED] = { offer_anew, DEV_OFFERED },
		[EV_REFUSED] = { retry_later, DEV_LOST },
		[EV_MISDEED] = { show_broken, DEV_BROKEN },
		[EV_LOST] = { show_lost, DEV_LOST },
		[EV_DETACH] = { show_closing, DEV_DETACHING },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_ORPHANED] = {
		[EV_BACK] = { ask_adopt, DEV_ADOPTING },
		[EV_ANEW] = { show_closed, DEV_CLOSED },
		[EV_CLOSING] = { show_closed, DEV_CLOSED },
		[EV_CLOSED] = { show_closed, DEV_CLOSED },
		[EV_DIED] = { show_closed, DEV_CLOSED },
		[EV_MISDEED] = { show_broken, DEV_BROKEN },
		[EV_DETACH] = { show_closing, DEV_DETACHING },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_ADOPTING] = {
		[EV_SERVED] = { adopted, DEV_CONNECTED },
		[EV_REFUSED] = { retry_soon, DEV_ORPHANED },
		[EV_FAILED] = { disown, DEV_LOST },
		[EV_ANEW] = { ask_disconnect, DEV_CLOSING },
		[EV_CLOSING] = { ask_disconnect, DEV_CLOSING },
		[EV_CLOSED] = { ask_disconnect, DEV_CLOSING },
		[EV_DIED] = { ask_disconnect, DEV_CLOSING },
		[EV_MISDEED] = { ask_disconnect, DEV_BREAKING },
		[EV_BROKEN] = { ask_disconnect, DEV_BREAKING },
		[EV_LOST] = { wait_heir, DEV_ORPHANED },
		[EV_DETACH] = { show_closing, DEV_DETACHING },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_BREAKING] = {
		[EV_DISCONNECTED] = { show_broken, DEV_BROKEN },
		[EV_LOST] = { show_broken, DEV_BROKEN },
		[EV_DETACH] = { ask_remove, DEV_REMOVING },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_BROKEN] = {
		[EV_DETACH] = { ask_remove, DEV_REMOVING },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_DETACHING] = {
		[EV_CLOSING] = { ask_disconnect, DEV_STOPPING },
		[EV_CLOSED] = { ask_disconnect, DEV_STOPPING },
		[EV_DIED] = { ask_disconnect, DEV_STOPPING },
		[EV_MISDEED] = { ask_remove, DEV_REMOVING },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_STOPPING] = {
		[EV_DISCONNECTED] = { show_closed, DEV_STOPPED },
		[EV_LOST] = { show_closed, DEV_STOPPED },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_STOPPED] = {
		[EV_ANEW] = { ask_remove, DEV_REMOVING },
		[EV_CLOSED] = { ask_remove, DEV_REMOVING },
		[EV_DIED] = { ask_remove, DEV_REMOVING },
		[EV_MISDEED] = { ask_remove, DEV_REMOVING },
		[EV_FORCE] = { ask_remove, DEV_REMOVING },
	},
	[DEV_REMOVING] = {
		[EV_REMOVED] = { vanish, DEV_GONE },
		[EV_LOST] = { vanish, DEV_GONE },
	},
};

bool device_rule(enum dev_state state, enum dev_event ev, enum dev_state *next)
{
	*next = rules[state][ev].next;
	return *next != DEV_NONE;
}

/* ---- names ---- */

const char *device_state_inner(enum dev_state state)
{
	static const char *const names[DEV_STATES] = {
		[DEV_NONE] = "none", [DEV_NEW] = "new", [DEV_OFFERED] = "offered", [DEV_CONNECTING] = "connecting",
		[DEV_CONNECTED] = "connected", [DEV_CLOSING] = "closing", [DEV_CLOSED] = "closed", [DEV_LOST] = "lost",
		[DEV_PREPARING] = "preparing", [DEV_ORPHANED] = "orphaned", [DEV_ADOPTING] = "adopting",
		[DEV_BREAKING] = "breaking", [DEV_BROKEN] = "broken",
		[DEV_DETACHING] = "detaching", [DEV_STOPPING] = "stopping", [DEV_STOPPED] = "stopped",
		[DEV_REMOVING] = "removing", [DEV_GONE] = "gone",
	};

	return names[state];
}

const char *device_state_name(const struct device *dev)
{
	static const char *const shown[] = { "Unknown", "Initialising", "InitWait", "Initialised", "Connected", "Closing", "Closed" };

	if (dev->state >= DEV_LOST && dev->state <= DEV_ADOPTING)
		return "lost";
	if (dev->state == DEV_BROKEN || dev->state == DEV_BREAKING)
		return "broken";
	return shown[dev->announced ? dev->offer.state : XenbusStateInitialising];
}

const char *device_label(const struct device *dev)
{
	static char label[NAME_LEN + DEVICE_NAME_LEN + 8];

	snprintf(label, sizeof(label), "%s %s %s", dev->guest->name, pv_type_name(dev->id.type), dev->name);
	return label;
}

void device_fail(struct device *dev, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(dev->why, sizeof(dev->why), fmt, ap);
	va_end(ap);
	dev->error = error;
	pv_log_about(&dev->guest->log, PV_LOG_WARN, "%s: %s", device_label(dev), dev->why);
}

/* ---- what the guest sees ---- */

/* Show a state of the backend and, with it, why the connection ended (0: it did not, or in order). */
static int show(struct device *dev, enum xenbus_state state, int error)
{
	dev->offer.state = state;
	dev->offer.error = error;
	dev->dialect->show(dev);
	return 0;
}

static int show_connected(struct device *dev)
{
	dev->connect_us = (uv_hrtime() - dev->choice_ns) / 1000.0;
	dev->nconnects++;
	dev->error = 0;
	dev->why[0] = '\0';
	return show(dev, XenbusStateConnected, 0);
}

static int show_updated(struct device *dev)
{
	return show(dev, XenbusStateConnected, 0);
}

static int show_closing(struct device *dev)
{
	dev->call = 0; /* a pending prepare or connect no longer matters: disconnect follows */
	dev->retry_due = 0;
	return show(dev, XenbusStateClosing, dev->backend ? 0 : -EOWNERDEAD);
}

static int show_closed(struct device *dev)
{
	dev->call = 0;
	return show(dev, XenbusStateClosed, dev->error);
}

static int show_broken(struct device *dev)
{
	dev->call = 0;
	dev->retry_due = 0;
	return show(dev, XenbusStateClosed, dev->error);
}

/* The frontend need not tear down anything: its state stays, the error says why nothing is answered, and an offer of a new
 * generation follows when a backend is back. */
static int show_lost(struct device *dev)
{
	dev->call = 0;
	dev->error = -EOWNERDEAD;
	snprintf(dev->why, sizeof(dev->why), "its backend %s is gone; start it again", dev->backend_name);
	return show(dev, dev->offer.state, -EOWNERDEAD);
}

/* A connected frontend notices nothing: what it sees stays as it is, and what it chose waits for the backend that takes over. */
static int wait_heir(struct device *dev)
{
	dev->call = 0;
	dev->nretries = 0;
	dev->error = -EOWNERDEAD;
	snprintf(dev->why, sizeof(dev->why), "its backend %s is gone; start it again, and it goes on", dev->backend_name);
	return 0;
}

static int adopted(struct device *dev)
{
	dev->nadopted++;
	dev->error = 0;
	dev->why[0] = '\0';
	if (dev->unshown)
		config_show(dev);
	return 0;
}

/* A backend is there, but cannot go on where the last one was: begin anew, as far as the frontend can. */
static int disown(struct device *dev)
{
	device_post(dev, EV_BACK);
	return show_lost(dev);
}

/* Whatever the frontend chose before is stale from now on. */
static void begin_offer(struct device *dev)
{
	dev->unshown = false;
	dev->offer.magic = PV_NOXS_MAGIC;
	dev->offer.version = PV_NOXS_VERSION;
	dev->offer.type = dev->id.type;
	dev->offer.state = XenbusStateInitWait;
	dev->offer.error = 0;
	memset(&dev->choice, 0, sizeof(dev->choice));
	if (dev->backend)
		dev->backend_domid = dev->backend->domid;
	if (dev->error == -EOWNERDEAD)
		dev->why[0] = '\0';
	dev->error = 0; /* but other words stay for `pvio list`, until it is connected */
}

static int offer_anew(struct device *dev)
{
	begin_offer(dev);
	dev->dialect->offer(dev);
	return 0;
}

/* A frontend that has not chosen yet may be about to choose from the old offer: a new one makes that void. */
void device_changed(struct device *dev)
{
	if (dev->state == DEV_OFFERED)
		offer_anew(dev);
	else if (dev->state == DEV_CONNECTING || dev->state == DEV_CONNECTED)
		dev->dialect->changed(dev);
}

/* The first offer takes what the device holds. On failure it holds nothing. */
static int announce(struct device *dev)
{
	char why[WHY_LEN];
	int rc;

	begin_offer(dev);
	rc = dev->dialect->announce(dev, why, sizeof(why));
	if (rc < 0) {
		device_fail(dev, rc, "%s", why);
		return rc;
	}
	dev->announced = true;
	dev->dialect->offer(dev);
	dev->offer_us = (uv_hrtime() - dev->attach_ns) / 1000.0;
	return 0;
}

/* ---- what the backend is asked ---- */

static int ask_prepare(struct device *dev)
{
	backend_ask(dev, "prepare", EV_PREPARED, EV_REFUSED);
	return 0;
}

/* Can its frontend be offered it anew? If never, people are told why. */
static int renew(struct device *dev)
{
	char why[WHY_LEN];
	int rc = dev->dialect->renew(dev, why, sizeof(why));

	if (rc < 0 && rc != -EAGAIN)
		device_fail(dev, -EOWNERDEAD, "%s", why);
	return rc;
}

/* A backend that merely lost its connection to us may still serve the old rings: it works off calls in order. */
static int ask_again(struct device *dev)
{
	int rc = renew(dev);

	dev->retry_due = 0;
	if (rc == -EAGAIN)
		retry_soon(dev);
	if (rc < 0)
		return rc;
	backend_ask(dev, "disconnect", EV_NONE, EV_NONE);
	return ask_prepare(dev);
}

static int ask_connect(struct device *dev)
{
	if (dev->state == DEV_CONNECTING)
		flight_take(dev);
	backend_ask(dev, "connect", EV_SERVED, EV_FAILED);
	return 0;
}

static int ask_adopt(struct device *dev)
{
	int rc;

	dev->retry_due = 0;
	if (dev->backend && dev->backend->domid != dev->backend_domid) { /* to another domain everything has to be granted anew */
		rc = renew(dev);
		if (rc < 0 && rc != -EAGAIN)
			return rc; /* what waits for the old one goes on waiting: it may still come back */
		device_post(dev, EV_FAILED);
		return 0;
	}
	if (dev->backend)
		dev->backend->resume = true;
	return ask_connect(dev); /* the state says that it is one */
}

static int ask_update(struct device *dev)
{
	backend_ask(dev, "connect", EV_UPDATED, EV_FAILED);
	return 0;
}

static int ask_disconnect(struct device *dev)
{
	backend_ask(dev, "disconnect", EV_DISCONNECTED, EV_DISCONNECTED);
	return 0;
}

static int ask_remove(struct device *dev)
{
	dev->retry_due = 0;
	backend_ask(dev, "remove", EV_REMOVED, EV_REMOVED);
	return 0;
}

static void wait_list(struct device *dev)
{
	if (dev->waits)
		return;
	DL_APPEND2(dev->d->waiting, dev, wait_prev, wait_next);
	dev->waits = true;
}

/* The last connection has ended. With a backend there (prepare is asked again: it may have learned something) it is offered
 * anew, at once if its guest does not do that all the time; without one it is lost. */
static int back_to_offer(struct device *dev)
{
	struct bucket *offers = &dev->guest->offers;
	uint64_t now = pviod_now(dev->d);

	if (dev->retry_due)
		return 0;
	if (bucket_take(offers, &guest_offers, now)) {
		device_post(dev, EV_BACK);
		return 0;
	}
	dev->retry_due = now + bucket_wait(offers, &guest_offers);
	bucket_owe(offers, 1); /* others of its devices wait for the one after */
	snprintf(dev->why, sizeof(dev->why), "its guest connects anew too often, and waits to be offered it again");
	dev->nthrottled++;
	wait_list(dev);
	return 0;
}

/* A backend that is back may not get at the device's resource yet, for its predecessor is still being reaped. */
static int retry_later(struct device *dev)
{
	dev->retry_due = pviod_now(dev->d) + (dev->error == -EAGAIN ? AGAIN_MS : RETRY_MS);
	wait_list(dev);
	return show(dev, dev->offer.state, dev->error);
}

/* The process before is still being reaped, and must be gone, with all its I/O, before another touches the rings. However long that takes,
 * the guest loses nothing by waiting. */
static int retry_soon(struct device *dev)
{
	dev->retry_due = pviod_now(dev->d) + (dev->nretries++ < REAPS ? REAP_MS : AGAIN_MS);
	wait_list(dev);
	return 0;
}

void device_ask_again(struct device *dev, const char *method, enum dev_event answer)
{
	dev->again = method;
	dev->again_state = dev->state;
	dev->again_answer = answer;
	dev->again_due = pviod_now(dev->d) + AGAIN_MS;
	wait_list(dev);
}

/* ---- the end ---- */

static int give_up(struct device *dev)
{
	if (!dev->error)
		device_fail(dev, -ECANCELED, dev->backend ? "it was detached before it was announced" : "its backend ended meanwhile");
	backend_ask(dev, "remove", EV_NONE, EV_NONE); /* whatever prepare may have left; nobody waits for the answer */
	return 0;
}

static int vanish(struct device *dev)
{
	show(dev, XenbusStateClosed, dev->error);
	dev->dialect->retire(dev);
	dev->announced = false;
	dev->error = 0;
	return 0;
}

static void device_free(struct device *dev)
{
	struct pviod *d = dev->d;
	struct guest *g = dev->guest;

	if (dev->waits)
		DL_DELETE2(d->waiting, dev, wait_prev, wait_next);
	if (dev->queued)
		DL_DELETE2(d->ready, dev, ready_prev, ready_next);
	if (dev->backend)
		dev->backend->ndevices--;
	else
		pv_inflight_remove(&dev->id);
	flight_put(dev);
	if (dev->store.foreign)
		claim_gone(dev);
	HASH_DELETE(hh_serial, d->by_serial, dev);
	DL_DELETE(g->devices, dev);
	g->ndevices--;
	json_object_put(dev->config);
	free(dev);
	if (g->dying && !g->devices)
		guest_destroy(g);
}

/* ---- events ---- */

static void queue(struct device *dev)
{
	if (dev->queued)
		return;
	DL_APPEND2(dev->d->ready, dev, ready_prev, ready_next);
	dev->queued = true;
}

void device_post(struct device *dev, enum dev_event ev)
{
	dev->posted |= 1u << ev;
	queue(dev);
}

void device_look(struct device *dev)
{
	dev->look = true;
	queue(dev);
}

static void happen(struct device *dev, enum dev_event ev)
{
	const struct rule *r = &rules[dev->state][ev];
	enum dev_state old = dev->state;

	if (r->next == DEV_NONE)
		return;
	dev->state = r->next;
	if (r->act && r->act(dev) < 0) {
		dev->state = old;
		happen(dev, EV_REFUSED);
		return;
	}
	dev->look = dev->announced;
}

/* Has the device, and its guest, a look left? If not, it is looked at when there is one. */
static bool may_look(struct device *dev)
{
	uint64_t now = pviod_now(dev->d);
	unsigned wait;

	if (dev->look_due || dev->setting)
		return false;
	if (!bucket_take(&dev->looks, &dev->d->opt.looks, now))
		wait = bucket_wait(&dev->looks, &dev->d->opt.looks);
	else if (!bucket_take(&dev->guest->looks, &guest_looks, now))
		wait = bucket_wait(&dev->guest->looks, &guest_looks);
	else
		return true;
	dev->look_due = now + wait + 1;
	dev->nthrottled++;
	wait_list(dev);
	return false;
}

/* One snapshot of the guest's half, and what it asks for in this state. */
static void look(struct device *dev)
{
	struct pv_noxs_choice c;
	enum dev_event ev;
	const char *why;

	dev->nlooks++;
	ev = dev->dialect->look(dev, &c, &why);
	if (rules[dev->state][ev].next == DEV_NONE)
		return;
	if (ev == EV_MISDEED)
		device_fail(dev, -EPROTO, "the guest misbehaved: %s; detach and attach it to serve it again", why);
	if (ev == EV_CHOICE || ev == EV_CHANGED)
		dev->choice = c;
	if (ev == EV_CHOICE)
		dev->choice_ns = uv_hrtime();
	happen(dev, ev);
}

/* Work off one device. Returns false when it is gone. */
static bool work(struct device *dev)
{
	while (dev->posted && dev->state != DEV_GONE) {
		enum dev_event ev = __builtin_ctz(dev->posted);

		dev->posted &= ~(1u << ev);
		if (ev == EV_BACK && !dev->backend)
			continue; /* there is none, or it ended again meanwhile: the next one posts it */
		happen(dev, ev);
	}
	if (dev->look && dev->announced && may_look(dev)) {
		dev->look = false;
		look(dev);
	}
	waiters_device(dev);
	if (dev->state == DEV_GONE)
		return false;
	if (dev->posted || (dev->look && dev->announced && !dev->look_due && !dev->setting))
		queue(dev);
	else if (dev->announced && !dev->look_due && !dev->setting)
		dev->dialect->looked(dev);
	return true;
}

void device_drain(struct pviod *d)
{
	struct device *dev;

	while ((dev = d->ready)) {
		DL_DELETE2(d->ready, dev, ready_prev, ready_next);
		dev->queued = false;
		if (!work(dev))
			device_free(dev);
	}
}

static bool came(uint64_t *due, uint64_t now)
{
	if (*due == 0 || *due > now)
		return false;
	*due = 0;
	return true;
}

void device_tick(struct pviod *d)
{
	uint64_t now = pviod_now(d);
	struct device *dev, *next;

	DL_FOREACH_SAFE2(d->waiting, dev, next, wait_next) {
		if (came(&dev->look_due, now))
			device_look(dev);
		if (came(&dev->retry_due, now))
			device_post(dev, EV_BACK);
		if (came(&dev->again_due, now) && dev->state == dev->again_state)
			backend_ask(dev, dev->again, dev->again_answer, dev->again_answer);
		if (dev->look_due || dev->retry_due || dev->again_due)
			continue;
		DL_DELETE2(d->waiting, dev, wait_prev, wait_next);
		dev->waits = false;
	}
}

/* ---- attach, detach, find ---- */

int device_create(struct guest *g, const struct dialect *dialect, enum pv_noxs_type type, uint32_t devid, struct backend *b,
		  struct json_object *config, struct device **out, char *why, size_t len)
{
	struct device *dev;
	unsigned max = g->d->opt.devices_max;

	*out = NULL;
	if (g->ndevices >= max) {
		snprintf(why, len, "guest %s has %u devices, the limit (pviod --devices); detach one first", g->name, max);
		return -ENOSPC;
	}
	dev = calloc(1, sizeof(*dev));
	if (!dev) {
		snprintf(why, len, "out of memory");
		return -ENOMEM;
	}
	dev->d = g->d;
	dev->guest = g;
	dev->dialect = dialect;
	dev->id = (struct pv_device_id){ .guest = g->domid, .type = type, .devid = devid };
	pv_devid_name(type, devid, dev->name, sizeof(dev->name));
	dev->backend = b;
	b->ndevices++;
	dev->backend_domid = b->domid;
	memcpy(dev->backend_name, b->name, sizeof(dev->backend_name));
	dev->config = json_object_get(config);
	dev->attach_ns = uv_hrtime();
	dev->offer_us = dev->connect_us = -1;
	dev->serial = ++g->d->serial;
	dev->state = DEV_NEW;
	HASH_ADD(hh_serial, g->d->by_serial, serial, sizeof(dev->serial), dev);
	DL_APPEND(g->devices, dev);
	g->ndevices++;
	ask_prepare(dev);
	*out = dev;
	return 0;
}

void device_detach(struct device *dev, bool force)
{
	if (!force && dev->announced)
		force = !dev->dialect->present(dev); /* with nobody at the other end there is nobody to wait for */
	device_post(dev, force ? EV_FORCE : EV_DETACH);
}

/* A device of a guest: "vif/0", "vif0", "vbd/xvda", or its name alone if that is clear. */
struct device *device_find(struct guest *g, const char *name)
{
	struct device *dev, *found = NULL;

	DL_FOREACH(g->devices, dev) {
		const char *type = pv_type_name(dev->id.type);
		size_t n = strlen(type);

		if (strncmp(name, type, n) == 0 && strcmp(name + n + (name[n] == '/'), dev->name) == 0)
			return dev;
		if (strcmp(name, dev->name) == 0)
			found = dev; /* names of vifs are numbers, those of vbds are not */
	}
	return found;
}
