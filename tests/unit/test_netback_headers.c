/* Headers of packets, honest and hostile; and whether a guest sends as itself. */
#include "netback/antispoof.h"
#include "netback/reject.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint8_t p[600];
static struct headers h;

static void put16(uint8_t *at, unsigned n)
{
	at[0] = (uint8_t)(n >> 8);
	at[1] = (uint8_t)n;
}

static enum headers_error parse(unsigned have, unsigned len)
{
	uint8_t *exact = malloc(have); /* so that a sanitizer sees each byte too many */

	memcpy(exact, p, have);
	headers_parse(exact, have, len, &h);
	free(exact);
	return h.error;
}

/* An IPv4 packet behind `tags` VLAN tags; returns its length. */
static unsigned ip4(unsigned tags, unsigned proto, unsigned l4_len)
{
	unsigned at = 12;

	memset(p, 0, sizeof(p));
	p[0] = p[6] = 2;
	for (unsigned i = 0; i < tags; i++, at += 4) {
		put16(p + at, i ? 0x8100 : 0x88a8);
		put16(p + at + 2, 0x3000 + 100 + i);
	}
	put16(p + at, 0x0800);
	p[at + 2] = 0x45;
	put16(p + at + 4, 20 + l4_len);
	p[at + 11] = (uint8_t)proto;
	put16(p + at + 22, 1234);
	put16(p + at + 24, 80);
	p[at + 22 + 13] = 2; /* SYN */
	return at + 2 + 20 + l4_len;
}

/* An IPv6 packet with `next` in its header and `len` bytes behind that. */
static unsigned ip6(unsigned next, unsigned len)
{
	memset(p, 0, sizeof(p));
	p[0] = p[6] = 2;
	put16(p + 12, 0x86dd);
	p[14] = 0x60;
	put16(p + 18, len);
	p[20] = (uint8_t)next;
	p[22] = p[38] = 0x20;
	return 54 + len;
}

static void headers_vlan_tags(void **state)
{
	(void)state;
	for (unsigned tags = 0; tags <= 2; tags++) {
		unsigned len = ip4(tags, IPPROTO_TCP, 20);

		assert_int_equal(parse(len, len), HEADERS_OK);
		assert_int_equal(h.kind, HEADERS_IP4);
		assert_int_equal(headers_be16(h.key.vlan), tags ? 100 : HEADERS_VLAN_NONE); /* the outer one, without its priority */
		assert_int_equal(h.l3, 14 + tags * 4);
		assert_int_equal(h.key.flags, HEADERS_L4 | HEADERS_SYN);
		assert_int_equal(headers_be16(h.key.port[1]), 80);
		for (unsigned have = 14; have < len; have++)
			assert_int_not_equal(parse(have, have), HEADERS_OK);
	}
	assert_int_equal(parse(ip4(3, IPPROTO_TCP, 20), 600), HEADERS_BAD);
	assert_int_equal(parse(13, 13), HEADERS_BAD);
}

static void headers_snap_is_what_is_in_it(void **state)
{
	unsigned len = ip4(0, IPPROTO_UDP, 8);

	(void)state;
	memmove(p + 22, p + 14, len - 14);
	put16(p + 12, len - 6);
	memcpy(p + 14, (const uint8_t[]){ 0xaa, 0xaa, 3, 0, 0, 0, 8, 0 }, 8);
	assert_int_equal(parse(len + 8, len + 8), HEADERS_OK);
	assert_int_equal(h.kind, HEADERS_IP4);
	assert_int_equal(headers_be16(h.key.port[1]), 80);
	p[14] = 0x42; /* another LLC */
	assert_int_equal(parse(len + 8, len + 8), HEADERS_OK);
	assert_int_equal(h.kind, HEADERS_OTHER);
	assert_int_equal(h.type, 0);
}

static void headers_ip4_lies(void **state)
{
	static const struct {
		unsigned at, value;
	} lies[] = { { 14, 0x65 }, { 14, 0x44 }, { 14, 0x4f }, { 17, 200 }, { 17, 19 }, { 17, 39 } };

	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		unsigned len = ip4(0, IPPROTO_TCP, 20);

		p[lies[i].at] = (uint8_t)lies[i].value;
		assert_int_equal(parse(len, len), HEADERS_BAD);
	}
}

