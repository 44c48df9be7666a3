/* cmd_vf_claim.c - pvio vf claim, release, bind and quarantine: who has which virtual function. */
#include "../sriov/sriov.h"
#include "pvio.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MS = 15000 }; /* for whoever works on it */

/* The machine, after what killed commands left half done. */
static int open_machine(struct pvio *p, struct vf_sys *s)
{
	struct vf_why why = { "" };
	int rc = vf_machine(p, s);

	if (rc == EXIT_DONE && vf_recover(s, vf_release_undo, NULL, &why) < 0)
		say_failed(p, "what an earlier command left could not be finished: %s", why.text); /* and goes on */
	return rc;
}

/* ---- which ---- */

/* A VF by its address, also if it is gone, or as it is called otherwise. */
static int find_vf(struct pvio *p, struct vf_sys *s, const char *name, struct vf_bdf *out)
{
	struct vf_inventory inv;
	struct vf_why why;
	struct vf *vf;
	int rc;

	if (vf_bdf_parse(name, out) == 0)
		return EXIT_DONE;
	rc = vf_inventory(s, 0, &inv, &why);
	rc = rc < 0 ? rc : vf_match_vf(&inv, name, &vf, NULL, &why);
	if (rc == 0)
		*out = vf->dev.bdf;
	vf_inventory_free(&inv);
	return rc < 0 ? say_failed(p, "%s", why.text) : EXIT_DONE;
}

static int find_pf(struct pvio *p, struct vf_sys *s, const char *name, struct vf_bdf *out)
{
	struct vf_inventory inv;
	struct vf_why why;
	struct vf_pf *pf;
	int rc = vf_inventory(s, 0, &inv, &why);

	rc = rc < 0 ? rc : vf_match_pf(&inv, name, &pf, &why);
	if (rc == 0)
		*out = pf->dev.bdf;
	vf_inventory_free(&inv);
	return rc < 0 ? say_failed(p, "%s", why.text) : EXIT_DONE;
}

/* ---- what is wanted ---- */

/* "vlan,trust" */
static int parse_needs(struct pvio *p, const char *list, unsigned *keys)
{
	char copy[VF_ATTR_MAX], *rest = copy, *name;

	snprintf(copy, sizeof(copy), "%s", list ? list : "");
	while ((name = strsep(&rest, ",")) && list) {
		int key = vf_key_find(name);

		if (key < 0)
			return say_usage(p, "--need %s: no setting of a VF is called so; there are " VF_KEY_NAMES, name);
		*keys |= 1u << key;
	}
	return EXIT_DONE;
}

/* KEY=VALUE... */
static int parse_settings(struct pvio *p, int first, struct vf_settings *v)
{
	for (int i = first; i < p->nargs; i++) {
		char name[VF_NAME_MAX];
		const char *eq = strchr(p->args[i], '=');
		struct vf_why why;
		int key;

		snprintf(name, sizeof(name), "%.*s", eq ? (int)(eq - p->args[i]) : 0, p->args[i]);
		key = vf_key_find(name);
		if (key < 0)
			return say_usage(p, "%s is no setting of a VF, such as vlan=100", p->args[i]);
		if (vf_settings_parse(v, key, eq + 1, &why) < 0)
			return say_usage(p, "%s", why.text);
	}
	return EXIT_DONE;
}

static int put_name(struct pvio *p, const char *option, char out[VF_NAME_MAX])
{
	const char *v = opt_value(p, option);

	if (v && (!*v || strlen(v) >= VF_NAME_MAX))
		return say_usage(p, "%s takes a name of 1..%d bytes", option, VF_NAME_MAX - 1);
	snprintf(out, VF_NAME_MAX, "%s", v ? v : "");
	return EXIT_DONE;
}

static int parse_want(struct pvio *p, struct vf_sys *s, struct vf_want *w)
{
	bool named = p->nargs && !strchr(p->args[0], '=');
	int rc = put_name(p, "--for", w->owner);

	rc = rc ? rc : put_name(p, "--pool", w->pool);
	rc = rc ? rc : put_name(p, "--driver", w->driver);
	if (rc == EXIT_DONE && !*w->owner)
		return say_usage(p, "say who is to have it: --for OWNER");
	w->numa = opt_number(p, "--numa", -1, 0, 1023);
	if (rc == EXIT_DONE && opt_value(p, "--numa") && w->numa < 0)
		return EXIT_USAGE;
	rc = rc ? rc : parse_needs(p, opt_value(p, "--need"), &w->must_support);
	rc = rc ? rc : parse_settings(p, named, &w->settings);
	if (rc == EXIT_DONE && opt_value(p, "--pf"))
		rc = find_pf(p, s, opt_value(p, "--pf"), &w->pf);
	return rc || !named ? rc : find_vf(p, s, p->args[0], &w->vf);
}

/* ---- the commands ---- */

int cmd_vf_claim(struct pvio *p)
{
	struct vf_want want = { .numa = -1 };
	struct vf_record r;
	struct vf_why why;
	struct vf_sys s;
	int rc = open_machine(p, &s);

	if (rc)
		return rc;
	rc = parse_want(p, &s, &want);
	if (rc == EXIT_DONE && vf_claim(&s, &want, &r, &why) < 0)
		rc = say_failed(p, "%s", why.text);
	else if (rc == EXIT_DONE) {
		if (p->json)
			print_json(vf_json_record(&r));
		else
			printf("%s\n", vf_text(r.vf).s);
		vf_record_close(&r);
	}
	vf_sys_close(&s);
	return rc;
}

