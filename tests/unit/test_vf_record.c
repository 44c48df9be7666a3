/* test_vf_record.c - records survive the process that wrote them, locks do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>
#include "vf_tree.h"

static const struct vf_bdf pf = { 0, 1, 0, 0 }, vf0 = { 0, 1, 0x10, 0 }, vf1 = { 0, 1, 0x10, 2 };
static struct vf_tree t;

static int up(void **state)
{
	(void)state;
	vf_tree_up(&t);
	vf_tree_pf(&t, (struct vf_tree_pf){ .bdf = "0000:01:00.0", .netdev = "eth1", .total = 7, .group = 20 });
	assert_int_equal(vf_pci_write(&t.sys, pf, "sriov_numvfs", "7"), 0);
	return 0;
}

static int down(void **state)
{
	(void)state;
	vf_tree_down(&t);
	return 0;
}

static void record_open_of_a_free_one(void **state)
{
	struct vf_record r;

	(void)state;
	assert_int_equal(vf_record_read(&t.sys, vf1, &r), -ENOENT);
	assert_int_equal(vf_record_open(&t.sys, vf1, 0, &r, NULL), 0);
	assert_int_equal(r.state, VF_FREE);
	assert_true(vf_bdf_equal(r.pf, pf));
	assert_int_equal(r.index, 1);
	assert_int_equal(r.domid, -1);
	vf_record_close(&r);
}

static void record_save_is_read_again(void **state)
{
	struct vf_record r, again;

	(void)state;
	assert_int_equal(vf_record_open(&t.sys, vf1, 0, &r, NULL), 0);
	snprintf(r.owner, sizeof(r.owner), "web");
	snprintf(r.driver, sizeof(r.driver), "pciback");
	snprintf(r.driver_before, sizeof(r.driver_before), "igbvf");
	r.domid = 5;
	assert_int_equal(vf_settings_parse(&r.settings, VF_MAC, "02:00:00:00:00:01", NULL), 0);
	assert_int_equal(vf_settings_parse(&r.settings, VF_TRUST, "on", NULL), 0);
	r.more = json_tokener_parse("{\"xen\": {\"pirq\": 55}}");
	assert_int_equal(vf_record_step(&t.sys, &r, VF_ASSIGNING, "iomem"), 0);
	vf_record_close(&r);
	assert_int_equal(vf_record_read(&t.sys, vf1, &again), 0);
	assert_int_equal(again.state, VF_ASSIGNING);
	assert_string_equal(again.step, "iomem");
	assert_string_equal(again.owner, "web");
	assert_string_equal(again.driver_before, "igbvf");
	assert_int_equal(again.domid, 5);
	assert_int_equal(again.settings.set, 1 << VF_MAC | 1 << VF_TRUST);
	assert_int_equal(again.settings.mac[5], 1);
	assert_true(again.settings.trust);
	assert_non_null(strstr(json_object_to_json_string(again.more), "55"));
	assert_false(vf_record_stale(&t.sys, &again));
	assert_int_equal(vf_record_save(&t.sys, &again), -EPERM);
	vf_record_close(&again);
	vf_tree_put(&t, "another boot\n", "/proc/sys/kernel/random/boot_id");
	assert_true(vf_record_stale(&t.sys, &again));
}

static void record_save_of_a_free_one_removes_it(void **state)
{
	struct vf_record r;
	struct vf_bdf *all;

	(void)state;
	assert_int_equal(vf_record_open(&t.sys, vf1, 0, &r, NULL), 0);
	assert_int_equal(vf_record_step(&t.sys, &r, VF_CLAIMED, NULL), 0);
	assert_int_equal(vf_record_list(&t.sys, &all), 1);
	assert_true(vf_bdf_equal(all[0], vf1));
	free(all);
	assert_int_equal(vf_record_step(&t.sys, &r, VF_FREE, NULL), 0);
	vf_record_close(&r);
	assert_int_equal(vf_record_list(&t.sys, &all), 0);
	free(all);
}

static void record_read_of_a_damaged_one(void **state)
{
	static const char *const bad[] = { "", "{", "[]", "{}", "{\"vf\": \"0000:01:10.2\", \"pf\": \"0000:01:00.0\", \"state\": \"lent\"}",
		"{\"vf\": \"0000:01:10.0\", \"pf\": \"0000:01:00.0\", \"state\": \"claimed\"}" /* another VF's */,
		"{\"vf\": \"0000:01:10.2\", \"pf\": \"0000:01:00.0\", \"state\": \"claimed\", \"settings\": {\"vlan\": 5000}}" };
	struct vf_record r;
	struct vf_why why;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		vf_tree_put(&t, bad[i], "/var/lib/pvio/vf/vf-0000:01:10.2.json");
		assert_int_equal(vf_record_read(&t.sys, vf1, &r), -EBADMSG);
		assert_int_equal(vf_record_open(&t.sys, vf1, 0, &r, &why), -EBADMSG);
		assert_non_null(strstr(why.text, "0000:01:10.2"));
	}
}

