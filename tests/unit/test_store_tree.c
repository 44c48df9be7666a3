/* test_store_tree.c - the XenStore dialect's tree: what a guest may do, what it may use, transactions, watches; and many random
 * operations against a model that is as simple as can be: flat arrays, and whole copies for transactions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>
#include "dom0-tools/store_tree.h"
#include <xen/io/xs_wire.h>

enum { GUEST = 5 };

static struct store *s;
static unsigned woken;
static char changed[4096]; /* the paths of ops.changed, each with a blank; "!": all below */

static const struct store_as dom0 = { 0 }, guest = { .domid = GUEST };

static void on_events(void *ctx)
{
	(void)ctx;
	woken++;
}

static void on_changed(void *ctx, const char *path, bool all)
{
	size_t n = strlen(changed);

	(void)ctx;
	snprintf(changed + n, sizeof(changed) - n, "%s%s ", path, all ? "!" : "");
}

static const struct store_ops ops = { on_events, on_changed };

static void up(const struct store_limits *l)
{
	assert_int_equal(store_new(GUEST, l, &ops, NULL, &s), 0);
	changed[0] = '\0';
	woken = 0;
}

/* All bytes come back, but those of an empty tree. */
static void down(void)
{
	struct store_usage u;

	store_reset(s);
	store_rm(s, dom0, "/local");
	store_usage(s, &u);
	assert_int_equal(u.nodes, 0);
	assert_int_equal(u.memory, 0);
	assert_true(u.total < 1024);
	store_free(s);
}

static struct store_as in(struct store_as as, uint32_t tx)
{
	as.tx = tx;
	return as;
}

static int put(struct store_as as, const char *path, const char *value)
{
	return store_write(s, as, path, value, strlen(value));
}

static struct store_perms perms(const char *text)
{
	struct store_perms p = { 0 };
	char mode;
	int n;

	for (; sscanf(text, " %c%hu%n", &mode, &p.p[p.n].domid, &n) == 2; text += n)
		p.p[p.n++].mode = mode == 'b' ? 3 : mode == 'w' ? STORE_WRITE : mode == 'r' ? STORE_READ : 0;
	return p;
}

static void node(const char *path, const char *value, const char *with)
{
	struct store_perms p = perms(with);

	assert_int_equal(store_put(s, dom0, path, value, strlen(value), &p), 0);
}

static uint32_t start(struct store_as as)
{
	uint32_t tx = 0;

	assert_int_equal(store_tx_start(s, as, &tx), 0);
	assert_int_not_equal(tx, 0);
	return tx;
}

/* The home of a guest as a toolstack makes it: its own is `data`; `name` it may read. */
static int home(void **state)
{
	(void)state;
	up(NULL);
	node("/local", "", "n0");
	node("/local/domain", "", "n0");
	node("/local/domain/5", "", "n0 r5");
	node("/local/domain/5/name", "web", "n0 r5");
	node("/local/domain/5/data", "", "n5");
	node("/local/domain/5/device", "", "n0 r5");
	node("/local/domain/5/device/vbd/51712", "", "n5 r0");
	node("/local/domain/0", "", "n0");
	node("/local/domain/0/backend/vbd/5/51712", "", "n0 r5");
	node("/local/domain/0/backend/vbd/5/51712/state", "2", "n0 r5");
	node("/local/domain/0/secret", "x", "n0");
	return 0;
}

static int away(void **state)
{
	(void)state;
	down();
	return 0;
}

static void expect(struct store_as as, const char *path, const char *value)
{
	const char *v;
	size_t len;

	assert_int_equal(store_read(s, as, path, &v, &len), 0);
	assert_int_equal(len, strlen(value));
	assert_string_equal(v, value);
}

static int read_error(struct store_as as, const char *path)
{
	const char *v;
	size_t len;

	return store_read(s, as, path, &v, &len);
}

static void expect_list(struct store_as as, const char *path, const char *names)
{
	uint64_t generation;
	size_t len;
	char *list;

	assert_int_equal(store_list(s, as, path, &list, &len, &generation), 0);
	for (size_t i = 0; i < len; i++)
		if (list[i] == '\0')
			list[i] = ' ';
	assert_int_equal(len, strlen(names));
	assert_memory_equal(list, names, len);
	free(list);
}

/* The next event as "path token", "" if there is none. Static. */
static const char *event(void)
{
	static char buf[2 * XENSTORE_PAYLOAD_MAX];
	size_t n = store_event_take(s, buf);

	if (n == 0)
		return "";
	assert_int_equal(buf[n - 1], '\0');
	buf[strlen(buf)] = ' ';
	assert_int_equal(strlen(buf) + 1, n);
	return buf;
}

static void no_events(void)
{
	while (*event())
		;
}

/* ---- paths ---- */

static void path_of_wrong_form_is_refused(void **state)
{
	static const char *const wrong[] = { "", "//", "/local/", "data/", "data//x", "/local//domain", "data/a b", "data/\x80", "data/a.b", "@releaseDomain", "data/a\n" };
	char path[XENSTORE_ABS_PATH_MAX + 3];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		assert_int_equal(read_error(guest, wrong[i]), -EINVAL);
		assert_int_equal(put(guest, wrong[i], ""), -EINVAL);
		assert_int_equal(store_rm(s, dom0, wrong[i]), -EINVAL);
	}
	memset(path, 'a', sizeof(path));
	memcpy(path, "data/", 5);
	path[XENSTORE_REL_PATH_MAX] = '\0';
	assert_int_equal(read_error(guest, path), -ENOENT);
	path[XENSTORE_REL_PATH_MAX] = 'a';
	path[XENSTORE_REL_PATH_MAX + 1] = '\0';
	assert_int_equal(read_error(guest, path), -EINVAL);
	path[0] = '/';
	path[XENSTORE_REL_PATH_MAX + 1] = 'a';
	path[XENSTORE_ABS_PATH_MAX] = '\0';
	assert_int_equal(read_error(dom0, path), -ENOENT);
	path[XENSTORE_ABS_PATH_MAX] = 'a';
	path[XENSTORE_ABS_PATH_MAX + 1] = '\0';
	assert_int_equal(read_error(dom0, path), -EINVAL);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(read_error(dom0, path), -EINVAL);
}

static void path_relative_is_below_the_guests_home(void **state)
{
	(void)state;
	expect(guest, "name", "web");
	expect(guest, "/local/domain/5/name", "web");
	expect(dom0, "name", "web");
	assert_int_equal(put(guest, "data/x/y", "1"), 0);
	expect(dom0, "/local/domain/5/data/x/y", "1");
	expect(dom0, "/local/domain/5/data/x", "");
}

static void list_is_shorter_names_first(void **state)
{
	(void)state;
	assert_int_equal(put(guest, "data/10", ""), 0);
	assert_int_equal(put(guest, "data/9", ""), 0);
	assert_int_equal(put(guest, "data/2", ""), 0);
	assert_int_equal(put(guest, "data/11", ""), 0);
	expect_list(guest, "data", "2 9 10 11 ");
	assert_int_equal(store_rm(s, guest, "data/9"), 0);
	expect_list(guest, "data", "2 10 11 ");
	expect_list(dom0, "/", "local ");
	expect_list(guest, "name", "");
}

static void read_gives_any_bytes(void **state)
{
	const char *v;
	size_t len;

	(void)state;
	assert_int_equal(store_write(s, guest, "data/raw", "a\0b", 3), 0);
	assert_int_equal(store_read(s, guest, "data/raw", &v, &len), 0);
	assert_int_equal(len, 3);
	assert_memory_equal(v, "a\0b", 4);
	assert_int_equal(put(guest, "data/raw", ""), 0);
	expect(guest, "data/raw", "");
}

