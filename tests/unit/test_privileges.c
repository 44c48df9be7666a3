/* Capabilities are given up for good. Each test does it in a child. */
#include <errno.h>
#include <linux/capability.h>
#include <pvio/privileges.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>


static unsigned long long status(const char *key, int base)
{
	unsigned long long value = ~0ull;
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			value = strtoull(line + strlen(key), NULL, base);
	if (f)
		fclose(f);
	return value;
}

/* In a child: the number of the first line that is not as it should be, 0: all are. */
static int check(const int *caps, unsigned long long wanted)
{
	unsigned long long had = status("CapEff:\t", 16), bounded = status("CapBnd:\t", 16), can_bound = had >> CAP_SETPCAP & 1;

	if (pv_privileges_keep(caps) != 0)
		return 1;
	if (status("CapEff:\t", 16) != (had & wanted) || status("CapPrm:\t", 16) != (had & wanted))
		return 2;
	if (status("CapInh:\t", 16) || status("CapAmb:\t", 16))
		return 3;
	if (can_bound && status("CapBnd:\t", 16) != (bounded & wanted))
		return 4;
	return status("NoNewPrivs:\t", 10) == 1 ? 0 : 5;
}

static void in_child(const int *caps, unsigned long long wanted)
{
	int wstatus;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid)
		_exit(check(caps, wanted));
	assert_int_equal(waitpid(pid, &wstatus, 0), pid);
	assert_int_equal(wstatus, 0);
}

static void pv_privileges_keep_none(void **state)
{
	(void)state;
	in_child((const int[]){ -1 }, 0);
}

static void pv_privileges_keep_some(void **state)
{
	(void)state;
	in_child((const int[]){ CAP_DAC_OVERRIDE, CAP_BPF, -1 }, 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_BPF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pv_privileges_keep_none),
		cmocka_unit_test(pv_privileges_keep_some),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
