/* test_rpc.c - JSON-RPC: calls both ways, every bound, garbage, callbacks that free, sockets, pv_rpc_ask. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pvio/rpc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { LONG_MS = 60000 }; /* never passes in a test */

/* ---- an end under test, and its peer: another rpc, or a raw socket ---- */

enum habit { ECHO, KEEP, FREE, REFUSE, FLOOD }; /* what an end does with a call */

struct end {
	struct pv_rpc *rpc;
	enum habit habit;
	int calls, closed, closed_err;
	uint64_t id; /* of the last call */
	char method[64];
	char params[256];
	bool free_on_close;
};

struct outcome {
	int times, code;
	char message[600];
	char result[256];
	struct end *frees; /* this end, when it comes */
	struct end *calls; /* this end again, when it comes */
};

static void text_of(struct json_object *o, char *to, size_t len)
{
	snprintf(to, len, "%s", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
}

static void end_call(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	struct end *e = ctx;

	e->calls++;
	e->id = id;
	snprintf(e->method, sizeof(e->method), "%s", method);
	text_of(params, e->params, sizeof(e->params));
	if (e->habit == ECHO)
		pv_rpc_reply(rpc, id, json_object_get(params));
	if (e->habit == REFUSE)
		pv_rpc_fail(rpc, id, -ENOSPC, "no room for %s", method);
	if (e->habit == FREE) {
		pv_rpc_free(rpc);
		e->rpc = NULL;
	}
	if (e->habit == FLOOD) {
		char *big = calloc(1, 900000);

		memset(big, 'x', 899999);
		pv_rpc_reply(rpc, id, json_object_new_string(big));
		free(big);
	}
}

static void end_closed(void *ctx, struct pv_rpc *rpc, int err)
{
	struct end *e = ctx;

	assert_ptr_equal(e->rpc, rpc);
	e->closed++;
	e->closed_err = err;
	if (e->free_on_close) {
		pv_rpc_free(rpc);
		e->rpc = NULL;
	}
}

static const struct pv_rpc_ops end_ops = { .call = end_call, .closed = end_closed };

static void end_done(void *arg, int code, const char *message, struct json_object *result)
{
	struct outcome *o = arg;

	o->times++;
	o->code = code;
	snprintf(o->message, sizeof(o->message), "%s", message);
	text_of(result, o->result, sizeof(o->result));
	if (o->frees) {
		pv_rpc_free(o->frees->rpc);
		o->frees->rpc = NULL;
	}
	if (o->calls) /* due at once: must not be expired by the same pv_rpc_expire, which would never end */
		assert_int_equal(pv_rpc_call(o->calls->rpc, "again", NULL, 0, end_done, o), 0);
}

static void end_open(struct end *e, int fd)
{
	*e = (struct end){ .habit = ECHO };
	assert_int_equal(pv_rpc_new(fd, &end_ops, e, &e->rpc), 0);
	assert_int_equal(pv_rpc_fd(e->rpc), fd);
}

static void pair_open(struct end *a, struct end *b)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
	end_open(a, fd[0]);
	end_open(b, fd[1]);
}

static void pair_close(struct end *a, struct end *b)
{
	pv_rpc_free(a->rpc);
	pv_rpc_free(b->rpc);
}

/* Let both work until neither has anything to do. */
static void run(struct end *a, struct end *b)
{
	for (;;) {
		struct pollfd p[2] = { { .fd = -1 }, { .fd = -1 } };

		if (a->rpc && !a->closed)
			p[0] = (struct pollfd){ pv_rpc_fd(a->rpc), pv_rpc_events(a->rpc), 0 };
		if (b->rpc && !b->closed)
			p[1] = (struct pollfd){ pv_rpc_fd(b->rpc), pv_rpc_events(b->rpc), 0 };
		if (poll(p, 2, 0) <= 0)
			return;
		if (p[0].revents)
			pv_rpc_work(a->rpc);
		if (p[1].revents && b->rpc)
			pv_rpc_work(b->rpc);
	}
}

/* e under test, its peer is the raw socket *peer. */
static void raw(struct end *e, int *peer)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
	end_open(e, fd[0]);
	*peer = fd[1];
}

static void raw_write(struct end *e, int peer, const char *s, size_t len)
{
	while (len) {
		ssize_t n = send(peer, s, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EPIPE)
			return; /* cut off meanwhile */
		assert_true(n > 0 || errno == EAGAIN);
		if (n > 0)
			s += n, len -= n;
		if (e->rpc && !e->closed)
			pv_rpc_work(e->rpc);
	}
}

static void raw_say(struct end *e, int peer, const char *s)
{
	raw_write(e, peer, s, strlen(s));
}

