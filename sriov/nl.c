/* nl.c - what a PF's driver says about its VFs, and is told: rtnetlink, IFLA_VFINFO_LIST. One request a setting, so that a refusal has a
 * name; or all of them at once, which is fastest while nothing is refused. */
#include "declare.h"
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REQUEST_MAX = 512, ANSWER_MAX = 256 << 10 /* 64 KiB of VFs are the most an attribute can say */, WORDS_MAX = 160 };

/* ---- one request and its answer ---- */

static struct nlmsghdr *begin(struct vf_sys *s, char *buf, uint16_t type, uint16_t flags, unsigned ifindex)
{
	struct nlmsghdr *m = mnl_nlmsg_put_header(buf);
	struct ifinfomsg *ifi;

	m->nlmsg_type = type;
	m->nlmsg_flags = NLM_F_REQUEST | flags;
	m->nlmsg_seq = ++s->nl_seq;
	ifi = mnl_nlmsg_put_extra_header(m, sizeof(*ifi));
	ifi->ifi_family = AF_UNSPEC;
	ifi->ifi_index = (int)ifindex;
	return m;
}

/* The kernel's own words behind an error, if it has any. */
static void read_words(const struct nlmsghdr *m, const struct nlmsgerr *e, char words[WORDS_MAX])
{
	size_t offset = sizeof(*e), len = mnl_nlmsg_get_payload_len(m);
	const struct nlattr *a;

	if (!(m->nlmsg_flags & NLM_F_CAPPED) && e->msg.nlmsg_len >= sizeof(e->msg)) /* what was asked comes first */
		offset += MNL_ALIGN(e->msg.nlmsg_len - sizeof(e->msg));
	if (!(m->nlmsg_flags & NLM_F_ACK_TLVS) || offset > len)
		return;
	for (a = (const void *)((const char *)e + offset); mnl_attr_ok(a, (int)((const char *)e + len - (const char *)a)); a = mnl_attr_next(a))
		if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG)
			snprintf(words, WORDS_MAX, "%.*s", mnl_attr_get_payload_len(a), mnl_attr_get_str(a));
}

/* Send m, and wait for its answer in buf: what is said of the link, at *answer, or an acknowledgement (NULL). The device's -errno, with words. */
static int ask(struct vf_sys *s, const struct nlmsghdr *m, char *buf, const struct nlmsghdr **answer, char words[WORDS_MAX])
{
	int rc = s->ops->nl_send(s, m, m->nlmsg_len);

	*answer = NULL;
	*words = '\0';
	while (rc >= 0) {
		ssize_t got = s->ops->nl_recv(s, buf, ANSWER_MAX);
		const struct nlmsghdr *a = (const struct nlmsghdr *)buf;
		int left = (int)got;

		if (got <= 0)
			return got < 0 ? (int)got : -EIO;
		for (; mnl_nlmsg_ok(a, left); a = mnl_nlmsg_next(a, &left)) {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(a);

			if (a->nlmsg_seq != m->nlmsg_seq)
				continue;
			if (a->nlmsg_type == NLMSG_ERROR && mnl_nlmsg_get_payload_len(a) >= sizeof(*e)) {
				if (e->error)
					read_words(a, e, words);
				return e->error;
			}
			*answer = a;
			return 0;
		}
	}
	return rc;
}

/* ---- what there is ---- */

/* The payload of an attribute that is as long as it should be; else NULL. */
static const void *payload(const struct nlattr *a, size_t size)
{
	return a && mnl_attr_get_payload_len(a) >= size ? mnl_attr_get_payload(a) : NULL;
}

static void read_vlans(const struct nlattr *list, struct vf_settings *v)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, list) {
		const struct ifla_vf_vlan_info *i = payload(a, sizeof(*i));

		if (!i || mnl_attr_get_type(a) != IFLA_VF_VLAN_INFO)
			continue;
		v->vlan = i->vlan;
		v->qos = i->qos;
		v->vlan_proto = ntohs(i->vlan_proto);
		v->set |= 1 << VF_VLAN | 1 << VF_QOS | 1 << VF_VLAN_PROTO;
		return; /* the outermost is what a PF sets */
	}
}