/* ---- permissions ---- */

static void guest_may_do_what_the_permissions_say(void **state)
{
	(void)state;
	assert_int_equal(put(guest, "name", "x"), -EACCES);
	assert_int_equal(put(guest, "new", "x"), -EACCES);
	assert_int_equal(store_mkdir(s, guest, "new"), -EACCES);
	assert_int_equal(store_rm(s, guest, "name"), -EACCES);
	assert_int_equal(store_rm(s, guest, "/local/domain/5"), -EACCES);
	assert_int_equal(put(guest, "device/vif/0/state", "1"), -EACCES);
	assert_int_equal(put(guest, "device/vbd/51712/state", "1"), 0);
	assert_int_equal(store_rm(s, guest, "device/vbd/51712"), 0);
	expect(guest, "/local/domain/0/backend/vbd/5/51712/state", "2");
	assert_int_equal(put(guest, "/local/domain/0/backend/vbd/5/51712/state", "4"), -EACCES);
	node("/local/domain/5/shared", "", "b0");
	assert_int_equal(put(guest, "shared", "1"), 0);
	node("/local/domain/5/drop", "", "n0 w5");
	assert_int_equal(put(guest, "drop", "1"), 0);
	assert_int_equal(read_error(guest, "drop"), -EACCES);
	node("/local/domain/5/refused", "", "b0 n5");
	assert_int_equal(read_error(guest, "refused"), -EACCES);
	assert_string_equal(changed, "/local/domain/5/device/vbd/51712/state /local/domain/5/device/vbd/51712! /local/domain/5/shared /local/domain/5/drop ");
}

static void guest_is_not_told_what_there_is_where_it_may_not_look(void **state)
{
	struct store_perms p;

	(void)state;
	assert_int_equal(read_error(guest, "/local/domain/0/secret"), -EACCES);
	assert_int_equal(read_error(guest, "/local/domain/0/nothing"), -EACCES);
	assert_int_equal(read_error(guest, "/nothing"), -EACCES);
	assert_int_equal(read_error(guest, "nothing"), -ENOENT);
	assert_int_equal(put(guest, "data", "x"), 0);
	assert_int_equal(read_error(guest, "data/a/b"), -ENOENT);
	assert_int_equal(store_get_perms(s, guest, "/local/domain", &p), -EACCES);
	assert_int_equal(store_get_perms(s, guest, "@releaseDomain", &p), -EACCES);
	assert_int_equal(store_rm(s, guest, "/nothing"), -EACCES);
	assert_int_equal(read_error(dom0, "/nothing"), -ENOENT);
}

static void what_the_guest_makes_it_owns(void **state)
{
	struct store_perms p;

	(void)state;
	node("/local/domain/5/open", "", "n0 b5 r7");
	assert_int_equal(put(guest, "open/a/b", "1"), 0);
	assert_int_equal(store_get_perms(s, guest, "open/a", &p), 0);
	assert_int_equal(p.n, 3);
	assert_int_equal(p.p[0].domid, GUEST);
	assert_int_equal(p.p[0].mode, 0);
	assert_int_equal(p.p[2].domid, 7);
	assert_int_equal(p.p[2].mode, STORE_READ);
	assert_int_equal(put(dom0, "open/c", "1"), 0);
	assert_int_equal(store_get_perms(s, guest, "open/c", &p), 0);
	assert_int_equal(p.p[0].domid, 0);
}

static void set_perms_is_for_the_owner_who_stays_owner(void **state)
{
	struct store_perms mine = perms("n5 r0 r7"), theirs = perms("n0 b5"), none = { 0 }, many = { .n = STORE_PERMS_MAX + 1 };

	(void)state;
	assert_int_equal(put(guest, "data/x", "1"), 0);
	assert_int_equal(store_set_perms(s, guest, "data/x", &mine), 0);
	assert_int_equal(store_set_perms(s, guest, "data/x", &theirs), -EPERM);
	assert_int_equal(store_set_perms(s, guest, "data/x", &none), -EINVAL);
	assert_int_equal(store_set_perms(s, guest, "data/x", &many), -ENOSPC);
	assert_int_equal(store_set_perms(s, guest, "name", &mine), -EACCES);
	assert_int_equal(store_set_perms(s, guest, "data/none", &mine), -ENOENT);
	assert_int_equal(store_set_perms(s, guest, "@releaseDomain", &mine), -EACCES);
	node("/local/domain/5/shared", "", "n0 b5");
	assert_int_equal(store_set_perms(s, guest, "shared", &theirs), -EACCES);
	assert_int_equal(store_set_perms(s, dom0, "data/x", &theirs), 0);
	assert_int_equal(store_set_perms(s, guest, "data/x", &theirs), -EACCES);
}

static void rm_of_what_is_not_there(void **state)
{
	(void)state;
	assert_int_equal(store_rm(s, guest, "data/x"), 0);
	assert_int_equal(store_rm(s, guest, "data/x/y"), -ENOENT);
	assert_int_equal(store_rm(s, dom0, "/"), -EINVAL);
	assert_string_equal(changed, "");
}

static void mkdir_leaves_what_is_there(void **state)
{
	(void)state;
	assert_int_equal(put(guest, "data/x", "1"), 0);
	assert_int_equal(store_mkdir(s, guest, "data/x"), 0);
	expect(guest, "data/x", "1");
	assert_int_equal(store_mkdir(s, guest, "data/y/z"), 0);
	expect(guest, "data/y/z", "");
	assert_string_equal(changed, "/local/domain/5/data/x /local/domain/5/data/y/z ");
}

/* ---- quotas ---- */

static void nodes_are_counted_for_their_owner(void **state)
{
	struct store_perms to_guest = perms("n5"), to_dom0 = perms("n0");
	struct store_usage u;
	char path[32];
	int i;

	(void)state;
	store_usage(s, &u);
	assert_int_equal(u.nodes, 2);
	for (i = 2; i < 1000; i++) {
		snprintf(path, sizeof(path), "data/%d/%d", i % 40, i);
		assert_int_equal(put(guest, path, ""), 0);
		store_usage(s, &u);
		if (u.nodes == 1000)
			break;
	}
	assert_int_equal(u.nodes, 1000);
	assert_int_equal(put(guest, "data/more", ""), -ENOSPC);
	assert_int_equal(store_mkdir(s, guest, "data/more"), -ENOSPC);
	assert_int_equal(put(guest, path, "others are not refused"), 0);
	assert_int_equal(put(dom0, "/local/domain/0/more", ""), 0);
	assert_int_equal(put(dom0, "data/more", "the guest's, by domain 0"), 0);
	store_usage(s, &u);
	assert_int_equal(u.nodes, 1001);
	assert_int_equal(store_set_perms(s, dom0, "data/more", &to_dom0), 0);
	store_usage(s, &u);
	assert_int_equal(u.nodes, 1000);
	assert_int_equal(store_set_perms(s, dom0, "data/more", &to_guest), 0);
	assert_int_equal(store_rm(s, guest, "data"), 0);
	store_usage(s, &u);
	assert_int_equal(u.nodes, 1);
}

