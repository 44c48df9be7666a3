/* dd.h - inside pvio-dd: the device and its chunks, shared by copying (dd_copy.c) and measuring (dd_bench.c). */
#ifndef DD_H
#define DD_H

#include <pvio/blkfront.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	PAGE = 4096,
	POOL_BYTES = 16 << 20, /* of blkfront's pool, at most */
	DONE_BATCH = 64, /* completions reaped at once */
	CONNECT_MS = 5000, /* at least, for the handshake */
	CLOSE_MS = 5000,
	AWAY_MS = 100, /* how often to look while the device is not connected */
	TICK_MS = 1000, /* progress */
};

#define DD_ALL UINT64_MAX

enum bench { BENCH_NONE, BENCH_READ, BENCH_WRITE, BENCH_RANDREAD, BENCH_RANDWRITE };

struct dd_options {
	const char *hypervisor, *in, *out;
	const char *vbd;
	uint32_t devid;
	int domid, wait_ms, seconds_ms;
	uint64_t bs, count /* DD_ALL: to the end */, skip, seek;
	unsigned iodepth, queues;
	bool flush, json;
	unsigned status; /* 1: progress */
	struct {
		uint64_t offset, len;
	} discard; /* len 0: none */
	unsigned bench; /* enum bench */
};

/* A piece of the copy. Its buffer is the device's from queue to completion. */
enum chunk_state { CHUNK_FREE, CHUNK_FILLING /* from the input */, CHUNK_ASKED, CHUNK_DONE };

struct chunk {
	enum chunk_state state;
	int result;
	uint8_t *buf;
	uint64_t offset, len; /* on the device, whole sectors */
	uint64_t want; /* bytes of them that are data */
	uint64_t asked_ns;
};

/* Owner: main. */
struct dd {
	const struct dd_options *o;
	struct pv_blkfront *f;
	struct chunk *chunk; /* depth of them; `single` is one more, for what is done alone */
	struct chunk single;
	unsigned depth, chunk_len;
	uint64_t head, tail; /* chunks [head, tail) are in use, modulo depth */
	uint64_t pos, end; /* on the device: next byte to ask for, and where to stop */
	uint64_t bytes, written; /* copied: in all; of the oldest chunk to the output */
	uint64_t start_ns, told_ms;
	unsigned away; /* looks at the device in vain */
	unsigned next_queue;
	int file; /* input or output, -1: none */
	bool pipe, eof, starved /* the input has nothing now */, full /* the device, and more came */;
	uint64_t ios, latency_ns, seed; /* bench */
	char why[320];
};

extern volatile sig_atomic_t dd_interrupted; /* the signal, 0: none */

/* dd_device.c. All return 0, or -errno after dd_fail. */
uint64_t dd_now_ns(void);
int __attribute__((format(printf, 3, 4))) dd_fail(struct dd *d, int err, const char *fmt, ...); /* fills why, returns err */
int dd_device_error(struct dd *d, int rc); /* dd_fail in blkfront's words */
int dd_open_device(struct dd *d);
int dd_make_chunks(struct dd *d);
int dd_ask(struct dd *d, struct chunk *c, enum pv_blkfront_op op);
int dd_reap(struct dd *d); /* completed chunks turn CHUNK_DONE */
int dd_wait(struct dd *d); /* sleep until the device or a pipe has something */
int dd_single(struct dd *d, enum pv_blkfront_op op, uint64_t offset, uint64_t len); /* one I/O, to its end */
void dd_tell_progress(struct dd *d);

/* dd_copy.c */
int dd_open_file(struct dd *d);
int dd_plan(struct dd *d); /* from where to where */
int dd_copy(struct dd *d);

/* dd_bench.c */
int dd_bench(struct dd *d);

#endif
