/* test_pipe.c - the page of a pipe: both ends, whatever the indices, whatever the peer writes; two threads; and the pump. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <pvio/pipe.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

static struct pv_pipe_page page __attribute__((aligned(4096)));
static struct pv_pipe guest, dom0;

/* Both ends, as if `base` bytes had gone each way before. */
static void begin(uint32_t base)
{
	pv_pipe_format(&page);
	page.guest.put = page.guest.taken = page.dom0.put = page.dom0.taken = base;
	pv_pipe_init(&guest, &page, false);
	pv_pipe_init(&dom0, &page, true);
	guest.put = guest.taken = guest.put_shown = guest.taken_shown = base;
	dom0.put = dom0.taken = dom0.put_shown = dom0.taken_shown = base;
}

static uint8_t byte_at(uint32_t i)
{
	return (uint8_t)(i * 7 + (i >> 8) * 13 + 5);
}

/* Put n bytes that continue from *i, as many as there is room for. Returns how many. */
static unsigned put(struct pv_pipe *p, uint32_t *i, unsigned n)
{
	unsigned done = 0;
	uint8_t *at;
	int room;

	while (done < n && (room = pv_pipe_space(p, &at)) > 0) {
		unsigned now = (unsigned)room < n - done ? (unsigned)room : n - done;

		for (unsigned k = 0; k < now; k++)
			at[k] = byte_at((*i)++);
		pv_pipe_gave(p, now);
		done += now;
	}
	return done;
}

/* Take n bytes, as many as there are, and check that they continue from *i. Returns how many. */
static unsigned take(struct pv_pipe *p, uint32_t *i, unsigned n)
{
	unsigned done = 0;
	const uint8_t *at;
	int held;

	while (done < n && (held = pv_pipe_peek(p, &at)) > 0) {
		unsigned now = (unsigned)held < n - done ? (unsigned)held : n - done;

		for (unsigned k = 0; k < now; k++)
			if (at[k] != byte_at((*i)++))
				fail_msg("byte %u is %u", *i - 1, at[k]);
		pv_pipe_took(p, now);
		done += now;
	}
	return done;
}

/* ---- both ends ---- */

static void bytes_arrive_in_order_at_any_index(void **state)
{
	static const uint32_t bases[] = { 0, 1, 1000, 0x7ffffff0, 0xfffffff0, 0xfffff800 };

	(void)state;
	for (unsigned b = 0; b < sizeof(bases) / sizeof(bases[0]); b++) {
		uint32_t up_put = 0, up_taken = 0, down_put = 0, down_taken = 0;

		begin(bases[b]);
		for (unsigned i = 0; i < 3000; i++) {
			put(&guest, &up_put, i % 37);
			put(&dom0, &down_put, i % 101);
			pv_pipe_publish(&guest);
			pv_pipe_publish(&dom0);
			take(&dom0, &up_taken, i % 41);
			take(&guest, &down_taken, i % 97);
		}
		pv_pipe_publish(&guest);
		pv_pipe_publish(&dom0);
		take(&dom0, &up_taken, PV_PIPE_UP);
		take(&guest, &down_taken, PV_PIPE_DOWN);
		assert_int_equal(up_put, up_taken);
		assert_int_equal(down_put, down_taken);
		assert_true(up_put > 30000 && down_put > 90000);
	}
}

static void a_ring_holds_its_size_and_no_more(void **state)
{
	uint32_t i = 0, j = 0;

	(void)state;
	begin(0xffffff00);
	assert_int_equal(put(&guest, &i, 5000), PV_PIPE_UP);
	assert_int_equal(put(&dom0, &j, 5000), PV_PIPE_DOWN);
	pv_pipe_publish(&guest);
	pv_pipe_publish(&dom0);
	i = j = 0;
	assert_int_equal(take(&dom0, &i, 5000), PV_PIPE_UP);
	assert_int_equal(take(&guest, &j, 5000), PV_PIPE_DOWN);
}

static void what_is_not_published_is_not_seen(void **state)
{
	uint32_t i = 0;
	const uint8_t *at;

	(void)state;
	begin(0);
	put(&guest, &i, 10);
	assert_int_equal(pv_pipe_peek(&dom0, &at), 0);
	pv_pipe_publish(&guest);
	assert_int_equal(pv_pipe_peek(&dom0, &at), 10);
}

