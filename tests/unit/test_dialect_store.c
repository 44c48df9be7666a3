/* test_dialect_store.c - a device shown as XenStore nodes: every order in which pviod, the backend and a guest's kernel can come, go
 * and die, each at every step of the other. The kernel is that of xenbus_front.h, on the guest's store page. */
#include "tests/unit/pviod_rig.h"
#include "tests/unit/xenbus_front.h"

enum { VIF, VBD, VF, KINDS };

static const struct kind {
	enum pv_noxs_type type;
	uint32_t devid;
	const char *attach, *device, *other, *front; /* for pviod; the backend's directory less its guest, the frontend's */
	const char *name, *backend; /* of the type in XenStore, of who serves it */
} kinds[KINDS] = {
	{ PV_NOXS_VIF, 0, "\"type\":\"vif\",\"name\":\"0\"", "vif0", "/local/domain/0/backend/vif", "device/vif/0", "vif", "netback" },
	{ PV_NOXS_VBD, 51712, "\"type\":\"vbd\",\"name\":\"xvda\",\"config\":{\"path\":\"/x\"}", "xvda", "/local/domain/0/backend/vbd",
	  "device/vbd/51712", "vbd", "blkback" },
	{ PV_NOXS_VF, 0, "\"type\":\"vf\",\"name\":\"0\"", "vf0", "/local/domain/0/backend/pci", "device/pci/0", "pci", "pciback" },
};

static struct xb xb;
static const struct kind *kind; /* of the present test */

/* ---- up and down ---- */

static bool busy; /* in the kernel: it does not run inside itself */

static void kernel_turn(void)
{
	if (busy || !xb.h)
		return;
	busy = true;
	xb_turn(&xb);
	busy = false;
}

static void boot(void)
{
	xb = (struct xb){ .turn = rig_turn };
	xb_boot(&xb, rig->domid, lb_open(rig->domid), lb_open(rig->domid));
}

/* As when the machine that runs it loses power: the domain is there, and nobody in it. */
static void power_off(void)
{
	xb_crash(&xb);
}

static int up(void **state)
{
	rig_up(state);
	be_start(&rig->be[1], "vbd", "blkback");
	be_start(&rig->be[2], "vf", "pciback");
	rig->also = kernel_turn;
	busy = false;
	boot();
	kind = *state ? *state : &kinds[VIF];
	rig_mark();
	return 0;
}

static int down(void **state)
{
	power_off();
	return rig_down(state);
}

static struct be *backend(void)
{
	return &rig->be[kind - kinds];
}

static struct xb_dev *device(void)
{
	return xb_find(&xb, kind->type, kind->devid);
}

static const char *other_dir(void)
{
	static char dir[XB_PATH];

	snprintf(dir, sizeof(dir), "%s/%u/%u", kind->other, rig->domid, kind->devid);
	return dir;
}

static void attach(void)
{
	good("attach", "{\"guest\":\"web\",%s,\"dialect\":\"xenstore\"}", kind->attach);
}

static void detach(bool force)
{
	good("detach", "{\"guest\":\"web\",\"device\":\"%s\",\"force\":%s}", kind->device, force ? "true" : "false");
	assert_string_equal(state_of(0), "");
}

static bool is_up(void)
{
	return device() && device()->state == XenbusStateConnected && is(0, "Connected");
}

/* Nothing there, or nothing that the guest may know of. */
static bool is_gone(const char *path)
{
	int rc = xs_list(&xb.xs, 0, path);

	return rc == -ENOENT || rc == -EACCES;
}

/* Everything that stands for the device is gone, in both directories, and nothing is held. */
static void check_gone(void)
{
	char path[XB_PATH];

	WAIT(!device());
	WAIT(is_gone(kind->front));
	assert_true(is_gone(other_dir()));
	snprintf(path, sizeof(path), "device/%s", kind->name);
	assert_int_equal(xs_list(&xb.xs, 0, path), -ENOENT);
	rig_check(0);
}

static void connect_and_detach(void)
{
	attach();
	WAIT(is_up());
	detach(false);
	check_gone();
}

/* ---- something happens at a step of the kernel's ---- */

