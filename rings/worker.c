/* worker.c - see worker.h. One mailbox of one call: the only caller waits, so there is never a second. */
#include "worker.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Owner: the control thread that started it. Lifetime: until pv_worker_stop has joined the thread. */
struct pv_worker {
	pthread_t thread;
	int efd;
	bool pending; /* atomic: something for pv_worker_poll to look at */
	void (*body)(void *arg, struct pv_worker *w);
	void *body_arg;
	char name[16];

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	int (*fn)(void *arg); /* the call that waits, NULL: none */
	void *fn_arg;
	int ret;
	bool done, stop, ended;
};

static void *worker_main(void *arg)
{
	struct pv_worker *w = arg;

	pthread_setname_np(pthread_self(), w->name);
	w->body(w->body_arg, w);
	pthread_mutex_lock(&w->lock);
	w->ended = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static int thread_create(struct pv_worker *w, int cpu)
{
	pthread_attr_t attr;
	sigset_t all, old;
	cpu_set_t cpus;
	int ret = pthread_attr_init(&attr);

	if (ret)
		return -ret;
	if (cpu >= CPU_SETSIZE)
		ret = EINVAL;
	if (!ret && cpu >= 0) {
		CPU_ZERO(&cpus);
		CPU_SET(cpu, &cpus);
		ret = pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
	}
	if (!ret) {
		sigfillset(&all); /* signals are the control thread's */
		pthread_sigmask(SIG_SETMASK, &all, &old);
		ret = pthread_create(&w->thread, &attr, worker_main, w);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	pthread_attr_destroy(&attr);
	return -ret;
}

static void worker_free(struct pv_worker *w)
{
	close(w->efd);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

int pv_worker_start(struct pv_worker **out, const char *name, int cpu, void (*body)(void *arg, struct pv_worker *w), void *arg)
{
	struct pv_worker *w = calloc(1, sizeof(*w));
	int ret;

	*out = NULL;
	if (!w)
		return -ENOMEM;
	w->efd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (w->efd < 0) {
		ret = -errno;
		free(w);
		return ret;
	}
	w->body = body;
	w->body_arg = arg;
	snprintf(w->name, sizeof(w->name), "%s", name);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	ret = thread_create(w, cpu);
	if (ret < 0) {
		worker_free(w);
		return ret;
	}
	*out = w;
	return 0;
}

/* With the lock held: the worker sees pending at its next poll, or the descriptor if it sleeps. */
static void ring_bell(struct pv_worker *w)
{
	uint64_t one = 1;

	__atomic_store_n(&w->pending, true, __ATOMIC_RELAXED); /* only a hint: what it points to is read under the lock */
	while (write(w->efd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

int pv_worker_call(struct pv_worker *w, int (*fn)(void *arg), void *arg)
{
	int ret = -ESHUTDOWN;

	pthread_mutex_lock(&w->lock);
	if (!w->ended) {
		w->fn = fn;
		w->fn_arg = arg;
		w->done = false;
		ring_bell(w);
		while (!w->done && !w->ended)
			pthread_cond_wait(&w->changed, &w->lock);
		if (w->done)
			ret = w->ret;
		w->fn = NULL;
	}
	pthread_mutex_unlock(&w->lock);
	return ret;
}

void pv_worker_stop(struct pv_worker *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	ring_bell(w);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	worker_free(w);
}

int pv_worker_fd(struct pv_worker *w)
{
	return w->efd;
}

/* What waits, under the lock. The descriptor is drained here and filled under the lock, so it never stays readable for nothing. */
static int mailbox_work(struct pv_worker *w)
{
	int (*fn)(void *arg);
	uint64_t count;
	bool stop;
	int ret;

	pthread_mutex_lock(&w->lock);
	while (read(w->efd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	__atomic_store_n(&w->pending, w->stop, __ATOMIC_RELAXED); /* once told to stop, every poll says so */
	fn = w->fn;
	w->fn = NULL;
	if (fn) {
		pthread_mutex_unlock(&w->lock);
		ret = fn(w->fn_arg); /* its caller waits, so fn_arg stays */
		pthread_mutex_lock(&w->lock);
		w->ret = ret;
		w->done = true;
		pthread_cond_signal(&w->changed);
	}
	stop = w->stop;
	pthread_mutex_unlock(&w->lock);
	return stop;
}

int pv_worker_poll(struct pv_worker *w)
{
	return __atomic_load_n(&w->pending, __ATOMIC_RELAXED) ? mailbox_work(w) : 0;
}
