/* sys.c - the machine as files: attributes of sysfs below a root, which is "/" or a test's tree. */
#include "sriov.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- messages and addresses ---- */

int vf_fail(struct vf_why *why, int rc, const char *fmt, ...)
{
	va_list ap;

	if (!why)
		return rc;
	va_start(ap, fmt);
	vsnprintf(why->text, sizeof(why->text), fmt, ap);
	va_end(ap);
	return rc;
}

int vf_bdf_parse(const char *text, struct vf_bdf *out)
{
	unsigned domain = 0, bus, slot, fn;
	int end = 0;

	if (sscanf(text, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &fn, &end) != 4 || text[end]) {
		domain = end = 0;
		if (sscanf(text, "%2x:%2x.%1x%n", &bus, &slot, &fn, &end) != 3 || text[end])
			return -EINVAL;
	}
	/* scanf takes blanks and signs as well */
	if (strspn(text, "0123456789abcdefABCDEF:.") != strlen(text) || slot > 31 || fn > 7)
		return -EINVAL;
	*out = (struct vf_bdf){ domain, bus, slot, fn };
	return 0;
}

const char *vf_bdf_text(struct vf_bdf b, char buf[VF_BDF_TEXT])
{
	snprintf(buf, VF_BDF_TEXT, "%04x:%02x:%02x.%x", b.domain, b.bus, b.slot & 31, b.fn & 7);
	return buf;
}

struct vf_bdf_str vf_text(struct vf_bdf bdf)
{
	struct vf_bdf_str t;

	vf_bdf_text(bdf, t.s);
	return t;
}

/* ---- the machine ---- */

static int machine_write(struct vf_sys *s, const char *path, const char *text)
{
	int fd = vf_sys_open_file(s, O_WRONLY, "%s", path), rc = fd;

	if (fd < 0)
		return fd;
	text = *text ? text : "\n"; /* a write of nothing does not reach the attribute */
	rc = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

/* Extended acknowledgements: the kernel says in words what it refuses. */
static int open_netlink(struct vf_sys *s)
{
	int one = 1;

	s->nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!s->nl || mnl_socket_bind(s->nl, 0, MNL_SOCKET_AUTOPID) < 0)
		return -errno;
	mnl_socket_setsockopt(s->nl, NETLINK_EXT_ACK, &one, sizeof(one)); /* without it the numbers remain */
	return 0;
}

static int machine_nl_send(struct vf_sys *s, const void *msg, size_t len)
{
	/* the netdevs below another root are not this kernel's, whatever their numbers */
	int rc = *s->root ? -EOPNOTSUPP : s->nl ? 0 : open_netlink(s);

	return rc < 0 ? rc : mnl_socket_sendto(s->nl, msg, len) < 0 ? -errno : 0;
}

static ssize_t machine_nl_recv(struct vf_sys *s, void *buf, size_t len)
{
	ssize_t n = mnl_socket_recvfrom(s->nl, buf, len);

	return n < 0 ? -errno : n;
}

int vf_sys_open(struct vf_sys *s, const char *root)
{
	static const struct vf_sys_ops machine = { machine_write, machine_nl_send, machine_nl_recv };
	size_t n = root ? strlen(root) : 0;

	*s = (struct vf_sys){ .ops = &machine };
	while (n && root[n - 1] == '/')
		n--;
	if (n >= sizeof(s->root))
		return -ENAMETOOLONG;
	snprintf(s->root, sizeof(s->root), "%.*s", (int)n, root ? root : "");
	snprintf(s->state, sizeof(s->state), "%s/var/lib/pvio/vf", s->root);
	return 0;
}

void vf_sys_close(struct vf_sys *s)
{
	if (s->nl)
		mnl_socket_close(s->nl);
	s->nl = NULL;
}

void vf_sys_changed(struct vf_sys *s)
{
	if (++s->changes == s->kill_at)
		raise(SIGKILL);
}

/* ---- attributes ---- */

/* The path that fmt makes; `below` the root or not. */
static int make_path(char path[VF_PATH_MAX], const char *root, const char *fmt, va_list ap)
{
	size_t n = snprintf(path, VF_PATH_MAX, "%s", root);
	int more = vsnprintf(path + n, VF_PATH_MAX - n, fmt, ap);

	return more < 0 || n + more >= VF_PATH_MAX ? -ENAMETOOLONG : 0;
}

#define MAKE_PATH(path, root, fmt) ({ \
	va_list ap_; \
	int rc_; \
	va_start(ap_, fmt); \
	rc_ = make_path(path, root, fmt, ap_); \
	va_end(ap_); \
	rc_; \
})

