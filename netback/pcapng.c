/* pcapng.c - the blocks of a pcapng file (draft-ietf-opsawg-pcapng), little-endian; pure.
 *
 * A block: type, length, body, options, length again; all in units of four bytes. */
#include "capture.h"
#include <endian.h>
#include <string.h>

enum { SECTION = 0x0a0d0d0a, INTERFACE = 1, STATISTICS = 5, PACKET = 6 };
enum { ETHERNET = 1, NANOSECONDS = 9, OPT_END = 0, SHB_USERAPPL = 4, IF_NAME = 2, IF_MAC = 6, IF_TSRESOL = 9, EPB_FLAGS = 2,
       ISB_STARTTIME = 2, ISB_ENDTIME = 3, ISB_IFRECV = 4, ISB_IFDROP = 5, ISB_USRDELIV = 8 };

/* Where the next byte of a block goes. The callers' buffers have PCAPNG_ROOM beside a packet's bytes. */
struct block {
	uint8_t *begin, *at;
};

static void put_bytes(struct block *b, const void *data, size_t n)
{
	memcpy(b->at, data, n);
	b->at += n;
	while ((b->at - b->begin) % 4)
		*b->at++ = 0;
}

static void put16(struct block *b, uint16_t v)
{
	v = htole16(v);
	memcpy(b->at, &v, sizeof(v));
	b->at += sizeof(v);
}

static void put32(struct block *b, uint32_t v)
{
	v = htole32(v);
	put_bytes(b, &v, sizeof(v));
}

/* A time or count of 64 bits is two words, the high one first. */
static void put_time(struct block *b, uint64_t v)
{
	put32(b, (uint32_t)(v >> 32));
	put32(b, (uint32_t)v);
}

static void put_option(struct block *b, uint16_t code, const void *value, uint16_t len)
{
	put16(b, code);
	put16(b, len);
	put_bytes(b, value, len);
}

static void put_option_count(struct block *b, uint16_t code, uint64_t v)
{
	v = htole64(v);
	put_option(b, code, &v, sizeof(v));
}

static void put_option_time(struct block *b, uint16_t code, uint64_t v)
{
	put16(b, code);
	put16(b, sizeof(v));
	put_time(b, v);
}

static struct block begin(uint8_t *buf, uint32_t type)
{
	struct block b = { buf, buf };

	put32(&b, type);
	put32(&b, 0); /* its length: end() knows it */
	return b;
}

static size_t end(struct block *b)
{
	uint32_t len = htole32((uint32_t)(b->at - b->begin) + 4);

	put_bytes(b, &len, sizeof(len));
	memcpy(b->begin + 4, &len, sizeof(len));
	return (size_t)(b->at - b->begin);
}

size_t pcapng_begin(uint8_t *buf, const char *name, const uint8_t mac[6], uint32_t snaplen)
{
	static const char program[] = "pvio-netback " PVIO_VERSION;
	const uint8_t resolution = NANOSECONDS;
	struct block b = begin(buf, SECTION);
	size_t n;

	put32(&b, 0x1a2b3c4d); /* tells the byte order */
	put16(&b, 1); /* version 1.0 */
	put16(&b, 0);
	put_time(&b, UINT64_MAX); /* the section's length is not known */
	put_option(&b, SHB_USERAPPL, program, sizeof(program) - 1);
	put_option(&b, OPT_END, "", 0);
	n = end(&b);
	b = begin(buf + n, INTERFACE);
	put16(&b, ETHERNET);
	put16(&b, 0);
	put32(&b, snaplen);
	put_option(&b, IF_NAME, name, (uint16_t)strnlen(name, PCAPNG_NAME_MAX));
	put_option(&b, IF_MAC, mac, 6);
	put_option(&b, IF_TSRESOL, &resolution, 1);
	put_option(&b, OPT_END, "", 0);
	return n + end(&b);
}

size_t pcapng_packet(uint8_t *buf, uint64_t ns, enum pcapng_direction direction, uint32_t len, const void *data, uint32_t cap)
{
	const uint32_t flags = htole32(direction);
	struct block b = begin(buf, PACKET);

	put32(&b, 0); /* of the only interface */
	put_time(&b, ns);
	put32(&b, cap);
	put32(&b, len);
	put_bytes(&b, data, cap);
	put_option(&b, EPB_FLAGS, &flags, sizeof(flags));
	put_option(&b, OPT_END, "", 0);
	return end(&b);
}

size_t pcapng_end(uint8_t *buf, const struct pcapng_totals *t)
{
	struct block b = begin(buf, STATISTICS);

	put32(&b, 0);
	put_time(&b, t->end_ns);
	put_option_time(&b, ISB_STARTTIME, t->begin_ns);
	put_option_time(&b, ISB_ENDTIME, t->end_ns);
	put_option_count(&b, ISB_IFRECV, t->written + t->dropped);
	put_option_count(&b, ISB_IFDROP, t->dropped);
	put_option_count(&b, ISB_USRDELIV, t->written);
	put_option(&b, OPT_END, "", 0);
	return end(&b);
}
