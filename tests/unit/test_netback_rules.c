/* Compiled rule sets: the first rule that matches, against a matcher that tries them one by one; rates; sets of many rules. */
#include "netback/rules_set.h"
#include <netinet/in.h>
#include <rte_cycles.h>
#include <setjmp.h>
#include <cmocka.h>

static char why[300];
static const struct antispoof nobody;

static struct rules *compile(const char *text)
{
	struct rules *r = NULL;

	if (rules_new(text, false, &nobody, 1, &r, why, sizeof(why)))
		fail_msg("%s", why);
	return r;
}

/* What a packet is, said a second time: the other matcher looks at this, not at its bytes. */
struct packet {
	uint8_t mac[2]; /* the last byte of 02:00:00:00:00:xx */
	int vlan; /* -1: no tag */
	unsigned type; /* 4, 6: IP; else an EtherType */
	uint8_t proto, addr[2]; /* the last byte of 10.0.0.x, 2001:db8::x */
	uint16_t port[2];
	uint8_t icmp[2];
	bool later, syn, from;
};

static unsigned pick(unsigned n)
{
	return (unsigned)random() % n;
}

static struct packet random_packet(void)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6, 47 };
	static const unsigned types[] = { 4, 4, 4, 6, 6, 6, 0x0806, 0x88cc };
	struct packet p = { .mac = { (uint8_t)pick(3), (uint8_t)pick(3) }, .vlan = (int)pick(4) - 1, .type = types[pick(8)], .from = pick(2) };

	if (p.type > 6)
		return p;
	p.proto = protos[pick(5)];
	p.later = !pick(6);
	p.syn = pick(2);
	for (int i = 0; i < 2; i++) {
		p.addr[i] = (uint8_t)pick(8);
		p.port[i] = (uint16_t)pick(12);
		p.icmp[i] = (uint8_t)pick(4);
	}
	return p;
}

static void put16(uint8_t *p, unsigned n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

static unsigned put_l4(const struct packet *p, uint8_t *l4)
{
	if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6) {
		memcpy(l4, p->icmp, 2);
		return 8;
	}
	put16(l4, p->port[0]);
	put16(l4 + 2, p->port[1]);
	l4[12] = 0x50;
	l4[13] = p->syn ? 2 : 16;
	return 20;
}

static unsigned put_ip4(const struct packet *p, uint8_t *ip)
{
	unsigned len = 20 + put_l4(p, ip + 20);

	ip[0] = 0x45;
	put16(ip + 2, len);
	put16(ip + 6, p->later ? 100 : 0);
	ip[9] = p->proto;
	ip[12] = ip[16] = 10;
	ip[15] = p->addr[0];
	ip[19] = p->addr[1];
	return len;
}

static unsigned put_ip6(const struct packet *p, uint8_t *ip)
{
	static const uint8_t net[4] = { 0x20, 0x01, 0x0d, 0xb8 };
	unsigned ext = p->later ? 8 : 0, len = ext + put_l4(p, ip + 40 + ext);

	ip[0] = 0x60;
	put16(ip + 4, len);
	ip[6] = p->later ? IPPROTO_FRAGMENT : p->proto;
	memcpy(ip + 8, net, 4);
	memcpy(ip + 24, net, 4);
	ip[23] = p->addr[0];
	ip[39] = p->addr[1];
	if (p->later) {
		ip[40] = p->proto;
		put16(ip + 42, 800);
	}
	return 40 + len;
}

/* Its headers, by way of its bytes. */
static void see(const struct packet *p, struct headers *h)
{
	uint8_t buf[200] = { 2, [6] = 2 };
	unsigned at = 12, type = p->type == 4 ? 0x0800 : p->type == 6 ? 0x86dd : p->type;

	buf[11] = p->mac[0];
	buf[5] = p->mac[1];
	if (p->vlan >= 0) {
		put16(buf + at, 0x8100);
		put16(buf + at + 2, (unsigned)p->vlan | 0xe000);
		at += 4;
	}
	put16(buf + at, type);
	at += 2;
	at += p->type == 4 ? put_ip4(p, buf + at) : p->type == 6 ? put_ip6(p, buf + at) : 46;
	headers_parse(buf, at, at, h);
	assert_int_equal(h->error, HEADERS_OK);
	if (p->from)
		h->key.flags |= HEADERS_FROM;
}

