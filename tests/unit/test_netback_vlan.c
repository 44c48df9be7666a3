/* VLANs: tags off and on, and addresses that are in one. */
#include "netback/netback.h"
#include <rte_mempool.h>
#include <setjmp.h>
#include <cmocka.h>

static struct l2switch *sw;
static struct switch_cache cache;
static struct rte_mempool *pool;
static struct netback nb;
static struct nb_worker w = { .nb = &nb };
static struct vif vif;
static struct vif_queue q = { .vif = &vif, .worker = &w };

static uint64_t mac(unsigned vlan, unsigned n)
{
	return switch_key(vlan, 0x020000000000ull | n);
}

static int setup(void **state)
{
	(void)state;
	memset(&cache, 0, sizeof(cache));
	memset(&vif.vlans, 0, sizeof(vif.vlans));
	q.n.tx_vlan = 0;
	return switch_new("switch", &sw);
}

static int teardown(void **state)
{
	(void)state;
	switch_free(sw);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	return 0;
}

/* A frame of len bytes with these 16-bit words behind the addresses; off: bytes free before it. */
static struct rte_mbuf *packet(uint32_t len, uint16_t off, const uint16_t words[4])
{
	struct rte_mbuf *m = pool_chain(pool, len);
	uint8_t *p;

	assert_non_null(m);
	m->data_off = off;
	p = rte_pktmbuf_mtod(m, uint8_t *);
	for (unsigned i = 0; i < m->data_len; i++)
		p[i] = (uint8_t)i;
	for (unsigned i = 0; i < 4; i++) {
		p[12 + 2 * i] = (uint8_t)(words[i] >> 8);
		p[13 + 2 * i] = (uint8_t)words[i];
	}
	return m;
}

#define WORDS(...) ((const uint16_t[4]){ __VA_ARGS__ })

/* Is the packet let through? Its VLAN is then *vlan. */
static bool let(const uint16_t words[4], unsigned *vlan)
{
	struct rte_mbuf *m = packet(100, 0, words);
	uint64_t before = q.n.tx_vlan;

	if (!vlan_from(&q, m)) {
		assert_int_equal(q.n.tx_vlan, before + 1);
		return false;
	}
	*vlan = m->vlan_tci & VLAN_ID;
	assert_int_equal(m->pkt_len, *vlan && words[0] == 0x8100 ? 96 : 100);
	assert_int_equal(rte_pktmbuf_mtod(m, uint8_t *)[0], 0); /* the addresses are at its start, wherever that is */
	assert_int_equal(rte_pktmbuf_mtod(m, uint8_t *)[11], 11);
	rte_pktmbuf_free(m);
	return true;
}

static void from_access(void **state)
{
	unsigned vlan;

	(void)state;
	assert_int_equal(vlan_parse_access("10", &vif.vlans), 0);
	assert_true(let(WORDS(0x0800), &vlan) && vlan == 10);
	assert_false(let(WORDS(0x8100, 10, 0x0800), &vlan)); /* not even its own */
	assert_false(let(WORDS(0x8100, 20, 0x0800), &vlan));
	assert_false(let(WORDS(0x8100, 0xe000, 0x0800), &vlan)); /* a priority alone */
	assert_false(let(WORDS(0x8100, 10, 0x8100, 20), &vlan));
	assert_false(let(WORDS(0x88a8, 10, 0x8100, 20), &vlan));
	assert_false(let(WORDS(0x9100, 10, 0x8100, 20), &vlan));
}

static void from_none(void **state)
{
	unsigned vlan;

	(void)state;
	assert_true(let(WORDS(0x0806), &vlan) && vlan == 0);
	assert_false(let(WORDS(0x8100, 10, 0x0800), &vlan));
	assert_false(let(WORDS(0x8100, 0, 0x0800), &vlan));
}

static void from_trunk(void **state)
{
	unsigned vlan;

	(void)state;
	assert_int_equal(vlan_parse_trunk("10,20-30", &vif.vlans), 0);
	assert_true(let(WORDS(0x8100, 10, 0x0800), &vlan) && vlan == 10);
	assert_true(let(WORDS(0x8100, 0xa000 | 25, 0x0800), &vlan) && vlan == 25);
	assert_false(let(WORDS(0x8100, 31, 0x0800), &vlan));
	assert_false(let(WORDS(0x0800), &vlan));
	assert_false(let(WORDS(0x8100, 10, 0x8100, 20), &vlan));
	assert_false(let(WORDS(0x8100, 0, 0x8100, 10), &vlan));
	assert_false(let(WORDS(0x88a8, 10, 0x0800), &vlan));
	assert_int_equal(vlan_parse_access("5", &vif.vlans), 0);
	assert_true(let(WORDS(0x0800), &vlan) && vlan == 5);
	assert_false(let(WORDS(0x8100, 5, 0x0800), &vlan));
}

static void from_truncated(void **state)
{
	struct rte_mbuf *m = packet(16, 0, WORDS(0x8100, 10));

	(void)state;
	vlan_parse_trunk("10", &vif.vlans);
	assert_false(vlan_from(&q, m));
}

static void from_uplink(void **state)
{
	struct rte_mbuf *m = packet(100, 0, WORDS(0x8100, 0x2000 | 10, 0x0800));

	(void)state;
	vlan_from_uplink(m);
	assert_int_equal(m->vlan_tci, 0x2000 | 10);
	assert_int_equal(m->pkt_len, 96);
	rte_pktmbuf_free(m);
	m = packet(100, 0, WORDS(0x8100, 0x2000, 0x0800)); /* a priority alone is none */
	vlan_from_uplink(m);
	assert_int_equal(m->vlan_tci, 0);
	assert_int_equal(m->pkt_len, 96);
	rte_pktmbuf_free(m);
	m = packet(16, 0, WORDS(0x8100, 10));
	vlan_from_uplink(m);
	assert_int_equal(m->pkt_len, 16);
	rte_pktmbuf_free(m);
}

