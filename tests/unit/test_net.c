/* test_net.c - network slots and the parsers of chains: each rule on both sides of its bound. */
#include <pvio/net.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { MORE = NETTXF_more_data, EXTRA = NETTXF_extra_info, GSO = XEN_NETIF_EXTRA_TYPE_GSO, ADD = XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
	DEL = XEN_NETIF_EXTRA_TYPE_MCAST_DEL, HASH = XEN_NETIF_EXTRA_TYPE_HASH };

/* ---- transmit: chains are put together slot by slot in tx[] ---- */

static union pv_net_tx_slot tx[64];
static unsigned tx_nr;
static struct pv_net_packet pkt;

static void tx_slot(uint16_t offset, uint16_t size, uint16_t flags)
{
	tx[tx_nr].req = (struct netif_tx_request){ .gref = 1000 + tx_nr, .offset = offset, .size = size, .flags = flags,
						   .id = (uint16_t)(500 + tx_nr) };
	tx_nr++;
}

static void tx_extra(uint8_t type, bool more)
{
	memset(&tx[tx_nr], 0, sizeof(tx[tx_nr]));
	tx[tx_nr].extra.type = type;
	tx[tx_nr].extra.flags = more ? XEN_NETIF_EXTRA_FLAG_MORE : 0;
	if (type == GSO) {
		tx[tx_nr].extra.u.gso.size = 1448;
		tx[tx_nr].extra.u.gso.type = XEN_NETIF_GSO_TYPE_TCPV4;
	}
	tx_nr++;
}

/* A chain of nr fragments of `each` bytes; the first carries the total. */
static void tx_chain(unsigned nr, uint16_t each)
{
	tx_nr = 0;
	for (unsigned i = 0; i < nr; i++)
		tx_slot(0, (uint16_t)(i ? each : nr * each), i + 1 < nr ? MORE : 0);
}

/* Parse the slots in an allocation of exactly their size, so that a sanitizer sees a read beyond. */
static int tx_parse_n(unsigned n)
{
	union pv_net_tx_slot *exact = malloc(n * sizeof(*exact) + !n);
	int ret;

	assert_non_null(exact);
	if (n)
		memcpy(exact, tx, n * sizeof(*exact));
	memset(&pkt, 0xa5, sizeof(pkt));
	ret = pv_net_tx_parse(exact, n, &pkt);
	free(exact);
	return ret;
}

static int tx_parse(void)
{
	return tx_parse_n(tx_nr);
}

static void tx_parse_one_slot(void **state)
{
	(void)state;
	tx_nr = 0;
	tx_slot(100, 60, NETTXF_csum_blank | NETTXF_data_validated | 0xff00);
	assert_int_equal(tx_parse(), 1);
	assert_int_equal(pkt.len, 60);
	assert_int_equal(pkt.flags, NETTXF_csum_blank | NETTXF_data_validated);
	assert_int_equal(pkt.gso_type, XEN_NETIF_GSO_TYPE_NONE);
	assert_int_equal(pkt.gso_size, 0);
	assert_int_equal(pkt.mcast, 0);
	assert_false(pkt.hash);
	assert_false(pkt.drop);
	assert_int_equal(pkt.extras, 0);
	assert_int_equal(pkt.nr, 1);
	assert_int_equal(pkt.frag[0].gref, 1000);
	assert_int_equal(pkt.frag[0].offset, 100);
	assert_int_equal(pkt.frag[0].size, 60);
	assert_int_equal(pkt.frag[0].id, 500);
}

static void tx_parse_first_size_is_what_the_others_leave(void **state)
{
	(void)state;
	tx_nr = 0;
	tx_slot(10, 3000, MORE);
	tx_slot(20, 1000, MORE);
	tx_slot(0, 500, 0);
	assert_int_equal(tx_parse(), 3);
	assert_int_equal(pkt.len, 3000);
	assert_int_equal(pkt.nr, 3);
	assert_int_equal(pkt.frag[0].size, 1500);
	assert_int_equal(pkt.frag[1].size, 1000);
	assert_int_equal(pkt.frag[1].offset, 20);
	assert_int_equal(pkt.frag[1].gref, 1001);
	assert_int_equal(pkt.frag[2].id, 502);
	assert_false(pkt.drop);
}

