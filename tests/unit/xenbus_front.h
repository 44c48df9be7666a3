/* xenbus_front.h - for tests: a guest's kernel as XenStore knows one: xenbus with netfront, blkfront and pcifront as Linux 6.1 has them, on
 * the guest's own store page (xs_client.h).
 *
 * It makes the same requests in the same order: devices found at boot and by the watch on `device`; the backend's state watched;
 * keys written in a transaction; netfront from Initialising to Connected at once, blkfront by way of Initialised; Closed when the
 * backend closes; pcifront to Initialised before it looks at its backend; at shutdown Closing, until exactly Closing is seen. What it does beside that is to stop at each step.
 * Rings are real shared pages and ports without anything in them; xenbus_port.h puts the frontends' library on top.
 */
#ifndef XENBUS_FRONT_H
#define XENBUS_FRONT_H

#include "tests/unit/xs_client.h"
#include <pvio/hyper.h>
#include <pvio/noxs.h>
#include <xen/io/pciif.h>
#include <xen/io/protocols.h>
#include <xen/io/xenbus.h>

#define XB __attribute__((unused)) static

enum { XB_DEVICES = 16, XB_PATH = 160, XB_WAIT_MS = 20000 };

enum xb_step { /* each is reached after what it names was done */
	XB_PROBED, /* the backend is known */
	XB_SAW_INITWAIT, XB_SHARED, XB_BEGUN /* a transaction */, XB_WRITTEN /* all keys */, XB_ENDED /* it */, XB_CHOSEN /* state 3 or 4 */,
	XB_SAW_CONNECTED, XB_CONNECTED /* blkfront's state 4 */, XB_SAW_CLOSING, XB_CLOSED, XB_UNWATCHED /* it goes */, XB_STEPS
};

struct xb;

/* Owner: its kernel. */
struct xb_dev {
	struct xb *xb; /* NULL: a free place */
	enum pv_noxs_type type;
	uint32_t devid;
	char node[32]; /* device/vif/0 */
	char other[XB_PATH]; /* the backend's directory */
	uint16_t other_id;
	bool bound; /* to its driver */
	enum xenbus_state state; /* ours, as last written */
	struct pv_noxs_choice choice; /* what connects: queues, references, ports */
	bool down; /* Closing was answered, at shutdown */
	void *pages; /* of rings of our own */
	unsigned npages;
	enum xenbus_state seen; /* the backend's, at its last event */
	bool again; /* it was written since somebody looked, perhaps once more the same */
	unsigned told; /* how often it was written, as the watch tells: of two writes at once only the second is seen */
};

/* Owner: the test; one thread. */
struct xb {
	struct xs xs;
	struct pv_hyper *h; /* grants and ports */
	uint16_t domid;
	struct xb_dev dev[XB_DEVICES];
	unsigned queues, order; /* wanted at most; 0 queues: 1 */
	bool unloaded[PV_NOXS_VF + 1]; /* the driver of this type */
	bool passive; /* the drivers only find and watch: xenbus_port.h does the rest */
	bool halting;
	void (*at)(struct xb_dev *d, enum xb_step step); /* NULL: go on */
	void (*turn)(void); /* while waiting: what others have to do */
	unsigned connects; /* times that a choice was written */
};

/* ---- xenbus: paths and states ---- */

static const char *xb_path(const char *dir, const char *key)
{
	static char path[4][2 * XB_PATH];
	static unsigned next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, key);
	return p;
}

/* A key of some directory; "" if it cannot be read. Static. */
XB const char *xb_get(struct xb *xb, const char *dir, const char *key)
{
	static char value[XENSTORE_PAYLOAD_MAX + 1];

	if (xs_read(&xb->xs, 0, xb_path(dir, key), value, sizeof(value)) < 0)
		value[0] = '\0';
	return value;
}

XB uint64_t xb_number(struct xb *xb, const char *dir, const char *key, uint64_t none)
{
	const char *v = xb_get(xb, dir, key);

	return *v ? strtoull(v, NULL, 10) : none;
}

