/* Declared state is applied to a tree that acts as the kernel: what it has then, what is refused, undone, and left by a killed process. */
#include "sriov/declare.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "vf_tree.h"
#include <cmocka.h>

#define PF "0000:01:00.0"
#define SEVEN "pf eth1 vfs 7\nvf all mac auto vlan 100 qos 3 spoofchk off trust on min_rate 5 max_rate 100 link up rss_query on\npool a all\n"

static struct vf_tree t;
static struct vf_why why;
static struct vf_applied done;
static char told[8192];
static const struct vf_bdf pf1 = { 0, 1, 0, 0 };

static int up(void **state)
{
	(void)state;
	vf_tree_up(&t);
	vf_tree_put(&t, "0123456789abcdef\n", "/etc/machine-id");
	vf_tree_pf(&t, (struct vf_tree_pf){ .bdf = PF, .netdev = "eth1", .total = 7, .group = 10 });
	vf_tree_pf(&t, (struct vf_tree_pf){ .bdf = "0000:02:00.0", .netdev = "eth2", .total = 7, .group = 30 });
	vf_tree_put(&t, "52:54:00:00:00:20\n", "/sys/bus/pci/devices/0000:02:00.0/net/eth2/address");
	return 0;
}

static int down(void **state)
{
	(void)state;
	vf_applied_free(&done);
	vf_tree_down(&t);
	return 0;
}

static void put(void *arg, const char *text)
{
	(void)arg;
	strcat(strcat(told, text), "\n");
}

/* As the command does it. */
static int apply(const char *text, unsigned flags)
{
	struct vf_inventory inv = { 0 };
	struct vf_plan plan = { 0 };
	struct vf_declared d;
	int lock, rc = vf_declare_parse(text, strlen(text), &d, &why);

	vf_applied_free(&done);
	*told = 0;
	lock = rc < 0 ? rc : vf_apply_lock(&t.sys, 0, &why);
	rc = lock < 0 ? lock : vf_plan_look(&t.sys, &d, 0, &inv, &plan, &why);
	if (rc == 0)
		rc = vf_apply(&t.sys, &plan, flags, put, NULL, &done, &why);
	vf_plan_free(&plan);
	vf_inventory_free(&inv);
	vf_declared_free(&d);
	if (lock >= 0)
		close(lock);
	return rc;
}

static void good(const char *text)
{
	int rc = apply(text, 0);

	if (rc < 0)
		fail_msg("%s: %d: %s", text, rc, why.text);
}

/* Applied again, it changes nothing at all. */
static void nothing_to_do(const char *text)
{
	unsigned changes = t.sys.changes, sets = t.k->sets, writes = t.k->numvfs_writes;

	good(text);
	assert_int_equal(done.numbers + done.vfs, 0);
	assert_int_equal(t.sys.changes, changes);
	assert_int_equal(t.k->sets, sets);
	assert_int_equal(t.k->numvfs_writes, writes);
}

static unsigned number(void)
{
	return t.k->num[0];
}

static void is_seven(void)
{
	assert_int_equal(number(), 7);
	for (unsigned i = 0; i < 7; i++) {
		const struct vf_settings *v = &t.k->is[0][i];
		uint8_t mac[6];

		vf_mac_make("0123456789abcdef", pf1, i, mac);
		assert_memory_equal(v->mac, mac, 6);
		assert_int_equal(v->vlan, 100);
		assert_int_equal(v->qos, 3);
		assert_false(v->spoofchk);
		assert_true(v->trust);
		assert_int_equal(v->min_rate, 5);
		assert_int_equal(v->max_rate, 100);
		assert_int_equal(v->link, VF_LINK_UP);
		assert_true(v->rss_query);
	}
}

static struct json_object *kept(void)
{
	struct json_object *o;

	vf_file_read(&t.sys, "pf-" PF ".json", &o);
	return o;
}

static void claim(unsigned vf, const char *owner, enum vf_state state)
{
	struct vf_record r;

	assert_int_equal(vf_record_open(&t.sys, vf_tree_vf(pf1, vf), 0, &r, &why), 0);
	r.state = state;
	snprintf(r.owner, sizeof(r.owner), "%s", owner);
	assert_int_equal(vf_record_save(&t.sys, &r), 0);
	vf_record_close(&r);
}

