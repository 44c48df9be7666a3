/* fair.c - what polite guests get beside a greedy or hostile one: frontends of several guests in one thread, all sending to netback's uplink.
 *
 *	fair --domids 1,2,3...				the last one sends without bound, the others a tenth of the capacity each
 *	fair --domids 1,2,3... --hostile KIND		the last one, which has no vif yet, does what it must not instead
 *
 * The capacity is measured first: all of them send without bound (the hostile one rests). Offered is what a guest wanted to send in the time, whether its ring had
 * room or not; delivered is what netback took from it. A generator that was held up offers what it missed only as far as a ring
 * holds, for that is nobody's fault. One line of JSON a measurement: the smallest part that a polite guest got.
 */
#include "frame.h"
#include "hostile.h"
#include "tally.h"
#include <json-c/json.h>
#include <net/ethernet.h>
#include <pvio/netfront.h>

enum { GUESTS_MAX = 32, CONNECT_MS = 10000, BURST = 32, MISSED_MAX = 64 };

struct options {
	const char *hypervisor, *domids, *hostile;
	unsigned vif, len, msecs;
	struct pv_cpus cpus;
	bool once;
};

struct sender {
	struct pv_netfront *f;
	uint8_t frame[FRAME_MTU];
	struct pv_netfront_packet burst[BURST];
	double rate, due; /* packets a second, 0: as many as it can; when the next is due */
	uint64_t taken; /* of netback's counter, before */
	struct tally *tally;
	int domid;
	struct pv_netfront_stats before;
};

/* Owner: main. */
struct crowd {
	const struct options *o;
	struct pv_tool *tool;
	unsigned n, polite; /* the first ones are polite */
	struct tally tally[GUESTS_MAX]; /* of each */
	struct sender s[GUESTS_MAX];
	struct hostile hostile;
};

static const uint8_t nobody[6] = { 0x02, 0, 0, 0, 0xbe, 0xef }; /* what is for it leaves by the uplink */

static void connect_sender(const struct options *o, int domid, struct sender *s)
{
	struct pv_netfront_config c = { .devid = o->vif, .wait_ms = CONNECT_MS };
	double end = perf_now() + CONNECT_MS / 1e3;
	struct ether_header *eth = (void *)s->frame;
	char why[256];

	if (pv_netfront_open(o->hypervisor, domid, &c, &s->f, why, sizeof(why)) < 0)
		perf_die("%s", why);
	while (pv_netfront_state(s->f) != XenbusStateConnected) {
		struct pollfd p = { .fd = pv_netfront_fd(s->f), .events = POLLIN };

		poll(&p, 1, 100);
		if (pv_netfront_work(s->f) < 0 || perf_now() > end)
			perf_die("vif %u of domain %d does not connect", o->vif, domid);
	}
	memcpy(eth->ether_dhost, nobody, 6);
	memcpy(eth->ether_shost, pv_netfront_offer(s->f)->mac, 6);
	eth->ether_type = 0x8888;
	s->domid = domid;
	for (int i = 0; i < BURST; i++)
		s->burst[i] = (struct pv_netfront_packet){ .data = s->frame, .len = o->len };
}

static unsigned must_send(struct sender *s, unsigned n)
{
	int sent = pv_netfront_send(s->f, 0, s->burst, n);

	if (sent < 0)
		perf_die("sending: %s", strerror(-sent));
	return (unsigned)sent;
}

/* What is due by now. Without room it is lost, as a packet is that a kernel has no queue for. */
static void send_due(struct sender *s, double now)
{
	unsigned n;

	if (s->rate <= 0) {
		s->tally->offered += must_send(s, BURST);
		return;
	}
	if (now - s->due > MISSED_MAX / s->rate)
		s->due = now - MISSED_MAX / s->rate;
	for (n = 0; n < BURST && s->due <= now; n++)
		s->due += 1 / s->rate;
	if (n) {
		s->tally->offered += n;
		must_send(s, n);
	}
}

/* Packets that netback has taken from a vif, ever. */
static uint64_t taken(struct crowd *c, const struct sender *s)
{
	char params[64], *text = NULL;
	struct json_object *o, *v = NULL;
	uint64_t n;

	snprintf(params, sizeof(params), "{\"guest\":\"%d\",\"device\":\"vif%u\"}", s->domid, c->o->vif);
	if (pv_tool_call(c->tool, "stats", params, 0, &text) != 0)
		perf_die("pviod has no stats: %s", pv_tool_error(c->tool));
	o = json_tokener_parse(text);
	if (!json_object_object_get_ex(o, "devices", &v) || !(v = json_object_array_get_idx(v, 0)) ||
	    !json_object_object_get_ex(v, "stats", &v) || !json_object_object_get_ex(v, "tx_packets", &v))
		perf_die("the stats of the vif do not tell what it sent: %s", text);
	n = (uint64_t)json_object_get_int64(v);
	json_object_put(o);
	free(text);
	return n;
}

