/* packet_port.c - a network device of Linux, a virtual function for instance, as a path of packets. */
#include "packet_port.h"
#include "offload.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	BUFFER = 4 << 20, /* bytes of the socket, in each direction */
	PACKET_BYTES = 512, /* at least, that the kernel counts for a packet in its buffer */
	TAG = 4, /* bytes of a VLAN's tag */
	/* What we pass on as it is; who receives it knows all of it. */
	FEATURES = PV_VIF_SG | PV_VIF_CSUM_IPV4 | PV_VIF_CSUM_IPV6 | PV_VIF_GSO_TCPV4 | PV_VIF_GSO_TCPV6,
};

/* Owner: the caller of packet_port_open. */
struct packet_port {
	int fd;
	unsigned index; /* of the device: another one may have its name later */
	char name[IFNAMSIZ];
	uint64_t dropped;
};

static int __attribute__((format(printf, 4, 5))) say(char *why, size_t len, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, len, fmt, ap);
	va_end(ap);
	return err;
}

/* ---- the device ---- */

static int device(const struct packet_port *p, unsigned long request, struct ifreq *r)
{
	snprintf(r->ifr_name, sizeof(r->ifr_name), "%s", p->name);
	return ioctl(p->fd, request, r) < 0 ? -errno : 0;
}

/* What the kernel would say by itself on it is not to be in the packets' way. Without IPv6 there is no such file. */
static void leave_alone(const struct packet_port *p)
{
	char path[80];
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", p->name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "1", 1) != 1)
		errno = 0; /* then it says something, which does no harm */
	close(fd);
}

static int bring_up(const struct packet_port *p)
{
	struct ifreq r = { 0 };
	int rc = device(p, SIOCGIFFLAGS, &r);

	if (rc < 0 || r.ifr_flags & IFF_UP)
		return rc;
	leave_alone(p);
	r.ifr_flags |= IFF_UP;
	return device(p, SIOCSIFFLAGS, &r);
}

static int check_address(const struct packet_port *p, const uint8_t mac[6], char *why, size_t len)
{
	struct ifreq r = { 0 };
	int rc = device(p, SIOCGIFHWADDR, &r);

	if (rc < 0 || memcmp(r.ifr_hwaddr.sa_data, mac, 6) == 0)
		return rc;
	return say(why, len, -EADDRNOTAVAIL, "%s has not the vif's address; in domain 0 the VF is to be given it, here: ip link set dev %s address "
		   "%02x:%02x:%02x:%02x:%02x:%02x", p->name, p->name, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

bool packet_port_works(const struct packet_port *p)
{
	struct ifreq r = { 0 };

	return if_nametoindex(p->name) == p->index && device(p, SIOCGIFFLAGS, &r) == 0 && (r.ifr_flags & IFF_UP) && (r.ifr_flags & IFF_RUNNING);
}

/* ---- the socket ---- */

static void set(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value)); /* what an older kernel or the lack of a right refuses, goes less well */
}

static int set_up_socket(const struct packet_port *p)
{
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)p->index };
	struct packet_mreq groups = { .mr_ifindex = (int)p->index, .mr_type = PACKET_MR_ALLMULTI };
	int on = 1;

	if (setsockopt(p->fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
	    setsockopt(p->fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)) < 0 ||
	    setsockopt(p->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &groups, sizeof(groups)) < 0)
		return -errno;
	set(p->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
	set(p->fd, SOL_SOCKET, SO_RCVBUFFORCE, BUFFER);
	set(p->fd, SOL_SOCKET, SO_SNDBUFFORCE, BUFFER);
	return bind(p->fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
}

static int take(struct packet_port *p, const uint8_t mac[6], char *why, size_t len)
{
	int rc;

	p->index = if_nametoindex(p->name);
	if (!p->index)
		return say(why, len, -ENODEV, "there is no network device %s", p->name);
	p->fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); /* receives when it is bound */
	if (p->fd < 0)
		return say(why, len, -errno, "%s: no packet socket: %s%s", p->name, strerror(errno), errno == EPERM ? "; it needs CAP_NET_RAW" : "");
	*why = '\0';
	rc = check_address(p, mac, why, len);
	if (rc == 0)
		rc = bring_up(p);
	if (rc == 0 && !packet_port_works(p))
		return say(why, len, -ENETDOWN, "%s is down or has no carrier", p->name);
	if (rc == 0)
		rc = set_up_socket(p);
	return rc < 0 && !*why ? say(why, len, rc, "%s: %s", p->name, strerror(-rc)) : rc;
}

int packet_port_open(const char *name, const uint8_t mac[6], struct packet_port **out, char *why, size_t len)
{
	struct packet_port *p = calloc(1, sizeof(*p));
	int rc;

	*out = NULL;
	if (!p)
		return say(why, len, -ENOMEM, "out of memory");
	p->fd = -1;
	snprintf(p->name, sizeof(p->name), "%s", name);
	rc = take(p, mac, why, len);
	if (rc < 0)
		packet_port_close(p);
	else
		*out = p;
	return rc;
}

