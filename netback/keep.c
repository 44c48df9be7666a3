/* keep.c - the state behind a control ring, two of everything and one word that says which counts. See keep.h. */
#include "keep.h"

const struct keep_state *keep_state(const struct keep *k)
{
	return &k->state[k->current & 1];
}

static unsigned which(const struct keep *k, unsigned queue)
{
	return keep_state(k)->lists >> queue & 1;
}

const struct keep_list *keep_list(const struct keep *k, unsigned queue)
{
	return &k->list[queue][which(k, queue)];
}

struct keep_list *keep_list_next(struct keep *k, unsigned queue)
{
	return &k->list[queue][!which(k, queue)];
}

void keep_commit(struct keep *k, uint32_t done, const struct xen_netif_ctrl_response *answer, const struct hash *hash, int queue)
{
	uint32_t next = !(k->current & 1);

	k->state[next] = (struct keep_state){
		.done = done,
		.lists = keep_state(k)->lists ^ (queue < 0 ? 0 : 1u << queue),
		.answer = *answer,
		.hash = *hash,
	};
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* the order of the program is all that counts, as in inflight.h */
	__atomic_store_n(&k->current, next, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void keep_answered(struct keep *k, uint32_t answered)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&k->answered, answered, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

bool keep_sound(const struct keep *k, unsigned queues)
{
	const struct keep_state *s = keep_state(k);
	bool sound = s->done - k->answered <= 1 && s->hash.size <= HASH_MAPPING_MAX;

	for (unsigned i = 0; i < HASH_MAPPING_MAX; i++)
		sound &= s->hash.mapping[i] < queues;
	for (unsigned q = 0; q < queues; q++)
		sound &= keep_list(k, q)->nr <= STATIC_MAX;
	return sound;
}