static void each_end_writes_its_own_line_and_ring_only(void **state)
{
	struct pv_pipe_page before;
	uint32_t i = 0;

	(void)state;
	begin(0);
	put(&dom0, &i, 100);
	pv_pipe_publish(&dom0);
	before = page;
	i = 0;
	put(&guest, &i, 100);
	i = 0;
	take(&guest, &i, 50);
	pv_pipe_publish(&guest);
	pv_pipe_rearm(&guest, true, true);
	assert_memory_equal(&page.dom0, &before.dom0, sizeof(page.dom0));
	assert_memory_equal(page.down, before.down, sizeof(page.down));
	assert_memory_equal(page.reserved, before.reserved, sizeof(page.reserved));
	assert_int_equal(page.guest.put, 100);
	assert_int_equal(page.guest.taken, 50);
}

/* ---- waking ---- */

static void publish_notifies_who_asked_and_nobody_else(void **state)
{
	uint32_t i = 0, j = 0;

	(void)state;
	begin(0xfffffffa);
	put(&guest, &i, 3);
	assert_false(pv_pipe_publish(&guest)); /* nobody sleeps */
	take(&dom0, &j, 3);
	assert_false(pv_pipe_publish(&dom0));
	assert_int_equal(pv_pipe_rearm(&dom0, true, false), 0);
	put(&guest, &i, 1000);
	assert_true(pv_pipe_publish(&guest));
	put(&guest, &i, 10);
	assert_false(pv_pipe_publish(&guest)); /* told already */
	assert_int_equal(pv_pipe_rearm(&dom0, true, false), 1); /* and it looks before it sleeps */
}

static void a_full_ring_wakes_its_writer_when_bytes_are_taken(void **state)
{
	uint32_t i = 0, j = 0;

	(void)state;
	begin(0xffffff00);
	put(&guest, &i, PV_PIPE_UP);
	pv_pipe_publish(&guest);
	take(&dom0, &j, 1);
	assert_false(pv_pipe_publish(&dom0)); /* it did not ask */
	put(&guest, &i, 1);
	pv_pipe_publish(&guest);
	assert_int_equal(pv_pipe_rearm(&guest, false, true), 0);
	take(&dom0, &j, 1);
	assert_true(pv_pipe_publish(&dom0));
	assert_int_equal(pv_pipe_rearm(&guest, false, true), 1);
}

static void alive_is_the_byte_of_domain_0s_notice(void **state)
{
	(void)state;
	begin(0);
	assert_true(pv_pipe_alive(&guest));
	((uint8_t *)&page)[PV_PIPE_NOTICE_OFFSET] = 0;
	assert_false(pv_pipe_alive(&guest));
}

/* ---- what a peer may write ---- */

static void an_index_outside_of_the_ring_is_a_lie(void **state)
{
	static const uint32_t bases[] = { 0, 0x7fffffff, 0xffffff00 };
	const uint8_t *in;
	uint8_t *out;

	(void)state;
	for (unsigned b = 0; b < 3; b++) {
		begin(bases[b]);
		for (uint32_t d = 0; d < 5000; d++) {
			page.guest.put = bases[b] + d;
			assert_true(d <= PV_PIPE_UP ? pv_pipe_peek(&dom0, &in) >= 0 : pv_pipe_peek(&dom0, &in) == -EPROTO);
			assert_true(pv_pipe_rearm(&dom0, true, false) == (d == 0 ? 0 : d <= PV_PIPE_UP ? 1 : -EPROTO));
			page.guest.put = bases[b];
			page.guest.taken = bases[b] - d;
			assert_true(d <= PV_PIPE_DOWN ? pv_pipe_space(&dom0, &out) >= 0 : pv_pipe_space(&dom0, &out) == -EPROTO);
			page.guest.taken = bases[b];
		}
		page.guest.put = bases[b] - 1;
		assert_int_equal(pv_pipe_peek(&dom0, &in), -EPROTO);
		page.guest.put = bases[b] + 0x80000000;
		assert_int_equal(pv_pipe_peek(&dom0, &in), -EPROTO);
		page.guest.taken = bases[b] + 1; /* of what was never put */
		assert_int_equal(pv_pipe_space(&dom0, &out), -EPROTO);
		assert_int_equal(pv_pipe_rearm(&dom0, false, true), -EPROTO);
	}
}

