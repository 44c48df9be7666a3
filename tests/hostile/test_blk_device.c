/* A device's life under bad luck: disconnected with I/O in flight, a pviod that comes and goes, images that are taken. */
#define RIG_POLL_US "0"
#include "tests/hostile/blk_rig.h"
#include <sys/file.h>
#include <sys/mount.h>

/* Fill the rings with all kinds of requests. */
static void fill(struct guest *g, unsigned seed)
{
	for (unsigned queue = 0; queue < g->nq; queue++) {
		for (unsigned i = 0; pv_ring_room(&g->q[queue].ring); i++) {
			static const uint8_t ops[] = { BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_WRITE, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER,
						       BLKIF_OP_READ, BLKIF_OP_WRITE };
			struct pv_blk_req r = guest_rw(g, ops[(i * 5 + seed) % sizeof(ops)], i * 24 % (DISK_SECTORS - 88), i % 400, 1 + (i + seed) % 11);

			guest_put(g, queue, &r);
		}
		guest_notify(g, queue);
	}
}

static void disconnect_waits_for_io_in_flight(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (unsigned round = 0; round < 40; round++) {
		guest_up_with(&g, round % 4 ? NULL : "{\"indirect\":\"0\",\"cache\":\"11\"}", 1 + round % 4, round % 5, PV_VBD_ABI_NATIVE,
			      round % 2 ? PV_VBD_PERSISTENT : 0);
		fill(&g, round);
		if (round % 3)
			usleep(round * 30);
		guest_down(&g);
	}
	guest_up(&g, NULL);
	guest_io(&g);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

static void every_request_of_a_mixed_load_is_answered_once(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_up_with(&g, "{\"indirect\":\"0\",\"cache\":\"16\"}", 4, 1, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT);
	for (unsigned round = 0; round < 20; round++) {
		fill(&g, round);
		for (unsigned queue = 0; queue < 4; queue++)
			for (unsigned i = 0; i < g.q[queue].ring.nr; i++)
				assert_int_equal(guest_wait(&g, queue).status, BLKIF_RSP_OKAY);
	}
	assert_int_equal(guest_stat(&g, "errors"), 0);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

static void broken_with_io_in_flight_disconnects(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (unsigned round = 0; round < 10; round++) {
		unsigned before = rig.broken;

		guest_up_with(&g, NULL, 1, 4, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT);
		fill(&g, round);
		g.q[0].ring.prod += 5000;
		guest_notify(&g, 0);
		wait_broken(&g, before + 1);
		guest_down(&g);
	}
	guest_close(&g);
	rig_check();
}

static void prepare_wrong_configurations_say_why(void **state)
{
	static const struct { const char *config, *word; } rows[] = {
		{ "{\"path\":\"/nonexistent/disk\"}", "/nonexistent/disk" },
		{ "{\"bogus\":\"1\"}", "direct=" },
		{ "{\"queues\":\"99\"}", "1..16" },
		{ "{\"path\":\"\"}", "path" },
	};
	struct guest g;

	(void)state;
	guest_open(&g);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_not_equal(guest_prepare(&g, rows[i].config), 0);
		assert_non_null(strstr(rig_last.message, "vbd xvd"));
		if (!strstr(rig_last.message, rows[i].word))
			fail_msg("'%s' does not say '%s'", rig_last.message, rows[i].word);
	}
	guest_close(&g);
	rig_check();
}

static void image_of_another_is_refused_by_name(void **state)
{
	struct guest g, thief;
	char config[128];
	int fd;

	(void)state;
	guest_open(&g);
	guest_open(&thief);
	guest_up(&g, NULL);
	snprintf(config, sizeof(config), "{\"path\":\"%s\"}", g.image);
	assert_int_equal(guest_prepare(&thief, config), -EBUSY);
	assert_non_null(strstr(rig_last.message, g.image));
	snprintf(config, sizeof(config), "{\"path\":\"%s\",\"mode\":\"r\"}", g.image);
	assert_int_equal(guest_prepare(&thief, config), -EBUSY);
	guest_io(&g);
	guest_down(&g);
	fd = open(g.image, O_RDWR);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0); /* let go when `remove` was answered: no ring keeps the file */
	close(fd);
	assert_int_equal(guest_prepare(&thief, config), 0);
	assert_int_equal(guest_call(&thief, "remove"), 0);
	guest_close(&thief);
	guest_close(&g);
	rig_check();
}