static void tx_parse_ends_with_its_chain(void **state)
{
	(void)state;
	tx_chain(2, 100);
	tx_slot(4000, 4000, MORE); /* of the next packet, and none of ours */
	assert_int_equal(tx_parse(), 2);
	assert_int_equal(pkt.nr, 2);
}

static void tx_parse_incomplete_wants_more(void **state)
{
	(void)state;
	assert_int_equal(tx_parse_n(0), 0);
	tx_nr = 0;
	tx_slot(0, 3000, MORE | EXTRA);
	tx_extra(HASH, true);
	tx_extra(GSO, false);
	tx_slot(0, 1000, MORE);
	tx_slot(0, 1000, 0);
	for (unsigned n = 1; n < tx_nr; n++)
		assert_int_equal(tx_parse_n(n), 0);
	assert_int_equal(tx_parse(), 5);
}

/* Slots as Linux counts them: 19 pass, 20 and 21 are dropped, 22 disable. */
static void tx_parse_counts_fragments_as_linux(void **state)
{
	(void)state;
	for (unsigned nr = 1; nr <= 30; nr++) {
		tx_chain(nr, 100);
		if (nr < 22) {
			assert_int_equal(tx_parse(), nr);
			assert_int_equal(pkt.nr, nr);
			assert_int_equal(pkt.drop, nr > 19);
			for (unsigned i = 0; i < nr; i++) /* all can be answered */
				assert_int_equal(pkt.frag[i].id, 500 + i);
		} else {
			assert_int_equal(tx_parse(), -EPROTO);
		}
	}
}

static void tx_parse_extras_are_no_fragments(void **state)
{
	(void)state;
	for (unsigned nr = 19; nr <= 22; nr++) {
		tx_nr = 0;
		tx_slot(0, (uint16_t)(nr * 100), MORE | EXTRA);
		tx_extra(HASH, true);
		tx_extra(GSO, false);
		for (unsigned i = 1; i < nr; i++)
			tx_slot(0, 100, i + 1 < nr ? MORE : 0);
		assert_int_equal(tx_parse(), nr < 22 ? (int)nr + 2 : -EPROTO);
		if (nr < 22) {
			assert_int_equal(pkt.drop, nr > 19);
			assert_int_equal(pkt.extras, 2);
			assert_int_equal(pkt.nr, nr);
		}
	}
}

/* Whatever the chain, PV_NET_CHAIN_MAX slots are enough to judge it. */
static void tx_parse_chain_max_is_never_incomplete(void **state)
{
	static const uint8_t types[] = { 0, GSO, ADD, DEL, HASH, 5 };
	uint32_t rnd = 1;

	(void)state;
	for (int turn = 0; turn < 200000; turn++) {
		for (unsigned i = 0; i < PV_NET_CHAIN_MAX; i++) {
			rnd = rnd * 1103515245 + 12345;
			if (turn & 1 && i >= 1 && i <= (rnd >> 28) % 5) {
				tx_nr = i;
				tx_extra(types[(rnd >> 16) % 6], true);
			} else {
				tx[i].req = (struct netif_tx_request){ .size = 0, .flags = (uint16_t)(MORE | (rnd >> 30 ? EXTRA : 0)) };
			}
		}
		assert_int_not_equal(tx_parse_n(PV_NET_CHAIN_MAX), 0);
	}
}

