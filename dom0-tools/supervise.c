/* supervise.c - backends that pviod starts, and starts again when they end.
 *
 * Theory of operation. Each has one process that serves, and for the time of a handover the next, which becomes the one when it
 * registers, or when that ends; so a successor is supervised from its first moment on. When there is neither another is started: at once
 * the first time, then after a while that doubles, and what has run for a while begins anew with that. A process that somebody else
 * started may serve under the name: nothing is started beside it, but when it goes. Which process is ours, its pid tells. At pviod's end
 * they end last, for it is they who let go of the guests.
 */
#include "pviod.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wordexp.h>

enum {
	DELAY_MIN = 100, DELAY_MAX = 10000, /* ms */
	CALM_MS = 10000, /* one that ran for so long is started again at once */
	HEIR_MS = 10000, /* for one that somebody else starts to register, when it had ours end */
};

/* A process. Owner: its backend; freed when its handle is closed. */
struct run {
	uv_process_t process;
	struct supervised *of;
	char **words; /* another command than the backend's: that as well when it registers; NULL: the same */
	struct run *prev_run, *next_run;
};

/* Owner: pviod's list, from supervise_open to supervise_close. */
struct supervised {
	struct pviod *d;
	char name[NAME_LEN];
	enum pv_noxs_type type; /* PV_NOXS_NONE until one has registered */
	char **words; /* its command */
	struct run *runs; /* all of its processes: these two, and those whose end is all that is waited for */
	struct run *now, *next; /* the one, and the one that takes over from it; NULL: none */
	int last; /* pid of the last one that ended */
	bool yields; /* somebody else takes over from it */
	uint64_t since; /* ms: when `now` was started */
	unsigned failures; /* one after the other */
	uint64_t restarts;
	uv_timer_t timer; /* until it is started again */
	struct supervised *prev_of, *next_of;
};

unsigned supervise_delay(unsigned failures)
{
	if (failures == 0)
		return 0;
	return failures > 7 ? DELAY_MAX : DELAY_MIN << (failures - 1);
}

static int pid_of(const struct run *r)
{
	return r ? uv_process_get_pid(&r->process) : 0;
}

/* ---- commands ---- */

void supervise_words_free(char **words)
{
	for (char **w = words; w && *w; w++)
		free(*w);
	free(words);
}

char **supervise_words(const char *const *words, unsigned n)
{
	char **copy = calloc(n + 1, sizeof(*copy));

	for (unsigned i = 0; copy && i < n; i++) {
		copy[i] = strdup(words[i]);
		if (copy[i])
			continue;
		supervise_words_free(copy);
		return NULL;
	}
	return copy;
}

int supervise_split(const char *line, char ***words, char *why, size_t len)
{
	static const char *const whys[] = {
		[WRDE_BADCHAR] = "quote | & ; < > ( ) { }: it is not run by a shell", [WRDE_CMDSUB] = "it is not run by a shell, which $( ) needs",
		[WRDE_NOSPACE] = "out of memory", [WRDE_SYNTAX] = "a quote is not closed",
	};
	wordexp_t w = { 0 };
	int rc = wordexp(line, &w, WRDE_NOCMD);

	*words = rc == 0 && w.we_wordc > 0 ? supervise_words((const char *const *)w.we_wordv, (unsigned)w.we_wordc) : NULL;
	if (rc == 0 || rc == WRDE_NOSPACE)
		wordfree(&w);
	if (*words)
		return 0;
	snprintf(why, len, "--backend '%s': %s", line, rc ? whys[rc] : w.we_wordc ? "out of memory" : "a command is missing");
	return -EINVAL;
}

/* What the process will call itself at pviod. */
static void name_of(char *const *words, char name[NAME_LEN])
{
	const char *slash = strrchr(words[0], '/'), *found = slash ? slash + 1 : words[0];

	if (strncmp(found, "pvio-", 5) == 0)
		found += 5;
	for (char *const *w = words + 1; *w; w++) {
		if (strncmp(*w, "--name=", 7) == 0)
			found = *w + 7;
		else if (strcmp(*w, "--name") == 0 && w[1])
			found = w[1];
	}
	snprintf(name, NAME_LEN, "%s", found);
}

