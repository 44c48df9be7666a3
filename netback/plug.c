/* plug.c - TAPs in Linux bridges, made by a process of its own.
 *
 * A vif may name a bridge long after netback gave up its privileges: so a process that keeps CAP_NET_ADMIN, sees no packet and
 * does nothing else is split off at the start. It makes a TAP, plugs it into the bridge and hands its descriptors over: netback alone
 * holds them, and so the TAP is gone with it. It ends when netback does.
 *
 * The TAP has the bridge's MTU, and an address above all of a vendor's, so that the bridge does not take that for its own. A bridge without other ports
 * does: so it is the same each time, for others remember it while netback is killed and comes back. */
#include "netback.h"
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <pvio/privileges.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct request {
	char bridge[NB_BRIDGE_NAME];
	uint32_t queues;
};

struct answer {
	int32_t error;
	char tap[NB_BRIDGE_NAME];
	char why[400];
};

/* ---- netlink ---- */

/* Linux' bridges: the one that is asked for, and the names of all. */
struct bridges {
	const char *name;
	int index;
	uint32_t mtu;
	char all[200];
};

static bool is_bridge(const struct nlattr *info)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, info)
		if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
			return !strcmp(mnl_attr_get_str(a), "bridge");
	return false;
}

static int bridge_seen(const struct nlmsghdr *nlh, void *data)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	struct bridges *b = data;
	const char *name = "";
	bool bridge = false;
	const struct nlattr *a;
	uint32_t mtu = 0;
	size_t n = strlen(b->all);

	mnl_attr_for_each(a, nlh, sizeof(*ifi)) {
		if (mnl_attr_get_type(a) == IFLA_IFNAME)
			name = mnl_attr_get_str(a);
		else if (mnl_attr_get_type(a) == IFLA_MTU)
			mtu = mnl_attr_get_u32(a);
		else if (mnl_attr_get_type(a) == IFLA_LINKINFO)
			bridge = is_bridge(a);
	}
	if (!bridge)
		return MNL_CB_OK;
	if (!strcmp(name, b->name)) {
		b->index = ifi->ifi_index;
		b->mtu = mtu;
	}
	snprintf(b->all + n, sizeof(b->all) - n, "%s%s", n ? ", " : "", name);
	return MNL_CB_OK;
}

/* Send nlh, and take the answers up to the last. Returns 0 or -errno. */
static int talk(struct mnl_socket *nl, struct nlmsghdr *nlh, mnl_cb_t seen, void *data)
{
	static _Alignas(struct nlmsghdr) char buf[32768];
	unsigned port = mnl_socket_get_portid(nl);
	int ret = 1;

	nlh->nlmsg_seq++;
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	while (ret > 0) {
		ssize_t n = mnl_socket_recvfrom(nl, buf, sizeof(buf));

		ret = n < 0 ? -1 : mnl_cb_run(buf, (size_t)n, nlh->nlmsg_seq, port, seen, data);
	}
	return ret < 0 ? -errno : 0;
}

static struct nlmsghdr *link_message(void *buf, uint16_t type, uint16_t flags, int index)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct ifinfomsg *ifi;

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_index = index;
	return nlh;
}

static int find_bridge(struct mnl_socket *nl, struct bridges *b)
{
	char buf[256];
	int ret;

	do {
		b->all[0] = 0;
		ret = talk(nl, link_message(buf, RTM_GETLINK, NLM_F_DUMP, 0), bridge_seen, b);
	} while (ret == -EINTR); /* something changed while they were told */
	return ret;
}

/* The end of the bridge's name tells it from those of other bridges. */
static void address_of(const char *bridge, uint8_t mac[6])
{
	size_t n = strlen(bridge), skip = n > 5 ? n - 5 : 0;

	memset(mac, 0, 6);
	mac[0] = 0xfe;
	memcpy(mac + 1, bridge + skip, n - skip);
}

/* Address, MTU, bridge and up, at once. */
static int plug_in(struct mnl_socket *nl, int tap, const struct bridges *b)
{
	uint8_t mac[6];
	char buf[256];
	struct nlmsghdr *nlh = link_message(buf, RTM_NEWLINK, NLM_F_ACK, tap);
	struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);

	address_of(b->name, mac);
	ifi->ifi_flags = ifi->ifi_change = IFF_UP;
	mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(mac), mac);
	mnl_attr_put_u32(nlh, IFLA_MTU, b->mtu);
	mnl_attr_put_u32(nlh, IFLA_MASTER, (uint32_t)b->index);
	return talk(nl, nlh, NULL, NULL);
}

