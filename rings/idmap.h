/* idmap.h - private: a small hash table from 64-bit keys (not 0) to pointers (not NULL), for control paths and warm ones.
 * Open addressing, at most half full. A zeroed struct is an empty table. One thread. */
#ifndef PV_IDMAP_H
#define PV_IDMAP_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

struct idmap {
	struct idmap_slot { uint64_t key; void *val; } *slots;
	uint32_t mask, used; /* slots - 1 */
};

static inline uint32_t idmap_home(const struct idmap *m, uint64_t key)
{
	return (uint32_t)((key * 0x9e3779b97f4a7c15) >> 32) & m->mask;
}

static inline void *idmap_get(const struct idmap *m, uint64_t key)
{
	uint32_t i;

	if (!m->used)
		return NULL;
	for (i = idmap_home(m, key); m->slots[i].key; i = (i + 1) & m->mask)
		if (m->slots[i].key == key)
			return m->slots[i].val;
	return NULL;
}

/* A key that is not in the table; room was reserved. */
static inline void idmap_put(struct idmap *m, uint64_t key, void *val)
{
	uint32_t i = idmap_home(m, key);

	while (m->slots[i].key)
		i = (i + 1) & m->mask;
	m->slots[i] = (struct idmap_slot){ key, val };
	m->used++;
}

/* Make room for n more keys, so that the next n puts cannot fail. Returns 0 or -ENOMEM. */
static inline int idmap_reserve(struct idmap *m, uint32_t n)
{
	struct idmap grown = { .mask = m->mask ? m->mask : 31 };
	uint32_t i;

	while ((m->used + n) * 2 > grown.mask + 1)
		grown.mask = grown.mask * 2 + 1;
	if (m->slots && grown.mask == m->mask)
		return 0;
	grown.slots = calloc(grown.mask + 1, sizeof(*grown.slots));
	if (!grown.slots)
		return -ENOMEM;
	for (i = 0; m->slots && i <= m->mask; i++)
		if (m->slots[i].key)
			idmap_put(&grown, m->slots[i].key, m->slots[i].val);
	free(m->slots);
	*m = grown;
	return 0;
}

static inline void idmap_del(struct idmap *m, uint64_t key)
{
	uint32_t i, j, home;

	if (!m->used)
		return;
	for (i = idmap_home(m, key); m->slots[i].key != key; i = (i + 1) & m->mask)
		if (!m->slots[i].key)
			return;
	/* Move what follows into the hole, unless its home lies behind the hole. */
	for (j = (i + 1) & m->mask; m->slots[j].key; j = (j + 1) & m->mask) {
		home = idmap_home(m, m->slots[j].key);
		if (((j - home) & m->mask) >= ((j - i) & m->mask)) {
			m->slots[i] = m->slots[j];
			i = j;
		}
	}
	m->slots[i] = (struct idmap_slot){ 0 };
	m->used--;
}

static inline void idmap_free(struct idmap *m)
{
	free(m->slots);
	*m = (struct idmap){ 0 };
}

#endif
