/* attach.c - from the attach call to both devices connected: one vif and one vbd, with N guests there already.
 *
 * This process is the toolstack: it talks to pviod through libpvtool and measures. A second one is the guest under measurement: it waits
 * for its devices to be announced and connects them with netfront and blkfront. A third is the N guests that are there already: each
 * has a vif and a vbd connected (or only announced, beyond --connected), with rings but without traffic.
 *
 * Needs a pviod with both backends, and a directory for the guests' disks (--images; 1 MiB sparse files, removed at the end).
 * Prints "ready" when the N guests are there; then each line of stdin is one measurement, answered by one line of JSON.
 */
#include "raw.h"
#include "../dom0-tools/libpvtool.h"
#include <fcntl.h>
#include <pvio/blkfront.h>
#include <pvio/netfront.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { TIMEOUT_MS = 30000, SETTLE_US = 2000, IMAGE_BYTES = 1 << 20, XVDA = 51712 };

struct options {
	const char *hypervisor, *images;
	unsigned guests, connected;
	bool once;
};

/* Two pipes to a child: a domid goes to it, a letter comes back. */
struct child {
	pid_t pid;
	int to, from;
};

static struct options o;

/* ---- the children ---- */

static void tell(int fd, char what)
{
	if (write(fd, &what, 1) != 1)
		_exit(1);
}

static int next_domid(int fd)
{
	uint16_t domid;

	return read(fd, &domid, sizeof(domid)) == sizeof(domid) ? domid : -1;
}

static void wait_fd(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (poll(&p, 1, TIMEOUT_MS) == 0)
		perf_die("a device does not connect");
}

static struct pv_netfront *connect_vif(int domid)
{
	struct pv_netfront_config c = { .wait_ms = TIMEOUT_MS };
	struct pv_netfront *f;
	char why[256];

	if (pv_netfront_open(o.hypervisor, domid, &c, &f, why, sizeof(why)) < 0)
		perf_die("%s", why);
	while (pv_netfront_state(f) != XenbusStateConnected) {
		wait_fd(pv_netfront_fd(f));
		if (pv_netfront_work(f) < 0)
			perf_die("vif 0 of domain %d does not connect", domid);
	}
	return f;
}

static struct pv_blkfront *connect_vbd(int domid)
{
	struct pv_blkfront_config c = { .devid = XVDA, .wait_ms = TIMEOUT_MS };
	struct pv_blkfront *f;
	char why[256];

	if (pv_blkfront_open(o.hypervisor, domid, &c, &f, why, sizeof(why)) < 0)
		perf_die("%s", why);
	while (pv_blkfront_state(f) != XenbusStateConnected) {
		wait_fd(pv_blkfront_fd(f));
		if (pv_blkfront_work(f) < 0)
			perf_die("xvda of domain %d does not connect", domid);
	}
	return f;
}

/* A guest after the other: "w" when it waits for its vif, "c" for each device that is connected, "x" when both are closed. */
static void measured_guest(int in, int out)
{
	for (int domid = next_domid(in); domid > 0; domid = next_domid(in)) {
		struct pv_netfront *vif;
		struct pv_blkfront *vbd;

		tell(out, 'w');
		vif = connect_vif(domid);
		tell(out, 'c');
		vbd = connect_vbd(domid);
		tell(out, 'c');
		next_domid(in); /* any: let go */
		pv_blkfront_close(vbd, TIMEOUT_MS);
		pv_netfront_close(vif, TIMEOUT_MS);
		tell(out, 'x');
	}
}

/* Their devices are connected as of guests that have nothing to send yet: rings, but no buffers. */
static void idle_guests(int in, int out)
{
	struct raw *r = calloc((size_t)o.guests * 2, sizeof(*r));
	unsigned n = 0;

	if (!r)
		perf_die("out of memory");
	for (int domid = next_domid(in); domid > 0; domid = next_domid(in)) {
		raw_open(&r[n++], o.hypervisor, domid, PV_NOXS_VIF, 0, false, TIMEOUT_MS);
		raw_open(&r[n++], o.hypervisor, domid, PV_NOXS_VBD, XVDA, false, TIMEOUT_MS);
		tell(out, 'c');
	}
	_exit(0); /* they go as guests do that are destroyed */
}

/* ---- the toolstack ---- */

static struct child start(void (*body)(int in, int out))
{
	int to[2], from[2];
	pid_t parent = getpid();
	struct child c;

	if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0 || (c.pid = fork()) < 0)
		perf_die("cannot start a process: %s", strerror(errno));
	if (c.pid == 0) {
		close(to[1]);
		close(from[0]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			body(to[0], from[1]);
		_exit(0);
	}
	close(to[0]);
	close(from[1]);
	c.to = to[1];
	c.from = from[0];
	return c;
}

static void command(const struct child *c, uint16_t domid)
{
	if (write(c->to, &domid, sizeof(domid)) != sizeof(domid))
		perf_die("a guest's process is gone");
}