static void read_stats(const struct nlattr *list, struct vf_stats *st)
{
	static const size_t at[] = {
		[IFLA_VF_STATS_RX_PACKETS] = offsetof(struct vf_stats, rx_packets), [IFLA_VF_STATS_TX_PACKETS] = offsetof(struct vf_stats, tx_packets),
		[IFLA_VF_STATS_RX_BYTES] = offsetof(struct vf_stats, rx_bytes), [IFLA_VF_STATS_TX_BYTES] = offsetof(struct vf_stats, tx_bytes),
		[IFLA_VF_STATS_BROADCAST] = offsetof(struct vf_stats, broadcast), [IFLA_VF_STATS_MULTICAST] = offsetof(struct vf_stats, multicast),
		[IFLA_VF_STATS_RX_DROPPED] = offsetof(struct vf_stats, rx_dropped), [IFLA_VF_STATS_TX_DROPPED] = offsetof(struct vf_stats, tx_dropped),
	};
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, list) {
		unsigned type = mnl_attr_get_type(a);

		if (type <= IFLA_VF_STATS_TX_DROPPED && type != IFLA_VF_STATS_PAD && payload(a, 8))
			memcpy((char *)st + at[type], payload(a, 8), 8);
	}
}

/* A flag that the kernel leaves at -1 where the driver does not tell of it. */
static bool read_flag(uint32_t setting, struct vf_settings *v, enum vf_key key)
{
	if (setting != UINT32_MAX)
		v->set |= 1u << key;
	return setting != UINT32_MAX && setting;
}

/* One attribute of a VF. Each begins with the number of the VF, and all but mac and rate are {vf, value}. */
static void read_attr(const struct nlattr *a, struct vf_settings *v, struct vf_stats *st)
{
	const struct ifla_vf_mac *mac = payload(a, sizeof(*mac));
	const struct ifla_vf_rate *rate = payload(a, sizeof(*rate));
	const struct ifla_vf_spoofchk *pair = payload(a, sizeof(*pair));
	unsigned type = mnl_attr_get_type(a);

	if (type == IFLA_VF_MAC && mac) {
		memcpy(v->mac, mac->mac, sizeof(v->mac));
		v->set |= 1 << VF_MAC;
	} else if (type == IFLA_VF_VLAN_LIST) {
		read_vlans(a, v);
	} else if (type == IFLA_VF_RATE && rate) {
		v->min_rate = rate->min_tx_rate;
		v->max_rate = rate->max_tx_rate;
		v->set |= 1 << VF_MIN_RATE | 1 << VF_MAX_RATE;
	} else if (type == IFLA_VF_SPOOFCHK && pair) {
		v->spoofchk = read_flag(pair->setting, v, VF_SPOOFCHK);
	} else if (type == IFLA_VF_TRUST && pair) {
		v->trust = read_flag(pair->setting, v, VF_TRUST);
	} else if (type == IFLA_VF_RSS_QUERY_EN && pair) {
		v->rss_query = read_flag(pair->setting, v, VF_RSS_QUERY);
	} else if (type == IFLA_VF_LINK_STATE && pair && pair->setting <= IFLA_VF_LINK_STATE_DISABLE) {
		v->link = pair->setting;
		v->set |= 1 << VF_LINK;
	} else if (type == IFLA_VF_STATS && st) {
		read_stats(a, st);
	}
}

/* Of which VF this entry tells: all of its attributes with a number agree. */
static int vf_of(const struct nlattr *info)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, info)
		if (mnl_attr_get_type(a) == IFLA_VF_MAC && payload(a, sizeof(struct ifla_vf_mac)))
			return (int)((const struct ifla_vf_mac *)mnl_attr_get_payload(a))->vf;
	return -1;
}

static int read_list(const struct nlattr *list, struct vf_settings *is, struct vf_stats *stats, unsigned max)
{
	const struct nlattr *info, *a;
	int n = 0;

	mnl_attr_for_each_nested(info, list) {
		int vf = vf_of(info);

		if (vf < 0 || (unsigned)vf >= max)
			continue;
		mnl_attr_for_each_nested(a, info)
			read_attr(a, &is[vf], stats ? &stats[vf] : NULL);
		n++;
	}
	return n;
}