XB enum xenbus_state xb_state_of(struct xb *xb, const char *dir)
{
	return (enum xenbus_state)xb_number(xb, dir, "state", XenbusStateUnknown);
}

XB enum xenbus_state xb_other_state(struct xb_dev *d)
{
	return xb_state_of(d->xb, d->other);
}

static bool xb_exists(struct xb *xb, const char *path)
{
	return xs_list(&xb->xs, 0, path) >= 0;
}

static void xb_at(struct xb_dev *d, enum xb_step step)
{
	if (d->xb->at)
		d->xb->at(d, step);
}

/* In a transaction, and only if the node is still there. */
XB void xb_switch(struct xb_dev *d, enum xenbus_state state)
{
	struct xs *x = &d->xb->xs;
	char now[16];
	int rc;

	if (d->state == state)
		return;
	do {
		uint32_t tx = xs_begin(x);

		rc = xs_read(x, tx, xb_path(d->node, "state"), now, sizeof(now));
		if (rc >= 0)
			rc = xs_printf(x, tx, xb_path(d->node, "state"), "%d", state);
		rc = xs_end(x, tx, rc >= 0);
	} while (rc == -EAGAIN);
	d->state = state;
}

static void xb_turn_once(struct xb *xb)
{
	if (xb->turn)
		xb->turn();
}

/* ---- rings ---- */

static unsigned xb_min(uint64_t a, uint64_t b)
{
	return (unsigned)(a < b ? a : b);
}

/* The page of pcifront, in which nobody asks anything. */
static void xb_share_page(struct xb_dev *d)
{
	int port = pv_evt_alloc(d->xb->h, d->other_id);
	uint32_t gref;

	d->npages = 1;
	if (port < 0 || pv_gnt_share(d->xb->h, d->other_id, 1, true, NULL, &gref, &d->pages) < 0)
		fail_msg("%s", pv_hyper_error(d->xb->h));
	d->choice = (struct pv_noxs_choice){ .queues = 1 };
	d->choice.vf[0] = (struct pv_noxs_vf_queue){ .gref = gref, .port = (uint32_t)port };
}

/* Rings that nobody puts anything into, and their ports. */
static void xb_share(struct xb_dev *d)
{
	struct xb *xb = d->xb;
	unsigned queues = xb_min(xb->queues ? xb->queues : 1, xb_number(xb, d->other, "multi-queue-max-queues", 1));
	unsigned order = d->type == PV_NOXS_VBD ? xb_min(xb->order, xb_number(xb, d->other, "max-ring-page-order", 0)) : 0;
	bool split = xb_number(xb, d->other, "feature-split-event-channels", 0);
	unsigned each = d->type == PV_NOXS_VIF ? 2 : 1u << order;
	uint32_t gref[PV_NOXS_QUEUES_MAX * PV_NOXS_RING_PAGES_MAX];

	if (d->type == PV_NOXS_VF) {
		xb_share_page(d);
		return;
	}
	d->npages = queues * each;
	if (pv_gnt_share(xb->h, d->other_id, d->npages, true, NULL, gref, &d->pages) < 0)
		fail_msg("%s", pv_hyper_error(xb->h));
	d->choice = (struct pv_noxs_choice){ .queues = (uint16_t)queues, .ring_order = (uint8_t)order };
	for (unsigned i = 0; i < queues; i++) {
		int port = pv_evt_alloc(xb->h, d->other_id), other = split ? pv_evt_alloc(xb->h, d->other_id) : port;

		assert_true(port > 0 && other > 0);
		if (d->type == PV_NOXS_VIF)
			d->choice.vif[i] = (struct pv_noxs_vif_queue){ gref[2 * i], gref[2 * i + 1], port, other };
		else
			d->choice.vbd[i].port = port;
		for (unsigned k = 0; d->type == PV_NOXS_VBD && k < each; k++)
			d->choice.vbd[i].ring_gref[k] = gref[i * each + k];
	}
}

