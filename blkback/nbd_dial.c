/* nbd_dial.c - see nbd_dial.h. */
#include "nbd_dial.h"
#include <errno.h>
#include <libnbd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <pvio/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
	TRY_MS = 5000, /* for one connection, from its start until the server has told what the disk is */
	LOOK_MS = 100, /* is it still wanted? */
	PAUSE_MIN_MS = 50, PAUSE_MAX_MS = 3200,
};

/* Owners: who started it, and its thread; the last of them to leave frees it. All below `lock` is under the lock. */
struct nbd_dial {
	char *uri;
	bool once;
	unsigned rest_ms;
	int fd; /* a timerfd: patience, and at once when there is something to take */
	pthread_mutex_t lock;
	pthread_cond_t left;
	unsigned owners;
	bool abandoned; /* by who started it */
	struct nbd_handle *h;
	int err;
	char why[200];
};

static void leave(struct nbd_dial *d, bool abandon)
{
	bool last;

	pthread_mutex_lock(&d->lock);
	last = --d->owners == 0;
	d->abandoned |= abandon;
	pthread_cond_signal(&d->left);
	pthread_mutex_unlock(&d->lock);
	if (!last)
		return;
	if (d->h)
		nbd_close(d->h);
	close(d->fd);
	pthread_cond_destroy(&d->left);
	pthread_mutex_destroy(&d->lock);
	free(d->uri);
	free(d);
}

static bool abandoned(struct nbd_dial *d)
{
	bool yes;

	pthread_mutex_lock(&d->lock);
	yes = d->abandoned;
	pthread_mutex_unlock(&d->lock);
	return yes;
}

/* A machine that vanished without a word is noticed in half a minute. Sockets that are not TCP know nothing of this, and need not. */
static void keep_alive(int fd)
{
	static const struct { int level, name, value; } options[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, 1 }, { IPPROTO_TCP, TCP_KEEPIDLE, 10 }, { IPPROTO_TCP, TCP_KEEPINTVL, 5 },
		{ IPPROTO_TCP, TCP_KEEPCNT, 4 }, { IPPROTO_TCP, TCP_USER_TIMEOUT, 30000 },
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(options[i].value));
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* One try. Returns a connection that is ready, or NULL with *err and why. */
static struct nbd_handle *try(struct nbd_dial *d, int *err, char *why, size_t len)
{
	struct nbd_handle *h = nbd_create();
	int64_t end = now_ms() + TRY_MS;
	int ret = -1;

	if (h && nbd_set_pread_initialize(h, false) == 0 && nbd_set_uri_allow_local_file(h, true) == 0)
		ret = nbd_aio_connect_uri(h, d->uri);
	while (ret >= 0 && !nbd_aio_is_ready(h) && !nbd_aio_is_dead(h) && !nbd_aio_is_closed(h) && now_ms() < end && !abandoned(d))
		ret = nbd_poll(h, LOOK_MS);
	if (ret >= 0 && nbd_aio_is_ready(h)) {
		keep_alive(nbd_aio_get_fd(h));
		return h;
	}
	if (ret < 0 && nbd_get_errno()) {
		*err = nbd_get_errno();
		snprintf(why, len, "%s", nbd_get_error());
	} else {
		*err = ETIMEDOUT;
		snprintf(why, len, "it does not answer");
	}
	nbd_close(h);
	return NULL;
}

/* For up to ms, or until it is abandoned. With the lock. */
static void rest(struct nbd_dial *d, unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += ms % 1000 * 1000000L;
	t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	while (!d->abandoned && pthread_cond_timedwait(&d->left, &d->lock, &t) == 0)
		;
}

static void *body(void *arg)
{
	struct nbd_dial *d = arg;
	unsigned pause = PAUSE_MIN_MS;
	struct nbd_handle *h = NULL;
	bool more = true;
	char why[200];
	int err = 0;

	pthread_mutex_lock(&d->lock);
	if (d->rest_ms)
		rest(d, d->rest_ms);
	pthread_mutex_unlock(&d->lock);
	while (more) {
		h = try(d, &err, why, sizeof(why));
		pthread_mutex_lock(&d->lock);
		d->h = h;
		if (!h) {
			d->err = -err;
			snprintf(d->why, sizeof(d->why), "%s", why);
		}
		if (h || d->once)
			timerfd_settime(d->fd, 0, &(struct itimerspec){ .it_value.tv_nsec = 1 }, NULL);
		else
			rest(d, pause);
		more = !h && !d->once && !d->abandoned;
		pthread_mutex_unlock(&d->lock);
		pause = pause < PAUSE_MAX_MS ? 2 * pause : PAUSE_MAX_MS;
	}
	leave(d, false);
	return NULL;
}

/* ---- the owner's side ---- */

static int start_thread(struct nbd_dial *d)
{
	pthread_attr_t attr;
	pthread_t thread;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	d->owners++;
	ret = pthread_create(&thread, &attr, body, d);
	if (ret)
		d->owners--;
	pthread_attr_destroy(&attr);
	return -ret;
}

int nbd_dial_start(const char *uri, bool once, unsigned rest_ms, unsigned patience_ms, struct nbd_dial **out)
{
	struct itimerspec patience = { .it_value = { patience_ms / 1000, patience_ms % 1000 * 1000000L + 1 } }; /* 0 would be never */
	struct nbd_dial *d = calloc(1, sizeof(*d));
	pthread_condattr_t monotonic;
	int ret = -ENOMEM;

	*out = NULL;
	if (!d)
		return ret;
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&d->left, &monotonic);
	pthread_condattr_destroy(&monotonic);
	d->once = once;
	d->rest_ms = rest_ms;
	d->owners = 1;
	d->uri = strdup(uri);
	d->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (d->uri)
		ret = d->fd < 0 || timerfd_settime(d->fd, 0, &patience, NULL) < 0 ? -errno : start_thread(d);
	if (ret < 0)
		leave(d, true);
	else
		*out = d;
	return ret;
}

int nbd_dial_fd(const struct nbd_dial *d)
{
	return d->fd;
}

struct nbd_handle *nbd_dial_take(struct nbd_dial *d, int *err, char *why, size_t len)
{
	struct nbd_handle *h;
	uint64_t times;
	ssize_t n;

	pthread_mutex_lock(&d->lock);
	n = read(d->fd, &times, sizeof(times));
	(void)n;
	h = d->h;
	d->h = NULL;
	*err = d->err;
	snprintf(why, len, "%s", d->err ? d->why : "it does not answer");
	pthread_mutex_unlock(&d->lock);
	return h;
}

void nbd_dial_end(struct nbd_dial *d)
{
	if (d)
		leave(d, true);
}
