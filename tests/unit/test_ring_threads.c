/* test_ring_threads.c - both ends of a ring at work at once, asleep whenever there is nothing to do: no wake-up is lost, every
 * request and answer arrives whole, once and in order. Under TSan it also proves that the ring orders what it must.
 *
 * The bell that wakes a sleeper is a futex beside a relaxed counter: unlike an eventfd, it tells TSan of no order between the
 * threads, so that all the order there is comes from the ring. PVIO_TEST_STUCK_MS: how long a sleeper waits for its bell
 * before the test fails (20 s; mutation_ring.sh, which expects that, sets less). */
#include <linux/futex.h>
#include <pthread.h>
#include <pvio/ring.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { SLICE_MS = 100 };

/* One way of using the ring; a phase ends when `requests` were answered or `ms` have passed, whichever is first. */
struct phase {
	const char *name;
	uint32_t nr, slot_size, burst, base;
	uint64_t requests;
	unsigned ms;
};

static const struct phase phases[] = {
	{ "a full ring of 32", 32, 112, 32, 0xffff0000, 1500000, 2000 },
	{ "short bursts in a ring of 256", 256, 12, 8, 0xffffff00, 1000000, 1500 },
	{ "a ring of 4", 4, 16, 4, 0xfffff000, 300000, 1500 },
	{ "one at a time", 2, 64, 1, 0xfffffff0, 50000, 1500 },
};

/* Owner: the thread of this end, but for the bell, which the peer rings. */
struct end {
	struct pv_ring ring;
	const char *name;
	uint32_t rnd;
	uint32_t bell;
	uint64_t done, sleeps, rings;
	bool wrong; /* a slot held something else than what the peer had written */
};

static uint8_t pages[16 * PV_PAGE_SIZE] __attribute__((aligned(PV_PAGE_SIZE)));
static struct end front, back;
static const struct phase *phase;
static int finished; /* the frontend has all its answers */
static int stuck; /* somebody waited for its bell for too long */
static int stuck_ms = 20000;

