/* vlan.c - VLANs.
 *
 * Inside, a packet has no tag: which VLAN it is in stands in mbuf.vlan_tci (0: none), so that it can be shared by receivers who want
 * it with a tag and without. The tag is taken off where the packet comes in, and put on where it leaves: to the uplink, always; to a trunk, but
 * for that one's own (native) VLAN.
 *
 * A bridge knows VLANs as soon as one of its vifs was given some. Then a vif that was given none is in none: it sends and gets untagged
 * packets only. A tag that a guest may not send costs that packet: so nobody gets into another VLAN by tags inside of tags, by tags of
 * another kind, or by one without a number. */
#include "netback.h"
#include <ctype.h>
#include <rte_ether.h>

enum { TPID_9100 = 0x9100 /* what was there before 802.1ad */ };

/* ---- configuration ---- */

/* A number of 1..4094 at *s, which moves behind it. */
static int parse_id(const char **s, unsigned *id)
{
	char *end;
	unsigned long n = strtoul(*s, &end, 10);

	if (!isdigit((unsigned char)**s) || n < 1 || n > VLAN_MAX)
		return -EINVAL;
	*s = end;
	*id = (unsigned)n;
	return 0;
}

int vlan_parse_access(const char *s, void *field)
{
	struct vlans *v = field;
	unsigned id = 0;

	if (strcmp(s, "0") && (parse_id(&s, &id) < 0 || *s))
		return -EINVAL;
	v->given = v->native = true;
	v->access = (uint16_t)id;
	return 0;
}

int vlan_parse_trunk(const char *s, void *field)
{
	struct vlans *v = field;

	do {
		unsigned from, to;

		if (parse_id(&s, &from) < 0)
			return -EINVAL;
		to = from;
		if (*s == '-' && (s++, parse_id(&s, &to) < 0 || to < from))
			return -EINVAL;
		for (unsigned id = from; id <= to; id++)
			v->trunk[id / 64] |= 1ull << id % 64;
	} while (*s == ',' && s++);
	v->given = v->trunks = true;
	return *s ? -EINVAL : 0;
}

static bool in_trunk(const struct vlans *v, unsigned id)
{
	return v->trunk[id / 64] >> id % 64 & 1;
}

bool vlan_clash(const struct vlans *v)
{
	return v->native && in_trunk(v, v->access);
}

bool vlan_member(const struct vlans *v, unsigned id)
{
	return ((v->native || !v->trunks) && id == v->access) || (v->trunks && in_trunk(v, id));
}

/* ---- tags ---- */

static uint16_t type_at(const struct rte_mbuf *m, unsigned off)
{
	const uint8_t *p = rte_pktmbuf_mtod_offset(m, const uint8_t *, off);

	return (uint16_t)(p[0] << 8 | p[1]);
}

static bool is_tag(uint16_t type)
{
	return type == RTE_ETHER_TYPE_VLAN || type == RTE_ETHER_TYPE_QINQ || type == TPID_9100;
}

/* m is ours alone, and has a tag of 802.1Q: it goes into vlan_tci. */
static void take_off(struct rte_mbuf *m)
{
	uint8_t *p = rte_pktmbuf_mtod(m, uint8_t *);

	m->vlan_tci = type_at(m, 14);
	memmove(p + VLAN_TAG, p, 2 * RTE_ETHER_ADDR_LEN);
	rte_pktmbuf_adj(m, VLAN_TAG);
	if (m->ol_flags & (NB_BLANK | NB_GSO))
		m->l2_len -= VLAN_TAG;
}

static bool may_send(const struct vlans *v, struct rte_mbuf *m)
{
	if (!is_tag(type_at(m, 12))) {
		if (v->trunks && !v->native)
			return false;
		m->vlan_tci = v->access;
		return true;
	}
	if (!v->trunks || type_at(m, 12) != RTE_ETHER_TYPE_VLAN || m->data_len < RTE_ETHER_HDR_LEN + VLAN_TAG ||
	    !in_trunk(v, type_at(m, 14) & VLAN_ID) || is_tag(type_at(m, 16)))
		return false;
	take_off(m);
	return true;
}

bool vlan_from(struct vif_queue *q, struct rte_mbuf *m)
{
	if (likely(may_send(&q->vif->vlans, m)))
		return true;
	q->n.tx_vlan++;
	rte_pktmbuf_free(m);
	return false;
}

void vlan_from_uplink(struct rte_mbuf *m)
{
	if (type_at(m, 12) != RTE_ETHER_TYPE_VLAN || m->data_len < RTE_ETHER_HDR_LEN + VLAN_TAG)
		return;
	take_off(m);
	if (!(m->vlan_tci & VLAN_ID))
		m->vlan_tci = 0; /* a priority alone is no VLAN */
}

bool vlan_wants_tag(const struct vif *vif, const struct rte_mbuf *m)
{
	return vif->vlans.trunks && (m->vlan_tci & VLAN_ID) != (vif->vlans.native ? vif->vlans.access : 0);
}

/* Room for a tag before the first segment's bytes, which no reader but us has: by a page for the headers alone, if there is none. */
static struct rte_mbuf *with_room(struct nb_worker *w, struct rte_mbuf *m)
{
	uint16_t n = (uint16_t)RTE_MIN((unsigned)m->data_len, (unsigned)NB_HEADERS);
	struct rte_mbuf *head;

	if (rte_pktmbuf_headroom(m) >= VLAN_TAG)
		return m;
	head = rte_pktmbuf_alloc(w->nb->pool);
	if (!head)
		return NULL;
	memcpy(rte_pktmbuf_mtod(head, void *), rte_pktmbuf_mtod(m, void *), n);
	head->data_len = n;
	head->pkt_len = m->pkt_len;
	head->nb_segs = (uint16_t)(m->nb_segs + 1);
	head->ol_flags |= m->ol_flags & NB_FLAGS;
	head->tx_offload = m->tx_offload;
	head->vlan_tci = m->vlan_tci;
	head->port = m->port;
	head->next = m;
	m->data_off += n;
	m->data_len -= n;
	return head;
}

struct rte_mbuf *vlan_insert(struct nb_worker *w, struct rte_mbuf *m)
{
	uint8_t *p;

	if (rte_mbuf_refcnt_read(m) > 1) {
		struct rte_mbuf *copy = pool_copy(w->nb->pool, m);

		rte_pktmbuf_free(m);
		m = copy;
	}
	if (m) {
		struct rte_mbuf *room = with_room(w, m);

		if (!room)
			rte_pktmbuf_free(m);
		m = room;
	}
	if (!m) {
		turn_no_memory(w);
		return NULL;
	}
	m->data_off -= VLAN_TAG;
	m->data_len += VLAN_TAG;
	m->pkt_len += VLAN_TAG;
	p = rte_pktmbuf_mtod(m, uint8_t *);
	memmove(p, p + VLAN_TAG, 2 * RTE_ETHER_ADDR_LEN);
	p[12] = RTE_ETHER_TYPE_VLAN >> 8;
	p[13] = RTE_ETHER_TYPE_VLAN & 0xff;
	p[14] = (uint8_t)(m->vlan_tci >> 8);
	p[15] = (uint8_t)m->vlan_tci;
	m->l2_len += VLAN_TAG;
	m->vlan_tci = 0;
	return m;
}
