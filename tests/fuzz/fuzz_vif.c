/* fuzz_vif.c - a whole vif on the loopback hypervisor, in one process: the hub in a thread, netback with two workers, two well-behaved
 * guests, and one whose every move is the input's: slots, indices, pages, events, references, its connection, its death. It may have
 * a second vif, which rules of the first mirror to.
 *
 * The workers run in lockstep (lockstep.h): a turn runs when the input (or the end of an input) says so. So an
 * input does the same each time. After each input the well-behaved two exchange packets, and nothing of the third is left:
 * packet memory, grants, ports and mappings are as they were.
 */
#define LOCKSTEP_READY 1 /* a worker never sleeps */
#include "fuzz.h"
#include "lockstep.h"
#include "netback/netback.h"
#include <netinet/in.h>
#include <pthread.h>
#include <pvio/hub.h>
#include <rte_mempool.h>
#include <unistd.h>

/* ---- guests ---- */

enum {
	TX_PAGES = 8,
	RX_PAGES = 64,
	QUEUES = 3, /* the last is of the second vif of c */
	FEATURES = PV_VIF_SG | PV_VIF_CSUM_IPV4 | PV_VIF_CSUM_IPV6 | PV_VIF_GSO_TCPV4 | PV_VIF_GSO_TCPV6, /* of the well-behaved */
	MORE = PV_VIF_MCAST_CONTROL | PV_VIF_CTRL_RING | PV_VIF_HEADROOM | PV_VIF_NO_RX_NOTIFY,
};

struct queue {
	struct pv_ring tx, rx;
	void *tx_page, *rx_page;
	uint32_t tx_gref, rx_gref, tx_port, rx_port;
};

struct guest {
	struct pv_hyper *h;
	uint16_t domid;
	uint32_t devid;
	uint8_t mac[6];
	uint8_t *tx_data, *rx_data;
	uint32_t tx_grefs[TX_PAGES], rx_grefs[RX_PAGES];
	struct queue q[QUEUES];
	struct pv_ring ctrl;
	void *ctrl_page;
	uint32_t ctrl_gref, ctrl_port;
};

static struct netback nb;
static struct pv_hub *hub;
static pthread_t hub_thread;
static struct pv_hyper *dom0;
static struct guest a, b, c; /* c is the hostile one */
static unsigned base_mbufs;
static struct pv_hub_domain base_dom0; /* what netback, which is in domain 0, held with a and b alone */
static char refused[256]; /* why, by the last configuration that was */
static bool c_spoilt; /* its references, ports or process are not what they were */
static unsigned told[2]; /* how often pviod was told that c's first vif broke, and its second */

/* backend.h: what netback tells pviod. */
void pv_backend_broken(struct pv_backend *backend, const struct pv_device_id *id, int error, const char *why)
{
	(void)backend;
	MUST(id->guest == c.domid && error == -EPROTO && why && *why); /* nobody but the offender is ever to blame */
	MUST(++told[id->devid] == 1);
}

static struct pv_device_id device(const struct guest *g)
{
	return (struct pv_device_id){ .guest = g->domid, .type = PV_NOXS_VIF, .devid = g->devid };
}

/* Its second vif, for calls about it. */
static struct guest second_vif(const struct guest *g)
{
	struct guest second = *g;

	second.devid = 1;
	second.q[0] = g->q[QUEUES - 1];
	return second;
}

static void rings_reset(struct guest *g)
{
	for (unsigned i = 0; i < QUEUES; i++) {
		pv_ring_init_front(&g->q[i].tx, g->q[i].tx_page, PV_PAGE_SIZE, PV_NET_TX_SLOT);
		pv_ring_init_front(&g->q[i].rx, g->q[i].rx_page, PV_PAGE_SIZE, PV_NET_RX_SLOT);
	}
}

