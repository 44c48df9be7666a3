/* telemetry.c - what vifs count, in DPDK's telemetry. DPDK answers on threads of its own, but vifs are the control thread's: a
 * question waits until that has answered it. */
#include "netback.h"
#include <pthread.h>
#include <rte_telemetry.h>

enum { NAME_LEN = 40 };

struct question {
	const char *params; /* NULL: which vifs there are */
	struct json_object *answer;
	bool answered;
};

/* One at a time; `nb` is NULL while nobody answers. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct netback *nb;
	struct question *asked;
} desk = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* ---- the control thread ---- */

static struct json_object *list_vifs(struct netback *nb)
{
	struct json_object *o = json_object_new_array();
	struct vif *vif;
	char text[NAME_LEN];

	TAILQ_FOREACH(vif, &nb->vifs, link) {
		snprintf(text, sizeof(text), "%u,%u", vif->id.guest, vif->id.devid);
		json_object_array_add(o, json_object_new_string(text));
	}
	return o;
}

/* "GUEST,DEVID", by numbers. */
static struct json_object *one_vif(struct netback *nb, const char *params)
{
	struct pv_device_id id = { .type = PV_NOXS_VIF };
	char end;

	if (sscanf(params, "%hu,%u%c", &id.guest, &id.devid, &end) != 2)
		return NULL;
	return report_stats(nb, &id);
}

void telemetry_work(struct netback *nb)
{
	struct question *q;

	pthread_mutex_lock(&desk.lock);
	q = desk.asked;
	if (q && !q->answered && desk.nb == nb) {
		q->answer = q->params ? one_vif(nb, q->params) : list_vifs(nb);
		q->answered = true;
		pthread_cond_broadcast(&desk.changed);
	}
	pthread_mutex_unlock(&desk.lock);
}

/* ---- DPDK's threads ---- */

static struct json_object *ask(const char *params)
{
	struct question q = { .params = params };

	pthread_mutex_lock(&desk.lock);
	while (desk.asked && desk.nb)
		pthread_cond_wait(&desk.changed, &desk.lock);
	if (desk.nb) {
		desk.asked = &q;
		netback_wake(desk.nb);
		while (!q.answered && desk.nb)
			pthread_cond_wait(&desk.changed, &desk.lock);
		desk.asked = NULL;
		pthread_cond_broadcast(&desk.changed);
	}
	pthread_mutex_unlock(&desk.lock);
	return q.answer;
}

static void put_value(struct rte_tel_data *d, const char *key, struct json_object *v);

static void put_container(struct rte_tel_data *d, const char *key, struct json_object *o)
{
	struct rte_tel_data *inner = rte_tel_data_alloc();

	if (!inner)
		return;
	rte_tel_data_start_dict(inner);
	json_object_object_foreach(o, name, v)
		put_value(inner, name, v);
	rte_tel_data_add_dict_container(d, key, inner, 0); /* takes it over */
}

static void put_value(struct rte_tel_data *d, const char *key, struct json_object *v)
{
	char name[NAME_LEN];

	switch (json_object_get_type(v)) {
	case json_type_int:
	case json_type_boolean:
		rte_tel_data_add_dict_u64(d, key, (uint64_t)json_object_get_int64(v));
		break;
	case json_type_string:
		rte_tel_data_add_dict_string(d, key, json_object_get_string(v));
		break;
	case json_type_object:
		put_container(d, key, v);
		break;
	case json_type_array: /* queues0, queues1 .. */
		for (size_t i = 0; i < json_object_array_length(v); i++) {
			snprintf(name, sizeof(name), "%s%zu", key, i);
			put_value(d, name, json_object_array_get_idx(v, i));
		}
		break;
	default:
		break;
	}
}

static int tell_vifs(const char *cmd, const char *params, struct rte_tel_data *d)
{
	struct json_object *o = ask(NULL);

	(void)cmd, (void)params;
	if (!o)
		return -ESHUTDOWN;
	rte_tel_data_start_array(d, RTE_TEL_STRING_VAL);
	for (size_t i = 0; i < json_object_array_length(o); i++)
		rte_tel_data_add_array_string(d, json_object_get_string(json_object_array_get_idx(o, i)));
	json_object_put(o);
	return 0;
}

static int tell_vif(const char *cmd, const char *params, struct rte_tel_data *d)
{
	struct json_object *o = ask(params ? params : "");

	(void)cmd;
	if (!o)
		return -ENOENT;
	rte_tel_data_start_dict(d);
	json_object_object_foreach(o, key, v)
		put_value(d, key, v);
	json_object_put(o);
	return 0;
}

/* ---- from here to there ---- */

void telemetry_open(struct netback *nb)
{
	pthread_mutex_lock(&desk.lock);
	desk.nb = nb;
	pthread_mutex_unlock(&desk.lock);
	rte_telemetry_register_cmd("/pvio/vifs", tell_vifs, "Which vifs are served: \"GUEST,DEVID\" each. No parameters");
	rte_telemetry_register_cmd("/pvio/vif", tell_vif, "What a vif and its queues count. Parameters: GUEST,DEVID");
}

void telemetry_close(void)
{
	pthread_mutex_lock(&desk.lock);
	desk.nb = NULL;
	pthread_cond_broadcast(&desk.changed);
	pthread_mutex_unlock(&desk.lock);
}
