/* Rules and anti-spoofing against a guest that lies, floods and rewrites; and rules replaced while packets pass. Two honest guests
 * exchange packets through the same backend all the while. */
#include "net_rig.h"
#include <pthread.h>

static struct net_guest c; /* whose vif has rules */
static uint8_t buf[65536], got[65536];

/* ---- calls ---- */

static struct json_object *with_rules(const char *more, const char *rules)
{
	struct json_object *o = json_tokener_parse(more);

	assert_non_null(o);
	if (rules)
		json_object_object_add(o, "rules", json_object_new_string(rules));
	return o;
}

static int set(const struct net_guest *g, const char *more, const char *rules)
{
	struct pv_device_id id = guest_device(g);
	struct json_object *params = pv_device_id_to_json(&id);

	json_object_object_add(params, "config", with_rules(more, rules));
	return rig_call("set", params);
}

static void must_set(const struct net_guest *g, const char *more, const char *rules)
{
	if (set(g, more, rules))
		fail_msg("%s", rig_last.message);
}

/* What `rules show` says. */
static struct json_object *show(const struct net_guest *g)
{
	struct pv_device_id id = guest_device(g);
	struct json_object *params = pv_device_id_to_json(&id);

	json_object_object_add(params, "what", json_object_new_string("rules.show"));
	if (rig_call("ask", params))
		fail_msg("%s", rig_last.message);
	return rig_last.result;
}

static int64_t number(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (!json_object_object_get_ex(o, key, &v))
		fail_msg("no %s", key);
	return json_object_get_int64(v);
}

/* A figure of rule i. */
static int64_t of_rule(const struct net_guest *g, size_t i, const char *key)
{
	struct json_object *rules = NULL;

	json_object_object_get_ex(show(g), "rules", &rules);
	return number(json_object_array_get_idx(rules, i), key);
}

/* ---- packets ---- */

static const uint8_t ip_c[4] = { 10, 0, 0, 5 }, ip_b[4] = { 10, 0, 0, 6 }, other_mac[6] = { 2, 9, 9, 9, 9, 9 };
static const uint8_t ip6_c[16] = { 0x20, 1, 0xd, 0xb8, [15] = 5 }, ip6_b[16] = { 0x20, 1, 0xd, 0xb8, [15] = 6 };

static unsigned ether(uint8_t *p, const uint8_t to[6], const uint8_t from[6], unsigned type)
{
	memset(p, 0, 200);
	memcpy(p, to, 6);
	memcpy(p + 6, from, 6);
	p[12] = (uint8_t)(type >> 8);
	p[13] = (uint8_t)type;
	return 14;
}

/* UDP or, with 0x02 for SYN in flags, TCP. */
static unsigned l4(uint8_t *p, unsigned proto, unsigned sport, unsigned dport)
{
	put16(p, sport);
	put16(p + 2, dport);
	p[12] = 0x50;
	p[13] = 2;
	return proto == 6 ? 20 : 8;
}

static unsigned ip4(uint8_t *p, const uint8_t to[6], const uint8_t from[6], const uint8_t src[4], const uint8_t dst[4], unsigned proto, unsigned dport)
{
	unsigned len = 20 + l4(p + ether(p, to, from, 0x0800) + 20, proto, 1000, dport);

	p[14] = 0x45;
	put16(p + 16, len);
	p[22] = 64;
	p[23] = (uint8_t)proto;
	memcpy(p + 26, src, 4);
	memcpy(p + 30, dst, 4);
	return 14 + len;
}

static unsigned ip6(uint8_t *p, const uint8_t to[6], const uint8_t from[6], const uint8_t src[16], const uint8_t dst[16], unsigned proto, unsigned dport)
{
	unsigned len = l4(p + ether(p, to, from, 0x86dd) + 40, proto, 1000, dport);

	p[14] = 0x60;
	put16(p + 18, len);
	p[20] = (uint8_t)proto;
	p[21] = 255;
	memcpy(p + 22, src, 16);
	memcpy(p + 38, dst, 16);
	return 14 + 40 + len;
}

static unsigned arp(uint8_t *p, const uint8_t to[6], const uint8_t from[6], const uint8_t sender[6], const uint8_t ip[4])
{
	static const uint8_t head[8] = { 0, 1, 8, 0, 6, 4, 0, 2 };

	ether(p, to, from, 0x0806);
	memcpy(p + 14, head, 8);
	memcpy(p + 22, sender, 6);
	memcpy(p + 28, ip, 4);
	return 14 + 28;
}

