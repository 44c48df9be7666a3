/* test_ring.c - the ring core: every state of small rings, across the 2^32 wrap, against hostile indices and naive models. */
#include <pvio/ring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { SLOT = 16, NR = 4 };

/* Where indices begin: the start, where a byte, a sign and the index itself wrap, all within a few steps. */
static const uint32_t bases[] = { 0, 0xfe, 0x7ffffffd, 0xffffff00, 0xfffffff9, 0xfffffffc, 0xffffffff };

#define EACH(v, array) for (size_t v##_i = 0; v##_i < sizeof(array) / sizeof(*(array)); v##_i++)
#define BASE bases[base_i]

/* Both ends of one ring of nr slots, as if `base` slots had gone through it already. */
struct pair {
	uint8_t page[PV_PAGE_SIZE] __attribute__((aligned(PV_PAGE_SIZE)));
	struct pv_ring front, back;
};

static struct pair p;

static void start(uint32_t nr, uint32_t slot_size, uint32_t base)
{
	size_t bytes = 64 + nr * slot_size;

	memset(p.page, 0xa5, sizeof(p.page));
	pv_ring_init_front(&p.front, p.page, bytes, slot_size);
	pv_ring_init_back(&p.back, p.page, bytes, slot_size);
	assert_int_equal(p.front.nr, nr);
	assert_int_equal(p.back.nr, nr);
	p.front.prod = p.front.cons = p.front.seen = p.front.published = base;
	p.back.prod = p.back.cons = p.back.seen = p.back.published = base;
	p.front.shared->req_prod = p.front.shared->rsp_prod = base;
	p.front.shared->req_event = p.front.shared->rsp_event = base + 1;
}

static void fill(struct pv_ring *r, uint32_t value)
{
	memcpy(pv_ring_fill(r), &value, sizeof(value));
}

static uint32_t take(struct pv_ring *r)
{
	return *(const volatile uint32_t *)pv_ring_take(r);
}

static void fill_n(struct pv_ring *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		fill(r, r->prod);
}

static void take_n(struct pv_ring *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		take(r);
}

/* ---- layout and init ---- */

static void header_is_that_of_xen(void **state)
{
	(void)state;
	assert_int_equal(offsetof(struct pv_any_sring, req_prod), 0);
	assert_int_equal(offsetof(struct pv_any_sring, req_event), 4);
	assert_int_equal(offsetof(struct pv_any_sring, rsp_prod), 8);
	assert_int_equal(offsetof(struct pv_any_sring, rsp_event), 12);
	assert_int_equal(offsetof(struct pv_any_sring, ring), 64);
}

static void slots_of_known_rings(void **state)
{
	(void)state;
	assert_int_equal(pv_ring_slots(4096, 12), 256); /* net tx */
	assert_int_equal(pv_ring_slots(4096, 8), 256); /* net rx */
	assert_int_equal(pv_ring_slots(4096, 112), 32); /* blk, x86_64 */
	assert_int_equal(pv_ring_slots(4096, 108), 32); /* blk, x86_32 */
	assert_int_equal(pv_ring_slots(16 * 4096, 112), 512); /* blk, order 4 */
}

static void slots_both_sides_of_the_bound(void **state)
{
	(void)state;
	for (uint32_t size = 1; size <= 128; size++) {
		assert_int_equal(pv_ring_slots(64 + 16 * size, size), 16);
		assert_int_equal(pv_ring_slots(64 + 16 * size - 1, size), 8);
		assert_int_equal(pv_ring_slots(64 + 32 * size - 1, size), 16);
	}
}

static void init_front_resets_the_header_only(void **state)
{
	uint8_t before[PV_PAGE_SIZE];

	(void)state;
	memset(p.page, 0xa5, sizeof(p.page));
	memcpy(before, p.page, sizeof(before));
	pv_ring_init_front(&p.front, p.page, sizeof(p.page), SLOT);
	memset(before, 0, 64);
	before[4] = before[12] = 1; /* the events: wake me by the first slot */
	assert_memory_equal(p.page, before, sizeof(before));
	assert_int_equal(pv_ring_room(&p.front), p.front.nr);
	assert_int_equal(pv_ring_ready(&p.front), 0);
}

