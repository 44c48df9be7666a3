/* rules_parse.c - from the text of a rules file to rules, or to the exact place of its first error.
 *
 * A line is one statement, of words; `#` begins a comment. A table of words drives the parsing of a rule: each word fills in its
 * part, in any order, and notes where it stood; what words mean together is checked at the end of the line (settle). */
#include "rules.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <pvio/words.h>
#include <stdlib.h>
#include <string.h>

const char *const rule_actions[] = { "pass", "drop", "reject", NULL };

/* Words of a rule, as bits and as index into parser.column. */
enum word {
	W_DIRECTION, W_SRC_MAC, W_DST_MAC, W_VLAN, W_TYPE, W_SRC, W_DST, W_PROTO, W_SPORT, W_DPORT, W_ICMP_TYPE, W_SYN, W_FRAGMENT,
	W_MIRROR, W_COUNT, W_RATE, WORDS,
};

struct parser {
	struct pv_words w;
	const char *text;
	struct rules_file *f;
	unsigned room; /* for rules */
	struct rule *r; /* that is being read */
	const char *seen[WORDS]; /* where in this line; NULL: not */
	bool default_seen;
};

/* At the word read last, or elsewhere in its line. */
#define fail(p, ...) pv_words_fail(&(p)->w, __VA_ARGS__)
#define fail_at(p, at, ...) pv_words_fail_at(&(p)->w, at, __VA_ARGS__)

/* ---- the words of a rule, each with its argument in p->w.word ---- */

static int w_mac(struct parser *p, enum word w)
{
	int i = w == W_DST_MAC;

	if (pv_words_mac(&p->w, p->r->mac[i]) < 0)
		return -EINVAL;
	p->r->mac_mask[i] = 0xff;
	return 0;
}

static int w_vlan(struct parser *p, enum word w)
{
	uint64_t n = HEADERS_VLAN_NONE;

	(void)w;
	if (strcmp(p->w.word, "none") && pv_words_whole_number(p->w.word, 0, 4094, &n) < 0)
		return fail(p, "%s is no VLAN: give 0 to 4094, or none", p->w.word);
	p->r->vlan = (uint16_t)n;
	p->r->vlan_mask = 0xffff;
	return 0;
}

/* The word matches packets of one kind only. */
static int only_in(struct parser *p, enum headers_kind kind)
{
	p->r->kinds &= (uint8_t)(1 << kind);
	return p->r->kinds ? 0 : fail(p, "%s cannot be in a packet that the words before it match", p->w.word);
}

static int w_type(struct parser *p, enum word w)
{
	static const char *const names[] = { "ipv4", "ipv6", "arp", NULL };
	static const uint16_t types[] = { 0x0800, 0x86dd, 0x0806 };
	int i = pv_words_find(names, p->w.word);
	uint64_t n = i < 0 ? 0 : types[i];

	(void)w;
	if (i < 0 && pv_words_whole_number(p->w.word, 0x600, 0xffff, &n) < 0)
		return fail(p, "%s is no EtherType: give ipv4, ipv6, arp, or 0x600 to 0xffff", p->w.word);
	p->r->type = (uint16_t)n;
	p->r->type_mask = 0xffff;
	return only_in(p, n == 0x0800 ? HEADERS_IP4 : n == 0x86dd ? HEADERS_IP6 : HEADERS_OTHER);
}

static int w_prefix(struct parser *p, enum word w)
{
	struct rule_prefix *out = &p->r->addr[w == W_DST];
	bool v6 = strchr(p->w.word, ':');
	char *slash = strchr(p->w.word, '/');
	uint64_t len = v6 ? 128 : 32;
	const char *at = p->w.word_at;

	if (slash) {
		*slash = 0;
		if (pv_words_whole_number(slash + 1, 0, len, &len) < 0)
			return fail_at(p, at + (slash + 1 - p->w.word), "%s is no length of an IPv%d prefix: give 0 to %d", slash + 1, v6 ? 6 : 4,
				       v6 ? 128 : 32);
	}
	if (inet_pton(v6 ? AF_INET6 : AF_INET, p->w.word, out->addr) != 1)
		return fail(p, "%s is no address: give one such as 10.0.0.0/8 or 2001:db8::/32", p->w.word);
	for (unsigned bit = (unsigned)len; bit < (v6 ? 128 : 32); bit++)
		if (out->addr[bit / 8] & 0x80 >> bit % 8)
			return fail(p, "%s has bits set beyond its length /%u", p->w.word, (unsigned)len);
	out->len = (uint8_t)len;
	return only_in(p, v6 ? HEADERS_IP6 : HEADERS_IP4);
}