/* The link with its VFs; where they are too many for one message with their counters, without them. */
static int get_link(struct vf_sys *s, unsigned ifindex, char *buf, const struct nlmsghdr **answer)
{
	static const uint32_t filters[] = { RTEXT_FILTER_VF, RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS };
	char request[REQUEST_MAX], words[WORDS_MAX];
	int rc = -EMSGSIZE;

	for (int i = 0; i < 2 && (rc == -EMSGSIZE || rc == -ENOSPC); i++) {
		struct nlmsghdr *m = begin(s, request, RTM_GETLINK, 0, ifindex);

		mnl_attr_put_u32(m, IFLA_EXT_MASK, filters[i]);
		rc = ask(s, m, buf, answer, words);
	}
	return rc == 0 && (!*answer || (*answer)->nlmsg_type != RTM_NEWLINK) ? -EIO : rc;
}

int vf_nl_get(struct vf_sys *s, const struct vf_pf *pf, struct vf_settings *is, struct vf_stats *stats, unsigned max, struct vf_why *why)
{
	char *buf = pf->ifindex ? malloc(ANSWER_MAX) : NULL;
	int rc = pf->ifindex ? buf ? 0 : -ENOMEM : -EOPNOTSUPP, n = 0;
	const struct nlmsghdr *answer;
	const struct nlattr *a;

	memset(is, 0, max * sizeof(*is));
	if (stats)
		memset(stats, 0, max * sizeof(*stats));
	if (rc == 0)
		rc = get_link(s, pf->ifindex, buf, &answer);
	if (rc == 0)
		mnl_attr_for_each(a, answer, sizeof(struct ifinfomsg))
			if (mnl_attr_get_type(a) == IFLA_VFINFO_LIST)
				n += read_list(a, is, stats, max);
	free(buf);
	if (rc == -EOPNOTSUPP)
		return vf_fail(why, rc, "PF %s has no netdev, so its VFs have no settings", vf_text(pf->dev.bdf).s);
	return rc < 0 ? vf_fail(why, rc, "PF %s (%s): its driver does not tell of its VFs: %s", vf_text(pf->dev.bdf).s, pf->dev.netdev, strerror(-rc)) : n;
}

/* ---- what shall be ---- */

/* Which keys go together is the kernel's choice. */
struct request {
	unsigned keys;
	void (*put)(struct nlmsghdr *m, uint32_t vf, const struct vf_settings *v);
};

static void put_mac(struct nlmsghdr *m, uint32_t vf, const struct vf_settings *v)
{
	struct ifla_vf_mac mac = { .vf = vf };

	memcpy(mac.mac, v->mac, sizeof(v->mac));
	mnl_attr_put(m, IFLA_VF_MAC, sizeof(mac), &mac);
}

static void put_vlan(struct nlmsghdr *m, uint32_t vf, const struct vf_settings *v)
{
	struct ifla_vf_vlan_info vlan = { vf, v->vlan, v->qos, htons(v->vlan_proto ? v->vlan_proto : ETH_P_8021Q) };
	struct nlattr *list = mnl_attr_nest_start(m, IFLA_VF_VLAN_LIST);

	mnl_attr_put(m, IFLA_VF_VLAN_INFO, sizeof(vlan), &vlan);
	mnl_attr_nest_end(m, list);
}

static void put_rate(struct nlmsghdr *m, uint32_t vf, const struct vf_settings *v)
{
	struct ifla_vf_rate rate = { vf, v->min_rate, v->max_rate };

	mnl_attr_put(m, IFLA_VF_RATE, sizeof(rate), &rate);
}

static void put_pair(struct nlmsghdr *m, uint16_t type, uint32_t vf, uint32_t value)
{
	struct ifla_vf_spoofchk pair = { vf, value }; /* trust, link_state and rss_query_en are the same two numbers */

	mnl_attr_put(m, type, sizeof(pair), &pair);
}

static void put_spoofchk(struct nlmsghdr *m, uint32_t vf, const struct vf_settings *v) { put_pair(m, IFLA_VF_SPOOFCHK, vf, v->spoofchk); }
static void put_trust(struct nlmsghdr *m, uint32_t vf, const struct vf_settings *v) { put_pair(m, IFLA_VF_TRUST, vf, v->trust); }
static void put_link(struct nlmsghdr *m, uint32_t vf, const struct vf_settings *v) { put_pair(m, IFLA_VF_LINK_STATE, vf, v->link); }
static void put_rss(struct nlmsghdr *m, uint32_t vf, const struct vf_settings *v) { put_pair(m, IFLA_VF_RSS_QUERY_EN, vf, v->rss_query); }

