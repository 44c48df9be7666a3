/* ctrl.c - control rings: a guest sets up receive hashing and static grants. On the control thread, with a handle of its own: what is
 * asked there may take long, and is rare.
 *
 * Theory of operation. take (one private copy) -> ctrl_parse (pure) -> the page that it names, copied -> hash_request or statics_* on
 * private state -> published -> answer. Workers read one pointer a vif (hashing) and one a queue (static grants); a new state is
 * published before the old one is freed, and freed when every worker has passed between two turns. What a request changed, and its answer,
 * is kept before the answer is given (keep.h), so that whoever adopts the vif begins with the same state. Requests and events cost a guest
 * from a budget of CTRL_BURST a window; one that used it up waits for the next window, its port masked. */
#include "netback.h"
#include <time.h>

enum { CTRL_TURN = 8 /* requests of a vif, then another's */, CTRL_BURST = 64, CTRL_WINDOW_MS = 10 };

/* Owner: control thread. From ctrl_connect to ctrl_disconnect. */
struct ctrl {
	struct vif *vif;
	TAILQ_ENTRY(ctrl) link; /* of nb->ctrls */
	struct pv_ring ring;
	void *page;
	uint32_t port; /* ours; 0: none */
	bool pending; /* there may be something to do */
	bool masked; /* its event was taken */
	bool broken;
	uint64_t window; /* number of the window that `used` counts in */
	unsigned used;
	struct hash hash;
	struct static_set *set[PV_NOXS_QUEUES_MAX]; /* NULL: nothing was ever added */
	int changed; /* the queue whose set the present request changed; -1: none */
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool has_budget(struct ctrl *c, uint64_t now)
{
	if (c->window != now / CTRL_WINDOW_MS) {
		c->window = now / CTRL_WINDOW_MS;
		c->used = 0;
	}
	return c->used < CTRL_BURST;
}

/* ---- publishing ---- */

static uint32_t publish_hash(struct ctrl *c, const struct hash *hash)
{
	struct hash *old = c->vif->hash, *new = NULL;

	if (hash_is_on(hash)) {
		new = malloc(sizeof(*new));
		if (!new)
			return XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER;
		*new = *hash;
	}
	c->hash = *hash;
	__atomic_store_n(&c->vif->hash, new, __ATOMIC_RELEASE); /* pairs with the acquire in rx.c */
	if (old)
		netback_barrier(c->vif->nb);
	free(old);
	return XEN_NETIF_CTRL_STATUS_SUCCESS;
}

struct exchange {
	struct vif_queue *queue;
	struct statics *table;
};

static int exchange_table(void *arg)
{
	struct exchange *x = arg;
	struct statics *old = x->queue->statics;

	x->queue->statics = x->table;
	x->table = old;
	return 0;
}

/* Show a queue's worker what is in its set now. */
static int publish_statics(struct ctrl *c, unsigned queue)
{
	struct exchange x = { .queue = &c->vif->queues[queue] };
	int ret = statics_table(c->set[queue], &x.table);

	if (ret < 0)
		return ret;
	pv_worker_call(x.queue->worker->pw, exchange_table, &x);
	free(x.table);
	return 0;
}

/* The present request changed it. */
static void keep_set(struct ctrl *c, unsigned queue)
{
	statics_list(c->set[queue], keep_list_next(c->vif->keep, queue));
	c->changed = (int)queue;
}

/* ---- requests ---- */

/* One page of the guest, copied here or back. Returns 0 or -EFAULT. */
static int copy(struct ctrl *c, uint32_t gref, void *bytes, uint16_t n, bool back)
{
	struct pv_gnt_end page = { .gref = gref, .domid = c->vif->id.guest }, ours = { .local = bytes };
	struct pv_gnt_copy op = { .from = back ? ours : page, .to = back ? page : ours, .len = n };

	return pv_gnt_copy(c->vif->nb->ctrl_h, &op, 1) == 0 && op.status == GNTST_okay ? 0 : -EFAULT;
}

static uint32_t add_statics(struct ctrl *c, const struct ctrl_plan *plan, const void *list)
{
	struct static_set **set = &c->set[plan->queue];
	unsigned before;

	if (!plan->count)
		return XEN_NETIF_CTRL_STATUS_SUCCESS;
	if (!*set && !(*set = statics_new(c->vif->nb->ctrl_h, c->vif->id.guest)))
		return XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER;
	before = statics_count(*set);
	if (statics_add(*set, list, plan->count) < 0)
		return XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER;
	if (publish_statics(c, plan->queue) == 0) {
		keep_set(c, plan->queue);
		return XEN_NETIF_CTRL_STATUS_SUCCESS;
	}
	statics_shrink(*set, before); /* no memory for a table: the old one stands */
	return XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER;
}

/* A page that is still posted may be taken out: its slot is then copied as any other. */
static uint32_t del_statics(struct ctrl *c, const struct ctrl_plan *plan, void *bytes, uint32_t *data)
{
	struct static_set *set = c->set[plan->queue];
	struct xen_netif_gref *list = bytes;

	if (!plan->count)
		return XEN_NETIF_CTRL_STATUS_SUCCESS;
	/* A list that cannot be answered is not worked off. */
	if (copy(c, plan->gref, list, plan->bytes, true) < 0)
		return XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER;
	if (set) {
		*data = statics_del(set, list, plan->count);
		if (publish_statics(c, plan->queue) < 0)
			pv_worker_call(c->vif->queues[plan->queue].worker->pw, exchange_table, &(struct exchange){ &c->vif->queues[plan->queue], NULL });
		statics_unmap(set);
		keep_set(c, plan->queue);
	} else {
		for (unsigned i = 0; i < plan->count; i++)
			list[i].status = XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER;
	}
	copy(c, plan->gref, list, plan->bytes, true); /* it could be written a moment ago; if not any more, the guest loses its answer */
	return XEN_NETIF_CTRL_STATUS_SUCCESS;
}

static uint32_t carry_out(struct ctrl *c, const struct xen_netif_ctrl_request *req, uint32_t *data)
{
	uint64_t bytes[CTRL_BYTES_MAX / 8];
	struct ctrl_plan plan;
	struct hash hash;
	uint32_t status;

	*data = 0;
	ctrl_parse(req, &c->hash, c->vif->nr_queues, &plan);
	if (plan.kind == CTRL_ANSWER) {
		*data = plan.data;
		return plan.status;
	}
	if (plan.bytes && copy(c, plan.gref, bytes, plan.bytes, false) < 0)
		return XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER;
	if (plan.kind == CTRL_STATIC_ADD)
		return add_statics(c, &plan, bytes);
	if (plan.kind == CTRL_STATIC_DEL)
		return del_statics(c, &plan, bytes, data);
	hash = c->hash;
	status = hash_request(&hash, req, bytes, c->vif->nr_queues);
	return status == XEN_NETIF_CTRL_STATUS_SUCCESS ? publish_hash(c, &hash) : status;
}

/* Every byte of the slot. */
static void answer(struct ctrl *c, const struct xen_netif_ctrl_response *rsp)
{
	union {
		struct xen_netif_ctrl_response rsp;
		uint32_t words[sizeof(struct xen_netif_ctrl_request) / 4];
	} slot = { .words = { 0 } };

	slot.rsp = *rsp;
	memcpy(pv_ring_fill(&c->ring), &slot, sizeof(slot));
	keep_answered(c->vif->keep, c->ring.prod);
}

/* Work off what waits, within the turn and the budget. Returns how many requests, or -EPROTO. */
static int work(struct ctrl *c)
{
	int n = pv_ring_ready(&c->ring);

	n = n > CTRL_TURN ? CTRL_TURN : n;
	for (int i = 0; i < n; i++) {
		struct xen_netif_ctrl_request req = *(const volatile struct xen_netif_ctrl_request *)pv_ring_take(&c->ring);
		struct xen_netif_ctrl_response rsp = { .id = req.id, .type = req.type };

		c->changed = -1;
		rsp.status = carry_out(c, &req, &rsp.data);
		keep_commit(c->vif->keep, c->ring.cons, &rsp, &c->hash, c->changed);
		answer(c, &rsp);
	}
	if (pv_ring_publish(&c->ring))
		pv_evt_notify(c->vif->nb->ctrl_h, c->port);
	return n;
}

/* A turn of one that has something to do. */
static void turn(struct ctrl *c)
{
	struct pv_hyper *h = c->vif->nb->ctrl_h;
	int n = work(c);

	if (n == 0)
		n = pv_ring_rearm(&c->ring, 1);
	if (n < 0) {
		c->broken = true;
		c->pending = false;
		vif_broken(c->vif, "its control ring's producer index is impossible");
		return;
	}
	c->used += n ? (unsigned)n : 1; /* an event for nothing is not for nothing */
	if (n)
		return;
	c->pending = false;
	if (c->masked)
		pv_evt_unmask(h, &c->port, 1);
	c->masked = false;
}

static struct ctrl *by_port(struct netback *nb, uint32_t port)
{
	struct ctrl *c;

