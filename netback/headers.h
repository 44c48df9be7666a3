/* headers.h - what the headers of one packet say, in the shape that rules match. Pure: it links against nothing. */
#ifndef NETBACK_HEADERS_H
#define NETBACK_HEADERS_H

#include <stdbool.h>
#include <stdint.h>

enum { HEADERS_VLAN_NONE = 0xffff, HEADERS_EXTENSIONS_MAX = 8 /* of IPv6 */, HEADERS_TAGS_MAX = 2 };

/* A table of rules for each. IP that belies itself is of its kind, with an error. */
enum headers_kind { HEADERS_IP4, HEADERS_IP6, HEADERS_OTHER, HEADERS_KINDS };

enum headers_error {
	HEADERS_OK,
	HEADERS_BAD, /* cut short, lengths that cannot be, too many extension headers: no receiver takes it for what it seems to be */
	HEADERS_TINY, /* a fragment that hides its ports (RFC 1858, 3128, 7112) */
};

/* Of headers_key.flags. */
enum {
	HEADERS_L4 = 1, /* port[] holds TCP's or UDP's, or [0] ICMP's type and code */
	HEADERS_FRAGMENT = 2, /* of IP, and not the first: it has no ports */
	HEADERS_SYN = 4, /* TCP with SYN and without ACK */
	HEADERS_FROM = 8, /* set by the caller: the guest sent it */
};

/* All in network byte order; each group of four bytes stands where librte_acl may load it as one word. */
struct headers_key {
	uint8_t proto, zero[3];
	uint8_t vlan[2]; /* of the outer tag; HEADERS_VLAN_NONE */
	uint8_t flags, zero1;
	uint8_t port[2][2]; /* source, destination; ICMP: [0] is type and code; HEADERS_OTHER: [0] is the EtherType, 0 for none */
	uint8_t mac[2][6]; /* source, destination */
	uint8_t addr[2][16]; /* source, destination; IPv4's in the first four bytes */
};

struct headers {
	struct headers_key key;
	enum headers_kind kind;
	enum headers_error error;
	uint16_t type; /* the EtherType behind tags and SNAP; 0: 802.3 with anything else */
	bool snap; /* the EtherType is in a SNAP header */
	bool more; /* the first fragment of several */
	uint16_t l3, l4; /* where they begin; 0: there is none, or none that is known */
	uint32_t end; /* of what the IP header says is the packet */
};

static inline uint16_t headers_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* p: a packet of len bytes, the first `have` of which can be read: all, or NB_HEADERS at least. */
void headers_parse(const uint8_t *p, uint32_t have, uint32_t len, struct headers *h);

#endif
