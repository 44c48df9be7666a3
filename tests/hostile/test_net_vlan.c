/* VLANs against guests who want to be in another: real frontends on the real netback, and a TAP whose other end is this test, in a network
 * namespace of its own. Each guest says what it got; whoever is to get nothing is asked after a packet that it must get. */
#include "net_rig.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sched.h>
#include <sys/uio.h>

enum { TEN = 10, TWENTY = 20 };

static uint8_t sent[65536], got[65536];
static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static const uint8_t wire_mac[6] = { 0x02, 0xcc, 0, 0, 0, 1 };
static struct net_guest ten, ten2, twenty, trunk; /* peers.a and peers.b are in none */
static int wire = -1;

static void wire_open(void)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex("pvnt0") };
	struct timeval patience = { .tv_sec = 5 };
	int on = 1;

	wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
	assert_true(wire >= 0);
	assert_int_equal(bind(wire, (struct sockaddr *)&ll, sizeof(ll)), 0);
	assert_int_equal(setsockopt(wire, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)), 0); /* the kernel takes tags off */
	assert_int_equal(setsockopt(wire, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
}

/* The next frame from this address, without its tag. Returns its length; *vlan: the tag's, 0: it had none. */
static unsigned wire_recv(const uint8_t from[6], unsigned *vlan)
{
	for (;;) {
		union {
			struct cmsghdr h;
			char room[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
		} c;
		struct iovec iov = { got, sizeof(got) };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };
		ssize_t n = recvmsg(wire, &m, 0);
		struct tpacket_auxdata aux = { 0 };

		if (n < 14)
			return 0;
		if (memcmp(got + 6, from, 6))
			continue;
		if (CMSG_FIRSTHDR(&m))
			memcpy(&aux, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(aux));
		*vlan = aux.tp_status & TP_STATUS_VLAN_VALID ? aux.tp_vlan_tci & 0xfff : 0;
		if (!*vlan && got[12] == 0x81 && got[13] == 0) { /* a kernel that leaves them where they are */
			*vlan = (got[14] << 8 | got[15]) & 0xfff;
			memmove(got + 12, got + 16, (size_t)n - 16);
			n -= 4;
		}
		return (unsigned)n;
	}
}

/* 100 bytes; the seed stands where no tag moves it away from. */
static void fill(const uint8_t to[6], const uint8_t from[6], unsigned seed)
{
	frame(sent, to, from, 100, seed);
	memset(sent + 50, (int)seed, 20);
}

/* A frame with these tags (TPID, TCI, ..., 0). Returns its length. */
static unsigned tagged(const uint8_t to[6], const uint8_t from[6], const uint16_t *tags, unsigned seed)
{
	unsigned n = 12;

	fill(to, from, seed);
	for (; *tags; tags++, n += 2) {
		sent[n] = (uint8_t)(*tags >> 8);
		sent[n + 1] = (uint8_t)*tags;
	}
	sent[n] = sent[n + 1] = 0x88;
	return 100;
}

#define TAGS(...) ((const uint16_t[]){ __VA_ARGS__ __VA_OPT__(,) 0 })

static void send_frame(struct net_guest *g, unsigned len)
{
	tx_packet(g, 0, 0, sent, len);
	tx_publish(g, 0);
	assert_true(tx_answers(g, 0, 1, NULL, PATIENCE));
}

static void wire_send(unsigned len)
{
	assert_int_equal(send(wire, sent, len, 0), len);
}

/* It gets exactly one packet with this seed next: nothing that was sent before. */
static unsigned gets(struct net_guest *g, unsigned seed)
{
	unsigned n;

	rx_post(g, 0, 1);
	n = rx_packet(g, 0, got, NULL, PATIENCE);
	if (!n)
		fail_msg("packet %u did not arrive", seed);
	if (got[60] != seed)
		fail_msg("it is not packet %u that arrived, but %u", seed, got[60]);
	return n;
}

static void frame_from(struct net_guest *from, const uint8_t to[6], unsigned seed)
{
	fill(to, from->mac, seed);
	send_frame(from, 100);
}

static void flood_stays_inside(void **state)
{
	unsigned vlan;

	(void)state;
	frame_from(&ten, all, 1); /* in VLAN 10: ten2, the trunk, the wire */
	assert_int_equal(gets(&ten2, 1), 100);
	assert_int_equal(gets(&trunk, 1), 104);
	assert_memory_equal(got + 12, "\x81\x00\x00\x0a", 4);
	assert_int_equal(wire_recv(ten.mac, &vlan), 100);
	assert_int_equal(vlan, TEN);
	frame_from(&twenty, all, 2); /* in VLAN 20: the trunk, the wire */
	assert_int_equal(gets(&trunk, 2), 104);
	assert_memory_equal(got + 12, "\x81\x00\x00\x14", 4);
	assert_int_equal(wire_recv(twenty.mac, &vlan), 100);
	assert_int_equal(vlan, TWENTY);
	frame_from(&peers.a, all, 3); /* in none: b, the wire */
	assert_int_equal(gets(&peers.b, 3), 100);
	assert_int_equal(wire_recv(peers.a.mac, &vlan), 100);
	assert_int_equal(vlan, 0);
	frame_from(&ten, ten2.mac, 4); /* so whatever got into one of these from another would be before this */
	assert_int_equal(gets(&ten2, 4), 100);
	frame_from(&ten2, ten.mac, 5);
	assert_int_equal(gets(&ten, 5), 100);
	tagged(twenty.mac, trunk.mac, TAGS(0x8100, TWENTY), 6);
	send_frame(&trunk, 100);
	assert_int_equal(gets(&twenty, 6), 96);
	frame_from(&peers.b, peers.a.mac, 7);
	assert_int_equal(gets(&peers.a, 7), 100);
}

static void addresses_are_of_a_vlan(void **state)
{
	unsigned vlan;

	(void)state;
	frame_from(&ten, twenty.mac, 11); /* unknown in VLAN 10: to all of it, and not to twenty */
	assert_int_equal(gets(&ten2, 11), 100);
	assert_int_equal(gets(&trunk, 11), 104);
	assert_int_equal(wire_recv(ten.mac, &vlan), 100);
	frame_from(&peers.a, ten.mac, 12);
	assert_int_equal(gets(&peers.b, 12), 100);
	assert_int_equal(wire_recv(peers.a.mac, &vlan), 100);
	tagged(twenty.mac, trunk.mac, TAGS(0x8100, TWENTY), 13);
	send_frame(&trunk, 100);
	assert_int_equal(gets(&twenty, 13), 96);
	frame_from(&ten, trunk.mac, 14); /* the trunk's own address is known in each of its VLANs */
	assert_int_equal(gets(&trunk, 14), 104);
	frame_from(&twenty, trunk.mac, 15);
	assert_int_equal(gets(&trunk, 15), 104);
	fill(trunk.mac, trunk.mac, 16); /* ... and nobody takes it, by sending from it */
	send_frame(&ten, 100);
	assert_int_equal(gets(&trunk, 16), 104);
	frame_from(&ten2, trunk.mac, 17);
	assert_int_equal(gets(&trunk, 17), 104);
}

static void tags_that_a_guest_may_not_send(void **state)
{
	const struct { struct net_guest *from; const uint16_t *tags; } hop[] = {
		{ &ten, TAGS(0x8100, TWENTY) }, { &ten, TAGS(0x8100, TEN) }, { &ten, TAGS(0x8100, TEN, 0x8100, TWENTY) },
		{ &ten, TAGS(0x8100, 0xe000) }, { &ten, TAGS(0x8100, 0xe000, 0x8100, TWENTY) }, { &ten, TAGS(0x88a8, TEN, 0x8100, TWENTY) },
		{ &ten, TAGS(0x9100, TEN, 0x8100, TWENTY) },
		{ &peers.a, TAGS(0x8100, TEN) }, { &peers.a, TAGS(0x8100, 99, 0x8100, TEN) }, { &peers.a, TAGS(0x88a8, TEN) },
		{ &peers.a, TAGS(0x8100, 0xe000) },
		{ &trunk, TAGS() }, { &trunk, TAGS(0x8100, 11) }, { &trunk, TAGS(0x8100, TEN, 0x8100, 11) }, { &trunk, TAGS(0x8100, 0xe000, 0x8100, TEN) },
		{ &trunk, TAGS(0x88a8, TEN) }, { &trunk, TAGS(0x8100, 0xfff) },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(hop) / sizeof(hop[0]); i++) {
		int64_t before = guest_stat(hop[i].from, NULL, "tx_vlan");

		send_frame(hop[i].from, tagged(all, hop[i].from->mac, hop[i].tags, 100 + i));
		assert_int_equal(guest_stat(hop[i].from, NULL, "tx_vlan"), before + 1);
	}
	flood_stays_inside(state); /* and nobody got any of these */
}

static void from_the_wire(void **state)
{
	(void)state;
	wire_send(tagged(all, wire_mac, TAGS(0x8100, TEN), 21));
	assert_int_equal(gets(&ten, 21), 96);
	assert_int_equal(gets(&ten2, 21), 96);
	assert_int_equal(gets(&trunk, 21), 100);
	wire_send(tagged(all, wire_mac, TAGS(0x8100, 77), 22)); /* nobody's */
	wire_send(tagged(all, wire_mac, TAGS(), 23));
	assert_int_equal(gets(&peers.a, 23), 100);
	assert_int_equal(gets(&peers.b, 23), 100);
	wire_send(tagged(all, wire_mac, TAGS(0x8100, 0xe000), 24)); /* a priority alone */
	assert_int_equal(gets(&peers.a, 24), 96);
	assert_int_equal(gets(&peers.b, 24), 96);
	wire_send(tagged(twenty.mac, wire_mac, TAGS(0x8100, TEN), 25)); /* twenty's address, in another VLAN */
	assert_int_equal(gets(&ten, 25), 96);
	assert_int_equal(gets(&ten2, 25), 96);
	assert_int_equal(gets(&trunk, 25), 100);
	wire_send(tagged(twenty.mac, wire_mac, TAGS(0x8100, TWENTY), 26));
	assert_int_equal(gets(&twenty, 26), 96);
}

/* A large packet with a blank checksum: whole to who is in the VLAN untagged, cut and complete to the trunk. */
static void large_packets(void **state)
{
	struct net_guest *const to[] = { &ten2, &trunk };
	struct pv_net_rx_packet p;
	uint8_t piece[2000];

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct net_guest *g = to[i & 1];
		unsigned len = tcp_frame(sent, i / 2 ? V6 : V4, g->mac, ten.mac, 20000, 80), n;

		rx_post(g, 0, 40);
		tx_tcp(&ten, sent, len, 1400);
		if (g == &ten2) {
			assert_int_equal(rx_packet(g, 0, got, &p, PATIENCE), len);
			assert_int_equal(p.gso_size, 1400);
			continue;
		}
		for (unsigned done = 0; done < 20000; done += n - tcp_payload(sent)) {
			n = tcp_piece(piece, sent, len, done, 1400);
			assert_int_equal(rx_packet(g, 0, got, &p, PATIENCE), n + 4);
			assert_memory_equal(got, piece, 12);
			assert_memory_equal(got + 12, "\x81\x00\x00\x0a", 4);
			assert_memory_equal(got + 16, piece + 12, n - 12);
			assert_int_equal(p.flags & NETRXF_csum_blank, 0);
		}
	}
}

