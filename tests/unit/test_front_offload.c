/* Blank checksums and large TCP packets between the kernel's TAP and Xen's rings. */
#include "frontends/offload.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/netif.h>

#include <cmocka.h>

enum { ALL = PV_VIF_SG | PV_VIF_CSUM_IPV4 | PV_VIF_CSUM_IPV6 | PV_VIF_GSO_TCPV4 | PV_VIF_GSO_TCPV6 };

static uint8_t frame[2048];

/* Sum of 16-bit words, as the receiver of a segment takes it. */
static uint16_t sum16(const uint8_t *p, size_t len, uint32_t s)
{
	for (size_t i = 0; i < len; i++)
		s += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

/* A frame of IPv4 or IPv6 with TCP or UDP, `vlans` tags and a payload; the checksum field holds 0xbeef. Returns its length,
 * and where the segment begins. */
static unsigned build(bool v6, uint8_t proto, unsigned vlans, unsigned payload, unsigned *start)
{
	unsigned head = proto == IPPROTO_TCP ? 20 : 8, size = head + payload;
	uint8_t *p = frame + 12;

	memset(frame, 0, sizeof(frame));
	for (unsigned i = 0; i < vlans; i++, p += 4)
		memcpy(p, "\x81\x00\x00\x05", 4);
	memcpy(p, v6 ? "\x86\xdd" : "\x08\x00", 2);
	p += 2;
	if (v6) {
		p[0] = 0x60;
		p[4] = (uint8_t)(size >> 8);
		p[5] = (uint8_t)size;
		p[6] = proto;
		for (unsigned i = 8; i < 40; i++)
			p[i] = (uint8_t)(i * 11);
		p += 40;
	} else {
		p[0] = 0x45;
		p[2] = (uint8_t)((size + 20) >> 8);
		p[3] = (uint8_t)(size + 20);
		p[9] = proto;
		memcpy(p + 12, "\x0a\x00\x00\x01\x0a\x00\x00\x02", 8);
		p += 20;
	}
	*start = (unsigned)(p - frame);
	if (proto == IPPROTO_TCP)
		p[12] = 5 << 4;
	memcpy(p + (proto == IPPROTO_TCP ? 16 : 6), "\xbe\xef", 2);
	for (unsigned i = 0; i < payload; i++)
		p[head + i] = (uint8_t)(i * 3 + 1);
	return *start + size;
}

static uint32_t pseudo(bool v6, uint8_t proto, unsigned start, unsigned len)
{
	unsigned n = v6 ? 32 : 8;

	return sum16(frame + start - n, n, proto + (len - start));
}

static void header_blank_checksum_each_kind(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		bool v6 = i & 1;
		uint8_t proto = i & 2 ? IPPROTO_TCP : IPPROTO_UDP;
		unsigned start, len = build(v6, proto, i / 4, 101, &start), at = proto == IPPROTO_TCP ? 16 : 6;
		struct pv_netfront_packet p = { .data = frame, .len = len, .csum_blank = true };
		struct virtio_net_hdr h = offload_to_header(frame, &p);

		assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(h.csum_start, start);
		assert_int_equal(h.csum_offset, at);
		assert_int_equal(frame[start + at] << 8 | frame[start + at + 1], pseudo(v6, proto, start, len));
		/* what the kernel makes of it is right: completed, the segment and pseudo header sum up to all ones */
		assert_true(offload_to_packet(frame, len, &h, 0, &p));
		assert_false(p.csum_blank);
		assert_int_equal(sum16(frame + start, len - start, pseudo(v6, proto, start, len)), 0xffff);
	}
}

static void header_gso(void **state)
{
	unsigned start, len = build(false, IPPROTO_TCP, 0, 1500, &start);
	struct pv_netfront_packet p = { .data = frame, .len = len, .csum_blank = true, .gso_type = XEN_NETIF_GSO_TYPE_TCPV4, .gso_size = 500 };
	struct virtio_net_hdr h = offload_to_header(frame, &p);

	(void)state;
	assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(h.gso_size, 500);
	assert_int_equal(h.hdr_len, start + 20);
	assert_true(offload_to_packet(frame, len, &h, ALL, &p));
	assert_int_equal(p.gso_type, XEN_NETIF_GSO_TYPE_TCPV4);
	assert_int_equal(p.gso_size, 500);
	assert_true(p.csum_blank);
}

