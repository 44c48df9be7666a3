/* test_driver_back.c - a driver domain ends and is there again, under its domid or another: what the kernel of a guest that it served sees of it. With a
 * real pviod, the backends' side of a real backend (pv_backend), and the kernel of xenbus_front.h. */
#include "tests/unit/pviod_rig.h"
#include "tests/unit/xenbus_front.h"
#include <pvio/inflight.h>

static struct xb xb;
static char web_error[512]; /* of its device, as last listed */
static bool busy, asleep; /* the kernel: in it; paused */

/* What one backend was asked, and the log of its one device. */
static struct served {
	struct pv_backend *b;
	struct pv_inflight *log;
	struct pv_device_id id;
	unsigned connects, adopts, pages;
	uint32_t taken; /* as an adopted log says */
} served[2];
enum { NET, BLK };

/* ---- the backends ---- */

static int op_prepare(void *ctx, const struct pv_device_id *id, struct json_object *config, struct pv_noxs_offer *offer, char *why, size_t len)
{
	(void)ctx, (void)config, (void)why, (void)len;
	if (id->type == PV_NOXS_VIF)
		offer->vif = (struct pv_noxs_vif_offer){ .mac = { 0, 0x16, 0x3e, 0, 0, 1 }, .mtu = 1500, .queues_max = 2 };
	else
		offer->vbd = (struct pv_noxs_vbd_offer){ .sectors = 8, .sector_size = 512, .physical_sector_size = 512, .queues_max = 1 };
	return 0;
}

static int op_disconnect(void *ctx, const struct pv_device_id *id, char *why, size_t len)
{
	struct served *s = ctx;

	(void)id, (void)why, (void)len;
	pv_inflight_close(s->log);
	s->log = NULL;
	return 0;
}

static int op_connect(void *ctx, const struct pv_connect *c, char *why, size_t len)
{
	const struct pv_inflight_shape shape = { .rings = 1, .slots = 32, .record = 128 };
	struct served *s = ctx;
	int rc;

	op_disconnect(ctx, &c->id, why, len);
	rc = pv_inflight_open(c, &shape, &s->log, why, len);
	if (rc < 0)
		return rc;
	s->id = c->id;
	s->pages = c->log.n;
	*(c->adopt ? &s->adopts : &s->connects) += 1;
	s->taken = pv_inflight_ring(s->log, 0)->taken;
	pv_inflight_take(pv_inflight_ring(s->log, 0), s->taken + 7);
	return 0;
}

static int op_remove(void *ctx, const struct pv_device_id *id, char *why, size_t len)
{
	return op_disconnect(ctx, id, why, len);
}

static const struct pv_backend_ops ops[] = {
	[NET] = { .kind = "vif", .prepare = op_prepare, .connect = op_connect, .disconnect = op_disconnect, .remove = op_remove },
	[BLK] = { .kind = "vbd", .prepare = op_prepare, .connect = op_connect, .disconnect = op_disconnect, .remove = op_remove },
};

/* ---- the driver domain ---- */

static uint16_t storage;

static void backend_ends(int i)
{
	pv_backend_free(served[i].b);
	served[i].b = NULL;
}

static void backend_begins(int i)
{
	assert_int_equal(pv_backend_new("/nowhere", i == NET ? "netback" : "blkback", &ops[i], &served[i], &served[i].b), 0);
	assert_int_equal(pv_backend_reach(served[i].b, PV_BACKEND_PIPE, lb_spec, storage), 0);
}

static void storage_ends(void)
{
	for (int i = NET; i <= BLK; i++) {
		struct served *s = &served[i];

		if (s->log)
			pv_inflight_remove(&s->id); /* its files go with it */
		pv_inflight_close(s->log);
		s->log = NULL;
		backend_ends(i);
	}
	good("guest.destroy", "{\"guest\":\"storage\",\"force\":true}");
}

static void storage_begins(unsigned domid)
{
	struct json_object *g = domid ? get("guest.create", "{\"name\":\"storage\",\"domid\":%u}", domid) : get("guest.create", "{\"name\":\"storage\"}");

	storage = (uint16_t)number_in(g, "domid");
	json_object_put(g);
	for (int i = NET; i <= BLK; i++) {
		good("attach", "{\"guest\":\"storage\",\"type\":\"pipe\",\"name\":\"%d\"}", i);
		backend_begins(i);
	}
}

/* ---- the guest, up and down ---- */

