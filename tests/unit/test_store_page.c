/* test_store_page.c - XenStore's wire protocol on plain memory: every request, messages in pieces, full rings, guests that lie. */
#include "tests/unit/xs_client.h"
#include "dom0-tools/store_page.h"

enum { GUEST = 5, TAIL = 2076 };

static _Alignas(4096) uint8_t page[4096];
static struct store *tree;
static struct store_page *sp;
static struct xs x;
static unsigned notified, budget, admitted, asked_bytes;
static bool admits;
static int last; /* what the last turn returned */

static const struct store_as dom0 = { 0 };

static void on_events(void *ctx) { (void)ctx; }
static void on_changed(void *ctx, const char *path, bool all) { (void)ctx, (void)path, (void)all; }

static void notify(void *ctx)
{
	(void)ctx;
	notified++;
}

static bool admit(void *ctx, uint32_t bytes)
{
	(void)ctx;
	asked_bytes = bytes;
	admitted += admits;
	return admits;
}

static int turn(void)
{
	return last = store_page_work(sp, budget);
}

static void turn_while_waiting(void *ctx)
{
	(void)ctx;
	turn();
}

static const struct store_ops tree_ops = { on_events, on_changed };
static const struct store_page_ops page_ops = { notify, admit };

static void node(const char *path, const char *value, uint16_t owner, uint16_t reader)
{
	struct store_perms p = { .n = 2, .p = { { owner, 0 }, { reader, STORE_READ } } };

	assert_int_equal(store_put(tree, dom0, path, value, strlen(value), &p), 0);
}

/* A page that was in use: indices anywhere, and the tail is not ours. */
static int up_at(uint32_t index)
{
	struct xenstore_domain_interface *ring = (void *)page;

	memset(page, 0xa5, sizeof(page));
	ring->req_cons = ring->req_prod = index;
	ring->rsp_cons = ring->rsp_prod = index * 3;
	ring->connection = XENSTORE_CONNECTED;
	ring->error = 7;
	assert_int_equal(store_new(GUEST, NULL, &tree_ops, NULL, &tree), 0);
	node("/local/domain/5", "", 0, GUEST);
	node("/local/domain/5/name", "web", 0, GUEST);
	node("/local/domain/5/data", "", GUEST, 0);
	assert_int_equal(store_page_new(page, tree, &page_ops, NULL, &sp), 0);
	assert_int_equal(ring->error, XENSTORE_ERROR_NONE);
	assert_int_equal(ring->server_features, XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR);
	memset(&x, 0, sizeof(x));
	x.ring = ring;
	x.turn = turn_while_waiting;
	notified = admitted = 0;
	budget = 32;
	admits = true;
	return 0;
}

static int up(void **state)
{
	(void)state;
	return up_at(0);
}

static int down(void **state)
{
	(void)state;
	for (size_t i = TAIL; i < sizeof(page); i++)
		assert_int_equal(page[i], 0xa5);
	while (x.nevents)
		free(x.events[--x.nevents]);
	store_page_free(sp);
	store_free(tree);
	return 0;
}

/* ---- requests ---- */

