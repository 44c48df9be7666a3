/* hyper.c - the port: choose the hypervisor, check arguments once for all of them, preset what a failure must leave behind. */
#include "hyper_int.h"
#include "noxs.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xen/grant_table.h>

int hyper_fail(struct pv_hyper *h, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(h->error, sizeof(h->error), fmt, ap);
	va_end(ap);
	return err;
}

static void say(char *why, size_t len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(char *why, size_t len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (why && len)
		vsnprintf(why, len, fmt, ap);
	va_end(ap);
}

/* ---- what the kernel tells ---- */

size_t hyper_text(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, len - 1);

	if (fd >= 0)
		close(fd);
	n = n > 0 ? n : 0;
	buf[n] = 0;
	return (size_t)n;
}

long hyper_number(const char *path)
{
	FILE *f = fopen(path, "re");
	long n = -1;

	if (f && fscanf(f, "%ld", &n) != 1)
		n = -1;
	if (f)
		fclose(f);
	return n;
}

static long count_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	long n = 0;
	int ch;

	while (f && (ch = getc_unlocked(f)) != EOF)
		n += ch == '\n';
	if (f)
		fclose(f);
	return n;
}

int hyper_no_memory(struct pv_hyper *h, const char *what)
{
	long limit = hyper_number("/proc/sys/vm/max_map_count");

	if (limit > 0 && count_maps() + 8 >= limit)
		return hyper_fail(h, -ENOSPC, "out of mappings for %s: raise vm.max_map_count, now %ld (sysctl)", what, limit);
	return hyper_fail(h, -ENOMEM, "out of memory for %s", what);
}

/* ---- which hypervisor ---- */

static bool host_is_xen(void)
{
	char type[16];

	hyper_text("/sys/hypervisor/type", type, sizeof(type));
	return !strncmp(type, "xen", 3);
}

const char *pv_rundir(void)
{
	const char *dir = getenv("PVIO_RUNDIR");

	return dir && *dir ? dir : "/run/pvio";
}

static const char *spec_or_preset(const char *spec)
{
	return spec ? spec : getenv("PVIO_HYPERVISOR");
}

bool pv_hyper_needs_domid(const char *spec)
{
	spec = spec_or_preset(spec);
	return spec && (!strcmp(spec, "loopback") || !strncmp(spec, "loopback:", 9));
}

static int open_loopback(const char *path, int domid, struct pv_hyper **out, char *why, size_t len)
{
	char preset[108];

	if (!path) {
		if ((size_t)snprintf(preset, sizeof(preset), "%s/hub.sock", pv_rundir()) >= sizeof(preset)) {
			say(why, len, "PVIO_RUNDIR is too long for a Unix socket: at most 98 bytes");
			return -ENAMETOOLONG;
		}
		path = preset;
	} else if (strlen(path) >= sizeof(preset)) {
		say(why, len, "the path of the hub's socket is too long: at most 107 bytes");
		return -ENAMETOOLONG;
	}
	return loopback_open(path, domid, out, why, len);
}

/* Loopback is never chosen unasked. */
int pv_hyper_open(const char *spec, int domid, struct pv_hyper **out, char *why, size_t len)
{
	*out = NULL;
	spec = spec_or_preset(spec);
	if (!spec || !*spec || !strcmp(spec, "xen")) {
		if (host_is_xen())
			return xen_open(domid, out, why, len);
		say(why, len, spec && *spec ? "this host does not run on Xen (see /sys/hypervisor/type)" :
		    "no hypervisor here: start pvio-hub and give --hypervisor loopback (or PVIO_HYPERVISOR=loopback) to try pvio out");
		return -ENODEV;
	}
	if (!strcmp(spec, "loopback"))
		return open_loopback(NULL, domid, out, why, len);
	if (!strncmp(spec, "loopback:", 9))
		return open_loopback(spec + 9, domid, out, why, len);
	say(why, len, "hypervisor '%.40s' is not known to this build: it serves xen, loopback and loopback:PATH", spec);
	return -ENODEV;
}

