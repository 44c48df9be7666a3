/* options.h - the command line of pvio's programs: one table drives parsing and --help.
 *
 * A program lists its options as rows {name, value, help, parse, field} and gets --help, --version and the error messages with
 * them. Internal to pvio's programs; not installed. It prints, as programs do. Thread rule: called once, from main.
 */
#ifndef PV_OPTIONS_H
#define PV_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pv_option {
	const char *name; /* without dashes; the table ends with NULL */
	const char *value; /* what --help calls the value; NULL: a flag, whose field is a bool */
	const char *help;
	int (*parse)(const struct pv_option *o, const char *text, void *field); /* 0 or -errno; NULL for a flag */
	size_t field; /* offset in the program's struct of options */
	unsigned long min, max; /* for pv_option_number */
	const char *const *names; /* for pv_option_name, ends with NULL */
	bool operand; /* may be written name=value too, as dd does */
};

struct pv_program {
	const char *name;
	const char *usage; /* what follows the name in the usage line, such as "[OPTION...]" */
	const char *about; /* a sentence or two */
	const struct pv_option *options;
	void (*more_help)(void); /* printed behind the options; may be NULL */
};

/* Parse the command line into `fields`. --name value and --name=value are the same; other words are refused.
 * Returns -1: go on; else the exit code, with everything said: 0 after --help or --version, 2 after wrong usage. */
int pv_options_parse(const struct pv_program *p, int argc, char **argv, void *fields);

/* Complain on stderr about the usage ("NAME: ...; NAME --help tells more"). Returns 2. */
int pv_options_wrong(const struct pv_program *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- parsers; each says the type of its field ---- */
int pv_option_text(const struct pv_option *o, const char *text, void *field); /* const char *, not empty */
int pv_option_number(const struct pv_option *o, const char *text, void *field); /* unsigned, min..max */
int pv_option_domid(const struct pv_option *o, const char *text, void *field); /* int */
int pv_option_name(const struct pv_option *o, const char *text, void *field); /* unsigned: the index in names */
int pv_option_size(const struct pv_option *o, const char *text, void *field); /* uint64_t bytes: 4096, 4k, 1M, 1MB, 1MiB */
int pv_option_seconds(const struct pv_option *o, const char *text, void *field); /* int milliseconds, from seconds such as 0.5 */

enum { PV_CPUS_MAX = 64 };
struct pv_cpus {
	unsigned nr;
	int cpu[PV_CPUS_MAX];
};
int pv_option_cpus(const struct pv_option *o, const char *text, void *field); /* struct pv_cpus, from "0,2-3"; -ENXIO: not here */

#endif
