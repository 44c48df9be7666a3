/* rpc.c - see rpc.h.
 *
 * Theory of operation. Input gathers in a buffer until a newline; each line is parsed once, and what was searched for a newline
 * is not searched again. Output gathers in a buffer and is sent at once when we are not inside pv_rpc_work, which sends at its
 * end. A failure is only noted where it happens (rpc->err) and told by pv_rpc_work, so that no function but pv_rpc_work and
 * pv_rpc_expire ever calls back. Callbacks may free the connection: the memory then stays until the outermost of these returns.
 */
#include "rpc.h"
#include "text.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	BUFFER_START = 4096, /* first size of a buffer, doubled as needed */
	LINE_ROOM = PV_RPC_LINE_MAX + 1, /* with its newline */
	TURN_MAX = 256 << 10, /* bytes read a pv_rpc_work: one peer shall not keep the others waiting */
	OUT_MAX = 4 << 20, /* bytes that wait for a peer that does not read; beyond, it is cut off */
	NESTS_MAX = 1 << 16, /* objects and arrays in a line: json-c needs 700 bytes for each "{}" */
	MESSAGE_MAX = 512, /* bytes of an error's text */
};

struct call { /* ours, waiting for its answer; owned by the connection */
	struct call *next;
	uint64_t id;
	int64_t deadline; /* ms, monotonic */
	pv_rpc_done *done;
	void *arg;
};

/* Owner: whoever called pv_rpc_new; one thread. Lifetime: until pv_rpc_free, or the end of the callback's caller if that is later. */
struct pv_rpc {
	int fd;
	int busy; /* how many of pv_rpc_work and pv_rpc_expire are now on the stack */
	bool freed; /* pv_rpc_free came while busy */
	bool failed; /* err holds: tell `closed` at the next pv_rpc_work */
	bool ended; /* `closed` was called */
	int err;
	const struct pv_rpc_ops *ops;
	void *ctx;
	struct json_tokener *tokener;
	char *in;
	size_t in_len, in_size, in_seen; /* bytes held, room, bytes without a newline for sure */
	char *out;
	size_t out_at, out_len, out_size; /* first byte to send, end, room */
	struct call *calls; /* by id */
	unsigned nr_calls, nr_owed; /* ours without an answer, the peer's without an answer */
	uint64_t last_id;
};

int64_t pv_rpc_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void fail_with(struct pv_rpc *rpc, int err)
{
	if (rpc->failed)
		return;
	rpc->failed = true;
	rpc->err = err;
	shutdown(rpc->fd, SHUT_RD); /* wakes the caller's poll */
}

/* ---- life ---- */

int pv_rpc_new(int fd, const struct pv_rpc_ops *ops, void *ctx, struct pv_rpc **out)
{
	struct pv_rpc *rpc = calloc(1, sizeof(*rpc));

	*out = NULL;
	if (!rpc)
		return -ENOMEM;
	rpc->tokener = json_tokener_new_ex(PV_RPC_DEPTH_MAX);
	rpc->in = malloc(BUFFER_START);
	if (!rpc->tokener || !rpc->in) {
		if (rpc->tokener)
			json_tokener_free(rpc->tokener);
		free(rpc->in);
		free(rpc);
		return -ENOMEM;
	}
	json_tokener_set_flags(rpc->tokener, JSON_TOKENER_STRICT); /* strings need not be UTF-8: paths are bytes */
	rpc->in_size = BUFFER_START;
	rpc->fd = fd;
	rpc->ops = ops;
	rpc->ctx = ctx;
	*out = rpc;
	return 0;
}

static void release(struct pv_rpc *rpc)
{
	json_tokener_free(rpc->tokener);
	free(rpc->in);
	free(rpc->out);
	free(rpc);
}

void pv_rpc_free(struct pv_rpc *rpc)
{
	if (!rpc || rpc->freed)
		return;
	rpc->freed = true;
	close(rpc->fd);
	rpc->fd = -1;
	while (rpc->calls) {
		struct call *c = rpc->calls;

		rpc->calls = c->next;
		free(c);
	}
	rpc->nr_calls = 0;
	if (!rpc->busy)
		release(rpc);
}

static void leave(struct pv_rpc *rpc)
{
	if (--rpc->busy == 0 && rpc->freed)
		release(rpc);
}

int pv_rpc_fd(const struct pv_rpc *rpc)
{
	return rpc->fd;
}

short pv_rpc_events(const struct pv_rpc *rpc)
{
	return POLLIN | (rpc->out_at < rpc->out_len ? POLLOUT : 0);
}

/* ---- sending ---- */

