/* test_pipe_link.c - backends in a driver domain find pviod through pipes, and find it again. With a real pviod; run with TSan too. */
#include "tests/unit/pviod_rig.h"
#include "tests/unit/front_fake.h"
#include <pvio/pipe.h>
#include <pvio/pipe_link.h>

enum { BACKENDS = 3 };

static struct pv_backend *backends[BACKENDS];
static uint16_t storage;
static unsigned removed; /* calls that reached a backend */

static int op_prepare(void *ctx, const struct pv_device_id *id, struct json_object *config, struct pv_noxs_offer *offer, char *why, size_t len)
{
	(void)ctx, (void)id, (void)config, (void)why, (void)len;
	offer->vbd = (struct pv_noxs_vbd_offer){ .sectors = 8, .sector_size = 512, .physical_sector_size = 512, .queues_max = 1 };
	return 0;
}

static int op_connect(void *ctx, const struct pv_connect *c, char *why, size_t len)
{
	(void)ctx, (void)c, (void)why, (void)len;
	return 0;
}

static int op_disconnect(void *ctx, const struct pv_device_id *id, char *why, size_t len)
{
	(void)ctx, (void)id, (void)why, (void)len;
	return 0;
}

static int op_remove(void *ctx, const struct pv_device_id *id, char *why, size_t len)
{
	(void)ctx, (void)id, (void)why, (void)len;
	removed++;
	return 0;
}

static struct json_object *op_long(void *ctx, const struct pv_device_id *id)
{
	static char text[12000];

	(void)ctx, (void)id;
	memset(text, 'x', sizeof(text) - 1);
	return json_object_new_string(text);
}

static const struct pv_backend_ops ops = {
	.kind = "vbd", .prepare = op_prepare, .connect = op_connect, .disconnect = op_disconnect, .remove = op_remove, .stats = op_long, .inspect = op_long,
};

static void backends_turn(void)
{
	for (int i = 0; i < BACKENDS; i++)
		if (backends[i])
			pv_backend_work(backends[i]);
}

static void start(int i, const char *name)
{
	assert_int_equal(pv_backend_new("/nowhere", name, &ops, NULL, &backends[i]), 0);
	assert_int_equal(pv_backend_reach(backends[i], PV_BACKEND_PIPE, lb_spec, storage), 0);
}

static void stop(int i)
{
	pv_backend_free(backends[i]);
	backends[i] = NULL;
}

/* Is a backend of that name registered, as of domain storage? */
static bool registered(const char *name)
{
	struct json_object *o = get("backend.list", "{}"), *a = NULL;
	bool is = false;

	json_object_object_get_ex(o, "backends", &a);
	for (size_t i = 0; i < json_object_array_length(a); i++) {
		struct json_object *b = json_object_array_get_idx(a, i);

		is |= strcmp(text_in(b, "name"), name) == 0 && number_in(b, "domid") == storage;
	}
	json_object_put(o);
	return is;
}

static int up(void **state)
{
	struct json_object *g;

	rig_up(state);
	g = get("guest.create", "{\"name\":\"storage\"}");
	storage = (uint16_t)number_in(g, "domid");
	json_object_put(g);
	rig->also = backends_turn;
	return 0;
}

static int down(void **state)
{
	for (int i = 0; i < BACKENDS; i++)
		stop(i);
	return rig_down(state);
}

static void attach_pipe(int n)
{
	good("attach", "{\"guest\":\"storage\",\"type\":\"pipe\",\"name\":\"%d\"}", n);
}

static void backend_registers_through_a_pipe(void **state)
{
	struct json_object *dev;

	(void)state;
	start(0, "blkback"); /* before there is a pipe */
	rig_turn();
	attach_pipe(0);
	WAIT(registered("storage/blkback"));
	dev = get("attach", "{\"guest\":\"web\",\"type\":\"vbd\",\"name\":\"xvda\"}");
	assert_string_equal(text_in(dev, "backend"), "storage/blkback");
	json_object_put(dev);
	good("detach", "{\"guest\":\"web\",\"device\":\"xvda\"}");
	assert_int_equal(removed, 1);
}

/* Longer than the rings: they fill, and go on. */
static void answers_longer_than_the_rings_arrive(void **state)
{
	struct json_object *o, *devices = NULL;

	(void)state;
	attach_pipe(0);
	start(0, "blkback");
	WAIT(registered("storage/blkback"));
	for (int i = 0; i < 8; i++)
		good("attach", "{\"guest\":\"web\",\"type\":\"vbd\",\"config\":{\"path\":\"/%03000d\"}}", i);
	for (int k = 0; k < 10; k++) {
		o = get("stats", "{\"guest\":\"web\"}");
		json_object_object_get_ex(o, "devices", &devices);
		assert_int_equal(json_object_array_length(devices), 8);
		for (int i = 0; i < 8; i++)
			assert_int_equal(strlen(text_in(json_object_array_get_idx(devices, i), "stats")), 11999);
		json_object_put(o);
	}
}

static void each_backend_takes_a_pipe(void **state)
{
	(void)state;
	attach_pipe(0);
	attach_pipe(7);
	for (int i = 0; i < 3; i++)
		start(i, (const char *const[]){ "a", "b", "c" }[i]);
	WAIT(registered("storage/a") + registered("storage/b") + registered("storage/c") == 2);
	attach_pipe(3);
	WAIT(registered("storage/a") && registered("storage/b") && registered("storage/c"));
	stop(0);
	WAIT(!registered("storage/a"));
	start(0, "d");
	WAIT(registered("storage/d"));
}

