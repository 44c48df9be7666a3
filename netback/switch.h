/* switch.h - a learning layer-2 switch, and the VLANs of its ports. */
#ifndef NETBACK_SWITCH_H
#define NETBACK_SWITCH_H

#include <rte_byteorder.h>
#include <rte_mbuf.h>

struct l2switch;
struct nb_worker;
struct vif;
struct vif_queue;

/* ---- vlan.c ---- */
enum { VLAN_MAX = 4094, VLAN_ANY = 4095 /* no VLAN's: in the switch, an address in all VLANs of its port */, VLAN_ID = 0xfff, VLAN_TAG = 4 };

/* The VLANs of a vif. Zeroed: untagged only, in none. */
struct vlans {
	bool given; /* vlan= or trunk= */
	bool native; /* vlan=: untagged packets are in VLAN `access` */
	bool trunks; /* trunk=: those tagged with one of these pass as well, and without vlan= they alone */
	uint16_t access;
	uint64_t trunk[64];
};

int vlan_parse_access(const char *s, void *field); /* of vlan=, into struct vlans */
int vlan_parse_trunk(const char *s, void *field); /* of trunk= */
bool vlan_clash(const struct vlans *v); /* the same VLAN tagged and untagged */
bool vlan_member(const struct vlans *v, unsigned id); /* does it get packets in that VLAN? */
/* A packet that a guest sent: into its VLAN, without a tag. False: it may not, the packet was freed and counted. */
bool vlan_from(struct vif_queue *q, struct rte_mbuf *m);
void vlan_from_uplink(struct rte_mbuf *m); /* the same, and all may come in */
bool vlan_wants_tag(const struct vif *vif, const struct rte_mbuf *m);
/* m's VLAN as a tag in the frame. Takes m, which may be shared; NULL: no memory, and that was told. */
struct rte_mbuf *vlan_insert(struct nb_worker *w, struct rte_mbuf *m);

/* ---- switch.c ---- */
enum {
	SWITCH_PORTS = 1024,
	SWITCH_UPLINK = 0, /* the port that is the uplink */
	SWITCH_UNKNOWN = -1, /* no such address: flood */
	SWITCH_LEARN_VIF = 32, /* addresses that a vif may teach, beside its own: 1023 greedy guests cannot fill the table */
	SWITCH_LEARN_UPLINK = 16384,
	SWITCH_ENTRIES = 65536,
	SWITCH_AGE = 300, /* seconds */
	SWITCH_AGE_EVERY = 10,
	SWITCH_CACHE = 256,
};

/* A worker's memory of recent answers, each void as soon as the table changed. Zeroed: empty. Owner: one worker. */
struct switch_cache {
	struct {
		uint64_t mac;
		uint32_t version; /* of the table that gave this answer */
		int32_t port;
		uint32_t seen;
	} slot[SWITCH_CACHE];
};

int switch_new(const char *name, struct l2switch **out); /* name: no other switch's */
void switch_free(struct l2switch *sw);
/* Addresses are in VLANs: `mac` is switch_key()'s everywhere; in VLAN_ANY: in all those of its port, and only to be pinned.
 * Control thread. A port exists from add to del; packets go to it from open (dest is not NULL) to close. */
int switch_port_add(struct l2switch *sw); /* its number, or -ENOSPC */
void switch_port_del(struct l2switch *sw, int port);
void switch_port_open(struct l2switch *sw, int port, void *dest);
void switch_port_close(struct l2switch *sw, int port);
void switch_port_vlans(struct l2switch *sw, int port, const struct vlans *vlans); /* borrowed; before it is opened. NULL: none */
/* An address that belongs to a port and is never learned elsewhere. 0, -EEXIST: another port's; -ENOSPC. */
int switch_pin(struct l2switch *sw, int port, uint64_t mac);
/* Forget what a port pinned and taught. Call switch_reclaim once every worker has passed between two turns since. */
void switch_flush(struct l2switch *sw, int port);
/* Forget what was taught and not seen for SWITCH_AGE seconds. Returns how many; then reclaim as above. */
unsigned switch_age(struct l2switch *sw, uint32_t now);
void switch_reclaim(struct l2switch *sw);
unsigned switch_count(struct l2switch *sw, int port); /* addresses that the port taught */
unsigned switch_list(struct l2switch *sw, int port, uint64_t *macs, unsigned max);
/* Any worker. now: seconds. */
void *switch_dest(struct l2switch *sw, int port); /* as opened, NULL: closed */
int switch_ports(struct l2switch *sw); /* all ports are below this */
bool switch_member(const struct l2switch *sw, int port, unsigned vlan); /* of an open port */
/* Learn where mac is. Returns true if it was not: the port taught its share, or the address is pinned elsewhere. */
bool switch_learn(struct l2switch *sw, struct switch_cache *c, int port, uint64_t mac, uint32_t now);
int switch_lookup(struct l2switch *sw, struct switch_cache *c, uint64_t mac); /* a port or SWITCH_UNKNOWN */

static inline uint64_t switch_key(unsigned vlan, uint64_t mac)
{
	return (uint64_t)vlan << 48 | mac;
}

static inline uint64_t switch_mac(const uint8_t *p)
{
	uint64_t mac = 0;

	memcpy(&mac, p, 6);
	return mac;
}

/* The same of an address in an Ethernet header, behind which two more bytes may be read: one load instead of two that meet in
 * memory (which took 12 ns a packet). */
static inline uint64_t switch_mac_in_frame(const void *p)
{
	uint64_t mac;

	memcpy(&mac, p, 8);
	return rte_le_to_cpu_64(mac) & 0xffffffffffffull;
}

#endif
