/* rules_config.c - a vif's rules by its configuration, and their replacement while packets pass. Control thread. */
#include "rules_set.h"

static bool same(const struct rules *r, const char *text, const struct vif_config *c)
{
	return !strcmp(r->file->text, text) && r->asked == c->antispoof && !memcmp(r->own.mac, c->mac, 6) && r->own.nr == c->own.nr &&
	       !memcmp(r->own.address, c->own.address, sizeof(c->own.address));
}

/* A vif mirrored to itself would get each packet twice. Returns the line that says so, or 0. */
static unsigned mirrors_itself(const struct rules_file *f, uint32_t devid)
{
	for (unsigned i = 0; i < f->nr; i++)
		if (f->rule[i].mirror >= 0 && (uint32_t)f->rule[i].mirror == devid)
			return f->rule[i].line;
	return 0;
}

int rules_make(const struct pv_device_id *id, const struct vif *vif, struct vif_config *c, unsigned workers, struct rules **out, char *why,
	       size_t len)
{
	const char *text = c->rules ? c->rules : "";
	struct antispoof own = c->own;
	char detail[300];
	unsigned line;
	int ret;

	c->rules = NULL;
	*out = NULL;
	if (!*text && !c->antispoof)
		return 0;
	if (vif && vif->rules && same(vif->rules, text, c)) {
		*out = vif->rules;
		return 0;
	}
	memcpy(own.mac, c->mac, sizeof(own.mac));
	ret = rules_new(text, c->antispoof, &own, workers, out, detail, sizeof(detail));
	if (ret < 0)
		return pv_why(why, len, ret, "vif %u of guest %u: rules: %s", id->devid, id->guest, detail);
	line = mirrors_itself((*out)->file, id->devid);
	if (line) {
		rules_free(*out);
		*out = NULL;
		return pv_why(why, len, -EINVAL, "vif %u of guest %u: rules: line %u: it is mirrored to itself: give another vif", id->devid,
			      id->guest, line);
	}
	return 0;
}

void rules_drop(const struct vif *vif, struct rules *r)
{
	if (!vif || r != vif->rules)
		rules_free(r);
}

void rules_replace(struct vif *vif, struct rules *r)
{
	struct rules *before = vif->rules;

	if (r == before)
		return;
	if (!r)
		__atomic_fetch_and(&vif->steps, ~(uint32_t)STEP_RULES, __ATOMIC_RELEASE);
	__atomic_store_n(&vif->rules, r, __ATOMIC_RELEASE); /* pairs with rules_step */
	if (r)
		__atomic_fetch_or(&vif->steps, STEP_RULES, __ATOMIC_RELEASE); /* pairs with forward and backlog_give */
	rules_retarget(vif->nb);
	netback_barrier(vif->nb); /* no worker has those before any more, and no train of packets passes by the new ones */
	rules_free(before);
}

static struct vif *target(struct netback *nb, const struct vif *vif, int32_t devid)
{
	struct vif *to = vif_find(nb, &(struct pv_device_id){ .guest = vif->id.guest, .type = vif->id.type, .devid = (uint32_t)devid });

	return to && to->connected ? to : NULL;
}

void rules_retarget(struct netback *nb)
{
	struct vif *vif;

	TAILQ_FOREACH(vif, &nb->vifs, link) {
		struct rules *r = vif->rules;

		for (unsigned i = 0; r && r->mirrors && i < r->file->nr; i++)
			if (r->file->rule[i].mirror >= 0)
				__atomic_store_n(&r->mirror[i], target(nb, vif, r->file->rule[i].mirror), __ATOMIC_RELEASE); /* pairs with mirror */
	}
}
