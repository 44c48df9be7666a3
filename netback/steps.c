/* steps.c - what is done to a packet besides switching it, for vifs that ask for it.
 *
 *	from a guest:	capture -> VLAN -> rules -> switch
 *	to a guest:	multicast filter -> rules -> capture -> tag, if it is a trunk (rx.c) -> backlog
 * Each step is a file of its own; this one knows only their order. Limits are none: they hold back slots, not packets (tx.c, rx.c). */
#include "capture.h"
#include "netback.h"

bool step_from(struct nb_worker *w, struct vif_queue *q, struct rte_mbuf *m)
{
	uint32_t steps = __atomic_load_n(&q->vif->steps, __ATOMIC_ACQUIRE); /* as in forward */

	if (steps & STEP_CAPTURE)
		capture_packet(w, q->vif, m, PCAPNG_OUTBOUND);
	if (steps & STEP_VLAN && !vlan_from(q, m))
		return false;
	if (steps & STEP_RULES && !rules_step(w, q->vif, m, true))
		return false;
	return true;
}

bool step_to(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m)
{
	uint32_t steps = __atomic_load_n(&vif->steps, __ATOMIC_ACQUIRE); /* as in backlog_give */

	if (steps & STEP_MCAST && !mcast_wants(&vif->mcast, m)) {
		nb_count(&vif->rx_filtered);
		rte_pktmbuf_free(m);
		return false;
	}
	if (steps & STEP_RULES && !rules_step(w, vif, m, false))
		return false;
	if (steps & STEP_CAPTURE)
		capture_packet(w, vif, m, PCAPNG_INBOUND);
	return true;
}
