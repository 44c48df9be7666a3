/* test_vf_nl.c - settings over netlink: against the small kernel of vf_tree.h, and against answers byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "igb_answers.h"
#include "vf_tree.h"

static const struct vf_bdf bdf = { 0, 1, 0, 0 };
static struct vf_tree t;
static struct vf_pf pf;
enum { RATES = 1 << VF_MIN_RATE | 1 << VF_MAX_RATE };

static int up(void **state)
{
	(void)state;
	vf_tree_up(&t);
	vf_tree_pf(&t, (struct vf_tree_pf){ .bdf = "0000:01:00.0", .netdev = "eth1", .total = 7 });
	assert_int_equal(vf_pci_write(&t.sys, bdf, "sriov_numvfs", "7"), 0);
	pf = (struct vf_pf){ .dev = { .bdf = bdf, .netdev = "eth1" }, .ifindex = 10, .total = 7, .num = 7 };
	return 0;
}

static int down(void **state)
{
	(void)state;
	vf_tree_down(&t);
	return 0;
}

static struct vf_settings said(enum vf_key key, const char *text)
{
	struct vf_settings v = { 0 };

	assert_int_equal(vf_settings_parse(&v, key, text, NULL), 0);
	return v;
}

static void nl_get_what_was_set(void **state)
{
	struct vf_settings want = { VF_ALL_KEYS, { 2, 0, 0, 0, 0, 3 }, 100, 3, 0x88a8, false, true, true, 10, 100, VF_LINK_DOWN }, is[7];
	unsigned done, refused;

	(void)state;
	assert_int_equal(vf_nl_set(&t.sys, &pf, 3, &want, VF_ALL_KEYS, NULL, &done, &refused, NULL), 0);
	assert_int_equal(done, VF_ALL_KEYS);
	assert_int_equal(refused, 0);
	assert_int_equal(t.k->sets, 7);
	assert_int_equal(vf_nl_get(&t.sys, &pf, is, NULL, 7, NULL), 7);
	assert_int_equal(vf_settings_differ(&want, &is[3]), 0);
	assert_int_equal(is[2].set, VF_ALL_KEYS & ~(1 << VF_RSS_QUERY)); /* this driver does not tell of it before it is set */
	assert_int_equal(is[2].vlan, 0);
	assert_int_equal(vf_nl_get(&t.sys, &pf, is, NULL, 2, NULL), 2); /* no more than there is room */
}

static void nl_set_only_what_is_asked(void **state)
{
	struct vf_settings want = said(VF_TRUST, "on");
	unsigned done;

	(void)state;
	vf_settings_merge(&want, &(struct vf_settings){ .set = 1 << VF_VLAN, .vlan = 5 });
	assert_int_equal(vf_nl_set(&t.sys, &pf, 0, &want, 1 << VF_TRUST | 1 << VF_MAC, NULL, &done, NULL, NULL), 0);
	assert_int_equal(done, 1 << VF_TRUST);
	assert_int_equal(t.k->sets, 1);
}

static void nl_set_keeps_the_other_half(void **state)
{
	struct vf_settings want = said(VF_VLAN, "100"), is[7];

	(void)state;
	assert_int_equal(vf_nl_set(&t.sys, &pf, 0, &want, VF_ALL_KEYS, NULL, NULL, NULL, NULL), 0);
	assert_int_equal(vf_nl_get(&t.sys, &pf, is, NULL, 7, NULL), 7);
	want = said(VF_QOS, "5");
	assert_int_equal(vf_nl_set(&t.sys, &pf, 0, &want, VF_ALL_KEYS, &is[0], NULL, NULL, NULL), 0);
	assert_int_equal(t.k->is[0][0].vlan, 100);
	assert_int_equal(t.k->is[0][0].qos, 5);
	want = said(VF_MAX_RATE, "50");
	assert_int_equal(vf_nl_set(&t.sys, &pf, 0, &want, VF_ALL_KEYS, &is[0], NULL, NULL, NULL), 0);
	assert_int_equal(t.k->is[0][0].max_rate, 50);
}