static struct {
	enum xb_step step;
	void (*act)(void);
	bool done;
} plan;

static void at(struct xb_dev *d, enum xb_step step)
{
	if (d->type != kind->type || plan.done || !plan.act || step != plan.step)
		return;
	plan.done = true;
	plan.act();
}

static void plan_at(enum xb_step step, void (*act)(void))
{
	plan.step = step;
	plan.act = act;
	plan.done = false;
	xb.at = at;
}

static void turns(int n)
{
	while (n--)
		rig_turn();
}

/* ---- nodes ---- */

static const char *get_key(const char *dir, const char *key)
{
	return xb_get(&xb, dir, key);
}

static void nodes_of_a_vif_are_as_a_toolstack_makes_them(void **state)
{
	char front[XB_PATH];

	(void)state;
	xb.unloaded[PV_NOXS_VIF] = true;
	attach();
	WAIT(device());
	snprintf(front, sizeof(front), "/local/domain/%u/device/vif/0", rig->domid);
	assert_string_equal(get_key(front, "backend"), other_dir());
	assert_string_equal(get_key(front, "backend-id"), "0");
	assert_string_equal(get_key(front, "state"), "1");
	assert_string_equal(get_key(front, "handle"), "0");
	assert_string_equal(get_key(front, "mac"), "00:16:3e:01:02:03");
	assert_string_equal(get_key(front, "mtu"), "1500");
	assert_string_equal(get_key(front, "trusted"), "1");
	assert_string_equal(get_key(other_dir(), "frontend"), front);
	assert_int_equal(xb_number(&xb, other_dir(), "frontend-id", 0), rig->domid);
	assert_string_equal(get_key(other_dir(), "online"), "1");
	assert_string_equal(get_key(other_dir(), "state"), "2");
	assert_string_equal(get_key(other_dir(), "handle"), "0");
	assert_string_equal(get_key(other_dir(), "mac"), "00:16:3e:01:02:03");
	assert_string_equal(get_key(other_dir(), "feature-rx-copy"), "1");
	assert_string_equal(get_key(other_dir(), "feature-sg"), "1");
	assert_string_equal(get_key(other_dir(), "feature-gso-tcpv4"), "0");
	assert_string_equal(get_key(other_dir(), "multi-queue-max-queues"), "4");
}

/* A script in the guest reads which of a vif and a VF to use, and writes which it does. */
static void pair_is_a_node_of_the_vif(void **state)
{
	char front[XB_PATH];
	struct answer a;

	(void)state;
	attach();
	WAIT(is_up());
	snprintf(front, sizeof(front), "/local/domain/%u/device/vif/0", rig->domid);
	good("set", "{\"guest\":\"web\",\"device\":\"vif0\",\"config\":{\"pair\":\"0000:01:10.0\"}}");
	assert_string_equal(get_key(front, "pair"), "vf");
	good("set", "{\"guest\":\"web\",\"device\":\"vif0\",\"config\":{\"use\":\"vif\"}}");
	assert_string_equal(get_key(front, "pair"), "vif");
	ask(&a, "pair.wait", "{\"guest\":\"web\",\"device\":\"vif0\",\"timeout_ms\":%d}", RIG_MS);
	assert_int_equal(xs_printf(&xb.xs, 0, xb_path(kind->front, "pair-used"), "a long word, and none of ours"), 0);
	assert_int_equal(xs_printf(&xb.xs, 0, xb_path(kind->front, "pair-used"), "vf"), 0);
	turns(20);
	assert_false(a.done);
	assert_int_equal(xs_printf(&xb.xs, 0, xb_path(kind->front, "pair-used"), "vif"), 0);
	WAIT(a.done);
	assert_int_equal(a.code, 0);
	json_object_put(a.result);
	good("set", "{\"guest\":\"web\",\"device\":\"vif0\",\"config\":{\"pair\":null}}");
	assert_int_equal(xs_list(&xb.xs, 0, xb_path(front, "pair")), -ENOENT);
	detach(false);
	check_gone();
}