/* A neighbour advertisement for `target` with a link-layer address. */
static unsigned advert(uint8_t *p, const uint8_t to[6], const uint8_t from[6], const uint8_t src[16], const uint8_t target[16], const uint8_t mac[6])
{
	ip6(p, to, from, src, ip6_b, 58, 0);
	memset(p + 54, 0, 32);
	put16(p + 18, 32);
	p[54] = 136;
	memcpy(p + 62, target, 16);
	p[78] = 2;
	p[79] = 1;
	memcpy(p + 80, mac, 6);
	return 14 + 40 + 32;
}

/* Send what is in buf from g, and wait until it was taken. */
static void send_one(struct net_guest *g, unsigned len)
{
	tx_packet(g, 0, 0, buf, len);
	tx_publish(g, 0);
	assert_true(tx_answers(g, 0, 1, NULL, PATIENCE));
}

/* ... and it arrives at `to`, as it was; or, if it may not pass, an honest one sent behind it does, and nothing before that. */
static void passes(struct net_guest *from, struct net_guest *to, unsigned len)
{
	rx_post(to, 0, 1);
	send_one(from, len);
	assert_int_equal(rx_packet(to, 0, got, NULL, PATIENCE), len);
	assert_memory_equal(got, buf, len);
}

static void is_dropped(struct net_guest *from, struct net_guest *to, unsigned len)
{
	send_one(from, len);
	exchange(from, to, 77, len);
}

/* ---- the tests ---- */

static int up(void **state)
{
	(void)state;
	guest_up(&c, 1, ALL_FEATURES, "{}");
	return 0;
}

static int down(void **state)
{
	(void)state;
	guest_down(&c);
	rig_check();
	assert_int_equal(rig.broken, 0);
	return 0;
}

static void spoofs_are_dropped_and_counted(void **state)
{
	static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 };
	const uint8_t *b = peers.b.mac;
	int64_t spoofed = 0;

	(void)state;
	must_set(&c, "{\"antispoof\":\"1\",\"ip\":\"10.0.0.5,2001:db8::5\"}", NULL);
	passes(&c, &peers.b, ip4(buf, b, c.mac, ip_c, ip_b, 17, 53));
	passes(&c, &peers.b, arp(buf, b, c.mac, c.mac, ip_c));
	passes(&c, &peers.b, ip6(buf, b, c.mac, ip6_c, ip6_b, 17, 53));
	passes(&c, &peers.b, advert(buf, b, c.mac, ip6_c, ip6_c, c.mac));
	for (int round = 0; round < 50; round++) {
		is_dropped(&c, &peers.b, ip4(buf, b, peers.a.mac, ip_c, ip_b, 17, 53)); /* the MAC of a neighbour */
		is_dropped(&c, &peers.b, ip4(buf, b, other_mac, ip_c, ip_b, 17, 53));
		is_dropped(&c, &peers.b, ip4(buf, b, c.mac, ip_b, ip_b, 17, 53));
		is_dropped(&c, &peers.b, arp(buf, b, c.mac, c.mac, ip_b));
		is_dropped(&c, &peers.b, arp(buf, all, c.mac, peers.a.mac, ip_c));
		is_dropped(&c, &peers.b, ip6(buf, b, c.mac, ip6_b, ip6_b, 17, 53));
		is_dropped(&c, &peers.b, advert(buf, b, c.mac, ip6_c, ip6_b, c.mac));
		is_dropped(&c, &peers.b, advert(buf, b, c.mac, ip6_c, ip6_c, peers.a.mac));
		spoofed += 8;
		exchange(&peers.a, &peers.b, 500, (unsigned)round); /* meanwhile */
		exchange(&peers.b, &peers.a, 500, (unsigned)round);
	}
	assert_int_equal(guest_stat(&c, NULL, "rules_spoofed"), spoofed);
	must_set(&c, "{}", NULL);
	passes(&c, &peers.b, ip4(buf, b, c.mac, ip_b, ip_b, 17, 53)); /* it was the rule */
}

