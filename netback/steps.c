/* steps.c - what is done to a packet besides switching it, for vifs that ask for it.
 *
 *	from a guest:	capture -> VLAN -> rules -> limit -> switch
 *	to a guest:	VLAN -> rules -> limit -> capture -> backlog
 * Each step is a file of its own; this one knows only their order. */
#include "netback.h"

bool step_from(struct nb_worker *w, struct vif_queue *q, struct rte_mbuf *m)
{
	(void)w, (void)q, (void)m;
	return true;
}

bool step_to(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m)
{
	(void)w, (void)vif, (void)m;
	return true;
}
