/* ring.c - the ring of ring.h alone, beside a plain SPSC queue: two threads, two cores, nobody sleeps.
 *
 * ours: the frontend fills request slots and publishes a batch; the backend takes each slot (its one private copy), writes the
 * answer into the same slot and publishes; the frontend takes the answers and goes on. So each unit is a request and its
 * answer: data crosses between the cores twice, through pages that either side may not trust.
 * peer: a C11 single-producer single-consumer queue of 64-byte descriptors. One way only, nothing is answered or checked; it
 * has its indices on cache lines of their own and looks at the other's only when it must. A unit is one descriptor.
 *
 * Both thread pairs read and write every byte of a slot. The slot is 64 bytes by default, as the peer's; 12 and 112 are the
 * native sizes of net tx and block.
 */
#include "perf.h"
#include <pthread.h>
#include <pvio/blk.h>
#include <pvio/net.h>
#include <pvio/ring.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum {
	LINE = 64,
	SPSC_SLOTS = 1024,
	TURNS = 1024, /* between two looks at the clock */
	WARM_PART = 5, /* a fifth of the time is run before the clock starts */
};

/* Owner: main; the threads read it. */
static struct options {
	unsigned batch, slot, slots, msecs;
	struct pv_cpus cpus; /* the first thread's, the second's */
	bool once;
} o = { .batch = 32, .slot = 64, .slots = 256, .msecs = 1000, .cpus = { .nr = 2, .cpu = { 0, 1 } } };

static atomic_bool stop;
static volatile uint64_t sink; /* what was read must be used */

struct slot64 {
	uint64_t w[8];
};

/* ---- the peer. Owner: this program, alone; one producer thread, one consumer thread. */
struct spsc {
	_Alignas(2 * LINE) _Atomic uint32_t prod;
	_Alignas(2 * LINE) _Atomic uint32_t cons;
	_Alignas(2 * LINE) struct slot64 d[SPSC_SLOTS];
};

static void *spsc_consume(void *arg)
{
	struct spsc *q = arg;
	uint32_t prod = 0, cons = 0;
	uint64_t sum = 0;

	perf_pin(&o.cpus, 1);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		uint32_t n = prod - cons;

		if (n == 0) {
			/* pairs with the release of prod in spsc_produce */
			prod = atomic_load_explicit(&q->prod, memory_order_acquire);
			continue;
		}
		n = n < o.batch ? n : o.batch;
		for (uint32_t i = 0; i < n; i++) {
			const struct slot64 *d = &q->d[(cons + i) & (SPSC_SLOTS - 1)];

			for (int j = 0; j < 8; j++)
				sum += d->w[j];
		}
		cons += n;
		/* pairs with the acquire of cons in spsc_produce */
		atomic_store_explicit(&q->cons, cons, memory_order_release);
	}
	sink = sum;
	return NULL;
}

/* Owner: the producer thread. */
struct spsc_producer {
	struct spsc *q;
	uint32_t prod, cons;
};

static uint64_t spsc_produce(void *arg, double secs)
{
	struct spsc_producer *p = arg;
	struct spsc *q = p->q;
	uint32_t prod = p->prod, cons = p->cons;
	double end = perf_now() + secs;
	uint64_t moved = 0;

	do {
		for (int turn = 0; turn < TURNS; turn++) {
			if (prod - cons > SPSC_SLOTS - o.batch) {
				/* pairs with the release of cons in spsc_consume */
				cons = atomic_load_explicit(&q->cons, memory_order_acquire);
				if (prod - cons > SPSC_SLOTS - o.batch)
					continue;
			}
			for (uint32_t i = 0; i < o.batch; i++) {
				struct slot64 *d = &q->d[(prod + i) & (SPSC_SLOTS - 1)];

				for (unsigned j = 0; j < 8; j++)
					d->w[j] = prod + i + j;
			}
			prod += o.batch;
			/* pairs with the acquire of prod in spsc_consume */
			atomic_store_explicit(&q->prod, prod, memory_order_release);
			moved += o.batch;
		}
	} while (perf_now() < end);
	p->prod = prod;
	p->cons = cons;
	return moved;
}

/* ---- ours: how one slot of each kind is written and read, by the wrappers that the drivers use */
struct kind {
	uint32_t slot_size;
	void (*request)(struct pv_ring *r, uint32_t i); /* frontend: fill one request */
	uint64_t (*serve)(struct pv_ring *r); /* backend: take one, answer it */
	uint64_t (*reap)(struct pv_ring *r); /* frontend: take one answer */
};

