/* test_store.c - guests that abuse XenStore: rings that lie, requests without end or half of one, quotas, storms (XSA-115, 326, 331,
 * 376). They lose their own connection or wait for their own turn; another guest is answered, and their devices go on. */
#include "tests/unit/pviod_rig.h"
#include "tests/unit/xs_client.h"

enum { STORM = 30000 };

static struct xs bad, other; /* of guest "web", which lies, and of "db", which does not */

static void web_turn(void)
{
	if (fe1.h)
		fe_turn(&fe1);
}

/* Guest web has a vif, connected, beside its XenStore. */
static int up(void **state)
{
	struct json_object *g;

	rig_up(state);
	g = get("guest.create", "{\"name\":\"db\"}");
	xs_open(&other, lb_open(number_in(g, "domid")));
	json_object_put(g);
	xs_open(&bad, lb_open(rig->domid));
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
	fe1_open(0);
	rig->also = web_turn;
	WAIT(fe1.state == FE_CONNECTED && is(0, "Connected"));
	return 0;
}

static void expect_name(struct xs *x, const char *name)
{
	char v[NAME_LEN];

	assert_int_equal(xs_read(x, 0, "name", v, sizeof(v)), strlen(name));
	assert_string_equal(v, name);
}

/* With so few tokens that every machine, however busy, can storm. */
static int up_slow(void **state)
{
	rig_options.store = (struct limit){ .burst = 40, .rate = 20 };
	up(state);
	rig_options.store = (struct limit){ 0 };
	return 0;
}

/* Whatever it did: with a new connection it is served again. */
static int down(void **state)
{
	expect_name(&other, "db");
	assert_string_equal(state_of(0), "Connected");
	assert_int_equal(fe1.state, FE_CONNECTED);
	assert_false(fe1.left_once);
	xs_reconnect(&bad);
	expect_name(&bad, "web");
	fe1_close();
	xs_close(&bad);
	xs_close(&other);
	return rig_down(state);
}

/* What pviod says about the XenStore of a guest. */
static int counter(const char *guest, const char *key)
{
	struct json_object *o = get("guest.list", "{}"), *guests, *xenstore;
	int n = -1;

	assert_true(json_object_object_get_ex(o, "guests", &guests));
	for (size_t i = 0; i < json_object_array_length(guests); i++) {
		struct json_object *g = json_object_array_get_idx(guests, i);

		if (strcmp(text_in(g, "name"), guest) == 0 && json_object_object_get_ex(g, "xenstore", &xenstore))
			n = number_in(xenstore, key);
	}
	json_object_put(o);
	return n;
}

static void send_half(uint32_t len)
{
	struct xsd_sockmsg head = { XS_WRITE, 1, 0, len };

	assert_int_equal(xs_put(&bad, &head, sizeof(head)), sizeof(head));
	assert_int_equal(xs_put(&bad, "data/", 5), 5);
	xs_notify(&bad);
}

/* ---- rings that lie ---- */

static void expect_broken(int before, uint32_t error)
{
	xs_notify(&bad);
	WAIT(xs_load(&bad.ring->error) == error);
	WAIT(counter("web", "violations") == before + 1);
	for (int i = 0; i < 50; i++) {
		xs_notify(&bad);
		rig_turn();
	}
	assert_int_equal(counter("web", "violations"), before + 1); /* once, whatever it does then */
	assert_int_equal(counter("web", "watches"), 0);
	expect_name(&other, "db");
	xs_reconnect(&bad);
	expect_name(&bad, "web");
}

static void indices_that_lie_break_the_connection_alone(void **state)
{
	static const uint32_t lies[] = { 1025, 0x7fffffff, 0x80000000, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		int before = counter("web", "violations");

		assert_int_equal(xs_watch(&bad, "data", "t"), 0);
		__atomic_store_n(&bad.ring->req_prod, bad.ring->req_cons + lies[i], __ATOMIC_RELEASE);
		expect_broken(before, XENSTORE_ERROR_RINGIDX);
		assert_int_equal(xs_watch(&bad, "data", "t"), 0);
		__atomic_store_n(&bad.ring->rsp_cons, bad.ring->rsp_prod + 1 + i, __ATOMIC_RELEASE);
		send_half(5);
		expect_broken(before + 1, XENSTORE_ERROR_RINGIDX);
	}
}