static void nl_set_tells_the_refusal(void **state)
{
	struct vf_settings want = { 1 << VF_MAC | 1 << VF_SPOOFCHK | 1 << VF_TRUST, { 2 }, .trust = true };
	unsigned done, refused;
	struct vf_why why;

	(void)state;
	t.k->refuse[VF_SPOOFCHK] = -EOPNOTSUPP;
	assert_int_equal(vf_nl_set(&t.sys, &pf, 4, &want, VF_ALL_KEYS, NULL, &done, &refused, &why), -EOPNOTSUPP);
	assert_int_equal(done, 1 << VF_MAC);
	assert_int_equal(refused, 1 << VF_SPOOFCHK);
	assert_string_equal(why.text, "PF 0000:01:00.0 (eth1) refuses spoofchk=off for VF 4: Operation not supported; its driver has no such setting");
	assert_int_equal(vf_nl_set(&t.sys, &pf, 4, &want, VF_ALL_KEYS & ~done & ~refused, NULL, &done, &refused, &why), 0);
	assert_int_equal(done, 1 << VF_TRUST);
	t.k->refuse[VF_TRUST] = -EINVAL;
	snprintf(t.k->refuse_text, sizeof(t.k->refuse_text), "trust needs firmware 2.1");
	assert_int_equal(vf_nl_set(&t.sys, &pf, 4, &want, 1 << VF_TRUST, NULL, NULL, NULL, &why), -EINVAL);
	assert_string_equal(why.text, "PF 0000:01:00.0 (eth1) refuses trust=on for VF 4: Invalid argument (trust needs firmware 2.1)");
	assert_int_equal(vf_nl_set(&t.sys, &pf, 7, &want, 1 << VF_MAC, NULL, NULL, NULL, &why), -EINVAL); /* no such VF */
}

static void nl_set_finds_which_rate_was_refused(void **state)
{
	struct vf_settings want = { RATES, .min_rate = 10, .max_rate = 100 };
	unsigned done, refused;
	struct vf_why why;

	(void)state;
	t.k->refuse[VF_MIN_RATE] = -EINVAL;
	assert_int_equal(vf_nl_set(&t.sys, &pf, 0, &want, VF_ALL_KEYS, NULL, &done, &refused, &why), -EINVAL);
	assert_int_equal(done, 1 << VF_MAX_RATE);
	assert_int_equal(refused, 1 << VF_MIN_RATE);
	assert_non_null(strstr(why.text, "refuses min_rate=10 for VF 0"));
	assert_int_equal(t.k->is[0][0].max_rate, 100);
	t.k->refuse[VF_MAX_RATE] = -EINVAL;
	assert_int_equal(vf_nl_set(&t.sys, &pf, 0, &want, VF_ALL_KEYS, NULL, &done, &refused, &why), -EINVAL);
	assert_int_equal(done, 0);
	assert_int_equal(refused, RATES);
}

static void nl_of_a_pf_without_netdev(void **state)
{
	struct vf_pf nvme = { .dev = { .bdf = bdf }, .total = 4, .num = 4 };
	struct vf_settings want = said(VF_TRUST, "on"), is[4];
	struct vf_why why;

	(void)state;
	assert_int_equal(vf_nl_get(&t.sys, &nvme, is, NULL, 4, &why), -EOPNOTSUPP);
	assert_int_equal(vf_nl_set(&t.sys, &nvme, 0, &want, VF_ALL_KEYS, NULL, NULL, NULL, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why.text, "has no netdev"));
	assert_int_equal(vf_nl_set(&t.sys, &nvme, 0, &want, 0, NULL, NULL, NULL, &why), 0); /* nothing to set: fine */
}

static void nl_probe_changes_nothing(void **state)
{
	enum vf_support supports[VF_KEYS] = { 0 };

	(void)state;
	t.k->refuse[VF_LINK] = t.k->refuse[VF_RSS_QUERY] = -EOPNOTSUPP;
	assert_int_equal(vf_nl_probe(&t.sys, &pf, supports), 0);
	assert_int_equal(t.k->sets, 0);
	assert_int_equal(supports[VF_MAC], VF_YES);
	assert_int_equal(supports[VF_MAX_RATE], VF_YES);
	assert_int_equal(supports[VF_MIN_RATE], VF_ASK);
	assert_int_equal(supports[VF_VLAN_PROTO], VF_ASK);
	assert_int_equal(supports[VF_LINK], VF_NO);
	assert_int_equal(supports[VF_RSS_QUERY], VF_NO);
}