static void headers_ip4_fragments(void **state)
{
	unsigned len = ip4(0, IPPROTO_TCP, 20);

	(void)state;
	put16(p + 20, 0x2000);
	assert_int_equal(parse(len, len), HEADERS_OK);
	assert_true(h.more && h.key.flags & HEADERS_L4);
	put16(p + 20, 2);
	assert_int_equal(parse(len, len), HEADERS_OK);
	assert_int_equal(h.key.flags, HEADERS_FRAGMENT);
	assert_int_equal(headers_be16(h.key.port[1]), 0);
	put16(p + 20, 1); /* over the flags of a TCP header */
	assert_int_equal(parse(len, len), HEADERS_TINY);
	p[23] = IPPROTO_UDP; /* behind a UDP header */
	assert_int_equal(parse(len, len), HEADERS_OK);
	len = ip4(0, IPPROTO_TCP, 16);
	put16(p + 20, 0x2000);
	assert_int_equal(parse(len, len), HEADERS_TINY);
	put16(p + 20, 0);
	assert_int_equal(parse(len, len), HEADERS_BAD);
}

static void headers_ip6_extensions(void **state)
{
	(void)state;
	for (unsigned n = 0; n <= 10; n++) {
		unsigned len = ip6(n ? IPPROTO_DSTOPTS : IPPROTO_UDP, n * 8 + 8);

		for (unsigned i = 0; i < n; i++)
			p[54 + i * 8] = i + 1 < n ? IPPROTO_DSTOPTS : IPPROTO_UDP;
		put16(p + 54 + n * 8 + 2, 53);
		assert_int_equal(parse(len, len), n <= HEADERS_EXTENSIONS_MAX ? HEADERS_OK : HEADERS_BAD);
		if (h.error)
			continue;
		assert_int_equal(h.key.proto, IPPROTO_UDP);
		assert_int_equal(headers_be16(h.key.port[1]), 53);
		for (unsigned have = 14; have < len; have++)
			assert_int_equal(parse(have, have), HEADERS_BAD);
	}
	assert_int_equal(parse(ip6(IPPROTO_HOPOPTS, 8), 62), HEADERS_BAD); /* a header of 8 bytes, and nothing behind: no TCP, no UDP ... */
	p[54] = 59; /* ... but that is what it says */
	assert_int_equal(parse(62, 62), HEADERS_OK);
	p[55] = 255; /* longer than the packet */
	assert_int_equal(parse(62, 62), HEADERS_BAD);
}

static void headers_ip6_fragments(void **state)
{
	unsigned len = ip6(IPPROTO_FRAGMENT, 8 + 20);

	(void)state;
	p[54] = IPPROTO_TCP;
	p[57] = 1;
	assert_int_equal(parse(len, len), HEADERS_OK);
	assert_true(h.more && h.key.flags & HEADERS_L4);
	put16(p + 56, 800);
	assert_int_equal(parse(len, len), HEADERS_OK);
	assert_int_equal(h.key.flags, HEADERS_FRAGMENT);
	assert_int_equal(h.key.proto, IPPROTO_TCP);
	put16(p + 56, 8);
	assert_int_equal(parse(len, len), HEADERS_TINY);
	put16(p + 56, 1);
	p[54] = IPPROTO_DSTOPTS; /* the rest of the chain is in the next fragment (RFC 7112) */
	p[63] = 5;
	assert_int_equal(parse(len, len), HEADERS_TINY);
}

/* Whatever the bytes: nothing outside is read, and what is said of the packet lies within it. */
static void headers_random_bytes(void **state)
{
	unsigned kinds[HEADERS_KINDS] = { 0 };

	(void)state;
	srand(3);
	for (int i = 0; i < 300000; i++) {
		unsigned len = 1 + (unsigned)rand() % 120, have = rand() % 4 ? len : 1 + (unsigned)rand() % len;
		uint8_t answer[REJECT_MAX], *exact = malloc(have);

		for (unsigned j = 0; j < len; j++)
			p[j] = (uint8_t)(rand() % 3 ? rand() : rand() % 2 ? 0 : 60);
		if (len > 20 && rand() % 8) {
			put16(p + 12, rand() % 2 ? 0x0800 : 0x86dd);
			p[14] = p[12] == 8 ? 0x45 : 0x60;
			put16(p + (p[12] == 8 ? 16 : 18), (unsigned)rand() % len);
		}
		memcpy(exact, p, have);
		headers_parse(exact, have, len, &h);
		kinds[h.kind] += !h.error;
		if (!h.error) {
			uint32_t n = reject_answer(exact, have, &h, answer);

			assert_true(n <= REJECT_MAX && h.end <= len && h.l4 <= have);
		}
		antispoof_ok(&(struct antispoof){ .mac = { 2 } }, exact, have, &h);
		free(exact);
	}
	assert_true(kinds[0] > 1000 && kinds[1] > 1000 && kinds[2] > 1000);
}