static void share_data(struct guest *g)
{
	MUST(!pv_gnt_share(g->h, 0, TX_PAGES, true, NULL, g->tx_grefs, (void **)&g->tx_data));
	MUST(!pv_gnt_share(g->h, 0, RX_PAGES, true, NULL, g->rx_grefs, (void **)&g->rx_data));
}

static void ctrl_reset(struct guest *g)
{
	pv_ring_init_front(&g->ctrl, g->ctrl_page, PV_PAGE_SIZE, sizeof(struct xen_netif_ctrl_request));
}

static void guest_open(struct guest *g)
{
	uint32_t port;
	int domid = pv_hub_domain_create(dom0, 0, &port);
	char why[160];

	MUST(domid > 0);
	*g = (struct guest){ .domid = (uint16_t)domid };
	MUST(!pv_hyper_open(NULL, domid, &g->h, why, sizeof(why)));
	share_data(g);
	for (unsigned i = 0; i < QUEUES; i++) {
		struct queue *q = &g->q[i];

		MUST(!pv_gnt_share(g->h, 0, 1, true, NULL, &q->tx_gref, &q->tx_page));
		MUST(!pv_gnt_share(g->h, 0, 1, true, NULL, &q->rx_gref, &q->rx_page));
		q->tx_port = (uint32_t)pv_evt_alloc(g->h, 0);
		q->rx_port = (uint32_t)pv_evt_alloc(g->h, 0);
		MUST((int)q->tx_port > 0 && (int)q->rx_port > 0);
	}
	MUST(!pv_gnt_share(g->h, 0, 1, true, NULL, &g->ctrl_gref, &g->ctrl_page));
	g->ctrl_port = (uint32_t)pv_evt_alloc(g->h, 0);
	MUST((int)g->ctrl_port > 0);
	ctrl_reset(g);
	rings_reset(g);
}

/* prepare, or set. */
static int guest_configure(struct guest *g, pv_backend_configure *call, const char *config)
{
	struct pv_device_id id = device(g);
	struct json_object *o = json_object_new_object(), *object;
	struct pv_noxs_offer offer = { .type = PV_NOXS_VIF };
	int ret;

	json_object_object_add(o, "config", json_tokener_parse(config));
	ret = pv_config_from_json(o, &object, refused, sizeof(refused)); /* as a call of pviod is read */
	if (!ret)
		ret = call(&nb, &id, object, &offer, refused, sizeof(refused));
	json_object_put(o);
	if (!ret)
		memcpy(g->mac, offer.vif.mac, 6);
	return ret;
}

static int guest_prepare(struct guest *g, const char *config)
{
	return guest_configure(g, vif_ops.prepare, config);
}

static struct pv_noxs_choice guest_choice(const struct guest *g, unsigned queues, uint32_t features)
{
	struct pv_noxs_choice choice = { .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .state = XenbusStateInitialised, .alive = 1,
					 .queues = (uint16_t)queues, .features = features, .ctrl_gref = g->ctrl_gref,
					 .ctrl_port = g->ctrl_port };

	for (unsigned i = 0; i < queues; i++)
		choice.vif[i] = (struct pv_noxs_vif_queue){ g->q[i].tx_gref, g->q[i].rx_gref, g->q[i].tx_port, g->q[i].rx_port };
	return choice;
}

static int guest_connect(struct guest *g, const char *config, const struct pv_noxs_choice *choice)
{
	struct pv_connect connect = { .id = device(g), .config = json_tokener_parse(config), .choice = *choice };
	char why[256];
	int ret = vif_ops.connect(&nb, &connect, why, sizeof(why));

	json_object_put(connect.config);
	if (!ret)
		told[g->devid] = 0;
	return ret;
}

static void guest_call(const struct guest *g, int (*call)(void *ctx, const struct pv_device_id *id, char *why, size_t len))
{
	struct pv_device_id id = device(g);
	char why[256];

	MUST(!call(&nb, &id, why, sizeof(why)));
}

static void turns(unsigned n)
{
	while (n--) {
		for (unsigned i = 0; i < nb.nr_workers; i++)
			step(nb.workers[i]->pw);
		netback_woken(&nb);
		ctrl_work(&nb);
	}
}

