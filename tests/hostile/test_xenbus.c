/* test_xenbus.c - a guest whose kernel lies about its devices in XenStore: garbage, storms, states in any order, keys that come and go.
 * Its own device breaks, and nothing else: another device of the same guest, and another guest, go on. */
#include "tests/unit/pviod_rig.h"
#include "tests/unit/xenbus_front.h"

static struct xb bad, good_one; /* kernels: of guest "web", which lies, and of "db", which does not */
static uint16_t db;

/* ---- up and down ---- */

static bool busy; /* in a kernel: none runs inside itself */

static void kernels_turn(void)
{
	if (busy)
		return;
	busy = true;
	if (bad.h)
		xb_turn(&bad);
	if (good_one.h)
		xb_turn(&good_one);
	busy = false;
}

static void attach(const char *guest, const char *type, const char *name)
{
	good("attach", "{\"guest\":\"%s\",\"type\":\"%s\",\"name\":\"%s\",\"dialect\":\"xenstore\"}", guest, type, name);
}

/* What `list` says about a device of a guest; "" if there is none. Static. */
static const char *state_in(const char *guest, const char *name)
{
	static char state[32];

	for (int i = 0;; i++) {
		struct json_object *dev = listed(i);
		bool found = dev && !strcmp(text_in(dev, "guest"), guest) && !strcmp(text_in(dev, "name"), name);

		snprintf(state, sizeof(state), "%s", found ? text_in(dev, "state") : "");
		json_object_put(dev);
		if (found || !dev)
			return state;
	}
}

static bool shows(const char *guest, const char *name, const char *state)
{
	return strcmp(state_in(guest, name), state) == 0;
}

static int up(void **state)
{
	struct json_object *g;

	rig_up(state);
	be_start(&rig->be[1], "vbd", "blkback");
	rig->also = kernels_turn;
	busy = false;
	g = get("guest.create", "{\"name\":\"db\"}");
	db = number_in(g, "domid");
	json_object_put(g);
	bad = good_one = (struct xb){ .turn = rig_turn };
	xb_boot(&bad, rig->domid, lb_open(rig->domid), lb_open(rig->domid));
	xb_boot(&good_one, db, lb_open(db), lb_open(db));
	attach("db", "vif", "0");
	attach("web", "vif", "7");
	WAIT(shows("db", "0", "Connected") && shows("web", "7", "Connected"));
	bad.passive = true; /* from now on, what is written is what the test writes */
	rig_mark();
	return 0;
}

static int down(void **state)
{
	xb_crash(&bad);
	xb_crash(&good_one);
	return rig_down(state);
}

/* The others noticed nothing, and can still do everything. */
static void check_others(void)
{
	assert_true(shows("db", "0", "Connected"));
	assert_true(shows("web", "7", "Connected"));
	attach("db", "vbd", "xvda");
	WAIT(shows("db", "xvda", "Connected"));
	good("detach", "{\"guest\":\"db\",\"device\":\"xvda\"}");
}

static void put_key(const char *dir, const char *key, const char *value)
{
	assert_int_equal(xs_write_bytes(&bad.xs, 0, xb_path(dir, key), value, strlen(value)), 0);
}

static bool is_new(enum pv_noxs_type type, uint32_t devid)
{
	struct xb_dev *d = xb_find(&bad, type, devid);

	return d && d->bound && d->seen == XenbusStateInitWait;
}

static void remove_by_force(const char *device)
{
	good("detach", "{\"guest\":\"web\",\"device\":\"%s\",\"force\":true}", device);
	WAIT(!xb_find(&bad, PV_NOXS_VIF, 0) && !xb_find(&bad, PV_NOXS_VBD, 51712));
}

/* ---- one lie each ---- */

#define LONG "11111111111111111111111111111111111111111111111111111111111111111111111111111111"

