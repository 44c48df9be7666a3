/* test_sriov_claim.c - claim, bind and release of virtual functions, on a machine of files: never twice, put back whole, over any kill. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/utsname.h>
#include "vf_alloc.h"

static struct vf_tree t;

static int up(void **state)
{
	(void)state;
	alloc_up(&t, false, false);
	return 0;
}

static int up_autoprobe(void **state)
{
	(void)state;
	alloc_up(&t, true, false);
	return 0;
}

static int up_one_group(void **state)
{
	(void)state;
	alloc_up(&t, false, true);
	return 0;
}

static int down(void **state)
{
	(void)state;
	vf_tree_down(&t);
	return 0;
}

static struct vf_bdf claim(const char *owner, const char *driver)
{
	struct vf_want w = want_of(owner, driver);
	struct vf_record r;
	struct vf_why why;
	int rc = vf_claim(&t.sys, &w, &r, &why);

	if (rc < 0)
		fail_msg("%s", why.text);
	assert_int_equal(r.state, VF_CLAIMED);
	vf_record_close(&r);
	return r.vf;
}

static int release(struct vf_bdf vf, struct vf_why *why)
{
	struct vf_record r;
	int rc = vf_record_open(&t.sys, vf, 10000, &r, why);

	rc = rc < 0 ? rc : vf_release(&t.sys, &r, NULL, why);
	vf_record_close(&r);
	return rc;
}

static bool has_driver(struct vf_bdf vf, const char *want)
{
	char driver[VF_NAME_MAX];

	return vf_driver(&t.sys, vf, driver) == 0 && strcmp(driver, want) == 0;
}

static void recover(void)
{
	struct vf_why why;

	if (vf_recover(&t.sys, vf_release_undo, NULL, &why) < 0)
		fail_msg("%s", why.text);
}

/* ---- claim ---- */

static void claim_configures_and_binds(void **state)
{
	struct vf_want w = want_of("web", "vfio-pci");
	struct vf_record r;

	(void)state;
	set(&w.settings, VF_MAC, "02:00:00:00:00:07");
	set(&w.settings, VF_VLAN, "100");
	assert_int_equal(vf_claim(&t.sys, &w, &r, NULL), 0);
	assert_true(has_driver(r.vf, "vfio-pci"));
	assert_int_equal(t.k->is[0][r.index].vlan, 100);
	assert_int_equal(t.k->is[0][r.index].mac[5], 7);
	assert_string_equal(r.owner, "web");
	assert_int_equal(t.k->resets, 0); /* it was clean */
	assert_true(t.sys.changes <= 6); /* two records, override, bind, MAC, VLAN */
	vf_record_close(&r);
	assert_int_equal(vf_record_read(&t.sys, r.vf, &r), 0);
	assert_int_equal(r.state, VF_CLAIMED);
	vf_record_close(&r);
}

static void claim_gives_each_once(void **state)
{
	struct vf_want w = want_of("late", "vfio-pci");
	struct vf_bdf got[VFS];
	struct vf_record r;
	struct vf_why why;

	(void)state;
	for (int i = 0; i < VFS; i++) {
		got[i] = claim("web", "vfio-pci");
		for (int k = 0; k < i; k++)
			assert_false(vf_bdf_equal(got[i], got[k]));
	}
	assert_int_equal(vf_claim(&t.sys, &w, &r, &why), -ENOSPC);
	assert_non_null(strstr(why.text, "7 in use"));
	w.vf = got[3];
	assert_int_equal(vf_claim(&t.sys, &w, &r, &why), -EBUSY);
	assert_non_null(strstr(why.text, "web"));
}

static void claim_chooses_what_is_wanted(void **state)
{
	struct vf_want w = want_of("web", "");
	struct vf_record r;

	(void)state;
	w.numa = 1;
	assert_int_equal(vf_claim(&t.sys, &w, &r, NULL), -ENOENT);
	vf_tree_pf(&t, (struct vf_tree_pf){ .bdf = "0000:02:00.0", .netdev = "eth2", .total = 2, .group = 40, .numa = 1 });
	assert_int_equal(vf_pci_write(&t.sys, (struct vf_bdf){ 0, 2, 0, 0 }, "sriov_numvfs", "2"), 0);
	vf_tree_put(&t, "0x1002\n", "/sys/class/net/eth2/flags");
	assert_int_equal(vf_claim(&t.sys, &w, &r, NULL), 0);
	assert_int_equal(r.vf.bus, 2);
	vf_record_close(&r);
	w.numa = -1;
	w.vf = vf_tree_vf(the_pf, 5);
	assert_int_equal(vf_claim(&t.sys, &w, &r, NULL), 0);
	assert_int_equal(r.index, 5);
	vf_record_close(&r);
	w.vf = (struct vf_bdf){ 0 };
	w.pf = (struct vf_bdf){ 0, 2, 0, 0 };
	assert_int_equal(vf_claim(&t.sys, &w, &r, NULL), 0);
	assert_int_equal(r.vf.bus, 2);
	vf_record_close(&r);
}

