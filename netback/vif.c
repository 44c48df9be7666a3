/* vif.c - the life of a device: prepare (configuration and a switch port) -> connect (queues on workers) -> disconnect -> remove.
 * All calls may come in any order and again. Control thread. */
#include "capture.h"
#include "netback.h"
#include <rte_cycles.h>

static const uint32_t features_offered = PV_VIF_FEATURES;

uint32_t vif_mtu(const struct vif *vif, const struct vif_config *c)
{
	uint32_t mtu = vif->bridge->uplink.queues ? vif->bridge->uplink.mtu : 1500;

	return c->mtu ? c->mtu : RTE_MIN(mtu, (uint32_t)VIF_MTU_MAX);
}

/* ---- the calls ---- */

struct vif *vif_find(struct netback *nb, const struct pv_device_id *id)
{
	struct vif *vif;

	TAILQ_FOREACH(vif, &nb->vifs, link)
		if (vif->id.guest == id->guest && vif->id.devid == id->devid && vif->id.type == id->type)
			return vif;
	return NULL;
}

static struct vif *mac_owner(struct netback *nb, const struct vif_config *c, const struct vif *but)
{
	struct vif *vif;

	TAILQ_FOREACH(vif, &nb->vifs, link)
		if (vif != but && !memcmp(vif->config.mac, c->mac, 6) && !strcmp(vif->bridge->name, bridge_name(nb, c->bridge)))
			return vif;
	return NULL;
}

/* Where tags are known, every vif of the bridge must have its packets looked at. */
static void look_at_tags(struct netback *nb, const struct bridge *b)
{
	bool newly = false;
	struct vif *vif;

	TAILQ_FOREACH(vif, &nb->vifs, link) {
		if (vif->bridge != b)
			continue;
		if (b->vlans)
			newly |= !(__atomic_fetch_or(&vif->steps, STEP_VLAN, __ATOMIC_RELEASE) & STEP_VLAN); /* pairs with forward and backlog_give */
		else
			__atomic_fetch_and(&vif->steps, ~(uint32_t)STEP_VLAN, __ATOMIC_RELEASE);
	}
	if (newly)
		netback_barrier(nb); /* as in change */
}

static void set_vlans(struct vif *vif, const struct vlans *v)
{
	int more = v->given - vif->vlans.given;

	vif->vlans = *v;
	__atomic_store_n(&vif->bridge->vlans, vif->bridge->vlans + (unsigned)more, __ATOMIC_RELAXED);
	look_at_tags(vif->nb, vif->bridge);
}

static void leave_bridge(struct vif *vif)
{
	if (!vif->bridge)
		return;
	set_vlans(vif, &(struct vlans){ 0 });
	switch_port_del(vif->bridge->sw, vif->port);
	bridge_put(vif->nb, vif->bridge);
	vif->bridge = NULL;
}

/* A vif that is not connected goes to its bridge, and into its VLANs. */
static int settle(struct vif *vif, const struct vif_config *c, char *why, size_t len)
{
	struct bridge *b = vif->bridge;
	char detail[500];
	int ret, port;

	if (!b || strcmp(b->name, bridge_name(vif->nb, c->bridge)) || !(b->fixed || b->device)) {
		ret = bridge_take(vif->nb, c->bridge, &b, detail, sizeof(detail));
		if (ret < 0)
			return pv_why(why, len, ret, "%s: %s", vif->name, detail);
		port = switch_port_add(b->sw);
		if (port < 0) {
			bridge_put(vif->nb, b);
			return pv_why(why, len, -ENOSPC, "%s: bridge %s has no port left of %d: start another pvio-netback", vif->name,
				      b->name, SWITCH_PORTS - 1);
		}
		leave_bridge(vif);
		vif->bridge = b;
		vif->port = port;
	}
	set_vlans(vif, &c->vlans);
	vif->config = *c;
	return 0;
}

