/* xs_client.h - for tests: the guest's end of XenStore, as a kernel has it: xs_wire's messages in the ring of the store page.
 *
 * On a loopback guest (xs_open), or on any page with somebody behind it who is asked by `turn`. A call waits for its answer;
 * events that come meanwhile are kept for xs_event. Results are those of the wire: a length or 0, or -errno.
 */
#ifndef XS_CLIENT_H
#define XS_CLIENT_H

#include <errno.h>
#include <poll.h>
#include <pvio/hub.h>
#include <pvio/hyper.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include <xen/io/xs_wire.h>

enum { XS_MS = 20000 /* an answer that takes longer is missing */, XS_EVENTS = 4096 };

struct xs {
	struct xenstore_domain_interface *ring;
	struct pv_hyper *h; /* its own; NULL: not on a hypervisor */
	uint32_t port;
	void (*turn)(void *ctx); /* called while waiting; NULL: nothing */
	void *ctx;
	uint32_t req_id;
	char head[sizeof(struct xsd_sockmsg)], body[XENSTORE_PAYLOAD_MAX + 1]; /* of the message that comes, ... */
	uint32_t have; /* ... so far */
	char *events[XS_EVENTS]; /* "path\0token\0" */
	unsigned nevents;
};

/* ---- bytes ---- */

static uint32_t xs_load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void xs_notify(struct xs *x)
{
	if (x->h)
		assert_int_equal(pv_evt_notify(x->h, x->port), 0);
}

/* Put as much as there is room for. Returns how much. */
static __attribute__((unused)) uint32_t xs_put(struct xs *x, const void *bytes, uint32_t n)
{
	uint32_t prod = x->ring->req_prod, room = XENSTORE_RING_SIZE - (prod - xs_load(&x->ring->req_cons));

	n = n < room ? n : room;
	for (uint32_t i = 0; i < n; i++)
		x->ring->req[MASK_XENSTORE_IDX(prod + i)] = ((const char *)bytes)[i];
	__atomic_store_n(&x->ring->req_prod, prod + n, __ATOMIC_RELEASE);
	return n;
}

static uint32_t xs_get(struct xs *x, char *bytes, uint32_t n)
{
	uint32_t cons = x->ring->rsp_cons, ready = xs_load(&x->ring->rsp_prod) - cons;

	assert_true(ready <= XENSTORE_RING_SIZE);
	n = n < ready ? n : ready;
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = x->ring->rsp[MASK_XENSTORE_IDX(cons + i)];
	__atomic_store_n(&x->ring->rsp_cons, cons + n, __ATOMIC_RELEASE);
	if (n)
		xs_notify(x);
	return n;
}

/* ---- messages ---- */

/* Take what has come. True: a message is complete, in head and body; it ends at the next call. */
static bool xs_take(struct xs *x, struct xsd_sockmsg *head)
{
	uint32_t n = sizeof(*head);

	if (x->have < n)
		x->have += xs_get(x, x->head + x->have, n - x->have);
	if (x->have < n)
		return false;
	memcpy(head, x->head, n);
	assert_true(head->len <= XENSTORE_PAYLOAD_MAX);
	x->have += xs_get(x, x->body + x->have - n, head->len + n - x->have);
	if (x->have < n + head->len)
		return false;
	x->body[head->len] = '\0';
	x->have = 0;
	return true;
}

static void xs_keep_event(struct xs *x, uint32_t len)
{
	assert_true(x->nevents < XS_EVENTS);
	x->events[x->nevents] = malloc(len + 1);
	assert_non_null(x->events[x->nevents]);
	memcpy(x->events[x->nevents++], x->body, len + 1);
}

static void xs_wait(struct xs *x)
{
	if (x->turn)
		x->turn(x->ctx);
	if (x->h) {
		struct pollfd p = { .fd = pv_evt_fd(x->h), .events = POLLIN };
		uint32_t port;

		poll(&p, 1, 1);
		while (pv_evt_pending(x->h, &port, 1) > 0)
			pv_evt_unmask(x->h, &port, 1);
	}
}

static uint64_t xs_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ull + t.tv_nsec / 1000000;
}

/* Take messages until one is no event: true, in head and x->body. False: none is there yet. */
static bool xs_answered(struct xs *x, struct xsd_sockmsg *head)
{
	while (xs_take(x, head)) {
		if (head->type != XS_WATCH_EVENT)
			return true;
		assert_int_equal(head->req_id, 0);
		xs_keep_event(x, head->len);
	}
	return false;
}

static int xs_errno(const char *name)
{
	for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(*xsd_errors); i++)
		if (strcmp(name, xsd_errors[i].errstring) == 0)
			return -xsd_errors[i].errnum;
	fail_msg("an error that XenStore has not: %s", name);
	return 0;
}

/* Send a request of any form, and wait for its answer, in x->body. Returns its length or -errno. */
static __attribute__((unused)) int xs_call(struct xs *x, uint32_t type, uint32_t tx, const void *payload, uint32_t len)
{
	struct xsd_sockmsg head = { .type = type, .req_id = ++x->req_id, .tx_id = tx, .len = len };
	uint64_t end = xs_now() + XS_MS;
	uint32_t sent = 0;
	char *all = malloc(sizeof(head) + len);

	assert_non_null(all);
	memcpy(all, &head, sizeof(head));
	memcpy(all + sizeof(head), payload, len);
	for (;;) {
		uint32_t n = xs_put(x, all + sent, sizeof(head) + len - sent);

		sent += n;
		if (n)
			xs_notify(x);
		if (xs_answered(x, &head))
			break;
		if (xs_now() > end)
			fail_msg("no answer to request %u of type %u (error %u)", x->req_id, type, x->ring->error);
		if (!n)
			xs_wait(x);
	}
	free(all);
	assert_int_equal(head.req_id, x->req_id);
	assert_int_equal(head.tx_id, tx);
	if (head.type == XS_ERROR)
		return xs_errno(x->body);
	assert_int_equal(head.type, type);
	return head.len;
}

