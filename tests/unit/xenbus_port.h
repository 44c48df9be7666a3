/* xenbus_port.h - for tests: front.h on XenStore. A program that includes it has netfront and blkfront, their rings and all, find
 * and connect their devices as Linux does (xenbus_front.h), instead of through noxs.
 *
 * The linker takes these functions in place of rings/front.c. Each guest of the program has one kernel, made when its first
 * device is opened; port_down ends them.
 */
#ifndef XENBUS_PORT_H
#define XENBUS_PORT_H

#include "tests/unit/xenbus_front.h"
#include <pvio/front.h>
#include <pvio/message.h>

static struct xb port_kernel[4];

/* The kernel of a guest: boots when it is first asked for. */
static struct xb *port_of(const char *spec, int domid, char *why, size_t len)
{
	struct pv_hyper *h, *store;
	struct xb *xb;

	for (xb = port_kernel; xb->h && xb->domid != domid; xb++)
		assert_true(xb + 1 < port_kernel + 4);
	if (xb->h)
		return xb;
	if (pv_hyper_open(spec, domid, &h, why, len) < 0)
		return NULL;
	if (pv_hyper_open(spec, domid, &store, why, len) < 0) {
		pv_hyper_close(h);
		return NULL;
	}
	xb->passive = true;
	xb_boot(xb, (uint16_t)domid, h, store);
	return xb;
}

XB void port_down(void)
{
	for (struct xb *xb = port_kernel; xb < port_kernel + 4; xb++)
		if (xb->h)
			xb_crash(xb);
}

/* The backend of each device is Connected; how often they were told to be something, so far: who compares finds that they stayed it. */
XB unsigned port_told(void)
{
	unsigned told = 0;

	for (struct xb *xb = port_kernel; xb < port_kernel + 4 && xb->h; xb++)
		for (struct xb_dev *d = xb->dev; d < xb->dev + XB_DEVICES; d++) {
			if (!d->xb || !d->bound)
				continue;
			assert_int_equal(xb_other_state(d), XenbusStateConnected); /* what was written before has been told when this is answered */
			xb_turn(xb);
			told += d->told;
		}
	return told;
}

static struct xb_dev *port_dev(const struct front *f)
{
	struct xb *xb = port_of(NULL, f->h->domid, NULL, 0);

	return xb ? xb_find(xb, f->type, f->devid) : NULL;
}

/* Work off events, if there may be any: looking costs a poll. */
static void port_turn(struct xb *xb)
{
	struct pollfd p = { .fd = pv_evt_fd(xb->xs.h), .events = POLLIN };

	if (xb->xs.nevents || xs_load(&xb->xs.ring->rsp_prod) != xb->xs.ring->rsp_cons || poll(&p, 1, 0) > 0)
		xb_turn(xb);
}

uint64_t front_now_ms(void)
{
	return xs_now();
}

const char *front_name(const struct front *f, char *buf, size_t len)
{
	char name[20];

	pv_devid_name(f->type, f->devid, name, sizeof(name));
	snprintf(buf, len, "%s %s", pv_type_name(f->type), name);
	return buf;
}

static int port_fail(struct front *f, enum front_state state, int err, const char *words)
{
	char name[24];

	f->state = state;
	snprintf(f->why, sizeof(f->why), "%s of domain %u: %s", front_name(f, name, sizeof(name)), f->h->domid, words);
	return err;
}

int front_broken(struct front *f, const char *what)
{
	return port_fail(f, FRONT_BROKEN, -EPROTO, what);
}

/* ---- the offer ---- */

static void port_vif_offer(struct xb_dev *d, struct pv_noxs_vif_offer *v)
{
	static const struct {
		const char *key;
		uint32_t bit;
	} features[] = {
		{ "feature-sg", PV_VIF_SG }, { "feature-ipv6-csum-offload", PV_VIF_CSUM_IPV6 }, { "feature-gso-tcpv4", PV_VIF_GSO_TCPV4 },
		{ "feature-gso-tcpv6", PV_VIF_GSO_TCPV6 }, { "feature-dynamic-multicast-control", PV_VIF_MCAST_CONTROL },
		{ "feature-ctrl-ring", PV_VIF_CTRL_RING }, { "feature-xdp-headroom", PV_VIF_HEADROOM },
	};
	unsigned mac[6];

	*v = (struct pv_noxs_vif_offer){ .queues_max = (uint16_t)xb_number(d->xb, d->other, "multi-queue-max-queues", 1), .carrier = 1,
					 .mtu = (uint32_t)xb_number(d->xb, d->node, "mtu", 1500), .features = PV_VIF_CSUM_IPV4 };
	assert_int_equal(sscanf(xb_get(d->xb, d->node, "mac"), "%x:%x:%x:%x:%x:%x", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5), 6);
	for (int i = 0; i < 6; i++)
		v->mac[i] = (uint8_t)mac[i];
	v->untrusted = !xb_number(d->xb, d->node, "trusted", 1);
	assert_int_equal(xb_number(d->xb, d->other, "feature-rx-copy", 0), 1);
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		if (xb_number(d->xb, d->other, features[i].key, 0))
			v->features |= features[i].bit;
}

