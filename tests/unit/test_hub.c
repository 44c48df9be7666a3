/* The hub: what only the loopback hypervisor has. Domains, limits, injected faults, death of processes, clients that misbehave. */
#include "loopback.h"
#include <errno.h>
#include <poll.h>
#include <fcntl.h>
#include <pvio/noxs.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <xen/grant_table.h>
#include "rings/hub_wire.h"

enum { DOMAINS = 20, GRANTS = 5000, PORTS = 12, MAPS = 100000 };

static struct pv_hyper *dom0, *guest;
static int gid;

static int group_up(void **state)
{
	(void)state;
	lb_up(&(struct pv_hub_limits){ DOMAINS, GRANTS, PORTS, MAPS }, NULL);
	return 0;
}

static int group_down(void **state)
{
	(void)state;
	lb_down();
	return 0;
}

static int up(void **state)
{
	(void)state;
	dom0 = lb_open(0);
	gid = lb_guest(dom0, 0);
	guest = lb_open(gid);
	return 0;
}

static struct pv_hub_domain count_of(unsigned domid)
{
	struct pv_hub_domain d[DOMAINS];
	int i, n = pv_hub_domain_list(dom0, d, DOMAINS);

	for (i = 0; i < n && d[i].domid != domid;)
		i++;
	assert_true(i < n);
	return d[i];
}

static int down(void **state)
{
	struct pv_hub_domain d;

	(void)state;
	pv_hyper_close(guest);
	pv_hub_domain_destroy(dom0, gid);
	pv_hyper_close(dom0);
	dom0 = lb_open(0);
	d = count_of(0);
	assert_int_equal(pv_hub_domain_list(dom0, NULL, 0), 1);
	assert_true(d.handles == 1 && !d.grants && !d.pinned && !d.ports && !d.maps); /* nothing leaks */
	pv_hyper_close(dom0);
	return 0;
}

static bool says(struct pv_hyper *h, const char *word)
{
	return strstr(pv_hyper_error(h), word);
}

static uint8_t *share(struct pv_hyper *h, uint16_t to, unsigned n, bool writable, uint32_t *grefs)
{
	void *addr;

	if (pv_gnt_share(h, to, n, writable, NULL, grefs, &addr))
		fail_msg("%s", pv_hyper_error(h));
	return addr;
}

static int16_t copy_byte(struct pv_hyper *h, uint16_t domid, uint32_t gref, uint8_t *to)
{
	struct pv_gnt_copy op = { .from = { .gref = gref, .domid = domid }, .to.local = to, .len = 1 };

	assert_int_equal(pv_gnt_copy(h, &op, 1), 0);
	return op.status;
}

/* ---- the socket ---- */