static void tx_parse_fragment_across_its_page(void **state)
{
	static const struct { uint16_t offset, size; bool good; } cases[] = {
		{ 0, 4096, true }, { 0, 4097, false }, { 4095, 1, true }, { 4095, 2, false }, { 4096, 0, true }, { 4096, 1, false },
		{ 4097, 0, false }, { 0xffff, 0xffff, false }, { 0xffff, 1, false }, { 1, 0xffff, false }, { 4000, 96, true }, { 4000, 97, false },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		/* as the first fragment (its size is what is left), as the second, and as one that is dropped anyway */
		uint16_t total = (uint16_t)(cases[i].size + 14);

		tx_nr = 0;
		tx_slot(cases[i].offset, total, MORE);
		tx_slot(0, 14, 0);
		if (cases[i].size <= 0xffff - 14)
			assert_int_equal(tx_parse(), cases[i].good ? 2 : -EPROTO);
		tx_nr = 0;
		tx_slot(0, 0xffff, MORE);
		tx_slot(cases[i].offset, cases[i].size, MORE);
		for (unsigned n = 0xffff - cases[i].size; cases[i].size <= 4096 && n > 4096; n -= 4096)
			tx_slot(0, 4096, MORE);
		tx_slot(0, 0, 0);
		assert_int_equal(tx_parse(), cases[i].good ? (int)tx_nr : -EPROTO);
		tx_chain(20, 10);
		tx[10].req.offset = cases[i].offset;
		tx[10].req.size = cases[i].size;
		assert_int_equal(tx_parse(), cases[i].good ? 20 : -EPROTO);
		assert_true(!cases[i].good || pkt.drop);
	}
}

static void tx_parse_total_shorter_than_an_ethernet_header(void **state)
{
	(void)state;
	for (uint16_t len = 0; len < 20; len++) {
		tx_nr = 0;
		tx_slot(0, len, 0);
		assert_int_equal(tx_parse(), 1);
		assert_int_equal(pkt.drop, len < 14);
		tx_nr = 0;
		tx_slot(0, len, MORE); /* all of it in the second fragment: the total counts */
		tx_slot(0, len, 0);
		assert_int_equal(tx_parse(), 2);
		assert_int_equal(pkt.drop, len < 14);
	}
}

/* A total that wrapped 16 bits: the further fragments are more than it. Dropped, and not fatal: frontends did that. */
static void tx_parse_sum_of_fragments_beyond_the_total(void **state)
{
	(void)state;
	for (uint16_t total = 2998; total <= 3002; total++) {
		tx_nr = 0;
		tx_slot(0, total, MORE);
		tx_slot(0, 2000, MORE);
		tx_slot(0, 1000, 0);
		assert_int_equal(tx_parse(), 3);
		assert_int_equal(pkt.drop, total < 3000);
		assert_int_equal(pkt.frag[1].size, 2000);
		if (total >= 3000)
			assert_int_equal(pkt.frag[0].size, total - 3000);
	}
	tx_nr = 0;
	tx_slot(0, (uint16_t)(17 * 4096), MORE); /* 69632 bytes say 4096 */
	for (unsigned i = 1; i < 17; i++)
		tx_slot(0, 4096, i < 16 ? MORE : 0);
	assert_int_equal(tx_parse(), 17);
	assert_true(pkt.drop);
}

static void tx_parse_zero_size_fragments_are_legal(void **state)
{
	(void)state;
	for (unsigned full = 0; full < 19; full++) { /* all of the packet is in one of the fragments (XSA-448) */
		tx_nr = 0;
		for (unsigned i = 0; i < 19; i++)
			tx_slot(0, i == 0 || i == full ? 64 : 0, i < 18 ? MORE : 0);
		assert_int_equal(tx_parse(), 19);
		assert_false(pkt.drop);
		for (unsigned i = 0; i < 19; i++)
			assert_int_equal(pkt.frag[i].size, i == full ? 64 : 0);
	}
}

