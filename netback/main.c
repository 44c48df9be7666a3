/* main.c - pvio-netback: options, and the control thread's loop. */
#include "capture.h"
#include "netback.h"
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pvio/privileges.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define FIELD(member) offsetof(struct nb_options, member)

/* A DEVICE has no '=' before a ',' or ':'. */
static int parse_uplink(const struct pv_option *o, const char *text, void *field)
{
	struct nb_uplinks *u = field;
	size_t n = strcspn(text, "=,:");
	bool named = text[n] == '=';

	(void)o;
	if (u->nr == NB_BRIDGES_MAX || !*text || (named && (!n || n >= NB_BRIDGE_NAME || !text[n + 1])))
		return -EINVAL;
	snprintf(u->at[u->nr].bridge, NB_BRIDGE_NAME, "%.*s", named ? (int)n : 0, text);
	u->at[u->nr++].device = named ? text + n + 1 : text;
	return 0;
}

static int parse_bridge(const struct pv_option *o, const char *text, void *field)
{
	return strlen(text) < NB_BRIDGE_NAME ? pv_option_text(o, text, field) : -EINVAL;
}

static const struct pv_option options[] = {
	{ "hypervisor", "SPEC", "xen, loopback, loopback:PATH; default $PVIO_HYPERVISOR, else the host's",
	  .parse = pv_option_text, .field = FIELD(hypervisor) },
	{ "domid", "N", "the domain that this backend is; default 0, on Xen this one",
	  .parse = pv_option_domid, .field = FIELD(domid) },
	{ "pviod", "HOW", "reach pviod by its socket, or in a driver domain through a pipe; default socket",
	  .parse = pv_option_name, .field = FIELD(pviod), .names = pv_backend_ways },
	{ "workers", "N", "threads that move packets, 1..16; default 1",
	  .parse = pv_option_number, .field = FIELD(workers), .min = 1, .max = NB_WORKERS_MAX },
	{ "cpus", "LIST", "pin the workers to these CPUs in turn, such as 2-3,6",
	  .parse = pv_option_cpus, .field = FIELD(cpus) },
	{ "uplink", "[BRIDGE=]DEVICE", "the way out of a bridge, by default --bridge: linux:NAME, a Linux bridge; tap:NAME; none; or a DPDK device "
	  "such as net_af_packet0,iface=NAME; all with ,mtu=N. May be repeated. Without it, vifs' bridge=NAME is the Linux bridge of that name",
	  .parse = parse_uplink, .field = FIELD(uplinks) },
	{ "bridge", "NAME", "the bridge of vifs that name none; default xenbr0, if there is one",
	  .parse = parse_bridge, .field = FIELD(bridge) },
	{ "memory", "MIB", "packet memory, of hugepages if so much is free; default 128",
	  .parse = pv_option_number, .field = FIELD(memory), .min = 32, .max = 65536 },
	{ "poll-us", "N", "keep looking for this long after the last packet before sleeping; default 20",
	  .parse = pv_option_number, .field = FIELD(poll_us), .max = 1000000 },
	{ "name", "NAME", "this backend's name at pviod; default netback",
	  .parse = pv_option_text, .field = FIELD(name) },
	{ "takeover", NULL, "when ready, have pviod end the pvio-netback of the same name, and go on where it was: no guest notices",
	  .field = FIELD(takeover) },
	{ "telemetry", NULL, "answer DPDK's telemetry at $PVIO_RUNDIR/dpdk/NAME/dpdk_telemetry.v2: /pvio/vifs, /pvio/vif,GUEST,DEVID",
	  .field = FIELD(telemetry) },
	{ "log", "LEVEL", "err, warn, info or debug (with DPDK's own words); default info",
	  .parse = pv_option_name, .field = FIELD(log), .names = pv_log_names },
	{ 0 },
};

static const struct pv_program program = {
	.name = "pvio-netback",
	.usage = "[OPTION...]",
	.about = "Serves network devices (vifs) to guests, and switches between them and an uplink.\n"
		 "It connects to pviod at $PVIO_RUNDIR/pviod.sock (default /run/pvio) and does what that asks.",
	.options = options,
	.more_help = vif_config_help,
};

