/* test_pciif.c - a guest against the server of its VF's configuration space: pvio-pciback's thread, in a process of its own on the loopback
 * hypervisor, with virtual functions that are files and a Xen that says yes. A bystander has a VF from the same server, and is served after
 * everything that the other does; then a look at the files says what of the functions has changed. */
#include "tests/unit/loopback.h"
#include "tests/unit/vf_function.h"
#include "sriov/pciback.h"
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

enum { GUESTS = 2, HOSTILE = 0, BYSTANDER = 1, PATIENCE = 20000 /* ms: something is wrong */ };

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- the machine ---- */

static char root[96];

static struct vf_bdf bdf_of(unsigned i)
{
	return (struct vf_bdf){ .bus = 1, .slot = 0x10, .fn = (uint8_t)(2 * i) };
}

static const char *attr_path(unsigned i, const char *attr)
{
	static char path[200];

	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/%s", root, vf_text(bdf_of(i)).s, attr);
	return path;
}

static void put_file(const char *path, const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), n);
	close(fd);
}

static void make_dirs(char *path)
{
	for (char *at = path + 1; (at = strchr(at, '/')); at++) {
		*at = 0;
		mkdir(path, 0755);
		*at = '/';
	}
}

static void make_function(unsigned i)
{
	char path[200], text[400] = "";
	struct fn f;

	snprintf(path, sizeof(path), "%s", attr_path(i, "config"));
	make_dirs(path);
	fn_init(&f);
	put_file(path, f.space, sizeof(f.space));
	for (unsigned b = 0; b < VF_BARS; b++) {
		const struct vf_conf_bar *bar = &fn_dev.bar[b];

		snprintf(text + strlen(text), sizeof(text) - strlen(text), "0x%016llx 0x%016llx 0x%016x\n", (unsigned long long)bar->start,
			 (unsigned long long)(bar->size ? bar->start + bar->size - 1 : 0), bar->size ? 0x140200u | bar->flags : 0);
	}
	put_file(attr_path(i, "resource"), text, strlen(text));
	put_file(attr_path(i, "vendor"), "0x8086\n", 7);
	put_file(attr_path(i, "device"), "0x10ca\n", 7);
}

static uint32_t space(unsigned i, unsigned offset, unsigned size)
{
	int fd = open(attr_path(i, "config"), O_RDONLY);
	uint32_t v = 0;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &v, size, offset), size);
	close(fd);
	return v;
}