static int vif_new(struct netback *nb, const struct pv_device_id *id, const struct vif_config *c, struct vif **out, char *why, size_t len)
{
	struct vif *vif = calloc(1, sizeof(*vif));
	int ret;

	if (!vif)
		return pv_why(why, len, -ENOMEM, "vif %u of guest %u: out of memory", id->devid, id->guest);
	vif->nb = nb;
	vif->id = *id;
	snprintf(vif->name, sizeof(vif->name), "vif %u of guest %u", id->devid, id->guest);
	ret = settle(vif, c, why, len);
	if (ret < 0) {
		free(vif);
		return ret;
	}
	TAILQ_INSERT_TAIL(&nb->vifs, vif, link);
	look_at_tags(nb, vif->bridge);
	*out = vif;
	return 0;
}

/* Runs on a worker: all queues of a vif that it owns. */
struct worker_job {
	struct vif *vif;
	struct nb_worker *worker;
};

static int detach_queues(void *arg)
{
	struct worker_job *job = arg;

	for (unsigned i = 0; i < job->vif->nr_queues; i++)
		if (job->vif->queues[i].worker == job->worker && job->vif->queues[i].pages)
			queue_detach(&job->vif->queues[i]);
	return 0;
}

static void vif_disconnect(struct vif *vif)
{
	struct netback *nb = vif->nb;

	if (!vif->queues)
		return;
	vif->connected = false;
	rules_retarget(nb); /* nobody mirrors to it any more */
	switch_port_close(vif->bridge->sw, vif->port);
	/* After this each worker has passed between two turns: none holds a pointer to the vif, none will learn from it. */
	for (unsigned i = 0; i < nb->nr_workers; i++)
		pv_worker_call(nb->workers[i]->pw, detach_queues, &(struct worker_job){ vif, nb->workers[i] });
	switch_flush(vif->bridge->sw, vif->port);
	netback_barrier(nb);
	switch_reclaim(vif->bridge->sw);
	ctrl_disconnect(vif);
	for (unsigned i = 0; i < vif->nr_queues; i++)
		free(vif->queues[i].statics);
	free(vif->queues);
	vif->queues = NULL;
	limit_change(vif, NULL);
	pv_inflight_close(vif->inflight);
	vif->inflight = NULL;
	vif->keep = NULL;
	vif->mcast.addr = NULL;
	vif->nr_queues = 0;
}

static void vif_free(struct vif *vif)
{
	vif_disconnect(vif);
	rules_replace(vif, NULL);
	capture_leave(vif);
	TAILQ_REMOVE(&vif->nb->vifs, vif, link);
	leave_bridge(vif);
	free(vif);
}

/* What is asked for of a vif (NULL: a new one), if it can be had beside the others. */
static int configuration(struct netback *nb, const struct pv_device_id *id, struct json_object *config, const struct vif *vif,
			 struct vif_config *c, struct rules **rules, char *why, size_t len)
{
	struct vif *other;
	int ret = vif_config_parse(id, config, RTE_MAX(4u, nb->nr_workers), c, why, len);

	if (ret < 0)
		return ret;
	other = mac_owner(nb, c, vif);
	if (other)
		return pv_why(why, len, -EEXIST, "vif %u of guest %u: its mac is that of %s already: give another mac=", id->devid,
			      id->guest, other->name);
	return rules_make(id, vif, c, nb->nr_workers, rules, why, len);
}

static int prepare(struct netback *nb, const struct pv_device_id *id, struct json_object *config, struct vif **out, char *why,
		   size_t len)
{
	struct vif_config c;
	struct vif *vif = vif_find(nb, id);
	struct rules *rules = NULL;
	int ret = configuration(nb, id, config, vif, &c, &rules, why, len);

	if (ret == 0 && vif && vif->connected && (rules != vif->rules || memcmp(&vif->config, &c, sizeof(c))))
		ret = pv_why(why, len, -EBUSY, "%s: is connected with another configuration: detach it first", vif->name);
	else if (ret == 0 && !vif)
		ret = vif_new(nb, id, &c, &vif, why, len);
	else if (ret == 0 && !vif->connected)
		ret = settle(vif, &c, why, len);
	if (ret < 0) {
		rules_drop(vif, rules);
		return ret;
	}
	rules_replace(vif, rules);
	*out = vif;
	return 0;
}

static void offer_of(const struct vif *vif, struct pv_noxs_vif_offer *offer)
{
	*offer = (struct pv_noxs_vif_offer){
		.queues_max = (uint16_t)vif->config.queues,
		.mtu = vif_mtu(vif, &vif->config),
		.features = features_offered,
		.carrier = vif->config.carrier,
	};
	memcpy(offer->mac, vif->config.mac, 6);
}