static void apply_makes_vfs_and_sets_them(void **state)
{
	(void)state;
	good(SEVEN);
	is_seven();
	assert_int_equal(done.numbers, 1);
	assert_int_equal(done.vfs, 7);
	assert_non_null(strstr(told, "0000:01:00.0 (eth1): 7 VFs, 0 before\n0000:01:00.0 (eth1): VF 0: mac "));
	assert_int_equal(t.k->numvfs_writes, 1); /* none to 0: there were none */
	nothing_to_do(SEVEN);
}

/* The number, what is kept, and one message with everything. */
static void apply_asks_no_more_than_it_must(void **state)
{
	(void)state;
	good(SEVEN);
	assert_int_equal(t.sys.changes, 3);
}

static void apply_sets_what_others_changed(void **state)
{
	(void)state;
	good(SEVEN);
	t.k->is[0][3].vlan = 7;
	t.k->sets = 0;
	good(SEVEN);
	is_seven();
	assert_int_equal(done.vfs, 1);
	assert_int_equal(t.k->sets, 1);
	assert_string_equal(told, "0000:01:00.0 (eth1): VF 3: vlan 100\n");
}

static void apply_another_number_goes_through_0(void **state)
{
	(void)state;
	good("pf eth1 vfs 4\nvf all vlan 5");
	t.k->numvfs_writes = 0;
	good(SEVEN);
	assert_int_equal(t.k->numvfs_writes, 2);
	is_seven();
	good("pf eth1 vfs 0");
	assert_int_equal(number(), 0);
	assert_null(kept());
	nothing_to_do("pf eth1 vfs 0");
}

static void apply_refuses_while_one_is_in_use(void **state)
{
	(void)state;
	good(SEVEN);
	claim(2, "web", VF_CLAIMED);
	assert_int_equal(apply("pf eth1 vfs 4", 0), -EBUSY);
	assert_non_null(strstr(why.text, "VF 2 (0000:01:10.4): web"));
	assert_int_equal(number(), 7);
	nothing_to_do(SEVEN); /* what is kept has not changed either */
	claim(2, "", VF_FREE);
	good("pf eth1 vfs 4");
	assert_int_equal(number(), 4);
}

static void apply_refuses_while_somebody_works_on_one(void **state)
{
	struct json_object *before, *after;
	struct vf_record r;

	(void)state;
	good(SEVEN);
	before = kept();
	assert_int_equal(vf_record_open(&t.sys, vf_tree_vf(pf1, 6), 0, &r, &why), 0);
	assert_int_equal(apply("pf eth1 vfs 4", 0), -EBUSY);
	assert_int_equal(number(), 7);
	after = kept();
	assert_true(json_object_equal(before, after)); /* it is not declared either */
	json_object_put(before);
	json_object_put(after);
	vf_record_close(&r);
}

static void apply_forgets_quarantine_of_vfs_that_are_gone(void **state)
{
	struct vf_record r;

	(void)state;
	good(SEVEN);
	claim(1, "web", VF_QUARANTINED);
	good("pf eth1 vfs 4");
	assert_int_equal(number(), 4);
	assert_int_equal(vf_record_read(&t.sys, vf_tree_vf(pf1, 1), &r), -ENOENT);
}

static void apply_reports_refusals_and_keeps_the_rest(void **state)
{
	struct json_object *o;

	(void)state;
	t.k->refuse[VF_MIN_RATE] = -EINVAL;
	t.k->refuse[VF_LINK] = -EOPNOTSUPP;
	strcpy(t.k->refuse_text, "not here");
	assert_int_equal(apply(SEVEN, 0), -EREMOTEIO);
	assert_string_equal(why.text, "14 settings were refused; the rest is done");
	assert_int_equal(done.nrefused, 14);
	assert_int_equal(done.refused[0].keys, 1 << VF_MIN_RATE);
	assert_int_equal(done.refused[1].keys, 1 << VF_LINK);
	assert_int_equal(done.refused[1].index, 0);
	assert_non_null(strstr(done.refused[1].why.text, "not here"));
	for (unsigned i = 0; i < 7; i++) {
		const struct vf_settings *v = &t.k->is[0][i];

		assert_int_equal(v->max_rate, 100);
		assert_int_equal(v->min_rate, 0);
		assert_int_equal(v->vlan, 100);
		assert_true(v->trust);
		assert_true(v->rss_query);
	}
	o = vf_applied_json(&done);
	assert_non_null(strstr(json_object_to_json_string(o), "\"refused\": [ { \"pf\": \"0000:01:00.0\", \"vf\": 0, \"settings\": [ \"min_rate\" ], \"why\":"));
	json_object_put(o);
	t.k->refuse[VF_MIN_RATE] = t.k->refuse[VF_LINK] = 0;
	good(SEVEN); /* the next one tries again */
	is_seven();
}

