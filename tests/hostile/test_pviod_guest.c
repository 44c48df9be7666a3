/* test_pviod_guest.c - guests that lie, storm, play dead and pin pages (XSA-155, 175, 331, 342, 349, 396): their device breaks,
 * others go on, and the cost is bounded. */
#include "tests/unit/pviod_rig.h"

/* A second device of the guest stands beside, connected: it must not notice anything. */
static struct fe other;
static struct fe third;

static void all_turn(void)
{
	if (fe1.h)
		fe_turn(&fe1);
	if (other.h)
		fe_turn(&other);
	if (third.h)
		fe_turn(&third);
}

static int up_with_neighbour(void **state)
{
	rig_up(state);
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"1\"}");
	memset(&other, 0, sizeof(other));
	fe_open(&other, rig->domid, PV_NOXS_VIF, 1);
	rig->also = all_turn;
	WAIT(other.state == FE_CONNECTED && is(0, "Connected"));
	return 0;
}

enum { FEW_BURST = 24, FEW_RATE = 40 };

static int up_with_few_looks(void **state)
{
	rig_options.looks = (struct limit){ .burst = FEW_BURST, .rate = FEW_RATE };
	up_with_neighbour(state);
	rig_options.looks = (struct limit){ 0 };
	return 0;
}

static int down_with_neighbour(void **state)
{
	assert_string_equal(state_of(0), "Connected");
	assert_int_equal(other.state, FE_CONNECTED);
	assert_int_equal(other.left_once, false);
	rig->also = NULL;
	fe_close(&other);
	if (fe1.h)
		fe_close(&fe1);
	return rig_down(state);
}

static void attach(void)
{
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
}

static void detach(bool force)
{
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\",\"force\":%s}", force ? "true" : "false");
}

/* A frontend that has begun and shared, with a legal choice filled in but not written. */
static void begin(enum pv_noxs_type type)
{
	struct pv_noxs_offer o;

	fe1.at = NULL;
	fe_open(&fe1, rig->domid, type, type == PV_NOXS_VIF ? 0 : 51712);
	assert_int_equal(fe_entry(&fe1, &fe1.entry), 0);
	{
		struct pv_noxs_entry e = fe1.entry;

		WAIT(fe_map(&fe1, &e) == 0);
		fe1.entry = e;
	}
	assert_int_equal(pv_noxs_offer_read(fe1.page, type, &o), 0);
	fe1.generation = o.generation;
	fe_begin(&fe1);
	fe_share(&fe1);
	fe_fill_choice(&fe1);
	fe1.state = FE_GONE; /* it does nothing by itself */
}

/* ---- choices with every field wrong ---- */

static void wrong_magic(struct pv_noxs_choice *c) { c->magic ^= 1; }
static void wrong_version(struct pv_noxs_choice *c) { c->version = 2; }
static void newer_generation(struct pv_noxs_choice *c) { c->generation++; }
static void much_newer_generation(struct pv_noxs_choice *c) { c->generation += 0x7fffffff; }
static void state_2(struct pv_noxs_choice *c) { c->state = XenbusStateInitWait; }
static void state_7(struct pv_noxs_choice *c) { c->state = XenbusStateReconfiguring; }
static void state_huge(struct pv_noxs_choice *c) { c->state = 0x80000004; }
static void no_queues(struct pv_noxs_choice *c) { c->queues = 0; }
static void one_queue_too_many(struct pv_noxs_choice *c) { c->queues = 5; }
static void all_queues(struct pv_noxs_choice *c) { c->queues = 0xffff; }
static void more_features(struct pv_noxs_choice *c) { c->features |= PV_VIF_GSO_TCPV4; }
static void unknown_features(struct pv_noxs_choice *c) { c->features |= 1u << 31; }
static void port_0(struct pv_noxs_choice *c) { c->vif[0].tx_port = 0; }
static void second_port_0(struct pv_noxs_choice *c) { c->queues = 2; }
static void vbd_order(struct pv_noxs_choice *c) { c->ring_order = 3; }
static void vbd_order_huge(struct pv_noxs_choice *c) { c->ring_order = 255; }
static void vbd_abi(struct pv_noxs_choice *c) { c->abi = 3; }
static void vbd_port_0(struct pv_noxs_choice *c) { c->vbd[0].port = 0; }

