/* net.c - packets through netback, as many as possible.
 *
 *	net --domid N --send			from a guest's vif to the uplink, load:0, which looks at each and forgets it
 *	net --domid N --take			from the uplink, load:N, to the vif
 *	net --domid N --send --take		both at once, load:1
 *	net --domid N --send --to M --take	from one guest's vif to another's
 *	net --quick FROM TO			the same, once
 *	net --domid N --guests M --send		from so many guests' vifs in turn, of the domids from N on
 *	net --domid N --guests M --rest		all are connected and silent; then the first says one packet to the last
 *
 * The netfronts are in this one thread. It polls: a send without room is simply tried again. Each frame is copied by netfront into its
 * granted pages when it is sent, as any guest's is; one word of every cache line of what is received is read where it lies.
 * One line of JSON a measurement.
 */
#include "perf.h"
#include "frame.h"
#include "../dom0-tools/libpvtool.h"
#include <json-c/json.h>
#include <pvio/net.h>
#include <pvio/netfront.h>

enum {
	CONNECT_MS = 10000, SETTLE_MS = 100,
	TURNS = 64, /* between two looks at the clock */
	ASK = 2048, /* packets of the uplink, half of what it says for one of ours */
	SILENCE_US = 100,
	TRIES = 5, /* of the first packet after a rest */
};

struct options {
	const char *hypervisor;
	int domid, to;
	unsigned vif, len, msecs;
	struct pv_cpus cpus;
	unsigned guests;
	bool send, take, rest, statics, once;
};

/* Owner: main. */
struct traffic {
	const struct options *o;
	struct pv_netfront **from, *to; /* o->guests of them; to: the first one, unless it is another guest's */
	struct pv_tool *tool;
	struct pv_netfront_packet burst[FRAME_BURST];
	uint64_t asked, heard; /* got when the uplink was asked last, and when it was last seen to grow, at ... */
	double heard_at;
	uint64_t got, bursts, refused; /* sends tried; those that found no room at all: the backend is behind */
	uint32_t seen; /* so that looking is not for nothing */
	uint8_t frame[FRAME_MAX];
};

/* What netback has counted so far. */
struct counts {
	uint64_t uplink, copies, notifies; /* packets that its uplink took; pieces that were copied; events for this guest */
};

static struct pv_netfront *connect_vif(const struct options *o, int domid)
{
	struct pv_netfront_config c = { .devid = o->vif, .wait_ms = CONNECT_MS, .poll = !o->rest, .static_grants = o->statics };
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

static struct json_object *group_at(struct json_object *o, const char *name)
{
	struct json_object *g = NULL;

	if (!json_object_object_get_ex(o, name, &g))
		perf_die("the stats of the vif do not tell of its %s", name);
	return g;
}

static uint64_t number_at(struct json_object *o, const char *name)
{
	struct json_object *n = NULL;

	if (!json_object_object_get_ex(o, name, &n))
		perf_die("the stats of the vif do not tell %s", name);
	return (uint64_t)json_object_get_int64(n);
}

static struct counts count(struct traffic *t, int domid)
{
	char params[64], *text = NULL;
	struct json_object *o, *devices = NULL, *stats = NULL;
	struct counts c;

	snprintf(params, sizeof(params), "{\"guest\":\"%d\",\"device\":\"vif%u\"}", domid, t->o->vif);
	if (pv_tool_call(t->tool, "stats", params, 0, &text) != 0)
		perf_die("pviod has no stats: %s", pv_tool_error(t->tool));
	o = json_tokener_parse(text);
	if (json_object_object_get_ex(o, "devices", &devices))
		json_object_object_get_ex(json_object_array_get_idx(devices, 0), "stats", &stats);
	if (!stats)
		perf_die("the vif has no stats: %s", text);
	c.uplink = t->to == t->from[0] && !t->o->rest ? number_at(group_at(stats, "uplink"), "tx_packets") : 0;
	c.copies = number_at(group_at(group_at(stats, "backend"), "hyper"), "copied_pieces");
	c.notifies = number_at(stats, "notifies");
	json_object_put(o);
	free(text);
	return c;
}

static void receive(struct traffic *t)
{
	struct pv_netfront_loan l[FRAME_BURST];
	int n = pv_netfront_borrow(t->to, 0, l, FRAME_BURST);

	if (n < 0 && n != -EAGAIN)
		perf_die("receiving: %s", strerror(-n));
	for (int i = 0; i < n; i++)
		for (unsigned k = 0; k < l[i].niov; k++)
			t->seen += frame_look(l[i].iov[k].iov_base, (uint32_t)l[i].iov[k].iov_len);
	t->got += n < 0 ? 0 : (unsigned)n;
}

static int transmit(struct traffic *t, struct pv_netfront *f, unsigned n)
{
	int sent;

	memcpy(((struct ether_header *)t->frame)->ether_shost, pv_netfront_offer(f)->mac, ETHER_ADDR_LEN); /* its own: another's is refused */
	sent = pv_netfront_send(f, 0, t->burst, n);
	if (sent < 0)
		perf_die("sending: %s", strerror(-sent));
	return sent;
}

/* The uplink, load:N, says N packets for each of ours: ask for more before it has said them all. And where it was not asked yet, or said more
 * than there was room for, nothing comes: ask then. Not more often, for what is sent is not what is measured. */
static void ask(struct traffic *t, double now)
{
	if (t->got != t->heard) {
		t->heard = t->got;
		t->heard_at = now;
	}
	if (t->got - t->asked >= ASK)
		t->asked += (unsigned)transmit(t, t->from[0], 1) * ASK;
	else if (now - t->heard_at > SILENCE_US / 1e6 && transmit(t, t->from[0], 1))
		t->heard_at = now;
}

static void run(struct traffic *t, double secs)
{
	double now = perf_now(), end = now + secs;

	for (; now < end; now = perf_now()) {
		if (!t->o->send)
			ask(t, now);
		for (unsigned i = 0; i < TURNS || i < t->o->guests; i++) {
			if (t->o->send) {
				t->bursts++;
				t->refused += transmit(t, t->from[i % t->o->guests], FRAME_BURST) == 0;
			}
			if (t->o->take)
				receive(t);
		}
	}
}

static struct pv_netfront_stats front_stats(const struct traffic *t)
{
	struct pv_netfront_stats one, all = { 0 };

