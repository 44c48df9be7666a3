/* pvio-tap.c - a guest's vif as a TAP interface of a network namespace.
 *
 *	vif queue i  --recv-->  virtio_net_hdr + frame  --write-->  TAP queue i
 *	vif queue i  <--send--  virtio_net_hdr + frame  <--read---  TAP queue i
 *
 * Theory of operation. One thread, one epoll set: the vif, the TAP's queues, signals. A TAP queue is read while its vif queue
 * takes packets; what the vif has no room for waits in the queue's batch, and the TAP is not polled until there is room again.
 * Blank checksums and large TCP packets pass as they are where they were agreed; else the kernel is not offered them, and what
 * it sends all the same (it has one switch for both IPs' checksums) is completed here. The TAP lives as long as the process: a
 * backend that goes away takes only the carrier with it. Where the guest has a VF as well (--vf) the vif is a pair's (pair.h), whose other path is
 * a packet socket on the VF's network device; that may come and go.
 */
#include "offload.h"
#include "packet_port.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <pvio/hyper.h>
#include <pvio/netfront.h>
#include <pvio/options.h>
#include <pvio/pair.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
	BATCH = 32, /* packets moved at once */
	FRAME_MAX = 65536 + 64, /* the kernel's largest, with its header */
	HEADER = sizeof(struct virtio_net_hdr), /* 10 */
	HEAD_ROOM = 64, /* in front of a frame in its buffer: the header, and alignment */
	ADDRESSES_MAX = 16,
	AWAY_MS = 100, /* how often to look while the vif is not connected */
	CONNECT_MS = 5000, /* at least, for the handshake */
	CLOSE_MS = 5000,
	TURNS = 8, /* bursts of one queue in one direction before the others have their turn */
};

/* What wakes us, beside the TAP's queues, which have their numbers, and signals: UINT32_MAX. */
enum { VIF_EVENT = PV_NOXS_QUEUES_MAX, LINKS_CHANGED, VF_READABLE, WAKERS = 4 };

struct options {
	const char *hypervisor, *tap, *netns, *vf;
	int domid, wait_ms;
	unsigned vif, queues, mtu, addresses;
	const char *address[ADDRESSES_MAX];
};

/* Packets on their way from the TAP to the vif. Owner: its queue. */
struct batch {
	struct pv_netfront_packet packet[BATCH];
	unsigned from, until; /* [from, until) wait for room in the vif */
};

struct queue {
	int fd; /* TAP */
	bool polled; /* the epoll set has EPOLLIN for it */
	bool readable; /* and it said so */
	struct batch out;
	uint8_t *out_mem; /* BATCH buffers, as in tap.in_mem */
};

/* Owner: main. */
struct tap {
	const struct options *o;
	struct pv_netfront *f;
	struct pv_netpair *pair; /* of f and ... */
	struct packet_port *vf; /* NULL: it is not there */
	int links; /* tells when network devices come and go; -1: no VF is wanted */
	bool vf_asked; /* its last failure was told */
	char name[IFNAMSIZ];
	int control; /* a socket of the TAP's namespace, for its ioctls */
	int netlink; /* likewise */
	int epoll, signals;
	unsigned queues;
	struct queue queue[PV_NOXS_QUEUES_MAX];
	uint8_t *in_mem; /* from the vif to the TAP: BATCH buffers */
	bool connected; /* the vif */
	bool works; /* or the VF is there */
	bool carrier, ready;
	unsigned mtu;
	uint8_t mac[6]; /* both as the TAP has them */
	uint64_t out_dropped, in_dropped; /* packets that the vif, or the TAP, would not take */
	char why[320];
};

static int __attribute__((format(printf, 3, 4))) fail(struct tap *t, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t->why, sizeof(t->why), fmt, ap);
	va_end(ap);
	return err;
}

/* ---- options ---- */

static int parse_address(const struct pv_option *row, const char *text, void *field)
{
	struct options *o = (struct options *)((char *)field - row->field);

	if (o->addresses == ADDRESSES_MAX || !strchr(text, '/'))
		return -EINVAL;
	o->address[o->addresses++] = text;
	return 0;
}

static int parse_name(const struct pv_option *row, const char *text, void *field)
{
	return strlen(text) < IFNAMSIZ ? pv_option_text(row, text, field) : -EINVAL;
}