static void claim_leaves_what_others_bound(void **state)
{
	struct vf_want w = want_of("web", "vfio-pci");
	struct vf_record r;
	struct vf_why why;

	(void)state;
	for (int i = 0; i < VFS; i++)
		vf_tree_bind(&t, vf_text(vf_tree_vf(the_pf, i)).s, "pciback");
	assert_int_equal(vf_claim(&t.sys, &w, &r, &why), -ENOSPC);
	assert_true(has_driver(vf_tree_vf(the_pf, 0), "pciback"));
	assert_int_equal(t.sys.changes, 0);
}

static void claim_resets_what_had_a_driver(void **state)
{
	struct picture before = picture_of(&t, 0);
	struct vf_bdf vf;

	(void)state;
	vf = claim("web", "vfio-pci");
	assert_true(has_driver(vf, "vfio-pci"));
	assert_int_equal(t.k->resets, 1);
	assert_int_equal(release(vf, NULL), 0);
	assert_string_equal(picture_of(&t, 0).text, before.text); /* igbvf has it again */
	assert_true(has_driver(vf, "igbvf"));
}

static void claim_resets_what_is_not_clean(void **state)
{
	struct vf_bdf vf;

	(void)state;
	for (unsigned i = 0; i < VFS; i++)
		vf_tree_conf(&t, vf_text(vf_tree_vf(the_pf, i)).s, 0x0004);
	vf = claim("web", "");
	assert_int_equal(t.k->resets, 1);
	assert_int_equal(vf_conf_check(&t.sys, vf, NULL), 0);
}

static void claim_undoes_what_is_refused(void **state)
{
	struct vf_want w = want_of("web", "vfio-pci");
	struct picture before[VFS];
	struct vf_record r;
	struct vf_why why;

	(void)state;
	for (int i = 0; i < VFS; i++)
		before[i] = picture_of(&t, i);
	set(&w.settings, VF_VLAN, "100");
	set(&w.settings, VF_TRUST, "on");
	t.k->refuse[VF_TRUST] = -EPERM;
	assert_int_equal(vf_claim(&t.sys, &w, &r, &why), -EPERM);
	assert_non_null(strstr(why.text, "trust"));
	t.k->refuse[VF_TRUST] = 0;
	snprintf(t.k->fault.path, sizeof(t.k->fault.path), "vfio-pci/bind");
	t.k->fault.err = -ENODEV;
	t.k->fault.times = 1;
	assert_int_equal(vf_claim(&t.sys, &w, &r, &why), -ENODEV);
	assert_non_null(strstr(why.text, "vfio-pci"));
	for (int i = 0; i < VFS; i++)
		assert_string_equal(picture_of(&t, i).text, before[i].text);
}

static void claim_names_a_driver_that_is_missing(void **state)
{
	struct vf_want w = want_of("web", "uio_pci_generic");
	struct vf_record r;
	struct vf_why why;

	(void)state;
	assert_int_equal(vf_claim(&t.sys, &w, &r, &why), -ENOENT);
	assert_non_null(strstr(why.text, "modprobe uio_pci_generic"));
	assert_int_equal(t.sys.changes, 0);
}