/* Our own indices in the page are the peer's to overwrite: they are never read back. */
static void own_line_is_never_read(void **state)
{
	uint32_t i = 0, j = 0;

	(void)state;
	begin(0);
	put(&dom0, &i, 100);
	pv_pipe_publish(&dom0);
	memset(&page.dom0, 0xee, sizeof(page.dom0));
	put(&dom0, &i, 100);
	pv_pipe_publish(&dom0);
	assert_int_equal(page.dom0.put, 200);
	assert_int_equal(take(&guest, &j, 1000), 200);
}

/* Whatever stands there, what is handed out lies in the ring. */
static void random_lines_never_lead_outside(void **state)
{
	unsigned seed = 7;

	(void)state;
	begin(0);
	for (int n = 0; n < 200000; n++) {
		const uint8_t *in;
		uint8_t *out;
		int held, room;

		for (unsigned w = 0; w < 5; w++)
			((uint32_t *)&page.guest)[w] = (uint32_t)rand_r(&seed) % 8192 * (rand_r(&seed) & 1 ? 1 : 99991);
		held = pv_pipe_peek(&dom0, &in);
		room = pv_pipe_space(&dom0, &out);
		assert_true(held == -EPROTO || (held >= 0 && in >= page.up && in + held <= page.up + PV_PIPE_UP));
		assert_true(room == -EPROTO || (room >= 0 && out >= page.down && out + room <= page.down + PV_PIPE_DOWN));
		if (held > 0)
			pv_pipe_took(&dom0, (unsigned)rand_r(&seed) % (unsigned)(held + 1));
		if (room > 0)
			pv_pipe_gave(&dom0, (unsigned)rand_r(&seed) % (unsigned)(room + 1));
		pv_pipe_publish(&dom0);
	}
}

/* ---- two threads, each asleep whenever it has nothing to do ---- */

enum { MANY = 2000000, STUCK_MS = 20000 };

struct end {
	struct pv_pipe *p;
	int own, other; /* eventfds */
	uint32_t sent, got;
	uint64_t sleeps;
	bool stuck;
};

static void *talk(void *arg)
{
	struct end *e = arg;
	uint64_t one = 1, count;

	while (e->sent < MANY || e->got < MANY) {
		unsigned in = take(e->p, &e->got, MANY), out = put(e->p, &e->sent, MANY - e->sent);
		bool notify = pv_pipe_publish(e->p);

		if (notify && write(e->other, &one, sizeof(one)) != sizeof(one))
			break;
		if (in || out || pv_pipe_rearm(e->p, true, e->sent < MANY))
			continue;
		if (e->sent == MANY && e->got == MANY)
			break;
		e->sleeps++;
		if (poll(&(struct pollfd){ .fd = e->own, .events = POLLIN }, 1, STUCK_MS) == 0) {
			e->stuck = true;
			break;
		}
		if (read(e->own, &count, sizeof(count)) != sizeof(count))
			break;
	}
	return NULL;
}

static void two_threads_lose_no_byte_and_no_wake_up(void **state)
{
	struct end a = { .p = &guest, .own = eventfd(0, 0), .other = eventfd(0, 0) }, b = { .p = &dom0, .own = a.other, .other = a.own };
	pthread_t thread;

	(void)state;
	begin(0xfff00000);
	assert_int_equal(pthread_create(&thread, NULL, talk, &b), 0);
	talk(&a);
	pthread_join(thread, NULL);
	assert_false(a.stuck || b.stuck);
	assert_int_equal(a.got, MANY);
	assert_int_equal(b.got, MANY);
	close(a.own);
	close(a.other);
}

/* ---- the pump ---- */

struct pumped {
	int near, far; /* the pump's end of the socket, and its user's */
};

static struct pumped sockets(void)
{
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
	return (struct pumped){ s[0], s[1] };
}

