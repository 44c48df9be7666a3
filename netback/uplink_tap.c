/* uplink_tap.c - an uplink that is a TAP interface, by the kernel's own calls.
 *
 * Each packet has a header that says what is left undone (struct virtio_net_hdr): a blank checksum, or a large TCP packet that is still
 * to be cut. So what guests and this machine say to each other is neither summed up nor cut on the way, and 64 KiB pass by one call. */
#include "netback.h"
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- open ---- */

/* *name may have a %d, for the kernel to number. */
static int queue_open(char name[IFNAMSIZ], unsigned flags)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags) };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr) == 0 && ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) == 0) {
		memcpy(name, ifr.ifr_name, IFNAMSIZ);
		return fd;
	}
	ret = -errno;
	close(fd);
	return ret;
}

int tap_queues_open(char name[NB_BRIDGE_NAME], unsigned queues, int *fds)
{
	int ret = 0;

	for (unsigned i = 0; i < queues && ret >= 0; i++)
		ret = fds[i] = queue_open(name, queues > 1 ? IFF_MULTI_QUEUE : 0);
	return ret < 0 ? ret : 0;
}

static int interface_call(const char *name, unsigned long call, struct ifreq *ifr)
{
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret;

	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", name);
	ret = s < 0 || ioctl(s, call, ifr) < 0 ? -errno : 0;
	if (s >= 0)
		close(s);
	return ret;
}

/* Up it, if we may, with that MTU, if one is asked for. */
static int bring_up(const char *name, uint32_t mtu)
{
	struct ifreq ifr = { .ifr_mtu = (int)mtu };
	int ret = mtu ? interface_call(name, SIOCSIFMTU, &ifr) : 0;

	if (!ret)
		ret = interface_call(name, SIOCGIFFLAGS, &ifr);
	if (!ret && !(ifr.ifr_flags & IFF_UP)) {
		ifr.ifr_flags |= IFF_UP;
		ret = interface_call(name, SIOCSIFFLAGS, &ifr);
	}
	return ret;
}

static uint32_t tap_mtu(const struct uplink *up)
{
	struct ifreq ifr;

	return interface_call(up->interface, SIOCGIFMTU, &ifr) ? up->mtu : (uint32_t)ifr.ifr_mtu;
}

static bool tap_carrier(const struct uplink *up)
{
	struct ifreq ifr;

	return !interface_call(up->interface, SIOCGIFFLAGS, &ifr) && (ifr.ifr_flags & IFF_RUNNING);
}

static void tap_close(struct uplink *up)
{
	for (unsigned i = 0; i < NB_WORKERS_MAX; i++)
		if (up->tap_fd[i] >= 0)
			close(up->tap_fd[i]);
}

static void opened(struct netback *nb, struct uplink *up)
{
	up->queues = nb->opt.workers;
	up->offloads = true;
}

static int tap_open(struct netback *nb, struct uplink *up, const char *device, char *why, size_t len)
{
	const char *name = strchr(device, ':') + 1;
	int ret;

	if (!*name || strlen(name) >= IFNAMSIZ || strchr(name, '/'))
		return pv_why(why, len, -EINVAL, "uplink '%s': give tap:NAME, a name of 1 to %d characters", device, IFNAMSIZ - 1);
	snprintf(up->interface, sizeof(up->interface), "%s", name);
	memset(up->tap_fd, 0xff, sizeof(up->tap_fd));
	ret = tap_queues_open(up->interface, nb->opt.workers, up->tap_fd);
	if (ret >= 0)
		ret = bring_up(up->interface, up->mtu);
	if (ret < 0) {
		tap_close(up);
		return pv_why(why, len, ret, "uplink '%s': %s%s", device, strerror(-ret),
			      ret == -ENOENT ? ": there is no /dev/net/tun; modprobe tun" :
			      ret == -EPERM ? ": run it as root, or give it a TAP that is its user's" :
			      ret == -EBUSY ? ": another program has it" :
			      ret == -EINVAL ? ": it is no TAP, or was made with another number of queues than --workers" : "");
	}
	opened(nb, up);
	return 0;
}

/* linux:NAME, a TAP in that Linux bridge: another process makes it (plug.c). */
static int linux_open(struct netback *nb, struct uplink *up, const char *device, char *why, size_t len)
{
	int ret;

	memset(up->tap_fd, 0xff, sizeof(up->tap_fd));
	ret = plug_tap(nb->plug_fd, strchr(device, ':') + 1, nb->opt.workers, up->interface, up->tap_fd, why, len);
	if (ret == 0)
		opened(nb, up);
	return ret;
}

static int tap_intr_fd(const struct uplink *up, unsigned queue)
{
	return up->tap_fd[queue];
}

/* ---- receive ---- */

/* Segments for the largest packet are always at hand; those that the last one did not take serve again. */
static bool fill(struct nb_worker *w, struct uplink_queue *q)
{
	for (unsigned i = 0; i < NB_SEGS_MAX; i++) {
		if (q->tap_seg[i])
			continue;
		q->tap_seg[i] = pool_page(&w->spare);
		if (!q->tap_seg[i]) {
			turn_no_memory(w);
			return false;
		}
	}
	return true;
}

/* The next packet: its bytes with the header's, or what readv says. */
static ssize_t read_packet(const struct nb_worker *w, struct uplink_queue *q, struct virtio_net_hdr *h)
{
	struct iovec iov[1 + NB_SEGS_MAX] = { { h, sizeof(*h) } };

	for (unsigned i = 0; i < NB_SEGS_MAX; i++)
		iov[1 + i] = (struct iovec){ rte_pktmbuf_mtod(q->tap_seg[i], void *), PV_PAGE_SIZE };
	return readv(q->bridge->uplink.tap_fd[w->index], iov, 1 + NB_SEGS_MAX);
}

