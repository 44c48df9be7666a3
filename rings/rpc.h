/* rpc.h - JSON-RPC 2.0 on a stream: pviod <-> backend, pvio -> pviod. One message a line.
 *
 * Symmetric: either side may call. Bounded: a line of at most PV_RPC_LINE_MAX bytes, nesting of PV_RPC_DEPTH_MAX, at most
 * PV_RPC_CALLS_MAX calls outstanding; a peer that breaks a bound or the grammar is cut off. Any event loop can drive it:
 * poll pv_rpc_fd for pv_rpc_events, then pv_rpc_work; call pv_rpc_expire at pv_rpc_deadline.
 * Internal to pvio's programs (its types are json-c's); not installed. Thread rule: one connection, one thread.
 */
#ifndef PV_RPC_H
#define PV_RPC_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

enum { PV_RPC_LINE_MAX = 1 << 20, PV_RPC_DEPTH_MAX = 16, PV_RPC_CALLS_MAX = 1024 };

/* Error codes of JSON-RPC, and ours: -errno of the failed operation goes into "code" as it is (-1 .. -4095). */
enum { PV_RPC_PARSE = -32700, PV_RPC_INVALID = -32600, PV_RPC_NO_METHOD = -32601, PV_RPC_BAD_PARAMS = -32602 };

struct pv_rpc;

struct pv_rpc_ops {
	/* A call from the peer. Answer it, now or later, with exactly one pv_rpc_reply or pv_rpc_fail for this id.
	 * params is borrowed, may be NULL. */
	void (*call)(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params);
	/* The connection ended: err is 0 (peer closed), -EPROTO, or another -errno. All outstanding calls were answered
	 * with -ECONNRESET before. The callee may pv_rpc_free here, and nothing of rpc is touched afterwards. */
	void (*closed)(void *ctx, struct pv_rpc *rpc, int err);
};

/* Take over a connected, non-blocking stream socket. Returns 0 or -errno. */
int pv_rpc_new(int fd, const struct pv_rpc_ops *ops, void *ctx, struct pv_rpc **out);
void pv_rpc_free(struct pv_rpc *rpc); /* closes fd; `closed` is not called; outstanding calls are forgotten. NULL is fine. */

int pv_rpc_fd(const struct pv_rpc *rpc);
short pv_rpc_events(const struct pv_rpc *rpc); /* POLLIN and, while something waits to be sent, POLLOUT */
void pv_rpc_work(struct pv_rpc *rpc); /* read, dispatch, write what is possible now; may call closed */

/* The outcome of a call: code 0 and its result, or an error code and message. result and message are borrowed. */
typedef void pv_rpc_done(void *arg, int code, const char *message, struct json_object *result);

/* Call the peer. Takes over params (may be NULL). done comes exactly once, unless pv_rpc_free came first. A call without an
 * answer in timeout_ms ends with -ETIMEDOUT, and the connection goes on. Returns 0; -EBUSY: too many outstanding. */
int pv_rpc_call(struct pv_rpc *rpc, const char *method, struct json_object *params, int timeout_ms, pv_rpc_done *done, void *arg);

int64_t pv_rpc_now_ms(void); /* the clock of all deadlines here: monotonic */
int pv_rpc_deadline(const struct pv_rpc *rpc); /* ms until the next call times out, -1: none */
void pv_rpc_expire(struct pv_rpc *rpc);

void pv_rpc_reply(struct pv_rpc *rpc, uint64_t id, struct json_object *result); /* takes over result, NULL: {} */
void pv_rpc_fail(struct pv_rpc *rpc, uint64_t id, int code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Sockets: connect to or listen on a Unix stream path; non-blocking, close-on-exec. Return the descriptor or -errno.
 * listen: replaces a dead socket file, -EADDRINUSE if somebody serves it; mode 0600. */
int pv_rpc_connect(const char *path);
int pv_rpc_listen(const char *path);

/* For a command: connect, one call, wait. Returns 0 with *result (owned by the caller), or the error code with `why` filled. */
int pv_rpc_ask(const char *path, const char *method, struct json_object *params, int timeout_ms,
	       struct json_object **result, char *why, size_t len);

#endif
