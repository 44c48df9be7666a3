/* test_netback_ctrl.c - what is pure about control rings: the hash (by the vectors of Microsoft's specification of RSS), each request on
 * both sides of its bounds, the table of static grants; and the multicast filter. */
#include "netback/netback.h"
#include <setjmp.h>
#include <cmocka.h>

enum {
	OK = XEN_NETIF_CTRL_STATUS_SUCCESS,
	UNSUPPORTED = XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED,
	INVALID = XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER,
	OVERFLOW = XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW,
};

static const uint8_t rss_key[HASH_KEY_MAX] = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
	0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

static uint32_t request(struct hash *h, uint16_t type, uint32_t a, uint32_t b, uint32_t c, const void *bytes)
{
	const struct xen_netif_ctrl_request req = { .type = type, .data = { a, b, c } };

	return hash_request(h, &req, bytes, 4);
}

static struct ctrl_plan plan(const struct hash *h, uint16_t type, uint32_t a, uint32_t b, uint32_t c)
{
	const struct xen_netif_ctrl_request req = { .type = type, .data = { a, b, c } };
	struct ctrl_plan p;

	memset(&p, 0xa5, sizeof(p));
	ctrl_parse(&req, h, 4, &p);
	return p;
}

static struct hash toeplitz(void)
{
	struct hash h = { 0 };

	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ, 0, 0, NULL), OK);
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_KEY, 0, sizeof(rss_key), 0, rss_key), OK);
	return h;
}

static void hash_is_that_of_the_specification(void **state)
{
	static const struct {
		uint32_t src, dst;
		uint16_t sport, dport;
		uint32_t ip, tcp;
	} v4[] = {
		{ 0x420995bb, 0xa18e6450, 2794, 1766, 0x323e8fc2, 0x51ccc178 },
		{ 0xc75c6f02, 0x41458c53, 14230, 4739, 0xd718262a, 0xc626b0ea },
		{ 0x1813c65f, 0x0c16cfb8, 12898, 38024, 0xd2d0a5de, 0x5c2b394a },
		{ 0x261bcd1e, 0xd18ea306, 48228, 2217, 0x82989176, 0xafc7327f },
		{ 0x9927a3bf, 0xcabc7f02, 44251, 1303, 0x5d1809c5, 0x10e828a2 },
	};
	static const struct {
		uint32_t src[4], dst[4];
		uint16_t sport, dport;
		uint32_t ip, tcp;
	} v6[] = {
		{ { 0x3ffe2501, 0x02001fff, 0, 7 }, { 0x3ffe2501, 0x02000003, 0, 1 }, 2794, 1766, 0x2cc18cd5, 0x40207d3d },
		{ { 0x3ffe0501, 0x00080000, 0x026097ff, 0xfe40efab }, { 0xff020000, 0, 0, 1 }, 14230, 4739, 0x0f0c461c, 0xdde51bbf },
		{ { 0x3ffe1900, 0x45450003, 0x0200f8ff, 0xfe2167cf }, { 0xfe800000, 0, 0x0200f8ff, 0xfe2167cf }, 44251, 38024, 0x4b61e985,
		  0x02d1feef },
	};
	struct hash h = toeplitz();

	(void)state;
	for (size_t i = 0; i < RTE_DIM(v4); i++) {
		uint32_t words[3] = { v4[i].src, v4[i].dst, (uint32_t)v4[i].sport << 16 | v4[i].dport };

		assert_int_equal(hash_words(&h, words, 2), v4[i].ip);
		assert_int_equal(hash_words(&h, words, 3), v4[i].tcp);
	}
	for (size_t i = 0; i < RTE_DIM(v6); i++) {
		uint32_t words[9];

		memcpy(words, v6[i].src, 16);
		memcpy(words + 4, v6[i].dst, 16);
		words[8] = (uint32_t)v6[i].sport << 16 | v6[i].dport;
		assert_int_equal(hash_words(&h, words, 8), v6[i].ip);
		assert_int_equal(hash_words(&h, words, 9), v6[i].tcp);
	}
}

