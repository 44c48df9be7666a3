/* image_lock.c - an image is one process' to write, and no late write of a process that was killed comes after the lock was had.
 *
 * It is flock's lock, on the very open file description that io_uring uses: the kernel lets go of it only when the last request on that has
 * ended, also long after the process was killed. (fcntl's F_SETLK goes with the process, and so too early.) */
#include "image.h"
#include <errno.h>
#include <pvio/log.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* The process that locked the file, as the kernel remembers it, even if that has ended; 0: it does not say. */
static int holder(int fd)
{
	unsigned long ino;
	unsigned major, minor;
	char line[200];
	struct stat st;
	int pid = 0, at;
	FILE *in = fstat(fd, &st) == 0 ? fopen("/proc/locks", "re") : NULL;

	while (in && !pid && fgets(line, sizeof(line), in))
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &at, &major, &minor, &ino) == 4 && ino == st.st_ino &&
		    makedev(major, minor) == st.st_dev)
			pid = at;
	if (in)
		fclose(in);
	return pid;
}

/* Its name, or that it has none any more: it has ended, or is about to. */
static bool lives(int pid, char name[16])
{
	char path[32], state = 'Z';
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	in = fopen(path, "re");
	if (!in)
		return false;
	if (fscanf(in, "%*d (%15[^)]) %c", name, &state) != 2)
		state = 'Z';
	fclose(in);
	return state != 'Z' && state != 'X';
}

int image_lock(int fd, bool shared, const char *path, char *why, size_t len)
{
	char name[16];
	int pid;

	if (flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return pv_why(why, len, -errno, "cannot lock %s: %s", path, strerror(errno));
	pid = holder(fd);
	if (!pid)
		return pv_why(why, len, -EBUSY, "%s is in use: somebody holds its lock (lslocks shows who); detach it there first", path);
	if (!lives(pid, name))
		return pv_why(why, len, -EAGAIN, "%s: what process %d had in flight when it ended is not done yet; wait for its storage", path, pid);
	return pv_why(why, len, -EBUSY, "%s is in use: %s (pid %d) holds its lock; detach it there first", path, name, pid);
}