static void every_request_is_answered(void **state)
{
	char v[100];
	uint32_t tx;

	(void)state;
	assert_int_equal(xs_read(&x, 0, "name", v, sizeof(v)), 3);
	assert_string_equal(v, "web");
	assert_int_equal(xs_printf(&x, 0, "data/a", "%d", 1), 0);
	assert_string_equal(x.body, "OK");
	assert_int_equal(xs_mkdir(&x, 0, "data/b"), 0);
	assert_int_equal(xs_list(&x, 0, "data"), 4);
	assert_memory_equal(x.body, "a\0b", 4);
	assert_int_equal(xs_list(&x, 0, "data/b"), 0);
	assert_int_equal(xs_rm(&x, 0, "data/b"), 0);
	assert_int_equal(xs_read(&x, 0, "data/b", v, sizeof(v)), -ENOENT);
	assert_int_equal(xs_call(&x, XS_GET_PERMS, 0, "name", 5), 6);
	assert_memory_equal(x.body, "n0\0r5", 6);
	assert_int_equal(xs_call(&x, XS_SET_PERMS, 0, "data/a\0n5\0b0\0w65535", 20), 3);
	assert_int_equal(xs_call(&x, XS_GET_PERMS, 0, "data/a", 7), 13);
	assert_memory_equal(x.body, "n5\0b0\0w65535", 13);
	tx = xs_begin(&x);
	assert_int_equal(xs_printf(&x, tx, "data/c", "3"), 0);
	assert_int_equal(xs_read(&x, 0, "data/c", v, sizeof(v)), -ENOENT);
	assert_int_equal(xs_end(&x, tx, true), 0);
	assert_int_equal(xs_read(&x, 0, "data/c", v, sizeof(v)), 1);
	assert_int_equal(xs_end(&x, tx, true), -ENOENT);
	assert_int_equal(xs_end(&x, 0, true), -ENOENT);
	assert_int_equal(xs_call(&x, XS_TRANSACTION_START, xs_begin(&x), "", 1), -EBUSY);
	assert_int_equal(xs_call(&x, XS_GET_DOMAIN_PATH, 0, "7", 2), 16);
	assert_string_equal(x.body, "/local/domain/7");
	assert_int_equal(xs_call(&x, XS_RESET_WATCHES, 0, "", 1), 3);
}

static void transaction_that_conflicts_is_told_EAGAIN(void **state)
{
	uint32_t tx = xs_begin(&x);
	char v[10];

	(void)state;
	assert_int_equal(xs_read(&x, tx, "name", v, sizeof(v)), 3);
	assert_int_equal(store_write(tree, dom0, "/local/domain/5/name", "db", 2), 0);
	assert_int_equal(xs_end(&x, tx, true), -EAGAIN);
	tx = xs_begin(&x);
	assert_int_equal(xs_printf(&x, tx, "data/x", "1"), 0);
	assert_int_equal(xs_end(&x, tx, false), 0);
	assert_int_equal(xs_read(&x, 0, "data/x", v, sizeof(v)), -ENOENT);
}

static void what_is_for_toolstacks_is_refused(void **state)
{
	static const uint32_t types[] = { XS_CONTROL, XS_INTRODUCE, XS_RELEASE, XS_IS_DOMAIN_INTRODUCED, XS_RESUME, XS_SET_TARGET };
	static const uint32_t unknown[] = { XS_WATCH_EVENT, XS_ERROR, XS_SET_TARGET + 1, XS_TYPE_COUNT, XS_INVALID, 0x80000000, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		assert_int_equal(xs_call(&x, types[i], 0, "5", 2), -EACCES);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(*unknown); i++)
		assert_int_equal(xs_call(&x, unknown[i], 0, "5", 2), -ENOSYS);
	assert_int_equal(store_page_stats(sp)->errors, 13);
}

