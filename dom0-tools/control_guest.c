/* control_guest.c - the methods about guests: made, listed, started, paused, asked to end, ended. */
#include "control.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SHUTDOWN_MS = 30000, /* a guest's time to shut down */
	DOMAIN_GONE_MS = 60000, /* until Xen has given back the memory of a large one */
	MEMORY_DEFAULT = 512, /* MiB */
};

/* ---- create ---- */

/* 32 digits, with dashes wherever they are. Returns false if it was refused. */
static bool param_uuid(struct request *r, uint8_t uuid[16])
{
	const char *text = param_text(r, "uuid"), *s;
	unsigned n = 0;

	memset(uuid, 0, 16);
	for (s = text; s && *s && n < 33; s++) {
		if (*s == '-')
			continue;
		if (!isxdigit((unsigned char)*s))
			break;
		if (n < 32)
			uuid[n / 2] = uuid[n / 2] << 4 | (isdigit((unsigned char)*s) ? *s - '0' : (*s | 32) - 'a' + 10);
		n++;
	}
	if (text && (*s || n != 32))
		refuse(r, PV_RPC_BAD_PARAMS, "%s is no uuid", text);
	return !r->answered;
}

/* The name of a new guest, or NULL: it was refused. */
static const char *param_new_name(struct request *r)
{
	const char *name = param_text(r, "name");
	struct guest *g;

	if (r->answered)
		return NULL;
	if (!name || !guest_name_ok(name)) {
		refuse(r, PV_RPC_BAD_PARAMS, "%s is no name for a guest: letters, digits, '.', '_' and '-', %d at most, and not a number",
		       name ? name : "nothing", NAME_LEN - 1);
		return NULL;
	}
	g = guest_find(r->d, name);
	if (g)
		refuse(r, -EEXIST, "guest %s exists already, domid %u", g->name, g->domid);
	else if (domains_building(r->d, name))
		refuse(r, -EEXIST, "guest %s is being built", name);
	return r->answered ? NULL : name;
}

static bool param_spec(struct request *r, struct domain_spec *s)
{
	const char *type = param_text(r, "type");

	*s = (struct domain_spec){
		.kernel = param_text(r, "kernel"), .ramdisk = param_text(r, "ramdisk"), .cmdline = param_text(r, "cmdline"),
		.memory = param_number(r, "memory", MEMORY_DEFAULT, DOMAIN_MEMORY_MAX), .vcpus = param_number(r, "vcpus", 1, DOMAIN_VCPUS_MAX),
		.domid = param_number(r, "domid", 0, 0x7fef), .passthrough = param_flag(r, "passthrough"),
	};
	if (r->answered || !param_uuid(r, s->uuid))
		return false;
	if (!type || (strcmp(type, "pv") && strcmp(type, "pvh")))
		refuse(r, PV_RPC_BAD_PARAMS, "type is %s%s", type ? "pv or pvh, not " : "missing: pv or pvh", type ? type : "");
	else if (!s->kernel)
		refuse(r, PV_RPC_BAD_PARAMS, "kernel is missing: the file that the guest starts");
	s->pvh = type && strcmp(type, "pvh") == 0;
	return !r->answered;
}

static void guest_built(struct pviod *d, uint64_t conn, uint64_t id, struct guest *g, int rc, const char *why)
{
	struct conn *c = conn_find(d, conn);

	if (c && g)
		pv_rpc_reply(c->rpc, id, report_guest(g));
	else if (c)
		pv_rpc_fail(c->rpc, id, rc, "%s", why);
	else if (g)
		guest_end(g, true); /* nobody would start it */
}

/* The loopback hypervisor's guests are processes of this machine: there is nothing to build. */
static void create_on_loopback(struct request *r, const char *name)
{
	unsigned domid = param_number(r, "domid", 0, 0x7fef), left = backend_left_domid(r->d, name);
	struct guest *g;
	char why[WHY_LEN];
	int rc;

	if (!r->answered && (param_text(r, "type") || param_text(r, "kernel") || param_flag(r, "passthrough")))
		refuse(r, -ENOTSUP, "the loopback hypervisor runs no kernels: its guests are processes of this machine, and have a name alone");
	if (r->answered)
		return;
	rc = guest_create(r->d, name, domid ? domid : left, &g, why, sizeof(why));
	if (rc == -EEXIST && !domid)
		rc = guest_create(r->d, name, 0, &g, why, sizeof(why));
	if (rc < 0)
		refuse(r, rc, "%s", why);
	else
		reply(r, report_guest(g));
}

void do_guest_create(struct request *r)
{
	const char *name = param_new_name(r);
	struct domain_spec spec;
	int rc;

	if (!name)
		return;
	if (!domains_are_here(r->d)) {
		create_on_loopback(r, name);
		return;
	}
	if (!param_spec(r, &spec))
		return;
	spec.wish = !spec.domid;
	if (spec.wish)
		spec.domid = backend_left_domid(r->d, name);
	rc = domains_build(r->d, name, &spec, guest_built, r->conn->serial, r->id);
	if (rc < 0)
		refuse(r, rc, "out of memory");
	r->answered = true;
}

/* ---- a guest's domain ---- */

/* A guest that is there and ours, and how its domain does. Returns NULL if it was refused. */
static struct guest *param_domain(struct request *r, struct domctl **ctl, struct domain_info *info)
{
	struct guest *g = param_guest(r, true);
	char why[WHY_LEN];
	int rc;

