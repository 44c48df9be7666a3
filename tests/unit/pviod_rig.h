/* pviod_rig.h - for tests: the real pviod on a thread, a real hub in a child process, a fake backend and raw frontends.
 *
 * The fake backend speaks what backend.h says, by rpc.h, so that it can refuse, keep silent and die wherever a test wants it
 * to. It maps the rings and binds the ports that it is told, so that what it forgets to give back is counted by the hub.
 * A frontend follows rings/NOXS.md step by step; each step has a name, at which it can be stopped (in a child process).
 */
#ifndef PVIOD_RIG_H
#define PVIOD_RIG_H

#include "tests/unit/loopback.h"
#include "dom0-tools/pviod.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

enum { RIG_MS = 20000 /* a step that takes longer has failed */, RIG_DEVICES = 160, RIG_BACKENDS = 3, RIG_CLIENTS = 2 };

static uint64_t rig_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ull + t.tv_nsec / 1000000;
}

/* ---- the fake backend ---- */

enum be_method { BE_PREPARE, BE_CONNECT, BE_DISCONNECT, BE_REMOVE, BE_STATS, BE_INSPECT, BE_ASK, BE_SET, BE_METHODS };
static const char *const be_names[BE_METHODS] = { "prepare", "connect", "disconnect", "remove", "stats", "inspect", "ask", "set" };

struct be_device {
	bool used;
	struct pv_device_id id;
	void *ring[2];
	int port;
};

struct be {
	struct pv_rpc *rpc; /* NULL: it is not there */
	struct pv_hyper *h;
	const char *kind, *name;
	uint16_t domid; /* the driver domain that it is in */
	bool registered;
	int refused; /* the code of a refused registration */
	unsigned calls[BE_METHODS];
	unsigned silent, die, die_after; /* masks of methods: does not answer; dies instead of, after answering */
	int fail[BE_METHODS]; /* code to fail with, 0: do it */
	int fail_adopt; /* the same for a connect that adopts */
	unsigned adopts;
	uint64_t held[BE_METHODS]; /* the last call that was not answered */
	struct json_object *offer; /* instead of the usual one */
	const char *stats; /* JSON, instead of the usual one */
	char config[500]; /* as the last call brought it */
	struct be_device dev[RIG_DEVICES];
};

static struct be_device *be_device(struct be *b, const struct pv_device_id *id, bool make)
{
	struct be_device *free_one = NULL;

	for (int i = 0; i < RIG_DEVICES; i++) {
		struct be_device *d = &b->dev[i];

		if (d->used && d->id.guest == id->guest && d->id.devid == id->devid && d->id.type == id->type)
			return d;
		if (!d->used && !free_one)
			free_one = d;
	}
	if (!make)
		return NULL;
	assert_non_null(free_one);
	*free_one = (struct be_device){ .used = true, .id = *id };
	return free_one;
}

static void be_let_go(struct be *b, const struct pv_device_id *id)
{
	struct be_device *d = be_device(b, id, false);

	if (!d)
		return;
	for (int i = 0; i < 2; i++)
		if (d->ring[i])
			assert_int_equal(pv_gnt_unmap(b->h, d->ring[i], 1), 0);
	if (d->port > 0)
		assert_int_equal(pv_evt_unbind(b->h, d->port), 0);
	d->used = false;
}

static int be_take(struct be *b, struct json_object *params)
{
	struct pv_connect c;
	struct be_device *d;
	char why[200];
	uint32_t gref[2], port;
	int n, rc = pv_connect_from_json(params, &c, why, sizeof(why));

	if (rc < 0)
		fail_msg("%s", why);
	if (c.id.type == PV_NOXS_VF) /* of a guest of xl: nothing is served */
		return 0;
	be_let_go(b, &c.id);
	d = be_device(b, &c.id, true);
	n = c.id.type == PV_NOXS_VIF ? 2 : 1;
	gref[0] = c.id.type == PV_NOXS_VIF ? c.choice.vif[0].tx_gref : c.id.type == PV_NOXS_VF ? c.choice.vf[0].gref : c.choice.vbd[0].ring_gref[0];
	gref[1] = c.choice.vif[0].rx_gref;
	port = c.id.type == PV_NOXS_VIF ? c.choice.vif[0].tx_port : c.id.type == PV_NOXS_VF ? c.choice.vf[0].port : c.choice.vbd[0].port;
	for (int i = 0; i < n && rc == 0; i++)
		rc = pv_gnt_map(b->h, c.id.guest, &gref[i], 1, true, NULL, &d->ring[i]);
	if (rc == 0) {
		d->port = pv_evt_bind(b->h, c.id.guest, port);
		rc = d->port < 0 ? d->port : 0;
	}
	if (rc < 0)
		be_let_go(b, &c.id);
	return rc;
}