static int w_proto(struct parser *p, enum word w)
{
	static const char *const names[] = { "tcp", "udp", "icmp", "icmp6", NULL };
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6 };
	int i = pv_words_find(names, p->w.word);
	uint64_t n = i < 0 ? 0 : protos[i];

	(void)w;
	if (i < 0 && pv_words_whole_number(p->w.word, 0, 255, &n) < 0)
		return fail(p, "%s is no protocol: give tcp, udp, icmp, icmp6, or 0 to 255", p->w.word);
	p->r->proto = (uint8_t)n;
	p->r->proto_mask = 0xff;
	return 0;
}

static int w_port(struct parser *p, enum word w)
{
	struct rule_range *out = &p->r->port[w == W_DPORT];
	const char *s = p->w.word;
	uint64_t low, high;

	if (pv_words_number(&s, 0, 65535, &low) < 0 || (*s && *s != '-'))
		return fail(p, "%s is no port: give 0 to 65535, or two of them such as 1024-65535", p->w.word);
	high = low;
	if (*s && (pv_words_whole_number(s + 1, 0, 65535, &high) < 0 || high < low))
		return fail_at(p, p->w.word_at + (s + 1 - p->w.word), "%s is no port from %u to 65535", s + 1, (unsigned)low);
	*out = (struct rule_range){ (uint16_t)low, (uint16_t)high };
	p->r->flags |= HEADERS_L4;
	p->r->flags_mask |= HEADERS_L4;
	return 0;
}

static int w_icmp_type(struct parser *p, enum word w)
{
	const char *s = p->w.word;
	uint64_t type, code;

	(void)w;
	if (pv_words_number(&s, 0, 255, &type) < 0 || (*s && *s != '/'))
		return fail(p, "%s is no ICMP type: give 0 to 255, or with a code such as 3/4", p->w.word);
	p->r->port[0] = (struct rule_range){ (uint16_t)(type << 8), (uint16_t)(type << 8 | 255) };
	if (*s) {
		if (pv_words_whole_number(s + 1, 0, 255, &code) < 0)
			return fail_at(p, p->w.word_at + (s + 1 - p->w.word), "%s is no code of ICMP: give 0 to 255", s + 1);
		p->r->port[0].low = p->r->port[0].high = (uint16_t)(type << 8 | code);
	}
	p->r->flags |= HEADERS_L4;
	p->r->flags_mask |= HEADERS_L4;
	return 0;
}

static int w_mirror(struct parser *p, enum word w)
{
	uint64_t n;

	(void)w;
	if (!strcmp(p->w.word, "uplink"))
		p->r->mirror = RULE_UPLINK;
	else if (!strncmp(p->w.word, "vif", 3) && pv_words_whole_number(p->w.word + 3, 0, INT32_MAX, &n) == 0)
		p->r->mirror = (int32_t)n;
	else
		return fail(p, "%s is nowhere to mirror to: give uplink, or a vif of the same guest such as vif1", p->w.word);
	return 0;
}

static int w_count(struct parser *p, enum word w)
{
	struct rules_file *f = p->f;
	unsigned i;

	(void)w;
	if (pv_words_name(&p->w, "counter", RULES_NAME_LEN) < 0)
		return -EINVAL;
	for (i = 0; i < f->nr_counts && strcmp(f->count[i].name, p->w.word); i++)
		;
	if (i == RULES_COUNTS_MAX)
		return fail(p, "more than %d counters", RULES_COUNTS_MAX);
	if (i == f->nr_counts)
		strcpy(f->count[f->nr_counts++].name, p->w.word);
	p->r->count = (int16_t)i;
	return 0;
}