static void nodes_of_a_vbd_are_as_a_toolstack_makes_them(void **state)
{
	(void)state;
	xb.unloaded[PV_NOXS_VBD] = true;
	attach();
	WAIT(device());
	assert_string_equal(get_key(kind->front, "backend"), other_dir());
	assert_string_equal(get_key(kind->front, "virtual-device"), "51712");
	assert_string_equal(get_key(kind->front, "device-type"), "disk");
	assert_string_equal(get_key(kind->front, "state"), "1");
	assert_string_equal(get_key(other_dir(), "state"), "2");
	assert_string_equal(get_key(other_dir(), "dev"), "xvda");
	assert_string_equal(get_key(other_dir(), "mode"), "w");
	assert_string_equal(get_key(other_dir(), "sectors"), "2048");
	assert_string_equal(get_key(other_dir(), "feature-flush-cache"), "1");
	assert_string_equal(get_key(other_dir(), "feature-persistent"), "0");
	assert_string_equal(get_key(other_dir(), "feature-max-indirect-segments"), "256");
}

static void nodes_of_a_vf_are_as_pcifront_wants_them(void **state)
{
	(void)state;
	xb.unloaded[PV_NOXS_VF] = true;
	attach();
	WAIT(device());
	assert_string_equal(get_key(kind->front, "backend"), other_dir());
	assert_string_equal(get_key(kind->front, "backend-id"), "0");
	assert_string_equal(get_key(kind->front, "state"), "1");
	assert_string_equal(get_key(other_dir(), "state"), "2");
	assert_string_equal(get_key(other_dir(), "online"), "1");
	assert_string_equal(get_key(other_dir(), "num_devs"), "2");
	assert_string_equal(get_key(other_dir(), "root_num"), "1");
	assert_string_equal(get_key(other_dir(), "root-0"), "0000:00");
	assert_string_equal(get_key(other_dir(), "vdev-0"), "0000:00:00.0");
	assert_string_equal(get_key(other_dir(), "vdev-1"), "0000:00:01.0");
	assert_string_equal(get_key(other_dir(), "dev"), "");
}

/* Its own directory is the guest's to write to, the backend's is not. */
static void guest_writes_to_its_own_directory_alone(void **state)
{
	(void)state;
	attach();
	WAIT(is_up());
	assert_int_equal(xs_printf(&xb.xs, 0, xb_path(kind->front, "whatever"), "1"), 0);
	assert_int_equal(xs_printf(&xb.xs, 0, xb_path(other_dir(), "state"), "6"), -EACCES);
	assert_int_equal(xs_printf(&xb.xs, 0, xb_path(other_dir(), "more"), "1"), -EACCES);
	assert_int_equal(xs_rm(&xb.xs, 0, other_dir()), -EACCES);
	assert_int_equal(xs_printf(&xb.xs, 0, "device/vif/7/state", "1"), -EACCES);
	detach(false);
	check_gone();
}

static void guest_without_a_xenstore_is_told(void **state)
{
	(void)state;
	assert_int_equal(refused("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"dialect\":\"morse\"}"), PV_RPC_BAD_PARAMS);
	assert_non_null(strstr(refused_why, "noxs or xenstore"));
}

/* ---- every order of arrival ---- */

static void device_is_found_by_a_running_kernel(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		connect_and_detach();
}

static void device_is_found_by_a_kernel_that_boots(void **state)
{
	(void)state;
	power_off();
	attach();
	assert_string_equal(state_of(0), "InitWait");
	boot();
	WAIT(is_up());
	detach(false);
	check_gone();
}

static void device_waits_for_its_driver(void **state)
{
	(void)state;
	xb.unloaded[kind->type] = true;
	attach();
	WAIT(device());
	turns(20);
	assert_string_equal(state_of(0), "InitWait");
	xb_load(&xb, kind->type);
	WAIT(is_up());
	detach(false);
	check_gone();
}

static void device_nobody_drives_is_detached_at_once(void **state)
{
	(void)state;
	xb.unloaded[kind->type] = true;
	attach();
	WAIT(device());
	detach(false);
	check_gone();
}