/* Ours: read from the descriptor. The real-time ones: a DPDK driver may use them, and the workers take them (turn.c). */
static int signals_open(void)
{
	sigset_t set, all;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	all = set;
	for (int i = SIGRTMIN; i <= SIGRTMAX; i++)
		sigaddset(&all, i);
	sigprocmask(SIG_BLOCK, &all, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* Returns 0: told to end, or -ESHUTDOWN. */
static int serve(struct netback *nb, int sigfd)
{
	struct pollfd fds[4 + CAPTURES_MAX] = { { .fd = sigfd, .events = POLLIN }, { .fd = nb->wake_fd, .events = POLLIN } };
	uint64_t ticked = netback_seconds();

	for (;;) {
		int timeout = pv_backend_timeout(nb->backend), ctrl = ctrl_timeout(nb);
		unsigned captures = capture_poll(nb, fds + 4), most = captures ? CAPTURE_MS : 1000;

		fds[2] = (struct pollfd){ .fd = pv_backend_fd(nb->backend), .events = pv_backend_events(nb->backend) };
		fds[3] = (struct pollfd){ .fd = ctrl_fd(nb), .events = POLLIN };
		if (ctrl >= 0 && ctrl < (int)most)
			most = (unsigned)ctrl;
		poll(fds, 4 + captures, timeout < 0 || timeout > (int)most ? (int)most : timeout);
		if (fds[0].revents)
			return 0;
		if (__atomic_load_n(&nb->ended, __ATOMIC_RELAXED)) {
			pv_log(PV_LOG_ERR, "the hypervisor is gone; nobody can be served");
			return -ESHUTDOWN;
		}
		if (fds[1].revents)
			netback_woken(nb);
		pv_backend_work(nb->backend);
		if (pv_backend_retired(nb->backend))
			return 0;
		ctrl_work(nb);
		capture_work(nb);
		if (netback_seconds() != ticked) {
			ticked = netback_seconds();
			netback_tick(nb);
		}
	}
}

static int run(struct nb_options *opt, int sigfd, int plug_fd)
{
	struct netback nb = { 0 };
	char path[108], why[300] = "";
	int ret = 0;

	snprintf(path, sizeof(path), "%s/pviod.sock", pv_rundir());
	if (opt->takeover) /* now: the uplink is free only when its owner is gone */
		ret = pv_backend_take_over(path, vif_ops.kind, opt->name, why, sizeof(why));
	if (ret < 0) {
		pv_log(PV_LOG_ERR, "cannot take over: %s", why);
		return 1;
	}
	ret = netback_open(&nb, opt, plug_fd, why, sizeof(why));
	if (ret < 0) {
		pv_log(PV_LOG_ERR, "%s", why);
	} else {
		ret = pv_backend_new(path, opt->name, &vif_ops, &nb, &nb.backend);
		if (ret >= 0)
			ret = pv_backend_reach(nb.backend, opt->pviod, opt->hypervisor, opt->domid);
		if (ret < 0)
			pv_log(PV_LOG_ERR, "cannot talk to pviod at %s: %s", path, strerror(-ret));
	}
	if (ret >= 0) {
		fprintf(stderr, "pvio-netback: ready\n");
		ret = serve(&nb, sigfd);
	}
	netback_close(&nb);
	pv_backend_free(nb.backend); /* last: pviod takes the end of the connection for the end of us */
	return ret < 0;
}

/* What this process has from an earlier self, see begin_anew. */
#define INHERITED "PVIO_NETBACK_PLUG"

/* Others took the huge pages that were free a moment ago, and DPDK starts only once in a process: begin it anew, without them. The plug process
 * cannot be had again without the privileges that are gone, so it is passed on. Returns if that is impossible. */
static void begin_anew(char **argv, int plug_fd)
{
	char fd[16];

	snprintf(fd, sizeof(fd), "%d", plug_fd);
	if (setenv(INHERITED, fd, 1) == 0 && fcntl(plug_fd, F_SETFD, 0) == 0)
		execv("/proc/self/exe", argv);
}

static int plug_inherited(const char *fd)
{
	int plug_fd = atoi(fd);

	unsetenv(INHERITED);
	fcntl(plug_fd, F_SETFD, FD_CLOEXEC);
	pv_log(PV_LOG_WARN, "others took the huge pages that were free: it works without");
	eal_ordinary_pages();
	return plug_fd;
}

int main(int argc, char **argv)
{
	struct nb_options opt = { .domid = -1, .workers = 1, .memory = 128, .poll_us = 20, .name = "netback",
				  .log = PV_LOG_INFO };
	struct rlimit files;
	int ret = pv_options_parse(&program, argc, argv, &opt), sigfd, plug_fd;
	char why[300], device[NB_DEVICE_NAME];

	if (ret >= 0)
		return ret;
	pv_log_open(program.name, opt.log);
	if (opt.domid < 0 && pv_hyper_needs_domid(opt.hypervisor))
		opt.domid = 0;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* each port and each grant may need one */
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	plug_fd = getenv(INHERITED) ? plug_inherited(getenv(INHERITED)) : plug_start();
	/* What opening an uplink may take; netback_open gives up these too. No thread runs yet. */
	pv_privileges_keep(opt.uplinks.nr ? (const int[]){ CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_IPC_LOCK, -1 } : (const int[]){ -1 });
	sigfd = signals_open();
	if (opt.telemetry)
		eal_telemetry(opt.name);
	if (plug_fd < 0 || sigfd < 0) {
		pv_log(PV_LOG_ERR, "out of descriptors: raise ulimit -n");
		return 1;
	}
	for (unsigned i = 0; i < opt.uplinks.nr; i++)
		if (uplink_pci(opt.uplinks.at[i].device, device))
			eal_pci(device);
	ret = eal_start(opt.memory, why, sizeof(why));
	if (ret == -EAGAIN)
		begin_anew(argv, plug_fd);
	if (ret < 0) {
		pv_log(PV_LOG_ERR, "%s", why);
		return 1;
	}
	ret = run(&opt, sigfd, plug_fd);
	eal_stop();
	close(sigfd);
	close(plug_fd);
	return ret;
}
