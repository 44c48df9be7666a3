/* cmd_doctor.c - pvio doctor: what this machine has and lacks, a line each. */
#include "../sriov/sriov.h"
#include "pvio.h"
#include <errno.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum verdict { OK, NOTE, MISSING }; /* NOTE: it works without */

struct finding {
	enum verdict verdict;
	char text[256];
};

static void find(struct finding *f, enum verdict v, const char *text)
{
	f->verdict = v;
	snprintf(f->text, sizeof(f->text), "%s", text);
}

static long read_number(const char *path)
{
	FILE *f = fopen(path, "re");
	long n = -1;

	if (f && fscanf(f, "%ld", &n) != 1)
		n = -1;
	if (f)
		fclose(f);
	return n;
}

static void check_root(struct finding *f)
{
	if (geteuid() == 0)
		find(f, OK, "root");
	else
		find(f, NOTE, "not root: TAPs (pvio-tap, bridge= of vifs) and network namespaces need it; the rest works, with a --dir of your own");
}

static void check_hypervisor(struct finding *f)
{
	char type[16] = "";
	FILE *file = fopen("/sys/hypervisor/type", "re");

	if (file && fscanf(file, "%15s", type) != 1)
		type[0] = '\0';
	if (file)
		fclose(file);
	if (strcmp(type, "xen"))
		find(f, NOTE, "no Xen here: the loopback hypervisor works, when it is asked for (pvio sandbox up, PVIO_HYPERVISOR=loopback)");
	else if (access("/dev/xen/evtchn", R_OK | W_OK) < 0 || access("/dev/xen/gntdev", R_OK | W_OK) < 0)
		find(f, MISSING, "Xen, but /dev/xen/evtchn or /dev/xen/gntdev cannot be used; load xen-evtchn and xen-gntdev, run as root");
	else if (access("/dev/xen/gntalloc", R_OK | W_OK) < 0)
		find(f, MISSING, "Xen, but /dev/xen/gntalloc cannot be used; load xen-gntalloc");
	else
		snprintf(f->text, sizeof(f->text), "Xen, with evtchn, gntdev and gntalloc (it shares up to %ld pages; options xen-gntalloc limit=N)",
			 read_number("/sys/module/xen_gntalloc/parameters/limit"));
}

static void check_tun(struct finding *f)
{
	if (access("/dev/net/tun", R_OK | W_OK) == 0)
		find(f, OK, "/dev/net/tun");
	else
		find(f, MISSING, "/dev/net/tun cannot be used: no TAPs (pvio-tap, bridge= of vifs); modprobe tun");
}

static void check_uring(struct finding *f)
{
	struct io_uring_params params = { 0 };
	int fd = syscall(__NR_io_uring_setup, 4, &params);

	if (fd >= 0) {
		close(fd);
		find(f, OK, "io_uring");
	} else if (errno == EPERM) {
		find(f, MISSING, "io_uring is disabled: pvio-blkback needs it; sysctl kernel.io_uring_disabled=0");
	} else {
		snprintf(f->text, sizeof(f->text), "io_uring does not work (%s): pvio-blkback needs it", strerror(errno));
		f->verdict = MISSING;
	}
}

static void check_hugepages(struct finding *f)
{
	long n = read_number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");

	f->verdict = n >= 64 ? OK : NOTE;
	snprintf(f->text, sizeof(f->text), n >= 64 ? "%ld free huge pages of 2 MiB" :
		 "%ld free huge pages of 2 MiB: it works without, netback is faster with 64 (sysctl vm.nr_hugepages=64)", n < 0 ? 0 : n);
}

static void check_memlock(struct finding *f)
{
	struct rlimit l;

	getrlimit(RLIMIT_MEMLOCK, &l);
	if (geteuid() == 0 || l.rlim_max == RLIM_INFINITY || l.rlim_max >= 64u << 20)
		find(f, OK, "memory that may be locked: enough");
	else
		find(f, NOTE, "less than 64 MiB may be locked: fixed buffers will be refused; raise it with ulimit -l");
}