static void hash_key_is_filled_up_with_zeros(void **state)
{
	struct hash h = toeplitz(), none = { 0 };
	uint8_t exact[8];

	(void)state;
	memcpy(exact, rss_key, 8);
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_KEY, 0, 8, 0, exact), OK);
	assert_int_equal(h.key[0], 0x6d5a56da);
	assert_int_equal(h.key[2], 0);
	assert_int_equal(h.key[9], 0);
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_KEY, 0, 0, 0, NULL), OK);
	assert_memory_equal(h.key, none.key, sizeof(h.key));
}

static void hash_is_on_with_algorithm_and_types(void **state)
{
	struct hash h = { 0 };

	(void)state;
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS, 1, 0, 0, NULL), INVALID);
	assert_false(hash_is_on(&h));
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, 2, 0, 0, NULL), INVALID);
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, 1, 0, 0, NULL), OK);
	assert_false(hash_is_on(&h));
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS, 16, 0, 0, NULL), INVALID);
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS, 15, 0, 0, NULL), OK);
	assert_true(hash_is_on(&h));
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS, 0, 0, 0, NULL), OK);
	assert_false(hash_is_on(&h));
}

static void mapping_is_bounded_and_all_or_nothing(void **state)
{
	struct hash h = toeplitz(), before;
	uint32_t entries[4] = { 3, 2, 1, 0 };

	(void)state;
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE, 129, 0, 0, NULL), INVALID);
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE, 128, 0, 0, NULL), OK);
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, 0, 4, 124, entries), OK);
	assert_int_equal(h.mapping[124], 3);
	assert_int_equal(h.mapping[127], 0);
	assert_int_equal(hash_queue(&h, 128 * 7 + 125, 4), 2);
	before = h;
	entries[3] = 4;
	entries[0] = 0;
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, 0, 4, 0, entries), INVALID);
	assert_memory_equal(&h, &before, sizeof(h));
	assert_int_equal(request(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE, 0, 0, 0, NULL), OK);
	assert_int_equal(hash_queue(&h, 11, 4), 3);
}

static void parse_names_the_page_to_be_read(void **state)
{
	struct hash h = toeplitz();
	struct ctrl_plan p;

	(void)state;
	h.size = 100;
	p = plan(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_KEY, 77, 40, 0);
	assert_int_equal(p.kind, CTRL_HASH);
	assert_int_equal(p.gref, 77);
	assert_int_equal(p.bytes, 40);
	assert_int_equal(plan(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_KEY, 77, 0, 0).bytes, 0);
	p = plan(&h, XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, 78, 60, 40);
	assert_int_equal(p.kind, CTRL_HASH);
	assert_int_equal(p.bytes, 240);
	p = plan(&h, XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, 3, 79, 512);
	assert_int_equal(p.kind, CTRL_STATIC_ADD);
	assert_int_equal(p.gref, 79);
	assert_int_equal(p.queue, 3);
	assert_int_equal(p.count, 512);
	assert_int_equal(p.bytes, 4096);
	p = plan(&h, XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING, 0, 79, 1);
	assert_int_equal(p.kind, CTRL_STATIC_DEL);
	assert_int_equal(p.bytes, 8);
	assert_int_equal(plan(&h, XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE, 3, 0, 0).data, 512);
	assert_int_equal(plan(&h, XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS, 0, 0, 0).data, 15);
	assert_int_equal(plan(&h, XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE, 0, 0, 0).data, 128);
}

static void parse_answers_what_is_no_good(void **state)
{
	struct { uint16_t type; uint32_t a, b, c, status; } bad[] = {
		{ XEN_NETIF_CTRL_TYPE_INVALID, 0, 0, 0, UNSUPPORTED },
		{ 11, 0, 0, 0, UNSUPPORTED },
		{ 0xffff, 0, 0, 0, UNSUPPORTED },
		{ XEN_NETIF_CTRL_TYPE_SET_HASH_KEY, 1, 41, 0, OVERFLOW },
		{ XEN_NETIF_CTRL_TYPE_SET_HASH_KEY, 1, 65536 + 40, 0, OVERFLOW },
		{ XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, 1, 101, 0, INVALID },
		{ XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, 1, 1, 100, INVALID },
		{ XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, 1, 129, 0, OVERFLOW },
		{ XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, 1, UINT32_MAX, 1, OVERFLOW },
		{ XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, 1, 1, UINT32_MAX, OVERFLOW },
		{ XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE, 4, 0, 0, INVALID },
		{ XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, 4, 1, 1, INVALID },
		{ XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, 0, 1, 513, INVALID },
		{ XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, 0, 1, 65536 + 1, INVALID },
		{ XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING, 65536, 1, 1, INVALID },
		{ XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING, 0, 1, UINT32_MAX, INVALID },
	};
	struct hash h = toeplitz(), none = { 0 };

	(void)state;
	h.size = 100;
	for (size_t i = 0; i < RTE_DIM(bad); i++) {
		struct ctrl_plan p = plan(&h, bad[i].type, bad[i].a, bad[i].b, bad[i].c);

		if (p.kind != CTRL_ANSWER || p.status != bad[i].status || p.data || p.bytes)
			fail_msg("request %zu: kind %d, status %u", i, p.kind, p.status);
	}
	assert_int_equal(plan(&none, XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS, 0, 0, 0).status, UNSUPPORTED);
	assert_int_equal(plan(&none, XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, 1, 1, 0).status, INVALID);
}