	for (unsigned i = 0; i < t->o->guests; i++) {
		pv_netfront_stats(t->from[i], &one);
		all.tx_packets += one.tx_packets;
		all.tx_errors += one.tx_errors;
		all.notifies += one.notifies;
	}
	return all;
}

/* Send one packet to a guest that rests. Returns how often that was notified, or -1: others came meanwhile, of the uplink's. */
static int notified(struct traffic *t, int domid)
{
	uint64_t before;
	double end;

	while (t->got = 0, receive(t), t->got) /* from here on it waits for an event */
		;
	before = count(t, domid).notifies;
	if (!transmit(t, t->from[0], 1))
		perf_die("no room for one packet");
	for (end = perf_now() + CONNECT_MS / 1e3; !t->got && perf_now() < end;)
		receive(t);
	usleep(SETTLE_MS * 1000);
	return t->got == 1 ? (int)(count(t, domid).notifies - before) : -1;
}

/* Silence, and then a first packet. */
static void rest(struct traffic *t)
{
	const struct options *o = t->o;
	int n = -1;

	usleep(o->msecs * 1000);
	printf("{\"rested\":%u}\n", o->guests);
	fflush(stdout);
	for (int i = 0; i < TRIES && n < 0; i++)
		n = notified(t, o->domid + (int)o->guests - 1);
	printf("{\"notifies\":%d}\n", n);
}

static void measure(void *arg)
{
	struct traffic *t = arg;
	struct pv_netfront_stats a, b;
	struct counts before, after;
	double began, cpu, secs, arrived;

	if (t->o->rest) {
		rest(t);
		return;
	}
	run(t, perf_settle(t->o->msecs));
	before = count(t, t->o->domid);
	t->bursts = t->refused = t->got = t->asked = t->heard = 0;
	a = front_stats(t);
	began = perf_now();
	cpu = perf_cpu();
	run(t, t->o->msecs / 1e3);
	cpu = perf_cpu() - cpu;
	secs = perf_now() - began;
	after = count(t, t->o->domid);
	b = front_stats(t);
	arrived = (double)(after.uplink - before.uplink) * t->o->send + (double)t->got;
	printf("{\"mpps\":%.3f,\"gbit_s\":%.3f,\"sent_mpps\":%.3f,\"taken_mpps\":%.3f,\"errors\":%lu,\"len\":%u,\"cpu_s\":%.3f,\"secs\":%.3f,"
	       "\"copies\":%.2f,\"front_notifies\":%lu,\"refused\":%.2f,\"seen\":%u}\n",
	       arrived / secs / 1e6, arrived * t->o->len * 8 / secs / 1e9, (double)(b.tx_packets - a.tx_packets) / secs / 1e6,
	       (double)t->got / secs / 1e6, b.tx_errors - a.tx_errors, t->o->len, cpu, secs, (double)(after.copies - before.copies) / arrived,
	       b.notifies - a.notifies, t->bursts ? (double)t->refused / (double)t->bursts : 0, t->seen);
}

static void idle(void *arg)
{
	struct traffic *t = arg;

	for (unsigned i = 0; i < t->o->guests; i++)
		if (pv_netfront_work(t->from[i]) < 0)
			perf_die("the vif of domain %d was taken away", t->o->domid + (int)i);
}

/* Let the switch learn where the receiver is: it says something first. */
static void introduce(struct traffic *t)
{
	struct pv_netfront_packet p = { .data = t->frame, .len = 64 };

	frame_make(t->frame, 64, pv_netfront_offer(t->from[0])->mac, pv_netfront_offer(t->to)->mac);
	if (pv_netfront_send(t->to, 0, &p, 1) < 0)
		perf_die("the receiver cannot send");
}

static void open_all(struct traffic *t)
{
	static const uint8_t nobody[6] = { 0x02, 0, 0, 0, 0xbe, 0xef }; /* what is sent there leaves by the uplink */
	const struct options *o = t->o;
	bool gso = o->len > FRAME_MTU;
	char why[256];

	t->from = calloc(o->guests, sizeof(struct pv_netfront *));
	if (!t->from)
		perf_die("out of memory");
	for (unsigned i = 0; i < o->guests; i++)
		t->from[i] = connect_vif(o, o->domid + (int)i);
	t->to = o->rest ? t->from[o->guests - 1] : t->from[0];
	if (o->to > 0)
		t->to = connect_vif(o, o->to);
	if (t->to != t->from[0])
		introduce(t);
	if (pv_tool_open(NULL, &t->tool, why, sizeof(why)) < 0)
		perf_die("%s", why);
	frame_make(t->frame, o->len, t->to != t->from[0] ? pv_netfront_offer(t->to)->mac : nobody, pv_netfront_offer(t->from[0])->mac);
	for (int i = 0; i < FRAME_BURST; i++)
		t->burst[i] = (struct pv_netfront_packet){
			.data = t->frame, .len = o->len, .csum_blank = gso, .data_validated = gso,
			.gso_type = gso ? XEN_NETIF_GSO_TYPE_TCPV4 : XEN_NETIF_GSO_TYPE_NONE, .gso_size = gso ? FRAME_MSS : 0,
		};
}

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "hypervisor", "SPEC", "xen, loopback, loopback:PATH ($PVIO_HYPERVISOR, else the host's)", pv_option_text, FIELD(hypervisor) },
	{ "domid", "N", "the guest that sends", pv_option_domid, FIELD(domid) },
	{ "to", "N", "the guest that takes (the same)", pv_option_domid, FIELD(to) },
	{ "vif", "N", "the vifs' number (0)", pv_option_number, FIELD(vif), .max = 65535 },
	{ "send", NULL, "send, all the time", NULL, FIELD(send) },
	{ "guests", "N", "guests that send (1)", pv_option_number, FIELD(guests), .min = 1, .max = 1024 },
	{ "static", NULL, "leave the pages with the backend, as static grants", NULL, FIELD(statics) },
	{ "rest", NULL, "be silent, then send one packet", NULL, FIELD(rest) },
	{ "take", NULL, "take what comes", NULL, FIELD(take) },
	{ "len", "BYTES", "of a frame (64); above 1514 large TCP packets", pv_option_number, FIELD(len), .min = 60, .max = FRAME_MAX },
	{ "msecs", "MS", "how long to measure (1000)", pv_option_number, FIELD(msecs), .min = 1, .max = 1000000 },
	{ "cpus", "A", "pin to this CPU", pv_option_cpus, FIELD(cpus) },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "net",
	.usage = "--domid N [--send] [--take] [OPTION...] | --quick FROM TO [OPTION...]",
	.about = "Packets between a guest's vif and netback's uplink, or another guest's vif: millions a second, as JSON.\n"
		 "--quick FROM TO is --domid FROM --to TO --send --take --once.",
	.options = table,
};