/* ---- anti-spoofing ---- */

static const uint8_t mac[6] = { 0x02, 0x11, 0x22, 0x33, 0x44, 0x55 };

static bool ok(const char *addresses, unsigned len)
{
	struct antispoof a = { .nr = 0 };

	assert_int_equal(antispoof_parse(addresses, &a), 0);
	memcpy(a.mac, mac, 6);
	parse(len, len);
	return antispoof_ok(&a, p, len, &h);
}

static void antispoof_parses_addresses(void **state)
{
	static const char *const bad[] = { ",", "10.0.0.1,", "10.0.0", "10.0.0.1/33", "10.0.0.1/", "::/129", "x", "10.0.0.1 ", "10.0.0.1/8x", ":::" };
	struct antispoof a;
	char text[ANTISPOOF_ADDRESSES_MAX * 8 + 16] = "1.1.1.1";

	(void)state;
	assert_int_equal(antispoof_parse("", &a), 0);
	assert_int_equal(a.nr, 0);
	assert_int_equal(antispoof_parse("10.0.0.1,2001:db8::/64,192.168.0.0/16", &a), 0);
	assert_int_equal(a.nr, 3);
	assert_int_equal(a.address[0].len, 32);
	assert_int_equal(a.address[1].len, 64);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(antispoof_parse(bad[i], &a), -EINVAL);
	for (int i = 1; i < ANTISPOOF_ADDRESSES_MAX; i++)
		strcat(text, ",1.1.1.1");
	assert_int_equal(antispoof_parse(text, &a), 0);
	assert_int_equal(antispoof_parse(strcat(text, ",1.1.1.1"), &a), -EINVAL);
}

static void antispoof_ip4(void **state)
{
	unsigned len = ip4(0, IPPROTO_UDP, 8);

	(void)state;
	memcpy(p + 6, mac, 6);
	memcpy(p + 26, (const uint8_t[]){ 10, 0, 0, 5 }, 4);
	assert_true(ok("", len));
	assert_true(ok("10.0.0.4,10.0.0.5", len));
	assert_true(ok("10.0.0.0/8", len));
	assert_false(ok("10.0.0.4", len));
	assert_false(ok("10.0.0.4/31", ip4(0, IPPROTO_UDP, 8)));
	assert_false(ok("2001:db8::1", len)); /* it has no IPv4 */
	memset(p + 26, 0, 4);
	assert_false(ok("10.0.0.5", len));
	memcpy(p + 6, mac, 6);
	put16(p + 34, 68);
	put16(p + 36, 67);
	assert_true(ok("10.0.0.5", len)); /* DHCP */
	p[6] ^= 4;
	assert_false(ok("", len));
	assert_false(ok("10.0.0.5", len));
}

static unsigned arp(const uint8_t sender[6], uint8_t last)
{
	memset(p, 0, sizeof(p));
	memset(p, 255, 6);
	memcpy(p + 6, mac, 6);
	memcpy(p + 12, (const uint8_t[]){ 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 }, 10);
	memcpy(p + 22, sender, 6);
	if (last)
		memcpy(p + 28, (const uint8_t[]){ 10, 0, 0, last }, 4);
	return 42;
}

static void antispoof_arp(void **state)
{
	static const uint8_t other[6] = { 2 };

	(void)state;
	assert_true(ok("10.0.0.5", arp(mac, 5)));
	assert_true(ok("10.0.0.5", arp(mac, 0))); /* a probe */
	assert_true(ok("", arp(mac, 77)));
	assert_false(ok("10.0.0.5", arp(mac, 6)));
	assert_false(ok("", arp(other, 5)));
	arp(mac, 5);
	assert_false(ok("10.0.0.5", 41)); /* cut short */
	arp(mac, 5);
	p[18] = 8; /* other lengths of addresses */
	assert_false(ok("10.0.0.5", 60));
	arp(mac, 6);
	put16(p + 12, 0x8035);
	assert_false(ok("10.0.0.5", 42)); /* RARP alike */
}

