/* hub_port.c - event channels of the hub: who may signal whom. The signals themselves go through eventfds, not through us.
 *
 *	free --alloc--> unbound --bind--> bound		the binder's new port is bound from the start
 *	bound --the other end closes--> unbound		for the same domain, without an event
 */
#include "hub_int.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void chan_put(struct hub_chan *chan)
{
	if (--chan->ends)
		return;
	close(chan->fd[0]);
	close(chan->fd[1]);
	free(chan);
}

static int chan_new(struct hub_chan **out)
{
	struct hub_chan *chan = calloc(1, sizeof(*chan));
	int err;

	if (!chan)
		return -ENOMEM;
	chan->fd[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	chan->fd[1] = chan->fd[0] < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (chan->fd[1] < 0) {
		err = -errno;
		if (chan->fd[0] >= 0)
			close(chan->fd[0]);
		free(chan);
		return err;
	}
	*out = chan;
	return 0;
}

/* Clients hold these eventfds too, and could fill one and make it blocking: we must not hang on that. Full is told already. */
static void signal_fd(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	if (poll(&p, 1, 0) == 1 && write(fd, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0)
		return;
}

static struct hub_port *port_get(struct hub_dom *d, struct pv_hub *hub, uint32_t port)
{
	return port && port <= hub->limits.ports && d->port[port].chan ? &d->port[port] : NULL;
}

static int port_find(struct pv_hub *hub, struct hub_dom *d)
{
	uint32_t i;

	for (i = d->port_hint; i <= hub->limits.ports; i++)
		if (!d->port[i].chan) {
			d->port_hint = i + 1;
			return i;
		}
	d->port_hint = i;
	return -ENOSPC;
}

static int port_take(struct pv_hub *hub, struct hub_dom *d, struct hub_conn *owner, struct hub_chan *chan, unsigned end, uint16_t remote)
{
	int port = port_find(hub, d);

	if (port < 0)
		return port;
	d->port[port] = (struct hub_port){ .owner = owner, .chan = chan, .end = end, .peer_domid = remote };
	if (owner)
		LIST_INSERT_HEAD(&owner->ports, &d->port[port], link);
	chan->ends++;
	d->count.ports++;
	return port;
}

int hub_port_new(struct pv_hub *hub, struct hub_dom *d, struct hub_conn *owner, uint16_t remote)
{
	struct hub_chan *chan = NULL;
	int port = chan_new(&chan);

	if (port)
		return port;
	port = port_take(hub, d, owner, chan, 0, remote);
	if (port < 0) {
		chan->ends = 1;
		chan_put(chan);
	}
	return port;
}

void hub_port_close(struct pv_hub *hub, struct hub_dom *d, uint32_t port)
{
	struct hub_port *p = &d->port[port];

	if (p->peer)
		hub->dom[p->peer_domid]->port[p->peer].peer = 0; /* waits for the same domain again */
	if (p->owner)
		LIST_REMOVE(p, link);
	chan_put(p->chan);
	*p = (struct hub_port){ 0 };
	d->count.ports--;
	if (port < d->port_hint)
		d->port_hint = port;
}

bool hub_port_owned(struct pv_hub *hub, struct hub_conn *c, uint32_t port)
{
	struct hub_port *p = port_get(c->dom, hub, port);

	return p && p->owner == c;
}

/* As a notify by the owner of the port; nothing if it is not its any more. */
void hub_port_signal(struct hub_dom *d, struct hub_conn *owner, uint32_t port)
{
	struct hub_port *p = &d->port[port];

	if (p->chan && p->owner == owner && p->peer)
		signal_fd(p->chan->fd[1 - p->end]);
}

static int answer_port(struct hub_conn *c, uint32_t port)
{
	struct hub_port *p = &c->dom->port[port];
	int fds[2] = { p->chan->fd[p->end], p->chan->fd[1 - p->end] };

	return hub_answer(c, &(struct hub_rsp){ .port = port }, NULL, 0, fds, 2);
}

static int refuse_port(struct pv_hub *hub, struct hub_conn *c, int err)
{
	if (err == -ENOSPC)
		return hub_refuse(c, err, "no ports left: domain %u has its limit of %u (pvio-hub --ports)", c->dom->domid, hub->limits.ports);
	return hub_refuse_files(c, err, "an event channel");
}

int hub_alloc(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	int port;

	if (req->domid >= HUB_DOMIDS)
		return hub_refuse(c, -EINVAL, "no domain can be numbered %u", req->domid);
	port = hub_injected(c->dom, HUB_INJECT_ALLOC) ? -ENOSPC : hub_port_new(hub, c->dom, c, req->domid);
	return port < 0 ? refuse_port(hub, c, port) : answer_port(c, port);
}

int hub_store_port(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	(void)hub;
	(void)req;
	if (!c->dom->store_port)
		return hub_refuse(c, -ENOENT, "domain %u has no store port", c->dom->domid);
	return answer_port(c, c->dom->store_port);
}

int hub_bind(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	struct hub_dom *d = hub_dom_get(hub, req->domid);
	struct hub_port *r = d ? port_get(d, hub, req->port) : NULL;
	int port;

	if (!r)
		return hub_refuse(c, -EINVAL, "domain %u has no port %u", req->domid, req->port);
	if (r->peer || r->peer_domid != c->dom->domid)
		return hub_refuse(c, -EACCES, "port %u of domain %u does not wait for domain %u", req->port, req->domid, c->dom->domid);
	port = hub_injected(d, HUB_INJECT_BIND) ? -ENOSPC : port_take(hub, c->dom, c, r->chan, 1 - r->end, req->domid);
	if (port < 0)
		return refuse_port(hub, c, port);
	r->peer = port;
	c->dom->port[port].peer = req->port;
	signal_fd(r->chan->fd[1 - r->end]); /* pending at once, as on Xen: an event may have been lost before */
	return answer_port(c, port);
}

int hub_unbind(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req)
{
	if (!hub_port_owned(hub, c, req->port))
		return hub_refuse(c, -EINVAL, "port %u is not bound by this handle", req->port);
	hub_port_close(hub, c->dom, req->port);
	return hub_answer(c, &(struct hub_rsp){ 0 }, NULL, 0, NULL, 0);
}