static void open_socket_is_private(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(stat(lb_sock, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void open_live_socket_is_refused(void **state)
{
	struct pv_hub *hub = (void *)state;

	assert_int_equal(pv_hub_open(lb_sock, NULL, &hub), -EADDRINUSE);
	assert_null(hub);
	pv_hub_close(NULL);
	assert_int_equal(access(lb_sock, F_OK), 0);
}

static void open_replaces_stale_socket(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct pv_hub *hub;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	(void)state;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/stale.sock", lb_dir);
	assert_int_equal(bind(fd, (void *)&sa, sizeof(sa)), 0);
	close(fd);
	assert_int_equal(pv_hub_open(sa.sun_path, NULL, &hub), 0);
	pv_hub_close(hub);
	assert_int_not_equal(access(sa.sun_path, F_OK), 0);
}

static void open_bad_path(void **state)
{
	char path[200];
	struct pv_hub *hub;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/missing/hub.sock", lb_dir);
	assert_int_equal(pv_hub_open(path, NULL, &hub), -ENOENT);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	assert_int_equal(pv_hub_open(path, NULL, &hub), -ENAMETOOLONG);
	snprintf(path, sizeof(path), "%s/file", lb_dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, "keep", 4), 4);
	assert_int_equal(pv_hub_open(path, NULL, &hub), -EADDRINUSE); /* a file of somebody: never removed */
	assert_int_equal(lseek(fd, 0, SEEK_END), 4);
	close(fd);
	assert_int_equal(unlink(path), 0);
}

static void stop_before_run(void **state)
{
	char path[200];
	struct pv_hub *hub;

	(void)state;
	snprintf(path, sizeof(path), "%s/other.sock", lb_dir);
	assert_int_equal(pv_hub_open(path, NULL, &hub), 0);
	pv_hub_stop(hub);
	pv_hub_stop(hub);
	assert_int_equal(pv_hub_run(hub), 0);
	pv_hub_close(hub);
}

/* ---- opening a handle ---- */

static void hyper_open_finds_the_hub(void **state)
{
	struct pv_hyper *h;
	char why[200];

	(void)state;
	assert_int_equal(pv_hyper_open("loopback", 0, &h, why, sizeof(why)), 0); /* $PVIO_RUNDIR/hub.sock */
	assert_string_equal(h->ops->name, "loopback");
	pv_hyper_close(h);
	setenv("PVIO_HYPERVISOR", lb_spec, 1);
	assert_int_equal(pv_hyper_open(NULL, 0, &h, why, sizeof(why)), 0);
	pv_hyper_close(h);
	unsetenv("PVIO_HYPERVISOR");
}

static void hyper_open_is_never_loopback_unasked(void **state)
{
	struct pv_hyper *h = (void *)state;
	char why[200] = "";

	unsetenv("PVIO_HYPERVISOR");
	assert_int_equal(pv_hyper_open(NULL, 0, &h, why, sizeof(why)), -ENODEV);
	assert_null(h);
	assert_non_null(strstr(why, "loopback")); /* what to do */
}

static void hyper_open_refused(void **state)
{
	struct pv_hyper *h = (void *)state;
	char why[200] = "", spec[300];

	assert_int_equal(pv_hyper_open(lb_spec, 4321, &h, why, sizeof(why)), -ENOENT);
	assert_null(h);
	assert_non_null(strstr(why, "4321"));
	assert_int_equal(pv_hyper_open(lb_spec, -1, &h, why, sizeof(why)), -EINVAL);
	assert_int_equal(pv_hyper_open(lb_spec, 1 << 20, &h, why, sizeof(why)), -ENOENT);
	snprintf(spec, sizeof(spec), "loopback:%s/nobody.sock", lb_dir);
	assert_int_equal(pv_hyper_open(spec, 0, &h, why, sizeof(why)), -ENODEV);
	assert_non_null(strstr(why, "pvio-hub"));
	memset(spec + 9, 'x', 200);
	spec[209] = 0;
	assert_int_equal(pv_hyper_open(spec, 0, &h, why, sizeof(why)), -ENAMETOOLONG);
	assert_int_equal(pv_hyper_open("loopbackx", 0, &h, why, sizeof(why)), -ENODEV);
}

/* ---- domains ---- */

static void domain_create_numbers(void **state)
{
	uint32_t port = 0;

	(void)state;
	assert_int_equal(pv_hub_domain_create(dom0, 40, &port), 40);
	assert_true(port > 0);
	assert_int_equal(pv_hub_domain_create(dom0, 40, &port), -EEXIST);
	assert_true(says(dom0, "40"));
	assert_int_equal(pv_hub_domain_create(dom0, 0x7ff0, &port), -EINVAL);
	assert_int_equal(pv_hub_domain_create(dom0, 1 << 30, &port), -EINVAL);
	assert_int_equal(pv_hub_domain_create(dom0, 0, &port), gid + 1); /* the lowest free one */
	assert_int_equal(pv_hub_domain_create(dom0, 0x7fef, &port), 0x7fef);
	assert_int_equal(pv_hub_domain_destroy(dom0, gid + 1), 0);
	assert_int_equal(pv_hub_domain_destroy(dom0, 40), 0);
	assert_int_equal(pv_hub_domain_destroy(dom0, 0x7fef), 0);
	assert_int_equal(pv_hub_domain_destroy(dom0, 40), -ENOENT);
	assert_int_equal(pv_hub_domain_destroy(dom0, 0), -EINVAL);
}

static bool has_event(struct pv_hyper *h, uint32_t port)
{
	uint32_t got = 0;
	int n = pv_evt_pending(h, &got, 1);

	assert_true(n >= 0);
	if (n)
		assert_int_equal(pv_evt_unmask(h, &got, 1), 0);
	return n && got == port;
}

static void store_page_and_port_are_the_guests_own(void **state)
{
	uint32_t gref = GNTTAB_RESERVED_XENSTORE, port, theirs;
	void *page, *mapped, *again;
	struct pv_hyper *other;
	int ours;

	(void)state;
	assert_int_equal(pv_hub_store(dom0, &page, &port), -ENOENT);
	assert_int_equal(pv_hub_store(guest, &page, &port), 0);
	assert_int_equal(pv_gnt_map(dom0, gid, &gref, 1, true, NULL, &mapped), 0);
	strcpy(page, "from the guest");
	assert_string_equal(mapped, "from the guest");
	ours = pv_evt_bind(dom0, gid, port);
	assert_true(ours > 0);
	assert_true(has_event(dom0, ours));
	assert_int_equal(pv_evt_notify(guest, port), 0);
	assert_true(has_event(dom0, ours));
	assert_int_equal(pv_evt_notify(dom0, ours), 0);
	assert_true(has_event(guest, port));
	other = lb_open(gid); /* the port outlives the handle that drove it */
	pv_hyper_close(guest);
	guest = other;
	assert_int_equal(pv_hub_store(guest, &again, &theirs), 0);
	assert_int_equal(theirs, port);
	assert_string_equal(again, "from the guest");
	assert_int_equal(pv_evt_notify(dom0, ours), 0);
	assert_true(has_event(guest, port));
	assert_int_equal(pv_evt_unbind(dom0, ours), 0);
	assert_int_equal(pv_gnt_unmap(dom0, mapped, 1), 0);
}

static void domain_limit(void **state)
{
	uint32_t port;
	int i, d[DOMAINS];

	(void)state;
	for (i = 2; i < DOMAINS; i++) {
		d[i] = pv_hub_domain_create(dom0, 0, &port);
		assert_true(d[i] > 0);
	}
	assert_int_equal(pv_hub_domain_create(dom0, 0, &port), -ENOSPC);
	assert_true(says(dom0, "20") && says(dom0, "--domains"));
	assert_int_equal(pv_hub_domain_list(dom0, NULL, 0), DOMAINS);
	for (i = 2; i < DOMAINS; i++)
		assert_int_equal(pv_hub_domain_destroy(dom0, d[i]), 0);
}

static void domain_calls_of_others(void **state)
{
	static const struct pv_hyper_ops ops = { .name = "other" };
	struct pv_hyper other = { .ops = &ops };
	struct pv_hub_domain d;
	uint32_t port;

	(void)state;
	assert_int_equal(pv_hub_domain_create(guest, 0, &port), -EPERM);
	assert_int_equal(pv_hub_domain_destroy(guest, gid), -EPERM);
	assert_int_equal(pv_hub_domain_list(guest, &d, 1), -EPERM);
	assert_int_equal(pv_hub_inject(guest, gid, "map", 0, 1, -1), -EPERM);
	assert_int_equal(pv_hub_domain_create(&other, 0, &port), -ENOTSUP);
	assert_int_equal(pv_hub_domain_destroy(&other, 1), -ENOTSUP);
	assert_int_equal(pv_hub_domain_list(&other, &d, 1), -ENOTSUP);
	assert_int_equal(pv_hub_inject(&other, 1, "map", 0, 1, -1), -ENOTSUP);
}

static void domain_store_page_and_port(void **state)
{
	struct pv_noxs_pointer p = { .version = PV_NOXS_VERSION, .generation = 5, .gref = 99, .port = 3 }, q;
	uint32_t gref = GNTTAB_RESERVED_XENSTORE, port, got;
	void *store;
	int d = pv_hub_domain_create(dom0, 0, &port), bound;
	struct pv_hyper *h = lb_open(d);

	(void)state;
	p.magic = PV_NOXS_MAGIC;
	assert_int_equal(pv_hyper_pointer(h, &q), -ENOENT);
	assert_true(strlen(pv_hyper_error(h)) > 0);
	assert_int_equal(pv_gnt_map(dom0, d, &gref, 1, true, NULL, &store), 0);
	pv_noxs_pointer_write(store, &p);
	assert_int_equal(pv_hyper_pointer(h, &q), 0);
	assert_memory_equal(&p, &q, sizeof(p));
	assert_int_equal(pv_gnt_unmap(dom0, store, 1), 0);
	bound = pv_evt_bind(dom0, d, port);
	assert_true(bound > 0);
	assert_int_equal(pv_evt_pending(dom0, &got, 1), 1);
	assert_int_equal(pv_evt_unbind(dom0, bound), 0);
	bound = pv_evt_bind(dom0, d, port); /* waits for domain 0 again */
	assert_true(bound > 0);
	assert_int_equal(pv_gnt_map(h, d, &gref, 1, true, NULL, &store), -EACCES); /* granted to domain 0 alone */
	assert_int_equal(pv_hyper_pointer(dom0, &q), -ENOENT); /* domain 0 has none */
	assert_int_equal(pv_evt_unbind(h, port), -EINVAL); /* the domain's own, not this handle's */
	pv_hyper_close(h);
	assert_int_equal(pv_hub_domain_destroy(dom0, d), 0);
	assert_int_equal(pv_evt_notify(dom0, bound), 0);
}

static void domain_destroy_ends_all(void **state)
{
	uint32_t g[3], got, port;
	uint8_t *p = share(guest, 0, 3, true, g), byte;
	int fport = pv_evt_alloc(guest, 0), bport = pv_evt_bind(dom0, gid, fport), again;
	void *m, *other;
	struct pv_hyper *h;

	(void)state;
	p[4096] = 7;
	assert_int_equal(pv_gnt_map(dom0, gid, g + 1, 1, true, NULL, &m), 0);
	assert_int_equal(copy_byte(dom0, gid, g[1], &byte), GNTST_okay);
	assert_int_equal(pv_evt_pending(dom0, &got, 1), 1);
	assert_int_equal(pv_evt_unmask(dom0, &got, 1), 0);
	assert_int_equal(pv_hub_domain_destroy(dom0, gid), 0);
	/* its process */
	assert_int_equal(pv_gnt_share(guest, 0, 1, true, NULL, &port, &other), -ESHUTDOWN);
	assert_true(says(guest, "destroyed"));
	assert_int_equal(pv_evt_alloc(guest, 0), -ESHUTDOWN);
	assert_int_equal(pv_gnt_unshare(guest, p, 3), 0); /* putting away still works */
	assert_int_equal(pv_evt_unbind(guest, fport), 0);
	/* its peers */
	assert_int_equal(((uint8_t *)m)[0], 7);
	assert_int_equal(copy_byte(dom0, gid, g[1], &byte), GNTST_bad_domain);
	assert_int_equal(pv_evt_pending(dom0, &got, 1), 0);
	assert_int_equal(pv_evt_notify(dom0, bport), 0);
	assert_int_equal(pv_gnt_unmap(dom0, m, 1), 0);
	/* a new domain of the same number: nothing of the old one is valid, but the port waits for that number */
	assert_int_equal(pv_hub_domain_create(dom0, gid, &port), gid);
	assert_int_equal(pv_gnt_map(dom0, gid, g + 1, 1, false, NULL, &m), -EACCES);
	assert_true(copy_byte(dom0, gid, g[1], &byte) < 0);
	h = lb_open(gid);
	p = share(h, 0, 3, true, g);
	p[4096] = 8;
	assert_int_equal(copy_byte(dom0, gid, g[1], &byte), GNTST_okay);
	assert_int_equal(byte, 8);
	again = pv_evt_bind(h, 0, bport);
	assert_true(again > 0);
	assert_int_equal(pv_evt_notify(h, again), 0);
	assert_int_equal(pv_evt_pending(dom0, &got, 1), 1);
	pv_hyper_close(h);
}

static void domain_destroy_clears_notices(void **state)
{
	struct pv_gnt_notice notice = { .offset = 3 };
	uint32_t g, got;
	uint8_t *p = share(dom0, gid, 1, true, &g);
	int port = pv_evt_alloc(dom0, gid);
	void *m;

	(void)state;
	p[3] = 1;
	notice.port = pv_evt_bind(guest, 0, port);
	assert_int_equal(pv_gnt_map(guest, 0, &g, 1, true, &notice, &m), 0);
	assert_int_equal(pv_hub_domain_destroy(dom0, gid), 0);
	assert_int_equal(p[3], 0);
	assert_int_equal(pv_evt_pending(dom0, &got, 1), 1);
	assert_int_equal(got, port);
}

static void domain_list_counts(void **state)
{
	uint32_t g[10], got[3];
	uint8_t *p = share(guest, 0, 10, true, g);
	struct pv_hub_domain c, two[2];
	struct pv_hyper *h = lb_open(gid);
	void *m, *n;

	(void)state;
	assert_int_equal(pv_gnt_map(dom0, gid, g, 4, true, NULL, &m), 0);
	assert_int_equal(pv_gnt_map(dom0, gid, g + 3, 2, false, NULL, &n), 0);
	pv_evt_alloc(guest, 0);
	c = count_of(gid);
	assert_true(c.handles == 2 && c.grants == 11 && c.pinned == 0 && c.ports == 2 && c.maps == 0); /* with store page and port */
	assert_int_equal(count_of(0).maps, 6);
	assert_int_equal(pv_gnt_unshare(guest, p, 10), 0);
	c = count_of(gid);
	assert_true(c.grants == 1 && c.pinned == 5);
	assert_int_equal(pv_gnt_unmap(dom0, m, 4), 0);
	assert_int_equal(count_of(gid).pinned, 2); /* page by page */
	assert_int_equal(pv_gnt_unmap(dom0, n, 2), 0);
	assert_int_equal(count_of(gid).pinned, 0);
	pv_hyper_close(h);
	assert_int_equal(count_of(gid).handles, 1);
	assert_int_equal(pv_hub_domain_list(dom0, two, 1), 2); /* how many exist, not how many fitted */
	assert_int_equal(two[0].domid, 0);
	assert_int_equal(pv_evt_pending(dom0, got, 3), 0);
}

/* ---- limits ---- */

static void share_limit_is_named(void **state)
{
	static uint32_t g[GRANTS];
	uint32_t one;
	uint8_t *p = share(guest, 0, GRANTS - 2, true, g);
	void *m, *q;

	(void)state;
	assert_int_equal(pv_gnt_share(guest, 0, 2, true, NULL, &one, &q), -ENOSPC);
	assert_true(says(guest, "5000") && says(guest, "--grants"));
	assert_int_equal(pv_gnt_share(guest, 0, 1, true, NULL, &one, &q), 0);
	/* a page that the peer still maps counts, too */
	assert_int_equal(pv_gnt_map(dom0, gid, g, 3, true, NULL, &m), 0);
	assert_int_equal(pv_gnt_unshare(guest, p, GRANTS - 2), 0);
	assert_int_equal(pv_gnt_share(guest, 0, GRANTS - 2, true, NULL, g, &q), -ENOSPC);
	assert_int_equal(pv_gnt_unmap(dom0, m, 3), 0);
	assert_int_equal(pv_gnt_share(guest, 0, GRANTS - 2, true, NULL, g, &q), 0);
	assert_int_equal(pv_gnt_unshare(guest, q, GRANTS - 2), 0);
	assert_int_equal(pv_gnt_share(guest, 0, HUB_SHARE_MAX + 1, true, NULL, g, &q), -EINVAL);
	assert_int_equal(pv_gnt_share(guest, 0x7ff0, 1, true, NULL, g, &q), -EINVAL);
}

static void map_limit_is_named(void **state)
{
	static uint32_t g[4096];
	void *m[24], *one;
	unsigned i;

	(void)state;
	share(guest, 0, 4096, true, g);
	for (i = 0; i < MAPS / 4096; i++)
		assert_int_equal(pv_gnt_map(dom0, gid, g, 4096, false, NULL, &m[i]), 0);
	assert_int_equal(pv_gnt_map(dom0, gid, g, 4096, false, NULL, &one), -ENOSPC);
	assert_null(one);
	assert_true(says(dom0, "100000") && says(dom0, "--maps"));
	assert_int_equal(pv_gnt_map(dom0, gid, g, 1, false, NULL, &one), 0);
	assert_int_equal(pv_gnt_unmap(dom0, m[0], 4096), 0);
	assert_int_equal(pv_gnt_map(dom0, gid, g, 4096, false, NULL, &m[0]), 0);
	assert_int_equal(pv_gnt_map(dom0, gid, g, 4097, false, NULL, &one), -EINVAL);
}

static void port_limit_is_named(void **state)
{
	int i, p = 0;

	(void)state;
	for (i = 1; i < PORTS; i++) { /* one is the store port */
		p = pv_evt_alloc(guest, 0);
		assert_true(p > 0 && p <= PORTS);
	}
	assert_int_equal(pv_evt_alloc(guest, 0), -ENOSPC);
	assert_true(says(guest, "12") && says(guest, "--ports"));
	i = pv_evt_alloc(dom0, gid);
	assert_int_equal(pv_evt_bind(guest, 0, i), -ENOSPC);
	assert_int_equal(pv_evt_unbind(guest, p), 0);
	assert_int_equal(pv_evt_bind(guest, 0, i), p);
}

/* ---- injected faults ---- */

static void inject_map(void **state)
{
	uint32_t g[8];
	void *m;

	(void)state;
	share(guest, 0, 8, true, g);
	assert_int_equal(pv_hub_inject(dom0, gid, "map", 1, 2, GNTST_general_error), 0);
	assert_int_equal(pv_gnt_map(dom0, gid, g, 1, true, NULL, &m), 0); /* skipped */
	assert_int_equal(pv_gnt_map(dom0, gid, g, 1, true, NULL, &m), -EACCES);
	assert_int_equal(pv_gnt_map(dom0, gid, g, 1, true, NULL, &m), -EACCES);
	assert_int_equal(pv_gnt_map(dom0, gid, g, 1, true, NULL, &m), 0);
	/* each page is an operation; one that fails fails the call, and retrying one by one finds it gone */
	assert_int_equal(pv_hub_inject(dom0, gid, "map", 5, 1, GNTST_bad_gntref), 0);
	assert_int_equal(pv_gnt_map(dom0, gid, g, 8, true, NULL, &m), -EACCES);
	assert_int_equal(count_of(0).maps, 2);
	assert_int_equal(pv_gnt_map(dom0, gid, g, 8, true, NULL, &m), 0);
	assert_int_equal(pv_hub_inject(dom0, gid, "map", 0, 1, GNTST_eagain), 0);
	assert_int_equal(pv_gnt_map(dom0, gid, g, 1, true, NULL, &m), -EAGAIN);
	assert_int_equal(pv_hub_inject(dom0, gid, "map", 0, 1, GNTST_no_device_space), 0);
	assert_int_equal(pv_gnt_map(dom0, gid, g, 1, true, NULL, &m), -ENOSPC);
	assert_int_equal(pv_hub_inject(dom0, gid, "map", 0, 100, 1), 0); /* odd ones, too (XSA-316) */
	assert_int_equal(pv_gnt_map(dom0, gid, g, 1, true, NULL, &m), -EACCES);
	assert_int_equal(pv_hub_inject(dom0, gid, "map", 0, 0, 0), 0); /* cleared */
	assert_int_equal(pv_gnt_map(dom0, gid, g, 1, true, NULL, &m), 0);
}

static void inject_copy(void **state)
{
	static const int16_t status[] = { GNTST_general_error, GNTST_eagain, 1, 77 };
	struct pv_gnt_copy op[5] = { 0 };
	uint8_t buf[5] = { 0 }, *p;
	uint32_t g, i, k;

	(void)state;
	p = share(guest, 0, 1, true, &g);
	*p = 9;
	for (i = 0; i < 5; i++)
		op[i] = (struct pv_gnt_copy){ .from = { .gref = g, .domid = gid }, .to.local = &buf[i], .len = 1 };
	for (k = 0; k < 4; k++) {
		memset(buf, 0, sizeof(buf));
		assert_int_equal(pv_hub_inject(dom0, gid, "copy", 1, 2, status[k]), 0);
		assert_int_equal(pv_gnt_copy(dom0, op, 5), 0);
		for (i = 0; i < 5; i++) {
			assert_int_equal(op[i].status, i == 1 || i == 2 ? status[k] : GNTST_okay);
			assert_int_equal(buf[i], i == 1 || i == 2 ? 0 : 9);
		}
	}
	assert_int_equal(pv_hub_inject(dom0, gid, "copy", 0, 100, -1), 0);
	assert_int_equal(copy_byte(dom0, gid, g, buf), -1);
	assert_int_equal(pv_hub_inject(dom0, gid, "copy", 0, 0, 0), 0);
	assert_int_equal(copy_byte(dom0, gid, g, buf), GNTST_okay);
}

static void inject_share_alloc_bind(void **state)
{
	uint32_t g;
	void *p;
	int port;

	(void)state;
	assert_int_equal(pv_hub_inject(dom0, gid, "share", 1, 1, -1), 0);
	assert_int_equal(pv_gnt_share(guest, 0, 3, true, NULL, (uint32_t[3]){ 0 }, &p), 0);
	assert_int_equal(pv_gnt_share(guest, 0, 1, true, NULL, &g, &p), -ENOSPC);
	assert_true(says(guest, "no grants left"));
	assert_int_equal(pv_gnt_share(guest, 0, 1, true, NULL, &g, &p), 0);
	assert_int_equal(pv_hub_inject(dom0, gid, "alloc", 0, 1, -1), 0);
	assert_int_equal(pv_evt_alloc(guest, 0), -ENOSPC);
	assert_true(says(guest, "no ports left"));
	port = pv_evt_alloc(guest, 0);
	assert_true(port > 0);
	assert_int_equal(pv_hub_inject(dom0, gid, "bind", 0, 1, -1), 0);
	assert_int_equal(pv_evt_bind(dom0, gid, port), -ENOSPC);
	assert_true(pv_evt_bind(dom0, gid, port) > 0);
}

static void inject_refused(void **state)
{
	(void)state;
	assert_int_equal(pv_hub_inject(dom0, gid, "nothing", 0, 1, -1), -EINVAL);
	assert_int_equal(pv_hub_inject(dom0, gid, "map", 0, 1, GNTST_okay), -EINVAL);
	assert_int_equal(pv_hub_inject(dom0, 4321, "map", 0, 1, -1), -ENOENT);
}

/* ---- statuses and seals as the loopback port gives them ---- */

static void copy_statuses(void **state)
{
	uint32_t g, ro, foreign, revoked;
	uint8_t buf[64];
	struct pv_gnt_copy op;
	uint8_t *p = share(guest, 0, 1, true, &revoked);

	(void)state;
	assert_int_equal(copy_byte(dom0, gid, revoked, buf), GNTST_okay);
	share(guest, 0, 1, true, &g);
	share(guest, 0, 1, false, &ro);
	share(guest, 55, 1, true, &foreign);
	pv_gnt_unshare(guest, p, 1);
	assert_int_equal(copy_byte(dom0, gid, g, buf), GNTST_okay);
	assert_int_equal(copy_byte(dom0, gid, revoked, buf), GNTST_bad_gntref);
	assert_int_equal(copy_byte(dom0, gid, foreign, buf), GNTST_bad_gntref);
	assert_int_equal(copy_byte(dom0, gid, 0xffffffff, buf), GNTST_bad_gntref);
	assert_int_equal(copy_byte(dom0, gid, 0, buf), GNTST_bad_gntref);
	assert_int_equal(copy_byte(dom0, 9999, g, buf), GNTST_bad_domain);
	assert_int_equal(copy_byte(dom0, 0xffff, g, buf), GNTST_bad_domain);
	op = (struct pv_gnt_copy){ .from = { .gref = g, .domid = gid, .offset = 4090 }, .to.local = buf, .len = 7 };
	assert_int_equal(pv_gnt_copy(dom0, &op, 1), 0);
	assert_int_equal(op.status, GNTST_bad_copy_arg);
	op = (struct pv_gnt_copy){ .to = { .gref = ro, .domid = gid }, .from.local = buf, .len = 7 };
	assert_int_equal(pv_gnt_copy(dom0, &op, 1), 0);
	assert_int_equal(op.status, GNTST_permission_denied);
	assert_int_equal(copy_byte(dom0, gid, ro, buf), GNTST_okay);
	assert_int_equal(pv_gnt_copy(dom0, &op, 1), 0); /* also when its address is known */
	assert_int_equal(op.status, GNTST_permission_denied);
}

/* Both pages of a copy change hands while their references are looked up. */
static void copy_page_to_page_of_revoked_files(void **state)
{
	uint32_t g[2], round, i;
	uint8_t *p, *q;

	(void)state;
	for (round = 0; round < 50; round++) {
		struct pv_gnt_copy op[4];

		p = share(guest, 0, 1, true, &g[0]);
		q = share(guest, 0, 1, true, &g[1]);
		*p = round;
		for (i = 0; i < 4; i++)
			op[i] = (struct pv_gnt_copy){ .from = { .gref = g[i & 1], .domid = gid }, .to = { .gref = g[!(i & 1)], .domid = gid }, .len = 1 };
		assert_int_equal(pv_gnt_copy(dom0, op, 4), 0);
		for (i = 0; i < 4; i++)
			assert_int_equal(op[i].status, GNTST_okay);
		assert_int_equal(*q, round);
		assert_int_equal(pv_gnt_unshare(guest, round & 1 ? p : q, 1), 0);
		assert_int_equal(pv_gnt_copy(dom0, op, 4), 0);
		for (i = 0; i < 4; i++)
			assert_int_equal(op[i].status, GNTST_bad_gntref);
		assert_int_equal(pv_gnt_unshare(guest, round & 1 ? q : p, 1), 0);
	}
}

/* The cache of mapped files is bounded, and the file of a copy's first page may be the one that makes room for its second. */
static void copy_with_more_files_than_are_kept(void **state)
{
	enum { N = 4200 }; /* more than COPY_FILES_MAX of loopback_copy.c */
	static uint32_t g[N];
	static uint8_t *p[N];
	struct pv_gnt_copy op = { .len = 4 };
	struct rlimit rl;
	uint32_t i, got;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &rl), 0);
	if (rl.rlim_max < N + 200)
		skip(); /* each share is a descriptor of the hub */
	for (i = 0; i < N; i++) {
		p[i] = share(guest, 0, 1, true, &g[i]);
		*(uint32_t *)p[i] = i;
	}
	for (i = 0; i < N; i++) {
		struct pv_gnt_copy from = { .from = { .gref = g[i], .domid = gid }, .to.local = &got, .len = 4 };

		assert_int_equal(pv_gnt_copy(dom0, &from, 1), 0);
		assert_int_equal(from.status, GNTST_okay);
		assert_int_equal(got, i);
		if (i < 4096)
			continue;
		/* the oldest that is still mapped is i - 4095, and the next is not mapped yet */
		op.from.gref = g[i - 4095];
		op.to.gref = g[(i + 1) % N];
		op.from.domid = op.to.domid = gid;
		assert_int_equal(pv_gnt_copy(dom0, &op, 1), 0);
		assert_int_equal(op.status, GNTST_okay);
		assert_int_equal(*(uint32_t *)p[(i + 1) % N], i - 4095);
		*(uint32_t *)p[(i + 1) % N] = (i + 1) % N;
	}
}

