/* fuzz_vbd.c - a whole vbd on the loopback hypervisor, in one process: the hub in a thread, blkback with two workers, a well-behaved guest,
 * and one whose every move is the input's: slots, segments, indices, pages, events, references, its connection, its death. So is what
 * becomes of the I/O of its disk: late, short, failed.
 *
 * The workers run in lockstep (lockstep.h), and this file is their uring.c: each operation is done by a system call when they reap, so
 * that an input does the same each time. After each input the well-behaved guest writes and reads back, and nothing of the other is left:
 * grants, ports and mappings are as they were. */
#define LOCKSTEP_READY 0 /* nothing comes but by `step` */
#include "lockstep.h"
#include "blkback/blkback.h"
#include <fcntl.h>
#include <poll.h>
#include <pvio/hub.h>
#include <sys/stat.h>

enum { WORKERS = 2, QUEUES = 2, ORDER = 2, PAGES = 32, DISK = 256 << 10, SQES = 32, FLIGHT = 2048, IOVS = 1024, FAULTS = 32 };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- uring.h, without a kernel's ---- */

enum fault { NONE, LATE, LATER, SHORT, FAILED, AGAIN, INTERRUPTED, NOTHING, FULL, FAULT_KINDS };

struct in_flight {
	struct io_uring_sqe sqe;
	struct uring_op *op;
	enum fault fault;
	unsigned late; /* reaps that it waits for */
};

/* Owner: a worker. */
static struct fake {
	struct uring *u;
	unsigned khead, n;
	struct io_uring_sqe sqe[SQES];
	struct uring_op *op[SQES];
	struct in_flight flight[FLIGHT];
} fakes[WORKERS];

static uint8_t faults[FAULTS]; /* of the next operations */
static unsigned nr_faults, next_fault;
static uint64_t bound; /* of offsets: what the hostile guest's disk may have at most */

static struct fake *fake_of(const struct uring *u)
{
	for (unsigned i = 0; i < WORKERS; i++)
		if (fakes[i].u == u)
			return &fakes[i];
	abort();
}

int uring_open(struct uring *u, char *why, size_t len)
{
	unsigned i = 0;

	(void)why, (void)len;
	while (fakes[i].u)
		MUST(++i < WORKERS);
	memset(u, 0, sizeof(*u));
	fakes[i].u = u;
	u->ring.sq.khead = &fakes[i].khead;
	u->ring.sq.ring_entries = SQES;
	u->open = true;
	return 0;
}

void uring_close(struct uring *u)
{
	(void)u;
}

struct io_uring_sqe *uring_sqe(struct uring *u, struct uring_op *op)
{
	struct fake *f = fake_of(u);
	unsigned i = u->ring.sq.sqe_tail++;

	MUST(i < SQES); /* uring_room was asked */
	f->op[i] = op;
	memset(&f->sqe[i], 0, sizeof(f->sqe[i]));
	return &f->sqe[i];
}

void uring_submit(struct uring *u)
{
	struct fake *f = fake_of(u);

	for (unsigned i = 0; i < u->ring.sq.sqe_tail; i++) {
		struct in_flight *x = &f->flight[f->n++];

		MUST(f->n <= FLIGHT);
		*x = (struct in_flight){ .sqe = f->sqe[i], .op = f->op[i] };
		if (x->sqe.opcode != IORING_OP_POLL_ADD && next_fault < nr_faults)
			x->fault = faults[next_fault++] % FAULT_KINDS;
		x->late = x->fault == LATE ? 1 : x->fault == LATER ? 20 : 0;
	}
	u->ring.sq.sqe_tail = 0;
}

void uring_wait(struct uring *u, uint64_t ns)
{
	(void)ns;
	uring_submit(u);
}

