/* The handshake from the guest's side, against a domain 0 of the test's own. */
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
	return front_open(&f, lb_spec, k.domid, PV_NOXS_VIF, 0, wait_ms);
}

/* A vif of one queue whose rings are one shared page: enough for a handshake. */
static void choose_vif(void)
{
	struct pv_noxs_choice c = { .queues = 1 };
	uint32_t gref;
	void *page;
	int port = pv_evt_alloc(f.h, f.entry.backend_domid);

	assert_true(port > 0);
	assert_int_equal(pv_gnt_share(f.h, f.entry.backend_domid, 1, true, NULL, &gref, &page), 0);
	c.vif[0] = (struct pv_noxs_vif_queue){ gref, gref, (uint32_t)port, (uint32_t)port };
	assert_int_equal(front_choose(&f, &c), 0);
}

static void connected_vif(void)
{
	uint32_t ports[8];

	fake_announce(&k, fake_vif_offer(), 0, 0);
	assert_int_equal(open_vif(0), 0);
	choose_vif();
	fake_connect(&k);
	assert_true(front_events(&f, ports, 8) >= 0);
	assert_int_equal(f.state, FRONT_CONNECTED);
}

static void follow(void)
{
	uint32_t ports[8];

	assert_true(front_events(&f, ports, 8) >= 0);
}

static uint32_t frontend_state(void)
{
	struct pv_noxs_choice c;

	pv_noxs_choice_read(k.control, &c);
	return c.state;
}

static uint8_t alive(void)
{
	return *(volatile uint8_t *)&k.control->choice.alive;
}

static void front_open_not_announced(void **state)
{
	(void)state;
	assert_int_equal(open_vif(0), -ENOENT);
	assert_non_null(strstr(f.why, "vif 0"));
	assert_non_null(strstr(f.why, "pvio attach"));
}

static void front_open_other_device_announced(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 1, 0);
	assert_int_equal(open_vif(0), -ENOENT);
	front_close(&f);
	assert_int_equal(front_open(&f, lb_spec, k.domid, PV_NOXS_VBD, 1, 0), -ENOENT); /* the number alone is not the device */
}

static void front_open_no_such_domain(void **state)
{
	(void)state;
	assert_true(front_open(&f, lb_spec, k.domid + 1, PV_NOXS_VIF, 0, 0) < 0);
	assert_true(strlen(f.why) > 0);
}

static void front_open_behind_holes(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, PV_NOXS_ENTRIES - 1);
	assert_int_equal(open_vif(0), 0);
	assert_int_equal(f.state, FRONT_OFFERED);
	assert_int_equal(f.offer.vif.mtu, 1500);
	assert_int_equal(frontend_state(), XenbusStateInitialising);
	assert_int_equal(alive(), 1);
}

static void front_open_on_a_linked_page(void **state)
{
	struct pv_noxs_device_page *first = k.page;

	(void)state;
	fake_share(&k, false, &k.page_gref, &k.page);
	pv_noxs_device_init(k.page, (uint16_t)k.domid);
	pv_noxs_device_link(first, k.page_gref);
	fake_announce(&k, fake_vif_offer(), 0, 3);
	assert_int_equal(open_vif(0), 0);
}

static void *announce_later(void *arg)
{
	usleep(30000);
	fake_announce(arg, fake_vif_offer(), 0, 0);
	return NULL;
}

static void front_open_waits_for_the_announcement(void **state)
{
	pthread_t t;

	(void)state;
	pthread_create(&t, NULL, announce_later, &k);
	assert_int_equal(open_vif(20000), 0);
	pthread_join(t, NULL);
	assert_int_equal(f.announce, 0); /* given back, for other processes of this guest */
}

/* Another process has the announcement port: we poll. */
static void front_open_waits_without_the_announcement_port(void **state)
{
	struct pv_hyper *other = lb_open(k.domid);
	pthread_t t;

	(void)state;
	assert_true(pv_evt_bind(other, 0, (uint32_t)k.announce) > 0);
	pthread_create(&t, NULL, announce_later, &k);
	assert_int_equal(open_vif(20000), 0);
	pthread_join(t, NULL);
	pv_hyper_close(other);
}

