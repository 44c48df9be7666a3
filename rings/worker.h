/* worker.h - a thread that owns queues, and a mailbox to run calls on it between two turns.
 *
 * Backends have one control thread (rpc with pviod) and workers (data). Whatever a worker owns is touched by that worker
 * alone: control asks it with pv_worker_call and waits. So the hot path needs no lock.
 */
#ifndef PV_WORKER_H
#define PV_WORKER_H

#include <stdint.h>

struct pv_worker;

/* Start a thread that runs body(arg, worker) until that returns. cpu: pin to it, -1: do not. name: at most 15 characters.
 * Returns 0 or -errno. */
int pv_worker_start(struct pv_worker **out, const char *name, int cpu, void (*body)(void *arg, struct pv_worker *w), void *arg);

/* Run fn(arg) on the worker between two turns and wait for it. Returns what fn returned. Called by one control thread,
 * never by the worker itself. -ESHUTDOWN: the worker has ended. */
int pv_worker_call(struct pv_worker *w, int (*fn)(void *arg), void *arg);

/* Ask the body to return, wait for it, free. NULL is fine. */
void pv_worker_stop(struct pv_worker *w);

/* For the body: a descriptor readable while calls wait (so that it may sleep on it) ... */
int pv_worker_fd(struct pv_worker *w);
/* ... and this, once a turn: runs what waits. One relaxed load when nothing does. Returns 1 when the body should return. */
int pv_worker_poll(struct pv_worker *w);

#endif
