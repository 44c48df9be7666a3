/* hash.c - receive hashing as a guest sets it up: Toeplitz over addresses and, for TCP, ports; a table from hash to queue. Pure but for
 * DPDK's header of the hash itself. */
#include "ctrl.h"
#include <rte_thash.h>
#include <string.h>

enum { OK = XEN_NETIF_CTRL_STATUS_SUCCESS, INVALID = XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER };

uint32_t hash_words(const struct hash *h, uint32_t *words, unsigned n)
{
	return rte_softrss_be(words, n, (const uint8_t *)h->key);
}

/* Octets that the guest does not give are zero. */
static uint32_t set_key(struct hash *h, const void *bytes, uint32_t len)
{
	uint8_t key[HASH_KEY_MAX] = { 0 };

	if (len)
		memcpy(key, bytes, len);
	for (unsigned i = 0; i < HASH_KEY_MAX / 4; i++)
		h->key[i] = (uint32_t)key[4 * i] << 24 | (uint32_t)key[4 * i + 1] << 16 | (uint32_t)key[4 * i + 2] << 8 | key[4 * i + 3];
	return OK;
}

static uint32_t set_size(struct hash *h, uint32_t size)
{
	if (size > HASH_MAPPING_MAX)
		return INVALID;
	memset(h->mapping, 0, sizeof(h->mapping));
	h->size = (uint16_t)size;
	return OK;
}

static uint32_t set_mapping(struct hash *h, const uint32_t *queue, uint32_t n, uint32_t at, unsigned queues)
{
	for (uint32_t i = 0; i < n; i++)
		if (queue[i] >= queues)
			return INVALID;
	for (uint32_t i = 0; i < n; i++)
		h->mapping[at + i] = (uint8_t)queue[i];
	return OK;
}

static uint32_t set_flags(struct hash *h, uint32_t flags)
{
	if (!h->algorithm || flags & ~(uint32_t)HASH_TYPES)
		return INVALID;
	h->flags = flags;
	return OK;
}

static uint32_t set_algorithm(struct hash *h, uint32_t algorithm)
{
	if (algorithm > XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ)
		return INVALID;
	h->algorithm = (uint8_t)algorithm;
	return OK;
}

uint32_t hash_request(struct hash *h, const struct xen_netif_ctrl_request *req, const void *bytes, unsigned queues)
{
	switch (req->type) {
	case XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS:
		return set_flags(h, req->data[0]);
	case XEN_NETIF_CTRL_TYPE_SET_HASH_KEY:
		return set_key(h, bytes, req->data[1]);
	case XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE:
		return set_size(h, req->data[0]);
	case XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING:
		return set_mapping(h, bytes, req->data[1], req->data[2], queues);
	case XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM:
		return set_algorithm(h, req->data[0]);
	default:
		return XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED;
	}
}