static void flush(struct pv_rpc *rpc)
{
	while (rpc->out_at < rpc->out_len && !(rpc->failed && rpc->err)) { /* a peer that only stopped writing may still read */
		ssize_t n = send(rpc->fd, rpc->out + rpc->out_at, rpc->out_len - rpc->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0 && errno == EPIPE) { /* what the peer sent before it left is still read, and then its end */
			rpc->out_at = rpc->out_len;
			break;
		}
		if (n < 0) {
			fail_with(rpc, -errno);
			return;
		}
		rpc->out_at += n;
	}
	if (rpc->out_at == rpc->out_len)
		rpc->out_at = rpc->out_len = 0;
}

static int out_reserve(struct pv_rpc *rpc, size_t len)
{
	size_t size = rpc->out_size ? rpc->out_size : BUFFER_START, held = rpc->out_len - rpc->out_at;
	char *grown;

	if (held + len > OUT_MAX)
		return -ENOBUFS;
	if (rpc->out_len + len <= rpc->out_size)
		return 0;
	if (rpc->out_at && rpc->out_at >= held) { /* a byte is moved at most once for each byte sent */
		memmove(rpc->out, rpc->out + rpc->out_at, held);
		rpc->out_len = held;
		rpc->out_at = 0;
	}
	while (size < rpc->out_len + len)
		size *= 2;
	if (size == rpc->out_size)
		return 0;
	grown = realloc(rpc->out, size);
	if (!grown)
		return -ENOMEM;
	rpc->out = grown;
	rpc->out_size = size;
	return 0;
}

