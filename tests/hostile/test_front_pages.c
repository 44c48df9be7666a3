/* A hostile domain 0: what it writes into the device page and the control page (XSA-155, 175, 376). */
#include "tests/unit/front_fake.h"
#include <pvio/front.h>

static struct fake k;
static struct front f;

static int start(void **state)
{
	(void)state;
	fake_start(&k);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	front_close(&f);
	fake_stop(&k);
	return 0;
}

static int open_vif(int wait_ms)
{
	front_close(&f);
	return front_open(&f, lb_spec, k.domid, PV_NOXS_VIF, 0, wait_ms);
}

static void connected(void)
{
	struct pv_noxs_choice c = { .queues = 1 };
	uint32_t gref, ports[8];
	void *page;
	int port;

	fake_announce(&k, fake_vif_offer(), 0, 0);
	assert_int_equal(open_vif(0), 0);
	port = pv_evt_alloc(f.h, 0);
	assert_int_equal(pv_gnt_share(f.h, 0, 1, true, NULL, &gref, &page), 0);
	c.vif[0] = (struct pv_noxs_vif_queue){ gref, gref, (uint32_t)port, (uint32_t)port };
	assert_int_equal(front_choose(&f, &c), 0);
	fake_connect(&k);
	assert_true(front_events(&f, ports, 8) >= 0);
	assert_int_equal(f.state, FRONT_CONNECTED);
}

static int follow(void)
{
	uint32_t ports[8];
	int n;

	pv_evt_notify(k.h, (uint32_t)k.port);
	n = front_events(&f, ports, 8);
	assert_true(n >= 0);
	return front_error(&f);
}

static void pointer_to_nowhere(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	k.page_gref = 60000;
	fake_point(&k, 2);
	assert_true(open_vif(20) < 0);
	k.page_gref = UINT32_MAX;
	fake_point(&k, 3);
	assert_true(open_vif(20) < 0);
	k.announce = 99999;
	fake_point(&k, 4);
	assert_true(open_vif(20) < 0);
}

static void device_page_is_noise(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	srandom(7);
	for (unsigned i = 0; i < 50; i++) {
		for (unsigned w = 0; w < 1024; w++)
			((uint32_t *)k.page)[w] = (uint32_t)random();
		k.page->generation &= ~1u;
		assert_int_equal(open_vif(0), -EPROTO); /* no magic */
		k.page->magic = PV_NOXS_MAGIC;
		k.page->version = PV_NOXS_VERSION;
		assert_true(open_vif(0) < 0);
	}
}

static void device_page_never_settles(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	k.page->generation |= 1;
	assert_int_equal(open_vif(30), -EAGAIN);
}

static void device_pages_link_in_a_circle(void **state)
{
	(void)state;
	pv_noxs_device_link(k.page, k.page_gref);
	assert_int_equal(open_vif(0), -ENOENT);
}

static void entry_names_impossible_things(void **state)
{
	struct pv_noxs_entry good;

	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	good = k.entry;
	k.entry.backend_domid = DOMID_FIRST_RESERVED;
	fake_entry(&k, XenbusStateInitWait);
	assert_int_equal(open_vif(0), -EPROTO);
	k.entry = good;
	k.entry.control_gref = 12345;
	fake_entry(&k, XenbusStateInitWait);
	assert_true(open_vif(0) < 0);
	k.entry = good;
	k.entry.port = 4000000000u;
	fake_entry(&k, XenbusStateInitWait);
	assert_true(open_vif(0) < 0);
	k.entry = good;
	k.entry.control_gref = k.page_gref; /* a page that we may only read */
	fake_entry(&k, XenbusStateInitWait);
	assert_true(open_vif(0) < 0);
	k.entry = good;
	fake_entry(&k, XenbusStateInitWait);
	assert_int_equal(open_vif(0), 0);
}

static void offer_is_of_another_type_or_generation(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	k.control->offer.type = PV_NOXS_VBD;
	assert_int_equal(open_vif(0), -EPROTO);
	k.control->offer.type = PV_NOXS_VIF;
	k.control->offer.generation = 77;
	assert_int_equal(open_vif(0), -EAGAIN);
	k.control->offer.generation = 1;
	k.control->offer.magic = 0;
	assert_int_equal(open_vif(0), -EPROTO);
}

static void offer_limits_are_absurd(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	k.control->offer.vif.queues_max = 0;
	assert_int_equal(open_vif(0), -EPROTO);
	k.control->offer.vif.queues_max = 65535;
	k.control->offer.vif.mtu = UINT32_MAX;
	k.control->offer.vif.features = UINT32_MAX;
	assert_int_equal(open_vif(0), 0);
	assert_true(f.offer.vif.queues_max <= PV_NOXS_QUEUES_MAX);
	assert_true(f.offer.vif.mtu <= 65535);
}

static void offer_rewritten_while_connected(void **state)
{
	(void)state;
	connected();
	k.control->offer.vif.queues_max = 9999;
	k.control->offer.vif.mac[0] = 0x42;
	assert_int_equal(follow(), 0);
	assert_int_equal(f.offer.vif.mac[0], 0x42); /* the address may change while connected, the queues may not */
	assert_int_equal(f.offer.vif.queues_max, fake_vif_offer().vif.queues_max);
	k.control->offer.magic = 0;
	assert_int_equal(follow(), -EPROTO);
	assert_int_equal(f.state, FRONT_BROKEN);
	assert_non_null(strstr(f.why, "vif 0"));
	assert_int_equal(front_leave(&f, 30), -ETIMEDOUT); /* close still works */
}

