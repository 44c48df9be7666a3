/* pmd.c - packets through a DPDK port: what net.c and netback's uplink do at the two ends of a vif, done at the two ends of a peer of ours.
 *
 *	pmd --vdev net_vhost0,... --take		counts and looks at what comes
 *	pmd --vdev net_virtio_user0,... --send		sends
 *	pmd --vdev A,... --send --to B,... --take	sends on one port and takes from another: something between them forwards
 *
 * Each frame is written whole into its mbuf when it is sent, as a guest writes its pages; one word of every cache line is read of what
 * is taken. It polls. A burst that finds no room is tried again. One line of JSON a measurement.
 */
#include "perf.h"
#include "frame.h"
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

enum { MBUFS = 16384, CACHE = 256, DESCRIPTORS = 1024, SEGS_MAX = 64, TURNS = 64 };

struct options {
	const char *vdev, *to;
	unsigned len, seg, msecs;
	struct pv_cpus cpus;
	bool send, take, once, headers;
};

/* Owner: main. */
struct load {
	const struct options *o;
	uint16_t out, in; /* ports */
	unsigned segs; /* of a frame */
	struct rte_mempool *pool;
	struct rte_mbuf *burst[FRAME_BURST]; /* filled and not yet sent: [first, FRAME_BURST) */
	unsigned first;
	uint64_t sent, got, bad;
	uint32_t seen; /* so that looking is not for nothing */
	uint8_t frame[FRAME_MAX];
};

static void start_eal(const struct options *o)
{
	char lcores[32], memory[] = "96";
	char *argv[] = { (char *)"pmd", (char *)"--lcores", lcores, (char *)"--no-pci", (char *)"--in-memory", (char *)"--single-file-segments",
			 (char *)"-m", memory, (char *)"--no-telemetry", (char *)"--force-max-simd-bitwidth=512", (char *)"--vdev",
			 (char *)o->vdev, (char *)"--vdev", (char *)o->to, NULL };
	int argc = (int)RTE_DIM(argv) - 1 - (o->to ? 0 : 2);

	argv[argc] = NULL;
	snprintf(lcores, sizeof(lcores), "0@%d", o->cpus.nr ? o->cpus.cpu[0] : 0);
	if (rte_eal_init(argc, argv) < 0)
		perf_die("DPDK does not start: hugepages of 2 MiB are needed, and the driver of %s", o->vdev);
}

static void start_port(struct load *l, uint16_t port)
{
	struct rte_eth_conf conf = { 0 };
	struct rte_eth_dev_info info;
	int ret = rte_eth_dev_info_get(port, &info);

	if (l->segs > 1) {
		conf.rxmode.offloads = info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER;
		conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	}
	ret = ret ? ret : rte_eth_dev_configure(port, 1, 1, &conf);
	ret = ret ? ret : rte_eth_rx_queue_setup(port, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL, l->pool);
	ret = ret ? ret : rte_eth_tx_queue_setup(port, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL);
	ret = ret ? ret : rte_eth_dev_start(port);
	if (ret)
		perf_die("port %u does not start: %s", port, strerror(-ret));
}

/* One frame, whole, as a chain of segments. */
static struct rte_mbuf *fill(struct load *l, struct rte_mbuf **seg)
{
	uint32_t left = l->o->len, at = 0;

	for (unsigned i = 0; i < l->segs; i++) {
		uint32_t n = RTE_MIN(left, l->o->seg);

		seg[i]->data_len = (uint16_t)n;
		memcpy(rte_pktmbuf_mtod(seg[i], void *), l->frame + at, l->o->headers ? RTE_MIN(n, 42u) : n);
		seg[i]->next = i + 1 < l->segs ? seg[i + 1] : NULL;
		left -= n;
		at += n;
	}
	seg[0]->pkt_len = l->o->len;
	seg[0]->nb_segs = (uint16_t)l->segs;
	return seg[0];
}

static void send_burst(struct load *l)
{
	struct rte_mbuf *seg[FRAME_BURST * SEGS_MAX];
	unsigned n;

	if (l->first == FRAME_BURST) {
		if (rte_pktmbuf_alloc_bulk(l->pool, seg, FRAME_BURST * l->segs) < 0)
			return; /* all are on their way */
		for (l->first = 0; l->first < FRAME_BURST; l->first++)
			l->burst[l->first] = fill(l, seg + l->first * l->segs);
		l->first = 0;
	}
	n = rte_eth_tx_burst(l->out, 0, l->burst + l->first, (uint16_t)(FRAME_BURST - l->first));
	l->first += n;
	l->sent += n;
}