/* ---- the well-behaved two ---- */

static void rx_post(struct guest *g, unsigned n)
{
	struct queue *q = &g->q[0];

	while (n--)
		pv_net_rx_fill(&q->rx, (uint16_t)(q->rx.prod % RX_PAGES), g->rx_grefs[q->rx.prod % RX_PAGES]);
	if (pv_ring_publish(&q->rx))
		pv_evt_notify(g->h, q->rx_port);
}

/* Take all that came, and post as many pages again. True: `want`, of len bytes, was among it. */
static bool rx_drain(struct guest *g, const uint8_t *want, unsigned len)
{
	struct queue *q = &g->q[0];
	union pv_net_rx_slot slots[PV_NET_CHAIN_MAX];
	struct pv_net_rx_packet p;
	unsigned n = 0, total = 0;
	bool found = false;
	int ready = pv_ring_ready(&q->rx);

	MUST(ready >= 0);
	for (; ready--; total++) {
		int used;

		MUST(n < PV_NET_CHAIN_MAX);
		pv_net_rx_take_rsp(&q->rx, &slots[n++]);
		used = pv_net_rx_parse(slots, n, &p);
		MUST(used >= 0 && !(used && p.error)); /* its pages are good: each packet arrives whole */
		if (!used)
			continue;
		found |= want && p.len == len && p.nr == 1 && !memcmp(g->rx_data + p.frag[0].id * PV_PAGE_SIZE + p.frag[0].offset, want, len);
		n = 0;
	}
	MUST(!n); /* chains are published whole */
	rx_post(g, total);
	return found;
}

static void tx_drain(struct guest *g)
{
	struct queue *q = &g->q[0];
	int ready = pv_ring_ready(&q->tx);

	MUST(ready >= 0);
	while (ready--) {
		struct netif_tx_response r;

		pv_net_tx_take_rsp(&q->tx, &r);
		MUST(r.status == NETIF_RSP_OKAY);
	}
}

static void frame(uint8_t *p, const uint8_t to[6], const uint8_t from[6], unsigned len, unsigned seed)
{
	for (unsigned i = 12; i < len; i++)
		p[i] = (uint8_t)(seed + i * 31);
	memcpy(p, to, 6);
	memcpy(p + 6, from, 6);
	p[12] = p[13] = 0x88; /* no protocol that anyone looks into */
}

/* A packet of len bytes from one to the other arrives as it was, whatever else is on its way. */
static void exchange(struct guest *from, struct guest *to, unsigned len)
{
	static unsigned seed;
	struct queue *q = &from->q[0];
	unsigned patience = 1000;

	frame(from->tx_data, to->mac, from->mac, len, ++seed);
	pv_net_tx_fill(&q->tx, from->tx_grefs[0], 0, 0, 0, (uint16_t)len);
	if (pv_ring_publish(&q->tx))
		pv_evt_notify(from->h, q->tx_port);
	for (;;) {
		turns(1);
		tx_drain(from);
		rx_drain(from, NULL, 0);
		if (rx_drain(to, from->tx_data, len))
			return;
		MUST(patience--);
	}
}

/* n packets of a: what its page 1 begins with. */
static void flood(unsigned len, unsigned n)
{
	while (n--)
		pv_net_tx_fill(&a.q[0].tx, a.tx_grefs[1], 0, 0, 1, (uint16_t)len);
	if (pv_ring_publish(&a.q[0].tx))
		pv_evt_notify(a.h, a.q[0].tx_port);
	turns(2);
	tx_drain(&a);
	rx_drain(&a, NULL, 0);
	rx_drain(&b, NULL, 0);
}

/* ---- before and after ---- */

static unsigned mbufs(void)
{
	unsigned n = rte_mempool_in_use_count(nb.pool);

	for (unsigned i = 0; i < nb.nr_workers; i++)
		n -= nb.workers[i]->spare.n;
	return n;
}