#define AT(member) offsetof(struct options, member)

static const struct pv_option options[] = {
	{ "domid", "N", "the guest to be (on Xen: who we are)", pv_option_domid, AT(domid) },
	{ "vif", "N", "the vif (0)", pv_option_number, AT(vif), 0, UINT32_MAX },
	{ "hypervisor", "SPEC", "xen, loopback, loopback:SOCKET; default: $PVIO_HYPERVISOR, else the host's", pv_option_text, AT(hypervisor) },
	{ "wait", "SECONDS", "wait for the vif to be announced (0)", pv_option_seconds, AT(wait_ms) },
	{ "tap", "NAME", "name of the interface (vif0, with the vif's number)", parse_name, AT(tap) },
	{ "netns", "NAME|PATH", "network namespace to make it in (ours)", pv_option_text, AT(netns) },
	{ "vf", "DEVICE", "network device of a VF with the vif's address, to be used while it is there; dom0 says when (none)", parse_name, AT(vf) },
	{ "queues", "N", "queues to use, at most (1)", pv_option_number, AT(queues), 1, PV_NOXS_QUEUES_MAX },
	{ "mtu", "N", "MTU, at most what the backend offers (that)", pv_option_number, AT(mtu), 68, 65521 },
	{ "address", "CIDR", "add this IPv4 or IPv6 address; may be repeated", parse_address, AT(address) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "pvio-tap",
	.usage = "--domid N [--vif N] [--tap NAME] [--netns NAME|PATH] [OPTION...]",
	.about = "Be the network frontend of a guest, and connect it with a TAP interface that lives as long as this process.",
	.options = options,
};

/* ---- the TAP ---- */

/* Enter a network namespace. Returns a descriptor of the one that we were in, or -errno; leave_netns goes back. */
static int enter_netns(struct tap *t)
{
	const char *name = t->o->netns;
	char path[4096];
	int ours, theirs;

	snprintf(path, sizeof(path), "%s%s", strchr(name, '/') ? "" : "/run/netns/", name);
	ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	theirs = open(path, O_RDONLY | O_CLOEXEC);
	if (ours < 0 || theirs < 0 || setns(theirs, CLONE_NEWNET) < 0) {
		int err = errno;

		if (ours >= 0)
			close(ours);
		if (theirs >= 0)
			close(theirs);
		return fail(t, -err, "network namespace %s: %s%s", name, strerror(err), err == ENOENT ? "; make it with: ip netns add NAME" : "");
	}
	close(theirs);
	return ours;
}

static int leave_netns(struct tap *t, int ours)
{
	int rc = setns(ours, CLONE_NEWNET) < 0 ? fail(t, -errno, "cannot return to our network namespace: %s", strerror(errno)) : 0;

	close(ours);
	return rc;
}

static int open_queue(struct tap *t, struct queue *q)
{
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (t->o->queues > 1 ? IFF_MULTI_QUEUE : 0) };

	q->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (q->fd < 0)
		return fail(t, -errno, "/dev/net/tun: %s%s", strerror(errno), errno == ENOENT ? "; load the tun module (modprobe tun)" : "");
	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", t->name);
	if (ioctl(q->fd, TUNSETIFF, &r) < 0)
		return fail(t, -errno, "TAP %s: %s%s", t->name, strerror(errno),
			    errno == EPERM ? "; it needs CAP_NET_ADMIN" : errno == EBUSY ? "; somebody has it already, choose another with --tap" : "");
	return 0;
}

/* In the namespace of the TAP: its queues, and sockets to speak about it. */
static int open_here(struct tap *t)
{
	int rc = 0;

	for (; rc == 0 && t->queues < t->o->queues; t->queues++)
		rc = open_queue(t, &t->queue[t->queues]);
	if (rc < 0)
		return rc;
	t->control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	t->netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	return t->control < 0 || t->netlink < 0 ? fail(t, -errno, "socket: %s", strerror(errno)) : 0;
}

static int open_tap(struct tap *t)
{
	int ours = t->o->netns ? enter_netns(t) : -1, rc, back;

	if (t->o->netns && ours < 0)
		return ours;
	rc = open_here(t);
	back = ours >= 0 ? leave_netns(t, ours) : 0;
	return rc ? rc : back;
}

