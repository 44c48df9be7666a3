/* blk_rig.h - for the test_blk_* programs: a hub, the real pvio-blkback as a process, a pviod that is this test, and guests that do
 * whatever a test wants with their rings. Everything lives below one run directory, which goes at the end.
 *
 * A well-behaved guest, the bystander, has a vbd on the same backend all the time: rig_check has it do real I/O, and compares what
 * the backend process holds (descriptors, mapped grants) with what it held before.
 */
#ifndef BLK_RIG_H
#define BLK_RIG_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <pvio/backend.h>
#include <pvio/blk.h>
#include <pvio/hub.h>
#include <pvio/hyper.h>
#include <pvio/rpc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum {
	XVDA = 51712,
	DATA_PAGES = 512, /* a guest */
	DISK_SECTORS = 8192, /* 4 MiB */
	PATIENCE = 20000, /* ms: something is wrong */
};

/* ---- guests ---- */

struct guest_queue {
	void *pages;
	uint32_t gref[PV_NOXS_RING_PAGES_MAX];
	struct pv_ring ring;
	uint32_t port;
};

struct guest {
	struct pv_hyper *h;
	uint16_t domid;
	uint32_t devid;
	enum pv_vbd_abi abi;
	unsigned order, nq;
	struct guest_queue q[PV_NOXS_QUEUES_MAX];
	uint8_t *data; /* DATA_PAGES pages */
	uint32_t gref[DATA_PAGES];
	char image[64];
	struct pv_noxs_vbd_offer offer;
};

struct rig {
	char dir[32];
	pid_t hub, backend;
	int log; /* the backend's stderr */
	struct pv_hyper *dom0;
	struct pv_rpc *rpc;
	int listener;
	bool registered, closed;
	unsigned broken; /* devices that were told to be broken */
	struct pv_device_id broken_id;
	char broken_why[256];
	struct guest bystander;
	uint64_t lcg;
	unsigned fds, maps; /* of the backend, with the bystander alone */
};

static struct rig rig;

/* ---- pviod's side ---- */

static void rig_on_call(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	struct json_object *why = NULL;

	(void)ctx;
	if (!strcmp(method, "register"))
		rig.registered = true;
	if (!strcmp(method, "broken")) {
		rig.broken++;
		pv_device_id_from_json(params, &rig.broken_id, rig.broken_why, sizeof(rig.broken_why));
		json_object_object_get_ex(params, "why", &why);
		snprintf(rig.broken_why, sizeof(rig.broken_why), "%s", why ? json_object_get_string(why) : "");
	}
	pv_rpc_reply(rpc, id, NULL);
}

static void rig_on_closed(void *ctx, struct pv_rpc *rpc, int err)
{
	(void)ctx, (void)rpc, (void)err;
	rig.closed = true;
}

static const struct pv_rpc_ops rig_rpc_ops = { .call = rig_on_call, .closed = rig_on_closed };

/* Run the connection once, for at most ms. */
static inline void rig_pump(int ms)
{
	struct pollfd p = { .fd = pv_rpc_fd(rig.rpc), .events = pv_rpc_events(rig.rpc) };

	poll(&p, 1, ms);
	pv_rpc_work(rig.rpc);
}

struct rig_answer {
	bool done;
	int code;
	char message[256];
	struct json_object *result;
};

static void rig_on_done(void *arg, int code, const char *message, struct json_object *result)
{
	struct rig_answer *a = arg;

	a->done = true;
	a->code = code;
	snprintf(a->message, sizeof(a->message), "%s", message ? message : "");
	a->result = result ? json_object_get(result) : NULL;
}

static struct rig_answer rig_last; /* the last answer; its result is dropped by the next call */

/* One call to the backend. Returns its code. */
static inline int rig_call(const char *method, struct json_object *params)
{
	json_object_put(rig_last.result);
	rig_last = (struct rig_answer){ .done = false };
	assert_int_equal(pv_rpc_call(rig.rpc, method, params, PATIENCE, rig_on_done, &rig_last), 0);
	while (!rig_last.done && !rig.closed)
		rig_pump(10);
	assert_true(rig_last.done);
	return rig_last.code;
}

static inline struct pv_device_id guest_device(const struct guest *g)
{
	return (struct pv_device_id){ .guest = g->domid, .type = PV_NOXS_VBD, .devid = g->devid };
}

