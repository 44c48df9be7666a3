/* cmd_console.c - pvio guest console: this terminal as the guest's. */
#include "pvio.h"
#include <errno.h>
#include <poll.h>
#include <pvio/rpc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { LEAVE = 0x1d /* Ctrl-] */, CHUNK = 4096 };

static struct termios before; /* of the terminal: restored however this process ends */
static volatile sig_atomic_t raw;

static void restore(void)
{
	if (raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
	raw = 0;
}

static void on_signal(int sig)
{
	restore();
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Each key goes to the guest as it is, Ctrl-C too; what the guest says is not changed either. */
static void make_raw(void)
{
	struct sigaction end = { .sa_handler = on_signal };
	struct termios t;

	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return;
	t = before;
	cfmakeraw(&t);
	raw = 1;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &t);
	atexit(restore);
	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGHUP, &end, NULL);
}

static bool put(int fd, const char *buf, ssize_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, buf, n);

		if (done < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			poll(&p, 1, -1);
		} else if (done < 0 && errno != EINTR) {
			return false;
		} else if (done > 0) {
			buf += done;
			n -= done;
		}
	}
	return true;
}

/* What was typed. Returns false if it is time to leave; *in is -1 when there is no more to come. */
static bool type(int fd, int *in)
{
	char buf[CHUNK];
	ssize_t n = read(*in, buf, sizeof(buf));
	char *leave = n > 0 && raw ? memchr(buf, LEAVE, n) : NULL;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (n <= 0) {
		*in = -1; /* go on showing what the guest says */
		return true;
	}
	if (leave)
		n = leave - buf;
	return put(fd, buf, n) && !leave;
}

/* Returns when the guest's console has ended (true), or was left. */
static bool copy(int fd, int in)
{
	char buf[CHUNK];

	for (;;) {
		struct pollfd p[] = { { .fd = fd, .events = POLLIN }, { .fd = in, .events = POLLIN } };
		ssize_t n;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return true;
		if (p[1].revents && !type(fd, &in))
			return false;
		if (!p[0].revents)
			continue;
		n = read(fd, buf, sizeof(buf));
		if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
			return true;
		if (n > 0 && !put(STDOUT_FILENO, buf, n))
			return false;
	}
}

/* Where the console of a guest is served. Returns 0 or an exit code after a message. */
static int find(struct pvio *p, char *path, size_t len)
{
	struct json_object *o, *guests = NULL;
	int rc;

	o = ask(p, "guest.list", json_object_new_object(), 0, &rc);
	if (!o)
		return rc;
	*path = '\0';
	rc = -1;
	json_object_object_get_ex(o, "guests", &guests);
	for (size_t i = 0; i < json_object_array_length(guests) && rc < 0; i++) {
		struct json_object *g = json_object_array_get_idx(guests, i);

		if (strcmp(text_of(g, "name"), p->args[0]) && strcmp(text_of(g, "domid"), p->args[0]))
			continue;
		rc = 0;
		snprintf(path, len, "%s", text_of(g, "console"));
	}
	json_object_put(o);
	if (rc < 0)
		return say_failed(p, "there is no such guest; `pvio guest list` shows those that there are");
	return *path ? 0 : say_failed(p, "it has no console here: pviod serves those of the guests that it has built itself, on Xen");
}

int cmd_guest_console(struct pvio *p)
{
	int in = opt_value(p, "--read") ? -1 : STDIN_FILENO, fd, rc;
	char path[PATH_MAX];
	bool ended;

	rc = find(p, path, sizeof(path));
	if (rc)
		return rc;
	fd = pv_rpc_connect(path);
	if (fd < 0)
		return say_failed(p, "cannot connect to %s: %s", path, strerror(-fd));
	signal(SIGPIPE, SIG_IGN);
	if (in >= 0 && isatty(in)) {
		fprintf(stderr, "the console of %s; Ctrl-] leaves it\n", p->args[0]);
		make_raw();
	}
	ended = copy(fd, in);
	close(fd);
	if (raw)
		fprintf(stderr, "\r\n%s\r\n", ended ? "the console has ended" : "left the console");
	restore();
	return EXIT_DONE;
}