static void check_files(struct finding *f)
{
	struct rlimit l;

	getrlimit(RLIMIT_NOFILE, &l);
	f->verdict = l.rlim_max >= 4096 ? OK : NOTE;
	snprintf(f->text, sizeof(f->text), l.rlim_max >= 4096 ? "open files: up to %llu a process" :
		 "only %llu open files a process: enough for a few guests on loopback; raise it with ulimit -Hn 65536",
		 (unsigned long long)l.rlim_max);
}

static void check_maps(struct finding *f)
{
	long n = read_number("/proc/sys/vm/max_map_count");

	f->verdict = n >= 65530 ? OK : NOTE;
	snprintf(f->text, sizeof(f->text), "mappings: up to %ld a process%s", n, n >= 65530 ? "" : "; raise it with sysctl vm.max_map_count=262144");
}

/* Without an IOMMU a virtual function is for this machine's own drivers; on Xen it is Xen's, and there are no groups to see. */
static void check_sriov(struct finding *f)
{
	struct vf_inventory inv = { 0 };
	unsigned num = 0, total = 0;
	struct vf_sys s;
	bool guests;

	if (vf_sys_open(&s, getenv("PVIO_VF_ROOT")) < 0 || vf_inventory(&s, 0, &inv, NULL) < 0 || inv.npfs == 0) {
		find(f, NOTE, "no PCI function here can have virtual functions (SR-IOV): no pvio vf");
	} else {
		for (unsigned i = 0; i < inv.npfs; i++) {
			num += inv.pf[i].num;
			total += inv.pf[i].total;
		}
		guests = inv.ngroups || vf_sys_has(&s, "/sys/bus/pci/drivers/pciback");
		snprintf(f->text, sizeof(f->text), "SR-IOV: %u PFs with %u of %u virtual functions%s", inv.npfs, num, total, guests ? "" :
			 "; no IOMMU groups and no pciback, so no guest can have one: intel_iommu=on, amd_iommu=on, on Xen iommu=1 and xen-pciback");
		f->verdict = guests ? OK : NOTE;
	}
	vf_inventory_free(&inv);
	vf_sys_close(&s);
}

static void check_programs(struct finding *f)
{
	static const char *const programs[] = { "pvio-hub", "pviod", "pvio-netback", "pvio-blkback", "pvio-tap", "pvio-dd" };

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		char path[PATH_MAX + 32];

		sibling(path, sizeof(path), programs[i]);
		if (access(path, X_OK) == 0)
			continue;
		f->verdict = MISSING;
		snprintf(f->text, sizeof(f->text), "%s is not beside this command; build it (make) or install all of pvio", programs[i]);
		return;
	}
	find(f, OK, "all programs");
}

static const struct {
	const char *name;
	void (*run)(struct finding *f);
} checks[] = {
	{ "root", check_root },	    { "hypervisor", check_hypervisor }, { "tun", check_tun },	  { "io_uring", check_uring },
	{ "hugepages", check_hugepages }, { "memlock", check_memlock },	{ "files", check_files }, { "mappings", check_maps },
	{ "sriov", check_sriov }, { "programs", check_programs },
};

int cmd_doctor(struct pvio *p)
{
	static const char *const words[] = { [OK] = "ok", [NOTE] = "note", [MISSING] = "missing" };
	struct json_object *all = json_object_new_array();
	int rc = EXIT_DONE;

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		struct json_object *o = json_object_new_object();
		struct finding f = { 0 };

		checks[i].run(&f);
		if (f.verdict == MISSING)
			rc = EXIT_FAILED;
		if (!p->json)
			printf("%-8s %s\n", words[f.verdict], f.text);
		json_object_object_add(o, "check", json_object_new_string(checks[i].name));
		json_object_object_add(o, "verdict", json_object_new_string(words[f.verdict]));
		json_object_object_add(o, "text", json_object_new_string(f.text));
		json_object_array_add(all, o);
	}
	if (p->json)
		print_json(all);
	else
		json_object_put(all);
	return rc;
}
