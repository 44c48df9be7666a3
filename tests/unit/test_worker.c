/* test_worker.c - calls run on the worker's thread, between turns; ends of all kinds. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <pvio/worker.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

struct job { /* the worker's own, touched by its thread alone while it runs */
	uint64_t turns;
	pthread_t thread;
	char name[16];
	cpu_set_t cpus;
	sigset_t blocked;
	unsigned left; /* turns before it ends by itself, 0: it does not */
	bool sleeps; /* on the mailbox */
	bool said_again; /* poll went on saying stop */
	uint64_t wakeups;
	int calls;
};

static void body(void *arg, struct pv_worker *w)
{
	struct job *j = arg;

	j->thread = pthread_self();
	pthread_getname_np(pthread_self(), j->name, sizeof(j->name));
	pthread_getaffinity_np(pthread_self(), sizeof(j->cpus), &j->cpus);
	pthread_sigmask(SIG_SETMASK, NULL, &j->blocked);
	while (!pv_worker_poll(w)) {
		if (j->left && --j->left == 0)
			return;
		j->turns++;
		if (j->sleeps) {
			poll(&(struct pollfd){ .fd = pv_worker_fd(w), .events = POLLIN }, 1, -1);
			j->wakeups++;
		} else {
			sched_yield();
		}
	}
	j->said_again = pv_worker_poll(w) == 1;
}

static int add_call(void *arg)
{
	struct job *j = arg;

	j->turns++; /* a race, unless this runs on the worker: for TSan */
	assert_true(pthread_equal(j->thread, pthread_self()));
	return ++j->calls;
}

static void call_runs_on_the_worker_and_returns_its_result(void **state)
{
	struct job j = { 0 };
	struct pv_worker *w;

	(void)state;
	assert_int_equal(pv_worker_start(&w, "busy", -1, body, &j), 0);
	for (int i = 1; i <= 300; i++)
		assert_int_equal(pv_worker_call(w, add_call, &j), i);
	pv_worker_stop(w);
	assert_int_equal(j.calls, 300);
	assert_true(j.said_again);
}

static void call_wakes_a_worker_that_sleeps(void **state)
{
	struct job j = { .sleeps = true };
	struct pv_worker *w;

	(void)state;
	assert_int_equal(pv_worker_start(&w, "asleep", -1, body, &j), 0);
	for (int i = 1; i <= 300; i++)
		assert_int_equal(pv_worker_call(w, add_call, &j), i);
	pv_worker_stop(w);
	assert_in_range(j.wakeups, 1, 301); /* never for nothing: the descriptor is drained with each call */
}

static int fail_call(void *arg)
{
	(void)arg;
	return -ENOSPC;
}

static void call_passes_errors_on(void **state)
{
	struct job j = { 0 };
	struct pv_worker *w;

	(void)state;
	assert_int_equal(pv_worker_start(&w, "busy", -1, body, &j), 0);
	assert_int_equal(pv_worker_call(w, fail_call, NULL), -ENOSPC);
	pv_worker_stop(w);
}

static void call_of_a_worker_that_has_ended_fails(void **state)
{
	struct pv_worker *w;

	(void)state;
	for (unsigned left = 1; left < 40; left++) { /* before, while and after the call is made */
		struct job j = { .left = left };
		int ret, want = 1;

		assert_int_equal(pv_worker_start(&w, "short", -1, body, &j), 0);
		while ((ret = pv_worker_call(w, add_call, &j)) == want)
			want++;
		assert_int_equal(ret, -ESHUTDOWN);
		assert_int_equal(pv_worker_call(w, add_call, &j), -ESHUTDOWN);
		pv_worker_stop(w);
		assert_int_equal(j.calls, want - 1);
	}
}

static void stop_ends_a_worker_in_any_state(void **state)
{
	struct pv_worker *w;

	(void)state;
	pv_worker_stop(NULL);
	for (int i = 0; i < 50; i++) {
		struct job j = { .sleeps = i & 1, .left = i & 2 ? 5 : 0 };

		j.left = j.sleeps ? 0 : j.left;
		assert_int_equal(pv_worker_start(&w, "w", -1, body, &j), 0);
		pv_worker_stop(w);
	}
}

static void start_names_and_pins(void **state)
{
	struct job j = { 0 };
	struct pv_worker *w;
	cpu_set_t mine;
	int cpu = 0;

	(void)state;
	sched_getaffinity(0, sizeof(mine), &mine);
	while (!CPU_ISSET(cpu, &mine))
		cpu++;
	assert_int_equal(pv_worker_start(&w, "a-name-that-is-too-long", cpu, body, &j), 0);
	assert_int_equal(pv_worker_call(w, add_call, &j), 1);
	pv_worker_stop(w);
	assert_string_equal(j.name, "a-name-that-is-");
	assert_int_equal(CPU_COUNT(&j.cpus), 1);
	assert_true(CPU_ISSET(cpu, &j.cpus));
	assert_true(sigismember(&j.blocked, SIGTERM)); /* signals are the control thread's */
	pthread_sigmask(SIG_SETMASK, NULL, &j.blocked);
	assert_false(sigismember(&j.blocked, SIGTERM));
}

static void start_refuses_cpus_that_are_not_there(void **state)
{
	struct job j = { 0 };
	struct pv_worker *w;

	(void)state;
	assert_int_equal(pv_worker_start(&w, "w", CPU_SETSIZE - 1, body, &j), -EINVAL);
	assert_null(w);
	assert_int_equal(pv_worker_start(&w, "w", CPU_SETSIZE, body, &j), -EINVAL);
	assert_null(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(call_runs_on_the_worker_and_returns_its_result),
		cmocka_unit_test(call_wakes_a_worker_that_sleeps),
		cmocka_unit_test(call_passes_errors_on),
		cmocka_unit_test(call_of_a_worker_that_has_ended_fails),
		cmocka_unit_test(stop_ends_a_worker_in_any_state),
		cmocka_unit_test(start_names_and_pins),
		cmocka_unit_test(start_refuses_cpus_that_are_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
