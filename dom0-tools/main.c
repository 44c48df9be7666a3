/* main.c - pviod: options and messages. */
#include "pviod.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

struct settings {
	struct pviod_options opt;
	char path[108];
};

static int set_hypervisor(struct settings *s, const char *v)
{
	s->opt.hypervisor = v;
	return 0;
}

static int set_socket(struct settings *s, const char *v)
{
	return snprintf(s->path, sizeof(s->path), "%s", v) < (int)sizeof(s->path) && *v ? 0 : -EINVAL;
}

static int parse_number(const char *v, unsigned max)
{
	char *end;
	unsigned long n = strtoul(v, &end, 10);

	return *v >= '0' && *v <= '9' && *end == '\0' && n >= 1 && n <= max ? (int)n : -EINVAL;
}

static int set_devices(struct settings *s, const char *v)
{
	int n = parse_number(v, DEVICES_MAX);

	s->opt.devices_max = n;
	return n < 0 ? n : 0;
}

static int set_timeout(struct settings *s, const char *v)
{
	s->opt.backend_ms = parse_number(v, 600000);
	return s->opt.backend_ms < 0 ? -EINVAL : 0;
}

static const struct option {
	const char *name, *arg, *help;
	int (*set)(struct settings *s, const char *value);
} options[] = {
	{ "--hypervisor", "SPEC", "loopback, or loopback:PATH of the hub's socket (default: $PVIO_HYPERVISOR, else what the host runs on)", set_hypervisor },
	{ "--socket", "PATH", "where pvio and the backends connect (default: pviod.sock in $PVIO_RUNDIR, else in /run/pvio)", set_socket },
	{ "--devices", "N", "devices that one guest may have (1008)", set_devices },
	{ "--backend-timeout", "MS", "how long a backend may take for an answer, in ms (5000)", set_timeout },
};

enum { NR_OPTIONS = sizeof(options) / sizeof(options[0]) };

static void help(void)
{
	printf("Usage: pviod [OPTION...]\nNegotiates devices between guests and backends. Ends on SIGTERM or SIGINT.\n\n");
	for (int i = 0; i < NR_OPTIONS; i++)
		printf("  %-18s %-5s %s\n", options[i].name, options[i].arg, options[i].help);
	printf("  %-24s %s\n  %-24s %s\n", "--help", "this", "--version", "the version");
}

static int usage(const char *what, const char *arg)
{
	fprintf(stderr, "pviod: %s %s; see pviod --help\n", what, arg);
	return 2;
}

/* Returns -1 to go on, or the exit code. */
static int parse(int argc, char **argv, struct settings *s)
{
	for (int i = 1; i < argc; i++) {
		const char *eq = strchr(argv[i], '='), *value;
		size_t n = eq ? (size_t)(eq - argv[i]) : strlen(argv[i]);
		int o;

		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "--version") == 0) {
			if (argv[i][2] == 'h')
				help();
			else
				printf("pviod %s\n", PVIO_VERSION);
			return 0;
		}
		for (o = 0; o < NR_OPTIONS; o++)
			if (strlen(options[o].name) == n && strncmp(options[o].name, argv[i], n) == 0)
				break;
		if (o == NR_OPTIONS)
			return usage("there is no option", argv[i]);
		value = eq ? eq + 1 : argv[++i];
		if (!value)
			return usage("a value is missing after", options[o].name);
		if (options[o].set(s, value) < 0)
			return usage("cannot use the value of", options[o].name);
	}
	return -1;
}

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
	const char *dir = getenv("PVIO_RUNDIR");
	struct settings s = { 0 };
	struct pviod d;
	char why[WHY_LEN];
	int rc;

	if (!dir || !*dir)
		dir = "/run/pvio";
	if (snprintf(s.path, sizeof(s.path), "%s/pviod.sock", dir) >= (int)sizeof(s.path)) {
		fprintf(stderr, "pviod: the path of $PVIO_RUNDIR is too long for a socket; give a shorter one\n");
		return 1;
	}
	rc = parse(argc, argv, &s);
	if (rc >= 0)
		return rc;
	s.opt.socket = s.path;
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stderr, NULL, _IOLBF, 0);
	raise_limits();
	if (strncmp(s.path, "/run/pvio/", 10) == 0)
		mkdir("/run/pvio", 0755);
	rc = pviod_open(&d, &s.opt, why, sizeof(why));
	if (rc < 0) {
		fprintf(stderr, "pviod: %s\n", why);
		return 1;
	}
	rc = pviod_run(&d);
	pviod_close(&d);
	return rc < 0 ? 1 : 0;
}
