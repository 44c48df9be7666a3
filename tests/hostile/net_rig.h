/* net_rig.h - for the test_net_* programs: a hub, the real pvio-netback as a process, a pviod that is this test, and guests that do
 * whatever a test wants with their rings.
 *
 * Two well-behaved guests are on the same backend all the time: rig_check has them exchange packets both ways, and compares what
 * the backend holds (descriptors, mappings, mbufs) with what it held before.
 */
#ifndef NET_RIG_H
#define NET_RIG_H

#include <dirent.h>
#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <pvio/backend.h>
#include <pvio/hub.h>
#include <pvio/hyper.h>
#include <pvio/net.h>
#include <pvio/rpc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum {
	PATIENCE = 20000, /* ms: something is wrong */
	TX_PAGES = 64,
	RX_PAGES = 256,
	ALL_FEATURES = PV_VIF_SG | PV_VIF_CSUM_IPV4 | PV_VIF_CSUM_IPV6 | PV_VIF_GSO_TCPV4 | PV_VIF_GSO_TCPV6,
};

#define LARGE_MTU "{\"mtu\":\"65521\"}"

struct net_queue {
	struct pv_ring tx, rx;
	void *tx_page, *rx_page;
	uint32_t tx_gref, rx_gref, tx_port, rx_port;
	uint8_t *tx_data, *rx_data;
	uint32_t tx_grefs[TX_PAGES], rx_grefs[RX_PAGES];
};

struct net_guest {
	struct pv_hyper *h;
	uint16_t domid;
	uint32_t features;
	uint8_t mac[6];
	unsigned nq;
	bool one_port;
	struct net_queue q[4];
};

struct rig {
	char dir[32];
	pid_t hub, backend;
	struct pv_hyper *dom0;
	struct pv_rpc *rpc;
	int listener;
	bool registered, closed;
	unsigned broken; /* devices that were told to be broken */
	struct pv_device_id broken_id;
	char broken_why[256];
	struct net_guest a, b; /* the well-behaved */
	unsigned fds, maps; /* of the backend when only these two were there */
	int64_t mbufs;
};

static struct rig rig;

static inline int64_t rig_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* ---- pviod's side ---- */

static void rig_on_call(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	struct json_object *why = NULL;

	(void)ctx;
	if (!strcmp(method, "register"))
		rig.registered = true;
	if (!strcmp(method, "broken")) {
		rig.broken++;
		pv_device_id_from_json(params, &rig.broken_id, rig.broken_why, sizeof(rig.broken_why));
		json_object_object_get_ex(params, "why", &why);
		snprintf(rig.broken_why, sizeof(rig.broken_why), "%s", why ? json_object_get_string(why) : "");
	}
	pv_rpc_reply(rpc, id, NULL);
}

static void rig_on_closed(void *ctx, struct pv_rpc *rpc, int err)
{
	(void)ctx, (void)rpc, (void)err;
	rig.closed = true;
}

static const struct pv_rpc_ops rig_rpc_ops = { .call = rig_on_call, .closed = rig_on_closed };

static inline void rig_pump(int ms)
{
	struct pollfd p = { .fd = pv_rpc_fd(rig.rpc), .events = pv_rpc_events(rig.rpc) };

	poll(&p, 1, ms);
	pv_rpc_work(rig.rpc);
}

struct rig_answer {
	bool done;
	int code;
	char message[256];
	struct json_object *result;
};

static void rig_on_done(void *arg, int code, const char *message, struct json_object *result)
{
	struct rig_answer *a = arg;

	a->done = true;
	a->code = code;
	snprintf(a->message, sizeof(a->message), "%s", message ? message : "");
	a->result = result ? json_object_get(result) : NULL;
}

static struct rig_answer rig_last; /* the last answer; its result is dropped by the next call */

static inline int rig_call(const char *method, struct json_object *params)
{
	json_object_put(rig_last.result);
	rig_last = (struct rig_answer){ .done = false };
	assert_int_equal(pv_rpc_call(rig.rpc, method, params, PATIENCE, rig_on_done, &rig_last), 0);
	while (!rig_last.done && !rig.closed)
		rig_pump(10);
	assert_true(rig_last.done);
	return rig_last.code;
}

static inline struct pv_device_id guest_device(const struct net_guest *g)
{
	return (struct pv_device_id){ .guest = g->domid, .type = PV_NOXS_VIF, .devid = 0 };
}

