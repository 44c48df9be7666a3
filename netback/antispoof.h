/* antispoof.h - does a guest send as itself? Pure: it links against nothing. */
#ifndef NETBACK_ANTISPOOF_H
#define NETBACK_ANTISPOOF_H

#include "headers.h"
#include <stddef.h>

enum { ANTISPOOF_ADDRESSES_MAX = 64 };

struct antispoof_address {
	uint8_t family; /* AF_INET, AF_INET6 */
	uint8_t len; /* of the prefix, in bits */
	uint8_t addr[16];
};

/* The addresses that are a guest's own. None: only MAC addresses are looked at. */
struct antispoof {
	uint8_t mac[6];
	uint16_t nr;
	struct antispoof_address address[ANTISPOOF_ADDRESSES_MAX];
};

/* "ADDR[/LEN],..." of IPv4 and IPv6; "": none. Fills in nr and address. Returns 0 or -EINVAL. */
int antispoof_parse(const char *s, struct antispoof *a);

/* May the guest send this packet, whose headers headers_parse saw? p, have: as given to it.
 *
 * All: the sender's MAC is the guest's own, and so it is within ARP and within neighbour discovery. With addresses, besides: the
 * IPv4 source is one of them (or 0.0.0.0 when it asks DHCP for one); ARP's sender is (or 0.0.0.0, a probe); the IPv6 source is, or
 * the link-local address made of the MAC (EUI-64), or :: while the guest looks for an address; the target of an advertisement is.
 * Router advertisements and redirects are not the guest's to send. What hides its headers could be anything, and may not. */
bool antispoof_ok(const struct antispoof *a, const uint8_t *p, uint32_t have, const struct headers *h);

#endif