static const char *raw_hear(int peer)
{
	static char text[8192];
	ssize_t n = read(peer, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	return text;
}

static void raw_close(struct end *e, int peer)
{
	pv_rpc_free(e->rpc);
	close(peer);
}

/* ---- calls ---- */

static void call_is_answered(void **state)
{
	struct outcome o = { 0 };
	struct end a, b;

	(void)state;
	pair_open(&a, &b);
	assert_int_equal(pv_rpc_deadline(a.rpc), -1);
	assert_int_equal(pv_rpc_call(a.rpc, "prepare", json_tokener_parse("{\"guest\":7,\"s\":\"a\\nb\"}"), LONG_MS, end_done, &o), 0);
	assert_in_range(pv_rpc_deadline(a.rpc), 1, LONG_MS);
	run(&a, &b);
	assert_int_equal(b.calls, 1);
	assert_true(b.id > 0);
	assert_string_equal(b.method, "prepare");
	assert_string_equal(b.params, "{\"guest\":7,\"s\":\"a\\nb\"}");
	assert_int_equal(o.times, 1);
	assert_int_equal(o.code, 0);
	assert_string_equal(o.message, "");
	assert_string_equal(o.result, b.params);
	assert_int_equal(pv_rpc_deadline(a.rpc), -1);
	pair_close(&a, &b);
}

static void call_without_params_and_reply_without_result_are_legal(void **state)
{
	struct outcome o = { 0 };
	struct end a, b;

	(void)state;
	pair_open(&a, &b);
	assert_int_equal(pv_rpc_call(a.rpc, "ping", NULL, LONG_MS, end_done, &o), 0);
	run(&a, &b);
	assert_string_equal(b.params, "null");
	assert_string_equal(o.result, "{}");
	pair_close(&a, &b);
}

static void calls_go_both_ways_at_once(void **state)
{
	struct outcome oa = { 0 }, ob = { 0 };
	struct end a, b;

	(void)state;
	pair_open(&a, &b);
	pv_rpc_call(a.rpc, "to_b", json_object_new_int(1), LONG_MS, end_done, &oa);
	pv_rpc_call(b.rpc, "to_a", json_object_new_int(2), LONG_MS, end_done, &ob);
	run(&a, &b);
	assert_string_equal(oa.result, "1");
	assert_string_equal(ob.result, "2");
	assert_string_equal(a.method, "to_a");
	pair_close(&a, &b);
}

static void fail_brings_code_and_message(void **state)
{
	struct outcome o = { 0 };
	struct end a, b;

	(void)state;
	pair_open(&a, &b);
	b.habit = REFUSE;
	pv_rpc_call(a.rpc, "connect", NULL, LONG_MS, end_done, &o);
	run(&a, &b);
	assert_int_equal(o.code, -ENOSPC);
	assert_string_equal(o.message, "no room for connect");
	assert_int_equal(o.times, 1);
	pair_close(&a, &b);
}

static void fail_cuts_a_long_message(void **state)
{
	char message[2000];
	struct outcome o = { 0 };
	struct end a, b;

	(void)state;
	memset(message, 'm', sizeof(message));
	message[sizeof(message) - 1] = 0;
	pair_open(&a, &b);
	b.habit = KEEP;
	pv_rpc_call(a.rpc, "connect", NULL, LONG_MS, end_done, &o);
	run(&a, &b);
	pv_rpc_fail(b.rpc, b.id, -EIO, "%s", message);
	run(&a, &b);
	assert_int_equal(strlen(o.message), 511);
	pair_close(&a, &b);
}

static void answers_may_come_in_any_order(void **state)
{
	struct outcome o[3] = { 0 };
	struct end a, b;
	uint64_t id[3];

	(void)state;
	pair_open(&a, &b);
	b.habit = KEEP;
	for (int i = 0; i < 3; i++) {
		pv_rpc_call(a.rpc, "call", NULL, LONG_MS, end_done, &o[i]);
		run(&a, &b);
		id[i] = b.id;
	}
	for (int i = 2; i >= 0; i--)
		pv_rpc_reply(b.rpc, id[i], json_object_new_int(i));
	run(&a, &b);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(o[i].times, 1);
		assert_int_equal(atoi(o[i].result), i);
	}
	pair_close(&a, &b);
}

static void answer_text_has_no_control_characters(void **state)
{
	struct outcome o = { 0 };
	struct end a;
	int peer;

	(void)state;
	raw(&a, &peer);
	pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o);
	raw_say(&a, peer, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-5,\"message\":\"a\\u001b[2J\\n\\u007fb\"}}\n");
	assert_int_equal(o.code, -5);
	assert_string_equal(o.message, "a?[2J??b");
	raw_close(&a, peer);
}