static const struct {
	enum pv_noxs_type type;
	const char *key, *value; /* written over what is right; value NULL: removed */
} lies[] = {
	{ PV_NOXS_VIF, "request-rx-copy", "0" },
	{ PV_NOXS_VIF, "request-rx-copy", NULL },
	{ PV_NOXS_VIF, "feature-rx-notify", "0" },
	{ PV_NOXS_VIF, "tx-ring-ref", NULL },
	{ PV_NOXS_VIF, "tx-ring-ref", "" },
	{ PV_NOXS_VIF, "tx-ring-ref", "-1" },
	{ PV_NOXS_VIF, "tx-ring-ref", LONG },
	{ PV_NOXS_VIF, "rx-ring-ref", "1 2" },
	{ PV_NOXS_VIF, "rx-ring-ref", "%n%s" },
	{ PV_NOXS_VIF, "event-channel-tx", "0" },
	{ PV_NOXS_VIF, "event-channel-rx", NULL },
	{ PV_NOXS_VIF, "event-channel-rx", "99999999999999999999" },
	{ PV_NOXS_VIF, "multi-queue-num-queues", "0" },
	{ PV_NOXS_VIF, "multi-queue-num-queues", "5" },
	{ PV_NOXS_VIF, "multi-queue-num-queues", "4294967295" },
	{ PV_NOXS_VIF, "multi-queue-num-queues", "2" },
	{ PV_NOXS_VIF, "feature-sg", "maybe" },
	{ PV_NOXS_VIF, "state", "9" },
	{ PV_NOXS_VIF, "state", "44" },
	{ PV_NOXS_VIF, "state", "" },
	{ PV_NOXS_VIF, "state", "-4" },
	{ PV_NOXS_VIF, "state", LONG },
	{ PV_NOXS_VBD, "ring-ref", NULL },
	{ PV_NOXS_VBD, "ring-ref", "x" },
	{ PV_NOXS_VBD, "event-channel", "0" },
	{ PV_NOXS_VBD, "ring-page-order", "1" },
	{ PV_NOXS_VBD, "ring-page-order", "3" },
	{ PV_NOXS_VBD, "ring-page-order", "31" },
	{ PV_NOXS_VBD, "ring-page-order", "4294967295" },
	{ PV_NOXS_VBD, "ring-page-order", "zero" },
	{ PV_NOXS_VBD, "multi-queue-num-queues", "3" },
	{ PV_NOXS_VBD, "protocol", "pdp11-abi" },
	{ PV_NOXS_VBD, "state", "12345678" },
};

static void lie_breaks_the_device_alone(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		const char *type = lies[i].type == PV_NOXS_VIF ? "vif" : "vbd", *name = lies[i].type == PV_NOXS_VIF ? "0" : "xvda";
		uint32_t devid = lies[i].type == PV_NOXS_VIF ? 0 : 51712;
		char error[XB_PATH];
		struct xb_dev *d;

		attach("web", type, name);
		WAIT(is_new(lies[i].type, devid));
		d = xb_find(&bad, lies[i].type, devid);
		xb_share(d);
		if (lies[i].type == PV_NOXS_VIF)
			xb_write_vif(d, 0);
		else
			xb_write_vbd(d, 0);
		if (lies[i].value)
			put_key(d->node, lies[i].key, lies[i].value);
		else
			assert_int_equal(xs_rm(&bad.xs, 0, xb_path(d->node, lies[i].key)), 0);
		if (strcmp(lies[i].key, "state"))
			put_key(d->node, "state", lies[i].type == PV_NOXS_VIF ? "4" : "3");
		WAIT(shows("web", name, "broken"));
		snprintf(error, sizeof(error), "/local/domain/0/error/backend/%s/%u/%u", type, rig->domid, devid);
		assert_memory_equal(xb_get(&bad, error, "error"), "71 the guest misbehaved", 23);
		assert_int_equal(xb_other_state(d), XenbusStateClosed);
		assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"%s\",\"name\":\"%s\",\"dialect\":\"noxs\",\"config\":{\"x\":\"y\"}}",
					 type, name), -EEXIST);
		remove_by_force(lies[i].type == PV_NOXS_VIF ? "vif0" : "xvda");
	}
	check_others();
	rig_check(0);
}

/* References and ports that are numbers, and not the guest's to give: the backend finds out, and the device can be tried again. */
static void references_of_nobody_fail_the_connection(void **state)
{
	static const struct { const char *key, *value; } wrong[] = {
		{ "tx-ring-ref", "4000000000" }, { "rx-ring-ref", "0" }, { "event-channel-tx", "4294967295" }, { "event-channel-rx", "77777" },
	};

	(void)state;
	for (int i = 0; i < 3; i++) { /* the fake backend binds the port of tx alone */
		struct xb_dev *d;

		attach("web", "vif", "0");
		WAIT(is_new(PV_NOXS_VIF, 0));
		d = xb_find(&bad, PV_NOXS_VIF, 0);
		xb_share(d);
		xb_write_vif(d, 0);
		put_key(d->node, wrong[i].key, wrong[i].value);
		put_key(d->node, "state", "4");
		WAIT(shows("web", "0", "Closed"));
		remove_by_force("vif0");
	}
	check_others();
	rig_check(0);
}

