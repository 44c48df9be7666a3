/* store_page.h - XenStore's wire protocol (xen/io/xs_wire.h) in the ring at the head of a guest's store page.
 *
 * Requests of the guest are answered from its tree; its events are sent when there is room. One answer waits at most: while it
 * has no room in the ring, no further request is taken, so a guest that does not read stops nobody but itself. A guest that
 * breaks the protocol loses its connection, its watches and its transactions: the page's `error` says why, and nothing is
 * served until it asks for a reconnection. Its tree stays as it is.
 *
 * Pure but for the page being shared: no hypervisor, no loop, no clock. Nothing beyond the ring's own 2076 bytes is touched.
 * Thread rule: that of the tree.
 */
#ifndef STORE_PAGE_H
#define STORE_PAGE_H

#include "store_tree.h"

struct store_page;

struct store_page_ops {
	void (*notify)(void *ctx); /* the guest, once a turn at most */
	bool (*admit)(void *ctx, uint32_t bytes); /* may one more request, with a body that long, be served? false: later */
};

/* Serve a page, from where its indices are. Both stay the caller's, and outlive what this makes. Returns 0 or -ENOMEM. */
int store_page_new(void *page, struct store *tree, const struct store_page_ops *ops, void *ctx, struct store_page **out);
void store_page_free(struct store_page *sp); /* NULL is fine */

/* A turn: answer up to `budget` requests, send up to STORE_EVENTS_TURN events. Call it when the guest's event has come (and let
 * the next one come only after it has returned 0), and when the tree has events.
 * Returns 1: more waits; 0: nothing does, until one of these happens; -EPROTO, once: the connection was broken off just now,
 * store_page_why says why. */
enum { STORE_EVENTS_TURN = 256 };
int store_page_work(struct store_page *sp, unsigned budget);
const char *store_page_why(const struct store_page *sp);

struct store_page_stats {
	uint64_t requests, errors /* answered with one */, events, violations, reconnections;
};

const struct store_page_stats *store_page_stats(const struct store_page *sp);

#endif
