/* blkworker.c - a worker thread: its turns, and when it sleeps.
 *
 * A turn: run what the control thread asks; fetch events; let each ACTIVE queue take; submit what it has not yet; reap; publish and notify once a queue.
 * A queue in which nothing happened for a while is re-armed (the guest will notify) and becomes IDLE; its port is unmasked only then
 * (late EOI). With no ACTIVE queue left, the thread sleeps in its io_uring, where events, completions and the mailbox arrive alike.
 *
 * That while is poll_us with I/O in flight, which ends for certain, and a fifth of it where only the guest may go on; and only where it pays: in most pauses of the
 * kind the next request or completion came within it. Otherwise it is nothing, but for a try now and then: a device that is slower, or a guest that thinks for longer, costs no CPU.
 */
#include "blkback.h"
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	LOOK_TURNS = 64, /* busy turns after which idle queues are looked for all the same */
	PORTS = 64, /* fetched or unmasked in one call */
	SPURIOUS_MAX = 16, /* events in a row with no request behind them, before the queue has to rest */
	REST_NS = 1000000,
	SCORE_MAX = 8,
	THINKS_PART = 5, /* of poll_us, with no I/O in flight */
	TRY_AGAIN = 16, /* pauses of a kind in which looking did not pay, before one in which it is tried */
	DRAIN_NAP_NS = 100000, /* between looks at a queue whose I/O is waited for */
};
static const uint64_t trim_ns = 30ull * 1000000000; /* pages unused for one to two of these are unmapped */
/* How long a disconnect waits for I/O before pviod has to ask again: the control thread, and with it every other guest's attach and
 * detach, waits as long. */
static const uint64_t drain_ns = 100ull * 1000000;

/* ---- lists ---- */

static void move(struct blkq *q, enum blkq_list to)
{
	struct blkworker *w = q->w;

	if (q->list == to)
		return;
	if (q->list != BLKQ_IDLE)
		TAILQ_REMOVE(q->list == BLKQ_ACTIVE ? &w->active : &w->resting, q, link);
	if (to != BLKQ_IDLE)
		TAILQ_INSERT_TAIL(to == BLKQ_ACTIVE ? &w->active : &w->resting, q, link);
	q->list = to;
}

void blkworker_wake(struct blkq *q)
{
	if (q->list == BLKQ_ACTIVE)
		return;
	q->due = 0; /* if there is nothing to do after all, it may sleep again at once */
	move(q, BLKQ_ACTIVE);
}

/* A full counter wakes the reader just as well. */
static void wake_control(struct blkworker *w)
{
	uint64_t one = 1;
	ssize_t ret = write(w->o.broken_fd, &one, sizeof(one));

	(void)ret;
}

bool blkworker_ended(const struct blkworker *w)
{
	return __atomic_load_n(&w->ended, __ATOMIC_RELAXED);
}

void blkworker_break(struct blkq *q, const char *why)
{
	if (q->state == BLKQ_BROKEN)
		return;
	q->state = BLKQ_BROKEN;
	q->why = why;
	TAILQ_INSERT_TAIL(&q->w->broken, q, broken);
	wake_control(q->w);
}

/* ---- events ---- */

int blkworker_port_add(struct blkworker *w, uint32_t port, struct blkq *q)
{
	if (port >= w->ports) {
		unsigned ports = (port / 256 + 1) * 256;
		struct blkq **by_port = realloc(w->by_port, ports * sizeof(*by_port));

		if (!by_port)
			return -ENOMEM;
		memset(by_port + w->ports, 0, (ports - w->ports) * sizeof(*by_port));
		w->by_port = by_port;
		w->ports = ports;
	}
	w->by_port[port] = q;
	return 0;
}

void blkworker_port_del(struct blkworker *w, uint32_t port)
{
	if (port < w->ports)
		w->by_port[port] = NULL;
}

