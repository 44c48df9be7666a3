/* Images that fail, lack room, are slow or hang: their own device's requests fail or wait, and nobody else's. */
#include "tests/hostile/blk_rig.h"
#include "tests/unit/nbd_server.h"
#include <sys/mount.h>
#include <sys/resource.h>

enum { LOAD = 32 };

static char socket_path[60], more[200]; /* a vbd behind the test's NBD server */

static void nbd_up(struct guest *g, unsigned wait)
{
	memset(&server, 0, sizeof(server));
	server.flags = NBD_FLUSH | NBD_FUA | NBD_TRIM;
	server.bytes = SERVER_BYTES;
	snprintf(socket_path, sizeof(socket_path), "%s/nbd", rig.dir);
	assert_int_equal(server_start(socket_path), 0);
	snprintf(more, sizeof(more), "{\"path\":\"nbd+unix:///?socket=%s\",\"wait\":\"%u\"}", socket_path, wait);
	guest_open(g);
	guest_up_with(g, more, 2, 0, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT);
}

static void nbd_down(struct guest *g)
{
	guest_down(g);
	guest_close(g);
	server_stop();
	rig_check();
}

/* Requests of both queues, alternately reads and writes. */
static void load(struct guest *g)
{
	for (unsigned i = 0; i < LOAD; i++) {
		struct pv_blk_req r = guest_rw(g, i & 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE, i * 16, i * 2, 2);

		guest_put(g, i & 1, &r);
	}
	guest_notify(g, 0);
	guest_notify(g, 1);
}

static void answers(struct guest *g, int status)
{
	for (unsigned i = 0; i < LOAD; i++)
		assert_int_equal(guest_wait(g, i & 1).status, status);
}

static void nbd_serves_and_its_errors_are_its_guest_s(void **state)
{
	struct pv_blk_req wr, rd, flush = { .id = 1, .op = BLKIF_OP_FLUSH_DISKCACHE, .op_slot = BLKIF_OP_FLUSH_DISKCACHE };
	struct guest g, other;

	(void)state;
	nbd_up(&g, 60);
	wr = guest_rw(&g, BLKIF_OP_WRITE, 64, 8, 3);
	rd = guest_rw(&g, BLKIF_OP_READ, 64, 1, 3);
	memset(g.data + 8 * PV_PAGE_SIZE, 'p', 3 * PV_PAGE_SIZE);
	assert_int_equal(guest_do(&g, 0, &wr), BLKIF_RSP_OKAY);
	assert_memory_equal(server.disk + 64 * 512, g.data + 8 * PV_PAGE_SIZE, 3 * PV_PAGE_SIZE);
	assert_int_equal(guest_do(&g, 1, &rd), BLKIF_RSP_OKAY);
	assert_memory_equal(g.data + PV_PAGE_SIZE, g.data + 8 * PV_PAGE_SIZE, 3 * PV_PAGE_SIZE);
	assert_int_equal(guest_do(&g, 1, &flush), BLKIF_RSP_OKAY);
	server.error[NBD_WRITE] = 28;
	server.error[NBD_READ] = 5;
	load(&g);
	guest_io(&bystander);
	answers(&g, BLKIF_RSP_ERROR);
	server.error[NBD_WRITE] = server.error[NBD_READ] = 0;
	load(&g);
	answers(&g, BLKIF_RSP_OKAY);
	guest_open(&other);
	assert_int_equal(guest_prepare(&other, more), -EBUSY);
	assert_non_null(strstr(rig_last.message, "in use"));
	guest_close(&other);
	nbd_down(&g);
}

static void nbd_that_hangs_delays_its_guest_alone(void **state)
{
	struct guest g;

	(void)state;
	nbd_up(&g, 1);
	server.hung = true;
	load(&g);
	for (unsigned i = 0; i < 50; i++)
		guest_io(&bystander);
	assert_int_equal(guest_call(&g, "disconnect"), -EAGAIN);
	guest_io(&bystander);
	nbd_down(&g); /* asks again until the connection is dropped */
}

static void nbd_that_is_killed_and_comes_back_is_waited_for(void **state)
{
	struct guest g;

	(void)state;
	nbd_up(&g, 60);
	for (unsigned round = 0; round < 3; round++) {
		server.hung = true; /* they are under way */
		load(&g);
		server_stop();
		for (unsigned i = 0; i < 20; i++)
			guest_io(&bystander);
		assert_int_equal(server_start(socket_path), 0);
		answers(&g, BLKIF_RSP_OKAY);
		assert_memory_equal(server.disk, g.data, 2 * PV_PAGE_SIZE);
	}
	nbd_down(&g);
}

