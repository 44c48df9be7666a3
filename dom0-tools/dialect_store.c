/* dialect_store.c - a device shown as XenStore nodes, to frontends that know nothing of pvio: those of Linux, for instance.
 *
 * Theory of operation. A device is two directories: the frontend's belongs to the guest and the backend's domain may read it,
 * the backend's the other way round. Each end writes its state into its own and watches the other's. They appear in one
 * transaction with the first offer, the frontend's state last. `shown` and `meaning` are the whole protocol. The
 * frontend's state is read by level, in each look; its other keys in one transaction, and only when a choice is awaited. Linux
 * takes odd steps, each of which costs it 5 s when it is not met:
 *	- netfront goes from Initialising to Connected at once, blkfront by way of Initialised: both have chosen then;
 *	- pcifront has chosen, in Initialised, before it looks at its backend; it answers Closing with Closed, and a guest has but one;
 *	- a device that the guest shuts down waits in Closing to see exactly Closing, and then says Closed;
 *	- a netfront that begins anew, in Initialising, waits to see something else than Closed;
 *	- a netfront that wants another xdp-headroom says Reconfiguring, waits without a limit to see Reconfigured, and is Connected again.
 * Where the directories are a xenstored's, Linux in the backend's domain looks into them as well, and would give the device to
 * its own driver, if it has one, as soon as the backend's state is Initialising: that is never written.
 * A foreign device is one whose directories another toolstack made and removes: only the offer and the state are ours.
 */
#include "pviod.h"
#include "nodes.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xen/io/blkif.h>

enum {
	PATH_LEN = 128, /* every path that is made here fits */
	TRIES = 8, /* of a transaction that others disturb */
	AWAY_TRIES = 60, /* looks at a device that was taken away, about 3 s */
	STATES = XenbusStateReconfigured + 1,
};

/* ---- the protocol ---- */

/* What the backend's state looks like, for what we have come to. A frontend sees Closed only when it is, or has to end. */
static enum xenbus_state shown(enum xenbus_state ours, enum xenbus_state front)
{
	if (ours == XenbusStateConnected && front == XenbusStateReconfiguring)
		return XenbusStateReconfigured;
	if (ours != XenbusStateClosed)
		return ours;
	if (front == XenbusStateClosing)
		return XenbusStateClosing;
	return front == XenbusStateInitialising ? XenbusStateReconfiguring : XenbusStateClosed;
}

/* What the frontend's state means, for what we have come to. Unknown: its node is not there. */
static const enum dev_event meaning[XenbusStateClosed + 1][STATES] = {
	[XenbusStateInitWait] = {
		[XenbusStateUnknown] = EV_CLOSING,
		[XenbusStateInitialising] = EV_ANEW,
		[XenbusStateInitialised] = EV_CHOICE,
		[XenbusStateConnected] = EV_CHOICE,
		[XenbusStateClosing] = EV_CLOSING,
		[XenbusStateClosed] = EV_CLOSED,
	},
	[XenbusStateConnected] = {
		[XenbusStateUnknown] = EV_CLOSING,
		[XenbusStateInitialising] = EV_ANEW,
		[XenbusStateConnected] = EV_CHANGED,
		[XenbusStateClosing] = EV_CLOSING,
		[XenbusStateClosed] = EV_CLOSING,
		[XenbusStateReconfiguring] = EV_CHANGED,
	},
	[XenbusStateClosing] = {
		[XenbusStateUnknown] = EV_CLOSING,
		[XenbusStateInitialising] = EV_CLOSING,
		[XenbusStateClosing] = EV_CLOSING,
		[XenbusStateClosed] = EV_CLOSING,
	},
	[XenbusStateClosed] = {
		[XenbusStateUnknown] = EV_CLOSED,
		[XenbusStateInitialising] = EV_ANEW,
		[XenbusStateClosed] = EV_CLOSED,
	},
};

/* ---- paths and keys ---- */

