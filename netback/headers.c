/* headers.c - from a packet's bytes to what rules match. Nothing is believed: each header lies whole within what can be read and
 * within what the one before says is the packet, or the packet is BAD. */
#include "headers.h"
#include <netinet/in.h>
#include <string.h>

enum { TYPE_IP4 = 0x0800, TYPE_IP6 = 0x86dd, TYPE_VLAN = 0x8100, TYPE_QINQ = 0x88a8, TYPE_MIN = 0x0600 };
enum { IP4_MORE = 0x2000, IP4_OFFSET = 0x1fff, IP6_MORE = 1, IP6_OFFSET = 0xfff8 };
enum { TCP_LEN = 20, UDP_LEN = 8, ICMP_LEN = 8, ICMP6_LEN = 4, TCP_FLAGS = 13, TCP_SYN = 2, TCP_ACK = 16 };

/* Addresses, tags and the EtherType. Returns where the rest begins. */
static uint32_t ethernet(const uint8_t *p, uint32_t have, struct headers *h)
{
	static const uint8_t snap[6] = { 0xaa, 0xaa, 3 };
	uint32_t at = 12;

	memcpy(h->key.mac[1], p, 6);
	memcpy(h->key.mac[0], p + 6, 6);
	memset(h->key.vlan, 0xff, 2);
	h->type = headers_be16(p + at);
	for (int tags = 0; tags < HEADERS_TAGS_MAX && (h->type == TYPE_VLAN || h->type == TYPE_QINQ); tags++, at += 4) {
		if (at + 6 > have) {
			h->error = HEADERS_BAD;
			break;
		}
		if (!tags) {
			h->key.vlan[0] = p[at + 2] & 0x0f;
			h->key.vlan[1] = p[at + 3];
		}
		h->type = headers_be16(p + at + 4);
	}
	if (h->type == TYPE_VLAN || h->type == TYPE_QINQ)
		h->error = HEADERS_BAD; /* who knows what is below so many tags */
	at += 2;
	if (h->type >= TYPE_MIN)
		return at;
	h->type = 0;
	if (at + 8 <= have && !memcmp(p + at, snap, sizeof(snap))) { /* some systems take IP and ARP in it */
		h->type = headers_be16(p + at + 6);
		h->snap = true;
		at += 8;
	}
	return at;
}

/* The header behind IP at h->l4, of a packet that is whole or the first fragment of one. */
static void transport(const uint8_t *p, uint32_t have, struct headers *h)
{
	uint32_t room = (h->end < have ? h->end : have) - h->l4, need = 0;
	bool icmp = h->key.proto == (h->kind == HEADERS_IP4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	const uint8_t *l4 = p + h->l4;

	if (h->key.proto == IPPROTO_TCP)
		need = TCP_LEN;
	else if (h->key.proto == IPPROTO_UDP)
		need = UDP_LEN;
	else if (icmp)
		need = h->kind == HEADERS_IP4 ? ICMP_LEN : ICMP6_LEN;
	if (!need || room < need) {
		h->error = !need ? HEADERS_OK : h->more ? HEADERS_TINY : HEADERS_BAD;
		h->l4 = 0;
		return;
	}
	memcpy(h->key.port, l4, icmp ? 2 : 4);
	h->key.flags |= HEADERS_L4;
	if (h->key.proto == IPPROTO_TCP && (l4[TCP_FLAGS] & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		h->key.flags |= HEADERS_SYN;
}

/* A fragment that is not the first: no ports. One of TCP that begins at its byte 8 would lie over the flags. */
static void later_fragment(unsigned offset, struct headers *h)
{
	h->key.flags |= HEADERS_FRAGMENT;
	if (offset == 8 && h->key.proto == IPPROTO_TCP)
		h->error = HEADERS_TINY;
}

static void ip4(const uint8_t *p, uint32_t have, uint32_t len, struct headers *h)
{
	const uint8_t *ip = p + h->l3;
	uint32_t hdr, total, fragment;

	h->error = HEADERS_BAD;
	if (h->l3 + 20u > have || ip[0] >> 4 != 4)
		return;
	hdr = (ip[0] & 15) * 4u;
	total = headers_be16(ip + 2);
	memcpy(h->key.addr[0], ip + 12, 4);
	memcpy(h->key.addr[1], ip + 16, 4);
	h->key.proto = ip[9];
	if (hdr < 20 || total < hdr || h->l3 + hdr > have || h->l3 + total > len)
		return;
	h->error = HEADERS_OK;
	h->end = h->l3 + total;
	fragment = headers_be16(ip + 6);
	if (fragment & IP4_OFFSET) {
		later_fragment((fragment & IP4_OFFSET) * 8, h);
		return;
	}
	h->l4 = (uint16_t)(h->l3 + hdr);
	h->more = fragment & IP4_MORE;
	transport(p, have, h);
}

static void ip6(const uint8_t *p, uint32_t have, uint32_t len, struct headers *h)
{
	const uint8_t *ip = p + h->l3;
	uint32_t at = h->l3 + 40u, room;
	uint8_t proto;

	h->error = HEADERS_BAD;
	if (at > have || ip[0] >> 4 != 6)
		return;
	memcpy(h->key.addr, ip + 8, 32);
	h->key.proto = proto = ip[6];
	h->end = at + headers_be16(ip + 4);
	if (h->end > len)
		return;
	room = h->end < have ? h->end : have;
	for (int i = 0; proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_DSTOPTS || proto == IPPROTO_FRAGMENT; i++) {
		const uint8_t *e = p + at;

		if (i == HEADERS_EXTENSIONS_MAX || at + 8 > room) {
			h->error = h->more ? HEADERS_TINY : HEADERS_BAD;
			return;
		}
		at += proto == IPPROTO_FRAGMENT ? 8 : (e[1] + 1u) * 8;
		if (proto == IPPROTO_FRAGMENT) {
			h->key.proto = e[0];
			if (headers_be16(e + 2) & IP6_OFFSET) {
				h->error = HEADERS_OK;
				later_fragment(headers_be16(e + 2) & IP6_OFFSET, h);
				return;
			}
			h->more |= headers_be16(e + 2) & IP6_MORE;
		}
		h->key.proto = proto = e[0];
	}
	if (at > room) {
		h->error = h->more ? HEADERS_TINY : HEADERS_BAD;
		return;
	}
	h->error = HEADERS_OK;
	h->l4 = (uint16_t)at;
	transport(p, have, h);
}

void headers_parse(const uint8_t *p, uint32_t have, uint32_t len, struct headers *h)
{
	memset(h, 0, sizeof(*h));
	h->kind = HEADERS_OTHER;
	if (have < 14) {
		h->error = HEADERS_BAD;
		return;
	}
	h->l3 = (uint16_t)ethernet(p, have, h);
	h->end = len;
	if (h->error)
		return;
	if (h->type == TYPE_IP4) {
		h->kind = HEADERS_IP4;
		ip4(p, have, len, h);
	} else if (h->type == TYPE_IP6) {
		h->kind = HEADERS_IP6;
		ip6(p, have, len, h);
	} else {
		h->key.port[0][0] = (uint8_t)(h->type >> 8);
		h->key.port[0][1] = (uint8_t)h->type;
	}
}
