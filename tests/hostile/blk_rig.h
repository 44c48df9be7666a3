/* blk_rig.h - for the test_blk_* programs: a hub, the real pvio-blkback as a process, a pviod that is this test, and guests that do
 * whatever a test wants with their rings. Everything lives below one run directory, which goes at the end.
 *
 * A well-behaved guest, the bystander, has a vbd on the same backend all the time: rig_check has it do real I/O, and compares what
 * the backend process holds (descriptors, mapped grants) with what it held before.
 */
#ifndef BLK_RIG_H
#define BLK_RIG_H

#include "rig.h"
#include <pvio/blk.h>
#include <sys/stat.h>
#include "tests/unit/blk_slots.h"

enum {
	XVDA = 51712,
	DATA_PAGES = 512, /* a guest */
	DISK_SECTORS = 8192, /* 4 MiB */
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

static struct guest bystander;
static uint64_t lcg = 42;

static inline struct pv_device_id guest_device(const struct guest *g)
{
	return (struct pv_device_id){ .guest = g->domid, .type = PV_NOXS_VBD, .devid = g->devid };
}

static inline int guest_call(const struct guest *g, const char *method)
{
	return rig_device_call(guest_device(g), method);
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
	struct pv_noxs_offer offer;
	int ret = rig_prepare(guest_device(g), config_json(g, more), &offer);

	if (ret == 0)
		g->offer = offer.vbd;
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
	return rig_connect(guest_device(g), config_json(g, more), choice);
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
	static uint8_t block[1 << 16];
	int fd;

	*g = (struct guest){ .devid = XVDA };
	g->domid = rig_domain(&g->h);
	g->devid += 16 * rig.devids;
	assert_int_equal(pv_gnt_share(g->h, 0, DATA_PAGES, true, NULL, g->gref, (void **)&g->data), 0);
	snprintf(g->image, sizeof(g->image), "%s/disk%d.%u.img", rig.dir, g->domid, g->devid);
	fd = open(g->image, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	for (unsigned done = 0; done < DISK_SECTORS * 512; done += sizeof(block)) {
		for (unsigned i = 0; i < sizeof(block); i++) {
			lcg = lcg * 6364136223846793005u + 1442695040888963407u;
			block[i] = lcg >> 56;
		}
		assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
	}
	close(fd);
}

/* The domain ends, with all that it shared. */
static inline void guest_close(struct guest *g)
{
	rig_domain_end(g->h, g->domid);
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

/* As pviod does: asks again while I/O is in flight. */
static inline void guest_disconnect(struct guest *g)
{
	int64_t end = rig_ms() + PATIENCE;
	int ret;

	do
		ret = guest_call(g, "disconnect");
	while (ret == -EAGAIN && rig_ms() < end);
	if (ret)
		fail_msg("disconnect: %s", rig_last.message);
}

static inline void guest_down(struct guest *g)
{
	guest_disconnect(g);
	guest_rings_end(g);
	if (guest_call(g, "remove"))
		fail_msg("remove: %s", rig_last.message);
}

static inline void guest_put(struct guest *g, unsigned queue, const struct pv_blk_req *r)
{
	slot_put(&g->q[queue].ring, g->abi, r);
}

static inline void guest_notify(struct guest *g, unsigned queue)
{
	pv_ring_publish(&g->q[queue].ring);
	pv_evt_notify(g->h, g->q[queue].port);
}

static inline bool guest_poll(struct guest *g, unsigned queue, struct blkif_response *out)
{
	return slot_poll(&g->q[queue].ring, g->abi, out);
}

static inline struct blkif_response guest_wait(struct guest *g, unsigned queue)
{
	int64_t end = rig_ms() + PATIENCE;
	struct blkif_response r;

	while (!guest_poll(g, queue, &r)) {
		if (rig_ms() > end)
			fail_msg("no answer from the backend: %s; %s", rig.broken_why, guest_call(g, "inspect") ?
				 rig_last.message : json_object_to_json_string(rig_last.result));
		if (pv_ring_rearm(&g->q[queue].ring, 1) == 0)
			usleep(20);
	}
	return r;
}

/* READ or WRITE of n pages of data, from page `page`, at a sector. */
static inline struct pv_blk_req guest_rw(const struct guest *g, uint8_t op, uint64_t sector, unsigned page, unsigned n)
{
	return slot_rw(g->gref + page, op, sector, n);
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

/* What the image file holds; the caller's. */
static inline uint8_t *image_read(const struct guest *g, uint64_t sector, size_t len)
{
	uint8_t *got = malloc(len);
	int fd = open(g->image, O_RDONLY);

	assert_non_null(got);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, got, len, sector * 512), len);
	close(fd);
	return got;
}

/* That is compared with memory. */
static inline void image_equals(const struct guest *g, uint64_t sector, const void *data, size_t len)
{
	uint8_t *got = image_read(g, sector, len);

	assert_memory_equal(got, data, len);
	free(got);
}

/* Real I/O through every queue: read and compare, write and compare. */
static inline void guest_io(struct guest *g)
{
	for (unsigned queue = 0; queue < g->nq; queue++) {
		uint64_t sector = (lcg = lcg * 6364136223846793005u + 1442695040888963407u) % (DISK_SECTORS - 64) & ~7ull;
		struct pv_blk_req rd = guest_rw(g, BLKIF_OP_READ, sector, 1, 3), wr = guest_rw(g, BLKIF_OP_WRITE, sector, 8, 2);

		memset(g->data, 0, 4 * PV_PAGE_SIZE);
		assert_int_equal(guest_do(g, queue, &rd), BLKIF_RSP_OKAY);
		image_equals(g, sector, g->data + PV_PAGE_SIZE, 3 * PV_PAGE_SIZE);
		for (unsigned i = 0; i < 2 * PV_PAGE_SIZE; i++)
			g->data[8 * PV_PAGE_SIZE + i] = lcg >> (i % 57);
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

/* Of a storm of events without a request, since `began` (ms), when the device had had `before` of them: a queue hears 16 in a row, and from then on has to
 * rest a millisecond after each, however many there are. */
static inline void storm_was_bounded(const struct guest *g, int64_t before, int64_t began)
{
	int64_t events = guest_stat(g, "events") - before;

	assert_in_range(events, 16, (unsigned)(g->nq * (16 + 2 + rig_ms() + 1 - began)));
	assert_true(guest_stat(g, "spurious") >= 16);
}

/* Wait until pviod was told `times` times that a device broke, the last time this one. */
static inline void wait_broken(const struct guest *g, unsigned times)
{
	rig_wait_broken(guest_device(g), times);
}

/* ---- the rig ---- */

/* After a test: the bystander is served as ever, and the backend comes to hold what it held. */
static inline void rig_check(void)
{
	int64_t end = rig_ms() + PATIENCE;

	assert_int_equal(waitpid(rig.backend, NULL, WNOHANG), 0);
	guest_io(&bystander);
	while ((rig_fds() != rig.fds || rig_maps(-1ul / 4096) != rig.maps) && rig_ms() < end)
		usleep(1000);
	assert_int_equal(rig_fds(), rig.fds);
	assert_int_equal(rig_maps(-1ul / 4096), rig.maps);
}

static inline int rig_up(void **state)
{
	(void)state;
	if (rig_start("pvio-blkback", (const char *const[]){ "--workers", "2", "--poll-us", "20", NULL })) {
		bool no_uring = rig_log_count("io_uring is not usable");

		rig_remove(!no_uring);
		if (no_uring) {
			printf("SKIP need=uring: io_uring is not usable here\n");
			exit(77);
		}
		return -1;
	}
	guest_open(&bystander);
	guest_up_with(&bystander, NULL, 2, 0, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT); /* one queue on each worker */
	guest_io(&bystander);
	rig.fds = rig_fds();
	rig.maps = rig_maps(-1ul / 4096);
	return 0;
}

static inline int rig_down(void **state)
{
	(void)state;
	guest_down(&bystander);
	guest_close(&bystander);
	return rig_stop();
}

#endif