static void flood_of_spoofs_harms_nobody(void **state)
{
	enum { ROUNDS = 200, AT_ONCE = 32 };
	unsigned len;

	(void)state;
	must_set(&c, "{\"antispoof\":\"1\"}", NULL);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < AT_ONCE; i++) {
			len = ip4(buf, i % 2 ? peers.b.mac : peers.a.mac, other_mac, ip_c, ip_b, 17, i);
			buf[11] = (uint8_t)(round * AT_ONCE + i); /* ever new addresses */
			tx_packet(&c, 0, i, buf, len);
		}
		tx_publish(&c, 0);
		exchange(&peers.a, &peers.b, 1000, round);
		assert_true(tx_answers(&c, 0, AT_ONCE, NULL, PATIENCE));
	}
	assert_int_equal(guest_stat(&c, NULL, "rules_spoofed"), ROUNDS * AT_ONCE);
	assert_int_equal(json_object_array_length(json_object_object_get((guest_call(&c, "inspect"), rig_last.result), "addresses")), 1); /* its own */
}

static void first_match_decides_both_ways(void **state)
{
	const uint8_t *b = peers.b.mac;

	(void)state;
	must_set(&c, "{}", "pass from-guest proto udp dport 53 count dns\n"
			   "drop from-guest proto udp\n"
			   "drop to-guest src 10.0.0.6 proto udp dport 7\n"
			   "pass to-guest count dns\n");
	passes(&c, &peers.b, ip4(buf, b, c.mac, ip_c, ip_b, 17, 53));
	is_dropped(&c, &peers.b, ip4(buf, b, c.mac, ip_c, ip_b, 17, 54));
	passes(&c, &peers.b, ip6(buf, b, c.mac, ip6_c, ip6_b, 17, 53));
	is_dropped(&c, &peers.b, ip6(buf, b, c.mac, ip6_c, ip6_b, 17, 54));
	is_dropped(&peers.b, &c, ip4(buf, c.mac, b, ip_b, ip_c, 17, 7));
	passes(&peers.b, &c, ip4(buf, c.mac, b, ip_b, ip_c, 17, 8));
	assert_int_equal(of_rule(&c, 0, "packets"), 2);
	assert_int_equal(of_rule(&c, 0, "bytes"), 42 + 62);
	assert_int_equal(of_rule(&c, 1, "packets"), 2);
	assert_int_equal(of_rule(&c, 2, "packets"), 1);
	assert_int_equal(of_rule(&c, 3, "packets"), 2); /* and one of is_dropped's */
	assert_int_equal(of_rule(&c, 1, "line"), 2);
	assert_int_equal(number(json_object_object_get(show(&c), "default"), "packets"), 2); /* is_dropped's other two */
	assert_int_equal(number(json_object_array_get_idx(json_object_object_get(show(&c), "counts"), 0), "packets"), 4);
	assert_int_equal(guest_stat(&c, NULL, "rules_dropped"), 3);
}

static void fragments_and_nonsense(void **state)
{
	const uint8_t *b = peers.b.mac;
	unsigned len;

	(void)state;
	must_set(&c, "{}", "drop proto udp dport 9\ndrop fragment proto 6");
	len = ip4(buf, b, c.mac, ip_c, ip_b, 17, 9);
	put16(buf + 20, 100); /* not the first: no ports */
	passes(&c, &peers.b, len);
	len = ip4(buf, b, c.mac, ip_c, ip_b, 6, 9);
	put16(buf + 20, 100);
	is_dropped(&c, &peers.b, len);
	len = ip4(buf, b, c.mac, ip_c, ip_b, 6, 80);
	put16(buf + 20, 1); /* over the flags of the first (RFC 3128) */
	is_dropped(&c, &peers.b, len);
	len = ip4(buf, b, c.mac, ip_c, ip_b, 6, 80);
	put16(buf + 16, 28); /* a first fragment of 8 bytes (RFC 1858) */
	put16(buf + 20, 0x2000);
	is_dropped(&c, &peers.b, len);
	assert_int_equal(guest_stat(&c, NULL, "rules_tiny"), 2);
	len = ip4(buf, b, c.mac, ip_c, ip_b, 17, 80);
	put16(buf + 16, 2000); /* longer than it is */
	is_dropped(&c, &peers.b, len);
	len = ip4(buf, b, c.mac, ip_c, ip_b, 17, 80);
	buf[14] = 0x4f; /* options beyond the end */
	is_dropped(&c, &peers.b, len);
	len = ip6(buf, b, c.mac, ip6_c, ip6_b, 0, 80);
	for (unsigned i = 0; i < 100; i += 8) /* extension headers without end */
		buf[54 + i] = buf[55 + i] = 0;
	put16(buf + 18, 100);
	is_dropped(&c, &peers.b, 154);
	assert_int_equal(guest_stat(&c, NULL, "rules_bad"), 3);
}

