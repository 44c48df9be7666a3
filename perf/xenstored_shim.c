/* xenstored_shim.c - lets Debian's C xenstored run where there is no Xen: LD_PRELOAD it.
 *
 * It stands in for the three libraries that xenstored asks for a hypervisor, with the least that it needs:
 *   domains	every domid exists
 *   grants	the store page of domain D is page D of the file $PERF_STORE_PAGES; dom0's comes from the device xsd_kva
 *   events	never fire, and notifying is nothing: xenstored looks into every introduced ring in each of its turns anyway
 * So a domain can be introduced, put watches through its ring and be counted as a connection, while who measures talks through
 * the Unix socket. Nothing here takes time that xenstored would not spend on Xen.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

enum { STORE_PAGE = 4096, FIRST_PORT = 1 };

int open(const char *path, int flags, ...);

static int events = -1;
static char handle; /* all handles point here: they are only compared with NULL */

/* The two device files in which dom0's kernel says where its store page and port are. Page 0 of our file begins with zeros,
 * which will do for the page; the port is a number as text. */
int open(const char *path, int flags, ...)
{
	static int (*next)(const char *, int, ...);
	va_list ap;
	mode_t mode;
	int fd;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	if (!next)
		next = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
	if (strstr(path, "/xsd_kva") && getenv("PERF_STORE_PAGES"))
		return next(getenv("PERF_STORE_PAGES"), O_RDWR | O_CLOEXEC);
	if (!strstr(path, "/xsd_port"))
		return next(path, flags, mode);
	fd = memfd_create("xsd_port", MFD_CLOEXEC);
	if (fd >= 0 && pwrite(fd, "1", 1, 0) != 1) {
		close(fd);
		return -1;
	}
	return fd;
}

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild, unsigned flags)
{
	(void)logger, (void)dombuild, (void)flags;
	return (xc_interface *)&handle;
}

int xc_interface_close(xc_interface *xch)
{
	(void)xch;
	return 0;
}

int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned max, xc_dominfo_t *info)
{
	(void)xch, (void)max;
	*info = (xc_dominfo_t){ .domid = first };
	return 1;
}

xengnttab_handle *xengnttab_open(xentoollog_logger *logger, unsigned flags)
{
	(void)logger, (void)flags;
	return (xengnttab_handle *)&handle;
}

int xengnttab_close(xengnttab_handle *xgt)
{
	(void)xgt;
	return 0;
}

int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t nr)
{
	(void)xgt, (void)nr;
	return 0;
}

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot)
{
	const char *path = getenv("PERF_STORE_PAGES");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *p;

	(void)xgt, (void)ref;
	if (fd < 0)
		return NULL;
	p = mmap(NULL, STORE_PAGE, prot, MAP_SHARED, fd, (off_t)domid * STORE_PAGE);
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

int xengnttab_unmap(xengnttab_handle *xgt, void *start, uint32_t count)
{
	(void)xgt;
	return munmap(start, (size_t)count * STORE_PAGE);
}

xenevtchn_handle *xenevtchn_open(xentoollog_logger *logger, unsigned flags)
{
	(void)logger, (void)flags;
	events = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return events < 0 ? NULL : (xenevtchn_handle *)&handle;
}

xenevtchn_handle *xenevtchn_fdopen(xentoollog_logger *logger, int fd, unsigned flags)
{
	(void)logger, (void)flags;
	events = fd;
	return (xenevtchn_handle *)&handle;
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
	(void)xce;
	return events;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned virq)
{
	(void)xce, (void)virq;
	return FIRST_PORT;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid, evtchn_port_t port)
{
	(void)xce, (void)port;
	return (xenevtchn_port_or_error_t)(FIRST_PORT + 1 + domid);
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
	(void)xce, (void)port;
	return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
	(void)xce;
	errno = EAGAIN;
	return -1;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
	(void)xce, (void)port;
	return 0;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
	(void)xce, (void)port;
	return 0;
}
