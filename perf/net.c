/* net.c - small packets through netback: from a guest to the uplink, or from one guest to another.
 *
 *	net --domid N		a sender on the guest's vif; what arrived is what netback says it gave to its uplink
 *	net --quick FROM TO	a sender on one guest's vif and a receiver on another's, once: what arrived is what was received
 *
 * Sender and receiver are netfronts in this one thread. It polls: a send without room is simply tried again. Frames are Ethernet,
 * IPv4 and UDP, copied by netfront into its granted pages for each packet as any guest's are. One line of JSON a measurement.
 */
#include "perf.h"
#include "../dom0-tools/libpvtool.h"
#include <arpa/inet.h>
#include <json-c/json.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <pvio/netfront.h>

enum { CONNECT_MS = 10000, BURST = 32, FRAME_MAX = 1514, LEARN_MS = 100, TURNS = 64 /* between two looks at the clock */ };

struct options {
	const char *hypervisor;
	int domid, to;
	unsigned vif, len, msecs;
	struct pv_cpus cpus;
	bool once;
};

/* Owner: main. */
struct traffic {
	const struct options *o;
	struct pv_netfront *from, *to; /* to: NULL when the uplink receives */
	struct pv_tool *tool;
	uint8_t frame[FRAME_MAX];
	struct pv_netfront_packet burst[BURST];
	uint8_t room[BURST][FRAME_MAX];
	uint64_t bursts, refused; /* sends tried; those that found no room at all: the backend is behind */
};

static struct pv_netfront *connect_vif(const struct options *o, int domid)
{
	struct pv_netfront_config c = { .devid = o->vif, .wait_ms = CONNECT_MS };
	double end = perf_now() + CONNECT_MS / 1e3;
	struct pv_netfront *f;
	char why[256];

	if (pv_netfront_open(o->hypervisor, domid, &c, &f, why, sizeof(why)) < 0)
		perf_die("%s", why);
	while (pv_netfront_state(f) != XenbusStateConnected) {
		struct pollfd p = { .fd = pv_netfront_fd(f), .events = POLLIN };

		poll(&p, 1, 100);
		if (pv_netfront_work(f) < 0 || perf_now() > end)
			perf_die("vif %u of domain %d does not connect", o->vif, domid);
	}
	return f;
}

