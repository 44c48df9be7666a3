/* fair_blk.c - what polite guests get beside a greedy or hostile one: frontends of several guests in one thread, on vbds of one blkback.
 *
 *	fair_blk --domids 1,2,3...			the last one asks without bound, the others a tenth of the capacity each
 *	fair_blk --domids 1,2,3... --hostile KIND	the last one, which has no vbd yet, does what it must not instead
 *
 * The capacity, in requests of 4 KiB, is measured first: all of them ask without bound, with a ring each (the hostile one rests). Then the greedy one may have more rings,
 * and larger requests. Offered is what a guest wanted to read in the time, whether its ring had room or not; a generator that was held up
 * offers what it missed only as far as a ring holds. One line of JSON a measurement: the smallest part that a polite guest got.
 */
#include "hostile.h"
#include "tally.h"
#include <pvio/blkfront.h>

enum { GUESTS_MAX = 32, CONNECT_MS = 10000, SLOTS = 32, REAP = 64, SMALL = 4096 };

struct options {
	const char *hypervisor, *domids, *hostile;
	unsigned devid, queues, msecs;
	uint64_t bs;
	struct pv_cpus cpus;
	bool once;
};

struct asker {
	struct pv_blkfront *f;
	uint8_t *buf;
	uint64_t blocks, random; /* of SMALL bytes on its disk */
	double rate, due; /* requests a second, 0: as many as it can; when the next is due */
	unsigned queues; /* that it uses */
	uint64_t bs, inflight;
	struct tally *tally;
};

/* Owner: main. */
struct crowd {
	const struct options *o;
	unsigned n, polite; /* the first ones are polite */
	struct tally tally[GUESTS_MAX]; /* of each */
	struct asker a[GUESTS_MAX];
	struct hostile hostile;
};

static void connect_asker(const struct options *o, int domid, bool greedy, struct asker *a)
{
	uint32_t pages = (uint32_t)((greedy ? o->bs : SMALL) / 4096);
	struct pv_blkfront_config c = { .devid = o->devid, .wait_ms = CONNECT_MS, .queues = (uint16_t)(greedy ? o->queues : 1), .pool_pages = pages,
					.poll = true };
	double end = perf_now() + CONNECT_MS / 1e3;
	char why[256];

	if (pv_blkfront_open(o->hypervisor, domid, &c, &a->f, why, sizeof(why)) < 0)
		perf_die("%s", why);
	while (pv_blkfront_state(a->f) != XenbusStateConnected) {
		struct pollfd p = { .fd = pv_blkfront_fd(a->f), .events = POLLIN };

		poll(&p, 1, 100);
		if (pv_blkfront_work(a->f) < 0 || perf_now() > end)
			perf_die("the vbd of domain %d does not connect", domid);
	}
	a->buf = pv_blkfront_buf(a->f, pages * 4096ul); /* all of its requests read into the same pages: nobody looks at them */
	a->blocks = pv_blkfront_offer(a->f)->sectors * 512 / SMALL;
	a->random = 88172645463325252ull + (uint64_t)domid;
	if (!a->buf || a->blocks <= o->bs / SMALL || pv_blkfront_io_max(a->f) < pages * 4096 || pv_blkfront_queues(a->f) < c.queues)
		perf_die("the vbd of domain %d is too small, or has too few queues, or too small requests", domid);
}

/* Returns whether there was room. */
static bool ask_one(struct asker *a, unsigned queue)
{
	struct pv_blkfront_io io = { .op = PV_BLKFRONT_READ, .len = a->bs, .buf = a->buf };
	int ret;

	a->random ^= a->random >> 12;
	a->random ^= a->random << 25;
	a->random ^= a->random >> 27;
	io.offset = a->random % (a->blocks - a->bs / SMALL) * SMALL;
	ret = pv_blkfront_queue(a->f, queue, &io);
	if (ret < 0 && ret != -EAGAIN)
		perf_die("asking: %s", strerror(-ret));
	a->inflight += ret == 0;
	return ret == 0;
}