static int vif_prepare(void *ctx, const struct pv_device_id *id, struct json_object *config, struct pv_noxs_offer *offer, char *why,
		       size_t len)
{
	struct vif *vif;
	int ret = prepare(ctx, id, config, &vif, why, len);

	if (ret == 0)
		offer_of(vif, &offer->vif);
	return ret;
}

static uint32_t frame_max(const struct vif *vif, uint32_t mtu)
{
	return RTE_MIN(mtu + NB_L2_ROOM, vif->features & PV_VIF_SG ? rx_most(vif->headroom) : PV_PAGE_SIZE - vif->headroom);
}

static void set_carrier(struct vif *vif, bool on)
{
	__atomic_store_n(&vif->carrier, on, __ATOMIC_RELAXED);
	if (on)
		switch_port_open(vif->bridge->sw, vif->port, vif);
	else
		switch_port_close(vif->bridge->sw, vif->port);
}

/* As the switch knows an address that belongs to it. */
static uint64_t own_key(const struct vif *vif, uint64_t mac)
{
	return switch_key(vif->vlans.trunks ? VLAN_ANY : vif->vlans.access, mac);
}

/* Another address while it is connected. What the guest still sends from the old one is learned as any other. */
static int move_mac(struct vif *vif, const uint8_t mac[6], char *why, size_t len)
{
	struct netback *nb = vif->nb;
	uint64_t old = vif->mac, new = switch_mac(mac);
	int ret;

	if (old == new)
		return 0;
	switch_flush(vif->bridge->sw, vif->port);
	netback_barrier(nb);
	switch_reclaim(vif->bridge->sw);
	ret = switch_pin(vif->bridge->sw, vif->port, own_key(vif, new));
	if (ret < 0) {
		switch_pin(vif->bridge->sw, vif->port, own_key(vif, old)); /* its place in the table was free a moment ago */
		return pv_why(why, len, ret, "%s: the switch's address table is full: start another pvio-netback", vif->name);
	}
	__atomic_store_n(&vif->mac, new, __ATOMIC_RELAXED); /* a word by itself: who reads the old one only learns the new as well */
	return 0;
}

/* A connected vif goes on with another configuration: workers see each word of it change by itself. */
static int change(struct vif *vif, const struct vif_config *c, char *why, size_t len)
{
	struct limit *limit;
	int ret;

	if (c->queues != vif->config.queues)
		return pv_why(why, len, -EBUSY, "%s: queues cannot change while it is connected: detach it first", vif->name);
	if (strcmp(c->bridge, vif->config.bridge) || memcmp(&c->vlans, &vif->config.vlans, sizeof(c->vlans)))
		return pv_why(why, len, -EBUSY, "%s: bridge, vlan and trunk cannot change while it is connected: detach it first", vif->name);
	if (limit_new(&c->limit, vif->nb->tsc_second, rte_rdtsc(), &limit) < 0)
		return pv_why(why, len, -ENOMEM, "%s: out of memory", vif->name);
	ret = move_mac(vif, c->mac, why, len);
	if (ret < 0) {
		free(limit);
		return ret;
	}
	limit_change(vif, limit);
	__atomic_store_n(&vif->frame_max, frame_max(vif, vif_mtu(vif, c)), __ATOMIC_RELAXED);
	set_carrier(vif, c->carrier);
	netback_barrier(vif->nb); /* trains that are under way (forward.c) have ended: who asked for this is told that it is so */
	return 0;
}

static int vif_set(void *ctx, const struct pv_device_id *id, struct json_object *config, struct pv_noxs_offer *offer, char *why, size_t len)
{
	struct netback *nb = ctx;
	struct vif *vif = vif_find(nb, id);
	struct vif_config c;
	struct rules *rules = NULL;
	int ret;

	if (!vif)
		return pv_why(why, len, -ENOENT, "vif %u of guest %u: is not attached", id->devid, id->guest);
	ret = configuration(nb, id, config, vif, &c, &rules, why, len);
	if (ret == 0)
		ret = vif->connected ? change(vif, &c, why, len) : settle(vif, &c, why, len);
	if (ret < 0) {
		rules_drop(vif, rules);
		return ret;
	}
	vif->config = c;
	rules_replace(vif, rules);
	offer_of(vif, &offer->vif);
	return 0;
}

