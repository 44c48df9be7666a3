/* fuzz_store.c - what a guest writes into its store page, into store_page.c and the tree behind it. The input is a program: `n` bytes
 * into the ring, an index set to anything, answers read, a change by domain 0. */
#include "fuzz.h"
#include "dom0-tools/store_page.h"
#include <xen/io/xs_wire.h>

enum { GUEST = 5, TAIL = 2076 };

static _Alignas(4096) uint8_t page[4096];

static void on_events(void *ctx) { (void)ctx; }
static void on_changed(void *ctx, const char *path, bool all) { (void)ctx, (void)path, (void)all; }
static void on_notify(void *ctx) { (void)ctx; }
static bool on_admit(void *ctx, uint32_t bytes) { (void)ctx, (void)bytes; return true; }

static void node(struct store *tree, const char *path, uint16_t owner)
{
	struct store_perms p = { .n = 2, .p = { { owner, 0 }, { GUEST, STORE_READ } } };

	MUST(!store_put(tree, (struct store_as){ 0 }, path, "x", 1, &p));
}

/* A whole message, header and body, as an honest kernel would frame it: or the fuzzer would hardly ever find one. */
static void put_message(struct xenstore_domain_interface *ring, struct input *in)
{
	struct xsd_sockmsg h = { .type = take8(in) % (XS_TYPE_COUNT + 1), .req_id = 1, .tx_id = take8(in) % 4, .len = take8(in) };
	uint8_t body[256], *at = (uint8_t *)&h;

	take_bytes(in, body, h.len);
	for (unsigned i = 0; i < sizeof(h) + h.len; i++)
		ring->req[ring->req_prod++ % XENSTORE_RING_SIZE] = (char)(i < sizeof(h) ? at[i] : body[i - sizeof(h)]);
}

static void act(struct xenstore_domain_interface *ring, struct store *tree, struct store_page *sp, struct input *in)
{
	uint8_t n;

	switch (take8(in) % 8) {
	case 0:
	case 1:
	case 2:
		put_message(ring, in);
		break;
	case 3:
		for (n = take8(in); n--;)
			ring->req[ring->req_prod++ % XENSTORE_RING_SIZE] = (char)take8(in);
		break;
	case 4:
		*(take8(in) & 1 ? &ring->req_prod : &ring->rsp_cons) += take32(in);
		break;
	case 5:
		ring->rsp_cons = ring->rsp_prod;
		break;
	case 6:
		node(tree, "/local/domain/5/device/vif/0/x", 0);
		store_rm(tree, (struct store_as){ 0 }, "/local/domain/5/device/vif");
		break;
	default:
		ring->connection = take8(in) % 3;
	}
	for (n = 0; store_page_work(sp, 4) > 0; n++)
		MUST(n < 255); /* it comes to rest, whatever the guest wrote */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct store_ops tree_ops = { on_events, on_changed };
	static const struct store_page_ops page_ops = { on_notify, on_admit };
	struct xenstore_domain_interface *ring = (void *)page;
	struct input in = { data, size };
	struct store_usage u;
	struct store_page *sp;
	struct store *tree;

	memset(page, 0, TAIL);
	memset(page + TAIL, 0xa5, sizeof(page) - TAIL);
	MUST(!store_new(GUEST, NULL, &tree_ops, NULL, &tree));
	node(tree, "/local/domain/5", 0);
	node(tree, "/local/domain/5/data", GUEST);
	node(tree, "/local/domain/5/device/vif/0", GUEST);
	MUST(!store_page_new(page, tree, &page_ops, NULL, &sp));
	while (in.left)
		act(ring, tree, sp, &in);
	store_usage(tree, &u);
	MUST(u.nodes <= 1000 + 2 && u.watches <= 128 && u.transactions <= 10 && u.memory <= 5u << 19);
	for (unsigned i = TAIL; i < sizeof(page); i++)
		MUST(page[i] == 0xa5);
	store_page_free(sp);
	store_free(tree);
	return 0;
}
