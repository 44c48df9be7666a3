/* rules.c - a rules file compiled for DPDK's acl library: a packet's headers in, the first rule that matches out.
 *
 * A set never changes once it is made, but for its counters (a copy for each worker) and the times in its rates; a vif's rules are
 * replaced by a new set. The library finds the best match, which priorities that fall with the line make the first one. It looks at
 * the key four bytes at a time, and leaves out words that no rule asks for, so three tables of the same shape suffice: IPv4, IPv6,
 * others. Rules that each look at something else multiply in a table, so it takes TABLE_RULES of the file in order, the next one those
 * behind them, and is asked if none before knew the packet. */
#include "rules_set.h"
#include <rte_acl.h>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_malloc.h>

/* Where a field of a rule is; a prefix of IPv6 takes four. */
enum { F_PROTO, F_VLAN, F_FLAGS, F_ZERO, F_PORT, F_MAC = F_PORT + 2, F_ADDR = F_MAC + 4, FIELDS_MAX = F_ADDR + 8 };

#define FIELD(t, s, index, word, what) \
	{ .type = RTE_ACL_FIELD_TYPE_##t, .size = s, .field_index = index, .input_index = word, .offset = offsetof(struct headers_key, what) }

/* In the order in which they are looked at: addresses before ports, for prefixes lie apart or within each other where ranges overlap,
 * and overlaps near the root multiply all that is below. */
static const struct rte_acl_field_def head[] = {
	FIELD(BITMASK, 1, F_PROTO, 0, proto),
	FIELD(BITMASK, 2, F_VLAN, 1, vlan), FIELD(BITMASK, 1, F_FLAGS, 1, flags), FIELD(BITMASK, 1, F_ZERO, 1, zero1),
}, ip4[] = {
	FIELD(MASK, 4, F_ADDR, 2, addr[0]), FIELD(MASK, 4, F_ADDR + 1, 3, addr[1]),
}, ip6[] = {
	FIELD(MASK, 4, F_ADDR, 2, addr[0][0]), FIELD(MASK, 4, F_ADDR + 1, 3, addr[0][4]),
	FIELD(MASK, 4, F_ADDR + 2, 4, addr[0][8]), FIELD(MASK, 4, F_ADDR + 3, 5, addr[0][12]),
	FIELD(MASK, 4, F_ADDR + 4, 6, addr[1][0]), FIELD(MASK, 4, F_ADDR + 5, 7, addr[1][4]),
	FIELD(MASK, 4, F_ADDR + 6, 8, addr[1][8]), FIELD(MASK, 4, F_ADDR + 7, 9, addr[1][12]),
}, tail[] = {
	FIELD(RANGE, 2, F_PORT, 10, port[0]), FIELD(RANGE, 2, F_PORT + 1, 10, port[1]),
	FIELD(BITMASK, 4, F_MAC, 11, mac[0]),
	FIELD(BITMASK, 2, F_MAC + 1, 12, mac[0][4]), FIELD(BITMASK, 2, F_MAC + 2, 12, mac[1]),
	FIELD(BITMASK, 4, F_MAC + 3, 13, mac[1][2]),
};

RTE_ACL_RULE_DEF(table_rule, FIELDS_MAX);

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)headers_be16(p) << 16 | headers_be16(p + 2);
}

static void put8(struct rte_acl_field *f, uint8_t value, uint8_t mask)
{
	f->value.u8 = value;
	f->mask_range.u8 = mask;
}

static void put16(struct rte_acl_field *f, uint16_t value, uint16_t mask_or_high)
{
	f->value.u16 = value;
	f->mask_range.u16 = mask_or_high;
}

static void put32(struct rte_acl_field *f, uint32_t value, uint32_t mask_or_len)
{
	f->value.u32 = value;
	f->mask_range.u32 = mask_or_len;
}

static void put_prefix(struct rte_acl_field *f, const struct rule_prefix *p, unsigned words)
{
	for (unsigned i = 0; i < words; i++) {
		unsigned before = i * 32;

		put32(&f[i], be32(p->addr + i * 4), p->len > before ? RTE_MIN(p->len - before, 32u) : 0);
	}
}

