/* turn.c - a worker's life: turns while there is work, then sleep.
 *
 * Theory of operation. One turn: packets from the uplink and from other workers; the slots that active guests sent, copied in
 * batches, answered and switched; what the switch put into receive queues, copied in one batch; then each queue publishes and
 * notifies once. Only active queues are looked at, so idle guests cost nothing. A queue with nothing to do re-arms its rings, is
 * unmasked and rests; with no active queue the worker sleeps in one epoll set: event channels, mailbox, other workers' kicks and
 * the uplink's descriptor. An uplink without one is looked at every IDLE_US. */
#include "netback.h"
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mempool.h>
#include <rte_pause.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { IDLE_US = 500, EVENTS_US = 20, SHARE_US = 1000 /* to count what is free is to look into the caches of 128 possible threads */ };
enum { WAKE_EVENTS = 1, WAKE_MAILBOX, WAKE_KICK, WAKE_UPLINK /* and more: of the bridge with that index */ };

static uint64_t us_to_tsc(const struct nb_worker *w, uint64_t us)
{
	return w->nb->tsc_second / 1000000 * us;
}

void turn_unmask(struct nb_worker *w, uint32_t port)
{
	w->unmask[w->nr_unmask++] = port;
	if (w->nr_unmask == RTE_DIM(w->unmask)) {
		pv_evt_unmask(w->h, w->unmask, w->nr_unmask);
		w->nr_unmask = 0;
	}
}

void turn_no_memory(struct nb_worker *w)
{
	w->no_memory++;
	if (!__atomic_exchange_n(&w->nb->no_memory, true, __ATOMIC_RELAXED)) /* the control thread tells, now and then */
		netback_wake(w->nb);
}

static void take_events(struct nb_worker *w)
{
	uint32_t ports[64];
	int n;

	w->events_at = w->tsc;
	do {
		n = pv_evt_pending(w->h, ports, RTE_DIM(ports));
		for (int i = 0; i < n; i++) {
			struct vif_queue *q = ports[i] < w->nr_ports ? w->by_port[ports[i]] : NULL;

			if (!q)
				continue; /* just unbound */
			q->n.events++;
			q->masked |= (ports[i] == q->tx_port) | (ports[i] == q->rx_port) << 1;
			q->woken |= q->state != VIF_ACTIVE;
			if (q->state != VIF_PENANCE)
				queue_activate(q);
		}
	} while (n == RTE_DIM(ports));
	if (n < 0 && !__atomic_exchange_n(&w->nb->ended, true, __ATOMIC_RELAXED))
		netback_wake(w->nb);
}

/* End of a turn for one queue: show the guest what was done, wake it at most once a port, and rest if there was nothing. */
static void finish(struct vif_queue *q)
{
	struct nb_worker *w = q->worker;
	bool tx, rx;

	adopt_log_turn(q);
	tx = pv_ring_publish(&q->tx);
	rx = pv_ring_publish(&q->rx);
	if (tx || (rx && q->rx_port == q->tx_port)) {
		pv_evt_notify(w->h, q->tx_port);
		q->n.notifies++;
	}
	if (rx && q->rx_port != q->tx_port) {
		pv_evt_notify(w->h, q->rx_port);
		q->n.notifies++;
	}
	if (likely(q->worked && !q->broken)) {
		q->worked = q->woken = false;
		q->last = w->tsc;
		w->spent = NB_SPENT_BUSY;
	} else if (q->broken || q->tx_until || q->rx_until || w->tsc - q->last >= w->nb->poll_tsc) {
		queue_rest(q);
	}
}

static void look_later(struct nb_worker *w)
{
	struct vif_queue *q, *next;

	for (q = TAILQ_FIRST(&w->later); q; q = next) {
		next = TAILQ_NEXT(q, link);
		if ((int64_t)(w->tsc - q->later_at) >= 0)
			queue_later(q);
	}
}

static void look_around(struct nb_worker *w)
{
	uint64_t now = rte_rdtsc();

	w->cycles[w->spent] += now - w->tsc;
	w->spent = NB_SPENT_IDLE;
	w->tsc = now;
	w->turns++;
	if (w->tsc - w->events_at >= us_to_tsc(w, EVENTS_US)) {
		take_events(w);
		w->now = (uint32_t)(w->tsc / w->nb->tsc_second);
	}
	if (w->tsc - w->share_at >= us_to_tsc(w, SHARE_US)) {
		uint64_t share = (uint64_t)rte_mempool_avail_count(w->nb->pool) * w->nb->seg_cost / NB_BACKLOG_SHARE;

		w->share = (uint32_t)RTE_MIN(share, (uint64_t)NB_BACKLOG_BYTES);
		w->uncontended = w->share / NB_UNCONTENDED;
		w->share_at = w->tsc;
		if (unlikely(share < NB_BACKLOG_BYTES) && w->tsc - w->reclaim_at >= w->nb->tsc_second / 10) {
			w->reclaim_at = w->tsc;
			backlog_reclaim(w);
		}
	}
	if (!TAILQ_EMPTY(&w->later))
		look_later(w);
}