/* Until all that was sent is taken. */
static void settle(struct crowd *c, struct sender *s)
{
	double end = perf_now() + CONNECT_MS / 1e3;
	struct pv_netfront_stats now;

	pv_netfront_stats(s->f, &now);
	while ((s->tally->delivered = taken(c, s) - s->taken) < now.tx_packets - s->before.tx_packets)
		if (perf_now() > end)
			perf_die("netback does not take what was sent");
}

/* All send for so long. Returns packets a second, of all that were delivered. */
static double run(struct crowd *c, double secs)
{
	double began, now;
	uint64_t sum = 0;

	for (unsigned i = 0; i < c->n; i++) {
		pv_netfront_stats(c->s[i].f, &c->s[i].before);
		c->s[i].taken = taken(c, &c->s[i]);
		c->tally[i].offered = 0;
	}
	began = now = perf_now();
	for (unsigned i = 0; i < c->n; i++)
		c->s[i].due = began;
	for (; now < began + secs; now = perf_now()) {
		for (unsigned i = 0; i < c->n; i++)
			send_due(&c->s[i], now);
		hostile_step(&c->hostile);
	}
	for (unsigned i = 0; i < c->n; i++) {
		settle(c, &c->s[i]);
		sum += c->tally[i].delivered;
	}
	return (double)sum / secs;
}

/* The polite ones send what they are to, for so long. Returns the smallest part that one of them got of it. */
static double least_part(void *arg, double secs)
{
	struct crowd *c = arg;

	run(c, secs);
	return tally_least(c->tally, c->polite);
}

static void measure(void *arg)
{
	struct crowd *c = arg;
	double secs = c->o->msecs / 1e3, capacity, quiet = 1, least;

	for (unsigned i = 0; i < c->n; i++)
		c->s[i].rate = 0;
	run(c, secs / 4);
	capacity = run(c, secs / 2);
	for (unsigned i = 0; i < c->polite; i++)
		c->s[i].rate = capacity / 10;
	if (c->hostile.kind)
		quiet = least_part(c, secs);
	least = hostile_storm(&c->hostile, least_part, c, secs);
	printf("{\"least\":%.4f,\"quiet\":%.4f,\"capacity_mpps\":%.3f,\"offered_mpps\":%.3f,\"greedy_mpps\":%.3f,\"deeds\":%llu,\"senders\":%u,\"len\":%u}\n",
	       least, quiet, capacity / 1e6, (double)tally_offered(c->tally, c->polite) / secs / 1e6,
	       c->hostile.kind ? 0 : (double)c->tally[c->polite].delivered / secs / 1e6, (unsigned long long)c->hostile.deeds, c->n, c->o->len);
}

/* ---- the hostile one. Each step is short: it has the thread of those who are measured. ---- */

enum { SLOTS_MANY = PV_NET_FRAGS_MAX + 1 /* of a packet: dropped */, BAD_GREF = UINT32_MAX, HALF = PV_PAGE_SIZE / 2 };

static void put(struct hostile *g, uint32_t gref, unsigned offset, unsigned size, unsigned flags)
{
	pv_net_tx_fill(&g->raw.ring[RAW_TX], gref, (uint16_t)offset, (uint16_t)flags, 0, (uint16_t)size);
}

static void publish(struct hostile *g)
{
	if (pv_ring_publish(&g->raw.ring[RAW_TX]))
		hostile_notify(g, g->raw.port);
}

/* Packets that are answered with an error each, and do not break the vif. */
static void send_errors(struct hostile *g)
{
	uint32_t gref = g->raw.gref[RAW_DATA];

	g->deeds += raw_answers(&g->raw, RAW_TX);
	while (pv_ring_room(&g->raw.ring[RAW_TX]) >= SLOTS_MANY)
		switch (g->n++ % 4) {
		case 0:
			put(g, gref, 0, PV_NET_LEN_MIN - 1, 0);
			break;
		case 1:
			put(g, BAD_GREF, 0, 64, 0);
			break;
		case 2: /* the second slot has more than both */
			put(g, gref, 0, 64, NETTXF_more_data);
			put(g, gref, 0, 65, 0);
			break;
		default:
			for (unsigned i = 1; i <= SLOTS_MANY; i++)
				put(g, gref, 0, 64, i < SLOTS_MANY ? NETTXF_more_data : 0);
		}
	publish(g);
}

