/* test_store_oom.c - the XenStore dialect's tree when memory runs out, at every allocation of every operation: it is refused, nothing
 * has changed, no byte is lost, and the same succeeds afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static unsigned left; /* allocations that succeed; then one fails; 0: all succeed */

static bool fails(void)
{
	return left > 0 && --left == 0;
}

static void *try_malloc(size_t n)
{
	return fails() ? NULL : malloc(n);
}

static void *try_calloc(size_t n, size_t size)
{
	return fails() ? NULL : calloc(n, size);
}

static void *try_realloc(void *p, size_t n)
{
	return fails() ? NULL : realloc(p, n);
}

#define malloc try_malloc
#define calloc try_calloc
#define realloc try_realloc
#include "dom0-tools/store_tree.c"
#include "dom0-tools/store_txn.c"
#include "dom0-tools/store_watch.c"
#undef malloc
#undef calloc
#undef realloc

static struct store *s;
static uint32_t tx;
static const struct store_as dom0 = { 0 }, guest = { .domid = 5 };

static void on_events(void *ctx) { (void)ctx; }
static void on_changed(void *ctx, const char *path, bool all) { (void)ctx, (void)path, (void)all; }

static int put(struct store_as as, const char *path, const char *value)
{
	return store_write(s, as, path, value, strlen(value));
}

static void up(void)
{
	static const struct store_ops tree_ops = { on_events, on_changed };
	struct store_perms p = { .n = 1, .p = { { .domid = 5 } } };

	assert_int_equal(store_new(5, NULL, &tree_ops, NULL, &s), 0);
	assert_int_equal(store_put(s, dom0, "/local/domain/5/data", "", 0, &p), 0);
	for (int i = 0; i < 4; i++) {
		char path[32];

		snprintf(path, sizeof(path), "data/dir/%d", i);
		assert_int_equal(put(guest, path, "value"), 0);
	}
	assert_int_equal(store_tx_start(s, guest, &tx), 0); /* so that changes copy */
}

/* Everything that is in a tree, as text. */
static void dump(const struct node *n, char *out, size_t size)
{
	size_t at = strlen(out);

	snprintf(out + at, size - at, "%s=%s(%u)[", n->name, n->value ? n->value : "", n->perms.p[0].domid);
	for (uint32_t i = 0; i < n->nchildren; i++)
		dump(n->child[i], out, size);
	at = strlen(out);
	snprintf(out + at, size - at, "]");
}

struct state {
	char tree[4000], view[4000];
	struct store_usage usage;
};

static void look(struct state *st)
{
	memset(st, 0, sizeof(*st));
	dump(s->main.root, st->tree, sizeof(st->tree));
	if (s->txns)
		dump(s->txns->view.root, st->view, sizeof(st->view));
	store_usage(s, &st->usage);
}

static struct store_as in_tx(void)
{
	return (struct store_as){ .domid = 5, .tx = tx };
}

static int new_node(void) { return put(guest, "data/new/node", "x"); }
static int new_sibling(void) { return put(guest, "data/dir/5", "x"); }
static int overwritten(void) { return put(guest, "data/dir/1", "longer value"); }
static int removed(void) { return store_rm(s, guest, "data/dir/1"); }
static int made(void) { return store_mkdir(s, guest, "data/a/b/c"); }
static int owned(void) { return store_set_perms(s, guest, "data/dir", &(struct store_perms){ .n = 2, .p = { { .domid = 5 }, { 0 } } }); }
static int in_transaction(void) { return put(in_tx(), "data/new/node", "x"); }
static int removed_in_transaction(void) { return store_rm(s, in_tx(), "data/dir"); }
static int watched(void) { return store_watch(s, "data", "token"); }
static int started(void) { return store_tx_start(s, guest, &(uint32_t){ 0 }); }

static int listed(void)
{
	uint64_t generation;
	size_t len;
	char *list;
	int err = store_list(s, guest, "data/dir", &list, &len, &generation);

	if (!err)
		free(list);
	return err;
}

/* An end that has something to merge. A transaction whose end fails is over. */
static int merged(void)
{
	unsigned n = left;
	int err;

	left = 0;
	if (store_tx_start(s, guest, &tx) == 0) {
		assert_int_equal(put(in_tx(), "data/new/node", "x"), 0);
		assert_int_equal(put(in_tx(), "data/dir/1", "y"), 0);
		assert_int_equal(store_rm(s, in_tx(), "data/dir/2"), 0);
		assert_int_equal(put(dom0, "/elsewhere", "z"), 0);
	}
	left = n;
	err = store_tx_end(s, in_tx(), true);
	left = 0;
	return err;
}

static void memory_that_runs_out_changes_nothing(void **state)
{
	static int (*const ops_to_try[])(void) = { new_node, new_sibling, overwritten, removed, made, owned, in_transaction, removed_in_transaction,
						   started, listed };

	(void)state;
	for (size_t i = 0; i < sizeof(ops_to_try) / sizeof(*ops_to_try); i++) {
		int err = -ENOMEM, failed = 0;

		for (unsigned n = 1; err; n++) {
			struct state before, after;

			up();
			look(&before);
			left = n;
			err = ops_to_try[i]();
			left = 0;
			look(&after);
			if (err) {
				assert_int_equal(err, -ENOMEM);
				failed++;
				assert_string_equal(before.tree, after.tree);
				assert_string_equal(before.view, after.view);
				assert_int_equal(before.usage.nodes, after.usage.nodes);
				assert_int_equal(ops_to_try[i](), 0);
			}
			store_reset(s);
			assert_int_equal(store_rm(s, dom0, "/local"), 0);
			assert_int_equal(s->memory, 0);
			store_free(s);
		}
		assert_true(failed > 0);
	}
}

static void memory_that_runs_out_in_a_merge_changes_nothing(void **state)
{
	int err = -ENOMEM, failed = 0;

	(void)state;
	for (unsigned n = 1; err; n++) {
		struct state before, after;

		up();
		assert_int_equal(store_tx_end(s, in_tx(), false), 0);
		assert_int_equal(put(dom0, "/elsewhere", "z"), 0);
		look(&before);
		left = n;
		err = merged();
		look(&after);
		if (err) {
			failed++;
			assert_int_equal(err, -ENOMEM);
			assert_string_equal(before.tree, after.tree);
			assert_int_equal(before.usage.nodes, after.usage.nodes);
		}
		assert_int_equal(store_rm(s, dom0, "/local"), 0);
		assert_int_equal(s->memory, 0);
		store_free(s);
	}
	assert_true(failed > 5);
}

/* A watch for whose event there is no memory is told later; there is no other harm in it. */
static void memory_that_runs_out_loses_no_watch(void **state)
{
	char buf[XENSTORE_PAYLOAD_MAX];
	int err = -ENOMEM;

	(void)state;
	for (unsigned n = 1; n < 8; n++) {
		up();
		left = n;
		err = watched();
		left = 0;
		if (err)
			assert_int_equal(err, -ENOMEM);
		else
			assert_int_equal(store_event_take(s, buf), sizeof("data\0token"));
		assert_int_equal(store_event_take(s, buf), 0);
		store_free(s);
	}
	assert_int_equal(err, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_that_runs_out_changes_nothing),
		cmocka_unit_test(memory_that_runs_out_in_a_merge_changes_nothing),
		cmocka_unit_test(memory_that_runs_out_loses_no_watch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
