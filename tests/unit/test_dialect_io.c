/* test_dialect_io.c - data through both real backends, with devices that the guest finds in XenStore: pvio's own frontends do the
 * rings, and xenbus_port.h lets them find and connect their devices as Linux does.
 *
 * The whole product runs, as processes: hub, pviod, pvio-blkback, pvio-netback, brought up by `pvio sandbox up`.
 */
#include "tests/unit/xenbus_port.h"
#include <fcntl.h>
#include <pvio/blkfront.h>
#include <pvio/netfront.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xen/io/netif.h>

enum { DISK = 64 << 20, XVDA = 51712, G1 = 1, G2 = 2 /* domids: the hub's lowest */, DEPTH = 16 };

static char dir[64], bin[400];

/* ---- up and down ---- */

/* A command of this build, with stdout to a file that is shown only if it fails. Returns its exit code. */
static __attribute__((format(printf, 1, 2))) int pvio(const char *fmt, ...)
{
	char line[1200], args[400];
	va_list ap;
	int rc;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "%s/pvio %s >%s/out 2>&1 || { cat %s/out >&2; false; }", bin, args, dir, dir);
	rc = system(line);
	return WIFEXITED(rc) ? WEXITSTATUS(rc) : -1;
}

static bool uring_is_off(void)
{
	FILE *f = fopen("/proc/sys/kernel/io_uring_disabled", "r");
	int v = 0;

	if (f && fscanf(f, "%d", &v) != 1)
		v = 0;
	if (f)
		fclose(f);
	return v != 0;
}

static int up(void **state)
{
	char path[80];
	ssize_t n = readlink("/proc/self/exe", bin, sizeof(bin) - 1);
	int fd;

	(void)state;
	assert_true(n > 0);
	for (int i = 0; i < 3; i++) /* build/tests/unit/test_x */
		*strrchr(bin, '/') = '\0';
	strcpy(dir, "/tmp/pvio-io.XXXXXX");
	assert_non_null(mkdtemp(dir));
	setenv("PVIO_RUNDIR", dir, 1);
	setenv("PVIO_HYPERVISOR", "loopback", 1);
	snprintf(path, sizeof(path), "%s/disk", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, DISK), 0);
	close(fd);
	return pvio("sandbox up --guests 2");
}

static int down(void **state)
{
	int rc;

	(void)state;
	port_down();
	rc = pvio("sandbox down");
	if (rc == 0) {
		char line[100];

		snprintf(line, sizeof(line), "rm -r %s", dir);
		rc = system(line);
	}
	return rc;
}

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

static uint8_t byte_at(uint64_t offset, unsigned seed)
{
	uint64_t x = (offset / 8 + seed) * 0x9e3779b97f4a7c15ull;

	return (uint8_t)(x >> (8 * (offset % 8)));
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

enum { LARGE = 40000, SMALL = 700, MSS = 1400, HEADERS = 14 + 20 + 20 };

static struct pv_netfront *open_vif(int domid, unsigned queues)
{
	const struct pv_netfront_config c = { .devid = 1, .wait_ms = 10000, .queues = (uint16_t)queues };
	struct pv_netfront *f;
	char why[200];

	if (pv_netfront_open(NULL, domid, &c, &f, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return f;
}

static void connected(struct pv_netfront *f)
{
	uint64_t end = xs_now() + XB_WAIT_MS;

	while (pv_netfront_state(f) != XenbusStateConnected) {
		assert_true(pv_netfront_work(f) >= 0);
		assert_true(xs_now() < end);
	}
}

/* A TCP segment from one to the other, `len` bytes in all; its checksum is blank. */
static void fill_packet(uint8_t *p, uint32_t len, const struct pv_netfront *from, const struct pv_netfront *to, unsigned seed)
{
	memset(p, 0, HEADERS);
	memcpy(p, pv_netfront_offer(to)->mac, 6);
	memcpy(p + 6, pv_netfront_offer(from)->mac, 6);
	p[12] = 0x08;
	p[14] = 0x45;
	p[16] = (uint8_t)((len - 14) >> 8);
	p[17] = (uint8_t)(len - 14);
	p[22] = 64;
	p[23] = 6;
	p[26] = p[30] = 10;
	p[29] = from == to ? 1 : 2;
	p[33] = 3;
	p[14 + 20 + 12] = 0x50;
	for (uint32_t i = HEADERS; i < len; i++)
		p[i] = byte_at(i, seed);
}

/* Send until it arrives (what is sent before the other has posted its pages is lost, as on any wire). Returns how long it was. */
static uint32_t send_and_receive(struct pv_netfront *from, struct pv_netfront *to, uint32_t len, bool gso, unsigned seed)
{
	static uint8_t out[65536], in[65536];
	struct pv_netfront_packet tx = { .data = out, .len = len, .csum_blank = true, .gso_type = gso ? XEN_NETIF_GSO_TYPE_TCPV4 : 0,
					 .gso_size = gso ? MSS : 0 };
	struct pv_netfront_packet rx;
	uint64_t end = xs_now() + XB_WAIT_MS, again = 0;

	fill_packet(out, len, from, to, seed);
	for (;;) {
		assert_true(xs_now() < end);
		if (xs_now() >= again) {
			assert_true(pv_netfront_send(from, 0, &tx, 1) >= 0);
			again = xs_now() + 100;
		}
		assert_true(pv_netfront_work(from) >= 0 && pv_netfront_work(to) >= 0);
		for (unsigned q = 0; q < pv_netfront_queues(to); q++) {
			rx = (struct pv_netfront_packet){ .data = in, .len = sizeof(in) };
			if (pv_netfront_recv(to, q, &rx, 1) != 1 || rx.len != len || memcmp(in + HEADERS, out + HEADERS, len - HEADERS))
				continue;
			assert_true(rx.csum_blank); /* as it was sent: nobody had to look at it */
			assert_int_equal(rx.gso_type, tx.gso_type);
			assert_int_equal(rx.gso_size, tx.gso_size);
			return rx.len;
		}
	}
}

static void packets_go_both_ways(void **state)
{
	struct pv_netfront *a, *b;

	(void)state;
	assert_int_equal(pvio("attach g1 vif 1 --dialect xenstore"), 0);
	assert_int_equal(pvio("attach g2 vif 1 mtu=9000 --dialect xenstore"), 0);
	a = open_vif(G1, 1);
	b = open_vif(G2, 4);
	connected(a);
	connected(b);
	assert_int_equal(pv_netfront_offer(b)->mtu, 9000);
	for (unsigned i = 0; i < 20; i++) {
		send_and_receive(a, b, SMALL + i, false, i);
		send_and_receive(b, a, SMALL + 2 * i, false, i);
		send_and_receive(a, b, LARGE, true, i);
		send_and_receive(b, a, LARGE, true, i);
	}
	pv_netfront_close(a, 5000);
	pv_netfront_close(b, 5000);
	a = open_vif(G1, 3); /* again, as after rmmod and modprobe */
	b = open_vif(G2, 2);
	connected(a);
	connected(b);
	send_and_receive(a, b, LARGE, true, 1);
	send_and_receive(b, a, LARGE, true, 1);
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

	if (uring_is_off()) {
		printf("SKIP need=uring: io_uring is disabled; set sysctl kernel.io_uring_disabled=0\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, up, down);
}