static inline int guest_call(const struct guest *g, const char *method)
{
	struct pv_device_id id = guest_device(g);

	return rig_call(method, pv_device_id_to_json(&id));
}

static inline struct json_object *config_json(const struct guest *g, const char *more)
{
	struct json_object *o = json_tokener_parse(more ? more : "{}");

	assert_non_null(o);
	if (!json_object_object_get_ex(o, "path", NULL))
		json_object_object_add(o, "path", json_object_new_string(g->image));
	return o;
}

/* prepare; the offer goes to g->offer. more: further keys, as JSON, or NULL. */
static inline int guest_prepare(struct guest *g, const char *more)
{
	struct pv_device_id id = guest_device(g);
	struct json_object *params = pv_device_id_to_json(&id);
	struct pv_noxs_offer offer = { .type = PV_NOXS_VBD };
	char why[256];
	int ret;

	json_object_object_add(params, "config", config_json(g, more));
	ret = rig_call("prepare", params);
	if (ret == 0) {
		assert_int_equal(pv_offer_from_json(rig_last.result, PV_NOXS_VBD, &offer, why, sizeof(why)), 0);
		g->offer = offer.vbd;
	}
	return ret;
}

/* connect with the rings that guest_rings made, or with a choice that a test bent. */
static inline struct pv_noxs_choice guest_choice(const struct guest *g, uint32_t features)
{
	struct pv_noxs_choice c = { .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .state = XenbusStateInitialised, .alive = 1,
				    .ring_order = g->order, .abi = g->abi, .queues = g->nq, .features = features };

	for (unsigned i = 0; i < g->nq; i++) {
		memcpy(c.vbd[i].ring_gref, g->q[i].gref, sizeof(c.vbd[i].ring_gref));
		c.vbd[i].port = g->q[i].port;
	}
	return c;
}

static inline int guest_connect_choice(struct guest *g, const char *more, const struct pv_noxs_choice *choice)
{
	struct pv_connect c = { .id = guest_device(g), .config = config_json(g, more), .choice = *choice };
	struct json_object *params = pv_connect_to_json(&c);

	json_object_put(c.config);
	return rig_call("connect", params);
}

/* ---- the guest's side ---- */

/* Rings and ports anew. */
static inline void guest_rings(struct guest *g, unsigned nq, unsigned order, enum pv_vbd_abi abi)
{
	g->nq = nq;
	g->order = order;
	g->abi = abi;
	for (unsigned i = 0; i < nq; i++) {
		struct guest_queue *q = &g->q[i];
		int port = pv_evt_alloc(g->h, 0);

		assert_true(port > 0);
		q->port = port;
		assert_int_equal(pv_gnt_share(g->h, 0, 1u << order, true, NULL, q->gref, &q->pages), 0);
		pv_ring_init_front(&q->ring, q->pages, (size_t)PV_PAGE_SIZE << order, pv_blk_slot_size(abi));
	}
}

static inline void guest_rings_end(struct guest *g)
{
	for (unsigned i = 0; i < g->nq; i++) {
		pv_gnt_unshare(g->h, g->q[i].pages, 1u << g->order);
		pv_evt_unbind(g->h, g->q[i].port);
	}
	g->nq = 0;
}

