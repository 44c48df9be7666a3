/* xenstored.h - for tests: Debian's xenstored in a child process, on a socket in a directory of its own, without Xen
 * (perf/xenstored_shim.c). Where it is not installed, the test is skipped. */
#ifndef PV_TEST_XENSTORED_H
#define PV_TEST_XENSTORED_H

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define XSD_PROGRAM "/usr/lib/xen-4.17/bin/xenstored"

static char xsd_dir[64], xsd_sock[96];
static pid_t xsd_pid;

static const char *xsd_program(void)
{
	const char *other = getenv("XENSTORED");

	return other ? other : XSD_PROGRAM;
}

/* For main(): skips the whole test. */
static void xsd_need(void)
{
	if (access(xsd_program(), X_OK) == 0)
		return;
	printf("SKIP need=xenstored: %s is not there; xen-utils-4.17 has it, or XENSTORED= names one\n", xsd_program());
	exit(77);
}

static void xsd_exec(const char *shim, const char *pages)
{
	int log = open("/dev/null", O_WRONLY);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(log, 1);
	dup2(log, 2);
	setenv("LD_PRELOAD", shim, 1);
	setenv("XENSTORED_RUNDIR", xsd_dir, 1);
	setenv("PERF_STORE_PAGES", pages, 1);
	execl(xsd_program(), xsd_program(), "--no-fork", "--pid-file", "/dev/null", NULL);
	_exit(127);
}

/* Start it; $XENSTORED_PATH says where it is from here on. */
static void xsd_up(void)
{
	char self[PATH_MAX], shim[PATH_MAX + 32], pages[96];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int fd;

	assert_true(n > 0);
	self[n] = '\0';
	for (int up = 0; up < 3; up++) /* BUILD/tests/unit/test_x */
		*strrchr(self, '/') = '\0';
	snprintf(shim, sizeof(shim), "%s/perf/xenstored_shim.so", self);
	if (access(shim, R_OK))
		fail_msg("%s is missing: make perf", shim);
	strcpy(xsd_dir, "/tmp/pvio-store-XXXXXX");
	assert_non_null(mkdtemp(xsd_dir));
	snprintf(xsd_sock, sizeof(xsd_sock), "%s/socket", xsd_dir);
	snprintf(pages, sizeof(pages), "%s/pages", xsd_dir);
	fd = open(pages, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 64 * 4096), 0);
	close(fd);
	setenv("XENSTORED_PATH", xsd_sock, 1);
	xsd_pid = fork();
	if (xsd_pid == 0)
		xsd_exec(shim, pages);
	for (int i = 0; i < 1000 && access(xsd_sock, F_OK); i++)
		usleep(10000);
	assert_int_equal(access(xsd_sock, F_OK), 0);
}

static void xsd_kill(void)
{
	if (xsd_pid <= 0)
		return;
	kill(xsd_pid, SIGKILL);
	assert_int_equal(waitpid(xsd_pid, NULL, 0), xsd_pid);
	xsd_pid = 0;
}

static void xsd_down(void)
{
	char cmd[96];

	xsd_kill();
	unsetenv("XENSTORED_PATH");
	snprintf(cmd, sizeof(cmd), "rm -rf %s", xsd_dir);
	assert_int_equal(system(cmd), 0);
}

#endif