/* The guest rewrites the port while its packets are looked at: what arrives is what the rule saw. */
static struct {
	uint8_t *port;
	bool stop;
} rewriting;

static void *rewrite(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&rewriting.stop, __ATOMIC_RELAXED)) {
		__atomic_store_n(rewriting.port, 9, __ATOMIC_RELAXED);
		__atomic_store_n(rewriting.port, 53, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void headers_rewritten_while_rules_look(void **state)
{
	enum { PACKETS = 4096, BATCH = 32, POSTED = 2 * BATCH };
	unsigned len = ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, 17, 53), n, posted = 0, arrived = 0;
	int64_t dropped;
	pthread_t thread;

	(void)state;
	must_set(&c, "{}", "pass proto udp dport 53\ndrop proto udp");
	rewriting.port = c.q[0].tx_data + 14 + 20 + 3;
	rewriting.stop = false;
	memcpy(c.q[0].tx_data, buf, len);
	pthread_create(&thread, NULL, rewrite, NULL);
	for (int i = 0; i < PACKETS / BATCH; i++) {
		rx_post(&peers.b, 0, arrived + POSTED - posted);
		posted = arrived + POSTED;
		for (int k = 0; k < BATCH; k++)
			tx_slot(&c, 0, 0, 0, len, 0); /* each of them in the same page */
		tx_publish(&c, 0);
		assert_true(tx_answers(&c, 0, BATCH, NULL, PATIENCE));
		while ((n = rx_packet(&peers.b, 0, got, NULL, 0))) {
			assert_int_equal(n, len);
			assert_int_equal(got[37], 53);
			arrived++;
		}
	}
	__atomic_store_n(&rewriting.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	dropped = guest_stat(&c, NULL, "rules_dropped");
	while (arrived + dropped < PACKETS) {
		assert_int_equal(rx_packet(&peers.b, 0, got, NULL, PATIENCE), len);
		assert_int_equal(got[37], 53);
		arrived++;
	}
	assert_int_equal(arrived + dropped, PACKETS);
	assert_true(arrived && dropped); /* both were seen, or nothing was rewritten */
	guest_again(&peers.b, LARGE_MTU); /* its spare requests are gone */
}

static void bad_rules_change_nothing(void **state)
{
	char itself[40];

	(void)state;
	must_set(&c, "{}", "drop proto udp dport 9");
	assert_int_equal(set(&c, "{}", "pass\npass dport 5\n"), -EINVAL);
	assert_non_null(strstr(rig_last.message, "rules: 2:6: ports are TCP's and UDP's"));
	assert_int_equal(set(&c, "{\"ip\":\"10.0.0.256\"}", "pass"), -EINVAL);
	assert_int_equal(set(&c, "{\"antispoof\":\"2\"}", NULL), -EINVAL);
	snprintf(itself, sizeof(itself), "pass mirror vif%u", c.devid);
	assert_int_equal(set(&c, "{}", itself), -EINVAL);
	is_dropped(&c, &peers.b, ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, 17, 9));
	assert_int_equal(of_rule(&c, 0, "packets"), 1);
	must_set(&c, "{}", ""); /* none at all */
	passes(&c, &peers.b, ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, 17, 9));
	must_set(&c, "{}", NULL);
	guest_again(&c, "{}");
}

/* A thousand other sets, each of which lets these packets pass: none is lost, none is held back. */
static void replaced_under_traffic_without_loss(void **state)
{
	enum { SETS = 1000, PACKETS = 8 };
	char rules[400];

	(void)state;
	for (unsigned i = 0; i < SETS; i++) {
		unsigned len = 0;

		rx_post(&peers.b, 0, PACKETS);
		for (unsigned j = 0; j < PACKETS; j++) {
			len = ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, 17, 53);
			buf[41] = (uint8_t)j;
			tx_packet(&c, 0, j, buf, len);
			if (j % 3 == 0)
				tx_publish(&c, 0);
		}
		tx_publish(&c, 0);
		if (i % 10 == 9)
			snprintf(rules, sizeof(rules), "%s", "");
		else
			snprintf(rules, sizeof(rules), "drop to-guest proto tcp dport %u\ndrop proto udp dport %u-60000\npass proto udp dport 50-60\ndefault drop",
				 i, i + 100);
		must_set(&c, i % 2 ? "{\"antispoof\":\"1\",\"ip\":\"10.0.0.5\"}" : "{}", rules);
		for (unsigned j = 0; j < PACKETS; j++) {
			assert_int_equal(rx_packet(&peers.b, 0, got, NULL, PATIENCE), len);
			assert_int_equal(got[41], j);
		}
		assert_true(tx_answers(&c, 0, PACKETS, NULL, PATIENCE));
	}
}

