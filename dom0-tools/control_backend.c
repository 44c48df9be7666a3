/* control_backend.c - a backend hands over: the one that serves is asked to end, and its devices wait for the next, which pviod starts
 * itself if it is the one who starts backends of that name. */
#include "control.h"
#include <errno.h>
#include <string.h>

/* That it was asked is all that a good answer says; that it has ended, the end of its connection. */
static void asked(void *arg, int code, const char *message, struct json_object *result)
{
	struct backend *b = arg; /* lives for as long as the connection on which it answers */

	(void)result;
	if (code == 0 || code == -ECONNRESET)
		return;
	supervise_retired(b, false);
	waiters_backend(b->d, b, code, message);
}

/* The backend of exactly that name, and kind if one is given. */
static struct backend *param_backend_named(struct request *r)
{
	const char *name = param_text(r, "name"), *kind = param_text(r, "kind");
	struct backend *b;

	if (r->answered)
		return NULL;
	if (!name) {
		refuse(r, PV_RPC_BAD_PARAMS, "name is missing");
		return NULL;
	}
	DL_FOREACH(r->d->backends, b)
		if (strcmp(b->name, name) == 0 && (!kind || b->type == pv_type_of(kind)))
			return b;
	reply(r, NULL); /* nobody has to go */
	return NULL;
}

void do_backend_retire(struct request *r)
{
	struct backend *b = param_backend_named(r);
	int rc;

	if (!b)
		return;
	rc = pv_rpc_call(b->conn->rpc, "retire", NULL, (int)r->d->opt.backend_ms, asked, b);
	if (rc < 0)
		refuse(r, rc, "%s", backend_not_asked(b->name, rc));
	else
		supervise_retired(b, true);
	if (rc == 0)
		wait_for_backend(r, b, 2 * r->d->opt.backend_ms);
}

/* The words of a command, if one is given; NULL: none is, or it was refused. */
static char **param_command(struct request *r)
{
	const char *words[SUPERVISED_WORDS_MAX];
	struct json_object *v = NULL;
	size_t n = 0;
	char **copy;

	json_object_object_get_ex(r->params, "command", &v);
	if (!v)
		return NULL;
	if (json_object_get_type(v) == json_type_array)
		n = json_object_array_length(v);
	for (size_t i = 0; n <= SUPERVISED_WORDS_MAX && i < n; i++)
		words[i] = json_object_get_string(json_object_array_get_idx(v, i));
	if (n == 0 || n > SUPERVISED_WORDS_MAX) {
		refuse(r, PV_RPC_BAD_PARAMS, "command must be an array of 1..%d words", SUPERVISED_WORDS_MAX);
		return NULL;
	}
	copy = supervise_words(words, (unsigned)n);
	if (!copy)
		refuse(r, -ENOMEM, "out of memory");
	return copy;
}

/* What pviod has started it starts anew itself, and so watches over that one as well. */
void do_backend_replace(struct request *r)
{
	const char *name = param_text(r, "name");
	bool takeover = param_flag(r, "takeover");
	struct supervised *s = name ? supervise_find(r->d, name) : NULL;
	struct json_object *o;
	char why[WHY_LEN], **command;
	int pid;

	if (!s && !r->answered)
		refuse(r, -ENOENT, "pviod does not start a backend %s (pviod --backend)", name ? name : "without a name");
	command = r->answered ? NULL : param_command(r);
	if (r->answered)
		return;
	pid = supervise_replace(s, command, takeover, why, sizeof(why));
	if (pid < 0) {
		refuse(r, pid, "%s", why);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "pid", json_object_new_int(pid));
	reply(r, o);
}
