/* ports.c - who in here hears of which port. */
#include "pviod.h"

void port_listen(struct pviod *d, struct port_user *u, uint32_t port, void (*fired)(struct port_user *u))
{
	u->port = port;
	u->fired = fired;
	HASH_ADD(hh, d->ports, port, sizeof(u->port), u);
}

void port_unmask(struct pviod *d, const struct port_user *u)
{
	pv_evt_unmask(d->hyper, &u->port, 1);
}

void port_close(struct pviod *d, struct port_user *u)
{
	if (!u->port)
		return;
	HASH_DELETE(hh, d->ports, u);
	pv_evt_unbind(d->hyper, u->port);
	u->port = 0;
}