/* Memory of a guest is let go: a copier unmaps the files of ended grants when it maps others. */
static void copy_forgets_revoked_files(void **state)
{
	uint32_t g, i;
	uint8_t byte, *p;
	unsigned lines, first = 0;
	char line[512];
	FILE *f;

	(void)state;
	for (i = 0; i < 20; i++) {
		p = share(guest, 0, 4, true, (uint32_t[4]){ 0 });
		assert_int_equal(pv_gnt_unshare(guest, p, 4), 0);
		p = share(guest, 0, 1, i & 1, &g); /* the same few numbers again and again */
		assert_int_equal(copy_byte(dom0, gid, g, &byte), GNTST_okay);
		assert_int_equal(pv_gnt_unshare(guest, p, 1), 0);
		f = fopen("/proc/self/maps", "r");
		for (lines = 0; fgets(line, sizeof(line), f);)
			lines += !!strstr(line, "pvio-share");
		fclose(f);
		first = first ? first : lines;
		assert_true(lines <= first);
	}
}

/* ---- clients of their own making ---- */

static int raw_connect(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(sa.sun_path, lb_sock);
	assert_int_equal(connect(fd, (void *)&sa, sizeof(sa)), 0);
	return fd;
}

/* Ask; the answer and one descriptor of it. Returns the result, or -EPIPE if we were cut off. */
static int raw_ask(int fd, const void *req, size_t len, struct hub_rsp *rsp, int *got)
{
	union { struct cmsghdr align; char bytes[CMSG_SPACE(64 * sizeof(int))]; } control;
	static uint8_t payload[1 << 17];
	struct iovec iov[2] = { { rsp, sizeof(*rsp) }, { payload, sizeof(payload) } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control) };

	if (send(fd, req, len, MSG_NOSIGNAL) < 0 || recvmsg(fd, &m, MSG_CMSG_CLOEXEC) <= 0)
		return -EPIPE;
	if (CMSG_FIRSTHDR(&m)) {
		const int *fds = (const void *)CMSG_DATA(CMSG_FIRSTHDR(&m));

		for (size_t i = (CMSG_FIRSTHDR(&m)->cmsg_len - CMSG_LEN(0)) / sizeof(int); i > 1; i--)
			close(fds[i - 1]);
		*got = fds[0];
	}
	return rsp->result;
}