static inline int guest_call(const struct net_guest *g, const char *method)
{
	struct pv_device_id id = guest_device(g);

	return rig_call(method, pv_device_id_to_json(&id));
}

/* A number of the guest's statistics; path such as "backend" may be NULL. */
static inline int64_t guest_stat(const struct net_guest *g, const char *path, const char *key)
{
	struct json_object *o, *v = NULL;

	if (guest_call(g, "stats"))
		fail_msg("stats: %s", rig_last.message);
	o = rig_last.result;
	if (path)
		assert_true(json_object_object_get_ex(o, path, &o));
	if (!json_object_object_get_ex(o, key, &v))
		fail_msg("no statistic %s", key);
	return json_object_get_int64(v);
}

static inline void guest_stat_reaches(const struct net_guest *g, const char *path, const char *key, int64_t n)
{
	int64_t end = rig_ms() + PATIENCE, got;

	while ((got = guest_stat(g, path, key)) < n) {
		if (rig_ms() > end)
			fail_msg("%s is %lld, not %lld", key, (long long)got, (long long)n);
		usleep(1000);
	}
}

/* ---- the guest's side ---- */

static inline void rx_post(struct net_guest *g, unsigned queue, unsigned n)
{
	struct net_queue *q = &g->q[queue];

	while (n--) {
		uint16_t id = (uint16_t)(q->rx.prod % RX_PAGES);

		pv_net_rx_fill(&q->rx, id, q->rx_grefs[id]);
	}
	if (pv_ring_publish(&q->rx))
		pv_evt_notify(g->h, q->rx_port);
}

static inline void guest_queue_new(struct net_guest *g, unsigned i)
{
	struct net_queue *q = &g->q[i];

	assert_int_equal(pv_gnt_share(g->h, 0, 1, true, NULL, &q->tx_gref, &q->tx_page), 0);
	assert_int_equal(pv_gnt_share(g->h, 0, 1, true, NULL, &q->rx_gref, &q->rx_page), 0);
	assert_int_equal(pv_gnt_share(g->h, 0, TX_PAGES, true, NULL, q->tx_grefs, (void **)&q->tx_data), 0);
	assert_int_equal(pv_gnt_share(g->h, 0, RX_PAGES, true, NULL, q->rx_grefs, (void **)&q->rx_data), 0);
	q->tx_port = (uint32_t)pv_evt_alloc(g->h, 0);
	q->rx_port = g->one_port ? q->tx_port : (uint32_t)pv_evt_alloc(g->h, 0);
	assert_true((int)q->tx_port > 0 && (int)q->rx_port > 0);
	pv_ring_init_front(&q->tx, q->tx_page, PV_PAGE_SIZE, PV_NET_TX_SLOT);
	pv_ring_init_front(&q->rx, q->rx_page, PV_PAGE_SIZE, PV_NET_RX_SLOT);
}