static void body_of_wrong_form_is_refused(void **state)
{
#define BODY(text) text, sizeof(text) - 1
	static const struct { uint32_t type; const char *body; uint32_t len; } wrong[] = {
		{ XS_READ, BODY("") }, { XS_READ, BODY("name") }, { XS_READ, BODY("name\0x\0") }, { XS_READ, BODY("name\0x") }, { XS_READ, BODY("\0") },
		{ XS_DIRECTORY, BODY("data") }, { XS_DIRECTORY, BODY("data\0\0") }, { XS_DIRECTORY_PART, BODY("data\0") }, { XS_DIRECTORY_PART, BODY("data\0" "0") },
		{ XS_WRITE, BODY("data/x") }, { XS_WRITE, BODY("") }, { XS_WRITE, BODY("\0value") }, { XS_MKDIR, BODY("data/x") }, { XS_RM, BODY("data/x\0y\0") },
		{ XS_GET_PERMS, BODY("name") }, { XS_SET_PERMS, BODY("") }, { XS_SET_PERMS, BODY("data\0") }, { XS_SET_PERMS, BODY("data") },
		{ XS_SET_PERMS, BODY("data\0n5") }, { XS_SET_PERMS, BODY("data\0x5\0") }, { XS_SET_PERMS, BODY("data\0n\0") }, { XS_SET_PERMS, BODY("data\0n65536\0") },
		{ XS_SET_PERMS, BODY("data\0n-1\0") }, { XS_SET_PERMS, BODY("data\0n5x\0") }, { XS_SET_PERMS, BODY("data\0\0") }, { XS_SET_PERMS, BODY("data\0n5\0\0") },
		{ XS_WATCH, BODY("data\0") }, { XS_WATCH, BODY("data\0tok") }, { XS_WATCH, BODY("data\0tok\0more\0") }, { XS_WATCH, BODY("") },
		{ XS_UNWATCH, BODY("data\0") }, { XS_TRANSACTION_END, BODY("X\0") }, { XS_TRANSACTION_END, BODY("T") }, { XS_TRANSACTION_END, BODY("TT\0") },
		{ XS_TRANSACTION_END, BODY("") }, { XS_GET_DOMAIN_PATH, BODY("\0") }, { XS_GET_DOMAIN_PATH, BODY("x\0") }, { XS_GET_DOMAIN_PATH, BODY("65536\0") },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		int rc = xs_call(&x, wrong[i].type, 0, wrong[i].body, wrong[i].len);

		if (rc != -EINVAL)
			fail_msg("case %zu: %d", i, rc);
	}
	assert_int_equal(xs_call(&x, XS_SET_PERMS, 0, BODY("data\0n5\0r1\0r2\0r3\0r4\0r5\0")), -ENOSPC);
}

static void answer_too_long_is_refused_and_comes_in_parts(void **state)
{
	char path[64], got[8000] = "", *expected;
	size_t n = 0, len;
	uint64_t generation;
	int rc;

	(void)state;
	for (int i = 0; i < 700; i++) {
		snprintf(path, sizeof(path), "/local/domain/5/many/child-%03d", i);
		node(path, "", 0, GUEST);
	}
	node("/local/domain/5/many", "", 0, GUEST);
	assert_int_equal(xs_list(&x, 0, "many"), -E2BIG);
	assert_int_equal(store_list(tree, dom0, "/local/domain/5/many", &expected, &len, &generation), 0);
	for (;;) {
		size_t gen;

		rc = snprintf(path, sizeof(path), "many%c%zu", 0, n) + 1;
		rc = xs_call(&x, XS_DIRECTORY_PART, 0, path, rc);
		assert_true(rc > 0 && rc <= XENSTORE_PAYLOAD_MAX);
		assert_int_equal(strtoull(x.body, NULL, 10), generation);
		gen = strlen(x.body) + 1;
		assert_true(n + rc - gen <= sizeof(got));
		memcpy(got + n, x.body + gen, rc - gen);
		n += rc - gen;
		if (rc >= 2 && got[n - 2] == '\0')
			break;
	}
	assert_int_equal(n, len + 1);
	assert_memory_equal(got, expected, len);
	free(expected);
	rc = xs_call(&x, XS_DIRECTORY_PART, 0, "many\0" "999999", 12);
	assert_int_equal(rc, strlen(x.body) + 2);
	rc = xs_call(&x, XS_DIRECTORY_PART, 0, "name\0" "0", 7);
	assert_int_equal(rc, strlen(x.body) + 2);
}