static void front_open_second_process_is_refused_and_harms_nobody(void **state)
{
	struct front second;

	(void)state;
	connected_vif();
	assert_int_equal(front_open(&second, lb_spec, k.domid, PV_NOXS_VIF, 0, 30), -EBUSY);
	assert_non_null(strstr(second.why, "another process"));
	front_close(&second);
	assert_int_equal(alive(), 1);
	assert_int_equal(frontend_state(), XenbusStateConnected);
}

static void announce_pipe(uint32_t devid, unsigned slot)
{
	struct pv_noxs_offer o = {
		.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .type = PV_NOXS_PIPE, .pipe = { .version = PV_NOXS_PIPE_VERSION },
	};

	k.control = NULL; /* of a device before: it stays as it is */
	fake_announce(&k, o, devid, slot);
}

/* Any of a type: the lowest number that is free and offered. */
static void front_open_any_takes_the_first_that_is_free(void **state)
{
	struct front p[4];

	(void)state;
	assert_int_equal(front_open(&p[0], lb_spec, k.domid, PV_NOXS_PIPE, FRONT_ANY, 0), -ENOENT);
	assert_non_null(strstr(p[0].why, "pvio attach"));
	front_close(&p[0]);
	fake_announce(&k, fake_vif_offer(), 0, 0);
	announce_pipe(UINT32_MAX, 1); /* not a number that a device may have */
	announce_pipe(7, 2);
	announce_pipe(3, 5);
	announce_pipe(1, 9);
	fake_state(&k, XenbusStateClosed, -EPROTO);
	assert_int_equal(front_open(&p[0], lb_spec, k.domid, PV_NOXS_PIPE, FRONT_ANY, 0), 0);
	assert_int_equal(p[0].devid, 3);
	assert_int_equal(front_open(&p[1], lb_spec, k.domid, PV_NOXS_PIPE, FRONT_ANY, 0), 0);
	assert_int_equal(p[1].devid, 7);
	assert_int_equal(front_open(&p[2], lb_spec, k.domid, PV_NOXS_PIPE, FRONT_ANY, 30), -EBUSY);
	assert_int_equal(p[2].devid, FRONT_ANY);
	fake_offer(&k); /* 1 is whole again */
	assert_int_equal(front_open(&p[3], lb_spec, k.domid, PV_NOXS_PIPE, FRONT_ANY, 0), 0);
	assert_int_equal(p[3].devid, 1);
	front_close(&p[0]);
	p[2].looked = 0;
	assert_int_equal(front_find(&p[2]), 0);
	assert_int_equal(p[2].devid, 3);
	for (int i = 1; i < 4; i++)
		front_close(&p[i]);
}

static void front_open_backend_stopped_with_an_error(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	fake_state(&k, XenbusStateClosed, -ENODEV);
	assert_int_equal(open_vif(0), -ECONNREFUSED);
	assert_non_null(strstr(f.why, strerror(ENODEV)));
}

static void front_open_while_dom0_detaches(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	fake_state(&k, XenbusStateClosing, 0);
	assert_int_equal(open_vif(0), -EBUSY);
}

static void front_choose_then_connected(void **state)
{
	uint32_t port;

	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	assert_int_equal(open_vif(0), 0);
	choose_vif();
	assert_int_equal(f.state, FRONT_CONNECTING);
	assert_int_equal(front_xenbus_state(&f), XenbusStateInitialised);
	assert_int_equal(frontend_state(), XenbusStateInitialised);
	while (pv_evt_pending(k.h, &port, 1) == 1 && port != (uint32_t)k.port)
		;
	assert_int_equal(port, k.port); /* it told us */
	fake_connect(&k);
	follow();
	assert_int_equal(f.state, FRONT_CONNECTED);
	assert_int_equal(frontend_state(), XenbusStateConnected);
}

static void front_events_refused_while_connecting(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	assert_int_equal(open_vif(0), 0);
	choose_vif();
	fake_state(&k, XenbusStateClosed, -ENOSPC);
	follow();
	assert_int_equal(f.state, FRONT_REFUSED);
	assert_int_equal(front_error(&f), -ECONNREFUSED);
	assert_non_null(strstr(f.why, strerror(ENOSPC)));
	front_close(&f);
	assert_int_equal(frontend_state(), XenbusStateClosed);
}