/* A domain, unconnected. */
static inline void guest_open(struct net_guest *g, unsigned nq, uint32_t features)
{
	char why[160];
	uint32_t port;
	int domid = pv_hub_domain_create(rig.dom0, 0, &port);
	bool one_port = g->one_port;

	assert_true(domid > 0);
	*g = (struct net_guest){ .domid = (uint16_t)domid, .nq = nq, .features = features, .one_port = one_port };
	if (pv_hyper_open("loopback", domid, &g->h, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	for (unsigned i = 0; i < nq; i++)
		guest_queue_new(g, i);
}

static inline int guest_prepare(struct net_guest *g, const char *config)
{
	struct pv_device_id id = guest_device(g);
	struct json_object *params = pv_device_id_to_json(&id);
	struct pv_noxs_offer offer = { .type = PV_NOXS_VIF };
	char why[256];
	int ret;

	json_object_object_add(params, "config", json_tokener_parse(config ? config : "{}"));
	ret = rig_call("prepare", params);
	if (ret == 0) {
		assert_int_equal(pv_offer_from_json(rig_last.result, PV_NOXS_VIF, &offer, why, sizeof(why)), 0);
		memcpy(g->mac, offer.vif.mac, 6);
	}
	return ret;
}

static inline struct pv_noxs_choice guest_choice(const struct net_guest *g)
{
	struct pv_noxs_choice c = { .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .state = XenbusStateInitialised, .alive = 1,
				    .queues = (uint16_t)g->nq, .features = g->features };

	for (unsigned i = 0; i < g->nq; i++)
		c.vif[i] = (struct pv_noxs_vif_queue){ g->q[i].tx_gref, g->q[i].rx_gref, g->q[i].tx_port, g->q[i].rx_port };
	return c;
}

static inline int guest_connect(struct net_guest *g, const char *config)
{
	struct pv_connect c = { .id = guest_device(g), .config = json_tokener_parse(config ? config : "{}"), .choice = guest_choice(g) };
	struct json_object *params = pv_connect_to_json(&c);

	json_object_put(c.config);
	return rig_call("connect", params);
}

static inline void guest_up(struct net_guest *g, unsigned nq, uint32_t features, const char *config)
{
	guest_open(g, nq, features);
	if (guest_prepare(g, config))
		fail_msg("prepare: %s", rig_last.message);
	if (guest_connect(g, config))
		fail_msg("connect: %s", rig_last.message);
}

/* The rings anew, as a frontend does that connects again. */
static inline void guest_rings_reset(struct net_guest *g)
{
	for (unsigned i = 0; i < g->nq; i++) {
		pv_ring_init_front(&g->q[i].tx, g->q[i].tx_page, PV_PAGE_SIZE, PV_NET_TX_SLOT);
		pv_ring_init_front(&g->q[i].rx, g->q[i].rx_page, PV_PAGE_SIZE, PV_NET_RX_SLOT);
	}
}

/* Disconnect and connect: whatever waited for it is gone. */
static inline void guest_again(struct net_guest *g, const char *config)
{
	assert_int_equal(guest_call(g, "disconnect"), 0);
	guest_rings_reset(g);
	assert_int_equal(guest_connect(g, config), 0);
}

/* The domain ends, with all that it shared. */
static inline void guest_down(struct net_guest *g)
{
	bool one_port = g->one_port;

	if (guest_call(g, "disconnect") || guest_call(g, "remove"))
		fail_msg("%s", rig_last.message);
	pv_hyper_close(g->h);
	assert_int_equal(pv_hub_domain_destroy(rig.dom0, g->domid), 0);
	*g = (struct net_guest){ .one_port = one_port };
}

static inline void tx_slot(struct net_guest *g, unsigned queue, unsigned page, unsigned offset, unsigned size, unsigned flags)
{
	struct net_queue *q = &g->q[queue];

	pv_net_tx_fill(&q->tx, q->tx_grefs[page], (uint16_t)offset, (uint16_t)flags, (uint16_t)page, (uint16_t)size);
}

static inline void tx_extra(struct net_guest *g, unsigned queue, const struct netif_extra_info *e)
{
	union pv_net_tx_slot *slot = pv_ring_fill(&g->q[queue].tx);

	memset(slot, 0, PV_NET_TX_SLOT);
	slot->extra = *e;
}

static inline void tx_publish(struct net_guest *g, unsigned queue)
{
	if (pv_ring_publish(&g->q[queue].tx))
		pv_evt_notify(g->h, g->q[queue].tx_port);
}

/* Wait for n answers; their status goes to status[], if that is not NULL. False: the backend gave none for a while (ms). */
static inline bool tx_answers(struct net_guest *g, unsigned queue, unsigned n, int16_t *status, int ms)
{
	int64_t end = rig_ms() + ms;

	for (unsigned i = 0; i < n; i++) {
		struct netif_tx_response r;
		int ready;

		while ((ready = pv_ring_ready(&g->q[queue].tx)) == 0) {
			if (rig_ms() > end)
				return false;
			usleep(20);
		}
		assert_true(ready > 0);
		pv_net_tx_take_rsp(&g->q[queue].tx, &r);
		if (status)
			status[i] = r.status;
	}
	return true;
}

/* Receive one packet into buf. Returns its length, 0: none came within ms; flags and GSO go to *out, if not NULL. */
static inline unsigned rx_packet(struct net_guest *g, unsigned queue, uint8_t *buf, struct pv_net_rx_packet *out, int ms)
{
	struct net_queue *q = &g->q[queue];
	union pv_net_rx_slot slots[24];
	int64_t end = rig_ms() + ms;
	struct pv_net_rx_packet p;
	unsigned n = 0, len = 0;
	int used = 0, ready;

	while (!used) {
		while ((ready = pv_ring_ready(&q->rx)) == 0) {
			if (rig_ms() > end)
				return 0;
			usleep(20);
		}
		assert_true(ready > 0 && n < 24);
		pv_net_rx_take_rsp(&q->rx, &slots[n++]);
		used = pv_net_rx_parse(slots, n, &p);
	}
	assert_int_equal(used, n);
	for (unsigned i = 0; i < p.nr && !p.error; i++) {
		memcpy(buf + len, q->rx_data + p.frag[i].id * PV_PAGE_SIZE + p.frag[i].offset, p.frag[i].len);
		len += p.frag[i].len;
	}
	if (out)
		*out = p;
	return p.len ? p.len : 1;
}

/* An Ethernet frame of len bytes in buf: from, to, pattern. */
static inline void frame(uint8_t *buf, const uint8_t to[6], const uint8_t from[6], unsigned len, unsigned seed)
{
	for (unsigned i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed + i * 31 + (i >> 8));
	memcpy(buf, to, 6);
	memcpy(buf + 6, from, 6);
	if (len >= 14)
		buf[12] = buf[13] = 0x88; /* no protocol that anyone looks into */
}

/* Put a packet into the tx pages from `page` on, full pages but the last, and fill its slots. Returns the pages used. */
static inline unsigned tx_packet(struct net_guest *g, unsigned queue, unsigned page, const uint8_t *buf, unsigned len)
{
	unsigned n = (len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE;

	memcpy(g->q[queue].tx_data + page * PV_PAGE_SIZE, buf, len);
	for (unsigned i = 0; i < n; i++) {
		unsigned part = len - i * PV_PAGE_SIZE < PV_PAGE_SIZE ? len - i * PV_PAGE_SIZE : PV_PAGE_SIZE;

		tx_slot(g, queue, page + i, 0, i ? part : len, i + 1 < n ? NETTXF_more_data : 0);
	}
	return n;
}

/* One packet from -> to, compared. */
static inline void exchange(struct net_guest *from, struct net_guest *to, unsigned len, unsigned seed)
{
	static uint8_t sent[65536], got[65536];
	unsigned slots = (len + PV_PAGE_SIZE - 1) / PV_PAGE_SIZE, n;

	frame(sent, to->mac, from->mac, len, seed);
	rx_post(to, 0, slots);
	tx_packet(from, 0, 0, sent, len);
	tx_publish(from, 0);
	n = rx_packet(to, 0, got, NULL, PATIENCE);
	if (!n) {
		guest_call(to, "inspect");
		print_message("%s\n", json_object_to_json_string(rig_last.result));
		guest_call(from, "stats");
		print_message("%s\n", json_object_to_json_string(rig_last.result));
		fail_msg("a packet of %u bytes did not arrive", len);
	}
	assert_int_equal(n, len);
	assert_memory_equal(got, sent, len);
	assert_true(tx_answers(from, 0, slots, NULL, PATIENCE));
}

/* ---- the rig ---- */

static inline pid_t rig_spawn(const char *name, const char *const *args)
{
	char exe[256], *slash;
	const char *argv[16] = { name };
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 40);
	pid_t pid, parent = getpid();

	assert_true(n > 0);
	exe[n] = 0;
	for (int up = 0; up < 3; up++) { /* build/tests/hostile/test_x -> build */
		slash = strrchr(exe, '/');
		assert_non_null(slash);
		*slash = 0;
	}
	strcat(strcat(exe, "/"), name);
	for (int i = 0; args[i]; i++)
		argv[i + 1] = args[i];
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			execv(exe, (char *const *)argv);
		_exit(127);
	}
	assert_true(pid > 0);
	return pid;
}

/* Descriptors, less those of guests' memory files: the loopback port keeps a bounded number of them. */
static inline unsigned rig_fds(void)
{
	char path[64], link[64];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", rig.backend);
	d = opendir(path);
	assert_non_null(d);
	while ((e = readdir(d))) {
		ssize_t len = readlinkat(dirfd(d), e->d_name, link, sizeof(link));

		n += len < 7 || memcmp(link, "/memfd:", 7);
	}
	closedir(d);
	return n;
}

/* Ring pages that are mapped: memory files of one page. Larger ones are windows that the loopback port copies through; it drops those
 * of ended domains when it meets a new one. */
static inline unsigned rig_maps(void)
{
	char path[64], line[512];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", rig.backend);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;

		n += strstr(line, "memfd:") && sscanf(line, "%lx-%lx", &from, &to) == 2 && to - from == PV_PAGE_SIZE;
	}
	fclose(f);
	return n;
}

