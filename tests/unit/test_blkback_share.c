/* What each of several devices gets of one worker and of its storage: counted in turns, requests and bytes, over an image that answers when a test
 * wants. The devices use the worker all the time, for each has a request that is not answered until the end. */
#include "loopback.h"
#include "blkback/blkback.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum { DOMID = 9, POLITE = 7, GREEDY_QUEUES = 16, QUEUES = POLITE + GREEDY_QUEUES, SLOTS = 32, SEGS = 11, LOG = 1024, PATIENCE_MS = 20000 };
enum { /* requests that a device may take in a turn; and have in flight beside the one that is not answered: small, and of SEGS pages */
	TURN = 64, TURN_LARGE = SHARE_TURN / (SEGS * PV_PAGE_SIZE) + 1,
	SMALL_MOST = TURN - 1, LARGE_MOST = (SHARE_FLIGHT - SHARE_FLIGHT / 64) / (SEGS * PV_PAGE_SIZE) + 1,
	ELSEWHERE = (GREEDY_QUEUES - 1) * SLOTS, /* what the greedy one's other queues hold */
};

static struct lane {
	struct blkq *q;
	struct pv_ring ring;
	void *page;
	uint32_t port;
	unsigned device, asked, answered;
	struct {
		struct pv_inflight_ring head;
		struct blkr_record record[SLOTS];
	} log;
} lanes[QUEUES]; /* one of each polite device, then those of the greedy one */

static struct pv_hyper *dom0, *guest;
static struct blkworker *worker;
static int broken_fd;
static uint32_t gref[SEGS], fresh[SLOTS]; /* fresh: of pages that no queue has mapped */

/* ---- the image: the worker's, and looked at by calls on it ---- */

static struct fake {
	struct image head;
	bool hold; /* I/O does not end; that of sector 0 never does */
	struct image_io *held[LOG];
	unsigned nheld;
	struct { uint64_t turn; unsigned device; } log[LOG];
	unsigned ios;
	uint64_t inflight[POLITE + 1], most[POLITE + 1]; /* bytes of a device */
} fake;

static unsigned device_of(const struct image_io *io)
{
	return ((const struct lane *)((const struct blkr *)io)->q->c.owner)->device;
}

static void fake_end(struct image_io *io)
{
	fake.inflight[device_of(io)] -= io->len;
	io->done = io->len;
	io->end(io, 0);
}

static void fake_submit(struct image_io *io)
{
	unsigned d = device_of(io);

	assert_true(fake.ios < LOG && fake.nheld < LOG);
	fake.log[fake.ios].turn = worker->turns;
	fake.log[fake.ios++].device = d;
	fake.inflight[d] += io->len;
	fake.most[d] = fake.inflight[d] > fake.most[d] ? fake.inflight[d] : fake.most[d];
	if (fake.hold || io->offset == 0)
		fake.held[fake.nheld++] = io;
	else
		fake_end(io);
}

static void fake_close(struct image *im)
{
	(void)im;
}

static const struct image_ops fake_ops = { .name = "fake", .close = fake_close, .submit = fake_submit };

struct some {
	unsigned from, n;
};

/* End the n oldest that are held, but the first `from` of them. */
static int release_here(void *arg)
{
	struct some *some = arg;
	unsigned left = some->from, end = some->from + some->n < fake.nheld ? some->from + some->n : fake.nheld;

	for (unsigned i = some->from; i < end; i++)
		fake_end(fake.held[i]);
	for (unsigned i = end; i < fake.nheld; i++)
		fake.held[left++] = fake.held[i];
	fake.nheld = left < fake.nheld ? left : fake.nheld;
	return 0;
}

static void release(unsigned from, unsigned n)
{
	struct some some = { from, n };

	assert_int_equal(pv_worker_call(worker->thread, release_here, &some), 0);
}

static int copy_here(void *arg)
{
	*(struct fake *)arg = fake;
	return 0;
}

static struct fake look(void)
{
	static struct fake f;

	assert_int_equal(pv_worker_call(worker->thread, copy_here, &f), 0);
	return f;
}

/* ---- the guest ---- */

