/* fuzz_ctrl.c - requests of a control ring, one after the other, with the bytes of the pages that they name: whatever is accepted keeps
 * the bounds of ctrl.h, and hashing never points to a queue that is not there. */
#include "fuzz.h"
#include "netback/ctrl.h"

static void check_hash(const struct hash *h, unsigned queues)
{
	MUST(h->size <= HASH_MAPPING_MAX && !(h->flags & ~(uint32_t)HASH_TYPES));
	MUST(h->algorithm <= XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ);
	for (unsigned i = 0; i < HASH_MAPPING_MAX; i++)
		MUST(h->mapping[i] < queues);
	for (uint32_t v = 0; v < 200; v++)
		MUST(hash_queue(h, v * 0x01000193u, queues) < queues);
}

static void check_plan(const struct ctrl_plan *p, unsigned queues)
{
	MUST(p->bytes <= CTRL_BYTES_MAX);
	if (p->kind == CTRL_ANSWER) {
		MUST(!p->bytes && p->status <= XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW);
	} else if (p->kind != CTRL_HASH) {
		MUST(p->queue < queues && p->count <= CTRL_LIST_MAX);
		MUST(p->bytes == p->count * sizeof(struct xen_netif_gref));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	unsigned queues = 1 + take8(&in) % 16;
	struct hash h = { 0 };

	while (in.left) {
		struct xen_netif_ctrl_request req = { .type = take8(&in) % 13 };
		struct hash before = h;
		uint8_t bytes[CTRL_BYTES_MAX];
		struct ctrl_plan plan;
		void *page;

		for (int i = 0; i < 3; i++)
			req.data[i] = take8(&in) & 1 ? take8(&in) : take32(&in);
		memset(&plan, 0xa5, sizeof(plan)); /* nothing that was there before counts */
		ctrl_parse(&req, &h, queues, &plan);
		check_plan(&plan, queues);
		if (plan.kind != CTRL_HASH)
			continue;
		take_bytes(&in, bytes, plan.bytes);
		page = exact(bytes, plan.bytes);
		if (hash_request(&h, &req, page, queues) != XEN_NETIF_CTRL_STATUS_SUCCESS)
			MUST(!memcmp(&h, &before, sizeof(h)));
		check_hash(&h, queues);
		free(page);
	}
	return 0;
}
