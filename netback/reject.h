/* reject.h - the answer that a rejected packet gets. Pure. */
#ifndef NETBACK_REJECT_H
#define NETBACK_REJECT_H

#include "headers.h"

enum { REJECT_MAX = 14 + 8 + 40 + 8 + 512 };

/* p, have, h: as for headers_parse. Fills in out (REJECT_MAX bytes) with the frame to its sender: a reset for TCP, and for other IP
 * "administratively prohibited" of ICMP or ICMPv6, in the name of who was addressed. Returns its length, or 0: it gets no answer, for it
 * is one itself, no IP, not for one receiver, not from one sender, a later fragment, or hides what it is. */
uint32_t reject_answer(const uint8_t *p, uint32_t have, const struct headers *h, uint8_t *out);

#endif