static void answers_that_nobody_waits_for_are_ignored(void **state)
{
	struct outcome o = { 0 };
	struct end a;
	int peer;

	(void)state;
	raw(&a, &peer);
	pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o);
	raw_say(&a, peer, "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n{\"jsonrpc\":\"2.0\",\"id\":-1,\"result\":{}}\n"
			  "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"?\"}}\n{\"jsonrpc\":\"2.0\",\"result\":{}}\n"
			  "{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":{}}\n{\"jsonrpc\":\"2.0\",\"id\":1.0,\"result\":{}}\n"
			  "{\"jsonrpc\":\"2.0\",\"id\":18446744073709551617,\"result\":{}}\n");
	assert_int_equal(o.times, 0);
	assert_int_equal(a.closed, 0);
	raw_say(&a, peer, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n");
	assert_int_equal(o.times, 1);
	assert_string_equal(o.result, "null");
	raw_close(&a, peer);
}

static void notification_is_a_call_whose_reply_is_dropped(void **state)
{
	struct end a;
	int peer;

	(void)state;
	raw(&a, &peer);
	raw_say(&a, peer, "{\"jsonrpc\":\"2.0\",\"method\":\"broken\",\"params\":{\"a\":1}}\n");
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.id, 0);
	pv_rpc_fail(a.rpc, 0, -EIO, "nobody hears this");
	assert_string_equal(raw_hear(peer), "");
	raw_close(&a, peer);
}

/* ---- time ---- */

static void expire_ends_calls_without_an_answer(void **state)
{
	struct outcome late = { 0 }, patient = { 0 };
	struct end a, b;
	uint64_t id;

	(void)state;
	pair_open(&a, &b);
	b.habit = KEEP;
	pv_rpc_call(a.rpc, "patient", NULL, LONG_MS, end_done, &patient);
	pv_rpc_call(a.rpc, "late", NULL, 0, end_done, &late);
	assert_int_equal(pv_rpc_deadline(a.rpc), 0);
	run(&a, &b);
	id = b.id;
	pv_rpc_expire(a.rpc);
	assert_int_equal(late.code, -ETIMEDOUT);
	assert_int_equal(patient.times, 0);
	pv_rpc_reply(b.rpc, id, NULL); /* too late */
	pv_rpc_reply(b.rpc, id - 1, NULL);
	run(&a, &b);
	assert_int_equal(late.times, 1);
	assert_int_equal(patient.times, 1);
	assert_int_equal(patient.code, 0);
	assert_int_equal(a.closed + b.closed, 0);
	pair_close(&a, &b);
}

static void expire_leaves_calls_made_meanwhile(void **state)
{
	struct outcome o = { 0 };
	struct end a, b;

	(void)state;
	pair_open(&a, &b);
	b.habit = KEEP;
	o.calls = &a;
	pv_rpc_call(a.rpc, "first", NULL, 0, end_done, &o);
	pv_rpc_expire(a.rpc);
	assert_int_equal(o.times, 1);
	pv_rpc_expire(a.rpc);
	assert_int_equal(o.times, 2);
	pair_close(&a, &b);
}

/* ---- the end ---- */

static void closed_comes_after_all_calls_were_answered(void **state)
{
	struct outcome o = { 0 };
	struct end a, b;

	(void)state;
	pair_open(&a, &b);
	b.habit = KEEP;
	for (int i = 0; i < 5; i++)
		pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o);
	pv_rpc_free(b.rpc);
	b.rpc = NULL;
	run(&a, &b);
	assert_int_equal(o.times, 5);
	assert_int_equal(o.code, -ECONNRESET);
	assert_int_equal(a.closed, 1);
	pv_rpc_work(a.rpc); /* told once */
	assert_int_equal(a.closed, 1);
	assert_int_equal(pv_rpc_call(a.rpc, "x", json_object_new_object(), LONG_MS, end_done, &o), -ECONNRESET);
	assert_int_equal(o.times, 5);
	pair_close(&a, &b);
}

static void closed_has_no_error_when_the_peer_just_leaves(void **state)
{
	struct end a;
	int peer;

	(void)state;
	raw(&a, &peer);
	close(peer);
	pv_rpc_work(a.rpc);
	assert_int_equal(a.closed, 1);
	assert_int_equal(a.closed_err, 0);
	pv_rpc_free(a.rpc);
}

static void half_closed_peer_still_gets_its_answer(void **state)
{
	struct end a;
	int peer;

	(void)state;
	raw(&a, &peer);
	assert_int_equal(write(peer, "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"m\"}\n", 39), 39);
	shutdown(peer, SHUT_WR);
	pv_rpc_work(a.rpc);
	assert_int_equal(a.closed, 1);
	assert_string_equal(raw_hear(peer), "{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{}}\n");
	raw_close(&a, peer);
}