static void oversize_requests_break_the_connection_alone(void **state)
{
	static const uint32_t lens[] = { XENSTORE_PAYLOAD_MAX + 1, UINT32_MAX, UINT32_MAX - 15 };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		int before = counter("web", "violations");

		send_half(lens[i]);
		expect_broken(before, XENSTORE_ERROR_PROTO);
	}
}

/* Everything but the pointer, which is not of XenStore. */
static void page_scribbled_at_random_is_survived(void **state)
{
	uint8_t *page = (void *)bad.ring, pointer[64];
	uint32_t s = 1;

	(void)state;
	memcpy(pointer, page + PV_NOXS_POINTER_OFFSET, sizeof(pointer));
	for (int i = 0; i < 3000; i++) {
		for (int k = 0; k < 20; k++) {
			s = s * 1664525 + 1013904223;
			__atomic_store_n(page + (k < 4 ? 2048 + s % 28 : s % 2076), s >> 24, __ATOMIC_RELAXED);
		}
		xs_notify(&bad);
		if (i % 100 == 0)
			expect_name(&other, "db");
		if (i % 50 == 0) {
			xs_reconnect(&bad);
			expect_name(&bad, "web");
		}
	}
	assert_memory_equal(pointer, page + PV_NOXS_POINTER_OFFSET, sizeof(pointer));
	assert_true(counter("web", "violations") > 10);
}

static void reconnections_without_end_are_slowed_down(void **state)
{
	uint64_t end = rig_ms() + RIG_MS;

	(void)state;
	while (counter("web", "throttled") == 0) {
		assert_true(rig_ms() < end);
		for (int i = 0; i < 300; i++) {
			__atomic_store_n(&bad.ring->connection, XENSTORE_RECONNECT, __ATOMIC_RELEASE);
			xs_notify(&bad);
			usleep(20);
		}
		expect_name(&other, "db");
	}
}

/* ---- slowness ---- */

static void half_a_request_holds_up_nobody(void **state)
{
	struct xsd_sockmsg head;

	(void)state;
	send_half(9);
	for (int i = 0; i < 100; i++)
		expect_name(&other, "db");
	assert_int_equal(xs_put(&bad, "x\0" "12", 4), 4); /* the rest, as if nothing was */
	xs_notify(&bad);
	WAIT(xs_answered(&bad, &head));
	assert_int_equal(head.type, XS_WRITE);
	assert_string_equal(bad.body, "OK");
}

static void answers_that_are_not_read_stop_the_guest_alone(void **state)
{
	struct { struct xsd_sockmsg head; char body[8]; } m = { { XS_DIRECTORY, 0, 0, 8 }, "control" };
	int requests;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint32_t room = XENSTORE_RING_SIZE - (bad.ring->req_prod - xs_load(&bad.ring->req_cons));

		if (room >= sizeof(m))
			xs_put(&bad, &m, sizeof(m));
		xs_notify(&bad);
		if (i % 100 == 0)
			expect_name(&other, "db");
	}
	requests = counter("web", "requests");
	assert_true(requests < 100);
	for (int i = 0; i < 50; i++)
		rig_turn();
	assert_int_equal(counter("web", "requests"), requests);
	xs_reconnect(&bad);
	expect_name(&bad, "web");
}

/* ---- quotas ---- */

static void nodes_are_bounded(void **state)
{
	char path[40];
	int n, err = 0;

	(void)state;
	for (n = 0; n < 2000 && !err; n++) {
		snprintf(path, sizeof(path), "data/%d/%d", n % 50, n);
		err = xs_printf(&bad, 0, path, "%d", n);
	}
	assert_int_equal(err, -ENOSPC);
	assert_true(counter("web", "nodes") <= 1000 && n > 900);
	assert_int_equal(xs_printf(&other, 0, "data/x", "1"), 0);
	/* domain 0 may still make what a device needs */
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"7\",\"dialect\":\"xenstore\"}");
	good("detach", "{\"guest\":\"web\",\"device\":\"vif7\",\"force\":true}");
	for (n = 0; n < 50; n++) {
		snprintf(path, sizeof(path), "data/%d", n);
		assert_int_equal(xs_rm(&bad, 0, path), 0);
	}
	assert_true(counter("web", "nodes") < 20);
	assert_int_equal(xs_printf(&bad, 0, "data/x", "1"), 0);
}