static void take_burst(struct load *l)
{
	struct rte_mbuf *in[FRAME_BURST];
	unsigned n = rte_eth_rx_burst(l->in, 0, in, FRAME_BURST);

	for (unsigned i = 0; i < n; i++) {
		l->bad += in[i]->pkt_len != l->o->len;
		for (struct rte_mbuf *seg = in[i]; seg && !l->o->headers; seg = seg->next)
			l->seen += frame_look(rte_pktmbuf_mtod(seg, void *), seg->data_len);
	}
	rte_pktmbuf_free_bulk(in, n);
	l->got += n;
}

static void run(struct load *l, double secs)
{
	double end = perf_now() + secs;

	do {
		for (int i = 0; i < TURNS; i++) {
			if (l->o->send)
				send_burst(l);
			if (l->o->take)
				take_burst(l);
		}
	} while (perf_now() < end);
}

/* Whoever takes alone begins late and ends early, so that the other end sends all the while. */
static void measure(void *arg)
{
	struct load *l = arg;
	double settle = perf_settle(l->o->msecs), secs = l->o->msecs / 1e3, began, cpu;

	run(l, settle);
	l->sent = l->got = l->bad = 0;
	began = perf_now();
	cpu = perf_cpu();
	run(l, secs);
	secs = perf_now() - began;
	cpu = perf_cpu() - cpu;
	printf("{\"mpps\":%.3f,\"sent_mpps\":%.3f,\"bad\":%lu,\"cpu_s\":%.3f,\"secs\":%.3f,\"seen\":%u}\n", (double)l->got / secs / 1e6,
	       (double)l->sent / secs / 1e6, l->bad, cpu, secs, l->seen);
	fflush(stdout);
	run(l, settle);
}

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "vdev", "DEVICE", "the port, as DPDK names it", pv_option_text, FIELD(vdev) },
	{ "to", "DEVICE", "the port to take from, if that is another", pv_option_text, FIELD(to) },
	{ "send", NULL, "send, all the time", NULL, FIELD(send) },
	{ "take", NULL, "take what comes", NULL, FIELD(take) },
	{ "headers", NULL, "write only the headers of what is sent, look at nothing that is taken", NULL, FIELD(headers) },
	{ "len", "BYTES", "of a frame (64)", pv_option_number, FIELD(len), .min = 60, .max = FRAME_MAX },
	{ "seg", "BYTES", "of a frame in an mbuf (2048)", pv_option_number, FIELD(seg), .min = 2048, .max = 16384 },
	{ "msecs", "MS", "how long to measure (1000)", pv_option_number, FIELD(msecs), .min = 1, .max = 1000000 },
	{ "cpus", "A", "run on this CPU", pv_option_cpus, FIELD(cpus) },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "pmd",
	.usage = "--vdev DEVICE [--send] [--take] [OPTION...]",
	.about = "Packets through a DPDK port: millions a second that were taken, as JSON.",
	.options = table,
};

int main(int argc, char **argv)
{
	static const uint8_t dst[6] = { 0x02, 0, 0, 0, 0xbe, 0xef }, src[6] = { 0x02, 0, 0, 0, 0xbe, 0xee };
	struct options o = { .len = 64, .seg = 2048, .msecs = 1000 };
	static struct load l;
	int ret = pv_options_parse(&program, argc, argv, &o);

	if (ret >= 0)
		return ret;
	if (!o.vdev || !(o.send || o.take))
		return pv_options_wrong(&program, "--vdev is needed, and --send or --take");
	start_eal(&o);
	l.o = &o;
	l.first = FRAME_BURST;
	l.segs = (o.len + o.seg - 1) / o.seg;
	l.pool = rte_pktmbuf_pool_create("frames", o.seg > 4096 ? MBUFS / 4 : MBUFS, CACHE, 0, (uint16_t)(o.seg + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY);
	if (!l.pool)
		perf_die("no memory for packets: more hugepages are needed");
	frame_make(l.frame, o.len, dst, src);
	l.in = o.to ? 1 : 0;
	start_port(&l, 0);
	if (o.to)
		start_port(&l, 1);
	perf_serve(o.once, measure, NULL, -1, &l);
	rte_eal_cleanup();
	return 0;
}
