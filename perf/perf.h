/* perf.h - what the measuring programs share. Control path only: nothing of it is called between two packets or requests. */
#ifndef PERF_H
#define PERF_H

#include <errno.h>
#include <poll.h>
#include <pvio/options.h>
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

/* How often the kernel took the CPU from a thread of this process that wanted it: few on a quiet machine. */
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

/* Pin the calling thread to the i-th CPU of a list; an empty list pins nothing. */
static inline void perf_pin(const struct pv_cpus *cpus, unsigned i)
{
	cpu_set_t set;

	if (cpus->nr == 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((size_t)cpus->cpu[i % cpus->nr], &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		perf_die("cannot run on CPU %d: %s; name others with --cpus", cpus->cpu[i % cpus->nr], strerror(errno));
}

/* As many descriptors as we may have. */
static inline void perf_raise_limits(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

/* Seconds to run before and after what is counted: a tenth of that, but no longer than it takes to settle. */
static inline double perf_settle(unsigned msecs)
{
	return (msecs < 1000 ? msecs : 1000) / 1e4;
}

/* Say "ready", then measure once for each line read from stdin, so that whoever drives us can let another program have its
 * turn in between. once: measure at once, say nothing else, read nothing. idle (may be NULL) is called while fd is readable. */
static inline void perf_serve(bool once, void (*measure)(void *), void (*idle)(void *), int fd, void *arg)
{
	struct pollfd p[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = idle ? fd : -1, .events = POLLIN } };
	char line[64];
	ssize_t n;

	if (once) {
		measure(arg);
		return;
	}
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		poll(p, 2, -1);
		if (p[1].revents)
			idle(arg);
		if (!p[0].revents)
			continue;
		n = read(STDIN_FILENO, line, sizeof(line));
		if (n <= 0)
			return;
		for (ssize_t i = 0; i < n; i++)
			if (line[i] == '\n') {
				measure(arg);
				fflush(stdout);
			}
	}
}

#endif
