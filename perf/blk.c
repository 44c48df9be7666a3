/* blk.c - vbds under load, through blkfront: depth requests in flight on each, from one thread.
 *
 * Finds the device of a guest, as pvio attach announced it, connects, and keeps --depth requests of --bs bytes in flight for
 * --msecs; with --guests N on each of N guests' devices, in turn. It polls for answers, as a guest's poll queue does; with --sleep it
 * waits for events instead. One line of JSON for each measurement.
 */
#include "perf.h"
#include "blocks.h"
#include <pvio/blkfront.h>

enum { CONNECT_MS = 10000, REAP = 64, BATCH_PART = 4 /* ask again when a quarter of the depth is free */ };

struct options {
	const char *hypervisor, *image;
	int domid;
	unsigned devid, guests, depth, msecs, ramp, mode;
	uint64_t bs, prove;
	struct pv_cpus cpus;
	bool sleep, once;
};

/* A disk. A request is free (its index is in free[]) or in flight (its index is the user word). */
struct disk {
	struct pv_blkfront *f;
	uint8_t *buf;
	unsigned *free, nr_free;
};

/* Owner: main. */
struct load {
	const struct options *o;
	struct blocks blocks; /* all disks are alike */
	struct disk *disk; /* o->guests */
};

static void check(int rc, const char *what)
{
	if (rc < 0)
		perf_die("%s: %s", what, strerror(-rc));
}

/* Queue request i. Returns whether there was room. */
static bool queue(const struct load *l, struct disk *d, unsigned i, bool write, uint64_t block)
{
	struct pv_blkfront_io io = {
		.op = write ? PV_BLKFRONT_WRITE : PV_BLKFRONT_READ,
		.offset = block * l->o->bs,
		.len = l->o->bs,
		.buf = d->buf + i * l->o->bs,
		.user = (void *)(uintptr_t)i,
	};
	int rc = pv_blkfront_queue(d->f, 0, &io);

	if (rc != -EAGAIN)
		check(rc, "cannot queue a request");
	return rc == 0;
}

static void ask(struct load *l, struct disk *d)
{
	bool write = blocks_write(&l->blocks);

	while (d->nr_free > 0 && queue(l, d, d->free[d->nr_free - 1], write, blocks_next(&l->blocks)))
		d->nr_free--;
	check(pv_blkfront_submit(d->f), "cannot submit");
}

/* Take answers. Returns how many came. */
static unsigned reap(struct disk *d)
{
	struct pv_blkfront_done done[REAP];
	int n = pv_blkfront_reap(d->f, 0, done, REAP);

	check(n, "the backend");
	for (int i = 0; i < n; i++) {
		check(done[i].result, "a request failed");
		d->free[d->nr_free++] = (unsigned)(uintptr_t)done[i].user;
	}
	return (unsigned)n;
}

static void wait_event(struct disk *d, int timeout_ms)
{
	struct pollfd p = { .fd = pv_blkfront_fd(d->f), .events = POLLIN };

	if (timeout_ms == 0 || poll(&p, 1, timeout_ms) > 0)
		check(pv_blkfront_work(d->f), "the device");
}

static void drain(struct load *l, struct disk *d)
{
	while (d->nr_free < l->o->depth)
		if (reap(d) == 0 && l->o->sleep)
			wait_event(d, CONNECT_MS);
}

/* One look at a disk. Returns how many answers came. */
static unsigned look(struct load *l, struct disk *d, unsigned again)
{
	unsigned n;

	if (d->nr_free >= again)
		ask(l, d);
	n = reap(d);
	if (n == 0 && l->o->sleep)
		wait_event(d, CONNECT_MS);
	return n;
}

static uint64_t events(const struct load *l, uint64_t *notifies)
{
	struct pv_blkfront_stats s;
	uint64_t n = 0;

	*notifies = 0;
	for (unsigned i = 0; i < l->o->guests; i++) {
		pv_blkfront_stats(l->disk[i].f, &s);
		n += s.events;
		*notifies += s.notifies;
	}
	return n;
}

/* Returns how many requests ended meanwhile. */
static uint64_t run(struct load *l, unsigned msecs)
{
	double end = perf_now() + msecs / 1e3;
	unsigned again = l->o->depth / BATCH_PART ? l->o->depth / BATCH_PART : 1;
	uint64_t ios = 0;

	while (perf_now() < end)
		for (unsigned i = 0; i < l->o->guests; i++)
			ios += look(l, &l->disk[i], again);
	return ios;
}

static void measure(void *arg)
{
	struct load *l = arg;
	uint64_t ios, notifies, notifies0, events0, events1;
	double began, cpu, secs;

	blocks_begin(&l->blocks);
	run(l, l->o->ramp);
	events0 = events(l, &notifies0);
	began = perf_now();
	cpu = perf_cpu();
	ios = run(l, l->o->msecs);
	secs = perf_now() - began;
	for (unsigned i = 0; i < l->o->guests; i++)
		drain(l, &l->disk[i]);
	events1 = events(l, &notifies);
	printf("{\"iops\":%.0f,\"mb_s\":%.1f,\"us\":%.2f,\"cpu_s\":%.3f,\"secs\":%.3f,\"front_notifies\":%lu,\"front_events\":%lu}\n",
	       (double)ios / secs, (double)ios * (double)l->o->bs / secs / 1e6, secs * 1e6 * l->o->depth * l->o->guests / (double)(ios ? ios : 1),
	       perf_cpu() - cpu, secs, notifies - notifies0, events1 - events0);
}

