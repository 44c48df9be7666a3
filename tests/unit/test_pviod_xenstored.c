/* test_pviod_xenstored.c - nodes_xenstored.c against a real xenstored. */
#include "tests/unit/xenstored.h"
#include "dom0-tools/pviod.h"
#include <errno.h>
#include <xenstore.h>

static const struct pv_hyper_ops no_ops = { .name = "loopback" };
static struct pv_hyper hyper = { .ops = &no_ops };
static struct pviod d;
static struct nodes *n;
static struct xs_handle *other; /* another hand */

static int setup(void **state)
{
	(void)state;
	xsd_up();
	memset(&d, 0, sizeof(d));
	d.hyper = &hyper;
	uv_loop_init(&d.loop);
	assert_int_equal(xenstored_open(&d, &n), 0);
	other = xs_open(0);
	assert_non_null(other);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	xs_close(other);
	xenstored_close(n);
	uv_run(&d.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&d.loop), 0);
	xsd_down();
	return 0;
}

static const char *value(const char *path)
{
	static char buf[64];
	int rc = n->ops->read(n, path, buf, sizeof(buf));

	return rc < 0 ? strerror(-rc) : buf;
}

static void put(const char *path, const char *v)
{
	assert_true(xs_write(other, XBT_NULL, path, v, strlen(v)));
}

/* Turn the loop until *flag is up, or nothing came for a while. */
static void later(uv_timer_t *t)
{
	(void)t;
}

static bool turn_until(const unsigned *count, unsigned wanted)
{
	uv_timer_t t;

	uv_timer_init(&d.loop, &t);
	uv_timer_start(&t, later, 20, 20);
	for (int i = 0; i < 500 && *count < wanted; i++)
		uv_run(&d.loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&t, NULL);
	uv_run(&d.loop, UV_RUN_NOWAIT);
	return *count >= wanted;
}

static void read_tells_what_there_is(void **state)
{
	char small[4];

	(void)state;
	assert_string_equal(value("/a/b"), "No such file or directory");
	put("/a/b", "hello");
	assert_string_equal(value("/a/b"), "hello");
	assert_string_equal(value("/a"), "");
	assert_int_equal(n->ops->read(n, "/a/b", small, sizeof(small)), -EINVAL);
	assert_true(xs_write(other, XBT_NULL, "/a/b", "a\0b", 3));
	assert_string_equal(value("/a/b"), "Invalid argument");
}

static void write_sets_whose_a_new_node_is(void **state)
{
	struct xs_permissions *p;
	unsigned count;

	(void)state;
	assert_int_equal(n->ops->write(n, "/g/device/vbd/1", "", 7, 0), 0);
	p = xs_get_permissions(other, XBT_NULL, "/g/device/vbd/1", &count);
	assert_non_null(p);
	assert_int_equal(count, 2);
	assert_int_equal(p[0].id, 7);
	assert_int_equal(p[0].perms, XS_PERM_NONE);
	assert_int_equal(p[1].id, 0);
	assert_int_equal(p[1].perms, XS_PERM_READ);
	free(p);
	assert_int_equal(n->ops->write(n, "/g/device/vbd/1", "x", 9, 3), 0); /* it keeps its permissions */
	p = xs_get_permissions(other, XBT_NULL, "/g/device/vbd/1", &count);
	assert_int_equal(p[0].id, 7);
	free(p);
	assert_string_equal(value("/g/device/vbd/1"), "x");
}

static void remove_takes_what_is_below_and_minds_nothing_missing(void **state)
{
	(void)state;
	put("/a/b/c", "1");
	assert_int_equal(n->ops->remove(n, "/a/b"), 0);
	assert_string_equal(value("/a/b/c"), "No such file or directory");
	assert_string_equal(value("/a"), "");
	assert_int_equal(n->ops->remove(n, "/a/b"), 0);
	assert_int_equal(n->ops->remove(n, "/no/such/thing"), 0);
}

static void commit_shows_all_at_once_or_says_again(void **state)
{
	char *v;

	(void)state;
	put("/a", "0");
	assert_int_equal(n->ops->begin(n), 0);
	assert_int_equal(n->ops->write(n, "/a", "1", 0, 0), 0);
	v = xs_read(other, XBT_NULL, "/a", NULL);
	assert_string_equal(v, "0");
	free(v);
	assert_int_equal(n->ops->commit(n), 0);
	assert_string_equal(value("/a"), "1");
	assert_int_equal(n->ops->begin(n), 0);
	assert_string_equal(value("/a"), "1");
	put("/a", "2");
	assert_int_equal(n->ops->write(n, "/a", "3", 0, 0), 0);
	assert_int_equal(n->ops->commit(n), -EAGAIN);
	assert_string_equal(value("/a"), "2");
	assert_int_equal(n->ops->begin(n), 0);
	assert_int_equal(n->ops->write(n, "/a", "4", 0, 0), 0);
	n->ops->abort(n);
	assert_string_equal(value("/a"), "2");
}

struct seen {
	unsigned count;
	char path[64];
	struct seen *unwatches; /* ... that one's watch at /a, when it is told */
};

static void on_change(void *ctx)
{
	struct seen *s = ctx;

	s->count++;
	if (s->unwatches)
		n->ops->unwatch(n, "/a", s->unwatches);
}

static void on_change_at(void *ctx, const char *path)
{
	struct seen *s = ctx;

	s->count++;
	snprintf(s->path, sizeof(s->path), "%s", path);
}

