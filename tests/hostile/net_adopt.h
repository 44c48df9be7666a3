/* net_adopt.h - pvio-netback of net_rig.h is killed, and the next process goes on with the devices of the old one. While no process runs, a test
 * may write into their logs what a process would have written until any instant. */
#ifndef NET_ADOPT_H
#define NET_ADOPT_H

#include "net_rig.h"
#include "netback/keep.h"
#include <pvio/inflight.h>

enum { SLOTS = 256 };

static const char *const heir_args[] = { "--memory", "64", "--log", "warn", NULL };

static inline struct pv_connect adoption(const struct net_guest *g, struct json_object *config)
{
	return (struct pv_connect){ .id = guest_device(g), .config = config, .choice = guest_choice(g), .adopt = true };
}

/* Its queues are looked at from `resume` on: when all are back. */
static inline int adopt_held(const struct net_guest *g)
{
	struct json_object *config = json_tokener_parse(LARGE_MTU), *params;
	struct pv_connect connect = adoption(g, config);

	params = pv_connect_to_json(&connect);
	json_object_put(config);
	return rig_call("connect", params);
}

static inline int adopt(const struct net_guest *g)
{
	int ret = adopt_held(g);

	if (ret == 0)
		assert_int_equal(rig_call("resume", NULL), 0);
	return ret;
}

static inline void die(void)
{
	kill(rig.backend, SIGKILL);
	waitpid(rig.backend, NULL, 0);
}

static inline void retire_answered(void *arg, int code, const char *message, struct json_object *result)
{
	(void)arg, (void)code, (void)message, (void)result;
}

/* It is told to hand its devices over; whether its answer comes before it ends is all the same. */
static inline void retire(void)
{
	assert_int_equal(pv_rpc_call(rig.rpc, "retire", NULL, PATIENCE, retire_answered, NULL), 0);
	rig_pump(0);
}

/* The next process, and the well-behaved are with it. */
static inline void next(void)
{
	assert_int_equal(rig_start_backend("pvio-netback", heir_args), 0);
	assert_int_equal(adopt(&peers.a), 0);
	assert_int_equal(adopt(&peers.b), 0);
}

/* What the dead process knew of its device. */
static inline struct pv_inflight *log_open(const struct net_guest *g)
{
	const struct pv_inflight_shape shape = { .rings = 2 * g->nq, .slots = SLOTS, .record = 2,
						 .area = (uint32_t)keep_bytes(g->nq) };
	struct pv_connect connect = adoption(g, NULL);
	struct pv_inflight *f;
	char why[300];

	if (pv_inflight_open(&connect, &shape, &f, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return f;
}

#endif
