/* test_vf_sys.c - attributes below a root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include "vf_tree.h"

static const struct vf_bdf dev = { 0, 1, 0, 0 };
static struct vf_tree t;
static struct vf_sys s; /* the same files, with what a machine does when one is written */

static int up(void **state)
{
	(void)state;
	vf_tree_up(&t);
	vf_tree_dev(&t, "0000:01:00.0", "8086", "10c9", "020000", 20, 1);
	return vf_sys_open(&s, t.root);
}

static int down(void **state)
{
	(void)state;
	vf_sys_close(&s);
	vf_tree_down(&t);
	return 0;
}

static void sys_open_of_a_root(void **state)
{
	char root[VF_ROOT_MAX + 8] = "/";

	(void)state;
	assert_int_equal(vf_sys_open(&s, NULL), 0);
	assert_string_equal(s.state, "/var/lib/pvio/vf");
	assert_int_equal(vf_sys_open(&s, "/tmp//"), 0);
	assert_string_equal(s.root, "/tmp");
	assert_string_equal(s.state, "/tmp/var/lib/pvio/vf");
	memset(root + 1, 'x', sizeof(root) - 2);
	root[sizeof(root) - 1] = '\0';
	assert_int_equal(vf_sys_open(&s, root), -ENAMETOOLONG);
}

static void sys_read_ends_without_a_newline(void **state)
{
	char text[16], path[VF_PATH_MAX];
	int64_t n;

	(void)state;
	assert_int_equal(vf_pci_read(&s, dev, "vendor", text, sizeof(text)), 6);
	assert_string_equal(text, "0x8086");
	assert_int_equal(vf_pci_read(&s, dev, "vendor", text, 4), 3);
	assert_string_equal(text, "0x8");
	assert_int_equal(vf_pci_read(&s, dev, "none", text, sizeof(text)), -ENOENT);
	assert_string_equal(text, "");
	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(vf_sys_read(&s, text, sizeof(text), "/%s", path), -ENAMETOOLONG);
	assert_int_equal(vf_pci_number(&s, dev, "vendor", &n), 0);
	assert_int_equal(n, 0x8086);
	assert_int_equal(vf_pci_number(&s, dev, "driver_override", &n), -EINVAL);
}

static void sys_link_is_its_last_word(void **state)
{
	char text[16];

	(void)state;
	assert_int_equal(vf_pci_link(&s, dev, "iommu_group", text, sizeof(text)), 2);
	assert_string_equal(text, "20");
	assert_int_equal(vf_pci_link(&s, dev, "driver", text, sizeof(text)), -ENOENT);
	assert_int_equal(vf_pci_link(&s, dev, "vendor", text, sizeof(text)), -EINVAL);
	assert_true(vf_pci_has(&s, dev, "iommu_group"));
	assert_false(vf_pci_has(&s, dev, "driver"));
}

static void sys_write_of_nothing_empties_an_attribute(void **state)
{
	char path[VF_PATH_MAX], buf[8] = "";
	int fd;

	(void)state;
	vf_tree_put(&t, "x", VF_TREE_DEV "/driver_override", "0000:01:00.0");
	assert_int_equal(vf_pci_write(&s, dev, "driver_override", ""), 0);
	snprintf(path, sizeof(path), "%s" VF_TREE_DEV "/driver_override", t.root, "0000:01:00.0");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, buf, sizeof(buf)), 1);
	assert_int_equal(buf[0], '\n');
	close(fd);
	assert_int_equal(s.changes, 1);
	assert_int_equal(vf_pci_write(&s, dev, "none", "1"), -ENOENT); /* no file is made */
	assert_int_equal(s.changes, 1);
}

static void sys_names_are_in_order(void **state)
{
	struct vf_names names;

	(void)state;
	vf_tree_put(&t, "", "/sys/class/net/eth10");
	vf_tree_put(&t, "", "/sys/class/net/eth2");
	vf_tree_put(&t, "", "/sys/class/net/.hidden");
	assert_int_equal(vf_sys_names(&s, &names, "/sys/class/net"), 2);
	assert_string_equal(names.name[0], "eth2");
	assert_string_equal(names.name[1], "eth10");
	vf_names_free(&names);
	assert_int_equal(vf_sys_names(&s, &names, "/sys/class/none"), -ENOENT);
	vf_names_free(&names);
}

/* The interfaces of a tree have numbers, and so have this machine's. */
static void sys_without_netlink_below_a_root(void **state)
{
	struct vf_pf pf = { .dev = { .bdf = dev, .netdev = "eth1" }, .ifindex = 1, .total = 1, .num = 1 };
	struct vf_settings is[1];

	(void)state;
	assert_int_equal(vf_nl_get(&s, &pf, is, NULL, 1, NULL), -EOPNOTSUPP);
	assert_null(s.nl);
}

static void sys_is_killed_after_a_change(void **state)
{
	int status;
	pid_t pid = fork();
	char text[8];

	(void)state;
	if (pid == 0) {
		s.kill_at = 2;
		vf_pci_write(&s, dev, "vendor", "1");
		vf_pci_write(&s, dev, "device", "2");
		vf_pci_write(&s, dev, "class", "3");
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	vf_pci_read(&s, dev, "device", text, sizeof(text));
	assert_int_equal(text[0], '2');
	vf_pci_read(&s, dev, "class", text, sizeof(text));
	assert_int_equal(text[0], '0');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sys_open_of_a_root, up, down),
		cmocka_unit_test_setup_teardown(sys_read_ends_without_a_newline, up, down),
		cmocka_unit_test_setup_teardown(sys_link_is_its_last_word, up, down),
		cmocka_unit_test_setup_teardown(sys_write_of_nothing_empties_an_attribute, up, down),
		cmocka_unit_test_setup_teardown(sys_names_are_in_order, up, down),
		cmocka_unit_test_setup_teardown(sys_without_netlink_below_a_root, up, down),
		cmocka_unit_test_setup_teardown(sys_is_killed_after_a_change, up, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