static void nodes_made_in_transactions_are_counted_at_their_end(void **state)
{
	struct store_limits l = { .nodes = 10 };
	uint32_t a, b;
	char path[32];

	(void)state;
	down();
	up(&l);
	node("/local/domain/5/data", "", "n5");
	a = start(guest);
	b = start(guest);
	for (int i = 0; i < 6; i++) {
		snprintf(path, sizeof(path), "data/a%d", i);
		assert_int_equal(put(in(guest, a), path, ""), 0);
		snprintf(path, sizeof(path), "data/b%d", i);
		assert_int_equal(put(in(guest, b), path, ""), 0);
	}
	for (int i = 6; i < 9; i++) {
		snprintf(path, sizeof(path), "data/a%d", i);
		assert_int_equal(put(in(guest, a), path, ""), 0);
	}
	assert_int_equal(put(in(guest, a), "data/a9", ""), -ENOSPC);
	assert_int_equal(store_tx_end(s, in(guest, a), true), 0);
	assert_int_equal(store_tx_end(s, in(guest, b), true), -ENOSPC);
	expect_list(guest, "data", "a0 a1 a2 a3 a4 a5 a6 a7 a8 ");
	assert_int_equal(put(guest, "data/c", ""), -ENOSPC);
}

static void node_bytes_are_bounded_with_the_names_of_children(void **state)
{
	char big[2049], name[300];
	int i, err = 0;

	(void)state;
	memset(big, 'x', sizeof(big));
	assert_int_equal(store_write(s, guest, "data/big", big, 2048), 0);
	assert_int_equal(store_write(s, guest, "data/big", big, 2049), -ENOSPC);
	assert_int_equal(store_write(s, guest, "data/big2", big, 2049), -ENOSPC);
	assert_int_equal(put(guest, "data/big/child", ""), -ENOSPC);
	assert_int_equal(store_write(s, dom0, "data/big", big, 2049), 0);
	assert_int_equal(store_mkdir(s, guest, "data/dir"), 0);
	for (i = 0; i < 30 && !err; i++) {
		snprintf(name, sizeof(name), "data/dir/%0199d", i);
		err = put(guest, name, "");
	}
	assert_int_equal(err, -ENOSPC);
	assert_int_equal(i, 11); /* ten of 200 bytes each fit */
}

static void memory_is_bounded_and_can_be_freed(void **state)
{
	struct store_limits l = { .memory = 20000, .events = 1000 };
	char big[2000], path[32];
	struct store_usage u;
	int i, err = 0;

	(void)state;
	down();
	up(&l);
	node("/local/domain/5/data", "", "n5");
	memset(big, 'x', sizeof(big));
	for (i = 0; i < 20 && !err; i++) {
		snprintf(path, sizeof(path), "data/%d", i);
		err = store_write(s, guest, path, big, sizeof(big));
	}
	assert_int_equal(err, -ENOMEM);
	store_usage(s, &u);
	assert_true(u.memory <= l.memory && u.memory > l.memory - 3000);
	assert_int_equal(store_rm(s, guest, "data/0"), 0);
	assert_int_equal(store_write(s, guest, "data/0", big, sizeof(big)), 0);
	for (i = 0; i < 200 && store_watch(s, "data", path) == 0; i++)
		snprintf(path, sizeof(path), "%0*d", 20, i);
	assert_true(i > 0 && i < 128);
	store_reset(s);
}

static void transactions_are_charged_for_what_they_pin(void **state)
{
	struct store_limits l = { .memory = 20000 };
	char big[2000], path[32];
	struct store_usage u;
	int i, err = 0;

	(void)state;
	down();
	up(&l);
	node("/local/domain/5/data", "", "n5");
	memset(big, 'x', sizeof(big));
	for (i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "data/%d", i);
		assert_int_equal(store_write(s, guest, path, big, sizeof(big)), 0);
	}
	for (i = 0; i < 10 && !err; i++) {
		uint32_t tx;

		err = store_tx_start(s, guest, &tx);
		for (int j = 0; j < 4 && !err; j++) {
			snprintf(path, sizeof(path), "data/%d", j);
			big[0]++;
			err = store_write(s, in(guest, tx), path, big, sizeof(big) - 1);
			if (!err)
				err = store_write(s, guest, path, big, sizeof(big));
		}
	}
	assert_int_equal(err, -ENOMEM);
	store_usage(s, &u);
	assert_true(u.memory <= l.memory);
	store_reset(s);
	assert_int_equal(store_write(s, guest, path, big, sizeof(big)), 0);
	store_usage(s, &u);
	assert_true(u.memory < 12000);
}

static void transactions_are_bounded(void **state)
{
	uint32_t tx[10], more;
	char path[64];
	int i;

	(void)state;
	for (i = 0; i < 10; i++)
		tx[i] = start(guest);
	assert_int_equal(store_tx_start(s, guest, &more), -ENOSPC);
	more = start(dom0);
	assert_int_equal(store_tx_end(s, in(dom0, more), false), 0);
	for (i = 0; i < 1024; i++) {
		snprintf(path, sizeof(path), "data/none/%d", i);
		assert_int_equal(read_error(in(guest, tx[0]), path), -ENOENT);
	}
	assert_int_equal(read_error(in(guest, tx[0]), "data/none/more"), -ENOSPC);
	assert_int_equal(put(in(guest, tx[0]), "data/x", ""), -ENOSPC);
	assert_int_equal(store_rm(s, in(guest, tx[0]), "data"), -ENOSPC);
	assert_int_equal(read_error(in(guest, tx[0]), "data/none/7"), -ENOENT);
	expect(in(guest, tx[1]), "name", "web");
	assert_int_equal(store_tx_end(s, in(guest, tx[9]), true), 0);
	tx[9] = start(guest);
	store_reset(s);
	assert_int_equal(store_tx_end(s, in(guest, tx[0]), true), -ENOENT);
}

static void a_transaction_that_grows_old_pins_nothing(void **state)
{
	struct store_limits l = { .transaction_age = 100 };
	struct store_usage before, after;
	char value[1000];
	uint32_t tx;

	(void)state;
	down();
	up(&l);
	node("/local/domain/5/data", "", "n5");
	memset(value, 'x', sizeof(value));
	tx = start(guest);
	assert_int_equal(put(in(guest, tx), "data/mine", "1"), 0);
	store_usage(s, &before);
	for (int i = 0; i < 300; i++) {
		char path[40];

		snprintf(path, sizeof(path), "/local/domain/0/%d", i % 10);
		assert_int_equal(store_write(s, dom0, path, value, sizeof(value)), 0);
	}
	store_usage(s, &after);
	assert_true(after.total < before.total + 10 * 1000 + 10 * 1200);
	assert_int_equal(put(in(guest, tx), "data/mine", "2"), 0); /* no error before the end */
	expect(in(guest, tx), "data/mine", "2");
	assert_int_equal(store_tx_end(s, in(guest, tx), true), -EAGAIN);
	assert_int_equal(read_error(guest, "data/mine"), -ENOENT);
}

/* ---- transactions ---- */

static void transaction_is_isolated_and_appears_at_once(void **state)
{
	uint32_t tx = start(guest);

	(void)state;
	assert_int_equal(put(in(guest, tx), "data/a", "1"), 0);
	assert_int_equal(put(in(guest, tx), "data/b", "2"), 0);
	assert_int_equal(read_error(guest, "data/a"), -ENOENT);
	expect(in(guest, tx), "data/a", "1");
	expect_list(in(guest, tx), "data", "a b ");
	assert_string_equal(changed, "");
	assert_int_equal(store_tx_end(s, in(guest, tx), true), 0);
	expect_list(guest, "data", "a b ");
	assert_string_equal(changed, "/local/domain/5/data/a /local/domain/5/data/b ");
}

static void transaction_reads_as_at_its_start(void **state)
{
	uint32_t tx = start(guest);

	(void)state;
	assert_int_equal(put(dom0, "/local/domain/5/name", "db"), 0);
	expect(in(guest, tx), "name", "web");
	expect(guest, "name", "db");
	assert_int_equal(store_tx_end(s, in(guest, tx), true), -EAGAIN);
}