/* ---- whose process is it ---- */

struct supervised *supervise_find(struct pviod *d, const char *name)
{
	struct supervised *s;

	DL_FOREACH2(d->supervised, s, next_of)
		if (strcmp(s->name, name) == 0)
			return s;
	return NULL;
}

/* Could b be one of s? */
static bool is_called(const struct supervised *s, const struct backend *b)
{
	return strcmp(s->name, b->name) == 0 && (s->type == PV_NOXS_NONE || s->type == b->type);
}

static bool is_own(const struct supervised *s, const struct backend *b)
{
	return b->pid && (b->pid == pid_of(s->now) || b->pid == pid_of(s->next));
}

/* Does somebody else's process serve in its place? Our last one may still be registered for a moment. */
static bool is_stand_in(const struct supervised *s, const struct backend *b)
{
	return is_called(s, b) && !is_own(s, b) && b->pid != s->last;
}

static struct backend *stand_in(const struct supervised *s)
{
	struct backend *b;

	DL_FOREACH(s->d->backends, b)
		if (is_stand_in(s, b))
			return b;
	return NULL;
}

/* The one that b is a process of. */
static struct supervised *supervised_of(const struct backend *b)
{
	struct supervised *s = supervise_find(b->d, b->name);

	return s && is_own(s, b) ? s : NULL;
}

/* ---- processes ---- */

static void run_closed(uv_handle_t *h)
{
	struct run *r = h->data;

	supervise_words_free(r->words);
	free(r);
}

static void ended(uv_process_t *p, int64_t status, int sig);

/* Returns NULL after a message. Takes over words (NULL: those of before). */
static struct run *spawn(struct supervised *s, char **words, bool takeover)
{
	char **argv = words ? words : s->words, *all[SUPERVISED_WORDS_MAX + 2];
	uv_stdio_container_t io[3] = { { .flags = UV_IGNORE }, { .flags = UV_INHERIT_FD, .data.fd = 2 }, { .flags = UV_INHERIT_FD, .data.fd = 2 } };
	uv_process_options_t o = { .exit_cb = ended, .file = argv[0], .args = all, .stdio = io, .stdio_count = 3, .flags = UV_PROCESS_DETACHED };
	struct run *r = calloc(1, sizeof(*r));
	unsigned n = 0;
	int rc = r ? 0 : -ENOMEM;

	for (; argv[n] && n < SUPERVISED_WORDS_MAX; n++)
		all[n] = argv[n];
	if (takeover)
		all[n++] = (char *)"--takeover";
	all[n] = NULL;
	if (r) {
		*r = (struct run){ .of = s, .words = words };
		rc = uv_spawn(&s->d->loop, &r->process, &o); /* detached: Ctrl-C is for pviod, which ends it in order */
		r->process.data = r;
	}
	if (rc == 0) {
		DL_APPEND2(s->runs, r, prev_run, next_run);
		return r;
	}
	pv_log(PV_LOG_ERR, "backend %s: cannot run %s: %s", s->name, argv[0], strerror(-rc));
	if (r)
		uv_close((uv_handle_t *)&r->process, run_closed);
	else
		supervise_words_free(words);
	return NULL;
}

static void start(uv_timer_t *t);

static unsigned start_later(struct supervised *s)
{
	unsigned ms = s->yields ? HEIR_MS : supervise_delay(s->failures++);

	s->yields = false;
	uv_timer_start(&s->timer, start, ms, 0);
	return ms;
}

static void start(uv_timer_t *t)
{
	struct supervised *s = t->data;
	struct backend *other = stand_in(s);

	if (other) {
		pv_log(PV_LOG_INFO, "backend %s: pid %d, which pviod did not start, serves; when it ends, pviod starts its own", s->name, other->pid);
		return; /* supervise_lost goes on */
	}
	s->now = spawn(s, NULL, false);
	s->since = pviod_now(s->d);
	if (s->now)
		pv_log(PV_LOG_INFO, "backend %s: started as pid %d", s->name, pid_of(s->now));
	else
		pv_log(PV_LOG_WARN, "backend %s: tried again in %u ms; see pviod's --backend", s->name, start_later(s));
}

