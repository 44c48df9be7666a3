/* domain.c - domains of Xen: built step by step, asked about, ended. */
#include "domain.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xen/hvm/e820.h>
#include <xen/hvm/params.h>
#include <xen/sched.h>
#include <xen/sysctl.h>
#include <xenguest.h>
#include <xentoollog.h>

enum {
	LIST_BATCH = 32, /* domains a hypercall or two */
	FREE_US = 100000, FREE_TRIES = 50, /* how long a domid is waited for */
};

/* What libxenctrl and libxenguest say goes here instead of to stderr and their log file. */
struct capture {
	xentoollog_logger logger; /* must be first: they hand it back to us */
	char said[240]; /* the first error: what follows it are its consequences */
};

struct domctl {
	struct capture capture;
	xc_interface *xc;
};

static void __attribute__((format(printf, 5, 0))) on_message(xentoollog_logger *l, xentoollog_level level, int errnoval, const char *context,
							     const char *format, va_list ap)
{
	struct capture *c = (struct capture *)l;

	(void)errnoval, (void)context;
	if (level >= XTL_ERROR && c->said[0] == '\0')
		vsnprintf(c->said, sizeof(c->said), format, ap);
}

/* libxenguest's words without the place in its source: "panic: xg_dom_core.c:689: no loader found". */
static const char *said(const struct capture *c)
{
	const char *words = strncmp(c->said, "panic: ", 7) == 0 ? strstr(c->said + 7, ": ") : NULL;

	return words ? words + 2 : c->said;
}

static void on_destroy(xentoollog_logger *l)
{
	(void)l; /* a part of its struct domctl */
}

int domctl_open(struct domctl **out, char *why, size_t len)
{
	struct domctl *c = calloc(1, sizeof(*c));
	int rc = ENOMEM;

	*out = NULL;
	if (c) {
		c->capture.logger.vmessage = on_message;
		c->capture.logger.destroy = on_destroy;
		c->xc = xc_interface_open(&c->capture.logger, &c->capture.logger, 0);
		rc = errno ? errno : EIO;
	}
	if (c && c->xc) {
		*out = c;
		return 0;
	}
	free(c);
	if (rc == ENOENT || rc == ENODEV || rc == ENXIO)
		snprintf(why, len, "there is no /dev/xen/privcmd to control domains with; load its module (modprobe xen-privcmd)");
	else
		snprintf(why, len, "cannot open /dev/xen/privcmd: %s; domains are controlled by root in domain 0", strerror(rc));
	return -rc;
}

void domctl_close(struct domctl *c)
{
	if (!c)
		return;
	xc_interface_close(c->xc);
	free(c);
}

/* What the last failed call of libxenctrl set. */
static int error_now(void)
{
	return errno > 0 ? -errno : -EIO;
}

/* ---- building ---- */

/* Slack for the special pages and the ACPI page of PVH, and for what the guest's balloon driver cannot give back. */
enum { SLACK_KIB = 1024 };

/* One domain_build: lives on its stack. */
struct build {
	struct domctl *ctl;
	const struct domain_spec *spec;
	struct domain_made *made;
	struct xc_dom_image *image; /* NULL: not yet */
	bool domain; /* there is one to be destroyed on failure */
	uint64_t free, need; /* bytes of Xen's memory, before it began */
	char *why;
	size_t len;
};

static int __attribute__((format(printf, 3, 4))) fail(struct build *b, int rc, const char *fmt, ...)
{
	const char *words = b->ctl ? said(&b->ctl->capture) : "";
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(b->why, b->len, fmt, ap);
	va_end(ap);
	if (*words && n >= 0 && (size_t)n < b->len)
		snprintf(b->why + n, b->len - n, " (%s)", words);
	return rc;
}

static int check_file(struct build *b, const char *what, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fail(b, error_now(), "cannot read the %s %s: %s", what, path, strerror(errno));
	close(fd);
	return 0;
}