/* One who connected before died in the middle of it: its connection ends, not ours, which begins with the next offer. */
static void front_events_end_of_anothers_connection(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	assert_int_equal(open_vif(0), 0);
	choose_vif();
	fake_state(&k, XenbusStateClosed, 0);
	follow();
	assert_int_equal(f.state, FRONT_LOST);
	assert_int_equal(front_error(&f), 0);
	front_close(&f);
}

static void front_events_broken_off_with_an_error(void **state)
{
	(void)state;
	connected_vif();
	fake_state(&k, XenbusStateClosed, -EPROTO);
	follow();
	assert_int_equal(front_error(&f), -ECONNREFUSED); /* -EPROTO would say that the peer misbehaved: here it was us */
	assert_non_null(strstr(f.why, strerror(EPROTO)));
}

static void front_events_dom0_detaches(void **state)
{
	(void)state;
	connected_vif();
	fake_state(&k, XenbusStateClosing, 0);
	follow();
	assert_int_equal(f.state, FRONT_CLOSING);
	assert_int_equal(front_error(&f), -ESHUTDOWN);
	fake_follow(&k);
	assert_int_equal(front_leave(&f, 20000), 0);
	front_close(&f);
	assert_int_equal(frontend_state(), XenbusStateClosed);
	assert_int_equal(alive(), 0);
}

static void front_events_offer_changes_while_connected(void **state)
{
	(void)state;
	connected_vif();
	k.offer.state = XenbusStateConnected;
	k.offer.vif.mtu = 9000;
	k.offer.vif.carrier = 0;
	k.offer.vif.queues_max = 1;
	k.offer.vif.features = 0;
	pv_noxs_offer_write(k.control, &k.offer);
	pv_evt_notify(k.h, (uint32_t)k.port);
	follow();
	assert_int_equal(f.state, FRONT_CONNECTED);
	assert_int_equal(f.offer.vif.mtu, 9000);
	assert_int_equal(f.offer.vif.carrier, 0);
	assert_int_equal(f.offer.vif.features, fake_vif_offer().vif.features); /* what was agreed stays */
}

static void front_events_backend_away(void **state)
{
	(void)state;
	connected_vif();
	fake_state(&k, XenbusStateConnected, -EOWNERDEAD); /* as pviod shows a device whose backend died */
	follow();
	assert_int_equal(f.state, FRONT_CONNECTED);
	assert_int_equal(f.offer.vif.carrier, 0);
	assert_int_equal(front_xenbus_state(&f), XenbusStateInitialising);
	assert_int_equal(front_leave(&f, 20000), 0); /* there is nobody to wait for */
}

static void front_find_after_a_new_offer(void **state)
{
	(void)state;
	connected_vif();
	fake_disconnect(&k);
	fake_offer(&k);
	follow();
	assert_int_equal(f.state, FRONT_LOST);
	front_retire(&f);
	assert_int_equal(f.state, FRONT_NONE);
	fake_until(front_find(&f) == 0);
	assert_int_equal(f.state, FRONT_OFFERED);
	choose_vif();
	fake_connect(&k);
	follow();
	assert_int_equal(f.state, FRONT_CONNECTED);
}

static void front_find_not_before_a_new_generation(void **state)
{
	(void)state;
	connected_vif();
	fake_state(&k, XenbusStateClosed, 0);
	follow();
	assert_int_equal(f.state, FRONT_LOST);
	front_retire(&f);
	assert_int_equal(frontend_state(), XenbusStateClosed);
	pv_noxs_backend_state(k.control, XenbusStateInitWait, 0);
	f.looked = 0;
	assert_int_equal(front_find(&f), -EAGAIN);
	assert_int_equal(f.state, FRONT_NONE);
	fake_offer(&k);
	f.looked = 0;
	assert_int_equal(front_find(&f), 0);
}

/* It was connected, and its device was closed by dom0. */
static void retired_vif(void)
{
	connected_vif();
	fake_disconnect(&k);
	fake_state(&k, XenbusStateClosed, 0);
	follow();
	front_retire(&f);
}

