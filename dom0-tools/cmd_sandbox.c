/* cmd_sandbox.c - pvio sandbox up, down: everything on the loopback hypervisor, to stay until it is taken down.
 *
 * What `up` makes is written down before it is made, so that `down` finds it also after a crash: a file "sandbox" in the run
 * directory, and for each daemon NAME.pid (pid and start time, so that a number used anew is not taken for it) and NAME.log.
 * Anything else in the run directory is not ours and stays.
 */
#include "pvio.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pvio/options.h>
#include <pvio/rpc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { READY_MS = 30000, TERM_MS = 5000, GUESTS_MAX = 64, STEP_MS = 5 };

static const char *const daemons[] = { "pvio-hub", "pviod", "pvio-netback", "pvio-blkback" }; /* in the order of their start */
static const char *const sockets[] = { "hub.sock", "pviod.sock" };

enum { NR_DAEMONS = sizeof(daemons) / sizeof(daemons[0]), HUB = 0, PVIOD = 1 };

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
	interrupted = sig;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ull + t.tv_nsec / 1000000;
}

static void pause_ms(int ms)
{
	poll(NULL, 0, ms);
}

static const char *path_in(const struct pvio *p, const char *name, const char *suffix)
{
	static char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/%s%s", p->dir, name, suffix);
	return path;
}

/* ---- processes ---- */

/* When the process began, in ticks since boot; 0: it is not there, or only waits to be reaped. */
static unsigned long long start_of(pid_t pid)
{
	char path[64], stat[1024], state;
	const char *after;
	unsigned long long start = 0;
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	n = fread(stat, 1, sizeof(stat) - 1, f);
	fclose(f);
	stat[n] = '\0';
	after = strrchr(stat, ')'); /* the name before it may hold anything */
	if (!after || sscanf(after + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state, &start) != 2)
		return 0;
	return state == 'Z' || state == 'X' ? 0 : start;
}

/* The daemon that a pidfile names; 0: none, or it has ended. */
pid_t sandbox_pid(const struct pvio *p, const char *name)
{
	unsigned long long start;
	int pid = 0;
	FILE *f = fopen(path_in(p, name, ".pid"), "re");

	if (!f)
		return 0;
	if (fscanf(f, "%d %llu", &pid, &start) != 2 || pid <= 1 || start_of(pid) != start)
		pid = 0;
	fclose(f);
	return pid;
}

int sandbox_set_pid(const struct pvio *p, const char *name, pid_t pid)
{
	FILE *f = fopen(path_in(p, name, ".pid"), "we");

	if (!f)
		return -errno;
	fprintf(f, "%d %llu\n", (int)pid, start_of(pid));
	return fclose(f) == 0 ? 0 : -errno;
}

/* In the child: a session of its own, its log, the environment, and off. The parent writes the pidfile first. */
static void __attribute__((noreturn)) become(struct pvio *p, const char *name, char **argv, const cpu_set_t *cpus, int go)
{
	char program[PATH_MAX + 32], c;
	int log;

	setsid();
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	if (read(go, &c, 1) != 1)
		_exit(127);
	log = open(path_in(p, name, ".log"), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
	if (log < 0 || dup2(log, 2) < 0 || dup2(log, 1) < 0 || dup2(open("/dev/null", O_RDONLY), 0) < 0)
		_exit(127);
	close_range(3, ~0u, 0);
	setenv("PVIO_RUNDIR", p->dir, 1);
	setenv("PVIO_HYPERVISOR", "loopback", 1);
	if (cpus && sched_setaffinity(0, sizeof(*cpus), cpus) < 0) {
		fprintf(stderr, "%s: cannot run on the CPUs of --cpus: %s\n", name, strerror(errno));
		_exit(1);
	}
	sibling(program, sizeof(program), name);
	argv[0] = program;
	execv(program, argv);
	fprintf(stderr, "%s: cannot run %s: %s\n", name, program, strerror(errno));
	_exit(127);
}

static int start(struct pvio *p, const char *name, char **argv, const cpu_set_t *cpus)
{
	int go[2], rc;
	pid_t pid;

	if (pipe2(go, O_CLOEXEC) < 0)
		return say_failed(p, "cannot start %s: %s", name, strerror(errno));
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		become(p, name, argv, cpus, go[0]);
	}
	close(go[0]);
	rc = pid < 0 ? -errno : sandbox_set_pid(p, name, pid);
	if (rc == 0 && write(go[1], "", 1) != 1)
		rc = -errno;
	close(go[1]);
	return rc < 0 ? say_failed(p, "cannot start %s: %s", name, strerror(-rc)) : 0;
}

