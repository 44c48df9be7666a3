/* sandbox.h - for tests of the whole product: hub, pviod, pvio-blkback and pvio-netback as processes, brought up by `pvio sandbox up`, with
 * guests 1 and 2 and a disk image. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <fcntl.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { DISK = 64 << 20, G1 = 1, G2 = 2 /* domids: the hub's lowest */ };

#define RIG __attribute__((unused)) static

static char dir[64], bin[400];

/* ---- how long something paused ---- */

RIG uint64_t stream_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

RIG int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

RIG void tell_pauses(const char *events, const char *without, uint64_t *us, unsigned n)
{
	qsort(us, n, sizeof(*us), by_value);
	print_message("%u %s: longest time without %s: median %.1f ms, worst %.1f ms\n", n, events, without, us[n / 2] / 1e3, us[n - 1] / 1e3);
}

/* ---- up and down ---- */

/* A command of this build, with stdout to a file that is shown only if it fails. Returns its exit code. */
RIG __attribute__((format(printf, 1, 2))) int pvio(const char *fmt, ...)
{
	char line[1200], args[400];
	va_list ap;
	int rc;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "%s/pvio %s >%s/out 2>&1 || { cat %s/out >&2; false; }", bin, args, dir, dir);
	rc = system(line);
	return WIFEXITED(rc) ? WEXITSTATUS(rc) : -1;
}

/* What a command says with --json; the caller's. */
RIG struct json_object *pvio_json(const char *args)
{
	char path[80];

	assert_int_equal(pvio("%s --json", args), 0);
	snprintf(path, sizeof(path), "%s/out", dir);
	return json_object_from_file(path);
}

/* What the product has to say of a failure. */
RIG void sandbox_tell(void)
{
	char line[1200];

	snprintf(line, sizeof(line), "{ %s/pvio list; tail -n 25 %s/*.log; } >&2", bin, dir);
	if (system(line))
		fprintf(stderr, "%s: no logs\n", dir);
}

RIG bool sandbox_has_no_uring(void)
{
	FILE *f = fopen("/proc/sys/kernel/io_uring_disabled", "r");
	int v = 0;

	if (f && fscanf(f, "%d", &v) != 1)
		v = 0;
	if (f)
		fclose(f);
	return v != 0;
}

/* A run directory with a disk image; nothing runs yet. */
RIG void sandbox_begin(void)
{
	char path[80];
	ssize_t n = readlink("/proc/self/exe", bin, sizeof(bin) - 1);
	int fd;

	assert_true(n > 0);
	bin[n] = '\0';
	for (int i = 0; i < 3; i++) /* build/tests/unit/test_x */
		*strrchr(bin, '/') = '\0';
	strcpy(dir, "/tmp/pvio-sandbox.XXXXXX");
	assert_non_null(mkdtemp(dir));
	setenv("PVIO_RUNDIR", dir, 1);
	setenv("PVIO_HYPERVISOR", "loopback", 1);
	snprintf(path, sizeof(path), "%s/disk", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, DISK), 0);
	close(fd);
}

/* Nothing runs any more. */
RIG int sandbox_end(void)
{
	char line[100];

	snprintf(line, sizeof(line), "rm -r %s", dir);
	return system(line);
}

RIG int sandbox_up(void **state)
{
	(void)state;
	sandbox_begin();
	return pvio("sandbox up --guests 2");
}

RIG int sandbox_down(void **state)
{
	int rc;

	(void)state;
#ifdef XENBUS_PORT_H
	port_down();
#endif
	rc = pvio("sandbox down");
	return rc ? rc : sandbox_end();
}

#endif