static int check_spec(struct build *b)
{
	const struct domain_spec *s = b->spec;
	int rc;

	if (s->memory == 0 || s->memory > DOMAIN_MEMORY_MAX)
		return fail(b, -EINVAL, "memory must be 1..%d MiB", DOMAIN_MEMORY_MAX);
	if (s->vcpus == 0 || s->vcpus > DOMAIN_VCPUS_MAX)
		return fail(b, -EINVAL, "vcpus must be 1..%d", DOMAIN_VCPUS_MAX);
	if (s->cmdline && strlen(s->cmdline) >= MAX_GUEST_CMDLINE)
		return fail(b, -EINVAL, "the command line has more than %d characters, which is all that a kernel is handed", MAX_GUEST_CMDLINE - 1);
	if (s->pvh && s->passthrough)
		return fail(b, -EOPNOTSUPP, "Xen 4.17 gives PVH guests no PCI devices: its virtual PCI (vPCI) is for domain 0 alone; use type pv");
	rc = check_file(b, "kernel", s->kernel);
	return rc < 0 || !s->ramdisk ? rc : check_file(b, "ramdisk", s->ramdisk);
}

/* For a PVH guest's nested page tables: 1 MiB a vcpu, and two pages for each MiB. */
static uint64_t paging_bytes(const struct domain_spec *s)
{
	return s->pvh ? ((uint64_t)s->vcpus << 20) + (uint64_t)s->memory * 2 * XC_PAGE_SIZE : 0;
}

static int fail_memory(struct build *b, const char *what)
{
	if (b->ctl)
		b->ctl->capture.said[0] = '\0'; /* which of Xen's calls failed says no more than this: */
	return fail(b, -ENOMEM, "%s: Xen had %llu MiB free, and %llu are needed", what, (unsigned long long)b->free >> 20,
		    (unsigned long long)b->need >> 20);
}

static int check_host(struct build *b)
{
	xc_physinfo_t host = { 0 };

	if (xc_physinfo(b->ctl->xc, &host) < 0)
		return fail(b, error_now(), "cannot ask Xen what this host can do: %s", strerror(errno));
	if (!b->spec->pvh && !(host.capabilities & XEN_SYSCTL_PHYSCAP_pv))
		return fail(b, -EOPNOTSUPP, "Xen runs no PV guests on this host (it was built or started without them); use type pvh");
	if (b->spec->pvh && !(host.capabilities & XEN_SYSCTL_PHYSCAP_hvm))
		return fail(b, -EOPNOTSUPP, "Xen runs no PVH guests on this host: VT-x or AMD-V is missing or turned off in its firmware; use type pv");
	if (b->spec->pvh && !(host.capabilities & XEN_SYSCTL_PHYSCAP_hap))
		return fail(b, -EOPNOTSUPP, "Xen runs no PVH guests on this host: its CPU has no nested paging (EPT, NPT); use type pv");
	if (b->spec->passthrough && !(host.capabilities & XEN_SYSCTL_PHYSCAP_directio))
		return fail(b, -EOPNOTSUPP, "no PCI device can be assigned on this host: it has no IOMMU, or it is off in the firmware or in Xen "
			    "(iommu=); `xl dmesg` says which");
	b->free = (host.free_pages - host.outstanding_pages) * XC_PAGE_SIZE;
	b->need = ((uint64_t)b->spec->memory << 20) + (SLACK_KIB << 10) + paging_bytes(b->spec);
	return b->need > b->free ? fail_memory(b, "no memory for the guest") : 0;
}

/* A uuid is to be unique, not secret: one that does not wait for the kernel's entropy. */
static int take_uuid(struct build *b)
{
	static const uint8_t none[16];
	uint8_t *uuid = b->made->uuid;

	memcpy(uuid, b->spec->uuid, 16);
	if (memcmp(uuid, none, 16))
		return 0;
	if (getrandom(uuid, 16, GRND_INSECURE) != 16)
		return fail(b, error_now(), "cannot make a uuid: %s", strerror(errno));
	uuid[6] = (uuid[6] & 0x0f) | 0x40; /* version 4 ... */
	uuid[8] = (uuid[8] & 0x3f) | 0x80; /* ... of RFC 4122 */
	return 0;
}

/* A domain that was destroyed keeps its domid until the last of its pages is free: a moment, if nobody has one mapped. */
static int create(struct build *b, uint32_t *domid, struct xen_domctl_createdomain *config)
{
	int tries = b->spec->wish && b->spec->domid ? FREE_TRIES : 1, rc = -1;

	for (int i = 0; i < tries; i++) {
		*domid = b->spec->domid;
		rc = xc_domain_create(b->ctl->xc, domid, config);
		if (rc == 0 || errno != EEXIST)
			return rc;
		if (i + 1 < tries)
			usleep(FREE_US);
	}
	*domid = 0;
	return b->spec->wish ? xc_domain_create(b->ctl->xc, domid, config) : rc;
}