/* What is due by now. Without room it is lost. */
static void ask_due(struct asker *a, double now)
{
	if (a->rate <= 0) {
		for (unsigned q = 0; q < a->queues; q++)
			for (unsigned i = 0; i < SLOTS && ask_one(a, q); i++)
				a->tally->offered++;
	} else {
		if (now - a->due > SLOTS / a->rate)
			a->due = now - SLOTS / a->rate;
		for (; a->due <= now; a->due += 1 / a->rate) {
			a->tally->offered++;
			ask_one(a, 0);
		}
	}
	pv_blkfront_submit(a->f);
}

static void reap(struct asker *a)
{
	struct pv_blkfront_done done[REAP];

	for (unsigned q = 0; q < a->queues; q++) {
		int n = pv_blkfront_reap(a->f, q, done, REAP);

		if (n < 0)
			perf_die("the backend: %s", pv_blkfront_error(a->f));
		for (int i = 0; i < n; i++)
			if (done[i].result < 0)
				perf_die("a request failed: %s", strerror(-done[i].result));
		a->tally->delivered += (unsigned)n;
		a->inflight -= (unsigned)n;
	}
}

/* All ask for so long. Returns requests a second, of all that were answered; what is in flight at the end counts for who asked in time. */
static double run(struct crowd *c, double secs)
{
	double began = perf_now(), now;
	uint64_t sum = 0;

	for (unsigned i = 0; i < c->n; i++) {
		c->tally[i].offered = c->tally[i].delivered = 0;
		c->a[i].due = began;
	}
	for (now = began; now < began + secs; now = perf_now()) {
		for (unsigned i = 0; i < c->n; i++) {
			ask_due(&c->a[i], now);
			reap(&c->a[i]);
		}
		hostile_step(&c->hostile);
	}
	for (unsigned i = 0; i < c->n; i++) {
		while (c->a[i].inflight)
			reap(&c->a[i]);
		sum += c->tally[i].delivered;
	}
	return (double)sum / secs;
}

/* The polite ones ask what they are to, for so long. Returns the smallest part that one of them got of it. */
static double least_part(void *arg, double secs)
{
	struct crowd *c = arg;

	run(c, secs);
	return tally_least(c->tally, c->polite);
}

static void measure(void *arg)
{
	struct crowd *c = arg;
	struct asker *greedy = c->hostile.kind ? NULL : &c->a[c->polite];
	double secs = c->o->msecs / 1e3, capacity, quiet = 1, least, iops;

	for (unsigned i = 0; i < c->n; i++) {
		c->a[i].rate = 0;
		c->a[i].queues = 1;
		c->a[i].bs = SMALL;
	}
	run(c, secs / 4);
	capacity = run(c, secs / 2);
	for (unsigned i = 0; i < c->polite; i++)
		c->a[i].rate = capacity / 10;
	if (greedy) {
		greedy->queues = c->o->queues;
		greedy->bs = c->o->bs;
	} else {
		quiet = least_part(c, secs);
	}
	least = hostile_storm(&c->hostile, least_part, c, secs);
	iops = greedy ? (double)greedy->tally->delivered / secs : 0;
	printf("{\"least\":%.4f,\"quiet\":%.4f,\"capacity_iops\":%.0f,\"offered_iops\":%.0f,\"greedy_iops\":%.0f,\"greedy_mb_s\":%.1f,\"deeds\":%llu,\"guests\":%u}\n",
	       least, quiet, capacity, (double)tally_offered(c->tally, c->polite) / secs, iops, iops * (double)c->o->bs / 1e6, (unsigned long long)c->hostile.deeds, c->n);
}

/* ---- the hostile one. Each step is short: it has the thread of those who are measured. ---- */