/* An NVMe controller's own driver may be taken from it while it has no disk. */
static void claim_takes_an_idle_nvme_controller(void **state)
{
	struct vf_want w = want_of("web", "vfio-pci");
	struct vf_bdf pf = { 0, 2, 0, 0 }, vf = vf_tree_vf(pf, 0);
	struct vf_record r;

	(void)state;
	vf_tree_pf(&t, (struct vf_tree_pf){ .bdf = "0000:02:00.0", .total = 1, .group = 40 });
	assert_int_equal(vf_pci_write(&t.sys, pf, "sriov_numvfs", "1"), 0);
	assert_true(has_driver(vf, "nvme"));
	w.pf = pf;
	vf_tree_put(&t, NULL, "/sys/bus/pci/devices/%s/nvme/nvme1/nvme1n1", vf_text(vf).s);
	assert_int_equal(vf_claim(&t.sys, &w, &r, NULL), -ENOSPC);
	vf_tree_remove(&t, "/sys/bus/pci/devices/0000:02:10.0/nvme/nvme1/nvme1n1");
	assert_int_equal(vf_claim(&t.sys, &w, &r, NULL), 0);
	assert_true(has_driver(vf, "vfio-pci"));
	vf_record_close(&r);
	assert_int_equal(release(vf, NULL), 0);
	assert_true(has_driver(vf, "nvme"));
}

static void claim_keeps_to_pools(void **state)
{
	struct vf_want w = want_of("web", "");
	struct vf_record r;
	struct vf_why why;

	(void)state;
	vf_tree_put(&t, "{\"called\": [\"0000:01:00.0\"], \"vf\": [{\"settings\": {\"vlan\": 7}, \"pool\": \"fast\"}, {\"settings\": {}}]}",
		    "/var/lib/pvio/vf/pf-0000:01:00.0.json");
	snprintf(w.pool, sizeof(w.pool), "fast");
	assert_int_equal(vf_claim(&t.sys, &w, &r, NULL), 0);
	assert_int_equal(r.index, 0);
	assert_string_equal(r.pool, "fast");
	assert_int_equal(t.k->is[0][0].vlan, 7);
	vf_record_close(&r);
	assert_int_equal(vf_claim(&t.sys, &w, &r, &why), -ENOSPC);
	assert_int_equal(release(vf_tree_vf(the_pf, 0), NULL), 0);
	assert_int_equal(t.k->is[0][0].vlan, 7); /* as declared, whoever had it */
	w.pool[0] = '\0';
	for (int i = 1; i < VFS; i++)
		assert_true(vf_bdf_equal(claim("web", ""), vf_tree_vf(the_pf, i)));
	assert_int_equal(vf_claim(&t.sys, &w, &r, &why), -ENOSPC);
}

/* After a reboot the driver is gone, and who has it is not. */
static void claim_gives_its_owner_the_same_after_a_reboot(void **state)
{
	struct vf_want w = want_of("db", "vfio-pci");
	struct vf_bdf vf = claim("web", "vfio-pci");
	struct vf_record r;

	(void)state;
	vf_tree_put(&t, "66666666-2222-3333-4444-555555555555\n", "/proc/sys/kernel/random/boot_id");
	assert_int_equal(vf_pci_write(&t.sys, the_pf, "sriov_numvfs", "0"), 0);
	assert_int_equal(vf_pci_write(&t.sys, the_pf, "sriov_numvfs", "7"), 0);
	w.vf = vf;
	assert_int_equal(vf_claim(&t.sys, &w, &r, NULL), -EBUSY);
	assert_true(vf_bdf_equal(claim("web", "vfio-pci"), vf));
	assert_true(has_driver(vf, "vfio-pci"));
	assert_false(vf_bdf_equal(claim("web", "vfio-pci"), vf)); /* one more is another */
	assert_int_equal(release(vf, NULL), 0);
}

/* ---- the group ---- */

static void claim_explains_a_group_in_use(void **state)
{
	struct vf_want w = want_of("web", "vfio-pci");
	struct vf_record r;
	struct vf_why why;

	(void)state;
	assert_int_equal(vf_claim(&t.sys, &w, &r, &why), -EBUSY); /* the PF is in it, with igb */
	assert_non_null(strstr(why.text, "0000:01:00.0"));
	assert_non_null(strstr(why.text, "igb"));
	assert_int_equal(t.sys.changes, 0);
}

static void claim_gives_a_group_to_one_owner(void **state)
{
	struct vf_want w = want_of("db", "vfio-pci");
	struct vf_record r;
	struct vf_why why;

	(void)state;
	vf_tree_unbind(&t, "0000:01:00.0");
	claim("web", "vfio-pci");
	assert_int_equal(vf_claim(&t.sys, &w, &r, &why), -EBUSY);
	assert_non_null(strstr(why.text, "web has"));
	claim("web", "vfio-pci");
}

/* ---- release ---- */

