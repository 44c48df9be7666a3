/* The cache of mapped pages, on a loopback hub: domain 0 maps what a guest shares. */
#include "loopback.h"
#include <errno.h>
#include <pvio/gnt_cache.h>
#include <xen/grant_table.h>

enum { PAGES = 64, LIMIT = 16 };

static struct pv_hyper *dom0, *guest;
static struct pv_gnt_cache *cache;
static uint32_t g[PAGES], ro[4]; /* what the guest shares, by page */
static uint8_t *page, *ro_page;

static int group_up(void **state)
{
	(void)state;
	lb_up(NULL, NULL);
	return 0;
}

static int group_down(void **state)
{
	(void)state;
	lb_down();
	return 0;
}

static int up(void **state)
{
	void *addr;
	unsigned i;

	(void)state;
	dom0 = lb_open(0);
	guest = lb_open(lb_guest(dom0, 7));
	assert_int_equal(pv_gnt_share(guest, 0, PAGES, true, NULL, g, &addr), 0);
	page = addr;
	assert_int_equal(pv_gnt_share(guest, 0, 4, false, NULL, ro, &addr), 0);
	ro_page = addr;
	for (i = 0; i < PAGES; i++)
		page[i * 4096] = i;
	for (i = 0; i < 4; i++)
		ro_page[i * 4096] = 100 + i;
	return 0;
}

static uint32_t mapped(void)
{
	struct pv_hub_domain d[2];

	assert_int_equal(pv_hub_domain_list(dom0, d, 2), 2);
	assert_int_equal(d[0].domid, 0);
	return d[0].maps;
}

static int down(void **state)
{
	(void)state;
	pv_gnt_cache_free(cache);
	cache = NULL;
	assert_int_equal(mapped(), 0); /* nothing is left behind, whatever the test did */
	assert_int_equal(pv_hub_domain_destroy(dom0, 7), 0);
	pv_hyper_close(guest);
	pv_hyper_close(dom0);
	return 0;
}

static void begin(unsigned limit, bool keep)
{
	assert_int_equal(pv_gnt_cache_new(dom0, 7, limit, keep, &cache), 0);
}

static struct pv_gnt_cache_stats stats(void)
{
	struct pv_gnt_cache_stats s;

	pv_gnt_cache_stats(cache, &s);
	assert_int_equal(s.mapped, mapped()); /* what it says is what the hypervisor counts */
	assert_true(s.mapped <= s.limit);
	assert_true(s.pinned <= s.mapped);
	return s;
}

static void get_ok(const uint32_t *grefs, unsigned n, bool writable, void **addrs)
{
	assert_int_equal(pv_gnt_cache_get(cache, grefs, n, writable, addrs), 0);
}

static void get_maps_and_put_keeps(void **state)
{
	struct pv_gnt_cache_stats s;
	void *a[11], *b[11];
	unsigned i;

	(void)state;
	begin(LIMIT, true);
	get_ok(g, 11, true, a);
	for (i = 0; i < 11; i++)
		assert_int_equal(*(uint8_t *)a[i], i);
	*(uint8_t *)a[3] = 77;
	assert_int_equal(page[3 * 4096], 77);
	s = stats();
	assert_true(s.misses == 11 && s.hits == 0 && s.mapped == 11 && s.pinned == 11 && s.limit == LIMIT);
	pv_gnt_cache_put(cache, g, 11, true);
	s = stats();
	assert_true(s.mapped == 11 && s.pinned == 0);
	get_ok(g, 11, true, b);
	assert_memory_equal(a, b, sizeof(a));
	s = stats();
	assert_true(s.misses == 11 && s.hits == 11);
	pv_gnt_cache_put(cache, g, 11, true);
}

static void get_without_keep_unmaps(void **state)
{
	void *a[4], *b[4];

	(void)state;
	begin(LIMIT, false);
	get_ok(g, 4, true, a);
	get_ok(g, 2, true, b); /* used twice at a time: still one mapping */
	assert_ptr_equal(a[1], b[1]);
	assert_int_equal(stats().mapped, 4);
	pv_gnt_cache_put(cache, g, 4, true);
	assert_int_equal(stats().mapped, 4); /* two of its pages are in use */
	assert_int_equal(*(uint8_t *)b[1], 1);
	pv_gnt_cache_put(cache, g, 2, true);
	assert_int_equal(stats().mapped, 0);
}