static int read_text(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, len - 1);
	n = n < 0 ? -errno : n;
	close(fd);
	if (n > 0 && buf[n - 1] == '\n')
		n--;
	buf[n > 0 ? n : 0] = '\0';
	return (int)n;
}

int vf_sys_read(struct vf_sys *s, char *buf, size_t len, const char *fmt, ...)
{
	char path[VF_PATH_MAX];
	int rc = MAKE_PATH(path, s->root, fmt);

	*buf = '\0';
	return rc < 0 ? rc : read_text(path, buf, len);
}

int vf_sys_number(struct vf_sys *s, int64_t *out, const char *fmt, ...)
{
	char path[VF_PATH_MAX], text[32], *end;
	int rc = MAKE_PATH(path, s->root, fmt);

	rc = rc < 0 ? rc : read_text(path, text, sizeof(text));
	if (rc < 0)
		return rc;
	errno = 0;
	*out = strtoll(text, &end, 0);
	return end == text || *end || errno ? -EINVAL : 0;
}

int vf_sys_link(struct vf_sys *s, char *buf, size_t len, const char *fmt, ...)
{
	char path[VF_PATH_MAX], to[PATH_MAX];
	int rc = MAKE_PATH(path, s->root, fmt);
	ssize_t n;

	*buf = '\0';
	if (rc < 0)
		return rc;
	n = readlink(path, to, sizeof(to) - 1);
	if (n < 0)
		return -errno;
	to[n] = '\0';
	return snprintf(buf, len, "%s", strrchr(to, '/') ? strrchr(to, '/') + 1 : to);
}

int vf_sys_write(struct vf_sys *s, const char *text, const char *fmt, ...)
{
	char path[VF_PATH_MAX];
	int rc = MAKE_PATH(path, "", fmt);

	rc = rc < 0 ? rc : s->ops->write(s, path, text);
	if (rc >= 0)
		vf_sys_changed(s);
	return rc;
}

bool vf_sys_has(struct vf_sys *s, const char *fmt, ...)
{
	char path[VF_PATH_MAX];

	return MAKE_PATH(path, s->root, fmt) == 0 && faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int vf_sys_open_file(struct vf_sys *s, int flags, const char *fmt, ...)
{
	char path[VF_PATH_MAX];
	int rc = MAKE_PATH(path, s->root, fmt);

	if (rc < 0)
		return rc;
	rc = open(path, flags | O_CLOEXEC);
	return rc < 0 ? -errno : rc;
}

static int not_hidden(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

int vf_sys_names(struct vf_sys *s, struct vf_names *out, const char *fmt, ...)
{
	char path[VF_PATH_MAX];
	int rc = MAKE_PATH(path, s->root, fmt), n;
	struct dirent **d;

	*out = (struct vf_names){ 0 };
	if (rc < 0)
		return rc;
	n = scandir(path, &d, not_hidden, versionsort);
	if (n < 0)
		return -errno;
	out->name = calloc(n ? n : 1, sizeof(*out->name));
	for (int i = 0; i < n; i++) {
		char *name = out->name ? strdup(d[i]->d_name) : NULL;

		if (name)
			out->name[out->nr++] = name;
		free(d[i]);
	}
	free(d);
	if (out->nr == (unsigned)n)
		return n;
	vf_names_free(out);
	return -ENOMEM;
}

void vf_names_free(struct vf_names *n)
{
	for (unsigned i = 0; i < n->nr; i++)
		free(n->name[i]);
	free(n->name);
	*n = (struct vf_names){ 0 };
}

/* ---- of a PCI device ---- */

#define DEVICE "/sys/bus/pci/devices/%s/%s"

int vf_pci_read(struct vf_sys *s, struct vf_bdf bdf, const char *attr, char *buf, size_t len)
{
	return vf_sys_read(s, buf, len, DEVICE, vf_text(bdf).s, attr);
}

int vf_pci_number(struct vf_sys *s, struct vf_bdf bdf, const char *attr, int64_t *out)
{
	return vf_sys_number(s, out, DEVICE, vf_text(bdf).s, attr);
}

int vf_pci_link(struct vf_sys *s, struct vf_bdf bdf, const char *attr, char *buf, size_t len)
{
	return vf_sys_link(s, buf, len, DEVICE, vf_text(bdf).s, attr);
}

int vf_pci_write(struct vf_sys *s, struct vf_bdf bdf, const char *attr, const char *text)
{
	return vf_sys_write(s, text, DEVICE, vf_text(bdf).s, attr);
}

bool vf_pci_has(struct vf_sys *s, struct vf_bdf bdf, const char *attr)
{
	return vf_sys_has(s, DEVICE, vf_text(bdf).s, attr);
}
