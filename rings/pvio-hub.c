/* pvio-hub.c - the loopback hypervisor as a program: options, signals, the line that says it is ready. */
#include "hub.h"
#include "options.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

struct config {
	const char *socket;
	struct pv_hub_limits limits;
};

#define LIMIT(name, what, most) \
	{ #name, "N", what, pv_option_number, offsetof(struct config, limits.name), 1, most, NULL, false }

static const struct pv_option options[] = {
	{ "socket", "PATH", "serve there (default: $PVIO_RUNDIR/hub.sock, that is /run/pvio/hub.sock)", pv_option_text,
	  offsetof(struct config, socket), 0, 0, NULL, false },
	LIMIT(domains, "domains at once, domain 0 included (default: 1024)", 0x7ff0),
	LIMIT(grants, "pages that a domain may grant (default: 65536)", 1 << 24),
	LIMIT(ports, "event channel ports of a domain (default: 4096)", 1 << 20),
	LIMIT(maps, "pages that a domain may map (default: 1048576)", 1 << 30),
	{ 0 },
};

static const struct pv_program program = {
	.name = "pvio-hub",
	.usage = "[OPTION...]",
	.about = "The loopback hypervisor: domains, grants and event channels on a machine without Xen, for trying pvio out,\n"
		 "for tests and for measuring. It isolates nothing from anything.",
	.options = options,
};

static struct pv_hub *hub;

static void stop(int sig)
{
	(void)sig;
	pv_hub_stop(hub);
}

static int fail(const char *path, int err)
{
	const char *advice = err == -EADDRINUSE ? "another hub serves it, or it is no socket; end that hub or give --socket" :
			     err == -ENOENT ? "make the directory first, or set PVIO_RUNDIR" :
			     err == -ENAMETOOLONG ? "a socket's path has at most 107 bytes; give a shorter --socket" :
						    "give another --socket";

	fprintf(stderr, "pvio-hub: %s: %s: %s\n", path, strerror(-err), advice);
	return 1;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = stop };
	struct rlimit rl = { 1 << 20, 1 << 20 };
	struct config config = { 0 };
	char path[256];
	int err = pv_options_parse(&program, argc, argv, &config);

	if (err >= 0)
		return err;
	snprintf(path, sizeof(path), "%s%s", config.socket ? config.socket : pv_rundir(), config.socket ? "" : "/hub.sock");
	setrlimit(RLIMIT_NOFILE, &rl); /* root may; else the hub raises what it can, up to the hard limit */
	err = pv_hub_open(path, &config.limits, &hub);
	if (err)
		return fail(path, err);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	fprintf(stderr, "pvio-hub: ready\n");
	err = pv_hub_run(hub);
	pv_hub_close(hub);
	return err ? fail(path, err) : 0;
}
