/* Rules files: what they mean, each error with its place, and any bytes at all. */
#include "netback/rules.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char why[200];
static struct rules_file *f;

static int parse(const char *text)
{
	rules_file_free(f);
	f = NULL;
	return rules_parse(text, strlen(text), &f, why, sizeof(why));
}

static const struct rule *one(const char *text)
{
	if (parse(text))
		fail_msg("%s: %s", text, why);
	assert_int_equal(f->nr, 1);
	return &f->rule[0];
}

static void parse_nothing(void **state)
{
	static const char *const empty[] = { "", "\n", "# a comment", " \t\r\n\n#x\n", "   # \x01 in a comment, anything\n" };

	(void)state;
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
		assert_int_equal(parse(empty[i]), 0);
		assert_int_equal(f->nr, 0);
		assert_int_equal(f->otherwise, RULE_PASS);
		assert_false(f->antispoof);
	}
}

static void parse_bare_rule_matches_all(void **state)
{
	const struct rule *r = one("\n  drop # all of it\n");

	(void)state;
	assert_int_equal(r->line, 2);
	assert_int_equal(r->action, RULE_DROP);
	assert_int_equal(r->kinds, 7);
	assert_int_equal(r->flags_mask | r->proto_mask | r->vlan_mask | r->mac_mask[0] | r->mac_mask[1], 0);
	assert_int_equal(r->port[0].high, 65535);
	assert_int_equal(r->mirror, RULE_NOT);
	assert_int_equal(r->count, RULE_NOT);
	assert_int_equal(r->rate, RULE_NOT);
	assert_int_equal(r->len, 4);
	assert_memory_equal(f->text + r->at, "drop", 4);
	assert_false(f->ports);
}

static void parse_rule_with_all(void **state)
{
	static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 0xfe };
	const struct rule *r = one("rate ssh bits 10M packets 1k burst 50\n"
				   "reject from-guest src-mac 02:00:00:00:00:fe dst-mac 02:00:00:00:00:fe vlan 7 type ipv4 src 10.1.0.0/16 dst "
				   "192.168.1.1 dport 1-1024 sport 22 syn proto tcp mirror vif3 count tries rate ssh");

	(void)state;
	assert_int_equal(r->action, RULE_REJECT);
	assert_int_equal(r->flags, HEADERS_FROM | HEADERS_L4 | HEADERS_SYN);
	assert_int_equal(r->flags_mask, HEADERS_FROM | HEADERS_L4 | HEADERS_SYN);
	assert_memory_equal(r->mac[0], mac, 6);
	assert_memory_equal(r->mac[1], mac, 6);
	assert_int_equal(r->vlan, 7);
	assert_int_equal(r->kinds, 1 << HEADERS_IP4);
	assert_int_equal(r->proto, IPPROTO_TCP);
	assert_int_equal(r->addr[0].len, 16);
	assert_int_equal(r->addr[1].len, 32);
	assert_int_equal(r->addr[1].addr[0], 192);
	assert_int_equal(r->port[0].low, 22);
	assert_int_equal(r->port[0].high, 22);
	assert_int_equal(r->port[1].low, 1);
	assert_int_equal(r->port[1].high, 1024);
	assert_int_equal(r->mirror, 3);
	assert_string_equal(f->count[r->count].name, "tries");
	assert_string_equal(f->rate[r->rate].name, "ssh");
	assert_int_equal(f->rate[0].bits, 10000000);
	assert_int_equal(f->rate[0].packets, 1000);
	assert_int_equal(f->rate[0].burst_ms, 50);
	assert_true(f->ports);
}