/* Nothing of c, which is disconnected, is left. */
static void check_all_back(void)
{
	struct pv_hub_domain all[4], *d = NULL; /* dom0 is the first */
	unsigned patience = 1000;

	while (mbufs() != base_mbufs) { /* what a and b still have to be given */
		turns(1);
		rx_drain(&a, NULL, 0);
		rx_drain(&b, NULL, 0);
		MUST(patience--);
	}
	MUST(pv_hub_domain_list(dom0, all, RTE_DIM(all)) == 4);
	MUST(all[0].ports == base_dom0.ports && all[0].handles == base_dom0.handles && all[0].grants == base_dom0.grants);
	for (unsigned i = 0; i < RTE_DIM(all); i++)
		d = all[i].domid == c.domid ? &all[i] : d;
	MUST(d && !d->pinned);
}

/* What dom0 may have configured. The guest has no say in it, but each is another way through netback. All of them are accepted. */
static const char *const configs[] = {
	"{}", "{\"mtu\":\"1500\"}", "{\"mtu\":\"68\"}", "{\"carrier\":\"0\"}", "{\"queues\":\"1\"}",
	"{\"mac\":\"02:00:00:00:00:99\"}", "{\"vlan\":\"5\"}", "{\"trunk\":\"1-100\",\"vlan\":\"107\"}",
	"{\"antispoof\":\"1\",\"ip\":\"10.0.0.1,fe80::/10\"}", "{\"rate-tx\":\"8M\",\"pps-rx\":\"1000\"}",
	"{\"pps-tx\":\"100\",\"rate-rx\":\"1M\",\"burst\":\"3000\"}",
	"{\"rules\":\"reject from-guest proto tcp dport 0-30000 count a\\nreject from-guest proto udp\\nreject to-guest type ipv4 mirror vif1\\n"
	"reject proto icmp6 icmp-type 128\\npass from-guest type ipv6 count a\\ndefault reject\\n\"}",
	"{\"rules\":\"drop from-guest proto icmp icmp-type 8/0 mirror vif1\\npass from-guest type ipv4 mirror vif1\\n"
	"pass to-guest type ipv6 mirror vif1 count b\\ndrop proto icmp6 mirror uplink\\npass mirror uplink\\n\",\"mtu\":\"9000\"}",
	"{\"rules\":\"antispoof\\nrate packets packets 20 burst 200\\nrate bits bits 64k\\ndrop fragment\\npass proto tcp syn rate packets\\n"
	"pass from-guest src 10.0.0.0/30 proto udp sport 1-40000 rate bits\\nreject to-guest proto udp\\npass src fe80::/10 rate bits mirror uplink\\n"
	"pass type arp\\ndefault drop\\n\",\"ip\":\"10.0.0.1,fe80::/10\"}",
	"{\"rules\":\"reject from-guest vlan 5 proto tcp\\npass vlan none\\nreject type ipv6\\npass mirror uplink\\n\",\"vlan\":\"5\"}",
};

static const char *const second_config =
	"{\"rules\":\"reject from-guest proto tcp mirror vif0\\npass from-guest mirror vif0\\nreject to-guest mirror vif0\\n\"}";

static void must_prepare(struct guest *g, const char *config)
{
	if (!guest_prepare(g, config))
		return;
	fprintf(stderr, "refused: %s\n%s\n", config, refused);
	abort();
}

static void check_configs(void)
{
	struct guest second = second_vif(&c);

	for (unsigned i = 0; i < RTE_DIM(configs); i++)
		must_prepare(&c, configs[i]);
	must_prepare(&second, second_config);
	guest_call(&c, vif_ops.remove);
	guest_call(&second, vif_ops.remove);
}

static const char *any_config(struct input *in)
{
	return configs[take8(in) % RTE_DIM(configs)];
}

static void *hub_main(void *arg)
{
	(void)arg;
	pv_hub_run(hub);
	return NULL;
}