/* What the toolstack wrote into the guest's directory is the guest's to change, and nobody's to believe. */
static void keys_of_the_toolstack_are_not_read_back(void **state)
{
	struct xb_dev *d;

	(void)state;
	attach("web", "vif", "0");
	WAIT(is_new(PV_NOXS_VIF, 0));
	d = xb_find(&bad, PV_NOXS_VIF, 0);
	put_key(d->node, "backend", "/local/domain/0/backend/vif/999/0");
	put_key(d->node, "backend-id", "999");
	put_key(d->node, "mac", "ff:ff:ff:ff:ff:ff");
	put_key(d->node, "handle", "7");
	d->other_id = 0;
	xb_share(d);
	xb_tell(d);
	WAIT(shows("web", "0", "Connected"));
	remove_by_force("vif0");
	check_others();
	rig_check(0);
}

static void directory_removed_under_its_device(void **state)
{
	(void)state;
	for (int connected = 0; connected < 2; connected++) {
		attach("web", "vif", "0");
		WAIT(is_new(PV_NOXS_VIF, 0));
		if (connected) {
			xb_share(xb_find(&bad, PV_NOXS_VIF, 0));
			xb_tell(xb_find(&bad, PV_NOXS_VIF, 0));
			WAIT(shows("web", "0", "Connected"));
		}
		assert_int_equal(xs_rm(&bad.xs, 0, "device/vif/0"), 0);
		WAIT(!xb_find(&bad, PV_NOXS_VIF, 0));
		WAIT(shows("web", "0", "Closed"));
		good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
	}
	check_others();
	rig_check(0);
}

/* ---- storms ---- */

/* States as fast as the ring takes them, for as long as it takes another guest to come, connect and go ten times. */
static void states_in_a_storm(void **state)
{
	static const char *const loops[] = { "12", "14", "1456", "46", "65", "1416", "13141516", "0123456", "78" };

	(void)state;
	for (size_t i = 0; i < sizeof(loops) / sizeof(loops[0]); i++) {
		struct xb_dev *d;

		attach("web", "vif", "0");
		WAIT(is_new(PV_NOXS_VIF, 0));
		d = xb_find(&bad, PV_NOXS_VIF, 0);
		xb_share(d);
		xb_write_vif(d, 0);
		for (unsigned n = 0; n < 400; n++) {
			const char one[2] = { loops[i][n % strlen(loops[i])] };

			put_key(d->node, "state", one);
			if (n % 40 == 0) {
				attach("db", "vbd", "xvda");
				WAIT(shows("db", "xvda", "Connected"));
				good("detach", "{\"guest\":\"db\",\"device\":\"xvda\"}");
			}
		}
		remove_by_force("vif0");
	}
	check_others();
	rig_check(0);
}

/* It never ends, and so never is what pviod looks at more than a bounded number of times a second. */
static void looks_are_limited(void **state)
{
	struct json_object *devices = NULL, *all, *pviod = NULL;
	uint64_t writes = 0, began = rig_ms(), end = began + 1500;

	(void)state;
	attach("web", "vif", "0");
	WAIT(is_new(PV_NOXS_VIF, 0));
	rig->also = NULL;
	assert_int_equal(xs_unwatch(&bad.xs, "device", "fe"), 0);
	for (; rig_ms() < end; writes++)
		put_key("device/vif/0", "state", writes % 2 ? "1" : "2");
	assert_int_equal(xs_watch(&bad.xs, "device", "fe"), 0);
	all = get("inspect", "{\"guest\":\"web\",\"device\":\"vif0\"}");
	json_object_object_get_ex(all, "devices", &devices);
	json_object_object_get_ex(json_object_array_get_idx(devices, 0), "pviod", &pviod);
	assert_true((uint64_t)number_in(pviod, "looks") <= 128 + 200 * (rig_ms() - began) / 1000 + 1);
	assert_true(writes > 128 + 200 * 2); /* else nothing was tried */
	json_object_put(all);
	rig->also = kernels_turn;
	remove_by_force("vif0");
	check_others();
}