/* XSA-432: a head and 18 slots, of 0..128 bytes in all. Fragments and total agree, whatever the shape. */
static void tx_parse_head_and_18_tiny_slots(void **state)
{
	uint32_t rnd = 7;

	(void)state;
	for (int turn = 0; turn < 20000; turn++) {
		uint16_t total = (uint16_t)(turn % 129), left = total;
		uint32_t sum = 0;

		tx_nr = 0;
		tx_slot(0, total, MORE);
		for (unsigned i = 1; i < 19; i++) {
			uint16_t size = (uint16_t)(((rnd = rnd * 1103515245 + 12345) >> 16) % (left / 2 + 2));

			size = size < left ? size : left;
			left = (uint16_t)(left - size);
			tx_slot(0, size, i < 18 ? MORE : 0);
		}
		assert_int_equal(tx_parse(), 19);
		assert_int_equal(pkt.drop, total < 14);
		for (unsigned i = 0; i < pkt.nr; i++)
			sum += pkt.frag[i].size;
		assert_true(pkt.drop || (sum == total && pkt.frag[0].size == left));
	}
}

/* ---- extra info ---- */

static int tx_parse_extra(uint8_t type, uint8_t second)
{
	tx_nr = 0;
	tx_slot(0, 60, EXTRA);
	tx_extra(type, second);
	if (second)
		tx_extra(second, false);
	return tx_parse();
}

static void tx_parse_extra_types(void **state)
{
	(void)state;
	for (unsigned type = 0; type < 256; type++) {
		bool known = type >= 1 && type < XEN_NETIF_EXTRA_TYPE_MAX;

		assert_int_equal(tx_parse_extra((uint8_t)type, 0), known ? 2 : -EPROTO);
		if (type)
			assert_int_equal(tx_parse_extra(HASH, (uint8_t)type), known && type != HASH ? 3 : -EPROTO);
	}
}

static void tx_parse_extra_twice(void **state)
{
	(void)state;
	for (uint8_t a = 1; a < XEN_NETIF_EXTRA_TYPE_MAX; a++)
		for (uint8_t b = 1; b < XEN_NETIF_EXTRA_TYPE_MAX; b++) {
			bool both = (a == ADD && b == DEL) || (a == DEL && b == ADD); /* two changes of the filter */

			assert_int_equal(tx_parse_extra(a, b), a == b || both ? -EPROTO : 3);
			assert_true(a == b || both || pkt.extras == 2);
		}
}

static void tx_parse_extra_without_an_end(void **state)
{
	(void)state;
	tx_nr = 0;
	tx_slot(0, 60, EXTRA);
	for (int i = 0; i < 25; i++)
		tx_extra(i & 1 ? HASH : GSO, true);
	assert_int_equal(tx_parse_n(3), 0);
	assert_int_equal(tx_parse_n(4), -EPROTO);
	assert_int_equal(tx_parse_n(PV_NET_CHAIN_MAX), -EPROTO);
}

/* Only the first slot can announce extras; the flag means nothing in a further fragment. */
static void tx_parse_extra_flag_of_a_further_fragment(void **state)
{
	(void)state;
	tx_chain(2, 100);
	tx[1].req.flags |= EXTRA;
	assert_int_equal(tx_parse(), 2);
	assert_int_equal(pkt.extras, 0);
}

static int tx_parse_gso(uint8_t type, uint16_t size)
{
	tx_nr = 0;
	tx_slot(0, 60, EXTRA);
	tx_extra(GSO, false);
	tx[1].extra.u.gso.type = type;
	tx[1].extra.u.gso.size = size;
	return tx_parse();
}

static void tx_parse_gso_size_and_type(void **state)
{
	(void)state;
	for (unsigned type = 0; type < 256; type++) {
		bool known = type == XEN_NETIF_GSO_TYPE_TCPV4 || type == XEN_NETIF_GSO_TYPE_TCPV6;

		assert_int_equal(tx_parse_gso((uint8_t)type, 1), known ? 2 : -EPROTO);
		assert_true(!known || (pkt.gso_type == type && pkt.gso_size == 1));
		assert_int_equal(tx_parse_gso((uint8_t)type, 0), -EPROTO);
	}
	assert_int_equal(tx_parse_gso(XEN_NETIF_GSO_TYPE_TCPV6, 0xffff), 2);
	assert_int_equal(pkt.gso_size, 0xffff);
}