static void turn(struct nb_worker *w)
{
	struct vif_queue *q, *next;

	look_around(w);
	w->contended = !TAILQ_EMPTY(&w->active) && TAILQ_FIRST(&w->active)->vif != TAILQ_LAST(&w->active, queues)->vif;
	for (unsigned i = 0; i < w->nr_up && !w->leaving; i++)
		uplink_poll(w, &w->up[i]);
	if (unlikely(w->posts_wait))
		post_again(w);
	post_take(w);
	if (likely(!w->leaving))
		TAILQ_FOREACH(q, &w->active, link)
			tx_work(q);
	tx_finish(w);
	TAILQ_FOREACH(q, &w->active, link) {
		rx_plan(q);
		q->rx_log->waiting = q->tail - q->head; /* before finish() answers for what is in there */
	}
	adopt_log_worker(w);
	rx_finish(w);
	for (q = TAILQ_FIRST(&w->active); q; q = next) {
		next = TAILQ_NEXT(q, link);
		finish(q);
	}
	q = TAILQ_FIRST(&w->active); /* the next turn begins with another: its arrays may not suffice for all */
	if (q && TAILQ_NEXT(q, link)) {
		TAILQ_REMOVE(&w->active, q, link);
		TAILQ_INSERT_TAIL(&w->active, q, link);
	}
	if (w->nr_unmask)
		pv_evt_unmask(w->h, w->unmask, w->nr_unmask);
	w->nr_unmask = 0;
}

/* How long to sleep if nothing happens; NULL: for ever. */
static const struct timespec *sleep_limit(struct nb_worker *w, struct timespec *ts)
{
	uint64_t us = UINT64_MAX;
	struct vif_queue *q;

	for (unsigned i = 0; i < w->nr_up; i++)
		if (w->up[i].ours && w->up[i].intr_fd < 0)
			us = IDLE_US;
	TAILQ_FOREACH(q, &w->later, link) {
		uint64_t left = q->later_at > w->tsc ? (q->later_at - w->tsc) * 1000000 / w->nb->tsc_second + 1 : 0;

		us = RTE_MIN(us, left);
	}
	if (us == UINT64_MAX)
		return NULL;
	*ts = (struct timespec){ .tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000 * 1000) };
	return ts;
}

static void sleep_for_work(struct nb_worker *w)
{
	struct epoll_event ev[4];
	struct timespec ts;
	bool kicked = false;
	int n;

	if (!post_may_sleep(w))
		return;
	w->sleeps++;
	w->spent = NB_SPENT_ASLEEP;
	n = epoll_pwait2(w->epoll_fd, ev, RTE_DIM(ev), sleep_limit(w, &ts), NULL);
	for (int i = 0; i < n; i++) {
		kicked |= ev[i].data.u32 == WAKE_KICK;
		if (ev[i].data.u32 == WAKE_EVENTS)
			w->events_at = 0; /* look at once */
		if (ev[i].data.u32 >= WAKE_UPLINK)
			w->up[ev[i].data.u32 - WAKE_UPLINK].more = true;
	}
	post_woke(w, kicked);
}

static int watch(struct nb_worker *w, int fd, uint32_t what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = what };

	return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int turn_watch_uplink(struct nb_worker *w, unsigned bridge, int fd)
{
	return watch(w, fd, WAKE_UPLINK + bridge);
}

/* A DPDK driver that asks for signals (tap does, to know when to read) gets them here, where it is polled. */
static void accept_driver_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (int i = SIGRTMIN; i <= SIGRTMAX; i++)
		sigaddset(&set, i);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static int begin(struct nb_worker *w)
{
	int ret;

	TAILQ_INIT(&w->active);
	TAILQ_INIT(&w->later);
	w->spare.pool = w->nb->pool;
	accept_driver_signals();
	if (rte_thread_register() < 0)
		return pv_why(w->why, sizeof(w->why), -rte_errno, "worker %u: DPDK takes no more threads: give fewer --workers",
			      w->index);
	ret = pv_hyper_open(w->nb->opt.hypervisor, w->nb->opt.domid, &w->h, w->why, sizeof(w->why));
	if (ret < 0)
		return ret;
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll_fd < 0)
		return pv_why(w->why, sizeof(w->why), -errno, "worker %u: out of descriptors: raise ulimit -n", w->index);
	ret = watch(w, pv_evt_fd(w->h), WAKE_EVENTS);
	ret = ret ? ret : watch(w, pv_worker_fd(w->self), WAKE_MAILBOX);
	ret = ret ? ret : watch(w, w->kick_fd, WAKE_KICK);
	for (unsigned i = 0; i < NB_BRIDGES_MAX && !ret; i++)
		ret = w->nb->bridge[i].generation ? bridge_worker_begin(w, &w->nb->bridge[i]) : 0;
	return ret ? pv_why(w->why, sizeof(w->why), ret, "worker %u: epoll: %s", w->index, strerror(-ret)) : 0;
}

static bool uplinks_idle(const struct nb_worker *w)
{
	for (unsigned i = 0; i < w->nr_up; i++)
		if (!uplink_idle(w, &w->up[i]))
			return false;
	return true;
}

void turn_body(void *arg, struct pv_worker *pw)
{
	struct nb_worker *w = arg;

	w->self = pw;
	w->epoll_fd = -1;
	w->tsc = rte_rdtsc();
	w->error = begin(w);
	while (!w->error && !pv_worker_poll(pw)) {
		turn(w);
		if (!TAILQ_EMPTY(&w->active))
			rte_pause();
		else if (!w->posts_wait && uplinks_idle(w))
			sleep_for_work(w);
	}
	if (w->epoll_fd >= 0)
		close(w->epoll_fd);
	for (unsigned i = 0; i < w->nr_up; i++)
		if (w->up[i].bridge)
			bridge_worker_end(w, w->up[i].bridge);
	adopt_log_worker(w);
	pool_spare_free(&w->spare);
	pv_hyper_close(w->h);
	free(w->by_port);
	rte_thread_unregister();
}