/* Packets that its rules reject, and others from an address that is not its own. It takes no answers. */
static void send_rejects(struct hostile *g)
{
	uint8_t *data = g->raw.pages + RAW_DATA * PV_PAGE_SIZE;

	if (!g->n) {
		frame_make(data, 64, nobody, g->raw.front.offer.vif.mac);
		frame_make(data + HALF, 64, nobody, nobody);
	}
	g->deeds += raw_answers(&g->raw, RAW_TX);
	while (pv_ring_room(&g->raw.ring[RAW_TX]))
		put(g, g->raw.gref[RAW_DATA], g->n++ % 2 * HALF, 64, 0);
	publish(g);
}

/* Hashing set up anew, which workers are waited for, and a static grant that comes and goes, which they are called for. */
static void ask_control(struct hostile *g)
{
	uint32_t gref = g->raw.gref[RAW_DATA];
	const struct xen_netif_ctrl_request requests[] = {
		{ .type = XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, .data = { XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ } },
		{ .type = XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS, .data = { XEN_NETIF_CTRL_HASH_TYPE_IPV4 } },
		{ .type = XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, .data = { 0, gref, 1 } },
		{ .type = XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING, .data = { 0, gref, 1 } },
	};
	struct pv_ring *r = &g->raw.ring[RAW_CTRL];

	*(struct xen_netif_gref *)(g->raw.pages + RAW_DATA * PV_PAGE_SIZE) = (struct xen_netif_gref){ .ref = gref };
	g->deeds += raw_answers(&g->raw, RAW_CTRL);
	while (pv_ring_room(r))
		*(struct xen_netif_ctrl_request *)pv_ring_fill(r) = requests[g->n++ % 4];
	pv_ring_publish(r);
	hostile_notify(g, g->raw.ctrl_port);
}

static const struct hostile_kind kinds[] = {
	{ "events", hostile_events, NULL },
	{ "errors", send_errors, NULL },
	{ "rejects", send_rejects, "rules=antispoof\nreject" },
	{ "control", ask_control, NULL },
	{ "reconnects", hostile_reconnects, NULL },
	{ "lies", hostile_lies, NULL },
	{ 0 },
};

static void open_all(struct crowd *c)
{
	const char *at = c->o->domids;
	char *end, why[256];

	if (pv_tool_open(NULL, &c->tool, why, sizeof(why)) < 0)
		perf_die("%s", why);
	for (; c->n < GUESTS_MAX && *at; c->n++) {
		long domid = strtol(at, &end, 10);

		if (end == at || domid < 1 || (*end && *end != ','))
			perf_die("--domids wants numbers with commas between them");
		if (!*end && c->hostile.kind) {
			hostile_open(&c->hostile, c->o->hypervisor, (int)domid, PV_NOXS_VIF, c->o->vif, NULL);
			break;
		}
		connect_sender(c->o, (int)domid, &c->s[c->n]);
		c->s[c->n].tally = &c->tally[c->n];
		at = *end ? end + 1 : end;
	}
	c->polite = c->hostile.kind ? c->n : c->n - 1;
	if (!c->n || !c->polite)
		perf_die("--domids wants two guests at least");
}

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "hypervisor", "SPEC", "xen, loopback, loopback:PATH ($PVIO_HYPERVISOR, else the host's)", pv_option_text, FIELD(hypervisor) },
	{ "domids", "N,N...", "the guests that send, the greedy or hostile one last", pv_option_text, FIELD(domids) },
	{ "hostile", "KIND", "the last guest is hostile: events, errors, rejects, control, reconnects, lies", pv_option_text, FIELD(hostile) },
	{ "vif", "N", "the vifs' number (0)", pv_option_number, FIELD(vif), .max = 65535 },
	{ "len", "BYTES", "of a frame (64)", pv_option_number, FIELD(len), .min = 60, .max = FRAME_MTU },
	{ "msecs", "MS", "how long to measure (1000)", pv_option_number, FIELD(msecs), .min = 1, .max = 1000000 },
	{ "cpus", "A", "pin to this CPU", pv_option_cpus, FIELD(cpus) },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "fair",
	.usage = "--domids N,N... [OPTION...]",
	.about = "What guests that send a tenth of netback's capacity each get delivered beside one that sends without bound, or is hostile, as JSON.",
	.options = table,
};

int main(int argc, char **argv)
{
	struct options o = { .len = 64, .msecs = 1000 };
	static struct crowd c;
	int ret = pv_options_parse(&program, argc, argv, &o);

	if (ret >= 0)
		return ret;
	if (!o.domids)
		return pv_options_wrong(&program, "--domids is missing");
	if (o.hostile && !(c.hostile.kind = hostile_find(kinds, o.hostile)))
		return pv_options_wrong(&program, "--hostile %s is none of the kinds", o.hostile);
	c.o = &o;
	perf_pin(&o.cpus, 0);
	open_all(&c);
	perf_serve(o.once, measure, NULL, -1, &c);
	for (unsigned i = 0; i < c.n; i++)
		pv_netfront_close(c.s[i].f, CONNECT_MS);
	pv_tool_close(c.tool);
	return 0;
}