/* --quick FROM TO in front of the options. Returns how many words that took, or -1. */
static int parse_quick(int argc, char **argv, struct options *o)
{
	const struct pv_option *domid = &table[1];

	if (argc < 2 || strcmp(argv[1], "--quick") != 0)
		return 0;
	o->once = o->send = o->take = true;
	if (argc < 4 || domid->parse(domid, argv[2], &o->domid) < 0 || domid->parse(domid, argv[3], &o->to) < 0)
		return -1;
	return 3;
}

int main(int argc, char **argv)
{
	struct options o = { .len = 64, .msecs = 1000, .guests = 1 };
	static struct traffic t;
	int quick = parse_quick(argc, argv, &o), ret;

	if (quick < 0)
		return pv_options_wrong(&program, "--quick wants the domids of two guests");
	argv[quick] = argv[0];
	ret = pv_options_parse(&program, argc - quick, argv + quick, &o);
	if (ret >= 0)
		return ret;
	if (o.domid < 1 || o.domid == o.to || !(o.send || o.take || o.rest) || (o.rest && o.guests < 2))
		return pv_options_wrong(&program, "--domid is needed, and --send, --take or --rest; --to must be another guest");
	t.o = &o;
	perf_pin(&o.cpus, 0);
	open_all(&t);
	perf_serve(o.once, measure, idle, pv_netfront_fd(t.from[0]), &t);
	if (o.to > 0)
		pv_netfront_close(t.to, CONNECT_MS);
	for (unsigned i = 0; i < o.guests; i++)
		pv_netfront_close(t.from[i], CONNECT_MS);
	free(t.from);
	pv_tool_close(t.tool);
	return 0;
}