/* The last name that fits leaves room for the empty one behind it, or is not there. */
static void parts_end_at_any_length(void **state)
{
	char path[64];

	(void)state;
	for (int i = 0; i < 406; i++) {
		snprintf(path, sizeof(path), "/local/domain/5/many/c-%07d", i);
		node(path, "", 0, GUEST);
	}
	for (int n = 1; n < 40; n++) {
		snprintf(path, sizeof(path), "/local/domain/5/many/%0*d", n, 0);
		node(path, "", 0, GUEST);
		assert_true(xs_call(&x, XS_DIRECTORY_PART, 0, "many\0" "0", 7) > XENSTORE_PAYLOAD_MAX - 50);
		assert_int_equal(store_rm(tree, dom0, path), 0);
	}
}

static void watch_is_answered_then_told(void **state)
{
	const char *token;

	(void)state;
	assert_int_equal(xs_watch(&x, "data", "t"), 0);
	assert_int_equal(xs_watch(&x, "data", "t"), -EEXIST);
	assert_string_equal(xs_event(&x, &token), "data");
	assert_string_equal(token, "t");
	assert_null(xs_event(&x, &token));
	assert_int_equal(store_write(tree, dom0, "/local/domain/5/data/x", "1", 1), 0);
	turn();
	assert_string_equal(xs_event(&x, &token), "data/x");
	assert_int_equal(xs_unwatch(&x, "data", "t"), 0);
	assert_int_equal(xs_unwatch(&x, "data", "t"), -ENOENT);
	assert_int_equal(store_write(tree, dom0, "/local/domain/5/data/x", "1", 1), 0);
	assert_null(xs_event(&x, &token));
}

/* ---- pieces, full rings, budgets ---- */

static void message_may_come_byte_by_byte(void **state)
{
	struct { struct xsd_sockmsg head; char body[5]; } m = { { XS_READ, 9, 0, 5 }, "name" };
	struct xsd_sockmsg head;

	(void)state;
	for (size_t i = 0; i < sizeof(m.head) + 5; i++) {
		assert_false(xs_answered(&x, &head));
		assert_int_equal(xs_put(&x, (char *)&m + i, 1), 1);
		assert_int_equal(turn(), 0);
		assert_int_equal(notified, i + 1);
	}
	assert_true(xs_answered(&x, &head));
	assert_int_equal(head.req_id, 9);
	assert_string_equal(x.body, "web");
}

static void indices_wrap(void **state)
{
	char v[1000];

	down(state);
	up_at(UINT32_MAX - 700);
	for (int i = 0; i < 200; i++) {
		memset(v, 'a' + i % 26, sizeof(v));
		assert_int_equal(xs_write_bytes(&x, 0, "data/x", v, 900 + i % 50), 0);
		assert_int_equal(xs_read(&x, 0, "data/x", v, sizeof(v)), 900 + i % 50);
		assert_int_equal(v[899], 'a' + i % 26);
	}
}

static void messages_longer_than_the_ring_pass(void **state)
{
	char v[XENSTORE_PAYLOAD_MAX], got[XENSTORE_PAYLOAD_MAX + 1];

	(void)state;
	memset(v, 'v', sizeof(v));
	assert_int_equal(xs_write_bytes(&x, 0, "data/big", v, 2048), 0);
	assert_int_equal(xs_read(&x, 0, "data/big", got, sizeof(got)), 2048);
	assert_memory_equal(v, got, 2048);
	assert_int_equal(xs_write_bytes(&x, 0, "data/big", v, XENSTORE_PAYLOAD_MAX - 9), -ENOSPC);
	assert_int_equal(store_write(tree, dom0, "/local/domain/5/data/big", v, sizeof(v)), 0);
	assert_int_equal(xs_read(&x, 0, "data/big", got, sizeof(got)), XENSTORE_PAYLOAD_MAX);
	assert_int_equal(store_write(tree, dom0, "/local/domain/5/data/big", got, sizeof(got)), 0);
	assert_int_equal(xs_read(&x, 0, "data/big", got, sizeof(got)), -E2BIG);
}

