/* A queue is adopted from every instant of its process' life: its worker is run instruction by instruction (the processor's trap flag), and each
 * time that it has changed what would outlive it, the next process begins there, serves until nothing is left, and the guest looks at what it got:
 *	each request answered once, none before a barrier that it came after, nor after one that it came before
 *	each block as the last acknowledged write left it
 *	and, on stable storage, no older than what a FLUSH or a barrier acknowledged. The image loses everything else with the power
 * Then the clock is turned back, and the worker executes its next instruction. */
#include "blkback/blkback.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum {
	SLOTS = 32, SEGS = 3 /* blocks a request, at most */, BLOCKS = 64, DISCARDS = 48 /* blocks from here on are only discarded */,
	OLD = 7777 /* what those held */, BLOCK_SECTORS = PV_PAGE_SIZE / PV_BLK_SECTOR, ROUNDS = 5, PAGES = 1 + SLOTS * (SEGS + 1),
	HELD = 64,
};

/* A request as the guest remembers it. */
struct asked {
	bool out; /* in flight */
	uint8_t op; /* as answered */
	int16_t status; /* expected */
	uint64_t id, order, block;
	unsigned n;
	uint64_t stamp[SEGS]; /* written, or expected to be read */
	uint64_t durable[BLOCKS]; /* a FLUSH or barrier: what it makes durable */
	bool reads, writes, flushes, discards, barrier;
};

/* What outlives a process; all that an instant is. */
struct world {
	struct pv_inflight_ring log;
	struct blkr_record records[SLOTS];
	uint64_t on_disk[BLOCKS], stable[BLOCKS]; /* a block is one number */
	/* the guest's */
	struct pv_ring front;
	struct asked asked[SLOTS];
	uint64_t model[BLOCKS], durable[BLOCKS];
	bool busy[BLOCKS];
	uint64_t stamp, order, answers, random;
};

static struct world *const world = &(struct world){ .order = 0 };
static _Alignas(PV_PAGE_SIZE) uint8_t arena[PAGES * PV_PAGE_SIZE]; /* the guest's pages: gref = page; the first is the ring */
static enum pv_vbd_abi abi;
static const struct pv_blk_disk disk = { .sectors = BLOCKS * BLOCK_SECTORS, .sector_size = PV_BLK_SECTOR, .indirect_max = 32,
					 .features = PV_VBD_FLUSH | PV_VBD_BARRIER | PV_VBD_DISCARD };

static uint64_t *stamp_at(unsigned page)
{
	return (uint64_t *)(arena + (size_t)page * PV_PAGE_SIZE);
}

static unsigned draw(unsigned n)
{
	world->random = world->random * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(world->random >> 33) % n;
}

/* ---- the hypervisor ---- */

static int map(struct pv_hyper *h, uint16_t domid, const uint32_t *grefs, unsigned n, bool writable, const struct pv_gnt_notice *notice, void **addr)
{
	(void)h, (void)domid, (void)writable, (void)notice;
	for (unsigned i = 0; i < n; i++)
		if (grefs[i] != grefs[0] + i || grefs[i] >= PAGES)
			return -EACCES;
	*addr = arena + (size_t)grefs[0] * PV_PAGE_SIZE;
	return 0;
}

static int unmap(struct pv_hyper *h, void *addr, unsigned n)
{
	(void)h, (void)addr, (void)n;
	return 0;
}

static int evt_bind(struct pv_hyper *h, uint16_t domid, uint32_t port)
{
	(void)h, (void)domid;
	return (int)port;
}

static unsigned notified;

static int evt(struct pv_hyper *h, uint32_t port)
{
	(void)h, (void)port;
	notified++;
	return 0;
}

static const struct pv_hyper_ops hyper_ops = { .name = "test", .map = map, .unmap = unmap, .evt_bind = evt_bind, .evt_unbind = evt,
					       .evt_notify = evt };

/* ---- the image: I/O ends when it is told to ---- */

static struct held {
	struct image_io *io;
	uint64_t then[BLOCKS]; /* FLUSH: what was on disk when it began */
} held[HELD];
static unsigned nheld;

