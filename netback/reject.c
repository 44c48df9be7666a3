/* reject.c - the answer that a rejected packet gets (RFC 9293, 1812, 4443). */
#include "reject.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

enum { IP4_LEN = 20, IP6_LEN = 40, TCP_LEN = 20, ICMP_LEN = 8, QUOTE_MAX = 512, HOPS = 64 };
enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };
enum { UNREACHABLE = 3, PROHIBITED = 13, UNREACHABLE6 = 1, PROHIBITED6 = 1 };

static void put16(uint8_t *p, uint32_t n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)headers_be16(p) << 16 | headers_be16(p + 2);
}

static void put32(uint8_t *p, uint32_t n)
{
	put16(p, n >> 16);
	put16(p + 2, n);
}

static uint32_t sum(const uint8_t *p, uint32_t len, uint32_t before)
{
	for (; len > 1; len -= 2, p += 2)
		before += headers_be16(p);
	return before + (len ? *p << 8 : 0);
}

static uint16_t folded(uint32_t n)
{
	while (n >> 16)
		n = (n & 0xffff) + (n >> 16);
	return (uint16_t)~n;
}

static bool one_host4(const uint8_t *a)
{
	return a[0] && a[0] < 224 && a[0] != 127; /* neither 0.0.0.0/8, multicast, broadcast nor loopback */
}

static bool one_host6(const uint8_t *a)
{
	static const uint8_t none[16];

	return a[0] != 0xff && memcmp(a, none, 16);
}

/* Errors get no answer, nor does what only neighbours say to each other. */
static bool may_answer(const uint8_t *p, const struct headers *h)
{
	uint8_t type = h->key.port[0][0];

	if (h->kind == HEADERS_OTHER || h->error || h->snap || h->key.flags & HEADERS_FRAGMENT)
		return false;
	if ((h->key.mac[0][0] | h->key.mac[1][0]) & 1)
		return false;
	if (h->key.proto == IPPROTO_TCP && h->l4 && p[h->l4 + 13] & TCP_RST)
		return false;
	if (h->kind == HEADERS_IP4)
		return one_host4(h->key.addr[0]) && one_host4(h->key.addr[1]) &&
		       (h->key.proto != IPPROTO_ICMP || type == 0 || type == 8 || (type >= 13 && type <= 18));
	return one_host6(h->key.addr[0]) && one_host6(h->key.addr[1]) &&
	       (h->key.proto != IPPROTO_ICMPV6 || (type >= 128 && (type < 133 || type > 137)));
}

/* The reset that a TCP without such a connection sends. */
static uint32_t reset(const uint8_t *p, const struct headers *h, uint8_t *out)
{
	const uint8_t *tcp = p + h->l4;
	uint32_t hdr = (tcp[12] >> 4) * 4u, data = h->end - h->l4 > hdr ? h->end - h->l4 - hdr : 0;
	uint8_t flags = tcp[13];

	memset(out, 0, TCP_LEN);
	memcpy(out, tcp + 2, 2);
	memcpy(out + 2, tcp, 2);
	out[12] = TCP_LEN / 4 << 4;
	out[13] = TCP_RST;
	if (flags & TCP_ACK) {
		memcpy(out + 4, tcp + 8, 4);
	} else {
		put32(out + 8, be32(tcp + 4) + data + !!(flags & TCP_SYN) + !!(flags & TCP_FIN));
		out[13] |= TCP_ACK;
	}
	return TCP_LEN;
}

static uint32_t prohibited(const uint8_t *p, uint32_t have, const struct headers *h, uint8_t *out)
{
	bool v4 = h->kind == HEADERS_IP4;
	uint32_t quote = (h->end < have ? h->end : have) - h->l3;

	quote = quote < QUOTE_MAX ? quote : QUOTE_MAX;
	memset(out, 0, ICMP_LEN);
	out[0] = v4 ? UNREACHABLE : UNREACHABLE6;
	out[1] = v4 ? PROHIBITED : PROHIBITED6;
	memcpy(out + ICMP_LEN, p + h->l3, quote);
	return ICMP_LEN + quote;
}

/* The IP header before `len` bytes at `l4`, and both checksums. */
static void wrap4(const struct headers *h, uint8_t *ip, uint8_t proto, uint32_t len)
{
	uint8_t *l4 = ip + IP4_LEN;

	memset(ip, 0, IP4_LEN);
	ip[0] = 0x45;
	put16(ip + 2, IP4_LEN + len);
	ip[6] = 0x40; /* not to be cut */
	ip[8] = HOPS;
	ip[9] = proto;
	memcpy(ip + 12, h->key.addr[1], 4);
	memcpy(ip + 16, h->key.addr[0], 4);
	put16(ip + 10, folded(sum(ip, IP4_LEN, 0)));
	if (proto == IPPROTO_TCP)
		put16(l4 + 16, folded(sum(l4, len, sum(ip + 12, 8, IPPROTO_TCP + len))));
	else
		put16(l4 + 2, folded(sum(l4, len, 0)));
}

static void wrap6(const struct headers *h, uint8_t *ip, uint8_t proto, uint32_t len)
{
	uint8_t *l4 = ip + IP6_LEN;

	memset(ip, 0, IP6_LEN);
	ip[0] = 0x60;
	put16(ip + 4, len);
	ip[6] = proto;
	ip[7] = HOPS;
	memcpy(ip + 8, h->key.addr[1], 16);
	memcpy(ip + 24, h->key.addr[0], 16);
	put16(l4 + (proto == IPPROTO_TCP ? 16 : 2), folded(sum(l4, len, sum(ip + 8, 32, proto + len))));
}

uint32_t reject_answer(const uint8_t *p, uint32_t have, const struct headers *h, uint8_t *out)
{
	bool v4 = h->kind == HEADERS_IP4, tcp = h->key.proto == IPPROTO_TCP && h->key.flags & HEADERS_L4;
	uint8_t *ip = out + h->l3, *l4 = ip + (v4 ? IP4_LEN : IP6_LEN);
	uint32_t len;

	if (!may_answer(p, h))
		return 0;
	memcpy(out, p + 6, 6);
	memcpy(out + 6, p, 6);
	memcpy(out + 12, p + 12, h->l3 - 12u); /* tags and the EtherType */
	len = tcp ? reset(p, h, l4) : prohibited(p, have, h, l4);
	if (v4)
		wrap4(h, ip, tcp ? IPPROTO_TCP : IPPROTO_ICMP, len);
	else
		wrap6(h, ip, tcp ? IPPROTO_TCP : IPPROTO_ICMPV6, len);
	return (uint32_t)(l4 - out) + len;
}