static void memory_is_bounded_with_transactions_open(void **state)
{
	char big[2000], path[40];
	uint32_t tx[10];
	int err = 0;

	(void)state;
	memset(big, 'x', sizeof(big));
	for (int i = 0; i < 10; i++)
		tx[i] = xs_begin(&bad);
	assert_int_equal(xs_call(&bad, XS_TRANSACTION_START, 0, "", 1), -ENOSPC);
	for (int i = 0; i < 10 && !err; i++)
		for (int k = 0; k < 800 && !err; k++) {
			snprintf(path, sizeof(path), "data/%d", k);
			err = xs_write_bytes(&bad, tx[i], path, big, sizeof(big) - i);
			if (k % 200 == 0)
				expect_name(&other, "db");
		}
	assert_true(err == -ENOMEM || err == -ENOSPC);
	assert_true(counter("web", "memory") <= 5 << 19);
	assert_int_equal(xs_call(&bad, XS_RESET_WATCHES, 0, "", 1), 3);
	assert_true(counter("web", "memory") < 10000);
	assert_int_equal(counter("web", "transactions"), 0);
}

/* Domain 0 goes on as if there were none; what they used decides how they end. */
static void hoarded_transactions_hold_up_nobody(void **state)
{
	uint32_t tx[10];
	char v[100];

	(void)state;
	for (int i = 0; i < 10; i++) {
		tx[i] = xs_begin(&bad);
		assert_int_equal(xs_read(&bad, tx[i], i % 2 ? "name" : "device/vif/3/state", v, sizeof(v)), i % 2 ? 3 : -ENOENT);
	}
	for (int i = 0; i < 20; i++) {
		good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"3\",\"dialect\":\"xenstore\"}");
		good("detach", "{\"guest\":\"web\",\"device\":\"vif3\",\"force\":true}");
		WAIT(strcmp(state_of(1), "") == 0);
	}
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"3\",\"dialect\":\"xenstore\"}");
	for (int i = 0; i < 10; i++)
		assert_int_equal(xs_end(&bad, tx[i], true), i % 2 ? 0 : -EAGAIN);
	good("detach", "{\"guest\":\"web\",\"device\":\"vif3\",\"force\":true}");
	WAIT(strcmp(state_of(1), "") == 0);
}

/* ---- storms ---- */

static void watches_without_number_are_bounded(void **state)
{
	const char *token;
	char t[16];
	int n, err = 0, events = 0;

	(void)state;
	for (n = 0; n < 200 && !err; n++) {
		snprintf(t, sizeof(t), "%d", n);
		err = xs_watch(&bad, "data", t);
	}
	assert_int_equal(err, -E2BIG);
	assert_int_equal(n, 129);
	while (xs_event(&bad, &token))
		events++;
	for (int i = 0; i < 20; i++) { /* each fires them all */
		assert_int_equal(xs_printf(&bad, 0, "data/x", "%d", i), 0);
		if (i % 5 == 0)
			expect_name(&other, "db");
	}
	WAIT((events += xs_event(&bad, &token) != NULL) >= 2 * 128);
	xs_reconnect(&bad);
	expect_name(&bad, "web");
	assert_int_equal(counter("web", "watches"), 0);
}

/* Events that are never read: what waits is bounded, and the guest's own memory. */
static void events_without_a_reader_are_bounded(void **state)
{
	int memory;

	(void)state;
	for (int i = 0; i < 100; i++) {
		char t[16];

		snprintf(t, sizeof(t), "%d", i);
		assert_int_equal(xs_watch(&bad, "/", t), 0);
	}
	for (int i = 0; i < 100; i++) { /* made by domain 0, told to nobody who reads */
		good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"%d\",\"dialect\":\"xenstore\"}", 10 + i);
		good("detach", "{\"guest\":\"web\",\"device\":\"vif%d\",\"force\":true}", 10 + i);
		if (i % 20 == 0)
			expect_name(&other, "db");
	}
	memory = counter("web", "memory");
	assert_true(memory <= 5 << 19);
	xs_reconnect(&bad);
	assert_true(counter("web", "memory") < memory); /* a new connection begins without them */
	WAIT(strcmp(state_of(1), "") == 0);
}

