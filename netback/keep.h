/* keep.h - what a guest told beside its packets, in memory that outlives the process (the area of inflight.h): its multicast groups, and what it
 * set up by its control ring; and of the process, what its workers have. Pure: where the memory comes from, and who maps what, is known elsewhere.
 *
 * A SIGKILL ends a process between any two instructions, and what is here is whole at each: a multicast group is a word; all else is written
 * where nothing points to, and then one word shows it. That word shows with it how far the control ring's requests were carried out, and the
 * answer to the last one: so each is carried out once, whoever comes next.
 *
 *	carry out a request ──> keep_commit ──> write its answer into the ring ──> keep_answered ──> publish
 *	killed before keep_commit: it is carried out again, from the state before. Between keep_commit and keep_answered: it is answered again.
 */
#ifndef NETBACK_KEEP_H
#define NETBACK_KEEP_H

#include "ctrl.h"
#include <stddef.h>

enum { MCAST_MAX = 64 /* netif.h's, addresses a vif */ };

struct keep_state {
	uint32_t done; /* requests of the control ring that were carried out: all before this index */
	uint32_t lists; /* bit q: which of its lists is queue q's */
	struct xen_netif_ctrl_response answer; /* to the last that was carried out */
	struct hash hash;
};

/* Zeroed: nothing was told. Owner: the control thread; `group` is mcast.c's. */
struct keep {
	uint64_t group[MCAST_MAX]; /* atomic; 0: free */
	uint32_t answered; /* requests whose answers lie in the ring, published or not */
	uint32_t current; /* of state[] */
	struct keep_state state[2];
	struct keep_list {
		uint32_t nr;
		struct xen_netif_gref page[STATIC_MAX];
	} list[][2]; /* a queue's static grants */
};

/* Of the process: what a worker has of packets that are in no queue's log. Owner: the worker. adopt.c says in which order these are stored. */
struct worker_log {
	uint64_t posted, taken; /* packets that it gave to other workers, and those that it had of them; free-running */
	uint64_t held; /* from an uplink in this turn, or waiting for one */
	uint64_t reserved[5]; /* a cache line each */
};

static inline size_t keep_bytes(unsigned queues)
{
	return sizeof(struct keep) + queues * sizeof(((struct keep *)0)->list[0]);
}

bool keep_sound(const struct keep *k, unsigned queues); /* nobody but us wrote it */
const struct keep_state *keep_state(const struct keep *k);
const struct keep_list *keep_list(const struct keep *k, unsigned queue);
struct keep_list *keep_list_next(struct keep *k, unsigned queue); /* where another one is written, to be committed */
/* One more request was carried out, and all before the index `done`: this is its answer, and the hashing now. queue: the one whose next list
 * is valid from now on; -1: none. */
void keep_commit(struct keep *k, uint32_t done, const struct xen_netif_ctrl_response *answer, const struct hash *hash, int queue);
void keep_answered(struct keep *k, uint32_t answered); /* their answers are written, every byte; call before they are published */

#endif