/* Does an address 10.0.0.x or 2001:db8::x lie in a prefix? */
static bool in(const struct packet *p, int i, const struct rule_prefix *prefix)
{
	uint8_t addr[16] = { 10 };
	unsigned last = 3;

	if (p->type == 6) {
		memcpy(addr, (const uint8_t[16]){ 0x20, 0x01, 0x0d, 0xb8 }, 16);
		last = 15;
	}
	addr[last] = p->addr[i];
	for (unsigned bit = 0; bit < prefix->len; bit++)
		if ((addr[bit / 8] ^ prefix->addr[bit / 8]) & 0x80 >> bit % 8)
			return false;
	return true;
}

static bool matches(const struct rule *r, const struct packet *p)
{
	unsigned kind = p->type == 4 ? HEADERS_IP4 : p->type == 6 ? HEADERS_IP6 : HEADERS_OTHER;
	bool icmp = p->type == 4 ? p->proto == IPPROTO_ICMP : p->proto == IPPROTO_ICMPV6;
	bool ports = !p->later && (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP), types = !p->later && icmp;
	unsigned icmp_type = (unsigned)p->icmp[0] << 8 | p->icmp[1];

	if (!(r->kinds >> kind & 1) || (r->type_mask && kind == HEADERS_OTHER && r->type != p->type))
		return false;
	if (r->flags_mask & HEADERS_FROM && !!(r->flags & HEADERS_FROM) != p->from)
		return false;
	for (int i = 0; i < 2; i++)
		if ((r->mac_mask[i] && (r->mac[i][0] != 2 || r->mac[i][5] != p->mac[i])) || (kind != HEADERS_OTHER && !in(p, i, &r->addr[i])))
			return false;
	if (r->vlan_mask && r->vlan != (p->vlan < 0 ? HEADERS_VLAN_NONE : p->vlan))
		return false;
	if (r->proto_mask && r->proto != p->proto)
		return false;
	if (r->flags_mask & HEADERS_FRAGMENT && !p->later)
		return false;
	if (r->flags_mask & HEADERS_SYN && !(ports && p->proto == IPPROTO_TCP && p->syn))
		return false;
	if (!(r->flags_mask & HEADERS_L4))
		return true;
	if (r->proto == IPPROTO_ICMP || r->proto == IPPROTO_ICMPV6)
		return types && icmp_type >= r->port[0].low && icmp_type <= r->port[0].high;
	return ports && p->port[0] >= r->port[0].low && p->port[0] <= r->port[0].high && p->port[1] >= r->port[1].low && p->port[1] <= r->port[1].high;
}

/* A rule with a few words that packets of random_packet may match. */
static void random_rule(char *out, size_t size)
{
	static const char *const actions[] = { "pass", "drop", "reject" }, *const directions[] = { "", "", "from-guest", "to-guest" };
	bool v6 = pick(2);
	size_t n = (size_t)snprintf(out, size, "%s %s", actions[pick(3)], directions[pick(4)]);

#define WORD(...) (n += (size_t)snprintf(out + n, size - n, " " __VA_ARGS__))
	if (!pick(8))
		WORD("src-mac 02:00:00:00:00:%02x", pick(3));
	if (!pick(8))
		WORD("dst-mac 02:00:00:00:00:%02x", pick(3));
	if (!pick(6))
		pick(3) ? WORD("vlan %u", pick(3)) : WORD("vlan none");
	if (!pick(10)) {
		WORD("type %s", pick(2) ? "arp" : "0x88cc");
	} else {
		unsigned len = 28 + pick(5), x = pick(8) & (0xff << (32 - len));

		if (!pick(3))
			v6 ? WORD("src 2001:db8::%u/%u", x, 96 + len) : WORD("src 10.0.0.%u/%u", x, len);
		if (!pick(3))
			v6 ? WORD("dst 2001:db8::%u/%u", x, 96 + len) : WORD("dst 10.0.0.%u/%u", x, len);
		if (!pick(12)) {
			WORD("fragment");
		} else if (!pick(2)) {
			unsigned low = pick(12);

			switch (pick(4)) {
			case 0: WORD("proto tcp dport %u-%u%s", low, low + pick(5), pick(2) ? " syn" : ""); break;
			case 1: WORD("proto udp sport %u-%u dport %u", low, low + pick(12), pick(12)); break;
			case 2: WORD("proto %s icmp-type %u", v6 ? "icmp6" : "icmp", pick(4)); break;
			default: WORD("proto %s icmp-type %u/%u", v6 ? "icmp6" : "icmp", pick(4), pick(4)); break;
			}
		} else if (!pick(3)) {
			WORD("proto %s", v6 ? "icmp6" : "udp");
		}
	}
#undef WORD
}