static void init_back_writes_nothing_and_sees_what_waits(void **state)
{
	uint8_t before[PV_PAGE_SIZE];

	(void)state;
	pv_ring_init_front(&p.front, p.page, sizeof(p.page), SLOT);
	fill_n(&p.front, 3);
	assert_true(pv_ring_publish(&p.front));
	memcpy(before, p.page, sizeof(before));
	pv_ring_init_back(&p.back, p.page, sizeof(p.page), SLOT);
	assert_memory_equal(p.page, before, sizeof(before));
	assert_int_equal(pv_ring_ready(&p.back), 3);
	assert_int_equal(pv_ring_room(&p.back), 0);
}

/* ---- contents ---- */

static void slot_stays_inside_for_any_index(void **state)
{
	(void)state;
	start(NR, SLOT, 0);
	EACH(base, bases) {
		for (uint32_t i = 0; i < 3 * NR; i++) {
			uint8_t *slot = pv_ring_slot(&p.front, BASE + i);

			assert_ptr_equal(slot, p.page + 64 + (BASE + i) % NR * SLOT);
		}
	}
}

/* Requests and answers in batches of every shape; each value comes out once and in order, and the counts are right. */
static void roundtrip_across_the_wrap(void **state)
{
	(void)state;
	EACH(base, bases) {
		uint32_t rnd = 1, answered = BASE, reaped = BASE;

		start(8, SLOT, BASE);
		for (int turn = 0; turn < 2000; turn++) {
			unsigned n = (rnd = rnd * 1103515245 + 12345) >> 16;

			fill_n(&p.front, n % (pv_ring_room(&p.front) + 1));
			pv_ring_publish(&p.front);
			assert_int_equal(pv_ring_ready(&p.back), p.front.prod - p.back.cons);
			for (n = (n >> 4) % ((unsigned)pv_ring_ready(&p.back) + 1); n; n--) {
				uint32_t index = p.back.cons;

				assert_int_equal(take(&p.back), index);
			}
			for (n = (rnd >> 24) % (pv_ring_room(&p.back) + 1); n; n--)
				fill(&p.back, ~answered++);
			pv_ring_publish(&p.back);
			assert_int_equal(pv_ring_ready(&p.front), answered - reaped);
			for (n = (unsigned)pv_ring_ready(&p.front); n; n--)
				assert_int_equal(take(&p.front), ~reaped++);
		}
		assert_true(reaped - BASE > 4000);
	}
}

static void fill_is_not_seen_before_publish(void **state)
{
	(void)state;
	start(NR, SLOT, 0xfffffffe);
	fill_n(&p.front, NR);
	assert_int_equal(pv_ring_ready(&p.back), 0);
	pv_ring_publish(&p.front);
	assert_int_equal(pv_ring_ready(&p.back), NR);
	take_n(&p.back, NR);
	fill_n(&p.back, 2);
	assert_int_equal(pv_ring_ready(&p.front), 0);
	pv_ring_publish(&p.back);
	assert_int_equal(pv_ring_ready(&p.front), 2);
}

static void room_in_every_state(void **state)
{
	(void)state;
	EACH(base, bases) {
		for (uint32_t asked = 0; asked <= NR; asked++)
			for (uint32_t taken = 0; taken <= asked; taken++)
				for (uint32_t answered = 0; answered <= taken; answered++)
					for (uint32_t reaped = 0; reaped <= answered; reaped++) {
						p.front = (struct pv_ring){ .nr = NR, .prod = BASE + asked, .cons = BASE + reaped };
						p.back = (struct pv_ring){ .nr = NR, .prod = BASE + answered, .cons = BASE + taken, .back = true };
						assert_int_equal(pv_ring_room(&p.front), NR - (asked - reaped));
						assert_int_equal(pv_ring_room(&p.back), taken - answered);
					}
	}
}

