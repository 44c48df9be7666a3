/* pvio.c - the command: one table of subcommands drives parsing, --help and what runs. */
#include "pvio.h"
#include <errno.h>
#include <pvio/hyper.h>
#include <pvio/rpc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct command commands[] = {
	{ "sandbox up", "", 0, 0, false, "start the loopback hypervisor, pviod, both backends and some guests, each with a vif",
	  cmd_sandbox_up, {
		{ "--guests", "N", "how many guests, g1 .. gN (2)", false },
		{ "--disk", "FILE", "a disk image; the first one is g1's xvda, the second g2's", true },
		{ "--uplink", "DEVICE", "netback's uplink, a DPDK device such as net_tap0 (none)", false },
		{ "--cpus", "LIST", "run the backends on these CPUs, such as 1,2-3 (all)", false },
	  } },
	{ "sandbox down", "", 0, 0, false, "end what `sandbox up` started, and remove what it made", cmd_sandbox_down, { { 0 } } },
	{ "guest create", "NAME", 1, 1, true, "make a guest (loopback hypervisor)", cmd_guest_create, {
		{ "--domid", "N", "its domain id (the lowest free one)", false },
	  } },
	{ "guest list", "", 0, 0, true, "the guests", cmd_guest_list, { { 0 } } },
	{ "guest destroy", "GUEST", 1, 1, false, "detach all devices of a guest and end it", cmd_guest_destroy, {
		{ "--force", NULL, "without waiting for the guest", false },
		{ "--timeout", "SECONDS", "how long to wait for the guest (5)", false },
	  } },
	{ "attach", "GUEST vif|vbd [NAME] [KEY=VALUE...]", 2, ARGS_MAX, true, "give a guest a device: vbd path=FILE, vif mac=...", cmd_attach, {
		{ "--backend", "NAME", "which backend serves it (the first of its type)", false },
		{ "--wait", "[SECONDS]", "until it is connected (10), not only announced", false },
	  } },
	{ "detach", "GUEST DEVICE", 2, 3, false, "take a device from a guest: xvda, vif0, `vif 0`", cmd_detach, {
		{ "--force", NULL, "without waiting for the guest", false },
		{ "--timeout", "SECONDS", "how long to wait for the guest (5)", false },
	  } },
	{ "list", "[GUEST]", 0, 1, true, "the devices and how they do", cmd_list, { { 0 } } },
	{ "stats", "[GUEST [DEVICE]]", 0, 2, true, "counters of connected devices", cmd_stats, { { 0 } } },
	{ "inspect", "[GUEST [DEVICE]]", 0, 2, true, "the inside of devices: indices, in-flight, caches, handshake", cmd_inspect, { { 0 } } },
	{ "backend list", "", 0, 0, true, "the backends that serve devices", cmd_backend_list, { { 0 } } },
	{ "doctor", "", 0, 0, true, "what this machine has and lacks; exit 1 if something needed is missing", cmd_doctor, { { 0 } } },
	{ "version", "", 0, 0, true, "of this command and of pviod", cmd_version, { { 0 } } },
};

