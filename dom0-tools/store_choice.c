/* store_choice.c - an offer as the keys that a backend shows in XenStore, and the keys of a frontend as a choice. Pure.
 *
 * What XenStore knows and noxs does not: the backend's keys say what the guest may send, the frontend's what it can be sent, so
 * a frontend may name what was not offered. The choice is what both have.
 */
#include "pviod.h"
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <xen/io/blkif.h>
#include <xen/io/pciif.h>
#include <xen/io/protocols.h>

struct feature {
	uint32_t bit;
	const char *backend, *frontend; /* keys; backend NULL: it is not shown; frontend NULL: it is used without a word */
	bool inverted; /* 1 turns it off, and it is on without the key */
};

static const struct feature vif_features[] = {
	{ PV_VIF_SG, "feature-sg", "feature-sg" },
	{ PV_VIF_CSUM_IPV4, "feature-no-csum-offload", "feature-no-csum-offload", true },
	{ PV_VIF_CSUM_IPV6, "feature-ipv6-csum-offload", "feature-ipv6-csum-offload" },
	{ PV_VIF_GSO_TCPV4, "feature-gso-tcpv4", "feature-gso-tcpv4" },
	{ PV_VIF_GSO_TCPV6, "feature-gso-tcpv6", "feature-gso-tcpv6" },
	{ PV_VIF_NO_RX_NOTIFY, NULL, "feature-rx-notify", true },
};

static const struct feature vif_changeable = { PV_VIF_MCAST_CONTROL, "feature-multicast-control", "request-multicast-control" };

static const struct feature vbd_features[] = {
	{ PV_VBD_FLUSH, "feature-flush-cache", NULL },
	{ PV_VBD_BARRIER, "feature-barrier", NULL },
	{ PV_VBD_DISCARD, "feature-discard", NULL },
	{ PV_VBD_SECURE_DISCARD, "discard-secure", NULL },
	{ PV_VBD_PERSISTENT, "feature-persistent", "feature-persistent" },
};

enum { RING_ORDER_MAX = 4 };
_Static_assert(1 << RING_ORDER_MAX == PV_NOXS_RING_PAGES_MAX, "a queue's grefs");

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- an offer as keys ---- */

static void put_number(const struct store_writer *w, const char *key, uint64_t n)
{
	char value[24];

	snprintf(value, sizeof(value), "%" PRIu64, n);
	w->put(w->arg, key, value);
}

static void put_features(const struct store_writer *w, const struct feature *f, size_t n, uint32_t offered)
{
	for (size_t i = 0; i < n; i++)
		if (f[i].backend)
			put_number(w, f[i].backend, !(offered & f[i].bit) == f[i].inverted);
}

static void put_vif(const struct store_writer *w, const struct pv_noxs_vif_offer *v)
{
	char mac[PV_MAC_TEXT];

	pv_mac_text(v->mac, mac);
	w->put(w->arg, "mac", mac);
	put_number(w, "mtu", v->mtu);
	put_number(w, "feature-rx-copy", 1);
	put_number(w, "feature-rx-flip", 0);
	put_number(w, "feature-split-event-channels", 1);
	put_number(w, "multi-queue-max-queues", v->queues_max);
	put_features(w, vif_features, COUNT(vif_features), v->features);
	put_features(w, &vif_changeable, 1, v->features);
	put_number(w, "feature-dynamic-multicast-control", !!(v->features & PV_VIF_MCAST_CONTROL));
	put_number(w, "feature-ctrl-ring", !!(v->features & PV_VIF_CTRL_RING));
	put_number(w, "feature-xdp-headroom", !!(v->features & PV_VIF_HEADROOM));
}

static void put_vbd(const struct store_writer *w, const struct pv_noxs_vbd_offer *v)
{
	put_number(w, "sectors", v->sectors);
	put_number(w, "sector-size", v->sector_size);
	put_number(w, "physical-sector-size", v->physical_sector_size);
	put_number(w, "info", v->info);
	w->put(w->arg, "mode", v->info & VDISK_READONLY ? "r" : "w");
	put_number(w, "multi-queue-max-queues", v->queues_max);
	put_number(w, "max-ring-page-order", v->ring_order_max);
	put_number(w, "feature-max-indirect-segments", v->indirect_max);
	put_number(w, "discard-granularity", v->discard_granularity);
	put_number(w, "discard-alignment", v->discard_alignment);
	put_features(w, vbd_features, COUNT(vbd_features), v->features);
}