static void release_wipes_and_puts_back(void **state)
{
	struct vf_want w = want_of("web", "vfio-pci");
	struct vf_bdf vf = vf_tree_vf(the_pf, 2);
	struct picture before = picture_of(&t, 2);
	struct vf_record r;

	(void)state;
	w.vf = vf;
	set(&w.settings, VF_MAC, "02:00:00:00:00:07");
	set(&w.settings, VF_VLAN, "100");
	set(&w.settings, VF_TRUST, "on");
	set(&w.settings, VF_SPOOFCHK, "off");
	set(&w.settings, VF_MAX_RATE, "500");
	assert_int_equal(vf_claim(&t.sys, &w, &r, NULL), 0);
	vf_record_close(&r);
	vf_tree_conf(&t, vf_text(vf).s, 0x0006); /* its user left it running */
	assert_int_equal(release(vf, NULL), 0);
	assert_int_equal(t.k->resets, 1);
	assert_string_equal(picture_of(&t, 2).text, before.text);
}

static void release_takes_other_resets_from_the_list(void **state)
{
	struct vf_bdf vf = claim("web", "vfio-pci");
	char list[VF_NAME_MAX];

	(void)state;
	vf_tree_put(&t, "flr bus\n", "/sys/bus/pci/devices/%s/reset_method", vf_text(vf).s);
	snprintf(t.k->fault.path, sizeof(t.k->fault.path), "%s/reset", vf_text(vf).s);
	t.k->fault.err = -ENOTTY;
	t.k->fault.times = 1;
	assert_int_equal(release(vf, NULL), -ENOTTY);
	vf_pci_read(&t.sys, vf, "reset_method", list, sizeof(list));
	assert_string_equal(list, "flr");
	assert_int_equal(release(vf, NULL), 0);
	vf_pci_read(&t.sys, vf, "reset_method", list, sizeof(list));
	assert_string_equal(list, "flr bus");
}

/* One that fails its reset stays out, with its reason, and no driver gets it. */
static void release_keeps_what_fails_its_reset(void **state)
{
	struct vf_bdf vf = claim("web", "vfio-pci");
	struct vf_want w = want_of("db", "");
	struct vf_record r;
	struct vf_why why;

	(void)state;
	snprintf(t.k->fault.path, sizeof(t.k->fault.path), "%s/reset", vf_text(vf).s);
	t.k->fault.err = -EIO;
	t.k->fault.times = 1;
	assert_int_equal(release(vf, &why), -EIO);
	assert_non_null(strstr(why.text, "quarantine"));
	assert_int_equal(vf_record_read(&t.sys, vf, &r), 0);
	assert_int_equal(r.state, VF_QUARANTINED);
	assert_non_null(strstr(r.why, "reset failed"));
	vf_record_close(&r);
	vf_sys_write(&t.sys, vf_text(vf).s, "/sys/bus/pci/drivers_probe");
	assert_true(has_driver(vf, ""));
	w.vf = vf;
	assert_int_equal(vf_claim(&t.sys, &w, &r, &why), -EBUSY);
	assert_non_null(strstr(why.text, "reset failed"));
	assert_int_equal(release(vf, NULL), 0); /* now it works */
	assert_true(vf_bdf_equal(claim("db", ""), vf));
}

static void release_keeps_what_is_not_clean(void **state)
{
	struct vf_want w = want_of("web", "");
	struct vf_record r;
	struct vf_why why;

	(void)state;
	set(&w.settings, VF_VLAN, "100");
	assert_int_equal(vf_claim(&t.sys, &w, &r, NULL), 0);
	t.k->refuse[VF_VLAN] = -EOPNOTSUPP;
	assert_int_equal(vf_release(&t.sys, &r, NULL, &why), -EBUSY);
	assert_non_null(strstr(why.text, "vlan"));
	assert_int_equal(r.state, VF_QUARANTINED);
	t.k->refuse[VF_VLAN] = 0;
	vf_tree_conf(&t, vf_text(r.vf).s, 0);
	vf_tree_put(&t, "", "/sys/bus/pci/devices/%s/config", vf_text(r.vf).s);
	assert_int_equal(vf_release(&t.sys, &r, NULL, &why), -EIO);
	vf_tree_conf(&t, vf_text(r.vf).s, 0);
	assert_int_equal(vf_release(&t.sys, &r, NULL, &why), 0);
	vf_record_close(&r);
}