/* Of a function, nothing but what a guest may have changed. */
static void check_space(unsigned i)
{
	uint8_t now[VF_CONF_SPACE];
	struct fn f;
	int fd = open(attr_path(i, "config"), O_RDONLY);

	assert_int_equal(pread(fd, now, sizeof(now), 0), sizeof(now));
	close(fd);
	fn_init(&f);
	now[PCI_COMMAND] &= (uint8_t)~PCI_COMMAND_MASTER;
	now[FN_MSIX + PCI_MSIX_FLAGS + 1] &= (uint8_t)~((PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8);
	now[FN_MSI + PCI_MSI_FLAGS] &= (uint8_t)~(PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	f.space[FN_MSI + PCI_MSI_FLAGS] &= (uint8_t)~PCI_MSI_FLAGS_QSIZE;
	assert_memory_equal(now, f.space, sizeof(now));
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

/* ---- Xen: a file that the server's processes have in common ---- */

static struct xen {
	int pirqs, last;
} *xen;

static void xen_open(const char *where)
{
	char path[120];
	int fd;

	snprintf(path, sizeof(path), "%s/xen", where);
	fd = open(path, O_RDWR | O_CREAT, 0644);
	if (fd < 0 || ftruncate(fd, sizeof(*xen)) < 0)
		abort();
	xen = mmap(NULL, sizeof(*xen), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (xen == MAP_FAILED)
		abort();
	close(fd);
}

static int xen_irq_map(struct vf_xen *x, uint16_t domid, uint32_t sbdf, unsigned entry, uint64_t table, int *pirq)
{
	(void)x, (void)domid, (void)sbdf, (void)entry, (void)table;
	xen->pirqs++;
	*pirq = ++xen->last;
	return 0;
}

static int xen_irq_unmap(struct vf_xen *x, uint16_t domid, int pirq)
{
	(void)x, (void)domid, (void)pirq;
	xen->pirqs--;
	return 0;
}

static const struct vf_xen_ops xen_ops = { .irq_map = xen_irq_map, .irq_unmap = xen_irq_unmap };

/* ---- the server: this program again, which does as it is told ---- */

enum verb { ASSIGN, OPEN, CLOSE, KEEP, REPORT };

struct order {
	enum verb verb;
	unsigned vf;
	uint16_t domid;
	uint32_t gref, port;
	bool adopt;
};

struct answer {
	int rc;
	int64_t ops, throttled;
	char why[VF_WHY_MAX];
};

static struct {
	struct vf_sys sys;
	struct vf_xen xen;
	struct vf_server *server;
	struct vf_served *served[GUESTS];
} its;

static int its_assign(const struct order *o)
{
	struct vf_record r;
	int rc = vf_record_open(&its.sys, bdf_of(o->vf), 0, &r, NULL);

	if (rc < 0)
		return rc;
	r.state = VF_ASSIGNED;
	r.domid = o->domid;
	strcpy(r.owner, "a guest");
	rc = vf_record_save(&its.sys, &r);
	vf_record_close(&r);
	return rc;
}

static int its_open(const struct order *o, struct vf_why *why)
{
	struct pv_connect c = { .id = { .guest = o->domid, .type = PV_NOXS_VF, .devid = o->vf }, .adopt = o->adopt };

	c.choice.queues = 1;
	c.choice.vf[0] = (struct pv_noxs_vf_queue){ .gref = o->gref, .port = o->port };
	return vf_served_open(its.server, &c, bdf_of(o->vf), &its.served[o->vf], why);
}

static int64_t counted(struct json_object *o, const char *key)
{
	return json_object_get_int64(json_object_object_get(o, key));
}

static struct answer its_obey(const struct order *o)
{
	struct answer a = { .rc = 0 };
	struct vf_why why = { "" };
	struct json_object *report;

	switch (o->verb) {
	case ASSIGN:
		a.rc = its_assign(o);
		break;
	case OPEN:
		a.rc = its_open(o, &why);
		break;
	case CLOSE:
	case KEEP:
		vf_served_close(its.server, its.served[o->vf], o->verb == KEEP);
		its.served[o->vf] = NULL;
		break;
	case REPORT:
		report = vf_served_report(its.server, its.served[o->vf]);
		a.ops = counted(report, "ops");
		a.throttled = counted(report, "throttled");
		json_object_put(report);
	}
	snprintf(a.why, sizeof(a.why), "%s", why.text);
	return a;
}

/* argv: --server SPEC ROOT; orders come on descriptor 1000. */
static void __attribute__((constructor)) server_main(int argc, char **argv)
{
	struct order o;

	if (argc != 4 || strcmp(argv[1], "--server"))
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	xen_open(argv[3]);
	its.xen.ops = &xen_ops;
	if (vf_sys_open(&its.sys, argv[3]) < 0 || vf_server_start(argv[2], 0, &its.sys, &its.xen, &its.server, &(struct vf_why){ "" }) < 0)
		_exit(2);
	while (recv(1000, &o, sizeof(o), 0) == sizeof(o)) {
		struct answer a = its_obey(&o);

		if (send(1000, &a, sizeof(a), 0) != sizeof(a))
			_exit(3);
	}
	vf_server_stop(its.server);
	vf_sys_close(&its.sys);
	exit(0); /* with the leak check of a sanitizer */
}

static pid_t server;
static int orders = -1;

static void server_up(void)
{
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	server = fork();
	if (!server) {
		dup2(s[1], 1000);
		close_range(3, 999, 0);
		execl("/proc/self/exe", "pciif", "--server", lb_spec, root, NULL);
		_exit(127);
	}
	close(s[1]);
	orders = s[0];
}

static struct answer tell(struct order o)
{
	struct pollfd p = { .fd = orders, .events = POLLIN };
	struct answer a;

	assert_int_equal(send(orders, &o, sizeof(o), MSG_NOSIGNAL), sizeof(o));
	assert_int_equal(poll(&p, 1, PATIENCE), 1);
	assert_int_equal(recv(orders, &a, sizeof(a), 0), sizeof(a));
	return a;
}

static void server_down(void)
{
	int status;

	close(orders);
	assert_int_equal(waitpid(server, &status, 0), server);
	assert_int_equal(status, 0);
}

/* ---- guests ---- */

static struct guest {
	struct pv_hyper *h;
	uint16_t domid;
	struct xen_pci_sharedinfo *page;
	uint32_t gref;
	int port;
} guest[GUESTS];

static struct pv_hyper *dom0;

static struct order order(enum verb verb, unsigned i)
{
	return (struct order){ .verb = verb, .vf = i, .domid = guest[i].domid, .gref = guest[i].gref, .port = (uint32_t)guest[i].port };
}

static void guest_up(unsigned i)
{
	struct guest *g = &guest[i];
	void *page;

	g->domid = (uint16_t)lb_guest(dom0, 0);
	g->h = lb_open(g->domid);
	assert_int_equal(pv_gnt_share(g->h, 0, 1, true, NULL, &g->gref, &page), 0);
	g->page = page;
	g->port = pv_evt_alloc(g->h, 0);
	assert_true(g->port > 0);
	assert_int_equal(tell(order(ASSIGN, i)).rc, 0);
	assert_int_equal(tell(order(OPEN, i)).rc, 0);
}

static void guest_down(unsigned i)
{
	pv_hyper_close(guest[i].h);
	assert_int_equal(pv_hub_domain_destroy(dom0, guest[i].domid), 0);
	guest[i] = (struct guest){ 0 };
}

static bool is_active(const struct guest *g)
{
	return __atomic_load_n(&g->page->flags, __ATOMIC_ACQUIRE) & XEN_PCIF_active;
}

static void post(struct guest *g)
{
	__atomic_fetch_or(&g->page->flags, XEN_PCIF_active, __ATOMIC_RELEASE);
	assert_int_equal(pv_evt_notify(g->h, (uint32_t)g->port), 0);
}

/* Ask, and wait for the answer as pcifront does. */
static int ask(unsigned i, struct xen_pci_op op)
{
	struct guest *g = &guest[i];
	uint64_t end = now_ms() + PATIENCE;
	uint32_t port;

	g->page->op = op;
	post(g);
	while (is_active(g)) {
		struct pollfd p = { .fd = pv_evt_fd(g->h), .events = POLLIN };

		assert_true(now_ms() < end);
		poll(&p, 1, 10);
		if (pv_evt_pending(g->h, &port, 1) == 1)
			pv_evt_unmask(g->h, &port, 1);
	}
	return g->page->op.err;
}

static int conf(unsigned i, uint32_t cmd, int32_t offset, int32_t size, uint32_t value)
{
	return ask(i, (struct xen_pci_op){ .cmd = cmd, .offset = offset, .size = size, .value = value });
}

static int enable(unsigned i, uint32_t n)
{
	struct xen_pci_op op = { .cmd = XEN_PCI_OP_enable_msix, .value = n };

	for (uint32_t e = 0; e < n; e++)
		op.msix_entries[e].entry = (uint16_t)e;
	return ask(i, op);
}

/* Whatever the other did: this one is served, and nobody's function is other than it may be. */
static void check_bystander(void)
{
	assert_int_equal(conf(BYSTANDER, XEN_PCI_OP_conf_read, 0, 4, 0), XEN_PCI_ERR_success);
	assert_int_equal(guest[BYSTANDER].page->op.value, 0x10ca8086);
	assert_int_equal(conf(BYSTANDER, XEN_PCI_OP_conf_write, PCI_COMMAND, 2, PCI_COMMAND_MASTER), XEN_PCI_ERR_success);
	assert_int_equal(space(BYSTANDER, PCI_COMMAND, 2), PCI_COMMAND_MASTER);
	for (unsigned i = 0; i < GUESTS; i++)
		check_space(i);
}

/* What domain 0 holds, by the hub's count. */
static struct pv_hub_domain held(void)
{
	struct pv_hub_domain d[8];
	int n = pv_hub_domain_list(dom0, d, 8);

	for (int i = 0; i < n; i++)
		if (d[i].domid == 0)
			return d[i];
	fail();
	return d[0];
}

static int up(void **state)
{
	(void)state;
	lb_up(NULL, NULL);
	snprintf(root, sizeof(root), "%s/machine", lb_dir);
	for (unsigned i = 0; i < GUESTS; i++)
		make_function(i);
	xen_open(root);
	dom0 = lb_open(0);
	server_up();
	for (unsigned i = 0; i < GUESTS; i++)
		guest_up(i);
	return 0;
}

static int down(void **state)
{
	(void)state;
	check_bystander();
	for (unsigned i = 0; i < GUESTS; i++) {
		assert_int_equal(tell(order(CLOSE, i)).rc, 0);
		assert_int_equal(space(i, PCI_COMMAND, 2), 0);
		assert_int_equal(space(i, FN_MSIX + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_ENABLE, 0);
	}
	assert_int_equal(xen->pirqs, 0);
	munmap(xen, sizeof(*xen));
	server_down();
	for (unsigned i = 0; i < GUESTS; i++)
		if (guest[i].h)
			guest_down(i);
	pv_hyper_close(dom0);
	assert_int_equal(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
	lb_down();
	return 0;
}

/* ---- what a guest may try ---- */

static void ops_of_every_kind_are_answered(void **state)
{
	static const int32_t sizes[] = { 0, 1, 2, 3, 4, 5, 8, -1, INT32_MIN }, offsets[] = { 0, 1, 2, 4095, 4096, -1, INT32_MAX, INT32_MIN };

	(void)state;
	for (uint32_t cmd = 0; cmd < 13; cmd++)
		for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
			for (unsigned o = 0; o < sizeof(offsets) / sizeof(offsets[0]); o++) {
				int err = conf(HOSTILE, cmd, offsets[o], sizes[s], 0xffffffff);

				assert_true(err <= 0 && err >= XEN_PCI_ERR_op_failed);
			}
	check_bystander();
}

static void whole_space_written_changes_one_bit(void **state)
{
	(void)state;
	for (int32_t at = 0; at < VF_CONF_SPACE; at += 4 + (at >= VF_CONF_SEEN) * 60)
		conf(HOSTILE, XEN_PCI_OP_conf_write, at, 4, 0xffffffff);
	assert_int_equal(space(HOSTILE, PCI_COMMAND, 2), PCI_COMMAND_MASTER);
	check_bystander();
}

static volatile bool scribbling;

/* The whole page, again and again, with ops that are active now and then. */
static void *scribble(void *arg)
{
	struct guest *g = arg;
	uint32_t *words = (uint32_t *)g->page;
	unsigned seed = 1;

	while (scribbling) {
		words[rand_r(&seed) % 1024] = (uint32_t)rand_r(&seed) << 1;
		g->page->op.cmd = (uint32_t)rand_r(&seed) % 6;
		g->page->op.devfn = 0;
		g->page->op.value = (uint32_t)rand_r(&seed) % (2 * SH_INFO_MAX_VEC);
		g->page->op.size = 1 << rand_r(&seed) % 4;
		__atomic_fetch_or(&g->page->flags, XEN_PCIF_active, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void xsa155_page_rewritten_while_it_is_read(void **state)
{
	struct guest *g = &guest[HOSTILE];
	pthread_t thread;

	(void)state;
	scribbling = true;
	assert_int_equal(pthread_create(&thread, NULL, scribble, g), 0);
	for (int i = 0; i < 300; i++) {
		pv_evt_notify(g->h, (uint32_t)g->port);
		if (i % 30 == 0)
			assert_int_equal(conf(BYSTANDER, XEN_PCI_OP_conf_read, 0, 4, 0), XEN_PCI_ERR_success);
		usleep(500);
	}
	scribbling = false;
	pthread_join(thread, NULL);
	check_bystander();
}

/* Without end, with ops and without: others are served meanwhile, and the storm is held back. */
static void xsa331_event_storm(void **state)
{
	struct guest *g = &guest[HOSTILE];
	uint64_t end = now_ms() + PATIENCE;
	unsigned n = 0;

	(void)state;
	do {
		for (int i = 0; i < 2000; i++) {
			__atomic_fetch_or(&g->page->flags, n & 1, __ATOMIC_RELEASE);
			pv_evt_notify(g->h, (uint32_t)g->port);
		}
		n++;
		assert_int_equal(conf(BYSTANDER, XEN_PCI_OP_conf_read, 0, 4, 0), XEN_PCI_ERR_success);
		assert_true(now_ms() < end);
	} while (n < 10 || !tell(order(REPORT, HOSTILE)).throttled);
	check_bystander();
}

static void interrupts_go_with_their_guest(void **state)
{
	(void)state;
	assert_int_equal(enable(HOSTILE, 3), XEN_PCI_ERR_success);
	assert_int_equal(enable(BYSTANDER, 2), XEN_PCI_ERR_success);
	assert_int_equal(conf(HOSTILE, XEN_PCI_OP_conf_write, PCI_COMMAND, 2, PCI_COMMAND_MASTER), XEN_PCI_ERR_success);
	assert_int_equal(xen->pirqs, 5);
	guest_down(HOSTILE); /* without a word */
	assert_int_equal(tell(order(CLOSE, HOSTILE)).rc, 0);
	assert_int_equal(xen->pirqs, 2);
	assert_int_equal(space(HOSTILE, PCI_COMMAND, 2), 0);
	assert_int_equal(space(HOSTILE, FN_MSIX + PCI_MSIX_FLAGS, 2), FN_VECTORS - 1);
	check_bystander();
}

static void choices_that_are_none_are_refused_and_leave_nothing(void **state)
{
	struct order good = order(OPEN, HOSTILE), bad[3];
	struct pv_hub_domain before;

	(void)state;
	tell(order(CLOSE, HOSTILE));
	before = held();
	for (int i = 0; i < 3; i++)
		bad[i] = good;
	bad[0].gref = 0x7fffff;
	bad[1].port = 0x7fff;
	bad[2].port = UINT32_MAX;
	for (int i = 0; i < 3; i++) {
		struct answer a = tell(bad[i]);

		assert_true(a.rc < 0);
		assert_non_null(strstr(a.why, "page or port"));
		assert_int_equal(held().ports, before.ports);
		assert_int_equal(held().maps, before.maps);
	}
	assert_int_equal(tell(good).rc, 0);
	check_bystander();
}

static void comes_and_goes_again_and_again(void **state)
{
	struct pv_hub_domain before = held();

	(void)state;
	for (int i = 0; i < 20; i++) {
		guest[HOSTILE].page->op = (struct xen_pci_op){ .cmd = (uint32_t)i % 6, .size = 4, .value = 1 };
		post(&guest[HOSTILE]);
		assert_int_equal(tell(order(CLOSE, HOSTILE)).rc, 0);
		assert_int_equal(tell(order(OPEN, HOSTILE)).rc, 0);
	}
	assert_int_equal(held().ports, before.ports);
	assert_int_equal(held().maps, before.maps);
	check_bystander();
}

/* Killed while it is asked all the time; the next one goes on, with the same interrupts. */
static void server_killed_goes_on_in_the_next(void **state)
{
	uint16_t vector;
	struct order again;

	(void)state;
	assert_int_equal(enable(BYSTANDER, 2), XEN_PCI_ERR_success);
	vector = guest[BYSTANDER].page->op.msix_entries[1].vector;
	for (int round = 0; round < 3; round++) {
		post(&guest[HOSTILE]);
		kill(server, SIGKILL);
		assert_int_equal(waitpid(server, NULL, 0), server);
		close(orders);
		server_up();
		for (unsigned i = 0; i < GUESTS; i++) {
			again = order(OPEN, i);
			again.adopt = true;
			assert_int_equal(tell(again).rc, 0);
		}
		assert_int_equal(enable(BYSTANDER, 2), XEN_PCI_ERR_success); /* are on: no more are made */
		assert_int_equal(xen->pirqs, 2);
		assert_int_equal(guest[BYSTANDER].page->op.msix_entries[1].vector, vector);
		check_bystander();
	}
	assert_int_equal(ask(BYSTANDER, (struct xen_pci_op){ .cmd = XEN_PCI_OP_disable_msix }), XEN_PCI_ERR_success);
	assert_int_equal(xen->pirqs, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ops_of_every_kind_are_answered, up, down),
		cmocka_unit_test_setup_teardown(whole_space_written_changes_one_bit, up, down),
		cmocka_unit_test_setup_teardown(xsa155_page_rewritten_while_it_is_read, up, down),
		cmocka_unit_test_setup_teardown(xsa331_event_storm, up, down),
		cmocka_unit_test_setup_teardown(interrupts_go_with_their_guest, up, down),
		cmocka_unit_test_setup_teardown(choices_that_are_none_are_refused_and_leave_nothing, up, down),
		cmocka_unit_test_setup_teardown(comes_and_goes_again_and_again, up, down),
		cmocka_unit_test_setup_teardown(server_killed_goes_on_in_the_next, up, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