static void xb_unshare(struct xb_dev *d)
{
	for (unsigned i = 0; d->pages && i < d->choice.queues; i++) {
		struct pv_noxs_vif_queue *q = &d->choice.vif[i];

		if (d->type != PV_NOXS_VIF) {
			pv_evt_unbind(d->xb->h, d->type == PV_NOXS_VF ? d->choice.vf[i].port : d->choice.vbd[i].port);
			continue;
		}
		pv_evt_unbind(d->xb->h, q->tx_port);
		if (q->rx_port != q->tx_port)
			pv_evt_unbind(d->xb->h, q->rx_port);
	}
	if (d->pages)
		assert_int_equal(pv_gnt_unshare(d->xb->h, d->pages, d->npages), 0);
	d->pages = NULL;
}

/* ---- what the drivers write ---- */

static void xb_put(struct xb_dev *d, uint32_t tx, const char *dir, const char *key, uint32_t n)
{
	int rc = xs_printf(&d->xb->xs, tx, xb_path(dir, key), "%u", n);

	if (rc < 0 && rc != -ENOENT && rc != -EACCES) /* the directory may have gone, or the transaction with it */
		fail_msg("%s/%s: %s", dir, key, strerror(-rc));
}

/* The directory of queue i: the device's own if there is but one. */
static const char *xb_queue_dir(struct xb_dev *d, unsigned i)
{
	static char dir[XB_PATH];

	if (d->choice.queues == 1)
		return d->node;
	snprintf(dir, sizeof(dir), "%s/queue-%u", d->node, i);
	return dir;
}

static void xb_write_vif(struct xb_dev *d, uint32_t tx)
{
	static const struct {
		const char *key;
		uint32_t bit;
	} on[] = {
		{ "feature-sg", PV_VIF_SG }, { "feature-gso-tcpv4", PV_VIF_GSO_TCPV4 }, { "feature-gso-tcpv6", PV_VIF_GSO_TCPV6 },
		{ "feature-ipv6-csum-offload", PV_VIF_CSUM_IPV6 },
	};

	if (*xb_get(d->xb, d->other, "multi-queue-max-queues"))
		xb_put(d, tx, d->node, "multi-queue-num-queues", d->choice.queues);
	for (unsigned i = 0; i < d->choice.queues; i++) {
		const struct pv_noxs_vif_queue *q = &d->choice.vif[i];
		const char *dir = xb_queue_dir(d, i);

		xb_put(d, tx, dir, "tx-ring-ref", q->tx_gref);
		xb_put(d, tx, dir, "rx-ring-ref", q->rx_gref);
		if (q->tx_port == q->rx_port) {
			xb_put(d, tx, dir, "event-channel", q->tx_port);
			continue;
		}
		xb_put(d, tx, dir, "event-channel-tx", q->tx_port);
		xb_put(d, tx, dir, "event-channel-rx", q->rx_port);
	}
	xb_put(d, tx, d->node, "request-rx-copy", 1);
	xb_put(d, tx, d->node, "feature-rx-notify", 1);
	for (size_t i = 0; i < sizeof(on) / sizeof(on[0]); i++)
		xb_put(d, tx, d->node, on[i].key, !d->xb->passive || d->choice.features & on[i].bit);
	if (xb_number(d->xb, d->other, "feature-xdp-headroom", 0))
		xb_put(d, tx, d->node, "xdp-headroom", d->choice.headroom);
	if (d->choice.features & PV_VIF_CTRL_RING) { /* here Linux' differs: it has none, and no filter */
		xb_put(d, tx, d->node, "ctrl-ring-ref", d->choice.ctrl_gref);
		xb_put(d, tx, d->node, "event-channel-ctrl", d->choice.ctrl_port);
	} else if (d->xb->passive) {
		xs_rm(&d->xb->xs, tx, xb_path(d->node, "ctrl-ring-ref"));
	}
	if (d->xb->passive) {
		xb_put(d, tx, d->node, "feature-no-csum-offload", !(d->choice.features & PV_VIF_CSUM_IPV4)); /* nor this */
		xb_put(d, tx, d->node, "request-multicast-control", !!(d->choice.features & PV_VIF_MCAST_CONTROL));
	}
}

