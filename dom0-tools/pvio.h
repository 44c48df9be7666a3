/* pvio.h - the inside of the command `pvio`: what its subcommands share. Each is a function in a cmd_*.c. */
#ifndef PVIO_H
#define PVIO_H

#include "libpvtool.h"
#include <json-c/json.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, OPTIONS_MAX = 16, ARGS_MAX = 64, VALUES_MAX = 16 };

struct opt {
	const char *name;
	const char *arg; /* NULL: a flag; "[X]": a number that may be missing */
	const char *help;
	bool many; /* may be given several times */
};

struct command;

/* One run of a command. Strings are borrowed from argv. */
struct pvio {
	const struct command *cmd;
	char what[200]; /* "attach web vbd xvda": begins each message */
	const char *args[ARGS_MAX];
	int nargs;
	const char *values[OPTIONS_MAX][VALUES_MAX]; /* of cmd->opts, in their order; a flag's is "" */
	int nvalues[OPTIONS_MAX];
	bool json;
	char dir[PATH_MAX]; /* the run directory */
	struct pv_tool *tool; /* NULL: not connected yet */
};

struct command {
	const char *name; /* "guest create" */
	const char *args; /* for people */
	int min, max; /* how many arguments */
	bool prints_data; /* takes --json */
	const char *help;
	int (*run)(struct pvio *p);
	struct opt opts[OPTIONS_MAX]; /* ends with a NULL name */
};

/* ---- pvio.c ---- */

const char *opt_value(const struct pvio *p, const char *name); /* NULL: not given */
int opt_count(const struct pvio *p, const char *name, const char *const **values);
/* A number of an option, min..max; none: its default. Returns < 0 after a message. */
long opt_number(struct pvio *p, const char *name, long none, long min, long max);
double opt_seconds(struct pvio *p, const char *name, double none); /* < 0 after a message */

int say_failed(struct pvio *p, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* "pvio: WHAT: ..."; EXIT_FAILED */
int say_usage(struct pvio *p, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* ...; EXIT_USAGE */

/* Call pviod. Takes over params. Returns NULL after a message, with *exit_code set. */
struct json_object *ask(struct pvio *p, const char *method, struct json_object *params, unsigned timeout_ms, int *exit_code);
/* The same for methods that answer in pages of "devices": one array of all. */
struct json_object *ask_devices(struct pvio *p, const char *method, const char *guest, const char *device, int *exit_code);
/* The text of a file that people write ("-": standard input), of at most max + 1 bytes, so that one too long is seen. NULL after a message. */
char *read_text(struct pvio *p, const char *path, size_t max, size_t *len);
/* What is wrong with it: as FILE:LINE:COLUMN: message, if why begins with the place; "": out of memory. EXIT_FAILED */
int say_in_file(struct pvio *p, const char *path, const char *why);
void sibling(char *path, size_t len, const char *program); /* a program that lies beside this one */

/* ---- cmd_print.c ---- */

int print_json(struct json_object *o); /* takes it over; EXIT_DONE */
/* Rows of strings under headings, in columns. */
struct column {
	const char *heading, *key;
	bool right;
	void (*text)(struct json_object *row, char *buf, size_t len); /* NULL: the value of key */
};
void print_table(struct json_object *rows, const struct column *columns, int n, const char *none);
void print_tree(struct json_object *o, int indent); /* nested objects as indented lines */
const char *text_of(struct json_object *o, const char *key); /* "" if missing */

/* ---- cmd_device.c ---- */

/* What `attach` is to be asked: words are [NAME] [KEY=VALUE...]. Returns 0, or EXIT_USAGE after a message. */
int device_params(struct pvio *p, struct json_object *params, const char *guest, const char *type, const char *const *words, int n);

/* ---- cmd_pair.c ---- */

/* A guest's device is about to be detached. If it is a VF, with which a vif forms a pair (its key pair=), the guest is to leave it; wait for that, so
 * long at most. Whether it did is said, and the detach goes on. */
void pair_vf_leaves(struct pvio *p, const char *guest, const char *device, double seconds);
/* A device was attached. If it is such a VF, the guest may use it. */
void pair_vf_comes(struct pvio *p, struct json_object *device);

/* ---- cmd_sandbox.c ---- */

/* The daemon of the sandbox in p->dir that is called so, by its pidfile; 0: there is none, or it has ended. */
pid_t sandbox_pid(const struct pvio *p, const char *name);
int sandbox_set_pid(const struct pvio *p, const char *name, pid_t pid); /* 0 or -errno */

/* ---- cmd_vf.c ---- */

struct vf_sys;
int vf_machine(struct pvio *p, struct vf_sys *s); /* open it; PVIO_VF_ROOT: a tree in its place. EXIT_DONE, or EXIT_FAILED after a message */

/* ---- the commands ---- */

int cmd_sandbox_up(struct pvio *p);
int cmd_sandbox_down(struct pvio *p);
int cmd_guest_create(struct pvio *p);
int cmd_guest_list(struct pvio *p);
int cmd_guest_start(struct pvio *p);
int cmd_guest_pause(struct pvio *p);
int cmd_guest_shutdown(struct pvio *p);
int cmd_guest_destroy(struct pvio *p);
int cmd_guest_console(struct pvio *p);
int cmd_attach(struct pvio *p);
int cmd_set(struct pvio *p);
int cmd_pair(struct pvio *p);
int cmd_resize(struct pvio *p);
int cmd_detach(struct pvio *p);
int cmd_claim(struct pvio *p);
int cmd_list(struct pvio *p);
int cmd_stats(struct pvio *p);
int cmd_inspect(struct pvio *p);
int cmd_rules_check(struct pvio *p);
int cmd_rules_load(struct pvio *p);
int cmd_rules_show(struct pvio *p);
int cmd_capture(struct pvio *p);
int cmd_backend_list(struct pvio *p);
int cmd_backend_handover(struct pvio *p);
int cmd_backend_restart(struct pvio *p);
int cmd_vf_list(struct pvio *p);
int cmd_vf_show(struct pvio *p);
int cmd_vf_plan(struct pvio *p);
int cmd_vf_apply(struct pvio *p);
int cmd_vf_keep(struct pvio *p);
int cmd_vf_claim(struct pvio *p);
int cmd_vf_release(struct pvio *p);
int cmd_vf_bind(struct pvio *p);
int cmd_vf_quarantine(struct pvio *p);
int cmd_doctor(struct pvio *p);
int cmd_version(struct pvio *p);

#endif
