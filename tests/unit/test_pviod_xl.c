/* test_pviod_xl.c - pviod beside a real xenstored: the test is libxl, Linux' driver in domain 0 and the guest, as xl 4.17 and Linux 6.1 do it. */
#include "tests/unit/pviod_rig.h"
#include "tests/unit/xenstored.h"
#include <sys/stat.h>
#include <xenstore.h>

enum { GUEST = 5, XVDA = 51712 };

#define FRONT "/local/domain/5/device/vbd/51712"
#define BACK "/local/domain/0/backend/vbd/5/51712"

static struct xs_handle *xs;
static struct pv_hyper *guest; /* as the guest */
static char sysfs[64];

/* ---- XenStore by hand ---- */

static void put(const char *dir, const char *key, const char *value)
{
	char path[160];

	snprintf(path, sizeof(path), "%s%s%s", dir, *key ? "/" : "", key);
	assert_true(xs_write(xs, XBT_NULL, path, value, strlen(value)));
}

static const char *got(const char *dir, const char *key)
{
	static char value[200];
	char path[160], *v;

	snprintf(path, sizeof(path), "%s%s%s", dir, *key ? "/" : "", key);
	v = xs_read(xs, XBT_NULL, path, NULL);
	snprintf(value, sizeof(value), "%s", v ? v : "(none)");
	free(v);
	return value;
}

static bool says(const char *dir, const char *key, const char *value)
{
	return strcmp(got(dir, key), value) == 0;
}

static bool empty(const char *dir)
{
	unsigned n = 0;
	char **names = xs_directory(xs, XBT_NULL, dir, &n);

	free(names);
	return n == 0;
}

/* ---- libxl ---- */

struct pair {
	const char *key, *value;
};