static void xb_write_vbd(struct xb_dev *d, uint32_t tx)
{
	unsigned pages = 1u << d->choice.ring_order;

	if (pages > 1)
		xb_put(d, tx, d->node, "ring-page-order", d->choice.ring_order);
	if (d->choice.queues > 1)
		xb_put(d, tx, d->node, "multi-queue-num-queues", d->choice.queues);
	for (unsigned i = 0; i < d->choice.queues; i++) {
		const char *dir = xb_queue_dir(d, i);

		for (unsigned k = 0; k < pages; k++) {
			char key[24] = "ring-ref";

			if (pages > 1)
				snprintf(key, sizeof(key), "ring-ref%u", k);
			xb_put(d, tx, dir, key, d->choice.vbd[i].ring_gref[k]);
		}
		xb_put(d, tx, dir, "event-channel", d->choice.vbd[i].port);
	}
	xs_printf(&d->xb->xs, tx, xb_path(d->node, "protocol"), d->choice.abi == PV_VBD_ABI_X86_32 ? XEN_IO_PROTO_ABI_X86_32 : XEN_IO_PROTO_ABI_X86_64);
	xb_put(d, tx, d->node, "feature-persistent", 1);
}

static void xb_write_vf(struct xb_dev *d, uint32_t tx)
{
	xb_put(d, tx, d->node, "pci-op-ref", d->choice.vf[0].gref);
	xb_put(d, tx, d->node, "event-channel", d->choice.vf[0].port);
	xs_printf(&d->xb->xs, tx, xb_path(d->node, "magic"), XEN_PCI_MAGIC);
}

/* Tell what connects, then say so. */
XB void xb_tell(struct xb_dev *d)
{
	struct xs *x = &d->xb->xs;
	int rc;

	do {
		uint32_t tx = xs_begin(x);

		xb_at(d, XB_BEGUN);
		if (d->type == PV_NOXS_VIF)
			xb_write_vif(d, tx);
		else if (d->type == PV_NOXS_VF)
			xb_write_vf(d, tx);
		else
			xb_write_vbd(d, tx);
		xb_at(d, XB_WRITTEN);
		rc = xs_end(x, tx, true);
	} while (rc == -EAGAIN);
	xb_at(d, XB_ENDED);
	d->xb->connects++;
	xb_switch(d, d->type == PV_NOXS_VIF ? XenbusStateConnected : XenbusStateInitialised);
	xb_at(d, XB_CHOSEN);
}

/* ---- following the backend ---- */

static void xb_closed(struct xb_dev *d)
{
	xb_at(d, XB_SAW_CLOSING);
	xb_switch(d, XenbusStateClosed);
	d->down = true;
	xb_at(d, XB_CLOSED);
}

static void xb_connect(struct xb_dev *d)
{
	xb_at(d, XB_SAW_INITWAIT);
	xb_unshare(d); /* of an earlier connection */
	xb_share(d);
	xb_at(d, XB_SHARED);
	xb_tell(d);
}

static void xb_backend_changed(struct xb_dev *d)
{
	enum xenbus_state other = xb_other_state(d);

	d->seen = other;
	d->again = true;
	d->told++;
	if (d->xb->passive)
		return;
	if (d->xb->halting) {
		if (other == XenbusStateClosing)
			xb_closed(d);
		return;
	}
	switch (other) {
	case XenbusStateInitWait:
		if (d->state == XenbusStateInitialising)
			xb_connect(d);
		break;
	case XenbusStateConnected:
		xb_at(d, XB_SAW_CONNECTED);
		if (d->type != PV_NOXS_VIF && d->state == XenbusStateInitialised)
			xb_switch(d, XenbusStateConnected);
		xb_at(d, XB_CONNECTED);
		break;
	case XenbusStateClosed:
	case XenbusStateClosing:
		if (d->state != XenbusStateClosed)
			xb_closed(d);
		break;
	default:
		break;
	}
}

/* ---- drivers come and go ---- */

static void xb_wait(struct xb_dev *d, const char *what, bool (*until)(struct xb_dev *d))
{
	uint64_t end = xs_now() + XB_WAIT_MS;

	while (!until(d)) {
		if (xs_now() > end)
			fail_msg("%s: no %s in %d s, the backend is in %d", d->node, what, XB_WAIT_MS / 1000, xb_other_state(d));
		xb_turn_once(d->xb);
	}
}