static void storm_of_requests_is_slowed_down(void **state)
{
	struct { struct xsd_sockmsg head; char body[5]; } m = { { XS_READ, 0, 0, 5 }, "name" };
	uint64_t end = rig_ms() + RIG_MS;
	char sink[1024];

	(void)state;
	while (counter("web", "throttled") == 0) {
		assert_true(rig_ms() < end);
		for (int i = 0; i < 2000; i++) {
			if (XENSTORE_RING_SIZE - (bad.ring->req_prod - xs_load(&bad.ring->req_cons)) >= 21)
				xs_put(&bad, &m, 21);
			xs_notify(&bad);
			xs_get(&bad, sink, sizeof(sink));
		}
		expect_name(&other, "db");
	}
	xs_reconnect(&bad);
}

/* Transactions that touch much with few requests: what costs us more costs the guest more. */
static void storm_of_long_paths_is_slowed_down_sooner(void **state)
{
	char path[2000] = "data/";
	uint32_t tx = xs_begin(&bad);

	(void)state;
	for (size_t n = strlen(path); n < sizeof(path) - 50; n = strlen(path))
		snprintf(path + n, sizeof(path) - n, "%s%050d", path[n - 1] == '/' ? "" : "/", 0);
	for (int i = 0; counter("web", "throttled") == 0; i++) {
		assert_true(i < 40); /* their number alone would be admitted: 2 tokens each */
		for (int k = 0; k < 50; k++)
			assert_int_equal(xs_mkdir(&bad, tx, path), 0);
		expect_name(&other, "db");
	}
	xs_end(&bad, tx, false);
}

static void storm_of_bare_events_is_slowed_down(void **state)
{
	uint64_t end = rig_ms() + RIG_MS;

	(void)state;
	while (counter("web", "throttled") == 0) {
		assert_true(rig_ms() < end);
		for (int i = 0; i < STORM; i++)
			xs_notify(&bad);
		expect_name(&other, "db");
	}
}

/* ---- what is not its own ---- */

static void others_are_neither_seen_nor_touched(void **state)
{
	struct json_object *o = get("guest.list", "{}");
	const char *token;
	char path[64], v[100];

	(void)state;
	json_object_put(o);
	assert_int_equal(xs_watch(&bad, "/local/domain", "t"), 0);
	assert_string_equal(xs_event(&bad, &token), "/local/domain");
	snprintf(path, sizeof(path), "/local/domain/%u/name", other.h->domid);
	assert_int_equal(xs_read(&bad, 0, path, v, sizeof(v)), -EACCES);
	assert_int_equal(xs_printf(&bad, 0, path, "mine"), -EACCES);
	assert_int_equal(xs_list(&bad, 0, "/local/domain"), -EACCES);
	assert_int_equal(xs_printf(&bad, 0, "name", "mine"), -EACCES);
	assert_int_equal(xs_printf(&bad, 0, PV_NOXS_POINTER_NODE, "mine"), -EACCES);
	assert_int_equal(xs_rm(&bad, 0, "device"), -EACCES);
	assert_int_equal(xs_printf(&other, 0, "data/secret", "1"), 0);
	assert_null(xs_event(&bad, &token));
	assert_int_equal(xs_call(&bad, XS_IS_DOMAIN_INTRODUCED, 0, "0", 2), -EACCES);
	assert_int_equal(xs_call(&bad, XS_CONTROL, 0, "help", 5), -EACCES);
}

#define hostile(f) cmocka_unit_test_setup_teardown(f, up, down)
#define slow(f) cmocka_unit_test_setup_teardown(f, up_slow, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		hostile(indices_that_lie_break_the_connection_alone),
		hostile(oversize_requests_break_the_connection_alone),
		hostile(page_scribbled_at_random_is_survived),
		slow(reconnections_without_end_are_slowed_down),
		hostile(half_a_request_holds_up_nobody),
		hostile(answers_that_are_not_read_stop_the_guest_alone),
		hostile(nodes_are_bounded),
		hostile(memory_is_bounded_with_transactions_open),
		hostile(hoarded_transactions_hold_up_nobody),
		hostile(watches_without_number_are_bounded),
		hostile(events_without_a_reader_are_bounded),
		slow(storm_of_requests_is_slowed_down),
		hostile(storm_of_long_paths_is_slowed_down_sooner),
		slow(storm_of_bare_events_is_slowed_down),
		hostile(others_are_neither_seen_nor_touched),
	};

	return cmocka_run_group_tests(tests, rig_hub_up, rig_hub_down);
}