static void choice_with_a_wrong_field_breaks_that_device_alone(void **state)
{
	static const struct { enum pv_noxs_type type; void (*spoil)(struct pv_noxs_choice *c); } wrong[] = {
		{ PV_NOXS_VIF, wrong_magic }, { PV_NOXS_VIF, wrong_version }, { PV_NOXS_VIF, newer_generation },
		{ PV_NOXS_VIF, much_newer_generation }, { PV_NOXS_VIF, state_2 }, { PV_NOXS_VIF, state_7 }, { PV_NOXS_VIF, state_huge },
		{ PV_NOXS_VIF, no_queues }, { PV_NOXS_VIF, one_queue_too_many }, { PV_NOXS_VIF, all_queues },
		{ PV_NOXS_VIF, more_features }, { PV_NOXS_VIF, unknown_features }, { PV_NOXS_VIF, port_0 }, { PV_NOXS_VIF, second_port_0 },
		{ PV_NOXS_VBD, vbd_order }, { PV_NOXS_VBD, vbd_order_huge }, { PV_NOXS_VBD, vbd_abi }, { PV_NOXS_VBD, vbd_port_0 },
	};

	(void)state;
	be_start(&rig->be[1], "vbd", "blkback");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct be *b = &rig->be[wrong[i].type == PV_NOXS_VBD];
		unsigned connects = b->calls[BE_CONNECT];
		struct pv_noxs_offer o;
		struct json_object *dev;

		good("attach", "{\"guest\":\"web\",\"type\":\"%s\"}", wrong[i].type == PV_NOXS_VIF ? "vif" : "vbd");
		begin(wrong[i].type);
		wrong[i].spoil(&fe1.choice);
		pv_noxs_choice_write(fe1.page, &fe1.choice);
		fe_tell(&fe1);
		WAIT(is(1, "broken"));
		assert_int_equal(b->calls[BE_CONNECT], connects); /* no backend sees it */
		dev = listed(1);
		assert_non_null(strstr(text_in(dev, "error"), "misbehaved"));
		assert_int_equal(number_in(dev, "state_number"), XenbusStateClosed);
		json_object_put(dev);
		assert_int_equal(pv_noxs_offer_read(fe1.page, wrong[i].type, &o), 0);
		assert_int_equal(o.error, -EPROTO);
		/* repentance does not help: only dom0 leads on */
		fe_fill_choice(&fe1);
		pv_noxs_choice_write(fe1.page, &fe1.choice);
		fe_tell(&fe1);
		for (int t = 0; t < 5; t++)
			rig_turn();
		assert_string_equal(state_of(1), "broken");
		good("detach", "{\"guest\":\"web\",\"device\":\"%s\"}", wrong[i].type == PV_NOXS_VIF ? "vif0" : "xvda");
		fe_close(&fe1);
	}
}

static void older_generations_are_left_overs(void **state)
{
	(void)state;
	attach();
	begin(PV_NOXS_VIF);
	for (int i = 1; i < 40; i++) {
		fe_fill_choice(&fe1);
		fe1.choice.generation = fe1.generation - i * 0x01010101u;
		if ((int32_t)(fe1.choice.generation - fe1.generation) >= 0)
			continue;
		fe1.choice.state = i % 12;
		fe1.choice.alive = i & 1;
		fe1.choice.queues = 0xffff;
		pv_noxs_choice_write(fe1.page, &fe1.choice);
		fe_tell(&fe1);
		rig_turn();
	}
	assert_string_equal(state_of(1), "InitWait");
	fe_fill_choice(&fe1);
	pv_noxs_choice_write(fe1.page, &fe1.choice);
	fe_tell(&fe1);
	WAIT(is(1, "Connected"));
	detach(true);
}