static bool xb_other_lives(struct xb_dev *d)
{
	return xb_other_state(d) != XenbusStateClosed && xb_other_state(d) != XenbusStateUnknown;
}

/* (Linux would wait for ever for one that went meanwhile.) */
static bool xb_other_lives_or_gone(struct xb_dev *d)
{
	return xb_other_lives(d) || !xb_exists(d->xb, d->node);
}

static bool xb_other_closes(struct xb_dev *d)
{
	return xb_other_state(d) == XenbusStateClosing || !xb_other_lives(d);
}

static bool xb_other_closed(struct xb_dev *d)
{
	return !xb_other_lives(d);
}

/* The driver takes the device: reads who its backend is, waits for it (netfront), and watches it. */
XB void xb_bind(struct xb_dev *d)
{
	struct xb *xb = d->xb;

	d->other_id = (uint16_t)xb_number(xb, d->node, "backend-id", 0);
	snprintf(d->other, sizeof(d->other), "%s", xb_get(xb, d->node, "backend"));
	if (!d->other[0] || !xb_exists(xb, d->other))
		return; /* it went again */
	xb_at(d, XB_PROBED);
	d->bound = true;
	if (d->type == PV_NOXS_VIF) {
		xb_switch(d, XenbusStateInitialising);
		xb_wait(d, "backend that is not closed", xb_other_lives_or_gone);
	}
	if (d->type == PV_NOXS_VF && !xb->passive)
		xb_connect(d);
	assert_int_equal(xs_watch(&xb->xs, xb_path(d->other, "state"), d->node), 0);
}

/* The driver lets the device go. */
XB void xb_unbind(struct xb_dev *d)
{
	if (!d->bound)
		return;
	d->bound = false;
	xs_unwatch(&d->xb->xs, xb_path(d->other, "state"), d->node);
	xb_at(d, XB_UNWATCHED);
	if (d->type == PV_NOXS_VIF && xb_other_state(d) != XenbusStateClosed) {
		xb_switch(d, XenbusStateClosing);
		xb_wait(d, "Closing", xb_other_closes);
		if (xb_other_state(d) != XenbusStateClosed) {
			xb_switch(d, XenbusStateClosed);
			xb_wait(d, "Closed", xb_other_closed);
		}
	}
	xb_unshare(d);
	xb_switch(d, XenbusStateClosed);
}

XB void xb_unload(struct xb *xb, enum pv_noxs_type type)
{
	xb->unloaded[type] = true;
	for (int i = 0; i < XB_DEVICES; i++)
		if (xb->dev[i].xb && xb->dev[i].type == type)
			xb_unbind(&xb->dev[i]);
}

XB void xb_load(struct xb *xb, enum pv_noxs_type type)
{
	xb->unloaded[type] = false;
	for (int i = 0; i < XB_DEVICES; i++)
		if (xb->dev[i].xb && xb->dev[i].type == type)
			xb_bind(&xb->dev[i]);
}

/* ---- devices come and go ---- */

XB struct xb_dev *xb_find(struct xb *xb, enum pv_noxs_type type, uint32_t devid)
{
	for (int i = 0; i < XB_DEVICES; i++)
		if (xb->dev[i].xb && xb->dev[i].type == type && xb->dev[i].devid == devid)
			return &xb->dev[i];
	return NULL;
}

static enum pv_noxs_type xb_type(const char *name)
{
	return strcmp(name, "vif") == 0 ? PV_NOXS_VIF : strcmp(name, "pci") == 0 ? PV_NOXS_VF : PV_NOXS_VBD;
}

static void xb_probe(struct xb *xb, const char *type, const char *name)
{
	char node[32];
	struct xb_dev *d;
	int i;

	snprintf(node, sizeof(node), "device/%.8s/%.12s", type, name);
	if (xb_state_of(xb, node) != XenbusStateInitialising)
		return; /* not new: it may be on its way out */
	for (i = 0; i < XB_DEVICES && xb->dev[i].xb; i++)
		;
	assert_true(i < XB_DEVICES);
	d = &xb->dev[i];
	*d = (struct xb_dev){ .xb = xb, .type = xb_type(type), .state = XenbusStateInitialising };
	d->devid = (uint32_t)strtoul(name, NULL, 10);
	strcpy(d->node, node);
	if (!xb->unloaded[d->type])
		xb_bind(d);
}

