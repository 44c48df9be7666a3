/* The way out: a TAP in a network namespace of its own, whose other end is this test; and net_null. Also what the program says when it
 * cannot start, and that it leaves nothing behind. */
#include "net_rig.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/uio.h>

static uint8_t sent[65536], got[65536];
static const uint8_t wire_mac[6] = { 0x02, 0xcc, 0, 0, 0, 1 };
static int wire = -1;

static void wire_open(void)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex("pvnt0") };
	struct packet_mreq mreq = { .mr_ifindex = ll.sll_ifindex, .mr_type = PACKET_MR_PROMISC };
	struct timeval patience = { .tv_sec = 5 };

	assert_true(ll.sll_ifindex > 0);
	wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
	assert_true(wire >= 0);
	assert_int_equal(bind(wire, (struct sockaddr *)&ll, sizeof(ll)), 0);
	assert_int_equal(setsockopt(wire, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mreq, sizeof(mreq)), 0);
	assert_int_equal(setsockopt(wire, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
}

/* The next frame from this address; the kernel sends some of its own. 0: none comes. */
static unsigned wire_recv(const uint8_t from[6])
{
	for (;;) {
		ssize_t n = recv(wire, got, sizeof(got), 0);

		if (n < 14)
			return 0;
		if (!memcmp(got + 6, from, 6))
			return (unsigned)n;
	}
}

/* The next packet of a guest from this address. */
static unsigned guest_recv(struct net_guest *g, const uint8_t from[6], int ms)
{
	for (;;) {
		unsigned n = rx_packet(g, 0, got, NULL, ms);

		if (!n || !memcmp(got + 6, from, 6))
			return n;
		rx_post(g, 0, 1);
	}
}

static void guest_to_wire_and_back(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 30; i++) {
		unsigned len = 60 + i * 48;

		frame(sent, wire_mac, peers.a.mac, len, i);
		tx_packet(&peers.a, 0, 0, sent, len);
		tx_publish(&peers.a, 0);
		assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
		assert_int_equal(wire_recv(peers.a.mac), len);
		assert_memory_equal(got, sent, len);
		if (i % 10 == 0)
			usleep(5000); /* it sleeps, and the wire must wake it */
		frame(sent, peers.b.mac, wire_mac, len, i + 100);
		rx_post(&peers.b, 0, 1);
		assert_int_equal(send(wire, sent, len, 0), len);
		assert_int_equal(guest_recv(&peers.b, wire_mac, PATIENCE), len);
		assert_memory_equal(got, sent, len);
	}
	assert_true(guest_stat(&peers.a, "uplink", "tx_packets") >= 30);
	assert_true(guest_stat(&peers.a, "uplink", "rx_packets") >= 30);
	assert_string_equal(json_object_get_string(json_object_object_get(json_object_object_get(rig_last.result, "backend"), "idle")), "interrupt");
	exchange(&peers.a, &peers.b, 100, 1); /* between guests it does not go out */
}

static void wire_address_is_learned(void **state)
{
	static const uint8_t other[6] = { 0x02, 0xcc, 0, 0, 0, 2 };

	(void)state;
	rx_post(&peers.b, 0, 1);
	frame(sent, other, peers.a.mac, 60, 1);
	tx_packet(&peers.a, 0, 0, sent, 60);
	tx_publish(&peers.a, 0);
	assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	assert_int_equal(guest_recv(&peers.b, peers.a.mac, PATIENCE), 60); /* unknown: flooded */
	assert_int_equal(wire_recv(peers.a.mac), 60);
	frame(sent, peers.a.mac, other, 60, 2);
	rx_post(&peers.a, 0, 1);
	assert_int_equal(send(wire, sent, 60, 0), 60);
	assert_int_equal(guest_recv(&peers.a, other, PATIENCE), 60);
	rx_post(&peers.b, 0, 1);
	frame(sent, other, peers.a.mac, 60, 3);
	tx_packet(&peers.a, 0, 0, sent, 60);
	tx_publish(&peers.a, 0);
	assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	assert_int_equal(wire_recv(peers.a.mac), 60);
	assert_int_equal(guest_recv(&peers.b, peers.a.mac, 20), 0); /* known: only there */
	guest_again(&peers.a, LARGE_MTU);
	guest_again(&peers.b, LARGE_MTU);
}