static void transaction_aborted_leaves_nothing(void **state)
{
	uint32_t tx = start(guest);

	(void)state;
	assert_int_equal(put(in(guest, tx), "data/a", "1"), 0);
	assert_int_equal(store_rm(s, in(guest, tx), "device/vbd/51712"), 0);
	assert_int_equal(store_tx_end(s, in(guest, tx), false), 0);
	assert_int_equal(read_error(guest, "data/a"), -ENOENT);
	expect(guest, "device/vbd/51712", "");
	assert_string_equal(changed, "");
	assert_int_equal(store_tx_end(s, in(guest, tx), true), -ENOENT);
}

static void transaction_of_unknown_number_is_refused(void **state)
{
	uint32_t tx = start(guest), more;

	(void)state;
	assert_int_equal(read_error(in(guest, tx + 1), "name"), -ENOENT);
	assert_int_equal(put(in(guest, tx + 1), "data/x", ""), -ENOENT);
	assert_int_equal(read_error(guest, "data/x"), -ENOENT);
	assert_int_equal(store_rm(s, in(guest, tx + 1), "data"), -ENOENT);
	assert_int_equal(store_tx_end(s, in(guest, tx + 1), true), -ENOENT);
	assert_int_equal(store_tx_start(s, in(guest, tx), &more), -EBUSY);
	assert_int_equal(store_tx_start(s, in(guest, tx + 1), &more), -ENOENT);
	assert_int_equal(put(in(dom0, tx), "name", "x"), -ENOENT); /* the guest's is not domain 0's */
	more = start(dom0);
	assert_int_equal(put(in(guest, more), "data/x", "x"), -ENOENT); /* nor the other way round */
	assert_int_equal(store_tx_end(s, in(guest, more), true), -ENOENT);
	assert_int_equal(store_tx_end(s, in(dom0, more), true), 0);
}

/* What others did between start and end, and whether that is a conflict with a transaction that did `mine`. */
static void change_name(void) { assert_int_equal(put(dom0, "/local/domain/5/name", "db"), 0); }
static void same_name(void) { assert_int_equal(put(dom0, "/local/domain/5/name", "web"), 0); }
static void change_elsewhere(void) { assert_int_equal(put(dom0, "/local/domain/0/secret", "y"), 0); }
static void make_sibling(void) { assert_int_equal(put(guest, "data/sibling", ""), 0); }
static void make_same(void) { assert_int_equal(put(guest, "data/a", "other"), 0); }
static void change_below(void) { assert_int_equal(put(guest, "data/dir/leaf", "other"), 0); }
static void make_below(void) { assert_int_equal(put(guest, "data/dir/leaf2", "other"), 0); }
static void remove_above(void) { assert_int_equal(store_rm(s, dom0, "data"), 0); }
static void close_it(void)
{
	struct store_perms p = perms("n0");

	assert_int_equal(store_set_perms(s, dom0, "data", &p), 0);
}

static void read_name(struct store_as as) { expect(as, "name", "web"); }
static void write_a(struct store_as as) { assert_int_equal(put(as, "data/a", "mine"), 0); }
static void list_data(struct store_as as) { expect_list(as, "data", "dir "); }
static void remove_dir(struct store_as as) { assert_int_equal(store_rm(s, as, "data/dir"), 0); }
static void find_no_a(struct store_as as) { assert_int_equal(read_error(as, "data/a"), -ENOENT); }

