/* test_pviod_tool.c - libpvtool against the real pviod; the backend is a process of its own, made with pv_backend. */
#include "tests/unit/pviod_rig.h"
#include "dom0-tools/libpvtool.h"

static struct pv_tool *tool;
static pid_t backend;

static int prepare(void *ctx, const struct pv_device_id *id, struct json_object *config, struct pv_noxs_offer *offer, char *why, size_t len)
{
	struct json_object *path = NULL;

	(void)ctx, (void)id;
	if (!json_object_object_get_ex(config, "path", &path))
		return pv_why(why, len, -EINVAL, "give path=");
	if (strcmp(json_object_get_string(path), "/nowhere") == 0)
		return pv_why(why, len, -ENOENT, "vbd %s of guest %u: cannot open /nowhere", "xvdc", id->guest);
	offer->vbd = (struct pv_noxs_vbd_offer){ .sectors = 8, .sector_size = 512, .physical_sector_size = 512, .queues_max = 1 };
	return 0;
}

static int nothing(void *ctx, const struct pv_device_id *id, char *why, size_t len)
{
	(void)ctx, (void)id, (void)why, (void)len;
	return 0;
}

static int refuse_connect(void *ctx, const struct pv_connect *c, char *why, size_t len)
{
	(void)ctx, (void)c;
	return pv_why(why, len, -ENOTSUP, "no data here");
}

static struct json_object *say_nothing(void *ctx, const struct pv_device_id *id)
{
	(void)ctx, (void)id;
	return NULL;
}

static const struct pv_backend_ops ops = { .kind = "vbd", .prepare = prepare, .connect = refuse_connect, .disconnect = nothing,
					   .remove = nothing, .stats = say_nothing, .inspect = say_nothing };

/* A backend whose domain is the guest's: any that exists will do. */
static void __attribute__((noreturn)) serve(const char *path)
{
	struct pv_backend *b;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (pv_backend_new(path, "blkback", &ops, NULL, &b) < 0)
		_exit(1);
	pv_backend_domid(b, 5);
	for (;;) {
		struct pollfd p = { .fd = pv_backend_fd(b), .events = pv_backend_events(b) };

		poll(&p, 1, pv_backend_timeout(b));
		pv_backend_work(b);
	}
}

/* The child is this program again: see fe_child_entry. */
static void __attribute__((constructor)) serve_entry(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--backend"))
		serve(argv[2]);
}