static inline void request64(struct pv_ring *r, uint32_t i)
{
	struct slot64 *d = pv_ring_fill(r);

	for (unsigned j = 0; j < 8; j++)
		d->w[j] = i + j;
}

static inline uint64_t serve64(struct pv_ring *r)
{
	struct slot64 copy = *(const volatile struct slot64 *)pv_ring_take(r);
	struct slot64 *d = pv_ring_fill(r);
	uint64_t sum = 0;

	for (int j = 0; j < 8; j++)
		sum += copy.w[j];
	d->w[0] = copy.w[0];
	d->w[1] = sum;
	return sum;
}

static inline uint64_t reap64(struct pv_ring *r)
{
	const volatile struct slot64 *d = pv_ring_take(r);

	return d->w[0] + d->w[1];
}

static inline void request_tx(struct pv_ring *r, uint32_t i)
{
	pv_net_tx_fill(r, i, 0, 0, (uint16_t)i, 64);
}

static inline uint64_t serve_tx(struct pv_ring *r)
{
	union pv_net_tx_slot copy;

	pv_net_tx_take(r, &copy);
	pv_net_tx_fill_rsp(r, copy.req.id, NETIF_RSP_OKAY);
	return copy.req.gref + copy.req.size;
}

static inline uint64_t reap_tx(struct pv_ring *r)
{
	struct netif_tx_response rsp;

	pv_net_tx_take_rsp(r, &rsp);
	return rsp.id;
}

static inline void request_blk(struct pv_ring *r, uint32_t i)
{
	struct blkif_request *q = pv_ring_fill(r);

	*q = (struct blkif_request){ .operation = BLKIF_OP_READ, .nr_segments = 11, .id = i, .sector_number = i };
	for (unsigned j = 0; j < BLKIF_MAX_SEGMENTS_PER_REQUEST; j++)
		q->seg[j] = (struct blkif_request_segment){ .gref = i + j, .first_sect = 0, .last_sect = 7 };
}

static inline uint64_t serve_blk(struct pv_ring *r)
{
	union pv_blk_raw copy;
	uint64_t sum = 0;

	pv_blk_take(r, &copy);
	for (unsigned j = 0; j < BLKIF_MAX_SEGMENTS_PER_REQUEST; j++)
		sum += copy.native.seg[j].gref;
	pv_blk_fill_rsp(r, PV_VBD_ABI_NATIVE, copy.native.id, copy.native.operation, BLKIF_RSP_OKAY);
	return sum;
}

static inline uint64_t reap_blk(struct pv_ring *r)
{
	struct blkif_response rsp;

	pv_blk_take_rsp(r, &rsp);
	return rsp.id;
}

/* The two ends. `kind` is constant where these are inlined, so that each kind gets a loop of its own; the ring is a local copy, so
 * that the compiler may keep the private indices in registers although the slots are plain memory. Like the peer, each end
 * looks at the other's index only when it has run out of what it knew of: a batch that is ready is `known` already. */
static inline __attribute__((always_inline)) void back_loop(const struct pv_ring *shared, const struct kind *kind)
{
	struct pv_ring r = *shared;
	uint64_t sum = 0;
	int known = 0;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		int n;

		if (known == 0)
			known = pv_ring_ready(&r);
		if (known < 0)
			perf_die("the frontend's index is impossible: the ring is broken");
		n = known < (int)o.batch ? known : (int)o.batch;
		for (int i = 0; i < n; i++)
			sum += kind->serve(&r);
		pv_ring_publish(&r);
		known -= n;
	}
	sink = sum;
}

static inline __attribute__((always_inline)) uint64_t front_loop(struct pv_ring *shared, const struct kind *kind, double secs)
{
	struct pv_ring r = *shared;
	uint64_t moved = 0, sum = 0;
	double end = perf_now() + secs;

	do {
		for (int turn = 0; turn < TURNS; turn++) {
			if (pv_ring_room(&r) < o.batch) {
				int n = pv_ring_ready(&r);

				if (n < 0)
					perf_die("the backend's index is impossible: the ring is broken");
				for (int i = 0; i < n; i++)
					sum += kind->reap(&r);
				moved += (uint64_t)n;
				if (pv_ring_room(&r) < o.batch)
					continue;
			}
			for (unsigned i = 0; i < o.batch; i++)
				kind->request(&r, r.prod);
			pv_ring_publish(&r);
		}
	} while (perf_now() < end);
	sink = sum;
	*shared = r;
	return moved;
}