/* ICMPv6 from an address, of a type, with `len` bytes from its type on. */
static unsigned icmp6(const char *from, uint8_t type, unsigned len)
{
	unsigned n = ip6(IPPROTO_ICMPV6, len);

	memcpy(p + 6, mac, 6);
	inet_pton(AF_INET6, from, p + 22);
	p[54] = type;
	return n;
}

static unsigned discovery(const char *from, uint8_t type, const char *target, uint8_t option, const uint8_t of[6])
{
	unsigned body = type == 133 ? 8 : 24, n = icmp6(from, type, body + (option ? 8 : 0));

	if (target)
		inet_pton(AF_INET6, target, p + 62);
	if (option) {
		p[54 + body] = option;
		p[55 + body] = 1;
		memcpy(p + 56 + body, of, 6);
	}
	return n;
}

static void antispoof_ip6(void **state)
{
	(void)state;
	assert_true(ok("2001:db8::5", icmp6("2001:db8::5", 128, 8)));
	assert_true(ok("2001:db8::/64", icmp6("2001:db8::7:5", 128, 8)));
	assert_true(ok("2001:db8::5", icmp6("fe80::11:22ff:fe33:4455", 128, 8))); /* made of the MAC */
	assert_false(ok("2001:db8::5", icmp6("fe80::11:22ff:fe33:4456", 128, 8)));
	assert_false(ok("2001:db8::5", icmp6("2001:db8::6", 128, 8)));
	assert_false(ok("10.0.0.5", icmp6("2001:db8::5", 128, 8)));
	assert_true(ok("", icmp6("2001:db8::6", 128, 8)));
	assert_false(ok("2001:db8::5", icmp6("::", 128, 8)));
	assert_true(ok("2001:db8::5", icmp6("::", 143, 8)));
}

static void antispoof_neighbour_discovery(void **state)
{
	static const uint8_t other[6] = { 2 };
	const char *own = "2001:db8::5";
	unsigned len;

	(void)state;
	assert_true(ok(own, discovery("::", 135, "2001:db8::5", 0, NULL))); /* is it free? */
	assert_true(ok(own, discovery(own, 135, "2001:db8::9", 1, mac)));
	assert_false(ok(own, discovery(own, 135, "2001:db8::9", 1, other)));
	assert_false(ok("", discovery(own, 135, "2001:db8::9", 1, other)));
	assert_true(ok(own, discovery(own, 136, own, 2, mac)));
	assert_true(ok(own, discovery(own, 136, "fe80::11:22ff:fe33:4455", 2, mac)));
	assert_false(ok(own, discovery(own, 136, "2001:db8::9", 2, mac)));
	assert_false(ok(own, discovery(own, 136, own, 2, other)));
	assert_false(ok("", discovery(own, 136, own, 2, other)));
	assert_true(ok(own, discovery(own, 133, NULL, 1, mac)));
	assert_false(ok(own, discovery(own, 133, NULL, 1, other)));
	assert_false(ok("", icmp6(own, 134, 16))); /* it is no router */
	assert_false(ok("", icmp6(own, 137, 40)));
	len = discovery(own, 136, own, 2, mac);
	p[79] = 0; /* an option without a length */
	assert_false(ok(own, len));
	discovery(own, 136, own, 2, mac);
	p[79] = 2; /* ... and longer than the packet */
	assert_false(ok(own, len));
	assert_false(ok(own, icmp6(own, 136, 20))); /* no target */
	len = ip6(IPPROTO_FRAGMENT, 8 + 24); /* and never in fragments */
	memcpy(p + 6, mac, 6);
	inet_pton(AF_INET6, own, p + 22);
	p[54] = IPPROTO_ICMPV6;
	p[57] = 1;
	p[62] = 135;
	assert_false(ok(own, len));
	p[57] = 0;
	assert_true(ok(own, len));
}

static void antispoof_other_types_by_mac(void **state)
{
	(void)state;
	ip4(0, 0, 0);
	memcpy(p + 6, mac, 6);
	put16(p + 12, 0x88cc);
	assert_true(ok("10.0.0.5", 60));
	p[11] ^= 1;
	assert_false(ok("10.0.0.5", 60));
}

/* ---- answers to rejected packets ---- */

static uint32_t sum(const uint8_t *at, unsigned len, uint32_t n)
{
	for (unsigned i = 0; i < len; i++)
		n += i % 2 ? at[i] : (uint32_t)at[i] << 8;
	while (n >> 16)
		n = (n & 0xffff) + (n >> 16);
	return n;
}