/* Requests that are refused, each for another reason. */
static void ask_errors(struct hostile *g)
{
	struct pv_ring *r = &g->raw.ring[RAW_BLK];
	const struct pv_blk_seg good = { .gref = g->raw.gref[RAW_DATA], .last = 7 };
	const struct pv_blk_req read = { .op = BLKIF_OP_READ, .op_slot = BLKIF_OP_READ, .nr_segs = 1, .seg = { good } };

	g->deeds += raw_answers(&g->raw, RAW_BLK);
	while (pv_ring_room(r)) {
		struct pv_blk_req req = read;

		switch (g->n++ % 4) {
		case 0:
			req.seg[0].first = 8;
			break;
		case 1:
			req.sector = UINT64_MAX;
			break;
		case 2:
			req.op = req.op_slot = UINT8_MAX;
			break;
		default:
			req.seg[0].gref = UINT32_MAX;
		}
		pv_blk_fill_req(r, &req);
	}
	if (pv_ring_publish(r))
		hostile_notify(g, g->raw.port);
}

static const struct hostile_kind kinds[] = {
	{ "events", hostile_events, NULL },
	{ "errors", ask_errors, NULL },
	{ "reconnects", hostile_reconnects, NULL },
	{ "lies", hostile_lies, NULL },
	{ 0 },
};

static void open_all(struct crowd *c)
{
	const char *at = c->o->domids;
	char *end;

	for (; c->n < GUESTS_MAX && *at; c->n++) {
		long domid = strtol(at, &end, 10);

		if (end == at || domid < 1 || (*end && *end != ','))
			perf_die("--domids wants numbers with commas between them");
		if (!*end && c->hostile.kind) {
			hostile_open(&c->hostile, c->o->hypervisor, (int)domid, PV_NOXS_VBD, c->o->devid, "path=null:64M");
			break;
		}
		connect_asker(c->o, (int)domid, !*end, &c->a[c->n]);
		c->a[c->n].tally = &c->tally[c->n];
		at = *end ? end + 1 : end;
	}
	c->polite = c->hostile.kind ? c->n : c->n - 1;
	if (!c->n || !c->polite)
		perf_die("--domids wants two guests at least");
}

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "hypervisor", "SPEC", "xen, loopback, loopback:PATH ($PVIO_HYPERVISOR, else the host's)", pv_option_text, FIELD(hypervisor) },
	{ "domids", "N,N...", "the guests that read, the greedy or hostile one last", pv_option_text, FIELD(domids) },
	{ "hostile", "KIND", "the last guest is hostile: events, errors, reconnects, lies", pv_option_text, FIELD(hostile) },
	{ "devid", "N", "their vbds' number (51712, xvda)", pv_option_number, FIELD(devid), .max = UINT32_MAX },
	{ "queues", "N", "rings of the greedy one (1)", pv_option_number, FIELD(queues), .min = 1, .max = PV_NOXS_QUEUES_MAX },
	{ "bs", "SIZE", "of the greedy one's requests (4k)", pv_option_size, FIELD(bs) },
	{ "msecs", "MS", "how long to measure (1000)", pv_option_number, FIELD(msecs), .min = 1, .max = 1000000 },
	{ "cpus", "A", "pin to this CPU", pv_option_cpus, FIELD(cpus) },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "fair_blk",
	.usage = "--domids N,N... [OPTION...]",
	.about = "What guests that read a tenth of blkback's capacity each get answered beside one that reads without bound, or is hostile, as JSON.",
	.options = table,
};

int main(int argc, char **argv)
{
	struct options o = { .devid = 51712, .queues = 1, .bs = SMALL, .msecs = 1000 };
	static struct crowd c;
	int ret = pv_options_parse(&program, argc, argv, &o);

	if (ret >= 0)
		return ret;
	if (!o.domids || !o.bs || o.bs % SMALL)
		return pv_options_wrong(&program, "--domids is needed, and --bs is in units of 4k");
	if (o.hostile && !(c.hostile.kind = hostile_find(kinds, o.hostile)))
		return pv_options_wrong(&program, "--hostile %s is none of the kinds", o.hostile);
	c.o = &o;
	perf_pin(&o.cpus, 0);
	open_all(&c);
	perf_serve(o.once, measure, NULL, -1, &c);
	for (unsigned i = 0; i < c.n; i++)
		pv_blkfront_close(c.a[i].f, CONNECT_MS);
	return 0;
}