/* Has its log a line "NAME: ready"? */
static bool is_ready(const struct pvio *p, const char *name)
{
	char line[512], want[64];
	FILE *f = fopen(path_in(p, name, ".log"), "re");
	bool ready = false;

	snprintf(want, sizeof(want), "%s: ready", name);
	while (f && !ready && fgets(line, sizeof(line), f))
		ready = strncmp(line, want, strlen(want)) == 0;
	if (f)
		fclose(f);
	return ready;
}

static void show_log(const struct pvio *p, const char *name)
{
	char lines[8][256];
	unsigned n = 0;
	FILE *f = fopen(path_in(p, name, ".log"), "re");

	while (f && fgets(lines[n % 8], sizeof(lines[0]), f))
		n++;
	if (f)
		fclose(f);
	for (unsigned i = n > 8 ? n - 8 : 0; i < n; i++)
		fprintf(stderr, "  %s| %s%s", name, lines[i % 8], strchr(lines[i % 8], '\n') ? "" : "\n");
}

static int wait_ready(struct pvio *p, const char *name)
{
	uint64_t end = now_ms() + READY_MS;

	for (;;) {
		if (is_ready(p, name))
			return 0;
		if (interrupted)
			return EXIT_FAILED;
		waitpid(-1, NULL, WNOHANG); /* so that one that ended is seen to have */
		if (!sandbox_pid(p, name)) {
			say_failed(p, "%s ended at once; its last lines:", name);
			show_log(p, name);
			return EXIT_FAILED;
		}
		if (now_ms() >= end) {
			say_failed(p, "%s is not ready after %d s; its last lines:", name, READY_MS / 1000);
			show_log(p, name);
			return EXIT_FAILED;
		}
		pause_ms(STEP_MS);
	}
}

/* ---- down ---- */

static bool all_ended(const struct pvio *p, int from, int to)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	for (int i = from; i < to; i++)
		if (sandbox_pid(p, daemons[i]))
			return false;
	return true;
}

static void signal_daemons(const struct pvio *p, int from, int to, int sig)
{
	for (int i = from; i < to; i++) {
		pid_t pid = sandbox_pid(p, daemons[i]);

		if (pid > 0)
			kill(pid, sig);
	}
}

/* End daemons [from, to): SIGTERM, then SIGKILL for those that do not follow. */
static void end_daemons(const struct pvio *p, int from, int to)
{
	uint64_t end = now_ms() + TERM_MS;

	signal_daemons(p, from, to, SIGTERM);
	signal_daemons(p, from, to, SIGCONT); /* a stopped one could not follow */
	while (!all_ended(p, from, to) && now_ms() < end)
		pause_ms(STEP_MS);
	if (all_ended(p, from, to))
		return;
	signal_daemons(p, from, to, SIGKILL);
	while (!all_ended(p, from, to) && now_ms() < end + TERM_MS)
		pause_ms(STEP_MS);
}

/* Did `up` make the run directory? */
static bool made_dir(const struct pvio *p)
{
	char made[16] = "";
	FILE *f = fopen(path_in(p, "sandbox", ""), "re");
	bool yes = f && fscanf(f, "%15s", made) == 1 && strcmp(made, "made-dir") == 0;

	if (f)
		fclose(f);
	return yes;
}

/* End everything, and remove everything that `up` made. */
static void take_down(const struct pvio *p)
{
	bool made = made_dir(p);

	end_daemons(p, PVIOD + 1, NR_DAEMONS); /* backends let go of the guests before pviod and the hub go */
	end_daemons(p, PVIOD, PVIOD + 1);
	end_daemons(p, HUB, HUB + 1);
	for (int i = 0; i < NR_DAEMONS; i++) {
		unlink(path_in(p, daemons[i], ".pid"));
		unlink(path_in(p, daemons[i], ".log"));
	}
	for (size_t i = 0; i < sizeof(sockets) / sizeof(sockets[0]); i++)
		unlink(path_in(p, sockets[i], ""));
	unlink(path_in(p, "netback", ".inflight")); /* of one that was killed, and has no successor */
	unlink(path_in(p, "sandbox", ""));
	if (made)
		rmdir(p->dir);
}

/* May we end the daemons, and remove their files? */
static bool may_take_down(const struct pvio *p)
{
	if (access(p->dir, W_OK | X_OK) < 0)
		return false;
	for (int i = 0; i < NR_DAEMONS; i++) {
		pid_t pid = sandbox_pid(p, daemons[i]);

		if (pid > 0 && kill(pid, 0) < 0 && errno == EPERM)
			return false;
	}
	return true;
}