static void front_find_device_moved_to_other_pages(void **state)
{
	(void)state;
	retired_vif();
	k.control = NULL; /* another control page and port, as after a forced detach and an attach */
	fake_announce(&k, fake_vif_offer(), 0, 0);
	k.offer.generation = 10;
	fake_offer(&k);
	f.looked = 0;
	assert_int_equal(front_find(&f), 0);
	choose_vif();
	fake_connect(&k);
	follow();
	assert_int_equal(f.state, FRONT_CONNECTED);
}

static bool dom0_hears(void)
{
	uint32_t ports[8], device = (uint32_t)k.port;
	int n = pv_evt_pending(k.h, ports, 8);
	bool heard = false;

	for (int i = 0; i < n; i++)
		heard |= ports[i] == device;
	pv_evt_unmask(k.h, &device, 1);
	return heard;
}

/* Removed and attached between two looks: the page is used again, and so is the number of the port. */
static void front_find_next_device_with_the_numbers_of_the_last(void **state)
{
	struct pv_noxs_offer offer = fake_vif_offer();
	int port;

	(void)state;
	retired_vif();
	fake_remove(&k);
	port = k.port;
	pv_evt_unbind(k.h, (uint32_t)port);
	offer.generation = k.offer.generation;
	fake_announce(&k, offer, 0, 0);
	assert_int_equal(k.port, port);
	f.looked = 0;
	assert_int_equal(front_find(&f), 0);
	assert_int_equal(alive(), 1);
	dom0_hears();
	choose_vif();
	assert_true(dom0_hears());
	fake_connect(&k);
	follow();
	assert_int_equal(f.state, FRONT_CONNECTED);
	front_close(&f);
	assert_int_equal(alive(), 0);
	assert_true(dom0_hears());
}

static void front_find_device_removed(void **state)
{
	(void)state;
	connected_vif();
	fake_state(&k, XenbusStateClosed, 0);
	fake_remove(&k);
	follow();
	front_retire(&f);
	f.looked = 0;
	assert_int_equal(front_find(&f), -ENOENT);
	assert_int_equal(f.state, FRONT_GONE);
	assert_non_null(strstr(f.why, "dom0 removed it"));
	assert_int_equal(front_error(&f), -ESHUTDOWN);
}

static void expect_ended(void)
{
	assert_int_equal(f.state, FRONT_ENDED);
	assert_int_equal(front_error(&f), -ESHUTDOWN);
	assert_int_equal(front_xenbus_state(&f), XenbusStateUnknown);
	assert_non_null(strstr(f.why, "the domain or its hypervisor is gone"));
	assert_int_equal(front_leave(&f, 100000), -ESHUTDOWN); /* at once */
}

/* It sleeps on the descriptor alone, as programs do. */
static void front_events_the_domain_is_destroyed(void **state)
{
	struct pollfd fd;
	uint32_t ports[8];

	(void)state;
	connected_vif();
	fd = (struct pollfd){ .fd = pv_evt_fd(f.h), .events = POLLIN };
	while (poll(&fd, 1, 0) == 1)
		follow();
	assert_int_equal(pv_hub_domain_destroy(k.h, (uint16_t)k.domid), 0);
	assert_int_equal(poll(&fd, 1, 10000), 1);
	assert_int_equal(front_events(&f, ports, 8), -ESHUTDOWN);
	expect_ended();
	assert_int_equal(front_events(&f, ports, 8), -ESHUTDOWN);
}

static void front_find_the_domain_is_destroyed(void **state)
{
	(void)state;
	connected_vif();
	fake_state(&k, XenbusStateClosed, 0);
	follow();
	front_retire(&f);
	assert_int_equal(pv_hub_domain_destroy(k.h, (uint16_t)k.domid), 0);
	assert_int_equal(front_find(&f), -ESHUTDOWN);
	expect_ended();
}

static void front_leave_the_domain_is_destroyed(void **state)
{
	(void)state;
	connected_vif();
	assert_int_equal(pv_hub_domain_destroy(k.h, (uint16_t)k.domid), 0);
	assert_int_equal(front_leave(&f, 100000), -ESHUTDOWN);
	expect_ended();
}

static void *destroy_later(void *arg)
{
	usleep(20000);
	assert_int_equal(pv_hub_domain_destroy(k.h, (uint16_t)k.domid), 0);
	return arg;
}