static void event(struct blkq *q)
{
	q->masked = true;
	q->stats.events++;
	if (q->took) {
		q->spurious = 0;
	} else {
		q->spurious++;
		q->stats.spurious++;
	}
	q->took = q->rested = false;
	blkworker_wake(q);
}

static void fetch_events(struct blkworker *w)
{
	uint32_t ports[PORTS];
	int n;

	w->events.ready = false;
	do {
		n = pv_evt_pending(w->hyper, ports, PORTS);
		for (int i = 0; i < n; i++)
			if (ports[i] < w->ports && w->by_port[ports[i]])
				event(w->by_port[ports[i]]);
	} while (n == PORTS);
	if (n < 0 && !__atomic_exchange_n(&w->ended, true, __ATOMIC_RELAXED)) /* nothing else goes with it */
		wake_control(w);
}

/* ---- sleeping ---- */

/* Queues that have rested enough. */
static void end_rests(struct blkworker *w, uint64_t now)
{
	struct blkq *q, *next;

	for (q = TAILQ_FIRST(&w->resting); q; q = next) {
		next = TAILQ_NEXT(q, link);
		if (now >= q->due)
			blkworker_wake(q);
	}
}

/* Something was done in the queue: a pause is over, another may begin. */
static void pause_begin(struct blkq *q, uint64_t now, uint64_t poll)
{
	struct blkq_guess *g = &q->guess[q->waits_for_io];

	if (!q->slept && g->score < SCORE_MAX)
		g->score++;
	q->slept = q->worked = false;
	q->waits_for_io = q->inflight;
	g = &q->guess[q->waits_for_io];
	q->looks = g->score || ++g->skipped >= TRY_AGAIN;
	if (q->looks)
		g->skipped = 0;
	q->due = !q->looks ? now : now + (q->waits_for_io ? poll : poll / THINKS_PART);
}

static void pause_sleeps(struct blkq *q)
{
	struct blkq_guess *g = &q->guess[q->waits_for_io];

	if (q->looks && !q->slept && g->score)
		g->score--;
	q->slept = true;
}

/* An ACTIVE queue's pause is longer than it looks: arm it, so that an event wakes it, and take it off the list.
 * Returns the port to unmask, or 0. */
static uint32_t lay_down(struct blkq *q, uint64_t now)
{
	if (q->masked && !q->took && q->spurious >= SPURIOUS_MAX && !q->rested) {
		q->rested = true;
		q->due = now + REST_NS;
		move(q, BLKQ_RESTING);
		return 0;
	}
	if (q->until) { /* beyond its limit a timer looks, and events would only disturb */
		pause_sleeps(q);
		q->due = q->until;
		move(q, BLKQ_RESTING);
		return 0;
	}
	if (blkq_rearm(q))
		return 0;
	pause_sleeps(q);
	move(q, BLKQ_IDLE);
	if (!q->masked || q->state == BLKQ_BROKEN) /* who broke stays unheard */
		return 0;
	q->masked = false;
	return q->port;
}

static void trim(struct blkworker *w, uint64_t now)
{
	struct blkq *q;

	w->trimmed_at = now;
	TAILQ_FOREACH(q, &w->all, all)
		pv_gnt_cache_trim(q->cache);
}

/* Look at the clock: what may go to sleep, what can be unmapped? */
static void look(struct blkworker *w)
{
	uint64_t now = now_ns(), poll = w->o.poll_us * 1000ull;
	uint32_t ports[PORTS];
	unsigned n = 0;
	struct blkq *q, *next;

	share_age(w, now);
	if (now - w->trimmed_at >= trim_ns)
		trim(w, now);
	for (q = TAILQ_FIRST(&w->active); q && n < PORTS; q = next) {
		next = TAILQ_NEXT(q, link);
		if (q->worked)
			pause_begin(q, now, poll);
		if (now < q->due)
			continue;
		ports[n] = lay_down(q, now);
		n += ports[n] != 0;
	}
	if (n)
		pv_evt_unmask(w->hyper, ports, n);
}

