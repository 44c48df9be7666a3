/* image_lock.c - an image, or a part of one, is one process' to write, and no late write of a process that was killed comes after the lock was had.
 *
 * Two locks, both of the very open file description that io_uring uses: the kernel lets go of them only when the last request on that has
 * ended, also long after the process was killed. (fcntl's F_SETLK goes with the process, and so too early.) flock's is of the whole file, alone or
 * shared, and the kernel remembers who took it. That of F_OFD_SETLK is of a range: disks that are parts of one device share the first and have ranges
 * of their own. Who has all of a file locks the range of all of it, so that QEMU, which looks at such locks alone, keeps away. */
#include "image.h"
#include <errno.h>
#include <fcntl.h>
#include <pvio/log.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Does the process live? If so, its name. */
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

/* A process that locked the file, as the kernel remembers it: one that has ended, or is about to, if there is such a one, else another than this one if
 * there is (0: unknown). */
static int holder(int fd, char name[16], bool *alive)
{
	unsigned long ino;
	unsigned major, minor;
	char line[200];
	struct stat st;
	int pid = 0, at;
	FILE *in = fstat(fd, &st) == 0 ? fopen("/proc/locks", "re") : NULL;

	*alive = true;
	while (in && *alive && fgets(line, sizeof(line), in)) {
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &at, &major, &minor, &ino) != 4 || ino != st.st_ino ||
		    makedev(major, minor) != st.st_dev || (pid && at == getpid()))
			continue;
		pid = at;
		*alive = lives(pid, name);
	}
	if (in)
		fclose(in);
	return pid;
}

static int refused(int fd, int error, const char *path, char *why, size_t len)
{
	char name[16];
	bool alive;
	int pid;

	if (error != EWOULDBLOCK && error != EACCES)
		return pv_why(why, len, -error, "cannot lock %s: %s", path, strerror(error));
	pid = holder(fd, name, &alive);
	if (!pid)
		return pv_why(why, len, -EBUSY, "%s is in use: somebody holds its lock (lslocks shows who); detach it there first", path);
	if (!alive)
		return pv_why(why, len, -EAGAIN, "%s: what process %d had in flight when it ended is not done yet; wait for its storage", path, pid);
	return pv_why(why, len, -EBUSY, "%s is in use: %s (pid %d) holds its lock; detach it there first", path, name, pid);
}

int image_lock_range(int fd, bool shared, uint64_t offset, uint64_t bytes, const char *path, char *why, size_t len)
{
	struct flock range = { .l_type = shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = (off_t)bytes };

	return fcntl(fd, F_OFD_SETLK, &range) == 0 ? 0 : refused(fd, errno, path, why, len);
}

int image_lock(int fd, enum image_lock how, const char *path, char *why, size_t len)
{
	if (flock(fd, (how == IMAGE_LOCK_ALONE ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0)
		return refused(fd, errno, path, why, len);
	return how == IMAGE_LOCK_PARTS ? 0 : image_lock_range(fd, how == IMAGE_LOCK_READ, 0, 0, path, why, len);
}
