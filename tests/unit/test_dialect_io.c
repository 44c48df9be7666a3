/* test_dialect_io.c - data through both real backends, with devices that the guest finds in XenStore: pvio's own frontends do the
 * rings, and xenbus_port.h lets them find and connect their devices as Linux does.
 *
 * The whole product runs, as processes: hub, pviod, pvio-blkback, pvio-netback, brought up by `pvio sandbox up`.
 */
#include "tests/unit/xenbus_port.h"
#include "tests/unit/sandbox_rig.h"
#include <pvio/blkfront.h>
#include <sys/wait.h>
#include <unistd.h>

enum { XVDA = 51712, DEPTH = 16 };

/* ---- a disk ---- */

static struct pv_blkfront *open_disk(unsigned queues, unsigned order)
{
	const struct pv_blkfront_config c = { .devid = XVDA, .wait_ms = 10000, .queues = (uint16_t)queues, .ring_order = (uint16_t)order };
	uint64_t end = xs_now() + XB_WAIT_MS;
	struct pv_blkfront *f;
	char why[200];

	if (pv_blkfront_open(NULL, G1, &c, &f, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	while (pv_blkfront_state(f) != XenbusStateConnected) {
		assert_true(pv_blkfront_work(f) >= 0);
		assert_true(xs_now() < end);
	}
	return f;
}

/* Wait until `n` completions of any queue came; all must be good. */
static void reap(struct pv_blkfront *f, unsigned n)
{
	uint64_t end = xs_now() + XB_WAIT_MS;
	struct pv_blkfront_done done[DEPTH];

	while (n) {
		struct pollfd p = { .fd = pv_blkfront_fd(f), .events = POLLIN };

		assert_true(pv_blkfront_work(f) >= 0);
		for (unsigned q = 0; q < pv_blkfront_queues(f); q++) {
			int got = pv_blkfront_reap(f, q, done, DEPTH);

			assert_true(got >= 0);
			for (int i = 0; i < got; i++)
				assert_int_equal(done[i].result, 0);
			n -= (unsigned)got;
		}
		if (n)
			poll(&p, 1, 10);
		assert_true(xs_now() < end);
	}
}

/* `bytes` of the disk from 0 on, DEPTH requests at once over all queues: written, or read and compared. */
static void transfer(struct pv_blkfront *f, enum pv_blkfront_op op, uint64_t bytes, unsigned seed)
{
	uint32_t each = pv_blkfront_io_max(f);
	uint8_t *buf[DEPTH];

	for (int i = 0; i < DEPTH; i++)
		assert_non_null(buf[i] = pv_blkfront_buf(f, each));
	for (uint64_t at = 0; at < bytes; at += (uint64_t)each * DEPTH) {
		unsigned n = 0;

		for (; n < DEPTH && at + (uint64_t)n * each < bytes; n++) {
			uint64_t from = at + (uint64_t)n * each, len = bytes - from < each ? bytes - from : each;
			struct pv_blkfront_io io = { .op = op, .offset = from, .len = len, .buf = buf[n] };

			for (uint64_t i = 0; op == PV_BLKFRONT_WRITE && i < len; i++)
				buf[n][i] = byte_at(from + i, seed);
			assert_int_equal(pv_blkfront_queue(f, n % pv_blkfront_queues(f), &io), 0);
		}
		assert_int_equal(pv_blkfront_submit(f), 0);
		reap(f, n);
		for (unsigned k = 0; op == PV_BLKFRONT_READ && k < n; k++)
			for (uint64_t i = 0, from = at + (uint64_t)k * each; i < each && from + i < bytes; i++)
				if (buf[k][i] != byte_at(from + i, seed))
					fail_msg("byte %llu of the disk came back wrong", (unsigned long long)(from + i));
	}
	for (int i = 0; i < DEPTH; i++)
		pv_blkfront_buf_free(f, buf[i], each);
}

static void file_is(uint64_t bytes, unsigned seed)
{
	char path[80];
	uint8_t *data = malloc(bytes);
	int fd;

	assert_non_null(data);
	snprintf(path, sizeof(path), "%s/disk", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, data, bytes, 0), bytes);
	for (uint64_t i = 0; i < bytes; i++)
		assert_int_equal(data[i], byte_at(i, seed));
	close(fd);
	free(data);
}

/* What is written through one shape of rings is in the file, and is read back through another. */
static void disk_is_written_and_read_back(void **state)
{
	static const struct { unsigned queues, order; } shapes[] = { { 1, 0 }, { 2, 2 }, { 4, 4 } };
	enum { BYTES = 9 << 20 };

	(void)state;
	assert_int_equal(pvio("attach g1 vbd xvda path=%s/disk --dialect xenstore", dir), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct pv_blkfront *f = open_disk(shapes[i].queues, shapes[i].order);
		const struct pv_blkfront_io flush = { .op = PV_BLKFRONT_FLUSH };

		assert_int_equal(pv_blkfront_offer(f)->sectors, DISK / 512);
		if (i)
			transfer(f, PV_BLKFRONT_READ, BYTES, i - 1);
		transfer(f, PV_BLKFRONT_WRITE, BYTES, i);
		assert_int_equal(pv_blkfront_queue(f, 0, &flush), 0);
		assert_int_equal(pv_blkfront_submit(f), 0);
		reap(f, 1);
		file_is(BYTES, i);
		pv_blkfront_close(f, 5000);
	}
	assert_int_equal(pvio("detach g1 xvda"), 0);
}

/* dom0 takes the disk while it is used: the frontend is told, ends, and dom0 has it back. */
static void disk_is_taken_while_in_use(void **state)
{
	uint64_t end = xs_now() + XB_WAIT_MS;
	struct pv_blkfront *f;
	pid_t pid;
	int rc, status;

	(void)state;
	assert_int_equal(pvio("attach g1 vbd xvda path=%s/disk --dialect xenstore", dir), 0);
	f = open_disk(2, 1);
	transfer(f, PV_BLKFRONT_READ, 1 << 20, 2);
	pid = fork();
	if (pid == 0)
		_exit(pvio("detach g1 xvda"));
	while ((rc = pv_blkfront_work(f)) >= 0)
		assert_true(xs_now() < end);
	assert_int_equal(rc, -ESHUTDOWN);
	pv_blkfront_close(f, 5000);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(pvio("attach g1 vbd xvda path=%s/disk --dialect xenstore", dir), 0);
	f = open_disk(1, 0);
	transfer(f, PV_BLKFRONT_READ, 1 << 20, 2);
	pv_blkfront_close(f, 5000);
	assert_int_equal(pvio("detach g1 xvda"), 0);
}

/* ---- the network ---- */

static void packets_go_both_ways(void **state)
{
	struct pv_netfront *a, *b;

	(void)state;
	assert_int_equal(pvio("attach g1 vif 1 --dialect xenstore"), 0);
	assert_int_equal(pvio("attach g2 vif 1 mtu=9000 --dialect xenstore"), 0);
	a = sandbox_vif(G1, &(struct pv_netfront_config){ .queues = 1 });
	b = sandbox_vif(G2, &(struct pv_netfront_config){ .queues = 4 });
	sandbox_connected(a);
	sandbox_connected(b);
	assert_int_equal(pv_netfront_offer(b)->mtu, 9000);
	for (unsigned i = 0; i < 20; i++) {
		send_and_receive(a, b, V4, SMALL + i, false, i);
		send_and_receive(b, a, V4, SMALL + 2 * i, false, i);
		send_and_receive(a, b, V4, LARGE, true, i);
		send_and_receive(b, a, V4, LARGE, true, i);
	}
	pv_netfront_close(a, 5000);
	pv_netfront_close(b, 5000);
	a = sandbox_vif(G1, &(struct pv_netfront_config){ .queues = 3 }); /* again, as after rmmod and modprobe */
	b = sandbox_vif(G2, &(struct pv_netfront_config){ .queues = 2 });
	sandbox_connected(a);
	sandbox_connected(b);
	send_and_receive(a, b, V4, LARGE, true, 1);
	send_and_receive(b, a, V4, LARGE, true, 1);
	pv_netfront_close(a, 5000);
	pv_netfront_close(b, 5000);
	assert_int_equal(pvio("detach g1 vif 1"), 0);
	assert_int_equal(pvio("detach g2 vif 1"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disk_is_written_and_read_back),
		cmocka_unit_test(disk_is_taken_while_in_use),
		cmocka_unit_test(packets_go_both_ways),
	};

	if (sandbox_has_no_uring()) {
		printf("SKIP need=uring: io_uring is disabled; set sysctl kernel.io_uring_disabled=0\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, sandbox_up, sandbox_down);
}