/* One bus of the guest, a function in each slot. Where they are in the machine is no affair of the guest. */
static void put_vf(const struct store_writer *w, const struct pv_noxs_vf_offer *v)
{
	char key[16], value[16];

	put_number(w, "num_devs", v->functions);
	put_number(w, "root_num", 1);
	w->put(w->arg, "root-0", "0000:00");
	for (unsigned i = 0; i < v->functions && i < PV_NOXS_VFS_MAX; i++) {
		snprintf(key, sizeof(key), "vdev-%u", i);
		snprintf(value, sizeof(value), "0000:00:%02x.0", i);
		w->put(w->arg, key, value);
	}
}

void store_offer(const struct store_writer *w, const struct pv_noxs_offer *offer)
{
	if (offer->type == PV_NOXS_VIF)
		put_vif(w, &offer->vif);
	else if (offer->type == PV_NOXS_VF)
		put_vf(w, &offer->vf);
	else
		put_vbd(w, &offer->vbd);
}

/* ---- keys as a choice ---- */

/* One reading of a frontend's keys. */
struct reading {
	const struct store_reader *r;
	char dir[16]; /* "" or that of a queue, with its slash */
	const char *why; /* static: what is wrong */
};

struct key {
	const char *name, *fault;
};

#define KEY(name) { name, name " is missing or no number of 32 bits" }

static int wrong(struct reading *rd, const char *why)
{
	rd->why = why;
	return -EPROTO;
}

const char *store_number(const char *s, uint32_t max, uint32_t *out)
{
	uint64_t n = 0;
	const char *p;

	for (p = s; *p >= '0' && *p <= '9' && n <= max; p++)
		n = n * 10 + (uint64_t)(*p - '0');
	if (p == s || n > max)
		return NULL;
	*out = (uint32_t)n;
	return p;
}

/* A key's value, with a 0. Returns 0; -ENOENT; -EPROTO: too long; other: the store is gone. */
static int read_text(struct reading *rd, const struct key *k, char *value, size_t len)
{
	char name[sizeof(rd->dir) + 40];
	int rc;

	snprintf(name, sizeof(name), "%s%s", rd->dir, k->name);
	rc = rd->r->read(rd->r->arg, name, value, len);
	return rc == -EINVAL ? wrong(rd, k->fault) : rc < 0 ? rc : 0;
}

/* The same of a number. */
static int read_number(struct reading *rd, const struct key *k, uint32_t *out)
{
	char value[16];
	int rc = read_text(rd, k, value, sizeof(value));
	const char *end = rc == 0 ? store_number(value, UINT32_MAX, out) : NULL;

	return rc == 0 && (!end || *end) ? wrong(rd, k->fault) : rc;
}

static int read_needed(struct reading *rd, const struct key *k, uint32_t *out)
{
	int rc = read_number(rd, k, out);

	return rc == -ENOENT ? wrong(rd, k->fault) : rc;
}

/* ... of one that need not be there. */
static int read_or(struct reading *rd, const struct key *k, uint32_t none, uint32_t *out)
{
	int rc = read_number(rd, k, out);

	if (rc != -ENOENT)
		return rc;
	*out = none;
	return 0;
}

static int read_features(struct reading *rd, const struct feature *f, size_t n, uint32_t offered, uint32_t *chosen)
{
	for (size_t i = 0; i < n; i++) {
		const struct key k = { f[i].frontend, "a feature is neither 0 nor 1" };
		uint32_t on = 1;
		int rc = f[i].frontend ? read_or(rd, &k, 0, &on) : 0;

		if (rc < 0)
			return rc;
		if (!on == f[i].inverted)
			*chosen |= f[i].bit & offered;
	}
	return 0;
}

/* How many queues, and what is the first? One queue has its keys beside the others, several have directories of their own. */
static int read_queues(struct reading *rd, uint16_t max, struct pv_noxs_choice *c)
{
	static const struct key queues = KEY("multi-queue-num-queues");
	uint32_t n;
	int rc = read_or(rd, &queues, 1, &n);

	if (rc < 0)
		return rc;
	if (n < 1 || n > max || n > PV_NOXS_QUEUES_MAX)
		return wrong(rd, "multi-queue-num-queues is outside of what was offered");
	c->queues = (uint16_t)n;
	return 0;
}