static void kernel_waits_while_the_backend_connects(void **state)
{
	(void)state;
	backend()->silent = 1 << BE_CONNECT;
	attach();
	WAIT(backend()->held[BE_CONNECT]);
	assert_int_equal(device()->state, kind == &kinds[VIF] ? XenbusStateConnected : XenbusStateInitialised);
	assert_int_equal(xb_other_state(device()), XenbusStateInitWait);
	xs_printf(&xb.xs, 0, xb_path(kind->front, "event-channel"), "what was chosen is chosen");
	xs_printf(&xb.xs, 0, xb_path(kind->front, "event-channel-tx"), "what was chosen is chosen");
	turns(20);
	assert_string_equal(inner_state(0), "connecting");
	backend()->silent = 0;
	be_answer(backend(), BE_CONNECT, 0, NULL);
	WAIT(is_up());
	assert_int_equal(xb.connects, 1);
	detach(false);
	check_gone();
}

static void rings_are_those_that_were_told(void **state)
{
	struct json_object *dev;

	(void)state;
	xb.queues = 8;
	xb.order = 4;
	attach();
	WAIT(is_up());
	dev = listed(0);
	assert_int_equal(number_in(dev, "queues"), kind == &kinds[VIF] ? 4 : 2); /* what the fake backend offers */
	json_object_put(dev);
	assert_int_equal(device()->choice.ring_order, kind == &kinds[VIF] ? 0 : 2);
	detach(false);
	check_gone();
}

static void two_devices_go_their_own_ways(void **state)
{
	(void)state;
	attach();
	kind = &kinds[VBD];
	attach();
	WAIT(is(0, "Connected") && is(1, "Connected"));
	kind = &kinds[VIF];
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
	WAIT(!device());
	assert_string_equal(state_of(0), "Connected");
	attach();
	WAIT(is(0, "Connected") && is(1, "Connected"));
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
	kind = &kinds[VBD];
	detach(false);
	check_gone();
}

static void second_device_of_a_type_stays_when_the_first_goes(void **state)
{
	(void)state;
	attach();
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"3\",\"dialect\":\"xenstore\"}");
	WAIT(is(0, "Connected") && is(1, "Connected"));
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
	WAIT(!device());
	assert_int_equal(xb_state_of(&xb, "device/vif/3"), XenbusStateConnected);
	assert_true(is(0, "Connected"));
	good("detach", "{\"guest\":\"web\",\"device\":\"vif3\"}");
	check_gone();
}

/* Both dialects at once, for two devices of one guest: each is found where it was announced. */
static void other_dialect_is_not_seen(void **state)
{
	(void)state;
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"1\",\"dialect\":\"noxs\"}");
	attach();
	WAIT(is(1, "Connected"));
	assert_true(is(0, "InitWait"));
	assert_int_equal(xs_list(&xb.xs, 0, "device/vif/1"), -ENOENT);
	good("detach", "{\"guest\":\"web\",\"device\":\"vif1\"}");
	detach(false);
}

/* ---- the kernel leaves ---- */

/* When Closing is seen, the backend holds nothing of the guest's. */
static void backend_has_let_go(void)
{
	for (int i = 0; i < RIG_DEVICES; i++)
		assert_false(backend()->dev[i].used);
}

static void shutdown_is_followed_step_by_step(void **state)
{
	unsigned prepared;

	(void)state;
	attach();
	WAIT(is_up());
	prepared = backend()->calls[BE_PREPARE];
	plan_at(XB_SAW_CLOSING, backend_has_let_go);
	xb_shutdown(&xb);
	assert_true(plan.done && device()->down);
	WAIT(xb_other_state(device()) == XenbusStateClosed);
	turns(20); /* and that is the end of it: nothing is offered to one that is gone */
	assert_string_equal(state_of(0), "Closed");
	assert_int_equal(backend()->calls[BE_PREPARE], prepared);
	assert_int_equal(xb_state_of(&xb, kind->front), XenbusStateClosed);
	detach(false);
}