static int new_domain(struct build *b)
{
	bool pvh = b->spec->pvh;
	struct xen_domctl_createdomain config = {
		.flags = (pvh ? XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap : 0) | (b->spec->passthrough ? XEN_DOMCTL_CDF_iommu : 0),
		.max_vcpus = b->spec->vcpus,
		.max_evtchn_port = 4095,
		.max_grant_frames = -1, .max_maptrack_frames = -1, /* as Xen has them by default */
		.grant_opts = XEN_DOMCTL_GRANT_version(1),
		.arch.emulation_flags = pvh ? XEN_X86_EMU_LAPIC : 0,
	};
	uint32_t domid;
	int rc = take_uuid(b);

	if (rc < 0)
		return rc;
	memcpy(config.handle, b->made->uuid, sizeof(config.handle));
	if (create(b, &domid, &config) < 0) {
		if (errno == EEXIST)
			return fail(b, -EEXIST, "domain %u exists already", b->spec->domid);
		return errno == ENOMEM ? fail_memory(b, "cannot create a domain") :
					 fail(b, error_now(), "cannot create a domain: %s", strerror(errno));
	}
	b->domain = true;
	b->made->domid = domid;
	return 0;
}

static int alloc_port(struct build *b, uint32_t *port)
{
	int rc = xc_evtchn_alloc_unbound(b->ctl->xc, b->made->domid, 0);

	if (rc < 0)
		return fail(b, error_now(), "cannot allocate an event channel: %s", strerror(errno));
	*port = rc;
	return 0;
}

static int step_create(struct build *b)
{
	xc_interface *xc = b->ctl->xc;
	uint64_t memory_kib = (uint64_t)b->spec->memory << 10;
	int rc = new_domain(b);

	if (rc < 0)
		return rc;
	if (xc_domain_max_vcpus(xc, b->made->domid, b->spec->vcpus) < 0)
		return fail(b, error_now(), "cannot give it %u vcpus: %s", b->spec->vcpus, strerror(errno));
	if (xc_domain_setmaxmem(xc, b->made->domid, memory_kib + SLACK_KIB) < 0)
		return fail(b, error_now(), "cannot set its memory limit: %s", strerror(errno));
	if (b->spec->pvh && xc_set_paging_mempool_size(xc, b->made->domid, paging_bytes(b->spec)) < 0)
		return fail_memory(b, "no memory for its page tables");
	if (xc_cpuid_apply_policy(xc, b->made->domid, false, NULL, 0, true, false, false, NULL, NULL) < 0)
		return fail(b, error_now(), "cannot set what its CPUs are: %s", strerror(errno));
	rc = alloc_port(b, &b->made->store_port);
	return rc < 0 ? rc : alloc_port(b, &b->made->console_port);
}

static int step_load(struct build *b)
{
	const struct domain_spec *s = b->spec;
	struct xc_dom_image *image = xc_dom_allocate(b->ctl->xc, s->cmdline ? s->cmdline : "", NULL);

	if (!image)
		return fail(b, -ENOMEM, "out of memory");
	b->image = image;
	image->container_type = s->pvh ? XC_DOM_HVM_CONTAINER : XC_DOM_PV_CONTAINER;
	image->max_vcpus = s->vcpus;
	image->claim_enabled = 1; /* lack of memory shows before the first page is filled */
	image->xenstore_evtchn = b->made->store_port;
	image->console_evtchn = b->made->console_port;
	if (xc_dom_kernel_file(image, s->kernel) < 0)
		return fail(b, -ENOEXEC, "cannot load the kernel %s", s->kernel);
	if (s->ramdisk && xc_dom_module_file(image, s->ramdisk, NULL) < 0)
		return fail(b, -EINVAL, "cannot load the ramdisk %s", s->ramdisk);
	if (xc_dom_boot_xen_init(image, b->ctl->xc, b->made->domid) < 0)
		return fail(b, error_now(), "cannot ask Xen for its capabilities");
	if (xc_dom_parse_image(image) < 0)
		return fail(b, -ENOEXEC, "%s is no kernel that a %s guest can start", s->kernel, s->pvh ? "PVH" : "PV");
	return 0;
}

