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

static void put16(uint8_t *p, unsigned n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

static uint16_t sum16(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	if (n & 1)
		sum += (uint32_t)p[n - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

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

/* TCP in sent[], over IPv4 or IPv6, checksum blank. */
static unsigned tcp(bool v6, unsigned payload)
{
	unsigned l4 = v6 ? 54 : 34, len = l4 + 20 + payload;

	frame(sent, wire_mac, peers.a.mac, len, 1);
	put16(sent + 12, v6 ? 0x86dd : 0x0800);
	if (v6) {
		memset(sent + 14, 0, 8);
		sent[14] = 0x60;
		put16(sent + 18, len - l4);
		sent[20] = 6;
	} else {
		memset(sent + 14, 0, 12);
		sent[14] = 0x45;
		put16(sent + 16, len - 14);
		sent[23] = 6;
		put16(sent + 24, (uint16_t)~sum16(sent + 14, 20, 0));
	}
	sent[l4 + 12] = 0x50;
	sent[l4 + 13] = 0x10;
	return len;
}

static bool good(const uint8_t *p, unsigned len)
{
	bool v6 = p[12] == 0x86;
	unsigned l4 = v6 ? 54 : 34;
	uint32_t sum = v6 ? sum16(p + 22, 32, 0) : sum16(p + 26, 8, 0);

	return sum16(p + l4, len - l4, sum + 6 + len - l4) == 0xffff && (v6 || sum16(p + 14, 20, 0) == 0xffff);
}

static void csum_blank_is_completed(void **state)
{
	unsigned len;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		len = tcp(v6, 100);
		memcpy(peers.a.q[0].tx_data, sent, len);
		tx_slot(&peers.a, 0, 0, 0, len, NETTXF_csum_blank);
		tx_publish(&peers.a, 0);
		assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
		assert_int_equal(wire_recv(peers.a.mac), len);
		assert_true(good(got, len));
	}
}

static void gso_is_cut(void **state)
{
	struct netif_extra_info gso = { .type = XEN_NETIF_EXTRA_TYPE_GSO, .u.gso = { .size = 1400 } };

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		unsigned len = tcp(v6, 50000), hdr = v6 ? 74 : 54, done = 0, n, pages = (len + 4095) / 4096;

		gso.u.gso.type = v6 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4;
		memcpy(peers.a.q[0].tx_data, sent, len);
		for (unsigned i = 0; i < pages; i++) {
			unsigned part = i + 1 < pages ? 4096 : len - i * 4096;

			tx_slot(&peers.a, 0, i, 0, i ? part : len, (i + 1 < pages ? NETTXF_more_data : 0) | (i ? 0 : NETTXF_csum_blank | NETTXF_extra_info));
			if (!i)
				tx_extra(&peers.a, 0, &gso);
		}
		tx_publish(&peers.a, 0);
		assert_true(tx_answers(&peers.a, 0, pages + 1, NULL, PATIENCE));
		while (done < 50000) {
			n = wire_recv(peers.a.mac);
			assert_true(n > hdr && n <= hdr + 1400);
			assert_true(good(got, n));
			assert_memory_equal(got + hdr, sent + hdr + done, n - hdr);
			done += n - hdr;
		}
	}
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
	bool v6 = p[12] == 0x86;
	unsigned l4 = v6 ? 54 : 34;

	return sum16(p + l4 + 16, 2, 0) == sum16(v6 ? p + 22 : p + 26, v6 ? 32 : 8, 6 + len - l4);
}

/* ... which goes in for a packet that is to be sent so. */
static void make_blank(uint8_t *p, unsigned len)
{
	bool v6 = p[12] == 0x86;
	unsigned l4 = v6 ? 54 : 34;

	put16(p + l4 + 16, sum16(v6 ? p + 22 : p + 26, v6 ? 32 : 8, 6 + len - l4));
	wire_hdr = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = (uint16_t)l4, .csum_offset = 16 };
}