static void transaction_conflicts_with_what_it_used_alone(void **state)
{
	static const struct { void (*mine)(struct store_as as); void (*theirs)(void); bool conflict; } cases[] = {
		{ read_name, change_name, true }, { read_name, same_name, true }, { read_name, change_elsewhere, false },
		{ read_name, make_sibling, false },
		{ write_a, change_name, false }, { write_a, make_sibling, false }, { write_a, make_same, true }, { write_a, remove_above, true },
		{ write_a, close_it, true }, { write_a, change_below, false },
		{ list_data, make_sibling, true }, { list_data, change_below, false }, { list_data, make_below, false }, { list_data, close_it, true },
		{ remove_dir, change_below, true }, { remove_dir, make_below, true }, { remove_dir, make_sibling, false }, { remove_dir, remove_above, true },
		{ find_no_a, make_same, true }, { find_no_a, make_sibling, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint32_t tx;
		int err;

		away(state);
		home(state);
		assert_int_equal(put(guest, "data/dir/leaf", "1"), 0);
		tx = start(guest);
		cases[i].mine(in(guest, tx));
		cases[i].theirs();
		err = store_tx_end(s, in(guest, tx), true);
		if (err != (cases[i].conflict ? -EAGAIN : 0))
			fail_msg("case %zu: %d", i, err);
		if (!err && cases[i].mine == write_a)
			expect(guest, "data/a", "mine");
		if (!err && cases[i].mine == remove_dir)
			assert_int_equal(read_error(guest, "data/dir/leaf"), -ENOENT);
		if (!err && cases[i].theirs == make_sibling)
			expect(guest, "data/sibling", "");
	}
}

static void transaction_of_dom0_conflicts_likewise(void **state)
{
	uint32_t tx = start(dom0);

	(void)state;
	expect(in(dom0, tx), "/local/domain/5/data", "");
	assert_int_equal(put(in(dom0, tx), "/local/domain/0/new", "1"), 0);
	assert_int_equal(put(guest, "data", "changed"), 0);
	changed[0] = '\0';
	assert_int_equal(store_tx_end(s, in(dom0, tx), true), -EAGAIN);
	assert_int_equal(read_error(dom0, "/local/domain/0/new"), -ENOENT);
	tx = start(dom0);
	assert_int_equal(put(in(dom0, tx), "/local/domain/0/new", "1"), 0);
	assert_int_equal(put(guest, "data", "changed again"), 0);
	changed[0] = '\0';
	assert_int_equal(store_tx_end(s, in(dom0, tx), true), 0);
	expect(dom0, "/local/domain/0/new", "1");
	assert_string_equal(changed, ""); /* tells of the guest's changes only */
}

static void transactions_that_remove_and_make_again_merge(void **state)
{
	uint32_t tx;

	(void)state;
	assert_int_equal(put(guest, "data/dir/leaf", "1"), 0);
	assert_int_equal(put(guest, "data/dir/old", "1"), 0);
	tx = start(guest);
	assert_int_equal(store_rm(s, in(guest, tx), "data/dir"), 0);
	assert_int_equal(put(in(guest, tx), "data/dir/leaf", "2"), 0);
	assert_int_equal(put(in(guest, tx), "data/gone/x", "2"), 0);
	assert_int_equal(store_rm(s, in(guest, tx), "data/gone"), 0);
	assert_int_equal(put(dom0, "/local/domain/0/secret", "merge, not swap"), 0);
	assert_int_equal(store_tx_end(s, in(guest, tx), true), 0);
	expect_list(guest, "data", "dir ");
	expect_list(guest, "data/dir", "leaf ");
	expect(guest, "data/dir/leaf", "2");
	expect(dom0, "/local/domain/0/secret", "merge, not swap");
}

/* ---- watches ---- */

static void watch_fires_once_when_set_then_for_changes_below(void **state)
{
	(void)state;
	assert_int_equal(store_watch(s, "data", "tok"), 0);
	assert_int_equal(woken, 1);
	assert_string_equal(event(), "data tok");
	assert_string_equal(event(), "");
	assert_int_equal(put(guest, "data", "1"), 0);
	assert_int_equal(put(guest, "data/x/y", "1"), 0);
	assert_int_equal(put(guest, "device/vbd/51712/state", "1"), 0);
	node("/local/domain/5/database", "", "n5");
	assert_string_equal(event(), "data tok");
	assert_string_equal(event(), "data/x/y tok");
	assert_string_equal(event(), "");
	assert_int_equal(store_rm(s, guest, "data/x"), 0);
	assert_string_equal(event(), "data/x tok");
	assert_string_equal(event(), "");
}

static void watch_absolute_is_told_absolute_paths(void **state)
{
	(void)state;
	assert_int_equal(store_watch(s, "/local/domain/5/data", "t"), 0);
	assert_string_equal(event(), "/local/domain/5/data t");
	assert_int_equal(put(guest, "data/x", "1"), 0);
	assert_string_equal(event(), "/local/domain/5/data/x t");
	assert_int_equal(store_watch(s, "/", "r"), 0);
	assert_string_equal(event(), "/ r");
	assert_int_equal(put(guest, "data/x", "2"), 0);
	assert_string_equal(event(), "/local/domain/5/data/x t");
	assert_string_equal(event(), "/local/domain/5/data/x r");
}

static void watch_below_a_removed_node_is_told_its_own_path(void **state)
{
	(void)state;
	assert_int_equal(put(guest, "data/a/b/c", "1"), 0);
	assert_int_equal(store_watch(s, "data/a/b", "b"), 0);
	assert_int_equal(store_watch(s, "data/a/none", "none"), 0);
	assert_int_equal(store_watch(s, "/local/domain/0/backend/vbd/5/51712/state", "be"), 0);
	no_events();
	assert_int_equal(store_rm(s, guest, "data/a"), 0);
	assert_string_equal(event(), "data/a/b b");
	assert_string_equal(event(), "");
	assert_int_equal(store_rm(s, dom0, "/local/domain/0/backend/vbd/5/51712"), 0);
	assert_string_equal(event(), "/local/domain/0/backend/vbd/5/51712/state be");
	assert_string_equal(event(), "");
}

static void watch_special_fires_once_and_never_again(void **state)
{
	(void)state;
	assert_int_equal(store_watch(s, "@releaseDomain", "t"), 0);
	assert_int_equal(store_watch(s, "@introduceDomain", "t"), 0);
	assert_string_equal(event(), "@releaseDomain t");
	assert_string_equal(event(), "@introduceDomain t");
	assert_int_equal(store_unwatch(s, "@releaseDomain", "t"), 0);
	assert_int_equal(put(dom0, "/local/x", ""), 0);
	assert_string_equal(event(), "");
}

static void watch_tells_nothing_of_what_the_guest_may_not_read(void **state)
{
	struct store_perms open = perms("r0"), shut = perms("n0");

	(void)state;
	assert_int_equal(store_watch(s, "/", "t"), 0);
	no_events();
	assert_int_equal(put(dom0, "/local/domain/0/secret", "2"), 0);
	assert_int_equal(put(dom0, "/local/domain/7/name", "other"), 0);
	assert_int_equal(store_rm(s, dom0, "/local/domain/7"), 0);
	assert_string_equal(event(), "");
	assert_int_equal(store_set_perms(s, dom0, "/local/domain/0/secret", &open), 0);
	assert_string_equal(event(), "/local/domain/0/secret t");
	assert_int_equal(put(dom0, "/local/domain/0/secret", "3"), 0);
	assert_string_equal(event(), "/local/domain/0/secret t");
	assert_int_equal(store_set_perms(s, dom0, "/local/domain/0/secret", &shut), 0);
	assert_string_equal(event(), "/local/domain/0/secret t"); /* it might read it before */
	assert_int_equal(put(dom0, "/local/domain/0/secret", "4"), 0);
	assert_string_equal(event(), "");
}

static void watches_are_bounded_and_unique(void **state)
{
	char token[16];

	(void)state;
	for (int i = 0; i < 128; i++) {
		snprintf(token, sizeof(token), "%d", i);
		assert_int_equal(store_watch(s, "data", token), 0);
	}
	assert_int_equal(store_watch(s, "data", "more"), -E2BIG);
	assert_int_equal(store_watch(s, "/local/domain/5/data", "7"), -EEXIST);
	assert_int_equal(store_unwatch(s, "data", "none"), -ENOENT);
	assert_int_equal(store_unwatch(s, "a b", "7"), -EINVAL);
	assert_int_equal(store_watch(s, "a b", "7"), -EINVAL);
	assert_int_equal(store_unwatch(s, "/local/domain/5/data", "7"), 0);
	assert_int_equal(store_watch(s, "data", "more"), 0);
	assert_string_equal(event(), "data 0");
	store_reset(s);
	assert_string_equal(event(), "");
}

static void event_that_waits_is_not_queued_twice(void **state)
{
	(void)state;
	assert_int_equal(store_watch(s, "data", "t"), 0);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(put(guest, "data/a", "1"), 0);
		assert_int_equal(put(guest, "data/b", "1"), 0);
	}
	assert_string_equal(event(), "data t");
	assert_string_equal(event(), "data/a t");
	assert_int_equal(put(guest, "data/a", "1"), 0);
	assert_string_equal(event(), "data/b t");
	assert_string_equal(event(), "data/a t");
	assert_string_equal(event(), "");
}

static void events_beyond_the_bound_become_one_for_the_watch(void **state)
{
	struct store_limits l = { .events = 4000 };
	struct store_usage u, now;
	char path[32];
	int n;

	(void)state;
	down();
	up(&l);
	node("/local/domain/5/data", "", "n5");
	assert_int_equal(store_watch(s, "data", "t"), 0);
	no_events();
	store_usage(s, &u);
	for (int i = 0; i < 300; i++) {
		snprintf(path, sizeof(path), "data/%d", i);
		assert_int_equal(put(dom0, path, "1"), 0);
		assert_int_equal(store_rm(s, dom0, path), 0);
	}
	store_usage(s, &now);
	assert_true(now.memory > u.memory + 2000 && now.memory <= u.memory + 4000 + 100);
	for (n = 0; strcmp(event(), "data t") != 0; n++)
		assert_true(n < 300);
	assert_true(n > 10);
	assert_string_equal(event(), "");
	assert_int_equal(put(guest, "data/1", "1"), 0);
	assert_string_equal(event(), "data/1 t");
}

static void events_of_a_transaction_come_at_its_end(void **state)
{
	uint32_t tx = start(guest);

	(void)state;
	assert_int_equal(put(guest, "data/dir/leaf", "1"), 0);
	assert_int_equal(store_watch(s, "data", "t"), 0);
	assert_int_equal(store_watch(s, "data/dir/leaf", "leaf"), 0);
	no_events();
	assert_int_equal(store_tx_end(s, in(guest, tx), false), 0);
	tx = start(guest);
	assert_int_equal(put(in(guest, tx), "data/b/c", "1"), 0);
	assert_int_equal(put(in(guest, tx), "data/a", "1"), 0);
	assert_int_equal(put(in(guest, tx), "data/a", "2"), 0);
	assert_int_equal(store_rm(s, in(guest, tx), "data/dir"), 0);
	assert_string_equal(event(), "");
	changed[0] = '\0';
	assert_int_equal(store_tx_end(s, in(guest, tx), true), 0);
	assert_string_equal(event(), "data/a t");
	assert_string_equal(event(), "data/b/c t");
	assert_string_equal(event(), "data/dir/leaf leaf");
	assert_string_equal(event(), "data/dir t");
	assert_string_equal(event(), "");
	assert_string_equal(changed, "/local/domain/5/data/a /local/domain/5/data/b/c /local/domain/5/data/dir! ");
}