/* ---- hostile indices ---- */

/* What the peer says its producer index is, as a distance from our consumer index. */
static const uint32_t lies[] = { NR + 1, NR + 2, 2 * NR, 0x100, 0x10000, 0x7fffffff, 0x80000000, 0x80000001, 0xffff0000,
				 0xfffffffe, 0xffffffff };

/* Let the peer of r claim `prod`; r must answer as `want`, by ready and by rearm, and change nothing but its event. */
static void claim(struct pv_ring *r, uint32_t prod, int want)
{
	struct pv_any_sring *s = r->shared;
	uint8_t page[PV_PAGE_SIZE];
	struct pv_ring before = *r;
	uint32_t *event = r->back ? &s->req_event : &s->rsp_event;

	*(r->back ? &s->req_prod : &s->rsp_prod) = prod;
	memcpy(page, p.page, sizeof(page));
	assert_int_equal(pv_ring_ready(r), want);
	assert_memory_equal(page, p.page, sizeof(page));
	assert_int_equal(pv_ring_rearm(r, 1), want);
	assert_int_equal(*event, r->cons + 1);
	memcpy(page + ((uint8_t *)event - p.page), event, sizeof(*event));
	assert_memory_equal(page, p.page, sizeof(page));
	assert_int_equal(r->prod, before.prod);
	assert_int_equal(r->cons, before.cons);
	assert_int_equal(r->published, before.published);
	assert_int_equal(r->nr, before.nr);
}

static void claim_all(struct pv_ring *r, uint32_t window)
{
	for (uint32_t n = 0; n <= window; n++)
		claim(r, r->cons + n, (int)n);
	for (uint32_t n = window + 1; n <= 2 * NR + 1; n++)
		claim(r, r->cons + n, -EPROTO);
	EACH(lie, lies)
		claim(r, r->cons + lies[lie_i], -EPROTO);
	claim(r, r->cons, 0); /* and it is the index that was refused, nothing is remembered */
}

static void ready_of_the_backend_in_every_state(void **state)
{
	(void)state;
	EACH(base, bases)
		for (uint32_t owed = 0; owed <= NR; owed++) {
			start(NR, SLOT, BASE);
			fill_n(&p.front, owed);
			pv_ring_publish(&p.front);
			take_n(&p.back, owed);
			claim_all(&p.back, NR - owed);
		}
}

/* The backend looks at the index only for more than it has counted; what it counted it may take, whatever the index says by then. */
static void ready_for_looks_when_too_few_are_counted(void **state)
{
	(void)state;
	EACH(base, bases)
		for (uint32_t counted = 0; counted < NR; counted++)
			for (uint32_t taken = 0; taken <= counted; taken++) {
				uint32_t left = counted - taken;

				start(NR, SLOT, BASE);
				fill_n(&p.front, counted);
				pv_ring_publish(&p.front);
				assert_int_equal(pv_ring_ready_for(&p.back, NR), (int)counted);
				take_n(&p.back, taken);
				assert_int_equal(pv_ring_counted(&p.back), left);
				fill(&p.front, 0);
				pv_ring_publish(&p.front);
				assert_int_equal(pv_ring_ready_for(&p.back, left), (int)left);
				EACH(lie, lies) {
					p.front.shared->req_prod = p.back.cons + lies[lie_i];
					assert_int_equal(pv_ring_ready_for(&p.back, left), (int)left);
					assert_int_equal(pv_ring_ready_for(&p.back, left + 1), -EPROTO);
					assert_int_equal(pv_ring_counted(&p.back), left); /* a lie counts nothing */
				}
				p.front.shared->req_prod = p.back.cons; /* taken back: honest, if odd */
				assert_int_equal(pv_ring_ready_for(&p.back, left + 1), 0);
				assert_int_equal(pv_ring_counted(&p.back), 0);
				p.front.shared->req_prod = p.front.prod;
				assert_int_equal(pv_ring_rearm(&p.back, 1), (int)left + 1);
				assert_int_equal(pv_ring_counted(&p.back), left + 1);
			}
}

