/* tcp.h - for tests: TCP segments over IPv4 and IPv6 as a guest sends them, their checksums blank, and what is to come of them where
 * they are cut or completed. */
#ifndef TCP_H
#define TCP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { V4, V6, TCP_HEADERS_MAX = 14 + 40 + 20 };
enum { TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_ACK = 0x10, TCP_CWR = 0x80 };

static inline void put16(uint8_t *p, unsigned n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

static inline unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static inline uint16_t sum16(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += get16(p + i);
	if (n & 1)
		sum += (uint32_t)p[n - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Where a frame's TCP header begins, and its payload. */
static inline unsigned tcp_at(const uint8_t *p)
{
	return get16(p + 12) == 0x86dd ? 54 : 34;
}

static inline unsigned tcp_payload(const uint8_t *p)
{
	return tcp_at(p) + 20;
}

/* The sum over the pseudo header of a frame of len bytes. */
static inline uint16_t tcp_pseudo(const uint8_t *p, unsigned len)
{
	unsigned at = tcp_at(p), n = at == 54 ? 32 : 8;

	return sum16(p + at - n, n, 6 + len - at);
}

/* All headers of a frame of len bytes. Whoever cuts it has a sequence number and an identification that wrap, and flags that are the first or the last
 * piece's alone. */
static inline void tcp_headers(uint8_t *p, bool v6, unsigned len, const uint8_t to[6], const uint8_t from[6])
{
	uint8_t *ip = p + 14, *tcp;

	memset(p, 0, v6 ? 74 : 54);
	memcpy(p, to, 6);
	memcpy(p + 6, from, 6);
	put16(p + 12, v6 ? 0x86dd : 0x0800);
	if (v6) {
		ip[0] = 0x60;
		put16(ip + 4, len - 54);
		ip[6] = 6;
		ip[7] = 64;
		ip[8] = ip[24] = 0xfd;
		memcpy(ip + 18, from, 6);
		memcpy(ip + 34, to, 6);
	} else {
		ip[0] = 0x45;
		put16(ip + 2, len - 14);
		put16(ip + 4, 0xfffe);
		ip[8] = 64;
		ip[9] = 6;
		ip[12] = ip[16] = 10;
		memcpy(ip + 13, from + 3, 3);
		memcpy(ip + 17, to + 3, 3);
		put16(ip + 10, (uint16_t)~sum16(ip, 20, 0));
	}
	tcp = p + tcp_at(p);
	put16(tcp + 4, 0xffff);
	put16(tcp + 6, 0xfc00);
	tcp[12] = 0x50;
	tcp[13] = TCP_CWR | TCP_ACK | TCP_PSH | TCP_FIN;
}

/* Of a frame that is cut into pieces of mss bytes the one with the payload from `done` on: complete, with its checksums. Returns its length. One piece
 * is the frame itself, complete. */
static inline unsigned tcp_piece(uint8_t *piece, const uint8_t *p, unsigned len, unsigned done, unsigned mss)
{
	unsigned head = tcp_payload(p), left = len - head - done, n = left < mss ? left : mss;
	uint8_t *ip = piece + 14, *tcp = piece + tcp_at(p);
	uint32_t seq;

	memcpy(piece, p, head);
	memcpy(piece + head, p + head + done, n);
	seq = (get16(tcp + 4) << 16 | get16(tcp + 6)) + done;
	put16(tcp + 4, seq >> 16);
	put16(tcp + 6, seq);
	if (done)
		tcp[13] &= (uint8_t)~TCP_CWR;
	if (n < left)
		tcp[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
	if (head == TCP_HEADERS_MAX) {
		put16(ip + 4, 20 + n);
	} else {
		put16(ip + 2, 40 + n);
		put16(ip + 4, get16(ip + 4) + done / mss);
		put16(ip + 10, 0);
		put16(ip + 10, (uint16_t)~sum16(ip, 20, 0));
	}
	put16(tcp + 16, 0);
	put16(tcp + 16, (uint16_t)~sum16(tcp, 20 + n, tcp_pseudo(piece, head + n)));
	return head + n;
}

#endif
