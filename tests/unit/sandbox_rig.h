/* sandbox_rig.h - for tests of the whole product: hub, pviod, pvio-blkback and pvio-netback as processes, brought up by `pvio sandbox up`,
 * with guests 1 and 2; and frontends of the library in this program, which send packets to each other. How they find their devices is for
 * the program to say: through noxs, or with xenbus_port.h through XenStore.
 */
#ifndef SANDBOX_RIG_H
#define SANDBOX_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <pvio/front.h>
#include <pvio/netfront.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xen/io/netif.h>

#include <cmocka.h>
#include "sandbox.h"

enum { SANDBOX_MS = 20000 };

RIG uint8_t byte_at(uint64_t offset, unsigned seed)
{
	uint64_t x = (offset / 8 + seed) * 0x9e3779b97f4a7c15ull;

	return (uint8_t)(x >> (8 * (offset % 8)));
}

/* ---- packets ---- */

enum { LARGE = 40000, SMALL = 700, MSS = 1400, HEADERS = 14 + 20 + 20 };

/* Vif 1 of a guest. */
RIG struct pv_netfront *sandbox_vif(int domid, const struct pv_netfront_config *config)
{
	struct pv_netfront_config c = *config;
	struct pv_netfront *f;
	char why[200];

	c.devid = 1;
	c.wait_ms = 10000;
	if (pv_netfront_open(NULL, domid, &c, &f, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return f;
}

RIG void sandbox_connected(struct pv_netfront *f)
{
	uint64_t end = front_now_ms() + SANDBOX_MS;

	while (pv_netfront_state(f) != XenbusStateConnected) {
		if (pv_netfront_work(f) < 0)
			fail_msg("%s", pv_netfront_error(f));
		assert_true(front_now_ms() < end);
	}
}

/* A TCP segment from one to the other, `len` bytes in all; its checksum is blank. */
RIG void fill_packet(uint8_t *p, uint32_t len, const struct pv_netfront *from, const struct pv_netfront *to, unsigned seed)
{
	memset(p, 0, HEADERS);
	memcpy(p, pv_netfront_offer(to)->mac, 6);
	memcpy(p + 6, pv_netfront_offer(from)->mac, 6);
	p[12] = 0x08;
	p[14] = 0x45;
	p[16] = (uint8_t)((len - 14) >> 8);
	p[17] = (uint8_t)(len - 14);
	p[22] = 64;
	p[23] = 6;
	p[26] = p[30] = 10;
	p[29] = from == to ? 1 : 2;
	p[33] = 3;
	p[14 + 20 + 12] = 0x50;
	for (uint32_t i = HEADERS; i < len; i++)
		p[i] = byte_at(i, seed);
}

static struct pv_netfront_packet received; /* the last, less its data */
static unsigned received_on; /* which queue */

/* Send until it arrives: what is sent before the other has posted its pages is lost, as on any wire. */
RIG void send_and_receive(struct pv_netfront *from, struct pv_netfront *to, uint32_t len, bool gso, unsigned seed)
{
	static uint8_t out[65536], in[65536];
	struct pv_netfront_packet tx = { .data = out, .len = len, .csum_blank = true, .gso_type = gso ? XEN_NETIF_GSO_TYPE_TCPV4 : 0,
					 .gso_size = gso ? MSS : 0 };
	struct pv_netfront_packet rx;
	uint64_t end = front_now_ms() + SANDBOX_MS, again = 0;

	fill_packet(out, len, from, to, seed);
	for (;;) {
		assert_true(front_now_ms() < end);
		if (front_now_ms() >= again) {
			assert_true(pv_netfront_send(from, 0, &tx, 1) >= 0);
			again = front_now_ms() + 100;
		}
		assert_true(pv_netfront_work(from) >= 0 && pv_netfront_work(to) >= 0);
		for (unsigned q = 0; q < pv_netfront_queues(to); q++) {
			rx = (struct pv_netfront_packet){ .data = in, .len = sizeof(in) };
			if (pv_netfront_recv(to, q, &rx, 1) != 1 || rx.len != len || memcmp(in + HEADERS, out + HEADERS, len - HEADERS))
				continue;
			assert_true(rx.csum_blank); /* as it was sent: nobody had to look at it */
			assert_int_equal(rx.gso_type, tx.gso_type);
			assert_int_equal(rx.gso_size, tx.gso_size);
			received = rx;
			received_on = q;
			return;
		}
	}
}

#endif