static void others_turn(void)
{
	if (busy)
		return;
	busy = true;
	for (int i = NET; i <= BLK; i++)
		if (served[i].b)
			pv_backend_work(served[i].b);
	if (!asleep && xb.h)
		xb_turn(&xb);
	busy = false;
}

/* While the kernel waits, it is inside its turn: only the backends go on. */
static void kernel_waits(void)
{
	for (int i = NET; i <= BLK; i++)
		if (served[i].b)
			pv_backend_work(served[i].b);
	rig_turn();
}

static int up(void **state)
{
	rig_up(state);
	be_kill(&rig->be[0]);
	memset(served, 0, sizeof(served));
	busy = asleep = false;
	rig->also = others_turn;
	xb = (struct xb){ .turn = kernel_waits };
	xb_boot(&xb, rig->domid, lb_open(rig->domid), lb_open(rig->domid));
	storage_begins(60);
	return 0;
}

static int down(void **state)
{
	storage_ends();
	xb_crash(&xb);
	return rig_down(state);
}

static struct xb_dev *device(int i)
{
	return xb_find(&xb, i == NET ? PV_NOXS_VIF : PV_NOXS_VBD, i == NET ? 0 : 51712);
}

/* The state of the guest's one device; "" if there is none. */
static const char *web_state(void)
{
	struct json_object *o = get("list", "{\"guest\":\"web\"}"), *a = NULL;
	static char state[32];

	json_object_object_get_ex(o, "devices", &a);
	snprintf(state, sizeof(state), "%s", json_object_array_length(a) ? text_in(json_object_array_get_idx(a, 0), "state") : "");
	web_error[0] = '\0';
	if (*state && text_in(json_object_array_get_idx(a, 0), "error"))
		snprintf(web_error, sizeof(web_error), "%s", text_in(json_object_array_get_idx(a, 0), "error"));
	json_object_put(o);
	return state;
}

static bool web_is(const char *state)
{
	return strcmp(web_state(), state) == 0;
}

static bool is_up(int i)
{
	return device(i) && device(i)->state == XenbusStateConnected && web_is("Connected");
}

static void attach(int i)
{
	struct answer a;

	do { /* until its backend is there */
		ask(&a, "attach", "{\"guest\":\"web\",\"type\":\"%s\",\"backend\":\"storage\",\"dialect\":\"xenstore\"%s}", i == NET ? "vif" : "vbd",
		    i == NET ? "" : ",\"name\":\"xvda\",\"config\":{\"path\":\"/x\"}");
		WAIT(a.done);
		json_object_put(a.result);
	} while (a.code == -ENODEV);
	assert_int_equal(a.code, 0);
}

static void bring_up(int i)
{
	attach(i);
	WAIT(is_up(i));
	assert_int_equal(device(i)->other_id, storage);
	assert_int_equal(served[i].connects, 1);
	assert_true(served[i].pages > 1); /* of pviod's, for its log */
}

static void turns(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		rig_turn();
}

/* The vif's backend is in another domain now, and the kernel, which sleeps, has not seen it go. */
static void moves_unseen(unsigned domid)
{
	storage_ends();
	WAIT(web_is("lost"));
	asleep = true;
	storage_begins(domid);
	WAIT(xb_other_state(device(NET)) == XenbusStateClosed);
}

/* ---- tests ---- */

/* It gets the domid where it is waited for. Its backends find what was in flight in pviod's pages; the kernel notices nothing. */
static void under_its_domid_it_goes_on(void **state)
{
	uint32_t before = 0;

	(void)state;
	for (int i = NET; i <= BLK; i++) {
		bring_up(i);
		for (unsigned n = 1; n <= 3; n++) {
			storage_ends();
			WAIT(web_is("lost"));
			storage_begins(0);
			assert_int_equal(storage, 60);
			WAIT(web_is("Connected"));
			assert_int_equal(served[i].adopts, n);
			assert_int_equal(served[i].taken, 7 * n);
			assert_int_equal(device(i)->state, XenbusStateConnected);
		}
		assert_int_equal(xb.connects, 1 + i);
		good("detach", "{\"guest\":\"web\",\"device\":\"%s\"}", i == NET ? "vif0" : "xvda");
		WAIT(!device(i));
		before = before ? before : count(0).grants;
		assert_int_equal(count(0).grants, before); /* the pages were given back */
	}
}