/* A domain with data pages and a disk image of its own, of random content. */
static inline void guest_open(struct guest *g)
{
	char why[160];
	uint32_t port;
	int domid = pv_hub_domain_create(rig.dom0, 0, &port), fd;
	static uint8_t block[1 << 16];

	assert_true(domid > 0);
	*g = (struct guest){ .domid = domid, .devid = XVDA };
	if (pv_hyper_open("loopback", domid, &g->h, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	assert_int_equal(pv_gnt_share(g->h, 0, DATA_PAGES, true, NULL, g->gref, (void **)&g->data), 0);
	snprintf(g->image, sizeof(g->image), "%s/disk%d.img", rig.dir, domid);
	fd = open(g->image, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	for (unsigned done = 0; done < DISK_SECTORS * 512; done += sizeof(block)) {
		for (unsigned i = 0; i < sizeof(block); i++) {
			rig.lcg = rig.lcg * 6364136223846793005u + 1442695040888963407u;
			block[i] = rig.lcg >> 56;
		}
		assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
	}
	close(fd);
}

/* The domain ends, with all that it shared. */
static inline void guest_close(struct guest *g)
{
	pv_hyper_close(g->h);
	assert_int_equal(pv_hub_domain_destroy(rig.dom0, g->domid), 0);
	unlink(g->image);
	*g = (struct guest){ .h = NULL };
}

static inline void guest_up_with(struct guest *g, const char *more, unsigned nq, unsigned order, enum pv_vbd_abi abi, uint32_t features)
{
	struct pv_noxs_choice c;

	if (guest_prepare(g, more))
		fail_msg("prepare: %s", rig_last.message);
	guest_rings(g, nq, order, abi);
	c = guest_choice(g, features);
	if (guest_connect_choice(g, more, &c))
		fail_msg("connect: %s", rig_last.message);
}

static inline void guest_up(struct guest *g, const char *more)
{
	guest_up_with(g, more, 1, 0, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT);
}

static inline void guest_down(struct guest *g)
{
	if (guest_call(g, "disconnect"))
		fail_msg("disconnect: %s", rig_last.message);
	guest_rings_end(g);
	if (guest_call(g, "remove"))
		fail_msg("remove: %s", rig_last.message);
}

/* Write a request as it is, in the guest's ABI. op_slot says what kind of slot; seg count beyond 11 is written, not followed. */
static inline void guest_put(struct guest *g, unsigned queue, const struct pv_blk_req *r)
{
	struct pv_ring *ring = &g->q[queue].ring;
	unsigned n = r->nr_segs < PV_BLK_SEGS_DIRECT ? r->nr_segs : PV_BLK_SEGS_DIRECT;
	struct pv_blk_x86_32_request *s;

	if (g->abi != PV_VBD_ABI_X86_32) {
		pv_blk_fill_req(ring, r);
		return;
	}
	s = pv_ring_fill(ring);
	memset(s, 0xee, sizeof(*s));
	s->operation = r->op_slot;
	s->nr_segments = r->nr_segs;
	s->id = r->id;
	s->sector_number = r->sector;
	if (r->op_slot == BLKIF_OP_DISCARD) {
		((struct pv_blk_x86_32_discard *)s)->nr_sectors = r->nr_sectors;
		((struct pv_blk_x86_32_discard *)s)->flag = r->discard_flag;
	} else if (r->op_slot == BLKIF_OP_INDIRECT) {
		struct pv_blk_x86_32_indirect *ind = (void *)s;

		ind->indirect_op = r->op;
		ind->nr_segments = r->nr_segs;
		memcpy(ind->indirect_grefs, r->indirect_gref, sizeof(r->indirect_gref));
	} else {
		for (unsigned i = 0; i < n; i++)
			s->seg[i] = (struct blkif_request_segment){ .gref = r->seg[i].gref, .first_sect = r->seg[i].first,
								    .last_sect = r->seg[i].last };
	}
}

static inline void guest_notify(struct guest *g, unsigned queue)
{
	pv_ring_publish(&g->q[queue].ring);
	pv_evt_notify(g->h, g->q[queue].port);
}

static inline int64_t rig_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* The next answer: its id, operation and status, and that it left nothing else in its slot (XSA-216). */
static inline bool guest_poll(struct guest *g, unsigned queue, struct blkif_response *out)
{
	struct pv_ring *ring = &g->q[queue].ring;
	const uint8_t *slot;
	int n = pv_ring_ready(ring);

	assert_true(n >= 0);
	if (!n)
		return false;
	slot = pv_ring_slot(ring, ring->cons);
	if (g->abi == PV_VBD_ABI_X86_32) {
		struct pv_blk_x86_32_response r = *(const volatile struct pv_blk_x86_32_response *)pv_ring_take(ring);

		*out = (struct blkif_response){ .id = r.id, .operation = r.operation, .status = r.status };
		assert_int_equal(r.pad, 0);
	} else {
		pv_blk_take_rsp(ring, out);
		assert_int_equal(slot[9], 0);
		assert_int_equal(*(const uint32_t *)(slot + 12), 0);
	}
	return true;
}

static inline struct blkif_response guest_wait(struct guest *g, unsigned queue)
{
	int64_t end = rig_ms() + PATIENCE;
	struct blkif_response r;

	while (!guest_poll(g, queue, &r)) {
		if (rig_ms() > end)
			fail_msg("no answer from the backend; inspect: %s %s", guest_call(g, "inspect") ? rig_last.message : json_object_to_json_string(rig_last.result), rig.broken_why);
		if (pv_ring_rearm(&g->q[queue].ring, 1) == 0)
			usleep(20);
	}
	return r;
}

/* READ or WRITE of n pages of data, from page `page`, at a sector. */
static inline struct pv_blk_req guest_rw(const struct guest *g, uint8_t op, uint64_t sector, unsigned page, unsigned n)
{
	struct pv_blk_req r = { .id = sector, .op = op, .op_slot = op, .sector = sector, .nr_segs = n };

	for (unsigned i = 0; i < n && i < PV_BLK_SEGS_DIRECT; i++)
		r.seg[i] = (struct pv_blk_seg){ .gref = g->gref[page + i], .first = 0, .last = 7 };
	return r;
}

static inline int guest_do(struct guest *g, unsigned queue, const struct pv_blk_req *r)
{
	struct blkif_response rsp;

	guest_put(g, queue, r);
	guest_notify(g, queue);
	rsp = guest_wait(g, queue);
	assert_int_equal(rsp.id, r->id);
	assert_int_equal(rsp.operation, r->op);
	return rsp.status;
}

/* What the image file holds is compared with memory. */
static inline void image_equals(const struct guest *g, uint64_t sector, const void *data, size_t len)
{
	uint8_t *got = malloc(len);
	int fd = open(g->image, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, got, len, sector * 512), len);
	assert_memory_equal(got, data, len);
	close(fd);
	free(got);
}

/* Real I/O through every queue: read and compare, write and compare. */
static inline void guest_io(struct guest *g)
{
	for (unsigned queue = 0; queue < g->nq; queue++) {
		uint64_t sector = (rig.lcg = rig.lcg * 6364136223846793005u + 1442695040888963407u) % (DISK_SECTORS - 64) & ~7ull;
		struct pv_blk_req rd = guest_rw(g, BLKIF_OP_READ, sector, 1, 3), wr = guest_rw(g, BLKIF_OP_WRITE, sector, 8, 2);

		memset(g->data, 0, 4 * PV_PAGE_SIZE);
		assert_int_equal(guest_do(g, queue, &rd), BLKIF_RSP_OKAY);
		image_equals(g, sector, g->data + PV_PAGE_SIZE, 3 * PV_PAGE_SIZE);
		for (unsigned i = 0; i < 2 * PV_PAGE_SIZE; i++)
			g->data[8 * PV_PAGE_SIZE + i] = rig.lcg >> (i % 57);
		assert_int_equal(guest_do(g, queue, &wr), BLKIF_RSP_OKAY);
		image_equals(g, sector, g->data + 8 * PV_PAGE_SIZE, 2 * PV_PAGE_SIZE);
	}
}

/* A number of the device's counters. */
static inline int64_t guest_stat(const struct guest *g, const char *name)
{
	struct json_object *v = NULL;

	assert_int_equal(guest_call(g, "stats"), 0);
	if (!json_object_object_get_ex(rig_last.result, name, &v))
		fail_msg("no counter %s", name);
	return json_object_get_int64(v);
}

/* Wait until pviod was told that a device broke. */
static inline void wait_broken(const struct guest *g, unsigned times)
{
	int64_t end = rig_ms() + PATIENCE;

	while (rig.broken < times && rig_ms() < end)
		rig_pump(10);
	assert_int_equal(rig.broken, times);
	assert_int_equal(rig.broken_id.guest, g->domid);
	assert_int_equal(rig.broken_id.devid, g->devid);
}

/* ---- what the backend process holds ---- */

/* Descriptors but those of memory files: the loopback port keeps some of these, bounded, for pages that it may map again. */
static inline unsigned backend_fds(void)
{
	char path[64], to[64];
	unsigned n = 0;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", rig.backend);
	d = opendir(path);
	assert_non_null(d);
	while ((e = readdir(d))) {
		ssize_t len = readlinkat(dirfd(d), e->d_name, to, sizeof(to) - 1);

		to[len > 0 ? len : 0] = 0;
		n += len > 0 && !strstr(to, "memfd:");
	}
	closedir(d);
	return n;
}

/* Mappings of memory files: grants. */
static inline unsigned backend_maps(void)
{
	char path[64], line[512];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", rig.backend);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "memfd:") != NULL;
	fclose(f);
	return n;
}

/* After a test: the bystander is served as ever, and the backend holds what it held. Registered files go in the background. */
static inline void rig_check(void)
{
	int64_t end = rig_ms() + PATIENCE;

	assert_int_equal(waitpid(rig.backend, NULL, WNOHANG), 0);
	guest_io(&rig.bystander);
	while ((backend_fds() != rig.fds || backend_maps() != rig.maps) && rig_ms() < end)
		usleep(1000);
	assert_int_equal(backend_fds(), rig.fds);
	assert_int_equal(backend_maps(), rig.maps);
}

/* How often a text is in the backend's log. */
static inline unsigned log_count(const char *text)
{
	static char log[1 << 20];
	unsigned n = 0;
	ssize_t len = pread(rig.log, log, sizeof(log) - 1, 0);

	log[len > 0 ? len : 0] = 0;
	for (const char *at = log; (at = strstr(at, text)); at++)
		n++;
	return n;
}

/* ---- up and down ---- */

static void rig_hub(void)
{
	char path[64];
	struct pv_hub *hub;

	snprintf(path, sizeof(path), "%s/hub.sock", rig.dir);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (pv_hub_open(path, NULL, &hub) < 0)
		_exit(1);
	pv_hub_run(hub);
	_exit(0);
}

/* The program beside this one's folder: build/tests/hostile/.. -> build/pvio-blkback. */
static void rig_backend(void)
{
	char path[512];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);

	for (int i = 0; i < 3 && n > 0; i++)
		while (n > 0 && path[--n] != '/')
			;
	strcpy(path + (n > 0 ? n : 0), "/pvio-blkback");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(rig.log, 2);
	execl(path, path, "--workers", "2", "--poll-us", "20", NULL);
	perror(path);
	_exit(1);
}

static inline int rig_up(void **state)
{
	char path[64], why[160];
	int64_t end = rig_ms() + PATIENCE;
	int fd;

	(void)state;
	rig = (struct rig){ .dir = "/tmp/pvio-blk.XXXXXX", .lcg = 42 };
	if (!mkdtemp(rig.dir) || setenv("PVIO_RUNDIR", rig.dir, 1) || setenv("PVIO_HYPERVISOR", "loopback", 1))
		return -1;
	rig.hub = fork();
	if (rig.hub == 0)
		rig_hub();
	while (pv_hyper_open("loopback", 0, &rig.dom0, why, sizeof(why)) < 0 && rig_ms() < end)
		usleep(1000);
	snprintf(path, sizeof(path), "%s/pviod.sock", rig.dir);
	rig.listener = pv_rpc_listen(path);
	snprintf(path, sizeof(path), "%s/log", rig.dir);
	rig.log = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (!rig.dom0 || rig.listener < 0 || rig.log < 0)
		return -1;
	rig.backend = fork();
	if (rig.backend == 0)
		rig_backend();
	do {
		fd = accept4(rig.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (waitpid(rig.backend, NULL, WNOHANG) == rig.backend) {
			rig.backend = 0;
			if (log_count("io_uring is not usable")) {
				printf("SKIP need=uring: io_uring is not usable here\n");
				exit(77);
			}
			return -1;
		}
		usleep(1000);
	} while (fd < 0 && rig_ms() < end);
	if (fd < 0 || pv_rpc_new(fd, &rig_rpc_ops, NULL, &rig.rpc))
		return -1;
	while (!rig.registered && rig_ms() < end)
		rig_pump(10);
	guest_open(&rig.bystander);
	guest_up_with(&rig.bystander, NULL, 2, 0, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT); /* one queue on each worker */
	guest_io(&rig.bystander);
	rig.fds = backend_fds();
	rig.maps = backend_maps();
	return 0;
}

static inline void rig_kill(pid_t *pid, int sig)
{
	if (*pid <= 0)
		return;
	kill(*pid, sig);
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

/* The backend ends in order, whatever was done to it. */
static inline int rig_down(void **state)
{
	int status = -1;
	char command[64];

	(void)state;
	if (rig.backend > 0) {
		kill(rig.backend, SIGTERM);
		waitpid(rig.backend, &status, 0);
		rig.backend = 0;
	}
	if (status)
		log_count(""), fprintf(stderr, "the backend ended with status %#x; its log is in %s\n", status, rig.dir);
	json_object_put(rig_last.result);
	pv_rpc_free(rig.rpc);
	close(rig.listener);
	pv_hyper_close(rig.bystander.h);
	pv_hyper_close(rig.dom0);
	rig_kill(&rig.hub, SIGTERM);
	close(rig.log);
	if (status)
		return -1;
	snprintf(command, sizeof(command), "rm -rf %s", rig.dir);
	return system(command);
}

#endif