struct attach {
	struct vif_queue *queue;
	const struct pv_noxs_vif_queue *choice;
	bool adopt;
	char *why;
	size_t len;
};

static int attach_queue(void *arg)
{
	struct attach *a = arg;

	return queue_attach(a->queue, a->choice, a->adopt, a->why, a->len);
}

/* A vif whose queues are more than the workers has no more of a turn than one with a queue a worker. */
static uint16_t queue_share(unsigned queues, unsigned workers)
{
	unsigned share = queues > workers ? NB_QUEUE_SLOTS * workers / queues : NB_QUEUE_SLOTS;

	return (uint16_t)RTE_MAX(share, (unsigned)NB_QUEUE_SLOTS_MIN);
}

static int attach_queues(struct vif *vif, bool adopt, char *why, size_t len)
{
	struct netback *nb = vif->nb;

	for (unsigned i = 0; i < vif->nr_queues; i++) {
		struct vif_queue *q = &vif->queues[i];
		int ret;

		q->vif = vif;
		q->index = (uint16_t)i;
		q->share = queue_share(vif->nr_queues, nb->nr_workers);
		q->worker = nb->workers[nb->next_worker++ % nb->nr_workers];
		ret = pv_worker_call(q->worker->pw, attach_queue, &(struct attach){ q, &vif->choice.vif[i], adopt, why, len });
		if (ret < 0) {
			vif->nr_queues = i; /* it undid itself */
			return ret;
		}
	}
	return 0;
}

/* What a guest may choose anew while it is connected; workers see each word change by itself. */
static void follow(struct vif *vif)
{
	__atomic_store_n(&vif->headroom, vif->choice.features & PV_VIF_HEADROOM ? vif->choice.headroom : 0, __ATOMIC_RELAXED);
	__atomic_store_n(&vif->frame_max, frame_max(vif, vif_mtu(vif, &vif->config)), __ATOMIC_RELAXED);
	if (vif->choice.features & PV_VIF_MCAST_CONTROL)
		__atomic_fetch_or(&vif->steps, STEP_MCAST, __ATOMIC_RELEASE);
	else
		__atomic_fetch_and(&vif->steps, ~(uint32_t)STEP_MCAST, __ATOMIC_RELEASE);
}

/* Features that make sense together: a large packet does not fit in one page. */
static void agree(struct vif *vif)
{
	vif->features = vif->choice.features & features_offered;
	if (!(vif->features & PV_VIF_SG))
		vif->features &= ~(uint32_t)(PV_VIF_GSO_TCPV4 | PV_VIF_GSO_TCPV6);
	follow(vif);
}

/* Does a connected guest choose the same, but for what may change? */
static bool is_same(const struct vif *vif, const struct pv_noxs_choice *c)
{
	struct pv_noxs_choice now = vif->choice;

	now.headroom = c->headroom;
	now.features = (now.features & ~(uint32_t)PV_VIF_CHANGEABLE) | (c->features & PV_VIF_CHANGEABLE);
	return memcmp(&now, c, sizeof(now)) == 0;
}

static int start(struct vif *vif, const struct pv_connect *c, char *why, size_t len)
{
	struct netback *nb = vif->nb;
	size_t size = RTE_ALIGN_CEIL(vif->choice.queues * sizeof(struct vif_queue), 64);
	int ret;

	vif->queues = aligned_alloc(64, size);
	if (!vif->queues)
		return pv_why(why, len, -ENOMEM, "%s: out of memory", vif->name);
	memset(vif->queues, 0, size);
	vif->nr_queues = vif->choice.queues;
	vif->generation = ++nb->generation;
	vif->reported = false;
	vif->rx_too_big = vif->rx_no_memory = vif->rx_filtered = 0;
	vif->broken = NULL;
	agree(vif);
	vif->mac = switch_mac(vif->config.mac);
	switch_port_vlans(vif->bridge->sw, vif->port, &vif->vlans);
	ret = switch_pin(vif->bridge->sw, vif->port, own_key(vif, vif->mac)); /* before its first packet */
	if (ret < 0)
		return pv_why(why, len, ret, "%s: the switch's address table is full: start another pvio-netback", vif->name);
	if (limit_new(&vif->config.limit, nb->tsc_second, rte_rdtsc(), &vif->limit) < 0)
		return pv_why(why, len, -ENOMEM, "%s: out of memory", vif->name);
	ret = adopt_log_open(c, vif, why, len);
	if (ret < 0)
		return ret;
	ret = attach_queues(vif, c->adopt, why, len);
	if (ret == 0 && vif->choice.features & PV_VIF_CTRL_RING)
		ret = ctrl_connect(vif, c->adopt, why, len);
	if (ret < 0)
		return ret;
	vif->connected = true;
	rules_retarget(nb);
	set_carrier(vif, vif->config.carrier);
	return 0;
}