static void parse_kinds(void **state)
{
	static const struct {
		const char *text;
		unsigned kinds;
	} cases[] = {
		{ "pass", 7 }, { "pass vlan none", 7 }, { "pass type arp", 4 }, { "pass type 0x88cc", 4 }, { "pass type 0x0800", 1 },
		{ "pass type 0x86dd", 2 }, { "pass proto tcp", 3 }, { "pass proto 47", 3 }, { "pass proto icmp", 1 }, { "pass proto icmp6", 2 },
		{ "pass src 0.0.0.0/0", 1 }, { "pass dst ::/0", 2 }, { "pass fragment", 3 }, { "pass proto icmp6 icmp-type 135", 2 },
		{ "pass proto icmp icmp-type 3/4", 1 }, { "pass proto tcp dst 2001:db8::1 dport 22", 2 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (one(cases[i].text)->kinds != cases[i].kinds)
			fail_msg("%s: %u", cases[i].text, f->rule[0].kinds);
}

static void parse_icmp_types_are_ranges(void **state)
{
	const struct rule *r = one("pass proto icmp icmp-type 8");

	(void)state;
	assert_int_equal(r->port[0].low, 0x800);
	assert_int_equal(r->port[0].high, 0x8ff);
	r = one("pass proto icmp icmp-type 3/4");
	assert_int_equal(r->port[0].low, 0x304);
	assert_int_equal(r->port[0].high, 0x304);
}

static void parse_other_statements(void **state)
{
	(void)state;
	assert_int_equal(parse("antispoof\ndefault reject\nrate a packets 1G\nrate b bits 1000G burst 60000\npass count x\ndrop count x"), 0);
	assert_true(f->antispoof);
	assert_int_equal(f->otherwise, RULE_REJECT);
	assert_int_equal(f->nr_rates, 2);
	assert_int_equal(f->rate[0].packets, 1000000000);
	assert_int_equal(f->rate[0].bits, 0);
	assert_int_equal(f->rate[0].burst_ms, RULES_BURST_MS);
	assert_int_equal(f->nr_counts, 1);
	assert_int_equal(f->rule[1].count, 0);
}

static void parse_errors_have_their_place(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "allow", "1:1: no such statement: allow; there are pass, drop, reject, default, rate and antispoof" },
		{ "pass\n\n \tdeny\n", "3:3: no such statement: deny" },
		{ "pass from-guest to-guest", "1:17: to-guest: the direction was said before" },
		{ "pass vlan 1 vlan 2", "1:13: vlan was said before" },
		{ "pass hello", "1:6: no such word in a rule: hello" },
		{ "pass vlan", "1:10: the line ends after vlan: give 0 to 4094, or none" },
		{ "pass vlan # 7", "1:11: the line ends after vlan" },
		{ "pass vlan 4095", "1:11: 4095 is no VLAN" },
		{ "pass vlan -1", "1:11: -1 is no VLAN" },
		{ "pass src-mac 02:00:00:00:00:0g", "1:14: 02:00:00:00:00:0g is no MAC address" },
		{ "pass src-mac 02:00:00:00:00:00:00", "1:14: 02:00:00:00:00:00:00 is no MAC address" },
		{ "pass dst-mac 02:00", "1:14: 02:00 is no MAC address" },
		{ "pass type ip", "1:11: ip is no EtherType" },
		{ "pass type 0x5ff", "1:11: 0x5ff is no EtherType" },
		{ "pass src 10.0.0.256", "1:10: 10.0.0.256 is no address" },
		{ "pass src 10.0.0.1/8", "1:10: 10.0.0.1 has bits set beyond its length /8" },
		{ "pass src 2001:db8::1/64", "1:10: 2001:db8::1 has bits set beyond its length /64" },
		{ "pass src 10.0.0.0/33", "1:19: 33 is no length of an IPv4 prefix: give 0 to 32" },
		{ "pass dst ::/129", "1:13: 129 is no length of an IPv6 prefix: give 0 to 128" },
		{ "pass dst ::/", "1:13:  is no length" },
		{ "pass dst :::/1", "1:10: ::: is no address" },
		{ "pass src 10.0.0.0/8 dst 2001:db8::/32", "1:25: 2001:db8:: cannot be in a packet that the words before it match" },
		{ "pass src 10.0.0.0/8 type arp", "1:26: arp cannot be in a packet" },
		{ "pass type arp src 10.0.0.0/8", "1:19: 10.0.0.0 cannot be in a packet" },
		{ "pass proto 256", "1:12: 256 is no protocol" },
		{ "pass proto sctp", "1:12: sctp is no protocol" },
		{ "pass proto tcp dport 65536", "1:22: 65536 is no port" },
		{ "pass proto tcp dport 20-10", "1:25: 10 is no port from 20 to 65535" },
		{ "pass proto tcp dport 20-", "1:25:  is no port from 20" },
		{ "pass proto tcp dport 80,443", "1:22: 80,443 is no port" },
		{ "pass dport 80", "1:6: ports are TCP's and UDP's: give proto tcp or proto udp" },
		{ "pass dport 80 proto icmp", "1:6: ports are TCP's" },
		{ "pass proto udp syn", "1:16: syn is TCP's: give proto tcp" },
		{ "pass icmp-type 8", "1:6: types are ICMP's" },
		{ "pass proto icmp icmp-type 256", "1:27: 256 is no ICMP type" },
		{ "pass proto icmp icmp-type 3/x", "1:29: x is no code of ICMP" },
		{ "pass proto icmp dst 2001:db8::1", "1:6: icmp is IPv4's and icmp6 is IPv6's" },
		{ "pass type arp proto tcp", "1:6: only IP has protocols, ports and fragments" },
		{ "pass proto tcp fragment dport 1", "1:16: fragments but the first have no ports" },
		{ "pass mirror eth0", "1:13: eth0 is nowhere to mirror to" },
		{ "pass mirror vif", "1:13: vif is nowhere to mirror to" },
		{ "pass mirror vif1x", "1:13: vif1x is nowhere to mirror to" },
		{ "pass count a!b", "1:13: a counter's name is of letters" },
		{ "pass count a23456789012345678901234567890123", "1:12: a counter's name has at most 31 characters" },
		{ "pass rate web", "1:11: no such rate: web; define it above: rate web bits 10M" },
		{ "rate", "1:5: the line ends after rate: give its name" },
		{ "rate a", "1:7: the rate a limits nothing" },
		{ "rate a burst 5", "1:15: the rate a limits nothing" },
		{ "rate a bits 0", "1:13: 0: give 1 to 1000G bits a second" },
		{ "rate a bits 1001G", "1:13: 1001G: give 1 to 1000G bits" },
		{ "rate a bits 10m", "1:13: 10m: give" },
		{ "rate a packets 10kk", "1:16: 10kk: give 1 to 1G packets a second" },
		{ "rate a bits 99999999999999999999", "1:13: 99999999999999999999: give" },
		{ "rate a burst 60001", "1:14: 60001: give 1 to 60000 milliseconds" },
		{ "rate a speed 1", "1:8: no such word of a rate: speed" },
		{ "rate a bits 1\nrate a bits 2", "2:6: the rate a was defined before" },
		{ "default", "1:8: the line ends after default" },
		{ "default allow", "1:9: allow: give pass, drop or reject" },
		{ "default pass\ndefault drop", "2:1: default was said before" },
		{ "default pass now", "1:14: now: nothing more is to be said after default" },
		{ "antispoof yes", "1:11: yes: nothing more is to be said after antispoof" },
		{ "pa\x01ss", "1:3: a character that is neither" },
		{ "pass \xff", "1:6: a character that is neither" },
		{ "pass src 0123456789012345678901234567890123456789012345678901234567890123456789", "1:10: a word of more than 64 characters" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (parse(cases[i].text) != -EINVAL)
			fail_msg("accepted: %s", cases[i].text);
		if (strncmp(why, cases[i].why, strlen(cases[i].why)))
			fail_msg("'%s' is '%s', not '%s'", cases[i].text, why, cases[i].why);
	}
}

static void parse_nul_is_an_error(void **state)
{
	(void)state;
	assert_int_equal(rules_parse("pass\0drop", 9, &f, why, sizeof(why)), -EINVAL);
	assert_memory_equal(why, "1:5: ", 5);
}

/* As many rules as there may be, and one more; as long as a file may be, and longer. */
static void parse_bounds(void **state)
{
	enum { LINE = 26 };
	char *text = malloc(RULES_TEXT_MAX + 2);

	(void)state;
	for (unsigned i = 0; i <= RULES_MAX; i++)
		snprintf(text + i * LINE, LINE + 1, "drop proto udp dport %04u\n", i);
	rules_file_free(f);
	f = NULL;
	assert_int_equal(rules_parse(text, RULES_MAX * LINE, &f, why, sizeof(why)), 0);
	assert_int_equal(f->nr, RULES_MAX);
	assert_int_equal(f->rule[999].line, 1000);
	assert_int_equal(f->rule[999].port[1].low, 999);
	rules_file_free(f);
	f = NULL;
	assert_int_equal(rules_parse(text, (RULES_MAX + 1) * LINE, &f, why, sizeof(why)), -EINVAL);
	assert_string_equal(why, "4097:1: more than 4096 rules");
	memset(text, '#', RULES_TEXT_MAX + 1);
	assert_int_equal(rules_parse(text, RULES_TEXT_MAX, &f, why, sizeof(why)), 0);
	rules_file_free(f);
	f = NULL;
	assert_int_equal(rules_parse(text, RULES_TEXT_MAX + 1, &f, why, sizeof(why)), -EINVAL);
	free(text);
}

/* Words in any order and nonsense between: what is accepted keeps its promises, what is not has a place. */
static void parse_random_words(void **state)
{
	static const char *const words[] = {
		"pass", "drop", "reject", "default", "antispoof", "rate", "from-guest", "to-guest", "src", "dst", "10.0.0.0/8", "::/0", "proto",
		"tcp", "udp", "icmp", "icmp6", "dport", "sport", "1-2", "7", "syn", "fragment", "vlan", "none", "type", "arp", "ipv6", "mirror",
		"vif0", "uplink", "count", "x", "bits", "packets", "burst", "10M", "\n", "\n", "\n", "#", "icmp-type", "3/4", "src-mac", "02:00:00:00:00:01",
		"\x80", "/", ":", "-", "0x800",
	};
	unsigned good = 0;

	(void)state;
	srand(4);
	for (int round = 0; round < 100000; round++) {
		char text[400] = "";
		int n = rand() % 8;

		for (int i = 0; i < n; i++)
			strcat(strcat(text, words[(size_t)rand() % (sizeof(words) / sizeof(words[0]))]), rand() % 16 ? " " : "");
		if (parse(text) == 0) {
			good += f->nr > 0;
			for (unsigned i = 0; i < f->nr; i++)
				assert_true(f->rule[i].kinds && f->rule[i].port[1].low <= f->rule[i].port[1].high && f->rule[i].rate < (int)f->nr_rates);
		} else {
			unsigned l, c;

			assert_int_equal(sscanf(why, "%u:%u: ", &l, &c), 2);
			assert_true(l >= 1 && c >= 1 && c <= strlen(text) + 1);
		}
	}
	assert_true(good > 1000);
}

static int done(void **state)
{
	(void)state;
	rules_file_free(f);
	f = NULL;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(parse_nothing, done),
		cmocka_unit_test_teardown(parse_bare_rule_matches_all, done),
		cmocka_unit_test_teardown(parse_rule_with_all, done),
		cmocka_unit_test_teardown(parse_kinds, done),
		cmocka_unit_test_teardown(parse_icmp_types_are_ranges, done),
		cmocka_unit_test_teardown(parse_other_statements, done),
		cmocka_unit_test_teardown(parse_errors_have_their_place, done),
		cmocka_unit_test_teardown(parse_nul_is_an_error, done),
		cmocka_unit_test_teardown(parse_bounds, done),
		cmocka_unit_test_teardown(parse_random_words, done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
