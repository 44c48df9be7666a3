/* ctrl.h - what a guest may ask on its control ring (netif.h), and the receive hashing that it sets up there. Pure: nothing here
 * looks at shared memory. */
#ifndef NETBACK_CTRL_H
#define NETBACK_CTRL_H

#include <stdbool.h>
#include <stdint.h>
#include <xen/io/netif.h>

enum {
	HASH_KEY_MAX = 40, /* bytes: enough for 36 bytes of addresses and ports */
	HASH_MAPPING_MAX = 128, /* entries */
	HASH_TYPES = XEN_NETIF_CTRL_HASH_TYPE_IPV4 | XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP | XEN_NETIF_CTRL_HASH_TYPE_IPV6 |
		     XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP,
	STATIC_MAX = 512, /* static grants a queue: a page of each tx and rx slot */
	CTRL_LIST_MAX = 4096 / sizeof(struct xen_netif_gref), /* entries of a list: one page */
	CTRL_BYTES_MAX = 4096, /* that a request may have us copy */
};

/* How a guest wants its packets hashed. Zeroed: not at all. */
struct hash {
	uint32_t flags; /* XEN_NETIF_CTRL_HASH_TYPE_* */
	uint32_t key[HASH_KEY_MAX / 4]; /* words of the host, as rte_softrss_be takes them */
	uint16_t size; /* of mapping, 0: a queue is the hash modulo their number */
	uint8_t algorithm; /* XEN_NETIF_CTRL_HASH_ALGORITHM_* */
	uint8_t mapping[HASH_MAPPING_MAX];
};

static inline bool hash_is_on(const struct hash *h)
{
	return h->algorithm && h->flags;
}

/* The Toeplitz hash over n <= 9 words in the host's order. */
uint32_t hash_words(const struct hash *h, uint32_t *words, unsigned n);

/* The queue of a packet. value: 0 for one that was not hashed. */
static inline unsigned hash_queue(const struct hash *h, uint32_t value, unsigned queues)
{
	return h->size ? h->mapping[value % h->size] : value % queues;
}

enum ctrl_kind {
	CTRL_ANSWER, /* status and data are the answer */
	CTRL_HASH, /* hash_request does it */
	CTRL_STATIC_ADD, /* `count` entries of `queue` */
	CTRL_STATIC_DEL, /* ... and their status is written back */
};

/* What one request takes. */
struct ctrl_plan {
	enum ctrl_kind kind;
	uint32_t status, data; /* of the answer; CTRL_ANSWER alone */
	uint32_t gref; /* of the guest: the page whose first `bytes` bytes are to be copied here; 0 bytes: none */
	uint16_t bytes;
	uint16_t queue, count;
};

/* queues: that the vif has; now: its hashing. req is a private copy. */
void ctrl_parse(const struct xen_netif_ctrl_request *req, const struct hash *now, unsigned queues, struct ctrl_plan *out);

/* Carry out a CTRL_HASH request, with the private copy of the bytes that its plan named, on *h. Returns the status to answer; if that is
 * not XEN_NETIF_CTRL_STATUS_SUCCESS *h is as it was. */
uint32_t hash_request(struct hash *h, const struct xen_netif_ctrl_request *req, const void *bytes, unsigned queues);

#endif
