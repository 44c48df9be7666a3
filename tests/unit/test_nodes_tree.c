/* test_nodes_tree.c - struct nodes onto a guest's own tree: as the dialect uses it, and the guest changes things meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>
#include "dom0-tools/nodes_tree.h"

enum { GUEST = 5 };

#define FRONT "/local/domain/5/device/vif/0"

static struct store *tree;
static struct nodes *n;
static unsigned woken;
static const struct store_as guest = { .domid = GUEST };

static void on_events(void *ctx) { (void)ctx; }
static void on_changed(void *ctx, const char *path, bool all) { (void)ctx, nodes_tree_changed(n, path, all); }
static void wake(void *ctx) { (void)ctx, woken++; }

static int up(void **state)
{
	static const struct store_ops ops = { on_events, on_changed };

	(void)state;
	woken = 0;
	assert_int_equal(store_new(GUEST, NULL, &ops, NULL, &tree), 0);
	assert_int_equal(nodes_tree_new(tree, wake, NULL, &n), 0);
	assert_false(n->others);
	assert_int_equal(n->ops->write(n, FRONT, "", GUEST, 0), 0);
	return 0;
}

static int down(void **state)
{
	(void)state;
	nodes_tree_free(n);
	store_free(tree);
	return 0;
}

static int guest_write(const char *path, const char *value, size_t len)
{
	return store_write(tree, guest, path, value, len);
}

static void read_gives_text_alone(void **state)
{
	char buf[8];

	(void)state;
	assert_int_equal(n->ops->read(n, FRONT "/state", buf, sizeof(buf)), -ENOENT);
	assert_int_equal(guest_write(FRONT "/state", "1234567", 7), 0);
	assert_int_equal(n->ops->read(n, FRONT "/state", buf, sizeof(buf)), 7);
	assert_string_equal(buf, "1234567");
	assert_int_equal(n->ops->read(n, FRONT "/state", buf, 7), -EINVAL);
	assert_int_equal(guest_write(FRONT "/state", "1\0" "2", 3), 0);
	assert_int_equal(n->ops->read(n, FRONT "/state", buf, sizeof(buf)), -EINVAL);
	assert_int_equal(guest_write(FRONT "/state", "", 0), 0);
	assert_int_equal(n->ops->read(n, FRONT "/state", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
}

static void write_gives_what_it_makes_an_owner_and_a_reader(void **state)
{
	struct store_perms p;

	(void)state;
	assert_int_equal(n->ops->write(n, FRONT "/mac", "x", 0, GUEST), 0);
	assert_int_equal(store_get_perms(tree, guest, FRONT "/mac", &p), 0);
	assert_int_equal(p.p[0].domid, 0);
	assert_int_equal(p.p[1].domid, GUEST);
	assert_int_equal(p.p[1].mode, STORE_READ);
	assert_int_equal(guest_write(FRONT "/mac", "y", 1), -EACCES);
	assert_int_equal(n->ops->write(n, FRONT, "kept", 0, 7), 0); /* it was there: the guest's */
	assert_int_equal(guest_write(FRONT "/state", "1", 1), 0);
}

static void remove_of_what_is_not_there_is_fine(void **state)
{
	char buf[8];

	(void)state;
	assert_int_equal(n->ops->remove(n, FRONT "/none"), 0);
	assert_int_equal(n->ops->remove(n, "/no/such/parents"), 0);
	assert_int_equal(n->ops->remove(n, FRONT), 0);
	assert_int_equal(n->ops->read(n, FRONT, buf, sizeof(buf)), -ENOENT);
}

