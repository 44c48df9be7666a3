/* uplink_dpdk.c - an uplink that is a DPDK device, named as DPDK does. What it is given is complete: checksums filled in, large packets
 * cut. With several workers each has its own pair of queues where the device has so many. */
#include "netback.h"
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_pci.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

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

/* Does the device make a socket and wait there for others? Then its path. */
static bool makes_socket(const char *name, const char *args, struct sockaddr_un *at)
{
	static const struct {
		const char *driver, *path, *server, *client; /* an argument that makes it so, or makes it not so */
	} known[] = {
		{ "net_memif", "socket=", "role=server", NULL }, { "net_vhost", "iface=", NULL, "client=1" }, { "net_virtio_user", "path=", "server=1", NULL },
	};

	for (size_t i = 0; i < RTE_DIM(known); i++) {
		const char *path = strstr(args, known[i].path);

		if (strncmp(name, known[i].driver, strlen(known[i].driver)) || !path)
			continue;
		path += strlen(known[i].path);
		*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
		snprintf(at->sun_path, sizeof(at->sun_path), "%.*s", (int)strcspn(path, ","), path);
		return known[i].server ? strstr(args, known[i].server) != NULL : !strstr(args, known[i].client);
	}
	return false;
}

/* A process that was killed leaves its socket, and where one is the drivers make none. */
static void remove_dead_socket(const char *name, const char *args)
{
	struct sockaddr_un at;
	int s;

	if (!makes_socket(name, args, &at))
		return;
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s < 0)
		return;
	if (connect(s, (const struct sockaddr *)&at, sizeof(at)) < 0 && errno == ECONNREFUSED) /* it is a socket, and nobody's */
		unlink(at.sun_path);
	close(s);
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

static int start(struct netback *nb, struct uplink *up, uint16_t port)
{
	struct rte_eth_conf conf = { .intr_conf.rxq = 1, .rxmode.mtu = up->mtu };
	struct rte_eth_dev_info info;
	unsigned queues = nb->opt.workers; /* they start once the port is there */
	int ret = rte_eth_dev_info_get(port, &info);

	if (ret)
		return ret;
	if (RTE_MIN(info.max_rx_queues, info.max_tx_queues) < queues)
		queues = 1;
	conf.rxmode.offloads = info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER;
	conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	up->chains = conf.txmode.offloads;
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
		up->queues = queues;
	return ret;
}

/* DPDK has it since its start, or gets it now: then a process that ended since had it. */
static int find_pci(const char *device, uint16_t *port)
{
	size_t n = strcspn(device, ",");
	char name[PCI_PRI_STR_SIZE];
	struct rte_pci_addr a;
	int ret;

	snprintf(name, sizeof(name), "%.*s", (int)n, device);
	rte_pci_addr_parse(name, &a);
	rte_pci_device_name(&a, name, sizeof(name));
	if (rte_eth_dev_get_port_by_name(name, port) == 0)
		return 0;
	ret = rte_eal_hotplug_add("pci", name, device[n] ? device + n + 1 : "");
	return ret ? ret : rte_eth_dev_get_port_by_name(name, port);
}

static int find(const char *device, uint16_t *port, char *why, size_t len)
{
	char name[64], args[NB_DEVICE_NAME];
	int ret;

	if (uplink_pci(device, args)) {
		ret = find_pci(device, port);
		return ret < 0 ? pv_why(why, len, ret, "uplink '%s': DPDK drives no such NIC: is it bound to vfio-pci (pvio vf claim or bind, "
					"dpdk-devbind.py), and is there a driver for it (librte-net-*)? %s", device, eal_error()) : 0;
	}
	if (split(device, name, sizeof(name), args, sizeof(args)) < 0)
		return pv_why(why, len, -EINVAL, "uplink '%s': give linux:BRIDGE, tap:NAME, none, a PCI address, or a DPDK device such as "
			      "net_af_packet0,iface=NAME", device);
	remove_dead_socket(name, args);
	ret = rte_eal_hotplug_add("vdev", name, args);
	if (!ret)
		ret = rte_eth_dev_get_port_by_name(name, port);
	return ret ? pv_why(why, len, ret, "uplink '%s': %s; see its arguments in DPDK's guide, or --log debug", device, eal_error()) : 0;
}

static int dpdk_open(struct netback *nb, struct uplink *up, const char *device, char *why, size_t len)
{
	int ret = find(device, &up->port_id, why, len);

	if (ret)
		return ret;
	eal_error(); /* what did not keep it from being made */
	ret = start(nb, up, up->port_id);
	if (ret)
		return pv_why(why, len, ret, "uplink '%s' does not start: %s; see --log debug", device, eal_error());
	rte_eth_promiscuous_enable(up->port_id); /* a switch takes what is not its own; drivers that cannot need not */
	return 0;
}

static uint32_t dpdk_mtu(const struct uplink *up)
{
	uint16_t mtu = 1500;

	rte_eth_dev_get_mtu(up->port_id, &mtu);
	return mtu;
}

static bool dpdk_carrier(const struct uplink *up)
{
	struct rte_eth_link link;

	return !rte_eth_link_get_nowait(up->port_id, &link) && link.link_status;
}

static void dpdk_close(struct uplink *up)
{
	struct rte_eth_dev_info info;

	rte_eth_dev_stop(up->port_id);
	if (!rte_eth_dev_info_get(up->port_id, &info))
		rte_dev_remove(info.device); /* closes the port */
}

/* Level-triggered descriptors only (a TAP): others, such as vhost's eventfds, come and go with the peer. */
static int dpdk_intr_fd(const struct uplink *up, unsigned queue)
{
	int fd = rte_eth_dev_rx_intr_ctl_q_get_fd(up->port_id, (uint16_t)queue);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) ? fd : -1;
}

static unsigned dpdk_receive(struct nb_worker *w, struct uplink_queue *q, struct rte_mbuf **in, unsigned max)
{
	unsigned n = rte_eth_rx_burst(q->bridge->uplink.port_id, (uint16_t)w->index, in, (uint16_t)max);

	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++) {
		struct rte_mbuf *m = in[i];
		bool stripped = m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED; /* by the kernel, below af_packet */

		m->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL; /* nothing that the driver says has been asked for */
		if (unlikely(stripped))
			m = vlan_insert(w, m);
		if (unlikely(!m))
			continue;
		m->vlan_tci = 0;
		in[kept++] = m;
	}
	return kept;
}

static unsigned dpdk_send(struct nb_worker *w, struct uplink_queue *q, struct rte_mbuf **out, unsigned n)
{
	return rte_eth_tx_burst(q->bridge->uplink.port_id, (uint16_t)w->index, out, (uint16_t)n);
}

const struct uplink_ops uplink_dpdk = {
	.open = dpdk_open, .close = dpdk_close, .mtu = dpdk_mtu, .carrier = dpdk_carrier,
	.intr_fd = dpdk_intr_fd, .receive = dpdk_receive, .send = dpdk_send,
};
