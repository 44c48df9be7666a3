/* blkio against a backend that follows the protocol, or goes away: requests of any length, from any memory. */
#include "frontends/blkio.h"
#include "tests/unit/front_fake_blk.h"

enum { DISK = FAKE_DISK_BYTES };

static struct fake k;
static struct blkio *b;
static pthread_t opener;
static int opened;
static char why[256];
static uint8_t memory[DISK];

static int start(void **state)
{
	(void)state;
	fake_start(&k);
	for (unsigned i = 0; i < DISK; i++)
		fake_disk[i] = (uint8_t)(i / 512 * 3 + i);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	if (b)
		fake_follow(&k);
	blkio_close(b);
	b = NULL;
	fake_unfollow(&k);
	k.queues = 0;
	fake_stop(&k);
	return 0;
}

static void *open_it(void *arg)
{
	opened = blkio_open(&b, arg, why, sizeof(why));
	return NULL;
}

/* blkio_open waits until it is connected: the backend is played meanwhile. */
static void connected(struct pv_noxs_offer offer, unsigned queues, unsigned depth)
{
	struct blkio_config c = { .hypervisor = lb_spec, .vbd = "xvda", .domid = k.domid, .queues = queues, .depth = depth };
	struct pv_noxs_choice choice = { 0 };

	fake_announce(&k, offer, 51712, 0);
	assert_int_equal(pthread_create(&opener, NULL, open_it, &c), 0);
	do {
		usleep(1000);
		pv_noxs_choice_read(k.control, &choice);
	} while (choice.state != XenbusStateInitialised);
	fake_connect(&k);
	pthread_join(opener, NULL);
	if (opened < 0)
		fail_msg("%s", why);
}

/* Serve until nothing is asked any more. Returns how many requests ended. */
static unsigned serve(void)
{
	unsigned n = 0, served;

	do {
		blkio_push(b);
		served = fake_work(&k);
		assert_int_equal(blkio_follow(b), 0);
		while (blkio_done(b))
			n++;
	} while (served);
	return n;
}

static int io(enum pv_blkfront_op op, uint64_t offset, uint64_t len, void *buf)
{
	struct blkio_req r = { .op = op, .offset = offset, .len = len, .buf = buf };

	blkio_ask(b, &r);
	assert_int_equal(serve(), 1);
	return r.result;
}

static void blkio_ask_any_length_any_memory(void **state)
{
	(void)state;
	connected(fake_vbd_offer(), 2, 32);
	for (uint64_t len = 512; len <= DISK; len = len * 3 / 512 * 512 + 512) {
		uint64_t offset = (DISK - len) / 1024 * 512;

		memset(memory, 0xee, sizeof(memory));
		assert_int_equal(io(PV_BLKFRONT_READ, offset, len, memory + 1), 0);
		assert_memory_equal(memory + 1, fake_disk + offset, len);
		assert_int_equal(memory[0], 0xee);
		assert_int_equal(memory[len + 1], 0xee);
	}
	memset(memory, 0x5a, sizeof(memory));
	assert_int_equal(io(PV_BLKFRONT_WRITE, 512, 3 << 20, memory + 3), 0);
	assert_memory_equal(fake_disk + 512, memory, 3 << 20);
	assert_int_not_equal(fake_disk[511], 0x5a);
	assert_int_equal(io(PV_BLKFRONT_DISCARD, 512, 3 << 20, NULL), 0);
	assert_int_equal(fake_disk[512], 0);
	assert_int_equal(io(PV_BLKFRONT_FLUSH, 0, 0, NULL), 0);
}

/* A backend without indirect requests has a pool of 352 pages: many large requests at once have to wait for each other. */
static void blkio_push_more_than_the_pool_holds(void **state)
{
	struct pv_noxs_offer o = fake_vbd_offer();
	struct blkio_req r[8] = { 0 };

	(void)state;
	o.vbd.indirect_max = 0;
	connected(o, 1, 32);
	for (unsigned i = 0; i < 8; i++) {
		r[i] = (struct blkio_req){ .op = PV_BLKFRONT_READ, .offset = i * (512 << 10), .len = 512 << 10, .buf = memory + i * (512 << 10) };
		blkio_ask(b, &r[i]);
	}
	assert_int_equal(serve(), 8);
	assert_memory_equal(memory, fake_disk, DISK);
}

static void blkio_memory_is_not_copied(void **state)
{
	struct blkio_req r = { .op = PV_BLKFRONT_WRITE, .len = 64 << 10 };
	uint8_t *own;

	(void)state;
	connected(fake_vbd_offer(), 1, 32);
	assert_null(blkio_memory(b, 32 << 20));
	own = blkio_memory(b, 10 << 20);
	assert_non_null(own);
	memset(own, 1, 10 << 20);
	r.buf = own + 512;
	blkio_ask(b, &r);
	blkio_push(b);
	memset(own, 2, 1 << 20); /* it is granted: what the backend sees is what is there when it looks */
	assert_int_equal(serve(), 1);
	assert_int_equal(fake_disk[0], 2);
	for (unsigned shift = 0; shift < 4096; shift += 512) {
		assert_int_equal(io(PV_BLKFRONT_READ, 512, 3 << 20, own + shift), 0);
		assert_memory_equal(own + shift, fake_disk + 512, 3 << 20);
	}
	assert_int_equal(io(PV_BLKFRONT_READ, 512, 8192, own + 100), 0); /* not in sectors: copied */
	assert_memory_equal(own + 100, fake_disk + 512, 8192);
}

