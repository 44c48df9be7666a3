/* dialect_noxs.c - a device shown through shared pages: an entry of the guest's device page, a control page, a port of its own. */
#include "pviod.h"
#include <stdio.h>

static struct slot *slot_of(const struct device *dev)
{
	return &dev->guest->slots[dev->noxs.slot];
}

static void write_entry(struct device *dev)
{
	struct pv_noxs_entry e = {
		.type = dev->id.type,
		.state = dev->offer.state,
		.backend_domid = dev->backend_domid,
		.devid = dev->id.devid,
		.control_gref = slot_of(dev)->gref,
		.port = dev->noxs.port.port,
		.generation = dev->offer.generation,
	};

	slot_entry_write(dev->guest, dev->noxs.slot, &e);
	pv_evt_notify(dev->d->hyper, dev->noxs.port.port);
}

static void fired(struct port_user *u)
{
	struct device *dev = port_owner(u, struct device, noxs.port);

	dev->noxs.masked = true;
	device_look(dev);
}

static int announce(struct device *dev, char *why, size_t len)
{
	struct pv_hyper *h = dev->d->hyper;
	int slot = slot_take(dev->guest, dev, why, len), port;

	if (slot < 0)
		return slot;
	port = pv_evt_alloc(h, dev->guest->domid);
	if (port < 0) {
		snprintf(why, len, "cannot allocate its port: %s", pv_hyper_error(h));
		slot_put(dev->guest, slot);
		return port;
	}
	dev->noxs.slot = slot;
	port_listen(dev->d, &dev->noxs.port, port, fired);
	return 0;
}

/* In a new generation: whatever was written into the choice half before is stale from now on. */
static void offer(struct device *dev)
{
	dev->offer.generation = ++slot_of(dev)->generation;
	pv_noxs_offer_write(slot_of(dev)->page, &dev->offer);
	write_entry(dev);
}

static void show(struct device *dev)
{
	pv_noxs_backend_state(slot_of(dev)->page, dev->offer.state, dev->offer.error);
	write_entry(dev);
}

static void changed(struct device *dev)
{
	pv_noxs_offer_write(slot_of(dev)->page, &dev->offer);
	pv_evt_notify(dev->d->hyper, dev->noxs.port.port);
}

static enum dev_event look(struct device *dev, struct pv_noxs_choice *c, const char **why)
{
	enum dev_event ev;

	pv_noxs_choice_read(slot_of(dev)->page, c);
	dev->pair = choice_pair(c, dev->offer.generation);
	ev = choice_event(c, &dev->offer, why);
	if (ev == EV_CHOICE && choice_of_another(c, &dev->choice))
		return EV_ANEW; /* the one that chose died, and nobody looked in between */
	return ev == EV_NONE && dev->state == DEV_CONNECTED ? choice_change(c, &dev->choice, &dev->offer, why) : ev;
}

static void looked(struct device *dev)
{
	if (dev->noxs.masked)
		port_unmask(dev->d, &dev->noxs.port);
	dev->noxs.masked = false;
}

static bool present(struct device *dev)
{
	struct pv_noxs_choice c;

	pv_noxs_choice_read(slot_of(dev)->page, &c);
	return choice_present(&c, dev->offer.generation);
}

static int renew(struct device *dev, char *why, size_t len)
{
	(void)dev, (void)why, (void)len; /* a new generation tells its frontend */
	return 0;
}

static void retire(struct device *dev)
{
	port_close(dev->d, &dev->noxs.port);
	slot_put(dev->guest, dev->noxs.slot);
}

const struct dialect dialect_noxs = {
	.name = "noxs",
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