static int vif_connect(void *ctx, const struct pv_connect *c, char *why, size_t len)
{
	struct vif *vif = vif_find(ctx, &c->id);
	int ret;

	if (vif && vif->connected && is_same(vif, &c->choice) && c->choice.headroom <= PV_NOXS_HEADROOM_MAX) {
		vif->choice = c->choice;
		follow(vif);
		return 0;
	}
	if (vif)
		vif_disconnect(vif);
	ret = prepare(ctx, &c->id, c->config, &vif, why, len);
	if (ret < 0)
		return ret;
	if (!c->choice.queues || c->choice.queues > vif->config.queues || (c->choice.features & ~features_offered))
		return pv_why(why, len, -EINVAL, "%s: asks for %u queues of %u and features %#x of %#x", vif->name, c->choice.queues,
			      vif->config.queues, c->choice.features, features_offered);
	if (c->choice.headroom > PV_NOXS_HEADROOM_MAX)
		return pv_why(why, len, -EINVAL, "%s: asks for a headroom of %u bytes of %u", vif->name, c->choice.headroom, PV_NOXS_HEADROOM_MAX);
	vif->choice = c->choice;
	ret = start(vif, c, why, len);
	if (ret < 0)
		vif_disconnect(vif);
	else
		pv_log(PV_LOG_DEBUG, "%s: connected, %u queues, features %#x", vif->name, vif->nr_queues, vif->features);
	return ret;
}

static int vif_disconnect_call(void *ctx, const struct pv_device_id *id, char *why, size_t len)
{
	struct vif *vif = vif_find(ctx, id);

	(void)why, (void)len; /* cannot fail */
	if (vif)
		vif_disconnect(vif);
	return 0;
}

static int vif_remove(void *ctx, const struct pv_device_id *id, char *why, size_t len)
{
	struct vif *vif = vif_find(ctx, id);

	(void)why, (void)len; /* cannot fail */
	if (vif)
		vif_free(vif);
	pv_inflight_remove(id);
	return 0;
}

const struct pv_backend_ops vif_ops = {
	.kind = "vif",
	.prepare = vif_prepare,
	.set = vif_set,
	.connect = vif_connect,
	.resume = adopt_resume,
	.disconnect = vif_disconnect_call,
	.remove = vif_remove,
	.stats = report_stats,
	.inspect = report_inspect,
	.ask = ask_vif,
};

void vif_reap_broken(struct netback *nb)
{
	struct vif *vif;

	TAILQ_FOREACH(vif, &nb->vifs, link) {
		const char *broken = __atomic_load_n(&vif->broken, __ATOMIC_ACQUIRE); /* pairs with queue_broken */
		char why[200];

		if (!broken || vif->reported || !vif->connected) /* a connect that failed, or a disconnect, was told by its answer */
			continue;
		vif->reported = true;
		snprintf(why, sizeof(why), "%s: %s; it is disconnected until the guest connects anew", vif->name, broken);
		pv_log_about(&vif->log, PV_LOG_WARN, "%s", why);
		vif_disconnect(vif);
		if (nb->backend)
			pv_backend_broken(nb->backend, &vif->id, -EPROTO, why);
	}
}

void vif_free_all(struct netback *nb)
{
	while (nb->vifs.tqh_first)
		vif_free(nb->vifs.tqh_first);
}
