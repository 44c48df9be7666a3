/* netback.c - the parts put together: packet memory, bridges, workers. Control thread. */
#include "capture.h"
#include "netback.h"
#include <pvio/privileges.h>
#include <rte_cycles.h>
#include <rte_mempool.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { NO_MEMORY_EVERY = 60 /* seconds */ };

uint64_t netback_seconds(void)
{
	return rte_rdtsc() / rte_get_tsc_hz();
}

void netback_wake(struct netback *nb)
{
	uint64_t one = 1;

	while (write(nb->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		; /* EAGAIN: it is as awake as can be */
}

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

void netback_barrier(struct netback *nb)
{
	for (unsigned i = 0; i < nb->nr_workers; i++)
		pv_worker_call(nb->workers[i]->pw, nothing, NULL);
}

static int worker_start(struct netback *nb, unsigned i, char *why, size_t len)
{
	int cpu = nb->opt.cpus.nr ? nb->opt.cpus.cpu[i % nb->opt.cpus.nr] : -1, ret;
	struct nb_worker *w = aligned_alloc(64, RTE_ALIGN_CEIL(sizeof(*w), 64));
	char name[16];

	if (!w)
		return pv_why(why, len, -ENOMEM, "worker %u: out of memory", i);
	memset(w, 0, sizeof(*w));
	w->nb = nb;
	w->index = i;
	w->log = &nb->worker_log[i];
	w->kick_fd = w->epoll_fd = -1;
	snprintf(name, sizeof(name), "netback%u", i % NB_WORKERS_MAX);
	ret = post_new(w);
	if (ret < 0) {
		pv_why(why, len, ret, "worker %u: %s", i, strerror(-ret));
	} else {
		ret = pv_worker_start(&w->pw, name, cpu, turn_body, w);
		if (ret < 0)
			pv_why(why, len, ret, "worker %u: cannot start on CPU %d: %s; see --cpus", i, cpu, strerror(-ret));
	}
	if (ret < 0) {
		post_free(w);
		free(w);
		return ret;
	}
	nb->workers[nb->nr_workers++] = w;
	return 0;
}

/* The rings between the workers must all be there before any packet moves; a packet moves only for a vif, and those come later. */
static int workers_start(struct netback *nb, char *why, size_t len)
{
	for (unsigned i = 0; i < nb->opt.workers; i++) {
		int ret = worker_start(nb, i, why, len);

		if (ret < 0)
			return ret;
	}
	for (unsigned i = 0; i < nb->nr_workers; i++) {
		struct nb_worker *w = nb->workers[i];

		if (pv_worker_call(w->pw, nothing, NULL) < 0) /* it ended: and so its words can be read */
			return pv_why(why, len, w->error, "%s", w->why);
	}
	return 0;
}

int netback_open(struct netback *nb, const struct nb_options *opt, int plug_fd, char *why, size_t len)
{
	int ret;

	*nb = (struct netback){ .opt = *opt, .wake_fd = -1, .plug_fd = plug_fd };
	TAILQ_INIT(&nb->vifs);
	TAILQ_INIT(&nb->ctrls);
	TAILQ_INIT(&nb->captures);
	nb->tsc_second = rte_get_tsc_hz();
	nb->poll_tsc = nb->tsc_second / 1000000 * opt->poll_us;
	nb->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (nb->wake_fd < 0)
		return pv_why(why, len, -errno, "out of descriptors: raise ulimit -n");
	ret = pv_hyper_open(opt->hypervisor, opt->domid, &nb->ctrl_h, why, len);
	if (ret < 0)
		return ret;
	nb->pool = pool_new(opt->memory, &nb->pages, why, len);
	if (!nb->pool)
		return -ENOMEM;
	nb->refs = pool_refs_new(nb->pool);
	if (!nb->refs)
		return pv_why(why, len, -ENOMEM, "no packet memory of %u MiB: out of memory; give another --memory", opt->memory);
	nb->seg_cost = pool_seg_cost();
	for (unsigned i = 0; i < opt->uplinks.nr; i++) {
		ret = bridge_open_fixed(nb, opt->uplinks.at[i].bridge, opt->uplinks.at[i].device, why, len);
		if (ret < 0)
			return ret;
	}
	pv_privileges_keep((const int[]){ -1 }); /* from here on guests' packets are looked at */
	ret = adopt_workers_open(nb, why, len);
	ret = ret ? ret : workers_start(nb, why, len);
	if (ret == 0 && opt->telemetry)
		telemetry_open(nb);
	return ret;
}

void netback_close(struct netback *nb)
{
	adopt_leave(nb);
	adopt_hold(nb);
	telemetry_close();
	vif_free_all(nb);
	capture_end_all(nb);
	for (unsigned i = 0; i < nb->nr_workers; i++)
		pv_worker_stop(nb->workers[i]->pw);
	for (unsigned i = 0; i < nb->nr_workers; i++) {
		post_free(nb->workers[i]);
		free(nb->workers[i]);
	}
	nb->nr_workers = 0;
	adopt_workers_close(nb);
	bridge_close_all(nb);
	rte_mempool_free(nb->refs);
	pool_free(nb->pool, nb->pages);
	pv_hyper_close(nb->ctrl_h);
	if (nb->wake_fd >= 0)
		close(nb->wake_fd);
	nb->wake_fd = -1;
}

void netback_tick(struct netback *nb)
{
	uint64_t now = netback_seconds();

	bridge_tick(nb, (uint32_t)now);
	if (__atomic_load_n(&nb->no_memory, __ATOMIC_RELAXED) && (!nb->no_memory_at || now - nb->no_memory_at >= NO_MEMORY_EVERY)) {
		pv_log(PV_LOG_WARN, "packet memory ran out and packets were dropped: give more than --memory %u", nb->opt.memory);
		nb->no_memory_at = now;
		__atomic_store_n(&nb->no_memory, false, __ATOMIC_RELAXED);
	}
}

void netback_woken(struct netback *nb)
{
	uint64_t count;

	while (read(nb->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	vif_reap_broken(nb);
	telemetry_work(nb);
}
