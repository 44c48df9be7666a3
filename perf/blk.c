/* blk.c - a vbd under load, through blkfront: depth requests in flight, from one thread.
 *
 * Finds the device of a guest, as pvio attach announced it, connects, and keeps --depth requests of --bs bytes in flight for
 * --msecs. It polls for answers, as a guest's poll queue does; with --sleep it waits for events instead. One line of JSON for each
 * measurement.
 */
#include "perf.h"
#include <pvio/blkfront.h>

enum { CONNECT_MS = 10000, REAP = 64, BATCH_PART = 4 /* ask again when a quarter of the depth is free */ };
enum mode { RANDREAD, RANDWRITE, READ, WRITE };

static const char *const modes[] = { "randread", "randwrite", "read", "write", NULL };

struct options {
	const char *hypervisor;
	int domid;
	unsigned devid, depth, msecs, mode;
	uint64_t bs;
	struct pv_cpus cpus;
	bool sleep, once;
};

/* Owner: main. A request is free (its index is in free[]) or in flight (its index is the user word). */
struct load {
	const struct options *o;
	struct pv_blkfront *f;
	uint64_t blocks, next; /* of bs bytes on the device; sequential: the next one */
	uint64_t random;
	uint8_t *buf;
	unsigned *free, nr_free;
};

static void check(int rc, const char *what)
{
	if (rc < 0)
		perf_die("%s: %s", what, strerror(-rc));
}

/* Which block comes next: xorshift64* spread over the device, or one after the other. */
static uint64_t next_block(struct load *l)
{
	if (l->o->mode == READ || l->o->mode == WRITE)
		return l->next++ % l->blocks;
	l->random ^= l->random >> 12;
	l->random ^= l->random << 25;
	l->random ^= l->random >> 27;
	return (uint64_t)(((unsigned __int128)(l->random * 2685821657736338717ull) * l->blocks) >> 64);
}

static void ask(struct load *l)
{
	bool write = l->o->mode == RANDWRITE || l->o->mode == WRITE;

	while (l->nr_free > 0) {
		unsigned i = l->free[l->nr_free - 1];
		struct pv_blkfront_io io = {
			.op = write ? PV_BLKFRONT_WRITE : PV_BLKFRONT_READ,
			.offset = next_block(l) * l->o->bs,
			.len = l->o->bs,
			.buf = l->buf + i * l->o->bs,
			.user = (void *)(uintptr_t)i,
		};
		int rc = pv_blkfront_queue(l->f, 0, &io);

		if (rc == -EAGAIN)
			break;
		check(rc, "cannot queue a request");
		l->nr_free--;
	}
	check(pv_blkfront_submit(l->f), "cannot submit");
}

/* Take answers. Returns how many came. */
static unsigned reap(struct load *l)
{
	struct pv_blkfront_done done[REAP];
	int n = pv_blkfront_reap(l->f, 0, done, REAP);

	check(n, "the backend");
	for (int i = 0; i < n; i++) {
		check(done[i].result, "a request failed");
		l->free[l->nr_free++] = (unsigned)(uintptr_t)done[i].user;
	}
	return (unsigned)n;
}

static void wait_event(struct load *l, int timeout_ms)
{
	struct pollfd p = { .fd = pv_blkfront_fd(l->f), .events = POLLIN };

	if (timeout_ms == 0 || poll(&p, 1, timeout_ms) > 0)
		check(pv_blkfront_work(l->f), "the device");
}

static void drain(struct load *l)
{
	while (l->nr_free < l->o->depth)
		if (reap(l) == 0 && l->o->sleep)
			wait_event(l, CONNECT_MS);
}

static void measure(void *arg)
{
	struct load *l = arg;
	struct pv_blkfront_stats before, after;
	double began = perf_now(), cpu = perf_cpu(), end = began + l->o->msecs / 1e3, secs;
	uint64_t ios = 0;
	unsigned again = l->o->depth / BATCH_PART ? l->o->depth / BATCH_PART : 1;

	pv_blkfront_stats(l->f, &before);
	while (perf_now() < end) {
		unsigned n;

		if (l->nr_free >= again)
			ask(l);
		n = reap(l);
		ios += n;
		if (n == 0 && l->o->sleep)
			wait_event(l, CONNECT_MS);
	}
	secs = perf_now() - began;
	drain(l);
	pv_blkfront_stats(l->f, &after);
	printf("{\"iops\":%.0f,\"mb_s\":%.1f,\"cpu_s\":%.3f,\"secs\":%.3f,\"front_notifies\":%lu,\"front_events\":%lu}\n", (double)ios / secs,
	       (double)ios * (double)l->o->bs / secs / 1e6, perf_cpu() - cpu, secs, after.notifies - before.notifies, after.events - before.events);
}