static uint32_t rnd_of(struct end *e, uint32_t n)
{
	e->rnd = e->rnd * 1103515245 + 12345;
	return (e->rnd >> 16) % n;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the bell: an event channel in small */

static uint32_t bell_of(const struct end *e)
{
	return __atomic_load_n(&e->bell, __ATOMIC_RELAXED);
}

static void wake(struct end *peer, struct end *self)
{
	self->rings++;
	__atomic_fetch_add(&peer->bell, 1, __ATOMIC_RELAXED);
	syscall(SYS_futex, &peer->bell, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Sleep until the bell has moved on from `heard`. Returns 0, or -ETIMEDOUT when this end or the other is stuck. */
static int sleep_until_rung(struct end *e, uint32_t heard)
{
	const struct timespec slice = { .tv_nsec = SLICE_MS * 1000000 };
	int64_t end = now_ms() + stuck_ms;

	e->sleeps++;
	while (bell_of(e) == heard && !__atomic_load_n(&finished, __ATOMIC_RELAXED)) {
		if (__atomic_load_n(&stuck, __ATOMIC_RELAXED))
			return -ETIMEDOUT;
		if (now_ms() > end) {
			fprintf(stderr, "stuck: the %s in \"%s\" after %llu done: prod %x cons %x published %x, page %x/%x %x/%x\n", e->name,
				phase->name, (unsigned long long)e->done, e->ring.prod, e->ring.cons, e->ring.published,
				e->ring.shared->req_prod, e->ring.shared->req_event, e->ring.shared->rsp_prod, e->ring.shared->rsp_event);
			__atomic_store_n(&stuck, 1, __ATOMIC_RELAXED);
			return -ETIMEDOUT;
		}
		syscall(SYS_futex, &e->bell, FUTEX_WAIT, heard, &slice, NULL, 0);
	}
	return 0;
}

/* ---- contents: each word follows from the index, and tells a request from an answer */

static void fill(struct end *e, uint32_t salt)
{
	uint32_t index = e->ring.prod, *word = pv_ring_fill(&e->ring);

	for (uint32_t i = 0; i < e->ring.slot_size / 4; i++)
		word[i] = (index + i) * 2654435761u ^ salt;
}

static void take(struct end *e, uint32_t salt)
{
	uint32_t index = e->ring.cons;
	const volatile uint32_t *word = pv_ring_take(&e->ring);

	for (uint32_t i = 0; i < e->ring.slot_size / 4; i++)
		e->wrong |= word[i] != ((index + i) * 2654435761u ^ salt);
}

enum { REQUEST = 0x11111111, ANSWER = 0x77777777 };

/* ---- the two ends */

/* Nothing to do: re-arm, and sleep unless something came meanwhile. Returns what rearm counted, or -errno. */
static int rest(struct end *e)
{
	uint32_t heard;
	int n;

	if (rnd_of(e, 2))
		sched_yield(); /* let the peer do its worst between our last look and the re-arm */
	heard = bell_of(e); /* here and no earlier: a bell for what we have seen long ago must not save us */
	n = pv_ring_rearm(&e->ring, 1);
	return n ? n : sleep_until_rung(e, heard);
}

static void *front_main(void *arg)
{
	struct end *e = arg;
	int64_t end = now_ms() + phase->ms;
	uint64_t asked = 0, limit = phase->requests;
	int n = 0;

	while (n >= 0 && e->done < limit) {
		uint32_t room = pv_ring_room(&e->ring), want = 1 + rnd_of(e, phase->burst);

		want = want < room ? want : room;
		for (; want && asked < limit; want--, asked++)
			fill(e, REQUEST);
		if (pv_ring_publish(&e->ring))
			wake(&back, e);
		if (!n)
			n = pv_ring_ready(&e->ring);
		if (!n && (!pv_ring_room(&e->ring) || asked == limit || rnd_of(e, 2))) {
			n = rest(e);
			continue; /* with n > 0: what rearm counted may be taken as well as what ready counts */
		}
		for (; n > 0; n--, e->done++)
			take(e, ANSWER);
		if (now_ms() > end)
			limit = asked;
	}
	__atomic_store_n(&finished, 1, __ATOMIC_RELAXED);
	wake(&back, e);
	return n < 0 ? e : NULL;
}

static void *back_main(void *arg)
{
	struct end *e = arg;
	int n = 0;

	while (n >= 0) {
		uint32_t answers;

		if (!n)
			n = pv_ring_ready(&e->ring);
		for (int some = n > 0 ? 1 + (int)rnd_of(e, (uint32_t)n) : 0; some > 0; some--, n--, e->done++)
			take(e, REQUEST);
		/* some now, some with the next batch; all before sleeping */
		answers = pv_ring_room(&e->ring);
		for (answers = n || rnd_of(e, 2) ? rnd_of(e, answers + 1) : answers; answers; answers--)
			fill(e, ANSWER);
		if (pv_ring_publish(&e->ring))
			wake(&front, e);
		if (n || pv_ring_room(&e->ring))
			continue;
		if (__atomic_load_n(&finished, __ATOMIC_RELAXED))
			return NULL;
		n = rest(e);
	}
	return e;
}

static void run(const struct phase *p)
{
	size_t bytes = 64 + (size_t)p->nr * p->slot_size;
	pthread_t front_thread, back_thread;
	void *front_failed, *back_failed;

	phase = p;
	finished = 0;
	front = (struct end){ .name = "frontend", .rnd = 1 };
	back = (struct end){ .name = "backend", .rnd = 2 };
	memset(pages, 0, sizeof(pages));
	pv_ring_init_front(&front.ring, pages, bytes, p->slot_size);
	pv_ring_init_back(&back.ring, pages, bytes, p->slot_size);
	front.ring.prod = front.ring.cons = front.ring.published = back.ring.prod = back.ring.cons = back.ring.published = p->base;
	front.ring.shared->req_prod = front.ring.shared->rsp_prod = p->base;
	front.ring.shared->req_event = front.ring.shared->rsp_event = p->base + 1;
	assert_int_equal(front.ring.nr, p->nr);
	assert_int_equal(pthread_create(&back_thread, NULL, back_main, &back), 0);
	assert_int_equal(pthread_create(&front_thread, NULL, front_main, &front), 0);
	pthread_join(front_thread, &front_failed);
	pthread_join(back_thread, &back_failed);
	printf("%s: %llu requests; the frontend slept %llu times, the backend %llu; %llu and %llu notifications\n", p->name,
	       (unsigned long long)front.done, (unsigned long long)front.sleeps, (unsigned long long)back.sleeps,
	       (unsigned long long)front.rings, (unsigned long long)back.rings);
	assert_null(front_failed);
	assert_null(back_failed);
	assert_false(front.wrong);
	assert_false(back.wrong);
	assert_true(front.done > 0);
	assert_true(front.done == back.done);
	assert_int_equal(front.ring.cons, front.ring.prod);
	assert_int_equal(back.ring.cons, back.ring.prod);
	assert_int_equal(back.ring.prod, p->base + (uint32_t)front.done);
}

static void no_wake_up_is_lost_in_a_full_ring(void **state)
{
	(void)state;
	run(&phases[0]);
}

static void no_wake_up_is_lost_in_short_bursts(void **state)
{
	(void)state;
	run(&phases[1]);
}

static void no_wake_up_is_lost_in_a_small_ring(void **state)
{
	(void)state;
	run(&phases[2]);
}

static void no_wake_up_is_lost_one_at_a_time(void **state)
{
	(void)state;
	run(&phases[3]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_wake_up_is_lost_in_a_full_ring),
		cmocka_unit_test(no_wake_up_is_lost_in_short_bursts),
		cmocka_unit_test(no_wake_up_is_lost_in_a_small_ring),
		cmocka_unit_test(no_wake_up_is_lost_one_at_a_time),
	};
	const char *ms = getenv("PVIO_TEST_STUCK_MS");

	if (ms)
		stuck_ms = atoi(ms);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
