/* vf_alloc.h - what the tests of claim, bind and release share: a NIC with 7 VFs on the machine of vf_tree.h, and pictures of a VF. */
#ifndef VF_ALLOC_H
#define VF_ALLOC_H

#include "vf_tree.h"
#include <signal.h>
#include <sys/wait.h>

enum { VFS = 7 };

static const struct vf_bdf the_pf = { 0, 1, 0, 0 };

static VF_TREE_UNUSED void alloc_up(struct vf_tree *t, bool autoprobe, bool one_group)
{
	vf_tree_up(t);
	vf_tree_pf(t, (struct vf_tree_pf){ .bdf = "0000:01:00.0", .netdev = "eth1", .total = VFS, .group = 20, .one_group = one_group });
	vf_pci_write(&t->sys, the_pf, "sriov_drivers_autoprobe", autoprobe ? "1" : "0");
	assert_int_equal(vf_pci_write(&t->sys, the_pf, "sriov_numvfs", "7"), 0);
	t->sys.changes = 0;
}

/* All that a release has to put back. */
struct picture {
	char text[1024];
};

static VF_TREE_UNUSED struct picture picture_of(struct vf_tree *t, unsigned i)
{
	char driver[VF_NAME_MAX], override[VF_NAME_MAX], methods[VF_NAME_MAX];
	struct json_object *settings = vf_settings_json(&t->k->is[0][i]);
	struct vf_bdf vf = vf_tree_vf(the_pf, i);
	struct vf_record r;
	struct picture p;

	vf_driver(&t->sys, vf, driver);
	vf_override(&t->sys, vf, override);
	vf_pci_read(&t->sys, vf, "reset_method", methods, sizeof(methods));
	vf_record_read(&t->sys, vf, &r);
	snprintf(p.text, sizeof(p.text), "driver '%s' override '%s' reset '%s' %s %s '%s' %s", driver, override, methods, vf_state_name(r.state), r.owner,
		 r.why, json_object_to_json_string(settings));
	vf_record_close(&r);
	json_object_put(settings);
	return p;
}

static VF_TREE_UNUSED struct vf_want want_of(const char *owner, const char *driver)
{
	struct vf_want w = { .numa = -1 };

	snprintf(w.owner, sizeof(w.owner), "%s", owner);
	snprintf(w.driver, sizeof(w.driver), "%s", driver);
	return w;
}

static VF_TREE_UNUSED void set(struct vf_settings *v, enum vf_key key, const char *text)
{
	assert_int_equal(vf_settings_parse(v, key, text, NULL), 0);
}

/* Run step() in a process that is killed after its n-th change. Was it? */
static VF_TREE_UNUSED bool killed_at(struct vf_tree *t, unsigned n, int (*step)(struct vf_tree *t))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		t->sys.changes = 0;
		t->sys.kill_at = n;
		_exit(step(t) < 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status)) {
		assert_int_equal(WTERMSIG(status), SIGKILL);
		return true;
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	return false;
}

#endif
