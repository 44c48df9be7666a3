/* blocks.h - what the programs that load a disk share: which block comes next, and the proof, before anything is timed, that what is
 * written is on the disk and what is read comes from there.
 */
#ifndef PERF_BLOCKS_H
#define PERF_BLOCKS_H

#include "perf.h"
#include <fcntl.h>

enum blocks_mode { RANDREAD, RANDWRITE, READ, WRITE };
static const char *const blocks_modes[] = { "randread", "randwrite", "read", "write", NULL };

/* A disk as blocks of bs bytes. Owner: whoever loads it. */
struct blocks {
	unsigned mode;
	uint64_t bs, nr;
	uint64_t next, random; /* sequential: the next one; the state of the generator */
};

static inline struct blocks blocks_new(unsigned mode, uint64_t bs, uint64_t bytes)
{
	struct blocks b = { .mode = mode, .bs = bs, .nr = bytes / bs, .random = 88172645463325252ull };

	if (b.nr == 0)
		perf_die("the disk is smaller than one block of %lu bytes", bs);
	return b;
}

static inline bool blocks_write(const struct blocks *b)
{
	return b->mode == RANDWRITE || b->mode == WRITE;
}

static inline bool blocks_random(const struct blocks *b)
{
	return b->mode == RANDREAD || b->mode == RANDWRITE;
}

/* One after the other begins at the disk's first block again, as fio does each time: the host of a machine like ours may have kept what was moved last. */
static inline void blocks_begin(struct blocks *b)
{
	b->next = b->nr - 1;
}

/* Which block comes next: xorshift64* spread over the disk, or one after the other. */
static inline uint64_t blocks_next(struct blocks *b)
{
	if (!blocks_random(b)) {
		b->next = b->next + 1 < b->nr ? b->next + 1 : 0;
		return b->next;
	}
	b->random ^= b->random >> 12;
	b->random ^= b->random << 25;
	b->random ^= b->random >> 27;
	return (uint64_t)(((unsigned __int128)(b->random * 2685821657736338717ull) * b->nr) >> 64);
}

/* ---- the proof ---- */

/* Of a disk: do n blocks, block[i] in buf + i * bs, all in flight at once, and wait for them. */
typedef void blocks_io(void *arg, bool write, const uint64_t *block, unsigned n);

struct blocks_proof {
	uint64_t bytes; /* so much is written and read back; 0: nothing */
	const char *image; /* a file, which must hold what was written; NULL: it cannot be looked at */
	unsigned depth;
	uint8_t *buf;
	blocks_io *io;
	void *arg;
};

/* The k-th of all blocks, each comes once: as they lie, or, for random modes, far from one another. */
static inline uint64_t blocks_at(const struct blocks *b, uint64_t k)
{
	return blocks_random(b) ? k * 2654435761u /* a prime */ % b->nr : k;
}

static inline uint64_t blocks_word(uint64_t block, uint64_t i)
{
	return (block << 20 ^ i) * 0x9e3779b97f4a7c15ull;
}

static inline void blocks_fill(const struct blocks *b, uint64_t block, uint8_t *buf)
{
	for (uint64_t i = 0; i < b->bs / 8; i++)
		((uint64_t *)buf)[i] = blocks_word(block, i);
}

static inline void blocks_check(const struct blocks *b, uint64_t block, const uint8_t *buf, const char *where)
{
	for (uint64_t i = 0; i < b->bs / 8; i++)
		if (((const uint64_t *)buf)[i] != blocks_word(block, i))
			perf_die("block %lu of %lu bytes is not what was written, %s", block, b->bs, where);
}

/* The same blocks, as the file has them. */
static inline void blocks_check_image(const struct blocks *b, const struct blocks_proof *p, const uint64_t *block, unsigned n)
{
	int fd = open(p->image, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		perf_die("%s: %s", p->image, strerror(errno));
	for (unsigned i = 0; i < n; i++) {
		memset(p->buf, 0, b->bs);
		if (pread(fd, p->buf, b->bs, (off_t)(block[i] * b->bs)) != (ssize_t)b->bs)
			perf_die("%s: block %lu cannot be read", p->image, block[i]);
		blocks_check(b, block[i], p->buf, p->image);
	}
	close(fd);
}

/* Write blocks, as many at once as will be measured; read them back. */
static inline void blocks_prove(const struct blocks *b, const struct blocks_proof *p)
{
	uint64_t all = p->bytes / b->bs < b->nr ? p->bytes / b->bs : b->nr, block[p->depth];

	for (int write = 1; write >= 0; write--)
		for (uint64_t k = 0; k < all; k += p->depth) {
			unsigned n = all - k < p->depth ? (unsigned)(all - k) : p->depth;

			for (unsigned i = 0; i < n; i++) {
				block[i] = blocks_at(b, k + i);
				if (write)
					blocks_fill(b, block[i], p->buf + i * b->bs);
			}
			if (!write)
				memset(p->buf, 0, n * b->bs);
			p->io(p->arg, write, block, n);
			for (unsigned i = 0; i < n && !write; i++)
				blocks_check(b, block[i], p->buf + i * b->bs, "as the disk says");
			if (write && p->image)
				blocks_check_image(b, p, block, n);
		}
}

#endif
