/* raw_apply PF NETDEV N : what `pvio vf apply` of N virtual functions with all settings asks of the kernel, and nothing else: the number through
 * 0, then, when the port has its link again, for each a MAC, a VLAN with QoS, spoof check, trust and a rate, all in one message. */
#include <arpa/inet.h>
#include <errno.h>
#include <error.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_number(const char *pf, int number)
{
	char path[128], text[16];
	int fd, n = snprintf(text, sizeof(text), "%d", number);

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/sriov_numvfs", pf);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, n) != n)
		error(1, errno, "%s: %d", path, number);
	close(fd);
}

/* Its rates are refused until the port, which lost its link when the number changed, has it again. */
static void wait_for_link(const char *netdev)
{
	char path[128], carrier = '0';
	int fd;

	snprintf(path, sizeof(path), "/sys/class/net/%s/carrier", netdev);
	for (int i = 0; i < 3000 && carrier != '1'; i++) {
		usleep(i ? 10000 : 0);
		fd = open(path, O_RDONLY);
		if (fd < 0 || read(fd, &carrier, 1) < 0)
			error(1, errno, "%s", path);
		close(fd);
	}
}

static void set_one(struct nlmsghdr *h, unsigned vf)
{
	struct ifla_vf_mac mac = {.vf = vf, .mac = {0x02, 0, 0, 0, 0, (uint8_t)(0x10 + vf)}};
	struct ifla_vf_vlan vlan = {.vf = vf, .vlan = 100 + vf, .qos = 3};
	struct ifla_vf_spoofchk spoof = {.vf = vf, .setting = 1};
	struct ifla_vf_trust trust = {.vf = vf, .setting = 1};
	struct ifla_vf_rate rate = {.vf = vf, .max_tx_rate = 100 + vf};
	struct nlattr *info = mnl_attr_nest_start(h, IFLA_VF_INFO);

	mnl_attr_put(h, IFLA_VF_MAC, sizeof(mac), &mac);
	mnl_attr_put(h, IFLA_VF_VLAN, sizeof(vlan), &vlan);
	mnl_attr_put(h, IFLA_VF_SPOOFCHK, sizeof(spoof), &spoof);
	mnl_attr_put(h, IFLA_VF_TRUST, sizeof(trust), &trust);
	mnl_attr_put(h, IFLA_VF_RATE, sizeof(rate), &rate);
	mnl_attr_nest_end(h, info);
}

static void set_all(struct mnl_socket *nl, unsigned ifindex, int number)
{
	char buf[16384];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct ifinfomsg *ifi;
	struct nlattr *list;
	ssize_t n;

	h->nlmsg_type = RTM_SETLINK;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	ifi->ifi_index = (int)ifindex;
	list = mnl_attr_nest_start(h, IFLA_VFINFO_LIST);
	for (int vf = 0; vf < number; vf++)
		set_one(h, (unsigned)vf);
	mnl_attr_nest_end(h, list);
	if (mnl_socket_sendto(nl, h, h->nlmsg_len) < 0 || (n = mnl_socket_recvfrom(nl, buf, sizeof(buf))) < 0 ||
	    mnl_cb_run(buf, n, 0, mnl_socket_get_portid(nl), NULL, NULL) < 0)
		error(1, errno, "the settings");
}

int main(int argc, char **argv)
{
	struct mnl_socket *nl;
	unsigned ifindex;
	int number;

	if (argc != 4 || (number = atoi(argv[3])) < 1)
		error(2, 0, "raw_apply PF NETDEV N");
	ifindex = if_nametoindex(argv[2]);
	nl = mnl_socket_open(NETLINK_ROUTE);
	if (!ifindex || !nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID))
		error(1, errno, "%s", argv[2]);
	write_number(argv[1], 0);
	write_number(argv[1], number);
	wait_for_link(argv[2]);
	set_all(nl, ifindex, number);
	mnl_socket_close(nl);
	return 0;
}
