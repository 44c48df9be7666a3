/* image_ram.c - ram:SIZE, a disk in this process's memory: zero at first, and gone with the device or the process. */
#include "image.h"
#include <errno.h>
#include <pvio/blk.h>
#include <pvio/hyper.h>
#include <pvio/log.h>
#include <pvio/noxs.h>
#include <pvio/ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	AHEAD = 4096, /* bytes of an I/O that are fetched before; the processor goes on by itself */
};

struct image_ram {
	struct image head; /* first */
	uint8_t *mem;
	uint64_t bytes;
};

/* Zeroes, and whole pages given back to the system. */
static void discard(uint8_t *from, uint8_t *to)
{
	uint8_t *first = (uint8_t *)(((uintptr_t)from + PV_PAGE_SIZE - 1) & ~(uintptr_t)(PV_PAGE_SIZE - 1));
	uint8_t *last = (uint8_t *)((uintptr_t)to & ~(uintptr_t)(PV_PAGE_SIZE - 1));

	if (first >= last || madvise(first, last - first, MADV_DONTNEED) < 0) {
		memset(from, 0, to - from);
		return;
	}
	memset(from, 0, first - from);
	memset(last, 0, to - last);
}

static void move(uint8_t *to, const uint8_t *from, size_t len, const uint8_t *next)
{
	pv_copy_fetching(to, from, len, next, !next ? 0 : len < AHEAD ? len : AHEAD);
}

static void ram_submit(struct image_io *io)
{
	uint8_t *mem = ((struct image_ram *)io->image)->mem, *at = mem + io->offset;
	const uint8_t *next = io->next ? mem + io->next->offset : NULL;

	if (io->kind == IMAGE_DISCARD)
		discard(at, at + io->len);
	for (unsigned i = 0; i < io->niov && io->kind != IMAGE_FLUSH && io->kind != IMAGE_DISCARD; i++) {
		if (io->kind == IMAGE_READ)
			move(io->iov[i].iov_base, at, io->iov[i].iov_len, next);
		else
			move(at, io->iov[i].iov_base, io->iov[i].iov_len, next);
		at += io->iov[i].iov_len;
		next = NULL;
	}
	io->done = io->len;
	io->end(io, 0);
}

static void ram_close(struct image *im)
{
	struct image_ram *r = (struct image_ram *)im;

	munmap(r->mem, r->bytes);
	free(r);
}

static int ram_open(const struct image_config *c, struct image **out, char *why, size_t len)
{
	struct image_ram *r;
	uint64_t bytes;
	int ret = image_size(c->path, &bytes, why, len);

	*out = NULL;
	if (ret < 0)
		return ret;
	r = calloc(1, sizeof(*r));
	if (!r)
		return pv_why(why, len, -ENOMEM, "ram:%s: out of memory", c->path);
	r->bytes = bytes;
	r->mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->mem == MAP_FAILED) {
		free(r);
		return pv_why(why, len, -ENOMEM, "ram:%s: there is not so much memory: give a smaller size", c->path);
	}
	madvise(r->mem, bytes, MADV_HUGEPAGE); /* else most requests wait for the tables of their page; a kernel without is as slow as it was */
	r->head.ops = &image_ram_ops;
	r->head.facts = (struct image_facts){
		.sectors = bytes / PV_BLK_SECTOR,
		.physical_sector_size = PV_BLK_SECTOR,
		.features = PV_VBD_FLUSH | PV_VBD_BARRIER | (c->discard ? PV_VBD_DISCARD : 0),
		.discard_granularity = PV_PAGE_SIZE,
		.read_only = c->read_only,
	};
	if (c->read_only)
		r->head.facts.features = PV_VBD_FLUSH;
	*out = &r->head;
	return 0;
}

const struct image_ops image_ram_ops = { .name = "ram", .unadoptable = "what ram: holds is gone with its process", .open = ram_open, .close = ram_close, .submit = ram_submit };