static void header_nothing_is_blank(void **state)
{
	unsigned start, len = build(false, IPPROTO_TCP, 0, 10, &start);
	struct pv_netfront_packet p = { .data = frame, .len = len, .data_validated = true };
	struct virtio_net_hdr h = offload_to_header(frame, &p);

	(void)state;
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_DATA_VALID);
	assert_int_equal(frame[start + 16], 0xbe); /* untouched */
}

static void header_flags_that_do_not_fit_the_frame(void **state)
{
	static const uint8_t arp[42] = { [12] = 0x08, [13] = 0x06 };
	struct pv_netfront_packet p = { .data = frame, .len = sizeof(arp), .csum_blank = true, .gso_type = XEN_NETIF_GSO_TYPE_TCPV4, .gso_size = 9 };
	struct virtio_net_hdr h;
	unsigned start;

	(void)state;
	memcpy(frame, arp, sizeof(arp));
	h = offload_to_header(frame, &p);
	assert_int_equal(h.flags | h.gso_type, 0);
	p.len = build(false, IPPROTO_TCP, 0, 10, &start);
	frame[20] = 0x20; /* a fragment */
	h = offload_to_header(frame, &p);
	assert_int_equal(h.flags | h.gso_type, 0);
}

static void packet_checksum_that_was_not_agreed_is_completed(void **state)
{
	struct virtio_net_hdr h = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_offset = 16 };
	struct pv_netfront_packet p;
	unsigned start, len = build(true, IPPROTO_TCP, 0, 100, &start);
	uint32_t s = pseudo(true, IPPROTO_TCP, start, len);

	(void)state;
	h.csum_start = (uint16_t)start;
	frame[start + 16] = (uint8_t)(s >> 8);
	frame[start + 17] = (uint8_t)s;
	assert_true(offload_to_packet(frame, len, &h, PV_VIF_CSUM_IPV4, &p));
	assert_false(p.csum_blank);
	assert_int_equal(sum16(frame + start, len - start, s), 0xffff);
	assert_true(offload_to_packet(frame, len, &h, PV_VIF_CSUM_IPV6, &p));
	assert_true(p.csum_blank);
}

static void packet_impossible_headers(void **state)
{
	static const struct virtio_net_hdr bad[] = {
		{ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 65535, .csum_offset = 65535 },
		{ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 60, .csum_offset = 0 },
		{ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 59, .csum_offset = 0 },
		{ .gso_type = VIRTIO_NET_HDR_GSO_UDP },
		{ .gso_type = 77 },
	};
	struct pv_netfront_packet p;

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(offload_to_packet(frame, 60, &bad[i], 0, &p));
}

/* Any bytes, any length: nothing outside of the frame is touched (the sanitizers look), and the header points into it. */
static void header_random_frames(void **state)
{
	(void)state;
	srandom(5);
	for (unsigned i = 0; i < 200000; i++) {
		unsigned len = 14 + (unsigned)random() % 100, start;
		struct pv_netfront_packet p = { .len = len, .csum_blank = true, .gso_type = (uint8_t)(i % 3), .gso_size = 100 };
		uint8_t *copy = malloc(len);
		struct virtio_net_hdr h;

		build(i & 1, i & 2 ? IPPROTO_TCP : IPPROTO_UDP, i / 4 % 4, 60, &start);
		memcpy(copy, frame, len);
		for (unsigned n = 0; n < i % 7; n++)
			copy[(unsigned)random() % len] = (uint8_t)random();
		p.data = copy;
		h = offload_to_header(copy, &p);
		if (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
			assert_true(h.csum_start + h.csum_offset + 2u <= len);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_blank_checksum_each_kind),
		cmocka_unit_test(header_gso),
		cmocka_unit_test(header_nothing_is_blank),
		cmocka_unit_test(header_flags_that_do_not_fit_the_frame),
		cmocka_unit_test(packet_checksum_that_was_not_agreed_is_completed),
		cmocka_unit_test(packet_impossible_headers),
		cmocka_unit_test(header_random_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