static void shutdown_of_many_devices(void **state)
{
	(void)state;
	attach();
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"1\",\"dialect\":\"xenstore\"}");
	kind = &kinds[VBD];
	attach();
	WAIT(is(0, "Connected") && is(1, "Connected") && is(2, "Connected"));
	xb_shutdown(&xb);
	WAIT(is(0, "Closed") && is(1, "Closed") && is(2, "Closed"));
	rig->also = NULL;
	good("guest.destroy", "{\"guest\":\"web\"}");
	assert_int_equal(pv_hub_domain_list(rig->dom0, NULL, 0), 1);
}

static void driver_is_unloaded_and_loaded(void **state)
{
	(void)state;
	attach();
	for (unsigned i = 1; i <= 10; i++) {
		WAIT(is_up());
		assert_int_equal(xb.connects, i);
		xb_unload(&xb, kind->type);
		WAIT(is(0, "Closed"));
		backend_has_let_go();
		xb_load(&xb, kind->type);
	}
	WAIT(is_up());
	detach(false);
	check_gone();
}

/* It chose before it looked: that is not asked for again, until it has left and comes anew. */
static void pcifront_that_cannot_be_served_is_told_and_may_come_again(void **state)
{
	(void)state;
	backend()->fail[BE_CONNECT] = -ENOSPC;
	attach();
	WAIT(is(0, "Closed"));
	WAIT(device()->state == XenbusStateClosed);
	turns(20);
	assert_int_equal(backend()->calls[BE_CONNECT], 1);
	backend()->fail[BE_CONNECT] = 0;
	xb_unload(&xb, kind->type);
	xb_load(&xb, kind->type);
	WAIT(is_up());
	detach(false);
	check_gone();
}

/* blkfront goes without a word: from Connected to Closed. */
static void closed_without_closing(void **state)
{
	(void)state;
	attach();
	WAIT(is_up());
	xb_unload(&xb, kind->type);
	WAIT(is(0, "Closed") && xb_other_state(device()) == XenbusStateClosed);
	backend_has_let_go();
	xb_switch(device(), XenbusStateInitialising);
	WAIT(is(0, "InitWait"));
	detach(true);
	check_gone();
}

/* A kernel that was started by another one (kexec) finds what that left, and resets it. */
static void new_kernel_resets_what_the_old_one_left(void **state)
{
	static const struct {
		enum xenbus_state front, other;
	} steps[] = { { XenbusStateClosing, XenbusStateClosing }, { XenbusStateClosed, XenbusStateClosed },
		      { XenbusStateInitialising, XenbusStateInitWait } };

	(void)state;
	attach();
	WAIT(is_up());
	xs_reconnect(&xb.xs);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(xs_printf(&xb.xs, 0, xb_path(kind->front, "state"), "%d", steps[i].front), 0);
		WAIT(xb_state_of(&xb, other_dir()) == steps[i].other);
	}
	power_off();
	boot();
	WAIT(is_up());
	detach(false);
	check_gone();
}

static void never_closed(void)
{
	fail_msg("a frontend that begins anew was shown that it has to close");
}

/* From Connected to Initialising, as nothing that we know does: served anew, and never sent away. */
static void frontend_begins_anew_in_the_midst(void **state)
{
	(void)state;
	attach();
	WAIT(is_up());
	plan_at(XB_SAW_CLOSING, never_closed);
	xb_switch(device(), XenbusStateInitialising);
	WAIT(xb.connects == 2 && is_up());
	xb.at = NULL;
	detach(false);
	check_gone();
}

static void kernel_that_loses_its_state_node_has_left(void **state)
{
	(void)state;
	attach();
	WAIT(is_up());
	assert_int_equal(xs_rm(&xb.xs, 0, xb_path(kind->front, "state")), 0);
	WAIT(is(0, "Closed"));
	backend_has_let_go();
	detach(false);
	check_gone();
}

static void kernel_leaves_while_the_backend_connects(void **state)
{
	(void)state;
	backend()->silent = 1 << BE_CONNECT;
	attach();
	WAIT(backend()->held[BE_CONNECT]);
	xb_switch(device(), XenbusStateClosed);
	WAIT(is(0, "Closed"));
	be_answer(backend(), BE_CONNECT, 0, NULL); /* too late */
	backend()->silent = 0;
	turns(20);
	assert_string_equal(state_of(0), "Closed");
	detach(false);
	check_gone();
}