/* ---- the multicast filter ---- */

static bool wants(const struct mcast *f, const uint8_t to[6])
{
	uint8_t frame[64] = { 0 };
	struct rte_mbuf m = { .buf_addr = frame, .data_len = 60, .pkt_len = 60 };

	memcpy(frame, to, 6);
	return mcast_wants(f, &m);
}

static void mcast_filter_has_64_places(void **state)
{
	uint8_t group[6] = { 0x33, 0x33, 0, 0, 0, 0 }, station[6] = { 2 }, all[6] = { 255, 255, 255, 255, 255, 255 };
	uint64_t places[MCAST_MAX] = { 0 };
	struct mcast f = { .addr = places };

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 64; i++) {
			group[5] = (uint8_t)i;
			assert_int_equal(mcast_change(&f, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, group), NETIF_RSP_OKAY);
		}
		group[5] = 64;
		assert_int_equal(mcast_change(&f, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, group), NETIF_RSP_ERROR);
		assert_false(wants(&f, group));
		group[5] = 5;
		assert_int_equal(mcast_change(&f, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, group), NETIF_RSP_OKAY); /* it is there */
		assert_int_equal(mcast_count(&f), 64);
		assert_true(wants(&f, group));
		assert_int_equal(mcast_change(&f, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, station), NETIF_RSP_ERROR);
		assert_true(wants(&f, station) && wants(&f, all));
		for (unsigned i = 0; i < 64; i++) {
			group[5] = (uint8_t)(i * 7 % 64);
			assert_int_equal(mcast_change(&f, XEN_NETIF_EXTRA_TYPE_MCAST_DEL, group), NETIF_RSP_OKAY);
			assert_false(wants(&f, group));
		}
		assert_int_equal(mcast_count(&f), 0);
	}
}

/* ---- static grants ---- */

static void statics_find_tells_pages_and_kinds(void **state)
{
	enum { PLACES = 16 };
	struct statics *s = calloc(1, sizeof(*s) + PLACES * sizeof(s->slot[0]));
	static uint8_t pages[8];

	(void)state;
	assert_non_null(s);
	s->mask = PLACES - 1;
	for (uint32_t i = 0; i < 8; i++) {
		uint32_t at = statics_home(i * 16, s->mask);

		while (s->slot[at].addr)
			at = (at + 1) & s->mask;
		s->slot[at] = (struct static_page){ &pages[i], i * 16, i & 1 };
	}
	for (uint32_t i = 0; i < 8; i++) {
		assert_ptr_equal(statics_find(s, i * 16, false), &pages[i]);
		assert_ptr_equal(statics_find(s, i * 16, true), i & 1 ? &pages[i] : NULL);
		assert_null(statics_find(s, i * 16 + 1, false));
	}
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hash_is_that_of_the_specification),
		cmocka_unit_test(hash_key_is_filled_up_with_zeros),
		cmocka_unit_test(hash_is_on_with_algorithm_and_types),
		cmocka_unit_test(mapping_is_bounded_and_all_or_nothing),
		cmocka_unit_test(parse_names_the_page_to_be_read),
		cmocka_unit_test(parse_answers_what_is_no_good),
		cmocka_unit_test(mcast_filter_has_64_places),
		cmocka_unit_test(statics_find_tells_pages_and_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