/* How long it may sleep; 0: until something comes. */
static uint64_t nap(const struct blkworker *w)
{
	uint64_t first = UINT64_MAX, now;
	struct blkq *q;

	if (TAILQ_EMPTY(&w->resting))
		return TAILQ_EMPTY(&w->all) ? 0 : trim_ns;
	TAILQ_FOREACH(q, &w->resting, link)
		first = q->due < first ? q->due : first;
	now = now_ns();
	return first <= now ? 1 : first - now < trim_ns ? first - now : trim_ns;
}

/* Before the next look. The kernel's own threads, which move a disk's requests on, wait for this CPU: while I/O is in flight they have it if
 * they want it. */
static void relax(const struct blkworker *w)
{
	struct blkq *q;

	TAILQ_FOREACH(q, &w->active, link)
		if (q->inflight) {
			sched_yield();
			return;
		}
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

/* Nothing was done in this turn. */
static void idle(struct blkworker *w)
{
	look(w);
	if (!TAILQ_EMPTY(&w->active) || w->events.ready) {
		relax(w);
		return;
	}
	uring_poll_arm(&w->uring, &w->events);
	uring_poll_arm(&w->uring, &w->mailbox);
	w->sleeps++;
	uring_wait(&w->uring, nap(w));
}

/* ---- turns ---- */

/* Returns whether there was anything to do. */
static bool turn(struct blkworker *w)
{
	struct blkq *q, *next;
	bool busy = false;

	w->turns++;
	if (w->events.ready)
		fetch_events(w);
	if (!TAILQ_EMPTY(&w->resting))
		end_rests(w, now_ns());
	TAILQ_FOREACH(q, &w->active, link)
		busy |= blkq_take(q);
	uring_submit(&w->uring);
	busy |= uring_reap(&w->uring) > 0;
	TAILQ_FOREACH(q, &w->active, link)
		blkq_publish(q);
	next = TAILQ_FIRST(&w->active); /* another is first when room runs out */
	if (next && TAILQ_NEXT(next, link)) {
		TAILQ_REMOVE(&w->active, next, link);
		TAILQ_INSERT_TAIL(&w->active, next, link);
	}
	return busy;
}

static int open_all(struct blkworker *w, struct pv_worker *thread)
{
	int ret = pv_hyper_open(w->o.hypervisor, w->o.domid, &w->hyper, w->why, sizeof(w->why));

	if (ret == 0)
		ret = uring_open(&w->uring, w->why, sizeof(w->why));
	if (ret == 0) {
		w->events.fd = pv_evt_fd(w->hyper);
		w->mailbox.fd = pv_worker_fd(thread);
	}
	return ret;
}

static void body(void *arg, struct pv_worker *thread)
{
	struct blkworker *w = arg;

	w->error = open_all(w, thread);
	w->trimmed_at = now_ns();
	while (!w->error && !pv_worker_poll(thread)) {
		if (!turn(w))
			idle(w);
		else if (w->turns % LOOK_TURNS == 0)
			look(w);
	}
	uring_close(&w->uring);
	pv_hyper_close(w->hyper);
}

/* ---- the control thread's side ---- */

static int started(void *arg)
{
	(void)arg;
	return 0;
}

static void worker_free(struct blkworker *w)
{
	free(w->by_port);
	free(w);
}

int blkworker_start(unsigned index, const struct blkworker_options *o, struct blkworker **out, char *why, size_t len)
{
	struct blkworker *w = calloc(1, sizeof(*w));
	char name[16];
	int ret;

	*out = NULL;
	snprintf(why, len, "out of memory");
	if (!w)
		return -ENOMEM;
	w->o = *o;
	TAILQ_INIT(&w->active);
	TAILQ_INIT(&w->resting);
	TAILQ_INIT(&w->all);
	TAILQ_INIT(&w->broken);
	TAILQ_INIT(&w->shares);
	snprintf(name, sizeof(name), "blkback%u", index);
	ret = pv_worker_start(&w->thread, name, o->cpu, body, w);
	if (ret < 0) {
		snprintf(why, len, "worker %u cannot start%s: %s", index, o->cpu >= 0 ? " on its CPU (--cpus)" : "", strerror(-ret));
		worker_free(w);
		return ret;
	}
	if (pv_worker_call(w->thread, started, NULL) == 0) {
		*out = w;
		return 0;
	}
	pv_worker_stop(w->thread); /* it has ended, and said why */
	ret = w->error;
	snprintf(why, len, "%s", w->why);
	worker_free(w);
	return ret;
}

void blkworker_stop(struct blkworker *w)
{
	if (!w)
		return;
	pv_worker_stop(w->thread);
	worker_free(w);
}

struct connect_call {
	struct blkworker *w;
	const struct blkq_config *c;
	struct blkq **out;
	char *why;
	size_t len;
};

static int connect_here(void *arg)
{
	struct connect_call *c = arg;

	return blkq_open(c->w, c->c, c->out, c->why, c->len);
}

int blkworker_connect(struct blkworker *w, const struct blkq_config *c, struct blkq **out, char *why, size_t len)
{
	struct connect_call call = { .w = w, .c = c, .out = out, .why = why, .len = len };
	int ret;

	snprintf(why, len, "its worker has ended");
	ret = pv_worker_call(w->thread, connect_here, &call);
	w->load += ret == 0;
	return ret;
}

static int quiesce_here(void *arg)
{
	struct blkq *q = arg;

	if (q->state == BLKQ_RUN)
		q->state = BLKQ_STOP;
	return 0;
}

void blkworker_quiesce(struct blkworker *w, struct blkq *q)
{
	pv_worker_call(w->thread, quiesce_here, q);
}

uint64_t blkworker_patience(void)
{
	return now_ns() + drain_ns;
}

struct disconnect_call {
	struct blkq *q;
	uint64_t until;
};

/* Turns go on, for the other queues too, until this one has nothing in flight. */
static int disconnect_here(void *arg)
{
	const struct disconnect_call *c = arg;
	struct blkq *q = c->q;
	struct blkworker *w = q->w;

	quiesce_here(q);
	blkworker_wake(q);
	while (q->inflight || q->left) {
		if (now_ns() >= c->until) {
			if (q->c.image->ops->hurry)
				q->c.image->ops->hurry(q->c.image);
			return -EAGAIN;
		}
		if (!turn(w)) {
			uring_wait(&w->uring, DRAIN_NAP_NS);
			blkworker_wake(q);
		}
	}
	blkq_publish(q);
	blkq_close(q);
	return 0;
}

int blkworker_disconnect(struct blkworker *w, struct blkq *q, uint64_t until)
{
	struct disconnect_call call = { .q = q, .until = until };
	int ret = pv_worker_call(w->thread, disconnect_here, &call);

	w->load -= ret == 0;
	return ret;
}

struct limits_call {
	struct blkq *q;
	struct limits *limit;
};

static int limit_here(void *arg)
{
	const struct limits_call *c = arg;

	c->q->c.limit = c->limit;
	c->q->until = 0;
	blkworker_wake(c->q);
	return 0;
}

void blkworker_limit(struct blkworker *w, struct blkq *q, struct limits *limit)
{
	struct limits_call c = { .q = q, .limit = limit };

	pv_worker_call(w->thread, limit_here, &c);
}

struct broken_call {
	struct blkworker *w;
	void **owner;
	const char **why;
};

static int broken_here(void *arg)
{
	struct broken_call *c = arg;
	struct blkq *q = TAILQ_FIRST(&c->w->broken);

	if (!q)
		return 0;
	TAILQ_REMOVE(&c->w->broken, q, broken);
	*c->owner = q->c.owner;
	*c->why = q->why;
	q->why = NULL;
	return 1;
}

bool blkworker_broken(struct blkworker *w, void **owner, const char **why)
{
	struct broken_call c = { .w = w, .owner = owner, .why = why };

	return pv_worker_call(w->thread, broken_here, &c) == 1;
}