static void trees_are_as_deep_as_they_may_be_and_no_deeper(void **state)
{
	char path[XENSTORE_ABS_PATH_MAX + 1] = "";
	struct store_usage u;

	(void)state;
	for (int i = 0; i < STORE_DEPTH_MAX; i++)
		strcat(path, "/a");
	assert_int_equal(put(dom0, path, "deep"), 0);
	expect(dom0, path, "deep");
	strcat(path, "/a");
	assert_int_equal(put(dom0, path, "deeper"), -EINVAL);
	assert_int_equal(store_rm(s, dom0, "/a"), 0);
	strcpy(path, "data");
	for (int i = 4; i < STORE_DEPTH_MAX; i++)
		strcat(path, "/a");
	assert_int_equal(put(guest, path, "deep"), 0);
	store_usage(s, &u);
	assert_int_equal(u.nodes, 2 + 60);
	strcat(path, "/a");
	assert_int_equal(store_mkdir(s, guest, path), -EINVAL);
	assert_int_equal(store_watch(s, path, "t"), -EINVAL);
	assert_int_equal(store_rm(s, guest, "data/a"), 0);
}

/* ---- the model ---- */

enum { NODES = 400, TXNS = 4, TOUCHES = 4000, VALUE = 24, PATH = 80 };

struct m_node {
	char path[PATH], value[VALUE];
	struct store_perms perms;
	uint64_t version, listing;
};

struct m_tree {
	struct m_node node[NODES];
	int n;
};

struct m_touch {
	char path[PATH];
	bool list, wrote, removed, fires;
};

struct m_txn {
	bool used;
	struct store_as as;
	struct m_tree base, view;
	struct m_touch touch[TOUCHES];
	int n;
};

struct m_watch {
	bool used;
	char path[PATH], token[8];
	bool relative;
};

static struct model {
	struct m_tree main;
	struct m_txn txn[TXNS];
	struct m_watch watch[8];
	char events[40000]; /* lines */
	uint64_t version;
} m;

static const char home_path[] = "/local/domain/5/";

static struct m_node *m_find(struct m_tree *t, const char *path)
{
	for (int i = 0; i < t->n; i++)
		if (strcmp(t->node[i].path, path) == 0)
			return &t->node[i];
	return NULL;
}

static void m_parent(const char *path, char *out)
{
	size_t n = strrchr(path, '/') - path;

	memmove(out, path, n + 1);
	out[n ? n : 1] = '\0';
}

static struct m_node *m_above(struct m_tree *t, const char *path)
{
	char up_path[PATH];
	struct m_node *n;

	strcpy(up_path, path);
	do {
		m_parent(up_path, up_path);
		n = m_find(t, up_path);
	} while (!n);
	return n;
}

static bool m_child(const char *path, const char *of)
{
	size_t n = strlen(of);

	return strcmp(of, "/") == 0 || (strncmp(path, of, n) == 0 && (path[n] == '/' || !path[n]));
}

static unsigned m_rights(struct store_as as, const struct m_node *n)
{
	if (as.domid == 0 || n->perms.p[0].domid == as.domid)
		return 7;
	for (unsigned i = 1; i < n->perms.n; i++)
		if (n->perms.p[i].domid == as.domid)
			return n->perms.p[i].mode;
	return n->perms.p[0].mode;
}

static unsigned m_owned(const struct m_tree *t)
{
	unsigned owned = 0;

	for (int i = 0; i < t->n; i++)
		owned += t->node[i].perms.p[0].domid == GUEST;
	return owned;
}

static size_t m_names(const struct m_tree *t, const char *path)
{
	char above[PATH];
	size_t n = 0;

	for (int i = 0; i < t->n; i++) {
		if (strcmp(t->node[i].path, "/") == 0)
			continue;
		m_parent(t->node[i].path, above);
		if (strcmp(above, path) == 0)
			n += strlen(strrchr(t->node[i].path, '/'));
	}
	return n;
}

static void m_touch(struct m_txn *x, const char *path, bool list, bool wrote, bool removed, bool fires)
{
	int i;

	if (!x)
		return;
	for (i = 0; i < x->n && strcmp(x->touch[i].path, path) != 0; i++)
		;
	assert_true(i < TOUCHES);
	if (i == x->n) {
		x->n++;
		memset(&x->touch[i], 0, sizeof(x->touch[i]));
		strcpy(x->touch[i].path, path);
	}
	x->touch[i].list |= list;
	x->touch[i].wrote |= wrote;
	x->touch[i].removed |= removed;
	x->touch[i].fires |= fires;
}

static void m_event(const struct m_watch *w, const char *path)
{
	char line[2 * PATH];

	snprintf(line, sizeof(line), "%s %s\n", path + (w->relative ? strlen(home_path) : 0), w->token);
	for (const char *p = m.events; *p; p = strchr(p, '\n') + 1)
		if (strncmp(p, line, strlen(line)) == 0)
			return;
	assert_true(strlen(m.events) + strlen(line) < sizeof(m.events));
	strcat(m.events, line);
}

static bool m_readable(const struct m_node *n)
{
	return n && m_rights(guest, n) & STORE_READ;
}

static void m_fire(const char *path, const struct m_node *before)
{
	struct m_node *now = m_find(&m.main, path);

	if (!m_readable(now) && !m_readable(before) && (strcmp(path, "/") == 0 || !m_readable(m_above(&m.main, path))))
		return;
	for (int i = 0; i < 8; i++)
		if (m.watch[i].used && m_child(path, m.watch[i].path))
			m_event(&m.watch[i], path);
}

static void m_fire_below(const char *path, struct m_tree *before)
{
	for (int i = 0; i < 8; i++) {
		struct m_watch *w = &m.watch[i];
		struct m_node *n = w->used && strcmp(w->path, path) != 0 && m_child(w->path, path) ? m_find(before, w->path) : NULL;

		if (n && (m_readable(n) || m_readable(m_above(before, w->path))))
			m_event(w, w->path);
	}
}

static void m_list_changed(struct m_tree *t, const char *path)
{
	char above[PATH];

	m_parent(path, above);
	m_find(t, above)->listing = ++m.version;
}

static void m_remove(struct m_tree *t, const char *path)
{
	m_list_changed(t, path);
	for (int i = 0; i < t->n;)
		if (m_child(t->node[i].path, path))
			t->node[i] = t->node[--t->n];
		else
			i++;
}

/* The missing nodes down to path. Returns the last. */
static struct m_node *m_make(struct m_txn *x, struct m_tree *t, struct store_as as, const char *path)
{
	char part[PATH];

	for (const char *p = path; (p = strchr(p + 1, '/')) || p == NULL;) {
		struct m_node *n;

		snprintf(part, sizeof(part), "%.*s", p ? (int)(p - path) : (int)strlen(path), path);
		if (!m_find(t, part)) {
			struct store_perms inherited = m_above(t, part)->perms;

			if (as.domid)
				inherited.p[0].domid = as.domid;
			assert_true(t->n < NODES);
			n = &t->node[t->n++];
			memset(n, 0, sizeof(*n));
			strcpy(n->path, part);
			n->perms = inherited;
			n->version = n->listing = ++m.version;
			m_list_changed(t, part);
			m_touch(x, part, false, true, false, !p);
		}
		if (!p)
			break;
	}
	return m_find(t, path);
}

/* The limits of the random test. */
static const struct store_limits small = { .nodes = 40, .node_bytes = 100, .transactions = 3 };