/* The first vif with a VLAN makes tags known, the last takes that along. */
static void without_vlans_tags_are_payload(void **state)
{
	(void)state;
	guest_down(&ten);
	guest_down(&ten2);
	guest_down(&twenty);
	send_frame(&peers.a, tagged(peers.b.mac, peers.a.mac, TAGS(0x8100, TEN), 30));
	guest_down(&trunk);
	send_frame(&peers.a, tagged(peers.b.mac, peers.a.mac, TAGS(0x8100, TEN), 31));
	assert_int_equal(gets(&peers.b, 31), 100);
	rig_check();
}

static const char *workers;

static int up(void **state)
{
	(void)state;
	rig_open((const char *const[]){ "--uplink", "tap:pvnt0", "--workers", workers, NULL });
	wire_open();
	guest_up(&ten, 1, ALL_FEATURES, "{\"mtu\":\"65521\",\"vlan\":\"10\"}");
	guest_up(&ten2, 1, ALL_FEATURES, "{\"mtu\":\"65521\",\"vlan\":\"10\"}");
	guest_up(&twenty, 1, ALL_FEATURES, "{\"vlan\":\"20\"}");
	guest_up(&trunk, 1, ALL_FEATURES, "{\"trunk\":\"10,20-30\"}");
	return 0;
}

static int down(void **state)
{
	(void)state;
	close(wire);
	rig_close();
	return 0;
}

/* The kernel would greet the TAP with packets of its own. */
static void silence(void)
{
	int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);

	if (fd >= 0 && write(fd, "1", 1) < 0)
		perror("disable_ipv6");
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flood_stays_inside),
		cmocka_unit_test(addresses_are_of_a_vlan),
		cmocka_unit_test(tags_that_a_guest_may_not_send),
		cmocka_unit_test(from_the_wire),
		cmocka_unit_test(large_packets),
		cmocka_unit_test(without_vlans_tags_are_payload),
	};
	int ret = 0;

	if (unshare(CLONE_NEWNET) < 0) {
		printf("SKIP need=root: a network namespace for the TAP: %s\n", strerror(errno));
		return 77;
	}
	if (access("/dev/net/tun", R_OK | W_OK) < 0) {
		printf("SKIP need=tun: /dev/net/tun: %s\n", strerror(errno));
		return 77;
	}
	silence();
	for (int n = 1; n <= 2; n++) {
		workers = n == 1 ? "1" : "2";
		ret |= cmocka_run_group_tests_name(n == 1 ? "one worker" : "two workers", tests, up, down);
	}
	return ret;
}
