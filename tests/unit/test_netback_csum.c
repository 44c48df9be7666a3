/* Checksums, header checks and the cutting of large packets, on one segment and on several. */
#include "netback/netback.h"
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>
#include <setjmp.h>
#include <cmocka.h>

static struct rte_mempool *pool, *refs;
static void *pages;
static uint8_t buf[70000];

static void put16(uint8_t *p, unsigned n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

/* The checksum by the book, over bytes: independent of DPDK's. */
static uint16_t book(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	if (n & 1)
		sum += (uint32_t)p[n - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Is the L4 checksum of this packet right? l3: where IP begins, l4: where TCP or UDP does. */
static bool l4_good(const uint8_t *p, unsigned l3, unsigned l4, unsigned end)
{
	bool v4 = p[l3] >> 4 == 4;
	uint8_t proto = v4 ? p[l3 + 9] : p[l3 + 6] == 60 ? p[l3 + 40] : p[l3 + 6];
	uint32_t sum = v4 ? book(p + l3 + 12, 8, 0) : book(p + l3 + 8, 32, 0);

	return book(p + l4, end - l4, sum + proto + (end - l4)) == 0xffff;
}

/* A packet in buf: Ethernet, `tags` VLAN tags, IP, TCP or UDP, payload. Returns its length. */
static unsigned make(bool v6, bool tcp, unsigned tags, unsigned payload)
{
	unsigned l3 = 14 + 4 * tags, l4 = l3 + (v6 ? 40 : 20), hdr = l4 + (tcp ? 32 : 8), len = hdr + payload;

	for (unsigned i = 0; i < len; i++)
		buf[i] = (uint8_t)(i * 7 + (i >> 8));
	buf[0] = buf[6] = 2;
	for (unsigned i = 0; i < tags; i++)
		put16(buf + 12 + 4 * i, 0x8100);
	put16(buf + l3 - 2, v6 ? 0x86dd : 0x0800);
	if (v6) {
		memset(buf + l3, 0, 8);
		buf[l3] = 0x60;
		put16(buf + l3 + 4, len - l4);
		buf[l3 + 6] = tcp ? 6 : 17;
	} else {
		memset(buf + l3, 0, 12);
		buf[l3] = 0x45;
		put16(buf + l3 + 2, len - l3);
		put16(buf + l3 + 4, 0xfffe); /* id: it wraps when cut */
		buf[l3 + 9] = tcp ? 6 : 17;
		put16(buf + l3 + 10, (uint16_t)~book(buf + l3, 20, 0));
	}
	if (tcp) {
		buf[l4 + 12] = 0x80;
		buf[l4 + 13] = 0x99; /* CWR ACK PSH FIN */
		put16(buf + l4 + 4, 0xffff); /* sequence number: wraps */
		put16(buf + l4 + 6, 0xff00);
	} else {
		put16(buf + l4 + 4, len - l4);
	}
	return len;
}

static struct rte_mbuf *mbuf_of(unsigned len)
{
	struct rte_mbuf *m = pool_chain(pool, len);
	unsigned off = 0;

	assert_non_null(m);
	for (struct rte_mbuf *s = m; s; off += s->data_len, s = s->next)
		memcpy(rte_pktmbuf_mtod(s, void *), buf + off, s->data_len);
	assert_int_equal(off, len);
	return m;
}

static void bytes_of(const struct rte_mbuf *m, uint8_t *out)
{
	const void *p = rte_pktmbuf_read(m, 0, m->pkt_len, out);

	if (p != out)
		memcpy(out, p, m->pkt_len);
}

static void complete(bool v6, bool tcp, unsigned tags, unsigned payload)
{
	unsigned len = make(v6, tcp, tags, payload), l3 = 14 + 4 * tags;
	struct rte_mbuf *m = mbuf_of(len);
	static uint8_t out[70000];

	m->ol_flags |= NB_BLANK;
	assert_int_equal(csum_complete(m), 0);
	assert_false(m->ol_flags & NB_BLANK);
	bytes_of(m, out);
	assert_true(l4_good(out, l3, l3 + (v6 ? 40 : 20), len));
	rte_pktmbuf_free(m);
}

static void csum_complete_all_shapes(void **state)
{
	static const unsigned payloads[] = { 0, 1, 2, 100, 1459, 1460, 1961, 1962, 1963, 2048, 4137, 9000, 65000 };

	(void)state;
	for (int shape = 0; shape < 12; shape++)
		for (size_t i = 0; i < RTE_DIM(payloads); i++)
			complete(shape & 1, shape & 2, (unsigned)shape / 4, payloads[i]);
}

/* buf in segments of `step` bytes, an empty one after each. */
static struct rte_mbuf *chain_of(unsigned len, unsigned step)
{
	struct rte_mbuf *m = NULL;

	for (unsigned i = 0, off = 0; off < len; i++) {
		unsigned n = i & 1 ? 0 : RTE_MIN(step, len - off);
		struct rte_mbuf *seg = rte_pktmbuf_alloc(pool);

		assert_non_null(seg);
		memcpy(rte_pktmbuf_append(seg, (uint16_t)n), buf + off, n);
		off += n;
		if (m)
			assert_int_equal(rte_pktmbuf_chain(m, seg), 0);
		else
			m = seg;
	}
	return m;
}

/* A guest's slots are of any length, and so are segments. */
static void csum_complete_segments_of_any_length(void **state)
{
	unsigned len = make(false, true, 0, 9000);
	static uint8_t out[70000];

	(void)state;
	memset(buf + 66, 0xff, 9000); /* that carries are many */
	for (unsigned step = 101; step < 3000; step += 97) {
		struct rte_mbuf *m = chain_of(len, step);

		assert_int_equal(csum_complete(m), 0);
		bytes_of(m, out);
		assert_true(l4_good(out, 14, 34, len));
		rte_pktmbuf_free(m);
	}
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static void csum_complete_udp_zero_is_ffff(void **state)
{
	unsigned len = make(false, true, 0, 0);
	struct rte_mbuf *m;
	uint16_t sum;

	(void)state;
	/* a UDP packet whose checksum comes out as 0: put the complement of the sum of all else into its payload */
	len = make(false, false, 0, 2);
	put16(buf + 14 + 20 + 6, 0);
	put16(buf + 14 + 20 + 8, 0);
	sum = book(buf + 34, 10, book(buf + 26, 8, 0) + 17 + 10u);
	put16(buf + 14 + 20 + 8, (uint16_t)~sum);
	m = mbuf_of(len);
	assert_int_equal(csum_complete(m), 0);
	assert_int_equal(*rte_pktmbuf_mtod_offset(m, uint16_t *, 40), 0xffff);
	rte_pktmbuf_free(m);
}

static void csum_complete_behind_ip6_extension(void **state)
{
	unsigned len = make(true, true, 0, 100);
	struct rte_mbuf *m;

	(void)state;
	memmove(buf + 14 + 48, buf + 14 + 40, len - 54);
	memset(buf + 54, 0, 8);
	buf[14 + 6] = 60; /* destination options, then TCP */
	buf[54] = 6;
	put16(buf + 14 + 4, len - 54 + 8);
	m = mbuf_of(len + 8);
	assert_int_equal(csum_complete(m), 0);
	assert_int_equal(m->l3_len, 48);
	assert_true(l4_good(rte_pktmbuf_mtod(m, uint8_t *), 14, 62, len + 8));
	rte_pktmbuf_free(m);
}

static enum nb_l4 headers_of(unsigned len)
{
	struct rte_mbuf *m = mbuf_of(len);
	enum nb_l4 l4 = csum_headers(m);

	rte_pktmbuf_free(m);
	return l4;
}

static void csum_headers_lies(void **state)
{
	unsigned len;

	(void)state;
	len = make(false, true, 0, 100);
	assert_int_equal(headers_of(len), NB_L4_TCP4);
	assert_int_equal(headers_of(len - 1), NB_L4_OTHER); /* IP says more than there is */
	put16(buf + 16, 19);
	assert_int_equal(headers_of(len), NB_L4_OTHER); /* less than its own header */
	put16(buf + 16, 39);
	assert_int_equal(headers_of(len), NB_L4_OTHER); /* no room for TCP */
	len = make(false, true, 0, 100);
	buf[14] = 0x44;
	assert_int_equal(headers_of(len), NB_L4_OTHER);
	buf[14] = 0x4f;
	assert_int_equal(headers_of(60), NB_L4_OTHER);
	len = make(false, true, 0, 100);
	buf[34 + 12] = 0x40;
	assert_int_equal(headers_of(len), NB_L4_OTHER); /* TCP header of 16 bytes */
	buf[34 + 12] = 0xf0;
	put16(buf + 16, 20 + 59);
	assert_int_equal(headers_of(len), NB_L4_OTHER); /* of 60, with 59 there */
	len = make(false, false, 0, 100);
	put16(buf + 14 + 6, 0x2000);
	assert_int_equal(headers_of(len), NB_L4_OTHER); /* a fragment */
	len = make(true, true, 0, 100);
	assert_int_equal(headers_of(len), NB_L4_TCP6);
	assert_int_equal(headers_of(len - 1), NB_L4_OTHER);
	buf[20] = 44;
	assert_int_equal(headers_of(len), NB_L4_OTHER);
	buf[20] = 0;
	memset(buf + 54, 0, 100); /* hop-by-hop options without end */
	assert_int_equal(headers_of(len), NB_L4_OTHER);
	buf[54 + 1] = 255;
	assert_int_equal(headers_of(len), NB_L4_OTHER);
	make(false, true, 3, 100);
	assert_int_equal(headers_of(200), NB_L4_OTHER); /* three tags */
}

/* Every length from an Ethernet header on, of every shape: no byte behind the packet is looked at (ASan looks). */
static void csum_headers_truncated(void **state)
{
	(void)state;
	for (int shape = 0; shape < 12; shape++) {
		unsigned len = make(shape & 1, shape & 2, (unsigned)shape / 4, 4);

		for (unsigned n = 14; n < len; n++)
			assert_int_equal(headers_of(n), NB_L4_OTHER);
		assert_int_not_equal(headers_of(len), NB_L4_OTHER);
	}
}

static void nothing_is_left(void)
{
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	assert_int_equal(rte_mempool_in_use_count(refs), 0);
}

/* As one receiver of several gets it. */
static struct rte_mbuf *copy_of(unsigned len)
{
	struct rte_mbuf *m = mbuf_of(len), *copy = pool_copy(pool, m);

	assert_non_null(copy);
	rte_pktmbuf_free(m);
	return copy;
}

static void cut(struct rte_mempool *by, bool v6, unsigned tags, unsigned payload, unsigned mss)
{
	unsigned len = make(v6, true, tags, payload), l3 = 14 + 4 * tags, l4 = l3 + (v6 ? 40 : 20), hdr = l4 + 32, done = 0, i;
	struct rte_mbuf *m, *out[GSO_PIECES_MAX];
	static uint8_t p[70000];
	int n;

	m = copy_of(len);
	m->port = 7;
	m->vlan_tci = 5;
	m->ol_flags |= NB_GSO | NB_BLANK | NB_VALID | (v6 ? NB_GSO_V6 : 0);
	m->tso_segsz = mss;
	assert_int_equal(gso_check(m), 0);
	n = gso_cut(pool, by, m, out);
	rte_pktmbuf_free(m); /* the pieces live on */
	assert_int_equal(n, payload ? (payload + mss - 1) / mss : 1);
	assert_int_equal(rte_mempool_in_use_count(refs) > 0, by && !v6 && n > 1);
	for (i = 0; i < (unsigned)n; i++) {
		unsigned want = RTE_MIN(mss, payload - done);
		bool last = done + want == payload;

		assert_int_equal(out[i]->pkt_len, hdr + want);
		assert_int_equal(out[i]->ol_flags, RTE_MBUF_F_EXTERNAL | NB_VALID);
		assert_int_equal(out[i]->port, 7);
		assert_int_equal(out[i]->vlan_tci, 5);
		bytes_of(out[i], p);
		assert_memory_equal(p, buf, l3); /* Ethernet and tags */
		assert_memory_equal(p + hdr, buf + hdr + done, want);
		assert_true(l4_good(p, l3, l4, hdr + want));
		assert_int_equal((uint32_t)p[l4 + 4] << 24 | p[l4 + 5] << 16 | p[l4 + 6] << 8 | p[l4 + 7], 0xffffff00u + done);
		assert_int_equal(p[l4 + 13], (last ? 0x19 : 0x10) | (i ? 0 : 0x80));
		if (!v6) {
			assert_int_equal(book(p + l3, 20, 0), 0xffff);
			assert_int_equal(p[l3 + 4] << 8 | p[l3 + 5], (0xfffe + i) & 0xffff);
		}
		done += want;
		rte_pktmbuf_free(out[i]);
	}
	assert_int_equal(done, payload);
	nothing_is_left();
}

static void gso_cut_all_shapes(void **state)
{
	static const unsigned payloads[] = { 0, 1, 1447, 1448, 1449, 2896, 10000, 64000 }, sizes[] = { 256, 1447, 1448, 4000, 9000 };

	(void)state;
	for (int shape = 0; shape < 6; shape++)
		for (size_t i = 0; i < RTE_DIM(payloads); i++)
			for (size_t j = 0; j < RTE_DIM(sizes); j++)
				for (int by = 0; by < 2; by++)
					cut(by ? refs : NULL, shape & 1, (unsigned)shape / 2, payloads[i], sizes[j]);
}

static int check(unsigned len, bool v6, unsigned mss)
{
	struct rte_mbuf *m = mbuf_of(len);
	int ret;

	m->ol_flags |= NB_GSO | NB_BLANK | (v6 ? NB_GSO_V6 : 0);
	m->tso_segsz = mss;
	ret = gso_check(m);
	rte_pktmbuf_free(m);
	return ret;
}

static void gso_check_lies(void **state)
{
	unsigned len = make(false, true, 0, 10000);

	(void)state;
	assert_int_equal(check(len, false, 1000), 0);
	assert_int_equal(check(len, true, 1000), -EINVAL); /* says IPv6 */
	assert_int_equal(check(len + 1, false, 1000), -EINVAL); /* padding */
	assert_int_equal(check(len, false, GSO_SIZE_MIN - 1), -EINVAL);
	assert_int_equal(check(len, false, GSO_SIZE_MIN), 0); /* 209 pieces */
	assert_int_equal(check(make(false, true, 0, 13000), false, GSO_SIZE_MIN), -EINVAL); /* 271 pieces */
	assert_int_equal(check(make(false, false, 0, 10000), false, 1000), -EINVAL); /* UDP */
}

static void gso_cut_without_memory(void **state)
{
	static struct rte_mbuf *all[100000];
	struct rte_mbuf *m, *out[GSO_PIECES_MAX];
	unsigned n = 0;

	(void)state;
	make(false, true, 0, 60000);
	m = mbuf_of(60066);
	m->ol_flags |= NB_GSO | NB_BLANK;
	m->tso_segsz = 1448;
	assert_int_equal(gso_check(m), 0);
	while (n < RTE_DIM(all) && (all[n] = rte_pktmbuf_alloc(pool)))
		n++;
	rte_pktmbuf_free_bulk(all, 20);
	for (int by = 0; by < 2; by++) {
		assert_int_equal(gso_cut(pool, by ? refs : NULL, m, out), -ENOMEM);
		assert_int_equal(rte_mempool_avail_count(pool), 20); /* nothing is lost */
	}
	rte_pktmbuf_free_bulk(all + 20, n - 20);
	rte_pktmbuf_free(m);
	nothing_is_left();
}

static void flow_hash_is_of_the_flow(void **state)
{
	struct rte_mbuf *a, *b;
	unsigned len;

	(void)state;
	for (int shape = 0; shape < 4; shape++) {
		len = make(shape & 1, shape & 2, 0, 100);
		a = mbuf_of(len);
		buf[len - 1] ^= 1; /* payload: the same flow */
		b = mbuf_of(len);
		assert_int_equal(csum_flow_hash(a), csum_flow_hash(b));
		rte_pktmbuf_free(b);
		buf[14 + (shape & 1 ? 40 : 20) + 1] ^= 1; /* a port: another */
		b = mbuf_of(len);
		assert_int_not_equal(csum_flow_hash(a), csum_flow_hash(b));
		rte_pktmbuf_free(a);
		rte_pktmbuf_free(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(csum_complete_all_shapes),
		cmocka_unit_test(csum_complete_segments_of_any_length),
		cmocka_unit_test(csum_complete_udp_zero_is_ffff),
		cmocka_unit_test(csum_complete_behind_ip6_extension),
		cmocka_unit_test(csum_headers_lies),
		cmocka_unit_test(csum_headers_truncated),
		cmocka_unit_test(gso_cut_all_shapes),
		cmocka_unit_test(gso_check_lies),
		cmocka_unit_test(gso_cut_without_memory),
		cmocka_unit_test(flow_hash_is_of_the_flow),
	};
	char why[300];
	int ret;

	pv_log_open("test", PV_LOG_WARN);
	if (eal_start(64, why, sizeof(why)) < 0 || !(pool = pool_new(64, &pages, why, sizeof(why))) || !(refs = pool_refs_new(pool))) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	rte_mempool_free(refs);
	pool_free(pool, pages);
	eal_stop();
	return ret;
}