static void honest_up(struct guest *g)
{
	struct pv_noxs_choice choice;

	guest_open(g);
	choice = guest_choice(g, 1, FEATURES);
	MUST(!guest_prepare(g, "{}") && !guest_connect(g, "{\"mtu\":\"65521\"}", &choice));
	rx_post(g, RX_PAGES);
}

static char dir[] = "/tmp/pvio-fuzz-XXXXXX";

static void remove_dir(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/hub.sock", dir);
	unlink(path);
	rmdir(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct nb_options opt = { .hypervisor = NULL, .workers = 2, .memory = 64, .name = "netback", .uplinks = { .nr = 1, .at[0].device = "load:0" } };
	char path[64], why[300];

	(void)argc, (void)argv;
	MUST(mkdtemp(dir));
	atexit(remove_dir);
	setenv("PVIO_RUNDIR", dir, 1);
	setenv("PVIO_HYPERVISOR", "loopback", 1);
	snprintf(path, sizeof(path), "%s/hub.sock", dir);
	MUST(!pv_hub_open(path, &(struct pv_hub_limits){ .domains = 16, .grants = 1024, .ports = 64 }, &hub) && !pthread_create(&hub_thread, NULL, hub_main, NULL));
	MUST(!pv_hyper_open(NULL, 0, &dom0, why, sizeof(why)));
	pv_log_open("fuzz_vif", PV_LOG_ERR);
	MUST(!eal_start(opt.memory, why, sizeof(why)) && !netback_open(&nb, &opt, -1, why, sizeof(why)));
	nb.backend = (struct pv_backend *)&nb; /* anything: pv_backend_broken above is all that it is for */
	honest_up(&a);
	honest_up(&b);
	guest_open(&c);
	check_configs();
	exchange(&a, &b, 100);
	exchange(&b, &a, 100);
	frame(a.tx_data + PV_PAGE_SIZE, (uint8_t[]){ 2, 1, 1, 1, 1, 1 }, a.mac, 60, 1);
	flood(60, 1); /* the uplink answers the first packet that it gets */
	turns(100);
	base_mbufs = mbufs();
	MUST(pv_hub_domain_list(dom0, &base_dom0, 1) == 4);
	return 0;
}

/* ---- what the hostile guest does ---- */

static uint32_t any_gref(struct input *in)
{
	uint8_t n = take8(in);

	switch (n >> 5) {
	case 6: return a.tx_grefs[n % TX_PAGES]; /* another guest's */
	case 7: return take32(in);
	case 5: return c.q[n % QUEUES].tx_gref; /* its own ring */
	case 4: return c.rx_grefs[n % RX_PAGES];
	default: return c.tx_grefs[n % TX_PAGES];
	}
}

static struct queue *any_queue(struct input *in)
{
	return &c.q[take8(in) % QUEUES];
}

static const uint8_t *any_mac(struct input *in)
{
	static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 };
	static uint8_t raw[6];
	uint8_t n = take8(in);

	switch (n % 6) {
	case 0: return a.mac;
	case 1: return b.mac;
	case 2: return c.mac;
	case 3: return all;
	case 4: return (memcpy(raw, (uint8_t[]){ 2, 0xee, 0, 0, 0, n }, 6), raw);
	default: take_bytes(in, raw, 6); return raw;
	}
}

static void *any_page(struct input *in)
{
	struct queue *q = any_queue(in);

	return take8(in) & 1 ? q->tx_page : q->rx_page;
}

/* One request of the transmit ring: what a frontend would write, or any 12 bytes. */
static void act_tx_slot(struct input *in)
{
	struct queue *q = any_queue(in);
	uint16_t flags = take8(in), offset = take16(in), size = take16(in);

	if (flags & 0x80)
		flags |= (uint16_t)(take8(in) << 8);
	pv_net_tx_fill(&q->tx, any_gref(in), offset, flags & 0xff7f, take8(in), size);
}