static int up(void **state)
{
	char why[200], *list = NULL;

	rig_up_bare(state);
	backend = fork();
	if (backend == 0) {
		close_range(3, ~0u, 0);
		execl("/proc/self/exe", "backend", "--backend", rig->sock, NULL);
		_exit(127);
	}
	if (pv_tool_open(rig->sock, &tool, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	do {
		free(list);
		usleep(1000);
		assert_int_equal(pv_tool_call(tool, "backend.list", NULL, 0, &list), 0);
	} while (!strstr(list, "blkback"));
	free(list);
	return 0;
}

static int down(void **state)
{
	pv_tool_close(tool);
	kill(backend, SIGKILL);
	waitpid(backend, NULL, 0);
	return rig_down(state);
}

static void count_device(void *arg, const struct pv_tool_device *d)
{
	int *n = arg;

	assert_string_equal(d->guest, "web");
	assert_string_equal(d->type, "vbd");
	assert_string_equal(d->state, "InitWait");
	(*n)++;
}

static void tool_makes_guests_and_devices(void **state)
{
	const char *const config[] = { "path=/a=b", "mode=r", NULL };
	struct pv_tool_device d;
	uint16_t domid = 0;
	int n = 0;

	(void)state;
	assert_int_equal(pv_tool_guest_create(tool, "web", 0, &domid), 0);
	assert_true(domid > 0);
	assert_int_equal(pv_tool_guest_create(tool, "web", 0, NULL), -EEXIST);
	assert_int_equal(pv_tool_attach(tool, "web", "vbd", NULL, config, 0, &d), 0);
	assert_string_equal(d.name, "xvda");
	assert_int_equal(d.domid, domid);
	assert_int_equal(d.devid, 51712);
	assert_int_equal(d.state_number, XenbusStateInitWait);
	assert_true(d.offer_us >= 0 && d.connect_us == -1);
	for (int i = 0; i < 200; i++) { /* more than one answer of list holds */
		char name[16];

		snprintf(name, sizeof(name), "%d", 1 << 28 | (100 + i) << 8);
		assert_int_equal(pv_tool_attach(tool, "web", "vbd", name, config, 0, NULL), 0);
	}
	assert_int_equal(pv_tool_list(tool, "web", count_device, &n), 201);
	assert_int_equal(n, 201);
	assert_int_equal(pv_tool_detach(tool, "web", "xvda", false, 0), 0);
	assert_int_equal(pv_tool_detach(tool, "web", "xvda", false, 0), -ENOENT);
	assert_int_equal(pv_tool_guest_destroy(tool, "web", false, 0), 0);
	assert_int_equal(pv_tool_list(tool, NULL, count_device, &n), 0);
}

static void tool_says_what_went_wrong(void **state)
{
	const char *const nowhere[] = { "path=/nowhere", NULL }, *const nonsense[] = { "path", NULL }, *const latin[] = { "dialect=latin", NULL };
	char *result = NULL;

	(void)state;
	assert_int_equal(pv_tool_attach(tool, "web", "vbd", NULL, NULL, 0, NULL), -ENOENT);
	assert_non_null(strstr(pv_tool_error(tool), "no guest web"));
	pv_tool_guest_create(tool, "web", 0, NULL);
	assert_int_equal(pv_tool_attach(tool, "web", "vbd", NULL, latin, 0, NULL), -EINVAL);
	assert_non_null(strstr(pv_tool_error(tool), "noxs or xenstore"));
	assert_int_equal(pv_tool_attach(tool, "web", "vbd", NULL, nonsense, 0, NULL), -EINVAL);
	assert_int_equal(pv_tool_attach(tool, "web", "vbd", "xvdc", nowhere, 0, NULL), -ENOENT);
	assert_string_equal(pv_tool_error(tool), "cannot open /nowhere");
	assert_int_equal(pv_tool_attach(tool, "web", "vif", NULL, NULL, 0, NULL), -ENODEV);
	assert_int_equal(pv_tool_guest_create(tool, "9", 0, NULL), -EINVAL);
	assert_int_equal(pv_tool_guest_build(tool, "db", &(struct pv_tool_domain){ .type = "pv", .kernel = "/boot/vmlinuz", .memory = 64 }, NULL), -ENOTSUP);
	assert_non_null(strstr(pv_tool_error(tool), "runs no kernels"));
	assert_int_equal(pv_tool_guest_start(tool, "web"), -ENOTSUP);
	assert_int_equal(pv_tool_guest_pause(tool, "nobody"), -ENOENT);
	assert_int_equal(pv_tool_guest_shutdown(tool, "web", false, 0), -ENOTSUP);
	assert_int_equal(pv_tool_call(tool, "list", "{", 0, &result), -EINVAL);
	assert_int_equal(pv_tool_call(tool, "no.such", NULL, 0, &result), PV_RPC_NO_METHOD);
	assert_null(result);
}

static void entry_names_the_domain_of_the_backend(void **state)
{
	const char *const config[] = { "path=/x", NULL };
	uint16_t domid;

	(void)state;
	pv_tool_guest_create(tool, "web", 0, &domid);
	assert_int_equal(pv_tool_attach(tool, "web", "vbd", "xvda", config, 0, NULL), 0);
	fe1.at = NULL;
	fe_open(&fe1, domid, PV_NOXS_VBD, 51712);
	assert_int_equal(fe_entry(&fe1, &fe1.entry), 0);
	assert_int_equal(fe1.entry.backend_domid, 5);
	fe_close(&fe1);
}

static void tool_connects_anew_when_pviod_was_restarted(void **state)
{
	char *result = NULL, why[WHY_LEN];

	(void)state;
	pviod_stop(&rig->d);
	pthread_join(rig->thread, NULL);
	pv_rpc_free(rig->client[0].rpc);
	rig->client[0].rpc = NULL;
	pviod_close(&rig->d);
	assert_int_equal(pv_tool_call(tool, "version", NULL, 0, &result), -ENOENT);
	assert_non_null(strstr(pv_tool_error(tool), "does not run"));
	assert_int_equal(pviod_open(&rig->d, &rig_options, why, sizeof(why)), 0);
	assert_int_equal(pthread_create(&rig->thread, NULL, rig_pviod, &rig->d), 0);
	assert_int_equal(pv_tool_call(tool, "version", NULL, 0, &result), 0);
	assert_non_null(strstr(result, "loopback"));
	free(result);
}

static void open_without_pviod_says_so(void **state)
{
	struct pv_tool *t;
	char why[200];

	(void)state;
	assert_int_equal(pv_tool_open("/nowhere/pviod.sock", &t, why, sizeof(why)), -ENOENT);
	assert_null(t);
	assert_non_null(strstr(why, "pviod does not run"));
	pv_tool_close(NULL);
}

#define with(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with(tool_makes_guests_and_devices),
		with(tool_says_what_went_wrong),
		with(entry_names_the_domain_of_the_backend),
		with(tool_connects_anew_when_pviod_was_restarted),
		cmocka_unit_test(open_without_pviod_says_so),
	};

	return cmocka_run_group_tests(tests, rig_hub_up, rig_hub_down);
}