/* References and ports that are not the guest's to give: the backend's hypervisor refuses, the connection fails, no more. */
static void foreign_references_fail_the_connection(void **state)
{
	(void)state;
	attach();
	begin(PV_NOXS_VIF);
	fe1.choice.vif[0].rx_gref = 0x7fffffff;
	pv_noxs_choice_write(fe1.page, &fe1.choice);
	fe_tell(&fe1);
	WAIT(is(1, "Closed"));
	assert_true(pv_noxs_backend_state_read(fe1.page) == XenbusStateClosed);
	pv_noxs_frontend_state(fe1.page, XenbusStateClosed);
	fe_tell(&fe1);
	WAIT(is(1, "InitWait"));
	detach(true);
}

/* The whole half, scribbled at random while pviod looks: it survives, others go on, and the device can be taken away. */
static void half_scribbled_at_random_is_survived(void **state)
{
	unsigned seed = 12345;

	(void)state;
	for (int round = 0; round < 12; round++) {
		attach();
		begin(PV_NOXS_VIF);
		for (int i = 0; i < 3000; i++) {
			uint32_t *words = (uint32_t *)&fe1.page->choice;

			seed = seed * 1103515245 + 12345;
			__atomic_store_n(&words[(seed >> 8) % 12], i % 3 ? seed >> 16 & 7 : fe1.generation + (seed >> 20) % 3 - 1, __ATOMIC_RELEASE);
			if (i % 16 == 0) {
				words[0] = PV_NOXS_MAGIC;
				words[1] = PV_NOXS_VERSION;
				words[2] = fe1.page->offer.generation;
				fe_tell(&fe1);
			}
			if (i % 500 == 0)
				rig_turn();
		}
		/* the offer half is dom0's alone: what we write there changes nothing for pviod */
		memset(&fe1.page->offer, round, sizeof(fe1.page->offer));
		detach(true);
		fe_close(&fe1);
	}
}

static void offer_half_is_never_read_back(void **state)
{
	(void)state;
	attach();
	begin(PV_NOXS_VIF);
	fe1.page->offer.vif.queues_max = 16;
	fe1.page->offer.vif.features = ~0u;
	fe1.choice.queues = 8;
	for (int i = 0; i < 8; i++)
		fe1.choice.vif[i] = fe1.choice.vif[0];
	pv_noxs_choice_write(fe1.page, &fe1.choice);
	fe_tell(&fe1);
	WAIT(is(1, "broken"));
	detach(true);
}

/* ---- storms ---- */

static struct json_object *inspected(int n, const char *key)
{
	struct json_object *o = get("inspect", "{}"), *devices, *pviod, *v;

	json_object_object_get_ex(o, "devices", &devices);
	json_object_object_get_ex(json_object_array_get_idx(devices, n), "pviod", &pviod);
	assert_true(json_object_object_get_ex(pviod, key, &v));
	v = json_object_get(v);
	json_object_put(o);
	return v;
}

static int inspected_number(int n, const char *key)
{
	struct json_object *v = inspected(n, key);
	int number = json_object_get_int(v);

	json_object_put(v);
	return number;
}

/* So many looks at once and so many a second, whatever the guest does (here few, so that a slow machine can storm as well); while it
 * storms, other devices connect. */
static void storm_of_events_buys_a_bounded_number_of_looks(void **state)
{
	uint64_t begun = rig_ms(), end = begun + RIG_MS;

	(void)state;
	attach();
	begin(PV_NOXS_VIF);
	while (inspected_number(1, "throttled") == 0) {
		assert_true(rig_ms() < end);
		for (int i = 0; i < 200; i++)
			fe_tell(&fe1);
		rig_turn();
	}
	for (int i = 0; i < 2000; i++)
		fe_tell(&fe1);
	rig_turn();
	assert_true(inspected_number(1, "looks") <= FEW_BURST + 10 + (int)(rig_ms() - begun + 1000) / (1000 / FEW_RATE));
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"2\"}");
	detach(true);
}