	TAILQ_FOREACH(c, &nb->ctrls, link)
		if (c->port == port)
			return c;
	return NULL;
}

void ctrl_work(struct netback *nb)
{
	uint64_t now = now_ms();
	uint32_t ports[64];
	struct ctrl *c;
	int n;

	if (TAILQ_EMPTY(&nb->ctrls))
		return;
	n = pv_evt_pending(nb->ctrl_h, ports, RTE_DIM(ports));
	for (int i = 0; i < n; i++)
		if ((c = by_port(nb, ports[i])))
			c->pending = c->masked = true;
	TAILQ_FOREACH(c, &nb->ctrls, link)
		if (c->pending && !c->broken && has_budget(c, now))
			turn(c);
}

int ctrl_timeout(struct netback *nb)
{
	uint64_t now = now_ms();
	int ms = -1;
	struct ctrl *c;

	TAILQ_FOREACH(c, &nb->ctrls, link)
		if (c->pending && !c->broken) {
			if (has_budget(c, now))
				return 0;
			ms = (int)(CTRL_WINDOW_MS - now % CTRL_WINDOW_MS);
		}
	return ms;
}

int ctrl_fd(const struct netback *nb)
{
	return TAILQ_EMPTY(&nb->ctrls) ? -1 : pv_evt_fd(nb->ctrl_h);
}

/* ---- coming and going ---- */

/* The pages of a queue as the process before us had them. A guest that took some of them back meanwhile has them all copied. */
static void restore_set(struct ctrl *c, unsigned queue)
{
	const struct keep_list *list = keep_list(c->vif->keep, queue);
	struct static_set **set = &c->set[queue];

	if (!list->nr)
		return;
	*set = statics_new(c->vif->nb->ctrl_h, c->vif->id.guest);
	if (*set && statics_add(*set, list->page, list->nr) == 0 && publish_statics(c, queue) == 0)
		return;
	statics_free(*set);
	*set = NULL;
	pv_log_about(&c->vif->log, PV_LOG_WARN, "%s: queue %u: its %u static grants cannot be mapped again: its packets are copied by the hypervisor",
		     c->vif->name, queue, list->nr);
}

/* Go on where the process before us stopped: what it carried out is answered, if it was not; what it did not is a request as any other. */
static int restore(struct ctrl *c)
{
	const struct keep_state *s = keep_state(c->vif->keep);

	pv_ring_init_adopted(&c->ring, c->page, PV_PAGE_SIZE, sizeof(struct xen_netif_ctrl_request), c->vif->keep->answered, s->done);
	if (pv_ring_room(&c->ring))
		answer(c, &s->answer);
	pv_ring_publish(&c->ring);
	for (unsigned i = 0; i < c->vif->nr_queues; i++)
		restore_set(c, i);
	return publish_hash(c, &s->hash) == XEN_NETIF_CTRL_STATUS_SUCCESS ? 0 : -ENOMEM;
}

int ctrl_connect(struct vif *vif, bool adopt, char *why, size_t len)
{
	struct netback *nb = vif->nb;
	const uint32_t gref = vif->choice.ctrl_gref, remote = vif->choice.ctrl_port;
	struct ctrl *c = calloc(1, sizeof(*c));
	int ret;

	if (!c)
		return pv_why(why, len, -ENOMEM, "%s: out of memory", vif->name);
	c->vif = vif;
	vif->ctrl = c;
	TAILQ_INSERT_TAIL(&nb->ctrls, c, link);
	ret = pv_gnt_map(nb->ctrl_h, vif->id.guest, &gref, 1, true, NULL, &c->page);
	if (ret < 0) {
		c->page = NULL;
		return pv_why(why, len, ret, "%s: cannot map its control ring, gref %u: %s", vif->name, gref, pv_hyper_error(nb->ctrl_h));
	}
	if (!adopt)
		pv_ring_init_back(&c->ring, c->page, PV_PAGE_SIZE, sizeof(struct xen_netif_ctrl_request));
	else if (restore(c) < 0)
		return pv_why(why, len, -ENOMEM, "%s: out of memory", vif->name);
	ret = pv_backend_bind(nb->ctrl_h, vif->id.guest, remote, adopt);
	if (ret < 0)
		return pv_why(why, len, ret, "%s: cannot bind the guest's control port %u: %s", vif->name, remote, pv_hyper_error(nb->ctrl_h));
	c->port = (uint32_t)ret;
	c->pending = true; /* the guest may have published before we came */
	if (adopt)
		pv_evt_notify(nb->ctrl_h, c->port);
	return 0;
}

void ctrl_disconnect(struct vif *vif)
{
	struct ctrl *c = vif->ctrl;
	struct netback *nb = vif->nb;

	if (!c)
		return;
	for (unsigned i = 0; i < RTE_DIM(c->set); i++)
		statics_free(c->set[i]);
	free(vif->hash);
	vif->hash = NULL;
	if (c->port)
		pv_evt_unbind(nb->ctrl_h, c->port);
	if (c->page)
		pv_gnt_unmap(nb->ctrl_h, c->page, 1);
	TAILQ_REMOVE(&nb->ctrls, c, link);
	free(c);
	vif->ctrl = NULL;
}

unsigned ctrl_statics(const struct vif *vif)
{
	unsigned n = 0;

	for (unsigned i = 0; vif->ctrl && i < RTE_DIM(vif->ctrl->set); i++)
		n += vif->ctrl->set[i] ? statics_count(vif->ctrl->set[i]) : 0;
	return n;
}
