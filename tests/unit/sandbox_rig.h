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
#include "tcp.h"

enum { SANDBOX_MS = 20000 };

RIG uint8_t byte_at(uint64_t offset, unsigned seed)
{
	uint64_t x = (offset / 8 + seed) * 0x9e3779b97f4a7c15ull;

	return (uint8_t)(x >> (8 * (offset % 8)));
}

/* ---- packets ---- */

enum { LARGE = 40000, SMALL = 700, MSS = 1400 };

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
RIG void fill_packet(uint8_t *p, bool v6, uint32_t len, const struct pv_netfront *from, const struct pv_netfront *to, unsigned seed)
{
	tcp_headers(p, v6, len, pv_netfront_offer(to)->mac, pv_netfront_offer(from)->mac);
	for (uint32_t i = tcp_payload(p); i < len; i++)
		p[i] = byte_at(i, seed);
}

static struct pv_netfront_packet received; /* the last, less its data */
static unsigned received_on; /* which queue */

/* What the receiver is to get of a packet when `done` bytes of its payload have arrived: all of it, as it was sent, or what is cut or completed for
 * it. Its flags too. */
RIG struct pv_netfront_packet due(const struct pv_netfront *to, const struct pv_netfront_packet *tx, uint32_t done)
{
	static uint8_t piece[65536];
	bool v6 = tcp_at(tx->data) == 54;
	uint32_t features = pv_netfront_features(to);

	if (tx->gso_type && !(features & (v6 ? PV_VIF_GSO_TCPV6 : PV_VIF_GSO_TCPV4)))
		return (struct pv_netfront_packet){ .data = piece, .len = tcp_piece(piece, tx->data, tx->len, done, tx->gso_size) };
	if (!(features & (v6 ? PV_VIF_CSUM_IPV6 : PV_VIF_CSUM_IPV4)))
		return (struct pv_netfront_packet){ .data = piece, .len = tcp_piece(piece, tx->data, tx->len, 0, tx->len) };
	return *tx;
}

/* Send until it arrives: what is sent before the other has posted its pages is lost, as on any wire. */
RIG void send_and_receive(struct pv_netfront *from, struct pv_netfront *to, bool v6, uint32_t len, bool gso, unsigned seed)
{
	static uint8_t out[65536], in[65536];
	struct pv_netfront_packet tx = { .data = out, .len = len, .csum_blank = true, .gso_size = gso ? MSS : 0,
					 .gso_type = !gso ? 0 : v6 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4 };
	struct pv_netfront_packet rx, want;
	uint64_t end = front_now_ms() + SANDBOX_MS, again = 0;
	uint32_t done = 0;

	fill_packet(out, v6, len, from, to, seed);
	for (;;) {
		assert_true(front_now_ms() < end);
		if (front_now_ms() >= again) {
			assert_true(pv_netfront_send(from, 0, &tx, 1) >= 0);
			again = front_now_ms() + 100;
			done = 0;
		}
		assert_true(pv_netfront_work(from) >= 0 && pv_netfront_work(to) >= 0);
		for (unsigned q = 0; q < pv_netfront_queues(to); q++) {
			rx = (struct pv_netfront_packet){ .data = in, .len = sizeof(in) };
			want = due(to, &tx, done);
			if (pv_netfront_recv(to, q, &rx, 1) != 1 || rx.len != want.len || memcmp(in, want.data, want.len))
				continue;
			assert_int_equal(rx.csum_blank, want.csum_blank);
			assert_int_equal(rx.gso_type, want.gso_type);
			assert_int_equal(rx.gso_size, want.gso_size);
			received = rx;
			received_on = q;
			done += rx.len - tcp_payload(out);
			if (done == len - tcp_payload(out))
				return;
		}
	}
}

#endif