static void enter_queue(struct reading *rd, const struct pv_noxs_choice *c, unsigned i)
{
	if (c->queues > 1)
		snprintf(rd->dir, sizeof(rd->dir), "queue-%u/", i);
}

static int read_vif_queue(struct reading *rd, struct pv_noxs_vif_queue *q)
{
	static const struct key tx_ring = KEY("tx-ring-ref"), rx_ring = KEY("rx-ring-ref"), both = KEY("event-channel"),
				tx = KEY("event-channel-tx"), rx = KEY("event-channel-rx");
	int rc = read_needed(rd, &tx_ring, &q->tx_gref);

	if (rc == 0)
		rc = read_needed(rd, &rx_ring, &q->rx_gref);
	if (rc < 0)
		return rc;
	rc = read_number(rd, &tx, &q->tx_port);
	if (rc == 0)
		return read_needed(rd, &rx, &q->rx_port);
	if (rc == -ENOENT)
		rc = read_needed(rd, &both, &q->tx_port);
	q->rx_port = q->tx_port;
	return rc;
}

/* What there is no other way to do any more; and a frontend that is silent when it posts pages, for who does not look. */
static int read_vif_musts(struct reading *rd, uint32_t offered)
{
	static const struct key copy = KEY("request-rx-copy"), notify = KEY("feature-rx-notify");
	uint32_t on;
	int rc = read_or(rd, &copy, 0, &on);

	if (rc == 0 && !on)
		return wrong(rd, "it wants pages flipped: request-rx-copy must be 1");
	if (rc == 0)
		rc = read_or(rd, &notify, 0, &on);
	if (rc == 0 && !on && !(offered & PV_VIF_NO_RX_NOTIFY))
		return wrong(rd, "it does not tell when it posts pages: feature-rx-notify must be 1");
	return rc;
}

/* What a frontend may change while it is connected. More headroom than there can be is as much as there can be, as in Linux. */
static int read_vif_changeable(struct reading *rd, const struct pv_noxs_vif_offer *offer, struct pv_noxs_choice *c)
{
	static const struct key headroom = KEY("xdp-headroom");
	uint32_t n = 0;
	int rc = read_features(rd, &vif_changeable, 1, offer->features, &c->features);

	if (rc == 0 && offer->features & PV_VIF_HEADROOM)
		rc = read_or(rd, &headroom, 0, &n);
	if (n)
		c->features |= PV_VIF_HEADROOM;
	c->headroom = n < PV_NOXS_HEADROOM_MAX ? n : PV_NOXS_HEADROOM_MAX;
	return rc;
}

static int read_ctrl_ring(struct reading *rd, struct pv_noxs_choice *c)
{
	static const struct key ring = KEY("ctrl-ring-ref"), port = KEY("event-channel-ctrl");
	int rc = read_number(rd, &ring, &c->ctrl_gref);

	if (rc == -ENOENT)
		return 0;
	c->features |= PV_VIF_CTRL_RING;
	return rc < 0 ? rc : read_needed(rd, &port, &c->ctrl_port);
}

static int read_vif(struct reading *rd, const struct pv_noxs_vif_offer *offer, struct pv_noxs_choice *c)
{
	int rc = read_vif_musts(rd, offer->features);

	if (rc == 0)
		rc = read_features(rd, vif_features, COUNT(vif_features), offer->features, &c->features);
	if (rc == 0)
		rc = read_vif_changeable(rd, offer, c);
	if (rc == 0 && offer->features & PV_VIF_CTRL_RING)
		rc = read_ctrl_ring(rd, c);
	if (rc == 0)
		rc = read_queues(rd, offer->queues_max, c);
	for (unsigned i = 0; rc == 0 && i < c->queues; i++) {
		enter_queue(rd, c, i);
		rc = read_vif_queue(rd, &c->vif[i]);
	}
	return rc;
}