/* A reset that does not come back: the attribute is a pipe that nobody reads. */
static void release_ends_when_the_reset_does_not(void **state)
{
	struct vf_release_how how = { "", 50 };
	struct vf_bdf vf = claim("web", "");
	char path[VF_PATH_MAX];
	struct vf_record r;
	struct vf_why why;

	(void)state;
	snprintf(path, VF_PATH_MAX, "%s/sys/bus/pci/devices/%s/reset", t.root, vf_text(vf).s);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(vf_record_open(&t.sys, vf, 0, &r, NULL), 0);
	assert_int_equal(vf_release(&t.sys, &r, &how, &why), -ETIMEDOUT);
	assert_int_equal(r.state, VF_QUARANTINED);
	vf_record_close(&r);
	wait(NULL);
}

/* A reset that is over when the test says so; what is said is where all processes see it. */
static int write_and_wait(struct vf_sys *s, const char *path, const char *text)
{
	volatile struct vf_tree_kernel *k = t.k;

	if (strcmp(strrchr(path, '/'), "/reset") == 0) {
		k->resets++;
		while (!k->fault.times)
			usleep(1000);
	}
	return vf_tree_ops.write(s, path, text);
}

/* Whoever began the reset is killed: until it is over nobody else begins anything. */
static void release_keeps_the_lock_until_the_reset_is_over(void **state)
{
	const struct vf_sys_ops slow = { write_and_wait, vf_tree_ops.nl_send, vf_tree_ops.nl_recv };
	volatile struct vf_tree_kernel *k = t.k;
	struct vf_bdf vf = claim("web", "");
	struct vf_record r;
	pid_t pid;

	(void)state;
	t.sys.ops = &slow;
	pid = fork();
	if (pid == 0)
		_exit(release(vf, NULL) < 0);
	while (!k->resets)
		usleep(1000);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	recover(); /* somebody is at it */
	assert_int_equal(vf_record_open(&t.sys, vf, 0, &r, NULL), -EBUSY);
	k->fault.times = 1;
	assert_int_equal(vf_record_open(&t.sys, vf, 10000, &r, NULL), 0);
	assert_int_equal(r.state, VF_RELEASING);
	vf_record_close(&r);
	recover();
	assert_int_equal(vf_record_read(&t.sys, vf, &r), -ENOENT);
}

static void release_resets_a_bus_for_one_alone(void **state)
{
	struct vf_release_how how = { "bus", 1000 };
	struct vf_bdf vf = claim("web", "");
	struct vf_record r;
	struct vf_why why;

	(void)state;
	vf_tree_put(&t, "bus\n", "/sys/bus/pci/devices/%s/reset_method", vf_text(vf).s);
	assert_int_equal(release(vf, &why), -ENOTTY);
	assert_int_equal(vf_record_open(&t.sys, vf, 0, &r, NULL), 0);
	assert_int_equal(vf_release(&t.sys, &r, &how, &why), -EBUSY);
	assert_non_null(strstr(why.text, "is on it as well"));
	assert_int_equal(t.k->resets, 0);
	vf_record_close(&r);
}

static void release_forgets_what_is_gone(void **state)
{
	struct vf_bdf vf = claim("web", "vfio-pci");
	struct vf_record r;

	(void)state;
	assert_int_equal(vf_pci_write(&t.sys, the_pf, "sriov_numvfs", "0"), 0);
	assert_int_equal(release(vf, NULL), 0);
	assert_int_equal(vf_record_read(&t.sys, vf, &r), -ENOENT);
}

/* ---- bind ---- */

static void rebind_changes_the_driver(void **state)
{
	struct vf_bdf vf = claim("web", "vfio-pci");
	struct picture before = picture_of(&t, 1);
	struct vf_record r;
	struct vf_why why;

	(void)state;
	assert_int_equal(vf_record_open(&t.sys, vf, 0, &r, NULL), 0);
	assert_int_equal(vf_rebind(&t.sys, &r, "pciback", NULL), 0);
	assert_true(has_driver(vf, "pciback"));
	assert_int_equal(r.state, VF_CLAIMED);
	snprintf(t.k->fault.path, sizeof(t.k->fault.path), "igbvf/bind");
	t.k->fault.err = -EIO;
	t.k->fault.times = 1;
	assert_int_equal(vf_rebind(&t.sys, &r, "igbvf", &why), -EIO);
	assert_true(has_driver(vf, "pciback")); /* as it was */
	assert_string_equal(r.driver, "pciback");
	vf_record_close(&r);
	assert_string_equal(picture_of(&t, 1).text, before.text); /* nothing else is touched */
}

