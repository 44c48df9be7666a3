/* cmd_backend.c - pvio backend handover, backend restart: another process in a backend's place, of which its guests notice nothing.
 *
 * The new one is started as the old one was, unless a command says otherwise: same words, environment, folder and log; by pviod, if it started
 * the old one. It is started with --takeover: when it is ready to serve it has pviod end the old one, so that the pause is short. A
 * restart kills the old one first, whatever that is doing. */
#include "pvio.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_MAX = 128, STEP_MS = 5, PATIENCE_MS = 30000, TEXT_MAX = 64 << 10 };

struct old {
	int pid; /* 0: none serves */
	bool supervised; /* pviod starts it */
	char name[80];
	char cmdline[TEXT_MAX], environ[TEXT_MAX]; /* as /proc has them: strings one after the other */
	char *argv[WORDS_MAX + 1], *envp[WORDS_MAX * 8 + 1];
};

static int read_proc(int pid, const char *what, char *buf, size_t len)
{
	char path[64];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	n = fread(buf, 1, len - 1, f);
	buf[n] = '\0';
	fclose(f);
	return (int)n;
}

static int split(char *text, int n, char **words, int max)
{
	int count = 0;

	for (char *at = text; at < text + n && count < max; at += strlen(at) + 1)
		words[count++] = at;
	words[count] = NULL;
	return count;
}

/* The backend of that name as pviod knows it now. Returns its pid, 0: it is not registered, -1 after a message. *supervised: does pviod start
 * it? */
static int look_up(struct pvio *p, const char *name, bool *supervised)
{
	struct json_object *o, *list = NULL, *v = NULL;
	int rc, pid = 0;

	o = ask(p, "backend.list", json_object_new_object(), 0, &rc);
	if (!o)
		return -1;
	json_object_object_get_ex(o, "backends", &list);
	*supervised = false;
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *b = json_object_array_get_idx(list, i);

		if (strcmp(text_of(b, "name"), name))
			continue;
		*supervised = strcmp(text_of(b, "supervised"), "true") == 0;
		if (strcmp(text_of(b, "registered"), "true") == 0 && json_object_object_get_ex(b, "pid", &v))
			pid = json_object_get_int(v);
	}
	json_object_put(o);
	return pid;
}

static int registered_pid(struct pvio *p, const char *name)
{
	bool supervised;

	return look_up(p, name, &supervised);
}

/* What systemd started it also starts again, and would end another one that is not its own. */
static bool of_systemd(int pid, const char *program)
{
	char cgroup[4096], unit[200];
	const char *slash = strrchr(program, '/');

	snprintf(unit, sizeof(unit), "/%s.service", slash ? slash + 1 : program);
	return read_proc(pid, "cgroup", cgroup, sizeof(cgroup)) > 0 && strstr(cgroup, unit);
}

/* Find it. Returns 0, or EXIT_FAILED after a message. */
static int find(struct pvio *p, struct old *old)
{
	snprintf(old->name, sizeof(old->name), "%s", p->args[0]);
	old->pid = look_up(p, old->name, &old->supervised);
	return old->pid < 0 ? EXIT_FAILED : 0;
}

/* Learn how it was started. Returns 0, or EXIT_FAILED after a message. */
static int learn(struct pvio *p, struct old *old)
{
	int n, e;

	if (old->pid == 0)
		return say_failed(p, "no backend %s is running; `pvio backend list` shows those that are", old->name);
	if (strchr(old->name, '/'))
		return say_failed(p, "%s runs in a driver domain: do it there, with systemctl or by hand", old->name);
	n = read_proc(old->pid, "cmdline", old->cmdline, sizeof(old->cmdline));
	e = read_proc(old->pid, "environ", old->environ, sizeof(old->environ));
	if (n <= 0 || e < 0)
		return say_failed(p, "cannot see how %s (pid %d) was started: %s; be root, or its user", old->name, old->pid,
				  strerror(n < 0 ? -n : e < 0 ? -e : ENOENT));
	split(old->cmdline, n, old->argv, WORDS_MAX - 1);
	split(old->environ, e, old->envp, WORDS_MAX * 8);
	if (of_systemd(old->pid, old->argv[0]))
		return say_failed(p, "%s is systemd's: `systemctl restart` its unit, of which no guest notices anything either", old->name);
	return 0;
}