/* Move bytes; half of them if it comes short. */
static int move(const struct io_uring_sqe *s, bool vector, bool write, bool half)
{
	static struct iovec iov[IOVS];
	struct iovec one = { (void *)(uintptr_t)s->addr, s->len };
	const struct iovec *from = vector ? (const void *)(uintptr_t)s->addr : &one;
	unsigned n = vector ? s->len : 1;
	size_t total = 0, left;
	ssize_t ret;

	MUST(n && n <= IOVS);
	for (unsigned i = 0; i < n; i++)
		total += from[i].iov_len;
	MUST(total && s->off + total <= bound);
	left = half && total > PV_BLK_SECTOR ? total / 2 / PV_BLK_SECTOR * PV_BLK_SECTOR : total;
	for (unsigned i = 0; i < n; i++) {
		iov[i] = (struct iovec){ from[i].iov_base, from[i].iov_len < left ? from[i].iov_len : left };
		left -= iov[i].iov_len;
	}
	ret = write ? pwritev2(s->fd, iov, n, s->off, s->rw_flags) : preadv2(s->fd, iov, n, s->off, 0);
	return ret < 0 ? -errno : (int)ret;
}

static int execute(const struct in_flight *x)
{
	const struct io_uring_sqe *s = &x->sqe;

	switch (x->fault) {
	case FAILED: return -EIO;
	case FULL: return -ENOSPC;
	case AGAIN: return -EAGAIN;
	case INTERRUPTED: return -EINTR;
	case NOTHING: return 0;
	default: break;
	}
	switch (s->opcode) {
	case IORING_OP_READ: return move(s, false, false, x->fault == SHORT);
	case IORING_OP_WRITE: return move(s, false, true, x->fault == SHORT);
	case IORING_OP_READV: return move(s, true, false, x->fault == SHORT);
	case IORING_OP_WRITEV: return move(s, true, true, x->fault == SHORT);
	case IORING_OP_FSYNC: return 0;
	case IORING_OP_FALLOCATE:
		MUST(s->off + s->addr <= bound);
		return fallocate(s->fd, (int)s->len, (off_t)s->off, (off_t)s->addr) < 0 ? -errno : 0;
	default: abort();
	}
}

/* Is it done now? */
static bool ends(struct in_flight *x, int *res)
{
	struct pollfd p = { .fd = x->sqe.fd, .events = POLLIN };

	if (x->sqe.opcode == IORING_OP_POLL_ADD) {
		*res = POLLIN;
		return poll(&p, 1, 0) > 0;
	}
	if (x->late) {
		x->late--;
		return false;
	}
	*res = execute(x);
	return true;
}

unsigned uring_reap(struct uring *u)
{
	struct fake *f = fake_of(u);
	unsigned ended = 0, n = f->n;

	for (unsigned i = 0; i < n && uring_room(u);) {
		struct in_flight x;
		int res;

		if (!ends(&f->flight[i], &res)) {
			i++;
			continue;
		}
		x = f->flight[i];
		n--;
		f->n--;
		memmove(&f->flight[i], &f->flight[i + 1], (f->n - i) * sizeof(x));
		x.op->done(x.op, res, 0);
		ended++;
	}
	return ended;
}

static void poll_done(struct uring_op *op, int res, uint32_t flags)
{
	struct uring_poll *p = (struct uring_poll *)op;

	(void)res, (void)flags;
	p->ready = true;
	p->armed = false;
}

void uring_poll_arm(struct uring *u, struct uring_poll *p)
{
	if (p->armed || !uring_room(u))
		return;
	p->op.done = poll_done;
	io_uring_prep_poll_multishot(uring_sqe(u, &p->op), p->fd, POLLIN);
	p->armed = true;
}

/* No image here waits for descriptors of its own. */
void uring_watch(struct uring *u, struct uring_watch *w, int fd, unsigned events)
{
	(void)u, (void)w, (void)fd, (void)events;
	abort();
}

void uring_unwatch(struct uring *u, struct uring_watch *w)
{
	(void)u, (void)w;
	abort();
}

/* ---- guests ---- */

struct queue {
	struct pv_ring ring;
	uint8_t *pages;
	uint32_t gref[1 << ORDER], port;
};

struct guest {
	struct pv_hyper *h;
	uint16_t domid;
	uint8_t *data;
	uint32_t gref[PAGES];
	struct queue q[QUEUES];
};