static void pump_carries_both_ways_and_says_what_it_waits_for(void **state)
{
	struct pumped g, d;
	struct pv_pipe_turn t;
	char text[64] = "";

	(void)state;
	begin(0);
	g = sockets();
	d = sockets();
	assert_int_equal(pv_pipe_pump(&dom0, d.near, &t), 0);
	assert_true(t.events == POLLIN && !t.notify && !t.again);
	assert_int_equal(write(g.far, "up", 2), 2);
	assert_int_equal(write(d.far, "down", 4), 4);
	assert_int_equal(pv_pipe_pump(&guest, g.near, &t), 0);
	assert_true(t.notify); /* domain 0 slept */
	assert_int_equal(pv_pipe_pump(&dom0, d.near, &t), 0);
	assert_true(t.notify);
	assert_int_equal(read(d.far, text, sizeof(text)), 2);
	assert_int_equal(pv_pipe_pump(&guest, g.near, &t), 0);
	assert_int_equal(read(g.far, text, sizeof(text)), 4);
	assert_memory_equal(text, "down", 4);
	close(g.far);
	assert_int_equal(pv_pipe_pump(&guest, g.near, &t), -EPIPE);
	close(g.near);
	close(d.near);
	close(d.far);
}

/* A socket that nobody reads, a ring that nobody empties: each holds up its own direction, and neither is polled in vain. */
static void pump_waits_for_what_is_full(void **state)
{
	static char zeros[8192];
	struct pumped d = sockets();
	struct pv_pipe_turn t;
	uint32_t i = 0;
	bool blocked = false;

	(void)state;
	begin(0);
	for (int n = 0; n < 10000 && !blocked; n++) {
		put(&guest, &i, PV_PIPE_UP);
		pv_pipe_publish(&guest);
		assert_int_equal(pv_pipe_pump(&dom0, d.near, &t), 0);
		blocked = t.events & POLLOUT;
	}
	assert_true(blocked);
	assert_int_equal(t.events, POLLOUT | POLLIN);
	assert_false(t.again);
	assert_true(write(d.far, zeros, sizeof(zeros)) == sizeof(zeros));
	assert_int_equal(pv_pipe_pump(&dom0, d.near, &t), 0);
	assert_int_equal(t.events, POLLOUT); /* the ring is full: POLLIN would spin */
	assert_false(t.again);
	assert_int_equal(page.dom0.put, PV_PIPE_DOWN);
	close(d.near);
	close(d.far);
}

static void pump_takes_both_pieces_of_a_ring_in_a_turn(void **state)
{
	struct pumped d = sockets();
	struct pv_pipe_turn t;
	char buf[4096];
	uint32_t i = 0;

	(void)state;
	begin(700);
	put(&guest, &i, PV_PIPE_UP);
	pv_pipe_publish(&guest);
	assert_int_equal(pv_pipe_pump(&dom0, d.near, &t), 0);
	assert_int_equal(read(d.far, buf, sizeof(buf)), PV_PIPE_UP);
	put(&guest, &i, 5);
	pv_pipe_publish(&guest);
	assert_int_equal(pv_pipe_pump(&dom0, d.near, &t), 0);
	assert_int_equal(read(d.far, buf, sizeof(buf)), 5);
	close(d.near);
	close(d.far);
}

static void pump_ends_with_a_lie(void **state)
{
	struct pumped d = sockets();
	struct pv_pipe_turn t;

	(void)state;
	begin(0);
	page.guest.put = PV_PIPE_UP + 1;
	assert_int_equal(pv_pipe_pump(&dom0, d.near, &t), -EPROTO);
	begin(0);
	page.guest.taken = 1;
	assert_int_equal(pv_pipe_pump(&dom0, d.near, &t), -EPROTO);
	close(d.near);
	close(d.far);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_arrive_in_order_at_any_index),
		cmocka_unit_test(a_ring_holds_its_size_and_no_more),
		cmocka_unit_test(what_is_not_published_is_not_seen),
		cmocka_unit_test(each_end_writes_its_own_line_and_ring_only),
		cmocka_unit_test(publish_notifies_who_asked_and_nobody_else),
		cmocka_unit_test(a_full_ring_wakes_its_writer_when_bytes_are_taken),
		cmocka_unit_test(alive_is_the_byte_of_domain_0s_notice),
		cmocka_unit_test(an_index_outside_of_the_ring_is_a_lie),
		cmocka_unit_test(own_line_is_never_read),
		cmocka_unit_test(random_lines_never_lead_outside),
		cmocka_unit_test(two_threads_lose_no_byte_and_no_wake_up),
		cmocka_unit_test(pump_carries_both_ways_and_says_what_it_waits_for),
		cmocka_unit_test(pump_waits_for_what_is_full),
		cmocka_unit_test(pump_takes_both_pieces_of_a_ring_in_a_turn),
		cmocka_unit_test(pump_ends_with_a_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
