/* ask.c - what can be asked of a vif beside what every backend answers: by name. Control thread. */
#include "capture.h"
#include "netback.h"

static const struct {
	const char *what;
	struct json_object *(*answer)(struct vif *vif, struct json_object *params, int *error, char *why, size_t len);
} questions[] = {
	{ "capture", capture_ask },
	{ "rules.show", rules_show },
};

struct json_object *ask_vif(void *ctx, const struct pv_device_id *id, const char *what, struct json_object *params, int *error, char *why,
			    size_t len)
{
	struct vif *vif = vif_find(ctx, id);

	for (size_t i = 0; vif && i < RTE_DIM(questions); i++)
		if (strcmp(questions[i].what, what) == 0)
			return questions[i].answer(vif, params, error, why, len);
	if (vif)
		*error = pv_why(why, len, -ENOTSUP, "%s: this pvio-netback does not understand \"%s\"; is it as new as pvio?", vif->name, what);
	return NULL;
}
