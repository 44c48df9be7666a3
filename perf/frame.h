/* frame.h - the packets that the measuring programs send, and how each of them looks at what it got. */
#ifndef PERF_FRAME_H
#define PERF_FRAME_H

#include <stdbool.h>
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <string.h>

enum {
	FRAME_BURST = 32,
	FRAME_MTU = 1514, /* longer frames are large TCP packets, to be cut by whoever cannot take them */
	FRAME_GSO = 65226, /* what Linux sends as 64 KiB: 45 segments ... */
	FRAME_MSS = 1448,
	FRAME_MAX = 65535,
};

static inline uint16_t frame_checksum(const void *header, size_t len)
{
	const uint16_t *w = header;
	uint32_t sum = 0;

	for (size_t i = 0; i < len / 2; i++)
		sum += w[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~(sum + (sum >> 16));
}

/* A UDP datagram, or above FRAME_MTU a TCP packet with its checksum left blank, of len bytes as a frame. */
static inline void frame_make(uint8_t *frame, unsigned len, const uint8_t *dst, const uint8_t *src)
{
	struct ether_header *eth = (void *)frame;
	struct iphdr *ip = (void *)(eth + 1);
	uint16_t ip_len = (uint16_t)(len - sizeof(*eth));
	bool tcp = len > FRAME_MTU;

	memset(frame, 0, len);
	memcpy(eth->ether_dhost, dst, 6);
	memcpy(eth->ether_shost, src, 6);
	eth->ether_type = htons(ETHERTYPE_IP);
	*ip = (struct iphdr){ .version = 4, .ihl = 5, .tot_len = htons(ip_len), .ttl = 64, .protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP,
			      .saddr = htonl(0xc6120001), .daddr = htonl(0xc6120002) };
	ip->check = frame_checksum(ip, sizeof(*ip));
	if (tcp)
		*(struct tcphdr *)(ip + 1) = (struct tcphdr){ .source = htons(9), .dest = htons(9), .doff = 8, .ack = 1 };
	else
		*(struct udphdr *)(ip + 1) = (struct udphdr){ .source = htons(9), .dest = htons(9),
							      .len = htons((uint16_t)(ip_len - sizeof(*ip))) };
}

/* Look at what arrived: one word of each cache line, and one of the last bytes. */
static inline uint32_t frame_look(const void *data, uint32_t len)
{
	const uint8_t *p = data;
	uint32_t sum = 0;

	for (uint32_t i = 0; i + 4 <= len; i += 64)
		sum += *(const volatile uint32_t *)(p + i);
	return sum;
}

#endif