static int raw_open(int domid)
{
	struct hub_req hello = { .op = HUB_HELLO, .domid = domid, .n = HUB_VERSION };
	struct hub_rsp rsp;
	int fd = raw_connect(), none;

	assert_int_equal(raw_ask(fd, &hello, sizeof(hello), &rsp, &none), 0);
	return fd;
}

static void raw_expect_cut(int fd, const void *req, size_t len)
{
	struct hub_rsp rsp;
	int none;

	assert_int_equal(raw_ask(fd, req, len, &rsp, &none), -EPIPE);
	close(fd);
}

static void client_garbage(void **state)
{
	struct { struct hub_req req; uint32_t grefs[HUB_MAP_MAX + 8]; } m;
	struct hub_req req = { .op = HUB_ALLOC };
	uint32_t op, s = 1, i, k;
	int fd;

	(void)state;
	memset(&m, 0xff, sizeof(m));
	raw_expect_cut(raw_connect(), &req, sizeof(req)); /* no hello */
	raw_expect_cut(raw_connect(), "x", 1);
	raw_expect_cut(raw_connect(), &m, sizeof(m)); /* longer than any request */
	raw_expect_cut(raw_connect(), "", 0);
	raw_expect_cut(raw_open(gid), &req, sizeof(req) - 1);
	raw_expect_cut(raw_open(gid), &m.req, sizeof(m.req)); /* no such operation */
	req.op = HUB_HELLO;
	raw_expect_cut(raw_open(gid), &req, sizeof(req)); /* twice */
	m.req = (struct hub_req){ .op = HUB_MAP, .n = 5 };
	raw_expect_cut(raw_open(gid), &m, sizeof(m.req) + 4 * 4);
	m.req.n = HUB_MAP_MAX + 1;
	raw_expect_cut(raw_open(gid), &m, sizeof(m.req) + (HUB_MAP_MAX + 1) * 4);
	m.req.n = 0x40000000; /* times 4 is 0 in 32 bits */
	raw_expect_cut(raw_open(gid), &m, sizeof(m.req));
	/* any operation with any values: an answer or a cut, and the hub goes on */
	for (op = 1; op < HUB_OPS; op++)
		for (i = 0; i < 40; i++) {
			struct hub_rsp rsp;
			int got = -1;

			if (op == HUB_DESTROY || op == HUB_INJECT)
				continue;
			fd = raw_open(gid);
			for (k = 0; k < sizeof(req) / 4; k++) {
				s = s * 1664525 + 1013904223;
				((uint32_t *)&req)[k] = s >> 28 < 6 ? s >> 16 & 15 : s ^ s >> 13;
			}
			req.op = op;
			if (op == HUB_SHARE)
				req.n &= 0xff;
			m.req = req;
			m.req.n = req.n % 64;
			raw_ask(fd, op == HUB_MAP ? (void *)&m : &req, sizeof(req) + (op == HUB_MAP ? m.req.n * 4 : 0), &rsp, &got);
			if (got >= 0)
				close(got);
			close(fd);
		}
	assert_true(pv_evt_alloc(guest, 0) > 0); /* others never noticed */
}

