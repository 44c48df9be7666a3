/* A guest that does what it must not without pause, connects and leaves and dies at any moment, while a neighbour writes, reads back and
 * compares through the same backend: each of its answers is good, and afterwards nothing of the guest is left: no grant, port, mapping,
 * descriptor. PVIO_TEST_LONG=1: the storms are longer. */
#include "tests/hostile/blk_rig.h"
#include <pthread.h>

enum { BATCH = 8, FIRST_PAGE = 16 /* of the neighbour's: guest_io has those before */, AT_LEAST = 50 /* batches during a storm */ };

static struct guest c; /* the hostile one */
static struct pv_hub_domain before; /* dom0, with the neighbour alone */

static unsigned times(unsigned n)
{
	const char *s = getenv("PVIO_TEST_LONG");

	return s && *s ? n * 30 : n;
}

static unsigned seed;

static unsigned rnd(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

/* ---- the neighbour ---- */

/* Owner: its thread, which alone touches the neighbour's rings and pages until it is joined. It never asserts: `failed` says. */
static struct stream {
	pthread_t thread;
	bool stop; /* atomic */
	unsigned long batches; /* atomic */
	const char *failed;
} stream;

/* A batch of one-page requests, and its answers. */
static void stream_batch(unsigned queue, uint8_t op, uint64_t sector, unsigned page)
{
	struct pv_ring *ring = &bystander.q[queue].ring;
	int64_t end = rig_ms() + PATIENCE;
	struct blkif_response rsp;

	for (unsigned i = 0; i < BATCH; i++) {
		struct pv_blk_req r = guest_rw(&bystander, op, sector + 8 * i, page + i, 1);

		guest_put(&bystander, queue, &r);
	}
	guest_notify(&bystander, queue);
	for (unsigned n = 0; n < BATCH && !stream.failed;) {
		int ready = pv_ring_ready(ring);

		if (ready < 0)
			stream.failed = "the backend broke the protocol";
		for (; ready > 0; ready--, n++) {
			pv_blk_take_rsp(ring, &rsp);
			if (rsp.status != BLKIF_RSP_OKAY)
				stream.failed = "a neighbour's good request was refused";
		}
		if (rig_ms() > end)
			stream.failed = "the neighbour's requests do not move";
		if (ready == 0 && n < BATCH)
			usleep(20);
	}
}

static void stream_round(unsigned round)
{
	uint8_t *written = bystander.data + FIRST_PAGE * PV_PAGE_SIZE, *read = written + BATCH * PV_PAGE_SIZE;
	uint64_t sector = round * 13 % (DISK_SECTORS / 8 / BATCH) * 8 * BATCH;
	unsigned queue = round % bystander.nq;

	for (unsigned i = 0; i < BATCH * PV_PAGE_SIZE; i += 4)
		*(uint32_t *)(written + i) = round * 2654435761u + i;
	stream_batch(queue, BLKIF_OP_WRITE, sector, FIRST_PAGE);
	memset(read, 0, BATCH * PV_PAGE_SIZE);
	stream_batch(queue, BLKIF_OP_READ, sector, FIRST_PAGE + BATCH);
	if (!stream.failed && memcmp(read, written, BATCH * PV_PAGE_SIZE))
		stream.failed = "the neighbour read something else than it wrote";
}

static void *stream_main(void *arg)
{
	(void)arg;
	for (unsigned round = 0; !__atomic_load_n(&stream.stop, __ATOMIC_RELAXED) && !stream.failed; round++) {
		stream_round(round);
		__atomic_fetch_add(&stream.batches, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Do it `rounds` times, and on until the neighbour has been busy for long enough. */
static void storm(void (*attack)(unsigned round), unsigned rounds)
{
	int64_t end = rig_ms() + 10 * PATIENCE;

	stream = (struct stream){ .stop = false };
	assert_int_equal(pthread_create(&stream.thread, NULL, stream_main, NULL), 0);
	for (unsigned i = 0; i < rounds || (__atomic_load_n(&stream.batches, __ATOMIC_RELAXED) < AT_LEAST && rig_ms() < end); i++)
		attack(i);
	__atomic_store_n(&stream.stop, true, __ATOMIC_RELAXED);
	pthread_join(stream.thread, NULL);
	if (stream.failed)
		fail_msg("%s", stream.failed);
	assert_true(stream.batches >= AT_LEAST);
}

/* ---- before and after ---- */

static struct pv_hub_domain domain(uint16_t domid)
{
	struct pv_hub_domain all[8];
	int n = pv_hub_domain_list(rig.dom0, all, 8);

	assert_in_range(n, 1, 8);
	for (int i = 0; i < n; i++)
		if (all[i].domid == domid)
			return all[i];
	fail_msg("domain %u is not there", domid);
	return all[0];
}

static int group_up(void **state)
{
	int ret = rig_up(state);

	for (unsigned round = 0; ret == 0 && round < 2 * bystander.nq; round++)
		stream_round(round); /* maps what it keeps mapped */
	if (ret || stream.failed)
		return -1;
	rig.maps = rig_maps(-1ul / 4096);
	before = domain(0);
	return 0;
}

static int up(void **state)
{
	(void)state;
	rig.broken = 0;
	guest_open(&c);
	guest_up_with(&c, NULL, 2, 1, PV_VBD_ABI_NATIVE, PV_VBD_PERSISTENT);
	return 0;
}

static void all_is_back(void)
{
	struct pv_hub_domain now;

	rig_check();
	if (rig.xen)
		return;
	now = domain(0);
	assert_int_equal(now.ports, before.ports);
	assert_int_equal(now.maps, before.maps);
	assert_int_equal(now.handles, before.handles);
	assert_int_equal(now.grants, before.grants);
}

static int down(void **state)
{
	(void)state;
	guest_down(&c);
	if (!rig.xen)
		assert_int_equal(domain(c.domid).pinned, 0);
	guest_close(&c);
	all_is_back();
	assert_int_equal(rig.broken, 0);
	return 0;
}

/* ---- I/O of the hostile guest ---- */

/* A request of any kind, right or wrong, with a reference that may be anything. */
static void put_any(unsigned queue)
{
	static const uint8_t ops[] = { BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_WRITE_BARRIER,
				       BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_DISCARD, BLKIF_OP_INDIRECT, 99 };
	uint8_t op = ops[rnd(sizeof(ops))];
	struct pv_blk_req r = guest_rw(&c, op, rnd(DISK_SECTORS), rnd(DATA_PAGES - 11), rnd(13));

	r.nr_sectors = op == BLKIF_OP_DISCARD ? rnd(256) : 0;
	if (op == BLKIF_OP_INDIRECT) {
		r.op = rnd(3);
		r.indirect = true;
		r.nr_segs = rnd(300);
		r.indirect_gref[0] = c.gref[rnd(DATA_PAGES)]; /* segments of whatever the page holds */
	} else if (rnd(8) == 0) {
		r.seg[rnd(11)].gref = rnd(2) ? 0xfffffff0u : bystander.gref[rnd(DATA_PAGES)];
	}
	guest_put(&c, queue, &r);
}

/* Take what was answered, whatever it was. */
static void take_any(unsigned queue)
{
	struct blkif_response rsp;

	while (guest_poll(&c, queue, &rsp))
		assert_true(rsp.status == BLKIF_RSP_OKAY || rsp.status == BLKIF_RSP_ERROR || rsp.status == BLKIF_RSP_EOPNOTSUPP);
}

static void some_io(void)
{
	unsigned queue = rnd(c.nq);

	take_any(queue);
	for (unsigned n = rnd(40); n-- && pv_ring_room(&c.q[queue].ring);)
		put_any(queue);
	if (rnd(8))
		guest_notify(&c, queue);
	if (rnd(4) == 0)
		usleep(rnd(500));
}

/* ---- storms ---- */

static void events(unsigned round)
{
	(void)round;
	for (unsigned i = 0; i < 256; i++)
		pv_evt_notify(c.h, c.q[i % 2].port);
}

static void xsa331_events(void **state)
{
	int64_t heard = guest_stat(&c, "events"), began = rig_ms();

	(void)state;
	storm(events, times(300));
	storm_was_bounded(&c, heard, began);
	guest_io(&c); /* it is heard again */
}

static void any(unsigned round)
{
	(void)round;
	some_io();
}

static void requests_of_any_kind(void **state)
{
	(void)state;
	seed = 1;
	storm(any, times(1000));
}

/* Pages that are granted, used and taken back under the backend's hands. */
static void use_and_revoke(unsigned round)
{
	unsigned queue = round % 2;
	uint32_t gref[16];
	void *pages;

	assert_int_equal(pv_gnt_share(c.h, 0, 16, true, NULL, gref, &pages), 0);
	for (unsigned i = 0; i < 16; i++) {
		struct pv_blk_req r = guest_rw(&c, i % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE, 8 * (round + i), 0, 1);

		r.seg[0].gref = gref[i];
		guest_put(&c, queue, &r);
	}
	guest_notify(&c, queue);
	if (round % 3 == 0)
		usleep(rnd(200));
	assert_int_equal(pv_gnt_unshare(c.h, pages, 16), 0);
	for (unsigned i = 0; i < 16; i++)
		assert_true(guest_wait(&c, queue).status != BLKIF_RSP_EOPNOTSUPP);
}

static void grants_revoked(void **state)
{
	(void)state;
	seed = 1;
	storm(use_and_revoke, times(150));
}

static void connect_anew(void)
{
	struct pv_noxs_choice choice = guest_choice(&c, rnd(2) ? PV_VBD_PERSISTENT : 0);
	int64_t end = rig_ms() + PATIENCE;
	int ret;

	do
		ret = guest_connect_choice(&c, NULL, &choice);
	while (ret == -EAGAIN && rig_ms() < end); /* I/O through the rings before is in flight */
	if (ret)
		fail_msg("connect: %s", rig_last.message);
}

/* As pviod does: asks again while I/O is in flight. */
static void ask(const char *method)
{
	int64_t end = rig_ms() + PATIENCE;
	int ret;

	do
		ret = guest_call(&c, method);
	while (ret == -EAGAIN && rig_ms() < end);
	assert_int_equal(ret, 0);
}

/* Broken in another way each time; told to pviod once each time, and connected anew. */
static void offend(unsigned round)
{
	static const uint32_t lies[] = { 65, 1000, 0x7fffffff, 0x80000000u }; /* a ring has 64 */

	some_io();
	c.q[round % 2].ring.prod += lies[round % 4];
	guest_notify(&c, round % 2);
	wait_broken(&c, 1);
	rig.broken = 0; /* once: another would be left over in down() */
	ask("disconnect");
	guest_rings_end(&c);
	guest_rings(&c, 2, 1, PV_VBD_ABI_NATIVE);
	connect_anew();
}

static void offends_again_and_again(void **state)
{
	unsigned rounds = times(60), lines = rig_log_count(" of guest");
	int64_t began = rig_ms();

	(void)state;
	seed = 1;
	storm(offend, rounds);
	lines = rig_log_count(" of guest") - lines;
	assert_in_range(lines, 1, 10 + 1 + (rig_ms() - began) / 1000); /* XSA-157: a burst of ten, then one a second */
}

/* ---- connect, I/O, detach, revoke: in any order ---- */

static void revoke_some(void)
{
	assert_int_equal(pv_gnt_unshare(c.h, c.data, DATA_PAGES), 0);
	assert_int_equal(pv_gnt_share(c.h, 0, DATA_PAGES, true, NULL, c.gref, (void **)&c.data), 0);
}

static void connect_half(void)
{
	struct pv_noxs_choice choice = guest_choice(&c, 0);

	if (rnd(2))
		choice.vbd[rnd(c.nq)].ring_gref[rnd(1u << c.order)] = 0xfffffff0u;
	else
		choice.vbd[rnd(c.nq)].port = 4000;
	assert_true(guest_connect_choice(&c, NULL, &choice) < 0);
}

static void reconnect(unsigned round)
{
	static const enum pv_vbd_abi abis[] = { PV_VBD_ABI_NATIVE, PV_VBD_ABI_X86_32, PV_VBD_ABI_X86_64 };

	(void)round;
	for (unsigned n = rnd(4); n--;)
		some_io();
	if (rnd(4) == 0)
		revoke_some();
	if (rnd(5)) /* else: other rings while it is connected */
		ask(rnd(3) ? "disconnect" : "remove");
	if (rnd(8) == 0)
		ask("disconnect"); /* once more */
	guest_rings_end(&c); /* what is still connected loses its rings */
	guest_rings(&c, 1 + rnd(4), rnd(5), abis[rnd(3)]);
	if (rnd(4) == 0)
		some_io(); /* published before anybody looks */
	if (rnd(6) == 0)
		connect_half();
	connect_anew();
}

static void connects_at_random_points(void **state)
{
	(void)state;
	seed = (unsigned)time(NULL);
	printf("seed %u\n", seed);
	storm(reconnect, times(150));
	ask("disconnect");
	rig.broken = 0; /* of rings that ended under the backend */
	guest_rings_end(&c);
	guest_rings(&c, 2, 0, PV_VBD_ABI_NATIVE);
	connect_anew();
	guest_io(&c);
}

static void die(unsigned round)
{
	unsigned how = rnd(3);

	for (unsigned n = 1 + rnd(3); n--;)
		some_io();
	if (how)
		pv_hyper_close(c.h); /* its process dies first, */
	if (how == 2)
		assert_int_equal(pv_hub_domain_destroy(rig.dom0, c.domid), 0); /* or the domain as well */
	ask("disconnect");
	ask("remove");
	if (!how)
		pv_hyper_close(c.h);
	if (how != 2)
		assert_int_equal(pv_hub_domain_destroy(rig.dom0, c.domid), 0);
	unlink(c.image);
	(void)round;
	up(NULL);
}

static void domain_dies_again_and_again(void **state)
{
	(void)state;
	rig_needs_hub();
	seed = (unsigned)time(NULL);
	storm(die, times(20));
}

/* ---- a frontend that is a process, and is killed ---- */

struct told { /* by the frontend to its pviod */
	uint32_t gref[PV_NOXS_RING_PAGES_MAX], port;
};

/* The frontend: I/O without end. Nothing of cmocka's here: a failure is its exit. */
static void frontend(uint16_t domid, int to)
{
	struct told told = { .port = 0 };
	struct blkif_response rsp;
	struct pv_ring ring;
	uint32_t gref[64];
	struct pv_hyper *h;
	void *pages, *data;
	int port;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (pv_hyper_open(NULL, domid, &h, NULL, 0) < 0 || pv_gnt_share(h, 0, 2, true, NULL, told.gref, &pages) < 0 ||
	    pv_gnt_share(h, 0, 64, true, NULL, gref, &data) < 0 || (port = pv_evt_alloc(h, 0)) < 0)
		_exit(1);
	pv_ring_init_front(&ring, pages, 2 * PV_PAGE_SIZE, sizeof(struct blkif_request));
	told.port = (uint32_t)port;
	if (write(to, &told, sizeof(told)) != sizeof(told))
		_exit(2);
	for (unsigned i = 0;; i++) {
		struct pv_blk_req r = { .id = i, .op = i % 3 == 0, .op_slot = i % 3 == 0, .sector = i * 40 % (DISK_SECTORS - 88), .nr_segs = 1 + i % 11 };

		for (unsigned k = 0; k < r.nr_segs; k++)
			r.seg[k] = (struct pv_blk_seg){ .gref = gref[(i + k) % 64], .last = 7 };
		if (pv_ring_room(&ring))
			pv_blk_fill_req(&ring, &r);
		if (pv_ring_publish(&ring))
			pv_evt_notify(h, told.port);
		while (pv_ring_ready(&ring) > 0)
			pv_blk_take_rsp(&ring, &rsp);
	}
}

static void frontend_killed(unsigned round)
{
	struct pv_hub_domain was = domain(c.domid), is;
	struct pv_noxs_choice choice = { .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .state = XenbusStateInitialised, .alive = 1,
					 .ring_order = 1, .queues = 1, .features = round % 2 ? PV_VBD_PERSISTENT : 0 };
	struct told told;
	int fd[2];
	pid_t pid;

	assert_int_equal(pipe(fd), 0);
	pid = fork();
	if (!pid)
		frontend(c.domid, fd[1]);
	assert_int_equal(read(fd[0], &told, sizeof(told)), sizeof(told));
	close(fd[0]);
	close(fd[1]);
	memcpy(choice.vbd[0].ring_gref, told.gref, sizeof(told.gref));
	choice.vbd[0].port = told.port;
	if (round % 5 == 0) {
		kill(pid, SIGKILL); /* before, or while, it is connected */
		guest_connect_choice(&c, NULL, &choice);
	} else {
		assert_int_equal(guest_connect_choice(&c, NULL, &choice), 0);
		usleep(rnd(20000));
		kill(pid, SIGKILL);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	ask(round % 3 ? "disconnect" : "remove");
	for (int64_t end = rig_ms() + PATIENCE; (is = domain(c.domid)).handles != was.handles && rig_ms() < end;)
		usleep(1000); /* the hub learns of the end by its socket */
	assert_int_equal(is.handles, was.handles);
	assert_int_equal(is.grants, was.grants);
	assert_int_equal(is.ports, was.ports);
	assert_int_equal(is.pinned, 0);
}

static void frontend_killed_again_and_again(void **state)
{
	(void)state;
	rig_needs_hub();
	seed = (unsigned)time(NULL);
	ask("disconnect");
	guest_rings_end(&c);
	storm(frontend_killed, times(25));
	guest_up(&c, NULL);
	guest_io(&c);
	rig.broken = 0; /* of one that was killed within a store */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(xsa331_events, up, down),
		cmocka_unit_test_setup_teardown(requests_of_any_kind, up, down),
		cmocka_unit_test_setup_teardown(grants_revoked, up, down),
		cmocka_unit_test_setup_teardown(offends_again_and_again, up, down),
		cmocka_unit_test_setup_teardown(connects_at_random_points, up, down),
		cmocka_unit_test_setup_teardown(domain_dies_again_and_again, up, down),
		cmocka_unit_test_setup_teardown(frontend_killed_again_and_again, up, down),
	};

	return cmocka_run_group_tests(tests, group_up, rig_down);
}