static void match_is_that_of_a_naive_matcher(void **state)
{
	unsigned found[2] = { 0 };

	(void)state;
	srandom(1);
	for (int set = 0; set < 150; set++) {
		char text[64 * 200] = "";
		unsigned n = 1 + pick(40);
		struct rules *r;

		for (unsigned i = 0; i < n; i++) {
			char line[180];

			random_rule(line, sizeof(line));
			strcat(strcat(text, line), "\n");
		}
		r = compile(text);
		assert_int_equal(r->file->nr, n);
		for (int i = 0; i < 300; i++) {
			struct packet p = random_packet();
			struct headers h;
			unsigned want = 0, got;

			see(&p, &h);
			while (want < n && !matches(&r->file->rule[want], &p))
				want++;
			got = rules_match(r, &h);
			found[want < n]++;
			if (got != want)
				fail_msg("rule %u, not %u, of:\n%s for type %#x proto %u addr %u,%u port %u,%u icmp %u/%u later %d syn %d from %d vlan %d", got, want,
					 text, p.type, p.proto, p.addr[0], p.addr[1], p.port[0], p.port[1], p.icmp[0], p.icmp[1], p.later, p.syn, p.from, p.vlan);
		}
		rules_free(r);
	}
	assert_true(found[0] > 1000 && found[1] > 10000);
}

static void match_prefixes_of_every_length(void **state)
{
	char text[200];

	(void)state;
	for (unsigned len = 0; len <= 128; len += len % 32 < 30 ? 5 : 1) {
		struct headers h = { .kind = HEADERS_IP6 };
		struct rules *r;

		snprintf(text, sizeof(text), "drop src ::/%u", len);
		r = compile(text);
		assert_int_equal(rules_match(r, &h), 0);
		for (unsigned bit = 0; bit < 128; bit++) {
			memset(h.key.addr, 0, sizeof(h.key.addr));
			h.key.addr[0][bit / 8] = (uint8_t)(0x80 >> bit % 8);
			assert_int_equal(rules_match(r, &h), bit < len);
		}
		rules_free(r);
	}
}

static void no_rules_of_a_kind(void **state)
{
	struct rules *r = compile("drop type arp");
	struct packet p = { .type = 4, .vlan = -1, .proto = IPPROTO_UDP };
	struct headers h;

	(void)state;
	see(&p, &h);
	assert_int_equal(rules_match(r, &h), 1);
	p.type = 0x0806;
	see(&p, &h);
	assert_int_equal(rules_match(r, &h), 0);
	rules_free(r);
}

static void new_refuses_bad_text(void **state)
{
	struct rules *r = NULL;

	(void)state;
	assert_int_equal(rules_new("pass\nbad", false, &nobody, 1, &r, why, sizeof(why)), -EINVAL);
	assert_null(r);
	assert_memory_equal(why, "2:1: no such statement: bad", 27);
}

/* Many different rules: each finds its own packet, the first ones as well as the last. */
static void many_rules(void **state)
{
	enum { N = RULES_MAX };
	char *text = malloc(N * 100), *at = text;
	struct rules *r;

	(void)state;
	for (unsigned i = 0; i < N; i++)
		at += sprintf(at, "drop to-guest proto tcp src 10.%u.%u.0/24 dst 10.0.%u.%u dport %u-%u\n", i % 7, i % 256, i / 256, i % 256, i, i + 3);
	r = compile(text);
	for (unsigned i = 0; i < N; i++) {
		struct headers h = { .kind = HEADERS_IP4, .key = { .proto = IPPROTO_TCP, .flags = HEADERS_L4 } };
		uint8_t *src = h.key.addr[0], *dst = h.key.addr[1];

		src[0] = dst[0] = 10;
		src[1] = (uint8_t)(i % 7);
		src[2] = (uint8_t)i;
		dst[2] = (uint8_t)(i / 256);
		dst[3] = (uint8_t)i;
		put16(h.key.port[1], i + 3);
		assert_int_equal(rules_match(r, &h), i);
		put16(h.key.port[1], i + 4);
		assert_int_equal(rules_match(r, &h), N);
	}
	rules_free(r);
	free(text);
}

static volatile unsigned matched;

/* The least that a look at some packets takes, in TSC. */
static uint64_t least(const struct rules *r, const struct headers *h, unsigned n, uint64_t best)
{
	uint64_t begin = rte_rdtsc();

	for (unsigned i = 0; i < n; i++)
		matched += rules_match(r, &h[i]);
	return RTE_MIN(best, rte_rdtsc() - begin);
}