static void port_vbd_offer(struct xb_dev *d, struct pv_noxs_vbd_offer *v)
{
	static const struct {
		const char *key;
		uint32_t bit;
	} features[] = {
		{ "feature-flush-cache", PV_VBD_FLUSH }, { "feature-barrier", PV_VBD_BARRIER }, { "feature-discard", PV_VBD_DISCARD },
		{ "discard-secure", PV_VBD_SECURE_DISCARD }, { "feature-persistent", PV_VBD_PERSISTENT },
	};

	*v = (struct pv_noxs_vbd_offer){
		.sectors = xb_number(d->xb, d->other, "sectors", 0),
		.sector_size = (uint32_t)xb_number(d->xb, d->other, "sector-size", 512),
		.physical_sector_size = (uint32_t)xb_number(d->xb, d->other, "physical-sector-size", 512),
		.info = (uint32_t)xb_number(d->xb, d->other, "info", 0),
		.queues_max = (uint16_t)xb_number(d->xb, d->other, "multi-queue-max-queues", 1),
		.ring_order_max = (uint16_t)xb_number(d->xb, d->other, "max-ring-page-order", 0),
		.indirect_max = (uint32_t)xb_number(d->xb, d->other, "feature-max-indirect-segments", 0),
		.discard_granularity = (uint32_t)xb_number(d->xb, d->other, "discard-granularity", 0),
		.discard_alignment = (uint32_t)xb_number(d->xb, d->other, "discard-alignment", 0),
	};
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		if (xb_number(d->xb, d->other, features[i].key, 0))
			v->features |= features[i].bit;
}

/* One look. A device that was closed begins anew, as when its driver is loaded again. */
int front_find(struct front *f)
{
	struct xb_dev *d = port_dev(f);

	if (d)
		port_turn(d->xb);
	d = port_dev(f);
	if (!d || !d->bound)
		return port_fail(f, f->has_retired ? FRONT_GONE : FRONT_NONE, -ENOENT, "no such device");
	if (d->state == XenbusStateClosed)
		xb_switch(d, XenbusStateInitialising);
	d->seen = xb_other_state(d);
	if (d->state != XenbusStateInitialising || d->seen != XenbusStateInitWait)
		return port_fail(f, FRONT_NONE, -EAGAIN, "it is not offered");
	f->entry = (struct pv_noxs_entry){ .type = (uint16_t)f->type, .backend_domid = d->other_id, .devid = f->devid };
	f->offer = (struct pv_noxs_offer){ .type = (uint16_t)f->type, .state = XenbusStateInitWait };
	if (f->type == PV_NOXS_VIF)
		port_vif_offer(d, &f->offer.vif);
	else
		port_vbd_offer(d, &f->offer.vbd);
	f->state = FRONT_OFFERED;
	return 0;
}

int front_open(struct front *f, const char *spec, int domid, enum pv_noxs_type type, uint32_t devid, int wait_ms)
{
	uint64_t until = xs_now() + (uint64_t)wait_ms;
	struct xb *xb;
	int rc;

	*f = (struct front){ .type = type, .devid = devid };
	rc = pv_hyper_open(spec, domid, &f->h, f->why, sizeof(f->why));
	if (rc < 0)
		return rc;
	xb = port_of(spec, domid, f->why, sizeof(f->why));
	if (!xb)
		return -EIO;
	for (;;) {
		xb_turn(xb);
		rc = front_find(f);
		if (rc == 0 || xs_now() > until)
			return rc;
	}
}

/* ---- states ---- */

int front_choose(struct front *f, struct pv_noxs_choice *c)
{
	struct xb_dev *d = port_dev(f);

	d->choice = *c;
	f->state = FRONT_CONNECTING;
	xb_tell(d);
	return 0;
}

static bool port_other_reconfigured(struct xb_dev *d)
{
	return xb_other_state(d) == XenbusStateReconfigured;
}

