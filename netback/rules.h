/* rules.h - a rules file, parsed; pvio-rules(5) says what may be in it. Pure: neither DPDK nor the rest of netback, so that
 * `pvio rules check` and the fuzzer share it. */
#ifndef NETBACK_RULES_H
#define NETBACK_RULES_H

#include "headers.h"
#include <stddef.h>

enum {
	RULES_TEXT_MAX = 512 << 10,
	RULES_MAX = 4096,
	RULES_RATES_MAX = 64,
	RULES_COUNTS_MAX = 256,
	RULES_NAME_LEN = 31,
	RULES_BURST_MS = 100, /* of a rate that says nothing else */
	RULES_BURST_MS_MAX = 60000,
};

enum rule_action { RULE_PASS, RULE_DROP, RULE_REJECT };
extern const char *const rule_actions[]; /* their names */

enum { RULE_NOT = -1 /* rule.mirror, .count, .rate: not said */, RULE_UPLINK = -2 /* rule.mirror */ };

struct rule_range {
	uint16_t low, high;
};

struct rule_prefix {
	uint8_t addr[16];
	uint8_t len; /* in bits; 0: any */
};

/* One rule: as headers.h has what it is compared with, in host order. Direction and all that is not said: any. */
struct rule {
	uint32_t line; /* from 1 */
	uint32_t at, len; /* its text in the file, less its comment */
	uint8_t kinds; /* 1 << enum headers_kind: of which packets it can say something */
	uint8_t action;
	uint8_t flags, flags_mask; /* of headers_key */
	uint8_t proto, proto_mask;
	uint16_t vlan, vlan_mask;
	struct rule_range port[2]; /* source, destination; as in headers_key of ICMP too */
	uint16_t type, type_mask; /* of HEADERS_OTHER */
	uint8_t mac[2][6];
	uint8_t mac_mask[2]; /* 0xff or 0 */
	struct rule_prefix addr[2];
	int32_t mirror; /* the number of a vif of the same guest */
	int16_t count, rate; /* index into rules_file */
};

struct rules_rate {
	char name[RULES_NAME_LEN + 1];
	uint64_t bits, packets; /* a second; 0: not limited */
	uint32_t burst_ms;
};

struct rules_count {
	char name[RULES_NAME_LEN + 1];
};

struct rules_file {
	char *text; /* a copy */
	struct rule *rule;
	unsigned nr, nr_rates, nr_counts;
	bool antispoof;
	bool ports; /* some rule looks at what is behind IP */
	enum rule_action otherwise; /* of what no rule matches */
	struct rules_rate rate[RULES_RATES_MAX];
	struct rules_count count[RULES_COUNTS_MAX];
};

/* Returns 0, -ENOMEM, or -EINVAL and in `why` "LINE:COLUMN: what is wrong, and what may be there". Free *out with rules_file_free. */
int rules_parse(const char *text, size_t len, struct rules_file **out, char *why, size_t why_len);
void rules_file_free(struct rules_file *f); /* NULL is fine */

#endif