static void await(const struct child *c, char want)
{
	struct pollfd p = { .fd = c->from, .events = POLLIN };
	char got = 0;

	if (poll(&p, 1, TIMEOUT_MS) <= 0 || read(c->from, &got, 1) != 1 || got != want)
		perf_die("a guest's process did not get as far as '%c'", want);
}

static void image_path(char *out, size_t len, unsigned domid)
{
	snprintf(out, len, "%s/attach.%u", o.images, domid);
}

static void make_image(unsigned domid)
{
	char path[256];
	int fd;

	image_path(path, sizeof(path), domid);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, IMAGE_BYTES) != 0)
		perf_die("cannot make the disk %s: %s", path, strerror(errno));
	close(fd);
}

static void drop_image(unsigned domid)
{
	char path[256];

	image_path(path, sizeof(path), domid);
	unlink(path);
}

static void attach(struct pv_tool *t, const char *guest, const char *type, unsigned domid, unsigned wait_ms)
{
	char path[300] = "path=";
	const char *config[] = { path, NULL };
	bool vbd = strcmp(type, "vbd") == 0;

	image_path(path + 5, sizeof(path) - 5, domid);
	if (pv_tool_attach(t, guest, type, vbd ? "xvda" : "0", vbd ? config : NULL, wait_ms, NULL) < 0)
		perf_die("attach %s %s: %s", guest, type, pv_tool_error(t));
}

static uint16_t create(struct pv_tool *t, char *name, size_t len, unsigned i)
{
	uint16_t domid;

	snprintf(name, len, "bench%u", i);
	if (pv_tool_guest_create(t, name, 0, &domid) < 0)
		perf_die("guest %s: %s", name, pv_tool_error(t));
	make_image(domid);
	return domid;
}

/* Owner: main. */
struct bench {
	struct pv_tool *t;
	struct child measured, idle;
	unsigned made;
};

static void present_guests(struct bench *b)
{
	char name[32];

	for (b->made = 0; b->made < o.guests; b->made++) {
		uint16_t domid = create(b->t, name, sizeof(name), b->made);

		attach(b->t, name, "vif", domid, 0);
		attach(b->t, name, "vbd", domid, 0);
		if (b->made < o.connected) {
			command(&b->idle, domid);
			await(&b->idle, 'c');
		}
		drop_image(domid); /* the backend has it open */
	}
}

static void measure(void *arg)
{
	struct bench *b = arg;
	char name[32];
	uint16_t domid = create(b->t, name, sizeof(name), b->made++);
	double t0, t1, t2;

	command(&b->measured, domid);
	await(&b->measured, 'w');
	usleep(SETTLE_US);
	t0 = perf_now();
	attach(b->t, name, "vif", domid, TIMEOUT_MS);
	await(&b->measured, 'c');
	t1 = perf_now();
	attach(b->t, name, "vbd", domid, TIMEOUT_MS);
	await(&b->measured, 'c');
	t2 = perf_now();
	printf("{\"us\":%.1f,\"vif_us\":%.1f,\"vbd_us\":%.1f,\"guests_connected\":%u}\n", (t2 - t0) * 1e6, (t1 - t0) * 1e6, (t2 - t1) * 1e6,
	       o.connected < o.guests ? o.connected : o.guests);
	command(&b->measured, domid);
	await(&b->measured, 'x');
	if (pv_tool_guest_destroy(b->t, name, false, TIMEOUT_MS) < 0)
		perf_die("destroy %s: %s", name, pv_tool_error(b->t));
	drop_image(domid);
}

static void end(struct child *c)
{
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
}

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "hypervisor", "SPEC", "xen, loopback, loopback:PATH ($PVIO_HYPERVISOR, else the host's)", pv_option_text, FIELD(hypervisor) },
	{ "images", "DIR", "where to make the disks (/dev/shm)", pv_option_text, FIELD(images) },
	{ "guests", "N", "guests that are there already (0)", pv_option_number, FIELD(guests), .max = 16000 },
	{ "connected", "N", "how many of those have connected their devices (all)", pv_option_number, FIELD(connected), .max = 16000 },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "attach",
	.usage = "[OPTION...]",
	.about = "From attach to Connected, of one vif and one vbd of a new guest: microseconds, as JSON.",
	.options = table,
};

int main(int argc, char **argv)
{
	struct bench b = { 0 };
	char why[256];
	int ret;

	o.images = "/dev/shm";
	o.connected = UINT32_MAX;
	ret = pv_options_parse(&program, argc, argv, &o);
	if (ret >= 0)
		return ret;
	perf_raise_limits();
	b.idle = start(idle_guests);
	b.measured = start(measured_guest);
	if (pv_tool_open(NULL, &b.t, why, sizeof(why)) < 0)
		perf_die("%s", why);
	present_guests(&b);
	perf_serve(o.once, measure, NULL, -1, &b);
	end(&b.measured);
	end(&b.idle);
	for (unsigned i = 0; i < o.guests; i++) {
		char name[32];

		snprintf(name, sizeof(name), "bench%u", i);
		pv_tool_guest_destroy(b.t, name, true, TIMEOUT_MS);
	}
	pv_tool_close(b.t);
	return 0;
}