static void free_is_legal_in_every_callback(void **state)
{
	struct outcome o;
	struct end a, b;
	int peer;

	(void)state;
	raw(&a, &peer); /* in call, with more lines behind it */
	a.habit = FREE;
	raw_say(&a, peer, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"m\"}\n");
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.closed, 0);
	raw_close(&a, peer);

	pair_open(&a, &b); /* in done, with another call waiting */
	o = (struct outcome){ .frees = &a };
	pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o);
	pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o);
	run(&a, &b);
	assert_int_equal(o.times, 1);
	pair_close(&a, &b);

	pair_open(&a, &b); /* in done by expiry */
	o = (struct outcome){ .frees = &a };
	pv_rpc_call(a.rpc, "x", NULL, 0, end_done, &o);
	pv_rpc_call(a.rpc, "x", NULL, 0, end_done, &o);
	pv_rpc_expire(a.rpc);
	assert_int_equal(o.times, 1);
	pair_close(&a, &b);

	pair_open(&a, &b); /* in done by the end of the connection: closed does not come */
	o = (struct outcome){ .frees = &a };
	pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o);
	pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o);
	pv_rpc_free(b.rpc);
	b.rpc = NULL;
	run(&a, &b);
	assert_int_equal(o.times, 1);
	assert_int_equal(a.closed, 0);

	pair_open(&a, &b); /* in closed */
	a.free_on_close = true;
	pv_rpc_free(b.rpc);
	b.rpc = NULL;
	run(&a, &b);
	assert_int_equal(a.closed, 1);
	pv_rpc_free(NULL);
}

/* ---- bounds ---- */

static void line_may_come_byte_by_byte(void **state)
{
	static const char line[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"slow\",\"params\":[1,2]}\n";
	struct end a;
	int peer;

	(void)state;
	raw(&a, &peer);
	for (size_t i = 0; line[i]; i++) {
		assert_int_equal(a.calls, 0);
		raw_write(&a, peer, &line[i], 1);
	}
	assert_int_equal(a.calls, 1);
	assert_string_equal(a.params, "[1,2]");
	raw_close(&a, peer);
}

static void many_lines_may_come_at_once(void **state)
{
	struct end a;
	char *all = calloc(1, 1 << 20), *at = all;
	int peer;

	(void)state;
	raw(&a, &peer);
	for (int i = 1; i <= 5000; i++)
		at += sprintf(at, "{\"jsonrpc\":\"2.0\",\"method\":\"m%d\"}\n", i);
	raw_say(&a, peer, all);
	pv_rpc_work(a.rpc);
	assert_int_equal(a.calls, 5000);
	assert_string_equal(a.method, "m5000");
	free(all);
	raw_close(&a, peer);
}

/* A call whose line has exactly len bytes without its newline. */
static char *call_of(size_t len)
{
	static const char head[] = "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[\"", tail[] = "\"]}\n";
	char *line = malloc(len + 2);

	memset(line, 'x', len + 1);
	memcpy(line, head, strlen(head));
	memcpy(line + len + 1 - strlen(tail), tail, strlen(tail) + 1);
	return line;
}

static void line_has_a_limit(void **state)
{
	char *fits = call_of(PV_RPC_LINE_MAX), *longer = call_of(PV_RPC_LINE_MAX + 1);
	struct end a;
	int peer;

	(void)state;
	raw(&a, &peer);
	raw_say(&a, peer, fits);
	raw_say(&a, peer, fits);
	assert_int_equal(a.calls, 2);
	raw_say(&a, peer, longer);
	assert_int_equal(a.calls, 2);
	assert_int_equal(a.closed, 1);
	assert_int_equal(a.closed_err, -EPROTO);
	raw_close(&a, peer);

	raw(&a, &peer); /* ... whether it ends or not */
	longer[PV_RPC_LINE_MAX + 1] = 'x';
	raw_write(&a, peer, longer, PV_RPC_LINE_MAX + 1);
	assert_int_equal(a.closed, 1);
	assert_non_null(strstr(raw_hear(peer), "too long"));
	raw_close(&a, peer);
	free(fits);
	free(longer);
}

static void nested_call(char *line, unsigned depth)
{
	line += sprintf(line, "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":");
	for (unsigned i = 0; i < depth; i++)
		*line++ = '[';
	for (unsigned i = 0; i < depth; i++)
		*line++ = ']';
	strcpy(line, "}\n");
}

static void nesting_has_a_limit(void **state)
{
	char line[512];
	struct end a;
	int peer;

	(void)state;
	raw(&a, &peer);
	nested_call(line, 8);
	raw_say(&a, peer, line);
	assert_int_equal(a.calls, 1);
	nested_call(line, PV_RPC_DEPTH_MAX);
	raw_say(&a, peer, line);
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.closed_err, -EPROTO);
	raw_close(&a, peer);
}

static void objects_in_a_line_have_a_limit(void **state)
{
	char *line = malloc(PV_RPC_LINE_MAX), *at = line;
	struct end a;
	int peer;

	(void)state;
	raw(&a, &peer);
	at += sprintf(at, "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[{}");
	for (int i = 0; i < 1 << 16; i++)
		at += sprintf(at, ",{}");
	strcpy(at, "]}\n");
	raw_say(&a, peer, line);
	assert_int_equal(a.calls, 0);
	assert_int_equal(a.closed_err, -EPROTO);
	free(line);
	raw_close(&a, peer);
}

static void outstanding_calls_have_a_limit(void **state)
{
	struct outcome o = { 0 };
	struct end a, b;

	(void)state;
	pair_open(&a, &b);
	b.habit = KEEP;
	for (int i = 0; i < PV_RPC_CALLS_MAX; i++) {
		assert_int_equal(pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o), 0);
		run(&a, &b);
	}
	assert_int_equal(pv_rpc_call(a.rpc, "x", json_object_new_object(), LONG_MS, end_done, &o), -EBUSY);
	pv_rpc_reply(b.rpc, b.id, NULL);
	run(&a, &b);
	assert_int_equal(o.times, 1);
	assert_int_equal(pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o), 0);
	run(&a, &b);
	assert_int_equal(b.calls, PV_RPC_CALLS_MAX + 1);
	assert_int_equal(b.closed, 0);
	pair_close(&a, &b);
}

