/* main.c - pvio-blkback: options, workers, and the control loop. */
#include "blkback.h"
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { WORKERS_MAX = 64, WORKERS_PRESET_MAX = 4 };

struct options {
	struct blkworker_options worker;
	const char *name;
	unsigned workers; /* 0: one a CPU, up to WORKERS_PRESET_MAX */
	int cpu[WORKERS_MAX];
	unsigned cpus;
};

/* ---- options ---- */

static bool number(const char *text, unsigned min, unsigned max, unsigned *out)
{
	unsigned long n;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || *end || n < min || n > max)
		return false;
	*out = n;
	return true;
}

static bool opt_hypervisor(struct options *o, const char *value)
{
	o->worker.hypervisor = value;
	return true;
}

static bool opt_domid(struct options *o, const char *value)
{
	unsigned n = 0;
	bool ok = number(value, 0, 0x7fef, &n);

	o->worker.domid = n;
	return ok;
}

static bool opt_workers(struct options *o, const char *value)
{
	return number(value, 1, WORKERS_MAX, &o->workers);
}

/* "0,2-3" */
static bool opt_cpus(struct options *o, const char *value)
{
	char copy[256], *rest = copy, *item;

	if (snprintf(copy, sizeof(copy), "%s", value) >= (int)sizeof(copy))
		return false;
	while ((item = strsep(&rest, ","))) {
		char *dash = strchr(item, '-');
		unsigned first, last;

		if (dash)
			*dash = 0;
		if (!number(item, 0, CPU_SETSIZE - 1, &first) || !number(dash ? dash + 1 : item, first, CPU_SETSIZE - 1, &last))
			return false;
		for (; first <= last && o->cpus < WORKERS_MAX; first++)
			o->cpu[o->cpus++] = first;
	}
	return true;
}

static bool opt_poll(struct options *o, const char *value)
{
	return number(value, 0, 1000000, &o->worker.poll_us);
}

static bool opt_name(struct options *o, const char *value)
{
	o->name = value;
	return *value != 0;
}

static bool opt_log(struct options *o, const char *value)
{
	(void)o;
	return blklog_set(value) == 0;
}

static const struct option {
	const char *name, *value, *help;
	bool (*set)(struct options *o, const char *value);
} table[] = {
	{ "hypervisor", "SPEC", "loopback, loopback:SOCKET or xen ($PVIO_HYPERVISOR, else what this host is)", opt_hypervisor },
	{ "domid", "N", "the domain that this runs in (0)", opt_domid },
	{ "workers", "N", "data threads (one a CPU, at most 4)", opt_workers },
	{ "cpus", "LIST", "pin them to these, in turn, such as 0,2-3 (not pinned)", opt_cpus },
	{ "poll-us", "N", "look for requests so long after the last one before asking for an event; 0: ask at once (50)", opt_poll },
	{ "name", "NAME", "this backend's name for pviod (blkback)", opt_name },
	{ "log", "LEVEL", "err, warn, info or debug (info)", opt_log },
};
enum { OPTIONS = sizeof(table) / sizeof(table[0]) };

static int help(void)
{
	char left[40];

	printf("Usage: pvio-blkback [OPTION]...\n"
	       "Serve disks to guests: blkif rings on one side, a raw file or block device through io_uring on the other.\n"
	       "It waits for pviod (PVIO_RUNDIR, else /run/pvio) to say which.\n\nOptions:\n");
	for (unsigned i = 0; i < OPTIONS; i++) {
		snprintf(left, sizeof(left), "--%s %s", table[i].name, table[i].value);
		printf("  %-24s %s\n", left, table[i].help);
	}
	printf("  %-24s %s\n  %-24s %s\n\nKeys of a vbd (pvio attach GUEST vbd NAME key=value...):\n", "--help", "this", "--version", "the version");
	vbd_config_help(stdout);
	return 0;
}

static int wrong(const char *what, const char *arg)
{
	fprintf(stderr, "pvio-blkback: %s %s; pvio-blkback --help lists the options\n", what, arg);
	return 2;
}

static const struct option *option_of(const char *arg, size_t len)
{
	for (unsigned i = 0; i < OPTIONS; i++)
		if (strlen(table[i].name) == len && !strncmp(table[i].name, arg, len))
			return &table[i];
	return NULL;
}