static void fill(struct table_rule *t, const struct rule *r, enum headers_kind kind, unsigned index)
{
	struct rte_acl_field *f = t->field;
	uint16_t masks[2] = { (uint16_t)(r->mac_mask[0] * 0x101), (uint16_t)(r->mac_mask[1] * 0x101) };
	unsigned words = kind == HEADERS_IP4 ? 1 : kind == HEADERS_IP6 ? 4 : 0;

	*t = (struct table_rule){ .data = { .category_mask = 1, .priority = (int32_t)(RTE_ACL_MAX_PRIORITY - index), .userdata = index + 1 } };
	put8(&f[F_PROTO], r->proto, r->proto_mask);
	put16(&f[F_VLAN], r->vlan, r->vlan_mask);
	put8(&f[F_FLAGS], r->flags, r->flags_mask);
	for (int i = 0; i < 2; i++)
		put16(&f[F_PORT + i], r->port[i].low, r->port[i].high);
	if (kind == HEADERS_OTHER && r->type_mask)
		put16(&f[F_PORT], r->type, r->type);
	put32(&f[F_MAC], be32(r->mac[0]), masks[0] * 0x10001u);
	put16(&f[F_MAC + 1], headers_be16(r->mac[0] + 4), masks[0]);
	put16(&f[F_MAC + 2], headers_be16(r->mac[1]), masks[1]);
	put32(&f[F_MAC + 3], be32(r->mac[1] + 2), masks[1] * 0x10001u);
	put_prefix(&f[F_ADDR], &r->addr[0], words);
	put_prefix(&f[F_ADDR + words], &r->addr[1], words);
}

static void add_fields(struct rte_acl_config *c, const struct rte_acl_field_def *defs, unsigned n)
{
	memcpy(c->defs + c->num_fields, defs, n * sizeof(*defs));
	c->num_fields += n;
}

static void table_config(struct rte_acl_config *c, enum headers_kind kind)
{
	*c = (struct rte_acl_config){ .num_categories = 1 };
	add_fields(c, head, RTE_DIM(head));
	if (kind == HEADERS_IP4)
		add_fields(c, ip4, RTE_DIM(ip4));
	else if (kind == HEADERS_IP6)
		add_fields(c, ip6, RTE_DIM(ip6));
	add_fields(c, tail, RTE_DIM(tail));
}

/* The table of one kind of packet, for rules from `first` on. *out stays NULL if none of them is about such. */
static int table_new(const struct rules_file *f, enum headers_kind kind, unsigned first, struct rte_acl_ctx **out)
{
	static unsigned generation; /* a name that is known would give the table that has it */
	struct rte_acl_param param = { .socket_id = SOCKET_ID_ANY, .rule_size = RTE_ACL_RULE_SZ(FIELDS_MAX) };
	unsigned end = RTE_MIN(f->nr, first + TABLE_RULES);
	struct rte_acl_config config;
	struct table_rule rule;
	char name[RTE_ACL_NAMESIZE];
	int ret = 0;

	for (unsigned i = first; i < end; i++)
		param.max_rule_num += f->rule[i].kinds >> kind & 1;
	if (!param.max_rule_num)
		return 0;
	snprintf(name, sizeof(name), "rules%u", generation++);
	param.name = name;
	*out = rte_acl_create(&param);
	if (!*out)
		return -ENOMEM;
	for (unsigned i = first; i < end && ret == 0; i++) {
		if (!(f->rule[i].kinds >> kind & 1))
			continue;
		fill(&rule, &f->rule[i], kind, i);
		ret = rte_acl_add_rules(*out, (const struct rte_acl_rule *)&rule, 1);
	}
	table_config(&config, kind);
	return ret ? ret : rte_acl_build(*out, &config);
}

static int tables_new(struct rules *r)
{
	int ret = 0;

	for (unsigned kind = 0; kind < HEADERS_KINDS; kind++)
		for (unsigned i = 0; i * TABLE_RULES < r->file->nr && ret == 0; i++)
			ret = table_new(r->file, kind, i * TABLE_RULES, &r->table[kind][i]);
	return ret;
}