static void client_wrong_version(void **state)
{
	struct hub_req hello = { .op = HUB_HELLO, .n = HUB_VERSION + 1 };
	struct hub_rsp rsp;
	int fd = raw_connect(), none;

	(void)state;
	assert_int_equal(raw_ask(fd, &hello, sizeof(hello), &rsp, &none), -EPROTONOSUPPORT);
	close(fd);
}

static void client_sends_descriptors(void **state)
{
	union { struct cmsghdr align; char bytes[CMSG_SPACE(3 * sizeof(int))]; } control = { 0 };
	struct hub_req req = { .op = HUB_UNBIND, .port = 1 };
	struct iovec iov = { &req, sizeof(req) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	int fd = raw_open(gid), fds[3] = { 0, 1, 2 };
	char c;

	(void)state;
	control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(fds)) };
	memcpy(CMSG_DATA(&control.align), fds, sizeof(fds));
	assert_true(sendmsg(fd, &m, MSG_NOSIGNAL) > 0);
	assert_true(recv(fd, &c, 1, 0) <= 0);
	close(fd);
}

/* It asks and asks and reads no answer: the hub serves others meanwhile, and cuts it off. */
static void client_never_reads(void **state)
{
	struct hub_req req = { .op = HUB_UNBIND, .port = 1 };
	int fd = raw_open(gid), i;

	(void)state;
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	for (i = 0; i < 1000000; i++) {
		if (send(fd, &req, sizeof(req), MSG_NOSIGNAL) < 0 && errno != EAGAIN)
			break;
		if (i % 1000 == 0)
			assert_true(count_of(0).handles > 0);
	}
	assert_true(errno == EPIPE || errno == ECONNRESET);
	close(fd);
}