static struct blkworker *workers[WORKERS];
static struct vbds *vbds;
static struct pv_hub *hub;
static pthread_t hub_thread;
static struct pv_hyper *dom0;
static struct guest a, c; /* the well-behaved and the hostile one */
static struct pv_hub_domain base; /* what blkback, which is in domain 0, held with a alone */
static bool c_spoilt; /* its references, ports or process are not what they were */
static unsigned told; /* how often pviod was told that c broke */
static int broken_fd;
static char dir[] = "/tmp/pvio-fuzz-XXXXXX", a_config[80];

/* backend.h: what blkback tells pviod. */
void pv_backend_broken(struct pv_backend *backend, const struct pv_device_id *id, int error, const char *why)
{
	(void)backend;
	MUST(id->guest == c.domid && error == -EPROTO && why && *why); /* nobody but the offender is ever to blame */
	MUST(++told == 1);
}

static struct pv_device_id device(const struct guest *g)
{
	return (struct pv_device_id){ .guest = g->domid, .type = PV_NOXS_VBD, .devid = 51712 };
}

static void rings_reset(struct guest *g, unsigned order, enum pv_vbd_abi abi)
{
	for (unsigned i = 0; i < QUEUES; i++)
		pv_ring_init_front(&g->q[i].ring, g->q[i].pages, (size_t)PV_PAGE_SIZE << order, pv_blk_slot_size(abi));
}

static void share_data(struct guest *g)
{
	MUST(!pv_gnt_share(g->h, 0, PAGES, true, NULL, g->gref, (void **)&g->data));
}

static void guest_open(struct guest *g)
{
	uint32_t port;
	int domid = pv_hub_domain_create(dom0, 0, &port);
	char why[160];

	MUST(domid > 0);
	*g = (struct guest){ .domid = (uint16_t)domid };
	MUST(!pv_hyper_open(NULL, domid, &g->h, why, sizeof(why)));
	share_data(g);
	for (unsigned i = 0; i < QUEUES; i++) {
		MUST(!pv_gnt_share(g->h, 0, 1 << ORDER, true, NULL, g->q[i].gref, (void **)&g->q[i].pages));
		g->q[i].port = (uint32_t)pv_evt_alloc(g->h, 0);
		MUST((int)g->q[i].port > 0);
	}
	rings_reset(g, 0, PV_VBD_ABI_NATIVE);
}

static int guest_configure(struct guest *g, pv_backend_configure *call, const char *config)
{
	struct pv_device_id id = device(g);
	struct json_object *o = json_object_new_object(), *object;
	struct pv_noxs_offer offer = { .type = PV_NOXS_VBD };
	char why[300];
	int ret;

	json_object_object_add(o, "config", json_tokener_parse(config));
	ret = pv_config_from_json(o, &object, why, sizeof(why)); /* as a call of pviod is read */
	if (!ret)
		ret = call(vbds, &id, object, &offer, why, sizeof(why));
	json_object_put(o);
	return ret;
}

static struct pv_noxs_choice guest_choice(const struct guest *g, unsigned queues, unsigned order, enum pv_vbd_abi abi, uint32_t features)
{
	struct pv_noxs_choice choice = { .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .state = XenbusStateInitialised, .alive = 1,
					 .queues = (uint16_t)queues, .ring_order = (uint8_t)order, .abi = (uint8_t)abi, .features = features };

	for (unsigned i = 0; i < queues; i++) {
		memcpy(choice.vbd[i].ring_gref, g->q[i].gref, sizeof(g->q[i].gref));
		choice.vbd[i].port = g->q[i].port;
	}
	return choice;
}

static int guest_connect(struct guest *g, const char *config, const struct pv_noxs_choice *choice)
{
	struct pv_connect connect = { .id = device(g), .config = json_tokener_parse(config), .choice = *choice };
	char why[300];
	int ret = vbd_ops.connect(vbds, &connect, why, sizeof(why));

	json_object_put(connect.config);
	if (!ret && g == &c)
		told = 0;
	return ret;
}