int cmd_sandbox_down(struct pvio *p)
{
	if (access(path_in(p, "sandbox", ""), F_OK) < 0 && errno != EACCES) {
		printf("no sandbox in %s\n", p->dir);
		return EXIT_DONE;
	}
	if (!may_take_down(p))
		return say_failed(p, "not permitted: %s is not yours; be root, or the user that started the sandbox", p->dir);
	take_down(p);
	for (int i = 0; i < NR_DAEMONS; i++)
		if (sandbox_pid(p, daemons[i]))
			return say_failed(p, "%s cannot be ended", daemons[i]);
	printf("the sandbox in %s is down\n", p->dir);
	return EXIT_DONE;
}

/* ---- up ---- */

/* --cpus: returns 0, -EINVAL or, without such a CPU, -ENXIO. */
static int parse_cpus(const char *list, cpu_set_t *set)
{
	struct pv_cpus cpus;
	int rc = pv_option_cpus(NULL, list, &cpus);

	CPU_ZERO(set);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < cpus.nr; i++) {
		if (cpus.cpu[i] >= CPU_SETSIZE)
			return -EINVAL;
		CPU_SET(cpus.cpu[i], set);
	}
	return 0;
}

/* Does somebody serve this socket, though no sandbox of ours does? */
static bool is_served(const struct pvio *p, const char *name)
{
	int fd = pv_rpc_connect(path_in(p, name, ""));

	if (fd >= 0)
		close(fd);
	return fd >= 0 || fd == -EAGAIN || fd == -EPROTOTYPE;
}