static void peer_with_too_many_calls_is_cut_off(void **state)
{
	char line[80];
	struct end a;
	int peer;

	(void)state;
	raw(&a, &peer);
	a.habit = KEEP;
	for (int i = 1; i <= PV_RPC_CALLS_MAX; i++) {
		sprintf(line, "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"m\"}\n", i);
		raw_say(&a, peer, line);
	}
	assert_int_equal(a.closed, 0);
	raw_say(&a, peer, "{\"jsonrpc\":\"2.0\",\"id\":7777,\"method\":\"m\"}\n");
	assert_int_equal(a.calls, PV_RPC_CALLS_MAX);
	assert_int_equal(a.closed_err, -EPROTO);
	raw_close(&a, peer);
}

static void peer_that_does_not_read_is_cut_off(void **state)
{
	struct outcome o = { 0 };
	struct end a;
	int peer, i;

	(void)state;
	raw(&a, &peer);
	a.habit = FLOOD;
	pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o);
	for (i = 0; i < 20 && !a.closed; i++)
		raw_say(&a, peer, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}\n");
	assert_in_range(i, 4, 8);
	assert_int_equal(a.closed_err, -ENOBUFS);
	assert_int_equal(o.code, -ECONNRESET);
	raw_close(&a, peer);
}

/* Outside of pv_rpc_work the failure is only noted: the caller's poll wakes, and closed comes from there. */
static void overflow_outside_of_work_is_told_by_work(void **state)
{
	struct outcome o = { 0 };
	struct end a;
	int peer;

	(void)state;
	raw(&a, &peer);
	for (int i = 0; i < 1024; i++) {
		char *text = calloc(1, 10000);

		memset(text, 'y', 9999);
		if (pv_rpc_call(a.rpc, "x", json_object_new_string(text), LONG_MS, end_done, &o) < 0)
			i = 1024;
		free(text);
	}
	assert_int_equal(a.closed, 0);
	assert_int_equal(o.times, 0);
	assert_int_equal(poll(&(struct pollfd){ .fd = pv_rpc_fd(a.rpc), .events = POLLIN }, 1, 0), 1);
	pv_rpc_work(a.rpc);
	assert_int_equal(a.closed_err, -ENOBUFS);
	assert_true(o.times > 400);
	raw_close(&a, peer);
}

static void messages_that_are_too_long_are_not_sent(void **state)
{
	struct outcome o = { 0 };
	char *big = calloc(1, PV_RPC_LINE_MAX + 1);
	struct end a, b;

	(void)state;
	memset(big, 'z', PV_RPC_LINE_MAX);
	pair_open(&a, &b);
	b.habit = KEEP;
	assert_int_equal(pv_rpc_call(a.rpc, "x", json_object_new_string(big), LONG_MS, end_done, &o), -EMSGSIZE);
	assert_int_equal(pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o), 0);
	run(&a, &b);
	pv_rpc_reply(b.rpc, b.id, json_object_new_string(big));
	run(&a, &b);
	assert_int_equal(o.times, 1);
	assert_int_equal(o.code, -EMSGSIZE);
	assert_int_equal(a.closed + b.closed, 0);
	free(big);
	pair_close(&a, &b);
}