/* Wait until the backend, which now serves the two well-behaved guests alone, holds nothing more than it did at first. */
static inline void rig_no_leaks(void)
{
	int64_t end = rig_ms() + PATIENCE;

	if (!rig.fds) {
		rig.fds = rig_fds();
		rig.maps = rig_maps();
		rig.mbufs = guest_stat(&rig.a, "backend", "mbufs_in_use"); /* an uplink's ring of receive buffers */
	}
	while (guest_stat(&rig.a, "backend", "mbufs_in_use") > rig.mbufs) {
		if (rig_ms() > end)
			fail_msg("mbufs leaked: %lld, once %lld", (long long)guest_stat(&rig.a, "backend", "mbufs_in_use"), (long long)rig.mbufs);
		usleep(1000);
	}
	assert_int_equal(rig_fds(), rig.fds);
	assert_int_equal(rig_maps(), rig.maps);
}

/* The two still exchange packets both ways ... */
static inline void rig_check_exchange(void)
{
	for (unsigned i = 0; i < 20; i++) {
		exchange(&rig.a, &rig.b, 14 + i * 77, i);
		exchange(&rig.b, &rig.a, 14 + i * 3000, i);
	}
}

/* ... and nothing is left of anybody else. */
static inline void rig_check(void)
{
	rig_check_exchange();
	rig_no_leaks();
}