static void apply_undoes_settings(void **state)
{
	struct vf_tree_kernel before;
	struct json_object *was, *is;

	(void)state;
	good("pf eth1 vfs 7\nvf all vlan 5 trust on\nvf 2 mac 02:00:00:00:00:02");
	was = kept();
	before = *t.k;
	t.k->refuse[VF_LINK] = -EOPNOTSUPP;
	assert_int_equal(apply(SEVEN, VF_APPLY_UNDO), -EREMOTEIO);
	assert_true(done.undone);
	assert_non_null(strstr(why.text, "everything is as it was before"));
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(vf_settings_differ(&before.is[0][i], &t.k->is[0][i]), 0);
	is = kept();
	assert_true(json_object_equal(was, is));
	json_object_put(was);
	json_object_put(is);
}

static void apply_undoes_the_number(void **state)
{
	(void)state;
	good("pf eth1 vfs 3\nvf all vlan 5 trust on");
	good("pf eth2 vfs 2");
	t.k->refuse[VF_LINK] = -EOPNOTSUPP;
	assert_int_equal(apply("pf eth2 vfs 5\nvf all vlan 9\n" SEVEN, VF_APPLY_UNDO), -EREMOTEIO);
	assert_true(done.undone);
	assert_int_equal(number(), 3);
	assert_int_equal(t.k->num[1], 2);
	assert_int_equal(t.k->is[0][2].vlan, 5);
	assert_true(t.k->is[0][2].trust);
	t.k->refuse[VF_LINK] = 0;
	nothing_to_do("pf eth1 vfs 3\nvf all vlan 5 trust on\npf eth2 vfs 2");
}

static void apply_undoes_all_of_what_was_new(void **state)
{
	(void)state;
	t.k->refuse[VF_LINK] = -EOPNOTSUPP;
	assert_int_equal(apply(SEVEN, VF_APPLY_UNDO), -EREMOTEIO);
	assert_int_equal(number(), 0);
	assert_null(kept());
}

static void apply_a_device_that_makes_none(void **state)
{
	(void)state;
	good("pf eth1 vfs 3\nvf all vlan 5");
	t.k->fault = (struct vf_tree_fault){ -ENOMEM, 1, PF "/sriov_numvfs" };
	assert_int_equal(apply("pf eth1 vfs 7", 0), -ENOMEM); /* not even taken away */
	assert_int_equal(number(), 3);
	nothing_to_do("pf eth1 vfs 3\nvf all vlan 5");
	good("pf eth1 vfs 0");
	t.k->fault = (struct vf_tree_fault){ -ENOMEM, 1, PF "/sriov_numvfs" };
	assert_int_equal(apply("pf eth1 vfs 7\nvf all vlan 6\npf eth2 vfs 1", 0), -EREMOTEIO);
	assert_int_equal(done.refused[0].index, -1);
	assert_non_null(strstr(done.refused[0].why.text, "pci=realloc"));
	assert_int_equal(t.k->num[1], 1); /* the rest is done */
	good("pf eth1 vfs 7\nvf all vlan 6");
	assert_int_equal(t.k->is[0][6].vlan, 6);
}

/* As igb: with the number its link goes, and while that is away it takes no rate. */
static void *link_returns(void *arg)
{
	(void)arg;
	usleep(20000);
	t.k->refuse[VF_MAX_RATE] = 0;
	vf_tree_put(&t, "1\n", "/sys/bus/pci/devices/" PF "/net/eth1/carrier");
	return NULL;
}

static pthread_t returning;

static int write_takes_link(struct vf_sys *s, const char *path, const char *text)
{
	int rc = vf_tree_ops.write(s, path, text);

	if (rc == 0 && strstr(path, "sriov_numvfs")) {
		t.k->refuse[VF_MAX_RATE] = -EINVAL;
		vf_tree_put(&t, "0\n", "/sys/bus/pci/devices/" PF "/net/eth1/carrier");
		assert_int_equal(pthread_create(&returning, NULL, link_returns, NULL), 0);
	}
	return rc;
}

static void apply_waits_for_the_link(void **state)
{
	struct vf_sys_ops ops = vf_tree_ops;

	(void)state;
	ops.write = write_takes_link;
	t.sys.ops = &ops;
	good(SEVEN);
	pthread_join(returning, NULL);
	is_seven();
	assert_int_equal(done.nrefused, 0);
}

static int64_t autoprobe(void)
{
	int64_t n = -1;

	vf_pci_number(&t.sys, pf1, "sriov_drivers_autoprobe", &n);
	return n;
}