/* ---- the backend refuses, dies ---- */

static void connect_that_fails_is_told_and_can_be_tried_again(void **state)
{
	char path[XB_PATH];
	struct json_object *dev;

	(void)state;
	backend()->fail[BE_CONNECT] = -ENOSPC;
	attach();
	WAIT(is(0, "Closed"));
	WAIT(device()->state == XenbusStateClosed);
	dev = listed(0);
	assert_non_null(strstr(text_in(dev, "error"), "refuses to connect"));
	json_object_put(dev);
	snprintf(path, sizeof(path), "/local/domain/0/error/backend/%s/%u/%u", kind->name, rig->domid, kind->devid);
	assert_string_equal(get_key(path, "error"), "28 No space left on device");
	backend()->fail[BE_CONNECT] = 0;
	xb_switch(device(), XenbusStateInitialising);
	WAIT(is_up());
	assert_true(is_gone(path));
	detach(false);
	check_gone();
}

static void backend_goes(void)
{
	be_kill(backend());
	WAIT(is(0, "lost"));
	be_restart(backend(), pv_type_name(kind->type), kind->backend);
}

/* Before it is connected, a device is simply offered by the next backend. */
static void backend_replaced_before_connected(void **state)
{
	(void)state;
	for (enum xb_step step = XB_PROBED; step <= XB_CHOSEN; step++) {
		plan_at(step, backend_goes);
		attach();
		WAIT(plan.done && is_up());
		detach(false);
		check_gone();
	}
}

/* Then it goes on where the last one was, and the kernel sees nothing of it. */
static void backend_replaced_after_connected_goes_on(void **state)
{
	(void)state;
	attach();
	WAIT(is_up());
	for (unsigned round = 1; round <= 3; round++) {
		backend_goes();
		WAIT(is(0, "Connected"));
		assert_int_equal(backend()->adopts, 1);
		assert_int_equal(backend()->calls[BE_PREPARE], 0);
		assert_int_equal(xb_other_state(device()), XenbusStateConnected);
		assert_int_equal(device()->state, XenbusStateConnected);
	}
	detach(false);
	check_gone();
}

/* If it cannot, the kernel knows no way to begin anew. It keeps what it has, is told nothing, and people are told. */
static void backend_replaced_that_cannot_go_on_stays_lost(void **state)
{
	(void)state;
	for (int round = 0; round < 3; round++) {
		struct json_object *dev;
		unsigned prepared;

		attach();
		WAIT(is_up());
		be_kill(backend());
		WAIT(is(0, "lost"));
		prepared = backend()->calls[BE_PREPARE];
		backend()->fail_adopt = -ENOENT;
		be_restart(backend(), pv_type_name(kind->type), kind->backend);
		turns(20);
		assert_string_equal(state_of(0), "lost");
		assert_int_equal(backend()->calls[BE_PREPARE], prepared * 0);
		assert_int_equal(xb_other_state(device()), XenbusStateConnected);
		assert_int_equal(device()->state, XenbusStateConnected);
		dev = listed(0);
		assert_non_null(strstr(text_in(dev, "error"), "detach"));
		json_object_put(dev);
		if (round == 0) {
			detach(false);
		} else if (round == 1) {
			detach(true);
		} else { /* its kernel unloads the driver, and loads it again */
			xb_switch(device(), XenbusStateClosing);
			WAIT(xb_other_state(device()) == XenbusStateClosing);
			xb_switch(device(), XenbusStateClosed);
			WAIT(xb_other_state(device()) == XenbusStateClosed);
			xb_switch(device(), XenbusStateInitialising);
			WAIT(is_up());
			detach(false);
		}
		check_gone();
	}
}

