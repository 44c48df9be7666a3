/* cmd_vf_plan.c - pvio vf plan, apply, keep: a file that says how virtual functions shall be, and its way to the machine. */
#include "../sriov/declare.h"
#include "pvio.h"
#include <linux/capability.h>
#include <pvio/privileges.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOCK_WAIT_MS = 60000 };

/* One run: all that is to be freed at its end. */
struct run {
	struct vf_sys s;
	struct vf_declared d;
	struct vf_inventory inv;
	struct vf_plan plan;
	struct vf_applied done;
	int lock;
};

static void end(struct run *r)
{
	vf_applied_free(&r->done);
	vf_plan_free(&r->plan);
	vf_inventory_free(&r->inv);
	vf_declared_free(&r->d);
	if (r->lock >= 0)
		close(r->lock);
	vf_sys_close(&r->s);
}

static int declared(struct pvio *p, struct run *r, struct vf_why *why)
{
	size_t len;
	char *text = read_text(p, p->args[0], VF_TEXT_MAX, &len);
	int rc;

	if (!text)
		return EXIT_FAILED;
	rc = vf_declare_parse(text, len, &r->d, why);
	free(text);
	return rc < 0 ? say_in_file(p, p->args[0], why->text) : EXIT_DONE;
}

/* The machine, the file, and what there is to do; for an apply locked. EXIT_FAILED after a message. */
static int begin(struct pvio *p, struct run *r, bool apply)
{
	struct vf_why why = { "" };
	int rc;

	*r = (struct run){ .lock = -1 };
	rc = vf_machine(p, &r->s);
	if (rc == EXIT_DONE)
		rc = declared(p, r, &why);
	if (rc != EXIT_DONE)
		return rc;
	if (apply && (r->lock = vf_apply_lock(&r->s, LOCK_WAIT_MS, &why)) < 0)
		return say_failed(p, "%s", why.text);
	if (apply && vf_recover(&r->s, vf_release_undo, NULL, &why) < 0)
		return say_failed(p, "%s", why.text);
	rc = vf_plan_look(&r->s, &r->d, apply ? 0 : VF_PLAN_PROBE, &r->inv, &r->plan, &why);
	return rc < 0 ? say_in_file(p, p->args[0], why.text) : EXIT_DONE;
}

static void put_line(void *arg, const char *text)
{
	(void)arg;
	puts(text);
}

int cmd_vf_plan(struct pvio *p)
{
	struct run r;
	int rc = begin(p, &r, false);

	if (rc == EXIT_DONE && p->json)
		rc = print_json(vf_plan_json(&r.plan));
	else if (rc == EXIT_DONE)
		vf_plan_tell(&r.plan, put_line, NULL);
	end(&r);
	return rc;
}

int cmd_vf_apply(struct pvio *p)
{
	struct vf_why why = { "" };
	struct run r;
	int rc, ret;

	if (opt_value(p, "--undo") && opt_value(p, "--keep"))
		return say_usage(p, "--undo or --keep, not both");
	rc = begin(p, &r, true);
	if (rc == EXIT_DONE) {
		ret = vf_apply(&r.s, &r.plan, VF_APPLY_WAIT | (opt_value(p, "--undo") ? VF_APPLY_UNDO : 0), p->json ? NULL : put_line, NULL, &r.done, &why);
		if (p->json)
			print_json(vf_applied_json(&r.done));
		else if (ret == 0 && !r.done.numbers && !r.done.vfs)
			puts("nothing to do");
		if (ret < 0)
			rc = say_failed(p, "%s", why.text);
	}
	end(&r);
	return rc;
}

static void log_line(void *arg, const char *text)
{
	(void)arg;
	puts(text);
	fflush(stdout);
}

/* At boot VFs are made; a service that (re)starts later makes none, but sets what changed while nobody listened. */
int cmd_vf_keep(struct pvio *p)
{
	struct vf_why why = { "" };
	struct vf_keeper keeper;
	struct vf_sys s;
	int rc = vf_machine(p, &s);

	if (rc != EXIT_DONE)
		return rc;
	pv_privileges_keep((const int[]){ CAP_NET_ADMIN, -1 });
	if (opt_value(p, "--once")) {
		rc = vf_keep_all(&s, VF_KEEP_NUMBER, log_line, NULL, &why);
		if (rc > 0)
			rc = say_failed(p, "%d PFs are not as they were applied; pvio vf plan FILE shows what is missing", rc);
		else if (rc < 0)
			rc = say_failed(p, "%s", why.text);
	} else {
		vf_keeper_open(&keeper, &s, log_line, NULL);
		rc = vf_watch(&keeper, &why) < 0 ? say_failed(p, "%s", why.text) : EXIT_DONE;
		vf_keeper_close(&keeper);
	}
	vf_sys_close(&s);
	return rc;
}
