/* cmd_capture.c - pvio capture: what passes a vif, from its backend into a file or pipe.
 *
 * We listen, pviod has the backend connect to us, and what comes is a pcapng file already. It is passed on in whole blocks. */
#include "pvio.h"
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pvio/rpc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PACKET = 6, STATISTICS = 5, DROPPED = 5 /* an option of these */, BLOCK_MAX = 1 << 17, CONNECT_MS = 5000, SNAPLEN_MAX = 262144 };

struct capture {
	struct pvio *p;
	const char *file;
	int from, to, signals;
	bool piped; /* `to` is a pipe: when its reader ends, so do we */
	bool whole; /* the last block came */
	uint64_t packets, dropped;
	size_t held;
	uint8_t buf[2 * BLOCK_MAX];
};

static uint32_t word(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

/* The totals at the end: which packets are missing. */
static void take_totals(struct capture *c, const uint8_t *block, uint32_t len)
{
	for (uint32_t at = 20; at + 8 <= len - 4;) {
		uint32_t code = word(block + at) & 0xffff, n = word(block + at) >> 16;

		if (code == DROPPED && at + 12 <= len)
			c->dropped = word(block + at + 4) | (uint64_t)word(block + at + 8) << 32;
		at += 4 + (n + 3) / 4 * 4;
	}
	c->whole = true;
}

/* The length of the whole blocks that are held, or -EPROTO. */
static ssize_t take_blocks(struct capture *c)
{
	size_t at = 0;

	while (c->held - at >= 12) {
		const uint8_t *block = c->buf + at;
		uint32_t len = word(block + 4);

		if (len < 12 || len % 4 || len > BLOCK_MAX)
			return -EPROTO;
		if (len > c->held - at)
			break;
		c->packets += word(block) == PACKET;
		if (word(block) == STATISTICS)
			take_totals(c, block, len);
		at += len;
	}
	return (ssize_t)at;
}

/* Returns 0, 1: nobody reads on, or -errno. */
static int write_all(struct capture *c, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t done = write(c->to, p, n);

		if (done < 0 && errno == EPIPE && c->piped)
			return 1;
		if (done < 0 && errno != EINTR)
			return -errno;
		if (done > 0) {
			p += done;
			n -= (size_t)done;
		}
	}
	return 0;
}

/* Pass on what came. Returns 0 to go on, 1: that was all, or an exit code after a message, negative. */
static int pass_on(struct capture *c)
{
	ssize_t n = read(c->from, c->buf + c->held, sizeof(c->buf) - c->held), len;
	int rc;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return c->whole ? 1 : -say_failed(c->p, "the backend ended: %s has what came before", c->file);
	c->held += (size_t)n;
	len = take_blocks(c);
	if (len < 0)
		return -say_failed(c->p, "what the backend sends is no pcapng; is it as new as pvio?");
	rc = write_all(c, c->buf, (size_t)len);
	if (rc < 0)
		return -say_failed(c->p, "cannot write to %s: %s", c->file, strerror(-rc));
	memmove(c->buf, c->buf + len, c->held - (size_t)len);
	c->held -= (size_t)len;
	return rc;
}

/* Until the backend has sent all, which the first signal asks it to; the second does not wait for that. */
static int follow(struct capture *c)
{
	bool asked = false;
	int rc = 0;

	while (rc == 0) {
		struct pollfd p[2] = { { .fd = c->from, .events = POLLIN }, { .fd = c->signals, .events = POLLIN } };
		struct signalfd_siginfo info;

		poll(p, 2, -1);
		if (p[1].revents && read(c->signals, &info, sizeof(info)) > 0) {
			rc = asked;
			asked = true;
			shutdown(c->from, SHUT_WR);
		}
		if (p[0].revents && rc == 0)
			rc = pass_on(c);
	}
	if (rc < 0)
		return -rc;
	fprintf(stderr, "pvio: %s: %llu packets, %llu more came too fast to be written\n", c->p->what, (unsigned long long)c->packets,
		(unsigned long long)c->dropped);
	return EXIT_DONE;
}