static void state_goes_back_while_connected(void **state)
{
	(void)state;
	connected();
	fake_state(&k, XenbusStateInitWait, 0);
	assert_int_equal(follow(), -EPROTO);
}

static void states_that_mean_nothing(void **state)
{
	static const uint32_t states[] = { 0, 1, 7, 8, 9, 0x80000000, UINT32_MAX };

	(void)state;
	connected();
	for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		k.control->offer.state = states[i];
		assert_int_equal(follow(), 0);
		assert_int_equal(f.state, FRONT_CONNECTED);
	}
}

static void error_of_the_offer_is_no_errno(void **state)
{
	(void)state;
	connected();
	fake_state(&k, XenbusStateClosed, INT32_MIN);
	assert_int_equal(follow(), -ECONNREFUSED);
	assert_true(strlen(f.why) > 0);
}

/* Everything random, at every step, while it is open: nothing crashes, each outcome is one of the documented. */
static void control_page_is_noise(void **state)
{
	(void)state;
	srandom(3);
	for (unsigned i = 0; i < 200; i++) {
		struct pv_noxs_offer o = fake_vif_offer();

		if (k.port)
			pv_evt_unbind(k.h, (uint32_t)k.port);
		o.generation = k.offer.generation;
		fake_announce(&k, o, 0, 0);
		for (unsigned n = 0; n < 1 + i % 4; n++)
			((uint32_t *)&k.control->offer)[(unsigned)random() % 32] = (uint32_t)random() % 12;
		if (open_vif(0) == 0) {
			struct pv_noxs_choice c = { .queues = 1 };

			assert_int_equal(front_choose(&f, &c), 0);
			for (unsigned n = 0; n < 20; n++) {
				((uint32_t *)&k.control->offer)[(unsigned)random() % 16] = (uint32_t)random() % 12;
				follow();
			}
			if (f.state == FRONT_LOST) {
				front_retire(&f);
				front_find(&f);
			}
			front_leave(&f, 1);
		}
		memset(&k.control->offer, 0, sizeof(k.control->offer));
	}
}

/* New offers without end: each is answered by one look, never by a loop. */
static void generations_race(void **state)
{
	(void)state;
	connected();
	for (unsigned i = 0; i < 300; i++) {
		fake_offer(&k);
		follow();
		if (f.state == FRONT_LOST)
			front_retire(&f);
		if (f.state == FRONT_NONE)
			front_find(&f);
		if (f.state == FRONT_OFFERED) {
			struct pv_noxs_choice c = { .queues = 1 };

			assert_int_equal(front_choose(&f, &c), 0);
		}
	}
	assert_int_equal(front_error(&f), 0);
}

/* Domain 0 takes the pages away while we have them: on Xen and here the mapping stays, and only new ones fail. */
static void control_page_ended_while_mapped(void **state)
{
	(void)state;
	connected();
	assert_int_equal(pv_gnt_unshare(k.h, k.control, 1), 0);
	k.control = NULL;
	fake_remove(&k);
	front_follow(&f, true);
	assert_int_equal(f.state, FRONT_CONNECTED);
	front_close(&f);
	assert_int_equal(open_vif(0), -ENOENT);
}

static void event_storm_on_the_device_port(void **state)
{
	uint32_t ports[8];

	(void)state;
	connected();
	for (unsigned i = 0; i < 20000; i++) {
		pv_evt_notify(k.h, (uint32_t)k.port);
		if (i % 3 == 0)
			assert_int_equal(front_events(&f, ports, 8), 0);
	}
	assert_int_equal(f.state, FRONT_CONNECTED);
}

/* Domain 0's processes die at each step of the handshake. */
static void domain_0_vanishes(void **state)
{
	uint32_t ports[8];

	(void)state;
	for (unsigned step = 0; step < 3; step++) {
		struct pv_noxs_choice c = { .queues = 1 };

		fake_announce(&k, fake_vif_offer(), 0, 0);
		assert_int_equal(open_vif(0), 0);
		if (step >= 1)
			assert_int_equal(front_choose(&f, &c), 0);
		if (step >= 2) {
			fake_state(&k, XenbusStateConnected, 0);
			assert_true(front_events(&f, ports, 8) >= 0);
			assert_int_equal(f.state, FRONT_CONNECTED);
		}
		pv_hyper_close(k.h);
		assert_true(front_events(&f, ports, 8) >= 0);
		assert_int_equal(front_leave(&f, 20), step ? -ETIMEDOUT : 0);
		front_close(&f);
		assert_true(open_vif(20) < 0); /* its page is gone */
		/* another pviod */
		k = (struct fake){ .h = lb_open(0), .domid = k.domid };
		uint32_t gref = GNTTAB_RESERVED_XENSTORE;

		assert_int_equal(pv_gnt_map(k.h, (uint16_t)k.domid, &gref, 1, true, NULL, &k.store), 0);
		fake_share(&k, false, &k.page_gref, &k.page);
		pv_noxs_device_init(k.page, (uint16_t)k.domid);
		k.announce = pv_evt_alloc(k.h, (uint16_t)k.domid);
		fake_point(&k, 10 + step);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(pointer_to_nowhere),
		T(device_page_is_noise),
		T(device_page_never_settles),
		T(device_pages_link_in_a_circle),
		T(entry_names_impossible_things),
		T(offer_is_of_another_type_or_generation),
		T(offer_limits_are_absurd),
		T(offer_rewritten_while_connected),
		T(state_goes_back_while_connected),
		T(states_that_mean_nothing),
		T(error_of_the_offer_is_no_errno),
		T(control_page_is_noise),
		T(generations_race),
		T(control_page_ended_while_mapped),
		T(event_storm_on_the_device_port),
		T(domain_0_vanishes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