enum { MIN_MAX = 1 << VF_MIN_RATE | 1 << VF_MAX_RATE, VLAN_KEYS = 1 << VF_VLAN | 1 << VF_QOS | 1 << VF_VLAN_PROTO, NR_REQUESTS = 7 };
/* In the order in which they are made. */
static const struct request requests[NR_REQUESTS] = {
	{ 1 << VF_MAC, put_mac }, { VLAN_KEYS, put_vlan }, { MIN_MAX, put_rate }, { 1 << VF_SPOOFCHK, put_spoofchk },
	{ 1 << VF_TRUST, put_trust }, { 1 << VF_LINK, put_link }, { 1 << VF_RSS_QUERY, put_rss },
};

static int set_one(struct vf_sys *s, unsigned ifindex, uint32_t vf, const struct request *r, const struct vf_settings *v, char *buf, char words[WORDS_MAX])
{
	char request[REQUEST_MAX];
	struct nlmsghdr *m = begin(s, request, RTM_SETLINK, NLM_F_ACK, ifindex);
	struct nlattr *list = mnl_attr_nest_start(m, IFLA_VFINFO_LIST), *info = mnl_attr_nest_start(m, IFLA_VF_INFO);
	const struct nlmsghdr *answer;
	int rc;

	r->put(m, vf, v);
	mnl_attr_nest_end(m, info);
	mnl_attr_nest_end(m, list);
	rc = ask(s, m, buf, &answer, words);
	if (rc == 0)
		vf_sys_changed(s);
	return rc;
}

/* "PF 0000:01:00.0 (eth1) refuses vlan=100 vlan_proto=802.1ad for VF 3: Protocol not supported (its words)" */
static int refusal(const struct vf_pf *pf, unsigned vf, const struct vf_settings *v, unsigned keys, int rc, const char *words, struct vf_why *why)
{
	char what[128] = "";
	const char *hint = rc == -EPERM ? "; root may" : rc == -EOPNOTSUPP ? "; its driver has no such setting" :
		rc == -EINVAL && keys & MIN_MAX ? "; some take a rate only while the port has a link" : "";

	for (int i = 0; i < VF_KEYS; i++) {
		size_t n = strlen(what);
		char value[32];

		if (!(keys & 1u << i))
			continue;
		vf_settings_text(v, i, value, sizeof(value));
		snprintf(what + n, sizeof(what) - n, "%s%s=%s", n ? " " : "", vf_key_name(i), value);
	}
	return vf_fail(why, rc, "PF %s (%s) refuses %s for VF %u: %s%s%s%s%s", vf_text(pf->dev.bdf).s, pf->dev.netdev, what, vf, strerror(-rc),
		       *words ? " (" : "", words, *words ? ")" : "", hint);
}

/* One request of vf_nl_set. Where both rates are refused, the highest alone may pass: then it was the least that was refused. */
static int set_request(struct vf_sys *s, const struct vf_pf *pf, unsigned index, const struct request *r, const struct vf_settings *v, unsigned keys,
		       const struct vf_settings *is, char *buf, unsigned *done, unsigned *refused, struct vf_why *why)
{
	char words[WORDS_MAX], no_words[WORDS_MAX];
	int rc = set_one(s, pf->ifindex, index, r, v, buf, words);

	*done |= rc < 0 ? 0 : keys;
	if (rc == 0)
		return 0;
	*refused = keys;
	if (keys == MIN_MAX) {
		struct vf_settings highest = *v;

		highest.min_rate = is ? is->min_rate : 0;
		if (highest.min_rate != v->min_rate && set_one(s, pf->ifindex, index, r, &highest, buf, no_words) == 0) {
			*done |= 1 << VF_MAX_RATE;
			*refused = 1 << VF_MIN_RATE;
		}
	}
	return refusal(pf, index, v, *refused, rc, words, why);
}

