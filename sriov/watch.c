/* watch.c - the kernel tells of PCI functions (uevents) and of netdevs (rtnetlink); the keeper does what is due.
 *
 * Events come in crowds, so they are waited for a little before anything is done. What our own settings cause, which the kernel sends
 * before it answers us, is no reason to look again. */
#include "declare.h"
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum { CROWD_MS = 50, BUSY_MS = 500, UEVENTS = 1 /* the kernel's group; udev has another */, ROOM = 1 << 20 };

static struct mnl_socket *listen_to(int bus, unsigned groups)
{
	struct mnl_socket *nl = mnl_socket_open2(bus, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int room = ROOM;

	if (nl && mnl_socket_bind(nl, groups, MNL_SOCKET_AUTOPID) < 0) {
		int err = errno;

		mnl_socket_close(nl);
		errno = err;
		return NULL;
	}
	if (nl) /* many VFs, many events; without the right to it there is less */
		setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	return nl;
}

/* One datagram of the kernel itself. Its length, 0: there is none, -ENOBUFS: some were lost. */
static ssize_t receive(struct mnl_socket *nl, void *buf, size_t len)
{
	struct sockaddr_nl from;
	ssize_t n;

	do {
		socklen_t size = sizeof(from);

		n = recvfrom(mnl_socket_get_fd(nl), buf, len, 0, (struct sockaddr *)&from, &size);
	} while (n >= 0 && from.nl_pid); /* a process that plays kernel */
	return n >= 0 ? n : errno == ENOBUFS ? -ENOBUFS : 0;
}

static void take_uevents(struct vf_keeper *k, struct mnl_socket *nl)
{
	static char buf[16384];
	ssize_t n;

	while ((n = receive(nl, buf, sizeof(buf))) != 0) {
		if (n < 0)
			vf_keeper_missed(k);
		else
			vf_keeper_uevent(k, buf, (size_t)n);
	}
}

struct heard {
	struct vf_keeper *k;
	bool ours;
};

static int link_changed(const struct nlmsghdr *m, void *data)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(m);
	struct heard *h = data;

	if (m->nlmsg_type == RTM_NEWLINK && mnl_nlmsg_get_payload_len(m) >= sizeof(*ifi))
		vf_keeper_link(h->k, (unsigned)ifi->ifi_index, ifi->ifi_flags, h->ours);
	return MNL_CB_OK;
}

static void take_links(struct vf_keeper *k, struct mnl_socket *nl, bool ours)
{
	static _Alignas(struct nlmsghdr) char buf[65536];
	ssize_t n;

	while ((n = receive(nl, buf, sizeof(buf))) != 0) {
		if (n < 0)
			vf_keeper_missed(k);
		else
			mnl_cb_run(buf, (size_t)n, 0, 0, link_changed, &(struct heard){ k, ours });
	}
}

static void serve(struct vf_keeper *k, struct mnl_socket *uevents, struct mnl_socket *links)
{
	struct pollfd fds[] = { { mnl_socket_get_fd(uevents), POLLIN, 0 }, { mnl_socket_get_fd(links), POLLIN, 0 } };

	for (;;) {
		if (!vf_keeper_due(k))
			poll(fds, 2, -1);
		else if (poll(NULL, 0, CROWD_MS) == 0) {
			take_uevents(k, uevents);
			take_links(k, links, false);
			if (vf_keeper_work(k) == -EBUSY) /* whoever applies is not hurried */
				poll(NULL, 0, BUSY_MS);
			else
				take_links(k, links, true);
			continue;
		}
		take_uevents(k, uevents);
		take_links(k, links, false);
	}
}

int vf_watch(struct vf_keeper *k, struct vf_why *why)
{
	struct mnl_socket *uevents = listen_to(NETLINK_KOBJECT_UEVENT, UEVENTS), *links = uevents ? listen_to(NETLINK_ROUTE, RTMGRP_LINK) : NULL;
	int rc = -errno;

	if (!links) {
		if (uevents)
			mnl_socket_close(uevents);
		return vf_fail(why, rc, "cannot listen to the kernel's events (netlink): %s", strerror(-rc));
	}
	vf_keeper_missed(k); /* before it listened */
	serve(k, uevents, links);
	return 0;
}