/* Connecting and leaving as fast as it can. */
static void toggling_states_is_slowed_down(void **state)
{
	uint64_t begun = rig_ms(), ms;
	unsigned connects = rig->be[0].calls[BE_CONNECT];

	(void)state;
	attach();
	fe1.at = NULL;
	fe_open(&fe1, rig->domid, PV_NOXS_VIF, 0);
	fe1.again = true;
	while ((ms = rig_ms() - begun) < 700 || rig->be[0].calls[BE_CONNECT] - connects < 2) {
		assert_true(ms < RIG_MS);
		rig_turn();
		if (random() % 4 == 0) /* not before each look: then it would never connect */
			fe_leave(&fe1);
	}
	ms = rig_ms() - begun;
	assert_true(inspected_number(1, "looks") <= 128 + 10 + (int)(ms + 1000) / 5);
	/* and when it comes to its senses it is served */
	fe1.again = false;
	WAIT(fe1.state == FE_LEFT || fe1.state == FE_CONNECTED || fe1.state == FE_NONE);
	WAIT(fe1.state == FE_LEFT || is(1, "Connected"));
	detach(true);
}

/* Does `list` say so of the nth device? */
static bool says(int n, const char *words)
{
	struct json_object *dev = listed(n), *error = NULL;
	bool yes = json_object_object_get_ex(dev, "error", &error) && error && strstr(json_object_get_string(error), words);

	json_object_put(dev);
	return yes;
}

/* All devices of a guest share what it may begin anew: OFFERS_BURST at once, OFFERS_RATE a second. */
static void connections_after_connections_are_few(void **state)
{
	enum { OFFERS_BURST = 64, OFFERS_RATE = 4, MORE = 8, FIRST = 2 /* of each device: no offer anew */ };
	uint64_t begun = rig_ms();
	unsigned before = rig->be[0].calls[BE_CONNECT], connects = 0;
	struct fe *fes[FIRST] = { &fe1, &third };
	bool said = false;

	(void)state;
	attach();
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"2\"}");
	for (unsigned i = 0; i < FIRST; i++) {
		fes[i]->at = NULL;
		fe_open(fes[i], rig->domid, PV_NOXS_VIF, 2 * i);
		fes[i]->again = true;
	}
	while ((connects = rig->be[0].calls[BE_CONNECT] - before) < FIRST + OFFERS_BURST + MORE) {
		assert_true(rig_ms() - begun < RIG_MS);
		rig_turn();
		for (unsigned i = 0; i < FIRST; i++)
			if (fes[i]->state == FE_CONNECTED)
				fe_leave(fes[i]);
		said |= connects > OFFERS_BURST && says(1, "too often");
	}
	assert_true(said);
	assert_true(connects <= FIRST + OFFERS_BURST + 1 + OFFERS_RATE * (rig_ms() - begun) / 1000);
	assert_true(inspected_number(1, "throttled") + inspected_number(2, "throttled") > 0);
	for (unsigned i = 0; i < FIRST; i++) /* and served when it has come to its senses */
		fes[i]->again = fes[i]->state != FE_CONNECTED;
	WAIT(fe1.state == FE_CONNECTED && third.state == FE_CONNECTED);
	WAIT(is(1, "Connected") && is(2, "Connected"));
	detach(true);
	good("detach", "{\"guest\":\"web\",\"device\":\"vif2\",\"force\":true}");
	fe_close(&third);
}

/* A guest that writes the right words at the right moment without any event: the looks after pviod's own steps count as well. */
static void toggling_without_events_is_slowed_down_too(void **state)
{
	uint64_t begun = rig_ms(), ms;

	(void)state;
	attach();
	begin(PV_NOXS_VIF);
	fe_tell(&fe1);
	while ((ms = rig_ms() - begun) < 700) {
		enum xenbus_state s = pv_noxs_backend_state_read(fe1.page);

		fe1.generation = fe1.page->offer.generation;
		fe_fill_choice(&fe1);
		fe1.choice.state = s == XenbusStateInitWait ? XenbusStateInitialised : s == XenbusStateConnected ? XenbusStateClosing : XenbusStateClosed;
		pv_noxs_choice_write(fe1.page, &fe1.choice);
		if (rig->be[0].rpc)
			pv_rpc_work(rig->be[0].rpc);
	}
	ms = rig_ms() - begun;
	fe_tell(&fe1);
	assert_true(inspected_number(1, "looks") <= 128 + 10 + (int)(ms + 1000) / 5);
	detach(true);
}

