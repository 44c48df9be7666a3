/* test_netback_pcapng.c - blocks of a pcapng file, byte by byte as the draft has them. */
#include "netback/capture.h"
#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const uint8_t mac[6] = { 0x00, 0x16, 0x3e, 1, 2, 3 };

/* Each block in memory of its exact size: what is written or read beyond it is seen. */
static uint8_t *buf;

static int setup(void **state)
{
	(void)state;
	buf = malloc(2 * PCAPNG_ROOM);
	memset(buf, 0xee, 2 * PCAPNG_ROOM);
	return buf ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	free(buf);
	return 0;
}

static uint32_t word(size_t at)
{
	uint32_t v;

	memcpy(&v, buf + at, sizeof(v));
	return le32toh(v);
}

static void is_block(size_t at, size_t size, uint32_t type)
{
	assert_int_equal(size % 4, 0);
	assert_int_equal(word(at), type);
	assert_int_equal(word(at + 4), size);
	assert_int_equal(word(at + size - 4), size);
	assert_int_equal(word(at + size - 8), 0); /* the end of the options */
	assert_int_equal(buf[at + size], 0xee); /* nothing behind it */
}

/* Where the value of an option is; 0: there is none. */
static size_t option(size_t at, size_t begin, unsigned code, unsigned *len)
{
	size_t end = at + word(at + 4) - 4;

	for (at += begin; at < end && (word(at) & 0xffff) != code; at += 4 + ((word(at) >> 16) + 3) / 4 * 4)
		if (!(word(at) & 0xffff))
			return 0;
	*len = word(at) >> 16;
	return at + 4;
}

static void begin_is_a_section_and_an_interface(void **state)
{
	size_t n = pcapng_begin(buf, "web/vif0", mac, 96), section = word(4), at;
	unsigned len;

	(void)state;
	assert_int_equal(word(0), 0x0a0d0d0a);
	assert_int_equal(word(section - 4), section);
	assert_int_equal(word(8), 0x1a2b3c4d);
	assert_int_equal(word(12), 1); /* version 1.0 */
	is_block(section, n - section, 1);
	assert_int_equal(word(section + 8), 1); /* Ethernet */
	assert_int_equal(word(section + 12), 96);
	at = option(section, 16, 2, &len);
	assert_int_equal(len, 8);
	assert_memory_equal(buf + at, "web/vif0", 8);
	at = option(section, 16, 6, &len);
	assert_int_equal(len, 6);
	assert_memory_equal(buf + at, mac, 6);
	at = option(section, 16, 9, &len);
	assert_int_equal(len, 1);
	assert_int_equal(buf[at], 9); /* nanoseconds */
}

static void begin_cuts_a_long_name(void **state)
{
	char name[4 * PCAPNG_ROOM];
	unsigned len;
	size_t n;

	(void)state;
	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	n = pcapng_begin(buf, name, mac, 65535);
	assert_true(n <= PCAPNG_ROOM);
	assert_int_not_equal(option(word(4), 16, 2, &len), 0);
	assert_int_equal(len, PCAPNG_NAME_MAX);
}

static void packet_has_what_was_captured(void **state)
{
	const uint64_t ns = 1700000000123456789u;
	uint8_t data[70];
	unsigned len;

	(void)state;
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i + 1);
	for (unsigned cap = 0; cap <= sizeof(data); cap++) {
		size_t n, padded = (cap + 3) / 4 * 4, at;

		memset(buf, 0xee, 2 * PCAPNG_ROOM);
		n = pcapng_packet(buf, ns, cap & 1 ? PCAPNG_INBOUND : PCAPNG_OUTBOUND, 1500, data, cap);
		assert_true(n <= PCAPNG_ROOM + cap);
		is_block(0, n, 6);
		assert_int_equal(word(8), 0);
		assert_int_equal((uint64_t)word(12) << 32 | word(16), ns);
		assert_int_equal(word(20), cap);
		assert_int_equal(word(24), 1500);
		assert_memory_equal(buf + 28, data, cap);
		for (size_t i = 28 + cap; i < 28 + padded; i++)
			assert_int_equal(buf[i], 0);
		at = option(0, 28 + padded, 2, &len);
		assert_int_equal(len, 4);
		assert_int_equal(word(at), cap & 1 ? 1 : 2);
	}
}

static void end_has_the_totals(void **state)
{
	const struct pcapng_totals t = { .begin_ns = 5ull << 32 | 6, .end_ns = 7ull << 32 | 8, .written = 100, .dropped = 3ull << 32 };
	size_t n = pcapng_end(buf, &t), at;
	unsigned len;

	(void)state;
	is_block(0, n, 5);
	assert_int_equal((uint64_t)word(12) << 32 | word(16), t.end_ns);
	at = option(0, 20, 2, &len); /* times: the high word first */
	assert_int_equal(word(at), 5);
	assert_int_equal(word(at + 4), 6);
	at = option(0, 20, 5, &len); /* counts: 64 bits */
	assert_int_equal(len, 8);
	assert_int_equal(word(at), 0);
	assert_int_equal(word(at + 4), 3);
	at = option(0, 20, 4, &len); /* received: those that were dropped as well */
	assert_int_equal(word(at), 100);
	assert_int_equal(word(at + 4), 3);
	at = option(0, 20, 8, &len);
	assert_int_equal(word(at), 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(begin_is_a_section_and_an_interface, setup, teardown),
		cmocka_unit_test_setup_teardown(begin_cuts_a_long_name, setup, teardown),
		cmocka_unit_test_setup_teardown(packet_has_what_was_captured, setup, teardown),
		cmocka_unit_test_setup_teardown(end_has_the_totals, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
