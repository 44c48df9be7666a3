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
		{ "--guests", "N", "how many guests, 0..64: g1 .. gN (2)", false },
		{ "--disk", "FILE", "a disk image, the first for g1, the second for g2; up to 16", true },
		{ "--uplink", "DEVICE", "netback's uplink, such as linux:xenbr0, tap:NAME or a DPDK device (none)", false },
		{ "--cpus", "LIST", "run the backends on these CPUs, such as 0,2-3 (all)", false },
	  } },
	{ "sandbox down", "", 0, 0, false, "end what `sandbox up` started, and remove what it made", cmd_sandbox_down, { { 0 } } },
	{ "guest create", "NAME", 1, 1, true, "make a guest: on Xen from a kernel, on the loopback hypervisor a name alone", cmd_guest_create, {
		{ "--type", "pv|pvh", "how its kernel is started (Xen; no default)", false },
		{ "--kernel", "FILE", "bzImage or ELF (Xen; no default)", false },
		{ "--ramdisk", "FILE", "its initial ramdisk (none)", false },
		{ "--cmdline", "TEXT", "for its kernel (none)", false },
		{ "--memory", "MIB", "1..8388608 (512)", false },
		{ "--vcpus", "N", "1..128 (1)", false },
		{ "--uuid", "UUID", "of its domain (random)", false },
		{ "--domid", "N", "its domain id, 1..32751 (one that is free)", false },
		{ "--vbd", "\"[NAME] KEY=VALUE...\"", "a disk from the start, such as \"xvda path=disk.img\"", true },
		{ "--vif", "\"[NAME] KEY=VALUE...\"", "an interface from the start, such as \"bridge=xenbr0\"", true },
		{ "--passthrough", NULL, "virtual functions can be attached to it (Xen with an IOMMU, type pv)", false },
		{ "--vf", "\"[KEY=VALUE]...\"", "a virtual function from the start, such as \"pool=fast\"; means --passthrough", true },
		{ "--paused", NULL, "do not let it run yet: `guest start` does", false },
	  } },
	{ "guest list", "", 0, 0, true, "the guests, and on Xen the other domains", cmd_guest_list, { { 0 } } },
	{ "guest start", "GUEST", 1, 1, false, "let a paused guest run (Xen)", cmd_guest_start, { { 0 } } },
	{ "guest pause", "GUEST", 1, 1, false, "take its CPUs away for a while (Xen)", cmd_guest_pause, { { 0 } } },
	{ "guest console", "GUEST", 1, 1, false, "this terminal as the guest's (Xen); Ctrl-] leaves it", cmd_guest_console, {
		{ "--read", NULL, "show it only, type nothing", false },
	  } },
	{ "guest shutdown", "GUEST", 1, 1, false, "ask a guest to power off, and wait until it has (Xen)", cmd_guest_shutdown, {
		{ "--reboot", NULL, "ask it to reboot: its domain ends all the same, and may be created anew", false },
		{ "--timeout", "SECONDS", "how long to wait for the guest, 0..3600 (30)", false },
	  } },
	{ "guest destroy", "GUEST", 1, 1, false, "detach all devices of a guest and end it; on Xen at once, as if its power were cut", cmd_guest_destroy, {
		{ "--force", NULL, "without waiting for the guest", false },
		{ "--timeout", "SECONDS", "how long to wait for the guest, 0..3600 (5)", false },
	  } },
	{ "attach", "GUEST vif|vbd|vf|pipe [NAME] [KEY=VALUE...]", 2, ARGS_MAX, true, "give a guest a device: vbd path=FILE, vif mac=..., vf pool=...", cmd_attach, {
		{ "--backend", "NAME", "which backend serves it (the first of its type)", false },
		{ "--dialect", "NAME", "noxs: shared pages; xenstore: nodes, for kernels that know nothing of pvio (the guest's)", false },
		{ "--wait", "[SECONDS]", "until it is connected, not only announced: 0..3600 (10)", false },
	  } },
	{ "set", "GUEST DEVICE KEY=VALUE...", 3, ARGS_MAX, false, "change keys of a device while it runs; KEY= takes one out: vif0 mtu=9000, xvda iops=500",
	  cmd_set, { { 0 } } },
	{ "pair", "GUEST VIF|VF vf|vif", 3, 3, false, "of a vif and a VF that are one NIC (vif key pair=), have the guest use that; wait until it does", cmd_pair, {
		{ "--timeout", "SECONDS", "how long to wait for the guest, 0..3600 (5)", false },
	  } },
	{ "resize", "GUEST VBD [SIZE]", 2, 3, true, "tell a guest that its disk has grown: xvda; with SIZE (20G) change the image file first", cmd_resize, {
		{ "--force", NULL, "also shrink a disk that a guest uses", false },
	  } },
	{ "detach", "GUEST DEVICE", 2, 3, false, "take a device from a guest: xvda, vif0, `vif 0`", cmd_detach, {
		{ "--force", NULL, "without waiting for the guest", false },
		{ "--timeout", "SECONDS", "how long to wait for the guest, 0..3600 (5)", false },
	  } },
	{ "claim", "PATH", 1, 1, false, "serve a device that xl made, backend/vbd/3/51712 for instance: for its hotplug scripts", cmd_claim, { { 0 } } },
	{ "list", "[GUEST]", 0, 1, true, "the devices and how they do", cmd_list, { { 0 } } },
	{ "stats", "[GUEST [DEVICE]]", 0, 2, true, "the counters of each device, connected or not, as its backend has them", cmd_stats, {
		{ "--queues", NULL, "of each queue as well, not only their sums (--json always has both)", false },
	  } },
	{ "inspect", "[GUEST [DEVICE]]", 0, 2, true, "the inside of devices: indices, in-flight, caches, handshake", cmd_inspect, { { 0 } } },
	{ "rules check", "FILE", 1, 1, false, "is this a rules file? see pvio-rules(5)", cmd_rules_check, { { 0 } } },
	{ "rules load", "GUEST VIF FILE", 3, 3, false, "let these rules decide what passes a vif, from now on; an empty file: no rules", cmd_rules_load, { { 0 } } },
	{ "rules show", "GUEST VIF", 2, 2, true, "the rules of a vif, and how many packets each decided about", cmd_rules_show, { { 0 } } },
	{ "capture", "GUEST VIF", 2, 2, false, "write what passes a vif to a file, for tshark or Wireshark; Ctrl-C ends it", cmd_capture, {
		{ "-w", "FILE", "where to: a pcapng file, or - for a pipe (no default)", false },
		{ "--snaplen", "BYTES", "of each packet at most, 1..262144 (all)", false },
		{ "--count", "N", "end after so many packets (never)", false },
		{ "--direction", "from|to|both", "from the guest, to it, or both (both)", false },
	  } },
	{ "backend list", "", 0, 0, true, "the backends that serve devices", cmd_backend_list, { { 0 } } },
	{ "backend handover", "NAME [-- COMMAND [ARG...]]", 1, ARGS_MAX, false,
	  "start it anew, or COMMAND in its place, which takes over its devices; no guest notices", cmd_backend_handover, { { 0 } } },
	{ "backend restart", "NAME [-- COMMAND [ARG...]]", 1, ARGS_MAX, false, "the same for one that hangs: it is killed first", cmd_backend_restart, { { 0 } } },
	{ "vf list", "", 0, 0, true, "the SR-IOV functions of this machine, and who has them", cmd_vf_list, { { 0 } } },
	{ "vf show", "PF|VF", 1, 1, true, "all that is known of one: 0000:01:00.0, eth1, p0, 8086:10c9, or of its VF eth1/0", cmd_vf_show, {
		{ "--probe", NULL, "ask the driver of the PF which settings it has; changes none", false },
	  } },
	{ "vf plan", "FILE", 1, 1, true, "what `vf apply FILE` would do; see pvio-vf(5)", cmd_vf_plan, { { 0 } } },
	{ "vf apply", "FILE", 1, 1, true, "make virtual functions as FILE declares them, and keep them so; see pvio-vf(5)", cmd_vf_apply, {
		{ "--undo", NULL, "if the device refuses something, put everything back as it was", false },
		{ "--keep", NULL, "if the device refuses something, keep the rest (this is the default)", false },
	  } },
	{ "vf keep", "", 0, 0, false, "make again what was applied, whenever the kernel tells of a change", cmd_vf_keep, {
		{ "--once", NULL, "now, at boot for instance, the virtual functions too; then end", false },
	  } },
	{ "vf claim", "[VF] [SETTING=VALUE...]", 0, ARGS_MAX, true, "a virtual function that nobody has, for somebody: prints its address", cmd_vf_claim, {
		{ "--for", "OWNER", "who is to have it: a guest, or any name (no default)", false },
		{ "--driver", "NAME", "bind it to vfio-pci, pciback, netdev (the kernel's own for it) or another (leave it as it is)", false },
		{ "--pool", "NAME", "one that was declared to be in this pool (in none)", false },
		{ "--pf", "PF", "one of this PF: an address, netdev, vendor:device or port (any)", false },
		{ "--numa", "NODE", "one of a PF on this node (any)", false },
		{ "--need", "SETTING,...", "one whose driver is not known to lack these settings, such as vlan,max_rate", false },
	  } },
	{ "vf release", "VF", 1, 1, false, "take a virtual function back: detached, wiped, reset, proven clean, and bound as it was before", cmd_vf_release, {
		{ "--for", "OWNER", "only if this owner has it", false },
		{ "--reset", "bus|pm", "allow this way as well, if it has no function-level reset; bus: if nothing else is on it", false },
		{ "--timeout", "SECONDS", "how long its reset may take, 0..3600 (10)", false },
	  } },
	{ "vf bind", "VF DRIVER", 2, 2, false, "give a claimed virtual function another driver: vfio-pci, pciback, netdev, or a name", cmd_vf_bind, { { 0 } } },
	{ "vf quarantine", "list|clear [VF]", 1, 2, true, "those that were not proven clean, and why; clear VF: reset it again and see", cmd_vf_quarantine, {
		{ "--reset", "bus|pm", "as of vf release", false },
		{ "--timeout", "SECONDS", "as of vf release, 0..3600 (10)", false },
	  } },
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

