/* main.c - pvio-blkback: options, workers, and the control loop. */
#include "blkback.h"
#include <errno.h>
#include <linux/capability.h>
#include <poll.h>
#include <pvio/options.h>
#include <pvio/privileges.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { WORKERS_MAX = 64, WORKERS_PRESET_MAX = 4, POLL_US_MAX = 1000000 };

/* Owner: main. */
struct options {
	const char *hypervisor, *name;
	int domid; /* -1: as the host is */
	unsigned pviod; /* enum pv_backend_way */
	unsigned workers; /* 0: one for each of cpus, or one a CPU up to WORKERS_PRESET_MAX */
	struct pv_cpus cpus;
	unsigned poll_us;
	unsigned log;
	bool takeover;
};

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "hypervisor", "SPEC", "xen, loopback or loopback:SOCKET ($PVIO_HYPERVISOR, else what this host is)", pv_option_text, FIELD(hypervisor) },
	{ "domid", "N", "the domain that this runs in (0; on Xen, this one)", pv_option_domid, FIELD(domid) },
	{ "pviod", "HOW", "reach pviod by its socket, or in a driver domain through a pipe (socket)", pv_option_name, FIELD(pviod),
	  .names = pv_backend_ways },
	{ "workers", "N", "data threads (one a CPU, at most 4)", pv_option_number, FIELD(workers), .min = 1, .max = WORKERS_MAX },
	{ "cpus", "LIST", "pin them to these, in turn, such as 0,2-3 (not pinned)", pv_option_cpus, FIELD(cpus) },
	{ "poll-us", "N", "look for the end of I/O so long, at most, and a fifth of it for requests, before sleeping until an event; 0: at once (250)", pv_option_number,
	  FIELD(poll_us), .max = POLL_US_MAX },
	{ "name", "NAME", "this backend's name for pviod (blkback)", pv_option_text, FIELD(name) },
	{ "takeover", NULL, "when ready, have pviod end the pvio-blkback of the same name, and serve its devices", FIELD(takeover) },
	{ "log", "LEVEL", "err, warn, info or debug (info)", pv_option_name, FIELD(log), .names = pv_log_names },
	{ NULL },
};

static const struct pv_program program = {
	.name = "pvio-blkback",
	.usage = "[OPTION]...",
	.about = "Serve disks to guests: blkif rings on one side, a raw file or block device through io_uring on the other.\n"
		 "It waits for pviod (PVIO_RUNDIR, else /run/pvio; or a pipe) to say which.",
	.options = table,
	.more_help = vbd_config_help,
};

static int workers_start(const struct options *o, int broken_fd, struct blkworker **workers)
{
	struct blkworker_options w = { .hypervisor = o->hypervisor, .domid = o->domid, .poll_us = o->poll_us, .broken_fd = broken_fd };
	char why[256];

	for (unsigned i = 0; i < o->workers; i++) {
		int ret;

		w.cpu = o->cpus.nr ? o->cpus.cpu[i % o->cpus.nr] : -1;
		ret = blkworker_start(i, &w, &workers[i], why, sizeof(why));
		if (ret < 0) {
			pv_log(PV_LOG_ERR, "cannot start: %s", why);
			return ret;
		}
	}
	return 0;
}

/* Returns 0: told to end, or -errno. */
static int loop(struct vbds *vbds, struct pv_backend *backend, struct blkworker *const *workers, unsigned n, int signals, int broken)
{
	struct pollfd p[3] = { { .fd = signals, .events = POLLIN }, { .fd = broken, .events = POLLIN } };
	uint64_t count;

	for (;;) {
		p[2] = (struct pollfd){ .fd = pv_backend_fd(backend), .events = pv_backend_events(backend) };
		if (poll(p, 3, pv_backend_timeout(backend)) < 0 && errno != EINTR)
			return -errno;
		if (p[0].revents)
			return 0;
		if (p[1].revents && read(broken, &count, sizeof(count)) > 0)
			vbds_report_broken(vbds, backend);
		for (unsigned i = 0; p[1].revents && i < n; i++)
			if (blkworker_ended(workers[i])) {
				pv_log(PV_LOG_ERR, "the hypervisor is gone; nobody can be served");
				return -ESHUTDOWN;
			}
		pv_backend_work(backend);
		if (pv_backend_retired(backend))
			return 0;
	}
}

static int serve(const struct options *o, struct blkworker **workers, int signals, int broken)
{
	struct pv_backend *backend = NULL;
	struct vbds *vbds = NULL;
	char path[108], why[300];
	unsigned busy;
	int ret = workers_start(o, broken, workers);

	if (ret < 0)
		return ret;
	if (snprintf(path, sizeof(path), "%s/pviod.sock", pv_rundir()) >= (int)sizeof(path))
		ret = -ENAMETOOLONG;
	if (ret == 0 && o->takeover) {
		ret = pv_backend_take_over(path, vbd_ops.kind, o->name, why, sizeof(why));
		if (ret < 0)
			pv_log(PV_LOG_ERR, "cannot take over: %s", why);
	}
	if (ret == 0)
		ret = vbds_new(workers, o->workers, &vbds);
	if (ret == 0)
		ret = pv_backend_new(path, o->name, &vbd_ops, vbds, &backend);
	if (ret == 0)
		ret = pv_backend_reach(backend, o->pviod, o->hypervisor, o->domid);
	if (ret < 0) {
		pv_log(PV_LOG_ERR, "cannot serve pviod at %s: %s", path, strerror(-ret));
	} else {
		fprintf(stderr, "pvio-blkback: ready\n");
		ret = loop(vbds, backend, workers, o->workers, signals, broken);
	}
	busy = vbds_free(vbds);
	pv_backend_free(backend); /* last: pviod takes the end of the connection for the end of us */
	if (busy || image_slow_busy()) /* not under the threads' feet */
		_exit(ret < 0);
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

static unsigned preset_workers(const struct options *o)
{
	long n = o->cpus.nr ? (long)o->cpus.nr : sysconf(_SC_NPROCESSORS_ONLN);
	long max = o->cpus.nr ? WORKERS_MAX : WORKERS_PRESET_MAX;

	return n < 1 ? 1 : n > max ? max : n;
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
	struct options o = { .domid = -1, .name = "blkback", .poll_us = 250, .log = PV_LOG_INFO };
	struct blkworker *workers[WORKERS_MAX] = { NULL };
	int signals, broken, ret = pv_options_parse(&program, argc, argv, &o);

	if (ret >= 0)
		return ret;
	pv_log_open(program.name, o.log);
	if (o.domid < 0 && pv_hyper_needs_domid(o.hypervisor))
		o.domid = 0;
	if (!o.workers)
		o.workers = preset_workers(&o);
	raise_limits();
	pv_privileges_keep((const int[]){ CAP_DAC_OVERRIDE, -1 }); /* an image may be another user's */
	signals = signals_open();
	broken = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (signals < 0 || broken < 0) {
		pv_log(PV_LOG_ERR, "cannot start: %s", strerror(errno));
		return 1;
	}
	ret = serve(&o, workers, signals, broken);
	for (unsigned i = 0; i < o.workers; i++)
		blkworker_stop(workers[i]);
	close(signals);
	close(broken);
	return ret < 0;
}