static void csum_blank_is_completed(void **state)
{
	static uint8_t want[65536];

	(void)state;
	for (int v6 = V4; v6 <= V6; v6++) {
		unsigned len = tcp_frame(sent, v6, wire_mac, peers.a.mac, 100, 80);

		tx_tcp(&peers.a, sent, len, 0);
		assert_int_equal(wire_recv(peers.a.mac), tcp_piece(want, sent, len, 0, 100));
		assert_memory_equal(got, want, len);
	}
}

static void gso_is_cut(void **state)
{
	static uint8_t want[65536];

	(void)state;
	for (int v6 = V4; v6 <= V6; v6++) {
		unsigned len = tcp_frame(sent, v6, wire_mac, peers.a.mac, 50000, 80), n;

		tx_tcp(&peers.a, sent, len, 1400);
		for (unsigned done = 0; done < 50000; done += n - tcp_payload(sent)) {
			n = tcp_piece(want, sent, len, done, 1400);
			assert_int_equal(wire_recv(peers.a.mac), n);
			assert_memory_equal(got, want, n);
		}
	}
}

/* As large as the wire takes them, neither to be cut nor blank. */
static void jumbo_frames_both_ways(void **state)
{
	static const unsigned lens[] = { 1515, 9014, 65534, 65535 };

	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		unsigned len = lens[i % 4], pages;

		frame(sent, wire_mac, peers.a.mac, len, i);
		pages = tx_packet(&peers.a, 0, 0, sent, len);
		tx_publish(&peers.a, 0);
		assert_true(tx_answers(&peers.a, 0, pages, NULL, PATIENCE));
		assert_int_equal(wire_recv(peers.a.mac), len);
		assert_memory_equal(got, sent, len);
		frame(sent, peers.b.mac, wire_mac, len, i + 100);
		rx_post(&peers.b, 0, pages);
		assert_int_equal(send(wire, sent, len, 0), len);
		assert_int_equal(guest_recv(&peers.b, wire_mac, PATIENCE), len);
		assert_memory_equal(got, sent, len);
	}
	assert_int_equal(guest_stat(&peers.a, "uplink", "mtu"), 65521);
	assert_int_equal(guest_stat(&peers.a, "uplink", "tx_too_big"), 0);
}

static void larger_than_the_wire_is_dropped(void **state)
{
	int64_t before = guest_stat(&peers.a, "uplink", "tx_too_big");

	(void)state;
	frame(sent, wire_mac, peers.a.mac, 3000, 1);
	tx_packet(&peers.a, 0, 0, sent, 3000);
	tx_publish(&peers.a, 0);
	assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	assert_int_equal(guest_stat(&peers.a, "uplink", "tx_too_big"), before + 1);
}

/* ---- rules of a that mirror to the wire ---- */

#define MIRRORING "{\"mtu\":\"65521\",\"rules\":\"pass from-guest proto tcp sport 53 mirror uplink\\ndrop proto tcp sport 9 mirror uplink\\n" \
		  "pass to-guest proto tcp sport 54 mirror uplink\\n\"}"

/* Nothing came to the wire but what was taken from it, nor to `to`: what is sent now is the next that both get. */
static void nothing_else_came(struct net_guest *from, struct net_guest *to)
{
	exchange(from, to, 77, 1);
	frame(sent, wire_mac, from->mac, 88, 2);
	tx_packet(from, 0, 0, sent, 88);
	tx_publish(from, 0);
	assert_true(tx_answers(from, 0, 1, NULL, PATIENCE));
	assert_int_equal(wire_recv(from->mac), 88);
	assert_memory_equal(got, sent, 88);
}