/* The command, its arguments and its options in one line. */
static void put_usage(FILE *f, const struct command *c)
{
	fprintf(f, "pvio %s%s%s", c->name, *c->args ? " " : "", c->args);
	for (int i = 0; i < OPTIONS_MAX && c->opts[i].name; i++) {
		const struct opt *o = &c->opts[i];

		fprintf(f, " [%s%s%s]%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "", o->many ? "..." : "");
	}
	fprintf(f, "%s [--dir RUNDIR]\n", c->prints_data ? " [--json]" : "");
}

int say_usage(struct pvio *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(p, fmt, ap);
	va_end(ap);
	fprintf(stderr, "usage: ");
	put_usage(stderr, p->cmd);
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

long opt_number(struct pvio *p, const char *name, long none, long min, long max)
{
	const char *v = opt_value(p, name);
	char *end;
	long n;

	if (!v || !*v)
		return none;
	errno = 0;
	n = strtol(v, &end, 10);
	if (*v >= '0' && *v <= '9' && *end == '\0' && errno == 0 && n >= min && n <= max)
		return n;
	say_usage(p, "%s %s: not a number in %ld..%ld", name, v, min, max);
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

/* ---- files ---- */

char *read_text(struct pvio *p, const char *path, size_t max, size_t *len)
{
	FILE *f = strcmp(path, "-") ? fopen(path, "re") : stdin;
	char *text = f ? malloc(max + 2) : NULL;
	bool failed = !text;

	if (text) {
		*len = fread(text, 1, max + 1, f);
		text[*len] = 0;
		failed = ferror(f);
	}
	if (failed) {
		say_failed(p, "cannot read %s: %s", path, strerror(errno));
		free(text);
		text = NULL;
	}
	if (f && f != stdin)
		fclose(f);
	return text;
}

int say_in_file(struct pvio *p, const char *path, const char *why)
{
	unsigned line, column;
	char blank;

	if (sscanf(why, "%u:%u:%c", &line, &column, &blank) != 3 || blank != ' ')
		return say_failed(p, "%s", *why ? why : "out of memory");
	fprintf(stderr, "%s:%s\n", strcmp(path, "-") ? path : "standard input", why);
	return EXIT_FAILED;
}

/* ---- pviod ---- */

static int connect_pviod(struct pvio *p)
{
	char path[PATH_MAX + 16], why[512];
	int rc;

	if (p->tool)
		return 0;
	snprintf(path, sizeof(path), "%s/pviod.sock", p->dir);
	rc = pv_tool_open(path, &p->tool, why, sizeof(why));
	if (rc == -EACCES || rc == -EPERM)
		return say_failed(p, "%s; be root, or the user that pviod runs as", why);
	return rc < 0 ? say_failed(p, "%s; `pvio sandbox up` starts one for trying out", why) : 0;
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

/* ---- which command ---- */

/* Is word the n-th (0, 1) word of the command's name? */
static bool has_word(const struct command *c, int n, const char *word)
{
	const char *space = strchr(c->name, ' ');

	if (n)
		return space && strcmp(space + 1, word) == 0;
	return space ? strlen(word) == (size_t)(space - c->name) && strncmp(c->name, word, space - c->name) == 0 : strcmp(c->name, word) == 0;
}

static bool is_group(const char *word)
{
	for (int i = 0; i < NR_COMMANDS; i++)
		if (has_word(&commands[i], 0, word) && strchr(commands[i].name, ' '))
			return true;
	return false;
}

/* The command of these words, of which the second may be NULL. */
static const struct command *find_command(const char *const *word)
{
	for (int i = 0; i < NR_COMMANDS; i++)
		if (has_word(&commands[i], 0, word[0]) && (word[1] ? has_word(&commands[i], 1, word[1]) : !strchr(commands[i].name, ' ')))
			return &commands[i];
	return NULL;
}

/* ---- help ---- */

/* All commands, or those of one group. */
static int help_commands(const char *group)
{
	if (group)
		printf("Usage: pvio %s COMMAND [ARGUMENT...] [OPTION...]\n\n", group);
	else
		printf("Usage: pvio COMMAND [ARGUMENT...] [OPTION...]\n"
		       "Paravirtual I/O for Xen guests: gives guests devices and shows how they do.\n\n");
	for (int i = 0; i < NR_COMMANDS; i++) {
		const struct command *c = &commands[i];
		char left[80];

		if (group && !has_word(c, 0, group))
			continue;
		snprintf(left, sizeof(left), "%s%s%s", c->name, *c->args ? " " : "", c->args);
		printf(strlen(left) > 25 ? "  %s\n  %-25s  %s\n" : "  %-25s%s  %s\n", left, "", c->help);
	}
	printf("\nOptions of all commands:\n  --dir RUNDIR     where the sockets are (default: $PVIO_RUNDIR, else /run/pvio)\n"
	       "  --json           print data as JSON\n  --help           of pvio or of a command, as pvio help COMMAND\n"
	       "  --version        the version\n");
	return EXIT_DONE;
}

static int help_one(const struct command *c)
{
	printf("Usage: ");
	put_usage(stdout, c);
	printf("%c%s\n\n", c->help[0] - 'a' + 'A', c->help + 1);
	for (int i = 0; i < OPTIONS_MAX && c->opts[i].name; i++) {
		char left[40];

		snprintf(left, sizeof(left), "%s%s%s", c->opts[i].name, c->opts[i].arg ? " " : "", c->opts[i].arg ? c->opts[i].arg : "");
		printf("  %-20s %s\n", left, c->opts[i].help);
	}
	if (c->prints_data)
		printf("  %-20s %s\n", "--json", "print data as JSON");
	printf("  %-20s %s\n", "--dir RUNDIR", "where the sockets are (default: $PVIO_RUNDIR, else /run/pvio)");
	return EXIT_DONE;
}

static bool is_help(const char *arg)
{
	return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

/* ---- parsing ---- */

/* What stands before the arguments: the words of the command, with options of all commands before and between them. */
struct head {
	const char *word[2];
	int nwords;
	bool help, version;
	const char *wrong; /* an option that cannot stand there */
	const struct command *cmd; /* NULL: the words name none */
};

/* Take the command's words out of argv; what remains, from argv[1] on, is for parse(). Returns the new argc. */
static int take_head(struct head *h, int argc, char **argv)
{
	int i, n = 1;

	for (i = 1; i < argc && !h->cmd && h->nwords < 2 && !h->wrong; i++) {
		if (is_help(argv[i]) || (!h->help && strcmp(argv[i], "help") == 0)) {
			h->help = true;
		} else if (strcmp(argv[i], "--version") == 0) {
			h->version = true;
		} else if (strcmp(argv[i], "--json") == 0 || strncmp(argv[i], "--dir=", 6) == 0) {
			argv[n++] = argv[i];
		} else if (strcmp(argv[i], "--dir") == 0 && i + 1 < argc) {
			argv[n++] = argv[i++];
			argv[n++] = argv[i];
		} else if (argv[i][0] == '-') {
			h->wrong = argv[i];
		} else {
			h->word[h->nwords++] = argv[i];
			h->cmd = find_command(h->word);
			if (!h->cmd && !is_group(h->word[0]))
				break;
		}
	}
	while (h->cmd && i < argc)
		argv[n++] = argv[i++];
	argv[n] = NULL;
	return n;
}

/* Help, the version, or a complaint. Returns the exit code, or -1: there is a command to run. */
static int head_only(const struct head *h)
{
	const char *first = h->nwords ? h->word[0] : NULL;

	if (h->version) {
		printf("pvio %s\n", PVIO_VERSION);
		return EXIT_DONE;
	}
	if (h->wrong)
		fprintf(stderr, "pvio: no option %s can stand before the command; pvio --help lists those that can\n", h->wrong);
	else if (h->help && h->cmd)
		return help_one(h->cmd);
	else if (h->help && (!first || (h->nwords == 1 && is_group(first))))
		return help_commands(first);
	else if (h->cmd)
		return -1;
	else if (!first)
		fprintf(stderr, "pvio: say what to do; pvio --help lists the commands\n");
	else if (h->nwords == 1 && is_group(first))
		fprintf(stderr, "pvio: say what to do: %s what? pvio %s --help lists it\n", first, first);
	else
		fprintf(stderr, "pvio: there is no command %s%s%s; pvio --help lists them\n", first, h->nwords > 1 ? " " : "",
			h->nwords > 1 ? h->word[1] : "");
	return EXIT_USAGE;
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
static int parse(struct pvio *p, int argc, char **argv)
{
	bool only_args = false;

	for (int i = 1; i < argc; i++) {
		int rc = 0;

		if (!only_args && strcmp(argv[i], "--") == 0) {
			only_args = true;
		} else if (!only_args && is_help(argv[i])) {
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
	struct head head = { .nwords = 0 };
	int rc;

	signal(SIGPIPE, SIG_IGN);
	argc = take_head(&head, argc, argv);
	rc = head_only(&head);
	if (rc >= 0)
		return rc;
	p.cmd = head.cmd;
	snprintf(p.what, sizeof(p.what), "%s", p.cmd->name);
	snprintf(p.dir, sizeof(p.dir), "%s", pv_rundir());
	rc = parse(&p, argc, argv);
	if (rc)
		return rc < 0 ? EXIT_DONE : rc;
	name_it(&p);
	rc = p.cmd->run(&p);
	pv_tool_close(p.tool);
	if (fflush(stdout) != 0 && rc == EXIT_DONE)
		rc = say_failed(&p, "cannot write to standard output: %s", strerror(errno));
	return rc;
}