/* "exit status 2", "SIGKILL (Killed)" */
static const char *how(int64_t status, int sig, char *buf, size_t len)
{
	if (sig)
		snprintf(buf, len, "SIG%s (%s)", sigabbrev_np(sig) ? sigabbrev_np(sig) : "?", strsignal(sig));
	else
		snprintf(buf, len, "exit status %d", (int)status);
	return buf;
}

/* The next one serves, or will soon. */
static void promote(struct supervised *s)
{
	pv_log(PV_LOG_INFO, "backend %s: pid %d in place of pid %d", s->name, pid_of(s->next), s->now ? pid_of(s->now) : s->last);
	s->now = s->next;
	s->next = NULL;
	s->since = pviod_now(s->d);
}

static void ended(uv_process_t *p, int64_t status, int sig)
{
	struct run *r = p->data;
	struct supervised *s = r->of;
	bool was_now = r == s->now, was_next = r == s->next;
	char words[80];
	unsigned ms;

	s->last = pid_of(r);
	DL_DELETE2(s->runs, r, prev_run, next_run);
	uv_close((uv_handle_t *)p, run_closed);
	how(status, sig, words, sizeof(words));
	if (was_next) {
		s->next = NULL;
		pv_log(PV_LOG_WARN, "backend %s: pid %d, which was to take over, ended: %s; all is as before", s->name, s->last, words);
	}
	if (!was_now)
		return;
	s->now = NULL;
	if (s->next)
		promote(s);
	if (s->now || s->d->ending)
		return;
	if (pviod_now(s->d) - s->since >= CALM_MS)
		s->failures = 0;
	s->restarts++;
	ms = start_later(s);
	pv_log(PV_LOG_WARN, "backend %s (pid %d) ended: %s; restart %llu in %u ms", s->name, s->last, words, (unsigned long long)s->restarts, ms);
}

/* ---- what becomes of its backends ---- */

void supervise_registered(const struct backend *b)
{
	struct supervised *s = supervised_of(b);
	struct run *r = s ? b->pid == pid_of(s->now) ? s->now : s->next : NULL;

	if (!r)
		return;
	s->type = b->type;
	if (r == s->next)
		promote(s);
	if (!r->words)
		return;
	supervise_words_free(s->words);
	s->words = r->words;
	r->words = NULL;
}

void supervise_lost(const struct backend *b)
{
	struct supervised *s = supervise_find(b->d, b->name);

	if (s && is_stand_in(s, b) && !s->now && !b->d->ending)
		uv_timer_start(&s->timer, start, 0, 0);
}

void supervise_retired(const struct backend *b, bool yields)
{
	struct supervised *s = supervised_of(b);

	if (s && !s->next)
		s->yields = yields;
}

int supervise_replace(struct supervised *s, char **words, bool takeover, char *why, size_t len)
{
	struct backend *other = stand_in(s);
	int old = s->now ? pid_of(s->now) : other ? other->pid : 0;
	struct run *r;

	if (s->next) {
		snprintf(why, len, "pid %d is taking over backend %s already; wait until it has", pid_of(s->next), s->name);
		supervise_words_free(words);
		return -EBUSY;
	}
	if (old && !takeover)
		kill(old, SIGKILL);
	r = spawn(s, words, takeover && old);
	if (!r) {
		snprintf(why, len, "backend %s cannot be started; pviod's log says why", s->name);
		return -ENOENT;
	}
	s->next = r;
	s->failures = 0;
	uv_timer_stop(&s->timer);
	if (!s->now)
		promote(s);
	return uv_process_get_pid(&r->process);
}

static void report(const struct supervised *s, struct json_object *o)
{
	bool waits = s && uv_is_active((const uv_handle_t *)&s->timer);

	json_object_object_add(o, "supervised", json_object_new_boolean(s != NULL));
	json_object_object_add(o, "restarts", s ? json_object_new_int64((int64_t)s->restarts) : NULL);
	json_object_object_add(o, "next_start_ms", waits ? json_object_new_int64((int64_t)uv_timer_get_due_in(&s->timer)) : NULL);
}