static void get_reference_twice(void **state)
{
	uint32_t twice[5] = { g[1], g[2], g[1], g[1], g[2] };
	void *a[5];

	(void)state;
	begin(LIMIT, true);
	get_ok(twice, 5, true, a);
	assert_true(a[0] == a[2] && a[2] == a[3] && a[1] == a[4] && a[0] != a[1]);
	assert_int_equal(*(uint8_t *)a[4], 2);
	assert_int_equal(stats().mapped, 2);
	pv_gnt_cache_put(cache, twice, 5, true);
	assert_int_equal(stats().pinned, 0);
	get_ok(twice, 5, true, a);
	pv_gnt_cache_put(cache, twice, 5, true);
	assert_int_equal(stats().misses, 2);
}

static void get_read_only_then_writable(void **state)
{
	void *r, *w, *r2;

	(void)state;
	begin(LIMIT, true);
	get_ok(&g[0], 1, false, &r);
	get_ok(&g[0], 1, true, &w); /* mapped anew */
	assert_ptr_not_equal(r, w);
	*(uint8_t *)w = 5;
	assert_int_equal(*(uint8_t *)r, 5);
	get_ok(&g[0], 1, false, &r2);
	assert_int_equal(stats().mapped, 2);
	pv_gnt_cache_put(cache, &g[0], 1, true);
	pv_gnt_cache_put(cache, &g[0], 1, false);
	assert_int_equal(stats().pinned, 1);
	pv_gnt_cache_put(cache, &g[0], 1, false);
	assert_int_equal(stats().pinned, 0);
}

static void get_read_only_uses_writable(void **state)
{
	void *r, *w;

	(void)state;
	begin(LIMIT, true);
	get_ok(&g[0], 1, true, &w);
	get_ok(&g[0], 1, false, &r);
	assert_ptr_equal(r, w);
	assert_int_equal(stats().mapped, 1);
	pv_gnt_cache_put(cache, &g[0], 1, false);
	pv_gnt_cache_put(cache, &g[0], 1, true);
	assert_int_equal(stats().pinned, 0);
}

static void get_read_only_grant(void **state)
{
	void *a[4];

	(void)state;
	begin(LIMIT, true);
	get_ok(ro, 4, false, a);
	assert_int_equal(*(uint8_t *)a[3], 103);
	assert_int_equal(pv_gnt_cache_get(cache, ro, 4, true, a), -EACCES);
	assert_int_equal(stats().mapped, 4);
	pv_gnt_cache_put(cache, ro, 4, false);
	assert_int_equal(stats().pinned, 0);
}

static void get_bad_reference_is_all_or_nothing(void **state)
{
	uint32_t mix[6] = { g[0], g[1], g[2], 0xfffff0, g[3], g[0] };
	void *a[6];

	(void)state;
	begin(LIMIT, true);
	get_ok(g, 2, true, a);
	assert_int_equal(pv_gnt_cache_get(cache, mix, 6, true, a), -EACCES);
	assert_int_equal(stats().mapped, 2);
	assert_int_equal(stats().pinned, 2);
	pv_gnt_cache_put(cache, g, 2, true);
	assert_int_equal(stats().pinned, 0);
	assert_int_equal(pv_gnt_cache_get(cache, mix, 6, true, a), -EACCES);
	assert_int_equal(stats().pinned, 0);
	mix[3] = g[9];
	get_ok(mix, 6, true, a);
	assert_int_equal(*(uint8_t *)a[3], 9);
	pv_gnt_cache_put(cache, mix, 6, true);
}