static struct rte_mbuf *take_segments(struct uplink_queue *q, uint32_t len)
{
	struct rte_mbuf *m = q->tap_seg[0], *last = m;

	m->pkt_len = len;
	m->data_len = (uint16_t)RTE_MIN(len, (uint32_t)PV_PAGE_SIZE);
	len -= m->data_len;
	q->tap_seg[0] = NULL;
	for (unsigned i = 1; len; i++) {
		struct rte_mbuf *seg = q->tap_seg[i];

		q->tap_seg[i] = NULL;
		seg->data_len = (uint16_t)RTE_MIN(len, (uint32_t)PV_PAGE_SIZE);
		len -= seg->data_len;
		last->next = seg;
		last = seg;
		m->nb_segs++;
	}
	return m;
}

/* A checksum that is no TCP's or UDP's that we know: as the header says, over all from one place on, into another. */
static void complete(struct rte_mbuf *m, const struct virtio_net_hdr *h)
{
	uint32_t at = (uint32_t)h->csum_start + h->csum_offset;
	uint16_t sum;

	if (at + 2 > m->data_len)
		return;
	sum = (uint16_t)~csum_raw(m, h->csum_start, m->pkt_len - h->csum_start);
	memcpy(rte_pktmbuf_mtod_offset(m, void *, at), &sum, sizeof(sum));
}

static void set_flags(struct rte_mbuf *m, const struct virtio_net_hdr *h)
{
	unsigned gso = h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;

	if (h->flags & VIRTIO_NET_HDR_F_DATA_VALID)
		m->ol_flags |= NB_VALID;
	if (!(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return;
	if (csum_headers(m) == NB_L4_OTHER || h->csum_start != m->l2_len + m->l3_len) {
		complete(m, h);
		return;
	}
	m->ol_flags |= NB_BLANK | NB_VALID;
	if (gso == VIRTIO_NET_HDR_GSO_NONE)
		return;
	m->ol_flags |= NB_GSO | (gso == VIRTIO_NET_HDR_GSO_TCPV6 ? NB_GSO_V6 : 0);
	m->tso_segsz = h->gso_size;
}

static unsigned tap_receive(struct nb_worker *w, struct uplink_queue *q, struct rte_mbuf **in, unsigned max)
{
	struct virtio_net_hdr h;
	unsigned n = 0;

	while (n < max && fill(w, q)) {
		ssize_t len = read_packet(w, q, &h) - (ssize_t)sizeof(h);

		if (len <= 0)
			break;
		in[n] = take_segments(q, (uint32_t)len);
		set_flags(in[n++], &h);
	}
	return n;
}

static void tap_end(struct uplink_queue *q)
{
	for (unsigned i = 0; i < NB_SEGS_MAX; i++)
		rte_pktmbuf_free(q->tap_seg[i]);
}

/* ---- send ---- */

/* What is left undone; uplink_send filled the pseudo header's sum in. */
static void header_of(const struct rte_mbuf *m, struct virtio_net_hdr *h)
{
	*h = (struct virtio_net_hdr){ .flags = m->ol_flags & NB_VALID ? VIRTIO_NET_HDR_F_DATA_VALID : 0 };
	if (m->ol_flags & NB_BLANK) {
		h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		h->csum_start = (uint16_t)(m->l2_len + m->l3_len);
		h->csum_offset = m->l4_len == sizeof(struct rte_udp_hdr) ? offsetof(struct rte_udp_hdr, dgram_cksum) :
									   offsetof(struct rte_tcp_hdr, cksum);
	}
	if (m->ol_flags & NB_GSO) {
		h->gso_type = m->ol_flags & NB_GSO_V6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
		h->gso_size = m->tso_segsz;
		h->hdr_len = (uint16_t)(h->csum_start + m->l4_len);
	}
}

static bool write_packet(int fd, struct rte_mbuf *m)
{
	struct virtio_net_hdr h;
	struct iovec iov[1 + NB_SEGS_MAX] = { { &h, sizeof(h) } };
	int n = 1;

	if (m->nb_segs > NB_SEGS_MAX)
		return false;
	header_of(m, &h);
	for (struct rte_mbuf *seg = m; seg; seg = seg->next)
		iov[n++] = (struct iovec){ rte_pktmbuf_mtod(seg, void *), seg->data_len };
	return writev(fd, iov, n) >= 0;
}

static unsigned tap_send(struct nb_worker *w, struct uplink_queue *q, struct rte_mbuf **out, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (unlikely(!write_packet(q->bridge->uplink.tap_fd[w->index], out[i]))) { /* it alone is refused, and will be: our caller counts all */
			q->tx_dropped++;
			q->tx_packets--;
			q->tx_bytes -= out[i]->pkt_len;
		}
	pool_put(&w->spare, out, n);
	return n;
}

const struct uplink_ops uplink_tap = {
	.open = tap_open, .close = tap_close, .mtu = tap_mtu, .carrier = tap_carrier,
	.intr_fd = tap_intr_fd, .receive = tap_receive, .send = tap_send, .end = tap_end,
};

const struct uplink_ops uplink_linux = {
	.open = linux_open, .close = tap_close, .mtu = tap_mtu, .carrier = tap_carrier,
	.intr_fd = tap_intr_fd, .receive = tap_receive, .send = tap_send, .end = tap_end,
};
