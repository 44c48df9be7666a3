/* What a process of pvio-netback had when it was killed or handed over, beside what its queues' logs tell: packets at an uplink, and between workers. The
 * next process says how many (backend.lost). None goes uncounted; where it was killed in the midst of a turn, some are counted twice.
 *
 * The first of the two well-behaved guests is on the first worker, which has the uplink, the second on the other. */
#include "net_adopt.h"
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ptrace.h>

enum { WORKERS_MAX = 16, PACKETS = 30, WINDOW = 200, KILLS = 3, KILLS_LONG = 50 /* with PVIO_TEST_LONG=1 */, QUIET = 100 /* ms */, TRIES = 20, LEN = 100 };

static const uint8_t far_mac[6] = { 0x02, 0xcc, 0, 0, 0, 1 };
static char uplink[200], memif[64];
static const char *const lost_args[] = { "--memory", "64", "--log", "warn", "--workers", "2", "--cpus", "0", "--uplink", uplink, NULL };
static uint8_t out[2048], in[65536];
static uint64_t held; /* of what the dead process had, that was at an uplink */

static void start_next(void)
{
	assert_int_equal(rig_start_backend("pvio-netback", lost_args), 0);
	assert_int_equal(adopt_held(&peers.a), 0);
	assert_int_equal(adopt(&peers.b), 0);
}

/* The logs of the dead process' workers; what they add up to, and perhaps something that it has not lived to store. */
static uint64_t dead_had(const struct worker_log add[2])
{
	struct pv_inflight *f;
	struct worker_log *log;
	uint64_t n = 0;
	char why[200];

	held = 0;
	if (pv_inflight_open_process("netback", WORKERS_MAX * sizeof(*log), &f, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	log = pv_inflight_area(f);
	for (unsigned i = 0; add && i < 2; i++) {
		log[i].posted += add[i].posted;
		log[i].taken += add[i].taken;
		log[i].held += add[i].held;
	}
	for (unsigned i = 0; i < WORKERS_MAX; i++) {
		n += log[i].posted - log[i].taken + log[i].held;
		held += log[i].held;
	}
	pv_inflight_close(f);
	return n;
}

/* ---- an uplink that takes nothing: nobody is at the other end of its memif */

static int memif_up(void **state)
{
	(void)state;
	snprintf(memif, sizeof(memif), "/tmp/pvio-memif.%d", (int)getpid());
	snprintf(uplink, sizeof(uplink), "net_memif0,role=server,socket=%s,socket-abstract=no", memif);
	rig_open(lost_args + 4);
	return 0;
}

static int down(void **state)
{
	(void)state;
	rig_close();
	unlink(memif);
	return 0;
}

static void send_packets(struct net_guest *g)
{
	for (unsigned i = 0; i < PACKETS; i++)
		tx_packet(g, 0, i, out, LEN);
	tx_publish(g, 0);
	assert_true(tx_answers(g, 0, PACKETS, NULL, PATIENCE));
}

static void end(bool handover)
{
	if (!handover) {
		die();
		return;
	}
	retire();
	waitpid(rig.backend, NULL, 0);
}

/* They wait for 10 ms and are then dropped, which is another count: should we be slow, we try again. */
static void end_with_packets_waiting(struct net_guest *g, bool handover)
{
	uint64_t had;

	held = 0;
	for (unsigned i = 0; i < TRIES && !held; i++) {
		frame(out, far_mac, g->mac, LEN, 1);
		send_packets(g);
		usleep(2000); /* they have come where they wait */
		end(handover);
		had = dead_had(NULL);
		start_next();
		assert_int_equal(guest_stat(&peers.b, "backend", "lost"), had);
	}
	assert_true(held);
	assert_in_range(had, PACKETS, 3 * PACKETS); /* the other guest is sent them as well; and what was just taken is counted twice */
}

static void waiting_at_an_uplink_when_killed(void **state)
{
	(void)state;
	end_with_packets_waiting(&peers.a, false);
	end_with_packets_waiting(&peers.b, false);
}

static void waiting_at_an_uplink_when_handed_over(void **state)
{
	(void)state;
	end_with_packets_waiting(&peers.a, true);
	end_with_packets_waiting(&peers.b, true);
}

static void told_by_the_next_process_alone(void **state)
{
	static const struct worker_log add[2] = { { .posted = 7, .taken = UINT64_MAX - 1, .held = 5 }, { .posted = 4, .taken = 6, .held = 1 } };

	(void)state;
	die();
	assert_int_equal(dead_had(add), 13);
	start_next();
	assert_int_equal(guest_stat(&peers.a, "backend", "lost"), 13);
	die();
	start_next();
	assert_int_equal(guest_stat(&peers.a, "backend", "lost"), 0);
}

/* A thread of the backend that goes on no more; 0: that cannot be had here. */
static pid_t thread_stop(const char *name)
{
	char path[300], comm[32] = "";
	struct dirent *e;
	pid_t tid = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", rig.backend);
	d = opendir(path);
	assert_non_null(d);
	while (strcmp(comm, name) && (e = readdir(d))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", rig.backend, e->d_name);
		f = fopen(path, "r");
		if (f && fscanf(f, "%31s", comm) == 1)
			tid = atoi(e->d_name);
		if (f)
			fclose(f);
	}
	closedir(d);
	assert_string_equal(comm, name);
	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0)
		return 0;
	assert_int_equal(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL), 0);
	assert_int_equal(waitpid(tid, NULL, __WALL), tid);
	return tid;
}