static void ready_of_the_frontend_in_every_state(void **state)
{
	(void)state;
	EACH(base, bases)
		for (uint32_t asked = 0; asked <= NR; asked++) {
			start(NR, SLOT, BASE);
			fill_n(&p.front, asked);
			pv_ring_publish(&p.front);
			claim_all(&p.front, asked);
		}
}

/* A request that was filled and not yet published cannot have been answered. */
static void ready_of_the_frontend_counts_only_what_it_published(void **state)
{
	(void)state;
	start(NR, SLOT, 0xffffffff);
	fill_n(&p.front, 1);
	pv_ring_publish(&p.front);
	fill_n(&p.front, 2);
	claim_all(&p.front, 1);
}

/* The private indices never follow the page: scribbling over all of the header changes nothing but the verdict. */
static void private_state_survives_a_scribbled_header(void **state)
{
	(void)state;
	EACH(base, bases) {
		start(NR, SLOT, BASE);
		fill_n(&p.front, 2);
		pv_ring_publish(&p.front);
		take_n(&p.back, 2);
		memset(p.page, 0x5a, 64);
		assert_int_equal(pv_ring_room(&p.back), 2);
		fill_n(&p.back, 2);
		pv_ring_publish(&p.back);
		assert_int_equal(p.back.shared->rsp_prod, BASE + 2);
		assert_int_equal(pv_ring_room(&p.front), NR - 2);
		assert_int_equal(pv_ring_ready(&p.front), 2);
		fill_n(&p.front, 1);
		pv_ring_publish(&p.front);
		assert_int_equal(p.front.shared->req_prod, BASE + 3);
	}
}

/* ---- notify and re-arm ---- */

/* The rule in its plainest form: is the event one of the indices that just became visible? (An event of i + 1 asks to be
 * woken by slot i.) */
static bool crossed(uint32_t old, uint32_t now, uint32_t event)
{
	for (uint32_t i = old; i != now; i++)
		if (event == i + 1)
			return true;
	return false;
}

static void publish_once(struct pv_ring *r, unsigned n, uint32_t event)
{
	struct pv_any_sring *s = r->shared;
	uint32_t old = r->prod, *prod = r->back ? &s->rsp_prod : &s->req_prod;

	*(r->back ? &s->rsp_event : &s->req_event) = event;
	fill_n(r, n);
	assert_int_equal(*prod, old);
	assert_int_equal(pv_ring_publish(r), crossed(old, old + n, event));
	assert_int_equal(*prod, old + n);
	assert_int_equal(r->published, old + n);
}

static void publish_notifies_as_the_naive_model(void **state)
{
	(void)state;
	EACH(base, bases)
		for (unsigned n = 0; n <= NR; n++)
			for (int e = -3 * NR; e <= 3 * NR; e++) {
				start(NR, SLOT, BASE);
				publish_once(&p.front, n, BASE + (uint32_t)e);
				take_n(&p.back, n);
				publish_once(&p.back, n, BASE + (uint32_t)e);
			}
}

static void publish_notifies_for_hostile_events(void **state)
{
	(void)state;
	EACH(base, bases)
		EACH(lie, lies) {
			start(NR, SLOT, BASE);
			publish_once(&p.front, 3, BASE + lies[lie_i]);
			take_n(&p.back, 3);
			publish_once(&p.back, 3, BASE + lies[lie_i]);
		}
}

static void publish_of_nothing_touches_nothing(void **state)
{
	uint8_t page[PV_PAGE_SIZE];

	(void)state;
	EACH(base, bases)
		for (uint32_t e = 0; e < 4; e++) {
			start(NR, SLOT, BASE);
			p.front.shared->req_event = p.front.shared->rsp_event = BASE + e - 1;
			p.front.shared->req_prod = p.front.shared->rsp_prod = 0x5a5a5a5a;
			memcpy(page, p.page, sizeof(page));
			assert_false(pv_ring_publish(&p.front));
			assert_false(pv_ring_publish(&p.back));
			assert_memory_equal(page, p.page, sizeof(page));
		}
}