static void begin_to_commit_appears_as_one(void **state)
{
	char buf[8];

	(void)state;
	assert_int_equal(n->ops->begin(n), 0);
	assert_int_equal(n->ops->begin(n), -EBUSY);
	assert_int_equal(n->ops->write(n, FRONT "/a", "1", GUEST, 0), 0);
	assert_int_equal(store_rm(tree, guest, FRONT "/b"), 0);
	assert_int_equal(n->ops->read(n, FRONT "/a", buf, sizeof(buf)), 1);
	assert_int_equal(n->ops->commit(n), 0);
	assert_int_equal(n->ops->read(n, FRONT "/a", buf, sizeof(buf)), 1);
	assert_int_equal(n->ops->begin(n), 0);
	assert_int_equal(n->ops->read(n, FRONT "/a", buf, sizeof(buf)), 1);
	assert_int_equal(n->ops->write(n, FRONT "/c", "1", GUEST, 0), 0);
	assert_int_equal(guest_write(FRONT "/a", "2", 1), 0);
	assert_int_equal(n->ops->commit(n), -EAGAIN);
	assert_int_equal(n->ops->read(n, FRONT "/c", buf, sizeof(buf)), -ENOENT);
	assert_int_equal(n->ops->begin(n), 0);
	assert_int_equal(n->ops->write(n, FRONT "/c", "1", GUEST, 0), 0);
	n->ops->abort(n);
	assert_int_equal(n->ops->read(n, FRONT "/c", buf, sizeof(buf)), -ENOENT);
	assert_int_equal(n->ops->begin(n), 0); /* left open: freed with the rest */
}

static void count(void *ctx) { ++*(int *)ctx; }

static void watch_tells_of_the_guests_changes_soon_and_once(void **state)
{
	int here = 0, above = 0, other = 0;

	(void)state;
	assert_int_equal(n->ops->watch(n, FRONT "/state", count, &here), 0);
	assert_int_equal(n->ops->watch(n, FRONT, count, &above), 0);
	assert_int_equal(n->ops->watch(n, "/local/domain/5/device/vif/01", count, &other), 0);
	assert_int_equal(woken, 3);
	assert_int_equal(here, 0);
	nodes_tree_tell(n);
	assert_int_equal(here, 1);
	assert_int_equal(above, 1);
	assert_int_equal(other, 1);
	for (int i = 0; i < 5; i++)
		assert_int_equal(guest_write(FRONT "/state", "1", 1), 0);
	assert_int_equal(woken, 5);
	nodes_tree_tell(n);
	nodes_tree_tell(n);
	assert_int_equal(here, 2);
	assert_int_equal(above, 2);
	assert_int_equal(n->ops->write(n, FRONT "/state", "2", GUEST, 0), 0); /* our own hand */
	assert_int_equal(guest_write(FRONT "/mtu", "1", 1), 0);
	nodes_tree_tell(n);
	assert_int_equal(here, 2);
	assert_int_equal(above, 3);
	assert_int_equal(store_rm(tree, guest, FRONT), 0); /* with all below */
	nodes_tree_tell(n);
	assert_int_equal(here, 3);
	assert_int_equal(above, 4);
	assert_int_equal(other, 1);
	n->ops->unwatch(n, FRONT "/state", &above); /* no such pair */
	n->ops->unwatch(n, FRONT "/state", &here);
	assert_int_equal(n->ops->write(n, FRONT, "", GUEST, 0), 0);
	assert_int_equal(guest_write(FRONT "/state", "1", 1), 0);
	nodes_tree_tell(n);
	assert_int_equal(here, 3);
	assert_int_equal(above, 5);
}

static void unwatch_itself(void *ctx)
{
	count(ctx);
	n->ops->unwatch(n, FRONT, ctx);
}

static void watch_may_end_in_its_own_callback(void **state)
{
	int a = 0, b = 0;

	(void)state;
	assert_int_equal(n->ops->watch(n, FRONT, unwatch_itself, &a), 0);
	assert_int_equal(n->ops->watch(n, FRONT, unwatch_itself, &b), 0);
	nodes_tree_tell(n);
	assert_int_equal(guest_write(FRONT, "1", 1), 0);
	nodes_tree_tell(n);
	assert_int_equal(a, 1);
	assert_int_equal(b, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(read_gives_text_alone),
		TEST(write_gives_what_it_makes_an_owner_and_a_reader),
		TEST(remove_of_what_is_not_there_is_fine),
		TEST(begin_to_commit_appears_as_one),
		TEST(watch_tells_of_the_guests_changes_soon_and_once),
		TEST(watch_may_end_in_its_own_callback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