/* A slow reader gets everything, in order, whatever the buffer has to do meanwhile. */
static void output_arrives_whole_at_a_slow_reader(void **state)
{
	struct outcome o = { 0 };
	unsigned long sent = 0, got = 0, lines = 0;
	char chunk[1000], text[5001];
	struct end a;
	int peer;
	ssize_t n;

	(void)state;
	raw(&a, &peer);
	memset(text, 'w', 5000);
	text[5000] = 0;
	for (int i = 0; i < 600; i++) {
		assert_int_equal(pv_rpc_call(a.rpc, "x", json_object_new_string(text), LONG_MS, end_done, &o), 0);
		sent++;
		if ((n = read(peer, chunk, sizeof(chunk))) > 0)
			for (ssize_t k = 0; k < n; k++)
				lines += chunk[k] == '\n', got += chunk[k] == 'w';
		pv_rpc_work(a.rpc);
	}
	while ((n = read(peer, chunk, sizeof(chunk))) > 0) {
		for (ssize_t k = 0; k < n; k++)
			lines += chunk[k] == '\n', got += chunk[k] == 'w';
		pv_rpc_work(a.rpc);
	}
	assert_int_equal(lines, sent);
	assert_int_equal(got, sent * 5000);
	assert_int_equal(a.closed, 0);
	assert_int_equal(pv_rpc_events(a.rpc), POLLIN);
	raw_close(&a, peer);
}

/* ---- garbage ---- */

static const char *const garbage[] = {
	"", " ", "x", "null", "true", "1", "\"s\"", "[]", "{", "}", "{}", "{\"jsonrpc\":\"2.0\"}", "nul", "-", "\\", "{\"jsonrpc\":\"2.0\",",
	"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}]", /* a batch */
	"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"m\"}", "{\"jsonrpc\":2.0,\"id\":1,\"method\":\"m\"}", "{\"id\":1,\"method\":\"m\"}",
	"{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"m\"}", "{\"jsonrpc\":\"2.0\",\"id\":-1,\"method\":\"m\"}",
	"{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"method\":\"m\"}", "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"m\"}",
	"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"m\"}", "{\"jsonrpc\":\"2.0\",\"id\":1e3,\"method\":\"m\"}",
	"{\"jsonrpc\":\"2.0\",\"id\":99999999999999999999999,\"method\":\"m\"}", "{\"jsonrpc\":\"2.0\",\"id\":[],\"method\":\"m\"}",
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":1}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":null}",
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":[\"m\"]}",
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"error\":{\"code\":-1,\"message\":\"\"}}", "{\"jsonrpc\":\"2.0\",\"id\":1}",
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{}}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":null}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":5}",
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":0,\"message\":\"m\"}}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"m\"}}",
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-99999999999,\"message\":\"m\"}}",
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-1}}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-1,\"message\":7}}",
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":\"-1\",\"message\":\"m\"}}",
	"{\"jsonrpc\":\"2.0\",\"method\":\"m\"} {}", "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}x", "{\"jsonrpc\":\"2.0\",\"method\":\"m\",}",
	"{'jsonrpc':'2.0','method':'m'}", "/* */ {\"jsonrpc\":\"2.0\",\"method\":\"m\"", "{\"jsonrpc\":\"2.0\",\"method\":\"m\xff",
};

static void garbage_cuts_the_peer_off(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		struct outcome o = { 0 };
		struct end a;
		int peer;

		raw(&a, &peer);
		pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o);
		raw_hear(peer);
		raw_say(&a, peer, garbage[i]);
		raw_say(&a, peer, "\n{\"jsonrpc\":\"2.0\",\"method\":\"m\"}\n");
		if (a.calls || a.closed != 1 || a.closed_err != -EPROTO)
			fail_msg("'%s': %d calls, closed %d times with %d", garbage[i], a.calls, a.closed, a.closed_err);
		assert_int_equal(o.code, -ECONNRESET);
		assert_non_null(strstr(raw_hear(peer), "\"id\":null,\"error\""));
		raw_close(&a, peer);
	}
}

static void zero_bytes_cut_the_peer_off(void **state)
{
	struct end a;
	int peer;

	(void)state;
	raw(&a, &peer);
	raw_write(&a, peer, "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}\0\n", 33);
	assert_int_equal(a.calls, 0);
	assert_int_equal(a.closed_err, -EPROTO);
	raw_close(&a, peer);
}