/* While it waits for its device to be announced. */
static void front_open_the_domain_is_destroyed(void **state)
{
	pthread_t t;

	(void)state;
	pthread_create(&t, NULL, destroy_later, NULL);
	assert_int_equal(open_vif(100000), -ESHUTDOWN);
	pthread_join(t, NULL);
	expect_ended();
}

static void front_name_of_disks(void **state)
{
	struct front disk = { .type = PV_NOXS_VBD, .devid = 268439552 };
	char name[24];

	(void)state;
	assert_string_equal(front_name(&disk, name, sizeof(name)), "vbd xvdq");
	disk.devid = 51712;
	assert_string_equal(front_name(&disk, name, sizeof(name)), "vbd xvda");
	disk.type = PV_NOXS_VIF;
	disk.devid = UINT32_MAX - 1;
	assert_string_equal(front_name(&disk, name, sizeof(name)), "vif 4294967294");
	disk.type = PV_NOXS_PIPE;
	disk.devid = FRONT_ANY;
	assert_string_equal(front_name(&disk, name, sizeof(name)), "pipe");
}

static void front_leave_backend_does_not_answer(void **state)
{
	uint64_t before;

	(void)state;
	connected_vif();
	before = front_now_ms();
	assert_int_equal(front_leave(&f, 50), -ETIMEDOUT);
	assert_true(front_now_ms() - before >= 50);
	front_close(&f);
	assert_int_equal(frontend_state(), XenbusStateClosed);
}

static void front_leave_nothing_was_chosen(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	assert_int_equal(open_vif(0), 0);
	assert_int_equal(front_leave(&f, 100000), 0);
}

static void front_close_never_opened_or_twice(void **state)
{
	struct front zero = { 0 };

	(void)state;
	front_close(&zero);
	fake_announce(&k, fake_vif_offer(), 0, 0);
	assert_int_equal(open_vif(0), 0);
	front_close(&f);
	front_close(&f);
	assert_int_equal(alive(), 0); /* pviod learns it by the notice too */
}

static void front_close_leaves_the_device_to_the_next(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		if (i == 0)
			fake_announce(&k, fake_vif_offer(), 0, 0);
		else
			fake_offer(&k);
		assert_int_equal(open_vif(0), 0);
		choose_vif();
		fake_connect(&k);
		follow();
		assert_int_equal(f.state, FRONT_CONNECTED);
		fake_disconnect(&k);
		fake_state(&k, XenbusStateClosed, 0);
		assert_int_equal(front_leave(&f, 0), 0);
		front_close(&f);
	}
	assert_int_equal(fake_guest(&k).handles, 0);
	assert_int_equal(fake_guest(&k).pinned, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(front_open_not_announced),
		T(front_open_other_device_announced),
		T(front_open_no_such_domain),
		T(front_open_behind_holes),
		T(front_open_on_a_linked_page),
		T(front_open_waits_for_the_announcement),
		T(front_open_waits_without_the_announcement_port),
		T(front_open_second_process_is_refused_and_harms_nobody),
		T(front_open_any_takes_the_first_that_is_free),
		T(front_open_backend_stopped_with_an_error),
		T(front_open_while_dom0_detaches),
		T(front_choose_then_connected),
		T(front_events_refused_while_connecting),
		T(front_events_end_of_anothers_connection),
		T(front_events_broken_off_with_an_error),
		T(front_events_dom0_detaches),
		T(front_events_offer_changes_while_connected),
		T(front_events_backend_away),
		T(front_find_after_a_new_offer),
		T(front_find_not_before_a_new_generation),
		T(front_find_device_moved_to_other_pages),
		T(front_find_next_device_with_the_numbers_of_the_last),
		T(front_find_device_removed),
		T(front_events_the_domain_is_destroyed),
		T(front_find_the_domain_is_destroyed),
		T(front_leave_the_domain_is_destroyed),
		T(front_open_the_domain_is_destroyed),
		cmocka_unit_test(front_name_of_disks),
		T(front_leave_backend_does_not_answer),
		T(front_leave_nothing_was_chosen),
		T(front_close_never_opened_or_twice),
		T(front_close_leaves_the_device_to_the_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