static void apply_autoprobe_before_the_number(void **state)
{
	const char *const off = "pf eth1 vfs 2 autoprobe off\nvf all vlan 5";

	(void)state;
	good(off);
	assert_int_equal(autoprobe(), 0);
	assert_false(vf_pci_has(&t.sys, vf_tree_vf(pf1, 1), "driver"));
	nothing_to_do(off);
	good("pf eth1 vfs 2\nvf all vlan 5"); /* it does not say */
	assert_int_equal(autoprobe(), 0);
	t.k->refuse[VF_LINK] = -EOPNOTSUPP;
	assert_int_equal(apply("pf eth1 vfs 3 autoprobe on\nvf all link up", VF_APPLY_UNDO), -EREMOTEIO);
	assert_int_equal(autoprobe(), 0);
	assert_int_equal(number(), 2);
	good("pf eth1 vfs 2 autoprobe on\nvf all vlan 5");
	assert_int_equal(autoprobe(), 1);
}

static void apply_one_at_a_time(void **state)
{
	int lock = vf_apply_lock(&t.sys, 0, &why);

	(void)state;
	assert_true(lock >= 0);
	assert_int_equal(apply(SEVEN, 0), -EBUSY);
	close(lock);
	good(SEVEN);
}

/* A damaged file of what is kept is no reason not to apply. */
static void apply_writes_a_damaged_file_anew(void **state)
{
	(void)state;
	good(SEVEN);
	vf_tree_put(&t, "{ \"called\"", "/var/lib/pvio/vf/pf-" PF ".json");
	good(SEVEN);
	nothing_to_do(SEVEN);
}

/* The n-th change of applying `to` over `from` is its process' last. False: it had fewer. */
static bool killed_at(unsigned n, const char *from, const char *to)
{
	pid_t pid;
	int status;

	good(from);
	pid = fork();
	if (!pid) {
		t.sys.changes = 0;
		t.sys.kill_at = n;
		_exit(apply(to, 0) < 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		assert_int_equal(WEXITSTATUS(status), 0);
	return WIFSIGNALED(status);
}

static void killed(const char *from, const char *to, unsigned least)
{
	unsigned n = 1;

	for (; killed_at(n, from, to); n++) {
		good(to);
		is_seven();
		nothing_to_do(to);
	}
	is_seven();
	assert_in_range(n, least + 1, 1000);
}

static void apply_killed_at_each_step_is_done_by_the_next(void **state)
{
	(void)state;
	killed("pf eth1 vfs 0", SEVEN, 3); /* kept, number, settings */
	killed("pf eth1 vfs 4\nvf all vlan 7", SEVEN, 4); /* ... and to 0 */
	killed("pf eth1 vfs 7\nvf all vlan 7", SEVEN, 2);
}

static void apply_killed_among_refusals_is_done_by_the_next(void **state)
{
	unsigned n;

	(void)state;
	t.k->refuse[VF_LINK] = -EOPNOTSUPP; /* then each setting is a request of its own */
	for (n = 1; n < 12; n++) {
		pid_t pid;
		int status;

		good("pf eth1 vfs 0");
		pid = fork();
		if (!pid) {
			t.sys.changes = 0;
			t.sys.kill_at = n;
			_exit(apply(SEVEN, 0) < 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(apply(SEVEN, 0), -EREMOTEIO);
		assert_int_equal(done.nrefused, 7);
		for (unsigned i = 0; i < 7; i++)
			assert_int_equal(t.k->is[0][i].max_rate, 100);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(apply_makes_vfs_and_sets_them),
		TEST(apply_asks_no_more_than_it_must),
		TEST(apply_sets_what_others_changed),
		TEST(apply_another_number_goes_through_0),
		TEST(apply_refuses_while_one_is_in_use),
		TEST(apply_refuses_while_somebody_works_on_one),
		TEST(apply_forgets_quarantine_of_vfs_that_are_gone),
		TEST(apply_reports_refusals_and_keeps_the_rest),
		TEST(apply_undoes_settings),
		TEST(apply_undoes_the_number),
		TEST(apply_undoes_all_of_what_was_new),
		TEST(apply_a_device_that_makes_none),
		TEST(apply_waits_for_the_link),
		TEST(apply_autoprobe_before_the_number),
		TEST(apply_one_at_a_time),
		TEST(apply_writes_a_damaged_file_anew),
		TEST(apply_killed_at_each_step_is_done_by_the_next),
		TEST(apply_killed_among_refusals_is_done_by_the_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
