/* xen_pointer.c - the noxs pointer of a Xen guest: a node of its own XenStore, watched; or a hint on the kernel's command line.
 *
 * Who looks first waits a moment for the store's answer. From then on a look takes what has come and asks again only when the watch
 * fired, without waiting: an answer is found by the next look.
 */
#include "hyper_xen.h"
#include <errno.h>
#include <string.h>

enum {
	FIRST_MS = 2000, /* the first look waits so long for a store */
	HINTED_MS = 100, /* ... and so long where a hint tells as much */
};

static int read_hint(struct pv_noxs_pointer *out)
{
	char line[4096];

	hyper_text("/proc/cmdline", line, sizeof(line));
	return pv_noxs_hint_parse(line, out);
}

/* No store, or it broke: what was found stays, and nobody asks again. */
static void give_up(struct xen_pointer *p)
{
	xen_bus_close(&p->bus);
	if (p->node_rc == -EAGAIN)
		p->node_rc = -ENODEV;
}

static void start(struct xen_pointer *p)
{
	p->opened = true;
	p->hint_rc = read_hint(&p->hint);
	p->node_rc = -EAGAIN;
	p->look = true;
	if (xen_bus_open(&p->bus))
		give_up(p);
}

/* A message came: an event of our only watch, or the answer to one of our requests, which are under way one at a time. */
static void handle(struct xen_pointer *p)
{
	const struct xen_bus *b = &p->bus;

	switch (b->msg.type) {
	case XS_WATCH_EVENT:
		p->look = true;
		break;
	case XS_READ:
		p->node_rc = pv_noxs_pointer_parse(b->body, b->msg.len, &p->node);
		p->seen |= p->node_rc == 0;
		p->asked = false;
		break;
	case XS_ERROR:
		if (p->asked)
			p->node_rc = -ENOENT; /* no such node, or none for us to read */
		p->asked = false;
		break;
	}
}

/* One step: what is to be sent is sent. The watch comes after the first answer, for it sleeps until it is answered itself. */
static int ask(struct xen_pointer *p)
{
	int err = 0;

	if (!p->asked && p->node_rc != -EAGAIN && !p->watched) {
		p->watched = true;
		err = xen_bus_send(&p->bus, XS_WATCH, PV_NOXS_POINTER_NODE, "pvio");
	}
	if (!err && !p->asked && p->look) {
		p->look = false;
		p->asked = true;
		err = xen_bus_send(&p->bus, XS_READ, PV_NOXS_POINTER_NODE, NULL);
	}
	return err;
}

static void look(struct xen_pointer *p, int ms)
{
	int rc = ask(p);

	while (rc >= 0 && (rc = xen_bus_next(&p->bus, p->node_rc == -EAGAIN ? ms : 0)) > 0) {
		handle(p);
		rc = ask(p);
	}
	if (rc < 0)
		give_up(p);
}

void xen_pointer_close(struct xen *x)
{
	xen_bus_close(&x->pointer.bus);
}

int xen_pointer(struct pv_hyper *h, struct pv_noxs_pointer *out)
{
	struct xen_pointer *p = &((struct xen *)h)->pointer;
	int ms = 0;

	if (!p->opened) {
		start(p);
		ms = p->hint_rc ? FIRST_MS : HINTED_MS;
	}
	if (p->bus.fd >= 0)
		look(p, ms);
	if (p->node_rc == 0) {
		*out = p->node;
		return 0;
	}
	if (p->node_rc != -EPROTO && !p->seen && !p->hint_rc) {
		*out = p->hint;
		return 0;
	}
	if (p->node_rc == -EPROTO)
		return hyper_fail(h, -EPROTO, "the node " PV_NOXS_POINTER_NODE " of this guest's XenStore is not a pointer that this build knows");
	if (p->hint_rc == -EPROTO && !p->seen)
		return hyper_fail(h, -EPROTO, "noxs= in /proc/cmdline is not noxs=GREF,PORT");
	return hyper_fail(h, -ENOENT, p->node_rc == -ENOENT ? "no device page was announced: this guest's XenStore has no node " PV_NOXS_POINTER_NODE ": does pviod run?" :
			  p->node_rc == -EAGAIN ? "this guest's XenStore does not answer, and its command line has no noxs=GREF,PORT" :
						  "this guest has no XenStore, and its command line has no noxs=GREF,PORT");
}