void supervise_report(const struct backend *b, struct json_object *row)
{
	report(supervised_of(b), row);
}

void supervise_report_absent(struct pviod *d, struct json_object *rows)
{
	struct supervised *s;
	struct backend *b;

	DL_FOREACH2(d->supervised, s, next_of) {
		struct json_object *o;

		DL_FOREACH(d->backends, b)
			if (is_called(s, b))
				break;
		if (b)
			continue;
		o = json_object_new_object();
		json_object_object_add(o, "name", json_object_new_string(s->name));
		json_object_object_add(o, "type", s->type ? json_object_new_string(pv_type_name(s->type)) : NULL);
		json_object_object_add(o, "pid", s->now ? json_object_new_int(pid_of(s->now)) : NULL);
		json_object_object_add(o, "registered", json_object_new_boolean(false));
		report(s, o);
		json_object_array_add(rows, o);
	}
}

/* ---- begin and end ---- */

static int add(struct pviod *d, const char *line, char *why, size_t len)
{
	struct supervised *s = calloc(1, sizeof(*s));
	int rc = s ? supervise_split(line, &s->words, why, len) : -ENOMEM;

	if (rc == 0)
		name_of(s->words, s->name);
	if (rc == 0 && supervise_find(d, s->name)) {
		snprintf(why, len, "--backend '%s': there is another one of the name %s; give each its --name", line, s->name);
		rc = -EEXIST;
	}
	if (rc < 0) {
		if (s)
			supervise_words_free(s->words);
		free(s);
		return rc;
	}
	s->d = d;
	uv_timer_init(&d->loop, &s->timer);
	s->timer.data = s;
	uv_timer_start(&s->timer, start, 0, 0);
	DL_APPEND2(d->supervised, s, prev_of, next_of);
	return 0;
}

int supervise_open(struct pviod *d, char *why, size_t len)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < d->opt.nbackends; i++)
		rc = add(d, d->opt.backends[i], why, len);
	return rc;
}

/* Returns how many there are. */
static unsigned signal_all(struct pviod *d, int sig)
{
	struct supervised *s;
	struct run *r;
	unsigned n = 0;

	DL_FOREACH2(d->supervised, s, next_of) {
		uv_timer_stop(&s->timer);
		DL_FOREACH2(s->runs, r, next_run) {
			n++;
			if (sig == SIGKILL)
				pv_log(PV_LOG_WARN, "backend %s (pid %d) does not end: killed", s->name, pid_of(r));
			if (sig)
				uv_process_kill(&r->process, sig);
		}
	}
	return n;
}

bool supervise_end(struct pviod *d)
{
	static const int steps[] = { SIGTERM, SIGKILL };

	if (signal_all(d, 0) == 0)
		return true;
	if (d->end_step && pviod_now(d) < d->end_by)
		return false;
	if (d->end_step == sizeof(steps) / sizeof(steps[0]))
		return true; /* not even by SIGKILL: it hangs in the kernel */
	d->end_by = pviod_now(d) + d->opt.backend_ms;
	signal_all(d, steps[d->end_step++]);
	return false;
}

void supervise_close(struct pviod *d)
{
	struct supervised *s;
	struct run *r, *next;

	DL_FOREACH2(d->supervised, s, next_of) {
		DL_FOREACH_SAFE2(s->runs, r, next, next_run) {
			uv_process_kill(&r->process, SIGKILL); /* the hypervisor is gone, and with it all that it served */
			uv_close((uv_handle_t *)&r->process, run_closed);
		}
		s->runs = s->now = s->next = NULL;
		uv_close((uv_handle_t *)&s->timer, NULL);
	}
}

void supervise_free(struct pviod *d)
{
	struct supervised *s;

	while ((s = d->supervised)) {
		DL_DELETE2(d->supervised, s, prev_of, next_of);
		supervise_words_free(s->words);
		free(s);
	}
}