/* "netdev" is the driver that the kernel has for it: of another name than its module, here. */
static void bind_finds_the_network_driver(void **state)
{
	struct vf_bdf vf = vf_tree_vf(the_pf, 0);
	char driver[VF_NAME_MAX];
	struct utsname u;
	struct vf_why why;

	(void)state;
	assert_int_equal(uname(&u), 0);
	vf_tree_put(&t, "pci:v00008086d000010CAsv00008086sd00000000bc02sc00i00\n", "/sys/bus/pci/devices/%s/modalias", vf_text(vf).s);
	assert_int_equal(vf_driver_find(&t.sys, vf, "netdev", driver, &why), -ENOENT);
	vf_tree_put(&t, "# aliases\nalias pci:v00008086d000010C9sv*sd*bc*sc*i* igb\nalias pci:v00008086d000010CAsv*sd*bc*sc*i* igbvf_mod\n",
		    "/lib/modules/%s/modules.alias", u.release);
	assert_int_equal(vf_driver_find(&t.sys, vf, "netdev", driver, &why), -ENOENT);
	assert_non_null(strstr(why.text, "modprobe igbvf_mod"));
	vf_tree_put(&t, NULL, "/sys/module/igbvf_mod/drivers/pci:igbvf");
	assert_int_equal(vf_driver_find(&t.sys, vf, "netdev", driver, &why), 0);
	assert_string_equal(driver, "igbvf");
	assert_int_equal(vf_driver_find(&t.sys, vf, "../drivers/igbvf", driver, &why), -ENOENT);
}

/* ---- many at once ---- */

/* Each claims one and says which: 7 of 50 get one, no two the same. */
static void claim_by_50_processes(void **state)
{
	unsigned got[VFS] = { 0 }, none = 0;
	int fd[2], status;
	uint8_t index;

	(void)state;
	assert_int_equal(pipe(fd), 0);
	for (int i = 0; i < 50; i++)
		if (fork() == 0) {
			struct vf_want w = want_of("web", i % 2 ? "vfio-pci" : "");
			struct vf_record r;
			int rc = vf_claim(&t.sys, &w, &r, NULL);

			index = rc == 0 ? r.index : rc == -ENOSPC ? VFS : 255;
			_exit(write(fd[1], &index, 1) != 1);
		}
	close(fd[1]);
	while (read(fd[0], &index, 1) == 1) {
		assert_true(index <= VFS);
		if (index < VFS)
			assert_int_equal(got[index]++, 0);
		else
			none++;
	}
	close(fd[0]);
	while (wait(&status) > 0)
		assert_int_equal(status, 0);
	assert_int_equal(none, 50 - VFS);
}

/* Whoever has one makes a directory of its number: it is there if somebody else has it. */
static int use_some(void)
{
	struct vf_want w = want_of("web", "pciback");

	for (int round = 0; round < 2; round++) {
		char path[VF_PATH_MAX];
		struct vf_record r;
		int rc = vf_claim(&t.sys, &w, &r, NULL);

		if (rc == -ENOSPC)
			continue;
		if (rc < 0)
			return 1;
		vf_record_close(&r);
		snprintf(path, sizeof(path), "%s/use-%u", t.root, r.index);
		if (mkdir(path, 0700) < 0 || rmdir(path) < 0)
			return 2;
		if (release(r.vf, NULL) < 0)
			return 3;
	}
	return 0;
}

static void claim_and_release_by_12_processes(void **state)
{
	struct picture before[VFS];
	int status;

	(void)state;
	for (int i = 0; i < VFS; i++)
		before[i] = picture_of(&t, i);
	for (int i = 0; i < 12; i++)
		if (fork() == 0)
			_exit(use_some());
	while (wait(&status) > 0)
		assert_int_equal(status, 0);
	for (int i = 0; i < VFS; i++)
		assert_string_equal(picture_of(&t, i).text, before[i].text);
}

/* ---- kills ---- */

static int claim_first(struct vf_tree *tree)
{
	struct vf_want w = want_of("web", "vfio-pci");
	struct vf_record r;
	int rc;

	w.vf = vf_tree_vf(the_pf, 0);
	set(&w.settings, VF_MAC, "02:00:00:00:00:07");
	set(&w.settings, VF_VLAN, "100");
	rc = vf_claim(&tree->sys, &w, &r, NULL);
	if (rc == 0)
		vf_record_close(&r);
	return rc;
}