static void idle(void *arg)
{
	struct load *l = arg;
	struct disk *d = &l->disk[0];

	wait_event(d, 0);
	if (d->nr_free == l->o->depth)
		reap(d); /* nothing is in flight: this only arms the ring again */
}

static void all_free(struct disk *d, unsigned depth)
{
	for (d->nr_free = 0; d->nr_free < depth; d->nr_free++)
		d->free[d->nr_free] = d->nr_free;
}

/* A blocks_io. */
static void prove_batch(void *arg, bool write, const uint64_t *block, unsigned n)
{
	struct load *l = arg;
	struct disk *d = &l->disk[0];

	for (unsigned i = 0; i < n; i++)
		if (!queue(l, d, i, write, block[i]))
			perf_die("the ring has no room for %u requests", n);
	check(pv_blkfront_submit(d->f), "cannot submit");
	d->nr_free = l->o->depth - n;
	drain(l, d);
	all_free(d, l->o->depth);
}

static void connect_device(const struct options *o, int domid, struct disk *d)
{
	struct pv_blkfront_config c = { .devid = o->devid, .wait_ms = CONNECT_MS, .ring_order = o->depth > 32 ? 4 : 0, .poll = !o->sleep };
	double end = perf_now() + CONNECT_MS / 1e3;
	char why[256];
	int rc;

	c.pool_pages = (uint32_t)(o->depth * ((o->bs + 4095) / 4096));
	rc = pv_blkfront_open(o->hypervisor, domid, &c, &d->f, why, sizeof(why));
	if (rc < 0)
		perf_die("%s", why);
	while (pv_blkfront_state(d->f) != XenbusStateConnected) {
		wait_event(d, 100);
		if (perf_now() > end)
			perf_die("the vbd of domain %d does not connect", domid);
	}
	if (o->bs > pv_blkfront_io_max(d->f))
		perf_die("--bs %lu is more than one request may have: %u", o->bs, pv_blkfront_io_max(d->f));
	d->buf = pv_blkfront_buf(d->f, o->bs * o->depth);
	d->free = calloc(o->depth, sizeof(*d->free));
	if (!d->buf || !d->free)
		perf_die("no memory for %u requests", o->depth);
	memset(d->buf, 0x5a, o->bs * o->depth);
	all_free(d, o->depth);
}

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "hypervisor", "SPEC", "xen, loopback, loopback:PATH ($PVIO_HYPERVISOR, else the host's)", pv_option_text, FIELD(hypervisor) },
	{ "domid", "N", "the guest", pv_option_domid, FIELD(domid) },
	{ "guests", "N", "so many guests with a vbd each, of the domids from --domid on (1)", pv_option_number, FIELD(guests), .min = 1, .max = 1024 },
	{ "devid", "N", "its vbd's number (51712, xvda)", pv_option_number, FIELD(devid), .max = UINT32_MAX },
	{ "rw", "MODE", "randread, randwrite, read or write (randread)", pv_option_name, FIELD(mode), .names = blocks_modes },
	{ "bs", "SIZE", "bytes a request (4k)", pv_option_size, FIELD(bs) },
	{ "depth", "N", "requests in flight (32)", pv_option_number, FIELD(depth), .min = 1, .max = 512 },
	{ "msecs", "MS", "how long to measure (1000)", pv_option_number, FIELD(msecs), .min = 1, .max = 1000000 },
	{ "ramp", "MS", "how long to run before that (0)", pv_option_number, FIELD(ramp), .max = 1000000 },
	{ "cpus", "A", "pin to this CPU", pv_option_cpus, FIELD(cpus) },
	{ "prove", "SIZE", "before that write so much of the first disk, read it back, compare", pv_option_size, FIELD(prove) },
	{ "image", "FILE", "... and compare with what this file has then", pv_option_text, FIELD(image) },
	{ "sleep", NULL, "wait for events instead of polling; of one guest", NULL, FIELD(sleep) },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "blk",
	.usage = "--domid N [OPTION...]",
	.about = "Load vbds through blkfront: requests a second, as JSON. Writing destroys what the disk holds.",
	.options = table,
};

int main(int argc, char **argv)
{
	struct options o = { .devid = 51712, .guests = 1, .bs = 4096, .depth = 32, .msecs = 1000 };
	struct load l = { .o = &o };
	int ret = pv_options_parse(&program, argc, argv, &o);

	if (ret >= 0)
		return ret;
	if (o.domid < 1 || o.bs < 512 || o.bs % 512 || (o.sleep && o.guests > 1))
		return pv_options_wrong(&program, "--domid is needed, --bs is in sectors of 512 bytes, and --sleep is for one guest");
	perf_pin(&o.cpus, 0);
	perf_raise_limits();
	l.disk = calloc(o.guests, sizeof(*l.disk));
	if (!l.disk)
		perf_die("no memory for %u disks", o.guests);
	for (unsigned i = 0; i < o.guests; i++)
		connect_device(&o, o.domid + (int)i, &l.disk[i]);
	l.blocks = blocks_new(o.mode, o.bs, pv_blkfront_offer(l.disk[0].f)->sectors * 512);
	blocks_prove(&l.blocks, &(struct blocks_proof){ .bytes = o.prove, .image = o.image, .depth = o.depth, .buf = l.disk[0].buf,
							.io = prove_batch, .arg = &l });
	perf_serve(o.once, measure, idle, pv_blkfront_fd(l.disk[0].f), &l);
	for (unsigned i = 0; i < o.guests; i++) {
		pv_blkfront_close(l.disk[i].f, CONNECT_MS);
		free(l.disk[i].free);
	}
	free(l.disk);
	return 0;
}