static void blkio_ask_what_cannot_be(void **state)
{
	(void)state;
	connected(fake_vbd_offer(), 1, 32);
	assert_int_equal(io(PV_BLKFRONT_READ, 100, 512, memory), -EINVAL);
	assert_int_equal(io(PV_BLKFRONT_READ, 0, 100, memory), -EINVAL);
	assert_int_equal(io(PV_BLKFRONT_READ, 0, 0, memory), -EINVAL);
	assert_int_equal(io(PV_BLKFRONT_READ, DISK - (2 << 20), 3 << 20, memory), -EINVAL); /* its first pieces are inside */
	assert_int_equal(io(PV_BLKFRONT_READ, 0, 512, memory), 0);
}

/* One piece of three fails: so does the request, once, when all have ended. */
static void blkio_done_a_piece_failed(void **state)
{
	struct blkio_req r = { .op = PV_BLKFRONT_READ, .len = 3 << 20, .buf = memory };
	static struct fake_req q;
	unsigned n = 0;

	(void)state;
	connected(fake_vbd_offer(), 1, 32);
	blkio_ask(b, &r);
	blkio_push(b);
	for (; fake_req_take(&k, &k.queue[0], &q); n++) {
		fake_rsp(&k.queue[0], q.r.id, q.r.op, n == 1 ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY);
		pv_ring_publish(&k.queue[0].tx);
		if (n < 2)
			assert_null(blkio_done(b));
	}
	assert_int_equal(n, 3);
	assert_ptr_equal(blkio_done(b), &r);
	assert_int_equal(r.result, -EIO);
	assert_null(blkio_done(b));
}

/* Its backend dies with pieces in flight and requests that wait; the next one serves them all. */
static void blkio_follow_a_backend_that_comes_back(void **state)
{
	struct blkio_req r[2];

	(void)state;
	connected(fake_vbd_offer(), 1, 32);
	r[0] = (struct blkio_req){ .op = PV_BLKFRONT_READ, .len = DISK, .buf = memory };
	blkio_ask(b, &r[0]);
	blkio_push(b);
	fake_disconnect(&k);
	fake_offer(&k);
	fake_until(blkio_follow(b) == 0 && pv_blkfront_state(blkio_front(b)) == XenbusStateInitialised);
	assert_true(blkio_away(b));
	r[1] = (struct blkio_req){ .op = PV_BLKFRONT_FLUSH };
	blkio_ask(b, &r[1]);
	blkio_push(b);
	assert_null(blkio_done(b));
	fake_connect(&k);
	fake_until(blkio_follow(b) == 0 && !blkio_away(b));
	assert_int_equal(serve(), 2);
	assert_int_equal(r[0].result | r[1].result, 0);
	assert_memory_equal(memory, fake_disk, DISK);
}

/* A lie ends the device: what is in flight, what waits and what comes later ends with the error, and says why. */
static void blkio_follow_a_lie(void **state)
{
	struct blkio_req r[7];

	(void)state;
	connected(fake_vbd_offer(), 1, 32);
	for (unsigned i = 0; i < 6; i++) { /* 24 MiB: the pool has 16 */
		r[i] = (struct blkio_req){ .op = PV_BLKFRONT_READ, .len = DISK, .buf = memory };
		blkio_ask(b, &r[i]);
	}
	blkio_push(b);
	assert_null(blkio_error(b));
	fake_rsp(&k.queue[0], 31, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_RSP_OKAY);
	fake_publish(&k, &k.queue[0], &k.queue[0].tx);
	assert_null(blkio_done(b));
	assert_int_equal(blkio_follow(b), -EPROTO);
	assert_non_null(strstr(blkio_error(b), "xvda"));
	r[6] = (struct blkio_req){ .op = PV_BLKFRONT_FLUSH };
	blkio_ask(b, &r[6]);
	for (unsigned i = 0; i < 7; i++)
		assert_non_null(blkio_done(b));
	assert_null(blkio_done(b));
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(r[i].result, -EPROTO);
}

static void blkio_open_in_vain(void **state)
{
	struct blkio_config c = { .hypervisor = lb_spec, .vbd = "eth0", .domid = k.domid, .queues = 1, .depth = 1 };

	(void)state;
	assert_int_equal(blkio_open(&b, &c, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "eth0"));
	c.vbd = "xvda";
	assert_int_equal(blkio_open(&b, &c, why, sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, "xvda"));
	c.domid = -1;
	assert_int_equal(blkio_open(&b, &c, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "domid"));
	assert_null(b);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(blkio_ask_any_length_any_memory),
		T(blkio_push_more_than_the_pool_holds),
		T(blkio_memory_is_not_copied),
		T(blkio_ask_what_cannot_be),
		T(blkio_done_a_piece_failed),
		T(blkio_follow_a_backend_that_comes_back),
		T(blkio_follow_a_lie),
		T(blkio_open_in_vain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