/* Legal messages with a few bytes changed: whatever comes, nothing worse than being cut off. */
static void random_changes_do_no_harm(void **state)
{
	static const char *const seeds[] = {
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"a\":[1,2,{\"b\":\"c\\u0041\"}],\"d\":-1.5e3}}\n",
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"x\":null}}\n",
		"{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-5,\"message\":\"m\"}}\n",
	};
	unsigned seed = 7, survived = 0;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct outcome o = { 0 };
		char line[256];
		size_t len;
		struct end a;
		int peer;

		raw(&a, &peer);
		pv_rpc_call(a.rpc, "x", NULL, LONG_MS, end_done, &o);
		pv_rpc_call(a.rpc, "y", NULL, LONG_MS, end_done, &o);
		strcpy(line, seeds[i % 3]);
		len = strlen(line);
		for (int n = rand_r(&seed) % 4; n > 0; n--)
			line[rand_r(&seed) % len] = rand_r(&seed) % 3 ? "{}[]\",:0n\\ -\n"[rand_r(&seed) % 13] : (char)rand_r(&seed);
		raw_write(&a, peer, line, len);
		survived += !a.closed;
		raw_close(&a, peer);
	}
	assert_in_range(survived, 5000, 19999);
}

struct nested {
	int calls, peer;
	char order[16];
};

static void call_that_works(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	struct nested *n = ctx;

	(void)params;
	n->calls++;
	strcat(n->order, method);
	if (n->calls == 1) /* there is something to read, but the line behind this one comes first */
		assert_int_equal(write(n->peer, "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"c\"}\n", 39), 39);
	pv_rpc_work(rpc);
	pv_rpc_reply(rpc, id, NULL);
}

static void never_closed(void *ctx, struct pv_rpc *rpc, int err)
{
	(void)ctx, (void)rpc, (void)err;
	fail();
}