static void backend_comes_back_through_another_pipe(void **state)
{
	(void)state;
	attach_pipe(0);
	start(0, "blkback");
	WAIT(registered("storage/blkback"));
	good("detach", "{\"guest\":\"storage\",\"device\":\"pipe0\"}");
	assert_false(registered("storage/blkback"));
	attach_pipe(1);
	WAIT(registered("storage/blkback"));
	good("detach", "{\"guest\":\"storage\",\"device\":\"pipe1\",\"force\":true}");
	attach_pipe(0);
	WAIT(registered("storage/blkback"));
}

/* Refused, it tries again, with a conversation of its own each time. */
static void backend_whose_name_is_taken_waits_for_it(void **state)
{
	(void)state;
	attach_pipe(0);
	attach_pipe(1);
	start(0, "blkback");
	WAIT(registered("storage/blkback"));
	start(1, "blkback");
	for (int i = 0; i < 300; i++)
		rig_turn();
	stop(0);
	WAIT(registered("storage/blkback"));
}

static void stop_at_any_moment_leaves_nothing(void **state)
{
	(void)state;
	start(0, "a"); /* no pipe */
	stop(0);
	attach_pipe(0);
	for (int i = 0; i < 12; i++) {
		start(0, "a");
		for (int k = 0; k < i * 5; k++)
			rig_turn();
		stop(0);
	}
	good("detach", "{\"guest\":\"storage\",\"device\":\"pipe0\"}");
}

static void its_domain_is_destroyed(void **state)
{
	(void)state;
	attach_pipe(0);
	start(0, "a");
	WAIT(registered("storage/a"));
	good("guest.destroy", "{\"guest\":\"storage\",\"force\":true}");
	assert_false(registered("storage/a"));
	for (int i = 0; i < 100; i++)
		rig_turn();
}

/* ---- with a domain 0 of the test's own ---- */

/* As pviod does it: map and bind what was chosen. Returns our end. */
static struct pv_pipe serve_pipe(struct fake *k, bool notice)
{
	struct pv_gnt_notice n = { .offset = PV_PIPE_NOTICE_OFFSET };
	struct pv_pipe end;
	const char *why = NULL;
	void *page;

	fake_until((pv_noxs_choice_read(k->control, &k->choice), k->choice.state == XenbusStateInitialised &&
		    k->choice.generation == k->offer.generation));
	assert_int_equal(pv_noxs_choice_check(&k->choice, &k->offer, &why), 0);
	k->queue[0].port = (uint32_t)pv_evt_bind(k->h, (uint16_t)k->domid, k->choice.pipe[0].port);
	n.port = k->queue[0].port;
	assert_int_equal(pv_gnt_map(k->h, (uint16_t)k->domid, &k->choice.pipe[0].gref, 1, true, notice ? &n : NULL, &page), 0);
	pv_pipe_init(&end, page, true);
	fake_state(k, XenbusStateConnected, 0);
	return end;
}

static int accepted(struct pv_pipe_link *l)
{
	struct pollfd p = { .fd = pv_pipe_link_fd(l), .events = POLLIN };

	assert_int_equal(poll(&p, 1, RIG_MS), 1);
	return pv_pipe_link_accept(l);
}

static bool ends(int fd)
{
	char c;

	return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, RIG_MS) == 1 && read(fd, &c, 1) == 0;
}

static void announce_pipe(struct fake *k)
{
	struct pv_noxs_offer o = {
		.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .type = PV_NOXS_PIPE, .pipe = { .version = PV_NOXS_PIPE_VERSION },
	};

	fake_announce(k, o, 0, 0);
}

/* pviod is killed: nobody shows another state, but the hypervisor's notice tells. */
static void link_learns_of_pviods_death(void **state)
{
	struct pv_pipe_link *l;
	struct fake k;
	int fd;

	(void)state;
	fake_start(&k);
	announce_pipe(&k);
	assert_int_equal(pv_pipe_link_start(lb_spec, k.domid, &l), 0);
	serve_pipe(&k, true);
	fd = accepted(l);
	assert_true(fd >= 0);
	assert_int_equal(pv_pipe_link_accept(l), -EAGAIN);
	pv_hyper_close(k.h);
	assert_true(ends(fd));
	close(fd);
	k.h = lb_open(0);
	pv_pipe_link_stop(l);
	fake_stop(&k);
}

/* Domain 0 may be hostile, too. */
static void link_ends_a_pipe_whose_indices_lie(void **state)
{
	struct pv_pipe_link *l;
	struct pv_pipe end;
	struct fake k;
	int fd;

	(void)state;
	fake_start(&k);
	announce_pipe(&k);
	assert_int_equal(pv_pipe_link_start(lb_spec, k.domid, &l), 0);
	end = serve_pipe(&k, true);
	fd = accepted(l);
	end.own->put = PV_PIPE_DOWN + 1;
	pv_evt_notify(k.h, k.queue[0].port);
	fake_follow(&k);
	assert_true(ends(fd));
	close(fd);
	pv_pipe_link_stop(l);
	fake_stop(&k);
}

#define with(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with(backend_registers_through_a_pipe),
		with(answers_longer_than_the_rings_arrive),
		with(each_backend_takes_a_pipe),
		with(backend_comes_back_through_another_pipe),
		with(backend_whose_name_is_taken_waits_for_it),
		with(stop_at_any_moment_leaves_nothing),
		with(its_domain_is_destroyed),
	};

	const struct CMUnitTest alone[] = {
		cmocka_unit_test(link_learns_of_pviods_death),
		cmocka_unit_test(link_ends_a_pipe_whose_indices_lie),
	};
	int failed = cmocka_run_group_tests(tests, rig_hub_up, rig_hub_down);

	return failed + cmocka_run_group_tests(alone, NULL, NULL);
}
