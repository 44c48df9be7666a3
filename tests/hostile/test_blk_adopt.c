/* A process of pvio-blkback is killed, and the next one goes on with the same rings: but not before the last write of the dead one is done.
 *
 * A write that is still on its way is made, not hoped for: this test takes a copy of the process' descriptor of the image, the same open
 * file description, as the kernel has one for as long as a request is in flight, and writes to it when it likes. What the process had taken
 * is written into its in-flight log. Every instant of the log itself: unit/test_blkback_adopt. */
#include "tests/hostile/blk_rig.h"
#include "blkback/blkback.h"
#include <sys/file.h>
#include <sys/syscall.h>

static struct guest g;

static const char *const args[] = { "--workers", "2", "--poll-us", "20", NULL };

static int adopt_with(struct guest *of, const char *more, uint32_t features)
{
	struct json_object *config = config_json(of, more), *params;
	struct pv_connect c = { .id = guest_device(of), .config = config, .choice = guest_choice(of, features), .adopt = true };

	params = pv_connect_to_json(&c);
	json_object_put(config);
	return rig_call("connect", params);
}

static int adopt(struct guest *of)
{
	return adopt_with(of, NULL, PV_VBD_PERSISTENT);
}

/* As pviod does. */
static void adopt_patiently(struct guest *of)
{
	int64_t end = rig_ms() + PATIENCE;
	int ret;

	while ((ret = adopt(of)) == -EAGAIN && rig_ms() < end)
		usleep(1000);
	if (ret)
		fail_msg("adopt: %s", rig_last.message);
}

static void die(void)
{
	kill(rig.backend, SIGKILL);
	waitpid(rig.backend, NULL, 0);
}

static void next(void)
{
	assert_int_equal(rig_start_backend("pvio-blkback", args), 0);
	adopt_patiently(&bystander);
}

/* The backend's own open file description of the guest's image. */
static int image_of_backend(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, rig.backend, 0), found = -1;
	char path[64], to[200];

	assert_true(pidfd >= 0);
	for (int fd = 3; fd < 1024 && found < 0; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", rig.backend, fd);
		n = readlink(path, to, sizeof(to) - 1);
		if (n > 0 && (to[n] = '\0', strcmp(to, g.image) == 0))
			found = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	}
	close(pidfd);
	assert_true(found >= 0);
	fcntl(found, F_SETFL, fcntl(found, F_GETFL) & ~O_DIRECT);
	return found;
}