	if (!r->answered && claim_is_foreign(g))
		refuse(r, -EPERM, "guest %s is another toolstack's; `xl unpause`, `xl pause` and `xl shutdown` are for it", g->name);
	if (r->answered)
		return NULL;
	rc = domains_control(r->d, ctl, why, sizeof(why));
	if (rc == 0) {
		rc = domain_look(*ctl, g->domid, info);
		snprintf(why, sizeof(why), "cannot ask Xen about domain %u: %s", g->domid, strerror(-rc));
	}
	if (rc < 0)
		refuse(r, rc, "%s", why);
	else if (g->dying)
		refuse(r, -EBUSY, "guest %s is being destroyed", g->name);
	return r->answered ? NULL : g;
}

/* Xen counts pauses, people do not: once is enough. */
static void set_paused(struct request *r, bool paused)
{
	struct domctl *ctl;
	struct domain_info info;
	struct guest *g = param_domain(r, &ctl, &info);
	int rc = 0;

	if (!g)
		return;
	if ((info.state == DOMAIN_PAUSED) != paused)
		rc = paused ? domain_pause(ctl, g->domid) : domain_unpause(ctl, g->domid);
	if (rc < 0)
		refuse(r, rc, "Xen does not %s domain %u: %s", paused ? "pause" : "start", g->domid, strerror(-rc));
	else
		reply(r, report_guest(g));
}

void do_guest_start(struct request *r)
{
	set_paused(r, false);
}

void do_guest_pause(struct request *r)
{
	set_paused(r, true);
}

/* By the node that Linux watches; it answers by doing it. */
void do_guest_shutdown(struct request *r)
{
	const char *what = param_flag(r, "reboot") ? "reboot" : "poweroff";
	unsigned ms = param_number(r, "timeout_ms", SHUTDOWN_MS, WAIT_MS_MAX);
	struct domctl *ctl;
	struct domain_info info;
	struct guest *g = r->answered ? NULL : param_domain(r, &ctl, &info);
	char path[64];
	int rc;

	if (!g)
		return;
	if (info.state == DOMAIN_PAUSED) {
		refuse(r, -EBUSY, "guest %s is paused and hears nothing; `pvio guest start %s` first", g->name, g->name);
		return;
	}
	if (!g->nodes) {
		refuse(r, -ENOTSUP, "guest %s has no XenStore by which it could be asked; `pvio guest destroy %s` ends it", g->name, g->name);
		return;
	}
	snprintf(path, sizeof(path), "/local/domain/%u/control/shutdown", g->domid);
	rc = g->nodes->ops->write(g->nodes, path, what, g->domid, g->domid);
	if (rc < 0)
		refuse(r, rc, "cannot write %s: %s", path, strerror(-rc));
	else
		wait_for(r, WAIT_SHUTDOWN, NULL, g, ms);
}

static void other_destroyed(struct pviod *d, uint64_t conn, uint64_t id, int rc, const char *why)
{
	struct conn *c = conn_find(d, conn);

	if (c && rc == 0)
		pv_rpc_reply(c->rpc, id, NULL);
	else if (c)
		pv_rpc_fail(c->rpc, id, rc, "%s", why);
}

/* A domain that is no guest of ours, such as one that a killed pviod has left: by force, and by its number alone. Returns false if
 * it is not that which is asked for. */
static bool destroy_other(struct request *r)
{
	const char *name = param_text(r, "guest");
	bool number = name && *name && strspn(name, "0123456789") == strlen(name);
	long domid = number ? atol(name) : 0;
	int rc;

	if (r->answered || domid < 1 || domid > 0x7fef || guest_find(r->d, name) || !param_flag(r, "force") || !domains_are_here(r->d))
		return false;
	rc = domains_destroy_other(r->d, domid, other_destroyed, r->conn->serial, r->id);
	if (rc < 0)
		refuse(r, rc, "out of memory");
	r->answered = true;
	return true;
}

/* A domain of Xen goes at once, as if its power were cut: nobody in there is asked. */
void do_guest_destroy(struct request *r)
{
	bool other = destroy_other(r), cut = domains_are_here(r->d);
	struct guest *g = other ? NULL : param_guest(r, true);
	bool force = param_flag(r, "force") || cut;
	unsigned ms = param_number(r, "timeout_ms", DETACH_MS, WAIT_MS_MAX);

	if (r->answered)
		return;
	if (force)
		ms = r->d->opt.backend_ms + (cut ? DOMAIN_GONE_MS : GRACE_MS);
	if (claim_is_foreign(g))
		refuse(r, -EPERM, "guest %s is another toolstack's; `xl destroy %u` ends it", g->name, g->domid);
	else if (wait_for(r, WAIT_GUEST_GONE, NULL, g, ms))
		guest_end(g, force);
}

/* ---- list ---- */

struct listing {
	struct pviod *d;
	struct json_object *a;
};

/* A domain, if it is no guest of ours. */
static void list_other(void *arg, const struct domain_info *info)
{
	struct listing *l = arg;
	struct guest *g;

	HASH_FIND(hh_domid, l->d->by_domid, &info->domid, sizeof(info->domid), g);
	if (!g)
		json_object_array_add(l->a, report_domain(info));
}

void do_guest_list(struct request *r)
{
	struct json_object *o = json_object_new_object();
	struct listing l = { .d = r->d, .a = json_object_new_array() };
	struct guest *g, *next;
	struct domctl *ctl;

	HASH_ITER(hh_domid, r->d->by_domid, g, next)
		json_object_array_add(l.a, report_guest(g));
	if (domains_control(r->d, &ctl, NULL, 0) == 0)
		domain_each(ctl, list_other, &l);
	json_object_object_add(o, "guests", l.a);
	reply(r, o);
}
