/* perf.h - what the measuring programs share: clocks, pinning, one table of options, one line of JSON as the result.
 * Everything here is control path: nothing of it is called between two packets or requests.
 */
#ifndef PERF_H
#define PERF_H

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* One option: --name VALUE goes into number or text, whichever is set. A flag (no arg) sets *number to 1. */
struct perf_option {
	const char *name;
	const char *arg; /* what --help calls the value, NULL: a flag */
	long *number;
	const char **text;
	const char *help;
};

static inline double perf_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* CPU seconds, user and system, of this process. */
static inline double perf_cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* How often the kernel took the CPU from a thread of this process that wanted it: 0 on a quiet machine. */
static inline long perf_preempted(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_nivcsw;
}

/* End the program with one line. */
static inline void __attribute__((noreturn, format(printf, 1, 2))) perf_die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

/* Pin the calling thread. cpu < 0: leave it alone. */
static inline void perf_pin(long cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		perf_die("cannot run on CPU %ld: %s; name another with --cpu", cpu, strerror(errno));
}

static inline void perf_help(const struct perf_option *o, const char *usage)
{
	printf("usage: %s %s\n", program_invocation_short_name, usage);
	for (; o->name; o++) {
		char left[40];

		snprintf(left, sizeof(left), "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		printf("  %-22s %s\n", left, o->help);
	}
	printf("  %-22s %s\n", "--help", "this text");
}

static inline void perf_take_option(const struct perf_option *o, const char *value)
{
	char *end = NULL;

	if (!o->arg) {
		*o->number = 1;
		return;
	}
	if (o->text) {
		*o->text = value;
		return;
	}
	*o->number = strtol(value, &end, 0);
	if (end == value || *end) {
		fprintf(stderr, "%s: --%s wants a number, not %s\n", program_invocation_short_name, o->name, value);
		exit(2);
	}
}

/* Parse argv after a table that ends with an empty entry. Returns the index of the first operand. --help: 0, misuse: 2. */
static inline int perf_options(int argc, char **argv, const struct perf_option *table, const char *usage)
{
	struct option lopt[32] = { 0 };
	int n = 0, c, which = 0;

	for (; table[n].name; n++)
		lopt[n] = (struct option){ table[n].name, table[n].arg ? required_argument : no_argument, NULL, 1 };
	lopt[n] = (struct option){ "help", no_argument, NULL, 'h' };
	while ((c = getopt_long(argc, argv, "", lopt, &which)) != -1) {
		if (c == 'h') {
			perf_help(table, usage);
			exit(0);
		}
		if (c != 1)
			exit(2);
		perf_take_option(&table[which], optarg);
	}
	return optind;
}

#endif