static void tx_parse_hash(void **state)
{
	(void)state;
	tx_nr = 0;
	tx_slot(0, 60, EXTRA);
	tx_extra(HASH, false);
	tx[1].extra.u.hash.type = 3;
	tx[1].extra.u.hash.algorithm = 1;
	memcpy(tx[1].extra.u.hash.value, "\x11\x22\x33\x44", 4);
	assert_int_equal(tx_parse(), 2);
	assert_true(pkt.hash);
	assert_int_equal(pkt.hash_type, 3);
	assert_int_equal(pkt.hash_algorithm, 1);
	assert_memory_equal(pkt.hash_value, "\x11\x22\x33\x44", 4);
}

static void tx_parse_mcast(void **state)
{
	(void)state;
	for (uint8_t type = ADD; type <= DEL; type++) {
		tx_nr = 0;
		tx_slot(0xffff, 0, EXTRA); /* no packet: offset and size mean nothing */
		tx_extra(type, false);
		memcpy(tx[1].extra.u.mcast.addr, "\x33\x33\x00\x00\x00\x01", 6);
		assert_int_equal(tx_parse(), 2);
		assert_int_equal(pkt.mcast, type);
		assert_memory_equal(pkt.mcast_addr, "\x33\x33\x00\x00\x00\x01", 6);
		assert_int_equal(pkt.nr, 1);
		assert_int_equal(pkt.extras, 1);
		assert_false(pkt.drop);
		tx[0].req.flags |= MORE;
		tx_slot(0, 0, 0);
		assert_int_equal(tx_parse(), -EPROTO);
	}
}

/* ---- receive, at the frontend ---- */

static union pv_net_rx_slot rx[64];
static unsigned rx_nr;
static struct pv_net_rx_packet got;

static void rx_slot(uint16_t offset, int16_t status, uint16_t flags)
{
	rx[rx_nr].rsp = (struct netif_rx_response){ .id = (uint16_t)(700 + rx_nr), .offset = offset, .status = status, .flags = flags };
	rx_nr++;
}

static void rx_extra(uint8_t type, bool more)
{
	memset(&rx[rx_nr], 0, sizeof(rx[rx_nr]));
	rx[rx_nr].extra.type = type;
	rx[rx_nr].extra.flags = more ? XEN_NETIF_EXTRA_FLAG_MORE : 0;
	if (type == GSO) {
		rx[rx_nr].extra.u.gso.size = 1448;
		rx[rx_nr].extra.u.gso.type = XEN_NETIF_GSO_TYPE_TCPV6;
	}
	rx_nr++;
}

static int rx_parse_n(unsigned n)
{
	union pv_net_rx_slot *exact = malloc(n * sizeof(*exact) + !n);
	int ret;

	assert_non_null(exact);
	if (n)
		memcpy(exact, rx, n * sizeof(*exact));
	memset(&got, 0xa5, sizeof(got));
	ret = pv_net_rx_parse(exact, n, &got);
	free(exact);
	return ret;
}

static int rx_parse(void)
{
	return rx_parse_n(rx_nr);
}

static void rx_parse_one_slot(void **state)
{
	(void)state;
	rx_nr = 0;
	rx_slot(4036, 60, NETRXF_csum_blank | NETRXF_data_validated | NETRXF_gso_prefix);
	assert_int_equal(rx_parse(), 1);
	assert_int_equal(got.len, 60);
	assert_int_equal(got.flags, NETRXF_csum_blank | NETRXF_data_validated);
	assert_false(got.error);
	assert_int_equal(got.nr, 1);
	assert_int_equal(got.extras, 0);
	assert_int_equal(got.gso_type, 0);
	assert_int_equal(got.frag[0].id, 700);
	assert_int_equal(got.frag[0].offset, 4036);
	assert_int_equal(got.frag[0].len, 60);
}