static void connect_lane(unsigned i)
{
	struct lane *l = &lanes[i];
	uint32_t ring_gref;
	struct blkq_config c = { .owner = &lanes[i < POLITE ? i : POLITE], .guest = DOMID, .persistent = true, .cache = SLOTS * SEGS, .image = &fake.head,
				 .ring_gref = &ring_gref, .disk = { .sectors = 1 << 20, .sector_size = 512 } };
	char why[200] = "";

	*l = (struct lane){ .device = i < POLITE ? i : POLITE };
	c.log = &l->log.head;
	c.port = l->port = pv_evt_alloc(guest, 0);
	assert_int_equal(pv_gnt_share(guest, 0, 1, true, NULL, &ring_gref, &l->page), 0);
	pv_ring_init_front(&l->ring, l->page, PV_PAGE_SIZE, sizeof(struct blkif_request));
	if (blkworker_connect(worker, &c, &l->q, why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

/* Each queue has the pages of its requests mapped: what that costs is not what is counted here. */
static int map_here(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < QUEUES; i++) {
		assert_int_equal(pv_gnt_cache_get(lanes[i].q->cache, gref, SEGS, true, lanes[i].q->pages), 0);
		pv_gnt_cache_put(lanes[i].q->cache, gref, SEGS, true);
	}
	return 0;
}

static int up(void **state)
{
	struct blkworker_options o = { .hypervisor = lb_spec, .cpu = -1, .poll_us = 20, .broken_fd = broken_fd };
	char why[200] = "";
	void *pages;

	(void)state;
	fake = (struct fake){ .head = { .ops = &fake_ops } };
	dom0 = lb_open(0);
	guest = lb_open(lb_guest(dom0, DOMID));
	assert_int_equal(pv_gnt_share(guest, 0, SEGS, true, NULL, gref, &pages), 0);
	assert_int_equal(pv_gnt_share(guest, 0, SLOTS, true, NULL, fresh, &pages), 0);
	if (blkworker_start(0, &o, &worker, why, sizeof(why)) == 0) {
		for (unsigned i = 0; i < QUEUES; i++)
			connect_lane(i);
		return pv_worker_call(worker->thread, map_here, NULL);
	}
	if (!strstr(why, "io_uring"))
		fail_msg("%s", why);
	printf("SKIP need=uring: %s\n", why);
	exit(77);
}

static int down(void **state)
{
	(void)state;
	fake.hold = false;
	release(0, LOG);
	for (unsigned i = 0; i < QUEUES; i++)
		assert_int_equal(lanes[i].q ? blkworker_disconnect(worker, lanes[i].q, blkworker_patience()) : 0, 0);
	assert_true(TAILQ_EMPTY(&worker->shares));
	assert_int_equal(worker->users, 0);
	blkworker_stop(worker);
	pv_hyper_close(guest);
	assert_int_equal(pv_hub_domain_destroy(dom0, DOMID), 0);
	pv_hyper_close(dom0);
	return 0;
}

/* Requests of so many of these pages, never neighbours, from a sector on. */
static void put(struct lane *l, unsigned n, const uint32_t *pages, unsigned segs, uint64_t sector)
{
	while (n--) {
		struct pv_blk_req r = { .id = l->asked, .op = BLKIF_OP_READ, .op_slot = BLKIF_OP_READ, .sector = sector + n * 1000, .nr_segs = segs };

		for (unsigned i = 0; i < segs; i++)
			r.seg[i] = (struct pv_blk_seg){ .gref = pages[i], .last = 7 };
		pv_blk_fill_req(&l->ring, &r);
		l->asked++;
	}
	pv_ring_publish(&l->ring);
}

struct ask {
	unsigned first, last /* lanes */, n, segs;
	uint64_t sector;
};

/* In one turn, for it is between two: all of these find their requests in the next. */
static int ask_here(void *arg)
{
	const struct ask *a = arg;

	for (unsigned i = a->first; i <= a->last; i++) {
		put(&lanes[i], a->n, gref, a->segs, a->sector);
		blkworker_wake(lanes[i].q);
	}
	return 0;
}

static void ask(unsigned first, unsigned last, unsigned n, unsigned segs)
{
	struct ask a = { first, last, n, segs, 1000 };

	assert_int_equal(pv_worker_call(worker->thread, ask_here, &a), 0);
}

/* One request each that is never answered: they use the worker from now on. */
static void begin(unsigned first, unsigned last)
{
	struct ask a = { first, last, 1, 1, 0 };

	assert_int_equal(pv_worker_call(worker->thread, ask_here, &a), 0);
	for (unsigned ms = 0; look().ios <= last - first; ms++) {
		assert_true(ms < PATIENCE_MS);
		usleep(1000);
	}
}

/* Take answers until so many requests of each of these lanes have none. */
static void wait_left(unsigned first, unsigned last, unsigned left)
{
	struct blkif_response r;
	unsigned ms = 0;

	for (unsigned i = first; i <= last; i++) {
		struct lane *l = &lanes[i];

		while (l->asked - l->answered > left) {
			if (pv_ring_ready(&l->ring) <= 0) {
				assert_true(ms++ < PATIENCE_MS);
				usleep(1000);
				continue;
			}
			pv_blk_take_rsp(&l->ring, &r);
			assert_int_equal(r.status, BLKIF_RSP_OKAY);
			l->answered++;
		}
	}
}

/* Wait until the image saw so many I/Os. */
static void wait_ios(unsigned n)
{
	for (unsigned ms = 0; look().ios < n; ms++) {
		assert_true(ms < PATIENCE_MS);
		usleep(1000);
	}
}

/* I/Os of a device, of those from `from` on, in the turn of the first of these. */
static unsigned in_first_turn(const struct fake *f, unsigned from, unsigned device)
{
	unsigned n = 0;

	for (unsigned i = from; i < f->ios; i++)
		n += f->log[i].turn == f->log[from].turn && f->log[i].device == device;
	return n;
}

/* ---- tests ---- */

static void device_that_is_alone_takes_what_all_its_queues_have(void **state)
{
	struct fake f;

	(void)state;
	begin(POLITE, QUEUES - 1);
	ask(POLITE, QUEUES - 1, SLOTS - 1, 1);
	wait_left(POLITE, QUEUES - 1, 1);
	f = look();
	assert_int_equal(in_first_turn(&f, GREEDY_QUEUES, POLITE), GREEDY_QUEUES * (SLOTS - 1));
}

static void queues_of_one_device_share_its_turn(void **state)
{
	unsigned turns = 0, n = 0;
	struct fake f;

	(void)state;
	begin(0, POLITE);
	ask(POLITE + 1, QUEUES - 1, SLOTS, 1);
	wait_left(POLITE + 1, QUEUES - 1, 0);
	f = look();
	for (unsigned i = POLITE + 1; i < f.ios; i++) {
		n = f.log[i].turn == f.log[i - 1].turn ? n + 1 : 1;
		turns += n == 1;
		assert_true(n <= TURN);
	}
	assert_int_equal(turns, (ELSEWHERE + TURN - 1) / TURN);
}

/* All that the polite ones have is taken at once, beside a part of what the greedy one has. */
static void many_queues_are_no_larger_part(void **state)
{
	struct fake f;

	(void)state;
	begin(0, POLITE);
	ask(0, QUEUES - 1, SLOTS - 1, 1);
	wait_left(0, POLITE, 1);
	wait_left(POLITE + 1, QUEUES - 1, 0);
	f = look();
	for (unsigned d = 0; d < POLITE; d++)
		assert_int_equal(in_first_turn(&f, POLITE + 1, d), SLOTS - 1);
	assert_int_equal(in_first_turn(&f, POLITE + 1, POLITE), TURN);
}

/* By bytes, and what is too large for what is left is paid for later. */
static void large_requests_are_no_larger_part(void **state)
{
	uint64_t first = 0, last = 0;
	unsigned n = 0;
	struct fake f;

	(void)state;
	begin(0, POLITE);
	ask(POLITE, POLITE, SLOTS - 1, SEGS);
	wait_left(POLITE, POLITE, 1);
	f = look();
	for (unsigned i = POLITE + 1; i < f.ios; i++) {
		first = first ? first : f.log[i].turn;
		n = f.log[i].turn == last ? n + 1 : 1;
		last = f.log[i].turn;
		assert_true(n <= TURN_LARGE);
		/* in k turns never more than k parts and a request */
		assert_true((i - POLITE) * SEGS * PV_PAGE_SIZE <= (last - first + 1) * SHARE_TURN + SEGS * PV_PAGE_SIZE);
	}
	assert_int_equal(in_first_turn(&f, POLITE + 1, POLITE), TURN_LARGE);
}

static int ask_unmapped_here(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i + 1 < SLOTS; i++)
		put(&lanes[POLITE], 1, &fresh[i], 1, 1000 + i * 1000);
	blkworker_wake(lanes[POLITE].q);
	return 0;
}

/* However small they are: the worker waits for the hypervisor. */
static void requests_that_need_a_map_call_pay_with_turns(void **state)
{
	struct fake f;

	(void)state;
	begin(0, POLITE);
	assert_int_equal(pv_worker_call(worker->thread, ask_unmapped_here, NULL), 0);
	wait_left(POLITE, POLITE, 1);
	f = look();
	assert_int_equal(f.ios, POLITE + SLOTS);
	for (unsigned i = POLITE + 2; i < f.ios; i++)
		assert_true(f.log[i].turn >= f.log[i - 1].turn + SHARE_MAP / SHARE_TURN);
}

static void device_beside_others_has_a_bound_of_io_in_flight(void **state)
{
	static const unsigned all = POLITE + 1 + POLITE * (SLOTS - 1) + ELSEWHERE;
	struct fake f;

	(void)state;
	begin(0, POLITE);
	fake.hold = true; /* nothing is under way */
	ask(POLITE + 1, QUEUES - 1, SLOTS, SEGS);
	wait_ios(POLITE + 1 + LARGE_MOST);
	ask(0, POLITE - 1, SLOTS - 1, 1); /* it is not in the way of others */
	wait_ios(POLITE + 1 + LARGE_MOST + POLITE * (SLOTS - 1));
	assert_int_equal(look().ios, POLITE + 1 + LARGE_MOST + POLITE * (SLOTS - 1));
	while (look().ios < all) /* and goes on as its I/O ends */
		release(POLITE + 1, 1);
	f = look();
	assert_in_range(f.most[POLITE], SHARE_FLIGHT - SHARE_FLIGHT / 64, SHARE_FLIGHT + SEGS * PV_PAGE_SIZE);
	while (look().nheld)
		release(0, LOG);
	wait_left(0, QUEUES - 1, 0);
}

/* May one of the greedy device's queues take something? */
static int fed_here(void *arg)
{
	int fed = 0;

	(void)arg;
	for (unsigned i = POLITE + 1; i < QUEUES; i++)
		fed |= blkq_rearm(lanes[i].q);
	return fed;
}

static int fed_by_one_here(void *arg)
{
	struct some one = { POLITE + 1, 1 };

	release_here(&one);
	return fed_here(arg);
}

/* Between the end of I/O and the next look at the ring, too. */
static void starved_queue_does_not_sleep_when_there_is_room(void **state)
{
	(void)state;
	begin(0, POLITE);
	fake.hold = true;
	ask(POLITE + 1, QUEUES - 1, SLOTS, 1);
	wait_ios(POLITE + 1 + SMALL_MOST);
	while (pv_worker_call(worker->thread, fed_here, NULL)) /* until it has tried in vain */
		usleep(100);
	assert_int_equal(pv_worker_call(worker->thread, fed_by_one_here, NULL), 1);
	while (look().nheld > POLITE + 1)
		release(POLITE + 1, 1);
	wait_left(POLITE + 1, QUEUES - 1, 0);
}

static void device_whose_neighbours_are_gone_has_no_bound(void **state)
{
	(void)state;
	begin(0, POLITE);
	fake.hold = true;
	ask(POLITE + 1, QUEUES - 1, SLOTS, 1);
	wait_ios(POLITE + 1 + SMALL_MOST);
	release(0, POLITE + 2); /* the polite ones' */
	for (unsigned i = 0; i < POLITE; i++) {
		assert_int_equal(blkworker_disconnect(worker, lanes[i].q, blkworker_patience()), 0);
		lanes[i].q = NULL;
	}
	release(0, 1);
	wait_ios(POLITE + 1 + ELSEWHERE);
}

static int group_up(void **state)
{
	(void)state;
	broken_fd = open("/dev/null", O_WRONLY);
	lb_up(NULL, NULL);
	return broken_fd < 0;
}

static int group_down(void **state)
{
	(void)state;
	lb_down();
	return close(broken_fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(device_that_is_alone_takes_what_all_its_queues_have),
		TEST(queues_of_one_device_share_its_turn),
		TEST(many_queues_are_no_larger_part),
		TEST(large_requests_are_no_larger_part),
		TEST(requests_that_need_a_map_call_pay_with_turns),
		TEST(device_beside_others_has_a_bound_of_io_in_flight),
		TEST(starved_queue_does_not_sleep_when_there_is_room),
		TEST(device_whose_neighbours_are_gone_has_no_bound),
	};

	return cmocka_run_group_tests(tests, group_up, group_down);
}