/* After rearm(after) the peer's after-th slot wakes, whatever batches it comes in, and no other slot does. */
static void rearm_wakes_by_the_slot_asked_for(void **state)
{
	(void)state;
	EACH(base, bases)
		for (uint32_t after = 1; after <= NR; after++)
			for (uint32_t batch = 1; batch <= NR; batch++) {
				uint32_t sent = 0;

				start(NR, SLOT, BASE);
				assert_int_equal(pv_ring_rearm(&p.back, after), 0);
				while (sent < NR) {
					uint32_t n = batch < NR - sent ? batch : NR - sent;

					fill_n(&p.front, n);
					assert_int_equal(pv_ring_publish(&p.front), sent < after && after <= sent + n);
					sent += n;
				}
				take_n(&p.back, NR);
				assert_int_equal(pv_ring_rearm(&p.front, after), 0);
				for (sent = 0; sent < NR; sent++) {
					fill_n(&p.back, 1);
					assert_int_equal(pv_ring_publish(&p.back), sent + 1 == after);
				}
			}
}

/* What came before the re-arm is reported by it, since no notification will follow. */
static void rearm_sees_what_came_before_it(void **state)
{
	(void)state;
	EACH(base, bases)
		for (unsigned n = 1; n <= NR; n++) {
			start(NR, SLOT, BASE);
			p.front.shared->req_event = p.front.shared->rsp_event = BASE; /* armed for nothing to come */
			fill_n(&p.front, n);
			assert_false(pv_ring_publish(&p.front));
			assert_int_equal(pv_ring_rearm(&p.back, 1), n);
			take_n(&p.back, n);
			assert_int_equal(pv_ring_rearm(&p.back, 1), 0);
			fill_n(&p.back, n);
			assert_false(pv_ring_publish(&p.back));
			assert_int_equal(pv_ring_rearm(&p.front, 1), n);
		}
}

static void copy_fetching_copies_as_memcpy(void **state)
{
	static const size_t nexts[] = { 0, 1, 64, 100, 256, 1000 };
	uint8_t from[400], to[400 + 2], next[1000] = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 7 + 1);
	for (size_t len = 0; len <= 300; len++)
		EACH(n, nexts) {
			memset(to, 0, sizeof(to));
			pv_copy_fetching(to + 1, from + len % 64, len, nexts[n_i] ? next : NULL, nexts[n_i]);
			assert_memory_equal(to + 1, from + len % 64, len);
			assert_int_equal(to[0], 0);
			assert_int_equal(to[len + 1], 0);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copy_fetching_copies_as_memcpy),
		cmocka_unit_test(header_is_that_of_xen),
		cmocka_unit_test(slots_of_known_rings),
		cmocka_unit_test(slots_both_sides_of_the_bound),
		cmocka_unit_test(init_front_resets_the_header_only),
		cmocka_unit_test(init_back_writes_nothing_and_sees_what_waits),
		cmocka_unit_test(slot_stays_inside_for_any_index),
		cmocka_unit_test(roundtrip_across_the_wrap),
		cmocka_unit_test(fill_is_not_seen_before_publish),
		cmocka_unit_test(room_in_every_state),
		cmocka_unit_test(ready_of_the_backend_in_every_state),
		cmocka_unit_test(ready_for_looks_when_too_few_are_counted),
		cmocka_unit_test(ready_of_the_frontend_in_every_state),
		cmocka_unit_test(ready_of_the_frontend_counts_only_what_it_published),
		cmocka_unit_test(private_state_survives_a_scribbled_header),
		cmocka_unit_test(publish_notifies_as_the_naive_model),
		cmocka_unit_test(publish_notifies_for_hostile_events),
		cmocka_unit_test(publish_of_nothing_touches_nothing),
		cmocka_unit_test(rearm_wakes_by_the_slot_asked_for),
		cmocka_unit_test(rearm_sees_what_came_before_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