/* Queue one message and let go of it. Returns 0; -EMSGSIZE: longer than a line may be, nothing was queued. */
static int send_message(struct pv_rpc *rpc, struct json_object *m)
{
	size_t len = 0;
	const char *text = json_object_to_json_string_length(m, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	int ret = text ? 0 : -ENOMEM;

	if (!ret && len > PV_RPC_LINE_MAX) {
		json_object_put(m);
		return -EMSGSIZE;
	}
	if (!ret && !rpc->failed && !rpc->freed)
		ret = out_reserve(rpc, len + 1);
	if (!ret && !rpc->failed && !rpc->freed) {
		memcpy(rpc->out + rpc->out_len, text, len);
		rpc->out[rpc->out_len + len] = '\n';
		rpc->out_len += len + 1;
		if (!rpc->busy)
			flush(rpc);
	}
	json_object_put(m);
	if (ret < 0 && !rpc->freed)
		fail_with(rpc, ret);
	return 0;
}

static struct json_object *envelope(struct json_object *id)
{
	struct json_object *m = json_object_new_object();

	json_object_object_add(m, "jsonrpc", json_object_new_string("2.0"));
	json_object_object_add(m, "id", id);
	return m;
}

static void send_error(struct pv_rpc *rpc, struct json_object *id, int code, const char *message)
{
	struct json_object *m = envelope(id), *e = json_object_new_object();

	json_object_object_add(e, "code", json_object_new_int(code));
	json_object_object_add(e, "message", json_object_new_string(message));
	json_object_object_add(m, "error", e);
	send_message(rpc, m);
}

void pv_rpc_reply(struct pv_rpc *rpc, uint64_t id, struct json_object *result)
{
	struct json_object *m;

	if (id == 0) { /* a notification: nobody waits */
		json_object_put(result);
		return;
	}
	m = envelope(json_object_new_int64(id));
	json_object_object_add(m, "result", result ? result : json_object_new_object());
	if (send_message(rpc, m) == -EMSGSIZE)
		send_error(rpc, json_object_new_int64(id), -EMSGSIZE, "the answer is longer than a message may be");
	rpc->nr_owed -= rpc->nr_owed > 0;
}

void pv_rpc_fail(struct pv_rpc *rpc, uint64_t id, int code, const char *fmt, ...)
{
	char message[MESSAGE_MAX];
	va_list ap;

	if (id == 0)
		return;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	send_error(rpc, json_object_new_int64(id), code, message);
	rpc->nr_owed -= rpc->nr_owed > 0;
}

/* ---- calling ---- */

int pv_rpc_call(struct pv_rpc *rpc, const char *method, struct json_object *params, int timeout_ms, pv_rpc_done *done, void *arg)
{
	struct call *c = NULL, **at;
	struct json_object *m;
	int ret = rpc->failed || rpc->freed || rpc->ended ? -ECONNRESET : rpc->nr_calls >= PV_RPC_CALLS_MAX ? -EBUSY : 0;

	if (!ret && !(c = malloc(sizeof(*c))))
		ret = -ENOMEM;
	if (ret) {
		json_object_put(params);
		return ret;
	}
	*c = (struct call){ .id = ++rpc->last_id, .deadline = pv_rpc_now_ms() + timeout_ms, .done = done, .arg = arg };
	m = envelope(json_object_new_int64(c->id));
	json_object_object_add(m, "method", json_object_new_string(method));
	if (params)
		json_object_object_add(m, "params", params);
	ret = send_message(rpc, m);
	if (ret < 0) {
		free(c);
		return ret;
	}
	for (at = &rpc->calls; *at; at = &(*at)->next)
		;
	*at = c;
	rpc->nr_calls++;
	return 0;
}

/* Take the call with this id off the list; NULL: there is none (it timed out, or the peer made the id up). */
static struct call *call_take(struct pv_rpc *rpc, uint64_t id)
{
	for (struct call **at = &rpc->calls; *at; at = &(*at)->next) {
		struct call *c = *at;

		if (c->id != id)
			continue;
		*at = c->next;
		rpc->nr_calls--;
		return c;
	}
	return NULL;
}

static void call_end(struct call *c, int code, const char *message, struct json_object *result)
{
	pv_rpc_done *done = c->done;
	void *arg = c->arg;

	free(c);
	done(arg, code, message, result);
}

int pv_rpc_deadline(const struct pv_rpc *rpc)
{
	int64_t first = INT64_MAX, now = pv_rpc_now_ms();

	for (struct call *c = rpc->calls; c; c = c->next)
		if (c->deadline < first)
			first = c->deadline;
	return first == INT64_MAX ? -1 : first <= now ? 0 : first - now > INT_MAX ? INT_MAX : (int)(first - now);
}

void pv_rpc_expire(struct pv_rpc *rpc)
{
	uint64_t last = rpc->last_id; /* calls made by callbacks come later than that */
	int64_t now = pv_rpc_now_ms();
	struct call *c;

	rpc->busy++;
	do {
		for (c = rpc->calls; c && (c->deadline > now || c->id > last); c = c->next)
			;
		if (c)
			call_end(call_take(rpc, c->id), -ETIMEDOUT, "no answer in time", NULL);
	} while (c);
	if (rpc->busy == 1 && !rpc->freed)
		flush(rpc);
	leave(rpc);
}

/* ---- receiving ---- */

/* Tell the peer what was wrong, as far as that can still be sent, and cut it off. */
static void cut_off(struct pv_rpc *rpc, int code, const char *message)
{
	send_error(rpc, NULL, code, message);
	flush(rpc);
	fail_with(rpc, -EPROTO);
}

static void take_call(struct pv_rpc *rpc, struct json_object *m, const char *method)
{
	struct json_object *params = NULL, *id_object;
	uint64_t id = 0;

	if (json_object_object_get_ex(m, "id", &id_object)) {
		int64_t n = json_object_get_type(id_object) == json_type_int ? json_object_get_int64(id_object) : 0;

		if (n <= 0 || n == INT64_MAX) {
			cut_off(rpc, PV_RPC_INVALID, "id must be a positive integer");
			return;
		}
		id = n;
		if (rpc->nr_owed >= PV_RPC_CALLS_MAX) {
			cut_off(rpc, PV_RPC_INVALID, "too many calls without an answer");
			return;
		}
		rpc->nr_owed++;
	}
	json_object_object_get_ex(m, "params", &params);
	rpc->ops->call(rpc->ctx, rpc, id, method, params);
}

static void take_answer(struct pv_rpc *rpc, struct json_object *m)
{
	struct json_object *id = NULL, *result = NULL, *error = NULL, *code = NULL, *message = NULL;
	bool ok = json_object_object_get_ex(m, "result", &result), bad = json_object_object_get_ex(m, "error", &error);
	char text[MESSAGE_MAX] = "";
	struct call *c;
	int64_t n = 0;

	json_object_object_get_ex(m, "id", &id);
	if (bad) {
		json_object_object_get_ex(error, "code", &code);
		json_object_object_get_ex(error, "message", &message);
		n = json_object_get_type(code) == json_type_int ? json_object_get_int64(code) : 0;
	}
	if (ok == bad || (bad && (n >= 0 || n < INT_MIN || json_object_get_type(message) != json_type_string))) {
		cut_off(rpc, PV_RPC_INVALID, "neither a call nor an answer");
		return;
	}
	if (json_object_get_type(id) != json_type_int || !(c = call_take(rpc, json_object_get_int64(id))))
		return; /* late, or to nothing that we asked */
	if (bad) {
		snprintf(text, sizeof(text), "%s", json_object_get_string(message));
		pv_text_clean(text); /* it goes to people's terminals */
	}
	call_end(c, (int)n, text, result);
}

static void take_message(struct pv_rpc *rpc, struct json_object *m)
{
	struct json_object *version = NULL, *method;

	if (json_object_get_type(m) != json_type_object) { /* batches are arrays: refused */
		cut_off(rpc, PV_RPC_INVALID, "a message must be one object");
		return;
	}
	json_object_object_get_ex(m, "jsonrpc", &version);
	if (json_object_get_type(version) != json_type_string || strcmp(json_object_get_string(version), "2.0")) {
		cut_off(rpc, PV_RPC_INVALID, "jsonrpc must be \"2.0\"");
		return;
	}
	if (!json_object_object_get_ex(m, "method", &method))
		take_answer(rpc, m);
	else if (json_object_get_type(method) == json_type_string)
		take_call(rpc, m, json_object_get_string(method));
	else
		cut_off(rpc, PV_RPC_INVALID, "method must be a string");
}

static bool too_many_nests(const char *line, size_t len)
{
	unsigned n = 0;

	for (size_t i = 0; i < len; i++)
		n += line[i] == '{' || line[i] == '[';
	return n > NESTS_MAX;
}

static void take_line(struct pv_rpc *rpc, const char *line, size_t len)
{
	struct json_object *m;

	if (too_many_nests(line, len)) {
		cut_off(rpc, PV_RPC_INVALID, "too many objects and arrays");
		return;
	}
	json_tokener_reset(rpc->tokener);
	m = json_tokener_parse_ex(rpc->tokener, line, (int)len);
	if (json_tokener_get_error(rpc->tokener) != json_tokener_success || json_tokener_get_parse_end(rpc->tokener) != len)
		cut_off(rpc, PV_RPC_PARSE, "not JSON, or nested too deep");
	else
		take_message(rpc, m);
	json_object_put(m);
}

/* Take the whole lines that are held, and keep the rest for later. */
static void take_lines(struct pv_rpc *rpc)
{
	size_t begin = 0;
	const char *newline;

	while (!rpc->failed && !rpc->freed && (newline = memchr(rpc->in + rpc->in_seen, '\n', rpc->in_len - rpc->in_seen))) {
		size_t end = newline - rpc->in;

		rpc->in_seen = end + 1;
		take_line(rpc, rpc->in + begin, end - begin);
		begin = end + 1;
	}
	memmove(rpc->in, rpc->in + begin, rpc->in_len - begin); /* only what came after the last newline, hence in the last read */
	rpc->in_len -= begin;
	rpc->in_seen = rpc->in_len;
}

static int in_reserve(struct pv_rpc *rpc)
{
	size_t size = rpc->in_size * 2 < LINE_ROOM ? rpc->in_size * 2 : LINE_ROOM;
	char *grown;

	if (rpc->in_len < rpc->in_size)
		return 0;
	if (rpc->in_size == LINE_ROOM)
		return -EPROTO;
	grown = realloc(rpc->in, size);
	if (!grown)
		return -ENOMEM;
	rpc->in = grown;
	rpc->in_size = size;
	return 0;
}

/* Read and take lines until nothing more is there, a turn's worth is done, or the connection fails or is freed. */
static void receive(struct pv_rpc *rpc)
{
	size_t turn = 0;

	while (turn < TURN_MAX && !rpc->failed && !rpc->freed) {
		int ret = in_reserve(rpc);
		ssize_t n;

		if (ret < 0) {
			if (ret == -EPROTO)
				cut_off(rpc, PV_RPC_INVALID, "message too long");
			fail_with(rpc, ret);
			return;
		}
		n = read(rpc->fd, rpc->in + rpc->in_len, rpc->in_size - rpc->in_len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0) {
			fail_with(rpc, n < 0 ? -errno : 0);
			return;
		}
		rpc->in_len += n;
		turn += n;
		take_lines(rpc);
	}
}

static void tell_closed(struct pv_rpc *rpc)
{
	rpc->ended = true;
	while (rpc->calls && !rpc->freed) {
		struct call *c = call_take(rpc, rpc->calls->id);

		call_end(c, -ECONNRESET, "the connection ended", NULL);
	}
	if (!rpc->freed)
		rpc->ops->closed(rpc->ctx, rpc, rpc->err);
}

void pv_rpc_work(struct pv_rpc *rpc)
{
	if (rpc->busy) /* from a callback: the one below us on the stack goes on with it */
		return;
	rpc->busy++;
	receive(rpc);
	if (!rpc->freed)
		flush(rpc);
	if (rpc->failed && !rpc->ended && !rpc->freed)
		tell_closed(rpc);
	leave(rpc);
}