static void waiting_for_another_worker_when_killed(void **state)
{
	pid_t tid = thread_stop("netback1");

	(void)state;
	if (!tid)
		skip();
	frame(out, peers.b.mac, peers.a.mac, LEN, 1);
	send_packets(&peers.a);
	kill(rig.backend, SIGKILL);
	waitpid(tid, NULL, __WALL);
	waitpid(rig.backend, NULL, 0);
	assert_int_equal(dead_had(NULL), PACKETS);
	start_next();
	assert_int_equal(guest_stat(&peers.b, "backend", "lost"), PACKETS);
}

/* ---- packets on their way, numbered, until the process is killed */

static int wire; /* the other end of the uplink */
static uint32_t sent, received, answered; /* in all */

static int veth_up(void **state)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };

	(void)state;
	wire = -1;
	memif[0] = '\0';
	if (geteuid() == 0 && unshare(CLONE_NEWNET) == 0 &&
	    system("exec 2>/dev/null; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; ip link add pvlost0 type veth peer name pvlost1 && ip link set pvlost0 up && ip link set pvlost1 up") == 0) {
		ll.sll_ifindex = (int)if_nametoindex("pvlost1");
		wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
		assert_int_equal(bind(wire, (struct sockaddr *)&ll, sizeof(ll)), 0);
	}
	snprintf(uplink, sizeof(uplink), "%s", wire < 0 ? "none" : "net_af_packet0,iface=pvlost0");
	rig_open(lost_args + 4);
	return 0;
}

static int veth_down(void **state)
{
	if (wire >= 0)
		close(wire);
	return down(state);
}

/* Numbers rise: nothing comes twice, or late. */
static void see(const struct net_guest *from, const uint8_t *p, unsigned len)
{
	static uint32_t last;
	uint32_t number;

	if (len < 14 || memcmp(p + 6, from->mac, 6))
		return; /* the kernel's own */
	memcpy(&number, p + 14, sizeof(number));
	assert_int_equal(len, LEN);
	assert_true(number > last && number <= sent);
	last = number;
	received++;
}

static void receive(const struct net_guest *from, struct net_guest *to)
{
	ssize_t n;

	while (!to && (n = recv(wire, in, sizeof(in), 0)) > 0)
		see(from, in, (unsigned)n);
	while (to && pv_ring_ready(&to->q[0].rx) > 0) {
		struct pv_net_rx_packet p;
		unsigned len = rx_packet(to, 0, in, &p, 0);

		if (!p.error)
			see(from, in, len);
		rx_post(to, 0, 1);
	}
}