static uint16_t ip_checksum(const void *header, size_t len)
{
	const uint16_t *w = header;
	uint32_t sum = 0;

	for (size_t i = 0; i < len / 2; i++)
		sum += w[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~(sum + (sum >> 16));
}

/* A UDP datagram of o->len bytes as a frame. dst NULL: an address that nobody has, so that it leaves by the uplink. */
static void make_frame(uint8_t *frame, const struct options *o, const uint8_t *dst, const uint8_t *src)
{
	static const uint8_t nobody[6] = { 0x02, 0, 0, 0, 0xbe, 0xef };
	struct ether_header *eth = (void *)frame;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	uint16_t ip_len = (uint16_t)(o->len - sizeof(*eth));

	memset(frame, 0, FRAME_MAX);
	memcpy(eth->ether_dhost, dst ? dst : nobody, 6);
	memcpy(eth->ether_shost, src, 6);
	eth->ether_type = htons(ETHERTYPE_IP);
	*ip = (struct iphdr){ .version = 4, .ihl = 5, .tot_len = htons(ip_len), .ttl = 64, .protocol = IPPROTO_UDP,
			      .saddr = htonl(0xc6120001), .daddr = htonl(0xc6120002) };
	ip->check = ip_checksum(ip, sizeof(*ip));
	*udp = (struct udphdr){ .source = htons(9), .dest = htons(9), .len = htons((uint16_t)(ip_len - sizeof(*ip))) };
}

/* Packets that netback gave to its uplink, ever. */
static uint64_t uplink_packets(struct traffic *t)
{
	char params[64], *text = NULL;
	struct json_object *o, *devices = NULL, *stats, *uplink = NULL, *n = NULL;
	uint64_t packets;

	snprintf(params, sizeof(params), "{\"guest\":\"%d\",\"device\":\"vif%u\"}", t->o->domid, t->o->vif);
	if (pv_tool_call(t->tool, "stats", params, 0, &text) != 0)
		perf_die("pviod has no stats: %s", pv_tool_error(t->tool));
	o = json_tokener_parse(text);
	json_object_object_get_ex(o, "devices", &devices);
	stats = devices ? json_object_array_get_idx(devices, 0) : NULL;
	if (!json_object_object_get_ex(stats, "stats", &stats) || !json_object_object_get_ex(stats, "uplink", &uplink) ||
	    !json_object_object_get_ex(uplink, "tx_packets", &n))
		perf_die("the stats of the vif do not tell what its uplink sent: %s", text);
	packets = (uint64_t)json_object_get_int64(n);
	json_object_put(o);
	free(text);
	return packets;
}

static int receive(struct traffic *t)
{
	struct pv_netfront_packet p[BURST];
	int n;

	for (int i = 0; i < BURST; i++)
		p[i] = (struct pv_netfront_packet){ .data = t->room[i], .len = FRAME_MAX };
	n = pv_netfront_recv(t->to, 0, p, BURST);
	if (n < 0 && n != -EAGAIN)
		perf_die("receiving: %s", strerror(-n));
	return n < 0 ? 0 : n;
}

/* Send for so long. Returns what was received (0 without a receiver). */
static uint64_t run(struct traffic *t, double secs)
{
	double end = perf_now() + secs;
	uint64_t got = 0;

	do {
		for (int i = 0; i < TURNS; i++) {
			int n = pv_netfront_send(t->from, 0, t->burst, BURST);

			if (n < 0)
				perf_die("sending: %s", strerror(-n));
			t->bursts++;
			t->refused += n == 0;
			if (t->to)
				got += (uint64_t)receive(t);
		}
	} while (perf_now() < end);
	return got;
}

static void measure(void *arg)
{
	struct traffic *t = arg;
	struct pv_netfront_stats a, b;
	uint64_t arrived, uplink = 0;
	double began, cpu, secs;

	run(t, LEARN_MS / 1e3);
	if (!t->to)
		uplink = uplink_packets(t);
	t->bursts = t->refused = 0;
	pv_netfront_stats(t->from, &a);
	began = perf_now();
	cpu = perf_cpu();
	arrived = run(t, t->o->msecs / 1e3);
	cpu = perf_cpu() - cpu;
	if (!t->to)
		arrived = uplink_packets(t) - uplink;
	secs = perf_now() - began;
	pv_netfront_stats(t->from, &b);
	printf("{\"mpps\":%.3f,\"gbit_s\":%.3f,\"sent_mpps\":%.3f,\"errors\":%lu,\"len\":%u,\"cpu_s\":%.3f,\"secs\":%.3f,"
	       "\"front_notifies\":%lu,\"refused\":%.2f}\n",
	       (double)arrived / secs / 1e6, (double)arrived * t->o->len * 8 / secs / 1e9, (double)(b.tx_packets - a.tx_packets) / secs / 1e6,
	       b.tx_errors - a.tx_errors, t->o->len, cpu, secs, b.notifies - a.notifies, (double)t->refused / (double)t->bursts);
}

static void idle(void *arg)
{
	struct traffic *t = arg;

	if (pv_netfront_work(t->from) < 0)
		perf_die("the vif of domain %d was taken away", t->o->domid);
}

/* Let the switch learn where the receiver is: it says something first. */
static void introduce(struct traffic *t)
{
	struct pv_netfront_packet p = { .data = t->frame, .len = t->o->len };

	make_frame(t->frame, t->o, pv_netfront_offer(t->from)->mac, pv_netfront_offer(t->to)->mac);
	if (pv_netfront_send(t->to, 0, &p, 1) < 0)
		perf_die("the receiver cannot send");
}

static void open_all(struct traffic *t)
{
	const struct options *o = t->o;
	char why[256];

	t->from = connect_vif(o, o->domid);
	if (o->to > 0) {
		t->to = connect_vif(o, o->to);
		introduce(t);
	} else if (pv_tool_open(NULL, &t->tool, why, sizeof(why)) < 0) {
		perf_die("%s", why);
	}
	make_frame(t->frame, o, t->to ? pv_netfront_offer(t->to)->mac : NULL, pv_netfront_offer(t->from)->mac);
	for (int i = 0; i < BURST; i++)
		t->burst[i] = (struct pv_netfront_packet){ .data = t->frame, .len = o->len };
}

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "hypervisor", "SPEC", "xen, loopback, loopback:PATH ($PVIO_HYPERVISOR, else the host's)", pv_option_text, FIELD(hypervisor) },
	{ "domid", "N", "the guest that sends", pv_option_domid, FIELD(domid) },
	{ "to", "N", "the guest that receives (none: the uplink does)", pv_option_domid, FIELD(to) },
	{ "vif", "N", "the vifs' number (0)", pv_option_number, FIELD(vif), .max = 65535 },
	{ "len", "BYTES", "of a frame (64)", pv_option_number, FIELD(len), .min = 60, .max = FRAME_MAX },
	{ "msecs", "MS", "how long to measure (1000)", pv_option_number, FIELD(msecs), .min = 1, .max = 1000000 },
	{ "cpus", "A", "pin to this CPU", pv_option_cpus, FIELD(cpus) },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "net",
	.usage = "--domid N [OPTION...] | --quick FROM TO [OPTION...]",
	.about = "Packets from a guest's vif to netback's uplink, or to another guest's vif: millions a second, as JSON.\n"
		 "--quick FROM TO is --domid FROM --to TO --once.",
	.options = table,
};

/* --quick FROM TO in front of the options. Returns how many words that took, or -1. */
static int parse_quick(int argc, char **argv, struct options *o)
{
	const struct pv_option *domid = &table[1];

	if (argc < 2 || strcmp(argv[1], "--quick") != 0)
		return 0;
	o->once = true;
	if (argc < 4 || domid->parse(domid, argv[2], &o->domid) < 0 || domid->parse(domid, argv[3], &o->to) < 0)
		return -1;
	return 3;
}

int main(int argc, char **argv)
{
	struct options o = { .len = 64, .msecs = 1000 };
	struct traffic t = { .o = &o };
	int quick = parse_quick(argc, argv, &o), ret;

	if (quick < 0)
		return pv_options_wrong(&program, "--quick wants the domids of two guests");
	argv[quick] = argv[0];
	ret = pv_options_parse(&program, argc - quick, argv + quick, &o);
	if (ret >= 0)
		return ret;
	if (o.domid < 1 || o.domid == o.to)
		return pv_options_wrong(&program, "--domid is needed, and --to must be another guest");
	perf_pin(&o.cpus, 0);
	open_all(&t);
	perf_serve(o.once, measure, idle, pv_netfront_fd(t.from), &t);
	pv_netfront_close(t.from, CONNECT_MS);
	pv_netfront_close(t.to, CONNECT_MS);
	pv_tool_close(t.tool);
	return 0;
}