/* disconnect or remove; as pviod does, again while I/O is in flight. */
static void guest_call(const struct guest *g, int (*call)(void *ctx, const struct pv_device_id *id, char *why, size_t len))
{
	struct pv_device_id id = device(g);
	unsigned patience = 100;
	char why[300];
	int ret;

	while ((ret = call(vbds, &id, why, sizeof(why))) == -EAGAIN)
		MUST(patience--);
	MUST(!ret);
}

static void turns(unsigned n)
{
	uint64_t count;

	while (n--) {
		for (unsigned i = 0; i < WORKERS; i++)
			step(workers[i]->thread);
		if (read(broken_fd, &count, sizeof(count)) > 0)
			vbds_report_broken(vbds, (struct pv_backend *)&hub); /* anything: pv_backend_broken above is all that it is for */
	}
}

/* As a frontend of this machine would write it, whatever the slots of that ring are: those of x86_32 are not aligned for it. */
static void fill_request(struct pv_ring *ring, const struct pv_blk_req *r)
{
	static _Alignas(PV_PAGE_SIZE) uint8_t page[PV_PAGE_SIZE];
	struct pv_ring native;

	pv_ring_init_front(&native, page, sizeof(page), PV_BLK_SLOT_MAX);
	pv_blk_fill_req(&native, r);
	memcpy(pv_ring_fill(ring), pv_ring_slot(&native, 0), ring->slot_size);
}

/* ---- the well-behaved one ---- */

static void a_does(unsigned queue, uint8_t op, unsigned page, uint64_t sector)
{
	struct pv_blk_req r = { .id = sector, .op = op, .op_slot = op, .sector = sector, .nr_segs = 1, .seg[0] = { .gref = a.gref[page], .last = 7 } };
	struct queue *q = &a.q[queue];
	struct blkif_response rsp;
	unsigned patience = 100000; /* a rest takes its time */
	int n;

	fill_request(&q->ring, &r);
	if (pv_ring_publish(&q->ring))
		pv_evt_notify(a.h, q->port);
	while (!(n = pv_ring_ready(&q->ring))) {
		turns(1);
		MUST(patience--);
	}
	MUST(n == 1);
	pv_blk_take_rsp(&q->ring, &rsp);
	MUST(rsp.id == sector && rsp.operation == op && rsp.status == BLKIF_RSP_OKAY);
	while ((n = pv_ring_rearm(&q->ring, 1)))
		MUST(n >= 0);
}

/* What it writes it reads, whatever else is done. */
static void a_io(void)
{
	static unsigned round;
	uint64_t sector = ++round * 8 % (DISK / PV_BLK_SECTOR);

	for (unsigned i = 0; i < QUEUES; i++) {
		memset(a.data, (int)(round + i), PV_PAGE_SIZE);
		a_does(i, BLKIF_OP_WRITE, 0, sector);
		a_does(i, BLKIF_OP_READ, 1, sector);
		MUST(!memcmp(a.data, a.data + PV_PAGE_SIZE, PV_PAGE_SIZE));
	}
}

/* ---- before and after ---- */

static struct pv_hub_domain domain(uint16_t domid)
{
	struct pv_hub_domain all[3];

	MUST(pv_hub_domain_list(dom0, all, COUNT(all)) == COUNT(all));
	for (unsigned i = 0; i < COUNT(all); i++)
		if (all[i].domid == domid)
			return all[i];
	abort();
}

/* Nothing of c, which is disconnected, is left. */
static void check_all_back(void)
{
	struct pv_hub_domain now = domain(0);

	MUST(now.ports == base.ports && now.handles == base.handles && now.grants == base.grants && now.maps == base.maps);
	MUST(!domain(c.domid).pinned);
}

static void *hub_main(void *arg)
{
	(void)arg;
	pv_hub_run(hub);
	return NULL;
}