enum dir { FRONT, BACK, ERROR, DIRS };

/* What XenStore calls a type. */
static const char *kind_of(const struct device *dev)
{
	return dev->id.type == PV_NOXS_VF ? "pci" : pv_type_name(dev->id.type);
}

static void path_of(const struct device *dev, enum dir dir, const char *key, char path[PATH_LEN])
{
	const char *type = kind_of(dev), *error = dir == ERROR ? "error/" : "", *slash = *key ? "/" : "";
	unsigned guest = dev->id.guest, devid = dev->id.devid;

	if (dir == FRONT)
		snprintf(path, PATH_LEN, "/local/domain/%u/device/%s/%u%s%s", guest, type, devid, slash, key);
	else
		snprintf(path, PATH_LEN, "/local/domain/%u/%sbackend/%s/%u/%u%s%s", dev->backend_domid, error, type, guest, devid,
			 slash, key);
}

static struct nodes *nodes_of(const struct device *dev)
{
	return dev->guest->nodes;
}

/* Who writes keys into one directory: the first failure counts, and then nothing is written any more. */
struct put {
	struct device *dev;
	enum dir dir;
	int rc;
};

static void put(void *arg, const char *key, const char *value)
{
	struct put *p = arg;
	uint16_t guest = p->dev->id.guest, backend = p->dev->backend_domid;
	char path[PATH_LEN];

	if (p->rc < 0)
		return;
	path_of(p->dev, p->dir, key, path);
	p->rc = nodes_of(p->dev)->ops->write(nodes_of(p->dev), path, value, p->dir == FRONT ? guest : backend,
					     p->dir == FRONT ? backend : guest);
}

