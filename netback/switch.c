/* switch.c - a learning layer-2 switch.
 *
 * Theory of operation. One hash table, VLAN and address -> position; entry[position] is one atomic word {port, pinned, last seen}.
 * All workers look up without a lock (rte_hash's lock-free mode). Whoever wants to change the table takes `lock`; a worker only
 * tries, and when another is at it, it does not learn from this packet: the next will do. Only the control thread deletes, and the
 * positions are used again after every worker has passed between two turns (switch_reclaim), so a reader never sees a
 * position change hands under it. `version` counts the changes: a worker's cache of answers is void when it moved.
 *
 * Bounds: each port may teach a fixed number of addresses, and the table is larger than their sum, so that a guest that invents
 * addresses fills its own share and nobody else's. The hash is seeded: a guest cannot choose addresses that collide.
 * An address that dom0 gave a vif is pinned to it: no other port can take it by sending from it. An address is in a VLAN; that of a trunk
 * is pinned once, in VLAN_ANY, and is looked for there when its VLAN does not know it. */
#include "netback.h"
#include <rte_hash.h>
#include <rte_jhash.h>
#include <rte_random.h>
#include <rte_spinlock.h>

_Static_assert((SWITCH_PORTS - 1) * (SWITCH_LEARN_VIF + 1) + SWITCH_LEARN_UPLINK < SWITCH_ENTRIES * 9 / 10,
	       "room for everyone's share");

static const uint64_t MAC_BITS = 0xffffffffffffull; /* of a key; above is its VLAN */

/* Owner: control thread made it and frees it. Fields: who writes them is said above. */
struct l2switch {
	struct rte_hash *table;
	uint32_t version; /* atomic */
	int ports; /* atomic: all that were added are below */
	rte_spinlock_t lock; /* guards changes of the table, count and dead */
	unsigned trunks; /* atomic: addresses pinned in VLAN_ANY */
	unsigned nr_dead;
	struct {
		void *dest; /* atomic */
		const struct vlans *vlans; /* NULL: none */
		bool used;
		uint64_t pinned; /* 0: none */
		unsigned count; /* learned */
	} port[SWITCH_PORTS];
	int32_t dead[SWITCH_ENTRIES]; /* deleted positions, to be used again */
	uint64_t entry[SWITCH_ENTRIES + 1]; /* atomic */
};

/* An empty word is of port SWITCH_UNKNOWN. */
static uint64_t entry_make(int port, bool pinned, uint32_t seen)
{
	return (uint64_t)(port + 1) << 48 | (uint64_t)pinned << 32 | seen;
}

static int entry_port(uint64_t e)
{
	return (int)(e >> 48) - 1;
}

static bool entry_pinned(uint64_t e)
{
	return e >> 32 & 1;
}

int switch_new(const char *name, struct l2switch **out)
{
	const struct rte_hash_parameters p = {
		.name = name,
		.entries = SWITCH_ENTRIES,
		.key_len = sizeof(uint64_t),
		.hash_func = rte_jhash,
		.hash_func_init_val = (uint32_t)rte_rand(),
		.socket_id = SOCKET_ID_ANY,
		.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF,
	};
	struct l2switch *sw = calloc(1, sizeof(*sw));

	*out = NULL;
	if (!sw)
		return -ENOMEM;
	sw->table = rte_hash_create(&p);
	if (!sw->table) {
		free(sw);
		return -ENOMEM;
	}
	rte_spinlock_init(&sw->lock);
	sw->port[SWITCH_UPLINK].used = true;
	sw->ports = 1;
	sw->version = 1; /* the slots of an empty cache are of version 0 */
	*out = sw;
	return 0;
}

void switch_free(struct l2switch *sw)
{
	if (!sw)
		return;
	rte_hash_free(sw->table);
	free(sw);
}

int switch_port_add(struct l2switch *sw)
{
	for (int i = 1; i < SWITCH_PORTS; i++) {
		if (sw->port[i].used)
			continue;
		sw->port[i].used = true;
		if (i >= sw->ports)
			__atomic_store_n(&sw->ports, i + 1, __ATOMIC_RELEASE); /* pairs with switch_ports */
		return i;
	}
	return -ENOSPC;
}