static void idle(void *arg)
{
	struct load *l = arg;

	wait_event(l, 0);
	if (l->nr_free == l->o->depth)
		reap(l); /* nothing is in flight: this only arms the ring again */
}

static void connect_device(struct load *l)
{
	const struct options *o = l->o;
	struct pv_blkfront_config c = { .devid = o->devid, .wait_ms = CONNECT_MS, .ring_order = o->depth > 32 ? 4 : 0 };
	double end = perf_now() + CONNECT_MS / 1e3;
	char why[256];
	int rc;

	c.pool_pages = (uint32_t)(o->depth * ((o->bs + 4095) / 4096));
	rc = pv_blkfront_open(o->hypervisor, o->domid, &c, &l->f, why, sizeof(why));
	if (rc < 0)
		perf_die("%s", why);
	while (pv_blkfront_state(l->f) != XenbusStateConnected) {
		wait_event(l, 100);
		if (perf_now() > end)
			perf_die("the vbd of domain %d does not connect", o->domid);
	}
	if (o->bs > pv_blkfront_io_max(l->f))
		perf_die("--bs %lu is more than one request may have: %u", o->bs, pv_blkfront_io_max(l->f));
}

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "hypervisor", "SPEC", "xen, loopback, loopback:PATH ($PVIO_HYPERVISOR, else the host's)", pv_option_text, FIELD(hypervisor) },
	{ "domid", "N", "the guest", pv_option_domid, FIELD(domid) },
	{ "devid", "N", "its vbd's number (51712, xvda)", pv_option_number, FIELD(devid), .max = UINT32_MAX },
	{ "rw", "MODE", "randread, randwrite, read or write (randread)", pv_option_name, FIELD(mode), .names = modes },
	{ "bs", "SIZE", "bytes a request (4k)", pv_option_size, FIELD(bs) },
	{ "depth", "N", "requests in flight (32)", pv_option_number, FIELD(depth), .min = 1, .max = 512 },
	{ "msecs", "MS", "how long to measure (1000)", pv_option_number, FIELD(msecs), .min = 1, .max = 1000000 },
	{ "cpus", "A", "pin to this CPU", pv_option_cpus, FIELD(cpus) },
	{ "sleep", NULL, "wait for events instead of polling", NULL, FIELD(sleep) },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "blk",
	.usage = "--domid N [OPTION...]",
	.about = "Load a vbd through blkfront: requests a second, as JSON. Writing destroys what the disk holds.",
	.options = table,
};

int main(int argc, char **argv)
{
	struct options o = { .devid = 51712, .bs = 4096, .depth = 32, .msecs = 1000 };
	struct load l = { .o = &o, .random = 88172645463325252ull };
	int ret = pv_options_parse(&program, argc, argv, &o);

	if (ret >= 0)
		return ret;
	if (o.domid < 1 || o.bs < 512 || o.bs % 512)
		return pv_options_wrong(&program, "--domid is needed, and --bs is in sectors of 512 bytes");
	perf_pin(&o.cpus, 0);
	connect_device(&l);
	l.blocks = pv_blkfront_offer(l.f)->sectors * 512 / o.bs;
	l.buf = pv_blkfront_buf(l.f, o.bs * o.depth);
	l.free = calloc(o.depth, sizeof(*l.free));
	if (!l.buf || !l.free || l.blocks == 0)
		perf_die("no memory for %u requests, or the disk is smaller than one of them", o.depth);
	memset(l.buf, 0x5a, o.bs * o.depth);
	while (l.nr_free < o.depth) {
		l.free[l.nr_free] = l.nr_free;
		l.nr_free++;
	}
	perf_serve(o.once, measure, idle, pv_blkfront_fd(l.f), &l);
	pv_blkfront_close(l.f, CONNECT_MS);
	free(l.free);
	return 0;
}
