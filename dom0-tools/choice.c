/* choice.c - what a guest's half of a control page asks for. Pure: works on the one snapshot that was taken. */
#include "pviod.h"

/* Was this written as an answer to generation `generation`? What is older is left over from an earlier connection, device or
 * process: no answer yet. */
static bool is_stale(const struct pv_noxs_choice *c, uint32_t generation)
{
	return c->state == XenbusStateUnknown || (int32_t)(c->generation - generation) < 0;
}

enum dev_event choice_event(const struct pv_noxs_choice *c, const struct pv_noxs_offer *offer, const char **why)
{
	*why = NULL;
	if (is_stale(c, offer->generation))
		return EV_NONE;
	if (c->generation != offer->generation) {
		*why = "its choice is for a generation that was not offered yet";
		return EV_MISDEED;
	}
	if (!c->alive)
		return EV_DIED;
	switch (c->state) {
	case XenbusStateInitialising:
		return EV_ANEW;
	case XenbusStateInitialised:
		return pv_noxs_choice_check(c, offer, why) < 0 ? EV_MISDEED : EV_CHOICE;
	case XenbusStateConnected: /* the frontend follows the backend: nothing is left to do */
		return EV_NONE;
	case XenbusStateClosing:
		return EV_CLOSING;
	case XenbusStateClosed:
		return EV_CLOSED;
	default:
		*why = "its state is not one that a frontend has";
		return EV_MISDEED;
	}
}

bool choice_present(const struct pv_noxs_choice *c, uint32_t generation)
{
	return c->generation == generation && c->alive && c->state >= XenbusStateInitialising && c->state <= XenbusStateClosing;
}

enum pv_vif_pair choice_pair(const struct pv_noxs_choice *c, uint32_t generation)
{
	return choice_present(c, generation) && c->pair <= PV_VIF_USE_VF ? c->pair : PV_VIF_ALONE;
}

static uint32_t headroom_of(const struct pv_noxs_choice *c)
{
	return c->features & PV_VIF_HEADROOM ? c->headroom : 0;
}

bool choice_differs(const struct pv_noxs_choice *a, const struct pv_noxs_choice *b)
{
	return (a->features ^ b->features) & PV_VIF_CHANGEABLE || headroom_of(a) != headroom_of(b);
}

bool choice_of_another(const struct pv_noxs_choice *c, const struct pv_noxs_choice *held)
{
	return held->magic && (c->queues != held->queues || c->ring_order != held->ring_order || memcmp(c->bytes, held->bytes, sizeof(c->bytes)));
}

enum dev_event choice_change(struct pv_noxs_choice *c, const struct pv_noxs_choice *now, const struct pv_noxs_offer *offer,
			     const char **why)
{
	struct pv_noxs_choice next = *now;

	*why = NULL;
	if (offer->type != PV_NOXS_VIF || c->generation != offer->generation || c->state != XenbusStateConnected ||
	    !choice_differs(c, now))
		return EV_NONE;
	next.features = (now->features & ~(uint32_t)PV_VIF_CHANGEABLE) | (c->features & PV_VIF_CHANGEABLE);
	next.headroom = headroom_of(c);
	*c = next;
	return pv_noxs_choice_check(c, offer, why) < 0 ? EV_MISDEED : EV_CHANGED;
}
