/* eal.c - start DPDK's environment so that it leaves nothing behind, not even when we are killed.
 *
 * EAL makes a runtime directory before it looks at --no-shconf and, with that option, goes on when it cannot: below /dev/null
 * nothing can be made. Without hugepages memory is one anonymous memory file (--no-huge); with free hugepages, anonymous too
 * (--in-memory; EAL refuses the two together), and one file as well, for a peer of virtio_user gets each. What EAL prints is kept for our own messages, and shown only with --log debug.
 * Only telemetry, if it is asked for, has a socket, in a directory below ours. */
#include "netback.h"
#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sys/file.h>
#include <unistd.h>

enum { LOCK_TRIES = 1000, LOCK_US = 10000 };

static char first_error[200]; /* since it was last asked for: what follows are its consequences */

static ssize_t log_write(void *cookie, const char *buf, size_t len)
{
	size_t n = len;

	(void)cookie;
	while (n && isspace((unsigned char)buf[n - 1]))
		n--;
	if (!n)
		return (ssize_t)len;
	if (pv_log_shown() >= PV_LOG_DEBUG)
		pv_log(PV_LOG_DEBUG, "%.*s", (int)n, buf);
	if (rte_log_cur_msg_loglevel() <= (int)RTE_LOG_ERR && !first_error[0] && !strstr(buf, "/dev/null/"))
		snprintf(first_error, sizeof(first_error), "%.*s", (int)n, buf);
	return (ssize_t)len;
}

const char *eal_error(void)
{
	static char told[sizeof(first_error)];

	memcpy(told, first_error, sizeof(told));
	first_error[0] = 0;
	return told[0] ? told : "no reason given";
}

static unsigned long long pages(const char *size_kb, const char *which)
{
	char path[100];
	unsigned long long n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%skB/%s_hugepages", size_kb, which);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%llu", &n) != 1)
		n = 0;
	fclose(f);
	return n;
}

static uint64_t free_mib(const char *size_kb)
{
	unsigned long long free = pages(size_kb, "free"), promised = pages(size_kb, "resv");

	return free > promised ? (free - promised) * strtoull(size_kb, NULL, 10) / 1024 : 0;
}

/* Of several that start at once each would find the same pages free, and EAL starts only once in a process: so each looks and takes what it
 * needs behind this lock, whose file is there on every machine and left as it is. But nobody waits for ever: anyone may hold it. Returns a descriptor to close. */
static int lock_hugepages(void)
{
	int fd = open("/sys/kernel/mm/hugepages", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int tries = 0; fd >= 0 && tries < LOCK_TRIES && flock(fd, LOCK_EX | LOCK_NB) < 0; tries++)
		usleep(LOCK_US);
	return fd;
}

static int first_cpu(const cpu_set_t *set)
{
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, set))
			return i;
	return 0;
}

static const char *telemetry; /* its name; NULL: none */

/* After DPDK removed its socket. */
static void remove_directories(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/dpdk/%s", pv_rundir(), telemetry);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/dpdk", pv_rundir());
	rmdir(path); /* another's may be there */
}

void eal_telemetry(const char *name)
{
	telemetry = name;
	atexit(remove_directories); /* runs behind what DPDK has run at exit, for that is registered later */
}

static char pci[NB_BRIDGES_MAX][sizeof("--allow=") + NB_DEVICE_NAME];
static unsigned nr_pci;

void eal_pci(const char *device)
{
	if (nr_pci < RTE_DIM(pci))
		snprintf(pci[nr_pci++], sizeof(pci[0]), "--allow=%s", device);
}

static bool ordinary; /* pages are wanted */

void eal_ordinary_pages(void)
{
	ordinary = true;
}

static int start(unsigned memory, char *why, size_t len)
{
	static const cookie_io_functions_t io = { .write = log_write };
	bool huge = !ordinary && (free_mib("2048") >= memory || free_mib("1048576") >= memory);
	FILE *stream = fopencookie(NULL, "w", io);
	const char *old = getenv("RUNTIME_DIRECTORY");
	char cores[32], mib[16], prefix[128], *saved = old ? strdup(old) : NULL;
	cpu_set_t cpus;
	int ret;

	if (!stream)
		return pv_why(why, len, -ENOMEM, "out of memory");
	setvbuf(stream, NULL, _IOLBF, BUFSIZ);
	rte_openlog_stream(stream); /* stays for the program's life, as DPDK does */
	CPU_ZERO(&cpus);
	sched_getaffinity(0, sizeof(cpus), &cpus);
	snprintf(cores, sizeof(cores), "--lcores=0@%d", first_cpu(&cpus));
	snprintf(mib, sizeof(mib), "%u", memory);
	snprintf(prefix, sizeof(prefix), "--file-prefix=%s", telemetry ? telemetry : "pvio");

	char *argv[16 + RTE_DIM(pci)] = { (char *)"pvio-netback", cores, (char *)"-m", mib, prefix,
			 (char *)(telemetry ? "--telemetry" : "--no-telemetry"), (char *)"--iova-mode=va",
			 (char *)(pv_log_shown() >= PV_LOG_DEBUG ? "--log-level=lib.eal:debug" : "--log-level=lib.eal:notice"),
			 (char *)(huge ? "--in-memory" : "--no-huge"), (char *)(huge ? "--single-file-segments" : "--no-shconf") };
	int argc = 0;

	while (argv[argc])
		argc++;
	for (unsigned i = 0; i < nr_pci; i++)
		argv[argc++] = pci[i];
	if (!nr_pci)
		argv[argc++] = (char *)"--no-pci"; /* what is bound to vfio may be a guest's */

	setenv("RUNTIME_DIRECTORY", telemetry ? pv_rundir() : "/dev/null", 1);
	ret = rte_eal_init(argc, argv);
	if (saved)
		setenv("RUNTIME_DIRECTORY", saved, 1);
	else
		unsetenv("RUNTIME_DIRECTORY");
	free(saved);
	sched_setaffinity(0, sizeof(cpus), &cpus); /* EAL pinned us */
	if (ret < 0)
		return pv_why(why, len, huge ? -EAGAIN : rte_errno ? -rte_errno : -EINVAL,
			      "DPDK does not start with %u MiB%s: %s; try --memory or --log debug", memory,
			      huge ? " of hugepages" : "", eal_error());
	eal_error(); /* what did not keep it from starting */
	if (!huge)
		pv_log(PV_LOG_INFO, "works without hugepages; with them packets cost fewer TLB misses: sysctl vm.nr_hugepages=%u",
		       memory / 2);
	return 0;
}

int eal_start(unsigned memory, char *why, size_t len)
{
	int lock = lock_hugepages(), ret = start(memory, why, len);

	if (lock >= 0)
		close(lock);
	return ret;
}

void eal_stop(void)
{
	rte_eal_cleanup();
}