static void act_tx_extra(struct input *in)
{
	union pv_net_tx_slot *slot = pv_ring_fill(&any_queue(in)->tx);

	take_bytes(in, slot, PV_NET_TX_SLOT);
	if (slot->extra.flags & 2) /* a type that is known */
		slot->extra.type = 1 + slot->extra.type % (XEN_NETIF_EXTRA_TYPE_MAX - 1);
}

static void put16(uint8_t *p, unsigned n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

/* Headers that rules look at, for a frame of len bytes: IPv4 or IPv6, what is in it, its ports or types, its flags. */
static void put_ip(struct input *in, uint8_t *p, unsigned len)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6 };
	uint8_t kind = take8(in), proto = protos[kind >> 1 & 3], *ip = p + 14, *l4 = ip + (kind & 1 ? 40 : 20);

	memset(p + 12, 0, 80);
	put16(p + 12, kind & 1 ? 0x86dd : 0x0800);
	if (kind & 1) {
		ip[0] = 0x60;
		put16(ip + 4, len - 54);
		ip[6] = proto;
		ip[8] = ip[24] = 0xfe;
		ip[9] = ip[25] = 0x80;
		ip[23] = kind >> 4 & 3;
	} else {
		ip[0] = 0x45;
		put16(ip + 2, len - 14);
		ip[6] = kind & 8 ? take8(in) : 0; /* a fragment */
		ip[9] = proto;
		ip[12] = ip[16] = 10;
		ip[15] = kind >> 4 & 3;
	}
	take_bytes(in, l4, 4);
	l4[12] = 0x50;
	l4[13] = take8(in);
}

/* A frame at the head of a page, its further bytes any or those of IP, and slots for it in pieces. */
static void act_packet(struct input *in)
{
	struct queue *q = any_queue(in);
	unsigned page = take8(in) % TX_PAGES, pieces = 1 + take8(in) % 23, size = take16(in) % 4096, total = size * pieces, len;
	uint8_t *p = c.tx_data + page * PV_PAGE_SIZE, how = take8(in), flags = how & (NETTXF_csum_blank | NETTXF_data_validated);

	memcpy(p, any_mac(in), 6);
	memcpy(p + 6, any_mac(in), 6);
	len = take8(in);
	take_bytes(in, p + 12, len);
	if (how & 0x80)
		put_ip(in, p, total);
	for (unsigned i = 0; i < pieces; i++)
		pv_net_tx_fill(&q->tx, c.tx_grefs[page], 0, i + 1 < pieces ? flags | NETTXF_more_data : flags, (uint16_t)i,
			       (uint16_t)(i ? size : total));
}

/* TCP in one page, as large as it says, and GSO. */
static void act_gso(struct input *in)
{
	struct queue *q = any_queue(in);
	uint8_t *p = c.tx_data, kind = take8(in), ihl = take8(in), thl = take8(in);
	unsigned pieces = 1 + take8(in) % 16, len = 4096 * pieces, l3 = kind & 1 ? 40 : 20;
	struct netif_extra_info gso = { .type = XEN_NETIF_EXTRA_TYPE_GSO, .u.gso = { .size = take16(in), .type = 1 + (kind & 1) } };

	memset(p, 0, 128);
	memcpy(p, any_mac(in), 6);
	memcpy(p + 6, c.mac, 6);
	p[12] = kind & 1 ? 0x86 : 0x08;
	p[13] = kind & 1 ? 0xdd : 0;
	p[14] = kind & 1 ? 0x60 : 0x40 | (kind & 2 ? ihl & 15 : 5);
	p[16] = (uint8_t)((len - 14) >> 8);
	p[17] = (uint8_t)(len - 14);
	if (kind & 1) {
		p[18] = (uint8_t)((len - 54) >> 8);
		p[19] = (uint8_t)(len - 54);
		p[20] = 6;
	} else {
		p[23] = 6;
	}
	p[14 + l3 + 12] = (uint8_t)((kind & 4 ? thl & 15 : 5) << 4);
	for (unsigned i = 0; i < pieces; i++) {
		unsigned flags = (i + 1 < pieces ? NETTXF_more_data : 0) | (i ? 0 : NETTXF_csum_blank | (kind & 8 ? 0 : NETTXF_extra_info));

		pv_net_tx_fill(&q->tx, c.tx_grefs[i % TX_PAGES], 0, (uint16_t)flags, (uint16_t)i, (uint16_t)(i ? 4096 : len));
		if (!i && !(kind & 8)) {
			union pv_net_tx_slot *slot = pv_ring_fill(&q->tx);

			memset(slot, 0, sizeof(*slot));
			slot->extra = gso;
		}
	}
}