/* In the child: what was the old one's, and off. */
static void __attribute__((noreturn)) become(const struct old *old, char **argv, bool takeover)
{
	char path[64];
	int log;

	setsid();
	snprintf(path, sizeof(path), "/proc/%d/fd/2", old->pid);
	log = open(path, O_WRONLY | O_APPEND);
	if (log >= 0 && (dup2(log, 1) < 0 || dup2(log, 2) < 0))
		_exit(127);
	snprintf(path, sizeof(path), "/proc/%d/cwd", old->pid);
	if (chdir(path) < 0 || dup2(open("/dev/null", O_RDONLY), 0) < 0)
		_exit(127);
	if (!takeover && kill(old->pid, SIGKILL) < 0)
		fprintf(stderr, "pvio: cannot kill pid %d: %s\n", old->pid, strerror(errno));
	close_range(3, ~0u, 0);
	execvpe(argv[0], argv, old->envp);
	fprintf(stderr, "pvio: cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* The words of the new one. */
static void command_of(struct pvio *p, struct old *old, bool takeover, char **argv)
{
	int n = 0;

	for (int i = 1; i < p->nargs; i++)
		argv[n++] = (char *)p->args[i];
	for (int i = 0; p->nargs == 1 && old->argv[i]; i++)
		if (strcmp(old->argv[i], "--takeover"))
			argv[n++] = old->argv[i];
	if (takeover)
		argv[n++] = (char *)"--takeover";
	argv[n] = NULL;
}

/* Do devices of the backend still wait for it? */
static bool lost_ones(struct pvio *p, const char *name)
{
	int rc;
	struct json_object *all = ask_devices(p, "list", NULL, NULL, &rc);
	bool lost = false;

	for (size_t i = 0; all && i < json_object_array_length(all); i++) {
		struct json_object *dev = json_object_array_get_idx(all, i);

		lost |= strcmp(text_of(dev, "backend"), name) == 0 && strcmp(text_of(dev, "state"), "lost") == 0;
	}
	json_object_put(all);
	return lost;
}

static int wait_until_it_serves(struct pvio *p, const struct old *old, pid_t pid)
{
	bool serves = false;
	int now = 0, status;

	for (int ms = 0; ms < PATIENCE_MS && !serves && now >= 0; ms += STEP_MS) {
		if (waitpid(pid, &status, WNOHANG) == pid || (kill(pid, 0) < 0 && errno == ESRCH)) /* ours, or pviod's */
			return say_failed(p, "the new one (pid %d) ended at once; its log says why", (int)pid);
		now = registered_pid(p, old->name);
		serves = now == pid && !lost_ones(p, old->name);
		if (!serves)
			poll(NULL, 0, STEP_MS);
	}
	if (now < 0)
		return EXIT_FAILED;
	if (!serves)
		return say_failed(p, now == pid ? "pid %d serves, but not each device; see `pvio list`" : "pid %d does not register; see its log", (int)pid);
	printf("%s: pid %d serves", old->name, (int)pid);
	printf(old->pid ? " in place of pid %d\n" : "\n", old->pid);
	return EXIT_DONE;
}

/* pviod starts the new one. */
static int replace_supervised(struct pvio *p, const struct old *old, bool takeover)
{
	struct json_object *params = json_object_new_object(), *command = json_object_new_array(), *o, *v = NULL;
	int rc;

	for (int i = 1; i < p->nargs; i++)
		json_object_array_add(command, json_object_new_string(p->args[i]));
	json_object_object_add(params, "name", json_object_new_string(old->name));
	json_object_object_add(params, "takeover", json_object_new_boolean(takeover));
	if (p->nargs > 1)
		json_object_object_add(params, "command", command);
	else
		json_object_put(command);
	o = ask(p, "backend.replace", params, 0, &rc);
	if (!o)
		return rc;
	json_object_object_get_ex(o, "pid", &v);
	rc = wait_until_it_serves(p, old, json_object_get_int(v));
	json_object_put(o);
	return rc;
}

static int replace(struct pvio *p, bool takeover)
{
	static struct old old;
	char *argv[ARGS_MAX + WORDS_MAX + 1];
	const char *slash, *daemon;
	pid_t pid;
	int rc = find(p, &old);

	if (rc == 0 && old.supervised)
		return replace_supervised(p, &old, takeover);
	if (rc == 0)
		rc = learn(p, &old);
	if (rc)
		return rc;
	slash = strrchr(old.argv[0], '/');
	daemon = slash ? slash + 1 : old.argv[0];
	if (sandbox_pid(p, daemon) != old.pid)
		daemon = NULL;
	command_of(p, &old, takeover, argv);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		become(&old, argv, takeover);
	if (pid < 0)
		return say_failed(p, "cannot start another process: %s", strerror(errno));
	if (daemon)
		sandbox_set_pid(p, daemon, pid);
	return wait_until_it_serves(p, &old, pid);
}

int cmd_backend_handover(struct pvio *p)
{
	return replace(p, true);
}

int cmd_backend_restart(struct pvio *p)
{
	return replace(p, false);
}