static int rate_index(const struct rules_file *f, const char *s)
{
	for (unsigned i = 0; i < f->nr_rates; i++)
		if (!strcmp(f->rate[i].name, s))
			return (int)i;
	return -1;
}

static int w_rate(struct parser *p, enum word w)
{
	(void)w;
	p->r->rate = (int16_t)rate_index(p->f, p->w.word);
	return p->r->rate < 0 ? fail(p, "no such rate: %s; define it above: rate %s bits 10M", p->w.word, p->w.word) : 0;
}

static const struct {
	const char *word;
	enum word is;
	uint8_t flag, value; /* without an argument: of headers_key.flags */
	const char *what; /* the argument */
	int (*parse)(struct parser *p, enum word w);
} words[] = {
	{ "from-guest", W_DIRECTION, HEADERS_FROM, HEADERS_FROM, NULL, NULL },
	{ "to-guest", W_DIRECTION, HEADERS_FROM, 0, NULL, NULL },
	{ "src-mac", W_SRC_MAC, 0, 0, "a MAC address", w_mac },
	{ "dst-mac", W_DST_MAC, 0, 0, "a MAC address", w_mac },
	{ "vlan", W_VLAN, 0, 0, "0 to 4094, or none", w_vlan },
	{ "type", W_TYPE, 0, 0, "ipv4, ipv6, arp, or a number", w_type },
	{ "src", W_SRC, 0, 0, "an address or prefix", w_prefix },
	{ "dst", W_DST, 0, 0, "an address or prefix", w_prefix },
	{ "proto", W_PROTO, 0, 0, "tcp, udp, icmp, icmp6, or a number", w_proto },
	{ "sport", W_SPORT, 0, 0, "a port or two such as 1024-65535", w_port },
	{ "dport", W_DPORT, 0, 0, "a port or two such as 1024-65535", w_port },
	{ "icmp-type", W_ICMP_TYPE, 0, 0, "a type, or a type and code such as 3/4", w_icmp_type },
	{ "syn", W_SYN, HEADERS_SYN, HEADERS_SYN, NULL, NULL },
	{ "fragment", W_FRAGMENT, HEADERS_FRAGMENT, HEADERS_FRAGMENT, NULL, NULL },
	{ "mirror", W_MIRROR, 0, 0, "uplink, or a vif such as vif1", w_mirror },
	{ "count", W_COUNT, 0, 0, "a name", w_count },
	{ "rate", W_RATE, 0, 0, "the name of a rate", w_rate },
};

/* ---- a rule ---- */

/* What the words of a rule mean together: none that can never match. */
static int settle(struct parser *p)
{
	struct rule *r = p->r;
	bool l4 = p->seen[W_SPORT] || p->seen[W_DPORT] || p->seen[W_SYN] || p->seen[W_ICMP_TYPE];
	bool icmp = r->proto == IPPROTO_ICMP || r->proto == IPPROTO_ICMPV6, said = p->seen[W_PROTO];
	const char *port = p->seen[W_SPORT] ? p->seen[W_SPORT] : p->seen[W_DPORT];

	if (said || l4 || p->seen[W_FRAGMENT])
		r->kinds &= (uint8_t)~(1 << HEADERS_OTHER);
	if (!r->kinds)
		return fail_at(p, p->seen[W_TYPE], "only IP has protocols, ports and fragments: give type ipv4 or ipv6");
	if (p->seen[W_FRAGMENT] && l4)
		return fail_at(p, p->seen[W_FRAGMENT], "fragments but the first have no ports, flags nor ICMP types: make it a rule of its own");
	if (port && !(said && (r->proto == IPPROTO_TCP || r->proto == IPPROTO_UDP)))
		return fail_at(p, port, "ports are TCP's and UDP's: give proto tcp or proto udp");
	if (p->seen[W_SYN] && !(said && r->proto == IPPROTO_TCP))
		return fail_at(p, p->seen[W_SYN], "syn is TCP's: give proto tcp");
	if (p->seen[W_ICMP_TYPE] && !(said && icmp))
		return fail_at(p, p->seen[W_ICMP_TYPE], "types are ICMP's: give proto icmp or proto icmp6");
	if (said && icmp) {
		r->kinds &= (uint8_t)(r->proto == IPPROTO_ICMP ? 1 << HEADERS_IP4 : 1 << HEADERS_IP6);
		if (!r->kinds)
			return fail_at(p, p->seen[W_PROTO], "icmp is IPv4's and icmp6 is IPv6's");
	}
	p->f->ports |= l4;
	return 0;
}