static int lay_out_pvh(struct build *b)
{
	struct xc_dom_image *image = b->image;
	uint8_t *tables = xc_dom_malloc(image, PVH_ACPI_BYTES);
	struct pvh_memory m;

	image->e820 = xc_dom_malloc(image, PVH_MAP_MAX * sizeof(struct e820entry));
	if (!tables || !image->e820)
		return fail(b, -ENOMEM, "out of memory");
	pvh_memory_layout((uint64_t)b->spec->memory << 20, &m);
	image->target_pages = (uint64_t)b->spec->memory << (20 - XC_PAGE_SHIFT);
	image->lowmem_end = m.low_end;
	image->highmem_end = m.high_end;
	image->mmio_start = PVH_HOLE_START;
	image->mmio_size = PVH_HOLE_END - PVH_HOLE_START;
	image->vga_hole_size = 0;
	image->device_model = false;
	image->e820_entries = pvh_memory_map(&m, image->e820);
	pvh_acpi_tables(tables, PVH_HOLE_START, b->spec->vcpus);
	image->acpi_modules[0] = (struct xc_hvm_firmware_module){ .data = tables, .length = PVH_ACPI_BYTES, .guest_addr_out = PVH_HOLE_START };
	if (xc_domain_set_memory_map(b->ctl->xc, b->made->domid, image->e820, image->e820_entries) < 0)
		return fail(b, error_now(), "cannot set its memory map: %s", strerror(errno));
	return 0;
}

/* A guest that devices' registers are mapped into must not have memory where they are. */
static int lay_out_pv(struct build *b)
{
	struct e820entry host[E820MAX], map[PV_MAP_MAX];
	int n = xc_get_machine_memory_map(b->ctl->xc, host, E820MAX);
	uint64_t hole = n > 0 ? pv_memory_hole(host, n) : 0;

	if (!hole)
		return fail(b, n < 0 ? error_now() : -ENODATA, "cannot ask Xen where this host's devices are: %s", n < 0 ? strerror(errno) : "no memory map");
	n = pv_memory_map((uint64_t)b->spec->memory << 20, hole, map);
	if (xc_domain_set_memory_map(b->ctl->xc, b->made->domid, map, n) < 0)
		return fail(b, error_now(), "cannot set its memory map: %s", strerror(errno));
	return 0;
}

static int step_memory(struct build *b)
{
	int rc = b->spec->pvh ? lay_out_pvh(b) : b->spec->passthrough ? lay_out_pv(b) : 0;

	if (rc < 0)
		return rc;
	if (xc_dom_mem_init(b->image, b->spec->memory) < 0 || xc_dom_boot_mem_init(b->image) < 0)
		return fail_memory(b, "no memory for the guest");
	return 0;
}

static int step_image(struct build *b)
{
	if (xc_dom_build_image(b->image) < 0)
		return fail(b, -ENOMEM, "kernel and ramdisk do not fit into its %u MiB; give it more memory", b->spec->memory);
	return 0;
}

static int step_boot(struct build *b)
{
	xc_interface *xc = b->ctl->xc;
	uint32_t domid = b->made->domid;

	if (xc_dom_boot_image(b->image) < 0)
		return fail(b, error_now(), "cannot set its first vcpu: %s", strerror(errno));
	if (xc_dom_gnttab_init(b->image) < 0)
		return fail(b, error_now(), "cannot grant its store and console pages: %s", strerror(errno));
	if (!b->spec->pvh)
		return 0;
	if (xc_hvm_param_set(xc, domid, HVM_PARAM_STORE_EVTCHN, b->made->store_port) < 0 ||
	    xc_hvm_param_set(xc, domid, HVM_PARAM_CONSOLE_EVTCHN, b->made->console_port) < 0)
		return fail(b, error_now(), "cannot tell it its ports: %s", strerror(errno));
	return 0;
}

static const struct {
	const char *name;
	int (*run)(struct build *b);
} steps[DOMAIN_STEPS] = {
	[DOMAIN_CREATE] = { "create", step_create },
	[DOMAIN_LOAD] = { "load", step_load },
	[DOMAIN_MEMORY] = { "memory", step_memory },
	[DOMAIN_IMAGE] = { "image", step_image },
	[DOMAIN_BOOT] = { "boot", step_boot },
};