static void nl_probe_of_a_pf_without_vfs(void **state)
{
	enum vf_support supports[VF_KEYS] = { 0 };

	(void)state;
	pf.num = 0;
	t.k->refuse[VF_SPOOFCHK] = -EOPNOTSUPP; /* as igb says while it has none */
	assert_int_equal(vf_nl_probe(&t.sys, &pf, supports), 0);
	assert_int_equal(supports[VF_SPOOFCHK], VF_ASK);
	t.k->refuse[VF_MAC] = -EPERM;
	assert_int_equal(vf_nl_probe(&t.sys, &pf, supports), -EPERM);
}

/* ---- answers byte by byte ---- */

static struct {
	char buf[4096];
	size_t len, at; /* datagrams of `len` bytes in all, each with its length in its header */
	uint32_t seq; /* of the request */
} tape;

static int tape_send(struct vf_sys *s, const void *msg, size_t len)
{
	(void)s, (void)len;
	tape.seq = ((const struct nlmsghdr *)msg)->nlmsg_seq;
	return 0;
}

/* What is recorded with the number 0 is an answer to what was asked. */
static ssize_t tape_recv(struct vf_sys *s, void *buf, size_t len)
{
	struct nlmsghdr *m = (struct nlmsghdr *)(tape.buf + tape.at);
	size_t n = tape.len - tape.at;

	(void)s;
	if (n >= sizeof(*m) && m->nlmsg_len >= sizeof(*m) && m->nlmsg_len < n)
		n = m->nlmsg_len;
	assert_true(n <= len);
	memcpy(buf, m, n);
	if (n >= sizeof(*m) && m->nlmsg_seq == 0)
		((struct nlmsghdr *)buf)->nlmsg_seq = tape.seq;
	tape.at += n;
	return (ssize_t)n;
}

static const struct vf_sys_ops tape_ops = { vf_tree_write, tape_send, tape_recv };

static struct nlmsghdr *record(uint16_t type, uint32_t seq)
{
	struct nlmsghdr *m = mnl_nlmsg_put_header(tape.buf + tape.len);

	m->nlmsg_type = type;
	m->nlmsg_seq = seq;
	return m;
}

static void rewind_tape(void)
{
	memset(&tape, 0, sizeof(tape));
	t.sys.ops = &tape_ops;
}

