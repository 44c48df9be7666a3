/* pviod.c - the daemon: its loop, the hypervisor's events, and the clock. */
#include "pviod.h"
#include "console.h"
#include "guest_store.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	EVENTS_TURN = 64, /* ports a turn */
	END_MS = 2000, /* for an orderly end: backends let go of the guests' pages */
};

uint64_t pviod_now(const struct pviod *d)
{
	return uv_now(&d->loop) + 1; /* never 0 */
}

/* Ports of announcements are never unmasked: there is nothing that a guest could tell us by them. */
static void on_event(uv_poll_t *p, int status, int events)
{
	struct pviod *d = p->data;
	uint32_t ports[EVENTS_TURN];
	int n = pv_evt_pending(d->hyper, ports, EVENTS_TURN);

	(void)events;
	if (n < 0 || status < 0) {
		pv_log(PV_LOG_ERR, "the hypervisor is gone (%s); pviod cannot go on", strerror(n < 0 ? -n : -status));
		d->fatal = n < 0 ? n : status;
		uv_stop(&d->loop);
		return;
	}
	for (int i = 0; i < n; i++) {
		struct port_user *u;

		HASH_FIND(hh, d->ports, &ports[i], sizeof(ports[i]), u);
		if (u)
			u->fired(u);
	}
}

static bool needs_clock(struct pviod *d)
{
	return d->waiting || d->stores_waiting || d->waiters || d->ending || conn_calls_pending(d) || claims_wait(d);
}

/* Time-outs of calls, devices, claims and clients that wait for a time: looked at each TICK_MS, only while there are any. */
static void on_tick(uv_timer_t *t)
{
	struct pviod *d = t->data;

	conn_expire(d);
	device_tick(d);
	guest_stores_tick(d);
	claims_tick(d);
	waiters_tick(d);
}

/* First the guests, as far as they do; then the backends that we started, who have let go of them by then. */
static bool has_ended(struct pviod *d)
{
	d->guests_ended |= (!d->by_domid && d->njobs == 0) || pviod_now(d) >= d->end_by;
	return d->guests_ended && supervise_end(d);
}

/* Before the loop sleeps: work off what the callbacks posted, and poll for what is to be sent. */
static void on_prepare(uv_prepare_t *p)
{
	struct pviod *d = p->data;
	bool clock;

	do {
		guest_stores_drain(d); /* what guests wrote may be for devices, and what devices show is for guests */
		device_drain(d);
	} while (d->stores_ready);
	backends_resume(d);
	conn_flush(d);
	clock = needs_clock(d);
	if (clock != d->ticking) {
		d->ticking = clock;
		if (clock)
			uv_timer_start(&d->tick, on_tick, TICK_MS, TICK_MS);
		else
			uv_timer_stop(&d->tick);
	}
	if (d->ending && has_ended(d))
		uv_stop(&d->loop);
}

/* End in order: backends let go of every guest first. */
static void begin_end(struct pviod *d)
{
	struct guest *g, *next;

	if (d->ending)
		return;
	d->ending = true;
	d->end_by = pviod_now(d) + END_MS;
	HASH_ITER(hh_domid, d->by_domid, g, next)
		guest_end(g, true);
}

static void on_stop(uv_async_t *a)
{
	begin_end(a->data);
}

static void on_signal(uv_signal_t *s, int signum)
{
	(void)signum;
	begin_end(s->data);
}

/* The handles of the loop. Each init before the first start, so that a half-open pviod can be closed. */
static void init_loop(struct pviod *d)
{
	uv_prepare_init(&d->loop, &d->prepare);
	uv_timer_init(&d->loop, &d->tick);
	uv_timer_init(&d->loop, &d->watch);
	uv_async_init(&d->loop, &d->stop, on_stop);
	uv_signal_init(&d->loop, &d->term);
	uv_signal_init(&d->loop, &d->intr);
	uv_poll_init(&d->loop, &d->evt, pv_evt_fd(d->hyper));
	d->prepare.data = d->tick.data = d->watch.data = d->stop.data = d->term.data = d->intr.data = d->evt.data = d;
	uv_prepare_start(&d->prepare, on_prepare);
	uv_poll_start(&d->evt, UV_READABLE, on_event);
}

int pviod_open(struct pviod *d, const struct pviod_options *opt, char *why, size_t len)
{
	int rc;

	memset(d, 0, sizeof(*d));
	d->opt = *opt;
	d->listen_fd = -1;
	if (d->opt.devices_max == 0 || d->opt.devices_max > DEVICES_MAX)
		d->opt.devices_max = DEVICES_MAX;
	if (d->opt.looks.rate == 0)
		d->opt.looks = (struct limit){ .burst = LOOKS_BURST, .rate = LOOKS_RATE };
	if (d->opt.store.rate == 0)
		d->opt.store = (struct limit){ .burst = STORE_BURST, .rate = STORE_RATE };
	if (d->opt.backend_ms == 0)
		d->opt.backend_ms = BACKEND_MS;
	rc = pv_hyper_open(opt->hypervisor, 0, &d->hyper, why, len);
	if (rc < 0)
		return rc;
	rc = uv_loop_init(&d->loop);
	if (rc < 0) {
		snprintf(why, len, "cannot start an event loop: %s", uv_strerror(rc));
		pv_hyper_close(d->hyper);
		return rc;
	}
	d->loop.data = d;
	init_loop(d);
	rc = conn_listen(d, why, len);
	if (rc == 0)
		rc = supervise_open(d, why, len);
	if (rc < 0)
		pviod_close(d);
	if (rc < 0)
		return rc;
	consoles_sweep(d);
	claim_store(d); /* it may come later */
	return 0;
}

int pviod_run(struct pviod *d)
{
	if (!d->opt.embedded) {
		uv_signal_start(&d->term, on_signal, SIGTERM);
		uv_signal_start(&d->intr, on_signal, SIGINT);
		fprintf(stderr, "pviod: ready\n");
	}
	uv_run(&d->loop, UV_RUN_DEFAULT);
	return d->fatal;
}

void pviod_stop(struct pviod *d)
{
	uv_async_send(&d->stop);
}

static void close_handle(uv_handle_t *h, void *arg)
{
	(void)arg;
	if (!uv_is_closing(h))
		uv_close(h, NULL);
}

/* What the orderly end left: devices whose backends do not answer. */
static void drop_guests(struct pviod *d)
{
	struct guest *g, *next;
	struct device *dev;

	HASH_ITER(hh_domid, d->by_domid, g, next) {
		g->dying = true;
		DL_FOREACH(g->devices, dev) {
			device_post(dev, EV_FORCE);
			device_post(dev, EV_LOST);
		}
		if (!g->devices)
			guest_destroy(g);
	}
	device_drain(d);
}

void pviod_close(struct pviod *d)
{
	struct conn *c, *next;

	d->ending = true;
	supervise_close(d);
	DL_FOREACH_SAFE(d->conns, c, next)
		conn_cut(c);
	drop_guests(d);
	consoles_free(d);
	waiters_free(d);
	claim_close(d);
	free(d->self);
	uv_walk(&d->loop, close_handle, NULL);
	uv_run(&d->loop, UV_RUN_DEFAULT);
	uv_loop_close(&d->loop);
	supervise_free(d);
	if (d->listen_fd >= 0) {
		unlink(d->opt.socket);
		close(d->listen_fd);
	}
	domctl_close(d->domctl);
	pv_hyper_close(d->hyper);
}