const char *domain_step_name(enum domain_step step)
{
	return steps[step].name;
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static int run_steps(struct build *b)
{
	int rc = check_host(b);

	for (int i = 0; i < DOMAIN_STEPS && rc == 0; i++) {
		double begin = now_ms();

		rc = steps[i].run(b);
		b->made->ms[i] = now_ms() - begin;
	}
	return rc;
}

int domain_build(const struct domain_spec *spec, struct domain_made *out, char *why, size_t len)
{
	struct build b = { .spec = spec, .made = out, .why = why, .len = len };
	int rc = check_spec(&b);

	memset(out, 0, sizeof(*out));
	if (rc == 0)
		rc = domctl_open(&b.ctl, why, len);
	if (rc < 0)
		return rc;
	rc = run_steps(&b);
	if (b.image)
		xc_dom_release(b.image); /* its maps first: a page that is mapped keeps a destroyed domain from going */
	if (rc < 0 && b.domain)
		xc_domain_destroy(b.ctl->xc, out->domid);
	domctl_close(b.ctl);
	return rc;
}

/* ---- control ---- */

int domain_pause(struct domctl *c, uint16_t domid)
{
	return xc_domain_pause(c->xc, domid) < 0 ? error_now() : 0;
}

int domain_unpause(struct domctl *c, uint16_t domid)
{
	return xc_domain_unpause(c->xc, domid) < 0 ? error_now() : 0;
}

int domain_destroy(struct domctl *c, uint16_t domid)
{
	return xc_domain_destroy(c->xc, domid) < 0 && errno != ESRCH ? error_now() : 0;
}

void domain_info_from(const struct xen_domctl_getdomaininfo *from, struct domain_info *to)
{
	uint32_t f = from->flags;

	*to = (struct domain_info){
		.domid = from->domain,
		.state = f & XEN_DOMINF_dying ? DOMAIN_DYING : f & XEN_DOMINF_shutdown ? DOMAIN_SHUTDOWN :
			 f & XEN_DOMINF_paused ? DOMAIN_PAUSED : f & XEN_DOMINF_blocked ? DOMAIN_BLOCKED : DOMAIN_RUNNING,
		.reason = f >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask,
		.hvm = f & XEN_DOMINF_hvm_guest,
		.memory = from->tot_pages << (XC_PAGE_SHIFT - 10),
		.vcpus = from->max_vcpu_id + 1, /* XEN_INVALID_MAX_VCPU_ID: none */
		.cpu_ns = from->cpu_time,
	};
	memcpy(to->uuid, from->handle, sizeof(to->uuid));
}

/* Up to max domains from domid `first` up, in ascending order. Returns how many, or -errno. */
static int domain_list(struct domctl *c, uint16_t first, xc_domaininfo_t *out, unsigned max)
{
	int n = xc_domain_getinfolist(c->xc, first, max, out);

	return n < 0 ? error_now() : n;
}

int domain_look(struct domctl *c, uint16_t domid, struct domain_info *out)
{
	xc_domaininfo_t one;
	int n = domain_list(c, domid, &one, 1);

	if (n < 0)
		return n;
	if (n == 0 || one.domain != domid)
		return -ESRCH;
	domain_info_from(&one, out);
	return 0;
}

int domain_each(struct domctl *c, void (*each)(void *arg, const struct domain_info *info), void *arg)
{
	xc_domaininfo_t some[LIST_BATCH];
	struct domain_info info;
	uint16_t first = 1;
	int n;

	do {
		n = domain_list(c, first, some, LIST_BATCH);
		for (int i = 0; i < n; i++) {
			domain_info_from(&some[i], &info);
			first = info.domid + 1;
			each(arg, &info);
		}
	} while (n == LIST_BATCH);
	return n < 0 ? n : 0;
}

void domain_uuid_text(const uint8_t u[16], char text[DOMAIN_UUID_TEXT])
{
	snprintf(text, DOMAIN_UUID_TEXT, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4], u[5],
		 u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

const char *domain_state_name(enum domain_state state)
{
	static const char *const names[DOMAIN_STATES] = {
		[DOMAIN_RUNNING] = "running", [DOMAIN_BLOCKED] = "blocked", [DOMAIN_PAUSED] = "paused", [DOMAIN_SHUTDOWN] = "shutdown",
		[DOMAIN_DYING] = "dying",
	};

	return names[state];
}

const char *domain_reason_name(unsigned reason)
{
	static const char *const names[] = {
		[SHUTDOWN_poweroff] = "poweroff", [SHUTDOWN_reboot] = "reboot", [SHUTDOWN_suspend] = "suspend", [SHUTDOWN_crash] = "crash",
		[SHUTDOWN_watchdog] = "watchdog", [SHUTDOWN_soft_reset] = "soft reset",
	};

	return reason < sizeof(names) / sizeof(names[0]) ? names[reason] : "unknown";
}