/* A request without waiting for its answer. */
static bool send(uint32_t type, uint32_t id, const char *body, uint32_t len)
{
	struct { struct xsd_sockmsg head; char body[200]; } m = { { type, id, 0, len } };

	memcpy(m.body, body, len);
	if (XENSTORE_RING_SIZE - (x.ring->req_prod - x.ring->req_cons) < sizeof(m.head) + len)
		return false;
	assert_int_equal(xs_put(&x, &m, sizeof(m.head) + len), sizeof(m.head) + len);
	return true;
}

static void guest_that_does_not_read_stops_itself_alone(void **state)
{
	struct xsd_sockmsg head;
	uint64_t served;
	uint32_t id = 0;

	(void)state;
	while (send(XS_READ, id, "name", 5)) {
		id++;
		turn();
	}
	served = store_page_stats(sp)->requests;
	assert_true(served < id && served > 40); /* one is answered and waits; the rest stays in the ring */
	assert_int_equal(turn(), 0);
	assert_int_equal(store_page_stats(sp)->requests, served);
	for (uint32_t i = 0; i < id; i++) {
		while (!xs_answered(&x, &head))
			turn();
		assert_int_equal(head.req_id, i);
		assert_string_equal(x.body, "web");
	}
	assert_false(xs_answered(&x, &head));
}

static void turn_has_a_budget_and_one_notify(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 40; i++)
		assert_true(send(XS_RM, i, "data/x", 7));
	budget = 10;
	assert_int_equal(turn(), 1);
	assert_int_equal(store_page_stats(sp)->requests, 10);
	assert_int_equal(notified, 1);
	budget = 100;
	assert_int_equal(turn(), 0);
	assert_int_equal(store_page_stats(sp)->requests, 40);
	assert_int_equal(notified, 2);
	assert_int_equal(turn(), 0);
	assert_int_equal(notified, 2);
}

static void request_not_admitted_waits(void **state)
{
	struct xsd_sockmsg head;

	(void)state;
	admits = false;
	assert_true(send(XS_READ, 1, "name", 5));
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 1);
	assert_int_equal(asked_bytes, 5);
	assert_false(xs_answered(&x, &head));
	assert_int_equal(store_write(tree, dom0, "/local/domain/5/name", "later", 5), 0);
	admits = true;
	assert_int_equal(turn(), 0);
	assert_int_equal(admitted, 1);
	assert_true(xs_answered(&x, &head));
	assert_string_equal(x.body, "later");
}

static void events_of_a_turn_are_bounded(void **state)
{
	const char *token;
	char t[32];
	int n = 0;

	(void)state;
	for (int i = 0; i < 100; i++) {
		snprintf(t, sizeof(t), "%d", i);
		assert_int_equal(xs_watch(&x, "data", t), 0);
	}
	for (int i = 0; i < 10; i++) {
		snprintf(t, sizeof(t), "data/%d", i);
		assert_int_equal(store_write(tree, dom0, t, "", 0), 0);
	}
	while (xs_event(&x, &token))
		n++;
	assert_int_equal(n, 100 + 1000);
	assert_int_equal(turn(), 0);
}

/* ---- violations ---- */

static void expect_broken(uint32_t error)
{
	uint32_t req_cons = x.ring->req_cons, rsp_prod = x.ring->rsp_prod;
	struct store_usage u;

	assert_int_equal(turn(), -EPROTO);
	assert_int_equal(x.ring->error, error);
	assert_true(strlen(store_page_why(sp)) > 10);
	store_usage(tree, &u);
	assert_int_equal(u.watches, 0);
	assert_int_equal(u.transactions, 0);
	req_cons = x.ring->req_cons;
	x.ring->req_prod = req_cons;
	x.ring->rsp_cons = rsp_prod;
	assert_true(send(XS_READ, 1, "name", 5));
	for (int i = 0; i < 3; i++)
		assert_int_equal(turn(), 0); /* said once, and nothing is served */
	assert_int_equal(x.ring->req_cons, req_cons);
	assert_int_equal(x.ring->rsp_prod, rsp_prod);
}