static void image_submit_(struct image_io *io)
{
	assert_true(nheld < HELD);
	assert_true(io->offset <= BLOCKS * PV_PAGE_SIZE && io->len <= BLOCKS * PV_PAGE_SIZE - io->offset);
	if (io->kind == IMAGE_WRITE_DSYNC)
		assert_int_equal(nheld, 0); /* a barrier's, alone */
	held[nheld].io = io;
	memcpy(held[nheld].then, world->on_disk, sizeof(held[nheld].then));
	nheld++;
}

static void move_blocks(struct image_io *io)
{
	uint64_t b = io->offset / PV_PAGE_SIZE;

	for (unsigned i = 0; i < io->niov; i++)
		for (size_t at = 0; at < io->iov[i].iov_len; at += PV_PAGE_SIZE, b++) {
			uint64_t *page = (uint64_t *)((uint8_t *)io->iov[i].iov_base + at);

			if (io->kind == IMAGE_READ)
				*page = world->on_disk[b];
			else
				world->on_disk[b] = *page;
			if (io->kind == IMAGE_WRITE_DSYNC)
				world->stable[b] = world->on_disk[b];
		}
}

static void end_one(unsigned k)
{
	struct held h = held[k];
	struct image_io *io = h.io;

	held[k] = held[--nheld];
	if (io->kind == IMAGE_FLUSH)
		memcpy(world->stable, h.then, sizeof(world->stable));
	else if (io->kind == IMAGE_DISCARD)
		for (uint64_t b = io->offset / PV_PAGE_SIZE; b < (io->offset + io->len) / PV_PAGE_SIZE; b++)
			world->on_disk[b] = 0;
	else
		move_blocks(io);
	io->done = io->len;
	io->end(io, 0);
}

static const struct image_ops image_ops = { .name = "test", .submit = image_submit_ };
static struct image image = { .ops = &image_ops };

/* ---- the worker ---- */

static struct pv_hyper hyper = { .ops = &hyper_ops };
static unsigned sq_head;
static struct blkworker worker = { .hyper = &hyper, .o = { .broken_fd = -1 },
				   .uring = { .ring = { .sq = { .khead = &sq_head, .ring_entries = 64 } } } };

static struct blkq *serve(void)
{
	uint32_t ring_gref = 0;
	struct blkq_config c = { .ring_gref = &ring_gref, .port = 1, .abi = abi, .persistent = true, .cache = 64, .image = &image, .disk = disk,
				 .log = &world->log, .adopt = true };
	struct blkq *q;
	char why[200];