/* TCP from this port goes on to the other guest or does not, and is copied to the wire or is not: whole and once. */
static void is_mirrored(struct net_guest *from, struct net_guest *to, unsigned port, bool passes, bool mirrored)
{
	static const unsigned payloads[] = { 6, 700, 1440 };

	for (unsigned i = 0; i < 6; i++) {
		unsigned len = tcp_frame(sent, i & 1, to->mac, from->mac, payloads[i / 2], port);

		rx_post(to, 0, passes);
		tx_packet(from, 0, 0, sent, len);
		tx_publish(from, 0);
		assert_true(tx_answers(from, 0, 1, NULL, PATIENCE));
		if (mirrored) {
			assert_int_equal(wire_recv(from->mac), len);
			assert_memory_equal(got, sent, len);
		}
		if (passes) {
			assert_int_equal(rx_packet(to, 0, got, NULL, PATIENCE), len);
			assert_memory_equal(got, sent, len);
		}
		nothing_else_came(from, to);
	}
}

static void mirrored_to_the_wire_once(void **state)
{
	(void)state;
	guest_again(&peers.a, MIRRORING);
	is_mirrored(&peers.a, &peers.b, 53, true, true);
	is_mirrored(&peers.a, &peers.b, 54, true, false);
	is_mirrored(&peers.a, &peers.b, 9, false, true);
	is_mirrored(&peers.b, &peers.a, 54, true, true);
	is_mirrored(&peers.b, &peers.a, 53, true, false);
	is_mirrored(&peers.b, &peers.a, 9, false, true);
	guest_again(&peers.a, LARGE_MTU);
}

/* The copy's checksum is filled in for the wire; that of the packet itself stays for the guest to believe. */
static void mirrored_blank_stays_blank(void **state)
{
	static uint8_t want[65536];
	struct pv_net_rx_packet p;

	(void)state;
	guest_again(&peers.a, MIRRORING);
	for (int v6 = V4; v6 <= V6; v6++) {
		unsigned len = tcp_frame(sent, v6, peers.b.mac, peers.a.mac, 100, 53);

		rx_post(&peers.b, 0, 1);
		tx_tcp(&peers.a, sent, len, 0);
		assert_int_equal(wire_recv(peers.a.mac), tcp_piece(want, sent, len, 0, 100));
		assert_memory_equal(got, want, len);
		assert_int_equal(rx_packet(&peers.b, 0, got, &p, PATIENCE), len);
		assert_memory_equal(got, sent, len);
		assert_int_equal(p.flags & NETRXF_csum_blank, NETRXF_csum_blank);
	}
	guest_again(&peers.a, LARGE_MTU);
}

/* ---- a TAP that says what is left undone: the wire shows the header before each frame ---- */

static struct virtio_net_hdr wire_hdr;

/* The next frame from this address, at the start of got[]. */
static unsigned wire_recv_hdr(const uint8_t from[6])
{
	struct iovec iov[2] = { { &wire_hdr, sizeof(wire_hdr) }, { got, sizeof(got) } };

	for (;;) {
		ssize_t n = readv(wire, iov, 2) - (ssize_t)sizeof(wire_hdr);

		if (n < 14)
			return 0;
		if (!memcmp(got + 6, from, 6))
			return (unsigned)n;
	}
}

static void wire_send_hdr(unsigned len)
{
	struct iovec iov[2] = { { &wire_hdr, sizeof(wire_hdr) }, { sent, len } };

	assert_int_equal(writev(wire, iov, 2), sizeof(wire_hdr) + len);
}

/* Is only the sum over the pseudo header in the checksum's field? */
static bool blank(const uint8_t *p, unsigned len)
{
	return get16(p + tcp_at(p) + 16) == tcp_pseudo(p, len);
}

/* ... which goes in for a packet that is to be sent so. */
static void make_blank(uint8_t *p, unsigned len)
{
	put16(p + tcp_at(p) + 16, tcp_pseudo(p, len));
	wire_hdr = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = (uint16_t)tcp_at(p), .csum_offset = 16 };
}