static void act_rx_post(struct input *in)
{
	struct queue *q = any_queue(in);
	unsigned n = take8(in) % 32;

	while (n--)
		pv_net_rx_fill(&q->rx, (uint16_t)(q->rx.prod % RX_PAGES), any_gref(in));
	pv_ring_publish(&q->rx);
	pv_evt_notify(c.h, q->rx_port);
}

static void act_publish(struct input *in)
{
	struct queue *q = any_queue(in);

	pv_ring_publish(&q->tx);
	if (take8(in) & 1)
		pv_evt_notify(c.h, q->tx_port);
}

/* Any word of a ring's header, or any bytes of its slots. */
static void act_scribble(struct input *in)
{
	uint8_t *page = any_page(in);
	unsigned at = take8(in) & 1 ? take8(in) % 16 * 4 : take16(in) % PV_PAGE_SIZE, n = take8(in);

	take_bytes(in, page + at, RTE_MIN(n, PV_PAGE_SIZE - at));
}

static void act_events(struct input *in)
{
	struct queue *q = any_queue(in);

	for (unsigned n = take8(in); n--;) {
		pv_evt_notify(c.h, n & 1 ? q->tx_port : q->rx_port);
		if (n % 16 == 0)
			turns(1);
	}
}

/* It takes its answers, as far as they make sense to it. */
static void act_consume(struct input *in)
{
	struct queue *q = any_queue(in);
	union pv_net_rx_slot rx;
	struct netif_tx_response tx;
	int n = pv_ring_ready(&q->tx), m = pv_ring_ready(&q->rx);

	while (n-- > 0)
		pv_net_tx_take_rsp(&q->tx, &tx);
	while (m-- > 0)
		pv_net_rx_take_rsp(&q->rx, &rx);
}

static void act_flood(struct input *in)
{
	unsigned n = take8(in) % 32, len = 14 + take16(in) % 4000;
	uint8_t how = take8(in);
	const uint8_t *to = how & 1 ? c.mac : any_mac(in);

	frame(a.tx_data + PV_PAGE_SIZE, to, a.mac, len, n);
	if (how & 2)
		put_ip(in, a.tx_data + PV_PAGE_SIZE, len);
	flood(len, n);
}

static void act_connect(struct input *in)
{
	uint8_t how = take8(in);
	struct guest second = second_vif(&c), *g = how & 32 ? &second : &c;
	struct pv_noxs_choice choice = guest_choice(g, g == &c ? 1 + (how & 1) : 1, take16(in) & (FEATURES | MORE));

	if (choice.features & PV_VIF_HEADROOM)
		choice.headroom = take16(in);
	if (how & 2) /* any word of its queues */
		((uint32_t *)choice.vif)[take8(in) % 8] = how & 4 ? any_gref(in) : take32(in);
	if (how & 8)
		rings_reset(&c);
	if (how & 16)
		ctrl_reset(&c);
	if (g == &second)
		guest_prepare(g, second_config);
	guest_connect(g, g == &c ? any_config(in) : second_config, &choice);
}

static void act_set(struct input *in)
{
	guest_configure(&c, vif_ops.set, any_config(in));
}

static void act_prepare(struct input *in)
{
	char config[200] = "";

	take_bytes(in, config, take8(in) % sizeof(config));
	config[sizeof(config) - 1] = 0;
	guest_prepare(&c, config);
}