static void __attribute__((format(printf, 3, 4))) putf(struct put *p, const char *key, const char *fmt, ...)
{
	char value[PATH_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	put(p, key, value);
}

static int write_backend(struct device *dev)
{
	struct put p = { .dev = dev, .dir = BACK };
	char front[PATH_LEN];

	path_of(dev, FRONT, "", front);
	put(&p, "", "");
	put(&p, "frontend", front);
	putf(&p, "frontend-id", "%u", dev->id.guest);
	put(&p, "online", "1");
	if (dev->id.type == PV_NOXS_VIF)
		putf(&p, "handle", "%u", dev->id.devid);
	else if (dev->id.type == PV_NOXS_VBD)
		put(&p, "dev", dev->name);
	return p.rc;
}

/* Is the backend's directory there? That of a foreign device may be gone, and is not ours to make. */
static bool there(struct device *dev)
{
	char path[PATH_LEN], value[16];

	path_of(dev, BACK, "frontend-id", path);
	return !dev->store.foreign || nodes_of(dev)->ops->read(nodes_of(dev), path, value, sizeof(value)) >= 0;
}

static int write_offer(struct device *dev)
{
	struct put p = { .dev = dev, .dir = BACK };
	const struct store_writer w = { .put = put, .arg = &p };

	if (!there(dev))
		return -ENOENT;
	store_offer(&w, &dev->offer);
	putf(&p, "state", "%d", dev->store.shown);
	return p.rc;
}

/* To be read by a script in the guest, which says in pair-used what it has come to. */
static void put_pair(struct put *p)
{
	static const char *const words[] = { [PV_VIF_USE_VIF] = "vif", [PV_VIF_USE_VF] = "vf" };
	uint32_t pair = p->dev->offer.vif.pair;
	char path[PATH_LEN];

	if (pair != PV_VIF_ALONE) {
		put(p, "pair", words[pair]);
		return;
	}
	path_of(p->dev, FRONT, "pair", path);
	nodes_of(p->dev)->ops->remove(nodes_of(p->dev), path); /* it may have been one */
}

static int write_frontend(struct device *dev)
{
	struct put p = { .dev = dev, .dir = FRONT };
	char text[PATH_LEN];

	path_of(dev, BACK, "", text);
	put(&p, "", "");
	put(&p, "backend", text);
	putf(&p, "backend-id", "%u", dev->backend_domid);
	if (dev->id.type == PV_NOXS_VIF) {
		put_pair(&p);
		pv_mac_text(dev->offer.vif.mac, text);
		putf(&p, "handle", "%u", dev->id.devid);
		put(&p, "mac", text);
		putf(&p, "mtu", "%u", dev->offer.vif.mtu);
		putf(&p, "trusted", "%d", !dev->offer.vif.untrusted);
	} else if (dev->id.type == PV_NOXS_VBD) {
		putf(&p, "virtual-device", "%u", dev->id.devid);
		put(&p, "device-type", dev->offer.vbd.info & VDISK_CDROM ? "cdrom" : "disk");
	}
	putf(&p, "state", "%d", XenbusStateInitialising);
	return p.rc;
}

/* An offer that is not the first: what the frontend's directory says of it has changed too. A Linux that is connected looks at the backend's
 * keys when the state there is written again, and at its own when it connects the next time. */
static int write_changed(struct device *dev)
{
	struct put p = { .dev = dev, .dir = FRONT };
	char text[PV_MAC_TEXT];
	int rc = write_offer(dev);

	if (rc < 0 || dev->id.type != PV_NOXS_VIF || dev->store.foreign)
		return rc;
	pv_mac_text(dev->offer.vif.mac, text);
	put(&p, "mac", text);
	putf(&p, "mtu", "%u", dev->offer.vif.mtu);
	put_pair(&p);
	return p.rc;
}

static int write_both(struct device *dev)
{
	int rc = write_backend(dev);

	if (rc == 0)
		rc = write_offer(dev);
	return rc < 0 ? rc : write_frontend(dev);
}

/* Another device that is shown in the same directory `dir` of its type? */
static bool has_sibling(const struct device *dev, enum dir dir)
{
	const struct device *o;

	DL_FOREACH(dev->guest->devices, o)
		if (o != dev && o->announced && o->dialect == dev->dialect && o->id.type == dev->id.type &&
		    (dir == FRONT || o->backend_domid == dev->backend_domid))
			return true;
	return false;
}

/* A directory goes, and with the last device what held it, so that nothing piles up: here, or in `remove`, if others have devices there
 * too. Each node goes by itself: Linux does not look below one that went. */
static int remove_dir(struct device *dev, enum dir dir)
{
	struct nodes *n = nodes_of(dev);
	char path[PATH_LEN];
	int rc;

	if (dir != ERROR && dev->store.foreign)
		return 0;
	path_of(dev, dir, "", path);
	rc = n->ops->remove(n, path);
	if (rc < 0 || n->others || has_sibling(dev, dir))
		return rc;
	*strrchr(path, '/') = '\0';
	return n->ops->remove(n, path);
}

static int remove_both(struct device *dev)
{
	int ret = 0, rc;

	for (enum dir dir = FRONT; dir < DIRS; dir++) {
		rc = remove_dir(dev, dir);
		ret = ret < 0 ? ret : rc;
	}
	return ret;
}

/* What its backend had in another domain before, which stays until the guest's kernel has connected anew: netfront looks at it to the last. */
static void remove_before(struct device *dev)
{
	uint16_t now = dev->backend_domid;

	if (dev->store.before && dev->store.before != now) {
		dev->backend_domid = dev->store.before;
		remove_dir(dev, BACK);
		remove_dir(dev, ERROR);
		dev->backend_domid = now;
	}
	dev->store.before = 0;
}

/* Let changes appear as one. When others change the same all the time, they are made one by one. */
static int together(struct device *dev, int (*change)(struct device *dev))
{
	struct nodes *n = nodes_of(dev);
	int rc;

	for (int i = 0; i < TRIES; i++) {
		rc = n->ops->begin(n);
		if (rc < 0)
			return rc;
		rc = change(dev);
		if (rc < 0) {
			n->ops->abort(n);
			return rc;
		}
		rc = n->ops->commit(n);
		if (rc != -EAGAIN)
			return rc;
	}
	return change(dev);
}

/* What cannot be shown is told to people, and goes on: the guest sees an older state, and dom0 can detach. */
static void complain(struct device *dev, int rc)
{
	if (rc < 0)
		device_fail(dev, rc, "its XenStore nodes cannot be written: %s", strerror(-rc));
}

/* ---- the dialect ---- */

static void watched(void *ctx)
{
	device_look(ctx);
}

/* Has another toolstack given the guest a device of that name? */
static bool taken(struct device *dev)
{
	char path[PATH_LEN], value[PATH_LEN];

	path_of(dev, FRONT, "backend", path);
	return nodes_of(dev)->others && !dev->store.foreign && nodes_of(dev)->ops->read(nodes_of(dev), path, value, sizeof(value)) >= 0;
}

static int announce(struct device *dev, char *why, size_t len)
{
	struct nodes *n = nodes_of(dev);
	char path[PATH_LEN];
	int rc;

	if (taken(dev)) {
		snprintf(why, len, "another toolstack has given it a %s %s; choose another name", kind_of(dev), dev->name);
		return -EEXIST;
	}
	dev->store.front = XenbusStateInitialising;
	dev->store.shown = XenbusStateInitWait;
	rc = dev->store.foreign ? 0 : together(dev, write_both);
	path_of(dev, FRONT, "", path);
	if (rc == 0)
		rc = n->ops->watch(n, path, watched, dev);
	if (rc == 0)
		return 0;
	snprintf(why, len, "its XenStore nodes cannot be made: %s", strerror(-rc));
	remove_both(dev);
	return rc;
}

static void offer(struct device *dev)
{
	struct nodes *n = nodes_of(dev);
	char path[PATH_LEN];

	dev->store.left = false;
	if (dev->offer.generation++ == 0 && !dev->store.foreign)
		return; /* it appeared with the directories */
	dev->store.shown = XenbusStateInitWait;
	complain(dev, together(dev, dev->store.away == STORE_AWAY ? write_both : write_changed));
	dev->store.away = STORE_HERE;
	path_of(dev, ERROR, "", path);
	n->ops->remove(n, path);
}

static void changed(struct device *dev)
{
	complain(dev, together(dev, write_changed));
}

/* Linux' way to tell why: the errno and a line. Of what is dom0's affair the guest learns the errno alone. */
static void show_error(struct device *dev)
{
	struct put p = { .dev = dev, .dir = ERROR };

	putf(&p, "error", "%d %s", -dev->offer.error, dev->offer.error == -EPROTO ? dev->why : strerror(-dev->offer.error));
	complain(dev, p.rc);
}

static int write_state(struct device *dev)
{
	struct put p = { .dev = dev, .dir = BACK };

	if (!there(dev))
		return 0;
	if (dev->store.shown == XenbusStateClosing && dev->state == DEV_DETACHING && !dev->store.foreign)
		put(&p, "online", "0");
	putf(&p, "state", "%d", dev->store.shown);
	return p.rc;
}

static void show_state(struct device *dev)
{
	enum xenbus_state state = shown(dev->offer.state, dev->store.front);

	if (state == dev->store.shown)
		return;
	dev->store.shown = state;
	complain(dev, dev->store.foreign ? together(dev, write_state) : write_state(dev));
}

static void show(struct device *dev)
{
	if (dev->offer.error)
		show_error(dev);
	if (dev->offer.state == XenbusStateConnected && dev->store.before)
		remove_before(dev);
	show_state(dev);
}

/* The frontend's state: Unknown if it is not there, -EPROTO if it is none; other -errno: the store is gone. */
static int read_front(struct device *dev)
{
	char path[PATH_LEN], value[4];
	int rc;

	path_of(dev, FRONT, "state", path);
	rc = nodes_of(dev)->ops->read(nodes_of(dev), path, value, sizeof(value));
	if (rc == -ENOENT)
		return XenbusStateUnknown;
	if (rc < 0)
		return rc == -EINVAL ? -EPROTO : rc;
	return rc == 1 && *value >= '0' && *value < '0' + STATES ? *value - '0' : -EPROTO;
}

static int read_key(void *arg, const char *key, char *buf, size_t len)
{
	struct device *dev = arg;
	char path[PATH_LEN];

	path_of(dev, FRONT, key, path);
	return nodes_of(dev)->ops->read(nodes_of(dev), path, buf, len);
}

static enum pv_vif_pair read_pair(struct device *dev)
{
	char value[8] = "";
	int n = dev->offer.vif.pair ? read_key(dev, "pair-used", value, sizeof(value) - 1) : -ENOENT;

	if (n < 0)
		return PV_VIF_ALONE;
	return strcmp(value, "vf") == 0 ? PV_VIF_USE_VF : strcmp(value, "vif") == 0 ? PV_VIF_USE_VIF : PV_VIF_ALONE;
}

/* One consistent reading of what the frontend chose. One that was changed meanwhile is read when its watch tells: once a look, for the
 * guest can change it as often as it likes. */
static enum dev_event choose(struct device *dev, struct pv_noxs_choice *c, const char **why)
{
	const struct store_reader r = { .read = read_key, .arg = dev };
	struct nodes *n = nodes_of(dev);
	int rc;

	if (n->ops->begin(n) < 0)
		return EV_NONE;
	rc = store_choice(&r, &dev->offer, c, why);
	if (n->ops->commit(n) < 0)
		return EV_NONE;
	return rc == 0 ? EV_CHOICE : rc == -EPROTO ? EV_MISDEED : EV_NONE;
}

/* A connected vif's frontend may have chosen something anew. That it is Reconfigured is shown when the backend has followed. */
static enum dev_event choose_anew(struct device *dev, struct pv_noxs_choice *c, const char **why)
{
	const struct store_reader r = { .read = read_key, .arg = dev };
	int rc = store_rechoice(&r, &dev->offer, &dev->choice, c, why);

	if (rc == 0 && choice_differs(c, &dev->choice))
		return EV_CHANGED;
	if (rc == 0 && !dev->call)
		show_state(dev);
	return rc == -EPROTO ? EV_MISDEED : EV_NONE;
}

static enum dev_event look(struct device *dev, struct pv_noxs_choice *c, const char **why)
{
	int front = read_front(dev);
	enum dev_event ev;

	*why = "its state is none that XenBus has";
	if (dev->store.away || (front < 0 && front != -EPROTO))
		return EV_NONE;
	dev->store.front = front < 0 ? XenbusStateUnknown : front;
	if (dev->id.type == PV_NOXS_VIF)
		dev->pair = read_pair(dev);
	dev->store.left |= dev->store.front == XenbusStateClosed;
	ev = meaning[dev->offer.state][dev->store.front];
	if (dev->offer.state == XenbusStateClosed && dev->store.front == XenbusStateInitialised && dev->store.left)
		ev = EV_ANEW;
	if (ev == EV_CHANGED && dev->state == DEV_CONNECTED && dev->id.type == PV_NOXS_VIF)
		return choose_anew(dev, c, why);
	show_state(dev);
	if (front < 0)
		return EV_MISDEED;
	if (ev == EV_CHANGED)
		return EV_NONE; /* nobody to follow it is there, or nothing of the device can change */
	if (ev == EV_CHOICE)
		return dev->state == DEV_OFFERED ? choose(dev, c, why) : EV_NONE;
	if (ev == EV_CLOSED && dev->state == DEV_CLOSED)
		return EV_NONE; /* it is offered anew when its frontend begins anew */
	return ev;
}

static void looked(struct device *dev)
{
	(void)dev; /* watches need no unmasking: looks are limited */
}

static bool present(struct device *dev)
{
	int front = read_front(dev);

	return (front > XenbusStateInitialising && front < XenbusStateClosed) || front == XenbusStateReconfiguring;
}

/* ---- another domain serves it ---- */

static int write_closed(struct device *dev)
{
	struct put p = { .dev = dev, .dir = BACK };

	putf(&p, "state", "%d", XenbusStateClosed);
	return p.rc;
}

/* Nobody in the guest watches its backend. A xenstored does not tell of watches: there it gets a while. */
static bool unwatched(struct device *dev)
{
	struct nodes *n = nodes_of(dev);
	char path[PATH_LEN];

	path_of(dev, BACK, "", path);
	return n->ops->watched ? !n->ops->watched(n, path) : dev->nretries > AWAY_TRIES;
}

/* To another domain a frontend has to grant everything anew, and in which domain its backend is Linux reads when a device appears: so it goes, and
 * appears again. It is closed first, for the last that Linux does to a device that goes is to write Closed, if that was not its state: into what
 * appears again. And it appears when Linux has ended its watch on the backend, for it would take what appears earlier for what was there all the time. A vbd
 * that has requests in flight would wait for them as it goes, for ever, and nobody can answer them. */
static int reappear(struct device *dev)
{
	enum store_away was = dev->store.away;
	bool closed = read_front(dev) == XenbusStateClosed || unwatched(dev);
	int rc = 0;

	if (was == STORE_HERE && (rc = write_closed(dev)) == 0)
		dev->store.away = STORE_CLOSING;
	else if (was == STORE_CLOSING && closed && (rc = remove_dir(dev, FRONT)) == 0)
		dev->store.away = STORE_AWAY;
	if (dev->store.away != was)
		dev->nretries = 0;
	dev->store.shown = dev->offer.state = XenbusStateClosed;
	if (was != STORE_AWAY || dev->nretries == 0 || !unwatched(dev))
		return -EAGAIN; /* at once would be too soon for a driver that is just looking who its backend is */
	if (dev->backend->domid == dev->backend_domid && dev->nretries < AWAY_TRIES)
		return -EAGAIN; /* netfront looks at the old directory once more, which is to be the new one */
	remove_before(dev);
	dev->store.before = dev->backend_domid;
	return 0;
}

static int renew(struct device *dev, char *why, size_t len)
{
	bool moved = dev->backend->domid != dev->backend_domid, connected = dev->offer.state == XenbusStateConnected;

	if (dev->store.away || (moved && !dev->store.foreign && (dev->id.type == PV_NOXS_VIF || !connected)))
		return reappear(dev);
	if (!moved && !connected)
		return 0; /* what was connected notices nothing of its backend's end, and nothing in XenStore makes Linux connect anew */
	if (moved)
		return pv_why(why, len, -EOWNERDEAD, "its backend %s is in domain %u now, and what the guest's kernel has in flight waits for domain %u; "
			      "make it domain %u again (pvio guest create --domid), or detach this and attach it again", dev->backend_name,
			      dev->backend->domid, dev->backend_domid, dev->backend_domid);
	return pv_why(why, len, -EOWNERDEAD, "its backend %s was restarted, and the guest's kernel cannot be connected anew; detach it and attach it "
		      "again", dev->backend_name);
}

static void retire(struct device *dev)
{
	struct nodes *n = nodes_of(dev);
	char path[PATH_LEN];

	path_of(dev, FRONT, "", path);
	n->ops->unwatch(n, path, dev);
	remove_before(dev);
	complain(dev, remove_both(dev));
}

const struct dialect dialect_store = {
	.name = "xenstore",
	.announce = announce,
	.offer = offer,
	.show = show,
	.changed = changed,
	.look = look,
	.looked = looked,
	.present = present,
	.renew = renew,
	.retire = retire,
};