static void watch_tells_at_first_and_of_changes_below(void **state)
{
	struct seen a = { 0 }, b = { 0 };

	(void)state;
	put("/a/b", "1");
	assert_int_equal(n->ops->watch(n, "/a", on_change, &a), 0);
	assert_int_equal(n->ops->watch(n, "/b", on_change, &b), 0);
	assert_true(turn_until(&a.count, 1) && turn_until(&b.count, 1));
	put("/a/b", "2");
	put("/a/c", "2");
	assert_true(turn_until(&a.count, 2));
	assert_int_equal(b.count, 1);
	n->ops->unwatch(n, "/a", &a);
	a.count = 0;
	put("/a/b", "3");
	put("/b", "3");
	assert_true(turn_until(&b.count, 2));
	assert_int_equal(a.count, 0);
	n->ops->unwatch(n, "/b", &b);
}

static void watch_with_paths_tells_each(void **state)
{
	struct seen a = { 0 };

	(void)state;
	assert_int_equal(xenstored_watch(n, "/a", on_change_at, &a), 0);
	assert_true(turn_until(&a.count, 1));
	assert_string_equal(a.path, "/a");
	put("/a/b/c", "1");
	assert_true(turn_until(&a.count, 2));
	assert_string_equal(a.path, "/a/b/c");
	n->ops->unwatch(n, "/a", &a);
}

static void unwatch_from_within_a_watch_is_kept(void **state)
{
	struct seen b = { 0 }, a = { .unwatches = &b };

	(void)state;
	assert_int_equal(n->ops->watch(n, "/a", on_change, &a), 0);
	assert_true(turn_until(&a.count, 1));
	a.count = 0;
	assert_int_equal(n->ops->watch(n, "/a", on_change, &b), 0);
	put("/a", "1");
	assert_true(turn_until(&a.count, 1));
	put("/a", "2");
	assert_true(turn_until(&a.count, 2));
	assert_true(b.count <= 1); /* it may have been told before the other */
	n->ops->unwatch(n, "/a", &a);
}

static void list_names_what_is_below(void **state)
{
	unsigned count;
	char **names;

	(void)state;
	put("/a/x", "");
	put("/a/y/z", "");
	names = xenstored_list(n, "/a", &count);
	assert_non_null(names);
	assert_int_equal(count, 2);
	free(names);
	assert_null(xenstored_list(n, "/no", &count));
	assert_int_equal(count, 0);
}

static void has_domain_once_it_is_introduced(void **state)
{
	(void)state;
	assert_false(xenstored_has_domain(n, 5));
	assert_true(xs_introduce_domain(other, 5, 0, 1));
	assert_true(xenstored_has_domain(n, 5));
	assert_true(xs_release_domain(other, 5));
	assert_false(xenstored_has_domain(n, 5));
}

static void death_fails_every_call_and_tells_the_watchers(void **state)
{
	struct seen a = { 0 };

	(void)state;
	assert_int_equal(n->ops->watch(n, "/a", on_change, &a), 0);
	assert_true(turn_until(&a.count, 1));
	assert_int_equal(n->ops->begin(n), 0);
	xsd_kill();
	assert_true(turn_until(&a.count, 2));
	assert_int_equal(n->ops->commit(n), -ENOTCONN);
	assert_int_equal(n->ops->write(n, "/a", "1", 0, 0), -ENOTCONN);
	assert_string_equal(value("/a"), "Transport endpoint is not connected");
	assert_int_equal(n->ops->remove(n, "/a"), -ENOTCONN);
	assert_int_equal(n->ops->begin(n), -ENOTCONN);
	assert_int_equal(n->ops->watch(n, "/b", on_change, &a), -ENOTCONN);
	n->ops->unwatch(n, "/a", &a);
}

/* Without a watch nothing tells us: the call itself fails. */
static void death_between_calls_is_an_error(void **state)
{
	(void)state;
	xsd_kill();
	assert_true(n->ops->write(n, "/a", "1", 0, 0) < 0);
	assert_true(n->ops->begin(n) < 0);
}

static void open_finds_nobody(void **state)
{
	struct nodes *none;

	(void)state;
	xsd_kill();
	assert_int_equal(xenstored_open(&d, &none), -ENOENT); /* the socket is there, but nobody listens */
	assert_null(none);
	unsetenv("XENSTORED_PATH");
	assert_int_equal(xenstored_open(&d, &none), -ENOENT); /* loopback: never this host's */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(read_tells_what_there_is, setup, teardown),
		cmocka_unit_test_setup_teardown(write_sets_whose_a_new_node_is, setup, teardown),
		cmocka_unit_test_setup_teardown(remove_takes_what_is_below_and_minds_nothing_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(commit_shows_all_at_once_or_says_again, setup, teardown),
		cmocka_unit_test_setup_teardown(watch_tells_at_first_and_of_changes_below, setup, teardown),
		cmocka_unit_test_setup_teardown(watch_with_paths_tells_each, setup, teardown),
		cmocka_unit_test_setup_teardown(unwatch_from_within_a_watch_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(list_names_what_is_below, setup, teardown),
		cmocka_unit_test_setup_teardown(has_domain_once_it_is_introduced, setup, teardown),
		cmocka_unit_test_setup_teardown(death_fails_every_call_and_tells_the_watchers, setup, teardown),
		cmocka_unit_test_setup_teardown(death_between_calls_is_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(open_finds_nobody, setup, teardown),
	};

	xsd_need();
	signal(SIGPIPE, SIG_IGN); /* as main does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
