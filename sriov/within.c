/* within.c - a write to sysfs with a time limit: a driver's probe, the wait for whoever uses a device, or a reset may not come back.
 *
 * Such a write cannot be interrupted, so a process of its own does it. If it is late it is left behind, and keeps nothing of ours but the
 * VF's lock: until the write is over, whatever became of us, nobody else begins anything with this VF.
 */
#include "sriov.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

static void write_and_end(struct vf_sys *s, int lock, const char *path, const char *text)
{
	int rc = dup2(lock, STDIN_FILENO);

	close_range(rc < 0 ? STDIN_FILENO : STDIN_FILENO + 1, ~0U, 0);
	s->kill_at = 0; /* whoever waits for this counts it */
	rc = vf_sys_write(s, text, "%s", path);
	_exit(rc < 0 ? -rc : 0);
}

/* The child's own result: 0 or -errno; -ETIMEDOUT: it is not done. */
static int result_within(pid_t child, unsigned ms)
{
	struct pollfd ended = { .fd = pidfd_open(child, 0), .events = POLLIN };
	int status, n;

	if (ended.fd < 0)
		return -errno;
	do
		n = poll(&ended, 1, ms);
	while (n < 0 && errno == EINTR);
	close(ended.fd);
	if (n == 0) {
		kill(child, SIGKILL); /* it may be one of those that can be */
		return -ETIMEDOUT;
	}
	if (waitpid(child, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

int vf_sys_write_within(struct vf_sys *s, int lock, unsigned ms, const char *text, const char *fmt, ...)
{
	char path[VF_PATH_MAX];
	va_list ap;
	pid_t child;
	int rc;

	va_start(ap, fmt);
	rc = vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	if (rc < 0 || rc >= (int)sizeof(path))
		return -ENAMETOOLONG;
	child = fork();
	if (child < 0)
		return -errno;
	if (child == 0)
		write_and_end(s, lock, path, text);
	rc = result_within(child, ms);
	if (rc == 0)
		vf_sys_changed(s);
	return rc;
}