/* The headroom as Linux' netfront does it when an XDP program comes or goes, the filter as netif.h says. */
int front_choose_anew(struct front *f, uint32_t features, uint32_t headroom)
{
	struct xb_dev *d = port_dev(f);

	if (headroom != d->choice.headroom) {
		xb_switch(d, XenbusStateReconfiguring);
		xb_put(d, 0, d->node, "xdp-headroom", headroom);
		xb_wait(d, "Reconfigured", port_other_reconfigured);
		xb_switch(d, XenbusStateConnected);
	}
	if ((features ^ d->choice.features) & PV_VIF_MCAST_CONTROL)
		xb_put(d, 0, d->node, "request-multicast-control", !!(features & PV_VIF_MCAST_CONTROL));
	d->choice.headroom = headroom;
	d->choice.features = (d->choice.features & ~(uint32_t)PV_VIF_CHANGEABLE) | features;
	return 0;
}

void front_say_pair(struct front *f, enum pv_vif_pair pair)
{
	struct xb_dev *d = port_dev(f);

	f->pair = pair;
	xs_printf(&d->xb->xs, 0, xb_path(d->node, "pair-used"), "%s", pair == PV_VIF_USE_VF ? "vf" : "vif");
}

void front_follow(struct front *f, bool again)
{
	struct xb_dev *d = port_dev(f);

	(void)again;
	if (f->state != FRONT_CONNECTING && f->state != FRONT_CONNECTED)
		return;
	if (!d || !d->bound) {
		f->state = FRONT_GONE;
		return;
	}
	if (d->seen == XenbusStateConnected && d->again && f->type == PV_NOXS_VBD) /* as Linux: its size may have changed */
		f->offer.vbd.sectors = xb_number(d->xb, d->other, "sectors", 0);
	d->again = false;
	if (d->seen == XenbusStateConnected && f->state == FRONT_CONNECTING) {
		xb_switch(d, XenbusStateConnected);
		f->state = FRONT_CONNECTED;
	} else if (d->seen == XenbusStateClosing) {
		f->state = FRONT_CLOSING;
	} else if (d->seen == XenbusStateClosed) {
		port_fail(f, f->state == FRONT_CONNECTING ? FRONT_REFUSED : FRONT_LOST, 0, "its backend stopped");
	}
}

int front_events(struct front *f, uint32_t *ports, unsigned max)
{
	struct xb_dev *d = port_dev(f);
	int n = pv_evt_pending(f->h, ports, max);

	if (n < 0)
		return port_fail(f, FRONT_ENDED, -ESHUTDOWN, "the domain is gone");
	if (d)
		port_turn(d->xb);
	front_follow(f, false);
	return n;
}

/* Closing, until the backend follows: then it has let go. When it is Closing itself it waits for Closed. */
int front_leave(struct front *f, int timeout_ms)
{
	uint64_t until = xs_now() + (uint64_t)timeout_ms;
	struct xb_dev *d = port_dev(f);
	bool first;

	if (!d || !d->bound || (f->state != FRONT_CONNECTING && f->state != FRONT_CONNECTED && f->state != FRONT_CLOSING))
		return 0;
	first = xb_other_state(d) != XenbusStateClosing;
	xb_switch(d, first ? XenbusStateClosing : XenbusStateClosed);
	while (first ? !xb_other_closes(d) : !xb_other_closed(d))
		if (xs_now() > until)
			return -ETIMEDOUT;
	return 0;
}

void front_retire(struct front *f)
{
	struct xb_dev *d = port_dev(f);

	if (d && d->bound)
		xb_switch(d, XenbusStateClosed);
	f->has_retired = true;
	f->state = FRONT_NONE;
}

void front_close(struct front *f)
{
	if (f->h && f->state != FRONT_ENDED)
		front_retire(f);
	pv_hyper_close(f->h);
	f->h = NULL;
}

int front_error(const struct front *f)
{
	switch (f->state) {
	case FRONT_BROKEN:
		return -EPROTO;
	case FRONT_REFUSED:
		return -ECONNREFUSED;
	case FRONT_CLOSING:
	case FRONT_GONE:
	case FRONT_ENDED:
		return -ESHUTDOWN;
	default:
		return 0;
	}
}

enum xenbus_state front_xenbus_state(const struct front *f)
{
	return f->state == FRONT_CONNECTED ? XenbusStateConnected : f->state == FRONT_ENDED ? XenbusStateUnknown : XenbusStateInitialising;
}

#endif