static int m_write(struct m_txn *x, struct store_as as, const char *path, const char *value, bool mkdir)
{
	struct m_tree *t = x ? &x->view : &m.main;
	struct m_node *n = m_find(t, path), *above = m_above(t, path);
	unsigned depth = 1;

	if (n && !(m_rights(as, n) & STORE_WRITE))
		return -EACCES;
	if (!n && !(m_rights(as, above) & STORE_WRITE))
		return -EACCES;
	if (n && mkdir) {
		m_touch(x, path, false, false, false, false);
		return 0;
	}
	if (n && as.domid && strlen(value) + m_names(t, path) > small.node_bytes)
		return -ENOSPC;
	if (!n && as.domid) {
		const char *rest = path + strlen(above->path) + (strcmp(above->path, "/") != 0);

		for (const char *p = rest; (p = strchr(p, '/')); p++)
			depth++;
		if (m_owned(t) + depth > small.nodes || strlen(above->value) + m_names(t, above->path) + strcspn(rest, "/") + 1 > small.node_bytes)
			return -ENOSPC;
	}
	if (!n) {
		m_touch(x, above->path, false, false, false, false);
		n = m_make(x, t, as, path);
	}
	m_touch(x, path, false, true, false, true);
	strcpy(n->value, mkdir ? "" : value);
	n->version = ++m.version;
	if (!x)
		m_fire(path, NULL);
	return 0;
}

static int m_rm(struct m_txn *x, struct store_as as, const char *path)
{
	static struct m_tree before;
	struct m_tree *t = x ? &x->view : &m.main;
	struct m_node *n = m_find(t, path), old;
	char above[PATH];

	if (!(m_rights(as, n ? n : m_above(t, path)) & STORE_WRITE))
		return -EACCES;
	m_parent(path, above);
	m_touch(x, path, false, n != NULL, n != NULL, n != NULL);
	if (!n)
		return m_find(t, above) ? 0 : -ENOENT;
	old = *n;
	before = *t;
	m_remove(t, path);
	if (!x) {
		m_fire_below(path, &before);
		m_fire(path, &old);
	}
	return 0;
}

static int m_read(struct m_txn *x, struct store_as as, const char *path, bool list, struct m_node **out)
{
	struct m_tree *t = x ? &x->view : &m.main;
	struct m_node *n = m_find(t, path);

	if (!(m_rights(as, n ? n : m_above(t, path)) & STORE_READ))
		return -EACCES;
	m_touch(x, path, list, false, false, false);
	*out = n;
	return n ? 0 : -ENOENT;
}

static int m_chown(struct m_txn *x, struct store_as as, const char *path, const struct store_perms *p)
{
	struct m_tree *t = x ? &x->view : &m.main;
	struct m_node *n = m_find(t, path), old;

	if (!n)
		return m_rights(as, m_above(t, path)) & 6 ? -ENOENT : -EACCES;
	if ((m_rights(as, n) & 6) != 6)
		return -EACCES;
	if (as.domid && p->p[0].domid != n->perms.p[0].domid)
		return -EPERM;
	m_touch(x, path, false, true, false, true);
	old = *n;
	n->perms = *p;
	n->version = ++m.version;
	if (!x)
		m_fire(path, &old);
	return 0;
}

static bool m_differs(const struct m_node *a, const struct m_node *b, bool list)
{
	if (!a || !b)
		return a != b;
	return a->version != b->version || (list && a->listing != b->listing);
}

static bool m_conflict(struct m_txn *x)
{
	for (int i = 0; i < x->n; i++) {
		struct m_touch *c = &x->touch[i];

		if (m_differs(m_find(&x->base, c->path), m_find(&m.main, c->path), c->list || c->removed))
			return true;
		for (int k = 0; c->removed && k < x->base.n; k++) /* who was added shows in a listing */
			if (m_child(x->base.node[k].path, c->path) &&
			    m_differs(&x->base.node[k], m_find(&m.main, x->base.node[k].path), true))
				return true;
	}
	return false;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct m_touch *)a)->path, ((const struct m_touch *)b)->path);
}

static void m_carry(struct m_txn *x, struct m_tree *to)
{
	for (int i = 0; i < x->n; i++) {
		struct m_touch *c = &x->touch[i];
		struct m_node *ours = m_find(&x->view, c->path), *n = m_find(to, c->path);

		if (!c->wrote || (!ours && !n))
			continue;
		if (n && (!ours || (c->removed && ours->version != n->version)))
			m_remove(to, c->path);
		if (!ours)
			continue;
		n = m_find(to, c->path);
		if (!n) {
			n = &to->node[to->n++];
			*n = *ours;
			m_list_changed(to, c->path);
			n->listing = ++m.version;
		}
		strcpy(n->value, ours->value);
		n->perms = ours->perms;
		n->version = ours->version;
	}
}

static int m_commit(struct m_txn *x)
{
	static struct m_tree merged;
	unsigned owned = m_owned(&m.main);

	if (m_conflict(x))
		return -EAGAIN;
	qsort(x->touch, x->n, sizeof(*x->touch), by_path);
	merged = m.main;
	m_carry(x, &merged);
	if (x->as.domid && m_owned(&merged) > owned && m_owned(&merged) > small.nodes)
		return -ENOSPC;
	m.main = merged;
	for (int i = 0; i < x->n; i++) {
		struct m_touch *c = &x->touch[i];
		struct m_node *then = m_find(&x->base, c->path), *now = m_find(&m.main, c->path);

		if (!c->fires || (!then && !now))
			continue;
		if (c->removed && then)
			m_fire_below(c->path, &x->base);
		m_fire(c->path, then);
	}
	return 0;
}

/* ---- random operations on both ---- */

static uint32_t rnd_state;

static unsigned rnd(unsigned n)
{
	rnd_state = rnd_state * 1664525 + 1013904223;
	return (rnd_state >> 8) % n;
}

static const char *rnd_path(void)
{
	static const char *const names[] = { "a", "b", "cc", "10", "9" };
	static char path[PATH];

	strcpy(path, rnd(8) ? "/local/domain/5/data" : rnd(2) ? "/local/domain/5" : "/local/domain/0");
	for (unsigned i = rnd(4); i < 4; i++) {
		strcat(path, "/");
		strcat(path, names[rnd(5)]);
	}
	return path;
}

static void compare_node(struct store_as as, const struct m_node *n)
{
	struct store_perms p;

	expect(as, n->path, n->value);
	assert_int_equal(store_get_perms(s, as, n->path, &p), 0);
	assert_int_equal(p.n, n->perms.n);
	for (unsigned i = 0; i < p.n; i++) {
		assert_int_equal(p.p[i].domid, n->perms.p[i].domid);
		assert_int_equal(p.p[i].mode, n->perms.p[i].mode);
	}
}

/* Everything that one tree has the other has. */
static void compare_trees(void)
{
	struct store_usage u;
	int n = 1;

	for (int i = 0; i < m.main.n; i++) {
		uint64_t generation;
		size_t len;
		char *list;

		compare_node(dom0, &m.main.node[i]);
		assert_int_equal(store_list(s, dom0, m.main.node[i].path, &list, &len, &generation), 0);
		assert_int_equal(len, m_names(&m.main, m.main.node[i].path));
		for (size_t k = 0; k < len; k += strlen(list + k) + 1)
			n++;
		free(list);
	}
	assert_int_equal(n, m.main.n);
	store_usage(s, &u);
	assert_int_equal(u.nodes, m_owned(&m.main));
}

static void compare_events(void)
{
	const char *p = m.events, *e;

	while (*(e = event())) {
		size_t n = strlen(e);

		if (strncmp(p, e, n) != 0 || p[n] != '\n')
			fail_msg("event '%s', not '%.*s'", e, (int)strcspn(p, "\n"), p);
		p += n + 1;
	}
	assert_string_equal(p, "");
	m.events[0] = '\0';
}

