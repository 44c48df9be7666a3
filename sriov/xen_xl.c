/* xen_xl.c - guests of xl get and give back their virtual functions by xl: libxl keeps books of what it assigned, in XenStore, by which Linux'
 * pciback and the guest's device model find it, and by which `xl destroy` takes it back. */
#include "xen.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { XL_MS = 60000, SAID_MAX = 400 };

static int start(const char *const argv[], int *out, pid_t *pid)
{
	posix_spawn_file_actions_t files;
	int p[2], rc;

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, p[1], 1);
	posix_spawn_file_actions_adddup2(&files, p[1], 2);
	rc = posix_spawnp(pid, argv[0], &files, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&files);
	close(p[1]);
	if (rc)
		close(p[0]);
	*out = p[0];
	return -rc;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

/* What it says until it ends: the beginning. Returns 0, or -ETIMEDOUT: it does not end. */
static int listen_to(int fd, char said[SAID_MAX])
{
	int64_t until = now_ms() + XL_MS;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t n = 0;
	char rest[256];

	for (;;) {
		int64_t left = until - now_ms();
		bool full = n == SAID_MAX - 1;
		ssize_t got;

		if (left <= 0 || poll(&p, 1, (int)left) == 0)
			return -ETIMEDOUT;
		got = read(fd, full ? rest : said + n, full ? sizeof(rest) : SAID_MAX - 1 - n);
		if (got <= 0)
			break;
		n += full ? 0 : (size_t)got;
	}
	said[n] = '\0';
	return 0;
}

/* On one line. */
static void flatten(char *said)
{
	size_t n = strlen(said);

	while (n && strchr(" \n\t", said[n - 1]))
		said[--n] = '\0';
	for (char *c = said; *c; c++)
		if (*c == '\n' || *c == '\t')
			*c = ' ';
}

int vf_xl(struct vf_xen *x, bool attach, uint16_t domid, const char *bdf, struct vf_why *why)
{
	const char *verb = attach ? "pci-attach" : "pci-detach";
	char number[8], said[SAID_MAX] = "";
	const char *const argv[] = { "xl", verb, number, bdf, NULL };
	int out = -1, status = 0, rc;
	pid_t pid;

	(void)x;
	snprintf(number, sizeof(number), "%u", domid);
	rc = start(argv, &out, &pid);
	if (rc < 0)
		return vf_fail(why, rc, "VF %s: cannot run xl, whose guest domain %u is: %s", bdf, domid, strerror(-rc));
	rc = listen_to(out, said);
	close(out);
	if (rc < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	flatten(said);
	if (rc < 0)
		return vf_fail(why, rc, "VF %s: `xl %s %u %s` has not ended after %d s; `xl pci-list %u` says what it did", bdf, verb, domid, bdf,
			       XL_MS / 1000, domid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return vf_fail(why, -EIO, "VF %s: `xl %s %u %s` failed: %s", bdf, verb, domid, bdf, said);
	return 0;
}
