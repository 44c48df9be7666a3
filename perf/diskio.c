/* diskio.c - a block device under load, through io_uring and O_DIRECT: in a guest, whoever serves its disk.
 *
 *	diskio DEVICE read|write BYTES DEPTH SECONDS
 * Sequential, from the start of the device and around; DEPTH requests of BYTES in flight. One line: op, bytes, depth, ops, seconds.
 */
#include "perf.h"
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

enum { DEPTH_MAX = 256 };

/* Owner: main. */
struct load {
	struct io_uring ring;
	uint8_t *buf; /* depth pieces of `bytes` */
	uint64_t bytes, blocks, next;
	unsigned depth;
	bool write;
};

static void submit(struct load *l, unsigned i)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);
	uint64_t at = l->next++ % l->blocks * l->bytes;

	if (l->write)
		io_uring_prep_write(sqe, 0, l->buf + i * l->bytes, l->bytes, at);
	else
		io_uring_prep_read(sqe, 0, l->buf + i * l->bytes, l->bytes, at);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, i);
}

/* Keep the depth until `end`, then let what is in flight end. Returns how many were done. */
static uint64_t run(struct load *l, double end)
{
	uint64_t done = 0;
	unsigned flying = 0, head;
	struct io_uring_cqe *cqe;

	for (unsigned i = 0; i < l->depth; i++, flying++)
		submit(l, i);
	while (flying) {
		bool more = perf_now() < end;
		unsigned n = 0;

		io_uring_submit_and_wait(&l->ring, 1);
		io_uring_for_each_cqe(&l->ring, head, cqe) {
			if (cqe->res != (int)l->bytes)
				perf_die("a request of %llu bytes ended with %d", (unsigned long long)l->bytes, cqe->res);
			n++;
			if (more)
				submit(l, io_uring_cqe_get_data64(cqe));
			else
				flying--;
		}
		io_uring_cq_advance(&l->ring, n);
		done += n;
	}
	return done;
}

int main(int argc, char **argv)
{
	struct load l = { .write = argc == 6 && !strcmp(argv[2], "write") };
	uint64_t size, ops;
	double begin;
	int fd;

	if (argc != 6 || (!l.write && strcmp(argv[2], "read")))
		perf_die("usage: diskio DEVICE read|write BYTES DEPTH SECONDS");
	l.bytes = strtoull(argv[3], NULL, 10);
	l.depth = (unsigned)strtoul(argv[4], NULL, 10);
	fd = open(argv[1], (l.write ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) < 0)
		perf_die("%s: %s", argv[1], strerror(errno));
	if (!l.bytes || l.bytes % 512 || !l.depth || l.depth > DEPTH_MAX || size / l.bytes < l.depth)
		perf_die("BYTES is a multiple of 512, DEPTH 1 to %d, and the device holds that much", DEPTH_MAX);
	l.blocks = size / l.bytes;
	if (posix_memalign((void **)&l.buf, 4096, l.depth * l.bytes))
		perf_die("out of memory");
	memset(l.buf, 0x5a, l.depth * l.bytes);
	if (io_uring_queue_init(DEPTH_MAX, &l.ring, 0) < 0 || io_uring_register_files(&l.ring, &fd, 1) < 0)
		perf_die("io_uring is not usable here");
	begin = perf_now();
	ops = run(&l, begin + strtod(argv[5], NULL));
	printf("op=%s bytes=%llu depth=%u ops=%llu seconds=%.3f\n", argv[2], (unsigned long long)l.bytes, l.depth, (unsigned long long)ops,
	       perf_now() - begin);
	return 0;
}
