/* rules_show.c - a vif's rules and what they did. The counters belong to the workers: each is asked to add its own. Control thread. */
#include "rules_set.h"

struct sum {
	const struct rules *rules;
	struct nb_worker *worker; /* whose turn it is to add */
	struct rules_counts *n;
};

static int add(void *arg)
{
	struct sum *s = arg;
	const struct rules_counts *n = s->rules->counts[s->worker->index];

	s->n->spoofed += n->spoofed;
	s->n->bad += n->bad;
	s->n->tiny += n->tiny;
	s->n->dropped += n->dropped;
	s->n->rejected += n->rejected;
	s->n->unanswered += n->unanswered;
	for (unsigned i = 0; i <= s->rules->file->nr; i++) {
		s->n->rule[i].packets += n->rule[i].packets;
		s->n->rule[i].bytes += n->rule[i].bytes;
		s->n->rule[i].over += n->rule[i].over;
	}
	return 0;
}

/* NULL: no memory. */
static struct rules_counts *sum_of(struct vif *vif)
{
	struct sum s = { .rules = vif->rules };

	s.n = calloc(1, sizeof(*s.n) + (vif->rules->file->nr + 1) * sizeof(s.n->rule[0]));
	for (unsigned i = 0; s.n && i < vif->nb->nr_workers; i++) {
		s.worker = vif->nb->workers[i];
		pv_worker_call(s.worker->pw, add, &s);
	}
	return s.n;
}

static void put(struct json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_int64((int64_t)n));
}

static void put_rule(struct json_object *o, const struct rule_counts *n)
{
	put(o, "packets", n->packets);
	put(o, "bytes", n->bytes);
	put(o, "over_rate", n->over);
}

static struct json_object *rules_array(const struct rules_file *f, const struct rules_counts *n)
{
	struct json_object *all = json_object_new_array_ext((int)f->nr);

	for (unsigned i = 0; i < f->nr; i++) {
		struct json_object *o = json_object_new_object();

		put(o, "line", f->rule[i].line);
		json_object_object_add(o, "rule", json_object_new_string_len(f->text + f->rule[i].at, (int)f->rule[i].len));
		put_rule(o, &n->rule[i]);
		json_object_array_add(all, o);
	}
	return all;
}

/* What all rules with a name in common counted: of counters, and of rates. */
static struct json_object *named(const struct rules_file *f, const struct rules_counts *n, const char *name, int index, bool rate)
{
	struct json_object *o = json_object_new_object();
	struct rule_counts sum = { 0 };

	for (unsigned i = 0; i < f->nr; i++)
		if ((rate ? f->rule[i].rate : f->rule[i].count) == index) {
			sum.packets += n->rule[i].packets;
			sum.bytes += n->rule[i].bytes;
			sum.over += n->rule[i].over;
		}
	json_object_object_add(o, "name", json_object_new_string(name));
	put_rule(o, &sum);
	return o;
}

static void put_dropped(struct json_object *o, const struct rules_counts *n)
{
	put(o, "rules_dropped", n->dropped);
	put(o, "rules_spoofed", n->spoofed);
	put(o, "rules_bad", n->bad);
	put(o, "rules_tiny", n->tiny);
	put(o, "rules_rejected", n->rejected);
	put(o, "rules_unanswered", n->unanswered);
}

static struct json_object *describe(const struct rules *r, const struct rules_counts *n)
{
	struct json_object *o = json_object_new_object(), *counts = json_object_new_array(), *rates = json_object_new_array();
	struct json_object *otherwise = json_object_new_object();
	const struct rules_file *f = r->file;

	json_object_object_add(o, "antispoof", json_object_new_string(!r->antispoof ? "no" : r->own.nr ? "mac and ip" : "mac"));
	json_object_object_add(o, "rules", rules_array(f, n));
	json_object_object_add(otherwise, "action", json_object_new_string(rule_actions[f->otherwise]));
	put_rule(otherwise, &n->rule[f->nr]);
	json_object_object_add(o, "default", otherwise);
	for (unsigned i = 0; i < f->nr_counts; i++)
		json_object_array_add(counts, named(f, n, f->count[i].name, (int)i, false));
	for (unsigned i = 0; i < f->nr_rates; i++)
		json_object_array_add(rates, named(f, n, f->rate[i].name, (int)i, true));
	json_object_object_add(o, "counts", counts);
	json_object_object_add(o, "rates", rates);
	put_dropped(o, n);
	return o;
}

struct json_object *rules_show(struct vif *vif, struct json_object *params, int *error, char *why, size_t len)
{
	struct rules_counts *n;
	struct json_object *o;

	(void)params;
	if (!vif->rules) {
		*error = pv_why(why, len, -ENOENT, "%s: has no rules: pvio rules load", vif->name);
		return NULL;
	}
	n = sum_of(vif);
	if (!n) {
		*error = pv_why(why, len, -ENOMEM, "%s: out of memory", vif->name);
		return NULL;
	}
	o = describe(vif->rules, n);
	free(n);
	return o;
}

void rules_stats(struct vif *vif, struct json_object *o)
{
	struct rules_counts *n = vif->rules ? sum_of(vif) : NULL;

	if (n)
		put_dropped(o, n);
	free(n);
}