	nheld = 0;
	TAILQ_INIT(&worker.active);
	TAILQ_INIT(&worker.resting);
	TAILQ_INIT(&worker.all);
	TAILQ_INIT(&worker.broken);
	TAILQ_INIT(&worker.shares);
	if (blkq_open(&worker, &c, &q, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return q;
}

/* A turn, in which some I/O ends. */
static void turn(struct blkq *q, bool all)
{
	worker.turns++;
	blkq_take(q);
	for (unsigned i = all ? nheld : draw(nheld + 1); i > 0 && nheld; i--)
		end_one(draw(nheld));
	blkq_publish(q);
}

/* ---- the guest ---- */

static uint8_t *front_slot(void)
{
	return pv_ring_fill(&world->front);
}

static void put_32(const struct pv_blk_req *r)
{
	struct pv_blk_x86_32_request *s = (void *)front_slot();

	memset(s, 0xee, sizeof(*s));
	s->operation = r->op_slot;
	s->nr_segments = (uint8_t)r->nr_segs;
	s->id = r->id;
	s->sector_number = r->sector;
	for (unsigned i = 0; i < SEGS; i++)
		s->seg[i] = (struct blkif_request_segment){ .gref = r->seg[i].gref, .first_sect = r->seg[i].first, .last_sect = r->seg[i].last };
	if (r->op_slot == BLKIF_OP_DISCARD) {
		((struct pv_blk_x86_32_discard *)s)->nr_sectors = r->nr_sectors;
	} else if (r->indirect) {
		((struct pv_blk_x86_32_indirect *)s)->indirect_op = r->op;
		((struct pv_blk_x86_32_indirect *)s)->nr_segments = r->nr_segs;
		memcpy(((struct pv_blk_x86_32_indirect *)s)->indirect_grefs, r->indirect_gref, sizeof(r->indirect_gref));
	}
}

/* The segments of an indirect request, in the last page of its four. */
static void put_segs(struct pv_blk_req *r, unsigned page)
{
	struct blkif_request_segment *to = (void *)stamp_at(page + SEGS);

	for (unsigned i = 0; i < r->nr_segs; i++)
		to[i] = (struct blkif_request_segment){ .gref = r->seg[i].gref, .last_sect = r->seg[i].last };
	r->op_slot = BLKIF_OP_INDIRECT;
	r->indirect = true;
	r->indirect_gref[0] = page + SEGS; /* where the segments were */
}

/* So many blocks in a row of which nothing is in flight; BLOCKS: there are none. */
static uint64_t free_blocks(unsigned n, bool discard)
{
	for (int tries = 0; tries < 20; tries++) {
		uint64_t b = discard ? DISCARDS + draw(BLOCKS - DISCARDS - n + 1) : draw(DISCARDS - n + 1);
		bool busy = false;

		for (unsigned i = 0; i < n; i++)
			busy |= world->busy[b + i];
		if (!busy)
			return b;
	}
	return BLOCKS;
}

/* What kind of request; its segments and blocks follow. */
static void choose(struct asked *a, struct pv_blk_req *r)
{
	static const uint8_t ops[] = { BLKIF_OP_WRITE, BLKIF_OP_WRITE, BLKIF_OP_WRITE, BLKIF_OP_READ, BLKIF_OP_READ, BLKIF_OP_FLUSH_DISKCACHE,
				       BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER, BLKIF_OP_DISCARD, 99 };

	r->op = r->op_slot = a->op = ops[draw(sizeof(ops))];
	a->flushes = r->op == BLKIF_OP_FLUSH_DISKCACHE || r->op == BLKIF_OP_WRITE_BARRIER;
	a->barrier = r->op == BLKIF_OP_WRITE_BARRIER;
	a->reads = r->op == BLKIF_OP_READ;
	a->discards = r->op == BLKIF_OP_DISCARD;
	a->writes = r->op == BLKIF_OP_WRITE || (a->flushes && draw(2));
	a->status = r->op == 99 ? BLKIF_RSP_EOPNOTSUPP : BLKIF_RSP_OKAY;
	a->n = a->reads || a->writes || a->discards ? 1 + draw(SEGS) : 0;
	if (a->reads && draw(8) == 0) { /* beyond the end */
		a->status = BLKIF_RSP_ERROR;
		a->n = 0;
		r->sector = disk.sectors;
		r->nr_segs = 1;
		r->seg[0] = (struct pv_blk_seg){ .gref = 1, .last = 7 };
	}
}

static bool ask(void)
{
	struct pv_blk_req r = { 0 };
	struct asked a = { .out = true, .order = ++world->order };
	unsigned k, page;

	for (k = 0; k < SLOTS && world->asked[k].out; k++)
		;
	if (k == SLOTS || !pv_ring_room(&world->front))
		return false;
	page = 1 + k * (SEGS + 1);
	choose(&a, &r);
	a.block = a.n ? free_blocks(a.n, a.discards) : 0;
	if (a.block == BLOCKS)
		return false;
	r.id = a.id = world->order << 8 | k;
	if (a.n) {
		r.sector = a.block * BLOCK_SECTORS;
		r.nr_segs = a.discards ? 0 : a.n;
		r.nr_sectors = a.discards ? a.n * BLOCK_SECTORS : 0;
	} else {
		r.sector = UINT64_MAX; /* as Linux has it in a flush without data */
	}
	for (unsigned i = 0; i < a.n; i++) {
		r.seg[i] = (struct pv_blk_seg){ .gref = page + i, .last = 7 };
		a.stamp[i] = a.writes ? ++world->stamp : world->model[a.block + i];
		*stamp_at(page + i) = a.writes ? a.stamp[i] : 0;
		world->busy[a.block + i] = true;
	}
	if (a.flushes)
		memcpy(a.durable, world->model, sizeof(a.durable));
	if (!a.flushes && a.n && !a.discards && draw(3) == 0)
		put_segs(&r, page);
	if (abi == PV_VBD_ABI_X86_32)
		put_32(&r);
	else
		pv_blk_fill_req(&world->front, &r);
	world->asked[k] = a;
	return true;
}

/* An answer: to what was asked, once, and in time. */
static void answered(uint64_t id, uint8_t op, int16_t status)
{
	struct asked *a = &world->asked[id % SLOTS];
	unsigned page = 1 + (unsigned)(id & 0xff) * (SEGS + 1);

	if ((id & 0xff) >= SLOTS || !a->out || a->id != id)
		fail_msg("an answer to %llx, slot %u, cons %u: out %d, id %llx", (unsigned long long)id, (unsigned)id % SLOTS, world->front.cons, a->out, (unsigned long long)a->id);
	assert_int_equal(op, a->op);
	assert_int_equal(status, a->status);
	a->out = false;
	world->answers++;
	for (unsigned k = 0; k < SLOTS; k++) {
		const struct asked *o = &world->asked[k];

		if (o->out && o->order < a->order && (a->barrier || o->barrier))
			fail_msg("request %llu passed request %llu", (unsigned long long)a->order, (unsigned long long)o->order);
	}
	for (unsigned i = 0; i < a->n; i++) {
		if (a->reads)
			assert_int_equal(*stamp_at(page + i), a->stamp[i]);
		if (a->writes)
			world->model[a->block + i] = a->stamp[i];
		if (a->discards)
			world->model[a->block + i] = 0;
		if (a->barrier)
			a->durable[a->block + i] = a->stamp[i];
		world->busy[a->block + i] = false;
	}
	for (unsigned b = 0; a->flushes && b < DISCARDS; b++)
		if (a->durable[b] > world->durable[b])
			world->durable[b] = a->durable[b];
}

static void look_at_answers(void)
{
	struct pv_ring *f = &world->front;
	int n = pv_ring_ready(f);

	assert_true(n >= 0);
	for (; n > 0; n--) {
		struct blkif_response r;

		if (abi == PV_VBD_ABI_X86_32) {
			struct pv_blk_x86_32_response r32 = *(const volatile struct pv_blk_x86_32_response *)pv_ring_take(f);

			answered(r32.id, r32.operation, r32.status);
			continue;
		}
		pv_blk_take_rsp(f, &r);
		answered(r.id, r.operation, r.status);
	}
}

static void guest_turn(unsigned requests)
{
	look_at_answers();
	while (requests-- && ask())
		;
	pv_ring_publish(&world->front);
}

/* ---- instants ---- */

struct instant {
	struct world world;
	uint8_t ring[PV_PAGE_SIZE];
	uint8_t heads[PAGES][SEGS * sizeof(struct blkif_request_segment)]; /* of the guest's pages: no more of them is used */
};

static void remember(struct instant *i)
{
	i->world = *world;
	memcpy(i->ring, arena, PV_PAGE_SIZE);
	for (unsigned p = 1; p < PAGES; p++)
		memcpy(i->heads[p], stamp_at(p), sizeof(i->heads[p]));
}

static void go_back(const struct instant *i)
{
	*world = i->world;
	memcpy(arena, i->ring, PV_PAGE_SIZE);
	for (unsigned p = 1; p < PAGES; p++)
		memcpy(stamp_at(p), i->heads[p], sizeof(i->heads[p]));
}

/* As far as a worker changes it. */
static bool is_now(const struct instant *i)
{
	return memcmp(&i->world, world, offsetof(struct world, front)) == 0 && memcmp(i->ring, arena, PV_PAGE_SIZE) == 0;
}

/* The next process serves from here until nothing is left; what did the guest get? */
static void next_serves(void)
{
	unsigned wakes = notified;
	struct blkq *q = serve();

	assert_true(notified > wakes);
	for (int turns = 0; q->inflight || q->left || pv_ring_ready(&q->ring) > 0; turns++) {
		assert_true(turns < 1000);
		turn(q, false);
	}
	blkq_close(q);
	look_at_answers();
	assert_int_equal(world->log.answered, world->log.taken);
	assert_int_equal(world->log.answered, world->front.prod);
	for (unsigned k = 0; k < SLOTS; k++)
		if (world->asked[k].out)
			fail_msg("request %llu was not answered", (unsigned long long)world->asked[k].order);
	assert_memory_equal(world->on_disk, world->model, sizeof(world->model));
	for (unsigned b = 0; b < DISCARDS; b++)
		if (world->stable[b] < world->durable[b])
			fail_msg("block %u is lost with the power: %llu, and %llu was flushed", b, (unsigned long long)world->stable[b],
				 (unsigned long long)world->durable[b]);
}

/* What a process has that the next one has anew. */
struct process {
	struct blkworker worker;
	struct held held[HELD];
	unsigned nheld;
};

static struct instant now; /* the last that was looked at */
static uint64_t instants;
static struct keep {
	struct instant at[2];
	unsigned every, n; /* of the instants */
} keep;

static void look_at_instant(void)
{
	static struct process p;

	remember(&now);
	p.worker = worker;
	memcpy(p.held, held, sizeof(held));
	p.nheld = nheld;
	next_serves();
	worker = p.worker;
	memcpy(held, p.held, sizeof(held));
	nheld = p.nheld;
	go_back(&now);
	instants++;
	if (keep.every && instants % keep.every == 0 && keep.n < sizeof(keep.at) / sizeof(keep.at[0]))
		keep.at[keep.n++] = now;
}

/* After each instruction. What it interrupts is between two of its own, outside of libc whenever the world has changed. */
static void on_step(int sig)
{
	(void)sig;
	if (!is_now(&now))
		look_at_instant();
}

/* From here on, or no longer, each instruction is followed by a trap. */
static void step(bool on)
{
#ifdef __x86_64__
	if (on)
		__asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; orq $0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" : : : "memory", "cc");
	else
		__asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" : : : "memory", "cc");
#else
	(void)on;
#endif
}

/* A process that begins here: from each of its instants, the next goes on. */
static void live(unsigned rounds)
{
	struct blkq *q;

	remember(&now);
	q = serve();
	go_back(&now); /* again, step by step, but for memory that is cleared a byte an instruction */
	q->left = NULL;
	q->stats.replayed = 0;
	step(true);
	assert_int_equal(adopt_queue(q), 0);
	adopt_arrive(q);
	step(false);
	for (unsigned i = 0; i < rounds; i++) {
		guest_turn(2 + draw(12));
		remember(&now);
		step(true);
		turn(q, i % 2);
		step(false);
	}
	blkq_close(q); /* with what is in flight */
	next_serves();
}

static void begin_world(uint32_t index, uint64_t seed)
{
	memset(world, 0, sizeof(*world));
	memset(arena, 0, sizeof(arena));
	world->random = seed;
	world->log.answered = world->log.taken = index;
	pv_ring_init_front(&world->front, arena, PV_PAGE_SIZE, pv_blk_slot_size(abi));
	world->front.prod = world->front.cons = world->front.published = index;
	((struct pv_any_sring *)arena)->req_prod = ((struct pv_any_sring *)arena)->rsp_prod = index;
	for (unsigned b = DISCARDS; b < BLOCKS; b++)
		world->on_disk[b] = world->model[b] = OLD;
}

/* With a sanitizer's instructions there are many times as many instants, of the same stores; what it finds it finds with one ABI, the odd one. */
#ifdef __SANITIZE_ADDRESS__
enum { ABI_FIRST = PV_VBD_ABI_X86_32, ABIS = 1 };
#else
enum { ABI_FIRST = PV_VBD_ABI_NATIVE, ABIS = 3 };
#endif

static void adopted_from_every_instant(void **state)
{
	unsigned seeds = getenv("PVIO_TEST_LONG") && *getenv("PVIO_TEST_LONG") ? 50 : 1;

	(void)state;
#ifndef __x86_64__
	printf("SKIP need=x86: there is no trap flag here\n");
	exit(77);
#endif
	signal(SIGTRAP, on_step);
	for (unsigned i = 0; i < ABIS * seeds; i++) {
		uint64_t first;

		abi = (enum pv_vbd_abi)(ABI_FIRST + i % ABIS);
		begin_world((uint32_t)-20, 12345 + i); /* the indices wrap */
		keep = (struct keep){ .every = 80 };
		instants = 0;
		live(ROUNDS);
		first = instants;
		assert_true(world->answers > 20);
		keep.every = 0;
		for (unsigned k = 0; k < keep.n; k++) { /* and those who go on are killed as well */
			go_back(&keep.at[k]);
			live(1);
		}
		print_message("ABI %d: killed at %llu instants, and its heirs at %llu\n", (int)abi, (unsigned long long)first,
			      (unsigned long long)(instants - first));
		assert_true(first > 150 && instants > first + 30);
	}
	signal(SIGTRAP, SIG_DFL);
}

/* ---- logs that no process writes ---- */

static int try_to_serve(void)
{
	uint32_t ring_gref = 0;
	struct blkq_config c = { .ring_gref = &ring_gref, .port = 1, .abi = abi, .cache = 64, .image = &image, .disk = disk, .log = &world->log,
				 .adopt = true };
	struct blkq *q;
	char why[200] = "";
	int ret = blkq_open(&worker, &c, &q, why, sizeof(why));

	if (ret < 0)
		assert_string_equal(why, "its in-flight log makes no sense");
	else
		blkq_close(q);
	return ret;
}

static void log_that_makes_no_sense_is_refused(void **state)
{
	(void)state;
	abi = PV_VBD_ABI_NATIVE;
	begin_world(100, 1);
	assert_int_equal(try_to_serve(), 0);
	world->records[0].mark = adopt_mark(BLKR_ANSWERED, 0, 100); /* 2^32 answers ago */
	assert_int_equal(try_to_serve(), 0);
	assert_int_equal(world->log.answered, 100);
	world->log.taken = 100 + SLOTS + 1;
	assert_int_equal(try_to_serve(), -ENOENT);
	world->log.taken = 99;
	assert_int_equal(try_to_serve(), -ENOENT);
	world->log.taken = 102; /* taken, and there is no record of them */
	assert_int_equal(try_to_serve(), -ENOENT);
	world->log.taken = 100;
	for (unsigned i = 0; i < 2; i++) /* records of what was not taken */
		world->records[i].mark = adopt_mark(BLKR_TAKEN, 0, 90 + i);
	assert_int_equal(try_to_serve(), -ENOENT);
}

static void guest_that_lies_meanwhile_breaks_its_device(void **state)
{
	static const uint32_t wrong[] = { SLOTS + 1, 0x80000000, (uint32_t)-1 };
	struct blkq *q;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		begin_world(100, 1);
		((struct pv_any_sring *)arena)->req_prod = 100 + wrong[i];
		((struct pv_any_sring *)arena)->rsp_prod = wrong[i]; /* not even looked at */
		q = serve();
		blkq_take(q);
		assert_int_equal(q->state, BLKQ_BROKEN);
		blkq_close(q);
		assert_int_equal(((struct pv_any_sring *)arena)->rsp_prod, 100);
	}
}

/* What was checked before is checked again: the segments may be others by now. */
static void segments_rewritten_meanwhile_are_refused(void **state)
{
	struct pv_blk_req r = { .id = 5, .op = BLKIF_OP_WRITE, .nr_segs = 1, .seg = { { .gref = 1, .last = 7 } } };
	struct blkif_response *rsp;
	struct blkq *q;

	(void)state;
	abi = PV_VBD_ABI_NATIVE;
	begin_world(0, 1);
	put_segs(&r, 1);
	pv_blk_fill_req(&world->front, &r);
	pv_ring_publish(&world->front);
	q = serve();
	blkq_take(q);
	assert_int_equal(nheld, 1);
	blkq_close(q); /* dead, with its write in flight */
	((struct blkif_request_segment *)stamp_at(1 + SEGS))->last_sect = 9;
	q = serve();
	assert_int_equal(q->stats.replayed, 1);
	blkq_take(q);
	assert_int_equal(nheld, 0);
	blkq_publish(q);
	blkq_close(q);
	assert_int_equal(pv_ring_ready(&world->front), 1);
	rsp = pv_ring_slot(&world->front, 0);
	assert_int_equal(rsp->id, 5);
	assert_int_equal(rsp->status, BLKIF_RSP_ERROR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adopted_from_every_instant),
		cmocka_unit_test(log_that_makes_no_sense_is_refused),
		cmocka_unit_test(guest_that_lies_meanwhile_breaks_its_device),
		cmocka_unit_test(segments_rewritten_meanwhile_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