/* The guest has published a request, and the process had taken it when it died. */
static void taken(const struct pv_blk_req *r)
{
	struct pv_connect c = { .id = guest_device(&g), .choice = guest_choice(&g, PV_VBD_PERSISTENT), .adopt = true };
	uint32_t index = g.q[0].ring.prod;
	struct blkr_record *record;
	struct pv_inflight *log;
	char why[300];

	guest_put(&g, 0, r);
	guest_notify(&g, 0);
	if (adopt_log_open(&c, &log, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	record = (struct blkr_record *)pv_inflight_ring(log, 0)->records + 3;
	memcpy(&record->raw, pv_ring_slot(&g.q[0].ring, index), sizeof(record->raw));
	record->mark = adopt_mark(BLKR_TAKEN, 0, index);
	pv_inflight_ring(log, 0)->taken = index + 1;
	pv_inflight_close(log);
}

static void fill_page(unsigned page, uint8_t with)
{
	memset(g.data + (size_t)page * PV_PAGE_SIZE, with, PV_PAGE_SIZE);
}

/* The process dies with a write of 1s in flight. The next one may have it done again, and the guest then writes 2s, which is acknowledged.
 * When the write of the dead process arrives at last, with or without the lock in its way: what is there? */
static uint8_t late_write(bool locked)
{
	struct pv_blk_req wr = guest_rw(&g, BLKIF_OP_WRITE, 800, 1, 1);
	struct flock all = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
	uint8_t ones[PV_PAGE_SIZE], there;
	struct blkif_response rsp;
	int late;

	memset(ones, 1, sizeof(ones));
	late = image_of_backend();
	die();
	fill_page(1, 1);
	taken(&wr);
	next();
	if (locked) {
		for (int i = 0; i < 20; i++) { /* for as long as it takes */
			assert_int_equal(adopt(&g), -EAGAIN);
			assert_non_null(strstr(rig_last.message, g.image));
			usleep(1000);
		}
		assert_int_equal(pwrite(late, ones, sizeof(ones), 800 * 512), sizeof(ones));
		close(late);
		adopt_patiently(&g);
	} else {
		assert_int_equal(flock(late, LOCK_UN), 0);
		assert_int_equal(fcntl(late, F_OFD_SETLK, &all), 0);
		assert_int_equal(adopt(&g), 0);
	}
	rsp = guest_wait(&g, 0);
	assert_int_equal(rsp.id, wr.id);
	assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
	assert_int_equal(guest_stat(&g, "replayed"), 1);
	assert_true(guest_stat(&g, "pause_us") > 0);
	fill_page(1, 2);
	assert_int_equal(guest_do(&g, 0, &wr), BLKIF_RSP_OKAY);
	if (!locked) {
		assert_int_equal(pwrite(late, ones, sizeof(ones), 800 * 512), sizeof(ones));
		close(late);
	}
	late = open(g.image, O_RDONLY);
	assert_int_equal(pread(late, &there, 1, 800 * 512), 1);
	close(late);
	return there;
}

static void late_write_loses_data_without_the_lock(void **state)
{
	(void)state;
	assert_int_equal(late_write(false), 1); /* acknowledged, and gone */
}

static void late_write_is_waited_for(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(late_write(true), 2);
}

/* A device that is not connected waits as well, and is told who is to blame. */
static void prepare_waits_for_late_writes(void **state)
{
	int late;

	(void)state;
	guest_down(&g);
	assert_int_equal(guest_prepare(&g, NULL), 0);
	late = image_of_backend();
	die();
	next();
	assert_int_equal(guest_prepare(&g, NULL), -EAGAIN);
	assert_non_null(strstr(rig_last.message, g.image));
	assert_non_null(strstr(rig_last.message, "in flight"));
	close(late);
	assert_int_equal(guest_prepare(&g, NULL), 0);
	assert_int_equal(guest_call(&g, "remove"), 0);
	guest_up(&g, NULL);
}

/* Somebody else has the image: the guest is not told, it waits. */
static void image_taken_meanwhile_is_waited_for(void **state)
{
	int thief;

	(void)state;
	die();
	thief = open(g.image, O_RDWR | O_CLOEXEC);
	while (flock(thief, LOCK_EX | LOCK_NB))
		usleep(1000);
	next();
	assert_int_equal(adopt(&g), -EAGAIN);
	assert_non_null(strstr(rig_last.message, "test_blk_adopt")); /* names who */
	close(thief);
	assert_int_equal(adopt(&g), 0);
	guest_io(&g);
}

static void ram_cannot_be_taken_over(void **state)
{
	static const char ram[] = "{\"path\":\"ram:4M\"}";
	struct guest r;

	(void)state;
	guest_open(&r);
	guest_up(&r, ram);
	assert_int_equal(rig_call("retire", NULL), -EOPNOTSUPP); /* which would be the end of it */
	assert_non_null(strstr(rig_last.message, "ram:"));
	guest_io(&g);
	die();
	next();
	assert_int_equal(adopt_with(&r, ram, PV_VBD_PERSISTENT), -EOPNOTSUPP);
	assert_non_null(strstr(rig_last.message, "ram:"));
	assert_int_equal(guest_call(&r, "remove"), 0);
	guest_rings_end(&r);
	guest_close(&r);
	assert_int_equal(adopt(&g), 0);
}

static void only_the_same_connection_is_adopted(void **state)
{
	(void)state;
	die();
	next();
	g.q[0].gref[0] ^= 1; /* another choice than was served */
	assert_int_equal(adopt(&g), -ENOENT);
	g.q[0].gref[0] ^= 1;
	assert_int_equal(adopt(&g), 0);
	assert_int_equal(adopt(&g), 0); /* it serves already */
	guest_io(&g);
}

/* The process before lives still, without our knowing: it keeps its devices until it has ended. */
static void two_never_serve_the_same_rings(void **state)
{
	pid_t old = rig.backend;

	(void)state;
	kill(old, SIGSTOP);
	assert_int_equal(rig_start_backend("pvio-blkback", args), 0);
	assert_int_equal(adopt(&g), -EAGAIN);
	kill(old, SIGKILL);
	waitpid(old, NULL, 0);
	adopt_patiently(&g);
	adopt_patiently(&bystander);
	guest_io(&g);
}

/* The kernel closes what a dead process had in an order of its own: the log and the image are free, and a port is not yet. Here its other end is this
 * test's. A queue before it serves already, and goes on later. */
static void port_that_is_not_free_is_waited_for(void **state)
{
	struct pv_blk_req rd = guest_rw(&g, BLKIF_OP_READ, 80, 1, 1);
	int port;

	(void)state;
	guest_down(&g);
	guest_up_with(&g, NULL, 2, 0, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT);
	die();
	port = pv_evt_bind(rig.dom0, g.domid, g.q[1].port);
	assert_true(port > 0);
	guest_put(&g, 0, &rd);
	guest_notify(&g, 0);
	next();
	for (int i = 0; i < 5; i++) {
		assert_int_equal(adopt(&g), -EAGAIN);
		assert_non_null(strstr(rig_last.message, "event channel"));
	}
	assert_int_equal(pv_evt_unbind(rig.dom0, (uint32_t)port), 0);
	assert_int_equal(adopt(&g), 0);
	assert_int_equal(guest_wait(&g, 0).status, BLKIF_RSP_OKAY);
	assert_int_equal(pv_ring_ready(&g.q[0].ring), 0);
	assert_int_equal(guest_do(&g, 1, &rd), BLKIF_RSP_OKAY);
}

static void guest_that_lies_meanwhile_is_broken_alone(void **state)
{
	unsigned before = rig.broken;

	(void)state;
	die();
	((struct pv_any_sring *)g.q[0].pages)->req_prod += 5000;
	next();
	assert_int_equal(adopt(&g), 0);
	wait_broken(&g, before + 1);
	guest_down(&g);
	guest_up(&g, NULL); /* and it may begin anew */
	guest_io(&g);
}

/* All kinds of requests, killed anywhere. */
static void killed_under_load(void **state)
{
	static const uint8_t ops[] = { BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER };

	(void)state;
	for (unsigned round = 0; round < 10; round++) {
		unsigned n = g.q[0].ring.nr;

		for (unsigned i = 0; i < n; i++) {
			struct pv_blk_req r = guest_rw(&g, ops[(i * 5 + round) % 4], i * 24, 1 + i * 3, 1 + (i + round) % 3);

			guest_put(&g, 0, &r);
		}
		guest_notify(&g, 0);
		usleep(round * 50);
		die();
		next();
		adopt_patiently(&g);
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(guest_wait(&g, 0).status, BLKIF_RSP_OKAY);
		assert_int_equal(pv_ring_ready(&g.q[0].ring), 0);
	}
}

static int up(void **state)
{
	(void)state;
	guest_open(&g);
	guest_up(&g, NULL);
	return 0;
}

static int down(void **state)
{
	(void)state;
	guest_down(&g);
	guest_close(&g);
	guest_io(&bystander);
	assert_int_equal(waitpid(rig.backend, NULL, WNOHANG), 0);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(late_write_loses_data_without_the_lock),
		TEST(late_write_is_waited_for),
		TEST(prepare_waits_for_late_writes),
		TEST(image_taken_meanwhile_is_waited_for),
		TEST(ram_cannot_be_taken_over),
		TEST(only_the_same_connection_is_adopted),
		TEST(two_never_serve_the_same_rings),
		TEST(port_that_is_not_free_is_waited_for),
		TEST(guest_that_lies_meanwhile_is_broken_alone),
		TEST(killed_under_load),
	};

	return cmocka_run_group_tests(tests, rig_up, rig_down);
}