static void expect_works_again(void)
{
	uint32_t before = store_page_stats(sp)->reconnections;
	const char *token;
	char v[10];

	xs_reconnect(&x);
	assert_int_equal(store_page_stats(sp)->reconnections, before + 1);
	assert_int_equal(x.ring->error, XENSTORE_ERROR_NONE);
	assert_int_equal(x.ring->req_prod | x.ring->req_cons | x.ring->rsp_prod | x.ring->rsp_cons, 0);
	assert_int_equal(xs_read(&x, 0, "name", v, sizeof(v)), 3);
	assert_null(xs_event(&x, &token));
}

static void prepare_to_lose(void)
{
	xs_begin(&x);
	assert_int_equal(xs_watch(&x, "data", "t"), 0);
	assert_int_equal(xs_printf(&x, 0, "data/kept", "1"), 0);
}

static void index_of_requests_that_lies_breaks_the_connection(void **state)
{
	static const uint32_t ahead[] = { 1025, 4096, 0x80000000, UINT32_MAX };
	char v[10];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		prepare_to_lose();
		x.ring->req_prod = x.ring->req_cons + ahead[i];
		expect_broken(XENSTORE_ERROR_RINGIDX);
		expect_works_again();
		assert_int_equal(xs_read(&x, 0, "data/kept", v, sizeof(v)), 1); /* the tree stays */
	}
	assert_int_equal(store_page_stats(sp)->violations, 4);
}

static void index_of_responses_that_lies_breaks_the_connection(void **state)
{
	static const uint32_t ahead[] = { 1, 5000, 0x80000000 };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		prepare_to_lose();
		x.ring->rsp_cons = x.ring->rsp_prod + ahead[i];
		assert_true(send(XS_READ, 1, "name", 5));
		expect_broken(XENSTORE_ERROR_RINGIDX);
		expect_works_again();
	}
}

static void oversize_request_breaks_the_connection(void **state)
{
	static const uint32_t lens[] = { XENSTORE_PAYLOAD_MAX + 1, 0x7fffffff, UINT32_MAX, UINT32_MAX - 15 };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct xsd_sockmsg head = { XS_READ, 1, 0, lens[i] };

		prepare_to_lose();
		assert_int_equal(xs_put(&x, &head, sizeof(head)), sizeof(head));
		expect_broken(XENSTORE_ERROR_PROTO);
		expect_works_again();
	}
}

/* Our own indices are private: what the guest writes over them does not matter. */
static void our_indices_in_the_page_are_not_believed(void **state)
{
	char v[10];
	uint32_t req_cons = x.ring->req_cons, rsp_prod = x.ring->rsp_prod;

	(void)state;
	assert_true(send(XS_READ, 1, "name", 5));
	x.ring->req_cons += 12345;
	x.ring->rsp_prod -= 999;
	assert_int_equal(turn(), 0);
	assert_int_equal(x.ring->req_cons, req_cons + 21);
	assert_int_equal(x.ring->rsp_prod, rsp_prod + 19);
	assert_int_equal(xs_get(&x, v, 1), 1);
}

static void reconnection_drops_what_is_under_way(void **state)
{
	struct xsd_sockmsg head = { XS_WRITE, 1, 0, 100 };
	struct store_usage u;
	char v[10];

	(void)state;
	prepare_to_lose();
	assert_int_equal(xs_put(&x, &head, sizeof(head)), sizeof(head));
	assert_int_equal(xs_put(&x, "data/half", 9), 9);
	turn();
	x.ring->server_features = 0; /* not the guest's to write */
	expect_works_again();
	assert_int_equal(x.ring->server_features, XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR);
	store_usage(tree, &u);
	assert_int_equal(u.watches, 0);
	assert_int_equal(u.transactions, 0);
	assert_int_equal(xs_read(&x, 0, "data/half", v, sizeof(v)), -ENOENT);
	x.ring->connection = 2; /* no value that there is */
	assert_int_equal(turn(), 0);
	assert_int_equal(x.ring->connection, 2);
}

