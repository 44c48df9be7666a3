/* test_pviod_choice.c - what a guest's half of a control page asks for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "dom0-tools/pviod.h"

static const struct pv_noxs_offer offer = {
	.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 9, .state = XenbusStateInitWait, .type = PV_NOXS_VIF,
	.vif = { .queues_max = 2, .mtu = 1500, .features = PV_VIF_SG },
};

static struct pv_noxs_choice choice(uint32_t generation, uint32_t s)
{
	return (struct pv_noxs_choice){
		.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = generation, .state = s, .alive = 1, .queues = 1,
		.vif = { { 8, 9, 3, 3 } },
	};
}

static enum dev_event event(struct pv_noxs_choice c)
{
	const char *why;
	enum dev_event ev = choice_event(&c, &offer, &why);

	assert_int_equal(ev == EV_MISDEED, why != NULL);
	return ev;
}

static void choice_event_follows_the_state(void **state)
{
	static const enum dev_event want[] = {
		[XenbusStateUnknown] = EV_NONE, [XenbusStateInitialising] = EV_ANEW, [XenbusStateInitWait] = EV_MISDEED,
		[XenbusStateInitialised] = EV_CHOICE, [XenbusStateConnected] = EV_NONE, [XenbusStateClosing] = EV_CLOSING,
		[XenbusStateClosed] = EV_CLOSED, [XenbusStateReconfiguring] = EV_MISDEED, [XenbusStateReconfigured] = EV_MISDEED,
		[9] = EV_MISDEED,
	};

	(void)state;
	for (uint32_t s = 0; s < sizeof(want) / sizeof(want[0]); s++)
		assert_int_equal(event(choice(9, s)), want[s]);
	assert_int_equal(event(choice(9, 0xffffffff)), EV_MISDEED);
}

static void choice_event_ignores_what_is_older(void **state)
{
	static const uint32_t older[] = { 0, 8, 9u - 0x7fffffff };

	(void)state;
	for (size_t i = 0; i < sizeof(older) / sizeof(older[0]); i++)
		for (uint32_t s = 0; s < 10; s++) {
			struct pv_noxs_choice c = choice(older[i], s);

			c.alive = s & 1;
			assert_int_equal(event(c), EV_NONE);
		}
}

static void choice_event_refuses_what_was_not_offered_yet(void **state)
{
	(void)state;
	assert_int_equal(event(choice(10, XenbusStateInitialised)), EV_MISDEED);
	assert_int_equal(event(choice(9u + 0x7fffffff, XenbusStateInitialising)), EV_MISDEED);
}

static void choice_event_sees_the_death_in_any_state(void **state)
{
	(void)state;
	for (uint32_t s = 1; s < 10; s++) {
		struct pv_noxs_choice c = choice(9, s);

		c.alive = 0;
		assert_int_equal(event(c), EV_DIED);
	}
}

static void choice_event_checks_the_choice(void **state)
{
	struct pv_noxs_choice c;

	(void)state;
	c = choice(9, XenbusStateInitialised);
	c.queues = 3;
	assert_int_equal(event(c), EV_MISDEED);
	c = choice(9, XenbusStateInitialised);
	c.features = PV_VIF_GSO_TCPV4;
	assert_int_equal(event(c), EV_MISDEED);
	c = choice(9, XenbusStateInitialised);
	c.magic = 0;
	assert_int_equal(event(c), EV_MISDEED);
}

static void choice_present_needs_life_generation_and_state(void **state)
{
	struct pv_noxs_choice c;

	(void)state;
	for (uint32_t s = 0; s < 10; s++) {
		c = choice(9, s);
		assert_int_equal(choice_present(&c, 9), s >= XenbusStateInitialising && s <= XenbusStateClosing);
		assert_false(choice_present(&c, 8));
		c.alive = 0;
		assert_false(choice_present(&c, 9));
	}
}

/* A connected vif may choose its filter and its headroom anew, and nothing else. */
static void choice_change_is_of_what_may_change(void **state)
{
	struct pv_noxs_offer o = offer;
	struct pv_noxs_choice now = choice(9, XenbusStateInitialised), c = choice(9, XenbusStateConnected);
	const char *why;

	(void)state;
	o.vif.features |= PV_VIF_MCAST_CONTROL | PV_VIF_HEADROOM;
	assert_int_equal(choice_change(&c, &now, &o, &why), EV_NONE);
	c.features = PV_VIF_SG;
	c.vif[0].tx_gref = 1000;
	c.headroom = 77; /* without its bit it means nothing */
	assert_int_equal(choice_change(&c, &now, &o, &why), EV_NONE);
	c.features |= PV_VIF_HEADROOM;
	assert_int_equal(choice_change(&c, &now, &o, &why), EV_CHANGED);
	assert_int_equal(c.features, PV_VIF_HEADROOM);
	assert_int_equal(c.headroom, 77);
	assert_int_equal(c.vif[0].tx_gref, 8);
	now = c;
	c.state = XenbusStateConnected;
	c.headroom = PV_NOXS_HEADROOM_MAX + 1;
	assert_int_equal(choice_change(&c, &now, &o, &why), EV_MISDEED);
	assert_non_null(why);
	c = now;
	c.state = XenbusStateConnected;
	c.features |= PV_VIF_MCAST_CONTROL;
	assert_int_equal(choice_change(&c, &now, &offer, &why), EV_MISDEED); /* not offered */
	c = now;
	c.state = XenbusStateConnected;
	c.generation--;
	c.features = 0;
	assert_int_equal(choice_change(&c, &now, &o, &why), EV_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(choice_event_follows_the_state),
		cmocka_unit_test(choice_event_ignores_what_is_older),
		cmocka_unit_test(choice_event_refuses_what_was_not_offered_yet),
		cmocka_unit_test(choice_event_sees_the_death_in_any_state),
		cmocka_unit_test(choice_event_checks_the_choice),
		cmocka_unit_test(choice_present_needs_life_generation_and_state),
		cmocka_unit_test(choice_change_is_of_what_may_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
