/* lockstep.h - for fuzzers: worker.h with threads that run in lockstep with the input. A program that includes it has these functions in place
 * of rings/worker.c: a turn of a worker's body runs when `step` says so, and so an input does the same each time. LOCKSTEP_READY: 1 if what
 * wakes a worker is always readable, 0 if it never is. */
#ifndef PV_LOCKSTEP_H
#define PV_LOCKSTEP_H

#include "fuzz.h"
#include <errno.h>
#include <pthread.h>
#include <pvio/worker.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct pv_worker {
	pthread_t thread;
	sem_t go, done;
	void (*body)(void *arg, struct pv_worker *w);
	void *arg;
	int (*fn)(void *arg); /* the call that waits */
	void *fn_arg;
	int ret, fd;
	bool stop, ended;
};

static void *worker_main(void *arg)
{
	struct pv_worker *w = arg;

	w->body(w->arg, w);
	w->ended = true;
	sem_post(&w->done);
	return NULL;
}

static void until(sem_t *s)
{
	while (sem_wait(s) < 0)
		MUST(errno == EINTR);
}

/* One turn of the worker's body. */
static void step(struct pv_worker *w)
{
	if (w->ended)
		return;
	sem_post(&w->go);
	until(&w->done);
}

int pv_worker_start(struct pv_worker **out, const char *name, int cpu, void (*body)(void *arg, struct pv_worker *w), void *arg)
{
	struct pv_worker *w = calloc(1, sizeof(*w));

	(void)name, (void)cpu;
	MUST(w);
	w->body = body;
	w->arg = arg;
	w->fd = eventfd(LOCKSTEP_READY, EFD_NONBLOCK | EFD_CLOEXEC);
	MUST(w->fd >= 0 && !sem_init(&w->go, 0, 0) && !sem_init(&w->done, 0, 0));
	MUST(!pthread_create(&w->thread, NULL, worker_main, w));
	until(&w->done);
	*out = w;
	return 0;
}

int pv_worker_call(struct pv_worker *w, int (*fn)(void *arg), void *arg)
{
	if (w->ended)
		return -ESHUTDOWN;
	w->fn = fn;
	w->fn_arg = arg;
	step(w);
	return w->ret;
}

void pv_worker_stop(struct pv_worker *w)
{
	w->stop = true;
	step(w);
	pthread_join(w->thread, NULL);
	close(w->fd);
	free(w);
}

int pv_worker_fd(struct pv_worker *w)
{
	return w->fd;
}

int pv_worker_poll(struct pv_worker *w)
{
	sem_post(&w->done);
	until(&w->go);
	if (w->fn) {
		w->ret = w->fn(w->fn_arg);
		w->fn = NULL;
	}
	return w->stop;
}

#endif