/* The two directories of a disk, in one transaction. */
static void xl_disk_in(unsigned backend, const char *script)
{
	char back[64], front[] = FRONT;
	const struct pair b[] = { { "frontend", FRONT }, { "params", "/srv/web.img" }, { "script", script }, { "frontend-id", "5" }, { "online", "1" },
				  { "removable", "0" }, { "bootable", "1" }, { "state", "1" }, { "dev", "xvda" }, { "type", "phy" }, { "mode", "w" },
				  { "device-type", "disk" }, { "discard-enable", "1" }, { "specification", "xen" } };
	xs_transaction_t t = xs_transaction_start(xs);
	char path[160], id[8];

	snprintf(back, sizeof(back), "/local/domain/%u/backend/vbd/5/51712", backend);
	snprintf(id, sizeof(id), "%u", backend);
	for (size_t i = 0; i < sizeof(b) / sizeof(b[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", back, b[i].key);
		assert_true(xs_write(xs, t, path, b[i].value, strlen(b[i].value)));
	}
	const struct pair f[] = { { "backend", back }, { "backend-id", id }, { "state", "1" }, { "virtual-device", "51712" }, { "device-type", "disk" } };
	for (size_t i = 0; i < sizeof(f) / sizeof(f[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", front, f[i].key);
		assert_true(xs_write(xs, t, path, f[i].value, strlen(f[i].value)));
	}
	assert_true(xs_transaction_end(xs, t, false));
}

static void xl_disk(void)
{
	xl_disk_in(0, "/etc/xen/scripts/block-pvio");
}

/* online 0 and state 5, together; with force the frontend's directory goes as well. */
static void xl_remove(const char *back, bool force)
{
	xs_transaction_t t = xs_transaction_start(xs);
	char path[160];

	if (force)
		assert_true(xs_rm(xs, t, FRONT));
	snprintf(path, sizeof(path), "%s/online", back);
	assert_true(xs_write(xs, t, path, "0", 1));
	snprintf(path, sizeof(path), "%s/state", back);
	assert_true(xs_write(xs, t, path, "5", 1));
	assert_true(xs_transaction_end(xs, t, false));
}

static void xl_domain_gone(void)
{
	xs_rm(xs, XBT_NULL, "/local/domain/5");
	xs_rm(xs, XBT_NULL, "/local/domain/0/backend/vbd/5");
	assert_true(xs_release_domain(xs, GUEST));
}

/* ---- Linux in domain 0: its driver is loaded, and holds the device ---- */

static void sys_path(char path[160], const char *what)
{
	snprintf(path, 160, "%s/%s", sysfs, what);
}

static void linux_loads(void)
{
	static const char *const dirs[] = { "bus", "bus/xen-backend", "bus/xen-backend/drivers", "bus/xen-backend/drivers/vbd", "bus/xen-backend/devices",
					    "bus/xen-backend/devices/vbd-5-51712" };
	char path[160];

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		sys_path(path, dirs[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
}

static void linux_takes(void)
{
	char path[160];

	sys_path(path, "bus/xen-backend/devices/vbd-5-51712/driver");
	assert_int_equal(mkdir(path, 0700), 0);
	put(BACK, "feature-max-indirect-segments", "999");
	put(BACK, "multi-queue-max-queues", "99");
	put(BACK, "feature-of-linux", "1");
	put(BACK, "state", "2");
}

static void linux_unbound(void)
{
	char path[160];

	sys_path(path, "bus/xen-backend/devices/vbd-5-51712/driver");
	assert_int_equal(rmdir(path), 0);
}

/* ---- the guest's blkfront ---- */

struct front {
	void *ring;
	int port;
};

static void front_choose(struct front *f, uint16_t backend)
{
	uint32_t gref;
	char text[16];

	assert_int_equal(pv_gnt_share(guest, backend, 1, true, NULL, &gref, &f->ring), 0);
	f->port = pv_evt_alloc(guest, backend);
	assert_true(f->port > 0);
	snprintf(text, sizeof(text), "%u", gref);
	put(FRONT, "ring-ref", text);
	snprintf(text, sizeof(text), "%d", f->port);
	put(FRONT, "event-channel", text);
	put(FRONT, "protocol", "x86_64-abi");
	put(FRONT, "state", "3");
}

static void front_connect(struct front *f)
{
	WAIT(says(BACK, "state", "2"));
	front_choose(f, 0);
	WAIT(says(BACK, "state", "4"));
	put(FRONT, "state", "4");
}

static void front_leave(struct front *f)
{
	if (f->ring)
		assert_int_equal(pv_gnt_unshare(guest, f->ring, 1), 0);
	if (f->port > 0)
		assert_int_equal(pv_evt_unbind(guest, f->port), 0);
	*f = (struct front){ 0 };
}

/* ---- up and down ---- */

static int setup(void **state)
{
	uint32_t port;

	xsd_up();
	xs = xs_open(0);
	assert_non_null(xs);
	strcpy(sysfs, "/tmp/pvio-sys-XXXXXX");
	assert_non_null(mkdtemp(sysfs));
	rig_options.sysfs = sysfs;
	rig_up_bare(state);
	be_start(&rig->be[0], "vbd", "blkback");
	assert_int_equal(pv_hub_domain_create(rig->dom0, GUEST, &port), GUEST);
	assert_true(xs_introduce_domain(xs, GUEST, 0, 1));
	put("/local/domain/5", "name", "web");
	guest = lb_open(GUEST);
	rig->domid = GUEST;
	return 0;
}

static int teardown(void **state)
{
	char cmd[96];

	pv_hyper_close(guest);
	assert_int_equal(pv_hub_domain_destroy(rig->dom0, GUEST), 0);
	rig_down(state);
	xs_close(xs);
	xsd_down();
	snprintf(cmd, sizeof(cmd), "rm -rf %s", sysfs);
	assert_int_equal(system(cmd), 0);
	return 0;
}

static bool has_guest(const char *name)
{
	struct json_object *o = get("guest.list", "{}"), *a;
	bool yes = false;

	json_object_object_get_ex(o, "guests", &a);
	for (size_t i = 0; i < json_object_array_length(a); i++)
		yes |= strcmp(text_in(json_object_array_get_idx(a, i), "name"), name) == 0;
	json_object_put(o);
	return yes;
}

/* ---- devices that xl makes ---- */

/* No driver of Linux': the offer is the InitWait that libxl waits for; then its script finds the device claimed. */
static void disk_is_served_without_linux(void **state)
{
	struct front f;
	struct json_object *dev;

	(void)state;
	xl_disk();
	front_connect(&f);
	good("claim", "{\"path\":\"backend/vbd/5/51712\"}");
	assert_true(has_guest("web"));
	dev = listed(0);
	assert_string_equal(text_in(dev, "guest"), "web");
	assert_string_equal(text_in(dev, "name"), "xvda");
	assert_string_equal(text_in(dev, "toolstack"), "other");
	assert_non_null(strstr(json_object_to_json_string(dev), "\\/srv\\/web.img"));
	json_object_put(dev);
	xl_remove(BACK, false); /* block-detach: the frontend is asked */
	WAIT(is(0, "Closing"));
	assert_string_equal(got(BACK, "state"), "5");
	put(FRONT, "state", "5");
	WAIT(rig->be[0].calls[BE_DISCONNECT] > 0);
	put(FRONT, "state", "6");
	WAIT(says(BACK, "state", "6"));
	WAIT(is(0, ""));
	assert_string_equal(got(BACK, "online"), "0"); /* the nodes are libxl's to remove */
	assert_string_equal(got(FRONT, "backend"), BACK);
	front_leave(&f);
}

/* With Linux' driver it is claimed only when the script asks, once the driver has let go. */
static void disk_is_served_after_linux(void **state)
{
	struct front f;

	(void)state;
	linux_loads();
	xl_disk();
	linux_takes();
	assert_int_equal(refused("claim", "{\"path\":\"backend/vbd/5/51712\"}"), -EBUSY);
	assert_non_null(strstr(refused_why, "unbind vbd-5-51712"));
	linux_unbound();
	for (int i = 0; i < 20; i++)
		rig_turn();
	assert_true(is(0, ""));
	good("claim", "{\"path\":\"backend/vbd/5/51712\"}");
	assert_string_equal(got(BACK, "feature-of-linux"), "(none)");
	assert_string_equal(got(BACK, "multi-queue-max-queues"), "2");
	front_connect(&f);
	good("claim", "{\"path\":\"backend/vbd/5/51712\"}");
	xl_remove(BACK, true);
	WAIT(says(BACK, "state", "6"));
	WAIT(is(0, ""));
	front_leave(&f);
}

/* Its driver is loaded when we have claimed the device: the script unbinds it, and what it wrote is ours again. */
static void disk_is_served_in_spite_of_a_late_linux(void **state)
{
	struct front f;

	(void)state;
	xl_disk();
	WAIT(says(BACK, "state", "2"));
	linux_loads();
	linux_takes();
	linux_unbound();
	good("claim", "{\"path\":\"backend/vbd/5/51712\"}");
	assert_string_equal(got(BACK, "multi-queue-max-queues"), "2");
	assert_string_equal(got(BACK, "feature-max-indirect-segments"), "256");
	front_connect(&f);
	xl_remove(BACK, true);
	WAIT(says(BACK, "state", "6"));
	front_leave(&f);
}

/* A running guest has chosen by what Linux offered, before we come. */
static void disk_of_a_running_guest_has_chosen_already(void **state)
{
	struct front f;

	(void)state;
	linux_loads();
	xl_disk();
	linux_takes();
	front_choose(&f, 0);
	linux_unbound();
	good("claim", "{\"path\":\"backend/vbd/5/51712\"}");
	WAIT(says(BACK, "state", "4"));
	xl_remove(BACK, true);
	WAIT(says(BACK, "state", "6"));
	front_leave(&f);
}

/* In a driver domain no script runs, and what is removed is for the backend's side to clear away. */
static void disk_of_a_driver_domain(void **state)
{
	const char *back = "/local/domain/7/backend/vbd/5/51712";
	struct front f;
	uint32_t port;

	(void)state;
	linux_loads(); /* in domain 0, where it does not matter */
	assert_int_equal(pv_hub_domain_create(rig->dom0, 7, &port), 7);
	xl_disk_in(7, "/etc/xen/scripts/block-pvio");
	for (int i = 0; i < 20; i++)
		rig_turn();
	assert_string_equal(got(back, "state"), "1");
	rig->be[1].domid = 7;
	be_start(&rig->be[1], "vbd", "storage");
	WAIT(says(back, "state", "2"));
	front_choose(&f, 7);
	WAIT(says(back, "state", "4"));
	assert_int_equal(rig->be[0].calls[BE_CONNECT], 0);
	xl_remove(back, true);
	WAIT(empty("/local/domain/7/backend/vbd"));
	WAIT(is(0, ""));
	front_leave(&f);
	be_kill(&rig->be[1]);
	assert_int_equal(pv_hub_domain_destroy(rig->dom0, 7), 0);
}

/* A driver domain writes its own directories: it cannot make itself the backend of a device that is not given to it. */
static void driver_domain_takes_no_device_that_is_not_its_own(void **state)
{
	const char *back = "/local/domain/7/backend/vbd/5/51712";
	uint32_t port;

	(void)state;
	assert_int_equal(pv_hub_domain_create(rig->dom0, 7, &port), 7);
	rig->be[1].domid = 7;
	be_start(&rig->be[1], "vbd", "storage");
	xl_disk_in(7, "/etc/xen/scripts/block");
	put(FRONT, "backend", BACK); /* it is domain 0's */
	put(back, "script", "block-pvio");
	put(back, "online", "1");
	WAIT(says(back, "hotplug-error", "the guest has no such device of domain 7"));
	assert_int_equal(rig->be[1].calls[BE_PREPARE], 0);
	assert_false(has_guest("web"));
	xl_disk(); /* domain 0 serves it */
	WAIT(says(BACK, "state", "2"));
	put(back, "online", "0"); /* nor can it take it away */
	put(back, "hotplug-error", "");
	put(back, "online", "1");
	WAIT(says(back, "hotplug-error", "the guest has no such device of domain 7"));
	assert_true(is(0, "InitWait"));
	xl_remove(BACK, true);
	WAIT(says(BACK, "state", "6"));
	be_kill(&rig->be[1]);
	assert_int_equal(pv_hub_domain_destroy(rig->dom0, 7), 0);
}

/* It writes there as fast as it can: each write makes us read several nodes. A child process, until it is killed. */
static pid_t storm_of_nodes(const char *node, const char *value)
{
	pid_t pid = fork();
	struct xs_handle *own;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	own = xs_open(0);
	while (own && xs_write(own, XBT_NULL, node, value, strlen(value)))
		;
	_exit(0);
}

static void driver_domain_that_storms_is_looked_at_later(void **state)
{
	static const char *const nodes[] = { "/local/domain/7/backend/vbd/5/51712/online", "/local/domain/7/backend/vbd" };
	struct json_object *o;
	uint32_t port;
	char back[64];

	(void)state;
	assert_int_equal(pv_hub_domain_create(rig->dom0, 7, &port), 7);
	rig->be[1].domid = 7;
	be_start(&rig->be[1], "vbd", "storage");
	for (int i = 0; i < 50; i++) { /* what it has prepared for us to look at */
		snprintf(back, sizeof(back), "/local/domain/7/backend/vbd/%d/51712", 100 + i);
		put(back, "script", "block-pvio");
		put(back, "state", "1");
		put(back, "online", "1");
	}
	xl_disk_in(7, "/etc/xen/scripts/block-pvio");
	WAIT(says("/local/domain/7/backend/vbd/5/51712", "state", "2"));
	for (int n = 0; n < 2; n++) {
		pid_t storm = storm_of_nodes(nodes[n], "1");

		assert_true(storm > 0);
		usleep(300000);
		for (int i = 0; i < 10; i++) {
			o = get("version", "{}"); /* everybody else is served */
			json_object_put(o);
		}
		kill(storm, SIGKILL);
		assert_int_equal(waitpid(storm, NULL, 0), storm);
	}
	xl_remove("/local/domain/7/backend/vbd/5/51712", true); /* and what it did at last is found */
	WAIT(empty("/local/domain/7/backend/vbd/5"));
	be_kill(&rig->be[1]);
	assert_int_equal(pv_hub_domain_destroy(rig->dom0, 7), 0);
}

static void disk_of_another_script_is_left_alone(void **state)
{
	(void)state;
	xl_disk_in(0, "/etc/xen/scripts/block");
	assert_int_equal(refused("claim", "{\"path\":\"backend/vbd/5/51712\"}"), -ENOENT);
	assert_string_equal(got(BACK, "state"), "1");
	xl_remove(BACK, false);
	for (int i = 0; i < 20; i++)
		rig_turn();
	assert_string_equal(got(BACK, "state"), "5");
	assert_false(has_guest("web"));
}

/* What cannot be served: libxl goes on to the script, which says why, and the device can be removed. */
static void disk_that_is_refused_can_be_removed(void **state)
{
	(void)state;
	rig->be[0].fail[BE_PREPARE] = -ENOENT;
	xl_disk();
	WAIT(says(BACK, "state", "2"));
	assert_non_null(strstr(got(BACK, "hotplug-error"), "refuses to prepare"));
	assert_int_equal(refused("claim", "{\"path\":\"backend/vbd/5/51712\"}"), -ENOENT);
	WAIT(is(0, ""));
	xl_remove(BACK, false);
	WAIT(says(BACK, "state", "6"));
}

static void disk_without_a_backend_waits_for_it(void **state)
{
	(void)state;
	be_kill(&rig->be[0]);
	xl_disk();
	while (refused("claim", "{\"path\":\"backend/vbd/5/51712\"}") != -ENODEV)
		; /* pviod has not noticed that it is gone */
	assert_non_null(strstr(refused_why, "pvio-blkback"));
	assert_string_equal(got(BACK, "state"), "1");
	be_restart(&rig->be[0], "vbd", "blkback");
	WAIT(says(BACK, "state", "2"));
	xl_remove(BACK, true);
	WAIT(says(BACK, "state", "6"));
}

/* Destroyed while connected: xl takes the frontend away, then the domain ends. */
static void guest_that_is_destroyed_leaves_nothing(void **state)
{
	struct front f;

	(void)state;
	xl_disk();
	front_connect(&f);
	xl_remove(BACK, true);
	WAIT(says(BACK, "state", "6"));
	front_leave(&f);
	xl_domain_gone();
	WAIT(!has_guest("web"));
	assert_true(empty("/local/domain/0/backend/vbd"));
}

/* Its domain ends without a word about its devices. */
static void guest_that_vanishes_is_noticed(void **state)
{
	struct front f;

	(void)state;
	xl_disk();
	front_connect(&f);
	xl_domain_gone();
	WAIT(!has_guest("web"));
	assert_true(is(0, ""));
	assert_true(empty("/local/domain/0/backend/vbd")); /* we have not made it anew */
	front_leave(&f);
}

static void nodes_that_vanish_end_the_device(void **state)
{
	struct front f;

	(void)state;
	xl_disk();
	front_connect(&f);
	assert_true(xs_rm(xs, XBT_NULL, BACK));
	WAIT(is(0, ""));
	assert_string_equal(got(BACK, "state"), "(none)");
	front_leave(&f);
}

/* ---- devices that pvio gives to a guest of xl ---- */

static void attach_adopts_a_guest_by_name(void **state)
{
	struct front f;
	unsigned n;
	struct xs_permissions *p;

	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vbd\",\"name\":\"xvda\",\"config\":{\"path\":\"/x\"}}");
	assert_string_equal(got(FRONT, "backend"), BACK);
	assert_string_equal(got(BACK, "online"), "1");
	p = xs_get_permissions(xs, XBT_NULL, FRONT, &n);
	assert_int_equal(p[0].id, GUEST);
	free(p);
	front_connect(&f);
	assert_int_equal(refused("guest.destroy", "{\"guest\":\"web\"}"), -EPERM);
	assert_non_null(strstr(refused_why, "xl destroy 5"));
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(refused(i == 0 ? "guest.start" : i == 1 ? "guest.pause" : "guest.shutdown", "{\"guest\":\"web\"}"), -EPERM);
	assert_non_null(strstr(refused_why, "guest web is another toolstack's"));
	good("detach", "{\"guest\":\"web\",\"device\":\"xvda\",\"force\":true}");
	assert_true(empty("/local/domain/0/backend"));
	assert_true(empty("/local/domain/5/device/vbd"));
	front_leave(&f);
	xl_domain_gone();
	WAIT(!has_guest("web"));
}

/* By noxs, which user space finds by the pointer in a node that it may read. */
static void attach_by_noxs_is_found_by_the_node(void **state)
{
	struct pv_noxs_pointer node, page;
	struct pv_noxs_device_page copy;
	unsigned n;
	struct xs_permissions *p;
	const char *text;
	void *addr;

	(void)state;
	good("attach", "{\"guest\":\"5\",\"type\":\"vbd\",\"name\":\"xvda\",\"dialect\":\"noxs\",\"config\":{\"path\":\"/x\"}}");
	text = got("/local/domain/5", PV_NOXS_POINTER_NODE);
	assert_int_equal(pv_noxs_pointer_parse(text, strlen(text), &node), 0);
	assert_int_equal(pv_hyper_pointer(guest, &page), 0);
	assert_memory_equal(&node, &page, sizeof(node));
	p = xs_get_permissions(xs, XBT_NULL, "/local/domain/5/" PV_NOXS_POINTER_NODE, &n);
	assert_int_equal(n, 2);
	assert_int_equal(p[0].id, 0);
	assert_int_equal(p[1].id, GUEST);
	assert_int_equal(p[1].perms, XS_PERM_READ);
	free(p);
	assert_int_equal(pv_gnt_map(guest, 0, &node.gref, 1, false, NULL, &addr), 0);
	assert_int_equal(pv_noxs_device_read(addr, &copy), 0);
	assert_true(pv_noxs_device_find(&copy, PV_NOXS_VBD, XVDA) >= 0);
	pv_gnt_unmap(guest, addr, 1);
	assert_true(empty("/local/domain/0/backend"));
	good("detach", "{\"guest\":\"web\",\"device\":\"xvda\"}");
}

/* By xl: there is nothing in XenStore of ours, and it is connected as soon as its backend says so. */
static void attach_of_a_vf_shows_nothing(void **state)
{
	struct be *b = &rig->be[1];

	(void)state;
	be_start(b, "vf", "pciback");
	b->offer = json_object_new_object();
	json_object_object_add(b->offer, "functions", json_object_new_int(1));
	assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vf\",\"dialect\":\"noxs\"}"), -ENOTSUP);
	good("attach", "{\"guest\":\"web\",\"type\":\"vf\",\"config\":{\"pool\":\"fast\"},\"wait_ms\":5000}");
	assert_non_null(strstr(b->config, "\"toolstack\":\"xl\""));
	assert_non_null(strstr(b->config, "\"guest\":\"web\""));
	assert_int_equal(b->calls[BE_CONNECT], 1);
	assert_true(empty("/local/domain/0/backend"));
	assert_true(empty("/local/domain/5/device/pci"));
	good("detach", "{\"guest\":\"web\",\"device\":\"vf0\"}");
	assert_int_equal(b->calls[BE_REMOVE], 1);
	good("attach", "{\"guest\":\"web\",\"type\":\"vf\",\"wait_ms\":5000}");
	xl_domain_gone();
	WAIT(b->calls[BE_REMOVE] == 2);
	WAIT(!has_guest("web"));
}

static void attach_does_not_take_a_device_of_xl(void **state)
{
	(void)state;
	xl_disk_in(0, "/etc/xen/scripts/block");
	assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vbd\",\"name\":\"xvda\",\"config\":{\"path\":\"/x\"}}"), -EEXIST);
	assert_non_null(strstr(refused_why, "another toolstack"));
	assert_string_equal(got(BACK, "script"), "/etc/xen/scripts/block");
	assert_string_equal(got(FRONT, "backend"), BACK);
}

static void detach_does_not_take_a_device_from_xl(void **state)
{
	(void)state;
	xl_disk();
	WAIT(says(BACK, "state", "2"));
	assert_int_equal(refused("detach", "{\"guest\":\"web\",\"device\":\"xvda\"}"), -EPERM);
	assert_non_null(strstr(refused_why, "xl block-detach"));
	xl_remove(BACK, true);
	WAIT(says(BACK, "state", "6"));
}

static void attach_to_nobody(void **state)
{
	(void)state;
	assert_int_equal(refused("attach", "{\"guest\":\"nobody\",\"type\":\"vbd\",\"config\":{\"path\":\"/x\"}}"), -ENOENT);
	assert_int_equal(refused("attach", "{\"guest\":\"77\",\"type\":\"vbd\",\"config\":{\"path\":\"/x\"}}"), -ENOENT);
	assert_int_equal(refused("attach", "{\"guest\":\"0\",\"type\":\"vbd\",\"config\":{\"path\":\"/x\"}}"), -ENOENT);
}

/* A name that is none here, or is taken: the guest is called by its domid. */
static void guest_with_a_strange_name(void **state)
{
	(void)state;
	put("/local/domain/5", "name", "my guest");
	good("attach", "{\"guest\":\"my guest\",\"type\":\"vbd\",\"dialect\":\"noxs\",\"config\":{\"path\":\"/x\"}}");
	assert_true(has_guest("dom5"));
	good("detach", "{\"guest\":\"dom5\",\"device\":\"xvda\",\"force\":true}");
}

/* xenstored is killed: pviod goes on, and so does what is connected. */
static void xenstored_that_dies_does_no_harm(void **state)
{
	struct front f;

	(void)state;
	xl_disk();
	front_connect(&f);
	WAIT(is(0, "Connected"));
	xsd_kill();
	for (int i = 0; i < 50; i++)
		rig_turn();
	assert_true(is(0, "Connected"));
	assert_int_equal(rig->be[0].calls[BE_DISCONNECT], 0);
	assert_true(has_guest("web"));
	assert_int_not_equal(refused("claim", "{\"path\":\"backend/vbd/5/51728\"}"), 0);
	good("detach", "{\"guest\":\"web\",\"device\":\"xvda\",\"force\":true}");
	front_leave(&f);
}

static int group_setup(void **state)
{
	return rig_hub_up(state);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(disk_is_served_without_linux),
		T(disk_is_served_after_linux),
		T(disk_is_served_in_spite_of_a_late_linux),
		T(disk_of_a_running_guest_has_chosen_already),
		T(disk_of_a_driver_domain),
		T(driver_domain_takes_no_device_that_is_not_its_own),
		T(driver_domain_that_storms_is_looked_at_later),
		T(disk_of_another_script_is_left_alone),
		T(disk_that_is_refused_can_be_removed),
		T(disk_without_a_backend_waits_for_it),
		T(guest_that_is_destroyed_leaves_nothing),
		T(guest_that_vanishes_is_noticed),
		T(nodes_that_vanish_end_the_device),
		T(attach_adopts_a_guest_by_name),
		T(attach_by_noxs_is_found_by_the_node),
		T(attach_of_a_vf_shows_nothing),
		T(attach_does_not_take_a_device_of_xl),
		T(detach_does_not_take_a_device_from_xl),
		T(attach_to_nobody),
		T(guest_with_a_strange_name),
		T(xenstored_that_dies_does_no_harm),
	};

	xsd_need();
	return cmocka_run_group_tests(tests, group_setup, rig_hub_down);
}