/* A thousand rules are looked at in little more time than ten: a list would take a hundred times as long, and the bound is eight times. */
static void match_does_not_grow_with_the_rules(void **state)
{
	enum { N = 256 };
	uint64_t few_tsc = UINT64_MAX, many_tsc = UINT64_MAX;
	static struct headers h[N];
	char text[1000 * 100], *at = text;
	struct rules *few, *many;

	(void)state;
	srandom(2);
	for (unsigned i = 0; i < 1000; i++)
		at += sprintf(at, "drop proto tcp src %u.%u.0.0/16 dport %u-%u\n", pick(200), pick(256), 10 * i, 10 * i + pick(50));
	many = compile(text);
	*strchr(text + 400, '\n') = 0;
	few = compile(text);
	assert_in_range(few->file->nr, 5, 15);
	for (unsigned i = 0; i < N; i++) {
		h[i] = (struct headers){ .kind = HEADERS_IP4, .key = { .proto = IPPROTO_TCP, .flags = HEADERS_L4 } };
		h[i].key.addr[0][0] = (uint8_t)pick(200);
		h[i].key.addr[0][1] = (uint8_t)pick(256);
		put16(h[i].key.port[1], pick(10000));
	}
	for (unsigned i = 0; i < 200; i++) {
		few_tsc = least(few, h, N, few_tsc);
		many_tsc = least(many, h, N, many_tsc);
	}
	assert_true(many_tsc < 8 * few_tsc);
	rules_free(few);
	rules_free(many);
}

/* Sets come and go: what they took comes back. */
static void sets_come_and_go(void **state)
{
	struct rules *r = compile("drop proto tcp dport 1-1000\npass src 2001:db8::/32\nreject"), *other;
	struct packet p = { .type = 4, .vlan = -1, .proto = IPPROTO_TCP, .port = { 0, 5 } };
	struct headers h;

	(void)state;
	see(&p, &h);
	for (int i = 0; i < 300; i++) {
		other = compile("pass");
		assert_int_equal(rules_match(other, &h), 0);
		assert_int_equal(rules_match(r, &h), 0);
		rules_free(other);
	}
	p.port[1] = 1001;
	see(&p, &h);
	assert_int_equal(rules_match(r, &h), 2);
	rules_free(r);
}

/* A clock of its own: what passes in `seconds` of packets that come too fast. */
static uint64_t passed(const struct rules_rate *rate, double seconds, uint32_t bytes)
{
	struct rules_bucket b;
	uint64_t hz = rte_get_tsc_hz(), now = hz * 1000, step = hz / 100000, n = 0;

	rules_bucket_init(&b, rate);
	for (uint64_t end = now + (uint64_t)((double)hz * seconds); now < end; now += step)
		n += rules_bucket_take(&b, now, bytes);
	return n;
}

static void rate_keeps_to_its_figures(void **state)
{
	uint64_t n;

	(void)state;
	n = passed(&(struct rules_rate){ .packets = 1000, .burst_ms = 100 }, 2, 1500);
	assert_in_range(n, 2099, 2103); /* two seconds' worth, and the burst */
	n = passed(&(struct rules_rate){ .bits = 12000000, .burst_ms = 100 }, 2, 1500);
	assert_in_range(n, 2099, 2103);
	n = passed(&(struct rules_rate){ .bits = 12000000, .packets = 100, .burst_ms = 1000 }, 1, 1500);
	assert_in_range(n, 199, 202); /* the lower of the two */
	n = passed(&(struct rules_rate){ .bits = 1000000, .burst_ms = 1 }, 10, 65535);
	assert_in_range(n, 18, 21); /* larger than the burst: passes, and is paid for later */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(match_is_that_of_a_naive_matcher),
		cmocka_unit_test(match_prefixes_of_every_length),
		cmocka_unit_test(no_rules_of_a_kind),
		cmocka_unit_test(new_refuses_bad_text),
		cmocka_unit_test(many_rules),
		cmocka_unit_test(match_does_not_grow_with_the_rules),
		cmocka_unit_test(sets_come_and_go),
		cmocka_unit_test(rate_keeps_to_its_figures),
	};
	int ret;

	pv_log_open("test", PV_LOG_WARN);
	if (eal_start(64, why, sizeof(why)) < 0) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	eal_stop();
	return ret;
}