void pv_hyper_close(struct pv_hyper *h)
{
	if (h)
		h->ops->close(h);
}

const char *pv_hyper_error(const struct pv_hyper *h)
{
	return h ? h->error : "";
}

void pv_hyper_counts(const struct pv_hyper *h, struct pv_hyper_counts *out)
{
	*out = h->counts;
}

int pv_hyper_pointer(struct pv_hyper *h, struct pv_noxs_pointer *out)
{
	h->error[0] = 0;
	memset(out, 0, sizeof(*out));
	return h->ops->pointer(h, out);
}

static bool notice_ok(const struct pv_gnt_notice *notice, unsigned n)
{
	return !notice || (n == 1 && notice->offset < HYPER_PAGE && notice->port);
}

int pv_gnt_share(struct pv_hyper *h, uint16_t domid, unsigned n, bool writable, const struct pv_gnt_notice *notice,
		 uint32_t *grefs, void **addr)
{
	int err;

	h->error[0] = 0;
	*addr = NULL;
	if (!n || !notice_ok(notice, n))
		return hyper_fail(h, -EINVAL, "a share needs pages, and a notice a single page, an offset in it and a port");
	h->counts.shares++;
	err = h->ops->share(h, domid, n, writable, notice, grefs, addr);
	h->counts.shared_pages += err ? 0 : n;
	return err;
}

int pv_gnt_unshare(struct pv_hyper *h, void *addr, unsigned n)
{
	h->error[0] = 0;
	return h->ops->unshare(h, addr, n);
}

int pv_gnt_map(struct pv_hyper *h, uint16_t domid, const uint32_t *grefs, unsigned n, bool writable,
	       const struct pv_gnt_notice *notice, void **addr)
{
	int err;

	h->error[0] = 0;
	*addr = NULL;
	if (!n || !notice_ok(notice, n) || (notice && !writable))
		return hyper_fail(h, -EINVAL, "a map needs pages, and a notice a single writable page, an offset in it and a port");
	h->counts.maps++;
	err = h->ops->map(h, domid, grefs, n, writable, notice, addr);
	h->counts.mapped_pages += err ? 0 : n;
	return err;
}

int pv_gnt_unmap(struct pv_hyper *h, void *addr, unsigned n)
{
	h->error[0] = 0;
	h->counts.unmaps++;
	return h->ops->unmap(h, addr, n);
}

int pv_gnt_copy(struct pv_hyper *h, struct pv_gnt_copy *ops, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		ops[i].status = GNTST_general_error;
		bytes += ops[i].len;
	}
	h->counts.copied_bytes += bytes;
	h->counts.copies++;
	h->counts.copied_pieces += n;
	return h->ops->copy(h, ops, n);
}

int pv_evt_alloc(struct pv_hyper *h, uint16_t domid)
{
	h->error[0] = 0;
	return h->ops->evt_alloc(h, domid);
}

int pv_evt_bind(struct pv_hyper *h, uint16_t domid, uint32_t port)
{
	h->error[0] = 0;
	return h->ops->evt_bind(h, domid, port);
}

int pv_evt_unbind(struct pv_hyper *h, uint32_t port)
{
	h->error[0] = 0;
	return h->ops->evt_unbind(h, port);
}

int pv_evt_notify(struct pv_hyper *h, uint32_t port)
{
	h->counts.notifies++;
	return h->ops->evt_notify(h, port);
}

int pv_evt_fd(struct pv_hyper *h)
{
	return h->ops->evt_fd(h);
}

int pv_evt_pending(struct pv_hyper *h, uint32_t *ports, unsigned max)
{
	int n = h->ops->evt_pending(h, ports, max);

	h->counts.polls++;
	h->counts.events += n > 0 ? n : 0;
	return n;
}

int pv_evt_unmask(struct pv_hyper *h, const uint32_t *ports, unsigned n)
{
	h->counts.unmasks++;
	return h->ops->evt_unmask(h, ports, n);
}