static int tap_ioctl(struct tap *t, unsigned long request, struct ifreq *r, const char *what)
{
	snprintf(r->ifr_name, sizeof(r->ifr_name), "%s", t->name);
	return ioctl(t->control, request, r) < 0 ? fail(t, -errno, "TAP %s: %s: %s", t->name, what, strerror(errno)) : 0;
}

static int set_mtu(struct tap *t)
{
	unsigned offered = pv_netfront_offer(t->f)->mtu, mtu = t->o->mtu && t->o->mtu < offered ? t->o->mtu : offered;
	struct ifreq r = { 0 };

	if (mtu > ETH_MAX_MTU - 14)
		mtu = ETH_MAX_MTU - 14;
	if (mtu == t->mtu)
		return 0;
	t->mtu = mtu;
	r.ifr_mtu = (int)mtu;
	return tap_ioctl(t, SIOCSIFMTU, &r, "cannot set its MTU");
}

static int set_mac(struct tap *t)
{
	struct ifreq r = { .ifr_hwaddr.sa_family = ARPHRD_ETHER };
	const uint8_t *mac = pv_netfront_offer(t->f)->mac;

	if (memcmp(mac, t->mac, 6) == 0)
		return 0;
	memcpy(t->mac, mac, 6);
	memcpy(r.ifr_hwaddr.sa_data, mac, 6);
	return tap_ioctl(t, SIOCSIFHWADDR, &r, "cannot set its MAC address");
}

static int set_up(struct tap *t)
{
	struct ifreq r = { 0 };
	int rc = tap_ioctl(t, SIOCGIFFLAGS, &r, "cannot read its flags");

	r.ifr_flags |= IFF_UP;
	return rc ? rc : tap_ioctl(t, SIOCSIFFLAGS, &r, "cannot bring it up");
}

/* What the kernel may leave to us: what was agreed with the backend. */
static int set_offload(struct tap *t)
{
	uint32_t agreed = pv_netfront_features(t->f);
	unsigned flags = 0;

	if (agreed & (PV_VIF_CSUM_IPV4 | PV_VIF_CSUM_IPV6))
		flags = TUN_F_CSUM;
	if (flags && (agreed & PV_VIF_GSO_TCPV4) && (agreed & PV_VIF_CSUM_IPV4))
		flags |= TUN_F_TSO4;
	if (flags && (agreed & PV_VIF_GSO_TCPV6) && (agreed & PV_VIF_CSUM_IPV6))
		flags |= TUN_F_TSO6;
	for (unsigned i = 0; i < t->queues; i++)
		if (ioctl(t->queue[i].fd, TUNSETOFFLOAD, flags) < 0)
			return fail(t, -errno, "TAP %s: cannot set its offloads: %s", t->name, strerror(errno));
	return 0;
}

static void set_carrier(struct tap *t, bool on)
{
	int value = on;

	if (t->carrier != on)
		ioctl(t->queue[0].fd, TUNSETCARRIER, &value); /* older kernels cannot, and their TAP is just silent */
	t->carrier = on;
}