static int read_protocol(struct reading *rd, struct pv_noxs_choice *c)
{
	static const struct key protocol = { "protocol", "protocol is none that a block frontend on x86 has" };
	static const struct {
		const char *name;
		enum pv_vbd_abi abi;
	} known[] = { { XEN_IO_PROTO_ABI_X86_32, PV_VBD_ABI_X86_32 }, { XEN_IO_PROTO_ABI_X86_64, PV_VBD_ABI_X86_64 } };
	char value[16];
	int rc = read_text(rd, &protocol, value, sizeof(value));

	c->abi = PV_VBD_ABI_NATIVE;
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	for (size_t i = 0; i < COUNT(known); i++)
		if (strcmp(known[i].name, value) == 0) {
			c->abi = known[i].abi;
			return 0;
		}
	return wrong(rd, protocol.fault);
}

/* A ring of one page is ring-ref, or ring-ref0 if the frontend told an order. */
static int read_vbd_queue(struct reading *rd, unsigned order, struct pv_noxs_vbd_queue *q)
{
	static const struct key port = KEY("event-channel"), one = KEY("ring-ref");
	int rc = order ? -ENOENT : read_number(rd, &one, &q->ring_gref[0]);

	if (rc < 0 && rc != -ENOENT)
		return rc;
	for (unsigned i = 0; rc < 0 && i < 1u << order; i++) {
		char name[20];
		const struct key ring = { name, "a ring-ref is missing or no number of 32 bits" };
		int each;

		snprintf(name, sizeof(name), "ring-ref%u", i);
		each = read_needed(rd, &ring, &q->ring_gref[i]);
		if (each < 0)
			return each;
	}
	return read_needed(rd, &port, &q->port);
}

static int read_vbd(struct reading *rd, const struct pv_noxs_vbd_offer *offer, struct pv_noxs_choice *c)
{
	static const struct key order = KEY("ring-page-order");
	uint32_t n;
	int rc = read_protocol(rd, c);

	if (rc == 0)
		rc = read_features(rd, vbd_features, COUNT(vbd_features), offer->features, &c->features);
	if (rc == 0)
		rc = read_or(rd, &order, 0, &n);
	if (rc == 0 && (n > offer->ring_order_max || n > RING_ORDER_MAX))
		return wrong(rd, "ring-page-order is above what was offered");
	if (rc == 0)
		rc = read_queues(rd, offer->queues_max, c);
	if (rc < 0)
		return rc;
	c->ring_order = (uint8_t)n;
	for (unsigned i = 0; rc == 0 && i < c->queues; i++) {
		enter_queue(rd, c, i);
		rc = read_vbd_queue(rd, n, &c->vbd[i]);
	}
	return rc;
}

static int read_vf(struct reading *rd, struct pv_noxs_choice *c)
{
	static const struct key page = KEY("pci-op-ref"), port = KEY("event-channel"),
				magic = { "magic", "magic is not " XEN_PCI_MAGIC ": another version of the page" };
	char value[8];
	int rc = read_text(rd, &magic, value, sizeof(value));

	if (rc == -ENOENT || (rc == 0 && strcmp(value, XEN_PCI_MAGIC)))
		return wrong(rd, magic.fault);
	if (rc == 0)
		rc = read_needed(rd, &page, &c->vf[0].gref);
	if (rc == 0)
		rc = read_needed(rd, &port, &c->vf[0].port);
	c->queues = 1;
	return rc;
}

static int read_type(struct reading *rd, const struct pv_noxs_offer *offer, struct pv_noxs_choice *c)
{
	if (offer->type == PV_NOXS_VIF)
		return read_vif(rd, &offer->vif, c);
	return offer->type == PV_NOXS_VF ? read_vf(rd, c) : read_vbd(rd, &offer->vbd, c);
}

int store_choice(const struct store_reader *r, const struct pv_noxs_offer *offer, struct pv_noxs_choice *c, const char **why)
{
	struct reading rd = { .r = r };
	int rc;

	*c = (struct pv_noxs_choice){ .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = offer->generation,
				      .state = XenbusStateInitialised, .alive = 1 };
	rc = read_type(&rd, offer, c);
	*why = rd.why;
	return rc < 0 ? rc : pv_noxs_choice_check(c, offer, why);
}

int store_rechoice(const struct store_reader *r, const struct pv_noxs_offer *offer, const struct pv_noxs_choice *now,
		   struct pv_noxs_choice *c, const char **why)
{
	struct reading rd = { .r = r };
	int rc;

	*c = *now;
	c->features &= ~(uint32_t)PV_VIF_CHANGEABLE;
	rc = read_vif_changeable(&rd, &offer->vif, c);
	*why = rd.why;
	return rc;
}
