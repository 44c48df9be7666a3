/* antispoof.c - does a guest send as itself? */
#include "antispoof.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_ARP = 0x0806, TYPE_RARP = 0x8035, ARP_LEN = 28 };
enum { DHCP_CLIENT = 68, DHCP_SERVER = 67 };
enum { /* of ICMPv6 */
	MLD_REPORT = 131, MLD_DONE = 132,
	ND_ROUTER_SOLICIT = 133, ND_ROUTER_ADVERT = 134, ND_SOLICIT = 135, ND_ADVERT = 136, ND_REDIRECT = 137, MLD2_REPORT = 143,
	ND_SOURCE_MAC = 1, ND_TARGET_MAC = 2, /* options */
};

/* ---- the addresses ---- */

static int parse_one(const char *s, struct antispoof_address *out)
{
	char text[INET6_ADDRSTRLEN], *slash = strchr(s, '/'), *end = NULL;
	size_t n = slash ? (size_t)(slash - s) : strlen(s);
	unsigned long len;

	if (n >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, n);
	text[n] = 0;
	*out = (struct antispoof_address){ .family = strchr(text, ':') ? AF_INET6 : AF_INET };
	if (inet_pton(out->family, text, out->addr) != 1)
		return -EINVAL;
	out->len = out->family == AF_INET ? 32 : 128;
	if (!slash)
		return 0;
	len = slash[1] >= '0' && slash[1] <= '9' ? strtoul(slash + 1, &end, 10) : 999;
	if (len > out->len || *end)
		return -EINVAL;
	out->len = (uint8_t)len;
	return 0;
}

int antispoof_parse(const char *s, struct antispoof *a)
{
	char text[INET6_ADDRSTRLEN + 5];

	a->nr = 0;
	while (*s) {
		size_t n = strcspn(s, ",");

		if (a->nr == ANTISPOOF_ADDRESSES_MAX || n >= sizeof(text) || (s[n] && !s[n + 1]))
			return -EINVAL;
		memcpy(text, s, n);
		text[n] = 0;
		if (parse_one(text, &a->address[a->nr++]) < 0)
			return -EINVAL;
		s += n + (s[n] == ',');
	}
	return 0;
}

static bool in_prefix(const uint8_t *addr, const struct antispoof_address *a)
{
	unsigned bytes = a->len / 8, bits = a->len % 8;

	return !memcmp(addr, a->addr, bytes) && (!bits || !((addr[bytes] ^ a->addr[bytes]) >> (8 - bits)));
}

static bool own(const struct antispoof *a, int family, const uint8_t *addr)
{
	for (unsigned i = 0; i < a->nr; i++)
		if (a->address[i].family == family && in_prefix(addr, &a->address[i]))
			return true;
	return false;
}

static bool zero(const uint8_t *p, size_t n)
{
	while (n--)
		if (*p++)
			return false;
	return true;
}

/* fe80::/64 and the MAC with ff:fe in its middle and one bit turned. */
static bool link_local(const uint8_t mac[6], const uint8_t *addr)
{
	const uint8_t eui[16] = { 0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5] };

	return !memcmp(addr, eui, sizeof(eui));
}

static bool own6(const struct antispoof *a, const uint8_t *addr)
{
	return !a->nr || own(a, AF_INET6, addr) || link_local(a->mac, addr);
}

/* ---- the packets ---- */

/* ARP, and RARP which has its shape: of Ethernet and IPv4, from the guest. */
static bool arp_ok(const struct antispoof *a, const uint8_t *p, uint32_t have, const struct headers *h)
{
	static const uint8_t ethernet_ip4[6] = { 0, 1, 8, 0, 6, 4 };
	const uint8_t *arp = p + h->l3;

	if (h->l3 + (uint32_t)ARP_LEN > have || memcmp(arp, ethernet_ip4, sizeof(ethernet_ip4)) || memcmp(arp + 8, a->mac, 6))
		return false;
	return !a->nr || zero(arp + 14, 4) || own(a, AF_INET, arp + 14);
}

static bool ip4_ok(const struct antispoof *a, const struct headers *h)
{
	if (!a->nr || own(a, AF_INET, h->key.addr[0]))
		return true;
	return zero(h->key.addr[0], 4) && h->key.proto == IPPROTO_UDP && h->key.flags & HEADERS_L4 && headers_be16(h->key.port[0]) == DHCP_CLIENT &&
	       headers_be16(h->key.port[1]) == DHCP_SERVER;
}

/* Options of neighbour discovery from `at` on: each link-layer address that is the sender's is the guest's own. */
static bool options_ok(const struct antispoof *a, const uint8_t *p, uint32_t at, uint32_t end, bool target)
{
	while (at + 8 <= end) {
		uint32_t len = p[at + 1] * 8u;
		bool of_sender = p[at] == ND_SOURCE_MAC || (target && p[at] == ND_TARGET_MAC);

		if (!len || at + len > end || (of_sender && memcmp(p + at + 2, a->mac, 6)))
			return false;
		at += len;
	}
	return at == end;
}

static bool discovery_ok(const struct antispoof *a, const uint8_t *p, uint32_t have, const struct headers *h)
{
	uint8_t type = h->key.port[0][0];
	uint32_t l4 = h->l4, options = l4 + (type == ND_ROUTER_SOLICIT ? 8 : 24);

	if (type == ND_ROUTER_ADVERT || type == ND_REDIRECT)
		return false;
	if (type != ND_ROUTER_SOLICIT && type != ND_SOLICIT && type != ND_ADVERT)
		return true;
	if (h->more || options > h->end || h->end > have) /* honest ones are short, and whole (RFC 6980) */
		return false;
	if (type == ND_ADVERT && !own6(a, p + l4 + 8))
		return false;
	return options_ok(a, p, options, h->end, type == ND_ADVERT);
}

static bool ip6_ok(const struct antispoof *a, const uint8_t *p, uint32_t have, const struct headers *h)
{
	bool icmp = h->key.proto == IPPROTO_ICMPV6 && h->key.flags & HEADERS_L4;
	uint8_t type = h->key.port[0][0];
	bool searching = icmp && (type == ND_ROUTER_SOLICIT || type == ND_SOLICIT || type == MLD_REPORT || type == MLD_DONE || type == MLD2_REPORT);

	if (!own6(a, h->key.addr[0]) && !(zero(h->key.addr[0], 16) && searching))
		return false;
	return !icmp || discovery_ok(a, p, have, h);
}

bool antispoof_ok(const struct antispoof *a, const uint8_t *p, uint32_t have, const struct headers *h)
{
	if (h->error || memcmp(h->key.mac[0], a->mac, 6))
		return false;
	if (h->kind == HEADERS_IP4)
		return ip4_ok(a, h);
	if (h->kind == HEADERS_IP6)
		return ip6_ok(a, p, have, h);
	return (h->type != TYPE_ARP && h->type != TYPE_RARP) || arp_ok(a, p, have, h);
}