static int counts_new(struct rules *r, unsigned workers)
{
	size_t size = RTE_ALIGN_CEIL(sizeof(struct rules_counts) + (r->file->nr + 1) * sizeof(struct rule_counts), 64);

	for (r->workers = 0; r->workers < workers; r->workers++) {
		r->counts[r->workers] = aligned_alloc(64, size);
		if (!r->counts[r->workers])
			return -ENOMEM;
		memset(r->counts[r->workers], 0, size);
	}
	return 0;
}

static int set_new(struct rules *r, unsigned workers)
{
	int ret = counts_new(r, workers);

	r->mirror = calloc(r->file->nr + 1, sizeof(*r->mirror));
	if (ret < 0 || !r->mirror)
		return -ENOMEM;
	for (unsigned i = 0; i < r->file->nr; i++)
		r->mirrors |= r->file->rule[i].mirror >= 0;
	for (unsigned i = 0; i < r->file->nr_rates; i++)
		rules_bucket_init(&r->rate[i], &r->file->rate[i]);
	rules_bucket_init(&r->rejects, &(struct rules_rate){ .packets = RULES_REJECTS, .burst_ms = 1000 });
	return tables_new(r);
}

int rules_new(const char *text, bool asked, const struct antispoof *own, unsigned workers, struct rules **out, char *why, size_t len)
{
	struct rules *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return pv_why(why, len, -ENOMEM, "out of memory");
	ret = rules_parse(text, strlen(text), &r->file, why, len);
	if (ret == 0) {
		r->own = *own;
		r->asked = asked;
		r->antispoof = asked || r->file->antispoof;
		ret = set_new(r, workers);
		if (ret < 0)
			pv_why(why, len, ret, "no memory for %u rules: give pvio-netback more --memory, or rules that overlap less", r->file->nr);
	} else if (ret == -ENOMEM) {
		pv_why(why, len, ret, "out of memory");
	}
	if (ret < 0) {
		rules_free(r);
		return ret;
	}
	*out = r;
	return 0;
}

void rules_free(struct rules *r)
{
	if (!r)
		return;
	for (unsigned kind = 0; kind < HEADERS_KINDS; kind++)
		for (unsigned i = 0; i < RTE_DIM(r->table[kind]); i++)
			rte_acl_free(r->table[kind][i]);
	for (unsigned i = 0; i < r->workers; i++)
		free(r->counts[i]);
	free(r->mirror);
	rules_file_free(r->file);
	free(r);
}

unsigned rules_match(const struct rules *r, const struct headers *h)
{
	const uint8_t *key = (const uint8_t *)&h->key;
	uint32_t found = 0;

	for (unsigned i = 0; i * TABLE_RULES < r->file->nr && !found; i++)
		if (r->table[h->kind][i])
			rte_acl_classify(r->table[h->kind][i], &key, &found, 1, 1);
	return found ? found - 1 : r->file->nr;
}

/* ---- rates: virtual scheduling. `at` is when the bucket will be empty again; it may be ahead of now by the burst. ---- */

void rules_bucket_init(struct rules_bucket *b, const struct rules_rate *rate)
{
	uint64_t hz = rte_get_tsc_hz();

	*b = (struct rules_bucket){ .bits = rate->bits, .packets = rate->packets, .hz = hz, .burst = hz / 1000 * rate->burst_ms };
	rte_spinlock_init(&b->lock);
}

bool rules_bucket_take(struct rules_bucket *b, uint64_t now, uint32_t bytes)
{
	bool taken;

	rte_spinlock_lock(&b->lock); /* workers share it; only packets of rules with a rate come here */
	if ((int64_t)(now - b->bits_at) > 0)
		b->bits_at = now;
	if ((int64_t)(now - b->packets_at) > 0)
		b->packets_at = now;
	taken = b->bits_at - now <= b->burst && b->packets_at - now <= b->burst;
	if (taken && b->bits)
		b->bits_at += (uint64_t)bytes * 8 * b->hz / b->bits;
	if (taken && b->packets)
		b->packets_at += b->hz / b->packets;
	rte_spinlock_unlock(&b->lock);
	return taken;
}