/* One RTM_NEWADDR and its answer. */
static int add_address(struct tap *t, const char *cidr)
{
	struct {
		struct nlmsghdr h;
		struct ifaddrmsg a;
		uint8_t attr[2 * (sizeof(struct rtattr) + 16)];
	} m = { .h = { .nlmsg_type = RTM_NEWADDR, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL } };
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
	} answer;
	struct ifreq r = { 0 };
	struct in6_addr ip;
	char text[INET6_ADDRSTRLEN];
	const char *slash = strchr(cidr, '/');
	bool v6 = strchr(cidr, ':') != NULL;
	unsigned size = v6 ? 16 : 4;
	char *end;
	unsigned long bits = strtoul(slash + 1, &end, 10);
	uint8_t *at = m.attr;

	snprintf(text, sizeof(text), "%.*s", (int)(slash - cidr), cidr);
	if (inet_pton(v6 ? AF_INET6 : AF_INET, text, &ip) != 1 || bits > size * 8 || *end || !slash[1])
		return fail(t, -EINVAL, "--address: '%s' is not ADDRESS/BITS", cidr);
	if (tap_ioctl(t, SIOCGIFINDEX, &r, "cannot find it"))
		return -ENODEV;
	m.a = (struct ifaddrmsg){
		.ifa_family = v6 ? AF_INET6 : AF_INET, .ifa_prefixlen = (uint8_t)bits, .ifa_flags = v6 ? IFA_F_NODAD : 0,
		.ifa_index = (unsigned)r.ifr_ifindex,
	};
	for (unsigned type = IFA_ADDRESS; type <= IFA_LOCAL; type++) {
		struct rtattr *attr = (struct rtattr *)at;

		attr->rta_type = (unsigned short)type;
		attr->rta_len = (unsigned short)RTA_LENGTH(size);
		memcpy(RTA_DATA(attr), &ip, size);
		at += RTA_LENGTH(size);
	}
	m.h.nlmsg_len = (uint32_t)(at - (uint8_t *)&m);
	if (send(t->netlink, &m, m.h.nlmsg_len, 0) < 0 || recv(t->netlink, &answer, sizeof(answer), 0) < (ssize_t)sizeof(answer))
		return fail(t, -errno, "TAP %s: cannot add %s: %s", t->name, cidr, strerror(errno));
	if (answer.h.nlmsg_type == NLMSG_ERROR && answer.e.error)
		return fail(t, answer.e.error, "TAP %s: cannot add %s: %s", t->name, cidr, strerror(-answer.e.error));
	return 0;
}

/* ---- TAP -> vif ---- */

/* Fill the batch from the TAP. Returns false if the TAP had no more. */
static bool read_tap(struct tap *t, struct queue *q)
{
	struct batch *b = &q->out;

	b->from = b->until = 0;
	while (b->until < BATCH) {
		uint8_t *frame = q->out_mem + (size_t)b->until * (HEAD_ROOM + FRAME_MAX) + HEAD_ROOM;
		struct virtio_net_hdr h;
		ssize_t n = read(q->fd, frame - HEADER, HEADER + FRAME_MAX);

		if (n < 0)
			return false;
		if (n < HEADER)
			continue;
		memcpy(&h, frame - HEADER, HEADER);
		if (offload_to_packet(frame, (unsigned)(n - HEADER), &h, pv_netfront_features(t->f), &b->packet[b->until]))
			b->until++;
		else
			t->out_dropped++;
	}
	return true;
}

/* Send what waits. Returns 0: all gone, 1: the vif has no room, -errno. */
static int send_batch(struct tap *t, unsigned i)
{
	struct batch *b = &t->queue[i].out;

	while (b->from < b->until) {
		unsigned vif_queue = i % pv_netfront_queues(t->f);
		int n = pv_netpair_send(t->pair, vif_queue, b->packet + b->from, b->until - b->from);

		if (n == -EINVAL) { /* this one cannot be sent: more than was agreed, or than a packet can have */
			t->out_dropped++;
			n = 1;
		}
		if (n < 0)
			return n;
		if (n == 0)
			return 1;
		b->from += (unsigned)n;
	}
	return 0;
}

static void poll_tap(struct tap *t, unsigned i, bool on)
{
	struct epoll_event e = { .events = on ? EPOLLIN : 0, .data.u32 = i };

	if (t->queue[i].polled != on)
		epoll_ctl(t->epoll, EPOLL_CTL_MOD, t->queue[i].fd, &e);
	t->queue[i].polled = on;
}

/* Move packets from a TAP queue to the vif, a few bursts. Returns 0 or -errno. */
static int tap_to_vif(struct tap *t, unsigned i)
{
	bool more = true;
	int rc = 0;

	for (unsigned turn = 0; turn < TURNS && more; turn++) {
		rc = send_batch(t, i);
		if (rc)
			break;
		more = read_tap(t, &t->queue[i]);
	}
	if (rc == 0)
		rc = send_batch(t, i);
	if (rc >= 0)
		poll_tap(t, i, rc == 0);
	return rc < 0 ? rc : 0;
}

/* ---- vif -> TAP ---- */

static void write_tap(struct tap *t, struct queue *q, const struct pv_netfront_packet *p)
{
	uint8_t *frame = p->data;
	struct virtio_net_hdr h = offload_to_header(frame, p);

	memcpy(frame - HEADER, &h, HEADER);
	if (write(q->fd, frame - HEADER, HEADER + p->len) < 0)
		t->in_dropped++; /* down, or its queue is full */
}

