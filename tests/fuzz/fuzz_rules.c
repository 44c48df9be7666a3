/* fuzz_rules.c - the text of a rules file: what is accepted keeps its promises, what is not has a place within the text; and an
 * accepted rule, by its own words alone, is accepted again. */
#include "fuzz.h"
#include "netback/rules.h"
#include <errno.h>

static void check_rule(const struct rules_file *f, const struct rule *r, size_t size)
{
	MUST(r->kinds && !(r->kinds >> HEADERS_KINDS));
	MUST(r->action <= RULE_REJECT && r->line >= 1 && r->len && r->at + r->len <= size);
	MUST(!(r->flags & ~r->flags_mask));
	for (int i = 0; i < 2; i++) {
		MUST(r->port[i].low <= r->port[i].high);
		MUST(r->addr[i].len <= (r->kinds == 1 << HEADERS_IP6 ? 128 : r->kinds == 1 << HEADERS_IP4 ? 32 : 0));
	}
	MUST(r->mirror >= RULE_UPLINK && r->count < (int)f->nr_counts && r->rate < (int)f->nr_rates);
}

static void check_again(const struct rules_file *f, const struct rule *r)
{
	struct rules_file *alone;
	char why[200];

	if (r->rate != RULE_NOT) /* its rate is defined elsewhere */
		return;
	MUST(rules_parse(f->text + r->at, r->len, &alone, why, sizeof(why)) == 0);
	MUST(alone->nr == 1 && alone->rule[0].kinds == r->kinds && alone->rule[0].flags_mask == r->flags_mask);
	rules_file_free(alone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = exact(data, size), why[200];
	struct rules_file *f;
	unsigned line, column;
	int ret = rules_parse(text, size, &f, why, sizeof(why));

	if (ret == 0) {
		MUST(f->nr <= RULES_MAX && f->nr_rates <= RULES_RATES_MAX && f->nr_counts <= RULES_COUNTS_MAX);
		for (unsigned i = 0; i < f->nr; i++) {
			check_rule(f, &f->rule[i], size);
			check_again(f, &f->rule[i]);
		}
		rules_file_free(f);
	} else {
		MUST(ret == -EINVAL && sscanf(why, "%u:%u: ", &line, &column) == 2);
		MUST(line >= 1 && line <= size + 1 && column >= 1 && column <= size + 1);
	}
	free(text);
	return 0;
}