/* ---- reject ---- */

static void rejected_get_an_answer(void **state)
{
	static const uint8_t rst_seq[4] = { 0 };
	unsigned n;

	(void)state;
	must_set(&c, "{}", "reject");
	rx_post(&c, 0, 4);
	rx_post(&peers.b, 0, 2);
	send_one(&c, ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, 6, 80)); /* SYN: a reset */
	n = rx_packet(&c, 0, got, NULL, PATIENCE);
	assert_int_equal(n, 14 + 20 + 20);
	assert_memory_equal(got, c.mac, 6);
	assert_memory_equal(got + 6, peers.b.mac, 6);
	assert_memory_equal(got + 26, ip_b, 4);
	assert_memory_equal(got + 30, ip_c, 4);
	assert_int_equal(got[34] << 8 | got[35], 80);
	assert_int_equal(got[36] << 8 | got[37], 1000);
	assert_memory_equal(got + 38, rst_seq, 4);
	assert_int_equal(got[45], 1); /* acknowledges the SYN */
	assert_int_equal(got[47], 4 | 16);
	send_one(&c, ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, 17, 80)); /* UDP: prohibited */
	n = rx_packet(&c, 0, got, NULL, PATIENCE);
	assert_int_equal(n, 14 + 20 + 8 + 28);
	assert_int_equal(got[23], 1);
	assert_int_equal(got[34], 3);
	assert_int_equal(got[35], 13);
	assert_memory_equal(got + 42, buf + 14, 28);
	send_one(&c, ip6(buf, peers.b.mac, c.mac, ip6_c, ip6_b, 17, 80));
	n = rx_packet(&c, 0, got, NULL, PATIENCE);
	assert_int_equal(n, 14 + 40 + 8 + 48);
	assert_int_equal(got[20], 58);
	assert_int_equal(got[54], 1);
	assert_int_equal(got[55], 1);
	send_one(&peers.b, ip4(buf, c.mac, peers.b.mac, ip_b, ip_c, 6, 22)); /* the other way: to who sent it */
	n = rx_packet(&peers.b, 0, got, NULL, PATIENCE);
	assert_int_equal(n, 54);
	assert_memory_equal(got, peers.b.mac, 6);
	assert_int_equal(got[47], 4 | 16);
	assert_int_equal(guest_stat(&c, NULL, "rules_rejected"), 4);
	guest_again(&peers.b, LARGE_MTU);
}

static void storm_of_rejects_is_bounded(void **state)
{
	enum { ROUNDS = 300, AT_ONCE = 32 };
	int64_t begin = rig_ms(), rejected, elapsed;
	unsigned answers = 0;

	(void)state;
	must_set(&c, "{}", "reject");
	rx_post(&c, 0, RX_PAGES);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < AT_ONCE; i++)
			tx_packet(&c, 0, i, buf, ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, i % 2 ? 6 : 17, i));
		tx_publish(&c, 0);
		assert_true(tx_answers(&c, 0, AT_ONCE, NULL, PATIENCE));
		if (round % 20 == 0)
			exchange(&peers.a, &peers.b, 800, round);
	}
	rejected = guest_stat(&c, NULL, "rules_rejected");
	elapsed = rig_ms() - begin;
	while (answers < rejected && rx_packet(&c, 0, got, NULL, answers < RX_PAGES ? PATIENCE : 0))
		answers++;
	assert_in_range(rejected, 100, 100 + 100 * (elapsed + 1000) / 1000);
	assert_int_equal(rejected + guest_stat(&c, NULL, "rules_unanswered"), ROUNDS * AT_ONCE);
	assert_int_equal(answers, rejected < RX_PAGES ? rejected : RX_PAGES);
}

/* Two that reject everything answer no answers. */
static void rejecters_do_not_argue(void **state)
{
	(void)state;
	must_set(&c, "{}", "reject");
	must_set(&peers.b, LARGE_MTU, "reject to-guest");
	rx_post(&c, 0, 2);
	rx_post(&peers.b, 0, 2);
	must_set(&c, "{}", "reject to-guest");
	send_one(&c, ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, 6, 80));
	must_set(&peers.b, LARGE_MTU, NULL);
	assert_int_equal(guest_stat(&c, NULL, "rules_unanswered"), 1); /* the reset that came back */
	assert_int_equal(guest_stat(&c, NULL, "rules_rejected"), 0);
	guest_again(&peers.b, LARGE_MTU);
}