static void rx_parse_chain_with_extras(void **state)
{
	(void)state;
	rx_nr = 0;
	rx_slot(0, 4096, NETRXF_more_data | NETRXF_extra_info);
	rx_extra(HASH, true);
	rx_extra(GSO, false);
	rx_slot(0, 4096, NETRXF_more_data);
	rx_slot(0, 100, 0);
	rx_slot(0, 77, NETRXF_more_data); /* of the next packet */
	for (unsigned n = 0; n < 5; n++)
		assert_int_equal(rx_parse_n(n), 0);
	assert_int_equal(rx_parse(), 5);
	assert_int_equal(got.len, 2 * 4096 + 100);
	assert_int_equal(got.nr, 3);
	assert_int_equal(got.extras, 2);
	assert_int_equal(got.gso_type, XEN_NETIF_GSO_TYPE_TCPV6);
	assert_int_equal(got.gso_size, 1448);
	assert_int_equal(got.frag[2].id, 704);
	assert_false(got.error);
}

static void rx_parse_fragments_at_most(void **state)
{
	(void)state;
	for (unsigned nr = 1; nr <= 25; nr++) {
		rx_nr = 0;
		for (unsigned i = 0; i < nr; i++)
			rx_slot(0, 100, i + 1 < nr ? NETRXF_more_data : 0);
		assert_int_equal(rx_parse(), nr <= PV_NET_FRAGS_MAX ? (int)nr : -EPROTO);
	}
}

