/* dialect_other.c - a device that somebody else shows to the guest: a virtual function of a guest of xl, which libxl announces, and connects, when
 * the backend has it attached. So there is nothing to show, and what the guest chooses is no affair of ours: it is connected at once. */
#include "pviod.h"

static int announce(struct device *dev, char *why, size_t len)
{
	(void)dev, (void)why, (void)len;
	return 0;
}

static void nothing(struct device *dev)
{
	(void)dev;
}

static enum dev_event look(struct device *dev, struct pv_noxs_choice *c, const char **why)
{
	(void)why;
	*c = (struct pv_noxs_choice){ .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = dev->offer.generation,
				      .state = XenbusStateInitialised, .alive = 1, .queues = 1, .vf[0].port = 1 /* nobody looks at it */ };
	return dev->state == DEV_OFFERED ? EV_CHOICE : EV_NONE;
}

static bool present(struct device *dev)
{
	(void)dev;
	return false;
}

static int renew(struct device *dev, char *why, size_t len)
{
	(void)dev, (void)why, (void)len;
	return 0;
}

const struct dialect dialect_other = {
	.name = "other", .announce = announce, .offer = nothing, .show = nothing, .changed = nothing, .look = look, .looked = nothing,
	.present = present, .renew = renew, .retire = nothing,
};