static void answers_have_good_checksums(void **state)
{
	uint8_t a[REJECT_MAX];

	(void)state;
	for (unsigned tcp = 0; tcp < 2; tcp++) {
		unsigned len = ip4(1, tcp ? IPPROTO_TCP : IPPROTO_UDP, 33), n;

		memcpy(p + 30, (const uint8_t[]){ 10, 1, 2, 3, 10, 9, 8, 7 }, 8);
		parse(len, len);
		n = reject_answer(p, len, &h, a);
		assert_int_equal(n, 18 + 20 + (tcp ? 20 : 8 + 53));
		assert_memory_equal(a + 12, p + 12, 6); /* the tag */
		assert_int_equal(sum(a + 18, 20, 0), 0xffff);
		assert_int_equal(sum(a + 38, n - 38, tcp ? sum(a + 30, 8, 6 + 20) : 0), 0xffff);
		len = ip6(tcp ? IPPROTO_TCP : IPPROTO_UDP, 33);
		parse(len, len);
		n = reject_answer(p, len, &h, a);
		assert_int_equal(n, 54 + (tcp ? 20 : 8 + 73));
		assert_int_equal(sum(a + 54, n - 54, sum(a + 22, 32, (tcp ? 6 : 58) + n - 54)), 0xffff);
	}
}

static void resets_fit_the_connection(void **state)
{
	uint8_t a[REJECT_MAX];
	unsigned len = ip4(0, IPPROTO_TCP, 20 + 100);

	(void)state;
	p[26] = p[30] = 10;
	memcpy(p + 38, (const uint8_t[]){ 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x10 }, 10); /* sequence, acknowledgment, ACK */
	parse(len, len);
	assert_int_equal(reject_answer(p, len, &h, a), 54);
	assert_memory_equal(a + 38, p + 42, 4);
	assert_int_equal(a[47], 4);
	p[47] = 3; /* SYN, FIN and data */
	parse(len, len);
	assert_int_equal(reject_answer(p, len, &h, a), 54);
	assert_memory_equal(a + 42, ((const uint8_t[]){ 1, 2, 3, 4 + 102 }), 4);
	assert_int_equal(a[47], 4 | 16);
}

static void no_answer_to(void **state)
{
	static const struct {
		unsigned at, value;
	} cases[] = {
		{ 0, 1 }, { 6, 3 }, /* MACs */ { 26, 0 }, { 26, 224 }, { 26, 127 }, { 30, 255 }, { 30, 224 }, /* addresses */
		{ 21, 100 }, /* a later fragment */ { 47, 4 }, /* a reset */
	};
	uint8_t a[REJECT_MAX];
	unsigned len;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		len = ip4(0, IPPROTO_TCP, 20);
		p[26] = p[30] = 10;
		parse(len, len);
		assert_int_not_equal(reject_answer(p, len, &h, a), 0);
		p[cases[i].at] = (uint8_t)cases[i].value;
		parse(len, len);
		assert_int_equal(reject_answer(p, len, &h, a), 0);
	}
	for (unsigned type = 0; type < 256; type++) {
		bool query = type == 0 || type == 8 || (type >= 13 && type <= 18);

		len = ip4(0, IPPROTO_ICMP, 8);
		p[26] = p[30] = 10;
		p[34] = (uint8_t)type;
		parse(len, len);
		assert_int_equal(reject_answer(p, len, &h, a) != 0, query);
		len = ip6(IPPROTO_ICMPV6, 8);
		p[54] = (uint8_t)type;
		parse(len, len);
		assert_int_equal(reject_answer(p, len, &h, a) != 0, type >= 128 && (type < 133 || type > 137));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(headers_vlan_tags),
		cmocka_unit_test(headers_snap_is_what_is_in_it),
		cmocka_unit_test(headers_ip4_lies),
		cmocka_unit_test(headers_ip4_fragments),
		cmocka_unit_test(headers_ip6_extensions),
		cmocka_unit_test(headers_ip6_fragments),
		cmocka_unit_test(headers_random_bytes),
		cmocka_unit_test(antispoof_parses_addresses),
		cmocka_unit_test(antispoof_ip4),
		cmocka_unit_test(antispoof_arp),
		cmocka_unit_test(antispoof_ip6),
		cmocka_unit_test(antispoof_neighbour_discovery),
		cmocka_unit_test(antispoof_other_types_by_mac),
		cmocka_unit_test(answers_have_good_checksums),
		cmocka_unit_test(resets_fit_the_connection),
		cmocka_unit_test(no_answer_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