static void configuration_changes_only_while_disconnected(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_up(&g, NULL);
	assert_int_equal(guest_prepare(&g, NULL), 0); /* the same again */
	assert_int_equal(guest_prepare(&g, "{\"mode\":\"r\"}"), -EBUSY);
	guest_io(&g);
	assert_int_equal(guest_call(&g, "disconnect"), 0);
	guest_rings_end(&g);
	assert_int_equal(guest_prepare(&g, "{\"mode\":\"r\"}"), 0);
	assert_true(g.offer.info & VDISK_READONLY);
	assert_int_not_equal(guest_prepare(&g, "{\"path\":\"/nonexistent\"}"), 0);
	assert_int_equal(guest_prepare(&g, NULL), 0);
	assert_false(g.offer.info & VDISK_READONLY);
	assert_int_equal(guest_call(&g, "remove"), 0);
	guest_close(&g);
	rig_check();
}

static void pviod_that_comes_back_finds_everything_connected(void **state)
{
	struct guest *g = &bystander;
	struct pv_noxs_choice c = guest_choice(g, PV_VBD_PERSISTENT);
	int64_t end = rig_ms() + PATIENCE, reads;
	int fd = -1;

	(void)state;
	for (int i = 0; i < 3; i++) {
		reads = guest_stat(g, "reads");
		pv_rpc_free(rig.rpc);
		rig.registered = false;
		guest_io(g); /* nobody is there, and it is served */
		while ((fd = accept4(rig.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0 && rig_ms() < end)
			usleep(1000);
		assert_true(fd >= 0);
		assert_int_equal(pv_rpc_new(fd, &rig_rpc_ops, NULL, &rig.rpc), 0);
		while (!rig.registered && rig_ms() < end)
			rig_pump(10);
		assert_true(rig.registered);
		assert_int_equal(guest_prepare(g, NULL), 0);
		assert_int_equal(guest_connect_choice(g, NULL, &c), 0); /* nothing changes */
		assert_true(guest_stat(g, "reads") > reads);
	}
	rig_check();
}

static int resize(struct guest *g, uint64_t bytes, bool force)
{
	struct pv_device_id id = guest_device(g);
	struct json_object *all = pv_device_id_to_json(&id), *params = json_object_new_object();

	json_object_object_add(params, "size", json_object_new_int64((int64_t)bytes));
	json_object_object_add(params, "force", json_object_new_boolean(force));
	json_object_object_add(all, "what", json_object_new_string("resize"));
	json_object_object_add(all, "params", params);
	return rig_call("ask", all);
}

static int read_at(struct guest *g, uint64_t sector)
{
	struct pv_blk_req r = guest_rw(g, BLKIF_OP_READ, sector, 0, 1);

	return guest_do(g, 0, &r);
}

/* What the file has become does not matter before the guest is told. */
static void size_is_as_it_was_told(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_up(&g, NULL);
	assert_int_equal(truncate(g.image, (DISK_SECTORS + 128) * 512), 0);
	assert_int_equal(read_at(&g, DISK_SECTORS), BLKIF_RSP_ERROR);
	assert_int_equal(resize(&g, 0, false), 0);
	assert_int_equal(json_object_get_int64(json_object_object_get(rig_last.result, "sectors")), DISK_SECTORS + 128);
	assert_int_equal(read_at(&g, DISK_SECTORS + 120), BLKIF_RSP_OKAY);
	assert_int_equal(read_at(&g, DISK_SECTORS + 121), BLKIF_RSP_ERROR);
	assert_int_equal(resize(&g, 4096, false), -EBUSY);
	assert_non_null(strstr(rig_last.message, "--force"));
	assert_int_equal(resize(&g, 1000, true), -EINVAL);
	assert_int_equal(read_at(&g, DISK_SECTORS + 120), BLKIF_RSP_OKAY);
	guest_down(&g);
	assert_int_equal(resize(&g, 4096, false), -ENOENT);
	guest_close(&g);
	rig_check();
}

/* Grown and shrunk under a guest that does not care: whatever it asks for is answered once, and is what the file was then. */
static void size_changes_under_requests_in_flight(void **state)
{
	struct guest g;
	struct stat st;

	(void)state;
	guest_open(&g);
	guest_up_with(&g, NULL, 2, 2, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT);
	for (unsigned round = 0; round < 30; round++) {
		fill(&g, round);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(resize(&g, i % 2 ? DISK_SECTORS * 512 : 65536, true), 0);
		for (unsigned queue = 0; queue < 2; queue++)
			for (unsigned i = 0; i < g.q[queue].ring.nr; i++) {
				int status = guest_wait(&g, queue).status;

				assert_true(status == BLKIF_RSP_OKAY || status == BLKIF_RSP_ERROR);
			}
	}
	assert_int_equal(stat(g.image, &st), 0);
	assert_true(st.st_size >= DISK_SECTORS * 512); /* a write under way may have filled it up again */
	guest_io(&g);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

/* A file system that is full, and a file that was cut off: errors of the requests that meet them, and of no others. */
static void image_that_fails_fails_its_requests_alone(void **state)
{
	unsigned refused = 0;
	struct guest g;
	char at[48], config[128];
	int fd;

	(void)state;
	snprintf(at, sizeof(at), "%s/small", rig.dir);
	assert_int_equal(mkdir(at, 0700), 0);
	if (mount("tmpfs", at, "tmpfs", 0, "size=256k") < 0) {
		rmdir(at);
		print_message("no right to mount a small file system here\n");
		skip();
	}
	guest_open(&g);
	unlink(g.image);
	snprintf(g.image, sizeof(g.image), "%s/disk", at);
	fd = open(g.image, O_RDWR | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, DISK_SECTORS * 512), 0);
	close(fd);
	snprintf(config, sizeof(config), "{\"path\":\"%s\",\"discard\":\"1\"}", g.image);
	guest_up(&g, config);
	for (unsigned i = 0; i < 64; i++) {
		struct pv_blk_req r = guest_rw(&g, BLKIF_OP_WRITE, i * 88, i, 11);

		refused += guest_do(&g, 0, &r) == BLKIF_RSP_ERROR;
		guest_io(&bystander);
	}
	assert_in_range(refused, 50, 63);
	assert_int_equal(read_at(&g, 8), BLKIF_RSP_OKAY);
	assert_int_equal(truncate(g.image, 4096), 0); /* it has room again, but no end */
	assert_int_equal(read_at(&g, 0), BLKIF_RSP_OKAY);
	assert_int_equal(read_at(&g, 4096), BLKIF_RSP_ERROR);
	assert_int_equal(truncate(g.image, DISK_SECTORS * 512), 0);
	guest_io(&g);
	guest_down(&g);
	guest_close(&g);
	assert_int_equal(umount(at), 0);
	assert_int_equal(rmdir(at), 0);
	rig_check();
}

static void many_devices_come_and_go(void **state)
{
	enum { MANY = 24 };
	static struct guest g[MANY];

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < MANY; i++) {
			guest_open(&g[i]);
			guest_up_with(&g[i], NULL, 1 + i % 4, i % 3, PV_VBD_ABI_NATIVE, i % 2 ? PV_VBD_PERSISTENT : 0);
		}
		for (unsigned i = 0; i < MANY; i++)
			guest_io(&g[i * 7 % MANY]);
		for (unsigned i = 0; i < MANY; i++) {
			guest_down(&g[i]);
			guest_close(&g[i]);
		}
		rig_check();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disconnect_waits_for_io_in_flight),
		cmocka_unit_test(every_request_of_a_mixed_load_is_answered_once),
		cmocka_unit_test(broken_with_io_in_flight_disconnects),
		cmocka_unit_test(prepare_wrong_configurations_say_why),
		cmocka_unit_test(image_of_another_is_refused_by_name),
		cmocka_unit_test(configuration_changes_only_while_disconnected),
		cmocka_unit_test(pviod_that_comes_back_finds_everything_connected),
		cmocka_unit_test(size_is_as_it_was_told),
		cmocka_unit_test(size_changes_under_requests_in_flight),
		cmocka_unit_test(image_that_fails_fails_its_requests_alone),
		cmocka_unit_test(many_devices_come_and_go),
	};

	return cmocka_run_group_tests(tests, rig_up, rig_down);
}
