/* net_stream.h - two guests exchange numbered packets through the whole product, while pvio-netback is killed and handed over under them.
 *
 * Hub, pviod and netback are processes, brought up by `pvio sandbox up`. The frontends are libpvfront's; test_net_killed_xenbus.c has them
 * connect as Linux does. Neither of them may see anything: it stays Connected, each packet that it gets is whole and newer than the last
 * one of its direction, and in the end each of its requests has been answered, once (netfront breaks at a second answer). What was lost is no
 * more than what the backends say they lost.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <errno.h>
#include <glob.h>
#include <json-c/json.h>
#include <poll.h>
#include <pvio/netfront.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xen/io/netif.h>
#include <cmocka.h>
#include "tests/unit/sandbox.h"
#include "tests/unit/tcp.h"

enum {
	PATIENCE_MS = 60000, WINDOW = 60 /* packets under way, at most */, PROBE_MS = 5, QUIET_MS = 300, SLOTS = 256, MSS = 1400,
	LARGE = 20000, EVENTS = 5, EVENTS_LONG = 50 /* of each kind; with PVIO_TEST_LONG=1 */,
};

static uint64_t stream_ms(void)
{
	return stream_us() / 1000;
}

/* Nothing is left in the run directory but what this wrote. */
static int stream_down(void **state)
{
	char path[80];
	int rc;

	(void)state;
	rc = pvio("sandbox down");
	snprintf(path, sizeof(path), "%s/out", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/disk", dir);
	unlink(path);
	return rc ? rc : rmdir(dir);
}

/* ---- one direction ---- */

struct stream {
	struct pv_netfront *from, *to;
	uint8_t from_mac[6], to_mac[6];
	uint32_t next; /* the next packet's number; the first is 1 */
	uint32_t last; /* that has arrived */
	uint32_t base; /* nothing up to here is waited for */
	uint64_t got, progress; /* ms */
	uint64_t arrived; /* us: its last packet */
};

static uint64_t pause_us; /* the longest time without a packet of one direction */

static uint32_t length_of(uint32_t number)
{
	return number % 8 == 0 ? LARGE + number % 1000 : TCP_HEADERS_MAX + 8 + number % 1300;
}

/* A TCP segment with a blank checksum, over IPv4 and IPv6 in turn, large ones to be cut; behind the headers its number, and then bytes that follow
 * from it. */
static void packet_fill(uint8_t *p, const struct stream *s, uint32_t number, uint32_t len)
{
	uint32_t at;

	tcp_headers(p, number / 8 & 1, len, s->to_mac, s->from_mac);
	at = tcp_payload(p);
	memcpy(p + at, &number, 4);
	memset(p + at + 4, 0, 4);
	for (uint32_t i = at + 8; i < len; i++)
		p[i] = (uint8_t)(number * 31 + i * 7 + (i >> 8));
}

static void stream_send(struct stream *s)
{
	static uint8_t out[65536];

	if (s->base < s->last)
		s->base = s->last;
	if (stream_ms() - s->progress > PROBE_MS) { /* what is under way may be lost: one more, which tells when it goes on */
		s->base += s->base < s->next - 1; /* there may have been no room for the last one */
		s->progress = stream_ms();
	}
	while (s->next - s->base <= WINDOW) {
		uint32_t len = length_of(s->next);
		struct pv_netfront_packet p = { .data = out, .len = len, .csum_blank = true };
		int n;

		packet_fill(out, s, s->next, len);
		if (len > 4096) {
			p.gso_type = tcp_at(out) == 54 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4;
			p.gso_size = MSS;
		}
		n = pv_netfront_send(s->from, 0, &p, 1);
		assert_true(n >= 0);
		if (n == 0)
			return;
		s->next++;
	}
}

/* Whole, and newer than any before it. */
static void stream_receive(struct stream *s)
{
	static uint8_t in[65536], want[65536];
	struct pv_netfront_packet p;

	for (;;) {
		uint32_t number;
		int n;

		p = (struct pv_netfront_packet){ .data = in, .len = sizeof(in) };
		n = pv_netfront_recv(s->to, 0, &p, 1);
		assert_true(n >= 0 || n == -EAGAIN);
		if (n <= 0)
			return;
		assert_true(p.len >= TCP_HEADERS_MAX + 8);
		memcpy(&number, in + tcp_payload(in), 4);
		if (number == 0)
			continue; /* to nobody: every_request_was_answered */
		if (number <= s->last || number >= s->next)
			fail_msg("packet %u arrived after %u, %u were sent", number, s->last, s->next - 1);
		assert_int_equal(p.len, length_of(number));
		packet_fill(want, s, number, p.len);
		assert_memory_equal(in, want, p.len);
		s->last = number;
		s->got++;
		s->progress = stream_ms();
		if (stream_us() - s->arrived > pause_us)
			pause_us = stream_us() - s->arrived;
		s->arrived = stream_us();
	}
}

/* ---- both, and what happens to them ---- */

static struct stream ab, ba;

static void turn(bool send)
{
	struct pollfd p[2] = { { pv_netfront_fd(ab.from), POLLIN, 0 }, { pv_netfront_fd(ab.to), POLLIN, 0 } };

	poll(p, 2, 1);
	for (int i = 0; i < 2; i++) {
		struct pv_netfront *f = i ? ab.to : ab.from;
		int rc = pv_netfront_work(f);

		if (rc < 0)
			fail_msg("%s", pv_netfront_error(f));
		assert_int_equal(pv_netfront_state(f), XenbusStateConnected);
	}
	stream_receive(&ab);
	stream_receive(&ba);
	if (send) {
		stream_send(&ab);
		stream_send(&ba);
	}
}

/* Until so many more have arrived both ways. */
static void run_on(uint64_t packets)
{
	uint64_t end = stream_ms() + PATIENCE_MS, a = ab.got + packets, b = ba.got + packets;

	while (ab.got < a || ba.got < b) {
		turn(true);
		if (stream_ms() > end)
			fail_msg("the stream stands still: %llu and %llu packets", (unsigned long long)ab.got, (unsigned long long)ba.got);
	}
}

/* Let all that is under way arrive, or be lost. */
static void drain(void)
{
	uint64_t quiet = stream_ms();

	while (stream_ms() - quiet < QUIET_MS) {
		uint64_t got = ab.got + ba.got;

		turn(false);
		if (ab.got + ba.got > got)
			quiet = stream_ms();
	}
}

static uint64_t lost(void)
{
	return ab.next - 1 - ab.got + ba.next - 1 - ba.got;
}

/* Of what stats say, all devices together. */
static uint64_t sum_of(struct json_object *all, const char *key)
{
	struct json_object *stats, *v;
	uint64_t sum = 0;

	for (size_t i = 0; i < json_object_array_length(all); i++) {
		struct json_object *dev = json_object_array_get_idx(all, i);

		if (!json_object_object_get_ex(dev, "stats", &stats) && !json_object_object_get_ex(dev, "backend_stats", &stats))
			stats = dev;
		if (json_object_object_get_ex(stats, key, &v))
			sum += (uint64_t)json_object_get_int64(v);
	}
	return sum;
}

/* What the backend that serves now has counted, of a device ("g2 vif1") or of all ("") together. */
RIG uint64_t counted(const char *device, const char *key)
{
	struct json_object *all;
	uint64_t sum;
	char args[64];

	snprintf(args, sizeof(args), "stats %s", device);
	all = pvio_json(args);
	sum = sum_of(all, key);
	json_object_put(all);
	return sum;
}

/* What it says it has lost, of all vifs, and of none: each vif says that. */
static uint64_t told(void)
{
	struct json_object *all = pvio_json("stats"), *stats, *backend, *v;
	uint64_t sum = sum_of(all, "tx_lost") + sum_of(all, "rx_lost") + sum_of(all, "rx_full");

	if (json_object_object_get_ex(json_object_array_get_idx(all, 0), "stats", &stats) && json_object_object_get_ex(stats, "backend", &backend) &&
	    json_object_object_get_ex(backend, "lost", &v))
		sum += (uint64_t)json_object_get_int64(v);
	json_object_put(all);
	return sum;
}

/* A command of pvio's, with the stream going on. */
static __attribute__((format(printf, 1, 2))) void beside_the_stream(const char *fmt, ...)
{
	uint64_t end = stream_ms() + PATIENCE_MS;
	char args[200];
	int status;
	va_list ap;
	pid_t pid;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	pid = fork();
	if (pid == 0)
		_exit(pvio("%s", args));
	while (waitpid(pid, &status, WNOHANG) == 0) {
		turn(true);
		assert_true(stream_ms() < end);
	}
	assert_int_equal(status, 0);
}

/* `pvio backend VERB netback`. Returns how long the stream paused. */
static uint64_t replace_netback(const char *verb)
{
	static uint64_t before; /* the loss when it was drained last */
	uint64_t now, pause, all;

	pause_us = 0;
	beside_the_stream("backend %s netback", verb);
	run_on(50);
	pause = pause_us;
	drain();
	now = lost();
	all = told();
	print_message("%s: %llu packets were lost, of %llu it is told\n", verb, (unsigned long long)(now - before), (unsigned long long)all);
	assert_true(now - before <= all);
	before = now;
	return pause;
}

/* Stop all of its threads. */
static void stop(int pid)
{
	char pattern[64], stat[512];
	glob_t g;
	bool runs;

	kill(pid, SIGSTOP);
	snprintf(pattern, sizeof(pattern), "/proc/%d/task/*/stat", pid);
	do {
		assert_int_equal(glob(pattern, 0, NULL, &g), 0);
		runs = false;
		for (size_t i = 0; i < g.gl_pathc; i++) {
			FILE *f = fopen(g.gl_pathv[i], "r");

			if (f && fgets(stat, sizeof(stat), f))
				runs |= strncmp(strrchr(stat, ')'), ") T", 3) != 0;
			if (f)
				fclose(f);
		}
		globfree(&g);
	} while (runs);
}

/* With nobody there to answer, there is room for as many requests as the ring has slots: none has been lost, and none answered twice. */
static void every_request_was_answered(struct stream *s)
{
	struct json_object *list = pvio_json("backend list"), *v = NULL;
	uint64_t end = stream_ms() + PATIENCE_MS;
	int pid = 0, n;

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *b = json_object_array_get_idx(list, i);

		json_object_object_get_ex(b, "name", &v);
		if (strcmp(json_object_get_string(v), "netback") == 0 && json_object_object_get_ex(b, "pid", &v))
			pid = json_object_get_int(v);
	}
	json_object_put(list);
	assert_true(pid > 1);
	do {
		static uint8_t out[2000];
		struct pv_netfront_packet p = { .data = out, .len = 100 };

		assert_true(stream_ms() < end);
		drain();
		stop(pid);
		for (n = 0; n <= SLOTS; n++) {
			packet_fill(out, s, 0, 100);
			out[0] = 2; /* to nobody here */
			if (pv_netfront_send(s->from, 0, &p, 1) != 1)
				break;
		}
		kill(pid, SIGCONT);
	} while (n < SLOTS);
	assert_int_equal(n, SLOTS);
}