/* With room before it, without, with a first segment that is full, and shared with others. */
static void insert_wherever_it_lies(void **state)
{
	static const struct { uint32_t len; uint16_t off; bool shared; } shape[] = {
		{ 100, 64, false }, { 100, 0, false }, { 9000, 0, false }, { 4096, 0, false }, { 100, 64, true }, { 9000, 0, true },
	};
	static uint8_t flat[9004];

	(void)state;
	for (unsigned i = 0; i < RTE_DIM(shape); i++) {
		struct rte_mbuf *m = packet(shape[i].len, shape[i].off, WORDS(0x0800)), *tagged;
		uint8_t first[64];

		memcpy(first, rte_pktmbuf_mtod(m, void *), sizeof(first));
		m->vlan_tci = 0x6000 | 30;
		if (shape[i].shared)
			rte_pktmbuf_refcnt_update(m, 1);
		tagged = vlan_insert(&w, m);
		assert_non_null(tagged);
		assert_int_equal(tagged->pkt_len, shape[i].len + 4);
		rte_mbuf_sanity_check(tagged, 1);
		const uint8_t *p = rte_pktmbuf_read(tagged, 0, tagged->pkt_len, flat);
		assert_memory_equal(p, first, 12);
		assert_memory_equal(p + 12, "\x81\x00\x60\x1e", 4);
		assert_memory_equal(p + 16, first + 12, 52);
		if (shape[i].shared) { /* the others' is as it was */
			assert_int_equal(m->pkt_len, shape[i].len);
			assert_memory_equal(rte_pktmbuf_mtod(m, void *), first, sizeof(first));
			rte_pktmbuf_free(m);
		}
		rte_pktmbuf_free(tagged);
	}
}

static void switch_vlans_are_apart(void **state)
{
	int a = switch_port_add(sw), b = switch_port_add(sw);

	(void)state;
	assert_true(switch_learn(sw, &cache, a, mac(10, 1), 1));
	assert_true(switch_learn(sw, &cache, b, mac(20, 1), 1));
	assert_int_equal(switch_lookup(sw, &cache, mac(10, 1)), a);
	assert_int_equal(switch_lookup(sw, &cache, mac(20, 1)), b);
	assert_int_equal(switch_lookup(sw, &cache, mac(0, 1)), SWITCH_UNKNOWN);
	assert_int_equal(switch_lookup(sw, &cache, mac(30, 1)), SWITCH_UNKNOWN);
}

/* The address of a trunk is its own in all its VLANs, and nobody's in others. */
static void switch_trunk_owns_its_address(void **state)
{
	int trunk = switch_port_add(sw), thief = switch_port_add(sw);
	struct vlans v = { 0 }, t = { 0 };

	(void)state;
	vlan_parse_trunk("10,20", &v);
	vlan_parse_trunk("1-4094", &t);
	switch_port_vlans(sw, trunk, &v);
	switch_port_vlans(sw, thief, &t);
	assert_true(switch_learn(sw, &cache, thief, mac(10, 7), 1)); /* before it had an owner */
	assert_true(switch_learn(sw, &cache, thief, mac(11, 7), 1));
	assert_int_equal(switch_pin(sw, trunk, mac(VLAN_ANY, 7)), 0);
	switch_reclaim(sw);
	assert_int_equal(switch_lookup(sw, &cache, mac(10, 7)), trunk);
	assert_int_equal(switch_lookup(sw, &cache, mac(20, 7)), trunk);
	assert_int_equal(switch_lookup(sw, &cache, mac(11, 7)), thief);
	assert_int_equal(switch_lookup(sw, &cache, mac(12, 7)), SWITCH_UNKNOWN);
	assert_false(switch_learn(sw, &cache, thief, mac(20, 7), 2));
	assert_false(switch_learn(sw, &cache, SWITCH_UPLINK, mac(20, 7), 2));
	assert_int_equal(switch_lookup(sw, &cache, mac(20, 7)), trunk);
	switch_flush(sw, trunk);
	switch_reclaim(sw);
	assert_int_equal(switch_lookup(sw, &cache, mac(20, 7)), SWITCH_UNKNOWN);
	assert_true(switch_learn(sw, &cache, thief, mac(20, 7), 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(from_access, setup, teardown),
		cmocka_unit_test_setup_teardown(from_none, setup, teardown),
		cmocka_unit_test_setup_teardown(from_trunk, setup, teardown),
		cmocka_unit_test_setup_teardown(from_truncated, setup, teardown),
		cmocka_unit_test_setup_teardown(from_uplink, setup, teardown),
		cmocka_unit_test_setup_teardown(insert_wherever_it_lies, setup, teardown),
		cmocka_unit_test_setup_teardown(switch_vlans_are_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(switch_trunk_owns_its_address, setup, teardown),
	};
	char why[300];
	void *pages;
	int ret;

	pv_log_open("test", PV_LOG_WARN);
	if (eal_start(64, why, sizeof(why)) < 0 || !(pool = nb.pool = pool_new(32, &pages, why, sizeof(why)))) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	pool_free(pool, pages);
	eal_stop();
	return ret;
}