static void client_cannot_truncate(void **state)
{
	struct hub_req req = { .op = HUB_SHARE, .n = 2, .flags = HUB_WRITABLE }, ro = { .op = HUB_SHARE, .n = 1 };
	struct hub_rsp rsp;
	int fd = raw_open(gid), file = -1, seals;
	void *p;

	(void)state;
	assert_int_equal(raw_ask(fd, &req, sizeof(req), &rsp, &file), 0);
	assert_int_equal(ftruncate(file, 0), -1);
	assert_int_equal(ftruncate(file, 1 << 20), -1);
	assert_int_equal(fcntl(file, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	close(file);
	/* a read-only share: usable only when its owner has mapped it and nobody else can write */
	assert_int_equal(raw_ask(fd, &ro, sizeof(ro), &rsp, &file), 0);
	seals = fcntl(file, F_GET_SEALS);
	assert_int_equal(seals & F_SEAL_FUTURE_WRITE, 0);
	assert_int_equal(raw_ask(fd, &(struct hub_req){ .op = HUB_SEAL, .id = rsp.id }, sizeof(req), &rsp, &file), 0);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	assert_ptr_equal(p, MAP_FAILED);
	assert_int_equal(pwrite(file, "x", 1, 0), -1);
	assert_int_equal(ftruncate(file, 0), -1);
	close(file);
	close(fd);
}

static void client_unsealed_share_is_not_usable(void **state)
{
	struct hub_req ro = { .op = HUB_SHARE, .n = 1 };
	struct hub_rsp rsp;
	uint32_t g;
	uint8_t byte;
	void *m;
	int fd = raw_open(gid), file = -1;

	(void)state;
	assert_int_equal(raw_ask(fd, &ro, sizeof(ro), &rsp, &file), 0);
	for (g = HUB_GREF_FIRST; g < 4 * HUB_GREF_FIRST; g++) {
		assert_int_equal(pv_gnt_map(dom0, gid, &g, 1, false, NULL, &m), -EACCES);
		assert_true(says(dom0, "is not granted"));
		assert_int_equal(copy_byte(dom0, gid, g, &byte), GNTST_bad_gntref);
	}
	close(file);
	close(fd);
}

/* Two handles of one domain: what one made is not the other's. */
static void client_uses_what_is_anothers(void **state)
{
	struct hub_req unbind = { .op = HUB_UNBIND }, notice = { .op = HUB_SHARE, .n = 1, .flags = HUB_WRITABLE | HUB_NOTICE };
	struct hub_req end = { .op = HUB_UNSHARE, .id = 1 };
	struct hub_rsp rsp;
	uint32_t g;
	uint8_t *p = share(guest, 0, 1, true, &g), byte;
	int fd = raw_open(gid), none, port = pv_evt_alloc(guest, 0);

	(void)state;
	unbind.port = notice.notice.port = port;
	assert_int_equal(raw_ask(fd, &unbind, sizeof(unbind), &rsp, &none), -EINVAL);
	assert_int_equal(raw_ask(fd, &notice, sizeof(notice), &rsp, &none), -EINVAL);
	assert_int_equal(raw_ask(fd, &end, sizeof(end), &rsp, &none), -EINVAL);
	end.op = HUB_UNMAP;
	assert_int_equal(raw_ask(fd, &end, sizeof(end), &rsp, &none), -EINVAL);
	close(fd);
	assert_true(pv_evt_bind(dom0, gid, port) > 0);
	assert_int_equal(copy_byte(dom0, gid, g, &byte), GNTST_okay);
	assert_int_equal(pv_gnt_unshare(guest, p, 1), 0);
}

/* ---- processes that die ---- */

static void process_death_releases_all(void **state)
{
	uint32_t g[20], i;
	int ready[2], round;
	char c;
	pid_t pid;
	void *m;

	(void)state;
	share(dom0, gid, 20, true, g);
	for (round = 0; round < 10; round++) {
		assert_int_equal(pipe(ready), 0);
		pid = fork();
		if (!pid) {
			struct pv_hyper *h = lb_open(gid);
			uint32_t own[20];

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (i = 0; i < 10; i++) {
				pv_evt_alloc(h, 0);
				share(h, 0, 2 * i + 1, i & 1, own);
				if (pv_gnt_map(h, 0, g, 20, true, NULL, &m))
					_exit(1);
			}
			if (write(ready[1], "r", 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
		assert_int_equal(read(ready[0], &c, 1), 1);
		assert_int_equal(count_of(gid).maps, 200);
		assert_int_equal(count_of(gid).grants, 101);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		close(ready[0]);
		close(ready[1]);
		while (count_of(gid).handles > 1)
			usleep(1000);
		assert_true(count_of(gid).maps == 0 && count_of(gid).grants == 1 && count_of(gid).ports == 1);
	}
}

/* ---- running out of descriptors and mappings ---- */

/* Run fn in a process of its own: it changes its limits. */
static void in_child(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		fn();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define must(x) do { if (!(x)) { fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #x, pv_hyper_error(h)); _exit(1); } } while (0)

static void few_descriptors(void)
{
	struct rlimit rl;
	uint32_t g[4], one;
	uint8_t byte;
	struct pv_hyper *h = lb_open(0);
	void *m;
	int fds[64], n = 0;

	must(!pv_gnt_share(guest, 0, 4, true, NULL, g, &m));
	must(!getrlimit(RLIMIT_NOFILE, &rl));
	rl.rlim_cur = dup(0);
	close(rl.rlim_cur);
	rl.rlim_cur += 1;
	must(!setrlimit(RLIMIT_NOFILE, &rl));
	while (n < 64 && (fds[n] = dup(0)) >= 0)
		n++;
	must(n < 64);
	must(pv_gnt_map(h, gid, g, 4, true, NULL, &m) == -ENOSPC && strstr(h->error, "RLIMIT_NOFILE"));
	must(pv_gnt_share(h, gid, 1, true, NULL, &one, &m) == -ENOSPC && strstr(h->error, "RLIMIT_NOFILE"));
	must(pv_gnt_share(h, gid, 1, false, NULL, &one, &m) == -ENOSPC);
	must(pv_evt_alloc(h, gid) == -ENOSPC && strstr(h->error, "RLIMIT_NOFILE"));
	must(copy_byte(h, gid, g[0], &byte) < 0);
	while (n)
		close(fds[--n]);
	rl.rlim_cur += 8;
	must(!setrlimit(RLIMIT_NOFILE, &rl));
	/* nothing is left of what failed, and it goes on */
	must(!pv_gnt_map(h, gid, g, 4, true, NULL, &m));
	must(!pv_gnt_share(h, gid, 1, true, NULL, &one, &m));
	must(pv_evt_alloc(h, gid) > 0);
	must(copy_byte(h, gid, g[0], &byte) == GNTST_okay);
	dom0 = h;
	must(count_of(0).maps == 4 && count_of(0).grants == 1 && count_of(0).ports == 1);
}

static void descriptors_used_up(void **state)
{
	(void)state;
	in_child(few_descriptors);
}

/* Backwards, so that each page is a mapping of its own. */
static void many_mappings(void)
{
	static uint32_t g[4096], rev[4096];
	struct pv_hyper *h = lb_open(0);
	unsigned i, calls = 0;
	void *m, *last = NULL;
	int err;

	must(!pv_gnt_share(guest, 0, 4096, true, NULL, g, &m));
	for (i = 0; i < 4096; i++)
		rev[i] = g[4095 - i];
	while (!(err = pv_gnt_map(h, gid, rev, 4096, true, NULL, &m))) {
		last = m;
		calls++;
	}
	must(err == -ENOSPC && strstr(h->error, "vm.max_map_count"));
	must(!m && calls > 2);
	dom0 = h;
	must(count_of(0).maps == calls * 4096);
	must(!pv_gnt_unmap(h, last, 4096));
	must(!pv_gnt_map(h, gid, rev, 4096, true, NULL, &m));
}

static void mappings_used_up(void **state)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
	long limit = 0;

	(void)state;
	assert_int_equal(fscanf(f, "%ld", &limit), 1);
	fclose(f);
	if (limit > MAPS - 4096)
		skip(); /* a machine set up for more than the hub allows here */
	in_child(many_mappings);
}

/* ---- a hub that has few descriptors itself ---- */

static void few_in_hub(void)
{
	struct rlimit rl = { 64, 64 };

	setrlimit(RLIMIT_NOFILE, &rl);
}

static void hub_out_of_descriptors(void **state)
{
	struct pv_hyper *a, *b, *many[80];
	uint8_t *p[64];
	uint32_t g;
	void *addr;
	int n = 0, m = 0, i, err;

	(void)state;
	lb_up(NULL, few_in_hub);
	a = lb_open(0);
	b = lb_open(lb_guest(a, 3));
	while (n < 64 && !(err = pv_gnt_share(b, 0, 1, true, NULL, &g, &addr)))
		p[n++] = addr;
	assert_true(n > 5 && n < 64);
	assert_int_equal(err, -ENOSPC);
	assert_true(says(b, "RLIMIT_NOFILE"));
	assert_int_equal(pv_evt_alloc(b, 0), -ENOSPC);
	assert_int_equal(pv_hub_domain_create(a, 4, &g), -ENOSPC);
	while (m < 80 && !pv_hyper_open(lb_spec, 0, &many[m], NULL, 0))
		m++;
	assert_true(m < 80);
	for (i = 0; i < 5; i++) /* it hangs up on each */
		assert_true(pv_hyper_open(lb_spec, 0, &many[m], NULL, 0) < 0);
	while (m)
		pv_hyper_close(many[--m]);
	while (n)
		assert_int_equal(pv_gnt_unshare(b, p[--n], 1), 0);
	assert_true(pv_evt_alloc(b, 0) > 0);
	assert_int_equal(pv_hub_domain_create(a, 4, &g), 4);
	pv_hyper_close(b);
	pv_hyper_close(a);
	lb_down();
}

/* The largest calls there are. */
static void hub_large_calls(void **state)
{
	static uint32_t g[HUB_SHARE_MAX];
	struct pv_hyper *a, *b;
	uint8_t *p, *m;
	void *addr;
	uint32_t i;

	(void)state;
	lb_up(NULL, NULL);
	a = lb_open(0);
	b = lb_open(lb_guest(a, 3));
	p = share(b, 0, HUB_SHARE_MAX, true, g);
	for (i = 0; i < HUB_SHARE_MAX; i += HUB_MAP_MAX) {
		assert_int_equal(pv_gnt_map(a, 3, g + i, HUB_MAP_MAX, true, NULL, &addr), 0);
		m = addr;
		m[4096 * (HUB_MAP_MAX - 1)] = 1 + i / HUB_MAP_MAX;
		assert_int_equal(p[4096 * (size_t)(i + HUB_MAP_MAX - 1)], 1 + i / HUB_MAP_MAX);
	}
	pv_hyper_close(b);
	pv_hyper_close(a);
	lb_down();
}

static bool readable(struct pv_hyper *h, int ms)
{
	struct pollfd p = { .fd = pv_evt_fd(h), .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

/* Says so as often as it is asked, and wakes nobody any more. */
static void expect_ended(struct pv_hyper *h)
{
	uint32_t got[4];

	for (int i = 0; i < 3; i++) {
		int n = pv_evt_pending(h, got, 1);

		if (i == 0 && n == 1) /* a port that was pending before */
			n = pv_evt_pending(h, got, 4);
		assert_int_equal(n, -ESHUTDOWN);
		assert_false(readable(h, 0));
	}
	assert_true(strlen(pv_hyper_error(h)) > 0);
}

/* A handle that only waits learns that its domain was destroyed. */
static void domain_destroy_wakes_an_idle_handle(void **state)
{
	int port = pv_evt_alloc(guest, 0);

	(void)state;
	assert_true(port > 0);
	assert_false(readable(guest, 0)); /* the hub's answers are no events */
	assert_int_equal(pv_hub_domain_destroy(dom0, gid), 0);
	assert_true(readable(guest, 10000));
	expect_ended(guest);
	assert_true(says(guest, "destroyed"));
	assert_int_equal(pv_evt_unbind(guest, (uint32_t)port), 0);
}

/* Likewise that the hub ended, with ports that are pending meanwhile. */
static void hub_ends_wakes_an_idle_handle(void **state)
{
	struct pv_hyper *h;
	int port;

	(void)state;
	lb_up(NULL, NULL);
	h = lb_open(0);
	port = pv_evt_alloc(h, 0);
	assert_true(pv_evt_bind(h, 0, (uint32_t)port) > 0);
	lb_down();
	assert_true(readable(h, 10000));
	expect_ended(h);
	pv_hyper_close(h);
}

/* The hub ends: handles fail with words, and can be closed. */
static void hub_ends(void **state)
{
	struct pv_hyper *a;
	uint32_t g, got;
	void *p, *q;
	int port;

	(void)state;
	lb_up(NULL, NULL);
	a = lb_open(0);
	assert_int_equal(pv_gnt_share(a, 0, 1, true, NULL, &g, &p), 0);
	assert_int_equal(pv_gnt_map(a, 0, &g, 1, true, NULL, &q), 0);
	port = pv_evt_alloc(a, 0);
	assert_int_equal(pv_evt_bind(a, 0, (uint32_t)port) > 0, 1); /* pending at once, and nobody fetches it */
	lb_down();
	*(uint8_t *)p = 5;
	assert_int_equal(*(uint8_t *)q, 5);
	assert_int_equal(pv_evt_alloc(a, 0), -ESHUTDOWN);
	assert_true(says(a, "pvio-hub"));
	assert_int_equal(pv_evt_notify(a, port), 0);
	assert_true(readable(a, 10000)); /* although a call was told already */
	expect_ended(a);
	assert_int_equal(pv_evt_unmask(a, &got, 1), -ESHUTDOWN);
	assert_int_equal(pv_gnt_unmap(a, q, 1), 0);
	pv_hyper_close(a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, up, down)

static void rundir_follows_the_environment(void **state)
{
	(void)state;
	setenv("PVIO_RUNDIR", "/tmp/x", 1);
	assert_string_equal(pv_rundir(), "/tmp/x");
	setenv("PVIO_RUNDIR", "", 1);
	assert_string_equal(pv_rundir(), "/run/pvio");
	unsetenv("PVIO_RUNDIR");
	assert_string_equal(pv_rundir(), "/run/pvio");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(open_socket_is_private),
		cmocka_unit_test(open_live_socket_is_refused),
		cmocka_unit_test(open_replaces_stale_socket),
		cmocka_unit_test(open_bad_path),
		cmocka_unit_test(stop_before_run),
		cmocka_unit_test(hyper_open_finds_the_hub),
		cmocka_unit_test(hyper_open_is_never_loopback_unasked),
		cmocka_unit_test(hyper_open_refused),
		TEST(domain_create_numbers),
		TEST(store_page_and_port_are_the_guests_own),
		TEST(domain_limit),
		TEST(domain_calls_of_others),
		TEST(domain_store_page_and_port),
		TEST(domain_destroy_ends_all),
		TEST(domain_destroy_wakes_an_idle_handle),
		TEST(domain_destroy_clears_notices),
		TEST(domain_list_counts),
		TEST(share_limit_is_named),
		TEST(map_limit_is_named),
		TEST(port_limit_is_named),
		TEST(inject_map),
		TEST(inject_copy),
		TEST(inject_share_alloc_bind),
		TEST(inject_refused),
		TEST(copy_statuses),
		TEST(copy_page_to_page_of_revoked_files),
		TEST(copy_with_more_files_than_are_kept),
		TEST(copy_forgets_revoked_files),
		TEST(client_garbage),
		TEST(client_wrong_version),
		TEST(client_sends_descriptors),
		TEST(client_never_reads),
		TEST(client_cannot_truncate),
		TEST(client_unsealed_share_is_not_usable),
		TEST(client_uses_what_is_anothers),
		TEST(process_death_releases_all),
		TEST(descriptors_used_up),
		TEST(mappings_used_up),
	};
	const struct CMUnitTest alone[] = {
		cmocka_unit_test(hub_out_of_descriptors),
		cmocka_unit_test(hub_large_calls),
		cmocka_unit_test(hub_ends),
		cmocka_unit_test(hub_ends_wakes_an_idle_handle),
		cmocka_unit_test(rundir_follows_the_environment),
	};
	int failed = cmocka_run_group_tests_name("hub", tests, group_up, group_down);

	return failed + cmocka_run_group_tests_name("hubs of their own", alone, NULL, NULL);
}
