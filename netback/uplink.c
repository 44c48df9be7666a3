/* uplink.c - the one port out of the machine: any DPDK device that can be named by a string.
 *
 * With several workers each has its own pair of queues where the port has so many; otherwise worker 0 moves all, and the others
 * hand it their packets. What leaves is complete: checksums filled in, large TCP packets cut. */
#include "netback.h"
#include <rte_bus.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <sys/stat.h>

enum { UPLINK_DESCRIPTORS = 512 };

/* "net_tap0,iface=x" -> "net_tap0" and "iface=x". net_null is where packets end: by itself it would invent endless ones too. */
static int split(const char *device, char *name, size_t name_len, char *args, size_t args_len)
{
	size_t n = strcspn(device, ",");

	if (!n || n >= name_len || strncmp(device, "net_", 4))
		return -EINVAL;
	memcpy(name, device, n);
	name[n] = 0;
	snprintf(args, args_len, "%s%s", device[n] ? device + n + 1 : "",
		 !strncmp(name, "net_null", 8) && !strstr(device, "no-rx=") ? device[n] ? ",no-rx=1" : "no-rx=1" : "");
	return 0;
}

static int setup_queues(struct netback *nb, uint16_t port, unsigned queues)
{
	uint16_t rx = UPLINK_DESCRIPTORS, tx = UPLINK_DESCRIPTORS;
	int ret = rte_eth_dev_adjust_nb_rx_tx_desc(port, &rx, &tx);

	for (uint16_t i = 0; i < queues && !ret; i++) {
		ret = rte_eth_rx_queue_setup(port, i, rx, SOCKET_ID_ANY, NULL, nb->pool);
		if (!ret)
			ret = rte_eth_tx_queue_setup(port, i, tx, SOCKET_ID_ANY, NULL);
	}
	return ret;
}

static int start(struct netback *nb, uint16_t port)
{
	struct rte_eth_conf conf = { .intr_conf.rxq = 1 };
	struct rte_eth_dev_info info;
	unsigned queues = nb->opt.workers; /* they start once the port is there */
	int ret = rte_eth_dev_info_get(port, &info);

	if (ret)
		return ret;
	if (RTE_MIN(info.max_rx_queues, info.max_tx_queues) < queues)
		queues = 1;
	conf.rxmode.offloads = info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER;
	conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	if (queues > 1 && info.flow_type_rss_offloads) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = info.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
	}
	ret = rte_eth_dev_configure(port, (uint16_t)queues, (uint16_t)queues, &conf);
	if (ret) { /* it has no interrupts, and says so */
		conf.intr_conf.rxq = 0;
		ret = rte_eth_dev_configure(port, (uint16_t)queues, (uint16_t)queues, &conf);
	}
	if (!ret)
		ret = setup_queues(nb, port, queues);
	if (!ret)
		ret = rte_eth_dev_start(port);
	if (!ret)
		nb->uplink.queues = queues;
	return ret;
}

int uplink_open(struct netback *nb, const char *device, char *why, size_t len)
{
	char name[64], args[256];
	uint16_t mtu = 1500;
	int ret;

	if (split(device, name, sizeof(name), args, sizeof(args)) < 0)
		return pv_why(why, len, -EINVAL,
			      "uplink '%s': give a DPDK device such as net_tap0,iface=NAME or net_af_packet0,iface=NAME", device);
	ret = rte_eal_hotplug_add("vdev", name, args);
	if (!ret)
		ret = rte_eth_dev_get_port_by_name(name, &nb->uplink.port_id);
	if (!ret)
		ret = start(nb, nb->uplink.port_id);
	if (ret)
		return pv_why(why, len, ret, "uplink '%s': %s; see its arguments in DPDK's guide, or --log debug", device,
			      eal_error());
	rte_eth_promiscuous_enable(nb->uplink.port_id); /* a switch takes what is not its own; drivers that cannot need not */
	rte_eth_dev_get_mtu(nb->uplink.port_id, &mtu);
	nb->uplink.frame_max = mtu + NB_L2_ROOM;
	return 0;
}

void uplink_close(struct netback *nb)
{
	struct rte_eth_dev_info info;

	if (!nb->uplink.queues)
		return;
	nb->uplink.queues = 0;
	rte_eth_dev_stop(nb->uplink.port_id);
	if (!rte_eth_dev_info_get(nb->uplink.port_id, &info))
		rte_dev_remove(info.device); /* closes the port */
}