static int rule_word(struct parser *p)
{
	const char *at = p->w.word_at;
	size_t i = 0;
	char word[PV_WORD_MAX + 1];
	int ret;

	while (i < sizeof(words) / sizeof(words[0]) && strcmp(words[i].word, p->w.word))
		i++;
	if (i == sizeof(words) / sizeof(words[0]))
		return fail(p, "no such word in a rule: %s", p->w.word);
	if (p->seen[words[i].is])
		return fail(p, words[i].is == W_DIRECTION ? "%s: the direction was said before" : "%s was said before", p->w.word);
	p->seen[words[i].is] = at;
	p->r->flags_mask |= words[i].flag;
	p->r->flags |= words[i].value;
	if (!words[i].parse)
		return 0;
	strcpy(word, p->w.word);
	ret = pv_words_want(&p->w, word, words[i].what);
	if (ret < 0)
		return ret;
	return words[i].parse(p, words[i].is);
}

static int rule_line(struct parser *p, enum rule_action action)
{
	struct rules_file *f = p->f;
	const char *begin = p->w.word_at, *last = p->w.at;
	int ret;

	if (f->nr == RULES_MAX)
		return fail(p, "more than %d rules", RULES_MAX);
	if (f->nr == p->room) {
		struct rule *more = realloc(f->rule, (p->room * 2 + 16) * sizeof(*more));

		if (!more)
			return -ENOMEM;
		f->rule = more;
		p->room = p->room * 2 + 16;
	}
	p->r = &f->rule[f->nr];
	*p->r = (struct rule){ .line = p->w.line, .at = (uint32_t)(begin - p->text), .action = (uint8_t)action, .mirror = RULE_NOT,
			       .count = RULE_NOT, .rate = RULE_NOT, .kinds = (1 << HEADERS_KINDS) - 1,
			       .port = { { 0, 65535 }, { 0, 65535 } } };
	memset(p->seen, 0, sizeof(p->seen));
	while ((ret = pv_words_next(&p->w)) > 0) {
		ret = rule_word(p);
		if (ret < 0)
			return ret;
		last = p->w.at;
	}
	if (ret == 0)
		ret = settle(p);
	p->r->len = (uint32_t)(last - begin);
	f->nr += ret == 0;
	return ret;
}

/* ---- the other statements ---- */

/* A number with k, M or G behind it. */
static int scaled(const char *s, uint64_t max, uint64_t *out)
{
	static const char units[] = "kMG";
	uint64_t n, unit = 1;
	const char *u;

	if (pv_words_number(&s, 1, max, &n) < 0)
		return -EINVAL;
	u = *s ? strchr(units, *s) : NULL;
	for (int i = u ? (int)(u - units) : -1; i >= 0; i--)
		unit *= 1000;
	if (s[u != NULL] || n > max / unit)
		return -EINVAL;
	*out = n * unit;
	return 0;
}

static int rate_word(struct parser *p, struct rules_rate *rate)
{
	static const char *const keys[] = { "bits", "packets", "burst", NULL };
	const uint64_t max[] = { 1000000000000, 1000000000, RULES_BURST_MS_MAX };
	int i = pv_words_find(keys, p->w.word);
	uint64_t n;

	if (i < 0)
		return fail(p, "no such word of a rate: %s; there are bits, packets and burst", p->w.word);
	if (pv_words_want(&p->w, keys[i], i == 2 ? "milliseconds" : "so many a second, such as 10M") < 0)
		return -EINVAL;
	if (i == 2 ? pv_words_whole_number(p->w.word, 1, max[i], &n) : scaled(p->w.word, max[i], &n))
		return fail(p, "%s: give %s", p->w.word, i == 2 ? "1 to 60000 milliseconds" : i ? "1 to 1G packets a second" : "1 to 1000G bits a second");
	if (i == 0)
		rate->bits = n;
	else if (i == 1)
		rate->packets = n;
	else
		rate->burst_ms = (uint32_t)n;
	return 0;
}