/* In a process of its own: take the record to `state`, and be killed after the n-th change, or stay. */
static pid_t other(unsigned kill_at, enum vf_state to, bool stay)
{
	pid_t pid = fork();
	struct vf_record r;

	if (pid)
		return pid;
	t.sys.kill_at = t.sys.changes + kill_at;
	if (vf_record_open(&t.sys, vf0, 0, &r, NULL) < 0 || vf_record_step(&t.sys, &r, to, "bind") < 0)
		_exit(1);
	while (stay)
		pause();
	_exit(0);
}

static void wait_for_record(void)
{
	struct vf_record r;

	while (vf_record_read(&t.sys, vf0, &r) < 0)
		usleep(1000);
}

static void record_open_of_one_that_another_works_on(void **state)
{
	pid_t pid = other(0, VF_CLAIMING, true);
	char number[16];
	struct vf_record r;
	struct vf_why why;

	(void)state;
	wait_for_record();
	assert_int_equal(vf_record_open(&t.sys, vf0, 20, &r, &why), -EBUSY);
	snprintf(number, sizeof(number), "pid %d)", pid);
	assert_non_null(strstr(why.text, number));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(vf_record_open(&t.sys, vf0, 0, &r, &why), 0);
	assert_int_equal(r.state, VF_CLAIMING);
	vf_record_close(&r);
}

static int undo(struct vf_sys *s, struct vf_record *r, void *arg, struct vf_why *why)
{
	(void)why;
	++*(int *)arg;
	assert_string_equal(r->step, "bind");
	return vf_record_step(s, r, VF_FREE, NULL);
}

static void recover_undoes_what_a_killed_process_left(void **state)
{
	int status, undone = 0;
	struct vf_record r;

	(void)state;
	waitpid(other(1, VF_CLAIMING, false), &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(vf_recover(&t.sys, undo, &undone, NULL), 1);
	assert_int_equal(undone, 1);
	assert_int_equal(vf_record_read(&t.sys, vf0, &r), -ENOENT);
	assert_int_equal(vf_recover(&t.sys, undo, &undone, NULL), 0);
}

static void recover_leaves_what_somebody_works_on_or_has(void **state)
{
	pid_t pid;
	int undone = 0;

	(void)state;
	waitpid(other(0, VF_CLAIMED, false), NULL, 0);
	assert_int_equal(vf_recover(&t.sys, undo, &undone, NULL), 0);
	pid = other(0, VF_RELEASING, true);
	for (struct vf_record r = { 0 }; r.state != VF_RELEASING; usleep(1000))
		vf_record_read(&t.sys, vf0, &r);
	assert_int_equal(vf_recover(&t.sys, undo, &undone, NULL), 0);
	assert_int_equal(undone, 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(record_open_of_a_free_one, up, down),
		cmocka_unit_test_setup_teardown(record_save_is_read_again, up, down),
		cmocka_unit_test_setup_teardown(record_save_of_a_free_one_removes_it, up, down),
		cmocka_unit_test_setup_teardown(record_read_of_a_damaged_one, up, down),
		cmocka_unit_test_setup_teardown(record_open_of_one_that_another_works_on, up, down),
		cmocka_unit_test_setup_teardown(recover_undoes_what_a_killed_process_left, up, down),
		cmocka_unit_test_setup_teardown(recover_leaves_what_somebody_works_on_or_has, up, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