enum { NR_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

/* ---- messages ---- */

static void say(struct pvio *p, const char *fmt, va_list ap)
{
	fprintf(stderr, "pvio: %s: ", p->what);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

int say_failed(struct pvio *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(p, fmt, ap);
	va_end(ap);
	return EXIT_FAILED;
}

int say_usage(struct pvio *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(p, fmt, ap);
	va_end(ap);
	fprintf(stderr, "usage: pvio %s%s%s\n", p->cmd->name, *p->cmd->args ? " " : "", p->cmd->args);
	return EXIT_USAGE;
}

/* ---- options ---- */

static int opt_index(const struct command *c, const char *name, size_t n)
{
	for (int i = 0; i < OPTIONS_MAX && c->opts[i].name; i++)
		if (strlen(c->opts[i].name) == n && strncmp(c->opts[i].name, name, n) == 0)
			return i;
	return -1;
}

const char *opt_value(const struct pvio *p, const char *name)
{
	int i = opt_index(p->cmd, name, strlen(name));

	return i >= 0 && p->nvalues[i] ? p->values[i][p->nvalues[i] - 1] : NULL;
}

int opt_count(const struct pvio *p, const char *name, const char *const **values)
{
	int i = opt_index(p->cmd, name, strlen(name));

	*values = p->values[i];
	return p->nvalues[i];
}

long opt_number(struct pvio *p, const char *name, long none, long max)
{
	const char *v = opt_value(p, name);
	char *end;
	long n;

	if (!v || !*v)
		return none;
	errno = 0;
	n = strtol(v, &end, 10);
	if (*v >= '0' && *v <= '9' && *end == '\0' && errno == 0 && n <= max)
		return n;
	say_usage(p, "%s %s: not a number in 0..%ld", name, v, max);
	return -1;
}

double opt_seconds(struct pvio *p, const char *name, double none)
{
	const char *v = opt_value(p, name);
	char *end;
	double n;

	if (!v || !*v)
		return none;
	n = strtod(v, &end);
	if (*v >= '0' && *v <= '9' && *end == '\0' && n <= 3600)
		return n;
	say_usage(p, "%s %s: not a number of seconds in 0..3600", name, v);
	return -1;
}

/* ---- pviod ---- */

static int connect_pviod(struct pvio *p)
{
	char path[PATH_MAX + 16], why[512];

	if (p->tool)
		return 0;
	snprintf(path, sizeof(path), "%s/pviod.sock", p->dir);
	return pv_tool_open(path, &p->tool, why, sizeof(why)) < 0 ? say_failed(p, "%s; `pvio sandbox up` starts one for trying out", why) : 0;
}

struct json_object *ask(struct pvio *p, const char *method, struct json_object *params, unsigned timeout_ms, int *exit_code)
{
	struct json_object *result = NULL;
	char *text = NULL;
	int rc;

	*exit_code = EXIT_FAILED;
	if (connect_pviod(p)) {
		json_object_put(params);
		return NULL;
	}
	rc = pv_tool_call(p->tool, method, json_object_to_json_string(params), timeout_ms, &text);
	json_object_put(params);
	if (rc == PV_RPC_BAD_PARAMS)
		*exit_code = say_usage(p, "%s", pv_tool_error(p->tool));
	else if (rc < 0)
		say_failed(p, "%s", pv_tool_error(p->tool));
	else
		result = json_tokener_parse(text);
	free(text);
	return result;
}

struct json_object *ask_devices(struct pvio *p, const char *method, const char *guest, const char *device, int *exit_code)
{
	struct json_object *all = json_object_new_array(), *next = NULL;
	int64_t after = 0;

	do {
		struct json_object *params = json_object_new_object(), *page, *devices = NULL;

		if (guest)
			json_object_object_add(params, "guest", json_object_new_string(guest));
		if (device)
			json_object_object_add(params, "device", json_object_new_string(device));
		json_object_object_add(params, "after", json_object_new_int64(after));
		page = ask(p, method, params, 0, exit_code);
		if (!page) {
			json_object_put(all);
			return NULL;
		}
		json_object_object_get_ex(page, "devices", &devices);
		for (size_t i = 0; devices && i < json_object_array_length(devices); i++)
			json_object_array_add(all, json_object_get(json_object_array_get_idx(devices, i)));
		after = json_object_object_get_ex(page, "next", &next) && next ? json_object_get_int64(next) : 0;
		json_object_put(page);
	} while (after);
	*exit_code = EXIT_DONE;
	return all;
}

void sibling(char *path, size_t len, const char *program)
{
	char self[PATH_MAX] = "";
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash = n > 0 ? strrchr(self, '/') : NULL;

	if (slash)
		slash[1] = '\0';
	snprintf(path, len, "%s%s", slash ? self : "", program);
}

/* ---- help ---- */

static void help_all(void)
{
	printf("Usage: pvio COMMAND [ARGUMENT...] [OPTION...]\nParavirtual I/O for Xen guests: gives guests devices and shows how they do.\n\n");
	for (int i = 0; i < NR_COMMANDS; i++) {
		const struct command *c = &commands[i];
		char left[80];

		snprintf(left, sizeof(left), "%s%s%s", c->name, *c->args ? " " : "", c->args);
		printf(strlen(left) > 25 ? "  %s\n  %-25s  %s\n" : "  %-25s%s  %s\n", left, "", c->help);
	}
	printf("\nOptions of all commands:\n  --dir RUNDIR     where the sockets are (default: $PVIO_RUNDIR, else /run/pvio)\n"
	       "  --json           print data as JSON\n  --help           of pvio or of a command\n  --version        the version\n");
}

static void help_one(const struct command *c)
{
	printf("Usage: pvio %s%s%s [OPTION...]\n%c%s\n\n", c->name, *c->args ? " " : "", c->args, c->help[0] - 'a' + 'A', c->help + 1);
	for (int i = 0; i < OPTIONS_MAX && c->opts[i].name; i++) {
		char left[40];

		snprintf(left, sizeof(left), "%s%s%s", c->opts[i].name, c->opts[i].arg ? " " : "", c->opts[i].arg ? c->opts[i].arg : "");
		printf("  %-20s %s\n", left, c->opts[i].help);
	}
	if (c->prints_data)
		printf("  %-20s %s\n", "--json", "print data as JSON");
	printf("  %-20s %s\n", "--dir RUNDIR", "where the sockets are (default: $PVIO_RUNDIR, else /run/pvio)");
}

/* ---- parsing ---- */

static const struct command *find_command(int argc, char **argv, int *used)
{
	for (int i = 0; i < NR_COMMANDS; i++) {
		const char *name = commands[i].name, *space = strchr(name, ' ');
		size_t n = space ? (size_t)(space - name) : strlen(name);

		if (argc < 2 || strlen(argv[1]) != n || strncmp(argv[1], name, n))
			continue;
		*used = space ? 3 : 2;
		if (!space || (argc > 2 && strcmp(argv[2], space + 1) == 0))
			return &commands[i];
	}
	return NULL;
}

/* Is s what an option "[X]" may take? */
static bool is_number(const char *s)
{
	return s && *s >= '0' && *s <= '9' && strspn(s, "0123456789.") == strlen(s);
}

static int put_dir(struct pvio *p, const char *v)
{
	char cwd[PATH_MAX];

	if (!v || !*v)
		return say_usage(p, "--dir takes a directory");
	if (*v == '/' || !getcwd(cwd, sizeof(cwd)))
		cwd[0] = '\0';
	if (snprintf(p->dir, sizeof(p->dir), "%s%s%s", cwd, *cwd ? "/" : "", v) >= (int)sizeof(p->dir))
		return say_usage(p, "--dir: the path is too long");
	return 0;
}

/* One option at argv[*i]. Returns 0, or the exit code after a message. */
static int parse_option(struct pvio *p, char **argv, int *i)
{
	const char *eq = strchr(argv[*i], '='), *value = eq ? eq + 1 : NULL;
	size_t n = eq ? (size_t)(eq - argv[*i]) : strlen(argv[*i]);
	int o = opt_index(p->cmd, argv[*i], n);

	if (strncmp(argv[*i], "--json", n) == 0 && n == 6 && p->cmd->prints_data) {
		p->json = true;
		return 0;
	}
	if (strncmp(argv[*i], "--dir", n) == 0 && n == 5)
		return put_dir(p, value ? value : argv[++*i]);
	if (o < 0)
		return say_usage(p, "there is no option %s; pvio %s --help lists them", argv[*i], p->cmd->name);
	if (!p->cmd->opts[o].arg && value)
		return say_usage(p, "%s takes no value", p->cmd->opts[o].name);
	if (!p->cmd->opts[o].arg)
		value = "";
	else if (!value && p->cmd->opts[o].arg[0] == '[')
		value = is_number(argv[*i + 1]) ? argv[++*i] : "";
	else if (!value && !(value = argv[++*i]))
		return say_usage(p, "%s takes a value: %s", p->cmd->opts[o].name, p->cmd->opts[o].arg);
	if (!p->cmd->opts[o].many)
		p->nvalues[o] = 0;
	if (p->nvalues[o] == VALUES_MAX)
		return say_usage(p, "%s is given more than %d times", p->cmd->opts[o].name, VALUES_MAX);
	p->values[o][p->nvalues[o]++] = value;
	return 0;
}

/* Options may stand anywhere; after "--" there are none. Returns 0, or the exit code after a message or --help (-1: done). */
static int parse(struct pvio *p, int argc, char **argv, int first)
{
	bool only_args = false;

	for (int i = first; i < argc; i++) {
		int rc = 0;

		if (!only_args && strcmp(argv[i], "--") == 0) {
			only_args = true;
		} else if (!only_args && strcmp(argv[i], "--help") == 0) {
			help_one(p->cmd);
			return -1;
		} else if (!only_args && argv[i][0] == '-' && argv[i][1]) {
			rc = parse_option(p, argv, &i);
		} else if (p->nargs == ARGS_MAX) {
			rc = say_usage(p, "too many arguments");
		} else {
			p->args[p->nargs++] = argv[i];
		}
		if (rc)
			return rc;
	}
	if (p->nargs < p->cmd->min || p->nargs > p->cmd->max)
		return say_usage(p, p->nargs < p->cmd->min ? "an argument is missing" : "too many arguments");
	return 0;
}

/* Begin messages with what was asked: the command and its arguments, without key=value. */
static void name_it(struct pvio *p)
{
	for (int i = 0; i < p->nargs; i++) {
		size_t n = strlen(p->what);

		if (!strchr(p->args[i], '='))
			snprintf(p->what + n, sizeof(p->what) - n, " %s", p->args[i]);
	}
}

int main(int argc, char **argv)
{
	struct pvio p = { 0 };
	int used = 0, rc;

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		help_all();
		return EXIT_DONE;
	}
	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		printf("pvio %s\n", PVIO_VERSION);
		return EXIT_DONE;
	}
	p.cmd = find_command(argc, argv, &used);
	if (!p.cmd) {
		fprintf(stderr, argc < 2 ? "pvio: say what to do; pvio --help lists the commands\n" :
			"pvio: there is no command %s%s%s; pvio --help lists them\n", argc < 2 ? "" : argv[1], used == 3 && argc > 2 ? " " : "",
			used == 3 && argc > 2 ? argv[2] : "");
		return EXIT_USAGE;
	}
	snprintf(p.what, sizeof(p.what), "%s", p.cmd->name);
	snprintf(p.dir, sizeof(p.dir), "%s", pv_rundir());
	rc = parse(&p, argc, argv, used);
	if (rc)
		return rc < 0 ? EXIT_DONE : rc;
	name_it(&p);
	rc = p.cmd->run(&p);
	pv_tool_close(p.tool);
	if (fflush(stdout) != 0 && rc == EXIT_DONE)
		rc = say_failed(&p, "cannot write to standard output: %s", strerror(errno));
	return rc;
}