static void offload_blank_both_ways(void **state)
{
	struct pv_net_rx_packet p;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		unsigned len = tcp(v6, 100);

		memcpy(peers.a.q[0].tx_data, sent, len);
		tx_slot(&peers.a, 0, 0, 0, len, NETTXF_csum_blank);
		tx_publish(&peers.a, 0);
		assert_true(tx_answers(&peers.a, 0, 1, NULL, PATIENCE));
		assert_int_equal(wire_recv_hdr(peers.a.mac), len);
		assert_int_equal(wire_hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(wire_hdr.csum_start, v6 ? 54 : 34);
		assert_int_equal(wire_hdr.csum_offset, 16);
		assert_true(blank(got, len));

		memcpy(sent, peers.b.mac, 6);
		memcpy(sent + 6, wire_mac, 6);
		make_blank(sent, len);
		rx_post(&peers.b, 0, 1);
		wire_send_hdr(len);
		assert_int_equal(rx_packet(&peers.b, 0, got, &p, PATIENCE), len);
		assert_memory_equal(got, sent, len);
		assert_int_equal(p.flags & NETRXF_csum_blank, NETRXF_csum_blank);
	}
}

static void offload_large_tcp_both_ways(void **state)
{
	struct netif_extra_info gso = { .type = XEN_NETIF_EXTRA_TYPE_GSO, .u.gso = { .size = 1400 } };
	struct pv_net_rx_packet p;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		unsigned len = tcp(v6, 50000), pages = (len + 4095) / 4096;

		gso.u.gso.type = v6 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4;
		memcpy(peers.a.q[0].tx_data, sent, len);
		for (unsigned i = 0; i < pages; i++) {
			unsigned part = i + 1 < pages ? 4096 : len - i * 4096;

			tx_slot(&peers.a, 0, i, 0, i ? part : len, (i + 1 < pages ? NETTXF_more_data : 0) | (i ? 0 : NETTXF_csum_blank | NETTXF_extra_info));
			if (!i)
				tx_extra(&peers.a, 0, &gso);
		}
		tx_publish(&peers.a, 0);
		assert_true(tx_answers(&peers.a, 0, pages + 1, NULL, PATIENCE));
		assert_int_equal(wire_recv_hdr(peers.a.mac), len);
		assert_int_equal(wire_hdr.gso_type, v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4);
		assert_int_equal(wire_hdr.gso_size, 1400);
		assert_true(blank(got, len));
		assert_memory_equal(got + 100, sent + 100, len - 100);

		memcpy(sent, peers.b.mac, 6);
		memcpy(sent + 6, wire_mac, 6);
		make_blank(sent, len);
		wire_hdr.gso_type = v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
		wire_hdr.gso_size = 1400;
		wire_hdr.hdr_len = v6 ? 74 : 54;
		rx_post(&peers.b, 0, pages + 1);
		wire_send_hdr(len);
		assert_int_equal(rx_packet(&peers.b, 0, got, &p, PATIENCE), len);
		assert_memory_equal(got, sent, len);
		assert_int_equal(p.gso_size, 1400);
		assert_int_equal(p.gso_type, gso.u.gso.type);
	}
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
	};
	const struct CMUnitTest bare[] = {
		cmocka_unit_test(guest_to_wire_and_back),
		cmocka_unit_test(wire_address_is_learned),
		cmocka_unit_test(larger_than_the_wire_is_dropped),
	};
	const struct CMUnitTest offload[] = {
		cmocka_unit_test(offload_blank_both_ways),
		cmocka_unit_test(offload_large_tcp_both_ways),
	};
	const struct CMUnitTest others[] = {
		cmocka_unit_test(null_swallows_and_sleeps),
		cmocka_unit_test(usage),
		cmocka_unit_test(start_fails_in_words),
	};
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
	}
	ret |= cmocka_run_group_tests_name("killed", killed, NULL, NULL);
	uplink = "net_tap0,iface=pvnt0";
	return ret | cmocka_run_group_tests_name("killed, with DPDK's TAP", killed, NULL, NULL);
}
