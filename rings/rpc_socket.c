/* rpc_socket.c - where rpc connections come from: sockets of daemons, and a command's single question. See rpc.h. */
#include "rpc.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 128 };

/* ---- sockets ---- */

static int unix_socket(const char *path, struct sockaddr_un *sa)
{
	int fd;

	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(sa->sun_path))
		return -ENAMETOOLONG;
	strcpy(sa->sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

int pv_rpc_connect(const char *path)
{
	struct sockaddr_un sa;
	int fd = unix_socket(path, &sa), ret;

	if (fd < 0)
		return fd;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

/* Bind, in place of a socket file that nobody serves any more. The caller holds the folder's lock. */
static int bind_path(int fd, const struct sockaddr_un *sa)
{
	struct stat st;
	int probe;

	if (bind(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	probe = pv_rpc_connect(sa->sun_path);
	if (probe >= 0)
		close(probe);
	if (probe != -ECONNREFUSED || lstat(sa->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	if (unlink(sa->sun_path) < 0 || bind(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0)
		return -errno;
	return 0;
}

/* A lock on the folder of path, so that of two starting servers only one replaces a dead socket. Returns its descriptor. */
static int folder_lock(const char *path)
{
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	const char *slash = strrchr(path, '/');
	int fd, ret;

	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while ((ret = flock(fd, LOCK_EX) < 0 ? -errno : 0) == -EINTR)
		;
	if (ret < 0) {
		close(fd);
		return ret;
	}
	return fd;
}

int pv_rpc_listen(const char *path)
{
	struct sockaddr_un sa;
	int fd = unix_socket(path, &sa), lock, ret;

	if (fd < 0)
		return fd;
	lock = folder_lock(path);
	if (lock < 0) {
		close(fd);
		return lock;
	}
	ret = fchmod(fd, 0600) < 0 ? -errno : 0; /* before bind: the file never has another mode */
	if (!ret)
		ret = bind_path(fd, &sa);
	if (!ret && listen(fd, BACKLOG) < 0)
		ret = -errno;
	close(lock);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	return fd;
}

/* ---- for a command ---- */

struct ask { /* on the stack of pv_rpc_ask */
	bool done;
	int code;
	struct json_object *result;
	char *why;
	size_t len;
};

static void ask_done(void *arg, int code, const char *message, struct json_object *result)
{
	struct ask *a = arg;

	a->done = true;
	a->code = code;
	a->result = json_object_get(result);
	if (code)
		snprintf(a->why, a->len, "%s", message);
}

static void ask_call(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	(void)ctx, (void)params;
	pv_rpc_fail(rpc, id, PV_RPC_NO_METHOD, "%s: a command takes no calls", method);
}

static void ask_closed(void *ctx, struct pv_rpc *rpc, int err)
{
	(void)ctx, (void)rpc, (void)err; /* ask_done was told */
}

static const struct pv_rpc_ops ask_ops = { .call = ask_call, .closed = ask_closed };

static void ask_connect_why(const char *path, int err, char *why, size_t len)
{
	if (err == -ENOENT)
		snprintf(why, len, "pviod does not run (no socket at %s); start pviod, or set PVIO_RUNDIR", path);
	else if (err == -ECONNREFUSED)
		snprintf(why, len, "pviod does not run (nobody serves %s); start pviod", path);
	else if (err == -EACCES || err == -EPERM)
		snprintf(why, len, "may not talk to pviod at %s: run this as its user (root)", path);
	else if (err == -EAGAIN)
		snprintf(why, len, "pviod does not accept connections at %s: it is overloaded or stopped", path);
	else
		snprintf(why, len, "cannot connect to pviod at %s: %s", path, strerror(-err));
}

/* A full backlog is no failure yet: try until the deadline. */
static int ask_connect(const char *path, int64_t deadline)
{
	int fd;

	while ((fd = pv_rpc_connect(path)) == -EAGAIN && pv_rpc_now_ms() < deadline)
		poll(NULL, 0, 5);
	return fd;
}

static void ask_wait(struct pv_rpc *rpc, struct ask *a)
{
	while (!a->done) {
		struct pollfd p = { .fd = pv_rpc_fd(rpc), .events = pv_rpc_events(rpc) };

		if (poll(&p, 1, pv_rpc_deadline(rpc)) > 0)
			pv_rpc_work(rpc);
		pv_rpc_expire(rpc);
	}
}

int pv_rpc_ask(const char *path, const char *method, struct json_object *params, int timeout_ms,
	       struct json_object **result, char *why, size_t len)
{
	struct ask a = { .why = why, .len = len };
	struct pv_rpc *rpc = NULL;
	int fd = ask_connect(path, pv_rpc_now_ms() + timeout_ms), ret = fd;

	*result = NULL;
	if (fd < 0) {
		ask_connect_why(path, fd, why, len);
		json_object_put(params);
		return fd;
	}
	ret = pv_rpc_new(fd, &ask_ops, NULL, &rpc);
	if (ret < 0) {
		close(fd);
		json_object_put(params);
	} else {
		ret = pv_rpc_call(rpc, method, params, timeout_ms, ask_done, &a);
	}
	if (ret < 0) {
		snprintf(why, len, "cannot ask pviod for %s: %s", method, strerror(-ret));
		pv_rpc_free(rpc);
		return ret;
	}
	ask_wait(rpc, &a);
	pv_rpc_free(rpc);
	if (a.code == -ETIMEDOUT)
		snprintf(why, len, "pviod did not answer %s within %d ms", method, timeout_ms);
	else if (a.code == -ECONNRESET)
		snprintf(why, len, "pviod closed the connection during %s; its log says why", method);
	*result = a.result;
	return a.code;
}