/* ---- the byte of life ---- */

static void playing_dead_and_alive_is_only_a_reconnect(void **state)
{
	(void)state;
	attach();
	fe1_open(0);
	fe1.again = true;
	rig->also = all_turn;
	WAIT(fe1.state == FE_CONNECTED && is(1, "Connected"));
	for (int i = 0; i < 6; i++) {
		__atomic_store_n(&fe1.page->choice.alive, 0, __ATOMIC_RELEASE);
		fe_tell(&fe1);
		WAIT(fe1.state == FE_CONNECTED && fe1.page->choice.alive == 1 && is(1, "Connected"));
		if (i & 1)
			__atomic_store_n(&fe1.page->choice.alive, 0xff, __ATOMIC_RELEASE); /* alive all the same */
		fe_tell(&fe1);
	}
	detach(true);
}

/* ---- pages that are kept mapped ---- */

/* A guest that never unmaps a control page: the same page serves every later device of that slot. */
static void pinned_control_pages_are_bounded_and_reused(void **state)
{
	unsigned grants = 0;
	struct pv_hyper *pins = lb_open(rig->domid);

	(void)state;
	for (int i = 0; i < 40; i++) {
		struct pv_noxs_entry e;
		void *page;

		attach();
		begin(PV_NOXS_VIF);
		assert_int_equal(fe_entry(&fe1, &e), 0);
		assert_int_equal(pv_gnt_map(pins, 0, &e.control_gref, 1, true, NULL, &page), 0); /* and keeps it */
		detach(true);
		fe_close(&fe1);
		if (i == 0)
			grants = count(0).grants;
		assert_int_equal(count(0).grants, grants);
		assert_int_equal(count(0).pinned, 0);
	}
	pv_hyper_close(pins);
}

/* An old frontend that goes on writing into the page of a removed device cannot speak for the next one. */
static void old_frontend_of_a_reused_page_is_stale(void **state)
{
	struct pv_noxs_choice old;

	(void)state;
	attach();
	begin(PV_NOXS_VIF);
	old = fe1.choice;
	detach(true);
	attach();
	for (int i = 0; i < 20; i++) {
		old.state = 1 + i % 8;
		old.alive = i & 1;
		pv_noxs_choice_write(fe1.page, &old);
		fe_tell(&fe1);
		rig_turn();
	}
	assert_string_equal(state_of(1), "InitWait");
	fe_close(&fe1);
	fe1_open(0);
	rig->also = all_turn;
	WAIT(fe1.state == FE_CONNECTED && is(1, "Connected"));
	detach(true);
}

#define hostile(f) cmocka_unit_test_setup_teardown(f, up_with_neighbour, down_with_neighbour)

int main(void)
{
	const struct CMUnitTest tests[] = {
		hostile(choice_with_a_wrong_field_breaks_that_device_alone),
		hostile(older_generations_are_left_overs),
		hostile(foreign_references_fail_the_connection),
		hostile(half_scribbled_at_random_is_survived),
		hostile(offer_half_is_never_read_back),
		cmocka_unit_test_setup_teardown(storm_of_events_buys_a_bounded_number_of_looks, up_with_few_looks, down_with_neighbour),
		hostile(toggling_states_is_slowed_down),
		hostile(connections_after_connections_are_few),
		hostile(toggling_without_events_is_slowed_down_too),
		hostile(playing_dead_and_alive_is_only_a_reconnect),
		hostile(pinned_control_pages_are_bounded_and_reused),
		hostile(old_frontend_of_a_reused_page_is_stale),
	};

	return cmocka_run_group_tests(tests, rig_hub_up, rig_hub_down);
}