/* As Linux 6.1 answers for a VF: all attributes, counters last. */
static void record_link(void)
{
	struct nlmsghdr *m = record(RTM_NEWLINK, 0);
	struct nlattr *list, *info, *inner;
	struct ifla_vf_mac mac = { 0, { 2, 0x11, 0x22, 0x33, 0x44, 0x55 } };

	mnl_nlmsg_put_extra_header(m, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(m, IFLA_IFNAME, "eth1");
	mnl_attr_put_u32(m, IFLA_NUM_VF, 1);
	list = mnl_attr_nest_start(m, IFLA_VFINFO_LIST);
	info = mnl_attr_nest_start(m, IFLA_VF_INFO);
	mnl_attr_put(m, IFLA_VF_MAC, sizeof(mac), &mac);
	mnl_attr_put(m, IFLA_VF_BROADCAST, 32, "\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
	mnl_attr_put(m, IFLA_VF_VLAN, sizeof(struct ifla_vf_vlan), &(struct ifla_vf_vlan){ 0, 7, 1 });
	mnl_attr_put(m, IFLA_VF_RATE, sizeof(struct ifla_vf_rate), &(struct ifla_vf_rate){ 0, 0, 200 });
	mnl_attr_put(m, IFLA_VF_TX_RATE, sizeof(struct ifla_vf_tx_rate), &(struct ifla_vf_tx_rate){ 0, 200 });
	mnl_attr_put(m, IFLA_VF_SPOOFCHK, 8, &(uint32_t[]){ 0, 1 });
	mnl_attr_put(m, IFLA_VF_LINK_STATE, 8, &(uint32_t[]){ 0, 0 });
	mnl_attr_put(m, IFLA_VF_RSS_QUERY_EN, 8, &(uint32_t[]){ 0, UINT32_MAX });
	mnl_attr_put(m, IFLA_VF_TRUST, 8, &(uint32_t[]){ 0, 0 });
	inner = mnl_attr_nest_start(m, IFLA_VF_VLAN_LIST);
	mnl_attr_put(m, IFLA_VF_VLAN_INFO, 16, &(struct ifla_vf_vlan_info){ 0, 7, 1, htons(0x8100) });
	mnl_attr_nest_end(m, inner);
	inner = mnl_attr_nest_start(m, IFLA_VF_STATS);
	mnl_attr_put_u64(m, IFLA_VF_STATS_RX_PACKETS, 11);
	mnl_attr_put_u64(m, IFLA_VF_STATS_TX_BYTES, 1ull << 40);
	mnl_attr_put(m, IFLA_VF_STATS_PAD, 0, NULL);
	mnl_attr_put_u64(m, IFLA_VF_STATS_TX_DROPPED, 9);
	mnl_attr_nest_end(m, inner);
	mnl_attr_nest_end(m, info);
	mnl_attr_nest_end(m, list);
	tape.len += m->nlmsg_len;
}

static void nl_get_of_a_recorded_link(void **state)
{
	struct vf_settings is[2];
	struct vf_stats stats[2];

	(void)state;
	rewind_tape();
	record(NLMSG_DONE, 4711); /* of somebody else's question */
	tape.len += sizeof(struct nlmsghdr);
	record_link();
	assert_int_equal(vf_nl_get(&t.sys, &pf, is, stats, 2, NULL), 1);
	assert_int_equal(is[0].set, VF_ALL_KEYS & ~(1 << VF_RSS_QUERY));
	assert_int_equal(is[1].set, 0);
	assert_int_equal(is[0].mac[5], 0x55);
	assert_int_equal(is[0].vlan, 7);
	assert_int_equal(is[0].qos, 1);
	assert_int_equal(is[0].vlan_proto, 0x8100);
	assert_int_equal(is[0].max_rate, 200);
	assert_true(is[0].spoofchk);
	assert_int_equal(stats[0].rx_packets, 11);
	assert_int_equal(stats[0].tx_bytes, 1ull << 40);
	assert_int_equal(stats[0].tx_dropped, 9);
	assert_int_equal(stats[0].rx_bytes, 0);
}

static void record_bytes(const void *bytes, size_t len)
{
	memcpy(tape.buf + tape.len, bytes, len);
	tape.len += len;
}

static void nl_get_of_igb(void **state)
{
	struct vf_settings is[7];

	(void)state;
	rewind_tape();
	record_bytes(igb_link, sizeof(igb_link));
	assert_int_equal(vf_nl_get(&t.sys, &pf, is, NULL, 7, NULL), 2);
	assert_memory_equal(is[0].mac, "\2\0\0\0\0\3", 6);
	assert_memory_equal(is[1].mac, "\2\0\0\0\0\4", 6);
	assert_int_equal(is[0].vlan, 100);
	assert_int_equal(is[0].qos, 3);
	assert_int_equal(is[0].vlan_proto, 0x8100);
	assert_int_equal(is[1].vlan, 0);
	assert_false(is[0].spoofchk);
	assert_true(is[1].spoofchk);
	assert_true(is[0].trust);
	assert_false(is[1].trust);
	assert_int_equal(is[0].max_rate, 0);
	assert_int_equal(is[0].set & 1 << VF_RSS_QUERY, 0); /* igb does not tell */
}

static void nl_set_refused_by_igb(void **state)
{
	struct vf_settings want = said(VF_VLAN_PROTO, "802.1ad");
	unsigned refused;
	struct vf_why why;

	(void)state;
	rewind_tape();
	record_bytes(igb_no_8021ad, sizeof(igb_no_8021ad));
	vf_settings_merge(&want, &(struct vf_settings){ .set = 1 << VF_VLAN, .vlan = 100 });
	assert_int_equal(vf_nl_set(&t.sys, &pf, 0, &want, VF_ALL_KEYS, NULL, NULL, &refused, &why), -EPROTONOSUPPORT);
	assert_int_equal(refused, want.set);
	assert_non_null(strstr(why.text, "refuses"));
	assert_non_null(strstr(why.text, "802.1ad"));
}

/* Cut anywhere, with any length in any attribute: nothing is read beyond what there is (ASan), and no VF beyond the room. */
static void nl_get_of_damaged_answers(void **state)
{
	struct vf_settings is[2];
	size_t whole;

	(void)state;
	rewind_tape();
	record_link();
	whole = tape.len;
	for (size_t i = 0; i < whole; i++) {
		for (int what = 0; what < 3; what++) {
			char was = tape.buf[i];
			struct nlmsghdr *m = (struct nlmsghdr *)tape.buf;

			tape.at = 0;
			tape.len = what == 2 ? i : whole;
			if (what < 2)
				tape.buf[i] = what ? (char)0xff : 0;
			if (what == 2 && i >= sizeof(*m))
				m->nlmsg_len = i;
			vf_nl_get(&t.sys, &pf, is, NULL, 2, NULL);
			tape.buf[i] = was;
			m->nlmsg_len = whole;
		}
	}
}

/* An error carries the request before the kernel's words, unless it says that it was cut. */
static void nl_set_reads_the_words_of_an_error(void **state)
{
	struct vf_settings want = said(VF_TRUST, "on");
	struct nlmsgerr *e;
	struct nlmsghdr *m;
	struct vf_why why;

	(void)state;
	rewind_tape();
	m = record(NLMSG_ERROR, 0);
	m->nlmsg_flags = NLM_F_ACK_TLVS;
	e = mnl_nlmsg_put_extra_header(m, sizeof(*e));
	e->error = -EBUSY;
	e->msg.nlmsg_len = sizeof(e->msg) + 20;
	memset(mnl_nlmsg_put_extra_header(m, 20), 0xff, 20);
	mnl_attr_put_strz(m, NLMSGERR_ATTR_MSG, "VF is being reset");
	tape.len = m->nlmsg_len;
	assert_int_equal(vf_nl_set(&t.sys, &pf, 0, &want, VF_ALL_KEYS, NULL, NULL, NULL, &why), -EBUSY);
	assert_non_null(strstr(why.text, "(VF is being reset)"));
	tape.at = 0;
	e->msg.nlmsg_len = 60000; /* a lie: no words, and nothing read beyond */
	assert_int_equal(vf_nl_set(&t.sys, &pf, 0, &want, VF_ALL_KEYS, NULL, NULL, NULL, &why), -EBUSY);
	assert_null(strstr(why.text, "being reset"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nl_get_what_was_set, up, down),
		cmocka_unit_test_setup_teardown(nl_set_only_what_is_asked, up, down),
		cmocka_unit_test_setup_teardown(nl_set_keeps_the_other_half, up, down),
		cmocka_unit_test_setup_teardown(nl_set_tells_the_refusal, up, down),
		cmocka_unit_test_setup_teardown(nl_set_finds_which_rate_was_refused, up, down),
		cmocka_unit_test_setup_teardown(nl_of_a_pf_without_netdev, up, down),
		cmocka_unit_test_setup_teardown(nl_probe_changes_nothing, up, down),
		cmocka_unit_test_setup_teardown(nl_probe_of_a_pf_without_vfs, up, down),
		cmocka_unit_test_setup_teardown(nl_get_of_a_recorded_link, up, down),
		cmocka_unit_test_setup_teardown(nl_get_of_igb, up, down),
		cmocka_unit_test_setup_teardown(nl_set_refused_by_igb, up, down),
		cmocka_unit_test_setup_teardown(nl_get_of_damaged_answers, up, down),
		cmocka_unit_test_setup_teardown(nl_set_reads_the_words_of_an_error, up, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