void switch_port_del(struct l2switch *sw, int port)
{
	sw->port[port].used = false;
}

void switch_port_open(struct l2switch *sw, int port, void *dest)
{
	__atomic_store_n(&sw->port[port].dest, dest, __ATOMIC_RELEASE); /* pairs with switch_dest: what dest points to is ready */
}

void switch_port_vlans(struct l2switch *sw, int port, const struct vlans *vlans)
{
	sw->port[port].vlans = vlans;
}

bool switch_member(const struct l2switch *sw, int port, unsigned vlan)
{
	if (port == SWITCH_UPLINK)
		return true;
	return sw->port[port].vlans ? vlan_member(sw->port[port].vlans, vlan) : !vlan;
}

void switch_port_close(struct l2switch *sw, int port)
{
	switch_port_open(sw, port, NULL);
}

void *switch_dest(struct l2switch *sw, int port)
{
	return __atomic_load_n(&sw->port[port].dest, __ATOMIC_ACQUIRE); /* pairs with switch_port_open */
}

int switch_ports(struct l2switch *sw)
{
	return __atomic_load_n(&sw->ports, __ATOMIC_ACQUIRE); /* pairs with switch_port_add */
}

/* With the lock. Whoever holds a cached answer of an older version asks again. */
static void changed(struct l2switch *sw)
{
	__atomic_store_n(&sw->version, sw->version + 1, __ATOMIC_RELEASE); /* pairs with version_get */
}

static void entry_set(struct l2switch *sw, int32_t pos, uint64_t e)
{
	__atomic_store_n(&sw->entry[pos], e, __ATOMIC_RELAXED); /* one word, complete in itself */
}

static uint64_t entry_get(struct l2switch *sw, int32_t pos)
{
	return __atomic_load_n(&sw->entry[pos], __ATOMIC_RELAXED);
}

/* With the lock. The entry is written right after its key: a reader in between finds an empty word, as for an unknown address. */
static int entry_add(struct l2switch *sw, uint64_t mac, uint64_t e)
{
	int32_t pos = rte_hash_add_key(sw->table, &mac);

	if (pos < 0)
		return pos;
	entry_set(sw, pos, e);
	changed(sw);
	return 0;
}

/* With the lock. */
static void entry_del(struct l2switch *sw, uint64_t mac)
{
	int32_t pos = rte_hash_del_key(sw->table, &mac);

	if (pos < 0)
		return;
	entry_set(sw, pos, 0);
	sw->dead[sw->nr_dead++] = pos;
	changed(sw);
}

/* Which entries to delete; each function looks at what it needs. */
struct which {
	bool (*match)(struct l2switch *sw, const struct which *w, uint64_t key, uint64_t e);
	int port;
	uint32_t now;
	uint64_t mac;
};

/* With the lock: delete the entries that match. Iterating skips deleted keys and bears deletion of the one just given. */
static unsigned delete_if(struct l2switch *sw, const struct which *w)
{
	const void *p;
	void *data;
	uint32_t next = 0;
	unsigned n = 0;
	int32_t pos;

	while ((pos = rte_hash_iterate(sw->table, &p, &data, &next)) >= 0) {
		uint64_t e = entry_get(sw, pos), key;

		memcpy(&key, p, sizeof(key));
		if (!w->match(sw, w, key, e))
			continue;
		if (!entry_pinned(e))
			sw->port[entry_port(e)].count--;
		entry_del(sw, key);
		n++;
	}
	return n;
}

static bool of_port(struct l2switch *sw, const struct which *w, uint64_t key, uint64_t e)
{
	(void)sw, (void)key;
	return entry_port(e) == w->port;
}

static bool too_old(struct l2switch *sw, const struct which *w, uint64_t key, uint64_t e)
{
	(void)sw, (void)key;
	return !entry_pinned(e) && (int32_t)(w->now - (uint32_t)e) > SWITCH_AGE;
}