static int release_first(struct vf_tree *tree)
{
	(void)tree;
	return release(vf_tree_vf(the_pf, 0), NULL);
}

static int rebind_first(struct vf_tree *tree)
{
	struct vf_record r;
	int rc = vf_record_open(&tree->sys, vf_tree_vf(the_pf, 0), 0, &r, NULL);

	rc = rc < 0 ? rc : vf_rebind(&tree->sys, &r, "pciback", NULL);
	vf_record_close(&r);
	return rc;
}

/* Kill step() after each of its changes, recover, and see the VF in one of two pictures; then bring it to where step() begins. */
static unsigned kill_each(bool claimed, int (*step)(struct vf_tree *), const struct picture *one, const struct picture *other)
{
	struct vf_bdf vf = vf_tree_vf(the_pf, 0);
	unsigned n = 0;
	bool killed;

	do {
		struct picture p;

		killed = killed_at(&t, ++n, step);
		recover();
		p = picture_of(&t, 0);
		if (killed && strcmp(p.text, one->text) && strcmp(p.text, other->text))
			fail_msg("killed after change %u: %s\nis neither %s\nnor %s", n, p.text, one->text, other->text);
		if (!strstr(p.text, "free"))
			assert_int_equal(release(vf, NULL), 0);
		if (claimed)
			assert_int_equal(claim_first(&t), 0);
	} while (killed && n < 100);
	return n;
}

/* Before: igbvf has it, and its methods are to be cut to "flr". All there is to put back. */
static void kills_of_claim_release_and_bind_are_recovered(void **state)
{
	struct picture fresh, claimed, bound;

	(void)state;
	vf_tree_put(&t, "flr bus\n", "/sys/bus/pci/devices/%s/reset_method", vf_text(vf_tree_vf(the_pf, 0)).s);
	fresh = picture_of(&t, 0);
	assert_int_equal(claim_first(&t), 0);
	claimed = picture_of(&t, 0);
	assert_int_equal(rebind_first(&t), 0);
	bound = picture_of(&t, 0);
	assert_int_equal(release_first(&t), 0);
	assert_string_equal(picture_of(&t, 0).text, fresh.text);
	assert_true(kill_each(false, claim_first, &fresh, &claimed) > 8);
	assert_int_equal(claim_first(&t), 0);
	assert_true(kill_each(true, release_first, &fresh, &claimed) > 8);
	assert_true(kill_each(true, rebind_first, &claimed, &bound) > 4);
}

int main(void)
{
#define TEST(f, u) cmocka_unit_test_setup_teardown(f, u, down)
	const struct CMUnitTest tests[] = {
		TEST(claim_configures_and_binds, up),
		TEST(claim_gives_each_once, up),
		TEST(claim_chooses_what_is_wanted, up),
		TEST(claim_leaves_what_others_bound, up),
		TEST(claim_resets_what_had_a_driver, up_autoprobe),
		TEST(claim_resets_what_is_not_clean, up),
		TEST(claim_undoes_what_is_refused, up),
		TEST(claim_names_a_driver_that_is_missing, up),
		TEST(claim_takes_an_idle_nvme_controller, up),
		TEST(claim_keeps_to_pools, up),
		TEST(claim_gives_its_owner_the_same_after_a_reboot, up),
		TEST(claim_explains_a_group_in_use, up_one_group),
		TEST(claim_gives_a_group_to_one_owner, up_one_group),
		TEST(release_wipes_and_puts_back, up),
		TEST(release_takes_other_resets_from_the_list, up),
		TEST(release_keeps_what_fails_its_reset, up),
		TEST(release_keeps_what_is_not_clean, up),
		TEST(release_ends_when_the_reset_does_not, up),
		TEST(release_keeps_the_lock_until_the_reset_is_over, up),
		TEST(release_resets_a_bus_for_one_alone, up),
		TEST(release_forgets_what_is_gone, up),
		TEST(rebind_changes_the_driver, up),
		TEST(bind_finds_the_network_driver, up),
		TEST(claim_by_50_processes, up),
		TEST(claim_and_release_by_12_processes, up),
		TEST(kills_of_claim_release_and_bind_are_recovered, up_autoprobe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
