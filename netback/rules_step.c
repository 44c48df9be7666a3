/* rules_step.c - a packet goes through the rules of a vif.
 *
 *	headers -> anti-spoofing (from the guest) -> impossible or hidden headers -> first rule -> its rate -> mirror -> action
 * What we make ourselves, a mirrored copy or an answer to a rejected packet, is not seen by the rules of the vif that it is for; and a
 * copy is not mirrored again, nor an answer answered, so nothing goes in circles. */
#include "reject.h"
#include "rules_set.h"

/* Deliver to a vif past its rules; takes m. */
static void send_past_rules(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m)
{
	const struct vif *before = w->rules_off;

	w->rules_off = vif;
	backlog_give(w, vif, m);
	w->rules_off = before;
}

static bool is_open(const struct vif *vif)
{
	return switch_dest(vif->bridge->sw, vif->port) == vif;
}

static void mirror(struct nb_worker *w, const struct rules *r, unsigned rule, const struct vif *vif, struct rte_mbuf *m)
{
	bool uplink = r->file->rule[rule].mirror == RULE_UPLINK;
	struct vif *to = __atomic_load_n(&r->mirror[rule], __ATOMIC_ACQUIRE); /* pairs with rules_retarget */
	struct rte_mbuf *copy;

	if (uplink ? !vif->bridge->uplink.queues : !to || !is_open(to))
		return;
	copy = pool_copy(w->nb->pool, m);
	if (!copy)
		turn_no_memory(w);
	else if (uplink)
		uplink_send(w, vif->bridge, copy);
	else
		send_past_rules(w, to, copy);
}

static void reject(struct nb_worker *w, struct rules *r, struct vif *vif, bool from, uint16_t tci, const uint8_t *p, uint32_t have,
		   const struct headers *h)
{
	struct rules_counts *n = r->counts[w->index];
	uint8_t answer[REJECT_MAX];
	uint32_t len = reject_answer(p, have, h, answer);
	struct rte_mbuf *m;

	if (!len || !rules_bucket_take(&r->rejects, w->tsc, 0)) {
		n->unanswered++;
		return;
	}
	m = pool_chain(w->nb->pool, len);
	if (!m) {
		turn_no_memory(w);
		return;
	}
	memcpy(rte_pktmbuf_mtod(m, void *), answer, len);
	m->vlan_tci = tci;
	n->rejected++;
	if (!from)
		forward_answer(w, vif->bridge, m);
	else if (is_open(vif))
		send_past_rules(w, vif, m);
	else
		rte_pktmbuf_free(m);
}

/* The headers in one piece. */
static const uint8_t *headers_of(const struct rte_mbuf *m, uint8_t room[NB_HEADERS], uint32_t *have)
{
	uint32_t want = RTE_MIN(m->pkt_len, (uint32_t)NB_HEADERS);

	if (likely(m->data_len >= want)) {
		*have = m->data_len;
		return rte_pktmbuf_mtod(m, const uint8_t *);
	}
	*have = want;
	return rte_pktmbuf_read(m, 0, want, room);
}

/* What is dropped before the rules are asked, and counted. */
static bool is_sound(const struct rules *r, struct rules_counts *n, bool from, const uint8_t *p, uint32_t have, const struct headers *h)
{
	if (h->error == HEADERS_BAD) {
		n->bad++;
		return false;
	}
	if (h->error == HEADERS_TINY && (r->file->ports || r->antispoof)) {
		n->tiny++;
		return false;
	}
	if (from && r->antispoof && !antispoof_ok(&r->own, p, have, h)) {
		n->spoofed++;
		return false;
	}
	return true;
}

static void put_vlan(struct headers *h, unsigned id)
{
	h->key.vlan[0] = (uint8_t)(id >> 8);
	h->key.vlan[1] = (uint8_t)id;
}

/* Returns whether the packet goes on. */
static bool apply(struct nb_worker *w, struct rules *r, struct vif *vif, struct rte_mbuf *m, bool from)
{
	struct rules_counts *n = r->counts[w->index];
	const struct rules_file *f = r->file;
	uint8_t room[NB_HEADERS];
	struct headers h;
	uint32_t have;
	const uint8_t *p = headers_of(m, room, &have);
	enum rule_action action = f->otherwise;
	unsigned i;

	headers_parse(p, have, m->pkt_len, &h);
	if (unlikely(!is_sound(r, n, from, p, have, &h)))
		return false;
	h.key.flags |= from ? HEADERS_FROM : 0;
	if (m->vlan_tci & VLAN_ID) /* the switch knows VLANs: it took the tag off, or will put it on */
		put_vlan(&h, m->vlan_tci & VLAN_ID);
	i = rules_match(r, &h);
	n->rule[i].packets++;
	n->rule[i].bytes += m->pkt_len;
	if (likely(i < f->nr)) {
		action = f->rule[i].action;
		if (f->rule[i].rate >= 0 && !rules_bucket_take(&r->rate[f->rule[i].rate], w->tsc, m->pkt_len)) {
			n->rule[i].over++;
			n->dropped++;
			return false;
		}
		if (f->rule[i].mirror != RULE_NOT)
			mirror(w, r, i, vif, m);
	}
	if (likely(action == RULE_PASS))
		return true;
	n->dropped++;
	if (action == RULE_REJECT)
		reject(w, r, vif, from, m->vlan_tci, p, have, &h);
	return false;
}

bool rules_step(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m, bool from)
{
	struct rules *r = __atomic_load_n(&vif->rules, __ATOMIC_ACQUIRE); /* pairs with rules_replace */

	if (!r || (vif == w->rules_off && !from) || apply(w, r, vif, m, from))
		return true;
	rte_pktmbuf_free(m);
	return false;
}
