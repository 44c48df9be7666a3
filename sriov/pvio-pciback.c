/* pvio-pciback.c - the backend of virtual functions: options, and the control loop. */
#include "pciback.h"
#include <errno.h>
#include <linux/capability.h>
#include <poll.h>
#include <pvio/hyper.h>
#include <pvio/log.h>
#include <pvio/options.h>
#include <pvio/privileges.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { SWEEP_MS = 1000 };

/* Owner: main. */
struct options {
	const char *hypervisor, *name;
	unsigned log;
	bool takeover;
};

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "hypervisor", "SPEC", "xen ($PVIO_HYPERVISOR, else what this host is)", pv_option_text, FIELD(hypervisor) },
	{ "name", "NAME", "this backend's name for pviod (pciback)", pv_option_text, FIELD(name) },
	{ "takeover", NULL, "when ready, have pviod end the pvio-pciback of the same name, and serve its devices", FIELD(takeover) },
	{ "log", "LEVEL", "err, warn, info or debug (info)", pv_option_name, FIELD(log), .names = pv_log_names },
	{ NULL },
};

static const struct pv_program program = {
	.name = "pvio-pciback",
	.usage = "[OPTION]...",
	.about = "Give virtual functions to guests of Xen: claimed, assigned, their configuration space served, taken back and reset.\n"
		 "It runs in domain 0 and waits for pviod (PVIO_RUNDIR, else /run/pvio) to say which.",
	.options = table,
	.more_help = pciback_help,
};

/* Returns in how many ms it wants to be called again, -1: after the next event. */
static int sweep(struct pciback *p, int64_t *due)
{
	int64_t now = pv_rpc_now_ms();

	if (now < *due)
		return (int)(*due - now);
	*due = now + SWEEP_MS;
	return pciback_sweep(p) == 0 ? -1 : SWEEP_MS;
}

/* Returns 0: told to end, or -errno. */
static int loop(struct pciback *p, struct pv_backend *backend, int signals)
{
	struct pollfd fds[2] = { { .fd = signals, .events = POLLIN } };
	int64_t due = 0;
	int wait, soon;

	for (;;) {
		soon = sweep(p, &due);
		fds[1] = (struct pollfd){ .fd = pv_backend_fd(backend), .events = pv_backend_events(backend) };
		wait = pv_backend_timeout(backend);
		if (soon >= 0 && (wait < 0 || wait > soon))
			wait = soon;
		if (poll(fds, 2, wait) < 0 && errno != EINTR)
			return -errno;
		if (fds[0].revents)
			return 0;
		pv_backend_work(backend);
		if (pv_backend_retired(backend))
			return 0;
	}
}

/* What this process has of the machine. */
struct machine {
	struct vf_sys sys, serving; /* of the control thread, of the other */
	struct vf_xen *xen, *irqs;
	struct vf_server *server;
	struct pciback *pciback;
	struct pv_backend *backend;
};

static int open_machine(const struct options *o, struct machine *m, struct vf_why *why)
{
	const char *root = getenv("PVIO_VF_ROOT");
	int rc = vf_sys_open(&m->sys, root);

	rc = rc < 0 ? rc : vf_sys_open(&m->serving, root);
	rc = rc < 0 ? rc : vf_xen_open(&m->xen, why);
	rc = rc < 0 ? rc : vf_xen_open(&m->irqs, why);
	rc = rc < 0 ? rc : vf_server_start(o->hypervisor, -1, &m->serving, m->irqs, &m->server, why);
	return rc < 0 ? rc : pciback_new(&m->sys, m->xen, m->server, &m->pciback);
}

static int open_backend(const struct options *o, struct machine *m, struct vf_why *why)
{
	char path[108];
	int rc = 0;

	if (snprintf(path, sizeof(path), "%s/pviod.sock", pv_rundir()) >= (int)sizeof(path))
		return vf_fail(why, -ENAMETOOLONG, "PVIO_RUNDIR is too long");
	if (o->takeover)
		rc = pv_backend_take_over(path, pciback_ops.kind, o->name, why->text, sizeof(why->text));
	return rc < 0 ? rc : pv_backend_new(path, o->name, &pciback_ops, m->pciback, &m->backend);
}

static void close_machine(struct machine *m)
{
	pciback_free(m->pciback);
	vf_server_stop(m->server);
	vf_xen_close(m->xen);
	vf_xen_close(m->irqs);
	vf_sys_close(&m->sys);
	vf_sys_close(&m->serving);
	pv_backend_free(m->backend); /* last: pviod takes the end of the connection for the end of us */
}

static int block_signals(void)
{
	sigset_t s;

	sigemptyset(&s);
	sigaddset(&s, SIGTERM);
	sigaddset(&s, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &s, NULL);
	return signalfd(-1, &s, SFD_CLOEXEC);
}

int main(int argc, char **argv)
{
	struct options o = { .name = "pciback", .log = PV_LOG_INFO };
	struct machine m = { 0 };
	struct vf_why why = { "" };
	int rc = pv_options_parse(&program, argc, argv, &o), signals;

	if (rc >= 0)
		return rc;
	pv_log_open(program.name, o.log);
	/* configuration spaces beyond 64 bytes; the settings of VFs; what xl does */
	pv_privileges_keep((const int[]){ CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_DAC_OVERRIDE, -1 });
	signals = block_signals();
	rc = signals < 0 ? -errno : open_machine(&o, &m, &why);
	rc = rc < 0 ? rc : open_backend(&o, &m, &why);
	if (rc < 0) {
		pv_log(PV_LOG_ERR, "cannot start: %s", *why.text ? why.text : strerror(-rc));
	} else {
		fprintf(stderr, "pvio-pciback: ready\n");
		rc = loop(m.pciback, m.backend, signals);
	}
	close_machine(&m);
	return rc < 0;
}