static void work_in_a_callback_changes_nothing(void **state)
{
	static const struct pv_rpc_ops ops = { call_that_works, never_closed };
	static const char lines[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"b\"}\n";
	struct nested n = { 0 };
	struct pv_rpc *rpc;
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
	n.peer = fd[1];
	assert_int_equal(pv_rpc_new(fd[0], &ops, &n, &rpc), 0);
	assert_int_equal(write(fd[1], lines, strlen(lines)), strlen(lines));
	pv_rpc_work(rpc);
	assert_string_equal(n.order, "abc");
	pv_rpc_free(rpc);
	close(fd[1]);
}

/* ---- sockets ---- */

static char dir[] = "/tmp/test_rpc.XXXXXX", path[64];

static int dir_make(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/s.sock", dir);
	return 0;
}

static int dir_remove(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

static void listen_makes_a_private_socket(void **state)
{
	struct stat st;
	int fd, client;

	(void)state;
	assert_int_equal(pv_rpc_connect(path), -ENOENT);
	fd = pv_rpc_listen(path);
	assert_true(fd >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	client = pv_rpc_connect(path);
	assert_true(client >= 0);
	assert_int_equal(fcntl(client, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(fcntl(client, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(pv_rpc_listen(path), -EADDRINUSE);
	close(client);
	close(fd);
	unlink(path);
}

static void listen_replaces_a_dead_socket(void **state)
{
	int fd = pv_rpc_listen(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd); /* the file stays, as after SIGKILL */
	assert_int_equal(pv_rpc_connect(path), -ECONNREFUSED);
	fd = pv_rpc_listen(path);
	assert_true(fd >= 0);
	close(fd);
	unlink(path);
}

static void listen_removes_no_other_file(void **state)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	(void)state;
	close(fd);
	assert_int_equal(pv_rpc_listen(path), -EADDRINUSE);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
}

static void paths_have_a_limit(void **state)
{
	char longer[200];

	(void)state;
	memset(longer, 'a', sizeof(longer));
	longer[108] = 0;
	assert_int_equal(pv_rpc_connect(longer), -ENAMETOOLONG);
	assert_int_equal(pv_rpc_listen(longer), -ENAMETOOLONG);
	assert_int_equal(pv_rpc_listen("/nonexistent/s.sock"), -ENOENT);
}

/* ---- pv_rpc_ask ---- */

/* A server of one connection and habit, on a thread of its own. */
struct server {
	pthread_t thread;
	int fd;
	enum habit habit;
};

static void *serve(void *arg)
{
	struct server *s = arg;
	struct end e;
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	int fd;

	poll(&p, 1, -1);
	fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	e = (struct end){ .habit = s->habit };
	pv_rpc_new(fd, &end_ops, &e, &e.rpc);
	while (e.rpc && !e.closed) {
		p = (struct pollfd){ .fd = pv_rpc_fd(e.rpc), .events = pv_rpc_events(e.rpc) };
		poll(&p, 1, -1);
		pv_rpc_work(e.rpc);
	}
	pv_rpc_free(e.rpc);
	return NULL;
}

static int ask_server(enum habit habit, int timeout_ms, struct json_object **result, char *why, size_t len)
{
	struct server s = { .habit = habit };
	int ret;

	s.fd = pv_rpc_listen(path);
	assert_true(s.fd >= 0);
	assert_int_equal(pthread_create(&s.thread, NULL, serve, &s), 0);
	ret = pv_rpc_ask(path, "list", json_tokener_parse("{\"a\":1}"), timeout_ms, result, why, len);
	pthread_join(s.thread, NULL);
	close(s.fd);
	unlink(path);
	return ret;
}

static void ask_gives_the_result(void **state)
{
	struct json_object *result;
	char why[200] = "";

	(void)state;
	assert_int_equal(ask_server(ECHO, LONG_MS, &result, why, sizeof(why)), 0);
	assert_string_equal(json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN), "{\"a\":1}");
	json_object_put(result);
}

static void ask_gives_the_error(void **state)
{
	struct json_object *result;
	char why[200] = "";

	(void)state;
	assert_int_equal(ask_server(REFUSE, LONG_MS, &result, why, sizeof(why)), -ENOSPC);
	assert_null(result);
	assert_string_equal(why, "no room for list");
}

static void ask_names_what_went_wrong(void **state)
{
	struct json_object *result;
	char why[200] = "";
	int fd;

	(void)state;
	assert_int_equal(pv_rpc_ask(path, "list", json_object_new_object(), LONG_MS, &result, why, sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, "pviod does not run"));
	assert_non_null(strstr(why, path));

	close(pv_rpc_listen(path));
	assert_int_equal(pv_rpc_ask(path, "list", NULL, LONG_MS, &result, why, sizeof(why)), -ECONNREFUSED);
	assert_non_null(strstr(why, "nobody serves"));
	unlink(path);

	assert_int_equal(ask_server(FREE, LONG_MS, &result, why, sizeof(why)), -ECONNRESET);
	assert_non_null(strstr(why, "closed the connection during list"));

	fd = pv_rpc_listen(path); /* nobody accepts */
	assert_int_equal(pv_rpc_ask(path, "list", NULL, 20, &result, why, sizeof(why)), -ETIMEDOUT);
	assert_non_null(strstr(why, "did not answer list within 20 ms"));
	close(fd);
	unlink(path);
	assert_null(result);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(call_is_answered),
		cmocka_unit_test(call_without_params_and_reply_without_result_are_legal),
		cmocka_unit_test(calls_go_both_ways_at_once),
		cmocka_unit_test(fail_brings_code_and_message),
		cmocka_unit_test(fail_cuts_a_long_message),
		cmocka_unit_test(answers_may_come_in_any_order),
		cmocka_unit_test(answer_text_has_no_control_characters),
		cmocka_unit_test(answers_that_nobody_waits_for_are_ignored),
		cmocka_unit_test(notification_is_a_call_whose_reply_is_dropped),
		cmocka_unit_test(expire_ends_calls_without_an_answer),
		cmocka_unit_test(expire_leaves_calls_made_meanwhile),
		cmocka_unit_test(closed_comes_after_all_calls_were_answered),
		cmocka_unit_test(closed_has_no_error_when_the_peer_just_leaves),
		cmocka_unit_test(half_closed_peer_still_gets_its_answer),
		cmocka_unit_test(free_is_legal_in_every_callback),
		cmocka_unit_test(line_may_come_byte_by_byte),
		cmocka_unit_test(many_lines_may_come_at_once),
		cmocka_unit_test(line_has_a_limit),
		cmocka_unit_test(nesting_has_a_limit),
		cmocka_unit_test(objects_in_a_line_have_a_limit),
		cmocka_unit_test(outstanding_calls_have_a_limit),
		cmocka_unit_test(peer_with_too_many_calls_is_cut_off),
		cmocka_unit_test(peer_that_does_not_read_is_cut_off),
		cmocka_unit_test(overflow_outside_of_work_is_told_by_work),
		cmocka_unit_test(messages_that_are_too_long_are_not_sent),
		cmocka_unit_test(output_arrives_whole_at_a_slow_reader),
		cmocka_unit_test(garbage_cuts_the_peer_off),
		cmocka_unit_test(zero_bytes_cut_the_peer_off),
		cmocka_unit_test(random_changes_do_no_harm),
		cmocka_unit_test(work_in_a_callback_changes_nothing),
		cmocka_unit_test(listen_makes_a_private_socket),
		cmocka_unit_test(listen_replaces_a_dead_socket),
		cmocka_unit_test(listen_removes_no_other_file),
		cmocka_unit_test(paths_have_a_limit),
		cmocka_unit_test(ask_gives_the_result),
		cmocka_unit_test(ask_gives_the_error),
		cmocka_unit_test(ask_names_what_went_wrong),
	};

	return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