/* Returns 0: nothing is left, 1: more waits, -errno. */
static int vif_to_tap(struct tap *t, unsigned i)
{
	struct pv_netfront_packet p[BATCH];

	for (unsigned turn = 0; turn < TURNS; turn++) {
		int n;

		for (unsigned k = 0; k < BATCH; k++)
			p[k] = (struct pv_netfront_packet){ .data = t->in_mem + (size_t)k * (HEAD_ROOM + FRAME_MAX) + HEAD_ROOM, .len = FRAME_MAX };
		n = pv_netpair_recv(t->pair, i, p, BATCH);
		if (n == 0 || (n < 0 && n != -EAGAIN))
			return n;
		for (int k = 0; k < n; k++)
			write_tap(t, &t->queue[i % t->queues], &p[k]);
	}
	return 1;
}

/* ---- the VF ---- */

static void lose_vf(struct tap *t)
{
	pv_netpair_vf(t->pair, NULL);
	t->in_dropped += packet_port_dropped(t->vf);
	packet_port_close(t->vf); /* its epoll entry goes with it */
	t->vf = NULL;
}

static void find_vf(struct tap *t)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLET, .data.u32 = VF_READABLE }; /* the pair may leave packets there for a while */
	struct pv_netpair_path path;
	char why[200];
	int rc = packet_port_open(t->o->vf, pv_netfront_offer(t->f)->mac, &t->vf, why, sizeof(why));

	if (rc == 0 && epoll_ctl(t->epoll, EPOLL_CTL_ADD, packet_port_fd(t->vf), &e) == 0) {
		path = packet_port_path(t->vf);
		pv_netpair_vf(t->pair, &path);
		t->vf_asked = false;
		return;
	}
	if (rc < 0 && rc != -ENODEV && rc != -ENETDOWN && !t->vf_asked)
		fprintf(stderr, "pvio-tap: %s\n", why); /* and goes on with the vif */
	t->vf_asked = true;
	packet_port_close(t->vf);
	t->vf = NULL;
}

/* Is it there, or has it gone? Asked when a network device has changed, and when the pair found that it is gone. */
static void look_for_vf(struct tap *t)
{
	packet_port_watched(t->links);
	if (t->vf && (!pv_netpair_has_vf(t->pair) || !packet_port_works(t->vf)))
		lose_vf(t);
	if (!t->vf)
		find_vf(t);
}

/* ---- life ---- */

static int device_error(struct tap *t, int rc)
{
	return fail(t, rc, "%s", *pv_netfront_error(t->f) ? pv_netfront_error(t->f) : strerror(-rc));
}

/* Did dom0 ask for the vif back? Else it took it, or the whole domain is gone. */
static bool detached(const struct tap *t)
{
	return t->f && pv_netfront_state(t->f) == XenbusStateClosing;
}

/* Follow the vif: carrier, MTU, address, and after a new connection what was agreed. */
static int follow_vif(struct tap *t)
{
	bool connected = pv_netfront_state(t->f) == XenbusStateConnected;
	int rc = 0;

	if (connected && !t->connected)
		rc = set_offload(t);
	if (rc == 0 && connected)
		rc = set_mtu(t);
	if (rc == 0 && connected)
		rc = set_mac(t);
	t->connected = connected;
	t->works = connected || (t->ready && t->vf);
	set_carrier(t, pv_netpair_uses_vf(t->pair) || (connected && pv_netfront_offer(t->f)->carrier));
	for (unsigned i = 0; i < t->queues && !t->works; i++)
		poll_tap(t, i, false); /* the kernel keeps the packets, and drops what is too many */
	if (rc == 0 && connected && !t->ready) {
		t->ready = true;
		fputs("pvio-tap: ready\n", stderr);
	}
	return rc;
}