/* Returns -1 to go on, or the exit code. */
static int parse(struct options *o, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i], *value = strchr(arg, '=');
		const struct option *opt;

		if (!strcmp(arg, "--help"))
			return help();
		if (!strcmp(arg, "--version"))
			return printf("pvio-blkback " PVIO_VERSION "\n") < 0;
		opt = strncmp(arg, "--", 2) ? NULL : option_of(arg + 2, value ? (size_t)(value - arg - 2) : strlen(arg + 2));
		if (!opt)
			return wrong("unknown option", arg);
		if (value)
			value++;
		else if (++i < argc)
			value = argv[i];
		else
			return wrong("a value is missing after", arg);
		if (!opt->set(o, value))
			return wrong("not a possible value:", arg);
	}
	return -1;
}

/* ---- running ---- */

static int workers_start(struct options *o, struct blkworker **workers)
{
	char why[256];

	for (unsigned i = 0; i < o->workers; i++) {
		int ret;

		o->worker.cpu = o->cpus ? o->cpu[i % o->cpus] : -1;
		ret = blkworker_start(i, &o->worker, &workers[i], why, sizeof(why));
		if (ret < 0) {
			blklog(BLKLOG_ERR, "cannot start: %s", why);
			return ret;
		}
	}
	return 0;
}

static void loop(struct vbds *vbds, struct pv_backend *backend, int signals, int broken)
{
	struct pollfd p[3] = { { .fd = signals, .events = POLLIN }, { .fd = broken, .events = POLLIN } };
	uint64_t count;

	for (;;) {
		p[2] = (struct pollfd){ .fd = pv_backend_fd(backend), .events = pv_backend_events(backend) };
		if (poll(p, 3, pv_backend_timeout(backend)) < 0 && errno != EINTR)
			return;
		if (p[0].revents)
			return;
		if (p[1].revents && read(broken, &count, sizeof(count)) > 0)
			vbds_report_broken(vbds, backend);
		pv_backend_work(backend);
	}
}

static int serve(struct options *o, struct blkworker **workers, int signals)
{
	const char *dir = getenv("PVIO_RUNDIR");
	struct pv_backend *backend = NULL;
	struct vbds *vbds = NULL;
	char path[108];
	int ret = workers_start(o, workers);

	if (ret < 0)
		return ret;
	if (snprintf(path, sizeof(path), "%s/pviod.sock", dir && *dir ? dir : "/run/pvio") >= (int)sizeof(path))
		ret = -ENAMETOOLONG;
	if (ret == 0)
		ret = vbds_new(workers, o->workers, &vbds);
	if (ret == 0)
		ret = pv_backend_new(path, o->name, &vbd_ops, vbds, &backend);
	if (ret < 0) {
		blklog(BLKLOG_ERR, "cannot serve pviod at %s: %s", path, strerror(-ret));
	} else {
		fprintf(stderr, "pvio-blkback: ready\n");
		loop(vbds, backend, signals, o->worker.broken_fd);
	}
	pv_backend_free(backend);
	vbds_free(vbds);
	return ret;
}

/* Guests' pages, ports and images take descriptors: as many as we may have. */
static void raise_limits(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

static unsigned preset_workers(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > WORKERS_PRESET_MAX ? WORKERS_PRESET_MAX : n;
}

static int signals_open(void)
{
	sigset_t end;

	signal(SIGPIPE, SIG_IGN); /* write says EPIPE */
	signal(SIGXFSZ, SIG_IGN); /* and EFBIG */
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigaddset(&end, SIGINT);
	sigprocmask(SIG_BLOCK, &end, NULL);
	return signalfd(-1, &end, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv)
{
	struct options o = { .worker = { .poll_us = 50 }, .name = "blkback" };
	struct blkworker *workers[WORKERS_MAX] = { NULL };
	int signals, ret = parse(&o, argc, argv);

	if (ret >= 0)
		return ret;
	if (!o.workers)
		o.workers = o.cpus ? o.cpus : preset_workers();
	raise_limits();
	signals = signals_open();
	o.worker.broken_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (signals < 0 || o.worker.broken_fd < 0) {
		blklog(BLKLOG_ERR, "cannot start: %s", strerror(errno));
		return 1;
	}
	ret = serve(&o, workers, signals);
	for (unsigned i = 0; i < o.workers; i++)
		blkworker_stop(workers[i]);
	close(signals);
	close(o.worker.broken_fd);
	return ret < 0;
}