static const struct kind kind64 = { 64, request64, serve64, reap64 };
static const struct kind kind_tx = { PV_NET_TX_SLOT, request_tx, serve_tx, reap_tx };
static const struct kind kind_blk = { PV_BLK_SLOT_MAX, request_blk, serve_blk, reap_blk };

static void *back_thread(void *arg)
{
	struct pv_ring *r = arg;

	perf_pin(&o.cpus, 1);
	if (r->slot_size == kind64.slot_size)
		back_loop(r, &kind64);
	else if (r->slot_size == kind_tx.slot_size)
		back_loop(r, &kind_tx);
	else
		back_loop(r, &kind_blk);
	return NULL;
}

static uint64_t front_run(void *arg, double secs)
{
	struct pv_ring *r = arg;

	if (r->slot_size == kind64.slot_size)
		return front_loop(r, &kind64, secs);
	if (r->slot_size == kind_tx.slot_size)
		return front_loop(r, &kind_tx, secs);
	return front_loop(r, &kind_blk, secs);
}

/* ---- measuring: one loop on the other core, one on this one. Returns millions of units a second. */
static double measure(void *(*other)(void *), void *other_arg, uint64_t (*run)(void *, double), void *run_arg)
{
	double secs = o.msecs / 1e3, began;
	uint64_t moved;
	pthread_t t;

	atomic_store(&stop, false);
	if (pthread_create(&t, NULL, other, other_arg) != 0)
		perf_die("cannot start a second thread");
	run(run_arg, secs / WARM_PART);
	began = perf_now();
	moved = run(run_arg, secs);
	secs = perf_now() - began;
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	return (double)moved / secs / 1e6;
}

static void *shared_pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		perf_die("no memory for %zu bytes", bytes);
	return p;
}

static double measure_spsc(void)
{
	struct spsc_producer p = { .q = shared_pages(sizeof(struct spsc)) };
	double r = measure(spsc_consume, p.q, spsc_produce, &p);

	munmap(p.q, sizeof(struct spsc));
	return r;
}

static double measure_ring(void)
{
	size_t bytes = offsetof(struct pv_any_sring, ring) + (size_t)o.slots * o.slot;
	struct pv_ring front, back;
	void *pages;
	double r;

	bytes = (bytes + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE * PV_PAGE_SIZE;
	pages = shared_pages(bytes);
	pv_ring_init_front(&front, pages, bytes, o.slot);
	pv_ring_init_back(&back, pages, bytes, o.slot);
	r = measure(back_thread, &back, front_run, &front);
	munmap(pages, bytes);
	return r;
}

static void measure_both(void *unused)
{
	long preempted = perf_preempted();
	double ours = measure_ring(), peer = measure_spsc();

	(void)unused;
	printf("{\"ours\":%.3f,\"peer\":%.3f,\"batch\":%u,\"slot\":%u,\"preempted\":%ld}\n", ours, peer, o.batch, o.slot,
	       perf_preempted() - preempted);
}

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "batch", "N", "requests a publish (32)", pv_option_number, FIELD(batch), .min = 1, .max = SPSC_SLOTS },
	{ "slot", "BYTES", "64 as the peer's, 12 (net tx) or 112 (block) (64)", pv_option_number, FIELD(slot), .min = 12, .max = 112 },
	{ "slots", "N", "of our ring, a power of two (256)", pv_option_number, FIELD(slots), .min = 1, .max = 65536 },
	{ "msecs", "MS", "how long to measure each of the two (1000)", pv_option_number, FIELD(msecs), .min = 1, .max = 1000000 },
	{ "cpus", "A,B", "for the two threads (0,1)", pv_option_cpus, FIELD(cpus) },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "ring",
	.usage = "[OPTION...]",
	.about = "The ring of ring.h between two threads, and a plain SPSC queue of 64-byte descriptors: millions a second, as JSON.",
	.options = table,
};

int main(int argc, char **argv)
{
	int ret = pv_options_parse(&program, argc, argv, &o);

	if (ret >= 0)
		return ret;
	if (o.slots < o.batch || (o.slots & (o.slots - 1)) || (o.slot != 64 && o.slot != PV_NET_TX_SLOT && o.slot != PV_BLK_SLOT_MAX))
		return pv_options_wrong(&program, "--slot is 64, 12 or 112, --slots a power of two and not less than --batch");
	perf_pin(&o.cpus, 0);
	perf_serve(o.once, measure_both, NULL, -1, NULL);
	return 0;
}