static void remove_dir(void)
{
	static const char *const files[] = { "hub.sock", "a.img", "c.img", "table" };
	char path[80];

	for (unsigned i = 0; i < COUNT(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		unlink(path);
	}
	rmdir(dir);
}

static void make_file(const char *name, const char *text)
{
	char path[80];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	MUST(fd >= 0);
	if (text)
		MUST(write(fd, text, strlen(text)) > 0);
	else
		MUST(!ftruncate(fd, DISK));
	close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct blkworker_options o = { .cpu = -1 };
	struct pv_noxs_choice choice;
	char path[64], text[400], why[300];

	(void)argc, (void)argv;
	MUST(mkdtemp(dir));
	atexit(remove_dir);
	setenv("PVIO_RUNDIR", dir, 1);
	setenv("PVIO_HYPERVISOR", "loopback", 1);
	snprintf(path, sizeof(path), "%s/hub.sock", dir);
	MUST(!pv_hub_open(path, &(struct pv_hub_limits){ .domains = 16, .grants = 1024, .ports = 64 }, &hub) && !pthread_create(&hub_thread, NULL, hub_main, NULL));
	MUST(!pv_hyper_open(NULL, 0, &dom0, why, sizeof(why)));
	pv_log_open("fuzz_vbd", PV_LOG_ERR);
	make_file("a.img", NULL);
	make_file("c.img", NULL);
	snprintf(text, sizeof(text), "%s/c.img 256 100\n%s/c.img 0 8\n%s/c.img 9 7\n", dir, dir, dir);
	make_file("table", text);
	o.broken_fd = broken_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	for (unsigned i = 0; i < WORKERS; i++)
		MUST(!blkworker_start(i, &o, &workers[i], why, sizeof(why)));
	MUST(!vbds_new(workers, WORKERS, &vbds));
	bound = 2 * DISK;
	guest_open(&a);
	choice = guest_choice(&a, QUEUES, 0, PV_VBD_ABI_NATIVE, 0);
	snprintf(a_config, sizeof(a_config), "{\"path\":\"%s/a.img\",\"direct\":\"off\"}", dir);
	MUST(!guest_configure(&a, vbd_ops.prepare, a_config) && !guest_connect(&a, a_config, &choice));
	guest_open(&c);
	a_io();
	turns(10);
	base = domain(0);
	return 0;
}

/* ---- what the hostile guest does ---- */

static uint32_t any_gref(struct input *in)
{
	uint8_t n = take8(in);

	switch (n >> 5) {
	case 6: return a.gref[n % PAGES]; /* another guest's */
	case 7: return take32(in);
	case 5: return c.q[n % QUEUES].gref[n / QUEUES % (1 << ORDER)]; /* its own ring */
	default: return c.gref[n % PAGES];
	}
}

static struct queue *any_queue(struct input *in)
{
	return &c.q[take8(in) % QUEUES];
}

/* What a frontend would write, more or less, and always in the 64-bit layout. */
static void act_request(struct input *in)
{
	struct queue *q = any_queue(in);
	struct pv_blk_req r = { .id = take8(in), .op = take8(in) % 8, .sector = take16(in) % (2 * DISK / PV_BLK_SECTOR) };

	r.op_slot = r.op;
	r.nr_segs = take8(in) % 16;
	r.nr_sectors = take16(in);
	r.discard_flag = r.nr_sectors & 1;
	if (r.op == BLKIF_OP_INDIRECT) {
		r.indirect = true;
		r.op = take8(in) % 4;
		r.nr_segs = take16(in) % 600;
		for (unsigned i = 0; i < COUNT(r.indirect_gref); i++)
			r.indirect_gref[i] = i < 2 ? any_gref(in) : 0;
	}
	for (unsigned i = 0; !r.indirect && i < r.nr_segs && i < PV_BLK_SEGS_DIRECT; i++) {
		uint8_t where = take8(in);

		r.seg[i] = (struct pv_blk_seg){ any_gref(in), where & 0x80 ? where & 15 : 0, where & 0x80 ? where >> 3 & 15 : 7 };
	}
	fill_request(&q->ring, &r);
}

/* Good neighbours, which become one I/O. */
static void act_run(struct input *in)
{
	struct queue *q = any_queue(in);
	uint8_t op = take8(in) & 1, n = take8(in) % 24, page = take8(in);
	uint64_t sector = take16(in) % (DISK / PV_BLK_SECTOR);

	for (unsigned i = 0; i < n; i++) {
		struct pv_blk_req r = { .id = i, .op = op, .op_slot = op, .sector = sector + 8 * i, .nr_segs = 1,
					.seg[0] = { .gref = c.gref[(page + i) % PAGES], .last = 7 } };

		fill_request(&q->ring, &r);
	}
	pv_ring_publish(&q->ring);
	pv_evt_notify(c.h, q->port);
}

/* Any bytes as a slot. */
static void act_slot(struct input *in)
{
	struct queue *q = any_queue(in);

	take_bytes(in, pv_ring_fill(&q->ring), q->ring.slot_size);
}

/* A page of segments, most of which are possible. */
static void act_segments(struct input *in)
{
	struct blkif_request_segment *s = (void *)(c.data + take8(in) % PAGES * PV_PAGE_SIZE);
	unsigned n = take16(in) % PV_BLK_SEGS_PAGE;
	uint8_t odd = take8(in);

	for (unsigned i = 0; i < n; i++)
		s[i] = (struct blkif_request_segment){ .gref = c.gref[(odd + i) % PAGES], .last_sect = 7 };
	if (n && odd & 1)
		take_bytes(in, &s[take16(in) % n], sizeof(*s));
}

static void act_publish(struct input *in)
{
	struct queue *q = any_queue(in);

	pv_ring_publish(&q->ring);
	if (take8(in) & 1)
		pv_evt_notify(c.h, q->port);
}

/* Any word of a ring's header, or any bytes of its slots. */
static void act_scribble(struct input *in)
{
	uint8_t *page = any_queue(in)->pages;
	unsigned at = take8(in) & 1 ? take8(in) % 16 * 4 : take16(in) % PV_PAGE_SIZE, n = take8(in);

	take_bytes(in, page + at, n < PV_PAGE_SIZE - at ? n : PV_PAGE_SIZE - at);
}

static void act_events(struct input *in)
{
	struct queue *q = any_queue(in);

	for (unsigned n = take8(in); n--;) {
		pv_evt_notify(c.h, q->port);
		if (n % 16 == 0)
			turns(1);
	}
}

/* It takes its answers, as far as they make sense to it. */
static void act_consume(struct input *in)
{
	struct queue *q = any_queue(in);
	int n = pv_ring_ready(&q->ring);

	while (n-- > 0)
		pv_ring_take(&q->ring);
	if (take8(in) & 1)
		pv_ring_rearm(&q->ring, 1);
}

/* What dom0 may have configured. The guest has no say in it, but each is another way through blkback. */
static const char *any_config(struct input *in)
{
	static const char *const configs[] = {
		"c.img\"", "c.img\",\"persistent\":\"0\"", "c.img\",\"indirect\":\"0\",\"cache\":\"11\"", "c.img\",\"mode\":\"r\"", "c.img\",\"sector\":\"4096\"",
		"c.img\",\"discard\":\"0\",\"queues\":\"1\"", "c.img\",\"indirect\":\"512\",\"cache\":\"512\",\"cdrom\":\"1\"", "table\"", "none\"",
	};
	static char text[160];
	uint8_t n = take8(in);

	if (n % 16 == 15)
		return n & 16 ? "{\"path\":\"ram:64k\",\"cache\":\"300\"}" : "{\"path\":\"null:64k\",\"persistent\":\"0\"}";
	n %= COUNT(configs);
	snprintf(text, sizeof(text), "{\"path\":\"%s%s/%s,\"direct\":\"off\"}", n == 7 ? "extents:" : "", dir, configs[n]);
	return text;
}

static void act_connect(struct input *in)
{
	uint8_t how = take8(in), what = take8(in);
	unsigned order = what % (ORDER + 1);
	struct pv_noxs_choice choice = guest_choice(&c, 1 + (how & 1), order, what >> 4 & 3, how & 32 ? PV_VBD_PERSISTENT : 0);

	if (how & 2) /* any word of its first queue */
		((uint32_t *)choice.vbd)[take8(in) % 17] = how & 4 ? any_gref(in) : take32(in);
	if (how & 8)
		rings_reset(&c, order, choice.abi);
	guest_connect(&c, any_config(in), &choice);
}

static void act_set(struct input *in)
{
	guest_configure(&c, vbd_ops.set, any_config(in));
}

static void act_prepare(struct input *in)
{
	guest_configure(&c, vbd_ops.prepare, any_config(in));
}

static void act_resize(struct input *in)
{
	uint16_t n = take16(in);
	struct json_object *params = json_object_new_object(), *o;
	struct pv_device_id id = device(&c);
	char why[300];
	int error;

	json_object_object_add(params, "size", json_object_new_int64(n & 1 ? 0 : n % (2 * DISK / PV_BLK_SECTOR + 1) * PV_BLK_SECTOR));
	json_object_object_add(params, "force", json_object_new_boolean(n >> 15));
	o = vbd_ops.ask(vbds, &id, "resize", params, &error, why, sizeof(why));
	json_object_put(o);
	json_object_put(params);
}

static void act_faults(struct input *in)
{
	nr_faults = take8(in) % (FAULTS + 1);
	take_bytes(in, faults, nr_faults);
	next_fault = 0;
}

static void act_revoke(struct input *in)
{
	static const char *const kinds[] = { "map", "bind" };
	uint8_t what = take8(in);
	struct queue *q = &c.q[what % QUEUES];

	c_spoilt = true;
	if (what & 0x80) {
		pv_gnt_unshare(c.h, c.data, PAGES);
		share_data(&c); /* others, with other references */
	} else if (what & 0x40) {
		pv_evt_unbind(c.h, q->port);
		q->port = (uint32_t)pv_evt_alloc(c.h, 0);
	} else {
		pv_hub_inject(dom0, c.domid, kinds[what % 2], take8(in) % 16, 1 + take8(in) % 4, (int8_t)take8(in) | 1);
	}
}

static void act_report(struct input *in)
{
	struct pv_device_id id = device(&c);

	json_object_put(take8(in) & 1 ? vbd_stats(vbds, &id) : vbd_inspect(vbds, &id));
}

static void act(struct input *in)
{
	static void (*const acts[])(struct input *in) = {
		act_request, act_run, act_slot, act_segments, act_publish, act_scribble, act_events, act_consume, act_connect, act_prepare, act_set,
		act_resize, act_faults, act_revoke, act_report,
	};
	unsigned what = take8(in) % (COUNT(acts) + 5);

	switch (what - COUNT(acts)) {
	case 0:
	case 1: turns(1 + take8(in) % 8); break;
	case 2: guest_call(&c, vbd_ops.disconnect); break;
	case 3: guest_call(&c, vbd_ops.remove); break;
	case 4: any_queue(in)->ring.shared->req_prod += take32(in); break;
	default: acts[what](in);
	}
}

/* It is disconnected, by its own death first if `dies`, and as it was at first. */
static void c_ends(bool dies)
{
	char path[80];

	if (dies) {
		pv_hyper_close(c.h);
		c.h = NULL;
		turns(2);
	}
	guest_call(&c, vbd_ops.disconnect);
	check_all_back();
	guest_call(&c, vbd_ops.remove);
	if (dies || c_spoilt) {
		pv_hyper_close(c.h);
		MUST(!pv_hub_domain_destroy(dom0, c.domid));
		guest_open(&c);
		c_spoilt = false;
	}
	snprintf(path, sizeof(path), "%s/c.img", dir);
	MUST(!truncate(path, DISK));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t end = take8(&in);
	struct pv_noxs_choice choice = guest_choice(&c, QUEUES, end >> 3 & 1, PV_VBD_ABI_NATIVE, end & 16 ? PV_VBD_PERSISTENT : 0);
	char config[120];

	told = 0;
	rings_reset(&c, end >> 3 & 1, PV_VBD_ABI_NATIVE);
	snprintf(config, sizeof(config), "{\"path\":\"%s/c.img\",\"direct\":\"off\"}", dir);
	MUST(!guest_configure(&c, vbd_ops.prepare, config) && !guest_connect(&c, config, &choice));
	for (unsigned n = 0; in.left && n < 200; n++)
		act(&in);
	nr_faults = 0;
	turns(1);
	a_io();
	c_ends(end % 8 == 7);
	return 0;
}
