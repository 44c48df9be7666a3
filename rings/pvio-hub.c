/* pvio-hub.c - the loopback hypervisor as a program: options, signals, the line that says it is ready. */
#include "hub.h"
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static struct {
	char *socket;
	struct pv_hub_limits limits;
} config;

static int set_socket(const char *value, void *field)
{
	*(char **)field = strdup(value);
	return *(char **)field ? 0 : -ENOMEM;
}

static int set_count(const char *value, void *field)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (errno || *end || end == value || *value == '-' || !n || n > 1 << 24)
		return -EINVAL;
	*(unsigned *)field = n;
	return 0;
}

static const struct {
	const char *name, *arg;
	int (*set)(const char *value, void *field);
	void *field;
	const char *help;
} options[] = {
	{ "socket", "PATH", set_socket, &config.socket, "serve there (default: $PVIO_RUNDIR/hub.sock, /run/pvio/hub.sock)" },
	{ "domains", "N", set_count, &config.limits.domains, "domains at once (default: 1024)" },
	{ "grants", "N", set_count, &config.limits.grants, "granted pages of a domain (default: 65536)" },
	{ "ports", "N", set_count, &config.limits.ports, "event channel ports of a domain (default: 4096)" },
	{ "maps", "N", set_count, &config.limits.maps, "mapped pages of a domain (default: 1048576)" },
	{ "help", NULL, NULL, NULL, "print this" },
	{ "version", NULL, NULL, NULL, "print the version" },
};

enum { NR_OPTIONS = sizeof(options) / sizeof(options[0]) };

static struct pv_hub *hub;

static void stop(int sig)
{
	(void)sig;
	pv_hub_stop(hub);
}

static void help(void)
{
	char left[32];
	int i;

	printf("usage: pvio-hub [OPTION...]\nThe loopback hypervisor: domains, grants and event channels on a machine without Xen.\n\n");
	for (i = 0; i < NR_OPTIONS; i++) {
		snprintf(left, sizeof(left), "--%s%s%s", options[i].name, options[i].arg ? " " : "", options[i].arg ? options[i].arg : "");
		printf("  %-15s %s\n", left, options[i].help);
	}
}

/* Returns -1 to go on, else the exit code. */
static int parse(int argc, char **argv)
{
	struct option longs[NR_OPTIONS + 1] = { 0 };
	int i, c;

	for (i = 0; i < NR_OPTIONS; i++)
		longs[i] = (struct option){ options[i].name, options[i].arg ? required_argument : no_argument, NULL, i + 256 };
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == '?')
			return 2;
		i = c - 256;
		if (!strcmp(options[i].name, "help")) {
			help();
			return 0;
		}
		if (!strcmp(options[i].name, "version")) {
			printf("pvio-hub %s\n", PVIO_VERSION);
			return 0;
		}
		if (options[i].set(optarg, options[i].field)) {
			fprintf(stderr, "pvio-hub: --%s %s: not a usable value; see pvio-hub --help\n", options[i].name, optarg);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "pvio-hub: '%s': no arguments are expected; see pvio-hub --help\n", argv[optind]);
		return 2;
	}
	return -1;
}

static int default_socket(void)
{
	const char *dir = getenv("PVIO_RUNDIR");

	return asprintf(&config.socket, "%s/hub.sock", dir && *dir ? dir : "/run/pvio") < 0 ? -ENOMEM : 0;
}

static int fail(int err)
{
	const char *advice = err == -EADDRINUSE ? "another hub serves it, or it is no socket; end that hub or give --socket" :
			     err == -ENOENT ? "make the directory first, or set PVIO_RUNDIR" :
			     err == -ENAMETOOLONG ? "a socket's path has at most 107 bytes; give a shorter --socket" :
						    "give another --socket";

	fprintf(stderr, "pvio-hub: %s: %s: %s\n", config.socket, strerror(-err), advice);
	return 1;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = stop };
	struct rlimit rl = { 1 << 20, 1 << 20 };
	int err = parse(argc, argv);

	if (err >= 0)
		return err;
	if (!config.socket && default_socket())
		return fail(-ENOMEM);
	setrlimit(RLIMIT_NOFILE, &rl); /* root may; otherwise the hub raises what it can up to the hard limit */
	err = pv_hub_open(config.socket, &config.limits, &hub);
	if (err)
		return fail(err);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	fprintf(stderr, "pvio-hub: ready\n");
	err = pv_hub_run(hub);
	pv_hub_close(hub);
	if (err)
		return fail(err);
	free(config.socket);
	return 0;
}