/* Wait until the backend has told that a device broke, and it is that of g. */
static inline void rig_wait_broken(const struct net_guest *g)
{
	int64_t end = rig_ms() + PATIENCE;

	while (!rig.broken) {
		if (rig_ms() > end)
			fail_msg("the backend did not notice");
		rig_pump(10);
	}
	assert_int_equal(rig.broken, 1);
	assert_int_equal(rig.broken_id.guest, g->domid);
	rig.broken = 0;
}

/* args: of pvio-netback, beside the hypervisor; ends with NULL. */
static inline void rig_open(const char *const *args)
{
	const char *all[16] = { "--hypervisor", "loopback", "--memory", "64", "--log", "warn" };
	struct pollfd p = { .events = POLLIN };
	int64_t end = rig_ms() + PATIENCE;
	char path[64], why[160];
	int fd = -1, n = 6;

	memset(&rig, 0, sizeof(rig));
	strcpy(rig.dir, "/tmp/pvio-net-XXXXXX");
	assert_non_null(mkdtemp(rig.dir));
	setenv("PVIO_RUNDIR", rig.dir, 1);
	rig.hub = rig_spawn("pvio-hub", (const char *const[]){ NULL });
	while (pv_hyper_open("loopback", 0, &rig.dom0, why, sizeof(why)) < 0) {
		if (rig_ms() > end)
			fail_msg("%s", why);
		usleep(1000);
	}
	snprintf(path, sizeof(path), "%s/pviod.sock", rig.dir);
	p.fd = rig.listener = pv_rpc_listen(path);
	assert_true(rig.listener >= 0);
	while (args && *args)
		all[n++] = *args++;
	rig.backend = rig_spawn("pvio-netback", all);
	assert_int_equal(poll(&p, 1, PATIENCE), 1);
	fd = accept4(rig.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pv_rpc_new(fd, &rig_rpc_ops, NULL, &rig.rpc), 0);
	while (!rig.registered)
		rig_pump(10);
	guest_up(&rig.a, 1, ALL_FEATURES, LARGE_MTU);
	guest_up(&rig.b, 1, ALL_FEATURES, LARGE_MTU);
	rig_check();
}

/* What is left when the backend and its guests are gone. */
static inline void rig_end(void)
{
	char path[64];
	int status;

	pv_rpc_free(rig.rpc);
	close(rig.listener);
	pv_hyper_close(rig.dom0);
	kill(rig.hub, SIGTERM);
	waitpid(rig.hub, &status, 0);
	snprintf(path, sizeof(path), "%s/pviod.sock", rig.dir);
	unlink(path);
	assert_int_equal(rmdir(rig.dir), 0);
}

static inline void rig_close(void)
{
	int status = -1;

	guest_down(&rig.a);
	guest_down(&rig.b);
	json_object_put(rig_last.result);
	rig_last.result = NULL;
	kill(rig.backend, SIGTERM);
	assert_int_equal(waitpid(rig.backend, &status, 0), rig.backend);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0); /* also: its sanitizer found no leak */
	rig_end();
}

#endif
