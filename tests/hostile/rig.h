/* rig.h - for tests of a backend: a hub, the real backend program as a process, and a pviod that is this test. net_rig.h and blk_rig.h
 * add guests that do whatever a test wants with their rings. Everything lives below one run directory, which goes at the end.
 *
 * PVIO_HYPERVISOR=xen: on the real one, in domain 0, which then is every guest too: it grants to itself. What only the hub can do (see
 * rig_needs_hub) is skipped.
 */
#ifndef RIG_H
#define RIG_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <pvio/backend.h>
#include <pvio/hub.h>
#include <pvio/hyper.h>
#include <pvio/rpc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE = 20000 }; /* ms: something is wrong */

struct rig {
	char dir[32];
	pid_t hub, backend;
	int log; /* the backend's stderr */
	struct pv_hyper *dom0;
	struct pv_rpc *rpc;
	int listener;
	bool xen;
	uint32_t devids; /* guests so far, on Xen: what tells their devices apart */
	bool registered, closed;
	unsigned broken; /* devices that were told to be broken */
	struct pv_device_id broken_id;
	char broken_why[256];
	unsigned fds, maps; /* of the backend, with well-behaved guests alone */
};

static struct rig rig;

static inline int64_t rig_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* ---- pviod's side ---- */

static void rig_on_call(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	struct json_object *why = NULL;

	(void)ctx;
	if (!strcmp(method, "register"))
		rig.registered = true;
	if (!strcmp(method, "broken")) {
		rig.broken++;
		pv_device_id_from_json(params, &rig.broken_id, rig.broken_why, sizeof(rig.broken_why));
		json_object_object_get_ex(params, "why", &why);
		snprintf(rig.broken_why, sizeof(rig.broken_why), "%s", why ? json_object_get_string(why) : "");
	}
	pv_rpc_reply(rpc, id, NULL);
}

static void rig_on_closed(void *ctx, struct pv_rpc *rpc, int err)
{
	(void)ctx, (void)rpc, (void)err;
	rig.closed = true;
}

static const struct pv_rpc_ops rig_rpc_ops = { .call = rig_on_call, .closed = rig_on_closed };

/* Run the connection once, for at most ms. */
static inline void rig_pump(int ms)
{
	struct pollfd p = { .fd = pv_rpc_fd(rig.rpc), .events = pv_rpc_events(rig.rpc) };

	poll(&p, 1, ms);
	pv_rpc_work(rig.rpc);
}

struct rig_answer {
	bool done;
	int code;
	char message[256];
	struct json_object *result;
};

static void rig_on_done(void *arg, int code, const char *message, struct json_object *result)
{
	struct rig_answer *a = arg;

	a->done = true;
	a->code = code;
	snprintf(a->message, sizeof(a->message), "%s", message ? message : "");
	a->result = result ? json_object_get(result) : NULL;
}

static struct rig_answer rig_last; /* the last answer; its result is dropped by the next call */

/* One call to the backend. Returns its code. */
static inline int rig_call(const char *method, struct json_object *params)
{
	json_object_put(rig_last.result);
	rig_last = (struct rig_answer){ .done = false };
	assert_int_equal(pv_rpc_call(rig.rpc, method, params, PATIENCE, rig_on_done, &rig_last), 0);
	while (!rig_last.done && !rig.closed)
		rig_pump(10);
	assert_true(rig_last.done);
	return rig_last.code;
}

/* One call about a device. */
static inline int rig_device_call(struct pv_device_id id, const char *method)
{
	return rig_call(method, pv_device_id_to_json(&id));
}

/* connect with a configuration (taken over) and a choice. */
static inline int rig_connect(struct pv_device_id id, struct json_object *config, const struct pv_noxs_choice *choice)
{
	struct pv_connect c = { .id = id, .config = config, .choice = *choice };
	struct json_object *params = pv_connect_to_json(&c);

	json_object_put(config);
	return rig_call("connect", params);
}