static void offload_blank_both_ways(void **state)
{
	struct pv_net_rx_packet p;

	(void)state;
	for (int v6 = V4; v6 <= V6; v6++) {
		unsigned len = tcp_frame(sent, v6, wire_mac, peers.a.mac, 100, 80);

		tx_tcp(&peers.a, sent, len, 0);
		assert_int_equal(wire_recv_hdr(peers.a.mac), len);
		assert_int_equal(wire_hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(wire_hdr.csum_start, v6 ? 54 : 34);
		assert_int_equal(wire_hdr.csum_offset, 16);
		assert_true(blank(got, len));

		tcp_frame(sent, v6, peers.b.mac, wire_mac, 100, 80);
		make_blank(sent, len);
		rx_post(&peers.b, 0, 1);
		wire_send_hdr(len);
		assert_int_equal(rx_packet(&peers.b, 0, got, &p, PATIENCE), len);
		assert_memory_equal(got, sent, len);
		assert_int_equal(p.flags & NETRXF_csum_blank, NETRXF_csum_blank);
	}
}

/* What is in sent[], a large packet, comes out of the wire whole. */
static void wire_recv_large(bool v6, unsigned len)
{
	assert_int_equal(wire_recv_hdr(peers.a.mac), len);
	assert_int_equal(wire_hdr.gso_type, v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(wire_hdr.gso_size, 1400);
	assert_true(blank(got, len));
	assert_memory_equal(got + 100, sent + 100, len - 100);
}

static void offload_large_tcp_both_ways(void **state)
{
	struct pv_net_rx_packet p;

	(void)state;
	for (int v6 = V4; v6 <= V6; v6++) {
		unsigned len = tcp_frame(sent, v6, wire_mac, peers.a.mac, 50000, 80);

		tx_tcp(&peers.a, sent, len, 1400);
		wire_recv_large(v6, len);

		tcp_frame(sent, v6, peers.b.mac, wire_mac, 50000, 80);
		make_blank(sent, len);
		wire_hdr.gso_type = v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
		wire_hdr.gso_size = 1400;
		wire_hdr.hdr_len = (uint16_t)tcp_payload(sent);
		rx_post(&peers.b, 0, 14);
		wire_send_hdr(len);
		assert_int_equal(rx_packet(&peers.b, 0, got, &p, PATIENCE), len);
		assert_memory_equal(got, sent, len);
		assert_int_equal(p.gso_size, 1400);
		assert_int_equal(p.gso_type, v6 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4);
	}
}

/* A large packet that a rule mirrors is copied to the wire whole, and the one that goes on is what was sent. */
static void offload_large_tcp_is_mirrored(void **state)
{
	struct pv_net_rx_packet p;

	(void)state;
	guest_again(&peers.a, MIRRORING);
	for (int v6 = V4; v6 <= V6; v6++) {
		unsigned len = tcp_frame(sent, v6, peers.b.mac, peers.a.mac, 50000, 53);

		rx_post(&peers.b, 0, (len + 4095) / 4096 + 1);
		tx_tcp(&peers.a, sent, len, 1400);
		wire_recv_large(v6, len);
		assert_int_equal(rx_packet(&peers.b, 0, got, &p, PATIENCE), len);
		assert_memory_equal(got, sent, len);
		assert_int_equal(p.flags & NETRXF_csum_blank, NETRXF_csum_blank);
		assert_int_equal(p.gso_size, 1400);
	}
	guest_again(&peers.a, LARGE_MTU);
}

static const char *workers, *uplink;

static int tap_up(void **state)
{
	(void)state;
	rig_open((const char *const[]){ "--uplink", uplink, "--workers", workers, NULL });
	wire_open();
	return 0;
}

static int offload_up(void **state)
{
	int on = 1;

	tap_up(state);
	assert_int_equal(setsockopt(wire, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
	frame(sent, peers.b.mac, wire_mac, 60, 1); /* it is known where the wire's address is */
	rx_post(&peers.b, 0, 1);
	wire_hdr = (struct virtio_net_hdr){ 0 };
	wire_send_hdr(60);
	assert_int_equal(guest_recv(&peers.b, wire_mac, PATIENCE), 60);
	return 0;
}

static int tap_down(void **state)
{
	(void)state;
	close(wire);
	rig_close();
	assert_int_equal(if_nametoindex("pvnt0"), 0);
	return 0;
}

/* Without a wire at all: what goes out ends, nothing comes in, and the worker still sleeps between two looks. */
static void null_swallows_and_sleeps(void **state)
{
	int64_t turns, sleeps;

	(void)state;
	rig_open((const char *const[]){ "--uplink", "net_null0", NULL });
	for (unsigned i = 0; i < 100; i++) {
		frame(sent, wire_mac, peers.a.mac, 60, i);
		tx_packet(&peers.a, 0, 0, sent, 60);
		tx_publish(&peers.a, 0);
		assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
	}
	assert_int_equal(guest_stat(&peers.a, "uplink", "tx_packets"), 100);
	assert_int_equal(guest_stat(&peers.a, "uplink", "rx_packets"), 0);
	assert_string_equal(json_object_get_string(json_object_object_get(json_object_object_get(rig_last.result, "backend"), "idle")), "timeout");
	sleeps = guest_stat(&peers.a, "backend", "sleeps");
	turns = guest_stat(&peers.a, "backend", "turns");
	usleep(50000);
	assert_in_range(guest_stat(&peers.a, "backend", "turns") - turns, 1, 1000);
	assert_true(guest_stat(&peers.a, "backend", "sleeps") > sleeps);
	rig_close();
}

/* ---- the program alone ---- */

/* Run it to its end. Returns its exit code; what it said is in got[]. */
static int run(const char *const *args)
{
	int p[2], status, n = 0;
	ssize_t r;
	pid_t pid;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid = rig_spawn("pvio-netback", args, p[1]);
	close(p[1]);
	while ((r = read(p[0], got + n, sizeof(got) - 1 - (size_t)n)) > 0)
		n += (int)r;
	got[n] = 0;
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

#define RUN(...) run((const char *const[]){ __VA_ARGS__, NULL })

static void usage(void **state)
{
	(void)state;
	assert_int_equal(RUN("--version"), 0);
	assert_int_equal(RUN("--nonsense"), 2);
	assert_int_equal(RUN("--workers", "0"), 2);
	assert_int_equal(RUN("--workers", "17"), 2);
	assert_int_equal(RUN("--cpus", "1,x"), 2);
	assert_int_equal(RUN("--poll-us", "-1"), 2);
	assert_int_equal(RUN("operand"), 2);
}

static void start_fails_in_words(void **state)
{
	(void)state;
	rig_open(NULL); /* a hub; its backend is not needed */
	assert_int_equal(RUN("--hypervisor", "loopback:/nonexistent", "--memory", "64"), 1);
	assert_non_null(strstr((char *)got, "hub"));
	assert_int_equal(RUN("--hypervisor", "loopback", "--memory", "64", "--uplink", "eth0"), 1);
	assert_non_null(strstr((char *)got, "uplink 'eth0'"));
	assert_int_equal(RUN("--hypervisor", "loopback", "--memory", "64", "--uplink", "net_wrong0"), 1);
	assert_non_null(strstr((char *)got, "uplink 'net_wrong0'"));
	assert_int_equal(RUN("--hypervisor", "loopback", "--memory", "64", "--uplink", "tap:a/b"), 1);
	assert_non_null(strstr((char *)got, "uplink 'tap:a/b'"));
	assert_int_equal(RUN("--hypervisor", "loopback", "--memory", "64", "--uplink", "tap:lo"), 1);
	assert_non_null(strstr((char *)got, "it is no TAP"));
	rig_close();
}

/* DPDK's TAP knows no jumbo frames. It has complained of other things by then. */
static void mtu_beyond_a_device_is_refused_in_words(void **state)
{
	(void)state;
	rig_open(NULL);
	assert_int_equal(RUN("--hypervisor", "loopback", "--memory", "64", "--uplink", "net_tap0,iface=pvnt0,mtu=9000"), 1);
	assert_non_null(strstr((char *)got, "Frame size"));
	assert_int_equal(RUN("--hypervisor", "loopback", "--memory", "64", "--uplink", "tap:pvnt0,mtu=65522"), 1);
	assert_non_null(strstr((char *)got, "at most 65521"));
	rig_close();
}

static unsigned traces(void)
{
	static const char *const paths[] = { "/run/dpdk", "/var/run/dpdk", "/tmp/dpdk", "/dev/hugepages/rtemap_0" };
	struct stat st;
	unsigned n = 0;

	for (unsigned i = 0; i < 4; i++)
		n += stat(paths[i], &st) == 0;
	return n;
}

static void killed_leaves_nothing(void **state)
{
	unsigned before = traces();
	int status;

	(void)state;
	rig_open((const char *const[]){ "--uplink", uplink, NULL });
	assert_int_equal(traces(), before);
	assert_true(if_nametoindex("pvnt0") > 0);
	kill(rig.backend, SIGKILL);
	waitpid(rig.backend, &status, 0);
	assert_int_equal(traces(), before);
	for (int i = 0; i < 2000 && if_nametoindex("pvnt0"); i++)
		usleep(1000);
	assert_int_equal(if_nametoindex("pvnt0"), 0);
	pv_hyper_close(peers.a.h);
	pv_hyper_close(peers.b.h);
	rig_remove(false);
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
	const struct CMUnitTest tap[] = {
		cmocka_unit_test(guest_to_wire_and_back),
		cmocka_unit_test(wire_address_is_learned),
		cmocka_unit_test(csum_blank_is_completed),
		cmocka_unit_test(gso_is_cut),
		cmocka_unit_test(larger_than_the_wire_is_dropped),
		cmocka_unit_test(mirrored_to_the_wire_once),
		cmocka_unit_test(mirrored_blank_stays_blank),
	};
	const struct CMUnitTest bare[] = {
		cmocka_unit_test(guest_to_wire_and_back),
		cmocka_unit_test(wire_address_is_learned),
		cmocka_unit_test(larger_than_the_wire_is_dropped),
		cmocka_unit_test(mirrored_to_the_wire_once),
	};
	const struct CMUnitTest jumbo[] = { cmocka_unit_test(jumbo_frames_both_ways) };
	const struct CMUnitTest offload[] = {
		cmocka_unit_test(offload_blank_both_ways),
		cmocka_unit_test(offload_large_tcp_both_ways),
		cmocka_unit_test(offload_large_tcp_is_mirrored),
	};
	const struct CMUnitTest others[] = {
		cmocka_unit_test(null_swallows_and_sleeps),
		cmocka_unit_test(usage),
		cmocka_unit_test(start_fails_in_words),
	};
	const struct CMUnitTest refused[] = { cmocka_unit_test(mtu_beyond_a_device_is_refused_in_words) };
	const struct CMUnitTest killed[] = { cmocka_unit_test(killed_leaves_nothing) };
	int ret = cmocka_run_group_tests_name("no wire", others, NULL, NULL);

	if (unshare(CLONE_NEWNET) < 0) {
		printf("SKIP need=root: a network namespace for the TAP: %s\n", strerror(errno));
		return ret ? ret : 77;
	}
	if (access("/dev/net/tun", R_OK | W_OK) < 0) {
		printf("SKIP need=tun: /dev/net/tun: %s\n", strerror(errno));
		return ret ? ret : 77;
	}
	silence();
	for (int n = 1; n <= 2; n++) {
		workers = n == 1 ? "1" : "2";
		uplink = "net_tap0,iface=pvnt0";
		ret |= cmocka_run_group_tests_name("DPDK's TAP", tap, tap_up, tap_down);
		uplink = "tap:pvnt0";
		ret |= cmocka_run_group_tests_name("TAP", bare, tap_up, tap_down);
		ret |= cmocka_run_group_tests_name("TAP, offloads", offload, offload_up, tap_down);
		uplink = "tap:pvnt0,mtu=65521";
		ret |= cmocka_run_group_tests_name("TAP, the largest frames", jumbo, tap_up, tap_down);
	}
	ret |= cmocka_run_group_tests_name("refused", refused, NULL, NULL);
	uplink = "tap:pvnt0";
	ret |= cmocka_run_group_tests_name("killed", killed, NULL, NULL);
	uplink = "net_tap0,iface=pvnt0";
	return ret | cmocka_run_group_tests_name("killed, with DPDK's TAP", killed, NULL, NULL);
}