/* ---- anything at all ---- */

static uint32_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 8) * n >> 24);
}

static void do_anything(struct xb_dev *d)
{
	static const char *const keys[] = { "state", "tx-ring-ref", "rx-ring-ref", "event-channel", "event-channel-tx", "event-channel-rx",
		"ring-ref", "ring-ref0", "ring-ref1", "ring-page-order", "multi-queue-num-queues", "queue-0", "queue-0/tx-ring-ref",
		"queue-1/event-channel", "request-rx-copy", "feature-rx-notify", "feature-persistent", "protocol", "backend", "backend-id" };
	static const char *const values[] = { "0", "1", "2", "3", "4", "5", "6", "7", "8", "1", "4", "6", "16", "4294967295", "", "x",
		"x86_64-abi", LONG };
	const char *key = keys[rnd(3) ? 0 : rnd(sizeof(keys) / sizeof(keys[0]))];

	switch (rnd(20)) {
	case 0:
		xs_rm(&bad.xs, 0, xb_path(d->node, key));
		break;
	case 1:
		if (d->type == PV_NOXS_VIF)
			xb_write_vif(d, 0);
		else
			xb_write_vbd(d, 0);
		break;
	default:
		xs_printf(&bad.xs, 0, xb_path(d->node, key), "%s", values[rnd(rnd(4) ? 9 : sizeof(values) / sizeof(values[0]))]);
	}
}

static void anything_at_all(void **state)
{
	unsigned rounds = getenv("PVIO_TEST_LONG") && *getenv("PVIO_TEST_LONG") ? 400 : 24;

	(void)state;
	for (unsigned round = 0; round < rounds; round++) {
		bool vif = round % 2;
		struct xb_dev *d;

		seed = round * 7919 + 17;
		attach("web", vif ? "vif" : "vbd", vif ? "0" : "xvda");
		WAIT(is_new(vif ? PV_NOXS_VIF : PV_NOXS_VBD, vif ? 0 : 51712));
		d = xb_find(&bad, vif ? PV_NOXS_VIF : PV_NOXS_VBD, vif ? 0 : 51712);
		xb_share(d);
		for (int i = 0; i < 60; i++) {
			do_anything(d);
			if (rnd(4) == 0)
				rig_turn();
		}
		if (rnd(2))
			refused("detach", "{\"guest\":\"web\",\"device\":\"%s\",\"timeout_ms\":20}", vif ? "vif0" : "xvda");
		if (*state_in("web", vif ? "0" : "xvda"))
			remove_by_force(vif ? "vif0" : "xvda");
		WAIT(!xb_find(&bad, vif ? PV_NOXS_VIF : PV_NOXS_VBD, vif ? 0 : 51712));
	}
	check_others();
	rig_check(0);
}

/* ---- quotas ---- */

/* A guest that used up its nodes gets no device, and is the only one. */
static void guest_that_used_up_its_nodes_gets_no_device(void **state)
{
	unsigned n = 0;
	int rc;

	(void)state;
	do {
		char key[16];

		snprintf(key, sizeof(key), "n%u", n++);
		rc = xs_printf(&bad.xs, 0, xb_path("device/vif/7", key), "x");
	} while (rc == 0 && n < 100000);
	assert_int_equal(rc, -ENOSPC);
	rc = refused("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\",\"dialect\":\"xenstore\"}");
	if (rc) { /* what domain 0 makes may be counted, or not */
		assert_non_null(strstr(refused_why, "XenStore"));
		assert_true(shows("web", "0", ""));
	} else {
		remove_by_force("vif0");
	}
	check_others();
}

#define test(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(lie_breaks_the_device_alone),
		test(references_of_nobody_fail_the_connection),
		test(keys_of_the_toolstack_are_not_read_back),
		test(directory_removed_under_its_device),
		test(states_in_a_storm),
		test(looks_are_limited),
		test(anything_at_all),
		test(guest_that_used_up_its_nodes_gets_no_device),
	};

	return cmocka_run_group_tests(tests, rig_hub_up, rig_hub_down);
}