/* One turn after a wake-up. Returns 0, 1: more work waits already, -errno. */
static int turn(struct tap *t)
{
	int again = 0, rc = pv_netpair_work(t->pair);

	if (rc < 0)
		return device_error(t, rc);
	rc = follow_vif(t);
	if (rc < 0 || !t->works)
		return rc;
	for (unsigned i = 0; i < pv_netfront_queues(t->f); i++) {
		rc = vif_to_tap(t, i);
		if (rc < 0)
			return device_error(t, rc);
		again |= rc;
	}
	for (unsigned i = 0; i < t->queues; i++) {
		struct queue *q = &t->queue[i];

		if (q->polled && !q->readable)
			continue;
		q->readable = false;
		rc = tap_to_vif(t, i);
		if (rc < 0)
			return device_error(t, rc);
	}
	return again;
}

/* Does a packet wait for room in the VF? Nothing tells when there is. */
static bool waits_for_vf(const struct tap *t)
{
	bool waits = false;

	for (unsigned i = 0; i < t->queues && pv_netpair_uses_vf(t->pair); i++)
		waits |= t->queue[i].out.from < t->queue[i].out.until;
	return waits;
}

/* How long to sleep if nothing happens. */
static int patience(const struct tap *t, bool again)
{
	int ms = pv_netpair_timeout(t->pair);

	if (again)
		return 0;
	if (waits_for_vf(t))
		return 1;
	return !t->connected && (ms < 0 || ms > AWAY_MS) ? AWAY_MS : ms;
}

static int run(struct tap *t)
{
	int rc = 1;

	for (;;) {
		struct epoll_event e[PV_NOXS_QUEUES_MAX + WAKERS];
		int n = epoll_wait(t->epoll, e, PV_NOXS_QUEUES_MAX + WAKERS, patience(t, rc == 1));
		bool look = t->vf && !pv_netpair_has_vf(t->pair);

		for (int i = 0; i < n; i++) {
			if (e[i].data.u32 == UINT32_MAX)
				return 0; /* a signal to end */
			look |= e[i].data.u32 == LINKS_CHANGED;
			if (e[i].data.u32 < t->queues && e[i].events & (EPOLLERR | EPOLLHUP))
				return fail(t, -ENODEV, "TAP %s was removed", t->name);
			if (e[i].data.u32 < t->queues)
				t->queue[e[i].data.u32].readable = true;
		}
		if (look)
			look_for_vf(t);
		rc = turn(t);
		if (rc == -ESHUTDOWN && detached(t))
			return 0;
		if (rc < 0)
			return rc;
	}
}

static int open_events(struct tap *t)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = UINT32_MAX };
	sigset_t set;
	int rc = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	t->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	t->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (t->signals < 0 || t->epoll < 0 || epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->signals, &e) < 0)
		return fail(t, -errno, "events: %s", strerror(errno));
	e.data.u32 = VIF_EVENT;
	rc = epoll_ctl(t->epoll, EPOLL_CTL_ADD, pv_netfront_fd(t->f), &e);
	for (unsigned i = 0; i < t->queues && rc == 0; i++) {
		e = (struct epoll_event){ .events = 0, .data.u32 = i };
		rc = epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->queue[i].fd, &e);
	}
	return rc ? fail(t, -errno, "events: %s", strerror(errno)) : 0;
}

/* From now on the VF is used when it is there, and dom0 says so. */
static int watch_vf(struct tap *t)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = LINKS_CHANGED };

	if (!t->o->vf)
		return 0;
	t->links = packet_port_watch();
	if (t->links < 0 || epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->links, &e) < 0)
		return fail(t, t->links < 0 ? t->links : -errno, "cannot watch network devices: %s", strerror(t->links < 0 ? -t->links : errno));
	find_vf(t);
	if (!t->vf)
		fprintf(stderr, "pvio-tap: no VF %s for now: the vif is used alone\n", t->o->vf);
	return 0;
}

static int make_buffers(struct tap *t)
{
	size_t size = (size_t)BATCH * (HEAD_ROOM + FRAME_MAX);

	t->in_mem = malloc(size);
	for (unsigned i = 0; i < t->queues; i++)
		if (!(t->queue[i].out_mem = malloc(size)))
			return fail(t, -ENOMEM, "no memory for packets");
	return t->in_mem ? 0 : fail(t, -ENOMEM, "no memory for packets");
}