static struct m_txn *m_txn(struct store_as as)
{
	for (int i = 0; i < TXNS; i++)
		if (m.txn[i].used && m.txn[i].as.domid == as.domid && m.txn[i].as.tx == as.tx)
			return &m.txn[i];
	return NULL;
}

static void random_tx(void)
{
	struct m_txn *x = &m.txn[rnd(TXNS)];
	bool keep = rnd(5) != 0;
	unsigned open = 0;
	int err;

	if (x->used) {
		err = store_tx_end(s, x->as, keep);
		x->used = false;
		if (err != (keep ? m_commit(x) : 0))
			fail_msg("the end of a transaction: %d", err);
		return;
	}
	x->as = rnd(3) ? guest : dom0;
	for (int i = 0; i < TXNS; i++)
		open += m.txn[i].used && m.txn[i].as.domid == GUEST;
	err = store_tx_start(s, x->as, &x->as.tx);
	assert_int_equal(err, x->as.domid && open >= small.transactions ? -ENOSPC : 0);
	if (err)
		return;
	x->used = true;
	x->base = x->view = m.main;
	x->n = 0;
}

static void random_watch(void)
{
	struct m_watch *w = &m.watch[rnd(8)];

	if (w->used) {
		compare_events(); /* (those of a watch go with it) */
		assert_int_equal(store_unwatch(s, w->path, w->token), 0);
		w->used = false;
		return;
	}
	strcpy(w->path, rnd_path());
	w->relative = strncmp(w->path, home_path, strlen(home_path)) == 0 && rnd(2);
	snprintf(w->token, sizeof(w->token), "w%d", (int)(w - m.watch));
	for (int i = 0; i < 8; i++) /* keep them in the order of their making */
		if (&m.watch[i] > w && m.watch[i].used) {
			w->used = false;
			return;
		}
	assert_int_equal(store_watch(s, w->path + (w->relative ? strlen(home_path) : 0), w->token), 0);
	w->used = true;
	m_event(w, w->path);
}

static void random_read(struct m_txn *x, struct store_as as, const char *path)
{
	struct m_node *n = NULL;
	uint64_t generation;
	const char *v;
	size_t len;
	char *list;
	int err;

	if (rnd(2)) {
		err = store_read(s, as, path, &v, &len);
		assert_int_equal(err, m_read(x, as, path, false, &n));
		if (!err)
			assert_string_equal(v, n->value);
		return;
	}
	err = store_list(s, as, path, &list, &len, &generation);
	assert_int_equal(err, m_read(x, as, path, true, &n));
	if (err)
		return;
	assert_int_equal(len, m_names(x ? &x->view : &m.main, path));
	free(list);
}

static void random_op(void)
{
	static const char *const modes[] = { "n5 r0", "n0 r5", "b0", "n0 b5 r7", "n0", "r5" };
	struct m_txn *x = &m.txn[rnd(TXNS)];
	struct store_as as = rnd(3) ? guest : dom0;
	struct store_perms p = perms(modes[rnd(6)]);
	const char *path = rnd_path();
	char value[VALUE];
	int err = 0, model = 0;

	if (rnd(2) && x->used)
		as = x->as;
	x = m_txn(as);
	snprintf(value, sizeof(value), "%u", rnd(1000));
	switch (rnd(12)) {
	case 0: case 1: case 2: case 3: case 4:
		err = put(as, path, value), model = m_write(x, as, path, value, false);
		break;
	case 5:
		err = store_mkdir(s, as, path), model = m_write(x, as, path, "", true);
		break;
	case 6:
		err = store_rm(s, as, path), model = m_rm(x, as, path);
		break;
	case 7:
		err = store_set_perms(s, as, path, &p), model = m_chown(x, as, path, &p);
		break;
	case 8:
		random_tx();
		break;
	case 9:
		random_watch();
		break;
	default:
		random_read(x, as, path);
	}
	if (err != model)
		fail_msg("domain %u, transaction %u, %s: %d, the model says %d", as.domid, as.tx, path, err, model);
}

static void m_copy(const char *path, const char *with)
{
	struct m_node *n = &m.main.node[m.main.n++];

	memset(n, 0, sizeof(*n));
	strcpy(n->path, path);
	n->perms = perms(with);
	n->version = n->listing = ++m.version;
	if (strcmp(path, "/") != 0)
		node(path, "", with);
}

static void random_operations_do_what_the_model_does(void **state)
{
	const char *more = getenv("PVIO_TEST_SEEDS");

	(void)state;
	for (int seed = 1; seed <= (more ? atoi(more) : 20); seed++) {
		rnd_state = seed;
		up(&small);
		memset(&m, 0, sizeof(m));
		m_copy("/", "n0");
		m_copy("/local", "n0");
		m_copy("/local/domain", "n0");
		m_copy("/local/domain/0", "n0 r5");
		m_copy("/local/domain/5", "n0 r5");
		m_copy("/local/domain/5/data", "n5");
		for (int i = 0; i < 2000; i++) {
			random_op();
			if (i % 10 == 0)
				compare_events();
			if (i % 50 == 0)
				compare_trees();
			changed[0] = '\0';
		}
		for (int i = 0; i < TXNS; i++)
			if (m.txn[i].used)
				store_tx_end(s, m.txn[i].as, false);
		down();
	}
}

#define WITH_HOME(f) cmocka_unit_test_setup_teardown(f, home, away)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_HOME(path_of_wrong_form_is_refused),
		WITH_HOME(path_relative_is_below_the_guests_home),
		WITH_HOME(list_is_shorter_names_first),
		WITH_HOME(read_gives_any_bytes),
		WITH_HOME(guest_may_do_what_the_permissions_say),
		WITH_HOME(guest_is_not_told_what_there_is_where_it_may_not_look),
		WITH_HOME(what_the_guest_makes_it_owns),
		WITH_HOME(set_perms_is_for_the_owner_who_stays_owner),
		WITH_HOME(rm_of_what_is_not_there),
		WITH_HOME(mkdir_leaves_what_is_there),
		WITH_HOME(nodes_are_counted_for_their_owner),
		WITH_HOME(nodes_made_in_transactions_are_counted_at_their_end),
		WITH_HOME(node_bytes_are_bounded_with_the_names_of_children),
		WITH_HOME(memory_is_bounded_and_can_be_freed),
		WITH_HOME(transactions_are_charged_for_what_they_pin),
		WITH_HOME(transactions_are_bounded),
		WITH_HOME(a_transaction_that_grows_old_pins_nothing),
		WITH_HOME(transaction_is_isolated_and_appears_at_once),
		WITH_HOME(transaction_reads_as_at_its_start),
		WITH_HOME(transaction_aborted_leaves_nothing),
		WITH_HOME(transaction_of_unknown_number_is_refused),
		WITH_HOME(transaction_conflicts_with_what_it_used_alone),
		WITH_HOME(transaction_of_dom0_conflicts_likewise),
		WITH_HOME(transactions_that_remove_and_make_again_merge),
		WITH_HOME(watch_fires_once_when_set_then_for_changes_below),
		WITH_HOME(watch_absolute_is_told_absolute_paths),
		WITH_HOME(watch_below_a_removed_node_is_told_its_own_path),
		WITH_HOME(watch_special_fires_once_and_never_again),
		WITH_HOME(watch_tells_nothing_of_what_the_guest_may_not_read),
		WITH_HOME(watches_are_bounded_and_unique),
		WITH_HOME(event_that_waits_is_not_queued_twice),
		WITH_HOME(events_beyond_the_bound_become_one_for_the_watch),
		WITH_HOME(events_of_a_transaction_come_at_its_end),
		WITH_HOME(trees_are_as_deep_as_they_may_be_and_no_deeper),
		cmocka_unit_test(random_operations_do_what_the_model_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