/* Level-triggered descriptors only (a TAP): others, such as vhost's eventfds, come and go with the peer. */
static int interrupt_fd(const struct netback *nb, uint16_t queue)
{
	int fd = rte_eth_dev_rx_intr_ctl_q_get_fd(nb->uplink.port_id, queue);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) ? fd : -1;
}

void uplink_worker_init(struct nb_worker *w)
{
	w->up.queue = (uint16_t)w->index;
	w->up.ours = w->index < w->nb->uplink.queues;
	w->up.intr_fd = w->up.ours ? interrupt_fd(w->nb, w->up.queue) : -1;
}

void uplink_poll(struct nb_worker *w)
{
	struct rte_mbuf *in[NB_BURST];
	uint16_t n;

	if (!w->up.ours)
		return;
	n = rte_eth_rx_burst(w->nb->uplink.port_id, w->up.queue, in, NB_BURST);
	if (n)
		w->up.last = w->tsc;
	for (uint16_t i = 0; i < n; i++) {
		struct rte_mbuf *m = in[i];

		m->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL; /* nothing that the driver says has been asked for */
		w->up.rx_packets++;
		w->up.rx_bytes += m->pkt_len;
		if (unlikely(m->data_len < PV_NET_LEN_MIN || m->pkt_len > UINT16_MAX || m->nb_segs > NB_SEGS_MAX)) {
			w->up.rx_bad++;
			rte_pktmbuf_free(m);
			continue;
		}
		forward(w, NULL, m);
	}
}

bool uplink_idle(const struct nb_worker *w)
{
	return !w->up.ours || !w->up.last || w->tsc - w->up.last >= w->nb->poll_tsc;
}

void uplink_put(struct nb_worker *w, struct rte_mbuf *m)
{
	w->up.out[w->up.n++] = m;
	if (w->up.n == NB_BURST)
		uplink_flush(w);
}

void uplink_flush(struct nb_worker *w)
{
	uint64_t bytes = 0;
	uint16_t sent;

	if (!w->up.n)
		return;
	for (unsigned i = 0; i < w->up.n; i++)
		bytes += w->up.out[i]->pkt_len;
	sent = rte_eth_tx_burst(w->nb->uplink.port_id, w->up.queue, w->up.out, (uint16_t)w->up.n);
	for (unsigned i = sent; i < w->up.n; i++)
		bytes -= w->up.out[i]->pkt_len;
	rte_pktmbuf_free_bulk(w->up.out + sent, w->up.n - sent);
	w->up.tx_packets += sent;
	w->up.tx_bytes += bytes;
	w->up.tx_dropped += w->up.n - sent;
	w->up.n = 0;
}

/* A finished packet, by whoever moves the uplink's packets. */
static void hand_over(struct nb_worker *w, struct rte_mbuf *m)
{
	if (likely(w->up.ours))
		uplink_put(w, m);
	else
		post_send(w, w->nb->workers[0], &(struct post){ .m = m, .port = SWITCH_UPLINK });
}

static void cut_and_send(struct nb_worker *w, struct rte_mbuf *m)
{
	struct rte_mbuf *piece[GSO_PIECES_MAX];
	int n = gso_cut(w->nb->pool, m, piece);

	rte_pktmbuf_free(m);
	if (n < 0)
		turn_no_memory(w);
	for (int i = 0; i < n; i++)
		hand_over(w, piece[i]);
}

void uplink_send(struct nb_worker *w, struct rte_mbuf *m)
{
	uint64_t flags = m->ol_flags;
	uint32_t len = flags & NB_GSO ? m->l2_len + m->l3_len + m->l4_len + (uint32_t)m->tso_segsz : m->pkt_len;

	if (unlikely(!w->nb->uplink.queues || len > w->nb->uplink.frame_max)) {
		w->up.tx_too_big += w->nb->uplink.queues != 0;
		rte_pktmbuf_free(m);
		return;
	}
	if (flags & NB_GSO) {
		cut_and_send(w, m);
		return;
	}
	if (flags & NB_BLANK)
		csum_complete(m); /* it can: forward() looked */
	m->ol_flags &= ~NB_FLAGS;
	hand_over(w, m);
}