static void xb_vanished(struct xb *xb, const char *path)
{
	size_t n = strlen(path);

	for (int i = 0; i < XB_DEVICES; i++) {
		struct xb_dev *d = &xb->dev[i];

		if (!d->xb || strncmp(d->node, path, n) || (d->node[n] && d->node[n] != '/'))
			continue;
		xb_unbind(d);
		d->xb = NULL;
	}
}

/* Something below `device` changed. */
static void xb_device_changed(struct xb *xb, const char *path)
{
	char type[16], name[16];

	if (sscanf(path, "device/%15[^/]/%15[^/]", type, name) != 2)
		return;
	if (!xb_exists(xb, path))
		xb_vanished(xb, path);
	else if (!xb_find(xb, xb_type(type), (uint32_t)strtoul(name, NULL, 10)))
		xb_probe(xb, type, name);
}

/* Work off the events that have come. */
XB void xb_turn(struct xb *xb)
{
	const char *path, *token;

	while ((path = xs_event(&xb->xs, &token))) {
		char copy[XENSTORE_PAYLOAD_MAX + 1];

		snprintf(copy, sizeof(copy), "%s", path);
		if (strcmp(token, "fe") == 0) {
			xb_device_changed(xb, copy);
			continue;
		}
		for (int i = 0; i < XB_DEVICES; i++)
			if (xb->dev[i].xb && xb->dev[i].bound && strcmp(token, xb->dev[i].node) == 0)
				xb_backend_changed(&xb->dev[i]);
	}
}

/* ---- boot, shutdown ---- */

/* The names in an answer to XS_DIRECTORY. */
struct xb_names {
	int n;
	char bytes[XENSTORE_PAYLOAD_MAX + 1];
};

static void xb_list(struct xb *xb, const char *path, struct xb_names *out)
{
	out->n = xs_list(&xb->xs, 0, path);
	if (out->n > 0)
		memcpy(out->bytes, xb->xs.body, (size_t)out->n);
}

/* As a kernel that starts: nothing is known of before. h, store: handles of the guest, which become ours. */
XB void xb_boot(struct xb *xb, uint16_t domid, struct pv_hyper *h, struct pv_hyper *store)
{
	struct xb_names types, names;

	xb->domid = domid;
	xb->h = h;
	xs_open(&xb->xs, store);
	xs_call(&xb->xs, XS_RESET_WATCHES, 0, "", 1);
	xb_list(xb, "device", &types);
	for (int t = 0; t < types.n; t += (int)strlen(types.bytes + t) + 1) {
		xb_list(xb, xb_path("device", types.bytes + t), &names);
		for (int i = 0; i < names.n; i += (int)strlen(names.bytes + i) + 1)
			xb_probe(xb, types.bytes + t, names.bytes + i);
	}
	assert_int_equal(xs_watch(&xb->xs, "device", "fe"), 0);
}

static bool xb_is_down(struct xb_dev *d)
{
	xb_turn(d->xb);
	return d->down;
}

/* The kernel's part of poweroff: each device that is Connected is closed, and the kernel waits until its backend follows. */
XB void xb_shutdown(struct xb *xb)
{
	xb->halting = true;
	for (int i = 0; i < XB_DEVICES; i++) {
		struct xb_dev *d = &xb->dev[i];

		if (!d->xb || !d->bound || d->state != XenbusStateConnected)
			continue;
		d->down = false;
		xb_switch(d, XenbusStateClosing);
		xb_wait(d, "Closing of its backend", xb_is_down);
	}
}

/* As when the domain ends. */
XB void xb_crash(struct xb *xb)
{
	if (xb->h) {
		xs_close(&xb->xs);
		pv_hyper_close(xb->h);
	}
	memset(xb, 0, sizeof(*xb));
}

#endif