void packet_port_close(struct packet_port *p)
{
	if (!p)
		return;
	if (p->fd >= 0)
		close(p->fd);
	free(p);
}

int packet_port_fd(const struct packet_port *p)
{
	return p->fd;
}

/* ---- packets ---- */

/* Returns 1: taken, or lost; 0: no room now; -EINVAL: it cannot be sent; -errno: the device is gone. */
static int send_one(struct packet_port *p, const struct pv_netfront_packet *packet)
{
	struct virtio_net_hdr h = offload_to_header(packet->data, packet);
	struct iovec iov[2] = { { &h, sizeof(h) }, { packet->data, packet->len } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };

	if (sendmsg(p->fd, &m, 0) >= 0)
		return 1;
	switch (errno) {
	case EAGAIN:
	case EINTR:
		return 0;
	case ENOBUFS: /* its queue is full, and has dropped it, as any interface does */
		p->dropped++;
		return 1;
	case EMSGSIZE:
	case EINVAL:
		return -EINVAL;
	default:
		return -errno;
	}
}

static int port_send(void *ctx, unsigned queue, const struct pv_netfront_packet *packet, unsigned n)
{
	int rc = 1;
	unsigned i;

	(void)queue;
	for (i = 0; i < n && rc > 0; i++)
		rc = send_one(ctx, &packet[i]);
	return rc > 0 ? (int)n : i > 1 ? (int)i - 1 : rc;
}

/* The kernel takes a tag out of the frame and tells it beside. Returns whether there was room to put it back. */
static bool put_tag_back(struct msghdr *m, uint8_t *frame, uint32_t *len, uint32_t room)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct tpacket_auxdata a;
		uint16_t tag[2];

		if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA)
			continue;
		memcpy(&a, CMSG_DATA(c), sizeof(a));
		if (!(a.tp_status & TP_STATUS_VLAN_VALID))
			continue;
		if (*len < 12 || *len + TAG > room)
			return false;
		tag[0] = htons(a.tp_status & TP_STATUS_VLAN_TPID_VALID ? a.tp_vlan_tpid : ETH_P_8021Q);
		tag[1] = htons(a.tp_vlan_tci);
		memmove(frame + 12 + TAG, frame + 12, *len - 12);
		memcpy(frame + 12, tag, TAG);
		*len += TAG;
	}
	return true;
}

/* Returns 1; 0: nothing waits; -EBADMSG: one that had to be dropped; -errno: the device is gone. */
static int recv_one(struct packet_port *p, struct pv_netfront_packet *packet)
{
	struct virtio_net_hdr h;
	struct iovec iov[2] = { { &h, sizeof(h) }, { packet->data, packet->len } };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	} aux;
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = &aux, .msg_controllen = sizeof(aux) };
	ssize_t n = recvmsg(p->fd, &m, 0);
	uint32_t len = (uint32_t)(n - (ssize_t)sizeof(h));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n >= (ssize_t)sizeof(h) && !(m.msg_flags & MSG_TRUNC) && put_tag_back(&m, packet->data, &len, packet->len) &&
	    offload_to_packet(packet->data, len, &h, FEATURES, packet))
		return 1;
	p->dropped++;
	return -EBADMSG;
}

static int port_recv(void *ctx, unsigned queue, struct pv_netfront_packet *packet, unsigned n)
{
	unsigned got = 0, dropped = 0;
	int rc;

	while (queue == 0 && got < n) {
		rc = recv_one(ctx, &packet[got]);
		if (rc == -EBADMSG && dropped++ < n)
			continue;
		if (rc <= 0)
			return got ? (int)got : rc == -EBADMSG ? -EAGAIN : rc;
		got++;
	}
	return (int)got;
}

static unsigned port_unsent(void *ctx)
{
	struct packet_port *p = ctx;
	int bytes = 0;

	if (ioctl(p->fd, SIOCOUTQ, &bytes) < 0 || bytes <= 0)
		return 0;
	return 1 + (unsigned)bytes / PACKET_BYTES;
}

struct pv_netpair_path packet_port_path(struct packet_port *p)
{
	return (struct pv_netpair_path){ .send = port_send, .recv = port_recv, .unsent = port_unsent, .ctx = p };
}

uint64_t packet_port_dropped(struct packet_port *p)
{
	struct tpacket_stats s = { 0 };
	socklen_t len = sizeof(s);

	getsockopt(p->fd, SOL_PACKET, PACKET_STATISTICS, &s, &len); /* since it was asked last */
	p->dropped += s.tp_drops;
	return p->dropped;
}

/* ---- coming and going ---- */

int packet_port_watch(void)
{
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	close(fd);
	return -EACCES;
}

void packet_port_watched(int fd)
{
	char told[8192];

	while (recv(fd, told, sizeof(told), 0) > 0)
		; /* that something changed is enough: what, the device itself says */
}
