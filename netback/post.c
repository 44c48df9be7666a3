/* post.c - packets for a queue, or the uplink, that another worker owns: a ring at each worker, filled by all the others.
 *
 * An entry names its queue by bridge, switch port and generation, not by pointer: the device may be gone when it is taken out. While a ring is full packets
 * wait with the worker that sends them, some of each sender (fair.c): whoever sends too much drops its own. */
#include "netback.h"
#include <rte_atomic.h>
#include <rte_cycles.h>
#include <rte_ring_elem.h>
#include <sys/eventfd.h>
#include <unistd.h>

_Static_assert(sizeof(struct post) == 16, "an element of rte_ring");

int post_new(struct nb_worker *w)
{
	char name[32];

	snprintf(name, sizeof(name), "posts%u", w->index);
	w->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (w->kick_fd < 0)
		return -errno;
	w->posts = rte_ring_create_elem(name, sizeof(struct post), NB_POST_RING, SOCKET_ID_ANY, RING_F_SC_DEQ);
	w->post_wait = calloc(w->nb->opt.workers, sizeof(*w->post_wait));
	return w->posts && w->post_wait ? 0 : -ENOMEM;
}

void post_free(struct nb_worker *w)
{
	struct post p;

	while (w->posts && rte_ring_sc_dequeue_elem(w->posts, &p, sizeof(p)) == 0)
		rte_pktmbuf_free(p.m);
	rte_ring_free(w->posts);
	w->posts = NULL;
	for (unsigned i = 0; w->post_wait && i < w->nb->opt.workers; i++)
		while (w->post_wait[i].n)
			rte_pktmbuf_free(w->post_wait[i].p[--w->post_wait[i].n].m);
	free(w->post_wait);
	w->post_wait = NULL;
	if (w->kick_fd >= 0)
		close(w->kick_fd);
	w->kick_fd = -1;
}

/* Something was put into its ring. */
static void wake(struct nb_worker *from, struct nb_worker *to)
{
	uint64_t one = 1;

	/* Enqueue, then look whether it sleeps; post_may_sleep says that it sleeps, then looks into the ring: one sees the other. */
	rte_smp_mb();
	if (__atomic_load_n(&to->asleep, __ATOMIC_RELAXED) && __atomic_exchange_n(&to->asleep, false, __ATOMIC_RELAXED) &&
	    write(to->kick_fd, &one, sizeof(one)) < 0)
		from->post_full++; /* impossible but for a full counter, and then it is awake */
}

/* Its ring is full, or was and others wait already. */
static void wait_for_room(struct nb_worker *from, struct post_wait *wait, const struct post *p)
{
	uint8_t account = wait->n < POST_WAITING ? fair_take(&wait->fair, p->m, 1, POST_WAITING) : 0;

	if (!account) {
		from->log->posted--;
		from->post_full++;
		rte_pktmbuf_free(p->m);
		return;
	}
	from->posts_wait = true;
	wait->account[wait->n] = account;
	wait->p[wait->n++] = *p;
}

void post_send(struct nb_worker *from, struct nb_worker *to, const struct post *p)
{
	struct post_wait *wait = &from->post_wait[to->index];

	from->log->posted++; /* before it is in the ring: that is a store with release order */
	if (likely(!wait->n) && likely(rte_ring_mp_enqueue_elem(to->posts, (void *)(uintptr_t)p, sizeof(*p)) == 0))
		wake(from, to);
	else
		wait_for_room(from, wait, p);
}

void post_again(struct nb_worker *w)
{
	w->posts_wait = false;
	for (unsigned i = 0; i < w->nb->nr_workers; i++) {
		struct post_wait *wait = &w->post_wait[i];
		unsigned n;

		if (!wait->n)
			continue;
		n = rte_ring_mp_enqueue_burst_elem(w->nb->workers[i]->posts, wait->p, sizeof(wait->p[0]), wait->n, NULL);
		if (n)
			wake(w, w->nb->workers[i]);
		for (unsigned j = 0; j < n; j++)
			fair_leave(&wait->fair, wait->account[j], 1);
		wait->n -= n;
		memmove(wait->p, wait->p + n, wait->n * sizeof(wait->p[0]));
		memmove(wait->account, wait->account + n, wait->n);
		w->posts_wait |= wait->n > 0;
	}
}

bool post_may_sleep(struct nb_worker *w)
{
	__atomic_store_n(&w->asleep, true, __ATOMIC_RELAXED);
	rte_smp_mb(); /* pairs with post_send */
	if (rte_ring_empty(w->posts))
		return true;
	post_woke(w, false);
	return false;
}

void post_woke(struct nb_worker *w, bool kicked)
{
	uint64_t count;

	__atomic_store_n(&w->asleep, false, __ATOMIC_RELAXED); /* a sender that still sees true kicks once for nothing */
	while (kicked && read(w->kick_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

/* Whoever it is for is gone. */
static void drop(struct nb_worker *w, struct rte_mbuf *m)
{
	w->left += w->leaving;
	rte_pktmbuf_free(m);
}

void post_take(struct nb_worker *w)
{
	struct post p[NB_BURST];
	unsigned n = rte_ring_sc_dequeue_burst_elem(w->posts, p, sizeof(p[0]), NB_BURST, NULL);

	w->taken += n;
	for (unsigned i = 0; i < n; i++) {
		struct vif *vif;

		struct bridge *b = &w->nb->bridge[p[i].bridge];

		if (p[i].port == SWITCH_UPLINK) {
			if (likely(b->generation == p[i].generation))
				uplink_put(w, &w->up[b->index], &p[i].m, 1);
			else
				drop(w, p[i].m); /* another has its place */
			continue;
		}
		vif = b->generation ? switch_dest(b->sw, p[i].port) : NULL;
		if (vif && vif->generation == p[i].generation && p[i].queue < vif->nr_queues && vif->queues[p[i].queue].worker == w)
			backlog_push(&vif->queues[p[i].queue], &p[i].m, 1);
		else
			drop(w, p[i].m);
	}
}
