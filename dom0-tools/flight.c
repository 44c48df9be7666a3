/* flight.c - pages for the in-flight log (inflight.h) of a device whose backend is in a driver domain.
 *
 * Theory of operation. A driver domain's memory ends with it, and what its backend had taken and not answered would be known to nobody. So
 * that log is in pages of ours, which are granted to the domain's domid and stay when it ends: when there is a domain of that domid again, its
 * backend adopts the device as a new process in the same domain does, and the guest notices nothing. What is in the pages is the driver domain's
 * affair: we never read it. Without pages (dom0 can share no more) all works, but the end of the domain is noticed.
 */
#include "pviod.h"
#include <stdlib.h>
#include <string.h>

/* Owner: its device. */
struct flight {
	void *addr; /* of the pages here; nobody looks */
	uint16_t domid; /* to which they are granted */
	struct pv_log_pages pages;
};

void flight_put(struct device *dev)
{
	if (!dev->flight)
		return;
	pv_gnt_unshare(dev->d->hyper, dev->flight->addr, dev->flight->pages.n);
	free(dev->flight);
	dev->flight = NULL;
}

static int share(struct device *dev, struct flight *f, unsigned n)
{
	int rc;

	f->domid = dev->backend_domid;
	rc = pv_gnt_share(dev->d->hyper, f->domid, n, true, NULL, f->pages.grefs, &f->addr);
	if (rc == 0)
		f->pages.n = n;
	else
		pv_log_about(&dev->guest->log, PV_LOG_WARN, "%s: no pages for its in-flight log: %s; its guest will notice if domain %u ends",
			     device_label(dev), pv_hyper_error(dev->d->hyper), f->domid);
	return rc;
}

void flight_take(struct device *dev)
{
	unsigned n = pv_inflight_pages(&dev->choice);
	struct flight *f = dev->flight;

	if (f && f->domid == dev->backend_domid && f->pages.n >= n)
		return;
	flight_put(dev);
	if (!dev->backend || !dev->backend->conn || !dev->backend->conn->pipe)
		return;
	f = calloc(1, sizeof(*f));
	if (f && share(dev, f, n) == 0)
		dev->flight = f;
	else
		free(f);
}

void flight_tell(const struct device *dev, struct pv_connect *c)
{
	const struct flight *f = dev->flight;

	if (!f || f->domid != dev->backend_domid)
		return;
	c->log.n = f->pages.n;
	memcpy(c->log.grefs, f->pages.grefs, f->pages.n * sizeof(*f->pages.grefs));
}
