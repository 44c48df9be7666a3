/* main.c - pviod: options and messages. */
#include "pviod.h"
#include <errno.h>
#include <limits.h>
#include <pvio/options.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { BACKENDS_MAX = 16 };

struct backends {
	const char *line[BACKENDS_MAX];
	unsigned nr;
};

struct settings {
	const char *hypervisor, *socket, *console_log;
	struct backends backends;
	unsigned devices, timeout, log;
};

static int add_backend(const struct pv_option *o, const char *text, void *field)
{
	struct backends *b = field;

	(void)o;
	if (b->nr == BACKENDS_MAX)
		return -ENOSPC;
	b->line[b->nr++] = text;
	return 0;
}

#define FIELD(f) .field = offsetof(struct settings, f)

static const struct pv_option options[] = {
	{ "hypervisor", "SPEC", "xen, loopback, or loopback:PATH of the hub's socket ($PVIO_HYPERVISOR, else what the host runs on)",
	  .parse = pv_option_text, FIELD(hypervisor) },
	{ "socket", "PATH", "where pvio and the backends connect (pviod.sock in $PVIO_RUNDIR or /run/pvio)", .parse = pv_option_text, FIELD(socket) },
	{ "devices", "N", "how many devices a guest may have (1008)", .parse = pv_option_number, .min = 1, .max = DEVICES_MAX, FIELD(devices) },
	{ "backend-timeout", "MS", "how long a backend may take for an answer (5000)",
	  .parse = pv_option_number, .min = 1, .max = 600000, FIELD(timeout) },
	{ "backend", "COMMAND", "start this backend, and start it again when it ends; up to 16 times", .parse = add_backend, FIELD(backends) },
	{ "console-log", "DIR", "keep what guests say on their consoles there, as NAME.log and NAME.log.1 of 1 MiB", .parse = pv_option_text, FIELD(console_log) },
	{ "log", "LEVEL", "err, warn, info or debug (info)", .parse = pv_option_name, .names = pv_log_names, FIELD(log) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "pviod",
	.usage = "[OPTION...]",
	.about = "Negotiates devices between guests and backends. Stays in the foreground; ends on SIGTERM or SIGINT.",
	.options = options,
};

/* Each guest takes a few mappings and, on the loopback hypervisor, descriptors. */
static void raise_limits(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

int main(int argc, char **argv)
{
	struct settings s = { .log = PV_LOG_INFO };
	struct pviod_options opt = { 0 };
	struct pviod d;
	char path[PATH_MAX], why[WHY_LEN];
	int rc = pv_options_parse(&program, argc, argv, &s);

	if (rc >= 0)
		return rc;
	pv_log_open(program.name, s.log);
	signal(SIGPIPE, SIG_IGN);
	raise_limits();
	if (!s.socket) {
		snprintf(path, sizeof(path), "%s/pviod.sock", pv_rundir());
		s.socket = path;
	}
	opt = (struct pviod_options){ .hypervisor = s.hypervisor, .socket = s.socket, .devices_max = s.devices, .backend_ms = s.timeout,
				      .console_log = s.console_log, .backends = s.backends.line, .nbackends = s.backends.nr };
	rc = pviod_open(&d, &opt, why, sizeof(why));
	if (rc < 0) {
		pv_log(PV_LOG_ERR, "%s", why);
		return 1;
	}
	rc = pviod_run(&d);
	pviod_close(&d);
	return rc < 0 ? 1 : 0;
}