static void get_evicts_least_recently_used(void **state)
{
	void *a[8], *b[8];

	(void)state;
	begin(LIMIT, true);
	get_ok(g, 8, true, a);
	pv_gnt_cache_put(cache, g, 8, true);
	get_ok(g + 8, 8, true, a);
	pv_gnt_cache_put(cache, g + 8, 8, true);
	get_ok(g, 1, true, a); /* the first call is the younger one now */
	pv_gnt_cache_put(cache, g, 1, true);
	get_ok(g + 16, 2, true, a);
	assert_int_equal(stats().evictions, 8);
	assert_int_equal(stats().mapped, 10);
	pv_gnt_cache_put(cache, g + 16, 2, true);
	get_ok(g, 8, true, b); /* kept */
	assert_int_equal(stats().misses, 18);
	pv_gnt_cache_put(cache, g, 8, true);
	get_ok(g + 8, 1, true, b); /* gone */
	assert_int_equal(stats().misses, 19);
	pv_gnt_cache_put(cache, g + 8, 1, true);
}

static void get_all_pinned(void **state)
{
	void *a[LIMIT], *b[2];

	(void)state;
	begin(LIMIT, true);
	get_ok(g, LIMIT - 1, true, a);
	assert_int_equal(pv_gnt_cache_get(cache, g + 20, 2, true, b), -ENOSPC);
	assert_int_equal(stats().mapped, LIMIT - 1);
	get_ok(g + 20, 1, true, b);
	assert_int_equal(pv_gnt_cache_get(cache, g + 21, 1, true, b), -ENOSPC);
	pv_gnt_cache_put(cache, g + 20, 1, true);
	get_ok(g + 21, 1, true, b);
	pv_gnt_cache_put(cache, g + 21, 1, true);
	pv_gnt_cache_put(cache, g, LIMIT - 1, true);
	assert_int_equal(stats().pinned, 0);
	assert_int_equal(pv_gnt_cache_get(cache, g, LIMIT + 1, true, a), -ENOSPC);
	get_ok(g + 30, LIMIT, true, a);
	pv_gnt_cache_put(cache, g + 30, LIMIT, true);
}

/* One page in use keeps the whole call, as it can only be unmapped as a whole. */
static void get_one_page_pins_its_call(void **state)
{
	void *a[LIMIT];

	(void)state;
	begin(LIMIT, true);
	get_ok(g, 10, true, a);
	get_ok(g + 9, 1, true, a);
	pv_gnt_cache_put(cache, g, 10, true);
	assert_int_equal(stats().pinned, 10);
	assert_int_equal(pv_gnt_cache_get(cache, g + 20, 10, true, a), -ENOSPC);
	pv_gnt_cache_put(cache, g + 9, 1, true);
	get_ok(g + 20, 10, true, a);
	pv_gnt_cache_put(cache, g + 20, 10, true);
}

static void get_errors_of_the_hypervisor(void **state)
{
	void *a[4];

	(void)state;
	begin(LIMIT, true);
	assert_int_equal(pv_hub_inject(dom0, 7, "map", 2, 1, GNTST_eagain), 0);
	assert_int_equal(pv_gnt_cache_get(cache, g, 4, true, a), -EAGAIN);
	get_ok(g, 4, true, a);
	pv_gnt_cache_put(cache, g, 4, true);
	/* out of mappings: what is idle goes first, then it is an error */
	assert_int_equal(pv_hub_inject(dom0, 7, "map", 0, 1, GNTST_no_device_space), 0);
	get_ok(g + 10, 1, true, a);
	assert_int_equal(stats().evictions, 4);
	assert_int_equal(pv_hub_inject(dom0, 7, "map", 0, 1, GNTST_no_device_space), 0);
	assert_int_equal(pv_gnt_cache_get(cache, g + 11, 1, true, a), -ENOSPC);
	pv_gnt_cache_put(cache, g + 10, 1, true);
	assert_int_equal(stats().pinned, 0);
}

