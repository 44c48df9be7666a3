/* rules.c - what a packet pays for a vif's rules: its headers and the first match, with many rules and with few. Millions of packets a
 * second, as JSON. The few are the first ones of the many; half of the packets match one of the many, the others none. */
#include "netback/rules_set.h"
#include "perf.h"
#include <rte_ip.h>

enum { PACKETS = 1024, LEN = 54, LINE = 160 };

static struct options {
	unsigned many, few, msecs;
	struct pv_cpus cpus;
	bool once;
} o = { .many = 1000, .few = 10, .msecs = 1000 };

static uint8_t packet[PACKETS][64];
static struct rules *many, *few;

static unsigned pick(unsigned n)
{
	return (unsigned)random() % n;
}

/* TCP to a port range of a network; *p: a packet that matches. */
static int write_rule(char *to, uint8_t *p)
{
	unsigned src = pick(17) + 8, dst = pick(17) + 8, a = (unsigned)random() << (32 - src), b = (unsigned)random() << (32 - dst), port = pick(60000);
	uint32_t addr[2] = { rte_cpu_to_be_32(a), rte_cpu_to_be_32(b) };
	uint16_t to_port = rte_cpu_to_be_16((uint16_t)port);

	memcpy(p + 26, addr, 8);
	memcpy(p + 36, &to_port, 2);
	return snprintf(to, LINE, "drop proto tcp src %u.%u.%u.%u/%u dst %u.%u.%u.%u/%u dport %u-%u\n", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255,
			src, b >> 24, b >> 16 & 255, b >> 8 & 255, b & 255, dst, port, port + pick(5000));
}

static struct rules *compile(const char *text)
{
	static const struct antispoof nobody;
	struct rules *r;
	char why[300];

	if (rules_new(text, false, &nobody, 1, &r, why, sizeof(why)) < 0)
		perf_die("%s", why);
	return r;
}

static void make_both(void)
{
	static const uint8_t head[24] = { 2, [6] = 2, [12] = 8, [14] = 0x45, [17] = 40, [22] = 64, [23] = 6 };
	char *text = calloc(o.many + 1, LINE), *at = text;
	char *cut = text;

	if (!text)
		perf_die("out of memory");
	srandom(1);
	for (unsigned i = 0; i < PACKETS; i++) {
		memcpy(packet[i], head, sizeof(head));
		for (unsigned j = 26; j < 38; j++)
			packet[i][j] = (uint8_t)random();
		packet[i][46] = 0x50;
	}
	for (unsigned i = 0; i < o.many; i++) {
		at += write_rule(at, packet[i * 2 % PACKETS]);
		if (i + 1 == o.few)
			cut = at;
	}
	many = compile(text);
	*cut = 0;
	few = compile(text);
	free(text);
}

/* Millions a second. */
static double measure(const struct rules *r)
{
	double begin = perf_now(), end = begin + o.msecs / 1000.0, now;
	uint64_t n = 0, sum = 0;

	do {
		for (unsigned i = 0; i < PACKETS; i++) {
			struct headers h;

			headers_parse(packet[i], LEN, LEN, &h);
			sum += rules_match(r, &h);
		}
		n += PACKETS;
		now = perf_now();
	} while (now < end);
	__asm__ volatile("" : : "r"(sum)); /* it was looked at */
	return (double)n / (now - begin) / 1e6;
}

static void measure_both(void *unused)
{
	long preempted = perf_preempted();
	double ours = measure(many), peer = measure(few);

	(void)unused;
	printf("{\"ours\":%.3f,\"peer\":%.3f,\"preempted\":%ld}\n", ours, peer, perf_preempted() - preempted);
}

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "many", "N", "rules (1000)", pv_option_number, FIELD(many), .min = 1, .max = RULES_MAX },
	{ "few", "N", "rules to compare with (10)", pv_option_number, FIELD(few), .min = 1, .max = RULES_MAX },
	{ "msecs", "MS", "how long to measure each of the two (1000)", pv_option_number, FIELD(msecs), .min = 1, .max = 1000000 },
	{ "cpus", "LIST", "run on the first of these (any)", pv_option_cpus, FIELD(cpus) },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "rules",
	.usage = "[OPTION...]",
	.about = "Packets a second through many rules of a vif, and through few, as JSON.",
	.options = table,
};

int main(int argc, char **argv)
{
	int ret = pv_options_parse(&program, argc, argv, &o);
	char why[300];

	if (ret >= 0)
		return ret;
	if (o.few > o.many)
		return pv_options_wrong(&program, "--few is not more than --many");
	pv_log_open("rules", PV_LOG_WARN);
	if (eal_start(64, why, sizeof(why)) < 0)
		perf_die("%s", why);
	perf_pin(&o.cpus, 0);
	make_both();
	perf_serve(o.once, measure_both, NULL, -1, NULL);
	rules_free(few);
	rules_free(many);
	eal_stop();
	return 0;
}