int vf_nl_set(struct vf_sys *s, const struct vf_pf *pf, unsigned index, const struct vf_settings *want, unsigned keys,
	      const struct vf_settings *is, unsigned *done, unsigned *refused, struct vf_why *why)
{
	struct vf_settings v = { 0 };
	unsigned did = 0, not = 0;
	char *buf = malloc(ANSWER_MAX);
	int rc = buf ? 0 : -ENOMEM;

	keys &= want->set;
	if (is)
		vf_settings_merge(&v, is);
	vf_settings_merge(&v, want);
	if (rc == 0 && keys && !pf->ifindex) {
		not = keys;
		rc = vf_fail(why, -EOPNOTSUPP, "PF %s has no netdev, so its VFs have no settings", vf_text(pf->dev.bdf).s);
	}
	for (int i = 0; i < NR_REQUESTS && rc == 0; i++)
		if (keys & requests[i].keys)
			rc = set_request(s, pf, index, &requests[i], &v, keys & requests[i].keys, is, buf, &did, &not, why);
	free(buf);
	if (done)
		*done = did;
	if (refused)
		*refused = not;
	return rc;
}

/* ---- all at once ---- */

enum { AT_ONCE = 256 /* VFs a message: an attribute has 64 KiB at most */, VF_ROOM = 160 /* bytes of one with all its settings */ };

static int set_some(struct vf_sys *s, unsigned ifindex, const struct vf_plan_vf *vf, unsigned first, unsigned end, char *buf, char *answers)
{
	struct nlmsghdr *m = begin(s, buf, RTM_SETLINK, NLM_F_ACK, ifindex);
	struct nlattr *list = mnl_attr_nest_start(m, IFLA_VFINFO_LIST), *info;
	const struct nlmsghdr *answer;
	char words[WORDS_MAX];
	unsigned any = 0;
	int rc;

	for (unsigned n = first; n < end; n++) {
		struct vf_settings v = vf[n].is;

		if (!vf[n].keys)
			continue;
		any |= vf[n].keys;
		vf_settings_merge(&v, &vf[n].want);
		info = mnl_attr_nest_start(m, IFLA_VF_INFO);
		for (int i = 0; i < NR_REQUESTS; i++)
			if (vf[n].keys & requests[i].keys)
				requests[i].put(m, n, &v);
		mnl_attr_nest_end(m, info);
	}
	mnl_attr_nest_end(m, list);
	rc = any ? ask(s, m, answers, &answer, words) : 0;
	if (any)
		vf_sys_changed(s);
	return rc;
}

int vf_nl_set_all(struct vf_sys *s, const struct vf_pf *pf, const struct vf_plan_vf *vf, unsigned nr)
{
	char *buf = malloc(AT_ONCE * VF_ROOM + REQUEST_MAX), *answers = malloc(ANSWER_MAX);
	int rc = buf && answers ? 0 : -ENOMEM;

	for (unsigned first = 0; rc == 0 && first < nr; first += AT_ONCE)
		rc = set_some(s, pf->ifindex, vf, first, nr - first > AT_ONCE ? first + AT_ONCE : nr, buf, answers);
	free(buf);
	free(answers);
	return rc;
}

/* ---- which settings a driver has ---- */

int vf_nl_probe(struct vf_sys *s, const struct vf_pf *pf, enum vf_support supports[VF_KEYS])
{
	char *buf = pf->ifindex ? malloc(ANSWER_MAX) : NULL, words[WORDS_MAX];
	struct vf_settings v;
	int rc = 0;

	if (!buf)
		return pf->ifindex ? -ENOMEM : -EOPNOTSUPP;
	vf_settings_default(&v, VF_ALL_KEYS);
	/* asked about a VF that cannot be, a driver that has the setting finds the number wrong, and nothing is changed */
	for (int i = 0; i < NR_REQUESTS && rc != -EPERM; i++) {
		rc = set_one(s, pf->ifindex, pf->total, &requests[i], &v, buf, words);
		for (int k = 0; k < VF_KEYS; k++) {
			/* some say of a PF without VFs that it has nothing to set; a yes about a group is none about each of it */
			bool sure = rc == -EOPNOTSUPP ? pf->num > 0 : rc == -EINVAL && k != VF_MIN_RATE && k != VF_VLAN_PROTO;

			if ((requests[i].keys & 1u << k) && sure && supports[k] != VF_YES)
				supports[k] = rc == -EOPNOTSUPP ? VF_NO : VF_YES;
		}
	}
	free(buf);
	return rc == -EPERM ? rc : 0;
}