/* The backend dies instead of answering, or right after, in the course of one attach, use and detach. */
static void backend_dies_on_each_call(void **state)
{
	(void)state;
	for (enum be_method m = BE_CONNECT; m <= BE_REMOVE; m++)
		for (int after = 0; after < 2; after++) {
			struct be *b = backend();
			bool up_first = m != BE_CONNECT || after;

			*(after ? &b->die_after : &b->die) = 1 << m;
			attach();
			if (m == BE_CONNECT)
				WAIT(!b->rpc);
			if (up_first)
				WAIT(device() && device()->state == XenbusStateConnected);
			b->die &= up_first ? ~0u : 0;
			if (m != BE_CONNECT)
				good("detach", "{\"guest\":\"web\",\"device\":\"%s\"}", kind->device);
			WAIT(!b->rpc);
			b->die = b->die_after = 0;
			be_restart(b, pv_type_name(kind->type), kind->backend);
			if (m == BE_CONNECT && !after)
				WAIT(is_up());
			if (m == BE_CONNECT)
				good("detach", "{\"guest\":\"web\",\"device\":\"%s\",\"force\":true}", kind->device);
			check_gone();
		}
}

/* ---- a backend in a driver domain ---- */

static uint16_t driver_domain(unsigned domid)
{
	struct json_object *g = get("guest.create", "{\"name\":\"driver%u\",\"domid\":%u}", domid, domid);
	uint16_t ret = number_in(g, "domid");

	json_object_put(g);
	return ret;
}

static void start_in(uint16_t domid)
{
	rig->be[0].domid = domid;
	be_restart(&rig->be[0], "vif", "netback");
}

/* The guest grants its rings to that domain, and finds the backend's directory there. */
static void backend_in_a_driver_domain(void **state)
{
	char dir[XB_PATH];

	(void)state;
	be_kill(&rig->be[0]);
	start_in(driver_domain(71));
	attach();
	WAIT(is_up());
	snprintf(dir, sizeof(dir), "/local/domain/71/backend/vif/%u/0", rig->domid);
	assert_string_equal(device()->other, dir);
	assert_int_equal(device()->other_id, 71);
	xb_unload(&xb, PV_NOXS_VIF);
	WAIT(is(0, "Closed"));
	be_kill(&rig->be[0]);
	be_restart(&rig->be[0], "vif", "netback");
	xb_load(&xb, PV_NOXS_VIF);
	WAIT(is_up());
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
	WAIT(!device());
}

/* ---- dom0 takes the device, at each step ---- */

static struct answer asked;

static void ask_detach(void)
{
	ask(&asked, "detach", "{\"guest\":\"web\",\"device\":\"%s\",\"timeout_ms\":%d}", kind->device, RIG_MS);
	turns(10);
}

static void detach_in_order_at_each_step(void **state)
{
	(void)state;
	for (enum xb_step step = XB_PROBED; step <= XB_CONNECTED; step++) {
		plan_at(step, ask_detach);
		attach();
		WAIT(plan.done && asked.done);
		if (asked.code)
			fail_msg("at step %d: %s", step, asked.why);
		json_object_put(asked.result);
		assert_string_equal(state_of(0), "");
		check_gone();
	}
	xb.at = NULL;
	connect_and_detach();
}

static void detach_now(void)
{
	detach(true);
}

static void detach_by_force_at_each_step(void **state)
{
	(void)state;
	for (enum xb_step step = XB_PROBED; step <= XB_CONNECTED; step++) {
		plan_at(step, detach_now);
		attach();
		WAIT(plan.done);
		check_gone();
	}
	xb.at = NULL;
	connect_and_detach();
}

static void detach_in_order_shows_that_it_is_meant(void **state)
{
	(void)state;
	attach();
	WAIT(is_up());
	rig->also = NULL; /* the kernel hangs */
	assert_int_equal(refused("detach", "{\"guest\":\"web\",\"device\":\"%s\",\"timeout_ms\":50}", kind->device), -ETIMEDOUT);
	assert_string_equal(state_of(0), "Closing");
	assert_int_equal(xb_other_state(device()), XenbusStateClosing);
	assert_string_equal(get_key(other_dir(), "online"), "0");
	rig->also = kernel_turn; /* and goes on */
	WAIT(!device());
	WAIT(is(0, ""));
	check_gone();
}

