/* loopback_ctl.c - what a toolstack asks of the hub, through a handle of domain 0. */
#include "hyper_loopback.h"
#include <errno.h>
#include <string.h>

static const char *const inject_names[HUB_INJECTS] = {
	[HUB_INJECT_MAP] = "map",
	[HUB_INJECT_COPY] = "copy",
	[HUB_INJECT_SHARE] = "share",
	[HUB_INJECT_ALLOC] = "alloc",
	[HUB_INJECT_BIND] = "bind",
};

static int ask(struct pv_hyper *h, const struct hub_req *req)
{
	if (h->ops != &loopback_ops)
		return hyper_fail(h, -ENOTSUP, "%s has no hub: this works on the loopback hypervisor only", h->ops->name);
	return lb_call((struct loopback *)h, req, NULL, 0, 0);
}

int pv_hub_domain_create(struct pv_hyper *h, unsigned domid, uint32_t *port)
{
	int err = ask(h, &(struct hub_req){ .op = HUB_CREATE, .domid = domid });
	struct loopback *lb = (struct loopback *)h;

	if (err)
		return err;
	*port = lb->rsp.port;
	return lb->rsp.n;
}

int pv_hub_domain_destroy(struct pv_hyper *h, unsigned domid)
{
	return ask(h, &(struct hub_req){ .op = HUB_DESTROY, .domid = domid });
}

int pv_hub_domain_list(struct pv_hyper *h, struct pv_hub_domain *out, unsigned max)
{
	struct hub_req req = { .op = HUB_LIST };
	struct loopback *lb = (struct loopback *)h;
	unsigned n, have = 0;
	int err;

	for (;;) {
		err = ask(h, &req);
		if (err)
			return err;
		n = lb->payload_bytes / sizeof(*out);
		if (n > max - have)
			n = max - have;
		if (!n)
			return lb->rsp.n;
		memcpy(out + have, lb->payload, n * sizeof(*out));
		have += n;
		req.domid = out[have - 1].domid + 1;
	}
}

int pv_hub_inject(struct pv_hyper *h, unsigned domid, const char *what, unsigned skip, unsigned count, int status)
{
	struct hub_req req = { .op = HUB_INJECT, .domid = domid, .skip = skip, .count = count, .status = status };

	while (req.inject < HUB_INJECTS && strcmp(what, inject_names[req.inject]))
		req.inject++;
	if (req.inject == HUB_INJECTS)
		return hyper_fail(h, -EINVAL, "'%.20s' is not a fault: map, copy, share, alloc or bind", what);
	return ask(h, &req);
}