static void nbd_that_stays_away_fails_its_guest_alone(void **state)
{
	struct guest g;

	(void)state;
	nbd_up(&g, 0);
	server_stop();
	load(&g);
	guest_io(&bystander);
	answers(&g, BLKIF_RSP_ERROR);
	guest_down(&g); /* what is gone cannot be detached from less well */
	guest_close(&g);
	assert_int_equal(server_start(socket_path), 0);
	server_stop();
	rig_check();
}

/* A sparse file of 16 MiB in a directory. */
static void sparse(const char *dir, char *config, size_t len)
{
	char path[150];
	int fd;

	snprintf(path, sizeof(path), "%s/sparse", dir);
	snprintf(config, len, "{\"path\":\"%s\",\"direct\":\"off\"}", path);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 16 << 20), 0);
	close(fd);
}

/* Writes low on the disk succeed, and high ones fail; each is answered for itself. */
static void high_writes_fail(struct guest *g, uint64_t low, uint64_t high)
{
	for (unsigned i = 0; i < LOAD; i++) {
		struct pv_blk_req r = guest_rw(g, BLKIF_OP_WRITE, (i & 1 ? high : low) + i * 8, i, 1);

		r.id = i & 1;
		guest_put(g, 0, &r);
	}
	guest_notify(g, 0);
	for (unsigned i = 0; i < LOAD; i++) {
		struct blkif_response rsp = guest_wait(g, 0);

		assert_int_equal(rsp.status, rsp.id ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY);
	}
}

static void file_that_may_not_grow_fails_its_guest_alone(void **state)
{
	struct rlimit limit = { 8 << 20, RLIM_INFINITY }, before;
	char config[200], path[60];
	struct guest g;

	(void)state;
	sparse(rig.dir, config, sizeof(config));
	guest_open(&g);
	guest_up(&g, config);
	assert_int_equal(prlimit(rig.backend, RLIMIT_FSIZE, &limit, &before), 0);
	high_writes_fail(&g, 0, 20000);
	guest_io(&bystander);
	assert_int_equal(prlimit(rig.backend, RLIMIT_FSIZE, &before, NULL), 0);
	guest_down(&g);
	guest_close(&g);
	snprintf(path, sizeof(path), "%s/sparse", rig.dir);
	unlink(path);
	rig_check();
}

static void file_system_that_is_full_fails_its_guest_alone(void **state)
{
	static uint8_t page[PV_PAGE_SIZE];
	char config[200], dir[60];
	struct pv_blk_req r;
	struct guest g;
	int errors = 0;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/full", rig.dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	if (mount("tmpfs", dir, "tmpfs", 0, "size=1M") < 0) {
		rmdir(dir);
		skip();
	}
	sparse(dir, config, sizeof(config));
	guest_open(&g);
	guest_up(&g, config);
	assert_int_equal(umount2(dir, MNT_DETACH), 0); /* it goes with the last descriptor, whatever happens here */
	rmdir(dir);
	for (unsigned i = 0; i < 512; i++) {
		r = guest_rw(&g, BLKIF_OP_WRITE, i * 8, 1, 1);
		errors += guest_do(&g, 0, &r) == BLKIF_RSP_ERROR;
	}
	assert_in_range(errors, 256, 511);
	guest_io(&bystander);
	r = guest_rw(&g, BLKIF_OP_WRITE, 0, 2, 1);
	memcpy(g.data + 2 * PV_PAGE_SIZE, "there", 5);
	assert_int_equal(guest_do(&g, 0, &r), BLKIF_RSP_OKAY);
	r = guest_rw(&g, BLKIF_OP_READ, 0, 3, 1);
	assert_int_equal(guest_do(&g, 0, &r), BLKIF_RSP_OKAY);
	memcpy(page, g.data + 2 * PV_PAGE_SIZE, sizeof(page));
	assert_memory_equal(g.data + 3 * PV_PAGE_SIZE, page, sizeof(page));
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nbd_serves_and_its_errors_are_its_guest_s),
		cmocka_unit_test(nbd_that_hangs_delays_its_guest_alone),
		cmocka_unit_test(nbd_that_is_killed_and_comes_back_is_waited_for),
		cmocka_unit_test(nbd_that_stays_away_fails_its_guest_alone),
		cmocka_unit_test(file_that_may_not_grow_fails_its_guest_alone),
		cmocka_unit_test(file_system_that_is_full_fails_its_guest_alone),
	};

	return cmocka_run_group_tests(tests, rig_up, rig_down);
}