/* prepare with a configuration (taken over); the answer goes to *offer. */
static inline int rig_prepare(struct pv_device_id id, struct json_object *config, struct pv_noxs_offer *offer)
{
	struct json_object *params = pv_device_id_to_json(&id);
	char why[256];
	int ret;

	*offer = (struct pv_noxs_offer){ .type = id.type };
	json_object_object_add(params, "config", config);
	ret = rig_call("prepare", params);
	if (ret == 0)
		assert_int_equal(pv_offer_from_json(rig_last.result, id.type, offer, why, sizeof(why)), 0);
	return ret;
}

/* Wait until pviod has been told `times` times that a device broke, the last time this one. */
static inline void rig_wait_broken(struct pv_device_id id, unsigned times)
{
	int64_t end = rig_ms() + PATIENCE;

	while (rig.broken < times && rig_ms() < end)
		rig_pump(10);
	assert_int_equal(rig.broken, times);
	assert_int_equal(rig.broken_id.guest, id.guest);
	assert_int_equal(rig.broken_id.devid, id.devid);
}

/* ---- guests ---- */

/* A new domain, and a handle in it. Returns its domid. */
static inline uint16_t rig_domain(struct pv_hyper **h)
{
	char why[160];
	uint32_t port;
	int domid = rig.xen ? 0 : pv_hub_domain_create(rig.dom0, 0, &port);

	assert_true(rig.xen || domid > 0);
	rig.devids += rig.xen;
	if (pv_hyper_open(NULL, domid, h, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return (uint16_t)domid;
}

/* This test destroys domains, injects failures or looks into the hub. */
#define rig_needs_hub() do { if (rig.xen) skip(); } while (0)

static inline void rig_domain_end(struct pv_hyper *h, uint16_t domid)
{
	pv_hyper_close(h);
	if (!rig.xen)
		assert_int_equal(pv_hub_domain_destroy(rig.dom0, domid), 0);
}

/* ---- what the backend process holds ---- */

/* Descriptors but those of memory files: the loopback port keeps some of these, bounded, for pages that it may map again. */
static inline unsigned rig_fds(void)
{
	char path[64], to[64];
	unsigned n = 0;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", rig.backend);
	d = opendir(path);
	assert_non_null(d);
	while ((e = readdir(d))) {
		ssize_t len = readlinkat(dirfd(d), e->d_name, to, sizeof(to) - 1);

		to[len > 0 ? len : 0] = 0;
		n += len > 0 && !strstr(to, "memfd:");
	}
	closedir(d);
	return n;
}

/* Mappings of grants (on loopback memory files) of up to `pages` pages. */
static inline unsigned rig_maps(unsigned long pages)
{
	char path[64], line[512];
	unsigned long from, to;
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", rig.backend);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, rig.xen ? "xen/gntdev" : "memfd:") && sscanf(line, "%lx-%lx", &from, &to) == 2 && to - from <= pages * 4096;
	fclose(f);
	return n;
}

/* ---- up and down ---- */

/* Start a program of this build (build/tests/hostile/test_x -> build/name); stderr: -1 for ours. */
static inline pid_t rig_spawn(const char *name, const char *const *args, int log)
{
	char exe[512], *slash;
	const char *argv[24] = { name };
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 40);
	pid_t pid, parent = getpid();

	assert_true(n > 0);
	exe[n] = 0;
	for (int up = 0; up < 3; up++) {
		slash = strrchr(exe, '/');
		assert_non_null(slash);
		*slash = 0;
	}
	strcat(strcat(exe, "/"), name);
	for (int i = 0; args && args[i]; i++)
		argv[i + 1] = args[i];
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (log >= 0)
			dup2(log, 2);
		if (getppid() == parent)
			execv(exe, (char *const *)argv);
		_exit(127);
	}
	assert_true(pid > 0);
	return pid;
}

/* How often a text is in the backend's log. */
static inline unsigned rig_log_count(const char *text)
{
	static char log[1 << 20];
	unsigned n = 0;
	ssize_t len = pread(rig.log, log, sizeof(log) - 1, 0);

	log[len > 0 ? len : 0] = 0;
	for (const char *at = log; (at = strstr(at, text)); at++)
		n++;
	return n;
}

