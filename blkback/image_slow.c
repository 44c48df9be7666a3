/* image_slow.c - images whose opening and closing wait for somebody, a server or a cluster: done on a thread for each, so that the control
 * thread, and with it every other device, does not wait along.
 *
 *	OPENING --> OPENED --taken--> TAKEN --image_close--> CLOSING --> (gone)
 *	               '--nobody asks for it any more-----------^
 *
 * Who asks first waits for a while, so that what is well opens in one call; after that the answer is -EAGAIN until it is open, and whoever
 * asks again gets it. While one is late nobody waits long for the next either: of a cluster that is away there may be many images. */
#include "image.h"
#include <errno.h>
#include <pthread.h>
#include <pvio/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

enum {
	OPEN_MS = 4000, /* somewhat more than the kinds themselves wait for a server, so that their words arrive */
	SHORT_MS = 100, /* in an adoption, which asks again at once, and while others are late */
	CLOSE_MS = 1000,
	KEEP_MS = 3000, /* what was opened, or why not, is kept for who asks again */
};

/* Owner: the thread that opens or closes it; TAKEN: the image. All is under the lock, but for what a thread works on. */
struct visit {
	LIST_ENTRY(visit) link;
	const struct image_ops *ops;
	struct image_config c; /* its texts are the visit's */
	enum { OPENING, OPENED, TAKEN, CLOSING } state;
	bool late; /* who waited for it did so in vain */
	pthread_t thread; /* that opens */
	struct image *im; /* NULL: it could not be opened */
	int ret;
	char why[300];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER; /* some visit's state */
static LIST_HEAD(, visit) visits = LIST_HEAD_INITIALIZER(visits);

/* ---- with the lock ---- */

static struct timespec in_ms(unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += ms % 1000 * 1000000L;
	t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

static bool wait_until(const struct timespec *t)
{
	return pthread_cond_clockwait(&changed, &lock, CLOCK_MONOTONIC, t) == 0;
}

static void forget(struct visit *v)
{
	LIST_REMOVE(v, link);
	pthread_cond_broadcast(&changed);
	free((char *)v->c.path);
	free((char *)v->c.predecessor);
	free(v);
}

static bool closing(const char *path)
{
	struct visit *v;

	LIST_FOREACH(v, &visits, link)
		if (v->state == CLOSING && !strcmp(v->c.path, path))
			return true;
	return false;
}

static bool anybody_late(int state)
{
	struct visit *v;

	LIST_FOREACH(v, &visits, link)
		if (v->late && (int)v->state == state)
			return true;
	return false;
}

static struct visit *find(const struct image_ops *ops, const struct image_config *c)
{
	struct visit *v;

	LIST_FOREACH(v, &visits, link)
		if ((v->state == OPENING || v->state == OPENED) && v->ops == ops && !strcmp(v->c.path, c->path) && v->c.read_only == c->read_only &&
		    v->c.direct == c->direct && v->c.discard == c->discard && v->c.wait == c->wait && v->c.sector_size == c->sector_size)
			return v;
	return NULL;
}

/* ---- the threads ---- */

static void *close_body(void *arg)
{
	struct visit *v = arg;

	pthread_detach(pthread_self());
	v->ops->close(v->im);
	pthread_mutex_lock(&lock);
	forget(v);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void *open_body(void *arg)
{
	struct visit *v = arg;
	struct timespec end;
	bool taken;

	pthread_mutex_lock(&lock);
	while (closing(v->c.path)) /* it cannot be had before */
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	v->ret = v->ops->open(&v->c, &v->im, v->why, sizeof(v->why));
	pthread_mutex_lock(&lock);
	v->state = OPENED;
	v->late = false;
	pthread_cond_broadcast(&changed);
	end = in_ms(KEEP_MS);
	while (v->state == OPENED && wait_until(&end))
		;
	taken = v->state == TAKEN;
	if (!taken)
		v->state = CLOSING;
	pthread_mutex_unlock(&lock);
	if (taken)
		return NULL; /* who took it joins us */
	if (v->im)
		return close_body(v);
	pthread_detach(pthread_self());
	pthread_mutex_lock(&lock);
	forget(v);
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* ---- the control thread's side ---- */

static struct visit *begin(const struct image_ops *ops, const struct image_config *c)
{
	struct visit *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->ops = ops;
	v->c = *c;
	v->c.path = strdup(c->path);
	v->c.predecessor = c->predecessor ? strdup(c->predecessor) : NULL;
	LIST_INSERT_HEAD(&visits, v, link);
	if (v->c.path && !v->c.predecessor == !c->predecessor && pthread_create(&v->thread, NULL, open_body, v) == 0)
		return v;
	forget(v);
	return NULL;
}

/* What it came to is the caller's. With the lock, which is let go of. */
static int take(struct visit *v, struct image **out, char *why, size_t len)
{
	int ret = v->ret;

	v->state = TAKEN;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	pthread_join(v->thread, NULL);
	*out = v->im;
	if (ret >= 0)
		return ret;
	snprintf(why, len, "%s", v->why);
	pthread_mutex_lock(&lock);
	forget(v);
	pthread_mutex_unlock(&lock);
	return ret;
}

int image_slow_open(const struct image_ops *ops, const struct image_config *c, struct image **out, char *why, size_t len)
{
	struct timespec end;
	struct visit *v;
	unsigned ms = 0;

	*out = NULL;
	pthread_mutex_lock(&lock);
	v = find(ops, c);
	if (!v) {
		ms = c->predecessor || anybody_late(OPENING) ? SHORT_MS : OPEN_MS;
		v = begin(ops, c);
	}
	end = in_ms(ms);
	while (v && v->state == OPENING && wait_until(&end))
		;
	if (v && v->state == OPENED)
		return take(v, out, why, len);
	if (v)
		v->late = true;
	pthread_mutex_unlock(&lock);
	if (!v)
		return pv_why(why, len, -ENOMEM, "%s image %s: out of memory", ops->name, c->path);
	return pv_why(why, len, -EAGAIN, "%s image %s is not open yet: who keeps it has not answered. It is waited for; ask again soon", ops->name,
		      c->path);
}

void image_slow_close(struct image *im)
{
	struct timespec end;
	pthread_t thread;
	struct visit *v, *at;

	pthread_mutex_lock(&lock);
	LIST_FOREACH(v, &visits, link)
		if (v->state == TAKEN && v->im == im)
			break;
	end = in_ms(anybody_late(CLOSING) ? 0 : CLOSE_MS);
	v->state = CLOSING;
	if (pthread_create(&thread, NULL, close_body, v) != 0) {
		im->ops->close(im);
		forget(v);
	}
	do {
		LIST_FOREACH(at, &visits, link)
			if (at == v)
				break;
	} while (at && wait_until(&end));
	if (at)
		at->late = true;
	pthread_mutex_unlock(&lock);
}

bool image_slow_busy(void)
{
	struct visit *v;
	bool yes = false;

	pthread_mutex_lock(&lock);
	LIST_FOREACH(v, &visits, link)
		yes |= v->state != TAKEN;
	pthread_mutex_unlock(&lock);
	return yes;
}