static void detach_while_the_kernel_unloads_the_driver(void **state)
{
	(void)state;
	attach();
	WAIT(is_up());
	rig->also = NULL;
	xb_switch(device(), XenbusStateClosing);
	WAIT(is_inner(0, "closed"));
	ask(&asked, "detach", "{\"guest\":\"web\",\"device\":\"%s\",\"timeout_ms\":%d}", kind->device, RIG_MS);
	WAIT(is_inner(0, "stopped"));
	assert_int_equal(xb_other_state(device()), XenbusStateClosing);
	xb_switch(device(), XenbusStateClosed);
	WAIT(asked.done);
	assert_int_equal(asked.code, 0);
	json_object_put(asked.result);
	rig->also = kernel_turn;
	check_gone();
}

/* ---- the guest ends, at each step ---- */

static jmp_buf ended;

static void end_guest(void)
{
	good("guest.destroy", "{\"guest\":\"web\",\"force\":true}");
	longjmp(ended, 1);
}

static void guest_destroyed_at_each_step(void **state)
{
	static enum xb_step step; /* survives the jump */

	(void)state;
	rig->also = NULL; /* the kernel runs only where it is called here */
	for (step = XB_PROBED; step <= XB_CONNECTED; step++) {
		struct json_object *g;

		attach();
		plan_at(step, end_guest);
		if (setjmp(ended) == 0) {
			for (;;) {
				xb_turn(&xb);
				rig_turn();
			}
		}
		power_off();
		assert_int_equal(pv_hub_domain_list(rig->dom0, NULL, 0), 1);
		g = get("guest.create", "{\"name\":\"web\"}");
		rig->domid = number_in(g, "domid");
		json_object_put(g);
		boot();
	}
	rig->also = kernel_turn;
	connect_and_detach();
}

#define each(f) { #f "(vif)", f, up, down, (void *)&kinds[VIF] }, { #f "(vbd)", f, up, down, (void *)&kinds[VBD] }
#define vif(f) { #f, f, up, down, (void *)&kinds[VIF] }
#define vf(f) { #f, f, up, down, (void *)&kinds[VF] }
#define all(f) each(f), { #f "(vf)", f, up, down, (void *)&kinds[VF] }
#define vbd(f) { #f, f, up, down, (void *)&kinds[VBD] }

int main(void)
{
	const struct CMUnitTest tests[] = {
		vif(nodes_of_a_vif_are_as_a_toolstack_makes_them),
		vbd(nodes_of_a_vbd_are_as_a_toolstack_makes_them),
		vf(nodes_of_a_vf_are_as_pcifront_wants_them),
		all(guest_writes_to_its_own_directory_alone),
		vif(pair_is_a_node_of_the_vif),
		vif(guest_without_a_xenstore_is_told),
		all(device_is_found_by_a_running_kernel),
		all(device_is_found_by_a_kernel_that_boots),
		all(device_waits_for_its_driver),
		all(device_nobody_drives_is_detached_at_once),
		all(kernel_waits_while_the_backend_connects),
		each(rings_are_those_that_were_told),
		vif(two_devices_go_their_own_ways),
		vif(second_device_of_a_type_stays_when_the_first_goes),
		vif(other_dialect_is_not_seen),
		all(shutdown_is_followed_step_by_step),
		vif(shutdown_of_many_devices),
		vif(driver_is_unloaded_and_loaded),
		vf(driver_is_unloaded_and_loaded),
		vf(pcifront_that_cannot_be_served_is_told_and_may_come_again),
		vbd(closed_without_closing),
		each(new_kernel_resets_what_the_old_one_left),
		vif(frontend_begins_anew_in_the_midst),
		all(kernel_that_loses_its_state_node_has_left),
		all(kernel_leaves_while_the_backend_connects),
		each(connect_that_fails_is_told_and_can_be_tried_again),
		all(backend_replaced_before_connected),
		all(backend_replaced_after_connected_goes_on),
		each(backend_replaced_that_cannot_go_on_stays_lost),
		all(backend_dies_on_each_call),
		vif(backend_in_a_driver_domain),
		all(detach_in_order_at_each_step),
		all(detach_by_force_at_each_step),
		each(detach_in_order_shows_that_it_is_meant),
		each(detach_while_the_kernel_unloads_the_driver),
		all(guest_destroyed_at_each_step),
	};

	return cmocka_run_group_tests(tests, rig_hub_up, rig_hub_down);
}