static void rx_parse_status_and_page(void **state)
{
	static const struct { uint16_t offset; int16_t status; bool good; } cases[] = {
		{ 0, 4096, true }, { 0, 4097, false }, { 4095, 1, true }, { 4095, 2, false }, { 4096, 1, false }, { 4096, 0, true },
		{ 4097, 0, false }, { 0xffff, 1, false }, { 0, 0x7fff, false }, { 0, NETIF_RSP_ERROR, false },
		{ 0, NETIF_RSP_DROPPED, false }, { 0, INT16_MIN, false },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		for (unsigned at = 0; at < 3; at++) {
			rx_nr = 0;
			for (unsigned k = 0; k < 3; k++)
				rx_slot(k == at ? cases[i].offset : 0, k == at ? cases[i].status : 64, k < 2 ? NETRXF_more_data : 0);
			assert_int_equal(rx_parse(), 3); /* all slots are used up */
			assert_int_equal(got.error, !cases[i].good);
			for (unsigned k = 0; k < 3; k++) { /* and what is told is in its page, error or not */
				assert_true(got.frag[k].offset + got.frag[k].len <= 4096);
				assert_int_equal(got.frag[k].id, 700 + k);
			}
		}
}

static void rx_parse_shorter_than_an_ethernet_header(void **state)
{
	(void)state;
	for (int16_t len = 0; len < 20; len++) {
		rx_nr = 0;
		rx_slot(0, len, 0);
		assert_int_equal(rx_parse(), 1);
		assert_int_equal(got.error, len < 14);
	}
}

static void rx_parse_extra_types(void **state)
{
	(void)state;
	for (unsigned type = 0; type < 256; type++) {
		rx_nr = 0;
		rx_slot(0, 100, NETRXF_extra_info);
		rx_extra((uint8_t)type, false);
		assert_int_equal(rx_parse(), type == GSO || type == HASH ? 2 : -EPROTO);
	}
	rx_nr = 0;
	rx_slot(0, 100, NETRXF_extra_info);
	rx_extra(GSO, true);
	rx_extra(GSO, false);
	assert_int_equal(rx_parse(), -EPROTO);
}

static void rx_parse_gso_size_and_type(void **state)
{
	(void)state;
	for (unsigned type = 0; type < 256; type++)
		for (uint16_t size = 0; size < 2; size++) {
			rx_nr = 0;
			rx_slot(0, 100, NETRXF_extra_info);
			rx_extra(GSO, false);
			rx[1].extra.u.gso.type = (uint8_t)type;
			rx[1].extra.u.gso.size = size;
			assert_int_equal(rx_parse(), size && (type == 1 || type == 2) ? 2 : -EPROTO);
		}
}

/* ---- slots: what is filled is what is taken, and no byte is left as it was ---- */

static uint8_t page[PV_PAGE_SIZE] __attribute__((aligned(PV_PAGE_SIZE)));
static struct pv_ring ring;

/* Let `fill` write one slot, over different garbage twice; every byte must come out the same. */
static void every_byte(uint32_t slot_size, void (*fill)(void), void *out)
{
	uint8_t first[16];
	const uint8_t *slot = page + 64;

	for (int turn = 0; turn < 2; turn++) {
		pv_ring_init_front(&ring, page, sizeof(page), slot_size);
		memset(page + 64, turn ? 0x5a : 0xa5, sizeof(page) - 64);
		fill();
		for (unsigned i = 64 + slot_size; i < sizeof(page); i++)
			assert_int_equal(page[i], turn ? 0x5a : 0xa5); /* and nothing beyond it */
		if (!turn)
			memcpy(first, slot, slot_size);
	}
	assert_memory_equal(first, slot, slot_size);
	memcpy(out, slot, slot_size);
}

static void tx_fill_one(void)
{
	pv_net_tx_fill(&ring, 0x01020304, 0x0506, 0x0708, 0x090a, 0x0b0c);
}

static void rx_fill_one(void)
{
	pv_net_rx_fill(&ring, 0x0102, 0x03040506);
}

static void rx_fill_rsp_one(void)
{
	pv_net_rx_fill_rsp(&ring, 0x0102, 0x0304, 0x0506, -2);
}

static void fill_writes_every_byte(void **state)
{
	static const uint8_t want_tx[] = { 4, 3, 2, 1, 6, 5, 8, 7, 0x0a, 9, 0x0c, 0x0b }, want_rx[] = { 2, 1, 0, 0, 6, 5, 4, 3 };
	static const uint8_t want_rx_rsp[] = { 2, 1, 4, 3, 6, 5, 0xfe, 0xff };
	uint8_t slot[16];

	(void)state;
	every_byte(PV_NET_TX_SLOT, tx_fill_one, slot);
	assert_memory_equal(slot, want_tx, sizeof(want_tx));
	every_byte(PV_NET_RX_SLOT, rx_fill_one, slot);
	assert_memory_equal(slot, want_rx, sizeof(want_rx));
	every_byte(PV_NET_RX_SLOT, rx_fill_rsp_one, slot);
	assert_memory_equal(slot, want_rx_rsp, sizeof(want_rx_rsp));
}

/* What of a request must be known to answer it once more survives its response, that to extra-info too. */
static void tx_fill_rsp_keeps_the_request(void **state)
{
	static const uint8_t want[] = { 0xfe, 0xff, 0xff, 0xff, 6, 5, 8, 7, 0x0a, 9, 0x0c, 0x0b };
	const union pv_net_tx_slot extra = { .extra = { .type = XEN_NETIF_EXTRA_TYPE_GSO, .flags = XEN_NETIF_EXTRA_FLAG_MORE } };
	union pv_net_tx_slot *slots;
	struct pv_ring front, back;

	(void)state;
	pv_ring_init_front(&front, page, sizeof(page), PV_NET_TX_SLOT);
	pv_ring_init_back(&back, page, sizeof(page), PV_NET_TX_SLOT);
	slots = (union pv_net_tx_slot *)back.slots;
	pv_net_tx_fill(&front, 0x01020304, 0x0506, 0x0708, 0x090a, 0x0b0c);
	pv_net_tx_fill_rsp(&back, 0xfffe, NETIF_RSP_ERROR);
	assert_memory_equal(&slots[0], want, sizeof(want));
	slots[1] = extra;
	pv_net_tx_fill_rsp_null(&back, &extra);
	assert_int_equal(slots[1].extra.type, extra.extra.type);
	assert_int_equal(slots[1].extra.flags, extra.extra.flags);
	assert_int_equal(((struct netif_tx_response *)&slots[1])->status, NETIF_RSP_NULL);
}

static void take_gives_what_was_filled(void **state)
{
	struct pv_ring front, back;
	union pv_net_tx_slot req;
	struct netif_tx_response rsp;
	struct netif_rx_request rxq;
	union pv_net_rx_slot rxs;

	(void)state;
	pv_ring_init_front(&front, page, sizeof(page), PV_NET_TX_SLOT);
	pv_ring_init_back(&back, page, sizeof(page), PV_NET_TX_SLOT);
	pv_net_tx_fill(&front, 7, 8, 9, 10, 11);
	pv_ring_publish(&front);
	assert_int_equal(pv_ring_ready(&back), 1);
	pv_net_tx_take(&back, &req);
	assert_true(req.req.gref == 7 && req.req.offset == 8 && req.req.flags == 9 && req.req.id == 10 && req.req.size == 11);
	pv_net_tx_fill_rsp(&back, req.req.id, NETIF_RSP_DROPPED);
	pv_ring_publish(&back);
	assert_int_equal(pv_ring_ready(&front), 1);
	pv_net_tx_take_rsp(&front, &rsp);
	assert_true(rsp.id == 10 && rsp.status == NETIF_RSP_DROPPED);

	pv_ring_init_front(&front, page, sizeof(page), PV_NET_RX_SLOT);
	pv_ring_init_back(&back, page, sizeof(page), PV_NET_RX_SLOT);
	pv_net_rx_fill(&front, 20, 21);
	pv_ring_publish(&front);
	pv_net_rx_take(&back, &rxq);
	assert_true(rxq.id == 20 && rxq.gref == 21);
	pv_net_rx_fill_rsp(&back, rxq.id, 22, 23, 24);
	pv_ring_publish(&back);
	pv_net_rx_take_rsp(&front, &rxs);
	assert_true(rxs.rsp.id == 20 && rxs.rsp.offset == 22 && rxs.rsp.flags == 23 && rxs.rsp.status == 24);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tx_parse_one_slot),
		cmocka_unit_test(tx_parse_first_size_is_what_the_others_leave),
		cmocka_unit_test(tx_parse_ends_with_its_chain),
		cmocka_unit_test(tx_parse_incomplete_wants_more),
		cmocka_unit_test(tx_parse_counts_fragments_as_linux),
		cmocka_unit_test(tx_parse_extras_are_no_fragments),
		cmocka_unit_test(tx_parse_chain_max_is_never_incomplete),
		cmocka_unit_test(tx_parse_fragment_across_its_page),
		cmocka_unit_test(tx_parse_total_shorter_than_an_ethernet_header),
		cmocka_unit_test(tx_parse_sum_of_fragments_beyond_the_total),
		cmocka_unit_test(tx_parse_zero_size_fragments_are_legal),
		cmocka_unit_test(tx_parse_head_and_18_tiny_slots),
		cmocka_unit_test(tx_parse_extra_types),
		cmocka_unit_test(tx_parse_extra_twice),
		cmocka_unit_test(tx_parse_extra_without_an_end),
		cmocka_unit_test(tx_parse_extra_flag_of_a_further_fragment),
		cmocka_unit_test(tx_parse_gso_size_and_type),
		cmocka_unit_test(tx_parse_hash),
		cmocka_unit_test(tx_parse_mcast),
		cmocka_unit_test(rx_parse_one_slot),
		cmocka_unit_test(rx_parse_chain_with_extras),
		cmocka_unit_test(rx_parse_fragments_at_most),
		cmocka_unit_test(rx_parse_status_and_page),
		cmocka_unit_test(rx_parse_shorter_than_an_ethernet_header),
		cmocka_unit_test(rx_parse_extra_types),
		cmocka_unit_test(rx_parse_gso_size_and_type),
		cmocka_unit_test(fill_writes_every_byte),
		cmocka_unit_test(tx_fill_rsp_keeps_the_request),
		cmocka_unit_test(take_gives_what_was_filled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