/* Requests of the control ring, whose operands are its pages; or any word of it. */
static void act_ctrl(struct input *in)
{
	uint8_t n = take8(in);
	struct xen_netif_ctrl_request *req;

	if (n & 0x80) {
		take_bytes(in, (uint8_t *)c.ctrl_page + n % 16 * 4, 4);
	} else {
		for (n %= 40; n--;) {
			req = pv_ring_fill(&c.ctrl);
			*req = (struct xen_netif_ctrl_request){ .id = n, .type = take8(in) % 13 };
			for (unsigned i = 0; i < 3; i++)
				req->data[i] = take8(in) & 1 ? any_gref(in) : take16(in);
		}
		pv_ring_publish(&c.ctrl);
	}
	pv_evt_notify(c.h, c.ctrl_port);
	turns(1);
}

static void act_revoke(struct input *in)
{
	uint8_t what = take8(in);
	struct queue *q = &c.q[what % QUEUES];

	c_spoilt = true;
	if (what & 0x80) {
		pv_gnt_unshare(c.h, c.tx_data, TX_PAGES);
		pv_gnt_unshare(c.h, c.rx_data, RX_PAGES);
		share_data(&c); /* others, with other references */
	} else if (what & 0x40) {
		pv_evt_unbind(c.h, q->tx_port);
		q->tx_port = (uint32_t)pv_evt_alloc(c.h, 0);
	} else {
		static const char *const faults[] = { "copy", "map", "bind" };

		pv_hub_inject(dom0, c.domid, faults[what % 3], take8(in) % 16, 1 + take8(in) % 4, (int8_t)take8(in) | 1);
	}
}

static void act_report(struct input *in)
{
	struct pv_device_id id = device(&c);

	json_object_put(take8(in) & 1 ? report_stats(&nb, &id) : report_inspect(&nb, &id));
}

static void act(struct input *in)
{
	static void (*const acts[])(struct input *in) = {
		act_tx_slot, act_tx_extra, act_packet, act_gso, act_rx_post, act_publish, act_scribble, act_events, act_consume,
		act_flood, act_connect, act_prepare, act_set, act_ctrl, act_revoke, act_report,
	};
	unsigned what = take8(in) % (RTE_DIM(acts) + 6);

	switch (what - RTE_DIM(acts)) {
	case 0:
	case 1: turns(1 + take8(in) % 8); break;
	case 2: guest_call(&c, vif_ops.disconnect); break;
	case 3: guest_call(&c, vif_ops.remove); break;
	case 4: netback_tick(&nb); break;
	case 5: any_queue(in)->tx.shared->req_prod += take32(in); break;
	default: acts[what](in);
	}
}

/* It is disconnected, by its own death first if `dies`, and as it was at first. */
static void c_ends(bool dies)
{
	struct guest second = second_vif(&c);

	if (dies) {
		pv_hyper_close(c.h);
		c.h = NULL;
		turns(2);
	}
	guest_call(&c, vif_ops.disconnect);
	guest_call(&second, vif_ops.disconnect);
	check_all_back();
	guest_call(&c, vif_ops.remove);
	guest_call(&second, vif_ops.remove);
	if (dies || c_spoilt) {
		pv_hyper_close(c.h);
		MUST(!pv_hub_domain_destroy(dom0, c.domid));
		guest_open(&c);
		c_spoilt = false;
	}
	rings_reset(&c);
	ctrl_reset(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct pv_noxs_choice choice = guest_choice(&c, QUEUES - 1, FEATURES);
	uint8_t end = take8(&in);

	MUST(!guest_prepare(&c, "{}") && !guest_connect(&c, "{}", &choice));
	for (unsigned n = 0; in.left && n < 200; n++)
		act(&in);
	turns(1);
	exchange(&a, &b, 60 + size % 4000);
	exchange(&b, &a, 60);
	c_ends(end % 8 == 7);
	return 0;
}