static void a_domid_that_is_taken_is_not_waited_for(void **state)
{
	(void)state;
	bring_up(NET);
	storage_ends();
	WAIT(web_is("lost"));
	good("guest.create", "{\"name\":\"other\",\"domid\":60}");
	storage_begins(0);
	assert_int_not_equal(storage, 60);
	WAIT(is_up(NET) && device(NET)->other_id == storage);
}

/* Linux takes its time to let go of an interface. */
static void slow_to_go(struct xb_dev *d, enum xb_step step)
{
	(void)d;
	for (int i = 0; i < 300 && step == XB_UNWATCHED; i++)
		kernel_waits();
}

/* A vif goes and appears again, and the directories of the old domain are gone. */
static void in_another_domain_a_vif_appears_again(void **state)
{
	char old[XB_PATH];

	(void)state;
	xb.at = slow_to_go;
	bring_up(NET);
	for (unsigned domid = 70; domid < 73; domid++) {
		strcpy(old, device(NET)->other);
		storage_ends();
		WAIT(web_is("lost"));
		storage_begins(domid);
		WAIT(is_up(NET) && device(NET)->other_id == domid);
		assert_int_not_equal(xs_list(&xb.xs, 0, old), 0);
		assert_true(xs_list(&xb.xs, 0, device(NET)->other) > 0);
	}
	assert_int_equal(xb.connects, 4);
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
	WAIT(!device(NET));
}

/* What appears before the kernel has seen it go, it would take for what was there all the time. */
static void it_appears_when_the_kernel_has_seen_it_go(void **state)
{
	(void)state;
	bring_up(NET);
	moves_unseen(70);
	turns(300);
	assert_true(web_is("lost"));
	storage_ends(); /* and it goes once more meanwhile, and is back where it was at first */
	storage_begins(60);
	turns(300);
	assert_true(web_is("lost"));
	assert_int_equal(xb_other_state(device(NET)), XenbusStateClosed);
	asleep = false;
	WAIT(is_up(NET) && device(NET)->other_id == 60);
	assert_int_equal(xb.connects, 2);
	moves_unseen(71);
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\",\"force\":true}"); /* it can be taken away meanwhile */
	assert_true(web_is(""));
	asleep = false;
	WAIT(!device(NET));
}

/* A pviod that had no CPU for a while finds at once that its backend has ended and that it is time to ask that again. */
static void its_backend_ends_as_it_is_to_be_asked(void **state)
{
	(void)state;
	bring_up(NET);
	moves_unseen(70);
	rig_hold();
	backend_ends(NET);
	rig_hold(); /* once more, where it has seen that end */
	rig_go();
	usleep(50000); /* the time to ask is a tick in the past */
	rig_go();
	WAIT(web_is("lost"));
	backend_begins(NET);
	asleep = false;
	WAIT(is_up(NET) && device(NET)->other_id == 70);
}

/* A disk may have requests in its ring, for which the kernel would wait as it goes. */
static void in_another_domain_a_connected_vbd_stays_lost(void **state)
{
	(void)state;
	bring_up(BLK);
	storage_ends();
	WAIT(web_is("lost"));
	storage_begins(70);
	turns(300);
	assert_true(web_is("lost"));
	assert_int_equal(device(BLK)->state, XenbusStateConnected);
	assert_non_null(strstr(web_error, "domain 60"));
	storage_ends(); /* nobody is in its place, so it can still be there again */
	storage_begins(60);
	WAIT(web_is("Connected"));
	assert_int_equal(served[BLK].adopts, 1);
	assert_int_equal(xb.connects, 1);
}

static void in_another_domain_a_vbd_that_nobody_uses_appears_again(void **state)
{
	(void)state;
	xb_unload(&xb, PV_NOXS_VBD);
	attach(BLK);
	WAIT(web_is("InitWait") && device(BLK));
	storage_ends();
	WAIT(web_is("lost"));
	storage_begins(70);
	WAIT(web_is("InitWait"));
	xb_load(&xb, PV_NOXS_VBD);
	WAIT(is_up(BLK));
	assert_int_equal(device(BLK)->other_id, 70);
}

#define each(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		each(under_its_domid_it_goes_on),
		each(a_domid_that_is_taken_is_not_waited_for),
		each(in_another_domain_a_vif_appears_again),
		each(it_appears_when_the_kernel_has_seen_it_go),
		each(its_backend_ends_as_it_is_to_be_asked),
		each(in_another_domain_a_connected_vbd_stays_lost),
		each(in_another_domain_a_vbd_that_nobody_uses_appears_again),
	};

	return cmocka_run_group_tests(tests, rig_hub_up, rig_hub_down);
}