static void trim_unmaps_what_was_not_used(void **state)
{
	void *a[8];

	(void)state;
	begin(LIMIT, true);
	get_ok(g, 4, true, a);
	pv_gnt_cache_put(cache, g, 4, true);
	get_ok(g + 4, 4, true, a);
	pv_gnt_cache_put(cache, g + 4, 4, true);
	get_ok(g + 8, 1, true, a); /* in use all the time */
	assert_int_equal(pv_gnt_cache_trim(cache), 0); /* all were used since the beginning */
	get_ok(g, 1, true, a);
	pv_gnt_cache_put(cache, g, 1, true);
	assert_int_equal(pv_gnt_cache_trim(cache), 4);
	assert_int_equal(stats().mapped, 5);
	assert_int_equal(pv_gnt_cache_trim(cache), 4);
	assert_int_equal(pv_gnt_cache_trim(cache), 0);
	assert_int_equal(stats().mapped, 1);
	pv_gnt_cache_put(cache, g + 8, 1, true);
}

static void free_unmaps_what_is_pinned(void **state)
{
	void *a[8];

	(void)state;
	pv_gnt_cache_free(NULL);
	begin(LIMIT, true);
	get_ok(g, 8, true, a);
	get_ok(ro, 2, false, a);
	assert_int_equal(mapped(), 10);
}

struct holding {
	uint32_t gref[4];
	unsigned n;
	bool writable;
};

static void put_held(struct holding *h)
{
	pv_gnt_cache_put(cache, h->gref, h->n, h->writable);
	h->n = 0;
}

/* Four users, each of up to four pages: the addresses are those of the pages, and nothing is lost. */
static void get_and_put_at_random(void **state)
{
	struct holding held[4] = { 0 }, *h;
	uint32_t s = 12345, round, refused = 0, i, k;
	void *a[4];

	(void)state;
	begin(LIMIT, true);
	for (round = 0; round < 4000; round++) {
		s = s * 1664525 + 1013904223;
		h = &held[s >> 30];
		if (h->n) {
			put_held(h);
			continue;
		}
		h->writable = s >> 29 & 1;
		h->n = 1 + (s >> 20 & 3);
		for (k = 0; k < h->n; k++)
			h->gref[k] = g[(s >> (3 * k)) % PAGES];
		if (pv_gnt_cache_get(cache, h->gref, h->n, h->writable, a) == -ENOSPC) {
			assert_true(stats().pinned + h->n > LIMIT); /* each page in use pins its call */
			h->n = 0;
			refused++;
		}
		for (k = 0; k < h->n; k++)
			assert_int_equal(*(uint8_t *)a[k], h->gref[k] - g[0]);
	}
	assert_true(refused < 1000);
	for (i = 0; i < 4; i++)
		put_held(&held[i]);
	assert_int_equal(stats().pinned, 0);
	assert_true(stats().evictions > 100);
}

/* Many more pages than the table begins with. */
static void get_grows_the_table(void **state)
{
	uint32_t many[1000], i;
	void *a[1000], *addr;

	(void)state;
	assert_int_equal(pv_gnt_share(guest, 0, 1000, true, NULL, many, &addr), 0);
	begin(1000, true);
	for (i = 0; i < 1000; i += 10)
		get_ok(many + i, 10, true, a + i);
	for (i = 0; i < 1000; i++)
		*(uint32_t *)a[i] = i;
	for (i = 0; i < 1000; i++)
		assert_int_equal(*(uint32_t *)((uint8_t *)addr + i * 4096), i);
	pv_gnt_cache_put(cache, many, 1000, true);
	assert_int_equal(stats().mapped, 1000);
	assert_int_equal(stats().pinned, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(get_maps_and_put_keeps),
		TEST(get_without_keep_unmaps),
		TEST(get_reference_twice),
		TEST(get_read_only_then_writable),
		TEST(get_read_only_uses_writable),
		TEST(get_read_only_grant),
		TEST(get_bad_reference_is_all_or_nothing),
		TEST(get_evicts_least_recently_used),
		TEST(get_all_pinned),
		TEST(get_one_page_pins_its_call),
		TEST(get_errors_of_the_hypervisor),
		TEST(trim_unmaps_what_was_not_used),
		TEST(free_unmaps_what_is_pinned),
		TEST(get_and_put_at_random),
		TEST(get_grows_the_table),
	};

	return cmocka_run_group_tests_name("gnt_cache", tests, group_up, group_down);
}
