/* test_dialect_look.c - what one look at a guest's XenStore nodes may cost, on nodes that change under it: a guest that rewrites its
 * choice as fast as it can costs pviod one reading a look, and is heard when it rests. */
#include "dom0-tools/pviod.h"
#include "dom0-tools/nodes.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static unsigned begins, commits, reads, disturbed /* commits that are still to fail */;
static struct device dev;
static struct guest guest;

static int node_read(struct nodes *n, const char *path, char *buf, size_t len)
{
	static const struct { const char *key, *value; } keys[] = {
		{ "/state", "4" }, { "/tx-ring-ref", "8" }, { "/rx-ring-ref", "9" }, { "/event-channel", "3" }, { "/request-rx-copy", "1" },
		{ "/feature-rx-notify", "1" },
	};
	const char *key = strrchr(path, '/');

	(void)n;
	reads++;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!strcmp(key, keys[i].key))
			return snprintf(buf, len, "%s", keys[i].value);
	return -ENOENT;
}

static int node_write(struct nodes *n, const char *path, const char *value, uint16_t owner, uint16_t reader)
{
	(void)n, (void)path, (void)value, (void)owner, (void)reader;
	return 0;
}

static int node_remove(struct nodes *n, const char *path)
{
	(void)n, (void)path;
	return 0;
}

static int node_begin(struct nodes *n)
{
	(void)n;
	begins++;
	return 0;
}

static int node_commit(struct nodes *n)
{
	(void)n;
	commits++;
	if (!disturbed)
		return 0;
	disturbed--;
	return -EAGAIN;
}

static void node_abort(struct nodes *n)
{
	(void)n;
}

static const struct nodes_ops ops = { .read = node_read, .write = node_write, .remove = node_remove, .begin = node_begin,
				      .commit = node_commit, .abort = node_abort };
static struct nodes nodes = { .ops = &ops };

static int up(void **state)
{
	(void)state;
	begins = commits = reads = disturbed = 0;
	guest = (struct guest){ .domid = 3, .nodes = &nodes };
	dev = (struct device){
		.guest = &guest,
		.id = { .guest = 3, .type = PV_NOXS_VIF },
		.state = DEV_OFFERED,
		.offer = { .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 1, .state = XenbusStateInitWait,
			   .type = PV_NOXS_VIF, .vif = { .queues_max = 4, .mtu = 1500, .carrier = 1 } },
		.store = { .shown = XenbusStateInitWait },
	};
	return 0;
}

static enum dev_event look(struct pv_noxs_choice *c)
{
	const char *why;

	memset(c, 0, sizeof(*c));
	enum dev_event ev = dialect_store.look(&dev, c, &why);

	if (ev == EV_MISDEED)
		print_message("%s\n", why);
	return ev;
}

static void look_at_a_choice_at_rest(void **state)
{
	struct pv_noxs_choice c;

	(void)state;
	assert_int_equal(look(&c), EV_CHOICE);
	assert_int_equal(c.queues, 1);
	assert_int_equal(c.vif[0].tx_gref, 8);
	assert_int_equal(begins, 1);
	assert_int_equal(commits, 1);
}

static void look_at_a_choice_that_keeps_changing(void **state)
{
	struct pv_noxs_choice c;
	unsigned once;

	(void)state;
	assert_int_equal(look(&c), EV_CHOICE);
	once = reads;
	for (disturbed = 1000; disturbed;) {
		unsigned before = begins, nreads = reads, left = disturbed;

		assert_int_equal(look(&c), EV_NONE); /* neither believed nor held against it: it may be half written */
		assert_int_equal(begins, before + 1);
		assert_int_equal(left - disturbed, 1);
		assert_in_range(reads - nreads, 1, once);
	}
	assert_int_equal(look(&c), EV_CHOICE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(look_at_a_choice_at_rest, up),
		cmocka_unit_test_setup(look_at_a_choice_that_keeps_changing, up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