/* ---- the process ---- */

static int make_tap(struct mnl_socket *nl, const struct request *r, struct answer *a, int *fds)
{
	struct bridges b = { .name = r->bridge };
	int ret = find_bridge(nl, &b);

	if (ret < 0)
		return pv_why(a->why, sizeof(a->why), ret, "cannot list Linux' bridges: %s", strerror(-ret));
	if (!b.index)
		return pv_why(a->why, sizeof(a->why), -ENODEV, "there is no Linux bridge %s (%s%s); make it with ip link add %s type bridge",
			      r->bridge, b.all[0] ? "there is " : "there is none", b.all, r->bridge);
	snprintf(a->tap, sizeof(a->tap), "pvup%%d"); /* the kernel numbers it */
	ret = tap_queues_open(a->tap, r->queues, fds);
	if (ret == 0)
		ret = plug_in(nl, (int)if_nametoindex(a->tap), &b);
	if (ret < 0)
		pv_why(a->why, sizeof(a->why), ret, "cannot plug a TAP into the Linux bridge %s: %s%s", r->bridge, strerror(-ret),
		       ret == -ENOENT ? ": there is no /dev/net/tun; modprobe tun" : ret == -EPERM ? ": run pvio-netback as root" : "");
	return ret;
}

/* One message with descriptors. */
static void reply(int sock, struct answer *a, const int *fds, unsigned n)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int) * NB_WORKERS_MAX)];
	} c = { 0 };
	struct iovec iov = { a, sizeof(*a) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n) {
		m.msg_control = &c;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		c.h = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int) * n), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&c.h), fds, sizeof(int) * n);
	}
	sendmsg(sock, &m, MSG_NOSIGNAL);
}

static void serve(int sock)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	struct request r;

	if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0)
		return;
	while (recv(sock, &r, sizeof(r), 0) == sizeof(r)) {
		struct answer a = { 0 };
		int fds[NB_WORKERS_MAX];

		for (unsigned i = 0; i < NB_WORKERS_MAX; i++)
			fds[i] = -1;
		r.bridge[sizeof(r.bridge) - 1] = 0;
		r.queues = RTE_MIN(r.queues, (uint32_t)NB_WORKERS_MAX);
		a.error = make_tap(nl, &r, &a, fds);
		reply(sock, &a, fds, a.error ? 0 : r.queues);
		for (unsigned i = 0; i < NB_WORKERS_MAX; i++)
			if (fds[i] >= 0)
				close(fds[i]);
	}
	mnl_socket_close(nl);
}

int plug_start(void)
{
	int sock[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
		return -errno;
	pid = fork();
	if (!pid) {
		close(sock[0]);
		signal(SIGINT, SIG_IGN); /* it ends when the other end of the socket is closed, whatever the reason */
		signal(SIGTERM, SIG_IGN);
		prctl(PR_SET_NAME, "netback-plug");
		if (pv_privileges_keep((const int[]){ CAP_NET_ADMIN, -1 }) == 0)
			serve(sock[1]);
		_exit(0);
	}
	close(sock[1]);
	if (pid < 0) {
		close(sock[0]);
		return -EAGAIN;
	}
	return sock[0];
}

/* ---- netback's side ---- */

int plug_tap(int sock, const char *bridge, unsigned queues, char tap[NB_BRIDGE_NAME], int *fds, char *why, size_t len)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int) * NB_WORKERS_MAX)];
	} c = { 0 };
	struct request r = { .queues = queues };
	struct answer a = { 0 };
	struct iovec iov = { &a, sizeof(a) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };

	snprintf(r.bridge, sizeof(r.bridge), "%s", bridge);
	if (send(sock, &r, sizeof(r), MSG_NOSIGNAL) != sizeof(r) || recvmsg(sock, &m, MSG_CMSG_CLOEXEC) != sizeof(a))
		return pv_why(why, len, -EPIPE, "the process that plugs TAPs into Linux' bridges is gone: start pvio-netback again");
	if (a.error)
		return pv_why(why, len, a.error, "%s", a.why);
	if (!CMSG_FIRSTHDR(&m) || CMSG_FIRSTHDR(&m)->cmsg_len != CMSG_LEN(sizeof(int) * queues))
		return pv_why(why, len, -EMFILE, "no descriptor left for a TAP: raise ulimit -n");
	memcpy(fds, CMSG_DATA(&c.h), sizeof(int) * queues);
	snprintf(tap, NB_BRIDGE_NAME, "%s", a.tap);
	return 0;
}