/* ---- rates and mirrors ---- */

static void rate_bounds_what_passes(void **state)
{
	enum { N = 2000, AT_ONCE = 50 };
	int64_t begin = rig_ms(), elapsed, over, most;
	unsigned passed = 0;

	(void)state;
	must_set(&c, "{}", "rate slow packets 50 burst 200\npass proto udp rate slow");
	for (unsigned sent = 0; sent < N; sent += AT_ONCE) {
		for (unsigned i = 0; i < AT_ONCE; i++)
			tx_packet(&c, 0, i, buf, ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, 17, 53));
		tx_publish(&c, 0);
		assert_true(tx_answers(&c, 0, AT_ONCE, NULL, PATIENCE));
	}
	over = of_rule(&c, 0, "over_rate");
	elapsed = rig_ms() - begin;
	most = 11 + 50 * (elapsed + 1000) / 1000;
	assert_in_range(N - over, 10, most);
	assert_int_equal(of_rule(&c, 0, "packets"), N);
	rx_post(&peers.b, 0, RX_PAGES / 2);
	while (passed < RX_PAGES / 2 && passed < N - over && rx_packet(&peers.b, 0, got, NULL, PATIENCE))
		passed++;
	assert_int_equal(passed, N - over < RX_PAGES / 2 ? N - over : RX_PAGES / 2);
	guest_again(&peers.b, LARGE_MTU);
}

/* A second vif of the same guest sees what the rule names, both ways, even what is dropped; and it may come and go. */
static void mirror_shows_what_the_rule_names(void **state)
{
	struct net_guest eye = { .h = c.h, .domid = c.domid, .devid = c.devid + 1000, .features = ALL_FEATURES, .nq = 1 };
	char rules[200];
	unsigned len;

	(void)state;
	guest_queue_new(&eye, 0);
	snprintf(rules, sizeof(rules), "pass proto udp dport 53 mirror vif%u\ndrop proto udp dport 9 mirror vif%u", eye.devid, eye.devid);
	must_set(&c, "{}", rules);
	passes(&c, &peers.b, ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, 17, 53)); /* nobody looks yet */
	for (int round = 0; round < 3; round++) {
		assert_int_equal(guest_prepare(&eye, "{\"rules\":\"default drop\"}"), 0);
		assert_int_equal(guest_connect(&eye, "{\"rules\":\"default drop\"}"), 0);
		rx_post(&eye, 0, 3);
		passes(&c, &peers.b, len = ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, 17, 53));
		assert_int_equal(rx_packet(&eye, 0, got, NULL, PATIENCE), len);
		assert_memory_equal(got, buf, len);
		passes(&peers.b, &c, len = ip4(buf, c.mac, peers.b.mac, ip_b, ip_c, 17, 53));
		assert_int_equal(rx_packet(&eye, 0, got, NULL, PATIENCE), len);
		assert_memory_equal(got, buf, len);
		send_one(&c, len = ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, 17, 9));
		assert_int_equal(rx_packet(&eye, 0, got, NULL, PATIENCE), len);
		assert_memory_equal(got, buf, len);
		assert_int_equal(guest_call(&eye, round == 1 ? "remove" : "disconnect"), 0);
		guest_rings_reset(&eye);
		exchange(&c, &peers.b, 99, 1);
		passes(&c, &peers.b, ip4(buf, peers.b.mac, c.mac, ip_c, ip_b, 17, 53));
	}
	assert_int_equal(guest_call(&eye, "remove"), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)
	const struct CMUnitTest tests[] = {
		TEST(spoofs_are_dropped_and_counted),
		TEST(flood_of_spoofs_harms_nobody),
		TEST(first_match_decides_both_ways),
		TEST(fragments_and_nonsense),
		TEST(headers_rewritten_while_rules_look),
		TEST(bad_rules_change_nothing),
		TEST(replaced_under_traffic_without_loss),
		TEST(rejected_get_an_answer),
		TEST(storm_of_rejects_is_bounded),
		TEST(rejecters_do_not_argue),
		TEST(rate_bounds_what_passes),
		TEST(mirror_shows_what_the_rule_names),
	};

	return rig_run_group_twice(tests);
}