/* Take the run directory: make it if needed, and write down what is ours. Whatever a crashed sandbox left goes first. */
static int claim(struct pvio *p)
{
	bool made;
	int fd;

	if (access(path_in(p, "sandbox", ""), F_OK) == 0) {
		if (!all_ended(p, 0, NR_DAEMONS))
			return say_failed(p, "a sandbox is running in %s; pvio sandbox down ends it", p->dir);
		take_down(p);
	}
	for (size_t i = 0; i < sizeof(sockets) / sizeof(sockets[0]); i++)
		if (is_served(p, sockets[i]))
			return say_failed(p, "%s is in use by a pvio that is running; end that, or give another --dir", path_in(p, sockets[i], ""));
	made = mkdir(p->dir, 0755) == 0;
	if (!made && errno != EEXIST)
		return say_failed(p, "cannot make the run directory %s: %s", p->dir, strerror(errno));
	fd = open(path_in(p, "sandbox", ""), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return say_failed(p, "cannot write %s: %s", path_in(p, "sandbox", ""), strerror(errno));
	dprintf(fd, "%s\n", made ? "made-dir" : "found-dir");
	close(fd);
	return 0;
}

static int start_all(struct pvio *p, const cpu_set_t *cpus)
{
	const char *uplink = opt_value(p, "--uplink") ? opt_value(p, "--uplink") : "none"; /* whatever bridges this machine has */

	for (int i = 0; i < NR_DAEMONS; i++) {
		bool backend = i > PVIOD;
		char *argv[4] = { NULL };

		if (strcmp(daemons[i], "pvio-netback") == 0) {
			argv[1] = "--uplink";
			argv[2] = (char *)uplink;
		}
		printf("starting %s\n", daemons[i]);
		if (start(p, daemons[i], argv, backend ? cpus : NULL) || (!backend && wait_ready(p, daemons[i])))
			return EXIT_FAILED;
	}
	for (int i = PVIOD + 1; i < NR_DAEMONS; i++) /* the backends start side by side */
		if (wait_ready(p, daemons[i]))
			return EXIT_FAILED;
	return 0;
}

/* A backend serves before it has registered with pviod: wait for both. */
static int wait_backends(struct pvio *p)
{
	uint64_t end = now_ms() + READY_MS;

	while (!interrupted && now_ms() < end) {
		struct json_object *o, *list = NULL;
		int rc, n;

		o = ask(p, "backend.list", json_object_new_object(), 0, &rc);
		if (!o)
			return rc;
		json_object_object_get_ex(o, "backends", &list);
		n = json_object_array_length(list);
		json_object_put(o);
		if (n >= NR_DAEMONS - PVIOD - 1)
			return 0;
		pause_ms(STEP_MS);
	}
	if (interrupted)
		return EXIT_FAILED;
	return say_failed(p, "the backends did not register with pviod in %d s; see their logs in %s", READY_MS / 1000, p->dir);
}

static int attach(struct pvio *p, const char *guest, const char *type, const char *disk)
{
	char config[PATH_MAX + 8];
	const char *keys[] = { config, NULL };
	struct pv_tool_device d;

	if (disk && !realpath(disk, config + 5))
		return say_failed(p, "%s: %s; --disk takes an existing image", disk, strerror(errno));
	if (disk)
		memcpy(config, "path=", 5);
	if (pv_tool_attach(p->tool, guest, type, NULL, disk ? keys : NULL, 0, &d) < 0)
		return say_failed(p, "attach %s %s: %s", guest, type, pv_tool_error(p->tool));
	printf("%s: %s %s announced in %lld us\n", guest, type, d.name, (long long)d.offer_us);
	return 0;
}

static int make_guests(struct pvio *p, int n)
{
	const char *const *disks;
	int ndisks = opt_count(p, "--disk", &disks);

	for (int i = 0; i < n && !interrupted; i++) {
		char name[16];

		snprintf(name, sizeof(name), "g%d", i + 1);
		if (pv_tool_guest_create(p->tool, name, 0, NULL) < 0)
			return say_failed(p, "guest create %s: %s", name, pv_tool_error(p->tool));
		if (attach(p, name, "vif", NULL) || (i < ndisks && attach(p, name, "vbd", disks[i])))
			return EXIT_FAILED;
	}
	return interrupted ? EXIT_FAILED : 0;
}

static void what_next(const struct pvio *p, int n)
{
	char bin[PATH_MAX];

	sibling(bin, sizeof(bin), "");
	printf("\nThe sandbox is up in %s: %d guest%s. What to try next:\n\n", p->dir, n, n == 1 ? "" : "s");
	printf("  export PVIO_RUNDIR=%s PVIO_HYPERVISOR=loopback PATH=%s:$PATH\n  pvio list\n", p->dir, bin);
	if (n > 0) {
		printf("  truncate -s 1G disk.img && pvio attach g1 vbd xvda path=disk.img\n");
		printf("  pvio-dd --domid 1 --vbd xvda --bench randread --iodepth 32\n");
		printf("  pvio-tap --domid 1 --vif 0 --tap g1-eth0 &\n  pvio stats g1\n");
	} else {
		printf("  pvio guest create web && pvio attach web vif\n");
	}
	printf("  pvio sandbox down\n");
}

/* Before anything is started: can the images be attached? */
static int check_disks(struct pvio *p)
{
	const char *const *disks;
	int n = opt_count(p, "--disk", &disks);

	for (int i = 0; i < n; i++) {
		int fd = open(disks[i], O_RDWR | O_CLOEXEC | O_NONBLOCK);
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0)
			return say_failed(p, "--disk %s: %s; it takes an existing image (truncate -s 1G FILE makes one)", disks[i], strerror(errno));
		close(fd);
		if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
			return say_failed(p, "--disk %s: neither a file nor a block device", disks[i]);
		if (S_ISREG(st.st_mode) && st.st_size < 512)
			return say_failed(p, "--disk %s is empty; give it a size first (truncate -s 1G %s)", disks[i], disks[i]);
	}
	return 0;
}

int cmd_sandbox_up(struct pvio *p)
{
	struct sigaction catch = { .sa_handler = on_interrupt };
	long guests = opt_number(p, "--guests", 2, 0, GUESTS_MAX);
	const char *list = opt_value(p, "--cpus");
	const char *const *disks;
	cpu_set_t cpus;
	int rc;

	if (guests < 0)
		return EXIT_USAGE;
	rc = list ? parse_cpus(list, &cpus) : 0;
	if (rc == -ENXIO)
		return say_usage(p, "--cpus %s: this machine has %ld CPUs, and numbers them from 0", list, sysconf(_SC_NPROCESSORS_CONF));
	if (rc < 0)
		return say_usage(p, "--cpus %s: not a list of CPUs such as 0,2-3", list);
	if (opt_count(p, "--disk", &disks) > guests)
		return say_usage(p, "more disks than guests");
	rc = check_disks(p);
	if (rc)
		return rc;
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGINT, &catch, NULL);
	sigaction(SIGTERM, &catch, NULL);
	rc = claim(p);
	if (rc)
		return rc;
	rc = start_all(p, list ? &cpus : NULL);
	if (rc == 0)
		rc = wait_backends(p);
	if (rc == 0)
		rc = make_guests(p, guests);
	if (rc == 0) {
		what_next(p, guests);
		return EXIT_DONE;
	}
	if (interrupted)
		say_failed(p, "interrupted; taking it down again");
	take_down(p);
	return interrupted ? 128 + interrupted : rc;
}