/* Learned, in a VLAN of the port that the address is to belong to. */
static bool taken(struct l2switch *sw, const struct which *w, uint64_t key, uint64_t e)
{
	return !entry_pinned(e) && !((key ^ w->mac) & MAC_BITS) && switch_member(sw, w->port, (unsigned)(key >> 48));
}

static bool in_any_vlan(uint64_t mac)
{
	return mac >> 48 == VLAN_ANY;
}

/* The port to which an address belongs in this VLAN because it does in all of that port's. */
static int trunk_port(struct l2switch *sw, uint64_t mac)
{
	uint64_t any = switch_key(VLAN_ANY, mac & MAC_BITS);
	int32_t pos;
	int port;

	if (likely(!__atomic_load_n(&sw->trunks, __ATOMIC_RELAXED)))
		return SWITCH_UNKNOWN;
	pos = rte_hash_lookup(sw->table, &any);
	port = pos >= 0 ? entry_port(entry_get(sw, pos)) : SWITCH_UNKNOWN;
	return port != SWITCH_UNKNOWN && switch_member(sw, port, (unsigned)(mac >> 48)) ? port : SWITCH_UNKNOWN;
}

int switch_pin(struct l2switch *sw, int port, uint64_t mac)
{
	int ret = 0, pos;

	rte_spinlock_lock(&sw->lock);
	if (in_any_vlan(mac))
		delete_if(sw, &(struct which){ .match = taken, .port = port, .mac = mac });
	pos = rte_hash_lookup(sw->table, &mac);
	if (pos >= 0) {
		uint64_t e = entry_get(sw, pos);

		if (entry_pinned(e) && entry_port(e) != port) {
			ret = -EEXIST;
		} else {
			if (!entry_pinned(e))
				sw->port[entry_port(e)].count--; /* somebody taught it before it had an owner */
			entry_set(sw, pos, entry_make(port, true, 0));
			changed(sw);
		}
	} else {
		ret = entry_add(sw, mac, entry_make(port, true, 0));
	}
	if (!ret) {
		sw->port[port].pinned = mac;
		__atomic_store_n(&sw->trunks, sw->trunks + in_any_vlan(mac), __ATOMIC_RELAXED); /* the entry's version orders it */
	}
	rte_spinlock_unlock(&sw->lock);
	return ret;
}

void switch_flush(struct l2switch *sw, int port)
{
	rte_spinlock_lock(&sw->lock);
	if (sw->port[port].count)
		delete_if(sw, &(struct which){ .match = of_port, .port = port });
	else if (sw->port[port].pinned) /* the common case, without a walk through the table */
		entry_del(sw, sw->port[port].pinned);
	__atomic_store_n(&sw->trunks, sw->trunks - in_any_vlan(sw->port[port].pinned), __ATOMIC_RELAXED);
	sw->port[port].pinned = 0;
	rte_spinlock_unlock(&sw->lock);
}

unsigned switch_age(struct l2switch *sw, uint32_t now)
{
	unsigned n = 0, learned = 0;

	rte_spinlock_lock(&sw->lock);
	for (int i = 0; i < sw->ports; i++)
		learned += sw->port[i].count;
	if (learned)
		n = delete_if(sw, &(struct which){ .match = too_old, .now = now });
	rte_spinlock_unlock(&sw->lock);
	return n;
}

void switch_reclaim(struct l2switch *sw)
{
	rte_spinlock_lock(&sw->lock);
	while (sw->nr_dead)
		rte_hash_free_key_with_position(sw->table, sw->dead[--sw->nr_dead]);
	rte_spinlock_unlock(&sw->lock);
}

unsigned switch_count(struct l2switch *sw, int port)
{
	unsigned n;

	rte_spinlock_lock(&sw->lock);
	n = sw->port[port].count;
	rte_spinlock_unlock(&sw->lock);
	return n;
}