/* As many as fit into its pages and are few enough that nobody drops them for want of room. */
static void send_more(struct net_guest *from, struct net_guest *to, uint32_t *base)
{
	bool any = false;

	if (from->q[0].tx.prod != from->q[0].tx.cons && pv_ring_ready(&from->q[0].tx) > 0) {
		unsigned n = (unsigned)pv_ring_ready(&from->q[0].tx);

		assert_true(tx_answers(from, 0, n, NULL, 0));
		answered += n;
	}
	while (sent - answered < TX_PAGES && sent - received - *base < WINDOW) {
		sent++;
		frame(out, to ? to->mac : far_mac, from->mac, LEN, sent);
		memcpy(out + 14, &sent, sizeof(sent));
		tx_packet(from, 0, sent % TX_PAGES, out, LEN);
		any = true;
	}
	if (any)
		tx_publish(from, 0);
}

static uint64_t told(void)
{
	static const char *const keys[] = { "tx_lost", "rx_lost", "rx_full" };
	uint64_t n = (uint64_t)guest_stat(&peers.a, "backend", "lost");

	for (unsigned i = 0; i < 3; i++)
		n += (uint64_t)(guest_stat(&peers.a, NULL, keys[i]) + guest_stat(&peers.b, NULL, keys[i]));
	return n;
}

static void killed_under_a_stream(struct net_guest *from, struct net_guest *to)
{
	uint32_t base = sent - received, lost_before = base;
	unsigned kills = getenv("PVIO_TEST_LONG") && *getenv("PVIO_TEST_LONG") ? KILLS_LONG : KILLS;
	uint64_t of_workers = 0;

	if (to)
		rx_post(to, 0, RX_PAGES - 1);
	for (unsigned kill = 0; kill < kills; kill++) {
		int64_t until = rig_ms() + PATIENCE, quiet;
		uint32_t enough = received + 2000 + (uint32_t)rand() % 2000, before;

		do { /* ... and some are answered and have not arrived */
			receive(from, to);
			send_more(from, to, &base);
			assert_true(rig_ms() < until);
		} while (received < enough || answered < received + base + PACKETS);
		die();
		of_workers += dead_had(NULL);
		start_next();
		for (quiet = rig_ms(); rig_ms() - quiet < QUIET || answered < sent; usleep(20)) {
			before = received;
			receive(from, to);
			answered += tx_answers(from, 0, 1, NULL, 0);
			if (received > before)
				quiet = rig_ms();
			assert_true(rig_ms() < until);
		}
		base = sent - received;
		if (base - lost_before > told())
			fail_msg("%u packets were lost, of %u it is told", base - lost_before, (unsigned)told());
		lost_before = base;
	}
	print_message("%u kills, %u packets sent, %u lost; workers had %u\n", kills, sent, lost_before, (unsigned)of_workers);
	if (to)
		guest_again(to, LARGE_MTU);
}

static void killed_with_packets_between_workers(void **state)
{
	(void)state;
	killed_under_a_stream(&peers.a, &peers.b);
	killed_under_a_stream(&peers.b, &peers.a);
}

static void killed_with_packets_to_an_uplink(void **state)
{
	(void)state;
	if (wire < 0)
		skip();
	killed_under_a_stream(&peers.b, NULL); /* by way of the other worker */
}

int main(void)
{
	const struct CMUnitTest still[] = {
		cmocka_unit_test(waiting_at_an_uplink_when_killed),
		cmocka_unit_test(waiting_at_an_uplink_when_handed_over),
		cmocka_unit_test(waiting_for_another_worker_when_killed),
		cmocka_unit_test(told_by_the_next_process_alone),
	};
	const struct CMUnitTest moving[] = {
		cmocka_unit_test(killed_with_packets_between_workers),
		cmocka_unit_test(killed_with_packets_to_an_uplink),
	};
	int one = cmocka_run_group_tests_name("an uplink that takes nothing", still, memif_up, down);
	int two = cmocka_run_group_tests_name("packets on their way", moving, veth_up, veth_down);

	return one || two;
}