/* The record of the VF that the first argument (from `arg`) names, locked, if it is in this state. */
static int open_record(struct pvio *p, struct vf_sys *s, int arg, enum vf_state state, struct vf_record *r)
{
	struct vf_why why;
	struct vf_bdf vf;
	int rc = find_vf(p, s, p->args[arg], &vf);

	if (rc)
		return rc;
	if (vf_record_open(s, vf, WAIT_MS, r, &why) < 0)
		return say_failed(p, "%s", why.text);
	if (r->state == state)
		return EXIT_DONE;
	if (r->state == VF_FREE)
		rc = say_failed(p, "VF %s: nobody has it", vf_text(vf).s);
	else if (r->state == VF_QUARANTINED)
		rc = say_failed(p, "VF %s is in quarantine: %s; pvio vf quarantine clear %s tries again", vf_text(vf).s, r->why, vf_text(vf).s);
	else if (r->state == VF_ASSIGNED)
		rc = say_failed(p, "VF %s is in guest %s: detach it there first", vf_text(vf).s, r->owner);
	else
		rc = say_failed(p, "VF %s is %s, not %s", vf_text(vf).s, vf_state_name(r->state), vf_state_name(state));
	vf_record_close(r);
	return rc;
}

static int release_record(struct pvio *p, struct vf_sys *s, struct vf_record *r)
{
	double seconds = opt_seconds(p, "--timeout", 10);
	const char *reset = opt_value(p, "--reset");
	struct vf_release_how how = { .reset = reset ? reset : "", .reset_ms = seconds * 1000 };
	struct vf_why why;
	int rc = EXIT_DONE;

	if (seconds < 0)
		rc = EXIT_USAGE;
	else if (reset && strcmp(reset, "bus") && strcmp(reset, "pm"))
		rc = say_usage(p, "--reset %s: it is bus or pm", reset);
	else if (vf_release(s, r, &how, &why) < 0)
		rc = say_failed(p, "%s", why.text);
	vf_record_close(r);
	return rc;
}

int cmd_vf_release(struct pvio *p)
{
	const char *owner = opt_value(p, "--for");
	struct vf_record r;
	struct vf_sys s;
	int rc = open_machine(p, &s);

	if (rc)
		return rc;
	rc = open_record(p, &s, 0, VF_CLAIMED, &r);
	if (rc == EXIT_DONE && owner && strcmp(owner, r.owner)) {
		rc = say_failed(p, "VF %s is not %s's: %s has it", vf_text(r.vf).s, owner, r.owner);
		vf_record_close(&r);
	} else if (rc == EXIT_DONE)
		rc = release_record(p, &s, &r);
	vf_sys_close(&s);
	return rc;
}

int cmd_vf_bind(struct pvio *p)
{
	struct vf_record r;
	struct vf_why why;
	struct vf_sys s;
	int rc = open_machine(p, &s);

	if (rc)
		return rc;
	rc = open_record(p, &s, 0, VF_CLAIMED, &r);
	if (rc == EXIT_DONE) {
		if (vf_rebind(&s, &r, p->args[1], &why) < 0)
			rc = say_failed(p, "%s", why.text);
		vf_record_close(&r);
	}
	vf_sys_close(&s);
	return rc;
}

/* ---- quarantine ---- */

static int list_quarantine(struct pvio *p, struct vf_sys *s)
{
	static const struct column columns[] = {
		{ "VF", "vf", false, NULL }, { "PF", "pf", false, NULL }, { "OWNER", "owner", false, NULL }, { "WHY", "why", false, NULL },
	};
	struct json_object *rows = json_object_new_array();
	struct vf_bdf *vf;
	int n = vf_record_list(s, &vf);

	for (int i = 0; i < n; i++) {
		struct vf_record r;

		if (vf_record_read(s, vf[i], &r) == 0 && r.state == VF_QUARANTINED)
			json_object_array_add(rows, vf_json_record(&r));
		vf_record_close(&r);
	}
	free(n >= 0 ? vf : NULL);
	if (n < 0) {
		json_object_put(rows);
		return say_failed(p, "cannot read the records in %s: %s", s->state, strerror(-n));
	}
	if (p->json)
		return print_json(rows);
	print_table(rows, columns, sizeof(columns) / sizeof(columns[0]), "no VF is in quarantine");
	json_object_put(rows);
	return EXIT_DONE;
}

int cmd_vf_quarantine(struct pvio *p)
{
	bool clear = strcmp(p->args[0], "clear") == 0;
	struct vf_record r;
	struct vf_sys s;
	int rc;

	if ((!clear && strcmp(p->args[0], "list")) || p->nargs != 1 + clear)
		return say_usage(p, "it is list, or clear VF");
	rc = open_machine(p, &s);
	if (rc)
		return rc;
	if (clear) {
		rc = open_record(p, &s, 1, VF_QUARANTINED, &r);
		rc = rc ? rc : release_record(p, &s, &r);
	} else {
		rc = list_quarantine(p, &s);
	}
	vf_sys_close(&s);
	return rc;
}
