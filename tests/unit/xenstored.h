/* xenstored.h - for tests: Debian's xenstored in a child process, on a socket in a directory of its own, without Xen
 * (perf/xenstored_shim.c). Where it is not installed, the test is skipped. */
#ifndef PV_TEST_XENSTORED_H
#define PV_TEST_XENSTORED_H

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define XSD_PROGRAM "/usr/lib/xen-4.17/bin/xenstored"

static char xsd_dir[64], xsd_sock[96], xsd_program[PATH_MAX], xsd_unpacked[64];
static pid_t xsd_pid, xsd_owner;

static void xsd_forget(void)
{
	char cmd[96];

	if (getpid() != xsd_owner) /* a child that ends */
		return;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", xsd_unpacked);
	if (system(cmd))
		printf("%s stays\n", xsd_unpacked);
}

/* Out of the package that the lab of tests/xen has downloaded; the tests run at the root of the tree. */
static bool xsd_unpack(void)
{
	char cmd[256];

	strcpy(xsd_unpacked, "/tmp/pvio-xenstored-XXXXXX");
	if (!mkdtemp(xsd_unpacked))
		return false;
	xsd_owner = getpid();
	atexit(xsd_forget);
	snprintf(cmd, sizeof(cmd), "dpkg-deb --fsys-tarfile ${XEN_CACHE:-build/xen/cache}/debs/xen-utils-4.17_*.deb 2>/dev/null | tar -x -C %s .%s 2>/dev/null",
		 xsd_unpacked, XSD_PROGRAM);
	snprintf(xsd_program, sizeof(xsd_program), "%s%s", xsd_unpacked, XSD_PROGRAM);
	return system(cmd) == 0 && access(xsd_program, X_OK) == 0;
}

/* For main(): skips the whole test. */
static void xsd_need(void)
{
	strcpy(xsd_program, XSD_PROGRAM);
	if (access(xsd_program, X_OK) == 0 || xsd_unpack())
		return;
	printf("SKIP need=xenstored: neither %s nor its package in build/xen/cache/debs is there (tests/xen/image, or apt-get install xen-utils-4.17)\n",
	       XSD_PROGRAM);
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
	execl(xsd_program, xsd_program, "--no-fork", "--pid-file", "/dev/null", NULL);
	_exit(127);
}

static bool xsd_answers(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", xsd_sock);
	yes = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
	close(fd);
	return yes;
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
	for (int i = 0; i < 2000 && !xsd_answers(); i++)
		usleep(10000);
	assert_true(xsd_answers());
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