static void reconnection_that_was_asked_for_before_is_done(void **state)
{
	down(state);
	memset(&x, 0, sizeof(x));
	up_at(77);
	x.ring->connection = XENSTORE_RECONNECT;
	assert_int_equal(turn(), 0);
	assert_int_equal(notified, 1);
	assert_int_equal(x.ring->connection, XENSTORE_CONNECTED);
	assert_int_equal(x.ring->req_cons, 0);
}

/* ---- anything at all ---- */

static uint32_t seed;

static uint32_t rnd(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

static void random_request(void)
{
	static const char *const words[] = { "data", "data/a", "data/a/b", "name", "/", "/local/domain/0", "T", "F", "n5", "r0", "tok", "5", "@releaseDomain", "data//x", "" };
	struct { struct xsd_sockmsg head; char body[1000]; } m = { { rnd() % 26, rnd(), rnd() % 8 ? 0 : rnd() % 12, 0 } };
	char *p = m.body;
	unsigned n;

	for (n = rnd() % 4; n > 0; n--)
		p = stpcpy(p, words[rnd() % 15]) + (rnd() % 16 != 0);
	for (n = rnd() % 8 ? 0 : rnd() % 700; n > 0; n--)
		*p++ = rnd();
	m.head.len = p - m.body;
	if (rnd() % 50 == 0)
		m.head.len ^= 1u << rnd() % 32;
	xs_put(&x, &m, sizeof(m.head) + (p - m.body));
}

static void anything_at_all_is_survived(void **state)
{
	const char *more = getenv("PVIO_TEST_SEEDS");
	char sink[2000];
	int broken = 0;

	for (int i = 1; i <= (more ? atoi(more) : 20); i++) {
		down(state);
		seed = i * 7919;
		up_at(rnd());
		budget = 1 + rnd() % 4;
		for (int k = 0; k < 1000; k++) {
			uint32_t ready;

			if (rnd() % 4)
				random_request();
			if (rnd() % 400 == 0)
				x.ring->req_prod += rnd() % 3000;
			if (rnd() % 400 == 0)
				x.ring->rsp_cons += rnd() % 3000;
			admits = rnd() % 8;
			broken += turn() == -EPROTO;
			ready = x.ring->rsp_prod - x.ring->rsp_cons;
			if (rnd() % 3 && ready <= XENSTORE_RING_SIZE)
				xs_get(&x, sink, rnd() % 1200);
			if (rnd() % 100 == 0)
				x.ring->connection = XENSTORE_RECONNECT;
		}
	}
	assert_true(broken > 10);
	assert_true(store_page_stats(sp)->requests > 100);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_request_is_answered),
		TEST(transaction_that_conflicts_is_told_EAGAIN),
		TEST(what_is_for_toolstacks_is_refused),
		TEST(body_of_wrong_form_is_refused),
		TEST(answer_too_long_is_refused_and_comes_in_parts),
		TEST(parts_end_at_any_length),
		TEST(watch_is_answered_then_told),
		TEST(message_may_come_byte_by_byte),
		TEST(indices_wrap),
		TEST(messages_longer_than_the_ring_pass),
		TEST(guest_that_does_not_read_stops_itself_alone),
		TEST(turn_has_a_budget_and_one_notify),
		TEST(request_not_admitted_waits),
		TEST(events_of_a_turn_are_bounded),
		TEST(index_of_requests_that_lies_breaks_the_connection),
		TEST(index_of_responses_that_lies_breaks_the_connection),
		TEST(oversize_request_breaks_the_connection),
		TEST(our_indices_in_the_page_are_not_believed),
		TEST(reconnection_drops_what_is_under_way),
		TEST(reconnection_that_was_asked_for_before_is_done),
		TEST(anything_at_all_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