static int open_output(struct capture *c)
{
	struct stat st;

	if (strcmp(c->file, "-")) {
		c->to = open(c->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600); /* it holds what others said to each other */
		return c->to >= 0 ? 0 : say_failed(c->p, "cannot write to %s: %s", c->file, strerror(errno));
	}
	c->to = STDOUT_FILENO;
	c->file = "standard output";
	c->piped = fstat(c->to, &st) == 0 && !S_ISREG(st.st_mode);
	return isatty(c->to) ? say_failed(c->p, "standard output is a terminal; give a file, or pipe it into tshark -r -") : 0;
}

/* Which vif is meant, in pviod's words: "web/vif0" into name. */
static int name_vif(struct pvio *p, char *name, size_t len)
{
	int rc;
	struct json_object *devices = ask_devices(p, "list", p->args[0], p->args[1], &rc), *d;

	if (!devices)
		return rc;
	d = json_object_array_get_idx(devices, 0);
	if (strcmp(text_of(d, "type"), "vif"))
		rc = say_failed(p, "%s is a %s: only vifs have packets to capture", p->args[1], text_of(d, "type"));
	snprintf(name, len, "%s/vif%s", text_of(d, "guest"), text_of(d, "name"));
	json_object_put(devices);
	return rc;
}

static struct json_object *wishes(struct pvio *p, const char *path, const char *name)
{
	struct json_object *o = json_object_new_object(), *params = json_object_new_object();
	const char *direction = opt_value(p, "--direction");
	long snaplen = opt_number(p, "--snaplen", SNAPLEN_MAX, 1, SNAPLEN_MAX), count = opt_number(p, "--count", 0, 1, LONG_MAX);

	json_object_object_add(params, "path", json_object_new_string(path));
	json_object_object_add(params, "name", json_object_new_string(name));
	json_object_object_add(params, "direction", json_object_new_string(direction ? direction : "both"));
	json_object_object_add(params, "snaplen", json_object_new_int64(snaplen));
	json_object_object_add(params, "count", json_object_new_int64(count));
	json_object_object_add(o, "guest", json_object_new_string(p->args[0]));
	json_object_object_add(o, "device", json_object_new_string(p->args[1]));
	json_object_object_add(o, "what", json_object_new_string("capture"));
	json_object_object_add(o, "params", params);
	if (snaplen >= 0 && count >= 0)
		return o;
	json_object_put(o);
	return NULL;
}

/* Have the backend connect to us. Returns 0 with c->from, or an exit code after a message. */
static int connect_backend(struct capture *c, const char *name)
{
	struct json_object *params, *o;
	struct pollfd p = { .events = POLLIN };
	char path[PATH_MAX + 40];
	int rc;

	snprintf(path, sizeof(path), "%s/capture.%d.sock", c->p->dir, (int)getpid());
	params = wishes(c->p, path, name);
	if (!params)
		return EXIT_USAGE;
	p.fd = pv_rpc_listen(path);
	if (p.fd < 0) {
		json_object_put(params);
		return say_failed(c->p, "cannot listen at %s: %s", path, strerror(-p.fd));
	}
	o = ask(c->p, "ask", params, 0, &rc);
	if (o)
		rc = poll(&p, 1, CONNECT_MS) == 1 && (c->from = accept4(p.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0 ? 0 :
		     say_failed(c->p, "the backend does not connect to %s", path);
	json_object_put(o);
	unlink(path);
	close(p.fd);
	return rc;
}

static int signals_open(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

int cmd_capture(struct pvio *p)
{
	static struct capture c;
	char name[160];
	int rc;

	c = (struct capture){ .p = p, .file = opt_value(p, "-w"), .from = -1, .to = -1, .signals = signals_open() };
	if (!c.file)
		return say_usage(p, "-w FILE is missing; - is standard output, for tshark -r - or such");
	rc = name_vif(p, name, sizeof(name));
	if (!rc)
		rc = connect_backend(&c, name);
	if (!rc)
		rc = open_output(&c); /* a file that is there stays as it is if nothing can be captured */
	if (!rc) {
		fprintf(stderr, "pvio: %s: capturing; Ctrl-C ends it\n", p->what);
		rc = follow(&c);
	}
	if (c.to >= 0 && c.to != STDOUT_FILENO && close(c.to) < 0 && !rc)
		rc = say_failed(p, "cannot write to %s: %s", c.file, strerror(errno));
	if (c.from >= 0)
		close(c.from);
	close(c.signals);
	return rc;
}