static int rate_line(struct parser *p)
{
	struct rules_file *f = p->f;
	struct rules_rate *rate = &f->rate[f->nr_rates];
	int ret;

	if (f->nr_rates == RULES_RATES_MAX)
		return fail(p, "more than %d rates", RULES_RATES_MAX);
	if (pv_words_want(&p->w, "rate", "its name") < 0 || pv_words_name(&p->w, "rate", RULES_NAME_LEN) < 0)
		return -EINVAL;
	if (rate_index(f, p->w.word) >= 0)
		return fail(p, "the rate %s was defined before", p->w.word);
	*rate = (struct rules_rate){ .burst_ms = RULES_BURST_MS };
	strcpy(rate->name, p->w.word);
	while ((ret = pv_words_next(&p->w)) > 0) {
		ret = rate_word(p, rate);
		if (ret < 0)
			return ret;
	}
	if (ret == 0 && !rate->bits && !rate->packets)
		return fail(p, "the rate %s limits nothing: give bits, packets or both", rate->name);
	f->nr_rates += ret == 0;
	return ret;
}

static int default_line(struct parser *p)
{
	int i;

	if (p->default_seen)
		return fail(p, "default was said before");
	if (pv_words_want(&p->w, "default", "pass, drop or reject") < 0)
		return -EINVAL;
	i = pv_words_find(rule_actions, p->w.word);
	if (i < 0)
		return fail(p, "%s: give pass, drop or reject", p->w.word);
	p->f->otherwise = (enum rule_action)i;
	p->default_seen = true;
	return 0;
}

static int antispoof_line(struct parser *p)
{
	p->f->antispoof = true;
	return 0;
}

static int line(struct parser *p)
{
	static const char *const others[] = { "rate", "default", "antispoof", NULL };
	static int (*const parse[])(struct parser *p) = { rate_line, default_line, antispoof_line };
	int ret = pv_words_next(&p->w), i;

	if (ret <= 0)
		return ret;
	i = pv_words_find(rule_actions, p->w.word);
	if (i >= 0)
		return rule_line(p, (enum rule_action)i);
	i = pv_words_find(others, p->w.word);
	if (i < 0)
		return fail(p, "no such statement: %s; there are pass, drop, reject, default, rate and antispoof", p->w.word);
	ret = parse[i](p);
	if (ret == 0)
		ret = pv_words_next(&p->w);
	return ret > 0 ? fail(p, "%s: nothing more is to be said after %s", p->w.word, others[i]) : ret;
}

int rules_parse(const char *text, size_t len, struct rules_file **out, char *why, size_t why_len)
{
	struct parser p = { 0 };
	int ret = 0;

	p.f = calloc(1, sizeof(*p.f));
	if (!p.f)
		return -ENOMEM;
	p.f->text = malloc(len + 1);
	if (!p.f->text) {
		rules_file_free(p.f);
		return -ENOMEM;
	}
	memcpy(p.f->text, text, len);
	p.f->text[len] = 0;
	p.text = p.f->text;
	pv_words_open(&p.w, p.text, len, why, why_len);
	if (len > RULES_TEXT_MAX)
		ret = fail_at(&p, p.text, "longer than %d bytes", RULES_TEXT_MAX);
	while (ret == 0 && pv_words_line(&p.w))
		ret = line(&p);
	if (ret < 0) {
		rules_file_free(p.f);
		return ret;
	}
	*out = p.f;
	return 0;
}

void rules_file_free(struct rules_file *f)
{
	if (!f)
		return;
	free(f->text);
	free(f->rule);
	free(f);
}
