/* loopback.h - for tests: a hub in a child process, on a socket in a directory of its own. */
#ifndef PV_TEST_LOOPBACK_H
#define PV_TEST_LOOPBACK_H

#include <pvio/hub.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char lb_dir[64], lb_sock[96], lb_spec[112];
static pid_t lb_pid;
static struct pv_hub *lb_hub; /* in the child */

static void lb_stop(int sig)
{
	(void)sig;
	pv_hub_stop(lb_hub);
}

/* Start a hub; `in_child` may prepare its process. Its directory is the PVIO_RUNDIR from here on. */
static void lb_up(const struct pv_hub_limits *limits, void (*in_child)(void))
{
	int ready[2];
	char ok = 0;

	strcpy(lb_dir, "/tmp/pvio-test-XXXXXX");
	assert_non_null(mkdtemp(lb_dir));
	snprintf(lb_sock, sizeof(lb_sock), "%s/hub.sock", lb_dir);
	snprintf(lb_spec, sizeof(lb_spec), "loopback:%s", lb_sock);
	setenv("PVIO_RUNDIR", lb_dir, 1);
	assert_int_equal(pipe(ready), 0);
	lb_pid = fork();
	if (!lb_pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGTERM, lb_stop);
		if (pv_hub_open(lb_sock, limits, &lb_hub))
			_exit(1);
		if (in_child)
			in_child();
		if (write(ready[1], "r", 1) != 1)
			_exit(1);
		close(ready[0]);
		close(ready[1]);
		int err = pv_hub_run(lb_hub);

		pv_hub_close(lb_hub);
		exit(err ? 1 : 0); /* with the leak check of a sanitizer */
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &ok, 1), 1);
	close(ready[0]);
}

/* End it: it must have survived whatever the test did. */
static void lb_down(void)
{
	int status;

	kill(lb_pid, SIGTERM);
	assert_int_equal(waitpid(lb_pid, &status, 0), lb_pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_not_equal(access(lb_sock, F_OK), 0);
	assert_int_equal(rmdir(lb_dir), 0);
}

static struct pv_hyper *lb_open(int domid)
{
	char why[200] = "";
	struct pv_hyper *h;

	if (pv_hyper_open(lb_spec, domid, &h, why, sizeof(why)))
		fail_msg("%s", why);
	return h;
}

static int __attribute__((unused)) lb_guest(struct pv_hyper *dom0, unsigned domid)
{
	uint32_t port;
	int d = pv_hub_domain_create(dom0, domid, &port);

	assert_true(d > 0);
	return d;
}

#endif