unsigned switch_list(struct l2switch *sw, int port, uint64_t *macs, unsigned max)
{
	const void *key;
	void *data;
	uint32_t next = 0;
	unsigned n = 0;
	int32_t pos;

	rte_spinlock_lock(&sw->lock);
	while (n < max && (pos = rte_hash_iterate(sw->table, &key, &data, &next)) >= 0)
		if (entry_port(entry_get(sw, pos)) == port)
			memcpy(&macs[n++], key, sizeof(*macs));
	rte_spinlock_unlock(&sw->lock);
	return n;
}

static unsigned cache_slot(uint64_t mac)
{
	return (unsigned)(mac * 0x9e3779b97f4a7c15ull >> 56) % SWITCH_CACHE;
}

/* To be read before the table, so that an answer put into the cache is void if the table changed since. */
static uint32_t version_get(struct l2switch *sw)
{
	return __atomic_load_n(&sw->version, __ATOMIC_ACQUIRE); /* pairs with changed */
}

static void cache_put(struct switch_cache *c, uint32_t version, uint64_t mac, int port, uint32_t seen)
{
	unsigned i = cache_slot(mac);

	c->slot[i].mac = mac;
	c->slot[i].version = version;
	c->slot[i].port = port;
	c->slot[i].seen = seen;
}

/* With the lock: a new address, or one that moved. */
static bool learn_locked(struct l2switch *sw, int port, uint64_t mac, uint32_t now)
{
	unsigned bound = port == SWITCH_UPLINK ? SWITCH_LEARN_UPLINK : SWITCH_LEARN_VIF;
	int32_t pos = rte_hash_lookup(sw->table, &mac);
	uint64_t e = pos >= 0 ? entry_get(sw, pos) : 0;

	if (pos >= 0 && (entry_pinned(e) || entry_port(e) == port))
		return entry_port(e) == port;
	if (trunk_port(sw, mac) != SWITCH_UNKNOWN)
		return trunk_port(sw, mac) == port;
	if (sw->port[port].count >= bound)
		return false;
	if (pos >= 0) {
		sw->port[entry_port(e)].count--;
		entry_set(sw, pos, entry_make(port, false, now));
		changed(sw);
	} else if (entry_add(sw, mac, entry_make(port, false, now)) < 0) {
		return false;
	}
	sw->port[port].count++;
	return true;
}

bool switch_learn(struct l2switch *sw, struct switch_cache *c, int port, uint64_t mac, uint32_t now)
{
	uint32_t version = version_get(sw);
	unsigned i = cache_slot(mac);
	bool learned = true;
	int32_t pos;
	uint64_t e;

	if (likely(c->slot[i].mac == mac && c->slot[i].version == version && c->slot[i].port == port &&
		   c->slot[i].seen == now))
		return true;
	pos = rte_hash_lookup(sw->table, &mac);
	e = pos >= 0 ? entry_get(sw, pos) : 0;
	if (pos >= 0 && entry_port(e) == port) {
		/* Only the time is new. Whoever moved or pinned the address meanwhile has precedence. */
		if (!entry_pinned(e) && (uint32_t)e != now)
			__atomic_compare_exchange_n(&sw->entry[pos], &e, entry_make(port, false, now), false, __ATOMIC_RELAXED,
						    __ATOMIC_RELAXED);
		cache_put(c, version, mac, port, now);
		return true;
	}
	if (rte_spinlock_trylock(&sw->lock)) {
		learned = learn_locked(sw, port, mac, now);
		rte_spinlock_unlock(&sw->lock);
	}
	return learned;
}

int switch_lookup(struct l2switch *sw, struct switch_cache *c, uint64_t mac)
{
	uint32_t version = version_get(sw);
	unsigned i = cache_slot(mac);
	int32_t pos;
	int port;

	if (likely(c->slot[i].mac == mac && c->slot[i].version == version))
		return c->slot[i].port;
	pos = rte_hash_lookup(sw->table, &mac);
	port = pos >= 0 ? entry_port(entry_get(sw, pos)) : trunk_port(sw, mac);
	cache_put(c, version, mac, port, 0); /* that it is unknown is an answer too, until the table changes */
	return port;
}