static struct json_object *be_offer(struct be *b, uint16_t type)
{
	struct pv_noxs_offer o = { .type = type };

	if (b->offer)
		return json_object_get(b->offer);
	if (type == PV_NOXS_VIF)
		o.vif = (struct pv_noxs_vif_offer){ .mac = { 0, 0x16, 0x3e, 1, 2, 3 }, .queues_max = 4, .mtu = 1500, .features = PV_VIF_SG | PV_VIF_CSUM_IPV4, .carrier = 1 };
	else if (type == PV_NOXS_VF)
		o.vf.functions = 2;
	else
		o.vbd = (struct pv_noxs_vbd_offer){ .sectors = 2048, .sector_size = 512, .physical_sector_size = 4096, .features = PV_VBD_FLUSH,
						    .queues_max = 2, .ring_order_max = 2, .indirect_max = 256 };
	return pv_offer_to_json(&o, type);
}

/* As when its process is killed: connection, maps and ports go at once. */
static void be_kill(struct be *b)
{
	pv_rpc_free(b->rpc);
	b->rpc = NULL;
	pv_hyper_close(b->h);
	b->h = NULL;
	b->registered = false;
	memset(b->dev, 0, sizeof(b->dev));
}

static void be_called(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	struct be *b = ctx;
	struct pv_device_id dev;
	struct json_object *result = NULL;
	char why[200];
	unsigned m;
	int rc = 0;

	if (strcmp(method, "resume") == 0) {
		pv_rpc_reply(rpc, id, NULL);
		return;
	}
	for (m = 0; m < BE_METHODS && strcmp(method, be_names[m]); m++)
		;
	assert_int_not_equal(m, BE_METHODS);
	if (pv_device_id_from_json(params, &dev, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	b->calls[m]++;
	if (m == BE_PREPARE || m == BE_SET || m == BE_CONNECT)
		snprintf(b->config, sizeof(b->config), "%s",
			 json_object_to_json_string_ext(json_object_object_get(params, "config"), JSON_C_TO_STRING_PLAIN));
	if (b->die & 1u << m) {
		be_kill(b);
		return;
	}
	if (b->silent & 1u << m) {
		b->held[m] = id;
		return;
	}
	if (m == BE_CONNECT && json_object_object_get_ex(params, "adopt", NULL)) {
		b->adopts++;
		rc = b->fail_adopt;
	}
	if (rc < 0)
		;
	else if (b->fail[m])
		rc = b->fail[m];
	else if (m == BE_PREPARE || m == BE_SET)
		result = be_offer(b, dev.type);
	else if (m == BE_CONNECT)
		rc = be_take(b, params);
	else if (m == BE_DISCONNECT || m == BE_REMOVE)
		be_let_go(b, &dev);
	else if (m == BE_STATS && b->stats)
		result = json_tokener_parse(b->stats);
	else if (m == BE_STATS)
		json_object_object_add(result = json_object_new_object(), "packets", json_object_new_int(7));
	else if (m == BE_ASK)
		json_object_object_add(result = json_object_new_object(), "asked", json_object_get(params));
	if (rc < 0)
		pv_rpc_fail(rpc, id, rc, "the fake backend refuses to %s", method);
	else
		pv_rpc_reply(rpc, id, result);
	if (b->die_after & 1u << m) {
		pv_rpc_work(rpc); /* (from a callback: only notes) */
		b->die |= 1u << BE_METHODS; /* after this turn, so that the answer leaves */
	}
}

static void be_closed(void *ctx, struct pv_rpc *rpc, int err)
{
	(void)rpc, (void)err;
	be_kill(ctx);
}

static const struct pv_rpc_ops be_ops = { .call = be_called, .closed = be_closed };

static void be_registered(void *arg, int code, const char *message, struct json_object *result)
{
	struct be *b = arg;

	(void)message, (void)result;
	b->registered = code == 0;
	b->refused = code;
}

/* ---- clients ---- */

struct client {
	struct pv_rpc *rpc; /* NULL: it was cut off */
};

struct answer {
	bool done;
	int code;
	char why[512];
	struct json_object *result;
};

static void client_called(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	(void)ctx, (void)rpc, (void)id, (void)params;
	fail_msg("pviod calls a client: %s", method);
}

static void client_closed(void *ctx, struct pv_rpc *rpc, int err)
{
	struct client *c = ctx;

	(void)err;
	pv_rpc_free(rpc);
	c->rpc = NULL;
}

static const struct pv_rpc_ops client_ops = { .call = client_called, .closed = client_closed };

/* ---- the rig ---- */

struct rig {
	struct pviod d;
	pthread_t thread;
	uv_async_t hold; /* pviod's loop waits for `go` */
	sem_t go;
	char sock[128];
	struct pv_hyper *dom0; /* the test's own: it counts */
	struct be be[RIG_BACKENDS];
	struct client client[RIG_CLIENTS];
	uint16_t domid; /* guest "web" */
	void (*also)(void); /* called each turn: a frontend in this process */
	struct pv_hub_domain before[2]; /* dom0's and the guest's counts, as rig_mark found them */
};

static struct rig *rig;

static void *rig_pviod(void *arg)
{
	pviod_run(arg);
	return NULL;
}

static void rig_held(uv_async_t *a)
{
	(void)a;
	sem_wait(&rig->go);
}

/* pviod stops in its loop, until rig_go(); called while it is stopped: it stops again where it has taken what has come meanwhile. */
static UNUSED void rig_hold(void)
{
	uv_async_send(&rig->hold);
	usleep(20000);
}

static UNUSED void rig_go(void)
{
	sem_post(&rig->go);
}

static void rig_rpc(struct pv_rpc *rpc)
{
	pv_rpc_work(rpc);
}

/* One turn: backends answer, clients listen. */
static void rig_turn(void)
{
	struct pollfd p[RIG_BACKENDS + RIG_CLIENTS];
	int n = 0;

	for (int i = 0; i < RIG_BACKENDS; i++)
		if (rig->be[i].rpc)
			p[n++] = (struct pollfd){ .fd = pv_rpc_fd(rig->be[i].rpc), .events = pv_rpc_events(rig->be[i].rpc) };
	for (int i = 0; i < RIG_CLIENTS; i++)
		if (rig->client[i].rpc)
			p[n++] = (struct pollfd){ .fd = pv_rpc_fd(rig->client[i].rpc), .events = pv_rpc_events(rig->client[i].rpc) };
	poll(p, n, 1);
	for (int i = 0; i < RIG_BACKENDS; i++) {
		struct be *b = &rig->be[i];

		if (b->rpc)
			rig_rpc(b->rpc);
		if (b->rpc && b->die & 1u << BE_METHODS)
			be_kill(b);
		b->die &= ~(1u << BE_METHODS);
	}
	for (int i = 0; i < RIG_CLIENTS; i++)
		if (rig->client[i].rpc)
			rig_rpc(rig->client[i].rpc);
	if (rig->also)
		rig->also();
}

#define WAIT(condition)                                                                                                  \
	do {                                                                                                             \
		uint64_t wait_end = rig_ms() + RIG_MS;                                                                   \
		while (!(condition)) {                                                                                   \
			if (rig_ms() > wait_end)                                                                         \
				fail_msg("%s:%d: not in %d s: %s (%s)", __FILE__, __LINE__, RIG_MS / 1000, #condition, rig_words()); \
			rig_turn();                                                                                      \
		}                                                                                                        \
	} while (0)

static const char *rig_words(void);

static void client_open(struct client *c)
{
	int fd = pv_rpc_connect(rig->sock);

	assert_true(fd >= 0);
	assert_int_equal(pv_rpc_new(fd, &client_ops, c, &c->rpc), 0);
}

static void be_start(struct be *b, const char *kind, const char *name)
{
	struct json_object *o = json_object_new_object();
	int fd = pv_rpc_connect(rig->sock);

	assert_true(fd >= 0);
	assert_null(b->rpc);
	memset(b->calls, 0, sizeof(b->calls));
	b->adopts = 0;
	b->kind = kind;
	b->name = name;
	if (!b->h)
		b->h = lb_open(b->domid);
	b->refused = 0;
	assert_int_equal(pv_rpc_new(fd, &be_ops, b, &b->rpc), 0);
	json_object_object_add(o, "kind", json_object_new_string(kind));
	json_object_object_add(o, "name", json_object_new_string(name));
	json_object_object_add(o, "pid", json_object_new_int(getpid()));
	json_object_object_add(o, "version", json_object_new_string("test"));
	json_object_object_add(o, "domid", json_object_new_int(b->domid));
	assert_int_equal(pv_rpc_call(b->rpc, "register", o, RIG_MS, be_registered, b), 0);
	WAIT(b->registered || b->refused);
}

/* In place of one that died: as pv_backend does, it tries again until pviod has noticed that. */
static UNUSED void be_restart(struct be *b, const char *kind, const char *name)
{
	for (;;) {
		be_start(b, kind, name);
		if (b->registered)
			return;
		assert_int_equal(b->refused, -EEXIST);
		be_kill(b);
	}
}

/* Answer now what was held. */
static UNUSED void be_answer(struct be *b, enum be_method m, int code, struct json_object *result)
{
	assert_true(b->held[m] != 0);
	if (code < 0)
		pv_rpc_fail(b->rpc, b->held[m], code, "late refusal");
	else
		pv_rpc_reply(b->rpc, b->held[m], result);
	b->held[m] = 0;
}

/* ---- asking pviod ---- */

static void answered_client(void *arg, int code, const char *message, struct json_object *result)
{
	struct answer *a = arg;

	a->done = true;
	a->code = code;
	snprintf(a->why, sizeof(a->why), "%s", message ? message : "");
	a->result = json_object_get(result);
}

static struct json_object *params_of_text(const char *fmt, va_list ap)
{
	char text[16384];
	struct json_object *o;

	vsnprintf(text, sizeof(text), fmt, ap);
	o = json_tokener_parse(text);
	if (!o)
		fail_msg("the test's parameters are no JSON: %s", text);
	return o;
}

/* Ask; the answer comes while turning. */
static void __attribute__((format(printf, 4, 5))) ask_on(struct client *c, struct answer *a, const char *method, const char *fmt, ...)
{
	va_list ap;

	*a = (struct answer){ 0 };
	va_start(ap, fmt);
	assert_int_equal(pv_rpc_call(c->rpc, method, params_of_text(fmt, ap), RIG_MS, answered_client, a), 0);
	va_end(ap);
}

#define ask(a, method, ...) ask_on(&rig->client[0], a, method, __VA_ARGS__)

/* Ask and wait: the result, or fail the test. */
#define get(method, ...)                                                                             \
	({                                                                                           \
		struct answer get_a;                                                                 \
		ask(&get_a, method, __VA_ARGS__);                                                    \
		WAIT(get_a.done);                                                                    \
		if (get_a.code)                                                                      \
			fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, method, get_a.why);            \
		get_a.result;                                                                        \
	})

#define good(method, ...) json_object_put(get(method, __VA_ARGS__))

static UNUSED char refused_why[512]; /* of the last `refused` */

/* Ask and wait for a refusal: its code. */
#define refused(method, ...)                                                          \
	({                                                                            \
		struct answer ref_a;                                                  \
		ask(&ref_a, method, __VA_ARGS__);                                     \
		WAIT(ref_a.done);                                                     \
		json_object_put(ref_a.result);                                        \
		memcpy(refused_why, ref_a.why, sizeof(refused_why));                  \
		ref_a.code;                                                           \
	})

static const char *text_in(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) && v ? json_object_get_string(v) : "";
}

static UNUSED int number_in(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	assert_true(json_object_object_get_ex(o, key, &v));
	return json_object_get_int(v);
}

/* The nth device that `list` shows, ours; NULL: there are less. */
static struct json_object *listed(int n)
{
	struct answer a;
	struct json_object *devices = NULL, *dev = NULL;

	ask(&a, "list", "{}");
	while (!a.done)
		rig_turn();
	assert_int_equal(a.code, 0);
	json_object_object_get_ex(a.result, "devices", &devices);
	if ((int)json_object_array_length(devices) > n)
		dev = json_object_get(json_object_array_get_idx(devices, n));
	json_object_put(a.result);
	return dev;
}

/* What `list` says about the nth device: its state, "" if it is not there. Static. */
static const char *state_of(int n)
{
	static char state[32];
	struct json_object *dev = listed(n);

	snprintf(state, sizeof(state), "%s", dev ? text_in(dev, "state") : "");
	json_object_put(dev);
	return state;
}

static UNUSED bool is(int n, const char *state)
{
	return strcmp(state_of(n), state) == 0;
}

/* pviod's own name of the nth device's state; "" if it is not there. Static. */
static UNUSED const char *inner_state(int n)
{
	static char state[32];
	struct json_object *devices = NULL, *pviod = NULL;
	struct answer a;

	ask(&a, "inspect", "{}");
	while (!a.done)
		rig_turn();
	json_object_object_get_ex(a.result, "devices", &devices);
	state[0] = '\0';
	if (devices && (int)json_object_array_length(devices) > n) {
		json_object_object_get_ex(json_object_array_get_idx(devices, n), "pviod", &pviod);
		snprintf(state, sizeof(state), "%s", text_in(pviod, "state"));
	}
	json_object_put(a.result);
	return state;
}

static UNUSED bool is_inner(int n, const char *state)
{
	return strcmp(inner_state(n), state) == 0;
}

/* For a failure: how it stands. */
static const char *rig_words(void)
{
	static char words[512];
	static bool busy;
	struct json_object *dev;

	if (busy || !rig->client[0].rpc)
		return "?";
	busy = true;
	dev = listed(0);
	snprintf(words, sizeof(words), "device: %s", dev ? json_object_to_json_string(dev) : "none");
	json_object_put(dev);
	busy = false;
	return words;
}

/* ---- counting ---- */

static struct pv_hub_domain count(uint16_t domid)
{
	struct pv_hub_domain all[64];
	int n = pv_hub_domain_list(rig->dom0, all, 64);

	assert_true(n >= 0);
	for (int i = 0; i < n && i < 64; i++)
		if (all[i].domid == domid)
			return all[i];
	return (struct pv_hub_domain){ .domid = 0xffff };
}

static UNUSED void rig_mark(void)
{
	rig->before[0] = count(0);
	rig->before[1] = count(rig->domid);
}

static bool same_counts(const struct pv_hub_domain *a, const struct pv_hub_domain *b)
{
	return a->grants == b->grants && a->pinned == b->pinned && a->ports == b->ports && a->maps == b->maps;
}

/* Is everything given back that was taken since rig_mark? `pages` more control pages may be kept for reuse. */
static UNUSED bool rig_as_before(unsigned pages)
{
	struct pv_hub_domain dom0 = count(0), guest = count(rig->domid);

	dom0.grants -= dom0.grants - rig->before[0].grants == pages ? pages : 0;
	return same_counts(&dom0, &rig->before[0]) && same_counts(&guest, &rig->before[1]);
}

static UNUSED void rig_check(unsigned pages)
{
	uint64_t end = rig_ms() + RIG_MS;

	while (!rig_as_before(pages)) {
		if (rig_ms() > end) {
			struct pv_hub_domain n[2] = { count(0), count(rig->domid) };

			for (int i = 0; i < 2; i++)
				print_message("domain %u: grants %u -> %u, pinned %u -> %u, ports %u -> %u, maps %u -> %u\n", n[i].domid,
					      rig->before[i].grants, n[i].grants, rig->before[i].pinned, n[i].pinned,
					      rig->before[i].ports, n[i].ports, rig->before[i].maps, n[i].maps);
			fail_msg("something was not given back");
		}
		rig_turn();
	}
}

/* ---- up and down ---- */

static struct pviod_options rig_options;

static int rig_hub_up(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	lb_up(NULL, NULL);
	pv_log_open("pviod", PV_LOG_ERR);
	return 0;
}

static int rig_hub_down(void **state)
{
	(void)state;
	lb_down();
	return 0;
}

/* pviod alone. */
static int rig_up_bare(void **state)
{
	char why[WHY_LEN];

	(void)state;
	rig = calloc(1, sizeof(*rig));
	assert_non_null(rig);
	snprintf(rig->sock, sizeof(rig->sock), "%s/pviod.sock", lb_dir);
	rig_options.hypervisor = lb_spec;
	rig_options.socket = rig->sock;
	rig_options.embedded = true;
	if (pviod_open(&rig->d, &rig_options, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	sem_init(&rig->go, 0, 0);
	uv_async_init(&rig->d.loop, &rig->hold, rig_held);
	assert_int_equal(pthread_create(&rig->thread, NULL, rig_pviod, &rig->d), 0);
	rig->dom0 = lb_open(0);
	client_open(&rig->client[0]);
	return 0;
}

/* pviod, a vif backend, and a guest "web". */
static UNUSED int rig_up(void **state)
{
	struct json_object *g;

	rig_up_bare(state);
	be_start(&rig->be[0], "vif", "netback");
	assert_true(rig->be[0].registered);
	g = get("guest.create", "{\"name\":\"web\"}");
	rig->domid = number_in(g, "domid");
	json_object_put(g);
	return 0;
}

/* End pviod in order: afterwards the hub holds nothing of it. */
static UNUSED int rig_down(void **state)
{
	struct pv_hub_domain n;

	(void)state;
	rig->also = NULL;
	pviod_stop(&rig->d);
	while (pthread_tryjoin_np(rig->thread, NULL) == EBUSY)
		rig_turn(); /* the backends answer its last calls */
	pviod_close(&rig->d);
	for (int i = 0; i < RIG_BACKENDS; i++) {
		if (rig->be[i].rpc)
			be_kill(&rig->be[i]);
		json_object_put(rig->be[i].offer);
	}
	for (int i = 0; i < RIG_CLIENTS; i++)
		pv_rpc_free(rig->client[i].rpc);
	n = count(0);
	assert_int_equal(pv_hub_domain_list(rig->dom0, NULL, 0), 1);
	assert_int_equal(n.grants, 0);
	assert_int_equal(n.pinned, 0);
	assert_int_equal(n.ports, 0);
	assert_int_equal(n.maps, 0);
	pv_hyper_close(rig->dom0);
	free(rig);
	rig = NULL;
	return 0;
}

/* ---- a raw frontend, as NOXS.md has it ---- */

enum fe_step { /* each is reached after what it names was done */
	FE_OPENED, FE_FOUND, FE_BOUND, FE_MAPPED, FE_BEGUN /* Initialising is written */, FE_SHARED, FE_CHOSEN /* Initialised is written */,
	FE_TOLD /* ... and notified */, FE_SAW_CONNECTED, FE_FOLLOWED /* Connected is written */, FE_CLOSING /* Closing is written */,
	FE_TOLD_CLOSING, FE_SAW_CLOSED, FE_UNSHARED, FE_CLOSED /* Closed is written */, FE_TOLD_CLOSED, FE_STEPS
};

enum fe_state { FE_NONE, FE_CONNECTING, FE_CONNECTED, FE_LEAVING, FE_LEFT, FE_GONE };

struct fe {
	struct pv_hyper *h;
	enum pv_noxs_type type;
	uint32_t devid;
	enum fe_state state;
	struct pv_noxs_entry entry;
	struct pv_noxs_control_page *page;
	struct pv_noxs_choice choice;
	int port, ring_port;
	void *ring[2];
	uint32_t gref[2], generation, retired;
	int error; /* that the backend showed with Closed */
	bool left_once, again; /* again: after leaving, connect again */
	void (*at)(struct fe *f, enum fe_step step); /* NULL: go on */
};

static void fe_at(struct fe *f, enum fe_step step)
{
	if (f->at)
		f->at(f, step);
}

static void fe_tell(struct fe *f)
{
	pv_evt_notify(f->h, f->port);
}

/* The entry of our device, through all linked pages. Returns 0; -ENOENT. */
static int fe_entry(struct fe *f, struct pv_noxs_entry *out)
{
	struct pv_noxs_pointer p;
	uint32_t gref;

	if (pv_hyper_pointer(f->h, &p) < 0)
		return -ENOENT;
	for (gref = p.gref; gref;) {
		struct pv_noxs_device_page copy;
		void *page;
		int slot, rc = pv_gnt_map(f->h, 0, &gref, 1, false, NULL, &page);

		if (rc < 0)
			return -ENOENT;
		rc = pv_noxs_device_read(page, &copy);
		pv_gnt_unmap(f->h, page, 1);
		if (rc < 0)
			return -ENOENT;
		slot = pv_noxs_device_find(&copy, f->type, f->devid);
		if (slot >= 0) {
			*out = copy.entries[slot];
			return 0;
		}
		gref = copy.next_gref;
	}
	return -ENOENT;
}

static void fe_drop_page(struct fe *f)
{
	if (f->page)
		pv_gnt_unmap(f->h, f->page, 1);
	if (f->port > 0)
		pv_evt_unbind(f->h, f->port);
	f->page = NULL;
	f->port = 0;
}

/* Bind the device's port, map its control page. Returns 0 or not yet. */
static int fe_map(struct fe *f, const struct pv_noxs_entry *e)
{
	struct pv_gnt_notice notice = { .offset = PV_NOXS_CHOICE_OFFSET + offsetof(struct pv_noxs_choice, alive) };
	void *page;

	if (f->page && f->entry.port == e->port && f->entry.control_gref == e->control_gref)
		return 0;
	fe_drop_page(f);
	f->port = pv_evt_bind(f->h, 0, e->port);
	if (f->port < 0)
		return f->port;
	fe_at(f, FE_BOUND);
	notice.port = f->port;
	if (pv_gnt_map(f->h, 0, &e->control_gref, 1, true, &notice, &page) < 0) {
		fe_drop_page(f);
		return -EAGAIN;
	}
	f->page = page;
	fe_at(f, FE_MAPPED);
	return 0;
}

static void fe_share(struct fe *f)
{
	int n = f->type == PV_NOXS_VIF ? 2 : 1;

	for (int i = 0; i < n; i++)
		if (pv_gnt_share(f->h, f->entry.backend_domid, 1, true, NULL, &f->gref[i], &f->ring[i]) < 0)
			abort();
	f->ring_port = pv_evt_alloc(f->h, f->entry.backend_domid);
	if (f->ring_port < 0)
		abort();
}

static void fe_unshare(struct fe *f)
{
	for (int i = 0; i < 2; i++)
		if (f->ring[i])
			pv_gnt_unshare(f->h, f->ring[i], 1);
	if (f->ring_port > 0)
		pv_evt_unbind(f->h, f->ring_port);
	f->ring[0] = f->ring[1] = NULL;
	f->ring_port = 0;
}

/* A legal choice of what is offered. */
static void fe_fill_choice(struct fe *f)
{
	struct pv_noxs_choice *c = &f->choice;

	*c = (struct pv_noxs_choice){ .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = f->generation,
				      .state = XenbusStateInitialised, .alive = 1, .queues = 1 };
	if (f->type == PV_NOXS_VIF) {
		c->features = PV_VIF_SG;
		c->vif[0] = (struct pv_noxs_vif_queue){ .tx_gref = f->gref[0], .rx_gref = f->gref[1], .tx_port = f->ring_port, .rx_port = f->ring_port };
	} else {
		c->vbd[0].ring_gref[0] = f->gref[0];
		c->vbd[0].port = f->ring_port;
	}
}

static void fe_begin(struct fe *f)
{
	struct pv_noxs_choice c = { .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = f->generation,
				    .state = XenbusStateInitialising, .alive = 1 };

	pv_noxs_choice_write(f->page, &c);
}

static void fe_find(struct fe *f)
{
	struct pv_noxs_entry e;
	struct pv_noxs_offer o;

	if (fe_entry(f, &e) < 0) {
		if (f->left_once) {
			fe_drop_page(f);
			f->state = f->again ? FE_NONE : FE_GONE;
		}
		return;
	}
	fe_at(f, FE_FOUND);
	if (fe_map(f, &e) < 0)
		return;
	f->entry = e;
	if (pv_noxs_offer_read(f->page, f->type, &o) < 0 || o.generation != e.generation || o.state != XenbusStateInitWait)
		return;
	if (f->left_once && o.generation == f->retired)
		return;
	f->generation = o.generation;
	fe_begin(f);
	fe_at(f, FE_BEGUN);
	fe_share(f);
	fe_at(f, FE_SHARED);
	fe_fill_choice(f);
	pv_noxs_choice_write(f->page, &f->choice);
	fe_at(f, FE_CHOSEN);
	f->state = FE_CONNECTING; /* before the backend can connect it */
	fe_tell(f);
	fe_at(f, FE_TOLD);
}

/* Our part is over: end what is shared, Closed. That was the end of another's connection, who died before, if we have none and there is no error. */
static void fe_end(struct fe *f)
{
	bool of_another = f->state == FE_CONNECTING && !f->error;

	fe_at(f, FE_SAW_CLOSED);
	fe_unshare(f);
	fe_at(f, FE_UNSHARED);
	pv_noxs_frontend_state(f->page, XenbusStateClosed);
	fe_at(f, FE_CLOSED);
	fe_tell(f);
	fe_at(f, FE_TOLD_CLOSED);
	f->retired = f->generation;
	f->left_once = true;
	f->state = f->again || of_another ? FE_NONE : FE_LEFT;
}

static void fe_leave(struct fe *f)
{
	if (f->state != FE_CONNECTING && f->state != FE_CONNECTED)
		return;
	f->state = FE_LEAVING;
	pv_noxs_frontend_state(f->page, XenbusStateClosing);
	fe_at(f, FE_CLOSING);
	fe_tell(f);
	fe_at(f, FE_TOLD_CLOSING);
}

/* Follow the backend's state. */
static void fe_follow(struct fe *f)
{
	enum xenbus_state s = pv_noxs_backend_state_read(f->page);
	struct pv_noxs_offer o;

	if (pv_noxs_offer_read(f->page, f->type, &o) < 0)
		return;
	if (o.generation != f->generation) {
		fe_unshare(f);
		f->state = f->state == FE_LEAVING && !f->again ? FE_LEFT : FE_NONE;
	} else if (s == XenbusStateClosed) {
		f->error = o.error;
		fe_end(f);
	} else if (s == XenbusStateClosing && f->state != FE_LEAVING) {
		fe_leave(f);
	} else if (s == XenbusStateConnected && f->state == FE_CONNECTING) {
		fe_at(f, FE_SAW_CONNECTED);
		pv_noxs_frontend_state(f->page, XenbusStateConnected);
		f->state = FE_CONNECTED;
		fe_tell(f);
		fe_at(f, FE_FOLLOWED);
	}
}

static void fe_turn(struct fe *f)
{
	uint32_t ports[16];
	int n = pv_evt_pending(f->h, ports, 16);

	if (f->state == FE_NONE || f->state == FE_LEFT)
		f->state == FE_NONE ? fe_find(f) : (void)0;
	else if (f->state != FE_GONE)
		fe_follow(f);
	if (n > 0)
		pv_evt_unmask(f->h, ports, n);
}

static void fe_open(struct fe *f, uint16_t domid, enum pv_noxs_type type, uint32_t devid)
{
	void (*at)(struct fe *, enum fe_step) = f->at;

	*f = (struct fe){ .h = lb_open(domid), .type = type, .devid = devid, .at = at };
	fe_at(f, FE_OPENED);
}

static void fe_close(struct fe *f)
{
	pv_hyper_close(f->h); /* as when the process ends */
	*f = (struct fe){ 0 };
}

/* ---- a frontend as a process of its own, which stops at a step ---- */

struct fe_child {
	pid_t pid;
	int said, go; /* it said that it is there; it may go on when a byte comes */
};

static int fe_said = -1, fe_go = -1;
static enum fe_step fe_stop_at;

static void fe_stop(struct fe *f, enum fe_step step)
{
	char c = 's';

	(void)f;
	if (step != fe_stop_at)
		return;
	fe_stop_at = FE_STEPS; /* once */
	if (write(fe_said, &c, 1) != 1 || read(fe_go, &c, 1) != 1)
		_exit(3);
}

/* Connect, and leave of itself; ends when the device is gone or offered anew. */
static void __attribute__((noreturn)) fe_child_main(uint16_t domid, uint32_t devid)
{
	struct fe f = { .at = fe_stop };
	uint64_t end = rig_ms() + 2 * RIG_MS;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fe_open(&f, domid, PV_NOXS_VIF, devid);
	while (f.state != FE_LEFT && f.state != FE_GONE && rig_ms() < end) {
		fe_turn(&f);
		if (f.state == FE_CONNECTED)
			fe_leave(&f);
		usleep(300);
	}
	_exit(f.state == FE_LEFT || f.state == FE_GONE ? 0 : 4);
}

/* A child of a process with threads may not do more than exec (another thread may hold the allocator's lock), so children are this
 * program again, with words of which main never hears. */
static void __attribute__((constructor)) fe_child_entry(int argc, char **argv)
{
	if (argc != 6 || strcmp(argv[1], "--frontend"))
		return;
	snprintf(lb_spec, sizeof(lb_spec), "%s", argv[2]);
	fe_said = 1000;
	fe_go = 1001;
	fe_stop_at = (enum fe_step)atoi(argv[5]);
	fe_child_main((uint16_t)atoi(argv[3]), (uint32_t)atoi(argv[4]));
}

static UNUSED struct fe_child fe_spawn(uint32_t devid, enum fe_step stop_at)
{
	char guest[16], device[16], step[16];
	struct fe_child c;
	int said[2], go[2];

	snprintf(guest, sizeof(guest), "%u", rig->domid);
	snprintf(device, sizeof(device), "%u", devid);
	snprintf(step, sizeof(step), "%d", (int)stop_at);

	assert_int_equal(pipe(said), 0);
	assert_int_equal(pipe(go), 0);
	c.pid = fork();
	if (c.pid == 0) {
		dup2(said[1], 1000);
		dup2(go[0], 1001);
		close_range(3, 999, 0); /* or it would keep the other sockets of this process open when those are closed here */
		execl("/proc/self/exe", "frontend", "--frontend", lb_spec, guest, device, step, NULL);
		_exit(127);
	}
	close(said[1]);
	close(go[0]);
	c.said = said[0];
	c.go = go[1];
	return c;
}

static UNUSED bool fe_stopped(struct fe_child *c)
{
	struct pollfd p = { .fd = c->said, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static UNUSED void fe_continue(struct fe_child *c)
{
	assert_int_equal(write(c->go, "g", 1), 1);
}

static UNUSED bool fe_ended(struct fe_child *c)
{
	int status;
	pid_t pid = c->pid > 0 ? waitpid(c->pid, &status, WNOHANG) : 0;

	if (pid == 0)
		return c->pid <= 0;
	assert_int_equal(pid, c->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	c->pid = 0;
	close(c->said);
	close(c->go);
	return true;
}

static UNUSED void fe_kill(struct fe_child *c)
{
	kill(c->pid, SIGKILL);
	assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
	close(c->said);
	close(c->go);
}

/* ---- a frontend in this process, driven by the rig's turns ---- */

static struct fe fe1;

static void fe1_turn(void)
{
	if (fe1.h)
		fe_turn(&fe1);
}

static UNUSED void fe1_open(uint32_t devid)
{
	fe1.at = NULL;
	fe_open(&fe1, rig->domid, PV_NOXS_VIF, devid);
	rig->also = fe1_turn;
}

static UNUSED void fe1_close(void)
{
	rig->also = NULL;
	fe_close(&fe1);
}

#endif