static struct pv_netfront *open_vif(int domid, unsigned devid)
{
	const struct pv_netfront_config c = { .devid = devid, .wait_ms = 10000, .queues = 1 };
	struct pv_netfront *f;
	char why[200];

	if (pv_netfront_open(NULL, domid, &c, &f, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return f;
}

static struct stream stream_new(struct pv_netfront *from, struct pv_netfront *to)
{
	struct stream s = { .from = from, .to = to, .next = 1, .progress = stream_ms() };

	memcpy(s.from_mac, pv_netfront_offer(from)->mac, 6);
	memcpy(s.to_mac, pv_netfront_offer(to)->mac, 6);
	return s;
}

static void stream_open(unsigned devid)
{
	struct pv_netfront *a = open_vif(1, devid), *b = open_vif(2, devid);
	uint64_t end = stream_ms() + PATIENCE_MS;

	ab = stream_new(a, b);
	ba = stream_new(b, a);
	while (pv_netfront_state(ab.from) != XenbusStateConnected || pv_netfront_state(ab.to) != XenbusStateConnected) {
		assert_true(pv_netfront_work(ab.from) >= 0 && pv_netfront_work(ab.to) >= 0);
		assert_true(stream_ms() < end);
	}
	run_on(100);
}

static void stream_close(void)
{
	pv_netfront_close(ab.from, 5000);
	pv_netfront_close(ab.to, 5000);
}

RIG void stream_survives(void)
{
	bool in_full = getenv("PVIO_TEST_LONG") && *getenv("PVIO_TEST_LONG");
	unsigned events = in_full ? EVENTS_LONG : EVENTS;
	uint64_t kill_us[EVENTS_LONG], handover_us[EVENTS_LONG];

	srand((unsigned)stream_ms());
	for (unsigned i = 0; i < events; i++) {
		run_on(1 + (uint64_t)rand() % 500);
		kill_us[i] = replace_netback("restart");
		run_on(1 + (uint64_t)rand() % 500);
		handover_us[i] = replace_netback("handover");
	}
	run_on(500);
	every_request_was_answered(&ab);
	every_request_was_answered(&ba);
	tell_pauses("kills", "a packet", kill_us, events);
	tell_pauses("handovers", "a packet", handover_us, events);
}

#endif