/* Start the backend, in place of one that ended or was killed, and wait until it has registered with us. Returns 0, or -1 if it ended. */
static inline int rig_start_backend(const char *backend, const char *const *args)
{
	int64_t end = rig_ms() + PATIENCE;
	int fd;

	pv_rpc_free(rig.rpc);
	rig.rpc = NULL;
	rig.registered = rig.closed = false;
	rig.backend = rig_spawn(backend, args, rig.log);
	while ((fd = accept4(rig.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0) {
		if (waitpid(rig.backend, NULL, WNOHANG) == rig.backend) {
			rig.backend = 0;
			return -1;
		}
		assert_true(rig_ms() < end);
		usleep(1000);
	}
	assert_int_equal(pv_rpc_new(fd, &rig_rpc_ops, NULL, &rig.rpc), 0);
	while (!rig.registered && rig_ms() < end)
		rig_pump(10);
	assert_true(rig.registered);
	return 0;
}

/* A hub, and the backend registered with us. Returns 0, or -1 if the backend ended. */
static inline int rig_start(const char *backend, const char *const *args)
{
	const char *hypervisor = getenv("PVIO_HYPERVISOR");
	char path[64], why[160] = "";
	int64_t end = rig_ms() + PATIENCE;

	rig = (struct rig){ .dir = "/tmp/pvio-rig.XXXXXX", .xen = hypervisor && !strcmp(hypervisor, "xen") };
	assert_non_null(mkdtemp(rig.dir));
	setenv("PVIO_RUNDIR", rig.dir, 1);
	if (!rig.xen)
		setenv("PVIO_HYPERVISOR", "loopback", 1);
	snprintf(path, sizeof(path), "%s/log", rig.dir);
	rig.log = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (!rig.xen)
		rig.hub = rig_spawn("pvio-hub", NULL, rig.log);
	while (pv_hyper_open(NULL, 0, &rig.dom0, why, sizeof(why)) < 0) {
		if (rig_ms() > end)
			fail_msg("%s", why);
		usleep(1000);
	}
	snprintf(path, sizeof(path), "%s/pviod.sock", rig.dir);
	rig.listener = pv_rpc_listen(path);
	assert_true(rig.listener >= 0);
	return rig_start_backend(backend, args);
}

/* What a killed backend leaves for the next one: the in-flight logs of its devices. */
static inline void rig_remove_logs(void)
{
	DIR *dir = opendir(rig.dir);
	struct dirent *e;

	assert_non_null(dir);
	while ((e = readdir(dir)))
		if (strstr(e->d_name, ".inflight"))
			assert_int_equal(unlinkat(dirfd(dir), e->d_name, 0), 0);
	closedir(dir);
}

/* The hub and the run directory go; so must the backend have, by now. Its log stays and is named if something `failed`. */
static inline void rig_remove(bool failed)
{
	char path[64];

	json_object_put(rig_last.result);
	rig_last.result = NULL;
	pv_rpc_free(rig.rpc);
	close(rig.listener);
	pv_hyper_close(rig.dom0);
	if (rig.hub > 0) {
		kill(rig.hub, SIGTERM);
		waitpid(rig.hub, NULL, 0);
	}
	close(rig.log);
	snprintf(path, sizeof(path), "%s/pviod.sock", rig.dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/log", rig.dir);
	if (failed) {
		fprintf(stderr, "the backend's log is %s\n", path);
		return;
	}
	unlink(path);
	rig_remove_logs();
	assert_int_equal(rmdir(rig.dir), 0);
}

/* The backend ends in order, whatever was done to it; then the rest. Returns 0, or the test has failed. */
static inline int rig_stop(void)
{
	int status = -1;

	if (rig.backend > 0) {
		kill(rig.backend, SIGTERM);
		waitpid(rig.backend, &status, 0);
	}
	rig_remove(status);
	if (!status)
		return 0;
	fprintf(stderr, "the backend ended with status %#x\n", (unsigned)status);
	exit(1); /* cmocka does not count what fails in a group's teardown */
}

#endif