/* A request of strings, each sent with its 0. */
static int xs_strings(struct xs *x, uint32_t type, uint32_t tx, const char *a, const char *b)
{
	size_t na = strlen(a) + 1, nb = b ? strlen(b) + 1 : 0;
	char buf[2 * XENSTORE_PAYLOAD_MAX];

	assert_true(na + nb <= sizeof(buf));
	memcpy(buf, a, na);
	memcpy(buf + na, b ? b : "", nb);
	return xs_call(x, type, tx, buf, na + nb);
}

/* ---- requests ---- */

static __attribute__((unused)) int xs_read(struct xs *x, uint32_t tx, const char *path, char *value, size_t size)
{
	int n = xs_strings(x, XS_READ, tx, path, NULL);

	if (n >= 0) {
		assert_true((size_t)n < size);
		memcpy(value, x->body, n + 1);
	}
	return n;
}

static __attribute__((unused)) int xs_write_bytes(struct xs *x, uint32_t tx, const char *path, const void *value, size_t len)
{
	size_t n = strlen(path) + 1;
	char buf[2 * XENSTORE_PAYLOAD_MAX];

	assert_true(n + len <= sizeof(buf));
	memcpy(buf, path, n);
	memcpy(buf + n, value, len);
	n = xs_call(x, XS_WRITE, tx, buf, n + len);
	return (int)n > 0 ? 0 : (int)n;
}

static __attribute__((unused, format(printf, 4, 5))) int xs_printf(struct xs *x, uint32_t tx, const char *path, const char *fmt, ...)
{
	char value[XENSTORE_PAYLOAD_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	return xs_write_bytes(x, tx, path, value, n);
}

static int xs_ok(int n)
{
	return n > 0 ? 0 : n;
}

static __attribute__((unused)) int xs_mkdir(struct xs *x, uint32_t tx, const char *path)
{
	return xs_ok(xs_strings(x, XS_MKDIR, tx, path, NULL));
}

static __attribute__((unused)) int xs_rm(struct xs *x, uint32_t tx, const char *path)
{
	return xs_ok(xs_strings(x, XS_RM, tx, path, NULL));
}

/* The names of the children, each with its 0, in x->body. Returns their bytes or -errno. */
static __attribute__((unused)) int xs_list(struct xs *x, uint32_t tx, const char *path)
{
	return xs_strings(x, XS_DIRECTORY, tx, path, NULL);
}

static __attribute__((unused)) int xs_watch(struct xs *x, const char *path, const char *token)
{
	return xs_ok(xs_strings(x, XS_WATCH, 0, path, token));
}

static __attribute__((unused)) int xs_unwatch(struct xs *x, const char *path, const char *token)
{
	return xs_ok(xs_strings(x, XS_UNWATCH, 0, path, token));
}

/* Returns the number of the transaction, or fails the test. */
static __attribute__((unused)) uint32_t xs_begin(struct xs *x)
{
	int n = xs_call(x, XS_TRANSACTION_START, 0, "", 1);

	if (n < 0)
		fail_msg("no transaction: %s", strerror(-n));
	return strtoul(x->body, NULL, 10);
}

static __attribute__((unused)) int xs_end(struct xs *x, uint32_t tx, bool commit)
{
	return xs_ok(xs_strings(x, XS_TRANSACTION_END, tx, commit ? "T" : "F", NULL));
}

/* The next event: its path, and *token; NULL: none has come. Valid until the next call. */
static __attribute__((unused)) const char *xs_event(struct xs *x, const char **token)
{
	static char event[XENSTORE_PAYLOAD_MAX + 1];
	struct xsd_sockmsg head;
	char *e;

	if (!x->nevents) {
		xs_wait(x);
		if (xs_answered(x, &head))
			fail_msg("an answer to no request, of type %u", head.type);
	}
	if (!x->nevents)
		return NULL;
	e = x->events[0];
	memmove(x->events, x->events + 1, --x->nevents * sizeof(*x->events));
	*token = stpcpy(event, e) + 1;
	strcpy(event + strlen(e) + 1, e + strlen(e) + 1);
	free(e);
	return event;
}

/* ---- begin and end ---- */

/* As a kernel that boots: with whatever indices the page has. h is this client's alone, and it closes it. */
static __attribute__((unused)) void xs_open(struct xs *x, struct pv_hyper *h)
{
	void *page;

	memset(x, 0, sizeof(*x));
	if (pv_hub_store(h, &page, &x->port) < 0)
		fail_msg("%s", pv_hyper_error(h));
	x->h = h;
	x->ring = page;
}

static __attribute__((unused)) void xs_close(struct xs *x)
{
	while (x->nevents)
		free(x->events[--x->nevents]);
	pv_hyper_close(x->h);
	x->h = NULL;
}

/* Ask for a new connection, and wait for it: nothing of the old one is left. */
static __attribute__((unused)) void xs_reconnect(struct xs *x)
{
	uint64_t end = xs_now() + XS_MS;

	__atomic_store_n(&x->ring->connection, XENSTORE_RECONNECT, __ATOMIC_RELEASE);
	xs_notify(x);
	while (xs_load(&x->ring->connection) != XENSTORE_CONNECTED) {
		if (xs_now() > end)
			fail_msg("not connected again");
		xs_wait(x);
	}
	while (x->nevents)
		free(x->events[--x->nevents]);
	x->have = 0;
}

#endif