/* The first connection, so that a vif that cannot be connected ends us at once. */
static int wait_connected(struct tap *t)
{
	int rc = 0;

	for (int waited = 0; pv_netfront_state(t->f) != XenbusStateConnected; waited += AWAY_MS) {
		struct epoll_event e;

		if (waited > (t->o->wait_ms > CONNECT_MS ? t->o->wait_ms : CONNECT_MS))
			return fail(t, -ETIMEDOUT, "vif %u did not connect in time; pvio list in dom0 shows its state", t->o->vif);
		if (epoll_wait(t->epoll, &e, 1, AWAY_MS) == 1 && e.data.u32 == UINT32_MAX)
			return -EINTR;
		rc = pv_netpair_work(t->pair);
		if (rc < 0)
			return device_error(t, rc);
	}
	return 0;
}

static int start(struct tap *t)
{
	struct pv_netfront_config c = { .devid = t->o->vif, .wait_ms = t->o->wait_ms, .queues = (uint16_t)t->o->queues };
	int rc = pv_netfront_open(t->o->hypervisor, t->o->domid, &c, &t->f, t->why, sizeof(t->why));

	if (rc == 0 && pv_netpair_open(t->f, NULL, &t->pair) < 0)
		rc = fail(t, -ENOMEM, "no memory for packets");
	if (rc == 0)
		rc = open_tap(t);
	if (rc == 0)
		rc = make_buffers(t);
	if (rc == 0)
		rc = open_events(t);
	if (rc == 0)
		rc = wait_connected(t);
	if (rc == 0)
		rc = set_mac(t);
	t->carrier = true; /* as a new TAP has it */
	if (rc == 0)
		rc = set_up(t);
	for (unsigned i = 0; rc == 0 && i < t->o->addresses; i++)
		rc = add_address(t, t->o->address[i]);
	return rc ? rc : watch_vf(t);
}

static void report_pair(const struct tap *t)
{
	struct pv_netpair_stats s;

	pv_netpair_stats(t->pair, &s);
	fprintf(stderr, "pvio-tap: turned to the VF %llu times, to the vif %llu; lost with the VF at most %llu packets, in a path that was stuck %llu; "
		"received by the path not used %llu, copies dropped %llu\n", (unsigned long long)s.to_vf, (unsigned long long)s.to_vif,
		(unsigned long long)s.tx_lost_gone, (unsigned long long)s.tx_lost_stuck, (unsigned long long)s.rx_late,
		(unsigned long long)(s.rx_copies + s.rx_own));
}

static void stop(struct tap *t)
{
	struct pv_netfront_stats s = { 0 };

	if (t->f)
		pv_netfront_stats(t->f, &s);
	if (t->ready && t->o->vf)
		report_pair(t);
	if (t->vf)
		lose_vf(t);
	if (t->links >= 0)
		close(t->links);
	if (t->ready)
		fprintf(stderr, "pvio-tap: sent %llu packets, received %llu; dropped on the way out %llu, on the way in %llu\n",
			(unsigned long long)s.tx_packets, (unsigned long long)s.rx_packets, (unsigned long long)(s.tx_errors + t->out_dropped),
			(unsigned long long)(s.rx_errors + t->in_dropped));
	for (unsigned i = 0; i < t->queues; i++) {
		close(t->queue[i].fd);
		free(t->queue[i].out_mem);
	}
	free(t->in_mem);
	pv_netpair_close(t->pair);
	pv_netfront_close(t->f, CLOSE_MS);
}

int main(int argc, char **argv)
{
	struct options o = { .domid = -1, .queues = 1 };
	struct tap t = { .o = &o, .links = -1 };
	int rc = pv_options_parse(&program, argc, argv, &o);

	if (rc >= 0)
		return rc;
	if (pv_hyper_needs_domid(o.hypervisor) && o.domid < 0)
		return pv_options_wrong(&program, "--domid is missing: which guest? (the loopback hypervisor must be told)");
	if (o.tap)
		snprintf(t.name, sizeof(t.name), "%s", o.tap);
	else
		snprintf(t.name, sizeof(t.name), "vif%u", o.vif);
	rc = start(&t);
	if (rc == 0)
		rc = run(&t);
	if (rc == -EINTR || (rc == -ESHUTDOWN && detached(&t)))
		rc = 0;
	if (rc < 0)
		fprintf(stderr, "pvio-tap: %s\n", *t.why ? t.why : strerror(-rc));
	stop(&t);
	return rc < 0 ? 1 : 0;
}
